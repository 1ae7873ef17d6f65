//! Byte strings that must not leak: zeroized on drop, compared in constant time, never printed.

use std::fmt;

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes on the heap, so that moving the value leaves no copy behind.
///
/// Equality takes the same time whatever differs, `Debug` shows only the length, and the bytes are
/// overwritten when the value is dropped.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`. The caller's own copy, if it keeps one, is the caller's to wipe.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let secret = Self(Box::new(bytes));
        bytes.zeroize();
        secret
    }

    /// All zero bytes, for the derivations that start from nothing.
    pub fn zero() -> Self {
        Self(Box::new([0; N]))
    }

    /// `N` fresh random bytes.
    pub fn random(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut secret = Self::zero();
        rng.fill_bytes(secret.0.as_mut_slice());
        secret
    }

    /// Copies a slice of exactly `N` bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zero();
        if bytes.len() != N {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes themselves, to be filled in place.
    pub fn as_mut_bytes(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> AsRef<[u8]> for Secret<N> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

impl<const N: usize> Zeroize for Secret<N> {
    fn zeroize(&mut self) {
        wipe(self.0.as_mut_slice());
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

/// Overwrites bytes in a way that the compiler may not leave out, at the speed of `memset`: records
/// are copied and wiped around every message, and byte by byte that would show.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        let secret = Secret::new([0x5a; 32]);
        assert_eq!(format!("{secret:?}"), "Secret<32>(..)");
    }

    #[test]
    fn equality_is_by_content() {
        assert_eq!(Secret::new([1; 4]), Secret::new([1; 4]));
        assert_ne!(Secret::new([1; 4]), Secret::new([2; 4]));
    }

    #[test]
    fn from_slice_wants_the_exact_length() {
        assert!(Secret::<4>::from_slice(&[1, 2, 3]).is_none());
        assert!(Secret::<4>::from_slice(&[1, 2, 3, 4, 5]).is_none());
        assert_eq!(
            Secret::<2>::from_slice(&[7, 8]).unwrap().as_bytes(),
            &[7, 8]
        );
    }
}
