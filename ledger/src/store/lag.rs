//! How far what speaks for a ledger is behind its head, in numbers to watch.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::Row as _;

use super::read::{Filter, ReadError};
use super::{Store, query};
use crate::domain::event::Event;

/// What is not covered yet. Entries about publications count for nothing: they follow a checkpoint and need none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Number of entries that are covered.
    pub size: u64,
    /// Entries behind them.
    pub entries: u64,
    /// For how many seconds the oldest of these has waited, by PostgreSQL's clock; 0 where there is none.
    pub seconds: u64,
}

impl Store {
    /// How far the head is ahead of something that speaks for the first `size` entries.
    ///
    /// # Errors
    /// The database's.
    pub async fn lag_behind(&self, size: u64) -> Result<Lag, ReadError> {
        let what = "count the entries that are not covered";
        let failed = |source| ReadError::Database { what, source };
        // A simulated clock stands still at the head.
        let row = query(
            "select count(e.seq) as entries, \
                    coalesce(greatest(0, floor(extract(epoch from \
                        case h.clock when 'system' then clock_timestamp() else h.recorded_at end - min(e.recorded_at)))), 0)::bigint as seconds \
             from ledger.heads h \
             left join ledger.entries e on e.ledger_id = h.ledger_id and e.seq > $2 and e.type <> 'checkpoint.published' \
             where h.ledger_id = $1 group by h.clock, h.recorded_at",
        )
        .bind(self.id().uuid())
        .bind(i64::try_from(size).unwrap_or(i64::MAX))
        .fetch_one(self.pool())
        .await
        .map_err(failed)?;
        let entries: i64 = row.try_get("entries").map_err(failed)?;
        let seconds: i64 = row.try_get("seconds").map_err(failed)?;
        Ok(Lag {
            size,
            entries: entries.unsigned_abs(),
            seconds: seconds.unsigned_abs(),
        })
    }

    /// Where checkpoints were published, by the ledger's entries, and the largest size at each place.
    ///
    /// # Errors
    /// The database's; a damaged entry.
    pub async fn publications(&self) -> Result<BTreeMap<String, u64>, ReadError> {
        let filter = Filter {
            types: "checkpoint.published".parse().into_iter().collect(),
            ..Filter::default()
        };
        let mut places: BTreeMap<String, u64> = BTreeMap::new();
        let mut entries = std::pin::pin!(self.read(filter));
        while let Some(recorded) = entries.try_next().await? {
            let entry = &recorded.entry;
            let event = recorded
                .payload
                .json()
                .and_then(|json| Event::decode(entry.event_type.as_str(), entry.schema, json).ok());
            if let Some(Event::CheckpointPublished(published)) = event {
                let size = places.entry(published.target).or_default();
                *size = published.size.max(*size);
            }
        }
        Ok(places)
    }
}
