//! Tables `issuers` and `revocations`.

use sqlx::SqliteConnection;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::Serial;
use wardline_wire::limits::CLOCK_TOLERANCE_MS;

use super::super::{NewRevocations, Result};
use super::sql;

pub(super) async fn publish(
    connection: &mut SqliteConnection,
    serial: Serial,
    blob: &[u8],
    not_after: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO issuers (serial, blob, not_after_ms) VALUES (?, ?, ?) \
         ON CONFLICT (serial) DO UPDATE SET blob = excluded.blob, not_after_ms = excluded.not_after_ms",
    )
    .bind(serial.as_bytes().as_slice())
    .bind(blob)
    .bind(sql(not_after.as_millis()))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn newest(connection: &mut SqliteConnection, limit: u32) -> Result<Vec<Vec<u8>>> {
    Ok(
        sqlx::query_scalar("SELECT blob FROM issuers ORDER BY not_after_ms DESC, serial LIMIT ?")
            .bind(limit)
            .fetch_all(connection)
            .await?,
    )
}

pub(super) async fn forget(connection: &mut SqliteConnection, now: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM issuers WHERE not_after_ms < ?")
        .bind(sql(now.minus_millis(CLOCK_TOLERANCE_MS).as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn revocations(connection: &mut SqliteConnection) -> Result<Option<Vec<u8>>> {
    Ok(sqlx::query_scalar("SELECT bundle FROM revocations")
        .fetch_optional(connection)
        .await?)
}

/// `false` when a higher number is stored.
pub(super) async fn set_revocations(
    connection: &mut SqliteConnection,
    revocations: &NewRevocations,
) -> Result<bool> {
    let changed = sqlx::query(
        "INSERT INTO revocations (id, number, bundle) VALUES (1, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET number = excluded.number, bundle = excluded.bundle \
         WHERE excluded.number >= revocations.number",
    )
    .bind(sql(revocations.number))
    .bind(revocations.bundle.as_slice())
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}
