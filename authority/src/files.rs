//! Files that hold secrets: private, whole or not there, never overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

/// No file read here is larger than a few hundred bytes; this is plenty.
const MAX_BYTES: u64 = 64 * 1024;
/// Most work that opening a file may take: 2^22 is 4 GiB of memory and some 16 s.
const MAX_WORK_FACTOR: u8 = 22;

/// Least number of characters of a new passphrase.
pub const MIN_PASSPHRASE_CHARS: usize = 12;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It is there already.
    #[error("{0} exists already and is never overwritten")]
    Exists(PathBuf),
    /// Others may read it.
    #[error("{0} can be read by others; run: chmod 600 {0}")]
    Permissions(PathBuf),
    /// It is not what it should be.
    #[error("{path} is not {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open {0}")]
    Passphrase(PathBuf),
    /// A new passphrase is too short.
    #[error("a passphrase has at least {MIN_PASSPHRASE_CHARS} characters; several words are best")]
    ShortPassphrase,
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn content(path: &Path, what: &'static str) -> Self {
        Self::Content {
            path: path.to_owned(),
            what,
        }
    }
}

/// Makes a directory that only its owner may enter; one that exists is left as it is.
///
/// # Errors
/// [`FileError::Io`].
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(FileError::io(path))
}

/// Writes a new file, readable by its owner only. It appears whole, on disk, or
/// not at all, and never takes another's place.
///
/// # Errors
/// [`FileError::Exists`] or [`FileError::Io`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if path.exists() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link, unlike a rename, fails when somebody else was faster.
        fs::hard_link(&part, path)?;
        sync_parent(path)
    })();
    let _ = fs::remove_file(&part);
    written.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            FileError::Exists(path.to_owned())
        } else {
            FileError::Io {
                path: path.to_owned(),
                source,
            }
        }
    })
}

/// Appends a line and syncs it.
///
/// # Errors
/// [`FileError::Io`].
pub fn append_line(path: &Path, line: &str) -> Result<(), FileError> {
    let append = || {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        sync_parent(path)
    };
    append().map_err(FileError::io(path))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Reads a file of moderate size.
///
/// # Errors
/// [`FileError::Io`], or [`FileError::Content`] when it is too large to be right.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(FileError::io(path))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::content(path, "a small file"));
    }
    Ok(bytes)
}

/// Reads a file of text.
///
/// # Errors
/// As [`read`], and [`FileError::Content`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let bytes = read(path)?;
    String::from_utf8(bytes.to_vec())
        .map(Zeroizing::new)
        .map_err(|_| FileError::content(path, "text"))
}

/// Reads a secret; refuses one that others can read.
///
/// # Errors
/// As [`read_text`], and [`FileError::Permissions`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path)
            .map_err(FileError::io(path))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(FileError::Permissions(path.to_owned()));
        }
    }
    read_text(path)
}

/// Reads a passphrase: the file's first line.
///
/// # Errors
/// As [`read_text`], and [`FileError::Content`] when the line is empty.
pub fn read_passphrase(path: &Path) -> Result<SecretString, FileError> {
    let text = read_text(path)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line.to_owned())),
        _ => Err(FileError::content(path, "a passphrase file: it is empty")),
    }
}

/// Encrypts under a passphrase, as an age file (armoured) with scrypt work 2^`work_factor`.
///
/// # Errors
/// [`FileError::Io`] naming `path`, for which the bytes are meant.
pub fn seal(
    path: &Path,
    plaintext: &[u8],
    passphrase: &SecretString,
    work_factor: u8,
) -> Result<String, FileError> {
    let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(work_factor.clamp(1, MAX_WORK_FACTOR));
    age::encrypt_and_armor(&recipient, plaintext)
        .map_err(io::Error::other)
        .map_err(FileError::io(path))
}

/// Opens what [`seal`] made (or `age --passphrase`).
///
/// # Errors
/// [`FileError::Passphrase`] for a wrong passphrase, [`FileError::Content`] for
/// what is no age file.
pub fn open(
    path: &Path,
    sealed: &[u8],
    passphrase: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut identity = age::scrypt::Identity::new(passphrase.clone());
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    match age::decrypt(&identity, sealed) {
        Ok(plaintext) => Ok(Zeroizing::new(plaintext)),
        Err(age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed) => {
            Err(FileError::Passphrase(path.to_owned()))
        }
        Err(_) => Err(FileError::content(path, "an age file with a passphrase")),
    }
}

/// Refuses a new passphrase that is too short.
///
/// # Errors
/// [`FileError::ShortPassphrase`].
pub fn check_new_passphrase(passphrase: &str) -> Result<(), FileError> {
    if passphrase.chars().count() < MIN_PASSPHRASE_CHARS {
        Err(FileError::ShortPassphrase)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_new(&path, b"one").unwrap();
        assert!(matches!(
            write_new(&path, b"two"),
            Err(FileError::Exists(_))
        ));
        assert_eq!(*read_secret(&path).unwrap(), "one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(read_secret(&path), Err(FileError::Permissions(_))));
        }
    }

    #[test]
    fn sealed_files_open_with_their_passphrase_only() {
        let path = Path::new("root.age");
        let right = SecretString::from("correct horse battery".to_owned());
        let wrong = SecretString::from("correct horse batterie".to_owned());
        let sealed = seal(path, b"key", &right, 8).unwrap();
        assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        assert_eq!(
            open(path, sealed.as_bytes(), &right).unwrap().as_slice(),
            b"key"
        );
        assert!(matches!(
            open(path, sealed.as_bytes(), &wrong),
            Err(FileError::Passphrase(_))
        ));
        assert!(matches!(
            open(path, b"nonsense", &right),
            Err(FileError::Content { .. })
        ));
        let cut = &sealed.as_bytes()[..sealed.len() / 2];
        assert!(matches!(
            open(path, cut, &right),
            Err(FileError::Content { .. })
        ));
    }

    #[test]
    fn passphrase_files_end_at_the_first_line() {
        use age::secrecy::ExposeSecret as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phrase");
        fs::write(&path, "several words\r\nrest").unwrap();
        assert_eq!(
            read_passphrase(&path).unwrap().expose_secret(),
            "several words"
        );
        fs::write(&path, "\n").unwrap();
        assert!(read_passphrase(&path).is_err());
        assert!(check_new_passphrase("short").is_err());
        assert!(check_new_passphrase("several words").is_ok());
    }
}
