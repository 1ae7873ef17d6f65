//! Small tables: notices, jobs, invites, the revocation list.

use prost::Message as _;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::{RevocationBundle, Role};

use super::{StoreError, account_of, array_of, millis, signed, time_of, u64_of, unsigned};

/// A notice as stored; `notice.rs` gives it its words.
pub(crate) struct NoticeRow {
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) account: Option<AccountId>,
    pub(crate) conversation: Option<Vec<u8>>,
    pub(crate) detail: String,
}

pub(crate) async fn add_notice(
    db: &mut SqliteConnection,
    kind: &str,
    account: Option<AccountId>,
    conversation: Option<&[u8]>,
    detail: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO notices (at, kind, account, conversation, detail) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(millis(now))
    .bind(kind)
    .bind(account.map(|account| account.to_vec()))
    .bind(conversation)
    .bind(detail)
    .execute(db)
    .await?;
    Ok(unsigned(done.last_insert_rowid()))
}

pub(crate) async fn notices_after(
    db: &mut SqliteConnection,
    after: u64,
    limit: u32,
) -> Result<Vec<NoticeRow>, StoreError> {
    sqlx::query("SELECT * FROM notices WHERE id > ? ORDER BY id LIMIT ?")
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            let account: Option<&[u8]> = row.try_get("account")?;
            Ok(NoticeRow {
                id: u64_of(row, "id")?,
                at: time_of(row, "at")?,
                kind: row.try_get("kind")?,
                account: account
                    .map(AccountId::from_slice)
                    .transpose()
                    .map_err(|_| StoreError::Damaged("a notice"))?,
                conversation: row.try_get("conversation")?,
                detail: row.try_get("detail")?,
            })
        })
        .collect()
}

/// Stores a question for the AI endpoint.
pub(crate) async fn add_job(
    db: &mut SqliteConnection,
    local_id: u64,
    conversation: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO jobs (local_id, conversation, created_at) VALUES (?, ?, ?)")
        .bind(signed(local_id))
        .bind(conversation)
        .bind(millis(now))
        .execute(db)
        .await?;
    Ok(())
}

/// The oldest job after `after` that is not done: (job id, message).
pub(crate) async fn next_job(
    db: &mut SqliteConnection,
    after: u64,
) -> Result<Option<(u64, u64)>, StoreError> {
    sqlx::query("SELECT id, local_id FROM jobs WHERE done = 0 AND id > ? ORDER BY id LIMIT 1")
        .bind(signed(after))
        .fetch_optional(db)
        .await?
        .map(|row| Ok((u64_of(&row, "id")?, u64_of(&row, "local_id")?)))
        .transpose()
}

/// Marks a job as done; `false` if it was already, or there is no such job.
pub(crate) async fn finish_job(db: &mut SqliteConnection, job: u64) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE jobs SET done = 1 WHERE id = ? AND done = 0")
        .bind(signed(job))
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// An invite that this client made.
pub(crate) struct InviteRow {
    pub(crate) id: InviteId,
    pub(crate) secret: InviteSecret,
    pub(crate) role: Role,
    pub(crate) label: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) redeemed_by: Option<AccountId>,
}

pub(crate) async fn add_invite(
    db: &mut SqliteConnection,
    invite: &InviteRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO invites (invite_id, secret, role, label, expires_at, created_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(invite.id.to_vec())
    .bind(invite.secret.expose().as_slice())
    .bind(i64::from(invite.role as i32))
    .bind(&invite.label)
    .bind(millis(invite.expires_at))
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn invite(
    db: &mut SqliteConnection,
    id: InviteId,
) -> Result<Option<InviteRow>, StoreError> {
    sqlx::query("SELECT * FROM invites WHERE invite_id = ?")
        .bind(id.to_vec())
        .fetch_optional(db)
        .await?
        .map(|row| {
            let role: i64 = row.try_get("role")?;
            let redeemed: Option<&[u8]> = row.try_get("redeemed_by")?;
            Ok(InviteRow {
                id: InviteId::from(array_of::<32>(&row, "invite_id")?),
                secret: InviteSecret::new(array_of(&row, "secret")?),
                role: i32::try_from(role)
                    .ok()
                    .and_then(role_from_wire)
                    .ok_or(StoreError::Damaged("an invite"))?,
                label: row.try_get("label")?,
                expires_at: time_of(&row, "expires_at")?,
                redeemed_by: redeemed
                    .map(AccountId::from_slice)
                    .transpose()
                    .map_err(|_| StoreError::Damaged("an invite"))?,
            })
        })
        .transpose()
}

pub(crate) async fn redeem_invite(
    db: &mut SqliteConnection,
    id: InviteId,
    account: AccountId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE invites SET redeemed_by = ? WHERE invite_id = ?")
        .bind(account.to_vec())
        .bind(id.to_vec())
        .execute(db)
        .await?;
    Ok(())
}

/// The pinned revocation list and when it was last asked for.
pub(crate) async fn revocations(
    db: &mut SqliteConnection,
) -> Result<Option<(RevocationBundle, Timestamp)>, StoreError> {
    sqlx::query("SELECT bundle, fetched_at FROM revocations")
        .fetch_optional(db)
        .await?
        .map(|row| {
            let bundle: &[u8] = row.try_get("bundle")?;
            Ok((
                RevocationBundle::decode(bundle)
                    .map_err(|_| StoreError::Damaged("the revocation list"))?,
                time_of(&row, "fetched_at")?,
            ))
        })
        .transpose()
}

pub(crate) async fn save_revocations(
    db: &mut SqliteConnection,
    bundle: &RevocationBundle,
    number: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO revocations (id, bundle, number, fetched_at) VALUES (1, ?, ?, ?)",
    )
    .bind(bundle.encode_to_vec())
    .bind(signed(number))
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

/// Accounts in `notices` of one kind since a time: so that one fault is told once.
pub(crate) async fn noticed_since(
    db: &mut SqliteConnection,
    kind: &str,
    account: AccountId,
    since: Timestamp,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT account FROM notices WHERE kind = ? AND account = ? AND at >= ?")
        .bind(kind)
        .bind(account.to_vec())
        .bind(millis(since))
        .fetch_optional(db)
        .await?;
    row.map(|row| account_of(&row, "account"))
        .transpose()
        .map(|found| found.is_some())
}

pub(crate) async fn save_introduction(
    db: &mut SqliteConnection,
    account: AccountId,
    access_key: &[u8; 16],
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO introductions (account, access_key) VALUES (?, ?)")
        .bind(account.to_vec())
        .bind(access_key.as_slice())
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn take_introduction(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Option<[u8; 16]>, StoreError> {
    sqlx::query("DELETE FROM introductions WHERE account = ? RETURNING access_key")
        .bind(account.to_vec())
        .fetch_optional(db)
        .await?
        .map(|row| array_of(&row, "access_key"))
        .transpose()
}

/// The message and conversation of a job.
pub(crate) async fn job_message(
    db: &mut SqliteConnection,
    job: u64,
) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    sqlx::query("SELECT local_id, conversation FROM jobs WHERE id = ?")
        .bind(signed(job))
        .fetch_optional(db)
        .await?
        .map(|row| Ok((u64_of(&row, "local_id")?, row.try_get("conversation")?)))
        .transpose()
}

pub(crate) async fn save_synced_contact(
    db: &mut SqliteConnection,
    account: AccountId,
    contact: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO synced_contacts (account, contact) VALUES (?, ?)")
        .bind(account.to_vec())
        .bind(contact)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn take_synced_contact(
    db: &mut SqliteConnection,
    account: AccountId,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(
        sqlx::query_scalar("DELETE FROM synced_contacts WHERE account = ? RETURNING contact")
            .bind(account.to_vec())
            .fetch_optional(db)
            .await?,
    )
}

/// Number of the pinned revocation list, 0 for none.
pub(crate) async fn revocation_number(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let number: Option<i64> = sqlx::query_scalar("SELECT number FROM revocations")
        .fetch_optional(db)
        .await?;
    Ok(number.map_or(0, unsigned))
}
