//! The one writer: takes commands, frames, answers and ticks, one after the other, each in a turn.
//!
//! ```text
//!   handles ──commands──▶ ┌───────┐ ──turn──▶ database (one transaction)
//!   socket  ──frames────▶ │ actor │
//!   calls   ──answers───▶ └───────┘ ──effects, after the commit──▶ socket, calls, subscribers
//! ```
//! The actor itself decides nothing: it routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use wardline_wire::clock::Clock;
use wardline_wire::ids::{AccountId, SendId};
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::server_frame::Frame as FromRelay;
use wardline_wire::proto::{
    AccountRecord, BundleSet, ClientFrame, PreKeyStock, PreKeyUpload, RevocationBundle, ServerFrame,
};

use crate::connection::{self, ConnectionEvent};
use crate::membership::Logs;
use crate::notice::{ConnectionState, Notification};
use crate::outbox;
use crate::prekeys;
use crate::receive;
use crate::relay::{Relay, RelayError};
use crate::session;
use crate::store::own::{self, OwnState};
use crate::store::{StoreError, outbox as outbox_table};
use crate::transport::BoxFuture;
use crate::turn::{Call, CallKey, Effects, Identity, Turn};
use crate::upkeep;

/// Sends that may wait for the relay's answer at once.
const WINDOW: usize = 16;
/// A send without an answer goes out again after this; the relay knows it by its id.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the actor looks at what is due.
const TICK: Duration = Duration::from_secs(1);

/// Something that runs in a turn for a handle.
pub(crate) trait Task: Send {
    /// Runs inside the turn.
    fn run<'t>(&'t mut self, turn: &'t mut Turn<'_>) -> BoxFuture<'t, Result<(), StoreError>>;
    /// Tells the caller, after commit or rollback.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What handles ask of the actor.
pub(crate) enum Command {
    /// Run this in a turn.
    Task(Box<dyn Task>),
    /// Connect, and stay connected.
    Start,
    /// Close everything; answered when the database is closed.
    Shutdown(oneshot::Sender<()>),
}

/// How busy the actor is, for those who wait until it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    pub(crate) connection: ConnectionState,
    /// Everything that was stored when the socket opened has been taken.
    pub(crate) drained: bool,
    /// Something is on its way or could be.
    pub(crate) busy: bool,
    pub(crate) state: OwnState,
}

/// What a call came back with.
pub(crate) enum Answer {
    Account(AccountId, Result<Box<AccountRecord>, RelayError>),
    Bundles(AccountId, Result<BundleSet, RelayError>),
    Upload(Box<PreKeyUpload>, Result<PreKeyStock, RelayError>),
    Stock(Result<PreKeyStock, RelayError>),
    Revocations(Result<Option<RevocationBundle>, RelayError>),
    /// A list that did not get through is published with the next connection.
    DeviceList,
}

/// Everything the actor owns.
pub(crate) struct Actor {
    db: SqliteConnection,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    relay: Arc<Relay>,
    commands: mpsc::Receiver<Command>,
    notifications: broadcast::Sender<Notification>,
    activity: watch::Sender<Activity>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    connection: Option<mpsc::Receiver<ConnectionEvent>>,
    connection_task: Option<JoinHandle<()>>,
    outgoing: Option<mpsc::UnboundedSender<ClientFrame>>,
    running: HashSet<CallKey>,
    in_flight: HashMap<SendId, Instant>,
    drained: bool,
    outbox_changed: bool,
    state: ConnectionState,
    ticks: u64,
    logs: Logs,
}

/// Runs `$body` in a turn: commits and carries out its effects, or rolls back.
macro_rules! in_turn {
    ($actor:expr, |$turn:ident| $body:expr) => {{
        let mut transaction = $actor.db.begin().await.map_err(StoreError::from)?;
        let mut $turn = Turn {
            db: &mut transaction,
            now: $actor.clock.now(),
            identity: $actor.identity.clone(),
            logs: &mut $actor.logs,
            effects: Effects::default(),
        };
        let result: Result<_, StoreError> = $body;
        let effects = std::mem::take(&mut $turn.effects);
        match result {
            Ok(value) => {
                transaction.commit().await.map_err(StoreError::from)?;
                $actor.carry_out(effects).await?;
                Ok(value)
            }
            Err(error) => {
                $actor.logs.forget();
                // A transaction that cannot be rolled back is rolled back by the next one.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }};
}

/// Handles and channels of a running actor.
pub(crate) struct Running {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) notifications: broadcast::Sender<Notification>,
    pub(crate) activity: watch::Receiver<Activity>,
}

/// Starts the actor on its own task.
pub(crate) fn spawn(
    db: SqliteConnection,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    relay: Arc<Relay>,
    keep: impl Send + 'static,
) -> Running {
    let (commands, from_handles) = mpsc::channel(64);
    let (notifications, _) = broadcast::channel(1024);
    let (activity, watch) = watch::channel(Activity {
        connection: ConnectionState::Stopped,
        drained: false,
        busy: false,
        state: identity.own.state,
    });
    let actor = Actor {
        db,
        clock,
        identity,
        relay,
        commands: from_handles,
        notifications: notifications.clone(),
        activity,
        answers: mpsc::channel(64),
        connection: None,
        connection_task: None,
        outgoing: None,
        running: HashSet::new(),
        in_flight: HashMap::new(),
        drained: false,
        outbox_changed: true,
        state: ConnectionState::Stopped,
        ticks: 0,
        logs: Logs::default(),
    };
    tokio::spawn(async move {
        let told = actor.run().await;
        // The profile's lock is let go before anybody hears that we are done.
        drop(keep);
        if let Some(told) = told {
            let _ = told.send(());
        }
    });
    Running {
        commands,
        notifications,
        activity: watch,
    }
}

impl Actor {
    /// Runs until shut down, or until the last handle is gone.
    async fn run(mut self) -> Option<oneshot::Sender<()>> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let told = loop {
            let done = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Task(task)) => self.task(task).await,
                    Some(Command::Start) => {
                        self.start();
                        Ok(())
                    }
                    Some(Command::Shutdown(told)) => break Some(told),
                    None => break None,
                },
                event = next_event(&mut self.connection) => self.connection_event(event).await,
                answer = self.answers.1.recv() => match answer {
                    Some(answer) => self.answer(answer).await,
                    None => Ok(()),
                },
                _ = tick.tick() => self.tick().await,
            };
            if let Err(error) = done {
                // A full disk, say. What was not committed was not acknowledged: a new socket
                // brings it again.
                tracing::error!(%error, "the profile's database failed");
                self.disconnect();
            }
            if let Err(error) = self.after().await {
                tracing::error!(%error, "the profile's database failed");
            }
        };
        self.outgoing = None;
        self.connection = None;
        if let Some(task) = self.connection_task.take() {
            task.abort();
        }
        let Self { db, .. } = self;
        let _ = db.close().await;
        told
    }

    async fn task(&mut self, mut task: Box<dyn Task>) -> Result<(), StoreError> {
        let done: Result<(), StoreError> =
            async { in_turn!(self, |turn| task.run(&mut turn).await) }.await;
        task.finish(done);
        Ok(())
    }

    fn start(&mut self) {
        if self.connection.is_some() {
            return;
        }
        let (sender, receiver) = mpsc::channel(16);
        let task = tokio::spawn(connection::run(self.relay.clone(), sender));
        self.connection = Some(receiver);
        self.connection_task = Some(task);
        self.set_state(ConnectionState::Connecting {
            reason: String::new(),
        });
    }

    fn set_state(&mut self, state: ConnectionState) {
        if self.state != state {
            self.state = state.clone();
            let _ = self.notifications.send(Notification::Connection(state));
        }
    }

    /// Drops the socket; the connection task opens another.
    fn disconnect(&mut self) {
        self.outgoing = None;
        self.in_flight.clear();
        self.drained = false;
    }

    async fn connection_event(&mut self, event: Option<ConnectionEvent>) -> Result<(), StoreError> {
        match event {
            Some(ConnectionEvent::Opened(outgoing)) => {
                self.in_flight.clear();
                self.drained = false;
                self.outgoing = Some(outgoing);
                self.outbox_changed = true;
                self.set_state(ConnectionState::Connected);
                in_turn!(self, |turn| upkeep::connected(&mut turn).await)
            }
            Some(ConnectionEvent::Frame(frame)) => self.frame(*frame).await,
            Some(ConnectionEvent::Closed {
                reason,
                refused,
                revoked,
            }) => {
                self.disconnect();
                self.set_state(if refused {
                    ConnectionState::Refused { reason }
                } else {
                    ConnectionState::Connecting { reason }
                });
                if revoked {
                    // The relay's word alone; the signed list decides, if it can be had.
                    let own = self.identity.own.address.account;
                    self.call(Call::Account(own));
                }
                Ok(())
            }
            None => {
                self.connection = None;
                self.connection_task = None;
                self.disconnect();
                self.set_state(ConnectionState::Stopped);
                Ok(())
            }
        }
    }

    async fn frame(&mut self, frame: ServerFrame) -> Result<(), StoreError> {
        if self.outgoing.is_none() {
            // Of a socket that we gave up: it comes again on the next.
            return Ok(());
        }
        match frame.frame {
            Some(FromRelay::Deliver(batch)) => {
                in_turn!(self, |turn| receive::deliver(&mut turn, &batch).await)
            }
            Some(FromRelay::SendResult(result)) => {
                if let Ok(id) = SendId::from_slice(&result.send_id) {
                    self.in_flight.remove(&id);
                }
                self.outbox_changed = true;
                in_turn!(self, |turn| outbox::answered(&mut turn, &result).await)
            }
            Some(FromRelay::Hello(hello)) => {
                in_turn!(self, |turn| upkeep::greeted(&mut turn, &hello).await)
            }
            Some(FromRelay::PrekeysLow(_)) => {
                self.call(Call::Stock);
                Ok(())
            }
            Some(FromRelay::Drained(_)) => {
                self.drained = true;
                Ok(())
            }
            Some(FromRelay::Error(error)) => {
                let Ok(id) = SendId::from_slice(&error.send_id) else {
                    return Ok(());
                };
                self.in_flight.remove(&id);
                self.outbox_changed = true;
                let (code, wait) = (error.code(), error.retry_after_ms);
                in_turn!(self, |turn| outbox::refused(&mut turn, id, code, wait)
                    .await)
            }
            Some(FromRelay::Reauthorized(_)) | None => Ok(()),
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), StoreError> {
        match answer {
            Answer::Account(account, result) => {
                self.running.remove(&CallKey::Account(account));
                in_turn!(self, |turn| upkeep::account_answered(
                    &mut turn, account, result
                )
                .await)
            }
            Answer::Bundles(account, result) => {
                self.running.remove(&CallKey::Bundles(account));
                in_turn!(self, |turn| match result {
                    Ok(set) => outbox::bundles_arrived(&mut turn, account, &set).await,
                    Err(error) => outbox::bundles_refused(&mut turn, account, &error).await,
                })
            }
            Answer::Upload(upload, result) => {
                self.running.remove(&CallKey::Keys);
                in_turn!(self, |turn| match result {
                    Ok(_) => prekeys::uploaded(&mut turn, &upload).await,
                    Err(error) => match error.kind() {
                        Some(ProblemKind::Conflict) => {
                            prekeys::conflicted(&mut turn, &upload).await
                        }
                        Some(ProblemKind::Epoch) => {
                            turn.call(Call::Stock);
                            Ok(())
                        }
                        // The next connection or the daily look brings it again.
                        _ => Ok(()),
                    },
                })
            }
            Answer::Stock(result) => {
                self.running.remove(&CallKey::Keys);
                match result {
                    Ok(stock) => {
                        in_turn!(self, |turn| prekeys::replenish(&mut turn, &stock).await)
                    }
                    Err(_) => Ok(()),
                }
            }
            Answer::Revocations(result) => {
                self.running.remove(&CallKey::Revocations);
                match result {
                    Ok(Some(bundle)) => {
                        in_turn!(self, |turn| {
                            upkeep::revocations_answered(&mut turn, &bundle).await
                        })
                    }
                    _ => Ok(()),
                }
            }
            Answer::DeviceList => {
                self.running.remove(&CallKey::DeviceList);
                Ok(())
            }
        }
    }

    async fn tick(&mut self) -> Result<(), StoreError> {
        self.ticks += 1;
        let ticks = self.ticks;
        self.in_flight
            .retain(|_, sent| sent.elapsed() < ANSWER_TIMEOUT);
        self.outbox_changed = true;
        let connected = self.outgoing.is_some();
        in_turn!(self, |turn| upkeep::tick(&mut turn, ticks, connected).await)
    }

    /// Carries out what a committed turn left.
    async fn carry_out(&mut self, effects: Effects) -> Result<(), StoreError> {
        if effects.own_changed
            && let Some(own) = own::load(&mut self.db).await?
        {
            let local = session::local_identity(&own)?;
            self.identity = Arc::new(Identity {
                local,
                anchor: self.identity.anchor.clone(),
                jobs: self.identity.jobs,
                own,
            });
        }
        if let Some(outgoing) = &self.outgoing {
            for frame in effects.frames {
                // A closed socket announces itself; acknowledgements are repeated by the next batch.
                let _ = outgoing.send(frame);
            }
        }
        for call in effects.calls {
            self.call(call);
        }
        self.outbox_changed |= effects.outbox_changed;
        for notification in effects.notifications {
            let _ = self.notifications.send(notification);
        }
        Ok(())
    }

    /// Starts a call unless an equal one runs. Its answer comes back as an event.
    fn call(&mut self, call: Call) {
        // While stopped nothing reaches out; upkeep asks again when connected.
        if self.connection.is_none() || !self.running.insert(call.key()) {
            return;
        }
        let relay = self.relay.clone();
        let answers = self.answers.0.clone();
        tokio::spawn(async move {
            let answer = match call {
                Call::Account(account) => {
                    Answer::Account(account, relay.account(account).await.map(Box::new))
                }
                Call::Bundles {
                    account,
                    devices,
                    access_key,
                } => {
                    let request = wardline_wire::proto::BundleRequest {
                        account_id: account.to_vec(),
                        device_ids: devices,
                        access_key: access_key.map(Vec::from).unwrap_or_default(),
                    };
                    Answer::Bundles(account, relay.bundles(&request).await)
                }
                Call::Upload(upload) => {
                    let result = relay.put_keys(&upload).await;
                    Answer::Upload(upload, result)
                }
                Call::Stock => Answer::Stock(relay.stock().await),
                Call::Revocations => Answer::Revocations(relay.revocations().await),
                Call::DeviceList(list) => {
                    if let Err(error) = relay.put_device_list(&list).await {
                        tracing::warn!(%error, "the device list was not published yet");
                    }
                    Answer::DeviceList
                }
            };
            let _ = answers.send(answer).await;
        });
    }

    /// After every event: sends what is ready, and says how busy we are.
    async fn after(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.outbox_changed {
            self.pump().await?;
        }
        let (moving, _) = outbox_table::counts(&mut self.db, now).await?;
        let activity = Activity {
            connection: self.state.clone(),
            drained: self.drained,
            busy: moving > 0 || !self.in_flight.is_empty() || !self.running.is_empty(),
            state: self.identity.own.state,
        };
        self.activity.send_if_modified(|current| {
            let changed = *current != activity;
            *current = activity;
            changed
        });
        Ok(())
    }

    async fn pump(&mut self) -> Result<(), StoreError> {
        let Some(outgoing) = self.outgoing.clone() else {
            return Ok(());
        };
        self.outbox_changed = false;
        let limit = u32::try_from(WINDOW * 2).unwrap_or(32);
        for send_id in outbox_table::due_sends(&mut self.db, self.clock.now(), limit).await? {
            if self.in_flight.len() >= WINDOW {
                break;
            }
            if self.in_flight.contains_key(&send_id) {
                continue;
            }
            if let Some(frame) = outbox::frame_of(&mut self.db, send_id).await?
                && outgoing.send(frame).is_ok()
            {
                self.in_flight.insert(send_id, Instant::now());
            }
        }
        Ok(())
    }
}

/// The next event of the connection; never, while there is none.
async fn next_event(
    connection: &mut Option<mpsc::Receiver<ConnectionEvent>>,
) -> Option<ConnectionEvent> {
    match connection {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
