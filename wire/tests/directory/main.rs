//! The directory's promises: what is believed, and why everything else is not.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "test helpers and tables: a failure is the test's"
)]

mod certificates;
mod clinic;
mod device_lists;
mod malformed;
mod revocations;
