//! The clinic's documents, cut into titled passages with stable ids.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Most documents in a folder.
pub const DOCUMENTS_MAX: usize = 5000;
/// Longest document, in bytes.
pub const DOCUMENT_MAX: u64 = 1024 * 1024;
/// Most bytes of all documents together.
pub const TOTAL_MAX: usize = 64 * 1024 * 1024;
/// Longest passage, in bytes; a longer section is cut between paragraphs, a longer paragraph between sentences.
pub const PASSAGE_MAX: usize = 900;
/// How deep folders may lie inside each other.
const DEPTH_MAX: usize = 8;

/// A document as it lies in the folder.
pub struct Document {
    /// Path below the folder, with `/` between its parts.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// A piece of a document that can be quoted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Sixteen hex digits that stay the same as long as file, section and position in the section do.
    pub id: String,
    /// Path of the document below the folder.
    pub file: String,
    /// The document's title.
    pub title: String,
    /// The section's heading; empty before the first one.
    pub section: String,
    /// Words that the author listed as other names of the subject.
    pub keywords: String,
    /// The words themselves.
    pub text: String,
    /// Whether the document calls itself a sample text.
    pub sample: bool,
}

/// Why a folder gives no documents.
#[derive(Debug, Error)]
pub enum FolderFault {
    /// The folder can't be read.
    #[error("the folder of the clinic's documents {path} can't be read: {source}")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Far too many files: probably the wrong folder.
    #[error(
        "the folder {0} holds more than {DOCUMENTS_MAX} documents or 64 MiB of text; is it the right one?"
    )]
    TooMany(PathBuf),
}

/// What was found in a folder.
pub struct Found {
    /// Readable documents, sorted by file.
    pub documents: Vec<Document>,
    /// Files left out, with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

/// Reads every `.md` and `.txt` file of a folder. Hidden files and symbolic links are left alone, so that a link can't
/// carry other files into answers.
///
/// # Errors
///
/// [`FolderFault`] when the folder as such is unusable. A single bad file is only left out.
pub fn read_folder(folder: &Path) -> Result<Found, FolderFault> {
    let mut found = Found {
        documents: Vec::new(),
        left_out: Vec::new(),
    };
    let mut total = 0;
    let mut waiting = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((path, name, depth)) = waiting.pop() {
        let unreadable = |source| FolderFault::Unreadable {
            path: path.clone(),
            source,
        };
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if file_name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(unreadable)?;
            let below = if name.is_empty() {
                file_name
            } else {
                format!("{name}/{file_name}")
            };
            if kind.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), below, depth + 1));
            } else if kind.is_file() && is_text(&below) {
                match read_file(&entry.path()) {
                    Ok(text) => {
                        total += text.len();
                        found.documents.push(Document { file: below, text });
                    }
                    Err(reason) => found.left_out.push((below, reason)),
                }
                if found.documents.len() > DOCUMENTS_MAX || total > TOTAL_MAX {
                    return Err(FolderFault::TooMany(folder.to_path_buf()));
                }
            }
        }
    }
    found.documents.sort_by(|a, b| a.file.cmp(&b.file));
    found.left_out.sort();
    Ok(found)
}

fn is_text(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    ["md", "markdown", "txt"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn read_file(path: &Path) -> Result<String, &'static str> {
    let file = fs::File::open(path).map_err(|_| "it can't be read")?;
    let mut bytes = Vec::new();
    file.take(DOCUMENT_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| "it can't be read")?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err("it is longer than 1 MiB");
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")
}

/// Cuts a document into passages.
///
/// The first `# ` heading is the title (or the file's name), every other heading begins a section. A quoted line that
/// begins with "Sample text" marks a sample; a line `Keywords: …` before the first section gives other names of the
/// subject. Both are left out of the passages.
pub fn passages(document: &Document) -> Vec<Passage> {
    let mut head = Head::default();
    let mut sections: Vec<(String, Vec<String>)> = vec![(String::new(), vec![String::new()])];
    let mut fenced = false;
    for line in crate::model::clean::strip_controls(&document.text).lines() {
        let line = line.trim_end();
        fenced ^= line.starts_with("```");
        if !fenced && let Some(heading) = heading(line) {
            if head.title.is_empty() && sections.len() == 1 && line.starts_with("# ") {
                head.title = heading;
            } else {
                sections.push((heading, vec![String::new()]));
            }
        } else if sections.len() == 1 && head.takes(line) {
        } else if let Some((_, paragraphs)) = sections.last_mut() {
            if line.trim().is_empty() {
                paragraphs.push(String::new());
            } else if let Some(paragraph) = paragraphs.last_mut() {
                join(paragraph, line);
            }
        }
    }
    if head.title.is_empty() {
        head.title = name_of(&document.file);
    }
    let mut all: Vec<Passage> = Vec::new();
    for (section, paragraphs) in sections {
        for (number, text) in pack(&paragraphs).into_iter().enumerate() {
            // Two sections of the same name in one file are told apart by counting on.
            let same = all.iter().filter(|p| p.section == section).count();
            let number = number.max(same);
            all.push(Passage {
                id: id(&document.file, &section, number),
                file: document.file.clone(),
                title: head.title.clone(),
                section: section.clone(),
                keywords: head.keywords.clone(),
                text,
                sample: head.sample,
            });
        }
    }
    all
}

#[derive(Default)]
struct Head {
    title: String,
    keywords: String,
    sample: bool,
}

impl Head {
    fn takes(&mut self, line: &str) -> bool {
        if line
            .strip_prefix('>')
            .is_some_and(|rest| rest.trim_start().starts_with("Sample text"))
        {
            self.sample = true;
            return true;
        }
        if let Some(keywords) = line.strip_prefix("Keywords:") {
            keywords.trim().clone_into(&mut self.keywords);
            return true;
        }
        false
    }
}

fn heading(line: &str) -> Option<String> {
    let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
    let rest = line.get(hashes..)?.strip_prefix(' ')?;
    (1..=6)
        .contains(&hashes)
        .then(|| rest.trim().trim_end_matches('#').trim().to_owned())
}

/// Lines of one paragraph become one line; items of a list keep theirs.
fn join(paragraph: &mut String, line: &str) {
    let trimmed = line.trim_start();
    let item = trimmed.starts_with("- ")
        || trimmed.starts_with("* ")
        || trimmed
            .split_once(". ")
            .is_some_and(|(n, _)| n.len() < 3 && n.bytes().all(|b| b.is_ascii_digit()));
    if !paragraph.is_empty() {
        paragraph.push(if item { '\n' } else { ' ' });
    }
    paragraph.push_str(trimmed);
}

/// Puts paragraphs together as long as they fit into one passage.
fn pack(paragraphs: &[String]) -> Vec<String> {
    let mut packed: Vec<String> = Vec::new();
    for paragraph in paragraphs.iter().filter(|p| !p.is_empty()) {
        for part in shorten(paragraph) {
            match packed.last_mut() {
                Some(last) if last.len() + 2 + part.len() <= PASSAGE_MAX => {
                    last.push_str("\n\n");
                    last.push_str(part);
                }
                _ => packed.push(part.to_owned()),
            }
        }
    }
    packed
}

/// Cuts an over-long paragraph after a sentence, or after a word, or anywhere.
fn shorten(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > PASSAGE_MAX {
        let mut limit = PASSAGE_MAX;
        while !text.is_char_boundary(limit) {
            limit -= 1;
        }
        let window = text.get(..limit).unwrap_or_default();
        let cut = window
            .rfind(['\n'])
            .or_else(|| window.rfind(". ").map(|at| at + 1))
            .or_else(|| window.rfind(' '))
            .filter(|at| *at > 0)
            .unwrap_or(limit);
        let (part, rest) = text.split_at(cut);
        parts.push(part.trim());
        text = rest.trim_start();
    }
    parts.push(text);
    parts.retain(|part| !part.is_empty());
    parts
}

fn name_of(file: &str) -> String {
    let stem = Path::new(file)
        .file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or(file);
    let mut name = stem.replace(['-', '_'], " ");
    if let Some(first) = name.get(..1).map(str::to_uppercase) {
        name.replace_range(..1, &first);
    }
    name
}

fn id(file: &str, section: &str, number: usize) -> String {
    let mut hash = Sha256::new();
    for part in [file, section] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update((number as u64).to_be_bytes());
    hex::encode(hash.finalize()).chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document {
            file: "advice/wound-care.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn sections_become_passages() {
        let all = passages(&document(
            "# Wound care\n> Sample text for trying Wardline.\nKeywords: cut, dressing\n\nShort word.\n\n\
             ## Cleaning\nWash your hands.\nThen rinse.\n\n- one\n- two\n## Cleaning\nAgain.\n```\n# not a heading\n```\n",
        ));
        let shape: Vec<_> = all
            .iter()
            .map(|p| (p.section.as_str(), p.text.as_str()))
            .collect();
        assert_eq!(
            shape,
            [
                ("", "Short word."),
                ("Cleaning", "Wash your hands. Then rinse.\n\n- one\n- two"),
                ("Cleaning", "Again. ``` # not a heading ```"),
            ]
        );
        assert!(
            all.iter()
                .all(|p| p.sample && p.title == "Wound care" && p.keywords == "cut, dressing")
        );
        let mut ids: Vec<_> = all.iter().map(|p| p.id.clone()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn ids_survive_edits_elsewhere() {
        let before = passages(&document("# T\nIntro.\n## A\nText a.\n## B\nText b.\n"));
        let after = passages(&document(
            "# T\nIntro, longer now.\n## New\nx\n## A\nText a.\n## B\nText b, changed.\n",
        ));
        let of = |all: &[Passage], section: &str| {
            all.iter()
                .find(|p| p.section == section)
                .unwrap()
                .id
                .clone()
        };
        assert_eq!(of(&before, "A"), of(&after, "A"));
        assert_eq!(of(&before, "B"), of(&after, "B"));
    }

    #[test]
    fn long_text_is_cut_at_good_places_and_nothing_is_lost() {
        let sentence = "Drink a glass of water every hour while it is hot outside. ";
        let all = passages(&document(&format!("# T\n## S\n{}\n", sentence.repeat(60))));
        assert!(
            all.len() > 3
                && all
                    .iter()
                    .all(|p| p.text.len() <= PASSAGE_MAX && p.text.ends_with('.'))
        );
        let words: usize = all.iter().map(|p| p.text.split_whitespace().count()).sum();
        assert_eq!(words, sentence.split_whitespace().count() * 60);
        let solid = passages(&document(&"日".repeat(2000)));
        assert_eq!(
            solid.iter().map(|p| p.text.chars().count()).sum::<usize>(),
            2000
        );
    }

    #[test]
    fn a_file_without_title_is_named_after_itself() {
        assert_eq!(passages(&document("Only text."))[0].title, "Wound care");
    }

    #[test]
    fn folders_are_read_with_care() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("b.md"), "# B\ntext").unwrap();
        fs::write(at("sub/a.txt"), "text").unwrap();
        fs::write(at(".hidden.md"), "no").unwrap();
        fs::write(at("image.png"), "no").unwrap();
        fs::write(at("latin.txt"), [0xff, 0xfe, 0x20]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc/hostname", at("link.md")).unwrap();
        let found = read_folder(folder.path()).unwrap();
        let files: Vec<_> = found.documents.iter().map(|d| d.file.as_str()).collect();
        assert_eq!(files, ["b.md", "sub/a.txt"]);
        assert_eq!(
            found.left_out,
            [("latin.txt".to_owned(), "it is not UTF-8 text")]
        );
        assert!(read_folder(&at("absent")).is_err());
    }
}
