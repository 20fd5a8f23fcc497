//! How far the execution of a plan has come, item by item, for a run that goes on where another stopped.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::Unreadable;
use super::overlay::base_of;
use super::plan::{PlanError, for_each, unreadable};
use crate::domain::custody::DeleteOutcome;
use crate::domain::event::Event;
use crate::domain::hash::Hash;
use crate::domain::id::{EntryId, RunId, Subject, Timestamp};
use crate::domain::review::Decision;
use crate::store::Store;

/// An intent without outcome: its effect may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub open: Option<Box<OpenIntent>>,
    /// How the last ended attempt ended.
    pub outcome: Option<DeleteOutcome>,
    /// It was left for a person without an attempt, or a person decided to keep it.
    pub held: bool,
    /// It was deleted and put back since: undoing is the last word on it under these plans.
    pub restored: bool,
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
pub async fn progress(store: &Store, plan: Hash) -> Result<BTreeMap<Subject, Progress>, PlanError> {
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
    let mut items: BTreeMap<Subject, Progress> = BTreeMap::new();
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
                let item = items.entry(entry.subject.clone()).or_default();
                item.attempts = item.attempts.max(intent.attempt);
                item.open = Some(Box::new(OpenIntent {
                    id: entry.id,
                    seq: entry.seq,
                    recorded_at: entry.recorded_at,
                    run: entry.run,
                    subject: entry.subject,
                    attempt: intent.attempt,
                    place: intent.place,
                    item: intent.item,
                    version: intent.version,
                    backup_sha256: intent.backup.sha256,
                }));
            }
            Event::ItemDeleted(deleted) => {
                close(
                    &mut items,
                    &entry.subject,
                    deleted.intent,
                    deleted.outcome.into(),
                );
            }
            Event::ItemDeleteFailed(failed) => {
                close(
                    &mut items,
                    &entry.subject,
                    failed.intent,
                    failed.outcome.into(),
                );
            }
            Event::ItemHeld(held) if plans.contains(&held.plan) => {
                items.entry(entry.subject).or_default().held = true;
            }
            Event::ItemDecided(decided) if decided.decision == Decision::Keep => {
                if let Some(run) = entry.run {
                    kept.entry(run).or_default().push(entry.subject);
                }
            }
            // Another plan's deletion that was undone finds nothing here.
            Event::ItemRestored(_) => {
                if let Some(item) = items.get_mut(&entry.subject) {
                    item.restored = true;
                }
            }
            // A decision counts from here on.
            Event::PlanSealed(_) => {
                let run = entry.run.and_then(|run| kept.remove(&run));
                for subject in run.unwrap_or_default() {
                    items.entry(subject).or_default().held = true;
                }
            }
            _ => {}
        }
        Ok(())
    })
    .await?;
    Ok(items)
}

fn close(
    items: &mut BTreeMap<Subject, Progress>,
    subject: &Subject,
    intent: EntryId,
    outcome: DeleteOutcome,
) {
    // An outcome of another plan's intent finds nothing open here.
    if let Some(item) = items.get_mut(subject)
        && item.open.as_ref().is_some_and(|open| open.id == intent)
    {
        item.open = None;
        item.outcome = Some(outcome);
    }
}

/// The intents of a plan without outcome, oldest first: what a run has to recover before it does anything else.
///
/// # Errors
/// As [`progress`].
pub async fn open_intents(store: &Store, plan: Hash) -> Result<Vec<OpenIntent>, PlanError> {
    let items = progress(store, plan).await?;
    let open = items.into_values().filter_map(|item| item.open);
    let mut open: Vec<OpenIntent> = open.map(|open| *open).collect();
    open.sort_by_key(|intent| intent.seq);
    Ok(open)
}
