//! Tables `accounts`, `certificates` and `decisions`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{Handle, role_from_wire};
use wardline_wire::ids::{AccountId, InviteId, Serial};
use wardline_wire::proto::Role;

use super::invites::{handle_of_account, redeem};
use super::{Result, Store, StoreError, array, sql, time};

/// An account that is certified for the first time.
pub struct NewAccount {
    /// The account.
    pub id: AccountId,
    /// Its Ed25519 key.
    pub account_key: [u8; 32],
    /// Its role.
    pub role: Role,
    /// Handle and display name; `None` for patients.
    pub name: Option<(Handle, String)>,
    /// Its device list, encoded `SignedBlob`.
    pub device_list: Vec<u8>,
    /// The invite it redeems.
    pub invite: InviteId,
}

/// A certificate to store and send.
pub struct CertificateRow {
    /// Names it.
    pub serial: Serial,
    /// Who signed it.
    pub issuer: Serial,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Encoded `CertificateChain`.
    pub chain: Vec<u8>,
}

/// An account as stored, with its newest certificate.
#[derive(Clone)]
pub struct Account {
    /// The account.
    pub id: AccountId,
    /// Its Ed25519 key.
    pub account_key: [u8; 32],
    /// Its role.
    pub role: Role,
    /// Handle and display name; `None` for patients.
    pub name: Option<(Handle, String)>,
    /// Newest device list seen, encoded `SignedBlob`.
    pub device_list: Vec<u8>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Serial of its newest certificate.
    pub certificate: Serial,
    /// Who signed that.
    pub issuer: Serial,
    /// When it was made.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// When the relay took it.
    pub delivered_at: Option<Timestamp>,
}

/// A certificate on its way to the relay.
pub struct Undelivered {
    /// The account.
    pub account: AccountId,
    /// Serial of the certificate.
    pub serial: Serial,
    /// Encoded `CertificateChain`.
    pub chain: Vec<u8>,
    /// How often it was tried.
    pub attempts: u32,
}

const SELECT: &str = "SELECT a.id, a.account_key, a.role, a.handle, a.display_name, a.device_list, \
     a.revoked_at_ms, c.serial, c.issuer, c.not_before_ms, c.not_after_ms, c.delivered_at_ms \
     FROM accounts a JOIN certificates c ON c.account = a.id \
     AND c.number = (SELECT max(number) FROM certificates WHERE account = a.id)";

impl Store {
    /// The account, if it was certified here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE a.id = ?")))
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map(parse)
            .transpose()
    }

    /// The unrevoked account with a handle.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Account>> {
        let mut connection = self.pool.acquire().await?;
        let id = handle_of_account(&mut connection, handle.as_str()).await?;
        drop(connection);
        match id {
            Some(id) => self.account(id).await,
            None => Ok(None),
        }
    }

    /// Everybody certified here, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} ORDER BY a.id")))
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(parse)
            .collect()
    }

    /// Unrevoked accounts whose newest certificate ends before `end` or was signed
    /// by one of `issuers`, soonest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts_to_renew(
        &self,
        end: Timestamp,
        issuers: &[Serial],
        limit: u32,
    ) -> Result<Vec<Account>> {
        let marks = vec!["?"; issuers.len()].join(", ");
        let text = format!(
            "{SELECT} WHERE a.revoked_at_ms IS NULL \
             AND (c.not_after_ms < ? OR c.issuer IN ({marks})) ORDER BY c.not_after_ms LIMIT ?"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(sql(end));
        for issuer in issuers {
            query = query.bind(issuer.to_vec());
        }
        query
            .bind(limit)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(parse)
            .collect()
    }

    /// Certifies a new account: account, certificate, redemption and decision in one commit.
    ///
    /// # Errors
    /// [`StoreError::HandleTaken`]; [`StoreError::Database`] when account or
    /// invite were taken in the meantime.
    pub async fn certify_new(
        &self,
        account: &NewAccount,
        certificate: &CertificateRow,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let handle = account.name.as_ref().map(|(handle, _)| handle.as_str());
        if let Some(handle) = handle
            && handle_of_account(&mut tx, handle).await?.is_some()
        {
            return Err(StoreError::HandleTaken);
        }
        sqlx::query(
            "INSERT INTO accounts (id, account_key, role, handle, display_name, device_list) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(account.id.as_bytes().as_slice())
        .bind(account.account_key.as_slice())
        .bind(account.role as i32)
        .bind(handle)
        .bind(account.name.as_ref().map(|(_, name)| name.as_str()))
        .bind(account.device_list.as_slice())
        .execute(&mut *tx)
        .await?;
        let key = &account.account_key;
        redeem(&mut tx, account.invite, account.id, key, now).await?;
        insert_certificate(&mut tx, account.id, certificate).await?;
        decide(&mut tx, account.id, "certified", reason, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Stores a renewal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certify_again(
        &self,
        account: AccountId,
        certificate: &CertificateRow,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        insert_certificate(&mut tx, account, certificate).await?;
        decide(&mut tx, account, "renewed", "", now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes a decision without a certificate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_decision(
        &self,
        account: AccountId,
        decision: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        decide(&mut connection, account, decision, reason, now).await
    }

    /// Newest certificates of unrevoked accounts that the relay has not taken and
    /// that are due to be tried at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn undelivered(&self, now: Timestamp) -> Result<Vec<Undelivered>> {
        sqlx::query(
            "SELECT c.account, c.serial, c.chain, c.attempts FROM certificates c \
             JOIN accounts a ON a.id = c.account \
             WHERE c.delivered_at_ms IS NULL AND c.next_try_at_ms <= ? AND a.revoked_at_ms IS NULL \
             AND c.number = (SELECT max(number) FROM certificates WHERE account = a.id) \
             ORDER BY c.number LIMIT 500",
        )
        .bind(sql(now))
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(|row| {
            Ok(Undelivered {
                account: AccountId::from(array(row.try_get(0)?, "certificates")?),
                serial: Serial::from(array(row.try_get(1)?, "certificates")?),
                chain: row.try_get(2)?,
                attempts: row.try_get(3)?,
            })
        })
        .collect()
    }

    /// The relay took a certificate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delivered(&self, serial: Serial, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE certificates SET delivered_at_ms = ? WHERE serial = ?")
            .bind(sql(now))
            .bind(serial.as_bytes().as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The relay did not take a certificate: it is tried again at `next`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn not_delivered(&self, serial: Serial, next: Timestamp) -> Result<()> {
        sqlx::query(
            "UPDATE certificates SET attempts = attempts + 1, next_try_at_ms = ? WHERE serial = ?",
        )
        .bind(sql(next))
        .bind(serial.as_bytes().as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The relay asks about an account again: its newest certificate is sent anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deliver_again(&self, account: AccountId) -> Result<()> {
        sqlx::query(
            "UPDATE certificates SET delivered_at_ms = NULL WHERE account = ?1 \
             AND delivered_at_ms IS NOT NULL \
             AND number = (SELECT max(number) FROM certificates WHERE account = ?1)",
        )
        .bind(account.as_bytes().as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Remembers a newer device list of an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn saw_device_list(&self, account: AccountId, list: &[u8]) -> Result<()> {
        sqlx::query("UPDATE accounts SET device_list = ? WHERE id = ?")
            .bind(list)
            .bind(account.as_bytes().as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn insert_certificate(
    connection: &mut SqliteConnection,
    account: AccountId,
    certificate: &CertificateRow,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO certificates (serial, account, issuer, not_before_ms, not_after_ms, chain) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(certificate.serial.as_bytes().as_slice())
    .bind(account.as_bytes().as_slice())
    .bind(certificate.issuer.as_bytes().as_slice())
    .bind(sql(certificate.not_before))
    .bind(sql(certificate.not_after))
    .bind(certificate.chain.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

async fn decide(
    connection: &mut SqliteConnection,
    account: AccountId,
    decision: &str,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query("INSERT INTO decisions (at_ms, account, decision, reason) VALUES (?, ?, ?, ?)")
        .bind(sql(now))
        .bind(account.as_bytes().as_slice())
        .bind(decision)
        .bind(reason)
        .execute(connection)
        .await?;
    Ok(())
}

fn parse(row: &SqliteRow) -> Result<Account> {
    let table = "accounts";
    let (handle, name): (Option<&str>, Option<String>) = (row.try_get(3)?, row.try_get(4)?);
    Ok(Account {
        id: AccountId::from(array(row.try_get(0)?, table)?),
        account_key: array(row.try_get(1)?, table)?,
        role: role_from_wire(row.try_get(2)?).ok_or(StoreError::Corrupt(table))?,
        name: match (handle, name) {
            (Some(handle), Some(name)) => {
                let handle = handle.parse().map_err(|_| StoreError::Corrupt(table))?;
                Some((handle, name))
            }
            _ => None,
        },
        device_list: row.try_get(5)?,
        revoked_at: row.try_get::<Option<i64>, _>(6)?.map(time),
        certificate: Serial::from(array(row.try_get(7)?, table)?),
        issuer: Serial::from(array(row.try_get(8)?, table)?),
        not_before: time(row.try_get(9)?),
        not_after: time(row.try_get(10)?),
        delivered_at: row.try_get::<Option<i64>, _>(11)?.map(time),
    })
}
