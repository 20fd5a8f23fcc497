//! Undo: what this ledger deleted is put back from the backups in it.
//!
//! [`choose`] says what is meant and what hinders; [`preview`] looks at each place and changes nothing; [`restore`] puts back, place by
//! place, item by item (`item.rs`: intent, effect, outcome), and looks again afterwards. It needs no approval, since at two in the
//! morning there is nobody to ask: it needs a person, and what was deleted by this ledger.

mod choice;
mod item;
mod look;
mod place;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{FutureExt as _, select_all};
use futures_util::{StreamExt as _, stream};
use ledger::domain::event::{Event, RunFinished, RunStarted};
use ledger::domain::hash::Hash;
use ledger::domain::id::{Actor, RunId, Subject};
use ledger::store::lease::LeaseError;
use ledger::store::read::Filter;
use ledger::store::{Appended, Draft, Fence, Store};
use tokio_util::sync::CancellationToken;

pub use self::choice::{Choice, choose};
pub use self::report::{Ended, ItemBack, RestoreReport, UserBack};
use super::lease::{Lease, LeaseTimes};
use super::live::{Hands, POLL};
use super::pace::Pace;
use super::patience::patiently;
use super::runlog::RunLog;
use super::{EngineError, Progress, Recorder, RunOptions};
use crate::clients::retry::{RetryPolicy, Timing};
use crate::executors::Places;

/// What a restoration is told, beside what is meant.
#[derive(Debug, Clone)]
pub struct RestoreTold {
    /// Pace and times.
    pub options: RunOptions,
    /// Why, where something was said; it stays in the log for ever, so it names a case and no person.
    pub reason: Option<String>,
    /// Items for which another live one stands are left.
    pub leave_stand_ins: bool,
    /// The credentials are those of who restores, not those that the retired system stored.
    pub own_credentials: bool,
}

/// What all items of a restoration share.
#[derive(Clone)]
struct Restorer {
    recorder: Recorder,
    /// The lease of each plan whose items are put back.
    leases: Vec<(Hash, Lease)>,
    log: RunLog,
    timing: Arc<dyn Timing>,
    places: Arc<dyn Places>,
    /// Told to stop: what is begun reaches its outcome, nothing new starts.
    stop: CancellationToken,
    retry: RetryPolicy,
    /// Items for which another live one stands are left.
    leave_stand_ins: bool,
}

/// Looks at each place: what is there, by which way each item would come back, and what would not come back with it. Changes nothing and
/// records nothing.
///
/// # Errors
/// What concerns all places.
pub async fn preview(
    hands: &Hands<'_, dyn Places>,
    choice: Choice,
    told: &RestoreTold,
) -> Result<RestoreReport, EngineError> {
    let (places, store) = (hands.executor.as_ref(), hands.store);
    places.prepare().await?;
    let leave = told.leave_stand_ins;
    let all = choice.places.len() as u64;
    let pace = Pace::new(hands.timing.clone(), told.options.user_interval);
    let mut report = RestoreReport::new(None, &choice);
    let work = |place| {
        let pace = pace.clone();
        async move { place::preview(places, store, place, leave, &pace).await }
    };
    let mut results = stream::iter(choice.places)
        .map(work)
        .buffer_unordered(told.options.users_at_once.max(1));
    while let Some(result) = results.next().await {
        report.add(result?);
        (hands.progress)(Progress {
            done: report.users.len() as u64,
            all,
        });
    }
    drop(results);
    report.finish("preview");
    Ok(report)
}

/// Puts back what is meant, or goes on with it where an earlier run of the same was interrupted.
///
/// # Errors
/// What concerns the whole run. Nothing was begun where it is [`EngineError::Refused`].
pub async fn restore(
    hands: &Hands<'_, dyn Places>,
    choice: Choice,
    told: &RestoreTold,
) -> Result<RestoreReport, EngineError> {
    let (store, actor) = (hands.store, hands.actor);
    if choice.is_settled()
        && open_run(store, choice.digest).await?.is_none()
        && let Some(report) = all_still_back(hands, &choice, told).await?
    {
        return Ok(report);
    }
    hands.executor.prepare().await?;
    let leases = take_leases(store, actor, &choice, told.options.lease).await?;
    let kept: Vec<Lease> = leases.iter().map(|(_, lease)| lease.clone()).collect();
    tokio::select! {
        stopped = stop_workers(store, &choice, told.options.lease) => stopped?,
        lost = any_lost(&kept) => return Err(lost.into()),
    }
    // What was done between choosing and taking the leases is known from here on.
    let kind = hands.executor.kinds().item;
    let choice = choose(store, &choice.selection, &kind).await?;
    let open = open_run(store, choice.digest).await?;
    let resumed = open.is_some();
    let run = open.unwrap_or_else(|| store.clock().run_id());
    let log = (hands.open_log)(run).map_err(EngineError::Log)?;
    let restorer = Restorer {
        recorder: Recorder {
            store: store.clone(),
            actor: actor.clone(),
            run,
        },
        leases,
        log,
        timing: hands.timing.clone(),
        places: hands.executor.clone(),
        // What every user would meet stops all places as a signal does.
        stop: hands.stop.child_token(),
        retry: told.options.retry,
        leave_stand_ins: told.leave_stand_ins,
    };
    let result = tokio::select! {
        result = restorer.execute(choice, told, resumed, hands.progress) => result,
        lost = any_lost(&kept) => return Err(lost.into()),
    };
    for lease in kept {
        lease.release().await;
    }
    result
}

/// What was put back before is looked at, and where all of it is there nothing is begun; `None`: some of it is gone again.
async fn all_still_back(
    hands: &Hands<'_, dyn Places>,
    choice: &Choice,
    told: &RestoreTold,
) -> Result<Option<RestoreReport>, EngineError> {
    let mut report = preview(hands, choice.clone(), told).await?;
    if !report.is_all_before() {
        return Ok(None);
    }
    let status = if report.all_back() {
        "complete"
    } else {
        "partial"
    };
    status.clone_into(&mut report.status);
    Ok(Some(report))
}

/// The lease of every plan concerned, so that no cleanup of it is under way; in one order, so that two restorations cannot wait for
/// each other.
async fn take_leases(
    store: &Store,
    actor: &Actor,
    choice: &Choice,
    times: LeaseTimes,
) -> Result<Vec<(Hash, Lease)>, EngineError> {
    let mut leases: Vec<(Hash, Lease)> = Vec::new();
    let mut taken: BTreeMap<&Subject, Lease> = BTreeMap::new();
    for (plan, subject) in &choice.plans {
        if let Some(lease) = taken.get(subject) {
            leases.push((*plan, lease.clone()));
            continue;
        }
        let name = format!("plan/{}", subject.uuid());
        match Lease::take(store, name, actor.as_str(), times).await {
            Ok(lease) => {
                taken.insert(subject, lease.clone());
                leases.push((*plan, lease));
            }
            Err(error) => {
                for (_, lease) in leases {
                    lease.release().await;
                }
                return Err(error.into());
            }
        }
    }
    Ok(leases)
}

/// A cleanup of these plans that was interrupted may still have workers: they begin nothing more, and what they have begun is waited for.
async fn stop_workers(
    store: &Store,
    choice: &Choice,
    times: LeaseTimes,
) -> Result<(), EngineError> {
    for open in store.open_runs().await? {
        if choice.together.contains(&open.plan) {
            let reason = "what this plan deleted is being put back";
            store.stop_run(open.run, reason).await?;
            while store.is_worked_on(open.run, times.write_limit()).await? {
                tokio::time::sleep(POLL).await;
            }
        }
    }
    Ok(())
}

async fn any_lost(leases: &[Lease]) -> LeaseError {
    if leases.is_empty() {
        return std::future::pending().await;
    }
    select_all(leases.iter().map(|lease| lease.keep().boxed()))
        .await
        .0
}

/// A restoration of exactly this that was started and has not finished.
async fn open_run(store: &Store, digest: Hash) -> Result<Option<RunId>, EngineError> {
    let types = ["run.started", "run.finished"]
        .map(str::parse)
        .into_iter()
        .flatten()
        .collect();
    let filter = Filter {
        types,
        ..Filter::default()
    };
    let mut entries = std::pin::pin!(store.read(filter));
    let digest = digest.to_string();
    let mut open = None;
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let entry = &recorded.entry;
        let json = recorded.payload.json().unwrap_or_default();
        match Event::decode(entry.event_type.as_str(), entry.schema, json) {
            Ok(Event::RunStarted(started))
                if started.verb == "restore" && started.options.get("items") == Some(&digest) =>
            {
                open = entry.run;
            }
            Ok(Event::RunFinished(_)) if entry.run == open => open = None,
            _ => {}
        }
    }
    Ok(open)
}

impl Restorer {
    async fn execute(
        &self,
        choice: Choice,
        told: &RestoreTold,
        resumed: bool,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<RestoreReport, EngineError> {
        let subject = self.run_subject()?;
        self.started(&subject, &choice, told, resumed).await?;
        let all = choice.places.len() as u64;
        let pace = Pace::new(self.timing.clone(), told.options.user_interval);
        let mut report = RestoreReport::new(Some(self.recorder.run), &choice);
        let work = |place| {
            let pace = pace.clone();
            async move { self.one_place(place, &pace).await }
        };
        let mut results = stream::iter(choice.places)
            .map(work)
            .buffer_unordered(told.options.users_at_once.max(1));
        while let Some(result) = results.next().await {
            report.add(result?);
            progress(Progress {
                done: report.users.len() as u64,
                all,
            });
        }
        drop(results);
        if self.stop.is_cancelled() {
            // The run stays open: the same command goes on with it.
            report.finish("interrupted");
            return Ok(report);
        }
        let status = if report.all_back() {
            "complete"
        } else {
            "partial"
        };
        report.finish(status);
        let event = Event::RunFinished(RunFinished {
            status: status.to_owned(),
            totals: report.totals.clone(),
        });
        let appended = self.about_run(&event, &subject).await?;
        self.log.finished(&appended, status, &report.totals);
        Ok(report)
    }

    /// Who begins it and why; also of a run that is gone on with, perhaps by somebody else and for another reason.
    async fn started(
        &self,
        subject: &Subject,
        choice: &Choice,
        told: &RestoreTold,
        resumed: bool,
    ) -> Result<(), EngineError> {
        let whose = if told.own_credentials {
            "own"
        } else {
            "stored"
        };
        let stand_ins = if told.leave_stand_ins {
            "left"
        } else {
            "put_back"
        };
        let mut options: BTreeMap<String, String> = [
            ("items", choice.digest.to_string()),
            ("credentials", whose.to_owned()),
            ("stand_ins", stand_ins.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(reason) = &told.reason {
            options.insert("reason".to_owned(), reason.clone());
        }
        if resumed {
            options.insert("resumed".to_owned(), "true".to_owned());
        }
        let started = RunStarted {
            verb: "restore".to_owned(),
            // It executes none: a run that does is gone on with by its plan.
            plan: None,
            approval: None,
            options,
        };
        let appended = self.about_run(&Event::RunStarted(started), subject).await?;
        self.log.entry(&appended, &[("verb", "restore")]);
        Ok(())
    }

    fn run_subject(&self) -> Result<Subject, EngineError> {
        Subject::new("run", self.recorder.run.uuid())
            .map_err(|error| EngineError::Internal(error.to_string()))
    }

    async fn about_run(&self, event: &Event, run: &Subject) -> Result<Appended, EngineError> {
        let draft = Draft::of(event, run.clone(), self.recorder.actor.clone(), run.clone())?;
        self.append(draft, self.any_fence()).await
    }

    /// The fence of a plan's lease.
    fn fence(&self, plan: Hash) -> Option<Fence> {
        let of_plan = self.leases.iter().find(|(of, _)| *of == plan);
        of_plan.map(|(_, lease)| lease.fence().clone())
    }

    fn any_fence(&self) -> Option<Fence> {
        self.leases.first().map(|(_, lease)| lease.fence().clone())
    }

    async fn append(
        &self,
        mut draft: Draft,
        fence: Option<Fence>,
    ) -> Result<Appended, EngineError> {
        draft.run = Some(self.recorder.run);
        draft.fence = fence;
        patiently(|| self.recorder.store.append(draft.clone())).await
    }
}
