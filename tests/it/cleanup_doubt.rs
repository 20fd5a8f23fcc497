//! Answers that could be taken for more than they say: a calendar that is not seen any more, another deployment of v2, a grant of another
//! client's, and one user who is slow.

use std::collections::BTreeSet;

use ledger_sim::google_oauth::Scope;
use ledger_sim::{Call, Fault, FaultKind, Occurrence, WorldSpec};
use serde_json::Value;

use crate::cleanup::sharing;
use crate::migration::{MAKER, Migration, RUNNER, now};
use crate::world::output;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_calendar_that_cannot_be_seen_any_more_is_not_gone() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(21)
    };
    let migration = Migration::start(spec.users(2).events_per_user(6)).await;
    let plan = migration.approved_plan();
    let calendar = &plan.deletes.first().unwrap().0;
    let calendars = &migration.sim.world().calendars;
    let account = calendars.iter().find(|it| it.id == *calendar).unwrap();
    let owner = account.owner.clone();
    // Right after the run has listed the calendar before its first deletion.
    for call in [Call::EventsGet, Call::EventsDelete] {
        let lost = Fault::once(call, FaultKind::status(404)).when(Occurrence::Always);
        migration.sim.add_fault(lost.for_account(&owner));
    }
    for n in 2..20 {
        let lost = Fault::once(Call::EventsList, FaultKind::status(404));
        let lost = lost.when(Occurrence::Nth(n)).for_account(&owner);
        migration.sim.add_fault(lost);
    }
    let run = migration.live_run(&plan.hash);
    assert_eq!(run.exit, 1, "{}", run.stderr);
    assert!(
        run.json().to_string().contains("have it shared again"),
        "{}",
        run.json()
    );
    assert_eq!(run.json()["totals"]["already_gone"], 0);
    let mut others = plan.deletes.clone();
    others.retain(|key| key.0 != *calendar);
    migration.sim.assert_only_deleted(&others);
    let calendar = &migration.loss()["scopes"]["calendar"];
    assert_eq!(calendar["complete"], false, "{calendar}");
    // It can be seen again.
    migration.sim.clear_faults();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_most_grants_are_dead_the_plan_says_so() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(26)
    };
    let migration = Migration::start(spec.users(4).events_per_user(4)).await;
    let go_live = migration.go_live();
    let told = || {
        let mut command = migration.world.command(["cleanup", "calendar"]);
        let dry = ["--dry-run", "--as", MAKER, "--user-interval", "1ms"];
        command.args(dry).args(["--go-live", &go_live]);
        command
            .envs(migration.sim.env())
            .current_dir(&migration.folder);
        output(&mut command).ok().stdout
    };
    assert!(!told().contains("more than half"));
    let grants: Vec<String> = migration.sim.world().grants[..3]
        .iter()
        .map(|grant| grant.refresh_token.clone())
        .collect();
    assert!(grants.iter().all(|grant| migration.sim.kill_grant(grant)));
    let said = told();
    assert!(said.contains("3 of 4 users' grants are refused"), "{said}");
}

/// An export of another deployment, or of a fresh one, knows nothing of what v2's users rely on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_production_that_does_not_know_v1s_cases_is_another() {
    let migration = Migration::start(WorldSpec::seeded(22)).await;
    let go_live = migration.go_live();
    let name = migration.exports.production_zip.file_stem().unwrap();
    let empty = migration.folder.path().join("fresh").join(name);
    for table in ["cases", "userProfiles"] {
        std::fs::create_dir_all(empty.join(table)).unwrap();
        std::fs::write(empty.join(table).join("documents.jsonl"), "").unwrap();
    }
    let development = &migration.exports.dev_zip;
    let policy = migration.folder.path().join("policy.toml");
    let strict = include_str!("../../schema/policies/perm-tracker-calendar.toml")
        .replace("v2_knows_min_percent = 0", "v2_knows_min_percent = 50");
    std::fs::write(&policy, strict).unwrap();
    for (other, policy) in [(&empty, None), (development, Some(&policy))] {
        let dry = ["--dry-run", "--go-live", &go_live, "--v2-export"];
        let mut command = migration.cleanup(MAKER, &dry);
        command.arg(other);
        if let Some(policy) = policy {
            command.arg("--policy").arg(policy);
        }
        let report = output(&mut command).ok().json();
        let dispositions = &report["totals"]["dispositions"];
        assert_eq!(dispositions.get("delete"), None, "{other:?}");
        assert!(dispositions["hold"].as_u64() > Some(50), "{dispositions}");
        assert_eq!(report["totals"]["v2_known"], false);
        let found = migration.log(&["item.found"]);
        let held = found.iter().rev().find(|line| {
            let class = &line["payload"]["class"];
            class == "V1_RECORDED"
        });
        let reason = &held.unwrap()["payload"]["reason"];
        assert!(reason.as_str().unwrap().contains("too little"), "{reason}");
    }
    // Where it may be a person is told to look.
    let mut command = migration.world.command(["cleanup", "calendar"]);
    command.args(["--dry-run", "--as", MAKER, "--user-interval", "1ms"]);
    command.args(["--go-live", &go_live, "--v2-export"]);
    command.arg(development).current_dir(&migration.folder);
    command.envs(migration.sim.env());
    for name in [
        "CONVEX_URL",
        "CONVEX_DEV_URL",
        "CONVEX_DEPLOY_KEY",
        "CONVEX_DEV_DEPLOY_KEY",
    ] {
        command.env_remove(name);
    }
    let said = output(&mut command).ok().stdout;
    assert!(said.contains("of v1's cases, which is few"), "{said}");
    // Nor does a plan that was made with the right one go by another.
    let plan = migration.approved_plan();
    let live = ["--plan", &plan.hash, "--go-live", &go_live, "--v2-export"];
    let mut command = migration.cleanup(RUNNER, &live);
    command.arg(&empty).arg("--v2-dev-export").arg(development);
    let refused = output(&mut command);
    assert_eq!(refused.exit, 1, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("cases of v2's production and 0 were read now"),
        "{}",
        refused.stderr
    );
    migration.sim.assert_only_reads();
    migration.live_run(&plan.hash).ok();
    migration.sim.assert_only_deleted(&plan.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_of_another_client_is_one_users_until_it_is_everybodys() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(23)
    };
    let migration = Migration::start(spec.users(8).events_per_user(4)).await;
    let other = || {
        let refused = FaultKind::reason(401, "unauthorized_client");
        Fault::once(Call::Token, refused).when(Occurrence::Always)
    };
    let account = migration.sim.world().calendars[0].owner.clone();
    migration.sim.add_fault(other().for_account(&account));
    let report = migration.dry_run();
    let users = report["users"].as_array().unwrap();
    let reasons = users.iter().filter(|user| user["access"] != "reachable");
    let reasons: Vec<&Value> = reasons.map(|user| &user["reason"]).collect();
    let [reason] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    assert!(
        reason
            .as_str()
            .unwrap()
            .contains("does not take this grant"),
        "{reason}"
    );
    migration.sim.clear_faults();
    let accounts = migration.sim.world().calendars.iter();
    for account in accounts.map(|calendar| calendar.owner.clone()) {
        migration.sim.add_fault(other().for_account(account));
    }
    let refused = output(&mut migration.dry_command());
    assert_eq!(refused.exit, 4, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("GOOGLE_CLIENT_ID"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_user_holds_up_nobody() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(24)
    };
    let migration = Migration::start(spec.users(6).events_per_user(4)).await;
    let expected = migration.dry_run();
    let listed = || {
        let journal = migration.sim.journal().into_iter();
        let lists = journal.filter(|entry| entry.call == Some(Call::EventsList));
        lists
            .map(|entry| entry.account.unwrap())
            .collect::<Vec<_>>()
    };
    let before = listed();
    let first = before.first().unwrap();
    let slow = Fault::once(Call::EventsList, FaultKind::retry_after(429, "2"));
    migration.sim.add_fault(slow.for_account(first));
    let mut command = migration.dry_command();
    let report = output(command.args(["--users-at-once", "2"])).ok().json();
    let asked = listed().split_off(before.len());
    assert_eq!(asked.last(), Some(first), "{asked:?}");
    // Whoever was asked first, it is the same plan.
    assert_eq!(report["totals"]["classes"], expected["totals"]["classes"]);
    assert_eq!(report["users"], expected["users"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_grants_for_an_account_the_one_that_may_write_is_taken() {
    for n in [0, 1] {
        let mut world = WorldSpec::seeded(25).as_of(now()).generate();
        let (account, users) = sharing(&world);
        let grants = world.grants.iter_mut();
        let mut grants = grants.filter(|grant| grant.account == account);
        grants.nth(n).unwrap().scopes = BTreeSet::from([Scope::EventsReadonly]);
        let migration = Migration::of(world).await;
        let plan = migration.approved_plan();
        assert!(plan.deletes.iter().any(|key| key.0 == account));
        let report = migration.live_run(&plan.hash).ok().json();
        let lines = report["users"].as_array().unwrap();
        let taken = &users[1 - n].0;
        assert!(lines.iter().any(|line| line["user"] == taken.as_str()));
        migration.sim.assert_only_deleted(&plan.deletes);
        migration.assert_ledger_accounts_for_all();
    }
}
