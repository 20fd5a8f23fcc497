//! `ledger cleanup command`: the dry run and the live run of items that a program handles.

use std::sync::Arc;

use cleanup_worker::clients::retry::{SystemTiming, Timing};
use cleanup_worker::engine::RunOptions;
use cleanup_worker::executors::Executor as _;
use cleanup_worker::executors::command::{CommandExecutor, CommandTold, Program};
use ledger::domain::policy::Policy;

use super::{Common, engine_failure, items, live_of, make_plan, open, options, run_plan};
use crate::args::{CleanupCommand, CommandProgram, Pace};
use crate::exit::{Exit, Failure, environment};
use crate::output;

pub(super) async fn run(common: &Common<'_>, args: &CleanupCommand) -> Result<Exit, Failure> {
    // Who acts has to be known before anything is started.
    common.actor()?;
    let (mut told, options) = told(common, &args.program, &args.pace)?;
    if let Some(line) = &args.count_command {
        told.count = Some(program("--count-command", line, &options)?);
    }
    if args.dry_run {
        dry(common, args, told).await
    } else {
        live(common, args, told, options).await
    }
}

/// What the executor is told, with the times of the run; nothing is started yet.
pub(crate) fn told(
    common: &Common<'_>,
    args: &CommandProgram,
    pace: &Pace,
) -> Result<(CommandTold, RunOptions), Failure> {
    let options = options(common, pace, args.go_live.as_deref())?;
    Ok((told_of(&args.exec, &options)?, options))
}

/// The same of a program that is named alone.
pub(super) fn told_of(exec: &str, options: &RunOptions) -> Result<CommandTold, Failure> {
    Ok(CommandTold {
        program: program("--exec", exec, options)?,
        count: None,
        retry: options.retry,
        timing: SystemTiming::start(),
        go_live: options.go_live,
    })
}

fn program(which: &'static str, line: &str, options: &RunOptions) -> Result<Program, Failure> {
    let own = std::env::current_exe().map_err(environment("find this program's own file"))?;
    let program = Program::parse(which, line, options.http.request)
        .map_err(|error| engine_failure(error.into()))?;
    Ok(program.tied_by(own))
}

async fn dry(
    common: &Common<'_>,
    args: &CleanupCommand,
    told: CommandTold,
) -> Result<Exit, Failure> {
    let Some(path) = args.policy.as_deref() else {
        return Err(Failure::usage("a dry run needs --policy FILE"));
    };
    let bytes =
        std::fs::read(path).map_err(environment(format!("read the policy {}", path.display())))?;
    let session = open(common).await?;
    let executor = CommandExecutor::for_dry_run(told)
        .await
        .map_err(engine_failure)?;
    let policy = Policy::load(&bytes, &executor.vocabulary())
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let limits = executor.limits();
    let made = make_plan(
        common,
        session,
        &executor,
        &policy,
        (&args.pace, &items::ANY),
    )
    .await?;
    for (has, lack) in [
        (
            limits.precondition,
            "cannot delete exactly the version that was reviewed",
        ),
        (limits.undo, "cannot put back what it deleted"),
    ] {
        if !has {
            output::note(format_args!(
                "the program says that it {lack}: nothing is deleted, all of that is held"
            ));
        }
    }
    Ok(made)
}

async fn live(
    common: &Common<'_>,
    args: &CleanupCommand,
    told: CommandTold,
    options: RunOptions,
) -> Result<Exit, Failure> {
    let timing: Arc<dyn Timing> = told.timing.clone();
    let session = open(common).await?;
    let live = live_of(&session, args.plan.as_deref(), options, &args.caution).await?;
    let executor = CommandExecutor::for_live_run(told)
        .await
        .map_err(engine_failure)?;
    run_plan(
        common,
        session,
        (Arc::new(executor), timing),
        &live,
        &args.pace,
    )
    .await
}
