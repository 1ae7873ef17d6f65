//! Compiles the `.proto` files in pure Rust (protox), so that no `protoc` is needed.

use std::error::Error;
use std::path::Path;

const PRINTABLE: [&str; 14] = [
    "Role",
    "RevocationKind",
    "AccountStatus",
    "CiphertextType",
    "ErrorCode",
    "RecipientResult.result",
    "Accepted",
    "Mismatch",
    "Full",
    "Limited",
    "Blocked",
    "Conflict",
    "Hello",
    "PreKeyStock",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("wardline/wire/v1"))? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, [root])?;
    let mut config = prost_build::Config::new();
    // Ciphertexts, keys and invite secrets travel in these types: none of them
    // prints, but for the few that hold nothing but numbers.
    config.skip_debug(["."]);
    for name in PRINTABLE {
        config.type_attribute(format!(".wardline.wire.v1.{name}"), "#[derive(Debug)]");
    }
    config
        .bytes([
            ".wardline.wire.v1.DeviceCiphertext",
            ".wardline.wire.v1.Envelope",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
