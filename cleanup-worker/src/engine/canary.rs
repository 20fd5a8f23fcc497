//! A canary: the first places of a plan, then a person has to look before the rest begins.

use futures_util::StreamExt as _;
use ledger::domain::event::{CanaryReleased, Event};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, EntryId, RunId};
use ledger::projections::approve::may_act;
use ledger::projections::plan::{self, is_person};
use ledger::store::read::Filter;
use ledger::store::{Appended, Draft, Store};

use super::EngineError;

/// A canary that has ended, and whether somebody has let the rest begin.
#[derive(Debug, Clone)]
struct Canary {
    run: RunId,
    /// Who ran it.
    runner: Actor,
    /// The entry that ended it.
    finished: EntryId,
    released: bool,
}

/// The last canary of a plan, or of another one over the same items, if the last run of them was one.
async fn last(store: &Store, plan: Hash) -> Result<Option<Canary>, EngineError> {
    let plans = plan::family(store, plan).await?;
    let types = ["run.started", "run.finished", "canary.released"]
        .map(str::parse)
        .into_iter()
        .flatten()
        .collect();
    let mut entries = std::pin::pin!(store.read(Filter {
        types,
        ..Filter::default()
    }));
    let mut started: Option<(RunId, Actor, bool)> = None;
    let mut canary: Option<Canary> = None;
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let entry = &recorded.entry;
        let Some(json) = recorded.payload.json() else {
            continue;
        };
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::RunStarted(run)) if run.plan.is_some_and(|of| plans.contains(&of)) => {
                let is_canary = run.options.contains_key("canary");
                started = entry.run.map(|run| (run, entry.actor.clone(), is_canary));
            }
            Ok(Event::RunFinished(end)) => {
                let ended = started.take_if(|(run, ..)| entry.run == Some(*run));
                let Some((run, runner, is_canary)) = ended else {
                    continue;
                };
                // One that was stopped has shown something too, and nobody has looked at it.
                let is_canary = end.status == "canary" || (is_canary && end.status == "stopped");
                canary = is_canary.then_some(Canary {
                    run,
                    runner,
                    finished: entry.id,
                    released: false,
                });
            }
            Ok(Event::CanaryReleased(release)) => {
                if let Some(canary) = &mut canary {
                    let independent =
                        is_person(&entry.actor) && !entry.actor.is_same_as(&canary.runner);
                    canary.released |= release.run == canary.run && independent;
                }
            }
            _ => {}
        }
    }
    Ok(canary)
}

/// Refuses where the last run was a canary that nobody has looked at.
pub(super) async fn check(store: &Store, plan: Hash) -> Result<(), EngineError> {
    match last(store, plan).await? {
        Some(canary) if !canary.released => Err(EngineError::Refused(format!(
            "the last run of this plan was a canary: somebody other than {} looks at it, then ledger approve {} --canary \
             --as NAME",
            canary.runner,
            &plan.to_string()[..16]
        ))),
        _ => Ok(()),
    }
}

/// Lets the rest of a plan begin after its canary.
///
/// # Errors
/// [`EngineError::Person`] for who may not act, [`EngineError::Refused`] where the last run was no canary, or the person ran it.
pub async fn release(store: &Store, plan: Hash, person: &Actor) -> Result<Appended, EngineError> {
    may_act(store, person).await?;
    let refused = |why: String| Err(EngineError::Refused(why));
    let Some(canary) = last(store, plan).await? else {
        return refused(
            "the last run of this plan was no canary: there is nothing to let begin".to_owned(),
        );
    };
    if person.is_same_as(&canary.runner) {
        return refused(format!(
            "{person} may not let the rest begin: a person other than {} looks at a canary (four eyes)",
            canary.runner
        ));
    }
    let sealed = plan::load(store, plan).await?;
    let event = Event::CanaryReleased(CanaryReleased {
        plan,
        run: canary.run,
    });
    let subject = sealed.subject;
    let mut draft = Draft::of(&event, subject.clone(), person.clone(), subject)?;
    draft.cause = Some(canary.finished);
    Ok(store.append(draft).await?)
}
