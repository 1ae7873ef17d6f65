//! What people see: messages in stored order, edits, deletions, reactions.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress};

use super::{
    StoreError, account_of, array_of, device_of, millis, signed, time_of, u64_of, unsigned,
};

/// A message as stored.
pub(crate) struct Row {
    pub(crate) local_id: u64,
    pub(crate) conversation: Vec<u8>,
    pub(crate) content_id: [u8; 16],
    pub(crate) sender: DeviceAddress,
    pub(crate) own: bool,
    pub(crate) content: Vec<u8>,
    pub(crate) kind: String,
    pub(crate) sent_at: Timestamp,
    pub(crate) stored_at: Timestamp,
    pub(crate) edit: Option<Vec<u8>>,
    pub(crate) deleted: bool,
    pub(crate) read_at: Option<Timestamp>,
    pub(crate) disappears_at: Option<Timestamp>,
}

fn read(row: &SqliteRow) -> Result<Row, StoreError> {
    let read_at: Option<i64> = row.try_get("read_at")?;
    let disappears_at: Option<i64> = row.try_get("disappears_at")?;
    Ok(Row {
        local_id: u64_of(row, "local_id")?,
        conversation: row.try_get("conversation")?,
        content_id: array_of(row, "content_id")?,
        sender: DeviceAddress {
            account: account_of(row, "sender")?,
            device: device_of(row, "sender_device")?,
        },
        own: row.try_get("own")?,
        content: row.try_get("content")?,
        kind: row.try_get("kind")?,
        sent_at: time_of(row, "sent_at")?,
        stored_at: time_of(row, "stored_at")?,
        edit: row.try_get("edit")?,
        deleted: row.try_get("deleted")?,
        read_at: read_at.map(|at| Timestamp::from_millis(unsigned(at))),
        disappears_at: disappears_at.map(|at| Timestamp::from_millis(unsigned(at))),
    })
}

/// What is stored of a new message.
pub(crate) struct New<'a> {
    pub(crate) conversation: &'a [u8],
    pub(crate) content_id: &'a [u8; 16],
    pub(crate) sender: DeviceAddress,
    pub(crate) own: bool,
    pub(crate) content: &'a [u8],
    pub(crate) kind: &'a str,
    pub(crate) sent_at: Timestamp,
    pub(crate) disappears_at: Option<Timestamp>,
}

/// Stores a message; `None` if this sender's content is there already.
pub(crate) async fn insert(
    db: &mut SqliteConnection,
    new: &New<'_>,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO messages (conversation, content_id, sender, sender_device, own,
            content, kind, sent_at, stored_at, disappears_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.conversation)
    .bind(new.content_id.as_slice())
    .bind(new.sender.account.to_vec())
    .bind(i64::from(new.sender.device.get()))
    .bind(new.own)
    .bind(new.content)
    .bind(new.kind)
    .bind(millis(new.sent_at))
    .bind(millis(now))
    .bind(new.disappears_at.map(millis))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    let local_id = unsigned(done.last_insert_rowid());
    sqlx::query("UPDATE conversations SET last_local_id = ? WHERE conversation = ?")
        .bind(signed(local_id))
        .bind(new.conversation)
        .execute(db)
        .await?;
    Ok(Some(local_id))
}

/// Messages after `after`, oldest first, of one conversation or of all.
pub(crate) async fn after(
    db: &mut SqliteConnection,
    conversation: Option<&[u8]>,
    after: u64,
    limit: u32,
) -> Result<Vec<Row>, StoreError> {
    let rows = match conversation {
        Some(conversation) => {
            sqlx::query(
                "SELECT * FROM messages WHERE conversation = ? AND local_id > ? ORDER BY local_id LIMIT ?",
            )
            .bind(conversation)
            .bind(signed(after))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        }
        None => {
            sqlx::query("SELECT * FROM messages WHERE local_id > ? ORDER BY local_id LIMIT ?")
                .bind(signed(after))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        }
    };
    rows.iter().map(read).collect()
}

/// The newest messages before `before`, oldest first.
pub(crate) async fn before(
    db: &mut SqliteConnection,
    conversation: Option<&[u8]>,
    before: u64,
    limit: u32,
) -> Result<Vec<Row>, StoreError> {
    let rows = match conversation {
        Some(conversation) => {
            sqlx::query(
                "SELECT * FROM messages WHERE conversation = ? AND local_id < ? ORDER BY local_id DESC LIMIT ?",
            )
            .bind(conversation)
            .bind(signed(before))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        }
        None => {
            sqlx::query("SELECT * FROM messages WHERE local_id < ? ORDER BY local_id DESC LIMIT ?")
                .bind(signed(before))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?
        }
    };
    rows.iter().rev().map(read).collect()
}

pub(crate) async fn by_local_id(
    db: &mut SqliteConnection,
    local_id: u64,
) -> Result<Option<Row>, StoreError> {
    sqlx::query("SELECT * FROM messages WHERE local_id = ?")
        .bind(signed(local_id))
        .fetch_optional(db)
        .await?
        .map(|row| read(&row))
        .transpose()
}

/// The message with this content id, whoever sent it.
pub(crate) async fn by_content(
    db: &mut SqliteConnection,
    conversation: &[u8],
    content_id: &[u8],
) -> Result<Option<Row>, StoreError> {
    sqlx::query("SELECT * FROM messages WHERE content_id = ? AND conversation = ? LIMIT 1")
        .bind(content_id)
        .bind(conversation)
        .fetch_optional(db)
        .await?
        .map(|row| read(&row))
        .transpose()
}

pub(crate) async fn set_edit(
    db: &mut SqliteConnection,
    local_id: u64,
    content: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE messages SET edit = ? WHERE local_id = ? AND deleted = 0")
        .bind(content)
        .bind(signed(local_id))
        .execute(db)
        .await?;
    Ok(())
}

/// Empties a message; that there was one stays visible.
pub(crate) async fn set_deleted(
    db: &mut SqliteConnection,
    local_id: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE messages SET deleted = 1, content = x'', edit = NULL WHERE local_id = ?")
        .bind(signed(local_id))
        .execute(db)
        .await?;
    Ok(())
}

/// Messages of others up to `local_id` that were not read yet.
pub(crate) async fn unread_up_to(
    db: &mut SqliteConnection,
    conversation: &[u8],
    local_id: u64,
) -> Result<Vec<Row>, StoreError> {
    sqlx::query(
        "SELECT * FROM messages WHERE conversation = ? AND local_id <= ? AND own = 0
           AND read_at IS NULL ORDER BY local_id LIMIT 512",
    )
    .bind(conversation)
    .bind(signed(local_id))
    .fetch_all(db)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// How many messages of others are unread.
pub(crate) async fn unread_count(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM messages WHERE conversation = ? AND own = 0 AND read_at IS NULL
           AND kind <> 'change'",
    )
    .bind(conversation)
    .fetch_one(db)
    .await?;
    Ok(unsigned(count))
}

pub(crate) async fn mark_read(
    db: &mut SqliteConnection,
    local_id: u64,
    now: Timestamp,
    disappears_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE messages SET read_at = ?, disappears_at = coalesce(disappears_at, ?) WHERE local_id = ?",
    )
    .bind(millis(now))
    .bind(disappears_at.map(millis))
    .bind(signed(local_id))
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes messages whose time is up; returns their local ids.
pub(crate) async fn delete_disappeared(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Vec<u64>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM messages WHERE disappears_at IS NOT NULL AND disappears_at <= ? RETURNING local_id",
    )
    .bind(millis(now))
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(unsigned).collect())
}

pub(crate) async fn react(
    db: &mut SqliteConnection,
    conversation: &[u8],
    target: &[u8],
    account: AccountId,
    emoji: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    match emoji {
        Some(emoji) => {
            sqlx::query(
                "INSERT OR REPLACE INTO reactions (conversation, target, account, emoji, at)
                 VALUES (?, ?, ?, ?, ?)",
            )
            .bind(conversation)
            .bind(target)
            .bind(account.to_vec())
            .bind(emoji)
            .bind(millis(now))
            .execute(db)
            .await?;
        }
        None => {
            sqlx::query(
                "DELETE FROM reactions WHERE conversation = ? AND target = ? AND account = ?",
            )
            .bind(conversation)
            .bind(target)
            .bind(account.to_vec())
            .execute(db)
            .await?;
        }
    }
    Ok(())
}

pub(crate) async fn reactions(
    db: &mut SqliteConnection,
    conversation: &[u8],
    target: &[u8],
) -> Result<Vec<(AccountId, String)>, StoreError> {
    sqlx::query(
        "SELECT account, emoji FROM reactions WHERE conversation = ? AND target = ? ORDER BY at",
    )
    .bind(conversation)
    .bind(target)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((account_of(row, "account")?, row.try_get("emoji")?)))
    .collect()
}

/// Unread messages of others with this content id.
pub(crate) async fn unread_by_content(
    db: &mut SqliteConnection,
    content_id: &[u8],
) -> Result<Vec<Row>, StoreError> {
    sqlx::query("SELECT * FROM messages WHERE content_id = ? AND own = 0 AND read_at IS NULL")
        .bind(content_id)
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}
