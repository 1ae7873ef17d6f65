//! Sealed sender: messages whose carrier does not learn who sent them (spec §5.2–5.6).
//!
//! The sender wraps a finished message ([`SealedContent`]) with a [`SenderCertificate`] and
//! encrypts both to the recipient's identity key: for one recipient with [`seal`], for many at once
//! with [`seal_multi`]. The recipient [`open`]s either, and must [`SealedContent::verify`] the
//! certificate before taking anybody for the sender. Knows nothing of sessions: what comes out is
//! another message to decrypt.

mod certificate;
mod content;
mod multi;
mod single;

pub use self::{
    certificate::{CertificateError, SenderCertificate, SenderClaims, ServerCertificate},
    content::{ContentHint, LocalSender, SealedContent, VerifiedSender, VerifyError},
    multi::{
        MAX_REGISTRATION_ID, Recipient, SealMultiError, SentMessage, SentMessageError,
        SentRecipient, seal_multi,
    },
    single::seal,
};
use crate::{
    curve::{InvalidKeyAgreement, KeyError},
    identity::IdentityKeyPair,
};

/// Why a sealed message does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A form of sealed sender that this software does not know (or, for 0, no bytes at all).
    #[error("sealed message version {0} is not known")]
    UnknownVersion(u8),
    /// The bytes are not a sealed message, or what was sealed is not a message.
    #[error("malformed sealed message")]
    Malformed,
    /// A public key in the message is malformed.
    #[error("invalid key in sealed message: {0}")]
    Key(#[from] KeyError),
    /// A public key in the message has small order.
    #[error(transparent)]
    KeyAgreement(#[from] InvalidKeyAgreement),
    /// Not sealed for us, or altered.
    #[error("sealed message fails authentication")]
    NotAuthentic,
    /// Sealed by another key than the one in the certificate inside.
    #[error("sealed message was not made by the owner of its certificate")]
    SenderMismatch,
}

/// Opens a sealed message of either form. The certificate inside is *not* verified yet.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(bytes: &[u8], recipient: &IdentityKeyPair) -> Result<SealedContent, OpenError> {
    let (first, rest) = bytes.split_first().ok_or(OpenError::UnknownVersion(0))?;
    match first >> 4 {
        0 | 1 => single::open(rest, recipient),
        2 => multi::open(rest, recipient),
        version => Err(OpenError::UnknownVersion(version)),
    }
}
