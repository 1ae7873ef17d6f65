//! `cargo xtask demo`: a small clinic on loopback, and one real conversation in it.
//!
//! Everything here goes through the binaries that people run; this file only types for them.

mod clinic;
mod search;
mod stage;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use clinic::Clinic;
use stage::{Stage, Who};

/// What the patient says when nothing else is asked for.
const PATIENT_SAYS: &str =
    "Hello, my knee was operated on three days ago. How do I keep the wound clean?";
/// What the clinician asks when the patient's words led to no cited answer.
const CLINICIAN_ASKS: &str = "@assistant How do I keep a wound with stitches clean?";
/// How long the slowest step may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// With a model, the first answer may have to wait for the model to load.
const MODEL_PATIENCE: Duration = Duration::from_mins(5);

/// What `cargo xtask demo` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder in which everything lives, kept afterwards; must be empty or not exist.
    /// Without it a temporary folder is used and removed.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What the patient says.
    #[arg(long, value_name = "TEXT")]
    patient_says: Option<String>,
    /// Address of an Ollama server on loopback or a private address.
    #[arg(long, value_name = "URL", requires = "model")]
    ollama: Option<String>,
    /// The model to ask.
    #[arg(long, value_name = "NAME", requires = "ollama")]
    model: Option<String>,
    /// Print JSON: one event a line, with `who` (patient, clinician, ai, relay), `event`, `text`.
    #[arg(long, conflicts_with = "interactive")]
    json: bool,
    /// Stay in the chat afterwards, as the patient.
    #[arg(long)]
    interactive: bool,
    /// The binaries are built already: start at once.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// Builds everything, plays the conversation, checks what the relay holds.
///
/// # Errors
/// When a step fails; the message says which, and where the logs are.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let root = crate::workspace_root()?;
    if !options.no_build {
        build(&root)?;
    }
    let (dir, temporary) = folder(options.dir.as_deref())?;
    let stage = Stage::new(options.json);
    let begun = Instant::now();
    let mut clinic = Clinic::new(dir.clone());
    let played = play(options, &stage, &mut clinic);
    let kept = temporary.is_none() || played.is_err();
    drop(clinic);
    if kept {
        if let Some(temporary) = temporary {
            let _ = temporary.keep();
        }
        stage.remark(&format!("everything of this run is in {}", dir.display()));
    }
    played?;
    stage.remark(&format!("done in {:.1} s", begun.elapsed().as_secs_f32()));
    Ok(())
}

fn play(options: &Options, stage: &Stage, clinic: &mut Clinic) -> anyhow::Result<()> {
    stage.heading("The clinic");
    clinic.found()?;
    stage.tell(
        Who::Relay,
        "started",
        &format!(
            "listening on {}, its database encrypted and empty",
            clinic.relay_url()
        ),
    );
    let model = options.ollama.as_deref().zip(options.model.as_deref());
    clinic.enrol_clinician()?;
    stage.tell(
        Who::Clinician,
        "enrolled",
        "Dr Mira Lee (@dr-lee), certified by the clinic's issuer",
    );
    clinic.start_assistant(model)?;
    match model {
        Some((url, name)) => {
            stage.tell(Who::Ai, "enrolled", &format!("@assistant, a member with keys of its own; asks {name} at {url}"));
        }
        None => stage.tell(
            Who::Ai,
            "enrolled",
            "@assistant, a member with keys of its own; no model here, so it answers only with passages of the \
             clinic's documents (the built-in extractive backend)",
        ),
    }
    clinic.enrol_patient()?;
    stage.tell(
        Who::Patient,
        "enrolled",
        "with an invite that Dr Lee made; the relay knows no name",
    );
    let conversation = clinic.open_conversation()?;
    stage.tell(
        Who::Clinician,
        "opened",
        "the conversation \"Knee operation\" with the patient and the assistant",
    );

    stage.heading("The conversation");
    let patience = if model.is_some() {
        MODEL_PATIENCE
    } else {
        PATIENCE
    };
    let words = options.patient_says.as_deref().unwrap_or(PATIENT_SAYS);
    clinic.wait_for_conversation("patient", &conversation)?;
    // The clinician is offline now: the relay has to hold the message.
    let text = format!("@assistant {words}");
    clinic.say("patient", &conversation, &text)?;
    stage.tell(Who::Patient, "says", &text);
    tell_holdings(stage, clinic)?;

    let read = clinic.wait_for_message("clinician", PATIENCE, |message| {
        text_of(message) == Some(text.as_str())
    })?;
    stage.tell(Who::Clinician, "reads", text_of(&read).unwrap_or_default());

    let question = read
        .get("contentId")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let answer = wait_for_answer(stage, clinic, &question, patience)?;
    tell_answer(stage, &answer);
    if !is_cited(&answer) && (model.is_none() || is_cut(&answer)) {
        // The patient's own words were about nothing in the documents, or the model went away in
        // mid-answer: ask something that the documents answer.
        clinic.say("clinician", &conversation, CLINICIAN_ASKS)?;
        stage.tell(Who::Clinician, "says", CLINICIAN_ASKS);
        let asked = clinic.wait_for_message("patient", PATIENCE, |message| {
            text_of(message) == Some(CLINICIAN_ASKS)
        })?;
        let question = asked
            .get("contentId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let answer = wait_for_answer(stage, clinic, &question, patience)?;
        tell_answer(stage, &answer);
        if !is_cited(&answer) {
            bail!("the assistant's answer names no source");
        }
    }

    stage.heading("What the relay knows");
    tell_holdings(stage, clinic)?;
    let searched = search::search(&clinic.dir().join("relay"), words)?;
    stage.tell(
        Who::Relay,
        "searched",
        &format!(
            "{} bytes in {} files of the relay (database and logs), for the patient's words, plain, in base64 and in \
             hex: {}",
            searched.bytes,
            searched.files,
            if searched.found.is_empty() { "not found" } else { "FOUND" }
        ),
    );
    if let Some(file) = searched.found.first() {
        bail!("the patient's words are in {}", file.display());
    }
    if options.interactive {
        stage.heading("Now you are the patient (/help for help, /quit to leave)");
        clinic.chat("patient", &conversation)?;
    }
    Ok(())
}

/// Waits as the patient for the answer to a question, showing it grow.
fn wait_for_answer(
    stage: &Stage,
    clinic: &Clinic,
    question: &str,
    patience: Duration,
) -> anyhow::Result<Value> {
    clinic.follow("patient", patience, |event| {
        if let Some(partial) = event.get("partial").and_then(Value::as_str) {
            stage.tell(Who::Ai, "partial", partial);
            return false;
        }
        event.pointer("/body/question").and_then(Value::as_str) == Some(question)
            && event.get("kind").and_then(Value::as_str) == Some("answer")
    })
}

fn tell_answer(stage: &Stage, answer: &Value) {
    let body = answer.get("body").cloned().unwrap_or_default();
    let text = body.get("text").and_then(Value::as_str).unwrap_or_default();
    stage.tell_with(Who::Ai, "answers", text, &body);
}

fn is_cited(answer: &Value) -> bool {
    answer
        .pointer("/body/citations")
        .and_then(Value::as_array)
        .is_some_and(|citations| !citations.is_empty())
}

fn is_cut(answer: &Value) -> bool {
    answer.pointer("/body/cut").and_then(Value::as_bool) == Some(true)
}

fn text_of(message: &Value) -> Option<&str> {
    message.pointer("/body/text").and_then(Value::as_str)
}

/// What the relay holds right now, as its own inspection command tells it.
fn tell_holdings(stage: &Stage, clinic: &Clinic) -> anyhow::Result<()> {
    let holdings = clinic.relay_holdings()?;
    if holdings.is_empty() {
        stage.tell(
            Who::Relay,
            "holds",
            "no envelope: everything was delivered, acknowledged and deleted",
        );
    }
    for held in &holdings {
        let text = |name: &str| {
            held.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let number = |name: &str| held.get(name).and_then(Value::as_u64).unwrap_or_default();
        stage.tell_with(
            Who::Relay,
            "holds",
            &format!(
                "for device {} of account {}: {} bytes, {}…",
                number("device"),
                text("account"),
                number("bytes"),
                text("begins")
            ),
            held,
        );
    }
    Ok(())
}

fn build(root: &std::path::Path) -> anyhow::Result<()> {
    let status = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .current_dir(root)
        .args(["build", "--workspace", "--bins"])
        .stdin(Stdio::null())
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("the build failed; Wardline needs Rust 1.95, a C compiler, perl and make");
    }
    Ok(())
}

/// The folder to use; a temporary one is removed when its guard is dropped.
fn folder(
    wanted: Option<&std::path::Path>,
) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(dir) = wanted else {
        let temporary = tempfile::Builder::new()
            .prefix("wardline-demo-")
            .tempdir()
            .context("no temporary folder")?;
        return Ok((temporary.path().to_path_buf(), Some(temporary)));
    };
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    if std::fs::read_dir(dir)?.next().is_some() {
        bail!(
            "{} is not empty; the demo starts a new clinic, so name an empty folder",
            dir.display()
        );
    }
    Ok((std::fs::canonicalize(dir)?, None))
}
