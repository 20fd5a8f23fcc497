//! What a cleanup refuses: wrong settings, wrong keys, wrong people, the wrong time. Each with its status, its words, and
//! nothing sent that changes anything.

use std::collections::BTreeMap;
use std::process::Command;

use chrono::Duration;
use ledger::domain::event::{Event, PlanApproved};
use ledger::domain::id::{Actor, Subject, Timestamp};
use ledger::store::Draft;
use ledger_sim::{Sim, UsersTable, WorldSpec};
use serde_json::json;

use crate::migration::{APPROVER, MAKER, Migration, Plan, RUNNER, now, total};
use crate::world::{Output, output};

/// A small world, and a dry run of it with something changed; nothing is sealed by it.
async fn small() -> Migration {
    Migration::start(WorldSpec::seeded(31).users(22).events_per_user(4)).await
}

/// Fails unless nothing was approved, sealed or sent by this.
fn assert_nothing_done(migration: &Migration, refused: &Output) {
    assert_ne!(refused.exit, 0, "{}", refused.stdout);
    assert_eq!(refused.stdout, "");
    migration.sim.assert_only_reads();
    assert_eq!(migration.log(&["plan.sealed"]).len(), 0);
    assert_eq!(migration.log(&["item.found"]).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_wrong_variables_are_listed_at_once() {
    let migration = small().await;
    let mut command = migration.dry_command();
    for name in ["SUPABASE_KEY", "GOOGLE_CLIENT_SECRET"] {
        command.env_remove(name);
    }
    command
        .env("ENCRYPTION_KEY", "c2hvcnQ=")
        .env("SUPABASE_URL", "db.example.com");
    let refused = output(&mut command);
    assert_nothing_done(&migration, &refused);
    assert!(migration.sim.journal().is_empty());
    ledger_snapshot!(refused, @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read the worker's environment: 4 variable(s) to set right
      SUPABASE_URL: is not a URL: relative URL without a base (v1's Supabase project, https://<ref>.supabase.co)
      SUPABASE_KEY: is not set (v1's service role key)
      ENCRYPTION_KEY: it is base64 of 5 bytes, and a Fernet key has 32 (v1's Fernet key for the stored tokens)
      GOOGLE_CLIENT_SECRET: is not set (the secret of v1's Google OAuth client)
    hint: set them as README shows; nothing was read or deleted
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_not_v1s_are_refused() {
    let migration = small().await;
    let keys = migration.sim.world().keys.clone();

    let mut command = migration.dry_command();
    // Of the right form, and another project's.
    let refused = output(command.env(
        "ENCRYPTION_KEY",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ));
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: open v1's stored tokens: ENCRYPTION_KEY opens none of 20
    hint: set ENCRYPTION_KEY to v1's own; nothing was deleted
    ");

    let refused = output(migration.dry_command().env("SUPABASE_KEY", &keys.anon_key));
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read the worker's environment: 1 variable(s) to set right
      SUPABASE_KEY: is the anon key; use the service role key (or sb_secret_...): with this one a full table answers 0 rows (v1's service role key)
    hint: set them as README shows; nothing was read or deleted
    ");

    let refused = output(
        migration
            .dry_command()
            .env("SUPABASE_KEY", "sb_secret_of_another_project"),
    );
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: read v1's users and cases from Supabase
      caused by: supabase.rest.select failed at attempt 1 (auth, HTTP 401): Invalid API key: SUPABASE_KEY is not a key of this project
    hint: check SUPABASE_URL and SUPABASE_KEY (the service role's key); nothing was deleted
    ");

    let refused = output(
        migration
            .dry_command()
            .env("GOOGLE_CLIENT_SECRET", "GOCSPX-another"),
    );
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: ask Google for a token as v1's OAuth client
      caused by: oauth.token failed at attempt 1 (auth, HTTP 401): invalid_client: the OAuth client is wrong, for every user
    hint: check GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET: v1's own
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_is_no_success() {
    let migration = small().await;
    // What row-level security shows to a key that it does not know.
    migration.sim.with_database(|database| {
        for name in ["perm_users", "cases"] {
            let table = database.table(name).unwrap();
            let columns: Vec<_> = table.columns.iter().map(|c| (c.name, c.kind)).collect();
            database.add(name, ledger_sim::supabase::Table::new(&columns));
        }
    });
    let refused = output(&mut migration.dry_command());
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: read v1's users and cases from Supabase
      caused by: read v1's users: perm_users has 0 rows for this key, which is no success; an anon key, or row-level security, hides rows without an error: use the service role key
    hint: check SUPABASE_URL and SUPABASE_KEY (the service role's key); nothing was deleted
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_is_given_up_soon() {
    let migration = small().await;
    let closed = closed_port();
    for (name, value) in [
        ("SUPABASE_URL", format!("http://{closed}")),
        ("GOOGLE_OAUTH_TOKEN_URL", format!("http://{closed}/token")),
    ] {
        let refused = output(migration.dry_command().env(name, value));
        assert_nothing_done(&migration, &refused);
        if name == "SUPABASE_URL" {
            ledger_snapshot!(refused, @r"
            exit: 4
            ----- stdout -----
            ----- stderr -----
            error: read v1's users and cases from Supabase
              caused by: supabase.rest.select failed at attempt 3 (network)
              caused by: supabase.rest.select: no connection, the request was not sent
              caused by: error sending request
              caused by: client error (Connect)
              caused by: tcp connect error
              caused by: Connection refused (os error 111)
            hint: check the network and SUPABASE_URL; nothing was deleted
            ");
        } else {
            ledger_snapshot!(refused, @r"
            exit: 4
            ----- stdout -----
            ----- stderr -----
            error: ask Google for a token as v1's OAuth client
              caused by: oauth.token failed at attempt 3 (network)
              caused by: oauth.token: no connection, the request was not sent
              caused by: error sending request
              caused by: client error (Connect)
              caused by: tcp connect error
              caused by: Connection refused (os error 111)
            hint: check the network and GOOGLE_OAUTH_TOKEN_URL; nothing was deleted
            ");
        }
    }
    // Every calendar unreachable is nobody's plan: the users are listed as not reached, and nothing is to be deleted.
    let calendar = format!("http://{closed}/calendar/v3");
    let report = output(
        migration
            .dry_command()
            .env("GOOGLE_CALENDAR_API_URL", calendar),
    );
    assert!(Plan::of(&report.ok().json()).deletes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_database_is_said_before_anything_is_sent() {
    let migration = small().await;
    let address = format!("postgresql://nobody:nothing@{}/ledger", closed_port());
    let refused = output(migration.dry_command().env("DATABASE_URL", address));
    assert_nothing_done(&migration, &refused);
    assert!(migration.sim.journal().is_empty());
    assert_eq!(refused.exit, 4);
    for said in [
        "error: connect to the database",
        "Connection refused",
        "nothing was recorded; check DATABASE_URL",
    ] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_refused() {
    let migration = small().await;
    migration.sim.clock().set_offset(Duration::minutes(-20));
    let refused = output(&mut migration.dry_command());
    assert_nothing_done(&migration, &refused);
    assert!(
        refused
            .stderr
            .contains("this machine's clock differs from Google's by")
    );
    assert_eq!(refused.exit, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tables_of_users_none_is_guessed() {
    let spec = WorldSpec {
        users_table: UsersTable::Both,
        ..WorldSpec::seeded(31).users(22).events_per_user(4)
    };
    let migration = Migration::start(spec).await;
    let refused = output(&mut migration.dry_command());
    assert_nothing_done(&migration, &refused);
    ledger_snapshot!(refused, @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read v1's users and cases from Supabase
      caused by: find v1's users: both perm_users (22 rows) and users (22 rows) exist, with the same ids; choose one with --users-table
    hint: give --users-table perm_users or users; nothing was deleted
    ");
    output(migration.dry_command().args(["--users-table", "users"])).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one story: every reason for a refusal, then the run"
)]
async fn a_live_run_is_refused_before_anything_is_sent() {
    let migration = small().await;
    let unknown = migration.live_run("00000000");
    let plan = Plan::of(&migration.dry_run());
    let before = migration.sim.journal().len();
    lapsed_approval(&migration, &plan).await;
    let lapsed = output(&mut migration.live_command(&plan.hash));
    assert_eq!(lapsed.exit, 1);
    assert!(
        lapsed.stderr.contains("the approval lapse"),
        "{}",
        lapsed.stderr
    );
    let plan = Plan::of(&migration.dry_run());
    ledger_snapshot!(unknown, @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: no plan 00000000 was sealed in this ledger
    hint: make one with `ledger cleanup calendar --dry-run`
    ");

    let live = |command: &mut Command| output(command);
    // Nobody has approved it.
    ledger_snapshot!(live(&mut migration.live_command(&plan.hash)), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: plan [SHORT] is not approved: somebody else runs `ledger approve [SHORT] --as NAME`
    ");
    // Its maker may not.
    let own = migration
        .world
        .ledger(["approve", &plan.hash, "--as", MAKER]);
    ledger_snapshot!(shortened(own, &plan), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: person:maker made plan [HASH]: somebody else has to approve it
    hint: nothing was recorded; a second person approves it with `--as NAME`
    ");
    migration.approve(&plan.hash);
    // The approver may not run it.
    let mut own = migration.cleanup(APPROVER, &["--plan", &plan.hash]);
    ledger_snapshot!(live(own.args(migration.told())), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: plan [SHORT] was approved by person:approver, who may not run it too: four eyes
    ");
    // Without v2's exports, with fewer than the plan's, with old ones, with missing ones.
    let go_live = migration.go_live();
    let with = |more: &[&str]| {
        let arguments = [&["--plan", &plan.hash, "--go-live", &go_live], more].concat();
        output(&mut migration.cleanup(RUNNER, &arguments))
    };
    let export = migration.exports.production_zip.to_str().unwrap();
    ledger_snapshot!(with(&[]), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: a live run needs to know what v2 records (CONVEX_URL and CONVEX_DEPLOY_KEY, or a fresh --v2-export), so that nothing v2 relies on is deleted
    ");
    ledger_snapshot!(with(&["--v2-export", export]), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: the plan was made with 2 exports of v2 and 1 was given now; give a fresh one for each (--v2-export)
    ");
    let mut old = migration.live_command(&plan.hash);
    ledger_snapshot!(live(old.args(["--v2-max-age", "1ms"])), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: what is known of v2 is older than --v2-max-age; export v2 anew (npx convex export --prod), or have it read live (CONVEX_URL), and run the same plan again
    ");
    ledger_snapshot!(with(&["--v2-export", "/nowhere/snapshot.zip"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read what v2 records
      caused by: read v2's export /nowhere/snapshot.zip
      caused by: No such file or directory (os error 2)
    hint: export v2 with `npx convex export --prod`
    ");
    // Another hash than the approved one.
    let other = Plan::of(&migration.dry_run());
    assert_ne!(other.hash, plan.hash);
    let sent = migration.sim.journal().len();
    assert_eq!(live(&mut migration.live_command(&other.hash)).exit, 1);
    assert_eq!(migration.sim.journal().len(), sent);
    // Before its time, or at a time that nobody has told.
    let early_go_live = (now() - Duration::hours(23)).to_rfc3339();
    let told = migration.told();
    let mut command = migration.cleanup(RUNNER, &["--plan", &plan.hash]);
    let early = output(command.args(["--go-live", &early_go_live]).args(&told[2..]));
    assert_eq!(early.exit, 1);
    assert!(
        early.stderr.contains("it is before go-live + 24 h"),
        "{}",
        early.stderr
    );

    assert_eq!(migration.sim.journal().len(), sent, "nothing was sent");
    assert!(before < sent);
    assert_eq!(migration.log(&["item.delete_intended"]).len(), 0);
    // The same with a reason, which is recorded.
    let mut command = migration.cleanup(
        RUNNER,
        &["--plan", &plan.hash, "--override", "agreed with support"],
    );
    let early = ["--go-live", &early_go_live];
    let report = output(command.args(early).args(&told[2..])).ok().json();
    assert_eq!(total(&report, "deleted"), plan.deletes.len() as u64);
    let [overridden] = &migration.log(&["gate.overridden"])[..] else {
        panic!("one entry")
    };
    assert_eq!(
        overridden["payload"],
        json!({"gate": "go_live_plus_24h", "reason": "agreed with support"})
    );
    assert_eq!(overridden["entry"]["actor"], format!("person:{RUNNER}"));
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
}

/// An approval of a plan that has lapsed.
async fn lapsed_approval(migration: &Migration, plan: &Plan) {
    let [sealed] = &migration.log(&["plan.sealed"])[..] else {
        panic!("one plan")
    };
    let subject: Subject = sealed["entry"]["subject"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let lapsed = now() - Duration::seconds(1);
    let approved = Event::PlanApproved(PlanApproved {
        plan: plan.hash.parse().unwrap(),
        expires_at: Timestamp::parse_lenient(&lapsed.to_rfc3339()).unwrap(),
        assurance: "asserted".to_owned(),
        dispositions: BTreeMap::new(),
    });
    let person = Actor::person(APPROVER).unwrap();
    let draft = Draft::of(&approved, subject.clone(), person, subject).unwrap();
    let store = migration.world.store().await;
    store.append(draft).await.unwrap();
    store.close().await;
}

/// The refusal without the plan that it shows first.
fn shortened(mut output: Output, _plan: &Plan) -> Output {
    output.stdout.clear();
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_address_leaves_the_payloads() {
    let mut migration = small().await;
    migration.live = true;
    let plan = migration.approved_plan();
    let sim = &migration.sim;
    let mut logged = migration.live_command(&plan.hash);
    let live = output(logged.arg("-vv")).ok();
    let again = output(migration.dry_command().arg("-vv")).ok();
    let secrets = secrets_of(sim);
    assert!(secrets.len() > 40, "{}", secrets.len());

    let mut shown = vec![("stderr".to_owned(), live.stderr + &again.stderr)];
    for file in std::fs::read_dir(migration.logs()).unwrap() {
        let path = file.unwrap().path();
        shown.push((
            path.display().to_string(),
            std::fs::read_to_string(&path).unwrap(),
        ));
    }
    assert_eq!(shown.len(), 4);
    let lines = migration.log(&[]);
    for name in ["entry", "bytes", "hash"] {
        let text: Vec<String> = lines.iter().map(|line| line[name].to_string()).collect();
        shown.push((format!("log --json: {name}"), text.join("\n")));
    }
    shown.push((
        "log".to_owned(),
        migration.world.ledger(["log"]).ok().stdout,
    ));
    let mut connection = migration.world.superuser().await;
    for (table, text) in dump(&mut connection).await {
        shown.push((table, text));
    }
    for (place, text) in &shown {
        let text = text.to_lowercase();
        assert!(!text.is_empty(), "{place}");
        for secret in &secrets {
            assert!(!text.contains(secret), "{place} holds {secret}");
        }
    }
}

/// Everything of the world that may be seen only by those who have its keys: keys, tokens, addresses.
fn secrets_of(sim: &Sim) -> Vec<String> {
    let world = sim.world();
    let mut secrets = vec![
        world.keys.service_key.clone(),
        world.keys.anon_key.clone(),
        world.keys.encryption_key.encoded(),
        world.keys.client_secret.clone(),
        world.keys.convex_key.clone(),
        world.keys.convex_dev_key.clone(),
    ];
    for user in &world.users {
        secrets.push(user.email.clone());
        secrets.extend(user.account.clone());
    }
    secrets.extend(world.grants.iter().map(|grant| grant.refresh_token.clone()));
    for secret in &mut secrets {
        *secret = secret.to_lowercase();
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort();
    secrets.dedup();
    secrets
}

/// Every table of the log as text, binary columns as the text that they may hold.
async fn dump(connection: &mut sqlx::PgConnection) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname like 'ledger%' order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut dumped = Vec::new();
    for table in tables {
        let columns: Vec<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select quote_ident(attname), format_type(atttypid, null) from pg_attribute \
             where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped",
        )))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        let columns: Vec<String> = columns
            .into_iter()
            .map(|(name, kind)| match kind.as_str() {
                "bytea" => format!("coalesce(encode({name}, 'escape'), '')"),
                _ => format!("coalesce({name}::text, '')"),
            })
            .collect();
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select concat_ws(' ', {}) from {table}",
            columns.join(", ")
        )))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        if !rows.is_empty() {
            dumped.push((table, rows.join("\n")));
        }
    }
    assert!(dumped.len() >= 4, "{dumped:?}");
    dumped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_lost_to_the_row_cap() {
    let users = 2_500;
    let migration = Migration::start(WorldSpec::seeded(41).users(users).events_per_user(1)).await;
    migration.sim.set_max_rows(1_000);
    let mut command = migration.dry_command();
    command
        .args(["--users-at-once", "32"])
        .env("LEDGER_GOOGLE_PROJECT_PER_MINUTE", "1000000");
    let report = output(&mut command).ok().json();
    assert_eq!(total(&report, "users"), users as u64);
    assert_eq!(report["users"].as_array().unwrap().len(), users);
    let deletes = Plan::of(&report).deletes;
    assert_eq!(deletes, migration.sim.to_be_deleted());
    migration.sim.assert_only_reads();
}

/// An address where nobody listens.
fn closed_port() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
