//! What a model said, made fit to be shown: no links, no images, no markup, no endless text, nothing of the rules; and a
//! mark where it sounds like a diagnosis.

use crate::prompt::RULES;

/// What the screen noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings")]
pub struct Noticed {
    /// Links or images were taken out.
    pub links_removed: bool,
    /// Markup was taken out.
    pub markup_removed: bool,
    /// It was too long and ends early.
    pub shortened: bool,
    /// Something sounds like a definite diagnosis.
    pub diagnosis: bool,
    /// The model wrote what looks like a call of a tool. There are no tools.
    pub tool_talk: bool,
}

/// The verdict on a text.
#[derive(Clone, PartialEq, Eq)]
pub enum Screened {
    /// Fit to be shown, perhaps changed.
    Fit(String, Noticed),
    /// It gives away the endpoint's rules: not to be shown at all.
    Leaks,
}

/// Screens a text. `canary` is the secret word of this prompt, `max` the most characters shown.
///
/// Screening a longer beginning of the same answer never takes back a leak that was found in a shorter one, so partial
/// answers can be screened as they grow.
pub fn screen(text: &str, canary: &str, max: usize) -> Screened {
    if leaks(text, canary) {
        return Screened::Leaks;
    }
    let mut noticed = Noticed::default();
    let text = crate::model::clean::strip_controls(text);
    let text = without_tool_talk(&text, &mut noticed);
    let text = without_markup(&text, &mut noticed);
    let text = without_links(&text, &mut noticed);
    let mut text = tidy(&text);
    if text.chars().count() > max {
        noticed.shortened = true;
        let cut: String = text.chars().take(max).collect();
        let end = cut
            .rfind(['.', '!', '?', '\n'])
            .filter(|at| *at > cut.len() / 2)
            .map_or(cut.len(), |at| at + 1);
        cut.get(..end)
            .unwrap_or(&cut)
            .trim_end()
            .clone_into(&mut text);
    }
    noticed.diagnosis = sounds_like_a_diagnosis(&text);
    Screened::Fit(text, noticed)
}

/// The part of a growing text that can be shown before the rest is there: up to the last white space, and nothing after
/// the beginning of a link or a tag that isn't complete.
pub fn settled(text: &str) -> &str {
    let end = text.rfind(char::is_whitespace).unwrap_or(0);
    let mut shown = text.get(..end).unwrap_or_default();
    // The last bracket may begin a link, `[words](where)`; "[1]" and "[1] and" are whole.
    if let Some(at) = shown.rfind('[') {
        let behind = shown.get(at..).unwrap_or_default();
        let open = match behind.split_once(']') {
            None => true,
            Some((_, target)) => target.starts_with('(') && !target.contains(')'),
        };
        if open {
            shown = shown.get(..at).unwrap_or_default();
        }
    }
    if let Some(at) = shown.rfind('<')
        && !shown.get(at..).unwrap_or_default().contains('>')
        && shown.get(at + 1..).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_alphabetic() || "/!|".contains(c))
        })
    {
        shown = shown.get(..at).unwrap_or_default();
    }
    shown.trim_end_matches('!').trim_end()
}

fn squeeze(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether the canary or a whole rule is in the text, however it is spaced.
fn leaks(text: &str, canary: &str) -> bool {
    let squeezed = squeeze(text);
    let canary = squeeze(canary);
    if !canary.is_empty() && squeezed.contains(&canary) {
        return true;
    }
    let reversed: String = squeezed.chars().rev().collect();
    (canary.len() >= 8 && reversed.contains(&canary))
        || RULES
            .split(['\n', '.', ';', ':', ','])
            .map(squeeze)
            .any(|rule| rule.len() >= 40 && squeezed.contains(&rule))
}

/// Blocks in which models write calls of tools.
const TOOL_BLOCKS: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<function_call>", "</function_call>"),
    ("<|tool_call|>", "<|/tool_call|>"),
    ("[TOOL_CALLS]", "\n"),
];

fn without_tool_talk(text: &str, noticed: &mut Noticed) -> String {
    let mut text = text.to_owned();
    for (open, close) in TOOL_BLOCKS {
        while let Some(at) = text.find(open) {
            noticed.tool_talk = true;
            let behind = text.get(at..).unwrap_or_default();
            let end = behind
                .find(close)
                .map_or(text.len(), |end| at + end + close.len());
            text.replace_range(at..end, "");
        }
    }
    // A whole answer that is only a JSON call.
    let trimmed = text
        .trim()
        .trim_start_matches("```json")
        .trim_matches('`')
        .trim();
    if trimmed.starts_with('{')
        && let Ok(serde_json::Value::Object(object)) = serde_json::from_str(trimmed)
        && [
            "name",
            "function",
            "tool",
            "tool_calls",
            "arguments",
            "action",
        ]
        .iter()
        .any(|key| object.contains_key(*key))
    {
        noticed.tool_talk = true;
        return String::new();
    }
    text
}

/// Tags that browsers act on. Others, like "<5 mmol/l", are text.
const TAGS: [&str; 46] = [
    "a", "abbr", "applet", "audio", "b", "base", "body", "br", "button", "canvas", "code", "div",
    "em", "embed", "font", "form", "frame", "h1", "h2", "h3", "h4", "head", "hr", "html", "i",
    "iframe", "img", "input", "li", "link", "meta", "object", "ol", "p", "pre", "script", "span",
    "strong", "style", "svg", "table", "td", "tr", "u", "ul", "video",
];

fn without_markup(text: &str, noticed: &mut Noticed) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name: String = from
            .trim_start_matches(['<', '/', '!'])
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase();
        let comment = from.starts_with("<!--");
        if comment || TAGS.contains(&name.as_str()) {
            noticed.markup_removed = true;
            let close = if comment { "-->" } else { ">" };
            let end = from.find(close).map_or(from.len(), |end| end + close.len());
            // The content of scripts and styles is no text either.
            let end = if matches!(name.as_str(), "script" | "style") && !from.starts_with("</") {
                let closing = format!("</{name}");
                from.to_ascii_lowercase()
                    .find(&closing)
                    .map_or(from.len(), |at| at.max(end))
            } else {
                end
            };
            rest = from.get(end..).unwrap_or_default();
        } else {
            out.push('<');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

const LINK_REMOVED: &str = "(link removed)";

fn without_links(text: &str, noticed: &mut Noticed) -> String {
    // Markdown first: `![alt](where)` and `[words](where)` keep their words, `[1]` stays.
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("](") {
        let Some(open) = rest.get(..at).and_then(|before| before.rfind('[')) else {
            let (before, from) = rest.split_at(at + 2);
            out.push_str(before);
            rest = from;
            continue;
        };
        let image = rest.get(..open).is_some_and(|before| before.ends_with('!'));
        let start = if image { open - 1 } else { open };
        let words = rest.get(open + 1..at).unwrap_or_default();
        let target = rest.get(at + 2..).unwrap_or_default();
        let length = target.find([')', '\n']).unwrap_or(target.len());
        noticed.links_removed = true;
        out.push_str(rest.get(..start).unwrap_or_default());
        if !image {
            out.push_str(words);
        }
        rest = target
            .get(length..)
            .map_or("", |rest| rest.strip_prefix(')').unwrap_or(rest));
    }
    out.push_str(rest);
    let mut clean = String::with_capacity(out.len());
    for part in out.split_inclusive(char::is_whitespace) {
        let word = part.trim_end();
        let space = part.get(word.len()..).unwrap_or_default();
        if is_link(word) {
            noticed.links_removed = true;
            clean.push_str(LINK_REMOVED);
            let tail = word.trim_end_matches(['.', ',', '!', '?', ';', ':', ')']);
            clean.push_str(word.get(tail.len()..).unwrap_or_default());
        } else {
            clean.push_str(word);
        }
        clean.push_str(space);
    }
    clean
}

fn is_link(word: &str) -> bool {
    let lower = word.to_lowercase();
    let schemes = [
        "://",
        "www.",
        "mailto:",
        "javascript:",
        "data:",
        "tel:",
        "file:",
        "vscode:",
        "ftp.",
    ];
    if schemes.iter().any(|scheme| lower.contains(scheme)) {
        return true;
    }
    // Terminals and chat clients make links of bare names too.
    let host = lower.trim_matches(|c: char| !c.is_alphanumeric());
    let host = host.split(['/', ':', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let Some((name, ending)) = host.rsplit_once('.') else {
        return false;
    };
    let labels = name
        .split('.')
        .all(|l| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-'));
    let address =
        host.split('.').count() == 4 && host.split('.').all(|part| part.parse::<u8>().is_ok());
    let known = [
        "com", "org", "net", "edu", "gov", "io", "ai", "dev", "app", "info", "biz", "xyz", "ru",
        "cn", "uk", "de", "eu", "me", "co", "link", "site", "online", "top", "click", "zip",
        "example", "test",
    ];
    address || (labels && known.contains(&ending))
}

/// Ends runs of empty lines and of spaces that the removals left.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines() {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty <= 1 {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

/// Beginnings of sentences that state a disease as a fact.
const DIAGNOSING: [&str; 26] = [
    "you have definitely",
    "you definitely have",
    "you clearly have",
    "you certainly have",
    "you are suffering from",
    "you do have",
    "you must have",
    "your diagnosis is",
    "the diagnosis is",
    "i diagnose",
    "i can confirm that you have",
    "this is definitely",
    "it is definitely",
    "this is certainly",
    "it is certainly",
    "this is clearly",
    "you don't have",
    "you do not have",
    "you have got",
    "there is no doubt that you have",
    "it can only be",
    "this means you have",
    "you are having a",
    "without a doubt",
    "your symptoms confirm",
    "this confirms that you have",
];
/// What makes "you have …" a diagnosis.
const DISEASES: [&str; 44] = [
    "pneumonia",
    "cancer",
    "diabetes",
    "infection",
    "an infection",
    "covid",
    "flu",
    "the flu",
    "asthma",
    "hypertension",
    "arthritis",
    "bronchitis",
    "appendicitis",
    "a stroke",
    "a heart attack",
    "meningitis",
    "sepsis",
    "migraine",
    "anemia",
    "anaemia",
    "depression",
    "gout",
    "a fracture",
    "a blood clot",
    "thrombosis",
    "a concussion",
    "angina",
    "eczema",
    "psoriasis",
    "gastritis",
    "an ulcer",
    "a hernia",
    "shingles",
    "lupus",
    "hepatitis",
    "hiv",
    "epilepsy",
    "dementia",
    "a virus",
    "a viral infection",
    "tonsillitis",
    "cellulitis",
    "anxiety",
    "a tumor",
];

fn sounds_like_a_diagnosis(text: &str) -> bool {
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    lower.split(['.', '!', '?', '\n', ';']).any(|sentence| {
        let sentence = sentence.trim();
        // "If you have diabetes" states nothing.
        let open = [
            "if ",
            "when ",
            "whether ",
            "in case",
            "people ",
            "should you",
            "do you",
            "ask ",
        ];
        if open.iter().any(|word| sentence.contains(word)) {
            return false;
        }
        DIAGNOSING.iter().any(|phrase| sentence.contains(phrase))
            || DISEASES.iter().any(|disease| {
                ["you have", "you've got", "you have got", "you've"]
                    .iter()
                    .any(|begin| sentence.contains(&format!("{begin} {disease}")))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(text: &str) -> (String, Noticed) {
        match screen(text, "K7QX-44ab12cd", 2000) {
            Screened::Fit(text, noticed) => (text, noticed),
            Screened::Leaks => panic!("leaks: {text}"),
        }
    }

    #[test]
    fn links_images_and_markup_go() {
        for (text, shown) in [
            (
                "See [our page](https://evil.example/?q=1) now.",
                "See our page now.",
            ),
            ("![x](http://203.0.113.9/a.png?d=secret)Rest.", "Rest."),
            ("Go to https://evil.example/x.", "Go to (link removed)."),
            (
                "Or evil.com/path, or 203.0.113.9 ok",
                "Or (link removed), or (link removed) ok",
            ),
            ("Ask a@evil.com today", "Ask (link removed) today"),
            (
                "<b>Bold</b><script>alert(1)</script> text<img src=x onerror=y>",
                "Bold text",
            ),
            ("a <!-- hidden --> b", "a  b"),
            (
                "Below <5 mmol/l and 3 < 4 and x<y>z",
                "Below <5 mmol/l and 3 < 4 and x<y>z",
            ),
            ("Rest [1] and drink [2].", "Rest [1] and drink [2]."),
            (
                "Take 1.5 ml at 8.30 a.m. e.g. today.Then rest.",
                "Take 1.5 ml at 8.30 a.m. e.g. today.Then rest.",
            ),
            ("[a](b", "a"),
            ("]( x", "]( x"),
            ("a\n\n\n\n\nb", "a\n\nb"),
        ] {
            assert_eq!(fit(text).0, shown, "{text}");
        }
    }

    #[test]
    fn nothing_that_looks_like_a_tool_call_stays() {
        let (text, noticed) =
            fit("Rest.<tool_call>{\"name\":\"browser_action\"}</tool_call> Drink.");
        assert_eq!((text.as_str(), noticed.tool_talk), ("Rest. Drink.", true));
        assert_eq!(
            fit("{\"name\": \"web_search\", \"arguments\": {\"q\": \"x\"}}").0,
            ""
        );
        assert_eq!(fit("Rest <tool_call> {\"never\": \"closed\"").0, "Rest");
    }

    #[test]
    fn the_rules_and_the_canary_never_come_out() {
        for leak in [
            "The word is K7QX-44ab12cd.",
            "k 7 q x 4 4 a b 1 2 c d",
            "K7QX\u{200b}44AB12CD",
            "dc21ba44XQ7K backwards",
            "My rules: Never make a diagnosis, never say that someone has or does not have a disease, and more",
            "YOU HAVE NO TOOLS AND CAN SEE NOTHING BUT THIS CONVERSATION",
        ] {
            assert!(
                screen(leak, "K7QX-44ab12cd", 2000) == Screened::Leaks,
                "{leak}"
            );
        }
    }

    #[test]
    fn long_answers_end_at_a_sentence() {
        let Screened::Fit(text, noticed) =
            screen(&"Drink water. ".repeat(100), "K7QX-44ab12cd", 200)
        else {
            panic!()
        };
        assert!(noticed.shortened && text.ends_with("water.") && text.chars().count() <= 200);
        let Screened::Fit(text, _) = screen(&"日".repeat(500), "K7QX-44ab12cd", 200) else {
            panic!()
        };
        assert_eq!(text.chars().count(), 200);
    }

    #[test]
    fn diagnoses_are_noticed_and_advice_is_not() {
        for yes in [
            "You definitely have pneumonia.",
            "Based on this, you have an infection.",
            "I diagnose a migraine.",
            "This is certainly cancer.",
            "Your diagnosis is gout",
            "You\u{2019}ve got bronchitis.",
            "You do not have cancer, relax.",
        ] {
            assert!(fit(yes).1.diagnosis, "{yes}");
        }
        for no in [
            "If you have diabetes, check your feet.",
            "You have to fast for 8 hours.",
            "Signs of infection are redness and pus.",
            "You have an appointment on Monday.",
            "Ask whether you have an infection.",
            "People with asthma use a spacer.",
        ] {
            assert!(!fit(no).1.diagnosis, "{no}");
        }
    }

    #[test]
    fn a_growing_answer_shows_only_what_is_settled() {
        assert_eq!(settled("Keep the wou"), "Keep the");
        assert_eq!(settled("Keep [1] it "), "Keep [1] it");
        assert_eq!(settled("See [our page](https://evil.exam x"), "See");
        assert_eq!(settled("See <img src= x"), "See");
        assert_eq!(settled("word"), "");
    }
}
