//! X25519 keys, agreement, and XEdDSA signatures in libsignal's flavour.
//!
//! One key does both: X25519 agreement and, through the birational map to Ed25519, signatures.
//! Everywhere in the protocol a public key is its 33-byte serialised form: the type byte `0x05`,
//! then the little-endian u-coordinate.

use std::fmt;

use curve25519_dalek::{
    EdwardsPoint, MontgomeryPoint, Scalar, edwards::CompressedEdwardsY, scalar::clamp_integer,
};
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;

/// Type byte of an X25519 public key.
const TYPE_X25519: u8 = 0x05;

/// Length of a serialised public key: type byte and u-coordinate.
pub const PUBLIC_KEY_LEN: usize = 33;

/// Length of an XEdDSA signature.
pub const SIGNATURE_LEN: usize = 64;

/// Why bytes are not an X25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes at all.
    #[error("empty key: no key type byte")]
    Empty,
    /// The type byte is not that of X25519.
    #[error("key type {0:#04x} is not X25519 (0x05)")]
    BadType(u8),
    /// Too few bytes (for a public key) or not exactly 32 (for a private one).
    #[error("key of {0} bytes has the wrong length")]
    BadLength(usize),
}

/// The agreement came out as all zero bytes: the peer sent a point of small order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid key agreement: the peer's public key has small order")]
pub struct InvalidKeyAgreement;

/// A signature that does not fit the key and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct InvalidSignature;

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PUBLIC_KEY_LEN]);

impl PublicKey {
    /// Reads the serialised form. Bytes after the 33rd are ignored, as the official library does;
    /// the point itself is not checked (agreement rejects what is harmful).
    ///
    /// # Errors
    ///
    /// When the input is empty, of another key type, or too short.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let (&kind, rest) = bytes.split_first().ok_or(KeyError::Empty)?;
        if kind != TYPE_X25519 {
            return Err(KeyError::BadType(kind));
        }
        let u = rest.first_chunk().ok_or(KeyError::BadLength(bytes.len()))?;
        Ok(Self::from_u(u))
    }

    /// The key with this u-coordinate (32 bytes, no type byte).
    pub fn from_u(u: &[u8; 32]) -> Self {
        let mut bytes = [TYPE_X25519; PUBLIC_KEY_LEN];
        if let Some(tail) = bytes.last_chunk_mut() {
            *tail = *u;
        }
        Self(bytes)
    }

    /// The serialised form: what is signed, authenticated, hashed and put in messages.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }

    /// The bare u-coordinate.
    pub fn u(&self) -> &[u8; 32] {
        let [_, u @ ..] = &self.0;
        u
    }

    /// Whether the u-coordinate is in range and the point lies in the prime-order subgroup of the
    /// curve. Required of a handshake's base key only (spec §1.1, §2.4).
    pub fn is_canonical(&self) -> bool {
        is_reduced(self.u())
            && MontgomeryPoint(*self.u())
                .to_edwards(0)
                .is_some_and(|point| point.is_torsion_free())
    }

    /// Checks an XEdDSA signature by this key over `message`.
    ///
    /// # Errors
    ///
    /// [`InvalidSignature`]; why is nobody's business.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let signature: &[u8; SIGNATURE_LEN] = signature.try_into().map_err(|_| InvalidSignature)?;
        let (r, s) = halves(signature);
        let sign = s[31] >> 7;
        let mut s = *s;
        s[31] &= 0x7f;
        if s[31] & 0xe0 != 0 {
            return Err(InvalidSignature);
        }
        let a = MontgomeryPoint(*self.u())
            .to_edwards(sign)
            .ok_or(InvalidSignature)?;
        let h = challenge(r, &a.compress(), message);
        // Verification handles public values only, so variable time is fine. `S` may exceed the
        // group order, which the official library accepts too; it is reduced first.
        let s = Scalar::from_bytes_mod_order(s);
        let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&h, &-a, &s);
        if expected.compress().as_bytes() == r {
            Ok(())
        } else {
            Err(InvalidSignature)
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        for byte in self.u().iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..)")
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::decode(bytes)
    }
}

/// An X25519 private key, kept in its clamped form.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Secret<32>);

impl PrivateKey {
    /// A fresh key: 32 random bytes, clamped.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::clamp(Secret::random(rng))
    }

    /// Imports 32 bytes and clamps them.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadLength`] for any other length.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        Secret::from_slice(bytes)
            .map(Self::clamp)
            .ok_or(KeyError::BadLength(bytes.len()))
    }

    fn clamp(mut secret: Secret<32>) -> Self {
        let clamped = Zeroizing::new(clamp_integer(*secret.as_bytes()));
        *secret.as_mut_bytes() = *clamped;
        Self(secret)
    }

    /// A key as a store kept it: `None` unless it is clamped, which every key of ours is.
    pub(crate) fn from_stored(bytes: &[u8; 32]) -> Option<Self> {
        let stored = Secret::new(*bytes);
        let key = Self::clamp(stored.clone());
        (key.0 == stored).then_some(key)
    }

    /// The clamped private scalar, for a store that keeps secrets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key that belongs to this one.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_u(&MontgomeryPoint::mul_base_clamped(*self.as_bytes()).to_bytes())
    }

    /// X25519 with the peer's key.
    ///
    /// # Errors
    ///
    /// When the result is all zero, i.e. the peer's point has small order.
    pub fn agree(&self, peer: &PublicKey) -> Result<Secret<32>, InvalidKeyAgreement> {
        let shared = MontgomeryPoint(*peer.u()).mul_clamped(*self.as_bytes());
        refuse_zero(Secret::new(shared.to_bytes()))
    }

    /// [`Self::agree`] with a key made ready for it: the same result.
    pub(crate) fn agree_prepared(
        &self,
        peer: &PreparedKey,
    ) -> Result<Secret<32>, InvalidKeyAgreement> {
        let Some(point) = &peer.edwards else {
            return self.agree(&PublicKey::from_u(&peer.u));
        };
        let mut product = point.mul_clamped(*self.as_bytes());
        let shared = Secret::new(product.to_montgomery().to_bytes());
        product.zeroize();
        refuse_zero(shared)
    }

    /// An XEdDSA signature over `message`, randomised by 64 bytes from `rng`.
    ///
    /// The published XEdDSA negates the scalar so that the Edwards public key has sign 0; this
    /// flavour keeps the scalar and ships the sign in the top bit of the signature.
    pub fn sign(&self, message: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> [u8; SIGNATURE_LEN] {
        let noise = Secret::<64>::random(rng);
        let mut a = Scalar::from_bytes_mod_order(*self.as_bytes());
        let public = EdwardsPoint::mul_base(&a).compress();
        let sign = public.as_bytes()[31] & 0x80;

        let mut nonce_prefix = [0xff; 32];
        nonce_prefix[0] = 0xfe;
        let mut r = scalar_from_hash(
            Sha512::new()
                .chain_update(nonce_prefix)
                .chain_update(self.as_bytes())
                .chain_update(message)
                .chain_update(noise.as_bytes()),
        );
        let r_point = EdwardsPoint::mul_base(&r).compress();
        let h = challenge(r_point.as_bytes(), &public, message);
        let s = r + h * a;
        a.zeroize();
        r.zeroize();

        let mut signature = [0; SIGNATURE_LEN];
        let (left, right) = signature.split_at_mut(32);
        left.copy_from_slice(r_point.as_bytes());
        right.copy_from_slice(s.as_bytes());
        signature[63] = (signature[63] & 0x7f) | sign;
        signature
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A private key with its public key, computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    private: PrivateKey,
    public: PublicKey,
}

impl KeyPair {
    /// A fresh pair.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        PrivateKey::generate(rng).into()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private half.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// A pair as a store kept it. The halves are not checked against each other: use
    /// `KeyPair::from(private)` for keys from anywhere else.
    pub(crate) fn from_stored(private: PrivateKey, public: PublicKey) -> Self {
        Self { private, public }
    }
}

impl From<PrivateKey> for KeyPair {
    fn from(private: PrivateKey) -> Self {
        let public = private.public_key();
        Self { private, public }
    }
}

fn refuse_zero(shared: Secret<32>) -> Result<Secret<32>, InvalidKeyAgreement> {
    if bool::from(shared.as_bytes().ct_eq(&[0; 32])) {
        return Err(InvalidKeyAgreement);
    }
    Ok(shared)
}

/// A peer's public key made ready for several agreements with it.
///
/// The point is carried over to the Edwards form of the curve once, where multiplication has a
/// vectorised implementation on `x86_64`; elsewhere the Montgomery ladder of
/// [`PrivateKey::agree`] is faster. The u-coordinates of the twist have no Edwards form and take
/// the ladder everywhere; which of the two happens depends on the peer's public key alone.
pub(crate) struct PreparedKey {
    u: [u8; 32],
    edwards: Option<EdwardsPoint>,
}

impl From<&PublicKey> for PreparedKey {
    fn from(key: &PublicKey) -> Self {
        let edwards = if cfg!(target_arch = "x86_64") {
            MontgomeryPoint(*key.u()).to_edwards(0)
        } else {
            None
        };
        Self {
            u: *key.u(),
            edwards,
        }
    }
}

/// `u < 2^255 − 19` with bit 255 clear.
fn is_reduced(u: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = u;
    let all_ones = *high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    *high < 0x80 && !(all_ones && *low >= 0xed)
}

fn halves(signature: &[u8; SIGNATURE_LEN]) -> (&[u8; 32], &[u8; 32]) {
    #[expect(clippy::expect_used, reason = "64 = 32 + 32")]
    let parts = (|| Some((signature.first_chunk()?, signature.last_chunk()?)))()
        .expect("two halves of a 64-byte array");
    parts
}

fn challenge(r: &[u8; 32], public: &CompressedEdwardsY, message: &[u8]) -> Scalar {
    scalar_from_hash(
        Sha512::new()
            .chain_update(r)
            .chain_update(public.as_bytes())
            .chain_update(message),
    )
}

fn scalar_from_hash(hash: Sha512) -> Scalar {
    let wide = Zeroizing::new(<[u8; 64]>::from(hash.finalize()));
    Scalar::from_bytes_mod_order_wide(&wide)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(private: &PrivateKey, u: &[u8; 32]) {
        let public = PublicKey::from_u(u);
        let prepared = private.agree_prepared(&PreparedKey::from(&public));
        assert_eq!(prepared, private.agree(&public), "{u:02x?}");
    }

    #[test]
    fn prepared_agreement_at_the_edges() {
        let private = PrivateKey::decode(&[0x77; 32]).unwrap();
        // The two coordinates of order 8, from RFC 7748's security considerations.
        let order_8 = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ];
        let mut edges: Vec<[u8; 32]> = order_8
            .iter()
            .map(|text| hex::decode(text).unwrap().try_into().unwrap())
            .collect();
        for low in 0..=3 {
            let mut small = [0; 32];
            small[0] = low;
            edges.push(small);
        }
        for low in 0xE9..=0xFF {
            let mut around_p = [0xFF; 32];
            around_p[0] = low;
            around_p[31] = 0x7F;
            edges.push(around_p);
        }
        for edge in edges {
            same(&private, &edge);
            let mut high_bit = edge;
            high_bit[31] |= 0x80;
            same(&private, &high_bit);
        }
    }

    proptest! {
        /// Half of all coordinates lie on the twist, so both paths are taken.
        #[test]
        fn prepared_agreement_is_agreement(private: [u8; 32], u: [u8; 32]) {
            same(&PrivateKey::decode(&private).unwrap(), &u);
        }
    }
}
