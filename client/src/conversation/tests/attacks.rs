//! What hostile members, devices and relays try, and what becomes of it.
//!
//! | attack | verdict |
//! | --- | --- |
//! | altered payload or signature; another clinic | refused (signature) |
//! | operation of a device that is not on the list; another list than named | refused (ghost device, other list) |
//! | replayed operation; the same with another signature | already held |
//! | two operations with one number | both held, fork shown |
//! | skipped or repeated number in what it knew | refused (sequence) |
//! | unknown, redundant, unsorted, self-naming parents | asked for, refused |
//! | operation of a stranger, of a removed member, after leaving | refused (not a member) |
//! | promoted by nobody; promoted by a voided promotion | refused; no effect |
//! | removed owner undoes the removal, retaliates, brings friends | void |
//! | two owners remove each other | the senior's counts, the junior's is refused |
//! | member added while being removed | removal wins |
//! | operation of a removed device, late | waits until a member builds on it |
//! | removed device brings an accomplice who vouches for it | waits |
//! | another beginning for the same conversation | another conversation |
//! | operation of another conversation | refused |

use super::*;
use prost::Message as _;
use wardline_wire::ids::PayloadHash;

use crate::proto;
use crate::proto::operation::Kind;

fn verify(blob: SignedBlob, person: &Person) -> Result<VerifiedOperation, OperationError> {
    UnverifiedOperation::read(blob)?.verify(deployment(), person.lists.last().unwrap())
}

#[test]
fn every_altered_bit_is_refused() {
    let ward = ward();
    let operation = ward.alice.tries(&ward.log, add(&ward.dora)).unwrap();
    let good = operation.blob().clone();
    assert!(verify(good.clone(), &ward.alice).is_ok());
    for bit in 0..good.payload.len() * 8 {
        let mut altered = good.clone();
        altered.payload[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(altered, &ward.alice).is_err(), "payload bit {bit}");
    }
    for bit in 0..512 {
        let mut altered = good.clone();
        altered.signature[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(altered, &ward.alice).is_err(), "signature bit {bit}");
    }
    let there = DeploymentId::from([1; 16]);
    let elsewhere = UnverifiedOperation::read(good)
        .unwrap()
        .verify(there, ward.alice.lists.last().unwrap());
    assert!(matches!(elsewhere, Err(OperationError::Signature(_))));
}

#[test]
fn a_ghost_device_has_no_say() {
    let ward = ward();
    // Device 2 is on no list of Alice's, whoever holds its key.
    let ghost = ward.alice.with_author(2, |author| {
        ward.log.author(author, add(&ward.dora), NOW).unwrap()
    });
    assert_eq!(
        verify(ghost.blob().clone(), &ward.alice).err(),
        Some(OperationError::GhostDevice)
    );
    // A list that another account signed, or another version, is not the one named.
    let operation = ward.alice.tries(&ward.log, add(&ward.dora)).unwrap();
    assert_eq!(
        verify(operation.blob().clone(), &ward.bob).err(),
        Some(OperationError::OtherList)
    );
    let mut renewed = ward.alice.clone();
    renewed.sign_list(&[1]);
    assert_eq!(
        verify(operation.blob().clone(), &renewed).err(),
        Some(OperationError::OtherList)
    );
}

#[test]
fn malformed_operations_are_named() {
    let ward = ward();
    let operation = ward.alice.tries(&ward.log, add(&ward.dora)).unwrap();
    let wire = proto::Operation::decode(operation.blob().payload.as_slice()).unwrap();
    let read = |change: &dyn Fn(&mut proto::Operation)| {
        let mut wire = wire.clone();
        change(&mut wire);
        let blob = SignedBlob {
            payload: wire.encode_to_vec(),
            signature: vec![0; 64],
        };
        match UnverifiedOperation::read(blob) {
            Err(OperationError::Malformed(what)) => what,
            _ => "fine",
        }
    };
    assert_eq!(read(&|_| {}), "fine");
    assert_eq!(read(&|op| op.parents.clear()), "parents");
    assert_eq!(read(&|op| op.parents.push(vec![1; 31])), "parents");
    assert_eq!(
        read(&|op| op.parents = vec![vec![2; 32], vec![1; 32]]),
        "parents"
    );
    assert_eq!(
        read(&|op| op.parents = vec![vec![1; 32], vec![1; 32]]),
        "parents"
    );
    assert_eq!(
        read(&|op| op.parents = (0..33).map(|byte| vec![byte; 32]).collect()),
        "parents"
    );
    assert_eq!(read(&|op| op.author_sequence = 0), "sequence");
    assert_eq!(read(&|op| op.author_list_version = 0), "sequence");
    assert_eq!(read(&|op| op.author_list_hash = vec![]), "device list");
    assert_eq!(read(&|op| op.author_account_id = vec![1]), "author");
    assert_eq!(read(&|op| op.author_device_id = 128), "author");
    assert_eq!(read(&|op| op.conversation_id = vec![]), "conversation");
    let kind = |kind| read(&|op: &mut proto::Operation| op.kind = Some(Clone::clone(&kind)));
    assert_eq!(kind(Kind::Add(proto::Add { member: None })), "member");
    assert_eq!(
        kind(Kind::Remove(proto::Remove { account_id: vec![] })),
        "account"
    );
    assert_eq!(
        kind(Kind::SetTitle(proto::SetTitle {
            title_hash: vec![1]
        })),
        "title"
    );
    let garbage = SignedBlob {
        payload: vec![0xFF; 40],
        signature: vec![],
    };
    assert_eq!(
        UnverifiedOperation::read(garbage).err(),
        Some(OperationError::Malformed("encoding"))
    );
    let huge = SignedBlob {
        payload: vec![0; 40_000],
        signature: vec![],
    };
    assert_eq!(
        UnverifiedOperation::read(huge).err(),
        Some(OperationError::Malformed("size"))
    );
}

#[test]
fn a_replay_changes_nothing() {
    let Ward {
        alice,
        dora,
        mut log,
        ..
    } = ward();
    let admission = alice.does(&mut log, add(&dora));
    alice.does(&mut log, remove(&dora));
    let before = log.membership().clone();
    assert_eq!(
        log.insert(admission, Standing::Current),
        Insertion::AlreadyHeld
    );
    assert_eq!(log.membership(), &before);
    assert!(!before.contains(dora.account));
}

#[test]
fn a_device_that_signs_two_truths_is_shown() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward();
    let one = bob.tries(&log, add(&dora)).unwrap();
    let other = bob.tries(&log, remove(&carol)).unwrap();
    accept(&mut log, &one);
    let expected = Fork {
        device: one.operation().author,
        sequence: 1,
        operations: [one.hash(), other.hash()],
    };
    assert_eq!(
        log.insert(other, Standing::Current),
        Insertion::Inserted {
            fork: Some(expected)
        }
    );
    assert_eq!(log.forks(), [expected]);
    // The conversation goes on, on top of both.
    alice.does(&mut log, remove(&bob));
    assert!(log.membership().contains(dora.account));
    assert!(!log.membership().contains(bob.account));
}

#[test]
fn numbers_follow_from_what_the_device_knew() {
    let Ward { alice, mut log, .. } = ward();
    for found in [1, 3, u64::MAX] {
        let wrong = alice.forges(&log, found, OperationKind::AiOff);
        let expected = if found > MAX_DEVICE_OPERATIONS {
            Refusal::TooManyOperations
        } else {
            Refusal::Sequence { expected: 2, found }
        };
        assert_eq!(refusal(&mut log, &wrong), expected);
    }
}

#[test]
fn unknown_parents_are_asked_for_and_redundant_ones_refused() {
    let Ward {
        alice,
        bob,
        dora,
        mut log,
        ..
    } = ward();
    let first = alice.tries(&log, add(&dora)).unwrap();
    let mut ahead = log.clone();
    accept(&mut ahead, &first);
    let second = bob.tries(&ahead, remove(&dora)).unwrap();
    assert_eq!(
        log.insert(second.clone(), Standing::Current),
        Insertion::MissingParents(vec![first.hash()])
    );
    assert_eq!(log.len(), 1);
    let batch = log.insert_all(vec![(second.clone(), Standing::Current)]);
    assert_eq!(batch.missing, [first.hash()]);
    assert_eq!(batch.waiting.len(), 1);
    let batch = log.insert_all(vec![
        (second, Standing::Current),
        (first.clone(), Standing::Current),
    ]);
    assert_eq!(batch.inserted.len(), 2);

    let mut parents = vec![PayloadHash::from(log.id()), log.heads()[0]];
    parents.sort_unstable();
    let redundant = alice.with_author(1, |author| {
        author
            .sign(Some(log.id()), parents, 3, OperationKind::AiOff, NOW)
            .unwrap()
    });
    assert_eq!(refusal(&mut log, &redundant), Refusal::RedundantParents);
}

#[test]
fn what_builds_on_a_refused_operation_is_refused_and_not_asked_for() {
    let Ward {
        bob,
        carol,
        dora,
        mut log,
        ..
    } = ward();
    let forged = carol.forges(&log, 1, add(&dora));
    assert_eq!(refusal(&mut log, &forged), Refusal::NotAnOwner);
    let on_top = bob.with_author(1, |author| {
        author
            .sign(
                Some(log.id()),
                vec![forged.hash()],
                1,
                OperationKind::AiOff,
                NOW,
            )
            .unwrap()
    });
    assert_eq!(refusal(&mut log, &on_top), Refusal::LeansOnRefused);
    assert!(log.unknown(&[forged.hash(), on_top.hash()]).is_empty());
}

#[test]
fn strangers_and_those_who_are_out_have_no_say() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward();
    let stranger = dora.forges(&log, 1, add(&dora));
    assert_eq!(refusal(&mut log, &stranger), Refusal::NotAMember);
    alice.does(&mut log, remove(&bob));
    let undo = bob.forges(
        &log,
        1,
        OperationKind::Add(bob.as_new(MembershipRole::Owner)),
    );
    assert_eq!(refusal(&mut log, &undo), Refusal::NotAMember);
    carol.does(&mut log, OperationKind::Leave);
    let back = carol.forges(&log, 2, add(&carol));
    assert_eq!(refusal(&mut log, &back), Refusal::NotAMember);
    // Another account's name on one's own signature does not pass verification.
    let mut mask = dora.clone();
    mask.account = alice.account;
    let masked = mask.forges(&log, 3, add(&dora));
    assert_eq!(
        verify(masked.blob().clone(), &alice).err(),
        Some(OperationError::OtherList)
    );
}

#[test]
fn nobody_is_promoted_by_nobody() {
    let Ward {
        carol,
        dora,
        mut log,
        ..
    } = ward();
    let own = carol.forges(&log, 1, promote(&carol));
    assert_eq!(refusal(&mut log, &own), Refusal::NotAnOwner);
    let as_owner = carol.forges(&log, 1, add(&dora));
    assert_eq!(refusal(&mut log, &as_owner), Refusal::NotAnOwner);
}

/// Whatever a removed owner signs on top of what was before its removal: it had not
/// the seniority, or it is void.
#[test]
fn a_removed_owner_cannot_undo_it() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    let mut honest = log.clone();
    alice.does(&mut honest, remove(&bob));
    let expected = honest.membership().clone();

    // Against whoever removed it: refused whenever it arrives.
    for retaliation in [remove(&alice), demote(&alice)] {
        let operation = bob.forges(&log, 1, retaliation);
        assert_eq!(refusal(&mut honest, &operation), Refusal::NotSenior);
    }
    // Friends, successors, settings: void.
    let attempts: [&[OperationKind]; 4] = [
        &[add(&dora), promote(&dora)],
        &[promote(&carol), OperationKind::SetTimer(1)],
        &[remove(&carol)],
        &[OperationKind::SetTitle(None), OperationKind::AiOff],
    ];
    for kinds in attempts {
        let mut backdated = log.clone();
        let operations: Vec<_> = kinds
            .iter()
            .map(|kind| bob.does(&mut backdated, kind.clone()))
            .collect();
        let mut merged = honest.clone();
        sync(&backdated, &mut merged);
        assert_eq!(merged.membership(), &expected);
        for operation in operations {
            assert_eq!(
                merged.void_reason(&operation.hash()),
                Some(VoidReason::SignerRemoved)
            );
        }
    }
}

#[test]
fn an_accomplice_made_in_the_dark_stays_out() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    // Bob appoints Dora; Dora removes Carol and adds more; meanwhile Alice removes Bob.
    let mut dark = log.clone();
    bob.does(
        &mut dark,
        OperationKind::Add(dora.as_new(MembershipRole::Owner)),
    );
    let theft = dora.does(&mut dark, remove(&carol));
    let more = dora.does(&mut dark, add(&Person::new(66)));
    assert_eq!(
        dora.tries(&dark, remove(&alice)).err(),
        Some(AuthorError::Refused(Refusal::NotSenior)),
        "an appointee is junior to whoever was there"
    );
    let mut honest = log;
    alice.does(&mut honest, remove(&bob));
    let expected = honest.membership().clone();
    sync(&dark, &mut honest);
    assert_eq!(honest.membership(), &expected);
    assert!(honest.membership().contains(carol.account));
    for operation in [theft, more] {
        assert_eq!(
            honest.void_reason(&operation.hash()),
            Some(VoidReason::Superseded)
        );
    }
}

#[test]
fn of_two_owners_who_remove_each_other_the_senior_stays() {
    let Ward {
        alice,
        bob,
        carol,
        mut log,
        ..
    } = ward();
    alice.does(&mut log, promote(&carol));
    let by_senior = bob.tries(&log, remove(&carol)).unwrap();
    let by_junior = carol.forges(&log, 1, remove(&bob));
    for first_senior in [true, false] {
        let mut log = log.clone();
        if first_senior {
            accept(&mut log, &by_senior);
        }
        assert_eq!(refusal(&mut log, &by_junior), Refusal::NotSenior);
        if !first_senior {
            accept(&mut log, &by_senior);
        }
        assert_eq!(log.membership().owners(), [alice.account, bob.account]);
    }
}

#[test]
fn a_chain_of_removals_is_decided_from_the_top() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward();
    alice.does(&mut log, promote(&carol));
    alice.does(&mut log, add(&dora));
    // At the same time: Alice removes Bob, Bob removes Carol, Carol removes Dora.
    let [mut a, mut b, mut c] = [log.clone(), log.clone(), log.clone()];
    alice.does(&mut a, remove(&bob));
    bob.does(&mut b, remove(&carol));
    carol.does(&mut c, remove(&dora));
    for order in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
        let mut merged = log.clone();
        for branch in order {
            sync(branch, &mut merged);
        }
        // Bob is out, so Carol is not, so Dora is.
        let membership = merged.membership();
        assert!(!membership.contains(bob.account));
        assert!(membership.is_owner(carol.account));
        assert!(!membership.contains(dora.account));
    }
}

#[test]
fn removal_wins_over_admission_and_promotion() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    // Both add Dora; Alice removes her again without knowing of Bob's admission.
    let [mut a, mut b] = [log.clone(), log.clone()];
    alice.does(&mut a, add(&dora));
    alice.does(&mut a, remove(&dora));
    let admission = bob.does(&mut b, add(&dora));
    sync(&b, &mut a);
    assert!(!a.membership().contains(dora.account));
    assert_eq!(
        a.void_reason(&admission.hash()),
        Some(VoidReason::RemovalWins)
    );
    // Somebody who knows of both may add her again.
    bob.does(&mut a, add(&dora));
    assert!(a.membership().contains(dora.account));

    let [mut a, mut b] = [log.clone(), log.clone()];
    alice.does(&mut a, remove(&carol));
    bob.does(&mut b, promote(&carol));
    sync(&b, &mut a);
    assert!(!a.membership().contains(carol.account));
}

#[test]
fn demotion_takes_back_what_only_owners_do() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    let [mut a, mut b] = [log.clone(), log];
    alice.does(&mut a, demote(&bob));
    bob.does(&mut b, add(&dora));
    bob.does(&mut b, promote(&carol));
    bob.does(&mut b, OperationKind::AiOff);
    sync(&b, &mut a);
    let membership = a.membership();
    assert!(!membership.contains(dora.account));
    assert_eq!(membership.owners(), [alice.account]);
    assert!(
        !membership.ai_allowed(),
        "an objection is every member's right"
    );
}

#[test]
fn off_wins_over_on_of_the_same_person() {
    let mut ward = ward();
    ward.carol.sign_list(&[1, 2]);
    let carol = ward.carol;
    carol.does(&mut ward.log, OperationKind::AiOff);
    let [mut a, mut b] = [ward.log.clone(), ward.log];
    carol.does_on(1, &mut a, OperationKind::AiOn);
    carol.does_on(2, &mut b, OperationKind::AiOff);
    sync(&b, &mut a);
    assert!(!a.membership().ai_allowed());
}

#[test]
fn two_owners_who_leave_at_once_leave_it_frozen() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    let [mut a, mut b] = [log.clone(), log];
    alice.does(&mut a, OperationKind::Leave);
    bob.does(&mut b, OperationKind::Leave);
    sync(&b, &mut a);
    assert!(a.membership().owners().is_empty());
    assert_eq!(
        carol.tries(&a, add(&dora)).err(),
        Some(AuthorError::Refused(Refusal::NobodyManages))
    );
    // Two who step down at once: one of them cannot.
    let ward = ward();
    let [mut a, mut b] = [ward.log.clone(), ward.log];
    alice.does(&mut a, demote(&alice));
    bob.does(&mut b, demote(&bob));
    sync(&b, &mut a);
    assert_eq!(a.membership().owners().len(), 1);
}

#[test]
fn a_late_operation_of_a_removed_device_waits_for_a_member_to_vouch() {
    let mut ward = ward();
    ward.bob.sign_list(&[1, 2]);
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward;
    let mut with_bob = log.clone();
    let late = bob.does_on(2, &mut with_bob, add(&dora));

    let mut here = log;
    assert_eq!(
        here.insert(late.clone(), Standing::Removed),
        Insertion::Inserted { fork: None }
    );
    assert!(!here.membership().contains(dora.account));
    assert_eq!(
        here.void_reason(&late.hash()),
        Some(VoidReason::DeviceRemoved)
    );
    // Whoever it brought in cannot vouch for it.
    let accomplice = dora.forges(&here, 1, OperationKind::AiOff);
    accept(&mut here, &accomplice);
    assert!(!here.membership().contains(dora.account));
    assert!(here.membership().ai_allowed());
    assert_eq!(
        here.judge_message(dora.account, &dora.key(), &here.heads()),
        Position::NotAMember
    );
    // Carol had it when the device was good, and built on it.
    let vouching = carol.does(&mut with_bob, OperationKind::AiOff);
    accept(&mut here, &vouching);
    assert!(here.membership().contains(dora.account));
    assert_eq!(here.void_reason(&late.hash()), None);
    assert!(!here.membership().ai_allowed());
    alice.does(&mut here, remove(&dora));
    assert!(!here.membership().contains(dora.account));
}

#[test]
fn what_is_held_stays_when_its_device_goes() {
    let Ward {
        bob, dora, mut log, ..
    } = ward();
    let operation = bob.does(&mut log, add(&dora));
    // The same operation comes again after the device was taken off its list.
    assert_eq!(
        log.insert(operation, Standing::Removed),
        Insertion::AlreadyHeld
    );
    assert!(log.membership().contains(dora.account));
}

#[test]
fn a_removed_device_cannot_fill_the_log() {
    let Ward { bob, mut log, .. } = ward();
    let mut flood = log.clone();
    for _ in 0..MAX_WAITING {
        let operation = bob.does(&mut flood, OperationKind::AiOff);
        assert_eq!(
            log.insert(operation, Standing::Removed),
            Insertion::Inserted { fork: None }
        );
    }
    let operation = bob.does(&mut flood, OperationKind::AiOff);
    assert_eq!(
        log.insert(operation, Standing::Removed),
        Insertion::Refused(Refusal::TooManyWaiting)
    );
}

#[test]
fn another_beginning_is_another_conversation() {
    let Ward {
        alice,
        bob,
        dora,
        mut log,
        ..
    } = ward();
    let fake = bob.with_author(1, |author| {
        author
            .create([7; 32], None, &[dora.as_new(MembershipRole::Owner)], NOW)
            .unwrap()
    });
    assert_ne!(fake.operation().conversation, log.id());
    let mut fake_log = Log::begin(fake.clone()).unwrap();
    assert_eq!(refusal(&mut log, &fake), Refusal::OtherConversation);
    let foreign = bob.does(&mut fake_log, OperationKind::AiOff);
    assert_eq!(refusal(&mut log, &foreign), Refusal::LeansOnRefused);
    // With parents of this log and the name of the other.
    let mixed = alice.with_author(1, |author| {
        author
            .sign(
                Some(fake_log.id()),
                log.heads(),
                2,
                OperationKind::AiOff,
                NOW,
            )
            .unwrap()
    });
    assert_eq!(refusal(&mut log, &mixed), Refusal::OtherConversation);
    assert!(matches!(Log::begin(mixed), Err(Refusal::NotACreate)));
    // Whoever pins another key for itself than it signs with begins nothing.
    let mut other_key = alice.clone();
    other_key.account_key = SigningKey::from_bytes(&[77; 32]);
    let create = other_key.with_author(1, |author| author.create([1; 32], None, &[], NOW).unwrap());
    let evidence = alice.lists.last().unwrap();
    let checked = UnverifiedOperation::read(create.blob().clone())
        .unwrap()
        .verify(deployment(), evidence)
        .unwrap();
    assert!(matches!(Log::begin(checked), Err(Refusal::OtherKey)));
}

#[test]
fn a_newer_kind_keeps_its_place_without_effect() {
    let Ward {
        alice,
        carol,
        dora,
        mut log,
        ..
    } = ward();
    let wire = proto::Operation {
        conversation_id: log.id().to_vec(),
        parents: log.heads().iter().map(PayloadHash::to_vec).collect(),
        author_account_id: carol.account.to_vec(),
        author_device_id: 1,
        author_list_version: 1,
        author_list_hash: carol.lists[0].list().hash().to_vec(),
        author_sequence: 1,
        created_at_ms: 0,
        kind: None,
    };
    let mut payload = wire.encode_to_vec();
    // Field 40, length-delimited, empty: a kind of tomorrow.
    payload.extend([0xC2, 0x02, 0x00]);
    let blob = SignedBlob::sign(
        SignedKind::ConversationOperation,
        deployment(),
        payload,
        &carol.device_key(1),
    );
    let operation = verify(blob, &carol).unwrap();
    accept(&mut log, &operation);
    assert_eq!(
        log.void_reason(&operation.hash()),
        Some(VoidReason::NotUnderstood)
    );
    alice.does(&mut log, add(&dora));
    assert!(log.membership().contains(dora.account));
}
