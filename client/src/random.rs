//! The one place that draws randomness: the operating system's generator.

use rand_core::{Rng as _, UnwrapErr};

/// The operating system's generator as the `CryptoRng` that `wardline-crypto` takes.
/// A machine whose generator fails cannot go on safely, so a failure there panics.
pub(crate) fn system() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    system().fill_bytes(&mut bytes);
    bytes
}

/// A number in `0..bound`, for jitter; not for keys.
pub(crate) fn below(bound: u64) -> u64 {
    if bound == 0 {
        0
    } else {
        u64::from_be_bytes(bytes()) % bound
    }
}
