//! What we deleted stays in every answer: when a second plan names it too, when a dry run had looked before, when somebody takes it out of the
//! trash, and when it comes back under another id.

use ledger_sim::{Call, EventKey, HoldPoint, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{APPROVER, Migration, Plan, RUNNER, Running, total};
use crate::world::Output;

fn by(migration: &Migration, person: &str, arguments: &[&str]) -> Output {
    migration
        .world
        .ledger([&["--as", person], arguments].concat())
}

/// The items of the calendar by state.
fn sum(migration: &Migration) -> Value {
    migration.loss()["scopes"]["calendar"]["sum"].clone()
}

fn explained(migration: &Migration, event: &str) -> String {
    let answer = by(migration, RUNNER, &["review", "explain", event]);
    answer.ok().stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_plan_of_the_same_items_hides_no_deletion() {
    let migration = Migration::start(WorldSpec::seeded(101)).await;
    let first = migration.approved_plan();
    let second = migration.approved_plan();
    assert_ne!(first.hash, second.hash);
    let run = |plan: &Plan| {
        let report = migration.live_run(&plan.hash).ok().json();
        report["run"].as_str().unwrap().to_owned()
    };
    let (one, other) = (run(&first), run(&second));
    migration.sim.assert_only_deleted(&first.deletes);
    let count = first.deletes.len() as u64;
    assert_eq!(sum(&migration)["deleted"], count);
    let event = &first.deletes.first().unwrap().1;
    let text = explained(&migration, event);
    assert!(text.contains("It was deleted, as approved: "), "{text}");
    let possible = |arguments: &[&str]| {
        let all = [arguments, &["--dry-run"]].concat();
        total(&migration.restore(&all).ok().json(), "possible")
    };
    for meant in [["--run", &one], ["--plan", &first.hash]] {
        assert_eq!(possible(&meant), count, "{meant:?}");
    }
    assert_eq!(possible(&["--event", event]), 1);
    // The second run found that nothing was left to be done.
    let none = migration.restore(&["--run", &other, "--dry-run"]);
    assert_eq!(none.exit, 1, "{none:?}");
    assert!(migration.attempts().values().all(|at| at.len() == 1));
    migration.restore(&["--run", &one]).ok();
    migration.assert_as_before(&first.deletes);
    assert_eq!(sum(&migration)["restored"], count);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_that_was_under_way_undoes_no_deletion() {
    let migration = Migration::start(WorldSpec::seeded(102)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsList, 12, HoldPoint::Before);
    let mut dry_run = migration.dry_command();
    let dry_run = Running::start(dry_run.env("LEDGER_REQUEST_LIMIT_MS", "120000"));
    hold.reached().await;
    migration.live_run(&plan.hash).ok();
    hold.release();
    let later = Plan::of(&dry_run.output().await.ok().json());
    let both = later.deletes.intersection(&plan.deletes).count();
    assert!(both > 0, "some were read before they were deleted");
    let count = plan.deletes.len() as u64;
    let now = sum(&migration);
    assert_eq!(now["deleted"], count, "{now}");
    assert_eq!((now.get("planned"), now.get("unaccounted")), (None, None));
    // The later plan finds them gone when it is executed, and nothing changes by that.
    migration.approve(&later.hash);
    migration.live_run(&later.hash).ok();
    assert_eq!(sum(&migration)["deleted"], count);
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_took_out_of_the_trash_is_there_again_until_it_goes_by_a_new_plan() {
    let migration = Migration::start(WorldSpec::seeded(103)).await;
    let (plan, run) = migration.cleaned_up();
    let count = plan.deletes.len() as u64;
    let survivor: &EventKey = plan.deletes.first().unwrap();
    let confirmed = json!({"status": "confirmed"});
    let sim = &migration.sim;
    assert!(sim.edit_event(&survivor.0, &survivor.1, &confirmed));
    let sign_off = |person: &str| by(&migration, person, &["review", "sign-off", &run]).ok();
    let before = sign_off(APPROVER).stdout;
    assert!(!before.contains("NOT WELL"), "{before}");

    let later = migration.dry_run();
    let now = sum(&migration);
    assert_eq!(
        (&now["deleted"], &now["unaccounted"]),
        (&json!(count - 1), &json!(1))
    );
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "unknown", "{loss}");
    let text = explained(&migration, &survivor.1);
    assert!(
        text.contains("It was deleted by us, and is there again"),
        "{text}"
    );
    let report = by(&migration, RUNNER, &["report", "deletions", "--json"])
        .ok()
        .json();
    assert_eq!(total(&report, "unknown"), 1);
    assert_eq!(total(&report, "deleted"), count - 1);
    // A spot check says no, whether or not it looks.
    let all = ["review", "sample", "--seed", "x", "--users", "99"];
    let sample = by(&migration, RUNNER, &[&all[..], &["--log-only"]].concat());
    assert_eq!(sample.exit, 1, "{}", sample.stdout);
    assert!(sample.stdout.contains("THERE AGAIN"), "{}", sample.stdout);
    // Who signs is told first.
    let signed = sign_off(APPROVER).stdout;
    assert!(
        signed.starts_with("NOT WELL: 1 of its items are not accounted for"),
        "{signed}"
    );
    let signed = by(
        &migration,
        APPROVER,
        &["review", "sign-off", &run, "--json"],
    )
    .ok()
    .json();
    assert_eq!(signed["not_well"].as_array().unwrap().len(), 1, "{signed}");

    // The plan that found it so deletes it, if it is to; else a person decides about what it holds.
    let mut later = Plan::of(&later);
    if !later.deletes.contains(survivor) {
        let decide = [
            "review",
            "decide",
            &survivor.1,
            "delete",
            "--reason",
            "case 12",
            "--json",
        ];
        let decided = by(&migration, RUNNER, &decide).ok().json();
        later.hash = decided["plan"].as_str().unwrap().to_owned();
    }
    migration.approve(&later.hash);
    migration.live_run(&later.hash).ok();
    let now = sum(&migration);
    assert_eq!(
        (now["deleted"].as_u64(), now.get("unaccounted")),
        (Some(count), None)
    );
    let preview = ["--event", &survivor.1, "--dry-run"];
    assert_eq!(
        total(&migration.restore(&preview).ok().json(), "possible"),
        1
    );
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_made_anew_is_the_same_item() {
    let migration = Migration::start(WorldSpec::seeded(104)).await;
    let (plan, _) = migration.cleaned_up();
    for key in &plan.deletes {
        assert!(migration.sim.purge_event(&key.0, &key.1));
    }
    migration.restore(&["--plan", &plan.hash]).ok();
    let sealed = |loss: &Value| loss["scopes"]["calendar"]["sealed"].clone();
    let before = sealed(&migration.loss());
    let later = migration.dry_run();
    let loss = migration.loss();
    assert_eq!(sealed(&loss), before, "{loss}");
    assert_eq!(
        loss["scopes"]["calendar"]["sum"].get("changed_since"),
        None,
        "{loss}"
    );
    // v1 had never recorded the new ids, so they are for a person to decide about.
    let mapping = migration.mapping();
    let items = later["items"].as_array().unwrap();
    let is_held = |new: &String| {
        let mut items = items.iter();
        items.any(|item| item["event_id"] == new.as_str() && item["disposition"] == "hold")
    };
    let (key, new) = mapping
        .iter()
        .find(|(_, new)| is_held(new))
        .expect("v1's text leads to some of them");
    let answer = |name: &str| {
        let all = ["review", "explain", name, "--json"];
        by(&migration, RUNNER, &all).ok().json()
    };
    assert_eq!(answer(new), answer(&key.1));
    assert_eq!(answer(new)["event_id"], new.as_str());
    let back = migration
        .restore(&["--event", new, "--dry-run"])
        .ok()
        .json();
    assert_eq!(total(&back, "back_before"), 1, "{back:#}");

    // Deleted again it is one deletion, which its old id leads to as well.
    let decide = [
        "review", "decide", new, "delete", "--reason", "case 12", "--json",
    ];
    let decided = by(&migration, RUNNER, &decide).ok().json();
    let plan = decided["plan"].as_str().unwrap();
    migration.approve(plan);
    migration.live_run(plan).ok();
    assert_eq!(sum(&migration)["deleted"], 1);
    for name in [new, &key.1] {
        let preview = migration.restore(&["--event", name, "--dry-run"]);
        assert_eq!(total(&preview.ok().json(), "possible"), 1, "{name}");
    }
    assert_eq!(sealed(&migration.loss()), before);
    migration.world.assert_intact();
}
