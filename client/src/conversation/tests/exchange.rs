//! A newcomer gets the whole log, and what it needs to check it.

use super::*;
use wardline_wire::ids::PayloadHash;

use crate::content::{Content, ContentId, ConversationTitle, ConversationUpdate, Kind, padding};

fn lists_of(people: &[&Person]) -> Lists {
    let mut lists = Lists::new();
    for person in people {
        for evidence in &person.lists {
            lists.add(evidence.clone());
        }
    }
    lists
}

/// Through padding and encoding, as members get it.
fn deliver(update: ConversationUpdate, log: &Log) -> ConversationUpdate {
    let reference = ListRef {
        version: 1,
        hash: PayloadHash::from([1; 32]),
    };
    let content = Content {
        id: ContentId::from([1; 16]),
        conversation: Some(log.id()),
        sequence: 1,
        sent_at: NOW,
        sender_list: reference,
        recipient_list: Some(reference),
        heads: log.heads(),
        expires_after_s: 0,
        escrow: None,
        kind: Kind::Conversation(update),
    };
    let padded = content.encode().unwrap();
    assert!(padding::BUCKETS.contains(&padded.len()));
    match Content::decode(&padded).unwrap().kind {
        Kind::Conversation(update) => update,
        _ => panic!("another kind"),
    }
}

#[test]
fn a_newcomer_rebuilds_the_log_from_what_it_is_sent() {
    let mut ward = ward();
    ward.alice.sign_list(&[1, 2]);
    let Ward {
        alice,
        bob,
        carol,
        dora,
        mut log,
    } = ward;
    for round in 0..400u32 {
        let device = if round % 2 == 0 { 1 } else { 2 };
        alice.does_on(device, &mut log, OperationKind::SetTimer(round));
    }
    bob.does(&mut log, remove(&carol));
    alice.does(&mut log, add(&dora));
    let title = ConversationTitle {
        salt: [3; 16],
        title: "Ward 7".to_owned(),
    };
    alice.does(&mut log, OperationKind::SetTitle(Some(title.hash())));
    let lists = lists_of(&[&alice, &bob, &carol, &dora]);

    let (operations, evidence) = export(&log, &lists, |_| None);
    assert_eq!(operations.len(), log.len());
    let alices = evidence.iter().find(|entry| entry.account == alice.account);
    assert_eq!(alices.unwrap().device_lists.len(), 2);
    let updates = split(operations, evidence, Some(title.clone()));
    assert!(updates.len() > 1, "it takes more than one content");

    // Dora: knows the conversation's id and nothing else.
    let mut known = Lists::new();
    let mut theirs: Option<Log> = None;
    let mut titles = Vec::new();
    for update in updates {
        let update = deliver(update, &log);
        for entry in update.evidence {
            for blob in entry.device_lists {
                let list =
                    ListEvidence::verify(blob, entry.account, &entry.account_key, deployment());
                known.add(list.unwrap());
            }
        }
        let verified = known.verify(update.operations, log.id(), deployment());
        assert!(verified.needed.is_empty() && verified.refused.is_empty());
        let mut operations = verified.operations.into_iter();
        let log = match theirs.take() {
            Some(log) => theirs.insert(log),
            None => match operations.next() {
                Some((create, _)) => theirs.insert(Log::begin(create).unwrap()),
                None => continue,
            },
        };
        let batch = log.insert_all(operations.collect());
        assert!(batch.refused.is_empty() && batch.missing.is_empty());
        titles.extend(update.title);
    }
    let theirs = theirs.unwrap();
    assert_eq!(theirs.id(), log.id());
    assert_eq!(theirs.membership(), log.membership());
    assert_eq!(theirs.heads(), log.heads());
    assert_eq!(theirs.membership().title_hash(), Some(titles[0].hash()));
}

#[test]
fn what_cannot_be_checked_yet_is_asked_for() {
    let Ward {
        alice,
        bob,
        dora,
        mut log,
        ..
    } = ward();
    let operation = bob.does(&mut log, add(&dora));
    let mut other = log.clone();
    let foreign = alice.does(&mut other, OperationKind::AiOff);
    let garbage = SignedBlob {
        payload: vec![0xFF],
        signature: vec![],
    };
    let mut forged = foreign.blob().clone();
    forged.signature[0] ^= 1;
    let blobs = vec![operation.blob().clone(), garbage, forged];
    let verified = lists_of(&[&alice]).verify(blobs, log.id(), deployment());
    assert_eq!(
        verified.needed,
        [(bob.account, operation.operation().author_list)]
    );
    assert!(verified.waiting == [operation.blob().clone()]);
    assert_eq!(verified.refused.len(), 2);
    assert!(verified.operations.is_empty());
}

#[test]
fn standing_follows_the_newest_list() {
    let mut ward = ward();
    ward.bob.sign_list(&[1, 2]);
    let operation = ward.bob.with_author(2, |author| {
        ward.log.author(author, OperationKind::AiOff, NOW).unwrap()
    });
    assert_eq!(
        lists_of(&[&ward.bob]).standing(&operation),
        Standing::Current
    );
    ward.bob.sign_list(&[1]);
    assert_eq!(
        lists_of(&[&ward.bob]).standing(&operation),
        Standing::Removed
    );
    let verified =
        lists_of(&[&ward.bob]).verify(vec![operation.blob().clone()], ward.log.id(), deployment());
    assert_eq!(verified.operations[0].1, Standing::Removed);
}

#[test]
fn a_full_conversation_fits_its_pieces() {
    let alice = Person::new(1);
    let people: Vec<_> = (2..=255).map(Person::new).collect();
    let fellows: Vec<_> = people
        .iter()
        .map(|person| person.as_new(MembershipRole::Member))
        .collect();
    let create = alice.with_author(1, |author| {
        author.create([1; 32], None, &fellows, NOW).unwrap()
    });
    let log = Log::begin(create).unwrap();
    let everyone: Vec<_> = std::iter::once(&alice).chain(&people).collect();
    let (operations, evidence) = export(&log, &lists_of(&everyone), |_| None);
    assert_eq!(evidence.len(), 255);
    let lists: usize = split(operations, evidence, None)
        .into_iter()
        .map(|update| {
            deliver(update, &log)
                .evidence
                .iter()
                .map(|entry| entry.device_lists.len())
                .sum::<usize>()
        })
        .sum();
    assert_eq!(lists, 255);
}

#[test]
fn missing_operations_are_asked_for_with_patience() {
    use crate::gap::MissingOperations;
    let Ward {
        alice,
        dora,
        mut log,
        ..
    } = ward();
    let operation = alice.tries(&log, add(&dora)).unwrap();
    let named = [log.heads()[0], operation.hash()];
    let mut missing = MissingOperations::new();
    assert_eq!(missing.ask(&log, &named, NOW), [operation.hash()]);
    assert!(missing.ask(&log, &named, NOW).is_empty());
    assert!(missing.due(&log, NOW.plus_millis(29_999)).is_empty());
    assert_eq!(
        missing.due(&log, NOW.plus_millis(30_000)),
        [operation.hash()]
    );
    assert!(missing.due(&log, NOW.plus_millis(89_999)).is_empty());
    assert_eq!(
        missing.due(&log, NOW.plus_millis(90_000)),
        [operation.hash()]
    );
    // A peer that names thousands of hashes is asked for some.
    let many: Vec<_> = (0..2000u32)
        .map(|index| {
            let mut bytes = [0xAA; 32];
            bytes[..4].copy_from_slice(&index.to_be_bytes());
            PayloadHash::from(bytes)
        })
        .collect();
    assert_eq!(
        missing.ask(&log, &many, NOW).len(),
        crate::gap::MAX_ASKED - 1
    );
    accept(&mut log, &operation);
    let mut only = MissingOperations::new();
    assert!(only.ask(&log, &named, NOW).is_empty());
    assert!(only.is_empty());
}
