//! The relay's command line. Wiring only; see the library.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use wardline_relay::config::{Config, load_anchor, parse_anchor};
use wardline_relay::init::{InitOptions, init};
use wardline_relay::{Relay, healthcheck, telemetry};
use wardline_wire::clock::SystemClock;
use wardline_wire::directory::TrustAnchor;

/// Wardline's relay: stores prekey bundles and opaque ciphertexts, and nothing else.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a first configuration, with a database key and a TLS key.
    Init(InitArgs),
    /// Run the relay. SIGTERM stops it, SIGHUP has it read its certificate again.
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Write the port that is really listened on to this file.
        #[arg(long)]
        port_file: Option<PathBuf>,
    },
    /// After a restore from a backup, with the relay stopped: raise the mailbox
    /// epoch, drop one-time prekeys, end all sessions.
    RaiseEpoch {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Show what the mailboxes hold: sizes and first bytes of ciphertexts. There is nothing else.
    Inspect {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// At most so many envelopes.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Print JSON, one envelope a line.
        #[arg(long)]
        json: bool,
    },
    /// Ask a running relay whether it is ready.
    Healthcheck {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Port, if another than the configured one.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the configuration over, with the files it names, and start nothing.
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args)]
struct InitArgs {
    /// The folder to write to.
    #[arg(long)]
    dir: PathBuf,
    /// The `deployment.toml` that `wardline-authority init` wrote.
    #[arg(long, conflicts_with_all = ["deployment_id", "root_key"])]
    deployment_file: Option<PathBuf>,
    /// Deployment id in hexadecimal, instead of a file.
    #[arg(long, requires = "root_key")]
    deployment_id: Option<String>,
    /// The root's public key in hexadecimal, instead of a file.
    #[arg(long, requires = "deployment_id")]
    root_key: Option<String>,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// A name or address for the certificate; may be repeated.
    #[arg(long = "tls-name", default_values = ["localhost", "127.0.0.1"])]
    tls_names: Vec<String>,
    /// No TLS: plain HTTP, on loopback only.
    #[arg(long)]
    plain: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "wardline-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // Fails only when a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Init(args) => write_first(args),
        Command::Serve { config, port_file } => {
            let config = Config::load(&config)?;
            telemetry::start_logging(&config.log)?;
            runtime()?.block_on(serve(config, port_file.as_deref()))
        }
        Command::RaiseEpoch { config } => {
            let config = Config::load(&config)?;
            let epoch = runtime()?.block_on(wardline_relay::raise_epoch(&config, &SystemClock))?;
            print(&format!(
                "mailbox epoch {epoch}; devices will upload prekeys again"
            ))
        }
        Command::Inspect {
            config,
            limit,
            json,
        } => {
            let config = Config::load(&config)?;
            for held in runtime()?.block_on(wardline_relay::inspect::inspect(&config, limit))? {
                let line = if json {
                    json!({
                        "account": held.account.to_string(),
                        "device": held.device,
                        "seq": held.seq,
                        "bytes": held.bytes,
                        "begins": held.begins,
                    })
                    .to_string()
                } else {
                    format!(
                        "{}.{} #{}: {} bytes, {}…",
                        held.account, held.device, held.seq, held.bytes, held.begins
                    )
                };
                print(&line)?;
            }
            Ok(())
        }
        Command::Healthcheck { config, port } => {
            let config = Config::load(&config)?;
            runtime()?.block_on(healthcheck::check(&config, port))?;
            print("ready")
        }
        Command::Config {
            command: ConfigCommand::Check { config },
        } => {
            let loaded = Config::load(&config)?;
            loaded.trust_anchor()?;
            loaded.database_key()?;
            print(&format!("{} is good", config.display()))
        }
        Command::Openapi => print(&serde_json::to_string_pretty(
            &wardline_relay::openapi_document(),
        )?),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

async fn serve(config: Config, port_file: Option<&Path>) -> anyhow::Result<()> {
    // Before anyone can know the port: a signal that comes early must count.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let relay = Relay::start(config, Arc::new(SystemClock)).await?;
    if let Some(path) = port_file {
        write_port(path, relay.address().port())
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let mut line = json!({ "event": "listening", "url": relay.url() });
    if let (Some(address), Some(fields)) = (relay.metrics_address(), line.as_object_mut()) {
        fields.insert(
            "metrics_url".to_owned(),
            format!("http://{address}/metrics").into(),
        );
    }
    print(&line.to_string())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => match relay.reload_tls() {
                Ok(()) => tracing::info!("certificate and key were read again"),
                Err(error) => tracing::error!(%error, "the old certificate stays in use"),
            },
        }
    }
    tracing::info!("going down");
    relay.stop().await;
    Ok(())
}

/// In one step, so that whoever waits for the file never reads half of it.
fn write_port(path: &Path, port: u16) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, format!("{port}\n"))?;
    std::fs::rename(temporary, path)
}

fn write_first(args: InitArgs) -> anyhow::Result<()> {
    let report = init(&InitOptions {
        anchor: anchor(&args)?,
        dir: args.dir,
        listen: args.listen,
        tls_names: (!args.plain).then_some(args.tls_names),
    })?;
    let key = report.tls_key_sha256.map(hex::encode);
    if args.json {
        let line = json!({ "config": report.config, "relay_key_sha256": key });
        return print(&line.to_string());
    }
    print(&format!("configuration: {}", report.config.display()))?;
    if let Some(key) = key {
        print(&format!("relay key for invites (SHA-256): {key}"))?;
    }
    print(&format!(
        "start it with: wardline-relay serve --config {}",
        report.config.display()
    ))
}

fn anchor(args: &InitArgs) -> anyhow::Result<TrustAnchor> {
    match (&args.deployment_file, &args.deployment_id, &args.root_key) {
        (Some(path), _, _) => Ok(load_anchor(path)?),
        (None, Some(id), Some(key)) => Ok(parse_anchor(id, key)?),
        _ => anyhow::bail!("name the clinic: --deployment-file, or --deployment-id and --root-key"),
    }
}

/// One line on standard output, at once.
fn print(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}
