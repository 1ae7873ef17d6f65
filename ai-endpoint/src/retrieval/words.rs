//! From text to index terms, and from a question to its ideas.

use std::collections::HashSet;
use std::sync::LazyLock;

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer,
    TextAnalyzer, TokenStream,
};

use super::documents::Passage;

/// The analyzer's name in the index.
pub(super) const ANALYZER: &str = "wardline";

/// Longest token that means anything.
const TOKEN_MAX: usize = 40;
/// Most ideas of one question that are looked up.
const IDEAS_MAX: usize = 24;
/// Most characters of a question that are looked at.
const QUESTION_MAX: usize = 2000;

/// Lower case, no accents, English stems.
pub(super) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(TOKEN_MAX))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

fn terms(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut stream = analyzer.token_stream(text);
    let mut all = Vec::new();
    while let Some(token) = stream.next() {
        all.push(token.text.clone());
    }
    all
}

/// Every term under which a passage can be found.
pub(super) fn terms_of(passage: &Passage) -> HashSet<String> {
    let mut analyzer = analyzer();
    [
        &passage.title,
        &passage.section,
        &passage.keywords,
        &passage.text,
    ]
    .into_iter()
    .flat_map(|text| terms(&mut analyzer, text))
    .collect()
}

/// The ideas of a question: each is a set of index terms, one of which is enough. Words that carry no meaning in a
/// question, and bare numbers, are no ideas.
pub(super) fn concepts(question: &str) -> Vec<Vec<String>> {
    let mut analyzer = analyzer();
    let question: String = question.chars().take(QUESTION_MAX).collect();
    let mut text: String = question.to_lowercase().replace(['\u{2019}', '\''], "");
    for (phrase, plain) in PHRASES {
        if text.contains(phrase) {
            text = text.replace(phrase, plain);
        }
    }
    let mut ideas: Vec<Vec<String>> = Vec::new();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if word.len() < 2
            || word.bytes().all(|b| b.is_ascii_digit())
            || EMPTY_WORDS
                .split_ascii_whitespace()
                .any(|empty| empty == word)
        {
            continue;
        }
        let mut idea = terms(&mut analyzer, word);
        let same: Vec<String> = STEMMED
            .iter()
            .filter(|group| idea.iter().any(|term| group.contains(term)))
            .flatten()
            .cloned()
            .collect();
        idea.extend(same);
        idea.sort();
        idea.dedup();
        if !idea.is_empty() && !ideas.contains(&idea) && ideas.len() < IDEAS_MAX {
            ideas.push(idea);
        }
    }
    ideas
}

/// Most sentences of one question that are looked up alone.
const SENTENCES_MAX: usize = 8;
/// A single idea alone says too little: "thanks", "knee".
const SENTENCE_IDEAS_MIN: usize = 2;

/// The sentences of a question that say enough to be looked up alone; none if there is but one.
pub(super) fn sentences(question: &str) -> Vec<&str> {
    let all: Vec<&str> = question
        .split(['.', '?', '!', ';', '\n'])
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
        .collect();
    if all.len() < 2 {
        return Vec::new();
    }
    all.into_iter()
        .filter(|sentence| concepts(sentence).len() >= SENTENCE_IDEAS_MIN)
        .take(SENTENCES_MAX)
        .collect()
}

/// Expressions that mean one word.
const PHRASES: [(&str, &str); 8] = [
    ("opening times", "hours"),
    ("opening hours", "hours"),
    ("blood sugar", "glucose"),
    ("high temperature", "fever"),
    ("pain killer", "painkiller"),
    ("throw up", "vomiting"),
    ("throwing up", "vomiting"),
    ("pick up", "collect"),
];

/// [`SAME`] as index terms.
static STEMMED: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let mut analyzer = analyzer();
    SAME.iter()
        .map(|group| {
            group
                .iter()
                .flat_map(|word| terms(&mut analyzer, word))
                .collect()
        })
        .collect()
});

/// Words for the same thing, in everyday and in clinical language.
const SAME: [&[&str]; 27] = [
    &[
        "child", "children", "kid", "kids", "baby", "babies", "toddler", "infant", "son",
        "daughter",
    ],
    &["fever", "temperature", "feverish"],
    &[
        "medicine",
        "medication",
        "meds",
        "drug",
        "pill",
        "pills",
        "tablet",
        "tablets",
    ],
    &[
        "vaccine",
        "vaccination",
        "jab",
        "shot",
        "immunisation",
        "immunization",
    ],
    &["doctor", "physician", "gp", "clinician"],
    &["wound", "cut", "incision", "stitches", "sutures", "graze"],
    &["dressing", "bandage", "plaster"],
    &["operation", "surgery", "surgical", "op"],
    &["bp", "pressure"],
    &["hypertension", "pressure"],
    &["inhaler", "puffer"],
    &["asthma", "asthmatic"],
    &["diabetes", "diabetic"],
    &["glucose", "sugar"],
    &["foot", "feet", "toe", "toes"],
    &["appointment", "appointments", "booking", "book", "visit"],
    &["reschedule", "rescheduling", "postpone", "cancel", "change"],
    &["open", "hours", "opening", "closed", "close"],
    &[
        "eat",
        "eating",
        "food",
        "breakfast",
        "meal",
        "fast",
        "fasting",
    ],
    &["drink", "drinking", "water", "fluid"],
    &["sick", "vomiting", "vomit", "nausea"],
    &["diarrhoea", "diarrhea"],
    &["painkiller", "paracetamol", "ibuprofen", "pain"],
    &["prescription", "refill", "repeat", "renew"],
    &["exercise", "activity", "active", "walking", "sport"],
    &["sleep", "insomnia", "sleeping"],
    &[
        "bathe",
        "bath",
        "shower",
        "showering",
        "wash",
        "washing",
        "clean",
        "cleaning",
    ],
];

/// Words that a question needs as a sentence but that say nothing about its subject.
const EMPTY_WORDS: &str = "a about after again ai all also always am an and any anything are as ask at be because been \
    before being best better between bit but by can cant could day days did do does doing dont \
    during each else every explain feel few find for from get getting give go going good got had \
    has have having hello help her here hi him his how i if im in information into is it its ive \
    just keep know let like long make many may me might more most much must my need needed no not \
    now of often ok okay old on one only or our out please problem properly question quickly right \
    safe safely say see she should since so some someone something soon start still take taking \
    tell thank thanks that the their them then there these they thing things think this those time \
    times to told too try up us use used using very want was way we week weeks well were what \
    whats when where whether which while who why will with without wont would yes yet you your \
    night morning evening";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_becomes_ideas() {
        let ideas = concepts("What should I do if my toddler has a temperature of 39?");
        assert_eq!(ideas.len(), 2, "{ideas:?}");
        assert!(ideas[0].contains(&"child".to_owned()) && ideas[1].contains(&"fever".to_owned()));
        assert!(concepts("what is it?").is_empty());
        assert!(concepts(&"word ".repeat(10_000)).len() == 1);
    }
}
