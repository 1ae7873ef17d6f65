//! Session records, one a remote device.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};

use super::{StoreError, device_of};

/// A stored record with the identity key it was made with.
pub(crate) struct StoredSession {
    pub(crate) identity_key: Vec<u8>,
    pub(crate) record: Vec<u8>,
}

pub(crate) async fn load(
    db: &mut SqliteConnection,
    address: DeviceAddress,
) -> Result<Option<StoredSession>, StoreError> {
    let row =
        sqlx::query("SELECT identity_key, record FROM sessions WHERE account = ? AND device = ?")
            .bind(address.account.to_vec())
            .bind(i64::from(address.device.get()))
            .fetch_optional(db)
            .await?;
    row.map(|row| {
        Ok(StoredSession {
            identity_key: row.try_get("identity_key")?,
            record: row.try_get("record")?,
        })
    })
    .transpose()
}

pub(crate) async fn save(
    db: &mut SqliteConnection,
    address: DeviceAddress,
    identity_key: &[u8],
    record: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sessions (account, device, identity_key, record) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET identity_key = excluded.identity_key, record = excluded.record",
    )
    .bind(address.account.to_vec())
    .bind(i64::from(address.device.get()))
    .bind(identity_key)
    .bind(record)
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn delete(
    db: &mut SqliteConnection,
    address: DeviceAddress,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE account = ? AND device = ?")
        .bind(address.account.to_vec())
        .bind(i64::from(address.device.get()))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn devices(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<DeviceId>, StoreError> {
    sqlx::query("SELECT device FROM sessions WHERE account = ? ORDER BY device")
        .bind(account.to_vec())
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| device_of(row, "device"))
        .collect()
}
