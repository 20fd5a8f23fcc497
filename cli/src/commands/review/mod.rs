//! `ledger review`: what was done, told item by item; and what persons decide and sign about it.
//!
//! Nothing here knows calendars: it speaks of kind, place, item, class and evidence.

mod decide;
mod deletions;
mod explain;
mod explain_late;
mod list;
mod look;
mod sample;
mod sign_off;

use std::collections::BTreeSet;

use ledger::chain::entry::Hash;
use ledger::domain::custody::State;
use ledger::domain::id::Subject;
use ledger::projections::custody::CustodyFold;
use ledger::projections::deletions::{DeletionsFold, UserLine};
use ledger::projections::fold::{self, At, Pass};
use ledger::projections::plan::{self, SealedPlan};
use ledger::store::Store;

use super::approve::plan_failure;
use super::{Common, log, read_failure};
use crate::args::Review;
use crate::exit::{Exit, Failure};

pub(crate) async fn run(common: &Common<'_>, args: Review) -> Result<Exit, Failure> {
    match args {
        Review::Deletions(args) => deletions::run(common, &args).await,
        Review::List(args) => list::run(common, &args).await,
        Review::Explain(args) => explain::run(common, &args).await,
        Review::Decide(args) => decide::run(common, &args).await,
        Review::Sample(args) => sample::run(common, &args).await,
        Review::SignOff(args) => sign_off::run(common, &args).await,
    }
}

/// Everything that a review is made of, from one pass over the log.
pub(crate) struct Folded {
    pub(crate) custody: CustodyFold,
    pub(crate) deletions: DeletionsFold,
    pub(crate) pass: Pass,
}

pub(crate) async fn folded(store: &Store, at: At) -> Result<Folded, Failure> {
    let mut custody = CustodyFold::default();
    let mut deletions = DeletionsFold::default();
    let pass = fold::run(store, at, &mut [&mut custody, &mut deletions]).await;
    Ok(Folded {
        custody,
        deletions,
        pass: pass.map_err(read_failure)?,
    })
}

/// The plan that was named, or the one that was sealed last.
pub(super) async fn plan_named(
    store: &Store,
    name: Option<&str>,
    deletions: &DeletionsFold,
) -> Result<SealedPlan, Failure> {
    let hash = match name {
        Some(name) => plan::find(store, name).await.map_err(plan_failure)?,
        None => deletions.last_plan().ok_or_else(|| {
            let what = anyhow::anyhow!("no plan was sealed in this ledger");
            Failure::new(Exit::No, what).hint("a dry run seals one")
        })?,
    };
    plan::load(store, hash).await.map_err(plan_failure)
}

/// The one item that a person names: as the outside system writes it, as a subject, or by an entry about it.
pub(super) async fn item_named(
    store: &Store,
    folded: &Folded,
    text: &str,
) -> Result<Subject, Failure> {
    let deletions = &folded.deletions;
    // What could not be reached when it was met first has another name since.
    let now = |subject: Subject| {
        folded
            .custody
            .known_as(&subject)
            .cloned()
            .unwrap_or(subject)
    };
    let named: BTreeSet<Subject> = deletions.items_named(text).into_iter().map(now).collect();
    if let [one] = named.iter().collect::<Vec<_>>().as_slice() {
        return Ok((*one).clone());
    }
    if !named.is_empty() {
        let what = format!("{} items have this id", named.len());
        let all = named.iter().map(|subject| deletions.whereabouts(subject));
        let all: Vec<String> = all
            .map(|(subject, place, users)| {
                let users: Vec<String> = users.iter().map(user_words).collect();
                let place = place.unwrap_or("a place that is not known");
                format!("{subject} in {place}, of {}", users.join(" and "))
            })
            .collect();
        return Err(Failure::usage(what).hint(format!("name one of these: {}", all.join("; "))));
    }
    if let Ok(seq) = text.parse() {
        let entry = store.get(seq).await.map_err(read_failure)?;
        let subject = entry.map(|recorded| recorded.entry.subject);
        if let Some(subject) = subject.filter(|subject| deletions.knows_item(subject)) {
            return Ok(now(subject));
        }
    }
    // What was asked for is not repeated: an id may hold an address.
    let what = anyhow::anyhow!("nothing in this ledger is about such an item");
    Err(Failure::new(Exit::No, what).hint(
        "name its id in the outside system, its subject, or the number of an entry about it; without the keys only the \
         last two can be found",
    ))
}

/// Refuses a run that is not in the ledger: nothing of it is not the same as nothing.
pub(crate) fn no_such_run() -> Failure {
    let what = anyhow::anyhow!("no run of this id was started in this ledger");
    Failure::new(Exit::No, what).hint("`ledger log --type run.started` lists the runs")
}

/// The users that were asked for; `None` where nobody was.
pub(crate) fn users_named(
    deletions: &DeletionsFold,
    user: Option<&str>,
) -> Result<Option<BTreeSet<Subject>>, Failure> {
    let users = user.map(|text| deletions.users_named(text));
    // What was asked for is not repeated: it may be an e-mail address.
    if users.as_ref().is_some_and(BTreeSet::is_empty) {
        let what = anyhow::anyhow!("no user of this e-mail or id stands in this ledger");
        return Err(Failure::new(Exit::No, what)
            .hint("without the keys of the ledger no user can be found by e-mail or v1's id"));
    }
    Ok(users)
}

/// The e-mail where the keys open it; else the kind and the id in the system that is cleaned up, else the subject.
pub(crate) fn user_words(user: &UserLine) -> String {
    let named = || {
        let kind = user.subject.split(':').next()?;
        Some(format!("{kind} {}", user.id.as_ref()?))
    };
    let known = user.email.clone().or_else(named);
    known.unwrap_or_else(|| user.subject.clone())
}

pub(crate) fn short(hash: Hash) -> String {
    let mut text = hash.to_string();
    text.truncate(16);
    text
}

pub(crate) fn state_words(state: State) -> &'static str {
    match state {
        State::Verified => "verified",
        State::DefaultApplied => "equal but for an accepted default",
        State::Excluded => "left out by decision",
        State::Planned => "to be deleted, and not deleted yet",
        State::Deleted => "deleted as approved, with a backup",
        State::Restored => "put back",
        State::Protected => "protected",
        State::Held => "held for a person",
        State::GoneBefore => "gone before we did anything",
        State::ChangedSince => "changed since the plan, without us",
        State::OutOfReach => "out of reach",
        State::InFlight => "deletion or restoration begun, its end not known",
        State::LateWrite => "written in the retired system after the seal",
        State::Altered => "altered",
        State::Resurrected => "deleted in the retired system, alive in the new one",
        State::Missing => "LOST: deleted without a sound approval or a true backup",
        State::Duplicate => "there more than once",
        State::Unreadable => "could not be compared",
        State::BackupErased => "deleted as approved, backup erased with its owner",
        State::Unaccounted => "not accounted for",
    }
}
