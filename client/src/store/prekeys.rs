//! Private prekeys and the base keys used on them.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use wardline_wire::clock::Timestamp;

use super::{StoreError, millis};

/// Which prekeys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Signed = 1,
    OneTime = 2,
    OneTimeKyber = 3,
    LastResortKyber = 4,
}

impl Kind {
    /// Both Kyber kinds draw from one counter: a message names only a number.
    const fn counter(self) -> i64 {
        match self {
            Self::Signed => 1,
            Self::OneTime => 2,
            Self::OneTimeKyber | Self::LastResortKyber => 3,
        }
    }
}

/// Ids wrap at 24 bits, as everywhere in the protocol; 0 is not used.
const MAX_ID: i64 = 0x00FF_FFFF;

/// Reserves `count` ids; returns the first, the others follow (with wrap-around, see [`after`]).
pub(crate) async fn reserve_ids(
    db: &mut SqliteConnection,
    kind: Kind,
    count: u32,
    start: u32,
) -> Result<u32, StoreError> {
    sqlx::query("INSERT OR IGNORE INTO prekey_ids (counter, next) VALUES (?, ?)")
        .bind(kind.counter())
        .bind(i64::from(start).clamp(1, MAX_ID))
        .execute(&mut *db)
        .await?;
    let first: i64 = sqlx::query_scalar("SELECT next FROM prekey_ids WHERE counter = ?")
        .bind(kind.counter())
        .fetch_one(&mut *db)
        .await?;
    let next = (first - 1 + i64::from(count)) % MAX_ID + 1;
    sqlx::query("UPDATE prekey_ids SET next = ? WHERE counter = ?")
        .bind(next)
        .bind(kind.counter())
        .execute(db)
        .await?;
    u32::try_from(first).map_err(|_| StoreError::Damaged("a prekey id"))
}

/// The id `offset` after `first`.
pub(crate) fn after(first: u32, offset: u32) -> u32 {
    (first - 1 + offset) % 0x00FF_FFFF + 1
}

pub(crate) async fn insert(
    db: &mut SqliteConnection,
    kind: Kind,
    id: u32,
    record: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO prekeys (kind, id, record, created_at) VALUES (?, ?, ?, ?)",
    )
    .bind(kind as i64)
    .bind(i64::from(id))
    .bind(record)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn load(
    db: &mut SqliteConnection,
    kind: Kind,
    id: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT record FROM prekeys WHERE kind = ? AND id = ?")
            .bind(kind as i64)
            .bind(i64::from(id))
            .fetch_optional(db)
            .await?,
    )
}

pub(crate) async fn delete(
    db: &mut SqliteConnection,
    kind: Kind,
    id: u32,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM prekeys WHERE kind = ? AND id = ?")
        .bind(kind as i64)
        .bind(i64::from(id))
        .execute(db)
        .await?;
    Ok(())
}

/// A stored prekey's record and when it was made.
pub(crate) struct Stored {
    pub(crate) record: Vec<u8>,
    pub(crate) created_at: Timestamp,
}

/// The newest that was not replaced.
pub(crate) async fn current(
    db: &mut SqliteConnection,
    kind: Kind,
) -> Result<Option<Stored>, StoreError> {
    let row = sqlx::query(
        "SELECT record, created_at FROM prekeys
         WHERE kind = ? AND replaced_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 1",
    )
    .bind(kind as i64)
    .fetch_optional(db)
    .await?;
    row.map(|row| stored(&row)).transpose()
}

/// One-time prekeys that the relay has not confirmed yet.
pub(crate) async fn not_uploaded(
    db: &mut SqliteConnection,
    kind: Kind,
    limit: u32,
) -> Result<Vec<Stored>, StoreError> {
    sqlx::query(
        "SELECT record, created_at FROM prekeys
         WHERE kind = ? AND uploaded_epoch IS NULL ORDER BY created_at, id LIMIT ?",
    )
    .bind(kind as i64)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?
    .iter()
    .map(stored)
    .collect()
}

fn stored(row: &sqlx::sqlite::SqliteRow) -> Result<Stored, StoreError> {
    Ok(Stored {
        record: row.try_get("record")?,
        created_at: super::time_of(row, "created_at")?,
    })
}

pub(crate) async fn mark_uploaded(
    db: &mut SqliteConnection,
    kind: Kind,
    id: u32,
    epoch: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE prekeys SET uploaded_epoch = ? WHERE kind = ? AND id = ?")
        .bind(super::signed(epoch))
        .bind(kind as i64)
        .bind(i64::from(id))
        .execute(db)
        .await?;
    Ok(())
}

/// Marks all but `newest` as replaced.
pub(crate) async fn replace_older(
    db: &mut SqliteConnection,
    kind: Kind,
    newest: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE prekeys SET replaced_at = ? WHERE kind = ? AND id <> ? AND replaced_at IS NULL",
    )
    .bind(millis(now))
    .bind(kind as i64)
    .bind(i64::from(newest))
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes what was replaced before `before`, with the base keys that were kept for it.
pub(crate) async fn forget_replaced(
    db: &mut SqliteConnection,
    before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM prekeys WHERE replaced_at IS NOT NULL AND replaced_at < ?")
        .bind(millis(before))
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "DELETE FROM used_base_keys WHERE kyber_id NOT IN (SELECT id FROM prekeys WHERE kind = 4)",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Remembers a base key; `false` if it was used before.
pub(crate) async fn use_base_key(
    db: &mut SqliteConnection,
    kyber_id: u32,
    signed_id: u32,
    base_key_sha256: &[u8; 32],
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO used_base_keys (kyber_id, signed_id, base_key_sha256) VALUES (?, ?, ?)",
    )
    .bind(i64::from(kyber_id))
    .bind(i64::from(signed_id))
    .bind(base_key_sha256.as_slice())
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many of a kind are held, uploaded or not.
#[cfg(test)]
pub(crate) async fn count(db: &mut SqliteConnection, kind: Kind) -> Result<i64, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT count(*) FROM prekeys WHERE kind = ?")
            .bind(kind as i64)
            .fetch_one(db)
            .await?,
    )
}
