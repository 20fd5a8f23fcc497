//! A long ledger takes no more memory than a short one.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::Connection as _;

use crate::world::World;

/// Appends plain entries as the writer, by the thousand, made in SQL: what takes time here is not what is measured.
async fn grow(world: &World, thousands: u32) {
    let mut connection = world.writer().await;
    for _ in 0..thousands {
        let appended: i64 = sqlx::query_scalar(
            "select count(*) \
             from (select array_agg(id) as ids, array_agg(id::text) as keys, array_agg('thing:' || gen_random_uuid()) as subjects, \
                          array_agg(sha256(convert_to('ledger-payload-v1', 'UTF8') || '\\x00'::bytea || payload)) as commitments, \
                          array_agg(payload) as payloads \
                   from (select gen_random_uuid() as id, \
                                decode(repeat('ab', 32), 'hex') \
                                || convert_to('{\"n\":' || n || ',\"text\":\"' || repeat('x', 300) || '\"}', 'UTF8') as payload \
                         from generate_series(1, 1000) n) one) m, \
                  lateral ledger.append( \
                      (select ledger_id from ledger.heads where name <> 'catalogue'), m.ids, m.keys, array_fill('test.happened'::text, array[1000]), \
                      array_fill(1, array[1000]), m.subjects, array_fill('system'::text, array[1000]), \
                      array_fill(null::uuid, array[1000]), array_fill(null::uuid, array[1000]), \
                      array_fill(now(), array[1000]), m.commitments, array_fill('plain'::text, array[1000]), \
                      array_fill(''::text, array[1000]), array_fill(''::bytea, array[1000]), m.payloads, \
                      array_fill(null::text, array[1000]), array_fill(null::bigint, array[1000]), \
                      array_fill(null::timestamptz, array[1000])) a \
             where a.status = 'appended'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(appended, 1_000);
    }
    connection.close().await.unwrap();
}

/// Most memory that a command ever held, in KiB (proc(5), VmHWM), read as long as it runs.
fn peak(world: &World, arguments: &[&str], lines: usize) -> u64 {
    let mut child = world
        .command(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let high_water = || -> Option<u64> {
        let text = std::fs::read_to_string(&status).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let mut out = child.stdout.take().unwrap();
    let ended = AtomicBool::new(false);
    let (mut seen, mut buffer) = (0, vec![0; 1 << 16]);
    let peak = std::thread::scope(|scope| {
        // The mark only rises and goes with the process, so that the last one read is the one that counts.
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = high_water().unwrap_or(peak);
                std::thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        while let read @ 1.. = out.read(&mut buffer).unwrap() {
            seen += buffer[..read].split(|byte| *byte == b'\n').count() - 1;
        }
        ended.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(seen, lines);
    peak
}

#[tokio::test]
async fn sixty_thousand_entries_take_no_more_than_twenty_thousand() {
    let world = World::start().await;
    let measure = |lines| {
        world.ledger(["checkpoint"]).ok();
        let bundle = world.home().join(format!("{lines}.zip"));
        let bundle = bundle.to_str().unwrap();
        let commands: [(&[&str], usize); 5] = [
            (&["verify", "--json"], 1),
            (&["log", "--json"], lines),
            (&["export", "--json", "--bundle", bundle], 1),
            (&["verify", "--json", "--bundle", bundle], 1),
            (&["checkpoint", "--json"], 1),
        ];
        commands.map(|(arguments, lines)| {
            (
                arguments[0].to_owned() + arguments[1],
                peak(&world, arguments, lines),
            )
        })
    };
    grow(&world, 20).await;
    let short = measure(20_001);
    grow(&world, 40).await;
    // One more: the entry about the first bundle.
    let long = measure(60_002);
    // The allocator's own noise, in KiB.
    let noise = 3 * 1_024;
    for ((command, short), (_, long)) in short.iter().zip(&long) {
        assert!(
            *short > 1_000 && *long <= short + noise,
            "{command}: {short} and {long} KiB"
        );
    }
}
