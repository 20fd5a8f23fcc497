//! The database of one measurement: made for it, durable as any other, and removed again.

use std::path::PathBuf;

use ledger::chain::entry::FORMAT;
use ledger::chain::note::NoteSigner;
use ledger::domain::event::{Event, LedgerCreated};
use ledger::domain::id::Actor;
use ledger::store::connect::{NewLedger, create_ledger, parse_address};
use ledger::store::embedded::{self, Embedded, EmbeddedEnv, EmbeddedOptions, Home};
use ledger::store::keys::{Kek, random};
use ledger::store::{Admin, Clock, Store, connect};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use crate::database::{connect_failure, embedded_failure, environment_key};
use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment};

/// Connections of the store that is measured: as many as every command has.
const STORE_CONNECTIONS: u32 = 8;
/// Connections that our own server allows: 256 raw clients, the store's and an administrator's.
const SERVER_CONNECTIONS: u32 = 256 + 44;

/// The tables for the raw statements: same columns, same indexes and constraints.
const RAW_TABLES: &str = "
    create schema bench;
    create table bench.entries (like ledger.entries including all);
    create table bench.payloads (like ledger.payloads including all);
";

/// The roles, which belong to the whole server; without the last column's they were made for the measurement.
const ROLES: [&str; 3] = ["ledger_reader", "ledger_writer", "ledger_owner"];

/// A database with one ledger and the raw tables.
pub(super) struct Scratch {
    options: PgConnectOptions,
    server: Server,
}

enum Server {
    /// Our own, in a temporary home.
    Own {
        server: Embedded,
        home: tempfile::TempDir,
    },
    /// That of `DATABASE_URL`, in which a database was made.
    Given {
        maintenance: PgConnectOptions,
        name: String,
        /// The ledger's roles were not there before.
        made_roles: bool,
    },
}

impl Scratch {
    /// Makes the database.
    pub(super) async fn make(environment: &Environment) -> Result<Self, Failure> {
        let scratch = match environment.get("DATABASE_URL") {
            None => Self::own().await?,
            Some(url) => Self::given(url).await?,
        };
        match scratch.prepare().await {
            Ok(()) => Ok(scratch),
            Err(failure) => {
                scratch.remove().await?;
                Err(failure)
            }
        }
    }

    async fn own() -> Result<Self, Failure> {
        // Not /tmp: where that is memory, nothing in it is ever made durable.
        let kept = PathBuf::from("/var/tmp");
        let parent = if kept.is_dir() {
            kept
        } else {
            std::env::temp_dir()
        };
        let home = tempfile::Builder::new()
            .prefix("ledger-bench-")
            .tempdir_in(parent)
            .map_err(environment("make a temporary home"))?;
        let env = EmbeddedEnv::from_process();
        let path = Some(home.path().to_owned());
        let resolved = Home::resolve(path, &env)
            .map_err(|error| embedded_failure("make a temporary home", error))?;
        let mut options = EmbeddedOptions::new(resolved, env);
        options.max_connections = SERVER_CONNECTIONS;
        let server = embedded::start(&options)
            .await
            .map_err(|error| embedded_failure("start the embedded PostgreSQL", error))?;
        Ok(Self {
            options: server.admin_options(),
            server: Server::Own { server, home },
        })
    }

    async fn given(url: &str) -> Result<Self, Failure> {
        let maintenance = parse_address(url).map_err(|error| Failure::new(Exit::Usage, error))?;
        let mut admin = connect_as(&maintenance).await?;
        let there: i64 = sqlx::query_scalar(
            "select count(*) from pg_roles where rolname in ('ledger_owner', 'ledger_writer', 'ledger_reader')",
        )
        .fetch_one(&mut admin)
        .await
        .map_err(environment("look for the ledger's roles"))?;
        let name = format!("ledger_bench_{}", Clock::system().uuid().simple());
        run(&mut admin, format!("create database {name}"))
            .await
            .map_err(|failure| {
                failure.hint(
                    "bench makes a database of its own: give an administrator's DATABASE_URL, or none",
                )
            })?;
        Ok(Self {
            options: maintenance.clone().database(&name),
            server: Server::Given {
                maintenance,
                name,
                made_roles: there == 0,
            },
        })
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let admin = Admin::prepare(&self.options)
            .await
            .map_err(connect_failure)?;
        admin.close().await.map_err(connect_failure)?;
        let mut admin = self.connect().await?;
        sqlx::raw_sql(RAW_TABLES)
            .execute(&mut admin)
            .await
            .map_err(environment("make the tables of the raw statements"))?;
        close(admin).await
    }

    /// A connection for raw statements, of the database's administrator.
    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        connect_as(&self.options).await
    }

    /// Makes a ledger and opens it as every command does.
    pub(super) async fn ledger(&self) -> Result<Store, Failure> {
        let (pool, _) = connect(self.options.clone(), STORE_CONNECTIONS)
            .await
            .map_err(connect_failure)?;
        let clock = Clock::system();
        let keks = vec![Kek::generate().map_err(environment_key)?];
        let seed = random().map_err(environment_key)?;
        let signer = NoteSigner::new("bench", &seed).map_err(Failure::usage)?;
        let created = Event::LedgerCreated(LedgerCreated {
            name: "bench".to_owned(),
            origin: "bench".to_owned(),
            format: FORMAT,
            clock: "system".to_owned(),
            checkpoint_key: signer.verifier_key().to_string(),
            parameters: std::collections::BTreeMap::new(),
        });
        let new = NewLedger {
            name: "bench".to_owned(),
            payload: created
                .to_json()
                .map_err(environment("write the first entry"))?,
            actor: Actor::system(),
            simulated: None,
        };
        let (row, _) = create_ledger(&pool, clock.ledger_id(), &new, keks.clone(), &clock)
            .await
            .map_err(connect_failure)?;
        Ok(Store::open(pool, row, keks, clock))
    }

    /// Removes all that was made.
    pub(super) async fn remove(self) -> Result<(), Failure> {
        match self.server {
            Server::Own { server, home } => {
                server
                    .close()
                    .await
                    .map_err(|error| embedded_failure("stop the embedded PostgreSQL", error))?;
                home.close()
                    .map_err(environment("remove the temporary home"))
            }
            Server::Given {
                maintenance,
                name,
                made_roles,
            } => {
                let mut admin = connect_as(&maintenance).await?;
                run(&mut admin, format!("drop database {name} with (force)")).await?;
                if made_roles {
                    for role in ROLES {
                        // Refused where another ledger came to be meanwhile: then they are that one's.
                        drop(run(&mut admin, format!("drop role {role}")).await);
                    }
                }
                close(admin).await
            }
        }
    }
}

async fn connect_as(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    options
        .connect()
        .await
        .map_err(environment("connect to the database"))
}

/// Runs a statement made of this program's own names.
async fn run(admin: &mut PgConnection, sql: String) -> Result<(), Failure> {
    let what = sql.clone();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(admin)
        .await
        .map(drop)
        .map_err(environment(what))
}

/// Ends a connection in order.
pub(super) async fn close(connection: PgConnection) -> Result<(), Failure> {
    connection
        .close()
        .await
        .map_err(environment("close a connection"))
}
