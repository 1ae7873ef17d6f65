//! The test peer: `wardline-crypto`'s public API behind JSON lines, over in-memory stores.
//!
//! One request a line on stdin, one reply a line on stdout, in order. It speaks the same commands
//! as `tests/interop/official-peer.mjs`, so a test can put either program on either end of a
//! session. Nothing here is fit for use outside tests: private keys arrive and leave in the clear.

mod commands;
mod error;
mod request;
mod sealed;
mod store;

use std::io::{self, BufRead, Write};

use commands::Peers;
use error::PeerError;
use request::Request;
use serde_json::{Map, Value, json};

fn main() -> io::Result<()> {
    let mut peers = Peers::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        serde_json::to_writer(&mut out, &reply(&mut peers, &line))?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// The reply to one line, whatever is on it.
fn reply(peers: &mut Peers, line: &str) -> Value {
    let value = serde_json::from_str::<Value>(line).unwrap_or(Value::Null);
    let id = value.get("id").cloned().unwrap_or(Value::Null);
    let result = match &value {
        Value::Object(fields) => peers.run(Request::new(fields)),
        _ => Err(PeerError::bad("not a JSON object")),
    };
    match result {
        Ok(fields) => {
            let mut reply = Map::from_iter([("id".into(), id), ("ok".into(), json!(true))]);
            reply.extend(fields);
            Value::Object(reply)
        }
        Err(error) => {
            json!({ "id": id, "ok": false, "error": error.text, "kind": error.kind })
        }
    }
}
