//! A v1 to be retired, served by the simulators beside a world with a ledger: what the cleanup's tests start from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ledger_sim::convex::Exports;
use ledger_sim::{Call, EventKey, JournalEntry, Sim, SimServers, WorldSpec};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::world::{Output, World, output, temporary};

/// Who makes plans and who approves them.
pub(crate) const MAKER: &str = "maker";
pub(crate) const APPROVER: &str = "approver";
pub(crate) const RUNNER: &str = "runner";

/// A world, the simulated services and v2's exports.
pub(crate) struct Migration {
    pub(crate) world: World,
    pub(crate) sim: Sim,
    pub(crate) folder: TempDir,
    pub(crate) exports: Exports,
    /// v2 is read from its deployments, and no export is given.
    pub(crate) live: bool,
}

/// The machine's time, which the simulators keep too.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary goes by the machine's clock"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

impl Migration {
    /// The world of this specification, 26 hours after going live.
    pub(crate) async fn start(spec: WorldSpec) -> Self {
        Self::of(spec.as_of(now()).generate()).await
    }

    /// A generated world that was changed since.
    pub(crate) async fn of(made: ledger_sim::World) -> Self {
        let sim = SimServers::start(made).await.unwrap();
        let persons = [MAKER, APPROVER, RUNNER].map(|name| ["--person", name]);
        let arguments = [&["test"], persons.concat().as_slice()].concat();
        let world = World::with_ledger(&arguments).await;
        let folder = temporary("cleanup");
        let exports = sim.write_v2_exports(folder.path()).unwrap();
        Self {
            world,
            sim,
            folder,
            exports,
            live: false,
        }
    }

    /// The same, with v2 read from its deployments.
    pub(crate) async fn start_live(spec: WorldSpec) -> Self {
        let mut migration = Self::start(spec).await;
        migration.live = true;
        migration
    }

    /// Folder of the runs' log files.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// `ledger cleanup calendar` with the environment of the services, short waits and a log folder; the rest is the caller's.
    pub(crate) fn cleanup(&self, person: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command(["cleanup", "calendar", "--json"]);
        command
            .args(["--as", person, "--user-interval", "1ms"])
            .arg("--log-dir")
            .arg(self.logs())
            .args(arguments)
            .envs(self.services())
            .stdin(Stdio::null());
        command
    }

    /// When v2 went live, as an argument.
    pub(crate) fn go_live(&self) -> String {
        self.sim.world().spec.go_live.to_rfc3339()
    }

    /// The arguments that name the time of going live and v2's exports, where it is not read live.
    pub(crate) fn told(&self) -> Vec<String> {
        let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let mut told = vec!["--go-live".to_owned(), self.go_live()];
        if !self.live {
            told.extend([
                "--v2-export".to_owned(),
                path(&self.exports.production_zip),
                "--v2-dev-export".to_owned(),
                path(&self.exports.dev_zip),
            ]);
        }
        told
    }

    pub(crate) fn dry_command(&self) -> Command {
        let mut command = self.cleanup(MAKER, &["--dry-run"]);
        command.args(self.told());
        command
    }

    pub(crate) fn live_command(&self, plan: &str) -> Command {
        let mut command = self.cleanup(RUNNER, &["--plan", plan]);
        command.args(self.told());
        command
    }

    /// `ledger worker calendar`, until there is no run any more.
    pub(crate) fn worker_command(&self, name: &str) -> Command {
        let actor = format!("worker:{name}");
        self.with_services(&[
            "worker",
            "calendar",
            "--json",
            "--until-idle",
            "--as",
            &actor,
        ])
    }

    /// Any command that works on calendars, with what all of them are told.
    pub(crate) fn with_services(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(arguments);
        command
            .arg("--log-dir")
            .arg(self.logs())
            .args(self.told())
            .envs(self.services())
            .stdin(Stdio::null());
        command
    }

    /// Another program with the same environment, log folder and binary.
    pub(crate) fn like_cleanup(&self, program: &str, person: &str) -> Command {
        let mut command = Command::new(program);
        let inner = self.world.command(Vec::<&str>::new());
        command.env_clear();
        command.envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
            .env("LEDGER_BIN", inner.get_program())
            .env("LEDGER_ACTOR", format!("person:{person}"))
            .current_dir(self.folder.path())
            .envs(self.services())
            .stdin(Stdio::null());
        command
    }

    /// The environment of the services, with short waits; of v2's deployments only where it is read live.
    fn services(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = self
            .sim
            .env()
            .into_iter()
            .filter(|(name, _)| self.live || !name.starts_with("CONVEX_"))
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        for (name, value) in [
            ("LEDGER_RETRY_BASE_MS", "20"),
            ("LEDGER_REQUEST_LIMIT_MS", "3000"),
            ("LEDGER_LEASE_MS", "4000"),
        ] {
            environment.push((name.to_owned(), value.to_owned()));
        }
        environment
    }

    /// A dry run to its end.
    #[track_caller]
    pub(crate) fn dry_run(&self) -> Value {
        output(&mut self.dry_command()).ok().json()
    }

    /// The live run of a plan to its end.
    pub(crate) fn live_run(&self, plan: &str) -> Output {
        output(&mut self.live_command(plan))
    }

    #[track_caller]
    pub(crate) fn approve(&self, plan: &str) {
        self.world.ledger(["approve", plan, "--as", APPROVER]).ok();
    }

    /// A plan made and approved.
    #[track_caller]
    pub(crate) fn approved_plan(&self) -> Plan {
        let report = self.dry_run();
        let plan = Plan::of(&report);
        self.approve(&plan.hash);
        plan
    }

    /// Every entry with its payload.
    pub(crate) fn log(&self, types: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["log", "--json"];
        for name in types {
            arguments.extend(["--type", name]);
        }
        self.world.ledger(arguments).ok().lines()
    }

    /// `ledger loss --json`.
    pub(crate) fn loss(&self) -> Value {
        self.world.ledger(["loss", "--json"]).json()
    }

    /// Fails unless the ledger accounts for every deletion that the services saw: one intent before, one outcome after, and a
    /// true backup of the very version that went; and at most one attempt at an item in flight.
    #[track_caller]
    pub(crate) fn assert_ledger_accounts_for_all(&self) {
        let attempts = self.attempts();
        let effects: Vec<JournalEntry> = self
            .sim
            .calendar_writes()
            .into_iter()
            .filter(|write| write.call == Some(Call::EventsDelete))
            .collect();
        let mut gone: BTreeMap<EventKey, &JournalEntry> = BTreeMap::new();
        for effect in &effects {
            let before = gone.insert(key_of(effect), effect);
            assert!(before.is_none(), "deleted twice: {effect:?}");
        }
        for (key, effect) in &gone {
            let at_item = attempts
                .get(key)
                .unwrap_or_else(|| panic!("no intent: {effect:?}"));
            let version = effect.if_match.as_deref().unwrap_or_default();
            let covering = at_item.iter().filter(|attempt| {
                let after = attempt.outcome.as_ref().map(|outcome| outcome.at);
                attempt.intended_at <= effect.at && after.is_none_or(|after| effect.at <= after)
            });
            let covering: Vec<_> = covering.collect();
            assert_eq!(covering.len(), 1, "{effect:?}\n{at_item:#?}");
            assert_eq!(covering[0].version, version, "{effect:?}");
        }
        for (key, at_item) in &attempts {
            for (n, attempt) in at_item.iter().enumerate() {
                let outcome = attempt.outcome.as_ref();
                let outcome = outcome.unwrap_or_else(|| panic!("left open: {key:?} {attempt:?}"));
                assert!(attempt.intended_at <= outcome.at, "{key:?}");
                if let Some(next) = at_item.get(n + 1) {
                    assert!(outcome.seq < next.seq, "two attempts in flight: {key:?}");
                }
                assert_eq!(
                    attempt.backup_sha256,
                    hex::encode(Sha256::digest(&attempt.backup))
                );
                let kept: Value = serde_json::from_slice(&attempt.backup).unwrap();
                assert_eq!(kept["etag"], attempt.version.as_str(), "{key:?}");
                assert_eq!(kept["id"], key.1.as_str());
            }
            let last = at_item
                .last()
                .and_then(|attempt| attempt.outcome.as_ref())
                .unwrap();
            let deleted = matches!(last.word.as_str(), "deleted" | "gone_cause_unknown");
            if deleted {
                assert!(self.is_gone(key), "said to be gone and is there: {key:?}");
            }
            if gone.contains_key(key) {
                assert_ne!(last.event, "item.delete_failed", "{key:?} {at_item:#?}");
            }
        }
    }

    fn is_gone(&self, key: &EventKey) -> bool {
        let state = self.sim.final_state();
        !state
            .get(&key.0)
            .is_some_and(|events| events.contains_key(&key.1))
    }

    /// The attempts at each item, in order.
    pub(crate) fn attempts(&self) -> BTreeMap<EventKey, Vec<Attempt>> {
        let mut attempts: BTreeMap<EventKey, Vec<Attempt>> = BTreeMap::new();
        let mut of_intent: BTreeMap<String, (EventKey, usize)> = BTreeMap::new();
        for line in self.log(&["item.delete_intended", "item.deleted", "item.delete_failed"]) {
            let (entry, payload) = (&line["entry"], &line["payload"]);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let at = entry["recorded_at"].as_str().unwrap().parse().unwrap();
            if line["type"] == "item.delete_intended" {
                let key = (text(&payload["place"]), text(&payload["item"]));
                let list = attempts.entry(key.clone()).or_default();
                of_intent.insert(text(&entry["id"]), (key, list.len()));
                list.push(Attempt {
                    seq: line["seq"].as_u64().unwrap(),
                    intended_at: at,
                    version: text(&payload["version"]),
                    backup: STANDARD.decode(text(&payload["backup"]["base64"])).unwrap(),
                    backup_sha256: text(&payload["backup"]["sha256"]),
                    outcome: None,
                });
                continue;
            }
            let (key, n) = &of_intent[entry["cause"].as_str().unwrap()];
            let attempt = &mut attempts.get_mut(key).unwrap()[*n];
            assert!(
                attempt.outcome.is_none(),
                "two outcomes of one intent: {line}"
            );
            attempt.outcome = Some(Outcome {
                seq: line["seq"].as_u64().unwrap(),
                at,
                event: text(&line["type"]),
                word: text(&payload["outcome"]),
                payload: payload.clone(),
            });
        }
        attempts
    }
}

/// The calendar and event that a request named.
pub(crate) fn key_of(entry: &JournalEntry) -> EventKey {
    (
        entry.calendar.clone().unwrap(),
        entry.event_id.clone().unwrap(),
    )
}

/// One attempt at deleting an item, as the ledger has it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) seq: u64,
    pub(crate) intended_at: DateTime<Utc>,
    pub(crate) version: String,
    pub(crate) backup: Vec<u8>,
    pub(crate) backup_sha256: String,
    pub(crate) outcome: Option<Outcome>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) event: String,
    pub(crate) word: String,
    pub(crate) payload: Value,
}

/// What a dry run would delete.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) hash: String,
    pub(crate) deletes: BTreeSet<EventKey>,
}

impl Plan {
    pub(crate) fn of(report: &Value) -> Self {
        let items = report["items"].as_array().unwrap();
        let deletes = items.iter().filter(|item| item["disposition"] == "delete");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            hash: text(&report["plan"]),
            deletes: deletes
                .map(|item| (text(&item["calendar"]), text(&item["event_id"])))
                .collect(),
        }
    }
}

/// A run of the binary that goes on beside the test; killed where the test ends before it.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(Some(child.unwrap()))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// SIGTERM.
    pub(crate) fn tell_to_stop(&self) {
        let pid = self.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn output(mut self) -> Output {
        let child = self.0.take().unwrap();
        let output = tokio::task::spawn_blocking(move || child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        Output {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The number of a total, nothing for one that is not there.
pub(crate) fn total(report: &Value, name: &str) -> u64 {
    report["totals"][name].as_u64().unwrap_or_default()
}

/// A name as it stands in JSON.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    json!(value).as_str().unwrap().to_owned()
}
