//! The revocation list, as everyone reads it.

pub(crate) mod read;
