//! What can go wrong with a program, and what each means for one request or for a whole run.

use std::io;
use std::time::Duration;

use crate::clients::{Effect, ErrorClass};
use crate::engine::{EngineError, with_causes};
use crate::executors::{ExecutorError, ItemError, Unreachable};

/// The program did not answer a request, or not with an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// It could not be started.
    #[error("start the program {program}")]
    Start {
        /// Its first word.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended.
    #[error("the program ended ({status}) before it answered {verb}")]
    Ended {
        /// What was asked.
        verb: &'static str,
        /// How it ended.
        status: String,
    },
    /// It took too long, and was killed.
    #[error("the program did not answer {verb} within {} ms and was killed", limit.as_millis())]
    Late {
        /// What was asked.
        verb: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// A line was too long to be read.
    #[error(
        "the program answered {verb} with a line of more than {} bytes",
        super::LINE_MAX
    )]
    Long {
        /// What was asked.
        verb: &'static str,
    },
    /// Its output could not be read.
    #[error("read the program's answer to {verb}")]
    Pipe {
        /// What was asked.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A request could not be written as JSON.
    #[error("write {verb} as JSON")]
    Request {
        /// What was asked.
        verb: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It answered something else.
    #[error("the program answered {verb} with {how}; expected {expected}")]
    Answer {
        /// What was asked.
        verb: &'static str,
        /// What is wrong with it, without repeating it.
        how: String,
        /// How it has to look.
        expected: &'static str,
    },
    /// It answered another request.
    #[error("the program answered request {answered} where {verb}, request {asked}, was asked")]
    Order {
        /// What was asked.
        verb: &'static str,
        /// Its number.
        asked: u64,
        /// Whose answer came.
        answered: u64,
    },
    /// What it says about itself cannot be used.
    #[error("the program declares {0}")]
    Declared(String),
    /// What it says about itself is not what it said before.
    #[error("the program declares something else than before")]
    Changed,
    /// It refused to say what it is.
    #[error("the program refused hello: {0}")]
    Refused(String),
}

impl Trouble {
    /// As an error about one request. `effect`: whether the request may have changed something; a request that was never sent has not.
    pub(super) fn into_error(self, attempt: u32, effect: Effect) -> ItemError {
        let (class, may_pass) = match &self {
            Self::Late { .. } => (ErrorClass::Network, false),
            Self::Ended { .. } | Self::Pipe { .. } => (ErrorClass::Server, true),
            Self::Long { .. } | Self::Answer { .. } | Self::Order { .. } => {
                (ErrorClass::Server, false)
            }
            Self::Start { .. }
            | Self::Request { .. }
            | Self::Declared(_)
            | Self::Changed
            | Self::Refused(_) => (ErrorClass::Refused, false),
        };
        ItemError {
            class,
            status: None,
            attempt,
            date: None,
            retry_after: None,
            effect,
            may_pass,
            stops_user: false,
            stops_run: false,
            reason: with_causes(&self),
        }
    }
}

impl From<Trouble> for Unreachable {
    fn from(trouble: Trouble) -> Self {
        let error = trouble.into_error(1, Effect::None);
        Self {
            code: "failed".into(),
            class: error.class,
            status: None,
            attempt: 1,
            date: None,
            stops_run: false,
            reason: format!("{}: mend the program and run it again", error.reason),
        }
    }
}

/// What concerns a whole run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The command line of a program.
    #[error("read the command line {which}: {what}")]
    Words {
        /// `--exec` or `--count-command`.
        which: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The program did not do what it was asked.
    #[error("ask the program")]
    Program(#[from] Trouble),
    /// It says that it could not make the inventory.
    #[error("make the inventory")]
    Inventory(#[source] ItemError),
    /// What it sent does not fit together.
    #[error("make the inventory: the program sent {0}")]
    Sent(String),
    /// The independent count.
    #[error("count the items with --count-command: {0}")]
    Count(String),
}

impl CommandError {
    fn hint(&self) -> &'static str {
        match self {
            Self::Words { .. } => {
                "words are separated by blanks and grouped by quotes; for more, say sh -c '…'"
            }
            Self::Program(Trouble::Start { .. }) => {
                "check the path and that it may be executed; nothing was deleted"
            }
            Self::Count(_) => "it has to print one whole number and end with status 0",
            _ => {
                "docs/executor-protocol.md says what is expected, -vv shows what the program says; nothing was \
                 deleted"
            }
        }
    }
}

impl From<CommandError> for EngineError {
    fn from(error: CommandError) -> Self {
        let hint = error.hint();
        let usage = matches!(error, CommandError::Words { .. });
        let error = if usage {
            ExecutorError::usage(error)
        } else {
            ExecutorError::environment(error)
        };
        Self::Executor(error.hint(hint))
    }
}

impl From<Trouble> for EngineError {
    fn from(trouble: Trouble) -> Self {
        CommandError::Program(trouble).into()
    }
}
