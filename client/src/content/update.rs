//! Membership operations on their way between members.

use sha2::{Digest as _, Sha256};
use wardline_wire::ids::{AccountId, PayloadHash};
use wardline_wire::proto::{CertificateChain, SignedBlob};

use super::ContentError;
use super::check::{array, bad, hash_list, list, non_printing, text};
use crate::proto;

const MAX_OPERATIONS: usize = 1024;
const MAX_EVIDENCE: usize = 256;
const MAX_LISTS: usize = 64;
const MAX_MISSING: usize = 256;

/// Operations with what is needed to check them, and requests for missing ones.
/// Nothing in it is believed yet.
#[derive(Clone, Default, PartialEq)]
pub struct ConversationUpdate {
    /// Signed operations, ancestors first.
    pub operations: Vec<SignedBlob>,
    /// Certificates and lists of their authors and of whom they add.
    pub evidence: Vec<AccountEvidence>,
    /// The current title.
    pub title: Option<ConversationTitle>,
    /// Operations that the sender lacks.
    pub missing: Vec<PayloadHash>,
}

/// What somebody needs to check the operations of one account. Not believed yet.
#[derive(Clone, PartialEq)]
pub struct AccountEvidence {
    /// Whose.
    pub account: AccountId,
    /// Account key as pinned in the log.
    pub account_key: [u8; 32],
    /// Its certificate.
    pub certificate: Option<CertificateChain>,
    /// Its device lists.
    pub device_lists: Vec<SignedBlob>,
}

/// A title in the clear; the log holds [`hash`](Self::hash) only.
#[derive(Clone, PartialEq, Eq)]
pub struct ConversationTitle {
    /// 16 random bytes.
    pub salt: [u8; 16],
    /// 1 to 256 bytes without control characters.
    pub title: String,
}

non_printing!(ConversationUpdate, AccountEvidence, ConversationTitle);

impl ConversationTitle {
    /// `SHA-256("wardline/title/v1\0" ‖ salt ‖ title)`: what the log says of it.
    pub fn hash(&self) -> PayloadHash {
        let digest = Sha256::new()
            .chain_update(b"wardline/title/v1\0")
            .chain_update(self.salt)
            .chain_update(self.title.as_bytes())
            .finalize();
        PayloadHash::from(<[u8; 32]>::from(digest))
    }

    pub(super) fn read(wire: &proto::ConversationTitle) -> Result<Self, ContentError> {
        let title = text(wire.title.clone(), 1..=256, "title")?;
        if title.contains(char::is_control) {
            return Err(ContentError::Field("title"));
        }
        Ok(Self {
            salt: array(&wire.salt, "title")?,
            title,
        })
    }

    pub(super) fn write(&self) -> proto::ConversationTitle {
        proto::ConversationTitle {
            salt: self.salt.to_vec(),
            title: self.title.clone(),
        }
    }
}

impl ConversationUpdate {
    pub(super) fn read(wire: proto::ConversationUpdate) -> Result<Self, ContentError> {
        if wire.operations.len() > MAX_OPERATIONS {
            return Err(ContentError::Field("operations"));
        }
        let update = Self {
            evidence: list(
                &wire.evidence,
                0..=MAX_EVIDENCE,
                "evidence",
                AccountEvidence::read,
            )?,
            title: wire
                .title
                .as_ref()
                .map(ConversationTitle::read)
                .transpose()?,
            missing: hash_list(&wire.missing, MAX_MISSING, "missing operations")?,
            operations: wire.operations,
        };
        if update.operations.is_empty()
            && update.evidence.is_empty()
            && update.title.is_none()
            && update.missing.is_empty()
        {
            return Err(ContentError::NoKind);
        }
        Ok(update)
    }

    pub(super) fn write(&self) -> proto::ConversationUpdate {
        proto::ConversationUpdate {
            operations: self.operations.clone(),
            evidence: self.evidence.iter().map(AccountEvidence::write).collect(),
            title: self.title.as_ref().map(ConversationTitle::write),
            missing: self.missing.iter().map(PayloadHash::to_vec).collect(),
        }
    }
}

impl AccountEvidence {
    fn read(wire: &proto::AccountEvidence) -> Result<Self, ContentError> {
        if wire.device_lists.len() > MAX_LISTS {
            return Err(ContentError::Field("device lists"));
        }
        Ok(Self {
            account: AccountId::from_slice(&wire.account_id).map_err(bad("account"))?,
            account_key: array(&wire.account_key, "account key")?,
            certificate: wire.certificate.clone(),
            device_lists: wire.device_lists.clone(),
        })
    }

    /// As the wire wants it; also used to measure how much fits one content.
    pub(crate) fn write(&self) -> proto::AccountEvidence {
        proto::AccountEvidence {
            account_id: self.account.to_vec(),
            account_key: self.account_key.to_vec(),
            certificate: self.certificate.clone(),
            device_lists: self.device_lists.clone(),
        }
    }
}
