//! One proof for many leaves of an RFC 6962 tree: the roots of everything beside them, left to right.
//!
//! Which subtrees those are follows from the tree's size and the leaves' indices, so that the proof is a list of hashes and
//! nothing else. Of all leaves together it is empty.

use std::ops::Range;

use super::entry::Hash;
use super::merkle::node_hash;
use super::proof::{ProofError, Recipe, checked, split};

/// The largest subtrees that hold none of these leaves, left to right. `leaves` ascend.
///
/// # Errors
/// A leaf that the tree does not have, or that does not stand behind the one before; no leaf at all; a tree over the limit.
pub fn others(leaves: &[u64], size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    checked(size)?;
    let mut least = 0;
    for index in leaves.iter().copied() {
        if index < least || index >= size {
            return Err(ProofError::NoSuchLeaf { index, size });
        }
        least = index + 1;
    }
    if leaves.is_empty() {
        return Err(ProofError::NoSuchLeaf { index: 0, size });
    }
    let mut found = Vec::new();
    collect(leaves, 0..size, &mut found);
    Ok(found)
}

fn collect(leaves: &[u64], range: Range<u64>, found: &mut Vec<Range<u64>>) {
    let size = range.end - range.start;
    if leaves.is_empty() {
        found.push(range);
    } else if leaves.len() as u64 != size {
        let middle = range.start + split(size);
        let (left, right) = leaves.split_at(leaves.partition_point(|index| *index < middle));
        collect(left, range.start..middle, found);
        collect(right, middle..range.end, found);
    }
}

/// What the proof of these leaves is made of.
///
/// # Errors
/// As [`others`].
pub fn recipe(leaves: &[u64], size: u64) -> Result<Recipe, ProofError> {
    Ok(Recipe::of_ranges(&others(leaves, size)?))
}

/// The root that these leaves, by index and hash in order, and the proof lead to.
///
/// # Errors
/// As [`others`], and a proof with more or fewer hashes than these leaves need.
pub fn root(leaves: &[(u64, Hash)], size: u64, proof: &[Hash]) -> Result<Hash, ProofError> {
    let indices: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
    if others(&indices, size)?.len() != proof.len() {
        return Err(ProofError::Length(proof.len()));
    }
    let mut rest = proof.iter().copied();
    let found = root_of(leaves, 0..size, &mut rest);
    found.ok_or(ProofError::Length(proof.len()))
}

fn root_of(
    leaves: &[(u64, Hash)],
    range: Range<u64>,
    rest: &mut impl Iterator<Item = Hash>,
) -> Option<Hash> {
    let size = range.end - range.start;
    match leaves {
        [] => rest.next(),
        [(_, leaf)] if size == 1 => Some(*leaf),
        _ => {
            let middle = range.start + split(size);
            let (left, right) = leaves.split_at(leaves.partition_point(|(at, _)| *at < middle));
            let left = root_of(left, range.start..middle, rest)?;
            Some(node_hash(&left, &root_of(right, middle..range.end, rest)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::entry::leaf_hash;
    use crate::chain::merkle::Frontier;
    use crate::chain::proof::verify_inclusion;

    fn tree(size: u64) -> (Vec<Hash>, Hash) {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        frontier.extend(leaves.iter().copied());
        (leaves, frontier.root())
    }

    fn prove(all: &[Hash], leaves: &[u64]) -> Vec<Hash> {
        let recipe = recipe(leaves, all.len() as u64).unwrap();
        // Below 256 leaves the leaf hashes are all there is.
        recipe
            .build(|level, index| {
                assert_eq!(level, 0);
                all.get(usize::try_from(index).unwrap()).copied()
            })
            .unwrap()
    }

    fn with_hashes(all: &[Hash], leaves: &[u64]) -> Vec<(u64, Hash)> {
        let hash = |index: &u64| all[usize::try_from(*index).unwrap()];
        leaves.iter().map(|index| (*index, hash(index))).collect()
    }

    #[test]
    fn of_one_leaf_it_holds_the_hashes_of_its_inclusion_proof() {
        let (all, root_hash) = tree(70);
        for index in 0..70 {
            let mut ours = prove(&all, &[index]);
            let recipe = Recipe::inclusion(index, 70).unwrap();
            let usual = recipe.build(|_, at| all.get(usize::try_from(at).unwrap()).copied());
            let usual = usual.unwrap();
            let leaf = all[usize::try_from(index).unwrap()];
            assert_eq!(
                verify_inclusion(&leaf, index, 70, &usual, &root_hash),
                Ok(())
            );
            let mut usual = usual.clone();
            ours.sort();
            usual.sort();
            assert_eq!(ours, usual);
        }
        let every: Vec<u64> = (0..70).collect();
        assert_eq!(prove(&all, &every), []);
    }

    #[test]
    fn leaves_out_of_order_or_place_are_refused() {
        for leaves in [&[][..], &[3], &[4], &[1, 1], &[1, 0]] {
            assert!(
                matches!(others(leaves, 3), Err(ProofError::NoSuchLeaf { .. })),
                "{leaves:?}"
            );
        }
        assert!(others(&[0], 1 << 63).is_err());
        assert!(others(&[0], 0).is_err());
    }

    proptest! {
        #[test]
        fn any_leaves_lead_to_the_root_and_no_other_do(
            size in 1_u64..200,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
            at in any::<prop::sample::Index>(),
            bit in 0_usize..256,
        ) {
            let (all, expected) = tree(size);
            let leaves: std::collections::BTreeSet<u64> =
                picks.iter().map(|pick| pick.index(all.len()) as u64).collect();
            let leaves: Vec<u64> = leaves.into_iter().collect();
            let mut proof = prove(&all, &leaves);
            let mut hashed = with_hashes(&all, &leaves);
            prop_assert_eq!(root(&hashed, size, &proof), Ok(expected));

            let flip = |hash: &mut Hash| hash.0[bit / 8] ^= 1 << (bit % 8);
            let one = at.index(hashed.len());
            flip(&mut hashed[one].1);
            prop_assert_ne!(root(&hashed, size, &proof), Ok(expected));
            flip(&mut hashed[one].1);
            if !proof.is_empty() {
                let one = at.index(proof.len());
                flip(&mut proof[one]);
                prop_assert_ne!(root(&hashed, size, &proof), Ok(expected));
                flip(&mut proof[one]);
            }
            let longer = [proof.as_slice(), &[Hash::ZERO]].concat();
            prop_assert!(root(&hashed, size, &longer).is_err());
            if let [_, shorter @ ..] = proof.as_slice() {
                prop_assert!(root(&hashed, size, shorter).is_err());
            }
            let (index, hash) = hashed.remove(one);
            prop_assert_ne!(root(&hashed, size, &proof), Ok(expected));
            // The same hash at another place is another tree.
            let moved = if index == 0 { index + 1 } else { index - 1 };
            if !leaves.contains(&moved) {
                hashed.push((moved, hash));
                hashed.sort();
                prop_assert_ne!(root(&hashed, size, &proof), Ok(expected));
            }
        }
    }
}
