//! More hands for runs that are under way: any number of processes, on any number of hosts.
//!
//! A worker takes commands of open runs until none are left. Whoever holds the plan's lease ends the run: the process that began it,
//! or, where that was killed, a worker, once the lease has run out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use ledger::domain::event::Event;
use ledger::domain::id::RunId;
use ledger::projections::plan::{self, SealedPlan};
use ledger::store::Store;
use ledger::store::commands::OpenRun;
use ledger::store::lease::LeaseError;
use ledger::store::read::{Filter, ReadError};

use super::lease::Lease;
use super::live::{
    Hands, LiveReport, LiveRun, Told, approval_of, finish, lease_name, live_of, places, run_of,
};
use super::patience::patiently;
use super::permission::{GATE_NAME, gate};
use super::work::{Work, holder};
use super::{EngineError, RunOptions};

/// How often it is looked whether there is something to do.
const POLL: Duration = Duration::from_millis(500);

/// Works on open runs of this executor's kind until told to stop, or, with `until_idle`, until there are none. Gives the
/// reports of the runs that this process ended.
///
/// # Errors
/// What concerns the whole process: its credentials, the database.
pub async fn join(
    hands: &Hands<'_>,
    options: &RunOptions,
    until_idle: bool,
) -> Result<Vec<LiveReport>, EngineError> {
    let mut reports = Vec::new();
    // Runs of other kinds of items, which are looked at once.
    let mut others: HashSet<RunId> = HashSet::new();
    // The leases of the plans of runs where others are at work on what is left: to join one anew is to read its plan anew.
    let mut left_to_others: HashMap<RunId, String> = HashMap::new();
    while !hands.stop.is_cancelled() {
        let mut runs = patiently(|| hands.store.open_runs()).await?;
        runs.retain(|run| !others.contains(&run.run));
        if runs.is_empty() && until_idle {
            break;
        }
        for run in runs {
            if hands.stop.is_cancelled() {
                break;
            }
            if let Some(lease) = left_to_others.get(&run.run)
                && !patiently(|| hands.store.wants_hands(run.run, lease)).await?
            {
                continue;
            }
            match help(hands, options, &run).await {
                Ok(Helped::NotOurs) => {
                    others.insert(run.run);
                }
                Ok(Helped::ForNow(lease)) => {
                    left_to_others.insert(run.run, lease);
                }
                Ok(Helped::ToItsEnd(report)) => reports.push(report),
                Err(EngineError::Refused(why)) => {
                    tracing::warn!(run = %run.run, %why, "a run cannot be joined");
                    if until_idle {
                        return Err(EngineError::Refused(why));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = hands.stop.cancelled() => {}
        }
    }
    Ok(reports)
}

/// What helping with a run came to.
enum Helped {
    /// Its items are of another kind.
    NotOurs,
    /// Nothing was left to be taken, and others are at work, or have ended it; with the lease of its plan.
    ForNow(String),
    /// This process ended it.
    ToItsEnd(LiveReport),
}

/// Refuses a run that was begun before its time, unless its reason is in the log.
async fn in_time(
    store: &Store,
    plan: &SealedPlan,
    run: RunId,
    told: &Told,
) -> Result<(), EngineError> {
    let Some(why) = gate(plan, told.go_live, store.clock().now().instant()) else {
        return Ok(());
    };
    if patiently(|| is_overridden(store, run)).await? {
        return Ok(());
    }
    Err(EngineError::Refused(format!(
        "{why}; the run that is under way gave no reason (--override) for beginning all the same"
    )))
}

async fn is_overridden(store: &Store, run: RunId) -> Result<bool, ReadError> {
    let mut entries = std::pin::pin!(store.read(Filter {
        types: "gate.overridden".parse().into_iter().collect(),
        run: Some(run),
        ..Filter::default()
    }));
    while let Some(recorded) = entries.next().await {
        let recorded = recorded?;
        let json = recorded.payload.json().unwrap_or_default();
        let decoded = Event::decode("gate.overridden", recorded.entry.schema, json);
        if let Ok(Event::GateOverridden(overridden)) = decoded
            && overridden.gate == GATE_NAME
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn help(
    hands: &Hands<'_>,
    options: &RunOptions,
    open: &OpenRun,
) -> Result<Helped, EngineError> {
    let (store, actor) = (hands.store, hands.actor);
    let sealed = patiently(|| plan::load(store, open.plan)).await?;
    if sealed.sealed.header.get("kind").map(String::as_str)
        != Some(hands.executor.kinds().item.as_ref())
    {
        return Ok(Helped::NotOurs);
    }
    hands.executor.accepts(&sealed.sealed.header)?;
    let begun = patiently(|| run_of(store, open.plan)).await?;
    let begun = begun.filter(|begun| begun.run == open.run);
    let starter = begun.as_ref().map_or(actor, |begun| &begun.starter);
    let approval = approval_of(&sealed, starter, actor, store.clock().now())?;
    let told: Told = serde_json::from_str(&open.told)
        .map_err(|error| EngineError::Internal(format!("read what a run was told: {error}")))?;
    in_time(store, &sealed, open.run, &told).await?;
    hands.executor.prepare().await?;
    let told = LiveRun {
        plan: open.plan,
        options: RunOptions {
            go_live: told.go_live,
            ..options.clone()
        },
        override_reason: None,
        canary: None,
        limits: told.limits,
    };
    let name = lease_name(&sealed);
    // Not held yet: each command has a lease of its own, and this one is for ending the run.
    let nobody = Lease::none(store, options.lease);
    let live = live_of(hands, &told, open.run, sealed, approval, nobody).await?;
    let work = Work {
        live: &live,
        known: live.known_now().await?,
        places: places(&live).await?,
        times: options.lease,
        holder: holder(&live),
        progress: hands.progress,
        done: 0.into(),
    };
    work.until_done(options.users_at_once, &hands.stop).await?;
    if hands.stop.is_cancelled() {
        return Ok(Helped::ForNow(name));
    }
    let lease = match Lease::take_free(store, name.clone(), actor.as_str(), options.lease).await {
        Ok(lease) => lease,
        // Who began it is alive and ends it.
        Err(LeaseError::Held { .. }) => return Ok(Helped::ForNow(name)),
        Err(error) => return Err(error.into()),
    };
    let still_open = patiently(|| run_of(store, open.plan)).await?;
    let still_open = still_open.map(|begun| begun.run) == Some(open.run);
    let result = if still_open {
        let live = super::step::Live {
            lease: lease.clone(),
            ..live.clone()
        };
        finish(&live, &work.places).await.map(Helped::ToItsEnd)
    } else {
        patiently(|| store.close_run(open.run)).await?;
        Ok(Helped::ForNow(name))
    };
    lease.release().await;
    result
}
