//! The time that the simulated services believe it is: the machine's, shifted.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use chrono::{DateTime, Duration, Utc};

/// A clock that runs at the machine's pace, and may be set ahead or behind it.
#[derive(Debug, Default)]
pub struct SimClock {
    offset_ms: AtomicI64,
}

impl SimClock {
    /// The services' present instant; it is also what their `Date` header says.
    pub fn now(&self) -> DateTime<Utc> {
        let real: DateTime<Utc> = SystemTime::now().into();
        real + Duration::milliseconds(self.offset_ms.load(Ordering::Relaxed))
    }

    /// Sets how far the services are ahead of the machine (negative: behind).
    pub fn set_offset(&self, offset: Duration) {
        self.offset_ms
            .store(offset.num_milliseconds(), Ordering::Relaxed);
    }
}

/// An HTTP date (RFC 9110 section 5.6.7).
pub(crate) fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// RFC 3339 in UTC with milliseconds, as Google writes `created` and `updated`.
pub(crate) fn rfc3339_ms(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
