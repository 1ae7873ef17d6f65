//! Two devices and a hostile line: whatever happens, messages open once and unchanged.
#![no_main]
#![allow(dead_code, unreachable_pub, reason = "a target uses its own part of the shared harness")]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut world = model::World::new(1);
    let (actions, _) = bytes.as_chunks();
    for action in actions.iter().take(2000) {
        world.perform(model::Action::from_bytes(*action));
    }
    world.settle();
});
