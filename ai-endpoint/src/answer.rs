//! An answer as people get it: the words, the sources, and how it came about.

use std::fmt::Write as _;

use crate::model::Identity;
use crate::output::Noticed;
use crate::prompt::ContextUse;
use crate::retrieval::Hit;
use crate::sensitivity::Sensitivity;

/// Stands under every answer.
pub const DISCLAIMER: &str = "This is general information from a computer program, not medical advice and not a diagnosis. Your \
    care team decides with you. In an emergency, call the emergency number.";

/// The version of the rules by which answers are made; goes into the provenance.
pub const POLICY_VERSION: &str = "1";

/// A finished answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The words with their notices. `[1]` stands for the first of the cited documents.
    pub text: String,
    /// How it came about.
    pub provenance: Provenance,
}

impl Answer {
    /// The answer as plain text, complete by itself: words, sources and disclaimer.
    pub fn rendered(&self) -> String {
        let mut text = self.text.clone();
        if !self.provenance.documents.is_empty() {
            let lines = self.provenance.documents.iter().enumerate();
            let lines: Vec<String> = lines
                .map(|(index, cited)| source_line(index + 1, cited))
                .collect();
            text.push_str("\n\nSources:\n");
            text.push_str(&lines.join("\n"));
        }
        format!("{text}\n\n{DISCLAIMER}")
    }
}

/// How an answer came about. Holds nothing that a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// `ollama`, `openai`, `extractive` or `fixed`.
    pub backend: String,
    /// The model's name.
    pub model: String,
    /// Digest of the model's weights, or of the documents for an extractive answer.
    pub digest: String,
    /// The model server's version.
    pub server: String,
    /// Documents that the answer cites, in the order of their numbers in the text.
    pub documents: Vec<Cited>,
    /// Class of the question with its context.
    pub class: Sensitivity,
    /// When the answer was finished, in milliseconds since 1970.
    pub answered_at_ms: u64,
    /// Whether and why it is not whole.
    pub cut: Option<Cut>,
    /// How much of the conversation the model saw.
    pub context: ContextUse,
    /// See [`POLICY_VERSION`].
    pub policy: &'static str,
    /// What the output screen noticed.
    pub noticed: Noticed,
}

/// A document behind an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cited {
    /// The passage's id.
    pub passage: String,
    /// The document's title.
    pub title: String,
    /// The section's heading, perhaps empty.
    pub section: String,
    /// The document's file.
    pub file: String,
    /// Whether it is one of the sample texts.
    pub sample: bool,
}

/// Why an answer is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The model ran out of room, or never said that it was finished.
    Length,
    /// The model failed.
    Failed,
    /// Somebody said stop.
    Stopped,
}

impl Cut {
    /// The visible mark.
    pub fn notice(self) -> &'static str {
        match self {
            Self::Length => "(This answer was cut: the model ran out of room.)",
            Self::Failed => {
                "(This answer was cut: the model failed in the middle. The next answers come from the clinic's \
                documents until it is back.)"
            }
            Self::Stopped => "(This answer was stopped.)",
        }
    }
}

/// Why the language model did not answer although one is configured. Said in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It is not available.
    Unavailable,
    /// Its answer was not fit to be shown.
    Unfit,
    /// The question was not fit to be asked.
    Screened,
    /// The question is longer than its window.
    TooLong,
}

impl Instead {
    /// The visible notice.
    pub fn notice(self) -> &'static str {
        match self {
            Self::Unavailable => {
                "(The language model is not available right now, so this comes straight from the clinic's \
                documents.)"
            }
            Self::Unfit => {
                "(The language model's answer could not be shown, so this comes straight from the clinic's documents.)"
            }
            Self::Screened => {
                "(Your message looks like instructions for the language model rather than a question, so this comes \
                straight from the clinic's documents.)"
            }
            Self::TooLong => {
                "(Your message is too long for the language model, so this comes straight from the clinic's documents.)"
            }
        }
    }
}

/// What an answer is put together from.
pub struct Parts<'a> {
    /// The words.
    pub words: &'a str,
    /// Who made them.
    pub identity: Identity,
    /// Passages that were there to be cited, numbered from 1.
    pub passages: &'a [Hit],
    /// Class of the question with its context.
    pub class: Sensitivity,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Whether and why it is not whole.
    pub cut: Option<Cut>,
    /// Why it is not the language model's.
    pub instead: Option<Instead>,
    /// How much of the conversation was seen.
    pub context: ContextUse,
    /// What the output screen noticed.
    pub noticed: Noticed,
}

/// Puts an answer together.
pub fn assemble(parts: Parts<'_>) -> Answer {
    let (words, documents) = cite(parts.words, parts.passages);
    let mut blocks: Vec<String> = Vec::new();
    if let Some(instead) = parts.instead {
        blocks.push(instead.notice().to_owned());
    }
    if !words.is_empty() {
        blocks.push(words);
    }
    let cut = parts
        .cut
        .or_else(|| parts.noticed.shortened.then_some(Cut::Length));
    if let Some(cut) = cut {
        blocks.push(cut.notice().to_owned());
    }
    if parts.noticed.diagnosis {
        blocks.push(
            "(Some of this may sound like a diagnosis. It is none: a computer program can't make one. Please ask your care team.)"
                .to_owned(),
        );
    }
    if parts.context.turns_left_out > 0 {
        let count = parts.context.turns_left_out;
        blocks.push(format!("({count} earlier messages were not considered.)"));
    }
    let provenance = Provenance {
        backend: parts.identity.backend.to_owned(),
        model: parts.identity.model,
        digest: parts.identity.digest,
        server: parts.identity.server,
        documents,
        class: parts.class,
        answered_at_ms: parts.now_ms,
        cut,
        context: parts.context,
        policy: POLICY_VERSION,
        noticed: parts.noticed,
    };
    Answer {
        text: blocks.join("\n\n"),
        provenance,
    }
}

/// A fixed text as an answer: emergency advice, help, status.
pub fn fixed(text: &str, class: Sensitivity, now_ms: u64) -> Answer {
    let identity = Identity {
        backend: "fixed",
        model: String::new(),
        digest: String::new(),
        server: String::new(),
    };
    assemble(Parts {
        words: text,
        identity,
        passages: &[],
        class,
        now_ms,
        cut: None,
        instead: None,
        context: ContextUse::default(),
        noticed: Noticed::default(),
    })
}

fn source_line(number: usize, cited: &Cited) -> String {
    let section = if cited.section.is_empty() {
        String::new()
    } else {
        format!(", \"{}\"", cited.section)
    };
    let sample = if cited.sample { ", sample text" } else { "" };
    format!(
        "[{number}] {}{section} ({}{sample})",
        cited.title, cited.file
    )
}

/// Keeps the numbers in a text that stand for a passage, drops invented ones, and counts them anew in the order of their
/// first use; lists what is cited in that order.
fn cite(words: &str, passages: &[Hit]) -> (String, Vec<Cited>) {
    let mut used: Vec<usize> = Vec::new();
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some((inside, behind)) = from.get(1..).and_then(|from| from.split_once(']')) else {
            rest = from;
            break;
        };
        let numbers: Option<Vec<usize>> = inside
            .split([',', ' '])
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().ok())
            .collect();
        match numbers {
            Some(numbers) if !numbers.is_empty() => {
                let valid: Vec<usize> = numbers
                    .into_iter()
                    .filter(|n| (1..=passages.len()).contains(n))
                    .collect();
                if valid.is_empty() {
                    out.truncate(out.trim_end_matches(' ').len());
                }
                for number in valid {
                    let place = used
                        .iter()
                        .position(|known| *known == number)
                        .unwrap_or_else(|| {
                            used.push(number);
                            used.len() - 1
                        });
                    let _ = write!(out, "[{}]", place + 1);
                }
                rest = behind;
            }
            _ => {
                out.push('[');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    let cited = used
        .into_iter()
        .filter_map(|number| {
            let passage = &passages.get(number - 1)?.passage;
            Some(Cited {
                passage: passage.id.clone(),
                title: passage.title.clone(),
                section: passage.section.clone(),
                file: passage.file.clone(),
                sample: passage.sample,
            })
        })
        .collect();
    (out, cited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::documents::{Document, passages};

    fn hits() -> Vec<Hit> {
        let document = Document {
            file: "wound.md".to_owned(),
            text: "# Wounds\n> Sample text\n## Clean\nRinse.\n## Dry\nPat.".to_owned(),
        };
        passages(&document)
            .into_iter()
            .map(|passage| Hit {
                passage,
                score: 1.0,
                coverage: 1.0,
            })
            .collect()
    }

    fn parts<'a>(words: &'a str, passages: &'a [Hit]) -> Parts<'a> {
        Parts {
            words,
            identity: Identity {
                backend: "ollama",
                model: "m".into(),
                digest: "d".into(),
                server: "1".into(),
            },
            passages,
            class: Sensitivity::Public,
            now_ms: 5,
            cut: None,
            instead: None,
            context: ContextUse::default(),
            noticed: Noticed::default(),
        }
    }

    #[test]
    fn only_real_sources_are_cited() {
        let hits = hits();
        let answer = assemble(parts(
            "Pat it [2]. Then fly [7]. Rinse [1, 2] and [sic] it [",
            &hits,
        ));
        assert_eq!(
            answer.text,
            "Pat it [1]. Then fly. Rinse [2][1] and [sic] it ["
        );
        let rendered = answer.rendered();
        assert!(
            rendered.contains(
                "Sources:\n[1] Wounds, \"Dry\" (wound.md, sample text)\n[2] Wounds, \"Clean\""
            ),
            "{rendered}"
        );
        assert_eq!(answer.provenance.documents[0].passage, hits[1].passage.id);
        let none = assemble(parts("Nothing cited.", &hits));
        assert!(!none.rendered().contains("Sources") && none.provenance.documents.is_empty());
    }

    #[test]
    fn every_answer_ends_with_the_disclaimer() {
        for answer in [
            assemble(parts("", &[])),
            assemble(parts("x", &[])),
            fixed("x", Sensitivity::Public, 1),
        ] {
            assert!(answer.rendered().ends_with(DISCLAIMER));
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut cut = parts("Half", &[]);
        cut.cut = Some(Cut::Failed);
        cut.instead = Some(Instead::Unavailable);
        cut.noticed.diagnosis = true;
        cut.context.turns_left_out = 3;
        let answer = assemble(cut);
        for notice in [
            Cut::Failed.notice(),
            Instead::Unavailable.notice(),
            "It is none",
            "3 earlier messages",
        ] {
            assert!(answer.text.contains(notice), "{notice}");
        }
        let mut shortened = parts("x", &[]);
        shortened.noticed.shortened = true;
        assert_eq!(assemble(shortened).provenance.cut, Some(Cut::Length));
    }
}
