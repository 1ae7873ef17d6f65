//! What was lost: numbering, requests to send again, and answers to them.
//!
//! A request goes out in a fresh session to the identity on the verified list, and seldom. An
//! answer goes only to a device that the content was first encrypted for and whose account may
//! still have it, under the same content id.

use wardline_wire::ids::{AccountId, DeviceAddress};

use crate::api::{ContentId, ConversationId};
use crate::content::{Content, Kind, Null, RetryRequest, SequenceRange};
use crate::gap::{Observation, SequenceTracker};
use crate::notice::{Notice, NoticeKind};
use crate::outbox;
use crate::send;
use crate::session;
use crate::store::accounts::{self, Relation};
use crate::store::{StoreError, conversations, inbox, outbox as outbox_table};
use crate::turn::Turn;

const HOUR_MS: u64 = 3_600_000;
/// Requests that one device of theirs gets from us, and answers it gets to its own, an hour.
const REQUESTS_PER_HOUR: u64 = 6;
const ANSWERS_PER_HOUR: u64 = 12;
/// A gap this old is no mere overtaking.
const GAP_SETTLES_MS: u64 = 4_000;
/// After this a gap that was asked for is called lost.
const GAP_GIVEN_UP_MS: u64 = HOUR_MS;
/// Most contents sent again for one request.
const MAX_CONTENTS: usize = 64;

/// Something did not decrypt: asks its sender to send it again, in a fresh session.
pub(crate) async fn ask_for_ciphertext(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    ciphertext_sha256: [u8; 32],
) -> Result<(), StoreError> {
    if !may_ask(turn, sender).await? {
        return Ok(());
    }
    session::archive(turn, sender).await?;
    let request = RetryRequest {
        ciphertexts: vec![ciphertext_sha256],
        sequences: Vec::new(),
    };
    send::to_account(turn, sender.account, Kind::Retry(request), false).await
}

async fn may_ask(turn: &mut Turn<'_>, sender: DeviceAddress) -> Result<bool, StoreError> {
    let talking = accounts::load(turn.db, sender.account)
        .await?
        .is_some_and(|account| account.relation != Relation::Blocked && account.halted.is_none());
    if !talking {
        return Ok(false);
    }
    let key = throttle_key(sender);
    inbox::throttle(
        turn.db,
        "retry-ask",
        &key,
        REQUESTS_PER_HOUR,
        HOUR_MS,
        turn.now,
    )
    .await
}

fn throttle_key(address: DeviceAddress) -> Vec<u8> {
    let mut key = address.account.to_vec();
    key.push(address.device.get());
    key
}

/// Somebody could not read what we sent.
pub(crate) async fn asked(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    request: &RetryRequest,
) -> Result<(), StoreError> {
    let key = throttle_key(sender);
    let limit = ANSWERS_PER_HOUR;
    if !inbox::throttle(turn.db, "retry-answer", &key, limit, HOUR_MS, turn.now).await? {
        return Ok(());
    }
    let mut wanted: Vec<[u8; 16]> = Vec::new();
    for hash in request.ciphertexts.iter().take(MAX_CONTENTS) {
        if let Some(id) = outbox_table::content_of_ciphertext(turn.db, sender, hash).await? {
            wanted.push(id);
        }
    }
    for range in request.sequences.iter().take(MAX_CONTENTS) {
        let last = range.last.min(range.first.saturating_add(1023));
        let found = outbox_table::contents_in_range(
            turn.db,
            sender,
            range
                .conversation
                .as_ref()
                .map_or(&[][..], |conversation| conversation.as_bytes()),
            range.first,
            last,
        )
        .await?;
        wanted.extend(found);
    }
    wanted.sort_unstable();
    wanted.dedup();
    for id in wanted.iter().take(MAX_CONTENTS) {
        if may_have(turn, sender, id).await? {
            outbox::queue_again(turn, ContentId::from(*id), sender).await?;
        }
    }
    turn.effects.outbox_changed = true;
    Ok(())
}

/// Whether a device may be sent a content again: it was addressed first, and its account is still
/// in the conversation.
async fn may_have(
    turn: &mut Turn<'_>,
    device: DeviceAddress,
    content_id: &[u8; 16],
) -> Result<bool, StoreError> {
    if !outbox_table::was_addressed(turn.db, content_id, device).await? {
        return Ok(false);
    }
    let Some(sent) = outbox_table::sent(turn.db, content_id).await? else {
        return Ok(false);
    };
    match ConversationId::from_slice(&sent.conversation) {
        Ok(conversation) => Ok(outbox::members(turn, conversation)
            .await?
            .contains(&device.account)),
        Err(_) => Ok(true),
    }
}

/// The other side has thrown its session away and started this one: answers in it, once in a
/// while, so that it is no longer one-sided.
pub(crate) async fn session_was_reset(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
) -> Result<(), StoreError> {
    let key = throttle_key(sender);
    if !inbox::throttle(turn.db, "session-reset", &key, 2, HOUR_MS, turn.now).await? {
        return Ok(());
    }
    let null = Null {
        session_reset: false,
    };
    send::to_account(turn, sender.account, Kind::Null(null), false).await
}

/// Takes a content's number into account.
pub(crate) async fn track(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    content: &Content,
) -> Result<(), StoreError> {
    if content.sequence == 0 {
        return Ok(());
    }
    let numbering = content
        .conversation
        .as_ref()
        .map_or(&[][..], |conversation| conversation.as_bytes());
    let mut tracker = match conversations::sequence_state(turn.db, numbering, sender).await? {
        Some(state) => {
            SequenceTracker::decode(&state).map_err(|_| StoreError::Damaged("a sequence state"))?
        }
        None => SequenceTracker::new(),
    };
    let observation = tracker.observe(content.sequence);
    let more = matches!(observation, Observation::GapOpened { .. });
    conversations::save_sequence_state(
        turn.db,
        numbering,
        sender,
        &tracker.encode(),
        tracker.missing_count() > 0,
        more,
        turn.now,
    )
    .await
}

/// Asks for what is missing, and says so; later says what stayed missing.
pub(crate) async fn look_for_gaps(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let settled = turn.now.minus_millis(GAP_SETTLES_MS);
    for gap in conversations::gaps(turn.db, false, settled).await? {
        conversations::mark_gap(turn.db, &gap, false, turn.now).await?;
        let Some(missing) = ranges(&gap) else {
            continue;
        };
        if may_ask(turn, gap.sender).await? {
            let request = RetryRequest {
                ciphertexts: Vec::new(),
                sequences: missing,
            };
            send::to_account(turn, gap.sender.account, Kind::Retry(request), false).await?;
        }
        tell(turn, NoticeKind::Gap, gap.sender.account, &gap.conversation).await?;
    }
    let given_up = turn.now.minus_millis(GAP_GIVEN_UP_MS);
    for gap in conversations::gaps(turn.db, true, given_up).await? {
        conversations::mark_gap(turn.db, &gap, true, turn.now).await?;
        tell(
            turn,
            NoticeKind::GapStays,
            gap.sender.account,
            &gap.conversation,
        )
        .await?;
    }
    Ok(())
}

async fn tell(
    turn: &mut Turn<'_>,
    kind: NoticeKind,
    account: AccountId,
    conversation: &[u8],
) -> Result<(), StoreError> {
    let conversation = ConversationId::from_slice(conversation).ok();
    Notice::add(turn, kind, Some(account), conversation, "").await
}

fn ranges(gap: &conversations::Gap) -> Option<Vec<SequenceRange>> {
    let tracker = SequenceTracker::decode(&gap.state).ok()?;
    let ranges: Vec<_> = tracker
        .missing()
        .take(MAX_CONTENTS)
        .map(|range| SequenceRange {
            conversation: ConversationId::from_slice(&gap.conversation).ok(),
            first: *range.start(),
            last: (*range.end()).min(range.start().saturating_add(1023)),
        })
        .collect();
    (!ranges.is_empty()).then_some(ranges)
}
