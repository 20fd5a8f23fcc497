//! v1's events in users' Google calendars, as an executor.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ledger::domain::identify::{ExecutorLimits, Vocabulary};
use ledger::domain::policy::Policy;
use ledger::store::Clock;
use tokio::sync::OnceCell;

use super::place::CalendarPlace;
use super::reader::Reader;
use super::signals::VOCABULARY;
use super::sources::{SourceUser, Sources, check_clock, read_sources, read_v2, v2_recorded};
use crate::clients::convex::V2Export;
use crate::clients::http::{HttpLimits, WriteTransport};
use crate::clients::supabase::UsersTable;
use crate::engine::{EngineError, RunOptions};
use crate::executors::calendar::error::CalendarError;
use crate::executors::{
    Executor, Freshness, Inventory, Kinds, Place, PlannedUser, Summary, Unreachable,
};

/// Kind of the items' subjects.
pub const KIND: &str = "calendar-event";
/// Kind of the subject that owns them.
pub const ACCOUNT_KIND: &str = "calendar-account";
/// Kind of v1's users.
pub const USER_KIND: &str = "user";

/// What the calendar's executor is told.
#[derive(Debug, Clone)]
pub struct CalendarTold {
    /// v2's exports.
    pub v2_exports: Vec<PathBuf>,
    /// How old they may be when an item is deleted.
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
    pub(super) exports: Vec<V2Export>,
    v2_now: HashSet<String>,
    sources: OnceCell<Sources>,
    writing: OnceCell<WriteTransport>,
}

impl CalendarExecutor {
    /// Reads v2's exports; nothing is sent yet.
    ///
    /// # Errors
    /// An export that cannot be read.
    pub async fn open(
        reader: Reader,
        told: CalendarTold,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let exports = read_v2(told.v2_exports.clone()).await?;
        let v2_now = v2_recorded(&exports).map(str::to_owned).collect();
        Ok(Self {
            reader,
            told,
            clock,
            exports,
            v2_now,
            sources: OnceCell::new(),
            writing: OnceCell::new(),
        })
    }

    /// v1's users and cases, read once.
    pub(super) async fn sources(&self) -> Result<&Sources, CalendarError> {
        self.sources
            .get_or_try_init(|| {
                read_sources(
                    &self.reader,
                    self.told.users_table,
                    &self.exports,
                    &self.told.options,
                    &self.clock,
                )
            })
            .await
    }

    /// The one client that can change calendars; a dry run never asks for it.
    async fn writing(&self) -> Result<WriteTransport, CalendarError> {
        let limits = HttpLimits {
            request: self.told.options.lease.write_limit(),
            ..self.told.options.http
        };
        let open = || async { WriteTransport::open(&self.reader.config, limits) };
        Ok(self.writing.get_or_try_init(open).await?.clone())
    }

    fn oldest_export(&self) -> Option<DateTime<Utc>> {
        self.exports.iter().map(|export| export.taken_at).min()
    }
}

#[async_trait]
impl Executor for CalendarExecutor {
    fn kinds(&self) -> Kinds {
        Kinds {
            item: KIND.into(),
            owner: ACCOUNT_KIND.into(),
            user: USER_KIND.into(),
        }
    }

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
            ("go_live".to_owned(), time(options.go_live)),
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

    async fn prepare(&self) -> Result<(), EngineError> {
        self.sources().await?;
        Ok(())
    }

    async fn fresh_until(&self) -> Option<Freshness> {
        let max_age = chrono::Duration::from_std(self.told.v2_max_age).ok()?;
        Some(Freshness {
            until: self.oldest_export()?.checked_add_signed(max_age)?,
            then: "v2's export is older than --v2-max-age; export v2 anew (npx convex export --prod) and run \
                   the same plan again"
                .into(),
        })
    }

    fn accepts(&self, plan_header: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let refused = |why: String| Err(EngineError::Refused(why));
        if self.exports.is_empty() {
            return refused(
                "a live run needs a fresh export of v2 (--v2-export), so that nothing v2 relies on is \
                 deleted"
                    .to_owned(),
            );
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
        let now = self.clock.now().instant();
        let from_the_future =
            |export: &V2Export| check_clock("v2", Some(export.taken_at.max(now)), now).is_err();
        if self.exports.iter().any(from_the_future) {
            return refused(
                "an export of v2 says that it was taken in the future, so its age is not known"
                    .to_owned(),
            );
        }
        Ok(())
    }

    async fn relied_on(&self, item: &str) -> Option<Cow<'static, str>> {
        let relied_on = self.v2_now.contains(item);
        relied_on.then_some("v2 records this event by now and relies on it".into())
    }

    fn address(&self, user: &str) -> Option<String> {
        self.sources.get()?.user(user)?.email.clone()
    }

    fn share(&self, processes: u64) {
        self.reader.limiter.share(processes);
    }

    async fn open(
        &self,
        place: &str,
        users: &[PlannedUser],
    ) -> Result<Box<dyn Place>, Unreachable> {
        let failed = |error: &CalendarError| Unreachable {
            code: "failed".into(),
            class: crate::clients::ErrorClass::Server,
            status: None,
            attempt: 1,
            date: None,
            reason: crate::engine::with_causes(error),
        };
        let sources = self.sources().await.map_err(|error| failed(&error))?;
        let writing = self.writing().await.map_err(|error| failed(&error))?;
        // Two users may lead to one account: the first whose token works.
        let mut last = Unreachable::without_token("disconnected");
        for planned in users {
            let id = planned.id.as_deref();
            let Some(user) = id.and_then(|id| sources.user(id)) else {
                continue;
            };
            match self.open_through(place, user, planned, &writing).await {
                Ok(opened) => return Ok(Box::new(opened)),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl CalendarExecutor {
    async fn open_through(
        &self,
        place: &str,
        user: &SourceUser,
        planned: &PlannedUser,
        writing: &WriteTransport,
    ) -> Result<CalendarPlace, Unreachable> {
        let token = user
            .access
            .as_ref()
            .map_err(|why| Unreachable::without_token(why.code()))?;
        let same_token = planned.credential == user.token_fingerprint;
        let session = self.reader.google.session(&user.id, token.clone());
        // So that a dead grant shows here, where another user may lead to the account.
        session
            .token()
            .await
            .map_err(|error| Unreachable::token(&error))?;
        let opened = CalendarPlace::new(
            &self.reader.google,
            writing.clone(),
            session,
            user,
            same_token,
        );
        // Another stored token may lead to another account, where a 404 says nothing about the item.
        if !same_token && opened.resolved(user).await? != place {
            return Err(Unreachable::other_account());
        }
        Ok(opened)
    }
}
