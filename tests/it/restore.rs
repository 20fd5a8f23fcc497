//! Undo: what a cleanup deleted comes back, as it was but for what is named, once and not twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use ledger_sim::{Call, EventKey, Fault, FaultKind, Occurrence, WorldSpec};
use serde_json::{Value, json};

use crate::migration::{Migration, Plan, RUNNER, total, word};
use crate::world::{Output, output};

/// What un-cancelling an event cannot leave as it was.
pub(crate) const CHANGED: [&str; 3] = ["etag", "sequence", "updated"];
/// What an event that is made anew cannot have of the old one.
pub(crate) const ANEW: [&str; 7] = [
    "created", "etag", "htmlLink", "iCalUID", "id", "sequence", "updated",
];

impl Migration {
    /// `ledger restore calendar --json` with the environment of the services and short waits.
    pub(crate) fn restore_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(["restore", "calendar", "--json"]);
        command
            .args(["--as", RUNNER, "--user-interval", "1ms"])
            .arg("--log-dir")
            .arg(self.logs())
            .args(arguments)
            .envs(self.sim.env())
            .env("LEDGER_RETRY_BASE_MS", "20")
            .env("LEDGER_REQUEST_LIMIT_MS", "3000")
            .env("LEDGER_LEASE_MS", "4000")
            .stdin(Stdio::null());
        command
    }

    /// Everything of a plan.
    pub(crate) fn restore_plan(&self, plan: &str) -> Command {
        self.restore_command(&["--plan", plan, "--reason", "case 17"])
    }

    pub(crate) fn restore(&self, arguments: &[&str]) -> Output {
        output(&mut self.restore_command(arguments))
    }

    /// A plan made, approved and executed; the run.
    #[track_caller]
    pub(crate) fn cleaned_up(&self) -> (Plan, String) {
        let plan = self.approved_plan();
        let report = self.live_run(&plan.hash).ok().json();
        self.sim.assert_only_deleted(&plan.deletes);
        (plan, report["run"].as_str().unwrap().to_owned())
    }

    /// Old id to new id, by calendar, of everything that came back.
    pub(crate) fn mapping(&self) -> BTreeMap<EventKey, String> {
        let export = self
            .world
            .ledger(["restore", "export", "--format", "json", "--all"])
            .ok()
            .json();
        let items = export["items"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        items
            .iter()
            .map(|item| {
                let key = (text(&item["place"]), text(&item["old_id"]));
                (key, text(&item["new_id"]))
            })
            .collect()
    }

    /// Fails unless the calendars are as they were when the world began, field by field, but for these fields of the events that came
    /// back, and each of them is there once.
    #[track_caller]
    pub(crate) fn assert_as_before(&self, came_back: &BTreeSet<EventKey>) {
        let mapping = self.mapping();
        let (before, now) = (self.sim.initial_state(), self.sim.final_state());
        for (calendar, events) in &before {
            let mut left = now[calendar].clone();
            for (id, was) in events {
                let key = (calendar.clone(), id.clone());
                if !came_back.contains(&key) {
                    assert_eq!(left.remove(id).as_ref(), Some(was), "{key:?}");
                    continue;
                }
                let new = mapping
                    .get(&key)
                    .unwrap_or_else(|| panic!("not back: {key:?}"));
                let is = left
                    .remove(new)
                    .unwrap_or_else(|| panic!("not there: {key:?}"));
                let named: &[&str] = if new == id { &CHANGED } else { &ANEW };
                let without = |event: &Value| {
                    let mut fields = event.as_object().unwrap().clone();
                    fields.retain(|name, _| !named.contains(&name.as_str()));
                    fields
                };
                assert_eq!(without(&is), without(was), "{key:?}");
            }
            assert!(left.is_empty(), "more than before in {calendar}: {left:#?}");
        }
    }

    /// Fails unless each intent to put something back has exactly one outcome, no two of one item overlap, and nothing was changed
    /// without one.
    #[track_caller]
    pub(crate) fn assert_restorations_add_up(&self) {
        let types = [
            "item.restore_intended",
            "item.restored",
            "item.restore_failed",
        ];
        let mut open: BTreeMap<String, String> = BTreeMap::new();
        let mut intents = 0;
        let mut back = BTreeSet::new();
        for line in self.log(&types) {
            let entry = &line["entry"];
            let subject = word(&entry["subject"]);
            if line["type"] == "item.restore_intended" {
                intents += 1;
                assert!(
                    !back.contains(&subject),
                    "begun again after it was back: {line}"
                );
                let before = open.insert(subject, word(&entry["id"]));
                assert_eq!(before, None, "two attempts in flight: {line}");
                continue;
            }
            let intent = open.remove(&subject);
            assert_eq!(intent.as_ref(), Some(&word(&entry["cause"])), "{line}");
            assert_eq!(intent, Some(word(&line["payload"]["intent"])));
            if line["type"] == "item.restored" {
                assert!(back.insert(subject), "back twice: {line}");
            }
        }
        assert_eq!(open, BTreeMap::new(), "left open");
        let writes = self.sim.calendar_writes();
        let puts = writes
            .iter()
            .filter(|write| matches!(write.call, Some(Call::EventsPatch | Call::EventsInsert)));
        let puts = puts.count();
        assert!(puts <= intents, "{puts} changes and {intents} intents");
    }
}

fn only(key: &EventKey) -> BTreeSet<EventKey> {
    BTreeSet::from([key.clone()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_a_run_comes_back_as_it_was() {
    let migration = Migration::start(WorldSpec::seeded(61)).await;
    let (plan, run) = migration.cleaned_up();
    let count = plan.deletes.len() as u64;
    let deletions = migration.sim.calendar_writes().len();

    // The dry run looks and neither changes nor records anything.
    let head = migration.log(&[]).len();
    let dry = ["--run", &run, "--dry-run"];
    let preview = migration.restore(&dry).ok().json();
    assert_eq!(total(&preview, "possible"), count, "{preview:#}");
    assert_eq!(preview["ways"], json!({"uncancel": count}));
    assert_eq!(preview["lost"]["uncancel"], json!(CHANGED));
    assert_eq!(migration.log(&[]).len(), head);
    assert_eq!(migration.sim.calendar_writes().len(), deletions);

    // As one writes it first; who does it is recorded, and a reason where one was given.
    let restore = ["--run", run.as_str()];
    let report = migration.restore(&restore).ok();
    for said in ["by un-cancelling", "there are two then"] {
        assert!(report.stderr.contains(said), "{}", report.stderr);
    }
    let started = migration.log(&["run.started"]).pop().unwrap();
    assert_eq!(started["entry"]["actor"], format!("person:{RUNNER}"));
    assert_eq!(started["payload"]["options"].get("reason"), None);
    let report = report.json();
    assert_eq!(report["status"], "complete");
    assert_eq!(total(&report, "restored"), count, "{report:#}");
    assert_eq!(total(&report, "differing"), 0);
    assert_eq!(total(&report, "not_read_back"), 0);
    assert_eq!(report["lost"]["uncancel"], json!(CHANGED));
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    let loss = migration.loss();
    let calendar = &loss["scopes"]["calendar"];
    assert_eq!(calendar["verdict"], "none", "{loss}");
    assert_eq!(calendar["sum"]["restored"], count);
    assert_eq!(calendar["sum"].get("deleted"), None);
    migration.world.assert_intact();

    // Again: it is looked at, and nothing is changed or recorded.
    let (head, writes) = (
        migration.log(&[]).len(),
        migration.sim.calendar_writes().len(),
    );
    let again = migration.restore(&restore).ok().json();
    assert_eq!(again["run"], Value::Null);
    assert_eq!(total(&again, "back_before"), count, "{again:#}");
    assert_eq!(migration.log(&[]).len(), head);
    assert_eq!(migration.sim.calendar_writes().len(), writes);

    // The cleanup of the same plan does not delete again what was put back.
    let cleanup = migration.live_run(&plan.hash);
    assert_eq!(cleanup.exit, 1, "{}", cleanup.stderr);
    assert_eq!(total(&cleanup.json(), "held"), count);
    migration.assert_as_before(&plan.deletes);
    assert_eq!(
        migration.loss()["scopes"]["calendar"]["sum"]["restored"],
        count
    );

    let review = migration
        .world
        .ledger(["review", "deletions", "--json"])
        .ok()
        .json();
    let items = review["items"].as_array().unwrap();
    let back: Vec<_> = items
        .iter()
        .filter(|item| item["state"] == "restored")
        .collect();
    assert_eq!(back.len() as u64, count);
    assert!(back.iter().all(|item| item["restored"]["verified"] == true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_google_has_forgotten_is_made_anew_under_another_id() {
    let migration = Migration::start(WorldSpec::seeded(62)).await;
    let (plan, _) = migration.cleaned_up();
    // Some tombstones are gone for good, of some Google refuses the change, the rest can be un-cancelled.
    let mut anew = BTreeSet::new();
    for (n, key) in plan.deletes.iter().enumerate() {
        if n % 3 == 0 {
            assert!(migration.sim.purge_event(&key.0, &key.1));
            anew.insert(key.clone());
        } else if n % 3 == 1 {
            let forbidden = FaultKind::reason(403, "forbidden");
            let fault = Fault::once(Call::EventsPatch, forbidden).when(Occurrence::Always);
            migration.sim.add_fault(fault.for_event(&key.1));
            anew.insert(key.clone());
        }
    }
    let report = output(&mut migration.restore_plan(&plan.hash)).ok().json();
    assert_eq!(report["ways"]["insert"], anew.len());
    assert_eq!(total(&report, "new_ids"), anew.len() as u64);
    let lost: BTreeSet<&str> = report["lost"]["insert"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(lost.is_subset(&ANEW.into()), "{lost:?}");
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
    for (key, new) in migration.mapping() {
        assert_eq!(key.1 != new, anew.contains(&key), "{key:?} {new}");
    }
    // Only what has to be re-pointed is exported, unless all is asked for.
    let csv = migration.world.ledger(["restore", "export"]).ok().stdout;
    assert_eq!(csv.lines().count(), anew.len() + 1);
    assert!(csv.starts_with("user,email,place,old_id,new_id,"), "{csv}");
    let inserts = migration.sim.calendar_writes();
    let inserts = inserts
        .iter()
        .filter(|write| write.call == Some(Call::EventsInsert));
    for insert in inserts {
        assert!(insert.query.contains("sendUpdates=none"), "{insert:?}");
        assert!(insert.query.contains("supportsAttachments=true"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_or_one_user_comes_back_alone() {
    let migration = Migration::start(WorldSpec::seeded(63)).await;
    let (plan, _) = migration.cleaned_up();
    let one = plan.deletes.first().unwrap();
    migration.restore(&["--event", &one.1]).ok();
    migration.assert_as_before_but(&plan, &only(one));
    let another = plan.deletes.last().unwrap();
    assert_ne!(one.0, another.0);
    let users = &migration.sim.world().users;
    let user = users
        .iter()
        .find(|user| user.account.as_deref() == Some(&another.0))
        .unwrap();
    migration.restore(&["--user", &user.id]).ok();
    let of_account = plan.deletes.iter().filter(|key| key.0 == another.0);
    let mut back: BTreeSet<EventKey> = of_account.cloned().collect();
    back.insert(one.clone());
    migration.assert_as_before_but(&plan, &back);
    // The plan brings back the rest, and nothing twice.
    output(&mut migration.restore_plan(&plan.hash)).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
}

impl Migration {
    /// Fails unless of a plan's events exactly these are back.
    #[track_caller]
    fn assert_as_before_but(&self, plan: &Plan, back: &BTreeSet<EventKey>) {
        let gone: BTreeSet<EventKey> = self.sim.deleted().into_iter().collect();
        let wanted: BTreeSet<EventKey> = plan.deletes.difference(back).cloned().collect();
        assert_eq!(gone, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_event_stands_for_comes_back_and_is_named_or_is_left_where_that_is_asked_for()
{
    let migration = Migration::start(WorldSpec::seeded(64)).await;
    let (plan, run) = migration.cleaned_up();
    // Each of these has a live event of the same title and day beside it.
    let (before, now) = (migration.sim.initial_state(), migration.sim.final_state());
    let is_double = |item: &Value| {
        let (place, id) = (word(&item["place"]), word(&item["old_id"]));
        let was = &before[&place][&id];
        let head = |event: &Value| {
            let title = event["summary"].as_str().unwrap_or_default().to_owned();
            let title = title.split(" - R").next().unwrap_or_default().to_owned();
            (title, event["start"]["date"].clone())
        };
        let mut others = now[&place].iter();
        others.any(|(other, event)| {
            *other != id
                && head(event) == head(was)
                && !plan.deletes.contains(&(place.clone(), other.clone()))
        })
    };
    let named_as = |report: &Value, name: &str, value: &Value| {
        for item in report["items"].as_array().unwrap() {
            assert_eq!(is_double(item), item[name] == *value, "{item}");
        }
    };
    let preview = migration.restore(&["--run", &run, "--dry-run"]).ok().json();
    let doubles = total(&preview, "doubles");
    assert!(doubles > 0, "{preview:#}");
    assert_eq!(total(&preview, "possible"), plan.deletes.len() as u64);
    named_as(&preview, "double", &json!(true));

    let left = migration.restore(&["--run", &run, "--leave-stand-ins"]);
    assert_eq!(left.exit, 1, "what is not back is said");
    let left = left.json();
    assert_eq!(total(&left, "stand_in"), doubles, "{left:#}");
    assert_eq!(total(&left, "doubles"), 0);
    let restored = total(&left, "restored");
    assert_eq!(restored + doubles, plan.deletes.len() as u64);
    named_as(&left, "ended", &json!("stand_in"));

    let report = migration.restore(&["--run", &run]).ok().json();
    assert_eq!(total(&report, "restored"), doubles, "{report:#}");
    assert_eq!(total(&report, "doubles"), doubles, "{report:#}");
    let of_users = report["users"].as_array().unwrap().iter();
    let of_users: u64 = of_users.filter_map(|user| user["doubles"].as_u64()).sum();
    assert_eq!(of_users, doubles);
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_put_back_by_hand_is_found_and_left() {
    let migration = Migration::start(WorldSpec::seeded(65)).await;
    let (plan, _) = migration.cleaned_up();
    let by_hand = plan.deletes.first().unwrap();
    let confirmed = json!({"status": "confirmed"});
    assert!(migration.sim.edit_event(&by_hand.0, &by_hand.1, &confirmed));
    let writes = migration.sim.calendar_writes().len();
    let report = output(&mut migration.restore_plan(&plan.hash)).ok().json();
    assert_eq!(total(&report, "already_there"), 1, "{report:#}");
    let restored = plan.deletes.len() - 1;
    assert_eq!(migration.sim.calendar_writes().len() - writes, restored);
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    assert_eq!(migration.loss()["scopes"]["calendar"]["verdict"], "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_undone_is_refused_with_the_reason() {
    let migration = Migration::start(WorldSpec::seeded(66).users(21).events_per_user(4)).await;
    let nothing = migration.restore(&["--event", "nosuchevent", "--reason", "x"]);
    assert_eq!(nothing.exit, 1, "{}", nothing.stderr);
    assert!(nothing.stderr.contains("nothing that this ledger deleted"));
    let (plan, run) = migration.cleaned_up();
    for reason in ["", "ann@example.com asked for it"] {
        let refused = migration.restore(&["--run", &run, "--reason", reason]);
        assert_eq!(refused.exit, 2, "{}", refused.stderr);
    }
    // Where the log file cannot be written, nothing is begun.
    let no_folder = migration.folder.path().join("a file");
    std::fs::write(&no_folder, "").unwrap();
    for command in [
        ["restore", "calendar", "--run", &run],
        ["cleanup", "observe", &run, "--json"],
    ] {
        let mut command = migration.world.command(command);
        let command = command.args(["--as", RUNNER, "--log-dir"]).arg(&no_folder);
        let prevented = output(command.envs(migration.sim.env()));
        assert_eq!(prevented.exit, 4, "{}", prevented.stderr);
        assert!(prevented.stderr.contains("open the run's log file"));
    }
    // An empty list of ids would read as if nothing had to be re-pointed.
    let dry_run = &migration.log(&["run.started"])[0]["entry"]["run"];
    let dry_run = dry_run.as_str().unwrap();
    for (run, why) in [
        (
            "01a2207c-9435-7c62-a23a-b6186633873c",
            "no run of this id was started",
        ),
        (dry_run, "is one of dry_run, which deletes nothing"),
    ] {
        let export = migration.world.ledger(["restore", "export", "--run", run]);
        assert_eq!((export.exit, export.stdout.as_str()), (1, ""));
        assert!(export.stderr.contains(why), "{}", export.stderr);
    }
    let nothing_meant = migration.restore(&["--reason", "x"]);
    assert_eq!(nothing_meant.exit, 2, "{}", nothing_meant.stderr);
    let mut stranger = migration.restore_plan(&plan.hash);
    let stranger = output(stranger.args(["--as", "stranger"]));
    assert_ne!(stranger.exit, 0);
    let mut machine = migration.restore_plan(&plan.hash);
    let machine = output(machine.args(["--as", "worker:cleanup"]));
    assert_ne!(machine.exit, 0);
    assert_eq!(
        migration.log(&["item.restore_intended"]),
        Vec::<Value>::new()
    );

    // A user whose grant is dead by now is not back, and nobody else is kept from it.
    let account = plan.deletes.first().unwrap().0.clone();
    migration.sim.revoke(&account);
    let restored = output(&mut migration.restore_plan(&plan.hash));
    assert_eq!(restored.exit, 1, "{}", restored.stderr);
    let report = restored.json();
    let of_account = plan.deletes.iter().filter(|key| key.0 == account).count();
    assert_eq!(total(&report, "failed"), of_account as u64, "{report:#}");
    let back = plan.deletes.iter().filter(|key| key.0 != account);
    migration.assert_as_before_but(&plan, &back.cloned().collect());
    let failed = migration.log(&["user.failed"]);
    assert!(
        failed
            .iter()
            .any(|line| line["payload"]["during"] == "restore")
    );
    migration.assert_restorations_add_up();
}
