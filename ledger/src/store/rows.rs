//! The two tables of the log in order of `seq`, each out of a connection and a task of its own, in one snapshot: the
//! server reads both at a time, and what depends on one row alone is worked out while other rows are on their way.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Store;
use super::copy::{CopyError, CopyReader, Row};
use super::read::ReadError;
use crate::chain::entry::Hash;
use crate::chain::verify::{ReadBytes, StoredEntry, StoredPayload};

/// Rows go from task to task in batches of this length in bytes, or one longer row.
const BATCH_BYTES: usize = 128 * 1024;
/// Batches that wait between two tasks.
const BATCHES: usize = 4;

const ENTRY_FIELDS: usize = 9;
const PAYLOAD_FIELDS: usize = 5;

fn failed(source: sqlx::Error) -> ReadError {
    ReadError::Database {
        what: "read the log",
        source,
    }
}

fn malformed(source: CopyError) -> ReadError {
    failed(sqlx::Error::Protocol(source.into()))
}

/// A row of `ledger.entries`.
#[derive(Debug)]
pub(super) struct EntryRow(Row<ENTRY_FIELDS>);

impl EntryRow {
    #[expect(clippy::unnecessary_wraps, reason = "as of the other table's rows")]
    fn of(row: Row<ENTRY_FIELDS>) -> Result<(usize, (Self, ReadBytes)), CopyError> {
        let read = ReadBytes::of(row.bytes(8).unwrap_or_default());
        Ok((row.len(), (Self(row), read)))
    }

    /// Its number.
    pub(super) fn seq(&self) -> Result<i64, ReadError> {
        self.0.int8(0).map_err(malformed)
    }

    /// Takes the row apart.
    pub(super) fn stored(&self) -> Result<StoredEntry<'_>, ReadError> {
        stored_entry(&self.0).map_err(malformed)
    }
}

fn stored_entry(row: &Row<ENTRY_FIELDS>) -> Result<StoredEntry<'_>, CopyError> {
    Ok(StoredEntry {
        seq: row.int8(0)?,
        id: row.uuid(1)?.unwrap_or_default(),
        key: row.text(2)?,
        event_type: row.text(3)?,
        subject: row.text(4)?,
        run: row.uuid(5)?,
        recorded_at: row.micros(6)?,
        hash: row.bytes(7).unwrap_or_default(),
        bytes: row.bytes(8).unwrap_or_default(),
    })
}

/// A row of `ledger.payloads`, and its digest.
#[derive(Debug)]
pub(super) struct PayloadRow {
    row: Row<PAYLOAD_FIELDS>,
    pub(super) seq: i64,
    pub(super) digest: Hash,
}

impl PayloadRow {
    fn of(row: Row<PAYLOAD_FIELDS>) -> Result<(usize, Self), CopyError> {
        let seq = row.int8(0)?;
        let digest = stored_payload(&row)?.digest();
        Ok((row.len(), Self { row, seq, digest }))
    }

    /// Takes the row apart.
    pub(super) fn stored(&self) -> Result<StoredPayload<'_>, ReadError> {
        stored_payload(&self.row).map_err(malformed)
    }
}

fn stored_payload(row: &Row<PAYLOAD_FIELDS>) -> Result<StoredPayload<'_>, CopyError> {
    Ok(StoredPayload {
        algorithm: row.text(1)?,
        key_id: row.text(2)?,
        nonce: row.bytes(3).unwrap_or_default(),
        bytes: row.bytes(4).unwrap_or_default(),
    })
}

/// Rows of one table as they come.
#[derive(Debug)]
pub(super) struct Rows<T> {
    batches: mpsc::Receiver<Result<Vec<T>, ReadError>>,
    batch: std::vec::IntoIter<T>,
    _task: AbortOnDropHandle<()>,
}

impl<T> Rows<T> {
    /// The next row, or none at the end of the table.
    pub(super) async fn next(&mut self) -> Result<Option<T>, ReadError> {
        loop {
            if let Some(row) = self.batch.next() {
                return Ok(Some(row));
            }
            match self.batches.recv().await {
                Some(batch) => self.batch = batch?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

impl Store {
    /// The rows of the entries behind `after`, their bytes read, in the snapshot of this name, which its transaction must keep while they are read.
    pub(super) fn entry_rows(&self, snapshot: &str, after: u64) -> Rows<(EntryRow, ReadBytes)> {
        let selected =
            "seq, id, key, type, subject, run, recorded_at, hash, bytes from ledger.entries";
        self.copied(selected, snapshot, after, EntryRow::of)
    }

    /// The rows of the payloads, as [`Store::entry_rows`].
    pub(super) fn payload_rows(&self, snapshot: &str, after: u64) -> Rows<PayloadRow> {
        let selected = "seq, algorithm, key_id, nonce, bytes from ledger.payloads";
        self.copied(selected, snapshot, after, PayloadRow::of)
    }

    fn copied<T: Send + 'static, const N: usize>(
        &self,
        selected: &str,
        snapshot: &str,
        after: u64,
        of: fn(Row<N>) -> Result<(usize, T), CopyError>,
    ) -> Rows<T> {
        let (sender, batches) = mpsc::channel(BATCHES);
        let pool = self.pool().clone();
        let begin = begin_statement(snapshot);
        let ledger = self.id();
        // An edited row may stand at a number below 1: where all are read, all are.
        let behind = match after {
            0 => String::new(),
            after => format!(" and seq > {after}"),
        };
        let copy = format!(
            "copy (select {selected} where ledger_id = '{ledger}'{behind} order by seq) to stdout (format binary)"
        );
        let task = tokio::spawn(async move {
            let read = async {
                let mut connection = pool.acquire().await.map_err(failed)?;
                sqlx::raw_sql(sqlx::AssertSqlSafe(begin))
                    .execute(&mut *connection)
                    .await
                    .map_err(failed)?;
                let chunks = copy_out(&mut connection, &copy).await?;
                if send_rows(chunks, &sender, of).await? {
                    let ended = sqlx::raw_sql("rollback").execute(&mut *connection).await;
                    ended.map(drop).map_err(failed)
                } else {
                    // Not given back in the middle of a COPY, whose rest it would have to read first.
                    drop(connection.detach());
                    Ok(())
                }
            };
            if let Err(error) = read.await {
                // Where nobody listens any more, nobody is told.
                drop(sender.send(Err(error)).await);
            }
        });
        Rows {
            batches,
            batch: Vec::new().into_iter(),
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn copy_out<'c>(
    connection: &'c mut PgConnection,
    statement: &str,
) -> Result<impl Stream<Item = Result<Bytes, sqlx::Error>> + use<'c>, ReadError> {
    connection.copy_out_raw(statement).await.map_err(failed)
}

/// Sends the rows in batches; false where nobody takes them any more.
async fn send_rows<T, const N: usize>(
    mut chunks: impl Stream<Item = Result<Bytes, sqlx::Error>> + Unpin,
    sender: &mpsc::Sender<Result<Vec<T>, ReadError>>,
    of: fn(Row<N>) -> Result<(usize, T), CopyError>,
) -> Result<bool, ReadError> {
    let mut reader = CopyReader::<N>::default();
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
        reader.feed(chunk);
        while let Some(row) = reader.next_row().map_err(malformed)? {
            let (length, row) = of(row).map_err(malformed)?;
            batch.push(row);
            bytes += length;
            if bytes >= BATCH_BYTES {
                bytes = 0;
                // The next one will be about as long.
                let next = Vec::with_capacity(batch.len());
                let full = std::mem::replace(&mut batch, next);
                if sender.send(Ok(full)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
    if !reader.ended() {
        return Err(malformed(CopyError::cut_off()));
    }
    Ok(sender.send(Ok(batch)).await.is_ok())
}

/// The rows come in the order of the key's index, one by one from the first on: a sort would wait for them all.
fn begin_statement(snapshot: &str) -> String {
    format!(
        "begin transaction isolation level repeatable read, read only; \
         set transaction snapshot '{snapshot}'; \
         set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off; \
         set local max_parallel_workers_per_gather = 0; set local jit = off"
    )
}
