//! What the system knows without touching anything: ids, events, rules. Pure.
//!
//! No I/O, no clock, no randomness: the same input gives the same answer, today and when it is asked for again years
//! later "as of" an earlier entry.

pub mod anchoring;
pub mod custody;
pub mod erasure;
pub mod event;
pub mod export;
pub mod hash;
pub mod id;
pub mod identify;
pub mod observation;
pub mod policy;
pub mod printable;
pub mod restoration;
pub mod review;
pub mod verdict;
