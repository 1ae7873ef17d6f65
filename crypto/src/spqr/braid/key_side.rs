//! The states of the end that makes the epoch's encapsulation key (E1–E4 in the spec's table; E0,
//! which holds nothing, is `State::Idle`).

use rand_core::CryptoRng;

use super::{EpochSecret, State};
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kem::incremental::{
        CIPHERTEXT1_LEN, CIPHERTEXT2_LEN, DECAPSULATION_KEY_LEN, HEADER_LEN, KeyPair,
    },
    spqr::{
        SpqrError,
        authenticator::{Authenticator, MAC_LEN, macs_equal},
        erasure::{Decoder, Encoder},
        message::Payload,
    },
};

/// Header and MAC, as sent in chunks.
pub(super) const AUTHENTICATED_HEADER_LEN: usize = HEADER_LEN + MAC_LEN;
/// Second ciphertext part and MAC, as sent in chunks.
pub(super) const AUTHENTICATED_CT2_LEN: usize = CIPHERTEXT2_LEN + MAC_LEN;

/// E1: sends header chunks until the first chunk of an answer comes.
#[derive(Clone)]
pub(super) struct SendingHeader {
    key_pair: KeyPair,
    payload: [u8; AUTHENTICATED_HEADER_LEN],
    encoder: Encoder,
}

impl SendingHeader {
    /// Makes the epoch's key pair.
    pub(super) fn sample(
        epoch: u64,
        authenticator: &Authenticator,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let key_pair = KeyPair::generate(rng);
        let header = key_pair.header();
        let mut payload = [0; AUTHENTICATED_HEADER_LEN];
        let (left, right) = payload.split_at_mut(HEADER_LEN);
        left.copy_from_slice(&header);
        right.copy_from_slice(&authenticator.header_mac(epoch, &header));
        Self {
            key_pair,
            payload,
            encoder: Encoder::default(),
        }
    }

    pub(super) fn send(&mut self) -> Payload {
        Payload::Header(self.encoder.next_chunk(&self.payload))
    }

    pub(super) fn receive(self, payload: Payload) -> State {
        let Payload::Ct1(chunk) = payload else {
            return State::SendingHeader(self);
        };
        let next = SendingKey {
            key_pair: self.key_pair,
            encoder: Encoder::default(),
            ct1: Decoder::new(),
        };
        // One chunk of thirty: the same step as for every later one.
        next.receive(Payload::Ct1(chunk))
    }

    pub(super) fn encoded_len(&self) -> usize {
        DECAPSULATION_KEY_LEN + self.payload.len() + 2
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.key_pair.as_bytes());
        out.fixed(&self.payload);
        out.fixed(&self.encoder.next_index().to_be_bytes());
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            key_pair: read_key_pair(from)?,
            payload: *from.fixed()?,
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
        })
    }
}

/// E2: sends key chunks while the first ciphertext part comes in.
#[derive(Clone)]
pub(super) struct SendingKey {
    key_pair: KeyPair,
    encoder: Encoder,
    ct1: Decoder<CIPHERTEXT1_LEN>,
}

impl SendingKey {
    pub(super) fn send(&mut self) -> Payload {
        Payload::Key(self.encoder.next_chunk(&self.key_pair.key_vector()))
    }

    pub(super) fn receive(mut self, payload: Payload) -> State {
        let Payload::Ct1(chunk) = payload else {
            return State::SendingKey(self);
        };
        match self.ct1.add(chunk) {
            None => State::SendingKey(self),
            Some(ct1) => {
                let Self {
                    key_pair, encoder, ..
                } = self;
                State::AcknowledgingCt1(AcknowledgingCt1 {
                    key_pair,
                    encoder,
                    ct1,
                })
            }
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        DECAPSULATION_KEY_LEN + 2 + self.ct1.encoded_len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.key_pair.as_bytes());
        out.fixed(&self.encoder.next_index().to_be_bytes());
        self.ct1.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            key_pair: read_key_pair(from)?,
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
            ct1: Decoder::decode(from)?,
        })
    }
}

/// E3: has the first ciphertext part; goes on sending key chunks, now with the acknowledgement,
/// until the first chunk of the second part shows that the peer has the key.
#[derive(Clone)]
pub(super) struct AcknowledgingCt1 {
    key_pair: KeyPair,
    encoder: Encoder,
    ct1: Box<[u8; CIPHERTEXT1_LEN]>,
}

impl AcknowledgingCt1 {
    pub(super) fn send(&mut self) -> Payload {
        Payload::KeyCt1Ack(self.encoder.next_chunk(&self.key_pair.key_vector()))
    }

    pub(super) fn receive(self, payload: Payload) -> State {
        let Payload::Ct2(chunk) = payload else {
            return State::AcknowledgingCt1(self);
        };
        let mut ct2 = Decoder::new();
        // One of five: it cannot be complete.
        let _ = ct2.add(chunk);
        State::CollectingCt2(CollectingCt2 {
            key_pair: self.key_pair,
            ct1: self.ct1,
            ct2,
        })
    }

    pub(super) fn encoded_len(&self) -> usize {
        DECAPSULATION_KEY_LEN + 2 + self.ct1.len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.key_pair.as_bytes());
        out.fixed(&self.encoder.next_index().to_be_bytes());
        out.fixed(self.ct1.as_slice());
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            key_pair: read_key_pair(from)?,
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
            ct1: Box::new(*from.fixed()?),
        })
    }
}

/// E4: collects the second ciphertext part; sends bare acknowledgements.
#[derive(Clone)]
pub(super) struct CollectingCt2 {
    key_pair: KeyPair,
    ct1: Box<[u8; CIPHERTEXT1_LEN]>,
    ct2: Decoder<AUTHENTICATED_CT2_LEN>,
}

impl CollectingCt2 {
    /// The epoch's secret once the ciphertext is complete, else the state with what came in.
    ///
    /// The secret goes into the authenticator *before* the MAC is checked: the peer's MAC was made
    /// under the updated key.
    pub(super) fn receive(
        mut self,
        payload: Payload,
        epoch: u64,
        authenticator: &mut Authenticator,
    ) -> Result<Result<EpochSecret, Self>, SpqrError> {
        let Payload::Ct2(chunk) = payload else {
            return Ok(Err(self));
        };
        let Some(complete) = self.ct2.add(chunk) else {
            return Ok(Err(self));
        };
        let Some((ct2, mac)) = complete.split_first_chunk::<CIPHERTEXT2_LEN>() else {
            return Err(SpqrError::CiphertextMac);
        };
        let secret = EpochSecret::derive(epoch, &self.key_pair.decapsulate(&self.ct1, ct2));
        authenticator.update(epoch, secret.secret.as_bytes());
        if macs_equal(
            &authenticator.ciphertext_mac(epoch, self.ct1.as_slice(), ct2),
            mac,
        ) {
            Ok(Ok(secret))
        } else {
            Err(SpqrError::CiphertextMac)
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        DECAPSULATION_KEY_LEN + self.ct1.len() + self.ct2.encoded_len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.key_pair.as_bytes());
        out.fixed(self.ct1.as_slice());
        self.ct2.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            key_pair: read_key_pair(from)?,
            ct1: Box::new(*from.fixed()?),
            ct2: Decoder::decode(from)?,
        })
    }
}

fn read_key_pair(from: &mut Reader<'_>) -> Result<KeyPair, StoredRecordError> {
    Ok(KeyPair::from_bytes(from.secret()?))
}
