//! TLS for whoever speaks to the relay: its key is pinned, or the platform's
//! certificate authorities vouch for it.
//!
//! Invites carry the SHA-256 of the relay's DER `SubjectPublicKeyInfo`. With such a
//! pin, that key is all that counts: a self-signed certificate will do, its name
//! and dates are not looked at, and a certificate for another key is refused
//! whichever authority signed it. The relay can renew its certificate under the
//! same key without anybody noticing. The handshake signature is always checked:
//! showing a certificate proves nothing, using its key does.
//!
//! There is no I/O here; the configuration goes to whatever opens sockets.
//!
//! ```
//! let pinned = wardline_tls::client_config(Some([7; 32]))?;
//! assert!(pinned.alpn_protocols.is_empty());
//! # Ok::<(), wardline_tls::TlsError>(())
//! ```

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use sha2::{Digest as _, Sha256};

/// Why a configuration or a key hash cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The bytes are not an X.509 certificate.
    #[error("this is not an X.509 certificate in DER form")]
    Certificate,
    /// The machine's certificate authorities cannot be used, and no key is pinned.
    #[error(
        "this machine's certificate authorities cannot be used ({0}); pin the relay's key instead"
    )]
    Platform(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What a handshake fails with when the relay shows another key than the pinned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the relay shows another key than the pinned one; do not go on, ask who gave you the address"
)]
pub struct PinMismatch {
    /// SHA-256 of the `SubjectPublicKeyInfo` that was shown.
    pub shown: [u8; 32],
}

/// A client configuration (TLS 1.2 and 1.3 on *ring*, no client certificate, no ALPN).
///
/// With a `pin`, the server's key must have that [`spki_sha256`]. Without, the
/// platform's certificate authorities decide.
///
/// # Errors
/// [`TlsError::Platform`] without a pin on a machine that has no certificate
/// authorities; [`TlsError::Setup`] when TLS cannot be set up.
pub fn client_config(pin: Option<[u8; 32]>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let config = match pin {
        Some(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedKey { pin, provider }))
            .with_no_client_auth(),
        None => builder
            .with_platform_verifier()
            .map_err(|error| TlsError::Platform(error.to_string()))?
            .with_no_client_auth(),
    };
    Ok(config)
}

/// SHA-256 of the DER `SubjectPublicKeyInfo` of a DER certificate: what invites
/// carry as the relay's key.
///
/// # Errors
/// [`TlsError::Certificate`] when it is not an X.509 certificate.
pub fn spki_sha256(cert_der: &[u8]) -> Result<[u8; 32], TlsError> {
    let certificate = CertificateDer::from(cert_der);
    let parsed = ParsedCertificate::try_from(&certificate).map_err(|_| TlsError::Certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info().as_ref()).into())
}

/// The pin mismatch behind a failed connection, however deep in its chain of sources.
pub fn find_pin_mismatch(error: &(dyn std::error::Error + 'static)) -> Option<PinMismatch> {
    let mut next = Some(error);
    // Chains are short; the bound only keeps a cyclic one from hanging.
    for _ in 0..32 {
        let current = next?;
        if let Some(mismatch) = current.downcast_ref::<PinMismatch>() {
            return Some(*mismatch);
        }
        if let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            current.downcast_ref::<Error>()
            && let Some(mismatch) = inner.downcast_ref::<PinMismatch>()
        {
            return Some(*mismatch);
        }
        // An `io::Error` hands out the source of what it wraps, not what it wraps.
        next = match current.downcast_ref::<std::io::Error>() {
            Some(io) => io
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => current.source(),
        };
    }
    None
}

/// Accepts one key, whatever certificate it comes in.
struct PinnedKey {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = spki_sha256(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if shown == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            let mismatch = OtherError(Arc::new(PinMismatch { shown }));
            Err(Error::InvalidCertificate(CertificateError::Other(mismatch)))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedKey(..)")
    }
}
