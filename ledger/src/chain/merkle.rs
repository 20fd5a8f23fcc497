//! RFC 6962 Merkle tree: nodes, and the root of a stream of leaf hashes in memory that grows with the logarithm of its length.

use sha2::{Digest, Sha256};

use super::entry::Hash;

/// RFC 6962 interior node, `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let digest = Sha256::new()
        .chain_update([1])
        .chain_update(left.0)
        .chain_update(right.0);
    Hash(digest.finalize().into())
}

/// The roots of the full subtrees to the left, largest first: all that the root of a growing tree needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_noting(leaf, |_, _| {});
    }

    /// The same, and tells the root of each full subtree of 2^height leaves that the leaf completes, by its height from 1.
    pub fn push_noting(&mut self, leaf: Hash, mut completed: impl FnMut(u32, Hash)) {
        let mut node = leaf;
        // Each trailing one bit of the old size is a full subtree that the new leaf completes to a larger one.
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = node_hash(&left, &node);
                completed(height, node);
            }
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// Goes on from a tree of `size` leaves, given the roots of its full subtrees from left to right: one for each one bit of
    /// the size. None where their number is another.
    pub fn resume(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == roots.len() as u64).then_some(Self { size, roots })
    }

    /// Root over all leaves so far; of no leaves, SHA-256 of nothing (RFC 6962 section 2.1).
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        match roots.next() {
            None => Hash::of(b""),
            Some(last) => roots.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

impl Extend<Hash> for Frontier {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }
}

/// Root of the tree over these leaves, each given as the bytes that its leaf hash is taken of.
pub fn root_of<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut tree = Frontier::default();
    tree.extend(leaves.into_iter().map(super::entry::leaf_hash));
    tree.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published vectors of RFC 6962 implementations: eight leaves and the roots of sizes 0 to 8.
    #[test]
    fn published_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(
                root_of(leaves[..size].iter().copied()).to_string(),
                *root,
                "size {size}"
            );
        }
    }

    #[test]
    fn a_leaf_of_64_bytes_is_not_a_node() {
        let (left, right) = (Hash([1; 32]), Hash([2; 32]));
        let both = [left.0, right.0].concat();
        assert_ne!(
            super::super::entry::leaf_hash(&both),
            node_hash(&left, &right)
        );
    }
}
