//! Tables `envelopes` and `mailboxes`.

use bytes::Bytes;
use sqlx::{Row as _, SqliteConnection};

use super::super::{BatchSize, Day, HeldEnvelope, Result, StoredEnvelope};
use super::{runs, sql, unsigned};
use crate::entropy::random;
use crate::mailbox::plan::{MailboxCounters, PlannedEnvelope};

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    envelopes: &[PlannedEnvelope],
    today: Day,
) -> Result<()> {
    for run in runs(envelopes) {
        let mut ids = Vec::with_capacity(run.len());
        for _ in run {
            ids.push(i64::from_le_bytes(random::<8>()?) & i64::MAX);
        }
        let mut query = sqlx::QueryBuilder::new(
            "INSERT INTO envelopes (id, mailbox, seq, stored_day, size, sender_account, \
             sender_device, type, ciphertext) ",
        );
        query.push_values(run.iter().zip(ids), |mut row, (envelope, id)| {
            row.push_bind(id)
                .push_bind(envelope.mailbox)
                .push_bind(sql(envelope.seq))
                .push_bind(sql(today.0))
                .push_bind(sql(envelope.body.len() as u64))
                .push_bind(envelope.sender.account.as_bytes().as_slice())
                .push_bind(envelope.sender.device.get())
                .push_bind(envelope.kind)
                .push_bind(envelope.body.as_ref());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn set_counters(
    connection: &mut SqliteConnection,
    counters: &[MailboxCounters],
) -> Result<()> {
    for run in runs(counters) {
        let mut query =
            sqlx::QueryBuilder::new("INSERT INTO mailboxes (device, next_seq, held, held_bytes) ");
        query.push_values(run, |mut row, counter| {
            row.push_bind(counter.mailbox)
                .push_bind(sql(counter.next_seq))
                .push_bind(sql(counter.held))
                .push_bind(sql(counter.held_bytes));
        });
        query.push(
            " ON CONFLICT (device) DO UPDATE SET next_seq = excluded.next_seq, \
             held = excluded.held, held_bytes = excluded.held_bytes",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Sequence of the newest ever, the next envelopes within bounds, and whether there are more.
pub(super) async fn after(
    connection: &mut SqliteConnection,
    mailbox: i64,
    after: u64,
    max: BatchSize,
) -> Result<(u64, Vec<StoredEnvelope>, bool)> {
    let next: i64 = sqlx::query_scalar("SELECT next_seq FROM mailboxes WHERE device = ?")
        .bind(mailbox)
        .fetch_one(&mut *connection)
        .await?;
    let newest = unsigned(next).saturating_sub(1);
    if max.envelopes == 0 {
        return Ok((newest, Vec::new(), false));
    }
    // Sizes first (from the index alone), so that no more than a batch is ever in memory.
    let sizes = sqlx::query(
        "SELECT seq, size FROM envelopes WHERE mailbox = ? AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(mailbox)
    .bind(sql(after))
    .bind(max.envelopes.saturating_add(1))
    .fetch_all(&mut *connection)
    .await?;
    let mut last = None;
    let mut bytes = 0;
    for (count, row) in (0..).zip(&sizes) {
        bytes += unsigned(row.try_get(1)?);
        if last.is_some() && (bytes > max.bytes || count == max.envelopes) {
            break;
        }
        last = Some(row.try_get::<i64, _>(0)?);
    }
    let Some(last) = last else {
        return Ok((newest, Vec::new(), false));
    };
    let envelopes = sqlx::query(
        "SELECT seq, sender_account, sender_device, type, ciphertext FROM envelopes \
         WHERE mailbox = ? AND seq > ? AND seq <= ? ORDER BY seq",
    )
    .bind(mailbox)
    .bind(sql(after))
    .bind(last)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(StoredEnvelope {
            seq: unsigned(row.try_get(0)?),
            sender_account: row.try_get(1)?,
            sender_device: row.try_get(2)?,
            kind: row.try_get(3)?,
            ciphertext: Bytes::from(row.try_get::<Vec<u8>, _>(4)?),
        })
    })
    .collect::<Result<Vec<_>>>()?;
    let more = sizes.len() > envelopes.len();
    Ok((newest, envelopes, more))
}

/// Deletes everything up to `seq`. Returns how many envelopes went.
pub(super) async fn delete_through(
    connection: &mut SqliteConnection,
    mailbox: i64,
    seq: u64,
) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM envelopes WHERE mailbox = ? AND seq <= ?",
    )
    .bind(mailbox)
    .bind(sql(seq))
    .fetch_one(&mut *connection)
    .await?;
    let (count, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if count == 0 {
        return Ok(0);
    }
    sqlx::query("DELETE FROM envelopes WHERE mailbox = ? AND seq <= ?")
        .bind(mailbox)
        .bind(sql(seq))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE mailboxes SET held = MAX(0, held - ?), held_bytes = MAX(0, held_bytes - ?) \
         WHERE device = ?",
    )
    .bind(count)
    .bind(bytes)
    .bind(mailbox)
    .execute(connection)
    .await?;
    Ok(unsigned(count))
}

pub(super) async fn delete_all(connection: &mut SqliteConnection, mailbox: i64) -> Result<()> {
    delete_through(connection, mailbox, u64::MAX).await?;
    Ok(())
}

/// Mailboxes with envelopes stored before `day`, and the last such sequence. Days
/// grow with sequences, so these are always the front of a mailbox.
pub(super) async fn overdue(
    connection: &mut SqliteConnection,
    day: Day,
) -> Result<Vec<(i64, u64)>> {
    sqlx::query("SELECT mailbox, MAX(seq) FROM envelopes WHERE stored_day < ? GROUP BY mailbox")
        .bind(sql(day.0))
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, unsigned(row.try_get(1)?))))
        .collect()
}

/// What the mailboxes hold, in order within each, at most `limit`.
pub(super) async fn held(
    connection: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<HeldEnvelope>> {
    sqlx::query(
        "SELECT devices.account, devices.device, envelopes.seq, envelopes.ciphertext \
         FROM envelopes JOIN devices ON devices.id = envelopes.mailbox \
         ORDER BY devices.account, devices.device, envelopes.seq LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        Ok(HeldEnvelope {
            account: row.try_get(0)?,
            device: row.try_get(1)?,
            seq: unsigned(row.try_get(2)?),
            ciphertext: row.try_get(3)?,
        })
    })
    .collect()
}
