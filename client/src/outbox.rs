//! On the way out: content → ciphertexts for every listed device → accepted by the relay.
//!
//! A row a recipient account. It is first to be encrypted (perhaps waiting for the account's
//! record, prekeys, an introduction or a person's decision), then ready: the ciphertexts and the
//! send id are committed, and exactly these bytes go out, again and again if need be, until the
//! relay answers. The relay knows a repeat by the send id.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use wardline_wire::directory::{ListedDevice, VerifiedDeviceList};
use wardline_wire::ids::{AccountId, DeviceAddress, SendId};
use wardline_wire::limits::MAX_FRAME_BYTES;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::client_frame::Frame;
use wardline_wire::proto::recipient_result::Result as Answer;
use wardline_wire::proto::{
    BundleSet, ClientFrame, DeviceCiphertext, ErrorCode, RecipientResult, Send, SendRecipient,
    SendResult,
};

use crate::api::{ContentId, ConversationId};
use crate::content::{Content, Kind, ListRef, Null};
use crate::directory;
use crate::notice::{Notice, NoticeKind, Notification};
use crate::random;
use crate::relay::RelayError;
use crate::session::{self, BundleFault};
use crate::store::accounts::{self, Account, Relation};
use crate::store::outbox::{self as table, Row};
use crate::store::{StoreError, conversations, sessions};
use crate::turn::{Call, Turn};

/// Recipients that share a send id: few enough that their frame stays small.
const RECIPIENTS_PER_SEND: usize = 32;
/// How long to wait for somebody else's doing before looking again.
const PATIENCE_MS: u64 = 10 * 60_000;
/// After this many disputes with the relay a person is told.
const DISPUTES_BEFORE_NOTICE: u64 = 4;

/// Where an own message stands with one recipient account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryState {
    /// On this device, on its way.
    Sending,
    /// The relay says it has stored it for every device.
    Accepted,
    /// A device of theirs stored it: an encrypted receipt says so.
    Delivered,
    /// They had it on screen.
    Read,
    /// Waits until the clinic or an introduction makes the account reachable.
    WaitingForIntroduction,
    /// Waits for the account's record or prekeys.
    WaitingForKeys,
    /// Waits until you decide about their new key.
    WaitingForDecision,
    /// Their mailbox is full; it is tried again.
    Full,
    /// The relay slows us down; it is tried again.
    Limited,
    /// They are revoked, or take nothing from us.
    Blocked,
    /// Given up.
    Failed,
}

impl DeliveryState {
    /// A short name, as stored and for scripts.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::WaitingForIntroduction => "waiting-for-introduction",
            Self::WaitingForKeys => "waiting-for-keys",
            Self::WaitingForDecision => "waiting-for-decision",
            Self::Full => "full",
            Self::Limited => "limited",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn from_slug(slug: &str) -> Option<Self> {
        [
            Self::Sending,
            Self::Accepted,
            Self::Delivered,
            Self::Read,
            Self::WaitingForIntroduction,
            Self::WaitingForKeys,
            Self::WaitingForDecision,
            Self::Full,
            Self::Limited,
            Self::Blocked,
            Self::Failed,
        ]
        .into_iter()
        .find(|state| state.slug() == slug)
    }

    /// Whether nothing more is expected to happen by itself.
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Accepted | Self::Delivered | Self::Read | Self::Blocked | Self::Failed
        )
    }
}

/// Queues a content for accounts, and encrypts it for those that can be reached at once.
pub(crate) async fn queue(
    turn: &mut Turn<'_>,
    content: &Content,
    recipients: &[AccountId],
    shown: bool,
) -> Result<(), StoreError> {
    let id = content.id;
    table::insert_sent(
        turn.db,
        id.as_bytes(),
        content
            .conversation
            .as_ref()
            .map_or(&[][..], |conversation| conversation.as_bytes()),
        content.sequence,
        &crate::receive::encoded(content)?,
        shown,
        turn.now,
    )
    .await?;
    let mut send_id = SendId::from(random::bytes());
    for (count, account) in recipients.iter().enumerate() {
        if count > 0 && count % RECIPIENTS_PER_SEND == 0 {
            send_id = SendId::from(random::bytes());
        }
        table::enqueue(turn.db, id.as_bytes(), *account, 0).await?;
        if shown && *account != turn.own_account() {
            set_state(turn, id, *account, DeliveryState::Sending).await?;
        }
        advance(turn, *account, Some(send_id)).await?;
    }
    turn.effects.outbox_changed = true;
    Ok(())
}

/// Queues a content again for one device that could not read it.
pub(crate) async fn queue_again(
    turn: &mut Turn<'_>,
    id: ContentId,
    address: DeviceAddress,
) -> Result<(), StoreError> {
    let device = u32::from(address.device);
    table::enqueue(turn.db, id.as_bytes(), address.account, device).await?;
    advance(turn, address.account, None).await
}

async fn set_state(
    turn: &mut Turn<'_>,
    content_id: ContentId,
    account: AccountId,
    state: DeliveryState,
) -> Result<(), StoreError> {
    table::set_delivery(
        turn.db,
        content_id.as_bytes(),
        account,
        state.slug(),
        turn.now,
    )
    .await?;
    turn.notify(Notification::Delivery { content_id });
    Ok(())
}

/// What stands between an account and its ciphertexts.
enum Obstacle {
    /// Its record is not known or not current enough.
    Record,
    /// These devices have no session.
    Sessions(Vec<u32>),
    /// A patient without the account's access key.
    Introduction,
    /// A person has to decide about a changed key, or an alarm stopped everything.
    Decision,
    /// We blocked them, or they are revoked.
    Never,
}

/// Encrypts what waits for an account, oldest first, as far as it goes.
pub(crate) async fn advance(
    turn: &mut Turn<'_>,
    account: AccountId,
    send_id: Option<SendId>,
) -> Result<(), StoreError> {
    let rows = table::unready_of(turn.db, account).await?;
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let (stored, list) = match reachable(turn, account).await? {
        Ok(found) => found,
        Err(obstacle) => return meet(turn, account, &rows, &obstacle).await,
    };
    // A fresh row shares its send id with the other recipients of its content; rows that waited
    // are on their own.
    let shared = send_id.filter(|_| rows.len() == 1);
    let _ = first;
    for row in &rows {
        encrypt_row(turn, row, &stored, &list, shared).await?;
    }
    turn.effects.outbox_changed = true;
    Ok(())
}

/// The account with its list, if everything can be encrypted for it now.
async fn reachable(
    turn: &mut Turn<'_>,
    account: AccountId,
) -> Result<Result<(Account, VerifiedDeviceList), Obstacle>, StoreError> {
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Ok(Err(Obstacle::Record));
    };
    if stored.relation == Relation::Blocked
        || stored.halted.as_deref() == Some(NoticeKind::AccountRevoked.slug())
    {
        return Ok(Err(Obstacle::Never));
    }
    if stored.halted.is_some() {
        return Ok(Err(Obstacle::Decision));
    }
    let list = directory::list_of(turn, &stored)?;
    let mut without = Vec::new();
    for device in recipients_of(turn, account, &list) {
        if !session::is_usable(turn, account, &device).await? {
            without.push(u32::from(device.id));
        }
    }
    if without.is_empty() {
        return Ok(Ok((stored, list)));
    }
    if sessions::devices(turn.db, account).await?.is_empty()
        && !directory::may_begin(turn, &stored).await?
    {
        return Ok(Err(Obstacle::Record));
    }
    if list.is_expired(turn.now) {
        // New sessions are for devices that the account stands by today.
        return Ok(Err(Obstacle::Record));
    }
    let patient = turn.identity.own.role == wardline_wire::proto::Role::Patient;
    if patient && stored.access_key.is_none() && account != turn.own_account() {
        return Ok(Err(Obstacle::Introduction));
    }
    Ok(Err(Obstacle::Sessions(without)))
}

/// Devices that get a ciphertext: all on the list, but for this one.
fn recipients_of(
    turn: &Turn<'_>,
    account: AccountId,
    list: &VerifiedDeviceList,
) -> Vec<ListedDevice> {
    let own = turn.identity.own.address;
    list.devices()
        .iter()
        .filter(|device| account != own.account || device.id != own.device)
        .cloned()
        .collect()
}

async fn meet(
    turn: &mut Turn<'_>,
    account: AccountId,
    rows: &[Row],
    obstacle: &Obstacle,
) -> Result<(), StoreError> {
    let soon = turn.now.plus_millis(60_000);
    let later = turn.now.plus_millis(PATIENCE_MS);
    let (state, until) = match obstacle {
        Obstacle::Record => {
            // Asked for a moment ago, and still not good enough: not asked for again at once.
            let fresh = accounts::load(turn.db, account)
                .await?
                .is_some_and(|stored| turn.now.millis_since(stored.fetched_at) < 60_000);
            if !fresh {
                turn.call(Call::Account(account));
            }
            (DeliveryState::WaitingForKeys, soon)
        }
        Obstacle::Sessions(devices) => {
            let access_key = accounts::load(turn.db, account)
                .await?
                .and_then(|stored| stored.access_key);
            let access_key = if account == turn.own_account() {
                Some(turn.identity.own.access_key)
            } else {
                access_key
            };
            turn.call(Call::Bundles {
                account,
                devices: devices.clone(),
                access_key,
            });
            (DeliveryState::WaitingForKeys, soon)
        }
        Obstacle::Introduction => (DeliveryState::WaitingForIntroduction, later),
        Obstacle::Decision => (DeliveryState::WaitingForDecision, later),
        Obstacle::Never => {
            for row in rows {
                give_up(turn, row, DeliveryState::Blocked).await?;
            }
            return Ok(());
        }
    };
    wait(turn, account, rows, state, until).await
}

async fn wait(
    turn: &mut Turn<'_>,
    account: AccountId,
    rows: &[Row],
    state: DeliveryState,
    until: wardline_wire::clock::Timestamp,
) -> Result<(), StoreError> {
    table::account_waits(turn.db, account, Some(state.slug()), until).await?;
    for row in rows {
        if row.waiting.as_deref() != Some(state.slug()) {
            show_state(turn, row, state).await?;
        }
    }
    Ok(())
}

/// Sets the delivery state of a row whose content a person sees.
async fn show_state(
    turn: &mut Turn<'_>,
    row: &Row,
    state: DeliveryState,
) -> Result<(), StoreError> {
    let shown = table::sent(turn.db, &row.content_id)
        .await?
        .is_some_and(|sent| sent.shown);
    if shown && row.account != turn.own_account() {
        set_state(turn, ContentId::from(row.content_id), row.account, state).await?;
    }
    Ok(())
}

async fn give_up(turn: &mut Turn<'_>, row: &Row, state: DeliveryState) -> Result<(), StoreError> {
    show_state(turn, row, state).await?;
    table::delete(turn.db, row.id).await
}

/// Encrypts one row for every device of the account.
async fn encrypt_row(
    turn: &mut Turn<'_>,
    row: &Row,
    account: &Account,
    list: &VerifiedDeviceList,
    send_id: Option<SendId>,
) -> Result<(), StoreError> {
    let Some(sent) = table::sent(turn.db, &row.content_id).await? else {
        return table::delete(turn.db, row.id).await;
    };
    let mut content = Content::decode_unpadded(&sent.content)
        .map_err(|_| StoreError::Damaged("an own content"))?;
    let devices = recipients_of(turn, account.account, list);
    if devices.is_empty() {
        return table::delete(turn.db, row.id).await;
    }
    if let Some(own) = own_list(turn).await? {
        content.sender_list = own;
    }
    content.recipient_list = Some(ListRef::from(list));
    let Ok(plaintext) = content.encode() else {
        return give_up(turn, row, DeliveryState::Failed).await;
    };
    let filler = if row.device == 0 {
        None
    } else {
        Content {
            id: ContentId::from(random::bytes()),
            conversation: None,
            sequence: 0,
            heads: Vec::new(),
            expires_after_s: 0,
            escrow: None,
            kind: Kind::Null(Null {
                session_reset: false,
            }),
            ..content.clone()
        }
        .encode()
        .ok()
    };
    let mut ciphertexts = Vec::with_capacity(devices.len());
    for device in &devices {
        let wanted = row.device == 0 || row.device == u32::from(device.id);
        let bytes = match &filler {
            Some(filler) if !wanted => filler,
            _ => &plaintext,
        };
        let Some(ciphertext) = session::encrypt(turn, account.account, device, bytes).await? else {
            // It was usable a moment ago: the session is exhausted or damaged. A fresh one helps.
            let address = DeviceAddress {
                account: account.account,
                device: device.id,
            };
            session::archive(turn, address).await?;
            turn.call(Call::Account(account.account));
            return Ok(());
        };
        if wanted {
            let address = DeviceAddress {
                account: account.account,
                device: device.id,
            };
            let hash = Sha256::digest(&ciphertext.ciphertext).into();
            table::mark_addressed(turn.db, &row.content_id, address, hash).await?;
        }
        ciphertexts.push(ciphertext);
    }
    let recipient = SendRecipient {
        account_id: account.account.to_vec(),
        ciphertexts,
    };
    let send_id = send_id.unwrap_or_else(|| SendId::from(random::bytes()));
    table::make_ready(turn.db, row.id, send_id, &recipient.encode_to_vec()).await?;
    if row.waiting.is_some() {
        show_state(turn, row, DeliveryState::Sending).await?;
    }
    Ok(())
}

/// The own device list as contents name it.
pub(crate) async fn own_list(turn: &mut Turn<'_>) -> Result<Option<ListRef>, StoreError> {
    let own = turn.own_account();
    let Some(stored) = accounts::load(turn.db, own).await? else {
        return Ok(None);
    };
    Ok(Some(ListRef::from(&directory::list_of(turn, &stored)?)))
}

/// Encrypts for those members who can be reached at once, for open sockets only. Nothing is kept.
pub(crate) async fn ephemeral(
    turn: &mut Turn<'_>,
    content: &Content,
    recipients: &[AccountId],
) -> Result<(), StoreError> {
    let mut content = content.clone();
    let mut send = Send {
        send_id: random::bytes::<16>().to_vec(),
        ephemeral: true,
        recipients: Vec::new(),
    };
    for account in recipients {
        if *account == turn.own_account() {
            continue;
        }
        let Ok((_, list)) = reachable(turn, *account).await? else {
            continue;
        };
        content.recipient_list = Some(ListRef::from(&list));
        let Ok(plaintext) = content.encode() else {
            return Ok(());
        };
        let mut ciphertexts: Vec<DeviceCiphertext> = Vec::new();
        for device in recipients_of(turn, *account, &list) {
            if let Some(ciphertext) = session::encrypt(turn, *account, &device, &plaintext).await? {
                ciphertexts.push(ciphertext);
            }
        }
        send.recipients.push(SendRecipient {
            account_id: account.to_vec(),
            ciphertexts,
        });
    }
    if !send.recipients.is_empty() {
        turn.effects.frames.push(ClientFrame {
            frame: Some(Frame::Send(send)),
        });
    }
    Ok(())
}

/// The frame of a send that is due, from its stored bytes.
pub(crate) async fn frame_of(
    db: &mut sqlx::sqlite::SqliteConnection,
    send_id: SendId,
) -> Result<Option<ClientFrame>, StoreError> {
    let mut send = Send {
        send_id: send_id.to_vec(),
        ephemeral: false,
        recipients: Vec::new(),
    };
    let mut size = 0;
    for row in table::rows_of_send(db, send_id).await? {
        let Some(bytes) = row.ciphertexts else {
            continue;
        };
        size += bytes.len();
        // What does not fit any more goes out when the rest was answered.
        if size > MAX_FRAME_BYTES / 2 && !send.recipients.is_empty() {
            break;
        }
        let recipient = SendRecipient::decode(bytes.as_slice())
            .map_err(|_| StoreError::Damaged("a stored ciphertext"))?;
        send.recipients.push(recipient);
    }
    Ok((!send.recipients.is_empty()).then_some(ClientFrame {
        frame: Some(Frame::Send(send)),
    }))
}

/// The relay answered a send.
pub(crate) async fn answered(turn: &mut Turn<'_>, result: &SendResult) -> Result<(), StoreError> {
    let Ok(send_id) = SendId::from_slice(&result.send_id) else {
        return Ok(());
    };
    let rows = table::rows_of_send(turn.db, send_id).await?;
    for answer in &result.results {
        let row = rows
            .iter()
            .find(|row| answer.account_id == row.account.as_bytes());
        if let Some(row) = row {
            settle(turn, row, answer).await?;
        }
    }
    turn.effects.outbox_changed = true;
    Ok(())
}

fn backoff_ms(attempts: u64) -> u64 {
    let doubled = 1_000u64.saturating_mul(1 << attempts.min(12));
    doubled.min(3_600_000) + random::below(1_000)
}

async fn settle(
    turn: &mut Turn<'_>,
    row: &Row,
    answer: &RecipientResult,
) -> Result<(), StoreError> {
    let again = turn.now.plus_millis(backoff_ms(row.attempts));
    match &answer.result {
        Some(Answer::Accepted(_)) => {
            show_state(turn, row, DeliveryState::Accepted).await?;
            table::delete(turn.db, row.id).await
        }
        Some(Answer::Mismatch(mismatch)) => {
            // What the relay claims only says where to look: the verified list decides.
            for device in mismatch.stale.iter().chain(&mismatch.extra) {
                if let Ok(device) = wardline_wire::ids::DeviceId::new(*device) {
                    let address = DeviceAddress {
                        account: row.account,
                        device,
                    };
                    if row.attempts >= 1 || mismatch.extra.contains(&u32::from(device)) {
                        session::archive(turn, address).await?;
                    }
                }
            }
            table::make_unready(turn.db, row.id, again).await?;
            if row.attempts + 1 == DISPUTES_BEFORE_NOTICE {
                Notice::about_once_a_day(turn, NoticeKind::MismatchDisputed, row.account, "")
                    .await?;
            }
            if row.attempts == 0 {
                turn.call(Call::Account(row.account));
            }
            Ok(())
        }
        Some(Answer::Full(_)) => {
            Notice::about_once_a_day(turn, NoticeKind::MailboxFull, row.account, "").await?;
            show_state(turn, row, DeliveryState::Full).await?;
            let until = turn.now.plus_millis(PATIENCE_MS);
            table::put_off(turn.db, row.id, until, Some(DeliveryState::Full.slug())).await
        }
        Some(Answer::Limited(limited)) => {
            show_state(turn, row, DeliveryState::Limited).await?;
            let wait = u64::from(limited.retry_after_ms).clamp(200, 3_600_000);
            let until = turn.now.plus_millis(wait + random::below(wait / 4 + 1));
            table::put_off(turn.db, row.id, until, Some(DeliveryState::Limited.slug())).await
        }
        Some(Answer::Blocked(_)) => {
            Notice::about_once_a_day(turn, NoticeKind::SendBlocked, row.account, "").await?;
            // Revoked, perhaps: the directory will say so.
            turn.call(Call::Account(row.account));
            give_up(turn, row, DeliveryState::Blocked).await
        }
        Some(Answer::Conflict(_)) => {
            // These bytes cannot go out under this id any more (a restored profile, or a lying
            // relay): encrypt again under another.
            table::make_unready(turn.db, row.id, again).await
        }
        None => table::put_off(turn.db, row.id, again, None).await,
    }
}

/// The relay refused a whole send frame.
pub(crate) async fn refused(
    turn: &mut Turn<'_>,
    send_id: SendId,
    code: ErrorCode,
    retry_after_ms: u32,
) -> Result<(), StoreError> {
    for row in table::rows_of_send(turn.db, send_id).await? {
        match code {
            ErrorCode::Limited | ErrorCode::Unavailable | ErrorCode::ShuttingDown => {
                let wait = u64::from(retry_after_ms).max(backoff_ms(row.attempts));
                let until = turn.now.plus_millis(wait);
                table::put_off(turn.db, row.id, until, None).await?;
            }
            _ => {
                Notice::about_once_a_day(
                    turn,
                    NoticeKind::SendFailed,
                    row.account,
                    code.as_str_name(),
                )
                .await?;
                give_up(turn, &row, DeliveryState::Failed).await?;
            }
        }
    }
    Ok(())
}

/// The relay handed out bundles.
pub(crate) async fn bundles_arrived(
    turn: &mut Turn<'_>,
    account: AccountId,
    set: &BundleSet,
) -> Result<(), StoreError> {
    let Some(stored) = accounts::load(turn.db, account).await? else {
        return Ok(());
    };
    let list = directory::list_of(turn, &stored)?;
    let mut fault = None;
    for bundle in &set.bundles {
        let listed = wardline_wire::ids::DeviceId::new(bundle.device_id)
            .ok()
            .and_then(|id| list.device(id));
        // A bundle for a device that is not on the list is nobody's.
        let Some(device) = listed else { continue };
        if session::is_usable(turn, account, device).await? {
            continue;
        }
        if let Err(reason) = session::initiate(turn, account, device, bundle).await? {
            fault = Some(reason);
        }
    }
    match fault {
        Some(fault) => {
            if fault == BundleFault::OtherIdentity {
                // An honest relay may know a newer list than we do.
                turn.call(Call::Account(account));
            }
            Notice::about_once_a_day(turn, NoticeKind::BundleRefused, account, &fault.to_string())
                .await?;
            postpone(turn, account, DeliveryState::WaitingForKeys, PATIENCE_MS).await
        }
        None => match reachable(turn, account).await? {
            Ok(_) => advance(turn, account, None).await,
            // A listed device has uploaded nothing yet, or the relay keeps its bundle back.
            Err(_) => postpone(turn, account, DeliveryState::WaitingForKeys, 15_000).await,
        },
    }
}

/// The relay did not hand out bundles.
pub(crate) async fn bundles_refused(
    turn: &mut Turn<'_>,
    account: AccountId,
    error: &RelayError,
) -> Result<(), StoreError> {
    match error {
        RelayError::Refused {
            kind: ProblemKind::Forbidden,
            ..
        } => {
            postpone(
                turn,
                account,
                DeliveryState::WaitingForIntroduction,
                PATIENCE_MS,
            )
            .await
        }
        RelayError::Refused {
            kind: ProblemKind::Limited,
            retry_after_ms,
            ..
        } => {
            let wait = retry_after_ms.unwrap_or(60_000).clamp(1_000, 3_600_000);
            postpone(turn, account, DeliveryState::WaitingForKeys, wait).await
        }
        error if error.is_temporary() => {
            postpone(turn, account, DeliveryState::WaitingForKeys, 15_000).await
        }
        _ => postpone(turn, account, DeliveryState::WaitingForKeys, PATIENCE_MS).await,
    }
}

/// The account's record did not come or does not hold.
pub(crate) async fn postpone(
    turn: &mut Turn<'_>,
    account: AccountId,
    state: DeliveryState,
    wait_ms: u64,
) -> Result<(), StoreError> {
    let rows = table::unready_of(turn.db, account).await?;
    let until = turn.now.plus_millis(wait_ms);
    wait(turn, account, &rows, state, until).await
}

/// Stops what is still to be encrypted for somebody who left.
pub(crate) async fn member_gone(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    account: AccountId,
) -> Result<(), StoreError> {
    table::drop_queued(turn.db, conversation.as_bytes(), account).await
}

/// Looks again at every account whose rows are due.
pub(crate) async fn look_again(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    for account in table::unready_accounts(turn.db, turn.now).await? {
        advance(turn, account, None).await?;
    }
    turn.effects.outbox_changed = true;
    Ok(())
}

/// Members of a conversation, ourselves included.
pub(crate) async fn members(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
) -> Result<Vec<AccountId>, StoreError> {
    Ok(conversations::members(turn.db, conversation.as_bytes())
        .await?
        .into_iter()
        .map(|member| member.account)
        .collect())
}
