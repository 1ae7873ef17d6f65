//! The states of the end that encapsulates to the epoch's key (C0–C5 in the spec's table).

use rand_core::CryptoRng;

use super::{
    State,
    key_side::{AUTHENTICATED_CT2_LEN, AUTHENTICATED_HEADER_LEN},
};
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kem::incremental::{
        CIPHERTEXT1_LEN, CIPHERTEXT2_LEN, Encapsulation, HEADER_LEN, KEY_VECTOR_LEN, validate,
    },
    secret::Secret,
    spqr::{
        SpqrError,
        authenticator::{Authenticator, macs_equal},
        erasure::{Decoder, Encoder},
        message::Payload,
    },
};

/// C0: collects the header of the peer's key.
#[derive(Clone, Default)]
pub(super) struct CollectingHeader {
    header: Decoder<AUTHENTICATED_HEADER_LEN>,
}

impl CollectingHeader {
    pub(super) fn receive(
        mut self,
        payload: Payload,
        epoch: u64,
        authenticator: &Authenticator,
    ) -> Result<State, SpqrError> {
        let Payload::Header(chunk) = payload else {
            return Ok(State::CollectingHeader(self));
        };
        let Some(complete) = self.header.add(chunk) else {
            return Ok(State::CollectingHeader(self));
        };
        match complete.split_first_chunk::<HEADER_LEN>() {
            Some((header, mac)) if macs_equal(&authenticator.header_mac(epoch, header), mac) => {
                Ok(State::HeaderKnown(HeaderKnown { header: *header }))
            }
            _ => Err(SpqrError::HeaderMac),
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.header.encoded_len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        self.header.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            header: Decoder::decode(from)?,
        })
    }
}

/// C1: has the header; encapsulates when it next sends.
#[derive(Clone)]
pub(super) struct HeaderKnown {
    header: [u8; HEADER_LEN],
}

impl HeaderKnown {
    /// Draws the encapsulation; yields the next state and ML-KEM's shared secret.
    pub(super) fn encapsulate(
        &self,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (SendingCt1, Secret<32>) {
        let encapsulation = Encapsulation::sample(self.header, rng);
        let (ct1, shared) = encapsulation.first();
        let next = SendingCt1 {
            encapsulation,
            ct1: Box::new(ct1),
            encoder: Encoder::default(),
            key: Decoder::new(),
        };
        (next, shared)
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.header.len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(&self.header);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            header: *from.fixed()?,
        })
    }
}

/// C2: sends chunks of the first ciphertext part while the key comes in.
#[derive(Clone)]
pub(super) struct SendingCt1 {
    encapsulation: Encapsulation,
    ct1: Box<[u8; CIPHERTEXT1_LEN]>,
    encoder: Encoder,
    key: Decoder<KEY_VECTOR_LEN>,
}

impl SendingCt1 {
    pub(super) fn send(&mut self) -> Payload {
        Payload::Ct1(self.encoder.next_chunk(self.ct1.as_slice()))
    }

    pub(super) fn receive(
        mut self,
        payload: Payload,
        epoch: u64,
        authenticator: &Authenticator,
    ) -> Result<State, SpqrError> {
        match payload {
            Payload::Key(chunk) => match self.key.add(chunk) {
                None => Ok(State::SendingCt1(self)),
                Some(key) => {
                    validate(self.encapsulation.header(), &key)?;
                    let Self {
                        encapsulation,
                        ct1,
                        encoder,
                        ..
                    } = self;
                    Ok(State::AwaitingAck(AwaitingAck {
                        encapsulation,
                        ct1,
                        encoder,
                        key,
                    }))
                }
            },
            Payload::KeyCt1Ack(_) => {
                let Self {
                    encapsulation,
                    ct1,
                    key,
                    ..
                } = self;
                CollectingKey {
                    encapsulation,
                    ct1,
                    key,
                }
                .receive(payload, epoch, authenticator)
            }
            // A bare acknowledgement follows only after our second part, so it cannot be meant.
            _ => Ok(State::SendingCt1(self)),
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        ENCAPSULATION_LEN + self.ct1.len() + 2 + self.key.encoded_len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        write_encapsulation(&self.encapsulation, out);
        out.fixed(self.ct1.as_slice());
        out.fixed(&self.encoder.next_index().to_be_bytes());
        self.key.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            encapsulation: read_encapsulation(from)?,
            ct1: Box::new(*from.fixed()?),
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
            key: Decoder::decode(from)?,
        })
    }
}

/// C3: has the whole key; sends the first ciphertext part until it is acknowledged.
#[derive(Clone)]
pub(super) struct AwaitingAck {
    encapsulation: Encapsulation,
    ct1: Box<[u8; CIPHERTEXT1_LEN]>,
    encoder: Encoder,
    key: Box<[u8; KEY_VECTOR_LEN]>,
}

impl AwaitingAck {
    pub(super) fn send(&mut self) -> Payload {
        Payload::Ct1(self.encoder.next_chunk(self.ct1.as_slice()))
    }

    pub(super) fn receive(
        self,
        payload: Payload,
        epoch: u64,
        authenticator: &Authenticator,
    ) -> Result<State, SpqrError> {
        match payload {
            Payload::Ct1Ack | Payload::KeyCt1Ack(_) => SendingCt2::complete(
                &self.encapsulation,
                &self.ct1,
                &self.key,
                epoch,
                authenticator,
            ),
            _ => Ok(State::AwaitingAck(self)),
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        ENCAPSULATION_LEN + self.ct1.len() + 2 + self.key.len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        write_encapsulation(&self.encapsulation, out);
        out.fixed(self.ct1.as_slice());
        out.fixed(&self.encoder.next_index().to_be_bytes());
        out.fixed(self.key.as_slice());
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            encapsulation: read_encapsulation(from)?,
            ct1: Box::new(*from.fixed()?),
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
            key: Box::new(*from.fixed()?),
        })
    }
}

/// C4: the first ciphertext part is acknowledged; silent until the key is complete.
#[derive(Clone)]
pub(super) struct CollectingKey {
    encapsulation: Encapsulation,
    ct1: Box<[u8; CIPHERTEXT1_LEN]>,
    key: Decoder<KEY_VECTOR_LEN>,
}

impl CollectingKey {
    pub(super) fn receive(
        mut self,
        payload: Payload,
        epoch: u64,
        authenticator: &Authenticator,
    ) -> Result<State, SpqrError> {
        let (Payload::Key(chunk) | Payload::KeyCt1Ack(chunk)) = payload else {
            return Ok(State::CollectingKey(self));
        };
        match self.key.add(chunk) {
            None => Ok(State::CollectingKey(self)),
            Some(key) => {
                SendingCt2::complete(&self.encapsulation, &self.ct1, &key, epoch, authenticator)
            }
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        ENCAPSULATION_LEN + self.ct1.len() + self.key.encoded_len()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        write_encapsulation(&self.encapsulation, out);
        out.fixed(self.ct1.as_slice());
        self.key.encode(out);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            encapsulation: read_encapsulation(from)?,
            ct1: Box::new(*from.fixed()?),
            key: Decoder::decode(from)?,
        })
    }
}

/// C5: sends the second ciphertext part until the peer shows up in the next epoch.
#[derive(Clone)]
pub(super) struct SendingCt2 {
    payload: Box<[u8; AUTHENTICATED_CT2_LEN]>,
    encoder: Encoder,
}

impl SendingCt2 {
    /// The second encapsulation step, with the MAC over both parts. The authenticator has had the
    /// epoch's secret since [`HeaderKnown::encapsulate`].
    fn complete(
        encapsulation: &Encapsulation,
        ct1: &[u8; CIPHERTEXT1_LEN],
        key: &[u8; KEY_VECTOR_LEN],
        epoch: u64,
        authenticator: &Authenticator,
    ) -> Result<State, SpqrError> {
        let ct2 = encapsulation.second(key)?;
        let mut payload = Box::new([0; AUTHENTICATED_CT2_LEN]);
        let (left, right) = payload.split_at_mut(CIPHERTEXT2_LEN);
        left.copy_from_slice(&ct2);
        right.copy_from_slice(&authenticator.ciphertext_mac(epoch, ct1, &ct2));
        Ok(State::SendingCt2(Self {
            payload,
            encoder: Encoder::default(),
        }))
    }

    pub(super) fn send(&mut self) -> Payload {
        Payload::Ct2(self.encoder.next_chunk(self.payload.as_slice()))
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.payload.len() + 2
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.fixed(self.payload.as_slice());
        out.fixed(&self.encoder.next_index().to_be_bytes());
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            payload: Box::new(*from.fixed()?),
            encoder: Encoder::resume(u16::from_be_bytes(*from.fixed()?)),
        })
    }
}

/// Header and randomness: everything else about an encapsulation follows from them, and
/// recomputing it once an epoch is cheaper than storing two kilobytes around each message.
const ENCAPSULATION_LEN: usize = HEADER_LEN + 32;

fn write_encapsulation(encapsulation: &Encapsulation, out: &mut Writer) {
    out.fixed(encapsulation.header());
    out.fixed(encapsulation.randomness().as_bytes());
}

fn read_encapsulation(from: &mut Reader<'_>) -> Result<Encapsulation, StoredRecordError> {
    Ok(Encapsulation::from_parts(*from.fixed()?, from.secret()?))
}
