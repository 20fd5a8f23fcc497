//! `ledger review explain`: why an item was, or was not, deleted; each statement with the entry that says so.

use cleanup_worker::executors::vocabulary;
use ledger::domain::custody::{Observation, State};
use ledger::domain::event::Evidence;
use ledger::domain::id::{Subject, Timestamp};
use ledger::domain::identify::{Disposition, Named};
use ledger::projections::deletions::{ItemLine, OutcomeLine, Reference};
use ledger::projections::explain::{
    AttemptLine, CONDITION, FindLine, History, HistoryFold, SIGNAL, UndoLine,
};
use ledger::projections::fold;
use serde::Serialize;

use super::{Common, explain_late, folded, item_named, log, read_failure, short, user_words};
use crate::args::ReviewExplain;
use crate::exit::{Exit, Failure};
use crate::output;

/// The answer.
#[derive(Serialize)]
struct Explanation {
    /// As the ledger was at this entry.
    as_of: u64,
    kind: String,
    #[serde(flatten)]
    item: ItemLine,
    /// Why it was, or was not, deleted, in one sentence.
    answer: String,
    /// What was looked at when it was found: last, or for the plan under which it went.
    signals: Vec<Signal>,
    conditions: Vec<Signal>,
    /// All that the log says, in plain words.
    statements: Vec<Statement>,
    history: History,
}

/// Something that was looked at.
#[derive(Serialize)]
struct Signal {
    name: String,
    holds: bool,
    /// What it means, where this program knows the kind of item or the one that found it said so.
    meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The entry that says so.
    seq: u64,
}

/// One statement.
#[derive(Serialize)]
struct Statement {
    /// What it is about: `class`, `plan`, `decision`, `deletion`, `undo`, `held`, `afterwards`, `erasure`, `silence`.
    about: &'static str,
    text: String,
    /// The entry that says so, and its hash.
    seq: u64,
    hash: String,
}

pub(super) async fn run(common: &Common<'_>, args: &ReviewExplain) -> Result<Exit, Failure> {
    let at = match &args.as_of {
        Some(text) => log::as_of(text)?,
        None => fold::At::Head,
    };
    let session = common.open().await?;
    let store = &session.store;
    let folded = folded(store, at).await?;
    if let Some(late) = explain_late::named(&folded, &args.event)? {
        session.close().await;
        return explain_late::tell(common, &folded, late);
    }
    let subject = item_named(store, &folded, &args.event).await?;
    let (as_of, _) = folded.pass.last.unwrap_or((0, Timestamp::EPOCH));
    let mut history = HistoryFold::of(subject.clone(), folded.custody.names_of(&subject));
    let again = fold::run(store, fold::At::Seq(as_of), &mut [&mut history]).await;
    again.map_err(read_failure)?;
    session.close().await;
    let history = history.history(&folded.custody);
    let item = folded.deletions.item(&subject, &folded.custody);
    let item = item.ok_or_else(|| Failure::usage("nothing was recorded about it by then"))?;
    let answer = Explanation::of(as_of, &subject, item, history);
    let unread = folded.pass.damaged > 0 || !answer.history.unreadable.is_empty();
    let exit = match answer.item.erased {
        None if unread => Exit::Unknown,
        _ => Exit::Yes,
    };
    if common.json {
        output::json(&answer)?;
    } else {
        for line in answer.lines() {
            output::line(line)?;
        }
    }
    Ok(exit)
}

impl Explanation {
    fn of(as_of: u64, subject: &Subject, item: ItemLine, history: History) -> Self {
        // What tells what the item is; else what was found last, though no plan was sealed with it.
        let told = item.found.as_ref().map(|found| found.seq);
        let mut finds = history.found.iter();
        let told = finds.find(|find| Some(find.entry.seq) == told);
        let (signals, conditions) = told
            .or(history.found.last())
            .map(|find| signals(subject.kind(), find))
            .unwrap_or_default();
        Self {
            as_of,
            kind: subject.kind().to_owned(),
            answer: answer(&item, &history),
            statements: statements(&history),
            signals,
            conditions,
            item,
            history,
        }
    }

    fn lines(&self) -> Vec<String> {
        let item = &self.item;
        let what = item
            .event_id
            .as_deref()
            .unwrap_or("an item whose id is not known");
        let place = match item.calendar.as_deref() {
            Some(place) if !place.is_empty() => format!(" in {place}"),
            _ => String::new(),
        };
        let mut lines = vec![format!("{} {what}{place}", self.kind), item.subject.clone()];
        if !item.users.is_empty() {
            let users: Vec<String> = item.users.iter().map(user_words).collect();
            lines.push(format!("of {}", users.join(", ")));
        }
        if let Some(date) = &item.date {
            lines.push(format!("date {date}"));
        }
        lines.push(format!("as of entry {}", self.as_of));
        lines.push(String::new());
        lines.push(self.answer.clone());
        self.section("class", "What it was taken for, and why", &mut lines);
        let (held, not): (Vec<&Signal>, Vec<&Signal>) =
            self.signals.iter().partition(|signal| signal.holds);
        named("What was seen of it", &held, &mut lines);
        named("What was looked for and not seen", &not, &mut lines);
        let (held, not): (Vec<&Signal>, Vec<&Signal>) =
            self.conditions.iter().partition(|signal| signal.holds);
        named("Conditions that were met", &held, &mut lines);
        named("Conditions that were not met", &not, &mut lines);
        for (about, heading) in [
            ("plan", "Plans that name it, and who approved them"),
            ("decision", "What persons decided"),
            ("deletion", "What was done"),
            ("undo", "What was done to put it back"),
            ("held", "What was left undone when its turn came"),
            ("afterwards", "What was seen afterwards"),
            ("erasure", "Erasure"),
            ("silence", "What this log cannot tell"),
        ] {
            self.section(about, heading, &mut lines);
        }
        lines
    }

    fn section(&self, about: &str, heading: &str, lines: &mut Vec<String>) {
        let of = self.statements.iter().filter(|said| said.about == about);
        let of: Vec<&Statement> = of.collect();
        if of.is_empty() {
            return;
        }
        lines.push(String::new());
        lines.push(heading.to_owned());
        for said in of {
            lines.push(format!("  {} (entry {})", said.text, said.seq));
        }
    }
}

fn named(heading: &str, signals: &[&Signal], lines: &mut Vec<String>) {
    let Some(first) = signals.first() else { return };
    lines.push(String::new());
    lines.push(format!("{heading} (entry {})", first.seq));
    for signal in signals {
        let detail = signal.detail.as_ref();
        let detail = detail
            .map(|detail| format!(": {detail}"))
            .unwrap_or_default();
        lines.push(match &signal.meaning {
            Some(meaning) => format!("  - {meaning} [{}{detail}]", signal.name),
            None => format!("  - {}{detail}", signal.name),
        });
    }
}

/// Signals and conditions of a find, in the order of their vocabulary; names that it does not have come last.
fn signals(kind: &str, find: &FindLine) -> (Vec<Signal>, Vec<Signal>) {
    let vocabulary = vocabulary(kind);
    let known = |names: Option<&'static [Named]>, conditions: bool| {
        let names = names.unwrap_or_default();
        let mut signals: Vec<(usize, Signal)> = find
            .evidence
            .iter()
            .filter(|(name, _)| name.starts_with(CONDITION) == conditions)
            .map(|(name, evidence)| {
                let name = name.strip_prefix(CONDITION).unwrap_or(name);
                let place = names.iter().position(|known| known.name == name);
                let prefix = if conditions { CONDITION } else { SIGNAL };
                let said = || find.meanings.get(&format!("{prefix}{name}")).cloned();
                let meaning = place
                    .and_then(|n| names.get(n))
                    .map(|known| known.meaning.to_string())
                    .or_else(said);
                (
                    place.unwrap_or(usize::MAX),
                    signal(name, evidence, meaning, find),
                )
            })
            .collect();
        signals.sort_by_key(|(place, _)| *place);
        signals.into_iter().map(|(_, signal)| signal).collect()
    };
    (
        known(vocabulary.map(|it| it.signals), false),
        known(vocabulary.map(|it| it.conditions), true),
    )
}

fn signal(name: &str, evidence: &Evidence, meaning: Option<String>, find: &FindLine) -> Signal {
    Signal {
        name: name.to_owned(),
        holds: evidence.holds,
        meaning,
        detail: evidence.detail.clone(),
        seq: find.entry.seq,
    }
}

/// The question answered in one sentence.
fn answer(item: &ItemLine, history: &History) -> String {
    let backup = item.backup.as_ref().map_or(String::new(), |backup| {
        format!(" A whole copy of it lies in entry {}.", backup.entry.seq)
    });
    let why = match (&item.class, &item.reason) {
        (Some(class), Some(reason)) => format!(": {class}, {reason}"),
        _ => String::new(),
    };
    match item.state {
        State::Deleted => format!("It was deleted, as approved{why}.{backup}"),
        State::BackupErased => "It was deleted, as approved; its copy was erased with its owner.".to_owned(),
        State::Missing => format!(
            "It was deleted WITHOUT a sound approval, or without a true copy: this is counted as a loss.{backup}"
        ),
        State::InFlight => format!("Its deletion was begun, and how that ended is not known.{backup}"),
        State::Planned => format!("It is to be deleted, and has not been{why}."),
        State::Excluded if was_deleted(item) => {
            "It was deleted by us and was there again, and a person decided to keep it.".to_owned()
        }
        State::Excluded => format!("It was not deleted: a person decided to keep it{why}."),
        State::Protected => format!("It was not deleted: it is left alone{why}."),
        State::Held => match left_for_a_person(item, history) {
            Some(reason) => format!(
                "It was not deleted: it was to be, and was left for a person when its turn came: {reason}."
            ),
            None => format!("It was not deleted: it is held for a person to decide{why}."),
        },
        State::GoneBefore => format!("It was not deleted by us: it was gone before{why}."),
        State::ChangedSince if item.restored.is_some() => {
            "It was deleted and put back, and has changed or gone since, not by us.".to_owned()
        }
        State::ChangedSince => "It was not deleted by us: it changed, or went, after the plan was made.".to_owned(),
        State::OutOfReach => format!("It was not deleted: it could not be reached{why}."),
        State::Restored => {
            let back = item.restored.as_ref();
            let id = back
                .filter(|back| item.event_id.as_ref() != Some(&back.event_id))
                .map(|back| format!(", and its id is {} now", back.event_id));
            format!("It was deleted and put back{}.{backup}", id.unwrap_or_default())
        }
        State::Unaccounted if item.there_again => format!(
            "It was deleted by us, and is there again, not by us: it counts as not accounted for until a new plan deletes it, a person \
             decides to keep it, or it is gone again{why}.{backup}"
        ),
        State::Unaccounted => {
            "What became of it cannot be told: the log contradicts itself about it, or says nothing.".to_owned()
        }
        State::Verified
        | State::DefaultApplied
        | State::LateWrite
        | State::Altered
        | State::Resurrected
        | State::Duplicate
        | State::Unreadable => format!("It was not deleted: {}.", super::state_words(item.state)),
    }
}

/// It went by our hand, and we did not put it back.
fn was_deleted(item: &ItemLine) -> bool {
    let outcome = item.outcome.as_ref().map(|outcome| outcome.what);
    matches!(outcome, Some("deleted" | "gone_cause_unknown")) && item.restored.is_none()
}

/// Why it was left for a person at the moment of deletion, unless a later plan found it anew.
fn left_for_a_person<'a>(item: &ItemLine, history: &'a History) -> Option<&'a str> {
    let held = history.held.iter();
    let held = held.map(|held| (held.entry.seq, held.text.as_str()));
    let ended = history
        .attempts
        .last()
        .and_then(|last| last.outcome.as_ref());
    let ended = ended.and_then(|it| Some((it.entry.seq, it.reason.as_deref()?)));
    let (seq, reason) = held.chain(ended).max_by_key(|(seq, _)| *seq)?;
    let found = item.found.as_ref().map_or(0, |found| found.seq);
    (seq > found).then_some(reason)
}

#[expect(
    clippy::too_many_lines,
    reason = "one sentence for each kind of entry, in the order of the answer"
)]
fn statements(history: &History) -> Vec<Statement> {
    let mut said = Vec::new();
    let mut say = |about, text: String, entry: &Reference| {
        said.push(Statement {
            about,
            text,
            seq: entry.seq,
            hash: entry.hash.to_string(),
        });
    };
    for find in &history.found {
        say("class", class_words(find), &find.entry);
        if let Some(plan) = &find.plan {
            let text = format!(
                "plan {}, with this item to {}, was sealed at {} by {}",
                short(plan.plan),
                disposition_words(find.disposition),
                plan.sealed.recorded_at,
                plan.by
            );
            say("plan", text, &plan.sealed);
            for approval in &plan.approvals {
                let text = format!(
                    "plan {} was approved at {} by {} ({}), until {}",
                    short(plan.plan),
                    approval.entry.recorded_at,
                    approval.by,
                    approval.assurance,
                    approval.expires_at
                );
                say("plan", text, &approval.entry);
            }
        }
    }
    for decision in &history.decisions {
        let counts = match decision.plan {
            Some(plan) => format!("which made plan {}", short(plan)),
            None => "which was sealed into no plan and counts for nothing".to_owned(),
        };
        let text = format!(
            "{} decided at {} to {} it, {counts}: {}",
            decision.by,
            decision.entry.recorded_at,
            decision.decision.name(),
            decision.reason
        );
        say("decision", text, &decision.entry);
    }
    for attempt in &history.attempts {
        say("deletion", attempt_words(attempt), &attempt.entry);
        if let Some(outcome) = &attempt.outcome {
            let status = outcome.status;
            let status = status.map(|status| format!(", answered with {status}"));
            let recovered = if outcome.recovered {
                ", found out afterwards by asking"
            } else {
                ""
            };
            let reason = outcome.reason.as_ref().map(|reason| format!(": {reason}"));
            let text = format!(
                "attempt {} ended at {}: {}{}{recovered}{}",
                attempt.attempt,
                outcome.entry.recorded_at,
                outcome_words(outcome.what),
                status.unwrap_or_default(),
                reason.unwrap_or_default()
            );
            say("deletion", text, &outcome.entry);
        }
    }
    for attempt in &history.undone {
        say("undo", undo_words(attempt), &attempt.entry);
        if let Some(outcome) = &attempt.outcome {
            say("undo", undone_words(attempt, outcome), &outcome.entry);
        }
    }
    for held in &history.held {
        say(
            "held",
            format!("left for a person: {}", held.text),
            &held.entry,
        );
    }
    for seen in &history.observed {
        let what = match seen.observation {
            Observation::Unchanged => "it was there, as before",
            Observation::Changed => "it was there, and changed",
            Observation::Gone => "it was not there",
        };
        let explained = if seen.explained {
            ""
        } else {
            ", and no entry of this log explains that"
        };
        let text = format!("at {} {what}{explained}", seen.entry.recorded_at);
        say("afterwards", text, &seen.entry);
    }
    if let Some(erased) = &history.erased {
        let by: Vec<&str> = erased
            .by
            .iter()
            .map(ledger::domain::id::Actor::as_str)
            .collect();
        let text = format!(
            "what was recorded about it was erased with its owner at {} ({}), approved by {}",
            erased.entry.recorded_at,
            erased.legal_basis,
            by.join(", ")
        );
        say("erasure", text, &erased.entry);
    }
    for unknown in &history.unknown {
        say(
            "silence",
            format!("something else was recorded: {}", unknown.text),
            &unknown.entry,
        );
    }
    for silent in &history.unreadable {
        say(
            "silence",
            format!("{}: {}", silent.event_type, silent.why),
            &silent.entry,
        );
    }
    said
}

fn class_words(find: &FindLine) -> String {
    let covered = match find.covered {
        Some(true) => "; the new system has one that stands for it",
        Some(false) => "; NOTHING in the new system stands for it",
        None => "",
    };
    let copy = match find.copy_sha256 {
        Some(sha256) => format!("; a whole copy was kept, SHA-256 {sha256}"),
        None => String::new(),
    };
    let counts = if find.plan.is_some() {
        ""
    } else {
        "; no plan was sealed with this"
    };
    format!(
        "at {} it was taken for {}, to {}: {}{covered}{copy}{counts}",
        find.entry.recorded_at,
        find.class,
        disposition_words(find.disposition),
        find.reason
    )
}

fn attempt_words(attempt: &AttemptLine) -> String {
    let approved = match &attempt.approved {
        Some(approval) => format!(
            "as approved by {} in entry {}",
            approval.by, approval.entry.seq
        ),
        None => "WITHOUT an approval that is in the log".to_owned(),
    };
    let copy = if attempt.backup_is_true {
        format!("with a whole copy of it, SHA-256 {}", attempt.backup_sha256)
    } else {
        "with a copy that is NOT what its digest says".to_owned()
    };
    let end = match attempt.outcome {
        Some(_) => "",
        None => "; how it ended is not known",
    };
    format!(
        "attempt {} to delete it was begun at {} by {} under plan {}, {approved}, {copy}{end}",
        attempt.attempt,
        attempt.entry.recorded_at,
        attempt.by,
        short(attempt.plan)
    )
}

fn undo_words(attempt: &UndoLine) -> String {
    let end = match attempt.outcome {
        Some(_) => "",
        None => "; how it ended is not known",
    };
    format!(
        "attempt {} to put it back was begun at {} by {}, by {}, to be {}{end}",
        attempt.attempt, attempt.entry.recorded_at, attempt.by, attempt.way, attempt.becomes
    )
}

fn undone_words(attempt: &UndoLine, outcome: &OutcomeLine) -> String {
    let what = match outcome.what {
        "restored" => "it is there again",
        "already_there" => "it was there already",
        _ => "it was not put back",
    };
    let status = outcome.status;
    let status = status.map(|status| format!(", answered with {status}"));
    let reason = outcome.reason.as_ref().map(|reason| format!(": {reason}"));
    let back = attempt.restored.as_ref().map(|back| {
        let read = match (back.verified, back.differs.as_slice()) {
            (false, _) => "it was NOT read back".to_owned(),
            (true, []) => "it was read back and is as in the copy".to_owned(),
            (true, names) => format!("it was read back and DIFFERS in {}", names.join(", ")),
        };
        let lost = match back.lost.as_slice() {
            [] => String::new(),
            names => format!(
                ", but for {}, which this way cannot bring back",
                names.join(", ")
            ),
        };
        format!("; its id is {}; {read}{lost}", back.event_id)
    });
    format!(
        "attempt {} to put it back ended at {}: {what}{}{}{}",
        attempt.attempt,
        outcome.entry.recorded_at,
        status.unwrap_or_default(),
        reason.unwrap_or_default(),
        back.unwrap_or_default()
    )
}

fn outcome_words(what: &str) -> &str {
    match what {
        "deleted" => "it was deleted",
        "already_gone" => "it was gone already",
        "gone_cause_unknown" => "it is gone, and whether by us cannot be told",
        "changed" => "it was left alone, because it had changed",
        "adopted" => "it was left alone, because the new system relies on it by now",
        "failed" => "it was not deleted",
        "unknown" => "nobody knows",
        other => other,
    }
}

fn disposition_words(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Delete => "be deleted",
        Disposition::Hold => "be held for a person",
        Disposition::Protect => "be left alone",
        Disposition::Done => "need nothing, being gone already",
        Disposition::OutOfReach => "stay as it is, out of reach",
    }
}
