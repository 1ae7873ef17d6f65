//! Issuers: short-lived keys that certify, and their files.
//!
//! In an issuer's directory, `issuers/<serial>.toml` is public and
//! `issuers/<serial>.key` (or `.key.age`, under a passphrase) holds the two
//! private keys. Several lie side by side: a new issuer is added before the old
//! one ends.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use ed25519_dalek::SigningKey;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, Serializable as _};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{IssuerError, TrustAnchor, VerifiedIssuer, role_name};
use wardline_wire::ids::{DeploymentId, Serial};
use wardline_wire::invite::REQUEST_INFO;
use wardline_wire::proto::{
    Certificate, CertificateChain, RevocationBundle, RevocationList, Role, SignedBlob,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::{Randomness, deployment, random};

/// Where issuers lie in an issuer's directory.
pub const DIR: &str = "issuers";

/// First line of a private key file.
const MAGIC: &str = "wardline-issuer-key-v1";
/// Length of an X25519 encapsulated key.
const ENCAPPED_BYTES: usize = 32;

/// Why issuers cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IssuerFileError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Signed by another root, or unreadable.
    #[error("{path}: {source}")]
    Issuer {
        /// Which file.
        path: PathBuf,
        /// Why it is not believed.
        source: IssuerError,
    },
    /// The private keys are another issuer's.
    #[error("{0} holds the keys of another issuer")]
    OtherKeys(PathBuf),
    /// The keys are under a passphrase and none was given.
    #[error("{0} needs its passphrase: give --issuer-passphrase-file")]
    NeedsPassphrase(PathBuf),
}

/// The public file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFile {
    serial: String,
    roles: Vec<String>,
    not_before_ms: u64,
    not_after_ms: u64,
    /// The `SignedBlob`, hexadecimal; the fields above are for people.
    issuer: String,
}

/// A new issuer, not written yet.
pub struct NewIssuer {
    serial: Serial,
    blob: SignedBlob,
    seed: Zeroizing<[u8; 32]>,
    sealing: Zeroizing<[u8; 32]>,
}

impl NewIssuer {
    /// Makes the keys; `sign` gets serial, public key and public sealing key.
    pub(crate) fn make(
        rng: &mut Randomness,
        sign: impl FnOnce(Serial, [u8; 32], [u8; 32]) -> SignedBlob,
    ) -> Self {
        let serial = Serial::from(random(rng));
        let seed = Zeroizing::new(random::<32>(rng));
        let ikm = Zeroizing::new(random::<32>(rng));
        let (private, public) = X25519HkdfSha256::derive_keypair(ikm.as_slice());
        let mut sealing = Zeroizing::new([0; 32]);
        sealing.copy_from_slice(&private.to_bytes());
        let mut sealing_key = [0; 32];
        sealing_key.copy_from_slice(&public.to_bytes());
        let key = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        Self {
            serial,
            blob: sign(serial, key, sealing_key),
            seed,
            sealing,
        }
    }

    /// Names it.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// What the root signed.
    pub const fn blob(&self) -> &SignedBlob {
        &self.blob
    }

    /// Writes it into the issuer's directory `dir`: the keys first, so that a
    /// public file always has its keys. With a passphrase the keys are an age file.
    ///
    /// # Errors
    /// [`IssuerFileError`].
    pub fn write(
        &self,
        dir: &Path,
        anchor: &TrustAnchor,
        now: Timestamp,
        passphrase: Option<(&SecretString, u8)>,
    ) -> Result<(), IssuerFileError> {
        files::create_private_dir(&dir.join(DIR))?;
        deployment::write(dir, anchor)?;
        let public = dir.join(DIR).join(format!("{}.toml", self.serial));
        let verified = VerifiedIssuer::verify(&self.blob, anchor, now).map_err(|source| {
            IssuerFileError::Issuer {
                path: public.clone(),
                source,
            }
        })?;
        let text = Zeroizing::new(format!(
            "{MAGIC}\n{}\n{}\n",
            Zeroizing::new(hex::encode(self.seed.as_slice())).as_str(),
            Zeroizing::new(hex::encode(self.sealing.as_slice())).as_str(),
        ));
        let plain = dir.join(DIR).join(format!("{}.key", self.serial));
        match passphrase {
            Some((passphrase, work_factor)) => {
                let path = plain.with_extension("key.age");
                let sealed = files::seal(&path, text.as_bytes(), passphrase, work_factor)?;
                files::write_new(&path, sealed.as_bytes())?;
            }
            None => files::write_new(&plain, text.as_bytes())?,
        }
        let contents = PublicFile {
            serial: self.serial.to_string(),
            roles: verified
                .roles()
                .iter()
                .map(|role| role_name(*role).to_owned())
                .collect(),
            not_before_ms: verified.not_before().as_millis(),
            not_after_ms: verified.not_after().as_millis(),
            issuer: hex::encode(self.blob.encode_to_vec()),
        };
        let text = toml::to_string(&contents)
            .map_err(|_| FileError::content(&public, "writable as TOML"))?;
        files::write_new(&public, text.as_bytes())?;
        Ok(())
    }
}

/// An issuer with its private keys, verified against the root.
pub struct Issuer {
    blob: SignedBlob,
    verified: VerifiedIssuer,
    signing: SigningKey,
    sealing: <X25519HkdfSha256 as hpke::Kem>::PrivateKey,
}

impl Issuer {
    /// Names it.
    pub const fn serial(&self) -> Serial {
        self.verified.serial()
    }

    /// What the root vouches for.
    pub const fn verified(&self) -> &VerifiedIssuer {
        &self.verified
    }

    /// What the root signed.
    pub const fn blob(&self) -> &SignedBlob {
        &self.blob
    }

    /// Whether it may sign at `now`. Others tolerate a day; the issuer itself does not.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.verified.not_before() <= now && now <= self.verified.not_after()
    }

    /// Signs a log-in to the relay.
    pub fn sign_login(&self, deployment: DeploymentId, login: Vec<u8>) -> SignedBlob {
        SignedBlob::sign(SignedKind::Login, deployment, login, &self.signing)
    }

    /// Signs a certificate in its own name.
    pub fn certify(&self, deployment: DeploymentId, certificate: Certificate) -> CertificateChain {
        let certificate = Certificate {
            issuer_serial: self.serial().to_vec(),
            ..certificate
        };
        let payload = certificate.encode_to_vec();
        let blob = SignedBlob::sign(SignedKind::Certificate, deployment, payload, &self.signing);
        CertificateChain {
            issuer: Some(self.blob.clone()),
            certificate: Some(blob),
        }
    }

    /// Signs a revocation list in its own name.
    pub fn sign_revocations(
        &self,
        deployment: DeploymentId,
        list: RevocationList,
    ) -> RevocationBundle {
        let list = RevocationList {
            issuer_serial: self.serial().to_vec(),
            ..list
        };
        let payload = list.encode_to_vec();
        let kind = SignedKind::RevocationList;
        RevocationBundle {
            issuer: Some(self.blob.clone()),
            list: Some(SignedBlob::sign(kind, deployment, payload, &self.signing)),
        }
    }

    /// Opens an invite request that was sealed to this issuer; `None` when it was not.
    fn open(&self, deployment: DeploymentId, sealed: &[u8]) -> Option<SignedBlob> {
        let (encapped, ciphertext) = sealed.split_at_checked(ENCAPPED_BYTES)?;
        let encapped = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(encapped).ok()?;
        let info = request_info(deployment);
        let plaintext = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.sealing,
            &encapped,
            &info,
            ciphertext,
            &[],
        )
        .ok()
        .map(Zeroizing::new)?;
        SignedBlob::decode(plaintext.as_slice()).ok()
    }
}

/// HPKE `info` of invite requests in this deployment.
pub fn request_info(deployment: DeploymentId) -> Vec<u8> {
    [REQUEST_INFO, deployment.as_bytes()].concat()
}

/// All issuers of a directory that count at the moment.
pub struct Issuers {
    all: Vec<Issuer>,
}

impl Issuers {
    /// Loads what lies in `dir`. Issuers outside their validity (± 24 h) are left
    /// out; anything unreadable is an error.
    ///
    /// # Errors
    /// [`IssuerFileError`], naming the file.
    pub fn load(
        dir: &Path,
        anchor: &TrustAnchor,
        passphrase: Option<&SecretString>,
        now: Timestamp,
    ) -> Result<Self, IssuerFileError> {
        let folder = dir.join(DIR);
        let listing = std::fs::read_dir(&folder).map_err(|source| FileError::Io {
            path: folder.clone(),
            source,
        })?;
        let mut paths: Vec<PathBuf> = listing
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .collect();
        paths.sort();
        let mut all = Vec::new();
        for path in paths {
            all.extend(load_one(&path, anchor, passphrase, now)?);
        }
        Ok(Self { all })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.all.iter()
    }

    /// The issuer with the longest future that may certify `role` at `now`.
    pub fn for_role(
        &self,
        role: Role,
        now: Timestamp,
        is_revoked: impl Fn(Serial) -> bool,
    ) -> Option<&Issuer> {
        self.longest(now, is_revoked, |issuer| {
            issuer.verified.roles().contains(&role)
        })
    }

    /// The issuer with the longest future, whatever its roles: for log-ins and revocation lists.
    pub fn any(&self, now: Timestamp, is_revoked: impl Fn(Serial) -> bool) -> Option<&Issuer> {
        self.longest(now, is_revoked, |_| true)
    }

    fn longest(
        &self,
        now: Timestamp,
        is_revoked: impl Fn(Serial) -> bool,
        fits: impl Fn(&Issuer) -> bool,
    ) -> Option<&Issuer> {
        self.all
            .iter()
            .filter(|issuer| issuer.is_valid(now) && !is_revoked(issuer.serial()) && fits(issuer))
            .max_by_key(|issuer| (issuer.verified.not_after(), issuer.serial()))
    }

    /// Opens an invite request that was sealed to one of them.
    pub fn open_request(&self, deployment: DeploymentId, sealed: &[u8]) -> Option<SignedBlob> {
        self.all
            .iter()
            .find_map(|issuer| issuer.open(deployment, sealed))
    }
}

fn load_one(
    path: &Path,
    anchor: &TrustAnchor,
    passphrase: Option<&SecretString>,
    now: Timestamp,
) -> Result<Option<Issuer>, IssuerFileError> {
    let not_one = || FileError::content(path, "an issuer's public file");
    let text = files::read_text(path)?;
    let contents: PublicFile = toml::from_str(&text).map_err(|_| not_one())?;
    let bytes = hex::decode(&contents.issuer).map_err(|_| not_one())?;
    let blob = SignedBlob::decode(bytes.as_slice()).map_err(|_| not_one())?;
    let verified = match VerifiedIssuer::verify(&blob, anchor, now) {
        Ok(verified) => verified,
        Err(IssuerError::Expired) => return Ok(None),
        Err(source) => {
            return Err(IssuerFileError::Issuer {
                path: path.to_owned(),
                source,
            });
        }
    };
    let plain = path.with_extension("key");
    let sealed = path.with_extension("key.age");
    let (path, text) = match passphrase {
        _ if plain.exists() => {
            let text = files::read_secret(&plain)?;
            (plain, text)
        }
        Some(passphrase) => {
            let bytes = files::open(&sealed, &files::read(&sealed)?, passphrase)?;
            let text = String::from_utf8(bytes.to_vec())
                .map_err(|_| FileError::content(&sealed, "an issuer's key file"))?;
            (sealed, Zeroizing::new(text))
        }
        None if sealed.exists() => return Err(IssuerFileError::NeedsPassphrase(sealed)),
        None => {
            files::read(&plain)?;
            return Ok(None);
        }
    };
    let (seed, sealing) =
        parse_keys(&text).ok_or_else(|| FileError::content(&path, "an issuer's key file"))?;
    let signing = SigningKey::from_bytes(&seed);
    let sealing = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(sealing.as_slice())
        .map_err(|_| FileError::content(&path, "an issuer's key file"))?;
    let sealing_key = X25519HkdfSha256::sk_to_pk(&sealing).to_bytes();
    if signing.verifying_key() != *verified.key()
        || sealing_key.as_slice() != verified.sealing_key()
    {
        return Err(IssuerFileError::OtherKeys(path));
    }
    Ok(Some(Issuer {
        blob,
        verified,
        signing,
        sealing,
    }))
}

type KeyPairBytes = (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>);

fn parse_keys(text: &str) -> Option<KeyPairBytes> {
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return None;
    }
    let mut key = || {
        let bytes = Zeroizing::new(hex::decode(lines.next()?).ok()?);
        Some(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?))
    };
    Some((key()?, key()?))
}
