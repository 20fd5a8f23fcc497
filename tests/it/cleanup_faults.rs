//! The live run where things go wrong: every kind of fault at every call, changes by others at the worst moment, and kill -9.

use std::collections::{BTreeMap, BTreeSet};

use ledger_sim::faults::{FaultId, StatusFault};
use ledger_sim::supabase::Cell;
use ledger_sim::{Call, EventKey, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, Running, key_of, total};
use crate::world::output;

/// What a fault that happens once may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Nothing: everything of the user is deleted in the same run.
    Nothing,
    /// One item is left for a person.
    OneHeld,
    /// One item is not done, the next run does it.
    OneFailed,
    /// The user is not gone on with; the next run does it.
    User,
}

fn html(status: u16) -> FaultKind {
    FaultKind::html(status)
}

/// What can happen to any request.
fn anything() -> Vec<(&'static str, FaultKind)> {
    vec![
        ("request lost", FaultKind::LoseRequest),
        ("reply lost", FaultKind::LoseReply),
        ("429", FaultKind::status(429)),
        ("429 retry-after", FaultKind::retry_after(429, "1")),
        ("500", FaultKind::status(500)),
        ("502 page", html(502)),
        ("503 retry-after", FaultKind::retry_after(503, "1")),
        ("504", FaultKind::status(504)),
        (
            "stalled past the limit",
            FaultKind::Stall {
                millis: Some(4_500),
            },
        ),
        ("never answered", FaultKind::Stall { millis: None }),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cells() -> Vec<(Call, &'static str, FaultKind, Cost)> {
    let mut cells = Vec::new();
    for call in [
        Call::EventsDelete,
        Call::EventsGet,
        Call::EventsList,
        Call::Token,
    ] {
        cells.extend(
            anything()
                .into_iter()
                .map(|(name, kind)| (call, name, kind, Cost::Nothing)),
        );
    }
    for call in [Call::EventsDelete, Call::EventsGet, Call::EventsList] {
        let rate = FaultKind::reason(403, "userRateLimitExceeded");
        let project = FaultKind::reason(403, "rateLimitExceeded");
        let daily = FaultKind::reason(403, "dailyLimitExceeded");
        let scope = FaultKind::reason(403, "insufficientPermissions");
        let long = FaultKind::retry_after(429, "3600");
        cells.extend([
            (call, "401", FaultKind::status(401), Cost::Nothing),
            (call, "403 rate", rate, Cost::Nothing),
            (call, "403 project's rate", project, Cost::Nothing),
            (call, "403 daily", daily, Cost::User),
            (call, "403 scope", scope, Cost::User),
            (call, "429 in an hour", long, Cost::User),
            // What stands between says nothing of what Google has.
            (call, "404 page", html(404), Cost::Nothing),
            (call, "410 page", html(410), Cost::Nothing),
            (
                call,
                "403 quota",
                FaultKind::reason(403, "quotaExceeded"),
                Cost::User,
            ),
        ]);
    }
    for call in [Call::EventsGet, Call::EventsList, Call::Token] {
        cells.push((
            call,
            "truncated",
            FaultKind::TruncateBody { keep: 40 },
            Cost::Nothing,
        ));
        cells.push((call, "200 page", html(200), Cost::Nothing));
    }
    // Google answers a deletion without content: a page is somebody else's.
    cells.push((Call::EventsDelete, "200 page", html(200), Cost::Nothing));
    let forbidden = || FaultKind::reason(403, "forbiddenForNonOrganizer");
    cells.extend([
        (
            Call::EventsDelete,
            "403 forbidden",
            forbidden(),
            Cost::OneFailed,
        ),
        (
            Call::EventsDelete,
            "404 untrue",
            FaultKind::status(404),
            Cost::Nothing,
        ),
        (
            Call::EventsDelete,
            "410 untrue",
            FaultKind::status(410),
            Cost::Nothing,
        ),
        (
            Call::EventsDelete,
            "409",
            FaultKind::status(409),
            Cost::OneHeld,
        ),
        (
            Call::EventsDelete,
            "412",
            FaultKind::status(412),
            Cost::OneHeld,
        ),
        (
            Call::EventsDelete,
            "400",
            FaultKind::status(400),
            Cost::OneFailed,
        ),
        (
            Call::EventsGet,
            "403 forbidden",
            forbidden(),
            Cost::OneFailed,
        ),
        (
            Call::EventsGet,
            "404 untrue",
            FaultKind::status(404),
            Cost::Nothing,
        ),
        (
            Call::EventsGet,
            "410 untrue",
            FaultKind::status(410),
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "sync token too old",
            FaultKind::reason(410, "fullSyncRequired"),
            Cost::Nothing,
        ),
        (Call::EventsList, "403 forbidden", forbidden(), Cost::User),
        (
            Call::EventsList,
            "pages in a circle once",
            FaultKind::PageTokenLoop,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "items twice",
            FaultKind::DuplicateItems,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "empty page",
            FaultKind::EmptyPage,
            Cost::Nothing,
        ),
        (
            Call::EventsList,
            "short page",
            FaultKind::ShortPage,
            Cost::Nothing,
        ),
        (
            Call::Token,
            "grant revoked",
            FaultKind::reason(400, "invalid_grant"),
            Cost::User,
        ),
    ]);
    cells
}

/// The items of each account in a plan.
fn by_account(plan: &Plan) -> BTreeMap<String, Vec<EventKey>> {
    let mut accounts: BTreeMap<String, Vec<EventKey>> = BTreeMap::new();
    for key in &plan.deletes {
        accounts.entry(key.0.clone()).or_default().push(key.clone());
    }
    accounts
}

fn plain(users: usize, events: usize) -> WorldSpec {
    WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(11).users(users).events_per_user(events)
    }
}

/// The accounts with at least three items to be deleted.
fn rich_accounts(plan: &Plan) -> Vec<String> {
    let accounts = by_account(plan).into_iter();
    accounts
        .filter(|(_, items)| items.len() >= 3)
        .map(|(account, _)| account)
        .collect()
}

fn outcome_of<'a>(report: &'a Value, migration: &Migration, account: &str) -> &'a Value {
    let users = &migration.sim.world().users;
    let user = users
        .iter()
        .find(|user| user.account.as_deref() == Some(account))
        .unwrap();
    let lines = report["users"].as_array().unwrap();
    lines
        .iter()
        .find(|line| line["user"] == user.id.as_str())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_call_leaves_one_outcome_per_effect() {
    let cells = cells();
    let migration = Migration::start(plain(cells.len() + 20, 14)).await;
    let plan = migration.approved_plan();
    let accounts = rich_accounts(&plan);
    assert!(accounts.len() >= cells.len(), "{} accounts", accounts.len());
    for ((call, _, kind, _), account) in cells.iter().zip(&accounts) {
        migration
            .sim
            .add_fault(Fault::once(*call, kind.clone()).for_account(account));
    }
    let first = output(
        migration
            .live_command(&plan.hash)
            .args(["--users-at-once", "32"]),
    );
    assert_eq!(first.exit, 1, "{}", first.stderr);
    let report = first.json();
    let journal = migration.sim.journal();
    let mut wrong = Vec::new();
    let mut held = 0;
    for ((call, name, _, cost), account) in cells.iter().zip(&accounts) {
        let line = outcome_of(&report, &migration, account);
        let figure = |name: &str| line[name].as_u64().unwrap();
        let (found, deleted) = (figure("found"), figure("deleted"));
        let right = match cost {
            Cost::Nothing => deleted == found,
            Cost::OneHeld => deleted == found - 1 && figure("held") == 1,
            Cost::OneFailed => deleted == found - 1 && figure("failed") == 1,
            Cost::User => deleted < found && figure("failed") == found - deleted,
        };
        held += usize::from(*cost == Cost::OneHeld);
        let met = journal.iter().any(|entry| {
            entry.fault.is_some() && entry.account.as_deref() == Some(account.as_str())
        });
        if !met || !right || figure("unexplained") > 0 {
            wrong.push(format!("{call:?} {name}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), first.stderr);
    migration.assert_ledger_accounts_for_all();
    assert!(migration.sim.compare(&plan.deletes).beyond.is_empty());

    // The faults are over: the same plan again does the rest, but for what was left for a person.
    migration.sim.clear_faults();
    let second = migration.live_run(&plan.hash);
    assert_eq!(second.exit, 1, "{}", second.stderr);
    assert_eq!(total(&second.json(), "held"), held as u64);
    assert_eq!(total(&second.json(), "failed"), 0, "{}", second.stdout);
    let mut done = plan.deletes.clone();
    let left = migration.sim.compare(&plan.deletes).left;
    assert_eq!(left.len(), held);
    done.retain(|key| !left.contains(key));
    migration.sim.assert_only_deleted(&done);
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    assert_eq!(loss["complete"], false);
    assert!(loss["scopes"]["calendar"]["sum"]["held"].as_u64().unwrap() >= held as u64);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_stays_costs_its_user_and_nobody_else() {
    let migration = Migration::start(plain(12, 10)).await;
    let plan = migration.approved_plan();
    let accounts = rich_accounts(&plan);
    let always = [
        (Call::EventsDelete, FaultKind::status(401)),
        (Call::EventsDelete, FaultKind::status(503)),
        (Call::EventsGet, FaultKind::status(500)),
        (Call::EventsList, FaultKind::LoseReply),
        (Call::EventsList, FaultKind::PageTokenLoop),
        (Call::Token, FaultKind::reason(400, "invalid_grant")),
    ];
    for ((call, kind), account) in always.iter().zip(&accounts) {
        let fault = Fault::once(*call, kind.clone()).when(Occurrence::Always);
        migration.sim.add_fault(fault.for_account(account));
    }
    let run = migration.live_run(&plan.hash);
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["status"], "partial");
    let mut spoilt = BTreeSet::new();
    for account in &accounts[..always.len()] {
        let line = outcome_of(&report, &migration, account);
        assert_eq!(line["failed"], line["found"], "{line}");
        assert!(!line["errors"].as_array().unwrap().is_empty(), "{line}");
        spoilt.insert(account.clone());
    }
    let done = plan.deletes.iter().filter(|key| !spoilt.contains(&key.0));
    migration.sim.assert_only_deleted(&done.cloned().collect());
    assert!(migration.log(&["user.failed"]).len() >= always.len());
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    assert_eq!(loss["complete"], false);
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one world with a user per thing that others do"
)]
async fn what_others_do_between_plan_and_deletion_is_respected() {
    let mut migration = Migration::start(plain(14, 12)).await;
    let plan = migration.approved_plan();
    let accounts = rich_accounts(&plan);
    let items = by_account(&plan);
    let first = |n: usize| items[&accounts[n]][0].clone();
    let summary = json!({"summary": "Moved by hand"});

    // Before the run: edited, deleted, emptied out of the trash, adopted by v2, and a user who reconnected another account.
    let edited = first(0);
    assert!(migration.sim.edit_event(&edited.0, &edited.1, &summary));
    let deleted = first(1);
    assert!(migration.sim.delete_event(&deleted.0, &deleted.1));
    let purged = first(2);
    assert!(migration.sim.delete_event(&purged.0, &purged.1));
    assert!(migration.sim.purge_event(&purged.0, &purged.1));
    let adopted = first(3);
    let mut v2 = migration.sim.world().v2.clone();
    let case = v2.production.tables["cases"]
        .iter()
        .find_map(|case| case["legacyId"].as_str())
        .unwrap()
        .to_owned();
    assert!(v2.record(&case, "rfi_due", &adopted.1));
    let at = migration.sim.clock().now();
    let fresh = migration.folder.path().join("fresh");
    migration.exports = ledger_sim::convex::write_exports_at(&v2, &fresh, at).unwrap();
    swap_tokens(&migration, &accounts[4], &accounts[5]);

    // At the last moment: edited and deleted between our look and our deletion, and the token expires.
    let late = |n: usize| {
        let fault = Fault::once(
            Call::EventsDelete,
            FaultKind::Hold {
                at: HoldPoint::Before,
            },
        );
        migration.sim.hold_where(fault.for_account(&accounts[n]))
    };
    let holds = [late(6), late(7), late(8)];
    let running = Running::start(&mut migration.live_command(&plan.hash));
    let mut taken = Vec::new();
    for (n, hold) in holds.iter().enumerate() {
        hold.reached().await;
        let journal = migration.sim.journal();
        let held = journal.iter().rev().find(|entry| {
            entry.call == Some(Call::EventsDelete)
                && entry.status.is_none()
                && entry.account.as_deref() == Some(&accounts[6 + n])
        });
        let key = key_of(held.unwrap());
        match n {
            0 => assert!(migration.sim.edit_event(&key.0, &key.1, &summary)),
            1 => assert!(migration.sim.delete_event(&key.0, &key.1)),
            _ => migration.sim.expire_access_tokens(&accounts[8]),
        }
        taken.push(key);
        hold.release();
    }
    let run = running.output().await;
    assert_eq!(run.exit, 1, "{}", run.stderr);
    let report = run.json();
    let figure = |n: usize, name: &str| {
        let line = outcome_of(&report, &migration, &accounts[n]);
        line[name].as_u64().unwrap_or_else(|| panic!("{line}"))
    };
    for (n, name) in [
        (0, "held"),
        (1, "already_gone"),
        (2, "already_gone"),
        (3, "held"),
        (6, "held"),
        (7, "already_gone"),
    ] {
        assert_eq!(figure(n, name), 1, "{n} {name}: {report:#}");
        assert_eq!(
            figure(n, "deleted"),
            figure(n, "found") - 1,
            "{n}: {report:#}"
        );
    }
    assert_eq!(figure(8, "deleted"), figure(8, "found"));
    for n in [4, 5] {
        assert_eq!(figure(n, "failed"), figure(n, "found"), "{n}: {report:#}");
    }
    let mut gone = plan.deletes.clone();
    gone.retain(|key| ![&accounts[4], &accounts[5]].contains(&&key.0));
    for kept in [&edited, &adopted, &taken[0]] {
        gone.remove(kept);
    }
    let comparison = migration.sim.compare(&gone);
    assert!(
        comparison.left.is_empty() && comparison.beyond.is_empty(),
        "{comparison:#?}"
    );
    // By us, each of the others' once by themselves.
    let mut ours: BTreeSet<EventKey> = migration.sim.calendar_writes().iter().map(key_of).collect();
    assert!(
        [&deleted, &purged, &taken[1]]
            .iter()
            .all(|key| !ours.contains(key))
    );
    ours.extend([deleted, purged, taken[1].clone()]);
    assert_eq!(ours, gone);
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
}

/// v1 stores each of two users' tokens at the other.
fn swap_tokens(migration: &Migration, one: &str, other: &str) {
    let id_of = |account: &str| {
        let mut users = migration.sim.world().users.iter();
        users
            .find(|user| user.account.as_deref() == Some(account))
            .unwrap()
            .id
            .clone()
    };
    let ids = [id_of(one), id_of(other)];
    migration.sim.with_database(|database| {
        let table = database.table_mut("perm_users").unwrap();
        let id = table.position("id").unwrap();
        let token = table.position("google_refresh_token").unwrap();
        let at = |row: &[Cell]| {
            let Cell::Text(text) = &row[id] else {
                panic!("an id")
            };
            ids.iter().position(|one| one == text)
        };
        let mut tokens = [Cell::Null, Cell::Null];
        for row in table.rows() {
            if let Some(n) = at(row) {
                tokens[1 - n] = row[token].clone();
            }
        }
        for row in table.rows_mut() {
            if let Some(n) = at(row) {
                row[token] = tokens[n].clone();
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_sync_tokens_cost_a_full_listing() {
    let migration = Migration::start(WorldSpec::seeded(12)).await;
    let plan = migration.approved_plan();
    migration.sim.expire_sync_tokens();
    let hold = migration.sim.hold(Call::EventsDelete, 6, HoldPoint::Before);
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    migration.sim.expire_sync_tokens();
    hold.release();
    let report = running.output().await.ok().json();
    assert_eq!(total(&report, "unexplained"), 0, "{report:#}");
    assert_eq!(migration.log(&["item.observed"]), Vec::<Value>::new());
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

/// Where the live run is killed.
#[derive(Debug, Clone, Copy)]
struct Kill {
    call: Call,
    nth: u64,
    at: HoldPoint,
}

async fn kill_and_go_on(seed: u64, kills: &[Kill]) {
    let migration = Migration::start(WorldSpec::seeded(seed).users(24).events_per_user(10)).await;
    let plan = migration.approved_plan();
    for kill in kills {
        let hold = migration.sim.hold(kill.call, kill.nth, kill.at);
        let running = Running::start(&mut migration.live_command(&plan.hash));
        hold.reached().await;
        running.kill();
        // What was sent arrives all the same.
        hold.release();
    }
    let report = migration.live_run(&plan.hash).ok().json();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
    assert_eq!(total(&report, "unexplained"), 0, "{report:#}");
    assert_eq!(
        migration.log(&["run.started"]).len(),
        2,
        "the resumed run keeps its id"
    );
    let loss = migration.loss();
    assert_eq!(
        loss["scopes"]["calendar"]["verdict"], "none",
        "{kills:?} {loss}"
    );
    assert_eq!(
        loss["scopes"]["calendar"]["sum"].get("in_flight"),
        None,
        "{loss}"
    );
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_deletion_arrives() {
    let kill = |nth| Kill {
        call: Call::EventsDelete,
        nth,
        at: HoldPoint::Before,
    };
    kill_and_go_on(21, &[kill(1), kill(9)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_deletion_and_before_its_answer() {
    let kill = |nth| Kill {
        call: Call::EventsDelete,
        nth,
        at: HoldPoint::After,
    };
    kill_and_go_on(22, &[kill(5), kill(30)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_recovers_and_while_it_looks_again() {
    let deletion = Kill {
        call: Call::EventsDelete,
        nth: 12,
        at: HoldPoint::After,
    };
    // The first question of a run that goes on is about the open intent.
    let recovery = Kill {
        call: Call::EventsGet,
        nth: 1,
        at: HoldPoint::Before,
    };
    let look = Kill {
        call: Call::EventsList,
        nth: 3,
        at: HoldPoint::After,
    };
    kill_and_go_on(23, &[deletion, recovery, look]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_a_killed_run_that_arrives_late_does_no_harm() {
    let migration = Migration::start(WorldSpec::seeded(26).users(22).events_per_user(6)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 4, HoldPoint::Before);
    // One user at a time, so that one deletion is under way when it is killed.
    let mut command = migration.live_command(&plan.hash);
    let running = Running::start(command.args(["--users-at-once", "1"]));
    hold.reached().await;
    running.kill();
    // The intent is open and the item is there: the run that goes on tries again, under another intent.
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    let tried_again = migration
        .attempts()
        .into_values()
        .filter(|attempts| attempts.len() == 2);
    let tried_again: Vec<_> = tried_again.collect();
    assert!(!tried_again.is_empty());
    for attempts in &tried_again {
        let first = attempts[0].outcome.as_ref().unwrap();
        assert_eq!(
            (first.event.as_str(), first.word.as_str()),
            ("item.delete_failed", "failed")
        );
        assert_eq!(first.payload["recovered"], true);
    }
    let writes = migration.sim.calendar_writes().len();
    hold.release();
    migration.live_run(&plan.hash).ok();
    assert_eq!(migration.sim.calendar_writes().len(), writes);
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_settled_even_where_nothing_new_may_begin() {
    let migration = Migration::start(WorldSpec::seeded(27).users(22).events_per_user(6)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 4, HoldPoint::After);
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    running.kill();
    hold.release();
    let open =
        migration.log(&["item.delete_intended"]).len() - migration.log(&["item.deleted"]).len();
    assert!(open >= 1);
    let verdict = migration.loss()["scopes"]["calendar"]["verdict"].clone();
    assert_eq!(verdict, "unknown");
    let gone = migration.sim.deleted();
    // v2's export is too old by now: no deletion may begin.
    let refused = output(
        migration
            .live_command(&plan.hash)
            .args(["--v2-max-age", "1ms"]),
    );
    assert_eq!(refused.exit, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("older than --v2-max-age"),
        "{}",
        refused.stderr
    );
    assert_eq!(migration.sim.deleted(), gone);
    migration.assert_ledger_accounts_for_all();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_live_runs_at_once_one_refuses() {
    let migration = Migration::start(WorldSpec::seeded(24)).await;
    let plan = migration.approved_plan();
    let fault = Fault::once(
        Call::EventsList,
        FaultKind::Hold {
            at: HoldPoint::Before,
        },
    );
    let hold = migration.sim.hold_where(fault.when(Occurrence::Always));
    let one = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    let other = Running::start(&mut migration.live_command(&plan.hash))
        .output()
        .await;
    assert_eq!(other.exit, 1, "{}{}", other.stdout, other.stderr);
    assert!(
        other
            .stderr
            .contains("another live run of this plan is under way"),
        "{}",
        other.stderr
    );
    hold.release();
    one.output().await.ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_world_is_cleaned_up_all_the_same() {
    let migration = Migration::start(WorldSpec::seeded(25)).await;
    let faults = [
        (Call::EventsDelete, FaultKind::LoseReply, 0.1),
        (Call::EventsDelete, FaultKind::LoseRequest, 0.1),
        (Call::EventsDelete, FaultKind::status(503), 0.1),
        (
            Call::EventsGet,
            FaultKind::Status(StatusFault {
                status: 502,
                html: true,
                ..StatusFault::default()
            }),
            0.1,
        ),
        (Call::EventsList, FaultKind::TruncateBody { keep: 100 }, 0.2),
        (Call::Token, FaultKind::status(500), 0.2),
        (Call::Select, FaultKind::LoseReply, 0.2),
    ];
    let ids: Vec<FaultId> = (1..)
        .zip(faults)
        .map(|(seed, (call, kind, p))| {
            let now_and_then = Occurrence::Probability { p, seed };
            migration
                .sim
                .add_fault(Fault::once(call, kind).when(now_and_then))
        })
        .collect();
    assert_eq!(ids.len(), 7);
    let plan = migration.approved_plan();
    let mut exit = 1;
    for _ in 0..4 {
        exit = migration.live_run(&plan.hash).exit;
        if exit == 0 {
            break;
        }
    }
    assert_eq!(exit, 0);
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.sim.assert_only_v1_events_gone();
    migration.assert_ledger_accounts_for_all();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
    migration.world.assert_intact();
}
