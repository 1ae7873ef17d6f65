//! Sender keys against recorded groups; limits, late joiners, forgeries.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here fails a test"
)]

mod common;

use common::{Script, array, bytes, list, number, text, vectors};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use uuid::Uuid;
use wardline_crypto::{
    StoredRecordError,
    message::MessageError,
    sender_key::{
        DistributionMessage, MAX_STATES, OwnSenderKey, SenderKeyError, SenderKeyMessage,
        SenderKeyRecord,
    },
};

const GROUP: Uuid = Uuid::from_u128(0xd1d1_d1d1);

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn member(key: &OwnSenderKey) -> SenderKeyRecord {
    let mut record = SenderKeyRecord::new(key.distribution_id());
    record.process(&key.distribution_message()).unwrap();
    record
}

fn open(record: &mut SenderKeyRecord, message: &[u8]) -> Result<Vec<u8>, SenderKeyError> {
    let before = record.encode();
    let result = record.decrypt(&SenderKeyMessage::decode(message).unwrap());
    if result.is_err() {
        assert_eq!(record.encode(), before);
    }
    // Whatever happened, the stored form goes on.
    *record = SenderKeyRecord::decode(&record.encode()).unwrap();
    result
}

#[test]
fn recorded_group() {
    let vectors = vectors("sender-key.json");
    let distribution_id: Uuid = text(&vectors, "distributionId").parse().unwrap();
    let first = DistributionMessage::decode(&bytes(&vectors, "distributionMessage")).unwrap();
    assert_eq!(first.distribution_id(), distribution_id);
    assert_eq!(
        first.chain_id(),
        number(&vectors["senderStateAtCreation"], "chainId")
    );
    assert_eq!(
        first.encode().to_vec(),
        bytes(&vectors, "distributionMessage")
    );

    let messages = list(&vectors, "messages");
    let mut record = SenderKeyRecord::new(distribution_id);
    record.process(&first).unwrap();
    for order in list(&vectors, "decryptOrderVerified") {
        let case = &messages[usize::try_from(order.as_u64().unwrap()).unwrap()];
        assert_eq!(
            open(&mut record, &bytes(case, "message")),
            Ok(bytes(case, "plaintext"))
        );
    }
    for case in messages {
        let iteration = number(case, "iteration");
        let again = open(&mut record, &bytes(case, "message"));
        assert_eq!(again, Err(SenderKeyError::Duplicate { iteration, next: 8 }));
    }

    // Somebody who joins later reads what comes then and nothing before.
    let later = DistributionMessage::decode(&bytes(&vectors, "laterDistributionMessage")).unwrap();
    assert_eq!(later.iteration(), 8);
    let mut late = SenderKeyRecord::new(distribution_id);
    late.process(&later).unwrap();
    let early = open(&mut late, &bytes(&messages[2], "message"));
    assert_eq!(
        early,
        Err(SenderKeyError::Duplicate {
            iteration: 2,
            next: 8
        })
    );
    let case = &vectors["lateJoinerMessage"];
    assert_eq!(
        open(&mut late, &bytes(case, "message")),
        Ok(bytes(case, "plaintext"))
    );
    assert_eq!(
        open(&mut record, &bytes(case, "message")),
        Ok(bytes(case, "plaintext"))
    );
}

#[test]
fn recorded_sending() {
    let vectors = &vectors("send-deterministic.json")["senderKey"];
    let distribution_id: Uuid = text(vectors, "distributionId").parse().unwrap();
    assert_eq!(number(vectors, "chainId"), u32::MAX >> 1);
    let mut draws = Script::new([
        vec![0xFF; 4],
        bytes(vectors, "initialChainKey"),
        bytes(vectors, "signingPrivate"),
    ]);
    let mut key = OwnSenderKey::generate(distribution_id, &mut draws);
    draws.finish();
    let distribution = key.distribution_message().encode();
    assert_eq!(distribution.to_vec(), bytes(vectors, "distributionMessage"));
    for case in list(vectors, "messages") {
        key = OwnSenderKey::decode(&key.encode()).unwrap();
        let mut draws = Script::new([bytes(case, "signatureRandom64")]);
        let message = key.encrypt(&bytes(case, "plaintext"), &mut draws).unwrap();
        draws.finish();
        assert_eq!(message, bytes(case, "message"));
        let read = SenderKeyMessage::decode(&message).unwrap();
        assert_eq!(read.iteration(), number(case, "iteration"));
    }
}

#[test]
fn recorded_state_continues() {
    // The official sender's private state at creation seals to what its receivers open.
    let state = &vectors("sender-key.json")["senderStateAtCreation"];
    let mut draws = Script::new([
        (number(state, "chainId") << 1).to_le_bytes().to_vec(),
        bytes(state, "chainKey"),
        bytes(state, "signingPrivate"),
    ]);
    let distribution_id = text(&vectors("sender-key.json"), "distributionId")
        .parse()
        .unwrap();
    let key = OwnSenderKey::generate(distribution_id, &mut draws);
    let message = key.distribution_message().encode();
    assert_eq!(
        message.to_vec(),
        bytes(&vectors("sender-key.json"), "distributionMessage")
    );
    let signing: [u8; 33] = array(state, "signingPublic");
    assert!(message.ends_with(&signing));
}

#[test]
fn window_and_jump() {
    let mut rng = rng(1);
    let mut key = OwnSenderKey::generate(GROUP, &mut rng);
    let mut record = member(&key);
    let messages: Vec<_> = (0..=2500)
        .map(|_| key.encrypt(b"x", &mut rng).unwrap())
        .collect();
    open(&mut record, &messages[2500]).unwrap();
    open(&mut record, &messages[500]).unwrap();
    let gone = SenderKeyError::Duplicate {
        iteration: 499,
        next: 2501,
    };
    assert_eq!(open(&mut record, &messages[499]), Err(gone));
    assert!(record.encode().len() < 2_000 * 36 + 200);
}

#[test]
fn forward_jump_is_25000() {
    let mut rng = rng(2);
    let key = OwnSenderKey::generate(GROUP, &mut rng);
    // A second sender state, moved ahead through its stored form: the receiver still stands at 0.
    let moved = |iteration: u32| {
        let mut bytes = key.encode().to_vec();
        bytes[21..25].copy_from_slice(&iteration.to_be_bytes());
        OwnSenderKey::decode(&bytes).unwrap()
    };
    let mut record = member(&key);
    let over = moved(25_001).encrypt(b"x", &mut rng).unwrap();
    let error = SenderKeyError::TooFarAhead {
        iteration: 25_001,
        next: 0,
    };
    assert_eq!(open(&mut record, &over), Err(error));
    // 25,000 is within the limit: the receiver derives that far, and only then finds that the
    // message was encrypted under another link of the chain.
    let within = moved(25_000).encrypt(b"x", &mut rng).unwrap();
    assert_eq!(
        open(&mut record, &within),
        Err(SenderKeyError::Undecryptable)
    );
    // The last message of a chain.
    let mut last = moved(u32::MAX);
    assert_eq!(last.encrypt(b"x", &mut rng), Err(SenderKeyError::Exhausted));
}

#[test]
fn five_states_newest_first() {
    let mut rng = rng(3);
    let mut keys: Vec<_> = (0..7)
        .map(|_| OwnSenderKey::generate(GROUP, &mut rng))
        .collect();
    let mut record = SenderKeyRecord::new(GROUP);
    for key in &keys {
        record.process(&key.distribution_message()).unwrap();
    }
    // The third is used again, which moves it to the front: the next newcomer displaces the fourth.
    record.process(&keys[2].distribution_message()).unwrap();
    let eighth = OwnSenderKey::generate(GROUP, &mut rng);
    record.process(&eighth.distribution_message()).unwrap();
    assert_eq!(MAX_STATES, 5);
    for (number, key) in keys.iter_mut().enumerate() {
        let chain_id = key.distribution_message().chain_id();
        let result = open(&mut record, &key.encrypt(b"x", &mut rng).unwrap());
        if matches!(number, 2 | 4 | 5 | 6) {
            assert_eq!(result, Ok(b"x".to_vec()), "{number}");
        } else {
            assert_eq!(
                result,
                Err(SenderKeyError::NoState { chain_id }),
                "{number}"
            );
        }
    }
}

#[test]
fn repeated_distribution_keeps_progress() {
    let mut rng = rng(4);
    let mut key = OwnSenderKey::generate(GROUP, &mut rng);
    let start = key.distribution_message();
    let mut record = member(&key);
    let first = key.encrypt(b"one", &mut rng).unwrap();
    open(&mut record, &first).unwrap();
    record.process(&start).unwrap();
    let error = SenderKeyError::Duplicate {
        iteration: 0,
        next: 1,
    };
    assert_eq!(open(&mut record, &first), Err(error));
}

#[test]
fn same_chain_id_under_another_key_replaces() {
    let draws = |key: u8| Script::new([vec![2, 0, 0, 0], vec![key; 32], vec![key + 1; 32]]);
    let mut old = OwnSenderKey::generate(GROUP, &mut draws(10));
    let mut new = OwnSenderKey::generate(GROUP, &mut draws(20));
    let mut record = member(&old);
    record.process(&new.distribution_message()).unwrap();
    let stale = old.encrypt(b"x", &mut rng(5)).unwrap();
    assert_eq!(
        open(&mut record, &stale),
        Err(SenderKeyError::InvalidSignature)
    );
    let fresh = new.encrypt(b"x", &mut rng(6)).unwrap();
    assert_eq!(open(&mut record, &fresh), Ok(b"x".to_vec()));
}

#[test]
fn other_distributions_are_refused() {
    let mut rng = rng(7);
    let mut other = OwnSenderKey::generate(Uuid::from_u128(2), &mut rng);
    let mut record = SenderKeyRecord::new(GROUP);
    let refused = record.process(&other.distribution_message());
    assert_eq!(refused, Err(SenderKeyError::WrongDistribution));
    let message = other.encrypt(b"x", &mut rng).unwrap();
    assert_eq!(
        open(&mut record, &message),
        Err(SenderKeyError::WrongDistribution)
    );
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut rng = rng(8);
    let mut key = OwnSenderKey::generate(GROUP, &mut rng);
    let mut record = member(&key);
    let message = key.encrypt(b"to the group", &mut rng).unwrap();
    let before = record.encode();
    for bit in 0..message.len() * 8 {
        // The signature's malleable bits aside (bits of S above the group order), which the
        // official verifier accepts in the same way.
        let mut altered = message.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        if let Ok(altered) = SenderKeyMessage::decode(&altered) {
            let result = record.clone().decrypt(&altered);
            assert!(result.is_err(), "bit {bit}");
        }
    }
    assert_eq!(record.encode(), before);
    assert_eq!(open(&mut record, &message), Ok(b"to the group".to_vec()));
}

#[test]
fn malformed_messages() {
    let mut rng = rng(9);
    let mut key = OwnSenderKey::generate(GROUP, &mut rng);
    let message = key.encrypt(b"x", &mut rng).unwrap();
    for len in 0..=64 {
        let short = Err(MessageError::TooShort(len));
        assert_eq!(SenderKeyMessage::decode(&message[..len]), short);
    }
    let version = |first: u8, bytes: &[u8]| [&[first], &bytes[1..]].concat();
    let read = |bytes: Vec<u8>| SenderKeyMessage::decode(&bytes).unwrap_err();
    assert_eq!(
        read(version(0x23, &message)),
        MessageError::LegacyVersion(2)
    );
    assert_eq!(
        read(version(0x43, &message)),
        MessageError::UnrecognizedVersion(4)
    );

    let distribution = key.distribution_message().encode().to_vec();
    let read = |bytes: &[u8]| DistributionMessage::decode(bytes).unwrap_err();
    for len in 0..distribution.len() {
        let _ = read(&distribution[..len]);
    }
    assert_eq!(read(&distribution[..64]), MessageError::TooShort(64));
    assert_eq!(
        read(&version(0x23, &distribution)),
        MessageError::LegacyVersion(2)
    );
    assert_eq!(
        read(&version(0x4F, &distribution)),
        MessageError::UnrecognizedVersion(4)
    );
    // The signing key must be exactly 33 bytes: one more, with its length told truthfully.
    let mut longer = distribution.clone();
    let at = longer.len() - 34;
    assert_eq!(longer[at], 33);
    longer[at] = 34;
    longer.push(0);
    assert_eq!(read(&longer), MessageError::InvalidEncoding);
}

#[test]
fn stored_forms_are_checked() {
    let mut rng = rng(10);
    let mut key = OwnSenderKey::generate(GROUP, &mut rng);
    let mut record = member(&key);
    key.encrypt(b"skipped", &mut rng).unwrap();
    open(&mut record, &key.encrypt(b"x", &mut rng).unwrap()).unwrap();
    let damaged = Some(StoredRecordError::Damaged);
    let (stored_key, stored_record) = (key.encode(), record.encode());
    for len in 0..stored_key.len() {
        assert_eq!(OwnSenderKey::decode(&stored_key[..len]).err(), damaged);
    }
    for len in 0..stored_record.len() {
        assert_eq!(
            SenderKeyRecord::decode(&stored_record[..len]).err(),
            damaged
        );
    }
    let version = Some(StoredRecordError::Version {
        found: 7,
        expected: 1,
    });
    assert_eq!(OwnSenderKey::decode(&[7]).err(), version);
    assert_eq!(SenderKeyRecord::decode(&[7]).err(), version);
}

#[test]
fn debug_shows_no_keys() {
    let key = OwnSenderKey::generate(GROUP, &mut rng(11));
    let shown = format!("{:?}", key.distribution_message());
    assert!(
        shown.starts_with("DistributionMessage { distribution_id"),
        "{shown}"
    );
    assert!(!shown.contains("key"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any order, any loss, repeats: each message opens exactly once.
    #[test]
    fn each_message_opens_once(order in prop::collection::vec(0..40usize, 1..80), seed: u64) {
        let mut rng = rng(seed);
        let mut key = OwnSenderKey::generate(GROUP, &mut rng);
        let mut record = member(&key);
        let messages: Vec<_> =
            (0..40u8).map(|n| key.encrypt(&vec![n; n.into()], &mut rng).unwrap()).collect();
        let mut opened = [false; 40];
        for n in order {
            let result = open(&mut record, &messages[n]);
            if std::mem::replace(&mut opened[n], true) {
                let duplicate = matches!(result, Err(SenderKeyError::Duplicate { .. }));
                prop_assert!(duplicate);
            } else {
                prop_assert_eq!(result, Ok(vec![u8::try_from(n).unwrap(); n]));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _ = SenderKeyMessage::decode(&bytes);
        let _ = DistributionMessage::decode(&bytes);
        let _ = SenderKeyRecord::decode(&bytes);
        let _ = OwnSenderKey::decode(&bytes);
    }
}
