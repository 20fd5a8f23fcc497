//! What is read before any calendar is asked: v1's users and watch channels, and, for an inventory, its cases, which go to [`Records`] beside what
//! v2 said.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use ledger::store::Clock;

use super::accounts::PRIMARY;
use super::error::CalendarError;
use super::reader::Reader;
use super::records::{Records, V1Cases};
use super::signals::{MigrationFacts, RecordedBy, V2Facts};
use crate::clients::convex::{Origin, V2Export, V2Records};
use crate::clients::supabase::{RawRow, UsersTable, V1Case, V1Channel, V1User};
use crate::config::Deployment;
use crate::engine::{CLOCK_SKEW_MAX, RunOptions};
use crate::secrets::{Secret, token_fingerprint};

/// One v1 user, and the way to what v1 wrote.
#[derive(Debug, Clone)]
pub struct SourceUser {
    /// v1's id.
    pub id: String,
    /// E-mail address in v1.
    pub email: Option<String>,
    /// Google address as v1 stored it; may be stale.
    pub google_email: Option<String>,
    /// v1 holds the user as deleted.
    pub soft_deleted: bool,
    /// The stored token opened, or why there is none.
    pub access: Result<Secret, NoAccess>,
    /// Digest of the stored token.
    pub token_fingerprint: Option<String>,
    /// How many ids v1 recorded for the user.
    pub recorded: u64,
    /// Calendars beside the primary one that v1 recorded for the user.
    pub calendars: Vec<String>,
    /// v1's watch channels of the user.
    pub channels: Vec<V1Channel>,
}

impl SourceUser {
    /// An owner of cases that v1's table of users does not have. What v1 recorded there is not lost sight of: it cannot be reached.
    fn unknown(id: String, recorded: u64) -> Self {
        Self {
            id,
            email: None,
            google_email: None,
            soft_deleted: false,
            access: Err(NoAccess::UnknownOwner),
            token_fingerprint: None,
            recorded,
            calendars: Vec::new(),
            channels: Vec::new(),
        }
    }
}

/// Why a user's calendar cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAccess {
    /// v1 holds no token, or holds the calendar for disconnected.
    Disconnected,
    /// v1 holds no token and nothing else that a calendar would have left: it wrote nothing for the user.
    NeverConnected,
    /// The stored token does not open.
    Undecryptable,
    /// v1's table of users has no such user: only cases name them.
    UnknownOwner,
}

impl NoAccess {
    /// One word, as it stands in entries.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::NeverConnected => "never_connected",
            Self::Undecryptable => "undecryptable",
            Self::UnknownOwner => "unknown_owner",
        }
    }
}

/// Everything read before any calendar is asked.
#[derive(Debug)]
pub struct Sources {
    /// v1's users, and after them owners that v1's cases name and its users do not.
    pub users: Vec<SourceUser>,
    /// What is the same for all accounts, and nothing of any id or text: see [`Records`].
    pub facts: MigrationFacts,
    /// Values in v1's recorded ids that are no ids: each is a warning with its case and key, never dropped.
    pub odd: u64,
    /// Rows of v1's table of watch channels; `None` where there is no such table, which is to be expected.
    pub channels: Option<u64>,
    /// Where each user is.
    positions: HashMap<String, usize>,
}

impl Sources {
    /// The ids recorded on cases whose owner v1's table of users does not have.
    pub fn without_owner(&self) -> u64 {
        let users = self.users.iter();
        let unknown = users.filter(|user| matches!(user.access, Err(NoAccess::UnknownOwner)));
        unknown.map(|user| user.recorded).sum()
    }

    /// The user of this id.
    pub fn user(&self, id: &str) -> Option<&SourceUser> {
        self.positions.get(id).and_then(|n| self.users.get(*n))
    }
}

/// An export as the plan names it.
#[derive(Debug, Clone)]
pub struct ExportSeen {
    /// Hex SHA-256.
    pub digest: String,
    /// The moment it shows.
    pub taken_at: DateTime<Utc>,
    /// The deployment that it is of.
    pub deployment: Deployment,
    /// Read from the deployment itself, and not from a file.
    pub live: bool,
    /// Its cases.
    pub cases: u64,
}

impl From<&V2Export> for ExportSeen {
    fn from(export: &V2Export) -> Self {
        Self {
            digest: export.digest.clone(),
            taken_at: export.taken_at,
            deployment: export.deployment,
            live: matches!(export.origin, Origin::Live(_)),
            cases: export.cases,
        }
    }
}

/// Refuses where two clocks differ too much for a time gate.
pub fn check_clock(
    service: &'static str,
    remote: Option<DateTime<Utc>>,
    ours: DateTime<Utc>,
) -> Result<(), CalendarError> {
    let Some(remote) = remote else { return Ok(()) };
    let skew = (remote - ours)
        .abs()
        .to_std()
        .unwrap_or(std::time::Duration::MAX);
    if skew > CLOCK_SKEW_MAX {
        Err(CalendarError::Clock { service, skew })
    } else {
        Ok(())
    }
}

/// Checks the OAuth client and the clocks, then reads v1: its users and watch channels and, with what v2 says, all that an inventory is
/// judged by.
///
/// # Errors
/// Everything that is nobody's fault alone: a wrong key or client, an incomplete read, a clock that is off.
pub async fn read_sources(
    reader: &Reader,
    users_table: Option<UsersTable>,
    v2: Option<&Arc<V2Records>>,
    options: &RunOptions,
    clock: &Clock,
) -> Result<(Sources, Option<Records>), CalendarError> {
    let now = || clock.now().instant();
    let google_date = reader
        .preflight
        .google
        .oauth()
        .check()
        .await
        .map_err(CalendarError::Client)?;
    check_clock("Google", google_date, now())?;
    let table = reader.preflight.supabase.users_table(users_table).await?;
    let users = reader.supabase.read_users(table).await?;
    check_clock("Supabase", users.date, now())?;
    let mut moved = users.moved();
    let mut odd = 0;
    let mut records = None;
    // Who executes a plan needs no more than the way to each place.
    if let Some(v2) = v2 {
        let take = |all: &mut V1Cases, row: RawRow| all.take(&V1Case::from(&row));
        let read = reader.supabase.fold_cases(take).await?;
        moved |= read.moved();
        let cases = read.rows;
        if cases.count > 0 && !cases.has_ids {
            return Err(CalendarError::NoRecordedIds(cases.count));
        }
        odd = cases.odd;
        records = Some(Records::new(cases, v2.clone())?);
    }
    let channels = reader.supabase.read_channels().await?;
    if moved {
        tracing::warn!(
            "v1 was written to while it was read: freeze it, or what came late is missed"
        );
    }
    let users: Vec<V1User> = users.rows.iter().map(V1User::from).collect();
    let owners = records.as_ref().map(Records::owners).transpose()?;
    let v1 = V1 {
        users: &users,
        channels: channels.as_deref(),
    };
    let assembled = assemble(reader, v1, owners, (options, now()));
    let sources = Sources { odd, ..assembled };
    let stored = users
        .iter()
        .filter(|user| user.refresh_token.is_some())
        .count();
    let undecryptable = |user: &&SourceUser| {
        matches!(&user.access, Err(NoAccess::Undecryptable)) && user.token_fingerprint.is_some()
    };
    if stored > 0 && sources.users.iter().filter(undecryptable).count() == stored {
        return Err(CalendarError::EncryptionKey(stored));
    }
    Ok((sources, records))
}

/// What was read of v1.
#[derive(Clone, Copy)]
struct V1<'a> {
    users: &'a [V1User],
    channels: Option<&'a [V1Channel]>,
}

fn assemble(
    reader: &Reader,
    v1: V1<'_>,
    owners: Option<Vec<(String, u64)>>,
    (options, now): (&RunOptions, DateTime<Utc>),
) -> Sources {
    // Without v1's cases it is not known for whom it wrote nothing.
    let is_whole = owners.is_some();
    let mut owners: BTreeMap<String, u64> = owners.into_iter().flatten().collect();
    let mut channels: HashMap<String, Vec<V1Channel>> = HashMap::new();
    for channel in v1.channels.unwrap_or_default() {
        let user = channel.user_id.as_deref().unwrap_or_default();
        let of_user = channels.entry(user.to_lowercase()).or_default();
        of_user.push(channel.clone());
    }
    let mut users: Vec<SourceUser> = v1
        .users
        .iter()
        .map(|user| {
            let id = user.id.to_lowercase();
            let recorded = owners.remove(&id).unwrap_or_default();
            let channels = channels.remove(&id).unwrap_or_default();
            let stored = user.refresh_token.as_ref();
            let access = match stored {
                None if is_whole
                    && recorded == 0
                    && channels.is_empty()
                    && never_connected(user) =>
                {
                    Err(NoAccess::NeverConnected)
                }
                _ if user.calendar_connected == Some(false) => Err(NoAccess::Disconnected),
                None => Err(NoAccess::Disconnected),
                Some(token) => match reader.config.encryption_key.decrypt(token.expose()) {
                    // Google would take it for a request without one, and every user's would look wrong.
                    Ok(token) if token.expose().trim().is_empty() => Err(NoAccess::Disconnected),
                    opened => opened.map_err(|_| NoAccess::Undecryptable),
                },
            };
            SourceUser {
                email: user.email.clone(),
                google_email: user.google_email.clone(),
                soft_deleted: user.deleted_at.is_some(),
                token_fingerprint: stored.map(|token| token_fingerprint(&user.id, token.expose())),
                access,
                recorded,
                calendars: calendars(&channels),
                channels,
                id: user.id.clone(),
            }
        })
        .collect();
    owners.retain(|_, recorded| *recorded > 0);
    users.extend(
        owners
            .into_iter()
            .map(|(id, recorded)| SourceUser::unknown(id, recorded)),
    );
    let facts = MigrationFacts {
        recorded_by: RecordedBy::default(),
        v2_production: V2Facts::default(),
        v2_development: V2Facts::default(),
        go_live: options.go_live,
        freeze: options.freeze.or(options.go_live),
        today: earliest_day(now),
    };
    let positions = users.iter().enumerate();
    Sources {
        positions: positions.map(|(n, user)| (user.id.clone(), n)).collect(),
        users,
        facts,
        odd: 0,
        channels: v1.channels.map(|channels| channels.len() as u64),
    }
}

/// Whether nothing of a user's row says that a calendar was connected once.
fn never_connected(user: &V1User) -> bool {
    user.calendar_connected != Some(true)
        && user.google_email.is_none()
        && user.token_expiry.is_none()
        && user.scopes.is_empty()
}

/// The day that it is where the day begins last: only what is before it is over everywhere. By UTC a deadline of today in New York is over
/// before the evening is.
fn earliest_day(now: DateTime<Utc>) -> NaiveDate {
    (now - Duration::hours(12)).date_naive()
}

/// The calendars that channels watch, but the primary one, each once.
fn calendars(channels: &[V1Channel]) -> Vec<String> {
    let mut calendars: Vec<String> = Vec::new();
    for channel in channels {
        let calendar = channel.calendar_id.trim();
        if calendar != PRIMARY && !calendars.iter().any(|one| one == calendar) {
            calendars.push(calendar.to_owned());
        }
    }
    calendars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_over_once_it_is_over_everywhere() {
        for (now, today) in [
            ("2026-03-02T01:00:00Z", "2026-03-01"),
            ("2026-03-02T11:59:59Z", "2026-03-01"),
            ("2026-03-02T12:00:00Z", "2026-03-02"),
            ("2026-03-02T23:59:59Z", "2026-03-02"),
        ] {
            let day = earliest_day(now.parse().unwrap());
            assert_eq!(day.to_string(), today, "{now}");
        }
    }
}
