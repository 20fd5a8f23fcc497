use std::borrow::Cow;

use super::super::identify::Parameter;
use super::*;

const VOCABULARY: Vocabulary<'static> = Vocabulary {
    kind: "thing",
    signals: &[
        Named {
            name: Cow::Borrowed("old"),
            meaning: Cow::Borrowed(""),
        },
        Named {
            name: Cow::Borrowed("ours"),
            meaning: Cow::Borrowed(""),
        },
        Named {
            name: Cow::Borrowed("touched"),
            meaning: Cow::Borrowed(""),
        },
    ],
    conditions: &[
        Named {
            name: Cow::Borrowed("sure"),
            meaning: Cow::Borrowed(""),
        },
        Named {
            name: Cow::Borrowed("late"),
            meaning: Cow::Borrowed(""),
        },
    ],
    parameters: &[Parameter {
        name: Cow::Borrowed("share_percent"),
        meaning: Cow::Borrowed(""),
        default: 95,
        min: 1,
        max: 100,
    }],
};

const HEAD: &str = "version = 1\nname = \"t\"\nkind = \"thing\"\n";
const CLASSES: &str = r#"
[[class]]
name = "TOUCHED"
when = { all = ["touched"] }
only_before = ["OURS"]
because = "somebody touched it"
disposition = "hold"

[[class]]
name = "OURS"
when = { all = ["ours"] }
because = "it is ours"
disposition = "hold"

[[class.override]]
when = { all = ["late"] }
because = "too late"
disposition = "hold"

[[class.override]]
when = { all = ["sure"] }
because = "we are sure"
disposition = "delete"

[[class]]
name = "OLD"
when = { any = ["old", "touched"], none = ["ours"] }
because = "it is old"
disposition = "delete"

[[class.override]]
when = { all = ["late"] }
because = "too late"
disposition = "protect"
"#;

fn policy() -> Policy {
    Policy::load(format!("{HEAD}{CLASSES}").as_bytes(), &VOCABULARY).unwrap()
}

fn signals(names: &[&'static str]) -> Facts {
    let mut facts: Facts = VOCABULARY
        .signals
        .iter()
        .map(|s| (s.name.clone(), false))
        .collect();
    for name in names {
        facts.set(*name, true);
    }
    facts
}

fn conditions(names: &[&'static str]) -> Facts {
    let mut facts: Facts = VOCABULARY
        .conditions
        .iter()
        .map(|s| (s.name.clone(), false))
        .collect();
    for name in names {
        facts.set(*name, true);
    }
    facts
}

fn answer(signals: &Facts, conditions: &Facts) -> (String, Disposition, String) {
    let answer = policy().classify(signals, conditions, ExecutorLimits::NONE_LACKING);
    (answer.class, answer.disposition, answer.reason)
}

fn refused(text: &str) -> String {
    Policy::load(text.as_bytes(), &VOCABULARY)
        .unwrap_err()
        .to_string()
}

#[test]
fn the_first_class_and_the_first_override_decide() {
    use Disposition::{Delete, Hold, Protect};
    for (measured, known, class, disposition, reason) in [
        (&["ours"][..], &[][..], "OURS", Hold, "it is ours"),
        (
            &["ours"],
            &["sure"],
            "OURS",
            Delete,
            "it is ours; we are sure",
        ),
        (
            &["ours"],
            &["sure", "late"],
            "OURS",
            Hold,
            "it is ours; too late",
        ),
        (&["ours", "old"], &[], "OURS", Hold, "it is ours"),
        (
            &["ours", "touched"],
            &["sure"],
            "TOUCHED",
            Hold,
            "somebody touched it",
        ),
        (&["touched"], &[], "OLD", Delete, "it is old"),
        (&["old"], &["late"], "OLD", Protect, "it is old; too late"),
        (&[], &[], UNNAMED, Hold, "no class of the policy matches it"),
    ] {
        let got = answer(&signals(measured), &conditions(known));
        assert_eq!(got, (class.to_owned(), disposition, reason.to_owned()));
    }
}

#[test]
fn what_was_not_measured_is_held_and_named() {
    let partial: Facts = [("touched", false), ("old", true)].into_iter().collect();
    let (class, disposition, reason) = answer(&partial, &conditions(&[]));
    assert_eq!((class.as_str(), disposition), (UNNAMED, Disposition::Hold));
    assert_eq!(reason, "the signal ours was not measured");
    let (class, disposition, reason) = answer(&signals(&["old"]), &Facts::new());
    assert_eq!((class.as_str(), disposition), ("OLD", Disposition::Hold));
    assert_eq!(
        reason,
        "it is old; held, because the condition late was not measured"
    );
}

#[test]
fn an_executor_that_lacks_something_never_deletes() {
    for (limits, word) in [
        (
            ExecutorLimits {
                precondition: false,
                undo: true,
            },
            "version",
        ),
        (
            ExecutorLimits {
                precondition: true,
                undo: false,
            },
            "undone",
        ),
        (
            ExecutorLimits {
                precondition: false,
                undo: false,
            },
            "version",
        ),
    ] {
        let got = policy().classify(&signals(&["ours"]), &conditions(&["sure"]), limits);
        assert_eq!(got.disposition, Disposition::Hold);
        assert!(got.reason.contains(word), "{}", got.reason);
        for other in Disposition::ALL
            .into_iter()
            .filter(|d| *d != Disposition::Delete)
        {
            assert_eq!(limits.bound(other), (other, None));
        }
    }
}

#[test]
fn more_protective_is_a_total_order_that_puts_delete_last() {
    let policy = policy();
    let make = |class: &str, disposition| Classification {
        class: class.to_owned(),
        disposition,
        reason: String::new(),
    };
    let (delete, hold) = (Disposition::Delete, Disposition::Hold);
    for (more, less) in [
        (make("TOUCHED", hold), make("OURS", hold)),
        (make("OURS", hold), make("OURS", delete)),
        (make("OLD", Disposition::Protect), make("OURS", delete)),
        (make(UNNAMED, hold), make("OURS", delete)),
        (make("OURS", delete), make("OLD", delete)),
        (make("OLD", hold), make(UNNAMED, hold)),
    ] {
        assert_eq!(policy.more_protective(more.clone(), less.clone()), more);
        assert_eq!(policy.more_protective(less, more.clone()), more);
    }
}

#[test]
fn a_file_with_a_fault_is_refused_with_what_would_be_right() {
    let text = refused(&format!("{HEAD}{CLASSES}").replace("\"touched\"", "\"touhced\""));
    assert!(
        text.contains("class TOUCHED names the signal \"touhced\""),
        "{text}"
    );
    assert!(text.ends_with("known are: old, ours, touched"), "{text}");
    let text = refused(&format!("{HEAD}{CLASSES}").replace("\"sure\"", "\"ours\""));
    assert!(
        text.contains("class OURS, override 2 names the condition \"ours\""),
        "{text}"
    );
    let text = refused(&format!("{HEAD}{CLASSES}").replace("[\"OURS\"]", "[\"TOUCHED\"]"));
    assert!(
        text.contains("the later class \"TOUCHED\"") && text.contains("OURS, OLD"),
        "{text}"
    );
    let text = refused(&format!("{HEAD}[parameters]\nshare = 1\n{CLASSES}"));
    assert!(text.contains("known are: share_percent"), "{text}");
    let text = refused(&format!(
        "{HEAD}[parameters]\nshare_percent = 101\n{CLASSES}"
    ));
    assert!(text.contains("must lie in 1..=100"), "{text}");

    let one = |name: &str, when: &str, rest: &str| {
        format!(
            "{HEAD}[[class]]\nname = \"{name}\"\nwhen = {when}\nbecause = \"\"\n\
             disposition = \"hold\"\n{rest}"
        )
    };
    assert!(Policy::load(one("A", "{ all = [\"old\"] }", "").as_bytes(), &VOCABULARY).is_ok());
    for (text, word) in [
        (one("A", "{}", ""), "match everything"),
        (
            one("A", "{ all = [\"old\"], none = [\"old\"] }", ""),
            "never hold",
        ),
        (
            one("A", "{ any = [\"old\"], none = [\"old\"] }", ""),
            "never hold",
        ),
        (one("a", "{ all = [\"old\"] }", ""), "A-Z"),
        (one("", "{ all = [\"old\"] }", ""), "A-Z"),
        (one(UNNAMED, "{ all = [\"old\"] }", ""), "is kept"),
        (format!("{HEAD}class = []"), "no class"),
        (format!("{HEAD}{CLASSES}{CLASSES}"), "twice"),
        (one("A", "{ all = [\"old\"] }", "typo = 1"), "as TOML"),
        (
            one("A", "{ all = [\"old\"] }", "").replace("hold", "destroy"),
            "as TOML",
        ),
        (
            one("A", "{ all = [\"old\"] }", "").replace("n = 1", "n = 2"),
            "its version is 2",
        ),
        (
            one("A", "{ all = [\"old\"] }", "").replace("thing", "event"),
            "kind \"event\"",
        ),
    ] {
        let got = refused(&text);
        assert!(got.contains(word), "{got}\n{text}");
    }
    assert!(matches!(
        Policy::load(b"\xff", &VOCABULARY),
        Err(PolicyError::NotText(_))
    ));
}

#[test]
fn the_bytes_are_kept_exactly_and_parameters_have_defaults() {
    let text = format!("# ü\r\n{HEAD}{CLASSES}");
    let policy = Policy::load(text.as_bytes(), &VOCABULARY).unwrap();
    assert_eq!(policy.bytes(), text.as_bytes());
    assert_eq!(policy.parameter("share_percent"), Some(95));
    assert_eq!(policy.parameter("share"), None);
    assert_eq!((policy.name(), policy.classes().count()), ("t", 3));
}
