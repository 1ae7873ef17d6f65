//! Between our own devices: what one sent, and what a newly linked one needs.

use ed25519_dalek::VerifyingKey;
use prost::Message as _;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress};

use crate::api::{ContentId, ConversationId};
use crate::content::{
    AccessKey, Content, ConversationTitle, DeviceSync, Kind, SyncContact, SyncConversation,
    Transcript,
};
use crate::directory;
use crate::membership;
use crate::notice::Notification;
use crate::outbox::DeliveryState;
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
    if content.conversation.is_some() {
        // Conversation content reaches own devices inside transcripts, but for updates asked for.
        return receive::in_conversation(turn, sender, content, turn.now).await;
    }
    match &content.kind {
        Kind::Transcript(transcript) => transcript_arrived(turn, sender, transcript).await,
        Kind::Sync(sync) => {
            sync_arrived(turn, sync).await?;
            Ok(Outcome::Committed)
        }
        Kind::Retry(request) => {
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
    let content = (*transcript.content).clone();
    let content_id = content.id;
    let recipients = transcript.recipients.clone();
    let shown = !receive::message_kind(&content).is_empty();
    let outcome = receive::in_conversation(turn, sender, content, turn.now).await?;
    if outcome == Outcome::Committed && shown {
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

/// A device that was just linked asks for everything.
pub(crate) async fn ask(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    send::to_own_devices(turn, Kind::Sync(DeviceSync::Request)).await
}

async fn sync_arrived(turn: &mut Turn<'_>, content: &DeviceSync) -> Result<(), StoreError> {
    match content {
        DeviceSync::Request => tell_everything(turn).await,
        DeviceSync::Contacts(contacts) => {
            for contact in contacts {
                contact_arrived(turn, contact).await?;
            }
            Ok(())
        }
        DeviceSync::Conversations(list) => {
            for entry in list {
                conversation_arrived(turn, entry).await?;
            }
            Ok(())
        }
        DeviceSync::Read(read) => read_elsewhere(turn, read).await,
        DeviceSync::Unknown => Ok(()),
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
            account: account.account,
            account_key: Some(account.account_key),
            access_key: account.access_key.map(AccessKey::from),
            label: account.label.clone().unwrap_or_default(),
            verified: account.verified,
            blocked: account.relation == Relation::Blocked,
            accepted: account.relation == Relation::Accepted,
        });
    }
    for chunk in contacts.chunks(ENTRIES_PER_CONTENT) {
        let sync = DeviceSync::Contacts(chunk.to_vec());
        send::to_own_devices(turn, Kind::Sync(sync)).await?;
    }
    let stored = conversations::all(turn.db).await?;
    let mut list = Vec::new();
    for conversation in &stored {
        let Ok(id) = ConversationId::from_slice(&conversation.id) else {
            continue;
        };
        let salt = conversation
            .title_salt
            .as_ref()
            .and_then(|salt| <[u8; 16]>::try_from(salt.as_slice()).ok());
        list.push(SyncConversation {
            conversation: id,
            title: salt
                .filter(|_| !conversation.title.is_empty())
                .map(|salt| ConversationTitle {
                    salt,
                    title: conversation.title.clone(),
                }),
            muted_until: Timestamp::from_millis(0),
            archived: false,
            accepted: conversation.state == ConversationState::Open,
        });
    }
    for conversation in &stored {
        if let Ok(id) = ConversationId::from_slice(&conversation.id) {
            membership::send_whole_log(turn, id, own).await?;
        }
    }
    for chunk in list.chunks(ENTRIES_PER_CONTENT) {
        let sync = DeviceSync::Conversations(chunk.to_vec());
        send::to_own_devices(turn, Kind::Sync(sync)).await?;
    }
    Ok(())
}

/// What another device says of a contact. The account itself is verified here all the same; until
/// then the entry waits beside the account.
async fn contact_arrived(turn: &mut Turn<'_>, contact: &SyncContact) -> Result<(), StoreError> {
    let account = contact.account;
    if account == turn.own_account() {
        return Ok(());
    }
    if accounts::load(turn.db, account).await?.is_some() {
        apply_contact(turn, account, contact).await
    } else {
        misc::save_synced_contact(turn.db, account, &contact.write().encode_to_vec()).await?;
        turn.call(Call::Account(account));
        Ok(())
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
        stored.label = Some(contact.label.clone());
    }
    stored.access_key = stored
        .access_key
        .or(contact.access_key.map(|key| *key.as_bytes()));
    accounts::save(turn.db, &stored).await?;
    // A comparison counts for the key that was compared, no other.
    let compared = contact
        .account_key
        .filter(|_| contact.verified)
        .and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let (blocked, accepted) = (contact.blocked, contact.accepted);
    directory::decide(turn, account, |contact| {
        if let Some(key) = compared {
            contact.mark_verified(&key);
        }
        if blocked {
            contact.block();
        } else if accepted {
            contact.accept_request();
        }
    })
    .await?;
    turn.notify(Notification::Contact { account });
    membership::requests_accepted(turn, account).await
}

/// A record was learned: what another device said of it counts now.
pub(crate) async fn record_learned(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    if let Some(bytes) = misc::take_synced_contact(turn.db, account).await?
        && let Ok(contact) = crate::proto::SyncContact::decode(bytes.as_slice())
        && let Ok(contact) = SyncContact::read(&contact)
    {
        apply_contact(turn, account, &contact).await?;
    }
    Ok(())
}

async fn conversation_arrived(
    turn: &mut Turn<'_>,
    entry: &SyncConversation,
) -> Result<(), StoreError> {
    let Some(mut stored) = conversations::load(turn.db, entry.conversation.as_bytes()).await?
    else {
        return Ok(());
    };
    if entry.accepted && stored.state == ConversationState::Request {
        stored.state = ConversationState::Open;
        conversations::save(turn.db, &stored).await?;
        let conversation = entry.conversation;
        turn.notify(Notification::Conversation { conversation });
    }
    Ok(())
}

/// Tells our other devices what was read here.
pub(crate) async fn tell_read(turn: &mut Turn<'_>, ids: &[ContentId]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    send::to_own_devices(turn, Kind::Sync(DeviceSync::Read(ids.to_vec()))).await
}

async fn read_elsewhere(turn: &mut Turn<'_>, read: &[ContentId]) -> Result<(), StoreError> {
    for id in read {
        for message in messages::unread_by_content(turn.db, id.as_bytes()).await? {
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
pub(crate) fn disappears_at(turn: &Turn<'_>, message: &messages::Row) -> Option<Timestamp> {
    let content = Content::decode_unpadded(&message.content).ok()?;
    (content.expires_after_s > 0).then(|| {
        turn.now
            .plus_millis(u64::from(content.expires_after_s) * 1000)
    })
}
