//! What the system knows about migrations: ids, events, rules. Pure: no I/O, no clock, no randomness.

pub mod id;
