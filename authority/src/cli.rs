//! The command line: data on standard output, words on standard error.
//!
//! Exit codes: 0 done; 1 something the caller can mend; 2 unexpected; 3 the
//! relay or a file could not be reached; 4 another key or another clinic than
//! the pinned one; 5 the relay asks to come back later; 8 in use by another
//! process; 9 refused by policy; 64 wrong usage. With `--json` an error is
//! `{"error":{"code","kind","message","hint"}}` on standard output.

mod args;
mod failure;
mod issuer;
mod output;
mod root;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use failure::Failure;
use output::Output;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let output = Output { json: cli.json };
    start_log(&cli);
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    match cli.command {
        Command::Init(args) => root::init(&args, output),
        Command::Issuer(args) => root::issuer(&args, output),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::unexpected(&error))?;
            runtime.block_on(issuer::run(command, output))
        }
    }
}

fn start_log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, 0) => match cli.command {
            Command::Serve(_) => "wardline_authority=info,warn",
            _ => "wardline_authority=warn,error",
        },
        (false, 1) => "wardline_authority=debug,info",
        (false, _) => "trace",
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr);
    if cli.log_json {
        builder.json().init();
    } else {
        builder.with_ansi(false).with_target(false).init();
    }
}
