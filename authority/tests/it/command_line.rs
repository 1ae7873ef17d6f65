//! The binary, as people start it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use wardline_authority::deployment;
use wardline_wire::clock::{Clock as _, ManualClock, SystemClock};
use wardline_wire::invite::Invite;
use wardline_wire::proto::{PendingEnrolment, Role};

use crate::clinic::Person;
use crate::double::Double;

struct Installation {
    dir: TempDir,
}

impl Installation {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("phrase"), "several plain words\n").unwrap();
        Self { dir }
    }

    /// With root and issuer.
    fn ready() -> Self {
        let made = Self::new();
        made.json(&[
            "init",
            "--dir",
            "root",
            "--passphrase-file",
            "phrase",
            "--work-factor",
            "4",
        ]);
        made.json(&[
            "issuer",
            "--dir",
            "root",
            "--roles",
            "patient,staff,ai",
            "--days",
            "90",
            "--out",
            "issuer",
            "--passphrase-file",
            "phrase",
        ]);
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline-authority"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs with `--json`; it must succeed and print one object.
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text} {words}");
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs with `--json`; it must fail with this code. Returns the error's kind.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["error"]["code"], code);
        value["error"]["kind"].as_str().unwrap().to_owned()
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_root_and_an_issuer_are_made_from_the_command_line() {
    let made = Installation::new();
    let init = [
        "init",
        "--dir",
        "root",
        "--passphrase-file",
        "phrase",
        "--work-factor",
        "4",
    ];
    let value = made.json(&init);
    let anchor = deployment::read(&made.path("root")).unwrap();
    assert_eq!(value["deployment_id"], anchor.deployment().to_string());
    assert_eq!(value["root_key"], hex::encode(anchor.root().as_bytes()));
    assert_eq!(value["root_fingerprint"], hex::encode(anchor.fingerprint()));
    assert_eq!(made.fails(1, &init), "exists");
    assert_eq!(mode(&made.path("root")), 0o700);
    assert_eq!(mode(&made.path("root/root.age")), 0o600);
    let sealed = std::fs::read_to_string(made.path("root/root.age")).unwrap();
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));

    let issuer = made.json(&[
        "issuer",
        "--dir",
        "root",
        "--roles",
        "patient,staff",
        "--out",
        "issuer",
        "--passphrase-file",
        "phrase",
    ]);
    let serial = issuer["serial"].as_str().unwrap();
    let keys = made.path(&format!("issuer/issuers/{serial}.key"));
    assert_eq!(mode(&keys), 0o600);
    assert_eq!(deployment::read(&made.path("issuer")).unwrap(), anchor);
    // The root's own note, to revoke it by.
    let note = std::fs::read_to_string(made.path("root/issuers.jsonl")).unwrap();
    assert!(note.contains(serial));
    // A second one lies beside the first; another clinic's does not.
    made.json(&[
        "issuer",
        "--dir",
        "root",
        "--roles",
        "ai",
        "--out",
        "issuer",
        "--passphrase-file",
        "phrase",
    ]);
    made.json(&[
        "init",
        "--dir",
        "root2",
        "--passphrase-file",
        "phrase",
        "--work-factor",
        "4",
    ]);
    let kind = made.fails(
        1,
        &[
            "issuer",
            "--dir",
            "root2",
            "--roles",
            "ai",
            "--out",
            "issuer",
            "--passphrase-file",
            "phrase",
        ],
    );
    assert_eq!(kind, "exists");
}

#[test]
fn passphrases_come_from_files_or_a_terminal_only() {
    let made = Installation::new();
    assert_eq!(made.fails(1, &["init", "--dir", "root"]), "passphrase");
    std::fs::write(made.path("short"), "short\n").unwrap();
    let short = ["init", "--dir", "root", "--passphrase-file", "short"];
    assert_eq!(made.fails(1, &short), "passphrase");
    let absent = ["init", "--dir", "root", "--passphrase-file", "absent"];
    assert_eq!(made.fails(1, &absent), "not-found");
    assert!(!made.path("root").exists());
    let made = Installation::ready();
    std::fs::write(made.path("wrong"), "several other words\n").unwrap();
    let kind = made.fails(
        1,
        &[
            "issuer",
            "--dir",
            "root",
            "--roles",
            "ai",
            "--out",
            "x",
            "--passphrase-file",
            "wrong",
        ],
    );
    assert_eq!(kind, "passphrase");
}

#[test]
fn an_issuers_keys_can_be_under_a_passphrase_and_others_may_not_read_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let made = Installation::ready();
    std::fs::write(made.path("other"), "quite different words\n").unwrap();
    let issuer = made.json(&[
        "issuer",
        "--dir",
        "root",
        "--roles",
        "patient",
        "--out",
        "sealed",
        "--passphrase-file",
        "phrase",
        "--issuer-passphrase-file",
        "other",
        "--work-factor",
        "4",
    ]);
    let serial = issuer["serial"].as_str().unwrap();
    assert!(
        made.path(&format!("sealed/issuers/{serial}.key.age"))
            .exists()
    );
    assert!(!made.path(&format!("sealed/issuers/{serial}.key")).exists());
    assert_eq!(
        made.fails(1, &["accounts", "--dir", "sealed"]),
        "passphrase"
    );
    made.json(&[
        "accounts",
        "--dir",
        "sealed",
        "--issuer-passphrase-file",
        "other",
    ]);

    let folder = std::fs::read_dir(made.path("issuer/issuers")).unwrap();
    for entry in folder {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "key") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    assert_eq!(
        made.fails(1, &["accounts", "--dir", "issuer"]),
        "permissions"
    );
}

#[test]
fn usage_and_settings_are_checked() {
    let made = Installation::ready();
    let code = |args: &[&str]| made.run(args).status.code();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
    for command in [
        "init",
        "issuer",
        "invite",
        "invites",
        "list",
        "approve",
        "reject",
        "accounts",
        "serve",
        "revoke",
        "list-revocations",
    ] {
        let output = made.run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Example"), "{command} has no example");
    }
    assert_eq!(code(&["unknown"]), Some(64));
    assert_eq!(code(&["invite", "--role", "nurse"]), Some(64));
    assert_eq!(
        code(&[
            "invite", "--role", "staff", "--handle", "x y", "--name", "X"
        ]),
        Some(64)
    );
    assert_eq!(code(&["revoke", "--reason", "x"]), Some(64));
    assert_eq!(
        made.fails(1, &["accounts", "--dir", "nowhere"]),
        "not-found"
    );
    let invite = ["invite", "--dir", "issuer", "--role", "patient"];
    assert_eq!(made.fails(1, &invite), "config");
    let far = [&invite[..], &["--relay-url", "http://relay.example"]].concat();
    assert_eq!(made.fails(1, &far), "relay-url");
    std::fs::write(made.path("issuer/authority.toml"), "relay_ulr = \"x\"\n").unwrap();
    assert_eq!(made.fails(1, &invite), "config");
}

#[test]
fn an_invite_without_a_relay_is_kept() {
    let made = Installation::ready();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let args = [
        "invite",
        "--dir",
        "issuer",
        "--role",
        "staff",
        "--handle",
        "dr.okafor",
        "--name",
        "Dr. Okafor",
        "--relay-url",
        &url,
    ];
    let output = made.run(&args);
    assert!(output.status.success());
    let link = String::from_utf8(output.stdout).unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("the invite is kept"), "{words}");
    let invite = Invite::from_link(&link, SystemClock.now()).unwrap();
    assert_eq!(
        (invite.role, invite.relay_url.as_str()),
        (Role::Staff, url.as_str())
    );
    let again = made.json(&args);
    assert_eq!(again["link"], link.trim_end());
    assert_eq!(again["admitted"], false);
    let shown = made.json(&["invites", "--dir", "issuer"]);
    assert_eq!(shown["invites"][0]["state"], "waiting");
    assert_eq!(shown["invites"][0]["handle"], "dr.okafor");
    let id = shown["invites"][0]["invite"].as_str().unwrap();
    let one = made.json(&["invites", "--dir", "issuer", "--show", id]);
    assert_eq!(one["link"], link.trim_end());
    // The secret is nowhere in the files in the clear.
    let database = std::fs::read(made.path("issuer/authority.db")).unwrap();
    let log = std::fs::read(made.path("issuer/authority.db-wal")).unwrap_or_default();
    for file in [database, log] {
        let has = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
        assert!(!has(invite.secret.expose()) && !has(b"dr.okafor") && !has(b"SQLite format"));
    }
}

/// Ends the process it holds, if the test does not.
struct Running(Child);

impl Running {
    fn terminate(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_admits_certifies_publishes_and_stops() {
    let made = Installation::ready();
    let anchor = deployment::read(&made.path("issuer")).unwrap();
    let clock = ManualClock::new(SystemClock.now());
    let relay = Double::start(anchor.clone(), clock).await;
    let invite = made.json(&[
        "invite",
        "--dir",
        "issuer",
        "--role",
        "patient",
        "--relay-url",
        &relay.url,
    ]);
    assert_eq!(invite["admitted"], true);
    let serve = [
        "serve",
        "--dir",
        "issuer",
        "--relay-url",
        &relay.url,
        "--poll-seconds",
        "0.1",
        "--json",
    ];
    let running = Running(
        made.command(&serve)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let link = invite["link"].as_str().unwrap();
    let invite = Invite::from_link(link, SystemClock.now()).unwrap();
    let person = Person::new(anchor.deployment());
    relay.desk().pending.push(PendingEnrolment {
        request: Some(person.request(&invite.secret, invite.role)),
        sealed_request: Vec::new(),
    });
    let mut done = false;
    for _ in 0..600 {
        done = {
            let desk = relay.desk();
            !desk.decisions.is_empty() && desk.revocations.is_some() && !desk.issuers.is_empty()
        };
        if done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(done, "nothing was certified");
    assert!(relay.desk().decisions[0].certificate.is_some());
    // One at a time.
    assert_eq!(made.fails(8, &serve[..serve.len() - 1]), "in-use");
    // Commands work beside it.
    let accounts = made.json(&["accounts", "--dir", "issuer"]);
    assert_eq!(
        accounts["accounts"][0]["account"],
        person.account.to_string()
    );
    assert_eq!(accounts["accounts"][0]["role"], "patient");
    let account = person.account.to_string();
    let revoked = made.json(&[
        "revoke",
        "--dir",
        "issuer",
        "--relay-url",
        &relay.url,
        "--account",
        &account,
        "--reason",
        "test",
    ]);
    assert_eq!(
        (&revoked["published"], &revoked["entries"]),
        (&true.into(), &1.into())
    );
    let shown = made.json(&["list-revocations", "--dir", "issuer"]);
    assert_eq!(shown["revocations"][0]["id"], account);
    assert_eq!(shown["published"], true);
    assert_eq!(running.terminate(), Some(0));
    // Another clinic's relay is refused from the start.
    relay.desk().shown_root = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
    let list = ["list", "--dir", "issuer", "--relay-url", &relay.url];
    assert_eq!(made.fails(4, &list), "other-deployment");
    assert_eq!(made.fails(4, &serve[..serve.len() - 1]), "other-deployment");
}
