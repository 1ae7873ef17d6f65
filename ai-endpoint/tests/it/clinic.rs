//! The real program in a real clinic: enrolled with an invite, asked by people with real endpoints, killed and restarted.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use wardline_client::api::{
    AccountId, AiAnswer, Client, ConversationId, Handle, InviteLink, MessageBody, MessageFilter,
    Notification, ProfileConfig, Role, SystemClock, Unlock,
};
use wardline_client::content::{AiBackend, ContentId};
use wardline_e2e::clinic::Clinic;
use wardline_e2e::ollama::{DIGEST, Ollama as StandIn, Script, Step, answer, piece};
use wardline_e2e::process::Process;
use wardline_wire::clock::Clock as _;

const PATIENCE: Duration = Duration::from_mins(2);

/// The assistant's program with its configuration.
struct Assistant {
    config: PathBuf,
    log: PathBuf,
    running: Option<Process>,
}

impl Assistant {
    fn new(folder: &Path, model: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let secret = folder.join("passphrase");
        std::fs::write(&secret, "correct horse battery staple\n")?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
        let config = folder.join("ai.toml");
        let text =
            format!("[profile]\ndir = \"profile\"\npassphrase_file = \"passphrase\"\n{model}");
        std::fs::write(&config, text)?;
        Ok(Self {
            config,
            log: folder.join("ai.log"),
            running: None,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline-ai"));
        command.arg("--config").arg(&self.config);
        command
    }

    fn call(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command().args(arguments).output()?)
    }

    fn enroll(&self, link: &str) -> anyhow::Result<()> {
        let output = self.call(&["enroll", link])?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let process = Process::start("wardline-ai", self.command().arg("run"), &self.log)?;
        self.running = Some(process);
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.running.take().context("not running")?.kill()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.running.take().context("not running")?.stop()?;
        ensure!(status.success(), "{status}: {}", self.log()?);
        Ok(())
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

/// Somebody with an endpoint of their own.
struct Person {
    client: Client,
    heard: tokio::sync::broadcast::Receiver<Notification>,
}

impl Person {
    async fn join(clinic: &Clinic, name: &str, role: Role) -> anyhow::Result<Self> {
        let link = clinic.invite_link(role, None)?;
        let dir = clinic.people_folder()?.join(name);
        let key = clinic.people_folder()?.join(format!("{name}.key"));
        let invite = InviteLink::from_link(&link, SystemClock.now())?;
        let client = Client::enrol(ProfileConfig::new(dir, Unlock::KeyFile(key)), &invite).await?;
        let heard = client.subscribe();
        client.wait_certified(PATIENCE).await?;
        Ok(Self { client, heard })
    }

    async fn says(&self, to: ConversationId, text: &str) -> anyhow::Result<ContentId> {
        Ok(self
            .client
            .send_text(to, text, None, Vec::new())
            .await?
            .content_id)
    }

    /// Every answer to a question that is stored here.
    async fn answers(&self, to: ContentId) -> anyhow::Result<Vec<AiAnswer>> {
        let filter = MessageFilter {
            limit: 1000,
            ..MessageFilter::default()
        };
        let messages = self.client.messages(filter).await?;
        let answers = messages
            .into_iter()
            .filter_map(|message| match message.body {
                MessageBody::Answer(answer) if answer.question == to => Some(answer),
                _ => None,
            });
        Ok(answers.collect())
    }

    async fn hears(&mut self, to: ContentId) -> anyhow::Result<AiAnswer> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answers(to).await?.pop() {
                return Ok(answer);
            }
            ensure!(tokio::time::Instant::now() < deadline, "there is no answer");
            // A wake-up that was missed costs a second, nothing else.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.heard.recv()).await;
        }
    }

    /// Opens a conversation with the assistant and perhaps others.
    async fn opens(
        &self,
        title: Option<&str>,
        with: &[AccountId],
    ) -> anyhow::Result<ConversationId> {
        let handle = "assistant".parse::<Handle>()?;
        let assistant = self.client.lookup_handle(&handle).await?.account;
        let members = with.iter().copied().chain([assistant]).collect();
        Ok(self
            .client
            .create_conversation(title.map(str::to_owned), members)
            .await?)
    }
}

async fn clinic_with(model: &str) -> anyhow::Result<(Clinic, Assistant)> {
    wardline_e2e::install_tls();
    let clinic = Clinic::open().await?;
    let assistant = Assistant::new(&clinic.folder().join("assistant"), model)?;
    assistant.enroll(&clinic.invite_link(Role::Ai, Some(("assistant", "Clinic assistant")))?)?;
    Ok((clinic, assistant))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_it_answers_from_the_documents() -> anyhow::Result<()> {
    let (clinic, mut assistant) = clinic_with("").await?;
    assistant.start()?;
    let mut nurse = Person::join(&clinic, "nurse", Role::Staff).await?;
    let room = nurse.opens(None, &[]).await?;
    let question = nurse.says(room, "How do I keep a wound clean?").await?;
    let answer = nurse.hears(question).await?;
    ensure!(
        answer.text.contains("Wash your hands with soap"),
        "a wrong answer"
    );
    ensure!(answer.provenance.backend == AiBackend::Extractive);
    ensure!(
        answer
            .provenance
            .citations
            .iter()
            .any(|citation| citation.file == "wound-care.md")
    );
    ensure!(answer.disclaimer.contains("not medical advice"));

    let help = nurse.says(room, "help").await?;
    ensure!(nurse.hears(help).await?.text.contains("a computer program"));
    let emergency = nurse
        .says(room, "my chest hurts and I can't breathe")
        .await?;
    let advice = nurse.hears(emergency).await?;
    ensure!(advice.provenance.backend == AiBackend::Fixed && advice.text.contains("112"));

    let mut well = false;
    for _ in 0..300 {
        well = assistant.call(&["healthcheck"])?.status.success();
        if well {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(well, "not well: {}", assistant.log()?);
    assistant.stop()?;
    ensure!(assistant.call(&["healthcheck"])?.status.code() == Some(10));
    let log = assistant.log()?;
    for word in ["wound", "chest", "soap", &question.to_hex()] {
        ensure!(!log.contains(word), "{word:?} is in the log:\n{log}");
    }
    nurse.client.shutdown().await;
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_an_answer_it_answers_once() -> anyhow::Result<()> {
    let stand_in = StandIn::start().await?;
    let model = format!(
        "[model]\nbackend = \"ollama\"\nurl = \"{}\"\nname = \"tiny-chat\"\n",
        stand_in.url()
    );
    let (clinic, mut assistant) = clinic_with(&model).await?;
    assistant.start()?;
    let mut nurse = Person::join(&clinic, "nurse", Role::Staff).await?;
    let room = nurse.opens(None, &[]).await?;

    // It dies while the model speaks.
    let words = ["Wash your hands ", "and keep it dry. "];
    let script = words
        .iter()
        .fold(Script::stream("application/x-ndjson"), |script, word| {
            script.line(&piece(word))
        });
    stand_in.chat(script.then(Step::Hang));
    let question = nurse.says(room, "How do I keep a wound clean?").await?;
    stand_in
        .until(|requests| requests.iter().any(|request| request.path == "/api/chat"))
        .await;
    assistant.kill()?;
    stand_in.until_idle().await;
    ensure!(nurse.answers(question).await?.is_empty());

    stand_in.chat(answer(&["Wash your hands ", "and keep it dry [1]."]));
    assistant.start()?;
    let heard = nurse.hears(question).await?;
    ensure!(
        heard.text == "Wash your hands and keep it dry [1].",
        "{}",
        heard.text
    );
    ensure!(
        heard.provenance.backend == AiBackend::Ollama && heard.provenance.model_digest == DIGEST
    );

    // It dies at any moment around the answer; the next question shows that nothing is repeated.
    for round in 0..4_u64 {
        stand_in.chat(answer(&["Rest."]));
        stand_in.chat(answer(&["Rest."]));
        let asked = nurse.says(room, "How long does a fever last?").await?;
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        assistant.kill()?;
        assistant.start()?;
        nurse.hears(asked).await?;
        let next = nurse.says(room, "status").await?;
        nurse.hears(next).await?;
        ensure!(nurse.answers(asked).await?.len() == 1, "round {round}");
    }
    ensure!(nurse.answers(question).await?.len() == 1);
    // What the model was shown holds no names and no ids.
    let shown = stand_in
        .chats()
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    let own = nurse.client.own().await?;
    ensure!(!shown.contains(&own.name) && !shown.contains(&own.address.account.to_string()));
    assistant.stop()?;
    nurse.client.shutdown().await;
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_it_speaks_when_addressed_and_stops_when_told() -> anyhow::Result<()> {
    let stand_in = StandIn::start().await?;
    let model = format!(
        "[model]\nbackend = \"ollama\"\nurl = \"{}\"\nname = \"tiny-chat\"\n",
        stand_in.url()
    );
    let (clinic, mut assistant) = clinic_with(&model).await?;
    assistant.start()?;
    let mut nurse = Person::join(&clinic, "nurse", Role::Staff).await?;
    let other = Person::join(&clinic, "other", Role::Staff).await?;
    let own = other.client.own().await?;
    let handle = own.handle.context("no handle")?.parse::<Handle>()?;
    let colleague = nurse.client.lookup_handle(&handle).await?.account;
    let room = nurse.opens(Some("Ward"), &[colleague]).await?;

    let aside = nurse.says(room, "Shall we have lunch?").await?;
    let mut script = Script::stream("application/x-ndjson");
    for _ in 0..10 {
        script = script.line(&piece(
            "Keep the wound clean and dry, and then keep it so. ",
        ));
    }
    stand_in.chat(script.then(Step::Hang));
    let question = nurse.says(room, "@ai How do I keep a wound clean?").await?;
    // Partial answers reach whoever is online.
    let mut partial = None;
    while partial.is_none() {
        match tokio::time::timeout(PATIENCE, nurse.heard.recv()).await? {
            Ok(Notification::Partial(heard)) => partial = Some(heard),
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let partial = partial.context("no partial")?;
    ensure!(partial.conversation == room && partial.partial.question == question);
    nurse.says(room, "@ai stop").await?;
    let stopped = nurse.hears(question).await?;
    ensure!(
        stopped.provenance.cut && stopped.text.contains("was stopped"),
        "{}",
        stopped.text
    );
    ensure!(nurse.answers(aside).await?.is_empty());

    // A member objects: not another word.
    nurse.client.set_ai(room, false).await?;
    let silent = nurse.says(room, "@ai status").await?;
    let direct = nurse.opens(None, &[]).await?;
    let status = nurse.says(direct, "status").await?;
    nurse.hears(status).await?;
    ensure!(nurse.answers(silent).await?.is_empty());
    assistant.stop()?;
    nurse.client.shutdown().await;
    other.client.shutdown().await;
    clinic.check_no_panic()
}

#[test]
fn a_server_outside_the_boundary_or_with_cloud_is_refused_at_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let outside =
        "[model]\nbackend = \"ollama\"\nurl = \"http://203.0.113.5:11434\"\nname = \"m\"\n";
    let assistant = Assistant::new(folder.path(), outside)?;
    let output = assistant.call(&["check"])?;
    ensure!(output.status.code() == Some(9));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(words.contains("outside the clinic's boundary"), "{words}");
    let typo = Assistant::new(folder.path(), "[model]\nbackned = \"ollama\"\n")?.call(&["run"])?;
    let words = String::from_utf8_lossy(&typo.stderr).into_owned();
    ensure!(
        typo.status.code() == Some(1) && words.contains("did you mean \"backend\"?"),
        "{words}"
    );
    let help = assistant.call(&["--help"])?;
    ensure!(String::from_utf8_lossy(&help.stdout).contains("healthcheck"));
    Ok(())
}
