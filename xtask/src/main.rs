//! The project's own commands: `cargo xtask test`, `cargo xtask kill-test`.

#![expect(
    clippy::print_stdout,
    reason = "a command-line tool talks on standard output"
)]

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
    /// Find or install what the tests need, build every binary, run every test.
    Test(test::Options),
    /// Kill processes at random points of a conversation and check that nothing is lost or repeated.
    KillTest(test::KillOptions),
}

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Test(options) => test::run(&options),
        Command::KillTest(options) => test::kill(&options),
    }
}
