//! Conversations, their membership logs as stored, and their members as the log says.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress};

use super::{StoreError, account_of, millis, signed, time_of, u64_of, unsigned};

/// How a conversation stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationState {
    /// Somebody who is not a contact opened it; nothing is sent until it is accepted.
    Request,
    /// Open.
    Open,
    /// We left or were removed.
    Left,
}

impl ConversationState {
    const fn text(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Open => "open",
            Self::Left => "left",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        [Self::Request, Self::Open, Self::Left]
            .into_iter()
            .find(|state| state.text() == text)
            .ok_or(StoreError::Damaged("a conversation's state"))
    }
}

/// A conversation as stored.
pub(crate) struct Conversation {
    pub(crate) id: Vec<u8>,
    pub(crate) direct: bool,
    pub(crate) title: String,
    pub(crate) title_salt: Option<Vec<u8>>,
    pub(crate) state: ConversationState,
    pub(crate) created_at: Timestamp,
    pub(crate) last_local_id: u64,
    pub(crate) timer_seconds: u64,
    pub(crate) ai_on: bool,
}

fn read(row: &SqliteRow) -> Result<Conversation, StoreError> {
    let kind: &str = row.try_get("kind")?;
    Ok(Conversation {
        id: row.try_get("conversation")?,
        direct: kind == "direct",
        title: row.try_get("title")?,
        title_salt: row.try_get("title_salt")?,
        state: ConversationState::read(row.try_get("state")?)?,
        created_at: time_of(row, "created_at")?,
        last_local_id: u64_of(row, "last_local_id")?,
        timer_seconds: u64_of(row, "timer_seconds")?,
        ai_on: row.try_get("ai_on")?,
    })
}

pub(crate) async fn load(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<Option<Conversation>, StoreError> {
    sqlx::query("SELECT * FROM conversations WHERE conversation = ?")
        .bind(conversation)
        .fetch_optional(db)
        .await?
        .map(|row| read(&row))
        .transpose()
}

pub(crate) async fn all(db: &mut SqliteConnection) -> Result<Vec<Conversation>, StoreError> {
    sqlx::query("SELECT * FROM conversations ORDER BY last_local_id DESC, created_at DESC")
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Inserts a conversation, or updates everything but its counters.
pub(crate) async fn save(
    db: &mut SqliteConnection,
    conversation: &Conversation,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO conversations (conversation, kind, title, title_salt, state, created_at,
            timer_seconds, ai_on) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET kind = excluded.kind, title = excluded.title,
            title_salt = excluded.title_salt, state = excluded.state,
            timer_seconds = excluded.timer_seconds, ai_on = excluded.ai_on",
    )
    .bind(&conversation.id)
    .bind(if conversation.direct {
        "direct"
    } else {
        "group"
    })
    .bind(&conversation.title)
    .bind(&conversation.title_salt)
    .bind(conversation.state.text())
    .bind(millis(conversation.created_at))
    .bind(signed(conversation.timer_seconds))
    .bind(conversation.ai_on)
    .execute(db)
    .await?;
    Ok(())
}

/// Gives out the next sequence number of this device in a conversation.
pub(crate) async fn next_sequence(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<u64, StoreError> {
    let next: i64 = sqlx::query_scalar(
        "UPDATE conversations SET next_sequence = next_sequence + 1 WHERE conversation = ?
         RETURNING next_sequence - 1",
    )
    .bind(conversation)
    .fetch_one(db)
    .await?;
    Ok(unsigned(next))
}

/// Everything up to a message was read here.
pub(crate) async fn set_read(
    db: &mut SqliteConnection,
    conversation: &[u8],
    local_id: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE conversations SET read_local_id = max(read_local_id, ?) WHERE conversation = ?",
    )
    .bind(signed(local_id))
    .bind(conversation)
    .execute(db)
    .await?;
    Ok(())
}

/// A member as the log says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) account: AccountId,
    pub(crate) owner: bool,
}

pub(crate) async fn members(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<Vec<Member>, StoreError> {
    sqlx::query("SELECT account, owner FROM members WHERE conversation = ? ORDER BY account")
        .bind(conversation)
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            Ok(Member {
                account: account_of(row, "account")?,
                owner: row.try_get("owner")?,
            })
        })
        .collect()
}

pub(crate) async fn set_members(
    db: &mut SqliteConnection,
    conversation: &[u8],
    members: &[Member],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM members WHERE conversation = ?")
        .bind(conversation)
        .execute(&mut *db)
        .await?;
    for member in members {
        sqlx::query("INSERT INTO members (conversation, account, owner) VALUES (?, ?, ?)")
            .bind(conversation)
            .bind(member.account.to_vec())
            .bind(member.owner)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Open conversations that an account is in.
pub(crate) async fn shared_with(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT m.conversation FROM members m JOIN conversations c USING (conversation)
         WHERE m.account = ? AND c.state <> 'left' ORDER BY m.conversation",
    )
    .bind(account.to_vec())
    .fetch_all(db)
    .await?)
}

/// Appends an operation to the stored log.
pub(crate) async fn add_operation(
    db: &mut SqliteConnection,
    conversation: &[u8],
    hash: &[u8; 32],
    operation: &[u8],
    current: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO operations (hash, conversation, operation, current, received_at)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(hash.as_slice())
    .bind(conversation)
    .bind(operation)
    .bind(current)
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM waiting_operations WHERE hash = ?")
        .bind(hash.as_slice())
        .execute(db)
        .await?;
    Ok(())
}

/// The stored operations, in the order in which they were appended, each with whether its device
/// was on its list then.
pub(crate) async fn operations(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<Vec<(Vec<u8>, bool)>, StoreError> {
    sqlx::query(
        "SELECT operation, current FROM operations WHERE conversation = ? ORDER BY position",
    )
    .bind(conversation)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((row.try_get("operation")?, row.try_get("current")?)))
    .collect()
}

/// Keeps an operation that cannot be taken in yet, unless `limit` of its conversation wait.
pub(crate) async fn add_waiting(
    db: &mut SqliteConnection,
    conversation: &[u8],
    hash: &[u8; 32],
    operation: &[u8],
    limit: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO waiting_operations (hash, conversation, operation, received_at)
         SELECT ?1, ?2, ?3, ?4
         WHERE (SELECT count(*) FROM waiting_operations WHERE conversation = ?2) < ?5",
    )
    .bind(hash.as_slice())
    .bind(conversation)
    .bind(operation)
    .bind(millis(now))
    .bind(signed(limit))
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the waiting operations of a conversation out.
pub(crate) async fn take_waiting(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "DELETE FROM waiting_operations WHERE conversation = ? RETURNING operation",
    )
    .bind(conversation)
    .fetch_all(db)
    .await?)
}

/// Conversations with waiting operations.
pub(crate) async fn waiting_conversations(
    db: &mut SqliteConnection,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT DISTINCT conversation FROM waiting_operations LIMIT 50")
            .fetch_all(db)
            .await?,
    )
}

/// A device list that an operation leans on.
pub(crate) struct Evidence {
    pub(crate) account: AccountId,
    pub(crate) account_key: [u8; 32],
    pub(crate) device_list: Vec<u8>,
}

pub(crate) async fn add_evidence(
    db: &mut SqliteConnection,
    evidence: &Evidence,
    list_hash: &[u8; 32],
    list_version: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO evidence (account, list_hash, list_version, account_key, device_list)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(evidence.account.to_vec())
    .bind(list_hash.as_slice())
    .bind(signed(list_version))
    .bind(evidence.account_key.as_slice())
    .bind(&evidence.device_list)
    .execute(db)
    .await?;
    Ok(())
}

/// All evidence. A few hundred bytes a device list.
pub(crate) async fn all_evidence(db: &mut SqliteConnection) -> Result<Vec<Evidence>, StoreError> {
    sqlx::query("SELECT * FROM evidence ORDER BY account, list_version")
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            Ok(Evidence {
                account: account_of(row, "account")?,
                account_key: super::array_of(row, "account_key")?,
                device_list: row.try_get("device_list")?,
            })
        })
        .collect()
}

/// The gap tracker's state of one numbering.
pub(crate) async fn sequence_state(
    db: &mut SqliteConnection,
    conversation: &[u8],
    sender: DeviceAddress,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT state FROM sequences WHERE conversation = ? AND account = ? AND device = ?",
    )
    .bind(conversation)
    .bind(sender.account.to_vec())
    .bind(i64::from(sender.device.get()))
    .fetch_optional(db)
    .await?)
}

/// Saves the gap tracker's state. `missing`: something is missing; `more`: something new is.
pub(crate) async fn save_sequence_state(
    db: &mut SqliteConnection,
    conversation: &[u8],
    sender: DeviceAddress,
    state: &[u8],
    missing: bool,
    more: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sequences (conversation, account, device, state, missing_since)
         VALUES (?1, ?2, ?3, ?4, CASE WHEN ?5 THEN ?7 END)
         ON CONFLICT DO UPDATE SET state = excluded.state,
            missing_since = CASE WHEN ?6 THEN ?7 WHEN ?5 THEN coalesce(missing_since, ?7) END,
            asked_at = CASE WHEN ?6 OR NOT ?5 THEN NULL ELSE asked_at END,
            told = CASE WHEN ?5 AND NOT ?6 THEN told ELSE 0 END",
    )
    .bind(conversation)
    .bind(sender.account.to_vec())
    .bind(i64::from(sender.device.get()))
    .bind(state)
    .bind(missing)
    .bind(more)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

/// A numbering with something missing.
pub(crate) struct Gap {
    pub(crate) conversation: Vec<u8>,
    pub(crate) sender: DeviceAddress,
    pub(crate) state: Vec<u8>,
}

/// Gaps since before `before` that were not asked for yet, or (`asked`) that were asked for and
/// not told of.
pub(crate) async fn gaps(
    db: &mut SqliteConnection,
    asked: bool,
    before: Timestamp,
) -> Result<Vec<Gap>, StoreError> {
    let sql = if asked {
        "SELECT * FROM sequences WHERE missing_since < ? AND asked_at IS NOT NULL AND told = 0 LIMIT 20"
    } else {
        "SELECT * FROM sequences WHERE missing_since < ? AND asked_at IS NULL LIMIT 20"
    };
    sqlx::query(sql)
        .bind(millis(before))
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            Ok(Gap {
                conversation: row.try_get("conversation")?,
                sender: DeviceAddress {
                    account: account_of(row, "account")?,
                    device: super::device_of(row, "device")?,
                },
                state: row.try_get("state")?,
            })
        })
        .collect()
}

/// Remembers that a gap was asked for, or told of.
pub(crate) async fn mark_gap(
    db: &mut SqliteConnection,
    gap: &Gap,
    told: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sequences SET asked_at = coalesce(asked_at, ?), told = ?
         WHERE conversation = ? AND account = ? AND device = ?",
    )
    .bind(millis(now))
    .bind(told)
    .bind(&gap.conversation)
    .bind(gap.sender.account.to_vec())
    .bind(i64::from(gap.sender.device.get()))
    .execute(db)
    .await?;
    Ok(())
}
