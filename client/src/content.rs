//! What is inside a ciphertext: one decrypted message, checked for form.
//!
//! A [`Content`] that exists here is well-formed: ids have their lengths, texts
//! are UTF-8 within bounds, numbers that must be there are. Whether its sender
//! may say it (is it a member, is it the author of what it edits) is decided by
//! those who know: [`crate::conversation`], [`crate::contact`] and the receiver.
//! Nothing here prints content, names or conversation ids.
//!
//! The format is `proto/wardline/client/v1/content.proto`; the padding is in
//! [`padding`]. A kind of a newer version is kept as [`Kind::Unknown`] with its
//! bytes, so that an upgrade can read it later.

mod account;
mod ai;
pub(crate) mod check;
mod ids;
mod message;
pub mod padding;
mod sync;
mod update;

use std::fmt;

use bytes::Buf as _;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::PayloadHash;

pub use account::{
    Fellow, Hello, Introduction, Null, Profile, RetryRequest, SequenceRange, Transcript,
};
pub use ai::{AiAlert, AiAnswer, AiCitation, AiPartial, AiProvenance, MAX_PARTIALS};
pub(crate) use check::non_printing;
pub use ids::{AccessKey, ContentId, ConversationId, ListRef};
pub use message::{Attachment, Delete, Edit, Mention, Reaction, ReceiptKind, Receipts, Text};
pub use sync::{DeviceSync, SyncContact, SyncConversation};
pub use update::{AccountEvidence, ConversationTitle, ConversationUpdate};

pub use crate::proto::{AiBackend, AiClass};

use crate::proto;
use check::{bad, hash_list};

/// Most heads that a content names, and most parents of an operation.
pub const MAX_HEADS: usize = 32;
/// Longest text, in bytes.
pub const MAX_TEXT_BYTES: usize = 65_536;
/// First and last field number of kinds in `Content`.
const KIND_FIELDS: std::ops::RangeInclusive<u32> = 16..=127;

/// Why content cannot be read, or why it may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// No padding, or padding that is not the one described.
    #[error("the message is damaged: its padding does not fit")]
    Padding,
    /// Not protobuf, or text that is not UTF-8.
    #[error("the message is damaged: it cannot be read")]
    Malformed,
    /// There is no kind in it.
    #[error("the message is empty")]
    NoKind,
    /// A field has a wrong length, size or value.
    #[error("the message is not valid: {0} is missing or wrong")]
    Field(&'static str),
    /// It does not fit the largest bucket.
    #[error("the message is too long ({bytes} bytes, at most {limit} fit); shorten or split it")]
    TooLarge {
        /// Encoded bytes.
        bytes: usize,
        /// The most that fit.
        limit: usize,
    },
    /// A kind that belongs to a conversation came without one, or the reverse.
    #[error("the message is not valid: it belongs {0}")]
    Misplaced(&'static str),
}

/// Where a kind belongs and how it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Has a sequence from 1: a hole in it is a lost message.
    Always,
    /// Sequence 0: ephemeral, or for some of the members only.
    Never,
    /// Either: counted when it went to everybody.
    Either,
}

/// One message, checked for form.
#[derive(Clone, PartialEq)]
pub struct Content {
    /// The same for all recipients and every re-sending.
    pub id: ContentId,
    /// `None` for account-level content.
    pub conversation: Option<ConversationId>,
    /// From 1; 0 when not counted (see [`Kind::counting`]).
    pub sequence: u64,
    /// The sender's clock. Shown, never used for order.
    pub sent_at: Timestamp,
    /// The sender account's own device list.
    pub sender_list: ListRef,
    /// The recipient account's list that was encrypted for; `None` inside a transcript only.
    pub recipient_list: Option<ListRef>,
    /// Heads of the conversation log known to the sender, ascending.
    pub heads: Vec<PayloadHash>,
    /// Seconds after reading until it is deleted; 0 for never.
    pub expires_after_s: u32,
    /// Carried while escrow is on (reserved).
    pub escrow: Option<EscrowSeal>,
    /// What it says.
    pub kind: Kind,
}

/// What a content says.
#[derive(Clone, PartialEq)]
pub enum Kind {
    /// Words of a person.
    Text(Text),
    /// How far messages came.
    Receipts(Receipts),
    /// Somebody began (`true`) or stopped writing. Ephemeral.
    Typing(bool),
    /// An emoji on a message.
    Reaction(Reaction),
    /// A new wording.
    Edit(Edit),
    /// Takes a message away.
    Delete(Delete),
    /// Where a file lies.
    Attachment(Attachment),
    /// Membership operations, or a request for missing ones.
    Conversation(ConversationUpdate),
    /// What another own device sent.
    Transcript(Transcript),
    /// Name and access key of the sender.
    Profile(Profile),
    /// A newcomer greets who invited it.
    Hello(Hello),
    /// Access keys of fellow members.
    Introduction(Introduction),
    /// How far an answer has come. Ephemeral.
    AiPartial(AiPartial),
    /// A complete answer.
    AiAnswer(AiAnswer),
    /// Somebody may need a clinician.
    AiAlert(AiAlert),
    /// Something could not be read.
    Retry(RetryRequest),
    /// Opens or renews a session.
    Null(Null),
    /// Between own devices.
    Sync(DeviceSync),
    /// About an escrow policy (reserved).
    EscrowNotice(EscrowNotice),
    /// A kind of a newer version.
    Unknown(UnknownKind),
}

/// What recipients need to recompute an escrow seal (reserved).
#[derive(Clone, PartialEq, Eq)]
pub struct EscrowSeal {
    /// SHA-256 of the policy's payload.
    pub policy_hash: PayloadHash,
    /// Seed of the HPKE encapsulation. Secret.
    pub seed: [u8; 32],
}

/// About an escrow policy (reserved).
#[derive(Clone, PartialEq, Eq)]
pub struct EscrowNotice {
    /// SHA-256 of the policy's payload.
    pub policy_hash: PayloadHash,
    /// Plain words, at most 4096 bytes.
    pub text: String,
}

/// A kind that this version does not know, kept for an upgrade.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownKind {
    /// Its field number in `Content`.
    pub field: u32,
    /// The whole content as it was encoded, unpadded.
    pub encoded: Vec<u8>,
}

impl Content {
    /// Encodes and pads. What it returns, [`decode`](Self::decode) accepts.
    ///
    /// # Errors
    /// [`ContentError`] when a field is out of bounds or it is too large.
    pub fn encode(&self) -> Result<Vec<u8>, ContentError> {
        padding::pad(self.encode_unpadded()?)
    }

    /// Reads padded content as it came out of a ciphertext.
    ///
    /// # Errors
    /// [`ContentError`] for anything that is not well-formed.
    pub fn decode(padded: &[u8]) -> Result<Self, ContentError> {
        Self::decode_unpadded(padding::unpad(padded)?)
    }

    /// The encoding without padding, for the own store and for transcripts.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_unpadded(&self) -> Result<Vec<u8>, ContentError> {
        self.encode_at(Place::Message)
    }

    /// The reverse of [`encode_unpadded`](Self::encode_unpadded).
    ///
    /// # Errors
    /// [`ContentError`] for anything that is not well-formed.
    pub fn decode_unpadded(encoded: &[u8]) -> Result<Self, ContentError> {
        Self::decode_at(encoded, Place::Message)
    }

    fn encode_at(&self, place: Place) -> Result<Vec<u8>, ContentError> {
        if let Kind::Unknown(unknown) = &self.kind {
            return Ok(unknown.encoded.clone());
        }
        let encoded = self.write()?.encode_to_vec();
        if encoded.len() > padding::MAX_ENCODED_BYTES {
            return Err(ContentError::TooLarge {
                bytes: encoded.len(),
                limit: padding::MAX_ENCODED_BYTES,
            });
        }
        // Never send what would be refused.
        Self::decode_at(&encoded, place)?;
        Ok(encoded)
    }

    fn decode_at(encoded: &[u8], place: Place) -> Result<Self, ContentError> {
        if encoded.len() > padding::MAX_ENCODED_BYTES {
            return Err(ContentError::TooLarge {
                bytes: encoded.len(),
                limit: padding::MAX_ENCODED_BYTES,
            });
        }
        let message = proto::Content::decode(encoded).map_err(|_| ContentError::Malformed)?;
        let kind = match message.kind {
            Some(kind) => Kind::read(kind, place)?,
            None => Kind::Unknown(UnknownKind {
                field: unknown_kind(encoded)?.ok_or(ContentError::NoKind)?,
                encoded: encoded.to_vec(),
            }),
        };
        let conversation = match message.conversation_id.as_slice() {
            [] => None,
            id => Some(ConversationId::from_slice(id).map_err(bad("conversation"))?),
        };
        let content = Self {
            id: ContentId::from_slice(&message.content_id).map_err(bad("id"))?,
            conversation,
            sequence: message.sequence,
            sent_at: Timestamp::from_millis(message.sent_at_ms),
            sender_list: ListRef::read(message.sender_list.as_ref(), "sender list")?,
            recipient_list: match (&message.recipient_list, place) {
                (None, Place::InTranscript) => None,
                (list, _) => Some(ListRef::read(list.as_ref(), "recipient list")?),
            },
            heads: hash_list(&message.heads, MAX_HEADS, "heads")?,
            expires_after_s: message.expires_after_s,
            escrow: message.escrow.as_ref().map(EscrowSeal::read).transpose()?,
            kind,
        };
        content.check()?;
        Ok(content)
    }

    /// Rules that concern more than one field.
    fn check(&self) -> Result<(), ContentError> {
        let ascending = self
            .heads
            .iter()
            .zip(self.heads.iter().skip(1))
            .all(|(a, b)| a < b);
        if !ascending {
            return Err(ContentError::Field("heads"));
        }
        match (self.kind.is_account_level(), self.conversation) {
            (Some(true), Some(_)) => {
                return Err(ContentError::Misplaced("to no conversation"));
            }
            (Some(false), None) => return Err(ContentError::Misplaced("to a conversation")),
            _ => {}
        }
        // Whoever asks for a conversation's operations may know none of them.
        let may_lack_heads = !matches!(self.kind.is_account_level(), Some(false))
            || matches!(self.kind, Kind::Conversation(_));
        if self.heads.is_empty() && !may_lack_heads
            || self.conversation.is_none() && !self.heads.is_empty()
        {
            return Err(ContentError::Field("heads"));
        }
        match (self.kind.counting(), self.sequence) {
            (Counting::Always, 0) | (Counting::Never, 1..) => Err(ContentError::Field("sequence")),
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<proto::Content, ContentError> {
        Ok(proto::Content {
            content_id: self.id.to_vec(),
            conversation_id: self.conversation.map(|id| id.to_vec()).unwrap_or_default(),
            sequence: self.sequence,
            sent_at_ms: self.sent_at.as_millis(),
            sender_list: Some(self.sender_list.write()),
            recipient_list: self.recipient_list.map(ListRef::write),
            heads: self.heads.iter().map(PayloadHash::to_vec).collect(),
            expires_after_s: self.expires_after_s,
            escrow: self.escrow.as_ref().map(EscrowSeal::write),
            kind: Some(self.kind.write()?),
        })
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Kind {
    /// One word for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Receipts(_) => "receipts",
            Self::Typing(_) => "typing",
            Self::Reaction(_) => "reaction",
            Self::Edit(_) => "edit",
            Self::Delete(_) => "delete",
            Self::Attachment(_) => "attachment",
            Self::Conversation(_) => "conversation",
            Self::Transcript(_) => "transcript",
            Self::Profile(_) => "profile",
            Self::Hello(_) => "hello",
            Self::Introduction(_) => "introduction",
            Self::AiPartial(_) => "ai-partial",
            Self::AiAnswer(_) => "ai-answer",
            Self::AiAlert(_) => "ai-alert",
            Self::Retry(_) => "retry",
            Self::Null(_) => "null",
            Self::Sync(_) => "sync",
            Self::EscrowNotice(_) => "escrow-notice",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Whether it travels outside conversations; `None` when that is not known.
    pub const fn is_account_level(&self) -> Option<bool> {
        match self {
            Self::Transcript(_)
            | Self::Profile(_)
            | Self::Hello(_)
            | Self::Introduction(_)
            | Self::Retry(_)
            | Self::Null(_)
            | Self::Sync(_) => Some(true),
            Self::Unknown(_) => None,
            _ => Some(false),
        }
    }

    /// Sent as an ephemeral envelope: never stored by the relay, may be lost.
    pub const fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Typing(_) | Self::AiPartial(_))
    }

    /// Whether it has a sequence.
    pub const fn counting(&self) -> Counting {
        match self {
            Self::Typing(_)
            | Self::AiPartial(_)
            | Self::Receipts(_)
            | Self::AiAlert(_)
            | Self::Retry(_)
            | Self::Null(_) => Counting::Never,
            Self::Conversation(_) | Self::Unknown(_) => Counting::Either,
            _ => Counting::Always,
        }
    }

    fn read(kind: proto::content::Kind, place: Place) -> Result<Self, ContentError> {
        use proto::content::Kind as Wire;
        Ok(match kind {
            Wire::Text(text) => Self::Text(Text::read(text)?),
            Wire::Receipts(receipts) => Self::Receipts(Receipts::read(&receipts)?),
            Wire::Typing(typing) => Self::Typing(typing.started),
            Wire::Reaction(reaction) => Self::Reaction(Reaction::read(reaction)?),
            Wire::Edit(edit) => Self::Edit(Edit::read(edit)?),
            Wire::Delete(delete) => Self::Delete(Delete::read(&delete)?),
            Wire::Attachment(attachment) => Self::Attachment(Attachment::read(attachment)?),
            Wire::Conversation(update) => Self::Conversation(ConversationUpdate::read(update)?),
            Wire::Transcript(_) if place == Place::InTranscript => {
                return Err(ContentError::Field("transcript in a transcript"));
            }
            Wire::Transcript(transcript) => Self::Transcript(Transcript::read(&transcript)?),
            Wire::Profile(profile) => Self::Profile(Profile::read(profile)?),
            Wire::Hello(hello) => Self::Hello(Hello::read(hello)?),
            Wire::Introduction(introduction) => {
                Self::Introduction(Introduction::read(&introduction)?)
            }
            Wire::AiPartial(partial) => Self::AiPartial(AiPartial::read(partial)?),
            Wire::AiAnswer(answer) => Self::AiAnswer(AiAnswer::read(answer)?),
            Wire::AiAlert(alert) => Self::AiAlert(AiAlert::read(alert)?),
            Wire::Retry(retry) => Self::Retry(RetryRequest::read(&retry)?),
            Wire::Null(null) => Self::Null(Null {
                session_reset: null.session_reset,
            }),
            Wire::Sync(sync) => Self::Sync(DeviceSync::read(sync)?),
            Wire::EscrowNotice(notice) => Self::EscrowNotice(EscrowNotice::read(notice)?),
        })
    }

    fn write(&self) -> Result<proto::content::Kind, ContentError> {
        use proto::content::Kind as Wire;
        Ok(match self {
            Self::Text(text) => Wire::Text(text.write()),
            Self::Receipts(receipts) => Wire::Receipts(receipts.write()),
            Self::Typing(started) => Wire::Typing(proto::Typing { started: *started }),
            Self::Reaction(reaction) => Wire::Reaction(reaction.write()),
            Self::Edit(edit) => Wire::Edit(edit.write()),
            Self::Delete(delete) => Wire::Delete(delete.write()),
            Self::Attachment(attachment) => Wire::Attachment(attachment.write()),
            Self::Conversation(update) => Wire::Conversation(update.write()),
            Self::Transcript(transcript) => Wire::Transcript(transcript.write()?),
            Self::Profile(profile) => Wire::Profile(profile.write()),
            Self::Hello(hello) => Wire::Hello(hello.write()),
            Self::Introduction(introduction) => Wire::Introduction(introduction.write()),
            Self::AiPartial(partial) => Wire::AiPartial(partial.write()),
            Self::AiAnswer(answer) => Wire::AiAnswer(answer.write()),
            Self::AiAlert(alert) => Wire::AiAlert(alert.write()),
            Self::Retry(retry) => Wire::Retry(retry.write()),
            Self::Null(null) => Wire::Null(proto::Null {
                session_reset: null.session_reset,
            }),
            Self::Sync(sync) => Wire::Sync(sync.write()?),
            Self::EscrowNotice(notice) => Wire::EscrowNotice(notice.write()),
            Self::Unknown(_) => return Err(ContentError::NoKind),
        })
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.name())
    }
}

impl EscrowSeal {
    fn read(seal: &proto::EscrowSeal) -> Result<Self, ContentError> {
        Ok(Self {
            policy_hash: PayloadHash::from_slice(&seal.policy_hash).map_err(bad("policy hash"))?,
            seed: check::array(&seal.seed, "escrow seed")?,
        })
    }

    fn write(&self) -> proto::EscrowSeal {
        proto::EscrowSeal {
            policy_hash: self.policy_hash.to_vec(),
            seed: self.seed.to_vec(),
        }
    }
}

impl EscrowNotice {
    fn read(notice: proto::EscrowNotice) -> Result<Self, ContentError> {
        Ok(Self {
            policy_hash: PayloadHash::from_slice(&notice.policy_hash)
                .map_err(bad("policy hash"))?,
            text: check::text(notice.text, 0..=4096, "notice")?,
        })
    }

    fn write(&self) -> proto::EscrowNotice {
        proto::EscrowNotice {
            policy_hash: self.policy_hash.to_vec(),
            text: self.text.clone(),
        }
    }
}

check::non_printing!(EscrowSeal, EscrowNotice, UnknownKind);

/// Whether content stands for itself or inside a transcript.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    InTranscript,
}

/// The field number of a kind that the generated code does not know.
fn unknown_kind(mut encoded: &[u8]) -> Result<Option<u32>, ContentError> {
    let mut found = None;
    while encoded.has_remaining() {
        let (field, wire_type): (u32, WireType) =
            decode_key(&mut encoded).map_err(|_| ContentError::Malformed)?;
        skip_field(wire_type, field, &mut encoded, DecodeContext::default())
            .map_err(|_| ContentError::Malformed)?;
        if KIND_FIELDS.contains(&field) {
            found = Some(field);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
