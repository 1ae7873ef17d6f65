//! The promises of the whole system, one file each. The real binaries run, and
//! are talked to as users, officers and attackers would.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests; what helpers outside of a test function index or refuse fails the test"
)]

mod bad_input;
mod bad_input_at_people;
mod compose;
mod hostile_delivery;
mod hostile_directory;
mod hostile_membership;
mod hostile_retry;
mod joining;
mod kill;
mod pinned_tls;
mod relay_promises;
mod relay_sees_only_ciphertext;
mod restored_database;
