//! Who goes round the program is refused by PostgreSQL, and who goes round PostgreSQL is found by `ledger verify`, which
//! names exactly what was edited.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use ledger::store::identity::Natural;
use ledger::store::keys::Kek;
use ledger::store::verify::Outside;
use ledger::store::{Clock, Draft, Sealing, Store, connect, ledgers};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};

use crate::append::draft;
use crate::server::execute;
use crate::world::{World, line, output, temporary};

/// The tables that hold the log. A new one has to be added here, see `no_table_is_forgotten`.
pub(crate) const TABLES: [&str; 8] = [
    "checkpoints",
    "cosignatures",
    "entries",
    "heads",
    "identity",
    "keys",
    "payloads",
    "tree",
];
/// Entries of [`healthy`].
const SIZE: u64 = 12;
/// An entry of it in the middle: the first about its subject, sealed.
const MIDDLE: u64 = 6;
/// Every way to edit a column.
pub(crate) const ALL: usize = usize::MAX;

/// A small ledger with some of everything.
pub(crate) async fn healthy() -> World {
    let world = World::with_ledger(&["test", "--person", "ann", "--person", "bob"]).await;
    let run = "0197f1c2-0000-7000-8000-00000000000a";
    let mut lines = vec![
        line("test.happened", "service:api", &json!({"n": 4})),
        line("test.happened", "service:api", &json!({"n": 5})),
        line("test.other", "user:ann.lee@example.com", &json!({"n": 6})),
        line("test.other", "service:api", &json!({"n": 7})),
        line(
            "test.happened",
            "user:ann.lee@example.com",
            &json!({"n": 8}),
        ),
    ];
    for line in &mut lines {
        line["run"] = json!(run);
    }
    let answers = world.append(&lines);
    let store = world.store().await;
    for n in 9..=SIZE {
        let plain = Draft {
            cause: Some(answers[0]["id"].as_str().unwrap().parse().unwrap()),
            run: Some(run.parse().unwrap()),
            ..draft(&json!({ "n": n }).to_string())
        };
        assert_eq!(store.append(plain).await.unwrap().entry.seq, n);
    }
    store.close().await;
    world
}

/// Removes the catalogue as if there had never been one.
async fn without_catalogue(connection: &mut PgConnection) {
    let mut sql = "begin; set local session_replication_role = replica;".to_owned();
    for table in ["payloads", "keys", "entries", "heads"] {
        write!(
            sql,
            "alter table ledger.{table} disable trigger user; \
             delete from ledger.{table} where ledger_id = '00000000-0000-0000-0000-000000000000' or ledger_id in \
                 (select e.ledger_id from ledger.entries e where e.seq = 2 and e.type = 'ledger.listed' \
                  union select h.ledger_id from ledger.heads h where h.name = 'catalogue');"
        )
        .unwrap();
    }
    let triggers: Vec<String> = sqlx::query_scalar(
        "select format('alter table %s enable always trigger %I;', tgrelid::regclass, tgname) \
         from pg_trigger where not tgisinternal",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    sql.push_str(&triggers.concat());
    execute(connection, format!("{sql} commit")).await;
}

/// A healthy ledger that is edited and put back, again and again.
pub(crate) struct Tampered {
    pub(crate) world: World,
    connection: PgConnection,
    on: String,
    off: String,
    here: (PgPool, Vec<Kek>),
}

impl Tampered {
    async fn start() -> Self {
        Self::over(healthy().await).await
    }

    pub(crate) async fn over(world: World) -> Self {
        let mut connection = world.superuser().await;
        // Its rows are a ledger's like any other, and would only be in the way of statements about all rows of a table.
        without_catalogue(&mut connection).await;
        let mut save = "create schema saved;".to_owned();
        let (mut off, mut on) = (String::new(), String::new());
        for table in TABLES {
            write!(save, "create table saved.{table} as table ledger.{table};").unwrap();
            write!(off, "alter table ledger.{table} disable trigger user;").unwrap();
        }
        execute(&mut connection, save).await;
        let triggers = sqlx::query(
            "select format('alter table %s enable always trigger %I;', tgrelid::regclass, tgname) as sql \
             from pg_trigger where not tgisinternal",
        );
        for row in triggers.fetch_all(&mut connection).await.unwrap() {
            on.push_str(row.get("sql"));
        }
        let (pool, _) = connect(world.server().writer(world.database()), 3)
            .await
            .unwrap();
        let kek = std::fs::read_to_string(world.home().join("kek")).unwrap();
        let here = (pool, vec![Kek::from_hex(&kek).unwrap()]);
        Self {
            world,
            connection,
            on,
            off,
            here,
        }
    }

    /// Runs statements as somebody who can do anything, with the triggers off, and puts them on again.
    pub(crate) async fn edit(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = format!("begin; {} {sql}; {} commit", self.off, self.on);
        let result = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await;
        if result.is_err() {
            execute(&mut self.connection, "rollback").await;
        }
        result.map(drop)
    }

    pub(crate) async fn restore(&mut self) {
        let mut sql = String::new();
        for table in TABLES {
            write!(
                sql,
                "truncate ledger.{table}; insert into ledger.{table} table saved.{table};"
            )
            .unwrap();
        }
        self.edit(&sql).await.unwrap();
    }

    /// The entries that verify names after an edit, which is then taken back.
    pub(crate) async fn named(&mut self, sql: &str, arguments: &[&str]) -> BTreeMap<u64, String> {
        self.edit(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let named = if arguments.is_empty() {
            self.verify_here().await
        } else {
            self.verify(sql, arguments)
        };
        self.restore().await;
        named
    }

    /// The same through the library, with no key remembered: a process for each of hundreds of edits takes too long.
    async fn verify_here(&self) -> BTreeMap<u64, String> {
        let (pool, keks) = &self.here;
        let [row] = &ledgers(pool).await.unwrap()[..] else {
            panic!("one ledger");
        };
        let store = Store::open(pool.clone(), row.clone(), keks.clone(), Clock::system());
        let report = store.verify(Outside::default(), |_, _| {}).await.unwrap();
        assert_eq!(report.guards_off, [""; 0]);
        let broken = report.findings.broken();
        broken
            .map(|broken| (broken.seq, broken.how.to_string()))
            .collect()
    }

    fn verify(&self, sql: &str, arguments: &[&str]) -> BTreeMap<u64, String> {
        let (exit, report) = self.world.verify(arguments);
        let broken = report["broken"].as_array().unwrap();
        assert_eq!(report["broken_count"], broken.len(), "{sql}: {report}");
        let verdict = if broken.is_empty() {
            (0, "intact")
        } else {
            (1, "tampered")
        };
        assert_eq!(
            (exit, report["verdict"].as_str().unwrap()),
            verdict,
            "{sql}: {report}"
        );
        broken
            .iter()
            .map(|broken| {
                let how = broken["how"].as_str().unwrap().to_owned();
                (broken["seq"].as_u64().unwrap(), how)
            })
            .collect()
    }

    /// Fails unless an edit names these entries and no other.
    pub(crate) async fn assert_names(&mut self, sql: &str, expected: &[u64]) {
        let named = self.named(sql, &[]).await;
        let seqs: Vec<u64> = named.keys().copied().collect();
        assert_eq!(seqs, expected, "{sql}: {named:?}");
    }

    pub(crate) async fn value(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Columns of a table with their types, as PostgreSQL lists them.
    async fn columns(&mut self, table: &str) -> Vec<(String, String)> {
        let rows = sqlx::query(
            "select column_name::text, data_type::text from information_schema.columns \
             where table_schema = 'ledger' and table_name = $1 order by ordinal_position",
        )
        .bind(table)
        .fetch_all(&mut self.connection)
        .await
        .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Edits each column of the row that the condition picks, in so many of the ways that its type allows.
    pub(crate) async fn each_column(
        &mut self,
        table: &str,
        row: &str,
        ways: usize,
        expected: impl Fn(&str) -> u64,
    ) {
        let columns = self.columns(table).await;
        assert!(columns.len() >= 4, "{table}: {columns:?}");
        for (column, data_type) in columns {
            let values: &[&str] = match (column.as_str(), data_type.as_str()) {
                ("clock", _) => &["'simulated'"],
                ("run", _) => &["gen_random_uuid()", "null"],
                (_, "uuid") => &["gen_random_uuid()"],
                (_, "smallint") => &["{} + 1", "{} + 2"],
                (_, "bigint") => &[
                    "{} + 1000",
                    "{} + 1",
                    "{} - 1",
                    "0",
                    "-3",
                    "9223372036854775807",
                ],
                (_, "text") => &["{} || 'x'", "''", "upper({})", "{} || ' \u{1f600}'"],
                (_, "timestamp with time zone") => &[
                    "{} + interval '1 microsecond'",
                    "{} - interval '1 microsecond'",
                    "'infinity'",
                ],
                (_, "bytea") => &[
                    "case when {} = '' then '\\x00' else set_byte({}, 0, get_byte({}, 0) # 1) end",
                    "{} || '\\x00'",
                    "''",
                    "sha256({})",
                ],
                other => panic!("no edits for a column of {other:?}"),
            };
            let mut edited = false;
            for value in values.iter().take(ways) {
                let value = value.replace("{}", &column);
                let differs = format!(
                    "select count(*)::text from ledger.{table} where ({row}) and {column} is distinct from {value}"
                );
                if self.value(&differs).await != "1" {
                    continue;
                }
                let sql = format!("update ledger.{table} set {column} = {value} where {row}");
                match self.edit(&sql).await {
                    Ok(()) => {}
                    // A constraint of the table refuses it to a superuser too.
                    Err(sqlx::Error::Database(error))
                        if error.code().is_some_and(|code| code.starts_with("23")) =>
                    {
                        continue;
                    }
                    Err(error) => panic!("{sql}: {error}"),
                }
                edited = true;
                let named = self.verify_here().await;
                let seqs: Vec<u64> = named.keys().copied().collect();
                assert_eq!(seqs, [expected(&column)], "{sql}: {named:?}");
                self.restore().await;
            }
            assert!(edited, "{table}.{column} was not edited at all");
        }
    }

    /// Flips one bit of each byte string of a table, in each row; `expected` is SQL for the entry that is named.
    pub(crate) async fn each_bit(&mut self, table: &str, expected: &str) {
        let columns = self.columns(table).await;
        for (column, _) in columns.iter().filter(|(_, data_type)| data_type == "bytea") {
            let sql = format!(
                "select t.ctid::text as row, length(t.{column}) as length, ({expected})::bigint as seq from ledger.{table} t"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .fetch_all(&mut self.connection)
                .await
                .unwrap();
            let rows: Vec<(i32, i64)> = rows
                .iter()
                .map(|row| (row.get("length"), row.get("seq")))
                .collect();
            for (nth, (length, seq)) in (0_i32..).zip(rows).filter(|(_, (length, _))| *length > 0) {
                let bit = (7_919 * nth + 31) % (8 * length);
                let sql = format!(
                    "update ledger.{table} set {column} = set_bit({column}, {bit}, 1 - get_bit({column}, {bit})) \
                     where ctid = (select ctid from ledger.{table} offset {nth} limit 1)"
                );
                self.assert_names(&sql, &[seq.unsigned_abs()]).await;
            }
        }
    }
}

#[tokio::test]
async fn no_table_is_forgotten() {
    let world = World::bare().await;
    let mut connection = world.superuser().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c where c.relnamespace = 'ledger'::regnamespace \
         and c.relkind not in ('i', 'c', 't') and c.relname <> '_sqlx_migrations' order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(tables, TABLES);
}

#[tokio::test]
async fn a_healthy_ledger_is_not_accused() {
    let mut ledger = Tampered::start().await;
    assert!(ledger.named("select 1", &[]).await.is_empty());
    assert!(ledger.verify("nothing", &[]).is_empty());
    let head = ledger.world.assert_intact()["head"]
        .as_str()
        .unwrap()
        .to_owned();
    let saved = format!("{SIZE}:{head}");
    let (exit, report) = ledger.world.verify(&["--head", &saved]);
    assert_eq!(
        (exit, &report["anchored"], &report["unchecked"]),
        (0, &json!(SIZE), &json!([])),
        "{report}"
    );
}

#[tokio::test]
async fn each_column_of_an_entry() {
    let mut ledger = Tampered::start().await;
    for (seq, ways) in [(MIDDLE, ALL), (1, 1), (SIZE, 1)] {
        ledger
            .each_column("entries", &format!("seq = {seq}"), ways, |_| seq)
            .await;
    }
}

#[tokio::test]
async fn each_column_of_a_payload() {
    let mut ledger = Tampered::start().await;
    for (seq, ways) in [(MIDDLE, ALL), (1, 1), (SIZE, 1)] {
        ledger
            .each_column("payloads", &format!("seq = {seq}"), ways, |_| seq)
            .await;
    }
}

#[tokio::test]
async fn each_column_of_a_key() {
    let mut ledger = Tampered::start().await;
    let owner = format!("owner = (select subject from ledger.entries where seq = {MIDDLE})");
    ledger.each_column("keys", &owner, ALL, |_| MIDDLE).await;
    ledger
        .each_column("keys", "owner like 'ledger:%'", 1, |_| 1)
        .await;
}

#[tokio::test]
async fn each_column_of_an_identity() {
    let mut ledger = Tampered::start().await;
    let subject = format!("subject = (select subject from ledger.entries where seq = {MIDDLE})");
    ledger
        .each_column("identity", &subject, ALL, |_| MIDDLE)
        .await;
}

#[tokio::test]
async fn each_column_of_the_head() {
    let mut ledger = Tampered::start().await;
    ledger
        .each_column("heads", "true", ALL, |column| {
            if ["name", "clock"].contains(&column) {
                1
            } else {
                SIZE
            }
        })
        .await;
}

#[tokio::test]
async fn each_bit_of_the_log() {
    let mut ledger = Tampered::start().await;
    ledger.each_bit("entries", "t.seq").await;
    ledger.each_bit("payloads", "t.seq").await;
}

#[tokio::test]
async fn each_bit_of_keys_identities_and_the_head() {
    let mut ledger = Tampered::start().await;
    let of_key = "select coalesce(min(p.seq), 1) from ledger.payloads p where p.key_id = t.key_id";
    ledger.each_bit("keys", of_key).await;
    let of_subject = "select min(e.seq) from ledger.entries e where e.subject = t.subject";
    ledger.each_bit("identity", of_subject).await;
    ledger.each_bit("heads", "t.size").await;
}

#[tokio::test]
async fn removed_rows() {
    let mut ledger = Tampered::start().await;
    for seq in [1, MIDDLE, SIZE] {
        let entry = format!("delete from ledger.entries where seq = {seq}");
        let payload = format!("delete from ledger.payloads where seq = {seq}");
        ledger.assert_names(&entry, &[seq]).await;
        ledger.assert_names(&payload, &[seq]).await;
        ledger
            .assert_names(&format!("{entry}; {payload}"), &[seq])
            .await;
    }
    ledger
        .assert_names(
            "delete from ledger.entries where seq between 5 and 7",
            &[5, 6, 7],
        )
        .await;
    let subject = format!("(select subject from ledger.entries where seq = {MIDDLE})");
    ledger
        .assert_names(
            &format!("delete from ledger.identity where subject = {subject}"),
            &[MIDDLE],
        )
        .await;
    ledger
        .assert_names(
            &format!("delete from ledger.keys where owner = {subject}"),
            &[MIDDLE],
        )
        .await;
    // Verifying makes no new key in its place, and so finds it the next time too.
    ledger
        .edit("delete from ledger.keys where owner like 'ledger:%'")
        .await
        .unwrap();
    for _ in 0..2 {
        let named = ledger.verify("no index key", &[]);
        assert_eq!(named.keys().copied().collect::<Vec<_>>(), [1], "{named:?}");
    }
    ledger.restore().await;
}

#[tokio::test]
async fn forged_and_swapped_rows() {
    let mut ledger = Tampered::start().await;
    // Behind the head, once as a copy and once as a true next link.
    let copy = |changes: &str| {
        format!(
            "insert into ledger.entries select ledger_id, {}, gen_random_uuid(), 'forged', type, subject, run, recorded_at, {changes} \
             from ledger.entries where seq = {SIZE}; \
             insert into ledger.payloads select ledger_id, {}, algorithm, key_id, nonce, bytes from ledger.payloads where seq = {SIZE}",
            SIZE + 1,
            SIZE + 1
        )
    };
    ledger.assert_names(&copy("hash, bytes"), &[SIZE + 1]).await;
    let next = next_link(SIZE);
    ledger.assert_names(&next, &[SIZE + 1]).await;
    let payload = format!(
        "insert into ledger.payloads select ledger_id, {}, algorithm, key_id, nonce, bytes from ledger.payloads where seq = 3",
        SIZE + 1
    );
    ledger.assert_names(&payload, &[SIZE + 1]).await;

    let swap = |table: &str, columns: &str, a: u64, b: u64| {
        let list: Vec<String> = columns
            .split(' ')
            .map(|column| format!("{column} = other.{column}"))
            .collect();
        format!(
            "update ledger.{table} t set {} from saved.{table} other \
             where (t.seq, other.seq) in (({a}, {b}), ({b}, {a}))",
            list.join(", ")
        )
    };
    // In one statement a unique key is in the way; a superuser drops it or takes a third place.
    let swap_seqs = |table: &str, a: u64, b: u64| {
        format!(
            "update ledger.{table} set seq = 1000 where seq = {a}; update ledger.{table} set seq = {a} where seq = {b}; \
             update ledger.{table} set seq = {b} where seq = 1000"
        )
    };
    for (a, b) in [(5, 9), (6, 7), (11, 12), (1, 2)] {
        let entries = swap_seqs("entries", a, b);
        let payloads = swap_seqs("payloads", a, b);
        ledger.assert_names(&entries, &[a, b]).await;
        ledger.assert_names(&payloads, &[a, b]).await;
        ledger
            .assert_names(&format!("{entries}; {payloads}"), &[a, b])
            .await;
        ledger
            .assert_names(&swap("payloads", "bytes", a, b), &[a, b])
            .await;
        ledger
            .assert_names(&swap("entries", "bytes hash", a, b), &[a, b])
            .await;
        ledger
            .assert_names(&swap("entries", "hash", a, b), &[a, b])
            .await;
    }
    // Two users for each other: the log knows which natural id it introduced under which subject.
    let of = |seq: u64| format!("(select subject from ledger.entries where seq = {seq})");
    let swapped = format!(
        "update ledger.identity set subject = 'x' where subject = {}; \
         update ledger.identity set subject = {} where subject = {}; \
         update ledger.identity set subject = {} where subject = 'x'",
        of(2),
        of(2),
        of(3),
        of(3)
    );
    ledger.assert_names(&swapped, &[2, 3]).await;
}

/// SQL that puts a sound entry behind entry `seq`, a copy of it in all that is not of its place.
fn next_link(seq: u64) -> String {
    let next = seq + 1;
    format!(
        "with old as (select e.*, convert_from(bytes, 'UTF8') as text from ledger.entries e where seq = {seq}), \
              new as (select old.*, gen_random_uuid() as new_id from old), \
              made as (select new.*, convert_to( \
                  regexp_replace(regexp_replace(regexp_replace(regexp_replace(text, \
                      '\"seq\":\\d+', '\"seq\":{next}'), \
                      '\"prev\":\"[0-9a-f]+\"', '\"prev\":\"' || encode(hash, 'hex') || '\"'), \
                      '\"id\":\"[0-9a-f-]+\"', '\"id\":\"' || new_id || '\"'), \
                      '\"key\":\"[^\"]+\"', '\"key\":\"' || new_id || '\"'), 'UTF8') as made from new) \
         insert into ledger.entries select ledger_id, {next}, new_id, new_id::text, type, subject, run, recorded_at, \
             sha256('\\x00'::bytea || made), made from made; \
         insert into ledger.payloads select ledger_id, {next}, algorithm, key_id, nonce, bytes from ledger.payloads where seq = {seq}"
    )
}

/// SQL that makes entry `seq` say another time of happening, with a hash to match.
fn rewrite(seq: u64) -> String {
    format!(
        "update ledger.entries set bytes = convert_to(regexp_replace(convert_from(bytes, 'UTF8'), \
             '\"occurred_at\":\"\\d+', '\"occurred_at\":\"1999'), 'UTF8') where seq = {seq}; \
         update ledger.entries set hash = sha256('\\x00'::bytea || bytes) where seq = {seq}"
    )
}

/// SQL that links every entry behind `seq` anew, and the head.
fn relink(seq: u64) -> String {
    format!(
        "do $$ declare r record; p bytea; b bytea; begin \
             for r in select * from ledger.entries where seq >= {seq} order by seq loop \
                 b := r.bytes; \
                 if p is not null then \
                     b := convert_to(regexp_replace(convert_from(b, 'UTF8'), '\"prev\":\"[0-9a-f]+', '\"prev\":\"' || encode(p, 'hex')), 'UTF8'); \
                 end if; \
                 p := sha256('\\x00'::bytea || b); \
                 update ledger.entries set bytes = b, hash = p where seq = r.seq; \
             end loop; \
             update ledger.heads set hash = p; \
         end $$"
    )
}

#[tokio::test]
async fn entries_that_were_rewritten_with_all_that_belongs_to_them() {
    let mut ledger = Tampered::start().await;
    for seq in [1, 2, MIDDLE, SIZE - 1, SIZE] {
        ledger.assert_names(&rewrite(seq), &[seq]).await;
    }
    let head = ledger
        .value("select encode(hash, 'hex') from ledger.heads")
        .await;
    let first = ledger
        .value("select encode(hash, 'hex') from ledger.entries where seq = 4")
        .await;
    // The whole chain anew, in the same length: from inside it is as good as the true one, and the report says so.
    let forgery = format!("{}; {}", rewrite(5), relink(5));
    ledger.edit(&forgery).await.unwrap();
    let report = ledger.world.assert_intact();
    assert_eq!(report["anchored"], json!(null));
    let said = report["unchecked"].to_string();
    assert!(said.contains("rewritten whole cannot be seen"), "{said}");
    let saved = format!("{SIZE}:{head}");
    let named = ledger.verify("forgery", &["--head", &saved]);
    assert_eq!(
        named.keys().copied().collect::<Vec<_>>(),
        [SIZE],
        "{named:?}"
    );
    // What lies before the forgery is still what it was.
    let before = format!("4:{first}");
    assert!(ledger.verify("forgery", &["--head", &before]).is_empty());
    let both = ledger.verify("forgery", &["--head", &before, "--head", &saved]);
    assert_eq!(both.keys().copied().collect::<Vec<_>>(), [SIZE], "{both:?}");
}

#[tokio::test]
async fn a_cut_tail_shows_against_a_saved_head() {
    let mut ledger = Tampered::start().await;
    let saved = format!(
        "{SIZE}:{}",
        ledger
            .value("select encode(hash, 'hex') from ledger.heads")
            .await
    );
    let cut = "delete from ledger.entries where seq > 9; delete from ledger.payloads where seq > 9; \
               update ledger.heads h set (size, hash, recorded_at) = \
                   (select e.seq, e.hash, e.recorded_at from ledger.entries e where e.seq = 9)";
    ledger.edit(cut).await.unwrap();
    ledger.world.assert_intact();
    let named = ledger.verify(cut, &["--head", &saved]);
    assert_eq!(
        named.keys().copied().collect::<Vec<_>>(),
        [10, 11, 12],
        "{named:?}"
    );
    // Grown again with other entries it has the old length and another head.
    ledger.world.append(&[
        line("test.happened", "service:api", &json!({})),
        line("test.happened", "service:api", &json!({})),
        line("test.happened", "service:api", &json!({})),
    ]);
    ledger.world.assert_intact();
    let named = ledger.verify("grown again", &["--head", &saved]);
    assert_eq!(named.keys().copied().collect::<Vec<_>>(), [12], "{named:?}");
    ledger.restore().await;

    // Without the head: it shows from inside.
    let tail =
        "delete from ledger.entries where seq > 9; delete from ledger.payloads where seq > 9";
    ledger.assert_names(tail, &[10, 11, 12]).await;
}

#[tokio::test]
async fn a_removed_head_is_not_an_empty_database() {
    let mut ledger = Tampered::start().await;
    ledger.edit("delete from ledger.heads").await.unwrap();
    let output = ledger.world.ledger(["verify"]);
    assert_eq!(output.exit, 1, "{output:?}");
    assert!(
        output.stderr.contains("has entries and no head row"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_dumped_and_restored_ledger_is_intact() {
    let world = healthy().await;
    // All of the answer but for how long the oldest entry has waited, which goes on.
    let answer = |world: &World| {
        let mut report = world.assert_intact();
        for covered in ["checkpoint", "published"] {
            let waited = report["lag"][covered]["seconds"].take();
            assert!(waited.is_u64(), "{report}");
        }
        report
    };
    let before = answer(&world);
    let restored = World::empty().await;
    dump_into(&world, &restored, &[]);
    std::fs::copy(world.home().join("kek"), restored.home().join("kek")).unwrap();
    assert_eq!(answer(&restored), before);
    restored.append(&[line("test.happened", "service:api", &json!({}))]);
    restored.assert_intact();

    // Without owners and grants nothing keeps the rows as they are, and verify says so.
    let bare = World::empty().await;
    dump_into(&world, &bare, &["--no-owner", "--no-privileges"]);
    std::fs::copy(world.home().join("kek"), bare.home().join("kek")).unwrap();
    let mut command = bare.command(["verify", "--json"]);
    command.env("DATABASE_URL", bare.server().superuser_url(bare.database()));
    let grants = "grant usage on schema ledger to ledger_writer; grant select on all tables in schema ledger to ledger_writer";
    execute(&mut bare.superuser().await, grants).await;
    let output = output(&mut command);
    assert_eq!(
        (output.exit, &output.json()["verdict"]),
        (3, &json!("unknown")),
        "{output:?}"
    );
    assert!(
        output
            .stdout
            .contains("ledger.entries does not belong to ledger_owner"),
        "{output:?}"
    );
}

pub(crate) fn dump_into(from: &World, to: &World, options: &[&str]) {
    let mut dump = Command::new(from.server().program("pg_dump"))
        .args(options)
        .arg(from.server().superuser_url(from.database()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let restored = Command::new(to.server().program("psql"))
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"])
        .arg(to.server().superuser_url(to.database()))
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(dump.wait().unwrap().success() && restored.success());
}

#[tokio::test]
async fn without_the_keys_it_is_intact_and_says_what_was_not_checked() {
    let world = healthy().await;
    let elsewhere = temporary("keyless");
    let verify = |key: Option<&str>| {
        let mut command = world.command(["verify", "--json"]);
        command.env("LEDGER_HOME", elsewhere.path());
        if let Some(key) = key {
            command.env("LEDGER_KEK", key);
        }
        output(&mut command)
    };
    let other_key = "5a".repeat(32);
    for output in [verify(None), verify(Some(&other_key))] {
        assert_eq!(
            (output.exit, &output.json()["verdict"]),
            (0, &json!("intact")),
            "{output:?}"
        );
        let unchecked = output.json()["unchecked"].to_string();
        assert!(
            unchecked.contains("7 sealed payloads: no key here opens them"),
            "{unchecked}"
        );
        assert!(
            unchecked.contains("identities: no key here opens them"),
            "{unchecked}"
        );
    }
    // What is stored is bound to its entry all the same.
    let edit = "alter table ledger.payloads disable trigger user; \
                update ledger.payloads set bytes = set_byte(bytes, 40, get_byte(bytes, 40) # 1) where seq = 6; \
                alter table ledger.payloads enable always trigger refuse_update; \
                alter table ledger.payloads enable always trigger announced_delete; \
                alter table ledger.payloads enable always trigger refuse_truncate";
    execute(&mut world.superuser().await, edit).await;
    let output = verify(None);
    assert_eq!(output.exit, 1, "{output:?}");
    assert_eq!(output.json()["broken"][0]["seq"], 6);
    assert_eq!(output.json()["broken_count"], 1);
}

#[tokio::test]
async fn a_subject_that_another_process_named_is_no_finding() {
    let world = World::start().await;
    let (one, other) = (world.store().await, world.store().await);
    let named = Natural {
        kind: "service".to_owned(),
        id: "api".to_owned(),
        owner: None,
    };
    let subject = one.identify(&[named]).await.unwrap().remove(0);
    // The first entry about it comes from who knows the subject and not the name.
    let first = Draft {
        sealing: Sealing::Owner(subject.clone()),
        subject,
        ..draft("{}")
    };
    other.append(first).await.unwrap();
    world.assert_intact();
}
