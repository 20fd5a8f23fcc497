//! Ties a program to the process that started it: where that is killed, the kernel kills the program.
//!
//! Without it a program would go on with a deletion after a kill -9 of whoever asked for it, and who takes over would not know. The
//! kernel's promise is made by a process for itself before it becomes the program, so our own binary is started first, with a hidden
//! argument, and replaces itself. Only Linux has that promise; elsewhere the program's own timer (`limit_ms`) has to do.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The hidden first argument.
const TIE_ARGUMENT: &str = "--tied-to";
/// As a shell says that a program could not be started.
const NOT_STARTED: u8 = 127;

/// Becomes the program, if these are the arguments of a process that was started to do so.
pub fn main_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != TIE_ARGUMENT {
        return None;
    }
    let parent = arguments.next()?;
    let program = arguments.next()?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        let tied = set_parent_process_death_signal(Some(Signal::KILL));
        let now = getppid().map(|pid| pid.as_raw_nonzero().to_string());
        // It may have been killed before the promise was made.
        if tied.is_err() || now.as_deref().map(OsStr::new) != Some(parent.as_os_str()) {
            return Some(ExitCode::from(NOT_STARTED));
        }
    }
    #[cfg(not(target_os = "linux"))]
    drop(parent);
    // Comes back only where it could not be done. Nobody reads more than the status.
    drop(Command::new(program).args(arguments).exec());
    Some(ExitCode::from(NOT_STARTED))
}

/// The command line that runs these words tied to this process, by way of our own binary.
pub(super) fn tied(own: &Path, words: &[String]) -> Vec<OsString> {
    let mut line = vec![own.as_os_str().to_owned(), TIE_ARGUMENT.into()];
    line.push(std::process::id().to_string().into());
    line.extend(words.iter().map(OsString::from));
    line
}
