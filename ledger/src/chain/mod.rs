//! Canonical bytes, hashes and their checking: what an auditor needs and nothing else. Pure: no I/O, no clock, no randomness.

pub mod canonical;
pub mod entry;
pub mod erasure;
pub mod merkle;
pub mod note;
pub mod plan;
mod scan;
pub mod verify;
