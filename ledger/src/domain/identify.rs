//! Identification: from measured signals to one class and one disposition.
//!
//! Knows no kind of item. An executor declares the signals it can measure ([`Vocabulary`]), a
//! [`Policy`](super::policy::Policy) orders classes over them, and everything the policy does not
//! name, or cannot decide, is held for a person.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The class of an item that no class of the policy matched.
pub const UNNAMED: &str = "UNNAMED";

/// What is to be done with an item.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Delete it, once the plan is approved.
    Delete,
    /// Leave it for a person to decide.
    Hold,
    /// Leave it: it is not, or not only, the retired system's.
    Protect,
    /// Nothing is left to do: it is gone already.
    Done,
    /// It cannot be reached, so nothing was decided: work not done.
    OutOfReach,
}

impl Disposition {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 5] = [
        Self::Delete,
        Self::Hold,
        Self::Protect,
        Self::Done,
        Self::OutOfReach,
    ];

    /// The name used in policies, plans and entries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Hold => "hold",
            Self::Protect => "protect",
            Self::Done => "done",
            Self::OutOfReach => "out_of_reach",
        }
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One name that an executor declares, with its meaning in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As policies write it.
    pub name: Cow<'static, str>,
    /// What is true when it holds; shown where a policy names something unknown.
    pub meaning: Cow<'static, str>,
}

/// A whole number that a policy may set, because the rule it bounds is a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As policies write it, unit last.
    pub name: Cow<'static, str>,
    /// What it bounds.
    pub meaning: Cow<'static, str>,
    /// Used where the policy is silent.
    pub default: i64,
    /// Smallest value accepted.
    pub min: i64,
    /// Largest value accepted.
    pub max: i64,
}

/// Everything an executor lets a policy speak of: constants of a built-in executor, or what a program declared when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// The kind of item, as in its subject (`calendar-event`).
    pub kind: &'a str,
    /// What is measured of the item: decides its class.
    pub signals: &'a [Named],
    /// What is known about the run, or about the item beside its class: decides the disposition.
    pub conditions: &'a [Named],
    /// Numbers.
    pub parameters: &'a [Parameter],
}

/// One measured fact: a name, whether it holds, and a short detail without personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The declared name.
    pub name: Cow<'static, str>,
    /// Whether it holds.
    pub holds: bool,
    /// What it rests on: a number, a key, a date. Never text that a person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Measured facts by name. Serialises as the list that goes into the entry as evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Fact>", into = "Vec<Fact>")]
pub struct Facts(BTreeMap<Cow<'static, str>, (bool, Option<String>)>);

impl Facts {
    /// No fact measured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a fact; the last record of a name counts.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, holds: bool) {
        self.0.insert(name.into(), (holds, None));
    }

    /// Records a fact and what it rests on.
    pub fn set_with(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        holds: bool,
        detail: impl Into<String>,
    ) {
        self.0.insert(name.into(), (holds, Some(detail.into())));
    }

    /// Whether the fact holds; `None` where it was not measured.
    pub fn get(&self, name: &str) -> Option<bool> {
        self.0.get(name).map(|(holds, _)| *holds)
    }

    /// Whether the fact was measured and holds.
    pub fn holds(&self, name: &str) -> bool {
        self.get(name) == Some(true)
    }

    /// What the fact rests on.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|(_, detail)| detail.as_deref())
    }

    /// The names of the facts that hold, sorted.
    pub fn holding(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, (holds, _))| *holds)
            .map(|(name, _)| name.as_ref())
    }
}

impl From<Vec<Fact>> for Facts {
    fn from(list: Vec<Fact>) -> Self {
        Self(
            list.into_iter()
                .map(|fact| (fact.name, (fact.holds, fact.detail)))
                .collect(),
        )
    }
}

impl From<Facts> for Vec<Fact> {
    fn from(facts: Facts) -> Self {
        facts
            .0
            .into_iter()
            .map(|(name, (holds, detail))| Fact {
                name,
                holds,
                detail,
            })
            .collect()
    }
}

impl<N: Into<Cow<'static, str>>> FromIterator<(N, bool)> for Facts {
    fn from_iter<I: IntoIterator<Item = (N, bool)>>(pairs: I) -> Self {
        let mut facts = Self::new();
        for (name, holds) in pairs {
            facts.set(name, holds);
        }
        facts
    }
}

/// What an executor can promise about a deletion. Where a promise is missing, a policy's `delete`
/// becomes `hold`: no policy can make an item less protected than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorLimits {
    /// It can delete exactly the version that was reviewed, and nothing newer.
    pub precondition: bool,
    /// It can put back what it deleted.
    pub undo: bool,
}

impl ExecutorLimits {
    /// Lacks nothing.
    pub const NONE_LACKING: Self = Self {
        precondition: true,
        undo: true,
    };

    /// Applies the limits to a disposition; the second part says which lack decided.
    pub fn bound(self, wanted: Disposition) -> (Disposition, Option<&'static str>) {
        if wanted != Disposition::Delete {
            return (wanted, None);
        }
        if !self.precondition {
            let why = "held, because this kind of item cannot be deleted only at the version \
                       that was reviewed";
            return (Disposition::Hold, Some(why));
        }
        if !self.undo {
            let why = "held, because a deletion of this kind of item cannot be undone";
            return (Disposition::Hold, Some(why));
        }
        (wanted, None)
    }
}

/// The one class and the one disposition of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classification {
    /// The class: a name out of the policy, or [`UNNAMED`].
    pub class: String,
    /// What is to be done.
    pub disposition: Disposition,
    /// Why, in the policy's own words, and the condition that decided.
    pub reason: String,
}
