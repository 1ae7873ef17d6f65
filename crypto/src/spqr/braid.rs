//! The braid: agreeing one ML-KEM secret an epoch, a 32-byte chunk at a time (spec §4.1–4.3).
//!
//! In each epoch one end is the *key side*, which makes an encapsulation key, and the other the
//! *ciphertext side*, which encapsulates to it. They swap roles with each epoch; the initiator of
//! the session begins as key side of epoch 1. Knows nothing of message keys: it hands each epoch's
//! secret up once.
//!
//! ```text
//!   key side                                    ciphertext side
//!
//!   Idle ── send: sample key pair               CollectingHeader
//!     │                                           │ header complete, MAC right
//!   SendingHeader          ── Header chunks ──▶ HeaderKnown ── send: encapsulate, SECRET
//!     │ first ct1 chunk    ◀── Ct1 chunks ───     │
//!   SendingKey             ── Key chunks ────▶  SendingCt1 ──── first ack ───┐
//!     │ ct1 complete                              │ key complete             ▼
//!   AcknowledgingCt1       ── KeyCt1Ack ─────▶  AwaitingAck              CollectingKey
//!     │ first ct2 chunk    ◀── Ct2 chunks ───     │ ack   ┌── key complete ──┘
//!   CollectingCt2          ── Ct1Ack ────────▶  SendingCt2
//!     │ ct2 complete, MAC right, SECRET           │ any message of the next epoch
//!     ▼                                           ▼
//!   CollectingHeader (epoch + 1)                Idle (epoch + 1)
//! ```
//!
//! Sending never fails. Receiving consumes the state and yields the next one or an error, so
//! whoever called still holds the old state, which stays in force.

mod ciphertext_side;
mod key_side;

use rand_core::CryptoRng;

use self::{
    ciphertext_side::{
        AwaitingAck, CollectingHeader, CollectingKey, HeaderKnown, SendingCt1, SendingCt2,
    },
    key_side::{AcknowledgingCt1, CollectingCt2, SendingHeader, SendingKey},
};
use super::{SpqrError, authenticator::Authenticator, chain::Direction, message::Payload};
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kdf,
    secret::Secret,
};

const SECRET_LABEL: &[u8] = b"Signal_PQCKA_V1_MLKEM768:SCKA Key";

/// One end's part in the agreement.
#[derive(Clone)]
pub(super) struct Braid {
    epoch: u64,
    authenticator: Authenticator,
    state: State,
}

/// Where in the epoch we are: one type per state, in the order of the diagram.
#[derive(Clone)]
enum State {
    Idle,
    SendingHeader(SendingHeader),
    SendingKey(SendingKey),
    AcknowledgingCt1(AcknowledgingCt1),
    CollectingCt2(CollectingCt2),
    CollectingHeader(CollectingHeader),
    HeaderKnown(HeaderKnown),
    SendingCt1(SendingCt1),
    AwaitingAck(AwaitingAck),
    CollectingKey(CollectingKey),
    SendingCt2(SendingCt2),
}

/// The secret of the epoch it was agreed in, for the chains.
pub(super) struct EpochSecret {
    pub(super) epoch: u64,
    pub(super) secret: Secret<32>,
}

impl EpochSecret {
    pub(super) fn derive(epoch: u64, shared: &Secret<32>) -> Self {
        let info: [&[u8]; 2] = [SECRET_LABEL, &epoch.to_be_bytes()];
        Self {
            epoch,
            secret: kdf::hkdf(&[0; 32], shared.as_ref(), &info),
        }
    }
}

impl Braid {
    /// The start of a session, from the handshake's key.
    pub(super) fn start(auth_key: &[u8; 32], direction: Direction) -> Self {
        let state = match direction {
            Direction::Initiator => State::Idle,
            Direction::Responder => State::CollectingHeader(CollectingHeader::default()),
        };
        Self {
            epoch: 1,
            authenticator: Authenticator::new(auth_key),
            state,
        }
    }

    /// The epoch being agreed. Messages use keys of the one before it.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Our next move, and the epoch's secret if this move agreed it. Draws randomness for a key
    /// pair (64 bytes) or an encapsulation (32 bytes), at most one of them.
    pub(super) fn send(
        &mut self,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Payload, Option<EpochSecret>) {
        let payload = match &mut self.state {
            State::Idle => {
                let mut next = SendingHeader::sample(self.epoch, &self.authenticator, rng);
                let payload = next.send();
                self.state = State::SendingHeader(next);
                payload
            }
            State::HeaderKnown(state) => {
                let (mut next, shared) = state.encapsulate(rng);
                let secret = EpochSecret::derive(self.epoch, &shared);
                self.authenticator
                    .update(self.epoch, secret.secret.as_bytes());
                let payload = next.send();
                self.state = State::SendingCt1(next);
                return (payload, Some(secret));
            }
            State::SendingHeader(state) => state.send(),
            State::SendingKey(state) => state.send(),
            State::AcknowledgingCt1(state) => state.send(),
            State::CollectingCt2(_) => Payload::Ct1Ack,
            State::CollectingHeader(_) | State::CollectingKey(_) => Payload::None,
            State::SendingCt1(state) => state.send(),
            State::AwaitingAck(state) => state.send(),
            State::SendingCt2(state) => state.send(),
        };
        (payload, None)
    }

    /// Takes the peer's move of `epoch`; yields the state after it, and the epoch's secret if this
    /// move agreed it.
    pub(super) fn receive(
        self,
        epoch: u64,
        payload: Payload,
    ) -> Result<(Self, Option<EpochSecret>), SpqrError> {
        if epoch < self.epoch {
            return Ok((self, None));
        }
        if epoch > self.epoch {
            return self.enter(epoch).map(|braid| (braid, None));
        }
        let Self {
            epoch,
            mut authenticator,
            state,
        } = self;
        let state = match state {
            State::CollectingCt2(state) => {
                return match state.receive(payload, epoch, &mut authenticator)? {
                    Ok(secret) => {
                        let state = State::CollectingHeader(CollectingHeader::default());
                        let epoch = epoch.saturating_add(1);
                        Ok((
                            Self {
                                epoch,
                                authenticator,
                                state,
                            },
                            Some(secret),
                        ))
                    }
                    Err(state) => {
                        let state = State::CollectingCt2(state);
                        Ok((
                            Self {
                                epoch,
                                authenticator,
                                state,
                            },
                            None,
                        ))
                    }
                };
            }
            State::SendingHeader(state) => state.receive(payload),
            State::SendingKey(state) => state.receive(payload),
            State::AcknowledgingCt1(state) => state.receive(payload),
            State::CollectingHeader(state) => state.receive(payload, epoch, &authenticator)?,
            State::SendingCt1(state) => state.receive(payload, epoch, &authenticator)?,
            State::AwaitingAck(state) => state.receive(payload, epoch, &authenticator)?,
            State::CollectingKey(state) => state.receive(payload, epoch, &authenticator)?,
            state @ (State::Idle | State::HeaderKnown(_) | State::SendingCt2(_)) => state,
        };
        Ok((
            Self {
                epoch,
                authenticator,
                state,
            },
            None,
        ))
    }

    /// Only the end that still sends its second ciphertext part can meet a later epoch: the peer
    /// has all of it and has moved on.
    fn enter(self, epoch: u64) -> Result<Self, SpqrError> {
        if matches!(self.state, State::SendingCt2(_)) && epoch == self.epoch.saturating_add(1) {
            Ok(Self {
                epoch,
                state: State::Idle,
                ..self
            })
        } else {
            Err(SpqrError::EpochOutOfRange(epoch))
        }
    }

    /// How many bytes [`Self::encode`] appends.
    pub(super) fn encoded_len(&self) -> usize {
        let state_len = match &self.state {
            State::Idle => 0,
            State::SendingHeader(state) => state.encoded_len(),
            State::SendingKey(state) => state.encoded_len(),
            State::AcknowledgingCt1(state) => state.encoded_len(),
            State::CollectingCt2(state) => state.encoded_len(),
            State::CollectingHeader(state) => state.encoded_len(),
            State::HeaderKnown(state) => state.encoded_len(),
            State::SendingCt1(state) => state.encoded_len(),
            State::AwaitingAck(state) => state.encoded_len(),
            State::CollectingKey(state) => state.encoded_len(),
            State::SendingCt2(state) => state.encoded_len(),
        };
        8 + Authenticator::ENCODED_LEN + 1 + state_len
    }

    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch);
        self.authenticator.encode(out);
        match &self.state {
            State::Idle => out.u8(0),
            State::SendingHeader(state) => {
                out.u8(1);
                state.encode(out);
            }
            State::SendingKey(state) => {
                out.u8(2);
                state.encode(out);
            }
            State::AcknowledgingCt1(state) => {
                out.u8(3);
                state.encode(out);
            }
            State::CollectingCt2(state) => {
                out.u8(4);
                state.encode(out);
            }
            State::CollectingHeader(state) => {
                out.u8(5);
                state.encode(out);
            }
            State::HeaderKnown(state) => {
                out.u8(6);
                state.encode(out);
            }
            State::SendingCt1(state) => {
                out.u8(7);
                state.encode(out);
            }
            State::AwaitingAck(state) => {
                out.u8(8);
                state.encode(out);
            }
            State::CollectingKey(state) => {
                out.u8(9);
                state.encode(out);
            }
            State::SendingCt2(state) => {
                out.u8(10);
                state.encode(out);
            }
        }
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        let epoch = from.u64()?;
        let authenticator = Authenticator::decode(from)?;
        let state = match from.u8()? {
            0 => State::Idle,
            1 => State::SendingHeader(SendingHeader::decode(from)?),
            2 => State::SendingKey(SendingKey::decode(from)?),
            3 => State::AcknowledgingCt1(AcknowledgingCt1::decode(from)?),
            4 => State::CollectingCt2(CollectingCt2::decode(from)?),
            5 => State::CollectingHeader(CollectingHeader::decode(from)?),
            6 => State::HeaderKnown(HeaderKnown::decode(from)?),
            7 => State::SendingCt1(SendingCt1::decode(from)?),
            8 => State::AwaitingAck(AwaitingAck::decode(from)?),
            9 => State::CollectingKey(CollectingKey::decode(from)?),
            10 => State::SendingCt2(SendingCt2::decode(from)?),
            _ => return Err(StoredRecordError::Damaged),
        };
        if epoch == 0 {
            return Err(StoredRecordError::Damaged);
        }
        Ok(Self {
            epoch,
            authenticator,
            state,
        })
    }

    /// The state's place in the diagram, for tests that want every one of them visited.
    #[cfg(test)]
    pub(super) fn state_number(&self) -> usize {
        let mut out = Writer::with_capacity(0);
        self.encode(&mut out);
        usize::from(out.finish()[8 + Authenticator::ENCODED_LEN])
    }
}
