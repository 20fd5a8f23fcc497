//! The documents say what the program does: names, variables, statuses, types and paths in them are compared with it, and
//! the checker in `docs/format.md` is run on a ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ledger::domain::event;
use regex::Regex;
use serde_json::Value;

use crate::tidy::{code_of, sources, top};

fn document(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All that the first group of a pattern finds.
fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    let found = pattern.captures_iter(text);
    found.map(|found| found[1].to_owned()).collect()
}

/// The program in an environment of its own.
fn ledger(home: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ledger"))
        .args(args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(std::env::var_os("LEDGER_POSTGRES_BIN").map(|bin| ("LEDGER_POSTGRES_BIN", bin)))
        .env("LEDGER_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may have ended already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

#[test]
fn readme_names_every_variable_that_is_read() {
    let readme = document("README.md");
    let read = r#"(?:\b(?:get|read|url|parsed|var|var_os)\(\s*|\benv = )"([A-Z][A-Z0-9_]+)""#;
    let ours = r#""(LEDGER_[A-Z_]+)""#;
    let mut variables = BTreeSet::new();
    for folder in ["ledger/src", "cleanup-worker/src", "cli/src"] {
        for source in sources(folder, &[".rs"]) {
            if source.path.ends_with("tests.rs") {
                continue;
            }
            let code = code_of(&source.text);
            variables.extend(all(read, &code));
            variables.extend(all(ours, &code));
        }
    }
    for known in [
        "LEDGER",
        "DATABASE_URL",
        "LEDGER_HOME",
        "SUPABASE_URL",
        "ENCRYPTION_KEY",
    ] {
        assert!(
            variables.contains(known),
            "{known} was not seen in {variables:?}"
        );
    }
    for variable in variables {
        assert!(readme.contains(&format!("`{variable}`")), "{variable}");
    }
}

#[test]
fn readme_tells_every_exit_status() {
    let readme = document("README.md");
    let statuses = all(r"Exit::\w+ => (\d)", &document("cli/src/exit.rs"));
    assert_eq!(statuses.len(), 5);
    for status in statuses {
        assert!(readme.contains(&format!("\n| {status} | ")), "{status}");
    }
}

#[test]
fn readme_shows_every_command_and_no_other() {
    let home = tempfile::tempdir().unwrap();
    let help = ledger(home.path(), &["--help"], "");
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.split("Commands:").nth(1).unwrap();
    let listed = listed.split("\n\n").next().unwrap();
    let mut commands = all(r"(?m)^  ([a-z][a-z-]*)", listed);
    assert!(commands.remove("help") && commands.len() > 5, "{help}");
    let shown = all(r"(?m)^\| `ledger ([a-z][a-z-]*)", &document("README.md"));
    assert_eq!(shown, commands);
}

#[test]
fn readme_and_ci_run_the_same_tests() {
    let command = "cargo test --workspace";
    assert!(document("README.md").contains(&format!("\n{command}")));
    assert!(document(".ci/run").contains(&format!("\n{command} ")));
}

#[test]
fn every_path_and_link_in_a_document_leads_somewhere() {
    let link = r"\]\(([^)#:]+)(?:#[^)]*)?\)";
    let path = r"`((?:\.ci|ledger|cleanup-worker|cli|schema|tests|docs)/[\w./-]+)`";
    let mut seen = 0;
    for source in sources(".", &[".md"]) {
        let folder = top().join(&source.path);
        let folder = folder.parent().unwrap();
        for target in all(link, &source.text) {
            assert!(folder.join(&target).exists(), "{}: {target}", source.path);
            seen += 1;
        }
        for target in all(path, &source.text) {
            assert!(top().join(&target).exists(), "{}: {target}", source.path);
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// The threat model names its tests: each of them is there.
#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let model = document("docs/threat-model.md");
    let tests = all(r"`([a-z_]+::[a-z_0-9]+)`", &model);
    assert!(tests.len() > 40, "{}", tests.len());
    for test in tests {
        let (module, name) = test.split_once("::").unwrap();
        let source = document(&format!("tests/it/{module}.rs"));
        assert!(source.contains(&format!("fn {name}(")), "{test}");
    }
    for path in all(r"`(chain/[a-z_]+\.rs)`", &model) {
        let source = document(&format!("ledger/src/{path}"));
        assert!(source.contains("#[test]"), "{path}");
    }
}

#[test]
fn decisions_are_numbered_and_say_why() {
    let decisions = sources("docs/decisions", &[".md"]);
    for (number, source) in (1..).zip(&decisions) {
        let name = source.path.trim_start_matches("docs/decisions/");
        assert!(name.starts_with(&format!("{number:04}-")), "{name}");
        assert!(source.text.starts_with(&format!("# {number}. ")), "{name}");
        let headings: Vec<_> = source
            .text
            .lines()
            .filter(|l| l.starts_with("## "))
            .collect();
        assert_eq!(
            headings,
            ["## Context", "## Decision", "## Consequences"],
            "{name}"
        );
        for section in source.text.split("\n## ").skip(1) {
            let length = section.lines().skip(1).map(str::len).sum::<usize>();
            assert!(length > 100, "{name}: {section}");
        }
    }
}

/// A JSON Schema in the words of the reference.
fn in_words(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap().to_owned();
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let choices = choices.iter().filter(|choice| choice["type"] != "null");
        return choices.map(in_words).collect::<Vec<_>>().join(" or ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap(),
        kind => kind,
    };
    match kind.as_str() {
        Some("array") => format!("array of {}", in_words(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("object of {}", in_words(&schema["additionalProperties"]))
        }
        Some(kind) => kind.to_owned(),
        None => "any".to_owned(),
    }
}

/// Markdown puts a cell on one line.
fn described(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn members(schema: &Value, out: &mut String) {
    if let Some(variants) = schema["oneOf"].as_array() {
        for variant in variants {
            writeln!(
                out,
                "- `{}`: {}",
                variant["const"].as_str().unwrap_or("?"),
                described(variant)
            )
            .unwrap();
        }
        return;
    }
    let Some(properties) = schema["properties"].as_object() else {
        writeln!(out, "A {}.", in_words(schema)).unwrap();
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    out.push_str("| member | type | meaning |\n| --- | --- | --- |\n");
    for (name, member) in properties {
        let optional = if required.contains(&name.as_str()) {
            ""
        } else {
            ", optional"
        };
        writeln!(
            out,
            "| `{name}` | {}{optional} | {} |",
            in_words(member),
            described(member)
        )
        .unwrap();
    }
}

/// The reference part of `docs/events.md`, from the types themselves.
fn reference() -> String {
    let schemas = event::schemas();
    let mut out = String::new();
    let mut shared = BTreeMap::new();
    for (name, version, plain) in event::TYPES {
        let schema = serde_json::to_value(&schemas[name]).unwrap();
        let what = described(&schema).replacen(&format!("`{name}`: "), "", 1);
        let kept = if *plain {
            "kept in plain"
        } else {
            "sealed under its owner's key"
        };
        writeln!(out, "\n### {name}\n\nSchema {version}, {kept}: {what}\n").unwrap();
        members(&schema, &mut out);
        if let Some(defined) = schema["$defs"].as_object() {
            shared.extend(defined.clone());
        }
    }
    out.push_str("\n## Types that payloads share\n");
    // Names and hashes, which are texts of one shape, stand in the head of the document.
    shared.retain(|_, schema: &mut Value| schema["type"] != "string" || schema["oneOf"].is_array());
    for (name, schema) in shared {
        writeln!(out, "\n### {name}\n\n{}\n", described(&schema)).unwrap();
        members(&schema, &mut out);
    }
    out
}

/// `UPDATE_DOCS=1 cargo test` writes the reference anew.
#[test]
fn events_are_described_as_they_are() {
    const START: &str = "<!-- From here on made from ledger/src/domain/event.rs by a test. -->\n";
    let text = document("docs/events.md");
    let (head, written) = text.split_once(START).expect("the mark of the reference");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{head}{START}{expected}");
        std::fs::write(top().join("docs/events.md"), text).unwrap();
        return;
    }
    assert!(
        written == expected,
        "docs/events.md is out of date: UPDATE_DOCS=1 cargo test -p ledger-cli documents"
    );
}

fn python(program: &str, input: &str) -> Output {
    let mut child = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs the checker of docs/format.md: install it");
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

#[test]
fn the_checker_in_the_format_document_accepts_a_ledger_and_refuses_every_edit() {
    let format = document("docs/format.md");
    let programs = Regex::new(r"(?s)```python\n(.*?)```").unwrap();
    let programs: Vec<&str> = programs
        .captures_iter(&format)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let [checker, example] = programs.as_slice() else {
        panic!("docs/format.md holds a checker and an example")
    };
    let example = python(example, "");
    assert!(example.status.success(), "{example:?}");

    let home = tempfile::tempdir().unwrap();
    assert!(
        ledger(home.path(), &["init", "format", "--person", "alice"], "")
            .status
            .success()
    );
    let lines = concat!(
        "{\"type\":\"note.added\",\"subject\":\"note:one\",\"payload\":{\"text\":\"\\u540d\\u524d \\ud83d\\ude00\"}}\n",
        "{\"type\":\"note.added\",\"subject\":\"note:two\",\"payload\":{\"n\":9007199254740991}}\n",
    );
    assert!(ledger(home.path(), &["append"], lines).status.success());
    let log = ledger(home.path(), &["log", "--json"], "");
    let log = String::from_utf8(log.stdout).unwrap();
    let verified = ledger(home.path(), &["verify"], "");
    let verified = String::from_utf8(verified.stdout).unwrap();

    let sound = python(checker, &log);
    let said = String::from_utf8(sound.stdout).unwrap();
    assert!(
        sound.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&sound.stderr)
    );
    let head = verified
        .lines()
        .find(|line| line.starts_with("head: "))
        .unwrap();
    assert!(said.contains(head), "{said} {verified}");

    let entries: Vec<&str> = log.lines().collect();
    assert_eq!(entries.len(), 4);
    let edit = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for edited in [
        edit(
            &log,
            "\\\"actor\\\":\\\"person:",
            "\\\"actor\\\":\\\"person:x",
        ),
        edit(&log, "\"hash\":\"", "\"hash\":\"00"),
        edit(&log, "{\\\"actor\\\"", "{ \\\"actor\\\""),
        [entries[0], entries[2], entries[3]].join("\n"),
        [entries[0], entries[2], entries[1], entries[3]].join("\n"),
        entries[1..].join("\n"),
    ] {
        assert_eq!(python(checker, &edited).status.code(), Some(1), "{edited}");
    }
}
