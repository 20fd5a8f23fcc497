//! Looking again: what changed on a calendar between the plan and the run, and between right before it and right after.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use ledger::domain::custody::Observation;
use ledger::domain::event::{ContainerListed, Event, ItemObserved};
use ledger::domain::id::{RunId, Subject};
use ledger::domain::identify::Disposition;
use ledger::projections::plan::PlannedItem;
use ledger::store::read::Filter;

use super::EngineError;
use super::accounts::{PRIMARY, Unreachable, resolved_id};
use super::live::{Ends, Place};
use super::sources::SourceUser;
use super::step::Live;
use crate::clients::google::{CalendarReader, GoogleError, Listing, RawItem};

/// A listing, and whether it is of everything or of what changed since a token.
struct Seen {
    listing: Listing,
    whole: bool,
}

impl Live {
    /// The sync token from right before the deletions. A resumed run keeps that of its first part; else the changes since
    /// the plan are listed, and those to items that the plan leaves alone are recorded.
    pub(super) async fn list_before(
        &self,
        calendar: &CalendarReader,
        place: &Place,
        user: &SourceUser,
    ) -> Result<Result<String, Unreachable>, EngineError> {
        let same_account = place.user.is_some_and(|user| user.same_token);
        if same_account
            && let Some(token) = self.kept_token(place, self.recorder.run, "before").await?
        {
            return Ok(Ok(token));
        }
        let planned = self.kept_token(place, self.plan.run, "plan").await?;
        let seen = match planned.filter(|_| same_account) {
            Some(token) => changes_or_all(calendar, &token).await,
            None => all(calendar).await,
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(Unreachable::calendar(&error))),
        };
        // Another stored token may lead to another account, where a 404 says nothing about the item.
        if !same_account && resolved_id(&seen.listing, user) != place.calendar {
            return Ok(Err(Unreachable::other_account()));
        }
        let left_alone = self
            .planned_at(place)
            .filter(|item| item.disposition != Disposition::Delete);
        let changed = self
            .record_differences(place, &seen, left_alone, &HashSet::new())
            .await?;
        self.record_listing(place, "before", &seen.listing, changed)
            .await?;
        Ok(Ok(seen.listing.sync_token))
    }

    /// Lists the changes since right before the deletions and compares them with the items that the ledger says are gone.
    /// Gives how many changes to planned or recorded items no entry explains.
    pub(super) async fn observe_after(
        &self,
        calendar: &CalendarReader,
        place: &Place,
        before: &str,
        ends: &Ends<'_>,
    ) -> Result<Result<u64, GoogleError>, EngineError> {
        let seen = match changes_or_all(calendar, before).await {
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
        self.record_listing(place, "after", &seen.listing, unexplained)
            .await?;
        Ok(Ok(unexplained))
    }

    fn planned_at<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a PlannedItem> {
        let positions = self.by_place.get(&place.calendar).into_iter().flatten();
        positions.filter_map(|n| self.plan.items.get(*n))
    }

    async fn record_differences<'a>(
        &self,
        place: &Place,
        seen: &Seen,
        items: impl Iterator<Item = &'a PlannedItem>,
        gone: &HashSet<&Subject>,
    ) -> Result<u64, EngineError> {
        let by_id: HashMap<&str, &RawItem> = seen
            .listing
            .items
            .iter()
            .filter_map(|item| Some((item.id.as_deref()?, item)))
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
                version: now.and_then(|now| now.etag.clone()),
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
        listing: &Listing,
        unexplained: u64,
    ) -> Result<(), EngineError> {
        let event = Event::ContainerListed(ContainerListed {
            phase: phase.to_owned(),
            place: place.calendar.clone(),
            sync_token: Some(listing.sync_token.clone()),
            items: listing.items.len() as u64,
            remote_date: listing.ended.map(|date| date.to_rfc3339()),
            unexplained,
        });
        let appended = self
            .record(&event, &place.owner, &place.owner, None, None)
            .await?;
        self.log.entry(
            &appended,
            &[
                ("phase", phase),
                ("items", &listing.items.len().to_string()),
            ],
        );
        Ok(())
    }

    async fn kept_token(
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
    now: Option<&RawItem>,
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
        Some(now) => now.status.as_deref() == Some("cancelled"),
    };
    if is_gone {
        return (was_there && !explained).then_some(Observation::Gone);
    }
    let same = now.is_some_and(|now| now.etag == planned.version);
    (explained || !same).then_some(Observation::Changed)
}

async fn all(calendar: &CalendarReader) -> Result<Seen, GoogleError> {
    let listing = calendar.list_all(PRIMARY).await?;
    Ok(Seen {
        listing,
        whole: true,
    })
}

/// The changes since a token; where it is too old, everything that is there.
async fn changes_or_all(calendar: &CalendarReader, token: &str) -> Result<Seen, GoogleError> {
    match calendar.list_changes(PRIMARY, token).await {
        Err(error) if error.is_full_sync_required() => all(calendar).await,
        Err(error) => Err(error),
        Ok(listing) => Ok(Seen {
            listing,
            whole: false,
        }),
    }
}
