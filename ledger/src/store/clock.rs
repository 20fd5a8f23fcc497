//! The time, new ids and randomness: the only place where they come from, so that tests can set them.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::id::{EntryId, LedgerId, RunId, Timestamp};

/// Where the time comes from. Ids carry it too (UUIDv7, RFC 9562 section 5.7).
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the one place that reads it"
            )]
            let now = chrono::Utc::now();
            let micros = now.timestamp_micros();
            // A machine whose clock stands outside the years 1 to 9999 is taken to stand at the nearest end.
            let bounded = micros.clamp(-62_135_596_800_000_000, 253_402_300_799_999_999);
            Timestamp::from_micros(bounded).unwrap_or(Timestamp::EPOCH)
        })
    }

    /// A clock of the caller's.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// A new UUIDv7 of this clock's time.
    pub fn uuid(&self) -> Uuid {
        let micros = self.now().micros().max(0).unsigned_abs();
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let nanos = u32::try_from(rest * 1_000).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
    }

    /// A new entry id.
    pub fn entry_id(&self) -> EntryId {
        EntryId::new(self.uuid())
    }

    /// A new run id.
    pub fn run_id(&self) -> RunId {
        RunId::new(self.uuid())
    }

    /// A new ledger id.
    pub fn ledger_id(&self) -> LedgerId {
        LedgerId::new(self.uuid())
    }
}
