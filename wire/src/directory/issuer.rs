//! Issuers: short-lived keys under the root.

use ed25519_dalek::VerifyingKey;
use prost::Message as _;

use super::{TrustAnchor, is_within, role_from_wire};
use crate::clock::Timestamp;
use crate::ids::Serial;
use crate::proto::{Issuer, Role, SignedBlob};
use crate::signed::{SignatureError, SignedBlobExt as _, SignedKind};

/// Why an issuer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not signed by the root.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The payload cannot be read.
    #[error("the issuer's record cannot be read")]
    Malformed,
    /// Outside its validity.
    #[error(
        "the clinic's issuer is not valid at this time; check this machine's clock, else tell the clinic's administrator"
    )]
    Expired,
}

/// An issuer that the root vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedIssuer {
    serial: Serial,
    key: VerifyingKey,
    roles: Vec<Role>,
    not_before: Timestamp,
    not_after: Timestamp,
    sealing_key: [u8; 32],
}

impl VerifiedIssuer {
    /// Checks signature, form and validity at `now` (± 24 h).
    ///
    /// # Errors
    /// [`IssuerError`], one variant a check.
    pub fn verify(
        blob: &SignedBlob,
        anchor: &TrustAnchor,
        now: Timestamp,
    ) -> Result<Self, IssuerError> {
        let verified = Self::verify_at_issue(blob, anchor)?;
        if is_within(now, verified.not_before, verified.not_after) {
            Ok(verified)
        } else {
            Err(IssuerError::Expired)
        }
    }

    /// Signature and form alone; the caller holds the validity against the time
    /// of issue of what was signed.
    pub(super) fn verify_at_issue(
        blob: &SignedBlob,
        anchor: &TrustAnchor,
    ) -> Result<Self, IssuerError> {
        let payload = blob.verify(SignedKind::Issuer, anchor.deployment(), anchor.root())?;
        let issuer = Issuer::decode(payload).map_err(|_| IssuerError::Malformed)?;
        if issuer.not_after_ms < issuer.not_before_ms {
            return Err(IssuerError::Malformed);
        }
        let key: [u8; 32] = issuer
            .key
            .as_slice()
            .try_into()
            .map_err(|_| IssuerError::Malformed)?;
        let roles = issuer
            .roles
            .iter()
            .map(|role| role_from_wire(*role))
            .collect::<Option<Vec<_>>>();
        Ok(Self {
            serial: Serial::from_slice(&issuer.serial).map_err(|_| IssuerError::Malformed)?,
            key: VerifyingKey::from_bytes(&key).map_err(|_| IssuerError::Malformed)?,
            roles: roles.ok_or(IssuerError::Malformed)?,
            not_before: Timestamp::from_millis(issuer.not_before_ms),
            not_after: Timestamp::from_millis(issuer.not_after_ms),
            sealing_key: issuer
                .sealing_key
                .as_slice()
                .try_into()
                .map_err(|_| IssuerError::Malformed)?,
        })
    }

    /// Names it in revocations.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its Ed25519 public key.
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// Roles it may certify.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// First moment of validity.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last moment of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// X25519 public key, 32 bytes, to which invite requests are sealed.
    pub const fn sealing_key(&self) -> &[u8; 32] {
        &self.sealing_key
    }
}
