//! Erasure: asked for, approved by two, done once, and told apart from loss and from lies.

use std::collections::BTreeMap;
use std::path::Path;

use ledger::chain::entry::Hash;
use ledger::domain::event::{Body, DeleteIntended, Event};
use ledger::domain::id::{Actor, Subject};
use ledger::store::Draft;
use ledger::store::identity::Natural;
use ledger::store::keys::Kek;
use ledger_sim::WorldSpec;
use serde_json::{Value, json};

use crate::migration::Migration;
use crate::world::{Output, World, line};

pub(crate) const ANN: &str = "user:ann.lee@example.com";
pub(crate) const BOB: &str = "user:bob.ray@example.com";
const PERSONS: [&str; 7] = [
    "test", "--person", "ann", "--person", "bea", "--person", "cid",
];
pub(crate) const WHY: [&str; 4] = [
    "--reason",
    "request 17",
    "--legal-basis",
    "GDPR Art. 17(1)(b)",
];

/// A ledger with something about two users, and a service.
pub(crate) async fn world() -> World {
    let world = World::with_ledger(&PERSONS).await;
    world.append(&[
        line("test.happened", ANN, &json!({"n": 5})),
        line("test.happened", BOB, &json!({"n": 6})),
        line("test.other", ANN, &json!({"n": 7, "note": "secret of ann"})),
        line("test.other", "service:api", &json!({"n": 8})),
    ]);
    world
}

/// Runs the binary as a person.
pub(crate) fn by(world: &World, person: &str, arguments: &[&str]) -> Output {
    world.ledger([arguments, &["--as", person, "--json"]].concat())
}

/// Asks for an erasure and gives the answer.
pub(crate) fn ask(world: &World, subject: &str, more: &[&str]) -> Value {
    let asked = by(
        world,
        "ann",
        &[&["erase", subject], &WHY[..], more].concat(),
    );
    assert_eq!(asked.exit, 1, "{asked:?}");
    asked.json()
}

pub(crate) fn approve(world: &World, asked: &Value, persons: &[&str]) {
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in persons {
        by(world, person, &["approve", &hash[..12]]).ok();
    }
}

/// Asks, approves and erases; gives the owner and the answer.
pub(crate) fn erase(world: &World, subject: &str, more: &[&str]) -> (String, Value) {
    let asked = ask(world, subject, more);
    approve(world, &asked, &["ann", "bea"]);
    let owner = asked["owner"].as_str().unwrap().to_owned();
    let done = by(world, "cid", &["erase", &owner]).ok().json();
    assert_eq!(done["state"], "done", "{done}");
    (owner, done)
}

/// The payloads as a reader gets them, by entry.
pub(crate) fn states(world: &World) -> Vec<String> {
    let log = world.ledger(["log", "--json"]).ok();
    let state = |line: &Value| line["payload_state"].as_str().unwrap().to_owned();
    log.lines().iter().map(state).collect()
}

pub(crate) fn kek_id(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    Kek::from_hex(&text).unwrap().id().to_owned()
}

#[tokio::test]
async fn an_owner_is_erased_with_all_that_is_held_and_nothing_else() {
    let world = world().await;
    let before = kek_id(&world.home().join("kek"));
    let asked = ask(&world, ANN, &[]);
    let owner = asked["owner"].as_str().unwrap().to_owned();
    assert_eq!(
        (
            &asked["state"],
            &asked["approvals_missing"],
            &asked["request"]["payloads"]
        ),
        (&json!("requested"), &json!(2), &json!(2)),
        "{asked}"
    );
    // Asked again in the same words it is the same request.
    assert_eq!(
        ask(&world, ANN, &[])["request"]["seq"],
        asked["request"]["seq"]
    );
    // The one who asked may be one of the two, and counts once.
    approve(&world, &asked, &["ann", "ann"]);
    let waiting = by(&world, "ann", &["erase", &owner]);
    assert_eq!(
        (waiting.exit, &waiting.json()["approvals_missing"]),
        (1, &json!(1))
    );
    assert_eq!(states(&world)[4], "open");
    approve(&world, &asked, &["bea"]);
    let done = by(&world, "cid", &["erase", ANN]).ok().json();
    assert_eq!(
        (&done["state"], &done["approved_by"]),
        (&json!("done"), &json!(["person:ann", "person:bea"])),
        "{done}"
    );
    assert_eq!(done["erased"]["payloads"], 2);
    assert_eq!(done["erased"]["epoch"], 2);
    assert_eq!(done["erased"]["kek_before"], before.as_str());

    // The key of before is nowhere in the home, and the new one opens all the rest.
    let after = kek_id(&world.home().join("kek"));
    assert_eq!(done["erased"]["kek"], after.as_str());
    let kept = std::fs::read_dir(world.home()).unwrap();
    let kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut kept: Vec<String> = kept.filter(|name| name.starts_with("kek")).collect();
    kept.sort();
    assert_eq!(kept, ["kek", "kek.lock"]);
    assert_eq!(
        states(&world)[..8],
        [
            "open", "open", "open", "open", "erased", "open", "erased", "open"
        ]
    );

    // Verify says it in other words than of a loss, and rests on nothing unchecked.
    let report = world.assert_intact();
    assert_eq!(report["broken_count"], 0);
    assert_eq!(report["erased"][0]["owner"], owner.as_str());
    assert_eq!(report["erased"][0]["payloads"], 2);
    assert_eq!(report["unchecked"].as_array().unwrap().len(), 1, "{report}");

    // Who looks the person up finds nobody; who comes again is another subject.
    let gone = by(&world, "ann", &["log", "--subject", ANN]);
    assert_eq!(gone.exit, 1, "{gone:?}");
    world.append(&[line("test.happened", ANN, &json!({"n": 20}))]);
    let log = world
        .ledger(["log", "--subject", ANN, "--json"])
        .ok()
        .lines();
    assert_eq!(log.len(), 1);
    assert_ne!(log[0]["entry"]["subject"], owner.as_str());
    // The others are found under the new index.
    let bob = world
        .ledger(["log", "--subject", BOB, "--json"])
        .ok()
        .lines();
    assert_eq!(
        (bob.len(), &bob[0]["natural_id"]),
        (1, &json!("bob.ray@example.com"))
    );
    world.assert_intact();

    // Said again it is still done, and nothing is done twice.
    let again = by(&world, "ann", &["erase", &owner]).ok().json();
    assert_eq!(again["erased"], done["erased"]);
}

#[tokio::test]
async fn what_was_erased_is_told_with_when_and_by_whom() {
    let world = world().await;
    let (_, done) = erase(&world, ANN, &[]);
    let seq = done["erased"]["seq"].to_string();
    let log = world.ledger(["log", "--from", "5", "--to", "5"]).ok();
    let words = format!("by person:ann, person:bea (entry {seq})");
    assert!(
        log.stdout.contains("erased on ") && log.stdout.contains(&words),
        "{log:?}"
    );
    let show = world.ledger(["show", "7"]).ok();
    assert!(
        show.stdout.contains("erased on ") && show.stdout.contains(&words),
        "{show:?}"
    );
    let shown = world.ledger(["show", "7", "--json"]).ok().json();
    assert_eq!(shown["erased"]["by"], json!(["person:ann", "person:bea"]));
    assert_eq!(shown["erased"]["legal_basis"], "GDPR Art. 17(1)(b)");
    let text = world.ledger(["verify"]).ok();
    assert!(
        text.stdout.contains("\nerased: 2 payloads of user:"),
        "{text:?}"
    );
}

#[tokio::test]
async fn what_has_to_be_kept_is_not_erased() {
    let world = world().await;
    let refused = |arguments: &[&str], words: &str| {
        let output = by(&world, "ann", arguments);
        assert_eq!(output.exit, 1, "{output:?}");
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    };
    let erasing = [&["erase", ANN], &WHY[..]].concat();

    // A hold on the person, and one on everything.
    let hold = by(&world, "bea", &["hold", "place", ANN, "--reason", "case 4"])
        .ok()
        .json();
    refused(&erasing, "a legal hold on user:");
    let all = by(&world, "bea", &["hold", "place", "--reason", "case 5"])
        .ok()
        .json();
    refused(
        &[&["erase", BOB], &WHY[..]].concat(),
        "a legal hold on the whole ledger",
    );
    let seq = |hold: &Value| hold["seq"].to_string();
    by(
        &world,
        "bea",
        &["hold", "lift", &seq(&all), "--reason", "settled"],
    )
    .ok();
    refused(
        &["hold", "lift", &seq(&all), "--reason", "again"],
        "was lifted before",
    );
    refused(
        &["hold", "lift", "5", "--reason", "none"],
        "no legal hold 5",
    );
    assert_eq!(by(&world, "ann", &["hold", "list"]).ok().lines().len(), 1);
    by(
        &world,
        "bea",
        &["hold", "lift", &seq(&hold), "--reason", "settled"],
    )
    .ok();

    // A retention, until it ends.
    let keep = |until: &str| {
        let set = [
            "retention",
            "set",
            "user",
            "--until",
            until,
            "--reason",
            "undo",
        ];
        by(&world, "bea", &set).ok();
    };
    keep("2999-01-01");
    refused(&erasing, "1 user are kept until 2999-01-01");
    keep("2020-01-01");
    let asked = ask(&world, ANN, &[]);
    assert_eq!(
        by(&world, "ann", &["retention", "list"]).ok().lines()[0]["kind"],
        "user"
    );

    // One that comes after the request stops it too, in the program and in the database.
    approve(&world, &asked, &["bea", "cid"]);
    let hold = by(&world, "bea", &["hold", "place", ANN, "--reason", "case 6"])
        .ok()
        .json();
    refused(&["erase", ANN], "a legal hold on user:");
    by(
        &world,
        "bea",
        &["hold", "lift", &seq(&hold), "--reason", "settled"],
    )
    .ok();
    assert_eq!(states(&world)[4], "open");

    // Against all that, for a reason that is recorded.
    by(&world, "bea", &["hold", "place", "--reason", "case 7"]).ok();
    let (_, done) = erase(&world, ANN, &["--override", "court order 8"]);
    let entry = done["erased"]["seq"].to_string();
    let shown = world.ledger(["show", &entry, "--json"]).ok().json();
    assert_eq!(shown["payload"]["overridden"], "court order 8");
    world.assert_intact();
}

#[tokio::test]
async fn an_item_whose_deletion_is_in_flight_keeps_its_backup() {
    let world = world().await;
    let store = world.store().await;
    let owner = store
        .subject_of("user", "ann.lee@example.com")
        .await
        .unwrap()
        .unwrap();
    let item = Natural {
        kind: "calendar-event".to_owned(),
        id: "event-1".to_owned(),
        owner: Some(owner.clone()),
    };
    let item = store.identify(&[item]).await.unwrap().remove(0);
    let intent = Event::ItemDeleteIntended(DeleteIntended {
        plan: Hash::ZERO,
        approval: "0197f1c2-0000-7000-8000-000000000001".parse().unwrap(),
        attempt: 1,
        place: "calendar".to_owned(),
        item: "event-1".to_owned(),
        version: "1".to_owned(),
        backup: Body {
            base64: String::new(),
            sha256: Hash::of(b""),
        },
    });
    let intent = Draft::of(&intent, item, Actor::system(), owner).unwrap();
    store.append(intent).await.unwrap();
    store.close().await;
    let refused = by(&world, "ann", &[&["erase", ANN], &WHY[..]].concat());
    assert_eq!(refused.exit, 1);
    let words = "the deletion of 1 items has begun and its end is not known";
    assert!(refused.stderr.contains(words), "{refused:?}");
}

#[tokio::test]
async fn an_approval_lapses_and_a_simulated_clock_is_kept_to() {
    let start = ["--simulated-clock", "2026-03-01T00:00:00Z"];
    let world = World::with_ledger(&[&PERSONS[..], &start].concat()).await;
    let at = |time: &str, subject: &str| {
        let line = line("test.happened", subject, &json!({})).to_string();
        world
            .ledger_in(["append", "--recorded-at", time], &line)
            .ok();
    };
    at("2026-03-01T01:00:00Z", ANN);
    let asked = ask(&world, ANN, &["--copies-until", "2026-09-01"]);
    // Named by its id, this time.
    let id = asked["request"]["id"].as_str().unwrap();
    for person in ["bea", "cid"] {
        by(&world, person, &["approve", id]).ok();
    }
    at("2026-03-08T01:00:00Z", BOB);
    let lapsed = by(&world, "ann", &["erase", ANN]);
    assert_eq!(
        (lapsed.exit, &lapsed.json()["approvals_missing"]),
        (1, &json!(2)),
        "{lapsed:?}"
    );
    for person in ["bea", "cid"] {
        by(&world, person, &["approve", id]).ok();
    }
    let done = by(&world, "ann", &["erase", ANN]).ok().json();
    assert_eq!(done["state"], "done");
    assert_eq!(done["erased"]["recorded_at"], "2026-03-08T01:00:00.000000Z");
    assert_eq!(done["copies_until"], "2026-09-01T00:00:00.000000Z");
    world.assert_intact();
}

#[tokio::test]
async fn who_may_not_ask_or_approve_does_not() {
    let world = world().await;
    let exit = |person: &str, arguments: &[&str]| by(&world, person, arguments).exit;
    let erasing = [&["erase", ANN], &WHY[..]].concat();
    assert_eq!(exit("mallory", &erasing), 1);
    assert_eq!(exit("worker:one", &erasing), 2);
    assert_eq!(exit("ann", &["erase", ANN]), 2);
    assert_eq!(exit("ann", &["erase", "user:nobody@example.com"]), 1);
    let mailed = [
        "erase",
        ANN,
        "--reason",
        "bob@example.com asked",
        "--legal-basis",
        "x",
    ];
    assert_eq!(exit("ann", &mailed), 2);
    let asked = ask(&world, ANN, &[]);
    let hash = asked["request"]["hash"].as_str().unwrap();
    assert_eq!(exit("mallory", &["approve", &hash[..12]]), 1);
    assert_eq!(exit("ann", &["approve", "0123456789ab"]), 1);
    // What belongs to somebody goes with its owner.
    let store = world.store().await;
    let owner = store
        .subject_of("user", "bob.ray@example.com")
        .await
        .unwrap()
        .unwrap();
    let item = Natural {
        kind: "calendar-event".to_owned(),
        id: "event-1".to_owned(),
        owner: Some(owner.clone()),
    };
    let item = store.identify(&[item]).await.unwrap().remove(0);
    store.close().await;
    let output = by(
        &world,
        "ann",
        &[&["erase", &item.to_string()], &WHY[..]].concat(),
    );
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(
        output.stderr.contains(&format!("ledger erase {owner}")),
        "{output:?}"
    );
    assert_eq!(
        states(&world)
            .iter()
            .filter(|state| *state != "open")
            .count(),
        0
    );
}

#[tokio::test]
async fn a_person_gets_everything_held_on_them_and_the_copy_is_called_back() {
    let world = world().await;
    let file = world.home().join("copy.json");
    let path = file.to_str().unwrap();
    let answer = by(
        &world,
        "bea",
        &["subject", "export", "--natural", ANN, "--out", path],
    )
    .ok()
    .json();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(answer["sha256"], Hash::of(text.as_bytes()).to_string());
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["subjects"][0]["natural_id"], "ann.lee@example.com");
    let entries = document["entries"].as_array().unwrap();
    let seqs: Vec<u64> = entries
        .iter()
        .map(|entry| entry["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [5, 7]);
    assert_eq!(entries[1]["payload"]["note"], "secret of ann");
    assert!(!text.contains("bob.ray"), "{text}");
    // Once more it would overwrite; to standard output it goes, and is recorded as well.
    assert_eq!(
        by(
            &world,
            "bea",
            &["subject", "export", "--natural", ANN, "--out", path]
        )
        .exit,
        4
    );
    let owner = answer["owner"].as_str().unwrap();
    let printed = by(&world, "bea", &["subject", "export", owner]).ok();
    assert_eq!(printed.json()["entries"].as_array().unwrap().len(), 2);
    let exports = world
        .ledger(["log", "--type", "subject.exported", "--json"])
        .ok()
        .lines();
    assert_eq!(exports.len(), 2);
    assert_eq!(exports[0]["payload"]["to"], path);

    let (_, done) = erase(&world, ANN, &[]);
    let copies = done["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 2, "{done}");
    assert_eq!(
        (&copies[0]["to"], &copies[0]["sha256"]),
        (&json!(path), &answer["sha256"])
    );
    // Where it went is still known, and the erasure itself names it.
    let entry = done["erased"]["seq"].to_string();
    let shown = world.ledger(["show", &entry, "--json"]).ok().json();
    assert_eq!(shown["payload"]["copies"][0]["seq"], exports[0]["seq"]);
    let nothing = by(&world, "bea", &["subject", "export", owner]).ok().json();
    assert_eq!(nothing["entries"][0]["payload_state"], "erased");
    world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_whose_backup_is_erased_is_no_loss_and_is_told() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    let world = &migration.world;
    let before = migration.loss();
    let sum = |loss: &Value, state: &str| {
        loss["scopes"]["calendar"]["sum"][state]
            .as_u64()
            .unwrap_or(0)
    };
    // The account with most deletions.
    let review = world.ledger(["review", "deletions", "--json"]).ok().json();
    let deleted: Vec<&Value> = review["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["state"] == "deleted")
        .collect();
    let store = world.store().await;
    let mut owners: BTreeMap<Subject, u64> = BTreeMap::new();
    for item in &deleted {
        let subject = item["subject"].as_str().unwrap().parse().unwrap();
        *owners
            .entry(store.owner_of(&subject).await.unwrap())
            .or_default() += 1;
    }
    store.close().await;
    let (owner, count) = owners.into_iter().max_by_key(|(_, count)| *count).unwrap();
    let owner = owner.to_string();
    let keep = [
        "retention",
        "set",
        "calendar-event",
        "--until",
        "2999-01-01",
        "--reason",
        "undo window",
    ];
    by(world, "maker", &keep).ok();
    let refused = by(world, "maker", &[&["erase", &owner], &WHY[..]].concat());
    assert!(
        refused.exit == 1 && refused.stderr.contains("calendar-event are kept until"),
        "{refused:?}"
    );
    let keep = [
        "retention",
        "set",
        "calendar-event",
        "--until",
        "2020-01-01",
        "--reason",
        "it is over",
    ];
    by(world, "maker", &keep).ok();
    let asked = by(world, "maker", &[&["erase", &owner], &WHY[..]].concat()).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in ["approver", "runner"] {
        by(world, person, &["approve", hash]).ok();
    }
    by(world, "maker", &["erase", &owner]).ok();

    let loss = migration.loss();
    assert_eq!(loss["verdict"], before["verdict"], "{loss}");
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    assert_eq!(sum(&loss, "backup_erased"), count, "{loss}");
    assert_eq!(
        sum(&loss, "deleted"),
        sum(&before, "deleted") - count,
        "{loss}"
    );
    for state in ["protected", "held", "gone_before", "unaccounted"] {
        assert_eq!(sum(&loss, state), sum(&before, state), "{state}: {loss}");
    }
    let review = world.ledger(["review", "deletions", "--json"]).ok().json();
    let erased = review["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["state"] == "backup_erased");
    let erased: Vec<&Value> = erased.collect();
    assert_eq!(erased.len() as u64, count);
    assert_eq!(
        erased[0]["erased"]["by"],
        json!(["person:approver", "person:runner"])
    );
    let text = world.ledger(["review", "deletions"]).ok().stdout;
    assert!(
        text.contains("deleted as approved, backup erased with its owner"),
        "{text}"
    );
    assert!(
        text.contains("erased on ") && text.contains("by person:approver, person:runner"),
        "{text}"
    );
    world.assert_intact();
    // The same of a user of the retired system: the items are the account's.
    let user = world
        .ledger(["log", "--type", "user.found", "--json"])
        .ok()
        .lines();
    let user = user[0]["entry"]["subject"].as_str().unwrap().to_owned();
    let asked = by(world, "maker", &[&["erase", &user], &WHY[..]].concat()).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in ["approver", "runner"] {
        by(world, person, &["approve", hash]).ok();
    }
    let done = by(world, "maker", &["erase", &user]).ok().json();
    assert_eq!(done["erased"]["epoch"], 3);
    // Who was not reached and is erased is nobody who could be reached any more.
    let mut expected = loss["scopes"]["calendar"].clone();
    let unreached = expected["unreached"].as_array_mut().unwrap();
    unreached.retain(|one| one["user"] != user.as_str());
    assert_eq!(migration.loss()["scopes"]["calendar"], expected);
    world.assert_intact();
    // Work goes on: another dry run, and the same plan is not begun anew.
    migration.dry_run();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
}
