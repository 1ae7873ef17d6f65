//! Invites: the link, what the relay knows of it, and the proof it makes possible.
//!
//! A link carries a secret. The relay is told a hash of it and admits whoever
//! names that hash; only the issuer, who knows the secret, can check the proof
//! that binds it to one account key, and only the issuer certifies. So the relay
//! can neither mint an invite nor redeem one for a key of its own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::clock::Timestamp;
use crate::directory::role_from_wire;
use crate::ids::{AccountId, DeploymentId, InviteId};
use crate::proto::{self, Role};

/// How a link begins.
pub const LINK_PREFIX: &str = "wardline:join/";
/// HPKE `info` prefix of a sealed invite request; the deployment id follows.
pub const REQUEST_INFO: &[u8] = b"wardline/invite-request/v1\0";

/// Links are far shorter; anything longer is not one.
const MAX_LINK_BYTES: usize = 4096;

/// The secret of an invite. Whoever holds it may enrol, once.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct InviteSecret([u8; 32]);

impl InviteSecret {
    /// From 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing them to the issuer.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the relay knows: `SHA-256("wardline/invite-id/v1\0" ‖ secret)`.
    pub fn id(&self) -> InviteId {
        let digest = Sha256::new()
            .chain_update(b"wardline/invite-id/v1\0")
            .chain_update(self.0)
            .finalize();
        InviteId::from(<[u8; 32]>::from(digest))
    }

    /// The proof that an account redeems this invite:
    /// `HMAC-SHA256(HKDF-SHA256(secret, info "wardline/invite-proof/v1\0" ‖ deployment id),
    /// account id ‖ account key ‖ role as u32 big-endian)`.
    pub fn proof(
        &self,
        deployment: DeploymentId,
        account: AccountId,
        account_key: &[u8; 32],
        role: Role,
    ) -> [u8; 32] {
        self.mac(deployment, account, account_key, role)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Checks a proof in constant time.
    pub fn check_proof(
        &self,
        deployment: DeploymentId,
        account: AccountId,
        account_key: &[u8; 32],
        role: Role,
        proof: &[u8],
    ) -> bool {
        self.mac(deployment, account, account_key, role)
            .verify_slice(proof)
            .is_ok()
    }

    fn mac(
        &self,
        deployment: DeploymentId,
        account: AccountId,
        account_key: &[u8; 32],
        role: Role,
    ) -> Hmac<Sha256> {
        let mut key = [0; 32];
        let info = [
            b"wardline/invite-proof/v1\0".as_slice(),
            deployment.as_bytes(),
        ];
        #[expect(
            clippy::expect_used,
            reason = "32 bytes are within HKDF's limit, and HMAC takes keys of any length"
        )]
        let mut mac = {
            Hkdf::<Sha256>::new(None, &self.0)
                .expand_multi_info(&info, &mut key)
                .expect("32 bytes");
            Hmac::<Sha256>::new_from_slice(&key).expect("any length")
        };
        key.zeroize();
        mac.update(account.as_bytes());
        mac.update(account_key);
        mac.update(&(role as i32).to_be_bytes());
        mac
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(..)")
    }
}

/// Why an invite link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It does not start with [`LINK_PREFIX`].
    #[error("this is not a Wardline invite: it must start with \"wardline:join/\"")]
    Prefix,
    /// The text was cut or altered.
    #[error("the invite is incomplete or mistyped; copy the whole link again")]
    Damaged,
    /// A field is missing or not valid.
    #[error("the invite is not valid ({0}); ask for a new one")]
    Field(&'static str),
    /// It is over.
    #[error("the invite has expired; ask for a new one")]
    Expired,
}

/// Who invites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inviter {
    /// The inviter's account.
    pub account: AccountId,
    /// SHA-256 of the inviter's account key.
    pub account_key_sha256: [u8; 32],
    /// The inviter's access key, if given.
    pub access_key: Option<[u8; 16]>,
}

/// An invite, checked for form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The clinic's installation.
    pub deployment: DeploymentId,
    /// `https://host[:port]`, or `http://` on loopback.
    pub relay_url: String,
    /// SHA-256 of the DER `SubjectPublicKeyInfo` of the relay's TLS key; `None` on plain loopback.
    pub relay_key_sha256: Option<[u8; 32]>,
    /// SHA-256 of the root's public key.
    pub root_fingerprint: [u8; 32],
    /// `None` when the clinic's authority itself invites.
    pub inviter: Option<Inviter>,
    /// Role the newcomer will have.
    pub role: Role,
    /// Last moment of validity.
    pub expires_at: Timestamp,
    /// The secret.
    pub secret: InviteSecret,
}

impl Invite {
    /// The link: prefix, base64url of the message and of the first four bytes of
    /// its SHA-256, so that a cut or mistyped link is noticed before anything is sent.
    pub fn to_link(&self) -> String {
        let message = proto::Invite {
            deployment_id: self.deployment.to_vec(),
            relay_url: self.relay_url.clone(),
            relay_key_sha256: self.relay_key_sha256.map(Vec::from).unwrap_or_default(),
            root_fingerprint: self.root_fingerprint.to_vec(),
            inviter_account_id: self
                .inviter
                .map(|inviter| inviter.account.to_vec())
                .unwrap_or_default(),
            inviter_account_key_sha256: self
                .inviter
                .map(|inviter| inviter.account_key_sha256.to_vec())
                .unwrap_or_default(),
            role: self.role.into(),
            expires_at_ms: self.expires_at.as_millis(),
            secret: self.secret.0.to_vec(),
            inviter_access_key: self
                .inviter
                .and_then(|inviter| inviter.access_key)
                .map(Vec::from)
                .unwrap_or_default(),
        };
        let mut bytes = message.encode_to_vec();
        let check: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend(check.iter().take(4));
        let link = format!("{LINK_PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        bytes.zeroize();
        link
    }

    /// Reads a link. Surrounding white space is allowed; nothing else is.
    ///
    /// # Errors
    /// [`InviteError`] with the way out; expiry is checked against `now`.
    pub fn from_link(link: &str, now: Timestamp) -> Result<Self, InviteError> {
        let text = link
            .trim()
            .strip_prefix(LINK_PREFIX)
            .ok_or(InviteError::Prefix)?;
        if text.len() > MAX_LINK_BYTES {
            return Err(InviteError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| InviteError::Damaged)?;
        let (body, check) = bytes.split_last_chunk::<4>().ok_or(InviteError::Damaged)?;
        let digest: [u8; 32] = Sha256::digest(body).into();
        if !digest.starts_with(check) {
            return Err(InviteError::Damaged);
        }
        let message = proto::Invite::decode(body).map_err(|_| InviteError::Damaged)?;
        let invite = Self::from_message(&message)?;
        if now > invite.expires_at {
            Err(InviteError::Expired)
        } else {
            Ok(invite)
        }
    }

    fn from_message(message: &proto::Invite) -> Result<Self, InviteError> {
        let array =
            |bytes: &[u8], name| <[u8; 32]>::try_from(bytes).map_err(|_| InviteError::Field(name));
        let inviter = if message.inviter_account_id.is_empty() {
            None
        } else {
            let access_key = match message.inviter_access_key.as_slice() {
                [] => None,
                key => {
                    Some(<[u8; 16]>::try_from(key).map_err(|_| InviteError::Field("access key"))?)
                }
            };
            Some(Inviter {
                account: AccountId::from_slice(&message.inviter_account_id)
                    .map_err(|_| InviteError::Field("inviter"))?,
                account_key_sha256: array(&message.inviter_account_key_sha256, "inviter's key")?,
                access_key,
            })
        };
        if !check_relay_url(&message.relay_url) {
            return Err(InviteError::Field("relay address"));
        }
        let relay_key_sha256 = match message.relay_key_sha256.as_slice() {
            [] => None,
            key => Some(array(key, "relay key")?),
        };
        Ok(Self {
            deployment: DeploymentId::from_slice(&message.deployment_id)
                .map_err(|_| InviteError::Field("deployment"))?,
            relay_url: message.relay_url.clone(),
            relay_key_sha256,
            root_fingerprint: array(&message.root_fingerprint, "root fingerprint")?,
            inviter,
            role: role_from_wire(message.role).ok_or(InviteError::Field("role"))?,
            expires_at: Timestamp::from_millis(message.expires_at_ms),
            secret: InviteSecret(array(&message.secret, "secret")?),
        })
    }
}

/// Whether this is the address of a relay: `https://host[:port]`, or
/// `http://host[:port]` when the host is this machine itself. Nothing else: no user,
/// path, query or fragment, so that what is shown is what is connected to.
pub fn check_relay_url(url: &str) -> bool {
    let (authority, loopback_only) =
        match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(authority), _) => (authority, false),
            (None, Some(authority)) => (authority, true),
            (None, None) => return false,
        };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let good_port = port.is_none_or(|port| {
        port.bytes().all(|digit| digit.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let address = if authority.starts_with('[') {
        host.parse::<Ipv6Addr>().ok().map(IpAddr::from)
    } else {
        host.parse::<Ipv4Addr>().ok().map(IpAddr::from)
    };
    let good_host = address.is_some()
        || (!authority.starts_with('[')
            && (1..=253).contains(&host.len())
            && host.split('.').all(is_dns_label));
    let is_loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    good_port && good_host && (is_loopback || !loopback_only)
}

fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            deployment: DeploymentId::from([1; 16]),
            relay_url: "https://relay.example:8443".to_owned(),
            relay_key_sha256: Some([2; 32]),
            root_fingerprint: [3; 32],
            inviter: Some(Inviter {
                account: AccountId::from_random_bytes([4; 16]),
                account_key_sha256: [5; 32],
                access_key: Some([6; 16]),
            }),
            role: Role::Patient,
            expires_at: Timestamp::from_millis(1_000_000),
            secret: InviteSecret::new([7; 32]),
        }
    }

    #[test]
    fn links_round_trip() {
        let now = Timestamp::from_millis(5);
        let link = invite().to_link();
        assert_eq!(Invite::from_link(&format!(" {link}\n"), now), Ok(invite()));
    }

    #[test]
    fn cut_and_mistyped_links_are_noticed() {
        let now = Timestamp::from_millis(5);
        let link = invite().to_link();
        assert_eq!(
            Invite::from_link("https://example.com", now),
            Err(InviteError::Prefix)
        );
        for end in LINK_PREFIX.len()..link.len() {
            assert_eq!(
                Invite::from_link(&link[..end], now),
                Err(InviteError::Damaged),
                "cut at {end}"
            );
        }
        for at in LINK_PREFIX.len()..link.len() {
            let mut typo = link.clone().into_bytes();
            typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
            let typo = String::from_utf8(typo).unwrap();
            assert_eq!(
                Invite::from_link(&typo, now),
                Err(InviteError::Damaged),
                "typo at {at}"
            );
        }
    }

    #[test]
    fn an_old_link_says_so() {
        let late = Timestamp::from_millis(1_000_001);
        assert_eq!(
            Invite::from_link(&invite().to_link(), late),
            Err(InviteError::Expired)
        );
    }

    #[test]
    fn a_proof_binds_account_key_role_and_deployment() {
        let secret = InviteSecret::new([7; 32]);
        let here = DeploymentId::from([1; 16]);
        let account = AccountId::from_random_bytes([4; 16]);
        let proof = secret.proof(here, account, &[8; 32], Role::Patient);
        assert!(secret.check_proof(here, account, &[8; 32], Role::Patient, &proof));
        assert!(!secret.check_proof(here, account, &[9; 32], Role::Patient, &proof));
        assert!(!secret.check_proof(here, account, &[8; 32], Role::Staff, &proof));
        assert!(!secret.check_proof(
            DeploymentId::from([2; 16]),
            account,
            &[8; 32],
            Role::Patient,
            &proof
        ));
        assert!(!InviteSecret::new([0; 32]).check_proof(
            here,
            account,
            &[8; 32],
            Role::Patient,
            &proof
        ));
        assert!(!secret.check_proof(here, account, &[8; 32], Role::Patient, &proof[..31]));
    }

    #[test]
    fn relay_addresses_are_https_or_this_machine() {
        for good in [
            "https://relay.example",
            "https://relay.example:8443",
            "https://10.0.0.7:8443",
            "https://[2001:db8::1]:8443",
            "https://[::1]",
            "https://localhost",
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ] {
            assert!(check_relay_url(good), "{good}");
        }
        for bad in [
            "",
            "relay.example",
            "http://relay.example",
            "http://10.0.0.7:8080",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "HTTPS://relay.example",
            "ftp://relay.example",
            "https://",
            "https://:8443",
            "https://relay.example:",
            "https://relay.example:0",
            "https://relay.example:+80",
            "https://relay.example:65536",
            "https://relay.example/",
            "https://relay.example/path",
            "https://relay.example?query",
            "https://relay.example#fragment",
            "https://user@relay.example",
            "https://relay example",
            "https://relay..example",
            "https://-relay.example",
            "https://rel\u{e4}y.example",
            "https://relay.example\n",
            "https://[::1",
            "https://[::1]8443",
            "https://[relay.example]",
            "https://::1",
        ] {
            assert!(!check_relay_url(bad), "{bad}");
        }
        let mut invite = invite();
        invite.relay_url = "http://relay.example".to_owned();
        assert_eq!(
            Invite::from_link(&invite.to_link(), Timestamp::from_millis(5)),
            Err(InviteError::Field("relay address"))
        );
    }

    #[test]
    fn the_secret_does_not_print() {
        assert!(!format!("{:?}", invite()).contains("7, 7"));
    }
}
