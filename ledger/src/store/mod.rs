//! The log in PostgreSQL: append, read, follow, keys and identities. The only place with SQL.
//!
//! Writes go through `ledger.append` and `ledger.identify` and nothing else; the store's login may do no more than that.

mod aead;
pub mod append;
pub mod bundle_file;
pub mod catalogue;
pub mod checkpoint;
mod checkpoint_rows;
pub mod clock;
pub mod commands;
pub mod connect;
mod copy;
pub mod embedded;
pub mod erase;
pub mod erasures;
pub mod export;
mod guards;
pub mod identity;
pub mod keys;
pub mod lag;
pub mod lease;
pub mod migrate;
pub mod payload;
pub mod read;
mod rows;
pub mod signer;
pub mod sorted;
pub mod spool;
pub mod tiles;
pub mod verify;
mod verify_erasure;
mod verify_since;
mod verify_tree;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::postgres::PgArguments;
use sqlx::{PgPool, Postgres};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use self::append::{Answer, GROUP_ENTRIES_MAX, Pending, Row, RowResult};
pub use self::append::{AppendError, Fence, is_away};
pub use self::clock::Clock;
pub use self::connect::{Admin, ConnectError, LedgerRow, connect, ledgers};
use self::keys::{Kek, KeyRing};
use self::payload::Salted;
use crate::chain::entry::{Entry, Hash};
use crate::domain::event::{self, Event};
use crate::domain::id::{
    Actor, EntryId, EventType, IdempotencyKey, LedgerId, NameError, RunId, Subject, Timestamp,
};

/// Every statement goes out unnamed, so that a pooler in transaction mode can carry it.
pub(crate) fn query(sql: &'static str) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// What a caller wants recorded.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What happened.
    pub event_type: EventType,
    /// Version of the payload of this type.
    pub schema: u16,
    /// What it is about.
    pub subject: Subject,
    /// Who caused it.
    pub actor: Actor,
    /// JSON of the subset in [`crate::chain::canonical`], an object, kept byte for byte.
    pub payload: String,
    /// Whether the payload is sealed, and under whose key.
    pub sealing: Sealing,
    /// Idempotency key; the entry's id where there is none, and then the append cannot be repeated.
    pub key: Option<IdempotencyKey>,
    /// Run it belongs to.
    pub run: Option<RunId>,
    /// Entry that caused it.
    pub cause: Option<EntryId>,
    /// When it happened; now, where it is not given.
    pub occurred_at: Option<Timestamp>,
    /// Proof of holding the lease under which the caller acts.
    pub fence: Option<Fence>,
    /// Time of recording, in a ledger with a simulated clock and only there.
    pub recorded_at: Option<Timestamp>,
}

impl Draft {
    /// An entry about an event of this program. `owner` is whose key seals it, where its type is sealed.
    ///
    /// # Errors
    /// The event cannot be written as JSON, which no event of this program is.
    pub fn of(
        event: &Event,
        subject: Subject,
        actor: Actor,
        owner: Subject,
    ) -> Result<Self, AppendError> {
        let refused = |why: String| AppendError::Payload {
            event_type: event.name().to_owned(),
            why,
        };
        let event_type: EventType = event
            .name()
            .parse()
            .map_err(|error: NameError| refused(error.to_string()))?;
        let sealing = if event::is_plain(&event_type) {
            Sealing::Plain
        } else {
            Sealing::Owner(owner)
        };
        Ok(Self {
            payload: event
                .to_json()
                .map_err(|error| refused(error.to_string()))?,
            event_type,
            schema: 1,
            subject,
            actor,
            sealing,
            key: None,
            run: None,
            cause: None,
            occurred_at: None,
            fence: None,
            recorded_at: None,
        })
    }
}

/// How a payload is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// As it is: it holds nothing personal.
    Plain,
    /// Sealed under the key of this owner, whose erasure takes it along.
    Owner(Subject),
}

/// An entry that is durable.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The entry as recorded.
    pub entry: Entry,
    /// Its hash.
    pub hash: Hash,
    /// True where the same key with the same content was recorded before.
    pub replayed: bool,
}

/// One open ledger. Cheap to clone; all clones share one group commit.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    row: LedgerRow,
    keys: KeyRing,
    clock: Clock,
    queue: mpsc::Sender<Pending>,
    tasks: TaskTracker,
    /// Natural ids of subjects that no entry is about yet.
    to_introduce: Mutex<HashMap<Subject, String>>,
    /// Size of a checkpoint that this ledger has fallen behind, and its own size then.
    behind: OnceLock<(u64, u64)>,
    /// The erasures read last, for payloads that are missed.
    erasures: Mutex<erasures::Known>,
}

impl Store {
    /// Opens a ledger for reading and writing.
    pub fn open(pool: PgPool, row: LedgerRow, keks: Vec<Kek>, clock: Clock) -> Self {
        let (queue, pending) = mpsc::channel(2 * GROUP_ENTRIES_MAX);
        let (committed, grown) = watch::channel(0);
        let tasks = TaskTracker::new();
        tasks.spawn(append::commit_groups(
            pool.clone(),
            row.id,
            pending,
            committed,
        ));
        tasks.spawn(read::notify_followers(pool.clone(), row.id, grown));
        tasks.close();
        let ring = KeyRing::new(row.id, keks);
        let inner = Inner {
            pool,
            row,
            keys: ring,
            clock,
            queue,
            tasks,
            to_introduce: Mutex::default(),
            behind: OnceLock::new(),
            erasures: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Which ledger this is.
    pub fn id(&self) -> LedgerId {
        self.inner.row.id
    }

    /// Its name and clock mode.
    pub fn row(&self) -> &LedgerRow {
        &self.inner.row
    }

    /// Where this store takes the time and new ids from.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Whether sealed payloads can be read and written.
    pub fn has_keys(&self) -> bool {
        self.inner.keys.has_kek()
    }

    /// Refuses every append but the statement of the loss from now on: a checkpoint of `signed` entries is known, and the
    /// database holds `found`, so that it was put back to an earlier state.
    pub fn set_behind(&self, signed: u64, found: u64) {
        // Told twice, it is behind as it was.
        self.inner.behind.get_or_init(|| (signed, found));
    }

    /// The key-encryption keys at hand; the first wraps what is new.
    pub fn keks(&self) -> Vec<Kek> {
        self.inner.keys.keks()
    }

    /// The connections, for what other modules of this crate read.
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    pub(crate) fn keys(&self) -> &KeyRing {
        &self.inner.keys
    }

    /// Records one entry and returns once it is durable.
    ///
    /// # Errors
    /// See [`AppendError`]. After [`AppendError::CommitUnknown`] append the same draft again, with the same key.
    pub async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
        let prepared = self.prepare(draft).await?;
        let waiting = self.enqueue(prepared.0).await?;
        self.conclude(waiting, prepared.1).await
    }

    /// Records entries in this order, in as few commits as the limits of a group allow. Each succeeds or fails alone.
    pub async fn append_all(&self, drafts: Vec<Draft>) -> Vec<Result<Appended, AppendError>> {
        let mut waiting = Vec::with_capacity(drafts.len());
        for draft in drafts {
            waiting.push(match self.prepare(draft).await {
                Ok((row, given)) => self.enqueue(row).await.map(|reply| (reply, given)),
                Err(error) => Err(error),
            });
        }
        let mut results = Vec::with_capacity(waiting.len());
        for entry in waiting {
            results.push(match entry {
                Ok((reply, given)) => self.conclude(reply, given).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    pub(crate) fn to_introduce(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, String>> {
        self.inner
            .to_introduce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn enqueue(&self, row: Row) -> Result<Waiting, AppendError> {
        let (reply, answer) = oneshot::channel();
        let sent = Sent {
            key: row.key.clone(),
            fence: row.fence.clone(),
        };
        let pending = Pending { row, reply };
        self.inner
            .queue
            .send(pending)
            .await
            .map_err(|_| AppendError::Closed)?;
        Ok((answer, sent))
    }

    async fn conclude(
        &self,
        (answer, sent): Waiting,
        given: Given,
    ) -> Result<Appended, AppendError> {
        let answer = answer.await.map_err(|_| AppendError::Closed)??;
        let (result, hash) = answer.check(self.id())?;
        let (entry, replayed) = match result {
            RowResult::Appended(entry) => (entry, false),
            RowResult::Replayed(entry) => {
                self.check_replay(&entry, &given).await?;
                (entry, true)
            }
            RowResult::KeyReused { seq } => {
                return Err(AppendError::KeyReused { key: sent.key, seq });
            }
            RowResult::FenceLost => {
                let fence = sent.fence.ok_or(AppendError::Closed)?;
                return Err(AppendError::FenceLost { fence });
            }
        };
        self.to_introduce().remove(&entry.subject);
        Ok(Appended {
            entry,
            hash,
            replayed,
        })
    }

    /// Refuses where the database was put back to a state before a checkpoint that is known.
    fn is_writable(&self) -> Result<(), AppendError> {
        match self.inner.behind.get() {
            None => Ok(()),
            Some((signed, found)) => Err(AppendError::Behind {
                ledger: self.id(),
                signed: *signed,
                found: *found,
            }),
        }
    }

    async fn prepare(&self, mut draft: Draft) -> Result<(Row, Given), AppendError> {
        if draft.event_type.as_str() != "ledger.restored" {
            self.is_writable()?;
        }
        let id = self.inner.clock.entry_id();
        if draft.payload.trim().len() != draft.payload.len() {
            draft.payload = draft.payload.trim().to_owned();
        }
        let payload = self.introduce(&draft)?;
        let salted = Salted::new(&payload).map_err(|source| AppendError::Key {
            subject: draft.subject.clone(),
            source,
        })?;
        let sealed = self.seal(id, &draft, &salted).await?;
        let key = draft.key.unwrap_or_else(|| payload::key_of(id));
        let row = Row {
            id,
            key,
            event_type: draft.event_type,
            schema: draft.schema,
            subject: draft.subject,
            actor: draft.actor,
            run: draft.run,
            cause: draft.cause,
            occurred_at: draft.occurred_at.unwrap_or_else(|| self.inner.clock.now()),
            commitment: salted.commitment(),
            algorithm: sealed.algorithm,
            key_id: sealed.key_id,
            nonce: sealed.nonce,
            payload: sealed.bytes,
            fence: draft.fence,
            recorded_at: draft.recorded_at,
        };
        Ok((
            row,
            Given {
                payload: draft.payload,
                sealed: draft.sealing != Sealing::Plain,
            },
        ))
    }

    /// Waits until what was enqueued is durable, then stops accepting entries. The other clones must be gone.
    pub async fn close(self) {
        let tasks = self.inner.tasks.clone();
        let pool = self.inner.pool.clone();
        drop(self);
        tasks.wait().await;
        pool.close().await;
    }
}

/// Entry 1: what the ledger is, in plain, about the ledger itself.
fn first_row(id: LedgerId, new: &connect::NewLedger, clock: &Clock) -> Result<Row, keys::KeyError> {
    #[expect(clippy::expect_used, reason = "`ledger.created` is an event type")]
    let event_type = "ledger.created".parse().expect("an event type");
    let mut row = plain_row(
        clock,
        event_type,
        &new.payload,
        Subject::of_ledger(id),
        new.actor.clone(),
    )?;
    row.occurred_at = new.simulated.unwrap_or(row.occurred_at);
    row.recorded_at = new.simulated;
    Ok(row)
}

/// An entry of now whose payload is kept in plain.
fn plain_row(
    clock: &Clock,
    event_type: EventType,
    payload: &str,
    subject: Subject,
    actor: Actor,
) -> Result<Row, keys::KeyError> {
    let salted = Salted::new(payload)?;
    let id = clock.entry_id();
    Ok(Row {
        id,
        key: payload::key_of(id),
        event_type,
        schema: 1,
        subject,
        actor,
        run: None,
        cause: None,
        occurred_at: clock.now(),
        commitment: salted.commitment(),
        algorithm: crate::chain::entry::PLAIN,
        key_id: String::new(),
        nonce: Vec::new(),
        payload: salted.into_bytes(),
        fence: None,
        recorded_at: None,
    })
}

type Waiting = (oneshot::Receiver<Result<Answer, AppendError>>, Sent);

#[derive(Debug)]
struct Sent {
    key: IdempotencyKey,
    fence: Option<Fence>,
}

/// What the caller gave, to be compared with what an earlier entry of the same key holds.
#[derive(Debug)]
pub(crate) struct Given {
    payload: String,
    sealed: bool,
}
