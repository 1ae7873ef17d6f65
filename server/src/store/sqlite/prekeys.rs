//! Tables `signed_prekeys` and `one_time_prekeys`.

use sqlx::{Row as _, SqliteConnection};
use wardline_wire::ids::{AccountId, DeviceId};

use super::super::{Bundle, Day, NewPreKeys, OneTimeKey, Result, SignedKey, Stock};
use super::sql;

/// Column `kind`.
const CURVE: i32 = 0;
const KYBER: i32 = 1;

/// `false`, with nothing to keep, when an id is held or was.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    device: i64,
    keys: &NewPreKeys,
) -> Result<bool> {
    sqlx::query("INSERT INTO signed_prekeys (device) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(device)
        .execute(&mut *connection)
        .await?;
    if let Some(key) = &keys.signed {
        sqlx::query(
            "UPDATE signed_prekeys SET signed_id = ?, signed_public = ?, signed_signature = ? \
             WHERE device = ?",
        )
        .bind(key.id)
        .bind(key.public_key.as_slice())
        .bind(key.signature.as_slice())
        .bind(device)
        .execute(&mut *connection)
        .await?;
    }
    if let Some(key) = &keys.last_resort_kyber {
        // One-time and last-resort Kyber prekeys share the owner's numbers.
        let held: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM one_time_prekeys WHERE device = ? AND kind = ? AND id = ?)",
        )
        .bind(device)
        .bind(KYBER)
        .bind(key.id)
        .fetch_one(&mut *connection)
        .await?;
        if held {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE signed_prekeys SET kyber_id = ?, kyber_public = ?, kyber_signature = ? \
             WHERE device = ?",
        )
        .bind(key.id)
        .bind(key.public_key.as_slice())
        .bind(key.signature.as_slice())
        .bind(device)
        .execute(&mut *connection)
        .await?;
    }
    for key in &keys.one_time {
        if !insert_one_time(connection, device, CURVE, key.id, &key.public_key, None).await? {
            return Ok(false);
        }
    }
    let last_resort: Option<u32> =
        sqlx::query_scalar("SELECT kyber_id FROM signed_prekeys WHERE device = ?")
            .bind(device)
            .fetch_one(&mut *connection)
            .await?;
    for key in &keys.one_time_kyber {
        let signature = Some(key.signature.as_slice());
        if last_resort == Some(key.id)
            || !insert_one_time(
                connection,
                device,
                KYBER,
                key.id,
                &key.public_key,
                signature,
            )
            .await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn insert_one_time(
    connection: &mut SqliteConnection,
    device: i64,
    kind: i32,
    id: u32,
    public_key: &[u8],
    signature: Option<&[u8]>,
) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO one_time_prekeys (device, kind, id, public_key, signature) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(device)
    .bind(kind)
    .bind(id)
    .bind(public_key)
    .bind(signature)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

pub(super) async fn stock(
    connection: &mut SqliteConnection,
    device: i64,
    mailbox_epoch: u64,
) -> Result<Stock> {
    let row = sqlx::query("SELECT signed_id, kyber_id FROM signed_prekeys WHERE device = ?")
        .bind(device)
        .fetch_optional(&mut *connection)
        .await?;
    let (signed_id, kyber_id): (Option<u32>, Option<u32>) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (None, None),
    };
    Ok(Stock {
        mailbox_epoch,
        one_time: count(connection, device, CURVE).await?,
        one_time_kyber: count(connection, device, KYBER).await?,
        signed_id: signed_id.unwrap_or(0),
        last_resort_kyber_id: kyber_id.unwrap_or(0),
    })
}

async fn count(connection: &mut SqliteConnection, device: i64, kind: i32) -> Result<u32> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM one_time_prekeys \
         WHERE device = ? AND kind = ? AND public_key IS NOT NULL",
    )
    .bind(device)
    .bind(kind)
    .fetch_one(connection)
    .await?)
}

/// Takes one bundle. `None` while the device has no signed or no Kyber prekey.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    device: DeviceId,
    row: i64,
    today: Day,
) -> Result<Option<Bundle>> {
    let Some(fixed) = sqlx::query(
        "SELECT d.registration_id, d.identity_key, s.signed_id, s.signed_public, \
         s.signed_signature, s.kyber_id, s.kyber_public, s.kyber_signature \
         FROM signed_prekeys s JOIN devices d ON d.id = s.device WHERE s.device = ?",
    )
    .bind(row)
    .fetch_optional(&mut *connection)
    .await?
    else {
        return Ok(None);
    };
    let signed = |id: Option<u32>, public_key: Option<Vec<u8>>, signature: Option<Vec<u8>>| {
        Some(SignedKey {
            id: id?,
            public_key: public_key?,
            signature: signature?,
        })
    };
    let signed_prekey = signed(fixed.try_get(2)?, fixed.try_get(3)?, fixed.try_get(4)?);
    let last_resort = signed(fixed.try_get(5)?, fixed.try_get(6)?, fixed.try_get(7)?);
    let (Some(signed_prekey), Some(last_resort)) = (signed_prekey, last_resort) else {
        return Ok(None);
    };
    let one_time = take_one_time(connection, row, CURVE, today).await?;
    let kyber = take_one_time(connection, row, KYBER, today).await?;
    Ok(Some(Bundle {
        device,
        registration_id: fixed.try_get(0)?,
        identity_key: fixed.try_get(1)?,
        signed: signed_prekey,
        kyber_is_last_resort: kyber.is_none(),
        kyber: kyber.unwrap_or(last_resort),
        one_time: one_time.map(|key| OneTimeKey {
            id: key.id,
            public_key: key.public_key,
        }),
        left: (
            count(connection, row, CURVE).await?,
            count(connection, row, KYBER).await?,
        ),
    }))
}

async fn take_one_time(
    connection: &mut SqliteConnection,
    device: i64,
    kind: i32,
    today: Day,
) -> Result<Option<SignedKey>> {
    let found = sqlx::query(
        "SELECT id, public_key, signature FROM one_time_prekeys \
         WHERE device = ? AND kind = ? AND public_key IS NOT NULL ORDER BY id LIMIT 1",
    )
    .bind(device)
    .bind(kind)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let id: u32 = found.try_get(0)?;
    sqlx::query(
        "UPDATE one_time_prekeys SET public_key = NULL, signature = NULL, taken_day = ? \
         WHERE device = ? AND kind = ? AND id = ?",
    )
    .bind(sql(today.0))
    .bind(device)
    .bind(kind)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(Some(SignedKey {
        id,
        public_key: found.try_get(1)?,
        signature: found.try_get::<Option<Vec<u8>>, _>(2)?.unwrap_or_default(),
    }))
}

/// Takes every one-time prekey out of circulation; ids stay taken.
pub(super) async fn drop_one_time(connection: &mut SqliteConnection, today: Day) -> Result<()> {
    sqlx::query(
        "UPDATE one_time_prekeys SET public_key = NULL, signature = NULL, taken_day = ? \
         WHERE public_key IS NOT NULL",
    )
    .bind(sql(today.0))
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops all prekeys of a device that is gone.
pub(super) async fn drop_all(connection: &mut SqliteConnection, device: i64) -> Result<()> {
    sqlx::query("DELETE FROM one_time_prekeys WHERE device = ?")
        .bind(device)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM signed_prekeys WHERE device = ?")
        .bind(device)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn drop_all_of_account(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM one_time_prekeys WHERE device IN (SELECT id FROM devices WHERE account = ?)",
    )
    .bind(account.as_bytes().as_slice())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM signed_prekeys WHERE device IN (SELECT id FROM devices WHERE account = ?)",
    )
    .bind(account.as_bytes().as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn forget_taken(connection: &mut SqliteConnection, before: Day) -> Result<()> {
    sqlx::query("DELETE FROM one_time_prekeys WHERE public_key IS NULL AND taken_day < ?")
        .bind(sql(before.0))
        .execute(connection)
        .await?;
    Ok(())
}
