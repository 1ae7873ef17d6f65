//! Clients against the real relay and the real authority, and against a relay in memory that a
//! test can make forget, repeat and fall silent.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers: what is not as it should be ends the test"
)]

mod it {
    mod crash;
    mod fake;
    mod talk;
}
