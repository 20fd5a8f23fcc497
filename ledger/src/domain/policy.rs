//! The identification policy: an ordered file of classes, first match wins.
//!
//! A file is TOML:
//!
//! ```toml
//! version = 1
//! name = "example"
//! kind = "calendar-event"
//!
//! [parameters]
//! calibrated_min_percent = 95
//!
//! [[class]]
//! name = "ORPHAN"
//! when = { all = ["case_link", "title"], none = ["recorded"] }
//! because = "it names a known case and nobody recorded it"
//! disposition = "hold"
//!
//! [[class.override]]            # ordered; the first that matches decides
//! when = { all = ["calibrated"], none = ["after_freeze"] }
//! because = "the signature was found reliable"
//! disposition = "delete"
//! ```
//!
//! The condition language is total: a `when` holds if all of `all`, at least one of `any` (where
//! given) and none of `none` hold. A class may add `only_before = ["OTHER", ..]`: it matches only
//! where, without it, one of those later classes would have been the answer.
//! Class conditions speak of signals, override conditions of named conditions; both, and the
//! parameters, are declared by the executor, and a name it does not know is refused at load.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::identify::{
    Classification, Disposition, ExecutorLimits, Facts, Named, UNNAMED, Vocabulary,
};

/// Why a policy file was refused. Nothing in the file is used then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is not text.
    #[error("read the policy as UTF-8 text")]
    NotText(#[source] std::str::Utf8Error),
    /// The file is not TOML, or not of this shape.
    #[error("read the policy as TOML")]
    Syntax(#[source] toml::de::Error),
    /// Written for another program.
    #[error("read the policy: its version is {found}, this program knows version 1")]
    Version {
        /// As the file says.
        found: u32,
    },
    /// Written for another kind of item.
    #[error("read the policy: it is for items of kind {found:?}, not {wanted:?}")]
    Kind {
        /// As the file says.
        found: String,
        /// As the executor says.
        wanted: String,
    },
    /// A name that the executor does not declare.
    #[error("read the policy: {place} names {what} {name:?}, which is unknown; known are: {known}")]
    Unknown {
        /// Where in the file.
        place: String,
        /// `the signal`, `the condition`, `the parameter`, `the later class`.
        what: &'static str,
        /// As written.
        name: String,
        /// What could have been written.
        known: String,
    },
    /// A parameter outside its bounds.
    #[error("read the policy: parameter {name} is {value}, and must lie in {min}..={max}")]
    OutOfBounds {
        /// The parameter.
        name: String,
        /// As written.
        value: i64,
        /// Smallest value accepted.
        min: i64,
        /// Largest value accepted.
        max: i64,
    },
    /// A class or override that would match everything, or could never match.
    #[error("read the policy: {place} {problem}")]
    Condition {
        /// Where in the file.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same class name twice, a reserved or an ill-formed one, or no class at all.
    #[error("read the policy: {0}")]
    Classes(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: u32,
    name: String,
    kind: String,
    #[serde(default)]
    parameters: BTreeMap<String, i64>,
    class: Vec<ClassFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassFile {
    name: String,
    when: Condition,
    #[serde(default)]
    only_before: Vec<String>,
    because: String,
    disposition: Disposition,
    #[serde(default, rename = "override")]
    overrides: Vec<Override>,
}

/// A condition of the tiny, total language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    all: Vec<String>,
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    none: Vec<String>,
}

impl Condition {
    /// Whether it holds, or the first name that was not measured.
    fn evaluate<'a>(&'a self, facts: &Facts) -> Result<bool, &'a str> {
        let measured = |name: &'a String| facts.get(name).ok_or(name.as_str());
        let mut holds = true;
        for name in &self.all {
            holds &= measured(name)?;
        }
        let mut any = self.any.is_empty();
        for name in &self.any {
            any |= measured(name)?;
        }
        for name in &self.none {
            holds &= !measured(name)?;
        }
        Ok(holds && any)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.all.iter().chain(&self.any).chain(&self.none)
    }

    fn check(&self, known: &[Named], what: &'static str, place: &str) -> Result<(), PolicyError> {
        if self.names().next().is_none() {
            return Err(PolicyError::Condition {
                place: place.to_owned(),
                problem: "has an empty condition, which would match everything",
            });
        }
        for name in self.names() {
            if !known.iter().any(|named| named.name == *name) {
                return Err(PolicyError::Unknown {
                    place: place.to_owned(),
                    what,
                    name: name.clone(),
                    known: list(known.iter().map(|named| named.name.as_ref())),
                });
            }
        }
        let contradicts = |name: &String| self.none.contains(name);
        let any_impossible = !self.any.is_empty() && self.any.iter().all(contradicts);
        if self.all.iter().any(contradicts) || any_impossible {
            return Err(PolicyError::Condition {
                place: place.to_owned(),
                problem: "has a condition that can never hold: a name is both wanted and excluded",
            });
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    when: Condition,
    because: String,
    disposition: Disposition,
}

#[derive(Debug)]
struct Class {
    name: String,
    when: Condition,
    only_before: BTreeSet<usize>,
    because: String,
    disposition: Disposition,
    overrides: Vec<Override>,
}

/// A loaded policy: every name in it is known, every condition can hold and can fail.
#[derive(Debug)]
pub struct Policy {
    name: String,
    bytes: Vec<u8>,
    parameters: BTreeMap<String, i64>,
    classes: Vec<Class>,
}

impl Policy {
    /// Reads a policy file against what its executor declares.
    pub fn load(bytes: &[u8], vocabulary: &Vocabulary<'_>) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(bytes).map_err(PolicyError::NotText)?;
        let file: PolicyFile = toml::from_str(text).map_err(PolicyError::Syntax)?;
        if file.version != 1 {
            return Err(PolicyError::Version {
                found: file.version,
            });
        }
        if file.kind != vocabulary.kind {
            return Err(PolicyError::Kind {
                found: file.kind,
                wanted: vocabulary.kind.to_owned(),
            });
        }
        check_class_names(&file.class)?;
        let parameters = read_parameters(&file.parameters, vocabulary)?;
        let names: Vec<String> = file.class.iter().map(|class| class.name.clone()).collect();
        let classes = file
            .class
            .into_iter()
            .enumerate()
            .map(|(index, class)| read_class(index, class, &names, vocabulary))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: file.name,
            bytes: bytes.to_vec(),
            parameters,
            classes,
        })
    }

    /// The name the file gives itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exact bytes of the file: what a plan's policy digest is the SHA-256 of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A declared parameter: the file's value, else its default. `None` if it is not declared.
    pub fn parameter(&self, name: &str) -> Option<i64> {
        self.parameters.get(name).copied()
    }

    /// The class names in their order: the first match wins.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.name.as_str())
    }

    /// Gives an item its one class and its one disposition.
    ///
    /// Total: what no class matches, and what an unmeasured signal keeps from being decided, is
    /// [`UNNAMED`] and held. An override whose condition was not measured is not taken, and what it
    /// would have changed is held.
    pub fn classify(
        &self,
        signals: &Facts,
        conditions: &Facts,
        limits: ExecutorLimits,
    ) -> Classification {
        let index = match self.first_match(signals, 0) {
            Ok(Some(index)) => index,
            Ok(None) => return unnamed("no class of the policy matches it".to_owned()),
            Err(name) => return unnamed(format!("the signal {name} was not measured")),
        };
        let class = &self.classes[index];
        let (wanted, decided_by) = class.disposition_under(conditions);
        let (disposition, lacking) = limits.bound(wanted);
        let reason = [Some(class.because.as_str()), decided_by.as_deref(), lacking]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ");
        Classification {
            class: class.name.clone(),
            disposition,
            reason,
        }
    }

    fn first_match(&self, signals: &Facts, from: usize) -> Result<Option<usize>, &str> {
        for (index, class) in self.classes.iter().enumerate().skip(from) {
            if !class.when.evaluate(signals)? {
                continue;
            }
            if class.only_before.is_empty() {
                return Ok(Some(index));
            }
            let follows = self.first_match(signals, index + 1)?;
            if follows.is_some_and(|later| class.only_before.contains(&later)) {
                return Ok(Some(index));
            }
            return Ok(follows);
        }
        Ok(None)
    }

    /// Of two answers about one item, reached in two ways, the more protective.
    ///
    /// Anything protects more than `delete`; apart from that the class that comes first in the
    /// policy counts. The order is total, so the answer does not depend on who was asked first.
    pub fn more_protective(&self, a: Classification, b: Classification) -> Classification {
        if self.protection_key(&a) <= self.protection_key(&b) {
            a
        } else {
            b
        }
    }

    fn protection_key<'a>(&self, c: &'a Classification) -> (bool, usize, Disposition, &'a str) {
        let deletes = c.disposition == Disposition::Delete;
        let place = self.classes.iter().position(|class| class.name == c.class);
        (
            deletes,
            place.unwrap_or(self.classes.len()),
            c.disposition,
            &c.reason,
        )
    }
}

impl Class {
    fn disposition_under(&self, conditions: &Facts) -> (Disposition, Option<String>) {
        for choice in &self.overrides {
            match choice.when.evaluate(conditions) {
                Ok(true) => return (choice.disposition, Some(choice.because.clone())),
                Ok(false) => {}
                Err(name) => {
                    let why = format!("held, because the condition {name} was not measured");
                    let held = match self.disposition {
                        Disposition::Delete => Disposition::Hold,
                        other => other,
                    };
                    return (held, Some(why));
                }
            }
        }
        (self.disposition, None)
    }
}

fn unnamed(why: String) -> Classification {
    Classification {
        class: UNNAMED.to_owned(),
        disposition: Disposition::Hold,
        reason: why,
    }
}

fn check_class_names(classes: &[ClassFile]) -> Result<(), PolicyError> {
    if classes.is_empty() {
        return Err(PolicyError::Classes("it has no class".to_owned()));
    }
    let mut seen = BTreeSet::new();
    for class in classes {
        let name = class.name.as_str();
        let well_formed = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !well_formed {
            let text = format!("class name {name:?} is not made of A-Z, 0-9 and _");
            return Err(PolicyError::Classes(text));
        }
        if name == UNNAMED {
            let text = format!("class name {UNNAMED} is kept for what the policy does not name");
            return Err(PolicyError::Classes(text));
        }
        if !seen.insert(name) {
            return Err(PolicyError::Classes(format!("class {name} appears twice")));
        }
    }
    Ok(())
}

fn read_parameters(
    given: &BTreeMap<String, i64>,
    vocabulary: &Vocabulary<'_>,
) -> Result<BTreeMap<String, i64>, PolicyError> {
    for name in given.keys() {
        if !vocabulary
            .parameters
            .iter()
            .any(|known| known.name == *name)
        {
            return Err(PolicyError::Unknown {
                place: "[parameters]".to_owned(),
                what: "the parameter",
                name: name.clone(),
                known: list(
                    vocabulary
                        .parameters
                        .iter()
                        .map(|known| known.name.as_ref()),
                ),
            });
        }
    }
    let mut values = BTreeMap::new();
    for known in vocabulary.parameters {
        let value = given
            .get(known.name.as_ref())
            .copied()
            .unwrap_or(known.default);
        if !(known.min..=known.max).contains(&value) {
            return Err(PolicyError::OutOfBounds {
                name: known.name.clone().into_owned(),
                value,
                min: known.min,
                max: known.max,
            });
        }
        values.insert(known.name.clone().into_owned(), value);
    }
    Ok(values)
}

fn read_class(
    index: usize,
    file: ClassFile,
    names: &[String],
    vocabulary: &Vocabulary<'_>,
) -> Result<Class, PolicyError> {
    let place = format!("class {}", file.name);
    file.when.check(vocabulary.signals, "the signal", &place)?;
    for (number, choice) in file.overrides.iter().enumerate() {
        let place = format!("{place}, override {}", number + 1);
        choice
            .when
            .check(vocabulary.conditions, "the condition", &place)?;
    }
    let later = &names[index + 1..];
    let mut only_before = BTreeSet::new();
    for name in &file.only_before {
        let Some(offset) = later.iter().position(|other| other == name) else {
            return Err(PolicyError::Unknown {
                place,
                what: "the later class",
                name: name.clone(),
                known: list(later.iter().map(String::as_str)),
            });
        };
        only_before.insert(index + 1 + offset);
    }
    Ok(Class {
        name: file.name,
        when: file.when,
        only_before,
        because: file.because,
        disposition: file.disposition,
        overrides: file.overrides,
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
