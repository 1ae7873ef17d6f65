//! A first configuration, with the keys that it needs.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use wardline_wire::directory::TrustAnchor;
use zeroize::Zeroizing;

use crate::entropy;

/// What to write.
pub struct InitOptions {
    /// The folder, made if it is missing.
    pub dir: PathBuf,
    /// The clinic that the relay serves.
    pub anchor: TrustAnchor,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// Names and addresses in the certificate; `None` for plain HTTP on loopback.
    pub tls_names: Option<Vec<String>>,
}

/// What was written.
pub struct InitReport {
    /// The configuration file.
    pub config: PathBuf,
    /// SHA-256 of the TLS key's DER `SubjectPublicKeyInfo`, which invites carry;
    /// `None` for plain HTTP.
    pub tls_key_sha256: Option<[u8; 32]>,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or folder.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why; existing files are never overwritten.
        #[source]
        source: std::io::Error,
    },
    /// The TLS key or certificate.
    #[error("the TLS certificate cannot be made: {0}")]
    Tls(String),
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// Plain HTTP beyond loopback.
    #[error("without TLS the relay listens on loopback only, not on {0}")]
    Plain(SocketAddr),
}

/// Writes `relay.toml`, `database.key` and, with TLS, `tls.crt` and `tls.key`.
/// Nothing that exists is overwritten; keys are readable by their owner only.
///
/// # Errors
/// [`InitError`], naming the file.
pub fn init(options: &InitOptions) -> Result<InitReport, InitError> {
    let InitOptions {
        dir,
        anchor,
        listen,
        tls_names,
    } = options;
    if tls_names.is_none() && !listen.ip().is_loopback() {
        return Err(InitError::Plain(*listen));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| InitError::Write {
            path: dir.clone(),
            source,
        })?;
    let key = Zeroizing::new(entropy::random::<32>().map_err(|_| InitError::Randomness)?);
    let key_text = Zeroizing::new(format!("{}\n", hex::encode(key.as_slice())));
    write(&dir.join("database.key"), 0o600, key_text.as_bytes())?;
    let mut text = format!(
        "# The relay's configuration; `wardline-relay config check` reads it over.\n\
         listen = \"{listen}\"\n\n\
         [deployment]\n\
         deployment_id = \"{}\"\n\
         root_key = \"{}\"\n\n\
         [database]\n\
         path = \"relay.db\"\n\
         key_file = \"database.key\"\n",
        anchor.deployment(),
        hex::encode(anchor.root().as_bytes()),
    );
    let tls_key_sha256 = match tls_names {
        Some(names) => {
            text.push_str("\n[tls]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n");
            Some(make_tls(dir, names)?)
        }
        None => None,
    };
    let config = dir.join("relay.toml");
    write(&config, 0o644, text.as_bytes())?;
    Ok(InitReport {
        config,
        tls_key_sha256,
    })
}

/// A key and a self-signed certificate. Whoever has the key's hash from an invite
/// needs no certificate authority.
fn make_tls(dir: &Path, names: &[String]) -> Result<[u8; 32], InitError> {
    let failed = |error: rcgen::Error| InitError::Tls(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = CertificateParams::new(names)
        .and_then(|params| params.self_signed(&key))
        .map_err(failed)?;
    let pem = Zeroizing::new(key.serialize_pem());
    write(&dir.join("tls.key"), 0o600, pem.as_bytes())?;
    write(&dir.join("tls.crt"), 0o644, certificate.pem().as_bytes())?;
    wardline_tls::spki_sha256(certificate.der()).map_err(|error| InitError::Tls(error.to_string()))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), InitError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(|source| InitError::Write {
            path: path.to_owned(),
            source,
        })
}
