//! Arguments out of a JSON request.

use serde_json::{Map, Value};
use uuid::Uuid;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId},
    timestamp::Timestamp,
};

use crate::error::PeerError;

/// The fields of a request, or of an object within one.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a>(&'a Map<String, Value>);

impl<'a> Request<'a> {
    pub(crate) fn new(fields: &'a Map<String, Value>) -> Self {
        Self(fields)
    }

    /// A field that is there and not null.
    pub(crate) fn optional(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn required(self, name: &str) -> Result<&'a Value, PeerError> {
        self.optional(name)
            .ok_or_else(|| PeerError::bad(&format!("missing argument: {name}")))
    }

    pub(crate) fn text(self, name: &str) -> Result<&'a str, PeerError> {
        as_text(name, self.required(name)?)
    }

    pub(crate) fn bytes(self, name: &str) -> Result<Vec<u8>, PeerError> {
        as_bytes(name, self.required(name)?)
    }

    pub(crate) fn optional_bytes(self, name: &str) -> Result<Option<Vec<u8>>, PeerError> {
        self.optional(name)
            .map(|value| as_bytes(name, value))
            .transpose()
    }

    pub(crate) fn array<const N: usize>(self, name: &str) -> Result<[u8; N], PeerError> {
        self.bytes(name)?
            .try_into()
            .map_err(|_| PeerError::bad(&format!("not {N} bytes: {name}")))
    }

    pub(crate) fn u64(self, name: &str) -> Result<u64, PeerError> {
        let value = self.required(name)?;
        value
            .as_u64()
            .ok_or_else(|| PeerError::bad(&format!("not a number: {name}")))
    }

    pub(crate) fn u32(self, name: &str) -> Result<u32, PeerError> {
        as_u32(name, self.required(name)?)
    }

    pub(crate) fn u32_or(self, name: &str, default: u32) -> Result<u32, PeerError> {
        self.optional(name)
            .map_or(Ok(default), |value| as_u32(name, value))
    }

    pub(crate) fn flag_or(self, name: &str, default: bool) -> bool {
        self.optional(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    }

    pub(crate) fn uuid(self, name: &str) -> Result<Uuid, PeerError> {
        self.text(name)?
            .parse()
            .map_err(|_| PeerError::bad(&format!("not a UUID: {name}")))
    }

    pub(crate) fn object(self, name: &str) -> Result<Self, PeerError> {
        as_object(name, self.required(name)?)
    }

    pub(crate) fn list(self, name: &str) -> Result<&'a [Value], PeerError> {
        match self.required(name)? {
            Value::Array(list) => Ok(list),
            _ => Err(PeerError::bad(&format!("not a list: {name}"))),
        }
    }

    pub(crate) fn address(self, name: &str) -> Result<DeviceAddress, PeerError> {
        self.object(name)?.as_address()
    }

    /// This object's own `name` and `device`.
    pub(crate) fn as_address(self) -> Result<DeviceAddress, PeerError> {
        Ok(DeviceAddress::new(
            self.text("name")?,
            DeviceId::new(self.u32("device")?)?,
        ))
    }

    /// `nowMs`, or the time of day.
    pub(crate) fn now(self) -> Result<Timestamp, PeerError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a program of its own has its own clock"
        )]
        match self.optional("nowMs") {
            Some(_) => Ok(Timestamp::from_millis(self.u64("nowMs")?)),
            None => Ok(std::time::SystemTime::now().into()),
        }
    }
}

pub(crate) fn as_object<'a>(name: &str, value: &'a Value) -> Result<Request<'a>, PeerError> {
    match value {
        Value::Object(fields) => Ok(Request(fields)),
        _ => Err(PeerError::bad(&format!("not an object: {name}"))),
    }
}

pub(crate) fn as_text<'a>(name: &str, value: &'a Value) -> Result<&'a str, PeerError> {
    value
        .as_str()
        .ok_or_else(|| PeerError::bad(&format!("not a string: {name}")))
}

fn as_bytes(name: &str, value: &Value) -> Result<Vec<u8>, PeerError> {
    hex::decode(as_text(name, value)?).map_err(|_| PeerError::bad(&format!("not hex: {name}")))
}

fn as_u32(name: &str, value: &Value) -> Result<u32, PeerError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| PeerError::bad(&format!("not a 32-bit number: {name}")))
}
