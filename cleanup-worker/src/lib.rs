//! Workers.

pub mod executors;
