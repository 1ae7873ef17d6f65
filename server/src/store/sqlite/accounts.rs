//! Table `accounts`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, Serial};
use wardline_wire::limits::CLOCK_TOLERANCE_MS;
use wardline_wire::proto::{AccountStatus, Role};

use super::super::{
    Account, Certified, NewAccount, NewCertificate, NewDeviceList, NewRevocations, Rejected,
    Result, StoreError,
};
use super::{array, sql, unsigned};

const COLUMNS: &str = "SELECT id, account_key, status, certified_until_ms, access_key_sha256, \
     device_list, certificate FROM accounts";

pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: AccountId,
    now: Timestamp,
) -> Result<Option<Account>> {
    sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = ?")))
        .bind(id.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?
        .map(|row| parse(&row, now))
        .transpose()
}

pub(super) async fn find_by_handle(
    connection: &mut SqliteConnection,
    handle: &str,
    now: Timestamp,
) -> Result<Option<Account>> {
    sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE handle = ?")))
        .bind(handle)
        .fetch_optional(connection)
        .await?
        .map(|row| parse(&row, now))
        .transpose()
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    account: &NewAccount,
    role: Role,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO accounts (id, account_key, status, role, access_key_sha256, device_list, \
         device_list_version) VALUES (?, ?, ?, ?, ?, ?, 1)",
    )
    .bind(account.id.as_bytes().as_slice())
    .bind(account.account_key.as_slice())
    .bind(AccountStatus::Pending as i32)
    .bind(role as i32)
    .bind(account.access_key_sha256.as_slice())
    .bind(account.device_list.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn certify(
    connection: &mut SqliteConnection,
    certificate: &NewCertificate,
) -> Result<Certified> {
    let id = certificate.account.as_bytes().as_slice();
    let before = sqlx::query("SELECT status, role FROM accounts WHERE id = ?")
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(before) = before else {
        return Ok(Certified::UnknownAccount);
    };
    let taken: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE handle = ? AND id <> ?)")
            .bind(certificate.handle.as_deref())
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
    if taken {
        return Ok(Certified::HandleTaken);
    }
    sqlx::query(
        "UPDATE accounts SET status = ?, role = ?, certificate = ?, certificate_serial = ?, \
         issuer_serial = ?, certified_until_ms = ?, handle = ? WHERE id = ?",
    )
    .bind(AccountStatus::Active as i32)
    .bind(certificate.role as i32)
    .bind(certificate.chain.as_slice())
    .bind(certificate.serial.as_bytes().as_slice())
    .bind(certificate.issuer.as_bytes().as_slice())
    .bind(sql(certificate.until.as_millis()))
    .bind(certificate.handle.as_deref())
    .bind(id)
    .execute(connection)
    .await?;
    let (status, role): (i32, i32) = (before.try_get(0)?, before.try_get(1)?);
    Ok(Certified::Stored {
        sessions_end: status != AccountStatus::Active as i32 || role != certificate.role as i32,
    })
}

pub(super) async fn reject(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Rejected> {
    let status: Option<i32> = sqlx::query_scalar("SELECT status FROM accounts WHERE id = ?")
        .bind(account.as_bytes().as_slice())
        .fetch_optional(&mut *connection)
        .await?;
    match status.map(AccountStatus::try_from) {
        None => Ok(Rejected::UnknownAccount),
        Some(Ok(AccountStatus::Pending | AccountStatus::Rejected)) => {
            sqlx::query("UPDATE accounts SET status = ? WHERE id = ?")
                .bind(AccountStatus::Rejected as i32)
                .bind(account.as_bytes().as_slice())
                .execute(connection)
                .await?;
            Ok(Rejected::Done)
        }
        Some(_) => Ok(Rejected::Certified),
    }
}

/// `false` when another list than the one to replace is stored.
pub(super) async fn set_device_list(
    connection: &mut SqliteConnection,
    list: &NewDeviceList,
) -> Result<bool> {
    let changed = sqlx::query(
        "UPDATE accounts SET device_list = ?, device_list_version = ? \
         WHERE id = ? AND device_list_version = ?",
    )
    .bind(list.blob.as_slice())
    .bind(sql(list.version))
    .bind(list.account.as_bytes().as_slice())
    .bind(sql(list.replaces))
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn set_access_key(
    connection: &mut SqliteConnection,
    account: AccountId,
    sha256: [u8; 32],
) -> Result<()> {
    sqlx::query("UPDATE accounts SET access_key_sha256 = ? WHERE id = ?")
        .bind(sha256.as_slice())
        .bind(account.as_bytes().as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks whoever a list covers and was not marked before, and frees their handles.
pub(super) async fn revoke(
    connection: &mut SqliteConnection,
    revocations: &NewRevocations,
) -> Result<Vec<AccountId>> {
    let mut affected = Vec::new();
    let by_account = revocations.accounts.iter().map(AccountId::as_bytes);
    let by_certificate = revocations.certificates.iter().map(Serial::as_bytes);
    let by_issuer = revocations.issuers.iter().map(Serial::as_bytes);
    let entries = by_account
        .map(|id| ("UPDATE accounts SET status = ?1, handle = NULL WHERE id = ?2 AND status <> ?1 RETURNING id", id))
        .chain(by_certificate.map(|serial| {
            (
                "UPDATE accounts SET status = ?1, handle = NULL WHERE certificate_serial = ?2 AND status <> ?1 \
                 RETURNING id",
                serial,
            )
        }))
        .chain(by_issuer.map(|serial| {
            (
                "UPDATE accounts SET status = ?1, handle = NULL WHERE issuer_serial = ?2 AND status <> ?1 \
                 RETURNING id",
                serial,
            )
        }));
    for (statement, id) in entries {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(statement)
            .bind(AccountStatus::Revoked as i32)
            .bind(id.as_slice())
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            affected.push(AccountId::from(array(&row, "accounts")?));
        }
    }
    Ok(affected)
}

/// The status that counts at `now`: a certificate that has run out leaves the
/// account with what a pending one may do, until it is renewed.
pub(super) fn standing_status(
    status: i32,
    certified_until_ms: Option<i64>,
    now: Timestamp,
) -> Result<AccountStatus> {
    let status = AccountStatus::try_from(status).map_err(|_| StoreError::Corrupt("accounts"))?;
    let until = Timestamp::from_millis(certified_until_ms.map_or(0, unsigned));
    if status == AccountStatus::Active && now > until.plus_millis(CLOCK_TOLERANCE_MS) {
        Ok(AccountStatus::Pending)
    } else {
        Ok(status)
    }
}

fn parse(row: &SqliteRow, now: Timestamp) -> Result<Account> {
    Ok(Account {
        id: AccountId::from(array(row.try_get(0)?, "accounts")?),
        key: array(row.try_get(1)?, "accounts")?,
        status: standing_status(row.try_get(2)?, row.try_get(3)?, now)?,
        access_key_sha256: array(row.try_get(4)?, "accounts")?,
        device_list: row.try_get(5)?,
        certificate: row.try_get(6)?,
    })
}
