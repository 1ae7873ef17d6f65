//! Tables `invites` and `enrolments`.

use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::role_from_wire;
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::proto::Role;

use super::super::{DAY_MS, Invite, NewAccount, Placed, Result, StoreError};
use super::{array, sql, unsigned};

/// How long an invite outlives its end, so that a late newcomer hears "expired"
/// and not "unknown", and a repeated redemption stays idempotent.
const KEPT_AFTER_END_MS: u64 = 90 * DAY_MS;

pub(super) async fn admit(connection: &mut SqliteConnection, invite: &Invite) -> Result<Placed> {
    let stored = sqlx::query(
        "SELECT role, expires_at_ms, sealed_request, used_by IS NOT NULL FROM invites WHERE id = ?",
    )
    .bind(invite.id.as_bytes().as_slice())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(stored) = stored {
        let (role, expires_at): (i32, i64) = (stored.try_get(0)?, stored.try_get(1)?);
        let sealed: &[u8] = stored.try_get(2)?;
        let used: bool = stored.try_get(3)?;
        // The sealed request of a redeemed invite goes once the enrolment is decided.
        let same = role == invite.role as i32
            && expires_at == sql(invite.expires_at.as_millis())
            && (sealed == invite.sealed_request || (used && sealed.is_empty()));
        return Ok(if same { Placed::Same } else { Placed::Conflict });
    }
    sqlx::query(
        "INSERT INTO invites (id, role, expires_at_ms, sealed_request) VALUES (?, ?, ?, ?)",
    )
    .bind(invite.id.as_bytes().as_slice())
    .bind(invite.role as i32)
    .bind(sql(invite.expires_at.as_millis()))
    .bind(invite.sealed_request.as_slice())
    .execute(connection)
    .await?;
    Ok(Placed::Stored)
}

/// Role, who redeemed it, and its end.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: InviteId,
) -> Result<Option<(Role, Option<AccountId>, Timestamp)>> {
    let row = sqlx::query("SELECT role, used_by, expires_at_ms FROM invites WHERE id = ?")
        .bind(id.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let used_by = row
        .try_get::<Option<Vec<u8>>, _>(1)?
        .map(|bytes| array(&bytes, "invites").map(AccountId::from))
        .transpose()?;
    Ok(Some((
        role_from_wire(row.try_get(0)?).ok_or(StoreError::Corrupt("invites"))?,
        used_by,
        Timestamp::from_millis(unsigned(row.try_get(2)?)),
    )))
}

/// Marks the invite as used and lays the request on the issuer's desk.
pub(super) async fn redeem(connection: &mut SqliteConnection, account: &NewAccount) -> Result<()> {
    sqlx::query("UPDATE invites SET used_by = ? WHERE id = ?")
        .bind(account.id.as_bytes().as_slice())
        .bind(account.invite.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO enrolments (account, request) VALUES (?, ?)")
        .bind(account.id.as_bytes().as_slice())
        .bind(account.request.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Requests with their sealed requests, at most `limit`.
pub(super) async fn pending(
    connection: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    sqlx::query(
        "SELECT e.request, i.sealed_request FROM enrolments e \
         JOIN invites i ON i.used_by = e.account ORDER BY e.account LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
    .collect()
}

/// Clears the desk: once decided, neither proof nor sealed request is needed.
pub(super) async fn decided(connection: &mut SqliteConnection, account: AccountId) -> Result<()> {
    sqlx::query("DELETE FROM enrolments WHERE account = ?")
        .bind(account.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE invites SET sealed_request = x'' WHERE used_by = ?")
        .bind(account.as_bytes().as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn forget(connection: &mut SqliteConnection, now: Timestamp) -> Result<()> {
    sqlx::query(
        "DELETE FROM invites WHERE expires_at_ms < ? \
         AND (used_by IS NULL OR used_by NOT IN (SELECT account FROM enrolments))",
    )
    .bind(sql(now.minus_millis(KEPT_AFTER_END_MS).as_millis()))
    .execute(connection)
    .await?;
    Ok(())
}
