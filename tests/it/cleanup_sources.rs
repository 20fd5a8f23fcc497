//! What v1's tables can hold that no plan foresaw: nothing of it may vanish, end a run or be taken for something else.

use std::collections::{BTreeMap, BTreeSet};

use ledger_sim::supabase::Cell;
use ledger_sim::world::UserKind;
use ledger_sim::{Call, Fault, FaultKind, Occurrence, Truth, UsersTable, WorldSpec};
use serde_json::{Value, json};

use crate::cleanup::assert_totals_add_up;
use crate::migration::{APPROVER, Migration, Plan, now, total};
use crate::world::output;

impl Migration {
    /// Sets a column of the rows of a table that have this value in another.
    fn set(&self, table: &str, (key, of): (&str, &str), (column, value): (&str, &Cell)) {
        self.sim.with_database(|database| {
            let table = database.table_mut(table).unwrap();
            let [key, column] = [key, column].map(|name| table.position(name).unwrap());
            for row in table.rows_mut() {
                if row[key] == Cell::Text(of.to_owned()) {
                    row[column] = value.clone();
                }
            }
        });
    }

    /// The id of a user of this kind.
    fn user_of(&self, kind: UserKind) -> String {
        let users = self.sim.world().users.iter();
        let mut of_kind = users.filter(|user| user.kind == kind);
        of_kind.next().unwrap().id.clone()
    }

    /// The ids that v1 recorded for a user, by the truth.
    fn recorded_of(&self, user: &str) -> BTreeSet<String> {
        let truths = self.sim.truth().iter();
        let of_user =
            truths.filter(|truth| truth.v1_made && truth.users.iter().any(|it| it == user));
        let recorded = of_user.filter(|truth| truth.why.contains("recorded"));
        recorded.map(|truth| truth.event_id.clone()).collect()
    }
}

fn line<'a>(report: &'a Value, user: &str) -> Option<&'a Value> {
    let lines = report["users"].as_array().unwrap();
    lines.iter().find(|line| line["user"] == user)
}

/// The ids of a user's items of this class.
fn ids(report: &Value, user: &str, class: &str) -> BTreeSet<String> {
    let items = report["items"].as_array().unwrap().iter();
    let of_user = items.filter(|item| item["user"] == user && item["class"] == class);
    of_user
        .map(|item| item["event_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_for_an_owner_that_is_not_known_is_not_lost_sight_of() {
    let spec = WorldSpec {
        users_table: UsersTable::Both,
        ..WorldSpec::seeded(33).users(22).events_per_user(8)
    };
    let migration = Migration::start(spec).await;
    // One user is in one of the two tables only; another's cases name nobody.
    let user = migration.user_of(UserKind::ExpiredAccess);
    let other = Cell::Text("00000000-0000-4000-8000-000000000000".to_owned());
    migration.set("perm_users", ("id", &user), ("id", &other));
    let orphaned = migration.user_of(UserKind::SoftDeleted);
    migration.set("cases", ("user_id", &orphaned), ("user_id", &Cell::Null));

    let dry_run = |table: &str| {
        output(migration.dry_command().args(["--users-table", table]))
            .ok()
            .json()
    };
    let report = dry_run("perm_users");
    assert_totals_add_up(&report);
    let of_nobody = ids(&report, "(no owner)", "UNREACHABLE");
    assert!(of_nobody.is_superset(&migration.recorded_of(&orphaned)));
    let of_user = ids(&report, &user, "UNREACHABLE");
    assert!(of_user.is_superset(&migration.recorded_of(&user)));
    assert!(!of_user.is_empty() && !of_nobody.is_empty());
    for owner in ["(no owner)", &user] {
        assert_eq!(line(&report, owner).unwrap()["access"], "unknown_owner");
    }
    let without_owner = (of_user.len() + of_nobody.len()) as u64;
    assert_eq!(total(&report, "ids_without_owner"), without_owner);
    let loss = migration.loss();
    assert_eq!(loss["complete"], false, "{loss}");

    // The other table has the user.
    let report = dry_run("users");
    assert_eq!(line(&report, &user).unwrap()["access"], "reachable");
    assert_eq!(total(&report, "ids_without_owner"), of_nobody.len() as u64);
    migration.sim.assert_only_reads();
}

/// Class by event id, of every item.
fn classes(report: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let items = report["items"].as_array().unwrap().iter();
    items
        .map(|item| (text(&item["event_id"]), text(&item["class"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_google_does_not_answer_costs_no_other() {
    let migration = Migration::start(WorldSpec::seeded(34)).await;
    let mut expected = classes(&migration.dry_run());
    let purged = |truth: &&Truth| truth.why == "v1 recorded it; answers 404";
    let truths: Vec<&Truth> = migration.sim.truth().iter().filter(purged).collect();
    let reachable = |truth: &&&Truth| expected[&truth.event_id] == "GONE";
    let gone: Vec<&&Truth> = truths.iter().filter(reachable).collect();
    let [refused, silent] = [gone[0], gone[1]];
    let always = |kind, event: &str| {
        let fault = Fault::once(Call::EventsGet, kind).when(Occurrence::Always);
        migration.sim.add_fault(fault.for_event(event));
    };
    // As Google answers what it cannot make sense of, which says nothing about the event, and where something is wrong with it.
    always(FaultKind::reason(400, "invalid"), &refused.event_id);
    always(FaultKind::status(500), &silent.event_id);
    let report = migration.dry_run();
    for truth in [refused, silent] {
        expected.insert(truth.event_id.clone(), "UNREACHABLE".to_owned());
    }
    assert_eq!(classes(&report), expected);
    for user in refused.users.iter().chain(&silent.users) {
        assert_eq!(line(&report, user).unwrap()["access"], "reachable");
    }
    let found = migration.log(&["item.found"]);
    for (truth, detail) in [(refused, "unanswered_400"), (silent, "unanswered_500")] {
        let found = found.iter().rev().map(|line| &line["payload"]);
        let mut of_it = found.filter(|found| found["item"] == truth.event_id.as_str());
        let evidence = &of_it.next().unwrap()["evidence"]["unreachable"];
        assert_eq!(evidence["detail"], detail, "{evidence}");
    }

    // One that answers nothing at all is not asked about each of its ids.
    migration.sim.clear_faults();
    let dead = Fault::once(Call::EventsGet, FaultKind::status(500)).when(Occurrence::Always);
    migration.sim.add_fault(dead);
    let report = migration.dry_run();
    let lines = report["users"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["access"] == "failed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_calendar_is_not_taken_for_the_account_whose_address_v1_stored() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(35).users(4).events_per_user(12)
    };
    let mut made = spec.as_of(now()).generate();
    let [one, other] = [0, 2].map(|n| made.users[n].clone());
    let account = one.account.unwrap();
    let calendars = &mut made.calendars;
    let mut calendar = calendars.iter_mut().find(|calendar| calendar.id == account);
    let calendar = calendar.as_mut().unwrap();
    calendar.title = Some("Deadlines @ Firm".to_owned());
    calendar.events.clear();
    let migration = Migration::of(made).await;
    let address = Cell::Text(other.account.clone().unwrap());
    migration.set("perm_users", ("id", &one.id), ("google_email", &address));
    let report = migration.dry_run();
    let items = report["items"].as_array().unwrap();
    for item in items.iter().filter(|item| item["user"] == one.id.as_str()) {
        assert_eq!(item["class"], "UNREACHABLE", "{item}");
    }
    assert!(!ids(&report, &one.id, "UNREACHABLE").is_empty());
    let accounts: BTreeSet<String> = migration
        .log(&["user.found"])
        .iter()
        .map(|line| line["payload"]["account"].to_string())
        .collect();
    assert_eq!(accounts.len(), 4);
    let of_other = |truth: &&Truth| truth.users.contains(&other.id);
    let truths = migration.sim.truth().iter().filter(of_other);
    let deletes = &Plan::of(&report).deletes;
    for truth in truths.filter(|truth| json!(truth.disposition) == "delete") {
        let key = (truth.calendar.clone(), truth.event_id.clone());
        assert!(deletes.contains(&key), "{truth:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_to_be_kept_is_held_and_ends_nothing() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(36).users(2).events_per_user(8)
    };
    let mut made = spec.as_of(now()).generate();
    let deletes = |truth: &&Truth| json!(truth.disposition) == "delete";
    let large = made.truth.iter().find(deletes).unwrap().clone();
    let calendars = made.calendars.iter_mut();
    let mut events = calendars.flat_map(|calendar| &mut calendar.events);
    let event = events.find(|event| event.fields["id"] == large.event_id.as_str());
    let fields = &mut event.unwrap().fields;
    let text = fields["description"].as_str().unwrap();
    let text = format!("{text}\n{}", "x".repeat(6_500_000));
    fields.insert("description".to_owned(), text.into());
    let migration = Migration::of(made).await;
    let report = migration.dry_run();
    let items = report["items"].as_array().unwrap();
    let mut of_event = items
        .iter()
        .filter(|it| it["event_id"] == large.event_id.as_str());
    let item = of_event.next().unwrap();
    assert_eq!(item["disposition"], "hold", "{item}");
    assert!(
        item["reason"].as_str().unwrap().contains("too large"),
        "{item}"
    );
    let plan = Plan::of(&report);
    assert!(!plan.deletes.is_empty());
    migration.approve(&plan.hash);
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    // Nor can a person decide that it goes: nobody could put it back. That it stays can be decided.
    let decide = |decision: &str| {
        let decide = [
            "review",
            "decide",
            item["subject"].as_str().unwrap(),
            decision,
        ];
        let because = ["--reason", "looked at", "--as", APPROVER];
        migration.world.ledger([&decide[..], &because].concat())
    };
    let refused = decide("delete");
    assert!(
        refused.exit == 1 && refused.stderr.contains("no whole copy"),
        "{refused:?}"
    );
    decide("keep").ok();
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_the_same_item_when_its_account_cannot_be_reached() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(37).users(4).events_per_user(12)
    };
    let migration = Migration::start(spec).await;
    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    let sums = || {
        let sum = migration.loss()["scopes"]["calendar"]["sum"].clone();
        let sum: BTreeMap<String, u64> = serde_json::from_value(sum).unwrap();
        (sum["deleted"], sum.values().sum::<u64>())
    };
    let before = sums();
    assert_eq!(before.0, plan.deletes.len() as u64);
    // After a month Google has no trace left of what was deleted, and here of nothing: no recorded id is found, as on a wrong account.
    let accounts: BTreeSet<&String> = plan.deletes.iter().map(|key| &key.0).collect();
    let [forgotten, revoked, ..] = Vec::from_iter(accounts)[..] else {
        panic!("two accounts")
    };
    let events = migration.sim.world().calendars.iter();
    for calendar in events.filter(|calendar| calendar.id == *forgotten) {
        for event in &calendar.events {
            let id = event.fields["id"].as_str().unwrap();
            migration.sim.purge_event(forgotten, id);
        }
    }
    // And of another the grant is dead by now.
    migration.sim.revoke(revoked);
    let report = migration.dry_run();
    assert!(report["totals"]["classes"]["UNREACHABLE"].as_u64().unwrap() > 4);
    assert_eq!(sums(), before);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_inventory_counts_what_an_earlier_one_could_not_reach_or_met_no_more() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(38).users(3).events_per_user(12)
    };
    let migration = Migration::start(spec).await;
    let user = migration.sim.world().users[0].id.clone();
    let connected = |is: bool| {
        let column = ("calendar_connected", &Cell::Bool(is));
        migration.set("perm_users", ("id", &user), column);
    };
    let sums = || {
        let loss = migration.loss();
        let sum = loss["scopes"]["calendar"]["sum"].clone();
        let sum: BTreeMap<String, u64> = serde_json::from_value(sum).unwrap();
        (sum, loss["scopes"]["calendar"]["complete"].clone())
    };
    let of = |sum: &BTreeMap<String, u64>, state: &str| sum.get(state).copied().unwrap_or(0);
    connected(false);
    let first = migration.dry_run();
    assert!(of(&sums().0, "out_of_reach") > 2, "{:?}", sums());

    // The user comes back, and meanwhile another has deleted an event that v1 never recorded.
    connected(true);
    let items = first["items"].as_array().unwrap().iter();
    let mut orphans = items.filter(|item| item["class"] == "V1_ORPHAN");
    let vanished = orphans.next_back().unwrap();
    let [calendar, event] = ["calendar", "event_id"].map(|name| vanished[name].as_str().unwrap());
    assert!(migration.sim.delete_event(calendar, event));
    migration.sim.purge_event(calendar, event);

    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    let (sum, _) = sums();
    assert_eq!(of(&sum, "out_of_reach"), 0, "{sum:?}");
    assert_eq!(of(&sum, "planned"), 0, "{sum:?}");
    assert_eq!(of(&sum, "deleted"), plan.deletes.len() as u64, "{sum:?}");
    assert!(of(&sum, "changed_since") > 0, "{sum:?}");
    let subject = vanished["subject"].as_str().unwrap();
    let told = migration
        .world
        .ledger(["review", "explain", subject, "--as", "maker"])
        .ok();
    assert!(told.stdout.contains("It was not deleted by us"), "{told:?}");
    // By its first name too, and in a report of the first plan, an item is told as what became of it.
    let unreached = first["items"].as_array().unwrap().iter();
    let mut unreached =
        unreached.filter(|item| item["user"] == user && item["class"] == "UNREACHABLE");
    let unreached = unreached.next().unwrap();
    for name in ["subject", "event_id"] {
        let name = unreached[name].as_str().unwrap();
        let told = migration
            .world
            .ledger(["review", "explain", name, "--as", "maker"])
            .ok();
        assert!(!told.stdout.contains("UNREACHABLE"), "{told:?}");
    }
    let hash = first["plan"].as_str().unwrap();
    let report = [
        "report",
        "deletions",
        "--plan",
        hash,
        "--json",
        "--as",
        "maker",
    ];
    let report = migration.world.ledger(report).ok().json();
    let planned = first["items"].as_array().unwrap().len() as u64;
    assert_eq!(report["totals"]["found"], planned, "{}", report["totals"]);
    assert_eq!(report["totals"]["out_of_reach"], 0, "{}", report["totals"]);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_recorded_values_are_named_and_a_missing_column_is_refused() {
    let migration = Migration::start(WorldSpec::seeded(38).users(6).events_per_user(6)).await;
    let (case, number) = migration.sim.with_database(|database| {
        let table = database.table_mut("cases").unwrap();
        let [id, ids] = ["id", "calendar_event_ids"].map(|name| table.position(name).unwrap());
        let case = table.rows_mut().next().unwrap();
        case[ids] = Cell::Json(json!({"rfi_due": 7, "Ann Example": true}));
        let Cell::Text(id) = &case[id] else {
            panic!("a case without an id")
        };
        (id.clone(), 2)
    });
    let run = output(&mut migration.dry_command()).ok();
    assert_eq!(total(&run.json(), "odd_ids"), number);
    let said: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.contains(&case))
        .collect();
    assert_eq!(said.len(), 2, "{}", run.stderr);
    assert!(
        said.iter()
            .any(|line| line.contains("rfi_due") && line.contains("a number"))
    );
    assert!(!run.stderr.contains("Ann Example"), "{}", run.stderr);

    migration.sim.with_database(|database| {
        let table = database.table("cases").unwrap();
        let columns = table
            .columns
            .iter()
            .filter(|one| one.name != "calendar_event_ids");
        let columns: Vec<_> = columns.map(|one| (one.name, one.kind)).collect();
        let mut without = ledger_sim::supabase::Table::new(&columns);
        for row in table.rows() {
            let named = table.columns.iter().zip(row);
            let named = named.filter(|(one, _)| one.name != "calendar_event_ids");
            without.push(named.map(|(one, cell)| (one.name, cell.clone())));
        }
        database.add("cases", without);
    });
    let refused = output(&mut migration.dry_command());
    assert_eq!(refused.exit, 4);
    assert!(
        refused.stderr.contains("has a column calendar_event_ids"),
        "{}",
        refused.stderr
    );
}
