//! Table `meta`.

use sqlx::{Row as _, SqliteConnection};
use wardline_wire::clock::Timestamp;

use super::super::{Meta, Result};
use super::{array, sql, unsigned};
use crate::entropy::random;

/// Makes the one row, if there is none.
pub(super) async fn create(connection: &mut SqliteConnection) -> Result<()> {
    let token_seed = random::<32>()?;
    let privacy_key = random::<32>()?;
    sqlx::query(
        "INSERT INTO meta (id, mailbox_epoch, auth_generation, token_seed, privacy_key) \
         VALUES (1, 1, 1, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(token_seed.as_slice())
    .bind(privacy_key.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Meta> {
    let row = sqlx::query("SELECT token_seed, privacy_key FROM meta")
        .fetch_one(connection)
        .await?;
    Ok(Meta {
        token_seed: array(row.try_get(0)?, "meta")?,
        privacy_key: array(row.try_get(1)?, "meta")?,
    })
}

pub(super) async fn mailbox_epoch(connection: &mut SqliteConnection) -> Result<u64> {
    let epoch = sqlx::query_scalar("SELECT mailbox_epoch FROM meta")
        .fetch_one(connection)
        .await?;
    Ok(unsigned(epoch))
}

pub(super) async fn auth_generation(connection: &mut SqliteConnection) -> Result<u64> {
    let generation = sqlx::query_scalar("SELECT auth_generation FROM meta")
        .fetch_one(connection)
        .await?;
    Ok(unsigned(generation))
}

pub(super) async fn next_auth_generation(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::query("UPDATE meta SET auth_generation = auth_generation + 1")
        .execute(connection)
        .await?;
    Ok(())
}

/// A new epoch and a new token key. The epoch jumps to the time in seconds, so
/// that a backup restored twice does not show the same epoch twice.
pub(super) async fn raise_epoch(connection: &mut SqliteConnection, now: Timestamp) -> Result<u64> {
    let token_seed = random::<32>()?;
    let epoch = sqlx::query_scalar(
        "UPDATE meta SET mailbox_epoch = MAX(mailbox_epoch + 1, ?), token_seed = ? \
         RETURNING mailbox_epoch",
    )
    .bind(sql(now.as_secs()))
    .bind(token_seed.as_slice())
    .fetch_one(connection)
    .await?;
    Ok(unsigned(epoch))
}

/// A write that changes nothing.
pub(super) async fn touch(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::query("UPDATE meta SET auth_generation = auth_generation")
        .execute(connection)
        .await?;
    Ok(())
}
