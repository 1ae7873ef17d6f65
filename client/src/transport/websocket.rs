//! The socket: one binary WebSocket message is one frame.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use wardline_wire::limits::MAX_FRAME_BYTES;
use wardline_wire::proto::{ClientFrame, ServerFrame};

use super::{Socket, TransportError};

/// How often the relay is pinged.
const PING_EVERY: Duration = Duration::from_secs(25);
/// Nothing heard for this long: the connection is gone, whatever TCP thinks.
const SILENCE_LIMIT: Duration = Duration::from_secs(70);
/// Frames that may wait for the actor; beyond that TCP pushes back.
const INCOMING_FRAMES: usize = 16;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) async fn open(
    url: &Url,
    tls: Option<Arc<rustls::ClientConfig>>,
    token: &str,
) -> Result<Socket, TransportError> {
    let host = url.host_str().ok_or(TransportError::Address)?;
    let port = url.port_or_known_default().ok_or(TransportError::Address)?;
    let bare_host = host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((bare_host, port))
        .await
        .map_err(|error| TransportError::Unreachable(error.to_string()))?;
    // Frames are small and people wait for them.
    tcp.set_nodelay(true)
        .map_err(|error| TransportError::Unreachable(error.to_string()))?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let name = rustls::pki_types::ServerName::try_from(bare_host.to_owned())
                .map_err(|_| TransportError::Address)?;
            let stream = TlsConnector::from(config)
                .connect(name, tcp)
                .await
                .map_err(|error| match error.get_ref() {
                    _ if let Some(mismatch) = wardline_tls::find_pin_mismatch(&error) => {
                        TransportError::other_key(mismatch)
                    }
                    Some(inner) if inner.is::<rustls::Error>() => {
                        TransportError::Untrusted(inner.to_string())
                    }
                    _ => TransportError::Unreachable(error.to_string()),
                })?;
            Box::new(stream)
        }
    };
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    let address = format!("{scheme}://{host}:{port}{}", url.path());
    let mut request = address
        .into_client_request()
        .map_err(|_| TransportError::Address)?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| TransportError::Protocol("the token is not text"))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let (stream, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
        .await
        .map_err(|error| match error {
            WsError::Http(response) => TransportError::Refused(response.status().as_u16()),
            WsError::Io(error) => TransportError::Unreachable(error.to_string()),
            _ => TransportError::Protocol("the WebSocket handshake failed"),
        })?;
    let (outgoing, from_actor) = mpsc::unbounded_channel();
    let (to_actor, incoming) = mpsc::channel(INCOMING_FRAMES);
    tokio::spawn(pump(stream, from_actor, to_actor));
    Ok(Socket { outgoing, incoming })
}

async fn pump(
    stream: WebSocketStream<Box<dyn Stream>>,
    mut from_actor: mpsc::UnboundedReceiver<ClientFrame>,
    to_actor: mpsc::Sender<Result<ServerFrame, TransportError>>,
) {
    let (mut sink, mut stream) = stream.split();
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let end = loop {
        tokio::select! {
            frame = from_actor.recv() => {
                let Some(frame) = frame else { break None };
                let message = Message::Binary(frame.encode_to_vec().into());
                if sink.send(message).await.is_err() {
                    break Some(TransportError::Unreachable("the connection broke".to_owned()));
                }
            }
            message = stream.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(bytes))) => match ServerFrame::decode(bytes) {
                        Ok(frame) => {
                            if to_actor.send(Ok(frame)).await.is_err() {
                                break None;
                            }
                        }
                        Err(_) => break Some(TransportError::Protocol("a frame cannot be read")),
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                        break Some(TransportError::Protocol("a frame is not binary"));
                    }
                    Some(Ok(Message::Close(_))) | None => {
                        break Some(TransportError::Unreachable("the relay closed the connection".to_owned()));
                    }
                    Some(Err(WsError::Capacity(_))) => {
                        break Some(TransportError::Protocol("a frame is too large"));
                    }
                    Some(Err(_)) => {
                        break Some(TransportError::Unreachable("the connection broke".to_owned()));
                    }
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_LIMIT
                    || sink.send(Message::Ping(bytes::Bytes::new())).await.is_err()
                {
                    break Some(TransportError::TimedOut);
                }
            }
        }
    };
    match end {
        Some(error) => {
            let _ = to_actor.send(Err(error)).await;
        }
        None => {
            let _ = sink.close().await;
        }
    }
}
