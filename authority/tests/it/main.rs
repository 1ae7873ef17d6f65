//! The authority against a relay that a test controls, and as people start it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::result_large_err,
    reason = "test helpers: a failure is the test's"
)]

mod clinic;
mod command_line;
mod double;
mod enrolments;
mod invites;
mod pinning;
mod real_relay;
mod renewals;
mod revocations;
