//! Connections: as administrator to prepare a database and make a ledger, and as the writer for everything else.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection, PgPool, Row as _};

use super::append::{AppendError, RowResult, append_in};
use super::keys::{Kek, KeyError, KeyRing};
use super::migrate::{MigrateError, SCHEMA_VERSION, migrate};
use super::{Clock, query};
use crate::chain::entry::Entry;
use crate::domain::id::{LedgerId, Subject, Timestamp};

/// A database could not be reached or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// `DATABASE_URL` is not a PostgreSQL address. The text is not repeated: it holds a password.
    #[error("read the database's address: it must look like postgresql://user:password@host/name")]
    Address,
    /// Nobody answered, or the login was refused.
    #[error("connect to the database")]
    Connect(#[source] sqlx::Error),
    /// A statement failed.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The database's answer.
        #[source]
        source: sqlx::Error,
    },
    /// The database holds no ledger schema.
    #[error("the database holds no ledger")]
    NoSchema,
    /// The schema is of another version.
    #[error("the database has schema version {found}, this program {SCHEMA_VERSION}")]
    SchemaVersion {
        /// Version found.
        found: i64,
    },
    /// The migration failed.
    #[error("prepare the database")]
    Migrate(#[source] MigrateError),
    /// A ledger of this name exists.
    #[error("a ledger named {0} exists in this database")]
    NameTaken(String),
    /// Keys could not be made.
    #[error("make the ledger's keys")]
    Key(#[source] KeyError),
    /// Entry 1 was not written.
    #[error("write the ledger's first entry")]
    First(#[source] AppendError),
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ConnectError {
    move |source| ConnectError::Database { what, source }
}

/// A ledger as its head row names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its id.
    pub id: LedgerId,
    /// Its name.
    pub name: String,
    /// True where the caller gives the time of recording (demo and tests only).
    pub simulated_clock: bool,
}

/// Reads an address as `DATABASE_URL` holds it.
pub fn parse_address(url: &str) -> Result<PgConnectOptions, ConnectError> {
    if !["postgresql://", "postgres://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(ConnectError::Address);
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Address)?;
    Ok(options.application_name("ledger"))
}

/// Longest that one attempt to connect may take.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// What was found out while connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privilege {
    /// The login is a superuser or an owner of the tables; the writer's role was set instead.
    pub lowered: bool,
}

/// Connects as the writer. A login that could do more gives that up first.
///
/// # Errors
/// [`ConnectError::NoSchema`] and [`ConnectError::SchemaVersion`] besides what the connection fails with.
pub async fn connect(
    options: PgConnectOptions,
    connections_max: u32,
) -> Result<(PgPool, Privilege), ConnectError> {
    // A pool goes on trying and then says only that time ran out; a single attempt says what is wrong.
    let options = options.disable_statement_logging();
    let first = tokio::time::timeout(CONNECT_LIMIT, options.connect())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(ConnectError::Connect)?;
    first.close().await.map_err(ConnectError::Connect)?;
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(std::time::Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(LOWER).execute(connection).await?;
                Ok(())
            })
        })
        // A statement that waits its turn in a busy ledger is no news for a person, and its text is none of theirs.
        .connect_with(options)
        .await
        .map_err(ConnectError::Connect)?;
    let row = query(
        "select current_user <> session_user as lowered, \
                to_regclass('ledger._sqlx_migrations') is not null as prepared",
    )
    .fetch_one(&pool)
    .await
    .map_err(failed("ask who we are"))?;
    let read = |column| {
        row.try_get::<bool, _>(column)
            .map_err(failed("ask who we are"))
    };
    let (lowered, prepared) = (read("lowered")?, read("prepared")?);
    if !prepared {
        return Err(ConnectError::NoSchema);
    }
    check_version(&pool).await?;
    Ok((pool, Privilege { lowered }))
}

/// Sets the writer's role where the login is a superuser or an owner.
const LOWER: &str = "do $$ begin
    if exists (select from pg_roles where rolname = 'ledger_owner')
       and pg_has_role(session_user, 'ledger_owner', 'member') then
        set role ledger_writer;
    end if;
end $$";

async fn check_version(pool: &PgPool) -> Result<(), ConnectError> {
    let found: i64 =
        query("select coalesce(max(version), 0) as version from ledger._sqlx_migrations")
            .fetch_one(pool)
            .await
            .and_then(|row| row.try_get("version"))
            .map_err(failed("read the schema's version"))?;
    if found == SCHEMA_VERSION {
        Ok(())
    } else {
        Err(ConnectError::SchemaVersion { found })
    }
}

/// The ledgers of a database, by name.
pub async fn ledgers(pool: &PgPool) -> Result<Vec<LedgerRow>, ConnectError> {
    // A head of size 0 beside entries was edited: verify has to get at it.
    let rows = query(
            "select ledger_id, name, clock from ledger.heads h \
             where size > 0 or exists (select from ledger.entries e where e.ledger_id = h.ledger_id) \
             order by name",
        )
        .fetch_all(pool)
        .await
        .map_err(failed("list the ledgers"))?;
    rows.iter()
        .map(|row| {
            Ok(LedgerRow {
                id: LedgerId::new(row.try_get("ledger_id")?),
                name: row.try_get("name")?,
                simulated_clock: row.try_get::<&str, _>("clock")? == "simulated",
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(failed("list the ledgers"))
}

/// A ledger that has entries and no head row. Looks at every entry: to be asked only where a ledger was not found.
pub async fn without_head(pool: &PgPool) -> Result<Option<LedgerId>, ConnectError> {
    let row = query(
        "select e.ledger_id from ledger.entries e \
         where not exists (select from ledger.heads h where h.ledger_id = e.ledger_id) limit 1",
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("look for entries without a head"))?;
    row.map(|row| row.try_get("ledger_id").map(LedgerId::new))
        .transpose()
        .map_err(failed("look for entries without a head"))
}

/// An administrator's connection: prepares the database, makes the writer's login.
#[derive(Debug)]
pub struct Admin {
    connection: PgConnection,
}

impl Admin {
    /// Connects and brings the schema to this program's version.
    pub async fn prepare(options: &PgConnectOptions) -> Result<Self, ConnectError> {
        let mut connection = options.connect().await.map_err(ConnectError::Connect)?;
        migrate(&mut connection)
            .await
            .map_err(ConnectError::Migrate)?;
        Ok(Self { connection })
    }

    /// Makes a login that may append and read, and nothing else. `None` where it exists: its password is not touched.
    pub async fn create_login(
        &mut self,
        login: &str,
        password: &str,
    ) -> Result<bool, ConnectError> {
        let what = "make the writer's login";
        let created: bool = query(
            "select not exists (select from pg_roles where rolname = $1) as created, \
                    pg_advisory_lock(7083202603001)",
        )
        .bind(login)
        .fetch_one(&mut self.connection)
        .await
        .and_then(|row| row.try_get("created"))
        .map_err(failed(what))?;
        if created {
            let quoted: String = query("select format('create role %I login password %L in role ledger_writer', $1::text, $2::text) as sql")
                .bind(login)
                .bind(password)
                .fetch_one(&mut self.connection)
                .await
                .and_then(|row| row.try_get("sql"))
                .map_err(failed(what))?;
            // `format` quoted both parts; the password is our own random hex.
            let made = sqlx::raw_sql(AssertSqlSafe(quoted))
                .execute(&mut self.connection)
                .await;
            made.map_err(failed(what))?;
        }
        query("select pg_advisory_unlock(7083202603001)")
            .execute(&mut self.connection)
            .await
            .map_err(failed(what))?;
        Ok(created)
    }

    /// Closes the connection.
    pub async fn close(self) -> Result<(), ConnectError> {
        self.connection
            .close()
            .await
            .map_err(failed("close the connection"))
    }
}

/// What entry 1 says, beside the ledger's id.
#[derive(Debug, Clone)]
pub struct NewLedger {
    /// Name, `[a-z0-9._-]`.
    pub name: String,
    /// Payload of `ledger.created`, a JSON object.
    pub payload: String,
    /// Who makes it.
    pub actor: crate::domain::id::Actor,
    /// `Some` makes a ledger with a simulated clock, starting there.
    pub simulated: Option<Timestamp>,
}

/// Makes a ledger with its index key and entry 1, in one transaction: it is there whole or not at all.
pub async fn create_ledger(
    pool: &PgPool,
    id: LedgerId,
    new: &NewLedger,
    keks: Vec<Kek>,
    clock: &Clock,
) -> Result<(LedgerRow, Entry), ConnectError> {
    let mut transaction = pool.begin().await.map_err(failed("begin"))?;
    let mode = if new.simulated.is_some() {
        "simulated"
    } else {
        "system"
    };
    query("select ledger.create($1, $2, $3)")
        .bind(id.uuid())
        .bind(&new.name)
        .bind(mode)
        .execute(&mut *transaction)
        .await
        .map_err(
            |error| match error.as_database_error().and_then(|e| e.constraint()) {
                Some("heads_name") => ConnectError::NameTaken(new.name.clone()),
                _ => failed("make the ledger's head")(error),
            },
        )?;
    let index_owner = Subject::of_ledger(id);
    let index_key = KeyRing::new(id, keks)
        .generate(&index_owner)
        .map_err(ConnectError::Key)?;
    query(
        "select ledger.identify($1, array[$2], array[$3], array[$4], array[$5], array[$6], \
                                '{}', '{}', '{}', '{}', '{}', '{}', '{}', null)",
    )
    .bind(id.uuid())
    .bind(&index_key.key_id)
    .bind(index_owner.to_string())
    .bind(&index_key.kek_id)
    .bind(&index_key.nonce)
    .bind(&index_key.wrapped)
    .execute(&mut *transaction)
    .await
    .map_err(failed("make the ledger's index key"))?;
    let first = super::first_row(id, new, clock).map_err(ConnectError::Key)?;
    let mut results = append_in(&mut transaction, id, &[&first])
        .await
        .map_err(failed("write the ledger's first entry"))?;
    let entry = match results.pop() {
        Some(Ok(RowResult::Appended(entry))) => entry,
        Some(Err(error)) => return Err(ConnectError::First(error)),
        _ => return Err(ConnectError::First(AppendError::Closed)),
    };
    transaction
        .commit()
        .await
        .map_err(failed("commit the new ledger"))?;
    let simulated_clock = new.simulated.is_some();
    Ok((
        LedgerRow {
            id,
            name: new.name.clone(),
            simulated_clock,
        },
        entry,
    ))
}
