//! The proof in a newcomer's first message.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wardline_wire::ids::{AccountId, DeploymentId};
use wardline_wire::invite::InviteSecret;
use zeroize::Zeroize as _;

use crate::content::Hello;

/// Why a newcomer is not greeted. It then appears as a request, like any stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The invite named is not the one it is checked against.
    #[error("this greeting belongs to another invite")]
    OtherInvite,
    /// The proof does not fit the invite and both accounts.
    #[error("somebody claims to have been invited by you, and cannot prove it")]
    Proof,
}

/// The proof that `newcomer` holds the secret of an invite of `inviter`:
/// `HMAC-SHA256(HKDF-SHA256(secret, info "wardline/hello-proof/v1\0" ‖ deployment id),
/// newcomer id ‖ newcomer key ‖ inviter id ‖ inviter key)`.
pub fn hello_proof(
    secret: &InviteSecret,
    deployment: DeploymentId,
    newcomer: (AccountId, &[u8; 32]),
    inviter: (AccountId, &[u8; 32]),
) -> [u8; 32] {
    mac(secret, deployment, newcomer, inviter)
        .finalize()
        .into_bytes()
        .into()
}

/// Checks a newcomer's greeting against the invite it names, in constant time. The
/// newcomer's key is the certified one, not one it claims.
///
/// # Errors
/// [`HelloError`].
pub fn check_hello(
    hello: &Hello,
    secret: &InviteSecret,
    deployment: DeploymentId,
    newcomer: (AccountId, &[u8; 32]),
    inviter: (AccountId, &[u8; 32]),
) -> Result<(), HelloError> {
    if hello.invite != secret.id() {
        return Err(HelloError::OtherInvite);
    }
    mac(secret, deployment, newcomer, inviter)
        .verify_slice(&hello.proof)
        .map_err(|_| HelloError::Proof)
}

fn mac(
    secret: &InviteSecret,
    deployment: DeploymentId,
    newcomer: (AccountId, &[u8; 32]),
    inviter: (AccountId, &[u8; 32]),
) -> Hmac<Sha256> {
    let mut key = [0; 32];
    let info = [
        b"wardline/hello-proof/v1\0".as_slice(),
        deployment.as_bytes(),
    ];
    #[expect(
        clippy::expect_used,
        reason = "32 bytes are within HKDF's limit, and HMAC takes keys of any length"
    )]
    let mut mac = {
        Hkdf::<Sha256>::new(None, secret.expose())
            .expand_multi_info(&info, &mut key)
            .expect("32 bytes");
        Hmac::<Sha256>::new_from_slice(&key).expect("any length")
    };
    key.zeroize();
    for (account, account_key) in [newcomer, inviter] {
        mac.update(account.as_bytes());
        mac.update(account_key);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Profile;

    #[test]
    fn a_proof_fits_one_invite_one_clinic_and_both_accounts() {
        let secret = InviteSecret::new([1; 32]);
        let here = DeploymentId::from([2; 16]);
        let ann = (AccountId::from_random_bytes([3; 16]), &[4; 32]);
        let bob = (AccountId::from_random_bytes([5; 16]), &[6; 32]);
        let hello = Hello {
            invite: secret.id(),
            proof: hello_proof(&secret, here, ann, bob),
            profile: Profile {
                name: "Ann".to_owned(),
                version: 1,
                access_key: None,
            },
        };
        let check = |secret: &InviteSecret, deployment, newcomer, inviter| {
            check_hello(&hello, secret, deployment, newcomer, inviter)
        };
        assert_eq!(check(&secret, here, ann, bob), Ok(()));
        let other = InviteSecret::new([9; 32]);
        assert_eq!(check(&other, here, ann, bob), Err(HelloError::OtherInvite));
        let there = DeploymentId::from([7; 16]);
        for result in [
            check(&secret, there, ann, bob),
            check(&secret, here, bob, ann),
            check(&secret, here, (ann.0, &[8; 32]), bob),
            check(&secret, here, ann, (bob.0, &[8; 32])),
            check(&secret, here, (bob.0, ann.1), bob),
        ] {
            assert_eq!(result, Err(HelloError::Proof));
        }
        // The proof to the issuer is another one: neither can be passed off as the other.
        let to_issuer = secret.proof(here, ann.0, ann.1, wardline_wire::proto::Role::Patient);
        assert_ne!(to_issuer, hello.proof);
    }
}
