//! What people are told: notices that stay, and notifications that only wake.

use wardline_wire::clock::Timestamp;
use wardline_wire::ids::AccountId;

use crate::api::{ContentId, ConversationId, Partial};
use crate::store::{StoreError, misc};
use crate::turn::Turn;

macro_rules! notice_kinds {
    ($($(#[$doc:meta])* $variant:ident => ($slug:literal, $sentence:literal),)*) => {
        /// What a notice is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum NoticeKind {
            $($(#[$doc])* $variant,)*
        }

        impl NoticeKind {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name for scripts.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The sentence, with `{name}` where the person's name goes.
            const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

notice_kinds! {
    /// The clinic certified this account.
    Certified => ("certified", "The clinic has confirmed your account."),
    /// The issuer refused the enrolment.
    Rejected => ("rejected", "The clinic did not confirm your account. Speak to whoever invited you."),
    /// This device is no longer on the account's list, or the account was revoked.
    OwnRevoked => ("own-revoked", "This device may no longer take part. Speak to the clinic if you did not expect that."),
    /// Our own account shows a list that we did not sign.
    OwnListForged => ("own-list-forged", "The relay shows a device list for your account that this device did not make. Someone may hold your recovery file: tell the clinic at once."),
    /// A device was added to our account.
    OwnDeviceAdded => ("own-device-added", "A device was added to your account. If that was not you, remove it and tell the clinic."),
    /// Someone used an invite that we made.
    InviteRedeemed => ("invite-redeemed", "{name} accepted your invite."),
    /// Somebody we do not know wrote.
    ContactRequest => ("contact-request", "{name} would like to write to you. Accept or block them."),
    /// A contact has a new key, certified by the clinic.
    KeyChanged => ("key-changed", "{name} has a new key, confirmed by the clinic: a new phone, perhaps. Compare safety numbers before you share anything sensitive."),
    /// A verified contact has a new key: sending stops.
    KeyChangedStopped => ("key-changed-stopped", "{name} has a new key, and you had compared safety numbers. Nothing is sent until you have checked with them and accepted the new key."),
    /// A contact's certificate is no longer good.
    AccountRevoked => ("account-revoked", "{name} may no longer take part: the clinic has revoked the account. Nothing is sent to them."),
    /// A contact added a device.
    DeviceAdded => ("device-added", "{name} now also uses another device."),
    /// A contact removed a device.
    DeviceRemoved => ("device-removed", "{name} removed a device. Nothing more is sent to it."),
    /// The relay shows a key that the clinic has not certified.
    UncertifiedKey => ("uncertified-key", "The relay shows another key for {name} that the clinic has not confirmed. Nothing is sent. Tell the clinic's administrator."),
    /// The clinic changed role, handle or name.
    DirectoryChanged => ("directory-changed", "The clinic changed the directory entry of {name}."),
    /// The relay shows an older list than the contact speaks of.
    ListWithheld => ("list-withheld", "{name} has changed devices, but the relay still shows the old list. New devices of {name} will not get your messages."),
    /// A list that does not build on the known one.
    ListBroken => ("list-broken", "The new device list of {name} does not build on the one before. Their key may be in wrong hands: nothing is sent. Speak to them by another way."),
    /// Two lists with one version.
    ListEquivocated => ("list-equivocated", "Two different device lists were shown for {name}. Their key may be in wrong hands: nothing is sent. Speak to them by another way."),
    /// The relay shows an older list.
    ListRolledBack => ("list-rolled-back", "The relay shows an old device list for {name}. The newer one that is known stays in use."),
    /// The relay's answer about somebody does not hold.
    RecordRefused => ("record-refused", "The relay's answer about {name} could not be confirmed, and was not used."),
    /// A bundle does not fit the list.
    BundleRefused => ("bundle-refused", "The relay offered keys for {name} that do not belong to them. They were not used. Tell the clinic's administrator."),
    /// The relay insists on devices that the verified list does not name.
    MismatchDisputed => ("mismatch-disputed", "The relay and the signed device list of {name} disagree, so messages to them wait. Tell the clinic's administrator if this stays."),
    /// The revocation list is overdue.
    RevocationsStale => ("revocations-stale", "The clinic's list of revoked accounts is out of date. New contacts cannot be checked until it is renewed."),
    /// A revocation list that does not hold.
    RevocationsRefused => ("revocations-refused", "The relay showed a list of revoked accounts that could not be confirmed. The known one stays in use."),
    /// Messages are missing.
    Gap => ("gap", "Messages from {name} are missing. They were asked to send them again."),
    /// Missing messages that did not come.
    GapStays => ("gap-stays", "Messages from {name} were lost and did not come again. Ask them what they wrote."),
    /// A membership operation that does not count.
    OperationRefused => ("operation-refused", "A change to a conversation by {name} was not allowed, and does not count."),
    /// An envelope that could not be used.
    Quarantined => ("quarantined", "A message from {name} could not be read and was set aside. They were asked to send it again if possible."),
    /// The sender used an old list of our devices, or claims another of their own.
    ListMismatch => ("list-mismatch", "{name} and this device do not see the same device list. It is being checked."),
    /// A recipient's mailbox is full.
    MailboxFull => ("mailbox-full", "{name}'s mailbox is full. Your message waits until they have been online."),
    /// A recipient takes nothing.
    SendBlocked => ("send-blocked", "{name} cannot be reached: the account is closed or takes no messages from you."),
    /// A message could not be sent at all.
    SendFailed => ("send-failed", "A message to {name} could not be sent."),
    /// Something about a conversation.
    Conversation => ("conversation", "A conversation has changed."),
    /// A link request was answered.
    DeviceLinked => ("device-linked", "This device now belongs to your account."),
}

/// Something a person should know. Kept until the profile is deleted.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Grows; use it with `notices(after)`.
    pub id: u64,
    /// When it happened, by this device's clock.
    pub at: Timestamp,
    /// What it is about.
    pub kind: NoticeKind,
    /// Whom it concerns.
    pub account: Option<AccountId>,
    /// Which conversation it concerns.
    pub conversation: Option<ConversationId>,
    /// A sentence that a nurse can act on.
    pub text: String,
    /// The technical reason, for administrators; may be empty.
    pub detail: String,
}

impl Notice {
    /// Stores a notice and wakes subscribers.
    pub(crate) async fn add(
        turn: &mut Turn<'_>,
        kind: NoticeKind,
        account: Option<AccountId>,
        conversation: Option<ConversationId>,
        detail: &str,
    ) -> Result<(), StoreError> {
        let id = misc::add_notice(
            turn.db,
            kind.slug(),
            account,
            conversation.as_ref().map(|id| id.as_bytes().as_slice()),
            detail,
            turn.now,
        )
        .await?;
        turn.notify(Notification::Notice { id });
        Ok(())
    }

    /// About an account.
    pub(crate) async fn about(
        turn: &mut Turn<'_>,
        kind: NoticeKind,
        account: AccountId,
        detail: &str,
    ) -> Result<(), StoreError> {
        Self::add(turn, kind, Some(account), None, detail).await
    }

    /// About an account, unless the same was said within a day.
    pub(crate) async fn about_once_a_day(
        turn: &mut Turn<'_>,
        kind: NoticeKind,
        account: AccountId,
        detail: &str,
    ) -> Result<(), StoreError> {
        let since = turn.now.minus_millis(24 * 3_600_000);
        if misc::noticed_since(turn.db, kind.slug(), account, since).await? {
            return Ok(());
        }
        Self::about(turn, kind, account, detail).await
    }

    /// About our own account, unless the same was said within a day.
    pub(crate) async fn once_a_day(
        turn: &mut Turn<'_>,
        kind: NoticeKind,
        detail: &str,
    ) -> Result<(), StoreError> {
        let own = turn.own_account();
        Self::about_once_a_day(turn, kind, own, detail).await
    }

    /// From a stored row; `name` is how the person is called here.
    pub(crate) fn from_row(row: misc::NoticeRow, name: &str) -> Option<Self> {
        let kind = NoticeKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.slug() == row.kind)?;
        Some(Self {
            id: row.id,
            at: row.at,
            kind,
            account: row.account,
            conversation: row
                .conversation
                .and_then(|id| ConversationId::from_slice(&id).ok()),
            text: kind.sentence().replace("{name}", name),
            detail: row.detail,
        })
    }
}

/// How the connection to the relay stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not started.
    Stopped,
    /// Trying, or waiting for the next try.
    Connecting {
        /// Why the last try failed; empty before the first.
        reason: String,
    },
    /// Open.
    Connected,
    /// The relay will not have us: another socket took over, or we were revoked.
    Refused {
        /// In plain words.
        reason: String,
    },
}

/// A wake-up. The store is the truth: what is missed here is still there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notification {
    /// A message was stored, received or own.
    Message {
        /// Its local id.
        local_id: u64,
        /// Its conversation.
        conversation: ConversationId,
    },
    /// A stored message changed: edited, deleted, reacted to, expired.
    MessageChanged {
        /// Its local id.
        local_id: u64,
    },
    /// Where an own message stands changed for somebody.
    Delivery {
        /// Which content.
        content_id: ContentId,
    },
    /// A conversation is new or has changed.
    Conversation {
        /// Which.
        conversation: ConversationId,
    },
    /// A contact is new or has changed.
    Contact {
        /// Which.
        account: AccountId,
    },
    /// A notice was stored.
    Notice {
        /// Its id.
        id: u64,
    },
    /// A job was stored.
    Job,
    /// Someone types, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        account: AccountId,
        /// Whether they began or stopped.
        typing: bool,
    },
    /// A part of an answer that is still being written.
    Partial(Partial),
    /// The connection changed.
    Connection(ConnectionState),
    /// Own state changed: certified, rejected, revoked, linked.
    Own,
}
