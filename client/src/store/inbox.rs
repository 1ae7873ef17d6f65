//! Envelopes that wait, were given up, or were seen before.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress};

use super::{StoreError, account_of, device_of, millis, signed, time_of, unsigned};

/// Why an envelope waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkReason {
    UnknownAccount = 0,
    UnknownDevice = 1,
}

/// An envelope that waits for its sender's certificate and list.
pub(crate) struct Parked {
    pub(crate) id: i64,
    pub(crate) sender: DeviceAddress,
    pub(crate) kind: i32,
    pub(crate) ciphertext: Vec<u8>,
}

pub(crate) async fn park(
    db: &mut SqliteConnection,
    sender: DeviceAddress,
    kind: i32,
    ciphertext: &[u8],
    reason: ParkReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO parked (account, device, kind, ciphertext, reason, received_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(sender.account.to_vec())
    .bind(i64::from(sender.device.get()))
    .bind(i64::from(kind))
    .bind(ciphertext)
    .bind(reason as i64)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

/// How many are parked: of this account, of all.
pub(crate) async fn parked_counts(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "SELECT coalesce(sum(account = ?), 0) AS here, count(*) AS everywhere FROM parked",
    )
    .bind(account.to_vec())
    .fetch_one(db)
    .await?;
    Ok((
        unsigned(row.try_get("here")?),
        unsigned(row.try_get("everywhere")?),
    ))
}

pub(crate) async fn parked_of(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<Parked>, StoreError> {
    sqlx::query("SELECT * FROM parked WHERE account = ? ORDER BY id")
        .bind(account.to_vec())
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            let kind: i64 = row.try_get("kind")?;
            Ok(Parked {
                id: row.try_get("id")?,
                sender: DeviceAddress {
                    account: account_of(row, "account")?,
                    device: device_of(row, "device")?,
                },
                kind: i32::try_from(kind).unwrap_or(0),
                ciphertext: row.try_get("ciphertext")?,
            })
        })
        .collect()
}

pub(crate) async fn unpark(db: &mut SqliteConnection, id: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM parked WHERE id = ?")
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// Accounts with parked envelopes whose next try is due.
pub(crate) async fn parked_accounts(
    db: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Vec<AccountId>, StoreError> {
    sqlx::query("SELECT DISTINCT account FROM parked WHERE not_before <= ? LIMIT 50")
        .bind(millis(now))
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| account_of(row, "account"))
        .collect()
}

/// Puts an account's parked envelopes off; returns how often that happened before.
pub(crate) async fn put_off_parked(
    db: &mut SqliteConnection,
    account: AccountId,
    until: Timestamp,
) -> Result<u64, StoreError> {
    sqlx::query("UPDATE parked SET not_before = ?, attempts = attempts + 1 WHERE account = ?")
        .bind(millis(until))
        .bind(account.to_vec())
        .execute(&mut *db)
        .await?;
    let attempts: Option<i64> =
        sqlx::query_scalar("SELECT max(attempts) FROM parked WHERE account = ?")
            .bind(account.to_vec())
            .fetch_one(db)
            .await?;
    Ok(unsigned(attempts.unwrap_or(0)))
}

pub(crate) async fn quarantine(
    db: &mut SqliteConnection,
    sender: DeviceAddress,
    ciphertext_sha256: [u8; 32],
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quarantine (account, device, ciphertext_sha256, reason, at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(sender.account.to_vec())
    .bind(i64::from(sender.device.get()))
    .bind(ciphertext_sha256.as_slice())
    .bind(reason)
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    // A flood of rubbish must not fill the disk: the newest ten thousand say enough.
    sqlx::query("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - 10000")
        .execute(db)
        .await?;
    Ok(())
}

/// Whether a content was dealt with before.
pub(crate) async fn was_seen(
    db: &mut SqliteConnection,
    sender: AccountId,
    content_id: &[u8],
) -> Result<bool, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM seen WHERE sender = ? AND content_id = ?")
            .bind(sender.to_vec())
            .bind(content_id)
            .fetch_one(db)
            .await?;
    Ok(count > 0)
}

/// Marks a content as dealt with.
pub(crate) async fn see(
    db: &mut SqliteConnection,
    sender: AccountId,
    content_id: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO seen (sender, content_id, at) VALUES (?, ?, ?)")
        .bind(sender.to_vec())
        .bind(content_id)
        .bind(millis(now))
        .execute(db)
        .await?;
    Ok(())
}

/// Content that waits for operations of its conversation.
pub(crate) struct Deferred {
    pub(crate) sender: DeviceAddress,
    pub(crate) content: Vec<u8>,
    pub(crate) id: i64,
}

pub(crate) async fn defer(
    db: &mut SqliteConnection,
    conversation: &[u8],
    sender: DeviceAddress,
    content: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deferred (conversation, account, device, content, received_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(conversation)
    .bind(sender.account.to_vec())
    .bind(i64::from(sender.device.get()))
    .bind(content)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn deferred_count(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM deferred WHERE account = ?")
        .bind(account.to_vec())
        .fetch_one(db)
        .await?;
    Ok(unsigned(count))
}

pub(crate) async fn deferred_of(
    db: &mut SqliteConnection,
    conversation: &[u8],
) -> Result<Vec<Deferred>, StoreError> {
    read_deferred(
        &sqlx::query("SELECT * FROM deferred WHERE conversation = ? ORDER BY id")
            .bind(conversation)
            .fetch_all(db)
            .await?,
    )
}

/// Deferred contents received before `before`: their operations did not come.
pub(crate) async fn deferred_before(
    db: &mut SqliteConnection,
    before: Timestamp,
) -> Result<Vec<Deferred>, StoreError> {
    read_deferred(
        &sqlx::query("SELECT * FROM deferred WHERE received_at < ? ORDER BY id LIMIT 100")
            .bind(millis(before))
            .fetch_all(db)
            .await?,
    )
}

fn read_deferred(rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<Deferred>, StoreError> {
    rows.iter()
        .map(|row| {
            Ok(Deferred {
                sender: DeviceAddress {
                    account: account_of(row, "account")?,
                    device: device_of(row, "device")?,
                },
                content: row.try_get("content")?,
                id: row.try_get("id")?,
            })
        })
        .collect()
}

pub(crate) async fn undefer(db: &mut SqliteConnection, id: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM deferred WHERE id = ?")
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// Counts an event of (`name`, `key`) unless more than `limit` happened within `window_ms`.
/// Returns whether it may go on.
pub(crate) async fn throttle(
    db: &mut SqliteConnection,
    name: &str,
    key: &[u8],
    limit: u64,
    window_ms: u64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT at, count FROM throttles WHERE name = ? AND key = ?")
        .bind(name)
        .bind(key)
        .fetch_optional(&mut *db)
        .await?;
    let (start, count) = match row {
        Some(row) => {
            let start = time_of(&row, "at")?;
            // A clock that went backwards starts a new window as well.
            if now.millis_since(start) > window_ms || start > now {
                (now, 0)
            } else {
                (start, unsigned(row.try_get("count")?))
            }
        }
        None => (now, 0),
    };
    if count >= limit {
        return Ok(false);
    }
    sqlx::query("INSERT OR REPLACE INTO throttles (name, key, at, count) VALUES (?, ?, ?, ?)")
        .bind(name)
        .bind(key)
        .bind(millis(start))
        .bind(signed(count + 1))
        .execute(db)
        .await?;
    Ok(true)
}

/// Deletes what only guards against repeats once it is too old to be repeated.
pub(crate) async fn forget_seen(
    db: &mut SqliteConnection,
    before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM seen WHERE at < ?")
        .bind(millis(before))
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM throttles WHERE at < ?")
        .bind(millis(before))
        .execute(db)
        .await?;
    Ok(())
}
