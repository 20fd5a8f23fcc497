//! What an erasure leaves behind as proof: a digest over what was stored, made of the rows as they were destroyed.
//!
//! Each entry commits to its stored row. A digest that the entries give says that the rows were still those; so nothing
//! that was altered can be passed off as erased.

use sha2::{Digest, Sha256};

use super::entry::Hash;

/// `SHA-256("ledger-erased-v1\0" ‖ for each entry in order: seq, 8 bytes big-endian ‖ stored, 32 bytes)`.
#[derive(Debug, Clone)]
pub struct ErasedDigest(Sha256);

impl Default for ErasedDigest {
    fn default() -> Self {
        Self(Sha256::new().chain_update(b"ledger-erased-v1\0"))
    }
}

impl ErasedDigest {
    /// Takes in the next entry.
    pub fn add(&mut self, seq: u64, stored: Hash) {
        self.0.update(seq.to_be_bytes());
        self.0.update(stored.0);
    }

    /// The digest.
    pub fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_numbers_and_stored_hashes_in_order() {
        let mut digest = ErasedDigest::default();
        digest.add(2, Hash([1; 32]));
        digest.add(258, Hash([2; 32]));
        let mut bytes = b"ledger-erased-v1\0".to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend([1; 32]);
        bytes.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        bytes.extend([2; 32]);
        assert_eq!(digest.finish(), Hash::of(&bytes));
    }
}
