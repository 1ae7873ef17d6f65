//! The clinic's installation.

pub(crate) mod read;
