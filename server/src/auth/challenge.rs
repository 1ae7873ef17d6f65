//! Log-in challenges without a table of open ones.
//!
//! A nonce authenticates itself: `expiry ‖ random ‖ MAC(expiry, random, for whom)`.
//! Asking for one leaves nothing behind, so nobody can fill a table that others
//! need. Only nonces that were tried are remembered, until they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::DeviceAddress;

/// Nonces that were tried and have not expired.
const MAX_USED: usize = 100_000;

/// Why a nonce does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadNonce {
    /// Not ours, for somebody else, expired, or tried before.
    Refused,
    /// Too many log-ins at this moment.
    Busy,
}

/// Makes and redeems nonces.
pub(crate) struct Challenges {
    key: [u8; 32],
    lifetime_ms: u64,
    used: Mutex<HashMap<[u8; 32], Timestamp>>,
}

impl Challenges {
    pub(crate) fn new(key: [u8; 32], lifetime_seconds: u32) -> Self {
        Self {
            key,
            lifetime_ms: u64::from(lifetime_seconds) * 1000,
            used: Mutex::new(HashMap::new()),
        }
    }

    /// Milliseconds a nonce is good for.
    pub(crate) fn lifetime_ms(&self) -> u64 {
        self.lifetime_ms
    }

    /// A nonce for a device, or for an issuer (`None`).
    pub(crate) fn make(
        &self,
        whom: Option<DeviceAddress>,
        now: Timestamp,
        random: [u8; 8],
    ) -> [u8; 32] {
        let expires_at = now.plus_millis(self.lifetime_ms).as_millis().to_be_bytes();
        let mac = self.mac(expires_at, random, whom);
        let mut nonce = [0; 32];
        let parts = expires_at.iter().chain(&random).chain(&mac);
        for (to, from) in nonce.iter_mut().zip(parts) {
            *to = *from;
        }
        nonce
    }

    /// Takes a nonce; the same one never again.
    pub(crate) fn redeem(
        &self,
        nonce: &[u8],
        whom: Option<DeviceAddress>,
        now: Timestamp,
    ) -> Result<(), BadNonce> {
        let nonce: [u8; 32] = nonce.try_into().map_err(|_| BadNonce::Refused)?;
        let (expires_at, rest) = nonce.split_first_chunk::<8>().ok_or(BadNonce::Refused)?;
        let (random, mac) = rest.split_first_chunk::<8>().ok_or(BadNonce::Refused)?;
        let expected = self.mac(*expires_at, *random, whom);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(expected.as_slice(), mac)) {
            return Err(BadNonce::Refused);
        }
        let expires_at = Timestamp::from_millis(u64::from_be_bytes(*expires_at));
        if now >= expires_at {
            return Err(BadNonce::Refused);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_USED {
            used.retain(|_, until| *until > now);
            if used.len() >= MAX_USED {
                return Err(BadNonce::Busy);
            }
        }
        match used.insert(nonce, expires_at) {
            None => Ok(()),
            Some(_) => Err(BadNonce::Refused),
        }
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, until| *until > now);
    }

    fn mac(&self, expires_at: [u8; 8], random: [u8; 8], whom: Option<DeviceAddress>) -> [u8; 16] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length");
        mac.update(b"wardline/challenge/v1\0");
        mac.update(&expires_at);
        mac.update(&random);
        match whom {
            Some(address) => {
                mac.update(address.account.as_bytes());
                mac.update(&[address.device.get()]);
            }
            None => mac.update(&[0]),
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(full) {
            *to = from;
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::ids::{AccountId, DeviceId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[expect(clippy::unnecessary_wraps, reason = "as `make` and `redeem` take it")]
    fn address(byte: u8) -> Option<DeviceAddress> {
        Some(DeviceAddress {
            account: AccountId::from([byte; 16]),
            device: DeviceId::FIRST,
        })
    }

    #[test]
    fn a_nonce_is_good_once_for_one_and_for_a_while() {
        let challenges = Challenges::new([1; 32], 60);
        let nonce = challenges.make(address(1), NOW, [9; 8]);
        let refused = Err(BadNonce::Refused);
        assert_eq!(challenges.redeem(&nonce, address(2), NOW), refused);
        assert_eq!(challenges.redeem(&nonce, None, NOW), refused);
        assert_eq!(
            challenges.redeem(&nonce, address(1), NOW.plus_millis(60_000)),
            refused
        );
        assert_eq!(challenges.redeem(&nonce, address(1), NOW), Ok(()));
        assert_eq!(challenges.redeem(&nonce, address(1), NOW), refused);
        let issuer = challenges.make(None, NOW, [9; 8]);
        assert_eq!(challenges.redeem(&issuer, None, NOW), Ok(()));
    }

    #[test]
    fn altered_and_foreign_nonces_are_refused() {
        let challenges = Challenges::new([1; 32], 60);
        let nonce = challenges.make(address(1), NOW, [9; 8]);
        for bit in 0..256 {
            let mut altered = nonce;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                challenges.redeem(&altered, address(1), NOW),
                Err(BadNonce::Refused)
            );
        }
        let others = Challenges::new([2; 32], 60);
        assert_eq!(
            others.redeem(&nonce, address(1), NOW),
            Err(BadNonce::Refused)
        );
        assert_eq!(
            challenges.redeem(&nonce[..31], address(1), NOW),
            Err(BadNonce::Refused)
        );
    }

    #[test]
    fn used_nonces_are_forgotten_after_their_end() {
        let challenges = Challenges::new([1; 32], 60);
        let nonce = challenges.make(address(1), NOW, [9; 8]);
        assert_eq!(challenges.redeem(&nonce, address(1), NOW), Ok(()));
        challenges.sweep(NOW.plus_millis(60_001));
        assert!(challenges.used.lock().unwrap().is_empty());
    }
}
