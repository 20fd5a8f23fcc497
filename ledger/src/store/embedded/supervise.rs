//! The supervisor: the parent of `postgres`, a process of our own program.
//!
//! Commands come and go, and share one server; none of them can be its parent, since it must
//! outlive the first and end with the last, however that one ends. So the command that needs a
//! server spawns this one, and every command holds `users.lock` shared for its life. The
//! supervisor starts the server and then waits for the same lock *exclusively*: the kernel grants
//! it the moment nobody uses the server any more, also after a `kill -9`.
//!
//! A command's order is: `users.lock` shared, then `start.lock`, then look. The supervisor's is:
//! `supervisor.lock`, server, `users.lock` exclusive, stop, release `supervisor.lock`, release
//! `users.lock`. What follows from it:
//!
//! | what happens | what is left | who mends it |
//! | --- | --- | --- |
//! | starter killed before the spawn | nothing; its locks are free | - |
//! | starter killed after the spawn | a supervisor that gets a server ready, is granted `users.lock` and stops it | itself |
//! | the same, and another command waits | that command holds `users.lock`, finds `supervisor.lock` taken and waits for readiness | - |
//! | ... before it took `supervisor.lock` | two supervisors; `supervisor.lock` decides, the other leaves | - |
//! | command arrives during the stop | it waits for `users.lock`; then the server and `supervisor.lock` are gone, and it starts anew | - |
//! | supervisor killed during initdb | `data.new-*`, perhaps an initdb in it | the next start |
//! | supervisor killed later | a server without one; its users go on | the next command, or the last user's end, spawns a supervisor that adopts it |
//! | `postgres` killed | a supervisor without server | it starts the server again (recovery) |
//! | both killed | stale `postmaster.pid`, perhaps zombies and last backends | the next start, which retries while they are in the way |
//! | machine crashed | stale `postmaster.pid` whose pid may be anybody's | the next start |
//!
//! The terminal's signals do not reach it: it has a process group of its own. SIGTERM and SIGINT
//! sent to it stop the server at once, whoever uses it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::cluster::Cluster;
use super::error::{EmbeddedError, io_error};
use super::server::{Server, ServerSettings};

/// The hidden first argument that makes our program a supervisor.
pub const SUPERVISE_ARGUMENT: &str = "--supervise-postgres";

/// A server that ends sooner after its start than this counts as broken.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many short lives in a row are enough.
const SHORT_LIVES_MAX: u32 = 3;

/// How to run the supervisor: a program that, given these arguments and one more, calls
/// [`supervise`] with that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorCommand {
    /// Program to execute.
    pub program: PathBuf,
    /// Arguments before the request.
    pub arguments: Vec<OsString>,
}

impl SupervisorCommand {
    /// This program with [`SUPERVISE_ARGUMENT`]; its `main` calls [`main_if_asked`] first.
    pub fn this_program() -> Self {
        // After an upgrade in place the path is no more, and /proc still leads to the program.
        let program = std::env::current_exe()
            .ok()
            .filter(|program| program.exists())
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        Self {
            program,
            arguments: vec![SUPERVISE_ARGUMENT.into()],
        }
    }

    /// Spawns the supervisor, detached from the terminal and from every pipe of ours, so that who
    /// reads our output sees its end when we end.
    pub(super) fn spawn(&self, request: &Request) -> Result<Child, EmbeddedError> {
        let failed = |source| EmbeddedError::SupervisorSpawn {
            program: self.program.clone(),
            source,
        };
        let request = serde_json::to_string(request).map_err(|error| failed(error.into()))?;
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(request)
            // It may live for days, and needs none of the secrets that a command is given.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)
    }
}

/// The supervisor's argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The cluster's folder, prepared by the starter.
    pub(super) dir: PathBuf,
    pub(super) server: ServerSettings,
}

/// Runs the supervisor where the program was started as one: to be called before anything else in
/// `main`, with all arguments, the program's name included.
pub fn main_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    arguments
        .next()
        .filter(|argument| argument == SUPERVISE_ARGUMENT)?;
    Some(supervise(&arguments.next().unwrap_or_default()))
}

/// Gets a server ready, waits until nobody uses it, stops it. Blocks until then.
///
/// `request` is what the starter appended to the arguments of its [`SupervisorCommand`]. What goes
/// wrong is written to `start-failed` in the cluster's folder, where the starter reads it.
pub fn supervise(request: &OsStr) -> ExitCode {
    let Some(request) = request
        .to_str()
        .and_then(|request| serde_json::from_str::<Request>(request).ok())
    else {
        return ExitCode::from(2);
    };
    let Ok(cluster) = Cluster::open(request.dir) else {
        return ExitCode::FAILURE;
    };
    match hold(&cluster, &request.server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = match &error {
                // The starter says the rest of its text again.
                EmbeddedError::StartFailed { problem, .. } => problem.clone(),
                other => chain(other),
            };
            // Nobody is left to tell if this fails too; the starter then reports the exit status.
            let _ = cluster.write_failure(&words);
            ExitCode::FAILURE
        }
    }
}

fn hold(cluster: &Cluster, settings: &ServerSettings) -> Result<(), EmbeddedError> {
    let supervisor_lock = cluster.supervisor_lock()?;
    // Commands that look whether it is held hold it themselves for an instant.
    let mut looks_left = 20;
    loop {
        match supervisor_lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if looks_left == 0 => return Ok(()), // another is at work
            Err(TryLockError::WouldBlock) => {
                looks_left -= 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", cluster.dir())(error)),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error("start a runtime for", cluster.dir()))?;
    let users_lock = runtime.block_on(attend(cluster, settings))?;
    // In this order: who is granted `users.lock` after us finds `supervisor.lock` free.
    drop(supervisor_lock);
    drop(users_lock);
    Ok(())
}

/// Returns when the server has been stopped, with the exclusive `users.lock` if that was the
/// reason.
async fn attend(
    cluster: &Cluster,
    settings: &ServerSettings,
) -> Result<Option<File>, EmbeddedError> {
    // Before the server exists, so that a signal during its start is not lost.
    let mut asked_to_stop =
        StopSignals::listen().map_err(io_error("await signals for", cluster.dir()))?;
    let mut nobody_left = wait_for_last_user(cluster.users_lock()?);
    let mut short_lives = 0;
    loop {
        let mut server = Server::get(cluster, settings)?;
        let ready_at = Instant::now();
        tokio::select! {
            lock = &mut nobody_left => {
                server.stop(cluster).await?;
                return match lock {
                    Ok(lock) => lock.map(Some).map_err(io_error("lock", cluster.dir())),
                    Err(_) => Ok(None), // the waiting thread is gone: it panicked
                };
            }
            () = asked_to_stop.received() => {
                server.stop(cluster).await?;
                return Ok(None);
            }
            () = server.ended(cluster) => {
                short_lives = if ready_at.elapsed() < SHORT_LIFE { short_lives + 1 } else { 0 };
                if short_lives == SHORT_LIVES_MAX {
                    return Err(EmbeddedError::StartFailed {
                        dir: cluster.dir().to_owned(),
                        problem: format!("the server ended {SHORT_LIVES_MAX} times by itself"),
                    });
                }
            }
        }
    }
}

/// Waits for the exclusive lock on a thread of its own: `flock` blocks, and the thread ends with
/// the process if the lock never comes.
fn wait_for_last_user(lock: File) -> tokio::sync::oneshot::Receiver<io::Result<File>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let locked = loop {
            match lock.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // The receiver is gone when the supervisor ends for another reason.
        let _ = sender.send(locked.map(|()| lock));
    });
    receiver
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Listened to so that a closing terminal's SIGHUP does not end the process.
    _hangup: Signal,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whether a supervisor is at work.
pub(super) fn is_supervised(lock: &File, dir: &Path) -> Result<bool, EmbeddedError> {
    match lock.try_lock_shared() {
        Ok(()) => {
            lock.unlock().map_err(io_error("unlock", dir))?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(io_error("lock", dir)(error)),
    }
}

/// An error and its causes, one line each.
fn chain(error: &EmbeddedError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
