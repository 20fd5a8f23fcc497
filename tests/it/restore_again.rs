//! Undo asked for once more: what it finds of what came back before, and what it does about that.

use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, Running, total};
use crate::world::output;

/// A run that was undone whole; of some events the ids are new.
async fn undone(seed: u64) -> (Migration, Plan, String, EventKey, EventKey) {
    let migration = Migration::start(WorldSpec::seeded(seed)).await;
    let (plan, run) = migration.cleaned_up();
    let mut keys = plan.deletes.iter().cloned();
    let (kept, anew) = (keys.next().unwrap(), keys.next_back().unwrap());
    assert!(migration.sim.purge_event(&anew.0, &anew.1));
    migration.restore(&["--run", &run]).ok();
    migration.assert_as_before(&plan.deletes);
    (migration, plan, run, kept, anew)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_deleted_after_it_was_put_back_is_put_back_again() {
    let (migration, plan, run, kept, anew) = undone(91).await;
    let new = migration.mapping()[&anew].clone();
    assert_ne!(new, anew.1);
    assert!(migration.sim.delete_event(&kept.0, &kept.1));
    assert!(migration.sim.delete_event(&anew.0, &new));
    let preview = migration.restore(&["--run", &run, "--dry-run"]).ok().json();
    assert_eq!(total(&preview, "possible"), 2, "{preview:#}");
    let report = migration.restore(&["--run", &run]).ok().json();
    assert_eq!(total(&report, "restored"), 2, "{report:#}");
    assert_eq!(total(&report, "back_before"), plan.deletes.len() as u64 - 2);
    migration.assert_as_before(&plan.deletes);
    assert_eq!(migration.mapping()[&anew], new, "made anew once only");
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    let sum = &loss["scopes"]["calendar"]["sum"];
    assert_eq!(sum["restored"], plan.deletes.len());
    // Once more: it is looked at, and nothing is changed or recorded.
    let head = migration.log(&[]).len();
    migration.restore(&["--run", &run]).ok();
    assert_eq!(migration.log(&[]).len(), head);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_read_back_is_looked_at_and_what_differs_stays_a_no() {
    let migration = Migration::start(WorldSpec::seeded(92)).await;
    let (plan, run) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    // The second question about it is what was put back.
    let fault = Fault::once(Call::EventsGet, FaultKind::reason(403, "forbidden"));
    let fault = fault.when(Occurrence::Nth(2)).for_event(&key.1);
    migration.sim.add_fault(fault);
    let first = migration.restore(&["--run", &run]);
    assert_eq!(first.exit, 1, "{}", first.stderr);
    assert_eq!(total(&first.json(), "not_read_back"), 1);
    let head = migration.log(&[]).len();
    let again = migration.restore(&["--run", &run]).ok().json();
    assert_eq!(total(&again, "not_read_back"), 0, "{again:#}");
    let moved = json!({"location": "elsewhere"});
    assert!(migration.sim.edit_event(&key.0, &key.1, &moved));
    for _ in 0..2 {
        let differs = migration.restore(&["--run", &run]);
        assert_eq!(differs.exit, 1, "{}", differs.stderr);
        let differs = differs.json();
        assert_eq!(
            (&differs["run"], &differs["status"]),
            (&json!(null), &json!("partial"))
        );
        assert_eq!(total(&differs, "differing"), 1, "{differs:#}");
    }
    // What could not be looked at is not said to be back.
    migration
        .sim
        .edit_event(&key.0, &key.1, &json!({"location": null}));
    migration.restore(&["--run", &run]).ok();
    migration.sim.revoke(&key.0);
    let unseen = migration.restore(&["--run", &run]);
    assert_eq!(unseen.exit, 1, "{}", unseen.stdout);
    assert_eq!(migration.log(&[]).len(), head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_when_the_place_is_looked_at_again_is_a_no() {
    let migration = Migration::start(WorldSpec::seeded(93)).await;
    let (plan, _) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    // First what stands for the same is asked for, then everything is listed.
    let hold = migration.sim.hold(Call::EventsList, 2, HoldPoint::Before);
    let running = Running::start(&mut migration.restore_command(&["--event", &key.1]));
    hold.reached().await;
    assert!(migration.sim.delete_event(&key.0, &key.1));
    hold.release();
    let restored = running.output().await;
    assert_eq!(restored.exit, 1, "{}{}", restored.stdout, restored.stderr);
    let report = restored.json();
    assert_eq!(report["status"], "partial", "{report:#}");
    assert_eq!(migration.log(&["item.observed"]).len(), 1);
    migration.restore(&["--event", &key.1]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_under_its_old_id_too_is_said_to_be_there_twice() {
    let migration = Migration::start(WorldSpec::seeded(94)).await;
    let (plan, run) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    let forbidden = FaultKind::reason(403, "forbidden");
    let fault = Fault::once(Call::EventsPatch, forbidden).when(Occurrence::Always);
    migration.sim.add_fault(fault.for_event(&key.1));
    // Its owner takes the old one out of the trash while the place is looked at again.
    let hold = migration.sim.hold(Call::EventsList, 2, HoldPoint::Before);
    let running = Running::start(&mut migration.restore_command(&["--event", &key.1]));
    hold.reached().await;
    let confirmed = json!({"status": "confirmed"});
    assert!(migration.sim.edit_event(&key.0, &key.1, &confirmed));
    hold.release();
    let restored = running.output().await;
    assert_eq!(restored.exit, 1, "{}{}", restored.stdout, restored.stderr);
    for _ in 0..2 {
        let again = migration.restore(&["--event", &key.1]);
        assert_eq!(again.exit, 1, "{}", again.stdout);
        assert!(again.stdout.contains("there twice"), "{}", again.stdout);
    }
    let seen = migration.observe(&run, crate::migration::APPROVER);
    assert_eq!(seen.exit, 1, "{}", seen.stdout);
    let survivors = seen.json()["survivors"].clone();
    assert_eq!(survivors[0]["item"], key.1, "{survivors:#}");
    assert!(migration.sim.delete_event(&key.0, &key.1));
    migration.restore(&["--event", &key.1]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spot_check_reads_what_came_back_under_the_id_that_it_has_now() {
    let migration = Migration::start(WorldSpec::seeded(95)).await;
    let (plan, _) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    assert!(migration.sim.purge_event(&key.0, &key.1));
    migration.restore(&["--event", &key.1]).ok();
    assert_ne!(migration.mapping()[key], key.1);
    let arguments = ["review", "sample", "--seed", "s", "--users", "99", "--json"];
    let mut sample = migration.world.command(arguments);
    let sample = output(sample.envs(migration.sim.env())).json();
    let all = |list: &str| -> Vec<Value> {
        let picked = sample["picked"].as_array().unwrap().iter();
        let lists = picked.map(|picked| picked[list].as_array().unwrap().clone());
        lists.flatten().collect()
    };
    let (items, looks) = (all("items"), all("looks"));
    let back = items.iter().find(|item| item["state"] == "restored");
    let back = &back.unwrap()["subject"];
    let look = looks.iter().find(|look| look["subject"] == *back).unwrap();
    let seen = (&look["expected"], &look["seen"]);
    assert_eq!(seen, (&json!("there"), &json!("there")), "{look}");
}
