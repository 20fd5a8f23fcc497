//! Payloads about undoing: putting back what a run deleted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::id::{EntryId, RunId};

/// `item.restore_intended`: what is about to be put back, from which backup and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreIntended {
    /// Entry of the intent to delete, which holds the backup.
    pub deletion: EntryId,
    /// SHA-256 of that backup's bytes.
    pub backup_sha256: Hash,
    /// The run that deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<RunId>,
    /// From 1, over all runs; a new attempt only after the outcome of the one before.
    pub attempt: u32,
    /// By which of the executor's ways: `uncancel`, `insert`.
    pub way: String,
    /// Where it lies.
    pub place: String,
    /// Its id there when it was deleted.
    pub item: String,
    /// The id that it will have if this succeeds.
    pub becomes: String,
}

/// `item.restored`: it is there again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemRestored {
    /// Entry of the intent.
    pub intent: EntryId,
    /// How it came to be there.
    pub outcome: BackHow,
    /// By which way.
    pub way: String,
    /// Where it lies.
    pub place: String,
    /// Its id there when it was deleted.
    pub item: String,
    /// Its id there now.
    pub becomes: String,
    /// Its version now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// It was read back and held against the backup.
    pub verified: bool,
    /// Names of fields that are not as in the backup although this way can bring them back.
    pub differs: Vec<String>,
    /// Names of fields that are not as in the backup because this way cannot bring them back.
    pub lost: Vec<String>,
    /// Found out after a crash or a lost reply, by asking.
    pub recovered: bool,
    /// HTTP status that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}

/// How an item came to be there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackHow {
    /// By us.
    Restored,
    /// It was there before any request of ours.
    AlreadyThere,
}

/// `item.restore_failed`: it was not put back by this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreFailed {
    /// Entry of the intent.
    pub intent: EntryId,
    /// By which way it was tried.
    pub way: String,
    /// Class of the error.
    pub class: String,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Which attempt this was.
    pub attempt: u32,
    /// What was decided: `retried`, `next_way`, `given_up`.
    pub decision: String,
    /// Found out after a crash or a lost reply, by asking.
    pub recovered: bool,
    /// What happened, in words.
    pub reason: String,
    /// `Date` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_date: Option<String>,
}
