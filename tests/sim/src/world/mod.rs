//! Worlds: v1's database, v2's exports and everyone's calendars as they might stand a day after go-live, all from one seed.

mod accounts;
mod channels;
mod documents;
mod draft;
mod generate;
mod rare;
mod recipes;
mod tables;
mod truth;
pub mod v1;
pub mod v2;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

pub use truth::{Class, Disposition, Truth};

use crate::calendar::{CalendarSeed, Channel, Presence};
use crate::convex::V2;
use crate::fernet::FernetKey;
use crate::google_oauth::Grant;
use crate::supabase::Database;

/// Which name v1's user table has; its own migrations disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsersTable {
    /// `perm_users`.
    #[default]
    PermUsers,
    /// `users`.
    Users,
    /// Both, with the same rows: the program must refuse to guess.
    Both,
}

/// What to make. The same specification always makes the same world.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a hazard of its own, asked for by its name"
)]
pub struct WorldSpec {
    /// Everything random comes from it.
    pub seed: u64,
    /// Rows of the user table. The first 20 are one of each kind; the rest are mostly ordinary.
    pub users: usize,
    /// Events made per connected user, give or take the pairs that some hazards need.
    pub events_per_user: usize,
    /// When v2 took over.
    pub go_live: DateTime<Utc>,
    /// The world's present: deadlines before it are past.
    pub now: DateTime<Utc>,
    /// Name of the user table.
    pub users_table: UsersTable,
    /// Only ordinary connected users: no dead tokens, no shared accounts.
    pub plain_users: bool,
    /// v1's deferred two-way sync was shipped after all: some users have a second calendar, which v1's channel table names, and some of
    /// their channels are still open.
    pub channels: bool,
    /// A quarter of the events that v1 recorded lack its signature: it may not decide alone, and orphans are held.
    pub uncalibrated: bool,
    /// What is seldom met is there too: twin deadlines, renamed and shared calendars.
    pub rare: bool,
}

impl Default for WorldSpec {
    /// 30 users and about 600 events, 30 hours after go-live on 2026-01-15.
    fn default() -> Self {
        let go_live = DateTime::from_timestamp(1_768_449_600, 0).unwrap_or_default();
        Self {
            seed: 1,
            users: 30,
            events_per_user: 20,
            go_live,
            now: go_live + Duration::hours(30),
            users_table: UsersTable::default(),
            plain_users: false,
            channels: false,
            uncalibrated: false,
            rare: false,
        }
    }
}

impl WorldSpec {
    /// The default world of another seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// The same with so many users.
    #[must_use]
    pub fn users(mut self, users: usize) -> Self {
        self.users = users;
        self
    }

    /// The same with so many events a user.
    #[must_use]
    pub fn events_per_user(mut self, events: usize) -> Self {
        self.events_per_user = events;
        self
    }

    /// The same, moved in time: v2 took over at `go_live`, and it is `now`.
    #[must_use]
    pub fn at(mut self, go_live: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        self.go_live = go_live;
        self.now = now;
        self
    }

    /// The same, 26 hours after go-live at `now`: what a run by the machine's clock needs, since v2's export and the time gates
    /// go by it.
    #[must_use]
    pub fn as_of(self, now: DateTime<Utc>) -> Self {
        self.at(now - Duration::hours(26), now)
    }

    /// Makes the world.
    pub fn generate(&self) -> World {
        generate::generate(self)
    }
}

/// The secrets of a world. All made up.
#[derive(Clone)]
pub struct Keys {
    /// Supabase's `service_role` key.
    pub service_key: String,
    /// Supabase's `anon` key.
    pub anon_key: String,
    /// v1's `ENCRYPTION_KEY`.
    pub encryption_key: FernetKey,
    /// v1's OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Deploy key of v2's production deployment.
    pub convex_key: String,
    /// Deploy key of v2's development deployment.
    pub convex_dev_key: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// A user of v1, as the world's maker knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFact {
    /// v1's id.
    pub id: String,
    /// E-mail as v1 has it.
    pub email: String,
    /// The Google account whose calendar v1 wrote to; none if it never did.
    pub account: Option<String>,
    /// What is special about them.
    pub kind: UserKind,
}

/// What is special about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserKind {
    /// Nothing.
    Connected,
    /// Disconnected: v1 cleared the tokens and left the events.
    Disconnected,
    /// Revoked the grant at Google.
    Revoked,
    /// The stored access token has expired; the refresh token is good.
    ExpiredAccess,
    /// The stored refresh token was encrypted under another key.
    Undecryptable,
    /// The stored refresh token is not encrypted at all.
    NotEncrypted,
    /// The refresh token was minted for another client.
    OtherClient,
    /// Deleted in v1, softly; the token still works.
    SoftDeleted,
    /// Has the e-mail of another row in other case, and a Google account of their own.
    SameEmailOtherCase,
    /// Shares the Google account of the user before.
    SharedAccount,
    /// Reconnected another Google account: every recorded id is in the old one.
    WrongAccount,
    /// `google_email` names an address that is not the account's.
    StaleGoogleEmail,
    /// Never connected a calendar.
    NeverConnected,
}

impl UserKind {
    /// Whether a run with v1's tokens can look at the calendar that v1 wrote to.
    pub const fn is_reachable(self) -> bool {
        matches!(
            self,
            Self::Connected
                | Self::ExpiredAccess
                | Self::SoftDeleted
                | Self::SameEmailOtherCase
                | Self::SharedAccount
                | Self::StaleGoogleEmail
        )
    }
}

/// A world before it is served.
#[derive(Debug, Clone)]
pub struct World {
    /// What it was made from.
    pub spec: WorldSpec,
    /// Its secrets.
    pub keys: Keys,
    /// OAuth clients and their secrets.
    pub clients: BTreeMap<String, String>,
    /// Who granted what.
    pub grants: Vec<Grant>,
    /// v1's database.
    pub database: Database,
    /// Everyone's calendars.
    pub calendars: Vec<CalendarSeed>,
    /// Watch channels that are open.
    pub channels: Vec<Channel>,
    /// v2's data.
    pub v2: V2,
    /// v1's users.
    pub users: Vec<UserFact>,
    /// What is true of each event.
    pub truth: Vec<Truth>,
}

impl World {
    /// The live events of each calendar, as resources.
    pub fn live(&self) -> BTreeMap<String, BTreeMap<String, Value>> {
        self.calendars
            .iter()
            .map(|calendar| {
                let live = calendar
                    .events
                    .iter()
                    .filter(|event| event.presence == Presence::Held)
                    .filter(|event| event.fields.get("status") != Some(&"cancelled".into()))
                    .filter_map(|event| {
                        let id = event.fields.get("id")?.as_str()?.to_owned();
                        Some((id, Value::Object(event.fields.clone())))
                    })
                    .collect();
                (calendar.id.clone(), live)
            })
            .collect()
    }

    /// How many events of each class there are.
    pub fn census(&self) -> BTreeMap<Class, usize> {
        let mut census = BTreeMap::new();
        for truth in &self.truth {
            *census.entry(truth.class).or_default() += 1;
        }
        census
    }
}
