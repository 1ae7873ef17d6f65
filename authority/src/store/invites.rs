//! Tables `invites` and `redemptions`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::directory::{Handle, role_from_wire};
use wardline_wire::ids::{AccountId, InviteId};
use wardline_wire::invite::InviteSecret;
use wardline_wire::proto::Role;

use super::{Result, Store, StoreError, array, sql, time};

/// What an invite of the authority's own is about.
#[derive(Clone)]
pub struct NewInvite {
    /// Its secret.
    pub secret: InviteSecret,
    /// Role the newcomer will have.
    pub role: Role,
    /// Who is shown as the inviter; `None`: the authority itself.
    pub inviter: Option<AccountId>,
    /// The inviter's access key, for patients to reach the inviter with.
    pub inviter_access_key: Option<[u8; 16]>,
    /// What the certificate will say; `None` for patients.
    pub name: Option<(Handle, String)>,
    /// The relay's address in the link.
    pub relay_url: String,
    /// The relay's pinned key in the link.
    pub relay_key: Option<[u8; 32]>,
    /// Last moment of validity.
    pub expires_at: Timestamp,
    /// The caller's own name for it.
    pub once: Option<String>,
}

/// An invite as stored.
#[derive(Clone)]
pub struct StoredInvite {
    /// What it is about. The secret is there while it can be redeemed.
    pub invite: NewInvite,
    /// Its id, also once the secret is gone.
    pub id: InviteId,
    /// When the relay took it.
    pub admitted_at: Option<Timestamp>,
    /// Who redeemed it.
    pub redeemed_by: Option<AccountId>,
}

const SELECT: &str = "SELECT i.id, i.secret, i.role, i.inviter, i.inviter_access_key, i.handle, \
     i.display_name, i.relay_url, i.relay_key, i.expires_at_ms, i.once, i.admitted_at_ms, \
     r.account FROM invites i LEFT JOIN redemptions r ON r.invite = i.id";

impl Store {
    /// Stores a new invite, or returns the one that the same command made before:
    /// the same `once`, or the same handle with the same everything.
    ///
    /// # Errors
    /// [`StoreError::HandleTaken`] when an account or an open invite has the
    /// handle; [`StoreError::OtherInvite`] when `once` names a different invite.
    pub async fn add_invite(&self, new: &NewInvite, now: Timestamp) -> Result<StoredInvite> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let handle = new.name.as_ref().map(|(handle, _)| handle.as_str());
        if let Some(once) = &new.once {
            let before = find_where(&mut tx, "i.once = ?", once.as_str()).await?;
            if let Some(before) = before {
                return if before.invite.is_same(new) {
                    Ok(before)
                } else {
                    Err(StoreError::OtherInvite)
                };
            }
        }
        if let Some(handle) = handle {
            let open = open_with_handle(&mut tx, handle, now).await?;
            if let Some(open) = open {
                return if new.once.is_none() && open.invite.is_same(new) {
                    Ok(open)
                } else {
                    Err(StoreError::HandleTaken)
                };
            }
            if handle_of_account(&mut tx, handle).await?.is_some() {
                return Err(StoreError::HandleTaken);
            }
        }
        sqlx::query(
            "INSERT INTO invites (id, secret, role, inviter, inviter_access_key, handle, \
             display_name, relay_url, relay_key, created_at_ms, expires_at_ms, once) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.secret.id().as_bytes().as_slice())
        .bind(new.secret.expose().as_slice())
        .bind(new.role as i32)
        .bind(new.inviter.map(|account| account.to_vec()))
        .bind(new.inviter_access_key.map(|key| key.to_vec()))
        .bind(handle)
        .bind(new.name.as_ref().map(|(_, name)| name.as_str()))
        .bind(new.relay_url.as_str())
        .bind(new.relay_key.map(|key| key.to_vec()))
        .bind(sql(now))
        .bind(sql(new.expires_at))
        .bind(new.once.as_deref())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(StoredInvite {
            id: new.secret.id(),
            invite: new.clone(),
            admitted_at: None,
            redeemed_by: None,
        })
    }

    /// The invite with this id, if it is one of the authority's own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invite(&self, id: InviteId) -> Result<Option<StoredInvite>> {
        let mut connection = self.pool.acquire().await?;
        find_where(&mut connection, "i.id = ?", id.as_bytes().as_slice()).await
    }

    /// The authority's own invites, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invites(&self, limit: u32) -> Result<Vec<StoredInvite>> {
        let text = format!("{SELECT} ORDER BY i.created_at_ms DESC, i.id LIMIT ?");
        sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(parse)
            .collect()
    }

    /// Open invites that the relay does not know yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invites_to_admit(&self, now: Timestamp) -> Result<Vec<StoredInvite>> {
        let text = format!(
            "{SELECT} WHERE i.admitted_at_ms IS NULL AND i.expires_at_ms > ? \
             AND r.account IS NULL ORDER BY i.created_at_ms LIMIT 200"
        );
        sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(sql(now))
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(parse)
            .collect()
    }

    /// The relay took the invite.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invite_admitted(&self, id: InviteId, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE invites SET admitted_at_ms = ? WHERE id = ?")
            .bind(sql(now))
            .bind(id.as_bytes().as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Who redeemed an invite: account and account key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redemption(&self, id: InviteId) -> Result<Option<(AccountId, [u8; 32])>> {
        let row = sqlx::query("SELECT account, account_key FROM redemptions WHERE invite = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let account = AccountId::from(array(row.try_get(0)?, "redemptions")?);
            Ok((account, array(row.try_get(1)?, "redemptions")?))
        })
        .transpose()
    }

    /// The open invite, other than `except`, that reserves a handle.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn handle_reserved(
        &self,
        handle: &Handle,
        except: InviteId,
        now: Timestamp,
    ) -> Result<bool> {
        let mut connection = self.pool.acquire().await?;
        let open = open_with_handle(&mut connection, handle.as_str(), now).await?;
        Ok(open.is_some_and(|open| open.id != except))
    }

    /// Wipes the secrets of invites that ended long ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_secrets(&self, before: Timestamp) -> Result<()> {
        sqlx::query("UPDATE invites SET secret = x'' WHERE expires_at_ms < ? AND secret <> x''")
            .bind(sql(before))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl NewInvite {
    /// Whether both are the same invite but for secret and time.
    fn is_same(&self, other: &Self) -> bool {
        self.role == other.role
            && self.inviter == other.inviter
            && self.inviter_access_key == other.inviter_access_key
            && self.name == other.name
            && self.relay_url == other.relay_url
            && self.relay_key == other.relay_key
    }
}

/// Marks an invite as redeemed and wipes its secret.
pub(super) async fn redeem(
    connection: &mut SqliteConnection,
    invite: InviteId,
    account: AccountId,
    account_key: &[u8; 32],
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO redemptions (invite, account, account_key, at_ms) VALUES (?, ?, ?, ?)",
    )
    .bind(invite.as_bytes().as_slice())
    .bind(account.as_bytes().as_slice())
    .bind(account_key.as_slice())
    .bind(sql(now))
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE invites SET secret = x'' WHERE id = ?")
        .bind(invite.as_bytes().as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// The unrevoked account that has a handle.
pub(super) async fn handle_of_account(
    connection: &mut SqliteConnection,
    handle: &str,
) -> Result<Option<AccountId>> {
    let row: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT id FROM accounts WHERE handle = ? AND revoked_at_ms IS NULL")
            .bind(handle)
            .fetch_optional(connection)
            .await?;
    row.map(|bytes| Ok(AccountId::from(array(&bytes, "accounts")?)))
        .transpose()
}

async fn open_with_handle(
    connection: &mut SqliteConnection,
    handle: &str,
    now: Timestamp,
) -> Result<Option<StoredInvite>> {
    let text = format!("{SELECT} WHERE i.handle = ? AND i.expires_at_ms > ? AND r.account IS NULL");
    sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(handle)
        .bind(sql(now))
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(parse)
        .transpose()
}

async fn find_where<'q, V>(
    connection: &mut SqliteConnection,
    condition: &'static str,
    value: V,
) -> Result<Option<StoredInvite>>
where
    V: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + 'q,
{
    sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE {condition}")))
        .bind(value)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(parse)
        .transpose()
}

fn parse(row: &SqliteRow) -> Result<StoredInvite> {
    let table = "invites";
    let secret: &[u8] = row.try_get(1)?;
    // A wiped secret reads as zeros: its id is another, so no proof can fit.
    let secret = match secret {
        [] => [0; 32],
        bytes => array(bytes, table)?,
    };
    let inviter: Option<&[u8]> = row.try_get(3)?;
    let access_key: Option<&[u8]> = row.try_get(4)?;
    let (handle, name): (Option<&str>, Option<String>) = (row.try_get(5)?, row.try_get(6)?);
    let relay_key: Option<&[u8]> = row.try_get(8)?;
    let redeemed_by: Option<&[u8]> = row.try_get(12)?;
    Ok(StoredInvite {
        id: InviteId::from(array(row.try_get(0)?, table)?),
        invite: NewInvite {
            secret: InviteSecret::new(secret),
            role: role_from_wire(row.try_get(2)?).ok_or(StoreError::Corrupt(table))?,
            inviter: inviter
                .map(|bytes| array(bytes, table).map(AccountId::from))
                .transpose()?,
            inviter_access_key: access_key.map(|bytes| array(bytes, table)).transpose()?,
            name: match (handle, name) {
                (Some(handle), Some(name)) => {
                    let handle = handle.parse().map_err(|_| StoreError::Corrupt(table))?;
                    Some((handle, name))
                }
                _ => None,
            },
            relay_url: row.try_get(7)?,
            relay_key: relay_key.map(|bytes| array(bytes, table)).transpose()?,
            expires_at: time(row.try_get(9)?),
            once: row.try_get(10)?,
        },
        admitted_at: row.try_get::<Option<i64>, _>(11)?.map(time),
        redeemed_by: redeemed_by
            .map(|bytes| array(bytes, "redemptions").map(AccountId::from))
            .transpose()?,
    })
}
