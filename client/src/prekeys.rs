//! Our prekeys: made, stored, uploaded, rotated, forgotten, in this order.
//!
//! Private parts are committed before their public parts leave: a crash in between costs keys
//! that nobody was given, never a key that somebody was given and we lost.

use wardline_crypto::prekey::{KyberPreKey, OneTimePreKey, SignedPreKey};
use wardline_crypto::timestamp::Timestamp as CryptoTimestamp;
use wardline_wire::limits::MAX_PREKEYS_PER_UPLOAD;
use wardline_wire::proto::{self, PreKeyStock, PreKeyUpload};

use crate::random;
use crate::store::prekeys::{self as table, Kind};
use crate::store::{StoreError, own};
use crate::turn::{Call, Turn};

/// Signed and last-resort prekeys are replaced weekly.
const ROTATE_AFTER_MS: u64 = 7 * 24 * 3_600_000;
/// Their private parts outlive the mailbox's 30 days by two rotations.
const KEEP_REPLACED_MS: u64 = 45 * 24 * 3_600_000;
/// The relay is filled up to this many of each one-time kind.
const FULL: u32 = 100;
/// Below this many an upload is worth its bytes.
const LOW: u32 = 50;

/// Makes what is missing or due and asks for its upload. `stock` is what the relay says it holds.
pub(crate) async fn replenish(turn: &mut Turn<'_>, stock: &PreKeyStock) -> Result<(), StoreError> {
    let epoch = stock.mailbox_epoch;
    note_epoch(turn, epoch).await?;
    let signed = current_signed(turn).await?;
    let last_resort = current_last_resort(turn).await?;
    let one_time = one_time_to_upload(turn, stock.one_time_prekeys).await?;
    let one_time_kyber = one_time_kyber_to_upload(turn, stock.one_time_kyber_prekeys).await?;
    let new_signed = stock.signed_prekey_id != signed.id().0;
    let new_last_resort = stock.last_resort_kyber_prekey_id != last_resort.id().0;
    table::forget_replaced(turn.db, turn.now.minus_millis(KEEP_REPLACED_MS)).await?;
    if !new_signed && !new_last_resort && one_time.is_empty() && one_time_kyber.is_empty() {
        return Ok(());
    }
    turn.call(Call::Upload(Box::new(PreKeyUpload {
        mailbox_epoch: epoch,
        signed_prekey: new_signed.then(|| {
            let public = signed.public();
            proto::SignedPreKey {
                id: public.id.0,
                public_key: public.key.as_bytes().to_vec(),
                signature: public.signature.to_vec(),
            }
        }),
        last_resort_kyber_prekey: new_last_resort.then(|| wire_kyber(&last_resort)),
        one_time_prekeys: one_time
            .iter()
            .map(|prekey| proto::OneTimePreKey {
                id: prekey.id().0,
                public_key: prekey.public().key.as_bytes().to_vec(),
            })
            .collect(),
        one_time_kyber_prekeys: one_time_kyber.iter().map(wire_kyber).collect(),
    })));
    Ok(())
}

/// The relay took an upload.
pub(crate) async fn uploaded(turn: &mut Turn<'_>, upload: &PreKeyUpload) -> Result<(), StoreError> {
    let epoch = upload.mailbox_epoch;
    if let Some(signed) = &upload.signed_prekey {
        table::mark_uploaded(turn.db, Kind::Signed, signed.id, epoch).await?;
        table::replace_older(turn.db, Kind::Signed, signed.id, turn.now).await?;
    }
    if let Some(kyber) = &upload.last_resort_kyber_prekey {
        table::mark_uploaded(turn.db, Kind::LastResortKyber, kyber.id, epoch).await?;
        table::replace_older(turn.db, Kind::LastResortKyber, kyber.id, turn.now).await?;
    }
    for prekey in &upload.one_time_prekeys {
        table::mark_uploaded(turn.db, Kind::OneTime, prekey.id, epoch).await?;
    }
    for prekey in &upload.one_time_kyber_prekeys {
        table::mark_uploaded(turn.db, Kind::OneTimeKyber, prekey.id, epoch).await?;
    }
    Ok(())
}

/// The relay refused the upload because it holds one of the ids already: an answer of it was
/// lost. The one-time keys are counted as uploaded; what is still missing is made anew.
pub(crate) async fn conflicted(
    turn: &mut Turn<'_>,
    upload: &PreKeyUpload,
) -> Result<(), StoreError> {
    uploaded(turn, upload).await?;
    // A signed or last-resort prekey that the relay does not hold is asked for by the next stock.
    turn.call(Call::Stock);
    Ok(())
}

/// A restored relay has a new epoch and none of our one-time keys.
pub(crate) async fn note_epoch(turn: &mut Turn<'_>, epoch: u64) -> Result<(), StoreError> {
    if turn.identity.own.mailbox_epoch == epoch {
        return Ok(());
    }
    if let Some(mut own) = own::load(turn.db).await?
        && own.mailbox_epoch != epoch
    {
        own.mailbox_epoch = epoch;
        own::save(turn.db, &own).await?;
        turn.effects.own_changed = true;
    }
    Ok(())
}

fn crypto_now(turn: &Turn<'_>) -> CryptoTimestamp {
    CryptoTimestamp::from_millis(turn.now.as_millis())
}

fn wire_kyber(prekey: &KyberPreKey) -> proto::KyberPreKey {
    let public = prekey.public();
    proto::KyberPreKey {
        id: public.id.0,
        public_key: public.key.as_bytes().to_vec(),
        signature: public.signature.to_vec(),
    }
}

/// A start that another installation of this account hardly had; counting goes on from there.
fn random_start() -> u32 {
    u32::try_from(random::below(0x00FF_0000)).unwrap_or(0) + 1
}

fn is_due(turn: &Turn<'_>, stored: &table::Stored) -> bool {
    turn.now.millis_since(stored.created_at) >= ROTATE_AFTER_MS
}

async fn current_signed(turn: &mut Turn<'_>) -> Result<SignedPreKey, StoreError> {
    if let Some(stored) = table::current(turn.db, Kind::Signed).await?
        && !is_due(turn, &stored)
    {
        return SignedPreKey::decode(&stored.record).map_err(|_| StoreError::Damaged("a prekey"));
    }
    let id = table::reserve_ids(turn.db, Kind::Signed, 1, random_start()).await?;
    let identity = turn.identity.clone();
    let prekey = SignedPreKey::generate(
        id.into(),
        &identity.own.identity,
        crypto_now(turn),
        &mut random::system(),
    );
    table::insert(turn.db, Kind::Signed, id, &prekey.encode(), turn.now).await?;
    Ok(prekey)
}

async fn current_last_resort(turn: &mut Turn<'_>) -> Result<KyberPreKey, StoreError> {
    if let Some(stored) = table::current(turn.db, Kind::LastResortKyber).await?
        && !is_due(turn, &stored)
    {
        return KyberPreKey::decode(&stored.record).map_err(|_| StoreError::Damaged("a prekey"));
    }
    let id = table::reserve_ids(turn.db, Kind::LastResortKyber, 1, random_start()).await?;
    let prekey = new_kyber(turn, id);
    let record = prekey.encode();
    table::insert(turn.db, Kind::LastResortKyber, id, &record, turn.now).await?;
    Ok(prekey)
}

fn new_kyber(turn: &Turn<'_>, id: u32) -> KyberPreKey {
    KyberPreKey::generate(
        id.into(),
        &turn.identity.own.identity,
        crypto_now(turn),
        &mut random::system(),
    )
}

/// How many more the relay should get, given how many it holds.
fn wanted(held: u32) -> u32 {
    let batch = u32::try_from(MAX_PREKEYS_PER_UPLOAD).unwrap_or(FULL);
    if held < LOW {
        (FULL - held).min(batch)
    } else {
        0
    }
}

async fn one_time_to_upload(
    turn: &mut Turn<'_>,
    held: u32,
) -> Result<Vec<OneTimePreKey>, StoreError> {
    let wanted = wanted(held);
    let mut prekeys = Vec::new();
    for stored in table::not_uploaded(turn.db, Kind::OneTime, wanted).await? {
        let prekey =
            OneTimePreKey::decode(&stored.record).map_err(|_| StoreError::Damaged("a prekey"))?;
        prekeys.push(prekey);
    }
    let missing = wanted.saturating_sub(u32::try_from(prekeys.len()).unwrap_or(u32::MAX));
    if missing > 0 {
        let first = table::reserve_ids(turn.db, Kind::OneTime, missing, random_start()).await?;
        for offset in 0..missing {
            let id = table::after(first, offset);
            let prekey = OneTimePreKey::generate(id.into(), &mut random::system());
            table::insert(turn.db, Kind::OneTime, id, &prekey.encode(), turn.now).await?;
            prekeys.push(prekey);
        }
    }
    Ok(prekeys)
}

async fn one_time_kyber_to_upload(
    turn: &mut Turn<'_>,
    held: u32,
) -> Result<Vec<KyberPreKey>, StoreError> {
    let wanted = wanted(held);
    let mut prekeys = Vec::new();
    for stored in table::not_uploaded(turn.db, Kind::OneTimeKyber, wanted).await? {
        let prekey =
            KyberPreKey::decode(&stored.record).map_err(|_| StoreError::Damaged("a prekey"))?;
        prekeys.push(prekey);
    }
    let missing = wanted.saturating_sub(u32::try_from(prekeys.len()).unwrap_or(u32::MAX));
    if missing > 0 {
        let first =
            table::reserve_ids(turn.db, Kind::OneTimeKyber, missing, random_start()).await?;
        for offset in 0..missing {
            let id = table::after(first, offset);
            let prekey = new_kyber(turn, id);
            table::insert(turn.db, Kind::OneTimeKyber, id, &prekey.encode(), turn.now).await?;
            prekeys.push(prekey);
        }
    }
    Ok(prekeys)
}
