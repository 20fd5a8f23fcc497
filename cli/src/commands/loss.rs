//! `ledger loss`: was any data lost?

use ledger::domain::verdict::{LossAnswer, Scope, ScopeAnswer, Unknown, Verdict};
use ledger::projections::fold::At;
use ledger::projections::loss::{Integrity, loss};
use ledger::store::verify::Outside;
use serde::Serialize;

use super::verify::{claims, signers_record};
use super::witness::quorum;
use super::{Common, log, read_failure};
use crate::args::{Loss, ScopeName};
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    loss: LossAnswer,
    /// `simulated`, where the times are the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
}

pub(crate) async fn run(common: &Common<'_>, args: &Loss) -> Result<Exit, Failure> {
    let asked = match &args.as_of {
        Some(text) => log::as_of(text)?,
        None => At::Head,
    };
    let scopes: Vec<Scope> = args.scopes.iter().map(|name| scope_of(*name)).collect();
    let mut outside = Outside {
        claims: claims(&args.checkpoints, &[])?,
        ..Outside::default()
    };
    let policy = args.policy.as_deref().map(quorum::read).transpose()?;
    let session = common.open().await?;
    let mut place = "a kept checkpoint";
    if let Some(policy) = &policy {
        let vouched = quorum::vouched(&session, policy).await?;
        outside.claims.extend(vouched.claims);
        for words in vouched.unasked.into_iter().chain(vouched.unmet) {
            output::note(format_args!("warning: {words}"));
        }
        place = "the witnesses of the policy";
    }
    // A tail that was cut off since would be answered for as if it had never been.
    outside
        .claims
        .extend(signers_record(&session, session.store.id())?);
    let bar = output::bar("entries checked");
    let report = session
        .store
        .verify(outside, |done, all| bar.set(done, all))
        .await
        .map_err(read_failure)?;
    bar.clear();
    // What came after the check is not in the answer: nothing vouches for it yet.
    let at = match asked {
        At::Head => At::Seq(report.head.size),
        At::Seq(seq) => At::Seq(seq.min(report.head.size)),
        time @ At::Time(_) => time,
    };
    let answer = loss(&session.store, at, Integrity::of(&report, place))
        .await
        .map_err(read_failure)?;
    let simulated = session.store.row().simulated_clock;
    session.close().await;
    let Some(mut answer) = answer else {
        return Err(Failure::usage("the ledger had no entry at that point"));
    };
    if !scopes.is_empty() {
        answer = answer.only(&scopes);
    }
    let exit = match answer.verdict {
        Verdict::None => Exit::Yes,
        Verdict::Lost => Exit::No,
        Verdict::Unknown => Exit::Unknown,
    };
    let answer = Answer {
        loss: answer,
        clock: simulated.then_some("simulated"),
    };
    if common.json {
        output::json(&answer)?;
    } else {
        for text in lines(&answer.loss, simulated) {
            output::line(text)?;
        }
    }
    Ok(exit)
}

fn scope_of(name: ScopeName) -> Scope {
    match name {
        ScopeName::Calendar => Scope::Calendar,
        ScopeName::Records => Scope::Records,
        ScopeName::Files => Scope::Files,
    }
}

/// The answer as text, a line each.
fn lines(answer: &LossAnswer, simulated: bool) -> Vec<String> {
    let mut lines = vec![format!(
        "data lost: {}{}",
        verdict_words(answer.verdict),
        if answer.complete {
            ""
        } else {
            " (work remains)"
        }
    )];
    let recorded_at = answer.as_of.recorded_at.format("%Y-%m-%dT%H:%M:%SZ");
    let clock = if simulated {
        ", by a simulated clock"
    } else {
        ""
    };
    lines.push(format!(
        "as of: entry {}, {recorded_at}{clock}",
        answer.as_of.seq
    ));
    lines.push(match &answer.anchored {
        Some(anchor) => format!("anchored: up to entry {} ({})", anchor.seq, anchor.place),
        None => "anchored: no".to_owned(),
    });
    let whole = answer
        .unknown
        .iter()
        .filter(|unknown| unknown.scope.is_none());
    lines.extend(whole.map(|unknown| format!("cannot be told: {}", unknown_words(unknown))));
    for (scope, of) in &answer.scopes {
        lines.push(String::new());
        scope_lines(*scope, of, answer, &mut lines);
    }
    if !answer.lost.is_empty() {
        lines.push(String::new());
        for item in &answer.lost {
            let restore = match &item.restore {
                Some(with) => format!("can be restored with {with}"),
                None => "nothing in the log can restore it".to_owned(),
            };
            lines.push(format!(
                "lost: {} {} (entry {}); {restore}",
                item.subject,
                super::word(&item.state),
                item.seq
            ));
        }
    }
    lines.push(String::new());
    lines.push(format!("rests on: {}", evidence_words(answer)));
    lines
}

fn scope_lines(scope: Scope, of: &ScopeAnswer, answer: &LossAnswer, lines: &mut Vec<String>) {
    lines.push(format!(
        "{}: {}{}",
        super::word(&scope),
        verdict_words(of.verdict),
        if of.complete { ", complete" } else { "" }
    ));
    let about = |unknown: &&Unknown| unknown.scope == Some(scope);
    for unknown in answer.unknown.iter().filter(about) {
        lines.push(format!("  cannot be told: {}", unknown_words(unknown)));
    }
    if let Some(sealed) = of.sealed {
        lines.push(format!("  {sealed:>6} items in sealed plans, of these"));
    }
    for (state, count) in of.sum.iter() {
        let remains = if of.remaining.get(state) > 0 {
            "  <- remains to be done"
        } else {
            ""
        };
        lines.push(format!("  {count:>6} {}{remains}", super::word(&state)));
    }
    for user in &of.unreached {
        lines.push(format!(
            "  {} was not reached: {} (entry {})  <- remains to be done",
            user.user, user.access, user.seq
        ));
    }
    for side in &of.sides {
        let observed = side.observed_at.map_or("never".to_owned(), |time| {
            time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
        });
        let by = match (&side.observed_by, side.grade) {
            (Some(by), Some(grade)) => format!(" by {by} ({})", grade.name()),
            _ => String::new(),
        };
        lines.push(format!("  {} observed: {observed}{by}", side.name));
    }
}

fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "none",
        Verdict::Lost => "lost",
        Verdict::Unknown => "unknown",
    }
}

fn unknown_words(unknown: &Unknown) -> String {
    let side = unknown.side.as_ref().map(|side| format!("{side}: "));
    let count = unknown.count.map(|count| format!("{count} "));
    let words = [side, count].into_iter().flatten().collect::<String>();
    words + unknown.reason.words()
}

/// The entries, numbers gathered by type.
fn evidence_words(answer: &LossAnswer) -> String {
    let mut by_type: Vec<(&str, Vec<String>)> = Vec::new();
    for entry in &answer.evidence {
        let seq = entry.seq.to_string();
        match by_type.iter_mut().find(|(kind, _)| *kind == entry.kind) {
            Some((_, seqs)) => seqs.push(seq),
            None => by_type.push((&entry.kind, vec![seq])),
        }
    }
    if by_type.is_empty() {
        return "no entry".to_owned();
    }
    let words: Vec<String> = by_type
        .into_iter()
        .map(|(kind, seqs)| format!("{kind} {}", seqs.join(" ")))
        .collect();
    words.join(", ")
}
