//! What persons do with a run: decide about what it held, ask why, list, and close it.

use std::collections::BTreeSet;

use ledger_sim::{Call, EventKey, HoldPoint, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{APPROVER, MAKER, Migration, Plan, RUNNER, Running};
use crate::world::Output;

/// Runs the binary as somebody.
fn by(migration: &Migration, person: &str, arguments: &[&str]) -> Output {
    migration
        .world
        .ledger([&["--as", person], arguments].concat())
}

/// Held items of a dry run that nothing in the new system relies on, as a review would let go.
fn held(report: &Value) -> Vec<EventKey> {
    let items = report["items"].as_array().unwrap().iter();
    let held = items.filter(|item| {
        let class = item["class"].as_str().unwrap();
        item["disposition"] == "hold" && ["EDITED", "LINKED"].contains(&class)
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    held.map(|item| (text(&item["calendar"]), text(&item["event_id"])))
        .collect()
}

/// Fails unless the command was refused with this in its error, and recorded nothing.
#[track_caller]
fn refused(migration: &Migration, person: &str, arguments: &[&str], why: &str) {
    let before = migration.log(&[]).len();
    let output = by(migration, person, arguments);
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(output.stderr.contains(why), "{}", output.stderr);
    assert_eq!(migration.log(&[]).len(), before);
}

/// Fails unless exactly these events are gone, by what the services have: a person may let go of what was only held.
#[track_caller]
fn assert_gone(migration: &Migration, expected: &BTreeSet<EventKey>) {
    let gone: Vec<EventKey> = migration.sim.deleted();
    let set: BTreeSet<EventKey> = gone.iter().cloned().collect();
    assert_eq!((gone.len(), &set), (expected.len(), expected));
    assert!(migration.sim.compare(expected).added.is_empty());
}

fn decide(event: &str, decision: &str) -> Vec<String> {
    let arguments = [
        "review",
        "decide",
        event,
        decision,
        "--reason",
        "case 12 is closed",
    ];
    arguments.map(str::to_owned).to_vec()
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_is_approved_anew_and_exactly_that_goes_too() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let candidates = held(&report);
    let [go, stay, ..] = candidates.as_slice() else {
        panic!("two items to decide about: {candidates:?}");
    };
    migration.approve(&base.hash);
    migration.live_run(&base.hash).ok();
    migration.sim.assert_only_deleted(&base.deletes);

    // Nobody decides about a plan of one's own, about what is not held, or about nothing known.
    let goes = decide(&go.1, "delete");
    refused(
        &migration,
        MAKER,
        &strs(&goes),
        "somebody else has to decide",
    );
    let (_, gone) = base.deletes.iter().next().unwrap();
    let other = decide(gone, "keep");
    refused(
        &migration,
        RUNNER,
        &strs(&other),
        "is not held: it is deleted",
    );
    let other = decide("no such event", "keep");
    refused(
        &migration,
        RUNNER,
        &strs(&other),
        "nothing in this ledger is about such an item",
    );

    // The person who ran it decides, twice: the second plan is made of the first.
    let first = by(
        &migration,
        RUNNER,
        &[&["--json"], &strs(&goes)[..]].concat(),
    );
    let first = first.ok().json();
    assert_eq!(first["base"], base.hash.as_str());
    let stays = decide(&stay.1, "keep");
    let on_base = [&strs(&stays)[..], &["--plan", &base.hash]].concat();
    refused(&migration, RUNNER, &on_base, "was decided about before");
    let second = by(
        &migration,
        RUNNER,
        &[&["--json"], &strs(&stays)[..]].concat(),
    );
    let second = second.ok().json();
    assert_eq!(second["base"], first["plan"]);
    let plan = second["plan"].as_str().unwrap().to_owned();
    refused(
        &migration,
        RUNNER,
        &strs(&stays),
        "is not held: it is excluded",
    );

    // The approval of the plan below covers nothing of it, nor does one by who decided.
    let early = migration.live_run(&plan);
    assert!(
        early.exit == 1 && early.stderr.contains("is not approved"),
        "{early:?}"
    );
    for maker in [MAKER, RUNNER] {
        refused(
            &migration,
            maker,
            &["approve", &plan],
            "somebody else has to approve it",
        );
    }
    let approved = by(&migration, APPROVER, &["approve", &plan]).ok();
    assert!(
        approved
            .stdout
            .contains("decided by person:runner: 1 to delete, 1 to keep")
    );

    let before = migration.sim.calendar_writes().len();
    let report = migration.live_run(&plan).ok().json();
    let mut gone = base.deletes.clone();
    gone.insert(go.clone());
    assert_gone(&migration, &gone);
    assert_eq!(
        migration.sim.calendar_writes().len(),
        before + 1,
        "nothing twice"
    );
    assert_eq!(report["totals"]["deleted"], gone.len(), "{report}");
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    let calendar = &loss["scopes"]["calendar"];
    assert_eq!(calendar["verdict"], "none", "{loss}");
    assert_eq!(calendar["sum"]["excluded"], 1, "{loss}");
    assert_eq!(calendar["sum"]["deleted"], gone.len(), "{loss}");

    // Either plan once more, and a new one that finds the kept one held again: nothing is left to do.
    migration.live_run(&plan).ok();
    migration.live_run(&base.hash).ok();
    let again = Plan::of(&migration.dry_run());
    assert!(again.deletes.is_empty(), "{again:?}");
    assert_eq!(migration.sim.calendar_writes().len(), before + 1);
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["sum"]["excluded"], 1, "{loss}");
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_made_by_decisions_goes_on_where_a_killed_run_of_the_one_below_stopped() {
    let migration = Migration::start(WorldSpec::seeded(22)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let go = held(&report).remove(0);
    migration.approve(&base.hash);
    let hold = migration.sim.hold(Call::EventsDelete, 5, HoldPoint::After);
    let running = Running::start(&mut migration.live_command(&base.hash));
    hold.reached().await;
    running.kill();
    hold.release();
    let gone = migration.sim.deleted().len();
    assert!(gone > 0 && gone < base.deletes.len());

    by(&migration, RUNNER, &strs(&decide(&go.1, "delete"))).ok();
    let plan = migration.log(&["plan.sealed"]).pop().unwrap()["payload"]["plan"].clone();
    let plan = plan.as_str().unwrap();
    migration.approve(plan);
    migration.live_run(plan).ok();
    let mut all = base.deletes.clone();
    all.insert(go);
    assert_gone(&migration, &all);
    // One intent before each deletion, one outcome after it, and none of them twice.
    migration.assert_ledger_accounts_for_all();
    let calendar = migration.loss()["scopes"]["calendar"].clone();
    assert_eq!(calendar["verdict"], "none", "{calendar}");
    assert_eq!(calendar["sum"]["deleted"], all.len(), "{calendar}");
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_still_does_for_the_plan_below_is_waited_for() {
    let migration = Migration::start(WorldSpec::seeded(22)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let go = held(&report).remove(0);
    migration.approve(&base.hash);
    let first = migration.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let mut command = migration.live_command(&base.hash);
    let began = Running::start(command.args(["--users-at-once", "1"]));
    first.reached().await;
    let second = migration.sim.hold(Call::EventsDelete, 1, HoldPoint::Before);
    let mut command = migration.worker_command("w1");
    let worker = Running::start(command.args(["--users-at-once", "1"]));
    second.reached().await;
    began.kill();
    first.release();

    by(&migration, RUNNER, &strs(&decide(&go.1, "delete"))).ok();
    let plan = migration.log(&["plan.sealed"]).pop().unwrap()["payload"]["plan"].clone();
    let plan = plan.as_str().unwrap().to_owned();
    migration.approve(&plan);
    let run = Running::start(&mut migration.live_command(&plan));
    second.release();
    let run = run.output().await;
    assert_eq!(run.exit, 0, "{run:?}");
    drop(worker.output().await);
    let mut all = base.deletes.clone();
    all.insert(go);
    assert_gone(&migration, &all);
    migration.assert_ledger_accounts_for_all();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_go_by_decision_and_changed_since_is_left_alone() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let go = held(&report).remove(0);
    let made = by(
        &migration,
        RUNNER,
        &[&["--json"], &strs(&decide(&go.1, "delete"))[..]].concat(),
    );
    let plan = made.ok().json()["plan"].as_str().unwrap().to_owned();
    migration.approve(&plan);
    let changed = json!({"location": "room 3"});
    assert!(migration.sim.edit_event(&go.0, &go.1, &changed));
    let run = migration.live_run(&plan);
    assert_eq!(run.exit, 1, "a planned item was not done");
    assert_gone(&migration, &base.deletes);
    // It may be kept now, and no longer let go: nobody has looked at what it is by now.
    refused(
        &migration,
        RUNNER,
        &strs(&decide(&go.1, "delete")),
        "changed after the plan was made",
    );
    by(&migration, RUNNER, &strs(&decide(&go.1, "keep"))).ok();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["sum"]["excluded"], 1, "{loss}");
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_is_answered_in_plain_words_with_the_entry_that_says_so() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let stay = held(&report).remove(0);
    migration.approve(&base.hash);
    migration.live_run(&base.hash).ok();
    by(&migration, RUNNER, &strs(&decide(&stay.1, "keep"))).ok();

    let (_, event) = base.deletes.iter().next().unwrap();
    let answer = by(&migration, RUNNER, &["review", "explain", event, "--json"]).ok();
    let answer = answer.json();
    assert_eq!(
        (&answer["state"], &answer["kind"]),
        (&json!("deleted"), &json!("calendar-event"))
    );
    let signals = answer["signals"].as_array().unwrap();
    let recorded = signals
        .iter()
        .find(|signal| signal["name"] == "v1_recorded")
        .unwrap();
    assert_eq!(recorded["holds"], true);
    assert_eq!(
        recorded["meaning"],
        "v1 recorded the id on a case of a user of this account"
    );
    assert!(signals.iter().any(|signal| signal["holds"] == false));
    // Each statement names an entry that is there, and is about this item, its plan or its approval.
    let log = migration.log(&[]);
    let mut types = BTreeSet::new();
    for said in answer["statements"].as_array().unwrap() {
        let seq = usize::try_from(said["seq"].as_u64().unwrap()).unwrap();
        let entry = &log[seq - 1];
        assert_eq!(entry["hash"], said["hash"], "{said}");
        let about_it = entry["entry"]["subject"] == answer["subject"];
        let kind = entry["type"].as_str().unwrap();
        assert!(
            about_it || ["plan.sealed", "plan.approved"].contains(&kind),
            "{said}"
        );
        types.insert(kind.to_owned());
    }
    let expected = [
        "item.delete_intended",
        "item.deleted",
        "item.found",
        "plan.approved",
        "plan.sealed",
    ];
    assert_eq!(types, expected.map(str::to_owned).into());

    // The same by subject and by the number of an entry about it.
    let subject = answer["subject"].as_str().unwrap();
    let seq = answer["outcome"]["seq"].to_string();
    for name in [subject, &seq] {
        let same = by(&migration, RUNNER, &["review", "explain", name, "--json"]).ok();
        assert_eq!(same.json(), answer);
    }
    let text = by(&migration, RUNNER, &["review", "explain", event])
        .ok()
        .stdout;
    for part in [
        "It was deleted, as approved: V1_RECORDED,",
        "A whole copy of it lies in entry",
        "What was seen of it (entry",
        "What was looked for and not seen (entry",
        "was approved at",
        "by person:approver (asserted)",
        "attempt 1 ended at",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = by(&migration, RUNNER, &["review", "explain", &stay.1])
        .ok()
        .stdout;
    assert!(
        text.contains("It was not deleted: a person decided to keep it")
            && text.contains("person:runner decided at")
            && text.contains("to keep it, which made plan")
            && text.contains("case 12 is closed"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_filtered_and_its_counts_add_up() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let plan = Plan::of(&report);
    let list = |arguments: &[&str]| {
        let output = by(
            &migration,
            RUNNER,
            &[&["review", "list", "--json"], arguments].concat(),
        );
        output.ok().json()
    };
    let all = list(&[]);
    assert_eq!(all["plan"], plan.hash.as_str());
    assert_eq!(all["total"], report["totals"]["items"]);
    assert_eq!(all["shown"], all["total"]);
    assert_eq!(all["classes"], report["totals"]["classes"]);
    assert_eq!(all["dispositions"], report["totals"]["dispositions"]);
    let sum = |answer: &Value, by: &str| -> u64 {
        let counts = answer[by].as_object().unwrap().values();
        counts.map(|count| count.as_u64().unwrap()).sum()
    };
    let mut items = all["items"].as_array().unwrap().iter();
    let one = items.find(|item| item["disposition"] == "delete").unwrap();
    let email = one["users"][0]["email"].as_str().unwrap();
    for filter in [
        &["--class", "EDITED"][..],
        &["--class", "EDITED", "--class", "V1_RECORDED"],
        &["--disposition", "delete"],
        &["--disposition", "hold", "--state", "held"],
        &["--state", "planned"],
        &["--uncovered"],
        &["--user", email],
        &["--user", email, "--disposition", "delete"],
    ] {
        let part = list(filter);
        let shown = part["shown"].as_u64().unwrap();
        assert!(shown < all["total"].as_u64().unwrap(), "{filter:?}");
        assert!(shown > 0, "{filter:?}");
        assert_eq!(part["items"].as_array().unwrap().len() as u64, shown);
        for counts in ["classes", "dispositions", "states"] {
            assert_eq!(sum(&part, counts), shown, "{filter:?} {counts}");
        }
    }
    let uncovered = list(&["--uncovered"]);
    assert_eq!(uncovered["shown"], report["totals"]["uncovered"]);
    for (arguments, exit) in [
        (&["review", "list", "--user", "nobody@example.com"][..], 1),
        (&["review", "list", "--state", "lost"], 2),
        (&["review", "list", "--plan", "0000000000"], 1),
    ] {
        assert_eq!(
            by(&migration, RUNNER, arguments).exit,
            exit,
            "{arguments:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_closed_by_somebody_else_and_a_later_change_shows() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let plan = migration.approved_plan();
    let hold = migration.sim.hold(Call::EventsDelete, 5, HoldPoint::After);
    let running = Running::start(&mut migration.live_command(&plan.hash));
    hold.reached().await;
    running.kill();
    hold.release();
    let started = migration.log(&["run.started"]).pop().unwrap();
    let run = started["entry"]["run"].as_str().unwrap().to_owned();
    let sign = ["review", "sign-off", &run];
    refused(&migration, APPROVER, &sign, "has not finished");
    migration.live_run(&plan.hash).ok();
    refused(&migration, MAKER, &sign, "made the plan of this run");
    refused(&migration, RUNNER, &sign, "acted in this run");
    refused(&migration, "stranger", &sign, "is not among the persons");
    let note = [
        &sign[..],
        &["--note", "spot check of 3 users done", "--json"],
    ]
    .concat();
    let signed = by(&migration, APPROVER, &note).ok().json();
    assert_eq!(signed["states"]["deleted"], plan.deletes.len());
    assert_eq!(
        signed["document"]["items"].as_array().unwrap().len(),
        plan.deletes.len()
    );
    // It is the digest of what was shown, in canonical JSON, for anybody to compute again.
    let canonical = ledger::chain::canonical::to_bytes(&signed["document"]).unwrap();
    let digest = ledger::domain::hash::Hash::of(&canonical).to_string();
    assert_eq!(signed["statement"], digest.as_str());

    let review = || {
        let review = by(&migration, APPROVER, &["review", "deletions", "--json"])
            .ok()
            .json();
        let runs = review["runs"].as_array().unwrap().iter();
        let line = runs.clone().find(|line| line["run"] == run.as_str());
        line.unwrap()["signed_off"].clone()
    };
    let line = review();
    assert_eq!(line[0]["by"], "person:approver");
    assert_eq!(line[0]["changed_since"], false);
    assert_eq!(line[0]["note"], "spot check of 3 users done");
    assert_eq!(
        by(&migration, APPROVER, &note).ok().json()["replayed"],
        true
    );
    // Another dry run finds the same items gone: that is no change.
    migration.dry_run();
    assert_eq!(review()[0]["changed_since"], false);

    // One of them is put back, behind the ledger's back, and a run of the plan sees it.
    let (calendar, event) = plan.deletes.iter().next().unwrap();
    let review_text = || {
        by(
            &migration,
            APPROVER,
            &["review", "deletions", "--run", &run],
        )
        .stdout
    };
    assert!(review_text().contains("signed off by person:approver"));
    let item = by(
        &migration,
        APPROVER,
        &["review", "explain", event, "--json"],
    )
    .ok()
    .json();
    let subject = item["subject"].as_str().unwrap();
    let store = migration.world.store().await;
    let observed =
        ledger::domain::event::Event::ItemObserved(ledger::domain::event::ItemObserved {
            run: run.parse().unwrap(),
            observation: ledger::domain::custody::Observation::Unchanged,
            explained: false,
            version: None,
        });
    let subject: ledger::domain::id::Subject = subject.parse().unwrap();
    let owner = store.owner_of(&subject).await.unwrap();
    let actor = "worker:observer".parse().unwrap();
    let draft = ledger::store::Draft::of(&observed, subject, actor, owner).unwrap();
    store.append(draft).await.unwrap();
    store.close().await;
    assert_eq!(review()[0]["changed_since"], true, "{calendar}");
    assert!(review_text().contains("AND CHANGED SINCE"));
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_to_delete_can_be_taken_back_until_it_is_carried_out() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let base = Plan::of(&report);
    let one = held(&report).remove(0);
    let (goes, stays) = (decide(&one.1, "delete"), decide(&one.1, "keep"));
    by(&migration, RUNNER, &strs(&goes)).ok();
    let (_, by_policy) = base.deletes.iter().next().unwrap();
    refused(
        &migration,
        RUNNER,
        &strs(&decide(by_policy, "keep")),
        "is not held: it is planned",
    );
    let kept = by(
        &migration,
        RUNNER,
        &[&["--json"], &strs(&stays)[..]].concat(),
    );
    let plan = kept.ok().json()["plan"].as_str().unwrap().to_owned();
    migration.approve(&plan);

    // One that goes by the policy is changed before its turn, so it is held then; another plan finds it as it is.
    let (calendar, changed) = base.deletes.iter().next().unwrap();
    let edit = json!({"location": "room 3"});
    assert!(migration.sim.edit_event(calendar, changed, &edit));
    assert_eq!(migration.live_run(&plan).exit, 1);
    let mut gone = base.deletes.clone();
    gone.remove(&(calendar.clone(), changed.clone()));
    assert_gone(&migration, &gone);
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["sum"]["excluded"], 1, "{loss}");
    let explained = || {
        by(&migration, RUNNER, &["review", "explain", changed])
            .ok()
            .stdout
    };
    let text = explained();
    assert!(text.contains("when its turn came: "), "{text}");
    migration.dry_run();
    let text = explained();
    assert!(
        text.contains("It was not deleted: it is held for a person to decide: "),
        "{text}"
    );
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_whole_can_only_be_kept() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let report = migration.dry_run();
    let mut items = report["items"].as_array().unwrap().iter();
    let unread = items.find(|item| {
        item["class"] == "UNREADABLE" && item["event_id"].as_str().is_some_and(|id| !id.is_empty())
    });
    let event = unread.unwrap()["event_id"].as_str().unwrap();
    refused(
        &migration,
        RUNNER,
        &strs(&decide(event, "delete")),
        "could not be read whole",
    );
    by(&migration, RUNNER, &strs(&decide(event, "keep"))).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_items_of_one_id_are_told_apart_by_whose_they_are() {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let first = Plan::of(&migration.dry_run());
    let (calendar, event) = first.deletes.iter().next().unwrap();
    let elsewhere = first.deletes.iter().find(|key| key.0 != *calendar).unwrap();
    let mut copy = migration.sim.initial_state()[calendar][event].clone();
    let fields = copy.as_object_mut().unwrap();
    fields.retain(|name, _| !["id", "etag", "iCalUID"].contains(&name.as_str()));
    assert!(migration.sim.add_event(&elsewhere.0, event, &copy));
    migration.dry_run();
    let several = by(&migration, RUNNER, &["review", "explain", event]);
    assert_eq!(several.exit, 2, "{several:?}");
    for said in ["2 items have this id", calendar, &elsewhere.0] {
        assert!(several.stderr.contains(said), "{said}: {several:?}");
    }
}
