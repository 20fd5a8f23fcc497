//! Random worlds, random faults, random kills, any number of workers; and always the same demands. A failure is a seed.
//!
//! A few worlds run with every test run. More of them:
//!
//!     SIMULATION_WORLDS=1000 SIMULATION_SEED=1 SIMULATION_SECONDS=3600 \
//!         cargo test -p ledger-cli --test it simulation -- --nocapture

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use ledger_sim::{Call, Fault, FaultKind, HoldPoint, Occurrence, WorldSpec};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::migration::{Migration, Plan, Running, total};

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
        let run = crate::world::output(&mut migration.dry_command());
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
    let spec = WorldSpec {
        uncalibrated: dice.random_ratio(1, 6),
        plain_users: dice.random_ratio(1, 4),
        rare: seed.is_multiple_of(3),
        ..WorldSpec::seeded(seed)
            .users(dice.random_range(4..28))
            .events_per_user(dice.random_range(3..12))
    };
    let migration = Migration::start(spec).await;
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
        let first = Running::start(first.args(["--users-at-once", &slots]));
        let helper = dice
            .random_ratio(1, 2)
            .then(|| Running::start(&mut migration.worker_command(&format!("w{round}"))));
        // The hold may never be reached: then the run ends by itself.
        let reached = tokio::time::timeout(Duration::from_secs(6), hold.reached()).await;
        if reached.is_ok() {
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..400))).await;
        }
        match helper {
            Some(helper) if dice.random_ratio(1, 2) => {
                helper.kill();
                if dice.random_ratio(1, 2) {
                    first.kill();
                    hold.release();
                } else {
                    hold.release();
                    first.output().await;
                }
            }
            helper => {
                first.kill();
                hold.release();
                if let Some(helper) = helper {
                    helper.output().await;
                }
            }
        }
    }
}

async fn worlds(first: u64, count: u64, limit: Duration) {
    let began = Instant::now();
    let mut failed = Vec::new();
    let mut done = 0;
    for seed in first..first + count {
        if began.elapsed() > limit {
            break;
        }
        done += 1;
        if AssertUnwindSafe(one_world(seed))
            .catch_unwind()
            .await
            .is_err()
        {
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "of {done} worlds from seed {first} on, seeds that failed: {failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "how many worlds is for whoever runs the tests to say"
)]
async fn random_worlds() {
    let number = |name: &str, usual: u64| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |text| text.parse().unwrap())
    };
    let limit = Duration::from_secs(number("SIMULATION_SECONDS", 600));
    let seed = number("SIMULATION_SEED", 1);
    let count = number("SIMULATION_WORLDS", 4);
    worlds(seed, count, limit).await;
}
