//! Invites that this client makes: for the newcomer a link, for the relay a hash, for the issuer
//! the secret under its own key.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeS, Serializable as _};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{Handle, VerifiedIssuer, check_display_name};
use wardline_wire::invite::{Invite, InviteSecret, Inviter, REQUEST_INFO};
use wardline_wire::proto::{Deployment, InviteAdmission, InviteRequest, Role, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::api::ClientError;
use crate::directory;
use crate::random;
use crate::send;
use crate::store::accounts;
use crate::store::misc::{self, InviteRow};
use crate::turn::Turn;

/// Longest an invite may wait for its newcomer.
const MAX_VALIDITY_MS: u64 = 30 * 24 * 3_600_000;

/// Whom an invite is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvite {
    /// Role the newcomer will have.
    pub role: Role,
    /// Private label: how the newcomer is called here. Never leaves our own devices.
    pub label: String,
    /// How long the link is good for, in milliseconds; at most 30 days.
    pub valid_for_ms: u64,
    /// For everybody but patients: the handle the certificate will carry.
    pub handle: Option<Handle>,
    /// For everybody but patients: the name the certificate will carry.
    pub display_name: Option<String>,
}

impl NewInvite {
    /// An invite for a patient.
    pub fn patient(label: impl Into<String>, valid_for_ms: u64) -> Self {
        Self {
            role: Role::Patient,
            label: label.into(),
            valid_for_ms,
            handle: None,
            display_name: None,
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        if self.label.len() > 256 || self.label.chars().any(char::is_control) {
            return Err(ClientError::Invalid(
                "a label has at most 256 bytes on one line",
            ));
        }
        if self.valid_for_ms == 0 || self.valid_for_ms > MAX_VALIDITY_MS {
            return Err(ClientError::Invalid(
                "an invite is good for at most 30 days",
            ));
        }
        let named =
            self.handle.is_some() && self.display_name.as_deref().is_some_and(check_display_name);
        match self.role {
            Role::Unspecified => Err(ClientError::Invalid("an invite names a role")),
            Role::Patient if self.handle.is_some() || self.display_name.is_some() => Err(
                ClientError::Invalid("a patient's name never goes into the directory"),
            ),
            Role::Patient => Ok(()),
            _ if !named => Err(ClientError::Invalid(
                "this role needs a handle and a name of at most 64 bytes",
            )),
            _ => Ok(()),
        }
    }
}

/// An invite that was stored and is to be admitted by the relay.
pub(crate) struct Prepared {
    pub(crate) link: String,
    pub(crate) admission: InviteAdmission,
}

/// Makes and stores an invite. `deployment` is the relay's fresh answer; its issuers are verified.
pub(crate) async fn prepare(
    turn: &mut Turn<'_>,
    new: &NewInvite,
    deployment: &Deployment,
) -> Result<Prepared, ClientError> {
    send::check_own(turn)?;
    new.check()?;
    let identity = turn.identity.clone();
    let own = &identity.own;
    let revoked = directory::revocations(turn).await?;
    let issuer = deployment
        .issuers
        .iter()
        .filter_map(|blob| VerifiedIssuer::verify(blob, &identity.anchor, turn.now).ok())
        .filter(|issuer| issuer.roles().contains(&new.role))
        .filter(|issuer| {
            !revoked
                .as_ref()
                .is_some_and(|list| list.covers_issuer(issuer.serial()))
        })
        .max_by_key(VerifiedIssuer::not_after)
        .ok_or(ClientError::Invalid(
            "the clinic has no issuer for this role right now; tell its administrator",
        ))?;
    let own_account = accounts::load(turn.db, own.address.account)
        .await?
        .ok_or(ClientError::NotCertified)?;
    let secret = InviteSecret::new(random::bytes());
    let expires_at: Timestamp = turn.now.plus_millis(new.valid_for_ms);
    let request = InviteRequest {
        secret: secret.expose().to_vec(),
        role: new.role.into(),
        expires_at_ms: expires_at.as_millis(),
        inviter_account_id: own.address.account.to_vec(),
        inviter_device_id: own.address.device.into(),
        handle: new
            .handle
            .as_ref()
            .map(|handle| handle.as_str().to_owned())
            .unwrap_or_default(),
        display_name: new.display_name.clone().unwrap_or_default(),
    };
    let signed = SignedBlob::sign(
        SignedKind::InviteRequest,
        own.deployment,
        request.encode_to_vec(),
        &own.device_key,
    );
    let info = [REQUEST_INFO, own.deployment.as_bytes()].concat();
    let sealed = seal(issuer.sealing_key(), &info, &signed.encode_to_vec()).ok_or(
        ClientError::Invalid("the issuer's sealing key is not valid"),
    )?;
    let invite = Invite {
        deployment: own.deployment,
        relay_url: own.relay_url.clone(),
        relay_key_sha256: own.relay_key_sha256,
        root_fingerprint: identity.anchor.fingerprint(),
        inviter: Some(Inviter {
            account: own.address.account,
            account_key_sha256: Sha256::digest(own_account.account_key).into(),
            access_key: Some(own.access_key),
        }),
        role: new.role,
        expires_at,
        secret: secret.clone(),
    };
    let row = InviteRow {
        id: secret.id(),
        secret,
        role: new.role,
        label: new.label.clone(),
        expires_at,
        redeemed_by: None,
    };
    misc::add_invite(turn.db, &row, turn.now).await?;
    Ok(Prepared {
        link: invite.to_link(),
        admission: InviteAdmission {
            invite_id: row.id.to_vec(),
            role: new.role.into(),
            expires_at_ms: expires_at.as_millis(),
            sealed_request: sealed,
        },
    })
}

/// HPKE base mode, one shot: encapsulated key ‖ ciphertext.
fn seal(sealing_key: &[u8; 32], info: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
    type PublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
    let key = PublicKey::from_bytes(sealing_key).ok()?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<
        AesGcm256,
        HkdfSha256,
        X25519HkdfSha256,
    >(&OpModeS::Base, &key, info, plaintext, &[])
    .ok()?;
    Some([encapsulated.to_bytes().to_vec(), ciphertext].concat())
}
