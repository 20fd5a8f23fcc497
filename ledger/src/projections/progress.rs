//! How far the execution of a plan has come, item by item, for a run that goes on where another stopped.
//!
//! What the log says of each item lies outside of memory, item by item: see [`Reached`].

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::fold::{Decoded, Unreadable};
use super::overlay::base_of;
use super::plan::{PlanError, for_each, unreadable};
use crate::domain::custody::{DeleteOutcome, Observation};
use crate::domain::event::{Event, GoneHow};
use crate::domain::hash::Hash;
use crate::domain::id::{EntryId, RunId, Subject, Timestamp};
use crate::domain::review::Decision;
use crate::store::Store;
use crate::store::read::Filter;
use crate::store::sorted::{Sorted, Sorter};
use crate::store::spool::SpoolError;

/// An intent without outcome: its effect may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIntent {
    /// The entry, which its outcome names.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Run that made it.
    pub run: Option<RunId>,
    /// The item.
    pub subject: Subject,
    /// Which attempt.
    pub attempt: u32,
    /// Where the item lies.
    pub place: String,
    /// Its id there.
    pub item: String,
    /// The version that was to be deleted.
    pub version: String,
    /// SHA-256 of the backup in the intent.
    pub backup_sha256: Hash,
}

/// How far the execution of a plan has come with one item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Highest attempt so far; 0 where there was none.
    pub attempts: u32,
    /// The attempt in flight.
    pub open: Option<OpenIntent>,
    /// How the last ended attempt ended.
    pub outcome: Option<DeleteOutcome>,
    /// It was left for a person without an attempt, or a person decided to keep it.
    pub held: bool,
    /// It was deleted and put back since: undoing is the last word on it under these plans.
    pub restored: bool,
}

/// What one entry says of an item.
#[derive(Debug, Serialize, Deserialize)]
enum Step {
    Intended(OpenIntent),
    Ended(EntryId, DeleteOutcome),
    Held,
    Restored,
}

impl Progress {
    /// How far these steps lead, in the order of the log.
    fn after(steps: Vec<Step>) -> Self {
        let mut progress = Self::default();
        let mut is_ours = false;
        for step in steps {
            match step {
                Step::Intended(intent) => {
                    is_ours = true;
                    progress.attempts = progress.attempts.max(intent.attempt);
                    progress.open = Some(intent);
                }
                // An outcome of another plan's intent finds nothing open here.
                Step::Ended(intent, outcome) => {
                    if progress.open.take_if(|open| open.id == intent).is_some() {
                        progress.outcome = Some(outcome);
                    }
                }
                Step::Held => {
                    is_ours = true;
                    progress.held = true;
                }
                // Another plan's deletion that was undone is not ours.
                Step::Restored => progress.restored |= is_ours,
            }
        }
        progress
    }
}

/// How far a plan has been executed, by item. It lies in a temporary file: memory does not grow with the items.
#[derive(Debug)]
pub struct Reached(Sorted);

impl Reached {
    /// Nothing was ever done about an item, under this plan or another.
    pub fn is_empty(&self) -> bool {
        self.0.count() == 0
    }

    /// How far this item has come.
    ///
    /// # Errors
    /// [`PlanError::Items`]: it cannot be read back.
    pub fn of(&self, item: &Subject) -> Result<Progress, PlanError> {
        let steps = self.0.get(item.to_string().as_bytes());
        Self::fold(&steps.map_err(PlanError::Items)?)
    }

    /// The intents without outcome, oldest first: what a run has to recover before it does anything else.
    ///
    /// # Errors
    /// [`PlanError::Items`]: they cannot be read back.
    pub fn open(&self) -> Result<Vec<OpenIntent>, PlanError> {
        let mut open = Vec::new();
        let mut item = (Bytes::new(), Vec::new());
        for record in self.0.iter() {
            let (subject, step) = record.map_err(PlanError::Items)?;
            if subject != item.0 {
                open.extend(Self::fold(&item.1)?.open);
                item = (subject, Vec::new());
            }
            item.1.push(step);
        }
        open.extend(Self::fold(&item.1)?.open);
        open.sort_by_key(|intent| intent.seq);
        Ok(open)
    }

    fn fold(steps: &[Bytes]) -> Result<Progress, PlanError> {
        let steps = steps.iter().map(|step| serde_json::from_slice(step));
        let steps = steps.collect::<Result<Vec<Step>, _>>();
        let steps = steps.map_err(|_| PlanError::Items(SpoolError::Changed))?;
        Ok(Progress::after(steps))
    }
}

/// Steps on their way into [`Reached`].
struct Steps(Sorter);

impl Steps {
    fn add(&mut self, item: &Subject, step: &Step) -> Result<(), PlanError> {
        // Every part of it is a text or a number, so it can be written.
        let step = serde_json::to_vec(step).map_err(|_| PlanError::Items(SpoolError::Changed))?;
        let added = self.0.push(item.to_string(), step);
        added.map_err(PlanError::Items)
    }
}

/// The plans that are executed as one: this one, those that it is made of by decisions, and those that are made of it.
///
/// # Errors
/// The log cannot be read.
pub async fn family(store: &Store, plan: Hash) -> Result<BTreeSet<Hash>, PlanError> {
    let mut roots: BTreeMap<Hash, Hash> = BTreeMap::new();
    for_each(store, &["plan.sealed"], None, |decoded| {
        if let Ok(Event::PlanSealed(sealed)) = &decoded.event {
            let base = base_of(sealed).ok().flatten();
            let root = base.and_then(|base| roots.get(&base).copied());
            roots.insert(sealed.plan, root.unwrap_or(sealed.plan));
        }
        Ok(())
    })
    .await?;
    let root = roots.get(&plan).copied();
    let mut family: BTreeSet<Hash> = roots
        .into_iter()
        .filter(|(_, of)| Some(*of) == root)
        .map(|(plan, _)| plan)
        .collect();
    family.insert(plan);
    Ok(family)
}

/// How far a plan has been executed, by item, for a run that goes on where another stopped: also one of a plan below or
/// above it. What a person decided to keep, under whatever plan, counts as held.
///
/// # Errors
/// An intent, outcome, hold or decision that cannot be read: going on could delete twice, or what was to be kept.
pub async fn progress(store: &Store, plan: Hash) -> Result<Reached, PlanError> {
    const TYPES: [&str; 7] = [
        "item.restored",
        "item.delete_intended",
        "item.deleted",
        "item.delete_failed",
        "item.held",
        "item.decided",
        "plan.sealed",
    ];
    let plans = family(store, plan).await?;
    let mut steps = Steps(Sorter::new().map_err(PlanError::Items)?);
    let mut kept: BTreeMap<RunId, Vec<Subject>> = BTreeMap::new();
    for_each(store, &TYPES, None, |decoded| {
        let entry = decoded.entry;
        let event = match decoded.event {
            // Whoever comes again after an erasure is another subject: nothing of this one can be in a plan.
            Err(Unreadable::Erased) => return Ok(()),
            event => event.map_err(|why| unreadable(entry.seq, why))?,
        };
        match event {
            Event::ItemDeleteIntended(intent) if plans.contains(&intent.plan) => {
                let intended = OpenIntent {
                    id: entry.id,
                    seq: entry.seq,
                    recorded_at: entry.recorded_at,
                    run: entry.run,
                    subject: entry.subject.clone(),
                    attempt: intent.attempt,
                    place: intent.place,
                    item: intent.item,
                    version: intent.version,
                    backup_sha256: intent.backup.sha256,
                };
                steps.add(&entry.subject, &Step::Intended(intended))
            }
            Event::ItemDeleted(deleted) => {
                let ended = Step::Ended(deleted.intent, deleted.outcome.into());
                steps.add(&entry.subject, &ended)
            }
            Event::ItemDeleteFailed(failed) => {
                let ended = Step::Ended(failed.intent, failed.outcome.into());
                steps.add(&entry.subject, &ended)
            }
            Event::ItemHeld(held) if plans.contains(&held.plan) => {
                steps.add(&entry.subject, &Step::Held)
            }
            Event::ItemRestored(_) => steps.add(&entry.subject, &Step::Restored),
            Event::ItemDecided(decided) if decided.decision == Decision::Keep => {
                if let Some(run) = entry.run {
                    kept.entry(run).or_default().push(entry.subject);
                }
                Ok(())
            }
            // A decision counts from here on.
            Event::PlanSealed(_) => {
                let run = entry.run.and_then(|run| kept.remove(&run));
                let mut run = run.into_iter().flatten();
                run.try_for_each(|subject| steps.add(&subject, &Step::Held))
            }
            _ => Ok(()),
        }
    })
    .await?;
    steps.0.done().map(Reached).map_err(PlanError::Items)
}

/// Whether the last that the log says of an item is that it is gone by our hand, under whatever plan.
///
/// # Errors
/// The log cannot be read.
pub async fn is_deleted(store: &Store, item: &Subject) -> Result<bool, PlanError> {
    const TYPES: [&str; 4] = [
        "item.found",
        "item.deleted",
        "item.restored",
        "item.observed",
    ];
    let types = TYPES.map(str::parse).into_iter().flatten().collect();
    let mut entries = pin!(store.read(Filter {
        types,
        subject: Some(item.clone()),
        ..Filter::default()
    }));
    let mut is_deleted = false;
    while let Some(recorded) = entries.next().await {
        let decoded = Decoded::from(recorded.map_err(PlanError::Read)?);
        is_deleted = match decoded.event {
            Ok(Event::ItemDeleted(deleted)) => deleted.outcome != GoneHow::AlreadyGone,
            // Not there any more: that is no news of what we have deleted.
            Ok(Event::ItemFound(found)) if found.version.is_none() => is_deleted,
            Ok(Event::ItemObserved(seen)) if seen.observation == Observation::Gone => is_deleted,
            // Alive again, or not to be told: then it is asked for as any other item.
            _ => false,
        };
    }
    Ok(is_deleted)
}
