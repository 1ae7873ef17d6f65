//! A relay that lies: a proxy between endpoints and a real relay.
//!
//! It understands everything that passes, HTTP bodies and socket frames alike,
//! and a test tells it what to do with each. Untold, it passes everything on
//! unchanged. It holds what the operator of a relay holds: who logged in on
//! which socket, every envelope that went by ([`HostileRelay::seen`]), and, on
//! the other side, the real relay's database ([`crate::relay::Relay::snapshot`]).
//!
//! Envelopes that reach a device are numbered anew, and acknowledgements are
//! translated back, so that what was dropped leaves no hole in the numbers and
//! what was injected looks like any other: the endpoints get no help from a
//! clumsy attacker.
//!
//! ```no_run
//! # async fn example(hostile: &wardline_e2e::hostile::HostileRelay,
//! #     bob: wardline_wire::ids::DeviceAddress) -> anyhow::Result<()> {
//! hostile.hold(bob); // … two messages are sent to Bob …
//! let mut held = hostile.held(bob, 2).await?;
//! held.reverse();
//! hostile.release(bob, held)?; // reordered
//! # Ok(()) }
//! ```

mod http;
mod numbering;
mod socket;

use std::collections::HashMap;
use std::marker;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wardline_wire::ids::{AccountId, DeviceAddress};
use wardline_wire::proto::{AccountRecord, ClientFrame, Envelope, Send, ServerFrame};

pub use http::Exchange;

use crate::process::eventually;
use numbering::Numbering;

/// What a lie about HTTP looks like: it sees the exchange and may change it.
type HttpRule = Box<dyn FnMut(&mut Exchange) + marker::Send>;
/// What a lie about a device's frame looks like.
type ClientRule = Box<dyn FnMut(DeviceAddress, ClientFrame) -> Outcome + marker::Send>;
/// What a lie about the relay's frame looks like.
type ServerRule = Box<dyn FnMut(DeviceAddress, ServerFrame) -> Vec<ServerFrame> + marker::Send>;
/// What a lie about an envelope looks like.
type EnvelopeRule = Box<dyn FnMut(DeviceAddress, Envelope) -> Vec<Envelope> + marker::Send>;

/// What becomes of one frame from a device.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Goes on to the relay.
    pub to_relay: Vec<ClientFrame>,
    /// Goes back to the device, as if the relay had said it.
    pub to_device: Vec<ServerFrame>,
}

impl Outcome {
    /// The frame goes on.
    pub fn forward(frame: ClientFrame) -> Self {
        Self {
            to_relay: vec![frame],
            to_device: Vec::new(),
        }
    }

    /// The frame vanishes.
    pub fn swallow() -> Self {
        Self::default()
    }

    /// The frame vanishes and the device gets this answer.
    pub fn answer(frame: ServerFrame) -> Self {
        Self {
            to_relay: Vec::new(),
            to_device: vec![frame],
        }
    }
}

/// A lying relay. It stops when dropped.
pub struct HostileRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Everything the proxy knows, in one place behind one lock: tests, not load.
#[derive(Default)]
struct State {
    upstream: String,
    on_request: Vec<HttpRule>,
    on_answer: Vec<HttpRule>,
    on_client_frame: Option<ClientRule>,
    on_server_frame: Option<ServerRule>,
    on_envelope: Option<EnvelopeRule>,
    /// Which token belongs to which device: seen at log-in.
    tokens: HashMap<String, DeviceAddress>,
    mailboxes: HashMap<DeviceAddress, Mailbox>,
    exchanges: Vec<Exchange>,
    sends: Vec<(DeviceAddress, Send)>,
}

/// What the proxy does with the envelopes of one device.
#[derive(Default)]
struct Mailbox {
    numbering: Numbering,
    is_held: bool,
    held: Vec<Envelope>,
    seen: Vec<Envelope>,
    socket: Option<mpsc::UnboundedSender<Vec<ServerFrame>>>,
    sockets: u64,
}

struct Shared {
    state: Mutex<State>,
    client: reqwest::Client,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HostileRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HostileRelay {
    /// Starts one in front of the relay at `upstream` ("http://127.0.0.1:PORT").
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: &str) -> anyhow::Result<Self> {
        crate::install_tls();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("no HTTP client")?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                upstream: upstream.trim_end_matches('/').to_owned(),
                ..State::default()
            }),
            client,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = http::router(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // Ends when the proxy is dropped.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where endpoints are sent: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The real relay moved (it was restarted on another port).
    pub fn set_upstream(&self, upstream: &str) {
        upstream
            .trim_end_matches('/')
            .clone_into(&mut self.shared.state().upstream);
    }

    /// Forgets every lie; what is held stays held.
    pub fn be_honest(&self) {
        let mut state = self.shared.state();
        state.on_request.clear();
        state.on_answer.clear();
        state.on_client_frame = None;
        state.on_server_frame = None;
        state.on_envelope = None;
    }

    /// Shows every HTTP request to `rule` before it goes on.
    pub fn on_request(&self, rule: impl FnMut(&mut Exchange) + marker::Send + 'static) {
        self.shared.state().on_request.push(Box::new(rule));
    }

    /// Shows every HTTP answer to `rule` before it goes back.
    pub fn on_answer(&self, rule: impl FnMut(&mut Exchange) + marker::Send + 'static) {
        self.shared.state().on_answer.push(Box::new(rule));
    }

    /// Alters the protobuf body of every good answer to `method path…`.
    pub fn alter_answers<M: prost::Message + Default>(
        &self,
        method: &'static str,
        path: impl Into<String>,
        mut alter: impl FnMut(&Exchange, &mut M) + marker::Send + 'static,
    ) {
        let path = path.into();
        self.on_answer(move |exchange| {
            if exchange.method == method
                && exchange.path.starts_with(&path)
                && (200..300).contains(&exchange.status)
                && let Ok(mut message) = M::decode(exchange.answer.as_slice())
            {
                alter(exchange, &mut message);
                exchange.answer = message.encode_to_vec();
            }
        });
    }

    /// Alters every answer about `account`, asked for by id or by handle.
    pub fn alter_records(
        &self,
        account: AccountId,
        mut alter: impl FnMut(&mut AccountRecord) + marker::Send + 'static,
    ) {
        self.on_answer(move |exchange| {
            let asks = exchange.path.starts_with("/v1/accounts/")
                || exchange.path.starts_with("/v1/handles/");
            if exchange.method == "GET"
                && asks
                && exchange.status == 200
                && let Ok(mut record) = AccountRecord::decode(exchange.answer.as_slice())
                && record.account_id == account.as_bytes()
            {
                alter(&mut record);
                exchange.answer = record.encode_to_vec();
            }
        });
    }

    /// Alters the protobuf body of every request `method path…`.
    pub fn alter_requests<M: prost::Message + Default>(
        &self,
        method: &'static str,
        path: impl Into<String>,
        mut alter: impl FnMut(&Exchange, &mut M) + marker::Send + 'static,
    ) {
        let path = path.into();
        self.on_request(move |exchange| {
            if exchange.method == method
                && exchange.path.starts_with(&path)
                && let Ok(mut message) = M::decode(exchange.request.as_slice())
            {
                alter(exchange, &mut message);
                exchange.request = message.encode_to_vec();
            }
        });
    }

    /// Decides what becomes of every frame that a device sends.
    pub fn on_client_frame(
        &self,
        rule: impl FnMut(DeviceAddress, ClientFrame) -> Outcome + marker::Send + 'static,
    ) {
        self.shared.state().on_client_frame = Some(Box::new(rule));
    }

    /// Decides what becomes of every frame to a device but `Deliver`.
    pub fn on_server_frame(
        &self,
        rule: impl FnMut(DeviceAddress, ServerFrame) -> Vec<ServerFrame> + marker::Send + 'static,
    ) {
        self.shared.state().on_server_frame = Some(Box::new(rule));
    }

    /// Decides what becomes of every envelope on its way to a device: none
    /// drops it, two duplicate it, a changed one is altered.
    pub fn on_envelope(
        &self,
        rule: impl FnMut(DeviceAddress, Envelope) -> Vec<Envelope> + marker::Send + 'static,
    ) {
        self.shared.state().on_envelope = Some(Box::new(rule));
    }

    /// Keeps every envelope for `device` back from now on.
    pub fn hold(&self, device: DeviceAddress) {
        self.shared.state().mailbox(device).is_held = true;
    }

    /// Waits until at least `count` envelopes for `device` are held back, and
    /// takes all that are.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn held(&self, device: DeviceAddress, count: usize) -> anyhow::Result<Vec<Envelope>> {
        eventually(&format!("{count} held envelopes"), || async {
            let mut state = self.shared.state();
            let held = &mut state.mailbox(device).held;
            Ok((held.len() >= count).then(|| std::mem::take(held)))
        })
        .await
    }

    /// How many envelopes for `device` are held back now.
    pub fn held_count(&self, device: DeviceAddress) -> usize {
        self.shared.state().mailbox(device).held.len()
    }

    /// Lets envelopes for `device` through again from now on; what was held and
    /// not taken goes out first.
    ///
    /// # Errors
    /// When the device has no open socket and something is to go out.
    pub fn let_through(&self, device: DeviceAddress) -> anyhow::Result<()> {
        let held = {
            let mut state = self.shared.state();
            let mailbox = state.mailbox(device);
            mailbox.is_held = false;
            std::mem::take(&mut mailbox.held)
        };
        if held.is_empty() {
            return Ok(());
        }
        self.release(device, held)
    }

    /// Delivers these envelopes to `device` now, in this order: released,
    /// reordered, replayed or made up.
    ///
    /// # Errors
    /// When the device has no open socket.
    pub fn release(&self, device: DeviceAddress, envelopes: Vec<Envelope>) -> anyhow::Result<()> {
        let mut state = self.shared.state();
        let mailbox = state.mailbox(device);
        let frame = mailbox.numbering.deliver(envelopes);
        mailbox
            .socket
            .as_ref()
            .and_then(|socket| socket.send(vec![frame]).ok())
            .with_context(|| format!("{device} has no open socket"))
    }

    /// Every envelope for `device` that came from the relay, in order, as it came.
    pub fn seen(&self, device: DeviceAddress) -> Vec<Envelope> {
        self.shared.state().mailbox(device).seen.clone()
    }

    /// Every envelope for anybody.
    pub fn all_seen(&self) -> Vec<Envelope> {
        let state = self.shared.state();
        let mailboxes = state.mailboxes.values();
        mailboxes.flat_map(|mailbox| mailbox.seen.clone()).collect()
    }

    /// Every send that a device handed in, in order, whatever became of it.
    pub fn sends(&self) -> Vec<(DeviceAddress, Send)> {
        self.shared.state().sends.clone()
    }

    /// Every HTTP exchange, in order, as it went back.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// Cuts the socket of `device`; the device may connect again.
    pub fn cut(&self, device: DeviceAddress) {
        self.shared.state().mailbox(device).socket = None;
    }

    /// Waits until `device` has an open socket.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until_connected(&self, device: DeviceAddress) -> anyhow::Result<()> {
        eventually(&format!("a socket of {device}"), || async {
            let mut state = self.shared.state();
            let socket = state.mailbox(device).socket.as_ref();
            Ok(socket
                .is_some_and(|socket| !socket.is_closed())
                .then_some(()))
        })
        .await
    }
}

impl State {
    fn mailbox(&mut self, device: DeviceAddress) -> &mut Mailbox {
        self.mailboxes.entry(device).or_default()
    }
}
