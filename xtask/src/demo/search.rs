//! Looks for words in every byte of a folder: plain, in base64 at every alignment, in hex.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What a search saw.
pub(super) struct Searched {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// Files that hold the words.
    pub(super) found: Vec<PathBuf>,
}

/// Searches every file below `dir`.
///
/// # Errors
/// When a file cannot be read: an unread file proves nothing.
pub(super) fn search(dir: &Path, words: &str) -> anyhow::Result<Searched> {
    let needles = needles(words);
    let mut searched = Searched {
        files: 0,
        bytes: 0,
        found: Vec::new(),
    };
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = fs::read(entry.path())
                .with_context(|| format!("{} cannot be read", entry.path().display()))?;
            searched.files += 1;
            searched.bytes += bytes.len() as u64;
            if needles.iter().any(|needle| {
                bytes
                    .windows(needle.len())
                    .any(|window| window == needle.as_slice())
            }) {
                searched.found.push(entry.path());
            }
        }
    }
    Ok(searched)
}

/// The forms in which words could lie about. In base64 the first and last characters depend on
/// what stands beside the words, so they are left off.
fn needles(words: &str) -> Vec<Vec<u8>> {
    let bytes = words.as_bytes();
    let mut needles = vec![
        bytes.to_vec(),
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
    ];
    for alignment in 0..3 {
        let mut shifted = vec![0; alignment];
        shifted.extend_from_slice(bytes);
        let text = STANDARD_NO_PAD.encode(&shifted);
        let skipped = if alignment == 0 { 0 } else { alignment + 1 };
        let end = text.len().saturating_sub(1);
        if let Some(inner) = text.get(skipped..end).filter(|inner| !inner.is_empty()) {
            needles.push(inner.as_bytes().to_vec());
            needles.push(inner.replace('+', "-").replace('/', "_").into_bytes());
        }
    }
    needles.retain(|needle| !needle.is_empty());
    needles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_every_disguise() {
        let words = "a marker nobody says by chance";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inner");
        fs::create_dir(&file).unwrap();
        let file = file.join("data");
        let disguises = [
            words.as_bytes().to_vec(),
            hex::encode(words).into_bytes(),
            hex::encode_upper(words).into_bytes(),
            STANDARD_NO_PAD.encode(words).into_bytes(),
            STANDARD_NO_PAD.encode(format!("x{words}y")).into_bytes(),
            STANDARD_NO_PAD.encode(format!("xy{words}zz")).into_bytes(),
            STANDARD_NO_PAD.encode(format!("xyz{words}z")).into_bytes(),
        ];
        for disguise in disguises {
            let mut bytes = b"something before ".to_vec();
            bytes.extend(&disguise);
            bytes.extend(b" and behind");
            fs::write(&file, bytes).unwrap();
            assert_eq!(search(dir.path(), words).unwrap().found.len(), 1);
        }
        fs::write(&file, "something else").unwrap();
        let searched = search(dir.path(), words).unwrap();
        assert!(searched.found.is_empty());
        assert_eq!((searched.files, searched.bytes), (1, 14));
    }
}
