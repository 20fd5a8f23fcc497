//! End-to-end tests: the real binary on a real PostgreSQL. One world per test, see `world.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]
#![expect(
    clippy::too_many_lines,
    reason = "tables of cases are long, and read best beside what is done with them"
)]

#[macro_use]
mod snapshot;
mod chain;
mod migration;
mod server;
mod witness;
mod workers;
mod world;
mod wrapper;

mod append;
mod auditor;
mod bench;
mod catalogue;
mod checkpoint;
mod cleanup;
mod cleanup_bad_input;
mod cleanup_doubt;
mod cleanup_faults;
mod cleanup_persons;
mod cleanup_sources;
mod cleanup_stops;
mod cleanup_v2;
mod cli;
mod credentials;
mod documents;
mod epochs;
mod erasure;
mod erasure_faults;
mod erasure_writers;
mod executor;
mod executor_bucket;
mod executor_faults;
mod export;
mod faults;
mod follow;
mod guards;
mod lag;
mod made_up;
mod memory;
mod observe;
mod observe_later;
mod prove;
mod publish;
mod restore;
mod restore_again;
mod restore_faults;
mod review;
mod review_reports;
mod runlog;
mod schema;
mod simulation;
mod story;
mod tamper;
mod tamper_proof;
mod there_again;
mod threats;
mod tidy;
mod tiles;
