//! Looking again: what changed on a calendar between the plan and the run, and between right before it and right after.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use ledger::domain::custody::Observation;
use ledger::domain::event::{ContainerListed, Event, ItemObserved};
use ledger::domain::id::{RunId, Subject};
use ledger::store::read::Filter;

use super::EngineError;
use super::accounts::PRIMARY;
use super::live::Place;
use super::step::Live;
use crate::clients::google::{CalendarReader, GoogleError, Listing};

impl Live {
    /// The sync token from right before the deletions. A resumed run keeps that of its first part; else the changes since
    /// the plan are listed, and recorded.
    pub(super) async fn list_before(
        &self,
        calendar: &CalendarReader,
        place: &Place,
    ) -> Result<Result<String, GoogleError>, EngineError> {
        if let Some(token) = self.kept_token(place, self.recorder.run, "before").await? {
            return Ok(Ok(token));
        }
        let planned = self.kept_token(place, self.plan.run, "plan").await?;
        let listing = match planned {
            Some(token) => changes_or_all(calendar, &token).await,
            None => calendar.list_all(PRIMARY).await,
        };
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => return Ok(Err(error)),
        };
        self.record_listing(place, "before", &listing, 0).await?;
        Ok(Ok(listing.sync_token))
    }

    /// Lists the changes since right before the deletions and compares them with the items that the ledger says are gone.
    /// Gives how many changes to planned or recorded items no entry explains.
    pub(super) async fn observe_after(
        &self,
        calendar: &CalendarReader,
        place: &Place,
        before: &str,
        explained: &HashSet<&Subject>,
    ) -> Result<Result<u64, GoogleError>, EngineError> {
        let listing = match changes_or_all(calendar, before).await {
            Ok(listing) => listing,
            Err(error) => return Ok(Err(error)),
        };
        let gone_now: HashSet<&str> = listing
            .items
            .iter()
            .filter(|item| item.status.as_deref() == Some("cancelled"))
            .filter_map(|item| item.id.as_deref())
            .collect();
        let seen: HashSet<&str> = listing
            .items
            .iter()
            .filter_map(|item| item.id.as_deref())
            .collect();
        let mut unexplained = 0;
        for item in self
            .plan
            .items
            .iter()
            .filter(|item| item.place == place.calendar)
        {
            let ours = explained.contains(&item.subject);
            let observation = match (seen.contains(item.item.as_str()), ours) {
                (false, _) => continue,
                (true, true) if gone_now.contains(item.item.as_str()) => continue,
                (true, false) if gone_now.contains(item.item.as_str()) => Observation::Gone,
                _ => Observation::Changed,
            };
            unexplained += 1;
            let event = Event::ItemObserved(ItemObserved {
                run: self.recorder.run,
                observation,
                explained: false,
                version: None,
            });
            let appended = self
                .record(&event, &item.subject, &place.owner, None, None)
                .await?;
            self.log.entry(&appended, &[("observed", "unexplained")]);
        }
        self.record_listing(place, "after", &listing, unexplained)
            .await?;
        Ok(Ok(unexplained))
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

/// The changes since a token; where it is too old, everything that is there.
async fn changes_or_all(calendar: &CalendarReader, token: &str) -> Result<Listing, GoogleError> {
    match calendar.list_changes(PRIMARY, token).await {
        Err(error) if error.is_full_sync_required() => calendar.list_all(PRIMARY).await,
        other => other,
    }
}
