//! What the relay keeps, behind one trait: SQL and nothing else.
//!
//! A method is a transaction. What is decided from what was read (which
//! ciphertexts fit which devices, say) is decided by the pure functions of the
//! callers and of [`plan`](crate::mailbox::plan), so that a second database
//! brings SQL and no rules of its own.

pub(crate) mod sqlite;
#[cfg(test)]
pub(crate) mod suite;

use async_trait::async_trait;
use bytes::Bytes;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId, InviteId, Serial};
use wardline_wire::proto::{AccountStatus, Role};

use crate::mailbox::plan::{Caps, Plan, QueuedSend, RecipientState};

/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

/// Days since the Unix epoch: as coarse as times of traffic are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub(crate) u64);

impl Day {
    pub(crate) const fn of(time: Timestamp) -> Self {
        Self(time.as_millis() / DAY_MS)
    }
}

/// Why the database did not do it. None of it is the caller's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused or could not be reached.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A row does not read as what it should be.
    #[error("the database holds something unreadable in {0}; restore it from a backup")]
    Corrupt(&'static str),
    /// No randomness from the operating system.
    #[error("the operating system gave no randomness")]
    Randomness,
}

pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The one row of facts about this relay.
#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) token_seed: [u8; 32],
    pub(crate) privacy_key: [u8; 32],
}

/// An account, as stored.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    /// The Ed25519 account key.
    pub(crate) key: [u8; 32],
    pub(crate) status: AccountStatus,
    pub(crate) access_key_sha256: [u8; 32],
    /// Encoded `SignedBlob`.
    pub(crate) device_list: Vec<u8>,
    /// Encoded `CertificateChain`.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// A device of a list, as stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NewDevice {
    pub(crate) id: DeviceId,
    pub(crate) identity_key: [u8; 33],
    pub(crate) registration_id: u32,
    pub(crate) device_key: [u8; 32],
}

/// A verified enrolment.
pub(crate) struct NewAccount {
    pub(crate) invite: InviteId,
    pub(crate) id: AccountId,
    pub(crate) account_key: [u8; 32],
    pub(crate) access_key_sha256: [u8; 32],
    pub(crate) device_list: Vec<u8>,
    pub(crate) devices: Vec<NewDevice>,
    /// The request as received, for the issuer.
    pub(crate) request: Vec<u8>,
}

/// How an enrolment ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Enrolled {
    /// The account is new.
    New,
    /// The same account with the same key redeemed the same invite before.
    Again,
    /// No such invite was admitted.
    UnknownInvite,
    /// The invite is over.
    Expired,
    /// The invite was redeemed by somebody else.
    InviteUsed,
    /// The account id belongs to somebody else.
    AccountTaken,
}

/// An invite as admitted.
pub(crate) struct Invite {
    pub(crate) id: InviteId,
    pub(crate) role: Role,
    pub(crate) expires_at: Timestamp,
    pub(crate) sealed_request: Vec<u8>,
}

/// Whether a write found its place free, taken by the same or by something else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Stored,
    Same,
    Conflict,
}

/// What is stored of a verified certificate.
pub(crate) struct NewCertificate {
    pub(crate) account: AccountId,
    /// Encoded `CertificateChain`.
    pub(crate) chain: Vec<u8>,
    pub(crate) serial: Serial,
    pub(crate) issuer: Serial,
    pub(crate) role: Role,
    pub(crate) handle: Option<String>,
    /// End of the certificate or of its issuer, whichever is first.
    pub(crate) until: Timestamp,
}

/// How a certificate was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Certified {
    /// Stored; `sessions_end` when status or role changed.
    Stored { sessions_end: bool },
    /// There is no such account.
    UnknownAccount,
    /// Another account has the handle.
    HandleTaken,
}

/// How a rejection was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Rejected, now or before.
    Done,
    /// There is no such account.
    UnknownAccount,
    /// It is certified: revocation is the way.
    Certified,
}

/// A verified device list that takes the place of the stored one.
pub(crate) struct NewDeviceList {
    pub(crate) account: AccountId,
    /// Version that must be stored at this moment.
    pub(crate) replaces: u64,
    pub(crate) version: u64,
    /// Encoded `SignedBlob`.
    pub(crate) blob: Vec<u8>,
    pub(crate) devices: Vec<NewDevice>,
}

/// What revocation takes back, from a verified list.
pub(crate) struct NewRevocations {
    pub(crate) number: u64,
    /// Encoded `RevocationBundle`.
    pub(crate) bundle: Vec<u8>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) certificates: Vec<Serial>,
    pub(crate) issuers: Vec<Serial>,
}

/// What decides whether a device's token still counts.
#[derive(Clone)]
pub(crate) struct DeviceStanding {
    /// The account's status; `Pending` once its certificate has run out.
    pub(crate) status: AccountStatus,
    pub(crate) role: Role,
    pub(crate) auth_epoch: u64,
    pub(crate) removed: bool,
    pub(crate) device_key: [u8; 32],
    pub(crate) device_list_version: u64,
}

/// Prekeys of one upload, lengths checked.
pub(crate) struct NewPreKeys {
    pub(crate) signed: Option<SignedKey>,
    pub(crate) last_resort_kyber: Option<SignedKey>,
    pub(crate) one_time: Vec<OneTimeKey>,
    pub(crate) one_time_kyber: Vec<SignedKey>,
}

/// A prekey with its signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignedKey {
    pub(crate) id: u32,
    pub(crate) public_key: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// A prekey without one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OneTimeKey {
    pub(crate) id: u32,
    pub(crate) public_key: Vec<u8>,
}

/// What is left of a device's prekeys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) mailbox_epoch: u64,
    pub(crate) one_time: u32,
    pub(crate) one_time_kyber: u32,
    /// 0 for none.
    pub(crate) signed_id: u32,
    /// 0 for none.
    pub(crate) last_resort_kyber_id: u32,
}

/// How an upload of prekeys ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    Stored(Stock),
    /// Prepared under another mailbox epoch.
    OtherEpoch,
    /// An id that is held, or was.
    IdTaken,
    /// The device is gone.
    UnknownDevice,
}

/// One device's prekeys for one initiator.
pub(crate) struct Bundle {
    pub(crate) device: DeviceId,
    pub(crate) registration_id: u32,
    pub(crate) identity_key: Vec<u8>,
    pub(crate) signed: SignedKey,
    pub(crate) kyber: SignedKey,
    pub(crate) kyber_is_last_resort: bool,
    pub(crate) one_time: Option<OneTimeKey>,
    /// One-time prekeys left after this one, of both kinds.
    pub(crate) left: (u32, u32),
}

/// Bundles of an account's devices.
pub(crate) struct Bundles {
    pub(crate) bundles: Vec<Bundle>,
    /// Listed devices without prekeys.
    pub(crate) without_keys: Vec<DeviceId>,
}

/// An envelope in a mailbox, as an operator sees it.
pub(crate) struct HeldEnvelope {
    /// Account whose mailbox it is in, 16 bytes.
    pub(crate) account: Vec<u8>,
    pub(crate) device: u32,
    pub(crate) seq: u64,
    pub(crate) ciphertext: Vec<u8>,
}

/// A stored envelope on its way out.
pub(crate) struct StoredEnvelope {
    pub(crate) seq: u64,
    pub(crate) sender_account: Vec<u8>,
    pub(crate) sender_device: u32,
    pub(crate) kind: i32,
    pub(crate) ciphertext: Bytes,
}

/// One batch out of a mailbox, with what decides whether it may be handed out,
/// read in the same transaction.
pub(crate) struct MailboxBatch {
    pub(crate) standing: Option<DeviceStanding>,
    pub(crate) mailbox_epoch: u64,
    /// Sequence of the newest envelope ever stored, 0 for none.
    pub(crate) newest: u64,
    pub(crate) envelopes: Vec<StoredEnvelope>,
    /// Whether there are more behind them.
    pub(crate) more: bool,
}

/// Everything up to `seq` is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) device: DeviceAddress,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

/// The relay's database.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    // The relay itself.
    async fn meta(&self) -> Result<Meta>;
    async fn auth_generation(&self) -> Result<u64>;
    /// Raises the mailbox epoch, drops one-time prekeys, replaces the token key
    /// and ends every session. Returns the new epoch.
    async fn raise_epoch(&self, now: Timestamp) -> Result<u64>;
    /// Closes the database. Nothing may be asked of it afterwards.
    async fn close(&self);
    /// What the mailboxes hold, at most `limit` envelopes.
    async fn held(&self, limit: u32) -> Result<Vec<HeldEnvelope>>;
    /// Writes something and takes it back.
    async fn check_writable(&self) -> Result<()>;
    /// Drops what has outlived its days. Returns how many envelopes expired.
    async fn expire(&self, now: Timestamp, keep: Retention) -> Result<u64>;

    // Directory.
    async fn admit(&self, invite: &Invite) -> Result<Placed>;
    async fn enrol(&self, account: &NewAccount, now: Timestamp) -> Result<Enrolled>;
    async fn account(&self, id: AccountId, now: Timestamp) -> Result<Option<Account>>;
    async fn account_by_handle(&self, handle: &str, now: Timestamp) -> Result<Option<Account>>;
    /// Encoded `EnrolmentRequest`s with their sealed requests, at most `limit`.
    async fn pending_enrolments(&self, limit: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    async fn certify(&self, certificate: &NewCertificate) -> Result<Certified>;
    async fn reject(&self, account: AccountId) -> Result<Rejected>;
    /// Returns the devices that are gone, or `None` when another list came first.
    async fn replace_device_list(&self, list: &NewDeviceList) -> Result<Option<Vec<DeviceId>>>;
    async fn set_access_key(&self, account: AccountId, sha256: [u8; 32]) -> Result<()>;
    async fn standing(
        &self,
        device: DeviceAddress,
        now: Timestamp,
    ) -> Result<Option<DeviceStanding>>;
    async fn publish_issuer(&self, serial: Serial, blob: &[u8], not_after: Timestamp)
    -> Result<()>;
    /// Encoded `SignedBlob`s, the newest end of validity first, at most `limit`.
    async fn issuers(&self, limit: u32) -> Result<Vec<Vec<u8>>>;
    /// Encoded `RevocationBundle`.
    async fn revocations(&self) -> Result<Option<Vec<u8>>>;
    /// Stores the list unless a higher number is stored, and revokes. Returns the
    /// accounts whose sessions end, or `None` for a list that is too old.
    async fn revoke(&self, revocations: &NewRevocations) -> Result<Option<Vec<AccountId>>>;

    // Prekeys.
    async fn upload_prekeys(
        &self,
        device: DeviceAddress,
        epoch: u64,
        keys: &NewPreKeys,
    ) -> Result<Uploaded>;
    async fn prekey_stock(&self, device: DeviceAddress) -> Result<Option<Stock>>;
    /// Takes one bundle a device; a one-time prekey is never given twice. Empty
    /// `wanted` means all. Returned only after the commit.
    async fn take_bundles(
        &self,
        account: AccountId,
        wanted: &[DeviceId],
        except: Option<DeviceId>,
        today: Day,
    ) -> Result<Bundles>;

    // Mailboxes.
    /// One transaction for all: reads what the sends are about, plans, writes, and
    /// deletes what was acknowledged. An `Ok` means that it is durable.
    async fn accept(
        &self,
        sends: &[QueuedSend],
        acks: &[Ack],
        caps: Caps,
        today: Day,
    ) -> Result<Plan>;
    /// The accounts' devices, as `accept` sees them.
    async fn recipients(&self, accounts: &[AccountId]) -> Result<Vec<RecipientState>>;
    async fn drain(
        &self,
        device: DeviceAddress,
        after: u64,
        max: BatchSize,
        now: Timestamp,
    ) -> Result<MailboxBatch>;
}

/// For how many days what is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Envelopes that wait.
    pub(crate) envelopes: u64,
    /// Accepted sends.
    pub(crate) sends: u64,
    /// Ids of taken one-time prekeys.
    pub(crate) prekey_ids: u64,
}

/// Bounds of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    pub(crate) envelopes: u32,
    /// At least one envelope goes, however large.
    pub(crate) bytes: u64,
}
