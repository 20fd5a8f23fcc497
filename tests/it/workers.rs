//! One run, many hands: workers that share it, are killed, stall, are told to stop; and what makes a run stop by itself.

use std::process::Command;
use std::time::Duration;

use ledger::domain::event::{Event, PlanApproved};
use ledger::domain::id::Subject;
use ledger::store::Draft;
use ledger_sim::{Call, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::Value;

use crate::migration::{APPROVER, MAKER, Migration, Plan, RUNNER, Running, key_of, total};
use crate::world::output;

fn world(seed: u64) -> WorldSpec {
    WorldSpec::seeded(seed).users(24).events_per_user(10)
}

/// Fails unless the plan was done, exactly and once, in one run that ended as complete.
fn assert_done(migration: &Migration, plan: &Plan) {
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
    let started = migration.log(&["run.started"]).len();
    assert_eq!(started, 2, "the dry run and one live run");
    let finished = migration.log(&["run.finished"]);
    assert_eq!(finished.len(), 2, "{finished:#?}");
    assert_eq!(finished[1]["payload"]["status"], "complete");
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    assert_eq!(
        loss["scopes"]["calendar"]["sum"]["deleted"],
        plan.deletes.len()
    );
    migration.world.assert_intact();
}

/// Every run's actors that recorded an intent.
fn actors(migration: &Migration) -> std::collections::BTreeSet<String> {
    let intents = migration.log(&["item.delete_intended"]);
    let actor = |line: &Value| line["entry"]["actor"].as_str().unwrap().to_owned();
    intents.iter().map(actor).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_share_a_run_and_one_finishes_it_when_two_are_killed() {
    let migration = Migration::start(world(31)).await;
    let plan = migration.approved_plan();
    // Each of the three is caught in the middle of a deletion, two of them after it took effect.
    let first = migration.sim.hold(Call::EventsDelete, 3, HoldPoint::After);
    let one_user = ["--users-at-once", "1"];
    let began = Running::start(migration.live_command(&plan.hash).args(one_user));
    first.reached().await;
    let second = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::Before);
    let killed = Running::start(migration.worker_command("two").args(one_user));
    second.reached().await;
    let last = Running::start(migration.worker_command("three").args(one_user));
    began.kill();
    first.release();
    killed.kill();
    second.release();
    let report = last.output().await.ok().json();
    assert_eq!(report["status"], "complete", "{report:#}");
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    assert_eq!(total(&report, "unexplained"), 0, "{report:#}");
    assert_done(&migration, &plan);
    assert!(actors(&migration).contains("worker:three"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_help_the_run_that_somebody_began() {
    let migration = Migration::start(world(32)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let began = Running::start(
        migration
            .live_command(&plan.hash)
            .args(["--users-at-once", "1"]),
    );
    hold.reached().await;
    // The others do everything but the place where the first one hangs.
    let workers = ["two", "three"].map(|name| Running::start(&mut migration.worker_command(name)));
    let mut waited = Duration::ZERO;
    while actors(&migration).len() < 3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        waited += Duration::from_millis(200);
        assert!(waited < Duration::from_mins(2), "nobody helps");
    }
    hold.release();
    let report = began.output().await.ok().json();
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    for worker in workers {
        worker.output().await.ok();
    }
    assert_done(&migration, &plan);
}

#[cfg(unix)]
fn signal(running: &Running, name: &str) {
    let pid = running.id().to_string();
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_worker_can_do_and_record_nothing_once_another_has_taken_over() {
    let migration = Migration::start(world(33)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 4, HoldPoint::Before);
    let stalled = Running::start(
        migration
            .live_command(&plan.hash)
            .args(["--users-at-once", "1"]),
    );
    hold.reached().await;
    let journal = migration.sim.journal();
    let waiting = journal
        .iter()
        .rev()
        .find(|entry| entry.call == Some(Call::EventsDelete) && entry.status.is_none());
    let key = key_of(waiting.unwrap());
    // Its request is under way, and the process stands still: no renewal, no time-out.
    signal(&stalled, "STOP");
    let report = Running::start(&mut migration.worker_command("two"))
        .output()
        .await
        .ok()
        .json();
    assert_eq!(report["status"], "complete", "{report:#}");
    migration.sim.assert_only_deleted(&plan.deletes);
    let entries = migration.log(&[]).len();
    let writes = migration.sim.calendar_writes().len();
    hold.release();
    signal(&stalled, "CONT");
    let late = stalled.output().await;
    assert_ne!(late.exit, 0, "{}", late.stdout);
    assert_eq!(migration.sim.calendar_writes().len(), writes);
    assert_eq!(migration.log(&[]).len(), entries, "{}", late.stderr);
    let attempts = &migration.attempts()[&key];
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert_done(&migration, &plan);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_ends_what_it_began_and_begins_nothing() {
    let migration = Migration::start(world(34)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 5, HoldPoint::Before);
    let running = Running::start(
        migration
            .live_command(&plan.hash)
            .args(["--users-at-once", "1"]),
    );
    hold.reached().await;
    let begun = migration.log(&["item.delete_intended"]).len();
    signal(&running, "TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    hold.release();
    let stopped = running.output().await;
    assert_eq!(stopped.exit, 1, "{}", stopped.stderr);
    let report = stopped.json();
    assert_eq!(report["status"], "interrupted", "{report:#}");
    assert_eq!(migration.log(&["item.delete_intended"]).len(), begun);
    assert_eq!(migration.log(&["item.deleted"]).len(), begun);
    assert_eq!(total(&report, "deleted"), begun as u64, "{report:#}");
    migration.assert_ledger_accounts_for_all();
    // No waiting for a lease: it gave everything back.
    migration.live_run(&plan.hash).ok();
    assert_done(&migration, &plan);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_canary_somebody_else_lets_the_rest_begin() {
    let migration = Migration::start(world(35)).await;
    let plan = migration.approved_plan();
    let canary = output(migration.live_command(&plan.hash).args(["--canary", "2"]));
    assert_eq!(canary.exit, 1, "{}", canary.stderr);
    let report = canary.json();
    assert_eq!(report["status"], "canary", "{report:#}");
    let gone = migration.sim.deleted();
    let places: std::collections::BTreeSet<_> = gone.iter().map(|key| &key.0).collect();
    assert_eq!(places.len(), 2);
    assert!(gone.len() < plan.deletes.len());

    let refused = migration.live_run(&plan.hash);
    assert_eq!(refused.exit, 1);
    assert!(
        refused.stderr.contains("was a canary"),
        "{}",
        refused.stderr
    );
    let release = |person: &str| {
        let arguments = ["approve", &plan.hash, "--canary", "--as", person];
        migration.world.ledger(arguments)
    };
    let own = release(RUNNER);
    assert_eq!(own.exit, 1);
    assert!(own.stderr.contains("four eyes"), "{}", own.stderr);
    assert_eq!(migration.sim.deleted(), gone);
    release(APPROVER).ok();
    let report = migration.live_run(&plan.hash).ok().json();
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
    let nothing = release(MAKER);
    assert_eq!(nothing.exit, 1);
    assert!(
        nothing.stderr.contains("was no canary"),
        "{}",
        nothing.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_canary_does_the_next_users() {
    let migration = Migration::start(world(39)).await;
    let plan = migration.approved_plan();
    let places = || -> std::collections::BTreeSet<String> {
        let gone = migration.sim.deleted().into_iter();
        gone.map(|(place, _)| place).collect()
    };
    let canary = ["--canary", "2"];
    output(migration.live_command(&plan.hash).args(canary));
    let first = places();
    assert_eq!(first.len(), 2);
    let release = ["approve", &plan.hash, "--canary", "--as", APPROVER];
    migration.world.ledger(release).ok();
    output(migration.live_command(&plan.hash).args(canary));
    let second = places();
    assert_eq!(second.len(), 4, "{second:?}");
    assert!(second.is_superset(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_a_run_reaches_a_worker_in_the_middle_of_a_place() {
    let migration = Migration::start(WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(40).users(6).events_per_user(14)
    })
    .await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::Before);
    let one = ["--users-at-once", "1"];
    let running = Running::start(migration.live_command(&plan.hash).args(one));
    hold.reached().await;
    let begun = migration.log(&["item.delete_intended"]).len();
    let mut writer = migration.world.writer().await;
    sqlx::query("update ledger_work.runs set stopped = 'another worker says so'")
        .execute(&mut writer)
        .await
        .unwrap();
    hold.release();
    let report = running.output().await.json();
    assert_eq!(report["status"], "stopped", "{report:#}");
    assert_eq!(report["notes"][0], "another worker says so");
    assert_eq!(migration.log(&["item.delete_intended"]).len(), begun);
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_by_nobodys_approval_who_began_the_run() {
    let migration = Migration::start(world(41)).await;
    let plan = migration.approved_plan();
    // Who runs it has approved it too, as if the first approval had lapsed by then: for this run that counts for nothing.
    let (sealed, approved) = (
        &migration.log(&["plan.sealed"])[0],
        &migration.log(&["plan.approved"])[0],
    );
    let subject: Subject = sealed["entry"]["subject"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let own: PlanApproved = serde_json::from_value(approved["payload"].clone()).unwrap();
    let actor = format!("person:{RUNNER}").parse().unwrap();
    let own = Draft::of(&Event::PlanApproved(own), subject.clone(), actor, subject).unwrap();
    let store = migration.world.store().await;
    store.append(own).await.unwrap();
    store.close().await;
    let hold = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::After);
    let one = ["--users-at-once", "1"];
    let began = Running::start(migration.live_command(&plan.hash).args(one));
    hold.reached().await;
    began.kill();
    hold.release();
    Running::start(&mut migration.worker_command("two"))
        .output()
        .await
        .ok();
    let approvals = migration.log(&["plan.approved"]);
    assert_eq!(approvals.len(), 2, "{approvals:#?}");
    assert!(actors(&migration).contains("worker:two"));
    let others = &approvals[0]["entry"];
    assert_eq!(others["actor"], format!("person:{APPROVER}"));
    for intent in migration.log(&["item.delete_intended"]) {
        assert_eq!(intent["payload"]["approval"], others["id"], "{intent}");
    }
    assert_done(&migration, &plan);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_stops_by_itself_where_too_much_goes_wrong() {
    let migration = Migration::start(WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(36).users(20).events_per_user(14)
    })
    .await;
    let plan = migration.approved_plan();
    let forbidden = FaultKind::reason(403, "forbiddenForNonOrganizer");
    let fault = Fault::once(Call::EventsDelete, forbidden).when(Occurrence::Every(3));
    migration.sim.add_fault(fault);
    let strict = ["--bad-percent-max", "20", "--users-at-once", "2"];
    let run = output(migration.live_command(&plan.hash).args(strict));
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["status"], "stopped", "{report:#}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("more than 20 %"), "{note}");
    let tried = migration.log(&["item.delete_intended"]).len();
    assert!(
        (50..90).contains(&tried),
        "{tried} of {}",
        plan.deletes.len()
    );
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_takes_too_much_from_one_user_is_not_begun() {
    let migration = Migration::start(world(37)).await;
    let plan = migration.approved_plan();
    let run = output(
        migration
            .live_command(&plan.hash)
            .args(["--user-deletions-max", "1"]),
    );
    assert_eq!(run.exit, 1);
    assert!(
        run.stderr.contains("--user-deletions-max"),
        "{}",
        run.stderr
    );
    migration.sim.assert_only_reads();
    assert_eq!(migration.log(&["run.started"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_start_apart_over_all_workers() {
    let migration = Migration::start(WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(38).users(8).events_per_user(3)
    })
    .await;
    let plan = migration.approved_plan();
    let run = [
        "cleanup", "calendar", "--json", "--as", RUNNER, "--plan", &plan.hash,
    ];
    let mut run = migration.with_services(&run);
    let run = Running::start(run.args(["--user-interval", "400ms"]));
    let worker = Running::start(&mut migration.worker_command("two"));
    run.output().await.ok();
    worker.output().await.ok();
    // The first listing of each account marks its start.
    let mut starts = std::collections::BTreeMap::new();
    for entry in migration.sim.journal() {
        let since_token = entry.call == Some(Call::EventsList) && entry.query.contains("syncToken");
        if let (true, Some(account)) = (since_token, entry.account) {
            starts.entry(account).or_insert(entry.at);
        }
    }
    let mut starts: Vec<_> = starts.into_values().collect();
    starts.sort_unstable();
    assert!(starts.len() > 3);
    let all = *starts.last().unwrap() - starts[0];
    let least = chrono::Duration::milliseconds(400) * i32::try_from(starts.len() - 1).unwrap();
    assert!(
        all > least - chrono::Duration::milliseconds(300),
        "{starts:?}"
    );
    migration.sim.assert_only_deleted(&plan.deletes);
}
