//! Logs and metrics. Neither holds content or identities: where a log line has to
//! tell accounts apart, it shows a hash that is salted anew by every process.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sha2::{Digest as _, Sha256};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};
use crate::entropy;

/// Seconds, for whatever takes time.
const SECONDS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// Sends in a batch.
const COUNTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A log filter that cannot be read, or logging that is set up already.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {0}")]
pub struct LogError(String);

/// Sets logging up for the process, on standard error.
///
/// # Errors
/// [`LogError`] when `log.level` is not a filter, or logging was set up before.
pub fn start_logging(config: &LogSection) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| LogError(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| LogError(error.to_string()))
}

/// The process's metrics, set up at first use.
pub(crate) fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = with_buckets(PrometheusBuilder::new())
                .unwrap_or_default()
                .build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder stays in place; ours then stays empty.
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}

fn with_buckets(builder: PrometheusBuilder) -> Option<PrometheusBuilder> {
    builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .ok()?
        .set_buckets_for_metric(Matcher::Suffix("_sends".to_owned()), &COUNTS)
        .ok()
}

/// An identity in a log line: the same within one process, meaningless outside it.
pub(crate) struct Obfuscated<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Obfuscated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static SALT: OnceLock<Option<[u8; 16]>> = OnceLock::new();
        let Some(salt) = SALT.get_or_init(|| entropy::random().ok()) else {
            return f.write_str("#");
        };
        let digest: [u8; 32] = Sha256::new()
            .chain_update(salt)
            .chain_update(self.0)
            .finalize()
            .into();
        let (short, _) = digest.split_at(5);
        write!(f, "#{}", hex::encode(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obfuscated_identities_are_stable_and_show_nothing() {
        let shown = Obfuscated(&[0xAB; 16]).to_string();
        assert_eq!(shown, Obfuscated(&[0xAB; 16]).to_string());
        assert_ne!(shown, Obfuscated(&[0xAC; 16]).to_string());
        assert!(!shown.contains("abab"));
    }
}
