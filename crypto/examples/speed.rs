//! How long the usual steps take, each with its record decoded before and encoded after, as around
//! a store. Meant for `--release`; prints medians of several rounds.

use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use wardline_crypto::{
    address::{DeviceAddress, DeviceId},
    identity::{IdentityKeyPair, LocalIdentity},
    message::{CiphertextMessage, MessageType, PreKeyMessage, SignalMessage},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey},
    session::{Parties, SessionRecord, Trust},
    timestamp::Timestamp,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ROUNDS: usize = 7;

struct Device {
    local: LocalIdentity,
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: OneTimePreKey,
    stored: Vec<u8>,
}

impl Device {
    fn new(name: &str) -> Outcome<Self> {
        let mut rng = UnwrapErr(SysRng);
        let key_pair = IdentityKeyPair::generate(&mut rng);
        Ok(Self {
            signed: SignedPreKey::generate(1.into(), &key_pair, NOW, &mut rng),
            kyber: KyberPreKey::generate(1.into(), &key_pair, NOW, &mut rng),
            one_time: OneTimePreKey::generate(1.into(), &mut rng),
            local: LocalIdentity {
                key_pair,
                registration_id: 7,
                address: DeviceAddress::new(name, DeviceId::new(1)?),
            },
            stored: SessionRecord::new().encode().to_vec(),
        })
    }

    fn parties<'a>(&'a self, peer: &'a Self) -> Parties<'a> {
        Parties {
            local: &self.local,
            remote: &peer.local.address,
            trusted: Trust::Only(peer.local.key_pair.identity_key()),
        }
    }

    fn bundle(&self) -> PreKeyBundle {
        PreKeyBundle {
            registration_id: self.local.registration_id,
            device: self.local.address.device,
            identity: self.local.key_pair.identity_key(),
            signed: self.signed.public(),
            kyber: self.kyber.public(),
            one_time: Some(self.one_time.public()),
        }
    }

    fn initiate(&mut self, peer: &Self) -> Outcome<()> {
        let mut record = SessionRecord::new();
        let bundle = peer.bundle().verify()?;
        record.initiate(&self.parties(peer), &bundle, NOW, &mut UnwrapErr(SysRng))?;
        self.stored = record.encode().to_vec();
        Ok(())
    }

    fn send(&mut self, peer: &Self) -> Outcome<CiphertextMessage> {
        let mut record = SessionRecord::decode(&self.stored)?;
        let text = [b'x'; 100];
        let sent = record.encrypt(&self.parties(peer), &text, NOW, &mut UnwrapErr(SysRng))?;
        self.stored = record.encode().to_vec();
        Ok(sent)
    }

    fn receive(&mut self, peer: &Self, sent: &CiphertextMessage) -> Outcome<()> {
        let mut rng = UnwrapErr(SysRng);
        let mut record = SessionRecord::decode(&self.stored)?;
        if sent.message_type == MessageType::PreKey {
            let message = PreKeyMessage::decode(&sent.bytes)?;
            let prekeys = (!record.knows(&message)).then_some(PreKeyMaterial {
                signed: &self.signed,
                kyber: &self.kyber,
                one_time: Some(&self.one_time),
            });
            record.decrypt_prekey(&self.parties(peer), &message, prekeys, &mut rng)?;
        } else {
            let message = SignalMessage::decode(&sent.bytes)?;
            record.decrypt(&self.parties(peer), &message, &mut rng)?;
        }
        self.stored = record.encode().to_vec();
        Ok(())
    }
}

fn established() -> Outcome<(Device, Device)> {
    let (mut alice, mut bob) = (
        Device::new("11111111-0000-4000-8000-000000000001")?,
        Device::new("22222222-0000-4000-8000-000000000002")?,
    );
    alice.initiate(&bob)?;
    let sent = alice.send(&bob)?;
    bob.receive(&alice, &sent)?;
    let sent = bob.send(&alice)?;
    alice.receive(&bob, &sent)?;
    Ok((alice, bob))
}

/// Median over the rounds of the time per step.
#[expect(clippy::print_stdout, reason = "that is what the program is for")]
fn measure(name: &str, steps: u32, mut round: impl FnMut() -> Outcome<Duration>) -> Outcome<()> {
    let mut times = (0..ROUNDS).map(|_| round()).collect::<Outcome<Vec<_>>>()?;
    times.sort();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    let micros = median.as_secs_f64() * 1e6 / f64::from(steps);
    println!("{name:<44} {micros:>9.1} µs");
    Ok(())
}

fn main() -> Outcome<()> {
    measure("prekeys of one device", 20, || {
        let start = Instant::now();
        for _ in 0..20 {
            Device::new("11111111-0000-4000-8000-000000000001")?;
        }
        Ok(start.elapsed())
    })?;
    measure("initiate, first message, accept", 50, || {
        let (mut alice, bob) = established()?;
        let mut total = Duration::ZERO;
        for _ in 0..50 {
            let mut bob = Device {
                stored: SessionRecord::new().encode().to_vec(),
                ..Device {
                    local: bob.local.clone(),
                    signed: bob.signed.clone(),
                    kyber: bob.kyber.clone(),
                    one_time: bob.one_time.clone(),
                    stored: Vec::new(),
                }
            };
            let start = Instant::now();
            alice.initiate(&bob)?;
            let sent = alice.send(&bob)?;
            bob.receive(&alice, &sent)?;
            total += start.elapsed();
        }
        Ok(total)
    })?;
    let mut sent = Vec::new();
    measure("encrypt, one way", 2000, || {
        let (mut alice, bob) = established()?;
        let start = Instant::now();
        for _ in 0..2000 {
            sent.push(alice.send(&bob)?);
        }
        sent.clear();
        Ok(start.elapsed())
    })?;
    measure("decrypt, one way", 2000, || {
        let (mut alice, mut bob) = established()?;
        let sent = (0..2000)
            .map(|_| alice.send(&bob))
            .collect::<Outcome<Vec<_>>>()?;
        let start = Instant::now();
        for sent in &sent {
            bob.receive(&alice, sent)?;
        }
        Ok(start.elapsed())
    })?;
    measure("one message there and one back", 1000, || {
        let (mut alice, mut bob) = established()?;
        let start = Instant::now();
        for _ in 0..1000 {
            let sent = alice.send(&bob)?;
            bob.receive(&alice, &sent)?;
            let sent = bob.send(&alice)?;
            alice.receive(&bob, &sent)?;
        }
        Ok(start.elapsed())
    })?;
    measure("decode and encode a record", 5000, || {
        let (alice, _) = established()?;
        let start = Instant::now();
        for _ in 0..5000 {
            std::hint::black_box(SessionRecord::decode(&alice.stored)?.encode());
        }
        Ok(start.elapsed())
    })
}
