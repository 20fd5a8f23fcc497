//! Edits of the stored proof: the tree, the checkpoints, the cosignatures; and edits of the log that only the proof shows.

use ledger::chain::cosignature::Cosigner;
use ledger::chain::note::NoteSigner;
use ledger::store::checkpoint::Signed;
use ledger::store::signer::SignerRecord;
use ledger::store::{Draft, Sealing};
use serde_json::json;

use crate::append::draft;
use crate::server::execute;
use crate::tamper::{ALL, Tampered};
use crate::world::World;

/// Sizes of the two checkpoints of [`signed`].
const FIRST: u64 = 300;
const SECOND: u64 = 540;

/// Appends plain entries until the ledger has so many.
pub(crate) async fn fill(world: &World, size: u64) {
    let store = world.store().await;
    let head = store.head().await.unwrap();
    let drafts: Vec<Draft> = (head.size..size)
        .map(|n| draft(&json!({ "n": n }).to_string()))
        .collect();
    for appended in store.append_all(drafts).await {
        appended.unwrap();
    }
    store.close().await;
}

/// Signs a checkpoint with the home's key.
pub(crate) async fn sign(world: &World) -> Signed {
    let store = world.store().await;
    let folder = world.home().join("checkpoint-keys");
    let key = std::fs::read_to_string(folder.join(store.id().to_string())).unwrap();
    let signer = NoteSigner::from_signing_key(key.trim_end()).unwrap();
    let record = SignerRecord::new(&folder, store.id());
    let made = store.sign_checkpoint(&[signer], &record).await.unwrap();
    store.close().await;
    made
}

/// A ledger with two checkpoints, of which a witness has signed the first, and with two full nodes in its tree.
async fn signed() -> World {
    let world = World::start().await;
    fill(&world, FIRST).await;
    cosigned(&world).await;
    fill(&world, SECOND).await;
    assert!(sign(&world).await.new);
    world
}

/// Signs a checkpoint and has a witness sign it.
pub(crate) async fn cosigned(world: &World) {
    let first = sign(world).await.checkpoint;
    let witness = Cosigner::new("witness.example.com", &[5; 32]).unwrap();
    let line = witness.cosign(first.note().text(), 1_767_139_200);
    let store = world.store().await;
    store
        .cosign(&first, &witness.verifier_key(), &line)
        .await
        .unwrap();
    store.close().await;
}

#[tokio::test]
async fn each_column_of_a_node() {
    let mut ledger = Tampered::over(signed().await).await;
    assert!(ledger.named("select 1", &[]).await.is_empty());
    ledger
        .each_column("tree", "level = 1 and index = 0", ALL, |_| 256)
        .await;
    ledger
        .each_column("tree", "level = 1 and index = 1", ALL, |_| 512)
        .await;
    let last = "((t.index + 1) * power(256, t.level))";
    ledger.each_bit("tree", last).await;
    ledger
        .assert_names("delete from ledger.tree where index = 0", &[256])
        .await;
    let of_nothing =
        "insert into ledger.tree select ledger_id, 1, 2, hash from ledger.tree where index = 0";
    ledger.assert_names(of_nothing, &[768]).await;
    // A row of no ledger that is missed in none is nobody's, wherever in a tree it would stand.
    for index in [0, 1, 2, 9] {
        let of_nobody = format!(
            "insert into ledger.tree select gen_random_uuid(), 1, {index}, hash from ledger.tree where index = 0"
        );
        ledger.assert_names(&of_nobody, &[]).await;
    }
}

#[tokio::test]
async fn each_column_of_a_checkpoint() {
    let mut ledger = Tampered::over(signed().await).await;
    for size in [FIRST, SECOND] {
        ledger
            .each_column("checkpoints", &format!("size = {size}"), ALL, |_| size)
            .await;
    }
    ledger.each_bit("checkpoints", "t.size").await;
    // Every character of what was signed and of the signature.
    let length: usize = ledger
        .value("select length(note)::text from ledger.checkpoints where size = 300")
        .await
        .parse()
        .unwrap();
    for at in (1..=length).step_by(7) {
        let edit = format!(
            "update ledger.checkpoints set note = overlay(note placing \
                 case when substr(note, {at}, 1) = 'A' then 'B' else 'A' end from {at}) where size = 300"
        );
        ledger.assert_names(&edit, &[FIRST]).await;
    }
    // A checkpoint that is gone is missed by the one that followed it.
    ledger
        .assert_names("delete from ledger.checkpoints where size = 300", &[SECOND])
        .await;
}

#[tokio::test]
async fn each_column_of_a_cosignature() {
    let mut ledger = Tampered::over(signed().await).await;
    ledger
        .each_column("cosignatures", "true", ALL, |column| {
            if column == "size" || column == "ledger_id" {
                SECOND
            } else {
                FIRST
            }
        })
        .await;
}

#[tokio::test]
async fn what_was_signed_shows_a_rewritten_chain_and_a_cut_tail() {
    let mut ledger = Tampered::over(signed().await).await;
    // One entry, edited with its hash: it is the entry that is named, and not what rests on it.
    ledger
        .assert_names(
            "update ledger.entries set bytes = set_byte(bytes, 40, get_byte(bytes, 40) # 1) where seq = 7",
            &[7],
        )
        .await;
    // The whole chain from there on, consistent in itself.
    let forged = "do $$ declare r record; p bytea; b bytea; begin \
             for r in select * from ledger.entries where seq >= 299 order by seq loop \
                 b := convert_to(regexp_replace(convert_from(r.bytes, 'UTF8'), '\"occurred_at\":\"\\d+', '\"occurred_at\":\"1999'), 'UTF8'); \
                 if p is not null then \
                     b := convert_to(regexp_replace(convert_from(b, 'UTF8'), '\"prev\":\"[0-9a-f]+', '\"prev\":\"' || encode(p, 'hex')), 'UTF8'); \
                 end if; \
                 p := sha256('\\x00'::bytea || b); \
                 update ledger.entries set bytes = b, hash = p where seq = r.seq; \
             end loop; \
             update ledger.heads set hash = p; \
         end $$";
    ledger.assert_names(forged, &[FIRST, 512, SECOND]).await;
    let cut = "delete from ledger.entries where seq > 500; delete from ledger.payloads where seq > 500; \
               update ledger.heads h set (size, hash, recorded_at) = \
                   (select e.seq, e.hash, e.recorded_at from ledger.entries e where e.seq = 500)";
    ledger.assert_names(cut, &[512, SECOND]).await;
}

#[tokio::test]
async fn an_entry_about_the_proof_that_is_sealed_is_named() {
    let world = World::start().await;
    fill(&world, 3).await;
    let store = world.store().await;
    for event_type in ["checkpoint.published", "checkpoint_key.added"] {
        let mut sealed = draft("{}");
        sealed.sealing = Sealing::Owner(sealed.subject.clone());
        sealed.event_type = event_type.parse().unwrap();
        store.append(sealed).await.unwrap();
    }
    store.close().await;
    fill(&world, 6).await;
    sign(&world).await;
    let (exit, report) = world.verify(&[]);
    let broken: Vec<_> = report["broken"].as_array().unwrap().iter().collect();
    assert_eq!((exit, broken.len()), (1, 2), "{report}");
    for (broken, seq) in broken.iter().zip([4, 5]) {
        assert_eq!(broken["seq"], seq);
        assert_eq!(
            broken["how"],
            "payload is sealed, and its type is kept in plain"
        );
    }
    // What can be compared without the keys still is.
    let mut superuser = world.superuser().await;
    let other_root = "alter table ledger.checkpoints disable trigger user; \
        update ledger.checkpoints set root = sha256(root); \
        alter table ledger.checkpoints enable always trigger refuse_change; \
        alter table ledger.checkpoints enable always trigger refuse_truncate";
    execute(&mut superuser, other_root).await;
    let (_, report) = world.verify(&[]);
    let named = report["broken"].to_string();
    assert!(
        named.contains("its column root is not the signed one"),
        "{named}"
    );
}
