//! What v1 and v2 say: v1's users, cases and watch channels from Supabase, v2's cases from its deployments or their exports.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Duration, NaiveDate, Utc};
use ledger::store::Clock;
use uuid::Uuid;

use super::accounts::PRIMARY;
use super::census::{Elsewhere, UserIds};
use super::deadlines::deadlines;
use super::error::CalendarError;
use super::reader::Reader;
use super::recorded::{Recorded, parse_recorded};
use super::signals::{
    AccountFacts, MigrationFacts, RecordedBy, RecordedOn, V2Facts, is_plain_name,
};
use super::v2_text::V2CaseText;
use crate::clients::convex::{Origin, V2Case, V2Export};
use crate::clients::supabase::{RawRow, UsersTable, V1Case, V1Channel, V1User};
use crate::config::Deployment;
use crate::engine::{CLOCK_SKEW_MAX, RunOptions};
use crate::secrets::{Secret, token_fingerprint};

/// One v1 user with what v1 and v2 recorded for them.
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
    /// Ids that v1 and v2 recorded.
    pub ids: UserIds,
    /// The user's cases and where each id was recorded.
    pub facts: AccountFacts,
    /// Calendars beside the primary one that v1 recorded for the user.
    pub calendars: Vec<String>,
    /// v1's watch channels of the user.
    pub channels: Vec<V1Channel>,
}

impl SourceUser {
    /// An owner of cases that v1's table of users does not have. What v1 recorded there is not lost sight of: it cannot be reached.
    fn unknown(id: String, (facts, v1): (AccountFacts, Vec<String>)) -> Self {
        Self {
            email: None,
            google_email: None,
            soft_deleted: false,
            access: Err(NoAccess::UnknownOwner),
            token_fingerprint: None,
            ids: UserIds {
                user: id.clone(),
                v1,
                ..UserIds::default()
            },
            facts,
            calendars: Vec::new(),
            channels: Vec::new(),
            id,
        }
    }
}

/// Who owns the cases that name nobody.
const NO_OWNER: &str = "(no owner)";

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
    /// What is the same for all accounts.
    pub facts: MigrationFacts,
    /// v2's exports, for the plan's header.
    pub exports: Vec<ExportSeen>,
    /// Values in v1's recorded ids that are no ids: each is a warning with its case and key, never dropped.
    pub odd: u64,
    /// Rows of v1's table of watch channels; `None` where there is no such table, which is to be expected.
    pub channels: Option<u64>,
    /// Where each user is.
    positions: HashMap<String, usize>,
}

impl Sources {
    /// Whether it is known what v2's users rely on.
    pub fn v2_known(&self) -> bool {
        let mut exports = self.exports.iter();
        exports.any(|export| export.deployment == Deployment::Production)
    }

    /// The ids recorded on cases whose owner v1's table of users does not have.
    pub fn without_owner(&self) -> u64 {
        let users = self.users.iter();
        let unknown = users.filter(|user| matches!(user.access, Err(NoAccess::UnknownOwner)));
        unknown.map(|user| user.ids.v1.len() as u64).sum()
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
}

impl From<&V2Export> for ExportSeen {
    fn from(export: &V2Export) -> Self {
        Self {
            digest: export.digest.clone(),
            taken_at: export.taken_at,
            deployment: export.deployment,
            live: matches!(export.origin, Origin::Live(_)),
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
    exports: Option<&[V2Export]>,
    options: &RunOptions,
    clock: &Clock,
) -> Result<Sources, CalendarError> {
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
    let mut recorded = V1Recorded::default();
    // Who executes a plan needs no more than the way to each place.
    if exports.is_some() {
        let take = |all: &mut V1Recorded, row: RawRow| all.take(&V1Case::from(&row));
        let cases = reader.supabase.fold_cases(take).await?;
        moved |= cases.moved();
        recorded = cases.rows;
    }
    let channels = reader.supabase.read_channels().await?;
    if moved {
        tracing::warn!(
            "v1 was written to while it was read: freeze it, or what came late is missed"
        );
    }
    let users: Vec<V1User> = users.rows.iter().map(V1User::from).collect();
    if recorded.cases > 0 && !recorded.has_ids {
        return Err(CalendarError::NoRecordedIds(recorded.cases));
    }
    let v1 = V1 {
        users: &users,
        channels: channels.as_deref(),
    };
    let sources = assemble(reader, v1, recorded, exports, (options, now()));
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
    Ok(sources)
}

/// What was read of v1.
#[derive(Clone, Copy)]
struct V1<'a> {
    users: &'a [V1User],
    channels: Option<&'a [V1Channel]>,
}

/// What v1 recorded on its cases.
#[derive(Default)]
struct V1Recorded {
    cases: usize,
    /// One of them has a column of recorded ids.
    has_ids: bool,
    /// Values that are no ids.
    odd: u64,
    /// Of each owner a number, the facts and the ids.
    by_user: HashMap<String, (u32, AccountFacts, Vec<String>)>,
    recorded_by: RecordedBy,
}

impl V1Recorded {
    fn take(&mut self, case: &V1Case) {
        self.cases += 1;
        let user = case.user_id.as_deref().unwrap_or(NO_OWNER).to_lowercase();
        let new = u32::try_from(self.by_user.len()).unwrap_or(u32::MAX);
        let owner = self.by_user.entry(user);
        let (number, facts, ids) =
            owner.or_insert_with(|| (new, AccountFacts::default(), Vec::new()));
        let uuid = Uuid::try_parse(&case.id).unwrap_or_default();
        let row = serde_json::from_slice(&case.row.bytes).unwrap_or_default();
        let days = facts.cases.entry(uuid).or_default();
        days.extend(deadlines(&row));
        let recorded = match case.calendar_event_ids.as_deref().map(serde_json::from_str) {
            None => return,
            Some(Ok(value)) => parse_recorded(&value),
            Some(Err(_)) => Recorded {
                odd: vec!["(top): it cannot be read".to_owned()],
                ..Recorded::default()
            },
        };
        self.has_ids = true;
        self.odd += recorded.odd.len() as u64;
        warn_of(case, &recorded.odd);
        for found in recorded.ids {
            self.recorded_by.add(&found.id, *number);
            let on = RecordedOn {
                case: uuid,
                key: found.key,
            };
            facts.recorded.entry(found.id.clone()).or_insert(on);
            ids.push(found.id);
        }
    }
}

/// Says which values of a case are no ids. Keys come out of v1's data: one that is no plain name is not repeated.
fn warn_of(case: &V1Case, odd: &[String]) {
    for what in odd {
        let (key, what) = what.split_once(": ").unwrap_or_default();
        let key = if key == "(top)" || is_plain_name(key) {
            key
        } else {
            "(a key)"
        };
        tracing::warn!(
            case = case.id,
            key,
            what,
            "a value that v1 recorded is no event's id"
        );
    }
}

fn assemble(
    reader: &Reader,
    v1: V1<'_>,
    recorded: V1Recorded,
    exports: Option<&[V2Export]>,
    (options, now): (&RunOptions, DateTime<Utc>),
) -> Sources {
    // Without v1's cases it is not known for whom it wrote nothing.
    let is_whole = exports.is_some();
    let exports = exports.unwrap_or_default();
    let V1Recorded {
        odd,
        mut by_user,
        recorded_by,
        ..
    } = recorded;
    let v2_ids = v2_ids_by_v1_user(exports);
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
            let (_, facts, v1) = by_user.remove(&id).unwrap_or_default();
            let channels = channels.remove(&id).unwrap_or_default();
            let v2 = v2_ids
                .get(&id)
                .map(|ids| ids.iter().cloned().collect())
                .unwrap_or_default();
            let stored = user.refresh_token.as_ref();
            let access = match stored {
                None if is_whole
                    && v1.is_empty()
                    && channels.is_empty()
                    && never_connected(user) =>
                {
                    Err(NoAccess::NeverConnected)
                }
                _ if user.calendar_connected == Some(false) => Err(NoAccess::Disconnected),
                None => Err(NoAccess::Disconnected),
                Some(token) => reader
                    .config
                    .encryption_key
                    .decrypt(token.expose())
                    .map_err(|_| NoAccess::Undecryptable),
            };
            SourceUser {
                email: user.email.clone(),
                google_email: user.google_email.clone(),
                soft_deleted: user.deleted_at.is_some(),
                token_fingerprint: stored.map(|token| token_fingerprint(&user.id, token.expose())),
                access,
                ids: UserIds {
                    user: user.id.clone(),
                    v1,
                    v2,
                    elsewhere: Elsewhere::Nothing,
                },
                calendars: calendars(&channels),
                channels,
                facts,
                id: user.id.clone(),
            }
        })
        .collect();
    let mut unknown: Vec<_> = by_user.into_iter().collect();
    unknown.retain(|(_, (.., ids))| !ids.is_empty());
    unknown.sort_by(|one, other| one.0.cmp(&other.0));
    users.extend(
        unknown
            .into_iter()
            .map(|(id, (_, facts, ids))| SourceUser::unknown(id, (facts, ids))),
    );
    let [v2_production, v2_development] =
        Deployment::ALL.map(|deployment| v2_facts(exports, deployment));
    let facts = MigrationFacts {
        recorded_by,
        v2_production,
        v2_development,
        go_live: options.go_live,
        freeze: options.freeze.or(options.go_live),
        today: earliest_day(now),
    };
    let exports = exports.iter().map(ExportSeen::from).collect();
    let positions = users.iter().enumerate();
    Sources {
        positions: positions.map(|(n, user)| (user.id.clone(), n)).collect(),
        users,
        facts,
        exports,
        odd,
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

/// What v2 says in one deployment.
fn v2_facts(exports: &[V2Export], deployment: Deployment) -> V2Facts {
    let mut facts = V2Facts::default();
    let exports = exports
        .iter()
        .filter(|export| export.deployment == deployment);
    for case in exports.flat_map(|export| &export.cases) {
        let v1_case = v1_case_of(case);
        for (_, id) in &case.calendar_event_ids {
            facts.record(id.clone(), v1_case);
        }
        facts.texts.add_case(&text_of(case));
    }
    facts
}

/// v2's recorded ids by the v1 user they belong to: through the profile, or named on the case itself.
fn v2_ids_by_v1_user(exports: &[V2Export]) -> BTreeMap<String, BTreeSet<String>> {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for export in exports {
        let profiles: HashMap<&str, &str> = export
            .profiles
            .iter()
            .filter_map(|profile| {
                Some((profile.user_id.as_deref()?, profile.legacy_id.as_deref()?))
            })
            .collect();
        for case in &export.cases {
            let by_profile = case
                .user_id
                .as_deref()
                .and_then(|user| profiles.get(user))
                .copied();
            for user in by_profile.into_iter().chain(case.legacy_user_id.as_deref()) {
                ids.entry(user.to_lowercase())
                    .or_default()
                    .extend(case.calendar_event_ids.iter().map(|(_, id)| id.clone()));
            }
        }
    }
    ids
}

/// The case of v1 that a case of v2's came of.
fn v1_case_of(case: &V2Case) -> Option<Uuid> {
    Uuid::try_parse(case.legacy_id.as_deref()?).ok()
}

fn text_of(case: &V2Case) -> V2CaseText<'_> {
    V2CaseText {
        employer_name: case.employer_name.as_deref().unwrap_or_default(),
        beneficiary_identifier: case.beneficiary_identifier.as_deref().unwrap_or_default(),
        case_number: case.case_number.as_deref(),
        internal_case_number: case.internal_case_number.as_deref(),
        rfi_entry_ids: case
            .rfi_entries
            .iter()
            .map(|entry| entry.id.as_str())
            .collect(),
        rfe_entry_ids: case
            .rfe_entries
            .iter()
            .map(|entry| entry.id.as_str())
            .collect(),
        v1_case: v1_case_of(case),
    }
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
