//! `authority.toml`: where the relay is, and how long things last.

use std::path::Path;

use serde::Deserialize;
use wardline_wire::limits::REVOCATION_LIST_VALIDITY_MS;

use crate::DAY_MS;
use crate::files::{self, FileError};

/// The file's name in an issuer's directory. It need not exist.
pub const FILE: &str = "authority.toml";

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not understood.
    #[error("{FILE}: {0}")]
    Syntax(String),
    /// A value is out of its range.
    #[error("{name} must be {expected}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// No relay address.
    #[error("no relay address: give --relay-url, or set relay_url in {FILE}")]
    NoRelay,
}

/// Whether fitting enrolments are certified at once or wait for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A proof that fits is enough.
    #[default]
    Automatic,
    /// A person runs `approve`.
    Manual,
}

/// The file as written; every setting is optional.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    relay_url: Option<String>,
    relay_key: Option<String>,
    approve: Option<Approval>,
    certificate_days: Option<u64>,
    revocation_days: Option<u64>,
    poll_seconds: Option<f64>,
}

/// Settings given on the command line; they win over the file.
#[derive(Clone, Default)]
pub struct Overrides {
    /// The relay's address.
    pub relay_url: Option<String>,
    /// SHA-256 of its key, hexadecimal.
    pub relay_key: Option<String>,
    /// See [`Approval`].
    pub approve: Option<Approval>,
    /// Seconds between looks at the desk.
    pub poll_seconds: Option<f64>,
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The relay's address, if any is set.
    pub relay_url: Option<String>,
    /// SHA-256 of the DER `SubjectPublicKeyInfo` of its TLS key.
    pub relay_key: Option<[u8; 32]>,
    /// See [`Approval`].
    pub approve: Approval,
    /// How long a certificate is good for, in milliseconds; its issuer's end comes first.
    pub certificate_ms: u64,
    /// How long a revocation list is good for, in milliseconds.
    pub revocation_ms: u64,
    /// Milliseconds between looks at the desk.
    pub poll_ms: u64,
}

impl Config {
    /// Reads `authority.toml` in `dir`, if it is there.
    ///
    /// # Errors
    /// [`ConfigError`]; a setting that is not known is an error.
    pub fn load(dir: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let path = dir.join(FILE);
        let contents = if path.exists() {
            let text = files::read_text(&path)?;
            toml::from_str(&text).map_err(|error| ConfigError::Syntax(error.to_string()))?
        } else {
            Contents::default()
        };
        Self::resolve(contents, overrides)
    }

    fn resolve(contents: Contents, overrides: &Overrides) -> Result<Self, ConfigError> {
        let relay_url = overrides.relay_url.clone().or(contents.relay_url);
        // A key belongs to its address: one from the file does not vouch for another relay.
        let relay_key = match (&overrides.relay_url, &overrides.relay_key) {
            (_, Some(key)) => Some(key.clone()),
            (Some(_), None) => None,
            (None, None) => contents.relay_key,
        };
        let relay_key = relay_key.map(|key| parse_key(&key)).transpose()?;
        let days = |value: Option<u64>, default, max, name, expected| {
            let days = value.unwrap_or(default);
            if (1..=max).contains(&days) {
                Ok(days * DAY_MS)
            } else {
                Err(ConfigError::Value { name, expected })
            }
        };
        let poll = overrides.poll_seconds.or(contents.poll_seconds);
        let poll = poll.unwrap_or(5.0);
        if !(0.05..=3600.0).contains(&poll) {
            return Err(ConfigError::Value {
                name: "poll_seconds",
                expected: "between 0.05 and 3600",
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 50 and 3 600 000"
        )]
        let poll_ms = (poll * 1000.0) as u64;
        Ok(Self {
            relay_url,
            relay_key,
            approve: overrides.approve.or(contents.approve).unwrap_or_default(),
            certificate_ms: days(
                contents.certificate_days,
                30,
                366,
                "certificate_days",
                "between 1 and 366",
            )?,
            revocation_ms: days(
                contents.revocation_days,
                7,
                REVOCATION_LIST_VALIDITY_MS / DAY_MS,
                "revocation_days",
                "between 1 and 31",
            )?,
            poll_ms,
        })
    }

    /// The relay's address.
    ///
    /// # Errors
    /// [`ConfigError::NoRelay`].
    pub fn relay_url(&self) -> Result<&str, ConfigError> {
        self.relay_url.as_deref().ok_or(ConfigError::NoRelay)
    }
}

fn parse_key(text: &str) -> Result<[u8; 32], ConfigError> {
    hex::decode(text)
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or(ConfigError::Value {
            name: "relay_key",
            expected: "the SHA-256 of the relay's public key, as 64 hexadecimal digits",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, overrides: &Overrides) -> Result<Config, String> {
        let contents = toml::from_str(text).map_err(|error| error.to_string())?;
        Config::resolve(contents, overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_and_a_key_stays_with_its_address() {
        let file = format!(
            "relay_url = \"https://a\"\nrelay_key = \"{}\"",
            "ab".repeat(32)
        );
        let read = resolve(&file, &Overrides::default()).unwrap();
        assert_eq!(read.relay_key, Some([0xAB; 32]));
        let elsewhere = Overrides {
            relay_url: Some("https://b".to_owned()),
            ..Overrides::default()
        };
        let read = resolve(&file, &elsewhere).unwrap();
        assert_eq!(read.relay_url().unwrap(), "https://b");
        assert_eq!(read.relay_key, None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let none = Overrides::default();
        assert!(resolve("relay_ulr = \"x\"", &none).is_err());
        assert!(resolve("certificate_days = 0", &none).is_err());
        assert!(resolve("revocation_days = 32", &none).is_err());
        assert!(resolve("poll_seconds = nan", &none).is_err());
        assert!(resolve("relay_key = \"12\"", &none).is_err());
        assert!(resolve("approve = \"perhaps\"", &none).is_err());
        let read = resolve("", &none).unwrap();
        assert!(matches!(read.relay_url(), Err(ConfigError::NoRelay)));
        assert_eq!(
            (read.certificate_ms, read.revocation_ms, read.poll_ms),
            (30 * DAY_MS, 7 * DAY_MS, 5000)
        );
    }
}
