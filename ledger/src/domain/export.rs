//! What a copy that left the ledger is remembered by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash::Hash;

/// `export.made`: entries were copied to a file outside. Recorded before the file gets its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportMade {
    /// `bundle`, `tiles`, `report` or `letter`.
    pub what: String,
    /// Number of the first entry in it.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// Entries in it, or that it repeats something of.
    pub entries: u64,
    /// Entries of which it holds the payload, readable by anybody: what has to be recalled when one is erased.
    pub payloads: u64,
    /// What was asked for, by filter.
    pub selection: BTreeMap<String, String>,
    /// Entries of the checkpoint that it is proved by, or of the last one where it is a report; 0 where there was none.
    pub size: u64,
    /// Root of that checkpoint.
    pub root: Hash,
    /// SHA-256 of the file; of tiles, of the checkpoint among them.
    pub sha256: Hash,
}
