//! The relay as a whole: what its parts share, how it starts and how it stops.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wardline_wire::clock::Clock;

use crate::auth::challenge::Challenges;
use crate::auth::token::Tokens;
use crate::auth::{Lapsed, check_standing};
use crate::config::{Config, ConfigError};
use crate::directory::{Directory, DirectoryError};
use crate::hub::{Ending, Hub};
use crate::mailbox::Mailbox;
use crate::mailbox::plan::Caps;
use crate::rate_limit::RateLimits;
use crate::serve::Tls;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Retention, Store, StoreError};
use crate::{entropy, router, serve, telemetry};

/// How often sessions are held against the database. In one process endings are
/// immediate; this catches what another process did, within a second.
const SESSION_SWEEP: Duration = Duration::from_millis(500);
const MEMORY_SWEEP: Duration = Duration::from_mins(1);
const EXPIRY_SWEEP: Duration = Duration::from_hours(1);
/// How long connections may take to finish at the end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Free space below which the relay is not ready.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// Longer than private parts of prekeys live (45 days) and mail waits (30).
const PREKEY_ID_DAYS: u64 = 90;
/// How long a send is remembered.
const SEND_DAYS: u64 = 30;

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database, the stored directory, or a fault of the relay's own.
    #[error("{0}")]
    Database(String),
    /// Certificate or key.
    #[error("TLS: {0}")]
    Tls(String),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> Self {
        Self::Database(error.to_string())
    }
}

/// What every route and socket shares.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Directory,
    pub(crate) tokens: Tokens,
    pub(crate) challenges: Challenges,
    pub(crate) limits: RateLimits,
    pub(crate) hub: Arc<Hub>,
    pub(crate) mailbox: Mailbox,
    pub(crate) metrics: PrometheusHandle,
    /// Requests that may be worked on at a time.
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) writable: Writable,
    stopping: AtomicBool,
}

impl App {
    /// Puts the parts together around an open database.
    pub(crate) async fn new(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StartError> {
        let now = clock.now();
        let anchor = config.trust_anchor()?;
        let meta = store.meta().await?;
        let tokens = Tokens::new(
            &meta.token_seed,
            anchor.deployment(),
            config.login.token_seconds,
        )
        .map_err(|error| StartError::Database(format!("the token key cannot be used: {error}")))?;
        let hub = Arc::new(Hub::default());
        let caps = Caps {
            envelopes: config.mailbox.max_envelopes.into(),
            bytes: config.mailbox.max_bytes,
        };
        let (mailbox, writer) = Mailbox::start(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::clone(&clock),
            caps,
            meta.privacy_key,
        );
        let app = Self {
            directory: Directory::load(anchor, store.as_ref(), now).await?,
            tokens,
            challenges: Challenges::new(entropy::random()?, config.login.challenge_seconds),
            limits: RateLimits::new(&config.limits),
            hub,
            mailbox,
            metrics: telemetry::metrics_handle(),
            requests: Arc::new(Semaphore::new(config.limits.max_requests as usize)),
            writable: Writable::new(config.resolve(&config.database.path)),
            stopping: AtomicBool::new(false),
            config,
            clock,
            store,
        };
        Ok((Arc::new(app), writer))
    }

    /// Whether the relay goes down.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Holds every open socket against the database.
    async fn check_sessions(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if let Err(error) = self.directory.reload(self.store.as_ref(), now).await {
            tracing::error!(%error, "the revocation list could not be read again");
        }
        for socket in self.hub.all() {
            let standing = self.store.standing(socket.address, now).await?;
            match check_standing(standing.as_ref(), socket.auth_epoch) {
                Ok(_) => {}
                Err(Lapsed::Revoked) => self.hub.end(socket.address, Ending::Revoked),
                Err(Lapsed::Changed) => self.hub.end(socket.address, Ending::Changed),
            }
        }
        Ok(())
    }

    async fn expire(&self) {
        let keep = Retention {
            envelopes: self.config.mailbox.keep_days.into(),
            sends: SEND_DAYS,
            prekey_ids: PREKEY_ID_DAYS,
        };
        match self.store.expire(self.clock.now(), keep).await {
            Ok(expired) => {
                metrics::counter!("wardline_relay_envelopes_expired_total").increment(expired);
            }
            Err(error) => tracing::error!(%error, "old rows could not be dropped"),
        }
    }

    /// What has to be done now and then.
    pub(crate) async fn keep_house(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut sessions = tokio::time::interval(SESSION_SWEEP);
        let mut memory = tokio::time::interval(MEMORY_SWEEP);
        let mut expiry = tokio::time::interval(EXPIRY_SWEEP);
        let mut generation = None;
        loop {
            tokio::select! {
                () = serve::stopped(&mut stop) => return,
                _ = sessions.tick() => {
                    match self.store.auth_generation().await {
                        Ok(current) if generation == Some(current) => {}
                        Ok(current) => match self.check_sessions().await {
                            Ok(()) => generation = Some(current),
                            Err(error) => tracing::error!(%error, "sessions could not be checked"),
                        },
                        Err(error) => tracing::error!(%error, "sessions could not be checked"),
                    }
                }
                _ = memory.tick() => {
                    self.limits.sweep();
                    self.challenges.sweep(self.clock.now());
                    self.metrics.run_upkeep();
                }
                _ = expiry.tick() => self.expire().await,
            }
        }
    }
}

/// Whether the database takes writes, asked at most once a second: the question
/// takes the writer's turn, and anybody may ask it.
pub(crate) struct Writable {
    database: PathBuf,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Writable {
    fn new(database: PathBuf) -> Self {
        Self {
            database,
            last: Mutex::new(None),
        }
    }

    pub(crate) async fn check(&self, store: &dyn Store, patience: Duration) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < Duration::from_secs(1)
        {
            return answer;
        }
        let has_space = rustix::fs::statvfs(&self.database)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= MIN_FREE_BYTES);
        let answer = has_space
            && matches!(
                tokio::time::timeout(patience, store.check_writable()).await,
                Ok(Ok(()))
            );
        *last = Some((Instant::now(), answer));
        answer
    }
}

/// A running relay.
pub struct Relay {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    address: SocketAddr,
    url: String,
    metrics_address: Option<SocketAddr>,
    slots: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    writer: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Opens the database, listens and serves.
    ///
    /// # Errors
    /// [`StartError`] with what to change.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        config.check()?;
        let tls = config
            .tls
            .as_ref()
            .map(|tls| {
                Tls::load(
                    config.resolve(&tls.certificate_file),
                    config.resolve(&tls.key_file),
                )
            })
            .transpose()
            .map_err(StartError::Tls)?
            .map(Arc::new);
        let store: Arc<dyn Store> = Arc::new(open(&config).await?);
        let listener = listen(config.listen).await?;
        let address = local_address(&listener, config.listen)?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let max_connections = config.limits.max_connections as usize;
        let (app, writer) = App::new(config, store, clock).await?;
        let (stop, stopping) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(max_connections));
        let with_metrics = metrics_listener.is_none() && address.ip().is_loopback();
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&app).keep_house(stopping.clone())),
            tokio::spawn(serve::serve(
                listener,
                tls.clone(),
                router::build(&app, with_metrics),
                Arc::clone(&slots),
                app.config.limits.trust_forwarded_for,
                stopping.clone(),
            )),
        ];
        let mut metrics_address = None;
        if let Some(listener) = metrics_listener {
            metrics_address = Some(local_address(&listener, address)?);
            tasks.push(tokio::spawn(serve::serve(
                listener,
                None,
                router::build_metrics(&app),
                Arc::new(Semaphore::new(16)),
                false,
                stopping,
            )));
        }
        Ok(Self {
            url: format!("{scheme}://{address}"),
            app,
            tls,
            address,
            metrics_address,
            slots,
            stop,
            writer,
            tasks,
        })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where `/metrics` is, when it has a listener of its own.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Reads certificate and key again, as after a renewal. Open connections stay.
    ///
    /// # Errors
    /// [`StartError::Tls`]; what was in use stays in use.
    pub fn reload_tls(&self) -> Result<(), StartError> {
        match &self.tls {
            Some(tls) => tls.reload().map_err(StartError::Tls),
            None => Ok(()),
        }
    }

    /// Stops: sockets are told, requests finish, what is queued is stored.
    pub async fn stop(self) {
        self.app.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        self.app.hub.end_all(Ending::ShuttingDown);
        let all = self.app.config.limits.max_connections;
        let idle = tokio::time::timeout(STOP_PATIENCE, self.slots.acquire_many(all)).await;
        if idle.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        self.app.mailbox.stop().await;
        let _ = self.writer.await;
        for task in self.tasks {
            let _ = task.await;
        }
        self.app.store.close().await;
    }
}

/// For a relay that was restored from a backup and does not run: raises the
/// mailbox epoch, drops one-time prekeys, ends all sessions. Returns the new epoch.
///
/// # Errors
/// [`StartError`] when the database cannot be opened or written.
pub async fn raise_epoch(config: &Config, clock: &dyn Clock) -> Result<u64, StartError> {
    let database = open(config).await?;
    let epoch = database.raise_epoch(clock.now()).await?;
    database.close().await;
    Ok(epoch)
}

pub(crate) async fn open(config: &Config) -> Result<SqliteStore, StartError> {
    let key = config.database_key()?;
    if key.is_none() {
        tracing::warn!("the database is not encrypted at rest (database.unencrypted = true)");
    }
    let path = config.resolve(&config.database.path);
    // Made by hand, so that nobody but the relay's user can read it; SQLite gives
    // its log the same mode.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| {
            StartError::Database(format!("{} cannot be opened: {error}", path.display()))
        })?;
    Ok(SqliteStore::open(&path, key.as_ref()).await?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen {
        address: asked,
        source,
    })
}
