//! `ledger bench`: append and verify beside raw SQL, in one run, on one server, over the same rows, in alternating rounds.
//!
//! What counts are the ratios: a busy machine slows both sides of a round. The raw side gets every advantage that plain
//! SQL has: rows made beforehand, statements prepared, both rows in one round trip.

mod ours;
mod raw;
mod scratch;
mod series;

use std::time::Duration;

use sqlx::PgConnection;

use self::ours::Ours;
use self::raw::Raw;
use self::scratch::Scratch;
use self::series::{Answer, Kind, Series, Setting};
use super::Common;
use crate::args::Bench;
use crate::exit::{Exit, Failure, environment};
use crate::output;

/// Connections left free for the store, its followers and the administrator.
const CONNECTIONS_SPARED: i64 = 20;

pub(crate) async fn run(common: &Common<'_>, args: &Bench) -> Result<Exit, Failure> {
    let scratch = Scratch::make(common.environment).await?;
    let measured = tokio::select! {
        measured = measure(&scratch, args) => measured,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Unknown, anyhow::anyhow!("interrupted"))),
    };
    scratch.remove().await?;
    let answer = measured?;
    if common.json {
        output::json(&answer)?;
    } else {
        answer.print()?;
    }
    Ok(Exit::Yes)
}

async fn measure(scratch: &Scratch, args: &Bench) -> Result<Answer, Failure> {
    let mut admin = scratch.connect().await?;
    let setting = Setting::of(&mut admin, args).await?;
    let ours = Ours::new(scratch.ledger().await?, args.payload as usize)?;
    let entries = args.entries as usize;
    let rounds = args.rounds as usize;
    // Not measured: the owners' keys and the statements' plans are made, and rows are there to be copied.
    ours.append_all(entries).await?;
    let raw = Raw::of(ours.store().id().uuid(), &mut admin).await?;
    let mut clients = clients(scratch, &mut admin).await?;

    let mut series = Vec::new();
    for (kind, writers, count) in [
        (Kind::Append1, 1, (entries / 8).max(1)),
        (Kind::Append32, 32, entries),
        (Kind::Append256, 256, entries),
    ] {
        let raw_writers = writers.min(clients.len());
        let mut one = Series::new(kind, count, raw_writers);
        for round in 0..rounds {
            // Who goes first changes from round to round.
            let both = if round % 2 == 0 {
                let ours = ours.append(writers, count).await?;
                (ours, raw.insert(&mut clients, raw_writers, count).await?)
            } else {
                let raw = raw.insert(&mut clients, raw_writers, count).await?;
                (ours.append(writers, count).await?, raw)
            };
            one.add(both);
        }
        series.push(one);
    }
    let mut bulk = Series::new(Kind::Bulk, 4 * entries, 1);
    for round in 0..rounds {
        let count = 4 * entries;
        bulk.add(if round % 2 == 0 {
            let ours = ours.append_all(count).await?;
            (ours, raw.insert_many(&mut admin, count).await?)
        } else {
            let raw = raw.insert_many(&mut admin, count).await?;
            (ours.append_all(count).await?, raw)
        });
    }
    series.push(bulk);
    let (size, _) = ours.verify().await?;
    Raw::copy_out(&mut admin).await?;
    let mut verify = Series::new(Kind::Verify, usize::try_from(size).unwrap_or(usize::MAX), 1);
    for _ in 0..rounds {
        let (_, ours) = ours.verify().await?;
        verify.add((ours, Raw::copy_out(&mut admin).await?));
    }
    series.push(verify);

    ours.close().await;
    for client in clients {
        scratch::close(client).await?;
    }
    scratch::close(admin).await?;
    Ok(Answer::new(&series, setting))
}

/// Raw clients: 256, or as many as the server lets in.
async fn clients(
    scratch: &Scratch,
    admin: &mut PgConnection,
) -> Result<Vec<PgConnection>, Failure> {
    let free: i64 = sqlx::query_scalar(
        "select current_setting('max_connections')::bigint \
                - current_setting('superuser_reserved_connections')::bigint - count(*) \
         from pg_stat_activity where backend_type = 'client backend'",
    )
    .fetch_one(&mut *admin)
    .await
    .map_err(environment("count the free connections"))?;
    let count = (free - CONNECTIONS_SPARED).clamp(1, 256);
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(scratch.connect().await?);
    }
    Ok(clients)
}

/// Seconds as the ratios need them.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-9)
}
