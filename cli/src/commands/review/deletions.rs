//! `ledger review deletions`: the compliance review, item by item.

use ledger::domain::custody::State;
use ledger::domain::id::{Actor, RunId, Timestamp};
use ledger::projections::deletions::{
    DeletionsFold, ItemLine, OutcomeLine, Part, PlanLine, RestoredLine, Review, RunLine,
    SignOffLine,
};
use ledger::projections::fold::{At, Pass};
use serde::Serialize;

use super::{Common, Folded, log, short, state_words, user_words};
use crate::args::ReviewDeletions;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    as_of: AsOf,
    #[serde(flatten)]
    review: Review,
    /// Entries that are damaged or missing: what they said is not in the review.
    damaged: u64,
    /// Entries of types that this program does not know, by type.
    unknown_types: std::collections::BTreeMap<String, u64>,
    /// `simulated`, where the times are the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
}

#[derive(Serialize)]
struct AsOf {
    seq: u64,
    recorded_at: Timestamp,
}

pub(super) async fn run(common: &Common<'_>, args: &ReviewDeletions) -> Result<Exit, Failure> {
    let at = match &args.as_of {
        Some(text) => log::as_of(text)?,
        None => At::Head,
    };
    let run = match &args.run {
        Some(text) => Some(text.parse::<RunId>().map_err(Failure::usage)?),
        None => None,
    };
    let session = common.open().await?;
    let folded = super::folded(&session.store, at).await;
    let simulated = session.store.row().simulated_clock;
    session.close().await;
    let Folded {
        custody,
        deletions,
        pass,
    } = folded?;
    let part = part(&deletions, run, args.user.as_deref())?;
    let answer = answer(deletions.review(&custody, &part), pass, simulated)?;
    let exit = if answer.review.unreadable == 0 && answer.damaged == 0 {
        Exit::Yes
    } else {
        Exit::Unknown
    };
    if common.json {
        output::json(&answer)?;
    } else {
        for text in lines(&answer) {
            output::line(text)?;
        }
    }
    Ok(exit)
}

/// Prints a review as text.
pub(super) fn print(review: Review, pass: Pass, simulated: bool) -> Result<(), Failure> {
    for text in lines(&answer(review, pass, simulated)?) {
        output::line(text)?;
    }
    Ok(())
}

fn part(
    deletions: &DeletionsFold,
    run: Option<RunId>,
    user: Option<&str>,
) -> Result<Part, Failure> {
    if run.is_some_and(|run| !deletions.knows_run(run)) {
        return Err(super::no_such_run());
    }
    let users = super::users_named(deletions, user)?;
    Ok(Part {
        run,
        users,
        plan: None,
    })
}

fn answer(review: Review, pass: Pass, simulated: bool) -> Result<Answer, Failure> {
    let Some((seq, recorded_at)) = pass.last else {
        return Err(Failure::usage("the ledger had no entry at that point"));
    };
    Ok(Answer {
        as_of: AsOf { seq, recorded_at },
        review,
        damaged: pass.damaged,
        unknown_types: pass.unknown_types,
        clock: simulated.then_some("simulated"),
    })
}

/// The review as text, a line each.
fn lines(answer: &Answer) -> Vec<String> {
    let review = &answer.review;
    let clock = match answer.clock {
        Some(_) => ", by a simulated clock",
        None => "",
    };
    let as_of = &answer.as_of;
    let mut lines = vec![
        "review of deletions".to_owned(),
        format!("as of: entry {}, {}{clock}", as_of.seq, as_of.recorded_at),
    ];
    for plan in &review.plans {
        plan_lines(plan, &mut lines);
    }
    for run in &review.runs {
        lines.push(run_line(run));
        lines.extend(run.signed_off.iter().map(signed_line));
    }
    if !review.unreachable.is_empty() {
        lines.push(String::new());
        lines.push(format!("users not reached ({})", review.unreachable.len()));
        for user in &review.unreachable {
            let access = user.access.as_deref().unwrap_or("unknown");
            let reason = user.reason.as_deref().unwrap_or_default();
            lines.push(format!("  {}: {access}: {reason}", user_words(user)));
        }
    }
    let mut state = None;
    for item in &review.items {
        if state != Some(item.state) {
            state = Some(item.state);
            let count = review.sum.get(item.state);
            lines.push(String::new());
            lines.push(format!("{} ({count})", state_words(item.state)));
        }
        item_lines(item, &mut lines);
    }
    lines.push(String::new());
    lines.push(sum_line(review));
    if review.unreadable > 0 {
        lines.push(format!(
            "not whole: {} entries say nothing (sealed without a key at hand, gone or damaged)",
            review.unreadable
        ));
    }
    if answer.damaged > 0 {
        lines.push(format!(
            "not whole: {} entries are damaged or missing; `ledger verify` names them",
            answer.damaged
        ));
    }
    for (name, count) in &answer.unknown_types {
        lines.push(format!("beside these: {count} entries of type {name}"));
    }
    lines
}

fn plan_lines(plan: &PlanLine, lines: &mut Vec<String>) {
    lines.push(format!(
        "plan {}: {} items, made by {} (entry {})",
        short(plan.plan),
        plan.items,
        plan.made_by,
        plan.sealed.seq
    ));
    if let Some(base) = plan.base {
        lines.push(format!("  made of plan {} by decisions", short(base)));
    }
    lines.push(format!(
        "  the search by text would have deleted {}, of which {} are not the retired system's; uncovered deadlines: {}",
        plan.incumbent_would_delete, plan.incumbent_not_ours, plan.uncovered
    ));
    for approval in &plan.approvals {
        lines.push(format!(
            "  approved by {} ({}) at {} until {} (entry {}, hash {})",
            approval.by,
            approval.assurance,
            approval.entry.recorded_at,
            approval.expires_at,
            approval.entry.seq,
            short(approval.entry.hash)
        ));
    }
    if plan.approvals.is_empty() {
        lines.push("  not approved".to_owned());
    }
}

fn run_line(run: &RunLine) -> String {
    let end = match (&run.finished, &run.status) {
        (Some(finished), Some(status)) => format!("{status}, entry {}", finished.seq),
        _ => "not finished".to_owned(),
    };
    let overrides = match run.overrides.as_slice() {
        [] => String::new(),
        reasons => format!("; before its time: {}", reasons.join("; ")),
    };
    format!(
        "run {}: {} by {}, entry {} at {}; {end}{overrides}",
        run.run, run.verb, run.by, run.started.seq, run.started.recorded_at
    )
}

fn signed_line(signed: &SignOffLine) -> String {
    let changed = if signed.changed_since {
        ", AND CHANGED SINCE"
    } else {
        ""
    };
    let note = signed.note.as_ref().map(|note| format!(": {note}"));
    format!(
        "  signed off by {} ({}) at {}, entry {} hash {}, statement {}{changed}{}",
        signed.by,
        signed.assurance,
        signed.entry.recorded_at,
        signed.entry.seq,
        short(signed.entry.hash),
        short(signed.statement),
        note.unwrap_or_default()
    )
}

fn item_lines(item: &ItemLine, lines: &mut Vec<String>) {
    let users: Vec<String> = item.users.iter().map(user_words).collect();
    let whose = if users.is_empty() {
        "nobody known".to_owned()
    } else {
        users.join(", ")
    };
    let what = item.event_id.as_deref().unwrap_or(&item.subject);
    let date = item.date.as_ref().map(|date| format!(" of {date}"));
    let uncovered = match (item.disposition, item.covered) {
        (Some(_), Some(false)) => " (uncovered)",
        _ => "",
    };
    lines.push(format!(
        "  {whose}: {what}{}{uncovered}",
        date.unwrap_or_default()
    ));
    if let Some(reason) = &item.reason {
        let seq = item.found.as_ref().map_or(0, |found| found.seq);
        let class = item.class.as_ref().map(|class| format!("{class}: "));
        let class = class.unwrap_or_default();
        lines.push(format!("    {class}{reason} (entry {seq})"));
    }
    for decision in &item.decisions {
        let counts = match decision.plan {
            Some(plan) => format!("made plan {}", short(plan)),
            None => "sealed into no plan, so it counts for nothing".to_owned(),
        };
        lines.push(format!(
            "    {} decided to {} it, {counts} (entry {}): {}",
            decision.by,
            decision.decision.name(),
            decision.entry.seq,
            decision.reason
        ));
    }
    if item.state == State::Planned && item.attempts == 0 {
        lines.push("    not begun".to_owned());
    }
    if let Some(backup) = &item.backup {
        let approved = match &item.approved {
            Some(approval) => format!("approved by {} (entry {})", approval.by, approval.entry.seq),
            None => "NO APPROVAL in the log".to_owned(),
        };
        let stored = if backup.is_true {
            format!("backup in entry {}", backup.entry.seq)
        } else {
            format!("NO TRUE BACKUP in entry {}", backup.entry.seq)
        };
        let attempts = match item.attempts {
            1 => String::new(),
            attempts => format!(", {attempts} attempts"),
        };
        lines.push(format!("    {approved}, {stored}{attempts}"));
    }
    if let Some(erased) = &item.erased {
        let by: Vec<&str> = erased.by.iter().map(Actor::as_str).collect();
        lines.push(format!(
            "    erased on {} by {} ({}), entry {} hash {}",
            erased.entry.recorded_at,
            by.join(", "),
            erased.legal_basis,
            erased.entry.seq,
            short(erased.entry.hash)
        ));
    }
    lines.extend(item.outcome.as_ref().map(outcome_line));
    lines.extend(item.undo.as_ref().map(outcome_line));
    if let Some(restored) = &item.restored {
        lines.push(restored_line(restored, item.event_id.as_deref()));
    }
    if item.there_again {
        lines.push("    THERE AGAIN although it was deleted, and not by us".to_owned());
    }
    if let Some(seen) = &item.observed {
        lines.push(format!("    seen {} afterwards", super::super::word(seen)));
    }
}

fn outcome_line(outcome: &OutcomeLine) -> String {
    let status = outcome.status.map(|status| format!(" ({status})"));
    let recovered = if outcome.recovered {
        ", found out afterwards"
    } else {
        ""
    };
    let reason = outcome.reason.as_ref().map(|reason| format!(": {reason}"));
    format!(
        "    {}{}{recovered}{} at {}, entry {} hash {}",
        outcome.what,
        status.unwrap_or_default(),
        reason.unwrap_or_default(),
        outcome.entry.recorded_at,
        outcome.entry.seq,
        short(outcome.entry.hash)
    )
}

fn restored_line(restored: &RestoredLine, before: Option<&str>) -> String {
    let id = if before == Some(&restored.event_id) {
        String::new()
    } else {
        format!(", its id is {} now", restored.event_id)
    };
    let differs = restored.differs.join(", ");
    let read = match (restored.verified, restored.differs.is_empty()) {
        (false, _) => "; NOT READ BACK".to_owned(),
        (true, true) => "; read back".to_owned(),
        (true, false) => format!("; read back, and DIFFERS in {differs}"),
    };
    let lost = match restored.lost.as_slice() {
        [] => String::new(),
        names => format!("; not as before: {}", names.join(", ")),
    };
    format!("    put back by {}{id}{read}{lost}", restored.way)
}

fn sum_line(review: &Review) -> String {
    let states: Vec<String> = review
        .sum
        .iter()
        .map(|(state, count)| format!("{count} {}", super::super::word(&state)))
        .collect();
    if states.is_empty() {
        return "sum: 0 items".to_owned();
    }
    format!("sum: {} = {} items", states.join(" + "), review.total)
}
