//! The real directory authority: a root, one issuer, and its desk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use wardline_wire::directory::{TrustAnchor, role_name};
use wardline_wire::ids::{AccountId, DeploymentId};
use wardline_wire::proto::Role;

use crate::process::{Process, binary, succeed};

/// A clinic's authority, in a folder of its own.
pub struct Authority {
    root: PathBuf,
    folder: PathBuf,
    passphrase: PathBuf,
    log: PathBuf,
    relay: Vec<String>,
    desk: Option<Process>,
}

impl Authority {
    /// Makes the clinic's root.
    ///
    /// # Errors
    /// When the command fails.
    pub fn init(folder: &Path, log: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let authority = Self {
            root: folder.join("root"),
            folder: folder.join("issuer"),
            passphrase: folder.join("root.passphrase"),
            log: log.to_path_buf(),
            relay: Vec::new(),
            desk: None,
        };
        fs::write(&authority.passphrase, "several words for a test\n")?;
        succeed(
            authority
                .command()?
                .args(["init", "--work-factor", "4", "--dir"])
                .arg(&authority.root)
                .arg("--passphrase-file")
                .arg(&authority.passphrase),
        )?;
        Ok(authority)
    }

    /// The file that names the clinic, for the relay.
    pub fn deployment_file(&self) -> PathBuf {
        self.root.join("deployment.toml")
    }

    /// The issuer's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has the root sign an issuer that works with the relay at `relay_url`,
    /// whose TLS key has the hash `tls_key` if it has one.
    ///
    /// # Errors
    /// When the command fails.
    pub fn new_issuer(
        &mut self,
        roles: &[Role],
        relay_url: &str,
        tls_key: Option<&str>,
    ) -> anyhow::Result<()> {
        self.relay = vec!["--relay-url".to_owned(), relay_url.to_owned()];
        if let Some(key) = tls_key {
            self.relay
                .extend(["--relay-key".to_owned(), key.to_owned()]);
        }
        let roles: Vec<&str> = roles.iter().map(|role| role_name(*role)).collect();
        succeed(
            self.command()?
                .args(["issuer", "--roles", &roles.join(","), "--dir"])
                .arg(&self.root)
                .arg("--out")
                .arg(&self.folder)
                .arg("--passphrase-file")
                .arg(&self.passphrase),
        )?;
        Ok(())
    }

    /// Starts the desk: enrolments are certified as they come in.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let from = fs::read_to_string(&self.log).unwrap_or_default().len();
        let mut command = self.command()?;
        command
            .args(["--json", "serve", "--poll-seconds", "0.1", "--dir"])
            .arg(&self.folder)
            .args(&self.relay);
        let mut desk = Process::start("wardline-authority", &mut command, &self.log)?;
        desk.wait_for("its first round", from, |log| {
            log.contains("{\"ready\":true}").then_some(())
        })?;
        self.desk = Some(desk);
        Ok(())
    }

    /// Makes an invite link. `name` is handle and display name, for all but patients.
    ///
    /// # Errors
    /// When the command fails.
    pub fn invite(&self, role: Role, name: Option<(&str, &str)>) -> anyhow::Result<String> {
        let mut command = self.command()?;
        command
            .args(["invite", "--role", role_name(role), "--dir"])
            .arg(&self.folder)
            .args(&self.relay);
        if let Some((handle, display_name)) = name {
            command.args(["--handle", handle, "--name", display_name]);
        }
        let output = succeed(&mut command)?;
        output
            .split_whitespace()
            .find(|word| word.starts_with(wardline_wire::invite::LINK_PREFIX))
            .map(str::to_owned)
            .with_context(|| format!("no link in {output}"))
    }

    /// Takes an account back, for good.
    ///
    /// # Errors
    /// When the command fails.
    pub fn revoke(&self, account: AccountId) -> anyhow::Result<()> {
        succeed(
            self.command()?
                .args(["revoke", "--reason", "a test", "--account"])
                .arg(account.to_string())
                .args(&self.relay)
                .arg("--dir")
                .arg(&self.folder),
        )?;
        Ok(())
    }

    /// What everybody checks against.
    ///
    /// # Errors
    /// When the deployment file cannot be read.
    pub fn anchor(&self) -> anyhow::Result<TrustAnchor> {
        let text = fs::read_to_string(self.deployment_file())?;
        let value = |key: &str| -> anyhow::Result<Vec<u8>> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('='))
                .with_context(|| format!("no {key}"))?;
            Ok(hex::decode(line.trim().trim_matches('"'))?)
        };
        let fingerprint: [u8; 32] = value("root_fingerprint")?
            .try_into()
            .map_err(|_| anyhow::anyhow!("the fingerprint has another length"))?;
        Ok(TrustAnchor::from_pinned(
            DeploymentId::from_slice(&value("deployment_id")?)?,
            &fingerprint,
            &value("root_key")?,
        )?)
    }

    /// Everything that the desk has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// `kill -9` for the desk.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.desk.take() {
            Some(mut desk) => desk.kill(),
            None => Ok(()),
        }
    }

    /// Any command of `wardline-authority`.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn command(&self) -> anyhow::Result<Command> {
        Ok(Command::new(binary("wardline-authority")?))
    }
}
