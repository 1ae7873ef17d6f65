//! Prekeys.

pub(crate) mod fetch;
pub(crate) mod stock;
pub(crate) mod upload;
