//! The configuration file: read once at start, checked whole, with messages that say what to write instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::boundary::{InsideUrl, Names, OutsideBoundary};
use crate::model::http::{ClientFault, Retries, Server};
use crate::model::ollama::{Demands, Ollama};
use crate::model::openai::OpenAi;
use crate::model::{Jitter, Model, Timeouts};
use crate::pipeline::{PARTIALS_MAX, Settings};
use crate::prompt::Room;
use crate::retrieval::Source;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the endpoint's keys and messages live.
    pub profile: Profile,
    /// How it shows itself.
    #[serde(default)]
    pub display: Display,
    /// Whose conversations it joins.
    #[serde(default)]
    pub access: Access,
    /// What it answers from.
    #[serde(default)]
    pub knowledge: Knowledge,
    /// What writes the answers.
    #[serde(default)]
    pub model: ModelSection,
    /// How much of everything.
    #[serde(default)]
    pub limits: Limits,
}

/// `[profile]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Folder of the encrypted store.
    pub dir: PathBuf,
    /// File that holds the passphrase of the store. There is no other way to give it.
    pub passphrase_file: PathBuf,
}

/// `[display]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Display {
    /// The name that people see; "(AI)" is always added to it by their clients.
    pub name: String,
    /// The names by which it can be mentioned, without `@`.
    pub handles: Vec<String>,
    /// How the clinic writes its emergency number.
    pub emergency_number: String,
}

impl Default for Display {
    fn default() -> Self {
        Self {
            name: "ai".to_owned(),
            handles: vec!["ai".to_owned()],
            emergency_number: Settings::default().emergency_number,
        }
    }
}

/// `[access]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// The roles whose requests to join a conversation are accepted.
    pub accept: Vec<Inviting>,
}

/// A role in [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inviting {
    /// Patients.
    Patient,
    /// Clinicians and other staff.
    Staff,
    /// The directory's administrators.
    Admin,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            accept: vec![Inviting::Patient, Inviting::Staff, Inviting::Admin],
        }
    }
}

/// `[knowledge]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knowledge {
    /// Folder of the clinic's documents (Markdown and plain text). Without one, Wardline's sample texts are used.
    pub dir: Option<PathBuf>,
}

/// What writes the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Passages of the documents, no model.
    #[default]
    Extractive,
    /// An Ollama server.
    Ollama,
    /// A server that speaks the OpenAI dialect (vLLM, llama.cpp).
    OpenAi,
}

/// `[model]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// `extractive`, `ollama` or `openai`.
    pub backend: Backend,
    /// The server, inside the clinic's boundary.
    pub url: Option<String>,
    /// The model's name on the server.
    pub name: Option<String>,
    /// The digest the model must have, as `ollama list` shows it (at least 12 hex digits).
    pub digest: Option<String>,
    /// The window in tokens.
    pub num_ctx: u32,
    /// Most tokens of an answer.
    pub num_predict: u32,
    /// How long Ollama keeps the model loaded.
    pub keep_alive: String,
    /// Whether Ollama's cloud feature must be off. Leave this alone.
    pub require_cloud_off: bool,
    /// The least version of the Ollama server.
    pub min_version: Option<String>,
    /// Certificate authority of an `https` server, as PEM.
    pub ca_file: Option<PathBuf>,
    /// File with the API key of an `openai` server.
    pub api_key_file: Option<PathBuf>,
    /// Seconds until a connection stands.
    pub connect_seconds: u64,
    /// Seconds until the first piece of an answer; loading a model takes long.
    pub first_piece_seconds: u64,
    /// Seconds between two pieces.
    pub between_pieces_seconds: u64,
    /// Seconds for a whole answer.
    pub whole_answer_seconds: u64,
    /// Seconds for a question of the self-test.
    pub check_seconds: u64,
    /// More tries when the server is busy or away.
    pub retries: u32,
}

impl Default for ModelSection {
    fn default() -> Self {
        let timeouts = Timeouts::default();
        Self {
            backend: Backend::Extractive,
            url: None,
            name: None,
            digest: None,
            num_ctx: 8192,
            num_predict: 700,
            keep_alive: "10m".to_owned(),
            require_cloud_off: true,
            min_version: None,
            ca_file: None,
            api_key_file: None,
            connect_seconds: timeouts.connect.as_secs(),
            first_piece_seconds: timeouts.first_piece.as_secs(),
            between_pieces_seconds: timeouts.between_pieces.as_secs(),
            whole_answer_seconds: timeouts.whole_answer.as_secs(),
            check_seconds: timeouts.check.as_secs(),
            retries: 3,
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most characters of a question that the model is shown.
    pub question_chars: usize,
    /// Most characters of an answer.
    pub answer_chars: usize,
    /// Most earlier messages that the model is shown.
    pub history_turns: usize,
    /// Partial answers per answer, at most 20; 0 sends only whole ones.
    pub partials: usize,
    /// Answers written at the same time.
    pub answers_at_once: usize,
    /// Questions of one member in one minute; more are answered with a request to wait.
    pub questions_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            question_chars: settings.question_chars,
            answer_chars: settings.answer_chars,
            history_turns: settings.room.turns,
            partials: settings.partials,
            answers_at_once: 2,
            questions_per_minute: 10,
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub enum ConfigFault {
    /// The file can't be read.
    #[error("the configuration {path} can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong kind.
    #[error("the configuration is wrong: {0}")]
    Toml(String),
    /// A key that doesn't exist.
    #[error("unknown key {key:?}{place}{hint}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where it stands.
        place: String,
        /// The nearest known one, as a question.
        hint: String,
    },
    /// A value that makes no sense.
    #[error("{key}: {what}")]
    Value {
        /// The key with its section.
        key: &'static str,
        /// What is wrong and what to write.
        what: String,
    },
    /// A secret's file.
    #[error("{key}: the file {path} can't be read: {source}")]
    Secret {
        /// The key with its section.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model server lies outside the boundary.
    #[error(transparent)]
    Outside(#[from] OutsideBoundary),
    /// The client can't be made.
    #[error(transparent)]
    Client(#[from] ClientFault),
}

/// Every key there is, by section. A test holds this against the structs.
const KEYS: [(&str, &[&str]); 6] = [
    ("profile", &["dir", "passphrase_file"]),
    ("display", &["name", "handles", "emergency_number"]),
    ("access", &["accept"]),
    ("knowledge", &["dir"]),
    (
        "model",
        &[
            "backend",
            "url",
            "name",
            "digest",
            "num_ctx",
            "num_predict",
            "keep_alive",
            "require_cloud_off",
            "min_version",
            "ca_file",
            "api_key_file",
            "connect_seconds",
            "first_piece_seconds",
            "between_pieces_seconds",
            "whole_answer_seconds",
            "check_seconds",
            "retries",
        ],
    ),
    (
        "limits",
        &[
            "question_chars",
            "answer_chars",
            "history_turns",
            "partials",
            "answers_at_once",
            "questions_per_minute",
        ],
    ),
];

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`ConfigFault`], which is written to be shown.
    pub fn load(path: &Path) -> Result<Self, ConfigFault> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigFault::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        let mut config = Self::parse(&text)?;
        // Paths are meant from where the file lies, not from where the program was started.
        let base = path.parent().unwrap_or(Path::new(""));
        config.profile.dir = base.join(&config.profile.dir);
        config.profile.passphrase_file = base.join(&config.profile.passphrase_file);
        for path in [
            &mut config.knowledge.dir,
            &mut config.model.ca_file,
            &mut config.model.api_key_file,
        ] {
            *path = path.take().map(|path| base.join(path));
        }
        Ok(config)
    }

    /// Checks a text.
    ///
    /// # Errors
    ///
    /// [`ConfigFault`], which is written to be shown.
    pub fn parse(text: &str) -> Result<Self, ConfigFault> {
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigFault::Toml(e.to_string()))?;
        check_keys(&table)?;
        let config: Self = toml::from_str(text).map_err(|e| ConfigFault::Toml(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigFault> {
        let wrong = |key, what: &str| {
            Err(ConfigFault::Value {
                key,
                what: what.to_owned(),
            })
        };
        let model = &self.model;
        if self.display.name.trim().is_empty() || self.display.name.chars().count() > 64 {
            return wrong("display.name", "must have 1 to 64 characters");
        }
        let plain = |handle: &String| {
            (1..=32).contains(&handle.len())
                && handle
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if self.display.handles.is_empty() || !self.display.handles.iter().all(plain) {
            return wrong(
                "display.handles",
                "needs at least one name of letters, digits, - and _, without the @",
            );
        }
        if model.backend == Backend::Extractive {
            if model.url.is_some() || model.name.is_some() {
                return wrong(
                    "model.backend",
                    "is \"extractive\", which uses no model: remove url and name, or choose \"ollama\" or \"openai\"",
                );
            }
        } else {
            if model.url.is_none() {
                return wrong(
                    "model.url",
                    "is missing, for example \"http://127.0.0.1:11434\"",
                );
            }
            if model
                .name
                .as_deref()
                .is_none_or(|name| name.trim().is_empty())
            {
                return wrong("model.name", "is missing, for example \"qwen3:8b\"");
            }
        }
        if let Some(digest) = &model.digest {
            let hex = digest
                .trim()
                .strip_prefix("sha256:")
                .unwrap_or(digest.trim());
            if hex.len() < 12 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return wrong(
                    "model.digest",
                    "must be at least 12 hex digits, as `ollama list` shows them",
                );
            }
            if model.backend != Backend::Ollama {
                return wrong(
                    "model.digest",
                    "can only be checked with backend \"ollama\"; remove it",
                );
            }
        }
        if model.api_key_file.is_some() && model.backend != Backend::OpenAi {
            return wrong(
                "model.api_key_file",
                "is only used with backend \"openai\"; remove it",
            );
        }
        if !(1024..=1_048_576).contains(&model.num_ctx) {
            return wrong("model.num_ctx", "must lie between 1024 and 1048576 tokens");
        }
        if model.num_predict == 0 || model.num_predict > model.num_ctx / 2 {
            return wrong(
                "model.num_predict",
                "must lie between 1 and half of num_ctx",
            );
        }
        for (key, seconds) in [
            ("model.connect_seconds", model.connect_seconds),
            ("model.first_piece_seconds", model.first_piece_seconds),
            ("model.between_pieces_seconds", model.between_pieces_seconds),
            ("model.whole_answer_seconds", model.whole_answer_seconds),
            ("model.check_seconds", model.check_seconds),
        ] {
            if !(1..=86_400).contains(&seconds) {
                return wrong(key, "must lie between 1 second and a day");
            }
        }
        if model.retries > 10 {
            return wrong("model.retries", "must be at most 10");
        }
        let limits = &self.limits;
        if limits.partials > PARTIALS_MAX {
            return wrong(
                "limits.partials",
                "must be at most 20: each is a message to every member",
            );
        }
        if !(100..=20_000).contains(&limits.answer_chars) {
            return wrong("limits.answer_chars", "must lie between 100 and 20000");
        }
        if !(100..=100_000).contains(&limits.question_chars) {
            return wrong("limits.question_chars", "must lie between 100 and 100000");
        }
        if limits.history_turns > 200 {
            return wrong("limits.history_turns", "must be at most 200");
        }
        if !(1..=64).contains(&limits.answers_at_once) {
            return wrong("limits.answers_at_once", "must lie between 1 and 64");
        }
        if limits.questions_per_minute == 0 {
            return wrong("limits.questions_per_minute", "must be at least 1");
        }
        Ok(())
    }

    /// Where the documents come from.
    pub fn source(&self) -> Source {
        self.knowledge
            .dir
            .clone()
            .map_or(Source::Samples, Source::Folder)
    }

    /// What the pipeline needs to know.
    pub fn settings(&self) -> Settings {
        Settings {
            room: Room {
                num_ctx: self.model.num_ctx,
                num_predict: self.model.num_predict,
                turns: self.limits.history_turns,
            },
            answer_chars: self.limits.answer_chars,
            question_chars: self.limits.question_chars,
            partials: self.limits.partials,
            emergency_number: self.display.emergency_number.clone(),
            ..Settings::default()
        }
    }

    /// Makes the model, after judging its URL. Asks the server nothing yet.
    ///
    /// # Errors
    ///
    /// [`ConfigFault::Outside`] for a server outside the boundary, and others for files that can't be read.
    pub async fn model(
        &self,
        names: Arc<dyn Names>,
        jitter: Jitter,
    ) -> Result<Option<Arc<dyn Model>>, ConfigFault> {
        let section = &self.model;
        let (Some(url), Some(name)) = (&section.url, &section.name) else {
            return Ok(None);
        };
        let mut base = InsideUrl::judge(url, names).await?;
        let ca = match &section.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(secret("model.ca_file", path))?),
            None => None,
        };
        let key = match &section.api_key_file {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(secret("model.api_key_file", path))?;
                Some(Arc::from(text.trim()))
            }
            None => None,
        };
        let seconds = Duration::from_secs;
        let timeouts = Timeouts {
            connect: seconds(section.connect_seconds),
            first_piece: seconds(section.first_piece_seconds),
            between_pieces: seconds(section.between_pieces_seconds),
            whole_answer: seconds(section.whole_answer_seconds),
            check: seconds(section.check_seconds),
        };
        let retries = Retries {
            busy: section.retries,
            pause: Duration::from_millis(500),
            jitter,
        };
        Ok(Some(match section.backend {
            Backend::Extractive => return Ok(None),
            Backend::Ollama => {
                let demands = Demands {
                    model: name.clone(),
                    digest: section.digest.clone(),
                    num_ctx: section.num_ctx,
                    num_predict: section.num_predict,
                    keep_alive: section.keep_alive.clone(),
                    require_cloud_off: section.require_cloud_off,
                    min_version: section.min_version.clone(),
                };
                Arc::new(Ollama::new(
                    Server::new(base, ca.as_deref(), key, timeouts, retries)?,
                    demands,
                ))
            }
            Backend::OpenAi => {
                if !base.to_string().ends_with("/v1/") {
                    base = base.below("v1/");
                }
                let server = Server::new(base, ca.as_deref(), key, timeouts, retries)?;
                Arc::new(OpenAi::new(server, name.clone(), section.num_predict))
            }
        }))
    }
}

fn secret(key: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ConfigFault {
    move |source| ConfigFault::Secret {
        key,
        path: path.to_path_buf(),
        source,
    }
}

fn check_keys(table: &toml::Table) -> Result<(), ConfigFault> {
    let sections: Vec<&str> = KEYS.iter().map(|(section, _)| *section).collect();
    for (key, value) in table {
        let Some((section, keys)) = KEYS.iter().find(|(section, _)| section == key) else {
            return Err(unknown(key, "", &sections));
        };
        let Some(inner) = value.as_table() else {
            continue;
        };
        for key in inner.keys() {
            if !keys.contains(&key.as_str()) {
                return Err(unknown(key, section, keys));
            }
        }
    }
    Ok(())
}

fn unknown(key: &str, section: &str, known: &[&str]) -> ConfigFault {
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let hint = match nearest {
        Some(nearest) if strsim::jaro_winkler(nearest, key) > 0.75 => {
            format!("; did you mean {nearest:?}?")
        }
        _ => format!("; there are {}", known.join(", ")),
    };
    let place = if section.is_empty() {
        String::new()
    } else {
        format!(" in [{section}]")
    };
    ConfigFault::UnknownKey {
        key: key.to_owned(),
        place,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::SystemNames;

    const LEAST: &str = "[profile]\ndir = \"p\"\npassphrase_file = \"s\"\n";

    fn fault(more: &str) -> String {
        Config::parse(&format!("{LEAST}{more}"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_least_configuration_needs_no_model() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!(config.model.backend, Backend::Extractive);
        assert!(matches!(config.source(), Source::Samples));
        assert_eq!(config.display.handles, ["ai"]);
    }

    #[test]
    fn the_example_is_a_configuration_with_its_comments_too() {
        let example = include_str!("../wardline-ai.example.toml");
        assert!(Config::parse(example).is_ok());
        let mut ollama = example.replace("backend = \"extractive\"\n# backend", "backend");
        for key in [
            "dir",
            "url",
            "name",
            "digest",
            "num_ctx",
            "num_predict",
            "first",
            "between",
        ] {
            ollama = ollama.replace(&format!("\n# {key}"), &format!("\n{key}"));
        }
        let config = Config::parse(&ollama).unwrap();
        assert_eq!(config.model.backend, Backend::Ollama);
        assert!(config.model.digest.is_some() && config.knowledge.dir.is_some());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let text = fault("[model]\nbackned = \"ollama\"\n");
        assert!(
            text.contains("\"backned\" in [model]") && text.contains("did you mean \"backend\"?"),
            "{text}"
        );
        let text = fault("[modle]\nname = \"x\"\n");
        assert!(
            text.contains("\"modle\"") && text.contains("\"model\"?"),
            "{text}"
        );
        let text = fault("[knowledge]\nfrobnicate = 1\n");
        assert!(
            text.contains("\"frobnicate\" in [knowledge]; there are dir"),
            "{text}"
        );
        assert!(fault("[limits]\npartials = \"many\"\n").contains("partials"));
    }

    #[test]
    fn the_table_of_keys_is_complete() {
        // A key that the table knows and the struct doesn't is refused by serde, and the other way round by the table.
        for (section, keys) in KEYS {
            for key in keys {
                let text = if section == "profile" {
                    LEAST.to_owned()
                } else {
                    format!("{LEAST}[{section}]\n{key} = {{}}\n")
                };
                let message = Config::parse(&text)
                    .err()
                    .map(|e| e.to_string())
                    .unwrap_or_default();
                assert!(!message.contains("unknown"), "{section}.{key}: {message}");
            }
        }
        let names: Vec<&str> = KEYS
            .iter()
            .flat_map(|(_, keys)| keys.iter().copied())
            .collect();
        let source = include_str!("config.rs");
        let structs = source
            .split("/// Why a configuration can't be used.")
            .next()
            .unwrap();
        for line in structs
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub "))
        {
            let field = line.split(':').next().unwrap_or_default();
            if line.ends_with(',')
                && ![
                    "profile",
                    "display",
                    "access",
                    "knowledge",
                    "model",
                    "limits",
                ]
                .contains(&field)
            {
                assert!(names.contains(&field), "{field} is missing in KEYS");
            }
        }
    }

    #[test]
    fn values_are_checked() {
        for (more, word) in [
            ("[model]\nbackend = \"ollama\"\nname = \"m\"", "model.url"),
            (
                "[model]\nbackend = \"ollama\"\nurl = \"http://127.0.0.1\"",
                "model.name",
            ),
            ("[model]\nurl = \"http://127.0.0.1\"", "model.backend"),
            (
                "[model]\nbackend = \"openai\"\nurl = \"http://127.0.0.1\"\nname = \"m\"\ndigest = \"aaaaaaaaaaaa\"",
                "model.digest",
            ),
            (
                "[model]\nbackend = \"ollama\"\nurl = \"http://127.0.0.1\"\nname = \"m\"\ndigest = \"latest\"",
                "model.digest",
            ),
            ("[model]\nnum_ctx = 10", "model.num_ctx"),
            ("[model]\nnum_predict = 8000", "model.num_predict"),
            ("[model]\ncheck_seconds = 0", "model.check_seconds"),
            ("[model]\nbackend = \"cloud\"", "unknown variant"),
            ("[limits]\npartials = 21", "limits.partials"),
            ("[limits]\nanswers_at_once = 0", "limits.answers_at_once"),
            ("[display]\nhandles = [\"@ai\"]", "display.handles"),
            ("[display]\nname = \"\"", "display.name"),
        ] {
            let text = fault(more);
            assert!(text.contains(word), "{more}: {text}");
        }
    }

    #[test]
    fn paths_are_meant_from_where_the_file_lies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ai.toml");
        std::fs::write(&file, format!("{LEAST}[knowledge]\ndir = \"docs\"\n")).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.profile.dir, folder.path().join("p"));
        assert_eq!(config.knowledge.dir, Some(folder.path().join("docs")));
        assert!(Config::load(&folder.path().join("absent")).is_err());
    }

    #[tokio::test]
    async fn a_model_outside_the_boundary_is_refused_at_start() {
        let text = format!(
            "{LEAST}[model]\nbackend = \"ollama\"\nurl = \"http://203.0.113.5:11434\"\nname = \"m\"\n"
        );
        let config = Config::parse(&text).unwrap();
        let fault = config
            .model(Arc::new(SystemNames), Arc::new(|| 0.5))
            .await
            .err()
            .unwrap();
        assert!(
            fault.to_string().contains("outside the clinic's boundary"),
            "{fault}"
        );
    }

    #[tokio::test]
    async fn https_needs_an_authority() {
        let text = format!(
            "{LEAST}[model]\nbackend = \"openai\"\nurl = \"https://127.0.0.1\"\nname = \"m\"\n"
        );
        let config = Config::parse(&text).unwrap();
        let fault = config
            .model(Arc::new(SystemNames), Arc::new(|| 0.5))
            .await
            .err()
            .unwrap();
        assert!(fault.to_string().contains("model.ca_file"), "{fault}");
    }
}
