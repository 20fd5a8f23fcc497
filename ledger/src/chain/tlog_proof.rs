//! Proof files <https://c2sp.org/tlog-proof>: that one entry is in a log, checkable without the log.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{CheckpointError, SignedCheckpoint, decode_hash, encode_hash};
use super::entry::Hash;
use super::policy::{Accepted, Policy, UnmetError};
use super::proof::{HASHES_MAX, ProofError, verify_inclusion};

/// First line of the format.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// Longest line in bytes.
const LINE_BYTES_MAX: usize = (64 << 10) - 1;

/// Bytes that are not a proof file, or one that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// Another first line, or not text.
    #[error("a proof file starts with the line c2sp.org/tlog-proof@v1")]
    Header,
    /// Something before the checkpoint is not in its one form.
    #[error("line {0} of the proof file is not what the format has there")]
    Line(usize),
    /// Its checkpoint cannot be read.
    #[error("read the checkpoint of the proof file")]
    Checkpoint(#[source] CheckpointError),
    /// Its checkpoint is not signed as it has to be.
    #[error("trust the checkpoint of the proof file")]
    Unmet(#[source] UnmetError),
    /// The entry is not where the file says.
    #[error("find the entry in the tree of the checkpoint")]
    Proof(#[source] ProofError),
}

/// That a leaf stands at an index in the tree of a checkpoint. Its text is the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Anything, and covered by nothing: not to be used before the proof is verified, and then only as far as the leaf says.
    pub extra: Option<Vec<u8>>,
    /// Index of the leaf, from 0: an entry's `seq` - 1.
    pub index: u64,
    /// Inclusion proof, the leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The checkpoint, with all its signatures.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// Reads a proof file. Nothing is verified yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TlogProofError::Header)?;
        let mut rest = text.strip_prefix(HEADER).ok_or(TlogProofError::Header)?;
        let mut number = 1;
        let mut next = || {
            number += 1;
            let (line, after) = rest.split_once('\n').ok_or(TlogProofError::Line(number))?;
            rest = after;
            if line.len() > LINE_BYTES_MAX {
                return Err(TlogProofError::Line(number));
            }
            Ok((number, line))
        };
        let (mut at, mut line) = next()?;
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            extra = Some(
                STANDARD
                    .decode(data)
                    .map_err(|_| TlogProofError::Line(at))?,
            );
            (at, line) = next()?;
        }
        let index = line.strip_prefix("index ").and_then(|n| n.parse().ok());
        let index = index.ok_or(TlogProofError::Line(at))?;
        let mut hashes = Vec::new();
        loop {
            let (at, line) = next()?;
            if line.is_empty() {
                break;
            }
            let hash = decode_hash(line).filter(|_| hashes.len() < HASHES_MAX);
            hashes.push(hash.ok_or(TlogProofError::Line(at))?);
        }
        let checkpoint =
            SignedCheckpoint::parse(rest.as_bytes()).map_err(TlogProofError::Checkpoint)?;
        let proof = Self {
            extra,
            index,
            hashes,
            checkpoint,
        };
        // What is left to differ: the number of the index, and base64.
        (proof.to_string() == text)
            .then_some(proof)
            .ok_or(TlogProofError::Line(at))
    }

    /// Checks the checkpoint's signatures, and then that the leaf is where the proof says.
    pub fn verify<'p>(
        &self,
        leaf: &Hash,
        policy: &'p Policy,
    ) -> Result<Accepted<'p>, TlogProofError> {
        let accepted = policy
            .check(&self.checkpoint)
            .map_err(TlogProofError::Unmet)?;
        let tree = self.checkpoint.checkpoint();
        verify_inclusion(leaf, self.index, tree.size(), &self.hashes, &tree.root())
            .map_err(TlogProofError::Proof)?;
        Ok(accepted)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", encode_hash(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
#[path = "tlog_proof_tests.rs"]
mod tests;
