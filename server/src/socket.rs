//! A device's WebSocket: one binary message is one frame.
//!
//! Reading and writing are two loops over one socket. The reading loop hands sends
//! to the mailbox and keeps going while they commit; the writing loop holds at most
//! one batch of envelopes at a time and waits for the peer, so a slow device costs
//! a bounded amount of memory and nothing of anyone else.

mod ack;
mod deliver;
mod reauthorize;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use wardline_wire::clock::Timestamp;
use wardline_wire::limits::MAX_FRAME_BYTES;
use wardline_wire::proto::{
    ClientFrame, Error, ErrorCode, ServerFrame, client_frame, server_frame,
};

pub(crate) use self::deliver::is_low;
use crate::app::App;
use crate::auth::DeviceCaller;
use crate::hub::{Ending, Signals, Socket};
use crate::rate_limit::FrameLimit;

/// Sends of one socket that may wait for their commit; then it is not read from.
const SENDS_IN_FLIGHT: usize = 16;
/// Frames that may wait to be written.
const FRAMES_WAITING: usize = 32;
/// How long a peer may take to read what is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long saying goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// Frames in a row that are refused before the socket is closed.
const MAX_REFUSED_IN_A_ROW: u32 = 100;

/// What both loops of a socket know.
struct Session {
    app: Arc<App>,
    caller: DeviceCaller,
    socket: Arc<Socket>,
    limit: FrameLimit,
    /// Milliseconds since the Unix epoch: when the token in force ends.
    expires_at: AtomicU64,
    /// Sequence up to which envelopes may be acknowledged: what was stored at the
    /// start, and what was delivered since.
    acknowledgeable: AtomicU64,
    opened: Instant,
    /// Milliseconds since `opened`: when the peer was last heard.
    heard: AtomicU64,
}

/// Why a socket ends.
enum End {
    /// The peer closed, vanished or does not read.
    Gone,
    /// With a last frame.
    Told(Error),
}

/// Serves a socket until it ends.
pub(crate) async fn run(app: Arc<App>, caller: DeviceCaller, websocket: WebSocket) {
    let (socket, signals) = app.hub.join(caller.address, caller.auth_epoch);
    metrics::gauge!("wardline_relay_sockets").increment(1.0);
    let session = Session {
        limit: app.limits.frames(),
        expires_at: AtomicU64::new(caller.expires_at.as_millis()),
        acknowledgeable: AtomicU64::new(0),
        opened: Instant::now(),
        heard: AtomicU64::new(0),
        socket: Arc::clone(&socket),
        app: Arc::clone(&app),
        caller,
    };
    session.serve(websocket, signals).await;
    app.hub.leave(&socket);
    metrics::gauge!("wardline_relay_sockets").decrement(1.0);
}

impl Session {
    async fn serve(&self, websocket: WebSocket, signals: Signals) {
        let (mut sink, stream) = websocket.split();
        let (out, queue) = mpsc::channel(FRAMES_WAITING);
        let end = {
            let writing = self.write(&mut sink, queue, signals);
            let reading = self.read(stream, out);
            tokio::pin!(writing, reading);
            tokio::select! {
                biased;
                end = &mut writing => end,
                end = &mut reading => end,
            }
        };
        let goodbye = async {
            let (code, reason) = match end {
                End::Gone => (close_code::NORMAL, ""),
                End::Told(error) => {
                    let code = match error.code() {
                        ErrorCode::ShuttingDown => close_code::AWAY,
                        ErrorCode::TooLarge => close_code::SIZE,
                        _ => close_code::POLICY,
                    };
                    let frame = error_frame(error);
                    sink.send(encode(&frame)).await.ok();
                    (code, "see the last frame")
                }
            };
            let close = CloseFrame {
                code,
                reason: reason.into(),
            };
            sink.send(Message::Close(Some(close))).await.ok();
        };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
    }

    /// Reads frames until the peer goes or breaks the rules.
    async fn read(
        &self,
        mut stream: SplitStream<WebSocket>,
        out: mpsc::Sender<ServerFrame>,
    ) -> End {
        let mut in_flight = FuturesOrdered::new();
        let mut refused_in_a_row = 0;
        loop {
            let message = tokio::select! {
                biased;
                Some(answer) = in_flight.next(), if !in_flight.is_empty() => {
                    match answer {
                        Ok(frame) => {
                            if out.send(frame).await.is_err() {
                                return End::Gone;
                            }
                        }
                        Err(end) => return end,
                    }
                    continue;
                }
                message = stream.next(), if in_flight.len() < SENDS_IN_FLIGHT => message,
            };
            self.hear();
            let bytes = match message {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => return End::Gone,
                Some(Ok(Message::Text(_))) => {
                    let refusal =
                        error(ErrorCode::Malformed, "frames are binary messages, not text");
                    refused_in_a_row += 1;
                    if refused_in_a_row >= MAX_REFUSED_IN_A_ROW {
                        return End::Told(closing(refusal));
                    }
                    if out.send(error_frame(refusal)).await.is_err() {
                        return End::Gone;
                    }
                    continue;
                }
                Some(Err(failure)) => return broken(&failure),
            };
            match self.frame(bytes).await {
                Ok(Handled::Nothing) => refused_in_a_row = 0,
                Ok(Handled::Answer(frame)) => {
                    refused_in_a_row = 0;
                    if out.send(*frame).await.is_err() {
                        return End::Gone;
                    }
                }
                Ok(Handled::Later(pending)) => {
                    refused_in_a_row = 0;
                    in_flight.push_back(pending);
                }
                Err(refusal) => {
                    refused_in_a_row += 1;
                    metrics::counter!("wardline_relay_frames_refused_total").increment(1);
                    if refusal.closing || refused_in_a_row >= MAX_REFUSED_IN_A_ROW {
                        return End::Told(closing(refusal));
                    }
                    if out.send(error_frame(refusal)).await.is_err() {
                        return End::Gone;
                    }
                }
            }
        }
    }

    /// One frame. Unknown fields in it are ignored.
    async fn frame(&self, bytes: Bytes) -> Result<Handled<'_>, Error> {
        if let Err(wait) = self.limit.take() {
            return Err(Error {
                retry_after_ms: wait.millis_u32(),
                ..error(
                    ErrorCode::Limited,
                    "too many frames; wait as long as it says",
                )
            });
        }
        let length = bytes.len();
        if length > MAX_FRAME_BYTES {
            return Err(error(
                ErrorCode::TooLarge,
                format!("a frame has at most {MAX_FRAME_BYTES} bytes"),
            ));
        }
        let frame = ClientFrame::decode(bytes)
            .map_err(|_| error(ErrorCode::Malformed, "this is not a frame"))?;
        match frame.frame {
            Some(client_frame::Frame::Send(frame)) => self.send(frame, length).await,
            Some(client_frame::Frame::Acknowledge(frame)) => {
                self.acknowledge(frame).await?;
                Ok(Handled::Nothing)
            }
            Some(client_frame::Frame::Reauthorize(frame)) => {
                let frame = self.reauthorize(frame).await?;
                Ok(Handled::Answer(Box::new(frame)))
            }
            None => Err(error(
                ErrorCode::Malformed,
                "the frame is empty, or of a kind that this relay does not know",
            )),
        }
    }

    fn hear(&self) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    /// How long the peer has been silent.
    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard)
    }

    fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.expires_at.load(Ordering::Relaxed))
    }
}

/// What came of a frame.
enum Handled<'a> {
    Nothing,
    Answer(Box<ServerFrame>),
    /// The answer follows once the send is durable.
    Later(futures_util::future::BoxFuture<'a, Result<ServerFrame, End>>),
}

type Sink = SplitSink<WebSocket, Message>;

fn encode(frame: &ServerFrame) -> Message {
    Message::Binary(frame.encode_to_vec().into())
}

fn frame(frame: server_frame::Frame) -> ServerFrame {
    ServerFrame { frame: Some(frame) }
}

fn error_frame(error: Error) -> ServerFrame {
    frame(server_frame::Frame::Error(error))
}

/// A refusal; the socket stays open.
fn error(code: ErrorCode, detail: impl Into<String>) -> Error {
    Error {
        code: code.into(),
        detail: detail.into(),
        send_id: Vec::new(),
        closing: false,
        retry_after_ms: 0,
    }
}

/// The same, as the last frame.
fn closing(mut error: Error) -> Error {
    error.closing = true;
    error
}

fn ending(ending: Ending) -> Error {
    closing(match ending {
        Ending::Revoked => error(
            ErrorCode::Revoked,
            "this device or account was taken off the clinic's directory",
        ),
        Ending::Changed => error(
            ErrorCode::Unauthorized,
            "something about the account changed; log in again",
        ),
        Ending::Replaced => error(
            ErrorCode::Replaced,
            "another socket of this device took over",
        ),
        Ending::ShuttingDown => error(
            ErrorCode::ShuttingDown,
            "the relay goes down; connect again in a moment",
        ),
    })
}

/// A message that the WebSocket layer gave up on.
fn broken(failure: &axum::Error) -> End {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(failure);
    while let Some(current) = source {
        match current.downcast_ref::<tungstenite::Error>() {
            Some(tungstenite::Error::Capacity(_)) => {
                return End::Told(closing(error(
                    ErrorCode::TooLarge,
                    format!("a frame has at most {MAX_FRAME_BYTES} bytes"),
                )));
            }
            Some(tungstenite::Error::Utf8(_)) => {
                return End::Told(closing(error(
                    ErrorCode::Malformed,
                    "frames are binary messages, not text",
                )));
            }
            _ => source = current.source(),
        }
    }
    End::Gone
}
