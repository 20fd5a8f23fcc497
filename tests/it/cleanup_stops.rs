//! The live run where it has to wait, to stop, or to say that it is not what it seems.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{APPROVER, Migration, Plan, RUNNER, Running, key_of, total};
use crate::world::output;

fn plain(seed: u64, users: usize, events: usize) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(seed).users(users).events_per_user(events)
    }
}

fn one_user_at_a_time(migration: &Migration, plan: &Plan) -> Command {
    let mut command = migration.live_command(&plan.hash);
    command.args(["--users-at-once", "1"]);
    command
}

/// Calendars in which something was deleted.
fn places(migration: &Migration) -> BTreeSet<String> {
    let gone = migration.sim.deleted().into_iter();
    gone.map(|(place, _)| place).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_drops_its_connections_costs_nothing() {
    let migration = Migration::start(plain(51, 16, 12)).await;
    let plan = migration.approved_plan();
    let mut command = migration.live_command(&plan.hash);
    let running = Running::start(command.args(["--users-at-once", "6"]));
    let mut dropped = 0;
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        dropped += migration.world.drop_connections().await;
    }
    let report = running.output().await.ok().json();
    assert!(dropped > 20, "{dropped}");
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_user_would_meet_stops_the_run() {
    let migration = Migration::start(plain(52, 12, 6)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::Before);
    let running = Running::start(&mut one_user_at_a_time(&migration, &plan));
    hold.reached().await;
    let begun = migration.sim.journal().len();
    // Somebody rotates the client's secret in the middle.
    let rotated = FaultKind::reason(401, "invalid_client");
    let fault = Fault::once(Call::Token, rotated).when(Occurrence::Always);
    migration.sim.add_fault(fault);
    hold.release();
    let stopped = running.output().await;
    assert_eq!(stopped.exit, 1, "{}", stopped.stderr);
    let report = stopped.json();
    assert_eq!(report["status"], "stopped", "{report:#}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("GOOGLE_CLIENT_SECRET"), "{note}");
    let asked = migration.sim.journal()[begun..]
        .iter()
        .filter(|entry| entry.call == Some(Call::Token))
        .count();
    assert_eq!(asked, 1, "the next users are not asked for");
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_makes_no_further_attempt() {
    let migration = Migration::start(plain(53, 4, 6)).await;
    let plan = migration.approved_plan();
    let busy = Fault::once(Call::EventsDelete, FaultKind::status(503)).when(Occurrence::Always);
    migration.sim.add_fault(busy);
    let mut command = one_user_at_a_time(&migration, &plan);
    // Longer than anybody waits for this test.
    let running = Running::start(command.env("LEDGER_RETRY_BASE_MS", "60000"));
    while migration.log(&["item.delete_failed"]).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.tell_to_stop();
    let stopped = running.output().await;
    assert_eq!(stopped.exit, 1, "{}", stopped.stderr);
    let report = stopped.json();
    assert_eq!(report["status"], "interrupted");
    let note = "it was told to stop; run the same command again to go on";
    assert_eq!(report["notes"], json!([note]), "no canary was asked for");
    assert_eq!(migration.log(&["item.delete_intended"]).len(), 1);
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_begun_is_told_apart_with_its_user() {
    let migration = Migration::start(plain(62, 5, 6)).await;
    let plan = migration.approved_plan();
    let emails: BTreeSet<&str> = migration
        .sim
        .world()
        .users
        .iter()
        .map(|user| &*user.email)
        .collect();
    // Fails unless each row names its user and what was left there was not begun.
    let of_rows = |report: &Value| {
        let rows = report["users"].as_array().unwrap();
        for row in rows {
            let user = &row["user"];
            assert!(user.as_str().is_some_and(|user| !user.is_empty()), "{row}");
            assert!(row["users"].as_array().unwrap().contains(user), "{row}");
            assert!(emails.contains(row["email"].as_str().unwrap()), "{row}");
            let number = |name: &str| row[name].as_u64().unwrap();
            assert_eq!(
                number("found"),
                number("deleted") + number("not_begun"),
                "{row}"
            );
        }
        assert_eq!(total(report, "failed"), 0, "{report:#}");
        let left = plan.deletes.len() as u64 - total(report, "deleted");
        assert_eq!(total(report, "not_begun"), left, "{report:#}");
        rows.len()
    };
    let hold = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::Before);
    let running = Running::start(&mut one_user_at_a_time(&migration, &plan));
    hold.reached().await;
    running.tell_to_stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    hold.release();
    let stopped = running.output().await;
    assert_eq!(stopped.exit, 1, "{}", stopped.stderr);
    let report = stopped.json();
    assert_eq!(report["status"], "interrupted", "{report:#}");
    let note = "it was told to stop; run the same command again to go on";
    assert_eq!(
        report["notes"],
        json!([note]),
        "no canary: nobody asked for one"
    );
    let rows = of_rows(&report);
    assert!(rows > 1 && total(&report, "deleted") > 0, "{report:#}");

    // A canary of the rest, which says so; and in words.
    let mut command = one_user_at_a_time(&migration, &plan);
    let report = output(command.args(["--canary", "2"])).json();
    assert_eq!(report["status"], "canary", "{report:#}");
    assert_eq!(of_rows(&report), rows);
    let release = ["approve", &plan.hash, "--canary", "--as", APPROVER];
    migration.world.ledger(release).ok();
    let mut command = migration.with_services(&["cleanup", "calendar", "--plan", &plan.hash]);
    let command = command.args(["--as", RUNNER, "--user-interval", "1ms", "--canary", "1"]);
    let text = output(command).stdout;
    let head = text.lines().next().unwrap();
    assert!(head.trim_end().ends_with("not begun"), "{text}");
    assert!(emails.iter().any(|email| text.contains(email)), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_names_all_through_whom_its_calendar_was_found() {
    let migration = Migration::start(WorldSpec::seeded(63).users(26).events_per_user(6)).await;
    let plan = migration.approved_plan();
    let rows = migration.live_run(&plan.hash).json()["users"].clone();
    let users = &migration.sim.world().users;
    let account_of = |id: &Value| {
        let user = users.iter().find(|user| *id == *user.id);
        user.and_then(|user| user.account.clone())
    };
    let rows = rows.as_array().unwrap();
    let named = |row: &Value| row["users"].as_array().unwrap().clone();
    let twice: Vec<_> = rows.iter().filter(|row| named(row).len() > 1).collect();
    assert!(!twice.is_empty(), "{rows:#?}");
    for row in twice {
        let accounts: BTreeSet<_> = named(row).iter().map(account_of).collect();
        assert_eq!(accounts.len(), 1, "{row:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_was_interrupted_goes_on_as_one() {
    let migration = Migration::start(plain(54, 8, 6)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 2, HoldPoint::Before);
    let mut command = one_user_at_a_time(&migration, &plan);
    let running = Running::start(command.args(["--canary", "2"]));
    hold.reached().await;
    running.tell_to_stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    hold.release();
    let report = running.output().await.json();
    assert_eq!(report["status"], "interrupted");
    let notes = report["notes"].as_array().unwrap();
    assert_eq!(
        notes.len(),
        1,
        "it is not over, so nothing is to be let begin: {report:#}"
    );
    // The same plan, and nobody says canary.
    let report = migration.live_run(&plan.hash).json();
    assert_eq!(report["status"], "canary", "{report:#}");
    assert_eq!(places(&migration).len(), 2);
    assert_eq!(migration.live_run(&plan.hash).exit, 1);
    assert_eq!(places(&migration).len(), 2);
    let release = ["approve", &plan.hash, "--canary", "--as", APPROVER];
    migration.world.ledger(release).ok();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_was_stopped_is_looked_at_too() {
    let migration = Migration::start(plain(55, 8, 12)).await;
    let plan = migration.approved_plan();
    let refused = FaultKind::reason(403, "forbiddenForNonOrganizer");
    let refused = Fault::once(Call::EventsDelete, refused).when(Occurrence::Always);
    migration.sim.add_fault(refused);
    let mut command = one_user_at_a_time(&migration, &plan);
    let canary = output(command.args(["--canary", "3", "--bad-items-min", "4"]));
    let report = canary.json();
    assert_eq!(report["status"], "stopped", "{report:#}");
    assert!(total(&report, "failed") > 0);
    migration.sim.clear_faults();
    let refused = migration.live_run(&plan.hash);
    assert_eq!(refused.exit, 1);
    let why = "the last run of this plan was a canary";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);
    assert!(migration.sim.deleted().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_as_long_as_it_is_asked_to() {
    let migration = Migration::start(plain(56, 4, 6)).await;
    let plan = migration.approved_plan();
    for call in [Call::EventsDelete, Call::EventsGet, Call::Token] {
        let begun = migration.sim.journal().len();
        let busy = Fault::once(call, FaultKind::retry_after(429, "2"));
        migration.sim.add_fault(busy);
        let mut command = one_user_at_a_time(&migration, &plan);
        let canary = output(command.args(["--canary", "1"]));
        assert_ne!(canary.exit, 2, "{}", canary.stderr);
        let journal = &migration.sim.journal()[begun..];
        let met = journal.iter().position(|entry| entry.fault.is_some());
        let next = journal[met.unwrap()..]
            .iter()
            .skip(1)
            .find(|entry| entry.call == Some(call));
        let waited = next.unwrap().at - journal[met.unwrap()].at;
        assert!(waited >= chrono::Duration::seconds(2), "{call:?} {waited}");
        let release = ["approve", &plan.hash, "--canary", "--as", APPROVER];
        migration.world.ledger(release).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_limit_slows_a_run_and_fails_nothing() {
    let migration = Migration::start(plain(57, 2, 6)).await;
    let plan = migration.approved_plan();
    // A request's turn takes longer to come than a deletion may last.
    let slow = output(
        migration
            .live_command(&plan.hash)
            .env("LEDGER_GOOGLE_USER_PER_MINUTE", "50")
            .env("LEDGER_LEASE_MS", "1000"),
    );
    slow.ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    let attempts = migration.attempts();
    assert!(attempts.values().all(|attempts| attempts.len() == 1));
    // Undo waits for its turn in the same way.
    let mut back = migration.restore_plan(&plan.hash);
    back.env("LEDGER_GOOGLE_USER_PER_MINUTE", "50");
    output(back.env("LEDGER_LEASE_MS", "1000")).ok();
    migration.assert_as_before(&plan.deletes);
    assert!(migration.log(&["item.restore_failed"]).is_empty());
}

/// The first place of a run, and a key of the plan in it, with the run held right before its look afterwards.
async fn held_before_its_look(
    migration: &Migration,
    plan: &Plan,
) -> (Running, ledger_sim::Hold, EventKey) {
    let hold = migration.sim.hold(Call::EventsList, 2, HoldPoint::Before);
    let running = Running::start(&mut one_user_at_a_time(migration, plan));
    hold.reached().await;
    let key = migration.sim.deleted().into_iter().next().unwrap();
    (running, hold, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_again_right_after_is_no_success() {
    let migration = Migration::start(plain(58, 4, 6)).await;
    let plan = migration.approved_plan();
    let (running, hold, key) = held_before_its_look(&migration, &plan).await;
    let confirmed = json!({"status": "confirmed"});
    assert!(migration.sim.edit_event(&key.0, &key.1, &confirmed));
    hold.release();
    let ended = running.output().await;
    assert_eq!(ended.exit, 1, "{}", ended.stdout);
    let report = ended.json();
    assert_eq!(report["status"], "partial");
    assert_eq!(total(&report, "there_again"), 1, "{report:#}");
    let users = report["users"].as_array().unwrap();
    let told = users.iter().any(|user| {
        let errors = user["errors"].as_array().unwrap();
        errors
            .iter()
            .any(|error| error.as_str().unwrap().contains("cleanup observe"))
    });
    assert!(told, "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_without_an_answer_is_no_success() {
    let migration = Migration::start(plain(59, 4, 6)).await;
    let plan = migration.approved_plan();
    // Right before the deletions it is listed, and right after.
    let closed = FaultKind::reason(403, "quotaExceeded");
    let closed = Fault::once(Call::EventsList, closed).when(Occurrence::Nth(2));
    migration.sim.add_fault(closed);
    let ended = output(&mut one_user_at_a_time(&migration, &plan));
    assert_eq!(ended.exit, 1, "{}", ended.stdout);
    assert_eq!(total(&ended.json(), "unseen"), 1);
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_open_is_asked_about_before_anything_else_is_done() {
    let migration = Migration::start(plain(60, 16, 6)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 9, HoldPoint::Before);
    let running = Running::start(&mut one_user_at_a_time(&migration, &plan));
    hold.reached().await;
    let journal = migration.sim.journal();
    let last = journal
        .iter()
        .rev()
        .find(|entry| entry.call == Some(Call::EventsDelete));
    let key = key_of(last.unwrap());
    running.kill();
    hold.release();
    // It cannot be asked about: then nothing else is done there, and the others come after.
    let begun = migration.sim.journal().len();
    let closed = Fault::once(Call::EventsGet, FaultKind::reason(403, "quotaExceeded"));
    migration.sim.add_fault(closed.for_event(&key.1));
    let partial = migration.live_run(&plan.hash);
    assert_eq!(partial.exit, 1, "{}", partial.stderr);
    let journal = &migration.sim.journal()[begun..];
    let asked = journal
        .iter()
        .position(|entry| entry.event_id.as_deref() == Some(&key.1));
    let first = journal
        .iter()
        .position(|entry| entry.call == Some(Call::EventsDelete));
    assert!(asked.is_some() && asked < first, "{asked:?} {first:?}");
    let there = journal
        .iter()
        .filter(|entry| entry.call == Some(Call::EventsDelete))
        .all(|entry| entry.calendar.as_ref() != Some(&key.0));
    assert!(there, "something was deleted where an intent is open");
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_v1_writes_between_plan_and_run_is_told() {
    let migration = Migration::start(plain(61, 4, 6)).await;
    let plan = migration.approved_plan();
    let before = migration.sim.initial_state();
    let names_its_case = |key: &&EventKey| {
        let text = before[&key.0][&key.1]["description"].as_str();
        text.is_some_and(|text| text.contains("Case: "))
    };
    let (place, id) = plan.deletes.iter().find(names_its_case).unwrap();
    let mut again = before[place][id].clone();
    let new = ["id", "etag", "created", "updated", "iCalUID"];
    let fields = again.as_object_mut().unwrap();
    fields.retain(|name, _| !new.contains(&name.as_str()));
    assert!(migration.sim.add_event(place, "writtenbetween1", &again));
    migration.live_run(&plan.hash).ok();
    let gone: BTreeSet<EventKey> = migration.sim.deleted().into_iter().collect();
    assert_eq!(gone, plan.deletes);
    let late = migration.log(&["container.late_written"]);
    assert_eq!(late.len(), 1, "{late:#?}");
    assert_eq!(late[0]["payload"]["items"][0]["item"], "writtenbetween1");
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["sum"]["late_write"], 1, "{loss}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_plan_has_deleted_is_not_begun_again() {
    let migration = Migration::start(plain(64, 4, 6)).await;
    // Two inventories of the same items, both approved before either is run.
    let plans = [migration.approved_plan(), migration.approved_plan()];
    assert_eq!(plans[0].deletes, plans[1].deletes);
    let all = plans[0].deletes.len() as u64;
    migration.live_run(&plans[0].hash).ok();
    let done = migration.log(&["item.delete_intended", "item.deleted"]);
    let sent = migration.sim.calendar_writes().len();
    for _ in 0..2 {
        let report = migration.live_run(&plans[1].hash).ok().json();
        assert_eq!(report["status"], "complete", "{report:#}");
        assert_eq!(total(&report, "deleted"), all, "{report:#}");
        assert_eq!(total(&report, "already_gone"), 0, "it was our own doing");
    }
    assert_eq!(migration.sim.calendar_writes().len(), sent);
    assert_eq!(
        migration.log(&["item.delete_intended", "item.deleted"]),
        done
    );
    let sum = migration.loss()["scopes"]["calendar"]["sum"].clone();
    assert_eq!(sum["deleted"], all, "{sum}");

    // What came back meanwhile and is gone again is not ours.
    let run = migration.log(&["run.finished"])[2]["entry"]["run"].clone();
    let run = run.as_str().unwrap();
    let key = plans[0].deletes.first().unwrap();
    migration.restore(&["--run", run, "--event", &key.1]).ok();
    let cancelled = json!({"status": "cancelled"});
    assert!(migration.sim.edit_event(&key.0, &key.1, &cancelled));
    let report = migration.live_run(&plans[1].hash).json();
    assert_eq!(total(&report, "already_gone"), 1, "{report:#}");
    assert_eq!(total(&report, "deleted"), all - 1, "{report:#}");
}
