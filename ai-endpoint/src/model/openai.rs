//! The OpenAI dialect (`/v1/chat/completions`, server-sent events), as vLLM and the llama.cpp server speak it.
//!
//! It has no way to set the window and none to prove that nothing is forwarded, so the operator vouches for the server;
//! an Ollama that hides behind this dialect is refused, because it has a better one.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Dialect, Read, Server, error_words, is_too_long};
use super::{
    Answering, BoundaryFault, Checked, End, Identity, Model, ModelError, ServerText, Warning,
};
use crate::model::ollama::is_cloud_name;
use crate::prompt::{Prompt, Speaker};

/// Most bytes of one event's data.
const EVENT_MAX: usize = super::lines::LINE_MAX;

/// A model on a server that speaks the OpenAI dialect.
pub struct OpenAi {
    server: Server,
    model: String,
    max_tokens: u32,
}

impl OpenAi {
    /// Speaks to `server`, whose URL ends in `/v1`. Nothing is asked yet.
    pub fn new(server: Server, model: String, max_tokens: u32) -> Self {
        Self {
            server,
            model,
            max_tokens,
        }
    }

    async fn checked(&self) -> Result<Checked, ModelError> {
        if is_cloud_name(&self.model) {
            return Err(BoundaryFault::CloudName(self.model.clone()).into());
        }
        let root = self.server.below(self.server.base.without("v1"));
        match root.ask::<OllamaVersion>("api/version").await {
            Ok(_) => return Err(BoundaryFault::OllamaInDisguise.into()),
            Err(
                error @ (ModelError::Unreachable | ModelError::Outside(_) | ModelError::Silent(_)),
            ) => return Err(error),
            Err(_) => {}
        }
        let mut warnings = Vec::new();
        match self.server.ask::<Models>("models").await {
            Ok(models) if models.data.iter().any(|model| model.id == self.model) => {}
            Ok(_) => return Err(ModelError::NoSuchModel),
            Err(ModelError::Refused {
                status: 404 | 405 | 501,
                ..
            }) => warnings.push(Warning::NameNotListed),
            Err(error) => return Err(error),
        }
        Ok(Checked {
            identity: self.identity(),
            context_limit: None,
            warnings,
        })
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Answering, ModelError> {
        let checked = self.checked().await?;
        let request = Chat {
            model: &self.model,
            messages: prompt
                .messages
                .iter()
                .map(|message| Message {
                    role: role(message.speaker),
                    content: &message.text,
                })
                .collect(),
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
            max_tokens: self.max_tokens,
            temperature: 0,
            seed: 7,
        };
        let pieces = self
            .server
            .stream("chat/completions", &request, Box::new(Sse::default()))
            .await?;
        Ok(Answering {
            identity: checked.identity,
            pieces,
        })
    }
}

impl Model for OpenAi {
    fn identity(&self) -> Identity {
        Identity {
            backend: "openai",
            model: self.model.clone(),
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

fn role(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::Rules => "system",
        Speaker::People => "user",
        Speaker::Assistant => "assistant",
    }
}

#[derive(Serialize)]
struct Chat<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    max_tokens: u32,
    temperature: u32,
    seed: u32,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct OllamaVersion {
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
struct Event {
    error: Option<Value>,
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Value>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// Server-sent events.
#[derive(Default)]
struct Sse {
    data: Vec<u8>,
    finish: Option<String>,
    prompt_tokens: Option<u64>,
    reply_tokens: Option<u64>,
    tools: bool,
}

impl Dialect for Sse {
    fn line(&mut self, line: &[u8]) -> Result<Read, ModelError> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return if data.is_empty() {
                Ok(Read::Nothing)
            } else {
                self.event(&data)
            };
        }
        let Some(value) = line.strip_prefix(b"data:") else {
            // Comments, event names and ids mean nothing here; anything else is no event stream.
            let known: [&[u8]; 4] = [b":", b"event:", b"id:", b"retry:"];
            return if known.iter().any(|field| line.starts_with(field)) {
                Ok(Read::Nothing)
            } else if let Ok(Event {
                error: Some(error), ..
            }) = serde_json::from_slice(line)
            {
                Err(failed(&error))
            } else {
                Err(ModelError::NotAnAnswer)
            };
        };
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        self.data
            .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        if self.data.len() > EVENT_MAX {
            return Err(ModelError::LineTooLong { limit: EVENT_MAX });
        }
        // The end mark needs no empty line behind it: some servers close right after.
        if self.data.trim_ascii() == b"[DONE]" {
            self.done()
        } else {
            Ok(Read::Nothing)
        }
    }
}

impl Sse {
    fn done(&mut self) -> Result<Read, ModelError> {
        let finish = self.finish.take().ok_or(ModelError::Truncated)?;
        let end = End {
            cut: finish != "stop",
            prompt_tokens: self.prompt_tokens,
            reply_tokens: self.reply_tokens,
            tools_ignored: self.tools,
        };
        Ok(Read::Done(String::new(), end))
    }

    fn event(&mut self, data: &[u8]) -> Result<Read, ModelError> {
        let event: Event = serde_json::from_slice(data).map_err(|_| ModelError::NotAnAnswer)?;
        if let Some(error) = event.error {
            return Err(failed(&error));
        }
        if let Some(usage) = event.usage {
            self.prompt_tokens = usage.prompt_tokens.or(self.prompt_tokens);
            self.reply_tokens = usage.completion_tokens.or(self.reply_tokens);
        }
        let choices = event.choices.ok_or(ModelError::NotAnAnswer)?;
        let Some(choice) = choices.into_iter().next() else {
            return Ok(Read::Nothing);
        };
        if let Some(finish) = choice.finish_reason {
            self.finish = Some(finish);
        }
        let Some(delta) = choice.delta else {
            return Ok(Read::Nothing);
        };
        self.tools |= matches!(&delta.tool_calls, Some(Value::Array(calls)) if !calls.is_empty());
        Ok(Read::Text(delta.content.unwrap_or_default()))
    }
}

fn failed(error: &Value) -> ModelError {
    let words = error_words(error);
    if is_too_long(&words) || is_too_long(&error.to_string()) {
        ModelError::TooLong
    } else {
        ModelError::FailedMidStream(ServerText::new(&words))
    }
}
