//! The catalogue: what vanished with everything that belonged to it is missed all the same.

use serde_json::{Value, json};

use crate::server::execute;
use crate::world::{World, line};

/// SQL that does something to a table with its triggers off.
pub(crate) fn without_triggers(table: &str, sql: &str) -> String {
    format!(
        "begin; alter table ledger.{table} disable trigger user; {sql}; \
         do $$ declare t record; begin \
             for t in select tgname from pg_trigger where tgrelid = 'ledger.{table}'::regclass and not tgisinternal loop \
                 execute format('alter table ledger.{table} enable always trigger %I', t.tgname); \
             end loop; end $$; commit"
    )
}

/// Removes every row of a ledger, as somebody who can do anything.
async fn vanish(world: &World, name: &str) {
    let mut superuser = world.superuser().await;
    let id: uuid::Uuid = sqlx::query_scalar("select ledger_id from ledger.heads where name = $1")
        .bind(name)
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    for table in crate::tamper::TABLES {
        let delete = format!("delete from ledger.{table} where ledger_id = '{id}'");
        execute(&mut superuser, without_triggers(table, &delete)).await;
    }
}

#[tokio::test]
async fn a_ledger_that_vanished_is_missed() {
    let world = World::with_ledger(&["one"]).await;
    world.ledger(["init", "two"]).ok();
    for name in ["one", "two", "catalogue"] {
        let report = world
            .ledger(["verify", "--json", "--ledger", name])
            .ok()
            .json();
        assert_eq!(
            (&report["verdict"], &report["catalogue"]),
            (&json!("intact"), &json!([]))
        );
    }
    let listed = world
        .ledger(["log", "--json", "--ledger", "catalogue"])
        .ok()
        .lines();
    let types: Vec<&Value> = listed.iter().map(|line| &line["type"]).collect();
    assert_eq!(types, ["ledger.created", "ledger.listed", "ledger.listed"]);

    vanish(&world, "two").await;
    for name in ["one", "catalogue"] {
        let output = world.ledger(["verify", "--ledger", name]);
        assert_eq!(output.exit, 1, "{output:?}");
        assert!(
            output.stdout.contains("by the catalogue, ledger two ("),
            "{output:?}"
        );
        assert!(output.stdout.contains("is gone"), "{output:?}");
    }
    // It was the only one, or so it seems.
    vanish(&world, "one").await;
    let output = world.ledger(["verify"]);
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(output.stderr.contains("ledger one ("), "{output:?}");
}

/// With its lines in the catalogue gone as well, it is the catalogue that is broken.
#[tokio::test]
async fn a_ledger_that_vanished_from_the_catalogue_too_is_missed() {
    let world = World::with_ledger(&["one"]).await;
    world.ledger(["init", "two"]).ok();
    world.ledger(["init", "three"]).ok();
    vanish(&world, "two").await;
    let mut superuser = world.superuser().await;
    let catalogue: uuid::Uuid =
        sqlx::query_scalar("select ledger_id from ledger.heads where name = 'catalogue'")
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    for table in ["entries", "payloads"] {
        let delete =
            format!("delete from ledger.{table} where ledger_id = '{catalogue}' and seq = 3");
        execute(&mut superuser, without_triggers(table, &delete)).await;
    }
    let output = world.ledger(["verify", "--ledger", "one"]);
    assert_eq!(output.exit, 1, "{output:?}");
    let words = "by the catalogue, its own seq 3: entry is missing";
    assert!(output.stdout.contains(words), "{output:?}");
}

#[tokio::test]
async fn the_catalogue_is_not_counted_where_the_only_ledger_is_looked_for() {
    let world = World::start().await;
    world.append(&[line("test.happened", "service:api", &json!({}))]);
    let refused = world.ledger(["init", "catalogue"]);
    assert_eq!(refused.exit, 2, "{refused:?}");
    let refused = world.ledger(["log", "--ledger", "other"]);
    assert_eq!(refused.exit, 2, "{refused:?}");
    assert!(!refused.stderr.contains("  catalogue"), "{refused:?}");
}

#[tokio::test]
async fn a_catalogue_that_is_gone_or_damaged_is_told() {
    let world = World::start().await;
    let mut superuser = world.superuser().await;
    let edit = "update ledger.entries e set bytes = bytes || 'x' from ledger.heads h \
                where h.ledger_id = e.ledger_id and h.name = 'catalogue' and seq = 2";
    execute(&mut superuser, without_triggers("entries", edit)).await;
    let (status, report) = world.verify(&[]);
    assert_eq!((status, &report["broken"]), (1, &json!([])), "{report}");
    let words = "its own seq 2: bytes are not an entry";
    assert!(report["catalogue"].to_string().contains(words), "{report}");
    assert_eq!(world.verify_exit(&["--ledger", "catalogue"]), 1);
    vanish(&world, "catalogue").await;
    let report = world.assert_intact();
    assert!(
        report["warnings"]
            .to_string()
            .contains("there is no catalogue"),
        "{report}"
    );
}
