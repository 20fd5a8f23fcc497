//! Workers: they execute the commands of a migration and emit its events.
//!
//! The way of a request through this crate: [`config`] reads the environment once, [`secrets`] keeps what it found from
//! being printed, [`clients`] talks to the outside services, [`executors`] know one kind of item each, and the [`engine`] executes plans
//! through them.
#![forbid(unsafe_code)]

pub mod clients;
mod coalesce;
pub mod config;
pub mod engine;
pub mod executors;
pub mod secrets;
