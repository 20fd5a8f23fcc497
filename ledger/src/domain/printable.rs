//! Text of others on a line of ours. What a user, a vendor or a retired system wrote may hold line feeds, which would begin a line that we
//! did not write, and codes that steer a terminal or turn the direction of what follows. They are written out, as Rust would: `\n`,
//! `\u{1b}`.

use std::borrow::Cow;

/// The text as one line of a terminal, a table or a log.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

/// The same for text that is ours and has lines of its own.
pub fn own_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && steers(c))
}

/// The text as one value among others on a line, where a blank begins the next one. A backslash is doubled, so that two values stay
/// two.
pub fn one_word(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\\' || c.is_whitespace() || steers(c))
}

/// Whether a character does something to the line instead of standing on it.
fn steers(c: char) -> bool {
    // Line and paragraph separators, and what turns the direction of writing.
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_meant: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_meant) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' | '\\' if is_meant(c) => out.extend(c.escape_default()),
            c if is_meant(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_on_its_line_and_in_its_field() {
        let forged =
            "eve@example.com\n2026-01-01 run.finished seq=9\u{1b}[2K\u{9b}1A\u{202e}\r\tend";
        let line = one_line(forged);
        assert_eq!(
            line,
            r"eve@example.com\n2026-01-01 run.finished seq=9\u{1b}[2K\u{9b}1A\u{202e}\r\tend"
        );
        let word = one_word(forged);
        assert!(!word.contains([' ', '\n', '\u{1b}', '\u{202e}']), "{word}");
        assert!(
            word.starts_with(r"eve@example.com\n2026-01-01\u{20}run.finished"),
            "{word}"
        );
        assert_ne!(one_word("a b"), one_word(r"a\u{20}b"));
        assert_eq!(own_lines("one\ntwo\u{1b}[0m"), "one\ntwo\\u{1b}[0m");
    }

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        for text in ["", "jörg@example.com", "a \"b\" c=d", "日本 שלום", "C:\\x"] {
            assert!(matches!(one_line(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(one_word("jörg@example.com"), "jörg@example.com");
    }
}
