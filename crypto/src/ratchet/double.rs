//! The elliptic-curve double ratchet (spec §3.2, §3.5).
//!
//! Every operation is computed from `&self` and yields a value that [`DoubleRatchet::commit_send`]
//! or [`DoubleRatchet::commit_receive`] puts in place afterwards, so a message that turns out to be
//! forged leaves no trace. Knows nothing of the post-quantum ratchet, whose key arrives later as
//! the salt of the message keys.

use std::collections::VecDeque;

use rand_core::CryptoRng;

use crate::{
    codec::{Reader, StoredRecordError, Writer},
    curve::{InvalidKeyAgreement, KeyPair, PreparedKey, PrivateKey, PublicKey},
    ratchet::keys::{ChainKey, MessageSeed, RootKey},
    secret::Secret,
    skipped::SkippedKeys,
};

/// How far ahead of the last received message of its chain a message may be.
pub(crate) const MAX_FORWARD_JUMP: u32 = 25_000;

/// How many seeds of messages still to come a chain keeps.
pub(crate) const MAX_SKIPPED: usize = 2_000;

/// How many of the peer's ratchet keys stay readable.
pub(crate) const MAX_RECEIVING_CHAINS: usize = 5;

/// Why a message does not fit the ratchet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// The chain has passed this message and holds no seed for it.
    Duplicated { index: u32, counter: u32 },
    /// Too many messages between the last received one and this.
    TooFarAhead,
    /// The ratchet key has small order.
    KeyAgreement,
}

impl From<InvalidKeyAgreement> for ReceiveError {
    fn from(_: InvalidKeyAgreement) -> Self {
        Self::KeyAgreement
    }
}

/// State of the ratchet on one side.
#[derive(Clone)]
pub(crate) struct DoubleRatchet {
    root: RootKey,
    sending: SendingChain,
    /// Newest last, at most [`MAX_RECEIVING_CHAINS`].
    receiving: VecDeque<ReceivingChain>,
}

#[derive(Clone)]
struct SendingChain {
    pair: KeyPair,
    chain: ChainKey,
    /// Index of the last message of the chain before this one.
    previous_counter: u32,
}

#[derive(Clone)]
struct ReceivingChain {
    ratchet_key: PublicKey,
    chain: ChainKey,
    skipped: SkippedKeys,
}

/// The ratchet's part of an outgoing message, and the step that makes it final.
pub(crate) struct Sending {
    pub(crate) ratchet_key: PublicKey,
    pub(crate) counter: u32,
    pub(crate) previous_counter: u32,
    pub(crate) seed: MessageSeed,
    next: ChainKey,
}

/// The ratchet's part of an incoming message. Once the message has proved genuine,
/// [`Self::complete`] yields the step that makes it final.
pub(crate) struct Receiving {
    pub(crate) seed: MessageSeed,
    step: ReceiveStep<HalfTurn>,
}

/// The step that makes an incoming message final.
pub(crate) struct Received(ReceiveStep<Turn>);

enum ReceiveStep<T> {
    /// A message skipped earlier: its stored seed goes.
    UseSkipped { chain: usize, counter: u32 },
    /// A known chain moves on, over these newly skipped messages.
    Advance {
        chain: usize,
        next: ChainKey,
        skipped: SkippedKeys,
    },
    /// A new ratchet key: both directions start new chains.
    Turn(Box<T>),
}

/// A change of direction as far as reading the message needs it. Anybody can write an unknown
/// ratchet key into a message, so the other half waits until the MAC has been checked.
struct HalfTurn {
    root: RootKey,
    peer: PreparedKey,
    receiving: ReceivingChain,
    previous_counter: u32,
}

struct Turn {
    root: RootKey,
    sending: SendingChain,
    receiving: ReceivingChain,
}

impl Receiving {
    /// The other half of a change of direction, if the message brought one: draws our next ratchet
    /// key and starts a sending chain with it.
    pub(crate) fn complete(
        self,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Received, InvalidKeyAgreement> {
        Ok(Received(match self.step {
            ReceiveStep::UseSkipped { chain, counter } => {
                ReceiveStep::UseSkipped { chain, counter }
            }
            ReceiveStep::Advance {
                chain,
                next,
                skipped,
            } => ReceiveStep::Advance {
                chain,
                next,
                skipped,
            },
            ReceiveStep::Turn(half) => {
                let pair = KeyPair::generate(rng);
                let (root, chain) = half.root.step(pair.private(), &half.peer)?;
                ReceiveStep::Turn(Box::new(Turn {
                    root,
                    sending: SendingChain {
                        pair,
                        chain,
                        previous_counter: half.previous_counter,
                    },
                    receiving: half.receiving,
                }))
            }
        }))
    }
}

impl DoubleRatchet {
    /// The initiator's start: it can send at once, and already knows the chain that the
    /// recipient's signed prekey stands for. Draws the first ratchet key.
    pub(crate) fn initiator(
        root: Secret<32>,
        their_chain: Secret<32>,
        their_ratchet_key: &PublicKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, InvalidKeyAgreement> {
        let pair = KeyPair::generate(rng);
        let (root, chain) = RootKey::new(root).step(pair.private(), &their_ratchet_key.into())?;
        Ok(Self {
            root,
            sending: SendingChain {
                pair,
                chain,
                previous_counter: 0,
            },
            receiving: VecDeque::from([ReceivingChain {
                ratchet_key: *their_ratchet_key,
                chain: ChainKey::new(their_chain, 0),
                skipped: SkippedKeys::default(),
            }]),
        })
    }

    /// The recipient's start: its signed prekey is its first ratchet key.
    pub(crate) fn recipient(root: Secret<32>, our_chain: Secret<32>, prekey: &KeyPair) -> Self {
        Self {
            root: RootKey::new(root),
            sending: SendingChain {
                pair: prekey.clone(),
                chain: ChainKey::new(our_chain, 0),
                previous_counter: 0,
            },
            receiving: VecDeque::new(),
        }
    }

    /// Our current ratchet key.
    pub(crate) fn sending_ratchet_key(&self) -> &PublicKey {
        self.sending.pair.public()
    }

    /// The next outgoing message; `None` when 2^32 − 1 messages were sent in one direction.
    pub(crate) fn send(&self) -> Option<Sending> {
        let (seed, next) = self.sending.chain.advance()?;
        Some(Sending {
            ratchet_key: *self.sending.pair.public(),
            counter: self.sending.chain.index(),
            previous_counter: self.sending.previous_counter,
            seed,
            next,
        })
    }

    /// Makes an outgoing message final.
    pub(crate) fn commit_send(&mut self, sending: Sending) {
        self.sending.chain = sending.next;
    }

    /// The seed for an incoming message.
    pub(crate) fn receive(
        &self,
        ratchet_key: &PublicKey,
        counter: u32,
        max_jump: u32,
    ) -> Result<Receiving, ReceiveError> {
        let known = self.receiving.iter().enumerate().rev();
        match known
            .into_iter()
            .find(|(_, chain)| chain.ratchet_key == *ratchet_key)
        {
            Some((chain, known)) => known.receive(counter, max_jump).map(|step| match step {
                ChainStep::Skipped { seed } => Receiving {
                    seed,
                    step: ReceiveStep::UseSkipped { chain, counter },
                },
                ChainStep::Advanced {
                    seed,
                    next,
                    skipped,
                } => Receiving {
                    seed,
                    step: ReceiveStep::Advance {
                        chain,
                        next,
                        skipped,
                    },
                },
            }),
            None => self.turn(ratchet_key, counter, max_jump),
        }
    }

    /// A ratchet key we have not seen: the conversation changed direction.
    fn turn(
        &self,
        ratchet_key: &PublicKey,
        counter: u32,
        max_jump: u32,
    ) -> Result<Receiving, ReceiveError> {
        let peer = PreparedKey::from(ratchet_key);
        let (root, chain) = self.root.step(self.sending.pair.private(), &peer)?;
        let mut receiving = ReceivingChain {
            ratchet_key: *ratchet_key,
            chain,
            skipped: SkippedKeys::default(),
        };
        let ChainStep::Advanced {
            seed,
            next,
            skipped,
        } = receiving.receive(counter, max_jump)?
        else {
            // A chain that starts at 0 has nothing behind it.
            return Err(ReceiveError::Duplicated { index: 0, counter });
        };
        receiving.chain = next;
        receiving.skipped = skipped;

        Ok(Receiving {
            seed,
            step: ReceiveStep::Turn(Box::new(HalfTurn {
                root,
                peer,
                receiving,
                previous_counter: self.sending.chain.index().saturating_sub(1),
            })),
        })
    }

    /// Makes an incoming message final. `received` must come from this very state.
    pub(crate) fn commit_receive(&mut self, received: Received) {
        match received.0 {
            ReceiveStep::UseSkipped { chain, counter } => {
                if let Some(chain) = self.receiving.get_mut(chain) {
                    chain.skipped.take(counter);
                }
            }
            ReceiveStep::Advance {
                chain,
                next,
                skipped,
            } => {
                if let Some(chain) = self.receiving.get_mut(chain) {
                    chain.chain = next;
                    chain.skipped.append(&skipped);
                    chain.skipped.keep_newest(MAX_SKIPPED);
                }
            }
            ReceiveStep::Turn(turn) => {
                self.root = turn.root;
                self.sending = turn.sending;
                self.receiving.push_back(turn.receiving);
                while self.receiving.len() > MAX_RECEIVING_CHAINS {
                    self.receiving.pop_front();
                }
            }
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.fixed(self.root.as_bytes());
        out.fixed(self.sending.pair.private().as_bytes());
        out.fixed(self.sending.pair.public().u());
        out.fixed(self.sending.chain.as_bytes());
        out.u32(self.sending.chain.index());
        out.u32(self.sending.previous_counter);
        out.u8(u8::try_from(self.receiving.len()).unwrap_or(u8::MAX));
        for chain in &self.receiving {
            out.fixed(chain.ratchet_key.u());
            out.fixed(chain.chain.as_bytes());
            out.u32(chain.chain.index());
            out.bytes(chain.skipped.as_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        let root = RootKey::new(reader.secret()?);
        let private = PrivateKey::from_stored(reader.fixed()?).ok_or(StoredRecordError::Damaged)?;
        let public = PublicKey::from_u(reader.fixed()?);
        let sending = SendingChain {
            pair: KeyPair::from_stored(private, public),
            chain: read_chain(reader)?,
            previous_counter: reader.u32()?,
        };
        let count = usize::from(reader.u8()?);
        if count > MAX_RECEIVING_CHAINS {
            return Err(StoredRecordError::Damaged);
        }
        let receiving = (0..count)
            .map(|_| {
                Ok(ReceivingChain {
                    ratchet_key: PublicKey::from_u(reader.fixed()?),
                    chain: read_chain(reader)?,
                    skipped: SkippedKeys::decode(reader.bytes()?, MAX_SKIPPED)
                        .ok_or(StoredRecordError::Damaged)?,
                })
            })
            .collect::<Result<_, StoredRecordError>>()?;
        Ok(Self {
            root,
            sending,
            receiving,
        })
    }

    /// About how many bytes [`Self::encode`] writes.
    pub(crate) fn encoded_len(&self) -> usize {
        256 + self
            .receiving
            .iter()
            .map(|chain| 80 + chain.skipped.as_bytes().len())
            .sum::<usize>()
    }
}

fn read_chain(reader: &mut Reader<'_>) -> Result<ChainKey, StoredRecordError> {
    Ok(ChainKey::new(reader.secret()?, reader.u32()?))
}

enum ChainStep {
    Skipped {
        seed: MessageSeed,
    },
    Advanced {
        seed: MessageSeed,
        next: ChainKey,
        skipped: SkippedKeys,
    },
}

impl ReceivingChain {
    fn receive(&self, counter: u32, max_jump: u32) -> Result<ChainStep, ReceiveError> {
        let index = self.chain.index();
        let Some(ahead) = counter.checked_sub(index) else {
            let seed = self.skipped.get(counter).map(MessageSeed::new);
            let seed = seed.ok_or(ReceiveError::Duplicated { index, counter })?;
            return Ok(ChainStep::Skipped { seed });
        };
        if ahead > max_jump {
            return Err(ReceiveError::TooFarAhead);
        }
        // Seeds that would fall out of the window at once are not even derived.
        let keep = usize::try_from(ahead)
            .unwrap_or(usize::MAX)
            .min(MAX_SKIPPED);
        let first_kept = counter - u32::try_from(keep).unwrap_or(ahead);
        let mut skipped = SkippedKeys::with_capacity(keep);
        let mut current = self.chain.clone();
        while current.index() < first_kept {
            current = current.next().ok_or(ReceiveError::TooFarAhead)?;
        }
        while current.index() < counter {
            let (seed, next) = current.advance().ok_or(ReceiveError::TooFarAhead)?;
            skipped.push(current.index(), seed.secret());
            current = next;
        }
        let (seed, next) = current.advance().ok_or(ReceiveError::TooFarAhead)?;
        Ok(ChainStep::Advanced {
            seed,
            next,
            skipped,
        })
    }
}
