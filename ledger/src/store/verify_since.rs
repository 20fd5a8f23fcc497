//! Where a verification begins: at entry 1, or behind a checkpoint that an earlier one led to; and what is said of the rest.

use super::Store;
use super::read::ReadError;
use super::verify::{Anchor, Claim};
use super::verify_erasure::Announced;
use super::verify_tree::words_of;
use crate::chain::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::chain::entry::Hash;
use crate::chain::keys::CheckpointKeys;
use crate::chain::merkle::Frontier;
use crate::chain::proof::ProofError;
use crate::chain::verify::Head;
use crate::domain::id::Timestamp;

/// What a pass begins with: nothing, or what a checkpoint proves.
#[derive(Default)]
pub(super) struct Start {
    /// The tree over the entries that are not read.
    pub(super) frontier: Frontier,
    /// The keys as these entries name them.
    pub(super) keys: CheckpointKeys,
    /// The last of them: number, hash, time of recording.
    pub(super) last: Option<(u64, Hash, Timestamp)>,
    /// The erasures that they announce.
    pub(super) announced: Announced,
}

impl Store {
    /// What is known at a checkpoint that was verified before: the stored tree has to lead to its root, and the entries
    /// that are read from before it, its last and those about keys and erasures, have to be in it.
    pub(super) async fn start_behind(&self, since: &Claim, head: Head) -> Result<Start, ReadError> {
        let size = since.size;
        let unproven = |why: &dyn std::error::Error| ReadError::Unproven {
            size,
            why: words_of(why),
        };
        if size == 0 || size > head.size {
            let why = CheckpointError::Size;
            return Err(unproven(&why));
        }
        let frontier = self
            .stored_frontier(size)
            .await
            .map_err(|error| unproven(&error))?;
        let signed = since.signed.as_ref().map(SignedCheckpoint::checkpoint);
        let Some(checkpoint) = signed.filter(|one| one.root() == frontier.root()) else {
            return Err(unproven(&ProofError::Root));
        };
        let keys = self.checkpoint_keys_until(size).await;
        let (keys, of_keys) = keys.map_err(|error| unproven(&error))?;
        let (announced, told) = self.announced_until(size).await?;
        for seq in of_keys.into_iter().chain(told).chain([size]) {
            let proof = self.prove_entry(seq, checkpoint).await;
            proof.map_err(|error| unproven(&error))?;
        }
        let last = self.get(size).await?;
        let last = last.map(|last| (size, last.hash, last.entry.recorded_at));
        Ok(Start {
            frontier,
            keys,
            last,
            announced,
        })
    }
}

/// What a verification that began behind an entry left out.
pub(super) fn not_read_again(begun: u64, anchors: &[Anchor]) -> Vec<String> {
    let mut left_out = Vec::new();
    if begun > 0 {
        left_out.push(format!(
            "entries 1 to {begun}, their payloads, and the identities: not read again, since the stored tree leads to the \
             checkpoint of that size"
        ));
    }
    let before = anchors.iter().filter(|anchor| anchor.size < begun).count();
    if before > 0 {
        left_out.push(format!(
            "{before} heads and receipts: they lie before entry {begun}"
        ));
    }
    left_out
}

/// How far nothing from outside speaks for the ledger.
pub(super) fn anchoring(given: bool, anchored: Option<u64>, head: Head) -> Option<String> {
    match anchored {
        None if given => None,
        None => Some(format!(
            "nothing kept outside was given (--checkpoint, --head): a cut tail or a rewritten whole cannot be seen \
             from inside; keep {}:{}",
            head.size, head.hash
        )),
        Some(anchored) if anchored < head.size => Some(format!(
            "entries {} to {} are not anchored",
            anchored + 1,
            head.size
        )),
        Some(_) => None,
    }
}
