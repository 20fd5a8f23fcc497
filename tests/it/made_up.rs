//! Rows that somebody made up who may write and has no key: PostgreSQL cannot tell a signature, so that it takes them. They stop
//! nobody, keep nothing genuine out, and are named.

use ledger::chain::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::chain::cosignature::Cosigner;
use ledger::chain::note::NoteSigner;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::tamper_proof::{fill, sign};
use crate::world::World;

/// Calls `ledger.checkpoint` as the program's login, which sees how many rows there are like everybody.
async fn store_row(
    writer: &mut PgConnection,
    size: u64,
    root: &[u8],
    note: &str,
    rows: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let of_test = "(select ledger_id from ledger.heads where name = 'test')";
    let sql = format!(
        "select ledger.checkpoint({of_test}, $1, $2, $3, $4, \
             coalesce($5, (select count(*) from ledger.checkpoints where ledger_id = {of_test})))"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(i64::try_from(size).unwrap())
        .bind(root)
        .bind(note)
        .bind(i64::try_from(size - 1).unwrap())
        .bind(rows)
        .fetch_one(writer)
        .await
}

async fn cosign_row(writer: &mut PgConnection, size: u64, vkey: &str, line: &str) {
    sqlx::query(
        "select ledger.cosign((select ledger_id from ledger.heads where name = 'test'), $1, $2, $3)",
    )
    .bind(i64::try_from(size).unwrap())
    .bind(vkey)
    .bind(line)
    .execute(writer)
    .await
    .unwrap();
}

fn seqs(report: &Value) -> Vec<u64> {
    let broken = report["broken"].as_array().unwrap().iter();
    broken
        .map(|broken| broken["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_made_up_checkpoint_stops_no_signer_and_is_named() {
    let world = World::start().await;
    fill(&world, 20).await;
    let first = world.ledger(["checkpoint"]).ok().stdout;
    let kept = world.home().join("first.txt");
    std::fs::write(&kept, &first).unwrap();
    let kept = kept.to_str().unwrap();
    fill(&world, 30).await;

    let mut writer = world.writer().await;
    let signed = SignedCheckpoint::parse(first.as_bytes()).unwrap();
    let root = [7; 32];
    let origin = signed.checkpoint().origin();
    let thief = NoteSigner::new(origin, &[9; 32]).unwrap();
    let forged = Checkpoint::new(origin, 30, ledger::chain::entry::Hash(root)).unwrap();
    let forged = SignedCheckpoint::sign(forged, &[&thief]).unwrap();
    let forged = forged.to_string();
    // Junk, a forged note, and a genuine one where it does not belong.
    for (size, note) in [
        (30, "no checkpoint"),
        (30, forged.as_str()),
        (25, first.as_str()),
    ] {
        let stored = store_row(&mut writer, size, &root, note, None).await;
        assert!(stored.unwrap(), "{note}");
    }
    // Who did not see them is told to look again: two signers never store on one view.
    let stale = store_row(&mut writer, 30, &root, "late", Some(1)).await;
    assert!(!stale.unwrap());
    let beyond = store_row(&mut writer, 31, &root, "later", None).await;
    assert!(beyond.is_err(), "more than there is");

    let second = world.ledger(["checkpoint", "--json"]).ok().json();
    assert_eq!(
        (&second["size"], &second["new"]),
        (&json!(30), &json!(true))
    );
    let again = world.ledger(["checkpoint", "--json"]).ok().json();
    assert_eq!(again["new"], json!(false));
    let shown = world.ledger(["checkpoint", "show", "30", "--json"]).ok();
    assert_eq!(shown.json()["note"], second["note"]);
    assert_eq!(world.ledger(["checkpoint", "show", "25"]).exit, 1);
    let listed = world.ledger(["checkpoint", "list", "--json"]).ok().lines();
    let sizes: Vec<&Value> = listed.iter().map(|line| &line["size"]).collect();
    assert_eq!(sizes, [20, 30]);
    world.ledger(["prove", "29"]).ok();
    world.ledger(["prove", "--from", kept]).ok();
    let folder = world.home().join("tiles");
    world
        .ledger(["export", "--tiles", folder.to_str().unwrap()])
        .ok();
    let place = world.home().join("published");
    let target = format!("folder:{}", place.display());
    fill(&world, 40).await;
    let third = world.ledger(["checkpoint", "--json", "--publish", &target]);
    assert_eq!(third.ok().json()["size"], 40);

    // They are named by their sizes, and nothing else: what was signed still holds.
    for since in [&[][..], &["--since", "20"]] {
        let arguments = [&["--checkpoint", kept], since].concat();
        let (exit, report) = world.verify(&arguments);
        assert_eq!((exit, &report["verdict"]), (1, &json!("tampered")));
        assert_eq!(seqs(&report), [20, 30], "{report}");
        assert_eq!(report["anchored"], json!(20), "{report}");
        assert_eq!(report["checkpoint"], json!(40), "{report}");
        assert_eq!(report["catalogue"], json!([]), "{report}");
    }
}

#[tokio::test]
async fn a_made_up_cosignature_keeps_no_genuine_one_out() {
    let world = World::start().await;
    fill(&world, 20).await;
    let first = sign(&world).await.checkpoint;
    let witness = Cosigner::new("witness.example.com/w", &[5; 32]).unwrap();
    let vkey = witness.verifier_key();
    let log = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let policy = world.home().join("policy");
    let text = format!("log {}\nwitness w {vkey}\nquorum w\n", log.trim_end());
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();

    let mut writer = world.writer().await;
    let elsewhere = witness.cosign("another note\n", 1_767_139_200).to_string();
    for line in ["junk", &elsewhere] {
        cosign_row(&mut writer, 20, &vkey.to_string(), line).await;
    }
    // Witnesses that nobody asked for, more than a note has room for.
    for n in 0..120_u8 {
        let other = Cosigner::new("a.example.com", &[100 + n / 2; 32]).unwrap();
        let line = other.cosign(first.note().text(), 1_767_139_200 + u64::from(n));
        cosign_row(
            &mut writer,
            20,
            &other.verifier_key().to_string(),
            &line.to_string(),
        )
        .await;
    }
    for n in 0..120_u8 {
        let other = Cosigner::new(&format!("b{n}.example.com"), &[n; 32]).unwrap();
        let line = other.cosign(first.note().text(), 1_767_139_200);
        cosign_row(
            &mut writer,
            20,
            &other.verifier_key().to_string(),
            &line.to_string(),
        )
        .await;
    }
    assert_eq!(
        world.verify(&["--policy", policy]).1["anchored"],
        json!(null)
    );

    let store = world.store().await;
    let line = witness.cosign(first.note().text(), 1_767_139_300);
    store.cosign(&first, &vkey, &line).await.unwrap();
    store.close().await;
    let asked = world.ledger(["checkpoint", "--policy", policy]).ok();
    assert!(asked.stdout.contains(vkey.name()), "{asked:?}");
    let (exit, report) = world.verify(&["--policy", policy]);
    assert_eq!((exit, &report["anchored"]), (1, &json!(20)), "{report}");
    assert_eq!(seqs(&report), [20], "those that are by nobody: {report}");
    world.ledger(["checkpoint", "show"]).ok();
    world.ledger(["prove", "3"]).ok();
}
