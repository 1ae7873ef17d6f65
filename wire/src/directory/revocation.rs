//! Revocation lists: what no longer counts.

use std::collections::BTreeSet;

use prost::Message as _;

use super::certificate::VerifiedCertificate;
use super::issuer::{IssuerError, VerifiedIssuer};
use super::{TrustAnchor, is_within};
use crate::clock::Timestamp;
use crate::ids::{AccountId, Serial};
use crate::limits::{CLOCK_TOLERANCE_MS, REVOCATION_LIST_VALIDITY_MS};
use crate::proto::{RevocationBundle, RevocationKind, RevocationList};
use crate::signed::{SignatureError, SignedBlobExt as _, SignedKind};

/// Why a revocation list is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// There is none.
    #[error("the relay has no revocation list; tell the clinic's administrator")]
    Missing,
    /// Its issuer is not believed.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Not signed by the issuer it names.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The payload cannot be read, or a field is not valid.
    #[error("the revocation list cannot be read")]
    Malformed,
    /// Older than the list already known.
    #[error("the relay shows an old revocation list (number {offered}, number {known} is known)")]
    RolledBack {
        /// Number already known.
        known: u64,
        /// Number offered.
        offered: u64,
    },
    /// Something revoked before is missing: revocations are never taken back.
    #[error("the revocation list leaves out what was revoked before")]
    Shrunk,
    /// The list was signed by an issuer that is itself revoked.
    #[error("the revocation list was signed by an issuer that is revoked")]
    RevokedIssuer,
}

/// A revocation list that leads to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRevocations {
    number: u64,
    issued_at: Timestamp,
    next_update: Timestamp,
    certificates: BTreeSet<Serial>,
    issuers: BTreeSet<Serial>,
    accounts: BTreeSet<AccountId>,
}

impl VerifiedRevocations {
    /// Checks signature and form; the issuer must have been valid when it signed
    /// (± 24 h). Staleness is asked separately, because a stale list blocks first
    /// contact only.
    ///
    /// Two bounds keep a list that was made with a leaked issuer key from being the
    /// last one for ever: it is good for at most [`REVOCATION_LIST_VALIDITY_MS`], and
    /// its number is at most its time of issue in milliseconds, so that the clinic
    /// can always sign one with a greater number.
    ///
    /// # Errors
    /// [`RevocationError`], one variant a check.
    pub fn verify(
        bundle: &RevocationBundle,
        anchor: &TrustAnchor,
        now: Timestamp,
    ) -> Result<Self, RevocationError> {
        let bad = RevocationError::Malformed;
        let blob = bundle.list.as_ref().ok_or(RevocationError::Missing)?;
        let issuer = match &bundle.issuer {
            // An issuer that has expired since it signed the newest list must not
            // make that list vanish: its validity is held against the time of issue below.
            Some(issuer) => Some(VerifiedIssuer::verify_at_issue(issuer, anchor)?),
            None => None,
        };
        let key = issuer
            .as_ref()
            .map_or_else(|| anchor.root(), VerifiedIssuer::key);
        let payload = blob.verify(SignedKind::RevocationList, anchor.deployment(), key)?;
        let list = RevocationList::decode(payload).map_err(|_| bad)?;
        let issued_at = Timestamp::from_millis(list.issued_at_ms);
        let mut verified = Self {
            number: list.number,
            issued_at,
            next_update: Timestamp::from_millis(list.next_update_ms),
            certificates: BTreeSet::new(),
            issuers: BTreeSet::new(),
            accounts: BTreeSet::new(),
        };
        for entry in &list.revocations {
            match RevocationKind::try_from(entry.kind) {
                Ok(RevocationKind::Certificate) => {
                    verified
                        .certificates
                        .insert(Serial::from_slice(&entry.id).map_err(|_| bad)?);
                }
                Ok(RevocationKind::Issuer) => {
                    verified
                        .issuers
                        .insert(Serial::from_slice(&entry.id).map_err(|_| bad)?);
                }
                Ok(RevocationKind::Account) => {
                    verified
                        .accounts
                        .insert(AccountId::from_slice(&entry.id).map_err(|_| bad)?);
                }
                Ok(RevocationKind::Unspecified) | Err(_) => return Err(bad),
            }
        }
        match &issuer {
            Some(issuer) => {
                if list.issuer_serial != issuer.serial().as_bytes() {
                    return Err(bad);
                }
                if !is_within(issued_at, issuer.not_before(), issuer.not_after()) {
                    return Err(IssuerError::Expired.into());
                }
                if verified.issuers.contains(&issuer.serial()) {
                    return Err(RevocationError::RevokedIssuer);
                }
            }
            None if !list.issuer_serial.is_empty() => return Err(bad),
            None => {}
        }
        let good_for = list.next_update_ms.checked_sub(list.issued_at_ms);
        if list.number == 0
            || list.number > list.issued_at_ms
            || good_for.is_none_or(|millis| millis > REVOCATION_LIST_VALIDITY_MS)
            || issued_at > now.plus_millis(CLOCK_TOLERANCE_MS)
        {
            return Err(bad);
        }
        Ok(verified)
    }

    /// Whether this list may take the place of `known`: newer or the same, and
    /// with everything in it that was revoked before.
    ///
    /// # Errors
    /// [`RevocationError::RolledBack`] or [`RevocationError::Shrunk`].
    pub fn check_replaces(&self, known: &Self) -> Result<(), RevocationError> {
        if self.number < known.number {
            return Err(RevocationError::RolledBack {
                known: known.number,
                offered: self.number,
            });
        }
        if self.certificates.is_superset(&known.certificates)
            && self.issuers.is_superset(&known.issuers)
            && self.accounts.is_superset(&known.accounts)
        {
            Ok(())
        } else {
            Err(RevocationError::Shrunk)
        }
    }

    /// Whether it revokes this certificate, its issuer or its account.
    pub fn covers(&self, certificate: &VerifiedCertificate) -> bool {
        self.certificates.contains(&certificate.serial())
            || self.issuers.contains(&certificate.issuer())
            || self.accounts.contains(&certificate.account())
    }

    /// Whether it revokes this issuer.
    pub fn covers_issuer(&self, issuer: Serial) -> bool {
        self.issuers.contains(&issuer)
    }

    /// Whether it revokes this account.
    pub fn covers_account(&self, account: AccountId) -> bool {
        self.accounts.contains(&account)
    }

    /// Whether a newer list is overdue at `now` (with 24 h of tolerance).
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now > self.next_update.plus_millis(CLOCK_TOLERANCE_MS)
    }

    /// Grows with every list.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// When it was signed.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When the next one is due.
    pub const fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// Revoked accounts.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> + '_ {
        self.accounts.iter().copied()
    }

    /// Revoked certificates.
    pub fn certificates(&self) -> impl Iterator<Item = Serial> + '_ {
        self.certificates.iter().copied()
    }

    /// Revoked issuers.
    pub fn issuers(&self) -> impl Iterator<Item = Serial> + '_ {
        self.issuers.iter().copied()
    }
}
