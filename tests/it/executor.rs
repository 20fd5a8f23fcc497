//! Items that a program handles: the same dry run, approval, deletion and observation as for a built-in kind, with no change in Rust.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cleanup_worker::clients::retry::{RetryPolicy, SystemTiming};
use cleanup_worker::clients::{Effect, ErrorClass};
use cleanup_worker::executors::command::{CommandExecutor, CommandTold, Program};
use cleanup_worker::executors::{Found, Places as _, PlannedUser, PutBack};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::migration::{APPROVER, MAKER, RUNNER, Running, total};
use crate::tidy::top;
use crate::world::{Output, World, output, temporary};

const POLICY: &str = r#"
version = 1
name = "folder"
kind = "folder-file"

[[class]]
name = "BIG"
when = { all = ["big"] }
because = "it is big"
disposition = "hold"

[[class]]
name = "OLD"
when = { all = ["old"] }
because = "it is old"
disposition = "hold"

[[class.override]]
when = { all = ["sure"] }
because = "and that is sure"
disposition = "delete"

[[class]]
name = "NEW"
when = { none = ["old", "big"] }
because = "it is in use"
disposition = "protect"
"#;

/// A world, and a folder whose files `tests/it/executor_folder.py` handles.
pub(crate) struct Folder {
    pub(crate) world: World,
    top: TempDir,
}

impl Folder {
    pub(crate) async fn start(files: &[(&str, &str)]) -> Self {
        let persons = [MAKER, APPROVER, RUNNER].map(|name| ["--person", name]);
        let world = World::with_ledger(&[&["test"], persons.concat().as_slice()].concat()).await;
        let folder = Self {
            world,
            top: temporary("folder"),
        };
        std::fs::create_dir(folder.path("files")).unwrap();
        std::fs::write(folder.path("policy.toml"), POLICY).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path("files").join(name), text).unwrap();
        }
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// `--exec` for these files; what the program lacks stands at its end.
    pub(crate) fn exec(&self, lacks: &str) -> String {
        let script = top().join("tests/it/executor_folder.py");
        let (files, journal) = (self.path("files"), self.path("journal"));
        format!(
            "python3 '{}' '{}' '{}' {lacks}",
            script.display(),
            files.display(),
            journal.display()
        )
    }

    pub(crate) fn cleanup(&self, person: &str, exec: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command(["cleanup", "command", "--json"]);
        command
            .args(["--as", person, "--user-interval", "1ms", "--exec", exec])
            .arg("--log-dir")
            .arg(self.path("logs"))
            .args(arguments)
            .env("FAULT", self.path("fault"))
            .env("LEDGER_RETRY_BASE_MS", "20")
            .env("LEDGER_LEASE_MS", "6000")
            .stdin(Stdio::null());
        command
    }

    /// `ledger restore command` with these files.
    pub(crate) fn restore_command(&self, arguments: &[&str]) -> Command {
        let exec = self.exec("");
        let mut command = self.world.command(["restore", "command", "--json"]);
        command
            .args(["--as", RUNNER, "--user-interval", "1ms", "--exec", &exec])
            .arg("--log-dir")
            .arg(self.path("logs"))
            .args(arguments)
            .env("FAULT", self.path("fault"))
            .env("LEDGER_LEASE_MS", "6000")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn restore(&self, arguments: &[&str]) -> Output {
        output(&mut self.restore_command(arguments))
    }

    pub(crate) fn dry(&self, exec: &str, arguments: &[&str]) -> Command {
        let mut command = self.cleanup(MAKER, exec, arguments);
        command.args(["--dry-run", "--go-live", "2020-01-01T00:00:00Z", "--policy"]);
        command.arg(self.path("policy.toml"));
        command
    }

    #[track_caller]
    pub(crate) fn dry_run(&self) -> Value {
        output(&mut self.dry(&self.exec(""), &[])).ok().json()
    }

    pub(crate) fn live(&self, plan: &str) -> Command {
        let told = ["--plan", plan, "--override", "a test"];
        self.cleanup(RUNNER, &self.exec(""), &told)
    }

    pub(crate) fn live_run(&self, plan: &str) -> Output {
        output(&mut self.live(plan))
    }

    #[track_caller]
    pub(crate) fn approved_plan(&self) -> String {
        let plan = self.dry_run()["plan"].as_str().unwrap().to_owned();
        self.world.ledger(["approve", &plan, "--as", APPROVER]).ok();
        plan
    }

    /// Makes things go wrong, from the next request on.
    pub(crate) fn fault(&self, faults: &Value) {
        std::fs::write(self.path("fault"), faults.to_string()).unwrap();
    }

    /// The requests that the program was sent.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("journal")).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Names and contents of the files that are there.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let files = std::fs::read_dir(self.path("files")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        // A program may be at work: what it takes away meanwhile is not there.
        let content = |path: PathBuf| match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            text => Some((name(&path), text.unwrap())),
        };
        files.filter_map(content).collect()
    }

    pub(crate) fn log(&self, types: &[&str]) -> Vec<Value> {
        let types = types.iter().flat_map(|name| ["--type", name]);
        let arguments: Vec<&str> = ["log", "--json"].into_iter().chain(types).collect();
        self.world.ledger(arguments).ok().lines()
    }

    /// The attempts at each file: kept content, and each outcome's word with whether it was recovered. Fails unless each intent has exactly
    /// one outcome.
    pub(crate) fn attempts(&self) -> BTreeMap<String, (String, Vec<(String, bool)>)> {
        let mut items: BTreeMap<String, (String, Vec<(String, bool)>)> = BTreeMap::new();
        let mut open: BTreeMap<String, String> = BTreeMap::new();
        for line in self.log(&["item.delete_intended", "item.deleted", "item.delete_failed"]) {
            let (entry, payload) = (&line["entry"], &line["payload"]);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            if line["type"] == "item.delete_intended" {
                let kept = STANDARD.decode(text(&payload["backup"]["base64"])).unwrap();
                let item = text(&payload["item"]);
                items.entry(item.clone()).or_default().0 = String::from_utf8(kept).unwrap();
                open.insert(text(&entry["id"]), item);
                continue;
            }
            let item = open.remove(entry["cause"].as_str().unwrap());
            let item = item.unwrap_or_else(|| panic!("an outcome without an intent: {line}"));
            let outcome = (
                text(&payload["outcome"]),
                payload["recovered"].as_bool().unwrap(),
            );
            items.get_mut(&item).unwrap().1.push(outcome);
        }
        assert!(open.is_empty(), "left open: {open:?}");
        items
    }

    /// Nothing that the program says beside its answers is in the ledger.
    #[track_caller]
    pub(crate) fn assert_no_secret(&self) {
        let log = self.world.ledger(["log", "--json"]).ok().stdout;
        assert!(!log.contains("hunter2"), "{log}");
    }
}

fn four() -> Vec<(&'static str, String)> {
    vec![
        ("old-1", "kept with the plan".to_owned()),
        ("old-two", "kept when it goes".to_owned()),
        ("old-big", "x".repeat(2000)),
        ("new", "in use".to_owned()),
    ]
}

async fn start() -> Folder {
    let files = four();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    Folder::start(&files).await
}

fn classes(report: &Value) -> Vec<(&str, &str, &str)> {
    let items = report["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            (
                item["item"].as_str().unwrap(),
                item["class"].as_str().unwrap(),
                item["disposition"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_enough_for_a_new_kind_of_item() {
    let folder = start().await;
    let before = folder.files();
    let report = folder.dry_run();
    assert_eq!(
        classes(&report),
        [
            ("new", "NEW", "protect"),
            ("old-1", "OLD", "delete"),
            ("old-big", "BIG", "hold"),
            ("old-two", "OLD", "delete"),
        ]
    );
    assert_eq!(
        report["totals"]["access"],
        json!({"reachable": 1, "denied": 1})
    );
    assert_eq!((total(&report, "items"), total(&report, "others")), (4, 2));
    let journal = folder.journal();
    let verbs: Vec<&str> = journal
        .iter()
        .map(|line| line["verb"].as_str().unwrap())
        .collect();
    assert_eq!(verbs, ["hello", "inventory"]);
    assert!(
        journal
            .iter()
            .all(|line| line["read_only"] == true && line["keys"] == json!([]))
    );
    assert_eq!(folder.files(), before);

    // Four eyes, and by hash.
    let plan = report["plan"].as_str().unwrap();
    let unapproved = folder.live_run(plan);
    assert_eq!(unapproved.exit, 1, "{unapproved:?}");
    let own = folder.world.ledger(["approve", plan, "--as", MAKER]);
    assert_eq!(own.exit, 1, "{own:?}");
    folder
        .world
        .ledger(["approve", plan, "--as", APPROVER])
        .ok();
    assert_eq!(folder.files(), before);

    let report = folder.live_run(plan).ok().json();
    assert_eq!(
        (total(&report, "deleted"), total(&report, "unexplained")),
        (2, 0),
        "{report}"
    );
    let mut left = before.clone();
    left.retain(|name, _| ["new", "old-big"].contains(&name.as_str()));
    assert_eq!(folder.files(), left);
    for (item, (kept, outcomes)) in folder.attempts() {
        assert_eq!(kept, before[&item]);
        assert_eq!(outcomes, [("deleted".to_owned(), false)]);
    }
    let listed = folder.log(&["container.listed"]);
    let phases: Vec<&str> = listed
        .iter()
        .map(|line| line["payload"]["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["plan", "before", "after"]);
    folder.world.assert_intact();

    // Once more: there is nothing left to do, and nothing is asked for.
    let deletes = |folder: &Folder| {
        let journal = folder.journal();
        journal
            .iter()
            .filter(|line| line["verb"] == "delete")
            .count()
    };
    assert_eq!(deletes(&folder), 2);
    folder.live_run(plan).ok();
    assert_eq!(deletes(&folder), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_since_the_approval_is_held_and_what_is_gone_is_not_claimed() {
    let folder = start().await;
    let plan = folder.approved_plan();
    let file = |name: &str| folder.path("files").join(name);
    std::fs::write(file("old-two"), "written since").unwrap();
    std::fs::remove_file(file("old-1")).unwrap();
    std::fs::remove_file(file("old-big")).unwrap();
    let run = folder.live_run(&plan);
    assert_eq!(run.exit, 1, "{run:?}");
    let report = run.json();
    assert_eq!(
        (
            total(&report, "deleted"),
            total(&report, "already_gone"),
            total(&report, "held")
        ),
        (0, 1, 1),
        "{report}"
    );
    assert_eq!(folder.files()["old-two"], "written since");
    // The plan leaves the third alone, and it is gone: seen before the run, by nobody's entry explained.
    let observed = folder.log(&["item.observed"]);
    assert!(
        observed
            .iter()
            .any(|line| line["payload"]["observation"] == "gone"),
        "{observed:?}"
    );
    folder.world.assert_intact();
}

/// The program says that it names all that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_whole_place_does_not_name_any_more_is_not_planned_for_ever() {
    let folder = start().await;
    let sum = || {
        let answer = folder.world.ledger(["loss", "--scope", "files", "--json"]);
        let sum = &answer.json()["scopes"]["files"]["sum"];
        ["planned", "held", "changed_since"].map(|state| sum[state].as_u64().unwrap_or_default())
    };
    folder.dry_run();
    let [planned, held, changed] = sum();
    assert_eq!(changed, 0);
    std::fs::remove_file(folder.path("files").join("old-1")).unwrap();
    folder.dry_run();
    assert_eq!(sum(), [planned - 1, held, 1], "{planned} {held}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_the_program_is_asked_what_became_of_it() {
    // Killed where nothing was done yet, and where it was done and nobody had heard of it.
    for (how, outcome) in [("hang", "failed"), ("hang_after", "gone_cause_unknown")] {
        let folder = start().await;
        let plan = folder.approved_plan();
        folder.fault(&json!([{"verb": "delete", "how": how, "item": "old-two"}]));
        let mut command = folder.live(&plan);
        command.env("LEDGER_LEASE_MS", "10000");
        let running = Running::start(&mut command);
        let reached = || {
            let asked = folder
                .journal()
                .iter()
                .any(|line| line["verb"] == "delete" && line["item"] == "old-two");
            asked && folder.files().contains_key("old-two") == (how == "hang")
        };
        while !reached() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pids: Vec<u64> = folder
            .journal()
            .iter()
            .map(|line| line["pid"].as_u64().unwrap())
            .collect();
        running.kill();
        // The program ends with whoever started it: no deletion comes late.
        for pid in pids {
            while is_alive(pid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert_eq!(folder.files().contains_key("old-two"), how == "hang");
        let mut again = folder.live(&plan);
        let report = output(again.env("LEDGER_LEASE_MS", "2000")).ok().json();
        assert_eq!(total(&report, "deleted"), 2, "{report}");
        let attempts = folder.attempts();
        assert_eq!(
            attempts["old-two"].1[0],
            (outcome.to_owned(), true),
            "{attempts:?}"
        );
        assert!(!folder.files().contains_key("old-two"));
        let started = folder.log(&["run.started"]).len();
        assert_eq!(started, 2, "the dry run, and one run that was gone on with");
        folder.world.assert_intact();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_is_put_back_by_command() {
    let folder = start().await;
    let before = folder.files();
    let plan = folder.approved_plan();
    let run = folder.live_run(&plan).ok().json();
    let gone = folder.files();
    assert_ne!(gone, before);
    let run = run["run"].as_str().unwrap();
    let seen = folder.restore(&["--run", run, "--dry-run"]).ok().json();
    assert_eq!(seen["status"], "preview", "{seen:#}");
    assert_eq!(folder.files(), gone);
    let why = ["--run", run, "--reason", "case 17"];
    // Killed while it puts the first one back: the same again goes on, and nothing comes twice.
    folder.fault(&json!([{"verb": "restore", "how": "hang"}]));
    let killed = Running::start(&mut folder.restore_command(&why));
    let mut waited = 0;
    while folder.log(&["item.restore_intended"]).is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        waited += 1;
        assert!(waited < 600, "no intent");
    }
    killed.kill();
    folder.fault(&json!([]));
    let back = folder.restore(&why).ok().json();
    assert_eq!(back["status"], "complete", "{back:#}");
    assert_eq!(folder.files(), before);
    folder.restore(&why).ok();
    assert_eq!(folder.files(), before);
    folder.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_looked_at_again_by_the_program_that_did_it() {
    let folder = start().await;
    let before = folder.files();
    let plan = folder.approved_plan();
    let run = folder.live_run(&plan).ok().json();
    let run = run["run"].as_str().unwrap();
    let asked = folder.journal().len();
    let observe = |more: &[&str]| {
        let mut command = folder.world.command(["cleanup", "observe", run, "--json"]);
        command.args(["--as", RUNNER, "--user-interval", "1ms"]);
        command.arg("--log-dir").arg(folder.path("logs")).args(more);
        output(command.stdin(Stdio::null()))
    };
    let exec = folder.exec("");
    let with_program = ["--exec", exec.as_str()];
    // One of the program's users could not be reached by the plan either, and that is said.
    let seen = observe(&with_program);
    assert_eq!(seen.exit, 3, "{seen:?}");
    let seen = seen.json();
    assert_eq!(seen["status"], "not_whole", "{seen:#}");
    for what in ["survivors", "unexplained"] {
        assert_eq!(total(&seen, what), 0, "{seen:#}");
    }
    assert!(total(&seen, "explained") > 0, "{seen:#}");
    let asked = &folder.journal()[asked..];
    let hellos: Vec<_> = asked.iter().filter(|it| it["verb"] == "hello").collect();
    assert!(!hellos.is_empty() && hellos.iter().all(|it| it["read_only"] == true));
    // Somebody brings one back.
    let gone = before
        .keys()
        .find(|name| !folder.files().contains_key(*name));
    let gone = gone.unwrap();
    std::fs::write(folder.path("files").join(gone), &before[gone]).unwrap();
    let seen = observe(&with_program);
    assert_eq!(seen.exit, 1, "{seen:?}");
    assert_eq!(seen.json()["survivors"][0]["item"], gone.as_str());
    // As calendars it cannot be looked at, with whatever credentials.
    let both = observe(&[&with_program[..], &["--credentials", "x"]].concat());
    assert_eq!(both.exit, 2, "{both:?}");
    folder.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_put_back_and_only_where_nothing_is() {
    let folder = start().await;
    let before = folder.files();
    let told = || {
        let exec = format!(
            "env 'FAULT={}' {}",
            folder.path("fault").display(),
            folder.exec("")
        );
        CommandTold {
            program: Program::parse("--exec", &exec, Duration::from_mins(1)).unwrap(),
            count: None,
            retry: RetryPolicy::default(),
            timing: SystemTiming::start(),
            go_live: None,
        }
    };
    let users = [PlannedUser {
        id: Some("u1".to_owned()),
        credential: None,
    }];
    let dry = CommandExecutor::for_dry_run(told()).await.unwrap();
    assert!(dry.open("main", &users).await.is_err());
    let executor = CommandExecutor::for_live_run(told()).await.unwrap();
    let place = executor.open("main", &users).await.unwrap();
    let Found::There {
        version: Some(version),
        ..
    } = place.read("old-two").await.unwrap()
    else {
        panic!("it is there")
    };
    let limit = Duration::from_mins(1);
    let other = place.backup("old-two", "another").await.unwrap();
    assert_eq!(other, None);
    let stale = place.delete("old-two", "another", limit).await.unwrap_err();
    assert_eq!(
        (stale.class, stale.effect, stale.status),
        (ErrorClass::Conflict, Effect::None, Some(412))
    );
    let backup = place.backup("old-two", &version).await.unwrap().unwrap();
    place.delete("old-two", &version, limit).await.unwrap();
    assert!(matches!(place.read("old-two").await, Ok(Found::Absent)));
    let ways = place.ways_back("old-two", &backup, "1").await.unwrap();
    assert_eq!((ways.len(), ways[0].becomes.as_str()), (1, "old-two"));
    let put = PutBack {
        way: &ways[0].way,
        item: "old-two",
        becomes: "old-two",
        version: None,
        backup: &backup,
    };
    // The limit holds for starting the program again too, so only for the one that hangs it is short.
    for (how, limit) in [("hang", 2), ("end", 60), ("garbage", 60), ("shape", 60)] {
        folder.fault(&json!([{"verb": "restore", "how": how}]));
        let limit = Duration::from_secs(limit);
        let silent = place.restore(&put, limit).await;
        assert_eq!(silent.unwrap_err().effect, Effect::Unknown, "{how}");
    }
    assert!(!folder.files().contains_key("old-two"));
    place.restore(&put, limit).await.unwrap();
    assert_eq!(folder.files(), before);
    let twice = place.restore(&put, limit).await;
    let twice = twice.unwrap_err();
    assert_eq!(
        (twice.class, twice.effect),
        (ErrorClass::Conflict, Effect::None)
    );
    assert_eq!(folder.files(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_a_run_whose_process_was_killed() {
    let folder = start().await;
    let plan = folder.approved_plan();
    folder.fault(&json!([{"verb": "delete", "how": "hang_after", "item": "old-two"}]));
    let running = Running::start(folder.live(&plan).env("LEDGER_LEASE_MS", "10000"));
    while folder.files().contains_key("old-two") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.kill();
    let mut worker = folder
        .world
        .command(["worker", "command", "--until-idle", "--json"]);
    worker
        .args(["--as", "worker:second", "--exec", &folder.exec("")])
        .args(["--user-interval", "1ms", "--log-dir"])
        .arg(folder.path("logs"))
        .env("LEDGER_LEASE_MS", "2000");
    let report = output(&mut worker).ok().json();
    assert_eq!(
        (&report["status"], total(&report, "deleted")),
        (&json!("complete"), 2),
        "{report}"
    );
    let attempts = folder.attempts();
    assert_eq!(
        attempts["old-two"].1,
        [("gone_cause_unknown".to_owned(), true)],
        "{attempts:?}"
    );
    folder.world.assert_intact();
}

/// Whether a process runs, and is none that ended and nobody has waited for.
fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_lacks_holds_everything() {
    let folder = start().await;
    for lack in ["precondition", "undo"] {
        let report = output(&mut folder.dry(&folder.exec(lack), &[])).ok().json();
        assert_eq!(
            report["totals"]["dispositions"],
            json!({"hold": 3, "protect": 1})
        );
        let held = report["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["class"] == "OLD");
        for item in held {
            let reason = item["reason"].as_str().unwrap();
            assert!(reason.contains("held, because"), "{reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_executed_by_what_it_was_made_with() {
    let folder = start().await;
    let plan = folder.approved_plan();
    let live = |exec: &str| {
        let told = ["--plan", plan.as_str(), "--override", "a test"];
        output(&mut folder.cleanup(RUNNER, exec, &told))
    };
    let before = folder.files();
    std::fs::create_dir(folder.path("other")).unwrap();
    let other = folder.exec("").replace("/files'", "/other'");
    for (exec, expected) in [
        (folder.exec("undo"), "declares something else"),
        (
            other,
            "the plan was made where the program said folder files, and it says other now",
        ),
    ] {
        let refused = live(&exec);
        assert_eq!(refused.exit, 1, "{refused:?}");
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    let mut calendar = folder
        .world
        .command(["cleanup", "calendar", "--plan", &plan, "--as", RUNNER]);
    let refused = output(calendar.envs([
        ("SUPABASE_URL", "http://127.0.0.1:1"),
        ("SUPABASE_KEY", "sb_secret_made-up"),
        (
            "ENCRYPTION_KEY",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
        ("GOOGLE_CLIENT_ID", "id"),
        ("GOOGLE_CLIENT_SECRET", "secret"),
    ]));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("of kind folder-file, and this command is for calendar-event"),
        "{refused:?}"
    );
    assert_eq!(folder.files(), before);
    assert_eq!(folder.log(&["item.delete_intended"]), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sealed_where_the_counts_differ() {
    let folder = start().await;
    let files = folder.path("files");
    let count = format!("sh -c 'ls {} | wc -l'", files.display());
    let sealed = output(&mut folder.dry(&folder.exec(""), &["--count-command", &count]));
    sealed.ok();
    let sealed = folder.log(&["plan.sealed"]);
    assert_eq!(
        sealed[0]["payload"]["header"]["counted"],
        "by another command"
    );
    for (count, exit, expected) in [
        (
            "echo 5",
            1,
            "--count-command counted 5 items and the program sent 4",
        ),
        ("echo four", 4, "did not print one whole number"),
        ("yes", 4, "did not print one whole number"),
        ("sh -c 'echo 4; exit 1'", 4, "it ended with"),
        ("/nowhere/count", 4, "it ended with"),
        ("'", 2, "a quote is not closed"),
    ] {
        let refused = output(&mut folder.dry(&folder.exec(""), &["--count-command", count]));
        assert_eq!(refused.exit, exit, "{count}: {refused:?}");
        assert!(refused.stderr.contains(expected), "{count}: {refused:?}");
    }
    folder.fault(&json!([{"verb": "inventory", "how": "count"}]));
    let refused = output(&mut folder.dry(&folder.exec(""), &[]));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("the program counted 99 items and the program sent 4"),
        "{refused:?}"
    );
    assert_eq!(folder.log(&["plan.sealed"]).len(), 1);
}

#[tokio::test]
async fn a_built_in_kind_can_be_named_by_its_kind() {
    let world = World::start().await;
    let by_name = world.ledger(["cleanup", "calendar", "--dry-run"]);
    assert!(
        by_name.exit == 2 && by_name.stderr.contains("SUPABASE_URL"),
        "{by_name:?}"
    );
    let by_kind = world.ledger(["cleanup", "--kind", "calendar-event", "--dry-run"]);
    assert_eq!((by_kind.exit, by_kind.stderr), (2, by_name.stderr));
    let other = world.ledger(["cleanup", "--kind", "folder-file", "--dry-run"]);
    assert!(
        other.exit == 2 && other.stderr.contains("calendar-event"),
        "{other:?}"
    );
}
