//! One turn of the actor: what it may touch, and what happens once it has committed.
//!
//! Everything that changes state runs inside a turn, on one database transaction. A turn does no
//! network I/O: it leaves [`Effects`], and the actor carries them out after the commit. So nothing
//! leaves the device that a crash could make it forget.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use wardline_crypto::identity::LocalIdentity;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::AccountId;
use wardline_wire::proto::{ClientFrame, PreKeyUpload, SignedBlob};

use crate::membership::Logs;
use crate::notice::Notification;
use crate::store::own::Own;

/// Who this device is, ready for use. Shared, never changed: a change makes a new one.
pub(crate) struct Identity {
    pub(crate) own: Own,
    pub(crate) local: LocalIdentity,
    pub(crate) anchor: TrustAnchor,
    /// Whether received texts become jobs.
    pub(crate) jobs: bool,
}

/// A call to the relay that a turn asks for. Equal calls run once at a time.
#[derive(Clone)]
pub(crate) enum Call {
    /// The account's record: certificate and device list.
    Account(AccountId),
    /// Prekey bundles of an account's devices.
    Bundles {
        account: AccountId,
        devices: Vec<u32>,
        access_key: Option<[u8; 16]>,
    },
    /// Upload prekeys.
    Upload(Box<PreKeyUpload>),
    /// How many prekeys the relay has.
    Stock,
    /// The revocation list.
    Revocations,
    /// Publish our device list.
    DeviceList(Box<SignedBlob>),
}

/// What tells calls apart while they run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallKey {
    Account(AccountId),
    Bundles(AccountId),
    Keys,
    Revocations,
    DeviceList,
}

impl Call {
    pub(crate) fn key(&self) -> CallKey {
        match self {
            Self::Account(account) => CallKey::Account(*account),
            Self::Bundles { account, .. } => CallKey::Bundles(*account),
            Self::Upload(_) | Self::Stock => CallKey::Keys,
            Self::Revocations => CallKey::Revocations,
            Self::DeviceList(_) => CallKey::DeviceList,
        }
    }
}

/// What happens after the commit, and only then.
#[derive(Default)]
pub(crate) struct Effects {
    /// Frames for the open socket, if there is one; lost otherwise.
    pub(crate) frames: Vec<ClientFrame>,
    pub(crate) calls: Vec<Call>,
    pub(crate) notifications: Vec<Notification>,
    /// The outbox may have something to send.
    pub(crate) outbox_changed: bool,
    /// `own` changed: load it again.
    pub(crate) own_changed: bool,
}

/// Lengths of [`Effects`], to take back what a failed part of a turn asked for.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    frames: usize,
    calls: usize,
    notifications: usize,
}

impl Effects {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            frames: self.frames.len(),
            calls: self.calls.len(),
            notifications: self.notifications.len(),
        }
    }

    pub(crate) fn take_back(&mut self, mark: Mark) {
        self.frames.truncate(mark.frames);
        self.calls.truncate(mark.calls);
        self.notifications.truncate(mark.notifications);
    }
}

/// One turn. Borrowed by every module that changes state.
pub(crate) struct Turn<'a> {
    pub(crate) db: &'a mut SqliteConnection,
    pub(crate) now: Timestamp,
    pub(crate) identity: Arc<Identity>,
    /// Membership logs in memory. Forgotten whenever something is taken back.
    pub(crate) logs: &'a mut Logs,
    pub(crate) effects: Effects,
}

impl Turn<'_> {
    /// Own account.
    pub(crate) fn own_account(&self) -> AccountId {
        self.identity.own.address.account
    }

    /// Asks for a call after the commit.
    pub(crate) fn call(&mut self, call: Call) {
        self.effects.calls.push(call);
    }

    /// Tells subscribers after the commit.
    pub(crate) fn notify(&mut self, notification: Notification) {
        self.effects.notifications.push(notification);
    }
}
