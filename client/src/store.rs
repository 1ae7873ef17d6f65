//! The profile's database: one encrypted SQLite file, one writing connection.
//!
//! Each file below `store/` is one group of tables: SQL in, types out, no decisions. All of them
//! work on a bare connection, so that the caller decides what commits together.

pub(crate) mod accounts;
pub(crate) mod conversations;
pub(crate) mod inbox;
pub(crate) mod messages;
pub(crate) mod misc;
pub(crate) mod outbox;
pub(crate) mod own;
pub(crate) mod prekeys;
pub(crate) mod sessions;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Row as _, SqlSafeStr as _};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceId};

use crate::profile::StoreKey;

/// Numbered, append-only; a released one is never edited.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "profile", include_str!("../migrations/0001_profile.sql"))];

/// Why the database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own reason: a full disk, a damaged file.
    #[error("the profile's database failed: {0}")]
    Sqlite(#[from] sqlx::Error),
    /// Linked against an SQLite without encryption: nothing was written.
    #[error("this build of Wardline has no database encryption; it does not write")]
    NotEncrypted,
    /// The file is not what the key opens.
    #[error("the profile's database is damaged or belongs to another profile; restore it")]
    Unreadable,
    /// Written by newer software.
    #[error("this profile was written by a newer Wardline; update Wardline")]
    Newer,
    /// A stored value is not what was written.
    #[error("a record in the profile's database is damaged ({0})")]
    Damaged(&'static str),
}

fn options(path: &Path, key: &StoreKey) -> SqliteConnectOptions {
    // Statements are not logged: the first one is the key.
    SqliteConnectOptions::new()
        .filename(path)
        .pragma("key", key.pragma().to_string())
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

/// Opens (and, if `create`, makes) the database for writing, brought up to date.
pub(crate) async fn open(
    path: &Path,
    key: &StoreKey,
    create: bool,
) -> Result<SqliteConnection, StoreError> {
    // Threads may still use SQLCipher while the process exits: OpenSSL must not clean up under them.
    openssl_sys::init();
    let mut connection = connect(options(path, key).create_if_missing(create)).await?;
    make_private(path);
    migrate(&mut connection).await?;
    Ok(connection)
}

/// Opens the database a second time, for reading alone.
pub(crate) async fn open_reader(
    path: &Path,
    key: &StoreKey,
) -> Result<SqliteConnection, StoreError> {
    connect(options(path, key).pragma("query_only", "ON")).await
}

async fn connect(options: SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let mut connection = options.connect().await.map_err(unreadable)?;
    let version: Option<String> = sqlx::query_scalar("PRAGMA cipher_version")
        .fetch_optional(&mut connection)
        .await
        .map_err(unreadable)?;
    // On a plain SQLite the key pragma is silently ignored.
    if version.is_none_or(|version| version.is_empty()) {
        return Err(StoreError::NotEncrypted);
    }
    sqlx::query("SELECT count(*) FROM sqlite_master")
        .execute(&mut connection)
        .await
        .map_err(unreadable)?;
    Ok(connection)
}

fn unreadable(error: sqlx::Error) -> StoreError {
    match &error {
        // SQLITE_NOTADB: the key does not fit, or the file is damaged.
        sqlx::Error::Database(database) if database.code().as_deref() == Some("26") => {
            StoreError::Unreadable
        }
        _ => StoreError::Sqlite(error),
    }
}

fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // The folder is 0700 already; a file that is not there yet takes its mode from the first.
        let _ = std::fs::set_permissions(name, std::fs::Permissions::from_mode(0o600));
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, description, sql)| {
            Migration::new(
                *version,
                (*description).into(),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            )
        })
        .collect();
    Migrator::with_migrations(migrations)
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => StoreError::Newer,
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                StoreError::Sqlite(error)
            }
            _ => StoreError::Damaged("schema"),
        })
}

/// SQLite's integers are signed; ours are times and counters far below 2^63.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`signed`].
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A time as a column.
pub(crate) fn millis(time: Timestamp) -> i64 {
    signed(time.as_millis())
}

pub(crate) fn time_of(row: &SqliteRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_millis(unsigned(row.try_get(column)?)))
}

pub(crate) fn u64_of(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    Ok(unsigned(row.try_get(column)?))
}

pub(crate) fn u32_of(row: &SqliteRow, column: &str) -> Result<u32, StoreError> {
    let value: i64 = row.try_get(column)?;
    u32::try_from(value).map_err(|_| StoreError::Damaged("a number"))
}

pub(crate) fn account_of(row: &SqliteRow, column: &str) -> Result<AccountId, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    AccountId::from_slice(bytes).map_err(|_| StoreError::Damaged("an account id"))
}

pub(crate) fn device_of(row: &SqliteRow, column: &str) -> Result<DeviceId, StoreError> {
    DeviceId::new(u32_of(row, column)?).map_err(|_| StoreError::Damaged("a device id"))
}

pub(crate) fn array_of<const N: usize>(
    row: &SqliteRow,
    column: &str,
) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|_| StoreError::Damaged("a fixed-length value"))
}

pub(crate) fn optional_array_of<const N: usize>(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<[u8; N]>, StoreError> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes
        .map(|bytes| {
            bytes
                .try_into()
                .map_err(|_| StoreError::Damaged("a fixed-length value"))
        })
        .transpose()
}
