//! What a command does to get a server: wait for locks, look, have a supervisor spawned, connect.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _};
use zeroize::Zeroizing;

use super::cluster::Cluster;
use super::error::{EmbeddedError, io_error};
use super::pidfile::{self, PidFile, Status};
use super::supervise::{self, Request, SupervisorCommand};
use super::{SUPERUSER, connect_options};

/// How often locks and files are looked at while waiting.
const POLL: Duration = Duration::from_millis(15);
/// Another command's start may include `initdb` and a long recovery.
pub(super) const START_LIMIT: Duration = Duration::from_mins(6);
/// A ready server that answers no connection for so long will not.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// So many supervisors may lose the race for their lock, or be killed, before we give up.
const SPAWNS_MAX: u32 = 5;

/// Takes a lock by trying again and again: a blocking wait could not be given up.
pub(super) async fn until_locked(
    what: &'static str,
    dir: &Path,
    limit: Duration,
    mut try_lock: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), EmbeddedError> {
    let began = Instant::now();
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < limit => {
                tokio::time::sleep(POLL).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::TimedOut {
                    what,
                    dir: dir.to_owned(),
                    waited: limit,
                });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", dir)(error)),
        }
    }
}

/// Until a supervised server answers: spawns supervisors as needed. The caller holds `users.lock`
/// shared and `start.lock`. Where the server is and the superuser's password.
pub(super) async fn until_connected(
    cluster: &Cluster,
    request: &Request,
    supervisor: &SupervisorCommand,
) -> Result<(PathBuf, Zeroizing<String>), EmbeddedError> {
    let dir = cluster.dir();
    let data = cluster.data();
    let supervisor_lock = cluster.supervisor_lock()?;
    let mut spawned: Option<Child> = None;
    let mut spawns = 0;
    let mut refused_since: Option<Instant> = None;
    let began = Instant::now();
    while began.elapsed() < START_LIMIT {
        if supervise::is_supervised(&supervisor_lock, dir)? {
            let found = pidfile::read(&data).map_err(io_error("read postmaster.pid in", &data))?;
            if let PidFile::Alive(postmaster) = found
                && postmaster.status == Status::Ready
                && let Some(socket_dir) = postmaster.socket_dir
            {
                if !cluster.owns(&socket_dir) {
                    return Err(EmbeddedError::NotPrivate(socket_dir));
                }
                let password = cluster.password()?;
                match try_connect(&socket_dir, &password).await {
                    Ok(()) => {
                        if let Some(child) = spawned {
                            reap(child);
                        }
                        return Ok((socket_dir, password));
                    }
                    Err(source) => {
                        let since = *refused_since.get_or_insert_with(Instant::now);
                        if is_final(&source) || since.elapsed() > CONNECT_LIMIT {
                            return Err(EmbeddedError::Connect {
                                dir: dir.to_owned(),
                                source,
                            });
                        }
                    }
                }
            }
        } else {
            refused_since = None;
            let ended = match &mut spawned {
                None => None,
                Some(child) => match child
                    .try_wait()
                    .map_err(io_error("await the supervisor of", dir))?
                {
                    // It has not taken its lock yet.
                    None => {
                        tokio::time::sleep(POLL).await;
                        continue;
                    }
                    Some(status) => Some(status),
                },
            };
            if let Some(status) = ended {
                if let Some(problem) = cluster.failure() {
                    return Err(EmbeddedError::StartFailed {
                        dir: dir.to_owned(),
                        problem,
                    });
                }
                if !status.success() || spawns == SPAWNS_MAX {
                    return Err(EmbeddedError::SupervisorEnded { status });
                }
            }
            // Nobody watches: none ever did, or the one that did was killed, or ours found another
            // at work that has ended since.
            cluster.clear_failure()?;
            spawned = Some(supervisor.spawn(request)?);
            spawns += 1;
        }
        tokio::time::sleep(POLL).await;
    }
    Err(EmbeddedError::TimedOut {
        what: "readiness of the server",
        dir: dir.to_owned(),
        waited: START_LIMIT,
    })
}

/// Collects the supervisor's exit status when it ends before us, so that it leaves no zombie.
pub(super) fn reap(mut supervisor: Child) {
    std::thread::spawn(move || supervisor.wait());
}

async fn try_connect(socket_dir: &Path, password: &str) -> Result<(), sqlx::Error> {
    let options = connect_options(socket_dir, SUPERUSER, password, "postgres");
    let connection = tokio::time::timeout(CONNECT_LIMIT, options.connect())
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
    connection.close().await
}

/// Wrong password (28P01), or no such role or rule (28000): waiting changes nothing.
fn is_final(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("28"))
}
