//! One signed operation: read, verify, write.

use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId, PayloadHash};
use wardline_wire::proto::SignedBlob;
use wardline_wire::signed::{SignatureError, SignedBlobExt as _, SignedKind};

use super::lists::ListEvidence;
use super::{MAX_MEMBERS, MAX_TIMER_S, MembershipRole};
use crate::content::{ConversationId, ListRef, MAX_HEADS};
use crate::proto;

/// Largest encoded operation: a "create" with 256 members takes 15 KiB.
const MAX_OPERATION_BYTES: usize = 32 * 1024;

/// Why an operation is not believed. It was altered, or its author broke the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The payload cannot be read, or a field is not valid.
    #[error("a change to the conversation cannot be read ({0})")]
    Malformed(&'static str),
    /// The list offered is not the one the operation names.
    #[error("a change to the conversation cannot be checked: the device list it names is missing")]
    OtherList,
    /// The device is not on the list that the operation names.
    #[error("a change to the conversation was signed by a device that is not on its owner's list")]
    GhostDevice,
    /// The signature does not fit.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// What an operation does.
#[derive(Clone, PartialEq, Eq)]
pub enum OperationKind {
    /// Begins the conversation.
    Create {
        /// Makes the conversation's id random.
        nonce: [u8; 32],
        /// See [`crate::content::ConversationTitle::hash`].
        title_hash: Option<PayloadHash>,
        /// The author among them, as an owner; earlier ones are senior.
        members: Vec<NewMember>,
    },
    /// Adds an account.
    Add(NewMember),
    /// Removes an account.
    Remove(AccountId),
    /// The author leaves.
    Leave,
    /// Makes a member an owner.
    Promote(AccountId),
    /// Makes an owner a member.
    Demote(AccountId),
    /// Names the title's hash.
    SetTitle(Option<PayloadHash>),
    /// Seconds after reading until content is deleted; 0 for never.
    SetTimer(u32),
    /// The author objects to the AI.
    AiOff,
    /// The author takes its objection back.
    AiOn,
    /// Of a newer version: keeps its place, has no effect.
    Unknown,
}

/// An account that comes into a conversation, with its pinned key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NewMember {
    /// Who.
    pub account: AccountId,
    /// Its Ed25519 account key.
    pub account_key: [u8; 32],
    /// Member or owner.
    pub role: MembershipRole,
}

/// The fields of an operation.
#[derive(Clone, PartialEq, Eq)]
pub struct Operation {
    /// SHA-256 of the payload: its name.
    pub hash: PayloadHash,
    /// Which conversation.
    pub conversation: ConversationId,
    /// All heads the author knew, ascending.
    pub parents: Vec<PayloadHash>,
    /// The signing device.
    pub author: DeviceAddress,
    /// The author's device list on which it stands.
    pub author_list: ListRef,
    /// From 1, per device and conversation.
    pub sequence: u64,
    /// The author's clock; shown, never used for order.
    pub created_at: Timestamp,
    /// What it does.
    pub kind: OperationKind,
}

crate::content::non_printing!(OperationKind, NewMember, Operation);

/// An operation as received: readable, not believed.
#[derive(Clone)]
pub struct UnverifiedOperation {
    blob: SignedBlob,
    operation: Operation,
}

/// An operation signed by a device on the list that it names. Whether its author
/// may do what it does is for the [`Log`](super::Log) to say.
#[derive(Clone)]
pub struct VerifiedOperation {
    blob: SignedBlob,
    operation: Operation,
    account_key: [u8; 32],
}

/// Who signs operations on this device.
#[derive(Clone, Copy)]
pub struct Author<'a> {
    /// The clinic.
    pub deployment: DeploymentId,
    /// This device.
    pub address: DeviceAddress,
    /// Public key of the own account.
    pub account_key: [u8; 32],
    /// The own device list, with this device on it.
    pub list: ListRef,
    /// Signs.
    pub device_key: &'a SigningKey,
}

impl UnverifiedOperation {
    /// Reads the payload and checks its form. Nothing is believed yet.
    ///
    /// # Errors
    /// [`OperationError::Malformed`].
    pub fn read(blob: SignedBlob) -> Result<Self, OperationError> {
        if blob.payload.len() > MAX_OPERATION_BYTES {
            return Err(OperationError::Malformed("size"));
        }
        let wire = proto::Operation::decode(blob.payload.as_slice())
            .map_err(|_| OperationError::Malformed("encoding"))?;
        let operation = Operation::read(wire, blob.payload_hash())?;
        Ok(Self { blob, operation })
    }

    /// Its fields, claimed.
    pub const fn claims(&self) -> &Operation {
        &self.operation
    }

    /// Checks the signature with the device's key on the list that the operation names.
    ///
    /// # Errors
    /// [`OperationError`], one variant a check.
    pub fn verify(
        self,
        deployment: DeploymentId,
        evidence: &ListEvidence,
    ) -> Result<VerifiedOperation, OperationError> {
        let list = evidence.list();
        if list.account() != self.operation.author.account
            || ListRef::from(list) != self.operation.author_list
        {
            return Err(OperationError::OtherList);
        }
        let device = list
            .device(self.operation.author.device)
            .ok_or(OperationError::GhostDevice)?;
        self.blob.verify(
            SignedKind::ConversationOperation,
            deployment,
            &device.device_key,
        )?;
        Ok(VerifiedOperation {
            blob: self.blob,
            operation: self.operation,
            account_key: evidence.account_key(),
        })
    }
}

impl VerifiedOperation {
    /// Its fields.
    pub const fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Its name.
    pub const fn hash(&self) -> PayloadHash {
        self.operation.hash
    }

    /// The signed bytes, to store and to pass on.
    pub const fn blob(&self) -> &SignedBlob {
        &self.blob
    }

    /// The account key under which the author's list was verified.
    pub const fn account_key(&self) -> &[u8; 32] {
        &self.account_key
    }
}

impl Author<'_> {
    /// Signs the operation that begins a conversation. `nonce` is random; `fellows`
    /// are everybody but the author, who comes first, as the most senior owner.
    ///
    /// # Errors
    /// [`OperationError::Malformed`] for too many or repeated members.
    pub fn create(
        &self,
        nonce: [u8; 32],
        title_hash: Option<PayloadHash>,
        fellows: &[NewMember],
        now: Timestamp,
    ) -> Result<VerifiedOperation, OperationError> {
        let mut members = vec![NewMember {
            account: self.address.account,
            account_key: self.account_key,
            role: MembershipRole::Owner,
        }];
        members.extend_from_slice(fellows);
        let kind = OperationKind::Create {
            nonce,
            title_hash,
            members,
        };
        self.sign(None, Vec::new(), 1, kind, now)
    }

    /// Signs any other operation; [`Log::author`](super::Log::author) fills in
    /// parents and sequence.
    pub(super) fn sign(
        &self,
        conversation: Option<ConversationId>,
        parents: Vec<PayloadHash>,
        sequence: u64,
        kind: OperationKind,
        now: Timestamp,
    ) -> Result<VerifiedOperation, OperationError> {
        let wire = proto::Operation {
            conversation_id: conversation.map(|id| id.to_vec()).unwrap_or_default(),
            parents: parents.into_iter().map(|hash| hash.to_vec()).collect(),
            author_account_id: self.address.account.to_vec(),
            author_device_id: self.address.device.into(),
            author_list_version: self.list.version,
            author_list_hash: self.list.hash.to_vec(),
            author_sequence: sequence,
            created_at_ms: now.as_millis(),
            kind: kind.write(),
        };
        let blob = SignedBlob::sign(
            SignedKind::ConversationOperation,
            self.deployment,
            wire.encode_to_vec(),
            self.device_key,
        );
        let operation = Operation::read(wire, blob.payload_hash())?;
        Ok(VerifiedOperation {
            blob,
            operation,
            account_key: self.account_key,
        })
    }
}

impl Operation {
    fn read(wire: proto::Operation, hash: PayloadHash) -> Result<Self, OperationError> {
        let bad = OperationError::Malformed;
        let kind = OperationKind::read(wire.kind)?;
        let is_create = matches!(kind, OperationKind::Create { .. });
        // The first operation names the conversation by its own hash.
        let conversation = match (is_create, wire.conversation_id.as_slice()) {
            (true, []) => ConversationId::from(hash),
            (true, _) => return Err(bad("conversation")),
            (false, id) => ConversationId::from_slice(id).map_err(|_| bad("conversation"))?,
        };
        let parents = wire
            .parents
            .iter()
            .map(|parent| PayloadHash::from_slice(parent))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("parents"))?;
        let ascending = parents
            .iter()
            .zip(parents.iter().skip(1))
            .all(|(a, b)| a < b);
        if parents.is_empty() != is_create || parents.len() > MAX_HEADS || !ascending {
            return Err(bad("parents"));
        }
        if wire.author_sequence == 0 || wire.author_list_version == 0 {
            return Err(bad("sequence"));
        }
        let account = AccountId::from_slice(&wire.author_account_id).map_err(|_| bad("author"))?;
        if let OperationKind::Create { members, .. } = &kind {
            let author = members.iter().find(|member| member.account == account);
            if author.is_none_or(|author| author.role != MembershipRole::Owner)
                || wire.author_sequence != 1
            {
                return Err(bad("author"));
            }
        }
        Ok(Self {
            hash,
            conversation,
            parents,
            author: DeviceAddress {
                account,
                device: DeviceId::new(wire.author_device_id).map_err(|_| bad("author"))?,
            },
            author_list: ListRef {
                version: wire.author_list_version,
                hash: PayloadHash::from_slice(&wire.author_list_hash)
                    .map_err(|_| bad("device list"))?,
            },
            sequence: wire.author_sequence,
            created_at: Timestamp::from_millis(wire.created_at_ms),
            kind,
        })
    }
}

impl OperationKind {
    /// Whether it takes somebody out or down.
    pub(super) const fn is_removal(&self) -> bool {
        matches!(self, Self::Remove(_) | Self::Leave | Self::Demote(_))
    }

    fn read(kind: Option<proto::operation::Kind>) -> Result<Self, OperationError> {
        use proto::operation::Kind;
        let bad = OperationError::Malformed;
        let account = |bytes: &[u8]| AccountId::from_slice(bytes).map_err(|_| bad("account"));
        let title = |hash: &[u8]| match hash {
            [] => Ok(None),
            hash => PayloadHash::from_slice(hash)
                .map(Some)
                .map_err(|_| bad("title")),
        };
        Ok(match kind {
            None => Self::Unknown,
            Some(Kind::Create(create)) => {
                let members = create
                    .members
                    .iter()
                    .map(NewMember::read)
                    .collect::<Result<Vec<_>, _>>()?;
                let mut accounts: Vec<_> = members.iter().map(|member| member.account).collect();
                accounts.sort_unstable();
                accounts.dedup();
                if members.len() > MAX_MEMBERS || accounts.len() != members.len() {
                    return Err(bad("members"));
                }
                Self::Create {
                    nonce: create
                        .nonce
                        .as_slice()
                        .try_into()
                        .map_err(|_| bad("nonce"))?,
                    title_hash: title(&create.title_hash)?,
                    members,
                }
            }
            Some(Kind::Add(add)) => {
                Self::Add(NewMember::read(add.member.as_ref().ok_or(bad("member"))?)?)
            }
            Some(Kind::Remove(remove)) => Self::Remove(account(&remove.account_id)?),
            Some(Kind::Leave(_)) => Self::Leave,
            Some(Kind::Promote(promote)) => Self::Promote(account(&promote.account_id)?),
            Some(Kind::Demote(demote)) => Self::Demote(account(&demote.account_id)?),
            Some(Kind::SetTitle(set)) => Self::SetTitle(title(&set.title_hash)?),
            Some(Kind::SetTimer(set)) if set.seconds > MAX_TIMER_S => return Err(bad("timer")),
            Some(Kind::SetTimer(set)) => Self::SetTimer(set.seconds),
            Some(Kind::AiOff(_)) => Self::AiOff,
            Some(Kind::AiOn(_)) => Self::AiOn,
        })
    }

    fn write(self) -> Option<proto::operation::Kind> {
        use proto::operation::Kind;
        let title = |hash: Option<PayloadHash>| hash.map(|hash| hash.to_vec()).unwrap_or_default();
        Some(match self {
            Self::Create {
                nonce,
                title_hash,
                members,
            } => Kind::Create(proto::Create {
                nonce: nonce.to_vec(),
                title_hash: title(title_hash),
                members: members.iter().map(NewMember::write).collect(),
            }),
            Self::Add(member) => Kind::Add(proto::Add {
                member: Some(member.write()),
            }),
            Self::Remove(account) => Kind::Remove(proto::Remove {
                account_id: account.to_vec(),
            }),
            Self::Leave => Kind::Leave(proto::Leave {}),
            Self::Promote(account) => Kind::Promote(proto::Promote {
                account_id: account.to_vec(),
            }),
            Self::Demote(account) => Kind::Demote(proto::Demote {
                account_id: account.to_vec(),
            }),
            Self::SetTitle(hash) => Kind::SetTitle(proto::SetTitle {
                title_hash: title(hash),
            }),
            Self::SetTimer(seconds) => Kind::SetTimer(proto::SetTimer { seconds }),
            Self::AiOff => Kind::AiOff(proto::AiOff {}),
            Self::AiOn => Kind::AiOn(proto::AiOn {}),
            Self::Unknown => return None,
        })
    }
}

impl NewMember {
    fn read(wire: &proto::Member) -> Result<Self, OperationError> {
        let bad = OperationError::Malformed;
        let role = match MembershipRole::try_from(wire.role) {
            Ok(MembershipRole::Unspecified) | Err(_) => return Err(bad("role")),
            Ok(role) => role,
        };
        Ok(Self {
            account: AccountId::from_slice(&wire.account_id).map_err(|_| bad("account"))?,
            account_key: wire
                .account_key
                .as_slice()
                .try_into()
                .map_err(|_| bad("account key"))?,
            role,
        })
    }

    fn write(&self) -> proto::Member {
        proto::Member {
            account_id: self.account.to_vec(),
            account_key: self.account_key.to_vec(),
            role: self.role.into(),
        }
    }
}
