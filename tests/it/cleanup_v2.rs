//! v2 read from its deployments: what it records protects, also what it takes over after the plan was made.

use std::time::Duration;

use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, Running, total};
use crate::world::output;

fn plain(users: usize) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(31)
    }
    .users(users)
    .events_per_user(16)
}

/// v1's id of a case that v2 has.
fn a_case(migration: &Migration) -> String {
    let cases = &migration.sim.world().v2.production.tables["cases"];
    let legacy = cases.iter().find_map(|case| case["legacyId"].as_str());
    legacy.unwrap().to_owned()
}

fn etag(migration: &Migration, key: &EventKey) -> Value {
    migration.sim.final_state()[&key.0][&key.1]["etag"].clone()
}

/// The reasons for which items were held at the moment of deletion, by event id.
fn held(migration: &Migration) -> Vec<(String, String)> {
    let found = migration.log(&["item.found"]);
    let held = migration.log(&["item.held"]);
    let reasons = held.iter().map(|line| {
        let subject = &line["entry"]["subject"];
        let item = found
            .iter()
            .find(|line| line["entry"]["subject"] == *subject);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let cause = text(&line["payload"]["cause"]);
        (text(&item.unwrap()["payload"]["item"]), cause)
    });
    reasons.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v2_is_read_live_and_says_what_its_exports_say() {
    let mut migration = Migration::start_live(WorldSpec::seeded(1)).await;
    let live = migration.dry_run();
    let read = live["totals"]["v2"].as_array().unwrap();
    let kinds: Vec<_> = read
        .iter()
        .map(|it| (&it["deployment"], &it["live"]))
        .collect();
    assert_eq!(
        kinds,
        [
            (&json!("production"), &json!(true)),
            (&json!("development"), &json!(true))
        ]
    );
    migration.sim.assert_only_reads();
    migration.live = false;
    let filed = migration.dry_run();
    assert_eq!(live["items"], filed["items"]);
    assert_eq!(live["totals"]["classes"], filed["totals"]["classes"]);
    let sealed = migration.log(&["plan.sealed"]);
    let header = &sealed[0]["payload"]["header"];
    assert_eq!(header["v2_export_0_deployment"], "production");
    assert_eq!(header["v2_export_1_deployment"], "development");
    assert_eq!(header["calibrated"], "true");
    assert!(header["calibration"].as_str().unwrap().contains(" of "));
    // Where the plan has no streaming, an export is asked for.
    migration.live = true;
    migration.sim.set_streaming_export(false);
    let exported = migration.dry_run();
    assert_eq!(live["items"], exported["items"]);
    let calls = migration.sim.journal();
    let asked = calls
        .iter()
        .filter(|it| it.call == Some(Call::ConvexExportRequest));
    assert_eq!(asked.count(), 2, "production and development");
    migration.sim.assert_only_reads();
    // Evidence says which deployment records an id, and both protect.
    let mut said = std::collections::BTreeSet::new();
    for line in migration.log(&["item.found"]) {
        let evidence = &line["payload"]["evidence"]["v2_recorded"];
        if evidence["holds"] == true {
            said.insert(evidence["detail"].as_str().unwrap().to_owned());
            assert_ne!(line["payload"]["disposition"], "delete");
        }
    }
    assert!(
        said.contains("production") && said.contains("development"),
        "{said:?}"
    );
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_v2_adopts_between_plan_and_run_or_during_it_is_held() {
    let migration = Migration::start_live(plain(4)).await;
    let plan = migration.approved_plan();
    let accounts: Vec<&String> = plan.deletes.iter().map(|key| &key.0).collect();
    let first = plan.deletes.first().unwrap().clone();
    let last = plan.deletes.last().unwrap().clone();
    assert_ne!(first.0, last.0, "{accounts:?}");
    let case = a_case(&migration);
    let versions = [etag(&migration, &first), etag(&migration, &last)];
    // Before the run.
    assert!(migration.sim.record_in_v2(&case, "rfi_due", &first.1));
    // And after v2 was read, before the last user's first deletion.
    let fault = Fault::once(
        Call::EventsList,
        FaultKind::Hold {
            at: HoldPoint::After,
        },
    );
    let hold = migration.sim.hold_where(fault.for_account(&last.0));
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    assert!(migration.sim.record_in_v2(&case, "rfe_due", &last.1));
    hold.release();
    let run = running.output().await;
    assert_eq!(run.exit, 1, "held items are not done: {}", run.stderr);
    let report = run.json();
    assert_eq!(total(&report, "held"), 2, "{report:#}");
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64 - 2);
    let mut kept = plan.deletes.clone();
    for (key, version) in [(&first, &versions[0]), (&last, &versions[1])] {
        kept.remove(key);
        assert_eq!(etag(&migration, key), *version, "adoption changes no etag");
    }
    migration.sim.assert_only_deleted(&kept);
    let mut expected = vec![
        (first.1.clone(), "adopted".to_owned()),
        (last.1.clone(), "adopted".to_owned()),
    ];
    let mut reasons = held(&migration);
    reasons.sort();
    expected.sort();
    assert_eq!(reasons, expected);
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_v2_adopts_while_the_event_itself_is_read_is_held() {
    let migration = Migration::start_live(plain(2)).await;
    let plan = migration.approved_plan();
    let key = plan.deletes.last().unwrap().clone();
    let version = etag(&migration, &key);
    let at = HoldPoint::After;
    let reading = Fault::once(Call::EventsGet, FaultKind::Hold { at });
    let hold = migration.sim.hold_where(reading.for_event(&key.1));
    let mut command = migration.live_command(&plan.hash);
    let running = Running::start(command.args(["--v2-max-age", "1500ms"]));
    hold.reached().await;
    let case = a_case(&migration);
    assert!(migration.sim.record_in_v2(&case, "rfi_due", &key.1));
    // So long that v2 is looked at once more before anything is written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hold.release();
    let run = running.output().await;
    assert_eq!(run.exit, 1, "held items are not done: {}", run.stderr);
    let report = run.json();
    assert_eq!(total(&report, "held"), 1, "{report:#}");
    assert_eq!(etag(&migration, &key), version);
    assert_eq!(held(&migration), [(key.1.clone(), "adopted".to_owned())]);
    let mut others = plan.deletes.clone();
    others.remove(&key);
    migration.sim.assert_only_deleted(&others);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_v2_is_read_again_before_it_is_too_old() {
    // In each way: changes since are listed, or another export is asked for.
    for streams in [true, false] {
        let migration = Migration::start_live(plain(2)).await;
        migration.sim.set_streaming_export(streams);
        let plan = migration.approved_plan();
        // Each look at an event takes long enough for what is known to get too old several times.
        let stall = FaultKind::Stall { millis: Some(400) };
        let slow = Fault::once(Call::EventsGet, stall).when(Occurrence::Always);
        migration.sim.add_fault(slow);
        let mut command = migration.live_command(&plan.hash);
        let report = output(command.args(["--v2-max-age", "1500ms"])).ok().json();
        assert_eq!(
            total(&report, "deleted"),
            plan.deletes.len() as u64,
            "{report:#}"
        );
        migration.sim.assert_only_deleted(&plan.deletes);
        let calls: Vec<_> = migration
            .sim
            .journal()
            .iter()
            .filter_map(|it| it.call)
            .collect();
        let count = |call| calls.iter().filter(|it| **it == call).count();
        if streams {
            assert!(count(Call::ConvexDeltas) > 4, "{calls:?}");
        } else {
            assert!(count(Call::ConvexExportRequest) > 4, "{calls:?}");
        }
        migration.assert_ledger_accounts_for_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_v2_does_not_answer_any_more_the_run_stops_before_what_is_known_is_too_old() {
    let migration = Migration::start_live(plain(2)).await;
    let plan = migration.approved_plan();
    // Of two faults at one request the one that was set first counts.
    let hold = migration.sim.hold(Call::EventsGet, 1, HoldPoint::Before);
    let stall = FaultKind::Stall { millis: Some(400) };
    let slow = Fault::once(Call::EventsGet, stall).when(Occurrence::Always);
    migration.sim.add_fault(slow);
    let mut command = migration.live_command(&plan.hash);
    let running = Running::start(command.args(["--v2-max-age", "1500ms"]));
    hold.reached().await;
    for call in [Call::ConvexDeltas, Call::ConvexSchemas] {
        let refused = Fault::once(call, FaultKind::status(401));
        migration.sim.add_fault(refused.when(Occurrence::Always));
    }
    hold.release();
    let run = running.output().await;
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["status"], "stopped", "{report:#}");
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("older than --v2-max-age"), "{note}");
    assert!(total(&report, "deleted") < plan.deletes.len() as u64);
    migration.assert_ledger_accounts_for_all();
    // The same plan goes on once it answers.
    migration.sim.clear_faults();
    let report = migration.live_run(&plan.hash).ok().json();
    assert_eq!(
        total(&report, "deleted"),
        plan.deletes.len() as u64,
        "{report:#}"
    );
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_of_v2_and_half_a_configuration_are_told() {
    let migration = Migration::start_live(plain(1)).await;
    let mut command = migration.dry_command();
    let wrong = output(command.env("CONVEX_DEPLOY_KEY", "prod:other|made-up"));
    assert_eq!(wrong.exit, 4, "{}", wrong.stderr);
    ledger_snapshot!(wrong, @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: read what v2 records
      caused by: read v2's production deployment
      caused by: convex.json_schemas failed at attempt 1 (auth, HTTP 401): BadAdminKey: the deploy key is not one of this deployment
    hint: check CONVEX_URL and CONVEX_DEPLOY_KEY (CONVEX_DEV_…), or give exports instead (--v2-export); nothing was deleted
    ");
    let mut command = migration.dry_command();
    let half = output(
        command
            .env_remove("CONVEX_DEPLOY_KEY")
            .env("CONVEX_DEV_URL", "nowhere"),
    );
    ledger_snapshot!(half, @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read the worker's environment: 2 variable(s) to set right
      CONVEX_DEPLOY_KEY: is not set (the deploy key of v2's production deployment)
      CONVEX_DEV_URL: is not a URL: relative URL without a base (v2's development deployment, https://<name>.convex.cloud)
    hint: set them as README shows; nothing was read or deleted
    ");
    assert_eq!(migration.log(&["plan.sealed"]).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v2s_development_alone_does_not_say_what_its_users_rely_on() {
    let migration = Migration::start(plain(2)).await;
    let dev = migration.exports.dev_zip.to_str().unwrap().to_owned();
    let told = [
        "--dry-run",
        "--go-live",
        &migration.go_live(),
        "--v2-dev-export",
        &dev,
    ];
    let report = output(&mut migration.cleanup("maker", &told)).ok().json();
    assert_eq!(report["totals"]["v2_known"], false);
    assert!(Plan::of(&report).deletes.is_empty());
    let plan = migration.approved_plan();
    // What the plan was made with, the run needs anew.
    let production = migration
        .exports
        .production_zip
        .to_str()
        .unwrap()
        .to_owned();
    let fresh = migration
        .sim
        .write_fresh_v2_exports(&migration.folder.path().join("two"))
        .unwrap();
    let again = fresh.production_zip.to_str().unwrap().to_owned();
    let arguments = [
        "--plan",
        &plan.hash,
        "--go-live",
        &migration.go_live(),
        "--v2-export",
        &production,
        "--v2-export",
        &again,
    ];
    let refused = output(&mut migration.cleanup("runner", &arguments));
    assert_eq!(refused.exit, 1);
    assert!(
        refused.stderr.contains("v2's development deployment"),
        "{}",
        refused.stderr
    );
    assert!(migration.sim.calendar_writes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_may_hold_what_is_uncovered_and_the_approval_tells_the_numbers() {
    let migration = Migration::start(plain(6)).await;
    let usual = migration.dry_run();
    let (covered, uncovered) = (total(&usual, "covered"), total(&usual, "uncovered"));
    assert!(covered > 0 && uncovered > 0, "{}", usual["totals"]);
    let plan = Plan::of(&usual);
    let approved = migration
        .world
        .ledger(["approve", &plan.hash, "--as", "approver"])
        .ok();
    let line = format!(
        "future deadlines to be deleted: {covered} covered by a live event of the new system, {uncovered} uncovered"
    );
    assert!(approved.stdout.contains(&line), "{}", approved.stdout);
    let shown = migration
        .world
        .ledger(["approve", &plan.hash, "--as", "approver", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&shown["covered"], &shown["uncovered"]),
        (&json!(covered), &json!(uncovered))
    );

    let policy = include_str!("../../schema/policies/perm-tracker-calendar.toml");
    let held = "\n[[class.override]]\nwhen = { all = [\"uncovered\"] }\nbecause = \"held, because no live event of v2 stands for this deadline\"\ndisposition = \"hold\"\n";
    let v1 = "name = \"V1_RECORDED\"";
    let at = policy.find(v1).unwrap();
    let end = at + policy[at..].find("\n\n").unwrap();
    let mut changed = format!("{}\n{held}{}", &policy[..end], &policy[end..]);
    // Overrides of one class count in order: an uncovered orphan is held before it is deleted, and after it is held as a late one.
    let calibrated = "[[class.override]]\nwhen = { all = [\"calibrated\"] }";
    let orphan = changed.find(calibrated).unwrap();
    changed.insert_str(orphan, &format!("{}\n", held.trim_start()));
    let path = migration.folder.path().join("policy.toml");
    std::fs::write(&path, changed).unwrap();
    let mut command = migration.dry_command();
    let strict = output(command.arg("--policy").arg(&path)).ok().json();
    assert_eq!(
        (total(&strict, "covered"), total(&strict, "uncovered")),
        (covered, 0)
    );
    let with = |report: &Value, disposition: &str| {
        let items = report["items"].as_array().unwrap().iter();
        items
            .filter(|item| item["disposition"] == disposition)
            .count() as u64
    };
    assert_eq!(with(&strict, "delete"), with(&usual, "delete") - uncovered);
    assert_eq!(with(&strict, "hold"), with(&usual, "hold") + uncovered);
    let items = strict["items"].as_array().unwrap().iter();
    let reasons = items.filter_map(|item| item["reason"].as_str());
    let reasons = reasons.filter(|reason| reason.contains("no live event of v2 stands"));
    assert_eq!(reasons.count() as u64, uncovered);
}
