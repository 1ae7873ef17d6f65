//! What did not arrive: holes in a device's numbering, operations nobody sent.
//!
//! Every device counts what it sends to a conversation (or, outside conversations,
//! to an account). [`SequenceTracker`] follows one such numbering; a hole is shown
//! until it is filled, and never forgotten silently. [`MissingOperations`] follows
//! the membership operations that somebody named and nobody has sent yet.
//! Both are bounded, whatever a peer sends.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::PayloadHash;

use crate::content::{Content, ContentError};
use crate::conversation::Log;
use crate::proto;

/// Most holes that are followed at once; the oldest is given up beyond.
pub const MAX_HOLES: usize = 64;
/// Farthest jump that is believed. A device that sends a message every second takes
/// eleven days for it.
pub const MAX_JUMP: u64 = 1_000_000;
/// Most operations that are asked for at once.
pub const MAX_ASKED: usize = 256;
/// First pause before an operation is asked for again; doubles with every try.
const FIRST_PAUSE_MS: u64 = 30_000;
/// Longest pause: six hours.
const MAX_PAUSE_MS: u64 = 6 * 3_600_000;

/// What a sequence number says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The first of this device here. Nothing before it was ever ours.
    First,
    /// The one that was due.
    InOrder,
    /// It is ahead: these are missing now. To be shown, and asked for.
    GapOpened {
        /// Missing, first and last.
        missing: RangeInclusive<u64>,
    },
    /// One that was missing.
    Late {
        /// Nothing is missing any more.
        all_closed: bool,
    },
    /// It was seen before. If its content id is new, the device uses numbers twice:
    /// it was cloned or restored from a backup, and that is to be shown.
    Duplicate,
    /// Before the first one seen, or given up: it may be shown, late.
    BeforeKnown,
    /// Not believable (0, or more than [`MAX_JUMP`] ahead): quarantine.
    Implausible,
}

/// Follows the numbering of one (sender device, conversation).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceTracker {
    /// First number that counts here; 0 before anything was seen.
    base: u64,
    highest: u64,
    /// First to last of each hole; ascending, apart.
    holes: BTreeMap<u64, u64>,
    abandoned: u64,
}

impl SequenceTracker {
    /// Nothing seen. Whoever joins late begins with the first number it sees.
    pub const fn new() -> Self {
        Self {
            base: 0,
            highest: 0,
            holes: BTreeMap::new(),
            abandoned: 0,
        }
    }

    /// Nothing seen, but everything from 1 on is ours: for a conversation or session
    /// that this endpoint is in from the beginning.
    pub fn from_beginning() -> Self {
        Self {
            base: 1,
            ..Self::new()
        }
    }

    /// Takes a number in.
    pub fn observe(&mut self, sequence: u64) -> Observation {
        if sequence == 0 {
            return Observation::Implausible;
        }
        if self.base == 0 {
            self.base = sequence;
            self.highest = sequence;
            return Observation::First;
        }
        if sequence == self.highest {
            return Observation::Duplicate;
        }
        let due = self.highest.saturating_add(1).max(self.base);
        if sequence == due {
            self.highest = sequence;
            return Observation::InOrder;
        }
        if sequence > due {
            if sequence - due > MAX_JUMP {
                return Observation::Implausible;
            }
            self.highest = sequence;
            self.open(due, sequence - 1);
            return Observation::GapOpened {
                missing: due..=sequence - 1,
            };
        }
        if sequence < self.base {
            return Observation::BeforeKnown;
        }
        if self.close(sequence) {
            Observation::Late {
                all_closed: self.holes.is_empty(),
            }
        } else {
            Observation::Duplicate
        }
    }

    /// What is missing, oldest first.
    pub fn missing(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.holes.iter().map(|(first, last)| *first..=*last)
    }

    /// How many numbers are missing.
    pub fn missing_count(&self) -> u64 {
        self.holes
            .iter()
            .fold(0, |sum, (first, last)| sum.saturating_add(last - first + 1))
    }

    /// How many were given up because there were too many holes. Shown as lost.
    pub const fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Highest number seen; 0 for none.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// This endpoint was out of the conversation and is back: what lies between is not
    /// a hole. The next number seen is taken as it comes; holes from before stay.
    pub fn resume_at(&mut self, sequence: u64) {
        if sequence > self.highest.saturating_add(1) {
            self.highest = sequence - 1;
        }
        self.base = self.base.max(1);
    }

    /// For the own store.
    pub fn encode(&self) -> Vec<u8> {
        proto::SequenceState {
            base: self.base,
            highest: self.highest,
            missing: self
                .holes
                .iter()
                .flat_map(|(first, last)| [*first, *last])
                .collect(),
            abandoned: self.abandoned,
        }
        .encode_to_vec()
    }

    /// From the own store.
    ///
    /// # Errors
    /// [`ContentError::Malformed`] when the store is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        let state = proto::SequenceState::decode(bytes).map_err(|_| ContentError::Malformed)?;
        let mut holes = BTreeMap::new();
        let mut behind = 0;
        for pair in state.missing.chunks(2) {
            let [first, last] = pair else {
                return Err(ContentError::Malformed);
            };
            if *first <= behind || last < first || *last > state.highest {
                return Err(ContentError::Malformed);
            }
            behind = *last;
            holes.insert(*first, *last);
        }
        if holes.len() > MAX_HOLES {
            return Err(ContentError::Malformed);
        }
        Ok(Self {
            base: state.base,
            highest: state.highest,
            holes,
            abandoned: state.abandoned,
        })
    }

    fn open(&mut self, first: u64, last: u64) {
        self.holes.insert(first, last);
        while self.holes.len() > MAX_HOLES {
            if let Some((first, last)) = self.holes.pop_first() {
                self.abandoned = self.abandoned.saturating_add(last - first + 1);
                self.base = last + 1;
            }
        }
    }

    /// Whether the number was missing; it is not any more.
    fn close(&mut self, sequence: u64) -> bool {
        let Some((first, last)) = self
            .holes
            .range(..=sequence)
            .next_back()
            .map(|(first, last)| (*first, *last))
        else {
            return false;
        };
        if sequence > last {
            return false;
        }
        self.holes.remove(&first);
        if first < sequence {
            self.holes.insert(first, sequence - 1);
        }
        if sequence < last {
            self.holes.insert(sequence + 1, last);
        }
        // Filling the middle of a hole makes two of it.
        while self.holes.len() > MAX_HOLES {
            if let Some((first, last)) = self.holes.pop_first() {
                self.abandoned = self.abandoned.saturating_add(last - first + 1);
                self.base = last + 1;
            }
        }
        true
    }
}

impl fmt::Display for SequenceTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.missing_count(), self.abandoned) {
            (0, 0) => f.write_str("nothing is missing"),
            (1, 0) => f.write_str("one message has not arrived"),
            (missing, 0) => write!(f, "{missing} messages have not arrived"),
            (missing, lost) => write!(
                f,
                "{missing} messages have not arrived and {lost} more are lost"
            ),
        }
    }
}

/// Membership operations that somebody named and nobody has sent yet.
#[derive(Clone, Debug, Default)]
pub struct MissingOperations {
    asked: BTreeMap<PayloadHash, Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    next_at: Timestamp,
    pause_ms: u64,
}

impl MissingOperations {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which of the hashes a content (or an operation's parents) names are to be asked
    /// for now, of its sender and then of other members: those the log does not know
    /// and that were not asked for lately. Beyond [`MAX_ASKED`] nothing new is asked.
    pub fn ask(&mut self, log: &Log, named: &[PayloadHash], now: Timestamp) -> Vec<PayloadHash> {
        self.asked.retain(|hash, _| !log.holds(hash));
        let mut ask = Vec::new();
        for hash in log.unknown(named) {
            let room = self.asked.len() < MAX_ASKED;
            match self.asked.get_mut(&hash) {
                Some(asked) if now < asked.next_at => {}
                Some(asked) => {
                    asked.pause_ms = asked.pause_ms.saturating_mul(2).min(MAX_PAUSE_MS);
                    asked.next_at = now.plus_millis(asked.pause_ms);
                    ask.push(hash);
                }
                None if room => {
                    self.asked.insert(
                        hash,
                        Asked {
                            next_at: now.plus_millis(FIRST_PAUSE_MS),
                            pause_ms: FIRST_PAUSE_MS,
                        },
                    );
                    ask.push(hash);
                }
                None => {}
            }
        }
        ask
    }

    /// The heads of a content, asked for like [`ask`](Self::ask).
    pub fn ask_for_heads(
        &mut self,
        log: &Log,
        content: &Content,
        now: Timestamp,
    ) -> Vec<PayloadHash> {
        self.ask(log, &content.heads, now)
    }

    /// Those that are due to be asked for again, of some other member.
    pub fn due(&mut self, log: &Log, now: Timestamp) -> Vec<PayloadHash> {
        let open: Vec<_> = self.asked.keys().copied().collect();
        self.ask(log, &open, now)
    }

    /// Whether operations are still missing: the roster may not be complete.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_is_quiet() {
        let mut tracker = SequenceTracker::from_beginning();
        for sequence in 1..100 {
            assert_eq!(tracker.observe(sequence), Observation::InOrder);
        }
        assert_eq!(tracker.missing_count(), 0);
        assert_eq!(tracker.to_string(), "nothing is missing");
    }

    #[test]
    fn a_dropped_first_message_shows() {
        let mut tracker = SequenceTracker::from_beginning();
        assert_eq!(
            tracker.observe(2),
            Observation::GapOpened { missing: 1..=1 }
        );
        assert_eq!(tracker.to_string(), "one message has not arrived");
    }

    #[test]
    fn who_joins_late_begins_where_it_is() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(tracker.observe(57), Observation::First);
        assert_eq!(tracker.observe(58), Observation::InOrder);
        assert_eq!(tracker.observe(56), Observation::BeforeKnown);
        assert_eq!(tracker.missing_count(), 0);
    }

    #[test]
    fn gaps_open_and_close() {
        let mut tracker = SequenceTracker::from_beginning();
        tracker.observe(1);
        assert_eq!(
            tracker.observe(5),
            Observation::GapOpened { missing: 2..=4 }
        );
        assert_eq!(tracker.observe(3), Observation::Late { all_closed: false });
        assert_eq!(tracker.observe(3), Observation::Duplicate);
        assert_eq!(tracker.missing().collect::<Vec<_>>(), [2..=2, 4..=4]);
        assert_eq!(tracker.observe(2), Observation::Late { all_closed: false });
        assert_eq!(tracker.observe(4), Observation::Late { all_closed: true });
        assert_eq!(tracker.observe(6), Observation::InOrder);
    }

    #[test]
    fn what_cannot_be_is_not_followed() {
        let mut tracker = SequenceTracker::from_beginning();
        assert_eq!(tracker.observe(0), Observation::Implausible);
        assert_eq!(tracker.observe(u64::MAX), Observation::Implausible);
        assert_eq!(tracker.observe(MAX_JUMP + 2), Observation::Implausible);
        assert_eq!(tracker, SequenceTracker::from_beginning());
        assert_eq!(
            tracker.observe(MAX_JUMP + 1),
            Observation::GapOpened {
                missing: 1..=MAX_JUMP
            }
        );
    }

    #[test]
    fn the_highest_number_is_no_end() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(tracker.observe(u64::MAX), Observation::First);
        assert_eq!(tracker.observe(u64::MAX), Observation::Duplicate);
    }

    #[test]
    fn holes_are_bounded_and_what_is_given_up_is_counted() {
        let mut tracker = SequenceTracker::from_beginning();
        for index in 1..=200 {
            tracker.observe(index * 2);
        }
        assert_eq!(tracker.missing().count(), MAX_HOLES);
        assert_eq!(tracker.abandoned(), 200 - MAX_HOLES as u64);
        assert_eq!(tracker.observe(1), Observation::BeforeKnown);
        assert!(tracker.to_string().contains("136 more are lost"));
    }

    #[test]
    fn absence_is_not_a_hole() {
        let mut tracker = SequenceTracker::from_beginning();
        tracker.observe(1);
        tracker.resume_at(50);
        assert_eq!(tracker.observe(50), Observation::InOrder);
        assert_eq!(tracker.missing_count(), 0);
    }

    #[test]
    fn a_damaged_store_is_noticed() {
        let bad = |missing| {
            proto::SequenceState {
                base: 1,
                highest: 10,
                missing,
                abandoned: 0,
            }
            .encode_to_vec()
        };
        assert!(SequenceTracker::decode(&bad(vec![2, 3, 5, 5])).is_ok());
        for missing in [
            vec![2],
            vec![3, 2],
            vec![2, 5, 5, 6],
            vec![2, 11],
            vec![0, 1],
        ] {
            assert_eq!(
                SequenceTracker::decode(&bad(missing)),
                Err(ContentError::Malformed)
            );
        }
    }

    proptest! {
        /// However messages are reordered, repeated and dropped: what is missing is
        /// exactly what was not seen, and every first sight is told from a repetition.
        #[test]
        fn missing_is_what_was_not_seen(sequence in prop::collection::vec(1u64..60, 1..120)) {
            let mut tracker = SequenceTracker::from_beginning();
            let mut seen = std::collections::BTreeSet::new();
            for number in sequence {
                let observation = tracker.observe(number);
                prop_assert_eq!(observation == Observation::Duplicate, !seen.insert(number));
                let highest = seen.last().copied().unwrap_or(0);
                let expected: Vec<_> = (1..=highest).filter(|n| !seen.contains(n)).collect();
                let missing: Vec<_> = tracker.missing().flatten().collect();
                prop_assert_eq!(missing, expected);
                prop_assert_eq!(&SequenceTracker::decode(&tracker.encode()).unwrap(), &tracker);
            }
        }
    }
}
