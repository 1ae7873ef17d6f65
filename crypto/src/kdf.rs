//! HKDF and HMAC over SHA-256, as the rest of the crate calls them.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// `HKDF(salt, ikm, info, N)` of RFC 5869. An empty salt is the same as 32 zero bytes.
///
/// # Panics
///
/// Never for the lengths in this crate: HKDF-SHA-256 yields up to 8160 bytes.
pub(crate) fn hkdf<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 255 * 32, "more than HKDF-SHA-256 can yield") };
    let mut okm = Secret::zero();
    #[expect(clippy::expect_used, reason = "the length is checked at compile time")]
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, okm.as_mut_bytes())
        .expect("within the limit of HKDF-SHA-256");
    okm
}

/// `HMAC(key, parts[0] ‖ parts[1] ‖ …)`.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret<32> {
    HmacKey::new(key).mac(parts)
}

/// A key set up for several MACs, which saves hashing it again for each.
pub(crate) struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    #[expect(
        clippy::expect_used,
        reason = "HMAC is defined for keys of every length"
    )]
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("any key length"))
    }

    /// The MAC over the concatenated parts.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Secret<32> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        Secret::new(mac.finalize().into_bytes().into())
    }
}

/// The `LEN` bytes from `AT` on. Every derivation of the protocol is one HKDF output cut into
/// named pieces.
pub(crate) fn piece<const N: usize, const AT: usize, const LEN: usize>(
    okm: &Secret<N>,
) -> Secret<LEN> {
    const { assert!(AT + LEN <= N, "piece outside the output") };
    let mut out = Secret::zero();
    out.as_mut_bytes()
        .copy_from_slice(&okm.as_bytes()[AT..AT + LEN]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5869_case_1() {
        let ikm = [0x0b; 22];
        let salt = hex::decode("000102030405060708090a0b0c").unwrap();
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let okm: Secret<42> = hkdf(&salt, &ikm, &[&info[..4], &info[4..]]);
        assert_eq!(
            hex::encode(okm.as_bytes()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    #[test]
    fn rfc_4231_case_2() {
        let mac = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex::encode(mac.as_bytes()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
