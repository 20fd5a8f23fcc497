//! Calendars and their events, with the order of changes that sync tokens need.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text;
use crate::clock::rfc3339_ms;

/// The fields of an event, as Google would show them.
pub type Fields = Map<String, Value>;

/// A calendar before it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct CalendarSeed {
    /// Its id; of a primary calendar this is the account's address.
    pub id: String,
    /// The account that owns it.
    pub owner: String,
    /// Its title, where somebody renamed it; of a primary calendar it is the address until then.
    pub title: Option<String>,
    /// Other accounts that may read and write it.
    pub shared_with: Vec<String>,
    /// IANA name.
    pub time_zone: String,
    /// Its events, in the order in which a full listing gives them.
    pub events: Vec<EventSeed>,
}

/// An event before it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSeed {
    /// The resource.
    pub fields: Fields,
    /// How much of it is left.
    pub presence: Presence,
}

/// How much of an event its calendar still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// There, live or cancelled by its `status`.
    Held,
    /// Deleted, and its details are no longer given: 410 to every request.
    Gone,
}

/// An event as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) ordinal: u64,
    pub(crate) change: u64,
    pub(crate) presence: Presence,
    pub(crate) fields: Fields,
}

impl Stored {
    pub(crate) fn cancelled(&self) -> bool {
        self.presence == Presence::Gone || self.fields.get("status") == Some(&"cancelled".into())
    }

    pub(crate) fn etag(&self) -> &str {
        self.fields
            .get("etag")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// What a listing that does not ask for deleted events says of one: that it is gone, and no more.
    pub(crate) fn tombstone(&self) -> Value {
        let mut fields = Fields::new();
        for name in [
            "kind",
            "etag",
            "id",
            "recurringEventId",
            "originalStartTime",
        ] {
            if let Some(value) = self.fields.get(name) {
                fields.insert(name.to_owned(), value.clone());
            }
        }
        fields.insert("status".to_owned(), "cancelled".into());
        Value::Object(fields)
    }

    /// The resource as JSON text.
    pub(crate) fn render(&self) -> String {
        text::reveal(Value::Object(self.fields.clone()).to_string())
    }
}

/// One calendar.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    pub(crate) id: String,
    pub(crate) owner: String,
    /// As its owner calls it.
    pub(crate) title: String,
    shared_with: Vec<String>,
    pub(crate) time_zone: String,
    events: HashMap<String, Stored>,
    by_ordinal: BTreeMap<u64, String>,
    by_change: BTreeMap<u64, String>,
    /// Number of the latest change.
    pub(crate) change: u64,
    /// Sync tokens of an earlier change than this have expired.
    pub(crate) sync_floor: u64,
    pub(crate) updated: DateTime<Utc>,
}

impl Calendar {
    pub(crate) fn new(seed: &CalendarSeed, at: DateTime<Utc>) -> Self {
        let mut calendar = Self {
            id: seed.id.clone(),
            owner: seed.owner.clone(),
            title: seed.title.clone().unwrap_or_else(|| seed.id.clone()),
            shared_with: seed.shared_with.clone(),
            time_zone: seed.time_zone.clone(),
            events: HashMap::new(),
            by_ordinal: BTreeMap::new(),
            by_change: BTreeMap::new(),
            change: 0,
            sync_floor: 0,
            updated: at,
        };
        for event in &seed.events {
            calendar.put(event.fields.clone(), event.presence);
        }
        calendar
    }

    /// Whether this account may use it.
    pub(crate) fn is_open_to(&self, account: &str) -> bool {
        self.owner == account || self.shared_with.iter().any(|one| one == account)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Stored> {
        self.events.get(id)
    }

    pub(crate) fn len(&self) -> u64 {
        self.by_ordinal
            .last_key_value()
            .map_or(0, |(ordinal, _)| *ordinal)
    }

    /// Events after a position of the full listing.
    pub(crate) fn after(&self, ordinal: u64) -> impl DoubleEndedIterator<Item = &Stored> {
        self.by_ordinal
            .range(ordinal + 1..)
            .filter_map(|(_, id)| self.events.get(id))
    }

    /// Events up to a position of the full listing, last first.
    pub(crate) fn before(&self, ordinal: u64) -> impl Iterator<Item = &Stored> {
        self.by_ordinal
            .range(..=ordinal)
            .rev()
            .filter_map(|(_, id)| self.events.get(id))
    }

    /// Events whose latest change lies in `(after, until]`, oldest change first.
    pub(crate) fn changed(&self, after: u64, until: u64) -> impl Iterator<Item = &Stored> {
        let range = (Bound::Excluded(after), Bound::Included(until.max(after)));
        self.by_change
            .range(range)
            .filter_map(|(_, id)| self.events.get(id))
    }

    /// Stores an event as it is, new or in the place of the one with its id.
    pub(crate) fn put(&mut self, fields: Fields, presence: Presence) {
        let Some(id) = fields.get("id").and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        self.change += 1;
        let ordinal = match self.events.get(&id) {
            Some(old) => {
                self.by_change.remove(&old.change);
                old.ordinal
            }
            None => self.len() + 1,
        };
        self.by_ordinal.insert(ordinal, id.clone());
        self.by_change.insert(self.change, id.clone());
        self.events.insert(
            id,
            Stored {
                ordinal,
                change: self.change,
                presence,
                fields,
            },
        );
    }

    /// Forgets an event without a trace: 404 from now on, and no sync token tells of it.
    pub(crate) fn purge(&mut self, id: &str) -> bool {
        match self.events.remove(id) {
            None => false,
            Some(old) => {
                self.by_ordinal.remove(&old.ordinal);
                self.by_change.remove(&old.change);
                true
            }
        }
    }

    /// Stores a changed event with a new `etag` and `updated`.
    pub(crate) fn touch(&mut self, mut fields: Fields, presence: Presence, now: DateTime<Utc>) {
        let old = fields
            .get("etag")
            .and_then(Value::as_str)
            .and_then(etag_number)
            .unwrap_or(0);
        let fresh = u64::try_from(now.timestamp_micros())
            .unwrap_or(0)
            .saturating_mul(2);
        fields.insert("etag".to_owned(), etag(fresh.max(old + 2)).into());
        fields.insert("updated".to_owned(), rfc3339_ms(now).into());
        self.updated = now;
        self.put(fields, presence);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.events.iter()
    }
}

/// An event's etag: quotes are part of it.
pub(crate) fn etag(number: u64) -> String {
    format!("\"{number}\"")
}

fn etag_number(etag: &str) -> Option<u64> {
    etag.trim_matches('"').parse().ok()
}

/// All calendars of the world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calendars(BTreeMap<String, Calendar>);

impl Calendars {
    pub(crate) fn new(seeds: &[CalendarSeed], at: DateTime<Utc>) -> Self {
        Self(
            seeds
                .iter()
                .map(|seed| (seed.id.clone(), Calendar::new(seed, at)))
                .collect(),
        )
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Calendar> {
        self.0.get_mut(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Calendar> {
        self.0.values()
    }

    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Calendar> {
        self.0.values_mut()
    }
}
