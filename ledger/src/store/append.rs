//! The Rust twin of `ledger.append`: gathers callers into groups, and recomputes every entry that PostgreSQL built.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Row as _};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::query;
use crate::chain::entry::{Entry, FORMAT, Hash, leaf_hash, stored};
use crate::domain::id::{
    Actor, EntryId, EventType, IdempotencyKey, LedgerId, RunId, Subject, Timestamp,
};

/// Most entries in one call.
pub const GROUP_ENTRIES_MAX: usize = 1_024;
/// Most payload bytes in one call, unless a single payload is larger.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a group is tried again while the database is away. The keys make that safe: what was written is found.
const RETRY_FOR: Duration = Duration::from_secs(20);

/// How long a connection is kept after a group, for the next one.
const HELD_FOR: Duration = Duration::from_millis(100);

/// An entry ready to be appended, its payload salted and sealed.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "each field is that of the entry, or a column of the payload"
)]
pub struct Row {
    pub id: EntryId,
    pub key: IdempotencyKey,
    pub event_type: EventType,
    pub schema: u16,
    pub subject: Subject,
    pub actor: Actor,
    pub run: Option<RunId>,
    pub cause: Option<EntryId>,
    pub occurred_at: Timestamp,
    pub commitment: Hash,
    pub algorithm: &'static str,
    pub key_id: String,
    pub nonce: Vec<u8>,
    pub payload: Vec<u8>,
    pub fence: Option<Fence>,
    /// Only in a ledger with a simulated clock.
    pub recorded_at: Option<Timestamp>,
}

/// Proof of holding a lease: an append under an older fence than the lease's is refused by the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Name of the lease.
    pub lease: String,
    /// Number of this holding; each new holder gets a higher one.
    pub number: i64,
}

/// What became of one entry.
#[derive(Debug, Clone)]
pub enum RowResult {
    /// Written now, and recomputed.
    Appended(Entry),
    /// The key was used before; SQL found no difference, which for sealed payloads the caller must still check.
    Replayed(Entry),
    /// The key was used before with other content.
    KeyReused {
        /// Where.
        seq: u64,
    },
    /// Another holder has the lease.
    FenceLost,
}

/// Why an append failed. None of these leaves it unclear whether the next append may be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The connection broke before the answer. Append again with the same keys: what was written is found, not doubled.
    #[error("append to ledger {ledger} was sent, and no answer came")]
    CommitUnknown {
        /// Which ledger.
        ledger: LedgerId,
        /// The last failure.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database refused the call; nothing was written.
    #[error("append {count} entries to ledger {ledger}")]
    Database {
        /// Which ledger.
        ledger: LedgerId,
        /// How many entries the call held.
        count: usize,
        /// Its answer.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// A bug in the caller; never tried again.
    #[error("idempotency key {key} was used at seq {seq} with other content")]
    KeyReused {
        /// The key.
        key: IdempotencyKey,
        /// Where it was used first.
        seq: u64,
    },
    /// Another worker has taken the work over; stop without acting.
    #[error("the lease {} was taken over by another worker", fence.lease)]
    FenceLost {
        /// The holding that was lost.
        fence: Fence,
    },
    /// PostgreSQL built other bytes than this program: one of the two is wrong, and nothing more may be written.
    #[error("entry {seq} as recorded is not the entry that was sent: {what}")]
    Corrupt {
        /// Which entry.
        seq: u64,
        /// What differs.
        what: &'static str,
    },
    /// A payload could not be sealed, or the one behind a replayed key not opened.
    #[error("seal the payload of an entry about {subject}")]
    Key {
        /// What it is about.
        subject: Subject,
        /// Why.
        #[source]
        source: super::keys::KeyError,
    },
    /// A payload that may not be hashed.
    #[error("the payload of an entry of type {event_type} is refused: {why}")]
    Payload {
        /// Its type.
        event_type: String,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// The ledger was restored from a backup that is older than what was signed for it.
    #[error(
        "ledger {ledger} is read-only: a checkpoint of {signed} entries was signed here, and the database holds {found}; restore a \
         newer backup, or state the loss with `ledger checkpoint restored --reason …`"
    )]
    Behind {
        /// Which ledger.
        ledger: LedgerId,
        /// Size of the last signed checkpoint.
        signed: u64,
        /// Entries in the database.
        found: u64,
    },
    /// The store is closing.
    #[error("the ledger is closed for writing")]
    Closed,
}

/// A connection kept from group to group: to get one from the pool costs a round trip.
type Held = Option<PoolConnection<Postgres>>;

pub(super) struct Pending {
    pub(super) row: Row,
    pub(super) reply: oneshot::Sender<Result<Answer, AppendError>>,
}

/// What the database said of an entry, and the entry as it was sent. The caller checks the one by the other: so many entries
/// are recomputed at once, while the next group is under way already.
pub(super) struct Answer {
    row: Row,
    said: Said,
}

/// What the database said of one row, as it came.
enum Said {
    Appended {
        seq: u64,
        hash: Hash,
        bytes: Vec<u8>,
        /// The entry in front, where it was written by the same call.
        before: Option<(u64, Hash)>,
    },
    Replayed {
        seq: u64,
        hash: Hash,
        bytes: Vec<u8>,
    },
    KeyReused {
        seq: u64,
    },
    FenceLost,
}

impl Said {
    /// Recomputes what the database built from what was sent.
    fn check(&self, row: &Row, ledger: LedgerId) -> Result<RowResult, AppendError> {
        Ok(match self {
            Self::Appended {
                seq,
                hash,
                bytes,
                before,
            } => RowResult::Appended(recompute(row, ledger, *seq, *hash, bytes, *before)?),
            Self::Replayed { seq, hash, bytes } => {
                RowResult::Replayed(read_replayed(row, *seq, *hash, bytes)?)
            }
            Self::KeyReused { seq } => RowResult::KeyReused { seq: *seq },
            Self::FenceLost => RowResult::FenceLost,
        })
    }
}

impl Answer {
    /// What became of the entry, once it is found to be the one that was sent; and its hash.
    pub(super) fn check(&self, ledger: LedgerId) -> Result<(RowResult, Hash), AppendError> {
        let hash = match &self.said {
            Said::Appended { hash, .. } | Said::Replayed { hash, .. } => *hash,
            Said::KeyReused { .. } | Said::FenceLost => Hash::ZERO,
        };
        Ok((self.said.check(&self.row, ledger)?, hash))
    }
}

/// Takes pending entries until the last sender is gone, and commits them group by group.
pub(super) async fn commit_groups(
    pool: PgPool,
    ledger: LedgerId,
    mut queue: mpsc::Receiver<Pending>,
    committed: tokio::sync::watch::Sender<u64>,
) {
    let mut waiting = Vec::new();
    let mut held: Held = None;
    loop {
        if waiting.is_empty() {
            let next = queue.recv_many(&mut waiting, GROUP_ENTRIES_MAX);
            let received = if let Ok(received) = tokio::time::timeout(HELD_FOR, next).await {
                received
            } else {
                held = None;
                queue.recv_many(&mut waiting, GROUP_ENTRIES_MAX).await
            };
            if received == 0 {
                return;
            }
        }
        gather(&mut queue, &mut waiting).await;
        let rest = waiting.split_off(group_length(&waiting));
        let group = std::mem::replace(&mut waiting, rest);
        let rows: Vec<&Row> = group.iter().map(|pending| &pending.row).collect();
        let results = match append_until_answered(&pool, &mut held, ledger, &rows).await {
            // The call fails as one; on its own each entry shows whether it was at fault.
            Err(AppendError::Database { .. }) if rows.len() > 1 => {
                let mut alone = Vec::with_capacity(rows.len());
                for row in rows {
                    let result = append_until_answered(&pool, &mut held, ledger, &[row]).await;
                    alone.push(
                        result.and_then(|mut one| one.pop().unwrap_or(Err(AppendError::Closed))),
                    );
                }
                alone
            }
            Err(error) => rows.iter().map(|_| Err(error.clone())).collect(),
            Ok(results) => results,
        };
        let last = results.iter().filter_map(|result| match result {
            Ok(Said::Appended { seq, .. }) => Some(*seq),
            _ => None,
        });
        if let Some(seq) = last.max() {
            committed.send_replace(seq);
        }
        for (Pending { row, reply }, result) in group.into_iter().zip(results) {
            let answer = result.map(|said| Answer { row, said });
            // A caller that stopped waiting finds its entry again by its key; what it would have checked is checked here.
            if let Err(Ok(unheard)) = reply.send(answer)
                && let Err(error) = unheard.check(ledger)
            {
                tracing::error!(%error, "an entry that nobody waited for");
            }
        }
    }
}

/// Gives callers that were just answered a turn to append again, for as long as any does: one group instead of two.
async fn gather(queue: &mut mpsc::Receiver<Pending>, waiting: &mut Vec<Pending>) {
    let mut before = 0;
    while before < waiting.len() && waiting.len() < GROUP_ENTRIES_MAX {
        before = waiting.len();
        tokio::task::yield_now().await;
        while waiting.len() < GROUP_ENTRIES_MAX
            && let Ok(pending) = queue.try_recv()
        {
            waiting.push(pending);
        }
    }
}

/// How many of the waiting entries go into the next call: by count, by size, and no entry with its cause.
fn group_length(waiting: &[Pending]) -> usize {
    let mut bytes = 0;
    let mut ids = HashSet::new();
    let mut causes = HashSet::new();
    for (count, Pending { row, .. }) in waiting.iter().enumerate() {
        bytes += row.payload.len();
        let full = count == GROUP_ENTRIES_MAX || (count > 0 && bytes > GROUP_BYTES_MAX);
        let caused_here =
            row.cause.is_some_and(|cause| ids.contains(&cause)) || causes.contains(&row.id);
        if full || caused_here {
            return count;
        }
        ids.insert(row.id);
        causes.extend(row.cause);
    }
    waiting.len()
}

type Saids = Vec<Result<Said, AppendError>>;

async fn append_until_answered(
    pool: &PgPool,
    held: &mut Held,
    ledger: LedgerId,
    rows: &[&Row],
) -> Result<Saids, AppendError> {
    let started = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        let answer = async {
            let connection = match held {
                Some(connection) => connection,
                None => held.insert(pool.acquire().await?),
            };
            // A statement of its own is a transaction of its own, for which BEGIN and COMMIT are two round trips more.
            ask(connection, ledger, rows).await
        }
        .await;
        match answer {
            Ok(said) => return Ok(said.into_iter().map(Ok).collect()),
            Err(error) if is_connection_error(&error) => {
                // The pool looks at the connection before it gives it out again.
                *held = None;
                if started.elapsed() + pause > RETRY_FOR {
                    return Err(AppendError::CommitUnknown {
                        ledger,
                        source: Arc::new(error),
                    });
                }
                tracing::warn!(%ledger, count = rows.len(), "no answer from the database; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) => {
                let source = Arc::new(error);
                return Err(AppendError::Database {
                    ledger,
                    count: rows.len(),
                    source,
                });
            }
        }
    }
}

/// True where an error, or one that it comes of, is the database's and it may answer when asked again; what was asked did not happen, or is
/// not known to have.
pub fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let shared = error.downcast_ref::<Arc<sqlx::Error>>().map(AsRef::as_ref);
        if let Some(error) = error.downcast_ref::<sqlx::Error>().or(shared) {
            return is_connection_error(error);
        }
        cause = error.source();
    }
    false
}

/// True where the database may answer when asked again: broken connections, shutdown, start-up, serialisation.
pub fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Class 08 connection, 57P0x shutdown and start-up, 40001 and 40P01 serialisation and deadlock.
            code.starts_with("08") || code.starts_with("57P0") || code == "40001" || code == "40P01"
        }),
        _ => false,
    }
}

/// Calls `ledger.append` once and recomputes what it answers.
///
/// # Errors
/// The database's. What is wrong with single entries stands in their results.
pub(super) async fn append_in(
    connection: &mut PgConnection,
    ledger: LedgerId,
    rows: &[&Row],
) -> Result<Vec<Result<RowResult, AppendError>>, sqlx::Error> {
    let said = ask(connection, ledger, rows).await?;
    let checked = said.iter().zip(rows);
    Ok(checked.map(|(said, row)| said.check(row, ledger)).collect())
}

/// Calls `ledger.append` once.
async fn ask(
    connection: &mut PgConnection,
    ledger: LedgerId,
    rows: &[&Row],
) -> Result<Vec<Said>, sqlx::Error> {
    fn all<'a, T>(rows: &[&'a Row], of: impl Fn(&'a Row) -> T) -> Vec<T> {
        rows.iter().map(|row| of(row)).collect()
    }
    let utc = |time: Timestamp| -> DateTime<Utc> { time.instant() };
    let answer = query(
        "select ord, status, seq, hash, bytes \
         from ledger.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(ledger.uuid())
    .bind(all::<Uuid>(rows, |row| row.id.uuid()))
    .bind(all::<&str>(rows, |row| row.key.as_str()))
    .bind(all::<&str>(rows, |row| row.event_type.as_str()))
    .bind(all::<i32>(rows, |row| row.schema.into()))
    .bind(all::<String>(rows, |row| row.subject.to_string()))
    .bind(all::<&str>(rows, |row| row.actor.as_str()))
    .bind(all::<Option<Uuid>>(rows, |row| row.run.map(RunId::uuid)))
    .bind(all::<Option<Uuid>>(rows, |row| row.cause.map(EntryId::uuid)))
    .bind(all::<DateTime<Utc>>(rows, |row| utc(row.occurred_at)))
    .bind(all::<&[u8]>(rows, |row| row.commitment.0.as_slice()))
    .bind(all::<&str>(rows, |row| row.algorithm))
    .bind(all::<&str>(rows, |row| row.key_id.as_str()))
    .bind(all::<&[u8]>(rows, |row| row.nonce.as_slice()))
    .bind(all::<&[u8]>(rows, |row| row.payload.as_slice()))
    .bind(all::<Option<&str>>(rows, |row| row.fence.as_ref().map(|fence| fence.lease.as_str())))
    .bind(all::<Option<i64>>(rows, |row| row.fence.as_ref().map(|fence| fence.number)))
    .bind(all::<Option<DateTime<Utc>>>(rows, |row| row.recorded_at.map(utc)))
    .fetch_all(connection)
    .await?;

    let mut said = Vec::with_capacity(rows.len());
    let mut before: Option<(u64, Hash)> = None;
    for (expected, answered) in (1_i64..).zip(&answer) {
        let ord: i64 = answered.try_get("ord")?;
        if ord != expected || said.len() == rows.len() {
            return Err(sqlx::Error::Protocol(format!(
                "ledger.append answered row {ord} of {} as number {expected}",
                rows.len()
            )));
        }
        let seq: Option<i64> = answered.try_get("seq")?;
        let seq = seq.map_or(0, i64::unsigned_abs);
        said.push(match answered.try_get::<&str, _>("status")? {
            "fence_lost" => Said::FenceLost,
            "key_reused" => Said::KeyReused { seq },
            status => {
                let hash = Hash::from_slice(answered.try_get("hash")?).unwrap_or(Hash::ZERO);
                let bytes: Vec<u8> = answered.try_get("bytes")?;
                if status == "appended" {
                    let in_front = before.replace((seq, hash));
                    Said::Appended {
                        seq,
                        hash,
                        bytes,
                        before: in_front,
                    }
                } else {
                    Said::Replayed { seq, hash, bytes }
                }
            }
        });
    }
    if said.len() != rows.len() {
        return Err(sqlx::Error::Protocol(format!(
            "ledger.append answered {} rows for {}",
            said.len(),
            rows.len()
        )));
    }
    Ok(said)
}

/// Builds the entry from what was sent and the three things that PostgreSQL added, and compares.
fn recompute(
    row: &Row,
    ledger: LedgerId,
    seq: u64,
    hash: Hash,
    bytes: &[u8],
    before: Option<(u64, Hash)>,
) -> Result<Entry, AppendError> {
    let corrupt = |what| AppendError::Corrupt { seq, what };
    let recorded = Entry::from_bytes(bytes).map_err(|_| corrupt("it is not an entry"))?;
    let sent = Entry {
        actor: row.actor.clone(),
        cause: row.cause,
        commitment: row.commitment,
        id: row.id,
        key: row.key.clone(),
        ledger,
        occurred_at: row.occurred_at,
        prev: recorded.prev,
        recorded_at: recorded.recorded_at,
        run: row.run,
        schema: row.schema,
        seq,
        stored: stored(row.algorithm, &row.key_id, &row.nonce, &row.payload),
        subject: row.subject.clone(),
        event_type: row.event_type.clone(),
        v: FORMAT,
    };
    if sent.to_bytes() != bytes {
        return Err(corrupt("its fields differ"));
    }
    if leaf_hash(bytes) != hash {
        return Err(corrupt("its hash differs"));
    }
    if before.is_some_and(|(at, prev)| at + 1 != seq || prev != recorded.prev) {
        return Err(corrupt("it is not linked to the entry in front"));
    }
    if row
        .recorded_at
        .is_some_and(|time| time != recorded.recorded_at)
    {
        return Err(corrupt("its time differs"));
    }
    Ok(recorded)
}

fn read_replayed(row: &Row, seq: u64, hash: Hash, bytes: &[u8]) -> Result<Entry, AppendError> {
    let corrupt = |what| AppendError::Corrupt { seq, what };
    let entry = Entry::from_bytes(bytes).map_err(|_| corrupt("it is not an entry"))?;
    if leaf_hash(bytes) != hash || entry.seq != seq || entry.key != row.key {
        return Err(corrupt("the entry found by its key is not sound"));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(id: u128, cause: Option<u128>, bytes: usize) -> Pending {
        let entry_id = |n| EntryId::new(Uuid::from_u128(n));
        Pending {
            row: Row {
                id: entry_id(id),
                key: entry_id(id).to_string().parse().unwrap(),
                event_type: "item.found".parse().unwrap(),
                schema: 1,
                subject: Subject::new("item", Uuid::nil()).unwrap(),
                actor: Actor::system(),
                run: None,
                cause: cause.map(entry_id),
                occurred_at: Timestamp::from_micros(0).unwrap(),
                commitment: Hash::ZERO,
                algorithm: "plain",
                key_id: String::new(),
                nonce: vec![],
                payload: vec![0; bytes],
                fence: None,
                recorded_at: None,
            },
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn groups_end_by_count_size_and_cause() {
        let many: Vec<_> = (0..1_030).map(|n| pending(n, None, 1)).collect();
        assert_eq!(group_length(&many), GROUP_ENTRIES_MAX);
        let mib = 1 << 20;
        let large = [pending(1, None, 5 * mib), pending(2, None, 5 * mib)];
        assert_eq!(group_length(&large), 1);
        assert_eq!(
            group_length(&[pending(1, None, 9 * mib)]),
            1,
            "one larger entry alone"
        );
        assert_eq!(
            group_length(&[pending(1, None, 1), pending(2, Some(1), 1)]),
            1
        );
        assert_eq!(
            group_length(&[pending(1, Some(2), 1), pending(2, None, 1)]),
            1
        );
        assert_eq!(
            group_length(&[pending(1, Some(9), 1), pending(2, Some(9), 1)]),
            2
        );
    }
}
