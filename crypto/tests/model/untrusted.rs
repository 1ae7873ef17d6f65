//! Every place where bytes from a stranger or from a damaged store come in, one function each.
//! None may panic, and none may change anything by refusing. The property tests and the fuzzer
//! share these functions.

use std::sync::OnceLock;

use rand::{SeedableRng, rngs::StdRng};
use uuid::Uuid;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId, ServiceId},
    curve::{PrivateKey, PublicKey},
    fingerprint::{Fingerprint, Party},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    kem,
    message::{PreKeyMessage, SignalMessage},
    plaintext_content::{DecryptionErrorMessage, PlaintextContent},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey},
    sealed_sender::{SealedContent, SenderCertificate, SentMessage, ServerCertificate, open},
    sender_key::{DistributionMessage, OwnSenderKey, SenderKeyMessage, SenderKeyRecord},
    session::{Parties, SessionRecord, Trust},
    spqr::SpqrState,
    timestamp::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const GROUP: Uuid = Uuid::from_u128(7);

/// Two devices in the middle of a conversation, one of every kind of message, and the state in
/// which the second device would receive it.
pub struct Scene {
    alice: LocalIdentity,
    bob: LocalIdentity,
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: OneTimePreKey,
    established: SessionRecord,
    group: SenderKeyRecord,
    spqr: SpqrState,
    /// Valid inputs, for changing a little.
    pub seeds: Vec<Vec<u8>>,
}

/// The scene is always the same.
pub fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(build)
}

fn build() -> Scene {
    let mut rng = StdRng::seed_from_u64(42);
    let mut device = |number: u32| LocalIdentity {
        key_pair: IdentityKeyPair::generate(&mut rng),
        registration_id: number,
        address: DeviceAddress::new(
            format!("{number:08}-0000-4000-8000-000000000000"),
            DeviceId::new(number).expect("1 or 2"),
        ),
    };
    let (alice, bob) = (device(1), device(2));
    let signed = SignedPreKey::generate(1.into(), &bob.key_pair, NOW, &mut rng);
    let kyber = KyberPreKey::generate(1.into(), &bob.key_pair, NOW, &mut rng);
    let one_time = OneTimePreKey::generate(1.into(), &mut rng);
    let bundle = PreKeyBundle {
        registration_id: bob.registration_id,
        device: bob.address.device,
        identity: bob.key_pair.identity_key(),
        signed: signed.public(),
        kyber: kyber.public(),
        one_time: Some(one_time.public()),
    };
    let to_bob = parties(&alice, &bob);
    let mut alices = SessionRecord::new();
    let bundle = bundle.verify().expect("our own bundle");
    alices
        .initiate(&to_bob, &bundle, NOW, &mut rng)
        .expect("our own bundle");
    let first = alices
        .encrypt(&to_bob, b"first", NOW, &mut rng)
        .expect("a session")
        .bytes;
    let prekey_record = alices.encode().to_vec();

    let material = PreKeyMaterial {
        signed: &signed,
        kyber: &kyber,
        one_time: Some(&one_time),
    };
    let mut bobs = SessionRecord::new();
    let message = PreKeyMessage::decode(&first).expect("our own message");
    let to_alice = parties(&bob, &alice);
    bobs.decrypt_prekey(&to_alice, &message, Some(material), &mut rng)
        .expect("ours");
    let answer = bobs
        .encrypt(&to_alice, b"answer", NOW, &mut rng)
        .expect("a session")
        .bytes;
    let message = SignalMessage::decode(&answer).expect("ours");
    alices.decrypt(&to_bob, &message, &mut rng).expect("ours");
    bobs.archive_current();
    let later = alices
        .encrypt(&to_bob, b"later", NOW, &mut rng)
        .expect("a session")
        .bytes;
    let message = SignalMessage::decode(&later).expect("ours");

    let mut own = OwnSenderKey::generate(GROUP, &mut rng);
    let mut group = SenderKeyRecord::new(GROUP);
    let distribution = own.distribution_message();
    group.process(&distribution).expect("ours");
    let to_group = own.encrypt(b"to the group", &mut rng).expect("a fresh key");

    let spqr_message = message.pq_ratchet().to_vec();
    let mut sender = SpqrState::initiator(&[7; 32], false);
    let spqr = SpqrState::responder(&[7; 32], false);
    let (chunk, _) = sender.send(&mut rng).expect("a fresh chain");
    let seeds = vec![
        first,
        answer,
        later,
        prekey_record,
        bobs.encode().to_vec(),
        signed.encode().to_vec(),
        kyber.encode().to_vec(),
        one_time.encode().to_vec(),
        distribution.encode().to_vec(),
        to_group,
        group.encode().to_vec(),
        own.encode().to_vec(),
        spqr_message,
        chunk,
        spqr.encode().to_vec(),
        sender.encode().to_vec(),
    ];
    Scene {
        alice,
        bob,
        signed,
        kyber,
        one_time,
        established: bobs,
        group,
        spqr,
        seeds,
    }
}

fn parties<'a>(local: &'a LocalIdentity, remote: &'a LocalIdentity) -> Parties<'a> {
    Parties {
        local,
        remote: &remote.address,
        trusted: Trust::Only(remote.key_pair.identity_key()),
    }
}

/// All of the functions below.
pub fn everything(bytes: &[u8]) {
    keys(bytes);
    messages(bytes);
    records(bytes);
    decrypt(bytes);
    sender_keys(bytes);
    sealed(bytes);
    post_quantum(bytes);
}

/// Keys and names.
pub fn keys(bytes: &[u8]) {
    if let Ok(key) = PublicKey::decode(bytes) {
        assert_eq!(PublicKey::decode(key.as_bytes()), Ok(key));
        let _ = key.is_canonical();
        let _ = key.verify(bytes, bytes.get(..64).unwrap_or_default());
        if let Ok(private) = PrivateKey::decode(&bytes[1..33]) {
            let _ = private.agree(&key);
        }
    }
    if let Ok(pair) = kem::KeyPair::decode(bytes) {
        assert_eq!(pair.secret_bytes()[..], *bytes);
    }
    let _ = kem::PublicKey::decode(bytes);
    let _ = kem::Ciphertext::decode(bytes);
    if let Some(id) = std::str::from_utf8(bytes).ok().and_then(ServiceId::parse) {
        assert_eq!(ServiceId::parse(&id.to_name()), Some(id));
    }
    if let Ok(ours) = Fingerprint::new(
        2,
        2,
        Party {
            id: bytes,
            key: &[5; 33],
        },
        Party {
            id: &[],
            key: &[6; 33],
        },
    ) {
        let _ = ours.matches(bytes);
    }
}

/// The forms of messages.
pub fn messages(bytes: &[u8]) {
    if let Ok(message) = SignalMessage::decode(bytes) {
        assert_eq!(message.as_bytes(), bytes);
    }
    if let Ok(message) = PreKeyMessage::decode(bytes) {
        assert_eq!(message.as_bytes(), bytes);
        let _ = format!("{message:?}");
    }
    if let Ok(content) = PlaintextContent::decode(bytes) {
        let _ = content.decryption_error();
    }
    if let Ok(message) = DecryptionErrorMessage::decode(bytes) {
        let again = DecryptionErrorMessage::decode(&message.encode());
        assert!(again.is_ok());
    }
}

/// Stored records. What decodes is encoded again the same, and can be used.
pub fn records(bytes: &[u8]) {
    if let Ok(mut record) = SessionRecord::decode(bytes) {
        assert_eq!(record.encode()[..], *bytes);
        let Scene {
            alice, bob, seeds, ..
        } = scene();
        let mut rng = StdRng::seed_from_u64(1);
        for (local, remote) in [(alice, bob), (bob, alice)] {
            let parties = Parties {
                trusted: Trust::FirstUse,
                ..parties(local, remote)
            };
            let _ = record.encrypt(&parties, b"more", NOW, &mut rng);
            for seed in seeds.iter().take(3) {
                if let Ok(message) = SignalMessage::decode(seed) {
                    let _ = record.decrypt(&parties, &message, &mut rng);
                }
            }
        }
        record.archive_current();
        let _ = record.encode();
    }
    if let Ok(prekey) = SignedPreKey::decode(bytes) {
        let _ = prekey.public();
    }
    if let Ok(prekey) = KyberPreKey::decode(bytes) {
        assert_eq!(prekey.encode()[..], *bytes);
    }
    if let Ok(prekey) = OneTimePreKey::decode(bytes) {
        let _ = prekey.public();
    }
    if let Ok(mut key) = OwnSenderKey::decode(bytes) {
        let _ = key.encrypt(b"more", &mut StdRng::seed_from_u64(1));
    }
    if let Ok(record) = SenderKeyRecord::decode(bytes) {
        assert_eq!(record.encode()[..], *bytes);
    }
    if let Ok(mut state) = SpqrState::decode(bytes) {
        assert_eq!(state.encode()[..], *bytes);
        let _ = state.send(&mut StdRng::seed_from_u64(1));
        let _ = state.encode();
    }
}

/// Messages to a device, in a session and out of the blue.
pub fn decrypt(bytes: &[u8]) {
    let scene = scene();
    let parties = Parties {
        trusted: Trust::FirstUse,
        ..parties(&scene.bob, &scene.alice)
    };
    let mut rng = StdRng::seed_from_u64(2);
    for start in [&SessionRecord::new(), &scene.established] {
        let mut record = start.clone();
        let before = record.encode();
        let failed = match (SignalMessage::decode(bytes), PreKeyMessage::decode(bytes)) {
            (Ok(message), _) => record.decrypt(&parties, &message, &mut rng).is_err(),
            (_, Ok(message)) => {
                let material = PreKeyMaterial {
                    signed: &scene.signed,
                    kyber: &scene.kyber,
                    one_time: message.one_time_id().map(|_| &scene.one_time),
                };
                record
                    .decrypt_prekey(&parties, &message, Some(material), &mut rng)
                    .is_err()
            }
            _ => true,
        };
        if failed {
            assert_eq!(record.encode(), before);
        }
    }
}

/// Group keys and messages.
pub fn sender_keys(bytes: &[u8]) {
    let mut record = scene().group.clone();
    if let Ok(message) = DistributionMessage::decode(bytes) {
        let _ = record.process(&message);
    }
    if let Ok(message) = SenderKeyMessage::decode(bytes) {
        let before = record.encode();
        if record.decrypt(&message).is_err() {
            assert_eq!(record.encode(), before);
        }
    }
}

/// Sealed sender in both forms, and what is in it.
pub fn sealed(bytes: &[u8]) {
    let bob = &scene().bob.key_pair;
    let _ = open(bytes, bob);
    let _ = SealedContent::decode(bytes);
    if let Ok(certificate) = SenderCertificate::decode(bytes) {
        let _ = certificate.verify(&[*bob.identity_key().public_key()], NOW);
    }
    if let Ok(certificate) = ServerCertificate::decode(bytes) {
        let _ = certificate.verify(&[*bob.identity_key().public_key()]);
    }
    if let Ok(sent) = SentMessage::parse(bytes) {
        for recipient in sent.recipients() {
            if let Some(received) = sent.received_form(recipient) {
                let _ = open(&received, bob);
            }
        }
    }
    let _ = IdentityKey::decode(bytes);
}

/// Post-quantum ratchet messages: the input is cut into several, each of which may take the state
/// further. Nothing authenticates them before they get here.
pub fn post_quantum(bytes: &[u8]) {
    let mut state = scene().spqr.clone();
    for message in bytes.chunks(38) {
        let before = state.encode();
        if state.recv(message).is_err() {
            assert_eq!(state.encode(), before);
        }
    }
}
