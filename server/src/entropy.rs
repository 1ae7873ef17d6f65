//! Randomness from the operating system.

use getrandom::SysRng;
use getrandom::rand_core::TryRng as _;

use crate::store::StoreError;

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| StoreError::Randomness)?;
    Ok(bytes)
}
