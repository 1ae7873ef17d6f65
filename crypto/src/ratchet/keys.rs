//! Root, chain and message keys, one type each, one derivation step each (spec §3.1).

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

use crate::{
    curve::{InvalidKeyAgreement, PreparedKey, PrivateKey},
    kdf::{HmacKey, hkdf, piece},
    secret::Secret,
};

/// The root key: advances with every change of direction.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RootKey(Secret<32>);

impl RootKey {
    pub(crate) fn new(key: Secret<32>) -> Self {
        Self(key)
    }

    /// `KDF_RK`: mixes in a fresh agreement and yields the next root with the start of a chain.
    pub(crate) fn step(
        &self,
        ours: &PrivateKey,
        theirs: &PreparedKey,
    ) -> Result<(Self, ChainKey), InvalidKeyAgreement> {
        let agreed = ours.agree_prepared(theirs)?;
        let okm: Secret<64> = hkdf(self.0.as_bytes(), agreed.as_bytes(), &[b"WhisperRatchet"]);
        Ok((
            Self(piece::<64, 0, 32>(&okm)),
            ChainKey::new(piece::<64, 32, 32>(&okm), 0),
        ))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// A chain key: advances with every message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ChainKey {
    key: Secret<32>,
    index: u32,
}

impl ChainKey {
    pub(crate) fn new(key: Secret<32>, index: u32) -> Self {
        Self { key, index }
    }

    /// Number of the message that this key is for.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key after this one; `None` once the counter is used up.
    pub(crate) fn next(&self) -> Option<Self> {
        let index = self.index.checked_add(1)?;
        Some(Self {
            key: HmacKey::new(self.key.as_bytes()).mac(&[&[0x02]]),
            index,
        })
    }

    /// The seed of this message and the key after it.
    pub(crate) fn advance(&self) -> Option<(MessageSeed, Self)> {
        let index = self.index.checked_add(1)?;
        let hmac = HmacKey::new(self.key.as_bytes());
        Some((
            MessageSeed(hmac.mac(&[&[0x01]])),
            Self {
                key: hmac.mac(&[&[0x02]]),
                index,
            },
        ))
    }
}

/// What one message's keys are made from, kept for messages that are still to come.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MessageSeed(Secret<32>);

impl MessageSeed {
    pub(crate) fn new(seed: Secret<32>) -> Self {
        Self(seed)
    }

    pub(crate) fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// Joins in the post-quantum ratchet's key for the same message.
    pub(crate) fn keys(&self, salt: &Secret<32>) -> MessageKeys {
        MessageKeys(hkdf(
            salt.as_bytes(),
            self.0.as_bytes(),
            &[b"WhisperMessageKeys"],
        ))
    }
}

/// Cipher key, MAC key and IV of one message.
pub(crate) struct MessageKeys(Secret<80>);

impl MessageKeys {
    /// Cipher key, MAC key, IV.
    pub(crate) fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (cipher, rest) = self.0.as_bytes().split_at(32);
        let (mac, iv) = rest.split_at(32);
        (cipher, mac, iv)
    }

    pub(crate) fn mac_key(&self) -> &[u8] {
        self.parts().1
    }

    /// AES-256-CBC with PKCS#7 padding.
    #[expect(
        clippy::expect_used,
        reason = "32-byte key and 16-byte IV by construction"
    )]
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Vec<u8> {
        let (cipher, _, iv) = self.parts();
        cbc::Encryptor::<Aes256>::new_from_slices(cipher, iv)
            .expect("lengths of AES-256-CBC")
            .encrypt_padded_vec::<Pkcs7>(plaintext)
    }

    /// The reverse; `None` for a length that is not a positive multiple of 16 or wrong padding.
    #[expect(
        clippy::expect_used,
        reason = "32-byte key and 16-byte IV by construction"
    )]
    pub(crate) fn decrypt(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let (cipher, _, iv) = self.parts();
        cbc::Decryptor::<Aes256>::new_from_slices(cipher, iv)
            .expect("lengths of AES-256-CBC")
            .decrypt_padded_vec::<Pkcs7>(ciphertext)
            .ok()
    }
}
