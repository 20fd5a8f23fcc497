//! Looking again: what changed in a place between the plan and the run, and between right before it and right after.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use ledger::domain::custody::Observation;
use ledger::domain::event::{ContainerListed, Event, ItemObserved};
use ledger::domain::id::{RunId, Subject};
use ledger::domain::identify::Disposition;
use ledger::projections::plan::PlannedItem;
use ledger::store::read::Filter;

use super::EngineError;
use super::place::{Ends, Place};
use super::step::Live;
use crate::executors::{ItemError, Place as OpenPlace, Seen, SeenItem};

impl Live {
    /// The cursor from right before the deletions. A resumed run keeps that of its first part; else the changes since
    /// the plan are listed, and those to items that the plan leaves alone are recorded.
    pub(super) async fn list_before(
        &self,
        opened: &dyn OpenPlace,
        place: &Place,
    ) -> Result<Result<Option<String>, ItemError>, EngineError> {
        let keeps = opened.keeps_cursors();
        if keeps && let Some(cursor) = self.kept_cursor(place, self.recorder.run, "before").await? {
            return Ok(Ok(Some(cursor)));
        }
        let planned = self.kept_cursor(place, self.plan.run, "plan").await?;
        let seen = match opened.observe(planned.as_deref().filter(|_| keeps)).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let left_alone = self
            .planned_at(place)
            .filter(|item| item.disposition != Disposition::Delete);
        let changed = self
            .record_differences(place, &seen, left_alone, &HashSet::new())
            .await?;
        self.record_listing(place, "before", &seen, changed).await?;
        Ok(Ok(seen.cursor))
    }

    /// Lists the changes since right before the deletions and compares them with the items that the ledger says are gone.
    /// Gives how many changes to planned or recorded items no entry explains.
    pub(super) async fn observe_after(
        &self,
        opened: &dyn OpenPlace,
        place: &Place,
        before: Option<&str>,
        ends: &Ends<'_>,
    ) -> Result<Result<u64, ItemError>, EngineError> {
        let seen = match opened.observe(before).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        // A listing of everything also shows what had changed before, which the run has held.
        let items = self
            .planned_at(place)
            .filter(|item| !(seen.whole && ends.held.contains(&item.subject)))
            .filter(|item| !ends.open.contains(&item.subject));
        let unexplained = self
            .record_differences(place, &seen, items, &ends.gone)
            .await?;
        self.record_listing(place, "after", &seen, unexplained)
            .await?;
        Ok(Ok(unexplained))
    }

    fn planned_at<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a PlannedItem> {
        let positions = self.by_place.get(&place.id).into_iter().flatten();
        positions.filter_map(|n| self.plan.items.get(*n))
    }

    async fn record_differences<'a>(
        &self,
        place: &Place,
        seen: &Seen,
        items: impl Iterator<Item = &'a PlannedItem>,
        gone: &HashSet<&Subject>,
    ) -> Result<u64, EngineError> {
        let by_id: HashMap<&str, &SeenItem> = seen
            .items
            .iter()
            .map(|item| (item.item.as_str(), item))
            .collect();
        let mut count = 0;
        for item in items {
            let now = by_id.get(item.item.as_str()).copied();
            let explained = gone.contains(&item.subject);
            let Some(observation) = difference(item, now, seen.whole, explained) else {
                continue;
            };
            count += 1;
            let event = Event::ItemObserved(ItemObserved {
                run: self.recorder.run,
                observation,
                explained: false,
                version: now.and_then(|now| now.version.clone()),
            });
            let appended = self
                .record(&event, &item.subject, &place.owner, None, None)
                .await?;
            self.log.entry(&appended, &[("observed", "unexplained")]);
        }
        Ok(count)
    }

    async fn record_listing(
        &self,
        place: &Place,
        phase: &str,
        seen: &Seen,
        unexplained: u64,
    ) -> Result<(), EngineError> {
        let event = Event::ContainerListed(ContainerListed {
            phase: phase.to_owned(),
            place: place.id.clone(),
            sync_token: seen.cursor.clone(),
            items: seen.count,
            remote_date: seen.date.map(|date| date.to_rfc3339()),
            unexplained,
        });
        let appended = self
            .record(&event, &place.owner, &place.owner, None, None)
            .await?;
        self.log.entry(
            &appended,
            &[("phase", phase), ("items", &seen.count.to_string())],
        );
        Ok(())
    }

    async fn kept_cursor(
        &self,
        place: &Place,
        run: RunId,
        phase: &str,
    ) -> Result<Option<String>, EngineError> {
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
                return Ok(listed.sync_token);
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
