//! Table `sends`: what was accepted under which idempotency key.

use sqlx::{Row as _, SqliteConnection};

use super::super::{Day, Result};
use super::{array, runs, sql};
use crate::mailbox::plan::Digest;

pub(super) async fn remembered(
    connection: &mut SqliteConnection,
    keys: &[Digest],
) -> Result<Vec<(Digest, Digest)>> {
    let mut found = Vec::new();
    for run in runs(keys) {
        let mut query = sqlx::QueryBuilder::new("SELECT key, content FROM sends WHERE key IN (");
        let mut list = query.separated(", ");
        for key in run {
            list.push_bind(key.as_slice());
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *connection).await? {
            found.push((
                array(row.try_get(0)?, "sends")?,
                array(row.try_get(1)?, "sends")?,
            ));
        }
    }
    Ok(found)
}

pub(super) async fn remember(
    connection: &mut SqliteConnection,
    sends: &[(Digest, Digest)],
    today: Day,
) -> Result<()> {
    for run in runs(sends) {
        let mut query = sqlx::QueryBuilder::new("INSERT INTO sends (key, content, stored_day) ");
        query.push_values(run, |mut row, (key, content)| {
            row.push_bind(key.as_slice())
                .push_bind(content.as_slice())
                .push_bind(sql(today.0));
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn forget(connection: &mut SqliteConnection, before: Day) -> Result<()> {
    sqlx::query("DELETE FROM sends WHERE stored_day < ?")
        .bind(sql(before.0))
        .execute(connection)
        .await?;
    Ok(())
}
