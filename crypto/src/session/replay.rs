//! Replays sessions recorded between two official peers, from both ends, byte for byte.
//!
//! A unit test rather than an integration test because the recordings start on the initiator's
//! side after the handshake, and hold ML-KEM keys rather than their seeds.

use std::iter::successors;

use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::{
    Decrypted, Parties, SessionRecord, Trust,
    state::{Pending, Session},
};
use crate::{
    address::{DeviceAddress, DeviceId},
    common::{Script, bytes, list, number, text, vectors},
    curve::{PrivateKey, PublicKey},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    kdf::hmac,
    kem,
    message::{MessageType, PreKeyMessage, SignalMessage},
    pqxdh::{self, Handshake},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyMaterial, SignedPreKey},
    ratchet::{
        double::DoubleRatchet,
        keys::{ChainKey, MessageSeed, RootKey},
        triple::TripleRatchet,
    },
    secret::Secret,
    timestamp::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn secret<const N: usize>(value: &Value, key: &str) -> Secret<N> {
    Secret::from_slice(&bytes(value, key)).unwrap()
}

fn local(value: &Value) -> LocalIdentity {
    let private = PrivateKey::decode(&bytes(value, "identityPrivate")).unwrap();
    let key_pair = IdentityKeyPair::from(private);
    assert_eq!(
        key_pair.identity_key().as_bytes()[..],
        bytes(value, "identityPublic")
    );
    LocalIdentity {
        key_pair,
        registration_id: number(value, "registrationId"),
        address: DeviceAddress::new(
            text(value, "name"),
            DeviceId::new(number(value, "deviceId")).unwrap(),
        ),
    }
}

struct Prekeys {
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: Option<OneTimePreKey>,
}

impl Prekeys {
    fn of(bob: &Value) -> Self {
        let identity = local(bob).key_pair;
        let mut rng = StdRng::seed_from_u64(1);
        let signed = &bob["signedPreKey"];
        let kyber = &bob["kyberPreKey"];
        let one_time = Some(&bob["oneTimePreKey"]).filter(|value| value.is_object());
        let private = |value| PrivateKey::decode(&bytes(value, "private")).unwrap();
        let prekeys = Self {
            signed: SignedPreKey::import(
                number(signed, "id").into(),
                private(signed),
                &identity,
                NOW,
                &mut rng,
            ),
            kyber: KyberPreKey::import(
                number(kyber, "id").into(),
                kem::KeyPair::decode(&bytes(kyber, "secret")).unwrap(),
                &identity,
                NOW,
                &mut rng,
            ),
            one_time: one_time
                .map(|value| OneTimePreKey::import(number(value, "id").into(), private(value))),
        };
        assert_eq!(
            prekeys.kyber.public().key.as_bytes()[..],
            bytes(kyber, "public")
        );
        prekeys
    }

    fn material(&self) -> PreKeyMaterial<'_> {
        PreKeyMaterial {
            signed: &self.signed,
            kyber: &self.kyber,
            one_time: self.one_time.as_ref(),
        }
    }
}

/// One recorded session with everything needed to play either end.
struct Recording {
    file: Value,
    alice: LocalIdentity,
    bob: LocalIdentity,
    prekeys: Prekeys,
}

impl Recording {
    fn load(file: &str) -> Self {
        let file = vectors(file);
        Self {
            alice: local(&file["alice"]),
            bob: local(&file["bob"]),
            prekeys: Prekeys::of(&file["bob"]),
            file,
        }
    }

    fn handshake(&self) -> Handshake {
        let values = &self.file["handshake"];
        Handshake {
            root: secret(values, "rootKey"),
            chain: secret(values, "chainKey"),
            pq_auth: secret(values, "pqAuthKey"),
        }
    }

    fn events(&self) -> &[Value] {
        list(&self.file, "events")
    }

    /// The bytes that were sent as message `n`.
    fn sent(&self, n: u32) -> &Value {
        self.events()
            .iter()
            .find(|event| text(event, "op") == "send" && number(event, "n") == n)
            .unwrap()
    }

    fn first_message(&self) -> PreKeyMessage {
        PreKeyMessage::decode(&bytes(self.sent(0), "message")).unwrap()
    }

    /// The initiator's record as it stood before the first message.
    fn initiator_record(&self) -> SessionRecord {
        let first = self.first_message();
        let mut rng = Script::new([bytes(&self.file["alice"], "firstRatchetPrivate")]);
        let ratchet = TripleRatchet::initiator(
            self.handshake(),
            self.prekeys.signed.pair().public(),
            false,
            &mut rng,
        )
        .unwrap();
        rng.finish();
        SessionRecord {
            current: Some(Session {
                base_key: *first.base_key(),
                local_identity: self.alice.key_pair.identity_key(),
                remote_identity: self.bob.key_pair.identity_key(),
                remote_registration_id: self.bob.registration_id,
                pending: Some(Pending {
                    created: NOW,
                    one_time_id: first.one_time_id(),
                    signed_id: first.signed_id(),
                    kyber_id: first.kyber_id(),
                    kyber_ciphertext: first.kyber_ciphertext().unwrap(),
                }),
                ratchet,
            }),
            ..SessionRecord::default()
        }
    }
}

/// The randomness that the official peer drew in this step.
fn randomness(event: &Value) -> Script {
    let mut script = Script::default();
    for draw in event["random"].as_array().unwrap_or(&Vec::new()) {
        let value = bytes(draw, "value");
        match text(draw, "kind") {
            "mlkem768-dk" => kem::recorded::push(kem::incremental::KeyPair::from_bytes(
                Secret::from_slice(&value).unwrap(),
            )),
            "x25519" | "mlkem768-m" => script.push(value),
            other => panic!("unknown kind of randomness {other}"),
        }
    }
    script
}

/// One end of a recording, stored and loaded again after every step.
struct End<'a> {
    record: SessionRecord,
    local: &'a LocalIdentity,
    remote: &'a LocalIdentity,
}

impl End<'_> {
    fn parties(&self) -> Parties<'_> {
        Parties {
            local: self.local,
            remote: &self.remote.address,
            trusted: Trust::Only(self.remote.key_pair.identity_key()),
        }
    }

    fn restart(&mut self) {
        let stored = self.record.encode();
        self.record = SessionRecord::decode(&stored).unwrap();
        assert_eq!(self.record.encode(), stored);
    }

    fn send(&mut self, event: &Value) {
        let mut rng = randomness(event);
        let mut record = self.record.clone();
        let sent = record
            .encrypt(&self.parties(), &bytes(event, "plaintext"), NOW, &mut rng)
            .unwrap();
        rng.finish();
        assert_eq!(kem::recorded::left(), 0);
        let n = number(event, "n");
        assert_eq!(
            u32::from(sent.message_type.number()),
            number(event, "type"),
            "type of {n}"
        );
        assert_eq!(
            hex::encode(sent.bytes),
            text(event, "message"),
            "message {n}"
        );
        self.record = record;
        self.restart();
    }

    fn receive(&mut self, sent: &Value, event: &Value, prekeys: Option<PreKeyMaterial<'_>>) {
        let mut rng = randomness(event);
        let mut record = self.record.clone();
        let message = bytes(sent, "message");
        let Decrypted { plaintext, .. } = match number(sent, "type") {
            3 => {
                let message = PreKeyMessage::decode(&message).unwrap();
                record.decrypt_prekey(&self.parties(), &message, prekeys, &mut rng)
            }
            2 => {
                let message = SignalMessage::decode(&message).unwrap();
                record.decrypt(&self.parties(), &message, &mut rng)
            }
            other => panic!("type {other}"),
        }
        .unwrap_or_else(|error| panic!("message {}: {error}", number(sent, "n")));
        rng.finish();
        assert_eq!(hex::encode(plaintext), text(sent, "plaintext"));
        self.record = record;
        self.restart();
    }
}

fn replay(file: &str) {
    let recording = Recording::load(file);
    let mut alice = End {
        record: recording.initiator_record(),
        local: &recording.alice,
        remote: &recording.bob,
    };
    let mut bob = End {
        record: SessionRecord::new(),
        local: &recording.bob,
        remote: &recording.alice,
    };
    let (mut sends, mut receipts) = (0, 0);
    for (index, event) in recording.events().iter().enumerate() {
        let end = if text(event, "by") == "alice" {
            &mut alice
        } else {
            &mut bob
        };
        if text(event, "op") == "send" {
            end.send(event);
            sends += 1;
        } else {
            if text(event, "by") == "bob" {
                check_intermediates(&recording, &end.record, index, event);
            }
            let sent = recording.sent(number(event, "n"));
            end.receive(sent, event, Some(recording.prekeys.material()));
            receipts += 1;
        }
    }
    assert!(
        sends >= 20 && receipts >= 15,
        "{file}: {sends} sent, {receipts} received"
    );
}

/// The recorded values of some of the recipient's receipts.
fn check_intermediates(recording: &Recording, record: &SessionRecord, index: usize, event: &Value) {
    let Some(expected) = list(&recording.file, "bobReceiveIntermediates")
        .iter()
        .find(|values| values["event"] == index)
    else {
        return;
    };
    let seed: Secret<32> = secret(expected, "messageKeySeed");
    // The chain may first pass over messages that were lost or are late; for a late one itself it
    // has moved on, and the seed was stored.
    let first = ChainKey::new(secret(expected, "receiverChainKeyBefore"), 0);
    let reached = successors(Some(first), ChainKey::next)
        .take(1 + usize::try_from(number(expected, "counter")).unwrap())
        .any(|chain| hmac(chain.as_bytes(), &[&[1]]) == seed);
    let late = recording.events()[..index].iter().any(|earlier| {
        text(earlier, "op") == "recv"
            && text(earlier, "by") == "bob"
            && number(earlier, "n") > number(event, "n")
    });
    assert_eq!(reached, !late, "event {index}");
    let keys = MessageSeed::new(seed).keys(&secret(expected, "spqrKey"));
    let (cipher, mac, iv) = keys.parts();
    assert_eq!(cipher, bytes(expected, "cipherKey"));
    assert_eq!(mac, bytes(expected, "macKey"));
    assert_eq!(iv, bytes(expected, "iv"));

    let sent = recording.sent(number(event, "n"));
    let raw = bytes(sent, "message");
    let message = match number(sent, "type") {
        3 => PreKeyMessage::decode(&raw).unwrap().message().clone(),
        _ => SignalMessage::decode(&raw).unwrap(),
    };
    assert_eq!(message.counter(), number(expected, "counter"));
    assert_eq!(message.pq_ratchet(), bytes(expected, "spqrMessage"));
    if let Some(session) = &record.current {
        let ours = session
            .ratchet
            .receive(
                message.ratchet_key(),
                message.counter(),
                message.pq_ratchet(),
            )
            .map_err(|error| format!("{error:?}"))
            .unwrap();
        assert_eq!(ours.keys.parts(), keys.parts());
    }
}

#[test]
fn strict_alternation_replays_from_both_ends() {
    replay("session-pingpong.json");
}

#[test]
fn loss_and_reordering_replay_from_both_ends() {
    replay("session-lossy.json");
}

#[test]
fn a_flood_without_answer_replays_from_both_ends() {
    replay("session-oneway.json");
}

#[test]
fn the_handshake_matches_in_every_value() {
    for file in [
        "session-pingpong.json",
        "session-lossy.json",
        "session-oneway.json",
    ] {
        let recording = Recording::load(file);
        let first = recording.first_message();
        let ours = pqxdh::accept(
            &recording.bob.key_pair,
            &recording.prekeys.material(),
            &IdentityKey::from(*recording.alice.key_pair.identity_key().public_key()),
            first.base_key(),
            &first.kyber_ciphertext().unwrap(),
        )
        .unwrap();
        let expected = recording.handshake();
        assert_eq!(ours.root, expected.root);
        assert_eq!(ours.chain, expected.chain);
        assert_eq!(ours.pq_auth, expected.pq_auth);

        let values = &recording.file["handshake"];
        let ratchet =
            PrivateKey::decode(&bytes(&recording.file["alice"], "firstRatchetPrivate")).unwrap();
        let signed: &PublicKey = recording.prekeys.signed.pair().public();
        let (root, chain) = RootKey::new(expected.root)
            .step(&ratchet, &signed.into())
            .unwrap();
        assert_eq!(
            root.as_bytes()[..],
            bytes(values, "aliceRootKeyAfterFirstRatchet")
        );
        assert_eq!(
            chain.as_bytes()[..],
            bytes(values, "aliceFirstSenderChainKey")
        );
    }
}

#[test]
fn the_previous_counter_is_one_less_than_the_messages_sent() {
    let mut rng = StdRng::seed_from_u64(2);
    let prekey = crate::curve::KeyPair::generate(&mut rng);
    let (root, chain) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let mut alice =
        DoubleRatchet::initiator(root.clone(), chain.clone(), prekey.public(), &mut rng).unwrap();
    let mut bob = DoubleRatchet::recipient(root, chain, &prekey);
    for (sent, expected) in [(3, 2), (1, 0), (5, 4)] {
        for _ in 0..sent {
            let sending = alice.send().unwrap();
            let received = bob
                .receive(&sending.ratchet_key, sending.counter, 25_000)
                .map_err(|error| format!("{error:?}"))
                .unwrap();
            assert_eq!(received.seed.secret(), sending.seed.secret());
            bob.commit_receive(received.complete(&mut rng).unwrap());
            alice.commit_send(sending);
        }
        let back = bob.send().unwrap();
        let received = alice
            .receive(&back.ratchet_key, back.counter, 25_000)
            .map_err(|error| format!("{error:?}"))
            .unwrap();
        alice.commit_receive(received.complete(&mut rng).unwrap());
        bob.commit_send(back);
        assert_eq!(alice.send().unwrap().previous_counter, expected);
    }
}

#[test]
fn message_types_have_the_numbers_of_the_recording() {
    assert_eq!(MessageType::from_number(3), Some(MessageType::PreKey));
    assert_eq!(MessageType::from_number(2), Some(MessageType::Signal));
}
