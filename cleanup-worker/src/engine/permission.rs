//! What a run needs before it may begin anything: an approval by somebody else, its time, and fresh knowledge.

use chrono::{DateTime, Utc};
use ledger::domain::id::{Actor, Timestamp};
use ledger::projections::plan::{Approval, SealedPlan};

use super::EngineError;
use super::step::nothing_new;
use crate::executors::Freshness;

/// A cleanup comes no earlier than this after going live.
const GATE: chrono::Duration = chrono::Duration::hours(24);

/// What is asked before anything is begun.
pub(super) struct Permission<'a> {
    pub(super) plan: &'a SealedPlan,
    pub(super) runner: &'a Actor,
    pub(super) go_live: Option<DateTime<Utc>>,
    pub(super) override_reason: Option<&'a str>,
    pub(super) fresh: Option<&'a Freshness>,
}

impl Permission<'_> {
    /// The approval that the run goes by. A lapsed one begins nothing, but what was begun under it is still settled.
    pub(super) fn approval(&self, now: Timestamp) -> Result<Approval, EngineError> {
        let independent = |approval: &&Approval| {
            approval.is_independent_of(&self.plan.makers) && approval.person != *self.runner
        };
        let standing = self.plan.approval_at(now, Some(self.runner));
        let lapsed = || self.plan.approvals.iter().rev().find(independent);
        standing
            .or_else(lapsed)
            .cloned()
            .ok_or_else(|| not_approved(self.plan, self.runner))
    }

    /// Refuses where nothing may be begun.
    pub(super) fn begin(&self, now: Timestamp) -> Result<(), EngineError> {
        let approval = self.approval(now)?;
        if let Some(reason) = nothing_new(&approval, self.fresh, now) {
            return Err(EngineError::Refused(reason));
        }
        match gate(self.go_live, now.instant()) {
            Some(why) if self.override_reason.is_none() => Err(too_early(&why)),
            _ => Ok(()),
        }
    }
}

pub(super) fn too_early(why: &str) -> EngineError {
    EngineError::Refused(format!(
        "{why}; wait, or run it all the same with --override REASON, which is recorded"
    ))
}

pub(super) fn not_approved(plan: &SealedPlan, actor: &Actor) -> EngineError {
    let short = &plan.hash.to_string()[..16];
    let own = plan
        .approvals
        .iter()
        .any(|approval| approval.person == *actor);
    EngineError::Refused(if own {
        format!("plan {short} was approved by {actor}, who may not run it too: four eyes")
    } else {
        format!(
            "plan {short} is not approved: somebody else runs `ledger approve {short} --as NAME`"
        )
    })
}

/// `None` where the time has come; else why not.
pub(super) fn gate(go_live: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<String> {
    match go_live {
        None => Some("when v2 went live is not known (--go-live)".to_owned()),
        Some(at) if now < at + GATE => Some(format!(
            "it is before go-live + 24 h ({})",
            (at + GATE).to_rfc3339()
        )),
        Some(_) => None,
    }
}
