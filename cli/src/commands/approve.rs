//! `ledger approve`: a person answers for a plan that somebody else made.

use std::collections::{BTreeMap, BTreeSet};

use cleanup_worker::engine::canary;
use ledger::domain::id::Timestamp;
use ledger::domain::identify::Disposition;
use ledger::domain::review::Decision;
use ledger::projections::approve::{ApproveError, Approved, approve};
use ledger::projections::erasure::{self, ErasureError};
use ledger::projections::plan::{self, PlanError, SealedPlan};
use ledger::store::Appended;
use serde::Serialize;

use super::Common;
use super::cleanup::engine_failure;
use crate::args::Approve;
use crate::exit::{Exit, Failure};
use crate::output;

/// Uncovered deadlines whose dates are listed; the count is always said.
const DATES_MAX: usize = 20;

pub(crate) async fn run(common: &Common<'_>, args: &Approve) -> Result<Exit, Failure> {
    let person = common.actor()?;
    let recorded_at = match &args.recorded_at {
        Some(text) => Some(Timestamp::parse_lenient(text).map_err(Failure::usage)?),
        None => None,
    };
    let session = common.open().await?;
    let hash = match plan::find(&session.store, &args.plan).await {
        Err(error @ (PlanError::NoSuchPlan(_) | PlanError::Name)) => {
            return match erasure::find(&session.store, &args.plan).await {
                Ok(request) => super::erase::approve(common, session, &request, &person).await,
                Err(ErasureError::NotFound { .. }) => Err(plan_failure(error)),
                Err(other) => Err(super::erase::failure(other)),
            };
        }
        found => found.map_err(plan_failure)?,
    };
    if args.canary {
        let released = canary::release(&session.store, hash, &person).await;
        session.close().await;
        return released_after_canary(common, &released.map_err(engine_failure)?);
    }
    let sealed = plan::load(&session.store, hash)
        .await
        .map_err(plan_failure)?;
    let shown = Shown::of(&sealed).map_err(plan_failure)?;
    if !common.json {
        shown.print()?;
    }
    let approved = approve(&session.store, &sealed, &person, recorded_at).await;
    session.close().await;
    let approved = approved.map_err(approve_failure)?;
    if common.json {
        output::json(&Answer::of(shown, &approved))?;
    } else {
        let approval = &approved.approval;
        let already = if approved.replayed { "already " } else { "" };
        output::line(format_args!(
            "{already}approved by {} ({}) until {}",
            approval.person, approval.assurance, approval.expires_at
        ))?;
        output::line(format_args!("entry {}  {}", approval.seq, approval.hash))?;
    }
    Ok(Exit::Yes)
}

/// The rest of a plan may begin.
fn released_after_canary(common: &Common<'_>, released: &Appended) -> Result<Exit, Failure> {
    let entry = &released.entry;
    if common.json {
        output::json(&serde_json::json!({
            "released_by": entry.actor,
            "seq": entry.seq,
            "hash": released.hash,
        }))?;
    } else {
        output::line(format_args!(
            "{} lets the rest begin: run the same plan again",
            entry.actor
        ))?;
        output::line(format_args!("entry {}  {}", entry.seq, released.hash))?;
    }
    Ok(Exit::Yes)
}

/// What the person is shown before answering for it.
#[derive(Serialize)]
struct Shown {
    plan: String,
    subject: String,
    sealed_seq: u64,
    sealed_at: String,
    made_by: Vec<String>,
    /// The plan that it was made of by decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    /// Decisions in it, by who took them and what was decided.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    decided: BTreeMap<String, BTreeMap<Decision, u64>>,
    items: u64,
    /// Items by class and disposition.
    classes: BTreeMap<String, BTreeMap<Disposition, u64>>,
    dispositions: BTreeMap<Disposition, u64>,
    users: BTreeMap<String, u64>,
    covered: u64,
    uncovered: u64,
    uncovered_dates: Vec<String>,
    incumbent_would_delete: u64,
    incumbent_not_ours: u64,
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    shown: Shown,
    approved_by: String,
    assurance: String,
    expires_at: String,
    seq: u64,
    hash: String,
    replayed: bool,
}

impl Answer {
    fn of(shown: Shown, approved: &Approved) -> Self {
        let approval = &approved.approval;
        Self {
            shown,
            approved_by: approval.person.to_string(),
            assurance: approval.assurance.clone(),
            expires_at: approval.expires_at.to_string(),
            seq: approval.seq,
            hash: approval.hash.to_string(),
            replayed: approved.replayed,
        }
    }
}

impl Shown {
    /// Counted from the items themselves, which give the hash, and not from what the seal says of them.
    fn of(plan: &SealedPlan) -> Result<Self, PlanError> {
        let mut classes: BTreeMap<String, BTreeMap<Disposition, u64>> = BTreeMap::new();
        let mut dispositions = BTreeMap::new();
        let (mut covered, mut uncovered) = (0, 0);
        let mut dates = BTreeSet::new();
        for item in plan.items.iter() {
            let item = item?;
            let class = classes.entry(item.class.clone()).or_default();
            *class.entry(item.disposition).or_default() += 1;
            *dispositions.entry(item.disposition).or_default() += 1;
            match item
                .covered
                .filter(|_| item.disposition == Disposition::Delete)
            {
                Some(true) => covered += 1,
                Some(false) => {
                    uncovered += 1;
                    dates.extend(item.date.clone());
                }
                None => {}
            }
        }
        let mut decided: BTreeMap<String, BTreeMap<Decision, u64>> = BTreeMap::new();
        for decision in &plan.decisions {
            let by = decided.entry(decision.by.to_string()).or_default();
            *by.entry(decision.decision).or_default() += 1;
        }
        Ok(Self {
            plan: plan.hash.to_string(),
            subject: plan.subject.to_string(),
            sealed_seq: plan.entry.seq,
            sealed_at: plan.entry.recorded_at.to_string(),
            made_by: plan.makers.iter().map(ToString::to_string).collect(),
            base: plan.below.first().map(ToString::to_string),
            decided,
            items: plan.items.count(),
            classes,
            dispositions,
            users: plan.sealed.users.clone(),
            covered,
            uncovered,
            uncovered_dates: dates.into_iter().take(DATES_MAX).collect(),
            incumbent_would_delete: plan.sealed.incumbent_would_delete,
            incumbent_not_ours: plan.sealed.incumbent_not_ours,
        })
    }

    fn print(&self) -> Result<(), Failure> {
        for line in self.lines() {
            output::line(line)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("plan {}", self.plan),
            format!(
                "made by {}, sealed at {} as entry {}",
                self.made_by.join(", "),
                self.sealed_at,
                self.sealed_seq
            ),
        ];
        if let Some(base) = &self.base {
            lines.push(format!("made of plan {base} by decisions"));
        }
        for (by, counts) in &self.decided {
            let counts = counts.iter();
            let counts: Vec<String> = counts
                .map(|(decision, count)| format!("{count} to {}", decision.name()))
                .collect();
            lines.push(format!("decided by {by}: {}", counts.join(", ")));
        }
        lines.push(String::new());
        lines.push(row("", |disposition| disposition.name().to_owned()));
        let count = |counts: &BTreeMap<Disposition, u64>, disposition| {
            counts
                .get(&disposition)
                .map_or("-".to_owned(), ToString::to_string)
        };
        for (class, counts) in &self.classes {
            lines.push(row(class, |disposition| count(counts, disposition)));
        }
        lines.push(row("all", |disposition| {
            count(&self.dispositions, disposition)
        }));
        lines.push(String::new());
        let users: Vec<String> = self
            .users
            .iter()
            .map(|(access, count)| format!("{count} {access}"))
            .collect();
        if !users.is_empty() {
            lines.push(format!("users: {}", users.join(", ")));
        }
        let dates = match self.uncovered_dates.len() {
            0 => String::new(),
            DATES_MAX => format!(" (first {DATES_MAX}: {})", self.uncovered_dates.join(" ")),
            _ => format!(" ({})", self.uncovered_dates.join(" ")),
        };
        lines.push(format!(
            "future deadlines to be deleted: {} covered by a live event of the new system, {} uncovered{dates}",
            self.covered, self.uncovered
        ));
        lines.push(format!(
            "the search by text alone would have deleted {}, of which {} are not the retired system's",
            self.incumbent_would_delete, self.incumbent_not_ours
        ));
        lines
    }
}

fn row(name: &str, cell: impl Fn(Disposition) -> String) -> String {
    let cells = Disposition::ALL.map(|disposition| format!("{:>14}", cell(disposition)));
    format!("{name:<14}{}", cells.concat())
}

/// Gives each way in which a plan cannot be had its status.
pub(crate) fn plan_failure(error: PlanError) -> Failure {
    match error {
        PlanError::Read(source) => super::read_failure(source),
        PlanError::Name | PlanError::Ambiguous { .. } => {
            Failure::new(Exit::Usage, error).hint("`ledger log --type plan.sealed` lists the plans")
        }
        PlanError::NoSuchPlan(_) => {
            Failure::new(Exit::No, error).hint("make one with `ledger cleanup calendar --dry-run`")
        }
        PlanError::Unreadable { .. } => Failure::new(Exit::Unknown, error)
            .hint("nothing was recorded; LEDGER_KEK or the key file of this ledger is needed"),
        PlanError::Items(_) => Failure::new(Exit::Environment, error)
            .hint("nothing was recorded; the folder for temporary files (TMPDIR) is full, or cannot be written"),
        other => Failure::new(Exit::No, other)
            .hint("nothing was recorded; `ledger verify` says whether the log was altered"),
    }
}

pub(super) fn approve_failure(error: ApproveError) -> Failure {
    match error {
        ApproveError::Plan(error) => plan_failure(error),
        ApproveError::NotAPerson(_) => Failure::new(Exit::Usage, error)
            .hint("name yourself with --as NAME or LEDGER_ACTOR=person:NAME"),
        ApproveError::OwnPlan { .. } => Failure::new(Exit::No, error)
            .hint("nothing was recorded; a second person approves it with `--as NAME`"),
        ApproveError::UnknownPerson(_) => Failure::new(Exit::No, error)
            .hint("nothing was recorded; name one of them with --as NAME: `ledger log --type person.added` lists who may act"),
        ApproveError::Persons { .. } => Failure::new(Exit::Unknown, error)
            .hint("nothing was recorded; LEDGER_KEK or the key file of this ledger is needed"),
        other => Failure::new(Exit::Environment, other),
    }
}
