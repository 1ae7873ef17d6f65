//! What accounts tell each other outside conversations.

use std::fmt;

use wardline_wire::directory::check_display_name;
use wardline_wire::ids::{AccountId, InviteId};

use super::check::{array, bad, list, non_printing, text};
use super::{AccessKey, Content, ContentError, ConversationId, Place};
use crate::proto;

const MAX_FELLOWS: usize = 256;
const MAX_RETRIES: usize = 64;
const MAX_RETRY_SPAN: u64 = 1024;

/// Name and access key of the sender.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// 1 to 64 bytes, fit to be shown.
    pub name: String,
    /// Grows with every change.
    pub version: u64,
    /// `None`: unchanged.
    pub access_key: Option<AccessKey>,
}

/// A newcomer greets who invited it. The proof is checked in [`crate::contact`].
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Which invite.
    pub invite: InviteId,
    /// That the sender holds its secret.
    pub proof: [u8; 32],
    /// The newcomer.
    pub profile: Profile,
}

/// Access keys of fellow members.
#[derive(Clone, PartialEq, Eq)]
pub struct Introduction {
    /// At most 256.
    pub fellows: Vec<Fellow>,
}

/// One introduced account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fellow {
    /// Who.
    pub account: AccountId,
    /// How to reach it.
    pub access_key: AccessKey,
}

/// What another own device sent.
#[derive(Clone, PartialEq)]
pub struct Transcript {
    /// The content, as members got it.
    pub content: Box<Content>,
    /// To whom it went.
    pub recipients: Vec<AccountId>,
}

/// Something could not be read, or did not arrive.
#[derive(Clone, PartialEq, Eq)]
pub struct RetryRequest {
    /// SHA-256 of ciphertexts that did not open.
    pub ciphertexts: Vec<[u8; 32]>,
    /// Sequences that are missing.
    pub sequences: Vec<SequenceRange>,
}

/// Part of one device's numbering.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// `None` for account-level content.
    pub conversation: Option<ConversationId>,
    /// First missing.
    pub first: u64,
    /// Last missing.
    pub last: u64,
}

/// Opens or renews a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Null {
    /// The sender discarded its old session.
    pub session_reset: bool,
}

non_printing!(
    Profile,
    Hello,
    Introduction,
    Fellow,
    RetryRequest,
    SequenceRange
);

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transcript({:?})", self.content)
    }
}

impl Profile {
    pub(super) fn read(wire: proto::Profile) -> Result<Self, ContentError> {
        let name = text(wire.name, 1..=64, "name")?;
        if !check_display_name(&name) {
            return Err(ContentError::Field("name"));
        }
        Ok(Self {
            name,
            version: wire.version,
            access_key: match wire.access_key.as_slice() {
                [] => None,
                key => Some(AccessKey::from_slice(key).map_err(bad("access key"))?),
            },
        })
    }

    pub(super) fn write(&self) -> proto::Profile {
        proto::Profile {
            name: self.name.clone(),
            version: self.version,
            access_key: self.access_key.map(|key| key.to_vec()).unwrap_or_default(),
        }
    }
}

impl Hello {
    pub(super) fn read(wire: proto::Hello) -> Result<Self, ContentError> {
        Ok(Self {
            invite: InviteId::from_slice(&wire.invite_id).map_err(bad("invite"))?,
            proof: array(&wire.proof, "proof")?,
            profile: Profile::read(wire.profile.ok_or(ContentError::Field("profile"))?)?,
        })
    }

    pub(super) fn write(&self) -> proto::Hello {
        proto::Hello {
            invite_id: self.invite.to_vec(),
            proof: self.proof.to_vec(),
            profile: Some(self.profile.write()),
        }
    }
}

impl Introduction {
    pub(super) fn read(wire: &proto::Introduction) -> Result<Self, ContentError> {
        Ok(Self {
            fellows: list(&wire.fellows, 1..=MAX_FELLOWS, "introduction", |fellow| {
                Ok(Fellow {
                    account: AccountId::from_slice(&fellow.account_id).map_err(bad("account"))?,
                    access_key: AccessKey::from_slice(&fellow.access_key)
                        .map_err(bad("access key"))?,
                })
            })?,
        })
    }

    pub(super) fn write(&self) -> proto::Introduction {
        proto::Introduction {
            fellows: self
                .fellows
                .iter()
                .map(|fellow| proto::Fellow {
                    account_id: fellow.account.to_vec(),
                    access_key: fellow.access_key.to_vec(),
                })
                .collect(),
        }
    }
}

impl Transcript {
    pub(super) fn read(wire: &proto::Transcript) -> Result<Self, ContentError> {
        Ok(Self {
            content: Box::new(Content::decode_at(&wire.content, Place::InTranscript)?),
            recipients: list(&wire.recipients, 0..=MAX_FELLOWS, "recipients", |account| {
                AccountId::from_slice(account).map_err(bad("recipient"))
            })?,
        })
    }

    pub(super) fn write(&self) -> Result<proto::Transcript, ContentError> {
        Ok(proto::Transcript {
            content: self.content.encode_at(Place::InTranscript)?,
            recipients: self.recipients.iter().map(AccountId::to_vec).collect(),
        })
    }
}

impl RetryRequest {
    pub(super) fn read(wire: &proto::RetryRequest) -> Result<Self, ContentError> {
        let sequences = list(&wire.sequences, 0..=MAX_RETRIES, "sequences", |range| {
            let span = range.last.checked_sub(range.first);
            if range.first == 0 || span.is_none_or(|span| span > MAX_RETRY_SPAN) {
                return Err(ContentError::Field("sequences"));
            }
            Ok(SequenceRange {
                conversation: match range.conversation_id.as_slice() {
                    [] => None,
                    id => Some(ConversationId::from_slice(id).map_err(bad("conversation"))?),
                },
                first: range.first,
                last: range.last,
            })
        })?;
        let request = Self {
            ciphertexts: list(&wire.ciphertexts, 0..=MAX_RETRIES, "ciphertexts", |hash| {
                array(hash, "ciphertext")
            })?,
            sequences,
        };
        if request.ciphertexts.is_empty() && request.sequences.is_empty() {
            return Err(ContentError::Field("retry request"));
        }
        Ok(request)
    }

    pub(super) fn write(&self) -> proto::RetryRequest {
        proto::RetryRequest {
            ciphertexts: self.ciphertexts.iter().map(|hash| hash.to_vec()).collect(),
            sequences: self
                .sequences
                .iter()
                .map(|range| proto::SequenceRange {
                    conversation_id: range.conversation.map(|id| id.to_vec()).unwrap_or_default(),
                    first: range.first,
                    last: range.last,
                })
                .collect(),
        }
    }
}
