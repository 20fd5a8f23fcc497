//! A plan made of another one by decisions: what it says, and whether it may.
//!
//! It names the plan below in its header (`base`) with a digest of the decisions, finds the decided items again, and takes
//! every other line from below. Its hash is over the whole list, so that an approval of it covers every line, and an
//! approval of the plan below covers none of the decisions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::fold::Decoded;
use super::plan::is_person;
use crate::chain::canonical;
use crate::chain::plan::PlanItem;
use crate::domain::event::{ItemDecided, PlanSealed};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, EntryId, Subject, Timestamp};
use crate::domain::identify::Disposition;
use crate::domain::review::Decision;

/// Member of a plan's header: the plan below.
pub const BASE: &str = "base";
/// Member of a plan's header: [`digest`] of the decisions.
pub const DECISIONS: &str = "decisions";

/// A decision as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The item.
    pub subject: Subject,
    /// The plan it was taken about.
    pub plan: Hash,
    /// What was decided.
    pub decision: Decision,
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The entry.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// Its hash, which stands for who, what and why.
    pub hash: Hash,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

impl Decided {
    pub(super) fn new(decoded: &Decoded, taken: &ItemDecided) -> Self {
        let entry = &decoded.entry;
        Self {
            subject: entry.subject.clone(),
            plan: taken.plan,
            decision: taken.decision,
            by: entry.actor.clone(),
            reason: taken.reason.clone(),
            id: entry.id,
            seq: entry.seq,
            hash: decoded.hash,
            recorded_at: entry.recorded_at,
        }
    }
}

/// A plan that says it is made of another one and may not be taken as that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The header's `base` is no hash.
    #[error("its header names no plan below")]
    Base,
    /// Other decisions than the header's digest is of.
    #[error("the decisions in the log give the digest {computed}, and it was sealed with another")]
    Digest {
        /// What the log gives.
        computed: Hash,
    },
    /// An item is found, or decided about, that the plan below does not have.
    #[error("{0} is no item of the plan below")]
    NotBelow(Subject),
    /// An item is found, or decided about, more than once.
    #[error("{0} is in it more than once")]
    Twice(Subject),
    /// A change without a decision, or a decision without the change.
    #[error("{0} is decided about and not found again, or found again and not decided about")]
    Unpaired(Subject),
    /// More than the disposition was changed, or it is not the decision's.
    #[error("{0} is found again otherwise than the decision and the plan below say")]
    Otherwise(Subject),
    /// The decision may not be taken about such an item.
    #[error("{0} is not held by the plan below, so nothing could be decided about it")]
    NotHeld(Subject),
    /// It was taken about another plan.
    #[error("the decision about {0} was taken about another plan")]
    OtherPlan(Subject),
    /// Who held the item back decides about it.
    #[error(
        "{by} may not decide about {subject}: only a person can who did not make the inventory"
    )]
    Decider {
        /// The item.
        subject: Subject,
        /// Who decided.
        by: Actor,
    },
}

/// The plan that this one is made of, if it is made of one.
pub fn base_of(sealed: &PlanSealed) -> Result<Option<Hash>, OverlayError> {
    match sealed.header.get(BASE) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| OverlayError::Base),
    }
}

/// SHA-256 of the canonical JSON array of `[subject, decision, hash of the entry]`, sorted by subject.
///
/// # Panics
/// Never: texts have a canonical form.
pub fn digest<'a>(decisions: impl IntoIterator<Item = &'a Decided>) -> Hash {
    let mut lines: Vec<_> = decisions
        .into_iter()
        .map(|decided| {
            (
                decided.subject.to_string(),
                decided.decision.name(),
                decided.hash.to_string(),
            )
        })
        .collect();
    lines.sort_unstable();
    let array = json!(lines);
    #[expect(clippy::expect_used, reason = "an array of texts holds no number")]
    let bytes = canonical::to_bytes(&array).expect("texts have a canonical form");
    Hash::of(&bytes)
}

/// What a plan made by decisions is held against.
#[derive(Debug)]
pub struct Below<'a> {
    /// The plan below.
    pub plan: Hash,
    /// Its lines.
    pub lines: &'a [PlanItem],
    /// Who made the inventory at the bottom: none of them may decide.
    pub finders: &'a BTreeSet<Actor>,
}

impl Below<'_> {
    /// The whole list: the lines below, with those that were found again in their place.
    ///
    /// # Errors
    /// The first thing that is not as it has to be.
    pub fn overlaid(
        &self,
        sealed: &PlanSealed,
        found: &[PlanItem],
        decisions: &[Decided],
    ) -> Result<Vec<PlanItem>, OverlayError> {
        let computed = digest(decisions);
        if sealed.header.get(DECISIONS) != Some(&computed.to_string()) {
            return Err(OverlayError::Digest { computed });
        }
        let mut decided: BTreeMap<&Subject, &Decided> = BTreeMap::new();
        for decision in decisions {
            if decided.insert(&decision.subject, decision).is_some() {
                return Err(OverlayError::Twice(decision.subject.clone()));
            }
        }
        let mut changed: BTreeMap<&Subject, &PlanItem> = BTreeMap::new();
        for line in found {
            if changed.insert(&line.subject, line).is_some() {
                return Err(OverlayError::Twice(line.subject.clone()));
            }
            if !decided.contains_key(&line.subject) {
                return Err(OverlayError::Unpaired(line.subject.clone()));
            }
        }
        let mut lines = Vec::with_capacity(self.lines.len());
        for line in self.lines {
            let Some(decision) = decided.remove(&line.subject) else {
                lines.push(line.clone());
                continue;
            };
            let again = changed
                .get(&line.subject)
                .ok_or_else(|| OverlayError::Unpaired(line.subject.clone()))?;
            self.check(line, again, decision)?;
            lines.push((*again).clone());
        }
        match decided.into_keys().next() {
            Some(subject) => Err(OverlayError::NotBelow(subject.clone())),
            None => Ok(lines),
        }
    }

    /// The list as far as it can be told where some entries say nothing: what was found again counts where its own decision
    /// bears it out.
    pub fn as_far_as_told(&self, found: &[PlanItem], decisions: &[Decided]) -> Vec<PlanItem> {
        let again: BTreeMap<&Subject, &PlanItem> =
            found.iter().map(|line| (&line.subject, line)).collect();
        let decided: BTreeMap<&Subject, &Decided> = decisions
            .iter()
            .map(|decided| (&decided.subject, decided))
            .collect();
        let overlaid = |line: &PlanItem| {
            let again = *again.get(&line.subject)?;
            let decision = *decided.get(&line.subject)?;
            self.check(line, again, decision).ok()?;
            Some(again.clone())
        };
        let lines = self.lines.iter();
        lines
            .map(|line| overlaid(line).unwrap_or_else(|| line.clone()))
            .collect()
    }

    /// Whether one decision may make this line of that.
    pub fn check(
        &self,
        line: &PlanItem,
        again: &PlanItem,
        decision: &Decided,
    ) -> Result<(), OverlayError> {
        let subject = || line.subject.clone();
        if decision.plan != self.plan {
            return Err(OverlayError::OtherPlan(subject()));
        }
        if !is_person(&decision.by) || decision.by.is_among(self.finders) {
            return Err(OverlayError::Decider {
                subject: subject(),
                by: decision.by.clone(),
            });
        }
        let before = Disposition::ALL
            .into_iter()
            .find(|disposition| disposition.name() == line.disposition);
        if !before.is_some_and(|before| decision.decision.may_follow(before)) {
            return Err(OverlayError::NotHeld(subject()));
        }
        let expected = PlanItem {
            disposition: decision.decision.disposition().name().to_owned(),
            ..line.clone()
        };
        if *again == expected {
            Ok(())
        } else {
            Err(OverlayError::Otherwise(subject()))
        }
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
