//! Gets from the arguments and the environment to an open ledger.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ledger::chain::entry::Hash;
use ledger::store::connect::{self, ConnectError, parse_address};
use ledger::store::embedded::{self, Embedded, EmbeddedEnv, EmbeddedOptions, Home};
use ledger::store::keys::{Kek, KeyError};
use ledger::store::{Admin, Clock, LedgerRow, Store, ledgers};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::catalogue::is_catalogue;
use crate::environment::Environment;
use crate::epochs::{from_variable, read_kek};
use crate::exit::{Exit, Failure, environment};
use crate::output;
use crate::signing;

/// Login of the program in its embedded server: a member of the writer's role and nothing else.
const EMBEDDED_LOGIN: &str = "ledger_app";
/// Database of the embedded server.
const EMBEDDED_DATABASE: &str = "ledger";
/// Connections of one command.
const CONNECTIONS_MAX: u32 = 8;

/// A database ready for use. The embedded server runs at least as long as this value.
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    pub(crate) home: Home,
    /// URL of a login that was made just now, to be told once.
    pub(crate) new_login: Option<String>,
    embedded: Option<Embedded>,
}

impl Database {
    /// Gives the server up; where nobody else uses it, waits until it has stopped.
    pub(crate) async fn close(self) {
        self.pool.close().await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.close().await
        {
            tracing::warn!(%error, "the embedded PostgreSQL was not stopped in order");
        }
    }

    /// Folder of the server's programs (`psql`, `pg_dump`), where it is the embedded one.
    pub(crate) fn embedded(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }
}

/// An open ledger with the server behind it.
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) database: Database,
}

impl Session {
    /// Opens the ledger that the command is about.
    pub(crate) async fn open(
        ledger: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let database = open_database(environment, Prepare::No).await?;
        let row = choose(ledger, &database, environment).await?;
        let keks = keks(environment, &database.home, false)?;
        let keks = ledger::store::erase::in_force_first(&database.pool, row.id, keks)
            .await
            .map_err(crate::exit::environment("choose the key-encryption key"))?;
        let store = Store::open(database.pool.clone(), row, keks, Clock::system());
        signing::hold_back(&database.home, &store).await?;
        Ok(Self { store, database })
    }

    /// Waits for what is being written and gives the server up.
    pub(crate) async fn close(self) {
        self.store.close().await;
        self.database.close().await;
    }
}

/// Whether a database without a ledger schema is prepared or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// `init` and `demo`.
    Yes,
    /// Everything else.
    No,
}

/// Connects to `DATABASE_URL`, or to the embedded server without it.
pub(crate) async fn open_database(
    environment: &Environment,
    prepare: Prepare,
) -> Result<Database, Failure> {
    let home = Home::resolve(None, &EmbeddedEnv::from_process())
        .map_err(|error| embedded_failure("find the home folder", error))?;
    match environment.get("DATABASE_URL") {
        Some(url) => open_given(url, home, prepare).await,
        None => open_embedded(home, prepare, true).await,
    }
}

async fn open_given(url: &str, home: Home, prepare: Prepare) -> Result<Database, Failure> {
    let options = parse_address(url).map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut new_login = None;
    let connected = match connect::connect(options.clone(), CONNECTIONS_MAX).await {
        Err(ConnectError::NoSchema | ConnectError::SchemaVersion { .. })
            if prepare == Prepare::Yes =>
        {
            let mut admin = Admin::prepare(&options).await.map_err(connect_failure)?;
            let name = options.get_database().unwrap_or("postgres");
            let suffix: String = name
                .to_lowercase()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            let login = format!("ledger_app_{suffix}");
            let password = random_password().map_err(environment_key)?;
            if admin
                .create_login(&login, &password)
                .await
                .map_err(connect_failure)?
            {
                new_login = Some(address_of(&options, &login, &password));
            }
            admin.close().await.map_err(connect_failure)?;
            connect::connect(options, CONNECTIONS_MAX).await
        }
        other => other,
    };
    let (pool, privilege) = connected.map_err(connect_failure)?;
    if privilege.lowered {
        output::note(
            "note: this login could change the log's tables; the role ledger_writer was set instead",
        );
    }
    Ok(Database {
        pool,
        home,
        new_login,
        embedded: None,
    })
}

/// The embedded server of a home.
pub(crate) async fn open_embedded(
    home: Home,
    prepare: Prepare,
    say_so: bool,
) -> Result<Database, Failure> {
    let options = EmbeddedOptions::new(home.clone(), EmbeddedEnv::from_process());
    let server = embedded::start(&options)
        .await
        .map_err(|error| embedded_failure("start the embedded PostgreSQL", error))?;
    for note in server.notes().iter().filter(|_| say_so) {
        output::note(format_args!("note: {note}"));
    }
    let password = format!(
        "{}",
        Hash::of(format!("ledger-app\0{}", server.password()).as_bytes())
    );
    let app = || server.connect_options(EMBEDDED_LOGIN, &password, EMBEDDED_DATABASE);
    let connected = match connect::connect(app(), CONNECTIONS_MAX).await {
        // The first use of this server, or of this version of the program.
        Err(
            ConnectError::Connect(_) | ConnectError::NoSchema | ConnectError::SchemaVersion { .. },
        ) if prepare == Prepare::Yes => {
            prepare_embedded(&server, &password).await?;
            connect::connect(app(), CONNECTIONS_MAX).await
        }
        Err(ConnectError::Connect(_)) => Err(ConnectError::NoSchema),
        other => other,
    };
    let (pool, _) = connected.map_err(connect_failure)?;
    Ok(Database {
        pool,
        home,
        new_login: None,
        embedded: Some(server),
    })
}

async fn prepare_embedded(server: &Embedded, password: &str) -> Result<(), Failure> {
    use sqlx::ConnectOptions as _;
    use sqlx::Connection as _;
    let failed = |error: sqlx::Error| environment("make the embedded database")(error);
    let mut admin = server.admin_options().connect().await.map_err(failed)?;
    let made = sqlx::query("create database ledger")
        .execute(&mut admin)
        .await;
    if let Err(error) = made
        && error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref()
            != Some("42P04")
    {
        return Err(failed(error));
    }
    admin.close().await.map_err(failed)?;
    let options = server.admin_options().database(EMBEDDED_DATABASE);
    let mut admin = Admin::prepare(&options).await.map_err(connect_failure)?;
    admin
        .create_login(EMBEDDED_LOGIN, password)
        .await
        .map_err(connect_failure)?;
    admin.close().await.map_err(connect_failure)
}

/// The ledger of that name or id; the only one where none is named.
async fn choose(
    named: Option<&str>,
    database: &Database,
    environment: &Environment,
) -> Result<LedgerRow, Failure> {
    let pool = &database.pool;
    let mut all = ledgers(pool).await.map_err(connect_failure)?;
    let catalogue = all.iter().find(|row| is_catalogue(row)).cloned();
    if named != catalogue.as_ref().map(|row| row.name.as_str())
        && named != catalogue.as_ref().map(|row| row.id.to_string()).as_deref()
    {
        all.retain(|row| !is_catalogue(row));
    }
    let mut chosen: Vec<_> = match named {
        None => all.clone(),
        Some(named) => all
            .iter()
            .filter(|row| row.name == named || row.id.to_string() == named)
            .cloned()
            .collect(),
    };
    if chosen.is_empty()
        && let Some(id) = connect::without_head(pool).await.map_err(connect_failure)?
    {
        let what = anyhow::anyhow!("tampered: ledger {id} has entries and no head row");
        return Err(Failure::new(Exit::No, what)
            .hint("put its row of ledger.heads back, from a backup, and run `ledger verify`"));
    }
    if let Some(catalogue) = catalogue.filter(|_| chosen.is_empty()) {
        let keks = keks(environment, &database.home, false)?;
        let store = Store::open(pool.clone(), catalogue, keks, Clock::system());
        // Boxed: every command would carry the space for a question that hardly one asks.
        let missed = Box::pin(store.missed(None)).await;
        let missed = missed.map_err(signing::failure)?;
        if let Some(first) = missed.findings.first() {
            let what = anyhow::anyhow!("tampered: by the catalogue, {first}");
            return Err(Failure::new(Exit::No, what)
                .hint("put it back from a backup; `ledger verify --ledger catalogue` lists all"));
        }
    }
    match (chosen.len(), named) {
        (1, _) => Ok(chosen.remove(0)),
        _ if all.is_empty() => Err(no_ledger()),
        (_, None) => Err(Failure::usage(format_args!(
            "this database holds {} ledgers:\n{}",
            all.len(),
            listed(&all)
        ))
        .hint("name one with --ledger NAME or LEDGER=NAME")),
        (_, Some(named)) => Err(Failure::usage(format_args!(
            "no ledger is called {named}; there are:\n{}",
            listed(&all)
        ))),
    }
}

fn listed(rows: &[LedgerRow]) -> String {
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("  {}  {}", row.id, row.name))
        .collect();
    lines.join("\n")
}

fn no_ledger() -> Failure {
    Failure::usage("the database holds no ledger").hint("make one with `ledger init NAME`")
}

/// The key-encryption keys: `LEDGER_KEK`, what `LEDGER_KEK_COMMAND` prints, or the home's file, in this order; and behind it the
/// one that an erasure is about to put in its place, and the one that it is about to destroy.
pub(crate) fn keks(
    environment: &Environment,
    home: &Home,
    create: bool,
) -> Result<Vec<Kek>, Failure> {
    let path = kek_file(home);
    let mut keks: Vec<Kek> = if let Some(kek) = given_kek(environment)? {
        let given = |name| from_variable(environment, name);
        let beside = [given("LEDGER_KEK_NEXT")?, given("LEDGER_KEK_OLD")?];
        std::iter::once(kek)
            .chain(beside.into_iter().flatten())
            .collect()
    } else {
        let read = |ending: &str| read_kek(&path.with_extension(ending));
        let found = [read_kek(&path)?, read("next")?, read("old")?];
        found.into_iter().flatten().collect()
    };
    if keks.is_empty() && create {
        let kek = Kek::generate().map_err(environment_key)?;
        write_private(&path, &kek.to_hex())?;
        // Another `init` may have been first: the file decides.
        keks.extend(read_kek(&path)?);
    }
    Ok(keks)
}

/// The key-encryption key that the environment gives.
fn given_kek(environment: &Environment) -> Result<Option<Kek>, Failure> {
    if let Some(kek) = from_variable(environment, "LEDGER_KEK")? {
        return Ok(Some(kek));
    }
    let Some(command) = environment.get("LEDGER_KEK_COMMAND") else {
        return Ok(None);
    };
    let what = "run LEDGER_KEK_COMMAND";
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .output();
    let output = output.map_err(crate::exit::environment(what))?;
    if !output.status.success() {
        let message = anyhow::anyhow!("{what}: {}", output.status);
        return Err(Failure::new(Exit::Environment, message));
    }
    Kek::from_hex(&String::from_utf8_lossy(&output.stdout))
        .map(Some)
        .map_err(|error| {
            Failure::usage(error).hint("LEDGER_KEK_COMMAND must print the key and nothing else")
        })
}

/// File of the key-encryption key in the home.
pub(crate) fn kek_file(home: &Home) -> PathBuf {
    home.path().join("kek")
}

/// Reads a secret file; one that others may read is refused.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let what = || format!("read {}", path.display());
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(crate::exit::environment(what()))?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(
            Failure::usage(format_args!("{} may be read by others", path.display()))
                .hint(format!("chmod 600 {}", path.display())),
        );
    }
    fs::read_to_string(path)
        .map(Some)
        .map_err(crate::exit::environment(what()))
}

/// Writes a secret file of mode 0600, whole or not at all; one that exists is left alone.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let what = || format!("write {}", path.display());
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    write().map_err(crate::exit::environment(what()))
}

fn random_password() -> Result<String, KeyError> {
    Ok(Hash(ledger::store::keys::random()?).to_string())
}

pub(crate) fn environment_key(error: KeyError) -> Failure {
    Failure::new(Exit::Environment, error)
}

/// The address of the writer's login: name and password are of letters, digits and underscores.
fn address_of(options: &PgConnectOptions, login: &str, password: &str) -> String {
    let socket = options
        .get_socket()
        .map(|path| path.to_string_lossy().replace('/', "%2F"));
    let host = socket.unwrap_or_else(|| options.get_host().replace('/', "%2F"));
    let database = options.get_database().unwrap_or("postgres");
    format!(
        "postgresql://{login}:{password}@{host}:{}/{database}",
        options.get_port()
    )
}

pub(crate) fn embedded_failure(what: &'static str, error: embedded::EmbeddedError) -> Failure {
    let hint = error.hint();
    let failure = environment(what)(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Gives each failure to connect its status and its hint.
pub(crate) fn connect_failure(error: ConnectError) -> Failure {
    match error {
        ConnectError::NoSchema => no_ledger(),
        ConnectError::NameTaken(_) | ConnectError::Address => Failure::new(Exit::Usage, error),
        ConnectError::SchemaVersion { found } => {
            let newer = found > ledger::store::migrate::SCHEMA_VERSION;
            Failure::new(Exit::Environment, error).hint(if newer {
                "use the newer `ledger` that made it"
            } else {
                "bring it up to date with `ledger init` and an administrator's DATABASE_URL"
            })
        }
        ConnectError::Connect(_) => Failure::new(Exit::Environment, error).hint(
            "nothing was recorded; check DATABASE_URL and that PostgreSQL runs, then try again",
        ),
        other => Failure::new(Exit::Environment, other),
    }
}
