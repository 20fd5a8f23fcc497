//! Calendar events: what they are, what is measured of them, and what a plan says about them.
//!
//! [`executor`] is the calendar as the engine knows it; it, [`sources`], [`accounts`], [`inventory`] and [`place`] talk to the outside.
//! Everything else is pure. The path of one event: raw bytes
//! ([`event`]) and what v1 and v2 recorded ([`recorded`], [`v2_text`]) become signals
//! ([`signals`]), a policy makes a class of them, and conditions ([`calibration`], [`coverage`])
//! decide the disposition; [`census`] does all that for one account. [`incumbent`] counts what the
//! migration plan's own search would have done instead. [`restore`] says how an event comes back.

pub mod accounts;
pub mod calibration;
pub mod census;
pub mod coverage;
pub mod credentials;
pub mod deadlines;
pub mod error;
pub mod event;
pub mod executor;
pub mod incumbent;
pub mod inventory;
mod members;
pub mod place;
pub mod reader;
pub mod recorded;
pub mod records;
pub mod restore;
mod shared;
pub mod signals;
pub mod sources;
pub mod text;
pub mod titles;
pub mod v2_text;
mod writing;
