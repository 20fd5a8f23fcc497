//! What happens to a ledger's proof: checkpoint keys, publications, the catalogue, a restore. Payloads of [`super::event`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::id::LedgerId;

/// `checkpoint_key.added`: from this entry on, checkpoints are signed by this key too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointKeyAdded {
    /// The C2SP verifier key.
    pub vkey: String,
    /// The same as a C2SP signed note, by a key that was valid before: who can append entries cannot add keys.
    pub statement: String,
}

/// `checkpoint_key.retired`: no checkpoint that covers this entry is signed by this key; those before stay valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointKeyRetired {
    /// The C2SP verifier key.
    pub vkey: String,
    /// The same as a C2SP signed note, by a key that was valid before.
    pub statement: String,
}

/// `checkpoint.published`: a signed checkpoint was put somewhere outside this database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointPublished {
    /// Number of entries that it speaks for.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Where it was put, without secrets.
    pub target: String,
}

/// `ledger.listed`: in the catalogue, that a ledger exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerListed {
    /// Its id.
    pub ledger: LedgerId,
    /// Its name.
    pub name: String,
    /// Origin of its checkpoints.
    pub origin: String,
    /// C2SP verifier key of its first checkpoint key.
    pub checkpoint_key: String,
    /// Hash of its entry 1.
    pub first_hash: Hash,
}

/// `checkpoint.listed`: in the catalogue, that a checkpoint of a ledger was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointListed {
    /// The ledger's id.
    pub ledger: LedgerId,
    /// Number of entries that the checkpoint speaks for.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// `ledger.restored`: the ledger was restored from a backup that is older than a checkpoint it had signed; the entries
/// between are lost, and their numbers are given out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerRestored {
    /// Number of entries that the backup held.
    pub kept: u64,
    /// Root of the tree over them.
    pub kept_root: Hash,
    /// First entry that is lost.
    pub lost_from: u64,
    /// Last entry that is known to be lost: the size of the last checkpoint signed before.
    pub lost_to: u64,
    /// Root of that checkpoint.
    pub lost_root: Hash,
    /// Why, in words.
    pub reason: String,
    /// The same as a C2SP signed note, by the keys of the ledger's checkpoints.
    pub statement: String,
}
