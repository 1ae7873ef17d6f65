//! In which order operations arrive does not matter.

use super::*;
use proptest::prelude::*;
use wardline_wire::ids::PayloadHash;

/// One step of a history in which people do not always know of each other.
#[derive(Clone, Copy, Debug)]
struct Step {
    who: usize,
    what: u8,
    whom: usize,
    /// Hears everything from this one first.
    hears: Option<usize>,
    /// Forgets its last operation first: a cloned device, or a liar.
    from_old: bool,
}

const PEOPLE: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    (
        0..PEOPLE,
        0u8..11,
        0..PEOPLE,
        prop::option::weighted(0.4, 0..PEOPLE),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(who, what, whom, hears, from_old)| Step {
            who,
            what,
            whom,
            hears,
            from_old,
        })
}

fn kind(step: Step, people: &[Person]) -> OperationKind {
    let whom = &people[step.whom];
    match step.what {
        0 | 1 => add(whom),
        2 => OperationKind::Add(whom.as_new(MembershipRole::Owner)),
        3 | 4 => remove(whom),
        5 => promote(whom),
        6 => demote(whom),
        7 => OperationKind::Leave,
        8 => OperationKind::AiOff,
        9 => OperationKind::AiOn,
        _ => OperationKind::SetTimer(u32::try_from(step.whom).unwrap()),
    }
}

/// Plays a history; everything that anybody signed, with the first operation.
fn play(steps: &[Step]) -> (VerifiedOperation, Vec<VerifiedOperation>, Vec<Person>) {
    let people: Vec<_> = (1..=PEOPLE)
        .map(|seed| Person::new(u8::try_from(seed).unwrap()))
        .collect();
    let create = people[0].with_author(1, |author| {
        author
            .create(
                [7; 32],
                None,
                &[
                    people[1].as_new(MembershipRole::Owner),
                    people[2].as_new(MembershipRole::Owner),
                    people[3].as_new(MembershipRole::Member),
                ],
                NOW,
            )
            .unwrap()
    });
    let start = Log::begin(create.clone()).unwrap();
    let mut logs = vec![start.clone(); PEOPLE];
    let mut older = logs.clone();
    let mut all = Vec::new();
    for step in steps {
        if let Some(other) = step.hears {
            let heard = logs[other].clone();
            sync(&heard, &mut logs[step.who]);
        }
        let mut log = if step.from_old {
            older[step.who].clone()
        } else {
            logs[step.who].clone()
        };
        let Ok(operation) = people[step.who].tries(&log, kind(*step, &people)) else {
            continue;
        };
        older[step.who] = logs[step.who].clone();
        log.insert(operation.clone(), Standing::Current);
        sync(&log, &mut logs[step.who]);
        // From the same old state the same words are the same operation.
        if all
            .iter()
            .all(|known: &VerifiedOperation| known.hash() != operation.hash())
        {
            all.push(operation);
        }
    }
    (create, all, people)
}

/// A log that gets everything in this order, in pieces of `piece`.
fn replay(
    create: &VerifiedOperation,
    operations: &[VerifiedOperation],
    order: &[usize],
    piece: usize,
    standing: impl Fn(&PayloadHash) -> Standing,
) -> Log {
    let mut log = Log::begin(create.clone()).unwrap();
    let mut waiting = Vec::new();
    for indices in order.chunks(piece) {
        let mut batch = std::mem::take(&mut waiting);
        batch.extend(indices.iter().map(|index| {
            let operation = operations[*index].clone();
            let standing = standing(&operation.hash());
            (operation, standing)
        }));
        let result = log.insert_all(batch);
        assert!(result.refused.is_empty(), "{:?}", result.refused);
        waiting = result.waiting;
    }
    assert!(waiting.is_empty());
    log
}

/// What is compared: membership, and of every operation whether it counts.
fn outcome(log: &Log) -> (Membership, Vec<(PayloadHash, Option<VoidReason>)>) {
    let mut reasons: Vec<_> = log
        .operations()
        .map(|(operation, _)| (operation.hash(), log.void_reason(&operation.hash())))
        .collect();
    reasons.sort_by_key(|(hash, _)| *hash);
    (log.membership().clone(), reasons)
}

fn history() -> impl Strategy<Value = (Vec<Step>, Vec<u32>, Vec<u32>, usize)> {
    (
        prop::collection::vec(step(), 1..36),
        prop::collection::vec(any::<u32>(), 36),
        prop::collection::vec(any::<u32>(), 36),
        1usize..12,
    )
}

fn order(keys: &[u32], count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    order.sort_by_key(|index| keys[*index]);
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_order_gives_the_same_membership((steps, one, other, piece) in history()) {
        let (create, all, _) = play(&steps);
        let current = |_: &PayloadHash| Standing::Current;
        let straight = replay(&create, &all, &(0..all.len()).collect::<Vec<_>>(), 1, current);
        for keys in [one, other] {
            let shuffled = replay(&create, &all, &order(&keys, all.len()), piece, current);
            prop_assert!(outcome(&shuffled) == outcome(&straight));
            prop_assert_eq!(shuffled.heads(), straight.heads());
            prop_assert_eq!(shuffled.forks().is_empty(), straight.forks().is_empty());
        }
    }

    #[test]
    fn any_order_gives_the_same_membership_with_removed_devices(
        (steps, one, other, piece) in history(),
        removed in any::<u8>(),
    ) {
        let (create, all, _) = play(&steps);
        // A fifth of the operations or so come from devices that are off their list.
        let standing = |hash: &PayloadHash| {
            if (hash.as_bytes()[0] ^ removed).is_multiple_of(5) {
                Standing::Removed
            } else {
                Standing::Current
            }
        };
        let straight = replay(&create, &all, &(0..all.len()).collect::<Vec<_>>(), 1, standing);
        for keys in [one, other] {
            let shuffled = replay(&create, &all, &order(&keys, all.len()), piece, standing);
            prop_assert!(outcome(&shuffled) == outcome(&straight));
        }
    }

    /// The quick way (an operation on top of everything) and the long way (all of it
    /// from the beginning) agree, at every head.
    #[test]
    fn growing_and_recounting_agree((steps, _, _, _) in history()) {
        let (create, all, _) = play(&steps);
        let mut grown = Log::begin(create.clone()).unwrap();
        for (count, operation) in all.iter().enumerate() {
            accept_any(&mut grown, operation);
            // Asked for after every step, so that the quick way is taken.
            let quick = grown.membership().clone();
            let order: Vec<_> = (0..=count).rev().collect();
            let recounted =
                replay(&create, &all, &order, usize::MAX, |_| Standing::Current);
            prop_assert!(&quick == recounted.membership());
            let heads = grown.heads();
            prop_assert!(*grown.membership_at(&heads).unwrap() == quick);
        }
    }

    /// Alice began the conversation and removes Bob. Whatever Bob signs on top of
    /// anything from before, he is out and nothing of it counts.
    #[test]
    fn nothing_the_removed_signs_counts(
        before in prop::collection::vec(step(), 0..16),
        attempts in prop::collection::vec(step(), 1..10),
    ) {
        let (create, all, people) = play(&before);
        let [alice, bob] = [&people[0], &people[1]];
        let mut log = replay(
            &create,
            &all,
            &(0..all.len()).collect::<Vec<_>>(),
            1,
            |_| Standing::Current,
        );
        prop_assume!(log.membership().is_owner(alice.account));
        prop_assume!(log.membership().contains(bob.account));
        let mut dark = log.clone();
        let removal = alice.tries(&log, remove(bob)).unwrap();
        accept_any(&mut log, &removal);
        let expected = log.membership().clone();
        for step in attempts {
            if let Ok(operation) = bob.tries(&dark, kind(step, &people)) {
                accept_any(&mut dark, &operation);
                accept_any(&mut log, &operation);
                prop_assert!(log.membership() == &expected);
            }
        }
    }
}

fn accept_any(log: &mut Log, operation: &VerifiedOperation) {
    assert!(matches!(
        log.insert(operation.clone(), Standing::Current),
        Insertion::Inserted { .. }
    ));
}
