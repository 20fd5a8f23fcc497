//! Waiting: backoff where an error can pass, and a pace that stays inside the services' limits.
//!
//! Rules: Google's guide for Calendar errors and quotas (<https://developers.google.com/workspace/calendar/api/guides/quota>): exponential backoff
//! with jitter, sliding one-minute windows per user and per project. Time, sleep and chance come in through [`Timing`], so that tests do not wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

/// Time, sleep and chance.
pub trait Timing: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()>;
    /// A fresh random time below one second.
    fn jitter(&self) -> Duration;
}

/// The real clock and the system's randomness.
#[derive(Debug)]
pub struct SystemTiming(Instant);

impl SystemTiming {
    /// Starts counting now.
    pub fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Timing for SystemTiming {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn jitter(&self) -> Duration {
        // Without randomness all waits are merely alike, which is no reason to fail a call.
        let random = getrandom::u32().unwrap_or(0);
        Duration::from_millis(u64::from(random % 1000))
    }
}

/// What a retry needs to know of an error.
pub trait Retryable {
    /// Whether the same call can succeed later.
    fn may_pass(&self) -> bool;
    /// How long the service asked to wait.
    fn retry_after(&self) -> Option<Duration>;
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The first wait, doubled each time.
    pub base: Duration,
    /// No wait of ours is longer.
    pub ceiling: Duration,
    /// The longest wait that a service may ask for. What asks for more is not tried again by itself.
    pub patience: Duration,
    /// Tries in all, the first included.
    pub tries: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            ceiling: Duration::from_secs(64),
            patience: Duration::from_mins(5),
            tries: 6,
        }
    }
}

impl RetryPolicy {
    /// The wait after failed attempt `attempt` (from 1): `min(2^(attempt-1) * base + jitter, ceiling)`, or what the service asked for if that
    /// is longer, never above [`RetryPolicy::patience`].
    pub fn wait(&self, attempt: u32, retry_after: Option<Duration>, jitter: Duration) -> Duration {
        let doubled = self.base.saturating_mul(
            1_u32
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u32::MAX),
        );
        doubled
            .saturating_add(jitter)
            .min(self.ceiling)
            .max(retry_after.unwrap_or_default().min(self.patience))
    }

    /// Whether so long is waited for. Trying again earlier than a service asks makes it refuse for longer.
    pub fn waits_for(&self, retry_after: Option<Duration>) -> bool {
        retry_after.is_none_or(|asked| asked <= self.patience)
    }

    /// Calls `call` with the attempt's number, from 1, until it succeeds, fails for good, or the tries are used up. Only for calls that change
    /// nothing, or that say [`Retryable::may_pass`] only where they have not.
    pub async fn run<T, E, F>(
        &self,
        timing: &dyn Timing,
        mut call: impl FnMut(u32) -> F,
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        let mut attempt = 1;
        loop {
            match call(attempt).await {
                Err(error)
                    if error.may_pass()
                        && attempt < self.tries
                        && self.waits_for(error.retry_after()) =>
                {
                    let wait = self.wait(attempt, error.retry_after(), timing.jitter());
                    timing.sleep(wait).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

/// Requests per minute. Google's published figures are the default; a project's own are in its Cloud console.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Per user and project.
    pub user_per_minute: u32,
    /// Per project.
    pub project_per_minute: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            user_per_minute: 600,
            project_per_minute: 10_000,
        }
    }
}

/// A token bucket per user inside one for the project. Shared by all clients of a run.
pub struct RateLimiter {
    limits: RateLimits,
    timing: Arc<dyn Timing>,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    project: Bucket,
    users: HashMap<String, Bucket>,
}

impl RateLimiter {
    /// Full buckets.
    pub fn new(limits: RateLimits, timing: Arc<dyn Timing>) -> Arc<Self> {
        let project = Bucket::full(limits.project_per_minute, timing.elapsed());
        let buckets = Mutex::new(Buckets {
            project,
            users: HashMap::new(),
        });
        Arc::new(Self {
            limits,
            timing,
            buckets,
        })
    }

    /// Of the project's limit this process takes its share only; one place has one worker, so a user's is not shared.
    pub fn share(&self, processes: u64) {
        let processes = u32::try_from(processes.max(1)).unwrap_or(u32::MAX);
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        guard
            .project
            .limit(self.limits.project_per_minute / processes);
    }

    /// Waits until one more request of `user` is within both limits, and counts it.
    pub async fn acquire(&self, user: &str) {
        while let Some(wait) = self.try_acquire(user) {
            self.timing.sleep(wait).await;
        }
    }

    /// `None` if the request may go now; else how long to wait before asking again.
    fn try_acquire(&self, user: &str) -> Option<Duration> {
        let now = self.timing.elapsed();
        // A bucket is whole after each statement, so a panic elsewhere leaves nothing to mend.
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { project, users } = &mut *guard;
        if !users.contains_key(user) {
            users.insert(
                user.to_owned(),
                Bucket::full(self.limits.user_per_minute, now),
            );
        }
        let own = users.get_mut(user)?;
        let wait = own.wait(now).max(project.wait(now));
        if wait.is_zero() {
            own.take();
            project.take();
            return None;
        }
        Some(wait)
    }
}

/// At most `per_minute` in any minute: a burst of a tenth, and the rest spread evenly.
struct Bucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn full(per_minute: u32, now: Duration) -> Self {
        let mut bucket = Self {
            burst: 0.0,
            per_second: 0.0,
            tokens: 0.0,
            at: now,
        };
        bucket.limit(per_minute);
        bucket.tokens = bucket.burst;
        bucket
    }

    /// Another limit from now on.
    fn limit(&mut self, per_minute: u32) {
        let per_minute = f64::from(per_minute.max(1));
        self.burst = (per_minute / 10.0).max(1.0);
        // A limit of one a minute still has to move.
        self.per_second = ((per_minute - self.burst) / 60.0).max(1.0 / 60.0);
        self.tokens = self.tokens.min(self.burst);
    }

    /// Fills up to `now` and says how long until there is a whole token.
    fn wait(&mut self, now: Duration) -> Duration {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = now;
        if self.tokens >= 1.0 {
            return Duration::ZERO;
        }
        // Rounded up, so that the sleeper finds its token when it wakes.
        Duration::from_secs_f64((1.0 - self.tokens) / self.per_second) + Duration::from_millis(1)
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestTiming;
    use super::*;

    #[derive(Debug)]
    struct Refusal {
        may_pass: bool,
        retry_after: Option<Duration>,
    }

    impl Retryable for Refusal {
        fn may_pass(&self) -> bool {
            self.may_pass
        }

        fn retry_after(&self) -> Option<Duration> {
            self.retry_after
        }
    }

    async fn tries(error: impl Fn(u32) -> Option<Refusal>) -> (u32, Vec<Duration>) {
        let timing = TestTiming::default();
        let mut last = 0;
        let _: Result<(), _> = RetryPolicy::default()
            .run(&timing, |attempt| {
                last = attempt;
                std::future::ready(error(attempt).map_or(Ok(()), Err))
            })
            .await;
        (last, timing.sleeps())
    }

    #[tokio::test]
    async fn waits_double_up_to_the_ceiling_and_six_tries() {
        let refusal = |_| {
            Some(Refusal {
                may_pass: true,
                retry_after: None,
            })
        };
        let (last, sleeps) = tries(refusal).await;
        let millis: Vec<_> = sleeps.iter().map(Duration::as_millis).collect();
        assert_eq!(
            (last, millis),
            (6, vec![1_500, 2_500, 4_500, 8_500, 16_500])
        );
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.wait(7, None, Duration::ZERO),
            Duration::from_secs(64)
        );
        assert_eq!(
            policy.wait(40, None, Duration::ZERO),
            Duration::from_secs(64)
        );
    }

    #[tokio::test]
    async fn what_cannot_pass_is_tried_once() {
        let (last, sleeps) = tries(|_| {
            Some(Refusal {
                may_pass: false,
                retry_after: None,
            })
        })
        .await;
        assert_eq!((last, sleeps.len()), (1, 0));
    }

    #[tokio::test]
    async fn retry_after_lengthens_a_wait_and_what_asks_for_too_much_is_not_tried_again() {
        let refusal = |attempt| {
            let asked = [Some(20), Some(1), Some(290), Some(301), None][attempt as usize - 1]?;
            Some(Refusal {
                may_pass: true,
                retry_after: Some(Duration::from_secs(asked)),
            })
        };
        let (last, sleeps) = tries(refusal).await;
        let millis: Vec<_> = sleeps.iter().map(Duration::as_millis).collect();
        assert_eq!((last, millis), (4, vec![20_000, 2_500, 290_000]));
    }

    #[tokio::test]
    async fn no_minute_holds_more_requests_than_the_limit() {
        let timing = Arc::new(TestTiming::default());
        let limits = RateLimits {
            user_per_minute: 60,
            project_per_minute: 90,
        };
        let limiter = RateLimiter::new(limits, timing.clone());
        let mut sent: Vec<(usize, Duration)> = Vec::new();
        for number in 0..400 {
            let user = number % 2;
            limiter.acquire(["one", "two"][user]).await;
            sent.push((user, timing.elapsed()));
        }
        let minute = Duration::from_mins(1);
        for (_, start) in &sent {
            let within: Vec<_> = sent
                .iter()
                .filter(|(_, at)| at >= start && *at < *start + minute)
                .collect();
            assert!(within.len() <= 90);
            assert!(within.iter().filter(|(user, _)| *user == 0).count() <= 60);
        }
    }

    #[tokio::test]
    async fn two_processes_share_the_projects_limit() {
        let timing = Arc::new(TestTiming::default());
        let limits = RateLimits {
            user_per_minute: 600,
            project_per_minute: 120,
        };
        let limiter = RateLimiter::new(limits, timing.clone());
        limiter.share(2);
        let mut sent = Vec::new();
        for _ in 0..150 {
            limiter.acquire("one").await;
            sent.push(timing.elapsed());
        }
        let minute = Duration::from_mins(1);
        for start in &sent {
            let within = sent
                .iter()
                .filter(|at| *at >= start && **at < *start + minute);
            assert!(within.count() <= 60);
        }
    }

    #[test]
    fn jitter_is_fresh_and_below_a_second() {
        let timing = SystemTiming::start();
        let drawn: std::collections::HashSet<_> = (0..64).map(|_| timing.jitter()).collect();
        assert!(drawn.len() > 1 && drawn.iter().all(|time| *time < Duration::from_secs(1)));
    }
}
