//! Attacks that need a story of their own; `docs/threat-model.md` says which test stands against which.

use ledger::chain::entry::{PLAIN, stored};
use ledger::domain::id::Actor;
use ledger::store::{Draft, Sealing};
use ledger_sim::WorldSpec;
use serde_json::json;

use crate::catalogue::without_triggers;
use crate::migration::Migration;
use crate::server::execute;
use crate::world::{World, line, output};

/// What the last entry says against us is cut off, and the head put back: the verdict would be the one from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncation_that_would_flip_a_verdict() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let world = &migration.world;
    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    let asked = ["loss", "--scope", "calendar", "--json"];
    let before = world.ledger(asked).ok().json();
    assert_eq!(before["verdict"], "none", "{before}");

    // A second attempt at an item, of which nobody says what became.
    let store = world.store().await;
    let intent = &migration.log(&["item.delete_intended"])[0];
    let mut payload = intent["payload"].clone();
    payload["attempt"] = json!(2);
    let subject: ledger::domain::id::Subject = intent["entry"]["subject"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let draft = Draft {
        event_type: "item.delete_intended".parse().unwrap(),
        schema: 1,
        sealing: Sealing::Owner(subject.clone()),
        subject,
        actor: Actor::system(),
        payload: payload.to_string(),
        key: None,
        run: intent["entry"]["run"]
            .as_str()
            .map(|run| run.parse().unwrap()),
        cause: None,
        occurred_at: None,
        fence: None,
        recorded_at: None,
    };
    store.append(draft).await.unwrap();
    store.close().await;
    let after = world.ledger(asked);
    assert_eq!(
        (after.exit, &after.json()["verdict"]),
        (3, &json!("unknown"))
    );
    let kept = world.home().join("kept.txt");
    std::fs::write(&kept, world.ledger(["checkpoint"]).ok().stdout).unwrap();

    let mut superuser = world.superuser().await;
    let (id, size): (uuid::Uuid, i64) =
        sqlx::query_as("select ledger_id, size - 1 from ledger.heads where name <> 'catalogue'")
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    let of = format!("where ledger_id = '{id}' and");
    for (table, cut) in [
        (
            "checkpoints",
            format!("delete from ledger.checkpoints {of} size > {size}"),
        ),
        (
            "entries",
            format!("delete from ledger.entries {of} seq > {size}"),
        ),
        (
            "payloads",
            format!("delete from ledger.payloads {of} seq > {size}"),
        ),
        (
            "heads",
            format!(
                "update ledger.heads set (size, hash, recorded_at) = (select seq, hash, recorded_at \
                 from ledger.entries {of} seq = {size}) where ledger_id = '{id}'"
            ),
        ),
    ] {
        execute(&mut superuser, without_triggers(table, &cut)).await;
    }

    // Here the signer's record knows better; elsewhere it takes what was kept.
    let flipped = world.ledger(asked);
    assert_eq!(flipped.json()["verdict"], "unknown", "{flipped:?}");
    let folder = world.home().join("checkpoint-keys");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "last")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut with_kept = asked.to_vec();
    with_kept.extend(["--checkpoint", kept.to_str().unwrap()]);
    let told = world.ledger(with_kept);
    assert_eq!(told.json()["verdict"], "unknown", "{told:?}");
    // With neither, the answer is the old one, and says that nothing outside vouches for it.
    let unanchored = world.ledger(asked).ok().json();
    assert_eq!(unanchored["verdict"], "none");
    assert_eq!(unanchored["anchored"], json!(null));
}

/// The server's clock is put forward by a day and back again: what is recorded never goes back, and says the truth again once
/// that day is over; `occurred_at` is the worker's clock throughout.
#[tokio::test]
async fn a_clock_jump() {
    let world = World::start().await;
    let happened = line("test.happened", "service:api", &json!({}));
    world.append(std::slice::from_ref(&happened));
    let jump = |hours: i32| {
        format!(
            "set allow_system_table_mods = on; \
             create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile \
             as $$ select statement_timestamp() + interval '{hours} hours' $$"
        )
    };
    let hide = "set allow_system_table_mods = on; \
                alter function pg_catalog.clock_timestamp() rename to real_clock_timestamp";
    execute(&mut world.superuser().await, hide).await;
    for hours in [24, -24, 0] {
        execute(&mut world.superuser().await, jump(hours)).await;
        world.append(std::slice::from_ref(&happened));
    }
    let log = world.ledger(["log", "--json"]).ok().lines();
    let times: Vec<&str> = log
        .iter()
        .map(|line| line["recorded_at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = log.last().unwrap();
    assert_eq!(times[times.len() - 3], times[times.len() - 1], "{times:?}");
    let occurred = last["entry"]["occurred_at"].as_str().unwrap();
    assert!(occurred < times[times.len() - 1], "{last}");
    world.assert_intact();
}

/// Bytes that are moved from one part of a stored payload to the next make another digest.
#[test]
fn hash_ambiguity_by_shifted_boundaries() {
    let whole = stored(PLAIN, "key", b"nonce", b"bytes");
    for other in [
        stored("plaink", "ey", b"nonce", b"bytes"),
        stored(PLAIN, "keyn", b"once", b"bytes"),
        stored(PLAIN, "key", b"nonceb", b"ytes"),
        stored(PLAIN, "key", b"", b"noncebytes"),
        stored("", "plainkey", b"nonce", b"bytes"),
    ] {
        assert_ne!(whole, other);
    }
}

/// A witness and a kept checkpoint are no help to who cannot read them: bad files are refused before anything is answered.
#[tokio::test]
async fn a_policy_that_is_none_is_refused() {
    let world = World::start().await;
    let file = world.home().join("policy");
    for text in [
        "",
        "quorum w\n",
        "quorum none\nquorum none\n",
        "log x\nquorum none\n",
    ] {
        std::fs::write(&file, text).unwrap();
        for command in ["verify", "loss", "checkpoint"] {
            let refused = output(&mut world.command([command, "--policy", file.to_str().unwrap()]));
            assert_eq!(refused.exit, 2, "{command}: {text}: {refused:?}");
        }
    }
}
