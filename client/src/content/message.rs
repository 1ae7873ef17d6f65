//! What people send each other.

use wardline_wire::ids::AccountId;

use super::check::{array, bad, list, non_printing, text};
use super::{ContentError, ContentId, MAX_TEXT_BYTES};
use crate::proto;

pub use crate::proto::ReceiptKind;

const MAX_MENTIONS: usize = 64;
const MAX_RECEIPTS: usize = 512;

/// Words of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// 1 to 65536 bytes.
    pub body: String,
    /// The message it answers.
    pub reply_to: Option<ContentId>,
    /// Members named in it, in order, not overlapping.
    pub mentions: Vec<Mention>,
    /// Asks a person to acknowledge it.
    pub urgent: bool,
}

/// A member named in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// Who.
    pub account: AccountId,
    /// First byte in the body.
    pub start: u32,
    /// Bytes.
    pub length: u32,
}

/// How far messages came with the sender of this.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipts {
    /// How far.
    pub kind: ReceiptKind,
    /// Which, 1 to 512.
    pub contents: Vec<ContentId>,
}

/// An emoji on a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Reaction {
    /// Which message.
    pub target: ContentId,
    /// 1 to 32 bytes.
    pub emoji: String,
    /// Takes it back.
    pub remove: bool,
}

/// A new wording; counts only from the author of the target.
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    /// The first wording.
    pub target: ContentId,
    /// The new one.
    pub text: Text,
}

/// Takes a message away; counts only from the author of the target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Delete {
    /// Which message.
    pub target: ContentId,
}

/// Where an encrypted file lies and how to open it.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Opaque name on the relay.
    pub locator: String,
    /// Key of the file.
    pub key: [u8; 64],
    /// SHA-256 of the stored ciphertext.
    pub ciphertext_sha256: [u8; 32],
    /// Bytes before padding.
    pub size_bytes: u64,
    /// For example "application/pdf".
    pub media_type: String,
    /// Without path.
    pub file_name: String,
    /// May be empty.
    pub caption: String,
}

non_printing!(Text, Mention, Receipts, Reaction, Edit, Delete, Attachment);

impl Text {
    /// A plain text: no reply, no mentions.
    pub fn new(body: impl Into<String>) -> Self {
        Self {
            body: body.into(),
            reply_to: None,
            mentions: Vec::new(),
            urgent: false,
        }
    }

    pub(super) fn read(wire: proto::Text) -> Result<Self, ContentError> {
        let body = text(wire.body, 1..=MAX_TEXT_BYTES, "text")?;
        let mentions = list(&wire.mentions, 0..=MAX_MENTIONS, "mentions", |mention| {
            Ok(Mention {
                account: AccountId::from_slice(&mention.account_id).map_err(bad("mention"))?,
                start: mention.start,
                length: mention.length,
            })
        })?;
        let mut behind = 0;
        for mention in &mentions {
            let start = usize::try_from(mention.start);
            let length = usize::try_from(mention.length);
            let (Ok(start), Ok(length)) = (start, length) else {
                return Err(ContentError::Field("mention"));
            };
            let end = start.saturating_add(length);
            if length == 0 || start < behind || body.get(start..end).is_none() {
                return Err(ContentError::Field("mention"));
            }
            behind = end;
        }
        Ok(Self {
            body,
            reply_to: match wire.reply_to.as_slice() {
                [] => None,
                id => Some(ContentId::from_slice(id).map_err(bad("reply"))?),
            },
            mentions,
            urgent: wire.urgent,
        })
    }

    pub(super) fn write(&self) -> proto::Text {
        proto::Text {
            body: self.body.clone(),
            reply_to: self.reply_to.map(|id| id.to_vec()).unwrap_or_default(),
            mentions: self
                .mentions
                .iter()
                .map(|mention| proto::Mention {
                    account_id: mention.account.to_vec(),
                    start: mention.start,
                    length: mention.length,
                })
                .collect(),
            urgent: self.urgent,
        }
    }
}

impl Receipts {
    pub(super) fn read(wire: &proto::Receipts) -> Result<Self, ContentError> {
        let kind = match ReceiptKind::try_from(wire.kind) {
            Ok(ReceiptKind::Unspecified) | Err(_) => {
                return Err(ContentError::Field("receipt kind"));
            }
            Ok(kind) => kind,
        };
        Ok(Self {
            kind,
            contents: list(&wire.content_ids, 1..=MAX_RECEIPTS, "receipts", |id| {
                ContentId::from_slice(id).map_err(bad("receipt"))
            })?,
        })
    }

    pub(super) fn write(&self) -> proto::Receipts {
        proto::Receipts {
            kind: self.kind.into(),
            content_ids: self.contents.iter().map(ContentId::to_vec).collect(),
        }
    }
}

impl Reaction {
    pub(super) fn read(wire: proto::Reaction) -> Result<Self, ContentError> {
        Ok(Self {
            target: ContentId::from_slice(&wire.target).map_err(bad("target"))?,
            emoji: text(wire.emoji, 1..=32, "emoji")?,
            remove: wire.remove,
        })
    }

    pub(super) fn write(&self) -> proto::Reaction {
        proto::Reaction {
            target: self.target.to_vec(),
            emoji: self.emoji.clone(),
            remove: self.remove,
        }
    }
}

impl Edit {
    pub(super) fn read(wire: proto::Edit) -> Result<Self, ContentError> {
        Ok(Self {
            target: ContentId::from_slice(&wire.target).map_err(bad("target"))?,
            text: Text::read(wire.text.ok_or(ContentError::Field("text"))?)?,
        })
    }

    pub(super) fn write(&self) -> proto::Edit {
        proto::Edit {
            target: self.target.to_vec(),
            text: Some(self.text.write()),
        }
    }
}

impl Delete {
    pub(super) fn read(wire: &proto::Delete) -> Result<Self, ContentError> {
        Ok(Self {
            target: ContentId::from_slice(&wire.target).map_err(bad("target"))?,
        })
    }

    pub(super) fn write(self) -> proto::Delete {
        proto::Delete {
            target: self.target.to_vec(),
        }
    }
}

impl Attachment {
    pub(super) fn read(wire: proto::Attachment) -> Result<Self, ContentError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let locator = text(wire.locator, 1..=128, "locator")?;
        let file_name = text(wire.file_name, 1..=255, "file name")?;
        let media_type = text(wire.media_type, 1..=128, "media type")?;
        // A name is a name: whoever saves the file must not be led elsewhere.
        let path = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
        if !locator.chars().all(plain) {
            return Err(ContentError::Field("locator"));
        }
        if file_name.contains(path) || file_name.starts_with('.') {
            return Err(ContentError::Field("file name"));
        }
        if !media_type.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ContentError::Field("media type"));
        }
        Ok(Self {
            locator,
            key: array(&wire.key, "key")?,
            ciphertext_sha256: array(&wire.ciphertext_sha256, "digest")?,
            size_bytes: wire.size_bytes,
            media_type,
            file_name,
            caption: text(wire.caption, 0..=4096, "caption")?,
        })
    }

    pub(super) fn write(&self) -> proto::Attachment {
        proto::Attachment {
            locator: self.locator.clone(),
            key: self.key.to_vec(),
            ciphertext_sha256: self.ciphertext_sha256.to_vec(),
            size_bytes: self.size_bytes,
            media_type: self.media_type.clone(),
            file_name: self.file_name.clone(),
            caption: self.caption.clone(),
        }
    }
}
