//! v1's events in users' Google calendars, as an executor.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ledger::domain::identify::{ExecutorLimits, Vocabulary};
use ledger::domain::policy::Policy;
use ledger::store::Clock;
use tokio::sync::OnceCell;

use super::accounts::MADE_UP;
use super::inventory::HELD;
use super::place::CalendarPlace;
use super::reader::Reader;
use super::records::Records;
use super::signals::VOCABULARY;
use super::sources::{ExportSeen, SourceUser, Sources, check_clock, read_sources};
use super::writing::Writing;
use crate::clients::ErrorClass;
use crate::clients::convex::{V2Records, V2Sources, V2Watch};
use crate::clients::http::WriteTransport;
use crate::clients::supabase::UsersTable;
use crate::config::Deployment;
use crate::engine::permission::GO_LIVE;
use crate::engine::{EngineError, RunOptions};
use crate::executors::calendar::error::CalendarError;
use crate::executors::{
    Executor, Freshness, Inventory, Kinds, Place, Places, PlannedUser, Summary, Unreachable,
};

/// Kind of the items' subjects.
pub const KIND: &str = "calendar-event";
/// Kind of the subject that owns them.
pub const ACCOUNT_KIND: &str = "calendar-account";
/// Kind of v1's users.
pub const USER_KIND: &str = "user";

/// These three, however calendars are reached.
pub(super) fn kinds() -> Kinds {
    Kinds {
        item: KIND.into(),
        owner: ACCOUNT_KIND.into(),
        user: USER_KIND.into(),
    }
}

/// What the calendar's executor is told.
#[derive(Debug, Clone)]
pub struct CalendarTold {
    /// Exports of v2, beside the deployments that are read live.
    pub v2_exports: Vec<(PathBuf, Deployment)>,
    /// How old what is known of v2 may be when an item is deleted.
    pub v2_max_age: Duration,
    /// Which of v1's tables of users, where both exist.
    pub users_table: Option<UsersTable>,
    /// Pace and times.
    pub options: RunOptions,
}

/// The calendar as the engine knows it.
pub struct CalendarExecutor {
    pub(super) reader: Reader,
    pub(super) told: CalendarTold,
    pub(super) clock: Clock,
    /// What v2 said, without what it said.
    exports: Vec<ExportSeen>,
    /// What it said; who executes a plan relies on `v2` alone.
    records: Arc<V2Records>,
    v2: V2Watch,
    sources: OnceCell<Sources>,
    writing: Writing,
}

impl CalendarExecutor {
    /// Reads what v2 records, from its deployments and from exports; nothing else is sent yet.
    ///
    /// # Errors
    /// A deployment or an export that cannot be read.
    pub async fn open(
        reader: Reader,
        told: CalendarTold,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let sources = V2Sources {
            live: reader.v2.clone(),
            files: told.v2_exports.clone(),
        };
        let (exports, records) = sources.read().await.map_err(CalendarError::from)?;
        let records = Arc::new(records);
        let v2 = V2Watch::new(&sources, &exports, records.clone(), told.v2_max_age);
        let writing = Writing::new(&reader, &told.options);
        Ok(Self {
            reader,
            told,
            clock,
            exports: exports.iter().map(ExportSeen::from).collect(),
            records,
            v2,
            sources: OnceCell::new(),
            writing,
        })
    }

    /// v1's users and the ways to their calendars, read once.
    async fn sources(&self) -> Result<&Sources, CalendarError> {
        let read = || async { Ok(self.read(None).await?.0) };
        self.sources.get_or_try_init(read).await
    }

    /// All that an inventory is judged by, read anew.
    pub(super) async fn everything(&self) -> Result<(Sources, Records), EngineError> {
        let (sources, records) = self.read(Some(&self.records)).await?;
        let missing = || EngineError::Internal("v1's cases were not read".to_owned());
        Ok((sources, records.ok_or_else(missing)?))
    }

    async fn read(
        &self,
        v2: Option<&Arc<V2Records>>,
    ) -> Result<(Sources, Option<Records>), CalendarError> {
        let (table, options) = (self.told.users_table, &self.told.options);
        read_sources(&self.reader, table, v2, options, &self.clock).await
    }

    /// What was read of v2.
    pub(super) fn exports(&self) -> &[ExportSeen] {
        &self.exports
    }

    /// Whether it is known what v2's users rely on.
    pub(super) fn v2_known(&self) -> bool {
        self.production().next().is_some()
    }

    fn production(&self) -> impl Iterator<Item = &ExportSeen> {
        let exports = self.exports.iter();
        exports.filter(|export| export.deployment == Deployment::Production)
    }

    /// v2 was read again, or was not and why; what is known counts until it is too old.
    fn note(result: Result<(), crate::clients::convex::ExportError>) {
        if let Err(error) = result {
            let why = crate::engine::with_causes(&error);
            tracing::warn!(%why, "v2 could not be read again");
        }
    }
}

#[async_trait]
impl Places for CalendarExecutor {
    fn kinds(&self) -> Kinds {
        kinds()
    }

    async fn prepare(&self) -> Result<(), EngineError> {
        self.sources().await?;
        Ok(())
    }

    fn address(&self, user: &str) -> Option<String> {
        self.sources.get()?.user(user)?.email.clone()
    }

    async fn open(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let writing = self.writing.transport().await?;
        self.reach(place, users, Some(&writing)).await
    }

    async fn look(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        self.reach(place, users, None).await
    }
}

#[async_trait]
impl Executor for CalendarExecutor {
    fn vocabulary(&self) -> Vocabulary<'_> {
        VOCABULARY
    }

    fn limits(&self) -> ExecutorLimits {
        ExecutorLimits::NONE_LACKING
    }

    fn header(&self) -> BTreeMap<String, String> {
        let time =
            |at: Option<DateTime<Utc>>| at.map_or("unknown".to_owned(), |at| at.to_rfc3339());
        let options = &self.told.options;
        let mut header = BTreeMap::from([
            (GO_LIVE.to_owned(), time(options.go_live)),
            (
                "freeze".to_owned(),
                time(options.freeze.or(options.go_live)),
            ),
        ]);
        for (n, export) in self.exports.iter().enumerate() {
            header.insert(format!("v2_export_{n}"), export.digest.clone());
            header.insert(
                format!("v2_export_{n}_taken_at"),
                export.taken_at.to_rfc3339(),
            );
            header.insert(format!("v2_export_{n}_cases"), export.cases.to_string());
            header.insert(
                format!("v2_export_{n}_deployment"),
                export.deployment.as_str().to_owned(),
            );
        }
        header
    }

    async fn inventory(
        &self,
        policy: &Policy,
        to: &mut dyn Inventory,
    ) -> Result<Summary, EngineError> {
        super::inventory::inventory(self, policy, to).await
    }

    async fn fresh_until(&self) -> Option<Freshness> {
        Self::note(self.v2.keep_fresh(self.clock.now().instant()).await);
        Some(Freshness {
            until: self.v2.stale_at().await,
            then: "what is known of v2 is older than --v2-max-age; export v2 anew (npx convex export --prod), or have \
                   it read live (CONVEX_URL), and run the same plan again"
                .into(),
        })
    }

    async fn look_again(&self) {
        Self::note(self.v2.renew(self.clock.now().instant()).await);
    }

    fn accepts(&self, plan_header: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let refused = |why: String| Err(EngineError::Refused(why));
        let of = |deployment: Deployment| {
            let exports = self.exports.iter();
            exports
                .filter(|export| export.deployment == deployment)
                .count()
        };
        if of(Deployment::Production) == 0 {
            return refused(
                "a live run needs to know what v2 records (CONVEX_URL and CONVEX_DEPLOY_KEY, or a fresh \
                 --v2-export), so that nothing v2 relies on is deleted"
                    .to_owned(),
            );
        }
        // Nor by what a person decided since: it was not known what v2 relies on, and it is not known by the same sources now.
        if let Some(why) = plan_header.get(HELD) {
            return refused(format!(
                "nothing may be deleted by this plan: every item was {why}; make a new one"
            ));
        }
        let planned = plan_header
            .keys()
            .filter(|name| name.starts_with("v2_export") && name.ends_with("_taken_at"))
            .count();
        if self.exports.len() < planned {
            return refused(format!(
                "the plan was made with {planned} exports of v2 and {} was given now; give a fresh one for \
                 each (--v2-export)",
                self.exports.len()
            ));
        }
        for deployment in Deployment::ALL {
            let planned = plan_header
                .iter()
                .filter(|(name, _)| name.starts_with("v2_export") && name.ends_with("_deployment"))
                .filter(|(_, value)| *value == deployment.as_str())
                .count();
            if of(deployment) < planned {
                return refused(format!(
                    "the plan was made with what v2's {} deployment records, and that was not given now",
                    deployment.as_str()
                ));
            }
        }
        let planned = planned_cases(plan_header);
        let cases: u64 = self.production().map(|export| export.cases).sum();
        if cases < planned.div_ceil(2) {
            return refused(format!(
                "the plan was made with {planned} cases of v2's production and {cases} were read now: is it the right \
                 deployment or export?"
            ));
        }
        let now = self.clock.now().instant();
        let from_the_future =
            |export: &ExportSeen| check_clock("v2", Some(export.taken_at.max(now)), now).is_err();
        if self.exports.iter().any(from_the_future) {
            return refused(
                "an export of v2 says that it was taken in the future, so its age is not known"
                    .to_owned(),
            );
        }
        Ok(())
    }

    async fn relied_on(&self, item: &str) -> Result<Option<Cow<'static, str>>, EngineError> {
        let relied_on = self.v2.relies_on(item).await.map_err(CalendarError::from)?;
        Ok(relied_on.then_some("v2 records this event by now and relies on it".into()))
    }

    fn share(&self, processes: u64) {
        self.reader.limiter.share(processes);
    }
}

/// The cases of v2's production that a plan was made with; a plan of an older program does not say.
fn planned_cases(plan_header: &BTreeMap<String, String>) -> u64 {
    let cases = plan_header.iter().filter_map(|(name, value)| {
        let export = name.strip_suffix("_cases")?;
        let deployment = plan_header.get(&format!("{export}_deployment"))?;
        let is_production = deployment == Deployment::Production.as_str();
        is_production.then(|| value.parse::<u64>().ok()).flatten()
    });
    cases.sum()
}

fn may_pass(why: &Unreachable) -> bool {
    matches!(
        why.class,
        ErrorClass::Server | ErrorClass::Network | ErrorClass::Quota
    )
}

/// v1's watch channels of a calendar, of whichever of its users: one account and one client opened them.
fn channels_of(place: &str, users: &[PlannedUser], sources: &Sources) -> Vec<(String, String)> {
    let ids = users.iter().filter_map(|user| user.id.as_deref());
    let users = ids.filter_map(|id| sources.user(id));
    let channels = users.flat_map(|user| {
        let is_second = |name: &str| user.calendars.iter().any(|one| one == name);
        let second = user
            .calendars
            .iter()
            .any(|one| one.eq_ignore_ascii_case(place));
        let here = user.channels.iter().filter(move |channel| {
            let name = channel.calendar_id.trim();
            name.eq_ignore_ascii_case(place) || (!second && !is_second(name))
        });
        here.filter_map(|channel| Some((channel.channel_id.clone()?, channel.resource_id.clone()?)))
    });
    channels.collect()
}

impl CalendarExecutor {
    async fn reach(
        &self,
        place: &str,
        users: &[PlannedUser],
        writing: Option<&WriteTransport>,
    ) -> Result<Box<dyn Place>, Unreachable> {
        let sources = self.sources().await?;
        // Of a place in which the plan has no item it is not known who leads there, where it is no primary one: whom v1 recorded it for.
        let led = || {
            let here = |user: &&SourceUser| {
                let mut calendars = user.calendars.iter();
                calendars.any(|calendar| calendar.eq_ignore_ascii_case(place))
            };
            let led = sources.users.iter().filter(here).map(|user| PlannedUser {
                id: Some(user.id.clone()),
                credential: user.token_fingerprint.clone(),
            });
            led.collect()
        };
        let users = match users {
            [] => Cow::Owned(led()),
            users => Cow::Borrowed(users),
        };
        // Two users may lead to one account: the first whose token works, and may write where that is needed.
        let mut last = Unreachable::without_token("disconnected");
        let mut reading: Option<Box<dyn Place>> = None;
        for planned in users.iter() {
            let id = planned.id.as_deref();
            let Some(user) = id.and_then(|id| sources.user(id)) else {
                continue;
            };
            let channels = channels_of(place, &users, sources);
            let opened = self.open_through(place, user, planned, writing, channels);
            match opened.await {
                Ok((opened, true)) => return Ok(Box::new(opened)),
                Ok((opened, false)) => {
                    reading.get_or_insert_with(|| Box::new(opened));
                }
                Err(why) => last = why,
            }
        }
        // What it may not do it is told when it tries; where another may, for whom it only did not work just now, that is what it is told.
        match reading {
            Some(reading) if !may_pass(&last) => Ok(reading),
            _ => Err(last),
        }
    }

    /// The place through this user, and whether the user's grant is enough for what it is opened for.
    async fn open_through(
        &self,
        place: &str,
        user: &SourceUser,
        planned: &PlannedUser,
        writing: Option<&WriteTransport>,
        channels: Vec<(String, String)>,
    ) -> Result<(CalendarPlace, bool), Unreachable> {
        let token = user
            .access
            .as_ref()
            .map_err(|why| Unreachable::without_token(why.code()))?;
        let same_token = planned.credential == user.token_fingerprint;
        let mut recorded = user.calendars.iter();
        let second = recorded.find(|calendar| calendar.eq_ignore_ascii_case(place));
        let session = self.reader.google.session(&user.id, token.clone());
        // So that a dead grant shows here, where another user may lead to the account.
        let access = session.token().await;
        let access = access.map_err(|error| Unreachable::token(&error))?;
        let enough = writing.is_none() || access.may_write();
        let open = |name: Option<&str>| {
            CalendarPlace::new(
                &self.reader.google,
                writing.cloned(),
                session.clone(),
                user.id.clone(),
                name,
                channels.clone(),
                same_token,
            )
        };
        // A second calendar is named by its own id: who cannot see it cannot list it.
        if let Some(second) = second {
            return Ok((open(Some(second)), enough));
        }
        let primary = open(None);
        let address = user.google_email.as_deref().map(str::to_lowercase);
        // What a listing that does not tell its address is called by, see `resolved_id`: no calendar's id.
        let is_made_up = place.strip_prefix(MADE_UP);
        if same_token && (address.as_deref() == Some(place) || is_made_up == Some(&user.id)) {
            return Ok((primary, enough));
        }
        // What v1's rows do not name (any more) may be a second calendar, or a primary one that tells its address no more, once it was emptied. By its
        // own id it is the right one or none.
        if is_made_up.is_none() {
            let named = open(Some(place));
            if named.is_there().await? {
                return Ok((named, enough));
            }
        }
        // Another stored token may lead to another account, where a 404 says nothing about the item; and what is no longer known as a second
        // calendar must not be taken for the primary one.
        if primary.resolved(user).await? == place {
            Ok((primary, enough))
        } else {
            Err(Unreachable::other_account())
        }
    }
}
