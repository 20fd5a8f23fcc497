//! Makes the roles, schemas, tables and functions, and refuses a schema of another version than this program's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr as _};

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        [$(($version, $name, include_str!(concat!("../../../schema/migrations/", $name, ".sql")))),+]
    };
}

/// Every migration, in order. Forward only, never edited once released.
const MIGRATIONS: &[(i64, &str, &str)] = &migrations![
    1 "0001_log",
    2 "0002_work",
    3 "0003_append",
    4 "0004_identify",
    5 "0005_proof",
    6 "0006_erasure",
    7 "0007_append_known_keys",
    8 "0008_made_up_rows",
    9 "0009_commands",
    10 "0010_claims",
];

/// Version of the schema that this program reads and writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The text of each function in the schema `ledger` after all migrations, as `pg_proc.prosrc` holds it.
pub(super) fn function_bodies() -> BTreeMap<&'static str, &'static str> {
    const CREATE: &str = "function ledger.";
    let mut bodies = BTreeMap::new();
    for (_, _, sql) in MIGRATIONS {
        let mut rest = *sql;
        // `create` or `create or replace`, both at the start of a line.
        while let Some(at) = rest.find(CREATE) {
            let line = rest[..at].rsplit('\n').next().unwrap_or_default();
            rest = &rest[at + CREATE.len()..];
            if !line.starts_with("create ") {
                continue;
            }
            let body = rest.split("$$").nth(1);
            if let (Some((name, _)), Some(body)) = (rest.split_once('('), body) {
                bodies.insert(name, body);
            }
        }
    }
    bodies
}

fn migrations() -> impl Iterator<Item = Migration> {
    MIGRATIONS.iter().map(|(version, name, sql)| {
        let sql = sql.into_sql_str();
        Migration::new(
            *version,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            sql,
            false,
        )
    })
}

/// Digest of each migration's text by its version, as the table of migrations keeps it.
pub(super) fn migration_checksums() -> BTreeMap<i64, Vec<u8>> {
    migrations()
        .map(|migration| (migration.version, migration.checksum.into_owned()))
        .collect()
}

/// The database could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A statement failed.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The database's answer.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed, or was edited after it had been applied.
    #[error("migrate the schema to version {SCHEMA_VERSION}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The server is older than what the schema needs.
    #[error("PostgreSQL {0} is older than 14, the oldest that is supported")]
    Server(i32),
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> MigrateError {
    move |source| MigrateError::Database { what, source }
}

/// Prepares a database as its administrator: roles once per server, schemas and tables once per database. Repeatable.
///
/// # Errors
/// The connection's role may not create roles or schemas; or the schema is of a newer program.
pub async fn migrate(admin: &mut PgConnection) -> Result<(), MigrateError> {
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut *admin)
        .await
        .map_err(failed("ask for the server's version"))?;
    if version < 140_000 {
        return Err(MigrateError::Server(version / 10_000));
    }
    sqlx::raw_sql(include_str!("../../../schema/roles.sql"))
        .execute(&mut *admin)
        .await
        .map_err(failed(
            "make the roles ledger_owner, ledger_writer and ledger_reader",
        ))?;
    let mut locked = admin.begin().await.map_err(failed("begin the migration"))?;
    sqlx::raw_sql(
        "select pg_advisory_xact_lock(7083202603003);
         do $$ begin
             if not pg_has_role(current_user, 'ledger_owner', 'member') then
                 execute format('grant ledger_owner to %I', current_user);
             end if;
         end $$;
         create schema if not exists ledger authorization ledger_owner;
         create schema if not exists ledger_work authorization ledger_owner;",
    )
    .execute(&mut *locked)
    .await
    .map_err(failed("make the schemas ledger and ledger_work"))?;
    locked
        .commit()
        .await
        .map_err(failed("make the schemas ledger and ledger_work"))?;

    sqlx::raw_sql("set role ledger_owner; set search_path = ledger, pg_catalog")
        .execute(&mut *admin)
        .await
        .map_err(failed("become ledger_owner"))?;
    let migrator = Migrator::with_migrations(migrations().collect());
    let migrated = migrator.run_direct(None, &mut *admin, false).await;
    let granted = "grant select on _sqlx_migrations to ledger_writer, ledger_reader";
    let migrated = match migrated {
        Ok(()) => sqlx::raw_sql(granted)
            .execute(&mut *admin)
            .await
            .map(drop)
            .map_err(Into::into),
        failed => failed,
    };
    sqlx::raw_sql("reset role; reset search_path")
        .execute(&mut *admin)
        .await
        .map_err(failed("leave ledger_owner"))?;
    migrated.map_err(MigrateError::Migrate)
}
