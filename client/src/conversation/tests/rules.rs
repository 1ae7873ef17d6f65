//! Who may do what, one thing at a time.

use super::*;
use wardline_wire::ids::PayloadHash;

#[test]
fn a_conversation_begins_with_its_members() {
    let ward = ward();
    let membership = ward.log.membership();
    assert_eq!(membership.len(), 3);
    assert_eq!(
        membership.owners(),
        [ward.alice.account, ward.bob.account],
        "the author is the most senior"
    );
    assert!(!membership.is_owner(ward.carol.account));
    assert!(membership.ai_allowed());
    assert_eq!(PayloadHash::from(ward.log.id()), ward.log.heads()[0]);
}

#[test]
fn another_nonce_is_another_conversation() {
    let alice = Person::new(1);
    let id = |nonce| {
        let create = alice.with_author(1, |author| author.create(nonce, None, &[], NOW).unwrap());
        Log::begin(create).unwrap().id()
    };
    assert_eq!(id([1; 32]), id([1; 32]));
    assert_ne!(id([1; 32]), id([2; 32]));
}

#[test]
fn owners_manage() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward();
    let before = log.membership().clone();
    bob.does(&mut log, add(&dora));
    bob.does(&mut log, promote(&carol));
    alice.does(&mut log, OperationKind::SetTimer(3600));
    alice.does(
        &mut log,
        OperationKind::SetTitle(Some(PayloadHash::from([9; 32]))),
    );
    alice.does(&mut log, remove(&bob));
    let now = log.membership();
    assert_eq!(now.owners(), [alice.account, carol.account]);
    assert_eq!(now.timer_s(), 3600);
    assert_eq!(now.title_hash(), Some(PayloadHash::from([9; 32])));
    let changes = now.changes_since(&before);
    for expected in [
        Change::Left(bob.account),
        Change::Joined(dora.account),
        Change::BecameOwner(carol.account),
        Change::Timer(3600),
        Change::Title(Some(PayloadHash::from([9; 32]))),
    ] {
        assert!(changes.contains(&expected));
    }
    assert_eq!(changes.len(), 5);
}

#[test]
fn what_is_not_allowed_is_refused_before_it_is_signed() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        log,
    } = ward();
    let cases = [
        (&carol, add(&dora), Refusal::NotAnOwner),
        (&carol, remove(&bob), Refusal::NotAnOwner),
        (&carol, promote(&carol), Refusal::NotAnOwner),
        (&carol, demote(&bob), Refusal::NotAnOwner),
        (&carol, OperationKind::SetTimer(1), Refusal::NotAnOwner),
        (&carol, OperationKind::SetTitle(None), Refusal::NotAnOwner),
        (&dora, OperationKind::AiOff, Refusal::NotAMember),
        (&dora, add(&dora), Refusal::NotAMember),
        (&dora, OperationKind::Leave, Refusal::NotAMember),
        (&bob, remove(&alice), Refusal::NotSenior),
        (&bob, demote(&alice), Refusal::NotSenior),
        (&alice, remove(&alice), Refusal::RemoveSelf),
        (&alice, add(&carol), Refusal::TargetAlreadyMember),
        (&alice, remove(&dora), Refusal::TargetNotAMember),
        (&alice, promote(&dora), Refusal::TargetNotAMember),
        (&alice, promote(&bob), Refusal::TargetAlreadyOwner),
        (&alice, demote(&carol), Refusal::TargetNotAnOwner),
    ];
    for (person, kind, expected) in cases {
        assert_eq!(
            person.tries(&log, kind).err(),
            Some(AuthorError::Refused(expected))
        );
    }
    assert!(matches!(
        alice.tries(&log, OperationKind::SetTimer(MAX_TIMER_S + 1)),
        Err(AuthorError::Operation(OperationError::Malformed("timer")))
    ));
}

#[test]
fn the_last_owner_appoints_somebody_first() {
    let Ward {
        alice,
        bob,
        carol,
        mut log,
        ..
    } = ward();
    alice.does(&mut log, demote(&bob));
    for kind in [OperationKind::Leave, demote(&alice)] {
        assert_eq!(
            alice.tries(&log, kind).err(),
            Some(AuthorError::Refused(Refusal::LastOwner))
        );
    }
    alice.does(&mut log, promote(&carol));
    alice.does(&mut log, OperationKind::Leave);
    assert_eq!(log.membership().owners(), [carol.account]);
    // Alone, even the last owner may go.
    carol.does(&mut log, remove(&bob));
    carol.does(&mut log, OperationKind::Leave);
    assert!(log.membership().is_empty());
}

#[test]
fn any_member_silences_the_ai_and_only_that_member_lets_it_speak() {
    let Ward {
        alice,
        carol,
        mut log,
        ..
    } = ward();
    carol.does(&mut log, OperationKind::AiOff);
    assert!(!log.membership().ai_allowed());
    alice.does(&mut log, OperationKind::AiOn);
    assert!(!log.membership().ai_allowed(), "an owner cannot overrule");
    carol.does(&mut log, OperationKind::AiOn);
    assert!(log.membership().ai_allowed());
    carol.does(&mut log, OperationKind::AiOff);
    alice.does(&mut log, remove(&carol));
    assert!(log.membership().ai_allowed(), "who is out objects no more");
}

#[test]
fn who_comes_back_is_junior() {
    let Ward {
        alice,
        bob,
        carol,
        mut log,
        ..
    } = ward();
    alice.does(&mut log, promote(&carol));
    alice.does(&mut log, remove(&bob));
    alice.does(
        &mut log,
        OperationKind::Add(bob.as_new(MembershipRole::Owner)),
    );
    assert_eq!(
        log.membership().owners(),
        [alice.account, carol.account, bob.account]
    );
    assert_eq!(
        bob.tries(&log, remove(&carol)).err(),
        Some(AuthorError::Refused(Refusal::NotSenior))
    );
}

#[test]
fn a_new_key_comes_in_with_a_new_admission_only() {
    let Ward {
        alice,
        carol,
        mut log,
        ..
    } = ward();
    let mut renewed = Person::new(33);
    renewed.account = carol.account;
    renewed.lists.clear();
    renewed.sign_list(&[1]);
    let operation = renewed.forges(&log, 1, OperationKind::AiOff);
    assert_eq!(refusal(&mut log, &operation), Refusal::OtherKey);
    alice.does(&mut log, remove(&carol));
    let before = log.membership().clone();
    alice.does(&mut log, add(&renewed));
    assert!(
        log.membership()
            .changes_since(&before)
            .contains(&Change::Joined(carol.account))
    );
    renewed.does(&mut log, OperationKind::AiOff);
    assert!(!log.membership().ai_allowed());
}

#[test]
fn a_conversation_has_room_for_256() {
    let alice = Person::new(1);
    let fellow = |index: u32| {
        let mut bytes = [0xEE; 16];
        bytes[..4].copy_from_slice(&index.to_be_bytes());
        NewMember {
            account: AccountId::from_random_bytes(bytes),
            account_key: [5; 32],
            role: MembershipRole::Member,
        }
    };
    let create = |count| {
        let fellows: Vec<_> = (0..count).map(fellow).collect();
        alice.with_author(1, |author| author.create([1; 32], None, &fellows, NOW))
    };
    assert!(matches!(
        create(256),
        Err(OperationError::Malformed("members"))
    ));
    let log = Log::begin(create(255).unwrap()).unwrap();
    assert_eq!(
        alice.tries(&log, OperationKind::Add(fellow(999))).err(),
        Some(AuthorError::Refused(Refusal::TooManyMembers))
    );
}

#[test]
fn messages_are_judged_where_they_were_written() {
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward();
    let start = log.heads();
    alice.does(&mut log, remove(&carol));
    let without = log.heads();
    alice.does(&mut log, add(&dora));
    let with_dora = log.heads();
    let judge =
        |person: &Person, heads: &[_]| log.judge_message(person.account, &person.key(), heads);
    assert_eq!(judge(&bob, &start), Position::Member);
    assert_eq!(judge(&carol, &start), Position::RemovedSince);
    assert_eq!(judge(&carol, &without), Position::NotAMember);
    assert_eq!(judge(&dora, &without), Position::NotAMember);
    assert_eq!(judge(&dora, &with_dora), Position::Member);
    assert_eq!(
        log.judge_message(bob.account, &[9; 32], &start),
        Position::OtherKey
    );
    let unknown = PayloadHash::from([1; 32]);
    assert_eq!(
        judge(&bob, &[unknown]),
        Position::MissingOperations(vec![unknown])
    );
    assert!(!log.membership_at(&start).unwrap().contains(dora.account));
    assert_eq!(log.membership_at(&[unknown]), Err(vec![unknown]));
}

#[test]
fn a_thousand_operations_are_taken_in_as_they_come() {
    let Ward { alice, mut log, .. } = ward();
    for round in 0..500 {
        alice.does(&mut log, OperationKind::SetTimer(round));
        alice.does(&mut log, OperationKind::AiOff);
    }
    assert_eq!(log.len(), 1001);
    assert_eq!(log.membership().timer_s(), 499);
    let mut copy = Log::begin(log.operation(&log.id().into()).unwrap().clone()).unwrap();
    let mut reversed: Vec<_> = log
        .operations()
        .map(|(operation, standing)| (operation.clone(), standing))
        .collect();
    reversed.reverse();
    let batch = copy.insert_all(reversed);
    assert_eq!(batch.inserted.len(), 1000);
    assert_eq!(copy.membership(), log.membership());
}

#[test]
fn nothing_prints_who_is_in() {
    let ward = ward();
    let text = format!(
        "{:?} {:?} {:?} {:?}",
        ward.log.membership(),
        ward.log.membership().member(ward.bob.account),
        add(&ward.bob),
        ward.log.id(),
    );
    assert_eq!(
        text,
        "Membership(3 members) Some(MemberState(..)) OperationKind(..) ConversationId(..)"
    );
}
