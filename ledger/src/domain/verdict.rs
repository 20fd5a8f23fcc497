//! The verdict on data loss: `none`, `unknown` or `lost`, per scope and overall.
//!
//! Pure, from custody sums and a few facts about how they were got. `unknown` is never shown as
//! `none`, and each `unknown` names what is missing. Beside the verdict stands whether the work is
//! complete: a user who cannot be reached is work not done, not data lost.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::custody::{State, Sums};
use super::id::Actor;
use super::observation::Grade;

/// Was any data lost? Ordered: the worse of two is the greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No.
    #[default]
    None,
    /// Cannot be told; what is missing is named.
    Unknown,
    /// Yes; each item is named.
    Lost,
}

/// What a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Calendar events.
    Calendar,
    /// Records of the database.
    Records,
    /// Files in storage.
    Files,
}

impl Scope {
    /// All of them. An answer speaks of each, also of one that was never looked at.
    pub const ALL: [Self; 3] = [Self::Calendar, Self::Records, Self::Files];

    /// Where items of a kind belong. What a program of somebody's own deletes is stored somewhere: it counts as files.
    pub fn of_kind(kind: &str) -> Self {
        match kind {
            "calendar-event" => Self::Calendar,
            _ => Self::Files,
        }
    }
}

/// Why it cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// Nobody ever looked at the scope.
    NeverLookedAt,
    /// The inventory was begun and not sealed, so the items are not known to be all.
    UnsealedInventory,
    /// Fewer items are accounted for than the inventory sealed.
    Unaccounted,
    /// More items are accounted for than the inventory sealed.
    BeyondInventory,
    /// Intents without outcome, or with the outcome `unknown`.
    OpenIntents,
    /// Items there more than once.
    Duplicates,
    /// Items that could not be compared.
    Unreadable,
    /// Entries that say nothing: sealed without a key, gone, damaged, or of a type of a newer program.
    UnreadableEntries,
    /// A plan's items in the log are not the ones that were sealed.
    PlanNotAsSealed,
    /// A side was never observed.
    NeverObserved,
    /// A side was last observed before our last change to it, or too long ago.
    StaleObservation,
    /// A guard of the log (trigger, grant, owner) is off: what it says may not be all.
    GuardOff,
    /// The log itself does not verify.
    LogNotIntact,
}

impl UnknownReason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NeverLookedAt => "nobody ever looked at it",
            Self::UnsealedInventory => {
                "the inventory was begun and not sealed: make a dry run to its end"
            }
            Self::Unaccounted => "items that nothing is known about, or that the log contradicts",
            Self::BeyondInventory => "items that no sealed plan counts",
            Self::OpenIntents => {
                "deletions or restorations begun whose end is not known: run the same command again to recover them"
            }
            Self::Duplicates => "items that are there more than once",
            Self::Unreadable => "items that could not be compared",
            Self::UnreadableEntries => {
                "entries that say nothing: sealed without a key at hand, gone, damaged, or of a newer program"
            }
            Self::PlanNotAsSealed => "plans whose items are not the ones that were sealed",
            Self::NeverObserved => "this side was never observed",
            Self::StaleObservation => "this side was not observed since our last change to it",
            Self::GuardOff => "a guard of the log is off: what it says may not be all",
            Self::LogNotIntact => "the log does not verify: `ledger verify` names each entry",
        }
    }
}

/// When one side of a scope was last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Its name (`v1`, `v2`, `google`).
    pub name: String,
    /// The last complete observation.
    pub observed_at: Option<DateTime<Utc>>,
    /// Who made it, where entries of this ledger say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_by: Option<Actor>,
    /// How good it is: the run's own word, looked at again, or by an independent person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    /// An observation before this moment is stale: our last change to this side that was not looked at afterwards.
    #[serde(skip)]
    pub stale_before: Option<DateTime<Utc>>,
}

/// A user of whom nobody could look whether the retired system left anything behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// The user as a subject.
    pub user: String,
    /// Why not, as the dry run found it: `revoked`, `undecryptable`, …
    pub access: String,
    /// The entry that says so.
    pub seq: u64,
}

/// What is known about one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeFacts {
    /// How many items the sealed inventory counted, before and apart from classification. `None`:
    /// not sealed.
    pub sealed: Option<u64>,
    /// The items per state.
    pub sums: Sums,
    /// Intents without outcome that belong to no item of `sums`.
    pub open_intents: u64,
    /// Entries about the scope that say nothing: sealed without a key, gone, damaged, or of a type of a newer program.
    pub unreadable_entries: u64,
    /// Plans whose items in the log are not the ones that were sealed.
    pub plans_not_as_sealed: u64,
    /// Users who had given access and could not be reached: what of theirs there is, no inventory has.
    pub unreached: Vec<Unreached>,
    /// Each side, and when it was last observed.
    pub sides: Vec<Side>,
    /// An observation older than this, counted from `as_of`, is stale. `None`: never by age alone.
    pub observation_max_age: Option<Duration>,
}

/// The entry up to which an answer takes the log into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub recorded_at: DateTime<Utc>,
}

/// How far the log is anchored outside its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The last entry covered.
    pub seq: u64,
    /// Where (`same host`, a witness's name).
    pub place: String,
}

/// One lost item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostItem {
    /// Its scope.
    pub scope: Scope,
    /// Its subject.
    pub subject: String,
    /// Its state, and so in which way it is lost.
    pub state: State,
    /// What can restore it, in words; `None` where nothing can.
    pub restore: Option<String>,
    /// The entry that shows it.
    pub seq: u64,
}

/// One reason why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// The scope; `None` for all of them.
    pub scope: Option<Scope>,
    /// The reason.
    pub reason: UnknownReason,
    /// Items concerned, where they can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The side concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
}

/// An entry that the verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// Its number.
    pub seq: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The answer for one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeAnswer {
    /// Was any data of it lost?
    pub verdict: Verdict,
    /// Whether nothing remains to be done.
    pub complete: bool,
    /// The sealed count.
    pub sealed: Option<u64>,
    /// The items per state; they add up to `sealed`, or `beyond_inventory` says by how much not.
    pub sum: Sums,
    /// Of these, the items on which work remains.
    pub remaining: Sums,
    /// Users who could not be reached, so that work remains whatever the items say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Unreached>,
    /// When each side was last observed.
    pub sides: Vec<Side>,
}

/// Everything that [`judge`] looks at.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The last entry taken into account.
    pub as_of: AsOf,
    /// How far the log is anchored.
    pub anchored: Option<Anchor>,
    /// The scopes that were looked at.
    pub scopes: BTreeMap<Scope, ScopeFacts>,
    /// Each lost item, named.
    pub lost: Vec<LostItem>,
    /// All guards of the log were found on.
    pub guards_on: bool,
    /// The log was found intact.
    pub log_intact: bool,
    /// The entries it rests on.
    pub evidence: Vec<Evidence>,
}

/// The answer to "was any data lost", in the shape of `ledger loss --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossAnswer {
    /// The worst of the scopes.
    pub verdict: Verdict,
    /// Whether nothing remains to be done in any scope.
    pub complete: bool,
    /// The last entry taken into account.
    pub as_of: AsOf,
    /// How far the log is anchored; null: not at all.
    pub anchored: Option<Anchor>,
    /// Each scope.
    pub scopes: BTreeMap<Scope, ScopeAnswer>,
    /// The items of all scopes per state.
    pub sum: Sums,
    /// Each lost item.
    pub lost: Vec<LostItem>,
    /// Each reason why it cannot be told.
    pub unknown: Vec<Unknown>,
    /// The entries it rests on, in order, each once.
    pub evidence: Vec<Evidence>,
}

impl LossAnswer {
    /// The same answer for some of the scopes alone. What concerns the whole log stays.
    #[must_use]
    pub fn only(mut self, asked: &[Scope]) -> Self {
        self.scopes.retain(|scope, _| asked.contains(scope));
        self.lost.retain(|item| asked.contains(&item.scope));
        self.unknown
            .retain(|unknown| unknown.scope.is_none_or(|scope| asked.contains(&scope)));
        self.sum = Sums::new();
        for answer in self.scopes.values() {
            self.sum.merge(&answer.sum);
        }
        (self.verdict, self.complete) = overall(&self.scopes);
        self
    }
}

/// The worst of some scopes, and whether nothing remains in any. Of no scope nothing is known.
fn overall(scopes: &BTreeMap<Scope, ScopeAnswer>) -> (Verdict, bool) {
    let worst = scopes.values().map(|answer| answer.verdict).max();
    (
        worst.unwrap_or(Verdict::Unknown),
        !scopes.is_empty() && scopes.values().all(|answer| answer.complete),
    )
}

/// Gives the verdict.
pub fn judge(inputs: Inputs) -> LossAnswer {
    let Inputs {
        as_of,
        anchored,
        scopes: facts,
        lost,
        guards_on,
        log_intact,
        mut evidence,
    } = inputs;
    let mut unknown = Vec::new();
    for (wrong, reason) in [
        (!guards_on, UnknownReason::GuardOff),
        (!log_intact, UnknownReason::LogNotIntact),
    ] {
        if wrong {
            unknown.push(Unknown {
                scope: None,
                reason,
                count: None,
                side: None,
            });
        }
    }
    let log_doubtful = !unknown.is_empty();

    let mut scopes = BTreeMap::new();
    let mut sum = Sums::new();
    for scope in Scope::ALL {
        let (mut answer, reasons) = judge_scope(scope, facts.get(&scope), as_of);
        if log_doubtful {
            answer.verdict = answer.verdict.max(Verdict::Unknown);
            answer.complete = false;
        }
        if lost.iter().any(|item| item.scope == scope) {
            answer.verdict = Verdict::Lost;
            answer.complete = false;
        }
        sum.merge(&answer.sum);
        unknown.extend(reasons);
        scopes.insert(scope, answer);
    }
    evidence.sort();
    evidence.dedup();
    let (verdict, complete) = overall(&scopes);
    LossAnswer {
        verdict,
        complete,
        as_of,
        anchored,
        scopes,
        sum,
        lost,
        unknown,
        evidence,
    }
}

fn judge_scope(
    scope: Scope,
    facts: Option<&ScopeFacts>,
    as_of: AsOf,
) -> (ScopeAnswer, Vec<Unknown>) {
    let mut unknown = Vec::new();
    let mut note = |reason, count: Option<u64>, side: Option<&str>| {
        unknown.push(Unknown {
            scope: Some(scope),
            reason,
            count,
            side: side.map(str::to_owned),
        });
    };
    let nothing = ScopeFacts::default();
    let (facts, looked_at) = facts.map_or((&nothing, false), |facts| (facts, true));

    let (sum, beyond) = match facts.sealed {
        Some(sealed) => facts.sums.balanced(sealed),
        None => (facts.sums.clone(), 0),
    };
    if !looked_at {
        note(UnknownReason::NeverLookedAt, None, None);
    } else if facts.sealed.is_none() {
        note(UnknownReason::UnsealedInventory, None, None);
    }
    let in_flight = sum.get(State::InFlight) + facts.open_intents;
    for (count, reason) in [
        (beyond, UnknownReason::BeyondInventory),
        (sum.get(State::Unaccounted), UnknownReason::Unaccounted),
        (in_flight, UnknownReason::OpenIntents),
        (sum.get(State::Duplicate), UnknownReason::Duplicates),
        (sum.get(State::Unreadable), UnknownReason::Unreadable),
        (facts.unreadable_entries, UnknownReason::UnreadableEntries),
        (facts.plans_not_as_sealed, UnknownReason::PlanNotAsSealed),
    ] {
        if count > 0 {
            note(reason, Some(count), None);
        }
    }
    if looked_at && facts.sides.is_empty() {
        note(UnknownReason::NeverObserved, None, None);
    }
    let oldest = facts.observation_max_age.map(|age| as_of.recorded_at - age);
    for side in &facts.sides {
        match side.observed_at {
            None => note(UnknownReason::NeverObserved, None, Some(&side.name)),
            Some(at)
                if side
                    .stale_before
                    .max(oldest)
                    .is_some_and(|least| at < least) =>
            {
                note(UnknownReason::StaleObservation, None, Some(&side.name));
            }
            Some(_) => {}
        }
    }

    let mut remaining = Sums::new();
    let mut verdict = if unknown.is_empty() {
        Verdict::None
    } else {
        Verdict::Unknown
    };
    for (state, count) in sum.iter() {
        let effect = state.effect();
        verdict = verdict.max(effect.verdict);
        if !effect.complete {
            remaining.add(state, count);
        }
    }
    let answer = ScopeAnswer {
        verdict,
        complete: verdict == Verdict::None && remaining.total() == 0 && facts.unreached.is_empty(),
        sealed: facts.sealed,
        sum,
        remaining,
        unreached: facts.unreached.clone(),
        sides: facts.sides.clone(),
    };
    (answer, unknown)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
