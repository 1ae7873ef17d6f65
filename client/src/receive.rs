//! Envelope → content → stored. Every envelope ends committed, duplicate or quarantined, and all
//! three are committed before the relay is told: nothing can block a mailbox.
//!
//! An envelope of a sender whose certificate and list are not verified yet is parked: committed as
//! it is, opened when the record is here.

use sha2::{Digest as _, Sha256};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
use wardline_wire::proto::client_frame::Frame;
use wardline_wire::proto::{Acknowledge, CiphertextType, ClientFrame, Deliver, Envelope};

use crate::api::{ContentId, ConversationId, Partial};
use crate::content::{Content, Kind, ReceiptKind, Receipts};
use crate::directory;
use crate::introductions;
use crate::membership::{self, Standing};
use crate::notice::{Notice, NoticeKind, Notification};
use crate::outbox::{self, DeliveryState};
use crate::retry;
use crate::send;
use crate::session::{self, DecryptFault};
use crate::store::accounts::{self, Account, Relation};
use crate::store::inbox::{self, ParkReason};
use crate::store::{StoreError, messages, misc, outbox as outbox_table};
use crate::sync;
use crate::turn::{Call, Turn};

/// Parked envelopes of one unknown account, and of all together.
const MAX_PARKED_PER_ACCOUNT: u64 = 64;
const MAX_PARKED: u64 = 1024;
/// Contents of one account that wait for operations.
const MAX_DEFERRED_PER_ACCOUNT: u64 = 256;

/// Where an envelope ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Opened and dealt with.
    Committed,
    /// Opened before.
    Duplicate,
    /// Waits for the sender's record.
    Parked,
    /// Given up, for this reason.
    Quarantined(&'static str),
}

/// Takes a batch from the relay. One commit for all, a savepoint each.
pub(crate) async fn deliver(turn: &mut Turn<'_>, batch: &Deliver) -> Result<(), StoreError> {
    let mut last = 0;
    for received in &batch.envelopes {
        one(turn, received).await?;
        last = last.max(received.seq);
    }
    if last > 0 {
        turn.effects.frames.push(ClientFrame {
            frame: Some(Frame::Acknowledge(Acknowledge {
                epoch: batch.epoch,
                seq: last,
            })),
        });
    }
    Ok(())
}

async fn one(turn: &mut Turn<'_>, received: &Envelope) -> Result<(), StoreError> {
    let (Ok(account), Ok(device)) = (
        AccountId::from_slice(&received.sender_account_id),
        DeviceId::new(received.sender_device_id),
    ) else {
        // Nobody to name: nothing to keep.
        return Ok(());
    };
    let envelope = Opening {
        sender: DeviceAddress { account, device },
        kind: received.r#type(),
        ciphertext: &received.ciphertext,
        ephemeral: received.ephemeral || received.seq == 0,
        parked: false,
    };
    guarded(turn, &envelope).await.map(drop)
}

/// An envelope, just arrived or taken from the parked ones.
struct Opening<'a> {
    sender: DeviceAddress,
    kind: CiphertextType,
    ciphertext: &'a [u8],
    ephemeral: bool,
    parked: bool,
}

/// Opens an envelope inside a savepoint: what a damaged record makes fail leaves nothing behind,
/// and the mailbox goes on.
async fn guarded(turn: &mut Turn<'_>, envelope: &Opening<'_>) -> Result<Outcome, StoreError> {
    let mark = turn.effects.mark();
    sqlx::query("SAVEPOINT envelope")
        .execute(&mut *turn.db)
        .await?;
    let outcome = match open(turn, envelope).await {
        Ok(outcome) => outcome,
        Err(StoreError::Damaged(what)) => {
            sqlx::query("ROLLBACK TO envelope")
                .execute(&mut *turn.db)
                .await?;
            turn.effects.take_back(mark);
            turn.logs.forget();
            tracing::error!(
                what,
                "a stored record is damaged; an envelope was set aside"
            );
            Outcome::Quarantined("a stored record is damaged")
        }
        Err(error) => return Err(error),
    };
    if let Outcome::Quarantined(reason) = outcome
        && !envelope.ephemeral
    {
        quarantine(turn, envelope, reason).await?;
    }
    sqlx::query("RELEASE envelope")
        .execute(&mut *turn.db)
        .await?;
    Ok(outcome)
}

async fn quarantine(
    turn: &mut Turn<'_>,
    envelope: &Opening<'_>,
    reason: &'static str,
) -> Result<(), StoreError> {
    let hash: [u8; 32] = Sha256::digest(envelope.ciphertext).into();
    inbox::quarantine(turn.db, envelope.sender, hash, reason, turn.now).await?;
    if reason == CANNOT_DECRYPT {
        retry::ask_for_ciphertext(turn, envelope.sender, hash).await?;
    }
    // Strangers and blocked people make no noise.
    let known = accounts::load(turn.db, envelope.sender.account)
        .await?
        .is_some_and(|account| account.relation == Relation::Accepted);
    if known {
        let account = envelope.sender.account;
        Notice::about_once_a_day(turn, NoticeKind::Quarantined, account, reason).await?;
    }
    Ok(())
}

const CANNOT_DECRYPT: &str = "no session opens it";

async fn open(turn: &mut Turn<'_>, envelope: &Opening<'_>) -> Result<Outcome, StoreError> {
    let sender = envelope.sender;
    if sender == turn.identity.own.address {
        return Ok(Outcome::Quarantined("it claims to be from this device"));
    }
    let Some(account) = accounts::load(turn.db, sender.account).await? else {
        return park(turn, envelope, ParkReason::UnknownAccount).await;
    };
    if account.relation == Relation::Blocked {
        return Ok(Outcome::Quarantined("the sender is blocked"));
    }
    if !envelope.parked && inbox::parked_counts(turn.db, sender.account).await?.0 > 0 {
        // Earlier ones wait: order is kept.
        return park(turn, envelope, ParkReason::UnknownDevice).await;
    }
    if account.halted.as_deref() == Some(NoticeKind::AccountRevoked.slug()) {
        return Ok(Outcome::Quarantined("the sender is revoked"));
    }
    let list = directory::list_of(turn, &account)?;
    let Some(device) = list.device(sender.device) else {
        if envelope.parked {
            return Ok(Outcome::Quarantined(
                "the device is not on the sender's list",
            ));
        }
        return park(turn, envelope, ParkReason::UnknownDevice).await;
    };
    let opened = session::decrypt(
        turn,
        sender.account,
        device,
        envelope.kind,
        envelope.ciphertext,
    )
    .await?;
    let plaintext = match opened {
        Ok(plaintext) => plaintext,
        Err(DecryptFault::Duplicate) => return Ok(Outcome::Duplicate),
        Err(DecryptFault::Malformed) => return Ok(Outcome::Quarantined("it is not a message")),
        Err(DecryptFault::OtherIdentity) => {
            return Ok(Outcome::Quarantined("it claims another identity key"));
        }
        Err(DecryptFault::CannotDecrypt) => return Ok(Outcome::Quarantined(CANNOT_DECRYPT)),
        Err(DecryptFault::ReusedBaseKey) => {
            return Ok(Outcome::Quarantined("a handshake is repeated"));
        }
    };
    let Ok(content) = Content::decode(&plaintext) else {
        return Ok(Outcome::Quarantined("its content cannot be read"));
    };
    take(turn, sender, &account, content, envelope.ephemeral).await
}

async fn park(
    turn: &mut Turn<'_>,
    envelope: &Opening<'_>,
    reason: ParkReason,
) -> Result<Outcome, StoreError> {
    let account = envelope.sender.account;
    if envelope.ephemeral {
        return Ok(Outcome::Quarantined("ephemeral, from somebody unknown"));
    }
    let (here, everywhere) = inbox::parked_counts(turn.db, account).await?;
    if here >= MAX_PARKED_PER_ACCOUNT || everywhere >= MAX_PARKED {
        return Ok(Outcome::Quarantined(
            "too many envelopes of unknown senders",
        ));
    }
    inbox::park(
        turn.db,
        envelope.sender,
        envelope.kind.into(),
        envelope.ciphertext,
        reason,
        turn.now,
    )
    .await?;
    turn.call(Call::Account(account));
    Ok(Outcome::Parked)
}

/// The sender's record is here: opens what was parked.
pub(crate) async fn unpark(turn: &mut Turn<'_>, account: AccountId) -> Result<(), StoreError> {
    for parked in inbox::parked_of(turn.db, account).await? {
        inbox::unpark(turn.db, parked.id).await?;
        let envelope = Opening {
            sender: parked.sender,
            kind: CiphertextType::try_from(parked.kind).unwrap_or(CiphertextType::Unspecified),
            ciphertext: &parked.ciphertext,
            ephemeral: false,
            parked: true,
        };
        guarded(turn, &envelope).await?;
    }
    Ok(())
}

/// The sender's record did not come or does not hold: gives up for good, or later.
pub(crate) async fn record_missing(
    turn: &mut Turn<'_>,
    account: AccountId,
    for_good: bool,
) -> Result<(), StoreError> {
    let tries = inbox::put_off_parked(turn.db, account, turn.now.plus_millis(60_000)).await?;
    if !for_good && tries < 60 {
        return Ok(());
    }
    for parked in inbox::parked_of(turn.db, account).await? {
        inbox::unpark(turn.db, parked.id).await?;
        let hash: [u8; 32] = Sha256::digest(&parked.ciphertext).into();
        let reason = "the sender could not be verified";
        inbox::quarantine(turn.db, parked.sender, hash, reason, turn.now).await?;
    }
    Ok(())
}

/// A decrypted content: checks, then its kind.
async fn take(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    account: &Account,
    content: Content,
    ephemeral: bool,
) -> Result<Outcome, StoreError> {
    if ephemeral && !content.kind.is_ephemeral() {
        // An ephemeral envelope may be lost, so nothing that matters travels in one. A relay that
        // marks a stored one as ephemeral would have it acknowledged unseen.
        return Ok(Outcome::Quarantined(
            "an ephemeral envelope with lasting content",
        ));
    }
    if !ephemeral && inbox::was_seen(turn.db, sender.account, content.id.as_bytes()).await? {
        return Ok(Outcome::Duplicate);
    }
    if !directory::sender_names_list(turn, sender, content.sender_list).await? {
        return Ok(Outcome::Quarantined(
            "the device is not on the sender's list any more",
        ));
    }
    if let Some(named) = content.recipient_list {
        directory::sender_used_list(turn, sender.account, named).await?;
    }
    let content_id = content.id;
    let outcome = if sender.account == turn.own_account() {
        sync::own_device(turn, sender, content).await?
    } else if content.conversation.is_none() {
        retry::track(turn, sender, &content).await?;
        account_level(turn, sender, account, &content).await?
    } else {
        in_conversation(turn, sender, content, turn.now).await?
    };
    // What was given up may come again and find a better time.
    if !ephemeral && outcome == Outcome::Committed {
        inbox::see(turn.db, sender.account, content_id.as_bytes(), turn.now).await?;
    }
    Ok(outcome)
}

async fn account_level(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    account: &Account,
    content: &Content,
) -> Result<Outcome, StoreError> {
    match &content.kind {
        Kind::Hello(hello) => {
            match introductions::hello_arrived(turn, sender.account, hello).await? {
                Ok(()) => {}
                Err(reason) => return Ok(Outcome::Quarantined(reason)),
            }
        }
        Kind::Profile(profile) => {
            introductions::profile_arrived(turn, sender.account, profile).await?;
        }
        Kind::Introduction(introduction) => {
            introductions::introduction_arrived(turn, sender.account, introduction).await?;
        }
        Kind::Retry(request) if account.relation != Relation::Blocked => {
            retry::asked(turn, sender, request).await?;
        }
        Kind::Null(null) if null.session_reset => {
            retry::session_was_reset(turn, sender).await?;
        }
        Kind::Transcript(_) | Kind::Sync(_) => {
            return Ok(Outcome::Quarantined("only own devices may send this"));
        }
        // Unknown kinds at account level ask nothing of us.
        _ => {}
    }
    Ok(Outcome::Committed)
}

/// A content of a conversation: membership first.
pub(crate) async fn in_conversation(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    content: Content,
    received_at: Timestamp,
) -> Result<Outcome, StoreError> {
    let Some(conversation) = content.conversation else {
        return Ok(Outcome::Quarantined("it belongs to a conversation"));
    };
    if let Kind::Conversation(update) = &content.kind {
        retry::track(turn, sender, &content).await?;
        return match membership::update_arrived(turn, sender, conversation, update).await? {
            Ok(()) => Ok(Outcome::Committed),
            Err(reason) => Ok(Outcome::Quarantined(reason)),
        };
    }
    match membership::standing(turn, conversation, sender, &content.heads).await? {
        Standing::Member => {
            retry::track(turn, sender, &content).await?;
            dispatch(turn, sender, conversation, &content).await
        }
        Standing::NotMember => Ok(Outcome::Quarantined(
            "the sender is not a member of the conversation",
        )),
        Standing::Unknown(missing) => {
            if content.kind.is_ephemeral() {
                return Ok(Outcome::Committed);
            }
            if inbox::deferred_count(turn.db, sender.account).await? >= MAX_DEFERRED_PER_ACCOUNT {
                return Ok(Outcome::Quarantined(
                    "too many contents without their conversation",
                ));
            }
            inbox::defer(
                turn.db,
                conversation.as_bytes(),
                sender,
                &encoded(&content)?,
                received_at,
            )
            .await?;
            membership::ask_for(turn, conversation, sender, &missing).await?;
            Ok(Outcome::Committed)
        }
    }
}

/// Operations arrived: looks again at what waited for them.
pub(crate) async fn undefer(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<(), StoreError> {
    for deferred in inbox::deferred_of(turn.db, conversation.as_bytes()).await? {
        let content = Content::decode_unpadded(&deferred.content)
            .map_err(|_| StoreError::Damaged("a deferred content"))?;
        match membership::standing(turn, conversation, deferred.sender, &content.heads).await? {
            Standing::Unknown(_) => {}
            Standing::NotMember => {
                inbox::undefer(turn.db, deferred.id).await?;
                let hash: [u8; 32] = Sha256::digest(&deferred.content).into();
                let reason = "the sender is not a member of the conversation";
                inbox::quarantine(turn.db, deferred.sender, hash, reason, turn.now).await?;
            }
            Standing::Member => {
                inbox::undefer(turn.db, deferred.id).await?;
                retry::track(turn, deferred.sender, &content).await?;
                dispatch(turn, deferred.sender, conversation, &content).await?;
            }
        }
    }
    Ok(())
}

/// Gives up contents whose operations never came.
pub(crate) async fn expire_deferred(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let before = turn.now.minus_millis(24 * 3_600_000);
    for deferred in inbox::deferred_before(turn.db, before).await? {
        inbox::undefer(turn.db, deferred.id).await?;
        let hash: [u8; 32] = Sha256::digest(&deferred.content).into();
        let reason = "its conversation never came";
        inbox::quarantine(turn.db, deferred.sender, hash, reason, turn.now).await?;
        let account = deferred.sender.account;
        Notice::about_once_a_day(turn, NoticeKind::Quarantined, account, reason).await?;
    }
    Ok(())
}

/// How a content is filed; "" for those that are not messages of their own.
pub(crate) fn message_kind(content: &Content) -> &'static str {
    match &content.kind {
        Kind::Text(_) => "text",
        Kind::AiAnswer(_) => "answer",
        Kind::AiAlert(_) => "alert",
        Kind::Attachment(_) => "attachment",
        Kind::EscrowNotice(_) => "escrow-notice",
        Kind::Unknown(_) => "newer",
        _ => "",
    }
}

/// A content as the store keeps it.
pub(crate) fn encoded(content: &Content) -> Result<Vec<u8>, StoreError> {
    content
        .encode_unpadded()
        .map_err(|_| StoreError::Damaged("a content"))
}

/// A content of a member, in order of acceptance.
pub(crate) async fn dispatch(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    conversation: ConversationId,
    content: &Content,
) -> Result<Outcome, StoreError> {
    match &content.kind {
        Kind::Receipts(receipts) => {
            receipts_arrived(turn, sender.account, receipts).await?;
        }
        Kind::Typing(typing) => turn.notify(Notification::Typing {
            conversation,
            account: sender.account,
            typing: *typing,
        }),
        Kind::AiPartial(partial) => turn.notify(Notification::Partial(Partial {
            conversation,
            sender: sender.account,
            partial: partial.clone(),
        })),
        Kind::Reaction(reaction) => {
            let emoji = (!reaction.remove).then_some(reaction.emoji.as_str());
            let target = reaction.target.as_bytes();
            let id = conversation.as_bytes();
            messages::react(turn.db, id, target, sender.account, emoji, turn.now).await?;
            changed(turn, conversation, target).await?;
        }
        Kind::Edit(edit) => {
            let target = edit.target.as_bytes();
            if let Some(local_id) = own_message(turn, conversation, sender.account, target).await? {
                messages::set_edit(turn.db, local_id, &encoded(content)?).await?;
                turn.notify(Notification::MessageChanged { local_id });
            }
        }
        Kind::Delete(delete) => {
            let target = delete.target.as_bytes();
            if let Some(local_id) = own_message(turn, conversation, sender.account, target).await? {
                messages::set_deleted(turn.db, local_id).await?;
                turn.notify(Notification::MessageChanged { local_id });
            }
        }
        _ if !message_kind(content).is_empty() => {
            store_message(turn, sender, conversation, content).await?;
        }
        // Kinds that belong elsewhere.
        _ => {
            return Ok(Outcome::Quarantined(
                "this does not belong in a conversation",
            ));
        }
    }
    Ok(Outcome::Committed)
}

/// The message that `author` may edit or delete: their own.
async fn own_message(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    author: AccountId,
    target: &[u8],
) -> Result<Option<u64>, StoreError> {
    Ok(
        messages::by_content(turn.db, conversation.as_bytes(), target)
            .await?
            .filter(|message| message.sender.account == author)
            .map(|message| message.local_id),
    )
}

async fn changed(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    target: &[u8],
) -> Result<(), StoreError> {
    if let Some(message) = messages::by_content(turn.db, conversation.as_bytes(), target).await? {
        turn.notify(Notification::MessageChanged {
            local_id: message.local_id,
        });
    }
    Ok(())
}

async fn store_message(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    conversation: ConversationId,
    content: &Content,
) -> Result<(), StoreError> {
    let content_id = content.id;
    let own = sender.account == turn.own_account();
    let kind = message_kind(content);
    // Disappearing is counted from reading; own messages from sending.
    let disappears_at = (own && content.expires_after_s > 0).then(|| {
        turn.now
            .plus_millis(u64::from(content.expires_after_s) * 1000)
    });
    let stored = messages::insert(
        turn.db,
        &messages::New {
            conversation: conversation.as_bytes(),
            content_id: content_id.as_bytes(),
            sender,
            own,
            content: &encoded(content)?,
            kind,
            sent_at: content.sent_at,
            disappears_at,
        },
        turn.now,
    )
    .await?;
    let Some(local_id) = stored else {
        return Ok(());
    };
    turn.notify(Notification::Message {
        local_id,
        conversation,
    });
    if own {
        return Ok(());
    }
    if turn.identity.jobs && kind == "text" {
        misc::add_job(turn.db, local_id, conversation.as_bytes(), turn.now).await?;
        turn.notify(Notification::Job);
    }
    receipt(
        turn,
        conversation,
        sender.account,
        &[content_id],
        ReceiptKind::Delivered,
    )
    .await
}

/// Queues an encrypted receipt to the author, if it is someone we talk to.
pub(crate) async fn receipt(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    author: AccountId,
    ids: &[ContentId],
    kind: ReceiptKind,
) -> Result<(), StoreError> {
    // Somebody who is still a request learns nothing of us.
    let accepted = accounts::load(turn.db, author)
        .await?
        .is_some_and(|account| account.relation == Relation::Accepted);
    let open = crate::store::conversations::load(turn.db, conversation.as_bytes())
        .await?
        .is_some_and(|stored| stored.state == crate::store::conversations::ConversationState::Open);
    if ids.is_empty() || !open || !(accepted || kind == ReceiptKind::Delivered) {
        return Ok(());
    }
    let receipts = Kind::Receipts(Receipts {
        kind,
        contents: ids.to_vec(),
    });
    let id = send::new_content_id();
    match send::conversation_content(turn, conversation, id, receipts, false).await? {
        Some(content) => outbox::queue(turn, &content, &[author], false).await,
        None => Ok(()),
    }
}

/// Somebody has our messages, or read them. Their own word about our messages to them.
async fn receipts_arrived(
    turn: &mut Turn<'_>,
    from: AccountId,
    receipts: &Receipts,
) -> Result<(), StoreError> {
    let state = match receipts.kind {
        ReceiptKind::Delivered => DeliveryState::Delivered,
        ReceiptKind::Read | ReceiptKind::Acknowledged => DeliveryState::Read,
        ReceiptKind::Unspecified => return Ok(()),
    };
    for content_id in receipts.contents.iter().copied() {
        let known = outbox_table::deliveries(turn.db, content_id.as_bytes())
            .await?
            .iter()
            .any(|(account, _, _)| *account == from);
        if known {
            outbox_table::set_delivery(
                turn.db,
                content_id.as_bytes(),
                from,
                state.slug(),
                turn.now,
            )
            .await?;
            turn.notify(Notification::Delivery { content_id });
        }
    }
    Ok(())
}
