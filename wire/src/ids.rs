//! Names as types: who, which, where.

use std::fmt;
use std::str::FromStr;

/// Bytes that are not the name they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The length is wrong.
    #[error("{what} must be {expected} bytes, not {found}")]
    Length {
        /// What was being read.
        what: &'static str,
        /// Bytes it has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The text form is not hexadecimal or not a UUID.
    #[error("{what} is not written correctly")]
    Text {
        /// What was being read.
        what: &'static str,
    },
    /// A device id outside 1..=127.
    #[error("a device id is between 1 and 127, not {0}")]
    DeviceId(u32),
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The raw bytes as a vector, as protobuf fields want them.
            pub fn to_vec(&self) -> Vec<u8> {
                self.0.to_vec()
            }

            /// From exactly the right number of bytes.
            ///
            /// # Errors
            /// [`IdError::Length`] for any other number.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                <[u8; $len]>::try_from(bytes).map(Self).map_err(|_| IdError::Length {
                    what: $what,
                    expected: $len,
                    found: bytes.len(),
                })
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }
    };
}

macro_rules! hex_text {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = hex::decode(text).map_err(|_| IdError::Text { what: $what })?;
                Self::from_slice(&bytes)
            }
        }
    };
}

byte_id!(
    /// An account: a random UUIDv4. Shown hyphenated and in lower case.
    AccountId, 16, "an account id"
);
byte_id!(
    /// One clinic's installation. Part of every signature's domain.
    DeploymentId, 16, "a deployment id"
);
byte_id!(
    /// Names a certificate or an issuer in revocations.
    Serial, 16, "a serial"
);
byte_id!(
    /// Names one send of one device; the idempotency key's random part.
    SendId, 16, "a send id"
);
byte_id!(
    /// What the relay knows of an invite: a hash of its secret.
    InviteId, 32, "an invite id"
);
byte_id!(
    /// SHA-256 of the payload of a signed blob.
    PayloadHash, 32, "a payload hash"
);

hex_text!(DeploymentId, "a deployment id");
hex_text!(Serial, "a serial");
hex_text!(SendId, "a send id");
hex_text!(InviteId, "an invite id");
hex_text!(PayloadHash, "a payload hash");

impl AccountId {
    /// A UUIDv4 from 16 random bytes.
    pub fn from_random_bytes(random: [u8; 16]) -> Self {
        Self(
            uuid::Builder::from_random_bytes(random)
                .into_uuid()
                .into_bytes(),
        )
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

impl FromStr for AccountId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        uuid::Uuid::parse_str(text)
            .map(|uuid| Self(uuid.into_bytes()))
            .map_err(|_| IdError::Text {
                what: "an account id",
            })
    }
}

/// A device of an account: 1..=127, never used again after removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u8);

impl DeviceId {
    /// The device on which an account begins.
    pub const FIRST: Self = Self(1);

    /// From its number.
    ///
    /// # Errors
    /// [`IdError::DeviceId`] outside 1..=127.
    pub fn new(id: u32) -> Result<Self, IdError> {
        match u8::try_from(id) {
            Ok(small @ 1..=127) => Ok(Self(small)),
            _ => Err(IdError::DeviceId(id)),
        }
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<DeviceId> for u32 {
    fn from(id: DeviceId) -> Self {
        Self::from(id.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One device of one account: where an envelope goes and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    /// The account.
    pub account: AccountId,
    /// Its device.
    pub device: DeviceId,
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.account, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_are_v4_and_round_trip() {
        let id = AccountId::from_random_bytes([0xFF; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
        assert!("not-a-uuid".parse::<AccountId>().is_err());
        assert!(AccountId::from_slice(&[0; 15]).is_err());
    }

    #[test]
    fn device_ids_are_bounded() {
        assert!(DeviceId::new(0).is_err());
        assert!(DeviceId::new(128).is_err());
        assert!(DeviceId::new(257).is_err());
        assert_eq!(DeviceId::new(127).unwrap().get(), 127);
    }

    #[test]
    fn hex_ids_round_trip() {
        let id = InviteId::from([0xAB; 32]);
        assert_eq!(id.to_string().parse::<InviteId>().unwrap(), id);
        assert_eq!(
            "zz".parse::<Serial>(),
            Err(IdError::Text { what: "a serial" })
        );
    }
}
