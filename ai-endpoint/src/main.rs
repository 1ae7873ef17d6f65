//! `wardline-ai`: the clinic's assistant as a member of its conversations.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use wardline_ai::config::{Config, ConfigFault};
use wardline_ai::service::{self, ServiceFault};
use wardline_client::api::SystemClock;

/// The clinic's assistant: a visible member of Wardline conversations that answers from the clinic's documents, with or
/// without a local language model.
///
/// Examples:
///
///   wardline-ai --config /etc/wardline/ai.toml check
///   wardline-ai --config /etc/wardline/ai.toml enroll - < invite.txt
///   wardline-ai --config /etc/wardline/ai.toml run
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Options {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        default_value = "wardline-ai.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// What is logged, for example "info" or "debug,tantivy=warn". Logs never hold what people say.
    #[arg(
        long,
        global = true,
        default_value = "info,tantivy=warn,sqlx=warn,hyper=warn",
        value_name = "FILTER"
    )]
    log: String,
    /// Log as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this assistant with an invite of the role "ai", and wait until the clinic has certified it.
    #[command(visible_alias = "enrol")]
    Enroll {
        /// The invite link, or "-" to read it from standard input, where other users of this machine can't see it.
        invite: String,
        /// How long to wait for the certificate.
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        wait: u64,
    },
    /// Take part in conversations until ended by SIGTERM or Ctrl-C.
    Run,
    /// Check the configuration, the documents and the model, without starting.
    Check,
    /// Say whether the running assistant is well: exit code 0, or 10 and the reason.
    Healthcheck,
}

/// Exit codes: 0 well, 1 something to correct, 9 refused by the boundary's rules, 10 not well.
#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "results go to standard output, reasons to standard error"
)]
async fn main() -> ExitCode {
    let options = Options::parse();
    match answer(options).await {
        Ok(line) => {
            if !line.is_empty() {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wardline-ai: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(ServiceFault::Boundary(_) | ServiceFault::Config(ConfigFault::Outside(_))) => 9,
        Some(ServiceFault::Unhealthy(_)) => 10,
        _ => 1,
    }
}

async fn answer(options: Options) -> anyhow::Result<String> {
    let filter = EnvFilter::try_new(&options.log).context("--log")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if options.log_json {
        log.json().init();
    } else {
        log.init();
    }
    // Whoever was first may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::load(&options.config)?;
    match options.command {
        Command::Enroll { invite, wait } => {
            let link = if invite == "-" {
                from_standard_input()?
            } else {
                invite
            };
            Ok(service::enrol(&config, link.trim(), Duration::from_secs(wait)).await?)
        }
        Command::Run => {
            service::run(&config, until_told()?).await?;
            Ok(String::new())
        }
        Command::Check => Ok(service::check(&config).await?),
        Command::Healthcheck => Ok(service::health(&config, &SystemClock)?),
    }
}

fn from_standard_input() -> anyhow::Result<String> {
    let mut link = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut link)
        .context("standard input")?;
    Ok(link)
}

/// A token that is cancelled by SIGTERM or Ctrl-C.
fn until_told() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};

    let token = CancellationToken::new();
    let told = token.clone();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(token)
}
