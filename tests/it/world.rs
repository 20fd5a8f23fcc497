//! A world: a database of its own, a home folder, a ledger, and the real binary to use them.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ledger::store::keys::Kek;
use ledger::store::{Clock, LedgerRow, Store, connect, ledgers};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tempfile::TempDir;

use crate::server::{self, Server};

/// What a run of the binary gave.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its standard output as one JSON document a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// The same, for a run that has to end well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.exit, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// A test's own database, home and ledger. What it made is gone when it is dropped.
pub(crate) struct World {
    server: &'static Server,
    database: String,
    url: String,
    home: TempDir,
}

impl World {
    /// A world with a ledger called `test`.
    pub(crate) async fn start() -> Self {
        Self::with_ledger(&["test"]).await
    }

    /// A world whose ledger is made by `ledger init` with these arguments.
    pub(crate) async fn with_ledger(arguments: &[&str]) -> Self {
        let world = Self::bare().await;
        world.ledger([&["init"], arguments].concat()).ok();
        world
    }

    /// A world with a prepared database and no ledger.
    pub(crate) async fn bare() -> Self {
        let world = Self::over(server::shared().await, temporary("home"));
        world.server.create_migrated(&world.database).await;
        world
    }

    /// A world with a database that nothing was done to.
    pub(crate) async fn empty() -> Self {
        let world = Self::over(server::shared().await, temporary("home"));
        world.server.create_database(&world.database, None).await;
        world
    }

    fn over(server: &'static Server, home: TempDir) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("world_{}_{count}", std::process::id());
        Self {
            url: server.writer_url(&database),
            server,
            database,
            home,
        }
    }

    pub(crate) fn server(&self) -> &'static Server {
        self.server
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// What the binary gets as `DATABASE_URL`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What the binary gets as `LEDGER_HOME`.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Connects as somebody who can do anything.
    pub(crate) async fn superuser(&self) -> PgConnection {
        self.superuser_options().connect().await.unwrap()
    }

    pub(crate) fn superuser_options(&self) -> PgConnectOptions {
        self.server.superuser(&self.database)
    }

    /// Ends every connection to this world's database, as a restart of the server does.
    pub(crate) async fn drop_connections(&self) -> usize {
        let ended: Vec<(bool,)> = sqlx::query_as(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .fetch_all(&mut self.superuser().await)
        .await
        .unwrap();
        ended.len()
    }

    /// Connects as the program's login.
    pub(crate) async fn writer(&self) -> PgConnection {
        self.server.writer(&self.database).connect().await.unwrap()
    }

    /// The ledger through the library, with the home's keys.
    pub(crate) async fn store(&self) -> Store {
        self.store_through(self.server.writer(&self.database)).await
    }

    /// The ledger through the library, over another way to the database.
    pub(crate) async fn store_through(&self, options: PgConnectOptions) -> Store {
        open_store(options, self.home()).await
    }

    /// Runs the binary to its end.
    pub(crate) fn ledger<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        output(self.command(arguments).stdin(Stdio::null()))
    }

    /// Runs the binary with something on its standard input.
    pub(crate) fn ledger_in<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        output_of(&mut self.command(arguments), input)
    }

    /// The binary with the environment of this world and nothing else.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = binary(self.home());
        command.env("DATABASE_URL", &self.url).args(arguments);
        command
    }

    /// Appends entries, which all have to be recorded, and gives the answers.
    #[track_caller]
    pub(crate) fn append(&self, entries: &[Value]) -> Vec<Value> {
        let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let input = lines.join("\n");
        self.ledger_in(["append", "--json"], &input).ok().lines()
    }

    /// `ledger verify --json`, with its exit status.
    pub(crate) fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.ledger([&["verify", "--json"], arguments].concat());
        (output.exit, output.json())
    }

    /// The exit status of `ledger verify`.
    pub(crate) fn verify_exit(&self, arguments: &[&str]) -> i32 {
        self.ledger([&["verify"], arguments].concat()).exit
    }

    /// Fails unless `ledger verify` finds the ledger as it was written, with all guards on.
    #[track_caller]
    pub(crate) fn assert_intact(&self) -> Value {
        let (exit, report) = self.verify(&[]);
        assert_eq!(
            (exit, &report["verdict"]),
            (0, &json!("intact")),
            "{report}"
        );
        report
    }
}

/// A store over this way to the database, with the keys of this home.
pub(crate) async fn open_store(options: PgConnectOptions, home: &Path) -> Store {
    let (pool, _) = connect(options, 8).await.unwrap();
    let mut rows: Vec<LedgerRow> = ledgers(&pool).await.unwrap();
    rows.retain(|row| row.name != "catalogue");
    let [row] = rows.as_slice() else {
        panic!("one ledger, not {rows:?}");
    };
    let kek = std::fs::read_to_string(home.join("kek")).unwrap();
    let keks = vec![Kek::from_hex(&kek).unwrap()];
    Store::open(pool, row.clone(), keks, Clock::system())
}

/// The binary with this home, and no database named.
pub(crate) fn binary(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledger"));
    command
        .env_clear()
        .env("LEDGER_HOME", home)
        .env("LEDGER_ACTOR", "person:tester")
        .env("HOME", home)
        .env("TZ", "America/St_Johns")
        .current_dir("/");
    for kept in ["PATH", "LLVM_PROFILE_FILE", "LEDGER_POSTGRES_BIN"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output {
        exit: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs a command to its end with this on its standard input.
pub(crate) fn output_of(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Beside reading: the answers may fill their pipe before the input is taken. An end before all is read is seen by its answer.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        Output {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    })
}

impl Drop for World {
    fn drop(&mut self) {
        // A runtime of its own, since the test's may be ending, and a thread, since two cannot be nested.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(self.server.drop_database(&self.database));
            });
        });
    }
}

/// A folder of a test's own.
pub(crate) fn temporary(what: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("ledger-it-{what}-"))
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// An entry of a plain type of nobody's, as `ledger append` reads it.
pub(crate) fn line(event_type: &str, subject: &str, payload: &Value) -> Value {
    json!({"type": event_type, "subject": subject, "payload": payload})
}
