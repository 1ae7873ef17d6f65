//! The form for one recipient, version 1 (spec §5.4).
//!
//! Two layers: an ephemeral key hides the sender's identity key, and that identity key
//! authenticates the content.

use aes::Aes256;
use ctr::{
    Ctr32BE,
    cipher::{KeyIvInit, StreamCipher},
};
use prost::Message;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::{OpenError, content::SealedContent};
use crate::{
    curve::{InvalidKeyAgreement, KeyPair, PrivateKey, PublicKey},
    identity::{IdentityKey, IdentityKeyPair},
    kdf,
    secret::Secret,
};

const VERSION_BYTE: u8 = 0x11;

/// Length of the truncated MAC of each layer.
const MAC_LEN: usize = 10;

const SALT_PREFIX: &[u8] = b"UnidentifiedDelivery";

/// Seals a message for one recipient. Draws 32 bytes for an ephemeral key.
///
/// # Errors
///
/// When the recipient's identity key has small order.
pub fn seal(
    content: &SealedContent,
    sender: &IdentityKeyPair,
    recipient: &IdentityKey,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, InvalidKeyAgreement> {
    let ephemeral = KeyPair::generate(rng);
    let outer = Keys::outer(
        ephemeral.private(),
        recipient.public_key(),
        recipient,
        ephemeral.public(),
    )?;
    let encrypted_static = outer.seal(sender.identity_key().as_bytes());
    let inner = Keys::inner(
        &outer,
        &encrypted_static,
        sender.private_key(),
        recipient.public_key(),
    )?;
    let fields = Fields {
        ephemeral: Some(ephemeral.public().as_bytes().to_vec()),
        encrypted_static: Some(encrypted_static),
        encrypted_message: Some(inner.seal(content.as_bytes())),
    };
    let mut bytes = Vec::with_capacity(1 + fields.encoded_len());
    bytes.push(VERSION_BYTE);
    fields.encode_raw(&mut bytes);
    Ok(bytes)
}

/// Opens what follows the version byte.
pub(super) fn open(body: &[u8], recipient: &IdentityKeyPair) -> Result<SealedContent, OpenError> {
    let fields = Fields::decode(body).map_err(|_| OpenError::Malformed)?;
    let ephemeral = PublicKey::decode(&fields.ephemeral.ok_or(OpenError::Malformed)?)?;
    let encrypted_static = fields.encrypted_static.ok_or(OpenError::Malformed)?;
    let encrypted_message = fields.encrypted_message.ok_or(OpenError::Malformed)?;

    let ours = recipient.private_key();
    let outer = Keys::outer(ours, &ephemeral, &recipient.identity_key(), &ephemeral)?;
    let sender = outer
        .open(&encrypted_static)
        .ok_or(OpenError::NotAuthentic)?;
    let sender = PublicKey::decode(&sender)?;
    let inner = Keys::inner(&outer, &encrypted_static, ours, &sender)?;
    let content = inner
        .open(&encrypted_message)
        .ok_or(OpenError::NotAuthentic)?;
    let content = SealedContent::decode(&content)?;
    if content.sender_certificate().claims().identity == IdentityKey::from(sender) {
        Ok(content)
    } else {
        Err(OpenError::SenderMismatch)
    }
}

/// Chain, cipher and MAC key of one layer, 32 bytes each. The chain of the inner one is unused.
struct Keys(Secret<96>);

impl Keys {
    /// From the agreement between the ephemeral key and the recipient's identity.
    fn outer(
        ours: &PrivateKey,
        theirs: &PublicKey,
        recipient: &IdentityKey,
        ephemeral: &PublicKey,
    ) -> Result<Self, InvalidKeyAgreement> {
        let salt = [SALT_PREFIX, recipient.as_bytes(), ephemeral.as_bytes()].concat();
        Ok(Self(kdf::hkdf(&salt, ours.agree(theirs)?.as_bytes(), &[])))
    }

    /// From the agreement between the two identities, bound to the outer layer.
    fn inner(
        outer: &Self,
        encrypted_static: &[u8],
        ours: &PrivateKey,
        theirs: &PublicKey,
    ) -> Result<Self, InvalidKeyAgreement> {
        let mut salt = zeroize::Zeroizing::new(Vec::with_capacity(32 + encrypted_static.len()));
        salt.extend_from_slice(outer.chain());
        salt.extend_from_slice(encrypted_static);
        Ok(Self(kdf::hkdf(&salt, ours.agree(theirs)?.as_bytes(), &[])))
    }

    /// AES-256-CTR, then the truncated HMAC over the ciphertext.
    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(plaintext.len() + MAC_LEN);
        bytes.extend_from_slice(plaintext);
        self.apply_keystream(&mut bytes);
        let mac = kdf::hmac(self.mac_key(), &[&bytes]);
        bytes.extend(mac.as_bytes().iter().take(MAC_LEN));
        bytes
    }

    /// The reverse; `None` if the MAC does not fit.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, theirs) = sealed.split_last_chunk::<MAC_LEN>()?;
        let ours = kdf::hmac(self.mac_key(), &[ciphertext]);
        let (ours, _) = ours.as_bytes().split_at(MAC_LEN);
        if !bool::from(ours.ct_eq(theirs)) {
            return None;
        }
        let mut plaintext = ciphertext.to_vec();
        self.apply_keystream(&mut plaintext);
        Some(plaintext)
    }

    /// The counter starts at zero: no key is used twice.
    #[expect(
        clippy::expect_used,
        reason = "32-byte key and 16-byte block by construction"
    )]
    fn apply_keystream(&self, bytes: &mut [u8]) {
        Ctr32BE::<Aes256>::new_from_slices(self.cipher_key(), &[0; 16])
            .expect("lengths of AES-256-CTR")
            .apply_keystream(bytes);
    }

    fn chain(&self) -> &[u8] {
        self.0.as_bytes().split_at(32).0
    }

    fn cipher_key(&self) -> &[u8] {
        self.0.as_bytes().split_at(32).1.split_at(32).0
    }

    fn mac_key(&self) -> &[u8] {
        self.0.as_bytes().split_at(64).1
    }
}

/// Protobuf field layout.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(bytes = "vec", optional, tag = "1")]
    ephemeral: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    encrypted_static: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    encrypted_message: Option<Vec<u8>>,
}
