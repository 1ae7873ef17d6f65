//! The clinic of the demo: its processes and its people, each behind the binary that they would
//! use.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// How long a process may take until it is ready.
const START: Duration = Duration::from_secs(30);
/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running process; stopped when dropped.
struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clinic. Its servers stop when it is dropped.
pub(super) struct Clinic {
    dir: PathBuf,
    relay_url: String,
    servers: Vec<Server>,
}

impl Clinic {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            relay_url: String::new(),
            servers: Vec::new(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn relay_url(&self) -> &str {
        &self.relay_url
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Root, issuer, relay, and the issuer's process.
    pub(super) fn found(&mut self) -> anyhow::Result<()> {
        let (root, issuer, relay) = (
            self.path("authority/root"),
            self.path("authority/issuer"),
            self.path("relay"),
        );
        let passphrase = self.path("authority/passphrase");
        fs::create_dir_all(self.path("authority"))?;
        write_secret(&passphrase, "a passphrase for the demonstration only")?;
        output(
            binary("wardline-authority")?
                // scrypt's cost is for real roots, not for this one.
                .args(["init", "--work-factor", "10", "--dir"])
                .arg(&root)
                .arg("--passphrase-file")
                .arg(&passphrase),
        )?;
        output(
            binary("wardline-authority")?
                .args(["issuer", "--roles", "patient,staff,ai", "--dir"])
                .arg(&root)
                .arg("--out")
                .arg(&issuer)
                .arg("--passphrase-file")
                .arg(&passphrase),
        )?;
        output(
            binary("wardline-relay")?
                .args(["init", "--plain", "--listen", "127.0.0.1:0", "--dir"])
                .arg(&relay)
                .arg("--deployment-file")
                .arg(root.join("deployment.toml")),
        )?;
        let ready = self.start(
            "relay",
            binary("wardline-relay")?
                .args(["serve", "--config"])
                .arg(relay.join("relay.toml")),
        )?;
        let url = ready
            .get("url")
            .and_then(Value::as_str)
            .context("the relay did not say where it listens")?;
        url.clone_into(&mut self.relay_url);
        let url = url.to_owned();
        self.start(
            "authority",
            binary("wardline-authority")?
                .args([
                    "--json",
                    "serve",
                    "--poll-seconds",
                    "0.2",
                    "--relay-url",
                    &url,
                    "--dir",
                ])
                .arg(&issuer),
        )?;
        Ok(())
    }

    /// Dr Lee, invited by the clinic's authority.
    pub(super) fn enrol_clinician(&self) -> anyhow::Result<()> {
        let link = self.authority_invite("staff", "dr-lee", "Dr Mira Lee")?;
        self.enrol("clinician", &link, None)
    }

    /// The AI endpoint, invited by the clinic's authority, and its process.
    pub(super) fn start_assistant(&mut self, model: Option<(&str, &str)>) -> anyhow::Result<()> {
        let dir = self.path("ai");
        fs::create_dir_all(&dir)?;
        let passphrase = dir.join("passphrase");
        write_secret(&passphrase, "a passphrase for the demonstration only")?;
        let mut config = format!(
            "[profile]\ndir = {:?}\npassphrase_file = {:?}\n\n[display]\nname = \"Assistant\"\nhandles = [\"assistant\"]\n",
            dir.join("profile").to_string_lossy(),
            passphrase.to_string_lossy()
        );
        if let Some((url, name)) = model {
            write!(
                config,
                "\n[model]\nbackend = \"ollama\"\nurl = {url:?}\nname = {name:?}\n"
            )?;
        }
        let file = dir.join("ai.toml");
        fs::write(&file, config)?;
        let link = self.authority_invite("ai", "assistant", "Assistant")?;
        let mut enroll = binary("wardline-ai")?;
        enroll.args(["enroll", "-", "--config"]).arg(&file);
        output_with_input(&mut enroll, &link)?;
        let mut run = binary("wardline-ai")?;
        run.args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(self.log("ai")?)
            .stderr(self.log("ai")?);
        let child = run.spawn().context("wardline-ai cannot be started")?;
        self.servers.push(Server { child });
        self.until("the assistant is well", START, || {
            let well = binary("wardline-ai")?
                .args(["healthcheck", "--config"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?
                .success();
            Ok(well.then_some(()))
        })
    }

    /// The patient, invited by Dr Lee.
    pub(super) fn enrol_patient(&self) -> anyhow::Result<()> {
        let invite = self.wardline(
            "clinician",
            &["invite", "--role", "patient", "--label", "Sam"],
        )?;
        let link = invite
            .get("link")
            .and_then(Value::as_str)
            .context("no invite link")?
            .to_owned();
        self.enrol("patient", &link, Some("Sam"))?;
        // The invite's label becomes the patient's name once the client has seen them arrive.
        self.until("the clinician knows the patient", START, || {
            let contacts = self.wardline_lines("clinician", &["contacts"])?;
            Ok(contacts
                .iter()
                .any(|contact| contact.get("label").and_then(Value::as_str) == Some("Sam"))
                .then_some(()))
        })
    }

    /// The conversation of the three; its id.
    pub(super) fn open_conversation(&self) -> anyhow::Result<String> {
        let made = self.wardline(
            "clinician",
            &[
                "conversations",
                "create",
                "--title",
                "Knee operation",
                "--member",
                "Sam",
                "--member",
                "@assistant",
            ],
        )?;
        Ok(made
            .get("id")
            .and_then(Value::as_str)
            .context("no conversation id")?
            .to_owned())
    }

    pub(super) fn wait_for_conversation(
        &self,
        person: &str,
        conversation: &str,
    ) -> anyhow::Result<()> {
        self.until("the conversation arrives", START, || {
            let known = self.wardline_lines(person, &["conversations"])?;
            Ok(known
                .iter()
                .any(|one| one.get("id").and_then(Value::as_str) == Some(conversation))
                .then_some(()))
        })
    }

    /// Sends, and waits until the relay has taken it for everybody.
    pub(super) fn say(&self, person: &str, conversation: &str, text: &str) -> anyhow::Result<()> {
        let mut command = self.wardline_command(person)?;
        command.args(["send", conversation, "-"]);
        output_with_input(&mut command, text).map(drop)
    }

    /// Fetches until a stored message is the wanted one.
    pub(super) fn wait_for_message(
        &self,
        person: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        self.until("the message arrives", patience, || {
            Ok(self
                .wardline_lines(person, &["messages"])?
                .into_iter()
                .find(|message| wanted(message)))
        })
    }

    /// Listens as a person, from the first message on, until `wanted` says so of a line.
    pub(super) fn follow(
        &self,
        person: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut command = self.wardline_command(person)?;
        command
            .args([
                "listen",
                "--partial",
                "--after",
                "0",
                "--for",
                &patience.as_secs().to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log(person)?);
        let mut listener = Server {
            child: command.spawn().context("wardline cannot be started")?,
        };
        let lines = listener
            .child
            .stdout
            .take()
            .context("wardline has no output")?;
        for line in BufReader::new(lines).lines() {
            let event: Value = serde_json::from_str(&line?)
                .context("wardline printed something that is not JSON")?;
            if wanted(&event) {
                return Ok(event);
            }
        }
        bail!(
            "the {person} waited {} s for an answer; see {}",
            patience.as_secs(),
            self.path("log").display()
        )
    }

    /// What lies in the relay's mailboxes.
    pub(super) fn relay_holdings(&self) -> anyhow::Result<Vec<Value>> {
        let text = output(
            binary("wardline-relay")?
                .args(["inspect", "--json", "--config"])
                .arg(self.path("relay/relay.toml")),
        )?;
        json_lines(&text)
    }

    /// Hands the terminal over to a chat.
    pub(super) fn chat(&self, person: &str, conversation: &str) -> anyhow::Result<()> {
        let mut command = binary("wardline")?;
        self.identify(&mut command, person);
        let status = command
            .args(["chat", conversation])
            .status()
            .context("wardline cannot be started")?;
        if !status.success() {
            bail!("the chat ended with {status}");
        }
        Ok(())
    }

    fn authority_invite(&self, role: &str, handle: &str, name: &str) -> anyhow::Result<String> {
        let text = output(
            binary("wardline-authority")?
                .args([
                    "--json", "invite", "--role", role, "--handle", handle, "--name", name,
                ])
                .args(["--relay-url", &self.relay_url, "--dir"])
                .arg(self.path("authority/issuer")),
        )?;
        let invite: Value = serde_json::from_str(&text).context("the invite is not JSON")?;
        Ok(invite
            .get("link")
            .and_then(Value::as_str)
            .context("no invite link")?
            .to_owned())
    }

    fn enrol(&self, person: &str, link: &str, name: Option<&str>) -> anyhow::Result<()> {
        let mut command = self.wardline_command(person)?;
        command.args(["enroll", "-"]);
        if let Some(name) = name {
            command.args(["--name", name]);
        }
        output_with_input(&mut command, link).map(drop)
    }

    fn identify(&self, command: &mut Command, person: &str) {
        command
            .args(["--profile", person, "--data-dir"])
            .arg(&self.dir)
            .arg("--key-file")
            .arg(self.path(&format!("{person}.key")));
    }

    fn wardline_command(&self, person: &str) -> anyhow::Result<Command> {
        let mut command = binary("wardline")?;
        self.identify(&mut command, person);
        command.arg("--json");
        Ok(command)
    }

    fn wardline_lines(&self, person: &str, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        json_lines(&output(self.wardline_command(person)?.args(arguments))?)
    }

    fn wardline(&self, person: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        self.wardline_lines(person, arguments)?
            .pop()
            .with_context(|| format!("wardline {arguments:?} printed nothing"))
    }

    fn log(&self, name: &str) -> anyhow::Result<File> {
        // The relay's log lies in the relay's folder, so that it is searched too.
        let dir = if name == "relay" {
            self.path("relay")
        } else {
            self.path("log")
        };
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{name}.log"));
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Starts a server and waits for the JSON line with which it says that it is ready.
    fn start(&mut self, name: &str, command: &mut Command) -> anyhow::Result<Value> {
        let log = self.log(name)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut server = Server {
            child: command
                .spawn()
                .with_context(|| format!("{name} cannot be started"))?,
        };
        let stdout = server.child.stdout.take().context("no output")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut rest = self.log(name)?;
        // Reads on after the first line, so that the server never waits for a reader.
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str::<Value>(&line) {
                    Ok(value) if sender.is_some() => {
                        if let Some(sender) = sender.take() {
                            let _ = sender.send(value);
                        }
                    }
                    _ => {
                        let _ = writeln!(rest, "{line}");
                    }
                }
            }
        });
        let ready = receiver.recv_timeout(START).with_context(|| {
            format!(
                "{name} did not become ready; see its log in {}",
                self.dir.display()
            )
        })?;
        self.servers.push(server);
        Ok(ready)
    }

    fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if begun.elapsed() > patience {
                bail!(
                    "waited {} s until {what}; the logs are in {}",
                    patience.as_secs(),
                    self.dir.display()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A binary of this build, which lies beside this one.
fn binary(name: &str) -> anyhow::Result<Command> {
    let this = std::env::current_exe().context("this program does not know where it is")?;
    let path = this.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        bail!(
            "{} was not built; run: cargo build --workspace --bins",
            path.display()
        );
    }
    Ok(Command::new(path))
}

/// Runs to the end; what it printed. What it said goes into the error.
fn output(command: &mut Command) -> anyhow::Result<String> {
    finish(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn(),
        command,
    )
}

/// Like [`output`], with something to read.
fn output_with_input(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    if let Ok(child) = &mut child
        && let Some(mut stdin) = child.stdin.take()
    {
        // A program that ends without reading says why; the broken pipe does not.
        let _ = stdin.write_all(input.as_bytes());
    }
    finish(child, command)
}

fn finish(child: std::io::Result<Child>, command: &Command) -> anyhow::Result<String> {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let output = child
        .and_then(Child::wait_with_output)
        .with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect();
        bail!(
            "{name} {} ended with {}:\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{name} printed something that is not text"))
}

fn json_lines(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).context("a line is not JSON"))
        .collect()
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    Ok(())
}
