//! Exit statuses, and errors that carry one.

use std::process::ExitCode;

/// What a command's end means, to people and scripts alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: yes, intact, none lost, done.
    Yes,
    /// 1: no, tampered, lost, or a planned item was not done.
    No,
    /// 2: wrong usage.
    Usage,
    /// 3: cannot tell.
    Unknown,
    /// 4: the environment prevented it.
    Environment,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Unknown => 3,
            Exit::Environment => 4,
        })
    }
}

/// Why a command ended early: what was tried and what happened (the chain of causes), and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            hint: None,
        }
    }

    pub(crate) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{message}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The reader of our output went away (`ledger log | head`): not an error.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        })
    }
}

/// Wraps what the environment did: a database away, a file that cannot be written.
pub(crate) fn environment<E: Into<anyhow::Error>>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> Failure {
    let what = what.into();
    move |error| Failure::new(Exit::Environment, error.into().context(what))
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        environment("write to standard output")(error)
    }
}
