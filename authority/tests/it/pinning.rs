//! The relay's TLS key, through the whole HTTP client.

use std::sync::Arc;

use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use wardline_authority::relay::{Relay, RelayError};
use wardline_wire::directory::TrustAnchor;
use wardline_wire::ids::DeploymentId;
use wardline_wire::proto::Deployment;

fn anchor() -> TrustAnchor {
    let root = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
    TrustAnchor::new(DeploymentId::from([2; 16]), root)
}

/// Answers every request with the deployment, or with `raw`. Returns address and key hash.
async fn serve(raw: Option<&'static str>) -> (String, [u8; 32]) {
    let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
    let pin = wardline_tls::spki_sha256(made.cert.der()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    );
    let body = Deployment {
        deployment_id: anchor().deployment().to_vec(),
        root_key: anchor().root().to_bytes().to_vec(),
        issuers: Vec::new(),
    }
    .encode_to_vec();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let mut answer = match raw {
                Some(raw) => raw.as_bytes().to_vec(),
                None => format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                )
                .into_bytes(),
            };
            if raw.is_none() {
                answer.extend_from_slice(&body);
            }
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, pin)
}

#[tokio::test]
async fn the_pinned_relay_is_spoken_to_and_another_is_not() {
    let (url, pin) = serve(None).await;
    let relay = Relay::new(&url, Some(pin), anchor()).unwrap();
    relay.check_deployment().await.unwrap();
    let (impostor, shown) = serve(None).await;
    let relay = Relay::new(&impostor, Some(pin), anchor()).unwrap();
    match relay.check_deployment().await {
        Err(RelayError::OtherKey(mismatch)) => assert_eq!(mismatch.shown, shown),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let raw = "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://127.0.0.1:1/\r\n\
               content-length: 0\r\nconnection: close\r\n\r\n";
    let (url, pin) = serve(Some(raw)).await;
    let relay = Relay::new(&url, Some(pin), anchor()).unwrap();
    assert!(matches!(
        relay.check_deployment().await,
        Err(RelayError::Refused { status: 307, .. })
    ));
}

#[tokio::test]
async fn answers_without_end_are_cut() {
    // Announces more than is ever read.
    let raw = "HTTP/1.1 500 Oops\r\ncontent-length: 100000\r\nconnection: close\r\n\r\n";
    let long: &'static str = Box::leak(format!("{raw}{}", "x".repeat(100_000)).into_boxed_str());
    let (url, pin) = serve(Some(long)).await;
    let relay = Relay::new(&url, Some(pin), anchor()).unwrap();
    assert!(matches!(
        relay.check_deployment().await,
        Err(RelayError::Answer(_))
    ));
}
