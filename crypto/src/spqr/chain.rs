//! The symmetric half of SPQR: per epoch one key chain in each direction (spec §4.5).
//!
//! Fed by the braid with one secret an epoch; hands out one key a message. Knows nothing of how
//! the secrets come about. Every call that fails leaves the chains as they were.

use super::SpqrError;
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kdf,
    secret::Secret,
    skipped::SkippedKeys,
};

/// How far ahead of the last key a message may be, except in sessions with oneself.
pub(super) const MAX_FORWARD_JUMP: u32 = 25_000;

/// How far behind the newest key of a chain a skipped one stays available.
pub(super) const SKIPPED_WINDOW: u32 = 2_000;

/// How many epochs can be live at once. Sending in epoch k leaves k − 1 and k. Receiving can then
/// complete k + 1, and the next send agree k + 2, before that same send moves on to k + 1.
const MAX_LIVE_EPOCHS: usize = 4;

const START: &[u8] = b"Signal PQ Ratchet V1 Chain  Start"; // two spaces
const ADD_EPOCH: &[u8] = b"Signal PQ Ratchet V1 Chain Add Epoch";
const NEXT: &[u8] = b"Signal PQ Ratchet V1 Chain Next";

/// Which end of the session we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// We initiated the session and send on the "a2b" chains.
    Initiator,
    /// We were contacted and send on the "b2a" chains.
    Responder,
}

/// The key chains of all epochs still in use.
#[derive(Clone)]
pub(super) struct Chains {
    direction: Direction,
    max_jump: u32,
    next_root: Secret<32>,
    /// The epoch last sent in; never decreases.
    send_epoch: u64,
    /// The epoch of `live[0]`; the others follow without a gap.
    first_epoch: u64,
    live: Vec<Epoch>,
}

impl Chains {
    /// Epoch 0, from the handshake's key. `max_jump` is [`MAX_FORWARD_JUMP`] unless both ends
    /// are the same account and identity.
    pub(super) fn start(auth_key: &[u8; 32], direction: Direction, max_jump: u32) -> Self {
        let (next_root, epoch) = derive_epoch(&[0; 32], auth_key, START, direction);
        Self {
            direction,
            max_jump,
            next_root,
            send_epoch: 0,
            first_epoch: 0,
            live: vec![epoch],
        }
    }

    /// Opens the next epoch with the secret that the braid agreed for it.
    ///
    /// # Errors
    ///
    /// [`SpqrError::EpochOutOfRange`] if `epoch` is not the one after the newest.
    pub(super) fn add_epoch(&mut self, epoch: u64, secret: &Secret<32>) -> Result<(), SpqrError> {
        if self.live.len() >= MAX_LIVE_EPOCHS || epoch != self.newest().saturating_add(1) {
            return Err(SpqrError::EpochOutOfRange(epoch));
        }
        let (next_root, chains) = derive_epoch(
            self.next_root.as_bytes(),
            secret.as_bytes(),
            ADD_EPOCH,
            self.direction,
        );
        self.next_root = next_root;
        self.live.push(chains);
        Ok(())
    }

    /// The key for the next message we send in `epoch`, with its index. Moving on to a later epoch
    /// forgets what is older than the one before it.
    pub(super) fn send(&mut self, epoch: u64) -> Result<(u32, Secret<32>), SpqrError> {
        if epoch < self.send_epoch {
            return Err(SpqrError::EpochOutOfRange(epoch));
        }
        let chain = self
            .epoch_mut(epoch)
            .and_then(|chains| chains.send.as_mut())
            .ok_or(SpqrError::EpochOutOfRange(epoch))?;
        let key = chain.step().ok_or(SpqrError::ChainExhausted)?;
        let index = chain.counter;
        if epoch != self.send_epoch {
            self.send_epoch = epoch;
            while self.first_epoch.saturating_add(1) < epoch {
                self.live.remove(0);
                self.first_epoch += 1;
            }
            if self.first_epoch < epoch
                && let Some(older) = self.live.first_mut()
            {
                older.send = None;
            }
        }
        Ok((index, key))
    }

    /// Whether [`Self::send`] in `epoch` would fail for want of keys.
    pub(super) fn is_exhausted(&self, epoch: u64) -> bool {
        let offset = epoch
            .checked_sub(self.first_epoch)
            .and_then(|n| usize::try_from(n).ok());
        let chains = offset.and_then(|offset| self.live.get(offset));
        chains
            .and_then(|chains| chains.send.as_ref())
            .is_some_and(|send| send.counter == u32::MAX)
    }

    /// The key of the message with this `index` that the peer sent in `epoch`.
    pub(super) fn receive(&mut self, epoch: u64, index: u32) -> Result<Secret<32>, SpqrError> {
        let max_jump = self.max_jump;
        self.epoch_mut(epoch)
            .ok_or(SpqrError::EpochOutOfRange(epoch))?
            .receive
            .key(index, max_jump)
    }

    /// How many bytes [`Self::encode`] appends.
    pub(super) fn encoded_len(&self) -> usize {
        let epoch_len = |e: &Epoch| {
            1 + e.send.as_ref().map_or(0, |_| 36) + 36 + 4 + e.receive.skipped.as_bytes().len()
        };
        1 + 4 + 32 + 8 + 8 + 1 + self.live.iter().map(epoch_len).sum::<usize>()
    }

    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.u8(match self.direction {
            Direction::Initiator => 0,
            Direction::Responder => 1,
        });
        out.u32(self.max_jump);
        out.fixed(self.next_root.as_bytes());
        out.u64(self.send_epoch);
        out.u64(self.first_epoch);
        out.u8(u8::try_from(self.live.len()).unwrap_or(u8::MAX));
        for epoch in &self.live {
            out.bool(epoch.send.is_some());
            if let Some(send) = &epoch.send {
                send.encode(out);
            }
            epoch.receive.chain.encode(out);
            out.bytes(epoch.receive.skipped.as_bytes());
        }
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        let direction = match from.u8()? {
            0 => Direction::Initiator,
            1 => Direction::Responder,
            _ => return Err(StoredRecordError::Damaged),
        };
        let max_jump = from.u32()?;
        let next_root = from.secret()?;
        let send_epoch = from.u64()?;
        let first_epoch = from.u64()?;
        let count = usize::from(from.u8()?);
        if !(1..=MAX_LIVE_EPOCHS).contains(&count) {
            return Err(StoredRecordError::Damaged);
        }
        let mut live = Vec::with_capacity(MAX_LIVE_EPOCHS);
        for _ in 0..count {
            let send = if from.bool()? {
                Some(Chain::decode(from)?)
            } else {
                None
            };
            let chain = Chain::decode(from)?;
            let skipped = SkippedKeys::decode(from.bytes()?, SKIPPED_WINDOW as usize)
                .ok_or(StoredRecordError::Damaged)?;
            live.push(Epoch {
                send,
                receive: ReceiveChain { chain, skipped },
            });
        }
        Ok(Self {
            direction,
            max_jump,
            next_root,
            send_epoch,
            first_epoch,
            live,
        })
    }

    fn newest(&self) -> u64 {
        self.first_epoch
            .saturating_add(self.live.len() as u64)
            .saturating_sub(1)
    }

    fn epoch_mut(&mut self, epoch: u64) -> Option<&mut Epoch> {
        let offset = usize::try_from(epoch.checked_sub(self.first_epoch)?).ok()?;
        self.live.get_mut(offset)
    }
}

/// `HKDF(salt, ikm, label, 96)`: the next root, then the two chains of the epoch, "a2b" first.
fn derive_epoch(
    salt: &[u8; 32],
    ikm: &[u8; 32],
    label: &[u8],
    direction: Direction,
) -> (Secret<32>, Epoch) {
    let okm: Secret<96> = kdf::hkdf(salt, ikm, &[label]);
    let a2b = Chain {
        next: kdf::piece::<96, 32, 32>(&okm),
        counter: 0,
    };
    let b2a = Chain {
        next: kdf::piece::<96, 64, 32>(&okm),
        counter: 0,
    };
    let (send, receive) = match direction {
        Direction::Initiator => (a2b, b2a),
        Direction::Responder => (b2a, a2b),
    };
    let receive = ReceiveChain {
        chain: receive,
        skipped: SkippedKeys::default(),
    };
    (
        kdf::piece::<96, 0, 32>(&okm),
        Epoch {
            send: Some(send),
            receive,
        },
    )
}

/// The two chains of one epoch.
#[derive(Clone)]
struct Epoch {
    /// Erased once we send in a later epoch.
    send: Option<Chain>,
    receive: ReceiveChain,
}

/// One key chain. The first key has index 1.
#[derive(Clone)]
struct Chain {
    next: Secret<32>,
    /// Index of the last key taken.
    counter: u32,
}

impl Chain {
    /// `HKDF(0, next, u32be(ctr) ‖ label, 64)`: the new `next`, then the key of `ctr`. `None`, and
    /// nothing changes, when the counter is at its end.
    fn step(&mut self) -> Option<Secret<32>> {
        self.counter = self.counter.checked_add(1)?;
        let okm: Secret<64> = kdf::hkdf(
            &[0; 32],
            self.next.as_ref(),
            &[&self.counter.to_be_bytes(), NEXT],
        );
        self.next = kdf::piece::<64, 0, 32>(&okm);
        Some(kdf::piece::<64, 32, 32>(&okm))
    }

    fn encode(&self, out: &mut Writer) {
        out.fixed(self.next.as_bytes());
        out.u32(self.counter);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            next: from.secret()?,
            counter: from.u32()?,
        })
    }
}

#[derive(Clone)]
struct ReceiveChain {
    chain: Chain,
    skipped: SkippedKeys,
}

impl ReceiveChain {
    fn key(&mut self, index: u32, max_jump: u32) -> Result<Secret<32>, SpqrError> {
        let counter = self.chain.counter;
        if index <= counter {
            if index.saturating_add(SKIPPED_WINDOW) < counter {
                return Err(SpqrError::KeyTrimmed { index });
            }
            return self
                .skipped
                .take(index)
                .ok_or(SpqrError::KeyAlreadyUsed { index });
        }
        if index - counter > max_jump {
            return Err(SpqrError::KeyJump { index, counter });
        }
        // The counter stays below `index`, a u32: no step can fail.
        while self.chain.counter < index - 1 {
            let key = self.chain.step().ok_or(SpqrError::ChainExhausted)?;
            if self.chain.counter.saturating_add(SKIPPED_WINDOW) >= index {
                self.skipped.push(self.chain.counter, &key);
            }
        }
        let key = self.chain.step().ok_or(SpqrError::ChainExhausted)?;
        self.skipped
            .forget_before(index.saturating_sub(SKIPPED_WINDOW));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common;

    fn pair() -> (Chains, Chains) {
        let key = std::array::from_fn(|i| u8::try_from(i).unwrap());
        (
            Chains::start(&key, Direction::Initiator, MAX_FORWARD_JUMP),
            Chains::start(&key, Direction::Responder, MAX_FORWARD_JUMP),
        )
    }

    fn stored(chains: &Chains) -> Vec<u8> {
        let mut out = Writer::with_capacity(chains.encoded_len());
        chains.encode(&mut out);
        let bytes = out.finish().to_vec();
        assert_eq!(bytes.len(), chains.encoded_len());
        bytes
    }

    #[test]
    fn vectors() {
        let vectors = common::vectors("spqr-units.json");
        let vectors = &vectors["chain"];
        let (mut alice, mut bob) = pair();
        let root = |name: &str| Secret::new(common::array(vectors, name));
        assert_eq!(alice.next_root, root("nextRootAfterStart"));
        let check = |alice: &mut Chains, bob: &mut Chains, epoch, name: &str| {
            for case in vectors[name].as_array().unwrap() {
                let index = u32::try_from(case["index"].as_u64().unwrap()).unwrap();
                let a2b = Secret::new(common::array(case, "a2b"));
                let b2a = Secret::new(common::array(case, "b2a"));
                assert_eq!(alice.send(epoch), Ok((index, a2b.clone())));
                assert_eq!(bob.receive(epoch, index), Ok(a2b));
                assert_eq!(bob.send(epoch), Ok((index, b2a.clone())));
                assert_eq!(alice.receive(epoch, index), Ok(b2a));
            }
        };
        check(&mut alice, &mut bob, 0, "epoch0Keys");
        let secret = Secret::new(common::array(vectors, "epoch1Secret"));
        for side in [&mut alice, &mut bob] {
            side.add_epoch(1, &secret).unwrap();
            assert_eq!(side.next_root, root("nextRootAfterEpoch1"));
        }
        check(&mut alice, &mut bob, 1, "epoch1Keys");
    }

    #[test]
    fn each_key_opens_once() {
        let (mut alice, mut bob) = pair();
        let keys: Vec<_> = (0..5).map(|_| alice.send(0).unwrap()).collect();
        for (index, key) in keys.iter().rev() {
            assert_eq!(bob.receive(0, *index).as_ref(), Ok(key));
        }
        for (index, _) in keys {
            assert_eq!(
                bob.receive(0, index),
                Err(SpqrError::KeyAlreadyUsed { index })
            );
        }
        assert_eq!(
            bob.receive(0, 0),
            Err(SpqrError::KeyAlreadyUsed { index: 0 })
        );
    }

    #[test]
    fn window_is_2000_keys() {
        let (_, mut bob) = pair();
        bob.receive(0, 2501).unwrap();
        assert_eq!(
            bob.receive(0, 500),
            Err(SpqrError::KeyTrimmed { index: 500 })
        );
        bob.receive(0, 501).unwrap();
        assert_eq!(
            bob.receive(0, 501),
            Err(SpqrError::KeyAlreadyUsed { index: 501 })
        );
        // One step on, 502 is still in the window; two steps on it is not.
        bob.receive(0, 2502).unwrap();
        bob.receive(0, 502).unwrap();
        bob.receive(0, 2504).unwrap();
        assert_eq!(
            bob.receive(0, 503),
            Err(SpqrError::KeyTrimmed { index: 503 })
        );
        bob.receive(0, 504).unwrap();
        let held = bob.live[0].receive.skipped.as_bytes().len() / SkippedKeys::ENTRY;
        assert!(held <= SKIPPED_WINDOW as usize);
    }

    #[test]
    fn jump_is_25000() {
        let (mut alice, mut bob) = pair();
        let before = stored(&bob);
        let over = SpqrError::KeyJump {
            index: 25_001,
            counter: 0,
        };
        assert_eq!(bob.receive(0, 25_001), Err(over));
        assert_eq!(stored(&bob), before);
        for _ in 0..24_999 {
            alice.send(0).unwrap();
        }
        let (index, key) = alice.send(0).unwrap();
        assert_eq!(index, 25_000);
        assert_eq!(bob.receive(0, index), Ok(key));
        assert_eq!(
            bob.live[0].receive.skipped.as_bytes().len(),
            2_000 * SkippedKeys::ENTRY
        );
    }

    #[test]
    fn one_epoch_before_the_sending_one_stays() {
        let (mut alice, mut bob) = pair();
        for epoch in 1..=3 {
            let late = alice.send(epoch - 1).unwrap();
            let secret = Secret::new([u8::try_from(epoch).unwrap(); 32]);
            alice.add_epoch(epoch, &secret).unwrap();
            bob.add_epoch(epoch, &secret).unwrap();
            alice.send(epoch).unwrap();
            bob.send(epoch).unwrap();
            assert_eq!(bob.receive(epoch - 1, late.0), Ok(late.1));
            assert!(bob.live[0].send.is_none());
            assert_eq!(bob.live.len(), 2);
        }
        let gone = Err(SpqrError::EpochOutOfRange(1));
        assert_eq!(bob.receive(1, 9), gone);
        assert_eq!(bob.send(1), Err(SpqrError::EpochOutOfRange(1)));
        assert_eq!(bob.send(2), Err(SpqrError::EpochOutOfRange(2)));
        assert_eq!(bob.receive(4, 1), Err(SpqrError::EpochOutOfRange(4)));
        assert_eq!(
            bob.add_epoch(3, &Secret::zero()),
            Err(SpqrError::EpochOutOfRange(3))
        );
        assert_eq!(
            bob.add_epoch(5, &Secret::zero()),
            Err(SpqrError::EpochOutOfRange(5))
        );
    }

    #[test]
    fn counter_does_not_wrap() {
        let (mut alice, mut bob) = pair();
        bob.max_jump = u32::MAX;
        alice.live[0].send.as_mut().unwrap().counter = u32::MAX - 1;
        bob.live[0].receive.chain.counter = u32::MAX - 1;
        let (index, key) = alice.send(0).unwrap();
        assert_eq!(bob.receive(0, index), Ok(key));
        let before = stored(&alice);
        assert_eq!(alice.send(0), Err(SpqrError::ChainExhausted));
        assert_eq!(stored(&alice), before);
    }

    #[test]
    fn stored_form_reads_back() {
        let (mut alice, _) = pair();
        alice.add_epoch(1, &Secret::new([1; 32])).unwrap();
        alice.send(1).unwrap();
        alice.receive(0, 9).unwrap();
        let bytes = stored(&alice);
        let mut reader = Reader::new(&bytes);
        let read = Chains::decode(&mut reader).unwrap();
        reader.end().unwrap();
        assert_eq!(stored(&read), bytes);
        for len in 0..bytes.len() {
            assert!(Chains::decode(&mut Reader::new(&bytes[..len])).is_err());
        }
    }
}
