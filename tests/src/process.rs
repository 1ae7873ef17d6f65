//! Real binaries: found beside the test program, started with their output in a
//! file, stopped by process id.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long anything may take that normally takes a moment. Generous, because
/// it only ever runs out when something is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a binary of this workspace is.
///
/// # Errors
/// When it was not built; the message names the command that builds it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("this program does not know where it is")?;
    // A test program is in `<profile>/deps/`, a binary in `<profile>/`.
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
        .find(|program| program.is_file());
    found.with_context(|| {
        format!(
            "{name} was not built: run `cargo build --workspace --bins` (`cargo xtask test` does)"
        )
    })
}

/// A running binary. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `program` with both outputs appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be written or the program not started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = open_log(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("the log cannot be shared")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_path_buf(),
            child,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, over all its starts.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        read_log(&self.log)
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until `found` finds something in what it prints from byte `from` on.
    ///
    /// # Errors
    /// When it ends first, or after [`PATIENCE`]; the message holds the log's end.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        from: usize,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        loop {
            let log = self.log()?;
            if let Some(value) = found(log.get(from..).unwrap_or_default()) {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended ({status}) before {what}:\n{}",
                    self.name,
                    tail(&log)
                );
            }
            if start.elapsed() > PATIENCE {
                bail!("{} did not come to {what}:\n{}", self.name, tail(&log));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        // Killing a process that is gone already is no fault: the moment is random.
        let _ = self.child.kill();
        self.child.wait().context("the process cannot be awaited")?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not stop within [`PATIENCE`]; it is killed then.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            self.kill()?;
            bail!("{} could not be asked to stop", self.name);
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                self.kill()?;
                bail!(
                    "{} does not stop when asked:\n{}",
                    self.name,
                    tail(&self.log()?)
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing useful can be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or does not end within [`PATIENCE`].
pub fn run(command: &mut Command) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} cannot be started"))?;
    let readers = (drain(child.stdout.take()), drain(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{command:?} does not end");
        }
        std::thread::sleep(LOOK_EVERY);
    };
    Ok(Output {
        status,
        stdout: readers.0.join().unwrap_or_default(),
        stderr: readers.1.join().unwrap_or_default(),
    })
}

/// Like [`run`], but anything but success is an error with what the command said.
///
/// # Errors
/// As [`run`], and when the command fails.
pub fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("the output is not text")
}

/// Waits until `found` finds something.
///
/// # Errors
/// After [`PATIENCE`].
pub async fn eventually<T, F, R>(what: &str, mut found: F) -> anyhow::Result<T>
where
    F: FnMut() -> R,
    R: Future<Output = anyhow::Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = found().await? {
            return Ok(value);
        }
        if start.elapsed() > PATIENCE {
            bail!("waited in vain for {what}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn drain(output: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut output) = output {
            // A broken pipe means that the process is gone; what was read counts.
            let _ = output.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn open_log(log: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("{} cannot be written", log.display()))
}

fn read_log(log: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(log).with_context(|| format!("{} cannot be read", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log, enough to see what went wrong.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(40);
    lines.into_iter().skip(from).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_an_error_that_names_the_command() {
        let error = binary("no-such-program").unwrap_err().to_string();
        assert!(error.contains("cargo build --workspace --bins"), "{error}");
    }

    #[test]
    fn output_is_captured_and_a_process_that_ends_early_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo ready on port 7; exec sleep 60"]);
        let mut process = Process::start("shell", &mut shell, &log).unwrap();
        let port = process
            .wait_for("its port", 0, |log| {
                log.split_once("port ")?.1.trim().parse::<u16>().ok()
            })
            .unwrap();
        assert_eq!(port, 7);
        process.kill().unwrap();
        assert!(!process.is_running().unwrap());
        let error = process.wait_for("more", 0, |_| None::<()>).unwrap_err();
        assert!(error.to_string().contains("ready on port 7"), "{error}");
    }
}
