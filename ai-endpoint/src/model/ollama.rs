//! Ollama's own dialect (`/api/chat`): the default for a language model, because it lets us set the window and prove
//! that nothing leaves the machine.
//!
//! A "local" Ollama can forward prompts to its maker's cloud, cut over-long prompts without a word, end a stream
//! without having finished, and put an error into a stream with status 200. Each is an error here.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Dialect, Read, Server, error_words, is_too_long};
use super::{
    Answering, BoundaryFault, Checked, End, Identity, Model, ModelError, ServerText, Warning,
};
use crate::prompt::{Prompt, Speaker};
use std::sync::{Mutex, PoisonError};

/// What to ask of an Ollama server, and what to insist on.
#[derive(Clone, Debug)]
pub struct Demands {
    /// The model's name, for example `qwen3:8b`.
    pub model: String,
    /// Digest of the model as `ollama list` shows it, at least 12 hex digits; without one, the first seen is kept.
    pub digest: Option<String>,
    /// The window in tokens. One fixed number per model: another one makes the server load the model again.
    pub num_ctx: u32,
    /// Most tokens of an answer.
    pub num_predict: u32,
    /// How long the server keeps the model loaded.
    pub keep_alive: String,
    /// Whether the server's cloud switch must be off.
    pub require_cloud_off: bool,
    /// The least version of the server.
    pub min_version: Option<String>,
}

/// A model on an Ollama server.
pub struct Ollama {
    server: Server,
    demands: Demands,
    seen_digest: Mutex<Option<String>>,
}

impl Ollama {
    /// Speaks to `server`. Nothing is asked yet.
    pub fn new(server: Server, demands: Demands) -> Self {
        Self {
            server,
            demands,
            seen_digest: Mutex::new(None),
        }
    }

    async fn checked(&self) -> Result<Checked, ModelError> {
        let mut warnings = Vec::new();
        let name = &self.demands.model;
        if is_cloud_name(name) {
            return Err(BoundaryFault::CloudName(name.clone()).into());
        }
        let version: Version = self.server.ask("api/version").await?;
        if let Some(wanted) = &self.demands.min_version
            && numbers(&version.version) < numbers(wanted)
        {
            let found = short(&version.version);
            return Err(BoundaryFault::TooOld {
                found,
                wanted: wanted.clone(),
            }
            .into());
        }
        match self.server.ask::<Status>("api/status").await {
            Ok(status) if status.cloud.disabled => {}
            Ok(_) if self.demands.require_cloud_off => return Err(BoundaryFault::CloudOn.into()),
            Ok(_) => warnings.push(Warning::CloudNotDisabled),
            Err(ModelError::Refused { status: 404, .. }) if self.demands.require_cloud_off => {
                return Err(BoundaryFault::CloudUnknown.into());
            }
            Err(ModelError::Refused { status: 404, .. }) => warnings.push(Warning::CloudUnknown),
            Err(error) => return Err(error),
        }
        let tags: Listing = self.server.ask("api/tags").await?;
        let tag = tags
            .models
            .iter()
            .find(|tag| tag.is(name))
            .ok_or(ModelError::NoSuchModel)?;
        let shown: Shown = self
            .server
            .ask_with("api/show", &serde_json::json!({ "model": name }))
            .await?;
        if tag.remote.is_remote() || shown.remote.is_remote() {
            return Err(BoundaryFault::RemoteModel(name.clone()).into());
        }
        let digest = self.pin(&tag.digest)?;
        let running: Listing = self.server.ask("api/ps").await?;
        let mut limit = shown.window();
        if let Some(loaded) = running.models.iter().find(|tag| tag.is(name)) {
            // Zero or absent means that this server doesn't say.
            if let Some(window) = loaded.context_length.filter(|window| *window > 0) {
                limit = Some(limit.map_or(window, |limit| limit.min(window)));
            }
            if loaded.size_vram > 0 && loaded.size_vram < loaded.size {
                warnings.push(Warning::PartlyOnCpu);
            }
        }
        if limit.is_some_and(|limit| limit < self.demands.num_ctx) {
            warnings.push(Warning::SmallContext);
        }
        let identity = Identity {
            digest,
            server: short(&version.version),
            ..self.identity()
        };
        Ok(Checked {
            identity,
            context_limit: limit,
            warnings,
        })
    }

    /// Compares with the configured digest, or with the one seen first.
    fn pin(&self, found: &str) -> Result<String, BoundaryFault> {
        let found = bare(found);
        let mut seen = self
            .seen_digest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let expected = self
            .demands
            .digest
            .as_deref()
            .map(bare)
            .or_else(|| seen.clone());
        match expected {
            Some(expected) if !found.starts_with(&expected) => Err(BoundaryFault::DigestChanged {
                expected: short(&expected),
                found: short(&found),
            }),
            _ => {
                *seen = Some(found.clone());
                Ok(found)
            }
        }
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Answering, ModelError> {
        let checked = self.checked().await?;
        let num_ctx = self.demands.num_ctx;
        if checked
            .context_limit
            .is_some_and(|limit| prompt.estimate > limit)
        {
            return Err(ModelError::TooLong);
        }
        let request = Chat {
            model: &self.demands.model,
            messages: prompt
                .messages
                .iter()
                .map(|message| Message {
                    role: role(message.speaker),
                    content: &message.text,
                })
                .collect(),
            stream: true,
            think: false,
            truncate: false,
            shift: false,
            keep_alive: &self.demands.keep_alive,
            options: Options {
                num_ctx,
                num_predict: self.demands.num_predict,
                temperature: 0,
                seed: 7,
            },
        };
        let pieces = self
            .server
            .stream("api/chat", &request, Box::new(Ndjson::default()))
            .await?;
        Ok(Answering {
            identity: checked.identity,
            pieces,
        })
    }
}

impl Model for Ollama {
    fn identity(&self) -> Identity {
        Identity {
            backend: "ollama",
            model: self.demands.model.clone(),
            digest: String::new(),
            server: String::new(),
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<Checked, ModelError>> {
        Box::pin(self.checked())
    }

    fn answer<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answering, ModelError>> {
        Box::pin(self.ask(prompt))
    }
}

/// Whether a name belongs to a model that Ollama forwards to its maker: the tag is `cloud` or ends in `-cloud`.
pub fn is_cloud_name(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    let last = name.rsplit([':', '/']).next().unwrap_or_default();
    last == "cloud" || last.ends_with("-cloud")
}

fn bare(digest: &str) -> String {
    let digest = digest.trim().to_lowercase();
    digest
        .strip_prefix("sha256:")
        .map_or(digest.clone(), str::to_owned)
}

/// A server's word, short and harmless enough for a message.
fn short(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_graphic)
        .take(40)
        .collect()
}

/// The numbers of a version; a suffix like `-rc1` is ignored.
fn numbers(version: &str) -> Vec<u64> {
    let core = version
        .trim_start_matches('v')
        .split(['-', '+'])
        .next()
        .unwrap_or_default();
    core.split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

fn role(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::Rules => "system",
        Speaker::People => "user",
        Speaker::Assistant => "assistant",
    }
}

#[derive(Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the fields of a foreign protocol"
)]
struct Chat<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    think: bool,
    truncate: bool,
    shift: bool,
    keep_alive: &'a str,
    options: Options,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Options {
    num_ctx: u32,
    num_predict: u32,
    temperature: u32,
    seed: u32,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Status {
    cloud: Cloud,
}

#[derive(Deserialize)]
struct Cloud {
    disabled: bool,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    name: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    size_vram: u64,
    context_length: Option<u32>,
    #[serde(flatten)]
    remote: Remote,
}

impl Tag {
    /// `qwen3` and `qwen3:latest` are the same model.
    fn is(&self, name: &str) -> bool {
        let full = |name: &str| {
            let last = name.rsplit('/').next().unwrap_or_default();
            if last.contains(':') {
                name.to_lowercase()
            } else {
                format!("{}:latest", name.to_lowercase())
            }
        };
        full(&self.name) == full(name)
    }
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    model_info: serde_json::Map<String, Value>,
    #[serde(flatten)]
    remote: Remote,
}

impl Shown {
    /// The window that the model was made for.
    fn window(&self) -> Option<u32> {
        let architecture = self.model_info.get("general.architecture")?.as_str()?;
        let window = self
            .model_info
            .get(&format!("{architecture}.context_length"))?
            .as_u64()?;
        u32::try_from(window).ok().filter(|window| *window > 0)
    }
}

/// The fields by which Ollama admits that a model runs elsewhere.
#[derive(Default, Deserialize)]
struct Remote {
    remote_host: Option<Value>,
    remote_model: Option<Value>,
}

impl Remote {
    fn is_remote(&self) -> bool {
        let set = |value: &Option<Value>| match value {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        set(&self.remote_host) || set(&self.remote_model)
    }
}

#[derive(Deserialize)]
struct Line {
    error: Option<Value>,
    message: Option<LineMessage>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    #[serde(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct LineMessage {
    content: Option<String>,
    tool_calls: Option<Value>,
}

/// One JSON object a line.
#[derive(Default)]
struct Ndjson {
    tools: bool,
}

impl Dialect for Ndjson {
    fn line(&mut self, line: &[u8]) -> Result<Read, ModelError> {
        if line.trim_ascii().is_empty() {
            return Ok(Read::Nothing);
        }
        let line: Line = serde_json::from_slice(line).map_err(|_| ModelError::NotAnAnswer)?;
        if line.remote.is_remote() {
            return Err(BoundaryFault::RemoteAnswer.into());
        }
        if let Some(error) = line.error {
            let words = error_words(&error);
            return Err(if is_too_long(&words) {
                ModelError::TooLong
            } else {
                ModelError::FailedMidStream(ServerText::new(&words))
            });
        }
        let message = match line.message {
            Some(message) => message,
            None if line.done => LineMessage {
                content: None,
                tool_calls: None,
            },
            None => return Err(ModelError::NotAnAnswer),
        };
        self.tools |= matches!(&message.tool_calls, Some(Value::Array(calls)) if !calls.is_empty());
        let text = message.content.unwrap_or_default();
        if !line.done {
            return Ok(Read::Text(text));
        }
        // Without the word "stop" nobody knows that the answer is whole.
        let cut = line.done_reason.as_deref() != Some("stop");
        let end = End {
            cut,
            prompt_tokens: line.prompt_eval_count,
            reply_tokens: line.eval_count,
            tools_ignored: self.tools,
        };
        Ok(Read::Done(text, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_names() {
        for cloud in [
            "gpt-oss:120b-cloud",
            "gpt-oss:cloud",
            "x/y:Cloud",
            "QWEN:480B-CLOUD",
            "team/model-cloud",
            "cloud",
        ] {
            assert!(is_cloud_name(cloud), "{cloud}");
        }
        for local in [
            "qwen3:8b",
            "cloudy",
            "cloud-9:7b",
            "tiny-chat",
            "a:cloudless",
        ] {
            assert!(!is_cloud_name(local), "{local}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("0.9.10") < numbers("0.33.0-src"));
        assert!(numbers("v1.0") > numbers("0.99.99"));
        assert_eq!(numbers("0.33.0-rc1"), numbers("0.33.0"));
    }

    #[test]
    fn a_tag_is_found_with_and_without_latest() {
        let tag: Tag = serde_json::from_str(r#"{"name":"hub/Qwen3:latest"}"#).unwrap();
        assert!(
            tag.is("hub/qwen3")
                && tag.is("hub/qwen3:latest")
                && !tag.is("qwen3")
                && !tag.is("hub/qwen3:8b")
        );
    }
}
