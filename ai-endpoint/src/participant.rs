//! The loop: a message becomes a verdict, a question becomes an answer, exactly once.
//!
//! Every message that reaches the endpoint is a *job* that the endpoint core stored in the transaction that received it.
//! A job is open until it is finished, and finishing it stores its answer in the same transaction. So a crash at any
//! point leaves the job open, and the next run does it again; an answer is never sent twice, because its id follows from
//! the question's.
//!
//! Questions of one conversation are answered one after the other. Emergencies and commands overtake them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wardline_wire::clock::Clock;
use wardline_wire::ids::AccountId;

use crate::answer::Answer;
use crate::pipeline::{Event, PARTIALS_MAX, Pipeline, Question};
use crate::policy::{self, Command, GREETING, Incoming, Role, Verdict};
use crate::prompt::{ContentId, Turn};
use crate::redflag::Category;

/// Conversation id, 32 bytes.
pub type ConversationId = [u8; 32];

/// A message that waits for a verdict. Not printable: it holds what people said.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a message"
)]
pub struct Job {
    /// Its number; grows.
    pub id: u64,
    /// Where it was said.
    pub conversation: ConversationId,
    /// The message's content id.
    pub message: ContentId,
    /// Its place in this endpoint's order of messages.
    pub place: u64,
    /// Who said it.
    pub account: AccountId,
    /// What they are.
    pub sender: Role,
    /// Whether this endpoint's own account said it.
    pub mine: bool,
    /// What was said, without a structured mention of the assistant; nothing for files and the like.
    pub text: Option<String>,
    /// Whether it mentions the assistant's account.
    pub names_me: bool,
    /// Whether it replies to the assistant.
    pub replies_to_me: bool,
    /// Whether only the sender and the assistant are in the conversation.
    pub direct: bool,
    /// Whether a member objects to the assistant.
    pub switched_off: bool,
    /// Whether a clinician is in the conversation.
    pub clinicians: bool,
}

/// What finishes a job, if anything is said at all.
pub struct Outgoing {
    /// The answer.
    pub answer: Answer,
    /// For the clinicians, in an emergency.
    pub alert: Option<Alert>,
}

/// A line for the clinicians of a conversation.
pub struct Alert {
    /// What was recognised.
    pub category: Category,
    /// Fixed words.
    pub text: String,
}

/// Why the endpoint core did not do something.
#[derive(Clone, Debug, Error)]
pub enum SeatFault {
    /// It will never work for this job: the conversation is gone, or we were removed from it.
    #[error("the answer has nowhere to go any more")]
    Gone,
    /// It may work later.
    #[error("the endpoint's store or connection failed: {0}")]
    Later(String),
    /// The endpoint was shut down or revoked; nothing will work.
    #[error("the endpoint can't go on: {0}")]
    Over(String),
}

/// The assistant's seat in its conversations: what the endpoint core does for it. A trait, so that crashes and their
/// consequences can be played through without a network.
pub trait Seat: Send + Sync + 'static {
    /// The oldest open job after job `after`.
    fn next_job(&self, after: u64) -> BoxFuture<'_, Result<Option<Job>, SeatFault>>;
    /// Messages before the job's in its conversation, oldest first, at most `most`.
    fn history<'a>(
        &'a self,
        job: &'a Job,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Turn>, SeatFault>>;
    /// Whether the job's message still stands and its conversation still wants the assistant.
    fn is_wanted<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<bool, SeatFault>>;
    /// Closes the job and stores what is said, in one transaction. A job that is closed already changes nothing.
    fn finish<'a>(
        &'a self,
        job: &'a Job,
        outgoing: Option<Outgoing>,
    ) -> BoxFuture<'a, Result<(), SeatFault>>;
    /// Shows members who are online how far the answer is. May be lost.
    fn partial<'a>(
        &'a self,
        job: &'a Job,
        index: u32,
        text: String,
    ) -> BoxFuture<'a, Result<(), SeatFault>>;
    /// Shows members who are online that an answer is being written. May be lost.
    fn typing<'a>(&'a self, job: &'a Job, typing: bool) -> BoxFuture<'a, Result<(), SeatFault>>;
    /// Opens the conversations that the assistant was asked into, as far as its operator allows.
    fn accept_requests(&self) -> BoxFuture<'_, Result<(), SeatFault>>;
    /// Returns after something has changed since the last call.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct Manners {
    /// The assistant's name in its help text.
    pub name: String,
    /// The names by which it is mentioned, without `@`.
    pub handles: Vec<String>,
    /// Answers written at the same time.
    pub answers_at_once: usize,
    /// Questions of one member in one minute.
    pub questions_per_minute: u32,
    /// Most earlier messages read for an answer; a few more than the model is shown, to say how many were left out.
    pub history: usize,
    /// The pause after a failure of the store; doubles.
    pub pause: Duration,
}

/// How often a job is tried before the assistant says that it can't.
const TRIES: u32 = 5;
/// Open jobs looked at in one go.
const LOOK_AT: usize = 500;
/// How often members are told that an answer is still being written.
const TYPING_EVERY: Duration = Duration::from_secs(8);

/// Takes part in conversations.
pub struct Participant<S> {
    seat: Arc<S>,
    pipeline: Arc<Pipeline>,
    manners: Manners,
    clock: Arc<dyn Clock>,
}

/// An answer that is being written.
struct Running {
    job: Arc<Job>,
    stop: CancellationToken,
    /// Drops the work instead of finishing it.
    abandon: CancellationToken,
}

/// What the loop remembers; all of it can be forgotten in a crash.
#[derive(Default)]
struct Floor {
    running: HashMap<u64, Running>,
    workers: JoinSet<(u64, Result<(), SeatFault>)>,
    failures: HashMap<u64, (u32, Instant)>,
    asked: HashMap<AccountId, VecDeque<u64>>,
    told_to_wait: HashMap<AccountId, u64>,
}

impl<S: Seat> Participant<S> {
    /// Makes one.
    pub fn new(
        seat: Arc<S>,
        pipeline: Arc<Pipeline>,
        manners: Manners,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            seat,
            pipeline,
            manners,
            clock,
        }
    }

    /// Answers until `shutdown`. Answers that are being written then stay open and are done at the next start.
    ///
    /// # Errors
    ///
    /// [`SeatFault::Over`], when the endpoint was revoked or closed.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), SeatFault> {
        let mut floor = Floor::default();
        let mut pause = self.manners.pause;
        loop {
            let again = match self.look_around(&mut floor).await {
                Ok(()) => {
                    pause = self.manners.pause;
                    floor.failures.values().map(|(_, at)| *at).min()
                }
                Err(SeatFault::Over(why)) => return Err(SeatFault::Over(why)),
                Err(fault) => {
                    tracing::warn!("{fault}");
                    pause = (pause * 2).min(self.manners.pause * 64);
                    Some(Instant::now() + pause)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(done) = floor.workers.join_next(), if !floor.workers.is_empty() => match done {
                    Ok((id, result)) => self.done(&mut floor, id, result)?,
                    // A panic in a worker: which job it was shows in what is still running.
                    Err(error) => {
                        tracing::error!("an answer broke off: {error}");
                        self.lost(&mut floor);
                    }
                },
                () = self.seat.changed() => {}
                () = sleep_until(again) => {}
            }
        }
    }

    /// One look at everything that is open.
    async fn look_around(&self, floor: &mut Floor) -> Result<(), SeatFault> {
        self.seat.accept_requests().await?;
        for running in floor.running.values() {
            if !self.seat.is_wanted(&running.job).await? {
                running.abandon.cancel();
            }
        }
        let mut busy: Vec<ConversationId> =
            floor.running.values().map(|r| r.job.conversation).collect();
        let mut after = 0;
        for _ in 0..LOOK_AT {
            let Some(job) = self.seat.next_job(after).await? else {
                break;
            };
            after = job.id;
            let waits = floor
                .failures
                .get(&job.id)
                .is_some_and(|(_, at)| *at > Instant::now());
            if floor.running.contains_key(&job.id) || waits {
                continue;
            }
            match self.consider(&job, floor, &mut busy).await {
                Ok(()) => {}
                Err(fault @ SeatFault::Over(_)) => return Err(fault),
                Err(SeatFault::Gone) => self.seat.finish(&job, None).await?,
                Err(fault) => self.done(floor, job.id, Err(fault))?,
            }
        }
        Ok(())
    }

    /// Does what can be done at once; begins an answer if its turn has come.
    async fn consider(
        &self,
        job: &Job,
        floor: &mut Floor,
        busy: &mut Vec<ConversationId>,
    ) -> Result<(), SeatFault> {
        let tries = floor.failures.get(&job.id).map_or(0, |(tries, _)| *tries);
        if tries >= TRIES {
            tracing::error!(job = job.id, "given up after {tries} tries");
            return self.say(job, "I could not answer this because of a technical problem. Please ask your care team.").await;
        }
        let verdict = match &job.text {
            None => return self.seat.finish(job, None).await,
            Some(text) => policy::decide(
                Incoming {
                    text,
                    sender: job.sender,
                    mine: job.mine,
                    direct: job.direct,
                    names_me: job.names_me,
                    replies_to_me: job.replies_to_me,
                    switched_off: job.switched_off,
                },
                &self.manners.handles,
            ),
        };
        match verdict {
            Verdict::Ignore(_) => self.seat.finish(job, None).await,
            Verdict::Watch => match self.emergency(job) {
                Some(outgoing) => self.seat.finish(job, Some(outgoing)).await,
                None => self.seat.finish(job, None).await,
            },
            Verdict::Command(command) => self.obey(job, command, floor).await,
            Verdict::Answer(text) => {
                if let Some(outgoing) = self.emergency(job) {
                    return self.seat.finish(job, Some(outgoing)).await;
                }
                if busy.contains(&job.conversation) {
                    return Ok(());
                }
                // What waits longer than this one's turn keeps the order of its conversation too.
                busy.push(job.conversation);
                if floor.running.len() >= self.manners.answers_at_once {
                    return Ok(());
                }
                if tries == 0 && !self.may_ask(job, floor) {
                    busy.retain(|conversation| *conversation != job.conversation);
                    return self.wait_please(job, floor).await;
                }
                self.begin(job, text, floor);
                Ok(())
            }
        }
    }

    fn emergency(&self, job: &Job) -> Option<Outgoing> {
        let event = self
            .pipeline
            .watch_for_emergency(job.text.as_deref()?, job.clinicians)?;
        outgoing(event)
    }

    async fn obey(&self, job: &Job, command: Command, floor: &Floor) -> Result<(), SeatFault> {
        match command {
            Command::Help => self.say(job, &policy::help_text(&self.manners.name)).await,
            Command::Status => self.say(job, &self.pipeline.status()).await,
            Command::Sources => self.say(job, &self.pipeline.sources()).await,
            Command::Greeting => self.say(job, GREETING).await,
            Command::Stop => self.stop(job, floor).await,
        }
    }

    /// Ends the answer that is being written in this conversation, and drops the questions that wait there.
    async fn stop(&self, job: &Job, floor: &Floor) -> Result<(), SeatFault> {
        let mut stopped = false;
        for running in floor
            .running
            .values()
            .filter(|r| r.job.conversation == job.conversation)
        {
            running.stop.cancel();
            stopped = true;
        }
        let mut after = 0;
        for _ in 0..LOOK_AT {
            let Some(earlier) = self.seat.next_job(after).await? else {
                break;
            };
            if earlier.id >= job.id {
                break;
            }
            after = earlier.id;
            if earlier.conversation == job.conversation && !floor.running.contains_key(&earlier.id)
            {
                self.seat.finish(&earlier, None).await?;
                stopped = true;
            }
        }
        if stopped {
            self.seat.finish(job, None).await
        } else {
            self.say(job, "There is nothing to stop.").await
        }
    }

    async fn say(&self, job: &Job, text: &str) -> Result<(), SeatFault> {
        let outgoing = Outgoing {
            answer: self.pipeline.fixed(text),
            alert: None,
        };
        self.seat.finish(job, Some(outgoing)).await
    }

    /// Counts a question; says whether the member has any left in this minute.
    fn may_ask(&self, job: &Job, floor: &mut Floor) -> bool {
        let now = self.clock.now().as_millis();
        floor.asked.retain(|_, times| {
            times.retain(|at| now.saturating_sub(*at) < 60_000);
            !times.is_empty()
        });
        let times = floor.asked.entry(job.account).or_default();
        let may = times.len() < self.manners.questions_per_minute as usize;
        if may {
            times.push_back(now);
        }
        may
    }

    /// Says once a minute that it was too much; the rest of the flood is closed without a word.
    async fn wait_please(&self, job: &Job, floor: &mut Floor) -> Result<(), SeatFault> {
        let now = self.clock.now().as_millis();
        floor
            .told_to_wait
            .retain(|_, at| now.saturating_sub(*at) < 60_000);
        if floor.told_to_wait.insert(job.account, now).is_some() {
            return self.seat.finish(job, None).await;
        }
        self.say(
            job,
            "That was many questions at once. Please wait a minute and ask again.",
        )
        .await
    }

    fn begin(&self, job: &Job, text: String, floor: &mut Floor) {
        let job = Arc::new(job.clone());
        let running = Running {
            job: Arc::clone(&job),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        let work = work(
            Arc::clone(&self.seat),
            Arc::clone(&self.pipeline),
            Arc::clone(&job),
            text,
            self.manners.history,
            running.stop.clone(),
        );
        let abandon = running.abandon.clone();
        let seat = Arc::clone(&self.seat);
        let id = job.id;
        floor.workers.spawn(async move {
            let result = tokio::select! {
                biased;
                () = abandon.cancelled() => seat.finish(&job, None).await,
                result = work => result,
            };
            (id, result)
        });
        floor.running.insert(id, running);
    }

    /// Books the end of a job, or its failure.
    fn done(
        &self,
        floor: &mut Floor,
        id: u64,
        result: Result<(), SeatFault>,
    ) -> Result<(), SeatFault> {
        floor.running.remove(&id);
        match result {
            Ok(()) => {
                floor.failures.remove(&id);
            }
            Err(fault @ SeatFault::Over(_)) => return Err(fault),
            Err(fault) => {
                tracing::warn!(job = id, "{fault}");
                let (tries, at) = floor.failures.entry(id).or_insert((0, Instant::now()));
                *tries += 1;
                *at = Instant::now() + self.manners.pause * (1 << (*tries).min(6));
            }
        }
        Ok(())
    }

    /// After a panic nobody says whose worker it was: all that run are abandoned to their next try.
    fn lost(&self, floor: &mut Floor) {
        floor.workers.abort_all();
        let ids: Vec<u64> = floor.running.keys().copied().collect();
        for id in ids {
            // `Later` is never `Over`, so this can't fail.
            let _ = self.done(
                floor,
                id,
                Err(SeatFault::Later("a worker broke off".to_owned())),
            );
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn outgoing(event: Event) -> Option<Outgoing> {
    match event {
        Event::Partial(_) => None,
        Event::Final(answer) => Some(Outgoing {
            answer,
            alert: None,
        }),
        Event::RedFlag {
            answer,
            alert,
            categories,
        } => {
            let category = categories.first().copied().unwrap_or(Category::Other);
            Some(Outgoing {
                answer,
                alert: Some(Alert {
                    category,
                    text: alert,
                }),
            })
        }
    }
}

/// Answers one question.
async fn work<S: Seat>(
    seat: Arc<S>,
    pipeline: Arc<Pipeline>,
    job: Arc<Job>,
    text: String,
    most: usize,
    stop: CancellationToken,
) -> Result<(), SeatFault> {
    let history = seat.history(&job, most).await?;
    let question = Question {
        id: job.message,
        text,
        asker: job.sender,
        history,
        clinicians: job.clinicians,
        stop,
    };
    let began = Instant::now();
    let mut events = pipeline.answer(question);
    let mut typing = tokio::time::interval(TYPING_EVERY);
    let mut partials = 0;
    let mut result = None;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            _ = typing.tick() => {
                // Both of these may be lost; the answer does not depend on them.
                let _ = seat.typing(&job, true).await;
                continue;
            }
        };
        match event {
            None => break,
            Some(Event::Partial(text)) if (partials as usize) < PARTIALS_MAX => {
                let _ = seat.partial(&job, partials, text).await;
                partials += 1;
            }
            Some(event) => result = outgoing(event).or(result),
        }
    }
    let _ = seat.typing(&job, false).await;
    if !seat.is_wanted(&job).await? {
        return seat.finish(&job, None).await;
    }
    if let Some(outgoing) = &result {
        let provenance = &outgoing.answer.provenance;
        tracing::info!(
            job = job.id,
            backend = provenance.backend,
            model = provenance.model,
            class = provenance.class.name(),
            cut = ?provenance.cut,
            documents = provenance.documents.len(),
            partials,
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
    }
    match seat.finish(&job, result).await {
        Err(SeatFault::Gone) => seat.finish(&job, None).await,
        finished => finished,
    }
}

#[cfg(test)]
mod tests;
