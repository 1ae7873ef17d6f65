//! Tables `revocations` and `revocation_lists`.

use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::Serial;
use wardline_wire::proto::{Revocation, RevocationKind};

use super::{Result, Store, StoreError, array, sql, time};

/// One entry of the revocation list, with the authority's reason.
#[derive(Clone)]
pub struct RevocationRow {
    /// What it takes back.
    pub kind: RevocationKind,
    /// Serial or account id.
    pub id: [u8; 16],
    /// When.
    pub revoked_at: Timestamp,
    /// Why; stays here.
    pub reason: String,
}

/// A list as stored.
#[derive(Clone)]
pub struct ListRow {
    /// Grows with every list.
    pub number: u64,
    /// Encoded `RevocationBundle`.
    pub bundle: Vec<u8>,
    /// How many entries it has.
    pub entries: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// When the relay took it.
    pub published_at: Option<Timestamp>,
}

impl RevocationRow {
    /// As the list carries it.
    pub fn to_wire(&self) -> Revocation {
        Revocation {
            kind: self.kind.into(),
            id: self.id.to_vec(),
            revoked_at_ms: self.revoked_at.as_millis(),
        }
    }
}

impl Store {
    /// Adds entries; those that are there already stay as they are. Accounts that
    /// are revoked, or whose newest certificate is, are not renewed any more, and
    /// their handles are free. Returns how many entries are new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, entries: &[RevocationRow]) -> Result<usize> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut added = 0;
        for entry in entries {
            let inserted = sqlx::query(
                "INSERT INTO revocations (kind, id, revoked_at_ms, reason) VALUES (?, ?, ?, ?) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(entry.kind as i32)
            .bind(entry.id.as_slice())
            .bind(sql(entry.revoked_at))
            .bind(entry.reason.as_str())
            .execute(&mut *tx)
            .await?;
            if inserted.rows_affected() == 1 {
                added += 1;
                end_accounts(&mut tx, entry).await?;
            }
        }
        tx.commit().await?;
        Ok(added)
    }

    /// Everything revoked so far, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocations(&self) -> Result<Vec<RevocationRow>> {
        sqlx::query(
            "SELECT kind, id, revoked_at_ms, reason FROM revocations ORDER BY revoked_at_ms, kind, id",
        )
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(|row| {
            let kind = RevocationKind::try_from(row.try_get::<i32, _>(0)?)
                .map_err(|_| StoreError::Corrupt("revocations"))?;
            Ok(RevocationRow {
                kind,
                id: array(row.try_get(1)?, "revocations")?,
                revoked_at: time(row.try_get(2)?),
                reason: row.try_get(3)?,
            })
        })
        .collect()
    }

    /// Serials of revoked issuers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoked_issuers(&self) -> Result<Vec<Serial>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM revocations WHERE kind = ?")
            .bind(RevocationKind::Issuer as i32)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|id| Ok(Serial::from(array(id, "revocations")?)))
            .collect()
    }

    /// The newest list.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_list(&self) -> Result<Option<ListRow>> {
        let row = sqlx::query(
            "SELECT number, bundle, entries, issued_at_ms, next_update_ms, published_at_ms \
             FROM revocation_lists ORDER BY number DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let unsigned =
                |value: i64| u64::try_from(value).map_err(|_| StoreError::Corrupt("lists"));
            Ok(ListRow {
                number: unsigned(row.try_get(0)?)?,
                bundle: row.try_get(1)?,
                entries: unsigned(row.try_get(2)?)?,
                issued_at: time(row.try_get(3)?),
                next_update: time(row.try_get(4)?),
                published_at: row.try_get::<Option<i64>, _>(5)?.map(time),
            })
        })
        .transpose()
    }

    /// Stores a list before it is sent. `false` when one of this number is there:
    /// another command was faster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_list(&self, list: &ListRow) -> Result<bool> {
        let number = i64::try_from(list.number).map_err(|_| StoreError::Corrupt("lists"))?;
        let inserted = sqlx::query(
            "INSERT INTO revocation_lists (number, bundle, entries, issued_at_ms, next_update_ms) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(number)
        .bind(list.bundle.as_slice())
        .bind(i64::try_from(list.entries).unwrap_or(i64::MAX))
        .bind(sql(list.issued_at))
        .bind(sql(list.next_update))
        .execute(&self.pool)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// The relay took a list.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_published(&self, number: u64, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE revocation_lists SET published_at_ms = ? WHERE number = ?")
            .bind(sql(now))
            .bind(i64::try_from(number).map_err(|_| StoreError::Corrupt("lists"))?)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn end_accounts(connection: &mut SqliteConnection, entry: &RevocationRow) -> Result<()> {
    let statement = match entry.kind {
        RevocationKind::Account => {
            "UPDATE accounts SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL"
        }
        RevocationKind::Certificate => {
            "UPDATE accounts SET revoked_at_ms = ? \
             WHERE id = (SELECT account FROM certificates WHERE serial = ?) AND revoked_at_ms IS NULL"
        }
        // Accounts under a revoked issuer are certified anew by another one.
        RevocationKind::Issuer | RevocationKind::Unspecified => return Ok(()),
    };
    sqlx::query(statement)
        .bind(sql(entry.revoked_at))
        .bind(entry.id.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}
