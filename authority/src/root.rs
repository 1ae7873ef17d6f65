//! The root: one key, one file, used a few times a year.

use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use ed25519_dalek::SigningKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{TrustAnchor, role_name};
use wardline_wire::ids::{DeploymentId, Serial};
use wardline_wire::proto::{Issuer, RevocationBundle, RevocationList, Role, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::issuer::NewIssuer;
use crate::{Randomness, deployment, random};

/// The root's file.
pub const FILE: &str = "root.age";
/// What the root has signed, one JSON line an issuer: needed to revoke one whose machine is gone.
pub const ISSUED_FILE: &str = "issuers.jsonl";
/// Work for scrypt, as a power of two: 256 MiB and about a second.
pub const DEFAULT_WORK_FACTOR: u8 = 18;

/// First bytes inside the encrypted file; deployment id and seed follow.
const MAGIC: &[u8; 17] = b"wardline-root-v1\n";

/// Why the root cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a root here already.
    #[error("{0} holds a root already; a clinic has one root, and it is never overwritten")]
    Exists(PathBuf),
    /// The two files in the directory belong to different deployments.
    #[error("{FILE} and {file} in this directory do not belong together", file = deployment::FILE)]
    OtherDeployment,
}

/// The root's private key, in memory while it is used.
pub struct Root {
    anchor: TrustAnchor,
    key: SigningKey,
}

impl Root {
    /// Makes a root and a deployment in `dir`. When a crash left the key without
    /// its `deployment.toml`, the same call with the same passphrase finishes.
    ///
    /// # Errors
    /// [`RootError::Exists`] when there is one already; [`RootError::File`].
    pub fn init(
        dir: &Path,
        passphrase: &SecretString,
        work_factor: u8,
        rng: &mut Randomness,
    ) -> Result<Self, RootError> {
        files::create_private_dir(dir)?;
        let path = dir.join(FILE);
        if dir.join(deployment::FILE).exists() {
            return Err(RootError::Exists(dir.to_owned()));
        }
        if !path.exists() {
            let mut plaintext = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 48));
            plaintext.extend_from_slice(MAGIC);
            plaintext.extend_from_slice(&random::<16>(rng));
            plaintext.extend_from_slice(Zeroizing::new(random::<32>(rng)).as_slice());
            let sealed = files::seal(&path, &plaintext, passphrase, work_factor)?;
            files::write_new(&path, sealed.as_bytes())?;
        }
        // Reading it back proves that file and passphrase work before anything leans on them.
        let root = Self::read(dir, passphrase)?;
        deployment::write(dir, &root.anchor)?;
        Ok(root)
    }

    /// Opens the root in `dir`.
    ///
    /// # Errors
    /// [`RootError::File`]; [`RootError::OtherDeployment`] when files were mixed up.
    pub fn open(dir: &Path, passphrase: &SecretString) -> Result<Self, RootError> {
        let anchor = deployment::read(dir)?;
        let root = Self::read(dir, passphrase)?;
        if root.anchor == anchor {
            Ok(root)
        } else {
            Err(RootError::OtherDeployment)
        }
    }

    fn read(dir: &Path, passphrase: &SecretString) -> Result<Self, RootError> {
        let path = dir.join(FILE);
        let sealed = files::read(&path)?;
        let plaintext = files::open(&path, &sealed, passphrase)?;
        let parsed = (|| {
            let rest = plaintext.strip_prefix(MAGIC)?;
            let (deployment, seed) = rest.split_at_checked(DeploymentId::LEN)?;
            let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).ok()?);
            let deployment = DeploymentId::from_slice(deployment).ok()?;
            Some((deployment, SigningKey::from_bytes(&seed)))
        })();
        let (deployment, key) =
            parsed.ok_or_else(|| FileError::content(&path, "a Wardline root"))?;
        Ok(Self {
            anchor: TrustAnchor::new(deployment, key.verifying_key()),
            key,
        })
    }

    /// What everybody checks against.
    pub const fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// Signs a new issuer for `roles`, from `now` for `valid_for_ms`.
    pub fn sign_issuer(
        &self,
        roles: &[Role],
        valid_for_ms: u64,
        now: Timestamp,
        rng: &mut Randomness,
    ) -> NewIssuer {
        NewIssuer::make(rng, |serial, key, sealing_key| {
            let issuer = Issuer {
                serial: serial.to_vec(),
                key: key.to_vec(),
                roles: roles.iter().map(|role| (*role).into()).collect(),
                not_before_ms: now.as_millis(),
                not_after_ms: now.plus_millis(valid_for_ms).as_millis(),
                sealing_key: sealing_key.to_vec(),
            };
            self.sign(SignedKind::Issuer, issuer.encode_to_vec())
        })
    }

    /// Signs a revocation list itself: for when an issuer is what is revoked.
    pub fn sign_revocations(&self, list: RevocationList) -> RevocationBundle {
        let list = RevocationList {
            issuer_serial: Vec::new(),
            ..list
        };
        RevocationBundle {
            issuer: None,
            list: Some(self.sign(SignedKind::RevocationList, list.encode_to_vec())),
        }
    }

    fn sign(&self, kind: SignedKind, payload: Vec<u8>) -> SignedBlob {
        SignedBlob::sign(kind, self.anchor.deployment(), payload, &self.key)
    }
}

/// Notes in the root's directory that it signed an issuer.
///
/// # Errors
/// [`FileError::Io`].
pub fn note_issuer(
    dir: &Path,
    serial: Serial,
    roles: &[Role],
    not_after: Timestamp,
) -> Result<(), FileError> {
    let line = serde_json::json!({
        "serial": serial.to_string(),
        "roles": roles.iter().map(|role| role_name(*role)).collect::<Vec<_>>(),
        "not_after_ms": not_after.as_millis(),
    });
    files::append_line(&dir.join(ISSUED_FILE), &line.to_string())
}

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;
    use wardline_wire::directory::VerifiedIssuer;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn phrase(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn init(dir: &Path) -> Result<Root, RootError> {
        Root::init(
            dir,
            &phrase("several words"),
            6,
            &mut UnwrapErr(getrandom::SysRng),
        )
    }

    #[test]
    fn a_root_is_made_once_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(dir.path()).unwrap();
        assert!(matches!(init(dir.path()), Err(RootError::Exists(_))));
        let opened = Root::open(dir.path(), &phrase("several words")).unwrap();
        assert_eq!(opened.anchor(), made.anchor());
        assert_eq!(&deployment::read(dir.path()).unwrap(), made.anchor());
        assert!(matches!(
            Root::open(dir.path(), &phrase("other words")),
            Err(RootError::File(FileError::Passphrase(_)))
        ));
    }

    #[test]
    fn a_crash_between_the_two_files_is_finished_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(deployment::FILE)).unwrap();
        assert_eq!(init(dir.path()).unwrap().anchor(), made.anchor());
    }

    #[test]
    fn mixed_up_directories_are_noticed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init(one.path()).unwrap();
        init(two.path()).unwrap();
        std::fs::copy(
            one.path().join(deployment::FILE),
            two.path().join(deployment::FILE),
        )
        .unwrap();
        assert!(matches!(
            Root::open(two.path(), &phrase("several words")),
            Err(RootError::OtherDeployment)
        ));
    }

    #[test]
    fn the_root_signs_issuers_that_verify() {
        let dir = tempfile::tempdir().unwrap();
        let root = init(dir.path()).unwrap();
        let rng = &mut UnwrapErr(getrandom::SysRng);
        let made = root.sign_issuer(&[Role::Patient], 1000, NOW, rng);
        let verified = VerifiedIssuer::verify(made.blob(), root.anchor(), NOW).unwrap();
        assert_eq!(verified.roles(), [Role::Patient]);
        assert_eq!(verified.serial(), made.serial());
        assert_eq!(verified.not_after(), NOW.plus_millis(1000));
    }
}
