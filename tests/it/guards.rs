//! The guards: who may not change the log, and that a guard which is off is told.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::server::execute;
use crate::tamper::{TABLES, healthy};
use crate::tamper_proof::{cosigned, fill};
use crate::world::{World, output};

#[tokio::test]
async fn a_guard_that_is_off_makes_the_verdict_unknown() {
    let world = World::start().await;
    let mut connection = world.superuser().await;
    let guards: &[(&str, &str, &str)] = &[
        (
            "alter table ledger.entries disable trigger refuse_change",
            "alter table ledger.entries enable always trigger refuse_change",
            "trigger refuse_change on ledger.entries is off",
        ),
        (
            "alter table ledger.heads enable trigger moves_forward",
            "alter table ledger.heads enable always trigger moves_forward",
            "trigger moves_forward on ledger.heads is off",
        ),
        (
            "alter table ledger.keys enable replica trigger refuse_truncate",
            "alter table ledger.keys enable always trigger refuse_truncate",
            "trigger refuse_truncate on ledger.keys is off",
        ),
        (
            "drop trigger announced_delete on ledger.identity; \
             create trigger announced_delete after insert on ledger.identity for each statement execute function ledger.announced_only(); \
             alter table ledger.identity enable always trigger announced_delete",
            "drop trigger announced_delete on ledger.identity; \
             create trigger announced_delete after delete on ledger.identity referencing old table as gone for each statement execute function ledger.announced_only(); \
             alter table ledger.identity enable always trigger announced_delete",
            "trigger announced_delete on ledger.identity is off",
        ),
        (
            "alter table ledger.payloads disable trigger announced_delete",
            "alter table ledger.payloads enable always trigger announced_delete",
            "trigger announced_delete on ledger.payloads is off",
        ),
        (
            "alter table ledger.keys enable trigger announced_update",
            "alter table ledger.keys enable always trigger announced_update",
            "trigger announced_update on ledger.keys is off",
        ),
        (
            "create trigger a before insert on ledger.payloads for each row execute function ledger.refuse_change()",
            "drop trigger a on ledger.payloads",
            "trigger a on ledger.payloads is not ours",
        ),
        (
            "create rule r as on insert to ledger.entries do instead nothing",
            "drop rule r on ledger.entries",
            "rule r on ledger.entries is not ours",
        ),
        (
            "grant insert on ledger.entries to ledger_writer",
            "revoke insert on ledger.entries from ledger_writer",
            "ledger_writer may insert ledger.entries",
        ),
        (
            "grant update (hash) on ledger.heads to ledger_reader",
            "revoke update (hash) on ledger.heads from ledger_reader",
            "ledger_reader may update ledger.heads (hash)",
        ),
        (
            "grant truncate on ledger.payloads to public",
            "revoke truncate on ledger.payloads from public",
            "everybody may truncate ledger.payloads",
        ),
        (
            "grant create on schema ledger to ledger_writer",
            "revoke create on schema ledger from ledger_writer",
            "ledger_writer may create in schema ledger",
        ),
        (
            "alter table ledger.keys owner to current_user",
            "alter table ledger.keys owner to ledger_owner",
            "ledger.keys does not belong to ledger_owner",
        ),
        (
            "alter table ledger.entries enable row level security; create policy p on ledger.entries using (true)",
            "drop policy p on ledger.entries; alter table ledger.entries disable row level security",
            "ledger.entries is not a plain table",
        ),
        (
            "create function ledger.back_door() returns void language sql as 'select'",
            "drop function ledger.back_door()",
            "function ledger.back_door is not ours",
        ),
        (
            "alter function ledger.append owner to current_user",
            "alter function ledger.append owner to ledger_owner",
            "function ledger.append has another owner or search_path",
        ),
        (
            "alter table ledger.checkpoints disable trigger refuse_change",
            "alter table ledger.checkpoints enable always trigger refuse_change",
            "trigger refuse_change on ledger.checkpoints is off",
        ),
        (
            "update ledger._sqlx_migrations set checksum = sha256(checksum) where version = 5",
            "update ledger._sqlx_migrations m set checksum = s.checksum from public.saved_migrations s where s.version = m.version",
            "migration 5 has another text, or did not end",
        ),
        (
            "do $$ begin execute format('alter database %I set session_replication_role = replica', current_database()); end $$",
            "do $$ begin execute format('alter database %I reset session_replication_role', current_database()); end $$",
            "session_replication_role is replica here",
        ),
        (
            "do $$ begin execute format('alter role ledger_reader in database %I set session_replication_role = replica', current_database()); end $$",
            "do $$ begin execute format('alter role ledger_reader in database %I reset session_replication_role', current_database()); end $$",
            "session_replication_role is set for role ledger_reader",
        ),
        (
            "alter function ledger.refuse_change reset search_path",
            "alter function ledger.refuse_change set search_path = pg_catalog, pg_temp",
            "function ledger.refuse_change has another owner or search_path",
        ),
    ];
    let saved = "create table public.saved_migrations as table ledger._sqlx_migrations";
    execute(&mut connection, saved).await;
    for (off, on, named) in guards {
        execute(&mut connection, *off).await;
        let (exit, report) = world.verify(&[]);
        assert_eq!(
            (exit, &report["verdict"]),
            (3, &json!("unknown")),
            "{off}: {report}"
        );
        let unchecked: Vec<&str> = report["unchecked"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let guards: Vec<_> = unchecked
            .iter()
            .filter(|what| what.starts_with("guard: "))
            .collect();
        assert_eq!(guards, [&format!("guard: {named}")], "{off}");
        execute(&mut connection, *on).await;
        world.assert_intact();
    }
    // The function that refuses, made to let everything through.
    let source: String =
        sqlx::query_scalar("select pg_get_functiondef('ledger.refuse_change'::regproc)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let open = source.replace("begin", "begin if true then return new; end if;");
    assert_ne!(open, source);
    execute(&mut connection, open).await;
    let (exit, report) = world.verify(&[]);
    assert_eq!(exit, 3, "{report}");
    assert!(
        report["unchecked"]
            .to_string()
            .contains("function ledger.refuse_change has another text"),
        "{report}"
    );
    execute(&mut connection, source).await;
    world.assert_intact();
}

/// The code of the error that a statement ends with.
async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
    {
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn the_programs_role_may_append_and_nothing_else() {
    const DENIED: &str = "42501";
    let world = healthy().await;
    let mut superuser = world.superuser().await;
    let mut writer = world.writer().await;
    let mut reader = world.writer().await;
    execute(&mut superuser, "grant ledger_reader to it_writer").await;
    execute(&mut reader, "set role ledger_reader").await;
    for table in TABLES.iter().chain(&["_sqlx_migrations"]) {
        let column: String = sqlx::query_scalar("select column_name::text from information_schema.columns where table_schema = 'ledger' and table_name = $1 limit 1")
            .bind(table)
            .fetch_one(&mut superuser)
            .await
            .unwrap();
        for statement in [
            format!("update ledger.{table} set {column} = {column}"),
            format!("delete from ledger.{table}"),
            format!("truncate ledger.{table}"),
            format!("insert into ledger.{table} select * from ledger.{table}"),
            format!(
                "insert into ledger.{table} select * from ledger.{table} on conflict do nothing"
            ),
            format!("do $$ begin lock ledger.{table} in exclusive mode; end $$"),
            format!("copy ledger.{table} from stdin"),
            format!("drop table ledger.{table}"),
            format!("alter table ledger.{table} disable trigger all"),
            format!(
                "create trigger t before insert on ledger.{table} for each row execute function ledger.refuse_change()"
            ),
        ] {
            assert_eq!(
                refused(&mut writer, &statement).await,
                DENIED,
                "{statement}"
            );
            assert_eq!(
                refused(&mut reader, &statement).await,
                DENIED,
                "{statement}"
            );
        }
    }
    for statement in [
        "select ledger.refuse_change()",
        "select ledger.announced(gen_random_uuid())",
        "set session_replication_role = replica",
        "set role ledger_owner",
        "create table ledger.mine (n int)",
        "create or replace function ledger.refuse_change() returns trigger language plpgsql as $$ begin return new; end $$",
        "alter function ledger.append security invoker",
    ] {
        assert_eq!(refused(&mut writer, statement).await, DENIED, "{statement}");
    }
    for statement in [
        "select ledger.create(gen_random_uuid(), 'x', 'system')",
        "select ledger.erase(gen_random_uuid(), '', '', '{}', '{}')",
        "select ledger.rewrap(gen_random_uuid(), '{}', '{}', '{}')",
        "select ledger.erasable(gen_random_uuid(), '')",
        "insert into ledger_work.leases default values",
    ] {
        assert_eq!(refused(&mut reader, statement).await, DENIED, "{statement}");
    }
    world.assert_intact();
}

#[tokio::test]
async fn owners_and_superusers_are_refused_by_the_triggers() {
    let world = healthy().await;
    fill(&world, 256).await;
    cosigned(&world).await;
    for role in [
        "set role ledger_owner",
        "reset role",
        "set session_replication_role = replica",
    ] {
        let mut connection = world.superuser().await;
        execute(&mut connection, role).await;
        for table in TABLES {
            let statements = [
                format!("update ledger.{table} set ledger_id = gen_random_uuid()"),
                format!("update ledger.{table} set ledger_id = ledger_id"),
                format!("delete from ledger.{table}"),
                format!("truncate ledger.{table}"),
            ];
            for statement in statements {
                assert_eq!(
                    refused(&mut connection, &statement).await,
                    "42501",
                    "{role}: {statement}"
                );
            }
        }
        for statement in [
            "update ledger.heads set size = size - 1",
            "update ledger.heads set size = size",
            "update ledger.heads set size = size + 1, name = 'other'",
            "update ledger.heads set size = size + 1, recorded_at = recorded_at - interval '1 second'",
        ] {
            assert_eq!(
                refused(&mut connection, statement).await,
                "42501",
                "{role}: {statement}"
            );
        }
    }
    world.assert_intact();
}

#[tokio::test]
async fn an_owner_that_connects_gives_its_power_up_and_is_told() {
    let world = World::start().await;
    let strong = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env(
            "DATABASE_URL",
            world.server().superuser_url(world.database()),
        );
        output(&mut command)
    };
    let log = strong(&["log"]).ok();
    assert_eq!(
        log.stderr,
        "note: this login could change the log's tables; the role ledger_writer was set instead\n"
    );
    let verify = strong(&["verify", "--json"]).ok();
    assert!(
        verify.json()["unchecked"]
            .to_string()
            .contains("could change the log's tables"),
        "{verify:?}"
    );
    assert_eq!(world.ledger(["log"]).ok().stderr, "");
}
