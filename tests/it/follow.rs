//! Reading in order: the log as it was, the log as it grows, and what is printed of it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::{World, line};

/// `ledger log --follow --json`, line by line.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let mut command: Command =
            world.command([&["log", "--follow", "--json"], arguments].concat());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn interrupt(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        assert!(
            self.child.wait().unwrap().success(),
            "an interrupt is how it ends"
        );
        assert!(self.lines.next().is_none());
    }
}

fn happened(n: u64) -> Value {
    line("test.happened", "service:api", &json!({ "n": n }))
}

// The store tells followers from its runtime, while this test waits for the follower's line on its own thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sees_entries_of_other_processes_promptly_and_in_order() {
    let world = World::start().await;
    let mut follower = Follower::start(&world, &[]);
    assert_eq!(follower.next()["seq"], 1);
    let store = world.store().await;
    let mut waited = Duration::ZERO;
    for seq in 2..=21 {
        store.append(crate::append::draft("{}")).await.unwrap();
        let began = Instant::now();
        assert_eq!(follower.next()["seq"], seq);
        waited += began.elapsed();
    }
    // It looks once a second by itself: 20 entries would take that many seconds.
    assert!(
        waited < Duration::from_secs(10),
        "it was not told: {waited:?}"
    );

    // Many at once, from several processes.
    std::thread::scope(|scope| {
        for process in 0..4 {
            let world = &world;
            scope.spawn(move || {
                let lines: Vec<Value> = (0..50).map(|n| happened(process * 100 + n)).collect();
                world.append(&lines)
            });
        }
    });
    for seq in 22..=221 {
        assert_eq!(follower.next()["seq"], seq);
    }
    follower.interrupt();
}

#[tokio::test]
async fn a_follower_outlives_its_connections() {
    let world = World::start().await;
    let mut superuser = world.superuser().await;
    let mut follower = Follower::start(&world, &["--type", "test.happened"]);
    let mut next = 1;
    for round in 0..3 {
        let appended = world.append(&[
            happened(next),
            line("test.other", "service:api", &json!({})),
            happened(next + 1),
        ]);
        assert_eq!(appended.len(), 3);
        for n in [next, next + 1] {
            assert_eq!(
                follower.next()["payload"],
                json!({ "n": n }),
                "round {round}"
            );
        }
        next += 2;
        let killed: i64 = sqlx::query_scalar(
            "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()) k",
        )
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        assert!(killed > 0, "the follower has connections");
    }
    world.append(&[happened(next)]);
    assert_eq!(follower.next()["payload"], json!({ "n": next }));
    follower.interrupt();
}

#[tokio::test]
async fn a_line_of_the_log_has_what_programs_rely_on() {
    let world = World::start().await;
    let mut given = line(
        "test.happened",
        "service:api",
        &json!({"b": 1, "a": ["é", "\u{1f600}"]}),
    );
    given["key"] = json!("it/1");
    given["schema"] = json!(3);
    given["run"] = json!("0197f1c2-0000-7000-8000-00000000000a");
    given["occurred_at"] = json!("2026-03-01T10:00:00.1234567+02:00");
    let answer = world.append(&[given]).remove(0);
    let log = world.ledger(["log", "--json", "--from", "2"]).ok();
    let [entry] = &log.lines()[..] else {
        panic!("{log:?}")
    };
    for repeated in ["seq", "hash"] {
        assert_eq!(entry[repeated], answer[repeated]);
    }
    assert_eq!(entry["entry"]["id"], answer["id"]);
    assert_eq!(entry["kind"], "service");
    for repeated in ["type", "seq", "prev", "recorded_at"] {
        assert_eq!(entry[repeated], entry["entry"][repeated], "{repeated}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(entry["bytes"].as_str().unwrap()).unwrap(),
        entry["entry"]
    );
    assert_eq!(entry["payload"], json!({"b": 1, "a": ["é", "\u{1f600}"]}));
    assert_eq!(
        (&entry["payload_state"], &entry["natural_id"]),
        (&json!("open"), &json!("api"))
    );
    assert_eq!(
        entry["entry"]["occurred_at"], "2026-03-01T08:00:00.123456Z",
        "truncated, in UTC"
    );
    assert_eq!(
        (&entry["entry"]["schema"], &entry["entry"]["actor"]),
        (&json!(3), &json!("person:tester"))
    );
    assert_eq!(world.ledger(["show", "2", "--json"]).ok().json(), *entry);
}

#[tokio::test]
async fn the_log_as_it_was() {
    let world = World::with_ledger(&["test", "--simulated-clock", "2026-03-01T00:00:00Z"]).await;
    for (n, at) in [
        (2, "2026-03-02T00:00:00Z"),
        (3, "2026-03-02T00:00:00.000001Z"),
        (4, "2026-03-04T00:00:00Z"),
    ] {
        let input = format!("{}\n", happened(n));
        world
            .ledger_in(["append", "--recorded-at", at], &input)
            .ok();
    }
    let seqs = |arguments: &[&str]| -> Vec<u64> {
        let output = world.ledger([&["log", "--json"], arguments].concat()).ok();
        output
            .lines()
            .iter()
            .map(|line| line["seq"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(seqs(&[]), [1, 2, 3, 4]);
    assert_eq!(seqs(&["--as-of", "3"]), [1, 2, 3]);
    assert_eq!(seqs(&["--as-of", "2026-03-02T00:00:00Z"]), [1, 2]);
    assert_eq!(seqs(&["--as-of", "2026-03-02T01:00:00+01:00"]), [1, 2]);
    assert_eq!(
        seqs(&["--as-of", "2026-03-03T00:00:00Z", "--from", "2"]),
        [2, 3]
    );
    assert_eq!(seqs(&["--from", "2", "--to", "3"]), [2, 3]);
    assert_eq!(seqs(&["--to", "3", "--as-of", "2"]), [1, 2]);
    assert_eq!(seqs(&["--as-of", "2020-01-01T00:00:00Z"]), [0; 0]);
    assert_eq!(
        seqs(&[
            "--subject",
            "service:api",
            "--type",
            "test.happened",
            "--to",
            "3"
        ]),
        [2, 3]
    );
    assert_eq!(
        seqs(&["--type", "ledger.created", "--type", "test.happened"]),
        [1, 2, 3, 4]
    );
    assert_eq!(
        seqs(&["--run", "0197f1c2-0000-7000-8000-00000000000a"]),
        [0; 0]
    );
    assert_eq!(world.ledger(["log", "--as-of", "yesterday"]).exit, 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let world = World::start().await;
    let lines: Vec<Value> = (0..2_000).map(happened).collect();
    world.append(&lines);
    for arguments in [&["log"][..], &["log", "--json"], &["log", "--follow"]] {
        let mut child = world
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(!first.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?} {output:?}");
    }
}
