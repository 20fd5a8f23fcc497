//! The schema as the migrations leave it, and the events' JSON Schemas, against what is written down in `schema/`.
//! `UPDATE_SCHEMAS=1` writes them anew.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ledger::domain::event::{self, TYPES};
use sqlx::Row as _;

use crate::world::World;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schema")
}

/// Compares a file with what it should hold, or writes it.
fn assert_written(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "schema/{name} is out of date: run the tests with UPDATE_SCHEMAS=1 and look at the difference"
    );
}

/// Everything in our schemas, a line a thing. Made of what all supported versions of PostgreSQL say alike.
const LISTING: &str = "
with ours as (select oid, nspname from pg_namespace where nspname in ('ledger', 'ledger_work', 'ledger_derived')),
     relation as (select c.*, format('%I.%I', n.nspname, c.relname) as name
                  from pg_class c join ours n on n.oid = c.relnamespace)
select line from (
    select 1 as part, nspname as name, 0 as nth,
           format('schema %s owner %s', nspname, pg_get_userbyid(p.nspowner)) as line
    from ours join pg_namespace p using (oid, nspname)
    union all
    select 2, r.name, 0, format('table %s owner %s%s', r.name, pg_get_userbyid(r.relowner),
           ' with (' || array_to_string(r.reloptions, ', ') || ')')
    from relation r where r.relkind in ('r', 'p')
    union all
    select 2, r.name, a.attnum, format('    %s %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
           case when a.attnotnull then ' not null' end,
           ' default ' || pg_get_expr(d.adbin, d.adrelid))
    from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
         left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    where r.relkind in ('r', 'p')
    union all
    select 2, r.name, 1000, format('    constraint %s %s', c.conname, pg_get_constraintdef(c.oid))
    from relation r join pg_constraint c on c.conrelid = r.oid
    where c.contype <> 'n'
    union all
    select 2, r.name, 1001, '    ' || pg_get_indexdef(i.indexrelid)
    from relation r join pg_index i on i.indrelid = r.oid
    where not exists (select from pg_constraint c where c.conindid = i.indexrelid)
    union all
    select 2, r.name, 1002, format('    %s%s', pg_get_triggerdef(t.oid), case t.tgenabled when 'A' then ' (always)' else ' (NOT always)' end)
    from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
    union all
    select distinct 2, r.name, 1003, format('    grant %s to %s', string_agg(lower(a.privilege_type), ', ' order by a.privilege_type),
           coalesce(nullif(a.grantee, 0)::regrole::text, 'public'))
    from relation r, aclexplode(r.relacl) a where a.grantee <> r.relowner and a.privilege_type <> 'MAINTAIN'
    group by r.name, a.grantee
    union all
    select 3, p.proname, 0, format('function %I.%I(%s) returns %s owner %s%s set %s md5 %s%s', n.nspname, p.proname,
           pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid), pg_get_userbyid(p.proowner),
           case when p.prosecdef then ' security definer' end, array_to_string(p.proconfig, ', '), md5(p.prosrc),
           (select ' execute ' || string_agg(coalesce(nullif(a.grantee, 0)::regrole::text, 'public'), ', ' order by 1)
            from aclexplode(p.proacl) a where a.grantee <> p.proowner))
    from pg_proc p join ours n on n.oid = p.pronamespace
) listing order by part, name collate \"C\", nth, line collate \"C\"";

#[tokio::test]
async fn the_schema_is_as_written_down() {
    let world = World::bare().await;
    let rows = sqlx::query(LISTING)
        .fetch_all(&mut world.superuser().await)
        .await
        .unwrap();
    let mut text = "-- expected.sql: what the migrations make, listed from the catalogues by tests/it/schema.rs. Not to be run.\n".to_owned();
    for row in rows {
        text.push_str(row.get("line"));
        text.push('\n');
    }
    assert_written("expected.sql", &text);
}

#[test]
fn the_events_are_as_written_down() {
    let schemas = event::schemas();
    assert_eq!(schemas.len(), TYPES.len());
    let mut expected = BTreeSet::new();
    for (name, schema, _) in TYPES {
        let file = format!("{name}.{schema}.json");
        let text = serde_json::to_string_pretty(&schemas[name]).unwrap();
        assert_written(&format!("events/{file}"), &format!("{text}\n"));
        expected.insert(file);
    }
    let written: BTreeSet<String> = std::fs::read_dir(folder().join("events"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        written, expected,
        "a type that was written once keeps its schema"
    );
}
