//! Who a session is with: a name and a device number.

use std::{fmt, num::NonZeroU8};

use uuid::Uuid;

/// A device number, 1 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(NonZeroU8);

/// A device number outside 1..=127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("device id {0} is not in 1..=127")]
pub struct InvalidDeviceId(pub u32);

impl DeviceId {
    /// The largest device number.
    pub const MAX: u8 = 127;

    /// Checks the range.
    ///
    /// # Errors
    ///
    /// [`InvalidDeviceId`] outside 1..=127.
    pub fn new(id: u32) -> Result<Self, InvalidDeviceId> {
        u8::try_from(id)
            .ok()
            .filter(|id| *id <= Self::MAX)
            .and_then(NonZeroU8::new)
            .map(Self)
            .ok_or(InvalidDeviceId(id))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(id: u32) -> Result<Self, InvalidDeviceId> {
        Self::new(id)
    }
}

/// The two kinds of service id, and the byte each has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceIdKind {
    /// Account identity.
    Aci,
    /// Phone-number identity (unused by Wardline, understood for compatibility).
    Pni,
}

impl ServiceIdKind {
    fn byte(self) -> u8 {
        match self {
            Self::Aci => 0,
            Self::Pni => 1,
        }
    }
}

/// An address name that is a UUID, possibly with the `PNI:` prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// Which namespace the UUID is of.
    pub kind: ServiceIdKind,
    /// The UUID.
    pub uuid: Uuid,
}

impl ServiceId {
    /// Length of [`Self::fixed_width`].
    pub const FIXED_WIDTH_LEN: usize = 17;

    /// Reads a hyphenated 36-character UUID (either case), optionally prefixed with `PNI:`.
    /// `None` for any other string: such names are still fine as addresses.
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, text) = match name.strip_prefix("PNI:") {
            Some(rest) => (ServiceIdKind::Pni, rest),
            None => (ServiceIdKind::Aci, name),
        };
        if text.len() != 36 {
            return None; // `Uuid` would accept braces, URNs and bare hex as well
        }
        Uuid::try_parse(text).ok().map(|uuid| Self { kind, uuid })
    }

    /// Reads the fixed-width form.
    pub fn from_fixed_width(bytes: &[u8; Self::FIXED_WIDTH_LEN]) -> Option<Self> {
        let [kind, uuid @ ..] = bytes;
        let kind = match kind {
            0 => ServiceIdKind::Aci,
            1 => ServiceIdKind::Pni,
            _ => return None,
        };
        Some(Self {
            kind,
            uuid: Uuid::from_bytes(*uuid),
        })
    }

    /// Kind byte, then the 16 bytes of the UUID.
    pub fn fixed_width(&self) -> [u8; Self::FIXED_WIDTH_LEN] {
        let mut bytes = [self.kind.byte(); Self::FIXED_WIDTH_LEN];
        if let Some(tail) = bytes.last_chunk_mut() {
            *tail = *self.uuid.as_bytes();
        }
        bytes
    }

    /// The string form: lower-case UUID, with `PNI:` in front where it applies.
    pub fn to_name(&self) -> String {
        match self.kind {
            ServiceIdKind::Aci => self.uuid.hyphenated().to_string(),
            ServiceIdKind::Pni => format!("PNI:{}", self.uuid.hyphenated()),
        }
    }
}

/// A name and a device number: what a session is keyed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    /// The account's name; a UUID string wherever Wardline makes it. Compared as it is spelt.
    pub name: String,
    /// Which device of the account.
    pub device: DeviceId,
}

impl DeviceAddress {
    /// An address from its parts.
    pub fn new(name: impl Into<String>, device: DeviceId) -> Self {
        Self {
            name: name.into(),
            device,
        }
    }

    /// The name as a service id, if it is one.
    pub fn service_id(&self) -> Option<ServiceId> {
        ServiceId::parse(&self.name)
    }

    /// Kind, UUID and device as the `addresses` field of a message holds them (spec §3.3);
    /// `None` if the name is not a service id.
    pub(crate) fn wire_bytes(&self) -> Option<[u8; 18]> {
        let mut bytes = [self.device.get(); 18];
        *bytes.first_chunk_mut()? = self.service_id()?.fixed_width();
        Some(bytes)
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_are_1_to_127() {
        for id in [1, 2, 127] {
            assert_eq!(u32::from(DeviceId::new(id).unwrap().get()), id);
        }
        for id in [0, 128, 255, 256, 257, u32::MAX] {
            assert_eq!(DeviceId::new(id), Err(InvalidDeviceId(id)));
        }
    }

    #[test]
    fn service_ids_are_hyphenated_uuids_in_either_case() {
        let id = ServiceId::parse("AAAAAAAA-1111-4111-8111-aaaaaaaaaaaa").unwrap();
        assert_eq!(id.kind, ServiceIdKind::Aci);
        assert_eq!(id.to_name(), "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa");
        let pni = ServiceId::parse("PNI:aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa").unwrap();
        assert_eq!(pni.kind, ServiceIdKind::Pni);
        assert_eq!(ServiceId::from_fixed_width(&pni.fixed_width()), Some(pni));
        for bad in [
            "",
            "alice",
            "+14155550100",
            "aaaaaaaa11114111 8111aaaaaaaaaaaa",
            "aaaaaaaa111141118111aaaaaaaaaaaa",
            "{aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa}",
            "pni:aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa",
            "PNI:",
        ] {
            assert_eq!(ServiceId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn wire_bytes_are_kind_uuid_device() {
        let device = DeviceId::new(9).unwrap();
        let address = DeviceAddress::new("PNI:01020304-0506-0708-090a-0b0c0d0e0f10", device);
        assert_eq!(
            address.wire_bytes().unwrap(),
            [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 9]
        );
        assert_eq!(DeviceAddress::new("alice", device).wire_bytes(), None);
    }
}
