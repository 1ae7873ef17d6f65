//! What is on its way: contents, who still has to get them, and what became of them.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, SendId};

use super::{StoreError, account_of, array_of, millis, signed, time_of, u64_of};

/// A recipient account of a content.
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) content_id: [u8; 16],
    pub(crate) account: AccountId,
    /// Only this device needs it; 0 for all.
    pub(crate) device: u32,
    pub(crate) ciphertexts: Option<Vec<u8>>,
    pub(crate) attempts: u64,
    pub(crate) waiting: Option<String>,
}

fn read(row: &SqliteRow) -> Result<Row, StoreError> {
    Ok(Row {
        id: row.try_get("id")?,
        content_id: array_of(row, "content_id")?,
        account: account_of(row, "account")?,
        device: super::u32_of(row, "device")?,
        ciphertexts: row.try_get("ciphertexts")?,
        attempts: u64_of(row, "attempts")?,
        waiting: row.try_get("waiting")?,
    })
}

/// Stores a content that will be encrypted, perhaps again.
pub(crate) async fn insert_sent(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
    conversation: &[u8],
    sequence: u64,
    content: &[u8],
    shown: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO sent (content_id, conversation, sequence, content, created_at, shown)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(content_id.as_slice())
    .bind(conversation)
    .bind(signed(sequence))
    .bind(content)
    .bind(millis(now))
    .bind(shown)
    .execute(db)
    .await?;
    Ok(())
}

/// An own content as long as it is kept.
pub(crate) struct Sent {
    pub(crate) conversation: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) shown: bool,
}

pub(crate) async fn sent(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
) -> Result<Option<Sent>, StoreError> {
    sqlx::query("SELECT * FROM sent WHERE content_id = ?")
        .bind(content_id.as_slice())
        .fetch_optional(db)
        .await?
        .map(|row| {
            Ok(Sent {
                conversation: row.try_get("conversation")?,
                content: row.try_get("content")?,
                shown: row.try_get("shown")?,
            })
        })
        .transpose()
}

pub(crate) async fn enqueue(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
    account: AccountId,
    device: u32,
) -> Result<i64, StoreError> {
    let done = sqlx::query("INSERT INTO outbox (content_id, account, device) VALUES (?, ?, ?)")
        .bind(content_id.as_slice())
        .bind(account.to_vec())
        .bind(i64::from(device))
        .execute(db)
        .await?;
    Ok(done.last_insert_rowid())
}

/// Rows to be encrypted for an account, oldest first.
pub(crate) async fn unready_of(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<Row>, StoreError> {
    sqlx::query("SELECT * FROM outbox WHERE account = ? AND ready = 0 ORDER BY id LIMIT 200")
        .bind(account.to_vec())
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Accounts with rows to be encrypted whose next try is due.
pub(crate) async fn unready_accounts(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Vec<AccountId>, StoreError> {
    sqlx::query(
        "SELECT account FROM outbox WHERE ready = 0 GROUP BY account
         HAVING max(not_before) <= ? ORDER BY min(id) LIMIT 100",
    )
    .bind(millis(now))
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| account_of(row, "account"))
    .collect()
}

/// Stores the ciphertexts for a row: from now on these bytes go out under this send id.
pub(crate) async fn make_ready(
    db: &mut SqliteConnection,
    id: i64,
    send_id: SendId,
    ciphertexts: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET ready = 1, send_id = ?, ciphertexts = ?, waiting = NULL, not_before = 0 WHERE id = ?",
    )
    .bind(send_id.to_vec())
    .bind(ciphertexts)
    .bind(id)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes a row's ciphertexts back: it must be encrypted again, not before `until`.
pub(crate) async fn make_unready(
    db: &mut SqliteConnection,
    id: i64,
    until: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET ready = 0, send_id = NULL, ciphertexts = NULL, attempts = attempts + 1,
            not_before = ? WHERE id = ?",
    )
    .bind(millis(until))
    .bind(id)
    .execute(db)
    .await?;
    Ok(())
}

/// Puts a ready row off: the same bytes go out again later.
pub(crate) async fn put_off(
    db: &mut SqliteConnection,
    id: i64,
    until: Timestamp,
    waiting: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, not_before = ?, waiting = ? WHERE id = ?",
    )
    .bind(millis(until))
    .bind(waiting)
    .bind(id)
    .execute(db)
    .await?;
    Ok(())
}

/// Says why the rows for an account wait, and until when they need not be looked at.
pub(crate) async fn account_waits(
    db: &mut SqliteConnection,
    account: AccountId,
    waiting: Option<&str>,
    until: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE outbox SET waiting = ?, not_before = ? WHERE account = ? AND ready = 0")
        .bind(waiting)
        .bind(millis(until))
        .bind(account.to_vec())
        .execute(db)
        .await?;
    Ok(())
}

/// The oldest sends that may go out, with all their rows.
pub(crate) async fn due_sends(
    db: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<SendId>, StoreError> {
    sqlx::query(
        "SELECT send_id FROM outbox WHERE ready = 1 GROUP BY send_id
         HAVING max(not_before) <= ? ORDER BY min(id) LIMIT ?",
    )
    .bind(millis(now))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(SendId::from(array_of::<16>(row, "send_id")?)))
    .collect()
}

pub(crate) async fn rows_of_send(
    db: &mut SqliteConnection,
    send_id: SendId,
) -> Result<Vec<Row>, StoreError> {
    sqlx::query("SELECT * FROM outbox WHERE send_id = ? ORDER BY id")
        .bind(send_id.to_vec())
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(crate) async fn delete(db: &mut SqliteConnection, id: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE id = ?")
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes what was queued for an account in a conversation it is no longer in.
pub(crate) async fn drop_queued(
    db: &mut SqliteConnection,
    conversation: &[u8],
    account: AccountId,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM outbox WHERE account = ? AND ready = 0
           AND content_id IN (SELECT content_id FROM sent WHERE conversation = ? AND shown = 1)",
    )
    .bind(account.to_vec())
    .bind(conversation)
    .execute(db)
    .await?;
    Ok(())
}

/// Rows left, by whether somebody or something else must act first: (moving, waiting).
pub(crate) async fn counts(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "SELECT coalesce(sum(not_before <= ?), 0) AS moving, count(*) AS all_rows FROM outbox",
    )
    .bind(millis(now))
    .fetch_one(db)
    .await?;
    let moving = u64_of(&row, "moving")?;
    Ok((moving, u64_of(&row, "all_rows")?.saturating_sub(moving)))
}

pub(crate) async fn mark_addressed(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
    address: DeviceAddress,
    ciphertext_sha256: [u8; 32],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO addressed (content_id, account, device, ciphertext_sha256)
         VALUES (?, ?, ?, ?)",
    )
    .bind(content_id.as_slice())
    .bind(address.account.to_vec())
    .bind(i64::from(address.device.get()))
    .bind(ciphertext_sha256.as_slice())
    .execute(db)
    .await?;
    Ok(())
}

/// The content that went to this device as this ciphertext.
pub(crate) async fn content_of_ciphertext(
    db: &mut SqliteConnection,
    address: DeviceAddress,
    ciphertext_sha256: &[u8],
) -> Result<Option<[u8; 16]>, StoreError> {
    sqlx::query(
        "SELECT content_id FROM addressed WHERE ciphertext_sha256 = ? AND account = ? AND device = ?",
    )
    .bind(ciphertext_sha256)
    .bind(address.account.to_vec())
    .bind(i64::from(address.device.get()))
    .fetch_optional(db)
    .await?
    .map(|row| array_of(&row, "content_id"))
    .transpose()
}

/// Contents of a numbering that went to this device and are still kept.
pub(crate) async fn contents_in_range(
    db: &mut SqliteConnection,
    address: DeviceAddress,
    conversation: &[u8],
    first: u64,
    last: u64,
) -> Result<Vec<[u8; 16]>, StoreError> {
    sqlx::query(
        "SELECT s.content_id FROM addressed a JOIN sent s ON s.content_id = a.content_id
         WHERE a.account = ? AND a.device = ? AND s.conversation = ?
           AND s.sequence BETWEEN ? AND ? ORDER BY s.sequence LIMIT 64",
    )
    .bind(address.account.to_vec())
    .bind(i64::from(address.device.get()))
    .bind(conversation)
    .bind(signed(first))
    .bind(signed(last))
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| array_of(row, "content_id"))
    .collect()
}

pub(crate) async fn was_addressed(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
    address: DeviceAddress,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM addressed WHERE content_id = ? AND account = ? AND device = ?",
    )
    .bind(content_id.as_slice())
    .bind(address.account.to_vec())
    .bind(i64::from(address.device.get()))
    .fetch_one(db)
    .await?
        > 0)
}

/// Sets where a content stands with an account, unless it is further already.
pub(crate) async fn set_delivery(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
    account: AccountId,
    state: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deliveries (content_id, account, state, at) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET state = excluded.state, at = excluded.at
         WHERE state <> excluded.state AND state <> 'read'
           AND (state <> 'delivered' OR excluded.state = 'read')",
    )
    .bind(content_id.as_slice())
    .bind(account.to_vec())
    .bind(state)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

/// Where a content stands: account, state, since when.
pub(crate) async fn deliveries(
    db: &mut SqliteConnection,
    content_id: &[u8; 16],
) -> Result<Vec<(AccountId, String, Timestamp)>, StoreError> {
    sqlx::query("SELECT account, state, at FROM deliveries WHERE content_id = ? ORDER BY account")
        .bind(content_id.as_slice())
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            Ok((
                account_of(row, "account")?,
                row.try_get("state")?,
                time_of(row, "at")?,
            ))
        })
        .collect()
}

/// Deletes own contents that are old, or beyond the newest `keep`, and no longer on their way.
pub(crate) async fn forget_sent(
    db: &mut SqliteConnection,
    before: Timestamp,
    keep: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM sent WHERE content_id NOT IN (SELECT content_id FROM outbox)
           AND (created_at < ? OR content_id IN
               (SELECT content_id FROM sent ORDER BY created_at DESC LIMIT -1 OFFSET ?))",
    )
    .bind(millis(before))
    .bind(signed(keep))
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM addressed WHERE content_id NOT IN (SELECT content_id FROM sent)")
        .execute(db)
        .await?;
    Ok(())
}
