//! What an endpoint knows of another account, and what follows from it.
//!
//! A [`Contact`] is a state machine without I/O: records from the relay,
//! revocations, what peers say about lists, and the user's decisions go in; notices
//! to show come out, and it answers whether one may send. The relay is never
//! believed: whatever it shows is verified against the clinic's root and compared
//! with what is known.
//!
//! | what is seen | what follows |
//! | --- | --- |
//! | another key without a new certificate | sending stops |
//! | another key with a newer certificate | always shown; if the safety number had been compared, sending stops until the user accepts |
//! | an older certificate, an older list | refused, shown |
//! | two lists of one version, or a list that does not build on the known one | hard stop |
//! | an expired list or certificate, a stale revocation list | no first contact; else a warning |
//! | a revoked account | sending stops |
//! | a message of somebody neither inviting nor invited | appears as a request |

mod hello;
mod notice;
mod own;
mod state;

use ed25519_dalek::VerifyingKey;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{
    CertificateError, DeviceListError, TrustAnchor, VerifiedCertificate, VerifiedDeviceList,
    VerifiedRevocations,
};
use wardline_wire::ids::{AccountId, DeviceId};
use wardline_wire::limits::CLOCK_TOLERANCE_MS;
use wardline_wire::proto::{AccountRecord, CertificateChain, SignedBlob};

use crate::content::ListRef;

pub use crate::proto::ContactOrigin as Origin;
pub use hello::{HelloError, check_hello, hello_proof};
pub use notice::{Notice, Stop, Warning};
pub use own::{OwnListReport, check_recipient_list};
pub use state::ContactStateError;

/// Whether the newest revocation list is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A newer one is not due yet.
    Fresh,
    /// A newer one is overdue.
    Stale,
    /// None was ever seen.
    Missing,
}

impl Freshness {
    /// Of the newest list known, at `now`.
    pub fn of(revocations: Option<&VerifiedRevocations>, now: Timestamp) -> Self {
        match revocations {
            None => Self::Missing,
            Some(list) if list.is_stale(now) => Self::Stale,
            Some(_) => Self::Fresh,
        }
    }
}

/// What received content is to be done with, as far as its sender's account goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Show it.
    Deliver,
    /// Show it as a request: no receipts, no typing, no answers of an AI until accepted.
    AsRequest,
    /// The user has blocked the account: drop it.
    Drop,
}

/// What a sender's word about its own list means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListReport {
    /// The same as here.
    Agrees,
    /// It speaks of a newer list, or none is known here: fetch it. If the relay then
    /// shows none so new, it withholds it, and a notice says so.
    Fetch,
    /// It wrote before its own list changed; its device is still on the list.
    Older,
    /// It wrote from a device that is not on the list any more: quarantine.
    RemovedDevice,
    /// It contradicts what is known. The contact is stopped now.
    Contradicts(Notice),
}

/// Why sending stopped until something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    UncertifiedKey,
    VerifiedKeyChanged,
    TwoLists { version: u64 },
    BrokenChain { version: u64 },
}

impl Halt {
    /// Cleared by the user only.
    const fn is_hard(self) -> bool {
        !matches!(self, Self::UncertifiedKey)
    }

    const fn stop(self) -> Stop {
        match self {
            Self::UncertifiedKey => Stop::UncertifiedKey,
            Self::VerifiedKeyChanged => Stop::VerifiedKeyChanged,
            Self::TwoLists { version } => Stop::TwoLists { version },
            Self::BrokenChain { version } => Stop::BrokenChain { version },
        }
    }
}

/// A certificate that was verified, with its proof.
#[derive(Clone, PartialEq)]
struct Certified {
    chain: CertificateChain,
    verified_at: Timestamp,
    certificate: VerifiedCertificate,
}

/// The newest list believed, with its proof.
#[derive(Clone, PartialEq)]
struct Listed {
    blob: SignedBlob,
    list: VerifiedDeviceList,
}

/// What an endpoint knows of another account.
#[derive(Clone, PartialEq)]
pub struct Contact {
    account: AccountId,
    origin: Origin,
    accepted: bool,
    blocked: bool,
    certified: Option<Certified>,
    listed: Option<Listed>,
    verified_key: Option<[u8; 32]>,
    pending: Option<Certified>,
    halt: Option<Halt>,
    reported: Option<ListRef>,
    revoked: bool,
}

crate::content::non_printing!(Contact);

impl Contact {
    /// An account that nothing is known of yet.
    pub fn new(account: AccountId, origin: Origin) -> Self {
        Self {
            account,
            origin,
            accepted: is_expected(origin),
            blocked: false,
            certified: None,
            listed: None,
            verified_key: None,
            pending: None,
            halt: None,
            reported: None,
            revoked: false,
        }
    }

    /// Who.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// How it came to be known.
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The pinned account key.
    pub fn account_key(&self) -> Option<&VerifyingKey> {
        self.certified
            .as_ref()
            .map(|held| held.certificate.account_key())
    }

    /// The certificate in force.
    pub fn certificate(&self) -> Option<&VerifiedCertificate> {
        self.certified.as_ref().map(|held| &held.certificate)
    }

    /// Its proof, to pass on to newcomers of a conversation.
    pub fn certificate_chain(&self) -> Option<&CertificateChain> {
        self.certified.as_ref().map(|held| &held.chain)
    }

    /// The newest device list believed: whom to encrypt for.
    pub fn devices(&self) -> Option<&VerifiedDeviceList> {
        self.listed.as_ref().map(|held| &held.list)
    }

    /// The list as it was signed.
    pub fn device_list_blob(&self) -> Option<&SignedBlob> {
        self.listed.as_ref().map(|held| &held.blob)
    }

    /// The certified new key that waits for the user, for its safety number.
    pub fn pending_key(&self) -> Option<&VerifyingKey> {
        self.pending
            .as_ref()
            .map(|held| held.certificate.account_key())
    }

    /// Whether the user compared the safety number of the key in force.
    pub fn is_verified(&self) -> bool {
        self.verified_key.is_some()
            && self.verified_key.as_ref() == self.account_key().map(VerifyingKey::as_bytes)
    }

    /// Whether it waits for the user's yes.
    pub const fn is_request(&self) -> bool {
        !self.accepted && !self.blocked
    }

    /// Whether the user has blocked it.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// What to do with content that it sent outside a shared conversation. (Inside
    /// one, the membership log decides; only blocking counts.)
    pub const fn incoming(&self) -> Incoming {
        match (self.blocked, self.accepted) {
            (true, _) => Incoming::Drop,
            (false, true) => Incoming::Deliver,
            (false, false) => Incoming::AsRequest,
        }
    }

    /// Takes in what the relay says of this account. Everything is verified here;
    /// what cannot be believed changes nothing but what is said in the notices.
    pub fn observe_record(
        &mut self,
        record: &AccountRecord,
        anchor: &TrustAnchor,
        revocations: Option<&VerifiedRevocations>,
        now: Timestamp,
    ) -> Vec<Notice> {
        if record.account_id != self.account.as_bytes() {
            return vec![Notice::WrongAnswer];
        }
        let mut notices = Vec::new();
        if let Some(chain) = &record.certificate {
            match VerifiedCertificate::verify(chain, self.account, anchor, revocations, now) {
                Ok(certificate) => {
                    let new = Certified {
                        chain: chain.clone(),
                        verified_at: now,
                        certificate,
                    };
                    notices.extend(self.take_certificate(new, revocations.is_some()));
                }
                Err(CertificateError::Missing) => {}
                Err(CertificateError::Revoked) => {
                    // An old certificate that was revoked says nothing about a newer one.
                    if self
                        .certified
                        .as_ref()
                        .is_none_or(|held| held.chain == *chain)
                    {
                        notices.extend(self.revoke());
                    }
                }
                Err(error) => notices.push(Notice::CertificateRefused(error)),
            }
        }
        if let Some(list) = &record.device_list {
            notices.extend(self.take_list(list, anchor));
        }
        notices
    }

    /// Takes in a certificate and lists that came from a member of a conversation
    /// instead of the relay. The same rules hold.
    pub fn observe_evidence(
        &mut self,
        certificate: Option<&CertificateChain>,
        lists: &[SignedBlob],
        anchor: &TrustAnchor,
        revocations: Option<&VerifiedRevocations>,
        now: Timestamp,
    ) -> Vec<Notice> {
        // A member's evidence may be older than what is known: only what is newer counts.
        let mut notices = Vec::new();
        if let Some(chain) = certificate
            && let Ok(certificate) =
                VerifiedCertificate::verify(chain, self.account, anchor, revocations, now)
            && self
                .certified
                .as_ref()
                .is_none_or(|held| certificate.not_before() > held.certificate.not_before())
        {
            let new = Certified {
                chain: chain.clone(),
                verified_at: now,
                certificate,
            };
            notices.extend(self.take_certificate(new, revocations.is_some()));
        }
        let Some(key) = self.account_key().copied() else {
            return notices;
        };
        let mut newer: Vec<_> = lists
            .iter()
            .filter_map(|blob| {
                VerifiedDeviceList::verify(blob, self.account, &key, anchor.deployment())
                    .ok()
                    .map(|list| (list.version(), blob))
            })
            .filter(|(version, _)| {
                self.devices()
                    .is_none_or(|known| *version >= known.version())
            })
            .collect();
        newer.sort_by_key(|(version, _)| *version);
        for (_, blob) in newer {
            notices.extend(self.take_list(blob, anchor));
        }
        notices
    }

    /// Takes in a revocation list.
    pub fn observe_revocations(&mut self, revocations: &VerifiedRevocations) -> Vec<Notice> {
        let covered = revocations.covers_account(self.account)
            || self
                .certificate()
                .is_some_and(|certificate| revocations.covers(certificate));
        if self
            .pending
            .as_ref()
            .is_some_and(|held| revocations.covers(&held.certificate))
        {
            self.pending = None;
        }
        if covered {
            self.revoke().into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// Takes in what one of its devices says, inside a ciphertext, about its own list.
    pub fn observe_own_list(&mut self, device: DeviceId, said: ListRef) -> ListReport {
        if self
            .reported
            .is_some_and(|reported| reported.version == said.version && reported.hash != said.hash)
        {
            return ListReport::Contradicts(self.two_lists(said.version));
        }
        let Some(known) = self.devices() else {
            self.remember(said);
            return ListReport::Fetch;
        };
        let before_known = known.version().checked_sub(1) == Some(said.version);
        let contradicts = (said.version == known.version() && said.hash != known.hash())
            || (before_known && known.prev_hash().is_some_and(|hash| hash != said.hash));
        if contradicts {
            return ListReport::Contradicts(self.two_lists(said.version));
        }
        let listed = known.device(device).is_some();
        match said.version.cmp(&known.version()) {
            std::cmp::Ordering::Greater => {
                self.remember(said);
                ListReport::Fetch
            }
            _ if !listed => ListReport::RemovedDevice,
            std::cmp::Ordering::Equal => ListReport::Agrees,
            std::cmp::Ordering::Less => ListReport::Older,
        }
    }

    /// Whether content may be sent to it, with what the user should know; `now` and
    /// the freshness of revocations matter.
    ///
    /// # Errors
    /// [`Stop`] with the reason and the way out.
    pub fn can_send(&self, freshness: Freshness, now: Timestamp) -> Result<Vec<Warning>, Stop> {
        if self.blocked {
            return Err(Stop::Blocked);
        }
        if self.revoked {
            return Err(Stop::Revoked);
        }
        if let Some(halt) = self.halt {
            return Err(halt.stop());
        }
        let certificate = self.certificate().ok_or(Stop::NotCertified)?;
        let list = self.devices().ok_or(Stop::NoDeviceList)?;
        let mut warnings = Vec::new();
        if now > certificate.not_after().plus_millis(CLOCK_TOLERANCE_MS) {
            warnings.push(Warning::CertificateExpired);
        }
        if list.is_expired(now) {
            warnings.push(Warning::ListExpired);
        }
        match freshness {
            Freshness::Fresh => {}
            Freshness::Stale => warnings.push(Warning::RevocationsStale),
            Freshness::Missing => warnings.push(Warning::RevocationsMissing),
        }
        if let Some(reported) = self.reported
            && reported.version > list.version()
        {
            warnings.push(Warning::ListWithheld {
                known: list.version(),
                reported: reported.version,
            });
        }
        Ok(warnings)
    }

    /// Whether a first session may be opened with it: everything must be in order.
    ///
    /// # Errors
    /// [`Stop`] with the reason and the way out.
    pub fn can_make_first_contact(&self, freshness: Freshness, now: Timestamp) -> Result<(), Stop> {
        match self.can_send(freshness, now)?.first() {
            None => Ok(()),
            Some(warning) => Err(Stop::FirstContact(*warning)),
        }
    }

    /// The user compared the safety number and it is right. Counts for the key in
    /// force, which must be the one whose number was shown.
    pub fn mark_verified(&mut self, shown_key: &VerifyingKey) -> bool {
        let right = self.account_key() == Some(shown_key);
        if right {
            self.verified_key = Some(shown_key.to_bytes());
        }
        right
    }

    /// The user takes the comparison back.
    pub const fn unmark_verified(&mut self) {
        self.verified_key = None;
    }

    /// The user accepts what stopped sending: a changed key, or, after speaking with
    /// the person by another way, lists that contradict each other. Fetch the record
    /// again afterwards.
    pub fn accept_change(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.certified = Some(pending);
            self.verified_key = None;
            self.listed = None;
            self.reported = None;
        } else if self.halt.is_some_and(Halt::is_hard) {
            self.verified_key = None;
            self.listed = None;
            self.reported = None;
        }
        // A key without a certificate is not the user's to accept.
        if self.halt.is_some_and(Halt::is_hard) {
            self.halt = None;
        }
    }

    /// The user accepts a request, or writes to it.
    pub const fn accept_request(&mut self) {
        self.accepted = true;
    }

    /// It proved that it redeemed an invite of this account.
    pub const fn greet(&mut self) {
        self.origin = Origin::Invited;
        self.accepted = true;
    }

    /// The user blocks it.
    pub const fn block(&mut self) {
        self.blocked = true;
    }

    /// The user unblocks it.
    pub const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// `checked` says that the newest revocations were asked: only then does a newer
    /// certificate end a revocation.
    fn take_certificate(&mut self, new: Certified, checked: bool) -> Option<Notice> {
        let Some(held) = &self.certified else {
            self.certified = Some(new);
            self.revoked &= !checked;
            return None;
        };
        let old = &held.certificate;
        let is_newer = new.certificate.not_before() > old.not_before();
        if new.certificate.account_key() == old.account_key() {
            // The one issued later counts; an older one says nothing new.
            if !is_newer {
                return None;
            }
            let changed = (new.certificate.role() != old.role()
                || new.certificate.handle() != old.handle()
                || new.certificate.display_name() != old.display_name())
            .then_some(Notice::DirectoryEntryChanged);
            let outdates_pending = self.pending.as_ref().is_some_and(|pending| {
                pending.certificate.not_before() <= new.certificate.not_before()
            });
            if outdates_pending {
                self.pending = None;
                if self.halt == Some(Halt::VerifiedKeyChanged) {
                    self.halt = None;
                }
            }
            self.certified = Some(new);
            self.revoked &= !checked;
            return changed;
        }
        if !is_newer {
            return Some(Notice::OldCertificate);
        }
        self.revoked &= !checked;
        if self.is_verified() {
            let outdated = self.pending.as_ref().is_some_and(|pending| {
                new.certificate.not_before() < pending.certificate.not_before()
            });
            if outdated {
                return Some(Notice::OldCertificate);
            }
            let again = self.pending.as_ref().is_some_and(|pending| {
                pending.certificate.account_key() == new.certificate.account_key()
            });
            self.pending = Some(new);
            self.halt = Some(Halt::VerifiedKeyChanged);
            return (!again).then_some(Notice::VerifiedKeyChanged);
        }
        self.certified = Some(new);
        self.listed = None;
        self.reported = None;
        self.halt = None;
        Some(Notice::KeyChanged)
    }

    fn take_list(&mut self, blob: &SignedBlob, anchor: &TrustAnchor) -> Vec<Notice> {
        let verify = |key: &VerifyingKey| {
            VerifiedDeviceList::verify(blob, self.account, key, anchor.deployment())
        };
        // The list of a new key that the user has not accepted yet is fetched again later.
        if self.pending_key().is_some_and(|key| verify(key).is_ok()) {
            return Vec::new();
        }
        let Some(key) = self.account_key() else {
            return Vec::new();
        };
        let list = match verify(key) {
            Ok(list) => list,
            Err(DeviceListError::Signature(_)) => return self.uncertified_key(),
            Err(error) => return vec![Notice::ListRefused(error)],
        };
        if self.halt.is_some_and(Halt::is_hard) {
            return Vec::new();
        }
        if self.reported.is_some_and(|reported| {
            reported.version == list.version() && reported.hash != list.hash()
        }) {
            return vec![self.two_lists(list.version())];
        }
        let mut notices = Vec::new();
        if let Some(known) = self.devices() {
            match list.check_replaces(known) {
                Ok(()) => notices.extend(device_changes(known, &list)),
                Err(DeviceListError::Equivocated { version }) => {
                    return vec![self.two_lists(version)];
                }
                Err(DeviceListError::NotASuccessor) => {
                    self.halt = Some(Halt::BrokenChain {
                        version: list.version(),
                    });
                    return vec![Notice::BrokenChain {
                        version: list.version(),
                    }];
                }
                Err(error) => return vec![Notice::ListRefused(error)],
            }
        }
        if let Some(reported) = self.reported {
            if reported.version > list.version() {
                notices.push(Notice::ListWithheld {
                    known: list.version(),
                    reported: reported.version,
                });
            } else {
                self.reported = None;
            }
        }
        // A good record: whatever the relay showed before, the pinned key is in use.
        self.halt = None;
        self.listed = Some(Listed {
            blob: blob.clone(),
            list,
        });
        notices
    }

    fn uncertified_key(&mut self) -> Vec<Notice> {
        if self.halt.is_some() {
            return Vec::new();
        }
        self.halt = Some(Halt::UncertifiedKey);
        vec![Notice::UncertifiedKey]
    }

    fn two_lists(&mut self, version: u64) -> Notice {
        self.halt = Some(Halt::TwoLists { version });
        Notice::TwoLists { version }
    }

    fn remember(&mut self, said: ListRef) {
        if self
            .reported
            .is_none_or(|reported| reported.version < said.version)
        {
            self.reported = Some(said);
        }
    }

    fn revoke(&mut self) -> Option<Notice> {
        let news = !self.revoked;
        self.revoked = true;
        news.then_some(Notice::Revoked)
    }
}

/// Whether an account of this origin may write without asking.
const fn is_expected(origin: Origin) -> bool {
    matches!(origin, Origin::Inviter | Origin::Invited | Origin::Chosen)
}

fn device_changes(known: &VerifiedDeviceList, new: &VerifiedDeviceList) -> Vec<Notice> {
    let mut notices = Vec::new();
    for device in new.devices() {
        if known.device(device.id).is_none() {
            notices.push(Notice::DeviceAdded(device.id));
        }
    }
    for device in known.devices() {
        if new.device(device.id).is_none() {
            notices.push(Notice::DeviceRemoved(device.id));
        }
    }
    notices
}

#[cfg(test)]
mod tests;
