//! `kill -9` at random points of a conversation: nothing accepted is lost,
//! nothing is shown twice, nothing is out of order, and no session breaks.
//!
//! Several people talk, each message by a `wardline send` of its own. At random
//! messages, after a random pause, one of the processes is killed: the sender in
//! mid-send, a listener in mid-receive, the relay, the authority, the assistant.
//! What was killed is started again and the conversation goes on. A send that was
//! killed before it said `accepted` may or may not have happened, once. Some
//! messages ask the assistant: each of them gets one answer, whoever dies.

#![expect(
    clippy::indexing_slicing,
    reason = "every index is drawn below the length of its list"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use wardline_wire::proto::Role;

use crate::assistant::Assistant;
use crate::clinic::Clinic;
use crate::member::{Member, Shown};
use crate::process::{PATIENCE, Process, tail};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many times something is killed.
    pub kills: u32,
    /// How many messages the conversation has.
    pub messages: u32,
    /// Repeats a run: the same messages, victims and pauses.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills by victim.
    pub kills: BTreeMap<&'static str, u32>,
    /// Messages that the relay accepted.
    pub accepted: usize,
    /// Questions to the assistant, each answered once.
    pub answered: usize,
    /// Messages whose sender was killed before it knew, and that arrived.
    pub arrived_unannounced: usize,
    /// Messages whose sender was killed before it knew, and that never were.
    pub never_sent: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: u32 = self.kills.values().sum();
        write!(f, "{kills} kills ")?;
        f.debug_map().entries(&self.kills).finish()?;
        write!(
            f,
            ", {} messages accepted and shown once, in order, to everyone, {} questions answered once; of the killed sends {} arrived and {} did not",
            self.accepted, self.answered, self.arrived_unannounced, self.never_sent
        )
    }
}

/// Every so many messages, one asks the assistant.
const QUESTION_EVERY: usize = 10;
/// How it asks.
const QUESTION: &str = ": @ai how do I keep a wound clean?";

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Sender,
    Listener,
    Relay,
    Authority,
    Assistant,
}

impl Victim {
    const ALL: [Self; 5] = [
        Self::Sender,
        Self::Listener,
        Self::Relay,
        Self::Authority,
        Self::Assistant,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Listener => "listener",
            Self::Relay => "relay",
            Self::Authority => "authority",
            Self::Assistant => "assistant",
        }
    }
}

/// What is known of one message.
struct Said {
    sender: usize,
    text: String,
    is_question: bool,
    accepted: bool,
}

/// Runs the plan in a clinic of its own.
///
/// # Errors
/// When the promise is broken, or something else fails; the seed is in the message.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let mut story = Story::begin(plan).await?;
    let told = story.tell().and_then(|()| story.check());
    told.with_context(|| format!("kill test with --kills {} --seed {}", plan.kills, plan.seed))
}

struct Story {
    plan: Plan,
    rng: StdRng,
    clinic: Clinic,
    assistant: Assistant,
    members: Vec<Member>,
    conversation: String,
    said: Vec<Said>,
    report: Report,
    /// About how long a send takes, so that kills fall all over it.
    send_time: Duration,
}

impl Story {
    async fn begin(plan: Plan) -> anyhow::Result<Self> {
        let clinic = Clinic::builder().direct().open().await?;
        let people = clinic.people_folder()?;
        let doctor = Member::new("doctor", &people)?;
        doctor.enrol(&clinic.invite_link(Role::Staff, Some(("doctor", "The Doctor")))?)?;
        let nurse = Member::new("nurse", &people)?;
        nurse.enrol(&clinic.invite_link(Role::Staff, Some(("nurse", "The Nurse")))?)?;
        let patient = Member::new("patient", &people)?;
        patient.enrol(&doctor.invite_patient("the patient")?)?;
        let link = clinic.invite_link(Role::Ai, Some(("ai", "Assistant")))?;
        let mut assistant = Assistant::enrol(&people.join("assistant"), &link)?;
        assistant.run()?;
        // The patient's hello makes them a contact; the nurse is found by handle.
        doctor.run(["contacts", "find", "nurse"])?;
        doctor.run(["contacts", "find", "ai"])?;
        let patient_account = patient.account()?;
        doctor.messages()?;
        let created = doctor.run([
            "conversations",
            "create",
            "--title",
            "ward",
            "--member",
            "@nurse",
            "--member",
            "@ai",
            "--member",
            &patient_account,
        ])?;
        let conversation = created
            .first()
            .and_then(|line| line.get("id")?.as_str())
            .context("no conversation")?
            .to_owned();
        // To the nurse the doctor is new: the conversation waits until it is accepted.
        nurse.messages()?;
        nurse.run(["contacts", "accept", &doctor.account()?])?;
        let members = vec![doctor, nurse, patient];
        let mut story = Self {
            plan,
            rng: StdRng::seed_from_u64(plan.seed),
            clinic,
            assistant,
            members,
            conversation,
            said: Vec::new(),
            report: Report::default(),
            send_time: Duration::ZERO,
        };
        story.warm_up()?;
        Ok(story)
    }

    /// Everybody hears of the conversation and says something, undisturbed.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        for sender in 0..self.members.len() {
            self.members[sender].messages()?;
            let start = Instant::now();
            self.say(sender, None)?;
            self.send_time = start.elapsed();
        }
        Ok(())
    }

    fn tell(&mut self) -> anyhow::Result<()> {
        let total = self.plan.messages;
        for index in 0..total {
            // The kills are spread evenly, each at a random victim and moment.
            let due = u64::from(self.plan.kills) * u64::from(index + 1) / u64::from(total);
            let done = u64::from(self.report.kills.values().sum::<u32>());
            let sender = self.rng.random_range(0..self.members.len());
            if done >= due {
                self.say(sender, None)?;
                continue;
            }
            for _ in done..due {
                let victim = Victim::ALL[self.rng.random_range(0..Victim::ALL.len())];
                self.say(sender, Some(victim))?;
                *self.report.kills.entry(victim.name()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// One message, with or without a death while it is on its way.
    fn say(&mut self, sender: usize, victim: Option<Victim>) -> anyhow::Result<()> {
        let number = self.said.len();
        let is_question = number % QUESTION_EVERY == QUESTION_EVERY - 1;
        let text = format!(
            "message {number} of {}{}",
            self.members[sender].name(),
            if is_question { QUESTION } else { "" }
        );
        let listener = (victim == Some(Victim::Listener)).then(|| {
            let others = (0..self.members.len()).filter(|other| *other != sender);
            let others: Vec<usize> = others.collect();
            others[self.rng.random_range(0..others.len())]
        });
        let pause = self.send_time.mul_f64(self.rng.random_range(0.0..1.3));
        let mut listening = match listener {
            Some(listener) => Some(self.members[listener].start(["listen"])?),
            None => None,
        };
        let arguments = ["send", &self.conversation, &text, "--wait", "50"];
        let log = self.members[sender].folder().join("output.log");
        let from = std::fs::read_to_string(&log).unwrap_or_default().len();
        let mut sending = self.members[sender].start(arguments)?;
        if let Some(victim) = victim {
            std::thread::sleep(pause);
            match victim {
                Victim::Sender => sending.kill()?,
                Victim::Listener => {}
                Victim::Relay => {
                    self.clinic.relay.kill()?;
                    self.clinic.relay.start()?;
                }
                Victim::Authority => {
                    self.clinic.authority.kill()?;
                    self.clinic.authority.serve()?;
                }
                Victim::Assistant => {
                    self.assistant.kill()?;
                    self.assistant.run()?;
                }
            }
        }
        if let Some(listening) = &mut listening {
            listening.kill()?;
        }
        let was_killed = victim == Some(Victim::Sender);
        let accepted = finish(&mut sending, from)?;
        ensure!(
            accepted || was_killed,
            "a send that nobody killed was not accepted: {}",
            sending.log()?.get(from..).unwrap_or_default()
        );
        self.said.push(Said {
            sender,
            text,
            is_question,
            accepted,
        });
        Ok(())
    }

    /// What everybody has in the end.
    fn check(&mut self) -> anyhow::Result<Report> {
        // A killed sender's message may wait in its outbox: one more round lets it out.
        for member in &self.members {
            member.messages()?;
        }
        let mut shown = Vec::new();
        for member in &self.members {
            let messages = member.messages()?;
            self.check_one(member, &messages)?;
            shown.push(messages);
            check_notices(member)?;
        }
        let first = shown.first().context("nobody is there")?;
        for said in self.said.iter().filter(|said| !said.accepted) {
            let has = |messages: &[Shown]| messages.iter().any(|shown| shown.text == said.text);
            if has(first) {
                self.report.arrived_unannounced += 1;
            } else {
                self.report.never_sent += 1;
            }
            for (member, messages) in self.members.iter().zip(&shown) {
                ensure!(
                    has(messages) == has(first),
                    "{:?} is shown to some, and not to {}",
                    said.text,
                    member.name()
                );
            }
        }
        self.report.accepted = self.said.iter().filter(|said| said.accepted).count();
        self.report.answered = self.check_answers()?;
        self.clinic.check_no_panic()?;
        let log = self.assistant.log()?;
        ensure!(!log.contains("panicked"), "the assistant panicked:\n{log}");
        Ok(self.report.clone())
    }

    /// Every question that arrived has one answer, with everybody.
    fn check_answers(&self) -> anyhow::Result<usize> {
        let mut answered = 0;
        for member in &self.members {
            let start = Instant::now();
            let (messages, questions) = loop {
                let messages = member.messages()?;
                let questions: BTreeSet<String> = messages
                    .iter()
                    .filter(|shown| self.is_question(shown))
                    .map(|shown| shown.content.clone())
                    .collect();
                let answers: BTreeSet<&String> = messages
                    .iter()
                    .filter_map(|shown| shown.question.as_ref())
                    .collect();
                if questions.iter().all(|question| answers.contains(question)) {
                    break (messages, questions);
                }
                ensure!(
                    start.elapsed() < PATIENCE,
                    "{} sees {} questions and answers to {}; the assistant's log ends with\n{}",
                    member.name(),
                    questions.len(),
                    answers.len(),
                    tail(&self.assistant.log()?)
                );
                std::thread::sleep(Duration::from_millis(200));
            };
            for question in &questions {
                let answers = messages
                    .iter()
                    .filter(|shown| shown.question.as_ref() == Some(question));
                let count = answers.count();
                ensure!(
                    count == 1,
                    "{} sees {count} answers to one question",
                    member.name()
                );
            }
            answered = questions.len();
        }
        Ok(answered)
    }

    fn is_question(&self, shown: &Shown) -> bool {
        let mut questions = self.said.iter().filter(|said| said.is_question);
        questions.any(|said| said.text == shown.text)
    }

    fn check_one(&self, member: &Member, messages: &[Shown]) -> anyhow::Result<()> {
        let name = member.name();
        let texts: Vec<&str> = messages
            .iter()
            .map(|message| message.text.as_str())
            .filter(|text| text.starts_with("message "))
            .collect();
        for said in &self.said {
            let count = texts.iter().filter(|text| **text == said.text).count();
            ensure!(count <= 1, "{name} sees {:?} {count} times", said.text);
            ensure!(
                count == 1 || !said.accepted,
                "{name} never got {:?}, which was accepted",
                said.text
            );
        }
        for sender in 0..self.members.len() {
            let expected: Vec<&str> = self
                .said
                .iter()
                .filter(|said| said.sender == sender && texts.contains(&said.text.as_str()))
                .map(|said| said.text.as_str())
                .collect();
            let seen: Vec<&str> = texts
                .iter()
                .copied()
                .filter(|text| expected.contains(text))
                .collect();
            ensure!(
                seen == expected,
                "{name} sees the messages of {} out of order",
                self.members[sender].name()
            );
        }
        let known = |text: &&&str| self.said.iter().any(|said| said.text == **text);
        match texts.iter().find(|text| !known(text)) {
            Some(text) => bail!("{name} sees {text:?}, which nobody said"),
            None => Ok(()),
        }
    }
}

/// No session broke: nothing was quarantined, missing or asked for again.
fn check_notices(member: &Member) -> anyhow::Result<()> {
    const HARMLESS: [&str; 4] = [
        "certified",
        "invite-redeemed",
        "contact-request",
        "conversation",
    ];
    let notices = member.notices()?;
    match notices
        .iter()
        .find(|kind| !HARMLESS.contains(&kind.as_str()))
    {
        Some(kind) => bail!("{} was told of {kind}", member.name()),
        None => Ok(()),
    }
}

/// Waits until a send has ended, and says whether it printed that it was accepted.
fn finish(sending: &mut Process, from: usize) -> anyhow::Result<bool> {
    let start = Instant::now();
    while sending.is_running()? {
        ensure!(start.elapsed() < PATIENCE * 2, "a send does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = sending.log()?;
    let said = log.get(from..).unwrap_or_default().lines();
    // Words go to the same log; the answer is the line that is JSON.
    let answer = said
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let recipients = answer
        .as_ref()
        .and_then(|answer| answer.get("recipients")?.as_array());
    let is_accepted = |recipient: &Value| {
        let state = recipient.get("state").and_then(Value::as_str);
        state.is_some_and(|state| {
            ["accepted", "delivered", "read"]
                .iter()
                .any(|good| state.starts_with(good))
        })
    };
    Ok(recipients
        .is_some_and(|recipients| !recipients.is_empty() && recipients.iter().all(is_accepted)))
}
