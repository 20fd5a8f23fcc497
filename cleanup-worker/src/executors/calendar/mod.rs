//! Calendar events: what they are, what is measured of them, and what a plan says about them.
//!
//! Everything in this folder but the engine's glue is pure. The path of one event: raw bytes
//! ([`event`]) and what v1 and v2 recorded ([`recorded`], [`v2_text`]) become signals
//! ([`signals`]), a policy makes a class of them, and conditions ([`calibration`], [`coverage`])
//! decide the disposition; [`census`] does all that for one account. [`incumbent`] counts what the
//! migration plan's own search would have done instead.

pub mod calibration;
pub mod census;
pub mod coverage;
pub mod event;
pub mod incumbent;
pub mod recorded;
pub mod signals;
pub mod text;
pub mod titles;
pub mod v2_text;
