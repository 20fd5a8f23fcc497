//! What a run needs before it may begin anything: an approval by somebody else, its time, and fresh knowledge.

use chrono::{DateTime, Utc};
use ledger::domain::id::{Actor, Timestamp};
use ledger::projections::plan::{Approval, SealedPlan};

use super::EngineError;
use super::step::nothing_new;
use crate::executors::Freshness;

/// A cleanup comes no earlier than this after going live.
const GATE: chrono::Duration = chrono::Duration::hours(24);

/// Member of a plan's header: when v2 went live, or `unknown`.
pub(crate) const GO_LIVE: &str = "go_live";
/// Of this gate's override, in the entry.
pub(super) const GATE_NAME: &str = "go_live_plus_24h";

/// What is asked before anything is begun.
pub(super) struct Permission<'a> {
    pub(super) plan: &'a SealedPlan,
    pub(super) runner: &'a Actor,
    /// When v2 went live, as the run is told.
    pub(super) go_live: Option<DateTime<Utc>>,
    pub(super) override_reason: Option<&'a str>,
    pub(super) fresh: Option<&'a Freshness>,
}

impl Permission<'_> {
    /// The approval that the run goes by. A lapsed one begins nothing, but what was begun under it is still settled.
    pub(super) fn approval(&self, now: Timestamp) -> Result<Approval, EngineError> {
        let independent = |approval: &&Approval| {
            approval.is_independent_of(&self.plan.makers)
                && !approval.person.is_same_as(self.runner)
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
        match gate(self.plan, self.go_live, now.instant()) {
            Some(why) if self.override_reason.is_none() => Err(too_early(&why)),
            _ => Ok(()),
        }
    }
}

pub(super) fn too_early(why: &str) -> EngineError {
    EngineError::Refused(format!(
        "{why}, or run it all the same with --override REASON, which is recorded"
    ))
}

pub(super) fn not_approved(plan: &SealedPlan, actor: &Actor) -> EngineError {
    let short = &plan.hash.to_string()[..16];
    let own = plan
        .approvals
        .iter()
        .any(|approval| approval.person.is_same_as(actor));
    EngineError::Refused(if own {
        format!("plan {short} was approved by {actor}, who may not run it too: four eyes")
    } else {
        format!(
            "plan {short} is not approved: somebody else runs `ledger approve {short} --as NAME`"
        )
    })
}

/// When v2 went live, as it was approved: part of what the plan's hash is of.
pub(super) fn planned_go_live(plan: &SealedPlan) -> Option<DateTime<Utc>> {
    let planned = plan.sealed.header.get(GO_LIVE)?;
    let planned = DateTime::parse_from_rfc3339(planned).ok()?;
    Some(planned.with_timezone(&Utc))
}

/// `None` where the time has come; else why not, and what to do.
pub(super) fn gate(
    plan: &SealedPlan,
    told: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<String> {
    opens(planned_go_live(plan), told, now).err()
}

/// The time that was approved counts, where the plan has one. A later one makes it later still; an earlier one would open the gate by what
/// nobody has approved.
fn opens(
    planned: Option<DateTime<Utc>>,
    told: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), String> {
    if let (Some(planned), Some(told)) = (planned, told)
        && told < planned
    {
        return Err(format!(
            "the plan was made with --go-live {}, and {} is earlier; give the plan's own, or make a new plan",
            planned.to_rfc3339(),
            told.to_rfc3339()
        ));
    }
    let Some(live) = told.or(planned) else {
        return Err("when v2 went live is not known (--go-live)".to_owned());
    };
    let opens = live
        .checked_add_signed(GATE)
        .unwrap_or(DateTime::<Utc>::MAX_UTC);
    if now < opens {
        let opens = opens.to_rfc3339();
        return Err(format!("it is before go-live + 24 h ({opens}); wait"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_a_day_after_the_time_that_was_approved() {
        let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        let planned = at("2026-03-01T09:00:00Z");
        let earlier = at("2020-01-01T00:00:00Z");
        let later = at("2026-03-01T10:00:00Z");
        let (shut, open) = (at("2026-03-02T08:59:59Z"), at("2026-03-02T09:00:00Z"));
        let why = |planned, told, now| opens(planned, told, now).unwrap_err();
        assert_eq!(opens(Some(planned), Some(planned), open), Ok(()));
        assert!(why(Some(planned), Some(planned), shut).contains("before go-live + 24 h"));
        assert!(why(Some(planned), Some(later), open).contains("before go-live + 24 h"));
        assert_eq!(
            opens(Some(planned), Some(later), at("2026-03-02T10:00:00Z")),
            Ok(())
        );
        assert!(why(Some(planned), Some(earlier), open).contains("is earlier"));
        assert_eq!(opens(Some(planned), None, open), Ok(()));
        assert!(why(Some(planned), None, shut).contains("before go-live + 24 h"));
        assert_eq!(opens(None, Some(planned), open), Ok(()));
        assert!(why(None, None, open).contains("not known"));
        let far = Some(DateTime::<Utc>::MAX_UTC);
        assert!(why(Some(planned), far, open).contains("before go-live + 24 h"));
    }
}
