//! The participant's seat, on the endpoint core.

use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, broadcast};
use wardline_client::api::{
    AccountId, AiAlert, AiAnswer, AiPartial, AiProvenance, Client, ClientError, ConnectionState,
    Contact, Conversation, ConversationState, Message, MessageBody, MessageFilter, Notification,
    OutgoingAnswer, Relation, Role as CertifiedRole,
};
use wardline_client::content::{
    AiBackend, AiCitation, AiClass, ContentId, ConversationId, MAX_TEXT_BYTES,
};
use wardline_wire::clock::Timestamp;

use crate::answer::{Answer, Cited, DISCLAIMER, Provenance};
use crate::config::Inviting;
use crate::participant::{Job, Outgoing, Seat, SeatFault};
use crate::policy::Role;
use crate::prompt::Turn;
use crate::sensitivity::Sensitivity;

/// Bounds of the content's fields; see `ai.proto`.
const NAME_BYTES: usize = 256;
const MODEL_BYTES: usize = 128;
const CITATIONS: usize = 16;
const CONTEXT: usize = 64;

/// A client as the assistant's seat.
pub struct ClientSeat {
    client: Client,
    own: AccountId,
    accept: Vec<Inviting>,
    wake: Mutex<broadcast::Receiver<Notification>>,
    /// Whether contacts or conversations may have changed since the requests were looked at.
    stale: AtomicBool,
}

impl ClientSeat {
    /// Takes the seat of an open client.
    ///
    /// # Errors
    ///
    /// [`ClientError`], when the profile can't be read.
    pub async fn new(client: Client, accept: Vec<Inviting>) -> Result<Self, ClientError> {
        // Subscribed before anything is read, so that nothing falls in between.
        let wake = Mutex::new(client.subscribe());
        let own = client.own().await?.address.account;
        Ok(Self {
            client,
            own,
            accept,
            wake,
            stale: AtomicBool::new(true),
        })
    }

    async fn role(&self, account: AccountId) -> Result<Role, SeatFault> {
        if account == self.own {
            return Ok(Role::Bot);
        }
        // Somebody unknown is treated like a patient: their words may be an emergency.
        Ok(self
            .client
            .contact(account)
            .await
            .map_err(fault)?
            .map_or(Role::Patient, |contact| role(contact.role)))
    }

    async fn describe(&self, id: u64, message: Message) -> Result<Job, SeatFault> {
        let sender = self.role(message.sender.account).await?;
        let conversation = match self.client.conversation(message.conversation).await {
            Ok(conversation) => Some(conversation),
            Err(ClientError::UnknownConversation) => None,
            Err(error) => return Err(fault(error)),
        };
        let mut text = None;
        let mut names_me = false;
        let mut replies_to_me = false;
        if let (MessageBody::Text(said), Some(conversation)) = (&message.body, &conversation) {
            names_me = said
                .mentions
                .iter()
                .any(|mention| mention.account == self.own);
            text = Some(self.without_my_name(said));
            if let Some(target) = said.reply_to {
                replies_to_me = match self
                    .client
                    .message_by_content(conversation.id, target)
                    .await
                {
                    Ok(target) => target.sender.account == self.own,
                    Err(ClientError::UnknownMessage) => false,
                    Err(error) => return Err(fault(error)),
                };
            }
        }
        let clinicians = match &conversation {
            Some(conversation) => self.has_clinicians(conversation).await?,
            None => false,
        };
        Ok(Job {
            id,
            conversation: *message.conversation.as_bytes(),
            message: *message.content_id.as_bytes(),
            place: message.local_id,
            account: message.sender.account,
            sender,
            mine: message.own,
            text,
            names_me,
            replies_to_me,
            direct: conversation.as_ref().is_some_and(|c| c.direct),
            switched_off: conversation.as_ref().is_none_or(|c| !c.ai_on),
            clinicians,
        })
    }

    async fn has_clinicians(&self, conversation: &Conversation) -> Result<bool, SeatFault> {
        for member in &conversation.members {
            let contact = self.client.contact(member.account).await.map_err(fault)?;
            if member.account != self.own
                && contact
                    .is_some_and(|c| matches!(c.role, CertifiedRole::Staff | CertifiedRole::Admin))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The words without the places where they name the assistant.
    fn without_my_name(&self, said: &wardline_client::api::Text) -> String {
        let mut text = said.body.clone();
        // From the last to the first, so that the places stay right.
        for mention in said
            .mentions
            .iter()
            .rev()
            .filter(|mention| mention.account == self.own)
        {
            let start = mention.start as usize;
            let end = start.saturating_add(mention.length as usize);
            if text.get(start..end).is_some() {
                text.replace_range(start..end, "");
            }
        }
        text
    }

    fn outgoing(&self, job: &Job, outgoing: Outgoing) -> OutgoingAnswer {
        let question = ContentId::from(job.message);
        let alerts = outgoing.alert.map(|alert| AiAlert {
            about: question,
            author: job.account,
            reason: alert.category.code().to_owned(),
            text: alert.text,
        });
        OutgoingAnswer {
            content_id: self.client.derived_content_id(question),
            answer: content(question, &outgoing.answer),
            alerts: alerts.into_iter().collect(),
        }
    }

    /// Accepts whoever may invite the assistant.
    async fn accept(&self) -> Result<(), SeatFault> {
        if let ConnectionState::Refused { reason } = self.client.connection() {
            return Err(SeatFault::Over(reason));
        }
        if !self.stale.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let contacts: Vec<Contact> = self.client.contacts().await.map_err(fault)?;
        for contact in contacts {
            if contact.relation == Relation::Request && self.may_invite(contact.role) {
                self.client
                    .accept_request(contact.account)
                    .await
                    .map_err(fault)?;
                tracing::info!(role = ?contact.role, "joined a conversation on request");
            }
        }
        Ok(())
    }

    fn may_invite(&self, role: CertifiedRole) -> bool {
        let inviting = match role {
            CertifiedRole::Patient => Inviting::Patient,
            CertifiedRole::Staff => Inviting::Staff,
            CertifiedRole::Admin => Inviting::Admin,
            _ => return false,
        };
        self.accept.contains(&inviting)
    }
}

impl Seat for ClientSeat {
    fn next_job(&self, after: u64) -> BoxFuture<'_, Result<Option<Job>, SeatFault>> {
        Box::pin(async move {
            match self.client.next_job(after).await.map_err(fault)? {
                Some(job) => self.describe(job.id, job.message).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn history<'a>(
        &'a self,
        job: &'a Job,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Turn>, SeatFault>> {
        Box::pin(async move {
            let filter = MessageFilter {
                conversation: Some(ConversationId::from(job.conversation)),
                before: Some(job.place),
                limit: u32::try_from(most.clamp(1, 1000)).unwrap_or(1000),
                ..MessageFilter::default()
            };
            let mut turns = Vec::new();
            for message in self.client.messages(filter).await.map_err(fault)? {
                let text = match message.body {
                    MessageBody::Text(text) => text.body,
                    MessageBody::Answer(answer) => answer.text,
                    _ => continue,
                };
                let speaker = self.role(message.sender.account).await?;
                turns.push(Turn {
                    id: *message.content_id.as_bytes(),
                    speaker,
                    text,
                });
            }
            Ok(turns)
        })
    }

    fn is_wanted<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<bool, SeatFault>> {
        Box::pin(async move {
            let id = ConversationId::from(job.conversation);
            match self
                .client
                .message_by_content(id, ContentId::from(job.message))
                .await
            {
                Ok(message) if matches!(message.body, MessageBody::Deleted) => return Ok(false),
                Ok(_) => {}
                Err(ClientError::UnknownMessage) => return Ok(false),
                Err(error) => return Err(fault(error)),
            }
            match self.client.conversation(id).await {
                Ok(conversation) => {
                    Ok(conversation.ai_on && conversation.state == ConversationState::Open)
                }
                Err(ClientError::UnknownConversation) => Ok(false),
                Err(error) => Err(fault(error)),
            }
        })
    }

    fn finish<'a>(
        &'a self,
        job: &'a Job,
        outgoing: Option<Outgoing>,
    ) -> BoxFuture<'a, Result<(), SeatFault>> {
        Box::pin(async move {
            let outgoing = outgoing.map(|outgoing| self.outgoing(job, outgoing));
            match self.client.finish_job(job.id, outgoing).await {
                Ok(_) | Err(ClientError::UnknownMessage) => Ok(()),
                Err(error) => Err(fault(error)),
            }
        })
    }

    fn partial<'a>(
        &'a self,
        job: &'a Job,
        index: u32,
        text: String,
    ) -> BoxFuture<'a, Result<(), SeatFault>> {
        Box::pin(async move {
            let question = ContentId::from(job.message);
            let partial = AiPartial {
                question,
                answer: self.client.derived_content_id(question),
                index,
                text: shorten(&text, MAX_TEXT_BYTES),
            };
            let conversation = ConversationId::from(job.conversation);
            self.client
                .send_partial(conversation, partial)
                .await
                .map_err(fault)
        })
    }

    fn typing<'a>(&'a self, job: &'a Job, typing: bool) -> BoxFuture<'a, Result<(), SeatFault>> {
        Box::pin(async move {
            let conversation = ConversationId::from(job.conversation);
            self.client
                .send_typing(conversation, typing)
                .await
                .map_err(fault)
        })
    }

    fn accept_requests(&self) -> BoxFuture<'_, Result<(), SeatFault>> {
        Box::pin(self.accept())
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut wake = self.wake.lock().await;
            loop {
                match wake.recv().await {
                    Ok(
                        Notification::Partial(_)
                        | Notification::Typing { .. }
                        | Notification::Delivery { .. },
                    ) => {}
                    Ok(Notification::Contact { .. } | Notification::Conversation { .. })
                    | Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.stale.store(true, Ordering::Release);
                        return;
                    }
                    Ok(_) => return,
                    // The client is shut down; the next question to it says so. Not in a hurry, though.
                    Err(broadcast::error::RecvError::Closed) => {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        return;
                    }
                }
            }
        })
    }
}

fn role(certified: CertifiedRole) -> Role {
    match certified {
        CertifiedRole::Ai => Role::Bot,
        CertifiedRole::Staff | CertifiedRole::Admin | CertifiedRole::Officer => Role::Staff,
        CertifiedRole::Patient | CertifiedRole::Unspecified => Role::Patient,
    }
}

/// Sorts the core's errors by what they mean for a job. Their texts hold nothing that people said.
fn fault(error: ClientError) -> SeatFault {
    match error {
        ClientError::UnknownConversation
        | ClientError::NotMember
        | ClientError::StillRequest
        | ClientError::NotAllowed(_)
        | ClientError::Content(_)
        | ClientError::Invalid(_) => {
            tracing::warn!("an answer could not be sent: {error}");
            SeatFault::Gone
        }
        ClientError::Stopped
        | ClientError::Revoked
        | ClientError::NotEnrolled
        | ClientError::Refused(_) => SeatFault::Over(error.to_string()),
        other => SeatFault::Later(other.to_string()),
    }
}

/// An answer as content, within the content's bounds.
fn content(question: ContentId, answer: &Answer) -> AiAnswer {
    AiAnswer {
        question,
        text: shorten(&answer.text, MAX_TEXT_BYTES),
        provenance: provenance(&answer.provenance),
        disclaimer: DISCLAIMER.to_owned(),
    }
}

fn provenance(from: &Provenance) -> AiProvenance {
    let backend = match from.backend.as_str() {
        "ollama" => AiBackend::Ollama,
        "openai" => AiBackend::OpenaiCompatible,
        "extractive" => AiBackend::Extractive,
        _ => AiBackend::Fixed,
    };
    let by_model = matches!(backend, AiBackend::Ollama | AiBackend::OpenaiCompatible);
    let turns = &from.context.turns;
    AiProvenance {
        backend,
        model: if by_model {
            shorten(&from.model, MODEL_BYTES)
        } else {
            String::new()
        },
        model_digest: if by_model {
            shorten(&from.digest, MODEL_BYTES)
        } else {
            String::new()
        },
        citations: from
            .documents
            .iter()
            .take(CITATIONS)
            .map(citation)
            .collect(),
        class: match from.class {
            Sensitivity::Public => AiClass::Public,
            Sensitivity::Contextual => AiClass::Contextual,
            Sensitivity::Sensitive => AiClass::Sensitive,
        },
        generated_at: Timestamp::from_millis(from.answered_at_ms),
        cut: from.cut.is_some(),
        context_used: turns
            .iter()
            .rev()
            .take(CONTEXT)
            .rev()
            .copied()
            .map(ContentId::from)
            .collect(),
        context_cut: from.context.turns_left_out > 0 || turns.len() > CONTEXT,
        policy_version: from.policy.to_owned(),
    }
}

fn citation(cited: &Cited) -> AiCitation {
    let sample = if cited.sample { " (sample text)" } else { "" };
    let title = shorten(&cited.title, NAME_BYTES - sample.len());
    AiCitation {
        title: format!("{title}{sample}"),
        section: shorten(&cited.section, NAME_BYTES),
        file: shorten(&cited.file, NAME_BYTES),
    }
}

/// At most `bytes` bytes, cut between characters.
fn shorten(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Cut, fixed};

    #[test]
    fn an_answer_fits_the_content_whatever_is_in_it() {
        let mut answer = fixed(&"é".repeat(60_000), Sensitivity::Sensitive, 7);
        answer.provenance.model = "m".repeat(500);
        answer.provenance.digest = "d".repeat(500);
        answer.provenance.backend = "ollama".to_owned();
        answer.provenance.cut = Some(Cut::Length);
        answer.provenance.context.turns = (0..100).map(|n| [n; 16]).collect();
        answer.provenance.documents = vec![
            Cited {
                passage: "p".repeat(16),
                title: "ü".repeat(300),
                section: "s".repeat(300),
                file: "f".repeat(300),
                sample: true,
            };
            30
        ];
        let content = content(ContentId::from([1; 16]), &answer);
        assert!(content.text.len() <= MAX_TEXT_BYTES && content.text.starts_with('é'));
        let provenance = content.provenance;
        assert!(provenance.cut && provenance.context_cut);
        assert_eq!(
            (provenance.model.len(), provenance.model_digest.len()),
            (MODEL_BYTES, MODEL_BYTES)
        );
        assert_eq!(
            (provenance.citations.len(), provenance.context_used.len()),
            (CITATIONS, CONTEXT)
        );
        assert!(provenance.context_used[63] == ContentId::from([99; 16]));
        for citation in provenance.citations {
            assert!(
                citation.title.len() <= NAME_BYTES && citation.title.ends_with("(sample text)")
            );
            assert!(citation.section.len() <= NAME_BYTES && citation.file.len() <= NAME_BYTES);
        }
    }

    #[test]
    fn only_models_have_a_name_and_a_digest() {
        let content = content(
            ContentId::from([1; 16]),
            &fixed("x", Sensitivity::Public, 7),
        );
        assert!(content.provenance.backend == AiBackend::Fixed);
        assert!(content.provenance.model.is_empty() && content.provenance.model_digest.is_empty());
        assert_eq!(content.disclaimer, DISCLAIMER);
    }

    #[test]
    fn every_certified_role_has_a_place() {
        assert_eq!(role(CertifiedRole::Ai), Role::Bot);
        assert_eq!(role(CertifiedRole::Officer), Role::Staff);
        assert_eq!(role(CertifiedRole::Unspecified), Role::Patient);
    }
}
