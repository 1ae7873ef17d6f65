//! Writes the scene's valid inputs as a start for every target: `cargo run --bin seeds`.

#![allow(dead_code, unreachable_pub, reason = "uses its own part of the shared harness")]

#[path = "../../../tests/model/untrusted.rs"]
mod untrusted;

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["keys", "messages", "records", "decrypt", "sender_keys", "sealed", "post_quantum"] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in untrusted::scene().seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
