//! Credentials that an operator brings along: calendars are looked at, and events put back, without v1's database and keys.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use chrono::Duration;
use ledger_sim::google_oauth::{Grant, Scope};
use ledger_sim::http::Service;
use ledger_sim::{World as SimWorld, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{APPROVER, Migration, now, total};
use crate::world::output;

/// The accounts of a world get a second grant of this scope: a refresh token, or, for the first, an access token. With the lines that name
/// their tokens, one for each account, and one for each user of it.
pub(crate) fn with_grants(mut world: SimWorld, scope: Scope) -> (SimWorld, Vec<Value>) {
    let accounts: BTreeSet<String> = world
        .grants
        .iter()
        .map(|grant| grant.account.clone())
        .collect();
    let mut lines = Vec::new();
    for (n, account) in accounts.into_iter().enumerate() {
        let (refresh, access) = (format!("1//0own{n}"), format!("ya29.own{n}"));
        let mut line = if n == 0 {
            json!({"access_token": access})
        } else {
            json!({"refresh_token": refresh})
        };
        line["account"] = account.clone().into();
        lines.push(line.clone());
        let users = world.users.iter();
        for user in users.filter(|user| user.account.as_ref() == Some(&account)) {
            line["user"] = user.id.clone().into();
            lines.push(line.clone());
        }
        world.grants.push(Grant {
            refresh_token: refresh,
            account,
            client_id: world.keys.client_id.clone(),
            scopes: BTreeSet::from([scope]),
            revoked: false,
            access_token: Some((access, now() + Duration::hours(1))),
        });
    }
    (world, lines)
}

/// The file of these lines, of this mode.
pub(crate) fn file(migration: &Migration, name: &str, lines: &[Value], mode: u32) -> PathBuf {
    let path = migration.folder.path().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Without what only v1 is asked with.
pub(crate) fn without_v1(command: &mut Command) -> &mut Command {
    for name in ["SUPABASE_URL", "SUPABASE_KEY", "ENCRYPTION_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Second calendars too, and no account that is two users'.
fn world(seed: u64) -> SimWorld {
    let spec = WorldSpec {
        channels: true,
        ..WorldSpec::seeded(seed)
    };
    spec.as_of(now()).generate()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_undone_after_v1_is_gone() {
    let (world, lines) = with_grants(world(87), Scope::Events);
    let revoked: Vec<String> = world
        .grants
        .iter()
        .map(|grant| grant.refresh_token.clone())
        .filter(|token| !token.starts_with("1//0own"))
        .collect();
    let migration = Migration::of(world).await;
    let (plan, run) = migration.cleaned_up();
    let second = |calendar: &str| calendar.ends_with("@group.example.com");
    assert!(plan.deletes.iter().any(|key| second(&key.0)));
    for token in revoked {
        migration.sim.kill_grant(&token);
    }
    let begun = migration.sim.journal().len();
    let own = file(&migration, "own", &lines, 0o600);
    let with = |arguments: &[&str]| {
        let mut command = migration.restore_command(arguments);
        output(without_v1(&mut command).arg("--credentials").arg(&own))
    };
    let preview = with(&["--run", &run, "--dry-run", "--override", "case 17"]);
    let count = plan.deletes.len() as u64;
    assert_eq!(total(&preview.ok().json(), "possible"), count);
    let restored = with(&[
        "--run",
        &run,
        "--reason",
        "case 17",
        "--override",
        "case 17",
    ]);
    let report = restored.ok().json();
    assert_eq!(total(&report, "restored"), count, "{report:#}");
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();

    let mut observe = migration.observe_command(&run, APPROVER);
    let observe = without_v1(&mut observe).arg("--credentials").arg(&own);
    let seen = output(observe).ok().json();
    assert_eq!(seen["status"], "as_recorded", "{seen:#}");
    let mut sample = migration.world.command([
        "review",
        "sample",
        "--json",
        "--seed",
        "s",
        "--plan",
        &plan.hash,
        "--log-only",
    ]);
    let sample = without_v1(sample.envs(migration.sim.env())).arg("--credentials");
    let refused = output(sample.arg(&own));
    assert_eq!(
        refused.exit, 2,
        "it is for reading again: {}",
        refused.stderr
    );

    let after = &migration.sim.journal()[begun..];
    assert!(after.iter().all(|it| it.service != Service::Supabase));
    let log = migration.log(&["run.started"]);
    let undone = log
        .iter()
        .filter(|line| line["payload"]["verb"] == "restore");
    for restore in undone {
        assert_eq!(restore["payload"]["options"]["credentials"], "own");
    }
    for entry in std::fs::read_dir(migration.logs()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("ya29.own") && !text.contains("1//0own"));
    }
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_only_read_put_nothing_back_and_the_right_ones_go_on() {
    let (reading, lines) = with_grants(world(88), Scope::EventsReadonly);
    let migration = Migration::of(reading).await;
    let (plan, run) = migration.cleaned_up();
    let deletions = migration.sim.calendar_writes().len();
    let own = file(&migration, "own", &lines, 0o600);
    let arguments = [
        "--run",
        &run,
        "--reason",
        "case 17",
        "--override",
        "case 17",
    ];
    let mut command = migration.restore_command(&arguments);
    let refused = output(without_v1(&mut command).arg("--credentials").arg(&own));
    assert_eq!(refused.exit, 1, "{}", refused.stderr);
    let report = refused.json();
    assert_eq!(total(&report, "restored"), 0);
    assert_eq!(total(&report, "failed"), plan.deletes.len() as u64);
    let gone: BTreeSet<_> = migration.sim.deleted().into_iter().collect();
    assert_eq!(gone, plan.deletes);
    // What one user's credentials cannot do is not tried for each of the user's events.
    let tried = migration.sim.calendar_writes().len() - deletions;
    assert!(tried < plan.deletes.len(), "{tried}");
    let text = refused.stdout + &refused.stderr;
    assert!(text.contains("insufficientPermissions"), "{text}");
    migration.restore(&arguments).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
}
