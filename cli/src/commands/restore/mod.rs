//! `ledger restore`: what a cleanup deleted is put back.

mod export;

use std::sync::Arc;

use cleanup_worker::clients::retry::Timing;
use cleanup_worker::engine::RunOptions;
use cleanup_worker::engine::live::Hands;
use cleanup_worker::engine::restore::{
    Choice, Ended, RestoreReport, RestoreTold, choose, preview, restore,
};
use cleanup_worker::engine::runlog::RunLog;
use cleanup_worker::executors::Places;
use cleanup_worker::executors::calendar::restore::WAYS_IN_WORDS;
use cleanup_worker::executors::command::CommandExecutor;
use ledger::domain::id::RunId;
use ledger::projections::approve::may_act;
use ledger::projections::fold::{self, At};
use ledger::projections::plan;
use ledger::projections::restore::{RestoreFold, Selection};
use ledger::store::Store;

use super::cleanup::command;
use super::cleanup::stop::on_signal;
use super::cleanup::{counts, engine_failure, options};
use super::{Common, calendars, read_failure};
use crate::args::{Meant, Restore, RestoreCalendar, RestoreCommand};
use crate::database::Session;
use crate::exit::{Exit, Failure};
use crate::output;

/// Items of a user whose ids and fields are shown one by one in a dry run.
const ITEMS_SHOWN_MAX: usize = 50;

pub(crate) async fn run(common: &Common<'_>, args: Restore) -> Result<Exit, Failure> {
    match args {
        Restore::Calendar(args) => calendar(common, &args).await,
        Restore::Command(args) => program(common, &args).await,
        Restore::Export(args) => export::run(common, &args).await,
    }
}

async fn calendar(common: &Common<'_>, args: &RestoreCalendar) -> Result<Exit, Failure> {
    common.actor()?;
    let options = options(common, &args.meant.pace, None)?;
    let session = common.open().await?;
    let clock = session.store.clock().clone();
    let reached = calendars::reach(common, &args.access, options.clone(), clock);
    let (places, timing) = reached.await?;
    let by = By {
        places,
        timing,
        options,
        ways: &WAYS_IN_WORDS,
        own_credentials: args.access.credentials.is_some(),
    };
    put_back(common, session, by, &args.meant).await
}

async fn program(common: &Common<'_>, args: &RestoreCommand) -> Result<Exit, Failure> {
    common.actor()?;
    let (told, options) = command::told(common, &args.program, &args.meant.pace)?;
    let timing: Arc<dyn Timing> = told.timing.clone();
    let session = common.open().await?;
    let executor = CommandExecutor::for_live_run(told)
        .await
        .map_err(engine_failure)?;
    let by = By {
        places: Arc::new(executor),
        timing,
        options,
        ways: &["by the program, under the old id, and only where nothing is by now"],
        own_credentials: false,
    };
    put_back(common, session, by, &args.meant).await
}

/// By whom, and how, it is put back.
struct By {
    places: Arc<dyn Places>,
    timing: Arc<dyn Timing>,
    options: RunOptions,
    /// The ways back, in words.
    ways: &'static [&'static str],
    own_credentials: bool,
}

async fn put_back(
    common: &Common<'_>,
    session: Session,
    by: By,
    args: &Meant,
) -> Result<Exit, Failure> {
    let actor = common.actor()?;
    let restoring = RestoreTold {
        options: by.options,
        reason: args.reason.clone(),
        leave_stand_ins: args.leave_stand_ins,
        own_credentials: by.own_credentials,
    };
    if !args.dry_run {
        may_act(&session.store, &actor)
            .await
            .map_err(super::approve::approve_failure)?;
    }
    let selection = selection(&session.store, args).await?;
    let kind = by.places.kinds().item;
    let choice = choose(&session.store, &selection, &kind)
        .await
        .map_err(engine_failure)?;
    if choice.items() == 0 {
        let nothing = anyhow::anyhow!("nothing that this ledger deleted is meant by that");
        return Err(Failure::new(Exit::No, nothing)
            .hint("`ledger review deletions` lists what was deleted; what was erased with its owner cannot be put back"));
    }
    confirm(&choice, args, by.ways);
    let bar = output::bar("users");
    let hands = Hands {
        executor: by.places,
        timing: by.timing,
        store: &session.store,
        actor: &actor,
        open_log: &|run| RunLog::open(&args.pace.log_dir, run, args.pace.log_emails),
        progress: &|progress| bar.set(progress.done, progress.all),
        stop: on_signal()?,
    };
    let report = if args.dry_run {
        preview(&hands, choice, &restoring).await
    } else {
        restore(&hands, choice, &restoring).await
    };
    drop(hands);
    bar.clear();
    let report = report.map_err(engine_failure)?;
    session.close().await;
    if common.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    if let Some(run) = report.run {
        let log = args.pace.log_dir.join(format!("{run}.log"));
        output::note(format_args!("log: {}", log.display()));
    }
    Ok(if report.all_back() && report.status != "interrupted" {
        Exit::Yes
    } else {
        Exit::No
    })
}

async fn selection(store: &Store, args: &Meant) -> Result<Selection, Failure> {
    let plan = match &args.plan {
        Some(name) => Some(
            plan::find(store, name)
                .await
                .map_err(super::approve::plan_failure)?,
        ),
        None => None,
    };
    let run = args.run.as_deref().map(str::parse::<RunId>).transpose();
    let mut selection = Selection {
        item: args.event.clone(),
        users: None,
        run: run.map_err(Failure::usage)?,
        plan,
    };
    if let Some(text) = &args.user {
        let mut deletions = RestoreFold::default();
        fold::run(store, At::Head, &mut [&mut deletions])
            .await
            .map_err(read_failure)?;
        let users = deletions.users_named(text);
        // What was asked for is not repeated: it may be an e-mail address.
        if users.is_empty() {
            let nobody = anyhow::anyhow!("no user of this e-mail or id stands in this ledger");
            return Err(Failure::new(Exit::No, nobody)
                .hint("without the keys of the ledger no user can be found by e-mail or v1's id"));
        }
        selection.users = Some(users);
    }
    Ok(selection)
}

/// Says what is about to be done, before it is.
fn confirm(choice: &Choice, args: &Meant, ways: &[&str]) {
    let what = if args.dry_run {
        "would be put back"
    } else {
        "to be put back"
    };
    output::note(format_args!(
        "{what}: {} items in {} places, of these {} are back already",
        choice.items(),
        choice.places(),
        choice.back()
    ));
    for line in ways {
        output::note(line);
    }
    if args.leave_stand_ins {
        output::note("what another live item stands for is left, and the status is 1 then");
    } else {
        output::note(
            "warning: where another live item stands for the same by now, there are two then; --dry-run counts and names \
             them, --leave-stand-ins leaves them",
        );
    }
    if choice.unreadable > 0 {
        output::note(format_args!(
            "warning: of {} items the entries cannot be read, and nothing is done about them",
            choice.unreadable
        ));
    }
}

fn print(report: &RestoreReport) -> Result<(), Failure> {
    let preview = report.run.is_none() && report.status == "preview";
    output::line(format_args!(
        "{:<36} {:>6} {:>8} {:>6} {:>7} {:>8} {:>6}",
        "user",
        "meant",
        if preview { "possible" } else { "restored" },
        "there",
        "doubles",
        "stand-in",
        "failed"
    ))?;
    for user in &report.users {
        output::line(format_args!(
            "{:<36} {:>6} {:>8} {:>6} {:>7} {:>8} {:>6}",
            user.email.as_deref().unwrap_or(&user.user),
            user.chosen,
            user.restored,
            user.there,
            user.doubles,
            user.stand_in,
            user.failed
        ))?;
        for error in &user.errors {
            output::line(format_args!("    {error}"))?;
        }
    }
    output::line("")?;
    if preview {
        for item in report.items.iter().take(ITEMS_SHOWN_MAX) {
            let way = item.way.as_deref().unwrap_or("-");
            let lost = item.lost.join(", ");
            output::line(format_args!(
                "{} {}: {way}; not as before: {lost}",
                item.ended.name(),
                item.old_id
            ))?;
        }
        if report.items.len() > ITEMS_SHOWN_MAX {
            let more = report.items.len() - ITEMS_SHOWN_MAX;
            output::line(format_args!("and {more} more; --json lists all"))?;
        }
    }
    match report.run {
        Some(run) => output::line(format_args!("run {run}: {}", report.status))?,
        None if preview => output::line("nothing was changed or recorded")?,
        None if report.all_back() => {
            output::line("all of it is back already; nothing was changed or recorded")?;
        }
        None => output::line(
            "all of it was put back before, and not all of it is as it was; nothing was changed or recorded",
        )?,
    }
    output::line(format_args!("items: {}", counts(&report.totals)))?;
    if !report.ways.is_empty() {
        output::line(format_args!("ways: {}", counts(&report.ways)))?;
    }
    for (way, lost) in &report.lost {
        let names: Vec<&str> = lost.iter().map(String::as_str).collect();
        output::line(format_args!("not as before ({way}): {}", names.join(", ")))?;
    }
    for item in report.items.iter().filter(|item| item.is_twice()) {
        output::line(format_args!(
            "DOUBLE: {}: another live item stands for the same, so there {} two",
            item.new_id.as_deref().unwrap_or(&item.old_id),
            if preview { "would be" } else { "are" }
        ))?;
    }
    for item in &report.items {
        if let Some(doubt) = item
            .reason
            .as_ref()
            .filter(|_| item.ended == Ended::Doubtful)
        {
            output::line(format_args!("DOUBTFUL: {}: {doubt}", item.old_id))?;
        }
    }
    for item in report.items.iter().filter(|item| !item.differs.is_empty()) {
        output::line(format_args!(
            "DIFFERS from its backup: {}: {}",
            item.new_id.as_deref().unwrap_or(&item.old_id),
            item.differs.join(", ")
        ))?;
    }
    if report.totals.get("new_ids").is_some_and(|count| *count > 0) && !preview {
        output::line("next: tell v1 and v2 the new ids: ledger restore export")?;
    }
    Ok(())
}
