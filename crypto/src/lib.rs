//! The Signal protocol and nothing else.
//!
//! No I/O, no async, no clock: time and randomness are arguments, bytes and keys go in, values
//! come out. Wire-compatible with the official libsignal.

#![deny(missing_docs)]

pub mod address;
mod codec;
pub mod curve;
pub mod fingerprint;
pub mod identity;
mod kdf;
pub mod kem;
pub mod message;
mod pqxdh;
pub mod prekey;
mod ratchet;
pub mod secret;
pub mod spqr;
pub mod timestamp;

pub use codec::StoredRecordError;

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
