//! `postmaster.pid`, the file that PostgreSQL keeps in its data directory while it runs: reading
//! it, and telling whether the process that it names is still that server.
//!
//! Lines (`src/include/utils/pidfile.h`): 1 pid, 2 data directory, 3 start time, 4 port,
//! 5 first socket directory, 6 listen address, 7 shared memory key, 8 status.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

/// A server process found through `postmaster.pid`, alive when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    /// Where its socket is; absent until the server has got that far.
    pub(super) socket_dir: Option<PathBuf>,
    pub(super) port: u16,
    pub(super) status: Status,
}

/// Line 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    Stopping,
    /// Starting, in recovery, or not said yet.
    Starting,
}

/// What `postmaster.pid` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PidFile {
    /// There is none: nothing runs and the last server ended in order.
    Absent,
    /// It names a process that is this server.
    Alive(Postmaster),
    /// Left by a crash: empty, garbage, or naming a process that is gone, a zombie or something
    /// else. PostgreSQL mends some of these by itself and refuses to start at the others.
    Stale {
        /// Socket directory of the crashed server, where the file still tells it.
        socket_dir: Option<PathBuf>,
    },
}

/// Reads `postmaster.pid` of a data directory (canonical path).
pub(super) fn read(data: &Path) -> io::Result<PidFile> {
    let text = match std::fs::read(data.join("postmaster.pid")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PidFile::Absent),
        Err(error) => return Err(error),
    };
    let socket_dir = text
        .lines()
        .nth(4)
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from);
    Ok(match parse(&text) {
        Some(postmaster) if is_server(postmaster.pid, data) => PidFile::Alive(postmaster),
        _ => PidFile::Stale { socket_dir },
    })
}

fn parse(text: &str) -> Option<Postmaster> {
    let mut lines = text.lines().map(str::trim_end);
    let pid = lines
        .next()?
        .trim()
        .parse::<i32>()
        .ok()
        .filter(|pid| *pid > 1)?;
    let port = lines.nth(2).and_then(|line| line.parse().ok()).unwrap_or(0);
    let socket_dir = lines
        .next()
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from);
    let status = match lines.nth(2) {
        Some("ready") => Status::Ready,
        Some("stopping") => Status::Stopping,
        _ => Status::Starting,
    };
    Some(Postmaster {
        pid: Pid::from_raw(pid)?,
        socket_dir,
        port,
        status,
    })
}

/// Whether the process is alive and works in this data directory, as every server does.
///
/// Where there is no `/proc` the answer rests on the process's existence alone, and PostgreSQL's
/// own check decides at the start.
pub(super) fn is_server(pid: Pid, data: &Path) -> bool {
    if !Path::new("/proc/self/stat").exists() {
        return rustix::process::test_kill_process(pid).is_ok();
    }
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // A zombie has no working directory any more, so the link cannot be read. Of another user's
    // process it cannot be read either, and such a process is not a server of ours.
    std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
}

impl Postmaster {
    /// Sends a signal, unless the pid is no longer this server's.
    pub(super) fn signal(&self, data: &Path, signal: Signal) -> io::Result<()> {
        if !is_server(self.pid, data) {
            return Ok(());
        }
        match rustix::process::kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> PidFile {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("postmaster.pid"), text).unwrap();
        read(data.path()).unwrap()
    }

    #[test]
    fn the_file_of_a_running_server_is_understood() {
        let text = "4242\n/d/data\n1700000000\n5432\n/d/socket dir\n\n  123 456\nready   \n";
        let postmaster = parse(text).unwrap();
        assert_eq!(postmaster.pid, Pid::from_raw(4242).unwrap());
        assert_eq!(postmaster.socket_dir, Some(PathBuf::from("/d/socket dir")));
        assert_eq!((postmaster.port, postmaster.status), (5432, Status::Ready));
        let early = parse("4242\n/d/data\n1700000000\n5432\n").unwrap();
        assert_eq!((early.socket_dir, early.status), (None, Status::Starting));
        assert_eq!(
            parse(&text.replace("ready", "stopping")).unwrap().status,
            Status::Stopping
        );
    }

    #[test]
    fn broken_and_foreign_files_are_stale() {
        for text in [
            "",
            "\n",
            "garbage\n",
            "-5\n",
            "0\n",
            "1\n",
            "99999999999\n",
            "2147483000\n",
        ] {
            assert_eq!(
                written(text),
                PidFile::Stale { socket_dir: None },
                "{text:?}"
            );
        }
        let own_pid = std::process::id();
        assert_eq!(
            written(&format!(
                "{own_pid}\n/d\n1\n5432\n/tmp/ledger-x\n\n1 2\nready\n"
            )),
            PidFile::Stale {
                socket_dir: Some("/tmp/ledger-x".into())
            },
            "this process lives, and it is no server"
        );
    }

    #[test]
    fn an_absent_file_is_not_a_stale_one() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(read(data.path()).unwrap(), PidFile::Absent);
    }
}
