//! Real handshakes, in memory, against certificates made on the spot.
#![expect(clippy::unwrap_used, reason = "test helpers: a failure is the test's")]

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey as ServerKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wardline_tls::{TlsError, client_config, find_pin_mismatch, spki_sha256};

fn self_signed() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap()
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

fn server(cert: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    server_with(cert, key, rustls::ALL_VERSIONS)
}

fn server_with(
    cert: CertificateDer<'static>,
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], private_key(key))
        .unwrap()
}

/// One handshake; the error is the client's.
async fn shake(
    server: ServerConfig,
    pin: Option<[u8; 32]>,
    name: &'static str,
) -> std::io::Result<()> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serving = tokio::spawn(async move {
        let _ = TlsAcceptor::from(Arc::new(server)).accept(far).await;
    });
    let connector = TlsConnector::from(Arc::new(client_config(pin).unwrap()));
    let result = connector
        .connect(ServerName::try_from(name).unwrap(), near)
        .await;
    let result = result.map(|_| ());
    serving.await.unwrap();
    result
}

#[test]
fn the_hash_is_over_the_public_key_info() {
    let made = self_signed();
    let expected: [u8; 32] = {
        use sha2::Digest as _;
        sha2::Sha256::digest(made.signing_key.subject_public_key_info()).into()
    };
    assert_eq!(spki_sha256(made.cert.der()), Ok(expected));
}

#[test]
fn a_new_certificate_for_the_same_key_has_the_same_hash() {
    let made = self_signed();
    let renewed = CertificateParams::new(["other.test".to_owned()])
        .unwrap()
        .self_signed(&made.signing_key)
        .unwrap();
    assert_ne!(made.cert.der(), renewed.der());
    assert_eq!(spki_sha256(made.cert.der()), spki_sha256(renewed.der()));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let made = self_signed();
    let der = made.cert.der().to_vec();
    assert_eq!(spki_sha256(b""), Err(TlsError::Certificate));
    assert_eq!(spki_sha256(b"hello"), Err(TlsError::Certificate));
    for end in 0..der.len() {
        assert_eq!(
            spki_sha256(&der[..end]),
            Err(TlsError::Certificate),
            "cut at {end}"
        );
    }
}

#[tokio::test]
async fn the_pinned_key_is_accepted_under_any_name_and_both_versions() {
    let made = self_signed();
    let pin = spki_sha256(made.cert.der()).unwrap();
    for version in rustls::ALL_VERSIONS {
        let config = server_with(made.cert.der().clone(), &made.signing_key, &[version]);
        shake(config, Some(pin), "elsewhere.test").await.unwrap();
    }
}

#[tokio::test]
async fn every_kind_of_key_can_be_pinned() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert = CertificateParams::new(["relay.test".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let pin = spki_sha256(cert.der()).unwrap();
        shake(server(cert.der().clone(), &key), Some(pin), "relay.test")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn another_key_is_refused_and_said_to_be_one() {
    let made = self_signed();
    let pinned = spki_sha256(self_signed().cert.der()).unwrap();
    let config = server(made.cert.der().clone(), &made.signing_key);
    let error = shake(config, Some(pinned), "relay.test").await.unwrap_err();
    let mismatch = find_pin_mismatch(&error).expect("a pin mismatch");
    assert_eq!(Ok(mismatch.shown), spki_sha256(made.cert.der()));
}

#[tokio::test]
async fn without_a_pin_a_self_signed_certificate_is_refused() {
    let made = self_signed();
    match client_config(None) {
        Ok(_) => {
            let config = server(made.cert.der().clone(), &made.signing_key);
            let error = shake(config, None, "relay.test").await.unwrap_err();
            assert!(find_pin_mismatch(&error).is_none());
        }
        // A machine without certificate authorities says so instead.
        Err(error) => assert!(matches!(error, TlsError::Platform(_)), "{error}"),
    }
}

/// Shows somebody else's certificate but signs with its own key.
struct Impostor(Arc<ServerKey>);

impl std::fmt::Debug for Impostor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Impostor")
    }
}

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<ServerKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn showing_the_pinned_certificate_without_its_key_is_refused() {
    let made = self_signed();
    let pin = spki_sha256(made.cert.der()).unwrap();
    let own = KeyPair::generate().unwrap();
    assert_ne!(
        own.subject_public_key_info(),
        made.signing_key.subject_public_key_info()
    );
    for version in rustls::ALL_VERSIONS {
        let signing = rustls::crypto::ring::sign::any_supported_type(&private_key(&own)).unwrap();
        let key = ServerKey::new(vec![made.cert.der().clone()], signing);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Impostor(Arc::new(key))));
        let error = shake(config, Some(pin), "relay.test").await.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");
    }
}
