//! The engine: finds the items of a retired system, seals a plan, and executes the approved one.
//!
//! The way through it: [`sources`] reads v1 and v2, [`accounts`] lists each user's calendar, [`dry_run`] judges what was
//! found and seals it as a plan; [`live`] executes an approved plan under its [`lease`], item by item (`step.rs`: intent,
//! effect, outcome, and what became of an intent that a crash left open), and looks again afterwards (`observe.rs`).

pub mod accounts;
pub mod dry_run;
pub mod lease;
pub mod live;
mod observe;
pub mod runlog;
pub mod sources;
mod step;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger::domain::id::{Actor, RunId};
use ledger::store::identity::IdentityError;
use ledger::store::lease::LeaseError;
use ledger::store::read::ReadError;
use ledger::store::{AppendError, Store};

use crate::clients::convex::ExportError;
use crate::clients::google::{Google, GoogleError, TokenError};
use crate::clients::http::{HttpLimits, HttpSetupError, ReadTransport};
use crate::clients::retry::{RateLimiter, RateLimits, RetryPolicy, SystemTiming, Timing};
use crate::clients::supabase::{SupabaseError, SupabaseReader};
use crate::config::WorkerConfig;
use lease::LeaseTimes;

/// The OAuth and Supabase clocks may differ from ours by so much; beyond it no time gate can be trusted.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);

/// Why a run could not be made or was stopped. What concerns one user only is an entry, never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// v1 could not be read whole.
    #[error("read v1's users and cases from Supabase")]
    Supabase(#[from] SupabaseError),
    /// v1's OAuth client is wrong, so no user can be reached.
    #[error("ask Google for a token as v1's OAuth client")]
    Client(#[source] TokenError),
    /// Calendar access failed in a way that is not one user's.
    #[error("read a calendar")]
    Google(#[source] GoogleError),
    /// v2's export could not be read.
    #[error("read v2's export")]
    Export(#[from] ExportError),
    /// No stored token opens with the key: it is another project's key.
    #[error("open v1's stored tokens: ENCRYPTION_KEY opens none of {0}")]
    EncryptionKey(usize),
    /// The HTTP client could not be made.
    #[error("set up the HTTP client")]
    Http(#[from] HttpSetupError),
    /// An entry could not be written; what it would have said was not done.
    #[error("record in the ledger")]
    Append(#[from] AppendError),
    /// A subject or key could not be had.
    #[error("find the subject of an item")]
    Identity(#[from] IdentityError),
    /// The ledger could not be read.
    #[error("read the ledger")]
    Read(#[from] ReadError),
    /// The lease on the plan.
    #[error("hold the lease on the plan")]
    Lease(#[from] LeaseError),
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

/// Everything a run reads from. It can send nothing but reads and token requests.
#[derive(Clone)]
pub struct Reader {
    /// v1's database.
    pub supabase: SupabaseReader,
    /// v1's users' calendars.
    pub google: Google,
    /// What v1's tokens are opened with, and where everything is.
    pub config: Arc<WorkerConfig>,
    /// Sleeping and jitter.
    pub timing: Arc<dyn Timing>,
    /// The same services with fewer tries, for the first contact: an address that is wrong is not mended by waiting.
    preflight: Preflight,
}

#[derive(Clone)]
struct Preflight {
    supabase: SupabaseReader,
    google: Google,
}

/// Tries at the first contact with a service.
const PREFLIGHT_TRIES: u32 = 3;

impl Reader {
    /// Opens the clients of a run.
    pub fn open(config: WorkerConfig, options: &RunOptions) -> Result<Self, EngineError> {
        let transport = ReadTransport::open(&config, options.http)?;
        let timing: Arc<dyn Timing> = SystemTiming::start();
        let limiter = RateLimiter::new(options.rate_limits, timing.clone());
        let clients = |policy: RetryPolicy| Preflight {
            supabase: SupabaseReader::new(&config, transport.clone(), policy, timing.clone()),
            google: Google::new(
                &config,
                transport.clone(),
                limiter.clone(),
                policy,
                timing.clone(),
            ),
        };
        let Preflight { supabase, google } = clients(options.retry);
        let preflight = clients(RetryPolicy {
            tries: options.retry.tries.min(PREFLIGHT_TRIES),
            ..options.retry
        });
        Ok(Self {
            supabase,
            google,
            config: Arc::new(config),
            timing,
            preflight,
        })
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

/// Refuses where two clocks differ too much for a time gate.
pub fn check_clock(
    service: &'static str,
    remote: Option<DateTime<Utc>>,
    ours: DateTime<Utc>,
) -> Result<(), EngineError> {
    let Some(remote) = remote else { return Ok(()) };
    let skew = (remote - ours).abs().to_std().unwrap_or(Duration::MAX);
    if skew > CLOCK_SKEW_MAX {
        Err(EngineError::Clock { service, skew })
    } else {
        Ok(())
    }
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
