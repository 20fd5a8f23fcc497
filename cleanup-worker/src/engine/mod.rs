//! The engine: seals what an executor found as a plan, and executes the approved one. It knows no kind of item.
//!
//! The way through it: [`dry_run`] records an inventory, judges it and seals it. [`live`] opens a run of an approved plan, with a command
//! for each place; this process and any that [`join`] take commands (`work.rs`), each under a [`lease`] of its own, and bring each
//! place (`place.rs`) to its end item by item (`step.rs`: intent, effect, outcome, and what became of an intent that a crash left
//! open), looking before and afterwards (`observe.rs`). [`restore`] undoes it, and [`observe_run`] looks at it once more, whenever and by
//! whom.

pub mod canary;
mod channels;
pub mod dry_run;
pub mod join;
pub mod lease;
pub mod limits;
pub mod live;
mod observe;
pub mod observe_run;
pub mod pace;
mod patience;
pub(crate) mod permission;
mod place;
pub mod restore;
pub mod runlog;
mod step;
mod work;

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger::domain::id::{Actor, RunId};
use ledger::projections::approve::ApproveError;
use ledger::store::commands::CommandError;
use ledger::store::identity::IdentityError;
use ledger::store::lease::LeaseError;
use ledger::store::read::ReadError;
use ledger::store::{AppendError, Store};

use crate::clients::http::HttpLimits;
use crate::clients::retry::{RateLimits, RetryPolicy};
use crate::executors::ExecutorError;
use lease::LeaseTimes;

/// An outside clock may differ from ours by so much; beyond it no time gate can be trusted.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);

/// Why a run could not be made or was stopped. What concerns one user only is an entry, never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The executor: its sources cannot be read, or its set-up is wrong.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// An entry could not be written; what it would have said was not done.
    #[error("record in the ledger")]
    Append(#[from] AppendError),
    /// A subject or key could not be had.
    #[error("find the subject of an item")]
    Identity(#[from] IdentityError),
    /// The ledger could not be read.
    #[error("read the ledger")]
    Read(#[from] ReadError),
    /// The run's log file; nothing was begun.
    #[error("open the run's log file")]
    Log(#[source] std::io::Error),
    /// A lease.
    #[error("hold the lease on the work")]
    Lease(#[from] LeaseError),
    /// The commands that workers share.
    #[error("share the run with its workers")]
    Command(#[from] CommandError),
    /// Who acts may not.
    #[error(transparent)]
    Person(#[from] ApproveError),
    /// A rule forbids it; the text says which and what to do.
    #[error("{0}")]
    Refused(String),
    /// Our clock and an outside service's differ too much.
    #[error("this machine's clock differs from {service}'s by {} s", skew.as_secs())]
    Clock {
        /// Which service.
        service: &'static str,
        /// By how much.
        skew: Duration,
    },
    /// A part of the program failed; nothing is known to be wrong outside.
    #[error("{0}")]
    Internal(String),
}

/// What a run is told, beside its plan.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Users start this far apart.
    pub user_interval: Duration,
    /// Users worked on at the same time.
    pub users_at_once: usize,
    /// Requests per minute.
    pub rate_limits: RateLimits,
    /// Waits where an error can pass.
    pub retry: RetryPolicy,
    /// Limits of each request that reads.
    pub http: HttpLimits,
    /// The lease on a plan.
    pub lease: LeaseTimes,
    /// When v2 went live.
    pub go_live: Option<DateTime<Utc>>,
    /// When v1 was frozen; go-live where it is not given.
    pub freeze: Option<DateTime<Utc>>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            user_interval: Duration::from_secs(1),
            users_at_once: 8,
            rate_limits: RateLimits::default(),
            retry: RetryPolicy::default(),
            http: HttpLimits::default(),
            lease: LeaseTimes::default(),
            go_live: None,
            freeze: None,
        }
    }
}

/// The ledger that a run writes to, and as whom.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The ledger.
    pub store: Store,
    /// Who runs it.
    pub actor: Actor,
    /// The run; resuming keeps it.
    pub run: RunId,
}

/// How far a run is, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Users done.
    pub done: u64,
    /// Users in all.
    pub all: u64,
}

/// The text of an error with its causes, for an entry or a log: none of our errors holds personal data or secrets.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether an entry was refused because somebody else has taken the work over.
fn is_fence_lost(error: &EngineError) -> bool {
    matches!(error, EngineError::Append(AppendError::FenceLost { .. }))
}
