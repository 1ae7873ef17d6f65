//! Somebody who uses `wardline`, the real binary, one command at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context as _;
use serde_json::Value;

use crate::process::{self, Process, binary};

/// A person (or a script) with a profile.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    folder: PathBuf,
}

/// A stored text, as `wardline messages --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number on this device.
    pub id: u64,
    /// Its id everywhere.
    pub content: String,
    /// The sender's account.
    pub sender: String,
    /// What it is: "text", "answer", "change", …
    pub kind: String,
    /// Its words; empty for what has none.
    pub text: String,
    /// For an answer, the id of the question.
    pub question: Option<String>,
}

impl Member {
    /// Somebody called `name`, with a folder of their own under `folder`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            name: name.to_owned(),
            folder,
        })
    }

    /// Their name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their folder: profile, key, log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `wardline` with this profile and these arguments.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn command<I, S>(&self, arguments: I) -> anyhow::Result<Command>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(binary("wardline")?);
        command
            .args(["--json", "--profile", &self.name, "--data-dir"])
            .arg(self.folder.join("data"))
            .arg("--key-file")
            .arg(self.folder.join("profile.key"))
            .args(arguments);
        Ok(command)
    }

    /// Runs a command and returns its JSON lines.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn run<I, S>(&self, arguments: I) -> anyhow::Result<Vec<Value>>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let output = process::succeed(&mut self.command(arguments)?)?;
        json_lines(&output)
    }

    /// Runs a command, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn attempt<I, S>(&self, arguments: I) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        process::run(&mut self.command(arguments)?)
    }

    /// Starts a command and leaves it running; its output is in its log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<I, S>(&self, arguments: I) -> anyhow::Result<Process>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let log = self.folder.join("output.log");
        Process::start(&self.name, &mut self.command(arguments)?, &log)
    }

    /// Joins with an invite and waits for the certificate.
    ///
    /// # Errors
    /// When joining fails.
    pub fn enrol(&self, link: &str) -> anyhow::Result<()> {
        self.run(["enroll", link, "--name", &self.name, "--wait", "50"])
            .map(drop)
    }

    /// Invites a patient and returns the link.
    ///
    /// # Errors
    /// When the invite is refused.
    pub fn invite_patient(&self, label: &str) -> anyhow::Result<String> {
        let lines = self.run(["invite", "--role", "patient", "--label", label])?;
        lines
            .iter()
            .find_map(|line| line.get("link")?.as_str())
            .map(str::to_owned)
            .with_context(|| format!("no link in {lines:?}"))
    }

    /// Their account id.
    ///
    /// # Errors
    /// When the profile has none.
    pub fn account(&self) -> anyhow::Result<String> {
        let lines = self.run(["status"])?;
        lines
            .iter()
            .find_map(|line| line.get("account")?.as_str())
            .map(str::to_owned)
            .with_context(|| format!("no account in {lines:?}"))
    }

    /// Every stored message, after fetching what waits at the relay.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn messages(&self) -> anyhow::Result<Vec<Shown>> {
        let lines = self.run(["messages"])?;
        lines
            .iter()
            .map(|line| shown(line).with_context(|| format!("not a message: {line}")))
            .collect()
    }

    /// The kinds of all notices.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn notices(&self) -> anyhow::Result<Vec<String>> {
        let lines = self.run(["notices"])?;
        lines
            .iter()
            .map(|line| {
                let kind = line.get("kind").and_then(Value::as_str);
                kind.map(str::to_owned)
                    .with_context(|| format!("no kind in {line}"))
            })
            .collect()
    }
}

fn shown(line: &Value) -> Option<Shown> {
    let text = line.pointer("/body/text").and_then(Value::as_str);
    Some(Shown {
        id: line.get("id")?.as_u64()?,
        content: line.get("contentId")?.as_str()?.to_owned(),
        sender: line.pointer("/sender/account")?.as_str()?.to_owned(),
        kind: line.get("kind")?.as_str()?.to_owned(),
        text: text.unwrap_or_default().to_owned(),
        question: line
            .pointer("/body/question")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

/// One JSON object a line.
///
/// # Errors
/// When a line is something else.
pub fn json_lines(output: &str) -> anyhow::Result<Vec<Value>> {
    output
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}
