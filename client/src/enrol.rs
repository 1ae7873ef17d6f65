//! From an invite link to an account: keys first, then the relay, then the issuer's word.
//!
//! Every step can be run again. Keys are committed before anything is sent, and the request is the
//! same bytes each time, so an answer that got lost costs a second try and nothing else.

use ed25519_dalek::SigningKey;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use wardline_crypto::identity::IdentityKeyPair;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{TrustAnchor, TrustAnchorError};
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId};
use wardline_wire::invite::Invite;
use wardline_wire::limits::DEVICE_LIST_VALIDITY_MS;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{Device, DeviceList, EnrolmentRequest, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};
use zeroize::Zeroizing;

use crate::random;
use crate::relay::{self, RelayError};
use crate::store::StoreError;
use crate::store::own::{self, CameBy, Own, OwnState};
use crate::transport::{Transport, TransportError};

/// Registration ids that fit every message of the protocol.
const REGISTRATION_IDS: u64 = 16380;

/// Why enrolment stopped. Running it again with the same invite goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The profile is enrolled already.
    #[error("this profile is enrolled already; use another folder for another account")]
    AlreadyEnrolled,
    /// The profile began to enrol with another invite.
    #[error("this profile began with another invite; finish with that one or use another folder")]
    OtherInvite,
    /// The invite's root is not the relay's.
    #[error(transparent)]
    Anchor(#[from] TrustAnchorError),
    /// The relay belongs to another installation.
    #[error("the relay belongs to another clinic than your invite names; ask who invited you")]
    OtherDeployment,
    /// The invite was used with other keys.
    #[error("this invite was already used; ask for a new one")]
    InviteUsed,
    /// The invite is over, or the relay never heard of it.
    #[error("the relay does not accept this invite; ask for a new one")]
    InviteRefused,
    /// The relay could not be reached or refused.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// No way to the relay.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The profile's database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fresh keys for a device.
pub(crate) struct NewKeys {
    pub(crate) identity: IdentityKeyPair,
    pub(crate) device_key: SigningKey,
    pub(crate) registration_id: u32,
    pub(crate) local_key: Zeroizing<[u8; 32]>,
}

impl NewKeys {
    pub(crate) fn generate() -> Self {
        Self {
            identity: IdentityKeyPair::generate(&mut random::system()),
            device_key: signing_key(),
            registration_id: u32::try_from(random::below(REGISTRATION_IDS)).unwrap_or(0) + 1,
            local_key: Zeroizing::new(random::bytes()),
        }
    }
}

pub(crate) fn signing_key() -> SigningKey {
    let seed = Zeroizing::new(random::bytes::<32>());
    SigningKey::from_bytes(&seed)
}

/// The keys of this enrolment: those of an earlier run, or fresh ones, committed.
pub(crate) async fn prepare(
    db: &mut SqliteConnection,
    invite: &Invite,
    name: &str,
    now: Timestamp,
) -> Result<Own, EnrolError> {
    if let Some(own) = own::load(db).await? {
        let same = own
            .came_by
            .as_ref()
            .is_some_and(|by| by.secret == invite.secret);
        return match own.state {
            OwnState::Enrolling | OwnState::Pending if same => Ok(own),
            OwnState::Enrolling | OwnState::Pending | OwnState::Linking => {
                Err(EnrolError::OtherInvite)
            }
            _ => Err(EnrolError::AlreadyEnrolled),
        };
    }
    let keys = NewKeys::generate();
    let own = Own {
        state: OwnState::Enrolling,
        deployment: invite.deployment,
        relay_url: invite.relay_url.clone(),
        relay_key_sha256: invite.relay_key_sha256,
        root_fingerprint: invite.root_fingerprint,
        root_key: None,
        address: DeviceAddress {
            account: AccountId::from_random_bytes(random::bytes()),
            device: DeviceId::FIRST,
        },
        role: invite.role,
        registration_id: keys.registration_id,
        identity: keys.identity,
        device_key: keys.device_key,
        account_key: Some(signing_key()),
        local_key: keys.local_key,
        access_key: random::bytes(),
        name: name.to_owned(),
        name_version: u64::from(!name.is_empty()),
        came_by: Some(CameBy {
            secret: invite.secret.clone(),
            inviter: invite.inviter.map(|inviter| inviter.account),
            inviter_key_sha256: invite.inviter.map(|inviter| inviter.account_key_sha256),
            inviter_access_key: invite.inviter.and_then(|inviter| inviter.access_key),
        }),
        hello_queued: false,
        mailbox_epoch: 0,
        created_at: now,
    };
    own::save(db, &own).await?;
    Ok(own)
}

/// Shows the request to the relay and pins the clinic's root.
pub(crate) async fn request(
    db: &mut SqliteConnection,
    transport: &dyn Transport,
    mut own: Own,
) -> Result<Own, EnrolError> {
    own.root_key = Some(pin_root(transport, own.deployment, &own.root_fingerprint).await?);
    own::save(db, &own).await?;
    let (Some(account_key), Some(by)) = (&own.account_key, &own.came_by) else {
        return Err(EnrolError::AlreadyEnrolled);
    };
    let public = account_key.verifying_key().to_bytes();
    let request = EnrolmentRequest {
        invite_id: by.secret.id().to_vec(),
        account_id: own.address.account.to_vec(),
        account_key: public.to_vec(),
        proof: by
            .secret
            .proof(own.deployment, own.address.account, &public, own.role)
            .to_vec(),
        device_list: Some(first_list(&own, account_key)),
        access_key_sha256: Sha256::digest(own.access_key).to_vec(),
    };
    match relay::enrol(transport, &request).await {
        Ok(_) => {}
        Err(error) => {
            return Err(match error.kind() {
                Some(ProblemKind::InviteUsed) => EnrolError::InviteUsed,
                Some(
                    ProblemKind::InviteExpired | ProblemKind::NotFound | ProblemKind::Forbidden,
                ) => EnrolError::InviteRefused,
                _ => error.into(),
            });
        }
    }
    own.state = OwnState::Pending;
    own::save(db, &own).await?;
    Ok(own)
}

/// Asks the relay for the root key and holds it against the invite's fingerprint.
pub(crate) async fn pin_root(
    transport: &dyn Transport,
    deployment: DeploymentId,
    fingerprint: &[u8; 32],
) -> Result<[u8; 32], EnrolError> {
    let answer = relay::deployment(transport).await?;
    if answer.deployment_id != deployment.as_bytes() {
        return Err(EnrolError::OtherDeployment);
    }
    let anchor = TrustAnchor::from_pinned(deployment, fingerprint, &answer.root_key)?;
    Ok(anchor.root().to_bytes())
}

/// Version 1 of the device list. Made from stored values alone: the same bytes at every run.
fn first_list(own: &Own, account_key: &SigningKey) -> SignedBlob {
    let list = DeviceList {
        account_id: own.address.account.to_vec(),
        version: 1,
        prev_hash: Vec::new(),
        issued_at_ms: own.created_at.as_millis(),
        expires_at_ms: own
            .created_at
            .plus_millis(DEVICE_LIST_VALIDITY_MS)
            .as_millis(),
        devices: vec![Device {
            id: own.address.device.into(),
            identity_key: own.identity.identity_key().as_bytes().to_vec(),
            registration_id: own.registration_id,
            device_key: own.device_key.verifying_key().to_bytes().to_vec(),
            added_at_ms: own.created_at.as_millis(),
        }],
        next_device_id: u32::from(own.address.device) + 1,
    };
    SignedBlob::sign(
        SignedKind::DeviceList,
        own.deployment,
        list.encode_to_vec(),
        account_key,
    )
}
