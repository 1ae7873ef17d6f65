//! `deployment.toml`: which clinic this is. Public; the relay's configuration reads it too.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::DeploymentId;

use crate::files::{self, FileError};

/// The file's name in every directory of the authority.
pub const FILE: &str = "deployment.toml";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// 16 bytes, hexadecimal.
    deployment_id: String,
    /// Ed25519 public key, 32 bytes, hexadecimal.
    root_key: String,
    /// SHA-256 of the root key, 32 bytes, hexadecimal.
    root_fingerprint: String,
}

/// The file's text for an anchor.
pub fn to_toml(anchor: &TrustAnchor) -> String {
    format!(
        "# Which clinic this is. Public: the relay's configuration needs it too.\n\
         deployment_id = \"{}\"\n\
         root_key = \"{}\"\n\
         root_fingerprint = \"{}\"\n",
        anchor.deployment(),
        hex::encode(anchor.root().as_bytes()),
        hex::encode(anchor.fingerprint()),
    )
}

/// Reads the file in `dir`.
///
/// # Errors
/// [`FileError`]; a fingerprint that does not fit the key is refused.
pub fn read(dir: &Path) -> Result<TrustAnchor, FileError> {
    let path = dir.join(FILE);
    let text = files::read_text(&path)?;
    parse(&text).ok_or_else(|| {
        FileError::content(
            &path,
            "a deployment file: it needs deployment_id, root_key and the fitting root_fingerprint",
        )
    })
}

/// Writes the file into `dir`, unless it is there already with the same content.
///
/// # Errors
/// [`FileError::Exists`] when `dir` belongs to another deployment.
pub fn write(dir: &Path, anchor: &TrustAnchor) -> Result<(), FileError> {
    let path = dir.join(FILE);
    match files::write_new(&path, to_toml(anchor).as_bytes()) {
        Err(FileError::Exists(_)) if read(dir)? == *anchor => Ok(()),
        other => other,
    }
}

fn parse(text: &str) -> Option<TrustAnchor> {
    let contents: Contents = toml::from_str(text).ok()?;
    let deployment: DeploymentId = contents.deployment_id.parse().ok()?;
    let key: [u8; 32] = hex::decode(contents.root_key).ok()?.try_into().ok()?;
    let fingerprint: [u8; 32] = hex::decode(contents.root_fingerprint)
        .ok()?
        .try_into()
        .ok()?;
    let root = VerifyingKey::from_bytes(&key).ok()?;
    TrustAnchor::from_pinned(deployment, &fingerprint, root.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn anchor(seed: u8) -> TrustAnchor {
        let root = SigningKey::from_bytes(&[seed; 32]).verifying_key();
        TrustAnchor::new(DeploymentId::from([seed; 16]), root)
    }

    #[test]
    fn the_file_round_trips_and_is_strict() {
        let text = to_toml(&anchor(1));
        assert_eq!(parse(&text), Some(anchor(1)));
        assert_eq!(parse(&format!("{text}extra = 1\n")), None);
        let other = hex::encode(anchor(2).fingerprint());
        let ours = hex::encode(anchor(1).fingerprint());
        assert_eq!(parse(&text.replace(&ours, &other)), None);
    }

    #[test]
    fn writing_twice_is_fine_but_not_for_another_clinic() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &anchor(1)).unwrap();
        write(dir.path(), &anchor(1)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), anchor(1));
        assert!(matches!(
            write(dir.path(), &anchor(2)),
            Err(FileError::Exists(_))
        ));
    }
}
