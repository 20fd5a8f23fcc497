//! The log file of a run: what it tells, who may read it, and what never stands in it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ledger_sim::WorldSpec;
use ledger_sim::supabase::Cell;

use crate::migration::{APPROVER, MAKER, Migration, RUNNER};
use crate::world::output;

/// The fields of a line.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split(' ')
        .filter_map(|field| field.split_once('='))
        .collect()
}

/// Fails unless a log is for its owner alone and holds no token, and no address.
fn read(migration: &Migration, path: &Path) -> String {
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(path).unwrap();
    let grants = &migration.sim.world().grants;
    let mut tokens = grants.iter().map(|grant| grant.refresh_token.as_str());
    assert!(!grants.is_empty() && !tokens.any(|token| text.contains(token)));
    for never in ["ya29.", "1//", "Bearer", "@"] {
        assert!(!text.contains(never), "{never}: {text}");
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_tells_what_was_done_and_what_was_not_begun_for_each_user() {
    let migration = Migration::start(WorldSpec::seeded(8).users(22).events_per_user(5)).await;
    let plan = migration.approved_plan();
    // Without --log-dir it lies in `logs`.
    let mut command = migration.like_cleanup(env!("CARGO_BIN_EXE_ledger"), RUNNER);
    command.args(["cleanup", "calendar", "--json", "--user-interval", "1ms"]);
    command.args(["--plan", &plan.hash, "--canary", "2"]);
    let report = output(command.args(migration.told())).json();
    assert_eq!(report["status"], "canary", "{report:#}");
    let run = report["run"].as_str().unwrap();
    let logs = migration.folder.path().join("logs");
    let text = read(&migration, &logs.join(format!("{run}.log")));
    let lines = |word: &'static str| {
        let of = move |line: &&str| line.split(' ').nth(1) == Some(word);
        text.lines().filter(of).map(fields).collect::<Vec<_>>()
    };
    let finished = lines("run.finished").remove(0);
    assert_eq!(finished["status"], "canary");
    let total = |name: &str| report["totals"][name].as_u64().unwrap().to_string();
    for name in ["planned", "deleted", "held", "failed", "not_begun"] {
        assert_eq!(finished[name], total(name), "{name}");
    }
    let users = lines("user");
    for (name, of_run) in [
        ("found", "planned"),
        ("deleted", "deleted"),
        ("failed", "failed"),
        ("not_begun", "not_begun"),
    ] {
        let counts = users.iter().map(|user| user[name].parse::<u64>().unwrap());
        assert_eq!(counts.sum::<u64>().to_string(), total(of_run), "{name}");
    }
    for user in &users {
        assert!(user["subject"].starts_with("user:") && user.contains_key("errors"));
    }
    let not_begun = lines("not_begun");
    assert!(!not_begun.is_empty());
    assert_eq!(not_begun.len().to_string(), total("not_begun"));
    let begun: usize = lines("item.delete_intended").len();
    assert_eq!(begun + not_begun.len(), plan.deletes.len());
    for item in not_begun {
        assert!(item["subject"].starts_with("calendar-event:") && item["class"].starts_with("V1_"));
        assert!(item["etag"].len() == 16 && item["outcome"] == "not_begun");
    }

    // Looking again and undoing keep theirs in the same way.
    let observed = output(&mut migration.observe_command(run, APPROVER)).json();
    let of = |report: &serde_json::Value| {
        let run = report["run"].as_str().unwrap();
        migration.logs().join(format!("{run}.log"))
    };
    let text = read(&migration, &of(&observed));
    assert!(
        text.contains("verb=observe") && text.contains("phase="),
        "{text}"
    );
    let restored = migration.restore(&["--run", run, "--reason", "case 17"]);
    let text = read(&migration, &of(&restored.json()));
    assert!(
        text.contains("run.finished") && text.contains(" restored="),
        "{text}"
    );
    for line in text.lines().filter(|line| line.contains(" item.restored ")) {
        let item = fields(line);
        assert!(item["class"].starts_with("V1_") && item["outcome"] == "restored");
        assert!(item["subject"].starts_with("calendar-event:") && item["etag"].len() == 16);
    }

    // With addresses, where they are asked for: of each place, and of its own user.
    let with_emails = |command: &mut std::process::Command| {
        let report = output(command.arg("--log-emails")).json();
        std::fs::read_to_string(of(&report)).unwrap()
    };
    let observed = with_emails(&mut migration.observe_command(run, APPROVER));
    let listed = observed
        .lines()
        .filter(|line| line.contains(" container.listed "));
    let places: Vec<_> = listed
        .map(|line| fields(line).contains_key("email"))
        .collect();
    assert!(
        !places.is_empty() && places.iter().all(|named| *named),
        "{observed}"
    );
    let plan = migration.approved_plan();
    let run = migration.live_run(&plan.hash).ok().json()["run"].clone();
    let undo = ["--run", run.as_str().unwrap()];
    let restored = with_emails(&mut migration.restore_command(&undo));
    let back = restored
        .lines()
        .filter(|line| line.contains(" item.restored "));
    let back: Vec<_> = back
        .map(|line| fields(line).contains_key("email"))
        .collect();
    assert!(
        !back.is_empty() && back.iter().all(|named| *named),
        "{restored}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_an_address_makes_no_line_of_its_own() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(9)
    };
    let migration = Migration::start(spec.users(3).events_per_user(5)).await;
    let made_up = "2026-01-01T00:00:00.000000Z item.deleted";
    let hash = "0".repeat(64);
    let address =
        format!("eve@example.com\n{made_up} seq=2 hash={hash} subject=a:b\u{1b}[2K\u{9b}1A");
    migration.sim.with_database(|database| {
        let table = database.table_mut("perm_users").unwrap();
        let email = table.position("email").unwrap();
        for row in table.rows_mut() {
            row[email] = Cell::Text(address.clone());
        }
    });
    let plain_text = |text: &str| {
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with(made_up)),
            "{text}"
        );
        assert!(text.contains(r"eve@example.com\n2026-01-01"), "{text}");
    };
    let run = |person: &str, arguments: &[&str]| {
        let mut command = migration.with_services(&["cleanup", "calendar", "--log-emails"]);
        let pace = ["--as", person, "--user-interval", "1ms"];
        let output = output(command.args(pace).args(arguments));
        plain_text(&output.stdout);
        let log = output.stderr.rsplit_once("log: ").unwrap().1.trim();
        let log = Path::new(log).to_owned();
        plain_text(&std::fs::read_to_string(&log).unwrap());
        // No receipt of what nobody wrote.
        let receipts = ["verify", "--receipts", log.to_str().unwrap()];
        migration.world.ledger(receipts).ok();
        output.stdout
    };
    let text = run(MAKER, &["--dry-run"]);
    let plan = text.lines().find_map(|line| line.strip_prefix("plan: "));
    let plan = plan.unwrap();
    migration.approve(plan);
    run(RUNNER, &["--plan", plan]);
    let text = migration.world.ledger(["review", "deletions"]).ok().stdout;
    plain_text(&text);
}
