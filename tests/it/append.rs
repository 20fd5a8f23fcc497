//! Append: two implementations agree on every entry, many processes make one chain, keys replay, rows fail alone.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use ledger::domain::id::{Subject, Timestamp};
use ledger::store::payload::PayloadText;
use ledger::store::{AppendError, Appended, Draft, Fence, Sealing, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chain;
use crate::world::{World, line};

/// A draft of nobody's type, in plain, about something new.
pub(crate) fn draft(payload: &str) -> Draft {
    Draft {
        event_type: "test.happened".parse().unwrap(),
        schema: 1,
        subject: subject("thing"),
        actor: "worker:test".parse().unwrap(),
        payload: payload.to_owned(),
        sealing: Sealing::Plain,
        key: None,
        run: None,
        cause: None,
        occurred_at: None,
        fence: None,
        recorded_at: None,
    }
}

fn subject(kind: &str) -> Subject {
    Subject::new(kind, Uuid::new_v4()).unwrap()
}

fn keyed(key: &str, payload: &str) -> Draft {
    Draft {
        key: Some(key.parse().unwrap()),
        subject: "thing:00000000-0000-4000-8000-000000000001"
            .parse()
            .unwrap(),
        ..draft(payload)
    }
}

fn sealed(draft: Draft) -> Draft {
    Draft {
        sealing: Sealing::Owner(draft.subject.clone()),
        ..draft
    }
}

/// The payload of an entry as a reader gets it.
async fn payload_of(store: &Store, seq: u64) -> String {
    match store.get(seq).await.unwrap().unwrap().payload {
        PayloadText::Open { json, .. } => json,
        other => panic!("entry {seq}: {other:?}"),
    }
}

#[tokio::test]
async fn sixteen_processes_make_one_chain() {
    const PROCESSES: u64 = 16;
    const ENTRIES: u64 = 100;
    let world = World::start().await;
    let one = |process: u64, entry: u64| {
        let subject = format!("service:s{}", entry % 7);
        let key = format!("it/{process}/{entry}");
        let mut line = line("test.happened", &subject, &json!({ "entry": entry }));
        line["key"] = json!(key);
        line
    };
    let seqs: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let processes = (0..PROCESSES).map(|process| {
            let world = &world;
            scope.spawn(move || {
                let lines = (0..ENTRIES).map(|entry| one(process, entry));
                if process % 2 == 0 {
                    let lines: Vec<Value> = lines.collect();
                    return numbers(&world.append(&lines));
                }
                // One at a time, so that the processes take turns.
                let mut child = world
                    .command(["append", "--json"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let mut input = child.stdin.take().unwrap();
                let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
                let answers: Vec<Value> = lines
                    .map(|line| {
                        writeln!(input, "{line}").unwrap();
                        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
                    })
                    .collect();
                drop(input);
                assert!(child.wait().unwrap().success());
                numbers(&answers)
            })
        });
        let processes: Vec<_> = processes.collect();
        processes.into_iter().map(|p| p.join().unwrap()).collect()
    });
    for own in &seqs {
        assert!(
            own.is_sorted(),
            "each process's entries stand in its order: {own:?}"
        );
    }
    let all: BTreeSet<u64> = seqs.into_iter().flatten().collect();
    let expected: BTreeSet<u64> = (2..=1 + PROCESSES * ENTRIES).collect();
    assert_eq!(all, expected, "no gap and no double");
    assert_eq!(chain::check(&world).await, 1 + PROCESSES * ENTRIES);
    world.assert_intact();
}

fn numbers(answers: &[Value]) -> Vec<u64> {
    answers
        .iter()
        .map(|answer| {
            assert_eq!(answer["replayed"], false, "{answer}");
            answer["seq"].as_u64().unwrap()
        })
        .collect()
}

prop_compose! {
    fn drafts()(
        event_type in "[a-z0-9_-]{1,9}(\\.[a-z0-9_-]{1,20}){1,3}",
        kind in "[a-z][a-z0-9-]{0,20}",
        schema in 1_u16..,
        actor in prop_oneof!["person:[a-z0-9._:/-]{1,40}", "worker:[a-z0-9._:/-]{1,9}", Just("system".to_owned())],
        key in prop::option::of("[a-z0-9._:/-]{100,128}"),
        run in prop::option::of(any::<u128>()),
        cause in prop::option::of(any::<u128>()),
        occurred_at in prop::option::of(-62_135_596_800_000_000_i64..253_402_300_799_999_999),
        text in any::<String>(),
        number in prop_oneof![-(1_i64 << 53) + 1..(1 << 53), Just((1 << 53) - 1), Just(1 - (1 << 53))],
        is_sealed in any::<bool>(),
    ) -> Draft {
        let new = Draft {
            event_type: event_type.parse().unwrap(),
            schema,
            subject: subject(&kind),
            actor: actor.parse().unwrap(),
            key: key.map(|key| key.parse().unwrap()),
            run: run.map(|id| Uuid::from_u128(id).to_string().parse().unwrap()),
            cause: cause.map(|id| Uuid::from_u128(id).to_string().parse().unwrap()),
            occurred_at: occurred_at.map(|micros| Timestamp::from_micros(micros).unwrap()),
            ..draft(&json!({ "text": text, "number": number, &text: null }).to_string())
        };
        if is_sealed { sealed(new) } else { new }
    }
}

#[tokio::test]
async fn sql_and_rust_agree_on_every_entry() {
    const ENTRIES: usize = 400;
    let world = World::start().await;
    let store = world.store().await;
    let mut runner = TestRunner::new(ProptestConfig::default());
    let drafts: Vec<Draft> = (0..ENTRIES)
        .map(|_| drafts().new_tree(&mut runner).unwrap().current())
        .collect();
    // The store recomputes each entry that PostgreSQL built, and `chain::check` both once more.
    let results = store.append_all(drafts.clone()).await;
    for (draft, result) in drafts.iter().zip(results) {
        let Appended { entry, hash, .. } =
            result.unwrap_or_else(|error| panic!("{draft:?}: {error:?}"));
        assert_eq!(entry.hash(), hash);
        assert_eq!(
            (entry.schema, &entry.subject),
            (draft.schema, &draft.subject)
        );
        assert_eq!((entry.run, entry.cause), (draft.run, draft.cause));
        assert_eq!(
            draft.occurred_at.unwrap_or(entry.occurred_at),
            entry.occurred_at
        );
        assert_eq!(payload_of(&store, entry.seq).await, draft.payload);
    }
    assert_eq!(chain::check(&world).await, ENTRIES as u64 + 1);
    world.assert_intact();
}

/// What is one meaning in one text.
const GOOD: &[&str] = &[
    "{}",
    "{ }",
    r#"{"a":1,"b":[true,false,null,{}]}"#,
    "{ \"spaces\" :\t[ 1 , 2 ]\n, \"lines\":\r\n 3 }",
    r#"{"at":"2026-01-15T09:30:00.123456Z","past":"2026-01-15T09:30:00.123456789Z"}"#,
    r#"{"text":"Żółć, 東京, עִבְרִית, العربية, e\u0301 and é are two texts"}"#,
    "{\"text\":\"e\u{301} and \u{e9}\"}",
    r#"{"emoji":"👩‍👩‍👧‍👦🏳️‍🌈","escaped":"\ud83d\ude02"}"#,
    r#"{"controls":"\u0000\u0001\u001f\b\f\n\r\t\"\\\/","delete":"\u007f"}"#,
    "{\"direction\":\"\u{202e}abc\u{202c} \u{feff}\u{2028}\u{2029}\"}",
    r#"{"":"an empty name","a b":"a name with a space"}"#,
    r#"{"most":9007199254740991,"least":-9007199254740991,"zero":0}"#,
    r#"{"more":"9007199254740993"}"#,
    r#"{"A":1,"a":2}"#,
];

/// What two readers may read differently, or what is no JSON object.
const BAD: &[&str] = &[
    r#"{"n":9007199254740992}"#,
    r#"{"n":-9007199254740992}"#,
    r#"{"n":9007199254740993}"#,
    r#"{"n":18446744073709551616}"#,
    r#"{"n":1.5}"#,
    r#"{"n":1.0}"#,
    r#"{"n":1e3}"#,
    r#"{"n":-0}"#,
    r#"{"n":1e999}"#,
    r#"{"n":NaN}"#,
    r#"{"n":01}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":1,"\u0061":1}"#,
    r#"{"deep":[{"a":1,"a":2}]}"#,
    r#"{"s":"\ud800"}"#,
    r#"{"s":"\udc00\ud800"}"#,
    "{\"s\":\"\u{1}\"}",
    "[1]",
    "\"text\"",
    "1",
    "null",
    "",
    "{",
    "{} {}",
    "{'a':1}",
    "{\"a\":1,}",
    r#"{"natural_id":"reserved"}"#,
];

#[tokio::test]
async fn payloads_come_back_byte_for_byte_or_are_refused() {
    let world = World::start().await;
    let store = world.store().await;
    let plain = GOOD.iter().map(|payload| draft(payload));
    let drafts: Vec<Draft> = plain.clone().chain(plain.map(sealed)).collect();
    let results = store.append_all(drafts.clone()).await;
    for (draft, result) in drafts.iter().zip(results) {
        let seq = result
            .unwrap_or_else(|error| panic!("{draft:?}: {error}"))
            .entry
            .seq;
        assert_eq!(payload_of(&store, seq).await, draft.payload);
    }
    let before = store.head().await.unwrap();
    let bad: Vec<Draft> = BAD.iter().map(|payload| draft(payload)).collect();
    for (draft, result) in bad.iter().zip(store.append_all(bad.clone()).await) {
        let refused = matches!(result, Err(AppendError::Payload { .. }));
        assert!(refused, "{} {result:?}", draft.payload);
    }
    assert_eq!(
        store.head().await.unwrap(),
        before,
        "nothing of these is recorded"
    );

    // A line an entry, whatever white space the payload holds, and nothing else changed.
    let log = world.ledger(["log", "--json"]).ok();
    assert_eq!(log.stdout.lines().count() as u64, before.size);
    for (answer, draft) in log.lines()[1..].iter().zip(&drafts) {
        let payload: Value = serde_json::from_str(&draft.payload).unwrap();
        assert_eq!(answer["payload"], payload);
        if !draft.payload.contains(['\n', '\r']) {
            let text = format!("\"payload\":{}", draft.payload);
            assert!(log.stdout.contains(&text), "{text}");
        }
    }
    chain::check(&world).await;
    world.assert_intact();
}

#[tokio::test]
async fn a_payload_has_at_most_eight_mebibytes() {
    const LIMIT: usize = 8 * 1024 * 1024;
    let world = World::start().await;
    let store = world.store().await;
    let of_length = |length: usize| format!("{{\"x\":\"{}\"}}", "é".repeat((length - 8) / 2));
    let most = of_length(LIMIT);
    assert_eq!(most.len(), LIMIT);
    for draft in [draft(&most), sealed(draft(&most))] {
        let seq = store.append(draft).await.unwrap().entry.seq;
        assert_eq!(payload_of(&store, seq).await, most);
    }
    let over = most.replacen(':', ": ", 1);
    for draft in [draft(&over), sealed(draft(&over))] {
        let result = store.append(draft).await;
        assert!(
            matches!(result, Err(AppendError::Payload { .. })),
            "{result:?}"
        );
    }
    // The first entry about a named subject carries the name too.
    let first = |payload: &str| {
        format!(
            "{{\"type\":\"test.happened\",\"subject\":\"service:api\",\"payload\":{payload}}}\n"
        )
    };
    let refused = world.ledger_in(["append", "--json"], &first(&most));
    assert_eq!(refused.exit, 2, "{}", refused.stderr);
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("8388608 bytes") && error.len() < 300,
        "{error}"
    );
    world.ledger_in(["append"], &first("{}")).ok();
    world.ledger_in(["append"], &first(&most)).ok();
    world.assert_intact();
}

#[tokio::test]
async fn the_same_key_and_content_is_a_replay_and_other_content_is_refused() {
    let world = World::start().await;
    let store = world.store().await;
    for (key, seal) in [("plain", false), ("sealed", true)] {
        let seal = |draft: Draft| if seal { sealed(draft) } else { draft };
        let first = store.append(seal(keyed(key, "{\"n\":1}"))).await.unwrap();
        assert!(!first.replayed);
        let again = store.append(seal(keyed(key, "{\"n\":1}"))).await.unwrap();
        assert!(again.replayed);
        assert_eq!((again.entry, again.hash), (first.entry.clone(), first.hash));
        // A later time of the same happening is no other content: the caller tries again and looks at its clock anew.
        let later = Draft {
            occurred_at: Some("2031-01-01T00:00:00.000000Z".parse().unwrap()),
            ..seal(keyed(key, "{\"n\":1}"))
        };
        assert!(store.append(later).await.unwrap().replayed);

        let same = || seal(keyed(key, "{\"n\":1}"));
        let others = [
            Draft {
                payload: "{\"n\":2}".to_owned(),
                ..same()
            },
            Draft {
                payload: "{ \"n\":1}".to_owned(),
                ..same()
            },
            Draft {
                event_type: "test.other".parse().unwrap(),
                ..same()
            },
            Draft {
                schema: 2,
                ..same()
            },
            Draft {
                subject: subject("thing"),
                ..same()
            },
            Draft {
                actor: "system".parse().unwrap(),
                ..same()
            },
            Draft {
                run: Some(store.clock().run_id()),
                ..same()
            },
            Draft {
                cause: Some(first.entry.id),
                ..same()
            },
            if key == "plain" {
                sealed(same())
            } else {
                Draft {
                    sealing: Sealing::Plain,
                    ..same()
                }
            },
        ];
        for other in others {
            let shown = format!("{other:?}");
            match store.append(other).await {
                Err(AppendError::KeyReused { seq, .. }) => assert_eq!(seq, first.entry.seq),
                result => panic!("{shown}: {result:?}"),
            }
        }
    }
    // Also within one call.
    let results = store
        .append_all(vec![
            keyed("call", "{\"n\":1}"),
            keyed("call", "{\"n\":1}"),
            keyed("call", "{\"n\":2}"),
            sealed(keyed("call-sealed", "{\"n\":1}")),
            sealed(keyed("call-sealed", "{\"n\":1}")),
            sealed(keyed("call-sealed", "{\"n\":2}")),
        ])
        .await;
    for group in results.chunks(3) {
        let [
            Ok(first),
            Ok(second),
            Err(AppendError::KeyReused { seq, .. }),
        ] = group
        else {
            panic!("{group:?}");
        };
        assert_eq!((first.replayed, second.replayed), (false, true));
        assert_eq!((second.entry.seq, *seq), (first.entry.seq, first.entry.seq));
    }
    assert_eq!(chain::check(&world).await, 5);
    world.assert_intact();
}

#[tokio::test]
async fn writers_with_one_key_record_one_entry() {
    let world = World::start().await;
    let mut writers = Vec::new();
    for writer in 0..8 {
        let store = world.store().await;
        writers.push(tokio::spawn(async move {
            let mut appended = 0;
            for key in 0..25 {
                let draft = keyed(&format!("same/{key}"), "{\"n\":1}");
                let draft = if writer % 2 == 0 {
                    draft
                } else {
                    Draft { schema: 2, ..draft }
                };
                match store.append(draft).await {
                    Ok(done) => appended += u32::from(!done.replayed),
                    Err(AppendError::KeyReused { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            appended
        }));
    }
    let mut appended = 0;
    for writer in writers {
        appended += writer.await.unwrap();
    }
    assert_eq!(appended, 25);
    assert_eq!(chain::check(&world).await, 26);
}

#[tokio::test]
async fn who_lost_the_lease_appends_nothing_and_still_finds_what_it_wrote() {
    let world = World::start().await;
    let store = world.store().await;
    let hour = Duration::from_hours(1);
    let first = store.take_lease("plan/1", "worker:a", hour).await.unwrap();
    let with = |fence: &Fence, key: &str| Draft {
        fence: Some(fence.clone()),
        ..keyed(key, "{}")
    };
    let before = store.append(with(&first, "before")).await.unwrap();
    assert!(store.take_lease("plan/1", "worker:b", hour).await.is_err());
    store.release_lease(&first).await.unwrap();
    let second = store.take_lease("plan/1", "worker:b", hour).await.unwrap();
    assert!(second.number > first.number);

    let results = store
        .append_all(vec![
            with(&first, "after"),
            with(&second, "mine"),
            with(&first, "before"),
            keyed("no-lease", "{}"),
            with(
                &Fence {
                    lease: "plan/2".to_owned(),
                    number: 1,
                },
                "never-taken",
            ),
            with(
                &Fence {
                    number: second.number + 1,
                    ..second.clone()
                },
                "future",
            ),
        ])
        .await;
    assert!(
        matches!(results[0], Err(AppendError::FenceLost { .. })),
        "{:?}",
        results[0]
    );
    assert!(!results[1].as_ref().unwrap().replayed);
    // Judged before the fence: the old holder learns that its entry was written.
    let replayed = results[2].as_ref().unwrap();
    assert!(replayed.replayed);
    assert_eq!(replayed.entry, before.entry);
    assert!(!results[3].as_ref().unwrap().replayed);
    assert!(
        matches!(results[4], Err(AppendError::FenceLost { .. })),
        "{:?}",
        results[4]
    );
    assert!(
        matches!(results[5], Err(AppendError::FenceLost { .. })),
        "{:?}",
        results[5]
    );
    assert_eq!(chain::check(&world).await, 4);
}

#[tokio::test]
async fn each_entry_of_a_group_fails_alone() {
    let world = World::start().await;
    let store = world.store().await;
    store.append(keyed("used", "{\"n\":1}")).await.unwrap();
    let lost = Fence {
        lease: "nobody's".to_owned(),
        number: 7,
    };
    let results = store
        .append_all(vec![
            draft("{\"n\":0}"),
            keyed("used", "{\"n\":2}"),
            Draft {
                fence: Some(lost),
                ..draft("{}")
            },
            draft("{\"n\":0.5}"),
            // Refused by a statement error of PostgreSQL, which ends the whole call.
            Draft {
                recorded_at: Some(Timestamp::EPOCH),
                ..draft("{}")
            },
            draft("{\"n\":5}"),
        ])
        .await;
    assert!(results[0].is_ok() && results[5].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(AppendError::KeyReused { .. })));
    assert!(matches!(results[2], Err(AppendError::FenceLost { .. })));
    assert!(matches!(results[3], Err(AppendError::Payload { .. })));
    assert!(matches!(
        results[4],
        Err(AppendError::Database { count: 1, .. })
    ));
    assert_eq!(chain::check(&world).await, 4);

    // The same of callers that do not know each other and meet in one group.
    let callers = (0..40).map(|n| {
        let store = store.clone();
        let mut draft = draft(&format!("{{\"n\":{n}}}"));
        if n % 10 == 3 {
            draft.recorded_at = Some(Timestamp::EPOCH);
        }
        tokio::spawn(async move { (n, store.append(draft).await) })
    });
    for caller in callers.collect::<Vec<_>>() {
        let (n, result) = caller.await.unwrap();
        assert_eq!(result.is_err(), n % 10 == 3, "{n}: {result:?}");
    }
    assert_eq!(chain::check(&world).await, 40);
    world.assert_intact();
}

#[tokio::test]
async fn the_simulated_clock_is_the_callers_and_goes_forward() {
    let world = World::with_ledger(&["test", "--simulated-clock", "2026-03-01T00:00:00Z"]).await;
    let store = world.store().await;
    let at = |time: &str| Draft {
        recorded_at: Some(time.parse().unwrap()),
        ..draft("{}")
    };
    let two = store
        .append(at("2026-03-01T00:00:00.000001Z"))
        .await
        .unwrap();
    assert_eq!(
        two.entry.recorded_at.to_string(),
        "2026-03-01T00:00:00.000001Z"
    );
    store
        .append(at("2026-03-01T00:00:00.000001Z"))
        .await
        .unwrap();
    for refused in [at("2026-03-01T00:00:00.000000Z"), draft("{}")] {
        let result = store.append(refused).await;
        assert!(
            matches!(result, Err(AppendError::Database { .. })),
            "{result:?}"
        );
    }
    store
        .append(at("9999-12-31T23:59:59.999999Z"))
        .await
        .unwrap();
    assert_eq!(chain::check(&world).await, 4);
    world.assert_intact();
}

#[tokio::test]
async fn addresses_never_become_names_and_are_not_repeated() {
    const ADDRESS: &str = "ann.lee@example.com";
    let world = World::start().await;
    let good = line("test.happened", "service:api", &json!({}));
    for field in [
        "type",
        "subject",
        "key",
        "run",
        "cause",
        "occurred_at",
        "schema",
        "payload",
        ADDRESS,
    ] {
        let mut line = good.clone();
        line[field] = json!(ADDRESS);
        let output = world.ledger_in(["append", "--json"], &format!("{line}\n"));
        assert_eq!(output.exit, 2, "{field}: {output:?}");
        assert!(output.json()["error"].is_string());
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !said.contains("ann.lee") && !said.contains("example.com"),
            "{field}: {said}"
        );
    }
    let mut kind = good.clone();
    kind["subject"] = json!(format!("{ADDRESS}:7"));
    let output = world.ledger_in(["append", "--json"], &format!("{kind}\n"));
    assert_eq!(output.exit, 2, "{output:?}");
    assert!(!output.stdout.contains("ann.lee"), "{output:?}");
    for arguments in [
        vec!["append", "--as", ADDRESS],
        vec!["append", "--as", "person:ann.lee@example.com"],
        vec!["log", "--subject", "ann.lee@example.com:1"],
        vec!["log", "--subject", "ann.lee@example.com"],
        vec!["log", "--type", ADDRESS],
        vec!["log", "--run", ADDRESS],
        vec!["log", "--as-of", ADDRESS],
    ] {
        let output = world.ledger_in(&arguments, &format!("{good}\n"));
        assert_ne!(output.exit, 0, "{arguments:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            !said.contains("ann.lee") && !said.contains("example.com"),
            "{arguments:?}: {said}"
        );
    }
    // As the natural id of a subject it is kept, sealed, and stands in no entry and in no column.
    let mut by_address = good;
    by_address["subject"] = json!(format!("user:{ADDRESS}"));
    world.append(&[by_address]);
    let mut connection = world.superuser().await;
    for table in ["entries", "payloads", "keys", "identity", "heads"] {
        let sql = format!(
            "select count(*) from ledger.{table} t where t::text like '%example%' or t::text like '%' || encode('example', 'hex') || '%'"
        );
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(found, 0, "{table}");
    }
    assert_eq!(
        world
            .ledger(["log", "--subject", "user:ann.lee@example.com"])
            .ok()
            .stdout
            .lines()
            .count(),
        1
    );
}
