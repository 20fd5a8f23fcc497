//! The log of a migration, its proof and its answers. This page is the map.
//!
//! ```text
//!  command, or a line on standard input
//!     │
//!     ▼
//!  store::Draft ──► Store::append *          checks, salts and seals the payload; waits for its group
//!                      │
//!                      ▼
//!               store::append *              one call for all that wait; recomputes every entry it gets back
//!                      │
//!                      ▼
//!               ledger.append (SQL) *        lock, replay, fence, number, canonical bytes, hash, insert
//!                      │
//!                      ▼
//!     entries · payloads · head              never changed again
//!                      │
//!        ┌─────────────┴──────────────┐
//!        ▼                            ▼
//!  store::read *                store::verify *
//!  decoded, in order            is the log what was written?
//!        │
//!        ▼
//!  projections *                folds: the plan, custody, was any data lost
//! ```
//!
//! Where each arrow marked `*` is:
//!
//! - [`store::Store::append`]: from a draft to the group, in `store/mod.rs` and [`store::payload`]
//! - [`store::append`]: group commit, and the Rust twin of the SQL function
//! - `schema/migrations/0003_append.sql`: the one way in
//! - [`store::read`]: entries in order, as of a point, and those that come
//! - [`store::verify`]: one snapshot, one pass; what is right and wrong is decided in [`chain::verify`]
//! - [`projections::fold`]: one pass over the log through several folds; [`projections::plan`] and
//!   [`projections::custody`] are two of them
//!
//! What the layers may know of each other:
//!
//! - [`domain`]: names, [events](domain::event), the rules of [identification](domain::identify),
//!   [custody](domain::custody) and the [verdict](domain::verdict). Pure.
//! - [`chain`]: the [bytes that are hashed](chain::entry), the [canonical form](chain::canonical), the
//!   [hash of a plan](chain::plan), [proofs](chain::proof), [checkpoints](chain::checkpoint) and the
//!   [evidence bundle](chain::bundle). Pure; knows `domain`.
//! - [`store`]: the only place with SQL, keys, files and a clock. Knows both.
//! - [`projections`]: answers, folded from the log and from nothing else. Knows all three.
//!
//! Without the default feature `store` the crate is pure as a whole, which CI builds to prove it.
#![forbid(unsafe_code)]

pub mod chain;
pub mod domain;
#[cfg(feature = "store")]
pub mod projections;
#[cfg(feature = "store")]
pub mod store;
