//! `ledger review sign-off`: a person who did not do the work closes a run.

use ledger::domain::custody::{State, Sums};
use ledger::domain::id::{Actor, RunId};
use ledger::projections::deletions::Part;
use ledger::projections::fold::At;
use ledger::projections::sign_off::{SignOffError, sign_off, statement};
use serde::Serialize;

use super::{Common, deletions, folded};
use crate::args::ReviewSignOff;
use crate::commands::approve::approve_failure;
use crate::commands::read_failure;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct Answer {
    run: RunId,
    by: Actor,
    /// Digest of the statement.
    statement: String,
    /// The statement itself.
    document: serde_json::Value,
    states: Sums,
    /// What is not well with it, in words: the person signed knowing this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_well: Vec<String>,
    seq: u64,
    hash: String,
    replayed: bool,
}

pub(super) async fn run(common: &Common<'_>, args: &ReviewSignOff) -> Result<Exit, Failure> {
    let run: RunId = args.run.parse().map_err(Failure::usage)?;
    let person = common.actor()?;
    let session = common.open().await?;
    let store = &session.store;
    let folded = folded(store, At::Head).await?;
    if folded.pass.damaged > 0 {
        return Err(failure(SignOffError::Unreadable(folded.pass.damaged)));
    }
    let both = (&folded.custody, &folded.deletions);
    let statement = statement(store, run, &person, both)
        .await
        .map_err(failure)?;
    let part = Part {
        run: Some(run),
        users: None,
        plan: None,
    };
    let simulated = store.row().simulated_clock;
    let not_well = not_well(&statement.sums);
    if !common.json {
        for text in &not_well {
            output::line(format_args!("NOT WELL: {text}"))?;
        }
        if !not_well.is_empty() {
            output::line("")?;
        }
        let review = folded.deletions.review(&folded.custody, &part);
        deletions::print(review, folded.pass.clone(), simulated)?;
    }
    let shown = (&statement, &folded.deletions);
    let signed = sign_off(store, run, &person, args.note.clone(), shown).await;
    session.close().await;
    let signed = signed.map_err(failure)?;
    if common.json {
        output::json(&Answer {
            run,
            by: person,
            statement: statement.digest.to_string(),
            document: statement.document,
            states: statement.sums,
            not_well,
            seq: signed.seq,
            hash: signed.hash.to_string(),
            replayed: signed.replayed,
        })?;
    } else {
        let already = if signed.replayed { "already " } else { "" };
        output::line("")?;
        output::line(format_args!("{already}signed off by {person}: run {run}"))?;
        output::line(format_args!("statement {}", statement.digest))?;
        output::line(format_args!("entry {}  {}", signed.seq, signed.hash))?;
    }
    Ok(Exit::Yes)
}

/// What whoever signs has to know first. It may be signed all the same: what is known and written down is closed too.
fn not_well(states: &Sums) -> Vec<String> {
    let words = |(state, what): (State, &str)| match states.get(state) {
        0 => None,
        count => Some(format!("{count} {what}")),
    };
    let known = [
        (
            State::Missing,
            "of its items are LOST: deleted without a sound approval, or without a true copy",
        ),
        (
            State::LateWrite,
            "were written by the retired system after the plan was made, and count as lost until a new plan names them",
        ),
        (
            State::Unaccounted,
            "of its items are not accounted for: they are there again although they were deleted, or the log contradicts itself about \
             them",
        ),
    ];
    known.into_iter().filter_map(words).collect()
}

fn failure(error: SignOffError) -> Failure {
    match error {
        SignOffError::Person(error) => approve_failure(error),
        SignOffError::Read(error) => read_failure(error),
        SignOffError::NoRun(_) => Failure::new(Exit::No, error)
            .hint("`ledger log --type run.started` lists the runs"),
        SignOffError::Unfinished(_) | SignOffError::InFlight(_) => Failure::new(Exit::No, error)
            .hint("nothing was recorded; run the same plan again, which goes on where it stopped"),
        SignOffError::OwnWork { .. } => Failure::new(Exit::No, error)
            .hint("nothing was recorded; a second person signs it off with `--as NAME`"),
        SignOffError::Unreadable(_) => Failure::new(Exit::Unknown, error)
            .hint("nothing was recorded; LEDGER_KEK or the key file of this ledger is needed, or `ledger verify` names what is damaged"),
        SignOffError::Note => Failure::new(Exit::Usage, error).hint("nothing was recorded"),
        other => Failure::new(Exit::Environment, other),
    }
}
