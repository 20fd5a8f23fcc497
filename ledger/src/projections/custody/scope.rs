//! What is known of each kind of item beside the items themselves, and from that the facts of each scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::CustodyFold;
use crate::domain::custody::{State, Sums};
use crate::domain::event::PlanSealed;
use crate::domain::id::{Actor, Subject, Timestamp};
use crate::domain::observation::Grade;
use crate::domain::verdict::{Evidence, Scope, ScopeFacts, Side, Unreached};

/// What is known of one kind of item.
#[derive(Debug, Default)]
pub(super) struct OfKind {
    pub(super) looked_at: bool,
    /// Items that the seals count and the log does not hold.
    pub(super) missing: u64,
    /// Items that the log holds and no seal counts.
    pub(super) extra: u64,
    /// Entries about its items that could not be read.
    pub(super) unreadable: u64,
    pub(super) newer_types: u64,
    pub(super) plans_not_as_sealed: u64,
    pub(super) sealed_at: Option<Timestamp>,
    pub(super) v2_observed_at: Option<DateTime<Utc>>,
    pub(super) places: BTreeMap<String, Place>,
    /// Where items of the kind were found.
    pub(super) found_at: BTreeSet<Arc<str>>,
    /// Users who had given access and whom the last sealed inventory that looked for them could not reach.
    pub(super) unreached: BTreeMap<Subject, Unreached>,
    /// What the retired system wrote after the deletions, by place and id, until a sealed plan names it.
    pub(super) late: BTreeMap<(String, String), Evidence>,
}

/// One complete look at a place.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) by: Actor,
    pub(super) grade: Grade,
}

/// A place that holds items.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) observed: Option<Look>,
    pub(super) changed_at: Option<Timestamp>,
}

/// What the facts of a scope are made of, one kind after the other.
#[derive(Default)]
struct Part {
    sealed: Option<u64>,
    sums: Sums,
}

impl CustodyFold {
    /// The facts of each scope that was looked at, as the verdict takes them.
    pub fn facts(&self) -> BTreeMap<Scope, ScopeFacts> {
        let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
        for (kind, of) in &self.kinds {
            let sealed = of.sealed_at.map(|_| of.missing);
            let mut sums = Sums::new();
            sums.add(State::Unaccounted, of.missing);
            sums.add(State::LateWrite, of.late.len() as u64);
            parts.insert(kind, Part { sealed, sums });
        }
        for subject in self.subjects() {
            let part = parts.entry(subject.kind()).or_default();
            let state = self.state(subject).unwrap_or(State::Unaccounted);
            part.sums.add(state, 1);
            if self.inventory.contains(subject) {
                part.sealed = part.sealed.map(|sealed| sealed + 1);
            }
        }
        for (line, disposition) in self.dry_runs.values().flat_map(|run| &run.found) {
            // An interrupted inventory: shown as far as it came.
            let part = parts.get_mut(line.subject.kind());
            if let Some(part) = part.filter(|part| part.sealed.is_none()) {
                part.sums.add(State::of_disposition(*disposition), 1);
            }
        }
        let mut facts: BTreeMap<Scope, ScopeFacts> = BTreeMap::new();
        for (kind, part) in parts {
            let nothing = OfKind::default();
            let of = self.kinds.get(kind).unwrap_or(&nothing);
            if !of.looked_at && part.sums.total() == 0 {
                continue;
            }
            let sealed = part.sealed.map(|sealed| sealed.saturating_sub(of.extra));
            let scope = Scope::of_kind(kind);
            let facts = facts.entry(scope).or_insert_with(|| ScopeFacts {
                sealed: Some(0),
                unreadable_entries: self.unreadable_plans,
                ..ScopeFacts::default()
            });
            facts.sealed = facts.sealed.zip(sealed).map(|(one, other)| one + other);
            facts.sums.merge(&part.sums);
            facts.unreadable_entries += of.unreadable + of.newer_types;
            facts.plans_not_as_sealed += of.plans_not_as_sealed;
            facts.unreached.extend(of.unreached.values().cloned());
            facts.sides.extend(self.sides(kind, of));
        }
        facts
    }

    fn sides(&self, kind: &str, of: &OfKind) -> Vec<Side> {
        // A look whose run does not say what it is about speaks for the items that were found there.
        let unnamed = self.kinds.get("").map(|unnamed| &unnamed.places);
        let unnamed = unnamed.into_iter().flatten();
        let unnamed = unnamed.filter(|(place, _)| of.found_at.contains(place.as_str()));
        let mut places: BTreeMap<&str, Place> = BTreeMap::new();
        let known = of.places.iter();
        for (name, place) in known.chain(unnamed) {
            let all = places.entry(name).or_default();
            all.changed_at = all.changed_at.max(place.changed_at);
            let newest = |look: &Look| all.observed.as_ref().is_none_or(|known| known.at < look.at);
            if let Some(look) = place.observed.clone().filter(newest) {
                all.observed = Some(look);
            }
        }
        // Of the places that we changed, the one looked at longest ago speaks for all; without any, of all places. Each is
        // held against our own changes to it alone.
        let any_changed = places.values().any(|place| place.changed_at.is_some());
        let speaking = places.values();
        let speaking = speaking.filter(|place| !any_changed || place.changed_at.is_some());
        let looks = speaking.map(|place| place.observed.as_ref());
        let oldest = looks.min_by_key(|look| look.map(|look| look.at)).flatten();
        let seen_at = |place: &Place| place.observed.as_ref().map(|look| look.at);
        let stale = places
            .values()
            .filter(|place| place.changed_at.is_some() && seen_at(place) < place.changed_at);
        let stale_before = stale.filter_map(|place| place.changed_at).max();
        let side = |name: &str, observed_at| Side {
            name: name.to_owned(),
            observed_at,
            ..Side::default()
        };
        let outside = |name: &str| Side {
            observed_by: oldest.map(|look| look.by.clone()),
            grade: oldest.map(|look| look.grade),
            stale_before: stale_before.map(Timestamp::instant),
            ..side(name, oldest.map(|look| look.at.instant()))
        };
        match Scope::of_kind(kind) {
            // What v1 and v2 know of them was read apart from where they lie.
            Scope::Calendar => vec![
                side("v1", of.sealed_at.map(Timestamp::instant)),
                side("v2", of.v2_observed_at),
                outside("google"),
            ],
            _ => vec![outside(kind)],
        }
    }
}

/// When the new system was observed for a plan: its oldest export, by the export's own time. `None`: there was none.
pub(super) fn v2_observed_at(sealed: &PlanSealed, recorded_at: Timestamp) -> Option<DateTime<Utc>> {
    let exports = || {
        sealed
            .header
            .iter()
            .filter(|(name, _)| name.starts_with("v2_export"))
    };
    let taken = exports().filter(|(name, _)| name.ends_with("_taken_at"));
    let taken = taken.filter_map(|(_, time)| Timestamp::parse_lenient(time).ok());
    exports().next()?;
    Some(taken.min().unwrap_or(recorded_at).instant())
}
