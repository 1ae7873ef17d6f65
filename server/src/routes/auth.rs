//! Log-in.

pub(crate) mod challenge;
pub(crate) mod token;
