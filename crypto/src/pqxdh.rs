//! PQXDH: how two devices agree on their first secrets, one of them absent (spec §2).
//!
//! Knows nothing of ratchets, sessions or storage.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    curve::{InvalidKeyAgreement, KeyPair, PublicKey},
    identity::{IdentityKey, IdentityKeyPair},
    kdf::{hkdf, piece},
    kem,
    prekey::{PreKeyBundle, PreKeyMaterial, Verified},
    secret::Secret,
};

const INFO: &[u8] = b"WhisperText_X25519_SHA-256_CRYSTALS-KYBER-1024";

/// `0xFF × 32`, up to four DH results, the KEM secret.
const IKM_CAPACITY: usize = 32 * 6;

/// What both ends know after the handshake.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// Start of the root chain.
    pub(crate) root: Secret<32>,
    /// Key of the chain that the recipient's signed prekey stands for.
    pub(crate) chain: Secret<32>,
    /// What the post-quantum ratchet starts from.
    pub(crate) pq_auth: Secret<32>,
}

/// The initiator's result.
pub(crate) struct Initiation {
    pub(crate) handshake: Handshake,
    /// The ephemeral public key to send.
    pub(crate) base_key: PublicKey,
    /// The Kyber ciphertext to send.
    pub(crate) kyber_ciphertext: kem::Ciphertext,
}

/// The initiator's side. Draws the base key, then the Kyber randomness.
pub(crate) fn initiate(
    identity: &IdentityKeyPair,
    bundle: &Verified<PreKeyBundle>,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Initiation, InvalidKeyAgreement> {
    let base = KeyPair::generate(rng);
    let (kyber_ciphertext, kem_secret) = bundle.kyber.key.encapsulate(rng);
    let signed = &bundle.signed.key;

    let mut ikm = Ikm::new();
    ikm.push(&identity.private_key().agree(signed)?);
    ikm.push(&base.private().agree(bundle.identity.public_key())?);
    ikm.push(&base.private().agree(signed)?);
    if let Some(one_time) = &bundle.one_time {
        ikm.push(&base.private().agree(&one_time.key)?);
    }
    ikm.push(&kem_secret);
    Ok(Initiation {
        handshake: ikm.derive(),
        base_key: *base.public(),
        kyber_ciphertext,
    })
}

/// The recipient's side; its agreements mirror the initiator's, in the same order.
pub(crate) fn accept(
    identity: &IdentityKeyPair,
    prekeys: &PreKeyMaterial<'_>,
    their_identity: &IdentityKey,
    base_key: &PublicKey,
    kyber_ciphertext: &kem::Ciphertext,
) -> Result<Handshake, InvalidKeyAgreement> {
    let signed = prekeys.signed.pair().private();

    let mut ikm = Ikm::new();
    ikm.push(&signed.agree(their_identity.public_key())?);
    ikm.push(&identity.private_key().agree(base_key)?);
    ikm.push(&signed.agree(base_key)?);
    if let Some(one_time) = prekeys.one_time {
        ikm.push(&one_time.pair().private().agree(base_key)?);
    }
    ikm.push(&prekeys.kyber.pair().decapsulate(kyber_ciphertext));
    Ok(ikm.derive())
}

/// The input keying material, in a buffer that never has to grow.
struct Ikm(Zeroizing<Vec<u8>>);

impl Ikm {
    fn new() -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(IKM_CAPACITY));
        bytes.extend_from_slice(&[0xff; 32]);
        Self(bytes)
    }

    fn push(&mut self, secret: &Secret<32>) {
        self.0.extend_from_slice(secret.as_bytes());
    }

    fn derive(self) -> Handshake {
        let okm: Secret<96> = hkdf(&[], &self.0, &[INFO]);
        Handshake {
            root: piece::<96, 0, 32>(&okm),
            chain: piece::<96, 32, 32>(&okm),
            pq_auth: piece::<96, 64, 32>(&okm),
        }
    }
}
