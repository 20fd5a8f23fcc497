//! One calendar, opened: reading, deleting, putting back and watching its events.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::accounts::{PRIMARY, resolved_id};
use super::error::unknown;
use super::sources::SourceUser;
use crate::clients::ErrorClass;
use crate::clients::google::{
    CalendarWriter, ChannelEnd, Google, GoogleError, Listing, RawItem, Session,
};
use crate::clients::http::WriteTransport;
use crate::executors::{
    ChannelStop, Found, ItemError, Place, Restored, Seen, SeenItem, Unreachable, Written,
};

/// One of a user's calendars.
pub struct CalendarPlace {
    writer: CalendarWriter,
    /// How it is asked for: `primary`, or its id.
    name: String,
    /// v1's watch channels of it: their ids, and Google's names of what they watch.
    channels: Vec<(String, String)>,
    through: String,
    same_token: bool,
}

impl CalendarPlace {
    pub(super) fn new(
        google: &Google,
        transport: WriteTransport,
        session: Arc<Session>,
        user: &SourceUser,
        second: Option<&str>,
        channels: Vec<(String, String)>,
        same_token: bool,
    ) -> Self {
        Self {
            name: second.unwrap_or(PRIMARY).to_owned(),
            channels,
            writer: CalendarWriter::new(google, transport, session),
            through: user.id.clone(),
            same_token,
        }
    }

    /// The calendar's own id.
    pub(super) async fn resolved(&self, user: &SourceUser) -> Result<String, Unreachable> {
        let listing = self.writer.reader().list_all(PRIMARY).await;
        let listing = listing.map_err(|error| Unreachable::calendar(&error))?;
        Ok(resolved_id(&listing, user))
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
        match self.writer.reader().get(&self.name, item).await {
            Ok(found) if is_cancelled(&found.item) => Ok(Found::Deleted {
                at: updated(&found.item),
            }),
            Ok(found) => Ok(Found::There {
                version: found.item.etag,
                bytes: Some(found.item.bytes),
            }),
            Err(error) if matches!(error.class(), ErrorClass::NotFound | ErrorClass::Gone) => {
                Ok(Found::Absent)
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

    async fn delete(
        &self,
        item: &str,
        version: &str,
        limit: Duration,
    ) -> Result<Written, ItemError> {
        let written = self
            .writer
            .delete_within(&self.name, item, version, limit)
            .await?;
        Ok(Written {
            status: Some(written.status),
            date: written.date,
        })
    }

    async fn restore(
        &self,
        way: &str,
        _item: &str,
        _backup: &[u8],
        _limit: Duration,
    ) -> Result<Restored, ItemError> {
        Err(unknown(&format!(
            "there is no way called {way} to put an event back"
        )))
    }

    fn ways_back(&self) -> &'static [&'static str] {
        &[]
    }

    fn differences(&self, _backup: &[u8], _now: &[u8]) -> Vec<String> {
        Vec::new()
    }

    fn channels(&self) -> Vec<String> {
        self.channels.iter().map(|(id, _)| id.clone()).collect()
    }

    async fn stop_channel(&self, channel: &str) -> Result<ChannelStop, ItemError> {
        let known = self.channels.iter().find(|(id, _)| id == channel);
        let (id, resource) = known.ok_or_else(|| unknown("v1 recorded no such channel"))?;
        Ok(match self.writer.stop_channel(id, resource).await? {
            ChannelEnd::Stopped => ChannelStop::Stopped,
            ChannelEnd::WasOver => ChannelStop::WasOver,
        })
    }

    async fn observe(&self, since: Option<&str>) -> Result<Seen, ItemError> {
        let reader = self.writer.reader();
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

fn is_cancelled(item: &RawItem) -> bool {
    item.status.as_deref() == Some("cancelled")
}

/// When it was changed last: of a tombstone, when it was made.
fn updated(item: &RawItem) -> Option<DateTime<Utc>> {
    let event: serde_json::Value = serde_json::from_slice(&item.bytes).ok()?;
    let updated = DateTime::parse_from_rfc3339(event.get("updated")?.as_str()?).ok()?;
    Some(updated.with_timezone(&Utc))
}

/// Google's error, for where a place cannot be opened.
impl From<&GoogleError> for Unreachable {
    fn from(error: &GoogleError) -> Self {
        Self::calendar(error)
    }
}
