//! Configuration: one TOML file, read once at start. Nothing else reads the environment.

mod nearest;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::DeploymentId;
use wardline_wire::limits;
use zeroize::Zeroizing;

/// Why a configuration is refused. Every message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{path}: {detail}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what, with the nearest known key for a mistyped one.
        detail: String,
    },
    /// Keys that do not go together, or values out of range.
    #[error("{0}")]
    Value(String),
}

/// Everything that can be configured.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one. Without `[tls]` only loopback is allowed.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where `/metrics` is offered; loopback only. Without it, on `listen` if that is loopback.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// TOML file with `deployment_id` and `root_key`, as `wardline-authority` writes it.
    #[serde(default)]
    pub deployment_file: Option<PathBuf>,
    /// The same two values in place, instead of `deployment_file`.
    #[serde(default)]
    pub deployment: Option<DeploymentSection>,
    /// The database.
    #[serde(default)]
    pub database: DatabaseSection,
    /// Certificate and key; left out for plain HTTP on loopback.
    #[serde(default)]
    pub tls: Option<TlsSection>,
    /// Log-in.
    #[serde(default)]
    pub login: LoginSection,
    /// What mailboxes hold, and for how long.
    #[serde(default)]
    pub mailbox: MailboxSection,
    /// Bounds on what clients may do.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Logs.
    #[serde(default)]
    pub log: LogSection,
    /// Folder that relative paths start from.
    #[serde(skip)]
    pub base: PathBuf,
}

/// `deployment_id` and `root_key`, in hexadecimal.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSection {
    /// 16 bytes.
    pub deployment_id: String,
    /// The root's Ed25519 public key, 32 bytes.
    pub root_key: String,
}

/// The same values in a file of their own, which may hold more.
#[derive(Deserialize)]
struct DeploymentFile {
    deployment_id: String,
    root_key: String,
}

/// `[database]`. Exactly one of `key_file`, `key_credential` and `unencrypted`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseSection {
    /// The file.
    pub path: PathBuf,
    /// File with the 32-byte key in hexadecimal.
    pub key_file: Option<PathBuf>,
    /// Name of a systemd credential with the same content.
    pub key_credential: Option<String>,
    /// Stores without encryption at rest.
    pub unencrypted: bool,
}

/// `[tls]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// Certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

/// `[login]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSection {
    /// Seconds a token is good for.
    pub token_seconds: u32,
    /// Seconds a challenge is good for.
    pub challenge_seconds: u32,
}

/// `[mailbox]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailboxSection {
    /// Days an envelope waits for its device.
    pub keep_days: u32,
    /// Most envelopes a device's mailbox holds.
    pub max_envelopes: u32,
    /// Most bytes of ciphertext a device's mailbox holds.
    pub max_bytes: u64,
}

/// `[limits]`. A rate is written as the burst it allows and how many come back a second.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Largest ciphertext for one device, bytes.
    pub max_ciphertext_bytes: u32,
    /// Most recipient accounts in one send.
    pub max_recipients: u32,
    /// Most connections at a time.
    pub max_connections: u32,
    /// Most HTTP requests worked on at a time.
    pub max_requests: u32,
    /// Seconds a request may take, body included.
    pub request_seconds: u32,
    /// Seconds between WebSocket pings; a socket silent for three of them is closed.
    pub ping_seconds: u32,
    /// Requests without a token, per address (per /64 for IPv6).
    pub unauthenticated: Rate,
    /// Requests with a token, per device or issuer.
    pub authenticated: Rate,
    /// Recipient accounts in sends, per device.
    pub sends: Rate,
    /// Kibibytes of ciphertext in sends, per device.
    pub send_kib: Rate,
    /// Frames of any kind, per socket.
    pub frames: Rate,
    /// Bundle fetches, per requesting account.
    pub fetches: Rate,
    /// Bundle fetches, per requesting account and target account.
    pub fetches_per_pair: Rate,
    /// Invites, per account.
    pub invites: Rate,
    /// Take the client's address from the last entry of `X-Forwarded-For` when the
    /// peer is loopback, as behind a reverse proxy on the same machine.
    pub trust_forwarded_for: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How many come back a second; may be a fraction.
    pub per_second: f64,
}

/// `[log]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or a filter in `tracing` syntax.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443)
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self {
            path: PathBuf::from("relay.db"),
            key_file: None,
            key_credential: None,
            unencrypted: false,
        }
    }
}

impl Default for LoginSection {
    fn default() -> Self {
        Self {
            token_seconds: 600,
            challenge_seconds: 60,
        }
    }
}

impl Default for MailboxSection {
    fn default() -> Self {
        Self {
            keep_days: 30,
            max_envelopes: 10_000,
            max_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        let rate = |burst, per_second| Rate { burst, per_second };
        Self {
            max_ciphertext_bytes: u32::try_from(limits::MAX_CIPHERTEXT_BYTES).unwrap_or(u32::MAX),
            max_recipients: u32::try_from(limits::MAX_RECIPIENTS).unwrap_or(u32::MAX),
            max_connections: 4096,
            max_requests: 256,
            request_seconds: 30,
            ping_seconds: 30,
            // A ward behind one address logs in together after a power cut.
            unauthenticated: rate(2000, 50.0),
            authenticated: rate(600, 20.0),
            // Signal-Server allows 60 and one a second for each pair; here one bucket
            // serves all recipients, and an AI answer is twenty partial ones.
            sends: rate(2000, 200.0),
            send_kib: rate(65_536, 4096.0),
            frames: rate(4000, 400.0),
            fetches: rate(600, 10.0),
            // Against using up somebody's one-time prekeys: six, then one in ten minutes
            // (Signal-Server); twice that, as a colleague with many devices re-installs.
            fetches_per_pair: rate(30, 0.02),
            invites: rate(60, 0.05),
            trust_forwarded_for: false,
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads and checks a file. Relative paths in it start from its folder.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and the nearest known one when it is unknown.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path)?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&text, path, base)
    }

    fn parse(text: &str, path: &Path, base: PathBuf) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            detail: nearest::explain(&error.to_string()),
        })?;
        config.base = base;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with what to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError::Value(text));
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return refuse(format!(
                "listen = \"{}\" without [tls] would send everything in the clear; add [tls] \
                 (`wardline-relay init` makes a key and a certificate) or listen on 127.0.0.1",
                self.listen
            ));
        }
        if let Some(metrics) = self.metrics_listen
            && !metrics.ip().is_loopback()
        {
            return refuse(format!(
                "metrics_listen = \"{metrics}\" is not loopback; metrics are for this machine only"
            ));
        }
        if self.deployment_file.is_some() == self.deployment.is_some() {
            return refuse(
                "set deployment_file, or [deployment] with deployment_id and root_key (one of them)"
                    .to_owned(),
            );
        }
        let database = &self.database;
        let keys = [
            database.key_file.is_some(),
            database.key_credential.is_some(),
            database.unencrypted,
        ];
        if keys.into_iter().filter(|set| *set).count() != 1 {
            return refuse(
                "[database] needs exactly one of key_file, key_credential and unencrypted = true"
                    .to_owned(),
            );
        }
        let limits = &self.limits;
        for (name, rate) in [
            ("unauthenticated", limits.unauthenticated),
            ("authenticated", limits.authenticated),
            ("sends", limits.sends),
            ("send_kib", limits.send_kib),
            ("frames", limits.frames),
            ("fetches", limits.fetches),
            ("fetches_per_pair", limits.fetches_per_pair),
            ("invites", limits.invites),
        ] {
            if rate.burst == 0 || !rate.per_second.is_finite() || rate.per_second < 0.000_01 {
                return refuse(format!(
                    "limits.{name}: burst must be at least 1 and per_second above 0.00001"
                ));
            }
        }
        let range = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Value(format!(
                    "{name} = {value} is out of range: {low} to {high}"
                )))
            }
        };
        range(
            "login.token_seconds",
            self.login.token_seconds.into(),
            5,
            86_400,
        )?;
        range(
            "login.challenge_seconds",
            self.login.challenge_seconds.into(),
            5,
            600,
        )?;
        range("mailbox.keep_days", self.mailbox.keep_days.into(), 1, 30)?;
        range(
            "mailbox.max_envelopes",
            self.mailbox.max_envelopes.into(),
            1,
            1_000_000,
        )?;
        range(
            "limits.max_ciphertext_bytes",
            limits.max_ciphertext_bytes.into(),
            1024,
            limits::MAX_CIPHERTEXT_BYTES as u64,
        )?;
        range(
            "mailbox.max_bytes",
            self.mailbox.max_bytes,
            limits.max_ciphertext_bytes.into(),
            1 << 40,
        )?;
        range(
            "limits.max_recipients",
            limits.max_recipients.into(),
            1,
            limits::MAX_RECIPIENTS as u64,
        )?;
        if limits.sends.burst < limits.max_recipients
            || u64::from(limits.send_kib.burst) * 1024 < limits::MAX_FRAME_BYTES as u64
        {
            return refuse(
                "limits.sends.burst must be at least limits.max_recipients, and \
                 limits.send_kib.burst at least 4096: else a large send never passes"
                    .to_owned(),
            );
        }
        range(
            "limits.max_connections",
            limits.max_connections.into(),
            1,
            1_000_000,
        )?;
        range(
            "limits.max_requests",
            limits.max_requests.into(),
            1,
            100_000,
        )?;
        range(
            "limits.request_seconds",
            limits.request_seconds.into(),
            1,
            600,
        )?;
        range("limits.ping_seconds", limits.ping_seconds.into(), 1, 3600)
    }

    /// A path of the file, from the file's folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The clinic's root and deployment.
    ///
    /// # Errors
    /// [`ConfigError`] when the file or the values cannot be read.
    pub fn trust_anchor(&self) -> Result<TrustAnchor, ConfigError> {
        match (&self.deployment, &self.deployment_file) {
            (Some(section), _) => parse_anchor(&section.deployment_id, &section.root_key),
            (None, Some(path)) => load_anchor(&self.resolve(path)),
            (None, None) => Err(ConfigError::Value("no deployment is configured".to_owned())),
        }
    }

    /// The database's key, if it has one.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read or is not 32 bytes in hexadecimal.
    pub fn database_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>, ConfigError> {
        let path = match (&self.database.key_file, &self.database.key_credential) {
            (Some(path), _) => self.resolve(path),
            (None, Some(name)) => credential_path(name)?,
            (None, None) => return Ok(None),
        };
        let text = Zeroizing::new(read_text(&path)?);
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| {
            ConfigError::Value(format!(
                "{} must hold the database key: 64 hexadecimal digits",
                path.display()
            ))
        })?;
        Ok(Some(key))
    }
}

/// Reads `deployment_id` and `root_key` from the file that `wardline-authority` writes.
///
/// # Errors
/// [`ConfigError`] when the file or the values cannot be read.
pub fn load_anchor(path: &Path) -> Result<TrustAnchor, ConfigError> {
    let file: DeploymentFile =
        toml::from_str(&read_text(path)?).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
    parse_anchor(&file.deployment_id, &file.root_key)
}

/// A trust anchor from its two values in hexadecimal.
///
/// # Errors
/// [`ConfigError::Value`] naming the value that is wrong.
pub fn parse_anchor(deployment_id: &str, root_key: &str) -> Result<TrustAnchor, ConfigError> {
    let deployment: DeploymentId = deployment_id.parse().map_err(|_| {
        ConfigError::Value("deployment_id must be 32 hexadecimal digits".to_owned())
    })?;
    let mut root = [0; 32];
    hex::decode_to_slice(root_key, &mut root)
        .ok()
        .and_then(|()| VerifyingKey::from_bytes(&root).ok())
        .map(|root| TrustAnchor::new(deployment, root))
        .ok_or_else(|| {
            ConfigError::Value(
                "root_key must be an Ed25519 public key in 64 hexadecimal digits".to_owned(),
            )
        })
}

fn credential_path(name: &str) -> Result<PathBuf, ConfigError> {
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(ConfigError::Value(format!(
            "database.key_credential = \"{name}\" must be the plain name of a credential"
        )));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the configuration is where the environment is read"
    )]
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    folder
        .map(|folder| PathBuf::from(folder).join(name))
        .ok_or_else(|| {
            ConfigError::Value(
                "database.key_credential is set, but systemd passed no credentials; add \
                 LoadCredential= to the unit"
                    .to_owned(),
            )
        })
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[deployment]\ndeployment_id = \"00112233445566778899aabbccddeeff\"\n\
        root_key = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"\n\
        [database]\nunencrypted = true\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(
            text,
            Path::new("relay.toml"),
            PathBuf::from("/etc/wardline"),
        )
    }

    fn refusal(text: &str) -> String {
        match parse(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8443");
        assert_eq!(config.mailbox.keep_days, 30);
        assert!(config.trust_anchor().is_ok());
        assert_eq!(
            config.resolve(Path::new("relay.db")),
            Path::new("/etc/wardline/relay.db")
        );
    }

    #[test]
    fn a_mistyped_key_is_named_with_the_nearest() {
        let text = refusal(&format!("lisen = \"127.0.0.1:1\"\n{GOOD}"));
        assert!(
            text.contains("lisen") && text.contains("did you mean `listen`"),
            "{text}"
        );
        let text = refusal(&format!("{GOOD}[mailbox]\nkeep_day = 3\n"));
        assert!(text.contains("did you mean `keep_days`"), "{text}");
    }

    #[test]
    fn plain_http_beyond_loopback_is_refused() {
        let text = refusal(&format!("listen = \"0.0.0.0:8443\"\n{GOOD}"));
        assert!(text.contains("[tls]"), "{text}");
        let text = refusal(&format!("metrics_listen = \"10.0.0.1:1\"\n{GOOD}"));
        assert!(text.contains("loopback"), "{text}");
    }

    #[test]
    fn a_database_without_a_word_on_encryption_is_refused() {
        let text = refusal(&GOOD.replace("unencrypted = true", "path = \"x.db\""));
        assert!(text.contains("key_file"), "{text}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        let text = refusal(&format!("{GOOD}[login]\ntoken_seconds = 1\n"));
        assert!(text.contains("login.token_seconds"), "{text}");
        let text = refusal(&format!(
            "{GOOD}[limits]\nsends = {{ burst = 0, per_second = 1.0 }}\n"
        ));
        assert!(text.contains("limits.sends"), "{text}");
        let text = refusal(&format!("{GOOD}[limits]\nmax_ciphertext_bytes = 1000000\n"));
        assert!(text.contains("max_ciphertext_bytes"), "{text}");
    }

    #[test]
    fn a_root_key_that_is_none_is_refused() {
        let config = parse(&GOOD.replace("d75a", "zzzz")).unwrap();
        assert!(
            config
                .trust_anchor()
                .unwrap_err()
                .to_string()
                .contains("root_key")
        );
    }

    #[test]
    fn credentials_are_plain_names() {
        assert!(credential_path("../etc/passwd").is_err());
        assert!(credential_path("").is_err());
    }
}
