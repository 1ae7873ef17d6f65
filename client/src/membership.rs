//! Conversations on this device: the membership log in the store, and what follows from it.
//!
//! The rules are [`crate::conversation`]'s, a pure function of the operations held. Here operations
//! are stored, sent, asked for and shown, and the tables that the rest of the client reads
//! (members, title, timer) are kept as the log says.

use std::collections::HashMap;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use wardline_wire::ids::{AccountId, DeviceAddress, PayloadHash};
use wardline_wire::proto::{CertificateChain, SignedBlob};

use crate::api::{ClientError, ConversationChange, ConversationId};
use crate::content::{AccountEvidence, ConversationTitle, ConversationUpdate, Kind, ListRef};
use crate::conversation::{
    Author, ListEvidence, Lists, Log, Membership, MembershipRole, NewMember, OperationKind,
    Position, Standing as DeviceStanding, UnverifiedOperation, VerifiedOperation, export, split,
};
use crate::directory;
use crate::introductions;
use crate::notice::{Notice, NoticeKind, Notification};
use crate::outbox;
use crate::random;
use crate::receive;
use crate::send;
use crate::store::accounts::{self, Relation};
use crate::store::conversations::{
    self as table, Conversation, ConversationState, Evidence, Member,
};
use crate::store::{StoreError, inbox, messages};
use crate::turn::{Call, Turn};

/// How changes to a conversation are filed among its messages.
pub(crate) const CHANGE: &str = "change";
/// Operations of one conversation that may wait.
const MAX_WAITING: u64 = 256;
/// Conversations that somebody who is not a contact may open with us.
const MAX_REQUESTS: usize = 16;
const MINUTE_MS: u64 = 60_000;

/// Logs and lists in memory, as stored.
#[derive(Default)]
pub(crate) struct Logs {
    lists: Option<Lists>,
    logs: HashMap<ConversationId, Log>,
}

impl Logs {
    /// Forgets everything: the store is read again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Where the author of a content stands.
pub(crate) enum Standing {
    /// A member, then and now.
    Member,
    /// Not one, or not any more.
    NotMember,
    /// These operations are needed to tell.
    Unknown(Vec<PayloadHash>),
}

/// Lists that operations lean on, loaded once.
async fn lists<'t>(turn: &'t mut Turn<'_>) -> Result<&'t mut Lists, StoreError> {
    if turn.logs.lists.is_none() {
        let mut lists = Lists::new();
        let deployment = turn.identity.own.deployment;
        for evidence in table::all_evidence(turn.db).await? {
            let blob = SignedBlob::decode(evidence.device_list.as_slice())
                .map_err(|_| StoreError::Damaged("a device list"))?;
            let key = &evidence.account_key;
            if let Ok(list) = ListEvidence::verify(blob, evidence.account, key, deployment) {
                lists.add(list);
            }
        }
        turn.logs.lists = Some(lists);
    }
    turn.logs
        .lists
        .as_mut()
        .ok_or(StoreError::Damaged("device lists"))
}

/// Takes a verified list in, in memory and in the store.
async fn add_list(turn: &mut Turn<'_>, evidence: ListEvidence) -> Result<(), StoreError> {
    let (account, list) = (evidence.list().account(), ListRef::from(evidence.list()));
    if lists(turn).await?.find(account, list).is_some() {
        return Ok(());
    }
    let row = Evidence {
        account,
        account_key: evidence.account_key(),
        device_list: evidence.blob().encode_to_vec(),
    };
    table::add_evidence(turn.db, &row, list.hash.as_bytes(), list.version).await?;
    lists(turn).await?.add(evidence);
    Ok(())
}

/// Takes the list in that the directory knows of an account.
async fn add_known_list(turn: &mut Turn<'_>, account: AccountId) -> Result<(), StoreError> {
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Ok(());
    };
    let deployment = turn.identity.own.deployment;
    let key = &stored.account_key;
    if let Ok(evidence) = ListEvidence::verify(stored.device_list, account, key, deployment) {
        add_list(turn, evidence).await?;
    }
    Ok(())
}

/// The log of a conversation, from memory or from the store.
async fn load(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<Option<Log>, StoreError> {
    if let Some(log) = turn.logs.logs.get(&conversation) {
        return Ok(Some(log.clone()));
    }
    let damaged = StoreError::Damaged("a membership log");
    let deployment = turn.identity.own.deployment;
    let mut log: Option<Log> = None;
    for (bytes, current) in table::operations(turn.db, conversation.as_bytes()).await? {
        let blob = SignedBlob::decode(bytes.as_slice())
            .map_err(|_| StoreError::Damaged("a membership log"))?;
        let unverified =
            UnverifiedOperation::read(blob).map_err(|_| StoreError::Damaged("a membership log"))?;
        let (account, list) = (
            unverified.claims().author.account,
            unverified.claims().author_list,
        );
        let evidence = lists(turn).await?.find(account, list).cloned();
        let Some(evidence) = evidence else {
            return Err(damaged);
        };
        let operation = unverified
            .verify(deployment, &evidence)
            .map_err(|_| StoreError::Damaged("a membership log"))?;
        match &mut log {
            None => {
                log = Some(
                    Log::begin(operation).map_err(|_| StoreError::Damaged("a membership log"))?,
                );
            }
            Some(log) => {
                let standing = if current {
                    DeviceStanding::Current
                } else {
                    DeviceStanding::Removed
                };
                log.insert(operation, standing);
            }
        }
    }
    if let Some(log) = &log {
        turn.logs.logs.insert(conversation, log.clone());
    }
    Ok(log)
}

/// Heads of the log, as contents name them.
pub(crate) async fn heads(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<Vec<PayloadHash>, StoreError> {
    Ok(load(turn, conversation)
        .await?
        .map(|log| log.heads())
        .unwrap_or_default())
}

/// Judges the author of a content by the heads that it names.
pub(crate) async fn standing(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    sender: DeviceAddress,
    heads: &[PayloadHash],
) -> Result<Standing, StoreError> {
    let Some(log) = load(turn, conversation).await? else {
        return Ok(Standing::Unknown(vec![conversation.into()]));
    };
    let Some(stored) = accounts::load(turn.db, sender.account).await? else {
        return Ok(Standing::NotMember);
    };
    Ok(
        match log.judge_message(sender.account, &stored.account_key, heads) {
            Position::Member => Standing::Member,
            // Written before its author knew of the removal, perhaps; nobody acts on it.
            Position::RemovedSince | Position::NotAMember | Position::OtherKey => {
                Standing::NotMember
            }
            Position::MissingOperations(missing) => Standing::Unknown(missing),
        },
    )
}

/// Asks a member for operations, not more than once in a while for the same.
pub(crate) async fn ask_for(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    of: DeviceAddress,
    missing: &[PayloadHash],
) -> Result<(), StoreError> {
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let key = [first.as_bytes().as_slice(), of.account.as_bytes()].concat();
    if !inbox::throttle(turn.db, "operations-ask", &key, 2, MINUTE_MS, turn.now).await? {
        return Ok(());
    }
    let update = ConversationUpdate {
        operations: Vec::new(),
        evidence: Vec::new(),
        title: None,
        missing: missing.iter().take(256).copied().collect(),
    };
    send_update(turn, conversation, update, &[of.account]).await
}

async fn send_update(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    update: ConversationUpdate,
    recipients: &[AccountId],
) -> Result<(), StoreError> {
    let id = send::new_content_id();
    let kind = Kind::Conversation(update);
    if let Some(content) = send::conversation_content(turn, conversation, id, kind, false).await? {
        outbox::queue(turn, &content, recipients, false).await?;
    }
    Ok(())
}

/// Operations (or a request for some) from a member.
pub(crate) async fn update_arrived(
    turn: &mut Turn<'_>,
    sender: DeviceAddress,
    conversation: ConversationId,
    update: &ConversationUpdate,
) -> Result<Result<(), &'static str>, StoreError> {
    let known = load(turn, conversation).await?;
    if known.is_none() && is_flooding(turn, sender.account).await? {
        return Ok(Err("too many conversations of somebody unknown"));
    }
    for evidence in &update.evidence {
        take_evidence(turn, evidence).await?;
    }
    if !update.operations.is_empty() {
        let taken = take(turn, Some(sender), conversation, update.operations.clone()).await?;
        if let Err(reason) = taken {
            return Ok(Err(reason));
        }
    }
    if let Some(title) = &update.title {
        take_title(turn, conversation, title).await?;
    }
    if !update.missing.is_empty() {
        answer(turn, conversation, sender, &update.missing).await?;
    }
    Ok(Ok(()))
}

/// Whether somebody who is not a contact opens one conversation after the other.
async fn is_flooding(turn: &mut Turn<'_>, account: AccountId) -> Result<bool, StoreError> {
    let stranger = accounts::load(turn.db, account)
        .await?
        .is_none_or(|stored| stored.relation == Relation::Request);
    Ok(stranger && table::shared_with(turn.db, account).await?.len() >= MAX_REQUESTS)
}

/// Lists that come with operations. They are signed with the key that they come with; whether
/// that is the member's key is for the log to say.
async fn take_evidence(turn: &mut Turn<'_>, evidence: &AccountEvidence) -> Result<(), StoreError> {
    let deployment = turn.identity.own.deployment;
    for blob in &evidence.device_lists {
        let list = ListEvidence::verify(
            blob.clone(),
            evidence.account,
            &evidence.account_key,
            deployment,
        );
        if let Ok(list) = list {
            add_list(turn, list).await?;
        }
    }
    Ok(())
}

/// Takes operations in, with those that waited.
async fn take(
    turn: &mut Turn<'_>,
    sender: Option<DeviceAddress>,
    conversation: ConversationId,
    mut operations: Vec<SignedBlob>,
) -> Result<Result<(), &'static str>, StoreError> {
    for bytes in table::take_waiting(turn.db, conversation.as_bytes()).await? {
        if let Ok(blob) = SignedBlob::decode(bytes.as_slice()) {
            operations.push(blob);
        }
    }
    let deployment = turn.identity.own.deployment;
    let mut verified = lists(turn)
        .await?
        .verify(operations, conversation, deployment);
    let before = load(turn, conversation).await?;
    let fresh = before.is_none();
    let mut begun = None;
    let mut log = if let Some(log) = before.clone() {
        log
    } else {
        let root = PayloadHash::from(conversation);
        let first = verified
            .operations
            .iter()
            .position(|(operation, _)| operation.hash() == root);
        let Some(first) = first else {
            // Without its beginning nothing can be said of it yet.
            let mut blobs = verified.waiting;
            blobs.extend(
                verified
                    .operations
                    .iter()
                    .map(|(operation, _)| operation.blob().clone()),
            );
            keep_waiting(turn, conversation, &blobs).await?;
            if let Some(sender) = sender {
                ask_for(turn, conversation, sender, &[root]).await?;
            }
            return Ok(Ok(()));
        };
        let (create, _) = verified.operations.remove(first);
        begun = Some(create.hash());
        match Log::begin(create) {
            Ok(log) => log,
            Err(_) => return Ok(Err("a conversation that begins wrongly")),
        }
    };
    let membership_before = before.as_ref().map(|log| log.membership().clone());
    let batch = log.insert_all(verified.operations);
    let own = turn.own_account();
    if fresh && !log.membership().contains(own) {
        return Ok(Err("a conversation that we are not in"));
    }
    let mut inserted: Vec<PayloadHash> = begun.into_iter().collect();
    inserted.extend(&batch.inserted);
    for hash in &inserted {
        store_operation(turn, &log, hash).await?;
    }
    let mut waiting = verified.waiting;
    waiting.extend(
        batch
            .waiting
            .iter()
            .map(|(operation, _)| operation.blob().clone()),
    );
    keep_waiting(turn, conversation, &waiting).await?;
    if let Some(sender) = sender {
        let mut missing = batch.missing.clone();
        // Lists travel with the operations that lean on them.
        missing.extend(waiting_for_lists(&verified.needed, &waiting));
        ask_for(turn, conversation, sender, &missing).await?;
        for (account, _) in &verified.needed {
            turn.call(Call::Account(*account));
        }
        for (_, refusal) in &batch.refused {
            Notice::add(
                turn,
                NoticeKind::OperationRefused,
                Some(sender.account),
                Some(conversation),
                &refusal.to_string(),
            )
            .await?;
        }
        for error in &verified.refused {
            Notice::add(
                turn,
                NoticeKind::OperationRefused,
                Some(sender.account),
                Some(conversation),
                &error.to_string(),
            )
            .await?;
        }
        for fork in &batch.forks {
            Notice::add(
                turn,
                NoticeKind::OperationRefused,
                Some(fork.device.account),
                Some(conversation),
                "a device signed two different changes with one number",
            )
            .await?;
        }
    }
    if !inserted.is_empty() {
        turn.logs.logs.insert(conversation, log.clone());
        changed(turn, &log, membership_before.as_ref(), &inserted).await?;
        receive::undefer(turn, conversation).await?;
    }
    Ok(Ok(()))
}

/// Which waiting operations lack a list.
fn waiting_for_lists(needed: &[(AccountId, ListRef)], waiting: &[SignedBlob]) -> Vec<PayloadHash> {
    use wardline_wire::signed::SignedBlobExt as _;
    if needed.is_empty() {
        return Vec::new();
    }
    waiting.iter().map(SignedBlob::payload_hash).collect()
}

async fn keep_waiting(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    blobs: &[SignedBlob],
) -> Result<(), StoreError> {
    use wardline_wire::signed::SignedBlobExt as _;
    for blob in blobs {
        table::add_waiting(
            turn.db,
            conversation.as_bytes(),
            blob.payload_hash().as_bytes(),
            &blob.encode_to_vec(),
            MAX_WAITING,
            turn.now,
        )
        .await?;
    }
    Ok(())
}

async fn store_operation(
    turn: &mut Turn<'_>,
    log: &Log,
    hash: &PayloadHash,
) -> Result<(), StoreError> {
    let found = log
        .operations()
        .find(|(operation, _)| operation.hash() == *hash)
        .map(|(operation, standing)| {
            (
                operation.blob().encode_to_vec(),
                standing == DeviceStanding::Current,
            )
        });
    if let Some((bytes, current)) = found {
        table::add_operation(
            turn.db,
            log.id().as_bytes(),
            hash.as_bytes(),
            &bytes,
            current,
            turn.now,
        )
        .await?;
    }
    Ok(())
}

/// A log grew: tables, lines for people, profiles and whole logs for newcomers.
async fn changed(
    turn: &mut Turn<'_>,
    log: &Log,
    before: Option<&Membership>,
    inserted: &[PayloadHash],
) -> Result<(), StoreError> {
    let own = turn.own_account();
    let conversation = log.id();
    let membership = log.membership();
    let members: Vec<Member> = membership
        .members()
        .map(|(account, _)| Member {
            account,
            owner: membership.is_owner(account),
        })
        .collect();
    let stored = table::load(turn.db, conversation.as_bytes()).await?;
    let state = next_state(turn, log, stored.as_ref()).await?;
    let title_kept = stored.as_ref().is_some_and(|stored| {
        title_of(stored).map(|title| title.hash()) == membership.title_hash()
    });
    let row = Conversation {
        id: conversation.to_vec(),
        direct: members.len() <= 2 && membership.title_hash().is_none() && begins_direct(log),
        title: stored
            .as_ref()
            .filter(|_| title_kept)
            .map(|stored| stored.title.clone())
            .unwrap_or_default(),
        title_salt: stored
            .as_ref()
            .filter(|_| title_kept)
            .and_then(|stored| stored.title_salt.clone()),
        state,
        created_at: stored.as_ref().map_or(turn.now, |stored| stored.created_at),
        last_local_id: 0,
        timer_seconds: u64::from(membership.timer_s()),
        ai_on: membership.ai_allowed(),
    };
    table::save(turn.db, &row).await?;
    table::set_members(turn.db, conversation.as_bytes(), &members).await?;
    if stored.is_none() && state == ConversationState::Request {
        let inviter = log
            .operations()
            .next()
            .map(|(create, _)| create.operation().author.account);
        if let Some(inviter) = inviter {
            Notice::add(
                turn,
                NoticeKind::ContactRequest,
                Some(inviter),
                Some(conversation),
                "",
            )
            .await?;
        }
    }
    for hash in inserted {
        show(turn, log, hash).await?;
    }
    let joined: Vec<AccountId> = members
        .iter()
        .map(|member| member.account)
        .filter(|account| before.is_none_or(|before| !before.contains(*account)))
        .collect();
    if let Some(before) = before {
        for (account, _) in before.members() {
            if !membership.contains(account) {
                outbox::member_gone(turn, conversation, account).await?;
            }
        }
    }
    if state == ConversationState::Open {
        for account in &joined {
            if *account != own && accounts::load(turn.db, *account).await?.is_none() {
                turn.call(Call::Account(*account));
            }
        }
        introductions::conversation_changed(turn, conversation, &joined).await?;
    }
    turn.notify(Notification::Conversation { conversation });
    Ok(())
}

/// Two people and no title from the start.
fn begins_direct(log: &Log) -> bool {
    log.operations().next().is_some_and(|(create, _)| {
        matches!(
            &create.operation().kind,
            OperationKind::Create { members, title_hash: None, .. } if members.len() == 2
        )
    })
}

/// Open if a contact (or one of our devices) brought us in, else a request.
async fn next_state(
    turn: &mut Turn<'_>,
    log: &Log,
    stored: Option<&Conversation>,
) -> Result<ConversationState, StoreError> {
    let own = turn.own_account();
    if !log.membership().contains(own) {
        return Ok(ConversationState::Left);
    }
    if let Some(stored) = stored
        && stored.state != ConversationState::Left
    {
        return Ok(stored.state);
    }
    let mut by = Vec::new();
    for (operation, _) in log.operations() {
        let fields = operation.operation();
        let brings_us = match &fields.kind {
            OperationKind::Create { members, .. } => {
                members.iter().any(|member| member.account == own)
            }
            OperationKind::Add(member) => member.account == own,
            _ => false,
        };
        if brings_us {
            by.push(fields.author.account);
        }
    }
    for account in by {
        let relation = accounts::load(turn.db, account)
            .await?
            .map(|stored| stored.relation);
        if account == own || matches!(relation, Some(Relation::Accepted | Relation::Own)) {
            return Ok(ConversationState::Open);
        }
    }
    Ok(ConversationState::Request)
}

/// A change as it is stored among the messages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StoredChange {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    account: Vec<u8>,
    #[prost(uint32, tag = "3")]
    seconds: u32,
}

/// Reads a stored change; `None` for one of a newer version.
pub(crate) fn read_change(bytes: &[u8]) -> Option<ConversationChange> {
    let stored = StoredChange::decode(bytes).ok()?;
    let account = || AccountId::from_slice(&stored.account).ok();
    Some(match stored.kind {
        1 => ConversationChange::Created,
        2 => ConversationChange::Added(account()?),
        3 => ConversationChange::Removed(account()?),
        4 => ConversationChange::Left,
        5 => ConversationChange::Promoted(account()?),
        6 => ConversationChange::Demoted(account()?),
        7 => ConversationChange::Title,
        8 => ConversationChange::Timer(stored.seconds),
        9 => ConversationChange::AiOff,
        10 => ConversationChange::AiOn,
        _ => return None,
    })
}

/// Files an operation among the messages, for people to see who changed what.
async fn show(turn: &mut Turn<'_>, log: &Log, hash: &PayloadHash) -> Result<(), StoreError> {
    let Some(operation) = log.operation(hash) else {
        return Ok(());
    };
    if let Some(reason) = log.void_reason(hash) {
        let author = operation.operation().author.account;
        return Notice::add(
            turn,
            NoticeKind::OperationRefused,
            Some(author),
            Some(log.id()),
            reason.sentence(),
        )
        .await;
    }
    let fields = operation.operation();
    let (kind, account, seconds) = match &fields.kind {
        OperationKind::Create { .. } => (1, None, 0),
        OperationKind::Add(member) => (2, Some(member.account), 0),
        OperationKind::Remove(account) => (3, Some(*account), 0),
        OperationKind::Leave => (4, None, 0),
        OperationKind::Promote(account) => (5, Some(*account), 0),
        OperationKind::Demote(account) => (6, Some(*account), 0),
        OperationKind::SetTitle(_) => (7, None, 0),
        OperationKind::SetTimer(seconds) => (8, None, *seconds),
        OperationKind::AiOff => (9, None, 0),
        OperationKind::AiOn => (10, None, 0),
        OperationKind::Unknown => (0, None, 0),
    };
    let stored = StoredChange {
        kind,
        account: account.map(|account| account.to_vec()).unwrap_or_default(),
        seconds,
    };
    let digest: [u8; 32] = Sha256::digest(hash.as_bytes()).into();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    let local_id = messages::insert(
        turn.db,
        &messages::New {
            conversation: log.id().as_bytes(),
            content_id: &id,
            sender: fields.author,
            own: fields.author.account == turn.own_account(),
            content: &stored.encode_to_vec(),
            kind: CHANGE,
            sent_at: fields.created_at,
            disappears_at: None,
        },
        turn.now,
    )
    .await?;
    if let Some(local_id) = local_id {
        turn.notify(Notification::Message {
            local_id,
            conversation: log.id(),
        });
    }
    Ok(())
}

fn title_of(stored: &Conversation) -> Option<ConversationTitle> {
    let salt = stored.title_salt.as_ref()?;
    Some(ConversationTitle {
        salt: salt.as_slice().try_into().ok()?,
        title: stored.title.clone(),
    })
}

/// A title in the clear counts if the log has its hash.
async fn take_title(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    title: &ConversationTitle,
) -> Result<(), StoreError> {
    let Some(log) = load(turn, conversation).await? else {
        return Ok(());
    };
    if log.membership().title_hash() != Some(title.hash()) {
        return Ok(());
    }
    if let Some(mut stored) = table::load(turn.db, conversation.as_bytes()).await? {
        stored.title.clone_from(&title.title);
        stored.title_salt = Some(title.salt.to_vec());
        table::save(turn.db, &stored).await?;
        turn.notify(Notification::Conversation { conversation });
    }
    Ok(())
}

/// Somebody asks for operations: a member (or one of our devices) gets the whole log.
async fn answer(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    asker: DeviceAddress,
    missing: &[PayloadHash],
) -> Result<(), StoreError> {
    let Some(log) = load(turn, conversation).await? else {
        return Ok(());
    };
    let held = missing.iter().any(|hash| log.holds(hash));
    if !held || !log.membership().contains(asker.account) {
        return Ok(());
    }
    let key = [conversation.as_bytes().as_slice(), asker.account.as_bytes()].concat();
    if !inbox::throttle(
        turn.db,
        "operations-answer",
        &key,
        6,
        10 * MINUTE_MS,
        turn.now,
    )
    .await?
    {
        return Ok(());
    }
    send_whole_log(turn, conversation, asker.account).await
}

/// The log with what it leans on, in pieces that fit a content.
async fn pieces(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<Vec<ConversationUpdate>, StoreError> {
    let Some(log) = load(turn, conversation).await? else {
        return Ok(Vec::new());
    };
    let mut certificates: HashMap<AccountId, CertificateChain> = HashMap::new();
    let leans: Vec<AccountId> = log.leans_on().iter().map(|lean| lean.account).collect();
    for account in leans {
        add_known_list(turn, account).await?;
        if let Some(stored) = accounts::load(turn.db, account).await? {
            certificates.insert(account, stored.certificate);
        }
    }
    let title = table::load(turn.db, conversation.as_bytes())
        .await?
        .as_ref()
        .and_then(title_of)
        .filter(|title| log.membership().title_hash() == Some(title.hash()));
    let (operations, evidence) = export(&log, lists(turn).await?, |account| {
        certificates.get(&account).cloned()
    });
    Ok(split(operations, evidence, title))
}

/// Sends an account the whole log of a conversation.
pub(crate) async fn send_whole_log(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    account: AccountId,
) -> Result<(), StoreError> {
    for piece in pieces(turn, conversation).await? {
        send_update(turn, conversation, piece, &[account]).await?;
    }
    Ok(())
}

/// Somebody became a contact: the conversations they opened with us open.
pub(crate) async fn requests_accepted(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    for id in table::shared_with(turn.db, account).await? {
        let Some(mut stored) = table::load(turn.db, &id).await? else {
            continue;
        };
        let Ok(conversation) = ConversationId::from_slice(&id) else {
            continue;
        };
        let accepted = accounts::load(turn.db, account)
            .await?
            .is_some_and(|stored| stored.relation == Relation::Accepted);
        if accepted && stored.state == ConversationState::Request {
            stored.state = ConversationState::Open;
            table::save(turn.db, &stored).await?;
            introductions::conversation_changed(turn, conversation, &[]).await?;
            turn.notify(Notification::Conversation { conversation });
        }
    }
    Ok(())
}

/// An account's list was learned: operations that leaned on it may go on.
pub(crate) async fn account_learned(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    add_known_list(turn, account).await?;
    for id in table::waiting_conversations(turn.db).await? {
        if let Ok(conversation) = ConversationId::from_slice(&id) {
            // What is still wrong with them was said when they came.
            let _ = take(turn, None, conversation, Vec::new()).await?;
        }
    }
    Ok(())
}

/// Signs as this device, on the list that we have.
async fn own_author_list(turn: &mut Turn<'_>) -> Result<(ListRef, [u8; 32]), ClientError> {
    let own = turn.own_account();
    let stored = accounts::load(turn.db, own)
        .await?
        .ok_or(ClientError::NotCertified)?;
    let list = directory::list_of(turn, &stored)?;
    add_known_list(turn, own).await?;
    Ok((ListRef::from(&list), stored.account_key))
}

fn new_title(title: &str) -> Result<ConversationTitle, ClientError> {
    if title.is_empty() || title.len() > 256 || title.contains(char::is_control) {
        return Err(ClientError::Invalid(
            "a title has 1 to 256 bytes on one line",
        ));
    }
    Ok(ConversationTitle {
        salt: random::bytes(),
        title: title.to_owned(),
    })
}

/// A known account as a member to be.
async fn new_member(turn: &mut Turn<'_>, account: AccountId) -> Result<NewMember, ClientError> {
    let stored = accounts::load(turn.db, account)
        .await?
        .ok_or(ClientError::UnknownContact)?;
    Ok(NewMember {
        account,
        account_key: stored.account_key,
        role: MembershipRole::Member,
    })
}

/// Begins a conversation.
pub(crate) async fn create(
    turn: &mut Turn<'_>,
    title: Option<String>,
    members: &[AccountId],
) -> Result<ConversationId, ClientError> {
    send::check_own(turn)?;
    let own = turn.own_account();
    let mut fellows = Vec::new();
    for account in members {
        if *account == own
            || fellows
                .iter()
                .any(|known: &NewMember| known.account == *account)
        {
            continue;
        }
        fellows.push(new_member(turn, *account).await?);
    }
    let title = title.as_deref().map(new_title).transpose()?;
    let (list, account_key) = own_author_list(turn).await?;
    let identity = turn.identity.clone();
    let author = Author {
        deployment: identity.own.deployment,
        address: identity.own.address,
        account_key,
        list,
        device_key: &identity.own.device_key,
    };
    let title_hash = title.as_ref().map(ConversationTitle::hash);
    let create = author
        .create(random::bytes(), title_hash, &fellows, turn.now)
        .map_err(|error| ClientError::NotAllowed(error.to_string()))?;
    let hash = create.hash();
    let log = Log::begin(create).map_err(|error| ClientError::NotAllowed(error.to_string()))?;
    let conversation = log.id();
    turn.logs.logs.insert(conversation, log.clone());
    store_operation(turn, &log, &hash).await?;
    if let Some(title) = &title {
        // The row that `changed` completes.
        let row = Conversation {
            id: conversation.to_vec(),
            direct: false,
            title: title.title.clone(),
            title_salt: Some(title.salt.to_vec()),
            state: ConversationState::Open,
            created_at: turn.now,
            last_local_id: 0,
            timer_seconds: 0,
            ai_on: true,
        };
        table::save(turn.db, &row).await?;
    }
    // The log reaches everybody before profiles and messages do.
    let others: Vec<AccountId> = fellows.iter().map(|member| member.account).collect();
    let row_needed = table::load(turn.db, conversation.as_bytes())
        .await?
        .is_none();
    if row_needed {
        let row = Conversation {
            id: conversation.to_vec(),
            direct: true,
            title: String::new(),
            title_salt: None,
            state: ConversationState::Open,
            created_at: turn.now,
            last_local_id: 0,
            timer_seconds: 0,
            ai_on: true,
        };
        table::save(turn.db, &row).await?;
    }
    for piece in pieces(turn, conversation).await? {
        fan_out(turn, conversation, piece, &others).await?;
    }
    changed(turn, &log, None, &[hash]).await?;
    Ok(conversation)
}

/// Sends an update to accounts and to our other devices.
async fn fan_out(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    update: ConversationUpdate,
    recipients: &[AccountId],
) -> Result<(), StoreError> {
    let id = send::new_content_id();
    let kind = Kind::Conversation(update);
    if let Some(content) = send::conversation_content(turn, conversation, id, kind, false).await? {
        outbox::queue(turn, &content, recipients, false).await?;
        send::transcript(turn, &content, recipients).await?;
    }
    Ok(())
}

/// What a person wants changed.
pub(crate) enum Wish {
    Add(AccountId),
    Remove(AccountId),
    Leave,
    Promote(AccountId),
    Demote(AccountId),
    Title(Option<String>),
    Timer(u32),
    Ai(bool),
}

/// Signs an operation, takes it in, and tells everybody.
pub(crate) async fn operate(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    wish: Wish,
) -> Result<(), ClientError> {
    send::check_conversation(turn, conversation).await?;
    let mut log = load(turn, conversation)
        .await?
        .ok_or(ClientError::UnknownConversation)?;
    let mut title = None;
    let kind = match wish {
        Wish::Add(account) => OperationKind::Add(new_member(turn, account).await?),
        Wish::Remove(account) => OperationKind::Remove(account),
        Wish::Leave => OperationKind::Leave,
        Wish::Promote(account) => OperationKind::Promote(account),
        Wish::Demote(account) => OperationKind::Demote(account),
        Wish::Title(text) => {
            title = text.as_deref().map(new_title).transpose()?;
            OperationKind::SetTitle(title.as_ref().map(ConversationTitle::hash))
        }
        Wish::Timer(seconds) => OperationKind::SetTimer(seconds),
        Wish::Ai(true) => OperationKind::AiOn,
        Wish::Ai(false) => OperationKind::AiOff,
    };
    let (list, account_key) = own_author_list(turn).await?;
    let identity = turn.identity.clone();
    let author = Author {
        deployment: identity.own.deployment,
        address: identity.own.address,
        account_key,
        list,
        device_key: &identity.own.device_key,
    };
    let before = log.membership().clone();
    let operation = log
        .author(&author, kind, turn.now)
        .map_err(|error| ClientError::NotAllowed(error.to_string()))?;
    let hash = operation.hash();
    log.insert(operation.clone(), DeviceStanding::Current);
    if !log.holds(&hash) {
        return Err(ClientError::NotAllowed(
            "the conversation has had too many changes".to_owned(),
        ));
    }
    turn.logs.logs.insert(conversation, log.clone());
    store_operation(turn, &log, &hash).await?;
    let update = update_of(turn, &operation, title.clone()).await?;
    let own = turn.own_account();
    let was_in: Vec<AccountId> = before
        .members()
        .map(|(account, _)| account)
        .filter(|account| *account != own)
        .collect();
    let joined: Vec<AccountId> = log
        .membership()
        .members()
        .map(|(account, _)| account)
        .filter(|account| !before.contains(*account))
        .collect();
    fan_out(turn, conversation, update, &was_in).await?;
    for account in &joined {
        send_whole_log(turn, conversation, *account).await?;
    }
    changed(turn, &log, Some(&before), &[hash]).await?;
    if let Some(title) = &title {
        take_title(turn, conversation, title).await?;
    }
    Ok(())
}

/// One operation with what is needed to check it.
async fn update_of(
    turn: &mut Turn<'_>,
    operation: &VerifiedOperation,
    title: Option<ConversationTitle>,
) -> Result<ConversationUpdate, StoreError> {
    let mut accounts_needed = vec![operation.operation().author.account];
    if let OperationKind::Add(member) = &operation.operation().kind {
        accounts_needed.push(member.account);
    }
    let mut evidence = Vec::new();
    for account in accounts_needed {
        if let Some(stored) = accounts::load(turn.db, account).await? {
            evidence.push(AccountEvidence {
                account,
                account_key: stored.account_key,
                certificate: Some(stored.certificate),
                device_lists: vec![stored.device_list],
            });
        }
    }
    Ok(ConversationUpdate {
        operations: vec![operation.blob().clone()],
        evidence,
        title,
        missing: Vec::new(),
    })
}

/// A direct conversation with somebody that is open already.
pub(crate) async fn direct_with(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<Option<ConversationId>, StoreError> {
    for id in table::shared_with(turn.db, account).await? {
        if let Some(stored) = table::load(turn.db, &id).await?
            && stored.direct
            && stored.state == ConversationState::Open
            && table::members(turn.db, &id).await?.len() == 2
        {
            return Ok(ConversationId::from_slice(&id).ok());
        }
    }
    Ok(None)
}
