//! The root that everything is checked against.

use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use crate::ids::DeploymentId;

/// A root that is not the pinned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustAnchorError {
    /// Not an Ed25519 public key.
    #[error("the clinic's root key cannot be read; ask for a new invite")]
    Key,
    /// The key's hash is another than the invite promised.
    #[error(
        "the relay shows another clinic root than your invite names; do not go on, ask who invited you"
    )]
    Fingerprint,
}

/// The clinic's root key and the deployment it speaks for. Endpoints pin it from
/// their invite; the relay has it in its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    deployment: DeploymentId,
    root: VerifyingKey,
}

impl TrustAnchor {
    /// An anchor that is trusted because of where it comes from (own configuration or store).
    pub fn new(deployment: DeploymentId, root: VerifyingKey) -> Self {
        Self { deployment, root }
    }

    /// An anchor from received bytes, if it has the pinned `fingerprint`.
    ///
    /// # Errors
    /// [`TrustAnchorError`] when the key cannot be read or is not the pinned one.
    pub fn from_pinned(
        deployment: DeploymentId,
        fingerprint: &[u8; 32],
        root_key: &[u8],
    ) -> Result<Self, TrustAnchorError> {
        let bytes = <[u8; 32]>::try_from(root_key).map_err(|_| TrustAnchorError::Key)?;
        let root = VerifyingKey::from_bytes(&bytes).map_err(|_| TrustAnchorError::Key)?;
        let anchor = Self { deployment, root };
        if anchor.fingerprint() == *fingerprint {
            Ok(anchor)
        } else {
            Err(TrustAnchorError::Fingerprint)
        }
    }

    /// SHA-256 of the root's public key, 32 bytes: what invites carry.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.root.as_bytes()).into()
    }

    /// The deployment that signatures are bound to.
    pub const fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// The root's Ed25519 public key.
    pub const fn root(&self) -> &VerifyingKey {
        &self.root
    }
}
