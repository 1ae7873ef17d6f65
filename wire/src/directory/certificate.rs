//! Certificates: this account key has this role (and, for staff and AI, this name).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use prost::Message as _;

use super::issuer::{IssuerError, VerifiedIssuer};
use super::revocation::VerifiedRevocations;
use super::{TrustAnchor, is_within, role_from_wire};
use crate::clock::Timestamp;
use crate::ids::{AccountId, Serial};
use crate::proto::{Certificate, CertificateChain, Role};
use crate::signed::{SignatureError, SignedBlobExt as _, SignedKind};

/// A handle that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handle has 2 to 32 of the characters a-z, 0-9, '.', '_' and '-'")]
pub struct HandleError;

/// A directory handle, without the "@": `[a-z0-9._-]{2,32}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(String);

impl Handle {
    /// The handle without "@".
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let good =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if (2..=32).contains(&text.len()) && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HandleError)
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// Whether a display name is fit to be shown: 1 to 64 bytes, no control,
/// invisible or direction-changing characters, no line breaks of any kind, no
/// space at either end.
pub fn check_display_name(name: &str) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c,
                '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}' | '\u{E000}'..='\u{F8FF}' | '\u{E0000}'..='\u{10FFFF}')
    };
    (1..=64).contains(&name.len()) && name.trim() == name && !name.chars().any(hidden)
}

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("the clinic has not certified this account yet")]
    Missing,
    /// Its issuer is not believed.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Not signed by the issuer it names.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The payload cannot be read, or a field is not valid.
    #[error("the certificate cannot be read")]
    Malformed,
    /// It is about another account.
    #[error("the relay answered with somebody else's certificate")]
    OtherAccount,
    /// It carries another handle than the one asked for.
    #[error("the relay answered with another person's certificate for this handle")]
    OtherHandle,
    /// The issuer may not certify this role.
    #[error("the issuer may not certify this role")]
    RoleNotAllowed,
    /// Outside its validity.
    #[error(
        "the certificate is not valid at this time; check this machine's clock, else tell the clinic's administrator"
    )]
    Expired,
    /// Certificate, issuer or account was revoked.
    #[error("the clinic has revoked this account")]
    Revoked,
}

/// A certificate that leads to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCertificate {
    serial: Serial,
    account: AccountId,
    account_key: VerifyingKey,
    role: Role,
    not_before: Timestamp,
    not_after: Timestamp,
    handle: Option<Handle>,
    display_name: Option<String>,
    issuer: Serial,
}

impl VerifiedCertificate {
    /// Checks the whole chain at `now` (± 24 h): root → issuer → certificate,
    /// the issuer's right to the role, validity of both, and revocation. The
    /// certificate must be about `account`.
    ///
    /// # Errors
    /// [`CertificateError`], one variant a check.
    pub fn verify(
        chain: &CertificateChain,
        account: AccountId,
        anchor: &TrustAnchor,
        revocations: Option<&VerifiedRevocations>,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let verified = Self::verify_any(chain, anchor, revocations, now)?;
        if verified.account == account {
            Ok(verified)
        } else {
            Err(CertificateError::OtherAccount)
        }
    }

    /// Like [`verify`](Self::verify), for a handle instead of an account.
    ///
    /// # Errors
    /// [`CertificateError`], one variant a check.
    pub fn verify_handle(
        chain: &CertificateChain,
        handle: &Handle,
        anchor: &TrustAnchor,
        revocations: Option<&VerifiedRevocations>,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let verified = Self::verify_any(chain, anchor, revocations, now)?;
        if verified.handle.as_ref() == Some(handle) {
            Ok(verified)
        } else {
            Err(CertificateError::OtherHandle)
        }
    }

    fn verify_any(
        chain: &CertificateChain,
        anchor: &TrustAnchor,
        revocations: Option<&VerifiedRevocations>,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let (Some(issuer), Some(blob)) = (&chain.issuer, &chain.certificate) else {
            return Err(CertificateError::Missing);
        };
        let issuer = VerifiedIssuer::verify(issuer, anchor, now)?;
        let payload = blob.verify(SignedKind::Certificate, anchor.deployment(), issuer.key())?;
        let verified = Self::parse(payload)?;
        if verified.issuer != issuer.serial() {
            return Err(CertificateError::Malformed);
        }
        if !issuer.roles().contains(&verified.role) {
            return Err(CertificateError::RoleNotAllowed);
        }
        if !is_within(now, verified.not_before, verified.not_after) {
            return Err(CertificateError::Expired);
        }
        if revocations.is_some_and(|list| list.covers(&verified)) {
            return Err(CertificateError::Revoked);
        }
        Ok(verified)
    }

    fn parse(payload: &[u8]) -> Result<Self, CertificateError> {
        let bad = CertificateError::Malformed;
        let certificate = Certificate::decode(payload).map_err(|_| bad)?;
        let role = role_from_wire(certificate.role).ok_or(bad)?;
        let key: [u8; 32] = certificate
            .account_key
            .as_slice()
            .try_into()
            .map_err(|_| bad)?;
        // A patient's name is health information and is never certified; everyone else is named.
        let (handle, display_name) = if role == Role::Patient {
            if !certificate.handle.is_empty() || !certificate.display_name.is_empty() {
                return Err(bad);
            }
            (None, None)
        } else {
            if !check_display_name(&certificate.display_name) {
                return Err(bad);
            }
            let handle: Handle = certificate.handle.parse().map_err(|_| bad)?;
            // "@name" is how people write it, never how it is certified.
            if handle.as_str() != certificate.handle {
                return Err(bad);
            }
            (Some(handle), Some(certificate.display_name))
        };
        if certificate.not_after_ms < certificate.not_before_ms {
            return Err(bad);
        }
        Ok(Self {
            serial: Serial::from_slice(&certificate.serial).map_err(|_| bad)?,
            account: AccountId::from_slice(&certificate.account_id).map_err(|_| bad)?,
            account_key: VerifyingKey::from_bytes(&key).map_err(|_| bad)?,
            role,
            not_before: Timestamp::from_millis(certificate.not_before_ms),
            not_after: Timestamp::from_millis(certificate.not_after_ms),
            handle,
            display_name,
            issuer: Serial::from_slice(&certificate.issuer_serial).map_err(|_| bad)?,
        })
    }

    /// Names it in revocations.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Whom it is about.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// The certified Ed25519 account key.
    pub const fn account_key(&self) -> &VerifyingKey {
        &self.account_key
    }

    /// The certified role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// First moment of validity.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last moment of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The handle; `None` for patients.
    pub const fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// The certified name; `None` for patients.
    pub fn display_name(&self) -> Option<&str> {
        self.display_name.as_deref()
    }

    /// Serial of the issuer that signed.
    pub const fn issuer(&self) -> Serial {
        self.issuer
    }
}
