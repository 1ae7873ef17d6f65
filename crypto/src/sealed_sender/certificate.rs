//! Who vouches for a sender: trust root → server certificate → sender certificate (spec §5.2).
//!
//! Certificates keep the bytes they were read from, and signatures are checked over those.

use prost::Message;
use rand_core::CryptoRng;
use uuid::Uuid;

use crate::{
    address::{DeviceAddress, DeviceId},
    curve::{PrivateKey, PublicKey, SIGNATURE_LEN},
    identity::IdentityKey,
    timestamp::Timestamp,
};

/// The server key that is revoked by agreement, for tests of that path.
const REVOKED_KEY_ID: u32 = 0xDEAD_C357;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not a certificate.
    #[error("malformed certificate")]
    Malformed,
    /// The sender certificate names its signer by a number that this software has no key for.
    #[error("server certificate {0} is not known")]
    UnknownServer(u32),
    /// The server's key was revoked.
    #[error("server certificate {0} is revoked")]
    Revoked(u32),
    /// None of the trust roots signed the server certificate.
    #[error("server certificate is not signed by a trust root")]
    UntrustedServer,
    /// The server did not sign the sender certificate.
    #[error("sender certificate is not signed by its server")]
    InvalidSignature,
    /// The sender certificate is past its time.
    #[error("sender certificate has expired")]
    Expired,
}

/// A server's key for signing sender certificates, vouched for by a trust root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerCertificate {
    key_id: u32,
    key: PublicKey,
    signed: Signed,
}

impl ServerCertificate {
    /// Signs `key` with the trust root. Draws 64 bytes.
    pub fn issue(
        key_id: u32,
        key: &PublicKey,
        trust_root: &PrivateKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let fields = ServerFields {
            key_id: Some(key_id),
            key: Some(key.as_bytes().to_vec()),
        };
        Self {
            key_id,
            key: *key,
            signed: Signed::new(fields.encode_to_vec(), trust_root, rng),
        }
    }

    /// Reads the serialised form, without checking the signature.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let signed = Signed::decode(bytes)?;
        let fields = ServerFields::decode(signed.certificate.as_slice())
            .map_err(|_| CertificateError::Malformed)?;
        let key = PublicKey::decode(&required(fields.key)?);
        Ok(Self {
            key_id: required(fields.key_id)?,
            key: key.map_err(|_| CertificateError::Malformed)?,
            signed,
        })
    }

    /// The number of the key.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The key itself.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.signed.serialized
    }

    /// Checks that one of the roots vouches for the key and that it was not revoked.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Revoked`], [`CertificateError::UntrustedServer`].
    pub fn verify(&self, trust_roots: &[PublicKey]) -> Result<(), CertificateError> {
        if self.key_id == REVOKED_KEY_ID {
            return Err(CertificateError::Revoked(self.key_id));
        }
        if trust_roots.iter().any(|root| self.signed.is_by(root)) {
            Ok(())
        } else {
            Err(CertificateError::UntrustedServer)
        }
    }
}

/// What a sender certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SenderClaims {
    /// The sender's address; its name is the account's UUID in text form.
    pub address: DeviceAddress,
    /// The sender's phone number, where there is such a thing.
    pub e164: Option<String>,
    /// The sender's identity key.
    pub identity: IdentityKey,
    /// The last moment at which the certificate is good.
    pub expires: Timestamp,
}

/// A server's statement about who uses an identity key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SenderCertificate {
    claims: SenderClaims,
    server: Server,
    signed: Signed,
}

/// How a sender certificate names its signer.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Server {
    Embedded(Box<ServerCertificate>),
    /// One of the certificates built into official clients; none is built in here.
    WellKnown(u32),
}

impl SenderCertificate {
    /// Signs the claims with the server's key, whose certificate goes inside. Draws 64 bytes.
    pub fn issue(
        claims: SenderClaims,
        server: ServerCertificate,
        server_key: &PrivateKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let fields = SenderFields {
            e164: claims.e164.clone(),
            device: Some(claims.address.device.get().into()),
            expires: Some(claims.expires.as_millis()),
            identity: Some(claims.identity.as_bytes().to_vec()),
            server: Some(server.as_bytes().to_vec()),
            uuid: Some(claims.address.name.clone()),
            uuid_bytes: None,
            server_id: None,
        };
        let signed = Signed::new(fields.encode_to_vec(), server_key, rng);
        Self {
            claims,
            server: Server::Embedded(Box::new(server)),
            signed,
        }
    }

    /// Reads the serialised form, without checking any signature.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let malformed = CertificateError::Malformed;
        let signed = Signed::decode(bytes)?;
        let fields = SenderFields::decode(signed.certificate.as_slice()).map_err(|_| malformed)?;
        let server = match (fields.server, fields.server_id) {
            (Some(bytes), _) => Server::Embedded(Box::new(ServerCertificate::decode(&bytes)?)),
            (None, Some(id)) => Server::WellKnown(id),
            (None, None) => return Err(malformed),
        };
        let name = match (fields.uuid, fields.uuid_bytes) {
            (Some(text), _) => text,
            (None, Some(bytes)) => Uuid::from_slice(&bytes)
                .map_err(|_| malformed)?
                .hyphenated()
                .to_string(),
            (None, None) => return Err(malformed),
        };
        let device = DeviceId::new(required(fields.device)?).map_err(|_| malformed)?;
        let identity = IdentityKey::decode(&required(fields.identity)?).map_err(|_| malformed)?;
        let claims = SenderClaims {
            address: DeviceAddress::new(name, device),
            e164: fields.e164,
            identity,
            expires: Timestamp::from_millis(required(fields.expires)?),
        };
        Ok(Self {
            claims,
            server,
            signed,
        })
    }

    /// What the certificate says; worth something after [`Self::verify`] only.
    pub fn claims(&self) -> &SenderClaims {
        &self.claims
    }

    /// The serialised form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.signed.serialized
    }

    /// Checks the whole chain up to one of the roots, at the time `now`.
    ///
    /// # Errors
    ///
    /// See [`CertificateError`].
    pub fn verify(
        &self,
        trust_roots: &[PublicKey],
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let server = match &self.server {
            Server::Embedded(server) => server,
            Server::WellKnown(id) => return Err(CertificateError::UnknownServer(*id)),
        };
        server.verify(trust_roots)?;
        if !self.signed.is_by(&server.key) {
            return Err(CertificateError::InvalidSignature);
        }
        if now > self.claims.expires {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }
}

/// The outer form of both certificates, with the exact bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Signed {
    certificate: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
    serialized: Vec<u8>,
}

impl Signed {
    fn new(certificate: Vec<u8>, key: &PrivateKey, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let signature = key.sign(&certificate, rng);
        let fields = SignedFields {
            certificate: Some(certificate.clone()),
            signature: Some(signature.to_vec()),
        };
        Self {
            certificate,
            signature,
            serialized: fields.encode_to_vec(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let fields = SignedFields::decode(bytes).map_err(|_| CertificateError::Malformed)?;
        let signature = required(fields.signature)?;
        Ok(Self {
            certificate: required(fields.certificate)?,
            signature: signature
                .try_into()
                .map_err(|_| CertificateError::Malformed)?,
            serialized: bytes.to_vec(),
        })
    }

    fn is_by(&self, key: &PublicKey) -> bool {
        key.verify(&self.certificate, &self.signature).is_ok()
    }
}

/// Protobuf field layout of the outer form.
#[derive(Clone, PartialEq, Message)]
struct SignedFields {
    #[prost(bytes = "vec", optional, tag = "1")]
    certificate: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    signature: Option<Vec<u8>>,
}

/// Protobuf field layout of a server certificate.
#[derive(Clone, PartialEq, Message)]
struct ServerFields {
    #[prost(uint32, optional, tag = "1")]
    key_id: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    key: Option<Vec<u8>>,
}

/// Protobuf field layout of a sender certificate.
#[derive(Clone, PartialEq, Message)]
struct SenderFields {
    #[prost(string, optional, tag = "1")]
    e164: Option<String>,
    #[prost(uint32, optional, tag = "2")]
    device: Option<u32>,
    #[prost(fixed64, optional, tag = "3")]
    expires: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    server: Option<Vec<u8>>,
    #[prost(string, optional, tag = "6")]
    uuid: Option<String>,
    #[prost(bytes = "vec", optional, tag = "7")]
    uuid_bytes: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "8")]
    server_id: Option<u32>,
}

fn required<T>(field: Option<T>) -> Result<T, CertificateError> {
    field.ok_or(CertificateError::Malformed)
}
