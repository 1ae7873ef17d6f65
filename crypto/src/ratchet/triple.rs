//! Both ratchets side by side: the elliptic-curve one gives each message a seed, the post-quantum
//! one a salt, and only the two together make the message's keys (spec §3.1).

use rand_core::CryptoRng;

use crate::{
    codec::{Reader, StoredRecordError, Writer},
    curve::{InvalidKeyAgreement, KeyPair, PublicKey},
    pqxdh::Handshake,
    ratchet::{
        double::{self, DoubleRatchet, MAX_FORWARD_JUMP},
        keys::MessageKeys,
    },
    spqr::{SpqrError, SpqrState},
};

/// Why a message does not fit the ratchets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// The elliptic-curve ratchet refuses it.
    Double(double::ReceiveError),
    /// The post-quantum ratchet refuses it.
    PostQuantum(SpqrError),
}

/// State of both ratchets on one side.
#[derive(Clone)]
pub(crate) struct TripleRatchet {
    double: DoubleRatchet,
    pq: SpqrState,
    /// Both ends are the same account with the same identity: no limit on jumps.
    self_session: bool,
}

/// What an outgoing message is made of.
pub(crate) struct Outgoing {
    pub(crate) ratchet_key: PublicKey,
    pub(crate) counter: u32,
    pub(crate) previous_counter: u32,
    pub(crate) pq_ratchet: Vec<u8>,
    pub(crate) keys: MessageKeys,
}

/// An incoming message's keys. Once they have proved right, [`Self::complete`] yields the step to
/// commit.
pub(crate) struct Incoming {
    pub(crate) keys: MessageKeys,
    double: double::Receiving,
    pq: SpqrState,
}

pub(crate) struct IncomingStep {
    double: double::Received,
    pq: SpqrState,
}

impl Incoming {
    /// Does what only a genuine message is worth: see [`double::Receiving::complete`].
    pub(crate) fn complete(
        self,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<IncomingStep, InvalidKeyAgreement> {
        Ok(IncomingStep {
            double: self.double.complete(rng)?,
            pq: self.pq,
        })
    }
}

impl TripleRatchet {
    /// The initiator's start. Draws the first ratchet key.
    pub(crate) fn initiator(
        handshake: Handshake,
        their_ratchet_key: &PublicKey,
        self_session: bool,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, InvalidKeyAgreement> {
        Ok(Self {
            double: DoubleRatchet::initiator(
                handshake.root,
                handshake.chain,
                their_ratchet_key,
                rng,
            )?,
            pq: SpqrState::initiator(handshake.pq_auth.as_bytes(), self_session),
            self_session,
        })
    }

    /// The recipient's start; its signed prekey is its first ratchet key.
    pub(crate) fn recipient(handshake: Handshake, prekey: &KeyPair, self_session: bool) -> Self {
        Self {
            double: DoubleRatchet::recipient(handshake.root, handshake.chain, prekey),
            pq: SpqrState::responder(handshake.pq_auth.as_bytes(), self_session),
            self_session,
        }
    }

    /// Our current elliptic-curve ratchet key.
    pub(crate) fn sending_ratchet_key(&self) -> &PublicKey {
        self.double.sending_ratchet_key()
    }

    /// Takes the keys of the next outgoing message. `None`, with nothing changed, when a chain
    /// has no numbers left.
    pub(crate) fn send(&mut self, rng: &mut (impl CryptoRng + ?Sized)) -> Option<Outgoing> {
        let sending = self.double.send()?;
        let (pq_ratchet, salt) = self.pq.send(rng).ok()?;
        let outgoing = Outgoing {
            ratchet_key: sending.ratchet_key,
            counter: sending.counter,
            previous_counter: sending.previous_counter,
            pq_ratchet,
            keys: sending.seed.keys(&salt),
        };
        self.double.commit_send(sending);
        Some(outgoing)
    }

    /// The keys for an incoming message; the state stays as it is until [`Self::commit`].
    pub(crate) fn receive(
        &self,
        ratchet_key: &PublicKey,
        counter: u32,
        pq_ratchet: &[u8],
    ) -> Result<Incoming, ReceiveError> {
        let max_jump = if self.self_session {
            u32::MAX
        } else {
            MAX_FORWARD_JUMP
        };
        let double = self
            .double
            .receive(ratchet_key, counter, max_jump)
            .map_err(ReceiveError::Double)?;
        let (pq, salt) = self
            .pq
            .received(pq_ratchet)
            .map_err(ReceiveError::PostQuantum)?;
        Ok(Incoming {
            keys: double.seed.keys(&salt),
            double,
            pq,
        })
    }

    /// Makes an incoming message final.
    pub(crate) fn commit(&mut self, step: IncomingStep) {
        self.double.commit_receive(step.double);
        self.pq = step.pq;
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.bool(self.self_session);
        self.double.encode(out);
        out.nested(|out| self.pq.encode_into(out));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            self_session: reader.bool()?,
            double: DoubleRatchet::decode(reader)?,
            pq: SpqrState::decode(reader.bytes()?)?,
        })
    }

    /// About how many bytes [`Self::encode`] writes.
    pub(crate) fn encoded_len(&self) -> usize {
        8 + self.double.encoded_len() + self.pq.encoded_len()
    }
}
