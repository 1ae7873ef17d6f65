//! A profile: the folder of one device, locked to one process, and the key of its database.
//!
//! ```text
//! <profile>/            0700
//!   lock                held exclusively while the profile is open
//!   profile.json        how the database key is wrapped
//!   store.db (+ -wal)   SQLCipher
//! ```
//! The database key is 32 random bytes. It is wrapped (AES-256-GCM) by a key that comes from a
//! passphrase (Argon2id, parameters stored beside it) or from a key file. So a changed passphrase
//! rewrites a hundred bytes, not the database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::random;

/// Version of the folder's layout.
const FORMAT: u32 = 1;
const HEADER: &str = "profile.json";
const LOCK: &str = "lock";
const DATABASE: &str = "store.db";
const WRAP_CONTEXT: &[u8] = b"wardline/profile-key/v1\0";
/// RFC 9106's second recommendation: 64 MiB, three passes.
const ARGON_MEMORY_KIB: u32 = 64 * 1024;
const ARGON_PASSES: u32 = 3;
/// More than this in a header is damage or malice, not a choice.
const ARGON_MAX_MEMORY_KIB: u32 = 1024 * 1024;

/// What unlocks a profile.
#[derive(Clone)]
pub enum Unlock {
    /// Something a person types.
    Passphrase(Zeroizing<String>),
    /// A file with 32 bytes in hexadecimal, readable by its owner alone. Made when the profile is
    /// made, if it does not exist.
    KeyFile(PathBuf),
}

impl Unlock {
    /// A passphrase.
    pub fn passphrase(text: impl Into<String>) -> Self {
        Self::Passphrase(Zeroizing::new(text.into()))
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(..)",
            Self::KeyFile(_) => "KeyFile(..)",
        })
    }
}

/// Why a profile does not open.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no profile in the folder.
    #[error("there is no Wardline profile in {0}; enrol first with an invite link")]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("the profile in {0} is in use by another process; close that one first")]
    InUse(PathBuf),
    /// The passphrase does not unlock it.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The key file does not unlock it.
    #[error("the key file does not belong to this profile")]
    WrongKeyFile,
    /// The profile wants a passphrase and was given a key file, or the reverse.
    #[error("this profile is unlocked by a {0}")]
    OtherUnlock(&'static str),
    /// The key file is not there or cannot be read.
    #[error("the key file {0} is missing or is not a Wardline key file")]
    KeyFile(PathBuf),
    /// Others may read the key file.
    #[error("others can read the key file {0}; run: chmod 600 {0}")]
    KeyFileOpenToOthers(PathBuf),
    /// Written by newer software.
    #[error(
        "this profile was written by a newer Wardline (format {found}, this one reads {supported}); update Wardline"
    )]
    Newer {
        /// Format found.
        found: u32,
        /// Newest format this software reads.
        supported: u32,
    },
    /// The header cannot be read.
    #[error("the profile's header is damaged; restore the folder from a backup")]
    Damaged,
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ProfileError {
    move |source| ProfileError::Io { what, source }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<Argon>,
    nonce: String,
    wrapped_key: String,
}

#[derive(Serialize, Deserialize)]
struct Argon {
    memory_kib: u32,
    passes: u32,
    salt: String,
}

/// The key of a profile's database.
pub(crate) struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// SQLCipher's raw key notation.
    pub(crate) fn pragma(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("\"x'{}'\"", hex::encode(self.0.as_slice())))
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self(Zeroizing::new([7; 32]))
    }

    #[cfg(test)]
    pub(crate) fn other_for_tests() -> Self {
        Self(Zeroizing::new([8; 32]))
    }
}

/// An unlocked profile; dropping it lets another process in.
pub(crate) struct Profile {
    dir: PathBuf,
    key: StoreKey,
    _lock: File,
}

impl Profile {
    /// Opens an existing profile.
    pub(crate) fn open(dir: &Path, unlock: &Unlock) -> Result<Self, ProfileError> {
        if !dir.join(HEADER).exists() {
            return Err(ProfileError::Missing(dir.to_owned()));
        }
        let lock = lock(dir)?;
        let key = unwrap_key(&read_header(dir)?, unlock)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
            _lock: lock,
        })
    }

    /// Opens the profile, or makes one in an empty or missing folder.
    pub(crate) fn open_or_create(dir: &Path, unlock: &Unlock) -> Result<Self, ProfileError> {
        if dir.join(HEADER).exists() {
            return Self::open(dir, unlock);
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io_error("the profile folder cannot be made"))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(io_error("the profile folder cannot be made private"))?;
        let lock = lock(dir)?;
        // Two processes may have come here together: the lock's winner made the header.
        if !dir.join(HEADER).exists() {
            create_header(dir, unlock)?;
        }
        let key = unwrap_key(&read_header(dir)?, unlock)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
            _lock: lock,
        })
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The database's key.
    pub(crate) const fn key(&self) -> &StoreKey {
        &self.key
    }
}

fn lock(dir: &Path) -> Result<File, ProfileError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(LOCK))
        .map_err(io_error("the profile's lock cannot be opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ProfileError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(ProfileError::Io {
            what: "the profile cannot be locked",
            source,
        }),
    }
}

fn read_header(dir: &Path) -> Result<Header, ProfileError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let text = fs::read(dir.join(HEADER)).map_err(io_error("the profile cannot be read"))?;
    let Format { format } = serde_json::from_slice(&text).map_err(|_| ProfileError::Damaged)?;
    if format > FORMAT {
        return Err(ProfileError::Newer {
            found: format,
            supported: FORMAT,
        });
    }
    serde_json::from_slice(&text).map_err(|_| ProfileError::Damaged)
}

fn create_header(dir: &Path, unlock: &Unlock) -> Result<(), ProfileError> {
    let (wrapping, argon2id) = match unlock {
        Unlock::Passphrase(passphrase) => {
            let argon = Argon {
                memory_kib: ARGON_MEMORY_KIB,
                passes: ARGON_PASSES,
                salt: hex::encode(random::bytes::<16>()),
            };
            (stretch(passphrase, &argon)?, Some(argon))
        }
        Unlock::KeyFile(path) => {
            if !path.exists() {
                let text = Zeroizing::new(hex::encode(
                    Zeroizing::new(random::bytes::<32>()).as_slice(),
                ));
                write_private(path, text.as_bytes())?;
            }
            (read_key_file(path)?, None)
        }
    };
    let key = Zeroizing::new(random::bytes::<32>());
    let (nonce, wrapped) = seal(&wrapping, WRAP_CONTEXT, key.as_slice())?;
    let header = Header {
        format: FORMAT,
        argon2id,
        nonce: hex::encode(nonce),
        wrapped_key: hex::encode(wrapped),
    };
    let text = serde_json::to_vec_pretty(&header).map_err(|_| ProfileError::Damaged)?;
    write_private(&dir.join(HEADER), &text)
}

fn unwrap_key(header: &Header, unlock: &Unlock) -> Result<StoreKey, ProfileError> {
    let (wrapping, wrong) = match (unlock, &header.argon2id) {
        (Unlock::Passphrase(passphrase), Some(argon)) => {
            (stretch(passphrase, argon)?, ProfileError::WrongPassphrase)
        }
        (Unlock::KeyFile(path), None) => (read_key_file(path)?, ProfileError::WrongKeyFile),
        (Unlock::Passphrase(_), None) => return Err(ProfileError::OtherUnlock("key file")),
        (Unlock::KeyFile(_), Some(_)) => return Err(ProfileError::OtherUnlock("passphrase")),
    };
    let nonce = hex::decode(&header.nonce).map_err(|_| ProfileError::Damaged)?;
    let wrapped = hex::decode(&header.wrapped_key).map_err(|_| ProfileError::Damaged)?;
    let key = open(&wrapping, WRAP_CONTEXT, &nonce, &wrapped).ok_or(wrong)?;
    let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| ProfileError::Damaged)?;
    Ok(StoreKey(Zeroizing::new(key)))
}

fn stretch(passphrase: &str, argon: &Argon) -> Result<Zeroizing<[u8; 32]>, ProfileError> {
    if argon.memory_kib > ARGON_MAX_MEMORY_KIB || argon.passes > 64 {
        return Err(ProfileError::Damaged);
    }
    let salt = hex::decode(&argon.salt).map_err(|_| ProfileError::Damaged)?;
    let params = argon2::Params::new(argon.memory_kib, argon.passes, 1, Some(32))
        .map_err(|_| ProfileError::Damaged)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    argon2
        .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut_slice())
        .map_err(|_| ProfileError::Damaged)?;
    Ok(key)
}

fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; 32]>, ProfileError> {
    let bad = || ProfileError::KeyFile(path.to_owned());
    let meta = fs::metadata(path).map_err(|_| bad())?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(ProfileError::KeyFileOpenToOthers(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|_| bad())?);
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| bad())?;
    Ok(key)
}

/// Writes a file that its owner alone may read, durably and all at once.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ProfileError> {
    let what = "a file of the profile cannot be written";
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io_error(what))?;
    file.write_all(bytes).map_err(io_error(what))?;
    file.sync_all().map_err(io_error(what))?;
    fs::rename(&temporary, path).map_err(io_error(what))?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(io_error(what))?;
    }
    Ok(())
}

fn seal(
    key: &[u8; 32],
    context: &[u8],
    plaintext: &[u8],
) -> Result<([u8; 12], Vec<u8>), ProfileError> {
    let nonce = random::bytes::<12>();
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(
            &nonce.into(),
            Payload {
                msg: plaintext,
                aad: context,
            },
        )
        .map_err(|_| ProfileError::Damaged)?;
    Ok((nonce, sealed))
}

fn open(key: &[u8; 32], context: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = <[u8; 12]>::try_from(nonce).ok()?;
    Aes256Gcm::new(key.into())
        .decrypt(
            &nonce.into(),
            Payload {
                msg: sealed,
                aad: context,
            },
        )
        .ok()
        .map(Zeroizing::new)
}

/// A recovery file: the account key under a passphrase, so that an account survives the loss of
/// its primary device.
#[derive(Serialize, Deserialize)]
struct RecoveryFile {
    format: u32,
    account: String,
    argon2id: Argon,
    nonce: String,
    sealed_account_key: String,
}

fn recovery_context(account: &str) -> Vec<u8> {
    [b"wardline/recovery/v1\0".as_slice(), account.as_bytes()].concat()
}

/// Writes the recovery file of `account`.
pub(crate) fn write_recovery(
    path: &Path,
    account: &str,
    account_key: &[u8; 32],
    passphrase: &str,
) -> Result<(), ProfileError> {
    let argon = Argon {
        memory_kib: ARGON_MEMORY_KIB,
        passes: ARGON_PASSES,
        salt: hex::encode(random::bytes::<16>()),
    };
    let wrapping = stretch(passphrase, &argon)?;
    let (nonce, sealed) = seal(&wrapping, &recovery_context(account), account_key)?;
    let file = RecoveryFile {
        format: FORMAT,
        account: account.to_owned(),
        argon2id: argon,
        nonce: hex::encode(nonce),
        sealed_account_key: hex::encode(sealed),
    };
    let text = serde_json::to_vec_pretty(&file).map_err(|_| ProfileError::Damaged)?;
    write_private(path, &text)
}

/// Reads a recovery file: account and account key.
///
/// # Errors
/// [`ProfileError::WrongPassphrase`], or that the file is missing, newer or damaged.
pub(crate) fn read_recovery(
    path: &Path,
    passphrase: &str,
) -> Result<(String, Zeroizing<[u8; 32]>), ProfileError> {
    let text = fs::read(path).map_err(io_error("the recovery file cannot be read"))?;
    let file: RecoveryFile = serde_json::from_slice(&text).map_err(|_| ProfileError::Damaged)?;
    if file.format > FORMAT {
        return Err(ProfileError::Newer {
            found: file.format,
            supported: FORMAT,
        });
    }
    let wrapping = stretch(passphrase, &file.argon2id)?;
    let nonce = hex::decode(&file.nonce).map_err(|_| ProfileError::Damaged)?;
    let sealed = hex::decode(&file.sealed_account_key).map_err(|_| ProfileError::Damaged)?;
    let key = open(&wrapping, &recovery_context(&file.account), &nonce, &sealed)
        .ok_or(ProfileError::WrongPassphrase)?;
    let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| ProfileError::Damaged)?;
    Ok((file.account, Zeroizing::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_passphrase_profile_opens_again_and_only_with_it() {
        let dir = dir();
        let path = dir.path().join("p");
        let right = Unlock::passphrase("correct horse");
        let first = Profile::open_or_create(&path, &right).unwrap();
        let key = first.key().pragma();
        drop(first);
        assert_eq!(Profile::open(&path, &right).unwrap().key().pragma(), key);
        assert!(matches!(
            Profile::open(&path, &Unlock::passphrase("wrong")),
            Err(ProfileError::WrongPassphrase)
        ));
        assert!(matches!(
            Profile::open(&path, &Unlock::KeyFile(dir.path().join("none"))),
            Err(ProfileError::OtherUnlock("passphrase"))
        ));
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(HEADER)), 0o600);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = dir();
        let unlock = Unlock::KeyFile(dir.path().join("key"));
        let path = dir.path().join("p");
        let first = Profile::open_or_create(&path, &unlock).unwrap();
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::InUse(_))
        ));
        drop(first);
        assert!(Profile::open(&path, &unlock).is_ok());
    }

    #[test]
    fn missing_newer_and_damaged_profiles_say_so() {
        let dir = dir();
        let unlock = Unlock::KeyFile(dir.path().join("key"));
        let path = dir.path().join("p");
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::Missing(_))
        ));
        drop(Profile::open_or_create(&path, &unlock).unwrap());
        let header = path.join(HEADER);
        let text = fs::read_to_string(&header).unwrap();
        fs::write(&header, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::Newer { found: 9, .. })
        ));
        fs::write(&header, "{").unwrap();
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::Damaged)
        ));
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let dir = dir();
        let key = dir.path().join("key");
        let unlock = Unlock::KeyFile(key.clone());
        let path = dir.path().join("p");
        drop(Profile::open_or_create(&path, &unlock).unwrap());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::KeyFileOpenToOthers(_))
        ));
        fs::write(&key, "00".repeat(32)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            Profile::open(&path, &unlock),
            Err(ProfileError::WrongKeyFile)
        ));
    }

    #[test]
    fn recovery_files_open_with_their_passphrase_alone() {
        let dir = dir();
        let path = dir.path().join("recovery.json");
        write_recovery(&path, "account", &[9; 32], "six words").unwrap();
        let (account, key) = read_recovery(&path, "six words").unwrap();
        assert_eq!((account.as_str(), *key), ("account", [9; 32]));
        assert!(matches!(
            read_recovery(&path, "seven words"),
            Err(ProfileError::WrongPassphrase)
        ));
    }
}
