//! Undo where things go wrong: every kind of fault at every call, and kill -9. However it goes, nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::Value;

use crate::migration::{APPROVER, Migration, RUNNER, Running, total, word};
use crate::world::output;

/// What a fault that happens once may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Nothing: everything of the user is back in the same run.
    Nothing,
    /// One event has another id than it could have.
    NewId,
    /// One item is not back, the next run does it.
    OneFailed,
    /// The user is not gone on with; the next run does it.
    User,
    /// Everything is back, and the look afterwards failed.
    NotLookedAt,
}

/// One row of the table: the call and the fault, whether the tombstones are gone, and what it may cost.
struct Cell {
    call: Call,
    name: &'static str,
    kind: FaultKind,
    purged: bool,
    cost: Cost,
}

/// What can happen to any request.
fn anything() -> Vec<(&'static str, FaultKind)> {
    vec![
        ("request lost", FaultKind::LoseRequest),
        ("reply lost", FaultKind::LoseReply),
        ("truncated", FaultKind::TruncateBody { keep: 40 }),
        ("401", FaultKind::status(401)),
        ("403 rate", FaultKind::reason(403, "userRateLimitExceeded")),
        ("429", FaultKind::status(429)),
        ("429 retry-after", FaultKind::retry_after(429, "1")),
        ("500", FaultKind::status(500)),
        ("502 page", FaultKind::html(502)),
        ("200 page", FaultKind::html(200)),
        ("503 retry-after", FaultKind::retry_after(503, "1")),
        ("504", FaultKind::status(504)),
        (
            "stalled past the limit",
            FaultKind::Stall {
                millis: Some(4_500),
            },
        ),
        ("never answered", FaultKind::Stall { millis: None }),
    ]
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |call, name, kind, purged, cost| {
        cells.push(Cell {
            call,
            name,
            kind,
            purged,
            cost,
        });
    };
    for (call, purged) in [
        (Call::EventsPatch, false),
        (Call::EventsInsert, true),
        (Call::EventsGet, false),
        (Call::EventsList, false),
    ] {
        for (name, kind) in anything() {
            add(call, name, kind, purged, Cost::Nothing);
        }
        let cost = match call {
            Call::EventsPatch | Call::EventsInsert | Call::EventsGet => Cost::User,
            _ => Cost::NotLookedAt,
        };
        let quota = FaultKind::reason(403, "quotaExceeded");
        add(call, "403 quota", quota, purged, cost);
    }
    let forbidden = || FaultKind::reason(403, "forbidden");
    for (call, name, kind, purged, cost) in [
        (
            Call::EventsPatch,
            "403 forbidden",
            forbidden(),
            false,
            Cost::NewId,
        ),
        (
            Call::EventsPatch,
            "400",
            FaultKind::status(400),
            false,
            Cost::NewId,
        ),
        (
            Call::EventsPatch,
            "404 untrue",
            FaultKind::status(404),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsPatch,
            "410 untrue",
            FaultKind::status(410),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsPatch,
            "409",
            FaultKind::status(409),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsPatch,
            "412",
            FaultKind::status(412),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsInsert,
            "403 forbidden",
            forbidden(),
            true,
            Cost::OneFailed,
        ),
        (
            Call::EventsInsert,
            "400",
            FaultKind::status(400),
            true,
            Cost::OneFailed,
        ),
        (
            Call::EventsInsert,
            "404",
            FaultKind::status(404),
            true,
            Cost::OneFailed,
        ),
        (
            Call::EventsInsert,
            "409 untrue",
            FaultKind::status(409),
            true,
            Cost::Nothing,
        ),
        (
            Call::EventsGet,
            "403 forbidden",
            forbidden(),
            false,
            Cost::OneFailed,
        ),
        (
            Call::EventsGet,
            "404 untrue",
            FaultKind::status(404),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsGet,
            "410 untrue",
            FaultKind::status(410),
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "403 forbidden",
            forbidden(),
            false,
            Cost::NotLookedAt,
        ),
        (
            Call::EventsList,
            "pages in a circle",
            FaultKind::PageTokenLoop,
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "items twice",
            FaultKind::DuplicateItems,
            false,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "empty page",
            FaultKind::EmptyPage,
            false,
            Cost::Nothing,
        ),
        (
            Call::Token,
            "500",
            FaultKind::status(500),
            false,
            Cost::Nothing,
        ),
        (
            Call::Token,
            "reply lost",
            FaultKind::LoseReply,
            false,
            Cost::Nothing,
        ),
    ] {
        add(call, name, kind, purged, cost);
    }
    cells
}

fn plain(users: usize, events: usize) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(71).users(users).events_per_user(events)
    }
}

/// The accounts with at least three items to be deleted, and these.
fn rich_accounts(deletes: &BTreeSet<EventKey>) -> Vec<(String, Vec<EventKey>)> {
    let mut accounts: BTreeMap<String, Vec<EventKey>> = BTreeMap::new();
    for key in deletes {
        accounts.entry(key.0.clone()).or_default().push(key.clone());
    }
    accounts.retain(|_, items| items.len() >= 3);
    accounts.into_iter().collect()
}

fn line_of<'a>(report: &'a Value, migration: &Migration, account: &str) -> &'a Value {
    let users = &migration.sim.world().users;
    let user = users
        .iter()
        .find(|user| user.account.as_deref() == Some(account))
        .unwrap();
    let lines = report["users"].as_array().unwrap();
    lines
        .iter()
        .find(|line| line["user"] == user.id.as_str())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_call_brings_each_event_back_once() {
    let cells = cells();
    let migration = Migration::start(plain(cells.len() + 20, 14)).await;
    let (plan, _) = migration.cleaned_up();
    let accounts = rich_accounts(&plan.deletes);
    assert!(accounts.len() >= cells.len(), "{} accounts", accounts.len());
    for (cell, (account, items)) in cells.iter().zip(&accounts) {
        for key in items.iter().filter(|_| cell.purged) {
            assert!(migration.sim.purge_event(&key.0, &key.1));
        }
        let fault = Fault::once(cell.call, cell.kind.clone());
        migration.sim.add_fault(fault.for_account(account));
    }
    let begun = migration.sim.journal().len();
    let first = output(
        migration
            .restore_plan(&plan.hash)
            .args(["--users-at-once", "32"]),
    );
    assert_eq!(first.exit, 1, "{}", first.stderr);
    let report = first.json();
    let journal = migration.sim.journal();
    let mut wrong = Vec::new();
    let mapping = migration.mapping();
    for (cell, (account, items)) in cells.iter().zip(&accounts) {
        let line = line_of(&report, &migration, account);
        let figure = |name: &str| line[name].as_u64().unwrap();
        let (chosen, restored) = (figure("chosen"), figure("restored"));
        let moved = items
            .iter()
            .filter(|key| mapping.get(*key).is_some_and(|new| *new != key.1));
        let moved = moved.count();
        let as_expected = if cell.purged { items.len() } else { 0 };
        let right = match cell.cost {
            Cost::Nothing => restored == chosen && moved == as_expected,
            Cost::NewId => restored == chosen && moved == 1,
            Cost::OneFailed => restored == chosen - 1 && figure("failed") == 1,
            Cost::User => restored < chosen && figure("failed") == chosen - restored,
            Cost::NotLookedAt => {
                restored == chosen && !line["errors"].as_array().unwrap().is_empty()
            }
        };
        let met = journal[begun..].iter().any(|entry| {
            entry.fault.is_some() && entry.account.as_deref() == Some(account.as_str())
        });
        if !met || !right {
            wrong.push(format!("{:?} {}: {line}", cell.call, cell.name));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), first.stderr);
    assert_nothing_is_there_twice(&migration);

    // The faults are over: the same again brings back the rest.
    migration.sim.clear_faults();
    output(&mut migration.restore_plan(&plan.hash)).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    let loss = migration.loss();
    assert_eq!(
        loss["scopes"]["calendar"]["sum"].get("in_flight"),
        None,
        "{loss}"
    );
    migration.world.assert_intact();
}

/// Each live event has a counterpart in the first state of its calendar, and no two have the same.
#[track_caller]
fn assert_nothing_is_there_twice(migration: &Migration) {
    let heads = |events: &BTreeMap<String, Value>| {
        let mut heads: BTreeMap<String, usize> = BTreeMap::new();
        for event in events.values() {
            let head = format!(
                "{} {} {}",
                event["summary"], event["start"], event["description"]
            );
            *heads.entry(head).or_default() += 1;
        }
        heads
    };
    let before = migration.sim.initial_state();
    for (calendar, events) in &migration.sim.final_state() {
        let before = heads(&before[calendar]);
        for (head, count) in heads(events) {
            assert!(
                before.get(&head).is_some_and(|was| count <= *was),
                "{calendar} {head}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_stays_costs_its_user_and_nobody_else() {
    let migration = Migration::start(plain(12, 10)).await;
    let (plan, _) = migration.cleaned_up();
    let accounts = rich_accounts(&plan.deletes);
    let always = [
        (Call::EventsPatch, FaultKind::status(503)),
        (Call::EventsPatch, FaultKind::status(401)),
        (Call::EventsGet, FaultKind::status(500)),
        (Call::EventsGet, FaultKind::LoseReply),
        (Call::Token, FaultKind::reason(400, "invalid_grant")),
    ];
    let mut spoilt = BTreeSet::new();
    for ((call, kind), (account, _)) in always.iter().zip(&accounts) {
        let fault = Fault::once(*call, kind.clone()).when(Occurrence::Always);
        migration.sim.add_fault(fault.for_account(account));
        spoilt.insert(account.clone());
    }
    let run = output(&mut migration.restore_plan(&plan.hash));
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let report = run.json();
    for account in &spoilt {
        let line = line_of(&report, &migration, account);
        assert_eq!(line["failed"], line["chosen"], "{line}");
        assert!(!line["errors"].as_array().unwrap().is_empty(), "{line}");
    }
    let gone: BTreeSet<EventKey> = migration.sim.deleted().into_iter().collect();
    let left = plan.deletes.iter().filter(|key| spoilt.contains(&key.0));
    assert_eq!(gone, left.cloned().collect());
    migration.sim.clear_faults();
    // Of what an attempt did not bring back nobody promises that the next one will.
    let mut again = migration.restore_plan(&plan.hash);
    let preview = output(again.arg("--dry-run"));
    assert_eq!(preview.exit, 1, "{}", preview.stderr);
    let preview = preview.json();
    assert!(total(&preview, "doubtful") > 0, "{preview:#}");
    let items = preview["items"].as_array().unwrap().iter();
    for item in items.filter(|item| item["ended"] == "doubtful") {
        let why = item["reason"].as_str().unwrap();
        assert!(
            why.starts_with("the last attempt did not bring it back: "),
            "{why}"
        );
    }
    output(&mut migration.restore_plan(&plan.hash)).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
}

/// Where the run is killed.
#[derive(Debug, Clone, Copy)]
struct Kill {
    call: Call,
    nth: u64,
    at: HoldPoint,
}

async fn kill_and_go_on(seed: u64, purged: bool, kills: &[Kill]) {
    let migration = Migration::start(WorldSpec::seeded(seed).users(24).events_per_user(8)).await;
    let (plan, _) = migration.cleaned_up();
    for key in plan.deletes.iter().filter(|_| purged) {
        assert!(migration.sim.purge_event(&key.0, &key.1));
    }
    let started = migration.log(&["run.started"]).len();
    for kill in kills {
        let hold = migration.sim.hold(kill.call, kill.nth, kill.at);
        let running = Running::start(&mut migration.restore_plan(&plan.hash));
        hold.reached().await;
        running.kill();
        // What was sent arrives all the same.
        hold.release();
    }
    let report = output(&mut migration.restore_plan(&plan.hash)).ok().json();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    let back = total(&report, "restored") + total(&report, "back_before");
    assert_eq!(back, plan.deletes.len() as u64, "{report:#}");
    let begun = migration.log(&["run.started"]).split_off(started);
    assert_is_one_run(&begun);
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    migration.world.assert_intact();
}

/// Fails unless these are the beginning of one run, and of going on with it.
#[track_caller]
fn assert_is_one_run(begun: &[Value]) {
    for (n, line) in begun.iter().enumerate() {
        assert_eq!(line["entry"]["run"], begun[0]["entry"]["run"]);
        let resumed = line["payload"]["options"].get("resumed").is_some();
        assert_eq!(resumed, n > 0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_and_after_an_event_is_uncancelled() {
    let kill = |nth, at| Kill {
        call: Call::EventsPatch,
        nth,
        at,
    };
    let kills = [kill(3, HoldPoint::Before), kill(7, HoldPoint::After)];
    kill_and_go_on(72, false, &kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_and_after_an_event_is_made_anew() {
    let kill = |nth, at| Kill {
        call: Call::EventsInsert,
        nth,
        at,
    };
    let kills = [kill(3, HoldPoint::Before), kill(7, HoldPoint::After)];
    kill_and_go_on(73, true, &kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_recovers_and_while_it_reads_back_and_looks_again() {
    let kill = |call, nth, at| Kill { call, nth, at };
    let kills = [
        kill(Call::EventsPatch, 5, HoldPoint::After),
        // The first question of a run that goes on is about an open intent.
        kill(Call::EventsGet, 1, HoldPoint::Before),
        kill(Call::EventsGet, 12, HoldPoint::After),
        kill(Call::EventsList, 2, HoldPoint::After),
    ];
    kill_and_go_on(74, false, &kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_a_killed_run_that_arrives_late_makes_no_second_copy() {
    for (seed, purged, call) in [
        (75, false, Call::EventsPatch),
        (76, true, Call::EventsInsert),
    ] {
        let migration =
            Migration::start(WorldSpec::seeded(seed).users(22).events_per_user(6)).await;
        let (plan, _) = migration.cleaned_up();
        for key in plan.deletes.iter().filter(|_| purged) {
            assert!(migration.sim.purge_event(&key.0, &key.1));
        }
        let hold = migration.sim.hold(call, 4, HoldPoint::Before);
        let mut command = migration.restore_plan(&plan.hash);
        let running = Running::start(command.args(["--users-at-once", "1"]));
        hold.reached().await;
        running.kill();
        // The intent is open and the item is not there: the run that goes on tries again, under another intent.
        output(&mut migration.restore_plan(&plan.hash)).ok();
        migration.assert_as_before(&plan.deletes);
        let writes = migration.sim.calendar_writes().len();
        hold.release();
        output(&mut migration.restore_plan(&plan.hash)).ok();
        assert_eq!(migration.sim.calendar_writes().len(), writes, "{call:?}");
        migration.assert_as_before(&plan.deletes);
        migration.assert_restorations_add_up();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_restorations_at_once_one_refuses_and_so_does_a_cleanup() {
    let migration = Migration::start(WorldSpec::seeded(77)).await;
    let (plan, _) = migration.cleaned_up();
    let fault = Fault::once(
        Call::EventsPatch,
        FaultKind::Hold {
            at: HoldPoint::Before,
        },
    );
    let hold = migration.sim.hold_where(fault.when(Occurrence::Always));
    let one = Running::start(&mut migration.restore_plan(&plan.hash));
    hold.reached().await;
    let other = output(&mut migration.restore_plan(&plan.hash));
    assert_eq!(other.exit, 1, "{}{}", other.stdout, other.stderr);
    let cleanup = migration.live_run(&plan.hash);
    assert_eq!(cleanup.exit, 1, "{}{}", cleanup.stdout, cleanup.stderr);
    hold.release();
    one.output().await;
    output(&mut migration.restore_plan(&plan.hash)).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_brings_what_was_begun_to_its_outcome_and_goes_on_later() {
    let migration = Migration::start(WorldSpec::seeded(78).users(24).events_per_user(8)).await;
    let (plan, _) = migration.cleaned_up();
    let started = migration.log(&["run.started"]).len();
    let hold = migration.sim.hold(Call::EventsPatch, 4, HoldPoint::Before);
    let mut command = migration.restore_plan(&plan.hash);
    // One user at a time, so that most of the work is still to come.
    let running = Running::start(command.args(["--users-at-once", "1"]));
    hold.reached().await;
    let id = running.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.unwrap().success());
    hold.release();
    let stopped = running.output().await;
    assert_eq!(stopped.exit, 1, "{}", stopped.stderr);
    assert_eq!(
        stopped.json()["status"],
        "interrupted",
        "{}",
        stopped.stdout
    );
    migration.assert_restorations_add_up();
    assert_nothing_is_there_twice(&migration);
    // Somebody else goes on, and says why.
    let mut command = migration.world.command(["restore", "calendar", "--json"]);
    let by_another = command
        .args(["--plan", &plan.hash, "--reason", "case 18"])
        .args(["--as", APPROVER, "--user-interval", "1ms", "--log-dir"])
        .arg(migration.logs())
        .envs(migration.sim.env());
    output(by_another).ok();
    migration.assert_as_before(&plan.deletes);
    let begun = migration.log(&["run.started"]).split_off(started);
    assert_is_one_run(&begun);
    let said = |line: &Value| {
        (
            word(&line["entry"]["actor"]),
            word(&line["payload"]["options"]["reason"]),
        )
    };
    let said: Vec<_> = begun.iter().map(said).collect();
    let wanted = [(RUNNER, "case 17"), (APPROVER, "case 18")];
    let wanted = wanted.map(|(person, reason)| (format!("person:{person}"), reason.to_owned()));
    assert_eq!(said, wanted);
}
