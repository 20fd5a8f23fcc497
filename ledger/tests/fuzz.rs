//! A short run of the fuzz targets with the ordinary compiler: the corpus, and mutations of it that a seed fixes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

#[path = "../../fuzz/src/lib.rs"]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "what does not hold is said by a panic"
)]
pub mod targets;

/// Mutations of each file of the corpus.
const MUTATIONS: u64 = 10_000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Bytes that end, begin or separate something in one of the formats.
const TELLING: &[u8] = b"\n\n\n  +=/\"\\{}[]:,.-0189aAxp#\r\t\0\x7f\x80\xe2\xff";

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut StdRng) {
    for _ in 0..dice.random_range(1..5) {
        let at = dice.random_range(0..=bytes.len());
        let end = (at + dice.random_range(0..40)).min(bytes.len());
        match dice.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = *TELLING.choose(dice).unwrap(),
            2 => bytes.insert(at, *TELLING.choose(dice).unwrap()),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = dice.random_range(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            5 => bytes.truncate(at),
            _ => {
                let other = others.choose(dice).unwrap();
                let from = dice.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

#[test]
fn no_bytes_make_a_reader_panic_or_accept_what_was_not_signed() {
    for (name, target) in targets::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for (number, bytes) in corpus.iter().enumerate() {
            target(bytes);
            for seed in 0..MUTATIONS {
                let mut dice = StdRng::seed_from_u64(seed);
                let mut mutated = bytes.clone();
                mutate(&mut mutated, &corpus, &mut dice);
                let held = std::panic::catch_unwind(|| target(&mutated));
                assert!(
                    held.is_ok(),
                    "{name}: file {number}, seed {seed}: {}",
                    mutated.escape_ascii()
                );
            }
        }
    }
}

type Accepts = fn(&[u8]) -> bool;

/// A target whose corpus it refuses as a whole would show nothing.
#[test]
fn each_corpus_holds_what_its_reader_accepts() {
    use ledger::chain::{bundle, canonical, checkpoint, entry, note, policy, tiles, tlog_proof};

    let accepts: [(&str, Accepts); 9] = [
        ("bundle", |bytes| bundle::Bundle::unpack(bytes).is_ok()),
        ("canonical", |bytes| canonical::parse(bytes).is_ok()),
        ("checkpoint", |bytes| {
            checkpoint::SignedCheckpoint::parse(bytes).is_ok()
        }),
        ("cosignature", |bytes| {
            String::from_utf8_lossy(bytes)
                .parse::<note::Signature>()
                .is_ok()
        }),
        ("entry", |bytes| entry::Entry::from_bytes(bytes).is_ok()),
        ("note", |bytes| note::Note::parse(bytes).is_ok()),
        ("policy", |bytes| policy::Policy::parse(bytes).is_ok()),
        ("tile", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (path, content) = text.split_once('\n').unwrap();
            path.parse::<tiles::Tile>()
                .is_ok_and(|tile| tile.entries(content.as_bytes()).is_ok())
        }),
        ("tlog_proof", |bytes| {
            tlog_proof::TlogProof::parse(bytes).is_ok()
        }),
    ];
    for (name, accepts) in accepts {
        assert!(corpus(name).iter().any(|bytes| accepts(bytes)), "{name}");
    }
}
