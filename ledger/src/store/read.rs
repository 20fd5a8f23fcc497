//! Reads in the order of the chain: one entry, a stream, the stream that goes on.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgListener, PgRow};
use sqlx::{PgPool, Row as _};

use super::keys::{SEALED, payload_aad};
use super::payload::PayloadText;
use super::{Store, query};
use crate::chain::entry::{Entry, Hash, PLAIN, commitment_of_salted, leaf_hash};
use crate::chain::verify::Head;
use crate::domain::id::{EventType, LedgerId, RunId, Subject, Timestamp};

/// Entries fetched at once; bounds memory whatever the length of the log.
const PAGE: i64 = 500;
/// How often a follower looks without having been told.
const POLL: Duration = Duration::from_secs(1);

/// How long a follower tries to read on after its connection broke.
const RECONNECT_FOR: Duration = Duration::from_mins(1);
/// Shortest time between two notices.
const NOTIFY_EVERY: Duration = Duration::from_millis(20);

/// A read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database's answer.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: sqlx::Error,
    },
    /// The ledger is not in this database any more.
    #[error("ledger {0} is not in this database")]
    NoLedger(LedgerId),
    /// The stored tree does not lead to a checkpoint, so that what lies before it has to be read.
    #[error("begin behind the checkpoint of {size} entries: {why}")]
    Unproven {
        /// Its size.
        size: u64,
        /// Why not.
        why: String,
    },
    /// A row holds no sound entry; reading on would give answers that rest on nothing.
    #[error("entry {seq} is damaged: run `ledger verify`")]
    Damaged {
        /// Which entry.
        seq: i64,
    },
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ReadError {
    move |source| ReadError::Database { what, source }
}

/// An entry with its bytes and payload.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The entry.
    pub entry: Entry,
    /// Its canonical text.
    pub text: String,
    /// Its hash.
    pub hash: Hash,
    /// Its payload, as far as the keys at hand open it.
    pub payload: PayloadText,
}

/// The page that comes next.
enum Upcoming {
    /// It begins behind this entry.
    After(u64),
    /// It was fetched already.
    Rows(Vec<PgRow>),
}

/// Which entries to read. Everything is joined by and; the default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this number on.
    pub from: Option<u64>,
    /// Up to and with this number.
    pub to: Option<u64>,
    /// Recorded at or before this time.
    pub as_of: Option<Timestamp>,
    /// Of one of these types.
    pub types: Vec<EventType>,
    /// About this subject.
    pub subject: Option<Subject>,
    /// Of this run.
    pub run: Option<RunId>,
}

/// The head row. A time that no entry can have comes as none: an edited one may lie beyond what the client can hold.
pub(super) const HEAD: &str = "select size, hash, name, clock, \
    case when recorded_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00' \
         then recorded_at end as recorded_at \
    from ledger.heads where ledger_id = $1";

/// The head of a ledger.
pub async fn head(pool: &PgPool, ledger: LedgerId) -> Result<Head, ReadError> {
    let row = query(HEAD)
        .bind(ledger.uuid())
        .fetch_optional(pool)
        .await
        .map_err(failed("read the head"))?
        .ok_or(ReadError::NoLedger(ledger))?;
    head_of(&row).map_err(failed("read the head"))
}

pub(super) fn head_of(row: &PgRow) -> Result<Head, sqlx::Error> {
    let recorded_at: Option<chrono::DateTime<chrono::Utc>> = row.try_get("recorded_at")?;
    Ok(Head {
        size: row.try_get::<i64, _>("size")?.unsigned_abs(),
        hash: Hash::from_slice(row.try_get("hash")?).unwrap_or(Hash::ZERO),
        recorded_at: recorded_at.map(|time| time.timestamp_micros()),
    })
}

impl Store {
    /// The head: number of entries and hash of the last.
    pub async fn head(&self) -> Result<Head, ReadError> {
        head(self.pool(), self.id()).await
    }

    /// Time of recording for what the program itself appends: the head's in a ledger with a simulated clock, else none.
    pub async fn simulated_now(&self) -> Result<Option<Timestamp>, ReadError> {
        if !self.row().simulated_clock {
            return Ok(None);
        }
        let micros = self.head().await?.recorded_at;
        Ok(micros.and_then(|micros| Timestamp::from_micros(micros).ok()))
    }

    /// One entry by its number.
    pub async fn get(&self, seq: u64) -> Result<Option<Recorded>, ReadError> {
        let filter = Filter {
            from: Some(seq),
            to: Some(seq),
            ..Filter::default()
        };
        Ok(self.page(&filter, 0).await?.pop())
    }

    /// Entries in order, read page by page, each while the one before is opened. What is appended meanwhile is read too, up to `to`.
    pub fn read(&self, filter: Filter) -> impl Stream<Item = Result<Recorded, ReadError>> + Send {
        let store = self.clone();
        futures_util::stream::try_unfold(Upcoming::After(0), move |upcoming| {
            let (store, filter) = (store.clone(), filter.clone());
            async move {
                let rows = match upcoming {
                    Upcoming::After(seq) => store.rows(&filter, seq).await?,
                    Upcoming::Rows(rows) => rows,
                };
                let Some(last) = rows.last() else {
                    return Ok(None);
                };
                let last: i64 = last.try_get("seq").map_err(failed("read an entry"))?;
                let next = async {
                    if i64::try_from(rows.len()).unwrap_or(0) < PAGE {
                        return Ok(Vec::new());
                    }
                    store.rows(&filter, last.unsigned_abs()).await
                };
                // The query comes first, so that the server is at work while this opens.
                let (next, page) = futures_util::try_join!(next, store.opened(&rows))?;
                let page = futures_util::stream::iter(page.into_iter().map(Ok));
                Ok(Some((page, Upcoming::Rows(next))))
            }
        })
        .try_flatten()
    }

    /// Entries in order like [`Self::read`]; one that is damaged stands among them as its number and does not end the
    /// stream, for answers that have to say what they do not know.
    pub fn read_each(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<Result<Recorded, u64>, ReadError>> + Send {
        let store = self.clone();
        futures_util::stream::try_unfold(Some(0), move |after| {
            let (store, filter) = (store.clone(), filter.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let rows = store.rows(&filter, after).await?;
                let mut page = Vec::with_capacity(rows.len());
                let mut last = None;
                for row in &rows {
                    let seq: i64 = row.try_get("seq").map_err(failed("read an entry"))?;
                    last = Some(seq.unsigned_abs());
                    page.push(match store.recorded(row).await {
                        Err(ReadError::Damaged { seq }) => Ok(Err(seq.unsigned_abs())),
                        other => other.map(Ok),
                    });
                }
                let next = last.filter(|_| i64::try_from(page.len()).unwrap_or(0) == PAGE);
                Ok((!page.is_empty()).then(|| (futures_util::stream::iter(page), next)))
            }
        })
        .try_flatten()
    }

    /// Entries in order, and then those that come, until the caller stops. A lost notice costs at most a second.
    pub fn follow(&self, filter: Filter) -> impl Stream<Item = Result<Recorded, ReadError>> + Send {
        let store = self.clone();
        futures_util::stream::try_unfold((0, None), move |(after, listener)| {
            let (store, filter) = (store.clone(), filter.clone());
            async move {
                let mut listener: Option<PgListener> = match listener {
                    None => store.listen().await,
                    some => some,
                };
                let mut failing: Option<tokio::time::Instant> = None;
                loop {
                    let page = match store.page(&filter, after).await {
                        Err(ReadError::Database { source, .. })
                            if super::append::is_connection_error(&source)
                                && failing.is_none_or(|since| since.elapsed() < RECONNECT_FOR) =>
                        {
                            failing.get_or_insert_with(tokio::time::Instant::now);
                            listener = None;
                            tokio::time::sleep(POLL).await;
                            continue;
                        }
                        page => page?,
                    };
                    failing = None;
                    if let Some(last) = page.last() {
                        let after = last.entry.seq;
                        let page = futures_util::stream::iter(page.into_iter().map(Ok));
                        return Ok(Some((page, (after, listener))));
                    }
                    listener = wait(listener).await;
                }
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn listen(&self) -> Option<PgListener> {
        // Behind a pooler LISTEN may be refused: then the polling alone has to do.
        let mut listener = PgListener::connect_with(self.pool()).await.ok()?;
        listener.listen(&channel(self.id())).await.ok()?;
        Some(listener)
    }

    pub(super) async fn rows(&self, filter: &Filter, after: u64) -> Result<Vec<PgRow>, ReadError> {
        let number = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let from = filter.from.unwrap_or(1).max(after + 1);
        let types: Vec<&str> = filter.types.iter().map(EventType::as_str).collect();
        query(
            "select e.seq, e.hash, e.bytes, p.algorithm, p.key_id, p.nonce, p.bytes as payload \
             from ledger.entries e \
             left join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq \
             where e.ledger_id = $1 and e.seq >= $2 and e.seq <= $3 \
               and ($4::timestamptz is null or e.recorded_at <= $4) \
               and (cardinality($5::text[]) = 0 or e.type = any($5)) \
               and ($6::text is null or e.subject = $6) \
               and ($7::uuid is null or e.run = $7) \
             order by e.seq limit $8",
        )
        .bind(self.id().uuid())
        .bind(number(from))
        .bind(filter.to.map_or(i64::MAX, number))
        .bind(filter.as_of.map(Timestamp::instant))
        .bind(types)
        .bind(filter.subject.as_ref().map(ToString::to_string))
        .bind(filter.run.map(RunId::uuid))
        .bind(PAGE)
        .fetch_all(self.pool())
        .await
        .map_err(failed("read entries"))
    }

    async fn page(&self, filter: &Filter, after: u64) -> Result<Vec<Recorded>, ReadError> {
        let rows = self.rows(filter, after).await?;
        self.opened(&rows).await
    }

    async fn opened(&self, rows: &[PgRow]) -> Result<Vec<Recorded>, ReadError> {
        self.fetch_keys(rows).await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            page.push(self.recorded(row).await?);
        }
        Ok(page)
    }

    /// Unwraps the keys of these payloads together, as far as they can be; the rest is asked for with each.
    async fn fetch_keys(&self, rows: &[PgRow]) -> Result<(), ReadError> {
        let mut unknown = BTreeSet::new();
        for row in rows {
            let key_id: Option<&str> = row.try_get("key_id").map_err(failed("read a payload"))?;
            unknown.extend(key_id.filter(|id| self.keys().cached_by_id(id).is_none()));
        }
        if unknown.len() < 2 {
            return Ok(());
        }
        let unknown: Vec<&str> = unknown.into_iter().collect();
        self.keys_by_id(&unknown)
            .await
            .map_err(failed("read the keys of payloads"))
    }

    async fn recorded(&self, row: &PgRow) -> Result<Recorded, ReadError> {
        let seq: i64 = row.try_get("seq").map_err(failed("read an entry"))?;
        let bytes: Vec<u8> = row.try_get("bytes").map_err(failed("read an entry"))?;
        let hash: &[u8] = row.try_get("hash").map_err(failed("read an entry"))?;
        let damaged = || ReadError::Damaged { seq };
        let entry = Entry::from_bytes(&bytes).map_err(|_| damaged())?;
        let computed = leaf_hash(&bytes);
        if Hash::from_slice(hash) != Some(computed) || Ok(entry.seq) != u64::try_from(seq) {
            return Err(damaged());
        }
        let payload = match row.try_get::<Option<&str>, _>("algorithm") {
            Ok(None) => self.missing_payload(seq.unsigned_abs()).await?,
            _ => self
                .open_row(&entry, row, "payload")
                .await
                .map_err(failed("read a payload"))?,
        };
        // Its key may have gone after the row was fetched.
        let payload = match payload {
            PayloadText::Damaged if self.has_keys() => match self.missing_payload(entry.seq).await?
            {
                erased @ PayloadText::Erased(_) => erased,
                _ => PayloadText::Damaged,
            },
            payload => payload,
        };
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        Ok(Recorded {
            entry,
            text,
            hash: computed,
            payload,
        })
    }

    pub(super) async fn open_payload(
        &self,
        entry: &Entry,
        row: &PgRow,
    ) -> Result<PayloadText, sqlx::Error> {
        self.open_row(entry, row, "bytes").await
    }

    async fn open_row(
        &self,
        entry: &Entry,
        row: &PgRow,
        column: &str,
    ) -> Result<PayloadText, sqlx::Error> {
        Ok(match self.unseal(entry, row, column).await? {
            Unsealed::Salted(salted) => PayloadText::from_committed(entry, &salted),
            Unsealed::NoKey => PayloadText::Sealed,
            Unsealed::Damaged => PayloadText::Damaged,
        })
    }

    /// Salt ‖ payload of a row with its entry, where there is one and the keys at hand open it.
    ///
    /// # Errors
    /// The database's; [`ReadError::Damaged`] where it is not what the entry commits to.
    pub(super) async fn salted(
        &self,
        entry: &Entry,
        row: &PgRow,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        if let Ok(None) = row.try_get::<Option<&str>, _>("algorithm") {
            return Ok(None);
        }
        let unsealed = self.unseal(entry, row, "payload").await;
        match unsealed.map_err(failed("read a payload"))? {
            Unsealed::Salted(salted) if commitment_of_salted(&salted) == Some(entry.commitment) => {
                Ok(Some(salted.into_owned()))
            }
            Unsealed::NoKey => Ok(None),
            _ => Err(ReadError::Damaged {
                seq: i64::try_from(entry.seq).unwrap_or(i64::MAX),
            }),
        }
    }

    async fn unseal<'r>(
        &self,
        entry: &Entry,
        row: &'r PgRow,
        column: &str,
    ) -> Result<Unsealed<'r>, sqlx::Error> {
        let bytes: &[u8] = row.try_get(column)?;
        let opened = match row.try_get::<&str, _>("algorithm")? {
            PLAIN => return Ok(Unsealed::Salted(Cow::Borrowed(bytes))),
            SEALED => self.key_by_id(row.try_get("key_id")?).await?,
            _ => return Ok(Unsealed::Damaged),
        };
        let nonce: &[u8] = row.try_get("nonce")?;
        let aad = payload_aad(self.id(), entry.id, &entry.event_type);
        Ok(match opened {
            super::verify::KeyState::Open(key) => match key.open(&aad, nonce, bytes) {
                Ok(salted) => Unsealed::Salted(Cow::Owned(salted)),
                Err(_) => Unsealed::Damaged,
            },
            super::verify::KeyState::Absent => Unsealed::NoKey,
            super::verify::KeyState::Damaged(_) => Unsealed::Damaged,
        })
    }
}

/// What came of opening a payload row.
enum Unsealed<'r> {
    /// Salt ‖ payload.
    Salted(Cow<'r, [u8]>),
    /// The key is not at hand.
    NoKey,
    /// It does not open.
    Damaged,
}

/// Tells followers that the ledger has grown: after the commits and never inside one, so that it holds up no append, and
/// once for all commits of a moment.
pub(super) async fn notify_followers(
    pool: PgPool,
    ledger: LedgerId,
    mut grown: tokio::sync::watch::Receiver<u64>,
) {
    while grown.changed().await.is_ok() {
        let size = *grown.borrow_and_update();
        // A message that a crash loses is made up for by polling: its commit need not wait for the disk.
        let told = query("select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)")
            .bind(channel(ledger))
            .bind(size.to_string())
            .execute(&pool)
            .await;
        if let Err(error) = told {
            tracing::debug!(%ledger, %error, "followers were not told; they poll");
        }
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}

fn channel(ledger: LedgerId) -> String {
    format!("ledger_{}", ledger.uuid().simple())
}

async fn wait(listener: Option<PgListener>) -> Option<PgListener> {
    let Some(mut listener) = listener else {
        tokio::time::sleep(POLL).await;
        return None;
    };
    match tokio::time::timeout(POLL, listener.recv()).await {
        // The connection is gone: poll, and listen anew the next time.
        Ok(Err(_)) => {
            tokio::time::sleep(POLL).await;
            None
        }
        _ => Some(listener),
    }
}
