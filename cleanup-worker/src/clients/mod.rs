//! The outside services: what is asked of them, and every way they can answer.
//!
//! Invariant: whatever goes out goes through [`http`], which reaches configured addresses only, and whose read type has no
//! method that could change anything. Errors carry what an entry needs (class, status, attempt, the remote `Date`)
//! and never a body, an address or a secret.

pub mod convex;
pub mod google;
pub mod http;
pub mod retry;
pub mod supabase;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The classes of outside errors, as entries name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// No valid grant or key.
    Auth,
    /// Too many requests, or a limit of use reached.
    Quota,
    /// There is no such thing.
    NotFound,
    /// There was, and it is deleted; or a cursor is too old.
    Gone,
    /// The precondition failed, or the id is taken.
    Conflict,
    /// The service failed, or answered what it should not.
    Server,
    /// No answer, or not the whole of it.
    Network,
    /// A stored secret does not open.
    Decrypt,
    /// Not allowed, or not understood: asking again changes nothing.
    Refused,
}

impl ErrorClass {
    /// The name used in entries and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Quota => "quota",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Server => "server",
            Self::Network => "network",
            Self::Decrypt => "decrypt",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a request that failed may have changed something on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changed: it was not sent, or the service said no.
    None,
    /// It may have: the service has to be asked.
    Unknown,
}

/// What every failed call carries, whichever the service.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The call by the service's own name, for example `calendar.events.list`.
    pub operation: &'static str,
    /// The class of the error.
    pub class: ErrorClass,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Which try this was, from 1.
    pub attempt: u32,
    /// The `Date` of the answer: the service's clock.
    pub date: Option<DateTime<Utc>>,
    /// How long the service asked to wait.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} failed at attempt {} ({}",
            self.operation, self.attempt, self.class
        )?;
        match self.status {
            Some(status) => write!(f, ", HTTP {status})"),
            None => f.write_str(")"),
        }
    }
}

/// A machine's word out of an error body (`userRateLimitExceeded`, `42703`), or nothing where it could be anything else.
pub(crate) fn machine_word(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    fits.then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod testing;
