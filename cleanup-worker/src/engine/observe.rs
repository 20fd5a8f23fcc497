//! Looking again: what changed in a place between the plan and the run, and between right before it and right after.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use ledger::domain::custody::Observation;
use ledger::domain::event::{ContainerListed, Event, ItemObserved, LateItem, LateWritten};
use ledger::domain::id::{RunId, Subject, Timestamp};
use ledger::domain::identify::Disposition;
use ledger::projections::plan::PlannedItem;
use ledger::store::read::Filter;

use super::EngineError;
use super::patience::patiently;
use super::place::{Ends, Place};
use super::step::Live;
use crate::executors::{Found, ItemError, Place as OpenPlace, Seen, SeenItem};

/// A listing of a place, as an entry tells of it.
struct Kept {
    cursor: Option<String>,
    at: Timestamp,
}

/// Changes to planned or recorded items that no entry explains.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unexplained {
    pub(super) all: u64,
    /// Of these: items that the ledger says are gone, and that are there.
    pub(super) there_again: u64,
}

impl Live {
    /// The cursor from right before the deletions. A resumed run keeps that of its first part; else the changes since
    /// the plan are listed, and those to items that the plan leaves alone are recorded.
    pub(super) async fn list_before(
        &self,
        opened: &dyn OpenPlace,
        place: &Place<'_>,
    ) -> Result<Result<Option<String>, ItemError>, EngineError> {
        let keeps = opened.keeps_cursors();
        let run = self.recorder.run;
        if keeps
            && let Some(kept) = patiently(|| self.kept_listing(place, run, "before")).await?
            && kept.cursor.is_some()
        {
            return Ok(Ok(kept.cursor));
        }
        let planned = patiently(|| self.kept_listing(place, self.plan.run, "plan")).await?;
        let cursor = planned.as_ref().and_then(|kept| kept.cursor.as_deref());
        let seen = match opened.observe(cursor.filter(|_| keeps)).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let left_alone = place.left_alone.iter();
        let changed = self
            .record_differences(place, &seen, left_alone, &HashSet::new())
            .await?;
        let since = planned.as_ref().map(|kept| kept.at);
        self.record_late(place, &seen, since).await?;
        self.record_listing(place, "before", &seen, changed.all)
            .await?;
        Ok(Ok(seen.cursor))
    }

    /// Lists the changes since right before the deletions and compares them with the items that the ledger says are gone.
    pub(super) async fn observe_after(
        &self,
        opened: &dyn OpenPlace,
        place: &Place<'_>,
        before: Option<&str>,
        ends: &Ends<'_>,
    ) -> Result<Result<Unexplained, ItemError>, EngineError> {
        let seen = match self.look_after(opened, place, before, ends).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        // A listing of everything also shows what had changed before, which the run has held.
        let items = place
            .planned()
            .filter(|item| !(seen.whole && ends.held.contains(&item.subject)))
            .filter(|item| !ends.open.contains(&item.subject));
        let unexplained = self
            .record_differences(place, &seen, items, &ends.gone)
            .await?;
        self.record_late(place, &seen, None).await?;
        self.record_listing(place, "after", &seen, unexplained.all)
            .await?;
        Ok(Ok(unexplained))
    }

    /// The changes since a cursor. A deletion is a change: what was deleted since and is not named is asked about by itself, for an answer
    /// that said so need not have come from where the item lies.
    async fn look_after(
        &self,
        opened: &dyn OpenPlace,
        place: &Place<'_>,
        before: Option<&str>,
        ends: &Ends<'_>,
    ) -> Result<Seen, ItemError> {
        let mut seen = opened.observe(before).await?;
        if seen.whole {
            return Ok(seen);
        }
        let named: HashSet<&str> = seen.items.iter().map(|item| item.item.as_str()).collect();
        let deleted = place.items.iter();
        let deleted = deleted.filter(|item| ends.now.contains(&item.subject));
        let silent: Vec<&PlannedItem> = deleted
            .filter(|item| !named.contains(item.item.as_str()))
            .collect();
        for item in silent {
            if let Found::There { version, .. } = opened.read(&item.item).await? {
                seen.items.push(SeenItem {
                    item: item.item.clone(),
                    version,
                    ..SeenItem::default()
                });
            }
        }
        Ok(seen)
    }

    /// What the retired system made since the inventory listed this place, at the latest since the seal, and no plan names: it is not frozen.
    async fn record_late(
        &self,
        place: &Place<'_>,
        seen: &Seen,
        since: Option<Timestamp>,
    ) -> Result<(), EngineError> {
        let known: HashSet<&str> = place.planned().map(|item| item.item.as_str()).collect();
        let since = since.unwrap_or(self.plan.entry.recorded_at);
        let others = seen.items.iter().filter(|item| !item.gone);
        let others = others.filter(|item| !known.contains(item.item.as_str()));
        let late = others.filter_map(|item| {
            let at = item.retired_wrote.filter(|at| *at > since.instant())?;
            Some(LateItem {
                item: item.item.clone(),
                written_at: at.to_rfc3339(),
            })
        });
        let items: Vec<LateItem> = late.collect();
        if items.is_empty() {
            return Ok(());
        }
        let count = items.len().to_string();
        let event = Event::LateWritten(LateWritten {
            run: self.recorder.run,
            place: place.id.to_owned(),
            items,
        });
        let appended = self
            .record(&event, place.owner, place.owner, None, None)
            .await?;
        self.log.entry(&appended, &[("late", &count)]);
        Ok(())
    }

    async fn record_differences<'a>(
        &self,
        place: &Place<'_>,
        seen: &Seen,
        items: impl Iterator<Item = &'a PlannedItem>,
        gone: &HashSet<&Subject>,
    ) -> Result<Unexplained, EngineError> {
        let by_id: HashMap<&str, &SeenItem> = seen
            .items
            .iter()
            .map(|item| (item.item.as_str(), item))
            .collect();
        let mut count = Unexplained::default();
        for item in items {
            let now = by_id.get(item.item.as_str()).copied();
            let explained = gone.contains(&item.subject);
            let Some(observation) = difference(item, now, seen.whole, explained) else {
                continue;
            };
            count.all += 1;
            count.there_again += u64::from(explained);
            let event = Event::ItemObserved(ItemObserved {
                run: self.recorder.run,
                observation,
                explained: false,
                version: now.and_then(|now| now.version.clone()),
            });
            let appended = self
                .record(&event, &item.subject, place.owner, None, None)
                .await?;
            self.log.entry(&appended, &[("observed", "unexplained")]);
        }
        Ok(count)
    }

    async fn record_listing(
        &self,
        place: &Place<'_>,
        phase: &str,
        seen: &Seen,
        unexplained: u64,
    ) -> Result<(), EngineError> {
        let event = Event::ContainerListed(ContainerListed {
            phase: phase.to_owned(),
            place: place.id.to_owned(),
            sync_token: seen.cursor.clone(),
            items: seen.count,
            whole: false,
            remote_date: seen.date.map(|date| date.to_rfc3339()),
            unexplained,
        });
        let appended = self
            .record(&event, place.owner, place.owner, None, None)
            .await?;
        self.log.entry(
            &appended,
            &[("phase", phase), ("items", &seen.count.to_string())],
        );
        Ok(())
    }

    async fn kept_listing(
        &self,
        place: &Place<'_>,
        run: RunId,
        phase: &str,
    ) -> Result<Option<Kept>, EngineError> {
        let filter = Filter {
            types: "container.listed".parse().into_iter().collect(),
            subject: Some(place.owner.clone()),
            run: Some(run),
            ..Filter::default()
        };
        let mut entries = std::pin::pin!(self.recorder.store.read(filter));
        while let Some(recorded) = entries.next().await {
            let recorded = recorded?;
            let json = recorded.payload.json().unwrap_or_default();
            if let Ok(Event::ContainerListed(listed)) = Event::decode("container.listed", 1, json)
                && listed.phase == phase
            {
                return Ok(Some(Kept {
                    cursor: listed.sync_token,
                    at: recorded.entry.recorded_at,
                }));
            }
        }
        Ok(None)
    }
}

/// How an item differs from what the plan and the ledger say; `explained`: the ledger says that it is gone.
fn difference(
    planned: &PlannedItem,
    now: Option<&SeenItem>,
    whole: bool,
    explained: bool,
) -> Option<Observation> {
    let was_there = matches!(
        planned.disposition,
        Disposition::Delete | Disposition::Hold | Disposition::Protect
    ) && planned.version.is_some();
    let is_gone = match now {
        None if whole => true,
        None => return None,
        Some(now) => now.gone,
    };
    if is_gone {
        return (was_there && !explained).then_some(Observation::Gone);
    }
    let same = now.is_some_and(|now| now.version == planned.version);
    (explained || !same).then_some(Observation::Changed)
}
