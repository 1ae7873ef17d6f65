//! Whatever two devices do and whatever the line does to their messages: each message opens at
//! most once and as it was written, a refused one changes nothing, and an honest line heals all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "what goes wrong here fails a test"
)]

mod model;

use model::{Action, World};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_actions(
        seed in any::<u64>(),
        actions in proptest::collection::vec(any::<[u8; 3]>(), 0..300),
    ) {
        let mut world = World::new(seed);
        for bytes in actions {
            world.perform(Action::from_bytes(bytes));
        }
        world.settle();
    }
}

#[test]
fn a_long_run_gets_through_many_epochs() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut world = World::new(7);
    for _ in 0..6000 {
        world.perform(Action::from_bytes(rng.random()));
    }
    world.settle();
    assert!(world.opened > 1500, "{}", world.opened);
}
