//! May this enrolment be certified? Decided from what is known; no I/O here.
//!
//! Whatever the relay says is only a claim. What decides is the proof, which
//! needs the invite's secret; who invited, by that person's own signature; and
//! what this authority itself has certified.

use ed25519_dalek::VerifyingKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{
    Handle, TrustAnchor, VerifiedCertificate, VerifiedDeviceList, VerifiedRevocations,
    check_display_name, role_from_wire,
};
use wardline_wire::ids::{AccountId, DeploymentId, DeviceId, InviteId};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::{
    AccountRecord, EnrolmentRequest, InviteRequest, PendingEnrolment, Role, SignedBlob,
};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

use crate::store::{Account, NewAccount, StoredInvite};

/// A pending enrolment, checked for form and for its device list's signature.
pub struct Enrolment {
    /// The invite it names.
    pub invite: InviteId,
    /// The account it wants.
    pub account: AccountId,
    /// The account's key.
    pub account_key: [u8; 32],
    /// The proof, to be checked.
    pub proof: Vec<u8>,
    /// The first device list, encoded.
    pub device_list: Vec<u8>,
    /// The inviting client's sealed request; empty for the authority's own invites.
    pub sealed_request: Vec<u8>,
}

/// Why an enrolment is refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Ids, keys or the device list are not what they should be.
    #[error("the request is malformed")]
    Malformed,
    /// The proof does not fit the invite's secret, account, key and role.
    #[error("the proof does not fit the invite")]
    Proof,
    /// Another key redeemed the invite.
    #[error("the invite was redeemed by another key")]
    InviteUsed,
    /// The account id is certified for another key.
    #[error("the account is certified with another key")]
    AccountTaken,
    /// The inviter's role may not invite this role.
    #[error("the inviter may not invite this role")]
    InviterRight,
    /// The sealed request is not one, or its signature does not fit.
    #[error("the inviter's request is malformed or not signed by one of the inviter's devices")]
    Request,
    /// The inviter's account was revoked.
    #[error("the inviter is revoked")]
    InviterRevoked,
    /// Handle or name are missing or not valid, or a patient has one.
    #[error("the handle or name in the invite is not valid for the role")]
    Name,
}

/// Why an enrolment waits for a person or for something to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// Not one of this authority's invites, and nothing sealed to it.
    #[error("the invite is unknown here")]
    UnknownInvite,
    /// The sealed request opens with none of the issuers' keys.
    #[error("the inviter's request was sealed to an issuer that is not here")]
    SealedElsewhere,
    /// Seen after its end; whether it was redeemed in time nobody can prove.
    #[error("the invite has expired; approve by hand if it was redeemed in time")]
    Expired,
    /// The inviter is not certified here.
    #[error("the inviter is not certified by this authority")]
    UnknownInviter,
    /// The relay shows something about the inviter that does not verify, or is old.
    #[error("what the relay shows of the inviter does not verify or is out of date")]
    InviterRecord,
    /// Somebody else has the handle.
    #[error("the handle is taken; approve by hand with another one")]
    HandleTaken,
    /// No issuer here may certify the role now.
    #[error("no valid issuer here may certify this role; the root must sign one")]
    NoIssuer,
    /// Everything fits, but the authority is set to manual.
    #[error("everything fits; waits to be approved by hand")]
    Manual,
}

/// What is to be done with an enrolment.
pub enum Assessment {
    /// Certify it.
    Approve(Box<NewAccount>),
    /// It is certified already: send the certificate again.
    Again,
    /// Refuse it for good.
    Refuse(Refusal),
    /// Leave it on the desk.
    Hold(Hold),
}

/// An invite whose secret is known, from whichever source.
pub struct OpenInvite {
    /// The secret.
    pub secret: InviteSecret,
    /// The role it is for.
    pub role: Role,
    /// Last moment of validity.
    pub expires_at: Timestamp,
    /// Handle and display name; `None` for patients.
    pub name: Option<(Handle, String)>,
}

impl Enrolment {
    /// Checks form, and that the account key signed the first device list.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], with the account if that much could be read.
    pub fn read(
        pending: &PendingEnrolment,
        deployment: DeploymentId,
    ) -> Result<Self, (Option<AccountId>, Refusal)> {
        let request = pending.request.clone().unwrap_or_default();
        let account = AccountId::from_slice(&request.account_id).ok();
        Self::parse(&request, &pending.sealed_request, deployment)
            .ok_or((account, Refusal::Malformed))
    }

    fn parse(
        request: &EnrolmentRequest,
        sealed_request: &[u8],
        deployment: DeploymentId,
    ) -> Option<Self> {
        let account = AccountId::from_slice(&request.account_id).ok()?;
        let account_key: [u8; 32] = request.account_key.as_slice().try_into().ok()?;
        let key = VerifyingKey::from_bytes(&account_key).ok()?;
        let blob = request.device_list.as_ref()?;
        let list = VerifiedDeviceList::verify(blob, account, &key, deployment).ok()?;
        if list.version() != 1 {
            return None;
        }
        Some(Self {
            invite: InviteId::from_slice(&request.invite_id).ok()?,
            account,
            account_key,
            proof: request.proof.clone(),
            device_list: blob.encode_to_vec(),
            sealed_request: sealed_request.to_vec(),
        })
    }

    /// What is decided before the invite is looked at: was the account certified
    /// here, was the invite redeemed?
    pub fn known(
        &self,
        account: Option<&Account>,
        redemption: Option<(AccountId, [u8; 32])>,
    ) -> Option<Assessment> {
        match (account, redemption) {
            (Some(known), _) if known.account_key != self.account_key => {
                Some(Assessment::Refuse(Refusal::AccountTaken))
            }
            (Some(_), Some(by)) if by == (self.account, self.account_key) => {
                Some(Assessment::Again)
            }
            (_, Some(_)) => Some(Assessment::Refuse(Refusal::InviteUsed)),
            // Certified through another invite: nothing to do with this one.
            (Some(_), None) => Some(Assessment::Refuse(Refusal::AccountTaken)),
            (None, None) => None,
        }
    }

    /// Checks the proof, the time and the name.
    ///
    /// # Errors
    /// What to do instead of approving.
    pub fn redeem(
        &self,
        invite: &OpenInvite,
        deployment: DeploymentId,
        now: Timestamp,
        allow_expired: bool,
    ) -> Result<NewAccount, Assessment> {
        if invite.secret.id() != self.invite
            || !invite.secret.check_proof(
                deployment,
                self.account,
                &self.account_key,
                invite.role,
                &self.proof,
            )
        {
            return Err(Assessment::Refuse(Refusal::Proof));
        }
        if invite.name.is_none() != (invite.role == Role::Patient)
            || invite
                .name
                .as_ref()
                .is_some_and(|(_, name)| !check_display_name(name))
        {
            return Err(Assessment::Refuse(Refusal::Name));
        }
        if now > invite.expires_at && !allow_expired {
            return Err(Assessment::Hold(Hold::Expired));
        }
        Ok(NewAccount {
            id: self.account,
            account_key: self.account_key,
            role: invite.role,
            name: invite.name.clone(),
            device_list: self.device_list.clone(),
            invite: self.invite,
        })
    }
}

impl From<&StoredInvite> for OpenInvite {
    fn from(stored: &StoredInvite) -> Self {
        Self {
            secret: stored.invite.secret.clone(),
            role: stored.invite.role,
            expires_at: stored.invite.expires_at,
            name: stored.invite.name.clone(),
        }
    }
}

/// Who claims to have made a client's invite; to be verified with [`verify_request`].
///
/// # Errors
/// [`Refusal::Request`].
pub fn claimed_inviter(blob: &SignedBlob) -> Result<AccountId, Refusal> {
    let request = InviteRequest::decode(blob.payload.as_slice()).map_err(|_| Refusal::Request)?;
    AccountId::from_slice(&request.inviter_account_id).map_err(|_| Refusal::Request)
}

/// Verifies a client's invite request against what this authority certified
/// (`inviter`) and what the relay shows (`record`), and the inviter's right to it.
/// Returns the invite and the inviter's device list, to be remembered.
///
/// # Errors
/// What to do instead.
pub fn verify_request(
    blob: &SignedBlob,
    inviter: &Account,
    record: &AccountRecord,
    anchor: &TrustAnchor,
    revocations: Option<&VerifiedRevocations>,
    now: Timestamp,
) -> Result<(OpenInvite, SignedBlob), Assessment> {
    if inviter.revoked_at.is_some()
        || revocations.is_some_and(|list| list.covers_account(inviter.id))
    {
        return Err(Assessment::Refuse(Refusal::InviterRevoked));
    }
    let (list, list_blob) = verify_inviter(inviter, record, anchor, revocations, now)
        .ok_or(Assessment::Hold(Hold::InviterRecord))?;
    let refuse = |refusal| Err(Assessment::Refuse(refusal));
    let Ok(request) = InviteRequest::decode(blob.payload.as_slice()) else {
        return refuse(Refusal::Request);
    };
    let Some(device) = DeviceId::new(request.inviter_device_id)
        .ok()
        .and_then(|id| list.device(id))
    else {
        return refuse(Refusal::Request);
    };
    if request.inviter_account_id != inviter.id.as_bytes()
        || blob
            .verify(
                SignedKind::InviteRequest,
                anchor.deployment(),
                &device.device_key,
            )
            .is_err()
    {
        return refuse(Refusal::Request);
    }
    let (Some(role), Ok(secret)) = (
        role_from_wire(request.role),
        <[u8; 32]>::try_from(request.secret.as_slice()),
    ) else {
        return refuse(Refusal::Request);
    };
    if !may_invite(inviter.role, role) {
        return refuse(Refusal::InviterRight);
    }
    let name = match (request.handle.as_str(), request.display_name) {
        ("", name) if name.is_empty() => None,
        (handle, name) => match handle.parse() {
            Ok(handle) if check_display_name(&name) => Some((handle, name)),
            _ => return refuse(Refusal::Name),
        },
    };
    let invite = OpenInvite {
        secret: InviteSecret::new(secret),
        role,
        expires_at: Timestamp::from_millis(request.expires_at_ms),
        name,
    };
    Ok((invite, list_blob))
}

/// Who may invite whom: staff invite patients, admins anybody.
pub const fn may_invite(inviter: Role, role: Role) -> bool {
    match inviter {
        Role::Admin => !matches!(role, Role::Unspecified),
        Role::Staff => matches!(role, Role::Patient),
        Role::Unspecified | Role::Patient | Role::Ai | Role::Officer => false,
    }
}

/// The inviter's current device list, if certificate and list verify, are those
/// of the account certified here, and are not older than what was seen before.
fn verify_inviter(
    inviter: &Account,
    record: &AccountRecord,
    anchor: &TrustAnchor,
    revocations: Option<&VerifiedRevocations>,
    now: Timestamp,
) -> Option<(VerifiedDeviceList, SignedBlob)> {
    let chain = record.certificate.as_ref()?;
    let certificate =
        VerifiedCertificate::verify(chain, inviter.id, anchor, revocations, now).ok()?;
    if certificate.account_key().as_bytes() != &inviter.account_key
        || certificate.role() != inviter.role
    {
        return None;
    }
    let key = certificate.account_key();
    let blob = record.device_list.as_ref()?;
    let list = VerifiedDeviceList::verify(blob, inviter.id, key, anchor.deployment()).ok()?;
    let seen = SignedBlob::decode(inviter.device_list.as_slice()).ok()?;
    let seen = VerifiedDeviceList::verify(&seen, inviter.id, key, anchor.deployment()).ok()?;
    list.check_replaces(&seen).ok()?;
    (!list.is_expired(now)).then(|| (list, blob.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staff_invite_patients_and_admins_anybody() {
        let roles = [
            Role::Patient,
            Role::Staff,
            Role::Ai,
            Role::Admin,
            Role::Officer,
        ];
        for inviter in roles {
            for role in roles {
                let expected =
                    inviter == Role::Admin || (inviter == Role::Staff && role == Role::Patient);
                assert_eq!(may_invite(inviter, role), expected, "{inviter:?} {role:?}");
            }
            assert!(!may_invite(inviter, Role::Unspecified));
        }
    }
}
