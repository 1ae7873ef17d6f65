//! Messages: sending, reading, where they stand.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::time::{Instant, timeout_at};
use wardline_wire::ids::AccountId;

use super::{
    Client, ClientError, ContentId, ConversationId, DeliveryState, Mention, Message, MessageBody,
    MessageFilter, Notification, RecipientStatus, SentMessage, StoreError, Text,
};
use crate::content::{Content, Delete, Edit, Kind, Reaction, ReceiptKind};
use crate::membership;
use crate::receive;
use crate::send;
use crate::store::messages::{self, Row};
use crate::store::{conversations, outbox as outbox_table};
use crate::sync;

impl Client {
    /// Sends a text to a conversation.
    ///
    /// # Errors
    /// [`ClientError::UnknownConversation`], [`ClientError::NotMember`],
    /// [`ClientError::StillRequest`], [`ClientError::NotCertified`], [`ClientError::Content`].
    pub async fn send_text(
        &self,
        conversation: ConversationId,
        body: impl Into<String>,
        reply_to: Option<ContentId>,
        mentions: Vec<Mention>,
    ) -> Result<SentMessage, ClientError> {
        let text = Text {
            body: body.into(),
            reply_to,
            mentions,
            urgent: false,
        };
        self.send(conversation, text).await
    }

    /// Sends a text, perhaps an urgent one.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub async fn send(
        &self,
        conversation: ConversationId,
        text: Text,
    ) -> Result<SentMessage, ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let id = send::new_content_id();
                send::shown(turn, conversation, id, Kind::Text(text)).await
            })
        })
        .await
    }

    /// Changes the wording of one of our messages.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] when it is not ours; as [`send_text`](Self::send_text).
    pub async fn edit(
        &self,
        conversation: ConversationId,
        target: ContentId,
        text: Text,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let local_id = own_message(turn.db, conversation, target).await?;
                let kind = Kind::Edit(Edit { target, text });
                let content = send::unshown(turn, conversation, kind).await?;
                messages::set_edit(turn.db, local_id, &content.encode_unpadded()?).await?;
                turn.notify(Notification::MessageChanged { local_id });
                Ok(())
            })
        })
        .await
    }

    /// Deletes one of our messages on every device.
    ///
    /// # Errors
    /// As [`edit`](Self::edit).
    pub async fn delete(
        &self,
        conversation: ConversationId,
        target: ContentId,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let local_id = own_message(turn.db, conversation, target).await?;
                let kind = Kind::Delete(Delete { target });
                send::unshown(turn, conversation, kind).await?;
                messages::set_deleted(turn.db, local_id).await?;
                turn.notify(Notification::MessageChanged { local_id });
                Ok(())
            })
        })
        .await
    }

    /// Puts an emoji on a message, or takes it back.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`]; as [`send_text`](Self::send_text).
    pub async fn react(
        &self,
        conversation: ConversationId,
        target: ContentId,
        emoji: impl Into<String>,
        remove: bool,
    ) -> Result<(), ClientError> {
        let emoji = emoji.into();
        self.task(move |turn| {
            Box::pin(async move {
                let id = conversation.as_bytes();
                let message = messages::by_content(turn.db, id, target.as_bytes())
                    .await?
                    .ok_or(ClientError::UnknownMessage)?;
                let kind = Kind::Reaction(Reaction {
                    target,
                    emoji: emoji.clone(),
                    remove,
                });
                send::unshown(turn, conversation, kind).await?;
                let own = turn.own_account();
                let shown = (!remove).then_some(emoji.as_str());
                messages::react(turn.db, id, target.as_bytes(), own, shown, turn.now).await?;
                turn.notify(Notification::MessageChanged {
                    local_id: message.local_id,
                });
                Ok(())
            })
        })
        .await
    }

    /// Tells the members who are online that we write, or stopped. May be lost.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub async fn send_typing(
        &self,
        conversation: ConversationId,
        typing: bool,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move { send::ephemeral(turn, conversation, Kind::Typing(typing)).await })
        })
        .await
    }

    /// Marks everything up to a message as read, and tells the authors.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn mark_read(
        &self,
        conversation: ConversationId,
        up_to: u64,
    ) -> Result<(), ClientError> {
        self.task(move |turn| {
            Box::pin(async move {
                let id = conversation.as_bytes();
                let unread = messages::unread_up_to(turn.db, id, up_to).await?;
                conversations::set_read(turn.db, id, up_to).await?;
                let mut authors: Vec<(AccountId, Vec<ContentId>)> = Vec::new();
                let mut all = Vec::new();
                for row in &unread {
                    let disappears_at = sync::disappears_at(turn, row);
                    messages::mark_read(turn.db, row.local_id, turn.now, disappears_at).await?;
                    if row.kind == membership::CHANGE {
                        continue;
                    }
                    let content_id = ContentId::from(row.content_id);
                    all.push(content_id);
                    match authors
                        .iter_mut()
                        .find(|(account, _)| *account == row.sender.account)
                    {
                        Some((_, ids)) => ids.push(content_id),
                        None => authors.push((row.sender.account, vec![content_id])),
                    }
                }
                for (author, ids) in authors {
                    receive::receipt(turn, conversation, author, &ids, ReceiptKind::Read).await?;
                }
                sync::tell_read(turn, &all).await?;
                turn.notify(Notification::Conversation { conversation });
                Ok(())
            })
        })
        .await
    }

    /// Where one of our messages stands, a line a recipient account.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] when it is not one of ours.
    pub async fn send_status(
        &self,
        content_id: ContentId,
    ) -> Result<Vec<RecipientStatus>, ClientError> {
        let mut reader = self.reader().await?;
        let rows = outbox_table::deliveries(reader.db()?, content_id.as_bytes()).await?;
        if rows.is_empty() {
            return Err(ClientError::UnknownMessage);
        }
        Ok(rows
            .into_iter()
            .filter_map(|(account, state, at)| {
                Some(RecipientStatus {
                    account,
                    state: DeliveryState::from_slug(&state)?,
                    at,
                })
            })
            .collect())
    }

    /// Waits until the relay has answered for every recipient, and returns where the message
    /// stands. A message that waits for somebody's keys or decision keeps waiting.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`]; [`ClientError::UnknownMessage`].
    pub async fn wait_settled(
        &self,
        content_id: ContentId,
        timeout: Duration,
    ) -> Result<Vec<RecipientStatus>, ClientError> {
        self.wait_status(content_id, timeout, DeliveryState::is_settled)
            .await
    }

    /// Waits until a device of every recipient has said that it stored the message.
    ///
    /// # Errors
    /// As [`wait_settled`](Self::wait_settled).
    pub async fn wait_delivered(
        &self,
        content_id: ContentId,
        timeout: Duration,
    ) -> Result<Vec<RecipientStatus>, ClientError> {
        self.wait_status(content_id, timeout, |state| {
            matches!(state, DeliveryState::Delivered | DeliveryState::Read)
        })
        .await
    }

    async fn wait_status(
        &self,
        content_id: ContentId,
        timeout: Duration,
        reached: impl Fn(DeliveryState) -> bool,
    ) -> Result<Vec<RecipientStatus>, ClientError> {
        let mut wakeups = self.subscribe();
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.send_status(content_id).await?;
            if status.iter().all(|line| reached(line.state)) {
                return Ok(status);
            }
            match timeout_at(deadline, wakeups.recv()).await {
                // Lagging only means that there was much to hear: look again.
                Ok(Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(_)) => return Err(ClientError::Stopped),
                Err(_) => return Err(ClientError::TimedOut),
            }
        }
    }

    /// Messages in stored order.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn messages(&self, filter: MessageFilter) -> Result<Vec<Message>, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let limit = match filter.limit {
            0 => 100,
            limit => limit.min(1000),
        };
        let id = filter.conversation;
        let conversation = id.as_ref().map(|id| id.as_bytes().as_slice());
        let rows = match filter.before {
            Some(before) => messages::before(db, conversation, before, limit).await?,
            None => messages::after(db, conversation, filter.after, limit).await?,
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            found.push(message(db, row).await?);
        }
        Ok(found)
    }

    /// One message by its local id.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`].
    pub async fn message(&self, local_id: u64) -> Result<Message, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let row = messages::by_local_id(db, local_id)
            .await?
            .ok_or(ClientError::UnknownMessage)?;
        Ok(message(db, row).await?)
    }

    /// One message by its id everywhere.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`].
    pub async fn message_by_content(
        &self,
        conversation: ConversationId,
        content_id: ContentId,
    ) -> Result<Message, ClientError> {
        let mut reader = self.reader().await?;
        let db = reader.db()?;
        let row = messages::by_content(db, conversation.as_bytes(), content_id.as_bytes())
            .await?
            .ok_or(ClientError::UnknownMessage)?;
        Ok(message(db, row).await?)
    }
}

async fn own_message(
    db: &mut SqliteConnection,
    conversation: ConversationId,
    target: ContentId,
) -> Result<u64, ClientError> {
    messages::by_content(db, conversation.as_bytes(), target.as_bytes())
        .await?
        .filter(|message| message.own && !message.deleted)
        .map(|message| message.local_id)
        .ok_or(ClientError::UnknownMessage)
}

/// A stored row as people see it.
pub(super) async fn message(db: &mut SqliteConnection, row: Row) -> Result<Message, StoreError> {
    let conversation = ConversationId::from_slice(&row.conversation)
        .map_err(|_| StoreError::Damaged("a message's conversation"))?;
    let edited = row.edit.is_some();
    let reactions = messages::reactions(db, &row.conversation, &row.content_id).await?;
    Ok(Message {
        local_id: row.local_id,
        conversation,
        content_id: ContentId::from(row.content_id),
        sender: row.sender,
        own: row.own,
        sent_at: row.sent_at,
        stored_at: row.stored_at,
        body: body(&row)?,
        edited,
        reactions,
        read_at: row.read_at,
        disappears_at: row.disappears_at,
    })
}

fn body(row: &Row) -> Result<MessageBody, StoreError> {
    if row.deleted {
        return Ok(MessageBody::Deleted);
    }
    if row.kind == membership::CHANGE {
        return Ok(
            membership::read_change(&row.content).map_or(MessageBody::Newer, MessageBody::Change)
        );
    }
    let damaged = |_| StoreError::Damaged("a message");
    if let Some(edit) = &row.edit
        && let Kind::Edit(edit) = Content::decode_unpadded(edit).map_err(damaged)?.kind
    {
        return Ok(MessageBody::Text(edit.text));
    }
    let content = Content::decode_unpadded(&row.content).map_err(damaged)?;
    Ok(match content.kind {
        Kind::Text(text) => MessageBody::Text(text),
        Kind::AiAnswer(answer) => MessageBody::Answer(answer),
        Kind::AiAlert(alert) => MessageBody::Alert(alert),
        Kind::Attachment(attachment) => MessageBody::Attachment(attachment),
        Kind::EscrowNotice(notice) => MessageBody::EscrowNotice(notice.text),
        _ => MessageBody::Newer,
    })
}
