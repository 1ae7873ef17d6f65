//! The endpoint as a service: enrolment, the running process, and its health.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand_core::TryRng as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use wardline_client::api::{
    Client, ClientError, ConnectionState, InviteLink, ProfileConfig, Role, SystemClock, Unlock,
};
use wardline_wire::clock::Clock;
use wardline_wire::invite::InviteError;

use crate::boundary::SystemNames;
use crate::config::{Config, ConfigFault};
use crate::model::{Jitter, ModelError};
use crate::participant::{Manners, Participant, SeatFault};
use crate::pipeline::Pipeline;
use crate::retrieval::{Library, LibraryFault};
use crate::seat::ClientSeat;

/// The file by which a running endpoint says that it is well.
pub const HEALTH_FILE: &str = "ai-health.json";
/// How often it says so.
const HEALTH_EVERY: Duration = Duration::from_secs(10);
/// After which age its word counts no more.
const HEALTH_OLD_MS: u64 = 60_000;

/// Why the service did not start, or ended.
#[derive(Debug, Error)]
pub enum ServiceFault {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The passphrase's file.
    #[error("profile.passphrase_file {path}: {what}")]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The invite.
    #[error("this invite link can't be used: {0}")]
    Invite(#[from] InviteError),
    /// An invite for somebody else.
    #[error("this invite is for a {0}; an AI endpoint needs an invite with the role \"ai\"")]
    WrongRole(String),
    /// The endpoint core.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The documents.
    #[error(transparent)]
    Library(#[from] LibraryFault),
    /// The model is there, but it must not be used.
    #[error("the model may not be used: {0}")]
    Boundary(ModelError),
    /// The loop ended.
    #[error(transparent)]
    Seat(#[from] SeatFault),
    /// The health file.
    #[error("{0}")]
    Unhealthy(String),
}

/// Randomness for waiting times, from the operating system.
pub fn system_jitter() -> Jitter {
    Arc::new(|| {
        let mut bytes = [0_u8; 4];
        // Without randomness the pauses are merely not spread.
        match getrandom::SysRng.try_fill_bytes(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.5,
        }
    })
}

/// Enrols the endpoint with an invite and waits until the clinic has certified it. Run again after an interruption, it
/// goes on where it stopped. Returns a line for the operator.
///
/// # Errors
///
/// [`ServiceFault`], written to be shown.
pub async fn enrol(config: &Config, link: &str, wait: Duration) -> Result<String, ServiceFault> {
    let invite = InviteLink::from_link(link, SystemClock.now())?;
    if invite.role != Role::Ai {
        return Err(ServiceFault::WrongRole(
            format!("{:?}", invite.role).to_lowercase(),
        ));
    }
    let profile = profile(config)?;
    let client = match Client::enrol(profile.clone(), &invite).await {
        // Enrolled before, perhaps not certified yet.
        Err(ClientError::Enrol(wardline_client::api::EnrolError::AlreadyEnrolled)) => {
            Client::open(profile).await?
        }
        other => other?,
    };
    let certified = client.wait_certified(wait).await;
    let own = client.own().await;
    client.shutdown().await;
    certified?;
    let own = own?;
    let handle = own
        .handle
        .map_or(String::new(), |handle| format!(" (@{handle})"));
    Ok(format!(
        "Enrolled and certified as {}{handle}. Start the assistant with: wardline-ai run",
        own.name
    ))
}

/// Runs until `shutdown`.
///
/// # Errors
///
/// [`ServiceFault`], written to be shown.
pub async fn run(config: &Config, shutdown: CancellationToken) -> Result<(), ServiceFault> {
    let pipeline = pipeline(config, Arc::new(SystemClock)).await?;
    let client = Client::open(profile(config)?).await?;
    let result = take_part(config, &client, pipeline, shutdown).await;
    client.shutdown().await;
    result
}

/// Checks everything that can be checked without the profile: configuration, documents, model. Returns lines for the
/// operator.
///
/// # Errors
///
/// [`ServiceFault`], written to be shown.
pub async fn check(config: &Config) -> Result<String, ServiceFault> {
    let pipeline = pipeline(config, Arc::new(SystemClock)).await?;
    let mut text = pipeline.status();
    if let Some(why) = pipeline.why_down() {
        text.push_str("\nThe language model can't be used now: ");
        text.push_str(&why);
    }
    Ok(text)
}

async fn pipeline(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<Pipeline>, ServiceFault> {
    let jitter = system_jitter();
    let model = config
        .model(Arc::new(SystemNames), Arc::clone(&jitter))
        .await?;
    let source = config.source();
    let library = tokio::task::spawn_blocking(move || Library::open(source))
        .await
        .map_err(|error| {
            ServiceFault::Unhealthy(format!("reading the documents broke off: {error}"))
        })??;
    let inventory = library.inventory();
    tracing::info!(
        documents = inventory.documents,
        passages = inventory.passages,
        "documents indexed"
    );
    if inventory.samples {
        tracing::warn!("no knowledge.dir is configured: answers come from Wardline's sample texts");
    }
    for (file, reason) in &inventory.left_out {
        tracing::warn!(file, reason, "a document was left out");
    }
    let mut key = [0_u8; 32];
    getrandom::SysRng.try_fill_bytes(&mut key).map_err(|_| {
        ServiceFault::Unhealthy("the operating system gives no randomness".to_owned())
    })?;
    let pipeline = Arc::new(Pipeline::new(
        model,
        Arc::new(library),
        config.settings(),
        key,
        clock,
        jitter,
    ));
    match pipeline.probe().await {
        Ok(_) => Ok(pipeline),
        Err(error @ (ModelError::Boundary(_) | ModelError::Outside(_))) => {
            Err(ServiceFault::Boundary(error))
        }
        Err(error) => {
            tracing::warn!(
                kind = error.kind(),
                "the documents answer alone until the model is back: {error}"
            );
            Ok(pipeline)
        }
    }
}

async fn take_part(
    config: &Config,
    client: &Client,
    pipeline: Arc<Pipeline>,
    shutdown: CancellationToken,
) -> Result<(), ServiceFault> {
    let seat = Arc::new(ClientSeat::new(client.clone(), config.access.accept.clone()).await?);
    client.start().await?;
    let own = client.own().await?;
    let mut handles = config.display.handles.clone();
    handles.extend(own.handle);
    let manners = Manners {
        name: handles.first().cloned().unwrap_or_default(),
        handles,
        answers_at_once: config.limits.answers_at_once,
        questions_per_minute: config.limits.questions_per_minute,
        // Some more than are shown, so that leaving some out can be said.
        history: config.limits.history_turns + 20,
        pause: Duration::from_millis(250),
    };
    let participant = Participant::new(seat, Arc::clone(&pipeline), manners, Arc::new(SystemClock));
    tracing::info!("taking part");
    let result = tokio::select! {
        result = participant.run(shutdown) => result.map_err(ServiceFault::from),
        () = pipeline.watch() => Ok(()),
        () = tell_health(config, client, &pipeline) => Ok(()),
    };
    // Whoever asks now must not hear that all is well.
    let _ = std::fs::remove_file(config.profile.dir.join(HEALTH_FILE));
    result
}

fn profile(config: &Config) -> Result<ProfileConfig, ServiceFault> {
    let passphrase = read_passphrase(&config.profile.passphrase_file)?;
    let mut profile = ProfileConfig::new(&config.profile.dir, Unlock::passphrase(passphrase));
    profile.jobs = true;
    profile.name.clone_from(&config.display.name);
    Ok(profile)
}

/// The passphrase, which nobody but its owner may read.
fn read_passphrase(path: &Path) -> Result<String, ServiceFault> {
    let wrong = |what: String| ServiceFault::Passphrase {
        path: path.to_path_buf(),
        what,
    };
    let mode = std::fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(wrong("others can read it; run: chmod 600 on it".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let passphrase = text.trim_end_matches(['\n', '\r']);
    if passphrase.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(passphrase.to_owned())
}

/// What a running endpoint says about itself. Numbers and states, nothing about people.
#[derive(Debug, Serialize, Deserialize)]
pub struct Health {
    /// When it was said, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether the relay is connected.
    pub connected: bool,
    /// How the connection stands.
    pub connection: String,
    /// Why the model is down; nothing when it isn't, or when there is none.
    pub model_down: Option<String>,
    /// Answers given since the start.
    pub answers: u64,
    /// Emergencies recognised since the start.
    pub red_flags: u64,
    /// Failures of the model since the start.
    pub model_failures: u64,
}

async fn tell_health(config: &Config, client: &Client, pipeline: &Pipeline) {
    let path = config.profile.dir.join(HEALTH_FILE);
    loop {
        let connection = client.connection();
        let counters = pipeline.counters();
        let health = Health {
            at_ms: SystemClock.now().as_millis(),
            connected: connection == ConnectionState::Connected,
            connection: match connection {
                ConnectionState::Connected => "connected".to_owned(),
                ConnectionState::Stopped => "stopped".to_owned(),
                ConnectionState::Connecting { reason } => format!("connecting: {reason}"),
                ConnectionState::Refused { reason } => format!("refused: {reason}"),
            },
            model_down: pipeline.why_down(),
            answers: counters.answers.load(Ordering::Relaxed),
            red_flags: counters.red_flags.load(Ordering::Relaxed),
            model_failures: counters.model_failures.load(Ordering::Relaxed),
        };
        if let Err(error) = write_health(&path, &health) {
            tracing::warn!("the health file can't be written: {error}");
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

/// Written whole and then renamed, so that nobody reads half of it.
fn write_health(path: &Path, health: &Health) -> std::io::Result<()> {
    let text = serde_json::to_vec(health)?;
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    drop(file);
    std::fs::rename(new, path)
}

/// Reads what the running endpoint of this configuration says. Returns a line for the operator.
///
/// # Errors
///
/// [`ServiceFault::Unhealthy`], when it isn't running, is stuck, or isn't connected. A model that is down is no error:
/// the documents answer meanwhile.
pub fn health(config: &Config, clock: &dyn Clock) -> Result<String, ServiceFault> {
    let unhealthy = |text: String| Err(ServiceFault::Unhealthy(text));
    let Ok(text) = std::fs::read(config.profile.dir.join(HEALTH_FILE)) else {
        return unhealthy("the assistant is not running with this configuration".to_owned());
    };
    let Ok(health) = serde_json::from_slice::<Health>(&text) else {
        return unhealthy("the health file is damaged; restart the assistant".to_owned());
    };
    let age = clock.now().as_millis().saturating_sub(health.at_ms);
    if age > HEALTH_OLD_MS {
        return unhealthy(format!(
            "the assistant has not said anything for {} s; restart it",
            age / 1000
        ));
    }
    if !health.connected {
        return unhealthy(format!(
            "the relay is not connected ({})",
            health.connection
        ));
    }
    let model = health
        .model_down
        .map_or("model fine or none".to_owned(), |why| {
            format!("model down: {why}")
        });
    Ok(format!(
        "connected, {model}, {} answers, {} emergencies",
        health.answers, health.red_flags
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wardline_wire::clock::{ManualClock, Timestamp};

    fn config(dir: &Path) -> Config {
        let text = format!(
            "[profile]\ndir = {:?}\npassphrase_file = {:?}\n",
            dir,
            dir.join("secret")
        );
        Config::parse(&text).unwrap()
    }

    #[test]
    fn a_passphrase_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let path = folder.path().join("secret");
        assert!(profile(&config).is_err());
        std::fs::write(&path, "six words\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let fault = profile(&config).err().unwrap().to_string();
        assert!(
            fault.contains("others can read it") && !fault.contains("six"),
            "{fault}"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_passphrase(&path).unwrap(), "six words");
        assert!(profile(&config).unwrap().jobs);
        std::fs::write(&path, "\n").unwrap();
        assert!(profile(&config).is_err());
    }

    #[test]
    fn health_is_fresh_and_connected_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        assert!(
            health(&config, &clock)
                .unwrap_err()
                .to_string()
                .contains("not running")
        );
        let mut state = Health {
            at_ms: 1_000_000,
            connected: true,
            connection: "connected".to_owned(),
            model_down: Some("the model server can't be reached; is it running?".to_owned()),
            answers: 3,
            red_flags: 1,
            model_failures: 1,
        };
        let path = folder.path().join(HEALTH_FILE);
        write_health(&path, &state).unwrap();
        let line = health(&config, &clock).unwrap();
        assert!(
            line.contains("3 answers") && line.contains("model down"),
            "{line}"
        );
        clock.advance_millis(61_000);
        assert!(
            health(&config, &clock)
                .unwrap_err()
                .to_string()
                .contains("61 s")
        );
        state.at_ms += 61_000;
        state.connected = false;
        write_health(&path, &state).unwrap();
        assert!(health(&config, &clock).is_err());
        std::fs::write(&path, "{").unwrap();
        assert!(health(&config, &clock).is_err());
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        let jitter = system_jitter();
        assert!((0..100).all(|_| (0.0..=1.0).contains(&jitter())));
    }
}
