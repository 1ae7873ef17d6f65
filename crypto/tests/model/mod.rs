//! Two devices and a hostile line between them, driven by small actions. The property tests and
//! the fuzzer share it: an action is three bytes, whoever chose them.

use std::collections::BTreeMap;

use rand::{SeedableRng, rngs::StdRng};
use wardline_crypto::{
    address::{DeviceAddress, DeviceId},
    identity::{IdentityKey, IdentityKeyPair, LocalIdentity},
    message::{CiphertextMessage, MessageType, PreKeyMessage, SignalMessage},
    prekey::{KyberPreKey, OneTimePreKey, PreKeyBundle, PreKeyMaterial, SignedPreKey},
    session::{DecryptError, Decrypted, MAX_ARCHIVED, Parties, SessionRecord, Trust},
    timestamp::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Something that happens. `by` is the device, 0 or 1.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Encrypts a message and puts it on the line.
    Send { by: usize },
    /// Hands over one of the messages for `by`, taking it off the line.
    Deliver { by: usize, which: u8 },
    /// Hands over one of the messages for `by` and leaves it on the line to come again.
    Repeat { by: usize, which: u8 },
    /// Hands over a changed copy of one of the messages for `by`.
    Tamper { by: usize, which: u8, at: u8 },
    /// Loses one of the messages for `by`.
    Drop { by: usize, which: u8 },
    /// The device stops and starts again from its stored state.
    Restart { by: usize },
    /// The device starts a new session from a fresh bundle.
    Initiate { by: usize, one_time: bool },
    /// The device archives its session.
    Archive { by: usize },
}

impl Action {
    /// Every three bytes are an action.
    pub fn from_bytes([kind, which, at]: [u8; 3]) -> Self {
        let by = usize::from(kind & 1);
        match kind >> 1 {
            0..=44 => Self::Send { by },
            45..=94 => Self::Deliver { by, which },
            95..=101 => Self::Repeat { by, which },
            102..=109 => Self::Tamper { by, which, at },
            110..=115 => Self::Drop { by, which },
            116..=121 => Self::Restart { by },
            122..=125 => Self::Initiate {
                by,
                one_time: which & 1 == 0,
            },
            _ => Self::Archive { by },
        }
    }
}

struct Device {
    local: LocalIdentity,
    signed: SignedPreKey,
    kyber: KyberPreKey,
    one_time: BTreeMap<u32, OneTimePreKey>,
    next_one_time: u32,
    record: SessionRecord,
    rng: StdRng,
}

/// A message on the line.
#[derive(Clone)]
struct Flying {
    message: CiphertextMessage,
    plaintext: String,
    opened: bool,
    /// The world's clock of turns and of sessions when it was sent.
    turn: u32,
}

/// Both devices, the line in both directions, and what the model knows to be true.
pub struct World {
    devices: [Device; 2],
    /// Messages for device 0 and for device 1.
    line: [Vec<Flying>; 2],
    sent: u32,
    /// Counts what pushes old ratchet keys out: deliveries that follow one in the other direction,
    /// archiving and new sessions.
    turn: u32,
    last_delivery: usize,
    sessions: usize,
    /// How many messages were opened.
    pub opened: usize,
}

/// A message as old as this may be lost to new ratchet keys; a younger one must open.
const TURNS_KEPT: u32 = 4;

impl World {
    /// Two devices that do not know each other yet.
    pub fn new(seed: u64) -> Self {
        let device = |number: u32| {
            let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(2).wrapping_add(number.into()));
            let key_pair = IdentityKeyPair::generate(&mut rng);
            Device {
                signed: SignedPreKey::generate(1.into(), &key_pair, NOW, &mut rng),
                kyber: KyberPreKey::generate(1.into(), &key_pair, NOW, &mut rng),
                one_time: BTreeMap::new(),
                next_one_time: 1,
                local: LocalIdentity {
                    key_pair,
                    registration_id: number,
                    address: DeviceAddress::new(
                        format!("{number:08}-0000-4000-8000-000000000000"),
                        DeviceId::new(number).expect("1 or 2"),
                    ),
                },
                record: SessionRecord::new(),
                rng,
            }
        };
        Self {
            devices: [device(1), device(2)],
            line: [Vec::new(), Vec::new()],
            sent: 0,
            turn: 0,
            last_delivery: 0,
            sessions: 0,
            opened: 0,
        }
    }

    /// Performs one action and checks everything that must hold after it.
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Send { by } => self.send(by),
            Action::Deliver { by, which } => {
                if let Some(index) = self.pick(by, which) {
                    let flying = self.line[by].remove(index);
                    self.deliver(by, &flying);
                }
            }
            Action::Repeat { by, which } => {
                if let Some(index) = self.pick(by, which) {
                    let flying = self.line[by][index].clone();
                    self.line[by][index].opened |= self.deliver(by, &flying);
                }
            }
            Action::Tamper { by, which, at } => {
                if let Some(index) = self.pick(by, which) {
                    let flying = self.line[by][index].clone();
                    self.tamper(by, &flying, at);
                }
            }
            Action::Drop { by, which } => {
                if let Some(index) = self.pick(by, which) {
                    self.line[by].remove(index);
                }
            }
            Action::Restart { by } => self.devices[by].restart(),
            Action::Initiate { by, one_time } => self.initiate(by, one_time),
            Action::Archive { by } => {
                self.devices[by].record.archive_current();
                self.turn += 1;
            }
        }
    }

    /// After whatever happened, the line turns honest: what is on it is lost, and a few messages
    /// in turn put both devices on one session that works.
    pub fn settle(&mut self) {
        self.line = [Vec::new(), Vec::new()];
        for round in 0..6 {
            let by = round % 2;
            self.send(by);
            let flying = self.line[1 - by].pop().expect("just sent");
            let opened = self.opened;
            self.deliver(1 - by, &flying);
            assert_eq!(self.opened, opened + 1, "an honest line delivers");
        }
        let [one, two] = &self.devices;
        assert_eq!(one.record.current_base_key(), two.record.current_base_key());
    }

    fn pick(&self, by: usize, which: u8) -> Option<usize> {
        let len = self.line[by].len();
        (len > 0).then(|| usize::from(which) % len)
    }

    fn initiate(&mut self, by: usize, one_time: bool) {
        if self.sessions == MAX_ARCHIVED - 1 {
            return; // more would push out sessions whose messages are still under way
        }
        self.sessions += 1;
        self.turn += 1;
        let bundle = self.devices[1 - by].bundle(one_time);
        let (local, remote) = pair(&mut self.devices, by);
        let bundle = bundle.verify().expect("an honest bundle");
        let parties = Parties {
            local: &local.local,
            remote: &remote.local.address,
            trusted: Trust::Only(remote.identity()),
        };
        local
            .record
            .initiate(&parties, &bundle, NOW, &mut local.rng)
            .expect("a session");
    }

    fn send(&mut self, by: usize) {
        if !self.devices[by].record.has_usable_current(NOW) {
            self.initiate(by, true);
        }
        if !self.devices[by].record.has_usable_current(NOW) {
            return;
        }
        self.sent += 1;
        let plaintext = format!("message {} of {by}", self.sent);
        let (local, remote) = pair(&mut self.devices, by);
        let parties = Parties {
            local: &local.local,
            remote: &remote.local.address,
            trusted: Trust::Only(remote.identity()),
        };
        let message = local
            .record
            .encrypt(&parties, plaintext.as_bytes(), NOW, &mut local.rng)
            .expect("a usable session");
        let turn = self.turn;
        self.line[1 - by].push(Flying {
            message,
            plaintext,
            opened: false,
            turn,
        });
    }

    /// Hands a message over; whether it was opened.
    fn deliver(&mut self, by: usize, flying: &Flying) -> bool {
        if self.last_delivery != by {
            self.last_delivery = by;
            self.turn += 1;
        }
        let young = self.turn - flying.turn < TURNS_KEPT;
        match self.open(by, &flying.message) {
            Ok(decrypted) => {
                assert!(!flying.opened, "{} opened twice", flying.plaintext);
                assert_eq!(decrypted.plaintext, flying.plaintext.as_bytes());
                self.opened += 1;
                true
            }
            Err(error) if flying.opened => {
                let expected = matches!(error, DecryptError::Duplicated { .. });
                assert!(expected || !young, "{}: {error}", flying.plaintext);
                false
            }
            Err(error) => {
                assert!(!young, "{} does not open: {error}", flying.plaintext);
                false
            }
        }
    }

    /// Hands over a changed copy. It must not open, whether or not the original still would.
    fn tamper(&mut self, by: usize, flying: &Flying, at: u8) {
        let mut message = flying.message.clone();
        let len = message.bytes.len();
        // Spread over the whole message, which may be longer than 256 bytes.
        let index = usize::from(at) * 7919 % len;
        message.bytes[index] ^= 1 << (at % 8);
        if let Ok(decrypted) = self.open(by, &message) {
            // Two things in a pre-key message are covered by nothing: the low half of the
            // version, and the registration id. In a session that is known already, the handshake
            // fields are not looked at either. The content is always authentic.
            assert_eq!(
                message.message_type,
                MessageType::PreKey,
                "byte {index} does not matter"
            );
            assert!(!flying.opened, "{} opened twice", flying.plaintext);
            assert_eq!(decrypted.plaintext, flying.plaintext.as_bytes());
            self.opened += 1;
            for original in &mut self.line[by] {
                original.opened |= original.message == flying.message;
            }
        }
    }

    /// Decrypts; a failure must leave the record as it was.
    fn open(&mut self, by: usize, message: &CiphertextMessage) -> Result<Decrypted, DecryptError> {
        let (local, remote) = pair(&mut self.devices, by);
        let before = local.record.encode();
        let result = local.open(remote, message);
        if result.is_err() {
            assert_eq!(
                local.record.encode(),
                before,
                "a failure changed the record"
            );
        }
        result
    }
}

/// The device itself and its peer.
fn pair(devices: &mut [Device; 2], by: usize) -> (&mut Device, &Device) {
    let [one, two] = devices;
    if by == 0 { (one, two) } else { (two, one) }
}

impl Device {
    fn identity(&self) -> IdentityKey {
        self.local.key_pair.identity_key()
    }

    fn bundle(&mut self, with_one_time: bool) -> PreKeyBundle {
        let one_time = with_one_time.then(|| {
            let prekey = OneTimePreKey::generate(self.next_one_time.into(), &mut self.rng);
            self.next_one_time += 1;
            let public = prekey.public();
            self.one_time.insert(prekey.id().0, prekey);
            public
        });
        PreKeyBundle {
            registration_id: self.local.registration_id,
            device: self.local.address.device,
            identity: self.identity(),
            signed: self.signed.public(),
            kyber: self.kyber.public(),
            one_time,
        }
    }

    fn open(
        &mut self,
        remote: &Self,
        message: &CiphertextMessage,
    ) -> Result<Decrypted, DecryptError> {
        let undecodable = DecryptError::SessionNotFound;
        let parties = Parties {
            local: &self.local,
            remote: &remote.local.address,
            trusted: Trust::Only(remote.identity()),
        };
        match message.message_type {
            MessageType::PreKey => {
                let message = PreKeyMessage::decode(&message.bytes).map_err(|_| undecodable)?;
                let one_time = message.one_time_id().map(|id| self.one_time.get(&id.0));
                let known = message.signed_id() == self.signed.id()
                    && message.kyber_id() == self.kyber.id();
                let prekeys = match one_time {
                    Some(None) => None,
                    _ if !known => None,
                    one_time => Some(PreKeyMaterial {
                        signed: &self.signed,
                        kyber: &self.kyber,
                        one_time: one_time.flatten(),
                    }),
                };
                let decrypted =
                    self.record
                        .decrypt_prekey(&parties, &message, prekeys, &mut self.rng)?;
                if let Some(id) = decrypted.used.and_then(|used| used.one_time_id) {
                    self.one_time.remove(&id.0);
                }
                Ok(decrypted)
            }
            MessageType::Signal => {
                let message = SignalMessage::decode(&message.bytes).map_err(|_| undecodable)?;
                self.record.decrypt(&parties, &message, &mut self.rng)
            }
            other => unreachable!("{other:?} is never on the line"),
        }
    }

    fn restart(&mut self) {
        let stored = self.record.encode();
        self.record = SessionRecord::decode(&stored).expect("what was stored");
        assert_eq!(self.record.encode(), stored);
    }
}
