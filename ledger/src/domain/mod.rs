//! What the system knows without touching anything: types and rules, pure.
//!
//! No I/O, no clock, no randomness: the same input gives the same answer, today and when an
//! answer is asked for again years later "as of" an earlier entry.

pub mod custody;
pub mod identify;
pub mod policy;
pub mod verdict;
