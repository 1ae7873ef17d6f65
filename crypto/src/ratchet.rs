//! The ratchets: one key-derivation step each in `keys`, the elliptic-curve ratchet in `double`,
//! and both ratchets together in `triple`.
//!
//! They know nothing of sessions, messages on the wire, or storage beyond their own encoding.

pub(crate) mod double;
pub(crate) mod keys;
pub(crate) mod triple;
