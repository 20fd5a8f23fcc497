//! Starts one interval apart.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::retry::Timing;

/// Lets one user start per interval. Users without a usable credential cost no time.
#[derive(Clone)]
pub struct Pace {
    timing: Arc<dyn Timing>,
    interval: Duration,
    next: Arc<tokio::sync::Mutex<Option<Duration>>>,
}

impl Pace {
    /// The first user starts at once.
    pub fn new(timing: Arc<dyn Timing>, interval: Duration) -> Self {
        Self {
            timing,
            interval,
            next: Arc::default(),
        }
    }

    /// Waits for the next start.
    pub async fn start(&self) {
        let mut next = self.next.lock().await;
        let now = self.timing.elapsed();
        let start = next.unwrap_or(now).max(now);
        *next = Some(start + self.interval);
        drop(next);
        if start > now {
            self.timing.sleep(start.saturating_sub(now)).await;
        }
    }
}
