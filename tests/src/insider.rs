//! An issuer turned bad: whoever copied its key file can sign what it may sign.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use ed25519_dalek::{SigningKey, VerifyingKey};
use prost::Message as _;
use wardline_wire::ids::{AccountId, DeploymentId, Serial};
use wardline_wire::proto::{
    Certificate, CertificateChain, Issuer, Revocation, RevocationBundle, RevocationList, Role,
    SignedBlob,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::spare::{now, random};

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// The stolen issuer.
pub struct Insider {
    deployment: DeploymentId,
    issuer: SignedBlob,
    serial: Vec<u8>,
    key: SigningKey,
}

impl Insider {
    /// Copies the first issuer in an authority's folder: `issuers/<serial>.toml`
    /// and the key file beside it.
    ///
    /// # Errors
    /// When there is none, or its key lies under a passphrase.
    pub fn steal(folder: &Path, deployment: DeploymentId) -> anyhow::Result<Self> {
        let public = fs::read_dir(folder.join("issuers"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .context("there is no issuer")?;
        let text = fs::read_to_string(&public)?;
        let blob = text
            .lines()
            .find_map(|line| line.strip_prefix("issuer = "))
            .context("no issuer in its file")?;
        let issuer = SignedBlob::decode(hex::decode(blob.trim_matches('"'))?.as_slice())?;
        let payload = Issuer::decode(issuer.payload.as_slice())?;
        let secret = fs::read_to_string(public.with_extension("key"))?;
        let seed = secret.lines().nth(1).context("no key in its file")?;
        let seed: [u8; 32] = hex::decode(seed)?
            .try_into()
            .map_err(|_| anyhow::anyhow!("the key has another length"))?;
        let key = SigningKey::from_bytes(&seed);
        ensure!(
            payload.key == key.verifying_key().as_bytes(),
            "the key is not this issuer's"
        );
        Ok(Self {
            deployment,
            issuer,
            serial: payload.serial,
            key,
        })
    }

    /// Certifies any key for any account. `name` is handle and display name.
    pub fn certify(
        &self,
        account: AccountId,
        account_key: &VerifyingKey,
        role: Role,
        name: Option<(&str, &str)>,
    ) -> CertificateChain {
        let (handle, display_name) = name.unwrap_or_default();
        let certificate = Certificate {
            serial: Serial::from(random()).to_vec(),
            account_id: account.to_vec(),
            account_key: account_key.to_bytes().to_vec(),
            role: role.into(),
            not_before_ms: now().as_millis(),
            not_after_ms: now().plus_millis(DAY_MS).as_millis(),
            handle: handle.to_owned(),
            display_name: display_name.to_owned(),
            issuer_serial: self.serial.clone(),
        };
        CertificateChain {
            issuer: Some(self.issuer.clone()),
            certificate: Some(self.sign(SignedKind::Certificate, certificate.encode_to_vec())),
        }
    }

    /// Signs any revocation list.
    pub fn revoke(&self, number: u64, revocations: Vec<Revocation>) -> RevocationBundle {
        let list = RevocationList {
            number,
            issued_at_ms: now().as_millis(),
            next_update_ms: now().plus_millis(DAY_MS).as_millis(),
            revocations,
            issuer_serial: self.serial.clone(),
        };
        RevocationBundle {
            issuer: Some(self.issuer.clone()),
            list: Some(self.sign(SignedKind::RevocationList, list.encode_to_vec())),
        }
    }

    /// Signs anything.
    pub fn sign(&self, kind: SignedKind, payload: Vec<u8>) -> SignedBlob {
        SignedBlob::sign(kind, self.deployment, payload, &self.key)
    }
}
