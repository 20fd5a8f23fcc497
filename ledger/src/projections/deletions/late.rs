//! What the retired system wrote in a place after the plan was made: no item of a plan yet, and in the review all the
//! same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{DeletionsFold, ItemLine, Part, Reference};
use crate::domain::custody::State;
use crate::domain::event::LateWritten;
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, RunId, Subject};
use crate::projections::custody::{CustodyFold, late_subject};
use crate::projections::fold::Decoded;

/// One of them, as a person asks about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LateLine {
    /// Where it lies and what it is called; its subject is made up, since no dry run has found it.
    #[serde(flatten)]
    pub item: ItemLine,
    /// When the retired system wrote it, by the outside system.
    pub written_at: String,
    /// The run that had deleted there, or was about to.
    pub after: RunId,
    /// The run that saw it.
    pub seen_by: Option<RunId>,
    /// What that run was: `observe`, or the cleanup itself.
    pub verb: Option<String>,
    /// Who ran it.
    pub by: Actor,
    /// The entry that tells of it.
    pub entry: Reference,
    /// No sealed plan names it yet, so it counts as lost.
    pub counts: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Late {
    /// The run that had deleted.
    after: RunId,
    /// The run that saw it.
    seen_by: Option<RunId>,
    written_at: String,
    by: Actor,
    entry: Reference,
}

impl DeletionsFold {
    pub(super) fn late_written(&mut self, decoded: &Decoded, late: &LateWritten) {
        for item in &late.items {
            let one = Late {
                after: late.run,
                seen_by: decoded.entry.run,
                written_at: item.written_at.clone(),
                by: decoded.entry.actor.clone(),
                entry: Reference::to(decoded),
            };
            let key = (late.place.clone(), item.item.clone());
            self.late.insert(key, one);
        }
    }

    /// Those of a part, which `custody` counts.
    pub(super) fn late_lines(&self, custody: &CustodyFold, part: &Part) -> Vec<ItemLine> {
        let mut users_at: BTreeMap<&str, BTreeSet<Subject>> = BTreeMap::new();
        let mut lines = Vec::new();
        for (_, key, _) in custody.late() {
            let Some(late) = self.late.get(key) else {
                continue;
            };
            let (place, _) = key;
            let users = users_at
                .entry(place)
                .or_insert_with(|| self.users_at(place));
            if !late.is_part(self, part, users) {
                continue;
            }
            lines.push(self.late_line(key, late, users));
        }
        lines
    }

    fn late_line(
        &self,
        key: &(String, String),
        late: &Late,
        users: &BTreeSet<Subject>,
    ) -> ItemLine {
        let (place, item) = key;
        ItemLine {
            calendar: Some(place.clone()),
            event_id: Some(item.clone()),
            users: users.iter().map(|user| self.user_line(user)).collect(),
            reason: Some(format!(
                "the retired system wrote it at {}, after the plan was made",
                late.written_at
            )),
            found: Some(late.entry.clone()),
            ..ItemLine::unknown(late_subject(key), State::LateWrite)
        }
    }

    /// What was written late and is named so: by its id, by the name that the review gives it, or by the number of the entry that tells of it.
    pub fn late_named(&self, text: &str, custody: &CustodyFold) -> Vec<LateLine> {
        let counted: BTreeSet<&(String, String)> = custody.late().map(|(_, key, _)| key).collect();
        let seq = text.parse::<u64>().ok();
        let named = self.late.iter().filter(|(key, late)| {
            key.1 == text || late_subject(key) == text || Some(late.entry.seq) == seq
        });
        let line = |(key, late): (&(String, String), &Late)| {
            let run = late.seen_by.and_then(|run| self.run(run));
            LateLine {
                item: self.late_line(key, late, &self.users_at(&key.0)),
                written_at: late.written_at.clone(),
                after: late.after,
                seen_by: late.seen_by,
                verb: run.map(|run| run.verb.clone()),
                by: late.by.clone(),
                entry: late.entry.clone(),
                counts: counted.contains(key),
            }
        };
        named.map(line).collect()
    }

    /// Those that were seen of what a run had deleted, as what is signed about that run names them.
    pub(super) fn late_of(&self, run: RunId, custody: &CustodyFold) -> Vec<(String, Hash)> {
        let late = custody
            .late()
            .filter_map(|(_, key, _)| Some((key, self.late.get(key)?)));
        let late = late.filter(|(_, late)| late.is_of(run));
        late.map(|(key, late)| (late_subject(key), late.entry.hash))
            .collect()
    }

    /// The users through whom anything was found in a place.
    fn users_at(&self, place: &str) -> BTreeSet<Subject> {
        let finds = self.items.values().filter_map(|item| self.told(item, None));
        let here = finds.filter(|(_, found)| found.place == place);
        here.flat_map(|(_, found)| found.users.clone()).collect()
    }
}

impl Late {
    fn is_of(&self, run: RunId) -> bool {
        self.after == run || self.seen_by == Some(run)
    }

    fn is_part(&self, fold: &DeletionsFold, part: &Part, users: &BTreeSet<Subject>) -> bool {
        let is_of_plan = |asked| {
            let executed = fold.plan_of(self.after);
            executed.is_some_and(|plan| {
                fold.with_those_below(plan).contains(&asked)
                    || fold.with_those_below(asked).contains(&plan)
            })
        };
        part.run.is_none_or(|run| self.is_of(run))
            && part.plan.is_none_or(is_of_plan)
            && part
                .users
                .as_ref()
                .is_none_or(|asked| !asked.is_disjoint(users))
    }
}
