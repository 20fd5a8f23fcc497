//! Checkpoints in another PostgreSQL, in a table of their own that is made on first use.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::Publication;
use crate::exit::{Failure, environment};

const TABLE: &str = "create table if not exists ledger_published_checkpoints (
    origin text not null,
    size bigint not null,
    note text not null,
    published_at timestamptz not null default now(),
    primary key (origin, size)
)";

/// Puts it into the table.
pub(super) async fn put(
    publication: &Publication<'_>,
    options: &PgConnectOptions,
) -> Result<(), Failure> {
    let what = "publish to the other PostgreSQL";
    let options = options
        .clone()
        .application_name("ledger")
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(environment(what))?;
    let put = put_in(publication, &mut connection).await?;
    connection.close().await.map_err(environment(what))?;
    match put {
        None => Ok(()),
        // One of that size was there: it has to be this one.
        Some(found) => {
            publication
                .extends("the other PostgreSQL", found.as_bytes())
                .await
        }
    }
}

async fn put_in(
    publication: &Publication<'_>,
    connection: &mut PgConnection,
) -> Result<Option<String>, Failure> {
    let failed = || environment::<sqlx::Error>("publish to the other PostgreSQL");
    let published = publication.published();
    let size = i64::try_from(published.size()).unwrap_or(i64::MAX);
    sqlx::query(TABLE)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    let last = sqlx::query(
        "select note from ledger_published_checkpoints where origin = $1 \
         order by published_at desc, size desc limit 1",
    )
    .bind(published.origin())
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed())?;
    if let Some(row) = last {
        let note: String = row.try_get("note").map_err(failed())?;
        publication
            .extends("the other PostgreSQL", note.as_bytes())
            .await?;
    }
    let inserted = sqlx::query(
        "insert into ledger_published_checkpoints (origin, size, note) values ($1, $2, $3) on conflict do nothing",
    )
    .bind(published.origin())
    .bind(size)
    .bind(publication.checkpoint.to_string())
    .execute(&mut *connection)
    .await
    .map_err(failed())?;
    if inserted.rows_affected() == 1 {
        return Ok(None);
    }
    let found = sqlx::query(
        "select note from ledger_published_checkpoints where origin = $1 and size = $2",
    )
    .bind(published.origin())
    .bind(size)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed())?;
    Ok(Some(found.try_get("note").map_err(failed())?))
}
