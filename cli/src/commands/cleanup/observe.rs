//! `ledger cleanup observe`: what a run left behind, looked at once more.

use std::sync::Arc;

use cleanup_worker::clients::retry::Timing;
use cleanup_worker::engine::observe_run::{
    ItemSeen, ObserveReport, ObserveTold, Unreached, observe_run,
};
use cleanup_worker::engine::runlog::RunLog;
use cleanup_worker::executors::Places;
use cleanup_worker::executors::command::CommandExecutor;
use ledger::domain::id::RunId;
use ledger::projections::approve::may_act;

use super::{command, counts, engine_failure, options};
use crate::args::CleanupObserve;
use crate::commands::{Common, calendars};
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) async fn run(common: &Common<'_>, args: &CleanupObserve) -> Result<Exit, Failure> {
    let actor = common.actor()?;
    let of = args.run.parse::<RunId>().map_err(Failure::usage)?;
    let pace = options(common, &args.pace, None)?;
    let told = ObserveTold {
        of,
        own_credentials: args.access.credentials.is_some(),
        options: pace.clone(),
    };
    let session = common.open().await?;
    may_act(&session.store, &actor)
        .await
        .map_err(crate::commands::approve::approve_failure)?;
    let (places, timing): (Arc<dyn Places>, Arc<dyn Timing>) = if let Some(exec) = &args.exec {
        let told = command::told_of(exec, &pace)?;
        let timing = told.timing.clone();
        let executor = CommandExecutor::for_dry_run(told).await;
        (Arc::new(executor.map_err(engine_failure)?), timing)
    } else {
        let clock = session.store.clock().clone();
        calendars::reach(common, &args.access, pace, clock).await?
    };
    let bar = output::bar("users");
    let report = observe_run(
        places.as_ref(),
        timing,
        &session.store,
        &actor,
        &told,
        &|run| RunLog::open(&args.pace.log_dir, run, args.pace.log_emails),
        &|progress| bar.set(progress.done, progress.all),
    )
    .await;
    bar.clear();
    let report = report.map_err(engine_failure)?;
    session.close().await;
    if common.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    let log = args.pace.log_dir.join(format!("{}.log", report.run));
    output::note(format_args!("log: {}", log.display()));
    Ok(match report.status.as_str() {
        "as_recorded" => Exit::Yes,
        "differs" => Exit::No,
        _ => Exit::Unknown,
    })
}

fn print(report: &ObserveReport) -> Result<(), Failure> {
    output::line(format_args!(
        "run {}: {} ({})",
        report.of,
        match report.status.as_str() {
            "as_recorded" => "everything is as the ledger says",
            "differs" => "NOT everything is as the ledger says",
            _ => "what could be seen is as the ledger says, and not all could be",
        },
        report.grade.name()
    ))?;
    if !report.finished {
        output::line("that run has not come to its end: run the same plan again")?;
    }
    output::line(format_args!("counted: {}", counts(&report.totals)))?;
    list("survived", &report.survivors)?;
    list("not explained", &report.unexplained)?;
    list("written late", &report.late_writes)?;
    if report.totals.get("moved").is_some_and(|count| *count > 0) {
        output::line("a run or an undo was under way: look again when it has ended")?;
    }
    for Unreached { user, reason } in &report.unreached {
        let of = if user.is_empty() {
            String::new()
        } else {
            format!("user {user}: ")
        };
        output::line(format_args!("not seen: {of}{reason}"))?;
    }
    output::line(format_args!("observation: run {}", report.run))
}

fn list(what: &str, items: &[ItemSeen]) -> Result<(), Failure> {
    for item in items {
        let subject = item.subject.as_deref().unwrap_or("of no plan");
        output::line(format_args!(
            "{what}: {} ({subject}): {}",
            item.item, item.what
        ))?;
    }
    Ok(())
}
