//! The guards of the log tables, attested: what keeps everybody from changing the log is itself part of what can be changed.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::migrate::{function_bodies, migration_checksums};
use super::query;
use super::read::ReadError;

fn failed(source: sqlx::Error) -> ReadError {
    ReadError::Database {
        what: "look at the guards",
        source,
    }
}

/// Names the guards that are off: triggers, owners, grants, rules and functions that are not what the schema makes them.
/// Empty where nothing but the program's functions can write the log.
pub(super) async fn guards_off(snapshot: &mut PgConnection) -> Result<Vec<String>, ReadError> {
    // `kind` has the events of each trigger as pg_trigger.tgtype does: before each row's update or delete, after a statement's, before truncate.
    let rows = query(
        "with log (name) as (values ('heads'), ('entries'), ('payloads'), ('keys'), ('identity'), \
                                   ('tree'), ('checkpoints'), ('cosignatures')), \
              guard (name, trigger, function) as ( \
                  values ('heads', 'moves_forward', 'head_moves_forward'), ('heads', 'refuse_delete', 'refuse_change'), \
                         ('entries', 'refuse_change', 'refuse_change'), \
                         ('tree', 'refuse_change', 'refuse_change'), ('checkpoints', 'refuse_change', 'refuse_change'), \
                         ('cosignatures', 'refuse_change', 'refuse_change'), ('payloads', 'refuse_update', 'refuse_change'), \
                         ('payloads', 'announced_delete', 'announced_only'), \
                         ('keys', 'announced_update', 'announced_only'), ('keys', 'announced_delete', 'announced_only'), \
                         ('identity', 'announced_update', 'announced_only'), \
                         ('identity', 'announced_delete', 'announced_only') \
                  union all \
                  select name, 'refuse_truncate', 'refuse_change' from log), \
              relation as (select log.name, c.* from log \
                           join pg_class c on c.relname = log.name \
                                and c.relnamespace = 'ledger'::regnamespace), \
              kind (trigger, tgtype) as (values ('moves_forward', 19), ('refuse_delete', 11), ('refuse_change', 27), \
                                                ('refuse_update', 19), ('announced_delete', 8), ('announced_update', 16), \
                                                ('refuse_truncate', 34)) \
         select format('trigger %s on ledger.%s is off', g.trigger, g.name) as what from guard g join kind using (trigger) \
         where not exists (select from pg_trigger t join relation r on r.oid = t.tgrelid \
                           join pg_proc p on p.oid = t.tgfoid \
                           where r.name = g.name and t.tgname = g.trigger and t.tgenabled = 'A' \
                             and t.tgtype = kind.tgtype and t.tgqual is null \
                             and p.proname = g.function and p.pronamespace = 'ledger'::regnamespace) \
         union all \
         select format('trigger %s on ledger.%s is not ours', t.tgname, r.name) \
         from relation r join pg_trigger t on t.tgrelid = r.oid \
         where not t.tgisinternal \
           and not exists (select from guard g where g.name = r.name and g.trigger = t.tgname) \
         union all \
         select format('rule %s on ledger.%s is not ours', w.rulename, r.name) \
         from relation r join pg_rewrite w on w.ev_class = r.oid \
         union all \
         select format('ledger.%s is not a plain table', r.name) from relation r \
         where r.relkind <> 'r' or r.relrowsecurity or r.relpersistence <> 'p' \
            or exists (select from pg_inherits i where r.oid in (i.inhparent, i.inhrelid)) \
         union all \
         select format('ledger.%s does not belong to ledger_owner', r.name) from relation r \
         where pg_get_userbyid(r.relowner) <> 'ledger_owner' \
         union all \
         select format('schema %s does not belong to ledger_owner', n.nspname) from pg_namespace n \
         where n.nspname = 'ledger' and pg_get_userbyid(n.nspowner) <> 'ledger_owner' \
         union all \
         select format('%s may create in schema ledger', coalesce(nullif(a.grantee, 0)::regrole::text, 'everybody')) \
         from pg_namespace n, aclexplode(n.nspacl) a \
         where n.nspname = 'ledger' and a.grantee <> n.nspowner and a.privilege_type = 'CREATE' \
         union all \
         select distinct format('%s may %s ledger.%s', coalesce(nullif(a.grantee, 0)::regrole::text, 'everybody'), \
                       lower(a.privilege_type), r.name) \
         from relation r, aclexplode(r.relacl) a \
         where a.grantee <> r.relowner and a.privilege_type not in ('SELECT', 'REFERENCES') \
         union all \
         select distinct format('%s may %s ledger.%s (%s)', coalesce(nullif(a.grantee, 0)::regrole::text, 'everybody'), \
                       lower(a.privilege_type), r.name, c.attname) \
         from relation r join pg_attribute c on c.attrelid = r.oid, aclexplode(c.attacl) a \
         where a.grantee <> r.relowner and a.privilege_type not in ('SELECT', 'REFERENCES') \
         union all \
         select 'the role ' || m.role || ' may do what ledger_owner may' \
         from (values ('ledger_writer'), ('ledger_reader')) m (role) \
         where pg_has_role(m.role, 'ledger_owner', 'member') \
         union all \
         select format('session_replication_role is %s here', current_setting('session_replication_role')) \
         where current_setting('session_replication_role') <> 'origin' \
         union all \
         select format('session_replication_role is set for %s', \
                       coalesce('role ' || nullif(s.setrole, 0)::regrole::text, 'every role')) \
         from pg_db_role_setting s, unnest(s.setconfig) as setting \
         where setting like 'session_replication_role=%' and setting <> 'session_replication_role=origin' \
           and s.setdatabase in (0, (select oid from pg_database where datname = current_database())) \
           and current_setting('session_replication_role') = 'origin' \
         order by 1",
    )
    .fetch_all(&mut *snapshot)
    .await
    .map_err(failed)?;
    let mut off = Vec::with_capacity(rows.len());
    for row in &rows {
        off.push(row.try_get("what").map_err(failed)?);
    }
    off.extend(functions(snapshot).await?);
    off.extend(migrations(snapshot).await?);
    Ok(off)
}

/// Migrations that the database says were run and that are not this program's.
async fn migrations(snapshot: &mut PgConnection) -> Result<Vec<String>, ReadError> {
    let rows =
        query("select version, checksum, success from ledger._sqlx_migrations order by version")
            .fetch_all(snapshot)
            .await
            .map_err(failed)?;
    let mut expected = migration_checksums();
    let mut off = Vec::new();
    for row in &rows {
        let version: i64 = row.try_get("version").map_err(failed)?;
        let checksum: &[u8] = row.try_get("checksum").map_err(failed)?;
        let success: bool = row.try_get("success").map_err(failed)?;
        match expected.remove(&version) {
            Some(ours) if ours == checksum && success => {}
            Some(_) => off.push(format!(
                "migration {version} has another text, or did not end"
            )),
            None => off.push(format!("migration {version} is not this program's")),
        }
    }
    off.extend(
        expected
            .into_keys()
            .map(|version| format!("migration {version} is not recorded")),
    );
    Ok(off)
}

/// Functions whose text, owner or settings are not those of the migrations.
async fn functions(snapshot: &mut PgConnection) -> Result<Vec<String>, ReadError> {
    let rows = query(
        "select p.proname::text as name, p.prosrc, pg_get_userbyid(p.proowner) = 'ledger_owner' \
                    and coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp'] as held \
         from pg_proc p where p.pronamespace = 'ledger'::regnamespace order by 1",
    )
    .fetch_all(snapshot)
    .await
    .map_err(failed)?;
    let mut expected: BTreeMap<&str, &str> = function_bodies();
    let mut off = Vec::new();
    for row in &rows {
        let name: &str = row.try_get("name").map_err(failed)?;
        let body: &str = row.try_get("prosrc").map_err(failed)?;
        let held: bool = row.try_get("held").map_err(failed)?;
        match expected.remove(name) {
            None => off.push(format!("function ledger.{name} is not ours")),
            Some(ours) if ours != body => {
                off.push(format!("function ledger.{name} has another text"));
            }
            Some(_) if !held => off.push(format!(
                "function ledger.{name} has another owner or search_path"
            )),
            Some(_) => {}
        }
    }
    off.extend(
        expected
            .into_keys()
            .map(|name| format!("function ledger.{name} is gone")),
    );
    Ok(off)
}

/// Words about a login that could go round the guards: a superuser, or a member of the owner.
pub(super) async fn who_runs_this(
    snapshot: &mut PgConnection,
) -> Result<Option<String>, ReadError> {
    let row = query(
        "select current_user <> session_user \
                and pg_has_role(session_user, 'ledger_owner', 'member') as strong",
    )
    .fetch_one(snapshot)
    .await
    .map_err(failed)?;
    let strong: bool = row.try_get("strong").map_err(failed)?;
    Ok(strong.then(|| {
        "what this login did before: it could change the log's tables; use the writer's login that `ledger init` made"
            .to_owned()
    }))
}
