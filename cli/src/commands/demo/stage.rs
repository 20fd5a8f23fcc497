//! The stage: an embedded database of the demo's own, the simulators, and this program's commands as child processes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ledger::store::Clock;
use ledger::store::embedded::{EmbeddedEnv, Home};
use ledger_sim::{
    Call, Comparison, EventKey, Fault, FaultKind, HoldPoint, Occurrence, Sim, SimServers, WorldSpec,
};
use serde_json::Value;
use tokio::process::Command;

use crate::args::Demo;
use crate::database::{self, Database, Prepare};
use crate::environment::Environment;
use crate::exit::{Failure, environment};

/// Longest that one command of the story may take.
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

pub(super) struct Stage {
    pub(super) ledger: String,
    home: Home,
    database: Database,
    sim: Sim,
    go_live: String,
    program: PathBuf,
    path: String,
    planned: BTreeSet<EventKey>,
    log_dir: String,
    /// Two demos at once would break each other's guards.
    _alone: File,
}

/// One command that ran.
pub(super) struct Ran {
    pub(super) shown: String,
    pub(super) exit: i32,
    pub(super) answer: Value,
    pub(super) stderr: String,
}

impl Stage {
    pub(super) async fn set(environment_: &Environment, args: &Demo) -> Result<Self, Failure> {
        let outer = Home::resolve(None, &EmbeddedEnv::from_process())
            .map_err(environment("find the home folder"))?;
        let home = outer
            .nested("demo")
            .map_err(environment("make the demo's folder"))?;
        let alone = File::create(home.path().join("demo.lock"))
            .map_err(environment("make the demo's lock file"))?;
        alone.try_lock().map_err(|_| {
            Failure::usage("another demo is running in this home").hint("wait until it has ended")
        })?;
        let database = database::open_embedded(home.clone(), Prepare::Yes, false).await?;
        let clock = Clock::system();
        let now = clock.now().instant();
        let spec = WorldSpec::seeded(args.seed)
            .users(args.users)
            .events_per_user(args.events_per_user)
            .as_of(now);
        let go_live = spec.go_live.to_rfc3339();
        let sim = SimServers::start(spec.generate())
            .await
            .map_err(environment("start the simulators"))?;
        let name = format!("demo-{}", &clock.uuid().simple().to_string()[20..]);
        let planned = sim.to_be_deleted();
        Ok(Self {
            planned,
            log_dir: home.path().join("logs").display().to_string(),
            ledger: name,
            home,
            database,
            sim,
            go_live,
            program: std::env::current_exe().map_err(environment("find this program"))?,
            path: environment_.get("PATH").unwrap_or_default().to_owned(),
            _alone: alone,
        })
    }

    pub(super) fn users(&self) -> usize {
        self.sim.world().users.len()
    }

    pub(super) fn events(&self) -> usize {
        self.sim
            .initial_state()
            .values()
            .map(std::collections::BTreeMap::len)
            .sum()
    }

    pub(super) fn pool(&self) -> &sqlx::PgPool {
        &self.database.pool
    }

    /// The server's superuser, as whom the intruder comes.
    pub(super) fn superuser(&self) -> Option<sqlx::postgres::PgConnectOptions> {
        Some(self.database.embedded()?.admin_options().database("ledger"))
    }

    pub(super) fn cleanup_arguments(&self) -> Vec<&str> {
        vec![
            "--go-live",
            &self.go_live,
            "--user-interval",
            "20ms",
            "--log-dir",
            &self.log_dir,
        ]
    }

    fn command(&self, arguments: &[&str]) -> (Command, String) {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("LEDGER_HOME", self.home.path())
            .env("LEDGER_ACTOR", "person:bob")
            .envs(self.sim.env())
            .args(arguments)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if arguments.first() != Some(&"init") {
            command.env("LEDGER", &self.ledger);
        }
        (command, shown(arguments))
    }

    /// Runs one command of this program to its end.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Ran, Failure> {
        let (mut command, shown) = self.command(arguments);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output())
            .await
            .map_err(environment(format!("wait for `{shown}`")))?
            .map_err(environment(format!("run `{shown}`")))?;
        Ok(Ran {
            shown,
            exit: output.status.code().unwrap_or(-1),
            answer: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs one command and kills it (SIGKILL) when the simulator has carried out its n-th deletion and not yet answered.
    pub(super) async fn run_until_killed(
        &self,
        arguments: &[&str],
        nth: u64,
    ) -> Result<String, Failure> {
        let hold = self.sim.hold(Call::EventsDelete, nth, HoldPoint::After);
        let (mut command, shown) = self.command(arguments);
        let what = || format!("run `{shown}`");
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(environment(what()))?;
        tokio::select! {
            () = hold.reached() => {}
            ended = child.wait() => {
                ended.map_err(environment(what()))?;
            }
            () = tokio::time::sleep(COMMAND_LIMIT) => {}
        }
        child
            .kill()
            .await
            .map_err(environment("kill the live run"))?;
        hold.release();
        Ok(shown)
    }

    /// Faults of every kind, few enough that the story stays short.
    pub(super) fn break_things(&self) {
        let faults = [
            (Call::Token, FaultKind::status(503), 3),
            (
                Call::EventsList,
                FaultKind::reason(403, "rateLimitExceeded"),
                2,
            ),
            (Call::EventsGet, FaultKind::html(502), 5),
            (Call::EventsDelete, FaultKind::retry_after(429, "1"), 7),
            (Call::EventsDelete, FaultKind::LoseReply, 12),
            (Call::EventsDelete, FaultKind::LoseRequest, 21),
            (Call::EventsDelete, FaultKind::status(500), 30),
            (Call::EventsDelete, FaultKind::LoseReply, 60),
        ];
        for (call, kind, nth) in faults {
            self.sim
                .add_fault(Fault::once(call, kind).when(Occurrence::Nth(nth)));
        }
    }

    /// What became of the calendars, by the simulator's own account.
    pub(super) fn compare(&self) -> Comparison {
        self.sim.compare(&self.planned)
    }

    pub(super) fn only_reads(&self) -> bool {
        self.sim.calendar_writes().is_empty()
    }

    /// Whether the dry run put exactly those events to deletion that the world's maker knows to be v1's alone.
    pub(super) fn agrees_with_truth(&self, dry: &Ran) -> bool {
        let none = Vec::new();
        let items = dry.answer["items"].as_array().unwrap_or(&none);
        let found: BTreeSet<EventKey> = items
            .iter()
            .filter(|item| item["disposition"] == "delete")
            .filter_map(|item| {
                let text = |name: &str| item[name].as_str().map(str::to_owned);
                Some((text("calendar")?, text("event_id")?))
            })
            .collect();
        found == self.planned
    }

    /// Commands to look around with afterwards.
    pub(super) fn next_commands(&self) -> Vec<String> {
        let here = std::env::current_dir().unwrap_or_default();
        let program = self.program.strip_prefix(&here).unwrap_or(&self.program);
        let prefix = format!(
            "LEDGER_HOME={} LEDGER={} {}",
            self.home.path().display(),
            self.ledger,
            program.display()
        );
        [
            "log | tail -20",
            "review deletions | less",
            "loss",
            "verify",
        ]
        .map(|command| format!("{prefix} {command}"))
        .to_vec()
    }

    pub(super) async fn strike(self) {
        self.sim.stop().await;
        self.database.close().await;
    }
}

/// The command as a person would type it, without the paths.
fn shown(arguments: &[&str]) -> String {
    let mut shown = String::from("ledger");
    let mut skip = false;
    for argument in arguments {
        if std::mem::take(&mut skip) {
            continue;
        }
        if ["--go-live", "--user-interval", "--log-dir"].contains(argument) {
            skip = true;
            continue;
        }
        shown.push(' ');
        let is_hash = argument.len() == 64 && argument.bytes().all(|b| b.is_ascii_hexdigit());
        shown.push_str(if is_hash { &argument[..16] } else { argument });
    }
    shown
}
