//! The relay's database on SQLite (SQLCipher): one file, one writer.

mod accounts;
mod devices;
mod envelopes;
mod invites;
mod issuers;
mod meta;
mod prekeys;
mod sends;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqlSafeStr as _, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId, Serial};
use zeroize::Zeroizing;

use super::{
    Account, Ack, BatchSize, Bundles, Certified, Day, DeviceStanding, Enrolled, HeldEnvelope,
    Invite, MailboxBatch, Meta, NewAccount, NewCertificate, NewDeviceList, NewPreKeys,
    NewRevocations, Placed, Rejected, Result, Retention, Stock, Store, StoreError, Uploaded,
};
use crate::mailbox::plan::{Caps, Plan, QueuedSend, RecipientState, Snapshot, plan};

/// Every migration, in order, embedded so that a binary and its schema never part.
const MIGRATIONS: [(i64, &str, &str); 1] = [(
    1,
    "initial",
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
)];

/// Connections that read. Readers never wait for the writer (WAL).
const READERS: u32 = 4;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Not a database, or one under another key.
    #[error("{path} cannot be opened: {source}; is it the right file, with the right key?")]
    Open {
        path: String,
        #[source]
        source: sqlx::Error,
    },
    /// A key is configured but this build has no SQLCipher.
    #[error("a database key is configured, but SQLCipher is missing from this build")]
    NoCipher,
    /// The schema is newer, or was altered.
    #[error("the database's schema does not fit this version of the relay: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// Set-up of the first row.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
pub(crate) struct SqliteStore {
    /// All writing goes through this one connection, in turn (the lock is fair).
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, creating it if need be, and brings its schema up to date.
    pub(crate) async fn open(
        path: &Path,
        key: Option<&Zeroizing<[u8; 32]>>,
    ) -> Result<Self, OpenError> {
        // Threads may still use SQLCipher while the process exits: OpenSSL must not clean up under them.
        openssl_sys::init();
        let failed = |source| OpenError::Open {
            path: path.display().to_string(),
            source,
        };
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("secure_delete", "ON")
            .pragma("temp_store", "MEMORY")
            .pragma("trusted_schema", "OFF");
        if let Some(key) = key {
            let hex = Zeroizing::new(hex::encode(key.as_slice()));
            options = options.pragma("key", format!("\"x'{}'\"", hex.as_str()));
        }
        let mut writer = SqliteConnection::connect_with(&options.clone().create_if_missing(true))
            .await
            .map_err(failed)?;
        if key.is_some() {
            // Plain SQLite ignores the key pragma without a word.
            let version: Option<String> = sqlx::query_scalar("PRAGMA cipher_version")
                .fetch_optional(&mut writer)
                .await
                .map_err(failed)?;
            if version.is_none_or(|version| version.is_empty()) {
                return Err(OpenError::NoCipher);
            }
        }
        migrator().run(&mut writer).await?;
        meta::create(&mut writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers,
        })
    }
}

fn migrator() -> Migrator {
    Migrator::with_migrations(
        MIGRATIONS
            .into_iter()
            .map(|(version, name, sql)| {
                Migration::new(
                    version,
                    name.into(),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    )
}

/// Opens a transaction that writes, in turn.
macro_rules! write {
    ($store:ident, $tx:ident) => {
        let mut writer = $store.writer.lock().await;
        let mut $tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    };
}

#[async_trait]
impl Store for SqliteStore {
    async fn meta(&self) -> Result<Meta> {
        meta::load(&mut *self.readers.acquire().await?).await
    }

    async fn auth_generation(&self) -> Result<u64> {
        meta::auth_generation(&mut *self.readers.acquire().await?).await
    }

    async fn raise_epoch(&self, now: Timestamp) -> Result<u64> {
        write!(self, tx);
        let epoch = meta::raise_epoch(&mut tx, now).await?;
        prekeys::drop_one_time(&mut tx, Day::of(now)).await?;
        devices::end_all_sessions(&mut tx).await?;
        tx.commit().await?;
        Ok(epoch)
    }

    async fn close(&self) {
        self.readers.close().await;
        // Folds the log in; a failure costs the next start a moment.
        let mut writer = self.writer.lock().await;
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut *writer)
            .await;
    }

    async fn held(&self, limit: u32) -> Result<Vec<HeldEnvelope>> {
        envelopes::held(&mut *self.readers.acquire().await?, limit).await
    }

    async fn check_writable(&self) -> Result<()> {
        write!(self, tx);
        meta::touch(&mut tx).await?;
        tx.rollback().await?;
        Ok(())
    }

    async fn expire(&self, now: Timestamp, keep: Retention) -> Result<u64> {
        let today = Day::of(now);
        let before = |days: u64| Day(today.0.saturating_sub(days));
        let overdue =
            envelopes::overdue(&mut *self.readers.acquire().await?, before(keep.envelopes)).await?;
        let mut expired = 0;
        // A transaction a mailbox: others get their turn in between.
        for (mailbox, seq) in overdue {
            write!(self, tx);
            expired += envelopes::delete_through(&mut tx, mailbox, seq).await?;
            tx.commit().await?;
        }
        write!(self, tx);
        sends::forget(&mut tx, before(keep.sends)).await?;
        prekeys::forget_taken(&mut tx, before(keep.prekey_ids)).await?;
        invites::forget(&mut tx, now).await?;
        issuers::forget(&mut tx, now).await?;
        tx.commit().await?;
        Ok(expired)
    }

    async fn admit(&self, invite: &Invite) -> Result<Placed> {
        write!(self, tx);
        let placed = invites::admit(&mut tx, invite).await?;
        tx.commit().await?;
        Ok(placed)
    }

    async fn enrol(&self, account: &NewAccount, now: Timestamp) -> Result<Enrolled> {
        write!(self, tx);
        let Some((role, used_by, expires_at)) = invites::find(&mut tx, account.invite).await?
        else {
            return Ok(Enrolled::UnknownInvite);
        };
        let stored = accounts::find(&mut tx, account.id, now).await?;
        let same = stored
            .as_ref()
            .is_some_and(|stored| stored.key == account.account_key);
        match used_by {
            Some(user) if user == account.id && same => return Ok(Enrolled::Again),
            Some(_) => return Ok(Enrolled::InviteUsed),
            None if expires_at < now => return Ok(Enrolled::Expired),
            None if stored.is_some() => return Ok(Enrolled::AccountTaken),
            None => {}
        }
        accounts::insert(&mut tx, account, role).await?;
        for device in &account.devices {
            devices::insert(&mut tx, account.id, device).await?;
        }
        invites::redeem(&mut tx, account).await?;
        tx.commit().await?;
        Ok(Enrolled::New)
    }

    async fn account(&self, id: AccountId, now: Timestamp) -> Result<Option<Account>> {
        accounts::find(&mut *self.readers.acquire().await?, id, now).await
    }

    async fn account_by_handle(&self, handle: &str, now: Timestamp) -> Result<Option<Account>> {
        accounts::find_by_handle(&mut *self.readers.acquire().await?, handle, now).await
    }

    async fn pending_enrolments(&self, limit: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        invites::pending(&mut *self.readers.acquire().await?, limit).await
    }

    async fn certify(&self, certificate: &NewCertificate) -> Result<Certified> {
        write!(self, tx);
        let outcome = accounts::certify(&mut tx, certificate).await?;
        if let Certified::Stored { sessions_end } = outcome {
            invites::decided(&mut tx, certificate.account).await?;
            if sessions_end {
                devices::end_sessions(&mut tx, certificate.account).await?;
            }
            tx.commit().await?;
        }
        Ok(outcome)
    }

    async fn reject(&self, account: AccountId) -> Result<Rejected> {
        write!(self, tx);
        let outcome = accounts::reject(&mut tx, account).await?;
        if outcome == Rejected::Done {
            invites::decided(&mut tx, account).await?;
            devices::end_sessions(&mut tx, account).await?;
            prekeys::drop_all_of_account(&mut tx, account).await?;
            tx.commit().await?;
        }
        Ok(outcome)
    }

    async fn replace_device_list(&self, list: &NewDeviceList) -> Result<Option<Vec<DeviceId>>> {
        write!(self, tx);
        if !accounts::set_device_list(&mut tx, list).await? {
            return Ok(None);
        }
        let mut gone = Vec::new();
        for (device, row) in devices::listed(&mut tx, list.account).await? {
            if !list.devices.iter().any(|listed| listed.id == device) {
                devices::remove(&mut tx, row).await?;
                prekeys::drop_all(&mut tx, row).await?;
                envelopes::delete_all(&mut tx, row).await?;
                gone.push(device);
            }
        }
        for device in &list.devices {
            devices::insert(&mut tx, list.account, device).await?;
        }
        if !gone.is_empty() {
            meta::next_auth_generation(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(Some(gone))
    }

    async fn set_access_key(&self, account: AccountId, sha256: [u8; 32]) -> Result<()> {
        write!(self, tx);
        accounts::set_access_key(&mut tx, account, sha256).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn standing(
        &self,
        device: DeviceAddress,
        now: Timestamp,
    ) -> Result<Option<DeviceStanding>> {
        devices::standing(&mut *self.readers.acquire().await?, device, now).await
    }

    async fn publish_issuer(
        &self,
        serial: Serial,
        blob: &[u8],
        not_after: Timestamp,
    ) -> Result<()> {
        write!(self, tx);
        issuers::publish(&mut tx, serial, blob, not_after).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn issuers(&self, limit: u32) -> Result<Vec<Vec<u8>>> {
        issuers::newest(&mut *self.readers.acquire().await?, limit).await
    }

    async fn revocations(&self) -> Result<Option<Vec<u8>>> {
        issuers::revocations(&mut *self.readers.acquire().await?).await
    }

    async fn revoke(&self, revocations: &NewRevocations) -> Result<Option<Vec<AccountId>>> {
        write!(self, tx);
        if !issuers::set_revocations(&mut tx, revocations).await? {
            return Ok(None);
        }
        let affected = accounts::revoke(&mut tx, revocations).await?;
        for account in &affected {
            invites::decided(&mut tx, *account).await?;
            devices::end_sessions(&mut tx, *account).await?;
        }
        // An account that is itself revoked never comes back; one whose
        // certificate or issuer fell may be certified anew, and keeps its mail.
        for account in affected
            .iter()
            .filter(|id| revocations.accounts.contains(id))
        {
            prekeys::drop_all_of_account(&mut tx, *account).await?;
            for (_, row) in devices::listed(&mut tx, *account).await? {
                envelopes::delete_all(&mut tx, row).await?;
            }
        }
        tx.commit().await?;
        Ok(Some(affected))
    }

    async fn upload_prekeys(
        &self,
        device: DeviceAddress,
        epoch: u64,
        keys: &NewPreKeys,
    ) -> Result<Uploaded> {
        write!(self, tx);
        let current = meta::mailbox_epoch(&mut tx).await?;
        if current != epoch {
            return Ok(Uploaded::OtherEpoch);
        }
        let Some(row) = devices::row(&mut tx, device).await? else {
            return Ok(Uploaded::UnknownDevice);
        };
        if !prekeys::insert(&mut tx, row, keys).await? {
            return Ok(Uploaded::IdTaken);
        }
        let stock = prekeys::stock(&mut tx, row, current).await?;
        tx.commit().await?;
        Ok(Uploaded::Stored(stock))
    }

    async fn prekey_stock(&self, device: DeviceAddress) -> Result<Option<Stock>> {
        let mut reader = self.readers.acquire().await?;
        let epoch = meta::mailbox_epoch(&mut reader).await?;
        match devices::row(&mut reader, device).await? {
            Some(row) => Ok(Some(prekeys::stock(&mut reader, row, epoch).await?)),
            None => Ok(None),
        }
    }

    async fn take_bundles(
        &self,
        account: AccountId,
        wanted: &[DeviceId],
        except: Option<DeviceId>,
        today: Day,
    ) -> Result<Bundles> {
        write!(self, tx);
        let mut found = Bundles {
            bundles: Vec::new(),
            without_keys: Vec::new(),
        };
        for (device, row) in devices::listed(&mut tx, account).await? {
            if Some(device) == except || !(wanted.is_empty() || wanted.contains(&device)) {
                continue;
            }
            match prekeys::take(&mut tx, device, row, today).await? {
                Some(bundle) => found.bundles.push(bundle),
                None => found.without_keys.push(device),
            }
        }
        tx.commit().await?;
        Ok(found)
    }

    async fn accept(
        &self,
        sends: &[QueuedSend],
        acks: &[Ack],
        caps: Caps,
        today: Day,
    ) -> Result<Plan> {
        write!(self, tx);
        if !acks.is_empty() {
            let epoch = meta::mailbox_epoch(&mut tx).await?;
            for ack in acks.iter().filter(|ack| ack.epoch == epoch) {
                if let Some(row) = devices::row(&mut tx, ack.device).await? {
                    envelopes::delete_through(&mut tx, row, ack.seq).await?;
                }
            }
        }
        let mut accounts: Vec<_> = sends
            .iter()
            .flat_map(|send| {
                send.recipients
                    .iter()
                    .map(|recipient| recipient.account)
                    .chain([send.sender.account])
            })
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        let keys: Vec<_> = sends
            .iter()
            .flat_map(|send| send.recipients.iter().map(|recipient| recipient.key))
            .collect();
        let snapshot = Snapshot {
            accounts: devices::recipients(&mut tx, &accounts).await?,
            remembered: sends::remembered(&mut tx, &keys).await?,
        };
        let plan = plan(sends, snapshot, caps);
        envelopes::insert(&mut tx, &plan.envelopes, today).await?;
        envelopes::set_counters(&mut tx, &plan.counters).await?;
        sends::remember(&mut tx, &plan.remember, today).await?;
        tx.commit().await?;
        Ok(plan)
    }

    async fn recipients(&self, accounts: &[AccountId]) -> Result<Vec<RecipientState>> {
        devices::recipients(&mut *self.readers.acquire().await?, accounts).await
    }

    async fn drain(
        &self,
        device: DeviceAddress,
        after: u64,
        max: BatchSize,
        now: Timestamp,
    ) -> Result<MailboxBatch> {
        let mut reader = self.readers.acquire().await?;
        // One snapshot for standing and envelopes.
        let mut tx = reader.begin().await?;
        let standing = devices::standing(&mut tx, device, now).await?;
        let mailbox_epoch = meta::mailbox_epoch(&mut tx).await?;
        let (newest, envelopes, more) = match devices::row(&mut tx, device).await? {
            Some(row) => envelopes::after(&mut tx, row, after, max).await?,
            None => (0, Vec::new(), false),
        };
        tx.rollback().await?;
        Ok(MailboxBatch {
            standing,
            mailbox_epoch,
            newest,
            envelopes,
            more,
        })
    }
}

/// SQLite's integers are signed; nothing of ours reaches the sign bit.
fn sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Cuts rows into runs of 64, 16, 4 and 1: multi-row statements are several times
/// faster than single ones, and four lengths keep the statement cache small.
fn runs<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = [64, 16, 4, 1]
            .into_iter()
            .find(|length| *length <= rows.len())?;
        let (run, rest) = rows.split_at_checked(length)?;
        rows = rest;
        Some(run)
    })
}

/// Bytes of a column as an array.
fn array<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::suite::store_suite;
    use super::*;

    async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let key = Zeroizing::new([1; 32]);
        let store = SqliteStore::open(&dir.path().join("relay.db"), Some(&key)).await;
        (Arc::new(store.unwrap()), dir)
    }

    store_suite!(open());

    #[test]
    fn runs_cover_everything_once() {
        for length in [0, 1, 3, 4, 5, 63, 64, 65, 200, 341] {
            let rows: Vec<usize> = (0..length).collect();
            let joined: Vec<usize> = runs(&rows).flatten().copied().collect();
            assert_eq!(joined, rows);
            assert!(runs(&rows).all(|run| [64, 16, 4, 1].contains(&run.len())));
        }
    }

    #[tokio::test]
    async fn pragmas_are_in_force() {
        let (_, dir) = open().await;
        let key = Zeroizing::new([1; 32]);
        let store = SqliteStore::open(&dir.path().join("relay.db"), Some(&key)).await;
        let store = store.unwrap();
        let mut writer = store.writer.lock().await;
        for (pragma, value) in [
            ("PRAGMA synchronous", 2),
            ("PRAGMA secure_delete", 1),
            ("PRAGMA temp_store", 2),
            ("PRAGMA foreign_keys", 1),
        ] {
            let found: i64 = sqlx::query_scalar(pragma)
                .fetch_one(&mut *writer)
                .await
                .unwrap();
            assert_eq!(found, value, "{pragma}");
        }
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut *writer)
            .await
            .unwrap();
        assert_eq!(journal, "wal");
        let mut reader = store.readers.acquire().await.unwrap();
        let written = sqlx::query("DELETE FROM meta").execute(&mut *reader).await;
        assert!(written.is_err(), "readers must not write");
    }

    #[tokio::test]
    async fn an_altered_schema_is_refused() {
        let (store, dir) = open().await;
        drop(store);
        let key = Zeroizing::new([1; 32]);
        let path = dir.path().join("relay.db");
        {
            let store = SqliteStore::open(&path, Some(&key)).await.unwrap();
            let mut writer = store.writer.lock().await;
            sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'")
                .execute(&mut *writer)
                .await
                .unwrap();
        }
        let opened = SqliteStore::open(&path, Some(&key)).await;
        assert!(matches!(opened, Err(OpenError::Schema(_))));
        let opened = SqliteStore::open(&path, Some(&Zeroizing::new([2; 32]))).await;
        assert!(matches!(opened, Err(OpenError::Open { .. })));
    }
}
