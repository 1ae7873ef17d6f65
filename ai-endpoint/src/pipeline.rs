//! From a question to an answer: emergency check, screens, documents, model, screen of the answer, provenance.
//!
//! The pipeline knows nothing of conversations' encryption or of how answers travel. Dropping the stream of events
//! cancels everything behind it, down to the connection to the model server.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wardline_wire::clock::Clock;

use crate::answer::{Answer, Cut, Instead, Parts, assemble, fixed};
use crate::injection;
use crate::model::extractive::{Extractive, quote};
use crate::model::{Answering, Checked, End, Identity, Jitter, Model, ModelError, Piece};
use crate::output::{Noticed, Screened, screen, settled};
use crate::policy::Role;
use crate::prompt::{self, ContentId, ContextUse, Prompt, Room, Turn};
use crate::redflag::{self, Category};
use crate::retrieval::{Hit, Library};
use crate::sensitivity::{Sensitivity, classify_all};

/// Most partial answers sent for one answer.
pub const PARTIALS_MAX: usize = 20;
/// Passages shown to a language model.
const PASSAGES_FOR_MODEL: usize = 4;
/// Passages quoted without one.
const PASSAGES_QUOTED: usize = 2;
/// How often the folder of documents is looked at, at most.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// Characters by which an answer must grow before another partial is worth a message, at first.
const PARTIAL_STEP: usize = 60;
/// A follow-up of at most this many words is searched together with the question before it.
const FOLLOW_UP_WORDS: usize = 6;

/// A question with what is needed to answer it. Not printable: it holds what people said.
pub struct Question {
    /// Its content id; fixes the canary of its prompt.
    pub id: ContentId,
    /// What is asked, without the mention of the assistant.
    pub text: String,
    /// Who asks.
    pub asker: Role,
    /// Earlier messages of the conversation that the assistant may use, oldest first.
    pub history: Vec<Turn>,
    /// Whether a clinician is in the conversation.
    pub clinicians: bool,
    /// Cancelled when somebody says stop; what was written until then becomes the answer.
    pub stop: CancellationToken,
}

/// What happens while a question is answered. The last one is [`Event::Final`] or [`Event::RedFlag`].
pub enum Event {
    /// An emergency: fixed advice, and a line for the clinicians. Nothing else comes.
    RedFlag {
        /// The advice as an answer.
        answer: Answer,
        /// The line for the clinicians.
        alert: String,
        /// What was recognised, the most pressing first.
        categories: Vec<Category>,
    },
    /// The beginning of the answer, each time whole up to where it is.
    Partial(String),
    /// The answer.
    Final(Answer),
}

/// The events of one question.
pub type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// Numbers and words that the operator chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model's window.
    pub room: Room,
    /// Most characters of an answer.
    pub answer_chars: usize,
    /// Most characters of a question; the rest is not looked at by the model.
    pub question_chars: usize,
    /// Partial answers per answer, at most [`PARTIALS_MAX`].
    pub partials: usize,
    /// How the clinic writes its emergency number.
    pub emergency_number: String,
    /// The first pause before a model that is down is asked how it is; doubles up to a hundred times that.
    pub probe_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            room: Room {
                num_ctx: 8192,
                num_predict: 700,
                turns: 12,
            },
            answer_chars: 4000,
            question_chars: 4000,
            partials: PARTIALS_MAX,
            emergency_number:
                "the emergency number (112 in Europe, 911 in North America, 999 in the UK)"
                    .to_owned(),
            probe_every: Duration::from_secs(2),
        }
    }
}

/// Answers questions.
pub struct Pipeline {
    model: Option<Arc<dyn Model>>,
    library: Arc<Library>,
    settings: Settings,
    health: Health,
    key: [u8; 32],
    clock: Arc<dyn Clock>,
    refreshed: Mutex<Option<Instant>>,
}

/// Counts since the start, without any content.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers given.
    pub answers: AtomicU64,
    /// Emergencies recognised.
    pub red_flags: AtomicU64,
    /// Failures of the model.
    pub model_failures: AtomicU64,
}

/// Whether the model can be used.
pub struct Health {
    state: Mutex<State>,
    changed: Notify,
    jitter: Jitter,
    /// Counts since the start.
    pub counters: Counters,
}

#[derive(Clone)]
enum State {
    Unknown,
    Up(Checked),
    Down { kind: &'static str, why: String },
}

impl Health {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_waiters();
    }

    fn get(&self) -> State {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_down(&self) -> bool {
        matches!(self.get(), State::Down { .. })
    }

    fn failed(&self, error: &ModelError) {
        self.counters.model_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(kind = error.kind(), "the model failed: {error}");
        if error.model_is_down() {
            self.set(State::Down {
                kind: error.kind(),
                why: error.to_string(),
            });
        }
    }
}

impl Pipeline {
    /// Makes one. Without a model the documents answer alone. `key` makes the canaries; `jitter` spreads the probes.
    pub fn new(
        model: Option<Arc<dyn Model>>,
        library: Arc<Library>,
        settings: Settings,
        key: [u8; 32],
        clock: Arc<dyn Clock>,
        jitter: Jitter,
    ) -> Self {
        let health = Health {
            state: Mutex::new(State::Unknown),
            changed: Notify::new(),
            jitter,
            counters: Counters::default(),
        };
        Self {
            model,
            library,
            settings,
            health,
            key,
            clock,
            refreshed: Mutex::new(None),
        }
    }

    /// Asks the model how it is, and remembers the answer.
    ///
    /// # Errors
    ///
    /// What the model's check found. The pipeline works all the same, from the documents.
    pub async fn probe(&self) -> Result<Option<Checked>, ModelError> {
        let Some(model) = &self.model else {
            return Ok(None);
        };
        match model.check().await {
            Ok(checked) => {
                if !matches!(self.health.get(), State::Up(_)) {
                    tracing::info!(
                        model = checked.identity.model,
                        digest = checked.identity.digest,
                        "the model is ready"
                    );
                }
                for warning in &checked.warnings {
                    tracing::warn!("{}", warning.text());
                }
                self.health.set(State::Up(checked.clone()));
                Ok(Some(checked))
            }
            Err(error) => {
                self.health.set(State::Down {
                    kind: error.kind(),
                    why: error.to_string(),
                });
                Err(error)
            }
        }
    }

    /// Brings a failed model back: while it is down, asks it again and again with growing pauses. Never returns.
    pub async fn watch(&self) {
        let mut pause = self.settings.probe_every;
        loop {
            let changed = self.health.changed.notified();
            if !self.health.is_down() {
                pause = self.settings.probe_every;
                changed.await;
                continue;
            }
            drop(changed);
            tokio::time::sleep(pause.mul_f64(0.5 + (self.health.jitter)().clamp(0.0, 1.0))).await;
            if self.probe().await.is_err() {
                pause = (pause * 2).min(self.settings.probe_every * 100);
            }
        }
    }

    /// Waits until the model is known to be usable.
    pub async fn until_up(&self) {
        loop {
            let changed = self.health.changed.notified();
            if matches!(self.health.get(), State::Up(_)) {
                return;
            }
            changed.await;
        }
    }

    /// A few lines for people who ask how the assistant is.
    pub fn status(&self) -> String {
        let inventory = self.library.inventory();
        let samples = if inventory.samples {
            " (sample texts; the clinic has not added its own yet)"
        } else {
            ""
        };
        let documents = format!("Documents: {}{samples}.", inventory.documents);
        let model = match (&self.model, self.health.get()) {
            (None, _) => {
                "Language model: none; I answer with passages from the documents.".to_owned()
            }
            (Some(model), State::Unknown) => {
                format!("Language model: {}, not asked yet.", model.identity().model)
            }
            (Some(_), State::Up(checked)) => {
                let identity = checked.identity;
                let digest = match identity.digest.get(..12) {
                    Some(digest) => format!(", digest {digest}"),
                    None => String::new(),
                };
                let mut text = format!(
                    "Language model: {} ({}{digest}), running inside the clinic. Self-test passed.",
                    identity.model, identity.backend
                );
                for warning in checked.warnings {
                    let _ = write!(text, " Note: {}.", warning.text());
                }
                text
            }
            (Some(model), State::Down { kind, .. }) => format!(
                "Language model: {} is not available ({kind}); I answer with passages from the documents until it is back.",
                model.identity().model
            ),
        };
        format!("{model}\n{documents}")
    }

    /// Why the model is down, for the operator; nothing when it isn't.
    pub fn why_down(&self) -> Option<String> {
        match self.health.get() {
            State::Down { why, .. } => Some(why),
            State::Unknown | State::Up(_) => None,
        }
    }

    /// The titles of the documents, for people who ask for them.
    pub fn sources(&self) -> String {
        let titles = self.library.titles();
        if titles.is_empty() {
            return "I have no documents to answer from.".to_owned();
        }
        let lines: Vec<String> = titles
            .iter()
            .map(|(title, file)| format!("- {title} ({file})"))
            .collect();
        let samples = if self.library.inventory().samples {
            " (sample texts)"
        } else {
            ""
        };
        format!(
            "I answer from these documents{samples}:\n{}",
            lines.join("\n")
        )
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.health.counters
    }

    /// A fixed text as an answer.
    pub fn fixed(&self, text: &str) -> Answer {
        fixed(text, Sensitivity::Public, self.now())
    }

    /// Only looks for an emergency, in a message that isn't addressed to the assistant.
    pub fn watch_for_emergency(&self, text: &str, clinicians: bool) -> Option<Event> {
        let flags = redflag::check(text)?;
        self.health
            .counters
            .red_flags
            .fetch_add(1, Ordering::Relaxed);
        let advice = flags.advice(&self.settings.emergency_number, clinicians);
        let answer = fixed(&advice, Sensitivity::Sensitive, self.now());
        Some(Event::RedFlag {
            answer,
            alert: flags.alert(),
            categories: flags.categories,
        })
    }

    /// Answers a question.
    pub fn answer(self: &Arc<Self>, question: Question) -> Events {
        let (events, received) = mpsc::channel(4);
        let this = Arc::clone(self);
        let work: BoxFuture<'static, ()> = Box::pin(async move {
            let last = this.work(&question, &events).await;
            // The receiver is gone only when nobody wants the answer any more.
            let _ = events.send(last).await;
        });
        Box::pin(stream::unfold(
            (Some(work), received),
            |(mut work, mut received)| async move {
                loop {
                    let Some(running) = &mut work else {
                        return received.recv().await.map(|event| (event, (None, received)));
                    };
                    tokio::select! {
                        biased;
                        event = received.recv() => return event.map(|event| (event, (work, received))),
                        () = running => work = None,
                    }
                }
            },
        ))
    }

    fn now(&self) -> u64 {
        self.clock.now().as_millis()
    }

    async fn work(&self, question: &Question, events: &mpsc::Sender<Event>) -> Event {
        if let Some(emergency) = self.watch_for_emergency(&question.text, question.clinicians) {
            return emergency;
        }
        let text: String = question
            .text
            .chars()
            .take(self.settings.question_chars)
            .collect();
        let shown = question
            .history
            .iter()
            .rev()
            .take(self.settings.room.turns)
            .map(|turn| turn.text.as_str());
        let class = classify_all(shown.chain([text.as_str()]));
        let hits = self.passages(&text, &question.history).await;
        let job = Job {
            pipeline: self,
            question,
            text,
            class,
            hits,
        };
        let answer = match job.refused() {
            Err(instead) => job.extract(instead),
            Ok(prompt) => match self.model.as_deref() {
                None => job.extract(None),
                Some(model) => job.ask(model, &prompt, events).await,
            },
        };
        self.health.counters.answers.fetch_add(1, Ordering::Relaxed);
        Event::Final(answer)
    }

    /// Passages that fit, without those that try to command a model. A question that finds nothing and is short may be
    /// a follow-up, so it is tried together with the one before.
    async fn passages(&self, text: &str, history: &[Turn]) -> Vec<Hit> {
        let due = {
            let mut refreshed = self
                .refreshed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let due = refreshed.is_none_or(|at| at.elapsed() >= REFRESH_EVERY);
            if due {
                *refreshed = Some(Instant::now());
            }
            due
        };
        let before = history
            .iter()
            .rev()
            .find(|turn| turn.speaker != Role::Bot)
            .map(|turn| turn.text.clone());
        let follow_up = before.filter(|_| text.split_whitespace().count() <= FOLLOW_UP_WORDS);
        let library = Arc::clone(&self.library);
        let text = text.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            if due {
                match library.refresh() {
                    Ok(true) => tracing::info!("the documents changed and were indexed anew"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(
                        "the documents could not be read, their last state stays in use: {error}"
                    ),
                }
            }
            let hits = library.search(&text, PASSAGES_FOR_MODEL)?;
            match follow_up {
                Some(before) if hits.is_empty() => {
                    library.search(&format!("{before}\n{text}"), PASSAGES_FOR_MODEL)
                }
                _ => Ok(hits),
            }
        })
        .await;
        let mut hits = match found {
            Ok(Ok(hits)) => hits,
            Ok(Err(error)) => {
                tracing::error!("the search in the documents failed: {error}");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        hits.retain(|hit| {
            let suspicious = injection::screen(&hit.passage.text).is_suspicious();
            if suspicious {
                tracing::warn!(
                    file = hit.passage.file,
                    "a passage of the documents tries to command the model and is left out"
                );
            }
            !suspicious
        });
        hits
    }

    /// The secret word of a question's prompt.
    fn canary(&self, id: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length");
        mac.update(b"wardline-ai/canary/v1\0");
        mac.update(id);
        let tag = hex::encode(mac.finalize().into_bytes());
        format!("KX-{}", tag.chars().take(16).collect::<String>())
    }
}

/// One question on its way.
struct Job<'a> {
    pipeline: &'a Pipeline,
    question: &'a Question,
    text: String,
    class: Sensitivity,
    hits: Vec<Hit>,
}

impl Job<'_> {
    /// The prompt, or why the language model isn't asked.
    fn refused(&self) -> Result<Prompt, Option<Instead>> {
        let pipeline = self.pipeline;
        if pipeline.model.is_none() {
            return Err(None);
        }
        if injection::screen(&self.question.text).is_suspicious() {
            return Err(Some(Instead::Screened));
        }
        if pipeline.health.is_down() {
            return Err(Some(Instead::Unavailable));
        }
        if self.question.text.chars().count() > pipeline.settings.question_chars {
            return Err(Some(Instead::TooLong));
        }
        let mut room = pipeline.settings.room;
        if let State::Up(Checked {
            context_limit: Some(limit),
            ..
        }) = pipeline.health.get()
        {
            room.num_ctx = room.num_ctx.min(limit);
        }
        // An earlier message that failed the screen doesn't get in through the history.
        let history: Vec<Turn> = self
            .question
            .history
            .iter()
            .filter(|turn| {
                turn.speaker == Role::Bot || !injection::screen(&turn.text).is_suspicious()
            })
            .cloned()
            .collect();
        let turn = Turn {
            id: self.question.id,
            speaker: self.question.asker,
            text: self.text.clone(),
        };
        let canary = pipeline.canary(&self.question.id);
        prompt::build(&turn, &history, &self.hits, &canary, room)
            .map_err(|_| Some(Instead::TooLong))
    }

    /// The documents' own answer.
    fn extract(&self, instead: Option<Instead>) -> Answer {
        let mut hits = self.hits.clone();
        hits.truncate(PASSAGES_QUOTED);
        let prompt = Prompt {
            messages: Vec::new(),
            passages: hits,
            estimate: 0,
            context: ContextUse::default(),
        };
        let identity = Identity {
            digest: self.pipeline.library.inventory().fingerprint,
            ..Extractive.identity()
        };
        assemble(Parts {
            words: &quote(&prompt),
            identity,
            passages: &prompt.passages,
            class: self.class,
            now_ms: self.pipeline.now(),
            cut: None,
            instead,
            context: ContextUse::default(),
            noticed: Noticed::default(),
        })
    }

    async fn ask(
        &self,
        model: &dyn Model,
        prompt: &Prompt,
        events: &mpsc::Sender<Event>,
    ) -> Answer {
        let stop = &self.question.stop;
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            answering = model.answer(prompt) => Some(answering),
        };
        match asked {
            None => self.finish(
                model.identity(),
                prompt,
                "",
                Noticed::default(),
                Some(Cut::Stopped),
            ),
            Some(Err(ModelError::TooLong)) => self.extract(Some(Instead::TooLong)),
            Some(Err(error)) => {
                self.pipeline.health.failed(&error);
                self.extract(Some(Instead::Unavailable))
            }
            Some(Ok(answering)) => self.listen(answering, prompt, events).await,
        }
    }

    async fn listen(
        &self,
        answering: Answering,
        prompt: &Prompt,
        events: &mpsc::Sender<Event>,
    ) -> Answer {
        let Answering {
            identity,
            mut pieces,
        } = answering;
        let canary = self.pipeline.canary(&self.question.id);
        let max = self.pipeline.settings.answer_chars;
        let mut raw = String::new();
        let mut partials = Partials::new(self.pipeline.settings.partials.min(PARTIALS_MAX));
        let cut = loop {
            let piece = tokio::select! {
                biased;
                () = self.question.stop.cancelled() => break Some(Cut::Stopped),
                piece = pieces.next() => piece,
            };
            match piece {
                Some(Ok(Piece::Text(text))) => {
                    raw.push_str(&text);
                    // Every character counts four bytes at most; what is longer than that will be shortened anyway.
                    if raw.len() > max.saturating_mul(4) {
                        break None;
                    }
                    if partials.is_due(&raw) {
                        match screen(settled(&raw), &canary, max) {
                            Screened::Leaks => return self.extract(Some(Instead::Unfit)),
                            Screened::Fit(text, _) => {
                                if partials.take(&text)
                                    && events.send(Event::Partial(text)).await.is_err()
                                {
                                    break Some(Cut::Stopped);
                                }
                            }
                        }
                    }
                }
                Some(Ok(Piece::End(End {
                    cut, tools_ignored, ..
                }))) => {
                    if tools_ignored {
                        tracing::warn!("the model asked for a tool; it has none, nothing was done");
                    }
                    break cut.then_some(Cut::Length);
                }
                Some(Err(error)) => {
                    self.pipeline.health.failed(&error);
                    break Some(Cut::Failed);
                }
                // The adapters never end a stream like this; if one did, the answer would not be whole.
                None => break Some(Cut::Failed),
            }
        };
        drop(pieces);
        match screen(&raw, &canary, max) {
            Screened::Leaks => {
                tracing::warn!("an answer of the model gave away its rules and was not shown");
                self.extract(Some(Instead::Unfit))
            }
            Screened::Fit(text, noticed) => self.finish(identity, prompt, &text, noticed, cut),
        }
    }

    fn finish(
        &self,
        identity: Identity,
        prompt: &Prompt,
        words: &str,
        noticed: Noticed,
        cut: Option<Cut>,
    ) -> Answer {
        if words.is_empty() && cut != Some(Cut::Stopped) {
            let instead = if cut == Some(Cut::Failed) {
                Instead::Unavailable
            } else {
                Instead::Unfit
            };
            return self.extract(Some(instead));
        }
        assemble(Parts {
            words,
            identity,
            passages: &prompt.passages,
            class: self.class,
            now_ms: self.pipeline.now(),
            cut,
            instead: None,
            context: prompt.context.clone(),
            noticed,
        })
    }
}

/// When the next partial answer is worth a message: each costs one for every member.
struct Partials {
    left: usize,
    next: usize,
    step: usize,
    last: String,
}

impl Partials {
    fn new(most: usize) -> Self {
        Self {
            left: most,
            next: 1,
            step: PARTIAL_STEP,
            last: String::new(),
        }
    }

    fn is_due(&self, raw: &str) -> bool {
        self.left > 0 && raw.len() >= self.next
    }

    /// Whether this text should go out; counts it if so.
    fn take(&mut self, text: &str) -> bool {
        if text.is_empty() || text == self.last {
            return false;
        }
        self.left -= 1;
        self.next = text.len() + self.step;
        // Long answers get rarer ones, so that twenty are enough.
        self.step += self.step / 8;
        text.clone_into(&mut self.last);
        true
    }
}
