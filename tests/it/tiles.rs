//! Tiles that leave: into a bucket, and never from a tree or entries that are not those that were signed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::tiles::Tile;
use serde_json::{Value, json};

use crate::publish::{Objects, bucket};
use crate::tamper::Tampered;
use crate::tamper_proof::fill;
use crate::world::{Output, World, output};

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.insert(
                    name.to_str().unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

fn export(world: &World, place: &str) -> Output {
    world.ledger(["export", "--json", "--tiles", place])
}

#[tokio::test]
async fn a_bucket_gets_the_files_of_a_folder_and_then_what_is_new() {
    let world = World::start().await;
    let objects = Objects::default();
    let endpoint = format!("http://127.0.0.1:{}", bucket(Arc::clone(&objects)));
    let place = "s3://proofs/logs/ours";
    let to_bucket = || {
        let mut command = world.command(["export", "--json", "--tiles", place]);
        command
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret");
        output(&mut command)
    };
    let held = || -> BTreeMap<String, Vec<u8>> {
        let objects = objects.lock().unwrap();
        let ours = objects.iter().map(|(path, bytes)| {
            let name = path.strip_prefix("/proofs/logs/ours/").unwrap();
            (name.to_owned(), bytes.clone())
        });
        ours.collect()
    };
    let folder = world.home().join("tiles");
    for (round, size) in [30, 600].into_iter().enumerate() {
        fill(&world, size).await;
        world.ledger(["checkpoint"]).ok();
        let refused = export(&world, place);
        assert_eq!(refused.exit, 2, "no credentials: {refused:?}");
        let in_bucket = to_bucket().ok().json();
        assert_eq!(in_bucket["path"], place);
        // The entry about the first copy is one more than the second was made of, but not one that was signed.
        export(&world, folder.to_str().unwrap()).ok();
        assert_eq!(held(), files(&folder), "round {round}");
        let again = to_bucket().ok().json();
        assert_eq!((&again["seq"], &again["files"]), (&Value::Null, &json!(0)));
    }
    let made = world.ledger(["log", "--json", "--type", "export.made"]);
    assert_eq!(made.ok().lines().len(), 4);

    // An interrupted export has no checkpoint: the same again writes what is missing and finds the rest as it was.
    let sound = held();
    let lost = "/proofs/logs/ours/tile/entries/001";
    let cut = |name: &str| objects.lock().unwrap().remove(name).unwrap();
    cut("/proofs/logs/ours/checkpoint");
    cut(lost);
    assert_eq!(to_bucket().ok().json()["files"], 2);
    assert_eq!(held(), sound);
    // A file that was changed there stays as it is, and no checkpoint speaks for it.
    cut("/proofs/logs/ours/checkpoint");
    objects.lock().unwrap().get_mut(lost).unwrap()[9] ^= 1;
    let refused = to_bucket();
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains(place), "{refused:?}");
    assert!(!held().contains_key("checkpoint"));
    world.assert_intact();
}

/// What is damaged is never given out, also where the damaged row fits itself: its root is not the signed one.
#[tokio::test]
async fn what_is_damaged_is_never_exported() {
    let world = World::start().await;
    fill(&world, 600).await;
    let signed = world.ledger(["checkpoint"]).ok().stdout;
    let size = SignedCheckpoint::parse(signed.as_bytes())
        .unwrap()
        .checkpoint()
        .size();
    let place = world.home().join("sound");
    export(&world, place.to_str().unwrap()).ok();
    let sound = files(&place);
    assert_eq!(sound.len(), Tile::added(0, size).count() + 1);

    let mut tampered = Tampered::over(world).await;
    let place = tampered.world.home().join("place");
    let rewritten = |seq: u64| {
        format!(
            "update ledger.entries set bytes = convert_to(regexp_replace(convert_from(bytes, 'UTF8'), \
             '\"occurred_at\":\"\\d+', '\"occurred_at\":\"1999'), 'UTF8') where seq = {seq}; \
             update ledger.entries set hash = sha256('\\x00'::bytea || bytes) where seq = {seq};"
        )
    };
    let edits = [
        "update ledger.tree set hash = sha256(hash) where level = 1 and index = 0".to_owned(),
        "delete from ledger.tree where level = 1 and index = 1".to_owned(),
        "update ledger.entries set hash = sha256(hash) where seq = 300".to_owned(),
        "update ledger.entries set bytes = set_byte(bytes, 9, 65) where seq = 599".to_owned(),
        "delete from ledger.entries where seq = 17".to_owned(),
        rewritten(5),
        rewritten(300),
        rewritten(599),
    ];
    for edit in edits {
        tampered.edit(&edit).await.unwrap();
        let refused = export(&tampered.world, place.to_str().unwrap());
        assert_eq!(refused.exit, 1, "{edit}: {refused:?}");
        assert!(refused.stderr.contains("ledger verify"), "{refused:?}");
        let given = files(&place);
        assert!(!given.contains_key("checkpoint"), "{edit}");
        for (name, bytes) in &given {
            assert_eq!(Some(bytes), sound.get(name), "{edit}: {name}");
        }
        tampered.restore().await;
        drop(std::fs::remove_dir_all(&place));
    }
    export(&tampered.world, place.to_str().unwrap()).ok();
    assert_eq!(files(&place), sound);
}
