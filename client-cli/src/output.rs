//! Data on standard output, words on standard error.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what this module is for"
)]

use std::collections::HashMap;

use serde_json::{Value, json};
use wardline_client::api::AiAnswer;
use wardline_client::api::{
    Contact, Conversation, ConversationChange, Message, MessageBody, OwnAccount,
};
use wardline_client::content::AiBackend;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_name;
use wardline_wire::ids::AccountId;
use wardline_wire::proto::Role;

use crate::safe_text::{safe, safe_line};

/// One JSON object on a line of its own.
pub(crate) fn json_line(value: &Value) {
    println!("{value}");
}

/// A line of data.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Words for the person, not for a pipe.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Local time of day, with the date when it is not today.
pub(crate) fn clock_time(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(String::new, |time| {
            time.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
        })
}

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(String::new, |time| time.to_string())
}

/// What people and conversations are called here.
pub(crate) struct Names {
    own: OwnAccount,
    contacts: HashMap<AccountId, Contact>,
    conversations: Vec<Conversation>,
}

impl Names {
    pub(crate) fn new(
        own: OwnAccount,
        contacts: Vec<Contact>,
        conversations: Vec<Conversation>,
    ) -> Self {
        let contacts = contacts
            .into_iter()
            .map(|contact| (contact.account, contact))
            .collect();
        Self {
            own,
            contacts,
            conversations,
        }
    }

    /// A person's name, made safe. An AI is always marked as one.
    pub(crate) fn person(&self, account: AccountId) -> String {
        if account == self.own.address.account {
            return "you".to_owned();
        }
        match self.contacts.get(&account) {
            Some(contact) if contact.role == Role::Ai => {
                format!("[{}] (Chatbot)", safe_line(&contact.name))
            }
            Some(contact) => safe_line(&contact.name),
            None => account.to_string().chars().take(8).collect(),
        }
    }

    fn role(&self, account: AccountId) -> Option<Role> {
        if account == self.own.address.account {
            return Some(self.own.role);
        }
        self.contacts.get(&account).map(|contact| contact.role)
    }

    fn conversation(&self, message: &Message) -> Option<&Conversation> {
        self.conversations
            .iter()
            .find(|conversation| conversation.id == message.conversation)
    }

    /// One message for people.
    pub(crate) fn message_text(&self, message: &Message) -> String {
        let title = self
            .conversation(message)
            .filter(|conversation| !conversation.direct)
            .map(|conversation| format!(" in {}", safe_line(&conversation.title)))
            .unwrap_or_default();
        let edited = if message.edited { " (edited)" } else { "" };
        format!(
            "#{} {} {}{title}{edited}: {}",
            message.local_id,
            clock_time(message.sent_at),
            self.person(message.sender.account),
            self.body_text(&message.body),
        )
    }

    fn body_text(&self, body: &MessageBody) -> String {
        match body {
            MessageBody::Text(text) => {
                format!(
                    "{}{}",
                    if text.urgent { "URGENT: " } else { "" },
                    safe(&text.body)
                )
            }
            MessageBody::Answer(answer) => answer_text(answer),
            MessageBody::Alert(alert) => format!(
                "ALERT ({}): {}",
                safe_line(&alert.reason),
                safe(&alert.text)
            ),
            MessageBody::Attachment(file) => {
                format!(
                    "[file {}, {} bytes] {}",
                    safe_line(&file.file_name),
                    file.size_bytes,
                    safe(&file.caption)
                )
            }
            MessageBody::EscrowNotice(text) => format!("[{}]", safe(text)),
            MessageBody::Change(change) => self.change_text(change),
            MessageBody::Deleted => "[deleted]".to_owned(),
            _ => "[sent by a newer version of Wardline; update to read it]".to_owned(),
        }
    }

    fn change_text(&self, change: &ConversationChange) -> String {
        match change {
            ConversationChange::Created => "[opened the conversation]".to_owned(),
            ConversationChange::Added(account) => format!("[added {}]", self.person(*account)),
            ConversationChange::Removed(account) => format!("[removed {}]", self.person(*account)),
            ConversationChange::Left => "[left]".to_owned(),
            ConversationChange::Promoted(account) => {
                format!("[made {} an owner]", self.person(*account))
            }
            ConversationChange::Demoted(account) => {
                format!("[{} is no longer an owner]", self.person(*account))
            }
            ConversationChange::Title => "[changed the title]".to_owned(),
            ConversationChange::Timer(0) => "[messages no longer disappear]".to_owned(),
            ConversationChange::Timer(seconds) => format!("[messages disappear after {seconds} s]"),
            ConversationChange::AiOff => "[switched the AI off]".to_owned(),
            ConversationChange::AiOn => "[switched the AI on]".to_owned(),
            _ => "[changed the conversation]".to_owned(),
        }
    }

    /// One message for programs. Text is as it was sent: escape it for a terminal.
    pub(crate) fn message_json(&self, message: &Message) -> Value {
        let sender = message.sender;
        let (kind, body) = body_json(&message.body);
        json!({
            "id": message.local_id,
            "contentId": message.content_id.to_hex(),
            "conversation": message.conversation.to_hex(),
            "sender": {
                "account": sender.account.to_string(),
                "device": sender.device.get(),
                "name": self.person(sender.account),
                "role": self.role(sender.account).map(role_name),
            },
            "own": message.own,
            "sentAt": rfc3339(message.sent_at),
            "storedAt": rfc3339(message.stored_at),
            "edited": message.edited,
            "kind": kind,
            "body": body,
        })
    }
}

fn body_json(body: &MessageBody) -> (&'static str, Value) {
    match body {
        MessageBody::Text(text) => (
            "text",
            json!({
                "text": text.body,
                "replyTo": text.reply_to.map(|id| id.to_hex()),
                "urgent": text.urgent,
            }),
        ),
        MessageBody::Answer(answer) => ("answer", answer_json(answer)),
        MessageBody::Alert(alert) => (
            "alert",
            json!({ "text": alert.text, "reason": alert.reason }),
        ),
        MessageBody::Attachment(file) => (
            "attachment",
            json!({ "fileName": file.file_name, "mediaType": file.media_type, "sizeBytes": file.size_bytes,
                    "text": file.caption }),
        ),
        MessageBody::EscrowNotice(text) => ("escrow-notice", json!({ "text": text })),
        MessageBody::Change(change) => ("change", json!({ "change": format!("{change:?}") })),
        MessageBody::Deleted => ("deleted", Value::Null),
        _ => ("newer", Value::Null),
    }
}

/// The word for a backend.
fn backend_name(backend: AiBackend) -> &'static str {
    match backend {
        AiBackend::Ollama => "ollama",
        AiBackend::OpenaiCompatible => "openai-compatible",
        AiBackend::Extractive => "documents",
        AiBackend::Fixed => "fixed words",
        AiBackend::Cloud => "cloud",
        AiBackend::Unspecified => "unknown",
    }
}

fn answer_text(answer: &AiAnswer) -> String {
    let provenance = &answer.provenance;
    let mut lines = vec![safe(&answer.text)];
    if provenance.cut {
        lines.push("  [This answer was cut.]".to_owned());
    }
    for citation in &provenance.citations {
        lines.push(format!(
            "  source: {}, {} ({})",
            safe_line(&citation.title),
            safe_line(&citation.section),
            safe_line(&citation.file)
        ));
    }
    lines.push(format!(
        "  answered by: {} {}",
        backend_name(provenance.backend),
        safe_line(&provenance.model)
    ));
    if !answer.disclaimer.is_empty() {
        lines.push(format!("  {}", safe_line(&answer.disclaimer)));
    }
    lines.join("\n")
}

fn answer_json(answer: &AiAnswer) -> Value {
    let provenance = &answer.provenance;
    let citations: Vec<Value> = provenance
        .citations
        .iter()
        .map(|citation| json!({ "title": citation.title, "section": citation.section, "file": citation.file }))
        .collect();
    json!({
        "text": answer.text,
        "question": answer.question.to_hex(),
        "backend": backend_name(provenance.backend),
        "model": provenance.model,
        "modelDigest": provenance.model_digest,
        "cut": provenance.cut,
        "citations": citations,
        "contextUsed": provenance.context_used.len(),
        "contextCut": provenance.context_cut,
        "generatedAt": rfc3339(provenance.generated_at),
        "disclaimer": answer.disclaimer,
    })
}
