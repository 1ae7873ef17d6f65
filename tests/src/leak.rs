//! Looking for a marker where no plaintext may be, in every disguise that
//! software gives it by accident.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A text that was said in confidence.
pub struct Marker {
    needles: Vec<(String, Vec<u8>)>,
}

/// Where a marker was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The file, or whatever else was searched.
    pub place: String,
    /// In which disguise: "plain", "base64 at offset 1", …
    pub disguise: String,
}

impl Marker {
    /// Something to look for: letters and digits of which no part occurs by chance.
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut needles = vec![
            ("plain".to_owned(), bytes.to_vec()),
            ("hex".to_owned(), hex::encode(bytes).into_bytes()),
            ("HEX".to_owned(), hex::encode_upper(bytes).into_bytes()),
            (
                "UTF-16, little end first".to_owned(),
                text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ),
            (
                "UTF-16, big end first".to_owned(),
                text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            ),
        ];
        for offset in 0..3 {
            for (name, encoded) in [
                ("base64", STANDARD_NO_PAD.encode(shifted(bytes, offset))),
                ("base64url", URL_SAFE_NO_PAD.encode(shifted(bytes, offset))),
            ] {
                // Only the letters that the marker alone decides.
                let first = (offset * 8).div_ceil(6);
                let last = (offset + bytes.len()) * 8 / 6;
                let inner = encoded.as_bytes().get(first..last).unwrap_or_default();
                needles.push((format!("{name} at offset {offset}"), inner.to_vec()));
            }
        }
        Self { needles }
    }

    /// Looks into bytes.
    pub fn find_in(&self, place: &str, bytes: &[u8]) -> Vec<Leak> {
        self.needles
            .iter()
            .filter(|(_, needle)| contains(bytes, needle))
            .map(|(disguise, _)| Leak {
                place: place.to_owned(),
                disguise: disguise.clone(),
            })
            .collect()
    }

    /// Looks into every file under `folder`, and at the files' names.
    ///
    /// # Errors
    /// When something cannot be read, or there is no file at all.
    pub fn find_under(&self, folder: &Path) -> anyhow::Result<Vec<Leak>> {
        let files = files_under(folder)?;
        anyhow::ensure!(!files.is_empty(), "{} is empty", folder.display());
        let mut leaks = Vec::new();
        for file in files {
            let place = file.display().to_string();
            let bytes = fs::read(&file).with_context(|| place.clone())?;
            leaks.extend(self.find_in(&place, &bytes));
            leaks.extend(self.find_in(&format!("the name of {place}"), place.as_bytes()));
        }
        Ok(leaks)
    }
}

/// Every file under a folder.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_under(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

fn shifted(bytes: &[u8], offset: usize) -> Vec<u8> {
    let mut shifted = vec![0; offset];
    shifted.extend_from_slice(bytes);
    shifted
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Zebra7Quartz9Marker3Falcon";

    fn disguises(bytes: &[u8]) -> Vec<String> {
        let leaks = Marker::new(TEXT).find_in("here", bytes);
        leaks.into_iter().map(|leak| leak.disguise).collect()
    }

    #[test]
    fn every_disguise_is_seen_through() {
        for (expected, bytes) in [
            ("plain", format!("before {TEXT} after").into_bytes()),
            ("hex", hex::encode(TEXT).into_bytes()),
            ("HEX", hex::encode_upper(TEXT).into_bytes()),
            (
                "UTF-16, little end first",
                TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ),
            (
                "UTF-16, big end first",
                TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            ),
        ] {
            assert_eq!(disguises(&bytes), [expected]);
        }
        for (before, expected) in [
            ("abc", "base64 at offset 0"),
            ("a", "base64 at offset 1"),
            ("ab", "base64 at offset 2"),
        ] {
            let encoded = STANDARD_NO_PAD.encode(format!("{before}{TEXT}xyz"));
            assert!(
                disguises(encoded.as_bytes()).contains(&expected.to_owned()),
                "{expected}"
            );
        }
        assert!(disguises(b"nothing of the kind").is_empty());
    }

    #[test]
    fn folders_are_searched_to_the_bottom() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), format!("..{TEXT}..")).unwrap();
        let leaks = Marker::new(TEXT).find_under(folder.path()).unwrap();
        assert_eq!(leaks.len(), 1);
        assert!(leaks[0].place.ends_with("a/b/file"));
    }
}
