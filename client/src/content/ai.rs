//! What an AI endpoint says.

use wardline_wire::clock::Timestamp;
use wardline_wire::ids::AccountId;

use super::check::{bad, list, non_printing, text};
use super::{AiBackend, AiClass, ContentError, ContentId, MAX_TEXT_BYTES};
use crate::proto;

/// Most partial answers before the final one.
pub const MAX_PARTIALS: u32 = 20;
const MAX_CITATIONS: usize = 16;
const MAX_CONTEXT: usize = 64;

/// How far an answer has come.
#[derive(Clone, PartialEq, Eq)]
pub struct AiPartial {
    /// The question.
    pub question: ContentId,
    /// Id of the final answer.
    pub answer: ContentId,
    /// From 0, below 20; an older one is ignored.
    pub index: u32,
    /// From the beginning, as far as it goes.
    pub text: String,
}

/// A complete answer.
#[derive(Clone, PartialEq, Eq)]
pub struct AiAnswer {
    /// The question.
    pub question: ContentId,
    /// 1 to 65536 bytes.
    pub text: String,
    /// Where it comes from.
    pub provenance: AiProvenance,
    /// Shown below the answer.
    pub disclaimer: String,
}

/// Where an answer comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct AiProvenance {
    /// What produced it.
    pub backend: AiBackend,
    /// Model name; empty for fixed and extractive answers.
    pub model: String,
    /// Digest of the weights; empty when the backend tells none.
    pub model_digest: String,
    /// Documents used.
    pub citations: Vec<AiCitation>,
    /// How sensitive the question was.
    pub class: AiClass,
    /// When, by the AI endpoint's clock.
    pub generated_at: Timestamp,
    /// The answer was cut off.
    pub cut: bool,
    /// Messages the model was shown.
    pub context_used: Vec<ContentId>,
    /// Older messages were left out.
    pub context_cut: bool,
    /// Version of the endpoint's rules.
    pub policy_version: String,
}

/// A passage of the clinic's documents.
#[derive(Clone, PartialEq, Eq)]
pub struct AiCitation {
    /// Title of the document.
    pub title: String,
    /// Section; may be empty.
    pub section: String,
    /// File name; may be empty.
    pub file: String,
}

/// Somebody may need a clinician.
#[derive(Clone, PartialEq, Eq)]
pub struct AiAlert {
    /// The message that raised it.
    pub about: ContentId,
    /// Who wrote that.
    pub author: AccountId,
    /// Which rule matched: `[a-z0-9-]{1,64}`.
    pub reason: String,
    /// Fixed words for the clinician.
    pub text: String,
}

non_printing!(AiPartial, AiAnswer, AiProvenance, AiCitation, AiAlert);

impl AiPartial {
    pub(super) fn read(wire: proto::AiPartial) -> Result<Self, ContentError> {
        if wire.index >= MAX_PARTIALS {
            return Err(ContentError::Field("index"));
        }
        Ok(Self {
            question: ContentId::from_slice(&wire.question).map_err(bad("question"))?,
            answer: ContentId::from_slice(&wire.answer).map_err(bad("answer"))?,
            index: wire.index,
            text: text(wire.text, 0..=MAX_TEXT_BYTES, "text")?,
        })
    }

    pub(super) fn write(&self) -> proto::AiPartial {
        proto::AiPartial {
            question: self.question.to_vec(),
            answer: self.answer.to_vec(),
            index: self.index,
            text: self.text.clone(),
        }
    }
}

impl AiAnswer {
    pub(super) fn read(wire: proto::AiAnswer) -> Result<Self, ContentError> {
        let provenance = wire.provenance.ok_or(ContentError::Field("provenance"))?;
        Ok(Self {
            question: ContentId::from_slice(&wire.question).map_err(bad("question"))?,
            text: text(wire.text, 1..=MAX_TEXT_BYTES, "text")?,
            provenance: AiProvenance::read(provenance)?,
            disclaimer: text(wire.disclaimer, 0..=1024, "disclaimer")?,
        })
    }

    pub(super) fn write(&self) -> proto::AiAnswer {
        proto::AiAnswer {
            question: self.question.to_vec(),
            text: self.text.clone(),
            provenance: Some(self.provenance.write()),
            disclaimer: self.disclaimer.clone(),
        }
    }
}

impl AiProvenance {
    fn read(wire: proto::AiProvenance) -> Result<Self, ContentError> {
        let backend = match AiBackend::try_from(wire.backend) {
            Ok(AiBackend::Unspecified) | Err(_) => return Err(ContentError::Field("backend")),
            Ok(backend) => backend,
        };
        let class = match AiClass::try_from(wire.class) {
            Ok(AiClass::Unspecified) | Err(_) => return Err(ContentError::Field("class")),
            Ok(class) => class,
        };
        let citations = list(
            &wire.citations,
            0..=MAX_CITATIONS,
            "citations",
            |citation| {
                Ok(AiCitation {
                    title: text(citation.title.clone(), 1..=256, "citation")?,
                    section: text(citation.section.clone(), 0..=256, "citation")?,
                    file: text(citation.file.clone(), 0..=256, "citation")?,
                })
            },
        )?;
        Ok(Self {
            backend,
            model: text(wire.model, 0..=128, "model")?,
            model_digest: text(wire.model_digest, 0..=128, "model digest")?,
            citations,
            class,
            generated_at: Timestamp::from_millis(wire.generated_at_ms),
            cut: wire.cut,
            context_used: list(&wire.context_used, 0..=MAX_CONTEXT, "context", |id| {
                ContentId::from_slice(id).map_err(bad("context"))
            })?,
            context_cut: wire.context_cut,
            policy_version: text(wire.policy_version, 0..=64, "policy version")?,
        })
    }

    fn write(&self) -> proto::AiProvenance {
        proto::AiProvenance {
            backend: self.backend.into(),
            model: self.model.clone(),
            model_digest: self.model_digest.clone(),
            citations: self
                .citations
                .iter()
                .map(|citation| proto::AiCitation {
                    title: citation.title.clone(),
                    section: citation.section.clone(),
                    file: citation.file.clone(),
                })
                .collect(),
            class: self.class.into(),
            generated_at_ms: self.generated_at.as_millis(),
            cut: self.cut,
            context_used: self.context_used.iter().map(ContentId::to_vec).collect(),
            context_cut: self.context_cut,
            policy_version: self.policy_version.clone(),
        }
    }
}

impl AiAlert {
    pub(super) fn read(wire: proto::AiAlert) -> Result<Self, ContentError> {
        let reason = text(wire.reason, 1..=64, "reason")?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !reason.chars().all(plain) {
            return Err(ContentError::Field("reason"));
        }
        Ok(Self {
            about: ContentId::from_slice(&wire.about).map_err(bad("about"))?,
            author: AccountId::from_slice(&wire.author_account_id).map_err(bad("author"))?,
            reason,
            text: text(wire.text, 0..=1024, "text")?,
        })
    }

    pub(super) fn write(&self) -> proto::AiAlert {
        proto::AiAlert {
            about: self.about.to_vec(),
            author_account_id: self.author.to_vec(),
            reason: self.reason.clone(),
            text: self.text.clone(),
        }
    }
}
