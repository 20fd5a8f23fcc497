//! The cleanup of v1's calendar events, whole: dry run, approval, live run, and what they leave.

use std::collections::BTreeMap;

use ledger::chain::plan::{PlanItem, plan_hash};
use ledger_sim::world::UserKind;
use ledger_sim::{
    Call, Class, Disposition, Fault, FaultKind, HoldPoint, Occurrence, Truth, World, WorldSpec,
};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, Running, now, total, word};
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

pub(crate) fn assert_items_are_true(migration: &Migration, report: &Value) {
    let mut expected = expected(migration);
    for item in report["items"].as_array().unwrap() {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let place = item["calendar"]
            .as_str()
            .unwrap_or(item["user"].as_str().unwrap());
        let truth = expected
            .remove(&(place.to_owned(), text("event_id")))
            .unwrap_or_else(|| {
                let truths = migration.sim.truth().iter();
                let like = truths.filter(|truth| item["event_id"] == truth.event_id.as_str());
                panic!(
                    "no candidate, or twice: {item}\n{:#?}",
                    like.collect::<Vec<_>>()
                )
            });
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

pub(crate) fn assert_totals_add_up(report: &Value) {
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
async fn what_is_seldom_met_is_judged_as_it_is_true() {
    for channels in [false, true] {
        let spec = WorldSpec {
            rare: true,
            channels,
            ..WorldSpec::seeded(2)
        };
        let migration = Migration::start(spec).await;
        let report = migration.dry_run();
        assert_items_are_true(&migration, &report);
        assert_totals_add_up(&report);
        assert_seal_is_of_the_log(&migration, &report);
        let plan = Plan::of(&report);
        migration.approve(&plan.hash);
        let run = migration.live_run(&plan.hash).ok().json();
        migration.sim.assert_only_deleted(&plan.deletes);
        migration.sim.assert_only_v1_events_gone();
        migration.assert_ledger_accounts_for_all();
        // An event of another case of the same employer stands in for nothing.
        let run = run["run"].as_str().unwrap();
        let back = migration.restore(&["--run", run, "--leave-stand-ins"]);
        let truths = migration.sim.truth();
        let twin = |truth: &&Truth| truth.why.ends_with("is another case's");
        assert!(truths.iter().filter(twin).count() > 2);
        for item in back.json()["items"].as_array().unwrap() {
            let truth = truths
                .iter()
                .find(|truth| item["old_id"] == truth.event_id.as_str());
            let ended = if truth.unwrap().covered {
                "stand_in"
            } else {
                "restored"
            };
            assert_eq!(item["ended"], ended, "{item} {truth:?}");
        }
    }
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
async fn a_calendar_of_more_than_one_page_is_read_and_cleaned_up_whole() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(21)
    };
    let mut made = spec.users(1).events_per_user(40).as_of(now()).generate();
    let events = &mut made.calendars[0].events;
    let mut own = events[0].clone();
    own.fields.insert("summary".to_owned(), json!("Lunch"));
    own.fields.remove("description");
    // In front of everything else, so that v1's events come on the second page.
    let many = (0..2_600).map(|n| {
        let mut one = own.clone();
        one.fields
            .insert("id".to_owned(), json!(format!("own{n:05}")));
        one
    });
    events.splice(0..0, many);
    let migration = Migration::of(made).await;
    let report = migration.dry_run();
    assert_items_are_true(&migration, &report);
    assert!(total(&report, "others") >= 2_600, "{}", report["totals"]);
    let journal = migration.sim.journal();
    let lists = journal
        .iter()
        .filter(|it| it.call == Some(Call::EventsList));
    assert_eq!(lists.count(), 2);
    let plan = Plan::of(&report);
    assert!(!plan.deletes.is_empty());
    migration.approve(&plan.hash);
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_v1_events_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_tells_whether_an_events_day_is_a_deadline_of_its_case() {
    let migration = Migration::start(WorldSpec::seeded(22)).await;
    migration.dry_run();
    let moved: Vec<&str> = migration
        .sim
        .truth()
        .iter()
        .filter(|truth| truth.why == "v1 recorded it, and its user moved it")
        .map(|truth| truth.event_id.as_str())
        .collect();
    let stored = [
        "pwd_expiration",
        "eta9089_filing",
        "eta9089_expiration",
        "recruitment_expiration",
        "i140_filing_deadline",
    ];
    let (mut seen, mut seen_moved) = (0, 0);
    for line in migration.log(&["item.found"]) {
        let (payload, evidence) = (&line["payload"], &line["payload"]["evidence"]);
        let key = evidence["v1_recorded"]["detail"]
            .as_str()
            .unwrap_or_default();
        let matches = &evidence["date_matches_case"]["holds"];
        if payload["class"] == "V1_RECORDED" && stored.contains(&key) {
            assert_eq!(*matches, true, "{payload}");
            seen += 1;
        }
        if moved.contains(&payload["item"].as_str().unwrap()) && payload["class"] == "EDITED" {
            assert_eq!(*matches, false, "{payload}");
            seen_moved += 1;
        }
    }
    assert!(seen > 10 && seen_moved > 0, "{seen} {seen_moved}");
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

/// The refresh tokens of two users who share an account, in the users' order, with their ids.
pub(crate) fn sharing(world: &World) -> (String, [(String, String); 2]) {
    let shared = world
        .users
        .iter()
        .find(|user| user.kind == UserKind::SharedAccount);
    let account = shared.unwrap().account.clone().unwrap();
    let users = world
        .users
        .iter()
        .filter(|user| user.account.as_ref() == Some(&account));
    let grants = world.grants.iter().filter(|grant| grant.account == account);
    let pairs: Vec<(String, String)> = users
        .zip(grants)
        .map(|(user, grant)| (user.id.clone(), grant.refresh_token.clone()))
        .collect();
    (account, pairs.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_reached_through_whichever_users_token_leads_there() {
    // Dead before the dry run, or between it and the live run; the first user's or the second's.
    for (seed, n) in [(1, 0), (2, 1)] {
        let migration = Migration::start(WorldSpec::seeded(seed)).await;
        let (account, users) = sharing(migration.sim.world());
        assert!(migration.sim.kill_grant(&users[n].1));
        let report = migration.dry_run();
        assert_items_are_true(&migration, &report);
        assert_totals_add_up(&report);
        for (user, _) in &users {
            let lines = report["users"].as_array().unwrap();
            let line = lines
                .iter()
                .find(|line| line["user"] == user.as_str())
                .unwrap();
            assert_eq!(line["access"], "reachable", "{line}");
        }
        let plan = Plan::of(&report);
        migration.approve(&plan.hash);
        let at = plan.deletes.iter().filter(|key| key.0 == account).count();
        assert!(at > 0);
        migration.live_run(&plan.hash).ok();
        migration.sim.assert_only_v1_events_gone();
        migration.assert_ledger_accounts_for_all();
    }
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let plan = migration.approved_plan();
    let (account, users) = sharing(migration.sim.world());
    assert!(migration.sim.kill_grant(&users[0].1));
    let report = migration.live_run(&plan.hash).ok().json();
    let lines = report["users"].as_array().unwrap();
    assert!(
        lines.iter().any(|line| line["user"] == users[1].0.as_str()),
        "{account}"
    );
    assert!(lines.iter().all(|line| line["user"] != users[0].0.as_str()));
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_address_alone_does_not_make_an_account_a_users_own() {
    let mut spec = WorldSpec::seeded(6);
    spec.users = 16;
    let made = spec.as_of(now()).generate();
    let migration = Migration::of(made).await;
    // A disconnected user, for whom v1 stored the address of somebody else's account.
    let world = migration.sim.world();
    let other = world
        .users
        .iter()
        .find(|user| user.kind == UserKind::Connected);
    let address = other.unwrap().account.clone().unwrap();
    let user = world
        .users
        .iter()
        .find(|user| user.kind == UserKind::Disconnected);
    let id = user.unwrap().id.clone();
    migration.sim.with_database(|database| {
        let table = database.table_mut("perm_users").unwrap();
        let columns = ["id", "google_email"].map(|name| table.position(name).unwrap());
        for row in table.rows_mut() {
            if row[columns[0]] == ledger_sim::supabase::Cell::Text(id.clone()) {
                row[columns[1]] = ledger_sim::supabase::Cell::Text(address.clone());
            }
        }
    });
    let report = migration.dry_run();
    assert_items_are_true(&migration, &report);
    let lines = report["users"].as_array().unwrap();
    let line = lines
        .iter()
        .find(|line| line["user"] == id.as_str())
        .unwrap();
    assert_eq!(line["access"], "disconnected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calendars_beside_the_primary_one_are_looked_at_and_their_channels_stopped() {
    let spec = WorldSpec {
        channels: true,
        ..WorldSpec::seeded(9)
    };
    let migration = Migration::start(spec).await;
    let report = migration.dry_run();
    assert_items_are_true(&migration, &report);
    assert_totals_add_up(&report);
    assert_seal_is_of_the_log(&migration, &report);
    migration.sim.assert_only_reads();
    let rows = migration
        .sim
        .world()
        .database
        .table("calendar_sync_channels")
        .unwrap()
        .rows()
        .count();
    assert_eq!(report["totals"]["channels"], rows);
    let plan = Plan::of(&report);
    let second: Vec<&str> = plan
        .deletes
        .iter()
        .map(|key| key.0.as_str())
        .filter(|calendar| calendar.ends_with("@group.example.com"))
        .collect();
    assert!(second.len() > 2, "{second:?}");
    migration.approve(&plan.hash);
    let open = migration.sim.channels();
    let planned = |calendar: &String| plan.deletes.iter().any(|key| key.0 == *calendar);
    assert!(open.iter().any(|channel| planned(&channel.calendar)));
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
    // Open ones of the calendars at which something was deleted are stopped, before the first deletion there.
    let left = migration.sim.channels();
    assert!(
        left.iter().all(|channel| !planned(&channel.calendar)),
        "{left:?}"
    );
    let journal = migration.sim.journal();
    for channel in open.iter().filter(|channel| planned(&channel.calendar)) {
        let of_account = journal
            .iter()
            .filter(|it| it.account.as_ref() == Some(&channel.account));
        let calls: Vec<_> = of_account.filter(|it| it.effect).collect();
        let deleted = calls
            .iter()
            .position(|it| it.calendar.as_ref() == Some(&channel.calendar));
        let stopped = calls
            .iter()
            .position(|it| it.call == Some(Call::ChannelsStop));
        assert!(stopped < deleted, "{channel:?}");
    }
    let stopped = migration.log(&["channel.stopped"]);
    let intents = migration.log(&["channel.stop_intended"]);
    assert_eq!(stopped.len(), intents.len());
    let was_over = stopped
        .iter()
        .filter(|line| line["payload"]["was_over"] == true)
        .count();
    assert_eq!(stopped.len() - was_over, open.len() - left.len());
    assert!(was_over > 0, "some had expired");
    migration.world.assert_intact();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_channel_cannot_be_stopped_nothing_is_deleted() {
    let spec = WorldSpec {
        channels: true,
        plain_users: true,
        ..WorldSpec::seeded(10)
    };
    let migration = Migration::start(spec.users(3).events_per_user(12)).await;
    let plan = migration.approved_plan();
    let owner = |calendar: &str| {
        let calendars = &migration.sim.world().calendars;
        let found = calendars.iter().find(|it| it.id == calendar);
        found.unwrap().owner.clone()
    };
    let open = migration.sim.channels();
    let planned = |calendar: &str| plan.deletes.iter().any(|key| key.0 == calendar);
    let mut at_work = open.iter().filter(|channel| planned(&channel.calendar));
    let account = at_work.next().unwrap().account.clone();
    let refused = Fault::once(Call::ChannelsStop, FaultKind::reason(403, "forbidden"));
    migration
        .sim
        .add_fault(refused.when(Occurrence::Always).for_account(&account));
    let other = at_work.find(|channel| channel.account != account).unwrap();
    let passing = Fault::once(Call::ChannelsStop, FaultKind::status(503));
    migration.sim.add_fault(passing.for_account(&other.account));
    let run = migration.live_run(&plan.hash);
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let mut expected = plan.deletes.clone();
    expected.retain(|key| owner(&key.0) != account);
    assert!(expected.len() < plan.deletes.len());
    migration.sim.assert_only_deleted(&expected);
    let [failed, ..] = &migration.log(&["channel.stop_failed"])[..] else {
        panic!("told")
    };
    assert_eq!(
        (&failed["payload"]["status"], &failed["payload"]["decision"]),
        (&json!(403), &json!("stopped"))
    );
    // The same plan goes on once it can be.
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
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
            UserKind::Disconnected => "disconnected",
            UserKind::NeverConnected => "never_connected",
            UserKind::Undecryptable | UserKind::NotEncrypted => "undecryptable",
            UserKind::Revoked | UserKind::OtherClient => "revoked",
            _ => "reachable",
        };
        assert_eq!(line["access"], expected, "{fact:?} {line}");
    }
    let loss = migration.loss();
    assert_eq!(loss["complete"], false, "{loss}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_of_a_run_says_what_to_do_next() {
    let migration = Migration::start(WorldSpec::seeded(9).users(24).events_per_user(6)).await;
    let plan = migration.approved_plan();
    let (account, changed) = plan.deletes.first().unwrap();
    let moved = json!({"summary": "Moved by hand"});
    assert!(migration.sim.edit_event(account, changed, &moved));
    let other = &plan.deletes.iter().find(|key| key.0 != *account).unwrap().0;
    let dead = FaultKind::reason(400, "invalid_grant");
    let dead = Fault::once(Call::Token, dead).when(Occurrence::Always);
    migration.sim.add_fault(dead.for_account(other));
    let run = [
        "cleanup",
        "calendar",
        "--as",
        "runner",
        "--user-interval",
        "1ms",
        "--plan",
        &plan.hash,
    ];
    let run = output(&mut migration.with_services(&run));
    assert_eq!(run.exit, 1, "{}", run.stderr);
    for said in [
        "the user has to connect again",
        ": partial",
        "next: the same command again",
        "next: held for a person: ledger review list --state held",
        "next: was any data lost? ledger loss",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    let held = migration
        .world
        .ledger(["review", "list", "--state", "held", "--json"]);
    let held = held.ok().json();
    let is_there =
        |item: &Value| item["event_id"] == changed.as_str() || item["item"] == changed.as_str();
    assert!(
        held["items"].as_array().unwrap().iter().any(is_there),
        "{held:#}"
    );
}
