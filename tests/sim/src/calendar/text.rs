//! Lone surrogate escapes: JSON text that Google serves and that no Rust string can hold.
//!
//! An event with `\ud83d` alone in a text is kept with a marker in its place (a private-use character and the code unit in
//! braces) and written as the escape again when it is served.

/// Starts a marker.
pub(crate) const MARK: char = '\u{f8ff}';

/// A text that is served as a lone surrogate escape.
pub fn lone_surrogate(unit: u16) -> String {
    format!("{MARK}{{{unit:04x}}}")
}

/// JSON text with each lone surrogate escape turned into a marker, so that it can be parsed.
pub(crate) fn hide(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (lone, taken) = match unit(rest) {
            None => (None, rest.chars().take(2).map(char::len_utf8).sum()),
            Some(0xd800..0xdc00) if matches!(unit(&rest[6..]), Some(0xdc00..0xe000)) => (None, 12),
            Some(unit @ 0xd800..0xe000) => (Some(unit), 6),
            Some(_) => (None, 6),
        };
        match lone {
            Some(unit) => out.push_str(&lone_surrogate(unit)),
            None => out.push_str(&rest[..taken]),
        }
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// JSON text with each marker turned back into the escape.
pub(crate) fn reveal(json: String) -> String {
    if !json.contains(MARK) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        rest = &rest[at + MARK.len_utf8()..];
        match rest.strip_prefix('{').and_then(|text| text.get(..5)) {
            Some(text) if text.ends_with('}') => {
                out.push_str("\\u");
                out.push_str(&text[..4]);
                rest = &rest[6..];
            }
            _ => out.push(MARK),
        }
    }
    out.push_str(rest);
    out
}

/// The code unit of a `\uXXXX` escape that the text starts with.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_survive_a_round_trip_and_pairs_are_left_alone() {
        let text = r#"{"a":"x\ud83dy","b":"\ud83d\ude00","c":"\\ud83d","d":"\udc00","e":"\ud800\ud83d\ude00"}"#;
        let hidden = hide(text);
        let value: serde_json::Value = serde_json::from_str(&hidden).unwrap();
        assert_eq!(value["b"], "😀");
        assert_eq!(value["c"], "\\ud83d");
        let shown = reveal(value.to_string());
        assert!(shown.contains(r#""a":"x\ud83dy""#), "{shown}");
        assert!(shown.contains(r#""d":"\udc00""#), "{shown}");
        assert!(shown.contains("\"e\":\"\\ud800😀\""), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_code_units_survive_a_round_trip(units: Vec<u16>) {
            let escapes: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escapes = escapes.concat();
            let value: serde_json::Value =
                serde_json::from_str(&hide(&format!("\"{escapes}\""))).unwrap();
            let shown = reveal(value.to_string());
            // Read as UTF-16, what is shown is what was given.
            let (mut seen, mut rest) = (Vec::new(), &shown[1..shown.len() - 1]);
            while !rest.is_empty() {
                let taken = if let Some(unit) = unit(rest) {
                    seen.push(unit);
                    6
                } else {
                    let escaped = rest.starts_with('\\');
                    let len = if escaped { 2 } else { rest.chars().next().unwrap().len_utf8() };
                    let text: String =
                        serde_json::from_str(&format!("\"{}\"", &rest[..len])).unwrap();
                    seen.extend(text.encode_utf16());
                    len
                };
                rest = &rest[taken..];
            }
            proptest::prop_assert_eq!(seen, units);
        }
    }
}
