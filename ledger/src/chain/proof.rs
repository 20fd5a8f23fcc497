//! Inclusion and consistency proofs of RFC 6962 sections 2.1.1 and 2.1.2: which stored nodes one needs, the proof made from them,
//! and its verification.
//!
//! Stored are leaf hashes and roots of full subtrees of 256, 256², … leaves, as in C2SP tiles <https://c2sp.org/tlog-tiles>.
//! A [`Recipe`] says which of them to fetch, so that nothing here reads anything.

use super::entry::Hash;
use super::merkle::node_hash;

/// Most hashes in a proof: trees have fewer than 2^63 leaves.
pub const HASHES_MAX: usize = 63;
/// Largest tree: sizes are `bigint` in PostgreSQL, and `int64` in Go.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Height of a tile: a node of level `l` is the root of 256^l leaves.
const TILE_HEIGHT: u32 = 8;

/// A proof that cannot be made, or does not prove what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There is no such leaf in a tree of this size.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    NoSuchLeaf {
        /// Index of the leaf, from 0.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// Every tree extends the empty one: there is nothing to prove, and nothing that a proof could show.
    #[error("the older tree is empty: every tree extends it, and no proof says so")]
    FromEmpty,
    /// The tree said to be newer is smaller.
    #[error("a tree of {to} leaves cannot extend one of {from}")]
    Shrinks {
        /// Leaves of the older tree.
        from: u64,
        /// Leaves of the newer tree.
        to: u64,
    },
    /// A tree of 2^63 leaves or more.
    #[error("a tree of {0} leaves is over the limit of 2^63-1")]
    TooLarge(u64),
    /// A node that the proof is made of was not given.
    #[error("node {index} of level {level} is missing from the stored tree")]
    Missing {
        /// Level in tiles.
        level: u8,
        /// Index within the level.
        index: u64,
    },
    /// Too few or too many hashes for these sizes.
    #[error("the proof has {0} hashes, which is not what these sizes need")]
    Length(usize),
    /// The hashes lead to another root.
    #[error("the proof does not lead to the tree's root")]
    Root,
    /// The hashes lead to the newer root, but not to the older one.
    #[error("the proof does not lead to the older tree's root")]
    OldRoot,
}

/// A run of stored nodes: `count` of them from `first` on. Level 0 are the leaf hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nodes {
    /// Level in tiles; node i is the root of the leaves `[i * 256^level, (i + 1) * 256^level)`.
    pub level: u8,
    /// Index of the first.
    pub first: u64,
    /// How many: a power of two, at most 128.
    pub count: u64,
}

/// What a proof is made of: for each of its hashes, the full subtrees to the left of which it is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    hashes: Vec<Vec<Nodes>>,
}

impl Recipe {
    /// One hash: the root of the first `size` leaves. Of none there are no nodes to take it of.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`], and [`ProofError::FromEmpty`] for size 0.
    pub fn root(size: u64) -> Result<Self, ProofError> {
        checked(size)?;
        if size == 0 {
            return Err(ProofError::FromEmpty);
        }
        let hashes = vec![subtrees(0, size)];
        Ok(Self { hashes })
    }

    /// `PATH(index, D[size])` of RFC 6962 section 2.1.1; the leaf's sibling first.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        checked(size)?;
        if index >= size {
            return Err(ProofError::NoSuchLeaf { index, size });
        }
        let (mut from, mut to) = (0, size);
        let mut hashes = Vec::new();
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                hashes.push(subtrees(middle, to));
                to = middle;
            } else {
                hashes.push(subtrees(from, middle));
                from = middle;
            }
        }
        hashes.reverse();
        Ok(Self { hashes })
    }

    /// `PROOF(from, D[to])` of RFC 6962 section 2.1.2; empty where the sizes are equal.
    pub fn consistency(from: u64, to: u64) -> Result<Self, ProofError> {
        checked_pair(from, to)?;
        // The range that is still open, and whether its old part is the whole old tree, whose root the verifier has.
        let (mut low, mut high, mut known) = (0, to, true);
        let mut hashes = Vec::new();
        while from != high {
            let middle = low + split(high - low);
            if from <= middle {
                hashes.push(subtrees(middle, high));
                high = middle;
            } else {
                hashes.push(subtrees(low, middle));
                low = middle;
                known = false;
            }
        }
        if !known {
            hashes.push(subtrees(low, high));
        }
        hashes.reverse();
        Ok(Self { hashes })
    }

    /// A hash for each of these ranges of leaves, as [`super::multiproof::others`] gives them.
    pub(super) fn of_ranges(ranges: &[std::ops::Range<u64>]) -> Self {
        let hashes = ranges.iter().map(|range| subtrees(range.start, range.end));
        Self {
            hashes: hashes.collect(),
        }
    }

    /// The nodes to fetch; each is a root of a full subtree and so never changes again.
    pub fn nodes(&self) -> impl Iterator<Item = Nodes> + '_ {
        self.hashes.iter().flatten().copied()
    }

    /// The proof, from a function that gives the stored node of a level and index.
    ///
    /// # Errors
    /// [`ProofError::Missing`] where it gives none.
    pub fn build(
        &self,
        mut node: impl FnMut(u8, u64) -> Option<Hash>,
    ) -> Result<Vec<Hash>, ProofError> {
        let mut fetch =
            |level, index| node(level, index).ok_or(ProofError::Missing { level, index });
        let mut proof = Vec::with_capacity(self.hashes.len());
        for parts in &self.hashes {
            let mut right = None;
            for part in parts.iter().rev() {
                let left = full_root(*part, &mut fetch)?;
                right = Some(right.map_or(left, |right| node_hash(&left, &right)));
            }
            proof.extend(right);
        }
        Ok(proof)
    }
}

pub(super) fn checked(size: u64) -> Result<(), ProofError> {
    (size <= SIZE_MAX)
        .then_some(())
        .ok_or(ProofError::TooLarge(size))
}

fn checked_pair(from: u64, to: u64) -> Result<(), ProofError> {
    checked(to)?;
    if from > to {
        return Err(ProofError::Shrinks { from, to });
    }
    if from == 0 {
        return Err(ProofError::FromEmpty);
    }
    Ok(())
}

/// Where a tree of `size` > 1 leaves divides: the largest power of two below it.
pub(super) fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The full subtrees of the leaves `[from, to)`, left to right. `from` is a multiple of the largest of them.
pub(super) fn subtrees(from: u64, to: u64) -> Vec<Nodes> {
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let height = (to - at).ilog2();
        let level = height / TILE_HEIGHT;
        parts.push(Nodes {
            // At most 62 / 8.
            level: u8::try_from(level).unwrap_or(u8::MAX),
            first: at >> (level * TILE_HEIGHT),
            count: 1 << (height % TILE_HEIGHT),
        });
        at += 1 << height;
    }
    parts
}

fn full_root(
    part: Nodes,
    fetch: &mut impl FnMut(u8, u64) -> Result<Hash, ProofError>,
) -> Result<Hash, ProofError> {
    if part.count <= 1 {
        return fetch(part.level, part.first);
    }
    let half = part.count / 2;
    let left = Nodes {
        count: half,
        ..part
    };
    let right = Nodes {
        first: part.first + half,
        ..left
    };
    let left = full_root(left, fetch)?;
    Ok(node_hash(&left, &full_root(right, fetch)?))
}

/// Checks that the leaf stands at `index` in the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    checked(size)?;
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let mut walk = Walk::new(index, size - 1, proof)?;
    let mut hash = *leaf;
    for sibling in proof {
        hash = if walk.is_right()? {
            node_hash(sibling, &hash)
        } else {
            node_hash(&hash, sibling)
        };
        walk.rise();
    }
    walk.ended()?;
    if hash == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Checks that the tree of `to` leaves extends that of `from` leaves (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// Besides proofs that fail, an empty older tree: that nothing was known before is for the caller to say.
pub fn verify_consistency(
    from: u64,
    from_root: &Hash,
    to: u64,
    to_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    checked_pair(from, to)?;
    if from == to {
        return match proof {
            [] if from_root == to_root => Ok(()),
            [] => Err(ProofError::Root),
            _ => Err(ProofError::Length(proof.len())),
        };
    }
    let mut walk = Walk::new(from - 1, to - 1, proof)?;
    walk.skip_full();
    // Where the older tree is a full subtree of the newer, the proof starts at its root, which is known.
    let (seed, path) = if walk.at == 0 {
        (*from_root, proof)
    } else {
        let (seed, path) = proof.split_first().ok_or(ProofError::Length(0))?;
        (*seed, path)
    };
    let (mut old, mut new) = (seed, seed);
    for sibling in path {
        if walk.is_right()? {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
        } else {
            new = node_hash(&new, sibling);
        }
        walk.rise();
    }
    walk.ended()?;
    if new != *to_root {
        return Err(ProofError::Root);
    }
    if old != *from_root {
        return Err(ProofError::OldRoot);
    }
    Ok(())
}

/// The way up from a node to the root, beside the right edge of the tree.
struct Walk {
    at: u64,
    edge: u64,
    hashes: usize,
}

impl Walk {
    fn new(at: u64, edge: u64, proof: &[Hash]) -> Result<Self, ProofError> {
        let hashes = proof.len();
        if hashes > HASHES_MAX {
            return Err(ProofError::Length(hashes));
        }
        Ok(Self { at, edge, hashes })
    }

    /// Leaves behind the levels on which the node is a right child: its full subtrees, of which it is the last leaf.
    fn skip_full(&mut self) {
        while self.at & 1 == 1 {
            self.at >>= 1;
            self.edge >>= 1;
        }
    }

    /// Whether the next hash stands to the left. On the edge, levels without a sibling are passed over.
    fn is_right(&mut self) -> Result<bool, ProofError> {
        if self.edge == 0 {
            return Err(ProofError::Length(self.hashes));
        }
        let right = self.at & 1 == 1 || self.at == self.edge;
        if right {
            while self.at & 1 == 0 && self.at != 0 {
                self.at >>= 1;
                self.edge >>= 1;
            }
        }
        Ok(right)
    }

    fn rise(&mut self) {
        self.at >>= 1;
        self.edge >>= 1;
    }

    fn ended(&self) -> Result<(), ProofError> {
        if self.edge == 0 {
            Ok(())
        } else {
            Err(ProofError::Length(self.hashes))
        }
    }
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
