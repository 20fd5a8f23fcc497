//! Erasure against who may append anything: what the database refuses a writer, and what `verify` says of who goes round it.

use std::collections::BTreeMap;

use ledger::chain::entry::Hash;
use ledger::domain::erasure::{ErasureApproved, KeysRewrapped, RetentionSet, SubjectErased};
use ledger::domain::event::Event;
use ledger::domain::id::{Actor, EntryId, Subject};
use ledger::store::erase::EraseError;
use ledger::store::keys::Kek;
use ledger::store::{Draft, Sealing};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::erasure::{ANN, BOB, approve, ask, by, erase, kek_id, states, world};
use crate::erasure_faults::{approved, broken, edit, said};
use crate::server::execute;
use crate::world::World;

/// Why a writer is refused a statement behind an entry that it may append.
async fn refused_behind(world: &World, event: &Event, about: &str, statement: &str) -> String {
    let store = world.store().await;
    let about = about.parse::<Subject>().unwrap();
    let forged = Draft::of(event, about.clone(), Actor::system(), about).unwrap();
    store.append(forged).await.unwrap();
    store.close().await;
    let mut superuser = world.superuser().await;
    let sql = format!("set role ledger_writer; {statement}");
    let refused = sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut superuser)
        .await;
    refused.unwrap_err().to_string()
}

#[tokio::test]
async fn nobody_puts_keys_under_a_key_that_no_erasure_brought() {
    let world = world().await;
    let mut superuser = world.superuser().await;
    let id: String =
        sqlx::query_scalar("select ledger_id::text from ledger.heads where name = 'test'")
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    let other: String =
        sqlx::query_scalar("select ledger_id::text from ledger.heads where name = 'catalogue'")
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    let garbage = format!(
        "select ledger.rewrap('{id}', array_agg(key_id), array_agg(nonce), array_agg(sha256(wrapped))) \
         from ledger.keys where ledger_id = '{id}'"
    );
    let before = kek_id(&world.home().join("kek"));
    for because in [&id, &other] {
        let rewrapped = Event::KeysRewrapped(KeysRewrapped {
            kek: "kek-deadbeefdeadbeef".to_owned(),
            kek_before: before.clone(),
            keys: 4,
            because_of: format!("ledger:{because}").parse().unwrap(),
        });
        let refused = refused_behind(&world, &rewrapped, &format!("ledger:{id}"), &garbage).await;
        assert!(refused.contains("that an erasure brought"), "{refused}");
    }
    // One who goes round the functions is found, though the key is at nobody's hand.
    edit(&world, "keys", &format!("update ledger.keys set kek_id = 'kek-deadbeefdeadbeef', wrapped = sha256(wrapped) where ledger_id = '{id}'")).await;
    let named = broken(&world);
    let forged = named
        .values()
        .filter(|how| how.contains("no erasure of ledger:"));
    assert_eq!(forged.count(), 2, "{named:?}");
    // Nor is one data key under another than the rest, without any entry.
    let world = self::world().await;
    edit(&world, "keys", "update ledger.keys set kek_id = 'kek-deadbeefdeadbeef', wrapped = sha256(wrapped) where owner like 'user:%'").await;
    let named = broken(&world);
    assert!(
        named[&5].contains("is under kek-deadbeefdeadbeef, and in force is kek-"),
        "{named:?}"
    );
}

#[tokio::test]
async fn an_approval_counts_for_its_request_only_and_until_it_lapses() {
    let world = world().await;
    let store = world.store().await;
    let asked = ask(&world, ANN, &[]);
    let owner: Subject = asked["owner"].as_str().unwrap().parse().unwrap();
    let request: EntryId = asked["request"]["id"].as_str().unwrap().parse().unwrap();
    let hash: Hash = serde_json::from_value(asked["request"]["hash"].clone()).unwrap();
    let late = "2999-01-01T00:00:00.000000Z";
    let past = "2001-01-01T00:00:00.000000Z";
    let elsewhere: EntryId = "0197f1c2-0000-7000-8000-000000000001".parse().unwrap();
    let subject: Subject = store
        .get(asked["request"]["seq"].as_u64().unwrap())
        .await
        .unwrap()
        .unwrap()
        .entry
        .subject;
    for (request, request_hash, until) in [
        (elsewhere, hash, late),
        (request, Hash::ZERO, late),
        (request, hash, past),
    ] {
        for person in ["person:ann", "person:bea"] {
            let approved = Event::ErasureApproved(ErasureApproved {
                request,
                request_hash,
                expires_at: serde_json::from_value(json!(until)).unwrap(),
                assurance: "asserted".to_owned(),
            });
            let draft = Draft::of(
                &approved,
                subject.clone(),
                person.parse().unwrap(),
                subject.clone(),
            )
            .unwrap();
            store.append(draft).await.unwrap();
        }
    }
    let two = &["person:ann", "person:bea"][..];
    let actor: Actor = "person:ann".parse().unwrap();
    let next = Kek::generate().unwrap();
    let why = |error: EraseError| std::error::Error::source(&error).unwrap().to_string();
    let refused = store
        .erase(&owner, &actor, &said(request, 5, two), &next)
        .await
        .unwrap_err();
    assert!(why(refused).contains("the approval of two persons"));
    // Nor does the one who carries it out bring a reason against holds that nobody approved.
    approve(&world, &asked, &["ann", "bea"]);
    by(&world, "bea", &["hold", "place", ANN, "--reason", "case 4"]).ok();
    let overridden = SubjectErased {
        overridden: Some("mine".to_owned()),
        ..said(request, 5, two)
    };
    let refused = store
        .erase(&owner, &actor, &overridden, &next)
        .await
        .unwrap_err();
    assert!(matches!(refused, EraseError::Refused(_)), "{refused:?}");
    assert!(why(refused).contains("says otherwise"));
    store.close().await;
    assert_eq!(states(&world)[4], "open");
    world.assert_intact();
}

#[tokio::test]
async fn a_hold_that_is_placed_in_the_race_is_a_no() {
    let world = world().await;
    let owner = approved(&world);
    let mut superuser = world.superuser().await;
    // Placed when the program has looked: its entry is the one in front of the erasure's.
    let race = "create function public.race() returns trigger language plpgsql security definer as \
                    'begin raise exception ''a legal hold forbids this erasure'' using errcode = ''55000''; end'; \
                create trigger race before delete on ledger.payloads for each statement execute function public.race()";
    execute(&mut superuser, race).await;
    let refused = by(&world, "cid", &["erase", &owner]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    execute(&mut superuser, "drop trigger race on ledger.payloads").await;
    world.assert_intact();
}

#[tokio::test]
async fn no_key_seals_what_is_plain() {
    let world = world().await;
    let mut superuser = world.superuser().await;
    let owner = "user:0197f1c2-0000-4000-8000-0000000000e5";
    for id in ["", "x"] {
        let sql = format!(
            "begin; set local role ledger_writer; \
             select ledger.identify(ledger_id, array['{id}'], array['{owner}'], array[kek_id], array[nonce], array[wrapped], \
                                    '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', null) \
             from ledger.keys where owner like 'ledger:%'"
        );
        let refused = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut superuser)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("an id that is no UUID"), "{refused}");
        execute(&mut superuser, "rollback").await;
    }
    let key_id: i64 = sqlx::query_scalar("select payloads from ledger.heads h, ledger.erasable(h.ledger_id, '') where h.name = 'test'")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(key_id, 0);
}

#[tokio::test]
async fn what_comes_after_an_erasure_is_no_ground_for_it() {
    let world = world().await;
    let forge = async |asked: &serde_json::Value| {
        let store = world.store().await;
        let request = asked["request"]["id"].as_str().unwrap().parse().unwrap();
        let owner: Subject = asked["owner"].as_str().unwrap().parse().unwrap();
        let forged = Event::SubjectErased(said(request, 5, &["person:ann", "person:bea"]));
        let forged = Draft::of(&forged, owner.clone(), Actor::system(), owner).unwrap();
        let seq = store.append(forged).await.unwrap().entry.seq;
        store.close().await;
        seq
    };
    let asked = ask(&world, ANN, &[]);
    let early = forge(&asked).await;
    approve(&world, &asked, &["ann", "bea"]);
    let unfounded = "erasure is not founded: ";
    let how = format!("{unfounded}it was not approved by two persons");
    assert_eq!(broken(&world)[&early], how);
    let again = forge(&asked).await;
    let how = format!("{unfounded}its request was executed before, by entry {early}");
    assert_eq!(broken(&world)[&again], how);
    // Nor is it carried out in spite of a hold.
    let asked = ask(&world, BOB, &[]);
    approve(&world, &asked, &["ann", "bea"]);
    let hold = by(&world, "bea", &["hold", "place", BOB, "--reason", "case 4"]);
    let hold = hold.ok().json()["seq"].to_string();
    let forged = forge(&asked).await;
    by(&world, "bea", &["hold", "lift", &hold, "--reason", "over"]).ok();
    let how = format!("{unfounded}the legal hold of entry {hold} forbade it");
    assert_eq!(broken(&world)[&forged], how);
}

#[tokio::test]
async fn an_entry_of_a_plain_type_under_an_owners_key_does_not_undo_the_erasure() {
    let world = world().await;
    let store = world.store().await;
    let ann = store.subject_of("user", "ann.lee@example.com").await;
    let ann = ann.unwrap().unwrap();
    let kept = Event::RetentionSet(RetentionSet {
        kind: "user".to_owned(),
        until: serde_json::from_value(json!("2001-01-01T00:00:00.000000Z")).unwrap(),
        reason: "none".to_owned(),
    });
    let sealed = Draft {
        sealing: Sealing::Owner(ann.clone()),
        ..Draft::of(&kept, ann.clone(), Actor::system(), ann).unwrap()
    };
    let seq = store.append(sealed).await.unwrap().entry.seq;
    store.close().await;
    let (_, done) = erase(&world, ANN, &[]);
    let how = format!(
        "erasure is not founded: entry {} names it, and what its type says is kept in plain",
        done["erased"]["seq"]
    );
    assert_eq!(broken(&world), BTreeMap::from([(seq, how)]));
}

#[tokio::test]
async fn what_is_plain_names_no_key_and_what_is_sealed_does() {
    let world = world().await;
    let mut superuser = world.superuser().await;
    for (algorithm, key_id, nonce) in [
        ("plain", "x", ""),
        ("plain", "", "x"),
        ("xchacha20poly1305", "", "x"),
        ("xchacha20poly1305", "x", ""),
    ] {
        let sql = format!(
            "begin; set local role ledger_writer; \
             select ledger.append(ledger_id, array[gen_random_uuid()], array['key/1'], array['test.happened'], array[1], \
                                  array['thing:' || gen_random_uuid()], array['system'], array[null::uuid], \
                                  array[null::uuid], array[now()], array[sha256('x')], array['{algorithm}'], \
                                  array['{key_id}'], array['{nonce}'::bytea], array[sha256('x')], array[null::text], \
                                  array[null::bigint], array[null::timestamptz]) \
             from ledger.heads where name = 'test'"
        );
        let refused = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut superuser)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("is not allowed"), "{refused}");
        execute(&mut superuser, "rollback").await;
    }
}
