//! One proof for many leaves of an RFC 6962 tree: the roots of everything beside them, left to right.
//!
//! Which subtrees those are follows from the tree's size and the leaves' indices, so that the proof is a list of hashes and
//! nothing else. Of all leaves together it is empty.

use std::ops::Range;

use super::entry::Hash;
use super::merkle::node_hash;
use super::proof::{ProofError, Recipe, checked, split};

/// The largest subtrees that hold none of the leaves in these runs, left to right. The runs ascend, and none is empty.
///
/// # Errors
/// A leaf that the tree does not have, or that does not stand behind the one before; no leaf at all; a tree over the limit.
pub fn others(runs: &[Range<u64>], size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    checked(size)?;
    let mut least = 0;
    for run in runs {
        if run.start < least || run.end <= run.start || run.end > size {
            let index = run.start.max(size);
            return Err(ProofError::NoSuchLeaf { index, size });
        }
        least = run.end;
    }
    if runs.is_empty() {
        return Err(ProofError::NoSuchLeaf { index: 0, size });
    }
    let mut found = Vec::new();
    collect(runs, 0..size, &mut found);
    Ok(found)
}

fn collect(runs: &[Range<u64>], range: Range<u64>, found: &mut Vec<Range<u64>>) {
    let from = runs.partition_point(|run| run.end <= range.start);
    let to = runs.partition_point(|run| run.start < range.end);
    let covers = |run: &Range<u64>| run.start <= range.start && range.end <= run.end;
    match &runs[from..to] {
        [] => found.push(range),
        [run] if covers(run) => {}
        within => {
            let middle = range.start + split(range.end - range.start);
            collect(within, range.start..middle, found);
            collect(within, middle..range.end, found);
        }
    }
}

/// What the proof of the leaves in these runs is made of.
///
/// # Errors
/// As [`others`].
pub fn recipe(runs: &[Range<u64>], size: u64) -> Result<Recipe, ProofError> {
    Ok(Recipe::of_ranges(&others(runs, size)?))
}

/// The root that these leaves, by index and hash in order, and the proof lead to.
///
/// # Errors
/// As [`root_of_next`].
pub fn root(leaves: &[(u64, Hash)], size: u64, proof: &[Hash]) -> Result<Hash, ProofError> {
    let mut leaves = leaves.iter().copied();
    root_of_next(|| Ok(leaves.next()), size, proof)
}

/// The same, of leaves that are asked for one after the other, so that they need not all be held.
///
/// # Errors
/// A leaf that the tree does not have, or that does not stand behind the one before; no leaf at all; a tree over the limit; a
/// proof with more or fewer hashes than these leaves need; what `next` fails with.
pub fn root_of_next<E: From<ProofError>>(
    mut next: impl FnMut() -> Result<Option<(u64, Hash)>, E>,
    size: u64,
    proof: &[Hash],
) -> Result<Hash, E> {
    checked(size)?;
    let first = next()?;
    let mut walk = Walk {
        next,
        leaf: first,
        rest: proof.iter(),
        length: proof.len(),
    };
    if walk.leaf.is_none_or(|(index, _)| index >= size) {
        let index = walk.leaf.map_or(0, |(index, _)| index);
        return Err(ProofError::NoSuchLeaf { index, size }.into());
    }
    let root = walk.root_of(0..size)?;
    if let Some((index, _)) = walk.leaf {
        return Err(ProofError::NoSuchLeaf { index, size }.into());
    }
    if walk.rest.next().is_some() {
        return Err(ProofError::Length(proof.len()).into());
    }
    Ok(root)
}

/// A way through the tree from left to right.
struct Walk<'p, N> {
    next: N,
    /// The leaf that comes next.
    leaf: Option<(u64, Hash)>,
    rest: std::slice::Iter<'p, Hash>,
    length: usize,
}

impl<E: From<ProofError>, N: FnMut() -> Result<Option<(u64, Hash)>, E>> Walk<'_, N> {
    fn root_of(&mut self, range: Range<u64>) -> Result<Hash, E> {
        match self.leaf {
            Some((index, hash)) if range.contains(&index) => {
                if range.end - range.start == 1 {
                    self.leaf = (self.next)()?;
                    return Ok(hash);
                }
                let middle = range.start + split(range.end - range.start);
                let left = self.root_of(range.start..middle)?;
                Ok(node_hash(&left, &self.root_of(middle..range.end)?))
            }
            // Of this subtree no leaf is asked for, or none in order: what then is left over is refused.
            _ => match self.rest.next() {
                Some(hash) => Ok(*hash),
                None => Err(ProofError::Length(self.length).into()),
            },
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

    fn runs(leaves: &[u64]) -> Vec<Range<u64>> {
        leaves.iter().map(|index| *index..index + 1).collect()
    }

    /// The same leaves in runs as long as they can be.
    fn joined(leaves: &[u64]) -> Vec<Range<u64>> {
        let mut joined: Vec<Range<u64>> = Vec::new();
        for index in leaves.iter().copied() {
            match joined.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => joined.extend(runs(&[index])),
            }
        }
        joined
    }

    fn prove(all: &[Hash], leaves: &[u64]) -> Vec<Hash> {
        let size = all.len() as u64;
        let recipe = recipe(&runs(leaves), size).unwrap();
        assert_eq!(super::recipe(&joined(leaves), size), Ok(recipe.clone()));
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
                matches!(others(&runs(leaves), 3), Err(ProofError::NoSuchLeaf { .. })),
                "{leaves:?}"
            );
            let (all, _) = tree(3);
            let hashed: Vec<_> = leaves.iter().map(|index| (*index, all[0])).collect();
            assert!(root(&hashed, 3, &all[..1]).is_err(), "{leaves:?}");
            assert!(root(&hashed, 3, &[]).is_err(), "{leaves:?}");
        }
        let one = &runs(&[0])[..];
        assert!(others(one, 1 << 63).is_err());
        assert!(others(one, 0).is_err());
        let empty = 1..1;
        assert!(others(&[empty], 3).is_err());
        let backwards = 0..5;
        assert!(others(&[backwards], 3).is_err());
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
