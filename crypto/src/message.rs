//! What travels: signal messages and the pre-key messages that wrap the first of them.
//!
//! Decoding checks form only. Whether a message is genuine shows when a session opens it.

use std::fmt;

use prost::Message;
use subtle::ConstantTimeEq;

use crate::{
    address::DeviceAddress,
    curve::{KeyError, PublicKey},
    identity::IdentityKey,
    kdf::hmac,
    kem::{self, KemError},
    prekey::{KyberPreKeyId, OneTimePreKeyId, SignedPreKeyId},
};

/// The session version of everything this crate writes.
pub(crate) const VERSION: u8 = 4;

/// Low half of the version byte that this crate writes; receivers ignore it.
const VERSION_BYTE: u8 = (VERSION << 4) | VERSION;

/// Length of a signal message's MAC.
const MAC_LEN: usize = 8;

/// What kind of message some bytes are, by the number it has beside the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    /// A message in an established session.
    Signal,
    /// A message that also starts a session.
    PreKey,
    /// A message to a group, under a sender key.
    SenderKey,
    /// A decryption-error message, in the clear.
    Plaintext,
}

impl MessageType {
    /// The outer type number (not the one inside a sealed-sender envelope).
    pub fn number(self) -> u8 {
        match self {
            Self::Signal => 2,
            Self::PreKey => 3,
            Self::SenderKey => 7,
            Self::Plaintext => 8,
        }
    }

    /// The kind with this outer type number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Signal),
            3 => Some(Self::PreKey),
            7 => Some(Self::SenderKey),
            8 => Some(Self::Plaintext),
            _ => None,
        }
    }
}

/// An encrypted message ready to travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CiphertextMessage {
    /// Which kind it is; travels beside the bytes.
    pub message_type: MessageType,
    /// The serialised message.
    pub bytes: Vec<u8>,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Fewer bytes than any message has.
    #[error("message of {0} bytes is too short")]
    TooShort(usize),
    /// A session version that is no longer spoken (before PQXDH).
    #[error("message version {0} is no longer supported")]
    LegacyVersion(u8),
    /// A session version newer than this software.
    #[error("message version {0} is not known")]
    UnrecognizedVersion(u8),
    /// The protobuf is malformed or lacks a required field.
    #[error("invalid protobuf encoding, or a required field is missing")]
    InvalidEncoding,
    /// A public key in the message is malformed.
    #[error("invalid key in message: {0}")]
    Key(#[from] KeyError),
    /// The Kyber ciphertext is malformed.
    #[error("invalid Kyber ciphertext in message: {0}")]
    Kem(#[from] KemError),
}

/// Protobuf field layout of a signal message.
#[derive(Clone, PartialEq, Message)]
struct SignalFields {
    #[prost(bytes = "vec", optional, tag = "1")]
    ratchet_key: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "2")]
    counter: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    previous_counter: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    ciphertext: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pq_ratchet: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    addresses: Option<Vec<u8>>,
}

/// Protobuf field layout of a pre-key message.
#[derive(Clone, PartialEq, Message)]
struct PreKeyFields {
    #[prost(uint32, optional, tag = "1")]
    one_time_id: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    base_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    identity_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    message: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "5")]
    registration_id: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    signed_id: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    kyber_id: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "8")]
    kyber_ciphertext: Option<Vec<u8>>,
}

/// A message in a session (type 2), also found inside a pre-key message.
#[derive(Clone, PartialEq, Eq)]
pub struct SignalMessage {
    version: u8,
    ratchet_key: PublicKey,
    counter: u32,
    previous_counter: u32,
    ciphertext: Vec<u8>,
    pq_ratchet: Vec<u8>,
    addresses: Option<Vec<u8>>,
    serialized: Vec<u8>,
}

/// Everything of a signal message but its MAC.
pub(crate) struct SignalMessageParts {
    pub(crate) ratchet_key: PublicKey,
    pub(crate) counter: u32,
    pub(crate) previous_counter: u32,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) pq_ratchet: Vec<u8>,
    pub(crate) addresses: Option<[u8; 36]>,
}

impl SignalMessage {
    /// Reads a serialised message. Version 3 still has this form; no session of this software
    /// opens it.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let too_short = MessageError::TooShort(bytes.len());
        let (&first, rest) = bytes.split_first().ok_or(too_short)?;
        let (body, _mac) = rest.split_last_chunk::<MAC_LEN>().ok_or(too_short)?;
        let version = read_version(first)?;
        let fields = SignalFields::decode(body).map_err(|_| MessageError::InvalidEncoding)?;
        Ok(Self {
            version,
            ratchet_key: PublicKey::decode(&required(fields.ratchet_key)?)?,
            counter: required(fields.counter)?,
            previous_counter: fields.previous_counter.unwrap_or(0),
            ciphertext: required(fields.ciphertext)?,
            pq_ratchet: fields.pq_ratchet.unwrap_or_default(),
            addresses: fields.addresses,
            serialized: bytes.to_vec(),
        })
    }

    /// Serialises and authenticates; `sender` is whoever encrypts.
    pub(crate) fn seal(
        parts: SignalMessageParts,
        mac_key: &[u8],
        sender: &IdentityKey,
        receiver: &IdentityKey,
    ) -> Vec<u8> {
        let fields = SignalFields {
            ratchet_key: Some(parts.ratchet_key.as_bytes().to_vec()),
            counter: Some(parts.counter),
            previous_counter: Some(parts.previous_counter),
            ciphertext: Some(parts.ciphertext),
            pq_ratchet: Some(parts.pq_ratchet).filter(|bytes| !bytes.is_empty()),
            addresses: parts.addresses.map(|bytes| bytes.to_vec()),
        };
        let mut out = Vec::with_capacity(1 + fields.encoded_len() + MAC_LEN);
        out.push(VERSION_BYTE);
        fields.encode_raw(&mut out);
        let mac = hmac(mac_key, &[sender.as_bytes(), receiver.as_bytes(), &out]);
        out.extend(mac.as_bytes().iter().take(MAC_LEN));
        out
    }

    /// Checks the MAC over the bytes as they were received.
    pub(crate) fn verify_mac(
        &self,
        mac_key: &[u8],
        sender: &IdentityKey,
        receiver: &IdentityKey,
    ) -> bool {
        let Some((covered, theirs)) = self.serialized.split_last_chunk::<MAC_LEN>() else {
            return false;
        };
        let ours = hmac(mac_key, &[sender.as_bytes(), receiver.as_bytes(), covered]);
        let (ours, _) = ours.as_bytes().split_at(MAC_LEN);
        theirs.as_slice().ct_eq(ours).into()
    }

    /// Whether the addresses in the message, if it carries any, are these two.
    pub(crate) fn addresses_match(&self, from: &DeviceAddress, to: &DeviceAddress) -> bool {
        match &self.addresses {
            None => true,
            Some(claimed) => addresses(from, to)
                .is_some_and(|expected| bool::from(expected.as_slice().ct_eq(claimed))),
        }
    }

    /// The sender's ratchet key.
    pub fn ratchet_key(&self) -> &PublicKey {
        &self.ratchet_key
    }

    /// The message's number in its sending chain, from 0.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// What the message says of the chain before its own; receivers make no use of it.
    pub fn previous_counter(&self) -> u32 {
        self.previous_counter
    }

    /// The session version it was sent in.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    pub(crate) fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// The post-quantum ratchet's part, as it travels.
    pub fn pq_ratchet(&self) -> &[u8] {
        &self.pq_ratchet
    }
}

impl fmt::Debug for SignalMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalMessage")
            .field("version", &self.version)
            .field("counter", &self.counter)
            .field("len", &self.serialized.len())
            .finish_non_exhaustive()
    }
}

/// A message that carries what its recipient needs to accept a session (type 3).
#[derive(Clone, PartialEq, Eq)]
pub struct PreKeyMessage {
    registration_id: u32,
    one_time_id: Option<OneTimePreKeyId>,
    signed_id: SignedPreKeyId,
    kyber_id: KyberPreKeyId,
    kyber_ciphertext: Vec<u8>,
    base_key: PublicKey,
    identity: IdentityKey,
    message: SignalMessage,
    serialized: Vec<u8>,
}

/// The handshake part of a pre-key message.
pub(crate) struct PreKeyMessageParts<'a> {
    pub(crate) registration_id: u32,
    pub(crate) one_time_id: Option<OneTimePreKeyId>,
    pub(crate) signed_id: SignedPreKeyId,
    pub(crate) kyber_id: KyberPreKeyId,
    pub(crate) kyber_ciphertext: &'a kem::Ciphertext,
    pub(crate) base_key: &'a PublicKey,
    pub(crate) identity: &'a IdentityKey,
    pub(crate) message: Vec<u8>,
}

impl PreKeyMessage {
    /// Reads a serialised message.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&first, body) = bytes.split_first().ok_or(MessageError::TooShort(0))?;
        let version = read_version(first)?;
        if version < VERSION {
            return Err(MessageError::LegacyVersion(version));
        }
        let fields = PreKeyFields::decode(body).map_err(|_| MessageError::InvalidEncoding)?;
        Ok(Self {
            registration_id: fields.registration_id.unwrap_or(0),
            one_time_id: fields.one_time_id.map(OneTimePreKeyId),
            signed_id: SignedPreKeyId(required(fields.signed_id)?),
            kyber_id: KyberPreKeyId(required(fields.kyber_id)?),
            kyber_ciphertext: required(fields.kyber_ciphertext)?,
            base_key: PublicKey::decode(&required(fields.base_key)?)?,
            identity: IdentityKey::decode(&required(fields.identity_key)?)?,
            message: SignalMessage::decode(&required(fields.message)?)?,
            serialized: bytes.to_vec(),
        })
    }

    pub(crate) fn encode(parts: PreKeyMessageParts<'_>) -> Vec<u8> {
        let fields = PreKeyFields {
            one_time_id: parts.one_time_id.map(|id| id.0),
            base_key: Some(parts.base_key.as_bytes().to_vec()),
            identity_key: Some(parts.identity.as_bytes().to_vec()),
            message: Some(parts.message),
            registration_id: Some(parts.registration_id),
            signed_id: Some(parts.signed_id.0),
            kyber_id: Some(parts.kyber_id.0),
            kyber_ciphertext: Some(parts.kyber_ciphertext.as_bytes().to_vec()),
        };
        let mut out = Vec::with_capacity(1 + fields.encoded_len());
        out.push(VERSION_BYTE);
        fields.encode_raw(&mut out);
        out
    }

    /// The sender's registration id. Nothing authenticates it: anyone on the way can change it.
    pub fn registration_id(&self) -> u32 {
        self.registration_id
    }

    /// Which one-time prekey of ours the sender used, if any.
    pub fn one_time_id(&self) -> Option<OneTimePreKeyId> {
        self.one_time_id
    }

    /// Which signed prekey of ours the sender used.
    pub fn signed_id(&self) -> SignedPreKeyId {
        self.signed_id
    }

    /// Which Kyber prekey of ours the sender used.
    pub fn kyber_id(&self) -> KyberPreKeyId {
        self.kyber_id
    }

    /// The sender's ephemeral key, which names the session.
    pub fn base_key(&self) -> &PublicKey {
        &self.base_key
    }

    /// The identity that the sender claims.
    pub fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    /// The message inside.
    pub fn message(&self) -> &SignalMessage {
        &self.message
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    /// The Kyber ciphertext, checked only when it is needed: a repeat of the wrapping in a known
    /// session is read without it.
    pub(crate) fn kyber_ciphertext(&self) -> Result<kem::Ciphertext, KemError> {
        kem::Ciphertext::decode(&self.kyber_ciphertext)
    }
}

impl fmt::Debug for PreKeyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreKeyMessage")
            .field("one_time_id", &self.one_time_id)
            .field("signed_id", &self.signed_id)
            .field("kyber_id", &self.kyber_id)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// The `addresses` field: sender, then recipient; `None` unless both names are service ids.
pub(crate) fn addresses(from: &DeviceAddress, to: &DeviceAddress) -> Option<[u8; 36]> {
    let mut bytes = [0; 36];
    let (sender, recipient) = bytes.split_at_mut(18);
    sender.copy_from_slice(&from.wire_bytes()?);
    recipient.copy_from_slice(&to.wire_bytes()?);
    Some(bytes)
}

/// The high half of the first byte; the low half means nothing to receivers.
fn read_version(first: u8) -> Result<u8, MessageError> {
    match first >> 4 {
        version @ 0..3 => Err(MessageError::LegacyVersion(version)),
        version @ 3..=VERSION => Ok(version),
        version => Err(MessageError::UnrecognizedVersion(version)),
    }
}

fn required<T>(field: Option<T>) -> Result<T, MessageError> {
    field.ok_or(MessageError::InvalidEncoding)
}
