use super::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use wardline_wire::clock::{ManualClock, Timestamp};

use crate::model::{Answering, Checked, End, Identity, Model, ModelError, Piece};
use crate::pipeline::Settings;
use crate::prompt::Prompt;
use crate::retrieval::{Library, Source};

/// What survives a crash: open jobs, and what was said.
#[derive(Default)]
struct Store {
    open: BTreeMap<u64, Job>,
    said: Vec<(u64, Option<String>, Option<Category>)>,
    partials: Vec<(u64, u32)>,
    unwanted: Vec<u64>,
    failing: u32,
    gone: bool,
    over: bool,
}

#[derive(Default)]
struct Table {
    store: Mutex<Store>,
    changed: Notify,
}

impl Table {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn receive(&self, job: Job) {
        self.store().open.insert(job.id, job);
        self.changed.notify_one();
    }

    fn said(&self) -> Vec<(u64, Option<String>, Option<Category>)> {
        self.store().said.clone()
    }

    /// Waits until this many jobs are closed.
    async fn until_closed(&self, count: usize) {
        for _ in 0..20_000 {
            if self.store().said.len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{count} jobs were not closed; these are: {:?}", self.said());
    }
}

impl Seat for Table {
    fn next_job(&self, after: u64) -> BoxFuture<'_, Result<Option<Job>, SeatFault>> {
        let mut store = self.store();
        let fault = if store.over {
            Some(SeatFault::Over("revoked".to_owned()))
        } else if store.failing > 0 {
            store.failing -= 1;
            Some(SeatFault::Later("locked".to_owned()))
        } else {
            None
        };
        let found = store
            .open
            .range(after + 1..)
            .next()
            .map(|(_, job)| job.clone());
        Box::pin(async move { fault.map_or(Ok(found), Err) })
    }

    fn history<'a>(&'a self, _: &'a Job, _: usize) -> BoxFuture<'a, Result<Vec<Turn>, SeatFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn is_wanted<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<bool, SeatFault>> {
        let wanted = !self.store().unwanted.contains(&job.id);
        Box::pin(async move { Ok(wanted) })
    }

    fn finish<'a>(
        &'a self,
        job: &'a Job,
        outgoing: Option<Outgoing>,
    ) -> BoxFuture<'a, Result<(), SeatFault>> {
        Box::pin(async move {
            let mut store = self.store();
            if store.gone && outgoing.is_some() {
                return Err(SeatFault::Gone);
            }
            if store.open.remove(&job.id).is_some() {
                let alert = outgoing
                    .as_ref()
                    .and_then(|o| o.alert.as_ref())
                    .map(|alert| alert.category);
                store
                    .said
                    .push((job.id, outgoing.map(|o| o.answer.text), alert));
            }
            Ok(())
        })
    }

    fn partial<'a>(
        &'a self,
        job: &'a Job,
        index: u32,
        _: String,
    ) -> BoxFuture<'a, Result<(), SeatFault>> {
        self.store().partials.push((job.id, index));
        Box::pin(async { Err(SeatFault::Later("nobody is online".to_owned())) })
    }

    fn typing<'a>(&'a self, _: &'a Job, _: bool) -> BoxFuture<'a, Result<(), SeatFault>> {
        Box::pin(async { Err(SeatFault::Later("nobody is online".to_owned())) })
    }

    fn accept_requests(&self) -> BoxFuture<'_, Result<(), SeatFault>> {
        Box::pin(async { Ok(()) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

/// Says its words one by one, each when it is allowed to.
struct Slow {
    allowed: Arc<tokio::sync::Semaphore>,
    asked: Arc<std::sync::atomic::AtomicUsize>,
}

impl Model for Slow {
    fn identity(&self) -> Identity {
        Identity {
            backend: "ollama",
            model: "slow".into(),
            digest: String::new(),
            server: String::new(),
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<Checked, ModelError>> {
        let checked = Checked {
            identity: self.identity(),
            context_limit: None,
            warnings: Vec::new(),
        };
        Box::pin(async move { Ok(checked) })
    }

    fn answer<'a>(&'a self, _: &'a Prompt) -> BoxFuture<'a, Result<Answering, ModelError>> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let allowed = Arc::clone(&self.allowed);
        let pieces = futures_util::stream::unfold(0, move |n| {
            let allowed = Arc::clone(&allowed);
            async move {
                if n == 4 {
                    return None;
                }
                allowed.acquire().await.unwrap().forget();
                let end = End {
                    cut: false,
                    prompt_tokens: None,
                    reply_tokens: None,
                    tools_ignored: false,
                };
                let piece = if n == 3 {
                    Piece::End(end)
                } else {
                    Piece::Text("word after word ".to_owned())
                };
                Some((Ok(piece), n + 1))
            }
        });
        let answering = Answering {
            identity: self.identity(),
            pieces: Box::pin(pieces),
        };
        Box::pin(async move { Ok(answering) })
    }
}

struct World {
    table: Arc<Table>,
    clock: Arc<ManualClock>,
    allowed: Arc<tokio::sync::Semaphore>,
    asked: Arc<std::sync::atomic::AtomicUsize>,
    running: Option<(
        CancellationToken,
        tokio::task::JoinHandle<Result<(), SeatFault>>,
    )>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let mut world = Self {
            table: Arc::default(),
            clock,
            allowed: Arc::new(tokio::sync::Semaphore::new(0)),
            asked: Arc::default(),
            running: None,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let model = Slow {
            allowed: Arc::clone(&self.allowed),
            asked: Arc::clone(&self.asked),
        };
        let library = Arc::new(Library::open(Source::Samples).unwrap());
        let pipeline = Pipeline::new(
            Some(Arc::new(model)),
            library,
            Settings::default(),
            [1; 32],
            self.clock.clone(),
            Arc::new(|| 0.0),
        );
        let manners = Manners {
            name: "ai".to_owned(),
            handles: vec!["ai".to_owned()],
            answers_at_once: 2,
            questions_per_minute: 3,
            history: 20,
            pause: Duration::from_millis(1),
        };
        let participant = Participant::new(
            Arc::clone(&self.table),
            Arc::new(pipeline),
            manners,
            self.clock.clone(),
        );
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        self.running = Some((
            shutdown,
            tokio::spawn(async move { participant.run(token).await }),
        ));
    }

    async fn stop(&mut self) -> Result<(), SeatFault> {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        task.await.unwrap()
    }

    /// As a power cut: nothing gets to say goodbye.
    async fn crash(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    fn let_speak(&self) {
        self.allowed.add_permits(1000);
    }

    async fn until_asked(&self, count: usize) {
        for _ in 0..20_000 {
            if self.asked.load(std::sync::atomic::Ordering::SeqCst) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the model was not asked {count} times");
    }
}

fn job(id: u64, text: &str) -> Job {
    Job {
        id,
        conversation: [1; 32],
        message: [u8::try_from(id).unwrap(); 16],
        place: id,
        account: AccountId::from_random_bytes([1; 16]),
        sender: Role::Patient,
        mine: false,
        text: Some(text.to_owned()),
        names_me: false,
        replies_to_me: false,
        direct: true,
        switched_off: false,
        clinicians: true,
    }
}

const QUESTION: &str = "How do I keep my wound clean?";

#[tokio::test]
async fn a_question_is_answered_once_and_partials_may_be_lost() {
    let mut world = World::new();
    world.let_speak();
    world.table.receive(job(1, QUESTION));
    world.table.until_closed(1).await;
    world.stop().await.unwrap();
    let said = world.table.said();
    assert_eq!(said.len(), 1);
    assert!(said[0].1.as_deref().unwrap().starts_with("word after word"));
    let partials = world.table.store().partials.clone();
    assert!(!partials.is_empty() && partials[0] == (1, 0));
}

#[tokio::test]
async fn a_crash_in_the_middle_neither_loses_nor_repeats_the_answer() {
    let mut world = World::new();
    world.table.receive(job(1, QUESTION));
    world.allowed.add_permits(2);
    world.until_asked(1).await;
    world.crash().await;
    assert!(world.table.said().is_empty());
    world.start();
    world.let_speak();
    world.table.until_closed(1).await;
    world.crash().await;
    world.start();
    world.table.receive(job(2, "help"));
    world.table.until_closed(2).await;
    let ids: Vec<u64> = world.table.said().iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn a_shutdown_leaves_what_is_being_written_for_the_next_start() {
    let mut world = World::new();
    world.table.receive(job(1, QUESTION));
    world.until_asked(1).await;
    world.stop().await.unwrap();
    assert!(world.table.said().is_empty() && world.table.store().open.contains_key(&1));
}

#[tokio::test]
async fn emergencies_and_commands_overtake_a_slow_answer() {
    let mut world = World::new();
    world.table.receive(job(1, QUESTION));
    world.until_asked(1).await;
    world.table.receive(job(2, "And when are you open?"));
    world.table.receive(job(3, "status"));
    world.table.receive(job(4, "my chest hurts so much"));
    world.table.until_closed(2).await;
    let said = world.table.said();
    assert!(
        said.iter()
            .any(|(id, text, _)| *id == 3 && text.as_deref().unwrap().contains("Language model"))
    );
    assert!(
        said.iter()
            .any(|(id, text, alert)| *id == 4 && text.is_some() && *alert == Some(Category::Heart))
    );
    world.let_speak();
    world.table.until_closed(4).await;
    let order: Vec<u64> = world
        .table
        .said()
        .iter()
        .map(|(id, ..)| *id)
        .filter(|id| *id < 3)
        .collect();
    assert_eq!(order, [1, 2]);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn stop_ends_the_answer_and_drops_what_waits() {
    let mut world = World::new();
    world.table.receive(job(1, QUESTION));
    world.allowed.add_permits(1);
    world.until_asked(1).await;
    world.table.receive(job(2, "And when are you open?"));
    let mut elsewhere = job(3, "When are you open?");
    elsewhere.conversation = [2; 32];
    elsewhere.account = AccountId::from_random_bytes([2; 16]);
    world.table.receive(elsewhere);
    world.until_asked(2).await;
    world.table.receive(job(4, "stop"));
    world.table.until_closed(3).await;
    let said = world.table.said();
    let text = |id: u64| {
        said.iter()
            .find(|(job, ..)| *job == id)
            .map(|(_, text, _)| text.clone())
    };
    assert!(text(1).unwrap().unwrap().contains("stopped"));
    assert_eq!((text(2), text(4)), (Some(None), Some(None)));
    // The other conversation goes on.
    assert_eq!(text(3), None);
    world.let_speak();
    world.table.until_closed(4).await;
    world.table.receive(job(5, "stop"));
    world.table.until_closed(5).await;
    assert!(
        world
            .table
            .said()
            .last()
            .unwrap()
            .1
            .as_deref()
            .unwrap()
            .contains("nothing to stop")
    );
    world.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_for_the_assistant_is_closed_without_a_word() {
    let mut world = World::new();
    let mut own = job(1, "@ai hello");
    own.mine = true;
    let mut bot = job(2, "@ai help");
    bot.sender = Role::Bot;
    let mut off = job(3, "@ai when are you open?");
    off.switched_off = true;
    let mut others = job(4, "See you tomorrow");
    others.direct = false;
    let mut file = job(5, "");
    file.text = None;
    for job in [own, bot, off, others, file] {
        world.table.receive(job);
    }
    let mut pain = job(6, "my chest hurts so much");
    pain.direct = false;
    world.table.receive(pain);
    world.table.until_closed(6).await;
    world.stop().await.unwrap();
    let said = world.table.said();
    assert!(
        said.iter()
            .take(5)
            .all(|(_, text, alert)| text.is_none() && alert.is_none())
    );
    assert_eq!(said[5].2, Some(Category::Heart));
}

#[tokio::test]
async fn a_deleted_question_is_not_answered() {
    let mut world = World::new();
    world.table.receive(job(1, QUESTION));
    world.until_asked(1).await;
    world.table.store().unwanted.push(1);
    world.table.changed.notify_one();
    world.table.until_closed(1).await;
    assert_eq!(world.table.said()[0].1, None);
    // Deleted while the last word was on its way.
    world.table.store().unwanted.push(2);
    world.let_speak();
    world.table.receive(job(2, QUESTION));
    world.table.until_closed(2).await;
    assert_eq!(world.table.said()[1].1, None);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_flood_is_answered_with_one_request_to_wait() {
    let mut world = World::new();
    world.let_speak();
    for id in 1..=10 {
        world.table.receive(job(id, QUESTION));
    }
    world.table.until_closed(10).await;
    let said = world.table.said();
    let spoken: Vec<_> = said
        .iter()
        .filter_map(|(_, text, _)| text.as_deref())
        .collect();
    assert_eq!(
        spoken
            .iter()
            .filter(|text| text.starts_with("word"))
            .count(),
        3
    );
    assert_eq!(
        spoken
            .iter()
            .filter(|text| text.contains("wait a minute"))
            .count(),
        1
    );
    assert_eq!(spoken.len(), 4);
    world.clock.set(Timestamp::from_millis(1_000_000 + 61_000));
    world.table.receive(job(11, QUESTION));
    world.table.until_closed(11).await;
    assert!(
        world.table.said()[10]
            .1
            .as_deref()
            .unwrap()
            .starts_with("word")
    );
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_costs_a_delay() {
    let mut world = World::new();
    world.let_speak();
    world.table.store().failing = 5;
    world.table.receive(job(1, QUESTION));
    world.table.until_closed(1).await;
    world.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_with_nowhere_to_go_closes_its_job() {
    let mut world = World::new();
    world.let_speak();
    world.table.store().gone = true;
    world.table.receive(job(1, QUESTION));
    world.table.until_closed(1).await;
    // Words that need no model, as well.
    world.table.receive(job(2, "help"));
    world.table.until_closed(2).await;
    assert_eq!(world.table.said(), [(1, None, None), (2, None, None)]);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn a_revoked_endpoint_ends() {
    let mut world = World::new();
    world.table.store().over = true;
    world.table.changed.notify_one();
    let (_, task) = world.running.take().unwrap();
    assert!(matches!(task.await.unwrap(), Err(SeatFault::Over(_))));
}
