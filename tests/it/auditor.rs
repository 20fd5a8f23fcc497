//! What somebody can check who may only read; and what an incremental check does not see.

use serde_json::json;

use crate::catalogue::without_triggers;
use crate::server::execute;
use crate::tamper_proof::{cosigned, fill};
use crate::world::{Output, World, output, temporary};

fn keep(world: &World, name: &str, note: &str) -> String {
    let path = world.home().join(name);
    std::fs::write(&path, note).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A login of `ledger_reader`, another machine's home, no key: everything that verifies answers, and nothing is written.
#[tokio::test]
async fn a_login_that_may_only_read_verifies_and_proves() {
    let world = World::start().await;
    fill(&world, 300).await;
    cosigned(&world).await;
    let old = world.ledger(["checkpoint"]).ok().stdout;
    let old = keep(&world, "old.txt", &old);
    fill(&world, 700).await;
    let last = world.ledger(["checkpoint"]).ok().stdout;
    let last = keep(&world, "last.txt", &last);
    // Behind the last checkpoint the tree is as it was then.
    fill(&world, 1_100).await;

    let url = world.server().make_reader(world.database()).await;
    let home = temporary("auditor");
    let audit = |arguments: &[&str]| -> Output {
        let mut command = world.command(arguments);
        command
            .env("DATABASE_URL", &url)
            .env("LEDGER_HOME", home.path());
        output(&mut command)
    };
    let head = world.verify(&[]).1["head"].clone();
    for since in [old.as_str(), last.as_str(), "300", "700"] {
        let report = audit(&["verify", "--json", "--since", since, "--checkpoint", &last]);
        let report = report.ok().json();
        assert_eq!(
            (&report["verdict"], &report["anchored"], &report["head"]),
            (&json!("intact"), &json!(700), &head),
            "{since}: {report}"
        );
    }
    audit(&["verify", "--checkpoint", &old]).ok();
    let proof = audit(&["prove", "650"]).ok();
    assert_eq!(proof.stdout, world.ledger(["prove", "650"]).ok().stdout);
    audit(&["prove", "--from", &old]).ok();
    audit(&["checkpoint", "show"]).ok();
    audit(&["checkpoint", "lag"]).ok();
    // A tree that has lost its nodes proves the same; that they are gone is for the check of those entries to name.
    let gone = without_triggers("tree", "delete from ledger.tree where level = 1");
    execute(&mut world.superuser().await, gone).await;
    assert_eq!(audit(&["prove", "650"]).ok().stdout, proof.stdout);
    audit(&["verify", "--since", &last]).ok();
    for refused in [&["checkpoint"][..], &["export", "--tiles", "/nonexistent"]] {
        assert_ne!(audit(refused).exit, 0, "{refused:?}");
    }
    assert_eq!(world.verify(&[]).1["head"], head);
}

/// Entries about keys are found by their columns. Who edits one hides it from an incremental check, as the threat model says; the
/// whole one names it, and so does the signer, who reads everything.
#[tokio::test]
async fn a_hidden_entry_about_keys_is_seen_by_the_signer_and_the_whole_check() {
    let world = World::start().await;
    fill(&world, 20).await;
    let first = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    world.ledger(["key", "rotate"]).ok();
    world.ledger(["key", "retire", first.trim_end()]).ok();
    let signed = world.ledger(["checkpoint", "show"]).ok().stdout;
    let signed = keep(&world, "signed.txt", &signed);
    let log = world.ledger(["log", "--json", "--type", "checkpoint_key.retired"]);
    let retired = log.ok().lines()[0]["seq"].as_u64().unwrap();
    fill(&world, 40).await;
    let hide = |column: &str, value: &str| {
        let edit = format!(
            "update ledger.entries set {column} = {value} where seq = {retired} and ledger_id = \
                            (select ledger_id from ledger.heads where name = 'test')"
        );
        without_triggers("entries", &edit)
    };
    let mut superuser = world.superuser().await;
    for (column, value) in [
        ("type", "'note.added'"),
        ("subject", "'note:' || gen_random_uuid()"),
    ] {
        let before: String = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select {column} from ledger.entries where seq = {retired} order by ledger_id desc limit 1"
        )))
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        execute(&mut superuser, hide(column, value)).await;
        let refused = world.ledger(["checkpoint"]);
        assert_eq!(refused.exit, 1, "{column}: {refused:?}");
        let named = format!("entry {retired} is damaged");
        assert!(refused.stderr.contains(&named), "{refused:?}");
        let (exit, report) = world.verify(&[]);
        assert_eq!(exit, 1, "{column}: {report}");
        assert_eq!(report["broken"][0]["seq"], retired, "{report}");
        // The limit: with the retirement out of sight, the retired key is taken for one in use.
        assert_eq!(world.verify_exit(&["--since", &signed]), 0);
        execute(&mut superuser, hide(column, &format!("'{before}'"))).await;
    }
    world.ledger(["checkpoint"]).ok();
    world.assert_intact();
}
