//! Table `devices`, with the mailbox counters beside each.

use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId};
use wardline_wire::proto::AccountStatus;

use super::super::{DeviceStanding, NewDevice, Result, StoreError};
use super::accounts::standing_status;
use super::{array, meta, runs, unsigned};
use crate::mailbox::plan::{RecipientDevice, RecipientState};

const CORRUPT: StoreError = StoreError::Corrupt("devices");

/// Adds a device, or brings the registration id of a known one up to date.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    account: AccountId,
    device: &NewDevice,
) -> Result<()> {
    let row: i64 = sqlx::query_scalar(
        "INSERT INTO devices (account, device, identity_key, registration_id, device_key, auth_epoch) \
         VALUES (?, ?, ?, ?, ?, 1) \
         ON CONFLICT (account, device) DO UPDATE SET registration_id = excluded.registration_id \
         RETURNING id",
    )
    .bind(account.as_bytes().as_slice())
    .bind(device.id.get())
    .bind(device.identity_key.as_slice())
    .bind(device.registration_id)
    .bind(device.device_key.as_slice())
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO mailboxes (device) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(row)
        .execute(connection)
        .await?;
    Ok(())
}

/// The devices on the account's list, with their rows, ascending by id.
pub(super) async fn listed(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<(DeviceId, i64)>> {
    sqlx::query("SELECT device, id FROM devices WHERE account = ? AND removed = 0 ORDER BY device")
        .bind(account.as_bytes().as_slice())
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Ok((device_id(row.try_get(0)?)?, row.try_get(1)?)))
        .collect()
}

/// The row of a listed device.
pub(super) async fn row(
    connection: &mut SqliteConnection,
    device: DeviceAddress,
) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM devices WHERE account = ? AND device = ? AND removed = 0",
    )
    .bind(device.account.as_bytes().as_slice())
    .bind(device.device.get())
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn remove(connection: &mut SqliteConnection, row: i64) -> Result<()> {
    sqlx::query("UPDATE devices SET removed = 1, auth_epoch = auth_epoch + 1 WHERE id = ?")
        .bind(row)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the sessions of all devices of an account.
pub(super) async fn end_sessions(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<()> {
    sqlx::query("UPDATE devices SET auth_epoch = auth_epoch + 1 WHERE account = ?")
        .bind(account.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    meta::next_auth_generation(connection).await
}

pub(super) async fn end_all_sessions(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::query("UPDATE devices SET auth_epoch = auth_epoch + 1")
        .execute(&mut *connection)
        .await?;
    meta::next_auth_generation(connection).await
}

pub(super) async fn standing(
    connection: &mut SqliteConnection,
    device: DeviceAddress,
    now: Timestamp,
) -> Result<Option<DeviceStanding>> {
    let row = sqlx::query(
        "SELECT a.status, a.certified_until_ms, a.role, d.auth_epoch, d.removed, d.device_key, \
         a.device_list_version FROM devices d JOIN accounts a ON a.id = d.account \
         WHERE d.account = ? AND d.device = ?",
    )
    .bind(device.account.as_bytes().as_slice())
    .bind(device.device.get())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(DeviceStanding {
        status: standing_status(row.try_get(0)?, row.try_get(1)?, now)?,
        role: role_from_wire(row.try_get(2)?).ok_or(CORRUPT)?,
        auth_epoch: unsigned(row.try_get(3)?),
        removed: row.try_get(4)?,
        device_key: array(row.try_get(5)?, "devices")?,
        device_list_version: unsigned(row.try_get(6)?),
    }))
}

/// Accounts with their listed devices and mailbox counters. Unknown ones are left out.
pub(super) async fn recipients(
    connection: &mut SqliteConnection,
    accounts: &[AccountId],
) -> Result<Vec<RecipientState>> {
    let mut states: Vec<RecipientState> = Vec::with_capacity(accounts.len());
    for run in runs(accounts) {
        let mut query = sqlx::QueryBuilder::new(
            "SELECT a.id, a.status, d.device, d.id, d.registration_id, d.auth_epoch, \
             m.next_seq, m.held, m.held_bytes FROM accounts a \
             JOIN devices d ON d.account = a.id AND d.removed = 0 \
             JOIN mailboxes m ON m.device = d.id WHERE a.id IN (",
        );
        let mut list = query.separated(", ");
        for account in run {
            list.push_bind(account.as_bytes().as_slice());
        }
        query.push(") ORDER BY a.id, d.device");
        for row in query.build().fetch_all(&mut *connection).await? {
            let account = AccountId::from(array(row.try_get(0)?, "accounts")?);
            let account_status: i32 = row.try_get(1)?;
            if states.last().is_none_or(|last| last.account != account) {
                states.push(RecipientState {
                    account,
                    active: account_status == AccountStatus::Active as i32,
                    devices: Vec::new(),
                });
            }
            if let Some(state) = states.last_mut() {
                state.devices.push(RecipientDevice {
                    id: device_id(row.try_get(2)?)?,
                    mailbox: row.try_get(3)?,
                    registration_id: row.try_get(4)?,
                    auth_epoch: unsigned(row.try_get(5)?),
                    next_seq: unsigned(row.try_get(6)?),
                    held: unsigned(row.try_get(7)?),
                    held_bytes: unsigned(row.try_get(8)?),
                });
            }
        }
    }
    Ok(states)
}

fn device_id(number: u32) -> Result<DeviceId> {
    DeviceId::new(number).map_err(|_| CORRUPT)
}
