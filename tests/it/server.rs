//! The PostgreSQL servers of the tests.
//!
//! All test processes of one run share a server, since starting one takes longer than most tests. It lives in a folder of
//! the temporary directory that belongs to this checkout and user. Each process holds `<folder>.lock` shared for its life;
//! a small shell process that outlives it removes the folder as soon as nobody holds that lock. Tests that kill or
//! restart a server, or are about durability, start one of their own with [`OwnServer`].

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ledger::store::Admin;
use ledger::store::embedded::{
    self, Embedded, EmbeddedEnv, EmbeddedOptions, Home, SUPERUSER, SUPERVISE_ARGUMENT,
    SupervisorCommand,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::OnceCell;

/// Login that may append and read, as `ledger init` makes it.
const WRITER: &str = "it_writer";
/// Password of the tests' logins: the socket lies in a private folder.
const PASSWORD: &str = "it";

/// A running server, prepared for worlds.
#[derive(Debug)]
pub(crate) struct Server {
    embedded: Embedded,
    /// The migrated database that worlds are copies of.
    template: String,
    /// Held until the process ends.
    process_lock: Option<File>,
}

static SHARED: OnceCell<Server> = OnceCell::const_new();

/// The server that all tests share.
pub(crate) async fn shared() -> &'static Server {
    SHARED
        .get_or_init(|| async {
            let checkout = env!("CARGO_MANIFEST_DIR");
            let mut hasher = DefaultHasher::new();
            checkout.hash(&mut hasher);
            let name = format!(
                "ledger-it-{}-{:08x}",
                geteuid().as_raw(),
                hasher.finish() >> 32
            );
            let folder = std::env::temp_dir().join(name);
            let lock = hold(&folder);
            let mut options = options(&folder);
            options.durable = false;
            options.max_connections = 300;
            let mut server = Server::start(&options).await;
            server.process_lock = Some(lock);
            server
        })
        .await
}

/// Keeps the folder until this process ends, and has it removed when the last such process has.
#[expect(
    clippy::zombie_processes,
    reason = "it outlives this process on purpose"
)]
fn hold(folder: &Path) -> File {
    let path = folder.with_extension("lock");
    let lock = loop {
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        lock.lock_shared().unwrap();
        // Whoever removed the folder removed the lock file with it, and a lock on that one is worth nothing.
        let same =
            std::fs::metadata(&path).is_ok_and(|now| now.ino() == lock.metadata().unwrap().ino());
        if same {
            break lock;
        }
    };
    // `cat` ends with this process, however that ends. The supervisor must have stopped the server before its folder goes.
    let script = r#"
        cat >/dev/null; sleep 1
        exec 9<"$1.lock" || exit 0
        flock --exclusive --nonblock 9 || exit 0
        supervisor="$1/postgres/supervisor.lock"
        if [ -e "$supervisor" ]; then flock --exclusive --wait 60 "$supervisor" true || exit 0; fi
        rm -rf "$1" "$1.lock"
    "#;
    let (reader, writer) = std::io::pipe().unwrap();
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder)
        .stdin(reader)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .unwrap();
    // Held until the process ends: the pipe's write end is what `cat` waits for.
    std::mem::forget(writer);
    lock
}

fn options(home: &Path) -> EmbeddedOptions {
    let env = EmbeddedEnv::from_process();
    let home = Home::resolve(Some(home.to_owned()), &env).unwrap();
    let supervisor = SupervisorCommand {
        program: PathBuf::from(env!("CARGO_BIN_EXE_ledger")),
        arguments: vec![SUPERVISE_ARGUMENT.into()],
    };
    EmbeddedOptions {
        supervisor,
        ..EmbeddedOptions::new(home, env)
    }
}

impl Server {
    async fn start(options: &EmbeddedOptions) -> Self {
        let embedded = embedded::start(options).await.unwrap();
        let template = make_template(&embedded).await;
        Self {
            embedded,
            template,
            process_lock: None,
        }
    }

    /// The program `name` of the server's installation, `pg_dump` say.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.embedded.bin_dir().join(name)
    }

    /// How to connect to a database as its superuser.
    pub(crate) fn superuser(&self, database: &str) -> PgConnectOptions {
        self.embedded.admin_options().database(database)
    }

    /// How to connect as the writer.
    pub(crate) fn writer(&self, database: &str) -> PgConnectOptions {
        self.embedded.connect_options(WRITER, PASSWORD, database)
    }

    /// Address of a database for the writer, as `DATABASE_URL` holds it.
    pub(crate) fn writer_url(&self, database: &str) -> String {
        self.embedded.database_url(WRITER, PASSWORD, database)
    }

    /// Makes a login that may read and nothing else, as an auditor is given one; its address of a database.
    pub(crate) async fn make_reader(&self, database: &str) -> String {
        let login = format!("auditor_of_{database}");
        let sql = format!("create role {login} login password '{PASSWORD}' in role ledger_reader");
        execute(&mut self.admin().await, sql).await;
        self.embedded.database_url(&login, PASSWORD, database)
    }

    /// Address of a database for its superuser.
    pub(crate) fn superuser_url(&self, database: &str) -> String {
        let password = self.embedded.password();
        self.embedded.database_url(SUPERUSER, password, database)
    }

    /// Folder of the server's socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.embedded.socket_dir()
    }

    /// Makes a database like `template`, or an empty one.
    pub(crate) async fn create_database(&self, name: &str, template: Option<&str>) {
        let template = template.unwrap_or("template0");
        execute(
            &mut self.admin().await,
            format!("create database {name} template {template}"),
        )
        .await;
    }

    /// Makes a database with the schema and no ledger.
    pub(crate) async fn create_migrated(&self, name: &str) {
        self.create_database(name, Some(&self.template)).await;
    }

    /// Drops a database, whoever uses it.
    pub(crate) async fn drop_database(&self, name: &str) {
        let sql = format!("drop database if exists {name} with (force)");
        execute(&mut self.admin().await, sql).await;
    }

    async fn admin(&self) -> PgConnection {
        self.superuser("postgres").connect().await.unwrap()
    }

    /// Kills the postmaster as a crash would; its supervisor starts it again.
    pub(crate) fn kill(&self) {
        let path = self.embedded.dir().join("data/postmaster.pid");
        let text = std::fs::read_to_string(path).unwrap();
        let pid: i32 = text.lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}

/// Migrates one database and shuts it, so that it can be copied at any time. One process does it, the others wait.
async fn make_template(embedded: &Embedded) -> String {
    let mut hasher = DefaultHasher::new();
    // The program that migrates is this one: with another schema it is another program.
    let program = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
    (program.mtime(), program.mtime_nsec(), program.size()).hash(&mut hasher);
    let name = format!("template_{:016x}", hasher.finish());
    let mut admin = embedded.admin_options().connect().await.unwrap();
    execute(&mut admin, "select pg_advisory_lock(1)".to_owned()).await;
    let ready: bool = sqlx::query_scalar(
        "select exists (select from pg_database where datname = $1 and not datallowconn)",
    )
    .bind(&name)
    .fetch_one(&mut admin)
    .await
    .unwrap();
    if !ready {
        let sql = format!("drop database if exists {name} with (force)");
        execute(&mut admin, sql).await;
        execute(&mut admin, format!("create database {name}")).await;
        let target = embedded.admin_options().database(&name);
        let mut prepared = Admin::prepare(&target).await.unwrap();
        prepared.create_login(WRITER, PASSWORD).await.unwrap();
        prepared.close().await.unwrap();
        let sql = format!("alter database {name} with allow_connections false");
        execute(&mut admin, sql).await;
    }
    admin.close().await.unwrap();
    name
}

/// Runs one statement of ours.
pub(crate) async fn execute(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql: String = sql.into();
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(connection)
        .await
    {
        panic!("{sql}: {error}");
    }
}

/// A server that one test has for itself.
#[derive(Debug)]
pub(crate) struct OwnServer {
    server: Option<Server>,
    // After the server: its folder.
    home: tempfile::TempDir,
}

impl OwnServer {
    /// Starts one whose commits survive what they would in use.
    pub(crate) async fn start() -> Self {
        let home = super::world::temporary("own");
        let server = Server::start(&options(home.path())).await;
        Self {
            server: Some(server),
            home,
        }
    }

    /// Stops it and removes its folder.
    pub(crate) async fn stop(mut self) {
        let server = self.server.take().unwrap();
        server.embedded.close().await.unwrap();
        self.home.close().unwrap();
    }
}

impl std::ops::Deref for OwnServer {
    type Target = Server;
    fn deref(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}
