//! Sender keys: one encryption for a whole group (spec §5.1).
//!
//! Each member that sends makes a key chain of its own, hands it to the others through their
//! pairwise sessions ([`DistributionMessage`]), and from then on encrypts and signs each message
//! once. Knows nothing of who is in a group and does not heal: whoever leaves must not be able to
//! read on, so the members make new keys ([`OwnSenderKey::generate`]) after every departure.

use std::fmt;

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use prost::Message;
use rand_core::CryptoRng;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    codec::{Reader, StoredRecordError, Writer},
    curve::{KeyPair, PrivateKey, PublicKey, SIGNATURE_LEN},
    kdf::{self, HmacKey},
    message::MessageError,
    secret::Secret,
    skipped::SkippedKeys,
};

/// How many keys of one sender a [`SenderKeyRecord`] keeps.
pub const MAX_STATES: usize = 5;

/// How many keys of overtaken messages a state keeps.
pub const MAX_SKIPPED: u32 = 2_000;

/// How far ahead of the last one a message may be.
pub const MAX_FORWARD_JUMP: u32 = 25_000;

/// Version 3 in both halves, the first byte of either message.
const VERSION_BYTE: u8 = 0x33;

/// Fewer bytes than any distribution message has.
const MIN_DISTRIBUTION_LEN: usize = 65;

const STORED_VERSION: u8 = 1;

/// Why a group message could not be encrypted or opened. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SenderKeyError {
    /// The sender's key for this chain never arrived or was pushed out by newer ones. Ask the
    /// sender to distribute it again.
    #[error("no sender key with chain id {chain_id}")]
    NoState {
        /// The chain that the message names.
        chain_id: u32,
    },
    /// The message or distribution belongs to another distribution id than the record.
    #[error("message is for another distribution id")]
    WrongDistribution,
    /// The signature does not fit: not written by the key's owner, or altered.
    #[error("sender-key message has an invalid signature")]
    InvalidSignature,
    /// The message was opened before, is too old, or was sent before the key was handed to us.
    #[error("sender-key message {iteration} was already opened or precedes our key (at {next})")]
    Duplicate {
        /// Number of the message.
        iteration: u32,
        /// Number of the next message expected.
        next: u32,
    },
    /// More than 25,000 messages ahead.
    #[error("sender-key message {iteration} is too far ahead of {next}")]
    TooFarAhead {
        /// Number of the message.
        iteration: u32,
        /// Number of the next message expected.
        next: u32,
    },
    /// Signed by the owner, yet not a ciphertext: the sender is broken.
    #[error("sender-key message does not decrypt")]
    Undecryptable,
    /// The chain has no messages left. Generate and distribute a new key.
    #[error("sender key is used up")]
    Exhausted,
}

/// The key that this device sends to a group with.
#[derive(Clone)]
pub struct OwnSenderKey {
    distribution_id: Uuid,
    chain_id: u32,
    chain: Chain,
    signing: KeyPair,
}

impl OwnSenderKey {
    /// A fresh key. Draws a chain id (4 bytes), a chain key (32) and a signing key (32).
    pub fn generate(distribution_id: Uuid, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self {
            distribution_id,
            chain_id: rng.next_u32() >> 1,
            chain: Chain {
                iteration: 0,
                key: Secret::random(rng),
            },
            signing: KeyPair::generate(rng),
        }
    }

    /// Which distribution the key is for.
    pub fn distribution_id(&self) -> Uuid {
        self.distribution_id
    }

    /// What the other members need to read what is sent *from now on*.
    pub fn distribution_message(&self) -> DistributionMessage {
        DistributionMessage {
            distribution_id: self.distribution_id,
            chain_id: self.chain_id,
            chain: self.chain.clone(),
            signing_key: *self.signing.public(),
        }
    }

    /// Encrypts and signs one message; the serialised form. Draws 64 bytes for the signature.
    ///
    /// # Errors
    ///
    /// [`SenderKeyError::Exhausted`] after 2^32 − 1 messages.
    pub fn encrypt(
        &mut self,
        plaintext: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, SenderKeyError> {
        let (seed, next) = self.chain.advance().ok_or(SenderKeyError::Exhausted)?;
        let fields = MessageFields {
            distribution_id: Some(self.distribution_id.as_bytes().to_vec()),
            chain_id: Some(self.chain_id),
            iteration: Some(self.chain.iteration),
            ciphertext: Some(MessageKey::derive(&seed).encrypt(plaintext)),
        };
        let mut bytes = Vec::with_capacity(1 + fields.encoded_len() + SIGNATURE_LEN);
        bytes.push(VERSION_BYTE);
        fields.encode_raw(&mut bytes);
        let signature = self.signing.private().sign(&bytes, rng);
        bytes.extend_from_slice(&signature);
        self.chain = next;
        Ok(bytes)
    }

    /// The key as bytes for a store that keeps secrets. Private format.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(1 + 16 + 4 + Chain::ENCODED_LEN + 64);
        out.u8(STORED_VERSION);
        out.fixed(self.distribution_id.as_bytes());
        out.u32(self.chain_id);
        self.chain.encode(&mut out);
        out.fixed(self.signing.private().as_bytes());
        out.fixed(self.signing.public().u());
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`StoredRecordError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut from = Reader::version(bytes, STORED_VERSION)?;
        let distribution_id = Uuid::from_bytes(*from.fixed()?);
        let chain_id = from.u32()?;
        let chain = Chain::decode(&mut from)?;
        let private = PrivateKey::from_stored(from.fixed()?).ok_or(StoredRecordError::Damaged)?;
        let signing = KeyPair::from_stored(private, PublicKey::from_u(from.fixed()?));
        from.end()?;
        Ok(Self {
            distribution_id,
            chain_id,
            chain,
            signing,
        })
    }
}

/// The keys of one sender in one distribution, as a receiver keeps them: at most [`MAX_STATES`],
/// the newest first.
#[derive(Clone)]
pub struct SenderKeyRecord {
    distribution_id: Uuid,
    states: Vec<State>,
}

impl SenderKeyRecord {
    /// A record without keys.
    pub fn new(distribution_id: Uuid) -> Self {
        Self {
            distribution_id,
            states: Vec::new(),
        }
    }

    /// Which distribution the keys are for.
    pub fn distribution_id(&self) -> Uuid {
        self.distribution_id
    }

    /// Takes over the key in `message`, which came from the sender through a pairwise session. A
    /// key held already keeps its progress, so a repeat does not open old messages again.
    ///
    /// # Errors
    ///
    /// [`SenderKeyError::WrongDistribution`].
    pub fn process(&mut self, message: &DistributionMessage) -> Result<(), SenderKeyError> {
        if message.distribution_id != self.distribution_id {
            return Err(SenderKeyError::WrongDistribution);
        }
        let known = self
            .states
            .iter()
            .position(|state| state.chain_id == message.chain_id);
        let state = match known.map(|at| self.states.remove(at)) {
            Some(state) if state.signing_key == message.signing_key => state,
            _ => State {
                chain_id: message.chain_id,
                chain: message.chain.clone(),
                signing_key: message.signing_key,
                skipped: SkippedKeys::default(),
            },
        };
        self.states.insert(0, state);
        self.states.truncate(MAX_STATES);
        Ok(())
    }

    /// Opens a message, once.
    ///
    /// # Errors
    ///
    /// See [`SenderKeyError`]; the record is then unchanged.
    pub fn decrypt(&mut self, message: &SenderKeyMessage) -> Result<Vec<u8>, SenderKeyError> {
        if message.distribution_id != self.distribution_id {
            return Err(SenderKeyError::WrongDistribution);
        }
        let chain_id = message.chain_id;
        let state = self
            .states
            .iter_mut()
            .find(|state| state.chain_id == chain_id)
            .ok_or(SenderKeyError::NoState { chain_id })?;
        message.verify(&state.signing_key)?;
        let mut next = state.clone();
        let seed = next.seed(message.iteration)?;
        let plaintext = MessageKey::derive(&seed)
            .decrypt(&message.ciphertext)
            .ok_or(SenderKeyError::Undecryptable)?;
        *state = next;
        Ok(plaintext)
    }

    /// The record as bytes for a store that keeps secrets. Private format.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let len = self.states.iter().map(State::encoded_len).sum::<usize>();
        let mut out = Writer::with_capacity(1 + 16 + 1 + len);
        out.u8(STORED_VERSION);
        out.fixed(self.distribution_id.as_bytes());
        out.u8(u8::try_from(self.states.len()).unwrap_or(u8::MAX));
        for state in &self.states {
            state.encode(&mut out);
        }
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`StoredRecordError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut from = Reader::version(bytes, STORED_VERSION)?;
        let distribution_id = Uuid::from_bytes(*from.fixed()?);
        let count = usize::from(from.u8()?);
        if count > MAX_STATES {
            return Err(StoredRecordError::Damaged);
        }
        let states = (0..count)
            .map(|_| State::decode(&mut from))
            .collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self {
            distribution_id,
            states,
        })
    }
}

/// A sender's key on its way to another member. Goes through a pairwise session: whoever reads it
/// reads the group.
#[derive(Clone)]
pub struct DistributionMessage {
    distribution_id: Uuid,
    chain_id: u32,
    chain: Chain,
    signing_key: PublicKey,
}

impl DistributionMessage {
    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() < MIN_DISTRIBUTION_LEN {
            return Err(MessageError::TooShort(bytes.len()));
        }
        let fields = DistributionFields::decode(read_version(bytes)?)
            .map_err(|_| MessageError::InvalidEncoding)?;
        let chain_key = Zeroizing::new(required(fields.chain_key)?);
        let signing_key = required(fields.signing_key)?;
        if signing_key.len() > crate::curve::PUBLIC_KEY_LEN {
            return Err(MessageError::InvalidEncoding);
        }
        Ok(Self {
            distribution_id: read_uuid(fields.distribution_id)?,
            chain_id: required(fields.chain_id)?,
            chain: Chain {
                iteration: required(fields.iteration)?,
                key: Secret::from_slice(&chain_key).ok_or(MessageError::InvalidEncoding)?,
            },
            signing_key: PublicKey::decode(&signing_key)?,
        })
    }

    /// The serialised form.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut fields = DistributionFields {
            distribution_id: Some(self.distribution_id.as_bytes().to_vec()),
            chain_id: Some(self.chain_id),
            iteration: Some(self.chain.iteration),
            chain_key: Some(self.chain.key.as_bytes().to_vec()),
            signing_key: Some(self.signing_key.as_bytes().to_vec()),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + fields.encoded_len()));
        bytes.push(VERSION_BYTE);
        fields.encode_raw(&mut *bytes);
        drop(fields.chain_key.take().map(Zeroizing::new));
        bytes
    }

    /// Which distribution the key is for.
    pub fn distribution_id(&self) -> Uuid {
        self.distribution_id
    }

    /// The key's number among the sender's.
    pub fn chain_id(&self) -> u32 {
        self.chain_id
    }

    /// The first message that the key opens.
    pub fn iteration(&self) -> u32 {
        self.chain.iteration
    }
}

impl fmt::Debug for DistributionMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributionMessage")
            .field("distribution_id", &self.distribution_id)
            .field("chain_id", &self.chain_id)
            .field("iteration", &self.chain.iteration)
            .finish_non_exhaustive()
    }
}

/// A message to a group (type 7).
#[derive(Clone, PartialEq, Eq)]
pub struct SenderKeyMessage {
    distribution_id: Uuid,
    chain_id: u32,
    iteration: u32,
    ciphertext: Vec<u8>,
    serialized: Vec<u8>,
}

impl SenderKeyMessage {
    /// Reads the serialised form. The signature is checked when the message is opened.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (signed, _) = bytes
            .split_last_chunk::<SIGNATURE_LEN>()
            .filter(|(signed, _)| !signed.is_empty())
            .ok_or(MessageError::TooShort(bytes.len()))?;
        let fields = MessageFields::decode(read_version(signed)?)
            .map_err(|_| MessageError::InvalidEncoding)?;
        Ok(Self {
            distribution_id: read_uuid(fields.distribution_id)?,
            chain_id: required(fields.chain_id)?,
            iteration: required(fields.iteration)?,
            ciphertext: required(fields.ciphertext)?,
            serialized: bytes.to_vec(),
        })
    }

    /// Which distribution it was sent in; with the sender's address, what records are kept under.
    pub fn distribution_id(&self) -> Uuid {
        self.distribution_id
    }

    /// Which of the sender's keys it uses.
    pub fn chain_id(&self) -> u32 {
        self.chain_id
    }

    /// Its number under that key, from 0.
    pub fn iteration(&self) -> u32 {
        self.iteration
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    fn verify(&self, key: &PublicKey) -> Result<(), SenderKeyError> {
        let (signed, signature) = self
            .serialized
            .split_last_chunk::<SIGNATURE_LEN>()
            .ok_or(SenderKeyError::InvalidSignature)?;
        key.verify(signed, signature)
            .map_err(|_| SenderKeyError::InvalidSignature)
    }
}

impl fmt::Debug for SenderKeyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderKeyMessage")
            .field("distribution_id", &self.distribution_id)
            .field("chain_id", &self.chain_id)
            .field("iteration", &self.iteration)
            .finish_non_exhaustive()
    }
}

/// One key of a sender, with the progress we made along it.
#[derive(Clone)]
struct State {
    chain_id: u32,
    chain: Chain,
    signing_key: PublicKey,
    skipped: SkippedKeys,
}

impl State {
    /// The seed of message `iteration`; keeps those of the messages in between.
    fn seed(&mut self, iteration: u32) -> Result<Secret<32>, SenderKeyError> {
        let next = self.chain.iteration;
        if iteration < next {
            let duplicate = SenderKeyError::Duplicate { iteration, next };
            return self.skipped.take(iteration).ok_or(duplicate);
        }
        if iteration - next > MAX_FORWARD_JUMP {
            return Err(SenderKeyError::TooFarAhead { iteration, next });
        }
        loop {
            let (seed, after) = self.chain.advance().ok_or(SenderKeyError::Exhausted)?;
            let at = self.chain.iteration;
            self.chain = after;
            if at == iteration {
                self.skipped.keep_newest(MAX_SKIPPED as usize);
                return Ok(seed);
            }
            if at.saturating_add(MAX_SKIPPED) >= iteration {
                self.skipped.push(at, &seed);
            }
        }
    }

    fn encoded_len(&self) -> usize {
        4 + Chain::ENCODED_LEN + 33 + 4 + self.skipped.as_bytes().len()
    }

    fn encode(&self, out: &mut Writer) {
        out.u32(self.chain_id);
        self.chain.encode(out);
        out.fixed(self.signing_key.as_bytes());
        out.bytes(self.skipped.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            chain_id: from.u32()?,
            chain: Chain::decode(from)?,
            signing_key: PublicKey::decode(from.slice(33)?)
                .map_err(|_| StoredRecordError::Damaged)?,
            skipped: SkippedKeys::decode(from.bytes()?, MAX_SKIPPED as usize)
                .ok_or(StoredRecordError::Damaged)?,
        })
    }
}

/// A chain key and the number of the message it is for.
#[derive(Clone)]
struct Chain {
    iteration: u32,
    key: Secret<32>,
}

impl Chain {
    const ENCODED_LEN: usize = 4 + 32;

    /// The seed of this message, `HMAC(key, 1)`, and the chain after it, `HMAC(key, 2)`.
    fn advance(&self) -> Option<(Secret<32>, Self)> {
        let iteration = self.iteration.checked_add(1)?;
        let hmac = HmacKey::new(self.key.as_bytes());
        Some((
            hmac.mac(&[&[1]]),
            Self {
                iteration,
                key: hmac.mac(&[&[2]]),
            },
        ))
    }

    fn encode(&self, out: &mut Writer) {
        out.u32(self.iteration);
        out.fixed(self.key.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, StoredRecordError> {
        Ok(Self {
            iteration: from.u32()?,
            key: from.secret()?,
        })
    }
}

/// IV (16 bytes) and cipher key (32) of one message: in this order, unlike in pairwise sessions.
struct MessageKey(Secret<48>);

impl MessageKey {
    fn derive(seed: &Secret<32>) -> Self {
        Self(kdf::hkdf(&[0; 32], seed.as_bytes(), &[b"WhisperGroup"]))
    }

    /// AES-256-CBC with PKCS#7 padding.
    #[expect(
        clippy::expect_used,
        reason = "32-byte key and 16-byte IV by construction"
    )]
    fn encrypt(&self, plaintext: &[u8]) -> Vec<u8> {
        let (iv, key) = self.0.as_bytes().split_at(16);
        cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .expect("lengths of AES-256-CBC")
            .encrypt_padded_vec::<Pkcs7>(plaintext)
    }

    /// `None` for a length that is not a positive multiple of 16, or wrong padding.
    #[expect(
        clippy::expect_used,
        reason = "32-byte key and 16-byte IV by construction"
    )]
    fn decrypt(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let (iv, key) = self.0.as_bytes().split_at(16);
        cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .expect("lengths of AES-256-CBC")
            .decrypt_padded_vec::<Pkcs7>(ciphertext)
            .ok()
    }
}

/// Protobuf field layout of a distribution message.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct DistributionFields {
    #[prost(bytes = "vec", optional, tag = "1")]
    distribution_id: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "2")]
    chain_id: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    iteration: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    chain_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    signing_key: Option<Vec<u8>>,
}

/// Required by the protobuf runtime; the layout holds a secret, so it shows nothing.
impl fmt::Debug for DistributionFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DistributionFields(..)")
    }
}

/// Protobuf field layout of a group message.
#[derive(Clone, PartialEq, Message)]
struct MessageFields {
    #[prost(bytes = "vec", optional, tag = "1")]
    distribution_id: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "2")]
    chain_id: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    iteration: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    ciphertext: Option<Vec<u8>>,
}

/// Checks the version in the high half of the first byte; yields the protobuf after it.
fn read_version(bytes: &[u8]) -> Result<&[u8], MessageError> {
    let (first, rest) = bytes.split_first().ok_or(MessageError::TooShort(0))?;
    match first >> 4 {
        3 => Ok(rest),
        version @ 0..3 => Err(MessageError::LegacyVersion(version)),
        version => Err(MessageError::UnrecognizedVersion(version)),
    }
}

fn read_uuid(field: Option<Vec<u8>>) -> Result<Uuid, MessageError> {
    Uuid::from_slice(&required(field)?).map_err(|_| MessageError::InvalidEncoding)
}

fn required<T>(field: Option<T>) -> Result<T, MessageError> {
    field.ok_or(MessageError::InvalidEncoding)
}
