//! The embedded default: no model at all, only passages of the clinic's documents, word for word and with their source.
//! It is also what answers while the language model is away.

use std::fmt::Write as _;

use futures_util::future::BoxFuture;
use futures_util::stream;

use super::{Answering, Checked, End, Identity, Model, ModelError, Piece};
use crate::prompt::Prompt;

/// Said when no passage fits the question.
pub const NOTHING_FITS: &str = "I found nothing about this in the clinic's documents, so I can't answer it. Please ask \
    your care team here, or call the clinic if it can't wait.";

/// Answers with passages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extractive;

/// The words of an answer: each passage quoted, with the number of its source. The sources themselves are listed by
/// [`crate::answer`].
pub fn quote(prompt: &Prompt) -> String {
    if prompt.passages.is_empty() {
        return NOTHING_FITS.to_owned();
    }
    let mut text = String::from("The clinic's documents say:");
    for (index, hit) in prompt.passages.iter().enumerate() {
        text.push_str("\n\n");
        text.push_str(&hit.passage.text);
        let _ = write!(text, " [{}]", index + 1);
    }
    text
}

impl Model for Extractive {
    fn identity(&self) -> Identity {
        Identity {
            backend: "extractive",
            model: "documents".to_owned(),
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

    fn answer<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answering, ModelError>> {
        let end = End {
            cut: false,
            prompt_tokens: None,
            reply_tokens: None,
            tools_ignored: false,
        };
        let pieces = [Ok(Piece::Text(quote(prompt))), Ok(Piece::End(end))];
        let answering = Answering {
            identity: self.identity(),
            pieces: Box::pin(stream::iter(pieces)),
        };
        Box::pin(async move { Ok(answering) })
    }
}
