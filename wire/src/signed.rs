//! Signatures over exactly the bytes received, separated by type and deployment.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ids::{DeploymentId, PayloadHash};
use crate::proto::SignedBlob;

/// What a signed payload is. Part of what the signature covers, so that a
/// signature made for one purpose never fits another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignedKind {
    /// A `DeviceList`, signed by the account key.
    DeviceList,
    /// A `Certificate`, signed by an issuer.
    Certificate,
    /// An `Issuer`, signed by the root.
    Issuer,
    /// A `RevocationList`, signed by an issuer or the root.
    RevocationList,
    /// A `Login`, signed by a device key or an issuer key.
    Login,
    /// An `InviteRequest`, signed by the inviter's device key.
    InviteRequest,
    /// An operation on a conversation's membership, signed by a device key. The
    /// relay never sees one: it travels inside ciphertexts.
    ConversationOperation,
    /// An escrow policy, signed by the root (reserved).
    EscrowPolicy,
    /// A statement that the root has a successor, signed by the root (reserved).
    RootSuccession,
}

impl SignedKind {
    /// The label inside the signed bytes.
    pub const fn label(self) -> &'static str {
        match self {
            Self::DeviceList => "device-list",
            Self::Certificate => "certificate",
            Self::Issuer => "issuer",
            Self::RevocationList => "revocation-list",
            Self::Login => "login",
            Self::InviteRequest => "invite-request",
            Self::ConversationOperation => "conversation-operation",
            Self::EscrowPolicy => "escrow-policy",
            Self::RootSuccession => "root-succession",
        }
    }
}

impl fmt::Display for SignedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A signature that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signature on this {0} does not fit: it was altered, or made with another key or for another clinic"
)]
pub struct SignatureError(pub SignedKind);

/// Signing and verifying a [`SignedBlob`].
pub trait SignedBlobExt: Sized {
    /// Signs `payload` as `kind` for `deployment`.
    fn sign(kind: SignedKind, deployment: DeploymentId, payload: Vec<u8>, key: &SigningKey)
    -> Self;

    /// The payload, once its signature was verified (strictly: no small-order
    /// keys, no malleable signatures).
    ///
    /// # Errors
    /// [`SignatureError`] when the signature does not fit key, type and deployment.
    fn verify(
        &self,
        kind: SignedKind,
        deployment: DeploymentId,
        key: &VerifyingKey,
    ) -> Result<&[u8], SignatureError>;

    /// SHA-256 of the payload: how lists and operations refer to each other.
    fn payload_hash(&self) -> PayloadHash;
}

impl SignedBlobExt for SignedBlob {
    fn sign(
        kind: SignedKind,
        deployment: DeploymentId,
        payload: Vec<u8>,
        key: &SigningKey,
    ) -> Self {
        let signature = key.sign(&signed_bytes(kind, deployment, &payload));
        Self {
            payload,
            signature: signature.to_bytes().to_vec(),
        }
    }

    fn verify(
        &self,
        kind: SignedKind,
        deployment: DeploymentId,
        key: &VerifyingKey,
    ) -> Result<&[u8], SignatureError> {
        let signature = Signature::from_slice(&self.signature).map_err(|_| SignatureError(kind))?;
        key.verify_strict(&signed_bytes(kind, deployment, &self.payload), &signature)
            .map_err(|_| SignatureError(kind))?;
        Ok(&self.payload)
    }

    fn payload_hash(&self) -> PayloadHash {
        PayloadHash::from(<[u8; 32]>::from(Sha256::digest(&self.payload)))
    }
}

fn signed_bytes(kind: SignedKind, deployment: DeploymentId, payload: &[u8]) -> Vec<u8> {
    let label = kind.label();
    let mut bytes = Vec::with_capacity(9 + label.len() + 4 + DeploymentId::LEN + payload.len());
    bytes.extend_from_slice(b"wardline/");
    bytes.extend_from_slice(label.as_bytes());
    bytes.extend_from_slice(b"/v1\0");
    bytes.extend_from_slice(deployment.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [SignedKind; 9] = [
        SignedKind::DeviceList,
        SignedKind::Certificate,
        SignedKind::Issuer,
        SignedKind::RevocationList,
        SignedKind::Login,
        SignedKind::InviteRequest,
        SignedKind::ConversationOperation,
        SignedKind::EscrowPolicy,
        SignedKind::RootSuccession,
    ];

    #[test]
    fn a_signature_fits_one_kind_and_one_deployment() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let here = DeploymentId::from([1; 16]);
        let there = DeploymentId::from([2; 16]);
        for kind in KINDS {
            let blob = SignedBlob::sign(kind, here, vec![1, 2, 3], &key);
            for other in KINDS {
                assert_eq!(
                    blob.verify(other, here, &key.verifying_key()).is_ok(),
                    other == kind
                );
            }
            assert!(blob.verify(kind, there, &key.verifying_key()).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let here = DeploymentId::from([1; 16]);
        let blob = SignedBlob::sign(SignedKind::Login, here, vec![9; 20], &key);
        for bit in 0..blob.payload.len() * 8 {
            let mut altered = blob.clone();
            altered.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(
                altered
                    .verify(SignedKind::Login, here, &key.verifying_key())
                    .is_err()
            );
        }
        for bit in 0..512 {
            let mut altered = blob.clone();
            altered.signature[bit / 8] ^= 1 << (bit % 8);
            assert!(
                altered
                    .verify(SignedKind::Login, here, &key.verifying_key())
                    .is_err()
            );
        }
        let mut short = blob;
        short.signature.pop();
        assert!(
            short
                .verify(SignedKind::Login, here, &key.verifying_key())
                .is_err()
        );
    }
}
