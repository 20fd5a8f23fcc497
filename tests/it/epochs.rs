//! The key-encryption key of before an erasure goes when nothing is wrapped by it any more, and not earlier.

use std::fmt::Write as _;
use std::fs;

use ledger::domain::id::Subject;
use ledger::store::keys::{Kek, KeyRing};
use serde_json::json;

use crate::erasure::{BOB, WHY, approve, by, kek_id, world};
use crate::erasure_faults::{approved, edit};
use crate::server::execute;
use crate::world::{World, line, output};

/// An erasure that is committed and has not touched the files yet: the owner and the old key.
async fn committed() -> (World, String, Kek) {
    let world = world().await;
    let owner = approved(&world);
    let (kek, next) = (world.home().join("kek"), world.home().join("kek.next"));
    let old = fs::read_to_string(&kek).unwrap();
    let mut superuser = world.superuser().await;
    let fail = "create function public.fail() returns trigger language plpgsql as \
                    'begin raise exception ''the disk is full''; end'; \
                create trigger fail before insert on ledger.entries \
                    for each row when (new.type = 'kek.destroyed') execute function public.fail()";
    execute(&mut superuser, fail).await;
    assert_eq!(by(&world, "cid", &["erase", &owner]).exit, 4);
    execute(&mut superuser, "drop trigger fail on ledger.entries").await;
    fs::rename(&kek, &next).unwrap();
    fs::copy(&next, &kek).unwrap();
    fs::write(&kek, &old).unwrap();
    (world, owner, Kek::from_hex(&old).unwrap())
}

async fn under(world: &World, kek: &Kek) -> i64 {
    sqlx::query_scalar("select count(*) from ledger.keys where kek_id = $1")
        .bind(kek.id())
        .fetch_one(&mut world.superuser().await)
        .await
        .unwrap()
}

/// A data key under the old key-encryption key, made in its own ledger while the erasure ran.
async fn late_key(world: &World, old: &Kek) {
    let store = world.store().await;
    let owner: Subject = "service:0197f1c2-0000-7000-8000-000000000007"
        .parse()
        .unwrap();
    let row = KeyRing::new(store.id(), vec![old.clone()])
        .generate(&owner)
        .unwrap();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let sql = format!(
        "insert into ledger.keys (ledger_id, key_id, owner, kek_id, nonce, wrapped) \
         values ('{}', '{}', '{owner}', '{}', '\\x{}', '\\x{}')",
        store.id(),
        row.key_id,
        row.kek_id,
        hex(&row.nonce),
        hex(&row.wrapped)
    );
    store.close().await;
    edit(world, "keys", &sql).await;
}

#[tokio::test]
async fn a_key_that_still_wraps_something_of_the_ledger_itself_is_not_destroyed() {
    let (world, owner, old) = committed().await;
    late_key(&world, &old).await;
    // Without the old key what it wraps cannot be put under the new one.
    let (kek, next) = (world.home().join("kek"), world.home().join("kek.next"));
    let kept = fs::read_to_string(&kek).unwrap();
    fs::rename(&next, &kek).unwrap();
    let refused = by(&world, "cid", &["erase", &owner]);
    assert_eq!(refused.exit, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("no key was destroyed"),
        "{refused:?}"
    );
    assert_eq!(under(&world, &old).await, 1);
    // With it, all goes along, and then it goes.
    fs::rename(&kek, &next).unwrap();
    fs::copy(&next, &kek).unwrap();
    fs::write(&kek, kept).unwrap();
    let done = by(&world, "cid", &["erase", &owner]).ok().json();
    assert_eq!(done["state"], "done");
    assert_eq!(under(&world, &old).await, 0);
    assert_ne!(kek_id(&kek), old.id());
}

#[tokio::test]
async fn a_crash_does_not_open_a_way_around_the_look_for_other_databases() {
    let (world, owner, old) = committed().await;
    let refused = world.ledger(["init", "other"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("an erasure is under way"),
        "{refused:?}"
    );
    // The key that is in force has to be at hand.
    let next = world.home().join("kek.next");
    let away = world.home().join("away");
    fs::rename(&next, &away).unwrap();
    let refused = by(&world, "cid", &["erase", &owner]);
    assert!(
        refused.exit == 4 && refused.stderr.contains("is not at hand"),
        "{refused:?}"
    );
    fs::rename(&away, &next).unwrap();
    let elsewhere = world
        .home()
        .join("checkpoint-keys/0197f1c2-0000-7000-8000-000000000000");
    fs::write(&elsewhere, "").unwrap();
    let refused = by(&world, "cid", &["erase", &owner]);
    assert!(
        refused.exit == 1 && refused.stderr.contains("is not in this database"),
        "{refused:?}"
    );
    assert_eq!(kek_id(&world.home().join("kek")), old.id());
    fs::remove_file(elsewhere).unwrap();
    by(&world, "cid", &["erase", &owner]).ok();
    world.ledger(["init", "other"]).ok();
    // A process that is given the old key makes nothing with it.
    let mut late = world.command(["init", "late"]);
    let late = output(late.env("LEDGER_KEK", old.to_hex().as_str()));
    assert!(
        late.exit == 4 && late.stderr.contains("was replaced by an erasure"),
        "{late:?}"
    );
    assert_eq!(under(&world, &old).await, 0);
}

#[tokio::test]
async fn another_erasure_waits_for_the_unfinished_one_and_what_came_since_is_not_done() {
    let (world, owner, _) = committed().await;
    let asked = by(&world, "ann", &[&["erase", BOB], &WHY[..]].concat()).json();
    approve(&world, &asked, &["ann", "bea"]);
    let refused = by(&world, "cid", &["erase", BOB]);
    let how = format!("run `ledger erase {owner}`");
    assert!(
        refused.exit == 1 && refused.stderr.contains(&how),
        "{refused:?}"
    );
    by(&world, "cid", &["erase", &owner]).ok();
    by(&world, "cid", &["erase", BOB]).ok();
    world.append(&[line("test.happened", &owner, &json!({"n": 9}))]);
    let held = by(&world, "cid", &["erase", &owner]);
    assert_eq!((held.exit, &held.json()["state"]), (1, &json!("held")));
    assert_eq!(held.json()["held_since"], 1);
}
