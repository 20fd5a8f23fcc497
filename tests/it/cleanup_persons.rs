//! Who makes a plan, runs it and helps, and when: persons of the ledger, nobody twice, and not before its time.

use std::collections::BTreeSet;

use chrono::Duration;
use cleanup_worker::engine::limits::Limits;
use ledger::store::commands::NewRun;
use ledger_sim::{Call, EventKey, HoldPoint, WorldSpec};
use serde_json::json;

use crate::migration::{APPROVER, MAKER, Migration, Plan, RUNNER, Running, now, total};
use crate::world::{Output, output};

fn plain(seed: u64, users: usize) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(seed).users(users).events_per_user(6)
    }
}

/// Fails unless it was refused with these words, and no run began and nothing was changed.
#[track_caller]
fn assert_refused(migration: &Migration, refused: &Output, words: &[&str]) {
    assert!([1, 2].contains(&refused.exit), "{refused:?}");
    for words in words {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
    }
    let begun = migration.log(&["run.started"]);
    let mut begun = begun.iter().map(|line| &line["payload"]["verb"]);
    assert!(begun.all(|verb| verb == "dry_run"), "{refused:?}");
    migration.sim.assert_only_reads();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_going_live_is_that_of_the_plan() {
    let migration = Migration::start(plain(71, 4)).await;
    let told = migration.told();
    let exports = &told[2..];
    let an_hour_ago = (now() - Duration::hours(1)).to_rfc3339();
    let mut dry = migration.cleanup(MAKER, &["--dry-run", "--go-live", &an_hour_ago]);
    let plan = Plan::of(&output(dry.args(exports)).ok().json());
    migration.approve(&plan.hash);
    let run = |arguments: &[&str]| {
        let arguments = [&["--plan", plan.hash.as_str()], arguments].concat();
        output(migration.cleanup(RUNNER, &arguments).args(exports))
    };
    let early = "it is before go-live + 24 h";
    let long_ago = "2020-01-01T00:00:00Z";
    let half_an_hour_ago = (now() - Duration::minutes(30)).to_rfc3339();
    assert_refused(&migration, &run(&["--go-live", &an_hour_ago]), &[early]);
    let later = run(&["--go-live", &half_an_hour_ago]);
    assert_refused(&migration, &later, &[early]);
    let earlier = run(&["--go-live", long_ago]);
    let words = [
        "the plan was made with --go-live",
        "2020-01-01",
        "--override",
    ];
    assert_refused(&migration, &earlier, &words);
    assert_refused(&migration, &run(&[]), &[early]);
    // Nor does anybody help with a run that another build began by what it was told.
    let store = migration.world.store().await;
    let run_of_another = NewRun {
        run: store.clock().run_id(),
        plan: plan.hash.parse().unwrap(),
        told: json!({"limits": Limits::default(), "go_live": long_ago}).to_string(),
        interval: std::time::Duration::ZERO,
        first_only: None,
        stopped: None,
    };
    store.open_run(&run_of_another, &[]).await.unwrap();
    let refused = output(&mut migration.worker_command("two"));
    let words = ["is earlier", "gave no reason (--override)"];
    assert_refused(&migration, &refused, &words);
    store.close_run(run_of_another.run).await.unwrap();
    store.close().await;
    // With a reason, which is recorded; who helps sees it there.
    let hold = migration.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let overridden = ["--plan", &plan.hash, "--override", "agreed with support"];
    let mut command = migration.cleanup(RUNNER, &overridden);
    let running = Running::start(command.args(exports).args(["--users-at-once", "1"]));
    hold.reached().await;
    let second = Running::start(&mut migration.worker_command("two"));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    hold.release();
    let report = running.output().await.ok().json();
    second.output().await.ok();
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    let gone: BTreeSet<EventKey> = migration.sim.deleted().into_iter().collect();
    assert_eq!(gone, plan.deletes);
    assert_eq!(migration.log(&["gate.overridden"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_approves_under_one_name_what_he_makes_or_runs_under_another() {
    let migration = Migration::start(plain(73, 4)).await;
    let told = migration.told();
    let dry = |who: &str| output(migration.cleanup(who, &["--dry-run"]).args(&told));
    // Who is not known to the ledger is told so.
    let stranger = dry("ghost");
    let unknown = "person:ghost is not among the persons of this ledger";
    assert!(stranger.stderr.contains(unknown), "{}", stranger.stderr);
    let made = Plan::of(&dry("worker:approver").ok().json());
    let refused = migration
        .world
        .ledger(["approve", &made.hash, "--as", APPROVER]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    let plan = Plan::of(&dry(MAKER).ok().json());
    migration.approve(&plan.hash);
    let run = |who: &str| {
        let mut command = migration.cleanup(who, &["--plan", &plan.hash, "--canary", "1"]);
        output(command.args(&told))
    };
    for other in [APPROVER, "worker:approver"] {
        assert_refused(&migration, &run(other), &["four eyes"]);
    }
    assert_eq!(run(RUNNER).json()["status"], "canary");
    let release = |who: &str| {
        let arguments = ["approve", &plan.hash, "--canary", "--as", who];
        migration.world.ledger(arguments)
    };
    for other in ["ghost", "worker:approver", "worker:runner", RUNNER] {
        let refused = release(other);
        assert!([1, 2].contains(&refused.exit), "{other}: {refused:?}");
    }
    release(APPROVER).ok();

    // Nobody helps under the name of who approved.
    let hold = migration.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    let help = |who: &str| {
        let worker = ["worker", "calendar", "--json", "--until-idle", "--as", who];
        output(&mut migration.with_services(&worker))
    };
    let approver = help("worker:approver");
    assert_eq!(approver.exit, 1, "{approver:?}");
    assert!(approver.stderr.contains("four eyes"), "{approver:?}");
    hold.release();
    running.output().await.ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.world.assert_intact();
}
