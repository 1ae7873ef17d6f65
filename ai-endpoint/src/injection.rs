//! A conservative screen for text that tries to command the model instead of asking it.
//!
//! It is one of several layers and not the one that is relied on: the model has no tools, sees one conversation, and
//! its words are screened again on the way out. So the screen prefers to let a clever trick pass over refusing a
//! patient's question. A flagged question is answered from the documents alone; a flagged document is never shown to a
//! model.

/// What the screen found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screening {
    /// Names of the rules that matched; empty when nothing did.
    pub reasons: Vec<&'static str>,
}

impl Screening {
    /// Whether the text should not reach the model.
    pub fn is_suspicious(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Longest text that is looked at, in characters.
const TEXT_MAX: usize = 50_000;

/// Marks that chat templates use. No person types them by accident.
const TEMPLATE_MARKS: [&str; 16] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "### system",
    "### instruction",
    "<tool_call>",
];

/// Looks at a text.
pub fn screen(text: &str) -> Screening {
    let mut reasons = Vec::new();
    let lower: String = text
        .chars()
        .take(TEXT_MAX)
        .filter_map(visible)
        .collect::<String>()
        .to_lowercase();
    if TEMPLATE_MARKS.iter().any(|mark| lower.contains(mark)) {
        reasons.push("template marks");
    }
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    let near = |first: &[&str], second: &[&str], span: usize| near(&words, first, second, span);
    let has = |phrases: &[&str]| {
        phrases
            .iter()
            .any(|phrase| find(&words, phrase).next().is_some())
    };

    // "Ignore the previous instructions on the label" is a patient's question: then the rules must be ours.
    let theirs = has(&[
        "label",
        "doctor",
        "doctors",
        "nurse",
        "leaflet",
        "discharge",
        "pharmacist",
        "package",
        "prescription",
        "dosing",
        "sheet",
        "surgeon",
        "physio",
        "dietary",
        "fasting",
        "care instructions",
        "hospital",
        "midwife",
        "dentist",
    ]);
    let rules: &[&str] = &[
        "instruction",
        "instructions",
        "prompt",
        "prompts",
        "rules",
        "guidelines",
        "directives",
        "programming",
        "restrictions",
        "guardrails",
        "policies",
        "constraints",
        "safeguards",
        "everything above",
        "all of the above",
        "what you were told",
        "previous text",
        "context above",
        "safety filters",
        "safety settings",
        "filters",
    ];
    let drop: &[&str] = &[
        "ignore",
        "ignoring",
        "disregard",
        "forget",
        "bypass",
        "override",
        "overrule",
        "neglect",
        "skip",
        "disobey",
        "drop",
        "abandon",
        "discard",
        "dont follow",
        "do not follow",
        "stop following",
        "no longer follow",
        "set aside",
        "break",
        "disable",
        "without",
        "remove your",
        "turn off",
        "switch off",
        "pay no attention to",
    ];
    let ours: &[&str] = &[
        "your",
        "system",
        "above",
        "all previous",
        "all prior",
        "prior",
        "hidden",
        "initial",
        "original",
        "developer",
    ];
    if near(drop, rules, 6) && (has(ours) || !theirs) {
        reasons.push("drop the rules");
    }
    let reveal: &[&str] = &[
        "reveal",
        "show",
        "print",
        "repeat",
        "output",
        "tell",
        "leak",
        "display",
        "what is",
        "what are",
        "whats",
        "give",
        "share",
        "write out",
        "disclose",
        "copy",
        "expose",
        "recite",
        "list",
        "translate",
        "summarize",
        "summarise",
        "dump",
        "paste",
    ];
    let secrets: &[&str] = &[
        "system prompt",
        "hidden prompt",
        "initial prompt",
        "your prompt",
        "your instructions",
        "your initial instructions",
        "your system",
        "your hidden",
        "your rules",
        "your guidelines",
        "your original instructions",
        "developer message",
        "system message",
        "system instructions",
        "your configuration",
        "your programming",
        "words above",
        "text above",
        "secret key",
        "your secret",
        "prompt verbatim",
        "instructions verbatim",
        "initial instructions",
        "hidden instructions",
        "canary",
    ];
    if near(reveal, secrets, 8) {
        reasons.push("reveal the rules");
    }
    let become_: &[&str] = &[
        "you are now",
        "act as",
        "pretend",
        "roleplay",
        "role play",
        "from now on",
        "behave as",
        "behave like",
        "simulate",
        "imagine you are",
        "you will be",
        "take on the role",
        "respond as",
        "answer as",
        "switch to",
        "enter",
        "activate",
        "enable",
    ];
    let unbound: &[&str] = &[
        "dan",
        "unrestricted",
        "no restrictions",
        "without restrictions",
        "no rules",
        "without rules",
        "without any rules",
        "no limits",
        "no filters",
        "unfiltered",
        "uncensored",
        "jailbroken",
        "jailbreak",
        "developer mode",
        "debug mode",
        "god mode",
        "admin mode",
        "root",
        "evil",
        "no ethical",
        "without ethical",
        "maintenance mode",
        "sudo mode",
        "without any restrictions",
        "without limitations",
        "no limitations",
        "amoral",
        "my doctor with no",
        "unlimited",
        "no guidelines",
        "opposite mode",
    ];
    if near(become_, unbound, 14)
        || has(&["do anything now", "jailbreak", "jailbroken", "sudo mode"])
    {
        reasons.push("another character");
    }
    if has(&[
        "new instructions",
        "updated instructions",
        "new system prompt",
        "end of prompt",
        "end of system",
        "begin system",
        "end of user",
        "system override",
        "override code",
        "end of document",
        "instructions to the ai",
        "note to the ai",
        "note to ai",
        "message to the ai",
        "attention ai",
        "ai instruction",
        "instruction for the assistant",
        "instructions for the assistant",
        "if you are an ai",
        "if you are a language model",
        "as a language model you must",
        "system notice",
        "admin command",
        "hey ai you must",
    ]) && !theirs
    {
        reasons.push("instructions in the text");
    }
    if starts_line_with_role(&lower) {
        reasons.push("forged speaker");
    }
    let send: &[&str] = &[
        "send",
        "post",
        "forward",
        "email",
        "upload",
        "transmit",
        "exfiltrate",
        "append",
        "include",
        "embed",
        "fetch",
    ];
    let data: &[&str] = &[
        "conversation",
        "history",
        "messages",
        "records",
        "chat",
        "patient data",
        "everything",
        "their data",
        "transcript",
    ];
    if near(send, data, 8)
        && (lower.contains("http")
            || lower.contains('@')
            || has(&["webhook", "url", "image link", "markdown image"]))
    {
        reasons.push("send data out");
    }
    let others: &[&str] = &[
        "other patients",
        "other patient",
        "all patients",
        "another patient",
        "other conversations",
        "other users",
        "all users",
        "patient list",
        "database",
        "other peoples",
        "every patient",
    ];
    if near(reveal, others, 8)
        && has(&[
            "names",
            "name",
            "records",
            "record",
            "messages",
            "data",
            "list",
            "conversations",
            "everything",
            "said",
            "diagnoses",
            "diagnosis",
            "wrote",
        ])
    {
        reasons.push("other people's data");
    }
    if near(
        &["execute", "run", "call", "invoke", "use"],
        &[
            "shell command",
            "system command",
            "browser_action",
            "web_search",
            "file_search",
            "tool call",
            "function call",
            "this code",
            "python",
            "bash",
            "curl",
            "rm rf",
            "sql",
        ],
        8,
    ) || lower.contains("\"tool_calls\"")
        || lower.contains("\"function\":")
    {
        reasons.push("call a tool");
    }
    if near(
        &["decode", "decrypt", "follow", "execute", "rot13", "obey"],
        &[
            "base64",
            "rot13",
            "hex",
            "encoded",
            "reversed",
            "hidden instructions",
            "morse",
        ],
        10,
    ) && !theirs
    {
        reasons.push("hidden instructions");
    }
    Screening { reasons }
}

/// Invisible characters must not split a word that the screen looks for.
fn visible(c: char) -> Option<char> {
    match c {
        '\''
        | '\u{2019}'
        | '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => None,
        c => Some(c),
    }
}

fn find<'a>(words: &'a [&'a str], phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let pattern: Vec<&str> = phrase.split([' ', '_']).collect();
    words
        .windows(pattern.len())
        .enumerate()
        .filter(move |(_, window)| *window == pattern.as_slice())
        .map(|(at, _)| at)
}

/// Whether a phrase of the second list follows one of the first within `span` words.
fn near(words: &[&str], first: &[&str], second: &[&str], span: usize) -> bool {
    let starts: Vec<usize> = first
        .iter()
        .flat_map(|phrase| find(words, phrase))
        .collect();
    !starts.is_empty()
        && second
            .iter()
            .flat_map(|phrase| find(words, phrase))
            .any(|at| starts.iter().any(|start| at > *start && at - start <= span))
}

/// A line that begins like the turn of another speaker.
fn starts_line_with_role(lower: &str) -> bool {
    lower.lines().any(|line| {
        let line = line.trim_start_matches(|c: char| "#*-=> [(\u{27e6}".contains(c));
        [
            "system:",
            "system]:",
            "system)",
            "system message:",
            "assistant:",
            "developer:",
            "ai:",
            "system prompt:",
        ]
        .iter()
        .any(|role| line.starts_with(role))
    })
}

#[cfg(test)]
mod tests;
