//! What a model's text loses before anything else sees it: thinking, and characters that command a terminal.

/// The tags between which some models think aloud.
const THINKING: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];

/// Cleans a stream of text piece by piece; a tag may be cut anywhere.
#[derive(Default)]
pub struct Cleaner {
    held: String,
    inside: Option<&'static str>,
    anything: bool,
}

impl Cleaner {
    /// Takes the next piece, gives what is certainly text.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.extend(piece.chars().filter_map(harmless));
        let mut out = String::new();
        loop {
            if let Some(end) = self.inside {
                if let Some(at) = self.held.find(end) {
                    self.held.drain(..at + end.len());
                    self.inside = None;
                } else {
                    let keep = overlap(&self.held, end);
                    let cut = self.held.len() - keep;
                    self.held.drain(..cut);
                    return self.lead(out);
                }
            } else {
                let first = THINKING
                    .iter()
                    .filter_map(|(begin, end)| self.held.find(begin).map(|at| (at, *begin, *end)))
                    .min_by_key(|(at, ..)| *at);
                if let Some((at, begin, end)) = first {
                    out.extend(self.held.drain(..at));
                    self.held.drain(..begin.len());
                    self.inside = Some(end);
                } else {
                    let keep = THINKING
                        .iter()
                        .map(|(begin, _)| overlap(&self.held, begin))
                        .max()
                        .unwrap_or(0);
                    let cut = self.held.len() - keep;
                    out.extend(self.held.drain(..cut));
                    return self.lead(out);
                }
            }
        }
    }

    /// The end of the stream: what was held back because it might have been a tag is text after all. A thought that
    /// never ended stays unsaid.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        if self.inside.take().is_some() {
            String::new()
        } else {
            self.lead(rest)
        }
    }

    /// White space before the first word is noise that thinking leaves behind.
    fn lead(&mut self, out: String) -> String {
        if self.anything {
            return out;
        }
        let trimmed = out.trim_start();
        self.anything = !trimmed.is_empty();
        if trimmed.len() == out.len() {
            out
        } else {
            trimmed.to_owned()
        }
    }
}

/// How many bytes at the end of `text` are a true beginning of `tag`.
fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|n| tag.get(..*n).is_some_and(|begin| text.ends_with(begin)))
        .unwrap_or(0)
}

/// Takes control characters, direction overrides and invisible tag characters away; keeps line ends and tabs.
pub fn strip_controls(text: &str) -> String {
    text.chars().filter_map(harmless).collect()
}

fn harmless(c: char) -> Option<char> {
    match c {
        '\n' | '\t' => Some(c),
        '\u{2028}' | '\u{2029}' => Some('\n'),
        // Direction overrides and isolates reorder what a person reads; tag characters and the word joiners hide text.
        '\u{202a}'..='\u{202e}'
        | '\u{200b}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pieces: &[&str]) -> String {
        let mut cleaner = Cleaner::default();
        let mut all: String = pieces.iter().map(|piece| cleaner.push(piece)).collect();
        all += &cleaner.finish();
        all
    }

    #[test]
    fn thinking_is_dropped_wherever_it_is_cut() {
        let text =
            "<think>\nThe patient é\n</think>\n\nRest <b and drink <thinking>x</thinking>water.";
        for cut in text.char_indices().map(|(at, _)| at) {
            let (a, b) = text.split_at(cut);
            assert_eq!(through(&[a, b]), "Rest <b and drink water.", "cut at {cut}");
        }
        let single: Vec<String> = text.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(through(&single), "Rest <b and drink water.");
    }

    #[test]
    fn an_unfinished_thought_is_never_said_and_an_unfinished_tag_is_text() {
        assert_eq!(through(&["Yes. <think>but her HIV"]), "Yes. ");
        assert_eq!(through(&["pressure <th"]), "pressure <th");
    }

    #[test]
    fn terminal_commands_lose_their_power() {
        assert_eq!(
            through(&["a\u{1b}[2J\u{1b}]0;title\u{7}b\u{9b}31m\r\n\tc\u{7f}\u{0}"]),
            "a[2J]0;titleb31m\n\tc"
        );
        assert_eq!(
            strip_controls("x\u{202e}evil\u{2066}\u{e0041}\u{feff}"),
            "xevil"
        );
        assert_eq!(strip_controls("日本 👩‍⚕️ שלום"), "日本 👩‍⚕️ שלום");
    }
}
