//! The writing loop: `Hello`, stored envelopes in order, `Drained` once, then
//! whatever comes.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use wardline_wire::proto::{
    Deliver, Drained, Envelope, ErrorCode, Hello, PreKeysLow, ServerFrame, server_frame,
};

use super::{End, Session, Sink, WRITE_TIMEOUT, closing, encode, ending, error, frame};
use crate::auth::matrix::{self, Action, Decision};
use crate::auth::{Caller, Lapsed, check_standing};
use crate::hub::{Ending, Signals};
use crate::store::{BatchSize, MailboxBatch};

/// One `Deliver` frame: what a socket holds in memory at most.
const BATCH: BatchSize = BatchSize {
    envelopes: 64,
    bytes: 512 * 1024,
};

/// Reads nothing, but tells where the mailbox stands.
const NOTHING: BatchSize = BatchSize {
    envelopes: 0,
    bytes: 0,
};

/// How often expiry and silence are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Where draining stands.
struct Cursor {
    /// Sequence of the last envelope sent on this socket.
    sent: u64,
    epoch: u64,
    /// There may be envelopes to read.
    pending: bool,
    /// `Drained` was sent.
    drained: bool,
}

impl Session {
    /// Writes until the socket ends.
    pub(super) async fn write(
        &self,
        sink: &mut Sink,
        mut waiting: mpsc::Receiver<ServerFrame>,
        mut signals: Signals,
    ) -> End {
        let mut writer = Writer {
            sink,
            ending: signals.ending.clone(),
        };
        let caller = Caller::Device(self.caller.clone());
        let may_receive = matrix::decide(Action::Receive, &caller) == Decision::Allowed;
        let mut cursor = match self.hello(&mut writer).await {
            Ok(cursor) => cursor,
            Err(end) => return end,
        };
        cursor.pending = may_receive;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ping_every = Duration::from_secs(self.app.config.limits.ping_seconds.into());
        let mut pinged = Instant::now();
        loop {
            // What waits goes first, so that answers do not queue behind a long mailbox.
            while let Ok(frame) = waiting.try_recv() {
                if let ControlFlow::Break(end) = writer.send(encode(&frame)).await {
                    return end;
                }
            }
            if cursor.pending {
                if let Err(end) = self.drain(&mut writer, &mut cursor).await {
                    return end;
                }
                if let Some(end) = self.look_at_clock() {
                    return end;
                }
                continue;
            }
            let message = tokio::select! {
                biased;
                end = writer.ended() => return end,
                frame = waiting.recv() => match frame {
                    Some(frame) => encode(&frame),
                    None => return End::Gone,
                },
                () = self.socket.woken(), if may_receive => {
                    cursor.pending = true;
                    continue;
                }
                Some(envelope) = signals.ephemeral.recv(), if may_receive => {
                    encode(&deliver(cursor.epoch, vec![envelope]))
                }
                Ok(()) = signals.low.changed() => {
                    let low = *signals.low.borrow_and_update();
                    match low {
                        Some(low) => encode(&frame(server_frame::Frame::PrekeysLow(low))),
                        None => continue,
                    }
                }
                _ = tick.tick() => {
                    if let Some(end) = self.look_at_clock() {
                        return end;
                    }
                    if pinged.elapsed() < ping_every {
                        continue;
                    }
                    pinged = Instant::now();
                    Message::Ping(Bytes::new())
                }
            };
            if let ControlFlow::Break(end) = writer.send(message).await {
                return end;
            }
        }
    }

    async fn hello(&self, writer: &mut Writer<'_>) -> Result<Cursor, End> {
        let batch = self.batch(0, NOTHING).await?;
        let limits = &self.app.config.limits;
        self.acknowledgeable.store(batch.newest, Ordering::Release);
        let revocations = self.app.directory.revocations();
        let hello = Hello {
            epoch: batch.mailbox_epoch,
            newest_seq: batch.newest,
            max_ciphertext_bytes: limits.max_ciphertext_bytes,
            max_recipients: limits.max_recipients,
            device_list_version: batch
                .standing
                .map_or(0, |standing| standing.device_list_version),
            revocation_number: revocations.map_or(0, |list| list.number()),
        };
        match writer
            .send(encode(&frame(server_frame::Frame::Hello(hello))))
            .await
        {
            ControlFlow::Continue(()) => Ok(Cursor {
                sent: 0,
                epoch: batch.mailbox_epoch,
                pending: false,
                drained: false,
            }),
            ControlFlow::Break(end) => Err(end),
        }
    }

    /// Tells a device, once its mailbox is empty, when its prekeys are low.
    async fn tell_stock(&self, writer: &mut Writer<'_>) -> Result<(), End> {
        let stock = match self.app.store.prekey_stock(self.caller.address).await {
            Ok(Some(stock)) => stock,
            Ok(None) => return Err(End::Told(ending(Ending::Revoked))),
            Err(failure) => return Err(unavailable(&failure)),
        };
        let low = PreKeysLow {
            one_time_prekeys: stock.one_time,
            one_time_kyber_prekeys: stock.one_time_kyber,
        };
        if !is_low(stock.one_time, stock.one_time_kyber) {
            return Ok(());
        }
        match writer
            .send(encode(&frame(server_frame::Frame::PrekeysLow(low))))
            .await
        {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(end) => Err(end),
        }
    }

    /// One batch out of the mailbox.
    async fn drain(&self, writer: &mut Writer<'_>, cursor: &mut Cursor) -> Result<(), End> {
        let batch = self.batch(cursor.sent, BATCH).await?;
        if batch.mailbox_epoch != cursor.epoch {
            // Restored under our feet: the device must learn the new epoch.
            return Err(End::Told(ending(Ending::Changed)));
        }
        cursor.pending = batch.more;
        if let Some(last) = batch.envelopes.last().map(|envelope| envelope.seq) {
            metrics::counter!("wardline_relay_envelopes_delivered_total")
                .increment(batch.envelopes.len() as u64);
            let envelopes = batch
                .envelopes
                .into_iter()
                .map(|stored| Envelope {
                    seq: stored.seq,
                    sender_account_id: stored.sender_account.into(),
                    sender_device_id: stored.sender_device,
                    r#type: stored.kind,
                    ciphertext: stored.ciphertext,
                    ephemeral: false,
                })
                .collect();
            // Before it is sent: the acknowledgement may be quicker than this task.
            self.acknowledgeable.fetch_max(last, Ordering::AcqRel);
            let message = encode(&deliver(cursor.epoch, envelopes));
            if let ControlFlow::Break(end) = writer.send(message).await {
                return Err(end);
            }
            cursor.sent = last;
        }
        if !cursor.pending && !cursor.drained {
            cursor.drained = true;
            let drained = Drained {
                epoch: cursor.epoch,
                seq: cursor.sent,
            };
            let message = encode(&frame(server_frame::Frame::Drained(drained)));
            if let ControlFlow::Break(end) = writer.send(message).await {
                return Err(end);
            }
            self.tell_stock(writer).await?;
        }
        Ok(())
    }

    /// Reads a batch and whether it may still be handed out.
    async fn batch(&self, after: u64, size: BatchSize) -> Result<MailboxBatch, End> {
        let now = self.app.clock.now();
        let batch = match self
            .app
            .store
            .drain(self.caller.address, after, size, now)
            .await
        {
            Ok(batch) => batch,
            Err(failure) => return Err(unavailable(&failure)),
        };
        match check_standing(batch.standing.as_ref(), self.caller.auth_epoch) {
            Ok(_) => Ok(batch),
            Err(Lapsed::Revoked) => Err(End::Told(ending(Ending::Revoked))),
            Err(Lapsed::Changed) => Err(End::Told(ending(Ending::Changed))),
        }
    }

    /// Whether the token has ended, or the peer is gone.
    fn look_at_clock(&self) -> Option<End> {
        if self.app.clock.now() >= self.expires_at() {
            return Some(End::Told(closing(error(
                ErrorCode::Unauthorized,
                "the token has expired; log in again",
            ))));
        }
        let patience = Duration::from_secs(self.app.config.limits.ping_seconds.into()) * 3;
        (self.silence() > patience).then_some(End::Gone)
    }
}

/// Few enough to tell the owner.
pub(crate) fn is_low(one_time: u32, one_time_kyber: u32) -> bool {
    const LOW: u32 = 20;
    one_time < LOW || one_time_kyber < LOW
}

/// The sink, with an eye on the socket's ending: a peer that does not read must
/// not keep a revoked socket open.
struct Writer<'a> {
    sink: &'a mut Sink,
    ending: watch::Receiver<Option<Ending>>,
}

impl Writer<'_> {
    async fn send(&mut self, message: Message) -> ControlFlow<End> {
        let Self { sink, ending } = self;
        tokio::select! {
            biased;
            end = ended(ending) => ControlFlow::Break(end),
            sent = tokio::time::timeout(WRITE_TIMEOUT, sink.send(message)) => match sent {
                Ok(Ok(())) => ControlFlow::Continue(()),
                Ok(Err(_)) | Err(_) => ControlFlow::Break(End::Gone),
            },
        }
    }

    async fn ended(&mut self) -> End {
        ended(&mut self.ending).await
    }
}

async fn ended(signal: &mut watch::Receiver<Option<Ending>>) -> End {
    match signal.wait_for(Option::is_some).await {
        Ok(reason) => match *reason {
            Some(reason) => End::Told(ending(reason)),
            None => End::Gone,
        },
        Err(_) => End::Gone,
    }
}

fn deliver(epoch: u64, envelopes: Vec<Envelope>) -> ServerFrame {
    frame(server_frame::Frame::Deliver(Deliver { epoch, envelopes }))
}

fn unavailable(failure: &crate::store::StoreError) -> End {
    tracing::error!(error = %failure, "the database failed");
    End::Told(closing(error(
        ErrorCode::Unavailable,
        "the relay cannot read its mailboxes; connect again in a moment",
    )))
}
