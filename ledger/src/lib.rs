//! The log of a migration, its proof and its answers.
#![forbid(unsafe_code)]

pub mod chain;
pub mod domain;
