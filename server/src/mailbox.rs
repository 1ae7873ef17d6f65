//! Mailboxes: accept, drain, acknowledge, wake.
//!
//! One task writes. Whatever waits when it becomes free goes into one transaction
//! with one fsync (group commit), so throughput rises with load and a lone send
//! waits for nobody. An answer leaves only after the commit.

pub(crate) mod plan;

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use wardline_wire::clock::Clock;
use wardline_wire::ids::{AccountId, DeviceAddress, SendId};

use self::plan::{Caps, Ciphertext, Digest, QueuedRecipient, QueuedSend, SendOutcome};
use crate::hub::Hub;
use crate::store::{Ack, Day, Store, StoreError};

/// Jobs that may wait.
const MAX_WAITING: usize = 1024;
/// Bytes of ciphertext that may wait, in KiB: senders beyond it are not read from.
const MAX_WAITING_KIB: usize = 64 * 1024;
/// Sends and acknowledgements in one transaction.
const MAX_BATCH_JOBS: usize = 256;
/// Bytes of ciphertext in one transaction.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The relay could not store it; nothing is known to be stored, and the same send
/// may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// Answer to a send, once it is durable.
pub(crate) type Answer = oneshot::Receiver<Result<SendOutcome, Unavailable>>;

enum Job {
    Send {
        send: QueuedSend,
        bytes: usize,
        answer: oneshot::Sender<Result<SendOutcome, Unavailable>>,
        _room: OwnedSemaphorePermit,
    },
    Acknowledge(Ack),
    Stop,
}

/// Hands work to the writer.
pub(crate) struct Mailbox {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    hashes: Hashes,
}

impl Mailbox {
    /// Starts the writer.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        clock: Arc<dyn Clock>,
        caps: Caps,
        privacy_key: [u8; 32],
    ) -> (Self, JoinHandle<()>) {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let writer = Writer {
            store,
            hub,
            clock,
            caps,
        };
        let task = tokio::spawn(writer.run(waiting));
        let mailbox = Self {
            jobs,
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            hashes: Hashes(privacy_key),
        };
        (mailbox, task)
    }

    /// The keyed hashes under which sends are remembered.
    pub(crate) fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// Queues a send that came in a frame of so many bytes. Waits while too much is
    /// queued; the answer comes later.
    pub(crate) async fn send(&self, send: QueuedSend, bytes: usize) -> Result<Answer, Unavailable> {
        let kib = u32::try_from(bytes.div_ceil(1024).max(1)).map_err(|_| Unavailable)?;
        let room = Arc::clone(&self.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| Unavailable)?;
        let (answer, receiver) = oneshot::channel();
        let job = Job::Send {
            send,
            bytes,
            answer,
            _room: room,
        };
        self.jobs.send(job).await.map_err(|_| Unavailable)?;
        Ok(receiver)
    }

    /// Queues an acknowledgement. Nobody waits for it: a lost one is made up for by
    /// the next, or by a repeated delivery.
    pub(crate) async fn acknowledge(&self, ack: Ack) {
        let _ = self.jobs.send(Job::Acknowledge(ack)).await;
    }

    /// Whether anybody writes.
    pub(crate) fn is_alive(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// Lets the writer finish what is queued and end.
    pub(crate) async fn stop(&self) {
        let _ = self.jobs.send(Job::Stop).await;
    }
}

/// The task behind a [`Mailbox`].
struct Writer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    caps: Caps,
}

#[derive(Default)]
struct Batch {
    sends: Vec<QueuedSend>,
    answers: Vec<oneshot::Sender<Result<SendOutcome, Unavailable>>>,
    acks: Vec<Ack>,
    bytes: usize,
    room: Vec<OwnedSemaphorePermit>,
    last: bool,
}

impl Batch {
    fn push(&mut self, job: Job) {
        match job {
            Job::Send {
                send,
                bytes,
                answer,
                _room: room,
            } => {
                self.bytes += bytes;
                self.sends.push(send);
                self.answers.push(answer);
                self.room.push(room);
            }
            // Cumulative: the higher one says all.
            Job::Acknowledge(ack) => {
                match self
                    .acks
                    .iter_mut()
                    .find(|known| known.device == ack.device && known.epoch == ack.epoch)
                {
                    Some(known) => known.seq = known.seq.max(ack.seq),
                    None => self.acks.push(ack),
                }
            }
            Job::Stop => self.last = true,
        }
    }

    fn has_room(&self) -> bool {
        !self.last
            && self.sends.len() + self.acks.len() < MAX_BATCH_JOBS
            && self.bytes < MAX_BATCH_BYTES
    }
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.recv().await {
            let mut batch = Batch::default();
            batch.push(first);
            while batch.has_room() {
                match waiting.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            let last = batch.last;
            self.commit(batch).await;
            if last {
                break;
            }
        }
    }

    async fn commit(&self, batch: Batch) {
        let Batch {
            sends,
            answers,
            acks,
            room,
            ..
        } = batch;
        match self.accept(&sends, &acks).await {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::error!(%error, sends = sends.len(), "a batch could not be stored");
                // Alone, so that whatever is wrong with one does not fail the others.
                for (send, answer) in sends.iter().zip(answers) {
                    let outcome = match self.accept(std::slice::from_ref(send), &[]).await {
                        Ok(outcomes) => outcomes.into_iter().next().ok_or(Unavailable),
                        Err(_) => Err(Unavailable),
                    };
                    let _ = answer.send(outcome);
                }
            }
        }
        drop(room);
    }

    async fn accept(
        &self,
        sends: &[QueuedSend],
        acks: &[Ack],
    ) -> Result<Vec<SendOutcome>, StoreError> {
        if sends.is_empty() && acks.is_empty() {
            return Ok(Vec::new());
        }
        let begun = std::time::Instant::now();
        let today = Day::of(self.clock.now());
        let plan = self.store.accept(sends, acks, self.caps, today).await?;
        metrics::histogram!("wardline_relay_commit_seconds").record(begun.elapsed());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has a few hundred sends"
        )]
        metrics::histogram!("wardline_relay_batch_sends").record(sends.len() as f64);
        metrics::counter!("wardline_relay_envelopes_stored_total")
            .increment(plan.envelopes.len() as u64);
        for address in &plan.wake {
            self.hub.wake(*address);
        }
        Ok(plan.outcomes)
    }
}

/// Keyed hashes under which sends are remembered. The key is the relay's own
/// random secret: without it, rows of one send do not show that they belong
/// together, and an id cannot be looked for.
pub(crate) struct Hashes([u8; 32]);

impl Hashes {
    /// What a send to one recipient is remembered by.
    pub(crate) fn recipient(
        &self,
        sender: DeviceAddress,
        send: SendId,
        account: AccountId,
        ciphertexts: Vec<Ciphertext>,
    ) -> QueuedRecipient {
        let key = self.key(sender, send, account);
        QueuedRecipient {
            account,
            key,
            content: self.content(&key, &ciphertexts),
            ciphertexts,
        }
    }

    fn key(&self, sender: DeviceAddress, send: SendId, recipient: AccountId) -> Digest {
        let mut mac = self.mac(b"send");
        mac.update(sender.account.as_bytes());
        mac.update(&[sender.device.get()]);
        mac.update(send.as_bytes());
        mac.update(recipient.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Bound to the key, so that equal ciphertexts for two recipients do not show.
    fn content(&self, key: &Digest, ciphertexts: &[Ciphertext]) -> Digest {
        let mut mac = self.mac(b"content");
        mac.update(key);
        for ciphertext in ciphertexts {
            mac.update(&[ciphertext.device.get()]);
            mac.update(&ciphertext.registration_id.to_be_bytes());
            mac.update(&ciphertext.kind.to_be_bytes());
            mac.update(&(ciphertext.body.len() as u64).to_be_bytes());
            mac.update(&ciphertext.body);
        }
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, purpose: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length");
        mac.update(purpose);
        mac.update(&[0]);
        mac
    }
}
