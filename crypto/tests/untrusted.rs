//! No bytes from outside make anything panic, and refusing them changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "what goes wrong here fails a test"
)]

#[path = "model/untrusted.rs"]
mod untrusted;

use proptest::{prelude::*, sample::Index};

/// A small change somewhere in a valid input.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (
            at(),
            prop_oneof![Just(0), Just(0x7f), Just(0xff), any::<u8>()]
        )
            .prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Remove),
        at().prop_map(Change::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Change::Set(at, byte) => *at.get_mut(bytes) = *byte,
        Change::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
        Change::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Change::Truncate(at) => bytes.truncate(at.index(bytes.len())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        untrusted::everything(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_plausible_start(
        start in prop_oneof![Just(0x44_u8), Just(0x33), Just(0x22), Just(0x23), Just(0x11), Just(0xc0), Just(0x01), Just(0x05)],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        untrusted::everything(&[&[start], &bytes[..]].concat());
    }

    #[test]
    fn valid_inputs_changed_a_little(
        seed in any::<Index>(),
        changes in proptest::collection::vec(change(), 0..4),
    ) {
        let mut bytes = seed.get(&untrusted::scene().seeds).clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        untrusted::everything(&bytes);
    }
}
