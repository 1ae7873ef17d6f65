//! The two programs that speak the test-peer protocol.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Map, Value, json};

/// A running peer program.
pub struct Process {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next_id: u64,
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: String,
    pub text: String,
}

impl Process {
    /// Wardline's own peer, built from this crate's sources as they are.
    pub fn ours() -> Self {
        Self::start("ours", &mut Command::new(build_example()))
    }

    /// The official library behind Node.
    pub fn official() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop");
        let node = Command::new("node").arg("--version").output();
        assert!(
            node.is_ok_and(|output| output.status.success()),
            "missing: node (20 or newer) is not on the PATH; `cargo xtask test` installs it"
        );
        let package = folder.join("node_modules/@signalapp/libsignal-client/package.json");
        assert!(
            package.exists(),
            "missing: the official libsignal package; run `npm ci` in {}, or `cargo xtask test`",
            folder.display()
        );
        Self::start(
            "official",
            Command::new("node").arg(folder.join("official-peer.mjs")),
        )
    }

    fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the {name} peer does not start: {error}"));
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            name,
            child,
            stdin,
            stdout,
            next_id: 1,
        }
    }

    /// Sends one request and waits for its reply.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Map<String, Value>, Refusal> {
        let Value::Object(mut request) = arguments else {
            panic!("arguments are an object")
        };
        let id = self.next_id;
        self.next_id += 1;
        request.insert("id".into(), json!(id));
        request.insert("cmd".into(), json!(command));
        writeln!(self.stdin, "{}", Value::Object(request)).unwrap();
        self.stdin.flush().unwrap();

        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let reply = serde_json::from_str(&line);
        let Ok(Value::Object(reply)) = reply else {
            panic!("the {} peer answered {command} with {line:?}", self.name)
        };
        assert_eq!(reply["id"], json!(id), "replies come in order");
        if reply["ok"] == json!(true) {
            return Ok(reply);
        }
        let text = |name: &str| reply[name].as_str().unwrap().to_owned();
        Err(Refusal {
            kind: text("kind"),
            text: text("error"),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both programs end by themselves when stdin closes; nothing is left to chance.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the example with the profile of this test and says where it is. Examples are not built
/// for `cargo test --test interop`, and one left over from before would test the wrong code.
fn build_example() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "wardline-crypto",
        "--example",
        "peer",
    ]);
    cargo.args(["--message-format", "json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "the example `peer` does not build");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "peer")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable")
}
