//! `ledger worker`: more hands for live runs, on this host or any other.

use std::sync::Arc;

use cleanup_worker::clients::retry::Timing;
use cleanup_worker::engine::RunOptions;
use cleanup_worker::engine::join::join;
use cleanup_worker::engine::live::Hands;
use cleanup_worker::engine::runlog::RunLog;
use cleanup_worker::executors::Executor;
use cleanup_worker::executors::calendar::executor::CalendarExecutor;
use cleanup_worker::executors::command::CommandExecutor;
use ledger::domain::id::Actor;

use super::Common;
use super::cleanup::{calendar, command, engine_failure, exit_of, print_live, stop};
use crate::args::{Pace, Worker, WorkerCalendar, WorkerCommand};
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) async fn run(common: &Common<'_>, args: Worker) -> Result<Exit, Failure> {
    match args {
        Worker::Calendar(args) => calendars(common, &args).await,
        Worker::Command(args) => program(common, &args).await,
    }
}

async fn calendars(common: &Common<'_>, args: &WorkerCalendar) -> Result<Exit, Failure> {
    let (reader, told) = calendar(common, &args.sources, &args.pace)?;
    let options = told.options.clone();
    let session = common.open().await?;
    let timing: Arc<dyn Timing> = reader.timing.clone();
    let clock = session.store.clock().clone();
    let executor = CalendarExecutor::open(reader, told, clock)
        .await
        .map_err(engine_failure)?;
    let hands = (Arc::new(executor) as Arc<dyn Executor>, timing);
    work(
        common,
        session,
        hands,
        &options,
        (&args.pace, args.until_idle),
    )
    .await
}

async fn program(common: &Common<'_>, args: &WorkerCommand) -> Result<Exit, Failure> {
    let (told, options) = command::told(common, &args.program, &args.pace)?;
    let timing: Arc<dyn Timing> = told.timing.clone();
    let session = common.open().await?;
    let executor = CommandExecutor::for_live_run(told)
        .await
        .map_err(engine_failure)?;
    let hands = (Arc::new(executor) as Arc<dyn Executor>, timing);
    work(
        common,
        session,
        hands,
        &options,
        (&args.pace, args.until_idle),
    )
    .await
}

async fn work(
    common: &Common<'_>,
    session: Session,
    (executor, timing): (Arc<dyn Executor>, Arc<dyn Timing>),
    options: &RunOptions,
    (pace, until_idle): (&Pace, bool),
) -> Result<Exit, Failure> {
    let actor = actor(common)?;
    let hands = Hands {
        executor,
        timing,
        store: &session.store,
        actor: &actor,
        open_log: &|run| RunLog::open(&pace.log_dir, run, pace.log_emails),
        progress: &|_| {},
        stop: stop::on_signal()?,
    };
    let reports = join(&hands, options, until_idle).await;
    drop(hands);
    let reports = reports.map_err(engine_failure)?;
    session.close().await;
    let mut exit = Exit::Yes;
    for report in &reports {
        if common.json {
            output::json(report)?;
        } else {
            print_live(report)?;
        }
        if exit_of(report) != Exit::Yes {
            exit = Exit::No;
        }
    }
    Ok(exit)
}

/// `worker:<host>-<process>`, unless somebody is named.
fn actor(common: &Common<'_>) -> Result<Actor, Failure> {
    if common.actor.is_some() || common.environment.get("LEDGER_ACTOR").is_some() {
        return common.actor();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let host: String = host
        .trim()
        .chars()
        .filter(|c| allowed(*c))
        .take(64)
        .collect();
    let name = format!("worker:{}-{}", host.to_lowercase(), std::process::id());
    name.parse().map_err(Failure::usage)
}
