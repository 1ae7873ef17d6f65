//! What the API takes and gives.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use wardline_wire::clock::{Clock, SystemClock, Timestamp};
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
use wardline_wire::proto::Role;

pub use crate::content::{
    AiAlert, AiAnswer, AiPartial, AiProvenance, Attachment, ContentError, ContentId,
    ConversationId, Mention, Text,
};
pub use crate::directory::RecordFault;
pub use crate::enrol::EnrolError;
pub use crate::notice::{ConnectionState, Notice, NoticeKind, Notification};
pub use crate::outbox::DeliveryState;
pub use crate::profile::{ProfileError, Unlock};
pub use crate::relay::RelayError;
pub use crate::store::StoreError;
pub use crate::store::accounts::Relation;
pub use crate::store::conversations::ConversationState;
pub use crate::store::own::OwnState;
use crate::transport::{Connector, Network};

/// Where a profile lives, what opens it, and what it is for.
#[derive(Clone)]
pub struct ProfileConfig {
    /// The profile's folder.
    pub dir: PathBuf,
    /// What unlocks it.
    pub unlock: Unlock,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether received texts become jobs (an AI endpoint).
    pub jobs: bool,
    /// The name that contacts are shown at enrolment. A patient's only name; others have one in
    /// their certificate.
    pub name: String,
    /// How the relay is reached.
    pub connector: Arc<dyn Connector>,
}

impl ProfileConfig {
    /// A profile in `dir`, on the real network and by the system's clock.
    pub fn new(dir: impl Into<PathBuf>, unlock: Unlock) -> Self {
        Self {
            dir: dir.into(),
            unlock,
            clock: Arc::new(SystemClock),
            jobs: false,
            name: String::new(),
            connector: Arc::new(Network),
        }
    }
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct OwnAccount {
    /// Account and device.
    pub address: DeviceAddress,
    /// What the clinic certified, or will.
    pub role: Role,
    /// Where this device stands.
    pub state: OwnState,
    /// The certified handle, if any.
    pub handle: Option<String>,
    /// The name others see.
    pub name: String,
    /// The relay's address.
    pub relay_url: String,
    /// Whether this device holds the account key: it adds and removes devices.
    pub is_primary: bool,
}

/// Somebody we know.
#[derive(Clone)]
pub struct Contact {
    /// Their account.
    pub account: AccountId,
    /// Their certified role.
    pub role: Role,
    /// Their certified handle, if any.
    pub handle: Option<String>,
    /// How they are called here: our label, else the certified name, else their own name for
    /// themselves, else the start of the account id.
    pub name: String,
    /// Our private label.
    pub label: Option<String>,
    /// How they stand to us.
    pub relation: Relation,
    /// Whether safety numbers were compared for their current key.
    pub verified: bool,
    /// Why sending stopped (a notice's slug); `None` while it has not.
    pub halted: Option<String>,
    /// Whether a new key waits for acceptance.
    pub key_change_pending: bool,
    /// Devices on their verified list.
    pub devices: Vec<DeviceId>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("account", &self.account)
            .field("role", &self.role)
            .field("relation", &self.relation)
            .finish_non_exhaustive()
    }
}

/// A member of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which account.
    pub account: AccountId,
    /// Whether they manage the conversation.
    pub owner: bool,
}

/// A conversation.
#[derive(Clone)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Two people and no title.
    pub direct: bool,
    /// Its title; for a direct conversation the other one's name.
    pub title: String,
    /// How it stands to us.
    pub state: ConversationState,
    /// Its members, ourselves included.
    pub members: Vec<Member>,
    /// Whether no member objects to the AI.
    pub ai_on: bool,
    /// Seconds after reading until messages disappear; 0 for never.
    pub timer_seconds: u64,
    /// Newest message, 0 for none.
    pub last_local_id: u64,
    /// Messages of others that were not read here.
    pub unread: u64,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// What a message says. Nothing of it prints.
#[derive(Clone)]
#[non_exhaustive]
pub enum MessageBody {
    /// Words of a person.
    Text(Text),
    /// A complete answer of an AI endpoint.
    Answer(AiAnswer),
    /// An alert of an AI endpoint.
    Alert(AiAlert),
    /// Pointer to a file.
    Attachment(Attachment),
    /// The conversation changed.
    Change(ConversationChange),
    /// About an escrow policy, in plain words.
    EscrowNotice(String),
    /// Deleted by its author.
    Deleted,
    /// Sent by a newer version of Wardline.
    Newer,
}

/// A change to a conversation, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConversationChange {
    /// It was opened.
    Created,
    /// Somebody was added.
    Added(AccountId),
    /// Somebody was removed.
    Removed(AccountId),
    /// The author left.
    Left,
    /// Somebody became an owner.
    Promoted(AccountId),
    /// Somebody is no longer an owner.
    Demoted(AccountId),
    /// The title changed.
    Title,
    /// The disappearing timer changed; seconds, 0 for off.
    Timer(u32),
    /// The author objects to the AI.
    AiOff,
    /// The author no longer objects.
    AiOn,
}

/// A message as stored on this device.
#[derive(Clone)]
pub struct Message {
    /// Grows over received and own messages, in stored order.
    pub local_id: u64,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its id everywhere.
    pub content_id: ContentId,
    /// Who sent it.
    pub sender: DeviceAddress,
    /// Whether our account sent it.
    pub own: bool,
    /// The sender's clock. Shown, never used for order.
    pub sent_at: Timestamp,
    /// When it was stored, by our clock.
    pub stored_at: Timestamp,
    /// What it says, the newest wording.
    pub body: MessageBody,
    /// Whether its author changed the wording.
    pub edited: bool,
    /// Reactions.
    pub reactions: Vec<(AccountId, String)>,
    /// When we read it; `None` for unread and own ones.
    pub read_at: Option<Timestamp>,
    /// When it disappears.
    pub disappears_at: Option<Timestamp>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("local_id", &self.local_id)
            .field("conversation", &self.conversation)
            .field("content_id", &self.content_id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// Which messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageFilter {
    /// Of one conversation; of all if `None`.
    pub conversation: Option<ConversationId>,
    /// Only those after this local id, oldest first. 0 for the beginning.
    pub after: u64,
    /// Only those before this local id: then the newest ones, still oldest first.
    pub before: Option<u64>,
    /// At most this many; 0 for 100, never more than 1000.
    pub limit: u32,
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// Its place in this device's order.
    pub local_id: u64,
    /// Its id everywhere.
    pub content_id: ContentId,
}

/// Where an own message stands with one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientStatus {
    /// Who.
    pub account: AccountId,
    /// How far.
    pub state: DeliveryState,
    /// Since when.
    pub at: Timestamp,
}

/// A part of an answer that is still being written. Ephemeral.
#[derive(Clone, Debug)]
pub struct Partial {
    /// Where.
    pub conversation: ConversationId,
    /// The AI endpoint.
    pub sender: AccountId,
    /// How far it is.
    pub partial: AiPartial,
}

/// A question for an AI endpoint.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id, for `finish_job`.
    pub id: u64,
    /// The message that asks.
    pub message: Message,
}

/// What finishes a job.
#[derive(Clone)]
pub struct OutgoingAnswer {
    /// From `derived_content_id`, so that a repeated run sends the same answer, once.
    pub content_id: ContentId,
    /// The answer.
    pub answer: AiAnswer,
    /// Alerts to the clinicians of the conversation that go with it.
    pub alerts: Vec<AiAlert>,
}

/// One of our own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its number.
    pub id: DeviceId,
    /// When it was added.
    pub added_at: Timestamp,
    /// Whether it is this one.
    pub this: bool,
}

/// A safety number: equal on both sides if nobody sits in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyNumber {
    /// Sixty digits.
    pub digits: String,
}

impl SafetyNumber {
    /// Twelve groups of five digits.
    pub fn groups(&self) -> Vec<&str> {
        self.digits
            .as_bytes()
            .chunks(5)
            .filter_map(|group| std::str::from_utf8(group).ok())
            .collect()
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.groups().join(" "))
    }
}

/// Why something was not done. Each says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The profile does not open.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Enrolment stopped.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The relay could not be reached or refused.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Somebody's record does not hold.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// The profile has no account yet.
    #[error("this profile is not enrolled yet; start with an invite link")]
    NotEnrolled,
    /// The clinic has not certified us yet.
    #[error("the clinic has not confirmed your account yet; wait a moment and try again")]
    NotCertified,
    /// We were revoked or rejected.
    #[error("this device may not take part any more; speak to the clinic")]
    Revoked,
    /// No such conversation here.
    #[error("there is no such conversation on this device")]
    UnknownConversation,
    /// No such account is known here.
    #[error("this account is not known here; look it up by its handle, or ask for an invite")]
    UnknownContact,
    /// No such message here.
    #[error("there is no such message on this device")]
    UnknownMessage,
    /// We are not in it any more.
    #[error("you are no longer a member of this conversation")]
    NotMember,
    /// The conversation is still a request.
    #[error("accept the request first")]
    StillRequest,
    /// Only owners may.
    #[error("only an owner of the conversation may do this")]
    NotOwner,
    /// The log does not allow it.
    #[error("this change to the conversation is not allowed: {0}")]
    NotAllowed(String),
    /// What should be sent is not valid.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Too long, empty, or not valid.
    #[error("{0}")]
    Invalid(&'static str),
    /// Only the primary device may.
    #[error("only the account's first device can do this")]
    NotPrimary,
    /// A code for linking does not fit.
    #[error("the code is not complete or not meant for this; copy it again")]
    LinkCode,
    /// It took too long.
    #[error("it took too long; check the connection and try again")]
    TimedOut,
    /// The relay will not have us.
    #[error("{0}")]
    Refused(String),
    /// The client was shut down.
    #[error("the client was shut down")]
    Stopped,
}
