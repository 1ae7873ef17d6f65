//! Between our own devices: what one sent, and what a newly linked one needs.

use prost::Message as _;
use wardline_wire::ids::{AccountId, DeviceAddress};

use crate::api::{ContentId, ConversationId};
use crate::membership;
use crate::notice::Notification;
use crate::outbox::DeliveryState;
use crate::proto::content::Kind;
use crate::proto::device_sync::Kind as SyncKind;
use crate::proto::{
    Content, ConversationTitle, DeviceSync, SyncContact, SyncContacts, SyncConversation,
    SyncConversations, SyncRead, SyncRequest, Transcript,
};
use crate::receive::{self, Outcome};
use crate::retry;
use crate::send;
use crate::store::accounts::{self, Relation};
use crate::store::conversations::{self, ConversationState};
use crate::store::{StoreError, messages, misc, outbox as outbox_table};
use crate::turn::{Call, Turn};

/// Entries in one sync content: a few hundred bytes each.
const ENTRIES_PER_CONTENT: usize = 100;

/// A content from another device of our account.
pub(crate) async fn own_device(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    content: Content,
) -> Result<Outcome, StoreError> {
    if !content.conversation_id.is_empty() {
        // Conversation content reaches own devices inside transcripts, but for updates asked for.
        return receive::in_conversation(turn, sender, content, turn.now).await;
    }
    match &content.kind {
        Some(Kind::Transcript(transcript)) => transcript_arrived(turn, sender, transcript).await,
        Some(Kind::Sync(sync)) => {
            sync_arrived(turn, sync).await?;
            Ok(Outcome::Committed)
        }
        Some(Kind::Retry(request)) => {
            retry::asked(turn, sender, request).await?;
            Ok(Outcome::Committed)
        }
        _ => Ok(Outcome::Committed),
    }
}

async fn transcript_arrived(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    transcript: &Transcript,
) -> Result<Outcome, StoreError> {
    let Ok(content) = Content::decode(transcript.content.as_slice()) else {
        return Ok(Outcome::Quarantined("a transcript that cannot be read"));
    };
    if matches!(content.kind, Some(Kind::Transcript(_))) {
        return Ok(Outcome::Quarantined("a transcript of a transcript"));
    }
    let content_id = ContentId::from_slice(&content.content_id).ok();
    let recipients: Vec<AccountId> = transcript
        .recipients
        .iter()
        .take(256)
        .filter_map(|id| AccountId::from_slice(id).ok())
        .collect();
    let shown = !receive::message_kind(&content).is_empty();
    let outcome = receive::in_conversation(turn, sender, content, turn.now).await?;
    if let (Outcome::Committed, Some(content_id), true) = (outcome, content_id, shown) {
        for account in recipients {
            // The other device knows better; here it is at least on its way.
            outbox_table::set_delivery(
                turn.db,
                content_id.as_bytes(),
                account,
                DeliveryState::Accepted.slug(),
                turn.now,
            )
            .await?;
        }
    }
    Ok(outcome)
}

fn sync(kind: SyncKind) -> Kind {
    Kind::Sync(DeviceSync { kind: Some(kind) })
}

/// A device that was just linked asks for everything.
pub(crate) async fn ask(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    send::to_own_devices(turn, sync(SyncKind::Request(SyncRequest {}))).await
}

async fn sync_arrived(turn: &mut Turn<'_>, content: &DeviceSync) -> Result<(), StoreError> {
    match &content.kind {
        Some(SyncKind::Request(_)) => tell_everything(turn).await,
        Some(SyncKind::Contacts(contacts)) => {
            for contact in contacts.contacts.iter().take(256) {
                contact_arrived(turn, contact).await?;
            }
            Ok(())
        }
        Some(SyncKind::Conversations(list)) => {
            for entry in list.conversations.iter().take(256) {
                conversation_arrived(turn, entry).await?;
            }
            Ok(())
        }
        Some(SyncKind::Read(read)) => read_elsewhere(turn, read).await,
        None => Ok(()),
    }
}

async fn tell_everything(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let own = turn.own_account();
    let mut contacts = Vec::new();
    for account in accounts::all(turn.db).await? {
        if account.account == own {
            continue;
        }
        contacts.push(SyncContact {
            account_id: account.account.to_vec(),
            account_key: account.account_key.to_vec(),
            access_key: account.access_key.map(Vec::from).unwrap_or_default(),
            label: account.label.clone().unwrap_or_default(),
            verified: account.verified,
            blocked: account.relation == Relation::Blocked,
            accepted: account.relation == Relation::Accepted,
        });
    }
    for chunk in contacts.chunks(ENTRIES_PER_CONTENT) {
        let kind = SyncKind::Contacts(SyncContacts {
            contacts: chunk.to_vec(),
        });
        send::to_own_devices(turn, sync(kind)).await?;
    }
    let stored = conversations::all(turn.db).await?;
    let mut list = Vec::new();
    for conversation in &stored {
        list.push(SyncConversation {
            conversation_id: conversation.conversation.clone(),
            title: conversation.title_salt.as_ref().map(|salt| ConversationTitle {
                salt: salt.clone(),
                title: conversation.title.clone(),
            }),
            muted_until_ms: 0,
            archived: false,
            accepted: conversation.state == ConversationState::Open,
        });
    }
    for conversation in &stored {
        if let Ok(id) = ConversationId::from_slice(&conversation.conversation) {
            membership::send_whole_log(turn, id, own).await?;
        }
    }
    for chunk in list.chunks(ENTRIES_PER_CONTENT) {
        let kind = SyncKind::Conversations(SyncConversations {
            conversations: chunk.to_vec(),
        });
        send::to_own_devices(turn, sync(kind)).await?;
    }
    Ok(())
}

/// What another device says of a contact. The account itself is verified here all the same; until
/// then the entry waits beside the account.
async fn contact_arrived(turn: &mut Turn<'_>, contact: &SyncContact) -> Result<(), StoreError> {
    let Ok(account) = AccountId::from_slice(&contact.account_id) else {
        return Ok(());
    };
    if account == turn.own_account() {
        return Ok(());
    }
    match accounts::load(turn.db, account).await? {
        Some(_) => apply_contact(turn, account, contact).await,
        None => {
            misc::save_synced_contact(turn.db, account, &contact.encode_to_vec()).await?;
            turn.call(Call::Account(account));
            Ok(())
        }
    }
}

async fn apply_contact(
    turn: &mut Turn<'_>,
    account: AccountId,
    contact: &SyncContact,
) -> Result<(), StoreError> {
    let Some(mut stored) = accounts::load(turn.db, account).await? else {
        return Ok(());
    };
    if !contact.label.is_empty() && stored.label.is_none() {
        stored.label = Some(contact.label.chars().take(256).collect());
    }
    stored.access_key = stored
        .access_key
        .or(<[u8; 16]>::try_from(contact.access_key.as_slice()).ok());
    // A comparison counts for the key that was compared, no other.
    if contact.verified && contact.account_key == stored.account_key {
        stored.verified = true;
    }
    if contact.blocked {
        stored.relation = Relation::Blocked;
    } else if contact.accepted && stored.relation == Relation::Request {
        stored.relation = Relation::Accepted;
    }
    accounts::save(turn.db, &stored).await?;
    turn.notify(Notification::Contact { account });
    membership::requests_accepted(turn, account).await
}

/// A record was learned: what another device said of it counts now.
pub(crate) async fn record_learned(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    if let Some(bytes) = misc::take_synced_contact(turn.db, account).await?
        && let Ok(contact) = SyncContact::decode(bytes.as_slice())
    {
        apply_contact(turn, account, &contact).await?;
    }
    Ok(())
}

async fn conversation_arrived(
    turn: &mut Turn<'_>,
    entry: &SyncConversation,
) -> Result<(), StoreError> {
    let Some(mut stored) = conversations::load(turn.db, &entry.conversation_id).await? else {
        return Ok(());
    };
    if entry.accepted && stored.state == ConversationState::Request {
        stored.state = ConversationState::Open;
        conversations::save(turn.db, &stored).await?;
        if let Ok(conversation) = ConversationId::from_slice(&entry.conversation_id) {
            turn.notify(Notification::Conversation { conversation });
        }
    }
    Ok(())
}

/// Tells our other devices what was read here.
pub(crate) async fn tell_read(turn: &mut Turn<'_>, ids: &[ContentId]) -> Result<(), StoreError> {
    let kind = SyncKind::Read(SyncRead {
        content_ids: ids.iter().map(ContentId::to_vec).collect(),
    });
    send::to_own_devices(turn, sync(kind)).await
}

async fn read_elsewhere(turn: &mut Turn<'_>, read: &SyncRead) -> Result<(), StoreError> {
    for id in read.content_ids.iter().take(512) {
        for message in messages::unread_by_content(turn.db, id).await? {
            let disappears_at = disappears_at(turn, &message);
            messages::mark_read(turn.db, message.local_id, turn.now, disappears_at).await?;
            turn.notify(Notification::MessageChanged {
                local_id: message.local_id,
            });
        }
    }
    Ok(())
}

/// When a message that is read now disappears.
pub(crate) fn disappears_at(
    turn: &Turn<'_>,
    message: &messages::Row,
) -> Option<wardline_wire::clock::Timestamp> {
    let content = Content::decode(message.content.as_slice()).ok()?;
    (content.expires_after_s > 0).then(|| {
        turn.now
            .plus_millis(u64::from(content.expires_after_s) * 1000)
    })
}
