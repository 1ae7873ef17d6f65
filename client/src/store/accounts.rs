//! Accounts whose certificate and device list were verified.

use prost::Message as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::AccountId;
use wardline_wire::proto::{CertificateChain, Role, SignedBlob};

use super::{StoreError, account_of, array_of, millis, optional_array_of, signed, time_of, u64_of};

/// How an account stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is our own.
    Own,
    /// They wrote first and nobody has answered yet.
    Request,
    /// A contact.
    Accepted,
    /// Nothing of theirs is looked at.
    Blocked,
}

impl Relation {
    const fn text(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Request => "request",
            Self::Accepted => "accepted",
            Self::Blocked => "blocked",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        [Self::Own, Self::Request, Self::Accepted, Self::Blocked]
            .into_iter()
            .find(|relation| relation.text() == text)
            .ok_or(StoreError::Damaged("a relation"))
    }
}

/// A known account, as stored.
#[derive(Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "an account's key is the account key"
)]
pub(crate) struct Account {
    pub(crate) account: AccountId,
    pub(crate) account_key: [u8; 32],
    pub(crate) role: Role,
    pub(crate) handle: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) certificate: CertificateChain,
    pub(crate) device_list: SignedBlob,
    pub(crate) list_version: u64,
    pub(crate) access_key: Option<[u8; 16]>,
    pub(crate) profile_name: Option<String>,
    pub(crate) profile_version: u64,
    pub(crate) profile_told: u64,
    pub(crate) label: Option<String>,
    pub(crate) relation: Relation,
    pub(crate) verified: bool,
    /// Whether a new key waits for a person's decision.
    pub(crate) change_pending: bool,
    /// The state machine that decides all of the above ([`crate::contact::Contact`], encoded);
    /// `None` for our own account. The other columns show it to queries.
    pub(crate) contact: Option<Vec<u8>>,
    pub(crate) halted: Option<String>,
    pub(crate) fetched_at: Timestamp,
    pub(crate) first_seen_at: Timestamp,
}

fn read(row: &SqliteRow) -> Result<Account, StoreError> {
    let role: i64 = row.try_get("role")?;
    let certificate: &[u8] = row.try_get("certificate")?;
    let device_list: &[u8] = row.try_get("device_list")?;
    Ok(Account {
        account: account_of(row, "account")?,
        account_key: array_of(row, "account_key")?,
        role: i32::try_from(role)
            .ok()
            .and_then(role_from_wire)
            .ok_or(StoreError::Damaged("a role"))?,
        handle: row.try_get("handle")?,
        display_name: row.try_get("display_name")?,
        certificate: CertificateChain::decode(certificate)
            .map_err(|_| StoreError::Damaged("a certificate"))?,
        device_list: SignedBlob::decode(device_list)
            .map_err(|_| StoreError::Damaged("a device list"))?,
        list_version: u64_of(row, "list_version")?,
        access_key: optional_array_of(row, "access_key")?,
        profile_name: row.try_get("profile_name")?,
        profile_version: u64_of(row, "profile_version")?,
        profile_told: u64_of(row, "profile_told")?,
        label: row.try_get("label")?,
        relation: Relation::read(row.try_get("relation")?)?,
        verified: row.try_get("verified")?,
        change_pending: row.try_get("change_pending")?,
        contact: row.try_get("contact")?,
        halted: row.try_get("halted")?,
        fetched_at: time_of(row, "fetched_at")?,
        first_seen_at: time_of(row, "first_seen_at")?,
    })
}

pub(crate) async fn load(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Option<Account>, StoreError> {
    sqlx::query("SELECT * FROM accounts WHERE account = ?")
        .bind(account.to_vec())
        .fetch_optional(db)
        .await?
        .map(|row| read(&row))
        .transpose()
}

pub(crate) async fn all(db: &mut SqliteConnection) -> Result<Vec<Account>, StoreError> {
    sqlx::query("SELECT * FROM accounts ORDER BY first_seen_at, account")
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(crate) async fn save(db: &mut SqliteConnection, account: &Account) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO accounts (account, account_key, role, handle, display_name,
            certificate, device_list, list_version, access_key, profile_name, profile_version,
            profile_told, label, relation, verified, change_pending, contact, halted, fetched_at,
            first_seen_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET account_key = excluded.account_key, role = excluded.role,
            handle = excluded.handle, display_name = excluded.display_name,
            certificate = excluded.certificate, device_list = excluded.device_list,
            list_version = excluded.list_version, access_key = excluded.access_key,
            profile_name = excluded.profile_name, profile_version = excluded.profile_version,
            profile_told = excluded.profile_told, label = excluded.label,
            relation = excluded.relation, verified = excluded.verified,
            change_pending = excluded.change_pending, contact = excluded.contact,
            halted = excluded.halted,
            fetched_at = excluded.fetched_at",
    )
    .bind(account.account.to_vec())
    .bind(account.account_key.as_slice())
    .bind(i64::from(account.role as i32))
    .bind(&account.handle)
    .bind(&account.display_name)
    .bind(account.certificate.encode_to_vec())
    .bind(account.device_list.encode_to_vec())
    .bind(signed(account.list_version))
    .bind(account.access_key.map(Vec::from))
    .bind(&account.profile_name)
    .bind(signed(account.profile_version))
    .bind(signed(account.profile_told))
    .bind(&account.label)
    .bind(account.relation.text())
    .bind(account.verified)
    .bind(account.change_pending)
    .bind(&account.contact)
    .bind(&account.halted)
    .bind(millis(account.fetched_at))
    .bind(millis(account.first_seen_at))
    .execute(db)
    .await?;
    Ok(())
}

/// Accounts whose record was fetched before `before`, that we share an open conversation with.
pub(crate) async fn overdue(
    db: &mut SqliteConnection,
    before: Timestamp,
) -> Result<Vec<AccountId>, StoreError> {
    sqlx::query(
        "SELECT account FROM accounts WHERE fetched_at < ? AND relation <> 'blocked'
         ORDER BY fetched_at LIMIT 20",
    )
    .bind(millis(before))
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| account_of(row, "account"))
    .collect()
}

/// Remembers that a record was asked for, even when the answer changed nothing.
pub(crate) async fn touch(
    db: &mut SqliteConnection,
    account: AccountId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET fetched_at = ? WHERE account = ?")
        .bind(millis(now))
        .bind(account.to_vec())
        .execute(db)
        .await?;
    Ok(())
}

/// Gives out the next number for account-level content to an account.
pub(crate) async fn next_sequence(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<u64, StoreError> {
    let next: i64 = sqlx::query_scalar(
        "INSERT INTO account_sequences (account, next) VALUES (?, 2)
         ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next - 1",
    )
    .bind(account.to_vec())
    .fetch_one(db)
    .await?;
    Ok(super::unsigned(next))
}
