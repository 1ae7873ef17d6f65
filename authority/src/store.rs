//! The authority's own database: one SQLCipher file beside its key file.
//!
//! A method is a transaction. Commands and a running `serve` share the file;
//! SQLite's own locking keeps them apart.

mod accounts;
mod invites;
mod revocations;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::DeploymentId;
use zeroize::Zeroizing;

pub use accounts::{Account, CertificateRow, NewAccount, Undelivered};
pub use invites::{NewInvite, StoredInvite};
pub use revocations::{ListRow, RevocationRow};

use crate::files::{self, FileError};
use crate::{Randomness, random};

/// The database's file name in an issuer's directory.
pub const FILE: &str = "authority.db";
/// Its key's file name.
pub const KEY_FILE: &str = "authority.db.key";

const SCHEMA: &str = include_str!("store/schema.sql");
const SCHEMA_VERSION: i64 = 1;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key file.
    #[error(transparent)]
    File(#[from] FileError),
    /// SQLite said no.
    #[error("the authority's database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Not a database, or one under another key.
    #[error("{path} cannot be opened with {KEY_FILE}: {source}")]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// This build's SQLite does not encrypt.
    #[error("SQLCipher is missing from this build; the database would not be encrypted")]
    NoCipher,
    /// Made by a newer version.
    #[error("the authority's database was made by a newer version (schema {0})")]
    Newer(i64),
    /// Another clinic's.
    #[error("the authority's database belongs to another deployment")]
    OtherDeployment,
    /// A row does not read as what it should be.
    #[error("the authority's database holds something unreadable in {0}; restore it from a backup")]
    Corrupt(&'static str),
    /// Another account or invite has the handle.
    #[error("the handle is taken")]
    HandleTaken,
    /// The name given with `--once` belongs to an invite with other properties.
    #[error("an invite of this name exists with another role, handle, name or inviter")]
    OtherInvite,
}

pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// See the module.
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database in `dir`, making it and its key on first use.
    ///
    /// # Errors
    /// [`StoreError`], saying what does not fit.
    pub async fn open(dir: &Path, deployment: DeploymentId, rng: &mut Randomness) -> Result<Self> {
        // Threads may still use SQLCipher while the process exits: OpenSSL must not clean up under them.
        openssl_sys::init();
        let path = dir.join(FILE);
        let key_path = dir.join(KEY_FILE);
        if !key_path.exists() && !path.exists() {
            let key = Zeroizing::new(hex::encode(Zeroizing::new(random::<32>(rng)).as_slice()));
            match files::write_new(&key_path, key.as_bytes()) {
                // Another command was faster: its key is as good.
                Ok(()) | Err(FileError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let key = files::read_secret(&key_path)?;
        let key = key.trim();
        if key.len() != 64 || !key.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(FileError::content(&key_path, "a database key of 64 hex digits").into());
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(15))
            .pragma("key", format!("\"x'{key}'\""))
            .pragma("secure_delete", "ON")
            .pragma("temp_store", "MEMORY")
            .pragma("trusted_schema", "OFF");
        let failed = |source| StoreError::Open {
            path: path.clone(),
            source,
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let store = Self { pool };
        // Plain SQLite ignores the key pragma without a word.
        let cipher: Option<String> = sqlx::query_scalar("PRAGMA cipher_version")
            .fetch_optional(&store.pool)
            .await
            .map_err(failed)?;
        if cipher.is_none_or(|version| version.is_empty()) {
            return Err(StoreError::NoCipher);
        }
        store.migrate(deployment).await?;
        Ok(store)
    }

    async fn migrate(&self, deployment: DeploymentId) -> Result<()> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut *tx)
            .await?;
        match version {
            0 => {
                sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
                sqlx::raw_sql("PRAGMA user_version = 1")
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("INSERT INTO meta (only_row, deployment) VALUES (1, ?)")
                    .bind(deployment.as_bytes().as_slice())
                    .execute(&mut *tx)
                    .await?;
            }
            SCHEMA_VERSION => {}
            newer => return Err(StoreError::Newer(newer)),
        }
        let stored: Vec<u8> = sqlx::query_scalar("SELECT deployment FROM meta")
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        if stored == deployment.as_bytes() {
            Ok(())
        } else {
            Err(StoreError::OtherDeployment)
        }
    }

    /// Closes the file, so that its log is folded in.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn sql(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn array<const N: usize>(bytes: &[u8], table: &'static str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(table))
}
