//! One calendar, opened: reading, deleting, putting back and watching its events.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::accounts::{PRIMARY, resolved_id};
use super::coverage::{Deadline, deadline};
use super::error::unknown;
use super::event::{EventView, ParsedEvent};
use super::restore;
use super::sources::SourceUser;
use super::text::{case_links, detail, mentions_product};
use super::titles::Title;
use crate::clients::ErrorClass;
use crate::clients::google::{
    CalendarReader, CalendarWriter, ChannelEnd, Google, GoogleError, Listing, RawItem, Session,
};
use crate::clients::http::WriteTransport;
use crate::engine::with_causes;
use crate::executors::{
    ChannelStop, Found, ItemError, Place, PutBack, Restored, Seen, SeenItem, Unreachable, WayBack,
    Written,
};

/// One of a user's calendars.
pub struct CalendarPlace {
    /// How it is asked for: `primary`, or its id.
    name: String,
    /// v1's watch channels of it: their ids, and Google's names of what they watch.
    channels: Vec<(String, String)>,
    reader: CalendarReader,
    /// None where it was opened for looking alone.
    writer: Option<CalendarWriter>,
    through: String,
    same_token: bool,
    /// The live events that say which deadline they stand for, listed when they are first asked for.
    standing: OnceCell<Vec<(Deadline, Standing)>>,
    /// Which event each of them was taken to stand in for: one cannot stand in for two.
    stand_ins: Mutex<HashMap<String, String>>,
}

/// What a live event says of the case that it is of.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    id: String,
    cases: Vec<Uuid>,
    beneficiary: Option<String>,
}

impl Standing {
    fn of(view: &EventView) -> Self {
        let text = view.description.as_deref().unwrap_or_default();
        Self {
            id: view.id.clone(),
            cases: case_links(text).into_iter().map(|(_, case)| case).collect(),
            beneficiary: detail(text, "Beneficiary"),
        }
    }

    /// Whether the two may be of one case, and then whether that is said. v1 names the case and its beneficiary, v2 the beneficiary alone.
    fn fits(&self, other: &Self) -> Option<bool> {
        if !self.cases.is_empty() && !other.cases.is_empty() {
            let same = self.cases.iter().any(|case| other.cases.contains(case));
            return same.then_some(true);
        }
        match (&self.beneficiary, &other.beneficiary) {
            (Some(one), Some(another)) => (one == another).then_some(true),
            _ => Some(false),
        }
    }
}

impl CalendarPlace {
    /// Without a transport that can write it is for looking alone.
    pub(super) fn new(
        google: &Google,
        transport: Option<WriteTransport>,
        session: Arc<Session>,
        through: String,
        second: Option<&str>,
        channels: Vec<(String, String)>,
        same_token: bool,
    ) -> Self {
        let reader = google.calendar(session.clone());
        Self {
            name: second.unwrap_or(PRIMARY).to_owned(),
            channels,
            reader,
            writer: transport.map(|transport| CalendarWriter::new(google, transport, session)),
            through,
            same_token,
            standing: OnceCell::new(),
            stand_ins: Mutex::default(),
        }
    }

    /// A calendar by its own id: who cannot see that one sees no other in its place.
    pub(super) fn named(
        google: &Google,
        transport: Option<WriteTransport>,
        calendar: &str,
        session: Arc<Session>,
        through: String,
    ) -> Self {
        Self::new(
            google,
            transport,
            session,
            through,
            Some(calendar),
            Vec::new(),
            true,
        )
    }

    /// The calendar's own id.
    pub(super) async fn resolved(&self, user: &SourceUser) -> Result<String, Unreachable> {
        let listing = self.reader.list_all(PRIMARY).await;
        let listing = listing.map_err(|error| Unreachable::calendar(&error))?;
        Ok(resolved_id(&listing, user))
    }

    /// Whether there is such a calendar for this account, by its first page.
    pub(super) async fn is_there(&self) -> Result<bool, Unreachable> {
        match self.reader.probe(&self.name).await {
            Ok(()) => Ok(true),
            Err(error) if is_kept_from(&error) => Ok(false),
            Err(error) => Err(Unreachable::calendar(&error)),
        }
    }

    fn writer(&self) -> Result<&CalendarWriter, ItemError> {
        let none = || unknown("the calendar was opened for looking alone");
        self.writer.as_ref().ok_or_else(none)
    }

    async fn standing(&self) -> Result<&[(Deadline, Standing)], ItemError> {
        let standing = || async {
            let listing = self.reader.list_all(&self.name).await?;
            let live = listing.items.iter().filter(|item| !is_cancelled(item));
            let deadlines = live.filter_map(|item| {
                let parsed = ParsedEvent::parse(&item.bytes);
                let view = parsed.best_view()?;
                Some((deadline(view)?, Standing::of(view)))
            });
            Ok::<_, ItemError>(deadlines.collect())
        };
        let standing: &Vec<_> = self.standing.get_or_try_init(standing).await?;
        Ok(standing)
    }
}

#[async_trait]
impl Place for CalendarPlace {
    fn through(&self) -> String {
        self.through.clone()
    }

    fn keeps_cursors(&self) -> bool {
        self.same_token
    }

    async fn read(&self, item: &str) -> Result<Found, ItemError> {
        match self.reader.get(&self.name, item).await {
            Ok(found) if is_cancelled(&found.item) => Ok(Found::Deleted {
                at: updated(&found.item),
                version: found.item.etag,
            }),
            Ok(found) => Ok(Found::There {
                version: found.item.etag,
                bytes: Some(found.item.bytes),
            }),
            Err(error) if error.class() == ErrorClass::Gone => Ok(Found::Absent),
            // Google says the same of an event that is not there and of a calendar that the account cannot see (any more).
            Err(error) if error.class() == ErrorClass::NotFound => {
                match self.reader.probe(&self.name).await {
                    Ok(()) => Ok(Found::Absent),
                    Err(error) if is_not_shared(&error) => Err(kept_from(&error)),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn backup(&self, item: &str, version: &str) -> Result<Option<Bytes>, ItemError> {
        Ok(match self.read(item).await? {
            Found::There {
                version: Some(now),
                bytes,
            } if now == version => bytes,
            _ => None,
        })
    }

    async fn ready(&self) -> Result<(), ItemError> {
        Ok(self.writer()?.ready().await?)
    }

    async fn delete(
        &self,
        item: &str,
        version: &str,
        limit: Duration,
    ) -> Result<Written, ItemError> {
        let written = self
            .writer()?
            .delete_within(&self.name, item, version, limit)
            .await?;
        Ok(Written {
            status: Some(written.status),
            date: written.date,
        })
    }

    async fn ways_back(
        &self,
        item: &str,
        backup: &[u8],
        token: &str,
    ) -> Result<Vec<WayBack>, ItemError> {
        restore::ways_back(item, backup, token).ok_or_else(unreadable)
    }

    async fn restore(&self, back: &PutBack<'_>, limit: Duration) -> Result<Restored, ItemError> {
        let writer = self.writer()?;
        let written = match back.way {
            restore::UNCANCEL => {
                let change = restore::uncancelling(back.backup).ok_or_else(unreadable)?;
                let patched =
                    writer.patch_within(&self.name, back.becomes, back.version, &change, limit);
                patched.await?
            }
            restore::INSERT => {
                let event = restore::to_insert(back.backup, back.becomes).ok_or_else(unreadable)?;
                writer.insert_within(&self.name, event, limit).await?
            }
            other => {
                return Err(unknown(&format!(
                    "there is no way called {other} to put an event back"
                )));
            }
        };
        Ok(Restored {
            version: written.item.etag,
            written: Written {
                status: Some(200),
                date: written.date,
            },
        })
    }

    async fn differences(&self, backup: &[u8], now: &[u8]) -> Result<Vec<String>, ItemError> {
        restore::differences(backup, now).ok_or_else(unreadable)
    }

    async fn stand_in(&self, backup: &[u8], except: &BTreeSet<String>) -> Result<bool, ItemError> {
        let parsed = ParsedEvent::parse(backup);
        let view = parsed.best_view();
        let Some((view, wanted)) = view.and_then(|view| Some((view, deadline(view)?))) else {
            return Ok(false);
        };
        let wants = Standing::of(view);
        let standing = self.standing().await?;
        let mut stand_ins = self
            .stand_ins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let free = standing.iter().filter(|(at, one)| {
            let taken_for = stand_ins.get(&one.id);
            *at == wanted
                && !except.contains(&one.id)
                && taken_for.is_none_or(|other| *other == wants.id)
        });
        let fitting = free.filter_map(|(_, one)| Some((one.fits(&wants)?, one)));
        let Some((_, one)) = fitting.max_by_key(|(is_sure, _)| *is_sure) else {
            return Ok(false);
        };
        stand_ins.insert(one.id.clone(), wants.id);
        Ok(true)
    }

    fn channels(&self) -> Vec<String> {
        self.channels.iter().map(|(id, _)| id.clone()).collect()
    }

    async fn stop_channel(&self, channel: &str) -> Result<ChannelStop, ItemError> {
        let known = self.channels.iter().find(|(id, _)| id == channel);
        let (id, resource) = known.ok_or_else(|| unknown("v1 recorded no such channel"))?;
        Ok(match self.writer()?.stop_channel(id, resource).await? {
            ChannelEnd::Stopped => ChannelStop::Stopped,
            ChannelEnd::WasOver => ChannelStop::WasOver,
        })
    }

    async fn observe(&self, since: Option<&str>) -> Result<Seen, ItemError> {
        let reader = &self.reader;
        let changes = match since {
            Some(token) => match reader.list_changes(&self.name, token).await {
                Err(error) if error.is_full_sync_required() => None,
                other => Some(other?),
            },
            None => None,
        };
        Ok(match changes {
            Some(changes) => seen(&changes, false),
            None => seen(&reader.list_all(&self.name).await?, true),
        })
    }
}

fn seen(listing: &Listing, whole: bool) -> Seen {
    let item = |item: &RawItem| {
        Some(SeenItem {
            item: item.id.clone()?,
            version: item.etag.clone(),
            gone: is_cancelled(item),
            retired_wrote: written_by_v1(item),
        })
    };
    Seen {
        items: listing.items.iter().filter_map(item).collect(),
        whole,
        cursor: Some(listing.sync_token.clone()),
        count: listing.items.len() as u64,
        date: listing.ended,
    }
}

/// There is no such calendar, or not for this account.
fn is_kept_from(error: &GoogleError) -> bool {
    matches!(
        error.class(),
        ErrorClass::NotFound | ErrorClass::Gone | ErrorClass::Refused
    )
}

/// The calendar went, or its sharing did.
fn is_not_shared(error: &GoogleError) -> bool {
    is_kept_from(error)
        && (error.class() != ErrorClass::Refused || error.reason.as_deref() == Some("forbidden"))
}

/// Nothing is known about what lies in a calendar that cannot be seen.
fn kept_from(error: &GoogleError) -> ItemError {
    ItemError {
        class: ErrorClass::Refused,
        stops_user: true,
        reason: format!(
            "{}: the calendar itself cannot be seen through this account any more, so a 404 says nothing about its \
             events; have it shared again, then run it again",
            with_causes(error)
        ),
        ..ItemError::from(error)
    }
}

fn is_cancelled(item: &RawItem) -> bool {
    item.status.as_deref() == Some("cancelled")
}

/// When it was changed last: of a tombstone, when it was made.
fn updated(item: &RawItem) -> Option<DateTime<Utc>> {
    let event: serde_json::Value = serde_json::from_slice(&item.bytes).ok()?;
    let updated = DateTime::parse_from_rfc3339(event.get("updated")?.as_str()?).ok()?;
    Some(updated.with_timezone(&Utc))
}

/// When v1 made the event, where it names a case as only v1 does. Whoever it was, it is no event of v2's.
fn written_by_v1(item: &RawItem) -> Option<DateTime<Utc>> {
    let parsed = ParsedEvent::parse(&item.bytes);
    let view = parsed.best_view()?;
    let text = view.description.as_deref()?;
    let titled = view.summary.as_deref().and_then(Title::parse).is_some();
    (titled && mentions_product(text) && !case_links(text).is_empty())
        .then_some(view.created)
        .flatten()
}

fn unreadable() -> ItemError {
    unknown("the event or its backup is not JSON that can be read")
}

/// Google's error, for where a place cannot be opened.
impl From<&GoogleError> for Unreachable {
    fn from(error: &GoogleError) -> Self {
        Self::calendar(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_events_are_of_one_case_unless_they_say_otherwise() {
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let standing = |cases: &[Uuid], beneficiary: Option<&str>| Standing {
            id: "x".to_owned(),
            cases: cases.to_vec(),
            beneficiary: beneficiary.map(str::to_owned),
        };
        for (one, other, fits) in [
            (
                standing(&[a], Some("A.")),
                standing(&[], Some("A.")),
                Some(true),
            ),
            (standing(&[a], Some("A.")), standing(&[], Some("B.")), None),
            (standing(&[a], None), standing(&[], Some("B.")), Some(false)),
            (standing(&[a], Some("A.")), standing(&[b], Some("A.")), None),
            (standing(&[a], None), standing(&[b, a], None), Some(true)),
            (standing(&[], None), standing(&[], None), Some(false)),
        ] {
            assert_eq!(one.fits(&other), fits, "{one:?} {other:?}");
            assert_eq!(other.fits(&one), fits, "{one:?} {other:?}");
        }
    }
}
