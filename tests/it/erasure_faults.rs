//! Erasure under attack: laundering, forgery, restored backups, stale writers, and a crash at each point.

use std::collections::BTreeMap;

use ledger::chain::entry::Hash;
use ledger::domain::erasure::{Ranges, SubjectErased};
use ledger::domain::event::Event;
use ledger::domain::id::{Actor, EntryId};
use ledger::store::erase::EraseError;
use ledger::store::identity::Natural;
use ledger::store::keys::Kek;
use ledger::store::{Draft, Sealing};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::append::draft;
use crate::erasure::{ANN, BOB, WHY, approve, ask, by, erase, kek_id, states, world};
use crate::migration::Running;
use crate::server::execute;
use crate::tamper::dump_into;
use crate::world::{World, line, output, temporary};

/// What an erasure would say of one entry.
pub(crate) fn said(request: EntryId, seq: u64, by: &[&str]) -> SubjectErased {
    let mut ranges = Ranges::default();
    ranges.push(seq);
    SubjectErased {
        request,
        requested_by: "person:ann".parse().unwrap(),
        approved_by: by.iter().map(|name| name.parse().unwrap()).collect(),
        legal_basis: "none".to_owned(),
        key_id: "none".to_owned(),
        payloads: 1,
        identities: 0,
        ranges,
        stored: Hash::ZERO,
        altered: Ranges::default(),
        index_key: "none".to_owned(),
        kek: "none".to_owned(),
        kek_before: "none".to_owned(),
        epoch: 2,
        items: BTreeMap::new(),
        copies: Vec::new(),
        overridden: None,
        copies_until: None,
    }
}

#[tokio::test]
async fn the_database_itself_refuses_an_erasure_that_was_not_approved() {
    let world = world().await;
    let store = world.store().await;
    let owner = store
        .subject_of("user", "ann.lee@example.com")
        .await
        .unwrap()
        .unwrap();
    let actor: Actor = "person:ann".parse().unwrap();
    let next = Kek::generate().unwrap();
    let asked = ask(&world, ANN, &[]);
    let request: EntryId = asked["request"]["id"].as_str().unwrap().parse().unwrap();
    let elsewhere: EntryId = "0197f1c2-0000-7000-8000-000000000001".parse().unwrap();
    let two = &["person:ann", "person:bea"][..];
    let mut refused = Vec::new();
    for said in [
        said(elsewhere, 5, two),
        said(request, 5, two),
        said(request, 5, &two[..1]),
    ] {
        refused.push(store.erase(&owner, &actor, &said, &next).await.unwrap_err());
    }
    approve(&world, &asked, &["ann"]);
    refused.push(
        store
            .erase(&owner, &actor, &said(request, 5, two), &next)
            .await
            .unwrap_err(),
    );
    approve(&world, &asked, &["bea"]);
    by(&world, "bea", &["hold", "place", ANN, "--reason", "case 4"]).ok();
    refused.push(
        store
            .erase(&owner, &actor, &said(request, 5, two), &next)
            .await
            .unwrap_err(),
    );
    let words: Vec<String> = refused
        .iter()
        .map(|error| std::error::Error::source(error).unwrap().to_string())
        .collect();
    for (words, expected) in words.iter().zip([
        "nobody requested this erasure",
        "the approval of two persons",
        "the approval of two persons",
        "the approval of two persons",
        "a legal hold forbids",
    ]) {
        assert!(words.contains(expected), "{words}");
    }
    store.close().await;
    // Nor does it go without the entry, though one who may do everything asks.
    let mut superuser = world.superuser().await;
    for statement in [
        "delete from ledger.payloads where seq = 5",
        "delete from ledger.identity where kind = 'user'",
        "delete from ledger.keys where owner like 'user:%'",
        "update ledger.keys set kek_id = 'other'",
        "update ledger.identity set blind = sha256(blind)",
    ] {
        let refused = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut superuser)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("does not announce"), "{refused}");
    }
    assert_eq!(states(&world)[4], "open");
    world.assert_intact();
}

#[tokio::test]
async fn what_is_recorded_between_the_look_and_the_lock_is_looked_at() {
    let world = world().await;
    let asked = ask(&world, ANN, &[]);
    approve(&world, &asked, &["ann", "bea"]);
    let request: EntryId = asked["request"]["id"].as_str().unwrap().parse().unwrap();
    let owner = asked["owner"].as_str().unwrap().parse().unwrap();
    let actor: Actor = "person:ann".parse().unwrap();
    let said = said(request, 5, &["person:ann", "person:bea"]);
    let next = Kek::generate().unwrap();
    let store = world.store().await;
    for entry in [
        line("test.happened", ANN, &json!({"n": 9})),
        line("test.happened", BOB, &json!({"n": 9})),
    ] {
        let looked_at = store.head().await.unwrap().size;
        let is_anns = entry["subject"] == ANN;
        world.append(&[entry]);
        let erased = store.erase_as_of(&owner, &actor, &said, &next, Some(looked_at));
        let erased = erased.await;
        if is_anns {
            let seq = looked_at + 1;
            assert!(
                matches!(erased, Err(EraseError::Changed { seq: found }) if found == seq),
                "{erased:?}"
            );
            assert_eq!(states(&world)[4], "open");
        } else {
            erased.unwrap();
        }
    }
    store.close().await;
}

/// Changes rows with the triggers of a table off.
pub(crate) async fn edit(world: &World, table: &str, sql: &str) {
    let triggers: Vec<String> = sqlx::query_scalar(
        "select format('alter table ledger.%s enable always trigger %I', $1, tgname) from pg_trigger \
         where tgrelid = ('ledger.' || $1)::regclass and not tgisinternal",
    )
    .bind(table)
    .fetch_all(&mut world.superuser().await)
    .await
    .unwrap();
    let on = triggers.join("; ");
    let sql =
        format!("begin; alter table ledger.{table} disable trigger user; {sql}; {on}; commit");
    execute(&mut world.superuser().await, sql).await;
}

/// The broken entries with what verify says of them.
pub(crate) fn broken(world: &World) -> BTreeMap<u64, String> {
    let (_, report) = world.verify(&[]);
    let broken = report["broken"].as_array().unwrap().iter();
    broken
        .map(|line| {
            (
                line["seq"].as_u64().unwrap(),
                line["how"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[tokio::test]
async fn an_erasure_launders_no_alteration() {
    let world = world().await;
    let flip = "update ledger.payloads set bytes = set_byte(bytes, 40, get_byte(bytes, 40) # 1) where seq = 7";
    edit(&world, "payloads", flip).await;
    let refused = by(&world, "ann", &[&["erase", ANN], &WHY[..]].concat());
    assert_eq!(refused.exit, 1);
    assert!(
        refused
            .stderr
            .contains("the payloads of entries 7 are not what was stored"),
        "{refused:?}"
    );
    let (_, done) = erase(&world, ANN, &["--override", "ticket 9"]);
    assert_eq!(done["erased"]["altered"], "7");
    let expected = format!(
        "payload was altered before it was erased, as entry {} says",
        done["erased"]["seq"]
    );
    assert_eq!(broken(&world), BTreeMap::from([(7, expected)]));
}

#[tokio::test]
async fn verify_has_a_word_for_each_way_in_which_a_payload_is_not_there() {
    let world = world().await;
    execute(
        &mut world.superuser().await,
        "create schema saved; create table saved.payloads as table ledger.payloads",
    )
    .await;
    let (_, done) = erase(&world, ANN, &[]);
    let erasure = done["erased"]["seq"].as_u64().unwrap();
    // Erased with its entry: intact.
    assert_eq!(broken(&world), BTreeMap::new());
    // Key absent: unchecked, and still told apart.
    let elsewhere = temporary("keyless");
    let keyless = || {
        let mut command = world.command(["verify", "--json"]);
        output(command.env("LEDGER_HOME", elsewhere.path()))
    };
    let report = keyless().ok().json();
    assert_eq!(report["erased"][0]["seq"], erasure);
    assert!(
        report["unchecked"]
            .to_string()
            .contains("sealed payloads: no key here opens them"),
        "{report}"
    );
    // Gone without an entry.
    edit(
        &world,
        "payloads",
        "delete from ledger.payloads where seq = 6",
    )
    .await;
    let gone = "payload is gone and no entry says it was erased";
    assert_eq!(broken(&world), BTreeMap::from([(6, gone.to_owned())]));
    assert_eq!(keyless().json()["broken"][0]["how"], gone);
    edit(
        &world,
        "payloads",
        "insert into ledger.payloads select * from saved.payloads where seq = 6",
    )
    .await;
    // Altered.
    edit(
        &world,
        "payloads",
        "update ledger.payloads set nonce = '' where seq = 6",
    )
    .await;
    assert_eq!(broken(&world)[&6], "payload is not what was stored");
    edit(&world, "payloads", "delete from ledger.payloads where seq = 6; insert into ledger.payloads select * from saved.payloads where seq = 6").await;
    // Erased, and there again.
    edit(
        &world,
        "payloads",
        "insert into ledger.payloads select * from saved.payloads where seq = 5",
    )
    .await;
    let there = format!("payload is there although entry {erasure} says that it was erased");
    assert_eq!(broken(&world)[&5], there);
    edit(
        &world,
        "payloads",
        "delete from ledger.payloads where seq = 5",
    )
    .await;
    assert_eq!(broken(&world), BTreeMap::new());

    // A loss with an entry that somebody made up for it.
    edit(
        &world,
        "payloads",
        "delete from ledger.payloads where seq = 6",
    )
    .await;
    let store = world.store().await;
    let owner = store
        .subject_of("user", "bob.ray@example.com")
        .await
        .unwrap()
        .unwrap();
    let request = done["request"]["id"].as_str().unwrap().parse().unwrap();
    let forged = Event::SubjectErased(said(request, 6, &["person:ann", "person:bea"]));
    let forged = Draft::of(&forged, owner.clone(), Actor::system(), owner).unwrap();
    let forged = store.append(forged).await.unwrap().entry.seq;
    store.close().await;
    let named = broken(&world);
    assert_eq!(
        named.keys().copied().collect::<Vec<_>>(),
        [6, forged],
        "{named:?}"
    );
    assert_eq!(named[&6], gone);
    assert_eq!(
        named[&forged],
        "erasure is not founded: it was requested for somebody else"
    );
}

#[tokio::test]
async fn a_backup_from_before_reveals_nothing_once_the_old_key_is_gone() {
    let world = world().await;
    let old = World::empty().await;
    dump_into(&world, &old, &[]);
    let kek = |of: &World| of.home().join("kek");
    std::fs::copy(kek(&world), kek(&old)).unwrap();
    let log = |of: &World| of.ledger(["log", "--json"]).ok().stdout;
    assert!(log(&old).contains("secret of ann") && log(&old).contains("ann.lee@example.com"));
    erase(&world, ANN, &[]);
    // The backup with the keys that there are now.
    std::fs::copy(kek(&world), kek(&old)).unwrap();
    let restored = log(&old);
    assert!(
        !restored.contains("secret of ann") && !restored.contains("ann.lee"),
        "{restored}"
    );
    assert_eq!(states(&old)[4], "sealed");
    let (exit, report) = old.verify(&[]);
    assert_eq!((exit, &report["verdict"]), (0, &json!("intact")));
    assert!(
        report["unchecked"]
            .to_string()
            .contains("identities: no key here opens them")
    );
    // Nobody is found by name in it either.
    assert_ne!(old.ledger(["log", "--subject", ANN]).exit, 0);
    // A backup from after it opens, without what was erased.
    let new = World::empty().await;
    dump_into(&world, &new, &[]);
    std::fs::copy(kek(&world), kek(&new)).unwrap();
    assert!(!log(&new).contains("secret of ann") && log(&new).contains("bob.ray@example.com"));
    let sound = [&new, &world].map(|world| {
        let mut report = world.assert_intact();
        // How long the last entry has waited for a checkpoint goes on.
        report.as_object_mut().unwrap().remove("lag");
        report
    });
    assert_eq!(sound[0], sound[1]);
}

#[tokio::test]
async fn after_an_erasure_the_key_alone_decides() {
    let world = world().await;
    let keyed = |subject: &str, n: u32| {
        let mut line = line("test.happened", subject, &json!({"n": n}));
        line["key"] = json!(format!("once/{}", &subject[5..8]));
        line
    };
    let first = world.append(&[keyed(ANN, 1), keyed(BOB, 1)]);
    erase(&world, ANN, &[]);
    for n in [1, 2] {
        let again = world.append(&[keyed(ANN, n)]);
        assert_eq!(
            (&again[0]["seq"], &again[0]["replayed"]),
            (&first[0]["seq"], &json!(true))
        );
    }
    let other = world.ledger_in(["append", "--json"], &keyed(BOB, 2).to_string());
    assert!(
        other.exit != 0 && other.stdout.contains("with other content"),
        "{other:?}"
    );
    world.assert_intact();
}

#[tokio::test]
async fn a_writer_with_the_keys_of_before_is_refused_and_writes_nothing_that_is_lost() {
    let world = world().await;
    let store = world.store().await;
    let ann = store
        .subject_of("user", "ann.lee@example.com")
        .await
        .unwrap()
        .unwrap();
    let about_ann = || Draft {
        sealing: Sealing::Owner(ann.clone()),
        subject: ann.clone(),
        ..draft("{}")
    };
    store.append(about_ann()).await.unwrap();
    let named = |id: &str| Natural {
        kind: "user".to_owned(),
        id: id.to_owned(),
        owner: None,
    };
    erase(&world, ANN, &[]);
    let error = store.append(about_ann()).await.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        why.contains("sealed under a key that was destroyed"),
        "{why}"
    );
    for id in [
        "ann.lee@example.com",
        "bob.ray@example.com",
        "eve@example.com",
    ] {
        let error = store.identify(&[named(id)]).await.unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("were replaced by an erasure"), "{why}");
    }
    store.append(draft("{}")).await.unwrap();
    store.close().await;
    world.assert_intact();
    // Whoever reads the keys anew goes on.
    let store = world.store().await;
    store.append(about_ann()).await.unwrap();
    assert_ne!(
        store
            .identify(&[named("ann.lee@example.com")])
            .await
            .unwrap()[0],
        ann
    );
    store.close().await;
    world.assert_intact();
}

/// Makes the commit of every erasure wait until `release`.
async fn hold_the_commit(superuser: &mut sqlx::PgConnection) {
    let wait = "create function public.wait() returns trigger language plpgsql as \
                    'begin perform pg_advisory_xact_lock(42); return null; end'; \
                create constraint trigger wait after insert on ledger.entries deferrable initially deferred \
                    for each row when (new.type = 'subject.erased') execute function public.wait(); \
                select pg_advisory_lock(42)";
    execute(superuser, wait).await;
}

#[tokio::test]
async fn a_key_asked_for_while_an_erasure_runs_is_not_made_under_the_old_key() {
    let world = world().await;
    let owner = approved(&world);
    let mut superuser = world.superuser().await;
    hold_the_commit(&mut superuser).await;
    let store = world.store().await;
    let running = Running::start(&mut world.command(["erase", &owner, "--as", "cid"]));
    until_waiting(&world, "advisory").await;
    // Keys only, no identities: nothing else of the call would notice.
    let eve = "user:0197f1c2-0000-4000-8000-0000000000e5".parse().unwrap();
    let asking = tokio::spawn(async move {
        let made = store.owner_key(&eve).await.map(drop);
        store.close().await;
        made
    });
    until_waiting(&world, "transactionid").await;
    execute(&mut superuser, "select pg_advisory_unlock(42)").await;
    let error = asking.await.unwrap().unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("were replaced by an erasure"), "{why}");
    running.output().await.ok();
    execute(&mut superuser, "drop trigger wait on ledger.entries").await;
    let keks: i64 = sqlx::query_scalar(
        "select count(distinct kek_id) from ledger.keys k join ledger.heads h using (ledger_id) where h.name = 'test'",
    )
    .fetch_one(&mut superuser)
    .await
    .unwrap();
    assert_eq!(keks, 1);
    world.assert_intact();
}

#[tokio::test]
async fn other_ledgers_of_the_database_go_along_to_the_new_key() {
    let world = world().await;
    world.ledger(["init", "other", "--person", "zoe"]).ok();
    let on = |ledger: &'static str, person: &str, arguments: &[&str]| {
        world.ledger([arguments, &["--as", person, "--json", "--ledger", ledger]].concat())
    };
    let asked = on("test", "ann", &[&["erase", ANN], &WHY[..]].concat()).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in ["bea", "cid"] {
        on("test", person, &["approve", hash]).ok();
    }
    on("test", "ann", &["erase", ANN]).ok();
    let other = on("other", "ann", &["log"]).ok().lines();
    let types: Vec<&str> = other
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ledger.created", "person.added", "keys.rewrapped"]);
    assert_eq!(other[1]["payload"]["name"], "zoe");
    let kek = kek_id(&world.home().join("kek"));
    assert_eq!(other[2]["payload"]["kek"], kek.as_str());
    for ledger in ["test", "other"] {
        let report = on(ledger, "ann", &["verify"]).ok().json();
        assert_eq!(report["unchecked"].as_array().unwrap().len(), 1, "{report}");
    }
}

#[tokio::test]
async fn a_key_that_the_environment_gives_is_replaced_by_the_operator() {
    let world = world().await;
    let file = world.home().join("kek");
    let old = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    std::fs::remove_file(&file).unwrap();
    let new = Kek::generate().unwrap().to_hex().to_string();
    let with = |person: &str, arguments: &[&str], kek: &str, next: Option<&str>| {
        let mut command = world.command([arguments, &["--as", person, "--json"]].concat());
        command.env("LEDGER_KEK", kek);
        if let Some(next) = next {
            command.env("LEDGER_KEK_NEXT", next);
        }
        let output = output(&mut command);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!said.contains(&old) && !said.contains(&new), "{said}");
        output
    };
    let asked = with("ann", &[&["erase", ANN], &WHY[..]].concat(), &old, None).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    let owner = asked["owner"].as_str().unwrap();
    for person in ["bea", "cid"] {
        with(person, &["approve", hash], &old, None).ok();
    }
    let refused = with("ann", &["erase", owner], &old, None);
    assert!(
        refused.exit == 2 && refused.stderr.contains("LEDGER_KEK_NEXT"),
        "{refused:?}"
    );
    let half = with("ann", &["erase", owner], &old, Some(&new));
    assert_eq!(
        (half.exit, &half.json()["state"]),
        (1, &json!("erased")),
        "{half:?}"
    );
    assert!(
        half.json()["hint"]
            .as_str()
            .unwrap()
            .contains("unset LEDGER_KEK_NEXT")
    );
    // Meanwhile both are needed, and verify says that it is not done.
    let verify = with("ann", &["verify"], &old, Some(&new)).ok().json();
    assert!(
        verify["unchecked"].to_string().contains("is destroyed"),
        "{verify}"
    );
    let done = with("ann", &["erase", owner], &new, None).ok().json();
    assert_eq!(done["state"], "done");
    let destroyed = done["kek_destroyed"].to_string();
    let shown = with("ann", &["show", &destroyed], &new, None).ok().json();
    assert_eq!(shown["payload"]["how"], "asserted");
    let verify = with("ann", &["verify"], &new, None).ok().json();
    assert_eq!(verify["unchecked"].as_array().unwrap().len(), 1, "{verify}");
}

/// Waits until a session of the program waits for a lock of this kind.
async fn until_waiting(world: &World, kind: &str) {
    let mut superuser = world.superuser().await;
    for _ in 0..2_000 {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
             where not l.granted and l.locktype = $1 and a.datname = $2",
        )
        .bind(kind)
        .bind(world.database())
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        if waiting > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody waits for a lock of type {kind}");
}

pub(crate) fn approved(world: &World) -> String {
    let asked = ask(world, ANN, &[]);
    approve(world, &asked, &["ann", "bea"]);
    asked["owner"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn killed_before_the_commit_nothing_has_happened() {
    let world = world().await;
    let owner = approved(&world);
    let mut superuser = world.superuser().await;
    execute(&mut superuser, "begin; select from ledger.heads for update").await;
    let arguments = ["erase", &owner, "--as", "cid"];
    let running = Running::start(&mut world.command(arguments));
    until_waiting(&world, "transactionid").await;
    running.kill();
    execute(&mut superuser, "rollback").await;
    assert!(world.home().join("kek.next").exists());
    assert_eq!(
        states(&world)
            .iter()
            .filter(|state| *state != "open")
            .count(),
        0
    );
    world.assert_intact();
    let next = kek_id(&world.home().join("kek.next"));
    let done = by(&world, "cid", &["erase", &owner]).ok().json();
    assert_eq!(done["erased"]["kek"], next.as_str());
    world.assert_intact();
}

#[tokio::test]
async fn killed_right_after_the_commit_it_is_not_called_done_until_it_is() {
    let world = world().await;
    let owner = approved(&world);
    let mut superuser = world.superuser().await;
    hold_the_commit(&mut superuser).await;
    let arguments = ["erase", &owner, "--as", "cid"];
    let running = Running::start(&mut world.command(arguments));
    until_waiting(&world, "advisory").await;
    running.kill();
    execute(&mut superuser, "select pg_advisory_unlock(42)").await;
    while world
        .ledger(["log", "--type", "subject.erased"])
        .ok()
        .stdout
        .is_empty()
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    execute(&mut superuser, "drop trigger wait on ledger.entries").await;

    // Both keys are there, all that remains opens, and what is new goes under the new key.
    assert_ne!(
        kek_id(&world.home().join("kek")),
        kek_id(&world.home().join("kek.next"))
    );
    assert_eq!(states(&world)[4..8], ["erased", "open", "erased", "open"]);
    let verify = world.assert_intact();
    assert!(
        verify["unchecked"]
            .to_string()
            .contains("no entry says that key-encryption key"),
        "{verify}"
    );
    world.append(&[line(
        "test.happened",
        "user:eve@example.com",
        &json!({"n": 1}),
    )]);

    let done = by(&world, "cid", &["erase", &owner]).ok().json();
    assert_eq!(done["state"], "done");
    assert!(!world.home().join("kek.next").exists() && !world.home().join("kek.old").exists());
    assert_eq!(
        world
            .ledger(["log", "--type", "subject.erased", "--json"])
            .ok()
            .lines()
            .len(),
        1
    );
    assert_eq!(
        states(&world)
            .iter()
            .filter(|state| *state == "sealed")
            .count(),
        0
    );
    assert_eq!(
        world.assert_intact()["unchecked"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn stopped_before_the_destroyed_key_is_recorded_it_is_recorded_the_next_time() {
    let world = world().await;
    let owner = approved(&world);
    let mut superuser = world.superuser().await;
    let fail = "create function public.fail() returns trigger language plpgsql as \
                    'begin raise exception ''the disk is full''; end'; \
                create trigger fail before insert on ledger.entries \
                    for each row when (new.type = 'kek.destroyed') execute function public.fail()";
    execute(&mut superuser, fail).await;
    let failed = by(&world, "cid", &["erase", &owner]);
    assert_eq!(failed.exit, 4, "{failed:?}");
    execute(&mut superuser, "drop trigger fail on ledger.entries").await;
    assert!(!world.home().join("kek.next").exists());
    let verify = world.assert_intact();
    assert!(
        verify["unchecked"]
            .to_string()
            .contains("run `ledger erase"),
        "{verify}"
    );
    let done = by(&world, "cid", &["erase", &owner]).ok().json();
    assert_eq!(done["state"], "done");
    assert_eq!(
        world.assert_intact()["unchecked"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_verification_from_a_checkpoint_on_knows_what_was_approved_before_it() {
    let world = world().await;
    let owner = approved(&world);
    let checkpoint = || {
        world.ledger(["checkpoint"]).ok();
        world.assert_intact()["size"].to_string()
    };
    let intact = |since: &str| {
        let (exit, report) = world.verify(&["--since", since]);
        assert_eq!((exit, &report["broken_count"]), (0, &json!(0)), "{report}");
        assert_eq!(report["erased"][0]["owner"], owner.as_str(), "{report}");
    };
    let before = checkpoint();
    by(&world, "cid", &["erase", &owner]).ok();
    intact(&before);
    let after = checkpoint();
    world.append(&[line("test.happened", BOB, &json!({"n": 9}))]);
    intact(&after);
    // A gap in front of the checkpoint is not looked for; one behind it is.
    edit(&world, "payloads", "delete from ledger.payloads where seq = (select size from ledger.heads where name = 'test')").await;
    let (exit, report) = world.verify(&["--since", &after]);
    assert_eq!((exit, &report["broken_count"]), (1, &json!(1)), "{report}");
}

#[tokio::test]
async fn a_bundle_that_was_handed_out_is_called_back_and_later_ones_lack_what_went() {
    let world = world().await;
    world.ledger(["checkpoint"]).ok();
    let folder = temporary("bundles");
    let export = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let arguments = ["export", "--json", "--bundle", path.to_str().unwrap()];
        let made = world.ledger([&arguments, more].concat()).ok().json();
        let text = path.to_str().unwrap().to_owned();
        world.ledger(["verify", "--bundle", &text]).ok();
        (made, text)
    };
    let (_, whole) = export("whole.zip", &[]);
    export("redacted.zip", &["--redact"]);
    export("other.zip", &["--from", "6", "--to", "6"]);
    let (_, done) = erase(&world, ANN, &[]);
    // Of the three only the first holds payloads of the one who was erased.
    let copies = done["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 1, "{done}");
    let sha256 = Hash::of(&std::fs::read(whole).unwrap()).to_string();
    assert_eq!(copies[0]["sha256"], sha256.as_str());
    assert_eq!(copies[0]["type"], "export.made");
    world.ledger(["checkpoint"]).ok();
    export("after.zip", &[]);
    world.assert_intact();
}
