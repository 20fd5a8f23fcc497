//! `ledger cleanup`: the dry run and the live run.

use std::collections::BTreeMap;
use std::time::Duration;

use cleanup_worker::clients::ErrorClass;
use cleanup_worker::clients::retry::RateLimits;
use cleanup_worker::clients::supabase::SupabaseErrorKind;
use cleanup_worker::config::WorkerConfig;
use cleanup_worker::engine::dry_run::{DryRun, DryRunReport, UserLine, dry_run};
use cleanup_worker::engine::lease::LeaseTimes;
use cleanup_worker::engine::live::{LiveReport, LiveRun, live_run};
use cleanup_worker::engine::runlog::RunLog;
use cleanup_worker::engine::{EngineError, Reader, Recorder, RunOptions};
use cleanup_worker::executors::calendar::incumbent::Selector;
use cleanup_worker::executors::calendar::signals::VOCABULARY;
use ledger::domain::id::Timestamp;
use ledger::domain::policy::Policy;
use ledger::projections::plan;

use super::Common;
use crate::args::{Cleanup, CleanupCalendar};
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// The rules for PERM Tracker's calendar events, for where no file is given.
const POLICY: &[u8] = include_bytes!("../../../schema/policies/perm-tracker-calendar.toml");

pub(crate) async fn run(common: &Common<'_>, args: Cleanup) -> Result<Exit, Failure> {
    let Cleanup::Calendar(args) = args;
    if args.dry_run {
        dry(common, &args).await
    } else {
        live(common, &args).await
    }
}

async fn dry(common: &Common<'_>, args: &CleanupCalendar) -> Result<Exit, Failure> {
    let actor = common.actor()?;
    let policy = policy(args)?;
    let options = options(common, args)?;
    let reader = Reader::open(config(common)?, &options).map_err(engine_failure)?;
    let session = common.open().await?;
    let run = session.store.clock().run_id();
    let recorder = Recorder {
        store: session.store.clone(),
        actor,
        run,
    };
    let log = open_log(args, run)?;
    let told = DryRun {
        policy,
        v2_exports: args.v2_exports.clone(),
        users_table: users_table(args)?,
        options,
    };
    let bar = output::bar("users");
    let report = dry_run(&reader, &recorder, told, &log, &|progress| {
        bar.set(progress.done, progress.all);
    })
    .await;
    bar.clear();
    drop(recorder);
    let report = report.map_err(engine_failure)?;
    session.close().await;
    if common.json {
        output::json(&report)?;
    } else {
        print(&report, args)?;
    }
    output::note(format_args!("log: {}", log.path().display()));
    Ok(Exit::Yes)
}

pub(crate) fn open_log(
    args: &CleanupCalendar,
    run: ledger::domain::id::RunId,
) -> Result<RunLog, Failure> {
    RunLog::open(&args.log_dir, run).map_err(environment(format!(
        "open a log file in {}",
        args.log_dir.display()
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

pub(crate) fn options(common: &Common<'_>, args: &CleanupCalendar) -> Result<RunOptions, Failure> {
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
    let time = |text: &Option<String>| match text {
        Some(text) => Timestamp::parse_lenient(text)
            .map(|time| Some(time.instant()))
            .map_err(Failure::usage),
        None => Ok(None),
    };
    Ok(RunOptions {
        user_interval: args.user_interval,
        users_at_once: args.users_at_once,
        go_live: time(&args.go_live)?,
        freeze: time(&args.freeze)?,
        rate_limits,
        retry,
        http,
        lease,
    })
}

fn users_table(
    args: &CleanupCalendar,
) -> Result<Option<cleanup_worker::clients::supabase::UsersTable>, Failure> {
    args.users_table
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(Failure::usage)
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
    let (exit, hint) = match &error {
        EngineError::Refused(_) => (Exit::No, None),
        EngineError::Lease(_) => (Exit::No, Some("another live run of this plan is under way")),
        EngineError::Export(_) => (
            Exit::Usage,
            Some("export v2 with `npx convex export --prod`"),
        ),
        EngineError::EncryptionKey(_) => (
            Exit::Environment,
            Some("set ENCRYPTION_KEY to v1's own; nothing was deleted"),
        ),
        EngineError::Client(error) if !error.is_global() => (
            Exit::Environment,
            Some("check the network and GOOGLE_OAUTH_TOKEN_URL; nothing was deleted"),
        ),
        EngineError::Client(_) => (
            Exit::Environment,
            Some("check GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET: v1's own"),
        ),
        EngineError::Supabase(error) if error.class() == ErrorClass::Network => (
            Exit::Environment,
            Some("check the network and SUPABASE_URL; nothing was deleted"),
        ),
        EngineError::Supabase(error)
            if matches!(error.kind, SupabaseErrorKind::TwoUsersTables { .. }) =>
        {
            (
                Exit::Usage,
                Some("give --users-table perm_users or users; nothing was deleted"),
            )
        }
        EngineError::Supabase(_) => (
            Exit::Environment,
            Some(
                "check SUPABASE_URL and SUPABASE_KEY (the service role's key); nothing was deleted",
            ),
        ),
        EngineError::Clock { .. } => (Exit::Environment, Some("set this machine's clock")),
        _ => (Exit::Environment, None),
    };
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn print(report: &DryRunReport, args: &CleanupCalendar) -> Result<(), Failure> {
    let totals = &report.totals;
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
        "candidates: {} ({}); other events seen: {}",
        totals.items,
        counts(&totals.dispositions),
        totals.others
    ))?;
    output::line(format_args!("classes: {}", counts(&totals.classes)))?;
    let calibration = &totals.calibration;
    output::line(format_args!(
        "calibration: {} of {} recorded events carry v1's signature{}",
        calibration.signed,
        calibration.recorded,
        if totals.calibrated {
            ""
        } else {
            ": too few, so orphans are held"
        }
    ))?;
    output::line(format_args!(
        "future deadlines to be deleted: {} covered by v2, {} uncovered",
        totals.covered, totals.uncovered
    ))?;
    for (selector, count) in &totals.incumbent {
        let name = match selector {
            Selector::TitlePrefix => "by title",
            Selector::SearchText => "for \"PERM Tracker\"",
        };
        output::line(format_args!(
            "the plan's own search {name} would have deleted {}, of which {} are not v1's",
            count.would_delete, count.not_v1s
        ))?;
    }
    if totals.odd_ids > 0 {
        output::line(format_args!(
            "recorded values that are no ids: {}",
            totals.odd_ids
        ))?;
    }
    if args.v2_exports.is_empty() {
        output::line(
            "no export of v2 was given (--v2-export): nothing may be deleted by this plan",
        )?;
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
    let actor = common.actor()?;
    let options = options(common, args)?;
    let reader = Reader::open(config(common)?, &options).map_err(engine_failure)?;
    let session = common.open().await?;
    let named = args.plan.as_deref().unwrap_or_default();
    let plan = plan::find(&session.store, named)
        .await
        .map_err(super::approve::plan_failure)?;
    let told = LiveRun {
        plan,
        v2_exports: args.v2_exports.clone(),
        v2_max_age: args.v2_max_age,
        users_table: users_table(args)?,
        options,
        override_reason: args.r#override.clone(),
    };
    let bar = output::bar("users");
    let report = live_run(
        &reader,
        &session.store,
        &actor,
        told,
        &|run| RunLog::open(&args.log_dir, run),
        &|progress| bar.set(progress.done, progress.all),
    )
    .await;
    bar.clear();
    let report = report.map_err(engine_failure)?;
    session.close().await;
    if common.json {
        output::json(&report)?;
    } else {
        print_live(&report)?;
    }
    let log = args.log_dir.join(format!("{}.log", report.run));
    output::note(format_args!("log: {}", log.display()));
    Ok(if report.status == "complete" {
        Exit::Yes
    } else {
        Exit::No
    })
}

fn print_live(report: &LiveReport) -> Result<(), Failure> {
    output::line(format_args!(
        "{:<36} {:>6} {:>8} {:>6} {:>5} {:>7}",
        "user", "found", "deleted", "gone", "held", "failed"
    ))?;
    for user in &report.users {
        output::line(format_args!(
            "{:<36} {:>6} {:>8} {:>6} {:>5} {:>7}",
            user.email.as_deref().unwrap_or(&user.user),
            user.found,
            user.deleted,
            user.already_gone,
            user.held,
            user.failed
        ))?;
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
    output::line("next: was any data lost? ledger loss")
}
