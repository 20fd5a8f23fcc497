//! The live run: exactly the items of an approved plan, each at the version that was approved.
//!
//! Before anything is deleted: the plan's hash is recomputed from the log, its approval holds and is another person's, the
//! time gate is open or overridden, v2's ids are fresh, nobody else holds the lease, and what a crash left open is settled.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

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

use super::lease::Lease;
use super::pace::Pace;
use super::runlog::RunLog;
use super::step::{ItemEnd, Live, Stopped, ended, nothing_new};
use super::{EngineError, Progress as Done, Recorder, RunOptions};
use crate::clients::retry::Timing;
use crate::executors::{Executor, Freshness, Place as OpenPlace, PlannedUser};

/// The plan's cleanup comes no earlier than this after going live.
const GATE: chrono::Duration = chrono::Duration::hours(24);
/// So many items of a user may fail one after another before the user is left for later.
const FAILURES_IN_A_ROW_MAX: u32 = 5;

/// What a live run is told.
#[derive(Debug)]
pub struct LiveRun {
    /// The plan.
    pub plan: Hash,
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
    /// Where the account stands among the others, for the order of the report.
    #[serde(skip)]
    position: usize,
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

/// The items of one place that are to be deleted.
pub(super) struct Place {
    /// Its natural id.
    pub(super) id: String,
    pub(super) owner: Subject,
    pub(super) users: Vec<PlannedUser>,
    pub(super) items: Vec<PlannedItem>,
    position: usize,
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
    executor: Arc<dyn Executor>,
    timing: Arc<dyn Timing>,
    store: &Store,
    actor: &Actor,
    told: LiveRun,
    open_log: &(dyn Fn(RunId) -> std::io::Result<RunLog> + Sync),
    progress: &(dyn Fn(Done) + Sync),
) -> Result<LiveReport, EngineError> {
    let plan = plan::load(store, told.plan).await?;
    executor.accepts(&plan.sealed.header)?;
    let clock = store.clock().clone();
    let begun = plan::progress(store, plan.hash).await?;
    let fresh = executor.fresh_until().await;
    let may = Permission {
        plan: &plan,
        runner: actor,
        told: &told,
        fresh: fresh.as_ref(),
    };
    // Before anything is sent. What a crash left open is settled whatever has lapsed since.
    if begun.values().all(|progress| progress.open.is_none()) {
        may.begin(clock.now())?;
    }
    let approval = may.approval(clock.now())?;
    let name = format!("plan/{}", plan.subject.uuid());
    let lease = Lease::take(store, name, actor.as_str(), told.options.lease).await?;
    let work = async {
        executor.prepare().await?;
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
            credentials: credentials_of(store, plan.run).await?,
            plan: plan.clone(),
            approval,
            lease: lease.clone(),
            log,
            timing,
            retry: told.options.retry,
            executor,
        };
        execute(&live, &told, resumed, progress).await
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
    fresh: Option<&'a Freshness>,
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
        if let Some(reason) = nothing_new(&approval, self.fresh, now) {
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

/// Digests of the stored credentials as a dry run saw them.
async fn credentials_of(
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
    live: &Live,
    told: &LiveRun,
    resumed: bool,
    progress: &(dyn Fn(Done) + Sync),
) -> Result<LiveReport, EngineError> {
    let mut known = plan::progress(&live.recorder.store, live.plan.hash).await?;
    let places = places(live).await?;
    if known.values().any(|progress| progress.open.is_some()) {
        recover(live, &places, &known).await?;
        known = plan::progress(&live.recorder.store, live.plan.hash).await?;
    }
    if let Some(reason) = live.stopped().await {
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
    let pace = Pace::new(live.timing.clone(), told.options.user_interval);
    let mut report = LiveReport {
        run: live.recorder.run,
        plan: live.plan.hash,
        status: String::new(),
        notes: Vec::new(),
        totals: BTreeMap::new(),
        users: Vec::new(),
    };
    let work = |place: Place| {
        let (known, pace) = (known.clone(), pace.clone());
        async move { one_place(live, place, &known, &pace).await }
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
    finish(live, report).await
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

/// The places of the plan, each with the users through whom it was found.
async fn places(live: &Live) -> Result<Vec<Place>, EngineError> {
    let store = &live.recorder.store;
    let mut grouped: BTreeMap<String, Vec<PlannedItem>> = BTreeMap::new();
    for item in live.plan.with(Disposition::Delete) {
        grouped
            .entry(item.place.clone())
            .or_default()
            .push(item.clone());
    }
    let owner_kind = live.executor.kinds().owner;
    let mut places = Vec::new();
    let mut ids: HashMap<Subject, Option<String>> = HashMap::new();
    for (position, (id, items)) in grouped.into_iter().enumerate() {
        let owner = store.subject_of(&owner_kind, &id).await?.ok_or_else(|| {
            EngineError::Refused("an account of the plan has no subject any more".to_owned())
        })?;
        let mut users: Vec<PlannedUser> = Vec::new();
        for subject in items.iter().flat_map(|item| &item.users) {
            if !ids.contains_key(subject) {
                ids.insert(subject.clone(), store.natural_id(subject).await?);
            }
            let id = ids.get(subject).cloned().flatten();
            if id.is_none() || !users.iter().any(|user| user.id == id) {
                let credential = live.credentials.get(subject).cloned().flatten();
                users.push(PlannedUser { id, credential });
            }
        }
        places.push(Place {
            id,
            owner,
            users,
            items,
            position,
        });
    }
    Ok(places)
}

async fn recover(
    live: &Live,
    places: &[Place],
    known: &BTreeMap<Subject, Progress>,
) -> Result<(), EngineError> {
    let mut opened: HashMap<&str, Option<Box<dyn OpenPlace>>> = HashMap::new();
    for open in known.values().filter_map(|progress| progress.open.as_ref()) {
        let Some(place) = places.iter().find(|place| place.id == open.place) else {
            continue;
        };
        if !opened.contains_key(place.id.as_str()) {
            let reached = live.executor.open(&place.id, &place.users).await.ok();
            opened.insert(&place.id, reached);
        }
        if let Some(Some(reached)) = opened.get(place.id.as_str()) {
            live.recover(reached.as_ref(), &place.owner, open).await?;
        }
    }
    Ok(())
}

impl Live {
    /// Records that the rest of a user's items is left for another run.
    async fn user_stopped(&self, place: &Place, why: &Stopped) -> Result<(), EngineError> {
        self.user_failed(&place.owner, "cleanup", "stopped", why)
            .await
    }
}

async fn one_place(
    live: &Live,
    place: Place,
    known: &BTreeMap<Subject, Progress>,
    starts: &Pace,
) -> Result<(UserOutcome, Option<String>), EngineError> {
    let mut outcome = UserOutcome {
        found: place.items.len() as u64,
        position: place.position,
        ..UserOutcome::default()
    };
    if let Some(reason) = live.stopped().await {
        outcome.not_begun(&place, known);
        return Ok((outcome, Some(reason)));
    }
    starts.start().await;
    let opened = match live.executor.open(&place.id, &place.users).await {
        Ok(opened) => opened,
        Err(why) => {
            outcome.not_begun(&place, known);
            outcome.say(why.reason.clone());
            if why.attempt > 0 {
                live.user_stopped(&place, &Stopped::from(&why)).await?;
            }
            return Ok((outcome, None));
        }
    };
    let opened = opened.as_ref();
    let through = opened.through();
    outcome.user = through.user;
    outcome.email = through.email;
    let before = match live.list_before(opened, &place).await? {
        Ok(before) => before,
        Err(error) => {
            outcome.not_begun(&place, known);
            outcome.say(format!("{}: run it again later", error.reason));
            live.user_stopped(&place, &Stopped::from(&error)).await?;
            return Ok((outcome, None));
        }
    };
    let mut ends = Ends::default();
    let stopped = each_item(live, opened, &place, known, &mut ends, &mut outcome).await?;
    match live
        .observe_after(opened, &place, before.as_deref(), &ends)
        .await?
    {
        Ok(unexplained) => outcome.unexplained = unexplained,
        Err(error) => {
            let why = Stopped::from(&error);
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
    opened: &dyn OpenPlace,
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
            // Nobody could be asked about it; until somebody can, nothing is done to this item.
            None if progress.open.is_some() => ItemEnd::Failed(
                "what became of an earlier deletion could not be asked: run it again".to_owned(),
            ),
            None => live.execute(opened, &place.owner, item, progress).await?,
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

async fn finish(live: &Live, mut report: LiveReport) -> Result<LiveReport, EngineError> {
    report.users.sort_by_key(|user| user.position);
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
