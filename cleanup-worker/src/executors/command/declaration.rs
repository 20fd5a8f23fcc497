//! What a program says about itself: its kinds, the signals and conditions that a policy may name, and what it cannot promise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ledger::chain::canonical;
use ledger::domain::hash::Hash;
use ledger::domain::id::Subject;
use ledger::domain::identify::{ExecutorLimits, Named, Parameter, Vocabulary};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::Trouble;
use super::wire::PROTOCOL;
use crate::executors::Kinds;

/// Kinds of subjects that mean something else to the rest of the program.
const RESERVED: [&str; 12] = [
    "calendar-event",
    "calendar-account",
    "calendar",
    "run",
    "plan",
    "step",
    "ledger",
    "checkpoint",
    "person",
    "service",
    "hold",
    "erasure",
];
/// Longest meaning or header value, in bytes.
const WORDS_MAX: usize = 500;

/// A program's declaration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    pub(super) kinds: Kinds,
    pub(super) limits: ExecutorLimits,
    pub(super) header: BTreeMap<String, String>,
    pub(super) digest: Hash,
    signals: Vec<Named>,
    conditions: Vec<Named>,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    protocol: u64,
    kind: String,
    owner_kind: String,
    user_kind: String,
    signals: BTreeMap<String, String>,
    #[serde(default)]
    conditions: BTreeMap<String, String>,
    #[serde(default)]
    parameters: BTreeMap<String, Bounds>,
    lacks: Vec<Lack>,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    meaning: String,
    default: i64,
    min: i64,
    max: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Lack {
    Precondition,
    Undo,
}

impl Declaration {
    /// Checks what the program said.
    pub(super) fn read(hello: Map<String, Value>) -> Result<Self, Trouble> {
        let declared = |what: String| Trouble::Declared(what);
        let hello = Value::Object(hello);
        let bytes = canonical::to_bytes(&hello).map_err(|error| declared(error.reason()))?;
        let hello: Hello = serde_json::from_value(hello).map_err(|error| {
            // The program's own words about itself: nothing of an item is in them.
            declared(format!("itself in another shape than expected: {error}"))
        })?;
        if hello.protocol != PROTOCOL {
            return Err(declared(format!(
                "protocol {}, and this program knows protocol {PROTOCOL}",
                hello.protocol
            )));
        }
        let kinds = [&hello.kind, &hello.owner_kind, &hello.user_kind];
        for kind in kinds {
            check_kind(kind)?;
        }
        if hello.kind == hello.owner_kind || kinds[..2].contains(&&hello.user_kind) {
            return Err(declared("one kind for two things".to_owned()));
        }
        if hello.signals.is_empty() {
            return Err(declared(
                "no signal, so that no policy could tell its items apart".to_owned(),
            ));
        }
        let (mut signals, mut conditions, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
        for (list, from) in [
            (&mut signals, hello.signals),
            (&mut conditions, hello.conditions),
        ] {
            for (name, meaning) in from {
                list.push(named(name, meaning)?);
            }
        }
        for (name, bounds) in hello.parameters {
            if !(bounds.min..=bounds.max).contains(&bounds.default) {
                let what = format!("the parameter {name}, whose default is outside its bounds");
                return Err(declared(what));
            }
            let named = named(name, bounds.meaning)?;
            parameters.push(Parameter {
                name: named.name,
                meaning: named.meaning,
                default: bounds.default,
                min: bounds.min,
                max: bounds.max,
            });
        }
        for (name, value) in &hello.header {
            check_name(name)?;
            check_words(name, value)?;
        }
        Ok(Self {
            kinds: Kinds {
                item: hello.kind.into(),
                owner: hello.owner_kind.into(),
                user: hello.user_kind.into(),
            },
            limits: ExecutorLimits {
                precondition: !hello.lacks.contains(&Lack::Precondition),
                undo: !hello.lacks.contains(&Lack::Undo),
            },
            header: hello.header,
            digest: Hash::of(&bytes),
            signals,
            conditions,
            parameters,
        })
    }

    /// What a policy may speak of.
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            kind: &self.kinds.item,
            signals: &self.signals,
            conditions: &self.conditions,
            parameters: &self.parameters,
        }
    }
}

fn check_kind(kind: &str) -> Result<(), Trouble> {
    if RESERVED.contains(&kind) {
        let what = format!("the kind {kind:?}, which the program itself uses");
        return Err(Trouble::Declared(what));
    }
    let shaped = kind.len() <= 64 && Subject::new(kind, uuid::Uuid::nil()).is_ok();
    if shaped {
        Ok(())
    } else {
        let what = "a kind that is not of a-z, 0-9 and -, or is too long".to_owned();
        Err(Trouble::Declared(what))
    }
}

fn named(name: String, meaning: String) -> Result<Named, Trouble> {
    check_name(&name)?;
    check_words(&name, &meaning)?;
    Ok(Named {
        name: Cow::Owned(name),
        meaning: Cow::Owned(meaning),
    })
}

fn check_name(name: &str) -> Result<(), Trouble> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    let what = "a name that is not of a-z, 0-9 and _, or is too long".to_owned();
    Err(Trouble::Declared(what))
}

fn check_words(name: &str, words: &str) -> Result<(), Trouble> {
    let fits = !words.is_empty() && words.len() <= WORDS_MAX && !words.contains(char::is_control);
    if fits {
        return Ok(());
    }
    let what = format!("{name} without words, or with too many");
    Err(Trouble::Declared(what))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hello() -> Value {
        json!({
            "protocol": 1, "kind": "file", "owner_kind": "folder", "user_kind": "user",
            "signals": {"old": "not touched for long"}, "conditions": {"sure": "we are sure"},
            "parameters": {"old_days": {"meaning": "what is old", "default": 30, "min": 1, "max": 365}},
            "lacks": ["undo"], "header": {"folder": "one"},
        })
    }

    fn read(hello: &Value) -> Result<Declaration, String> {
        let hello = hello.as_object().unwrap().clone();
        Declaration::read(hello).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_may_name_what_is_declared_and_nothing_else() {
        let declared = read(&hello()).unwrap();
        assert!(declared.limits.precondition && !declared.limits.undo);
        let policy = |signal: &str, condition: &str| {
            let text = format!(
                "version = 1\nname = \"t\"\nkind = \"file\"\n[parameters]\nold_days = 7\n[[class]]\nname = \"OLD\"\n\
                 when = {{ all = [\"{signal}\"] }}\nbecause = \"b\"\ndisposition = \"hold\"\n[[class.override]]\n\
                 when = {{ all = [\"{condition}\"] }}\nbecause = \"b\"\ndisposition = \"delete\"\n"
            );
            ledger::domain::policy::Policy::load(text.as_bytes(), &declared.vocabulary())
        };
        assert_eq!(
            policy("old", "sure").unwrap().parameter("old_days"),
            Some(7)
        );
        assert!(
            policy("new", "sure")
                .unwrap_err()
                .to_string()
                .contains("known are: old")
        );
        assert!(policy("old", "old").is_err());
    }

    #[test]
    fn each_wrong_declaration_is_refused_with_what_is_wrong() {
        let cases: [(&str, Value, &str); 14] = [
            ("protocol", json!(2), "protocol 2"),
            ("kind", json!("calendar-event"), "the program itself uses"),
            ("kind", json!("Kind"), "a kind that is not"),
            ("kind", json!("folder"), "one kind for two things"),
            ("user_kind", json!("file"), "one kind for two things"),
            ("signals", json!({}), "no signal"),
            ("signals", json!({"Old": "x"}), "a name that is not"),
            ("signals", json!({"old": ""}), "without words"),
            ("signals", json!(["old"]), "in another shape"),
            ("lacks", json!(["money"]), "in another shape"),
            (
                "parameters",
                json!({"n": {"meaning": "m", "default": 9, "min": 1, "max": 5}}),
                "outside its bounds",
            ),
            ("header", json!({"folder": "a\nb"}), "without words"),
            ("header", json!({"kind!": "a"}), "a name that is not"),
            ("extra", json!(1), "in another shape"),
        ];
        for (member, value, expected) in cases {
            let mut hello = hello();
            hello[member] = value;
            let refused = read(&hello).expect_err(member);
            assert!(refused.contains(expected), "{member}: {refused}");
        }
        for member in ["kind", "signals", "lacks", "protocol"] {
            let mut hello = hello();
            hello.as_object_mut().unwrap().remove(member);
            assert!(read(&hello).is_err(), "{member}");
        }
    }

    #[test]
    fn another_declaration_has_another_digest() {
        let mut other = hello();
        other["header"]["folder"] = json!("two");
        assert_ne!(read(&hello()).unwrap().digest, read(&other).unwrap().digest);
        assert_eq!(read(&hello()).unwrap(), read(&hello()).unwrap());
    }
}
