//! Keeps one socket open: log-in, back-off with jitter, a fresh token before the old one ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::client_frame::Frame as ToRelay;
use wardline_wire::proto::server_frame::Frame as FromRelay;
use wardline_wire::proto::{ClientFrame, ErrorCode, Reauthorize, ServerFrame};

use crate::random;
use crate::relay::{Relay, RelayError};
use crate::transport::{Socket, TransportError};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// Another process took our place: it is not fought over.
const REPLACED_DELAY: Duration = Duration::from_mins(2);
/// A socket that lived this long was a success, however it ended.
const GOOD_LIFE: Duration = Duration::from_secs(20);

/// What the actor hears of the connection.
pub(crate) enum ConnectionEvent {
    /// Open; frames go here. Dropping the sender closes it.
    Opened(mpsc::UnboundedSender<ClientFrame>),
    /// A frame from the relay.
    Frame(Box<ServerFrame>),
    /// Closed or not opened; the next try comes by itself unless `refused`.
    Closed {
        /// In plain words.
        reason: String,
        /// The relay will not have us.
        refused: bool,
        /// It says that this device or account was revoked.
        revoked: bool,
    },
}

/// How a socket's life ended.
struct End {
    reason: String,
    refused: bool,
    revoked: bool,
    replaced: bool,
}

impl End {
    fn lost(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            refused: false,
            revoked: false,
            replaced: false,
        }
    }
}

/// Runs until the actor drops its receiver.
pub(crate) async fn run(relay: Arc<Relay>, events: mpsc::Sender<ConnectionEvent>) {
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let end = match relay.open_socket().await {
            Ok((socket, life)) => live(&relay, socket, life, &events).await,
            Err(error) => Some(refusal(&error)),
        };
        let Some(end) = end else { return };
        if started.elapsed() > GOOD_LIFE {
            delay = FIRST_DELAY;
        }
        let pause = if end.replaced { REPLACED_DELAY } else { delay };
        let event = ConnectionEvent::Closed {
            reason: end.reason,
            refused: end.refused,
            revoked: end.revoked,
        };
        if events.send(event).await.is_err() {
            return;
        }
        let jitter = u64::try_from(pause.as_millis()).unwrap_or(0) / 2;
        tokio::select! {
            () = sleep(pause + Duration::from_millis(random::below(jitter + 1))) => {}
            () = events.closed() => return,
        }
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

fn refusal(error: &RelayError) -> End {
    let revoked = error.kind() == Some(ProblemKind::Revoked);
    End {
        reason: error.to_string(),
        refused: revoked
            || error.kind() == Some(ProblemKind::Forbidden)
            || matches!(error, RelayError::Transport(TransportError::Untrusted(_))),
        revoked,
        replaced: false,
    }
}

/// `None` when the actor is gone.
async fn live(
    relay: &Relay,
    socket: Socket,
    life: Duration,
    events: &mpsc::Sender<ConnectionEvent>,
) -> Option<End> {
    let Socket {
        outgoing,
        mut incoming,
    } = socket;
    // The actor's sender is a separate channel, so that dropping it closes the socket although
    // this task also sends (fresh tokens).
    let (to_socket, mut from_actor) = mpsc::unbounded_channel();
    events.send(ConnectionEvent::Opened(to_socket)).await.ok()?;
    let mut renew_at = Instant::now() + life.mul_f64(0.75);
    loop {
        tokio::select! {
            frame = from_actor.recv() => if let Some(frame) = frame {
                if outgoing.send(frame).is_err() {
                    return Some(End::lost("the connection broke"));
                }
            } else {
                if events.is_closed() {
                    return None;
                }
                return Some(End::lost("closed on this side"));
            },
            frame = incoming.recv() => match frame {
                Some(Ok(frame)) => {
                    let end = closing(relay, &frame).await;
                    if let Some(FromRelay::Reauthorized(reauthorized)) = &frame.frame {
                        let life = Duration::from_millis(u64::from(reauthorized.valid_for_ms));
                        renew_at = Instant::now() + life.mul_f64(0.75);
                    }
                    events.send(ConnectionEvent::Frame(Box::new(frame))).await.ok()?;
                    if end.is_some() {
                        return end;
                    }
                }
                Some(Err(error)) => return Some(End::lost(error.to_string())),
                None => return Some(End::lost("the relay closed the connection")),
            },
            () = sleep_until(renew_at) => {
                relay.forget_token().await;
                match relay.token().await {
                    Ok((token, life)) => {
                        let frame = ClientFrame { frame: Some(ToRelay::Reauthorize(Reauthorize { token })) };
                        let _ = outgoing.send(frame);
                        renew_at = Instant::now() + life.mul_f64(0.75);
                    }
                    // The old token still has a quarter of its life: try again in a while.
                    Err(_) => renew_at = Instant::now() + Duration::from_secs(15),
                }
            }
        }
    }
}

async fn closing(relay: &Relay, frame: &ServerFrame) -> Option<End> {
    let Some(FromRelay::Error(error)) = &frame.frame else {
        return None;
    };
    if !error.closing {
        return None;
    }
    let code = error.code();
    if code == ErrorCode::Unauthorized {
        relay.forget_token().await;
    }
    let revoked = code == ErrorCode::Revoked;
    let replaced = code == ErrorCode::Replaced;
    let reason = match code {
        ErrorCode::Revoked => "this device was revoked; speak to the clinic",
        ErrorCode::Replaced => {
            "another process connected as this device; was the profile folder copied?"
        }
        ErrorCode::ShuttingDown => "the relay is restarting",
        _ => "the relay closed the connection",
    };
    if revoked {
        relay.forget_token().await;
    }
    Some(End {
        reason: reason.to_owned(),
        refused: revoked || replaced,
        revoked,
        replaced,
    })
}
