//! A lease on a piece of work, a plan say: one holder at a time. It is renewed while the run works, and no deletion is sent that could
//! land after somebody else has taken it over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::store::lease::LeaseError;
use ledger::store::{Fence, Store};

/// The times of a lease, which depend on each other.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    length: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self::of(Duration::from_secs(10))
    }
}

impl LeaseTimes {
    /// A lease that runs so long without renewal, at least one second.
    pub fn of(length: Duration) -> Self {
        Self {
            length: length.max(Duration::from_secs(1)),
        }
    }

    /// Longest that one deletion may take. Less than what is always left of a lease, and what a new holder waits before it
    /// acts: so a stalled request of the old holder cannot land late.
    pub fn write_limit(self) -> Duration {
        self.length / 2
    }

    /// How long it runs without renewal.
    pub(super) fn length(self) -> Duration {
        self.length
    }

    fn renew_every(self) -> Duration {
        self.length * 3 / 10
    }
}

/// A held lease.
#[derive(Debug, Clone)]
pub struct Lease {
    store: Store,
    fence: Fence,
    times: LeaseTimes,
    valid_until: Arc<Mutex<Instant>>,
}

impl Lease {
    /// Takes the lease of this name. One that a killed run left behind is waited for; one that is being renewed is refused.
    ///
    /// # Errors
    /// [`LeaseError::Held`] where another run is alive.
    pub async fn take(
        store: &Store,
        name: String,
        holder: &str,
        times: LeaseTimes,
    ) -> Result<Self, LeaseError> {
        match Self::take_free(store, name.clone(), holder, times).await {
            Err(LeaseError::Held { remaining, .. }) => {
                tracing::warn!("an earlier run of this plan may still be at work; waiting for it");
                tokio::time::sleep(remaining + Duration::from_millis(100)).await;
                Self::take_free(store, name, holder, times).await
            }
            other => other,
        }
    }

    /// Takes the lease of this name if nobody holds it.
    ///
    /// # Errors
    /// [`LeaseError::Held`] where somebody does.
    pub async fn take_free(
        store: &Store,
        name: String,
        holder: &str,
        times: LeaseTimes,
    ) -> Result<Self, LeaseError> {
        let asked = Instant::now();
        let fence = store.take_lease(&name, holder, times.length).await?;
        Ok(Self::held(store, fence, times, asked + times.length))
    }

    /// The lease of a command that was claimed. Renewed at once, so that it is known until when it holds.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where it has run out meanwhile and somebody took it.
    pub async fn claimed(
        store: &Store,
        fence: Fence,
        times: LeaseTimes,
    ) -> Result<Self, LeaseError> {
        let lease = Self::held(store, fence, times, Instant::now());
        lease.renew().await?;
        Ok(lease)
    }

    /// No lease: an append under it is refused.
    pub fn none(store: &Store, times: LeaseTimes) -> Self {
        let fence = Fence {
            lease: "none".to_owned(),
            number: 0,
        };
        Self::held(store, fence, times, Instant::now())
    }

    fn held(store: &Store, fence: Fence, times: LeaseTimes, valid_until: Instant) -> Self {
        Self {
            store: store.clone(),
            fence,
            times,
            valid_until: Arc::new(Mutex::new(valid_until)),
        }
    }

    /// Longest that one deletion may take.
    pub fn write_limit(&self) -> Duration {
        self.times.write_limit()
    }

    /// Proof for the appends.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Holds it for its whole length from now on.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where somebody else has it by now.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        // Counted from before the request: the database's clock started no earlier.
        let asked = Instant::now();
        self.store
            .renew_lease(&self.fence, self.times.length)
            .await?;
        *self
            .valid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = asked + self.times.length;
        Ok(())
    }

    /// Renews until the lease is lost.
    pub async fn keep(&self) -> LeaseError {
        loop {
            tokio::time::sleep(self.times.renew_every()).await;
            match self.renew().await {
                Err(lost @ LeaseError::Lost { .. }) => return lost,
                Err(error) => tracing::warn!(%error, "the lease was not renewed; trying again"),
                Ok(()) => {}
            }
        }
    }

    /// Waits until a deletion sent now ends before the lease could pass to somebody else.
    pub async fn until_safe(&self) {
        loop {
            let valid = *self
                .valid_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if valid.saturating_duration_since(Instant::now()) > self.write_limit() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives it back.
    pub async fn release(&self) {
        if let Err(error) = self.store.release_lease(&self.fence).await {
            tracing::warn!(%error, "the lease was not given back; it runs out by itself");
        }
    }
}
