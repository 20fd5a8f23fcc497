//! What can go wrong in an executor, as the engine sees it: no kind of item has errors of its own there.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clients::retry::Retryable;
use crate::clients::{Effect, ErrorClass};

/// One request about one item or place that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ItemError {
    /// Class, as entries name it.
    pub class: ErrorClass,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Which try this was, from 1.
    pub attempt: u32,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
    /// How long the service asked to wait.
    pub retry_after: Option<Duration>,
    /// Whether it may have changed something.
    pub effect: Effect,
    /// Whether the same request can succeed later.
    pub may_pass: bool,
    /// Nothing more can be done for this user for now: no right, no quota.
    pub stops_user: bool,
    /// Nothing more can be done for any user: what fails is common to all.
    pub stops_run: bool,
    /// What happened, with its causes, without personal data.
    pub reason: String,
}

impl Retryable for ItemError {
    fn may_pass(&self) -> bool {
        self.may_pass
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Why a user or a place could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// One word, as it stands in entries.
    pub code: Cow<'static, str>,
    /// Class of the error.
    pub class: ErrorClass,
    /// HTTP status.
    pub status: Option<u16>,
    /// How often it was tried; 0 where there was nothing to try with.
    pub attempt: u32,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
    /// No place can be reached: what fails is common to all.
    pub stops_run: bool,
    /// In words, with what the operator can do.
    pub reason: String,
}

/// A fault of a whole executor: its sources cannot be read, its set-up is wrong.
#[derive(Debug)]
pub struct ExecutorError {
    /// What happened; this error says the same and stands for it.
    what: Box<dyn Error + Send + Sync>,
    /// Whether the command line is wrong rather than the environment.
    pub usage: bool,
    /// What to do next.
    pub hint: Option<&'static str>,
}

impl ExecutorError {
    /// The environment prevents it.
    pub fn environment(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            what: Box::new(source),
            usage: false,
            hint: None,
        }
    }

    /// What was asked for cannot be done so.
    pub fn usage(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            usage: true,
            ..Self::environment(source)
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl Error for ExecutorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.what.source()
    }
}
