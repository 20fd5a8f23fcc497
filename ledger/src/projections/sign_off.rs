//! Closing a run: by a person who neither acted in it nor made its plan, over a statement of what it did.
//!
//! Who approved the plan may sign: approving and signing are both looking at others' work, and a team of three has nobody else.

use super::approve::{ApproveError, may_act};
use super::custody::CustodyFold;
use super::deletions::{DeletionsFold, Statement};
use super::plan::is_person;
use crate::domain::custody::State;
use crate::domain::event::{Event, ReviewSignedOff};
use crate::domain::hash::Hash;
use crate::domain::id::{Actor, NameError, RunId, Subject};
use crate::domain::review::{KEPT_CHARS_MAX, may_be_kept};
use crate::store::read::ReadError;
use crate::store::{AppendError, Draft, Store};

/// Why a run was not signed off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignOffError {
    /// The person may not act, or who may cannot be told.
    #[error(transparent)]
    Person(#[from] ApproveError),
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// No such run.
    #[error("no run {0} was started in this ledger")]
    NoRun(RunId),
    /// It may still do something.
    #[error("run {0} has not finished")]
    Unfinished(RunId),
    /// Four eyes: who did the work does not close it.
    #[error("{person} {did}: somebody else has to sign it off")]
    OwnWork {
        /// Who tried.
        person: Actor,
        /// What the person did.
        did: &'static str,
    },
    /// What became of some of its items is not known.
    #[error("the deletion of {0} of its items was begun, and how that ended is not known")]
    InFlight(u64),
    /// What it did cannot be told whole.
    #[error(
        "{0} entries about items, plans or approvals say nothing, so what it did cannot be told whole"
    )]
    Unreadable(u64),
    /// The note is too long, or names somebody.
    #[error(
        "the note must have 1 to {KEPT_CHARS_MAX} characters and no @: it stays in the log for ever"
    )]
    Note,
    /// A name could not be made.
    #[error("name the run")]
    Name(#[source] NameError),
    /// It could not be recorded.
    #[error("record the sign-off")]
    Append(#[source] AppendError),
}

/// A run that is closed.
#[derive(Debug, Clone)]
pub struct SignedOff {
    /// The entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// This person had signed the same statement before; nothing was recorded.
    pub replayed: bool,
}

/// What a person has to have seen before signing, and whether this one may.
///
/// # Errors
/// See [`SignOffError`].
pub async fn statement(
    store: &Store,
    run: RunId,
    person: &Actor,
    (custody, deletions): (&CustodyFold, &DeletionsFold),
) -> Result<Statement, SignOffError> {
    may_act(store, person).await?;
    let line = deletions.run(run).ok_or(SignOffError::NoRun(run))?;
    let own_work = |did| SignOffError::OwnWork {
        person: person.clone(),
        did,
    };
    if line.finished.is_none() {
        return Err(SignOffError::Unfinished(run));
    }
    if person.is_same_as(&line.by) || person.is_among(&deletions.acted(run)) {
        return Err(own_work("acted in this run"));
    }
    let plan = deletions.plan_of(run);
    if plan.is_some_and(|plan| person.is_among(&custody.makers(plan))) {
        return Err(own_work("made the plan of this run"));
    }
    let unreadable = custody.unreadable().values().sum();
    if unreadable > 0 {
        return Err(SignOffError::Unreadable(unreadable));
    }
    let statement = deletions.statement(run, custody);
    let statement = statement.ok_or(SignOffError::NoRun(run))?;
    match statement.sums.get(State::InFlight) {
        0 => Ok(statement),
        items => Err(SignOffError::InFlight(items)),
    }
}

/// Records that a person has signed a statement of [`statement`].
///
/// # Errors
/// It could not be recorded.
pub async fn sign_off(
    store: &Store,
    run: RunId,
    person: &Actor,
    note: Option<String>,
    (statement, deletions): (&Statement, &DeletionsFold),
) -> Result<SignedOff, SignOffError> {
    if !note.as_deref().is_none_or(may_be_kept) {
        return Err(SignOffError::Note);
    }
    let before = deletions.run(run).map(|line| line.signed_off.as_slice());
    let before = before.unwrap_or_default();
    let same = before
        .iter()
        .find(|signed| signed.by == *person && signed.statement == statement.digest);
    if let Some(signed) = same.filter(|_| is_person(person)) {
        return Ok(SignedOff {
            seq: signed.entry.seq,
            hash: signed.entry.hash,
            replayed: true,
        });
    }
    let states = statement.sums.iter().map(|(state, count)| {
        let name = serde_json::to_value(state).ok();
        let name = name.and_then(|name| name.as_str().map(str::to_owned));
        (name.unwrap_or_default(), count)
    });
    let event = Event::ReviewSignedOff(ReviewSignedOff {
        run,
        statement: statement.digest,
        states: states.collect(),
        note,
        assurance: "asserted".to_owned(),
    });
    let subject = Subject::new("run", run.uuid()).map_err(SignOffError::Name)?;
    let mut draft = Draft::of(&event, subject.clone(), person.clone(), subject)
        .map_err(SignOffError::Append)?;
    draft.recorded_at = store.simulated_now().await?;
    let appended = store.append(draft).await.map_err(SignOffError::Append)?;
    Ok(SignedOff {
        seq: appended.entry.seq,
        hash: appended.hash,
        replayed: false,
    })
}
