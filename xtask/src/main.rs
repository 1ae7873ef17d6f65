//! The project's own commands: `cargo xtask demo`, `test`, `kill-test`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on standard output"
)]

mod demo;
mod prerequisites;
mod test;

use clap::{Parser, Subcommand};

/// Wardline's development commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and play a real encrypted conversation: a patient, a clinician, the AI, the relay.
    Demo(demo::Options),
    /// Find or install what the tests need, build every binary, run every test.
    Test(test::Options),
    /// Kill processes at random points of a conversation and check that nothing is lost or repeated.
    KillTest(test::KillOptions),
}

fn main() -> std::process::ExitCode {
    let done = match Options::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::KillTest(options) => test::kill(&options),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn workspace_root() -> anyhow::Result<std::path::PathBuf> {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(std::path::Path::to_path_buf)
        .ok_or_else(|| anyhow::anyhow!("xtask has no parent folder"))
}
