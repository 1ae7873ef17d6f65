//! The AI endpoint, the real `wardline-ai`: a member like any other, in a
//! process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Process, binary, succeed};

/// An assistant that answers from the sample documents, without a model.
pub struct Assistant {
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Assistant {
    /// Enrols an assistant called "ai" in a folder of its own; it does not run yet.
    ///
    /// # Errors
    /// When enrolment fails.
    pub fn enrol(folder: &Path, link: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let passphrase = folder.join("passphrase");
        fs::write(&passphrase, "several words for a test\n")?;
        restrict(&passphrase)?;
        let config = folder.join("ai.toml");
        fs::write(
            &config,
            "[profile]\ndir = \"profile\"\npassphrase_file = \"passphrase\"\n\
             [limits]\nquestions_per_minute = 100000\n",
        )?;
        let assistant = Self {
            config,
            log: folder.join("ai.log"),
            process: None,
        };
        succeed(assistant.command()?.args(["enroll", link]))?;
        Ok(assistant)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let from = fs::read_to_string(&self.log).unwrap_or_default().len();
        let mut process = Process::start("wardline-ai", self.command()?.arg("run"), &self.log)?;
        process.wait_for("taking part", from, |log| {
            log.contains("taking part").then_some(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Everything it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Any command of `wardline-ai`, with this assistant's configuration.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary("wardline-ai")?);
        command.arg("--config").arg(&self.config);
        Ok(command)
    }
}

fn restrict(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o600),
    )?)
}
