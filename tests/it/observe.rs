//! Looking once more at what a run left behind: by whom it is done, what is seen, and what the answers make of it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use ledger_sim::google_oauth::Scope;
use ledger_sim::http::Service;
use ledger_sim::{Class, World as SimWorld, WorldSpec};
use serde_json::{Value, json};

use crate::credentials::{file, with_grants, without_v1};
use crate::migration::{APPROVER, MAKER, Migration, RUNNER, now, total};
use crate::world::{Output, output};

impl Migration {
    pub(crate) fn observe_command(&self, run: &str, person: &str) -> Command {
        let mut command = self.world.command(["cleanup", "observe", run, "--json"]);
        command
            .args(["--as", person, "--user-interval", "1ms"])
            .arg("--log-dir")
            .arg(self.logs())
            .envs(self.sim.env())
            .env("LEDGER_RETRY_BASE_MS", "20")
            .env("LEDGER_REQUEST_LIMIT_MS", "3000")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn observe(&self, run: &str, person: &str) -> Output {
        output(&mut self.observe_command(run, person))
    }

    /// The calendar's side of `ledger loss`.
    fn google_side(&self) -> Value {
        let loss = self.loss();
        let sides = loss["scopes"]["calendar"]["sides"].as_array().unwrap();
        let google = sides.iter().find(|side| side["name"] == "google");
        google.unwrap().clone()
    }
}

fn world(seed: u64) -> SimWorld {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(seed).users(6).events_per_user(8)
    };
    spec.as_of(now()).generate()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_observed_restored_observed() {
    let migration = Migration::of(world(81)).await;
    let (plan, run) = migration.cleaned_up();
    assert_eq!(migration.google_side()["grade"], "reported");
    let count = plan.deletes.len() as u64;
    let writes = migration.sim.calendar_writes().len();
    let seen = migration.observe(&run, APPROVER).ok().json();
    assert_eq!(seen["status"], "as_recorded", "{seen:#}");
    assert_eq!(
        seen["grade"], "observed",
        "the credentials were the run's own"
    );
    assert!(total(&seen, "explained") >= count, "{seen:#}");
    let side = migration.google_side();
    assert_eq!(side["grade"], "observed");
    assert_eq!(side["observed_by"], format!("person:{APPROVER}"));
    // One of them comes back under another id.
    let anew = plan.deletes.first().unwrap();
    assert!(migration.sim.purge_event(&anew.0, &anew.1));
    let back = output(&mut migration.restore_plan(&plan.hash)).ok().json();
    assert_eq!(total(&back, "new_ids"), 1);
    assert_eq!(migration.google_side()["grade"], "reported");
    let seen = migration.observe(&run, MAKER).ok().json();
    assert_eq!(seen["status"], "as_recorded", "{seen:#}");
    assert_eq!(
        migration.sim.calendar_writes().len() - writes,
        plan.deletes.len()
    );
    migration.assert_as_before(&plan.deletes);
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    assert_eq!(loss["scopes"]["calendar"]["sum"]["restored"], count);
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_person_with_credentials_of_their_own_is_independent() {
    let (world, lines) = with_grants(world(82), Scope::EventsReadonly);
    let migration = Migration::of(world).await;
    let (_, run) = migration.cleaned_up();
    let own_file = file(&migration, "own", &lines, 0o600);
    let begun = migration.sim.journal().len();
    let with = |person: &str| {
        let mut command = migration.observe_command(&run, person);
        output(without_v1(&mut command).arg("--credentials").arg(&own_file))
    };
    let own = with(RUNNER).ok().json();
    assert_eq!(
        own["grade"], "observed",
        "who ran it is not independent of it"
    );
    let seen = with(APPROVER).ok().json();
    assert_eq!(
        (&seen["grade"], &seen["status"]),
        (&json!("independent"), &json!("as_recorded"))
    );
    for request in &migration.sim.journal()[begun..] {
        assert_ne!(request.service, Service::Supabase, "{request:?}");
        assert!(!request.effect || request.method == "POST", "{request:?}");
        assert_ne!(
            request.service == Service::Calendar,
            request.method != "GET",
            "{request:?}"
        );
    }
    let side = migration.google_side();
    assert_eq!(side["grade"], "independent");
    assert_eq!(side["observed_by"], format!("person:{APPROVER}"));
    let text = migration.world.ledger(["loss"]).stdout;
    assert!(text.contains("by person:approver (independent)"), "{text}");

    // A user for whom there is no credential is not seen, and that is said.
    let without: Vec<Value> = lines
        .iter()
        .filter(|line| line["account"] != lines[0]["account"])
        .cloned()
        .collect();
    let fewer = file(&migration, "fewer", &without, 0o600);
    let mut command = migration.observe_command(&run, APPROVER);
    let seen = output(command.arg("--credentials").arg(&fewer));
    assert_eq!(seen.exit, 3, "{}", seen.stdout);
    assert_eq!(seen.json()["status"], "not_whole");
    assert_eq!(total(&seen.json(), "unreached"), 1);
    // A file that others may read is refused.
    let open = file(&migration, "open", &lines, 0o644);
    let mut command = migration.observe_command(&run, APPROVER);
    let refused = output(command.arg("--credentials").arg(&open));
    assert_eq!(refused.exit, 2, "{}", refused.stderr);
    for token in ["ya29.own", "1//0own"] {
        let logs = std::fs::read_dir(migration.logs()).unwrap();
        for log in logs {
            let text = std::fs::read_to_string(log.unwrap().path()).unwrap();
            assert!(!text.contains(token));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_and_what_nobody_explains_are_listed_and_the_rest_is_counted() {
    let migration = Migration::start(WorldSpec::seeded(83)).await;
    let (plan, run) = migration.cleaned_up();
    let survivor = plan.deletes.first().unwrap();
    let confirmed = json!({"status": "confirmed"});
    assert!(
        migration
            .sim
            .edit_event(&survivor.0, &survivor.1, &confirmed)
    );
    let protected: Vec<_> = migration
        .sim
        .truth()
        .iter()
        .filter(|truth| truth.class == Class::V2Fresh && truth.calendar == survivor.0)
        .take(2)
        .collect();
    let [edited, removed] = protected.as_slice() else {
        panic!("two events of v2: {protected:?}");
    };
    let moved = json!({"location": "elsewhere"});
    assert!(
        migration
            .sim
            .edit_event(&edited.calendar, &edited.event_id, &moved)
    );
    assert!(
        migration
            .sim
            .delete_event(&removed.calendar, &removed.event_id)
    );
    let lunch = json!({"summary": "Lunch", "status": "confirmed", "start": {"date": "2027-01-01"}, "end": {"date": "2027-01-02"}});
    assert!(migration.sim.add_event(&survivor.0, "lunch1", &lunch));

    // Both from the cursor and by a full listing, where the token has expired.
    for expired in [false, true] {
        if expired {
            migration.sim.expire_sync_tokens();
        }
        let seen = migration.observe(&run, APPROVER);
        assert_eq!(seen.exit, 1, "{}", seen.stderr);
        let report = seen.json();
        let ids = |name: &str| -> BTreeSet<String> {
            let items = report[name].as_array().unwrap().iter();
            items
                .map(|item| item["item"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            ids("survivors"),
            BTreeSet::from([survivor.1.clone()]),
            "{report:#}"
        );
        let changed = [&edited.event_id, &removed.event_id];
        assert_eq!(ids("unexplained"), changed.into_iter().cloned().collect());
        assert_eq!(total(&report, "late_writes"), 0);
        if !expired {
            assert_eq!(total(&report, "others"), 1, "{report:#}");
        }
        assert_eq!(total(&report, "listed_whole") > 0, expired, "{report:#}");
    }
    let loss = migration.loss();
    let calendar = &loss["scopes"]["calendar"];
    assert_eq!(calendar["verdict"], "unknown", "{loss}");
    assert_eq!(calendar["sum"]["unaccounted"], 1);
    assert_eq!(calendar["sum"]["changed_since"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_writing_again_is_recognised_and_counts_as_lost_until_a_plan_names_it() {
    let migration = Migration::start(WorldSpec::seeded(84)).await;
    let (plan, run) = migration.cleaned_up();
    let key = plan
        .deletes
        .iter()
        .find(|key| {
            let was = &migration.sim.initial_state()[&key.0][&key.1];
            let text = was["description"].as_str().unwrap_or_default();
            text.contains("Case: ")
                && was["summary"]
                    .as_str()
                    .is_some_and(|title| title.contains(": "))
        })
        .unwrap();
    let mut again = migration.sim.initial_state()[&key.0][&key.1].clone();
    let fields = again.as_object_mut().unwrap();
    fields.retain(|name, _| {
        !["id", "etag", "created", "updated", "iCalUID"].contains(&name.as_str())
    });
    assert!(migration.sim.add_event(&key.0, "writtenlate1", &again));
    let seen = migration.observe(&run, APPROVER);
    assert_eq!(seen.exit, 1, "{}", seen.stderr);
    let report = seen.json();
    assert_eq!(
        report["late_writes"][0]["item"], "writtenlate1",
        "{report:#}"
    );
    assert_eq!(
        total(&report, "survivors") + total(&report, "unexplained"),
        0
    );
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "lost", "{loss}");
    assert_eq!(loss["scopes"]["calendar"]["sum"]["late_write"], 1);
    assert_eq!(loss["lost"][0]["state"], "late_write");
    // It can be asked about, by its id, as `loss` names it, and by the entry that tells of it.
    let told = migration.log(&["container.late_written"]);
    let seq = told[0]["seq"].to_string();
    let name = loss["lost"][0]["subject"].as_str().unwrap();
    let explain = |name: &str, json: bool| {
        let mut all = vec!["review", "explain", name];
        all.extend(json.then_some("--json"));
        migration.world.ledger(all).ok()
    };
    let answer = explain("writtenlate1", true).json();
    assert_eq!(
        (&answer["state"], &answer["verb"]),
        (&json!("late_write"), &json!("observe"))
    );
    for name in [name, &seq] {
        assert_eq!(explain(name, true).json(), answer, "{name}");
    }
    let text = explain("writtenlate1", false).stdout;
    assert!(
        text.contains("It was written late: the retired system (v1) made it at "),
        "{text}"
    );
    assert!(
        text.contains(&format!("a look of person:{APPROVER} at run {run}")),
        "{text}"
    );
    // From the next sealed plan on it is one of the items that are accounted for.
    migration.dry_run();
    let loss = migration.loss();
    assert_eq!(
        loss["scopes"]["calendar"]["sum"].get("late_write"),
        None,
        "{loss}"
    );
    let seen = migration.observe(&run, APPROVER).json();
    assert_eq!(total(&seen, "late_writes"), 0, "{seen:#}");
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_cleanup_can_be_looked_at_and_what_cannot_be_reached_is_said() {
    let migration = Migration::start(WorldSpec::seeded(85).users(21).events_per_user(4)).await;
    let (plan, run) = migration.cleaned_up();
    // Users whom the plan did not reach are not seen now either.
    let seen = migration.observe(&run, APPROVER);
    assert_eq!(seen.exit, 3, "{}", seen.stdout);
    assert_eq!(seen.json()["status"], "not_whole");
    let never_seen = total(&seen.json(), "unreached");
    assert!(never_seen > 0);
    let unknown = migration.observe("0198c0de-0000-7000-8000-000000000001", APPROVER);
    assert_eq!(unknown.exit, 1, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no cleanup of this id"));
    let stranger = migration.observe(&run, "stranger");
    assert_ne!(stranger.exit, 0);
    migration.sim.revoke(&plan.deletes.first().unwrap().0);
    let seen = migration.observe(&run, APPROVER);
    assert_eq!(seen.exit, 3, "{}", seen.stdout);
    assert_eq!(seen.json()["status"], "not_whole");
    assert_eq!(total(&seen.json(), "unreached"), never_seen + 1);
}
