//! The clinic's directory authority: who is who, and on whose word.
//!
//! The **root** (Ed25519) lives in one age file, meant for a machine without a
//! network. It signs **issuers**: short-lived keys, limited by role, that work
//! beside the relay but never in its process. An issuer makes **invites**, signs
//! **certificates** (this account key has this role) for those who redeem one,
//! and keeps the **revocation list** fresh. Nothing here can read a message: the
//! crate links neither the Signal engine nor the endpoint core.
//!
//! * [`root`]: the root's file, signing issuers.
//! * [`issuer`]: issuer files, choosing one, opening sealed invite requests.
//! * [`store`]: the issuer's own database (SQLCipher): invites, certificates, revocations.
//! * [`relay`]: the HTTP client, with the relay's TLS key pinned.
//! * [`assess`]: may this enrolment be certified, and why: decisions without I/O.
//! * [`clerk`]: the work itself: admit, decide, deliver, renew, revoke, publish.
//! * [`config`], [`files`], [`cli`]: settings, files with secrets, the command line.
//!
//! Everything is stored before it is sent or shown, so that a crash between two
//! steps is repaired by running the step again.

pub mod assess;
pub mod clerk;
pub mod cli;
pub mod config;
pub mod deployment;
pub mod files;
pub mod issuer;
pub mod relay;
pub mod root;
pub mod store;

use rand_core::CryptoRng;

/// Randomness as an argument: the operating system's in production.
pub type Randomness = dyn CryptoRng + Send + Sync;

/// `N` random bytes.
pub(crate) fn random<const N: usize>(rng: &mut Randomness) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
