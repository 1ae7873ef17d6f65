//! Remote text, made safe for a terminal.

/// `text` without anything that a terminal would obey instead of show: escape
/// sequences, other control characters, and characters that reorder or hide
/// what stands beside them. Line breaks and tabs stay.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .filter(|&c| matches!(c, '\n' | '\t') || !(c.is_control() || is_hidden(c)))
        .collect()
}

/// Like [`safe`], on one line: breaks become spaces.
pub(crate) fn safe_line(text: &str) -> String {
    safe(text).replace(['\n', '\t'], " ")
}

fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_lose_their_power_and_words_stay() {
        assert_eq!(safe("\x1b]0;owned\x07 hi\x1b[2J"), "]0;owned hi[2J");
        assert_eq!(safe("\u{9b}31mred\r\u{8}"), "31mred");
        assert_eq!(safe("ab\u{202e}cd\u{2066}e"), "abcde");
        assert_eq!(
            safe("zwj 👩\u{200d}⚕️ ü 中文\n\tשלום"),
            "zwj 👩\u{200d}⚕️ ü 中文\n\tשלום"
        );
        assert_eq!(safe_line("a\nb\tc"), "a b c");
    }
}
