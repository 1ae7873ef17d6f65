//! What the tests share: vectors, hex, and randomness that follows a script.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::{collections::VecDeque, convert::Infallible};

use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;

/// One file of `tests/vectors/`.
pub fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// The list under `key`, which must not be empty: a loop over nothing proves nothing.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no list {key}"));
    assert!(!list.is_empty(), "{key} is empty");
    list
}

/// The hex string under `key`.
pub fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(value, key)).unwrap()
}

/// The hex string under `key`, which is `N` bytes.
pub fn array<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    bytes(value, key)
        .try_into()
        .unwrap_or_else(|_| panic!("{key} is not {N} bytes"))
}

/// The string under `key`.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no string {key} in {value}"))
}

/// The number under `key`.
pub fn number(value: &Value, key: &str) -> u32 {
    let number = value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {key}"));
    u32::try_from(number).unwrap()
}

/// Randomness that yields exactly the given draws, in order, and panics on any other draw.
#[derive(Default)]
pub struct Script(VecDeque<Vec<u8>>);

impl Script {
    pub fn new<I: IntoIterator<Item = Vec<u8>>>(draws: I) -> Self {
        Self(draws.into_iter().collect())
    }

    pub fn push(&mut self, draw: Vec<u8>) {
        self.0.push_back(draw);
    }

    /// Asserts that everything was drawn.
    pub fn finish(self) {
        assert!(
            self.0.is_empty(),
            "{} recorded values were not drawn",
            self.0.len()
        );
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        let draw = self
            .0
            .pop_front()
            .expect("a draw that the script does not know");
        assert_eq!(
            draw.len(),
            dst.len(),
            "a draw of another length than the script's"
        );
        dst.copy_from_slice(&draw);
        Ok(())
    }
}

impl TryCryptoRng for Script {}
