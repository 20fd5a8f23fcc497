//! Looking at a run when more has happened since: later plans, undo, other workers, erasures, and v1 writing where the run had nothing to do.

use std::collections::BTreeSet;

use ledger_sim::google_oauth::Scope;
use ledger_sim::supabase::Cell;
use ledger_sim::world::Disposition;
use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::credentials::{file, with_grants};
use crate::migration::{APPROVER, MAKER, Migration, Plan, RUNNER, Running, now, total};
use crate::restore::CHANGED;
use crate::world::output;

/// Only ordinary users, each of whom can be reached.
fn plain(seed: u64) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(seed).users(6).events_per_user(8)
    }
}

impl Migration {
    /// What looking at a run gives, and the ids of what is not as the ledger says.
    fn seen(&self, run: &str) -> (Value, BTreeSet<String>) {
        let report = self.observe(run, APPROVER).json();
        let lists = ["survivors", "unexplained", "late_writes"];
        let items = lists.map(|list| report[list].as_array().unwrap().clone());
        let ids = items.concat();
        let ids = ids
            .iter()
            .map(|item| item["item"].as_str().unwrap().to_owned());
        let ids = ids.collect();
        (report, ids)
    }

    /// Whatever a plan made of it, this item is deleted under a plan of its own; the run that did.
    fn deleted_by_decision(&self, event: &str) -> String {
        let plan = Plan::of(&self.dry_run());
        let decided = if plan.deletes.iter().any(|key| key.1 == event) {
            plan.hash
        } else {
            let decide = ["review", "decide", event, "delete", "--reason", "case 12"];
            let made = self
                .world
                .ledger([&decide[..], &["--json", "--as", RUNNER]].concat());
            made.ok().json()["plan"].as_str().unwrap().to_owned()
        };
        self.approve(&decided);
        let run = output(&mut self.live_command(&decided)).json();
        run["run"].as_str().unwrap().to_owned()
    }
}

fn v1_event(migration: &Migration, plan: &Plan) -> Value {
    let initial = migration.sim.initial_state();
    let mut events = plan.deletes.iter().map(|key| &initial[&key.0][&key.1]);
    let event = events.find(|was| {
        let text = was["description"].as_str().unwrap_or_default();
        let titled = was["summary"]
            .as_str()
            .is_some_and(|title| title.contains(": "));
        text.contains("Case: ") && titled
    });
    let mut event = event.unwrap().clone();
    let fields = event.as_object_mut().unwrap();
    fields.retain(|name, _| {
        !["id", "etag", "created", "updated", "iCalUID"].contains(&name.as_str())
    });
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_later_plans_and_their_undo_did_is_explained() {
    let migration = Migration::start(plain(101)).await;
    let (plan, run) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    migration.restore(&["--event", &key.1]).ok();
    let second = migration.deleted_by_decision(&key.1);
    assert!(migration.sim.deleted().contains(key));
    for of in [&run, &second] {
        let (report, differ) = migration.seen(of);
        assert!(differ.is_empty(), "{report:#}");
    }
    migration.restore(&["--event", &key.1]).ok();
    assert!(!migration.sim.deleted().contains(key));
    for of in [&run, &second] {
        let (report, differ) = migration.seen(of);
        assert!(differ.is_empty(), "{report:#}");
        assert_eq!(report["status"], "as_recorded", "{report:#}");
    }
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_undo_does_while_it_is_looked_is_no_difference() {
    let migration = Migration::start(plain(102)).await;
    let (plan, run) = migration.cleaned_up();
    let key = plan.deletes.first().unwrap();
    let fault = Fault::once(
        Call::EventsList,
        FaultKind::Hold {
            at: HoldPoint::Before,
        },
    );
    let fault = fault.for_account(&key.0).when(Occurrence::Nth(1));
    let hold = migration.sim.hold_where(fault);
    let looking = Running::start(&mut migration.observe_command(&run, APPROVER));
    hold.reached().await;
    migration.restore(&["--event", &key.1]).ok();
    hold.release();
    let seen = looking.output().await;
    assert_eq!(seen.exit, 3, "{}{}", seen.stdout, seen.stderr);
    assert_eq!(total(&seen.json(), "moved"), 1, "{}", seen.stdout);
    assert_eq!(migration.log(&["item.observed"]), Vec::<Value>::new());
    let (report, differ) = migration.seen(&run);
    assert!(differ.is_empty(), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_v1_writes_between_plan_and_run_or_where_the_plan_has_nothing_is_seen() {
    let mut world = plain(103).as_of(now()).generate();
    let empty = world.calendars.last_mut().unwrap();
    empty.events.clear();
    let empty = empty.id.clone();
    let migration = Migration::of(world).await;
    let plan = migration.approved_plan();
    let event = v1_event(&migration, &plan);
    let place = &plan.deletes.first().unwrap().0;
    assert!(migration.sim.add_event(place, "betweenplanandrun1", &event));
    let report = migration.live_run(&plan.hash).json();
    let run = report["run"].as_str().unwrap();
    assert!(migration.sim.add_event(&empty, "wherenothingwas1", &event));
    let (report, differ) = migration.seen(run);
    let wanted = ["betweenplanandrun1", "wherenothingwas1"];
    assert_eq!(differ, wanted.map(str::to_owned).into(), "{report:#}");
    assert_eq!(total(&report, "late_writes"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_v2_adopted_is_expected_as_it_was_planned() {
    let migration = Migration::start_live(plain(104)).await;
    let plan = migration.approved_plan();
    let key = plan.deletes.first().unwrap();
    let cases = &migration.sim.world().v2.production.tables["cases"];
    let case = cases.iter().find_map(|case| case["legacyId"].as_str());
    assert!(migration.sim.record_in_v2(case.unwrap(), "rfi_due", &key.1));
    let report = migration.live_run(&plan.hash).json();
    assert_eq!(total(&report, "held"), 1, "{report:#}");
    let run = report["run"].as_str().unwrap();
    let (report, differ) = migration.seen(run);
    assert!(differ.is_empty(), "{report:#}");
    let moved = json!({"location": "elsewhere"});
    assert!(migration.sim.edit_event(&key.0, &key.1, &moved));
    let (report, differ) = migration.seen(run);
    assert_eq!(differ, BTreeSet::from([key.1.clone()]), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_went_on_with_a_run_is_not_independent_of_it() {
    let (world, lines) = with_grants(plain(105).as_of(now()).generate(), Scope::EventsReadonly);
    let migration = Migration::of(world).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 3, HoldPoint::Before);
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    running.kill();
    hold.release();
    let mut command = migration.cleanup(MAKER, &["--plan", &plan.hash]);
    let report = output(command.args(migration.told())).ok().json();
    let run = report["run"].as_str().unwrap();
    let own = file(&migration, "own", &lines, 0o600);
    for (person, grade) in [
        (MAKER, "observed"),
        (RUNNER, "observed"),
        (APPROVER, "independent"),
    ] {
        let mut command = migration.observe_command(run, person);
        let seen = output(command.arg("--credentials").arg(&own)).ok().json();
        assert_eq!(seen["grade"], grade, "{person}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_account_keeps_nobody_from_looking_at_the_rest() {
    let migration = Migration::start(plain(106)).await;
    let (plan, run) = migration.cleaned_up();
    let world = &migration.world;
    let (gone, survivor) = (plan.deletes.first().unwrap(), plan.deletes.last().unwrap());
    assert_ne!(gone.0, survivor.0);
    let natural = format!("calendar-account:{}", gone.0);
    let why = [
        "--reason",
        "request 17",
        "--legal-basis",
        "GDPR Art. 17(1)(b)",
        "--json",
    ];
    let ask = [&["erase", &natural, "--as", MAKER], &why[..]].concat();
    let asked = world.ledger(ask).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in [APPROVER, RUNNER] {
        world.ledger(["approve", hash, "--as", person]).ok();
    }
    let owner = asked["owner"].as_str().unwrap();
    world.ledger(["erase", owner, "--as", MAKER]).ok();
    let seen = migration.observe(&run, APPROVER);
    assert_eq!(seen.exit, 3, "{}{}", seen.stdout, seen.stderr);
    assert!(total(&seen.json(), "erased") > 0, "{}", seen.stdout);
    assert!(total(&seen.json(), "explained") > 0, "{}", seen.stdout);
    let confirmed = json!({"status": "confirmed"});
    assert!(
        migration
            .sim
            .edit_event(&survivor.0, &survivor.1, &confirmed)
    );
    let (report, differ) = migration.seen(&run);
    assert_eq!(differ, BTreeSet::from([survivor.1.clone()]), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calendar_that_the_cleanup_emptied_is_found_by_its_own_id() {
    let mut world = plain(107).as_of(now()).generate();
    let deletes: BTreeSet<EventKey> = world
        .truth
        .iter()
        .filter(|truth| truth.disposition == Disposition::Delete)
        .map(|truth| (truth.calendar.clone(), truth.event_id.clone()))
        .collect();
    let account = deletes.first().unwrap().0.clone();
    let calendar = world.calendars.iter_mut().find(|one| one.id == account);
    calendar.unwrap().events.retain(|event| {
        let id = event.fields["id"].as_str().unwrap().to_owned();
        deletes.contains(&(account.clone(), id))
    });
    let migration = Migration::of(world).await;
    // Its title is no address, and v1 has an old one.
    assert!(migration.sim.rename_calendar(&account, "Work"));
    migration.sim.with_database(|database| {
        let table = database.table_mut("perm_users").unwrap();
        let column = table.position("google_email").unwrap();
        for row in table.rows_mut() {
            if row[column] == Cell::Text(account.clone()) {
                row[column] = Cell::Text("old.name@example.com".to_owned());
            }
        }
    });
    let (plan, run) = migration.cleaned_up();
    assert!(plan.deletes.iter().any(|key| key.0 == account));
    assert!(migration.sim.final_state()[&account].is_empty());
    migration.observe(&run, APPROVER).ok();
    migration.restore(&["--run", &run]).ok();
    migration.assert_as_before(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_calendar_whose_row_v1_has_no_more_is_found_by_its_own_id() {
    let spec = WorldSpec {
        channels: true,
        ..WorldSpec::seeded(87)
    };
    let migration = Migration::start(spec).await;
    let (plan, run) = migration.cleaned_up();
    let is_second = |key: &&EventKey| key.0.ends_with("@group.example.com");
    assert!(plan.deletes.iter().any(|key| is_second(&key)));
    migration.sim.with_database(|database| {
        let table = database.table_mut("calendar_sync_channels").unwrap();
        let column = table.position("calendar_id").unwrap();
        for row in table.rows_mut() {
            row[column] = Cell::Text("primary".to_owned());
        }
    });
    migration.restore(&["--run", &run]).ok();
    migration.assert_as_before(&plan.deletes);
    let (report, differ) = migration.seen(&run);
    assert!(differ.is_empty(), "{report:#}");
}

/// What the simulated calendar keeps of an event, and v1 never wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_comes_back_by_both_ways() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let held: Vec<EventKey> = migration
        .sim
        .truth()
        .iter()
        .filter(|truth| truth.class == ledger_sim::Class::Edited)
        .map(|truth| (truth.calendar.clone(), truth.event_id.clone()))
        .take(2)
        .collect();
    let [first, second] = held.as_slice() else {
        panic!("two edited events: {held:?}");
    };
    let fields = json!({
        "colorId": "11", "location": "Room 5", "status": "tentative", "visibility": "private", "transparency": "transparent",
        "reminders": {"useDefault": false, "overrides": [{"method": "popup", "minutes": 30}]},
        "extendedProperties": {"private": {"a": "b"}, "shared": {"c": "d"}},
        "source": {"url": "https://example.com/case", "title": "Case"},
    });
    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    for key in [first, second] {
        assert!(migration.sim.edit_event(&key.0, &key.1, &fields));
    }
    let before = migration.sim.final_state();
    for key in [first, second] {
        migration.deleted_by_decision(&key.1);
        assert!(migration.sim.deleted().contains(key), "{key:?}");
    }
    assert!(migration.sim.purge_event(&second.0, &second.1));
    for key in [first, second] {
        migration.restore(&["--event", &key.1]).ok();
    }
    let (mapping, now) = (migration.mapping(), migration.sim.final_state());
    for key in [first, second] {
        let (was, is) = (&before[&key.0][&key.1], &now[&key.0][&mapping[key]]);
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(is[name], *value, "{name}");
        }
        if key == first {
            for (name, value) in was.as_object().unwrap() {
                assert!(
                    is[name] == *value || CHANGED.contains(&name.as_str()),
                    "{name}"
                );
            }
        }
    }
    for write in migration.sim.calendar_writes() {
        if matches!(write.call, Some(Call::EventsPatch | Call::EventsInsert)) {
            assert!(write.query.contains("sendUpdates=none"), "{write:?}");
        }
    }
}
