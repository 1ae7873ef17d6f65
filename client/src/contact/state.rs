//! A contact in the own store.

use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{TrustAnchor, VerifiedCertificate, VerifiedDeviceList};
use wardline_wire::ids::{AccountId, PayloadHash};
use wardline_wire::proto::CertificateChain;

use super::{Certified, Contact, Halt, Listed, Origin};
use crate::content::ListRef;
use crate::proto;

/// A stored contact that cannot be read: the store is damaged, or of another clinic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored about a contact is damaged; it has to be looked up again")]
pub struct ContactStateError;

impl Contact {
    /// For the own encrypted store.
    pub fn encode(&self) -> Vec<u8> {
        let (halt, halt_version) = match self.halt {
            None => (0, 0),
            Some(Halt::UncertifiedKey) => (1, 0),
            Some(Halt::VerifiedKeyChanged) => (2, 0),
            Some(Halt::TwoLists { version }) => (3, version),
            Some(Halt::BrokenChain { version }) => (4, version),
        };
        let at =
            |held: &Option<Certified>| held.as_ref().map_or(0, |held| held.verified_at.as_millis());
        let chain = |held: &Option<Certified>| held.as_ref().map(|held| held.chain.clone());
        proto::ContactState {
            account_id: self.account.to_vec(),
            origin: self.origin.into(),
            accepted: self.accepted,
            blocked: self.blocked,
            certificate: chain(&self.certified),
            certificate_verified_at_ms: at(&self.certified),
            device_list: self.listed.as_ref().map(|held| held.blob.clone()),
            verified_key: self.verified_key.map(Vec::from).unwrap_or_default(),
            pending_certificate: chain(&self.pending),
            pending_verified_at_ms: at(&self.pending),
            halt,
            halt_version,
            reported_version: self.reported.map_or(0, |list| list.version),
            reported_hash: self
                .reported
                .map(|list| list.hash.to_vec())
                .unwrap_or_default(),
            revoked: self.revoked,
        }
        .encode_to_vec()
    }

    /// From the own store. Certificates and lists are verified again, at the time they
    /// were first believed: what expired since is still known, and warned about.
    ///
    /// # Errors
    /// [`ContactStateError`] when the store is damaged or of another clinic.
    pub fn decode(bytes: &[u8], anchor: &TrustAnchor) -> Result<Self, ContactStateError> {
        let bad = ContactStateError;
        let state = proto::ContactState::decode(bytes).map_err(|_| bad)?;
        let account = AccountId::from_slice(&state.account_id).map_err(|_| bad)?;
        let certified = |chain: Option<CertificateChain>, at| {
            chain
                .map(|chain| {
                    let verified_at = Timestamp::from_millis(at);
                    VerifiedCertificate::verify(&chain, account, anchor, None, verified_at)
                        .map(|certificate| Certified {
                            chain,
                            verified_at,
                            certificate,
                        })
                        .map_err(|_| bad)
                })
                .transpose()
        };
        let held = certified(state.certificate, state.certificate_verified_at_ms)?;
        let pending = certified(state.pending_certificate, state.pending_verified_at_ms)?;
        let listed = match (state.device_list, &held) {
            (None, _) => None,
            (Some(_), None) => return Err(bad),
            (Some(blob), Some(held)) => {
                let key = held.certificate.account_key();
                let list = VerifiedDeviceList::verify(&blob, account, key, anchor.deployment())
                    .map_err(|_| bad)?;
                Some(Listed { blob, list })
            }
        };
        let origin = match Origin::try_from(state.origin) {
            Ok(Origin::Unspecified) | Err(_) => return Err(bad),
            Ok(origin) => origin,
        };
        let version = state.halt_version;
        Ok(Self {
            account,
            origin,
            accepted: state.accepted,
            blocked: state.blocked,
            certified: held,
            listed,
            verified_key: match state.verified_key.as_slice() {
                [] => None,
                key => Some(key.try_into().map_err(|_| bad)?),
            },
            pending,
            halt: match state.halt {
                0 => None,
                1 => Some(Halt::UncertifiedKey),
                2 => Some(Halt::VerifiedKeyChanged),
                3 => Some(Halt::TwoLists { version }),
                4 => Some(Halt::BrokenChain { version }),
                _ => return Err(bad),
            },
            reported: match state.reported_version {
                0 => None,
                version => Some(ListRef {
                    version,
                    hash: PayloadHash::from_slice(&state.reported_hash).map_err(|_| bad)?,
                }),
            },
            revoked: state.revoked,
        })
    }
}
