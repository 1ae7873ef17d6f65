//! Names that only endpoints know.

use std::fmt;
use std::str::FromStr;

use wardline_wire::ids::{IdError, PayloadHash};

use super::ContentError;
use crate::proto;

macro_rules! endpoint_id {
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

            /// Lower-case hexadecimal, for the user's own scripts and for the own
            /// store. Not for logs.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = hex::decode(text).map_err(|_| IdError::Text { what: $what })?;
                Self::from_slice(&bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

endpoint_id!(
    /// One message: 16 random bytes, the same for every recipient and every re-sending.
    ContentId, 16, "a content id"
);
endpoint_id!(
    /// A conversation: the hash of its first operation, random through that
    /// operation's nonce. The relay never learns it.
    ConversationId, 32, "a conversation id"
);
endpoint_id!(
    /// Lets a patient fetch an account's prekeys. Whoever has it may pass it on,
    /// inside ciphertexts only.
    AccessKey, 16, "an access key"
);

impl From<PayloadHash> for ConversationId {
    fn from(hash: PayloadHash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl From<ConversationId> for PayloadHash {
    fn from(id: ConversationId) -> Self {
        Self::from(id.0)
    }
}

/// A version of an account's device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListRef {
    /// From 1.
    pub version: u64,
    /// SHA-256 of the signed payload.
    pub hash: PayloadHash,
}

impl ListRef {
    pub(super) fn read(
        list: Option<&proto::ListRef>,
        field: &'static str,
    ) -> Result<Self, ContentError> {
        let list = list.ok_or(ContentError::Field(field))?;
        if list.version == 0 {
            return Err(ContentError::Field(field));
        }
        Ok(Self {
            version: list.version,
            hash: PayloadHash::from_slice(&list.hash).map_err(super::check::bad(field))?,
        })
    }

    pub(super) fn write(self) -> proto::ListRef {
        proto::ListRef {
            version: self.version,
            hash: self.hash.to_vec(),
        }
    }
}

impl From<&wardline_wire::directory::VerifiedDeviceList> for ListRef {
    fn from(list: &wardline_wire::directory::VerifiedDeviceList) -> Self {
        Self {
            version: list.version(),
            hash: list.hash(),
        }
    }
}
