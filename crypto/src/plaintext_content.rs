//! Messages about messages that did not open (spec §5.7). They travel in the clear, since whatever
//! protects messages is what failed.

use std::fmt;

use prost::Message;

use crate::{
    curve::PublicKey,
    message::{MessageError, MessageType, PreKeyMessage, SignalMessage},
    timestamp::Timestamp,
};

/// First byte of a plaintext content message.
const MARKER: u8 = 0xC0;

/// Ends the content; zero bytes may follow.
const PADDING_START: u8 = 0x80;

/// Tells a sender that a message of theirs could not be opened.
///
/// The sender retires the session if `ratchet_key` is the one it sends with now
/// ([`SessionRecord::current_ratchet_key_matches`]); an older key means that this was dealt with.
///
/// [`SessionRecord::current_ratchet_key_matches`]:
///     crate::session::SessionRecord::current_ratchet_key_matches
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecryptionErrorMessage {
    /// The ratchet key of the message; none if it was sent to a group.
    pub ratchet_key: Option<PublicKey>,
    /// When the message was sent, by what its sender said.
    pub timestamp: Timestamp,
    /// The device that sent it.
    pub device: u32,
}

/// Why there is no error message about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginalError {
    /// The message is not what its type says.
    #[error("the message that failed cannot be read: {0}")]
    Unreadable(#[from] MessageError),
    /// The message is itself in the clear.
    #[error("plaintext content cannot fail to decrypt")]
    Plaintext,
}

impl DecryptionErrorMessage {
    /// The error message about a message that `device` sent at `timestamp`.
    ///
    /// # Errors
    ///
    /// See [`OriginalError`].
    pub fn about(
        original_type: MessageType,
        original: &[u8],
        timestamp: Timestamp,
        device: u32,
    ) -> Result<Self, OriginalError> {
        let ratchet_key = match original_type {
            MessageType::Signal => Some(*SignalMessage::decode(original)?.ratchet_key()),
            MessageType::PreKey => Some(*PreKeyMessage::decode(original)?.message().ratchet_key()),
            MessageType::SenderKey => None,
            MessageType::Plaintext => return Err(OriginalError::Plaintext),
        };
        Ok(Self {
            ratchet_key,
            timestamp,
            device,
        })
    }

    /// The serialised form.
    pub fn encode(&self) -> Vec<u8> {
        ErrorFields {
            ratchet_key: self.ratchet_key.map(|key| key.as_bytes().to_vec()),
            timestamp: Some(self.timestamp.as_millis()),
            device: Some(self.device),
        }
        .encode_to_vec()
    }

    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// [`MessageError::InvalidEncoding`], [`MessageError::Key`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let fields = ErrorFields::decode(bytes).map_err(|_| MessageError::InvalidEncoding)?;
        Ok(Self {
            ratchet_key: fields
                .ratchet_key
                .map(|key| PublicKey::decode(&key))
                .transpose()?,
            timestamp: Timestamp::from_millis(
                fields.timestamp.ok_or(MessageError::InvalidEncoding)?,
            ),
            device: fields.device.unwrap_or(0),
        })
    }
}

/// A message in the clear (type 8). Anybody can make one: it must never carry what a person wrote,
/// and whoever reads it may believe nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PlaintextContent {
    serialized: Vec<u8>,
}

impl PlaintextContent {
    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// [`MessageError::TooShort`], [`MessageError::UnrecognizedVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        match bytes.first() {
            Some(&MARKER) => Ok(Self {
                serialized: bytes.to_vec(),
            }),
            Some(&other) => Err(MessageError::UnrecognizedVersion(other)),
            None => Err(MessageError::TooShort(0)),
        }
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    /// The content with its padding.
    pub fn body(&self) -> &[u8] {
        self.serialized.split_first().map_or(&[], |(_, body)| body)
    }

    /// The decryption-error message that the content carries.
    ///
    /// # Errors
    ///
    /// [`MessageError::InvalidEncoding`] if it carries none, or is not padded as it must be;
    /// otherwise as [`DecryptionErrorMessage::decode`].
    pub fn decryption_error(&self) -> Result<DecryptionErrorMessage, MessageError> {
        let end = self.body().iter().rposition(|byte| *byte != 0);
        let (content, padding) = end
            .and_then(|end| self.body().split_at_checked(end))
            .ok_or(MessageError::InvalidEncoding)?;
        if padding.first() != Some(&PADDING_START) {
            return Err(MessageError::InvalidEncoding);
        }
        let fields = ContentFields::decode(content).map_err(|_| MessageError::InvalidEncoding)?;
        let error = fields
            .decryption_error
            .ok_or(MessageError::InvalidEncoding)?;
        DecryptionErrorMessage::decode(&error)
    }
}

impl From<&DecryptionErrorMessage> for PlaintextContent {
    fn from(error: &DecryptionErrorMessage) -> Self {
        let content = ContentFields {
            decryption_error: Some(error.encode()),
        }
        .encode_to_vec();
        Self {
            serialized: [&[MARKER], content.as_slice(), &[PADDING_START]].concat(),
        }
    }
}

impl fmt::Debug for PlaintextContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaintextContent")
            .field("len", &self.serialized.len())
            .finish()
    }
}

/// Protobuf field layout of a decryption-error message.
#[derive(Clone, PartialEq, Message)]
struct ErrorFields {
    #[prost(bytes = "vec", optional, tag = "1")]
    ratchet_key: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "2")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    device: Option<u32>,
}

/// The one field of plaintext content that is in use.
#[derive(Clone, PartialEq, Message)]
struct ContentFields {
    #[prost(bytes = "vec", optional, tag = "8")]
    decryption_error: Option<Vec<u8>>,
}
