//! Sessions through the public API: every rule of who may send what when.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what goes wrong here fails a test"
)]

mod common;

use std::time::Duration;

use common::{Script, bytes, list, number, text, vectors};
use rand::{SeedableRng, rngs::StdRng};
use wardline_crypto::{
    StoredRecordError,
    address::{DeviceAddress, DeviceId},
    curve::{PrivateKey, PublicKey},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    kem,
    message::{CiphertextMessage, MessageError, MessageType, PreKeyMessage, SignalMessage},
    prekey::{
        InvalidBundle, KyberPreKey, KyberPreKeyPublic, OneTimePreKey, OneTimePreKeyPublic,
        PreKeyBundle, PreKeyMaterial, SignedPreKey, SignedPreKeyPublic,
    },
    session::{
        DecryptError, Decrypted, EncryptError, InitiateError, InvalidMessage, MAX_ARCHIVED,
        Parties, SessionRecord, Trust,
    },
    timestamp::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: Duration = Duration::from_hours(24);

/// A device with its prekeys and its record of one peer.
struct Device {
    local: LocalIdentity,
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: OneTimePreKey,
    record: SessionRecord,
    rng: StdRng,
}

impl Device {
    fn new(seed: u64, name: &str, device: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let key_pair = IdentityKeyPair::generate(&mut rng);
        Self {
            signed: SignedPreKey::generate(7.into(), &key_pair, NOW, &mut rng),
            kyber: KyberPreKey::generate(9.into(), &key_pair, NOW, &mut rng),
            one_time: OneTimePreKey::generate(11.into(), &mut rng),
            local: LocalIdentity {
                key_pair,
                registration_id: 1000 + device,
                address: DeviceAddress::new(name, DeviceId::new(device).unwrap()),
            },
            record: SessionRecord::new(),
            rng,
        }
    }

    fn identity(&self) -> IdentityKey {
        self.local.key_pair.identity_key()
    }

    fn bundle(&self) -> PreKeyBundle {
        PreKeyBundle {
            registration_id: self.local.registration_id,
            device: self.local.address.device,
            identity: self.identity(),
            signed: self.signed.public(),
            kyber: self.kyber.public(),
            one_time: Some(self.one_time.public()),
        }
    }

    fn initiate(&mut self, peer: &Self) {
        let bundle = peer.bundle().verify().unwrap();
        let parties = parties(&self.local, peer);
        self.record
            .initiate(&parties, &bundle, NOW, &mut self.rng)
            .unwrap();
    }

    fn send(&mut self, peer: &Self, text: &str) -> CiphertextMessage {
        self.send_at(peer, text, NOW).unwrap()
    }

    fn send_at(
        &mut self,
        peer: &Self,
        text: &str,
        now: Timestamp,
    ) -> Result<CiphertextMessage, EncryptError> {
        self.record.encrypt(
            &parties(&self.local, peer),
            text.as_bytes(),
            now,
            &mut self.rng,
        )
    }

    fn receive(
        &mut self,
        peer: &Self,
        sent: &CiphertextMessage,
    ) -> Result<Decrypted, DecryptError> {
        self.receive_from(&peer.local.address, Trust::Only(peer.identity()), sent)
    }

    /// Decrypts, and checks the promise that a failure changes nothing.
    fn receive_from(
        &mut self,
        remote: &DeviceAddress,
        trusted: Trust,
        sent: &CiphertextMessage,
    ) -> Result<Decrypted, DecryptError> {
        let parties = Parties {
            local: &self.local,
            remote,
            trusted,
        };
        let before = self.record.encode();
        let result = match sent.message_type {
            MessageType::PreKey => {
                let message = PreKeyMessage::decode(&sent.bytes).unwrap();
                let one_time = message.one_time_id().map(|_| &self.one_time);
                let material = PreKeyMaterial {
                    signed: &self.signed,
                    kyber: &self.kyber,
                    one_time,
                };
                self.record
                    .decrypt_prekey(&parties, &message, Some(material), &mut self.rng)
            }
            MessageType::Signal => {
                let message = SignalMessage::decode(&sent.bytes).unwrap();
                self.record.decrypt(&parties, &message, &mut self.rng)
            }
            other => panic!("{other:?}"),
        };
        if result.is_err() {
            assert_eq!(self.record.encode(), before, "a failure changed the record");
        }
        result
    }

    #[track_caller]
    fn reads(&mut self, peer: &Self, sent: &CiphertextMessage, text: &str) -> Decrypted {
        let decrypted = self.receive(peer, sent).unwrap();
        assert_eq!(String::from_utf8_lossy(&decrypted.plaintext), text);
        decrypted
    }
}

fn parties<'a>(local: &'a LocalIdentity, peer: &'a Device) -> Parties<'a> {
    Parties {
        local,
        remote: &peer.local.address,
        trusted: Trust::Only(peer.identity()),
    }
}

fn alice_and_bob() -> (Device, Device) {
    (
        Device::new(1, "11111111-0000-4000-8000-000000000001", 1),
        Device::new(2, "22222222-0000-4000-8000-000000000002", 2),
    )
}

/// Both have answered: no handshake pending on either side.
fn established() -> (Device, Device) {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "hello");
    bob.reads(&alice, &sent, "hello");
    let sent = bob.send(&alice, "hello yourself");
    alice.reads(&bob, &sent, "hello yourself");
    (alice, bob)
}

#[test]
fn an_initiator_with_given_randomness_sends_exactly_the_recorded_messages() {
    let file = vectors("initiator.json");
    for case in list(&file, "cases") {
        let alice = &case["alice"];
        let private = PrivateKey::decode(&bytes(alice, "identityPrivate")).unwrap();
        let address = |value, name: &str| {
            let device = DeviceId::new(number(value, "deviceId")).unwrap();
            DeviceAddress::new(text(value, name), device)
        };
        let local = LocalIdentity {
            key_pair: IdentityKeyPair::from(private),
            registration_id: number(alice, "registrationId"),
            address: address(alice, "name"),
        };
        let bob = address(&case["bobAddress"], "name");
        let bundle = &case["bundle"];
        let (signed, kyber) = (&bundle["signedPreKey"], &bundle["kyberPreKey"]);
        let signature = |value| bytes(value, "signature").try_into().unwrap();
        let key = |value| PublicKey::decode(&bytes(value, "public")).unwrap();
        let bundle = PreKeyBundle {
            registration_id: number(bundle, "registrationId"),
            device: bob.device,
            identity: IdentityKey::decode(&bytes(bundle, "identityKey")).unwrap(),
            signed: SignedPreKeyPublic {
                id: number(signed, "id").into(),
                key: key(signed),
                signature: signature(signed),
            },
            kyber: KyberPreKeyPublic {
                id: number(kyber, "id").into(),
                key: kem::PublicKey::decode(&bytes(kyber, "public")).unwrap(),
                signature: signature(kyber),
            },
            one_time: Some(&bundle["preKey"])
                .filter(|value| value.is_object())
                .map(|value| OneTimePreKeyPublic {
                    id: number(value, "id").into(),
                    key: key(value),
                }),
        };
        let random = &case["random"];
        let mut rng = Script::new([
            bytes(random, "baseKeyPrivate"),
            bytes(random, "kyberEncapsRandom32"),
            bytes(random, "firstRatchetPrivate"),
            bytes(random, "mlkem768KeygenSeed64"),
        ]);
        let parties = Parties {
            local: &local,
            remote: &bob,
            trusted: Trust::Only(bundle.identity),
        };
        let mut record = SessionRecord::new();
        record
            .initiate(&parties, &bundle.verify().unwrap(), NOW, &mut rng)
            .unwrap();
        for message in list(case, "messages") {
            let plaintext = bytes(message, "plaintext");
            let sent = record.encrypt(&parties, &plaintext, NOW, &mut rng).unwrap();
            assert_eq!(
                u32::from(sent.message_type.number()),
                number(message, "type")
            );
            assert_eq!(hex::encode(&sent.bytes), text(message, "message"));
            record = SessionRecord::decode(&record.encode()).unwrap();
        }
        rng.finish();
    }
}

#[test]
fn sizes_are_those_of_the_official_library() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let first = alice.send(&bob, "0123456789");
    assert_eq!(
        (first.message_type, first.bytes.len()),
        (MessageType::PreKey, 1798)
    );
    bob.receive(&alice, &first).unwrap();
    // The peer's header is incomplete: its answer has no chunk to send.
    let answer = bob.send(&alice, "0123456789");
    assert_eq!(
        (answer.message_type, answer.bytes.len()),
        (MessageType::Signal, 72)
    );
    alice.receive(&bob, &answer).unwrap();
    let second = alice.send(&bob, "0123456789");
    assert_eq!(
        (second.message_type, second.bytes.len()),
        (MessageType::Signal, 105)
    );
}

#[test]
fn a_conversation_lasts_through_restarts_and_many_epochs() {
    let (mut alice, mut bob) = established();
    for round in 0..300 {
        let text = format!("round {round}");
        let sent = alice.send(&bob, &text);
        bob.reads(&alice, &sent, &text);
        let sent = bob.send(&alice, &text);
        alice.reads(&bob, &sent, &text);
        for device in [&mut alice, &mut bob] {
            device.record = SessionRecord::decode(&device.record.encode()).unwrap();
        }
    }
    assert!(alice.record.encode().len() < 10_000);
}

#[test]
fn a_bundle_with_either_signature_wrong_is_refused() {
    let (_, bob) = alice_and_bob();
    let mut bundle = bob.bundle();
    bundle.signed.signature[0] ^= 1;
    assert_eq!(bundle.verify(), Err(InvalidBundle::SignedPreKey));
    let mut bundle = bob.bundle();
    bundle.kyber.signature[0] ^= 1;
    assert_eq!(bundle.verify(), Err(InvalidBundle::KyberPreKey));
    // Each signature is good, but for the other prekey.
    let mut bundle = bob.bundle();
    std::mem::swap(&mut bundle.signed.signature, &mut bundle.kyber.signature);
    assert!(bundle.verify().is_err());
    // Signed by someone else.
    let mut bundle = bob.bundle();
    bundle.identity = Device::new(3, "mallory", 1).identity();
    assert_eq!(bundle.verify(), Err(InvalidBundle::SignedPreKey));
}

#[test]
fn a_bundle_with_points_of_small_order_starts_no_session() {
    let (mut alice, mut bob) = alice_and_bob();
    let low = PublicKey::from_u(&[0; 32]);
    let mut bundle = bob.bundle();
    bundle.one_time = Some(OneTimePreKeyPublic {
        id: 11.into(),
        key: low,
    });
    let verified = bundle.verify().unwrap();
    let parties = Parties {
        local: &alice.local,
        remote: &bob.local.address,
        trusted: Trust::Only(bob.identity()),
    };
    let result = alice
        .record
        .initiate(&parties, &verified, NOW, &mut alice.rng);
    assert!(matches!(result, Err(InitiateError::KeyAgreement(_))));
    assert!(alice.record.is_empty());

    let mut bundle = bob.bundle();
    bundle.signed.key = low;
    bundle.signed.signature = bob.local.key_pair.sign(low.as_bytes(), &mut bob.rng);
    let verified = bundle.verify().unwrap();
    let result = alice
        .record
        .initiate(&parties, &verified, NOW, &mut alice.rng);
    assert!(matches!(result, Err(InitiateError::KeyAgreement(_))));
    assert!(alice.record.is_empty());
}

#[test]
fn the_trusted_identity_is_required_at_every_step() {
    let (mut alice, mut bob) = established();
    let wrong = Trust::Only(Device::new(3, "mallory", 1).identity());

    let verified = bob.bundle().verify().unwrap();
    let before = alice.record.encode();
    let parties = Parties {
        trusted: wrong,
        ..parties(&alice.local, &bob)
    };
    assert_eq!(
        alice
            .record
            .initiate(&parties, &verified, NOW, &mut alice.rng),
        Err(InitiateError::UntrustedIdentity(bob.identity()))
    );
    assert_eq!(
        alice.record.encrypt(&parties, b"x", NOW, &mut alice.rng),
        Err(EncryptError::UntrustedIdentity(bob.identity()))
    );
    assert_eq!(alice.record.encode(), before);

    let sent = bob.send(&alice, "hello");
    let untrusted = DecryptError::UntrustedIdentity(bob.identity());
    assert_eq!(
        alice.receive_from(&bob.local.address, wrong, &sent),
        Err(untrusted)
    );
    alice.reads(&bob, &sent, "hello");

    let (mut alice, mut bob) = alice_and_bob();
    bob.initiate(&alice);
    let sent = bob.send(&alice, "first");
    assert_eq!(
        alice.receive_from(&bob.local.address, wrong, &sent),
        Err(untrusted)
    );
    alice.reads(&bob, &sent, "first");
}

#[test]
fn prekeys_are_reported_once_and_not_needed_again() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let first = alice.send(&bob, "first");
    let second = alice.send(&bob, "second");
    assert_eq!(second.message_type, MessageType::PreKey);

    let used = bob.reads(&alice, &first, "first").used.unwrap();
    assert_eq!(used.one_time_id, Some(11.into()));
    assert_eq!(used.kyber_id, 9.into());
    assert_eq!(used.signed_id, 7.into());

    // The prekeys are gone; the repeat of the handshake is read all the same.
    let message = PreKeyMessage::decode(&second.bytes).unwrap();
    assert!(bob.record.knows(&message));
    assert_eq!(message.base_key(), &used.base_key);
    let decrypted = bob
        .record
        .decrypt_prekey(&parties(&bob.local, &alice), &message, None, &mut bob.rng)
        .unwrap();
    assert_eq!(decrypted.plaintext, b"second");
    assert_eq!(decrypted.used, None);
}

#[test]
fn missing_and_wrong_prekeys_are_told_apart() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "first");
    let message = PreKeyMessage::decode(&sent.bytes).unwrap();
    let parties = parties(&bob.local, &alice);
    let other = OneTimePreKey::generate(12.into(), &mut bob.rng);
    let material = |one_time| PreKeyMaterial {
        signed: &bob.signed,
        kyber: &bob.kyber,
        one_time,
    };
    for (prekeys, expected) in [
        (None, DecryptError::PreKeysMissing),
        (Some(material(None)), DecryptError::PreKeysMissing),
        (Some(material(Some(&other))), DecryptError::WrongPreKeys),
    ] {
        let result = bob
            .record
            .decrypt_prekey(&parties, &message, prekeys, &mut bob.rng);
        assert_eq!(result, Err(expected));
        assert!(bob.record.is_empty());
    }
}

#[test]
fn without_a_one_time_prekey_a_session_starts_as_well() {
    let (mut alice, mut bob) = alice_and_bob();
    let mut bundle = bob.bundle();
    bundle.one_time = None;
    let verified = bundle.verify().unwrap();
    let parties = parties(&alice.local, &bob);
    alice
        .record
        .initiate(&parties, &verified, NOW, &mut alice.rng)
        .unwrap();
    let sent = alice.send(&bob, "first");
    let used = bob.reads(&alice, &sent, "first").used.unwrap();
    assert_eq!(used.one_time_id, None);
}

#[test]
fn a_duplicate_is_named_as_such() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let first = alice.send(&bob, "first");
    bob.reads(&alice, &first, "first");
    let duplicated = DecryptError::Duplicated {
        index: 1,
        counter: 0,
    };
    assert_eq!(bob.receive(&alice, &first), Err(duplicated));

    let (mut alice, mut bob) = established();
    let sent = bob.send(&alice, "once");
    alice.reads(&bob, &sent, "once");
    assert_eq!(
        alice.receive(&bob, &sent),
        Err(DecryptError::Duplicated {
            index: 2,
            counter: 1
        })
    );
}

#[test]
fn late_messages_are_read_within_the_window_of_2000() {
    let (mut alice, mut bob) = established();
    let sent: Vec<_> = (0..=2501)
        .map(|n| alice.send(&bob, &n.to_string()))
        .collect();
    bob.reads(&alice, &sent[2500], "2500");
    assert!(matches!(
        bob.receive(&alice, &sent[499]),
        Err(DecryptError::Duplicated { .. })
    ));
    bob.reads(&alice, &sent[500], "500");
    assert!(matches!(
        bob.receive(&alice, &sent[500]),
        Err(DecryptError::Duplicated { .. })
    ));
    bob.reads(&alice, &sent[2499], "2499");
    bob.reads(&alice, &sent[501], "501");
    bob.reads(&alice, &sent[2501], "2501");
}

#[test]
fn a_jump_of_25000_is_the_limit() {
    // One message was sent before in the same post-quantum epoch, whose count is one ahead: the
    // largest counter it lets through is 24,999.
    for (counter, expected) in [
        (24_999, None),
        (25_000, Some("post-quantum")),
        (25_001, Some("too far into the future")),
    ] {
        let (mut alice, mut bob) = established();
        let before = alice.record.encode();
        let mut last = None;
        for n in 0..=counter {
            last = Some(alice.send(&bob, &n.to_string()));
        }
        match expected {
            None => {
                bob.reads(&alice, &last.unwrap(), &counter.to_string());
            }
            Some(reason) => {
                let error = bob.receive(&alice, &last.unwrap()).unwrap_err();
                assert!(error.to_string().contains(reason), "{counter}: {error}");
                alice.record = SessionRecord::decode(&before).unwrap();
                let sent = alice.send(&bob, "near");
                bob.reads(&alice, &sent, "near");
            }
        }
    }
}

#[test]
fn between_devices_of_one_account_and_identity_jumps_are_not_limited() {
    let mut one = Device::new(5, "55555555-0000-4000-8000-000000000005", 1);
    let mut two = Device::new(6, "55555555-0000-4000-8000-000000000005", 2);
    two.local.key_pair = one.local.key_pair.clone();
    two.signed = SignedPreKey::generate(7.into(), &two.local.key_pair, NOW, &mut two.rng);
    two.kyber = KyberPreKey::generate(9.into(), &two.local.key_pair, NOW, &mut two.rng);
    one.initiate(&two);
    let mut last = one.send(&two, "0");
    for n in 1..=25_999 {
        last = one.send(&two, &n.to_string());
    }
    two.reads(&one, &last, "25999");
}

#[test]
fn only_the_last_five_ratchet_keys_stay_readable() {
    let (mut alice, mut bob) = established();
    let mut late = Vec::new();
    for round in 0..6 {
        late.push(alice.send(&bob, &format!("late {round}")));
        let sent = alice.send(&bob, "on time");
        bob.reads(&alice, &sent, "on time");
        let sent = bob.send(&alice, "answer");
        alice.reads(&bob, &sent, "answer");
    }
    assert!(matches!(
        bob.receive(&alice, &late[0]),
        Err(DecryptError::Invalid(_))
    ));
    for (round, sent) in late.iter().enumerate().skip(1) {
        bob.reads(&alice, sent, &format!("late {round}"));
    }
}

#[test]
fn an_unanswered_session_ends_after_30_days() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let limit = NOW.saturating_add(30 * DAY);
    let after = limit.saturating_add(Duration::from_millis(1));
    assert!(alice.record.is_pending());
    assert!(alice.record.has_usable_current(limit));
    assert!(!alice.record.has_usable_current(after));
    let sent = alice.send_at(&bob, "in time", limit).unwrap();
    let before = alice.record.encode();
    assert_eq!(
        alice.send_at(&bob, "too late", after),
        Err(EncryptError::SessionNotFound)
    );
    assert_eq!(alice.record.encode(), before);

    bob.reads(&alice, &sent, "in time");
    let answer = bob.send(&alice, "answer");
    alice.reads(&bob, &answer, "answer");
    assert!(!alice.record.is_pending());
    assert!(alice.record.has_usable_current(after));
    alice.send_at(&bob, "now it lasts", after).unwrap();
}

#[test]
fn an_archived_session_still_reads_and_comes_back() {
    let (mut alice, mut bob) = established();
    let late = alice.send(&bob, "late");
    bob.record.archive_current();
    assert_eq!(
        bob.send_at(&alice, "x", NOW),
        Err(EncryptError::SessionNotFound)
    );
    assert!(!bob.record.has_usable_current(NOW));
    assert!(!bob.record.is_empty());
    bob.reads(&alice, &late, "late");
    assert_eq!(bob.record.archived_len(), 0, "moved, not copied");
    let sent = bob.send(&alice, "back again");
    alice.reads(&bob, &sent, "back again");
}

#[test]
fn forty_archived_sessions_are_kept() {
    let (mut alice, mut bob) = alice_and_bob();
    let mut sessions = Vec::new();
    for n in 0..43 {
        alice.initiate(&bob);
        let first = alice.send(&bob, "first");
        bob.reads(&alice, &first, "first");
        let answer = bob.send(&alice, "answer");
        alice.reads(&bob, &answer, "answer");
        sessions.push(alice.send(&bob, &format!("late {n}")));
    }
    assert_eq!(bob.record.archived_len(), MAX_ARCHIVED);
    // Each late message promotes its session, and nothing falls off in doing so.
    for (n, sent) in sessions.iter().enumerate() {
        let result = bob.receive(&alice, sent);
        assert_eq!(result.is_ok(), n >= 2, "session {n}");
    }
}

#[test]
fn both_start_at_once_and_end_up_on_one_session() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    bob.initiate(&alice);
    let from_alice = alice.send(&bob, "from alice");
    let from_bob = bob.send(&alice, "from bob");
    alice.reads(&bob, &from_bob, "from bob");
    bob.reads(&alice, &from_alice, "from alice");
    assert_ne!(
        alice.record.current_base_key(),
        bob.record.current_base_key()
    );

    // Crossing again: each on the session that the other started.
    let from_alice = alice.send(&bob, "crossing");
    let from_bob = bob.send(&alice, "crossing too");
    assert_eq!(from_alice.message_type, MessageType::Signal);
    alice.reads(&bob, &from_bob, "crossing too");
    bob.reads(&alice, &from_alice, "crossing");

    for round in 0..5 {
        let sent = alice.send(&bob, &round.to_string());
        bob.reads(&alice, &sent, &round.to_string());
        let sent = bob.send(&alice, &round.to_string());
        alice.reads(&bob, &sent, &round.to_string());
    }
    assert_eq!(
        alice.record.current_base_key(),
        bob.record.current_base_key()
    );
}

#[test]
fn a_tampered_prekey_message_uses_nothing_and_the_good_one_still_works() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "first");
    for position in (0..sent.bytes.len())
        .step_by(7)
        .chain(sent.bytes.len() - 8..sent.bytes.len())
    {
        let mut bytes = sent.bytes.clone();
        bytes[position] ^= 0x20;
        let Ok(message) = PreKeyMessage::decode(&bytes) else {
            continue;
        };
        if message.registration_id() != alice.local.registration_id {
            continue; // the one field that nothing covers
        }
        let material = PreKeyMaterial {
            signed: &bob.signed,
            kyber: &bob.kyber,
            one_time: message.one_time_id().map(|_| &bob.one_time),
        };
        // As a careless caller would: whoever appears is trusted.
        let parties = Parties {
            trusted: Trust::FirstUse,
            ..parties(&bob.local, &alice)
        };
        let result = bob
            .record
            .decrypt_prekey(&parties, &message, Some(material), &mut bob.rng);
        // The low nibble of the version byte is ignored, here as in the official library.
        assert!(
            result.is_err() || position == 0,
            "byte {position} does not matter"
        );
        assert!(bob.record.is_empty() || position == 0);
        bob.record = SessionRecord::new();
    }
    bob.reads(&alice, &sent, "first");
}

#[test]
fn every_bit_of_a_message_matters() {
    let (mut alice, mut bob) = established();
    let sent = alice.send(&bob, "whole");
    for bit in 0..sent.bytes.len() * 8 {
        let mut bytes = sent.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let tampered = CiphertextMessage {
            bytes,
            ..sent.clone()
        };
        if SignalMessage::decode(&tampered.bytes).is_ok() {
            assert!(bob.receive(&alice, &tampered).is_err(), "bit {bit}");
        }
    }
    bob.reads(&alice, &sent, "whole");
}

#[test]
fn a_base_key_that_is_not_canonical_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "first");
    let message = PreKeyMessage::decode(&sent.bytes).unwrap();
    let base = *message.base_key().as_bytes();
    let at = sent
        .bytes
        .windows(33)
        .position(|window| window == base)
        .unwrap();
    let mut high_bit = sent.clone();
    high_bit.bytes[at + 32] |= 0x80;
    let mut zero = sent.clone();
    zero.bytes[at + 1..at + 33].fill(0);
    for tampered in [high_bit, zero] {
        assert_eq!(
            bob.receive(&alice, &tampered),
            Err(DecryptError::Invalid(InvalidMessage::BaseKey))
        );
    }
}

#[test]
fn a_message_for_another_address_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "first");
    let other_device = DeviceId::new(3).unwrap();
    let name = alice.local.address.name.clone();
    for remote in [
        DeviceAddress::new(name.clone(), other_device),
        DeviceAddress::new(
            "33333333-0000-4000-8000-000000000003",
            alice.local.address.device,
        ),
        DeviceAddress::new(format!("PNI:{name}"), alice.local.address.device),
        DeviceAddress::new("alice", alice.local.address.device),
    ] {
        let trusted = Trust::Only(alice.identity());
        assert_eq!(
            bob.receive_from(&remote, trusted, &sent),
            Err(DecryptError::Invalid(InvalidMessage::Addresses)),
            "{remote}"
        );
    }
    // Equality is on parsed ids: the spelling of the UUID does not matter.
    let remote = DeviceAddress::new(name.to_uppercase(), alice.local.address.device);
    let trusted = Trust::Only(alice.identity());
    assert_eq!(
        bob.receive_from(&remote, trusted, &sent).unwrap().plaintext,
        b"first"
    );
}

#[test]
fn a_message_for_another_recipient_is_refused() {
    let (mut alice, mut bob) = alice_and_bob();
    let mut carol = Device::new(3, "33333333-0000-4000-8000-000000000003", 3);
    alice.initiate(&bob);
    let sent = alice.send(&bob, "for bob");
    assert!(matches!(
        carol.receive(&alice, &sent),
        Err(DecryptError::Invalid(_))
    ));
    bob.reads(&alice, &sent, "for bob");
    // Another sender's messages in the session with alice.
    carol.initiate(&bob);
    let from_carol = carol.send(&bob, "from carol");
    assert_eq!(
        bob.receive_from(&alice.local.address, Trust::FirstUse, &from_carol),
        Err(DecryptError::Invalid(InvalidMessage::Addresses))
    );
}

#[test]
fn names_that_are_no_service_ids_work_without_addresses() {
    let mut alice = Device::new(1, "alice", 1);
    let mut bob = Device::new(2, "+14155550100", 1);
    alice.initiate(&bob);
    let sent = alice.send(&bob, "0123456789");
    // 36 + 2 bytes less, and the inner message's length fits one byte.
    assert_eq!(sent.bytes.len(), 1798 - 39);
    bob.reads(&alice, &sent, "0123456789");
}

#[test]
fn version_nibbles_follow_the_official_rules() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let sent = alice.send(&bob, "first");
    let with_first = |first: u8| {
        let mut bytes = sent.bytes.clone();
        bytes[0] = first;
        PreKeyMessage::decode(&bytes)
    };
    for low in [0, 3, 4, 5, 15] {
        assert!(with_first(0x40 | low).is_ok());
        for version in [0, 1, 2, 3] {
            let expected = MessageError::LegacyVersion(version);
            assert_eq!(with_first(version << 4 | low).unwrap_err(), expected);
        }
        for version in 5..16 {
            let expected = MessageError::UnrecognizedVersion(version);
            assert_eq!(with_first(version << 4 | low).unwrap_err(), expected);
        }
    }
    bob.reads(&alice, &sent, "first");
    let answer = bob.send(&alice, "answer");
    let mut version_3 = answer.clone();
    version_3.bytes[0] = 0x34;
    assert_eq!(
        alice.receive(&bob, &version_3),
        Err(DecryptError::Invalid(InvalidMessage::Version))
    );
    let mut low_nibble = answer.clone();
    low_nibble.bytes[0] = 0x45; // covered by the MAC
    assert_eq!(
        alice.receive(&bob, &low_nibble),
        Err(DecryptError::Invalid(InvalidMessage::Mac))
    );
    assert_eq!(
        SignalMessage::decode(&[0x44; 8]).unwrap_err(),
        MessageError::TooShort(8)
    );
    assert_eq!(
        SignalMessage::decode(&[]).unwrap_err(),
        MessageError::TooShort(0)
    );
    assert_eq!(
        PreKeyMessage::decode(&[]).unwrap_err(),
        MessageError::TooShort(0)
    );
    assert_eq!(
        PreKeyMessage::decode(&[0x44]).unwrap_err(),
        MessageError::InvalidEncoding
    );
}

#[test]
fn a_session_with_nobody_is_not_found() {
    let (mut alice, bob) = alice_and_bob();
    let (mut carol, mut dave) = established();
    let stray = carol.send(&dave, "stray");
    assert_eq!(
        alice.send_at(&bob, "x", NOW),
        Err(EncryptError::SessionNotFound)
    );
    assert_eq!(
        alice.receive(&bob, &stray),
        Err(DecryptError::SessionNotFound)
    );
    dave.reads(&carol, &stray, "stray");
    assert_eq!(alice.record.remote_identity(), None);
}

#[test]
fn accessors_speak_of_the_current_session() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    assert_eq!(alice.record.remote_identity(), Some(&bob.identity()));
    assert_eq!(alice.record.local_identity(), Some(&alice.identity()));
    assert_eq!(alice.record.remote_registration_id(), Some(1002));
    let sent = alice.send(&bob, "first");
    let message = PreKeyMessage::decode(&sent.bytes).unwrap();
    assert!(
        alice
            .record
            .current_ratchet_key_matches(message.message().ratchet_key())
    );
    bob.reads(&alice, &sent, "first");
    assert_eq!(bob.record.remote_registration_id(), Some(1001));
    assert!(!bob.record.is_pending());
    assert!(
        !bob.record
            .current_ratchet_key_matches(message.message().ratchet_key())
    );
    let answer = bob.send(&alice, "answer");
    alice.reads(&bob, &answer, "answer");
    let next = alice.send(&bob, "next");
    assert_eq!(next.message_type, MessageType::Signal);
    assert!(
        !alice
            .record
            .current_ratchet_key_matches(message.message().ratchet_key())
    );
}

#[test]
fn records_of_other_versions_and_damaged_ones_are_refused() {
    let (alice, _) = established();
    let stored = alice.record.encode();
    let mut other = stored.to_vec();
    other[0] = 2;
    assert!(matches!(
        SessionRecord::decode(&other),
        Err(StoredRecordError::Version {
            found: 2,
            expected: 1
        })
    ));
    for len in 0..stored.len() {
        assert!(SessionRecord::decode(&stored[..len]).is_err(), "{len}");
    }
    let longer = [&stored[..], &[0]].concat();
    assert!(matches!(
        SessionRecord::decode(&longer),
        Err(StoredRecordError::Damaged)
    ));
}

#[test]
fn prekey_records_survive_the_store() {
    let (_, bob) = alice_and_bob();
    let signed = SignedPreKey::decode(&bob.signed.encode()).unwrap();
    assert_eq!(signed, bob.signed);
    assert_eq!(signed.public(), bob.signed.public());
    let kyber = KyberPreKey::decode(&bob.kyber.encode()).unwrap();
    assert_eq!(kyber.public(), bob.kyber.public());
    assert_eq!(kyber.encode(), bob.kyber.encode());
    assert_eq!((kyber.id(), kyber.created()), (9.into(), NOW));
    let one_time = OneTimePreKey::decode(&bob.one_time.encode()).unwrap();
    assert_eq!(one_time, bob.one_time);
    assert!(matches!(
        SignedPreKey::decode(&[9; 80]),
        Err(StoredRecordError::Version {
            found: 9,
            expected: 1
        })
    ));
    assert!(OneTimePreKey::decode(&bob.one_time.encode()[..20]).is_err());
}

#[test]
fn nothing_secret_is_printed() {
    let (mut alice, mut bob) = established();
    let sent = alice.send(&bob, "the plaintext");
    let decrypted = bob.reads(&alice, &sent, "the plaintext");
    assert!(!format!("{decrypted:?}").contains("the plaintext"));
    assert_eq!(
        format!("{:?}", bob.record),
        "SessionRecord { current: true, pending: false, archived: 0 }"
    );
    assert!(format!("{:?}", bob.signed).contains("PrivateKey(..)"));
    assert!(format!("{:?}", bob.kyber).contains("kem::KeyPair(..)"));
}

#[test]
fn a_known_session_is_not_reopened_under_another_identity() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.initiate(&bob);
    let first = alice.send(&bob, "first");
    let mut second = alice.send(&bob, "second");
    bob.reads(&alice, &first, "first");
    let message = PreKeyMessage::decode(&second.bytes).unwrap();
    let identity = *message.identity().as_bytes();
    let at = second
        .bytes
        .windows(33)
        .position(|window| window == identity)
        .unwrap();
    let mallory = Device::new(3, "mallory", 1);
    second.bytes[at..at + 33].copy_from_slice(mallory.identity().as_bytes());
    assert_eq!(
        bob.receive_from(&alice.local.address, Trust::FirstUse, &second),
        Err(DecryptError::Invalid(InvalidMessage::Identity))
    );
}

#[test]
fn an_archived_session_keeps_no_handshake() {
    let (mut alice, bob) = alice_and_bob();
    alice.initiate(&bob);
    let pending = alice.record.encode().len();
    alice.record.archive_current();
    assert!(alice.record.encode().len() < pending - 1569);
}

#[test]
fn the_window_of_2000_spans_several_gaps() {
    let (mut alice, mut bob) = established();
    let sent: Vec<_> = (0..=3002)
        .map(|n| alice.send(&bob, &n.to_string()))
        .collect();
    // 1,501 are passed over, then 1,500 more.
    bob.reads(&alice, &sent[1501], "1501");
    let one_gap = bob.record.encode().len();
    bob.reads(&alice, &sent[3002], "3002");
    assert!(bob.record.encode().len() < one_gap + 2 * 36 * 500);
    // Counting both gaps, 0 to 1,000 are too many.
    let too_old = bob.receive(&alice, &sent[1000]);
    assert!(
        matches!(too_old, Err(DecryptError::Duplicated { .. })),
        "{too_old:?}"
    );
    bob.reads(&alice, &sent[1002], "1002");
}
