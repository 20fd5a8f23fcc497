//! Executors: one for each kind of item that a migration retires. The engine knows items only through them.
//!
//! An [`Executor`] offers six verbs: **inventory** finds the candidates with what was measured of each; a [`Place`] (a calendar, a
//! bucket) **reads** one item, makes a **backup** of an exact version, **deletes** it if it still has that version, **restores** it from the
//! backup, and **observes** what changed since a cursor. What a kind of item cannot do is said in [`Executor::limits`], and the
//! policy then holds: no executor is asked to promise what it cannot keep.
//!
//! The engine relies on this of every executor:
//! - inventory, read, backup and observe change nothing outside, and cannot: they are given nothing that could;
//! - delete sends at most one request, and its error says whether that may have had its effect;
//! - no text that leaves it (errors, evidence, reasons) holds a secret or what a person wrote.

pub mod calendar;
pub mod command;
mod error;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger::domain::identify::{ExecutorLimits, Facts, Vocabulary};
use ledger::domain::policy::Policy;

pub use self::error::{ExecutorError, ItemError, Unreachable};
use crate::engine::{EngineError, Progress};

/// The kinds of the subjects that an executor's entries are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    /// An item, `calendar-event`.
    pub item: Cow<'static, str>,
    /// What owns the items of a place, `calendar-account`: its key seals them, and erasing it takes them all.
    pub owner: Cow<'static, str>,
    /// A user of the retired system.
    pub user: Cow<'static, str>,
}

/// The places where items of one kind lie: all that looking at them again and putting back what was deleted there need.
#[async_trait]
pub trait Places: Send + Sync {
    /// Kinds of the subjects.
    fn kinds(&self) -> Kinds;

    /// Before the first place: reads what opening places needs.
    ///
    /// # Errors
    /// What concerns the whole run: wrong credentials, a clock that is off. Nothing was begun then.
    async fn prepare(&self) -> Result<(), EngineError>;

    /// The address of a user of the retired system, for the terminal of who may see it, once [`Places::prepare`] has read it.
    fn address(&self, user: &str) -> Option<String>;

    /// Opens a place of a plan through one of the users through whom it was found.
    ///
    /// # Errors
    /// [`Unreachable`]: nothing can be done there, for a reason that is reported and recorded.
    async fn open(&self, place: &str, users: &[PlannedUser])
    -> Result<Box<dyn Place>, Unreachable>;

    /// The same for looking alone. Where that is possible, what it gives is unable to change anything.
    ///
    /// # Errors
    /// As [`Places::open`].
    async fn look(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        self.open(place, users).await
    }
}

/// One kind of item: how its candidates are found, and what its deletions rely on.
#[async_trait]
pub trait Executor: Places {
    /// Everything that a policy for it may speak of.
    fn vocabulary(&self) -> Vocabulary<'_>;

    /// What it cannot promise about a deletion.
    fn limits(&self) -> ExecutorLimits;

    /// What its inventory rests on beside the policy (digests of exports, options): hashed with the plan.
    fn header(&self) -> BTreeMap<String, String>;

    /// Finds every candidate and hands it on, place by place, with an independent count at the end.
    ///
    /// # Errors
    /// What concerns the whole run. A user or place that cannot be reached is handed on as such.
    async fn inventory(
        &self,
        policy: &Policy,
        to: &mut dyn Inventory,
    ) -> Result<Summary, EngineError>;

    /// Until when what the deletions rely on is fresh enough to act upon; `None` where nothing grows old. Asked again before each
    /// deletion, so an executor that can look again does so behind this.
    async fn fresh_until(&self) -> Option<Freshness>;

    /// Looks what the new system relies on by now, before the first deletion at a place. What cannot be looked at again is left as it is;
    /// [`Executor::fresh_until`] tells until when that is good.
    async fn look_again(&self) {}

    /// Refuses to execute a plan that was made with more than is known now.
    ///
    /// # Errors
    /// [`EngineError::Refused`], with what is missing.
    fn accepts(&self, plan_header: &BTreeMap<String, String>) -> Result<(), EngineError>;

    /// Why the new system relies on this item by now, if it does: then it is held.
    ///
    /// # Errors
    /// It cannot be looked up; nothing is begun then.
    async fn relied_on(&self, item: &str) -> Result<Option<Cow<'static, str>>, EngineError>;

    /// So many processes work on the run now: what all of them may send together is shared among them.
    fn share(&self, _processes: u64) {}
}

/// Until when something may be relied on, and what to do when that is over.
#[derive(Debug, Clone)]
pub struct Freshness {
    /// From then on nothing new is begun.
    pub until: DateTime<Utc>,
    /// What to do then, in words.
    pub then: Cow<'static, str>,
}

/// A user through whom a place was reached when the plan was made.
#[derive(Debug, Clone)]
pub struct PlannedUser {
    /// The user's id in the retired system, where the keys still open it.
    pub id: Option<String>,
    /// Digest of the credential that led there.
    pub credential: Option<String>,
}

/// Where items lie, opened: its items can be read, deleted, put back and watched.
#[async_trait]
pub trait Place: Send + Sync {
    /// Id in the retired system of the user through whom it is reached, for the run's report.
    fn through(&self) -> String;

    /// Whether cursors kept from earlier listings are good here. They are not where another credential leads to the place.
    fn keeps_cursors(&self) -> bool;

    /// What is there now.
    ///
    /// # Errors
    /// No answer, or a refusal. That there is no such item is no error.
    async fn read(&self, item: &str) -> Result<Found, ItemError>;

    /// The whole item, if it still has this version. Where [`Place::read`] gives the bytes this is not asked.
    ///
    /// # Errors
    /// As [`Place::read`].
    async fn backup(&self, item: &str, version: &str) -> Result<Option<Bytes>, ItemError>;

    /// Waits until a request that changes something could be sent at once: for credentials, and for its turn within the service's limits. Asked
    /// before each intent, so that the time limit of what follows is the request's own.
    ///
    /// # Errors
    /// As [`Place::read`].
    async fn ready(&self) -> Result<(), ItemError> {
        Ok(())
    }

    /// Deletes it if it still has this version, in one request that ends within `limit`: past that it may have been sent.
    ///
    /// # Errors
    /// [`ItemError`], whose class tells `not_found`, `gone` and `conflict` apart and whose effect says whether it may have been deleted.
    async fn delete(
        &self,
        item: &str,
        version: &str,
        limit: Duration,
    ) -> Result<Written, ItemError>;

    /// The ways to put an item back from its backup, the best first; each is tried where the one before was refused. `token` (letters
    /// and digits) is the same whenever this is asked about one deletion: where a way makes the item anew, the new id comes of it, so that a
    /// request that is repeated, or arrives late, can make no second one. A way that un-does the deletion of what another way made is offered too,
    /// and taken only where an earlier attempt made that.
    ///
    /// # Errors
    /// The backup cannot be read.
    async fn ways_back(
        &self,
        item: &str,
        backup: &[u8],
        token: &str,
    ) -> Result<Vec<WayBack>, ItemError>;

    /// Puts an item back that is gone, in one request that ends within `limit`: past that it may have been sent.
    ///
    /// # Errors
    /// [`ItemError`]; its effect says whether it may be back. Class `conflict`: something changed since it was looked at.
    async fn restore(&self, back: &PutBack<'_>, limit: Duration) -> Result<Restored, ItemError>;

    /// Names of the fields in which `now` is not as in the backup, those included that no way can bring back. Names only: nothing of what
    /// a person wrote.
    ///
    /// # Errors
    /// One of the two cannot be read.
    async fn differences(&self, backup: &[u8], now: &[u8]) -> Result<Vec<String>, ItemError>;

    /// Whether another item is there, none of `except`, that stands for the same thing as the one in the backup: putting that back would
    /// make it twice. Where a kind of item has no such thing there is none.
    ///
    /// # Errors
    /// As [`Place::read`].
    async fn stand_in(&self, backup: &[u8], except: &BTreeSet<String>) -> Result<bool, ItemError> {
        let _ = (backup, except);
        Ok(false)
    }

    /// What would tell others of each deletion here, by its natural id: to be stopped before the first one.
    fn channels(&self) -> Vec<String> {
        Vec::new()
    }

    /// Stops one of [`Place::channels`], in one request. Stopping one that is over is no error, so that it can be repeated.
    ///
    /// # Errors
    /// [`ItemError`]; then nothing is deleted here.
    async fn stop_channel(&self, channel: &str) -> Result<ChannelStop, ItemError> {
        let _ = channel;
        Ok(ChannelStop::WasOver)
    }

    /// Changes since a cursor, or everything where there is none or the cursor is too old.
    ///
    /// # Errors
    /// As [`Place::read`].
    async fn observe(&self, since: Option<&str>) -> Result<Seen, ItemError>;
}

/// What became of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelStop {
    /// It was open, and is no longer.
    Stopped,
    /// It was over before.
    WasOver,
}

/// One item as it was read.
#[derive(Debug, Clone)]
pub enum Found {
    /// It is there.
    There {
        /// Its version; `None` where it has none that can be read.
        version: Option<String>,
        /// The whole item exactly as it came, where reading gives that.
        bytes: Option<Bytes>,
    },
    /// It was deleted, and something still says so.
    Deleted {
        /// Version of what is left of it, where that has one.
        version: Option<String>,
        /// When, where that can be told.
        at: Option<DateTime<Utc>>,
    },
    /// There is no trace of it.
    Absent,
}

/// That a change was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// HTTP status of the answer, where there is such a thing.
    pub status: Option<u16>,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
}

/// A way to put one item back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// Its name, one word, as it stands in entries.
    pub way: Cow<'static, str>,
    /// The id that the item has then.
    pub becomes: String,
    /// It un-does the deletion, so something has to be left that still says what was deleted.
    pub undeletes: bool,
    /// Names of the item's fields that cannot be brought back this way.
    pub loses: Vec<String>,
}

/// What is to be put back, and how.
#[derive(Debug, Clone, Copy)]
pub struct PutBack<'a> {
    /// One of [`Place::ways_back`].
    pub way: &'a str,
    /// Id of the item when it was deleted.
    pub item: &'a str,
    /// The id that it has afterwards.
    pub becomes: &'a str,
    /// Version of what is left of it, where something is ([`Found::Deleted`]): the request is conditional on it.
    pub version: Option<&'a str>,
    /// The whole item.
    pub backup: &'a [u8],
}

/// That an item is back.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Its version now.
    pub version: Option<String>,
    /// As [`Written`].
    pub written: Written,
}

/// What a look at a place showed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Items that are there, or that changed; of one that came twice the later.
    pub items: Vec<SeenItem>,
    /// Everything was listed, so what is not named is not there.
    pub whole: bool,
    /// From here later changes can be listed.
    pub cursor: Option<String>,
    /// Items or changes that came, of any kind.
    pub count: u64,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
}

/// One item in a listing.
#[derive(Debug, Clone, Default)]
pub struct SeenItem {
    /// Its id.
    pub item: String,
    /// Its version.
    pub version: Option<String>,
    /// It was deleted.
    pub gone: bool,
    /// When the retired system made it, where it carries that system's signature.
    pub retired_wrote: Option<DateTime<Utc>>,
}

/// Where an executor's inventory goes. The engine records what it is handed, in this order: users, then a place, then its candidates.
#[async_trait]
pub trait Inventory: Send {
    /// A user of the retired system, before the places that the user leads to.
    async fn user(&mut self, user: &UserSeen) -> Result<(), EngineError>;

    /// The ids of all users and of all places that were listed, before anything else, where an executor knows them by then: what is met there
    /// is not taken for something that could not be reached, and what is needed for each of them is made for all together.
    async fn coming(&mut self, users: Vec<String>, places: Vec<String>) -> Result<(), EngineError> {
        let _ = (users, places);
        Ok(())
    }

    /// A place that was listed whole.
    async fn place(&mut self, place: &PlaceSeen) -> Result<(), EngineError>;

    /// Candidates of a place, or, without one, of users whose place could not be reached.
    async fn candidates(
        &mut self,
        place: Option<&PlaceSeen>,
        candidates: Vec<Candidate>,
    ) -> Result<(), EngineError>;

    /// How far the inventory is.
    fn progress(&mut self, progress: Progress);
}

/// A user as an inventory met them.
#[derive(Debug, Clone)]
pub struct UserSeen {
    /// Id in the retired system.
    pub id: String,
    /// Address there.
    pub email: Option<String>,
    /// The retired system holds the user as deleted.
    pub soft_deleted: bool,
    /// Items that the retired system recorded for the user.
    pub recorded: u64,
    /// Digest of the stored credential.
    pub credential: Option<String>,
    /// The place's natural id, or why there is none.
    pub access: Result<String, Unreachable>,
}

/// A place as an inventory listed it.
#[derive(Debug, Clone)]
pub struct PlaceSeen {
    /// Its natural id (a calendar's id, a bucket's name).
    pub id: String,
    /// From here later changes can be listed.
    pub cursor: Option<String>,
    /// Items in it, of any kind.
    pub items: u64,
    /// Each of them was looked at, so that what was a candidate and is none now has changed or gone.
    pub whole: bool,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
}

/// One item that concerns the migration, and what was measured of it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id in its place; `None` where nothing of it could be read.
    pub item: Option<String>,
    /// Users through whom it was reached; at least one.
    pub users: Vec<String>,
    /// Its version; without one nothing is deleted.
    pub version: Option<String>,
    /// The whole item exactly as it came.
    pub bytes: Option<Bytes>,
    /// Date of the deadline, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// For what is yet to come: whether the new system has one that stands for it.
    pub covered: Option<bool>,
    /// What was measured; more than one where the ways to it differ. The most protective class counts.
    pub signals: Vec<Facts>,
    /// What is known beside its class.
    pub conditions: Facts,
    /// Why it may not be deleted whatever the policy says.
    pub must_hold: Option<&'static str>,
}

/// What an inventory says about itself at its end.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Candidates, counted apart from handing them on.
    pub candidates: u64,
    /// Items seen that do not concern the migration.
    pub others: u64,
    /// What the search that was planned before would have deleted.
    pub incumbent_would_delete: u64,
    /// How many of these are not the retired system's.
    pub incumbent_not_ours: u64,
    /// Latest `Date` of the outside system.
    pub date: Option<DateTime<Utc>>,
    /// What only the inventory could tell of the plan's header: hashed with it.
    pub header: BTreeMap<String, String>,
    /// More about this kind of item, for the report's JSON.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// The same for the terminal, a line each.
    pub lines: Vec<String>,
}

/// What the executor of a kind of item lets a policy speak of, with the meaning of each name; `None` for a kind of which this
/// program has no executor.
pub fn vocabulary(kind: &str) -> Option<&'static Vocabulary<'static>> {
    const KNOWN: [&Vocabulary<'static>; 1] = [&calendar::signals::VOCABULARY];
    KNOWN.into_iter().find(|vocabulary| vocabulary.kind == kind)
}

/// The signal whose detail names an item of this kind as its owner knows it ("Filing deadline"), if the kind has one.
pub fn label_signal(kind: &str) -> Option<&'static str> {
    (kind == calendar::signals::VOCABULARY.kind).then_some("title")
}

/// What an item of this kind is called in its own words, in one line: "RFI Response Due: Acme", if the kind has that.
pub fn title(kind: &str, bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Titled {
        summary: String,
    }
    if kind != calendar::signals::VOCABULARY.kind {
        return None;
    }
    let titled: Titled = serde_json::from_slice(bytes).ok()?;
    let words = titled
        .summary
        .split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}
