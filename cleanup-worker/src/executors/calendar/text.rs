//! Descriptions as text: HTML taken away, and v1's links to cases found.
//!
//! Calendar descriptions may be HTML, also where a program wrote plain text and a person pressed
//! save in the web interface afterwards.

use std::sync::LazyLock;

use regex::Regex;
use uuid::Uuid;

#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, compiled by every test"
)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

/// Turns HTML into text: line-breaking tags become line ends, other tags go, entities are decoded,
/// no-break spaces become spaces. Plain text passes unchanged, apart from what looks like a tag.
pub fn strip_html(html: &str) -> String {
    static BREAKS: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)<br\s*/?>|</(?:p|div|li|h[1-6]|tr|ul|ol)\s*>"));
    static TAGS: LazyLock<Regex> = LazyLock::new(|| pattern(r"</?[A-Za-z][^<>]*>"));
    let broken = BREAKS.replace_all(html, "\n");
    decode_entities(&TAGS.replace_all(&broken, ""))
}

/// Decodes character references, each once: `&amp;lt;` is `&lt;`. What is none stays as it is.
pub fn decode_entities(text: &str) -> String {
    static ENTITY: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"&(?:#([0-9]{1,7})|#[xX]([0-9A-Fa-f]{1,6})|([A-Za-z]{2,6}));"));
    ENTITY
        .replace_all(text, |found: &regex::Captures<'_>| {
            let code = |group: usize, radix| {
                found
                    .get(group)
                    .and_then(|digits| u32::from_str_radix(digits.as_str(), radix).ok())
            };
            let char = match found.get(3).map(|name| name.as_str()) {
                Some("amp") => Some('&'),
                Some("lt") => Some('<'),
                Some("gt") => Some('>'),
                Some("quot") => Some('"'),
                Some("apos") => Some('\''),
                Some("nbsp") => Some('\u{a0}'),
                _ => code(1, 10).or_else(|| code(2, 16)).and_then(char::from_u32),
            };
            char.map_or_else(|| found[0].to_owned(), String::from)
        })
        .replace('\u{a0}', " ")
}

/// The lines that carry text, each trimmed: what is left when spacing does not count.
pub fn bare_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n").replace('\u{a0}', " ")
}

/// How a description names a case of v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkForm {
    /// A line `Case: <uuid>`.
    CaseLine,
    /// An address `permtracker.app/cases/<uuid>`.
    CaseUrl,
}

impl LinkForm {
    /// The name in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::CaseLine => "case_line",
            Self::CaseUrl => "case_url",
        }
    }
}

/// The cases that a description names in one of v1's two ways, in order, each once per form.
///
/// A UUID standing anywhere else counts for nothing: v2 writes `RFI Entry ID: <uuid>`. The hex may
/// be in either case; the links may be in HTML attributes and behind a redirecting address.
pub fn case_links(description: &str) -> Vec<(LinkForm, Uuid)> {
    const HEX: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| pattern(&format!(r"(?i)(?:^|[^\w-])Case:\s*({HEX})(?:[^\w-]|$)")));
    static URL: LazyLock<Regex> = LazyLock::new(|| {
        pattern(&format!(
            r"(?i)(?:^|[^\w-])permtracker\.app/cases/({HEX})(?:[^\w-]|$)"
        ))
    });
    let stripped = strip_html(description);
    // Links in attributes are lost with their tags, so the addresses are looked for before that too.
    let attributes = decode_entities(description)
        .replace("%2F", "/")
        .replace("%2f", "/");
    let mut found = Vec::new();
    let mut collect = |form, expression: &Regex, text: &str| {
        for captures in expression.captures_iter(text) {
            if let Ok(id) = Uuid::try_parse(&captures[1])
                && !found.contains(&(form, id))
            {
                found.push((form, id));
            }
        }
    };
    collect(LinkForm::CaseLine, &LINE, &stripped);
    collect(LinkForm::CaseUrl, &URL, &stripped);
    collect(LinkForm::CaseUrl, &URL, &attributes);
    found
}

/// What stands behind `Name:` on a line of its own, as both versions write the words of a case.
pub fn detail(description: &str, name: &str) -> Option<String> {
    let text = strip_html(description);
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix(name)?.strip_prefix(':')?.trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    })
}

/// Whether a text names the product: `PERM Tracker` or `permtracker.app`, in any case of letters.
pub fn mentions_product(text: &str) -> bool {
    static PRODUCT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?i)\bPERM\s+Tracker\b|permtracker\.app\b"));
    PRODUCT.is_match(&strip_html(text)) || PRODUCT.is_match(&decode_entities(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn forms(description: &str) -> Vec<&'static str> {
        case_links(description)
            .into_iter()
            .map(|(form, _)| form.name())
            .collect()
    }

    #[test]
    fn case_links_are_found_in_each_of_v1s_forms() {
        for (description, expected) in [
            (format!("Case: {ID}"), vec!["case_line"]),
            (format!("case:{}", ID.to_uppercase()), vec!["case_line"]),
            (
                format!("Employer: X<br>Case:&nbsp;{ID}<br>PERM Tracker"),
                vec!["case_line"],
            ),
            (format!("<b>Case:</b> <span>{ID}</span>"), vec!["case_line"]),
            (
                format!("https://permtracker.app/cases/{ID}?tab=1"),
                vec!["case_url"],
            ),
            (
                format!("<a href=\"https://permtracker.app/cases/{ID}\">open</a>"),
                vec!["case_url"],
            ),
            (
                format!(
                    "<a href=\"https://example.com/url?q=https:%2F%2Fpermtracker.app%2Fcases%2F{ID}&amp;sa=D\">x</a>"
                ),
                vec!["case_url"],
            ),
            (
                format!("Case: {ID}\nhttps://www.permtracker.app/cases/{ID}"),
                vec!["case_line", "case_url"],
            ),
        ] {
            assert_eq!(forms(&description), expected, "{description}");
        }
    }

    #[test]
    fn a_uuid_in_any_other_place_is_no_case() {
        for description in [
            ID.to_owned(),
            format!("RFI Entry ID: {ID}"),
            format!("RFE Entry ID: {ID}\n\nPERM Tracker"),
            format!("Showcase: {ID}"),
            format!("Case number: {ID}"),
            format!("https://notpermtracker.app/cases/{ID}"),
            format!("https://permtracker.app/cases/{ID}0"),
            format!("https://permtracker.app/users/{ID}"),
            format!("Case: {ID}-1"),
            "Case: 0f8fad5b-d9cb-469f-a165".to_owned(),
            "Case: ------------------------------------".to_owned(),
        ] {
            assert_eq!(forms(&description), Vec::<&str>::new(), "{description}");
        }
    }

    #[test]
    fn a_detail_is_what_stands_behind_its_name() {
        for (description, expected) in [
            ("Employer: X\nBeneficiary:  A. B. \n", Some("A. B.")),
            (
                "Employer: X<br>Beneficiary: A &amp; B<br>PERM Tracker",
                Some("A & B"),
            ),
            ("Beneficiary:\nPERM Tracker", None),
            ("The Beneficiary: A", None),
            ("", None),
        ] {
            let found = detail(description, "Beneficiary");
            assert_eq!(found.as_deref(), expected, "{description}");
        }
    }

    #[test]
    fn html_becomes_the_text_that_a_person_sees() {
        for (html, text) in [
            ("a<br>b<BR/>c<br />d", "a\nb\nc\nd"),
            ("<p>AT&amp;T</p><p>x</p>", "AT&T\nx\n"),
            (
                "&lt;b&gt; &quot;q&quot; &#39;a&#x27; &apos;",
                "<b> \"q\" 'a' '",
            ),
            ("a&nbsp;b&#160;c", "a b c"),
            ("&amp;lt;", "&lt;"),
            ("AT&T; R&D", "AT&T; R&D"),
            ("A < B and C > D", "A < B and C > D"),
            ("&#1114112; &bogus;", "&#1114112; &bogus;"),
        ] {
            assert_eq!(strip_html(html), text, "{html}");
        }
    }

    #[test]
    fn the_product_is_recognised_by_name_or_address() {
        for text in [
            "PERM Tracker",
            "perm tracker",
            "PERM&nbsp;Tracker",
            "see permtracker.app/x",
        ] {
            assert!(mentions_product(text), "{text}");
        }
        for text in [
            "PERM",
            "tracker for PERM",
            "PERM Trackers",
            "permtracker.apple",
            "",
        ] {
            assert!(!mentions_product(text), "{text}");
        }
    }
}
