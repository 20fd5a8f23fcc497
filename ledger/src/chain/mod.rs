//! Canonical bytes, hashes and their checking: what an auditor needs and nothing else. Pure: no I/O, no clock, no randomness.

pub mod archive;
pub mod bundle;
pub mod canonical;
pub mod checkpoint;
pub mod cosignature;
pub mod descent;
pub mod entry;
pub mod erasure;
pub mod keys;
pub mod merkle;
pub mod multiproof;
pub mod note;
pub mod plan;
pub mod policy;
pub mod proof;
mod scan;
pub mod tiles;
pub mod tlog_proof;
pub mod verify;
pub mod witness;
