//! `ledger_snapshot!`: a run of the binary as one text, with everything that differs from run to run replaced.

use regex::Regex;

use crate::world::Output;

/// Patterns of what differs, and what stands for it; the first that fits wins.
const FILTERS: &[(&str, &str)] = &[
    (r"postgresql://\S+", "[URL]"),
    (r"/\S*/ledger-it-\S*?(/|$|\s|:|;)", "[HOME]$1"),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "[UUID]",
    ),
    (r"\b[0-9a-f]{64}\b", "[HASH]"),
    (r"\b[0-9a-f]{16}\b", "[SHORT]"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\b", "[TIME]"),
    (r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43,}=*", "+[KEY]"),
    (r"PostgreSQL \d+(\.\d+)?", "PostgreSQL [VERSION]"),
    (r" at line \d+$", ""),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
];

/// The run as one text.
pub(crate) fn shown(output: &Output) -> String {
    let text = format!(
        "exit: {}\n----- stdout -----\n{}----- stderr -----\n{}",
        output.exit, output.stdout, output.stderr
    );
    FILTERS.iter().fold(text, |text, (pattern, replacement)| {
        let pattern = Regex::new(&format!("(?m){pattern}")).unwrap();
        pattern.replace_all(&text, *replacement).into_owned()
    })
}

/// Compares a run of the binary with what is written down.
macro_rules! ledger_snapshot {
    ($output:expr, @$expected:literal) => {
        insta::assert_snapshot!($crate::snapshot::shown(&$output), @$expected)
    };
}
