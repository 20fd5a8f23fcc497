//! The rows of a tree in an order in which each is checked before it leaves: those at the right edge lead to the root, and each
//! node of a row is the root of the full row below it, down to the hashes of the entries.

use super::entry::Hash;
use super::merkle::Frontier;
use super::proof::{ProofError, Recipe};
use super::tiles::{Kind, Tile};

/// What a tree of `to` leaves has and one of `from` leaves has not, as far as it was not given out yet. Only rows of hashes: a
/// bundle of entries is checked by the row of level 0 at its place.
#[derive(Debug)]
pub struct Descent {
    from: u64,
    /// Rows to come, the next one last, with the root that each must have.
    wanted: Vec<(Tile, Hash)>,
}

impl Descent {
    /// Begins at the rows of [`Tile::edge`], with their hashes, which must lead to the root of the newer tree. Gives those of them
    /// that the older tree has not.
    ///
    /// # Errors
    /// [`ProofError::Root`] where they lead elsewhere; [`ProofError::Missing`] where one is not there.
    pub fn start(
        from: u64,
        to: u64,
        root: &Hash,
        edge: &[(Tile, Vec<Hash>)],
    ) -> Result<(Self, Vec<Tile>), ProofError> {
        let node = |level: u8, index: u64| {
            let of_level = |(tile, _): &&(Tile, Vec<Hash>)| tile.kind() == Kind::Hashes { level };
            let (tile, hashes) = edge.iter().find(of_level)?;
            let at = usize::try_from(index.checked_sub(tile.first())?).ok()?;
            hashes.get(at).copied()
        };
        if Recipe::root(to)?.build(node)? != [*root] {
            return Err(ProofError::Root);
        }
        let mut descent = Self {
            from,
            wanted: Vec::new(),
        };
        for (tile, hashes) in edge {
            descent.below(*tile, hashes);
        }
        let new = edge.iter().map(|(tile, _)| *tile);
        let new = new.filter(|tile| tile.is_beyond(from)).collect();
        Ok((descent, new))
    }

    /// The row to fetch next.
    pub fn wanted(&self) -> Option<Tile> {
        self.wanted.last().map(|(tile, _)| *tile)
    }

    /// Takes the row that was wanted.
    ///
    /// # Errors
    /// [`ProofError::Root`] where it is not the one that the tree has there.
    pub fn take(&mut self, hashes: &[Hash]) -> Result<(), ProofError> {
        let Some((tile, root)) = self.wanted.pop() else {
            return Err(ProofError::Root);
        };
        let mut row = Frontier::default();
        row.extend(hashes.iter().copied());
        if hashes.len() != usize::from(tile.width()) || row.root() != root {
            return Err(ProofError::Root);
        }
        self.below(tile, hashes);
        Ok(())
    }

    /// What lies below a row, the first last.
    fn below(&mut self, tile: Tile, hashes: &[Hash]) {
        let below = (tile.first()..)
            .zip(hashes)
            .filter_map(|(index, hash)| Some((tile.below(index)?, *hash)))
            .filter(|(tile, _)| tile.is_beyond(self.from));
        let at = self.wanted.len();
        self.wanted.extend(below);
        self.wanted[at..].reverse();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::chain::entry::leaf_hash;

    /// Rows of hashes by level.
    fn levels(size: u64) -> (Vec<Vec<Hash>>, Hash) {
        let mut tree = Frontier::default();
        let mut levels = vec![Vec::new(); 3];
        for n in 0..size {
            let leaf = leaf_hash(&n.to_be_bytes());
            levels[0].push(leaf);
            tree.push_noting(leaf, |height, root| {
                if height % 8 == 0 {
                    levels[height as usize / 8].push(root);
                }
            });
        }
        (levels, tree.root())
    }

    fn row(levels: &[Vec<Hash>], tile: Tile) -> Vec<Hash> {
        let Kind::Hashes { level } = tile.kind() else {
            unreachable!("{tile}");
        };
        let first = usize::try_from(tile.first()).unwrap();
        levels[usize::from(level)][first..first + usize::from(tile.width())].to_vec()
    }

    fn edge(levels: &[Vec<Hash>], size: u64) -> Vec<(Tile, Vec<Hash>)> {
        let rows = Tile::edge(size).map(|tile| (tile, row(levels, tile)));
        rows.collect()
    }

    /// All rows that are given out, or the one at which it ends.
    fn walk(levels: &[Vec<Hash>], root: &Hash, from: u64, to: u64) -> Result<Vec<Tile>, String> {
        let started = Descent::start(from, to, root, &edge(levels, to));
        let (mut descent, mut out) = started.map_err(|_| "edge".to_owned())?;
        while let Some(tile) = descent.wanted() {
            let taken = descent.take(&row(levels, tile));
            taken.map_err(|_| tile.to_string())?;
            out.push(tile);
        }
        Ok(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_gives_out_what_was_added_and_nothing_twice(to in 1_u64..140_000, part in 0_u64..=100) {
            let from = to * part / 100;
            let (levels, root) = levels(to);
            let out = walk(&levels, &root, from, to).unwrap();
            let distinct: BTreeSet<Tile> = out.iter().copied().collect();
            prop_assert_eq!(distinct.len(), out.len());
            let added = Tile::added(from, to).filter(|tile| tile.kind() != Kind::Entries);
            prop_assert_eq!(distinct, added.collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn one_changed_hash_ends_it_at_its_row_or_above() {
        let size = 66_000;
        let (sound, root) = levels(size);
        walk(&sound, &root, 0, size).unwrap();
        for (level, index, at) in [
            (0, 5, "tile/0/000"),
            (0, 65_000, "tile/0/253"),
            (0, 65_999, "edge"),
            (1, 0, "tile/1/000"),
            (1, 255, "tile/1/000"),
            (1, 256, "edge"),
            (2, 0, "edge"),
        ] {
            let mut levels = sound.clone();
            let hash: &mut Hash = &mut levels[level][index];
            hash.0[7] ^= 1;
            assert_eq!(walk(&levels, &root, 0, size), Err(at.to_owned()));
        }
        // What was given out before is not looked at again.
        let mut levels = sound;
        levels[0][5] = root;
        walk(&levels, &root, 300, size).unwrap();
        let other = Hash([0; 32]);
        assert_eq!(walk(&levels, &other, 300, size), Err("edge".to_owned()));
    }
}
