//! Who is in, and what an operation does to that.

use std::collections::BTreeMap;
use std::fmt;

use wardline_wire::ids::{AccountId, PayloadHash};

use super::operation::{Operation, OperationKind};
use super::{MAX_MEMBERS, MembershipRole};

/// Seniority: when somebody became what they are. Smaller is senior. Made of the
/// operation's distance from the beginning, its hash, and the place in it, so that
/// it depends on nothing that arrives later and nobody can back-date themselves
/// above the owner who appointed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    generation: u32,
    hash: PayloadHash,
    place: u32,
}

impl Rank {
    pub(super) const fn new(generation: u32, hash: PayloadHash, place: u32) -> Self {
        Self {
            generation,
            hash,
            place,
        }
    }
}

/// What a conversation knows of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MemberState {
    /// The pinned account key.
    pub account_key: [u8; 32],
    /// Member or owner.
    pub role: MembershipRole,
    /// Objects to the AI.
    pub objects_to_ai: bool,
    /// Since when member, and since when owner.
    joined: Rank,
    owner_since: Option<Rank>,
}

impl MemberState {
    /// Rank as a signer: as owner if it is one.
    pub fn rank(&self) -> Rank {
        self.owner_since.unwrap_or(self.joined)
    }
}

/// Who is in a conversation and how it is set up, at some point of its log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<AccountId, MemberState>,
    title_hash: Option<PayloadHash>,
    timer_s: u32,
}

/// Why an operation is refused. Each says it in words for the person who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of another conversation.
    #[error("this change belongs to another conversation")]
    OtherConversation,
    /// A second beginning.
    #[error("this conversation has already begun")]
    SecondCreate,
    /// The first operation is missing.
    #[error("this is not the beginning of a conversation")]
    NotACreate,
    /// The author was not a member as far as it could know.
    #[error("whoever made this change was not in the conversation")]
    NotAMember,
    /// Only an owner may do that.
    #[error("only an owner of the conversation may do this")]
    NotAnOwner,
    /// Nobody is owner any more.
    #[error("nobody manages this conversation any more; start a new one")]
    NobodyManages,
    /// The author's account key is another than the one pinned here.
    #[error("this change was made with another key than the one this conversation knows")]
    OtherKey,
    /// An owner is removed or demoted by one who was appointed later.
    #[error("only somebody who has been an owner for longer may remove or demote an owner")]
    NotSenior,
    /// Remove oneself.
    #[error("nobody removes themselves; leave instead")]
    RemoveSelf,
    /// The last owner leaves or steps down.
    #[error("you are the only owner; make somebody else an owner first")]
    LastOwner,
    /// The target is not in the conversation.
    #[error("this person is not in the conversation")]
    TargetNotAMember,
    /// The target is in it already.
    #[error("this person is already in the conversation")]
    TargetAlreadyMember,
    /// The target is an owner already.
    #[error("this person is already an owner")]
    TargetAlreadyOwner,
    /// The target is not an owner.
    #[error("this person is not an owner")]
    TargetNotAnOwner,
    /// Over the limit of members.
    #[error("the conversation is full ({MAX_MEMBERS} people)")]
    TooManyMembers,
    /// Over the limit of operations.
    #[error("this conversation has had too many changes; start a new one")]
    TooManyOperations,
    /// Too many operations wait for a device that was removed.
    #[error("a removed device sends too many changes; they are ignored")]
    TooManyWaiting,
    /// The device's numbering has a hole or goes back in what it knew itself.
    #[error("a device numbers its changes wrongly (number {found} where {expected} was due)")]
    Sequence {
        /// The number that was due.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// It builds on an operation that was refused.
    #[error("this change builds on one that is not allowed")]
    LeansOnRefused,
    /// A parent is the ancestor of another.
    #[error("a change names what came before it wrongly")]
    RedundantParents,
}

/// Why an operation that was accepted has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoidReason {
    /// Its signer was removed or demoted by somebody who did not know of it.
    SignerRemoved,
    /// It adds or promotes whom somebody else removed or demoted at the same time.
    RemovalWins,
    /// It leans on something that has no effect, or another one came first.
    Superseded,
    /// Its device was taken off its account's list, and nobody built on it.
    DeviceRemoved,
    /// It is of a newer version.
    NotUnderstood,
}

impl VoidReason {
    /// One sentence for the person who reads it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::SignerRemoved => {
                "This change has no effect: whoever made it was removed at the same time."
            }
            Self::RemovalWins => {
                "This change has no effect: the same person was removed at the same time. \
                 Add them again if they should be here."
            }
            Self::Superseded => "This change has no effect: another change came first.",
            Self::DeviceRemoved => {
                "This change has no effect: it comes from a device that its owner has removed."
            }
            Self::NotUnderstood => {
                "Somebody with a newer version of Wardline changed something here. \
                 Update to see what."
            }
        }
    }
}

/// A difference between two memberships, to be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Came in.
    Joined(AccountId),
    /// Left, or was removed.
    Left(AccountId),
    /// The pinned key is another.
    KeyReplaced(AccountId),
    /// Became owner.
    BecameOwner(AccountId),
    /// Is owner no more.
    NoLongerOwner(AccountId),
    /// Objects to the AI now.
    AiOff(AccountId),
    /// Objects no more.
    AiOn(AccountId),
    /// Another title.
    Title(Option<PayloadHash>),
    /// Another timer, in seconds.
    Timer(u32),
}

crate::content::non_printing!(MemberState, Change);

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({} members)", self.members.len())
    }
}

impl Membership {
    /// What is known of a member; `None` for everybody else.
    pub fn member(&self, account: AccountId) -> Option<&MemberState> {
        self.members.get(&account)
    }

    /// Whether the account is in.
    pub fn contains(&self, account: AccountId) -> bool {
        self.members.contains_key(&account)
    }

    /// Everybody, by account id.
    pub fn members(&self) -> impl Iterator<Item = (AccountId, &MemberState)> {
        self.members
            .iter()
            .map(|(account, state)| (*account, state))
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is in any more.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Owners, most senior first.
    pub fn owners(&self) -> Vec<AccountId> {
        let mut owners: Vec<_> = self
            .members
            .iter()
            .filter_map(|(account, state)| state.owner_since.map(|since| (since, *account)))
            .collect();
        owners.sort_unstable();
        owners.into_iter().map(|(_, account)| account).collect()
    }

    /// Whether the account is an owner.
    pub fn is_owner(&self, account: AccountId) -> bool {
        self.member(account)
            .is_some_and(|state| state.owner_since.is_some())
    }

    /// Whether the AI may speak: nobody objects.
    pub fn ai_allowed(&self) -> bool {
        self.members.values().all(|state| !state.objects_to_ai)
    }

    /// Hash of the title; `None` for no title.
    pub const fn title_hash(&self) -> Option<PayloadHash> {
        self.title_hash
    }

    /// Seconds after reading until content is deleted; 0 for never.
    pub const fn timer_s(&self) -> u32 {
        self.timer_s
    }

    /// What is different from `before`, in an order that can be shown.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for account in before.members.keys() {
            if !self.contains(*account) {
                changes.push(Change::Left(*account));
            }
        }
        for (account, state) in &self.members {
            let old = before.member(*account);
            if old.is_none() {
                changes.push(Change::Joined(*account));
            }
            if old.is_some_and(|old| old.account_key != state.account_key) {
                changes.push(Change::KeyReplaced(*account));
            }
            let was_owner = old.is_some_and(|old| old.owner_since.is_some());
            match (was_owner, state.owner_since.is_some()) {
                (false, true) => changes.push(Change::BecameOwner(*account)),
                (true, false) => changes.push(Change::NoLongerOwner(*account)),
                _ => {}
            }
            match (
                old.is_some_and(|old| old.objects_to_ai),
                state.objects_to_ai,
            ) {
                (false, true) => changes.push(Change::AiOff(*account)),
                (true, false) => changes.push(Change::AiOn(*account)),
                _ => {}
            }
        }
        if self.title_hash != before.title_hash {
            changes.push(Change::Title(self.title_hash));
        }
        if self.timer_s != before.timer_s {
            changes.push(Change::Timer(self.timer_s));
        }
        changes
    }

    /// Whether this membership allows the operation; the signer's rank if so.
    pub(super) fn judge(
        &self,
        operation: &Operation,
        account_key: &[u8; 32],
    ) -> Result<Rank, Refusal> {
        let author = operation.author.account;
        let state = self.member(author).ok_or(Refusal::NotAMember)?;
        if state.account_key != *account_key {
            return Err(Refusal::OtherKey);
        }
        self.judge_kind(author, state, &operation.kind)?;
        Ok(state.rank())
    }

    fn judge_kind(
        &self,
        author: AccountId,
        state: &MemberState,
        kind: &OperationKind,
    ) -> Result<(), Refusal> {
        let target = |account: &AccountId| self.member(*account).ok_or(Refusal::TargetNotAMember);
        match kind {
            OperationKind::Create { .. } => return Err(Refusal::SecondCreate),
            OperationKind::Leave => {
                return if self.is_last_owner(author) && self.len() > 1 {
                    Err(Refusal::LastOwner)
                } else {
                    Ok(())
                };
            }
            OperationKind::AiOff | OperationKind::AiOn | OperationKind::Unknown => return Ok(()),
            _ => {}
        }
        let Some(since) = state.owner_since else {
            return Err(if self.owners().is_empty() {
                Refusal::NobodyManages
            } else {
                Refusal::NotAnOwner
            });
        };
        let senior_to = |other: Option<Rank>| other.is_none_or(|other| since < other);
        match kind {
            OperationKind::Add(member) if self.contains(member.account) => {
                Err(Refusal::TargetAlreadyMember)
            }
            OperationKind::Add(_) if self.len() >= MAX_MEMBERS => Err(Refusal::TooManyMembers),
            OperationKind::Remove(account) if *account == author => Err(Refusal::RemoveSelf),
            OperationKind::Remove(account) if !senior_to(target(account)?.owner_since) => {
                Err(Refusal::NotSenior)
            }
            OperationKind::Promote(account) if target(account)?.owner_since.is_some() => {
                Err(Refusal::TargetAlreadyOwner)
            }
            OperationKind::Demote(account) => match target(account)?.owner_since {
                None => Err(Refusal::TargetNotAnOwner),
                Some(_) if self.is_last_owner(*account) => Err(Refusal::LastOwner),
                Some(_) if *account == author => Ok(()),
                theirs if senior_to(theirs) => Ok(()),
                Some(_) => Err(Refusal::NotSenior),
            },
            _ => Ok(()),
        }
    }

    fn is_last_owner(&self, account: AccountId) -> bool {
        self.is_owner(account)
            && self
                .members
                .iter()
                .all(|(other, state)| *other == account || state.owner_since.is_none())
    }

    /// Carries out an operation that was judged, or that comes to a state it could
    /// not know. What is done already is left as it is.
    pub(super) fn apply(&mut self, operation: &Operation, generation: u32) {
        let author = operation.author.account;
        let rank = Rank::new(generation, operation.hash, 0);
        match &operation.kind {
            OperationKind::Create {
                title_hash,
                members,
                ..
            } => {
                self.title_hash = *title_hash;
                for (place, member) in (0..).zip(members) {
                    let rank = Rank::new(generation, operation.hash, place);
                    self.enter(member.account, member.account_key, member.role, rank);
                }
            }
            OperationKind::Add(member) => {
                if !self.contains(member.account) && self.len() < MAX_MEMBERS {
                    self.enter(member.account, member.account_key, member.role, rank);
                }
            }
            OperationKind::Remove(account) => {
                self.members.remove(account);
            }
            OperationKind::Leave => {
                self.members.remove(&author);
            }
            OperationKind::Promote(account) => {
                if let Some(state) = self.members.get_mut(account) {
                    state.role = MembershipRole::Owner;
                    state.owner_since = Some(state.owner_since.map_or(rank, |old| old.min(rank)));
                }
            }
            OperationKind::Demote(account) => {
                if let Some(state) = self.members.get_mut(account) {
                    state.role = MembershipRole::Member;
                    state.owner_since = None;
                }
            }
            OperationKind::SetTitle(hash) => self.title_hash = *hash,
            OperationKind::SetTimer(seconds) => self.timer_s = *seconds,
            OperationKind::AiOff | OperationKind::AiOn => {
                if let Some(state) = self.members.get_mut(&author) {
                    state.objects_to_ai = matches!(operation.kind, OperationKind::AiOff);
                }
            }
            OperationKind::Unknown => {}
        }
    }

    fn enter(
        &mut self,
        account: AccountId,
        account_key: [u8; 32],
        role: MembershipRole,
        rank: Rank,
    ) {
        self.members.insert(
            account,
            MemberState {
                account_key,
                role,
                objects_to_ai: false,
                joined: rank,
                owner_since: (role == MembershipRole::Owner).then_some(rank),
            },
        );
    }
}
