//! Emergencies in people's words: recognised without a model, answered with fixed advice, told to the clinicians.
//!
//! The rules look for combinations of words close to each other in a clause. They know denials ("no chest pain"), pure
//! questions about a subject ("what are the signs of a stroke?") and things of the past ("a stroke in 2015"), but a
//! denial or an excuse must be plain: in doubt it is an emergency.

mod denial;
mod rules;

use std::ops::Range;

use self::rules::RULES;

/// A kind of emergency, in the order in which advice is chosen when there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Thoughts of suicide or of harming oneself or others.
    SelfHarm,
    /// Somebody is unconscious or has a seizure.
    Unconscious,
    /// Trouble breathing.
    Breathing,
    /// Severe allergic reaction.
    Allergy,
    /// Heart.
    Heart,
    /// Stroke.
    Stroke,
    /// Severe bleeding.
    Bleeding,
    /// Overdose or poisoning.
    Poisoning,
    /// A very sick baby or child.
    Infant,
    /// Trouble in pregnancy.
    Pregnancy,
    /// Anything else that can't wait.
    Other,
}

impl Category {
    /// The clinicians' words for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SelfHarm => "thoughts of self-harm",
            Self::Unconscious => "loss of consciousness or seizure",
            Self::Breathing => "trouble breathing",
            Self::Allergy => "severe allergic reaction",
            Self::Heart => "chest pain or heart problem",
            Self::Stroke => "signs of a stroke",
            Self::Bleeding => "severe bleeding",
            Self::Poisoning => "overdose or poisoning",
            Self::Infant => "very sick baby or child",
            Self::Pregnancy => "emergency in pregnancy",
            Self::Other => "severe symptoms",
        }
    }
}

impl Category {
    /// The rule's name as it travels in an alert.
    pub fn code(self) -> &'static str {
        match self {
            Self::SelfHarm => "self-harm",
            Self::Unconscious => "unconscious",
            Self::Breathing => "breathing",
            Self::Allergy => "allergic-reaction",
            Self::Heart => "chest-pain",
            Self::Stroke => "stroke",
            Self::Bleeding => "bleeding",
            Self::Poisoning => "poisoning",
            Self::Infant => "sick-child",
            Self::Pregnancy => "pregnancy",
            Self::Other => "severe-symptoms",
        }
    }
}

/// What was recognised in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedFlags {
    /// At least one, the most pressing first.
    pub categories: Vec<Category>,
}

impl RedFlags {
    /// What the person is told. `number` is how the clinic writes its emergency number; `told` says whether a clinician
    /// is in the conversation.
    pub fn advice(&self, number: &str, told: bool) -> String {
        let first = self.categories.first().copied().unwrap_or(Category::Other);
        let special = match first {
            Category::SelfHarm => {
                "You are not alone, and help is there now. Please call {number} or a crisis line, or go to the nearest \
                 emergency department. If you can, tell someone near you and don't stay by yourself; move away from \
                 anything you could use to hurt yourself or others."
            }
            Category::Unconscious => {
                "Call {number} now. If the person does not breathe normally, start chest compressions and follow what the \
                 dispatcher says. If they breathe, lay them on their side. During a seizure, keep things they could hit out \
                 of the way and put nothing into the mouth."
            }
            Category::Breathing => {
                "Trouble breathing can be an emergency. Call {number} now. Sit upright, loosen tight clothes, and use your \
                 reliever inhaler if you were prescribed one."
            }
            Category::Allergy => {
                "This may be a severe allergic reaction. Call {number} now. Use an adrenaline auto-injector at once if there \
                 is one. Lie down with raised legs, or sit up if breathing is hard."
            }
            Category::Heart => {
                "Chest pain can be a sign of a heart attack. Call {number} now. Stop what you are doing, sit down and rest, \
                 and do not drive yourself."
            }
            Category::Stroke => {
                "These can be signs of a stroke, and every minute counts. Call {number} now, even if it gets better. Note the \
                 time when it began. Do not eat or drink."
            }
            Category::Bleeding => {
                "Call {number} now if the bleeding is heavy or doesn't stop. Press firmly on the place with a clean cloth and \
                 keep pressing."
            }
            Category::Poisoning => {
                "Call {number} or the poison centre now. Do not try to vomit. Keep the package, and say what was taken, how \
                 much and when."
            }
            Category::Infant => {
                "A baby or child with these signs must be seen at once. Call {number} or go to the nearest emergency department \
                 now."
            }
            Category::Pregnancy => {
                "Please call your maternity unit or {number} now. This must be looked at without waiting."
            }
            Category::Other => {
                "This may be an emergency. Call {number} now, or go to the nearest emergency department."
            }
        };
        let told = if told {
            "I have told the clinicians in this conversation, but messages may be read late: do not wait for them."
        } else {
            "No clinician reads this conversation, so nobody at the clinic knows about this yet."
        };
        format!("{} {told}", special.replace("{number}", number))
    }

    /// The line for the clinicians in the conversation.
    pub fn alert(&self) -> String {
        let names: Vec<_> = self
            .categories
            .iter()
            .map(|category| category.name())
            .collect();
        format!(
            "URGENT for the clinicians: possible {}. Please look at this conversation now.",
            names.join(", ")
        )
    }
}

/// Longest text that is looked at, in characters; a message is far shorter.
const TEXT_MAX: usize = 10_000;

/// Looks for emergencies in what a person wrote.
pub fn check(text: &str) -> Option<RedFlags> {
    let message = Message::read(text);
    let mut categories = Vec::new();
    for rule in RULES {
        let found = if rule.whole_message {
            rule.matches(&message.all, true)
        } else {
            message
                .clauses
                .iter()
                .any(|clause| rule.matches(clause, false))
        };
        if found {
            categories.push(rule.category);
        }
    }
    if message.young_baby() && rules::fever(&message.all) {
        categories.push(Category::Infant);
    }
    categories.sort_unstable();
    categories.dedup();
    (!categories.is_empty()).then_some(RedFlags { categories })
}

/// One combination of words.
struct Rule {
    category: Category,
    /// Every group must occur. A group is alternatives with `|` between them, an alternative is words that follow each other, a
    /// word ending in `*` stands for all that begin like it, `#` for a number of eight or more.
    groups: &'static [&'static str],
    /// The most words from the first to the last of a match.
    span: usize,
    /// Looks across the ends of sentences.
    whole_message: bool,
    /// Whether questions about the subject and things of the past are excused.
    excusable: bool,
}

/// The words of a message.
struct Message {
    clauses: Vec<Vec<String>>,
    all: Vec<String>,
}

/// Words that end what a denial covers.
const CLAUSE_WORDS: [&str; 7] = [
    "but", "however", "although", "though", "except", "yet", "whereas",
];

impl Message {
    fn read(text: &str) -> Self {
        let text: String = text
            .chars()
            .take(TEXT_MAX)
            .collect::<String>()
            .to_lowercase();
        let mut text: String = text
            .chars()
            .filter(|c| !matches!(c, '\'' | '\u{2019}' | '\u{2018}' | '`' | '\u{b4}'))
            .collect();
        for (from, to) in rules::COMPOUNDS {
            if text.contains(from) {
                text = text.replace(from, to);
            }
        }
        let mut clauses = vec![Vec::new()];
        let mut word = String::new();
        let characters: Vec<char> = text.chars().collect();
        for (at, c) in characters.iter().copied().enumerate() {
            let between_digits = matches!(c, '.' | ',')
                && at
                    .checked_sub(1)
                    .and_then(|i| characters.get(i))
                    .is_some_and(char::is_ascii_digit)
                && characters.get(at + 1).is_some_and(char::is_ascii_digit);
            if c.is_alphanumeric() || between_digits {
                word.push(c);
                continue;
            }
            let ended = std::mem::take(&mut word);
            if CLAUSE_WORDS.contains(&ended.as_str()) {
                clauses.push(Vec::new());
            } else if !ended.is_empty() {
                push(&mut clauses, ended);
            }
            match c {
                '.' | '!' | '?' | ';' | '\n' | ':' => clauses.push(Vec::new()),
                ',' => push(&mut clauses, ",".to_owned()),
                _ => {}
            }
        }
        if !word.is_empty() {
            push(&mut clauses, word);
        }
        clauses.retain(|clause| !clause.is_empty());
        let all = clauses.iter().flatten().cloned().collect();
        Self { clauses, all }
    }

    /// Whether a person of less than about three months is mentioned.
    fn young_baby(&self) -> bool {
        let word = |at: usize| self.all.get(at).map_or("", String::as_str);
        (0..self.all.len()).any(|at| {
            if matches!(word(at), "newborn" | "newborns" | "neonate") {
                return true;
            }
            let days = match word(at + 1) {
                "day" | "days" => 1.0,
                "week" | "weeks" | "wk" | "wks" => 7.0,
                "month" | "months" | "mo" | "mos" => 30.5,
                _ => return false,
            };
            let next = word(at + 2);
            let before = |back: usize| at.checked_sub(back).map_or("", word);
            let baby_before = (1..=3).any(|back| is_any(before(back), rules::BABY));
            let old = next == "old"
                || is_any(next, rules::BABY)
                || (baby_before && !matches!(next, "ago" | "after" | "since"));
            old && number(word(at)).is_some_and(|count| count * days <= 93.0)
        })
    }
}

fn push(clauses: &mut [Vec<String>], word: String) {
    if let Some(clause) = clauses.last_mut() {
        clause.push(word);
    }
}

fn number(word: &str) -> Option<f64> {
    const WORDS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    const MANY: [&str; 14] = [
        "dozen", "dozens", "fifteen", "sixteen", "eighteen", "twenty", "thirty", "forty", "fifty",
        "sixty", "seventy", "eighty", "ninety", "hundred",
    ];
    if MANY.contains(&word) {
        return Some(12.0);
    }
    if word == "a" {
        return Some(1.0);
    }
    let position = WORDS.iter().position(|known| *known == word);
    position
        .and_then(|at| u8::try_from(at).ok())
        .map(f64::from)
        .or_else(|| word.parse().ok())
}

impl Rule {
    fn matches(&self, words: &[String], across: bool) -> bool {
        if self.excusable && !across && denial::is_excused(words) {
            return false;
        }
        let mut places: Vec<Vec<Range<usize>>> = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            let mut found: Vec<_> = group
                .split('|')
                .flat_map(|alternative| find(words, alternative))
                .collect();
            if found.is_empty() {
                return false;
            }
            found.sort_unstable_by_key(|place| place.start);
            places.push(found);
        }
        let Some((first, others)) = places.split_first() else {
            return false;
        };
        first
            .iter()
            .any(|place| self.complete(words, std::slice::from_ref(place), others))
    }

    /// Tries to add one place of each remaining group within the span; then asks whether the whole is denied.
    fn complete(
        &self,
        words: &[String],
        chosen: &[Range<usize>],
        others: &[Vec<Range<usize>>],
    ) -> bool {
        let Some((next, rest)) = others.split_first() else {
            return !denial::is_denied(words, chosen);
        };
        let start = chosen.iter().map(|place| place.start).min().unwrap_or(0);
        let end = chosen.iter().map(|place| place.end).max().unwrap_or(0);
        let from = next.partition_point(|place| place.start + self.span < end);
        let near = next
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|place| place.start < start + self.span);
        near.into_iter().any(|place| {
            let overlaps = chosen
                .iter()
                .any(|other| other.start < place.end && place.start < other.end);
            if end.max(place.end) - start.min(place.start) > self.span || overlaps {
                return false;
            }
            let mut more = chosen.to_vec();
            more.push(place.clone());
            self.complete(words, &more, rest)
        })
    }
}

/// Where an alternative occurs.
fn find(words: &[String], alternative: &str) -> Vec<Range<usize>> {
    let pattern: Vec<&str> = alternative.split(' ').collect();
    words
        .windows(pattern.len())
        .enumerate()
        .filter(|(_, window)| {
            window
                .iter()
                .zip(&pattern)
                .all(|(word, wanted)| is_word(word, wanted))
        })
        // "500 mg" is no count of tablets.
        .filter(|(at, _)| {
            alternative != "#"
                || !words
                    .get(at + 1)
                    .is_some_and(|next| UNITS.contains(&next.as_str()))
        })
        .map(|(at, _)| at..at + pattern.len())
        .collect()
}

const UNITS: [&str; 16] = [
    "mg",
    "g",
    "ml",
    "mcg",
    "milligram",
    "milligrams",
    "percent",
    "minutes",
    "hours",
    "days",
    "weeks",
    "months",
    "years",
    "am",
    "pm",
    "times",
];

/// Whether a word is one of a list with `|` between its words.
fn is_any(word: &str, list: &str) -> bool {
    list.split('|').any(|wanted| is_word(word, wanted))
}

/// Whether a word is the wanted one, allowing two neighbouring letters to be swapped and, in long words, one slip.
fn is_word(word: &str, wanted: &str) -> bool {
    if wanted == "#" {
        return number(word).is_some_and(|count| count >= 8.0);
    }
    if let Some(begin) = wanted.strip_suffix('*') {
        return word.starts_with(begin)
            || (begin.len() >= 4 && word.get(..begin.len()).is_some_and(|w| swapped(w, begin)));
    }
    word == wanted
        || (wanted.len() >= 4 && swapped(word, wanted))
        || (wanted.len() >= 8 && one_slip(word, wanted))
}

fn swapped(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut wrong = a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y);
    match (wrong.next(), wrong.next(), wrong.next()) {
        (Some((i, (ax, bx))), Some((j, (ay, by))), None) => j == i + 1 && ax == by && ay == bx,
        _ => false,
    }
}

fn one_slip(a: &str, b: &str) -> bool {
    let (long, short) = if a.len() >= b.len() {
        (a.as_bytes(), b.as_bytes())
    } else {
        (b.as_bytes(), a.as_bytes())
    };
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = long.iter().zip(short).take_while(|(x, y)| x == y).count();
    let skip = usize::from(long.len() == short.len());
    long.get(same + 1..) == short.get(same + skip..)
}

#[cfg(test)]
mod tests;
