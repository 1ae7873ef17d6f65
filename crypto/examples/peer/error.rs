//! Every error of the crate as one of the protocol's kinds.

use std::fmt::Display;

use wardline_crypto::{
    StoredRecordError,
    address::InvalidDeviceId,
    curve::{InvalidKeyAgreement, KeyError},
    fingerprint::InvalidIterations,
    kem::KemError,
    message::MessageError,
    prekey::InvalidBundle,
    sender_key::SenderKeyError,
    session::{DecryptError, EncryptError, InitiateError},
};

/// What goes into an error reply.
pub(crate) struct PeerError {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl PeerError {
    pub(crate) fn new(kind: &'static str, error: &dyn Display) -> Self {
        Self {
            kind,
            text: error.to_string(),
        }
    }

    /// The request is wrong, not the cryptography.
    pub(crate) fn bad(text: &(impl Display + ?Sized)) -> Self {
        Self::new("bad_request", &text)
    }
}

macro_rules! kind {
    ($($error:ty => $kind:literal,)*) => {
        $(impl From<$error> for PeerError {
            fn from(error: $error) -> Self {
                Self::new($kind, &error)
            }
        })*
    };
}

kind! {
    KeyError => "invalid_key",
    KemError => "invalid_key",
    InvalidKeyAgreement => "invalid_key",
    InvalidBundle => "invalid_signature",
    InvalidDeviceId => "bad_request",
    InvalidIterations => "bad_request",
    StoredRecordError => "other",
    MessageError => "invalid_message",
}

impl From<InitiateError> for PeerError {
    fn from(error: InitiateError) -> Self {
        let kind = match error {
            InitiateError::UntrustedIdentity(_) => "untrusted_identity",
            InitiateError::KeyAgreement(_) => "invalid_key",
        };
        Self::new(kind, &error)
    }
}

impl From<EncryptError> for PeerError {
    fn from(error: EncryptError) -> Self {
        let kind = match error {
            EncryptError::SessionNotFound => "session_not_found",
            EncryptError::UntrustedIdentity(_) => "untrusted_identity",
            EncryptError::Exhausted => "other",
        };
        Self::new(kind, &error)
    }
}

impl From<DecryptError> for PeerError {
    fn from(error: DecryptError) -> Self {
        let kind = match error {
            DecryptError::UntrustedIdentity(_) => "untrusted_identity",
            DecryptError::SessionNotFound => "session_not_found",
            DecryptError::Duplicated { .. } => "duplicated_message",
            DecryptError::Invalid(_) => "invalid_message",
            DecryptError::PreKeysMissing | DecryptError::WrongPreKeys | DecryptError::Stored(_) => {
                "other"
            }
        };
        Self::new(kind, &error)
    }
}

impl From<SenderKeyError> for PeerError {
    fn from(error: SenderKeyError) -> Self {
        let kind = match error {
            SenderKeyError::NoState { .. } => "no_sender_key_state",
            SenderKeyError::Duplicate { .. } => "duplicated_message",
            SenderKeyError::InvalidSignature => "invalid_signature",
            _ => "invalid_message",
        };
        Self::new(kind, &error)
    }
}
