//! How bytes reach the relay: set-up calls and one socket.
//!
//! The rest of the crate sees the two traits' worth of this file alone, so a test can play the
//! relay without a network.

mod http;
mod websocket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use wardline_wire::proto::{ClientFrame, ServerFrame};

pub use http::RelayTransport;

/// A boxed future, for object-safe async traits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why bytes did not get through. None of it names an account or holds content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("the relay cannot be reached ({0}); check the network, messages wait until it is back")]
    Unreachable(String),
    /// The relay's TLS key is not the pinned one, or its certificate is not good.
    #[error(
        "the relay's TLS key is not the one from your invite; do not go on, ask the clinic ({0})"
    )]
    Untrusted(String),
    /// The relay did not answer in time.
    #[error("the relay did not answer in time")]
    TimedOut,
    /// It answered something that is not the protocol.
    #[error("the relay does not speak Wardline's protocol ({0})")]
    Protocol(&'static str),
    /// The address cannot be used.
    #[error(
        "the relay's address is not valid: it must be https://host[:port], or http:// on this machine"
    )]
    Address,
    /// The relay refused the socket with this HTTP status.
    #[error("the relay refused the connection (HTTP {0})")]
    Refused(u16),
}

impl TransportError {
    /// Somebody else's key, told by its hash: the library's own words are no sentence.
    fn other_key(mismatch: wardline_tls::PinMismatch) -> Self {
        Self::Untrusted(format!("it shows {}", hex::encode(mismatch.shown)))
    }
}

/// The methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// One set-up call.
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path from the relay's base address, with the leading `/`.
    pub path: String,
    /// Bearer token, if the call needs one.
    pub token: Option<String>,
    /// Protobuf body.
    pub body: Vec<u8>,
}

/// What came back.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Protobuf message or problem document.
    pub body: Bytes,
}

/// An open socket. Dropping `outgoing` closes it; `incoming` ends when it is closed.
pub struct Socket {
    /// Frames to the relay.
    pub outgoing: mpsc::UnboundedSender<ClientFrame>,
    /// Frames from the relay, or the reason why there will be no more.
    pub incoming: mpsc::Receiver<Result<ServerFrame, TransportError>>,
}

/// A way to a relay.
pub trait Transport: Send + Sync + 'static {
    /// Makes one call.
    fn request(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;

    /// Opens the socket.
    fn open_socket(&self, token: String) -> BoxFuture<'_, Result<Socket, TransportError>>;
}

/// Makes the transport for a relay's address and pinned key.
pub trait Connector: Send + Sync + 'static {
    /// A transport to `relay_url`, whose TLS key must hash to `relay_key_sha256` if given.
    ///
    /// # Errors
    /// [`TransportError::Address`] for an address that cannot be used.
    fn transport(
        &self,
        relay_url: &str,
        relay_key_sha256: Option<[u8; 32]>,
    ) -> Result<Arc<dyn Transport>, TransportError>;
}

/// The real network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Connector for Network {
    fn transport(
        &self,
        relay_url: &str,
        relay_key_sha256: Option<[u8; 32]>,
    ) -> Result<Arc<dyn Transport>, TransportError> {
        Ok(Arc::new(RelayTransport::new(relay_url, relay_key_sha256)?))
    }
}
