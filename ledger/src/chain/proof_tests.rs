use proptest::prelude::*;

use super::*;
use crate::chain::entry::leaf_hash;
use crate::chain::merkle::{Frontier, root_of};

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn hashes(text: &str) -> Vec<Hash> {
    text.split_whitespace()
        .map(|h| h.parse().unwrap())
        .collect()
}

/// The definitions of RFC 6962 section 2.1, word for word.
mod naive {
    use super::*;

    pub(super) fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(middle(leaves.len()));
                node_hash(&root(left), &root(right))
            }
        }
    }

    fn middle(size: usize) -> usize {
        size.next_power_of_two() / 2
    }

    pub(super) fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = middle(leaves.len());
        let (left, right) = leaves.split_at(k);
        if m < k {
            [path(m, left), vec![root(right)]].concat()
        } else {
            [path(m - k, right), vec![root(left)]].concat()
        }
    }

    pub(super) fn subproof(m: usize, leaves: &[Hash], complete: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if complete {
                Vec::new()
            } else {
                vec![root(leaves)]
            };
        }
        let k = middle(leaves.len());
        let (left, right) = leaves.split_at(k);
        if m <= k {
            [subproof(m, left, complete), vec![root(right)]].concat()
        } else {
            [subproof(m - k, right, false), vec![root(left)]].concat()
        }
    }
}

/// The stored tree: leaf hashes, and the nodes of tile levels that are complete; nothing else can be fetched.
fn stored(leaves: &[Hash]) -> impl FnMut(u8, u64) -> Option<Hash> + use<> {
    let mut levels = vec![leaves.to_vec()];
    while levels.last().unwrap().len() >= 256 {
        let full = levels.last().unwrap().as_chunks::<256>().0;
        levels.push(full.iter().map(|row| naive::root(row)).collect());
    }
    move |level, index| {
        let level = levels.get(usize::from(level))?;
        level.get(usize::try_from(index).unwrap()).copied()
    }
}

fn inclusion(index: u64, leaves: &[Hash]) -> Vec<Hash> {
    let recipe = Recipe::inclusion(index, leaves.len() as u64).unwrap();
    recipe.build(stored(leaves)).unwrap()
}

fn consistency(from: u64, leaves: &[Hash]) -> Vec<Hash> {
    let recipe = Recipe::consistency(from, leaves.len() as u64).unwrap();
    recipe.build(stored(leaves)).unwrap()
}

/// The eight entries of the published vectors.
fn published() -> Vec<Hash> {
    let entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let leaf = |entry: &&str| leaf_hash(&hex::decode(entry).unwrap());
    entries.iter().map(leaf).collect()
}

#[test]
fn published_leaves_and_proofs() {
    let leaves = published();
    let expected = hashes(
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
         96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7
         0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7
         07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7
         bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b
         4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658
         b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f
         46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
    );
    assert_eq!(leaves, expected);
    let five_of_eight = hashes(
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b
         ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0
         d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    );
    assert_eq!(inclusion(5, &leaves), five_of_eight);
    let two_of_three = hashes("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    assert_eq!(inclusion(2, &leaves[..3]), two_of_three);
    let six_to_eight = hashes(
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a
         ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0
         d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    );
    assert_eq!(consistency(6, &leaves), six_to_eight);
    let two_to_five = hashes(
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e
         bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    );
    assert_eq!(consistency(2, &leaves[..5]), two_to_five);
    let root: Hash = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        .parse()
        .unwrap();
    assert_eq!(
        verify_inclusion(&leaves[5], 5, 8, &five_of_eight, &root),
        Ok(())
    );
}

/// The log `one two three … fivten` of the published checkpoints.
#[test]
fn derived_consistency_of_the_published_log() {
    use crate::chain::checkpoint::decode_hash;

    let entries =
        "one two three four five six seven eit nain ten ileven twelf threeten fourten fivten";
    let leaves: Vec<_> = entries
        .split(' ')
        .map(|e| leaf_hash(e.as_bytes()))
        .collect();
    let expected: Vec<_> = "2Q0P5jSR+TdkwdXWyx+GbBWX0KZbNZkWzCjyTPSozsw=
         ThcgoV2DYcK+VCxBUDWAlNxmLy2r7dq7dK7+OlgQKWs=
         ycRkkNklus5eMVRUvkD1pK321vMrA+jjOiZKU8aOcY4=
         zY1lN35vrXYAPixXSd59LsU29xUJtuW4o2dNNg5Y2Co=
         5jLpqTgjsBDSEX6SgZiRnbTMdTuRd8bQ5tSsAOxe0Ks="
        .split_whitespace()
        .map(|line| decode_hash(line).unwrap())
        .collect();
    assert_eq!(consistency(7, &leaves), expected);
    assert_eq!(consistency(8, &leaves), expected[4..]);
    let root = |text| decode_hash(text).unwrap();
    let seven = root("IrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U=");
    let fifteen = root("rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=");
    assert_eq!(
        verify_consistency(7, &seven, 15, &fifteen, &expected),
        Ok(())
    );
}

#[test]
fn every_proof_is_the_one_of_the_definition_and_verifies() {
    let all = leaves(70);
    for size in 1..=70 {
        let leaves = &all[..size];
        let root = naive::root(leaves);
        let n = size as u64;
        let made = Recipe::root(n).unwrap().build(stored(leaves)).unwrap();
        assert_eq!(made, [root]);
        for (m, leaf) in (0..).zip(leaves) {
            let proof = inclusion(m, leaves);
            assert_eq!(proof, naive::path(usize::try_from(m).unwrap(), leaves));
            assert_eq!(
                verify_inclusion(leaf, m, n, &proof, &root),
                Ok(()),
                "{m} {n}"
            );
        }
        for m in 1..=size {
            let from = m as u64;
            let proof = consistency(from, leaves);
            assert_eq!(proof, naive::subproof(m, leaves, true));
            let old = naive::root(&leaves[..m]);
            assert_eq!(
                verify_consistency(from, &old, n, &root, &proof),
                Ok(()),
                "{m} {n}"
            );
        }
    }
}

/// Sizes around full tiles of both stored levels; the definition is too slow for all of them.
#[test]
fn proofs_from_tile_levels_are_those_of_the_definition() {
    let all = leaves(65_536 + 300);
    let mut frontier = Frontier::default();
    frontier.extend(all.iter().copied());
    let mut node = stored(&all);
    assert_eq!(
        Recipe::root(all.len() as u64).unwrap().build(&mut node),
        Ok(vec![frontier.root()])
    );
    for size in [255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_836] {
        let leaves = &all[..size];
        let n = size as u64;
        for m in [1, 2, 255, 256, 257, 300, size / 2, size - 1] {
            if m >= size {
                continue;
            }
            let from = m as u64;
            assert_eq!(consistency(from, leaves), naive::subproof(m, leaves, true));
            assert_eq!(inclusion(from, leaves), naive::path(m, leaves));
            // No more is fetched than a row of 128 nodes for each level of a proof.
            let recipe = Recipe::inclusion(from, n).unwrap();
            assert!(recipe.nodes().all(|nodes| nodes.count <= 128));
        }
    }
}

#[test]
fn what_no_proof_can_show_is_an_error() {
    let root = Hash::of(b"");
    assert_eq!(
        Recipe::inclusion(3, 3),
        Err(ProofError::NoSuchLeaf { index: 3, size: 3 })
    );
    assert_eq!(
        Recipe::inclusion(0, 0),
        Err(ProofError::NoSuchLeaf { index: 0, size: 0 })
    );
    assert_eq!(
        Recipe::consistency(4, 3),
        Err(ProofError::Shrinks { from: 4, to: 3 })
    );
    assert_eq!(Recipe::consistency(0, 3), Err(ProofError::FromEmpty));
    assert_eq!(Recipe::root(0), Err(ProofError::FromEmpty));
    assert_eq!(Recipe::root(1 << 63), Err(ProofError::TooLarge(1 << 63)));
    assert_eq!(
        verify_consistency(0, &root, 3, &root, &[]),
        Err(ProofError::FromEmpty)
    );
    let gap = Recipe::inclusion(2, 4).unwrap().build(|_, _| None);
    assert_eq!(gap, Err(ProofError::Missing { level: 0, index: 3 }));
    // The largest trees have proofs within the limit.
    assert!(
        Recipe::inclusion(SIZE_MAX - 1, SIZE_MAX)
            .unwrap()
            .nodes()
            .count()
            <= 4096
    );
    assert_eq!(
        Recipe::inclusion(0, SIZE_MAX).unwrap().hashes.len(),
        HASHES_MAX
    );
    let too_many = vec![root; HASHES_MAX + 1];
    let refused = verify_inclusion(&root, 0, SIZE_MAX, &too_many, &root);
    assert_eq!(refused, Err(ProofError::Length(64)));
}

/// What the published negative corpora do to a proof's hashes.
fn damaged(proof: &[Hash], roots: [&Hash; 2]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..proof.len() {
        for bit in [0, 7, 100, 255] {
            let mut flipped = proof.to_vec();
            flipped[at].0[bit / 8] ^= 1 << (bit % 8);
            all.push(flipped);
        }
        all.push([&proof[..at], &proof[at + 1..]].concat());
        let mut swapped = proof.to_vec();
        swapped.swap(at, proof.len() - 1);
        if swapped != proof {
            all.push(swapped);
        }
    }
    for other in [*roots[0], *roots[1], Hash::ZERO] {
        all.push([&[other], proof].concat());
        all.push([proof, &[other]].concat());
        if let [_, rest @ ..] = proof {
            all.push([&[other], rest].concat());
        }
    }
    all.push(Vec::new());
    all.retain(|other| other != proof);
    all
}

fn other_numbers(number: u64) -> impl Iterator<Item = u64> {
    let near = [
        number.wrapping_sub(1),
        number + 1,
        number * 2,
        number / 2,
        number ^ 2,
        0,
        SIZE_MAX,
        u64::MAX,
    ];
    near.into_iter().filter(move |other| *other != number)
}

#[test]
fn damaged_inclusion_proofs_are_refused() {
    for size in (1..=24).chain([31, 32, 33, 63, 64, 65]) {
        let leaves = leaves(size);
        let root = naive::root(&leaves);
        for (m, leaf) in (0..).zip(&leaves) {
            let proof = inclusion(m, &leaves);
            for other in damaged(&proof, [&root, leaf]) {
                assert!(verify_inclusion(leaf, m, size, &other, &root).is_err());
            }
            for other in other_numbers(m) {
                assert!(verify_inclusion(leaf, other, size, &proof, &root).is_err());
            }
            for other in other_numbers(size) {
                let verdict = verify_inclusion(leaf, m, other, &proof, &root);
                // The way of a leaf can be the same in trees of two sizes; that the root is of this size is what the
                // checkpoint says, and not the proof.
                let same_way =
                    other > m && other <= SIZE_MAX && naive_shape(m, other) == naive_shape(m, size);
                assert_eq!(verdict.is_ok(), same_way, "{m} of {size} as {other}");
            }
            assert!(verify_inclusion(&root, m, size, &proof, leaf).is_err() || size == 1);
            assert!(verify_inclusion(&Hash::ZERO, m, size, &proof, &root).is_err());
        }
    }
}

/// On which sides the siblings of a leaf stand.
fn naive_shape(m: u64, size: u64) -> Vec<bool> {
    let (mut m, mut size, mut sides) = (m, size, Vec::new());
    while size > 1 {
        let k = split(size);
        sides.push(m < k);
        (m, size) = if m < k { (m, k) } else { (m - k, size - k) };
    }
    sides
}

#[test]
fn damaged_consistency_proofs_are_refused() {
    for size in (2..=24).chain([31, 32, 33, 64, 65]) {
        let leaves = leaves(size);
        let root = naive::root(&leaves);
        for from in 1..size {
            let old = naive::root(&leaves[..usize::try_from(from).unwrap()]);
            let proof = consistency(from, &leaves);
            for other in damaged(&proof, [&root, &old]) {
                let verdict = verify_consistency(from, &old, size, &root, &other);
                assert!(verdict.is_err(), "{from} {size}");
            }
            let checked = |from, old, to, new| verify_consistency(from, old, to, new, &proof);
            assert!(checked(from, &root, size, &old).is_err());
            assert!(checked(from, &Hash::ZERO, size, &root).is_err());
            assert!(checked(from, &old, size, &Hash::ZERO).is_err());
            assert!(checked(size, &root, from, &old).is_err());
            assert!(checked(size, &root, size, &root).is_err());
            for other in other_numbers(from) {
                assert!(
                    checked(other, &old, size, &root).is_err(),
                    "{from} as {other} of {size}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn one_flipped_bit_is_seen(size in 1_u64..200, m in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_usize..256) {
        let leaves = leaves(size);
        let root = naive::root(&leaves);
        let m = m.index(leaves.len());
        let index = m as u64;
        let flip = |hash: &mut Hash| hash.0[bit / 8] ^= 1 << (bit % 8);
        let mut proof = inclusion(index, &leaves);
        let mut leaf = leaves[m];
        flip(&mut leaf);
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root).is_err());
        if !proof.is_empty() {
            let at = at.index(proof.len());
            flip(&mut proof[at]);
            prop_assert!(verify_inclusion(&leaves[m], index, size, &proof, &root).is_err());
        }
        let old = naive::root(&leaves[..=m]);
        let mut proof = consistency(index + 1, &leaves);
        if !proof.is_empty() {
            let at = at.index(proof.len());
            flip(&mut proof[at]);
            prop_assert!(verify_consistency(index + 1, &old, size, &root, &proof).is_err());
        }
    }
}

/// Another implementation of the same trees: it accepts what is made here, and the same damage is refused on both sides.
mod against_ct_merkle {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
    use sha2::Sha256;

    use super::*;

    fn bytes(proof: &[Hash]) -> Vec<u8> {
        proof.iter().flat_map(|hash| hash.0).collect()
    }

    #[test]
    fn both_make_and_accept_the_same_proofs() {
        let mut tree = MemoryBackedTree::<Sha256, [u8; 8]>::new();
        let mut roots: Vec<RootHash<Sha256>> = Vec::new();
        let all = leaves(70);
        for size in 1..=all.len() {
            tree.push((size as u64 - 1).to_be_bytes());
            let theirs = tree.root();
            let leaves = &all[..size];
            let ours = naive::root(leaves);
            assert_eq!(theirs.as_bytes().as_slice(), ours.0);
            for (m, leaf) in leaves.iter().enumerate() {
                let proof = inclusion(m as u64, leaves);
                assert_eq!(tree.prove_inclusion(m).as_bytes(), bytes(&proof));
                let parsed = InclusionProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
                let value = (m as u64).to_be_bytes();
                assert!(theirs.verify_inclusion(&value, m as u64, &parsed).is_ok());
                for other in damaged(&proof, [&ours, leaf]) {
                    let accepted = InclusionProof::<Sha256>::try_from_bytes(bytes(&other))
                        .is_ok_and(|p| theirs.verify_inclusion(&value, m as u64, &p).is_ok());
                    assert!(!accepted);
                }
            }
            for (m, old) in (1..).zip(&roots) {
                let proof = consistency(m, leaves);
                assert_eq!(
                    tree.prove_consistency(size - usize::try_from(m).unwrap())
                        .as_bytes(),
                    bytes(&proof)
                );
                let parsed = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
                assert!(theirs.verify_consistency(old, &parsed).is_ok());
            }
            roots.push(theirs);
        }
        assert_eq!(
            root_of(
                (0_u64..70)
                    .map(u64::to_be_bytes)
                    .collect::<Vec<_>>()
                    .iter()
                    .map(<[u8; 8]>::as_slice)
            ),
            naive::root(&all)
        );
    }
}
