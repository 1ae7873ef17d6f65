//! What linked devices of one account tell each other.

use wardline_wire::clock::Timestamp;
use wardline_wire::ids::AccountId;

use super::check::{array, bad, list, non_printing, text};
use super::{AccessKey, ContentError, ContentId, ConversationId, ConversationTitle};
use crate::proto;

const MAX_ENTRIES: usize = 256;
const MAX_READ: usize = 512;

/// Between own devices only.
#[derive(Clone, PartialEq)]
pub enum DeviceSync {
    /// A new device asks for everything.
    Request,
    /// Conversations as the user arranged them.
    Conversations(Vec<SyncConversation>),
    /// Contacts; the receiving device still verifies each account.
    Contacts(Vec<SyncContact>),
    /// Read on another device.
    Read(Vec<ContentId>),
    /// Of a newer version; ignored.
    Unknown,
}

/// One conversation as the user arranged it.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncConversation {
    /// Which.
    pub conversation: ConversationId,
    /// Its title.
    pub title: Option<ConversationTitle>,
    /// No notifications until then; the epoch for not muted.
    pub muted_until: Timestamp,
    /// Put away.
    pub archived: bool,
    /// Accepted, or still a request.
    pub accepted: bool,
}

/// One contact.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncContact {
    /// Who.
    pub account: AccountId,
    /// Pinned account key.
    pub account_key: Option<[u8; 32]>,
    /// How to reach it.
    pub access_key: Option<AccessKey>,
    /// The user's own label.
    pub label: String,
    /// The safety number with `account_key` was compared.
    pub verified: bool,
    /// Blocked by the user.
    pub blocked: bool,
    /// Accepted, or still a request.
    pub accepted: bool,
}

non_printing!(DeviceSync, SyncConversation, SyncContact);

impl DeviceSync {
    pub(super) fn read(wire: proto::DeviceSync) -> Result<Self, ContentError> {
        use proto::device_sync::Kind;
        Ok(match wire.kind {
            None => Self::Unknown,
            Some(Kind::Request(_)) => Self::Request,
            Some(Kind::Conversations(wire)) => Self::Conversations(list(
                &wire.conversations,
                1..=MAX_ENTRIES,
                "conversations",
                SyncConversation::read,
            )?),
            Some(Kind::Contacts(wire)) => Self::Contacts(list(
                &wire.contacts,
                1..=MAX_ENTRIES,
                "contacts",
                SyncContact::read,
            )?),
            Some(Kind::Read(wire)) => {
                Self::Read(list(&wire.content_ids, 1..=MAX_READ, "read", |id| {
                    ContentId::from_slice(id).map_err(bad("read"))
                })?)
            }
        })
    }

    pub(super) fn write(&self) -> Result<proto::DeviceSync, ContentError> {
        use proto::device_sync::Kind;
        let kind = match self {
            Self::Request => Kind::Request(proto::SyncRequest {}),
            Self::Conversations(conversations) => Kind::Conversations(proto::SyncConversations {
                conversations: conversations.iter().map(SyncConversation::write).collect(),
            }),
            Self::Contacts(contacts) => Kind::Contacts(proto::SyncContacts {
                contacts: contacts.iter().map(SyncContact::write).collect(),
            }),
            Self::Read(ids) => Kind::Read(proto::SyncRead {
                content_ids: ids.iter().map(ContentId::to_vec).collect(),
            }),
            Self::Unknown => return Err(ContentError::NoKind),
        };
        Ok(proto::DeviceSync { kind: Some(kind) })
    }
}

impl SyncConversation {
    fn read(wire: &proto::SyncConversation) -> Result<Self, ContentError> {
        Ok(Self {
            conversation: ConversationId::from_slice(&wire.conversation_id)
                .map_err(bad("conversation"))?,
            title: wire
                .title
                .as_ref()
                .map(ConversationTitle::read)
                .transpose()?,
            muted_until: Timestamp::from_millis(wire.muted_until_ms),
            archived: wire.archived,
            accepted: wire.accepted,
        })
    }

    fn write(&self) -> proto::SyncConversation {
        proto::SyncConversation {
            conversation_id: self.conversation.to_vec(),
            title: self.title.as_ref().map(ConversationTitle::write),
            muted_until_ms: self.muted_until.as_millis(),
            archived: self.archived,
            accepted: self.accepted,
        }
    }
}

impl SyncContact {
    pub(crate) fn read(wire: &proto::SyncContact) -> Result<Self, ContentError> {
        Ok(Self {
            account: AccountId::from_slice(&wire.account_id).map_err(bad("account"))?,
            account_key: match wire.account_key.as_slice() {
                [] => None,
                key => Some(array(key, "account key")?),
            },
            access_key: match wire.access_key.as_slice() {
                [] => None,
                key => Some(AccessKey::from_slice(key).map_err(bad("access key"))?),
            },
            label: text(wire.label.clone(), 0..=256, "label")?,
            verified: wire.verified,
            blocked: wire.blocked,
            accepted: wire.accepted,
        })
    }

    /// As the store keeps it until the account is verified here.
    pub(crate) fn write(&self) -> proto::SyncContact {
        proto::SyncContact {
            account_id: self.account.to_vec(),
            account_key: self.account_key.map(Vec::from).unwrap_or_default(),
            access_key: self.access_key.map(|key| key.to_vec()).unwrap_or_default(),
            label: self.label.clone(),
            verified: self.verified,
            blocked: self.blocked,
            accepted: self.accepted,
        }
    }
}
