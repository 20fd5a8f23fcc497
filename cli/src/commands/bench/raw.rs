//! The raw side: the same columns written and read by plain SQL, which hashes, links and checks nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use ledger::store::Clock;
use sqlx::{PgConnection, Row as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::exit::{Failure, environment};

/// One statement, one round trip, one commit, prepared once per connection: the fastest way to write both rows.
const INSERT: &str = "
    with entry as (
        insert into bench.entries (ledger_id, seq, id, key, type, subject, run, recorded_at, hash, bytes)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10))
    insert into bench.payloads (ledger_id, seq, algorithm, key_id, nonce, bytes)
    values ($1, $2, $11, $12, $13, $14)";

const INSERT_MANY: &str = "
    with entry as (
        insert into bench.entries (ledger_id, seq, id, key, type, subject, run, recorded_at, hash, bytes)
        select $1, * from unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                                 $8::timestamptz[], $9::bytea[], $10::bytea[]))
    insert into bench.payloads (ledger_id, seq, algorithm, key_id, nonce, bytes)
    select $1, * from unnest($2::bigint[], $11::text[], $12::text[], $13::bytea[], $14::bytea[])";

/// Rows of one multi-row INSERT: as many as one of our groups.
const MANY: usize = 1_024;

/// A row of each table, as the ledger wrote it.
#[derive(Debug, Clone)]
struct Template {
    event_type: String,
    subject: String,
    run: Option<Uuid>,
    recorded_at: DateTime<Utc>,
    hash: Vec<u8>,
    bytes: Vec<u8>,
    algorithm: String,
    key_id: String,
    nonce: Vec<u8>,
    payload: Vec<u8>,
}

/// A template with the values that must be new in each row.
struct NewRow {
    seq: i64,
    id: Uuid,
    key: String,
    of: Arc<Template>,
}

/// Writes copies of the ledger's own rows.
pub(super) struct Raw {
    ledger: Uuid,
    templates: Vec<Arc<Template>>,
    next: AtomicI64,
    clock: Clock,
}

impl Raw {
    /// Reads the rows that are to be copied: those the ledger has so far.
    pub(super) async fn of(ledger: Uuid, connection: &mut PgConnection) -> Result<Self, Failure> {
        let rows = sqlx::query(
            "select e.type, e.subject, e.run, e.recorded_at, e.hash, e.bytes, \
                    p.algorithm, p.key_id, p.nonce, p.bytes as payload \
             from ledger.entries e join ledger.payloads p using (ledger_id, seq) \
             where e.ledger_id = $1 and e.seq > 1 order by e.seq",
        )
        .bind(ledger)
        .fetch_all(connection)
        .await;
        let read = |row: &sqlx::postgres::PgRow| -> Result<Arc<Template>, sqlx::Error> {
            Ok(Arc::new(Template {
                event_type: row.try_get("type")?,
                subject: row.try_get("subject")?,
                run: row.try_get("run")?,
                recorded_at: row.try_get("recorded_at")?,
                hash: row.try_get("hash")?,
                bytes: row.try_get("bytes")?,
                algorithm: row.try_get("algorithm")?,
                key_id: row.try_get("key_id")?,
                nonce: row.try_get("nonce")?,
                payload: row.try_get("payload")?,
            }))
        };
        let templates: Result<Vec<_>, _> = rows.and_then(|rows| rows.iter().map(read).collect());
        Ok(Self {
            ledger,
            templates: templates.map_err(environment("read the rows to be copied"))?,
            next: AtomicI64::new(1),
            clock: Clock::system(),
        })
    }

    /// So many rows, each with a new number, id and key.
    fn rows(&self, count: usize) -> Vec<NewRow> {
        let templates = self.templates.iter().cycle().take(count);
        templates
            .map(|of| {
                let id = self.clock.uuid();
                NewRow {
                    seq: self.next.fetch_add(1, Ordering::Relaxed),
                    id,
                    key: id.to_string(),
                    of: Arc::clone(of),
                }
            })
            .collect()
    }

    /// Single INSERTs by the first so many clients; the time from the first to the last.
    pub(super) async fn insert(
        &self,
        clients: &mut Vec<PgConnection>,
        writers: usize,
        count: usize,
    ) -> Result<Duration, Failure> {
        let mut shares: Vec<Vec<NewRow>> = (0..writers).map(|_| Vec::new()).collect();
        for (at, row) in self.rows(count).into_iter().enumerate() {
            shares[at % writers].push(row);
        }
        let busy = clients.split_off(clients.len() - writers);
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for (client, rows) in busy.into_iter().zip(shares) {
            tasks.spawn(insert_each(client, self.ledger, rows));
        }
        while let Some(ended) = tasks.join_next().await {
            let client = ended
                .map_err(environment("run a client"))?
                .map_err(environment("insert raw rows"))?;
            clients.push(client);
        }
        Ok(started.elapsed())
    }

    /// Multi-row INSERTs of as many rows as one of our groups has, one after the other.
    pub(super) async fn insert_many(
        &self,
        client: &mut PgConnection,
        count: usize,
    ) -> Result<Duration, Failure> {
        fn all<'a, T>(rows: &'a [NewRow], of: impl Fn(&'a NewRow) -> T) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        let rows = self.rows(count);
        let started = Instant::now();
        for rows in rows.chunks(MANY) {
            sqlx::query(INSERT_MANY)
                .bind(self.ledger)
                .bind(all(rows, |row| row.seq))
                .bind(all(rows, |row| row.id))
                .bind(all(rows, |row| row.key.as_str()))
                .bind(all(rows, |row| row.of.event_type.as_str()))
                .bind(all(rows, |row| row.of.subject.as_str()))
                .bind(all(rows, |row| row.of.run))
                .bind(all(rows, |row| row.of.recorded_at))
                .bind(all(rows, |row| row.of.hash.as_slice()))
                .bind(all(rows, |row| row.of.bytes.as_slice()))
                .bind(all(rows, |row| row.of.algorithm.as_str()))
                .bind(all(rows, |row| row.of.key_id.as_str()))
                .bind(all(rows, |row| row.of.nonce.as_slice()))
                .bind(all(rows, |row| row.of.payload.as_slice()))
                .execute(&mut *client)
                .await
                .map_err(environment("insert raw rows"))?;
        }
        Ok(started.elapsed())
    }

    /// Copies the columns that verify reads out of both tables of the ledger and drops them.
    pub(super) async fn copy_out(client: &mut PgConnection) -> Result<Duration, Failure> {
        let started = Instant::now();
        for copy in [
            "copy ledger.entries (seq, id, key, type, subject, run, recorded_at, hash, bytes) \
             to stdout (format binary)",
            "copy ledger.payloads (algorithm, key_id, nonce, bytes) to stdout (format binary)",
        ] {
            let what = "copy the tables out";
            let mut stream = client.copy_out_raw(copy).await.map_err(environment(what))?;
            while stream
                .try_next()
                .await
                .map_err(environment(what))?
                .is_some()
            {}
        }
        Ok(started.elapsed())
    }
}

async fn insert_each(
    mut client: PgConnection,
    ledger: Uuid,
    rows: Vec<NewRow>,
) -> Result<PgConnection, sqlx::Error> {
    for row in rows {
        sqlx::query(INSERT)
            .bind(ledger)
            .bind(row.seq)
            .bind(row.id)
            .bind(&row.key)
            .bind(&row.of.event_type)
            .bind(&row.of.subject)
            .bind(row.of.run)
            .bind(row.of.recorded_at)
            .bind(&row.of.hash)
            .bind(&row.of.bytes)
            .bind(&row.of.algorithm)
            .bind(&row.of.key_id)
            .bind(&row.of.nonce)
            .bind(&row.of.payload)
            .execute(&mut client)
            .await?;
    }
    Ok(client)
}
