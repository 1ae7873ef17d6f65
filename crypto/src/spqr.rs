//! SPQR, the sparse post-quantum ratchet (spec §4): one key a message, healed by a fresh ML-KEM
//! secret an epoch.
//!
//! Three layers: `braid` agrees the secrets, chunk by chunk (`erasure`, `gf`), under an
//! `authenticator`; `chain` turns each into a key per message and direction; `message` carries one
//! move of the braid and says which key was used. Knows nothing of the elliptic-curve ratchet,
//! which mixes the keys made here into its own.
//!
//! The state is advanced once for every signal message sent and once for every one received, and
//! goes wherever the session goes.

mod authenticator;
mod braid;
mod chain;
mod erasure;
mod gf;
mod message;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use self::{
    braid::Braid,
    chain::{Chains, Direction, MAX_FORWARD_JUMP},
    message::Message,
};
use crate::{
    codec::{Reader, StoredRecordError, Writer},
    kem::incremental::InvalidKeyVector,
    secret::Secret,
};

/// One end's state.
#[derive(Clone)]
pub struct SpqrState {
    braid: Braid,
    chains: Chains,
}

/// Why a message was refused (or, for [`Self::ChainExhausted`], cannot be sent). The state is as it
/// was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpqrError {
    /// The bytes are not an SPQR message: the peer's fault, or damage on the way.
    #[error("malformed SPQR message")]
    Malformed,
    /// Another protocol version, or (0) no SPQR message at all. There is no downgrade.
    #[error("SPQR version {0} is not the required version 1")]
    UnsupportedVersion(u8),
    /// An epoch that is not open: further on than the peer can be, or too old.
    #[error("SPQR epoch {0} out of range")]
    EpochOutOfRange(u64),
    /// The key of this message was already handed out: a repeat.
    #[error("SPQR key {index} was already used")]
    KeyAlreadyUsed {
        /// Index of the key in its epoch.
        index: u32,
    },
    /// The message is more than 2,000 behind the newest of its epoch.
    #[error("SPQR key {index} is too old and was forgotten")]
    KeyTrimmed {
        /// Index of the key in its epoch.
        index: u32,
    },
    /// The message is more than 25,000 ahead of the newest of its epoch.
    #[error("SPQR key {index} is too far ahead of {counter}")]
    KeyJump {
        /// Index of the key in its epoch.
        index: u32,
        /// Index of the last key taken.
        counter: u32,
    },
    /// All 2^32 − 1 keys of the epoch are used up. A new session is needed.
    #[error("SPQR chain has no keys left")]
    ChainExhausted,
    /// A complete encapsulation key header does not carry the peer's MAC.
    #[error("SPQR header fails authentication")]
    HeaderMac,
    /// A complete ciphertext does not carry the peer's MAC.
    #[error("SPQR ciphertext fails authentication")]
    CiphertextMac,
    /// A complete encapsulation key does not belong to its header.
    #[error("SPQR encapsulation key does not match its header")]
    KeyVector,
}

impl From<InvalidKeyVector> for SpqrError {
    fn from(_: InvalidKeyVector) -> Self {
        Self::KeyVector
    }
}

impl SpqrState {
    /// The state of the end that initiated the session, from the 32 bytes that the handshake made
    /// for it. In a `self_session`, between devices of one account that share an identity, there
    /// is no limit to how far ahead a message may be.
    pub fn initiator(auth_key: &[u8; 32], self_session: bool) -> Self {
        Self::start(auth_key, Direction::Initiator, self_session)
    }

    /// The state of the end that was contacted; otherwise as [`Self::initiator`].
    pub fn responder(auth_key: &[u8; 32], self_session: bool) -> Self {
        Self::start(auth_key, Direction::Responder, self_session)
    }

    fn start(auth_key: &[u8; 32], direction: Direction, self_session: bool) -> Self {
        let max_jump = if self_session {
            u32::MAX
        } else {
            MAX_FORWARD_JUMP
        };
        Self {
            braid: Braid::start(auth_key, direction),
            chains: Chains::start(auth_key, direction, max_jump),
        }
    }

    /// The SPQR part of the next message we send, and the key to mix into that message's keys.
    ///
    /// Draws 64 bytes from `rng` when it begins an epoch's key, 32 when it encapsulates to the
    /// peer's, and none otherwise.
    ///
    /// # Errors
    ///
    /// [`SpqrError::ChainExhausted`] after 2^32 − 1 messages in one epoch.
    pub fn send(
        &mut self,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(Vec<u8>, Secret<32>), SpqrError> {
        let epoch = self.braid.epoch();
        if self.chains.is_exhausted(epoch - 1) {
            return Err(SpqrError::ChainExhausted);
        }
        let (payload, secret) = self.braid.send(rng);
        if let Some(secret) = secret {
            self.chains.add_epoch(secret.epoch, &secret.secret)?;
        }
        let (index, key) = self.chains.send(epoch - 1)?;
        Ok((
            Message {
                epoch,
                index,
                payload,
            }
            .encode(),
            key,
        ))
    }

    /// The state after the SPQR part of a message received, and the key to mix into that message's
    /// keys. The caller replaces its state once the whole message has proved authentic: until then
    /// anyone may have written these bytes.
    ///
    /// # Errors
    ///
    /// See [`SpqrError`].
    pub fn received(&self, bytes: &[u8]) -> Result<(Self, Secret<32>), SpqrError> {
        let Message {
            epoch,
            index,
            payload,
        } = Message::decode(bytes)?;
        let (braid, secret) = self.braid.clone().receive(epoch, payload)?;
        let mut chains = self.chains.clone();
        if let Some(secret) = secret {
            chains.add_epoch(secret.epoch, &secret.secret)?;
        }
        let key = chains.receive(epoch - 1, index)?;
        Ok((Self { braid, chains }, key))
    }

    /// [`Self::received`] for a caller that works on a copy already.
    ///
    /// # Errors
    ///
    /// See [`SpqrError`]; the state is then unchanged.
    pub fn recv(&mut self, bytes: &[u8]) -> Result<Secret<32>, SpqrError> {
        let (next, key) = self.received(bytes)?;
        *self = next;
        Ok(key)
    }

    /// The state as bytes for a store that keeps secrets. Private format.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out.finish()
    }

    /// Appends what [`Self::encode`] returns.
    pub(crate) fn encode_into(&self, out: &mut Writer) {
        out.u8(STORED_VERSION);
        self.chains.encode(out);
        self.braid.encode(out);
    }

    /// The length of what [`Self::encode`] returns.
    pub(crate) fn encoded_len(&self) -> usize {
        1 + self.chains.encoded_len() + self.braid.encoded_len()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`StoredRecordError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut from = Reader::version(bytes, STORED_VERSION)?;
        let chains = Chains::decode(&mut from)?;
        let braid = Braid::decode(&mut from)?;
        from.end()?;
        Ok(Self { braid, chains })
    }
}

/// Version of the stored form, its first byte.
const STORED_VERSION: u8 = 1;

#[cfg(test)]
mod tests;
