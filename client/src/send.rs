//! From what somebody says to contents in the outbox, and to the own other devices.

use wardline_wire::ids::AccountId;

use crate::api::{ClientError, ContentId, ConversationId, SentMessage};
use crate::content::{Content, Kind, Transcript};
use crate::membership;
use crate::notice::Notification;
use crate::outbox;
use crate::random;
use crate::receive::message_kind;
use crate::store::accounts;
use crate::store::conversations::{self, ConversationState};
use crate::store::own::OwnState;
use crate::store::{StoreError, messages};
use crate::turn::Turn;

/// Whether this device may send at all.
pub(crate) fn check_own(turn: &Turn<'_>) -> Result<(), ClientError> {
    match turn.identity.own.state {
        OwnState::Active => Ok(()),
        OwnState::Enrolling | OwnState::Linking | OwnState::Pending => {
            Err(ClientError::NotCertified)
        }
        OwnState::Rejected | OwnState::Revoked => Err(ClientError::Revoked),
    }
}

/// The members of a conversation that we may write to.
pub(crate) async fn check_conversation(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<Vec<AccountId>, ClientError> {
    check_own(turn)?;
    let stored = conversations::load(turn.db, conversation.as_bytes())
        .await?
        .ok_or(ClientError::UnknownConversation)?;
    match stored.state {
        ConversationState::Open => {}
        ConversationState::Request => return Err(ClientError::StillRequest),
        ConversationState::Left => return Err(ClientError::NotMember),
    }
    let members = outbox::members(turn, conversation).await?;
    if !members.contains(&turn.own_account()) {
        return Err(ClientError::NotMember);
    }
    Ok(members)
}

/// A content of this conversation. Its lists are put in again when it is encrypted. `None` while
/// we have no list of our own.
pub(crate) async fn conversation_content(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    id: ContentId,
    kind: Kind,
    counted: bool,
) -> Result<Option<Content>, StoreError> {
    let Some(own_list) = outbox::own_list(turn).await? else {
        return Ok(None);
    };
    let stored = conversations::load(turn.db, conversation.as_bytes()).await?;
    let sequence = if counted {
        conversations::next_sequence(turn.db, conversation.as_bytes()).await?
    } else {
        0
    };
    Ok(Some(Content {
        id,
        conversation: Some(conversation),
        sequence,
        sent_at: turn.now,
        sender_list: own_list,
        recipient_list: Some(own_list),
        heads: membership::heads(turn, conversation).await?,
        expires_after_s: stored
            .and_then(|stored| u32::try_from(stored.timer_seconds).ok())
            .unwrap_or(0),
        escrow: None,
        kind,
    }))
}

/// A fresh content id.
pub(crate) fn new_content_id() -> ContentId {
    ContentId::from(random::bytes())
}

/// Stores a message of ours and queues it for every member and for our other devices.
pub(crate) async fn shown(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    content_id: ContentId,
    kind: Kind,
) -> Result<SentMessage, ClientError> {
    let members = check_conversation(turn, conversation).await?;
    let content = conversation_content(turn, conversation, content_id, kind, true)
        .await?
        .ok_or(ClientError::NotCertified)?;
    let bytes = content.encode_unpadded()?;
    let sender = turn.identity.own.address;
    let disappears_at = (content.expires_after_s > 0).then(|| {
        turn.now
            .plus_millis(u64::from(content.expires_after_s) * 1000)
    });
    let stored = messages::insert(
        turn.db,
        &messages::New {
            conversation: conversation.as_bytes(),
            content_id: content_id.as_bytes(),
            sender,
            own: true,
            content: &bytes,
            kind: message_kind(&content),
            sent_at: turn.now,
            disappears_at,
        },
        turn.now,
    )
    .await?;
    let Some(local_id) = stored else {
        return Err(ClientError::Invalid("this message was sent before"));
    };
    turn.notify(Notification::Message {
        local_id,
        conversation,
    });
    to_members(turn, &content, &members, true).await?;
    Ok(SentMessage {
        local_id,
        content_id,
    })
}

/// Queues a content of a conversation that changes something already there (reaction, edit,
/// deletion): not a message of its own.
pub(crate) async fn unshown(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    kind: Kind,
) -> Result<Content, ClientError> {
    let members = check_conversation(turn, conversation).await?;
    let id = new_content_id();
    let content = conversation_content(turn, conversation, id, kind, true)
        .await?
        .ok_or(ClientError::NotCertified)?;
    content.encode_unpadded()?;
    to_members(turn, &content, &members, false).await?;
    Ok(content)
}

/// Queues a content for the other members, and a transcript of it for our other devices.
pub(crate) async fn to_members(
    turn: &mut Turn<'_>,
    content: &Content,
    members: &[AccountId],
    shown: bool,
) -> Result<(), StoreError> {
    let own = turn.own_account();
    let others: Vec<AccountId> = members.iter().copied().filter(|id| *id != own).collect();
    outbox::queue(turn, content, &others, shown).await?;
    transcript(turn, content, &others).await
}

/// Tells our other devices what this one sent.
pub(crate) async fn transcript(
    turn: &mut Turn<'_>,
    content: &Content,
    recipients: &[AccountId],
) -> Result<(), StoreError> {
    let kind = Kind::Transcript(Transcript {
        content: Box::new(content.clone()),
        recipients: recipients.to_vec(),
    });
    to_own_devices(turn, kind).await
}

/// Queues an account-level content for our other devices, if there are any.
pub(crate) async fn to_own_devices(turn: &mut Turn<'_>, kind: Kind) -> Result<(), StoreError> {
    let own = turn.own_account();
    let Some(stored) = accounts::load(turn.db, own).await? else {
        return Ok(());
    };
    let list = crate::directory::list_of(turn, &stored)?;
    if list.devices().len() < 2 {
        return Ok(());
    }
    to_account(turn, own, kind, true).await
}

/// Queues an account-level content.
pub(crate) async fn to_account(
    turn: &mut Turn<'_>,
    account: AccountId,
    kind: Kind,
    counted: bool,
) -> Result<(), StoreError> {
    let sequence = if counted {
        accounts::next_sequence(turn.db, account).await?
    } else {
        0
    };
    let Some(own_list) = outbox::own_list(turn).await? else {
        return Ok(());
    };
    let content = Content {
        id: new_content_id(),
        conversation: None,
        sequence,
        sent_at: turn.now,
        sender_list: own_list,
        recipient_list: Some(own_list),
        heads: Vec::new(),
        expires_after_s: 0,
        escrow: None,
        kind,
    };
    outbox::queue(turn, &content, &[account], false).await
}

/// Sends something to the members who are online, and keeps nothing.
pub(crate) async fn ephemeral(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    kind: Kind,
) -> Result<(), ClientError> {
    let members = check_conversation(turn, conversation).await?;
    let id = new_content_id();
    let content = conversation_content(turn, conversation, id, kind, false)
        .await?
        .ok_or(ClientError::NotCertified)?;
    outbox::ephemeral(turn, &content, &members).await?;
    Ok(())
}
