//! From a set of operations to a membership, whatever order they came in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use wardline_wire::ids::{AccountId, PayloadHash};

use super::MembershipRole;
use super::log::Standing;
use super::membership::{Membership, Rank, Refusal, VoidReason};
use super::operation::{Operation, OperationKind, VerifiedOperation};

/// Places in the log, one bit each.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Places(Vec<u64>);

impl Places {
    pub(super) fn contains(&self, place: usize) -> bool {
        self.0
            .get(place / 64)
            .is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, place: usize) {
        if self.0.len() <= place / 64 {
            self.0.resize(place / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    pub(super) fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64).filter_map(move |bit| (word >> bit & 1 == 1).then_some(index * 64 + bit))
        })
    }
}

/// An operation in its place. Places are given out in order of arrival, parents first.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) operation: VerifiedOperation,
    pub(super) standing: Standing,
    pub(super) parents: Vec<usize>,
    /// Everything its author knew.
    pub(super) past: Places,
    /// Longest way to the beginning.
    pub(super) generation: u32,
    /// The signer's, by what it knew.
    pub(super) rank: Rank,
    /// Is, or builds on, an operation of a removed device.
    pub(super) doubtful: bool,
    /// Of a removed device, and a member has built on it.
    pub(super) anchored: bool,
    /// Neither waits itself nor builds on what waits.
    pub(super) counted: bool,
}

impl Entry {
    fn fields(&self) -> &Operation {
        self.operation.operation()
    }

    fn judge(&self, membership: &Membership) -> Result<Rank, Refusal> {
        membership.judge(self.fields(), self.operation.account_key())
    }
}

/// What a set of operations amounts to.
#[derive(Clone)]
pub(super) struct Evaluation {
    pub(super) membership: Arc<Membership>,
    /// Places of operations without effect.
    pub(super) void: BTreeMap<usize, VoidReason>,
}

/// What the operations in `set` amount to, of those that `counts`. `set` contains
/// the parents of whatever it contains.
///
/// One pass carries out the operations in linear order. Then the removals that took
/// effect, the most senior signer's first, void what is concurrent with them, and
/// the pass is made again without that, until nothing new is void. A removal is only
/// ever overruled by somebody senior to its signer, so what was voided stays void.
pub(super) fn evaluate(
    entries: &[Entry],
    set: &Places,
    counts: impl Fn(&Entry) -> bool,
) -> Evaluation {
    let order = linear_order(entries, set);
    let concerned = by_account(entries, &order);
    let mut void = BTreeMap::new();
    loop {
        let pass = carry_out(entries, &order, &counts, &void);
        let victims = first_victims(entries, &concerned, &pass, &void);
        if victims.is_empty() {
            void.extend(pass.without_effect);
            return Evaluation {
                membership: Arc::new(pass.membership),
                void,
            };
        }
        void.extend(victims);
    }
}

/// Causal order; among those that are ready, removals, then the senior signer, then
/// the smaller hash.
fn linear_order(entries: &[Entry], set: &Places) -> Vec<usize> {
    let key = |place: usize| {
        entries.get(place).map(|entry| {
            let fields = entry.fields();
            Reverse((!fields.kind.is_removal(), entry.rank, fields.hash, place))
        })
    };
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut unmet: HashMap<usize, usize> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for place in set.iter() {
        let Some(entry) = entries.get(place) else {
            continue;
        };
        if entry.parents.is_empty() {
            ready.extend(key(place));
        } else {
            unmet.insert(place, entry.parents.len());
        }
        for parent in &entry.parents {
            children.entry(*parent).or_default().push(place);
        }
    }
    let mut order = Vec::with_capacity(unmet.len() + 1);
    while let Some(Reverse((_, _, _, place))) = ready.pop() {
        order.push(place);
        for child in children.remove(&place).unwrap_or_default() {
            if let Some(count) = unmet.get_mut(&child) {
                *count -= 1;
                if *count == 0 {
                    ready.extend(key(child));
                }
            }
        }
    }
    order
}

/// Operations that a removal of an account could void: its own, and those that add
/// or promote it.
fn by_account(entries: &[Entry], order: &[usize]) -> HashMap<AccountId, Vec<usize>> {
    let mut concerned: HashMap<AccountId, Vec<usize>> = HashMap::new();
    for place in order {
        let Some(entry) = entries.get(*place) else {
            continue;
        };
        let fields = entry.fields();
        concerned
            .entry(fields.author.account)
            .or_default()
            .push(*place);
        if let Some(account) = brought_in(&fields.kind) {
            concerned.entry(account).or_default().push(*place);
        }
    }
    concerned
}

fn brought_in(kind: &OperationKind) -> Option<AccountId> {
    match kind {
        OperationKind::Add(member) => Some(member.account),
        OperationKind::Promote(account) => Some(*account),
        _ => None,
    }
}

/// One pass over the linear order.
struct Pass {
    membership: Membership,
    /// Removals and objections that took effect, or would have if another had not
    /// done the same already.
    effective: Vec<usize>,
    without_effect: Vec<(usize, VoidReason)>,
}

fn carry_out(
    entries: &[Entry],
    order: &[usize],
    counts: impl Fn(&Entry) -> bool,
    void: &BTreeMap<usize, VoidReason>,
) -> Pass {
    let mut pass = Pass {
        membership: Membership::default(),
        effective: Vec::new(),
        without_effect: Vec::new(),
    };
    for place in order {
        let Some(entry) = entries.get(*place) else {
            continue;
        };
        if void.contains_key(place) {
            continue;
        }
        if !counts(entry) {
            pass.without_effect
                .push((*place, VoidReason::DeviceRemoved));
            continue;
        }
        let fields = entry.fields();
        let verdict = match (&fields.kind, entry.judge(&pass.membership)) {
            (OperationKind::Unknown, Ok(_)) => Err(VoidReason::NotUnderstood),
            // The beginning; and two owners who leave at the same time both leave.
            (OperationKind::Create { .. }, _)
            | (_, Ok(_))
            | (OperationKind::Leave, Err(Refusal::LastOwner)) => Ok(true),
            // Done already by somebody else; it still voids what it is concurrent with.
            (OperationKind::Leave, Err(Refusal::NotAMember))
            | (OperationKind::Remove(_), Err(Refusal::TargetNotAMember))
            | (
                OperationKind::Demote(_),
                Err(Refusal::TargetNotAMember | Refusal::TargetNotAnOwner),
            ) => Ok(false),
            (_, Err(_)) => Err(VoidReason::Superseded),
        };
        match verdict {
            Ok(changes) => {
                if changes {
                    pass.membership.apply(fields, entry.generation);
                }
                if fields.kind.is_removal() || matches!(fields.kind, OperationKind::AiOff) {
                    pass.effective.push(*place);
                }
            }
            Err(reason) => pass.without_effect.push((*place, reason)),
        }
    }
    pass
}

/// What the most senior signer's removals void that is not void yet. A signer's own
/// leaving or stepping down goes before what it did to others at the same time.
fn first_victims(
    entries: &[Entry],
    concerned: &HashMap<AccountId, Vec<usize>>,
    pass: &Pass,
    void: &BTreeMap<usize, VoidReason>,
) -> BTreeMap<usize, VoidReason> {
    let mut groups: BTreeMap<(Rank, bool), BTreeSet<usize>> = BTreeMap::new();
    for place in &pass.effective {
        if let Some(entry) = entries.get(*place) {
            let to_others = target(entry.fields()) != entry.fields().author.account;
            groups
                .entry((entry.rank, to_others))
                .or_default()
                .insert(*place);
        }
    }
    for removals in groups.values() {
        let mut victims = BTreeMap::new();
        for place in removals {
            let Some(removal) = entries.get(*place) else {
                continue;
            };
            let candidates = concerned.get(&target(removal.fields()));
            for other in candidates.into_iter().flatten() {
                let Some(entry) = entries.get(*other) else {
                    continue;
                };
                let concurrent = other != place
                    && !entry.past.contains(*place)
                    && !removal.past.contains(*other);
                if concurrent
                    && !void.contains_key(other)
                    && let Some(reason) = voids(removal.fields(), entry.fields())
                {
                    victims.insert(*other, reason);
                }
            }
        }
        if !victims.is_empty() {
            return victims;
        }
    }
    BTreeMap::new()
}

/// Whom a removal or an objection is about.
fn target(operation: &Operation) -> AccountId {
    match &operation.kind {
        OperationKind::Remove(account) | OperationKind::Demote(account) => *account,
        _ => operation.author.account,
    }
}

/// Whether a removal voids another operation that is concurrent with it.
fn voids(removal: &Operation, other: &Operation) -> Option<VoidReason> {
    let target = target(removal);
    let is_signer = other.author.account == target;
    match &removal.kind {
        OperationKind::AiOff => (is_signer && matches!(other.kind, OperationKind::AiOn))
            .then_some(VoidReason::Superseded),
        // Leaving is never void, and stepping down changes nothing for whoever is out.
        OperationKind::Remove(_) | OperationKind::Leave => {
            if brought_in(&other.kind) == Some(target) {
                Some(VoidReason::RemovalWins)
            } else {
                (is_signer && !matches!(other.kind, OperationKind::Leave))
                    .then_some(VoidReason::SignerRemoved)
            }
        }
        OperationKind::Demote(_) => {
            let raises = match &other.kind {
                OperationKind::Promote(account) => *account == target,
                OperationKind::Add(member) => {
                    member.account == target && member.role == MembershipRole::Owner
                }
                _ => false,
            };
            let steps_down =
                matches!(&other.kind, OperationKind::Demote(account) if *account == target);
            let as_owner = matches!(
                other.kind,
                OperationKind::Add(_)
                    | OperationKind::Remove(_)
                    | OperationKind::Promote(_)
                    | OperationKind::Demote(_)
                    | OperationKind::SetTitle(_)
                    | OperationKind::SetTimer(_)
            );
            if raises {
                Some(VoidReason::RemovalWins)
            } else {
                (is_signer && as_owner && !steps_down).then_some(VoidReason::SignerRemoved)
            }
        }
        _ => None,
    }
}

/// The name of an entry.
pub(super) fn hash_of(entry: &Entry) -> PayloadHash {
    entry.operation.hash()
}
