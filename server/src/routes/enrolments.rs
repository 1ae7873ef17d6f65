//! Newcomers.

pub(crate) mod create;
