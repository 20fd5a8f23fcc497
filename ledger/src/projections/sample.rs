//! Picking users for a spot check so that somebody else picks the same: no randomness but the seed.
//!
//! Each candidate gets SHA-256("ledger-sample-v1" ‖ 0x00 ‖ seed ‖ 0x00 ‖ subject), seed and subject as UTF-8; the smallest
//! digests are picked. Anybody with a list of subjects can repeat it with `sha256sum` and `sort`.

use std::collections::BTreeSet;

use crate::domain::hash::Hash;
use crate::domain::id::Subject;

/// What sets these digests apart from all others.
const DOMAIN: &[u8] = b"ledger-sample-v1";

/// The digest by which a candidate is picked.
pub fn rank(seed: &str, subject: &Subject) -> Hash {
    let subject = subject.to_string();
    let parts = [DOMAIN, seed.as_bytes(), subject.as_bytes()];
    Hash::of(&parts.join(&0))
}

/// So many of the candidates, by their digest; all of them where there are not so many.
pub fn pick(seed: &str, candidates: &BTreeSet<Subject>, users: usize) -> Vec<(Hash, Subject)> {
    let mut ranked: Vec<(Hash, Subject)> = candidates
        .iter()
        .map(|subject| (rank(seed, subject), subject.clone()))
        .collect();
    ranked.sort();
    ranked.truncate(users);
    ranked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(count: u128) -> BTreeSet<Subject> {
        let user = |n| Subject::new("user", uuid::Uuid::from_u128(n)).unwrap();
        (0..count).map(user).collect()
    }

    #[test]
    fn anybody_can_repeat_it() {
        // printf 'ledger-sample-v1\0audit 7\0user:00000000-0000-0000-0000-000000000001' | sha256sum
        let one = users(2).into_iter().next_back().unwrap();
        assert_eq!(
            rank("audit 7", &one).to_string(),
            "94cc030ab1801e06ca5af75bb7651d33b3a8aa36e8ecbb086c412d148351aa8d"
        );
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let all = users(50);
        let picked = pick("a", &all, 3);
        assert_eq!(picked.len(), 3);
        assert_eq!(picked, pick("a", &all, 3));
        assert_ne!(picked, pick("b", &all, 3));
        assert_eq!(pick("a", &all, 99).len(), 50);
        assert!(pick("a", &BTreeSet::new(), 3).is_empty());
    }

    proptest! {
        /// Who is picked stays picked when another is asked for too, and when one who was not is no candidate any more.
        #[test]
        fn a_larger_sample_holds_the_smaller_one(seed in ".{0,8}", count in 1_usize..20) {
            let all = users(20);
            let small = pick(&seed, &all, count - 1);
            let large = pick(&seed, &all, count);
            prop_assert_eq!(&large[..count - 1], &small[..]);
            let left: BTreeSet<Subject> = large.iter().map(|(_, subject)| subject.clone()).collect();
            prop_assert_eq!(pick(&seed, &left, count), large);
        }
    }
}
