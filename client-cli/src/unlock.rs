//! Where profiles are, and what unlocks them. The one module that reads the environment.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use wardline_client::api::Unlock;
use zeroize::Zeroizing;

use crate::args::ProfileOptions;
use crate::failure::{Failure, Kind};

/// Longest passphrase that is read.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// The folder of the chosen profile.
pub(crate) fn profile_dir(options: &ProfileOptions) -> Result<PathBuf, Failure> {
    let name = &options.profile;
    let good = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !good || name.starts_with('.') {
        return Err(Failure::input(format!("{name:?} is not a profile name"))
            .hint("Use letters, digits, '-', '_' and '.'."));
    }
    let base = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => default_data_dir()?,
    };
    Ok(base.join(name))
}

#[expect(
    clippy::disallowed_methods,
    reason = "configuration is where the environment is read"
)]
fn default_data_dir() -> Result<PathBuf, Failure> {
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|dir| Path::new(dir).is_absolute())
    {
        return Ok(PathBuf::from(dir).join("wardline"));
    }
    std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".local/share/wardline"))
        .ok_or_else(|| {
            Failure::input("neither XDG_DATA_HOME nor HOME is set")
                .hint("Name the folder with --data-dir.")
        })
}

/// What unlocks the profile: a key file, a passphrase file, or a passphrase typed at the terminal
/// (twice for a new profile).
pub(crate) fn unlock(options: &ProfileOptions, new_profile: bool) -> Result<Unlock, Failure> {
    if let Some(path) = &options.key_file {
        return Ok(Unlock::KeyFile(path.clone()));
    }
    if let Some(path) = &options.passphrase_file {
        return read_passphrase_file(path).map(|text| Unlock::passphrase(text.as_str()));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Kind::Locked,
            "the profile needs its passphrase, and there is no terminal to ask at",
        )
        .hint("Give --passphrase-file FILE or --key-file FILE."));
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|error| {
                Failure::new(
                    Kind::Io,
                    format!("the passphrase could not be read: {error}"),
                )
            })
    };
    let first = ask("Passphrase: ")?;
    if new_profile {
        if first.chars().count() < 8 {
            return Err(Failure::input("the passphrase is too short")
                .hint("Take at least eight characters; several words are best."));
        }
        if *first != *ask("Again: ")? {
            return Err(Failure::input(
                "the two passphrases differ; nothing was made",
            ));
        }
    }
    Ok(Unlock::passphrase(first.as_str()))
}

fn read_passphrase_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(
            Kind::Locked,
            format!(
                "the passphrase file {} cannot be read: {error}",
                path.display()
            ),
        )
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(file.take(MAX_PASSPHRASE_BYTES))
        .read_line(&mut line)
        .map_err(unreadable)?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Failure::new(
            Kind::Locked,
            format!("the passphrase file {} is empty", path.display()),
        ));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(profile: &str) -> ProfileOptions {
        ProfileOptions {
            profile: profile.to_owned(),
            data_dir: Some(PathBuf::from("/data")),
            passphrase_file: None,
            key_file: None,
        }
    }

    #[test]
    fn profile_names_stay_in_their_folder() {
        assert_eq!(
            profile_dir(&options("ward-3")).unwrap(),
            Path::new("/data/ward-3")
        );
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "a b", "ü"] {
            assert!(profile_dir(&options(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_line_of_the_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        std::fs::write(&path, "correct horse\r\nsecond line\n").unwrap();
        assert_eq!(
            read_passphrase_file(&path).unwrap().as_str(),
            "correct horse"
        );
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(read_passphrase_file(&path).unwrap_err().kind, Kind::Locked);
        assert_eq!(
            read_passphrase_file(&dir.path().join("none"))
                .unwrap_err()
                .kind,
            Kind::Locked
        );
    }
}
