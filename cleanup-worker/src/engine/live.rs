//! The live run: exactly the items of an approved plan, each at the version that was approved.
//!
//! Before anything is deleted: the plan's hash is recomputed from the log, its approval holds and is another person's, the
//! time gate is open or overridden, what it relies on is fresh, and nobody else holds the plan's lease. Then the run is opened with one
//! command for each place, for this process and any number of workers ([`join`](super::join)); before a place is touched, what
//! a crash left open there is settled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use ledger::domain::event::{Event, GateOverridden, RunFinished, RunStarted};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, RunId, Subject, Timestamp};
use ledger::domain::identify::Disposition;
use ledger::projections::plan::{self, Approval, PlanError, SealedPlan};
use ledger::store::commands::{NewCommand, NewRun};
use ledger::store::read::Filter;
use ledger::store::{AppendError, Store};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::canary;
use super::lease::{Lease, LeaseTimes};
use super::limits::Limits;
use super::patience::patiently;
use super::permission::{GATE_NAME, Permission, gate, not_approved, planned_go_live, too_early};
pub use super::place::UserOutcome;
use super::place::{Known, Outline};
use super::runlog::RunLog;
use super::step::{Live, ended};
use super::work::{Work, holder};
use super::{EngineError, Progress as Done, Recorder, RunOptions, with_causes};
use crate::clients::retry::Timing;
use crate::executors::{Executor, PlannedUser};

/// How often it is looked whether others have come to their end.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// What a live run is told.
#[derive(Debug, Clone)]
pub struct LiveRun {
    /// The plan.
    pub plan: Hash,
    /// Pace and times.
    pub options: RunOptions,
    /// Why it may run before its time.
    pub override_reason: Option<String>,
    /// Only so many places, then a person has to look.
    pub canary: Option<u64>,
    /// What makes it stop by itself.
    pub limits: Limits,
}

/// What a live run was told, as workers that join it need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) limits: Limits,
    pub(super) go_live: Option<DateTime<Utc>>,
}

/// What a live run came to.
#[derive(Debug, Serialize)]
pub struct LiveReport {
    /// The run.
    pub run: RunId,
    /// The plan.
    pub plan: Hash,
    /// `complete`, `partial`, `stopped`, `canary` or `interrupted`.
    pub status: String,
    /// Why it stopped, or what to do about what is left.
    pub notes: Vec<String>,
    /// Items by outcome.
    pub totals: BTreeMap<String, u64>,
    /// Per user.
    pub users: Vec<UserOutcome>,
}

impl From<PlanError> for EngineError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Read(error) => Self::Read(error),
            error @ PlanError::Items(_) => Self::Internal(with_causes(&error)),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What a run needs of its process.
pub struct Hands<'a, E: ?Sized = dyn Executor> {
    /// The kind of item: a whole executor, or as much of one as the run needs.
    pub executor: Arc<E>,
    /// Sleeping and jitter.
    pub timing: Arc<dyn Timing>,
    /// The ledger.
    pub store: &'a Store,
    /// Who runs it.
    pub actor: &'a Actor,
    /// Opens the run's log file.
    pub open_log: &'a (dyn Fn(RunId) -> std::io::Result<RunLog> + Sync),
    /// How far this process is.
    pub progress: &'a (dyn Fn(Done) + Sync),
    /// Told to stop: what is begun reaches its outcome, nothing new starts.
    pub stop: CancellationToken,
}

/// Executes a plan, or goes on with one that was interrupted.
///
/// # Errors
/// What concerns the whole run. Nothing was begun where it is [`EngineError::Refused`].
pub async fn live_run(hands: &Hands<'_>, told: &LiveRun) -> Result<LiveReport, EngineError> {
    let (store, actor) = (hands.store, hands.actor);
    let plan = plan::load(store, told.plan).await?;
    of_kind(&plan, &hands.executor.kinds().item)?;
    hands.executor.accepts(&plan.sealed.header)?;
    let now = store.clock().now();
    let begun = plan::progress(store, plan.hash).await?;
    let fresh = hands.executor.fresh_until().await;
    let may = Permission {
        plan: &plan,
        runner: actor,
        go_live: told.options.go_live,
        override_reason: told.override_reason.as_deref(),
        fresh: fresh.as_ref(),
    };
    // Before anything is sent. What a crash left open is settled whatever has lapsed since.
    let refusal = may.begin(now).err();
    if let Some(refusal) = refusal {
        if begun.open()?.is_empty() {
            return Err(refusal);
        }
        let approval = may.approval(now)?;
        return begin(hands, told, plan, approval, Some(refusal)).await;
    }
    spread_out(&plan, told.limits)?;
    canary::check(store, plan.hash).await?;
    let approval = may.approval(now)?;
    begin(hands, told, plan, approval, None).await
}

/// Refuses a plan of items that this executor does not know.
pub(super) fn of_kind(plan: &SealedPlan, kind: &str) -> Result<(), EngineError> {
    match plan.sealed.header.get("kind") {
        Some(planned) if planned != kind => Err(EngineError::Refused(format!(
            "the plan is of items of kind {planned}, and this command is for {kind}"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a plan that deletes too much of one user, wherever it lies.
fn spread_out(plan: &SealedPlan, limits: Limits) -> Result<(), EngineError> {
    let mut by_user: HashMap<Subject, u64> = HashMap::new();
    for item in plan.with(Disposition::Delete) {
        for user in item?.users {
            *by_user.entry(user).or_default() += 1;
        }
    }
    let most = by_user.values().copied().max().unwrap_or_default();
    let max = limits.deletions_per_user_max;
    if most > max {
        return Err(EngineError::Refused(format!(
            "the plan deletes {most} items of one user, more than {max}: look at it, then say so with \
             --user-deletions-max {most}"
        )));
    }
    Ok(())
}

/// One for all plans that decisions have made of one inventory: their items are the same.
pub(super) fn lease_name(plan: &SealedPlan) -> String {
    format!("plan/{}", plan.root.uuid())
}

/// Ends what other processes still do for another plan over the same items: no place is taken any more, and what was taken is
/// waited for, or, where its holder died, for as long as what that sent may still arrive.
async fn one_run_at_a_time(
    store: &Store,
    plan: &SealedPlan,
    times: LeaseTimes,
) -> Result<(), EngineError> {
    let family = plan::family(store, plan.hash).await?;
    for open in store.open_runs().await? {
        if open.plan == plan.hash || !family.contains(&open.plan) {
            continue;
        }
        store.close_run(open.run).await?;
        while store.is_worked_on(open.run, times.write_limit()).await? {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

async fn begin(
    hands: &Hands<'_>,
    told: &LiveRun,
    plan: SealedPlan,
    approval: Approval,
    refusal: Option<EngineError>,
) -> Result<LiveReport, EngineError> {
    let (store, actor) = (hands.store, hands.actor);
    let lease = Lease::take(store, lease_name(&plan), actor.as_str(), told.options.lease).await?;
    let work = async {
        one_run_at_a_time(store, &plan, told.options.lease).await?;
        hands.executor.prepare().await?;
        let open = run_of(store, plan.hash).await?;
        if let Some(begun) = &open
            && begun.starter.is_same_as(&approval.person)
        {
            return Err(not_approved(&plan, &begun.starter));
        }
        let resumed = open.is_some();
        let canary = open.as_ref().and_then(|open| open.canary);
        let told = &LiveRun {
            // A canary that was interrupted goes on as one: nobody has looked yet.
            canary: told.canary.or(canary),
            ..told.clone()
        };
        let run = open.map_or_else(|| store.clock().run_id(), |open| open.run);
        let live = live_of(hands, told, run, plan, approval, lease.clone()).await?;
        execute(hands, &live, told, resumed, refusal).await
    };
    let result = tokio::select! {
        result = work => result,
        lost = lease.keep() => return Err(lost.into()),
    };
    lease.release().await;
    result
}

pub(super) async fn live_of(
    hands: &Hands<'_>,
    told: &LiveRun,
    run: RunId,
    plan: SealedPlan,
    approval: Approval,
    lease: Lease,
) -> Result<Live, EngineError> {
    let log = (hands.open_log)(run).map_err(EngineError::Log)?;
    Ok(Live {
        recorder: Recorder {
            store: hands.store.clone(),
            actor: hands.actor.clone(),
            run,
        },
        reached: Arc::default(),
        plan: Arc::new(plan),
        approval,
        lease,
        log,
        timing: hands.timing.clone(),
        retry: told.options.retry,
        limits: told.limits,
        executor: hands.executor.clone(),
        stop: hands.stop.clone(),
    })
}

/// A run that has started and not finished.
pub(super) struct Begun {
    pub(super) run: RunId,
    pub(super) starter: Actor,
    /// It is one over so many places.
    canary: Option<u64>,
}

/// The run of this plan to go on with.
pub(super) async fn run_of(store: &Store, plan: Hash) -> Result<Option<Begun>, EngineError> {
    let types = ["run.started", "run.finished"]
        .map(str::parse)
        .into_iter()
        .flatten()
        .collect();
    let mut entries = std::pin::pin!(store.read(Filter {
        types,
        ..Filter::default()
    }));
    let mut open: Option<Begun> = None;
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let entry = &recorded.entry;
        let Some(json) = recorded.payload.json() else {
            continue;
        };
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::RunStarted(started)) if started.plan == Some(plan) => {
                let canary = started.options.get("canary");
                open = entry.run.map(|run| Begun {
                    run,
                    starter: entry.actor.clone(),
                    canary: canary.and_then(|first| first.parse().ok()),
                });
            }
            Ok(Event::RunFinished(_)) if entry.run == open.as_ref().map(|open| open.run) => {
                open = None;
            }
            _ => {}
        }
    }
    Ok(open)
}

async fn execute(
    hands: &Hands<'_>,
    live: &Live,
    told: &LiveRun,
    resumed: bool,
    refusal: Option<EngineError>,
) -> Result<LiveReport, EngineError> {
    let store = &live.recorder.store;
    let run = live.recorder.run;
    let known = live.known_now().await?;
    let places = places(live).await?;
    let commands = commands(&live.plan, &places, &known)?;
    if refusal.is_none() {
        let now = store.clock().now().instant();
        if let Some(why) = gate(&live.plan, told.options.go_live, now) {
            pass_gate(live, told, &why).await?;
        }
        if !resumed {
            started(live, told).await?;
        }
    }
    let new = NewRun {
        run,
        plan: live.plan.hash,
        told: serde_json::to_string(&Told {
            limits: told.limits,
            go_live: told.options.go_live,
        })
        .map_err(|error| EngineError::Internal(error.to_string()))?,
        interval: told.options.user_interval,
        first_only: told.canary,
        stopped: refusal.as_ref().map(ToString::to_string),
    };
    patiently(|| store.open_run(&new, &commands)).await?;
    let work = Work {
        live,
        places,
        known,
        times: told.options.lease,
        holder: holder(live),
        progress: hands.progress,
        done: 0.into(),
    };
    work.until_done(told.options.users_at_once, &hands.stop)
        .await?;
    if let Some(refusal) = refusal {
        store.close_run(run).await?;
        return Err(refusal);
    }
    if hands.stop.is_cancelled() {
        return interrupted(live, &work.places).await;
    }
    finish(live, &work.places).await
}

/// One command for each place, in an order that everybody can repeat: first where something was left open, which is settled before anything
/// else; last what earlier runs have ended, so that a canary takes the next ones.
fn commands(
    plan: &SealedPlan,
    places: &HashMap<Subject, Outline>,
    known: &Known,
) -> Result<Vec<NewCommand>, EngineError> {
    let mut order: Vec<(bool, bool, &str, &Subject)> = Vec::with_capacity(places.len());
    for (owner, place) in places {
        let (mut is_open, mut is_ended) = (false, false);
        if !known.is_empty() {
            is_ended = true;
            for item in place.with_items(plan)?.items {
                let progress = known.of(&item.subject)?;
                is_open |= progress.open.is_some();
                is_ended &= ended(&progress).is_some();
            }
        }
        order.push((!is_open, is_ended, place.id.as_str(), owner));
    }
    order.sort_unstable();
    let numbered = (0_u64..).zip(order);
    let command =
        |(position, (not_open, .., owner)): (u64, (bool, bool, &str, &Subject))| NewCommand {
            subject: owner.clone(),
            position,
            settles: !not_open,
        };
    Ok(numbered.map(command).collect())
}

/// The places of the plan by their owners, each with the users through whom it was found.
pub(super) async fn places(live: &Live) -> Result<HashMap<Subject, Outline>, EngineError> {
    let store = &live.recorder.store;
    let credentials = patiently(|| credentials_of(store, live.plan.run)).await?;
    let mut grouped: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
    for item in live.plan.with(Disposition::Delete) {
        let item = item?;
        let users = grouped.entry(item.place).or_default();
        for user in item.users {
            if !users.contains(&user) {
                users.push(user);
            }
        }
    }
    let owner_kind = live.executor.kinds().owner;
    let mut places = HashMap::new();
    let mut ids: HashMap<Subject, Option<String>> = HashMap::new();
    for (id, subjects) in grouped {
        let owner = patiently(|| store.subject_of(&owner_kind, &id)).await?;
        let owner = owner.ok_or_else(|| {
            EngineError::Refused("an account of the plan has no subject any more".to_owned())
        })?;
        let mut users: Vec<PlannedUser> = Vec::new();
        for subject in subjects {
            if !ids.contains_key(&subject) {
                let id = patiently(|| store.natural_id(&subject)).await?;
                ids.insert(subject.clone(), id);
            }
            let id = ids.get(&subject).cloned().flatten();
            if !users.iter().any(|user| user.id == id) {
                let credential = credentials.get(&subject).cloned().flatten();
                users.push(PlannedUser { id, credential });
            }
        }
        let place = Outline {
            id,
            owner: owner.clone(),
            users,
        };
        places.insert(owner, place);
    }
    Ok(places)
}

/// Digests of the stored credentials as a dry run saw them.
async fn credentials_of(
    store: &Store,
    run: RunId,
) -> Result<HashMap<Subject, Option<String>>, EngineError> {
    let mut credentials = HashMap::new();
    let mut entries = std::pin::pin!(store.read(Filter {
        types: "user.found".parse().into_iter().collect(),
        run: Some(run),
        ..Filter::default()
    }));
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let json = recorded.payload.json().unwrap_or_default();
        if let Ok(Event::UserFound(found)) = Event::decode("user.found", 1, json) {
            credentials.insert(recorded.entry.subject, found.token_fingerprint);
        }
    }
    Ok(credentials)
}

async fn pass_gate(live: &Live, told: &LiveRun, why: &str) -> Result<(), EngineError> {
    let Some(reason) = &told.override_reason else {
        return Err(too_early(why));
    };
    let event = Event::GateOverridden(GateOverridden {
        gate: GATE_NAME.to_owned(),
        reason: reason.clone(),
    });
    let subject = &live.plan.subject;
    let appended = live.record(&event, subject, subject, None, None).await?;
    live.log.entry(&appended, &[("gate", GATE_NAME)]);
    Ok(())
}

async fn started(live: &Live, told: &LiveRun) -> Result<(), EngineError> {
    let subject = run_subject(live.recorder.run)?;
    let mut options = BTreeMap::from([(
        "user_interval_ms".to_owned(),
        told.options.user_interval.as_millis().to_string(),
    )]);
    // The stricter of the two: what the run goes by.
    if let Some(at) = told.options.go_live.max(planned_go_live(&live.plan)) {
        options.insert("go_live".to_owned(), at.to_rfc3339());
    }
    if let Some(first) = told.canary {
        options.insert("canary".to_owned(), first.to_string());
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

/// What the run came to so far, for a process that was told to stop. The run stays open.
async fn interrupted(
    live: &Live,
    places: &HashMap<Subject, Outline>,
) -> Result<LiveReport, EngineError> {
    let mut report = report(live, places, false).await?;
    "interrupted".clone_into(&mut report.status);
    report
        .notes
        .push("it was told to stop; run the same command again to go on".to_owned());
    Ok(report)
}

/// Ends the run and says what it came to. Whoever is first writes it; the others find it written.
pub(super) async fn finish(
    live: &Live,
    places: &HashMap<Subject, Outline>,
) -> Result<LiveReport, EngineError> {
    let report = report(live, places, true).await?;
    let run = live.recorder.run;
    let subject = run_subject(run)?;
    let event = Event::RunFinished(RunFinished {
        status: report.status.clone(),
        totals: report.totals.clone(),
    });
    let key = format!("run/{}/finished", run.uuid())
        .parse()
        .map_err(|error| EngineError::Internal(format!("build a key: {error}")))?;
    match live
        .record(&event, &subject, &subject, Some(key), None)
        .await
    {
        Ok(appended) => live.log_end(&appended, places, &report).await?,
        // Who stood still meanwhile knows no more what came of the run than that somebody else ended it.
        Err(EngineError::Append(AppendError::KeyReused { .. })) => live.lease.renew().await?,
        Err(error) => return Err(error),
    }
    patiently(|| live.recorder.store.close_run(run)).await?;
    Ok(report)
}

/// What the run came to so far; `is_over`: nothing is gone on with.
async fn report(
    live: &Live,
    places: &HashMap<Subject, Outline>,
    is_over: bool,
) -> Result<LiveReport, EngineError> {
    let store = &live.recorder.store;
    let run = live.recorder.run;
    let known = live.known_now().await?;
    let standing = patiently(|| store.standing(run)).await?.unwrap_or_default();
    let mut users = Vec::new();
    let mut not_taken = 0;
    for command in patiently(|| store.commands(run)).await? {
        let Some(place) = places.get(&command.subject) else {
            continue;
        };
        let kept = command.result.filter(|_| command.is_done);
        let kept = kept.and_then(|json| serde_json::from_str::<UserOutcome>(&json).ok());
        not_taken += u64::from(kept.is_none());
        let mut outcome = match kept {
            Some(outcome) => outcome,
            None => UserOutcome::not_begun(&place.with_items(&live.plan)?, &known)?,
        };
        outcome.belongs_to(place, |user| live.executor.address(user));
        users.push(outcome);
    }
    let mut totals = BTreeMap::new();
    let mut add = |name: &str, of: fn(&UserOutcome) -> u64| {
        let sum: u64 = users.iter().map(of).sum();
        totals.insert(name.to_owned(), sum);
        sum
    };
    add("planned", |user| user.found);
    add("deleted", |user| user.deleted);
    add("already_gone", |user| user.already_gone);
    add("unexplained", |user| user.unexplained);
    let left = add("held", |user| user.held)
        + add("failed", |user| user.failed)
        + add("not_begun", |user| user.not_begun)
        + add("there_again", |user| user.there_again)
        + add("unseen", |user| u64::from(user.unseen));
    // One that is interrupted goes on as one: there is nothing to be let begin yet.
    let is_canary = is_over && standing.first_only.is_some() && not_taken > 0;
    let mut notes: Vec<String> = standing.stopped.into_iter().collect();
    let status = match (notes.is_empty(), left) {
        (false, _) => "stopped",
        (true, 0) => "complete",
        (true, _) if is_canary => "canary",
        _ => "partial",
    };
    let out_of_reach = live.plan.with(Disposition::OutOfReach);
    let items = out_of_reach
        .map(|item| item.map(|_| 1))
        .sum::<Result<u64, PlanError>>()?;
    totals.insert("out_of_reach".to_owned(), items);
    if status == "canary" {
        notes.push(format!(
            "a canary: look at the first {} users (ledger review deletions), then somebody else lets the rest begin: \
             ledger approve {} --canary --as NAME",
            users.len() as u64 - not_taken,
            &live.plan.hash.to_string()[..16]
        ));
    }
    Ok(LiveReport {
        run,
        plan: live.plan.hash,
        status: status.to_owned(),
        notes,
        totals,
        users,
    })
}

/// The approval that a worker goes by who joins a run: neither the worker's own nor that of whoever began it.
pub(super) fn approval_of(
    plan: &SealedPlan,
    starter: &Actor,
    worker: &Actor,
    now: Timestamp,
) -> Result<Approval, EngineError> {
    let may = Permission {
        plan,
        runner: starter,
        go_live: None,
        override_reason: None,
        fresh: None,
    };
    let approval = may.approval(now)?;
    if approval.person.is_same_as(worker) {
        return Err(not_approved(plan, worker));
    }
    Ok(approval)
}
