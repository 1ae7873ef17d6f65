//! The socket half of the proxy.

use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::ws::{CloseFrame, Message as Down, WebSocket};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message as Up};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wardline_wire::ids::DeviceAddress;
use wardline_wire::proto::{ClientFrame, Envelope, ServerFrame, client_frame, server_frame};

use super::{Mailbox, Outcome, Shared, State};

pub(super) type Upstream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens the socket at the real relay. A refusal comes back as the answer to pass on.
pub(super) async fn connect(shared: &Shared, token: Option<&str>) -> Result<Upstream, Response> {
    let upstream = shared.state().upstream.clone();
    let attempt = async {
        let url = format!("{}/v1/socket", upstream.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse()?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        tokio_tungstenite::connect_async(request).await
    };
    match attempt.await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(refused)) => {
            let (parts, body) = refused.into_parts();
            let mut response = Response::new(body.unwrap_or_default().into());
            *response.status_mut() = parts.status;
            *response.headers_mut() = parts.headers;
            Err(response)
        }
        Err(error) => Err((StatusCode::BAD_GATEWAY, error.to_string()).into_response()),
    }
}

/// Passes frames both ways until either side ends.
pub(super) async fn pump(
    shared: Arc<Shared>,
    device: Option<DeviceAddress>,
    downstream: WebSocket,
    upstream: Upstream,
) {
    let (sender, injected) = mpsc::unbounded_channel();
    let number = device.map(|device| {
        let mut state = shared.state();
        let mailbox = state.mailbox(device);
        mailbox.socket = Some(sender.clone());
        mailbox.sockets += 1;
        mailbox.sockets
    });
    if device.is_some() {
        // A device's own sender is the mailbox's, so that cutting it ends this socket.
        drop(sender);
        // A broken socket is an ordinary end here.
        let _ = pass_frames(&shared, device, downstream, upstream, injected).await;
    } else {
        let _ = pass_frames(&shared, None, downstream, upstream, injected).await;
        drop(sender);
    }
    if let Some(device) = device {
        let mut state = shared.state();
        let mailbox = state.mailbox(device);
        if Some(mailbox.sockets) == number {
            mailbox.socket = None;
        }
    }
}

async fn pass_frames(
    shared: &Shared,
    device: Option<DeviceAddress>,
    downstream: WebSocket,
    upstream: Upstream,
    mut injected: mpsc::UnboundedReceiver<Vec<ServerFrame>>,
) -> anyhow::Result<()> {
    let (mut down_out, mut down_in) = downstream.split();
    let (mut up_out, mut up_in) = upstream.split();
    loop {
        tokio::select! {
            // What is injected goes first, so that a test's order is the device's order.
            biased;
            frames = injected.recv() => {
                let frames = frames.context("the socket is cut")?;
                for frame in frames {
                    down_out.send(Down::Binary(frame.encode_to_vec().into())).await?;
                }
            }
            message = down_in.next() => match message.context("the device is gone")?? {
                Down::Binary(bytes) => {
                    let outcome = device
                        .zip(ClientFrame::decode(&*bytes).ok())
                        .map(|(device, frame)| shared.state().client_frame(device, frame));
                    match outcome {
                        Some(outcome) => {
                            for frame in outcome.to_relay {
                                up_out.send(Up::Binary(frame.encode_to_vec().into())).await?;
                            }
                            for frame in outcome.to_device {
                                down_out.send(Down::Binary(frame.encode_to_vec().into())).await?;
                            }
                        }
                        None => up_out.send(Up::Binary(bytes)).await?,
                    }
                }
                Down::Text(text) => up_out.send(Up::Text(text.as_str().into())).await?,
                Down::Ping(_) | Down::Pong(_) => {}
                Down::Close(_) => {
                    up_out.send(Up::Close(None)).await?;
                    return Ok(());
                }
            },
            message = up_in.next() => match message.context("the relay is gone")?? {
                Up::Binary(bytes) => {
                    let frames = device
                        .zip(ServerFrame::decode(&*bytes).ok())
                        .map(|(device, frame)| shared.state().server_frame(device, frame));
                    match frames {
                        Some(frames) => {
                            for frame in frames {
                                down_out.send(Down::Binary(frame.encode_to_vec().into())).await?;
                            }
                        }
                        None => down_out.send(Down::Binary(bytes)).await?,
                    }
                }
                Up::Text(text) => down_out.send(Down::Text(text.as_str().into())).await?,
                Up::Ping(_) | Up::Pong(_) | Up::Frame(_) => {}
                Up::Close(frame) => {
                    let frame = frame.map(|frame| CloseFrame {
                        code: frame.code.into(),
                        reason: frame.reason.as_str().into(),
                    });
                    down_out.send(Down::Close(frame)).await?;
                    return Ok(());
                }
            },
        }
    }
}

impl State {
    fn client_frame(&mut self, device: DeviceAddress, frame: ClientFrame) -> Outcome {
        if let Some(client_frame::Frame::Send(send)) = &frame.frame {
            self.sends.push((device, send.clone()));
        }
        let mut outcome = match &mut self.on_client_frame {
            Some(rule) => rule(device, frame),
            None => Outcome::forward(frame),
        };
        let numbering = &self.mailbox(device).numbering;
        outcome.to_relay.retain_mut(|frame| {
            let Some(client_frame::Frame::Acknowledge(acknowledge)) = &mut frame.frame else {
                return true;
            };
            match numbering.acknowledge(*acknowledge) {
                Some(translated) => {
                    *acknowledge = translated;
                    true
                }
                None => false,
            }
        });
        outcome
    }

    fn server_frame(&mut self, device: DeviceAddress, frame: ServerFrame) -> Vec<ServerFrame> {
        match frame.frame {
            Some(server_frame::Frame::Deliver(deliver)) => {
                self.mailbox(device).numbering.set_epoch(deliver.epoch);
                let through: Vec<Envelope> = deliver
                    .envelopes
                    .into_iter()
                    .flat_map(|envelope| self.envelope(device, envelope))
                    .collect();
                if through.is_empty() {
                    return Vec::new();
                }
                vec![self.mailbox(device).renumber(through)]
            }
            other => {
                let frame = self.mailbox(device).translate(other);
                match &mut self.on_server_frame {
                    Some(rule) => rule(device, frame),
                    None => vec![frame],
                }
            }
        }
    }

    /// What goes out at once for one envelope from the relay.
    fn envelope(&mut self, device: DeviceAddress, envelope: Envelope) -> Vec<Envelope> {
        let mailbox = self.mailbox(device);
        let is_new = envelope.ephemeral || mailbox.seen.iter().all(|old| old.seq != envelope.seq);
        if is_new {
            mailbox.seen.push(envelope.clone());
        }
        if mailbox.is_held {
            // After a reconnect the relay sends again what was never acknowledged.
            if is_new {
                mailbox.held.push(envelope);
            }
            return Vec::new();
        }
        match &mut self.on_envelope {
            Some(rule) => rule(device, envelope),
            None => vec![envelope],
        }
    }
}

impl Mailbox {
    /// Numbers what goes out. An envelope that was shown before keeps its number.
    fn renumber(&mut self, envelopes: Vec<Envelope>) -> ServerFrame {
        let is_repeat = |envelope: &Envelope| {
            !envelope.ephemeral && self.numbering.shown_as(envelope.seq).is_some()
        };
        let (again, new): (Vec<_>, Vec<_>) = envelopes.into_iter().partition(is_repeat);
        let mut frame = self.numbering.deliver(new);
        if let Some(server_frame::Frame::Deliver(deliver)) = &mut frame.frame {
            let again = again.into_iter().map(|mut envelope| {
                envelope.seq = self.numbering.shown_as(envelope.seq).unwrap_or_default();
                envelope
            });
            deliver.envelopes.splice(0..0, again);
        }
        frame
    }

    fn translate(&mut self, frame: Option<server_frame::Frame>) -> ServerFrame {
        let frame = frame.map(|frame| match frame {
            server_frame::Frame::Hello(mut hello) => {
                self.numbering.set_epoch(hello.epoch);
                hello.newest_seq = self.numbering.newest(hello.newest_seq);
                server_frame::Frame::Hello(hello)
            }
            server_frame::Frame::Drained(mut drained) => {
                drained.seq = self.numbering.shown_as(drained.seq).unwrap_or(drained.seq);
                server_frame::Frame::Drained(drained)
            }
            other => other,
        });
        ServerFrame { frame }
    }
}
