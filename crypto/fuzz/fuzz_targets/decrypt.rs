//! Messages to a device, in a session and out of the blue.
#![no_main]
#![allow(dead_code, unreachable_pub, reason = "a target uses its own part of the shared harness")]

#[path = "../../tests/model/untrusted.rs"]
mod untrusted;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| untrusted::decrypt(bytes));
