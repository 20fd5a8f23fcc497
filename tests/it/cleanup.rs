//! The cleanup of v1's calendar events, whole: dry run, approval, live run, and what they leave.

use std::collections::BTreeMap;

use ledger::chain::plan::{PlanItem, plan_hash};
use ledger_sim::world::UserKind;
use ledger_sim::{Call, Class, Disposition, HoldPoint, Truth, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, Running, total, word};
use crate::world::output;

/// What must be said of each event, named as a dry run can name it: through its calendar, or through the user where that
/// cannot be looked at.
fn expected(migration: &Migration) -> BTreeMap<(String, String), &Truth> {
    let truths = migration
        .sim
        .truth()
        .iter()
        .filter(|truth| truth.is_candidate());
    truths
        .flat_map(|truth| {
            let places = match truth.class {
                Class::Unreachable => truth.users.clone(),
                _ => vec![truth.calendar.clone()],
            };
            places
                .into_iter()
                .map(move |place| ((place, truth.event_id.clone()), truth))
        })
        .collect()
}

fn assert_items_are_true(migration: &Migration, report: &Value) {
    let mut expected = expected(migration);
    for item in report["items"].as_array().unwrap() {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let place = item["calendar"]
            .as_str()
            .unwrap_or(item["user"].as_str().unwrap());
        let truth = expected
            .remove(&(place.to_owned(), text("event_id")))
            .unwrap_or_else(|| panic!("no candidate, or twice: {item}"));
        let right = (word(&truth.class), word(&truth.disposition));
        assert_eq!(
            (text("class"), text("disposition")),
            right,
            "{item}\n{truth:#?}"
        );
        if truth.disposition == Disposition::Delete && item.get("covered").is_some() {
            assert_eq!(item["covered"], truth.covered, "{item}");
        }
    }
    // Where v2 has lost the id of an event in a calendar that nobody can look at, nothing can know of it.
    expected.retain(|_, truth| truth.class != Class::Unreachable || truth.v1_made);
    assert!(expected.is_empty(), "missed: {expected:#?}");
}

fn assert_totals_add_up(report: &Value) {
    let items = report["items"].as_array().unwrap();
    for (by, name) in [("class", "classes"), ("disposition", "dispositions")] {
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for item in items {
            *counted.entry(item[by].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(json!(counted), report["totals"][name]);
    }
    assert_eq!(total(report, "items"), items.len() as u64);
    let users = report["users"].as_array().unwrap();
    assert_eq!(total(report, "users"), users.len() as u64);
    let per_user: u64 = users
        .iter()
        .flat_map(|user| user["dispositions"].as_object().unwrap().values())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(per_user, items.len() as u64);
}

/// The seal's hash is that of the items in the log, whatever the program says.
fn assert_seal_is_of_the_log(migration: &Migration, report: &Value) {
    let [sealed] = &migration.log(&["plan.sealed"])[..] else {
        panic!("one seal")
    };
    assert_eq!(sealed["payload"]["plan"], report["plan"]);
    let found = migration.log(&["item.found"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items: Vec<PlanItem> = found
        .iter()
        .map(|line| PlanItem {
            subject: text(&line["entry"]["subject"]).parse().unwrap(),
            version: text(&line["payload"]["version"]),
            class: text(&line["payload"]["class"]),
            disposition: text(&line["payload"]["disposition"]),
        })
        .collect();
    let hash = plan_hash(&sealed["payload"]["header"], &items).unwrap();
    assert_eq!(hash.to_string(), text(&report["plan"]));
    assert_eq!(sealed["payload"]["items"], found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_finds_what_is_true_and_sends_only_reads() {
    for seed in [1, 7] {
        let migration = Migration::start(WorldSpec::seeded(seed)).await;
        let report = migration.dry_run();
        assert_items_are_true(&migration, &report);
        assert_totals_add_up(&report);
        assert_seal_is_of_the_log(&migration, &report);
        migration.sim.assert_only_reads();
        assert!(migration.sim.deleted().is_empty());
        let incumbent = &report["totals"]["incumbent"];
        let figure = |selector: &str, name: &str| incumbent[selector][name].as_u64().unwrap();
        assert!(figure("title_prefix", "would_delete") > figure("title_prefix", "not_v1s"));
        assert!(figure("title_prefix", "not_v1s") > 0, "{incumbent}");
        let calendar = &migration.loss()["scopes"]["calendar"];
        assert_eq!(calendar["verdict"], "none", "{calendar}");
        migration.world.assert_intact();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_plan_is_executed_and_nothing_else() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let plan = migration.approved_plan();
    let report = migration.live_run(&plan.hash).ok().json();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
    assert_eq!(
        total(&report, "deleted"),
        plan.deletes.len() as u64,
        "{report}"
    );
    assert_eq!(total(&report, "unexplained"), 0, "{report}");
    let loss = migration.loss();
    let calendar = &loss["scopes"]["calendar"];
    assert_eq!(calendar["verdict"], "none", "{loss}");
    assert_eq!(calendar["sum"]["deleted"], plan.deletes.len(), "{loss}");
    migration.world.assert_intact();
    // Once more: there is nothing left to do, and nothing is done.
    let writes = migration.sim.calendar_writes().len();
    let again = migration.live_run(&plan.hash).ok().json();
    assert_eq!(migration.sim.calendar_writes().len(), writes);
    assert_eq!(
        total(&again, "deleted"),
        plan.deletes.len() as u64,
        "{again}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_v2s_export_nothing_is_to_be_deleted() {
    let migration = Migration::start(WorldSpec::seeded(2)).await;
    let report =
        output(&mut migration.cleanup("maker", &["--dry-run", "--go-live", &migration.go_live()]));
    let report = report.ok().json();
    assert!(Plan::of(&report).deletes.is_empty());
    assert_eq!(report["totals"]["dispositions"].get("delete"), None);
    let held = report["items"].as_array().unwrap().iter();
    let held = held.filter(|item| item["class"] == "V1_RECORDED" && item["disposition"] == "hold");
    assert!(held.count() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_dry_run_leaves_nothing_to_approve() {
    let migration = Migration::start(WorldSpec::seeded(4)).await;
    let hold = migration.sim.hold(Call::EventsList, 5, HoldPoint::Before);
    let running = Running::start(&mut migration.dry_command());
    hold.reached().await;
    running.kill();
    hold.release();
    assert_eq!(migration.log(&["plan.sealed"]), Vec::<Value>::new());
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "unknown");
    let report = migration.dry_run();
    assert_items_are_true(&migration, &report);
    migration.sim.assert_only_reads();
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_cannot_be_reached_are_not_done() {
    let migration = Migration::start(WorldSpec::seeded(5)).await;
    let report = migration.dry_run();
    let users = report["users"].as_array().unwrap();
    for fact in &migration.sim.world().users {
        let line = users
            .iter()
            .find(|line| line["user"] == fact.id.as_str())
            .unwrap();
        let expected = match fact.kind {
            UserKind::Disconnected | UserKind::NeverConnected => "disconnected",
            UserKind::Undecryptable | UserKind::NotEncrypted => "undecryptable",
            UserKind::Revoked | UserKind::OtherClient => "revoked",
            _ => "reachable",
        };
        assert_eq!(line["access"], expected, "{fact:?} {line}");
    }
    let loss = migration.loss();
    assert_eq!(loss["complete"], false, "{loss}");
}

/// The wrapper of the old name, found from this crate's folder.
const WRAPPER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/perm-tracker/05_cleanup_v1_calendar.sh"
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_of_the_old_name_does_the_same() {
    let migration = Migration::start(WorldSpec::seeded(6).users(22).events_per_user(5)).await;
    let wrapper = |person: &str, first: &str| {
        let mut command = migration.like_cleanup(WRAPPER, person);
        command.arg(first).args(["--json", "--as", person]);
        output(
            command
                .args(["--user-interval", "1ms"])
                .args(migration.told()),
        )
    };
    let plan = Plan::of(&wrapper("maker", "--dry-run").ok().json());
    migration.approve(&plan.hash);
    let unsaid = output(&mut migration.like_cleanup(WRAPPER, "runner"));
    assert_eq!(unsaid.exit, 2);
    assert!(unsaid.stderr.contains("hint: "), "{}", unsaid.stderr);
    migration.sim.assert_only_reads();
    wrapper("runner", &plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_file_names_each_item_and_an_address_only_if_asked() {
    let migration = Migration::start(WorldSpec::seeded(8).users(22).events_per_user(5)).await;
    let plan = migration.approved_plan();
    let run = output(migration.live_command(&plan.hash).arg("--log-emails"))
        .ok()
        .json();
    let read = |name: &str| {
        let path = migration.logs().join(format!("{name}.log"));
        std::fs::read_to_string(path).unwrap()
    };
    let log = read(run["run"].as_str().unwrap());
    let deleted = log.lines().filter(|line| line.contains(" item.deleted "));
    let mut count = 0;
    for line in deleted {
        for word in [
            "seq=",
            "hash=",
            "subject=calendar-event:",
            "class=V1_",
            "etag=",
            "outcome=deleted",
            "email=",
        ] {
            assert!(line.contains(word), "{word}: {line}");
        }
        count += 1;
    }
    assert_eq!(count, plan.deletes.len());
    let dry = migration.log(&["plan.sealed"])[0]["entry"]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let dry = read(&dry);
    assert!(dry.contains("class=") && !dry.contains('@'), "{dry}");
    let receipts = migration
        .logs()
        .join(format!("{}.log", run["run"].as_str().unwrap()));
    let (exit, report) = migration
        .world
        .verify(&["--receipts", receipts.to_str().unwrap()]);
    assert_eq!(exit, 0, "{report}");
}
