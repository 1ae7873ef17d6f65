//! The real binary, as an operator starts, asks, stops and kills it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const DEPLOYMENT: &str = "00112233445566778899aabbccddeeff";
const ROOT_KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn relay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wardline-relay"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a first configuration; also what `init` printed.
fn first(extra: &[&str]) -> (TempDir, PathBuf, Value) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("relay");
    let mut arguments = vec![
        "init",
        "--dir",
        folder.to_str().unwrap(),
        "--deployment-id",
        DEPLOYMENT,
        "--root-key",
        ROOT_KEY,
        "--listen",
        "127.0.0.1:0",
        "--json",
    ];
    arguments.extend(extra);
    let output = relay(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (dir, folder.join("relay.toml"), report)
}

/// A relay that runs until it is dropped.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    port: u16,
    url: String,
}

impl Running {
    fn start(config: &Path) -> Self {
        let port_file = config.with_file_name("port");
        let mut child = Command::new(env!("CARGO_BIN_EXE_wardline-relay"))
            .args(["serve", "--config", config.to_str().unwrap()])
            .args(["--port-file", port_file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut stderr = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut stderr)
                .unwrap();
            panic!("it did not start: {stderr}");
        }
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"], "listening");
        let port: u16 = std::fs::read_to_string(port_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let url = line["url"].as_str().unwrap().to_owned();
        assert!(url.ends_with(&format!(":{port}")));
        Self {
            child,
            stdout,
            port,
            url,
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Everything a plain connection answers.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut answer);
        text(&answer)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

#[test]
fn from_nothing_to_a_healthy_relay_and_down() {
    let (_dir, config, report) = first(&[]);
    let key = report["relay_key_sha256"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    let path = config.to_str().unwrap();
    let check = relay(&["config", "check", "--config", path]);
    assert!(check.status.success(), "{}", text(&check.stderr));
    let mut running = Running::start(&config);
    assert!(running.url.starts_with("https://127.0.0.1:"));
    let port = running.port.to_string();
    let healthy = relay(&["healthcheck", "--config", path, "--port", &port]);
    assert!(healthy.status.success(), "{}", text(&healthy.stderr));
    running.signal("-TERM");
    assert!(running.child.wait().unwrap().success());
    let mut rest = String::new();
    running.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "standard output is for the one line");
    let unhealthy = relay(&["healthcheck", "--config", path, "--port", &port]);
    assert!(!unhealthy.status.success());
}

#[test]
fn what_init_wrote_is_not_overwritten_and_keys_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, config, _) = first(&[]);
    let folder = config.parent().unwrap();
    let again = relay(&[
        "init",
        "--dir",
        folder.to_str().unwrap(),
        "--deployment-id",
        DEPLOYMENT,
        "--root-key",
        ROOT_KEY,
    ]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("database.key"));
    drop(Running::start(&config));
    for name in ["database.key", "tls.key", "relay.db"] {
        let mode = std::fs::metadata(folder.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn the_pinned_key_is_what_the_relay_shows() {
    let (_dir, config, report) = first(&[]);
    let running = Running::start(&config);
    let mut pin = [0; 32];
    hex::decode_to_slice(report["relay_key_sha256"].as_str().unwrap(), &mut pin).unwrap();
    let status = |pin: [u8; 32]| {
        let tls = wardline_tls::client_config(Some(pin)).unwrap();
        let url = format!("{}/healthz", running.url);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async move {
                let client = reqwest::Client::builder()
                    .tls_backend_preconfigured(tls)
                    .build()
                    .unwrap();
                client
                    .get(url)
                    .send()
                    .await
                    .map(|answer| answer.status().as_u16())
            })
    };
    assert_eq!(status(pin).unwrap(), 200);
    assert!(status([0; 32]).is_err());
    // Another key, and a word to the relay.
    let (_other_dir, other, report) = first(&[]);
    for name in ["tls.crt", "tls.key"] {
        std::fs::copy(other.with_file_name(name), config.with_file_name(name)).unwrap();
    }
    running.signal("-HUP");
    let mut other_pin = [0; 32];
    hex::decode_to_slice(report["relay_key_sha256"].as_str().unwrap(), &mut other_pin).unwrap();
    let reloaded = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        status(other_pin).is_ok()
    });
    assert!(reloaded);
    assert!(status(pin).is_err());
}

#[test]
fn a_database_is_not_opened_with_another_key_and_holds_no_plain_text() {
    let (_dir, config, _) = first(&["--plain"]);
    drop(Running::start(&config));
    let database = config.with_file_name("relay.db");
    let bytes = std::fs::read(&database).unwrap();
    assert!(!bytes.starts_with(b"SQLite format 3"));
    std::fs::write(config.with_file_name("database.key"), "00".repeat(32)).unwrap();
    let output = relay(&["serve", "--config", config.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("right key"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn mistakes_in_the_configuration_are_explained() {
    let (_dir, config, _) = first(&["--plain"]);
    let good = std::fs::read_to_string(&config).unwrap();
    for (broken, words) in [
        (
            format!("lisen = \"127.0.0.1:1\"\n{good}"),
            "did you mean `listen`",
        ),
        (good.replace("127.0.0.1:0", "0.0.0.0:0"), "[tls]"),
        (
            good.replace("root_key = \"d7", "root_key = \"zz"),
            "root_key",
        ),
        (
            format!("{good}\n[tls]\ncertificate_file = \"none.crt\"\nkey_file = \"none.key\"\n"),
            "none.crt",
        ),
    ] {
        std::fs::write(&config, &broken).unwrap();
        let output = relay(&["serve", "--config", config.to_str().unwrap()]);
        assert!(!output.status.success());
        let stderr = text(&output.stderr);
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = relay(&[
        "init",
        "--dir",
        dir.path().join("x").to_str().unwrap(),
        "--deployment-id",
        DEPLOYMENT,
        "--root-key",
        ROOT_KEY,
        "--listen",
        "0.0.0.0:1",
        "--plain",
    ]);
    assert!(!output.status.success() && text(&output.stderr).contains("loopback"));
}

#[test]
fn init_reads_the_authoritys_file() {
    let dir = tempfile::tempdir().unwrap();
    let deployment = dir.path().join("deployment.toml");
    std::fs::write(
        &deployment,
        format!("deployment_id = \"{DEPLOYMENT}\"\nroot_key = \"{ROOT_KEY}\"\n"),
    )
    .unwrap();
    let folder = dir.path().join("relay");
    let output = relay(&[
        "init",
        "--dir",
        folder.to_str().unwrap(),
        "--deployment-file",
        deployment.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--plain",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let running = Running::start(&folder.join("relay.toml"));
    assert!(running.url.starts_with("http://"));
}

#[test]
fn epochs_rise_and_never_repeat() {
    let (_dir, config, _) = first(&["--plain"]);
    let raise = || {
        let output = relay(&["raise-epoch", "--config", config.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let words = text(&output.stdout);
        let number = words
            .split(|c: char| !c.is_ascii_digit())
            .find(|word| !word.is_empty());
        number.unwrap().parse::<u64>().unwrap()
    };
    let first = raise();
    assert!(first > 1_000_000_000 && raise() > first);
}

#[test]
fn metrics_stay_on_loopback_listeners() {
    let (_dir, config, _) = first(&["--plain"]);
    let running = Running::start(&config);
    let answer = running.ask(&get("/metrics"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(running);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("metrics_listen = \"127.0.0.1:0\"\n{text}")).unwrap();
    let running = Running::start(&config);
    assert!(running.ask(&get("/metrics")).starts_with("HTTP/1.1 404"));
}

#[test]
fn requests_that_are_not_http_end_and_hurt_nobody() {
    let (_dir, config, _) = first(&["--plain"]);
    let running = Running::start(&config);
    let many_headers = "X: y\r\n".repeat(100);
    for request in [
        "\r\n\r\n\r\n".to_owned(),
        "NONSENSE\r\n\r\n".to_owned(),
        "\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n"),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000)),
    ] {
        let answer = running.ask(&request);
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{answer}");
    }
    // A head that never ends is cut off: `ask` would otherwise wait for ever.
    let mut slow = TcpStream::connect(("127.0.0.1", running.port)).unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
    slow.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert!(!text(&answer).contains("200 OK"));
    assert!(running.ask(&get("/healthz")).starts_with("HTTP/1.1 200"));
}
