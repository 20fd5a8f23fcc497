//! The embedded PostgreSQL: an installed one, started by the program without any set-up, shared
//! by all commands of one home, stopped when the last of them has ended, however it ended.
//!
//! [`start`] returns an [`Embedded`]; as long as that lives, the server does. `supervise.rs` tells
//! how, and what a crash at each point leaves. The server listens on a socket in a private folder
//! and on no network.

mod account;
mod cluster;
mod env;
mod error;
mod find;
mod home;
mod join;
mod pidfile;
mod server;
mod supervise;

use std::fmt;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};
use zeroize::Zeroizing;

use cluster::Cluster;
use find::Existing;
use join::{START_LIMIT, reap, until_connected, until_locked};
use pidfile::PidFile;
use server::ServerSettings;
use supervise::Request;

pub use env::EmbeddedEnv;
pub use error::EmbeddedError;
pub use find::{Installation, MAJOR_MIN, PostgresVersion};
pub use home::Home;
pub use supervise::{SUPERVISE_ARGUMENT, SupervisorCommand, main_if_asked, supervise};

use error::io_error;

/// The cluster's superuser.
pub const SUPERUSER: &str = "ledger";

/// A stop that is under way holds newcomers back; it is cut short before this.
const USERS_LOCK_LIMIT: Duration = Duration::from_mins(2);

/// How to run the embedded server. The first command decides; those that join share its server.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Where it lives.
    pub home: Home,
    /// The process's environment.
    pub env: EmbeddedEnv,
    /// Folder with `initdb` and `postgres`; wins over `LEDGER_POSTGRES_BIN` and the search.
    pub bin_dir: Option<PathBuf>,
    /// How to run the process that watches the server.
    pub supervisor: SupervisorCommand,
    /// Whether a commit survives a crash of the machine. False only for tests: it turns off `fsync`
    /// and `full_page_writes`. A commit survives the killing of the server either way.
    pub durable: bool,
    /// Setting of that name.
    pub max_connections: u32,
    /// Further settings of postgresql.conf as `(name, value)`; they win over ours.
    pub extra_settings: Vec<(String, String)>,
}

impl EmbeddedOptions {
    /// A durable server for 100 connections, watched by this program.
    pub fn new(home: Home, env: EmbeddedEnv) -> Self {
        Self {
            home,
            env,
            bin_dir: None,
            supervisor: SupervisorCommand::this_program(),
            durable: true,
            max_connections: 100,
            extra_settings: Vec::new(),
        }
    }
}

/// The use of a running embedded server. The server stays at least as long as this value; when
/// the last user in any process is gone, it is stopped.
pub struct Embedded {
    /// Held shared. None only while `close` or `drop` is at work.
    users_lock: Option<File>,
    cluster: Cluster,
    installation: Installation,
    socket_dir: PathBuf,
    password: Zeroizing<String>,
    notes: Vec<String>,
    request: Request,
    supervisor: SupervisorCommand,
}

/// Whether the server was stopped by [`Embedded::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It has ended, and so has its supervisor: the home may be removed.
    Stopped,
    /// Others use it.
    InUse,
}

/// Gets the home's server: joins the one that runs, or starts it, on the first call ever after
/// making its data.
///
/// Many processes may call this at once; one server results. Dropping the future gives up the
/// use, and a server that was being started for it is stopped again.
pub async fn start(options: &EmbeddedOptions) -> Result<Embedded, EmbeddedError> {
    let (cluster, mut notes) = Cluster::prepare(&options.home)?;
    let users_lock = cluster.users_lock()?;
    let dir = cluster.dir();
    until_locked("the end of a stop", dir, USERS_LOCK_LIMIT, || {
        users_lock.try_lock_shared()
    })
    .await?;
    let start_lock = cluster.start_lock()?;
    until_locked("another command's start", dir, START_LIMIT, || {
        start_lock.try_lock()
    })
    .await?;

    let data = cluster.data();
    let existing = cluster
        .data_major()?
        .map(|major| Existing { data: &data, major });
    let installation = find::find(
        options.bin_dir.as_deref(),
        &options.env,
        existing.as_ref(),
        cluster.account(),
    )?;
    let request = Request {
        dir: dir.to_owned(),
        server: ServerSettings {
            bin_dir: installation.bin_dir.clone(),
            durable: options.durable,
            max_connections: options.max_connections,
            extra: options.extra_settings.clone(),
        },
    };
    let (socket_dir, password) = until_connected(&cluster, &request, &options.supervisor).await?;
    drop(start_lock);
    notes.insert(
        0,
        format!(
            "PostgreSQL {} runs under {}",
            installation.version,
            cluster.dir().display()
        ),
    );
    let embedded = Embedded {
        users_lock: Some(users_lock),
        cluster,
        installation,
        socket_dir,
        password,
        notes,
        request,
        supervisor: options.supervisor.clone(),
    };
    if options.durable {
        embedded.check_durable().await?;
    }
    Ok(embedded)
}

fn connect_options(
    socket_dir: &Path,
    role: &str,
    password: &str,
    database: &str,
) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(cluster::PORT)
        .username(role)
        .password(password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .application_name("ledger")
}

impl Embedded {
    /// How to connect as the superuser [`SUPERUSER`], to the database `postgres`.
    pub fn admin_options(&self) -> PgConnectOptions {
        self.connect_options(SUPERUSER, &self.password, "postgres")
    }

    /// How to connect as another role.
    pub fn connect_options(&self, role: &str, password: &str, database: &str) -> PgConnectOptions {
        connect_options(&self.socket_dir, role, password, database)
    }

    /// A URL for the socket, as libpq and sqlx understand it (PostgreSQL 34.1.1.2: the host is
    /// the percent-encoded directory). It contains the password.
    pub fn database_url(&self, role: &str, password: &str, database: &str) -> String {
        format!(
            "postgresql://{}:{}@{}:{}/{}?sslmode=disable",
            percent_encoded(role),
            percent_encoded(password),
            percent_encoded(&self.socket_dir.to_string_lossy()),
            cluster::PORT,
            percent_encoded(database),
        )
    }

    /// The superuser's password. Never to be shown.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Directory of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Folder with `postgres`, and mostly `psql` and `pg_dump` too.
    pub fn bin_dir(&self) -> &Path {
        &self.installation.bin_dir
    }

    /// Version of the installation.
    pub fn version(&self) -> PostgresVersion {
        self.installation.version
    }

    /// The cluster's folder: data, locks, `server.log`. Usually `postgres` in the home.
    pub fn dir(&self) -> &Path {
        self.cluster.dir()
    }

    /// What the user should be told once: that a server of our own runs, and anything unusual.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives up the use and, if nobody else uses the server, waits until it has stopped. When the
    /// last two users close at the same moment both may hear [`Closed::InUse`].
    pub async fn close(mut self) -> Result<Closed, EmbeddedError> {
        let Some(users_lock) = self.users_lock.take() else {
            return Ok(Closed::InUse);
        };
        self.leave_supervised();
        let dir = self.cluster.dir();
        // Asking for the exclusive lock gives the shared one up, granted or not (flock(2)).
        let alone = users_lock.try_lock().is_ok();
        drop(users_lock);
        if !alone {
            // The supervisor may have been faster; if so it holds the lock exclusively.
            match self.cluster.users_lock()?.try_lock_shared() {
                Ok(()) => return Ok(Closed::InUse),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(io_error("lock", dir)(error)),
            }
        }
        let supervisor_lock = self.cluster.supervisor_lock()?;
        until_locked("the stop of the server", dir, USERS_LOCK_LIMIT, || {
            supervisor_lock.try_lock_shared()
        })
        .await?;
        Ok(Closed::Stopped)
    }

    /// A server whose supervisor was killed would outlive its users: gives it a new one, which
    /// stops it as soon as nobody uses it.
    fn leave_supervised(&self) {
        let unwatched = self
            .cluster
            .supervisor_lock()
            .and_then(|lock| supervise::is_supervised(&lock, self.cluster.dir()))
            .is_ok_and(|supervised| !supervised);
        let runs = || matches!(pidfile::read(&self.cluster.data()), Ok(PidFile::Alive(_)));
        if unwatched && runs() {
            match self.supervisor.spawn(&self.request) {
                Ok(child) => reap(child),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "PostgreSQL goes on without a supervisor"
                ),
            }
        }
    }

    async fn check_durable(&self) -> Result<(), EmbeddedError> {
        let failed = |source| EmbeddedError::Connect {
            dir: self.dir().to_owned(),
            source,
        };
        let mut connection = self.admin_options().connect().await.map_err(failed)?;
        let fsync: String = sqlx::query_scalar("select current_setting('fsync')")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        if fsync == "on" {
            return Ok(());
        }
        Err(EmbeddedError::NotDurable {
            dir: self.dir().to_owned(),
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if self.users_lock.is_some() {
            self.leave_supervised();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("dir", &self.cluster.dir())
            .field("socket_dir", &self.socket_dir)
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

/// Everything but letters, digits and `-._~` as %XX (RFC 3986 section 2).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unreserved_is_percent_encoded() {
        assert_eq!(percent_encoded("a-Z._~9"), "a-Z._~9");
        assert_eq!(percent_encoded("/t m:p@ü"), "%2Ft%20m%3Ap%40%C3%BC");
    }
}
