//! The operations held, and the questions asked of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, PayloadHash};

use super::membership::{Membership, Rank, Refusal, VoidReason};
use super::operation::{Author, OperationKind, VerifiedOperation};
use super::order::{Entry, Evaluation, Places, evaluate, hash_of};
use super::{MAX_DEVICE_OPERATIONS, MAX_OPERATIONS, MAX_WAITING, OperationError};
use crate::content::{ConversationId, ListRef, MAX_HEADS};

/// Hashes of refused operations that are remembered, so that nobody is asked for
/// them again.
const MAX_REFUSED: usize = 256;

/// Whether the signing device is still on its account's newest list, when the
/// operation arrives. What is held stays held when the device is removed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Current,
    /// It was taken off: the operation waits until a member has built on it.
    Removed,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in the log now.
    Inserted {
        /// Its device signed another operation with the same number: it shows
        /// different truths to different people, or was cloned. To be shown.
        fork: Option<Fork>,
    },
    /// It was there already.
    AlreadyHeld,
    /// These are needed first: ask the sender, and any member.
    MissingParents(Vec<PayloadHash>),
    /// It is refused for good.
    Refused(Refusal),
}

/// Two operations of one device with the same number. Both signatures together are
/// proof for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Who signed twice.
    pub device: DeviceAddress,
    /// The number used twice.
    pub sequence: u64,
    /// The two operations, in the order they arrived.
    pub operations: [PayloadHash; 2],
}

/// What became of several operations.
#[derive(Clone, Default)]
pub struct Batch {
    /// In the log now, in this order: what to store.
    pub inserted: Vec<PayloadHash>,
    /// Devices found signing twice.
    pub forks: Vec<Fork>,
    /// Refused for good.
    pub refused: Vec<(PayloadHash, Refusal)>,
    /// Waiting for what is missing: keep a bounded number and insert again.
    pub waiting: Vec<(VerifiedOperation, Standing)>,
    /// To be asked for.
    pub missing: Vec<PayloadHash>,
}

/// Why an own operation cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// The membership does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A value is out of bounds.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

/// Where the author of a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// A member, then and now.
    Member,
    /// A member as far as it knew, but removed by now: show it as written before the
    /// removal was known, or quarantine it; nobody acts on it.
    RemovedSince,
    /// Not a member at the place it names: quarantine.
    NotAMember,
    /// Its account key is not the pinned one: quarantine.
    OtherKey,
    /// It names operations that are not held: ask for them, then judge again.
    MissingOperations(Vec<PayloadHash>),
}

/// Something a log leans on: a newcomer needs it to check the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lean {
    /// Whose.
    pub account: AccountId,
    /// The pinned account key.
    pub account_key: [u8; 32],
    /// A list that operations name; `None` for members who signed nothing.
    pub list: Option<ListRef>,
}

/// The membership log of one conversation.
#[derive(Clone)]
pub struct Log {
    id: ConversationId,
    entries: Vec<Entry>,
    places: HashMap<PayloadHash, usize>,
    heads: BTreeSet<PayloadHash>,
    devices: HashMap<DeviceAddress, Vec<usize>>,
    forks: Vec<Fork>,
    refused: BTreeSet<PayloadHash>,
    /// Memberships right after heads, everything before them counted.
    views: HashMap<usize, Arc<Membership>>,
    current: OnceLock<Evaluation>,
    uncounted: usize,
}

impl Log {
    /// A log from its first operation. Its hash is the conversation's id: whoever is
    /// invited checks it against the id that the content names.
    ///
    /// # Errors
    /// [`Refusal::NotACreate`] for any other operation, [`Refusal::OtherKey`] when the
    /// author pins another key for itself than it signs with.
    pub fn begin(create: VerifiedOperation) -> Result<Self, Refusal> {
        let fields = create.operation();
        let OperationKind::Create { members, .. } = &fields.kind else {
            return Err(Refusal::NotACreate);
        };
        let author = fields.author;
        let own = members
            .iter()
            .find(|member| member.account == author.account);
        if own.is_none_or(|own| own.account_key != *create.account_key()) {
            return Err(Refusal::OtherKey);
        }
        let hash = create.hash();
        let mut membership = Membership::default();
        membership.apply(fields, 0);
        let membership = Arc::new(membership);
        let log = Self {
            id: ConversationId::from(hash),
            entries: vec![Entry {
                operation: create,
                standing: Standing::Current,
                parents: Vec::new(),
                past: Places::default(),
                generation: 0,
                rank: Rank::new(0, hash, 0),
                doubtful: false,
                anchored: false,
                counted: true,
            }],
            places: HashMap::from([(hash, 0)]),
            heads: BTreeSet::from([hash]),
            devices: HashMap::from([(author, vec![0])]),
            forks: Vec::new(),
            refused: BTreeSet::new(),
            views: HashMap::from([(0, Arc::clone(&membership))]),
            current: OnceLock::from(Evaluation {
                membership,
                void: BTreeMap::new(),
            }),
            uncounted: 0,
        };
        Ok(log)
    }

    /// The conversation.
    pub const fn id(&self) -> ConversationId {
        self.id
    }

    /// Who is in now.
    pub fn membership(&self) -> &Membership {
        &self.evaluation().membership
    }

    /// Hashes of the operations that nobody has built on yet, ascending; at most as
    /// many as a content may name.
    pub fn heads(&self) -> Vec<PayloadHash> {
        self.heads.iter().copied().take(MAX_HEADS).collect()
    }

    /// Whether the operation is held.
    pub fn holds(&self, hash: &PayloadHash) -> bool {
        self.places.contains_key(hash)
    }

    /// Those that are neither held nor known to be refused: to be asked for.
    pub fn unknown(&self, hashes: &[PayloadHash]) -> Vec<PayloadHash> {
        hashes
            .iter()
            .filter(|hash| !self.holds(hash) && !self.refused.contains(hash))
            .copied()
            .collect()
    }

    /// Number of operations held; never 0.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never true: a log begins with its first operation.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything held, parents first, with the standing it arrived with: what is
    /// stored and, without the standing, what a newcomer gets.
    pub fn operations(&self) -> impl Iterator<Item = (&VerifiedOperation, Standing)> {
        self.entries
            .iter()
            .map(|entry| (&entry.operation, entry.standing))
    }

    /// One operation.
    pub fn operation(&self, hash: &PayloadHash) -> Option<&VerifiedOperation> {
        let place = self.places.get(hash)?;
        self.entries.get(*place).map(|entry| &entry.operation)
    }

    /// Devices that signed two operations with the same number.
    pub fn forks(&self) -> &[Fork] {
        &self.forks
    }

    /// Why an operation that is held has no effect; `None` when it has.
    pub fn void_reason(&self, hash: &PayloadHash) -> Option<VoidReason> {
        let place = self.places.get(hash)?;
        self.evaluation().void.get(place).copied()
    }

    /// Membership as somebody saw it who knew these heads.
    ///
    /// # Errors
    /// The hashes that are not held.
    pub fn membership_at(
        &self,
        heads: &[PayloadHash],
    ) -> Result<Arc<Membership>, Vec<PayloadHash>> {
        let places = self.resolve(heads)?;
        let past = self.union(&places);
        if self.uncounted == 0 {
            return Ok(self.view(&places, &past));
        }
        Ok(evaluate(&self.entries, &past, |entry| entry.counted).membership)
    }

    /// Where the author of a message stands who knew these heads.
    pub fn judge_message(
        &self,
        author: AccountId,
        account_key: &[u8; 32],
        heads: &[PayloadHash],
    ) -> Position {
        let at = if heads.is_empty() {
            Arc::clone(&self.evaluation().membership)
        } else {
            match self.membership_at(heads) {
                Ok(at) => at,
                Err(missing) => {
                    let missing = self.unknown(&missing);
                    return if missing.is_empty() {
                        Position::NotAMember
                    } else {
                        Position::MissingOperations(missing)
                    };
                }
            }
        };
        match at.member(author) {
            None => Position::NotAMember,
            Some(state) if state.account_key != *account_key => Position::OtherKey,
            Some(_) if self.membership().contains(author) => Position::Member,
            Some(_) => Position::RemovedSince,
        }
    }

    /// Everything that the log leans on.
    pub fn leans_on(&self) -> BTreeSet<Lean> {
        let mut leans = BTreeSet::new();
        for entry in &self.entries {
            let fields = entry.operation.operation();
            leans.insert(Lean {
                account: fields.author.account,
                account_key: *entry.operation.account_key(),
                list: Some(fields.author_list),
            });
        }
        for (account, state) in self.membership().members() {
            if !leans
                .iter()
                .any(|lean| lean.account == account && lean.account_key == state.account_key)
            {
                leans.insert(Lean {
                    account,
                    account_key: state.account_key,
                    list: None,
                });
            }
        }
        leans
    }

    /// Signs a new operation on top of everything held. It still has to be inserted
    /// (and stored) like any other.
    ///
    /// # Errors
    /// [`AuthorError`] when the membership does not allow it or a value is out of bounds.
    pub fn author(
        &self,
        author: &Author<'_>,
        kind: OperationKind,
        now: Timestamp,
    ) -> Result<VerifiedOperation, AuthorError> {
        let heads = self.heads();
        let places: Vec<_> = heads
            .iter()
            .filter_map(|head| self.places.get(head).copied())
            .collect();
        let past = self.union(&places);
        let sequence = self.due(author.address, &past);
        let operation = author.sign(Some(self.id), heads, sequence, kind, now)?;
        self.view(&places, &past)
            .judge(operation.operation(), operation.account_key())?;
        Ok(operation)
    }

    /// Takes an operation in. Nothing changes unless it says `Inserted`.
    pub fn insert(&mut self, operation: VerifiedOperation, standing: Standing) -> Insertion {
        if self.holds(&operation.hash()) {
            return Insertion::AlreadyHeld;
        }
        let parents = match self.resolve(&operation.operation().parents) {
            Ok(parents) => parents,
            Err(missing) => {
                let unknown = self.unknown(&missing);
                if unknown.len() == missing.len() {
                    return Insertion::MissingParents(missing);
                }
                return self.refuse(operation.hash(), Refusal::LeansOnRefused);
            }
        };
        let hash = operation.hash();
        match self.admit(operation, parents, standing) {
            Ok(fork) => Insertion::Inserted { fork },
            Err(refusal) => self.refuse(hash, refusal),
        }
    }

    /// Takes several operations in, in whatever order they come.
    pub fn insert_all(&mut self, operations: Vec<(VerifiedOperation, Standing)>) -> Batch {
        let mut batch = Batch::default();
        let mut queue: VecDeque<_> = operations.into();
        let mut waiting: BTreeMap<PayloadHash, Vec<(VerifiedOperation, Standing)>> =
            BTreeMap::new();
        while let Some((operation, standing)) = queue.pop_front() {
            let hash = operation.hash();
            match self.insert(operation.clone(), standing) {
                Insertion::Inserted { fork } => {
                    batch.inserted.push(hash);
                    batch.forks.extend(fork);
                    queue.extend(waiting.remove(&hash).unwrap_or_default());
                }
                Insertion::AlreadyHeld => {}
                Insertion::Refused(refusal) => {
                    batch.refused.push((hash, refusal));
                    queue.extend(waiting.remove(&hash).unwrap_or_default());
                }
                Insertion::MissingParents(missing) => {
                    if let Some(first) = missing.first() {
                        waiting
                            .entry(*first)
                            .or_default()
                            .push((operation, standing));
                    }
                }
            }
        }
        let rest: Vec<_> = waiting.into_values().flatten().collect();
        let held: BTreeSet<_> = rest.iter().map(|(operation, _)| operation.hash()).collect();
        let missing: BTreeSet<_> = rest
            .iter()
            .flat_map(|(operation, _)| self.unknown(&operation.operation().parents))
            .filter(|hash| !held.contains(hash))
            .collect();
        batch.missing = missing.into_iter().collect();
        batch.waiting = rest;
        batch
    }

    fn refuse(&mut self, operation: PayloadHash, refusal: Refusal) -> Insertion {
        // Being full is a matter of now, the rest is for good.
        let for_good = !matches!(
            refusal,
            Refusal::TooManyOperations | Refusal::TooManyWaiting
        );
        if for_good && self.refused.len() < MAX_REFUSED {
            self.refused.insert(operation);
        }
        Insertion::Refused(refusal)
    }

    fn admit(
        &mut self,
        operation: VerifiedOperation,
        parents: Vec<usize>,
        standing: Standing,
    ) -> Result<Option<Fork>, Refusal> {
        let fields = operation.operation();
        if fields.conversation != self.id {
            return Err(Refusal::OtherConversation);
        }
        if self.entries.len() >= MAX_OPERATIONS || fields.sequence > MAX_DEVICE_OPERATIONS {
            return Err(Refusal::TooManyOperations);
        }
        let known = |place: &usize| self.entries.get(*place);
        if parents
            .iter()
            .filter_map(known)
            .any(|entry| parents.iter().any(|other| entry.past.contains(*other)))
        {
            return Err(Refusal::RedundantParents);
        }
        let past = self.union(&parents);
        let expected = self.due(fields.author, &past);
        if fields.sequence != expected {
            return Err(Refusal::Sequence {
                expected,
                found: fields.sequence,
            });
        }
        let view = self.view(&parents, &past);
        let rank = view.judge(fields, operation.account_key())?;
        let generation = parents
            .iter()
            .filter_map(known)
            .map(|entry| entry.generation.saturating_add(1))
            .max()
            .unwrap_or(0);
        let doubtful = standing == Standing::Removed
            || parents.iter().filter_map(known).any(|entry| entry.doubtful);
        let anchors = self.anchored_by(&operation, standing, &past);
        let waits = standing == Standing::Removed
            || past.iter().any(|place| {
                known(&place).is_some_and(|entry| !entry.counted) && !anchors.contains(place)
            });
        if waits && self.uncounted >= MAX_WAITING {
            return Err(Refusal::TooManyWaiting);
        }

        // Everything is decided; from here on the log changes.
        let place = self.entries.len();
        let device = fields.author;
        let hash = fields.hash;
        let fork = self.fork_with(&operation);
        let mut after = Membership::clone(&view);
        after.apply(fields, generation);
        let after = Arc::new(after);
        let on_all_heads = parents.len() == self.heads.len()
            && fields
                .parents
                .iter()
                .all(|parent| self.heads.contains(parent));
        let parent_hashes = fields.parents.clone();
        let understood = fields.kind != OperationKind::Unknown;
        for parent in &parents {
            self.views.remove(parent);
        }
        self.entries.push(Entry {
            operation,
            standing,
            parents,
            past,
            generation,
            rank,
            doubtful,
            anchored: false,
            counted: !waits,
        });
        self.places.insert(hash, place);
        self.devices.entry(device).or_default().push(place);
        self.forks.extend(fork);
        for parent in &parent_hashes {
            self.heads.remove(parent);
        }
        self.heads.insert(hash);
        self.views.insert(place, Arc::clone(&after));
        let was_settled = self.uncounted == 0;
        self.uncounted += usize::from(waits);
        self.anchor(&anchors);
        // The common case: it knew everything, and everything counts.
        let before = self.current.take();
        if let Some(mut evaluation) = before
            && was_settled
            && !waits
            && on_all_heads
        {
            evaluation.membership = after;
            if !understood {
                evaluation.void.insert(place, VoidReason::NotUnderstood);
            }
            self.current = OnceLock::from(evaluation);
        }
        Ok(fork)
    }

    /// Waiting operations of removed devices that this one vouches for: all in its
    /// past, if its author is a member without them.
    fn anchored_by(
        &self,
        operation: &VerifiedOperation,
        standing: Standing,
        past: &Places,
    ) -> Places {
        let mut anchors = Places::default();
        if self.uncounted == 0 || standing == Standing::Removed {
            return anchors;
        }
        let waiting: Vec<_> = past
            .iter()
            .filter(|place| self.entries.get(*place).is_some_and(|entry| !entry.counted))
            .collect();
        if waiting.is_empty() {
            return anchors;
        }
        let without = evaluate(&self.entries, past, |entry| !entry.doubtful).membership;
        let author = operation.operation().author.account;
        if without
            .member(author)
            .is_some_and(|state| state.account_key == *operation.account_key())
        {
            for place in waiting {
                anchors.insert(place);
            }
        }
        anchors
    }

    /// Marks what was vouched for, and counts what no longer waits.
    fn anchor(&mut self, anchors: &Places) {
        if self.uncounted == 0 {
            return;
        }
        for place in anchors.iter() {
            if let Some(entry) = self.entries.get_mut(place) {
                entry.anchored = true;
            }
        }
        let blocking: Vec<_> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.standing == Standing::Removed && !entry.anchored)
            .map(|(place, _)| place)
            .collect();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if !entry.counted
                && !blocking
                    .iter()
                    .any(|other| *other == place || entry.past.contains(*other))
            {
                entry.counted = true;
                self.uncounted -= 1;
            }
        }
    }

    fn fork_with(&self, operation: &VerifiedOperation) -> Option<Fork> {
        let fields = operation.operation();
        let other = self
            .devices
            .get(&fields.author)?
            .iter()
            .filter_map(|place| self.entries.get(*place))
            .find(|entry| entry.operation.operation().sequence == fields.sequence)?;
        Some(Fork {
            device: fields.author,
            sequence: fields.sequence,
            operations: [hash_of(other), fields.hash],
        })
    }

    /// The next number of a device that knows `past`.
    fn due(&self, device: DeviceAddress, past: &Places) -> u64 {
        self.devices
            .get(&device)
            .into_iter()
            .flatten()
            .filter(|place| past.contains(**place))
            .filter_map(|place| self.entries.get(*place))
            .map(|entry| entry.operation.operation().sequence)
            .max()
            .unwrap_or(0)
            .saturating_add(1)
    }

    fn resolve(&self, hashes: &[PayloadHash]) -> Result<Vec<usize>, Vec<PayloadHash>> {
        let missing: Vec<_> = hashes
            .iter()
            .filter(|hash| !self.holds(hash))
            .copied()
            .collect();
        if missing.is_empty() {
            Ok(hashes
                .iter()
                .filter_map(|hash| self.places.get(hash).copied())
                .collect())
        } else {
            Err(missing)
        }
    }

    fn union(&self, places: &[usize]) -> Places {
        let mut union = Places::default();
        for place in places {
            union.insert(*place);
            if let Some(entry) = self.entries.get(*place) {
                union.unite(&entry.past);
            }
        }
        union
    }

    /// Membership right after `places`, with everything in `past` counted.
    fn view(&self, places: &[usize], past: &Places) -> Arc<Membership> {
        if let [place] = places
            && let Some(view) = self.views.get(place)
        {
            return Arc::clone(view);
        }
        let is_head = |place: &usize| {
            self.entries
                .get(*place)
                .is_some_and(|entry| self.heads.contains(&hash_of(entry)))
        };
        if self.uncounted == 0 && places.len() == self.heads.len() && places.iter().all(is_head) {
            return Arc::clone(&self.evaluation().membership);
        }
        evaluate(&self.entries, past, |_| true).membership
    }

    fn evaluation(&self) -> &Evaluation {
        self.current.get_or_init(|| {
            let mut all = Places::default();
            for place in 0..self.entries.len() {
                all.insert(place);
            }
            evaluate(&self.entries, &all, |entry| entry.counted)
        })
    }
}
