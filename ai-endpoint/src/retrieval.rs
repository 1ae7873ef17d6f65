//! Finding the passages of the clinic's documents that fit a question: BM25 over an index in memory, and a rule for
//! "nothing fits".
//!
//! A BM25 score alone can't say whether a passage answers a question: it grows with every match and has no natural
//! zero. So a passage counts only if it also covers enough of what was asked, each of the question's ideas weighted by
//! how rare it is in the documents. An idea that no document mentions weighs most.

pub mod documents;
mod samples;
mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, BoostQuery, DisjunctionMaxQuery, Occur, Query, TermQuery};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};
use thiserror::Error;

use self::documents::{Document, FolderFault, Found, Passage, passages, read_folder};
use self::words::{ANALYZER, analyzer, concepts, sentences};

/// The share of a question's ideas, by weight, that a passage must cover.
pub const COVERAGE_MIN: f64 = 0.5;
/// A further passage is quoted only if its score reaches this share of the best one's.
const SCORE_SHARE: f64 = 0.6;
/// Memory of the index writer; tantivy's least.
const WRITER_BYTES: usize = 15_000_000;

/// A passage that fits.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The passage.
    pub passage: Passage,
    /// BM25.
    pub score: f32,
    /// Share of the question that it covers, 0..=1.
    pub coverage: f64,
}

/// Why the documents can't be used.
#[derive(Debug, Error)]
pub enum LibraryFault {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// The index.
    #[error("the index of the clinic's documents could not be made: {0}")]
    Index(#[from] tantivy::TantivyError),
}

/// Where the documents come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder of Markdown and text files.
    Folder(PathBuf),
    /// The sample texts that come with Wardline.
    Samples,
}

/// The clinic's documents, ready to be searched; follows the folder when asked to.
pub struct Library {
    source: Source,
    shelf: RwLock<Arc<Shelf>>,
}

/// One state of the documents.
struct Shelf {
    fingerprint: String,
    passages: Vec<Passage>,
    documents: usize,
    left_out: Vec<(String, &'static str)>,
    reader: IndexReader,
    fields: Fields,
}

#[derive(Clone, Copy)]
struct Fields {
    title: Field,
    section: Field,
    keywords: Field,
    body: Field,
    all: Field,
    number: Field,
}

/// What a library holds at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Documents that could be read.
    pub documents: usize,
    /// Passages in them.
    pub passages: usize,
    /// Files left out, with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// Hash over all documents, in hex.
    pub fingerprint: String,
    /// Whether they are the samples that come with Wardline.
    pub samples: bool,
}

impl Library {
    /// Reads and indexes the documents. Takes a moment for a big folder: call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// [`LibraryFault`], when the folder can't be read or the index can't be made.
    pub fn open(source: Source) -> Result<Self, LibraryFault> {
        let Found {
            documents,
            left_out,
        } = load(&source)?;
        let shelf = Shelf::build(&documents, left_out)?;
        Ok(Self {
            source,
            shelf: RwLock::new(Arc::new(shelf)),
        })
    }

    /// Looks whether the documents have changed, and indexes them anew if so. Says whether they had. On an error the
    /// former state stays in use.
    ///
    /// # Errors
    ///
    /// As [`Library::open`].
    pub fn refresh(&self) -> Result<bool, LibraryFault> {
        let Found {
            documents,
            left_out,
        } = load(&self.source)?;
        if fingerprint(&documents) == self.shelf().fingerprint {
            return Ok(false);
        }
        let fresh = Arc::new(Shelf::build(&documents, left_out)?);
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// At most `most` passages that fit, best first; none if nothing does.
    ///
    /// People tell before they ask. If nothing fits all that was said, each sentence is tried
    /// alone, by the same rule.
    ///
    /// # Errors
    ///
    /// [`LibraryFault::Index`], which would be a fault of the index library.
    pub fn search(&self, question: &str, most: usize) -> Result<Vec<Hit>, LibraryFault> {
        let now = self.shelf();
        let whole = now.search(question, most)?;
        if !whole.is_empty() {
            return Ok(whole);
        }
        let mut best: Vec<Hit> = Vec::new();
        for sentence in sentences(question) {
            let found = now.search(sentence, most)?;
            let score = |hits: &[Hit]| hits.first().map_or(0.0, |hit| hit.score);
            if score(&found) > score(&best) {
                best = found;
            }
        }
        Ok(best)
    }

    /// What there is.
    pub fn inventory(&self) -> Inventory {
        let now = self.shelf();
        Inventory {
            documents: now.documents,
            passages: now.passages.len(),
            left_out: now.left_out.clone(),
            fingerprint: now.fingerprint.clone(),
            samples: matches!(self.source, Source::Samples),
        }
    }

    /// Title and file of every document, in order.
    pub fn titles(&self) -> Vec<(String, String)> {
        let mut titles: Vec<_> = self
            .shelf()
            .passages
            .iter()
            .map(|p| (p.title.clone(), p.file.clone()))
            .collect();
        titles.dedup();
        titles
    }

    fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn load(source: &Source) -> Result<Found, FolderFault> {
    match source {
        Source::Folder(folder) => read_folder(Path::new(folder)),
        Source::Samples => Ok(Found {
            documents: samples::all(),
            left_out: Vec::new(),
        }),
    }
}

fn fingerprint(documents: &[Document]) -> String {
    let mut hash = Sha256::new();
    for document in documents {
        for part in [&document.file, &document.text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

impl Shelf {
    fn build(
        documents: &[Document],
        left_out: Vec<(String, &'static str)>,
    ) -> Result<Self, tantivy::TantivyError> {
        let passages: Vec<Passage> = documents.iter().flat_map(passages).collect();
        let mut schema = Schema::builder();
        let text = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(ANALYZER)
                .set_index_option(IndexRecordOption::WithFreqs),
        );
        let fields = Fields {
            title: schema.add_text_field("title", text.clone()),
            section: schema.add_text_field("section", text.clone()),
            keywords: schema.add_text_field("keywords", text.clone()),
            body: schema.add_text_field("body", text.clone()),
            all: schema.add_text_field("all", text),
            number: schema.add_u64_field("number", STORED),
        };
        let index = Index::create_in_ram(schema.build());
        index.tokenizers().register(ANALYZER, analyzer());
        let mut writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES)?;
        for (number, passage) in passages.iter().enumerate() {
            let mut entry = TantivyDocument::default();
            entry.add_text(fields.title, &passage.title);
            entry.add_text(fields.section, &passage.section);
            entry.add_text(fields.keywords, &passage.keywords);
            entry.add_text(fields.body, &passage.text);
            let all = format!(
                "{}\n{}\n{}\n{}",
                passage.title, passage.section, passage.keywords, passage.text
            );
            entry.add_text(fields.all, all);
            entry.add_u64(fields.number, number as u64);
            writer.add_document(entry)?;
        }
        writer.commit()?;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()?;
        let fingerprint = fingerprint(documents);
        Ok(Self {
            fingerprint,
            passages,
            documents: documents.len(),
            left_out,
            reader,
            fields,
        })
    }

    fn search(&self, question: &str, most: usize) -> Result<Vec<Hit>, tantivy::TantivyError> {
        let searcher = self.reader.searcher();
        // Each idea with its weight; the terms in it are other words for the same.
        let mut ideas = Vec::new();
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of passages are far below 2^52"
        )]
        let all = searcher.num_docs() as f64;
        for terms in concepts(question) {
            // One idea counts once, however many of its words occur and wherever: the best place decides.
            let mut places: Vec<Box<dyn Query>> = Vec::new();
            let mut anywhere: Vec<(Occur, Box<dyn Query>)> = Vec::new();
            for term in &terms {
                anywhere.push((Occur::Should, query(self.fields.all, term)));
                for (field, boost) in [
                    (self.fields.title, 2.0),
                    (self.fields.section, 2.0),
                    (self.fields.keywords, 1.5),
                    (self.fields.body, 1.0),
                ] {
                    places.push(Box::new(BoostQuery::new(query(field, term), boost)));
                }
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of passages are far below 2^52"
            )]
            let frequency = searcher.search(&BooleanQuery::new(anywhere), &Count)? as f64;
            clauses.push((
                Occur::Should,
                Box::new(DisjunctionMaxQuery::with_tie_breaker(places, 0.3)),
            ));
            let weight = (1.0 + (all - frequency + 0.5) / (frequency + 0.5)).ln();
            ideas.push((terms, weight));
        }
        let total: f64 = ideas.iter().map(|(_, weight)| weight).sum();
        if ideas.is_empty() || total <= 0.0 {
            return Ok(Vec::new());
        }
        let query = BooleanQuery::new(clauses);
        let found = searcher.search(
            &query,
            &TopDocs::with_limit(most.max(1) * 8).order_by_score(),
        )?;
        let mut hits: Vec<Hit> = Vec::new();
        for (score, address) in found {
            let entry: TantivyDocument = searcher.doc(address)?;
            let number = entry
                .get_first(self.fields.number)
                .and_then(|value| value.as_u64());
            let Some(passage) = number
                .and_then(|number| usize::try_from(number).ok())
                .and_then(|number| self.passages.get(number))
            else {
                continue;
            };
            let covered = words::terms_of(passage);
            let sum: f64 = ideas
                .iter()
                .filter(|(terms, _)| terms.iter().any(|term| covered.contains(term)))
                .map(|(_, weight)| weight)
                .sum();
            let coverage = sum / total;
            if coverage >= COVERAGE_MIN {
                hits.push(Hit {
                    passage: passage.clone(),
                    score,
                    coverage,
                });
            }
        }
        // A passage that covers the whole question beats one that repeats half of it.
        hits.sort_by(|a, b| b.rank().total_cmp(&a.rank()));
        let least = hits.first().map_or(0.0, |best| best.rank() * SCORE_SHARE);
        hits.retain(|hit| hit.rank() >= least);
        hits.truncate(most);
        Ok(hits)
    }
}

fn query(field: Field, term: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(
        Term::from_field_text(field, term),
        IndexRecordOption::WithFreqs,
    ))
}

impl Hit {
    fn rank(&self) -> f64 {
        f64::from(self.score) * self.coverage
    }
}

#[cfg(test)]
mod tests;
