//! Rules of this repository that no compiler knows: which way dependencies point, how long a file may be, what may not
//! stand in one. Each rule is a pure function over text, tried on text that breaks it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Longest source file in lines: what fits one sitting.
const LINES_MAX: usize = 800;

/// Top of the checkout.
pub(crate) fn top() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    top.canonicalize().unwrap()
}

/// One text file of the checkout.
pub(crate) struct Source {
    /// Path from the top of the checkout.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every text file below `folder` whose name ends in one of `endings`, without what building leaves behind.
pub(crate) fn sources(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![top().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "logs"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(top()).unwrap();
                found.push(Source {
                    path: relative.to_string_lossy().into_owned(),
                    text: std::fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "nothing ends in {endings:?} in {folder}");
    found
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs") || path.contains("tests/")
}

/// The text without comments, and without the test module at its end.
pub(crate) fn code_of(text: &str) -> String {
    let module = Regex::new(r"(?m)^#\[cfg\(test\)\]\n(pub(\(crate\))? )?mod \w+ \{").unwrap();
    let end = module.find(text).map_or(text.len(), |found| found.start());
    let comment = Regex::new(r"(?m)(^|\s)//.*$").unwrap();
    comment.replace_all(&text[..end], "$1").into_owned()
}

/// What of the outside world, or of a layer above, a pure file reaches for.
fn reaches(layer: &str, code: &str) -> Vec<String> {
    // A group is taken apart, so that `std::{fmt, fs}` is `std::fmt` and `std::fs`.
    let group = Regex::new(r"\b((?:\w+::)+)\{([^{}]*)\}").unwrap();
    let mut code = code.to_owned();
    loop {
        let flat = group.replace(&code, |found: &regex::Captures<'_>| {
            let members = found[2].split(',').map(str::trim);
            let paths: Vec<String> = members.map(|name| format!("{}{name}", &found[1])).collect();
            paths.join("; ")
        });
        if flat == code {
            break;
        }
        code = flat.into_owned();
    }
    let above = match layer {
        "domain" => "chain|store|projections|http",
        _ => "store|projections|http",
    };
    let rules = [
        r"\bstd::(fs|net|env|process|thread|os|io)\b".to_owned(),
        r"\b(SystemTime|Instant)\b".to_owned(),
        r"\b(Utc|Local)::now\b".to_owned(),
        r"\bnew_v4\b|\bnow_v7\b".to_owned(),
        r"\b(sqlx|axum|reqwest|tokio|tokio_util|rustix|getrandom|rand)::".to_owned(),
        format!(r"\b(crate|super)::({above})\b"),
    ];
    let found = rules.iter().filter_map(|rule| {
        let found = Regex::new(rule).unwrap().find(&code)?;
        Some(found.as_str().to_owned())
    });
    found.collect()
}

#[test]
fn domain_and_chain_reach_for_nothing_outside_and_nothing_above() {
    for layer in ["domain", "chain"] {
        for source in sources(&format!("ledger/src/{layer}"), &[".rs"]) {
            if is_test_file(&source.path) {
                continue;
            }
            let found = reaches(layer, &code_of(&source.text));
            assert!(found.is_empty(), "{}: {found:?}", source.path);
        }
    }
}

#[test]
fn reaching_out_is_seen() {
    for code in [
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "use std::{\n    fmt,\n    env,\n};",
        "use std::time::{Duration, Instant};",
        "let now = chrono::Utc::now();",
        "Uuid::new_v4()",
        "use sqlx::{PgPool, Row};",
        "use crate::{chain::entry, domain::id};",
        "super::super::chain::entry::leaf_hash(b\"\")",
    ] {
        assert!(!reaches("domain", code).is_empty(), "{code}");
    }
    assert!(!reaches("chain", "use crate::store::Store;").is_empty());
    for code in [
        "use std::time::Duration;",
        "use std::{collections::BTreeMap, fmt};",
        "use crate::domain::id::LedgerId;",
        "use super::entry::Entry;",
    ] {
        assert!(reaches("chain", code).is_empty(), "{code}");
    }
    let tested = "use std::fmt; // not std::fs\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    assert!(reaches("domain", &code_of(tested)).is_empty());
}

/// A vendor or kind of item that a text names, in code or comment.
fn names_a_kind(text: &str) -> Option<&'static str> {
    let kinds = [
        "google", "supabase", "calendar", "convex", "vercel", "gmail", "s3",
    ];
    let text = text.to_lowercase();
    let word = |kind: &&str| {
        Regex::new(&format!(r"(\b|_){kind}"))
            .unwrap()
            .is_match(&text)
    };
    kinds.into_iter().find(word)
}

#[test]
fn the_engine_names_no_vendor_and_no_kind_of_item() {
    for source in sources("cleanup-worker/src/engine", &[".rs"]) {
        assert_eq!(names_a_kind(&source.text), None, "{}", source.path);
    }
    for text in [
        "use crate::executors::calendar::KIND;",
        "// as Google says",
        "let v2_convex = 1;",
    ] {
        assert!(names_a_kind(text).is_some(), "{text}");
    }
    assert!(names_a_kind("a place (where items lie), places").is_none());
}

/// Our own crates among the `[dependencies]` of a manifest.
fn our_dependencies(manifest: &str) -> BTreeSet<&str> {
    let ours = ["ledger", "cleanup-worker", "ledger-cli", "ledger-sim"];
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| ours.contains(name)).collect()
}

#[test]
fn crates_depend_one_way() {
    let allowed: [(&str, &[&str]); 4] = [
        ("ledger", &[]),
        ("tests/sim", &[]),
        ("cleanup-worker", &["ledger"]),
        ("cli", &["cleanup-worker", "ledger", "ledger-sim"]),
    ];
    for (folder, expected) in allowed {
        let manifest = std::fs::read_to_string(top().join(folder).join("Cargo.toml")).unwrap();
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        assert_eq!(our_dependencies(&manifest), expected, "{folder}");
    }
}

/// Whether any of these texts declares the module.
fn declares(texts: &[&str], module: &str) -> bool {
    let named =
        format!(r#"(?m)^\s*((pub(\([a-z]+\))? )?mod {module};|#\[path = "{module}\.rs"\])"#);
    let declaration = Regex::new(&named).unwrap();
    texts.iter().any(|text| declaration.is_match(text))
}

/// A file that no module names is not compiled, and a test in it never runs.
#[test]
fn every_file_is_part_of_its_crate() {
    const ROOTS: [&str; 4] = ["main", "lib", "mod", "build"];
    let all = sources(".", &[".rs"]);
    for source in &all {
        let path = Path::new(&source.path);
        let (folder, module) = (path.parent().unwrap(), path.file_stem().unwrap());
        let module = module.to_str().unwrap();
        let is_target = ["benches", "examples", "fuzz_targets", "bin"]
            .iter()
            .any(|name| folder.ends_with(name));
        // Integration tests that are a crate each.
        let is_target =
            is_target || (folder.ends_with("tests") && !source.path.starts_with("tests/"));
        if ROOTS.contains(&module) || is_target {
            continue;
        }
        let inside = all.iter().filter(|other| {
            let other = Path::new(&other.path);
            let stem = other.file_stem().and_then(|stem| stem.to_str());
            let beside = other.parent() == Some(folder);
            (beside && stem.is_some_and(|stem| stem != module))
                || other.with_extension("") == folder
        });
        let texts: Vec<&str> = inside.map(|other| other.text.as_str()).collect();
        assert!(
            declares(&texts, module),
            "{}: no module names it",
            source.path
        );
    }
    assert!(declares(&["mod a;\npub(crate) mod b;"], "b"));
    assert!(declares(
        &["#[path = \"b_tests.rs\"]\nmod tests;"],
        "b_tests"
    ));
    assert!(!declares(&["// mod b;\nmod bb;"], "b"));
}

#[test]
fn every_file_fits_one_sitting() {
    for source in sources(".", &[".rs", ".sql", ".py"]) {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.path);
    }
}

/// What may stand in no file, each with why.
fn forbidden(text: &str) -> Option<&'static str> {
    let checkout = top();
    let rules = [
        (concat!(r"\bto", r"do!\("), "unfinished"),
        (concat!(r"\bunimpl", r"emented!\("), "unfinished"),
        (concat!(r"#\[ign", r"ore"), "a test that does not run"),
        (concat!(r"#!?\[al", r"low\("), "use #[expect(.., reason)]"),
        (r"/(home|Users)/[a-z][a-z0-9_-]*/", "a path of one machine"),
    ];
    if text.contains(&*checkout.to_string_lossy()) && checkout.components().count() > 2 {
        return Some("the path of this checkout");
    }
    // Of these a few run with every test run.
    let thousand = concat!(
        "#[ign",
        "ore = \"takes most of an hour\"]\nasync fn a_thousand_random_worlds"
    );
    let allowed = text.replace("/home/linuxbrew/", "").replace(thousand, "");
    let mut rules = rules.into_iter();
    let found = rules.find(|(rule, _)| Regex::new(rule).unwrap().is_match(&allowed));
    found.map(|(_, why)| why)
}

#[test]
fn nothing_is_left_unfinished_or_tied_to_one_machine() {
    for source in sources(".", &[".rs", ".toml", ".sql", ".md", ".py", "run", ".snap"]) {
        let found = forbidden(&source.text);
        assert_eq!(found, None, "{}", source.path);
    }
    for text in [
        concat!("fn f() { to", "do!() }"),
        concat!("#[ign", "ore = \"slow\"]"),
        concat!("#![al", "low(dead_code)]"),
        concat!("cd /ho", "me/alice/ledger"),
    ] {
        assert!(forbidden(text).is_some(), "{text}");
    }
}

/// An address that could be somebody's.
fn address(text: &str) -> Option<&str> {
    let address = Regex::new(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b");
    let mut found = address.as_ref().unwrap().find_iter(text);
    let ours = |host: &str| host == "example.com" || host.ends_with(".example.com");
    let other = found.find(|found| {
        let (_, host) = found.as_str().split_once('@').unwrap();
        !ours(host)
    });
    other.map(|found| found.as_str())
}

#[test]
fn every_address_is_of_example_com() {
    let endings = [
        ".rs", ".toml", ".sql", ".md", ".py", ".json", ".snap", "run",
    ];
    for source in sources(".", &endings) {
        let found = address(&source.text);
        assert_eq!(found, None, "{}", source.path);
    }
    let host = "example.org";
    assert!(address(&format!("write to alice@{host}, or not")).is_some());
    assert!(address("alice@mail.example.com bob@example.com").is_none());
}

#[test]
fn migrations_are_numbered_without_a_gap_and_all_of_them_run() {
    let run = std::fs::read_to_string(top().join("ledger/src/store/migrate.rs")).unwrap();
    let migrations = sources("schema/migrations", &[".sql"]);
    for (number, source) in (1..).zip(&migrations) {
        let name = Path::new(&source.path).file_stem().unwrap().to_str();
        let name = name.unwrap();
        assert!(name.starts_with(&format!("{number:04}_")), "{name}");
        assert!(run.contains(&format!("{number} \"{name}\"")), "{name}");
        let first = source.text.lines().next().unwrap();
        assert!(first.starts_with(&format!("-- {name}.sql: ")), "{first}");
    }
    let listed = Regex::new(r#"\d+ "\d{4}_\w+""#).unwrap();
    assert_eq!(listed.find_iter(&run).count(), migrations.len());
}
