//! Custody: every item of a sealed inventory is in exactly one state, and the states add up.
//!
//! [`State`] is the one table of states and of what each does to the verdict; [`fold`] is the one
//! transition function. It is total: what may not happen is an [`Illegal`] that the accumulator
//! turns into [`State::Unaccounted`], so that a history nobody understands is never a clean one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::identify::Disposition;
use super::verdict::Verdict;

/// Where an item is, as far as the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Found equal on both sides.
    Verified,
    /// Equal but for an accepted default.
    DefaultApplied,
    /// Left out by an approved decision, also by "keep" in a review.
    Excluded,
    /// To be deleted and not deleted yet: also when lapsed, stopped or finally failed.
    Planned,
    /// Deleted as approved, with a backup; also gone after our intent, cause unknown.
    Deleted,
    /// Put back by us.
    Restored,
    /// Left alone: not the retired system's alone.
    Protected,
    /// Left for a person; also what had changed, or been taken over, at the moment of deletion.
    Held,
    /// Gone before we did anything.
    GoneBefore,
    /// Changed or gone after its seal without an intent of ours.
    ChangedSince,
    /// Could not be reached.
    OutOfReach,
    /// An intent without outcome, or with the outcome `unknown`.
    InFlight,
    /// Written on the old side after the seal and not yet on the new one.
    LateWrite,
    /// Not equal, and nobody's decision.
    Altered,
    /// Deleted on the old side, alive on the new one.
    Resurrected,
    /// Not there; also gone by our hand outside an approved plan, or without a backup.
    Missing,
    /// There more than once.
    Duplicate,
    /// Could not be compared.
    Unreadable,
    /// Deleted as approved, and its backup erased with its owner.
    BackupErased,
    /// None of these: the log contradicts itself, or says nothing.
    Unaccounted,
}

/// What a state does to the answer "was any data lost".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The least verdict of a scope that has an item in this state.
    pub verdict: Verdict,
    /// Whether the work on the item is over.
    pub complete: bool,
    /// Whether the item is listed though nothing is wrong.
    pub listed: bool,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Verified,
        Self::DefaultApplied,
        Self::Excluded,
        Self::Planned,
        Self::Deleted,
        Self::Restored,
        Self::Protected,
        Self::Held,
        Self::GoneBefore,
        Self::ChangedSince,
        Self::OutOfReach,
        Self::InFlight,
        Self::LateWrite,
        Self::Altered,
        Self::Resurrected,
        Self::Missing,
        Self::Duplicate,
        Self::Unreadable,
        Self::BackupErased,
        Self::Unaccounted,
    ];

    /// The effect of the state.
    pub fn effect(self) -> Effect {
        let (verdict, complete, listed) = match self {
            Self::Verified
            | Self::DefaultApplied
            | Self::Excluded
            | Self::Deleted
            | Self::Restored
            | Self::Protected
            | Self::GoneBefore
            | Self::BackupErased => (Verdict::None, true, false),
            Self::ChangedSince => (Verdict::None, true, true),
            Self::Planned | Self::Held | Self::OutOfReach => (Verdict::None, false, false),
            Self::InFlight | Self::Duplicate | Self::Unreadable | Self::Unaccounted => {
                (Verdict::Unknown, false, true)
            }
            Self::LateWrite | Self::Altered | Self::Resurrected | Self::Missing => {
                (Verdict::Lost, false, true)
            }
        };
        Effect {
            verdict,
            complete,
            listed,
        }
    }

    /// Where an item stands right after it was found with a disposition.
    pub fn of_disposition(disposition: Disposition) -> Self {
        match disposition {
            Disposition::Delete => Self::Planned,
            Disposition::Hold => Self::Held,
            Disposition::Protect => Self::Protected,
            Disposition::Done => Self::GoneBefore,
            Disposition::OutOfReach => Self::OutOfReach,
        }
    }

    /// Where a record or file stands after it was compared.
    pub fn of_difference(difference: Difference) -> Self {
        match difference {
            Difference::Equal => Self::Verified,
            Difference::DefaultApplied => Self::DefaultApplied,
            Difference::Lost => Self::Missing,
            Difference::Resurrected => Self::Resurrected,
            Difference::Altered => Self::Altered,
            Difference::ChangedSince => Self::ChangedSince,
            Difference::LateWrite => Self::LateWrite,
            Difference::Duplicate => Self::Duplicate,
            Difference::Unreadable => Self::Unreadable,
        }
    }
}

/// What a comparison of both sides found about one record or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// None.
    Equal,
    /// The new side has an accepted default where the old one has nothing.
    DefaultApplied,
    /// Not on the new side.
    Lost,
    /// Deleted on the old side, alive on the new one.
    Resurrected,
    /// Differs, and no rule explains it.
    Altered,
    /// Changed or added by its user after the seal of the new side.
    ChangedSince,
    /// Written on the old side after its seal and not on the new one.
    LateWrite,
    /// More than once on the new side.
    Duplicate,
    /// One side could not be read.
    Unreadable,
}

/// How an attempt to delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteOutcome {
    /// By us; `backup` says whether a true backup of the very version is in the log.
    Deleted {
        /// Whether it can be put back.
        backup: bool,
    },
    /// It was gone when we came.
    AlreadyGone,
    /// Gone after our intent; whether by us cannot be told.
    GoneCauseUnknown,
    /// It was no longer the version that was approved: left alone.
    Changed,
    /// The new system had taken it over by then: left alone.
    Adopted,
    /// It is still there.
    Failed,
    /// Nothing can be said.
    Unknown,
}

/// How an attempt to put back ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// It is there again.
    Restored,
    /// It is not.
    Failed,
    /// Nothing can be said.
    Unknown,
}

/// What a later look at the outside showed, without an intent of ours in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// There, as it was.
    Unchanged,
    /// There, and changed.
    Changed,
    /// Not there.
    Gone,
}

/// One thing the log says about one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A dry run found it, and its plan was sealed.
    Found(Disposition),
    /// The same, as it was before the last thing that we did to it: sealed since, and nothing new.
    FoundBefore(Disposition),
    /// Both sides were compared.
    Compared(Difference),
    /// An approved decision leaves it out.
    Excluded,
    /// We are about to delete it.
    DeleteIntended {
        /// It is an item of a plan with an approval that had not lapsed.
        approved: bool,
    },
    /// How that ended.
    DeleteEnded(DeleteOutcome),
    /// We are about to put it back.
    RestoreIntended,
    /// How that ended.
    RestoreEnded(RestoreOutcome),
    /// It was looked at again.
    Observed(Observation),
    /// Its backup was erased with its owner.
    BackupErased,
    /// It was erased with its owner; where it stood then is what the erasure recorded.
    Erased(State),
}

/// A fact that cannot follow what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fact:?} cannot follow {state:?}{}", if *open { " with an open intent" } else { "" })]
pub struct Illegal {
    /// The state it met.
    pub state: State,
    /// Whether an intent was open.
    pub open: bool,
    /// The fact.
    pub fact: Fact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Delete,
    Restore,
}

/// What is known about one item: its state, and what later facts need to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    state: State,
    /// An intent whose outcome is not recorded.
    open: Option<Action>,
    /// An attempt whose outcome was `unknown`: its effect may still show.
    unresolved: Option<Action>,
    /// The state before the first attempt that is open or unresolved.
    before: State,
    /// One of these attempts had no approved plan behind it.
    outside_plan: bool,
    backup_erased: bool,
    /// It was gone by our hand, and is there again.
    returned: Option<Returned>,
}

/// What is known of an item that was gone by our hand and is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Returned {
    /// The state that it had.
    gone: State,
    /// A sealed plan found it so, and is to delete it.
    planned: bool,
}

impl Item {
    fn new(state: State) -> Self {
        Self {
            state,
            open: None,
            unresolved: None,
            before: state,
            outside_plan: false,
            backup_erased: false,
            returned: None,
        }
    }

    /// The state.
    pub fn state(self) -> State {
        self.state
    }

    /// Whether an intent without outcome is open.
    pub fn is_open(self) -> bool {
        self.open.is_some()
    }

    /// Whether it was gone by our hand and is there again, which no intent of ours explains.
    pub fn is_there_again(self) -> bool {
        self.state == State::Unaccounted && self.returned.is_some()
    }

    /// Settled in a state: nothing is open or unresolved any more.
    fn settled(self, state: State) -> Self {
        let state = match state {
            State::Deleted if self.backup_erased => State::BackupErased,
            other => other,
        };
        Self {
            backup_erased: self.backup_erased,
            ..Self::new(state)
        }
    }

    /// Where it stood before the attempts that are open or unresolved.
    fn as_before(self) -> Self {
        Self {
            returned: self.returned,
            ..self.settled(self.before)
        }
    }

    /// It was gone by our hand before these attempts, as far as is known.
    fn was_gone_by_us(self) -> bool {
        is_gone_by_us(self.before)
    }

    /// There although it was gone by our hand: one of the two is wrong, or somebody else put it back. `planned`: by a sealed plan it is
    /// to go again.
    fn there_again(self, planned: bool) -> Self {
        let gone = self.returned.map_or(self.before, |returned| returned.gone);
        Self {
            returned: Some(Returned { gone, planned }),
            ..self.settled(State::Unaccounted)
        }
    }

    /// It is not there, without another attempt of ours: what was there again has gone again.
    fn gone_again(self) -> Self {
        match self.returned {
            Some(returned) => self.settled(returned.gone),
            None => self.as_before(),
        }
    }

    /// What a disappearance by our hand amounts to.
    fn gone_by_us(self) -> Self {
        self.settled(if self.outside_plan {
            State::Missing
        } else {
            State::Deleted
        })
    }
}

/// The state of an item after one more fact.
pub fn fold(item: Option<Item>, fact: Fact) -> Result<Item, Illegal> {
    if let Fact::Erased(state) = fact {
        return Ok(Item {
            backup_erased: true,
            ..Item::new(State::Unaccounted)
        }
        .settled(state));
    }
    match item {
        None => first(fact),
        Some(item) if item.open.is_some() => while_open(item, fact),
        Some(item) => next(item, fact),
    }
}

fn first(fact: Fact) -> Result<Item, Illegal> {
    match fact {
        Fact::Found(disposition) | Fact::FoundBefore(disposition) => {
            Ok(Item::new(State::of_disposition(disposition)))
        }
        Fact::Compared(difference) => Ok(Item::new(State::of_difference(difference))),
        Fact::Excluded => Ok(Item::new(State::Excluded)),
        // Nobody found it: whatever becomes of it was not approved.
        Fact::DeleteIntended { .. } => {
            let unknown = Item::new(State::Unaccounted);
            Ok(Item {
                state: State::InFlight,
                open: Some(Action::Delete),
                outside_plan: true,
                ..unknown
            })
        }
        _ => Err(Illegal {
            state: State::Unaccounted,
            open: false,
            fact,
        }),
    }
}

fn while_open(item: Item, fact: Fact) -> Result<Item, Illegal> {
    match (fact, item.open) {
        (Fact::DeleteEnded(outcome), Some(Action::Delete)) => Ok(delete_ended(item, outcome)),
        (Fact::RestoreEnded(outcome), Some(Action::Restore)) => Ok(restore_ended(item, outcome)),
        // The outcome decides, whatever else was seen meanwhile.
        (Fact::Found(_) | Fact::FoundBefore(_) | Fact::Observed(_) | Fact::Compared(_), _) => {
            Ok(item)
        }
        (Fact::BackupErased, _) => Ok(Item {
            backup_erased: true,
            ..item
        }),
        _ => Err(Illegal {
            state: item.state,
            open: true,
            fact,
        }),
    }
}

fn delete_ended(item: Item, outcome: DeleteOutcome) -> Item {
    let item = Item { open: None, ..item };
    match outcome {
        // Another plan names it too, and what this attempt met is our own deletion under the first one.
        DeleteOutcome::AlreadyGone | DeleteOutcome::GoneCauseUnknown if item.was_gone_by_us() => {
            item.as_before()
        }
        DeleteOutcome::Deleted { backup: true } | DeleteOutcome::GoneCauseUnknown => {
            item.gone_by_us()
        }
        DeleteOutcome::Deleted { backup: false } => item.settled(State::Missing),
        // After an attempt that nobody knows the end of, "already gone" may well be our own doing.
        DeleteOutcome::AlreadyGone if item.unresolved == Some(Action::Delete) => item.gone_by_us(),
        DeleteOutcome::AlreadyGone if item.returned.is_some() => item.gone_again(),
        DeleteOutcome::AlreadyGone if matches!(item.before, State::Planned | State::GoneBefore) => {
            item.settled(State::GoneBefore)
        }
        DeleteOutcome::AlreadyGone => item.settled(State::ChangedSince),
        DeleteOutcome::Changed if is_deleted(item.before) => item.there_again(false),
        DeleteOutcome::Changed | DeleteOutcome::Adopted => match item.before {
            State::Planned => item.settled(State::Held),
            _ => item.as_before(),
        },
        DeleteOutcome::Failed if item.unresolved.is_some() => item,
        DeleteOutcome::Failed => item.as_before(),
        DeleteOutcome::Unknown => Item {
            unresolved: Some(Action::Delete),
            ..item
        },
    }
}

fn restore_ended(item: Item, outcome: RestoreOutcome) -> Item {
    let item = Item { open: None, ..item };
    match outcome {
        RestoreOutcome::Restored => item.settled(State::Restored),
        RestoreOutcome::Failed if item.unresolved.is_some() => item,
        RestoreOutcome::Failed => item.as_before(),
        RestoreOutcome::Unknown => Item {
            unresolved: Some(Action::Restore),
            ..item
        },
    }
}

fn next(item: Item, fact: Fact) -> Result<Item, Illegal> {
    let state = item.state;
    let illegal = Illegal {
        state,
        open: false,
        fact,
    };
    match fact {
        Fact::Found(_) | Fact::FoundBefore(_) if is_compared_only(state) => Err(illegal),
        Fact::FoundBefore(_) => Ok(item),
        Fact::Found(disposition) => Ok(found_again(item, disposition)),
        Fact::Compared(difference) if is_compared(state) => {
            Ok(item.settled(State::of_difference(difference)))
        }
        // A decision stands whatever a later comparison shows.
        Fact::Compared(_) if state == State::Excluded => Ok(item),
        Fact::Excluded => match state {
            State::Deleted | State::BackupErased | State::InFlight => Err(illegal),
            _ => Ok(item.settled(State::Excluded)),
        },
        Fact::DeleteIntended { approved } => {
            // What an earlier plan deleted is still to go by another one that names it, should it be there again.
            let is_planned = item.before == State::Planned
                || item.returned.is_some_and(|returned| returned.planned);
            let is_to_go = is_planned || is_deleted(item.before);
            let in_plan = approved && is_to_go && !item.outside_plan;
            Ok(Item {
                state: State::InFlight,
                open: Some(Action::Delete),
                outside_plan: !in_plan,
                ..item
            })
        }
        Fact::RestoreIntended => match state {
            State::Deleted
            | State::Missing
            | State::BackupErased
            | State::GoneBefore
            | State::ChangedSince
            | State::InFlight => Ok(Item {
                state: State::InFlight,
                open: Some(Action::Restore),
                ..item
            }),
            // It may be there by an attempt to put it back that arrived late.
            _ if item.returned.is_some() => Ok(Item {
                state: State::InFlight,
                open: Some(Action::Restore),
                ..item
            }),
            _ => Err(illegal),
        },
        Fact::Compared(_) | Fact::DeleteEnded(_) | Fact::RestoreEnded(_) | Fact::Erased(_) => {
            Err(illegal)
        }
        Fact::Observed(seen) => Ok(observed(item, seen)),
        Fact::BackupErased => {
            let item = Item {
                backup_erased: true,
                ..item
            };
            Ok(if state == State::Deleted {
                item.settled(State::Deleted)
            } else {
                item
            })
        }
    }
}

/// States of what is gone by our hand as approved.
fn is_deleted(state: State) -> bool {
    matches!(state, State::Deleted | State::BackupErased)
}

/// States of what is gone by our hand.
fn is_gone_by_us(state: State) -> bool {
    is_deleted(state) || state == State::Missing
}

/// States that a comparison can lead to, and so another one can change.
fn is_compared(state: State) -> bool {
    is_compared_only(state) || matches!(state, State::Missing | State::ChangedSince)
}

/// States that only a comparison leads to.
fn is_compared_only(state: State) -> bool {
    matches!(
        state,
        State::Verified
            | State::DefaultApplied
            | State::LateWrite
            | State::Altered
            | State::Resurrected
            | State::Duplicate
            | State::Unreadable
    )
}

/// A later dry run met an item that is known already.
fn found_again(item: Item, disposition: Disposition) -> Item {
    let anew = State::of_disposition(disposition);
    let is_gone = matches!(disposition, Disposition::Done | Disposition::OutOfReach);
    let planned = disposition == Disposition::Delete;
    match (item.state, disposition) {
        // By our hand it is gone, and it was seen there since.
        (state, _) if !is_gone && is_gone_by_us(state) => item.there_again(planned),
        (State::InFlight, _) if !is_gone && is_deleted(item.before) => item.there_again(planned),
        (State::InFlight | State::Unaccounted, _) if !is_gone && item.returned.is_some() => {
            item.there_again(planned)
        }
        (State::Unaccounted, Disposition::Done) => item.gone_again(),
        (State::InFlight, Disposition::Done) => observed(item, Observation::Gone),
        (State::Planned | State::OutOfReach | State::GoneBefore, Disposition::Done) => {
            item.settled(State::GoneBefore)
        }
        (State::Protected | State::Held | State::Restored, Disposition::Done) => {
            item.settled(State::ChangedSince)
        }
        // What is known to be gone stays so: a dry run adds nothing to it. Nor to a decision.
        (
            State::Deleted
            | State::BackupErased
            | State::Missing
            | State::GoneBefore
            | State::ChangedSince
            | State::InFlight
            | State::Unaccounted,
            Disposition::Done | Disposition::OutOfReach,
        )
        | (State::Excluded, _) => item,
        _ => item.settled(anew),
    }
}

fn observed(item: Item, seen: Observation) -> Item {
    let there = seen != Observation::Gone;
    match (item.state, item.unresolved) {
        // A deletion under an earlier plan that is contradicted by what is there now.
        (State::InFlight, Some(Action::Delete)) if there && is_deleted(item.before) => {
            item.there_again(false)
        }
        (State::InFlight, Some(Action::Delete)) if there || item.was_gone_by_us() => {
            item.as_before()
        }
        (State::InFlight, Some(Action::Delete)) => item.gone_by_us(),
        (State::InFlight, Some(Action::Restore)) if there => item.settled(State::Restored),
        (State::InFlight, Some(Action::Restore)) => item.gone_again(),
        (State::Planned, _) if !there => item.settled(State::GoneBefore),
        (State::Protected | State::Held | State::Restored, _) if seen != Observation::Unchanged => {
            item.settled(State::ChangedSince)
        }
        (State::GoneBefore, _) if there => item.settled(State::ChangedSince),
        // The log says it is gone and it is not: one of the two is wrong.
        (state, _) if there && is_deleted(state) => item.there_again(false),
        (State::Unaccounted, _) if !there => item.gone_again(),
        _ => item,
    }
}

/// How many items are in each state. Serialises as `{state: count}`, zeros left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sums(BTreeMap<State, u64>);

impl Sums {
    /// No items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves an item from a state, or from nowhere, to a state.
    pub fn moved(&mut self, from: Option<State>, to: State) {
        if let Some(count) = from.and_then(|from| self.0.get_mut(&from)) {
            *count = count.saturating_sub(1);
        }
        self.add(to, 1);
        self.0.retain(|_, count| *count > 0);
    }

    /// Adds items in a state.
    pub fn add(&mut self, state: State, count: u64) {
        if count > 0 {
            *self.0.entry(state).or_default() += count;
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (state, count) in other.iter() {
            self.add(state, count);
        }
    }

    /// Items in a state.
    pub fn get(&self, state: State) -> u64 {
        self.0.get(&state).copied().unwrap_or(0)
    }

    /// Items in all states.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// States with at least one item, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> {
        self.0
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(state, count)| (*state, *count))
    }

    /// Makes the states add up to a sealed count: items of the inventory that nothing is said about
    /// become `unaccounted`. The second part counts the items beyond the seal, which no inventory
    /// explains.
    pub fn balanced(&self, sealed: u64) -> (Self, u64) {
        let mut sums = self.clone();
        let total = sums.total();
        sums.add(State::Unaccounted, sealed.saturating_sub(total));
        (sums, total.saturating_sub(sealed))
    }
}

/// The items of one scope, in memory. A projection keeps [`Item`] and [`Sums`] in its own way.
#[derive(Clone, Debug)]
pub struct Custody<K> {
    items: BTreeMap<K, Item>,
    sums: Sums,
    irregular: Vec<(K, Illegal)>,
}

impl<K> Default for Custody<K> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            sums: Sums::new(),
            irregular: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> Custody<K> {
    /// No items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a fact about an item. One that cannot follow makes the item `unaccounted`, and is
    /// kept for the answer to name.
    pub fn apply(&mut self, key: &K, fact: Fact) -> State {
        let known = self.items.get(key).copied();
        let item = fold(known, fact).unwrap_or_else(|illegal| {
            self.irregular.push((key.clone(), illegal));
            Item::new(State::Unaccounted)
        });
        self.items.insert(key.clone(), item);
        self.sums.moved(known.map(Item::state), item.state);
        item.state
    }

    /// An item.
    pub fn get(&self, key: &K) -> Option<Item> {
        self.items.get(key).copied()
    }

    /// All items, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Item)> {
        self.items.iter().map(|(key, item)| (key, *item))
    }

    /// The count per state; it adds up to the number of items.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The facts that could not follow what was known.
    pub fn irregular(&self) -> &[(K, Illegal)] {
        &self.irregular
    }
}

#[cfg(test)]
#[path = "custody_tests.rs"]
mod tests;
