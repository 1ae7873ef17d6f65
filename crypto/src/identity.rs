//! A device's long-term key.

use std::fmt;

use rand_core::CryptoRng;

use crate::{
    address::DeviceAddress,
    curve::{
        InvalidSignature, KeyError, KeyPair, PUBLIC_KEY_LEN, PrivateKey, PublicKey, SIGNATURE_LEN,
    },
};

/// The public identity key of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey(PublicKey);

impl IdentityKey {
    /// Reads the 33-byte serialised form.
    ///
    /// # Errors
    ///
    /// As [`PublicKey::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        PublicKey::decode(bytes).map(Self)
    }

    /// The key as a curve point.
    pub fn public_key(&self) -> &PublicKey {
        &self.0
    }

    /// The 33-byte serialised form.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        self.0.as_bytes()
    }

    /// Checks that this identity vouches for `other`, another identity of the same account.
    ///
    /// # Errors
    ///
    /// When the signature does not fit.
    pub fn verify_alternate_identity(
        &self,
        other: &Self,
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.0.verify(&alternate_identity_message(other), signature)
    }
}

impl From<PublicKey> for IdentityKey {
    fn from(key: PublicKey) -> Self {
        Self(key)
    }
}

/// A device's identity key with its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityKeyPair {
    pair: KeyPair,
}

impl IdentityKeyPair {
    /// A fresh identity.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self {
            pair: KeyPair::generate(rng),
        }
    }

    /// The public half.
    pub fn identity_key(&self) -> IdentityKey {
        IdentityKey(*self.pair.public())
    }

    /// The private half.
    pub fn private_key(&self) -> &PrivateKey {
        self.pair.private()
    }

    /// The XEdDSA signature of a prekey, or of anything else this identity vouches for.
    pub fn sign(&self, message: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> [u8; SIGNATURE_LEN] {
        self.pair.private().sign(message, rng)
    }

    /// Vouches for another identity of the same account.
    pub fn sign_alternate_identity(
        &self,
        other: &IdentityKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> [u8; SIGNATURE_LEN] {
        self.sign(&alternate_identity_message(other), rng)
    }
}

impl From<PrivateKey> for IdentityKeyPair {
    fn from(private: PrivateKey) -> Self {
        Self {
            pair: private.into(),
        }
    }
}

fn alternate_identity_message(other: &IdentityKey) -> Vec<u8> {
    [&[0xff; 32], &b"Signal_PNI_Signature"[..], other.as_bytes()].concat()
}

/// What this device is in every session it has.
#[derive(Clone)]
pub struct LocalIdentity {
    /// The device's identity key.
    pub key_pair: IdentityKeyPair,
    /// The number, 1 to 16380, that tells installations of one address apart.
    pub registration_id: u32,
    /// The address that peers know this device by.
    pub address: DeviceAddress,
}

impl fmt::Debug for LocalIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIdentity")
            .field("address", &self.address)
            .field("registration_id", &self.registration_id)
            .finish_non_exhaustive()
    }
}
