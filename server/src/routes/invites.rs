//! Invites that clients make.

pub(crate) mod create;
