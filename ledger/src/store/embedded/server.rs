//! Making a data directory, starting `postgres` on it, stopping it: what the supervisor does.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, PORT, random_hex, remove_if_there};
use super::error::{EmbeddedError, io_error};
use super::pidfile::{self, PidFile, Postmaster, Status};

/// How often files and processes are looked at again.
const POLL: Duration = Duration::from_millis(10);
/// After a crash: how long the dead server's remains (zombies, last backends with its shared
/// memory) may keep a new one from starting.
const REMAINS_LIMIT: Duration = Duration::from_secs(20);
/// Recovery after a crash takes as long as the log since the last checkpoint is.
const READY_LIMIT: Duration = Duration::from_mins(5);
/// Fast shutdown writes a checkpoint; after this the server is told to stop at once, which the
/// next start mends by recovery.
const FAST_STOP_LIMIT: Duration = Duration::from_mins(1);
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(10);
/// What `postgres` says while another server's remains are in the way.
const REMAINS_WORDS: [&str; 3] = ["already exists", "Is another postmaster", "still in use"];

/// How the server is to run. Travels to the supervisor as its argument; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerSettings {
    pub(super) bin_dir: PathBuf,
    pub(super) durable: bool,
    pub(super) max_connections: u32,
    /// Further `name`, `value` pairs; a later one wins over an earlier one and over ours.
    pub(super) extra: Vec<(String, String)>,
}

/// A server that is ready, and how this process knows it.
pub(super) enum Server {
    /// Our child: its end is told by `wait`.
    Child {
        child: tokio::process::Child,
        postmaster: Postmaster,
    },
    /// The child of a supervisor that is gone: its end is found by looking.
    Adopted(Postmaster),
}

impl Server {
    /// Gets a ready server for the cluster: adopts the one that runs, or starts one.
    ///
    /// The caller holds `supervisor.lock`, so nobody else does any of this.
    pub(super) fn get(cluster: &Cluster, settings: &ServerSettings) -> Result<Self, EmbeddedError> {
        if let Some(postmaster) = adopt(cluster)? {
            return Ok(Self::Adopted(postmaster));
        }
        if cluster.data_major()?.is_none() {
            create_data(cluster, settings)?;
        }
        start(cluster, settings)
    }

    /// Returns when the server has ended.
    pub(super) async fn ended(&mut self, cluster: &Cluster) {
        match self {
            Self::Child { child, .. } => {
                let status = child.wait().await;
                tracing::debug!(?status, "postgres ended");
            }
            Self::Adopted(postmaster) => {
                let data = cluster.data();
                while pidfile::is_server(postmaster.pid, &data) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Stops the server: open sessions are cut, what is committed is kept.
    pub(super) async fn stop(mut self, cluster: &Cluster) -> Result<(), EmbeddedError> {
        let steps = [
            (Signal::INT, FAST_STOP_LIMIT),
            (Signal::QUIT, IMMEDIATE_STOP_LIMIT),
            (Signal::KILL, IMMEDIATE_STOP_LIMIT),
        ];
        let data = cluster.data();
        for (signal, limit) in steps {
            self.postmaster()
                .signal(&data, signal)
                .map_err(io_error("signal the server of", &data))?;
            if tokio::time::timeout(limit, self.ended(cluster))
                .await
                .is_ok()
            {
                if let Some(dir) = &self.postmaster().socket_dir {
                    cluster.remove_socket_dir(dir);
                }
                return Ok(());
            }
        }
        Err(EmbeddedError::TimedOut {
            what: "the end of the server",
            dir: cluster.dir().to_owned(),
            waited: FAST_STOP_LIMIT + 2 * IMMEDIATE_STOP_LIMIT,
        })
    }

    fn postmaster(&self) -> &Postmaster {
        match self {
            Self::Child { postmaster, .. } | Self::Adopted(postmaster) => postmaster,
        }
    }
}

/// Finds the server that a killed supervisor left behind, and waits for it to be ready or gone.
/// Removes the `postmaster.pid` of one that is dead, which could keep a new one from starting.
fn adopt(cluster: &Cluster) -> Result<Option<Postmaster>, EmbeddedError> {
    let data = cluster.data();
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        match pidfile::read(&data).map_err(io_error("read postmaster.pid in", &data))? {
            PidFile::Absent => return Ok(None),
            PidFile::Alive(postmaster) if postmaster.status == Status::Ready => {
                return Ok(Some(postmaster));
            }
            PidFile::Alive(_) if Instant::now() < deadline => std::thread::sleep(POLL),
            PidFile::Alive(_) => {
                return Err(EmbeddedError::TimedOut {
                    what: "the server that runs in the data directory",
                    dir: cluster.dir().to_owned(),
                    waited: READY_LIMIT,
                });
            }
            PidFile::Stale { socket_dir } => {
                // Only PostgreSQL itself writes this file, and its folder is private, so the
                // directory named in it is the dead server's.
                if let Some(dir) = socket_dir {
                    cluster.remove_socket_dir(&dir);
                }
                remove_if_there(&data.join("postmaster.pid"))?;
                return Ok(None);
            }
        }
    }
}

/// Runs `initdb` into a folder of its own and renames it to `data`: killed at any point, it leaves
/// nothing half made. A leftover is removed by the next run; an `initdb` that outlived its
/// supervisor then fails, and only in its own folder.
fn create_data(cluster: &Cluster, settings: &ServerSettings) -> Result<(), EmbeddedError> {
    let dir = cluster.dir();
    for entry in std::fs::read_dir(dir)
        .map_err(io_error("list", dir))?
        .filter_map(Result::ok)
    {
        if entry.file_name().to_string_lossy().starts_with("data.new-") {
            let removed = std::fs::remove_dir_all(entry.path());
            tracing::debug!(path = %entry.path().display(), ?removed, "leftover of an initdb");
        }
    }
    let new = dir.join(format!("data.new-{}", random_hex::<8>()?));
    let password = zeroize::Zeroizing::new(random_hex::<24>()?);
    let password_file = cluster.set_password(&password)?;
    let run = |locale: &str| {
        let mut initdb = command(cluster, settings, "initdb");
        initdb
            .arg("-D")
            .arg(&new)
            .args(["-U", super::SUPERUSER, "-E", "UTF8", "--data-checksums"])
            .args(["-A", "scram-sha-256"])
            .arg(format!("--locale={locale}"))
            .arg(format!("--pwfile={}", password_file.display()));
        if !settings.durable {
            initdb.arg("--no-sync");
        }
        let program = settings.bin_dir.join("initdb");
        initdb
            .stdin(Stdio::null())
            .output()
            .map_err(io_error("run", program))
    };
    let mut output = run("C.UTF-8")?;
    // Systems without C.UTF-8 (older macOS, some RPM ones): C sorts the same.
    if !output.status.success()
        && String::from_utf8_lossy(&output.stderr).contains("invalid locale")
    {
        output = run("C")?;
    }
    if !output.status.success() {
        return Err(EmbeddedError::StartFailed {
            dir: dir.to_owned(),
            problem: format!(
                "initdb failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        });
    }
    // The password is on disk before the data that need it.
    std::fs::rename(&new, cluster.data()).map_err(io_error("rename to `data`", &new))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("write to disk", dir))
}

/// Starts `postgres` and waits until it is ready, again and again while a dead server's remains
/// are in the way.
fn start(cluster: &Cluster, settings: &ServerSettings) -> Result<Server, EmbeddedError> {
    let socket_dir = cluster.make_socket_dir()?;
    let retry_until = Instant::now() + REMAINS_LIMIT;
    loop {
        let mut log = cluster.server_log()?;
        let log_start = log
            .seek(SeekFrom::End(0))
            .map_err(io_error("read", cluster.dir()))?;
        let mut child = postgres(cluster, settings, &socket_dir, &log)?;
        let status = match wait_until_ready(cluster, &mut child) {
            Ok(Ok(postmaster)) => return Ok(Server::Child { child, postmaster }),
            Ok(Err(status)) => status,
            Err(error) => {
                cluster.remove_socket_dir(&socket_dir);
                return Err(error);
            }
        };
        let words = words_since(&mut log, log_start);
        let remains = REMAINS_WORDS.iter().any(|phrase| words.contains(phrase));
        if remains && Instant::now() < retry_until {
            std::thread::sleep(20 * POLL);
            // A crash's file may have become stale only now, when its zombie was collected.
            if adopt(cluster)?.is_none() {
                continue;
            }
        }
        cluster.remove_socket_dir(&socket_dir);
        return Err(EmbeddedError::StartFailed {
            dir: cluster.dir().to_owned(),
            problem: format!("postgres ended ({status}): {}", words.trim()),
        });
    }
}

/// Spawns `postgres` itself rather than `pg_ctl`, so that its end is ours to see.
fn postgres(
    cluster: &Cluster,
    settings: &ServerSettings,
    socket_dir: &Path,
    log: &File,
) -> Result<tokio::process::Child, EmbeddedError> {
    let program = settings.bin_dir.join("postgres");
    let data = cluster.data();
    let socket_dirs = quoted(socket_dir).ok_or_else(|| EmbeddedError::StartFailed {
        dir: cluster.dir().to_owned(),
        problem: "its path is not UTF-8, or contains a line break".into(),
    })?;
    let mut command = command(cluster, settings, "postgres");
    command.arg("-D").arg(&data);
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("listen_addresses", "");
    set("unix_socket_directories", &socket_dirs);
    set("unix_socket_permissions", "0700");
    set("port", &PORT.to_string());
    set("max_connections", &settings.max_connections.to_string());
    set("logging_collector", "off");
    set("log_destination", "stderr");
    if !settings.durable {
        // Not synchronous_commit: with fsync off it costs little, and a killed server keeps all.
        set("fsync", "off");
        set("full_page_writes", "off");
    }
    for (name, value) in &settings.extra {
        set(name, value);
    }
    let stderr = log.try_clone().map_err(io_error("open", cluster.dir()))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    tokio::process::Command::from(command)
        .spawn()
        .map_err(io_error("run", program))
}

/// A program of the installation, as the server's account, in an environment of its own: with
/// root's HOME, libpq inside the server fails on `~root/.postgresql`; `PG*` would redirect it.
fn command(cluster: &Cluster, settings: &ServerSettings, program: &str) -> Command {
    let mut command = Command::new(settings.bin_dir.join(program));
    command
        .env_clear()
        .env("HOME", cluster.dir())
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C") // for initdb's messages; the cluster's locale is set by an option
        .env("TZ", "UTC")
        .current_dir("/");
    if let Some(account) = cluster.account() {
        // std clears the supplementary groups when it changes the uid as root.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// The outer error: cannot tell. The inner one: it ended instead.
fn wait_until_ready(
    cluster: &Cluster,
    child: &mut tokio::process::Child,
) -> Result<Result<Postmaster, ExitStatus>, EmbeddedError> {
    let data = cluster.data();
    let deadline = Instant::now() + READY_LIMIT;
    let own_pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    while Instant::now() < deadline {
        if let Some(status) = child
            .try_wait()
            .map_err(io_error("wait for the server of", &data))?
        {
            return Ok(Err(status));
        }
        match pidfile::read(&data).map_err(io_error("read postmaster.pid in", &data))? {
            PidFile::Alive(postmaster)
                if Some(postmaster.pid) == own_pid && postmaster.status == Status::Ready =>
            {
                return Ok(Ok(postmaster));
            }
            _ => std::thread::sleep(POLL),
        }
    }
    let killed = child.start_kill();
    tracing::debug!(?killed, "a server that did not get ready");
    Err(EmbeddedError::TimedOut {
        what: "readiness of the server",
        dir: cluster.dir().to_owned(),
        waited: READY_LIMIT,
    })
}

/// Quotes a path for a list setting: bare commas and spaces would end it.
fn quoted(path: &Path) -> Option<String> {
    let path = path.to_str().filter(|path| !path.contains(['\n', '\r']))?;
    Some(format!("\"{}\"", path.replace('"', "\"\"")))
}

/// The log from a position on, its last 4,000 bytes.
fn words_since(log: &mut File, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = log
        .seek(SeekFrom::Start(start))
        .and_then(|_| log.read_to_end(&mut bytes));
    tracing::debug!(?read, "log of a failed start");
    let from = bytes.len().saturating_sub(4_000);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
