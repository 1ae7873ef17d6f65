//! Prekeys: the keys a device leaves with the relay so that others can start a session with it.

use std::{fmt, ops::Deref};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    address::DeviceId,
    codec::{Reader, StoredRecordError, Writer},
    curve::{KeyPair, PrivateKey, PublicKey, SIGNATURE_LEN},
    identity::{IdentityKey, IdentityKeyPair},
    kem,
    timestamp::Timestamp,
};

/// Version byte of every stored prekey.
const FORMAT: u8 = 1;

macro_rules! prekey_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl From<u32> for $name {
            fn from(id: u32) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

prekey_id!(
    /// Which of a device's signed prekeys.
    SignedPreKeyId
);
prekey_id!(
    /// Which of a device's Kyber prekeys, one-time and last-resort alike.
    KyberPreKeyId
);
prekey_id!(
    /// Which of a device's one-time prekeys.
    OneTimePreKeyId
);

/// A medium-term X25519 prekey, signed by the identity key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPreKey {
    id: SignedPreKeyId,
    created: Timestamp,
    pair: KeyPair,
    signature: [u8; SIGNATURE_LEN],
}

impl SignedPreKey {
    /// A fresh prekey, signed by `identity`.
    pub fn generate(
        id: SignedPreKeyId,
        identity: &IdentityKeyPair,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let private = PrivateKey::generate(rng);
        Self::import(id, private, identity, now, rng)
    }

    /// A prekey from a given private key, signed by `identity`.
    pub fn import(
        id: SignedPreKeyId,
        private: PrivateKey,
        identity: &IdentityKeyPair,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let pair = KeyPair::from(private);
        let signature = identity.sign(pair.public().as_bytes(), rng);
        Self {
            id,
            created: now,
            pair,
            signature,
        }
    }

    /// Its number.
    pub fn id(&self) -> SignedPreKeyId {
        self.id
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What goes to the relay.
    pub fn public(&self) -> SignedPreKeyPublic {
        SignedPreKeyPublic {
            id: self.id,
            key: *self.pair.public(),
            signature: self.signature,
        }
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The private record, for a store that keeps secrets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(160);
        out.u8(FORMAT);
        out.u32(self.id.0);
        out.u64(self.created.as_millis());
        out.fixed(self.pair.private().as_bytes());
        out.fixed(&self.signature);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the record is of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut reader = Reader::version(bytes, FORMAT)?;
        let record = Self {
            id: SignedPreKeyId(reader.u32()?),
            created: Timestamp::from_millis(reader.u64()?),
            pair: read_pair(&mut reader)?,
            signature: *reader.fixed()?,
        };
        reader.end()?;
        Ok(record)
    }
}

/// The public half of a [`SignedPreKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedPreKeyPublic {
    /// Its number.
    pub id: SignedPreKeyId,
    /// The prekey.
    pub key: PublicKey,
    /// The identity key's signature over the serialised prekey.
    pub signature: [u8; SIGNATURE_LEN],
}

/// An X25519 prekey that is handed out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimePreKey {
    id: OneTimePreKeyId,
    pair: KeyPair,
}

impl OneTimePreKey {
    /// A fresh prekey.
    pub fn generate(id: OneTimePreKeyId, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::import(id, PrivateKey::generate(rng))
    }

    /// A prekey from a given private key.
    pub fn import(id: OneTimePreKeyId, private: PrivateKey) -> Self {
        Self {
            id,
            pair: private.into(),
        }
    }

    /// Its number.
    pub fn id(&self) -> OneTimePreKeyId {
        self.id
    }

    /// What goes to the relay.
    pub fn public(&self) -> OneTimePreKeyPublic {
        OneTimePreKeyPublic {
            id: self.id,
            key: *self.pair.public(),
        }
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The private record, for a store that keeps secrets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(64);
        out.u8(FORMAT);
        out.u32(self.id.0);
        out.fixed(self.pair.private().as_bytes());
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the record is of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut reader = Reader::version(bytes, FORMAT)?;
        let record = Self {
            id: OneTimePreKeyId(reader.u32()?),
            pair: read_pair(&mut reader)?,
        };
        reader.end()?;
        Ok(record)
    }
}

/// The public half of a [`OneTimePreKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneTimePreKeyPublic {
    /// Its number.
    pub id: OneTimePreKeyId,
    /// The prekey; not signed.
    pub key: PublicKey,
}

/// A Kyber-1024 prekey, signed by the identity key: one-time, or the last resort.
#[derive(Debug, Clone)]
pub struct KyberPreKey {
    id: KyberPreKeyId,
    created: Timestamp,
    pair: kem::KeyPair,
    signature: [u8; SIGNATURE_LEN],
}

impl KyberPreKey {
    /// A fresh prekey, signed by `identity`.
    pub fn generate(
        id: KyberPreKeyId,
        identity: &IdentityKeyPair,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let pair = kem::KeyPair::generate(rng);
        Self::import(id, pair, identity, now, rng)
    }

    /// A prekey from a given key pair, signed by `identity`.
    pub fn import(
        id: KyberPreKeyId,
        pair: kem::KeyPair,
        identity: &IdentityKeyPair,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let signature = identity.sign(pair.public().as_bytes(), rng);
        Self {
            id,
            created: now,
            pair,
            signature,
        }
    }

    /// Its number.
    pub fn id(&self) -> KyberPreKeyId {
        self.id
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What goes to the relay.
    pub fn public(&self) -> KyberPreKeyPublic {
        KyberPreKeyPublic {
            id: self.id,
            key: self.pair.public().clone(),
            signature: self.signature,
        }
    }

    pub(crate) fn pair(&self) -> &kem::KeyPair {
        &self.pair
    }

    /// The private record, for a store that keeps secrets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(kem::SECRET_KEY_LEN + 128);
        out.u8(FORMAT);
        out.u32(self.id.0);
        out.u64(self.created.as_millis());
        out.fixed(self.pair.secret_bytes());
        out.fixed(&self.signature);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the record is of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredRecordError> {
        let mut reader = Reader::version(bytes, FORMAT)?;
        let record = Self {
            id: KyberPreKeyId(reader.u32()?),
            created: Timestamp::from_millis(reader.u64()?),
            pair: kem::KeyPair::decode(reader.slice(kem::SECRET_KEY_LEN)?)
                .map_err(|_| StoredRecordError::Damaged)?,
            signature: *reader.fixed()?,
        };
        reader.end()?;
        Ok(record)
    }
}

/// The public half of a [`KyberPreKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KyberPreKeyPublic {
    /// Its number.
    pub id: KyberPreKeyId,
    /// The prekey.
    pub key: kem::PublicKey,
    /// The identity key's signature over the serialised prekey.
    pub signature: [u8; SIGNATURE_LEN],
}

/// What a relay hands to whoever wants to write to a device for the first time. Nothing in it can
/// be used before [`PreKeyBundle::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreKeyBundle {
    /// The device's registration id.
    pub registration_id: u32,
    /// The device's number.
    pub device: DeviceId,
    /// The device's identity key. Whether it is the right one is not the bundle's to say.
    pub identity: IdentityKey,
    /// The signed prekey.
    pub signed: SignedPreKeyPublic,
    /// The Kyber prekey.
    pub kyber: KyberPreKeyPublic,
    /// A one-time prekey, unless the relay has run out.
    pub one_time: Option<OneTimePreKeyPublic>,
}

/// A bundle whose prekeys the identity key did not sign: the relay altered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// The signed prekey's signature does not fit.
    #[error("invalid signature on the signed prekey")]
    SignedPreKey,
    /// The Kyber prekey's signature does not fit.
    #[error("invalid signature on the Kyber prekey")]
    KyberPreKey,
}

impl PreKeyBundle {
    /// Checks both signatures against the bundle's identity key.
    ///
    /// # Errors
    ///
    /// Which signature does not fit.
    pub fn verify(self) -> Result<Verified<Self>, InvalidBundle> {
        let identity = self.identity.public_key();
        identity
            .verify(self.signed.key.as_bytes(), &self.signed.signature)
            .map_err(|_| InvalidBundle::SignedPreKey)?;
        identity
            .verify(self.kyber.key.as_bytes(), &self.kyber.signature)
            .map_err(|_| InvalidBundle::KyberPreKey)?;
        Ok(Verified(self))
    }
}

/// A value that passed its signature check; there is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The private prekeys that a pre-key message names, looked up by the caller in its own store.
#[derive(Debug, Clone, Copy)]
pub struct PreKeyMaterial<'a> {
    /// The signed prekey named by the message.
    pub signed: &'a SignedPreKey,
    /// The Kyber prekey named by the message.
    pub kyber: &'a KyberPreKey,
    /// The one-time prekey, if the message names one.
    pub one_time: Option<&'a OneTimePreKey>,
}

fn read_pair(reader: &mut Reader<'_>) -> Result<KeyPair, StoredRecordError> {
    PrivateKey::from_stored(reader.fixed()?)
        .map(KeyPair::from)
        .ok_or(StoredRecordError::Damaged)
}
