//! What the retired system wrote in a place after the plan was made: no item of a plan yet, and in the review all the
//! same.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeletionsFold, ItemLine, Part, Reference};
use crate::domain::custody::State;
use crate::domain::event::LateWritten;
use crate::domain::hash::Hash;
use crate::domain::id::{RunId, Subject};
use crate::projections::custody::{CustodyFold, late_subject};
use crate::projections::fold::Decoded;

/// One of them.
#[derive(Debug)]
pub(super) struct Late {
    /// The run that had deleted.
    after: RunId,
    /// The run that saw it.
    seen_by: Option<RunId>,
    written_at: String,
    entry: Reference,
}

impl DeletionsFold {
    pub(super) fn late_written(&mut self, decoded: &Decoded, late: &LateWritten) {
        for item in &late.items {
            let one = Late {
                after: late.run,
                seen_by: decoded.entry.run,
                written_at: item.written_at.clone(),
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
            let (place, item) = key;
            let users = users_at
                .entry(place)
                .or_insert_with(|| self.users_at(place));
            if !late.is_part(self, part, users) {
                continue;
            }
            lines.push(ItemLine {
                calendar: Some(place.clone()),
                event_id: Some(item.clone()),
                users: users.iter().map(|user| self.user_line(user)).collect(),
                reason: Some(format!(
                    "the retired system wrote it at {}, after the plan was made",
                    late.written_at
                )),
                found: Some(late.entry.clone()),
                ..ItemLine::unknown(late_subject(key), State::LateWrite)
            });
        }
        lines
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
