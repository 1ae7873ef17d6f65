//! Set-up calls over HTTP: no proxy, no redirects, a deadline, bounded answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use super::{BoxFuture, Method, Request, Response, Socket, Transport, TransportError, websocket};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Ten device bundles are about 20 KiB, a large revocation list 100 KiB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The network transport to one relay.
pub struct RelayTransport {
    base: Url,
    client: reqwest::Client,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl RelayTransport {
    /// A transport to `relay_url`. With a pin, only a TLS key with that SHA-256 (of its DER
    /// `SubjectPublicKeyInfo`) is spoken to. Plain HTTP is for loopback alone.
    ///
    /// # Errors
    /// [`TransportError::Address`] or [`TransportError::Untrusted`].
    pub fn new(
        relay_url: &str,
        relay_key_sha256: Option<[u8; 32]>,
    ) -> Result<Self, TransportError> {
        let base = Url::parse(relay_url).map_err(|_| TransportError::Address)?;
        let tls = match base.scheme() {
            "https" => Some(
                wardline_tls::client_config(relay_key_sha256)
                    .map_err(|error| TransportError::Untrusted(error.to_string()))?,
            ),
            "http" if is_loopback(&base) => None,
            _ => return Err(TransportError::Address),
        };
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        builder = match &tls {
            Some(config) => builder.tls_backend_preconfigured(config.clone()),
            // Never used for a connection, but reqwest wants a TLS backend without asking the
            // process for its provider.
            None => builder.tls_backend_preconfigured(
                wardline_tls::client_config(Some([0; 32]))
                    .map_err(|error| TransportError::Untrusted(error.to_string()))?,
            ),
        };
        let client = builder
            .build()
            .map_err(|_| TransportError::Protocol("the HTTP client cannot be set up"))?;
        Ok(Self {
            base,
            client,
            tls: tls.map(Arc::new),
        })
    }

    fn url(&self, path: &str) -> Result<Url, TransportError> {
        let text = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text).map_err(|_| TransportError::Address)
    }

    async fn call(&self, request: Request) -> Result<Response, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut call = self.client.request(method, self.url(&request.path)?);
        if let Some(token) = request.token {
            call = call.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if request.method != Method::Get {
            call = call
                .header(CONTENT_TYPE, "application/x-protobuf")
                .body(request.body);
        }
        let mut response = call.send().await.map_err(|error| classify(&error))?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(TransportError::Protocol("an answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status,
            body: Bytes::from(body),
        })
    }
}

impl Transport for RelayTransport {
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(self.call(request))
    }

    fn open_socket(&self, token: String) -> BoxFuture<'_, Result<Socket, TransportError>> {
        Box::pin(async move {
            let url = self.url("/v1/socket")?;
            tokio::time::timeout(
                CONNECT_TIMEOUT,
                websocket::open(&url, self.tls.clone(), &token),
            )
            .await
            .map_err(|_| TransportError::TimedOut)?
        })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

fn classify(error: &reqwest::Error) -> TransportError {
    if error.is_timeout() {
        return TransportError::TimedOut;
    }
    if let Some(mismatch) = wardline_tls::find_pin_mismatch(error) {
        return TransportError::other_key(mismatch);
    }
    let reason = innermost(error);
    if let Some(pin) = tls_fault(error) {
        return TransportError::Untrusted(pin);
    }
    TransportError::Unreachable(reason)
}

/// The last cause: the outer layers only repeat the address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn tls_fault(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(tls) = inner.downcast_ref::<rustls::Error>()
        {
            return Some(tls.to_string());
        }
        cause = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in [
            "http://127.0.0.1:80",
            "http://localhost:1",
            "http://[::1]:7",
            "https://relay.example",
        ] {
            assert!(RelayTransport::new(good, Some([1; 32])).is_ok(), "{good}");
        }
        for bad in [
            "http://relay.example",
            "http://10.0.0.1",
            "ftp://localhost",
            "relay",
            "http://localhost.evil.example",
        ] {
            assert!(
                matches!(
                    RelayTransport::new(bad, Some([1; 32])),
                    Err(TransportError::Address)
                ),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable() {
        let transport = RelayTransport::new("http://127.0.0.1:9", None).unwrap();
        let answer = transport
            .request(Request {
                method: Method::Get,
                path: "/v1/deployment".to_owned(),
                token: None,
                body: Vec::new(),
            })
            .await;
        assert!(matches!(answer, Err(TransportError::Unreachable(_))));
    }
}
