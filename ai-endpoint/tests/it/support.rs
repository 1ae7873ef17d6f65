//! What all of these tests need.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use wardline_ai::boundary::{InsideUrl, SystemNames};
use wardline_ai::model::http::{Retries, Server};
use wardline_ai::model::ollama::{Demands, Ollama};
use wardline_ai::model::openai::OpenAi;
use wardline_ai::model::{End, Model, ModelError, Piece, Timeouts};
use wardline_ai::prompt::{ContextUse, Message, Prompt, Speaker};
use wardline_e2e::ollama::{MODEL, Ollama as StandIn};

/// Longer than any test waits for a good answer, short enough for those that wait for silence.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        first_piece: Duration::from_secs(20),
        between_pieces: Duration::from_secs(20),
        whole_answer: Duration::from_mins(1),
        check: Duration::from_secs(20),
    }
}

pub(crate) fn demands() -> Demands {
    Demands {
        model: MODEL.to_owned(),
        digest: None,
        num_ctx: 4096,
        num_predict: 512,
        keep_alive: "10m".to_owned(),
        require_cloud_off: true,
        min_version: None,
    }
}

pub(crate) async fn server(url: &str, timeouts: Timeouts) -> Server {
    let base = InsideUrl::judge(url, Arc::new(SystemNames)).await.unwrap();
    let retries = Retries {
        busy: 2,
        pause: Duration::from_millis(1),
        jitter: Arc::new(|| 0.5),
    };
    Server::new(base, None, None, timeouts, retries).unwrap()
}

pub(crate) async fn ollama(stand_in: &StandIn) -> Ollama {
    ollama_with(stand_in, demands(), timeouts()).await
}

pub(crate) async fn ollama_with(
    stand_in: &StandIn,
    demands: Demands,
    timeouts: Timeouts,
) -> Ollama {
    Ollama::new(server(&stand_in.url(), timeouts).await, demands)
}

pub(crate) async fn openai(stand_in: &StandIn) -> OpenAi {
    // The stand-in is no Ollama in these tests.
    stand_in.always(
        "/api/version",
        wardline_e2e::ollama::Script::text(404, "text/plain", "not found"),
    );
    OpenAi::new(
        server(&format!("{}/v1", stand_in.url()), timeouts()).await,
        MODEL.to_owned(),
        512,
    )
}

pub(crate) fn prompt(question: &str) -> Prompt {
    Prompt {
        messages: vec![
            Message {
                speaker: Speaker::Rules,
                text: "Be brief.".to_owned(),
            },
            Message {
                speaker: Speaker::People,
                text: question.to_owned(),
            },
        ],
        passages: Vec::new(),
        estimate: 50,
        context: ContextUse::default(),
    }
}

/// Everything that an answer consisted of.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) pieces: usize,
    pub(crate) outcome: Result<End, ModelError>,
}

impl Heard {
    pub(crate) fn end(&self) -> &End {
        self.outcome.as_ref().unwrap()
    }

    pub(crate) fn error(&self) -> &ModelError {
        self.outcome.as_ref().unwrap_err()
    }
}

/// Asks and listens to the end.
pub(crate) async fn hear(model: &dyn Model) -> Heard {
    let mut heard = Heard {
        text: String::new(),
        pieces: 0,
        outcome: Err(ModelError::Broken),
    };
    let prompt = prompt("How do I care for a wound?");
    let mut pieces = match model.answer(&prompt).await {
        Ok(answering) => answering.pieces,
        Err(error) => {
            return Heard {
                outcome: Err(error),
                ..heard
            };
        }
    };
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(Piece::Text(text)) => {
                heard.text.push_str(&text);
                heard.pieces += 1;
            }
            Ok(Piece::End(end)) => heard.outcome = Ok(end),
            Err(error) => heard.outcome = Err(error),
        }
    }
    heard
}
