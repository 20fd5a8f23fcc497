//! `ledger review decide`: a person decides about what a plan holds, and a new plan comes of it.

use std::collections::BTreeMap;

use ledger::domain::id::RunId;
use ledger::domain::review::Decision;
use ledger::projections::decide::{DecideError, Sealed, decide};
use ledger::projections::fold::At;
use serde::Serialize;

use super::{Common, folded, item_named, plan_named, short};
use crate::args::ReviewDecide;
use crate::commands::approve::{approve_failure, plan_failure};
use crate::commands::read_failure;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    run: RunId,
    /// The plan that was decided about.
    base: String,
    /// The plan that comes of it.
    plan: String,
    /// Entry of its seal.
    seq: u64,
    hash: String,
    decided: Vec<Line>,
    /// Items of the new plan.
    dispositions: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Line {
    subject: String,
    decision: Decision,
    seq: u64,
    hash: String,
}

impl From<Sealed> for Answer {
    fn from(sealed: Sealed) -> Self {
        let decided = sealed.decisions.into_iter().map(|decided| Line {
            subject: decided.subject.to_string(),
            decision: decided.decision,
            seq: decided.seq,
            hash: decided.hash.to_string(),
        });
        Self {
            run: sealed.run,
            base: sealed.base.to_string(),
            plan: sealed.plan.to_string(),
            seq: sealed.seq,
            hash: sealed.hash.to_string(),
            decided: decided.collect(),
            dispositions: sealed.dispositions,
        }
    }
}

pub(super) async fn run(common: &Common<'_>, args: &ReviewDecide) -> Result<Exit, Failure> {
    let person = common.actor()?;
    let session = common.open().await?;
    let store = &session.store;
    let folded = folded(store, At::Head).await?;
    let plan = plan_named(store, args.plan.as_deref(), &folded.deletions).await?;
    let mut subjects = Vec::new();
    for event in &args.events {
        subjects.push(item_named(store, &folded, event).await?);
    }
    drop(folded);
    let decision = args.decision.into();
    let sealed = decide(store, &plan, &subjects, decision, &args.reason, &person).await;
    session.close().await;
    let sealed = sealed.map_err(failure)?;
    if common.json {
        output::json(&Answer::from(sealed))?;
        return Ok(Exit::Yes);
    }
    for decided in &sealed.decisions {
        output::line(format_args!(
            "{}: {} (entry {})",
            decided.decision.name(),
            decided.subject,
            decided.seq
        ))?;
    }
    let counts: Vec<String> = sealed
        .dispositions
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    output::line(format_args!("plan {}", sealed.plan))?;
    output::line(format_args!(
        "made of plan {} by {} decision(s), sealed as entry {}: {}",
        short(sealed.base),
        sealed.decisions.len(),
        sealed.seq,
        counts.join(", ")
    ))?;
    output::line(format_args!(
        "next: somebody who neither made it nor decided approves it: ledger approve {}",
        short(sealed.plan)
    ))?;
    Ok(Exit::Yes)
}

fn failure(error: DecideError) -> Failure {
    let nothing = "nothing was recorded";
    match error {
        DecideError::Person(error) => approve_failure(error),
        DecideError::Read(error) => read_failure(error),
        DecideError::OwnPlan { .. } => Failure::new(Exit::No, error).hint(format!(
            "{nothing}; a second person decides with `--as NAME`"
        )),
        DecideError::Superseded { newest, .. } => {
            let hint = format!("{nothing}; decide with --plan {}", short(newest));
            Failure::new(Exit::No, error).hint(hint)
        }
        DecideError::FoundAgain { plan, .. } => {
            let hint = format!("{nothing}; decide with --plan {}", short(plan));
            Failure::new(Exit::No, error).hint(hint)
        }
        DecideError::Changed(_) => Failure::new(Exit::No, error).hint(format!(
            "{nothing}; it can be kept, or a new dry run shows it as it is now"
        )),
        DecideError::UnderWay(_) => Failure::new(Exit::No, error).hint(format!(
            "{nothing}; stop the run, or wait for its end, and decide again"
        )),
        DecideError::Plan(error) => plan_failure(error),
        DecideError::NotHeld { .. } | DecideError::NotInPlan { .. } => {
            Failure::new(Exit::No, error).hint(format!(
                "{nothing}; `ledger review list --state held` lists what can be decided about"
            ))
        }
        DecideError::NoCopy(_) | DecideError::NotRead(_) => {
            Failure::new(Exit::No, error).hint(format!("{nothing}; it can be kept"))
        }
        DecideError::Nothing | DecideError::Reason => {
            Failure::new(Exit::Usage, error).hint(nothing)
        }
        DecideError::Unreadable { .. } => Failure::new(Exit::Unknown, error)
            .hint("LEDGER_KEK or the key file of this ledger is needed"),
        DecideError::Raced(_) => Failure::new(Exit::No, error)
            .hint("`ledger review list` shows the plan that came of it; decide again"),
        DecideError::Append(_) => Failure::new(Exit::Environment, error)
            .hint("decisions without a sealed plan count for nothing; run the same command again"),
        other => Failure::new(Exit::Environment, other),
    }
}
