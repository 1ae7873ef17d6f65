//! `wardline`: the terminal client. Thin over `wardline-client`: it parses, calls, prints.

mod args;
mod command;
mod failure;
mod output;
mod resolve;
mod safe_text;
mod unlock;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Options;
use crate::failure::{Failure, Kind};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let shown = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nowhere to report a failure to print the report.
            let _ = error.print();
            return if shown {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(64)
            };
        }
    };
    init_logging(options.verbose);
    let json = options.json;
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                output::json_line(&failure.to_json());
            } else {
                output::note(&failure.to_string());
            }
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run(options: Options) -> Result<(), Failure> {
    // The only provider in the build; somebody else having installed it is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Kind::Unexpected,
                format!("the runtime did not start: {error}"),
            )
        })?;
    let result = runtime.block_on(command::run(options));
    // A terminal read may still be blocked in a helper thread: do not wait for it.
    runtime.shutdown_background();
    result
}

fn init_logging(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "wardline=info,wardline_client=info",
        _ => "wardline=debug,wardline_client=debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .init();
}
