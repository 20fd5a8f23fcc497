//! `ledger cleanup`: the dry run and the live run.

pub(crate) mod command;
mod items;
mod observe;
pub(crate) mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cleanup_worker::clients::retry::{RateLimits, Timing};
use cleanup_worker::config::{Deployment, WorkerConfig};
use cleanup_worker::engine::dry_run::{DryRunReport, UserLine, dry_run};
use cleanup_worker::engine::lease::LeaseTimes;
use cleanup_worker::engine::limits::Limits;
use cleanup_worker::engine::live::{Hands, LiveReport, LiveRun, live_run};
use cleanup_worker::engine::runlog::RunLog;
use cleanup_worker::engine::{EngineError, Recorder, RunOptions};
use cleanup_worker::executors::Executor;
use cleanup_worker::executors::calendar::executor::{CalendarExecutor, CalendarTold, KIND};
use cleanup_worker::executors::calendar::reader::Reader;
use cleanup_worker::executors::calendar::signals::VOCABULARY;
use ledger::domain::id::Timestamp;
use ledger::domain::policy::Policy;
use ledger::projections::approve::is_named;
use ledger::projections::plan;
use ledger::store::is_away;
use ledger::store::lease::LeaseError;

use super::Common;
use crate::args::{BuiltInKind, CalendarSources, Caution, Cleanup, CleanupCalendar, Pace};
use crate::database::Session;
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// The rules for PERM Tracker's calendar events, for where no file is given.
const POLICY: &[u8] = include_bytes!("../../../../schema/policies/perm-tracker-calendar.toml");

pub(crate) async fn run(common: &Common<'_>, args: Cleanup) -> Result<Exit, Failure> {
    let args = match args {
        Cleanup::Calendar(args) => *args,
        Cleanup::Kind(args) => match args.kind {
            BuiltInKind::CalendarEvent => args.calendar,
        },
        Cleanup::Command(args) => return Box::pin(command::run(common, &args)).await,
        Cleanup::Observe(args) => return Box::pin(observe::run(common, &args)).await,
    };
    if args.dry_run {
        dry(common, &args).await
    } else {
        Box::pin(live(common, &args)).await
    }
}

async fn dry(common: &Common<'_>, args: &CleanupCalendar) -> Result<Exit, Failure> {
    // Who acts has to be known before anything is read.
    common.actor()?;
    let policy = policy(args)?;
    let (reader, told) = calendar(common, &args.sources, &args.pace)?;
    let session = open(common).await?;
    let clock = session.store.clock().clone();
    let executor = CalendarExecutor::open(reader, told, clock)
        .await
        .map_err(engine_failure)?;
    make_plan(
        common,
        session,
        &executor,
        &policy,
        (&args.pace, &items::CALENDAR),
    )
    .await
}

/// The ledger, and a word where it does not know who acts.
async fn open(common: &Common<'_>) -> Result<Session, Failure> {
    let session = common.open().await?;
    let actor = common.actor()?;
    let named = is_named(&session.store, &actor).await;
    if !named.map_err(super::approve::approve_failure)? {
        output::note(format_args!(
            "{actor} is not among the persons of this ledger (--as NAME); who approves has to be"
        ));
    }
    Ok(session)
}

/// Makes a plan, whatever it is of, and prints it.
async fn make_plan(
    common: &Common<'_>,
    session: Session,
    executor: &dyn Executor,
    policy: &Policy,
    (pace, names): (&Pace, &items::Names),
) -> Result<Exit, Failure> {
    let run = session.store.clock().run_id();
    let recorder = Recorder {
        store: session.store.clone(),
        actor: common.actor()?,
        run,
    };
    let log = open_log(pace, run)?;
    let bar = output::bar("users");
    let report = dry_run(executor, policy, &recorder, &log, &|progress| {
        bar.set(progress.done, progress.all);
    })
    .await;
    bar.clear();
    drop(recorder);
    let report = report.map_err(engine_failure)?;
    if common.json {
        items::print(&session.store, run, &report, names).await?;
    } else {
        print(&report, names)?;
    }
    session.close().await;
    output::note(format_args!("log: {}", log.path().display()));
    Ok(Exit::Yes)
}

/// The clients and what the executor is told; nothing is sent yet.
pub(crate) fn calendar(
    common: &Common<'_>,
    sources: &CalendarSources,
    pace: &Pace,
) -> Result<(Reader, CalendarTold), Failure> {
    let told = CalendarTold {
        v2_exports: v2_exports(sources),
        v2_max_age: sources.v2_max_age,
        users_table: users_table(sources.users_table.as_deref())?,
        options: RunOptions {
            freeze: time(sources.freeze.as_deref())?,
            ..options(common, pace, sources.go_live.as_deref())?
        },
    };
    let reader = Reader::open(config(common)?, &told.options)
        .map_err(environment("set up the HTTP client"))?;
    Ok((reader, told))
}

fn open_log(pace: &Pace, run: ledger::domain::id::RunId) -> Result<RunLog, Failure> {
    RunLog::open(&pace.log_dir, run, pace.log_emails).map_err(environment(format!(
        "open a log file in {}",
        pace.log_dir.display()
    )))
}

pub(crate) fn config(common: &Common<'_>) -> Result<WorkerConfig, Failure> {
    let get = |name: &str| common.environment.get(name).map(str::to_owned);
    WorkerConfig::from_env(&get).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .hint("set them as README shows; nothing was read or deleted")
    })
}

/// A number in the environment, for waits and limits that seldom need changing.
fn number(common: &Common<'_>, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = common.environment.get(name) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number| *number > 0);
    let wrong = || Failure::usage(format_args!("{name} is not a whole number above 0"));
    number.map(Some).ok_or_else(wrong)
}

/// Times and limits, as they are given and as the environment sets them.
pub(crate) fn options(
    common: &Common<'_>,
    pace: &Pace,
    go_live: Option<&str>,
) -> Result<RunOptions, Failure> {
    let millis = |name: &str| number(common, name).map(|some| some.map(Duration::from_millis));
    let per_minute = |name: &str, usual: u32| {
        let given = number(common, name)?;
        Ok::<u32, Failure>(given.map_or(usual, |n| u32::try_from(n).unwrap_or(u32::MAX)))
    };
    let usual = RunOptions::default();
    let mut retry = usual.retry;
    retry.base = millis("LEDGER_RETRY_BASE_MS")?.unwrap_or(retry.base);
    let mut http = usual.http;
    http.request = millis("LEDGER_REQUEST_LIMIT_MS")?.unwrap_or(http.request);
    let lease = millis("LEDGER_LEASE_MS")?.map_or(usual.lease, LeaseTimes::of);
    let rate_limits = RateLimits {
        user_per_minute: per_minute(
            "LEDGER_GOOGLE_USER_PER_MINUTE",
            usual.rate_limits.user_per_minute,
        )?,
        project_per_minute: per_minute(
            "LEDGER_GOOGLE_PROJECT_PER_MINUTE",
            usual.rate_limits.project_per_minute,
        )?,
    };
    Ok(RunOptions {
        user_interval: pace.user_interval,
        users_at_once: pace.users_at_once,
        go_live: time(go_live)?,
        freeze: usual.freeze,
        rate_limits,
        retry,
        http,
        lease,
    })
}

fn time(text: Option<&str>) -> Result<Option<DateTime<Utc>>, Failure> {
    let time = text.map(Timestamp::parse_lenient).transpose();
    Ok(time.map_err(Failure::usage)?.map(Timestamp::instant))
}

/// The exports that were given, with the deployment that each is of.
fn v2_exports(args: &CalendarSources) -> Vec<(PathBuf, Deployment)> {
    let of = |paths: &[PathBuf], deployment| -> Vec<(PathBuf, Deployment)> {
        let paths = paths.iter().cloned();
        paths.map(|path| (path, deployment)).collect()
    };
    let mut exports = of(&args.v2_exports, Deployment::Production);
    exports.extend(of(&args.v2_dev_exports, Deployment::Development));
    exports
}

pub(crate) fn users_table(
    name: Option<&str>,
) -> Result<Option<cleanup_worker::clients::supabase::UsersTable>, Failure> {
    name.map(str::parse).transpose().map_err(Failure::usage)
}

fn policy(args: &CleanupCalendar) -> Result<Policy, Failure> {
    let bytes = match &args.policy {
        None => POLICY.to_vec(),
        Some(path) => std::fs::read(path)
            .map_err(environment(format!("read the policy {}", path.display())))?,
    };
    Policy::load(&bytes, &VOCABULARY).map_err(|error| Failure::new(Exit::Usage, error))
}

/// Gives each failure of a run its status and its hint.
pub(crate) fn engine_failure(error: EngineError) -> Failure {
    if let EngineError::Person(error) = error {
        return super::approve::approve_failure(error);
    }
    let (exit, hint) = match &error {
        EngineError::Refused(_) => (Exit::No, None),
        EngineError::Lease(LeaseError::Held { .. } | LeaseError::Lost { .. }) => {
            (Exit::No, Some("another live run of this plan is under way"))
        }
        EngineError::Executor(error) if error.usage => (Exit::Usage, error.hint),
        EngineError::Executor(error) => (Exit::Environment, error.hint),
        EngineError::Log(_) => (
            Exit::Environment,
            Some("--log-dir names its folder; nothing was begun"),
        ),
        error if is_away(error) => (
            Exit::Environment,
            Some(
                "the database does not answer: once it does, the same command goes on where this one ended",
            ),
        ),
        _ => (Exit::Environment, None),
    };
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn print(report: &DryRunReport, names: &items::Names) -> Result<(), Failure> {
    let totals = &report.totals;
    let items = names.items;
    output::line(format_args!(
        "{:<36} {:<14} {:>7} {:>6} {:>8} {:>6} {:>6}",
        "user", "access", "delete", "hold", "protect", "done", "out"
    ))?;
    for user in &report.users {
        print_user(user)?;
    }
    output::line("")?;
    output::line(format_args!(
        "users: {} ({})",
        totals.users,
        counts(&totals.access)
    ))?;
    output::line(format_args!(
        "candidates: {} ({}); other {items} seen: {}",
        totals.items,
        counts(&totals.dispositions),
        totals.others
    ))?;
    output::line(format_args!("classes: {}", counts(&totals.classes)))?;
    if names.have_deadlines || totals.covered + totals.uncovered > 0 {
        output::line(format_args!(
            "future deadlines to be deleted: {} covered by the new system, {} uncovered",
            totals.covered, totals.uncovered
        ))?;
    }
    for line in &report.lines {
        output::line(line)?;
    }
    output::line("")?;
    output::line(format_args!("plan: {}", report.plan))?;
    output::line(format_args!(
        "next: somebody else approves it: ledger approve {} --as NAME",
        &report.plan.to_string()[..16]
    ))
}

fn print_user(user: &UserLine) -> Result<(), Failure> {
    let count = |name: &str| user.dispositions.get(name).copied().unwrap_or(0);
    output::line(format_args!(
        "{:<36} {:<14} {:>7} {:>6} {:>8} {:>6} {:>6}",
        user.email.as_deref().unwrap_or(&user.user),
        user.access,
        count("delete"),
        count("hold"),
        count("protect"),
        count("done"),
        count("out_of_reach"),
    ))
}

/// `delete 3, hold 1`.
pub(crate) fn counts(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

async fn live(common: &Common<'_>, args: &CleanupCalendar) -> Result<Exit, Failure> {
    // Who acts has to be known before anything is read.
    common.actor()?;
    let (reader, told) = calendar(common, &args.sources, &args.pace)?;
    let session = open(common).await?;
    let plan = match &args.plan {
        Some(name) => name.clone(),
        None => in_hand(&session, KIND).await?,
    };
    let live = live_of(&session, Some(&plan), told.options.clone(), &args.caution).await?;
    let timing: Arc<dyn Timing> = reader.timing.clone();
    let clock = session.store.clock().clone();
    let executor = CalendarExecutor::open(reader, told, clock)
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

/// The plan that is in hand, where none is named; whether it may be executed is for the run to say.
async fn in_hand(session: &Session, kind: &str) -> Result<String, Failure> {
    let plan = plan::in_hand(&session.store, kind)
        .await
        .map_err(super::approve::plan_failure)?;
    let plan = plan.ok_or_else(|| {
        Failure::usage("there is no plan yet").hint(
            "first --dry-run, then somebody else: ledger approve HASH --as NAME, then the same command again",
        )
    })?;
    let plan = plan.to_string();
    output::note(format_args!("plan {}: the one in hand", &plan[..16]));
    Ok(plan)
}

/// What a live run is told.
async fn live_of(
    session: &Session,
    plan: Option<&str>,
    options: RunOptions,
    caution: &Caution,
) -> Result<LiveRun, Failure> {
    let plan = plan::find(&session.store, plan.unwrap_or_default())
        .await
        .map_err(super::approve::plan_failure)?;
    Ok(LiveRun {
        plan,
        options,
        override_reason: caution.r#override.clone(),
        canary: caution.canary,
        limits: Limits {
            bad_percent_max: caution.bad_percent_max,
            bad_of_items_min: caution.bad_items_min,
            deletions_per_user_max: caution.user_deletions_max,
        },
    })
}

/// Executes a plan, whatever it is of, and prints what it came to.
async fn run_plan(
    common: &Common<'_>,
    session: Session,
    (executor, timing): (Arc<dyn Executor>, Arc<dyn Timing>),
    live: &LiveRun,
    pace: &Pace,
) -> Result<Exit, Failure> {
    let actor = common.actor()?;
    let bar = output::bar("users");
    let hands = Hands {
        executor,
        timing,
        store: &session.store,
        actor: &actor,
        open_log: &|run| RunLog::open(&pace.log_dir, run, pace.log_emails),
        progress: &|progress| bar.set(progress.done, progress.all),
        stop: stop::on_signal()?,
    };
    let report = live_run(&hands, live).await;
    drop(hands);
    bar.clear();
    let report = report.map_err(engine_failure)?;
    session.close().await;
    if common.json {
        output::json(&report)?;
    } else {
        print_live(&report)?;
    }
    let log = pace.log_dir.join(format!("{}.log", report.run));
    output::note(format_args!("log: {}", log.display()));
    Ok(exit_of(&report))
}

pub(crate) fn exit_of(report: &LiveReport) -> Exit {
    if report.status == "complete" {
        Exit::Yes
    } else {
        Exit::No
    }
}

pub(crate) fn print_live(report: &LiveReport) -> Result<(), Failure> {
    output::line(format_args!(
        "{:<36} {:>6} {:>8} {:>6} {:>5} {:>7} {:>10}",
        "user", "found", "deleted", "gone", "held", "failed", "not begun"
    ))?;
    for user in &report.users {
        output::line(format_args!(
            "{:<36} {:>6} {:>8} {:>6} {:>5} {:>7} {:>10}",
            user.email.as_deref().unwrap_or(&user.user),
            user.found,
            user.deleted,
            user.already_gone,
            user.held,
            user.failed,
            user.not_begun
        ))?;
        let others: Vec<&str> = user
            .users
            .iter()
            .map(String::as_str)
            .filter(|other| *other != user.user)
            .collect();
        if !others.is_empty() {
            output::line(format_args!("    also of {}", others.join(", ")))?;
        }
        for error in &user.errors {
            output::line(format_args!("    {error}"))?;
        }
    }
    output::line("")?;
    output::line(format_args!("run {}: {}", report.run, report.status))?;
    output::line(format_args!("items: {}", counts(&report.totals)))?;
    for note in &report.notes {
        output::line(format_args!("stopped: {note}"))?;
    }
    let total = |name: &str| report.totals.get(name).copied().unwrap_or_default();
    let left = total("failed") + total("not_begun");
    let held = total("held");
    if left > 0 && report.notes.is_empty() {
        output::line(
            "next: the same command again does what is left, once what stands beside it is mended",
        )?;
    }
    if held > 0 {
        output::line("next: held for a person: ledger review list --state held")?;
    }
    let unreached = report.totals.get("out_of_reach").copied();
    if let Some(items) = unreached.filter(|items| *items > 0) {
        output::line(format_args!(
            "next: {items} more could not be reached when the plan was made: ledger review list --disposition out_of_reach"
        ))?;
    }
    output::line("next: was any data lost? ledger loss")
}
