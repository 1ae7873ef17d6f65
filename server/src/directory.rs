//! The clinic's directory, as far as the relay follows it: the root it was
//! configured with and the revocation list in force.

use std::sync::{Arc, PoisonError, RwLock};

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{RevocationError, TrustAnchor, VerifiedRevocations};
use wardline_wire::proto::RevocationBundle;

use crate::store::{Store, StoreError};

/// Why the directory cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored does not lead to the configured root.
    #[error(
        "the stored revocation list does not fit the configured root ({0}); is deployment_file the right one?"
    )]
    Revocations(#[from] RevocationError),
}

/// See the module.
pub(crate) struct Directory {
    anchor: TrustAnchor,
    revocations: RwLock<Option<Arc<VerifiedRevocations>>>,
}

impl Directory {
    /// Reads and verifies the stored list.
    pub(crate) async fn load(
        anchor: TrustAnchor,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<Self, DirectoryError> {
        let directory = Self {
            anchor,
            revocations: RwLock::new(None),
        };
        directory.reload(store, now).await?;
        Ok(directory)
    }

    /// Reads the stored list again: another node may have taken a newer one.
    pub(crate) async fn reload(
        &self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        if let Some(bytes) = store.revocations().await? {
            let bundle = RevocationBundle::decode(bytes.as_slice())
                .map_err(|_| StoreError::Corrupt("revocations"))?;
            self.set(VerifiedRevocations::verify(&bundle, &self.anchor, now)?);
        }
        Ok(())
    }

    pub(crate) fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The list in force.
    pub(crate) fn revocations(&self) -> Option<Arc<VerifiedRevocations>> {
        self.revocations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a list in force, unless a later one is.
    pub(crate) fn set(&self, list: VerifiedRevocations) {
        let mut current = self
            .revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_none_or(|current| current.number() <= list.number())
        {
            *current = Some(Arc::new(list));
        }
    }
}
