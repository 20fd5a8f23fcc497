//! The live run: exactly the items of an approved plan, each at the version that was approved.
//!
//! Before anything is deleted: the plan's hash is recomputed from the log, its approval holds and is another person's, the
//! time gate is open or overridden, v2's ids are fresh, nobody else holds the lease, and what a crash left open is settled.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use ledger::domain::event::{Event, GateOverridden, RunFinished, RunStarted};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, RunId, Subject, Timestamp};
use ledger::domain::identify::Disposition;
use ledger::projections::plan::{self, Approval, PlanError, PlannedItem, Progress, SealedPlan};
use ledger::store::read::Filter;
use ledger::store::{Draft, Store};
use serde::Serialize;

use super::accounts::{Pace, Unreachable, calendar_of};
use super::dry_run::ACCOUNT_KIND;
use super::lease::PlanLease;
use super::runlog::RunLog;
use super::sources::{SourceUser, Sources, read_sources, read_v2, v2_recorded};
use super::step::{ItemEnd, Live, Stopped, ended, nothing_new};
use super::{EngineError, Progress as Done, Reader, Recorder, RunOptions, check_clock};
use crate::clients::convex::V2Export;
use crate::clients::google::{CalendarReader, CalendarWriter};
use crate::clients::http::{HttpLimits, WriteTransport};
use crate::clients::supabase::UsersTable;

/// The plan's cleanup comes no earlier than this after going live.
const GATE: chrono::Duration = chrono::Duration::hours(24);
/// So many items of a user may fail one after another before the user is left for later.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

/// What a live run is told.
#[derive(Debug)]
pub struct LiveRun {
    /// The plan.
    pub plan: Hash,
    /// v2's exports, fresh ones.
    pub v2_exports: Vec<PathBuf>,
    /// How old they may be when an item is deleted.
    pub v2_max_age: Duration,
    /// Which of v1's tables of users, where both exist.
    pub users_table: Option<UsersTable>,
    /// Pace and times.
    pub options: RunOptions,
    /// Why it may run before its time.
    pub override_reason: Option<String>,
}

/// What a live run came to.
#[derive(Debug, Serialize)]
pub struct LiveReport {
    /// The run.
    pub run: RunId,
    /// The plan.
    pub plan: Hash,
    /// `complete`, `partial` or `stopped`.
    pub status: String,
    /// Why it stopped, or what to do about what is left.
    pub notes: Vec<String>,
    /// Items by outcome.
    pub totals: BTreeMap<String, u64>,
    /// Per user.
    pub users: Vec<UserOutcome>,
}

/// One account's part.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UserOutcome {
    /// v1's id of the user whose token was used.
    pub user: String,
    /// For the terminal of who may see it.
    pub email: Option<String>,
    /// Items of the plan to be deleted.
    pub found: u64,
    /// Deleted, now or in an earlier run of this plan.
    pub deleted: u64,
    /// Gone before we came.
    pub already_gone: u64,
    /// Left for a person at the moment of deletion.
    pub held: u64,
    /// Not done.
    pub failed: u64,
    /// Changes to planned or recorded items that no entry explains.
    pub unexplained: u64,
    /// What went wrong, with what to do.
    pub errors: Vec<String>,
}

impl UserOutcome {
    /// Adds to what went wrong; the same thing stands there once.
    fn say(&mut self, error: impl Into<String>) {
        let error = error.into();
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Counts an account at which nothing is begun: what earlier runs have ended stays so, the rest is not done.
    fn not_begun(&mut self, place: &Place, known: &BTreeMap<Subject, Progress>) {
        for item in &place.items {
            match known.get(&item.subject).and_then(ended) {
                Some(ItemEnd::Deleted) => self.deleted += 1,
                Some(ItemEnd::AlreadyGone) => self.already_gone += 1,
                Some(ItemEnd::Held) => self.held += 1,
                _ => self.failed += 1,
            }
        }
    }
}

/// How the items of one account ended, for the look at it afterwards.
#[derive(Debug, Default)]
pub(super) struct Ends<'a> {
    /// Gone, as the ledger says.
    pub(super) gone: HashSet<&'a Subject>,
    /// Left for a person.
    pub(super) held: HashSet<&'a Subject>,
    /// Not done, or not known to be: what a look shows of them is for the next run to settle.
    pub(super) open: HashSet<&'a Subject>,
}

/// The items of one account that are to be deleted.
pub(super) struct Place {
    pub(super) calendar: String,
    pub(super) owner: Subject,
    pub(super) user: Option<PlaceUser>,
    pub(super) items: Vec<PlannedItem>,
}

/// The user through whom an account is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlaceUser {
    /// Position among the sources.
    pub(super) n: usize,
    /// The stored token is the one that the plan was made with, so it leads to the same account.
    pub(super) same_token: bool,
}

impl From<PlanError> for EngineError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Read(error) => Self::Read(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Executes a plan, or goes on with one that was interrupted.
///
/// # Errors
/// What concerns the whole run. Nothing was begun where it is [`EngineError::Refused`].
pub async fn live_run(
    reader: &Reader,
    store: &Store,
    actor: &Actor,
    told: LiveRun,
    open_log: &(dyn Fn(RunId) -> std::io::Result<RunLog> + Sync),
    progress: &(dyn Fn(Done) + Sync),
) -> Result<LiveReport, EngineError> {
    let plan = plan::load(store, told.plan).await?;
    let exports = read_v2(told.v2_exports.clone()).await?;
    let clock = store.clock().clone();
    let stale_at = stale_at(&plan, &exports, told.v2_max_age, clock.now().instant())?;
    let begun = plan::progress(store, plan.hash).await?;
    let may = Permission {
        plan: &plan,
        runner: actor,
        told: &told,
        stale_at,
    };
    // Before anything is sent. What a crash left open is settled whatever has lapsed since.
    if begun.values().all(|progress| progress.open.is_none()) {
        may.begin(clock.now())?;
    }
    let approval = may.approval(clock.now())?;
    let lease = PlanLease::take(
        store,
        // One for all plans that decisions have made of it: their items are the same.
        plan.root.uuid(),
        actor.as_str(),
        told.options.lease,
    )
    .await?;
    let work = async {
        let sources =
            read_sources(reader, told.users_table, &exports, &told.options, &clock).await?;
        let v2_now = v2_recorded(&exports).map(str::to_owned).collect();
        let open = run_of(store, plan.hash).await?;
        if let Some((_, starter)) = &open
            && *starter == approval.person
        {
            return Err(not_approved(&plan, starter));
        }
        let resumed = open.is_some();
        let run = open.map_or_else(|| store.clock().run_id(), |(run, _)| run);
        let recorder = Recorder {
            store: store.clone(),
            actor: actor.clone(),
            run,
        };
        let log = Arc::new(open_log(run).map_err(|error| {
            EngineError::Refused(format!("the run's log file could not be opened: {error}"))
        })?);
        let live = Live {
            recorder,
            by_place: by_place(&plan),
            tokens: tokens_of(store, plan.run).await?,
            plan: plan.clone(),
            approval,
            lease: lease.clone(),
            log,
            timing: reader.timing.clone(),
            retry: told.options.retry,
            v2_now,
            v2_stale_at: stale_at,
        };
        execute(reader, &live, &told, &sources, resumed, progress).await
    };
    let result = tokio::select! {
        result = work => result,
        lost = lease.keep() => return Err(lost.into()),
    };
    lease.release().await;
    result
}

/// What a run needs before it may begin anything.
struct Permission<'a> {
    plan: &'a SealedPlan,
    runner: &'a Actor,
    told: &'a LiveRun,
    stale_at: DateTime<Utc>,
}

impl Permission<'_> {
    /// The approval that the run goes by. A lapsed one begins nothing, but what was begun under it is still settled.
    fn approval(&self, now: Timestamp) -> Result<Approval, EngineError> {
        let independent = |approval: &&Approval| {
            approval.is_independent_of(&self.plan.makers) && approval.person != *self.runner
        };
        let standing = self.plan.approval_at(now, Some(self.runner));
        let lapsed = || self.plan.approvals.iter().rev().find(independent);
        standing
            .or_else(lapsed)
            .cloned()
            .ok_or_else(|| not_approved(self.plan, self.runner))
    }

    /// Refuses where nothing may be begun.
    fn begin(&self, now: Timestamp) -> Result<(), EngineError> {
        let approval = self.approval(now)?;
        if let Some(reason) = nothing_new(&approval, self.stale_at, now) {
            return Err(EngineError::Refused(reason));
        }
        match gate(self.told, now.instant()) {
            Some(why) if self.told.override_reason.is_none() => Err(too_early(&why)),
            _ => Ok(()),
        }
    }
}

fn too_early(why: &str) -> EngineError {
    EngineError::Refused(format!(
        "{why}; wait, or run it all the same with --override REASON, which is recorded"
    ))
}

fn by_place(plan: &SealedPlan) -> HashMap<String, Vec<usize>> {
    let mut by_place: HashMap<String, Vec<usize>> = HashMap::new();
    for (n, item) in plan.items.iter().enumerate() {
        by_place.entry(item.place.clone()).or_default().push(n);
    }
    by_place
}

/// Digests of the stored tokens as a dry run saw them.
async fn tokens_of(
    store: &Store,
    run: RunId,
) -> Result<HashMap<Subject, Option<String>>, EngineError> {
    let mut tokens = HashMap::new();
    let mut entries = std::pin::pin!(store.read(Filter {
        types: "user.found".parse().into_iter().collect(),
        run: Some(run),
        ..Filter::default()
    }));
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let json = recorded.payload.json().unwrap_or_default();
        if let Ok(Event::UserFound(found)) = Event::decode("user.found", 1, json) {
            tokens.insert(recorded.entry.subject, found.token_fingerprint);
        }
    }
    Ok(tokens)
}

fn stale_at(
    plan: &SealedPlan,
    exports: &[V2Export],
    max_age: Duration,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, EngineError> {
    let oldest = exports.iter().map(|export| export.taken_at).min();
    let oldest = oldest.ok_or_else(|| {
        EngineError::Refused(
            "a live run needs a fresh export of v2 (--v2-export), so that nothing v2 relies on is \
             deleted"
                .to_owned(),
        )
    })?;
    let header = plan.sealed.header.keys();
    let planned =
        header.filter(|name| name.starts_with("v2_export") && name.ends_with("_taken_at"));
    let planned = planned.count();
    if exports.len() < planned {
        return Err(EngineError::Refused(format!(
            "the plan was made with {planned} exports of v2 and {} was given now; give a fresh one for \
             each (--v2-export)",
            exports.len()
        )));
    }
    if exports
        .iter()
        .any(|export| check_clock("v2", Some(export.taken_at.max(now)), now).is_err())
    {
        return Err(EngineError::Refused(
            "an export of v2 says that it was taken in the future, so its age is not known"
                .to_owned(),
        ));
    }
    Ok(oldest + chrono::Duration::from_std(max_age).unwrap_or(chrono::Duration::MAX))
}

fn not_approved(plan: &SealedPlan, actor: &Actor) -> EngineError {
    let short = &plan.hash.to_string()[..16];
    let own = plan
        .approvals
        .iter()
        .any(|approval| approval.person == *actor);
    EngineError::Refused(if own {
        format!("plan {short} was approved by {actor}, who may not run it too: four eyes")
    } else {
        format!(
            "plan {short} is not approved: somebody else runs `ledger approve {short} --as NAME`"
        )
    })
}

/// `None` where the time has come; else why not.
fn gate(told: &LiveRun, now: DateTime<Utc>) -> Option<String> {
    match told.options.go_live {
        None => Some("when v2 went live is not known (--go-live)".to_owned()),
        Some(at) if now < at + GATE => Some(format!(
            "it is before go-live + 24 h ({})",
            (at + GATE).to_rfc3339()
        )),
        Some(_) => None,
    }
}

/// The run to go on with, and who started it: that of this plan which has started and not finished.
async fn run_of(store: &Store, plan: Hash) -> Result<Option<(RunId, Actor)>, EngineError> {
    let types = ["run.started", "run.finished"]
        .map(str::parse)
        .into_iter()
        .flatten()
        .collect();
    let mut entries = std::pin::pin!(store.read(Filter {
        types,
        ..Filter::default()
    }));
    let mut open: Option<(RunId, Actor)> = None;
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let entry = &recorded.entry;
        let Some(json) = recorded.payload.json() else {
            continue;
        };
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::RunStarted(started)) if started.plan == Some(plan) => {
                open = entry.run.map(|run| (run, entry.actor.clone()));
            }
            Ok(Event::RunFinished(_)) if entry.run == open.as_ref().map(|(run, _)| *run) => {
                open = None;
            }
            _ => {}
        }
    }
    Ok(open)
}

async fn execute(
    reader: &Reader,
    live: &Live,
    told: &LiveRun,
    sources: &Sources,
    resumed: bool,
    progress: &(dyn Fn(Done) + Sync),
) -> Result<LiveReport, EngineError> {
    let mut known = plan::progress(&live.recorder.store, live.plan.hash).await?;
    let places = places(live, sources).await?;
    let writing = WriteTransport::open(
        &reader.config,
        HttpLimits {
            request: live.lease.write_limit(),
            ..told.options.http
        },
    )?;
    if known.values().any(|progress| progress.open.is_some()) {
        recover(reader, live, sources, &places, &known).await?;
        known = plan::progress(&live.recorder.store, live.plan.hash).await?;
    }
    if let Some(reason) = live.stopped() {
        return Err(EngineError::Refused(reason));
    }
    if let Some(why) = gate(told, live.recorder.store.clock().now().instant()) {
        pass_gate(live, told, &why).await?;
    }
    if !resumed {
        started(live, told).await?;
    }
    let known = Arc::new(known);
    let all = places.len() as u64;
    let pace = Pace::new(reader, &told.options);
    let mut report = LiveReport {
        run: live.recorder.run,
        plan: live.plan.hash,
        status: String::new(),
        notes: Vec::new(),
        totals: BTreeMap::new(),
        users: Vec::new(),
    };
    let work = |place: Place| {
        let (known, pace, writing) = (known.clone(), pace.clone(), writing.clone());
        async move { one_place(reader, live, sources, place, &known, &pace, writing).await }
    };
    let mut results = stream::iter(places)
        .map(work)
        .buffer_unordered(told.options.users_at_once.max(1));
    while let Some(result) = results.next().await {
        let (user, stopped) = result?;
        report.users.push(user);
        if let Some(reason) = stopped
            && !report.notes.contains(&reason)
        {
            report.notes.push(reason);
        }
        progress(Done {
            done: report.users.len() as u64,
            all,
        });
    }
    drop(results);
    finish(live, sources, report).await
}

async fn pass_gate(live: &Live, told: &LiveRun, why: &str) -> Result<(), EngineError> {
    let Some(reason) = &told.override_reason else {
        return Err(too_early(why));
    };
    let event = Event::GateOverridden(GateOverridden {
        gate: "go_live_plus_24h".to_owned(),
        reason: reason.clone(),
    });
    let subject = &live.plan.subject;
    let appended = live.record(&event, subject, subject, None, None).await?;
    live.log.entry(&appended, &[("gate", "go_live_plus_24h")]);
    Ok(())
}

async fn started(live: &Live, told: &LiveRun) -> Result<(), EngineError> {
    let subject = run_subject(live.recorder.run)?;
    let mut options = BTreeMap::from([(
        "user_interval_ms".to_owned(),
        told.options.user_interval.as_millis().to_string(),
    )]);
    if let Some(at) = told.options.go_live {
        options.insert("go_live".to_owned(), at.to_rfc3339());
    }
    let event = Event::RunStarted(RunStarted {
        verb: "cleanup".to_owned(),
        plan: Some(live.plan.hash),
        approval: Some(live.approval.id),
        options,
    });
    let appended = live.record(&event, &subject, &subject, None, None).await?;
    live.log
        .entry(&appended, &[("plan", &live.plan.hash.to_string())]);
    Ok(())
}

fn run_subject(run: RunId) -> Result<Subject, EngineError> {
    Subject::new("run", run.uuid()).map_err(|error| EngineError::Internal(error.to_string()))
}

/// The accounts of the plan, each with a user whose token leads to it.
async fn places(live: &Live, sources: &Sources) -> Result<Vec<Place>, EngineError> {
    let store = &live.recorder.store;
    let by_id: HashMap<&str, usize> = sources
        .users
        .iter()
        .enumerate()
        .map(|(n, user)| (user.id.as_str(), n))
        .collect();
    let mut grouped: BTreeMap<String, Vec<PlannedItem>> = BTreeMap::new();
    for item in live.plan.with(Disposition::Delete) {
        grouped
            .entry(item.place.clone())
            .or_default()
            .push(item.clone());
    }
    let mut places = Vec::new();
    let mut ids: HashMap<&Subject, Option<String>> = HashMap::new();
    for (calendar, items) in &grouped {
        let calendar = calendar.clone();
        let owner = store
            .subject_of(ACCOUNT_KIND, &calendar)
            .await?
            .ok_or_else(|| {
                EngineError::Refused("an account of the plan has no subject any more".to_owned())
            })?;
        let mut user = None;
        for subject in items.iter().flat_map(|item| &item.users) {
            if !ids.contains_key(subject) {
                ids.insert(subject, store.natural_id(subject).await?);
            }
            let id = ids.get(subject).cloned().flatten();
            let found = id.and_then(|id| by_id.get(id.as_str()).copied());
            if let Some(n) = found.filter(|n| sources.users[*n].access.is_ok()) {
                let same = live.tokens.get(subject) == Some(&sources.users[n].token_fingerprint);
                user = Some(PlaceUser {
                    n,
                    same_token: same,
                });
                break;
            }
        }
        places.push(Place {
            calendar,
            owner,
            user,
            items: items.clone(),
        });
    }
    Ok(places)
}

async fn recover(
    reader: &Reader,
    live: &Live,
    sources: &Sources,
    places: &[Place],
    known: &BTreeMap<Subject, Progress>,
) -> Result<(), EngineError> {
    for open in known.values().filter_map(|progress| progress.open.as_ref()) {
        let place = places.iter().find(|place| place.calendar == open.place);
        let Some((place, calendar)) =
            place.and_then(|place| Some((place, calendar_for(reader, sources, place)?)))
        else {
            continue;
        };
        live.recover(&calendar, &place.owner, open).await?;
    }
    Ok(())
}

fn calendar_for(reader: &Reader, sources: &Sources, place: &Place) -> Option<CalendarReader> {
    let user: &SourceUser = sources.users.get(place.user?.n)?;
    let token = user.access.as_ref().ok()?;
    Some(calendar_of(reader, &user.id, token))
}

impl Live {
    /// Records that the rest of a user's items is left for another run.
    async fn user_stopped(&self, place: &Place, why: &Stopped) -> Result<(), EngineError> {
        self.user_failed(&place.owner, "cleanup", "stopped", why)
            .await
    }
}

async fn one_place(
    reader: &Reader,
    live: &Live,
    sources: &Sources,
    place: Place,
    known: &BTreeMap<Subject, Progress>,
    starts: &Pace,
    writing: WriteTransport,
) -> Result<(UserOutcome, Option<String>), EngineError> {
    let mut outcome = UserOutcome {
        found: place.items.len() as u64,
        ..UserOutcome::default()
    };
    let Some(user) = place.user.and_then(|user| sources.users.get(user.n)) else {
        outcome.not_begun(&place, known);
        outcome.say(Unreachable::without_token("disconnected").reason);
        return Ok((outcome, None));
    };
    outcome.user.clone_from(&user.id);
    outcome.email.clone_from(&user.email);
    let Ok(token) = &user.access else {
        outcome.not_begun(&place, known);
        return Ok((outcome, None));
    };
    if let Some(reason) = live.stopped() {
        outcome.not_begun(&place, known);
        return Ok((outcome, Some(reason)));
    }
    starts.start().await;
    let session = reader.google.session(&user.id, token.clone());
    let writer = CalendarWriter::new(&reader.google, writing, session);
    let before = match live.list_before(writer.reader(), &place, user).await? {
        Ok(before) => before,
        Err(why) => {
            outcome.not_begun(&place, known);
            outcome.errors.push(why.reason.clone());
            let why = stopped_by(&why);
            live.user_stopped(&place, &why).await?;
            return Ok((outcome, None));
        }
    };
    let mut ends = Ends::default();
    let stopped = each_item(live, &writer, &place, known, &mut ends, &mut outcome).await?;
    match live
        .observe_after(writer.reader(), &place, &before, &ends)
        .await?
    {
        Ok(unexplained) => outcome.unexplained = unexplained,
        Err(error) => {
            let why = Stopped::by(&error);
            outcome.errors.push(why.reason.clone());
            live.user_failed(&place.owner, "observe", "skipped", &why)
                .await?;
        }
    }
    Ok((outcome, stopped))
}

/// Brings each item of an account to its end; gives why the whole run stops, if it does.
async fn each_item<'a>(
    live: &Live,
    writer: &CalendarWriter,
    place: &'a Place,
    known: &BTreeMap<Subject, Progress>,
    ends: &mut Ends<'a>,
    outcome: &mut UserOutcome,
) -> Result<Option<String>, EngineError> {
    let none = Progress::default();
    let mut in_a_row = 0;
    let mut stopped = None;
    // After this nothing more is begun here; what earlier runs have ended is still counted.
    let mut over = false;
    for item in &place.items {
        let progress = known.get(&item.subject).unwrap_or(&none);
        let end = match ended(progress) {
            Some(end) => end,
            None if over => ItemEnd::Failed(String::new()),
            // Google could not be asked about it; until it can, nothing is done to this item.
            None if progress.open.is_some() => ItemEnd::Failed(
                "what became of an earlier deletion could not be asked: run it again".to_owned(),
            ),
            None => live.execute(writer, &place.owner, item, progress).await?,
        };
        let subject = &item.subject;
        match end {
            ItemEnd::Deleted => {
                ends.gone.insert(subject);
                outcome.deleted += 1;
                in_a_row = 0;
            }
            ItemEnd::AlreadyGone => {
                ends.gone.insert(subject);
                outcome.already_gone += 1;
                in_a_row = 0;
            }
            ItemEnd::Held => {
                ends.held.insert(subject);
                outcome.held += 1;
                in_a_row = 0;
            }
            ItemEnd::Failed(reason) => {
                ends.open.insert(subject);
                outcome.failed += 1;
                if over {
                    continue;
                }
                in_a_row += 1;
                outcome.say(reason);
                if in_a_row >= FAILURES_IN_A_ROW_MAX {
                    outcome.say(format!(
                        "{in_a_row} items failed one after another: run it again"
                    ));
                    over = true;
                }
            }
            ItemEnd::UserStopped(why) => {
                ends.open.insert(subject);
                outcome.failed += 1;
                outcome.say(why.reason.clone());
                live.user_stopped(place, &why).await?;
                over = true;
            }
            ItemEnd::RunStopped(reason) => {
                outcome.failed += 1;
                stopped = Some(reason);
                over = true;
            }
        }
    }
    Ok(stopped)
}

fn stopped_by(why: &Unreachable) -> Stopped {
    Stopped {
        class: why.class,
        status: why.status,
        attempt: why.attempt,
        date: why.date,
        reason: why.reason.clone(),
    }
}

async fn finish(
    live: &Live,
    sources: &Sources,
    mut report: LiveReport,
) -> Result<LiveReport, EngineError> {
    let emails: HashMap<&str, usize> = sources
        .users
        .iter()
        .enumerate()
        .map(|(n, user)| (user.id.as_str(), n))
        .collect();
    report
        .users
        .sort_by_key(|user| emails.get(user.user.as_str()).copied());
    let mut add = |name: &str, of: fn(&UserOutcome) -> u64| {
        let sum: u64 = report.users.iter().map(of).sum();
        report.totals.insert(name.to_owned(), sum);
        sum
    };
    add("planned", |user| user.found);
    add("deleted", |user| user.deleted);
    add("already_gone", |user| user.already_gone);
    add("unexplained", |user| user.unexplained);
    let left = add("held", |user| user.held) + add("failed", |user| user.failed);
    let status = match (report.notes.is_empty(), left) {
        (false, _) => "stopped",
        (true, 0) => "complete",
        _ => "partial",
    };
    status.clone_into(&mut report.status);
    let subject = run_subject(live.recorder.run)?;
    let event = Event::RunFinished(RunFinished {
        status: status.to_owned(),
        totals: report.totals.clone(),
    });
    let actor = live.recorder.actor.clone();
    let mut draft = Draft::of(&event, subject.clone(), actor, subject)?;
    draft.run = Some(live.recorder.run);
    draft.fence = Some(live.lease.fence().clone());
    let appended = live.recorder.store.append(draft).await?;
    live.log.entry(&appended, &[("status", status)]);
    Ok(report)
}
