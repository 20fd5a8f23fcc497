//! The clients through which calendars and their sources are read.

use std::sync::Arc;

use crate::clients::convex::ConvexReader;
use crate::clients::google::Google;
use crate::clients::http::{HttpSetupError, ReadTransport};
use crate::clients::retry::{RateLimiter, RetryPolicy, SystemTiming, Timing};
use crate::clients::supabase::SupabaseReader;
use crate::config::WorkerConfig;
use crate::engine::RunOptions;

/// Everything a run reads from. It can send nothing but reads, token requests and requests for an export of v2.
#[derive(Clone)]
pub struct Reader {
    /// v1's database.
    pub supabase: SupabaseReader,
    /// v1's users' calendars.
    pub google: Google,
    /// v2's deployments that are read live.
    pub v2: Vec<ConvexReader>,
    /// What v1's tokens are opened with, and where everything is.
    pub config: Arc<WorkerConfig>,
    /// Requests per minute, over all calendars.
    pub limiter: Arc<RateLimiter>,
    /// Sleeping and jitter.
    pub timing: Arc<dyn Timing>,
    /// The same services with fewer tries, for the first contact: an address that is wrong is not mended by waiting.
    pub(super) preflight: Preflight,
}

#[derive(Clone)]
pub(super) struct Preflight {
    pub(super) supabase: SupabaseReader,
    pub(super) google: Google,
}

/// Tries at the first contact with a service.
const PREFLIGHT_TRIES: u32 = 3;

impl Reader {
    /// Opens the clients of a run.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn open(config: WorkerConfig, options: &RunOptions) -> Result<Self, HttpSetupError> {
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
        let deployments = config.convex.iter();
        let v2 = deployments.map(|deployment| {
            ConvexReader::new(deployment, transport.clone(), options.retry, timing.clone())
        });
        Ok(Self {
            supabase,
            google,
            v2: v2.collect(),
            config: Arc::new(config),
            limiter,
            timing,
            preflight,
        })
    }
}
