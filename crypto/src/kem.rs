//! The two post-quantum key encapsulations of the protocol.
//!
//! The handshake uses CRYSTALS-Kyber-1024 *as of NIST round 3*, not ML-KEM: that is what deployed
//! peers speak, under key type byte `0x08`. The ratchet uses true FIPS 203 ML-KEM-768, cut into
//! pieces that travel separately: [`incremental`].

use std::fmt;

use libcrux_ml_kem::{MlKemCiphertext, MlKemPrivateKey, MlKemPublicKey, kyber1024};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Type byte of a Kyber-1024 round 3 key or ciphertext.
const TYPE_KYBER_1024: u8 = 0x08;

const RAW_PUBLIC_LEN: usize = 1568;
const RAW_SECRET_LEN: usize = 3168;
const RAW_CIPHERTEXT_LEN: usize = 1568;

/// Length of a serialised public key, type byte included.
pub const PUBLIC_KEY_LEN: usize = 1 + RAW_PUBLIC_LEN;
/// Length of a serialised secret key, type byte included.
pub const SECRET_KEY_LEN: usize = 1 + RAW_SECRET_LEN;
/// Length of a serialised ciphertext, type byte included.
pub const CIPHERTEXT_LEN: usize = 1 + RAW_CIPHERTEXT_LEN;

/// Why bytes are not a Kyber-1024 key or ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KemError {
    /// The type byte names another KEM, or there is none.
    #[error("bad KEM key type: only Kyber-1024 (0x08) is supported")]
    BadType,
    /// Not the exact length of this kind of value.
    #[error("{0} bytes is the wrong length for a Kyber-1024 key or ciphertext")]
    BadLength(usize),
}

/// Checks type byte and length, and copies the whole serialised form.
fn typed<const N: usize>(bytes: &[u8]) -> Result<Box<[u8; N]>, KemError> {
    if bytes.first() != Some(&TYPE_KYBER_1024) {
        return Err(KemError::BadType);
    }
    let exact: &[u8; N] = bytes
        .try_into()
        .map_err(|_| KemError::BadLength(bytes.len()))?;
    Ok(Box::new(*exact))
}

/// Puts the type byte in front.
fn tag<const N: usize>(raw: &[u8]) -> [u8; N] {
    let mut bytes = [TYPE_KYBER_1024; N];
    debug_assert_eq!(raw.len() + 1, N);
    for (to, from) in bytes.iter_mut().skip(1).zip(raw) {
        *to = *from;
    }
    bytes
}

/// The bytes after the type byte.
#[expect(clippy::expect_used, reason = "every use has RAW + 1 = N")]
fn raw<const N: usize, const RAW: usize>(bytes: &[u8; N]) -> &[u8; RAW] {
    const { assert!(RAW + 1 == N, "type byte and the raw value") };
    bytes.last_chunk().expect("the array is one byte longer")
}

/// A Kyber-1024 public key in its serialised form.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Box<[u8; PUBLIC_KEY_LEN]>);

impl PublicKey {
    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// For another type byte or length. The key's coefficients are not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, KemError> {
        typed(bytes).map(Self)
    }

    /// The serialised form, which is also what an identity key signs.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }

    /// A fresh shared secret and the ciphertext that carries it to the key's owner.
    pub fn encapsulate(&self, rng: &mut (impl CryptoRng + ?Sized)) -> (Ciphertext, Secret<32>) {
        let randomness = Secret::<32>::random(rng);
        let key = MlKemPublicKey::from(raw::<_, RAW_PUBLIC_LEN>(&self.0));
        let (ciphertext, shared) = kyber1024::encapsulate(&key, *randomness.as_bytes());
        (
            Ciphertext(Box::new(tag(ciphertext.as_ref()))),
            Secret::new(shared),
        )
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kem::PublicKey(..)")
    }
}

/// A Kyber-1024 ciphertext in its serialised form.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext(Box<[u8; CIPHERTEXT_LEN]>);

impl Ciphertext {
    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// For another type byte or length.
    pub fn decode(bytes: &[u8]) -> Result<Self, KemError> {
        typed(bytes).map(Self)
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8; CIPHERTEXT_LEN] {
        &self.0
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kem::Ciphertext(..)")
    }
}

/// A Kyber-1024 key pair, both halves serialised.
#[derive(Clone)]
pub struct KeyPair {
    public: PublicKey,
    secret: Secret<SECRET_KEY_LEN>,
}

impl KeyPair {
    /// A fresh pair.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let seed = Secret::<64>::random(rng);
        let (secret, public) = kyber1024::generate_key_pair(*seed.as_bytes()).into_parts();
        let typed_secret = Secret::new(tag(secret.as_ref()));
        drop(Zeroizing::new(<[u8; RAW_SECRET_LEN]>::from(secret)));
        Self {
            public: PublicKey(Box::new(tag(public.as_ref()))),
            secret: typed_secret,
        }
    }

    /// Reads a serialised secret key; the public key is part of it.
    ///
    /// # Errors
    ///
    /// For another type byte or length.
    pub fn decode(secret: &[u8]) -> Result<Self, KemError> {
        if secret.first() != Some(&TYPE_KYBER_1024) {
            return Err(KemError::BadType);
        }
        let secret = Secret::<SECRET_KEY_LEN>::from_slice(secret)
            .ok_or(KemError::BadLength(secret.len()))?;
        // s (1536) ‖ public key (1568) ‖ H(public key) (32) ‖ z (32)
        let public: Vec<u8> = secret
            .as_bytes()
            .iter()
            .skip(1 + 1536)
            .take(RAW_PUBLIC_LEN)
            .copied()
            .collect();
        Ok(Self {
            public: PublicKey(Box::new(tag(&public))),
            secret,
        })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The serialised secret half, for a store that keeps secrets.
    pub fn secret_bytes(&self) -> &[u8; SECRET_KEY_LEN] {
        self.secret.as_bytes()
    }

    /// The shared secret in `ciphertext`. A ciphertext for another key yields another secret, not
    /// an error: that shows when the message's MAC does not fit.
    pub fn decapsulate(&self, ciphertext: &Ciphertext) -> Secret<32> {
        let key = MlKemPrivateKey::from(raw::<_, RAW_SECRET_LEN>(self.secret.as_bytes()));
        let ciphertext = MlKemCiphertext::from(raw::<_, RAW_CIPHERTEXT_LEN>(&ciphertext.0));
        let shared = Secret::new(kyber1024::decapsulate(&key, &ciphertext));
        drop(Zeroizing::new(<[u8; RAW_SECRET_LEN]>::from(key)));
        shared
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kem::KeyPair(..)")
    }
}

pub mod incremental {
    //! FIPS 203 ML-KEM-768 whose key and ciphertext travel in pieces (spec §1.4).
    //!
    //! | piece | bytes | content |
    //! | --- | --- | --- |
    //! | header | 64 | `ρ ‖ SHA3-256(t ‖ ρ)` |
    //! | key vector | 1152 | `t` |
    //! | first ciphertext part | 960 | `u`, made from the header alone |
    //! | second ciphertext part | 128 | `v`, made once the key vector is known |

    use std::fmt;

    use libcrux_ml_kem::mlkem768::{self, MlKem768PublicKey, incremental};
    use rand_core::CryptoRng;
    use zeroize::Zeroizing;

    use crate::secret::Secret;

    /// Length of the header.
    pub const HEADER_LEN: usize = 64;
    /// Length of the key vector.
    pub const KEY_VECTOR_LEN: usize = 1152;
    /// Length of the first ciphertext part.
    pub const CIPHERTEXT1_LEN: usize = 960;
    /// Length of the second ciphertext part.
    pub const CIPHERTEXT2_LEN: usize = 128;
    /// Length of a decapsulation key, `s ‖ t ‖ ρ ‖ H(ek) ‖ z`, which holds the public parts too.
    pub const DECAPSULATION_KEY_LEN: usize = 2400;

    /// A key vector that does not belong to the header, or has coefficients out of range.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    #[error("ML-KEM key vector does not match its header")]
    pub struct InvalidKeyVector;

    /// A decapsulation key with the public parts it holds.
    #[derive(Clone, PartialEq, Eq)]
    pub struct KeyPair(Secret<DECAPSULATION_KEY_LEN>);

    impl KeyPair {
        /// A fresh pair from 64 random bytes.
        pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
            #[cfg(test)]
            if let Some(recorded) = super::recorded::next() {
                return recorded;
            }
            let seed = Secret::<64>::random(rng);
            let mut key = Secret::zero();
            incremental::generate_key_pair_compressed(*seed.as_bytes(), key.as_mut_bytes());
            Self(key)
        }

        /// The pair as a store kept it.
        pub fn from_bytes(bytes: Secret<DECAPSULATION_KEY_LEN>) -> Self {
            Self(bytes)
        }

        /// The decapsulation key, for a store that keeps secrets.
        pub fn as_bytes(&self) -> &[u8; DECAPSULATION_KEY_LEN] {
            self.0.as_bytes()
        }

        /// What the peer needs for the first ciphertext part.
        pub fn header(&self) -> [u8; HEADER_LEN] {
            self.slice::<{ 2 * KEY_VECTOR_LEN }, HEADER_LEN>()
        }

        /// What the peer needs in addition for the second one.
        pub fn key_vector(&self) -> [u8; KEY_VECTOR_LEN] {
            self.slice::<KEY_VECTOR_LEN, KEY_VECTOR_LEN>()
        }

        fn slice<const AT: usize, const LEN: usize>(&self) -> [u8; LEN] {
            const { assert!(AT + LEN <= DECAPSULATION_KEY_LEN, "piece of the key") };
            let mut piece = [0; LEN];
            #[expect(
                clippy::indexing_slicing,
                reason = "the bounds are checked at compile time"
            )]
            piece.copy_from_slice(&self.0.as_bytes()[AT..AT + LEN]);
            piece
        }

        /// The shared secret of a complete ciphertext; a wrong one yields another secret.
        pub fn decapsulate(
            &self,
            ciphertext1: &[u8; CIPHERTEXT1_LEN],
            ciphertext2: &[u8; CIPHERTEXT2_LEN],
        ) -> Secret<32> {
            let mut whole = [0; CIPHERTEXT1_LEN + CIPHERTEXT2_LEN];
            let (first, second) = whole.split_at_mut(CIPHERTEXT1_LEN);
            first.copy_from_slice(ciphertext1);
            second.copy_from_slice(ciphertext2);
            let key = mlkem768::MlKem768PrivateKey::from(self.as_bytes());
            let shared = Secret::new(mlkem768::decapsulate(&key, &whole.into()));
            drop(Zeroizing::new(<[u8; DECAPSULATION_KEY_LEN]>::from(key)));
            shared
        }
    }

    impl fmt::Debug for KeyPair {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("kem::incremental::KeyPair(..)")
        }
    }

    /// An encapsulation under way: the peer's header and our 32 random bytes. Both ciphertext
    /// parts and the secret follow from them, so this is all that a store has to keep.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Encapsulation {
        header: [u8; HEADER_LEN],
        randomness: Secret<32>,
    }

    impl Encapsulation {
        /// Starts towards the owner of `header` with 32 bytes from `rng`.
        pub fn sample(header: [u8; HEADER_LEN], rng: &mut (impl CryptoRng + ?Sized)) -> Self {
            Self {
                header,
                randomness: Secret::random(rng),
            }
        }

        /// The encapsulation as a store kept it.
        pub fn from_parts(header: [u8; HEADER_LEN], randomness: Secret<32>) -> Self {
            Self { header, randomness }
        }

        /// The peer's header.
        pub fn header(&self) -> &[u8; HEADER_LEN] {
            &self.header
        }

        /// Our random bytes, for a store that keeps secrets.
        pub fn randomness(&self) -> &Secret<32> {
            &self.randomness
        }

        /// The first ciphertext part and the shared secret.
        ///
        /// # Panics
        ///
        /// Never: the call inside refuses wrong lengths only, and these are fixed.
        pub fn first(&self) -> ([u8; CIPHERTEXT1_LEN], Secret<32>) {
            let mut scratch = Zeroizing::new([0; incremental::encaps_state_len()]);
            let mut shared = Secret::zero();
            #[expect(clippy::expect_used, reason = "it fails for wrong lengths only")]
            let part = incremental::encapsulate1(
                &self.header,
                *self.randomness.as_bytes(),
                scratch.as_mut_slice(),
                shared.as_mut_bytes(),
            )
            .expect("all lengths are right");
            (part.value, shared)
        }

        /// The second ciphertext part, once the peer's key vector is complete.
        ///
        /// # Errors
        ///
        /// When the vector does not belong to the header.
        pub fn second(
            &self,
            key_vector: &[u8; KEY_VECTOR_LEN],
        ) -> Result<[u8; CIPHERTEXT2_LEN], InvalidKeyVector> {
            validate(&self.header, key_vector)?;
            let mut key = [0; KEY_VECTOR_LEN + 32];
            let (t, rho) = key.split_at_mut(KEY_VECTOR_LEN);
            t.copy_from_slice(key_vector);
            rho.copy_from_slice(self.header.split_at(32).0);
            let key = MlKem768PublicKey::from(key);
            let (ciphertext, shared) = mlkem768::encapsulate(&key, *self.randomness.as_bytes());
            drop(Zeroizing::new(shared));
            ciphertext
                .as_ref()
                .last_chunk()
                .copied()
                .ok_or(InvalidKeyVector)
        }
    }

    /// Checks that `key_vector` hashes to the header's hash and that it is reduced.
    ///
    /// # Errors
    ///
    /// When it does not, or is not.
    pub fn validate(
        header: &[u8; HEADER_LEN],
        key_vector: &[u8; KEY_VECTOR_LEN],
    ) -> Result<(), InvalidKeyVector> {
        incremental::validate_pk_bytes(header, key_vector).map_err(|_| InvalidKeyVector)
    }
}

/// Recorded decapsulation keys for tests that replay sessions between official peers: those
/// recordings hold the key that was drawn, and no seed leads back to it.
#[cfg(test)]
pub(crate) mod recorded {
    use std::{cell::RefCell, collections::VecDeque};

    use super::incremental::KeyPair;

    thread_local! {
        static QUEUE: RefCell<VecDeque<KeyPair>> = const { RefCell::new(VecDeque::new()) };
    }

    /// Makes the next generated pair on this thread be `pair`.
    pub(crate) fn push(pair: KeyPair) {
        QUEUE.with_borrow_mut(|queue| queue.push_back(pair));
    }

    /// How many pushed pairs were not drawn yet.
    pub(crate) fn left() -> usize {
        QUEUE.with_borrow(VecDeque::len)
    }

    pub(super) fn next() -> Option<KeyPair> {
        QUEUE.with_borrow_mut(VecDeque::pop_front)
    }
}
