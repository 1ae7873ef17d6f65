//! What can answer a question: a language model behind HTTP, or the clinic's documents alone.
//!
//! Each backend is one file below; none of them knows about conversations, encryption or policy.

pub mod clean;
pub mod extractive;
pub mod http;
pub mod lines;
pub mod ollama;
pub mod openai;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::boundary::OutsideBoundary;
use crate::prompt::Prompt;

/// Something that answers prompts. Dropping the stream it gave cancels the work behind it.
pub trait Model: Send + Sync {
    /// Its name, for status lines and provenance when nothing was checked yet.
    fn identity(&self) -> Identity;

    /// Proves that the model is there and inside the boundary. Asks nothing about patients.
    fn check(&self) -> BoxFuture<'_, Result<Checked, ModelError>>;

    /// Checks as above, then asks.
    fn answer<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answering, ModelError>>;
}

/// Which model, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `ollama`, `openai` or `extractive`.
    pub backend: &'static str,
    /// The model's name on its server.
    pub model: String,
    /// What fixes its content: the digest of the weights, or of the documents. Empty when the server has none.
    pub digest: String,
    /// The server's version, empty when unknown.
    pub server: String,
}

/// The result of a [`Model::check`] that found nothing to refuse.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which model it was.
    pub identity: Identity,
    /// The most tokens the model can take, when the server says so.
    pub context_limit: Option<u32>,
    /// What an operator should know although it is no reason to refuse.
    pub warnings: Vec<Warning>,
}

/// See [`Checked::warnings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// The server says that its cloud switch is on, and the configuration accepts that.
    CloudNotDisabled,
    /// The server is too old to have a cloud switch, and the configuration accepts that.
    CloudUnknown,
    /// The model takes fewer tokens than `num_ctx` asks for.
    SmallContext,
    /// Part of the model runs on the CPU, so answers are slow.
    PartlyOnCpu,
    /// The server doesn't list its models, so the name could not be checked.
    NameNotListed,
}

impl Warning {
    /// A line for the operator.
    pub fn text(self) -> &'static str {
        match self {
            Self::CloudNotDisabled => {
                "Ollama's cloud feature is on; set OLLAMA_NO_CLOUD=1 on the server"
            }
            Self::CloudUnknown => "this Ollama is too old to say whether its cloud feature is off",
            Self::SmallContext => {
                "the model takes fewer tokens than model.num_ctx; the smaller number is used"
            }
            Self::PartlyOnCpu => {
                "the model does not fit into the graphics memory; answers will be slow"
            }
            Self::NameNotListed => {
                "the server does not list its models, so model.name could not be checked"
            }
        }
    }
}

/// An answer that is being made.
pub struct Answering {
    /// Who makes it.
    pub identity: Identity,
    /// Its text as it comes.
    pub pieces: Pieces,
}

/// A stream of pieces that ends after [`Piece::End`] or an error. An end without either can't happen.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, ModelError>> + Send>>;

/// Part of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some text, never empty.
    Text(String),
    /// The answer is whole, or as whole as it gets.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether the model ran out of room before it was finished.
    pub cut: bool,
    /// Tokens of the prompt that were read, when the server says so.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, when the server says so.
    pub reply_tokens: Option<u64>,
    /// Whether the model asked for tools. It was offered none, so nothing was done.
    pub tools_ignored: bool,
}

/// Why a model gave no answer, or not a whole one.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Nothing listens there, or the network is down.
    #[error("the model server can't be reached; is it running?")]
    Unreachable,
    /// The server lies outside the boundary.
    #[error(transparent)]
    Outside(#[from] Arc<OutsideBoundary>),
    /// The boundary's rules about the model itself were broken.
    #[error(transparent)]
    Boundary(#[from] BoundaryFault),
    /// The server has no such model.
    #[error("the model server does not have the model; pull it there, or correct model.name")]
    NoSuchModel,
    /// The prompt doesn't fit into the model's window.
    #[error("the question and its context are longer than the model's window")]
    TooLong,
    /// The server refuses this request; asking again won't help.
    #[error("the model server refused the request with status {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words if they are known to be harmless.
        text: ServerText,
    },
    /// A 403 without a word: Ollama refuses foreign Host headers that way.
    #[error(
        "the model server refused us by name (status 403, no text): use its IP address, localhost or a .internal name in model.url"
    )]
    HostRefused,
    /// The queue is full.
    #[error("the model server is busy")]
    Busy,
    /// The server failed before the first piece.
    #[error("the model server failed with status {status}: {text}")]
    Failed {
        /// HTTP status.
        status: u16,
        /// The server's words if they are known to be harmless.
        text: ServerText,
    },
    /// The server failed inside the stream.
    #[error("the model failed in the middle of its answer: {0}")]
    FailedMidStream(ServerText),
    /// The stream ended, but the model never said that it was done.
    #[error("the answer ended before it was whole")]
    Truncated,
    /// The connection broke.
    #[error("the connection to the model server broke")]
    Broken,
    /// The status was good and the content wasn't a model's stream.
    #[error("the model server sent something that is not a model's answer")]
    NotAnAnswer,
    /// A line without end.
    #[error("the model server sent a line of more than {limit} bytes")]
    LineTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// Silence before the first piece.
    #[error("the model server sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// Silence between pieces.
    #[error("the model server stopped sending for {} s", .0.as_secs())]
    Stalled(Duration),
    /// More than the whole answer may take.
    #[error("the answer took more than {} s", .0.as_secs())]
    TookTooLong(Duration),
    /// The model ended properly and said nothing.
    #[error("the model gave an empty answer")]
    Empty,
}

impl ModelError {
    /// Whether the model as such is in doubt, so that the next questions should go elsewhere until a check succeeds.
    pub fn model_is_down(&self) -> bool {
        !matches!(self, Self::TooLong | Self::Empty)
    }

    /// A word for logs and metrics; never anything a person or a model wrote.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Outside(_) => "outside_boundary",
            Self::Boundary(_) => "boundary",
            Self::NoSuchModel => "no_such_model",
            Self::TooLong => "too_long",
            Self::Refused { .. } => "refused",
            Self::HostRefused => "host_refused",
            Self::Busy => "busy",
            Self::Failed { .. } => "failed",
            Self::FailedMidStream(_) => "failed_mid_stream",
            Self::Truncated => "truncated",
            Self::Broken => "broken",
            Self::NotAnAnswer => "not_an_answer",
            Self::LineTooLong { .. } => "line_too_long",
            Self::Silent(_) => "silent",
            Self::Stalled(_) => "stalled",
            Self::TookTooLong(_) => "took_too_long",
            Self::Empty => "empty",
        }
    }
}

/// A rule of the boundary that the model or its server breaks. Whatever it is, no patient's word was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoundaryFault {
    /// The server may forward prompts to its maker.
    #[error(
        "this Ollama may forward prompts to its maker's cloud: start it with OLLAMA_NO_CLOUD=1 (or set model.require_cloud_off = false, at your own risk)"
    )]
    CloudOn,
    /// The server is too old to have the switch.
    #[error(
        "this Ollama is too old to prove that its cloud feature is off: update it (or set model.require_cloud_off = false, at your own risk)"
    )]
    CloudUnknown,
    /// The model's name belongs to a cloud model.
    #[error(
        "{0:?} is a cloud model: Ollama would send the prompt to its maker; choose a model that runs here"
    )]
    CloudName(String),
    /// The model is a stub for one that runs elsewhere.
    #[error("the model {0:?} is only a stub: its answers are made on another server")]
    RemoteModel(String),
    /// An answer says that it was made elsewhere.
    #[error("an answer came from another server than ours; the model is not used any more")]
    RemoteAnswer,
    /// The weights are not the pinned ones.
    #[error(
        "the model's digest is {found}, expected {expected}: if you updated it on purpose, correct model.digest or restart the endpoint"
    )]
    DigestChanged {
        /// What was pinned.
        expected: String,
        /// What the server has now.
        found: String,
    },
    /// The server is older than the configuration allows.
    #[error("the model server is version {found}, older than model.min_version {wanted}")]
    TooOld {
        /// The server's version.
        found: String,
        /// The configured least version.
        wanted: String,
    },
    /// An Ollama behind the OpenAI dialect, which can't prove anything of the above.
    #[error(
        "this server is an Ollama: use model.backend = \"ollama\", which can prove that nothing is forwarded to a cloud"
    )]
    OllamaInDisguise,
}

/// A server's error text: shown only when it is one of the known ones, since others may repeat what was asked.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerText {
    shown: Option<String>,
    bytes: usize,
}

/// Beginnings of the texts that hold nothing but the server's own words.
const KNOWN_TEXTS: [&str; 17] = [
    "model runner has unexpectedly stopped",
    "model requires more system memory",
    "an error was encountered while running the model",
    "server busy, please try again",
    "missing request body",
    "model is required",
    "invalid model name",
    "option ",
    "invalid option",
    "unable to load model",
    "error loading model",
    "llama runner process",
    "llama-server process",
    "ollama cloud is disabled",
    "unauthorized",
    "request canceled",
    "the prompt is longer than the context length",
];

impl ServerText {
    /// Judges a text.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let known = KNOWN_TEXTS.iter().any(|begin| text.starts_with(begin))
            || text.ends_with("does not support chat")
            || text.ends_with("does not support thinking");
        let short: String = clean::strip_controls(text).chars().take(200).collect();
        Self {
            shown: known.then_some(short),
            bytes: text.len(),
        }
    }
}

impl std::fmt::Display for ServerText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shown {
            Some(text) => f.write_str(text),
            None => write!(
                f,
                "(a text of {} bytes, withheld because it may repeat what was asked)",
                self.bytes
            ),
        }
    }
}

impl std::fmt::Debug for ServerText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Randomness for waiting times: gives numbers in 0..=1.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// How long a model may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the first piece: loading a model and waiting in its queue look like silence, so this is long.
    pub first_piece: Duration,
    /// Between two pieces.
    pub between_pieces: Duration,
    /// For a whole answer, retries included.
    pub whole_answer: Duration,
    /// For each question of a check.
    pub check: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_piece: Duration::from_mins(5),
            between_pieces: Duration::from_mins(1),
            whole_answer: Duration::from_mins(15),
            check: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_unknown_words_are_withheld() {
        let echo = ServerText::new("json: cannot unmarshal \"my name is Jane Doe\" into Go value");
        assert!(!format!("{echo} {echo:?}").contains("Jane"));
        let known = ServerText::new("model runner has unexpectedly stopped, this may be due to…");
        assert!(known.to_string().starts_with("model runner"));
    }
}
