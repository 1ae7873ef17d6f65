//! What a message costs: set-up, both directions of a session, groups, sealed sender.
//!
//! Session benches load and store the records around every message, as an endpoint does.
//! Plaintexts have 1 KiB. Times are of this thread's processor, not of the clock on the wall, so that
//! a busy machine does not count. `cargo bench -p wardline-crypto`

#![expect(clippy::unwrap_used, reason = "a bench that fails should stop")]

use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use rand::{SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use std::{hint::black_box, time::Duration};
use uuid::Uuid;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId, ServiceId},
    curve::KeyPair,
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    message::{MessageType, PreKeyMessage, SignalMessage},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey},
    sealed_sender::{
        ContentHint, Recipient, SealedContent, SenderCertificate, SenderClaims, SentMessage,
        ServerCertificate, open, seal, seal_multi,
    },
    sender_key::{OwnSenderKey, SenderKeyMessage, SenderKeyRecord},
    session::{Parties, SessionRecord, Trust},
    timestamp::Timestamp,
};

const PLAINTEXT: [u8; 1024] = [0x5A; 1024];
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// One end of a session, with its record as the store has it.
struct End {
    local: LocalIdentity,
    remote: DeviceAddress,
    trusted: Trust,
    record: Vec<u8>,
}

impl End {
    fn parties(&self) -> Parties<'_> {
        Parties {
            local: &self.local,
            remote: &self.remote,
            trusted: self.trusted,
        }
    }

    fn encrypt(&mut self, rng: &mut StdRng) -> (MessageType, Vec<u8>) {
        let mut record = SessionRecord::decode(&self.record).unwrap();
        let sent = record
            .encrypt(&self.parties(), &PLAINTEXT, NOW, rng)
            .unwrap();
        self.record = record.encode().to_vec();
        (sent.message_type, sent.bytes)
    }

    fn decrypt(&mut self, message: &[u8], rng: &mut StdRng) {
        let mut record = SessionRecord::decode(&self.record).unwrap();
        let message = SignalMessage::decode(message).unwrap();
        let opened = record.decrypt(&self.parties(), &message, rng).unwrap();
        assert_eq!(opened.plaintext.len(), PLAINTEXT.len());
        self.record = record.encode().to_vec();
    }
}

struct PreKeys {
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: OneTimePreKey,
}

impl PreKeys {
    fn generate(identity: &IdentityKeyPair, rng: &mut StdRng) -> Self {
        Self {
            signed: SignedPreKey::generate(1.into(), identity, NOW, rng),
            kyber: KyberPreKey::generate(1.into(), identity, NOW, rng),
            one_time: OneTimePreKey::generate(1.into(), rng),
        }
    }

    fn bundle(&self, local: &LocalIdentity) -> PreKeyBundle {
        PreKeyBundle {
            registration_id: local.registration_id,
            device: local.address.device,
            identity: local.key_pair.identity_key(),
            signed: self.signed.public(),
            kyber: self.kyber.public(),
            one_time: Some(self.one_time.public()),
        }
    }

    fn material(&self) -> PreKeyMaterial<'_> {
        PreKeyMaterial {
            signed: &self.signed,
            kyber: &self.kyber,
            one_time: Some(&self.one_time),
        }
    }
}

fn local(name: u128, rng: &mut StdRng) -> LocalIdentity {
    LocalIdentity {
        key_pair: IdentityKeyPair::generate(rng),
        registration_id: 77,
        address: DeviceAddress::new(
            Uuid::from_u128(name).hyphenated().to_string(),
            DeviceId::new(1).unwrap(),
        ),
    }
}

fn end(local: &LocalIdentity, remote: &LocalIdentity, record: &SessionRecord) -> End {
    End {
        local: local.clone(),
        remote: remote.address.clone(),
        trusted: Trust::Only(remote.key_pair.identity_key()),
        record: record.encode().to_vec(),
    }
}

/// Bundle verified, session initiated, first message sent and opened.
fn set_up(
    alice: &LocalIdentity,
    bob: &LocalIdentity,
    keys: &PreKeys,
    rng: &mut StdRng,
) -> (End, End) {
    let mut ours = end(alice, bob, &SessionRecord::new());
    let mut theirs = end(bob, alice, &SessionRecord::new());
    let mut record = SessionRecord::new();
    let bundle = keys.bundle(bob).verify().unwrap();
    record.initiate(&ours.parties(), &bundle, NOW, rng).unwrap();
    let sent = record
        .encrypt(&ours.parties(), &PLAINTEXT, NOW, rng)
        .unwrap();
    ours.record = record.encode().to_vec();
    let mut record = SessionRecord::new();
    let message = PreKeyMessage::decode(&sent.bytes).unwrap();
    record
        .decrypt_prekey(&theirs.parties(), &message, Some(keys.material()), rng)
        .unwrap();
    theirs.record = record.encode().to_vec();
    (ours, theirs)
}

/// A session in which both ends have sent.
fn established(rng: &mut StdRng) -> (End, End) {
    let (alice, bob) = (local(1, rng), local(2, rng));
    let keys = PreKeys::generate(&bob.key_pair, rng);
    let (mut alice, mut bob) = set_up(&alice, &bob, &keys, rng);
    let (_, answer) = bob.encrypt(rng);
    alice.decrypt(&answer, rng);
    (alice, bob)
}

fn sessions(c: &mut Criterion<ThreadTime>) {
    let mut rng = StdRng::seed_from_u64(1);
    let rng = &mut rng;
    let mut group = c.benchmark_group("session");

    let (alice, bob) = (local(1, rng), local(2, rng));
    group.bench_function("prekeys of a device", |b| {
        b.iter(|| PreKeys::generate(&bob.key_pair, rng));
    });
    let keys = PreKeys::generate(&bob.key_pair, rng);
    group.bench_function("set-up with first message", |b| {
        b.iter(|| set_up(&alice, &bob, &keys, rng));
    });

    group.throughput(Throughput::Elements(1));
    let (mut alice, mut bob) = established(rng);
    group.bench_function("one way: encrypt and decrypt", |b| {
        b.iter(|| {
            let (_, message) = alice.encrypt(rng);
            bob.decrypt(&message, rng);
        });
    });
    let (mut alice, _) = established(rng);
    group.bench_function("one way: encrypt", |b| b.iter(|| alice.encrypt(rng)));

    let (mut alice, mut bob) = established(rng);
    let mut alice_sends = true;
    group.bench_function("ping-pong: encrypt and decrypt", |b| {
        b.iter(|| {
            let (from, to) = if alice_sends {
                (&mut alice, &mut bob)
            } else {
                (&mut bob, &mut alice)
            };
            let (_, message) = from.encrypt(rng);
            to.decrypt(&message, rng);
            alice_sends = !alice_sends;
        });
    });

    let (mut alice, mut bob) = established(rng);
    let mut turn = 0;
    group.bench_function("ping-pong, one in ten lost", |b| {
        b.iter(|| {
            turn += 1;
            let (from, to) = if turn % 2 == 0 {
                (&mut alice, &mut bob)
            } else {
                (&mut bob, &mut alice)
            };
            let (_, message) = from.encrypt(rng);
            if turn % 10 != 3 {
                to.decrypt(&message, rng);
            }
        });
    });
    group.finish();
}

fn groups(c: &mut Criterion<ThreadTime>) {
    let mut rng = StdRng::seed_from_u64(2);
    let mut group = c.benchmark_group("group");
    group.throughput(Throughput::Elements(1));
    let mut key = OwnSenderKey::generate(Uuid::from_u128(1), &mut rng);
    let mut record = SenderKeyRecord::new(key.distribution_id());
    record.process(&key.distribution_message()).unwrap();
    let (mut own, mut record) = (key.encode(), record.encode());
    group.bench_function("encrypt and decrypt", |b| {
        b.iter(|| {
            let mut key = OwnSenderKey::decode(&own).unwrap();
            let message = key.encrypt(&PLAINTEXT, &mut rng).unwrap();
            own = key.encode();
            let mut received = SenderKeyRecord::decode(&record).unwrap();
            let message = SenderKeyMessage::decode(&message).unwrap();
            black_box(received.decrypt(&message).unwrap());
            record = received.encode();
        });
    });
    group.bench_function("encrypt", |b| {
        b.iter(|| key.encrypt(&PLAINTEXT, &mut rng).unwrap());
    });
    group.finish();
}

fn sealed(c: &mut Criterion<ThreadTime>) {
    let mut rng = StdRng::seed_from_u64(3);
    let rng = &mut rng;
    let (root, server_key) = (KeyPair::generate(rng), KeyPair::generate(rng));
    let server = ServerCertificate::issue(1, server_key.public(), root.private(), rng);
    let (alice, bob) = (local(1, rng), local(2, rng));
    let claims = SenderClaims {
        address: alice.address.clone(),
        e164: None,
        identity: alice.key_pair.identity_key(),
        expires: NOW,
    };
    let certificate = SenderCertificate::issue(claims, server, server_key.private(), rng);
    let content = SealedContent::new(
        MessageType::Signal,
        certificate,
        PLAINTEXT.to_vec(),
        ContentHint::Default,
        vec![],
    );
    let identity: IdentityKey = bob.key_pair.identity_key();

    let mut group = c.benchmark_group("sealed sender");
    group.bench_function("seal for one", |b| {
        b.iter(|| seal(&content, &alice.key_pair, &identity, rng).unwrap());
    });
    let sealed = seal(&content, &alice.key_pair, &identity, rng).unwrap();
    group.bench_function("open", |b| b.iter(|| open(&sealed, &bob.key_pair).unwrap()));
    group.bench_function("verify certificate", |b| {
        b.iter(|| {
            content
                .sender_certificate()
                .verify(&[*root.public()], NOW)
                .unwrap();
        });
    });

    let devices = [(DeviceId::new(1).unwrap(), 7)];
    let recipients: Vec<Recipient<'_>> = (0..50)
        .map(|n| Recipient {
            service_id: ServiceId::parse(&Uuid::from_u128(n).hyphenated().to_string()).unwrap(),
            identity: &identity,
            devices: &devices,
        })
        .collect();
    group.bench_function("seal for fifty", |b| {
        b.iter(|| seal_multi(&content, &alice.key_pair, &recipients, &[], rng).unwrap());
    });
    let sent = seal_multi(&content, &alice.key_pair, &recipients, &[], rng).unwrap();
    group.bench_function("split for fifty", |b| {
        b.iter(|| {
            let sent = SentMessage::parse(&sent).unwrap();
            let all = sent
                .recipients()
                .iter()
                .filter_map(|r| sent.received_form(r));
            all.map(|received| received.len()).sum::<usize>()
        });
    });
    group.finish();
}

/// Processor time of the measuring thread.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            now.tv_sec.try_into().unwrap(),
            now.tv_nsec.try_into().unwrap(),
        )
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().checked_sub(start).unwrap()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = sessions, groups, sealed
}
criterion_main!(benches);
