//! Asks a running relay whether it is ready: for containers without other tools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::serve;

const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Why the relay is not ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody answers there, or not as a relay would.
    #[error("{0} does not answer: {1}")]
    Silent(SocketAddr, String),
    /// It answers, and is not ready.
    #[error("the relay is not ready: {0}")]
    NotReady(String),
}

/// Asks `/readyz` of the relay with this configuration, on `port` if it is another
/// than the configured one. With TLS, the relay must show the configured key.
///
/// # Errors
/// [`HealthError`] saying what it did instead.
pub async fn check(config: &Config, port: Option<u16>) -> Result<(), HealthError> {
    let ip = match config.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, port.unwrap_or(config.listen.port()));
    let silent = |error: String| HealthError::Silent(address, error);
    let status = tokio::time::timeout(PATIENCE, ask(config, address))
        .await
        .map_err(|_| silent("it takes too long".to_owned()))?
        .map_err(silent)?;
    if status.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(HealthError::NotReady(status))
    }
}

async fn ask(config: &Config, address: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let Some(tls) = &config.tls else {
        return talk(stream).await.map_err(|error| error.to_string());
    };
    let chain = serve::read_chain(&config.resolve(&tls.certificate_file))?;
    let own = chain.first().ok_or("there is no certificate")?;
    let pin = wardline_tls::spki_sha256(own).map_err(|error| error.to_string())?;
    let client = wardline_tls::client_config(Some(pin)).map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    talk(stream).await.map_err(|error| error.to_string())
}

/// The status line of the answer.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
