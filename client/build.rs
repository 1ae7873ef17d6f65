//! Compiles the `.proto` files in pure Rust (protox), so that no `protoc` is needed.

use std::error::Error;
use std::path::Path;

/// Enumerations: numbers without a person behind them.
const PRINTABLE: [&str; 5] = [
    "ReceiptKind",
    "MembershipRole",
    "AiBackend",
    "AiClass",
    "ContactOrigin",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    let wire = Path::new("../wire/proto");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("wardline/client/v1"))? {
        files.push(entry?.path());
    }
    files.sort();
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../wire/proto");
    let descriptors = protox::compile(&files, [root, wire])?;
    let mut config = prost_build::Config::new();
    // All of this is content, membership or keys: none of it prints.
    config.skip_debug(["."]);
    for name in PRINTABLE {
        config.type_attribute(format!(".wardline.client.v1.{name}"), "#[derive(Debug)]");
    }
    config
        // What is signed and what the directory says is wire's; its crate has the types.
        .extern_path(".wardline.wire.v1", "::wardline_wire::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
