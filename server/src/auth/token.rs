//! Tokens: JWTs signed with Ed25519 that the relay makes for itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeploymentId, DeviceAddress, DeviceId, Serial};
use wardline_wire::proto::Role;
use zeroize::Zeroizing;

/// PKCS #8 around an Ed25519 seed (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Longer than any token of ours.
const MAX_TOKEN_BYTES: usize = 2048;

/// A token that does not count: forged, foreign, malformed or expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token does not count")]
pub(crate) struct InvalidToken;

/// Whom a token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Device(DeviceAddress),
    Issuer(Serial),
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenClaims {
    pub(crate) subject: Subject,
    /// As it was at log-in; what counts is read anew at every use.
    pub(crate) role: Role,
    pub(crate) auth_epoch: u64,
    pub(crate) expires_at: Timestamp,
}

/// The claims on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// The deployment.
    aud: String,
    /// `device` or `issuer`.
    kind: String,
    /// Account id or issuer serial.
    sub: String,
    /// Device id; 0 for an issuer.
    device: u32,
    role: i32,
    auth_epoch: u64,
    /// Seconds since the Unix epoch.
    exp: u64,
}

/// Makes and checks tokens.
pub(crate) struct Tokens {
    audience: String,
    key_id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    lifetime_ms: u64,
}

impl Tokens {
    /// With the key made from `seed`.
    pub(crate) fn new(
        seed: &[u8; 32],
        deployment: DeploymentId,
        lifetime_seconds: u32,
    ) -> Result<Self, jsonwebtoken::errors::Error> {
        let public = SigningKey::from_bytes(seed).verifying_key();
        let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed].concat());
        let fingerprint: [u8; 32] = Sha256::digest(public.as_bytes()).into();
        let (short, _) = fingerprint.split_at(8);
        Ok(Self {
            audience: deployment.to_string(),
            key_id: hex::encode(short),
            encoding: EncodingKey::from_ed_der(&der),
            decoding: DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(public.as_bytes()))?,
            lifetime_ms: u64::from(lifetime_seconds) * 1000,
        })
    }

    /// Milliseconds a new token is good for.
    pub(crate) fn lifetime_ms(&self) -> u64 {
        self.lifetime_ms
    }

    /// A token for a subject. Ends at a full second.
    pub(crate) fn issue(
        &self,
        subject: Subject,
        role: Role,
        auth_epoch: u64,
        now: Timestamp,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let (kind, sub, device) = match subject {
            Subject::Device(address) => {
                ("device", address.account.to_string(), address.device.into())
            }
            Subject::Issuer(serial) => ("issuer", serial.to_string(), 0),
        };
        let claims = Claims {
            aud: self.audience.clone(),
            kind: kind.to_owned(),
            sub,
            device,
            role: role.into(),
            auth_epoch,
            exp: now.plus_millis(self.lifetime_ms).as_secs(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, &claims, &self.encoding)
    }

    /// What a token says, if it counts at `now`.
    ///
    /// # Errors
    /// [`InvalidToken`], without telling why: the holder can only log in again.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[&self.audience]);
        // Against our own clock, below.
        validation.validate_exp = false;
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| InvalidToken)?;
        if data.header.kid.as_deref() != Some(&self.key_id) {
            return Err(InvalidToken);
        }
        let claims = data.claims;
        let expires_at = Timestamp::from_millis(claims.exp.saturating_mul(1000));
        if now >= expires_at {
            return Err(InvalidToken);
        }
        let subject = match (claims.kind.as_str(), claims.device) {
            ("issuer", 0) => Subject::Issuer(claims.sub.parse().map_err(|_| InvalidToken)?),
            ("device", device) => Subject::Device(DeviceAddress {
                account: claims.sub.parse::<AccountId>().map_err(|_| InvalidToken)?,
                device: DeviceId::new(device).map_err(|_| InvalidToken)?,
            }),
            _ => return Err(InvalidToken),
        };
        Ok(TokenClaims {
            subject,
            role: Role::try_from(claims.role).map_err(|_| InvalidToken)?,
            auth_epoch: claims.auth_epoch,
            expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn tokens(seed: u8, deployment: u8) -> Tokens {
        Tokens::new(&[seed; 32], DeploymentId::from([deployment; 16]), 600).unwrap()
    }

    fn device() -> Subject {
        Subject::Device(DeviceAddress {
            account: AccountId::from([1; 16]),
            device: DeviceId::FIRST,
        })
    }

    #[test]
    fn tokens_round_trip_and_end() {
        let ours = tokens(1, 1);
        for subject in [device(), Subject::Issuer(Serial::from([7; 16]))] {
            let token = ours.issue(subject, Role::Staff, 3, NOW).unwrap();
            let claims = ours.verify(&token, NOW).unwrap();
            assert_eq!((claims.subject, claims.auth_epoch), (subject, 3));
            assert!(ours.verify(&token, NOW.plus_millis(599_000)).is_ok());
            assert!(ours.verify(&token, NOW.plus_millis(600_000)).is_err());
        }
    }

    #[test]
    fn other_keys_deployments_and_alterations_are_refused() {
        let token = tokens(1, 1).issue(device(), Role::Staff, 3, NOW).unwrap();
        assert!(tokens(2, 1).verify(&token, NOW).is_err());
        assert!(tokens(1, 2).verify(&token, NOW).is_err());
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            // The last character of a part may carry unused bits; decoders refuse those too.
            assert!(tokens(1, 1).verify(&altered, NOW).is_err(), "at {at}");
        }
        assert!(tokens(1, 1).verify("", NOW).is_err());
        assert!(tokens(1, 1).verify(&"a".repeat(5000), NOW).is_err());
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let token = tokens(1, 1).issue(device(), Role::Staff, 3, NOW).unwrap();
        let payload = token.split('.').nth(1).unwrap();
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        assert!(
            tokens(1, 1)
                .verify(&format!("{header}.{payload}."), NOW)
                .is_err()
        );
    }
}
