//! Random worlds, random faults, random kills, any number of workers; and always the same demands. A failure is a seed.
//!
//! A few worlds run with every test run. A thousand, or as many as an hour has room for:
//!
//!     cargo test -p ledger-cli --test it simulation -- --ignored --nocapture
//!
//! `SIMULATION_WORLDS`, `SIMULATION_SEED`, `SIMULATION_SECONDS` and `SIMULATION_AT_ONCE` say otherwise.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use ledger_sim::{Call, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::migration::{APPROVER, Migration, Plan, Running, total, word};
use crate::world::output;

/// Faults that pass: the same request can succeed later.
fn passing(dice: &mut StdRng) -> (Call, FaultKind) {
    let calls = [
        Call::EventsDelete,
        Call::EventsGet,
        Call::EventsList,
        Call::Token,
        Call::Select,
    ];
    let call = *calls.choose(dice).unwrap();
    let kinds = [
        FaultKind::LoseRequest,
        FaultKind::LoseReply,
        FaultKind::status(429),
        FaultKind::retry_after(503, "1"),
        FaultKind::status(500),
        FaultKind::html(502),
        FaultKind::status(504),
        FaultKind::TruncateBody { keep: 30 },
        FaultKind::Stall { millis: Some(300) },
    ];
    let mut kind = kinds.choose(dice).unwrap().clone();
    let of_google = [Call::EventsDelete, Call::EventsGet, Call::EventsList];
    if of_google.contains(&call) && dice.random_ratio(1, 3) {
        let said = [
            FaultKind::status(401),
            FaultKind::reason(403, "userRateLimitExceeded"),
            FaultKind::reason(403, "rateLimitExceeded"),
            FaultKind::html(200),
            FaultKind::html(404),
            FaultKind::html(410),
        ];
        kind = said.choose(dice).unwrap().clone();
    }
    if call == Call::EventsList && dice.random_ratio(1, 4) {
        let of_lists = [
            FaultKind::DuplicateItems,
            FaultKind::EmptyPage,
            FaultKind::ShortPage,
        ];
        kind = of_lists.choose(dice).unwrap().clone();
    }
    (call, kind)
}

fn seal(migration: &Migration) -> Plan {
    for _ in 0..6 {
        let run = output(&mut migration.dry_command());
        if run.exit == 0 {
            migration.sim.assert_only_reads();
            return Plan::of(&run.json());
        }
    }
    migration.sim.clear_faults();
    Plan::of(&migration.dry_run())
}

async fn one_world(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut spec = WorldSpec {
        uncalibrated: dice.random_ratio(1, 6),
        plain_users: dice.random_ratio(1, 4),
        rare: seed.is_multiple_of(3),
        ..WorldSpec::seeded(seed)
            .users(dice.random_range(4..28))
            .events_per_user(dice.random_range(3..12))
    };
    // In a small world every text may be v1's own by chance, and then it is calibrated.
    spec.uncalibrated &= spec.users >= 16;
    let migration = if dice.random_ratio(1, 4) {
        Migration::start_live(spec).await
    } else {
        Migration::start(spec).await
    };
    for n in 0..dice.random_range(0..6) {
        let (call, kind) = passing(&mut dice);
        let p = f64::from(dice.random_range(1..20)) / 100.0;
        let when = Occurrence::Probability { p, seed: seed + n };
        migration.sim.add_fault(Fault::once(call, kind).when(when));
    }
    let plan = seal(&migration);
    migration.approve(&plan.hash);
    if !plan.deletes.is_empty() {
        disturbed(&migration, &plan, &mut dice).await;
    }
    migration.sim.clear_faults();
    let report = migration.live_run(&plan.hash).ok().json();
    assert_eq!(
        total(&report, "deleted"),
        plan.deletes.len() as u64,
        "{report:#}"
    );
    assert_eq!(total(&report, "unexplained"), 0, "{report:#}");
    migration.sim.assert_only_deleted(&plan.deletes);
    migration.assert_ledger_accounts_for_all();
    let loss = migration.loss();
    assert_eq!(loss["scopes"]["calendar"]["verdict"], "none", "{loss}");
    migration.world.assert_intact();
    if !plan.deletes.is_empty() && dice.random_ratio(1, 3) {
        undone(&migration, &plan, &word(&report["run"]), &mut dice);
    }
}

/// What was done is looked at by somebody else and put back, through faults that pass: the world is as it was.
fn undone(migration: &Migration, plan: &Plan, run: &str, dice: &mut StdRng) {
    let as_recorded = || {
        let seen = migration.observe(run, APPROVER).json();
        for what in ["survivors", "unexplained", "late_writes"] {
            assert_eq!(total(&seen, what), 0, "{seen:#}");
        }
    };
    as_recorded();
    let calls = [Call::EventsPatch, Call::EventsGet, Call::EventsList];
    let call = *calls.choose(dice).unwrap();
    let kinds = [
        FaultKind::LoseRequest,
        FaultKind::LoseReply,
        FaultKind::html(502),
        FaultKind::retry_after(429, "1"),
    ];
    let kind = kinds.choose(dice).unwrap().clone();
    let p = f64::from(dice.random_range(1..15)) / 100.0;
    let when = Occurrence::Probability { p, seed: 1 };
    migration.sim.add_fault(Fault::once(call, kind).when(when));
    output(&mut migration.restore_plan(&plan.hash));
    migration.sim.clear_faults();
    output(&mut migration.restore_plan(&plan.hash)).ok();
    migration.assert_as_before(&plan.deletes);
    migration.assert_restorations_add_up();
    as_recorded();
    migration.world.assert_intact();
}

/// Live runs with other workers beside them, killed or told to stop at random moments.
async fn disturbed(migration: &Migration, plan: &Plan, dice: &mut StdRng) {
    for round in 0..dice.random_range(1..4) {
        let calls = [Call::EventsDelete, Call::EventsGet, Call::EventsList];
        let call = *calls.choose(dice).unwrap();
        let at = *[HoldPoint::Before, HoldPoint::After].choose(dice).unwrap();
        let nth = dice.random_range(1..12);
        let hold = migration.sim.hold(call, nth, at);
        let slots = dice.random_range(1..6).to_string();
        let mut first = migration.live_command(&plan.hash);
        let mut running = vec![Running::start(first.args(["--users-at-once", &slots]))];
        for helper in 0..dice.random_range(0..3) {
            let name = format!("w{round}{helper}");
            running.push(Running::start(&mut migration.worker_command(&name)));
        }
        // The hold may never be reached: then the run ends by itself.
        let reached = tokio::time::timeout(Duration::from_secs(6), hold.reached()).await;
        if reached.is_ok() {
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..400))).await;
        }
        if dice.random_ratio(1, 3) {
            migration.world.drop_connections().await;
        }
        // Each is killed, told to stop or left alone; what holds them all ends.
        let mut left = Vec::new();
        for process in running {
            match dice.random_range(0..5) {
                0 | 1 => process.kill(),
                2 => {
                    process.tell_to_stop();
                    left.push(process);
                }
                _ => left.push(process),
            }
        }
        hold.release();
        for process in left {
            process.output().await;
        }
    }
}

/// A world on threads of its own: its tests wait for processes, which its services have to answer meanwhile.
fn alone(seed: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(one_world(seed));
}

#[expect(clippy::print_stdout, reason = "it says how far it came")]
async fn worlds(first: u64, count: u64, at_once: usize, limit: Duration) {
    let began = Instant::now();
    let results = stream::iter(first..first + count)
        .take_while(|_| std::future::ready(began.elapsed() < limit))
        .map(|seed| async move {
            let ended = tokio::task::spawn_blocking(move || alone(seed)).await;
            (seed, ended.is_ok())
        })
        .buffer_unordered(at_once);
    let results: Vec<(u64, bool)> = results.collect().await;
    let failed = results.iter().filter(|(_, fine)| !fine);
    let failed: Vec<u64> = failed.map(|(seed, _)| *seed).collect();
    let done = results.len();
    println!(
        "{done} worlds from seed {first} on, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// As many as whoever starts the test says, else `count` in `seconds`.
#[expect(
    clippy::disallowed_methods,
    reason = "how many worlds is said by who starts the test"
)]
async fn as_told(count: u64, seconds: u64, at_once: u64) {
    let number = |name: &str, usual: u64| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |text| text.parse().unwrap())
    };
    let limit = Duration::from_secs(number("SIMULATION_SECONDS", seconds));
    let seed = number("SIMULATION_SEED", 1);
    let count = number("SIMULATION_WORLDS", count);
    let at_once = number("SIMULATION_AT_ONCE", at_once);
    worlds(seed, count, usize::try_from(at_once).unwrap(), limit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_worlds() {
    as_told(4, 600, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes most of an hour"]
async fn a_thousand_random_worlds() {
    as_told(1_000, 3_600, 6).await;
}
