//! Clients against the real relay and the real authority, and against a relay in memory that a
//! test can make forget, repeat and fall silent.

mod it {
    mod crash;
    mod fake;
    mod talk;
}
