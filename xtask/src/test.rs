//! `cargo xtask test` and `cargo xtask kill-test`.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::{prerequisites, workspace_root};

/// What `cargo xtask test` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install nothing: what is missing is an error.
    #[arg(long)]
    no_install: bool,
    /// Passed on to `cargo test`, such as `-p wardline-relay` or a test's name.
    #[arg(last = true)]
    cargo: Vec<String>,
}

/// What `cargo xtask kill-test` can be told.
#[derive(clap::Args)]
pub(crate) struct KillOptions {
    /// How many times a process is killed.
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// Repeats an earlier run; a random one is taken and printed otherwise.
    #[arg(long)]
    seed: Option<u64>,
}

/// Finds or installs the prerequisites, builds every binary, runs every test.
///
/// # Errors
/// When something is missing, does not build, or a test fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let root = workspace_root()?;
    let places = prerequisites::ensure(&root, !options.no_install)?;
    prerequisites::ensure_interop_package(&root, !options.no_install)?;
    build(&root)?;
    let summary = cargo_test(&root, &places.path()?, &options.cargo)?;
    println!(
        "\n{} passed, {} failed, {} ignored in {} test programs, {} s",
        summary.passed,
        summary.failed,
        summary.ignored,
        summary.programs,
        start.elapsed().as_secs()
    );
    if summary.cargo_failed || summary.failed > 0 {
        bail!("not every test passed");
    }
    Ok(())
}

/// Runs the kill test for as long as it is asked to.
///
/// # Errors
/// When something does not build, or an accepted message was lost, repeated or out of order.
pub(crate) fn kill(options: &KillOptions) -> anyhow::Result<()> {
    let root = workspace_root()?;
    build(&root)?;
    let mut command = cargo(&root);
    command
        .args(["run", "--quiet", "--package", "wardline-e2e"])
        .args(["--bin", "kill-test", "--", "--kills"])
        .arg(options.kills.to_string());
    if let Some(seed) = options.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    succeed(&mut command)
}

/// The binaries that the tests start: `cargo test` alone builds none of another package's.
fn build(root: &Path) -> anyhow::Result<()> {
    succeed(cargo(root).args(["build", "--workspace", "--bins"]))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    programs: u32,
    passed: u32,
    failed: u32,
    ignored: u32,
    cargo_failed: bool,
}

impl Summary {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |word: &str| {
            let before = counts.split_once(word)?.0.trim_end();
            before.rsplit([' ', '.']).next()?.parse::<u32>().ok()
        };
        self.programs += 1;
        self.passed += count(" passed").unwrap_or(0);
        self.failed += count(" failed").unwrap_or(0);
        self.ignored += count(" ignored").unwrap_or(0);
    }
}

fn cargo_test(root: &Path, path: &OsStr, extra: &[String]) -> anyhow::Result<Summary> {
    let mut child = cargo(root)
        .env("PATH", path)
        .args(["test", "--no-fail-fast"])
        .args(scope(extra))
        .args(extra)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let mut summary = Summary::default();
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo's output cannot be read")?;
        println!("{line}");
        summary.add(&line);
    }
    summary.cargo_failed = !child.wait()?.success();
    Ok(summary)
}

/// Everything, unless packages are named.
fn scope(extra: &[String]) -> Option<&'static str> {
    let names_package = |word: &String| word.starts_with("-p") || word.starts_with("--package");
    (!extra.iter().any(names_package)).then_some("--workspace")
}

fn cargo(root: &Path) -> Command {
    // Cargo tells its subcommands which cargo they run under.
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.current_dir(root);
    command
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("cargo cannot be started")?;
    if status.success() {
        Ok(())
    } else {
        bail!("{command:?} failed: {status}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naming_a_package_narrows_the_scope() {
        assert_eq!(scope(&["a_test".to_owned()]), Some("--workspace"));
        assert_eq!(scope(&["-p".to_owned(), "xtask".to_owned()]), None);
        assert_eq!(scope(&["--package=xtask".to_owned()]), None);
    }

    #[test]
    fn summaries_add_up() {
        let mut summary = Summary::default();
        summary.add("running 4 tests");
        summary.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        summary
            .add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            summary,
            Summary {
                programs: 2,
                passed: 13,
                failed: 2,
                ignored: 1,
                cargo_failed: false
            }
        );
    }
}
