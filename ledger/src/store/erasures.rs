//! The erasures of a ledger, as whoever misses a payload is told of them.

use std::sync::{Arc, PoisonError};

use sqlx::Row as _;

use super::Store;
use super::payload::PayloadText;
use super::read::{Filter, ReadError};
use crate::chain::entry::{Entry, Hash, leaf_hash};
use crate::domain::erasure::SubjectErased;
use crate::domain::event::Event;
use crate::domain::id::{Actor, EntryId, Subject, Timestamp};

/// One erasure: the entry, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The entry.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was done.
    pub recorded_at: Timestamp,
    /// Who did it, once it was approved.
    pub actor: Actor,
    /// Whose data went.
    pub owner: Subject,
    /// What was destroyed, and by whose word.
    pub said: SubjectErased,
}

impl Erasure {
    /// `erased on 2026-01-15T09:30:00.000000Z by person:ann, person:bob (entry 40)`.
    pub fn words(&self) -> String {
        let by: Vec<&str> = self.said.approved_by.iter().map(Actor::as_str).collect();
        format!(
            "erased on {} by {} (entry {})",
            self.recorded_at,
            by.join(", "),
            self.seq
        )
    }
}

/// Erasures up to an entry.
#[derive(Debug, Default)]
pub(super) struct Known {
    size: u64,
    all: Vec<Arc<Erasure>>,
}

fn erasures_up_to(size: u64) -> Filter {
    #[expect(clippy::expect_used, reason = "`subject.erased` is an event type")]
    let event_type = "subject.erased".parse().expect("an event type");
    Filter {
        types: vec![event_type],
        to: Some(size),
        ..Filter::default()
    }
}

/// Reads an erasure. What is not what it was committed to erases nothing.
fn erasure(bytes: &[u8], payload: Option<&[u8]>) -> Option<Erasure> {
    let entry = Entry::from_bytes(bytes).ok()?;
    let PayloadText::Open { json, .. } = PayloadText::from_committed(&entry, payload?) else {
        return None;
    };
    let event = Event::decode(entry.event_type.as_str(), entry.schema, &json);
    let Ok(Event::SubjectErased(said)) = event else {
        return None;
    };
    Some(Erasure {
        id: entry.id,
        seq: entry.seq,
        hash: leaf_hash(bytes),
        recorded_at: entry.recorded_at,
        actor: entry.actor,
        owner: entry.subject,
        said,
    })
}

impl Store {
    /// Every erasure of this ledger, oldest first.
    ///
    /// # Errors
    /// The database's, and a damaged entry.
    pub async fn erasures(&self) -> Result<Vec<Arc<Erasure>>, ReadError> {
        let size = self.head().await?.size;
        let filter = erasures_up_to(size);
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let rows = self.rows(&filter, after).await?;
            let Some(last) = rows.last() else { break };
            let failed = |source| ReadError::Database {
                what: "read the erasures",
                source,
            };
            after = last
                .try_get::<i64, _>("seq")
                .map_err(failed)?
                .unsigned_abs();
            for row in &rows {
                let bytes: &[u8] = row.try_get("bytes").map_err(failed)?;
                let payload: Option<&[u8]> = row.try_get("payload").map_err(failed)?;
                all.extend(erasure(bytes, payload).map(Arc::new));
            }
        }
        let mut known = self.known();
        known.size = size;
        known.all.clone_from(&all);
        Ok(all)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner
            .erasures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What to say of an entry whose payload row is not there.
    pub(super) async fn missing_payload(&self, seq: u64) -> Result<PayloadText, ReadError> {
        let erased = |all: &[Arc<Erasure>]| {
            let covers = |erasure: &&Arc<Erasure>| erasure.said.ranges.contains(seq);
            all.iter().find(covers).cloned().map(PayloadText::Erased)
        };
        let read_up_to = {
            let known = self.known();
            if let Some(text) = erased(&known.all) {
                return Ok(text);
            }
            known.size
        };
        if read_up_to == self.head().await?.size {
            return Ok(PayloadText::Gone);
        }
        Ok(erased(&self.erasures().await?).unwrap_or(PayloadText::Gone))
    }
}
