//! The report of deletions: per user, per item, with sums that add up or no report at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::deletions::{ItemLine, Reference, Review};
use crate::domain::custody::State;

/// Where an item is counted. Every state is in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// Deleted as approved.
    Deleted,
    /// Deleted and put back.
    Restored,
    /// Left alone.
    Protected,
    /// Kept by a person's decision.
    Kept,
    /// Waits for a person.
    Held,
    /// To be deleted, and not done.
    Failed,
    /// Could not be reached.
    OutOfReach,
    /// Gone before anything was done.
    GoneBefore,
    /// Changed after the plan, not by us.
    ChangedSince,
    /// Deleted without a sound approval or a true copy, or otherwise lost; also what the retired system wrote late.
    Lost,
    /// What became of it cannot be told.
    Unknown,
}

impl Column {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Deleted,
        Self::Restored,
        Self::Protected,
        Self::Kept,
        Self::Held,
        Self::Failed,
        Self::OutOfReach,
        Self::GoneBefore,
        Self::ChangedSince,
        Self::Lost,
        Self::Unknown,
    ];

    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Protected => "protected",
            Self::Kept => "kept",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::OutOfReach => "out_of_reach",
            Self::GoneBefore => "gone_before",
            Self::ChangedSince => "changed_since",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    /// The column of a state.
    pub fn of(state: State) -> Self {
        match state {
            State::Deleted | State::BackupErased => Self::Deleted,
            State::Restored => Self::Restored,
            State::Protected | State::Verified | State::DefaultApplied => Self::Protected,
            State::Excluded => Self::Kept,
            State::Held => Self::Held,
            State::Planned => Self::Failed,
            State::OutOfReach => Self::OutOfReach,
            State::GoneBefore => Self::GoneBefore,
            State::ChangedSince => Self::ChangedSince,
            State::Missing | State::LateWrite | State::Altered | State::Resurrected => Self::Lost,
            State::InFlight | State::Duplicate | State::Unreadable | State::Unaccounted => {
                Self::Unknown
            }
        }
    }
}

/// Items by column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them.
    pub found: u64,
    /// Where they are; zeros stand here too.
    #[serde(flatten)]
    pub columns: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// No items.
    pub fn none() -> Self {
        Self {
            found: 0,
            columns: Column::ALL.map(|column| (column.name(), 0)).into(),
        }
    }

    fn add(&mut self, column: Column, items: u64) {
        self.found += items;
        *self.columns.entry(column.name()).or_default() += items;
    }

    /// Items in a column.
    pub fn get(&self, column: Column) -> u64 {
        self.columns.get(column.name()).copied().unwrap_or(0)
    }

    fn adds_up(&self) -> bool {
        self.columns.values().sum::<u64>() == self.found
    }
}

/// A user's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRow {
    /// The user as a subject; none for items of nobody known.
    pub subject: Option<String>,
    /// E-mail address in the retired system, where the keys open it.
    pub email: Option<String>,
    /// Why the user could not be reached, where that is so.
    pub unreachable: Option<String>,
    /// The items that are counted here. One that was reached through several users is counted with the first of them.
    #[serde(flatten)]
    pub counts: Counts,
    /// The entry that tells of the user.
    #[serde(skip)]
    pub seq: Option<u64>,
}

/// An item's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemRow {
    /// Where it is counted.
    pub column: Column,
    /// What is known of it.
    #[serde(flatten)]
    pub item: ItemLine,
    /// The entry that says where it is: that it came back, or its outcome, else what was begun, else what found it.
    pub proof: Option<Proof>,
}

/// An entry and the checkpoint that covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The entry.
    #[serde(flatten)]
    pub entry: Reference,
    /// Entries of the last checkpoint, if that covers it: `ledger prove SEQ` then proves it.
    pub checkpoint: Option<u64>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Per user.
    pub users: Vec<UserRow>,
    /// Of all users.
    pub totals: Counts,
    /// Per item, in the order of the users.
    pub items: Vec<ItemRow>,
}

/// Its sums do not add up: a report that says otherwise would be false.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report does not add up: {what}: {left} and {right}")]
pub struct DoesNotAddUp {
    /// Which sum.
    pub what: &'static str,
    /// One side.
    pub left: u64,
    /// The other.
    pub right: u64,
}

impl Report {
    /// The report of a review, with the size of the last checkpoint.
    ///
    /// # Errors
    /// [`DoesNotAddUp`]; nothing may be printed then.
    pub fn of(review: Review, checkpoint: Option<u64>) -> Result<Self, DoesNotAddUp> {
        let mut users: BTreeMap<(Option<String>, Option<String>), UserRow> = BTreeMap::new();
        for user in &review.users {
            let key = (user.email.clone(), Some(user.subject.clone()));
            let row = UserRow {
                subject: Some(user.subject.clone()),
                email: user.email.clone(),
                unreachable: user.unreachable().map(str::to_owned),
                counts: Counts::none(),
                seq: user.seq,
            };
            users.insert(key, row);
        }
        let mut items = Vec::new();
        for item in review.items {
            let column = Column::of(item.state);
            let first = item.users.first();
            let subject = first.map(|user| user.subject.clone());
            let email = first.and_then(|user| user.email.clone());
            let row = users
                .entry((email.clone(), subject.clone()))
                .or_insert_with(|| UserRow {
                    subject,
                    email,
                    unreachable: None,
                    counts: Counts::none(),
                    seq: first.and_then(|user| user.seq),
                });
            row.counts.add(column, 1);
            items.push(ItemRow::of(column, item, checkpoint));
        }
        items.sort_by(|a, b| order(a).cmp(&order(b)));
        let known = items.len() as u64;
        let mut report = Self {
            users: users.into_values().collect(),
            totals: Counts::none(),
            items,
        };
        // What a seal counts and the log does not hold: of nobody known, and not known.
        if let Some(absent) = review.total.checked_sub(known).filter(|absent| *absent > 0) {
            let mut counts = Counts::none();
            counts.add(Column::Unknown, absent);
            report.users.push(UserRow {
                subject: None,
                email: None,
                unreachable: None,
                counts,
                seq: None,
            });
        }
        for user in &report.users {
            for column in Column::ALL {
                report.totals.add(column, user.counts.get(column));
            }
        }
        report.check(review.total)?;
        let mut by_state = Counts::none();
        for (state, count) in review.sum.iter() {
            by_state.add(Column::of(state), count);
        }
        for column in Column::ALL {
            let (counted, in_states) = (report.totals.get(column), by_state.get(column));
            if counted != in_states {
                let what = "a column and the custody sum of its states";
                return Err(unequal(what, counted, in_states));
            }
        }
        Ok(report)
    }

    /// Holds every sum against another way to it.
    ///
    /// # Errors
    /// The first that differs.
    pub fn check(&self, items: u64) -> Result<(), DoesNotAddUp> {
        for user in &self.users {
            if !user.counts.adds_up() {
                let sum = user.counts.columns.values().sum();
                return Err(unequal("a user's row", user.counts.found, sum));
            }
        }
        if !self.totals.adds_up() {
            let sum = self.totals.columns.values().sum();
            return Err(unequal("the totals", self.totals.found, sum));
        }
        let found: u64 = self.users.iter().map(|user| user.counts.found).sum();
        if found != self.totals.found {
            return Err(unequal(
                "the users and the totals",
                found,
                self.totals.found,
            ));
        }
        if found != items {
            return Err(unequal("the users and the custody sum", found, items));
        }
        for column in Column::ALL {
            let listed = self.items.iter().filter(|row| row.column == column);
            let listed = listed.count() as u64;
            let counted = self.totals.get(column);
            if listed != counted && column != Column::Unknown {
                return Err(unequal("a column and its items", counted, listed));
            }
        }
        Ok(())
    }

    /// The numbers of the entries that the report repeats something of: what a copy of it holds.
    pub fn entries(&self) -> BTreeSet<u64> {
        let of = |row: &ItemRow| {
            let item = &row.item;
            let found = item.found.as_ref().map(|entry| entry.seq);
            let backup = item.backup.as_ref().map(|backup| backup.entry.seq);
            let outcomes = [&item.outcome, &item.undo].map(Option::as_ref);
            let outcomes = outcomes.map(|outcome| outcome.map(|outcome| outcome.entry.seq));
            let decisions = item.decisions.iter().map(|decision| decision.entry.seq);
            let users = item.users.iter().filter_map(|user| user.seq);
            [found, backup]
                .into_iter()
                .chain(outcomes)
                .flatten()
                .chain(decisions)
                .chain(users)
                .collect::<Vec<_>>()
        };
        let users = self.users.iter().filter_map(|user| user.seq);
        self.items.iter().flat_map(of).chain(users).collect()
    }
}

fn unequal(what: &'static str, left: u64, right: u64) -> DoesNotAddUp {
    DoesNotAddUp { what, left, right }
}

fn order(row: &ItemRow) -> (Option<&str>, Option<&str>, Column, Option<&str>, &str) {
    let first = row.item.users.first();
    (
        first.and_then(|user| user.email.as_deref()),
        first.map(|user| user.subject.as_str()),
        row.column,
        row.item.date.as_deref(),
        &row.item.subject,
    )
}

impl ItemRow {
    fn of(column: Column, item: ItemLine, checkpoint: Option<u64>) -> Self {
        let erased = item.erased.as_ref().map(|erased| &erased.entry);
        let outcome = item.outcome.as_ref().map(|outcome| &outcome.entry);
        // An attempt to put it back that failed left it where it was.
        let back = item.undo.as_ref().filter(|_| item.restored.is_some());
        let back = back.map(|undo| &undo.entry);
        let begun = item.backup.as_ref().map(|backup| &backup.entry);
        // A decision that was sealed into no plan says nothing of where it is.
        let mut decisions = item.decisions.iter().rev();
        let decided = decisions.find(|decision| decision.plan.is_some());
        let decided = decided.map(|decision| &decision.entry);
        let entry = back
            .or(outcome)
            .or(begun)
            .or(decided)
            .or(item.found.as_ref())
            .or(erased);
        let proof = entry.map(|entry| Proof {
            checkpoint: checkpoint.filter(|size| *size >= entry.seq),
            entry: entry.clone(),
        });
        Self {
            column,
            item,
            proof,
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
