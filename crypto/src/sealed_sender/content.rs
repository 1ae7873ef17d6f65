//! What is sealed: a finished message beside its sender's certificate (spec §5.3, §5.6).

use std::fmt;

use prost::Message;

use super::{
    OpenError,
    certificate::{CertificateError, SenderCertificate},
};
use crate::{
    address::DeviceAddress, curve::PublicKey, identity::IdentityKey, message::MessageType,
    timestamp::Timestamp,
};

/// What a recipient that cannot open the message should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentHint {
    /// Show that something was lost.
    #[default]
    Default,
    /// Ask for it again: the sender keeps it for a while.
    Resendable,
    /// Nothing: the message has no content of its own.
    Implicit,
    /// A value of the future, kept as it is.
    Other(u32),
}

impl ContentHint {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Default => 0,
            Self::Resendable => 1,
            Self::Implicit => 2,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for ContentHint {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Default,
            1 => Self::Resendable,
            2 => Self::Implicit,
            other => Self::Other(other),
        }
    }
}

/// A message with its sender's certificate. What [`open`](super::open) returns claims to be from
/// that sender, no more, until it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedContent {
    message_type: MessageType,
    sender: SenderCertificate,
    message: Vec<u8>,
    hint: ContentHint,
    group_id: Vec<u8>,
    serialized: Vec<u8>,
}

impl SealedContent {
    /// Puts a serialised message of the given type beside a certificate. `group_id` tells a
    /// recipient that cannot open the message where it belongs; often empty.
    pub fn new(
        message_type: MessageType,
        sender: SenderCertificate,
        message: Vec<u8>,
        hint: ContentHint,
        group_id: Vec<u8>,
    ) -> Self {
        let fields = Fields {
            message_type: Some(type_number(message_type)),
            sender: Some(sender.as_bytes().to_vec()),
            message: Some(message.clone()),
            hint: Some(hint.number()).filter(|number| *number != 0),
            group_id: Some(group_id.clone()).filter(|id| !id.is_empty()),
        };
        let serialized = fields.encode_to_vec();
        Self {
            message_type,
            sender,
            message,
            hint,
            group_id,
            serialized,
        }
    }

    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// [`OpenError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let fields = Fields::decode(bytes).map_err(|_| OpenError::Malformed)?;
        let sender = fields.sender.ok_or(OpenError::Malformed)?;
        Ok(Self {
            message_type: fields
                .message_type
                .and_then(type_from_number)
                .ok_or(OpenError::Malformed)?,
            sender: SenderCertificate::decode(&sender).map_err(|_| OpenError::Malformed)?,
            message: fields.message.ok_or(OpenError::Malformed)?,
            hint: fields.hint.unwrap_or(0).into(),
            group_id: fields.group_id.unwrap_or_default(),
            serialized: bytes.to_vec(),
        })
    }

    /// Which kind of message is inside.
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// The sender's certificate as it came, not verified.
    pub fn sender_certificate(&self) -> &SenderCertificate {
        &self.sender
    }

    /// The serialised message inside.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// What to do if the message does not open.
    pub fn hint(&self) -> ContentHint {
        self.hint
    }

    /// The group that the message belongs to; empty if the sender did not say.
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    /// Verifies the certificate and that the message is not our own. The address that comes out
    /// is the one to decrypt the message under.
    ///
    /// # Errors
    ///
    /// See [`VerifyError`].
    pub fn verify(
        &self,
        trust_roots: &[PublicKey],
        now: Timestamp,
        local: &LocalSender<'_>,
    ) -> Result<VerifiedSender, VerifyError> {
        self.sender.verify(trust_roots, now)?;
        let claims = self.sender.claims();
        let same_number = local.e164.is_some() && local.e164 == claims.e164.as_deref();
        let same_account = claims.address.name == local.address.name || same_number;
        if same_account && claims.address.device == local.address.device {
            return Err(VerifyError::SelfSend);
        }
        Ok(VerifiedSender {
            address: claims.address.clone(),
            e164: claims.e164.clone(),
            identity: claims.identity,
        })
    }
}

impl fmt::Debug for SealedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedContent")
            .field("message_type", &self.message_type)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// This device, as it would appear in a certificate.
#[derive(Debug, Clone, Copy)]
pub struct LocalSender<'a> {
    /// Our own address.
    pub address: &'a DeviceAddress,
    /// Our own phone number, where there is such a thing.
    pub e164: Option<&'a str>,
}

/// Who sent a sealed message, by a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedSender {
    /// The sender's address.
    pub address: DeviceAddress,
    /// The sender's phone number, if the certificate names one.
    pub e164: Option<String>,
    /// The identity key that sealed the message.
    pub identity: IdentityKey,
}

/// Why the sender of a sealed message is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The certificate is no good: drop the message.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Our own message came back to us: drop it.
    #[error("self send of a sealed message")]
    SelfSend,
}

/// Protobuf field layout.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(uint32, optional, tag = "1")]
    message_type: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    sender: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    message: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "4")]
    hint: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "5")]
    group_id: Option<Vec<u8>>,
}

/// The number of a message type in here; the first two differ from the outer ones.
fn type_number(message_type: MessageType) -> u32 {
    match message_type {
        MessageType::PreKey => 1,
        MessageType::Signal => 2,
        MessageType::SenderKey => 7,
        MessageType::Plaintext => 8,
    }
}

fn type_from_number(number: u32) -> Option<MessageType> {
    match number {
        1 => Some(MessageType::PreKey),
        2 => Some(MessageType::Signal),
        7 => Some(MessageType::SenderKey),
        8 => Some(MessageType::Plaintext),
        _ => None,
    }
}
