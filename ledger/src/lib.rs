//! The log of a migration, its proof and its answers.
#![forbid(unsafe_code)]

pub mod chain;
pub mod domain;
#[cfg(feature = "store")]
pub mod projections;
#[cfg(feature = "store")]
pub mod store;
