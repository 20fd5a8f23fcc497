//! Proofs as files: what `ledger prove` writes is checked with nothing but the file, the entry and the key.

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::entry::{Hash, leaf_hash};
use ledger::chain::note::VerifierKey;
use ledger::chain::proof::{verify_consistency, verify_inclusion};
use ledger::chain::tlog_proof::TlogProof;
use serde_json::json;

use crate::tamper_proof::fill;
use crate::world::{World, line};

#[tokio::test]
async fn an_entry_is_proved_to_be_in_the_last_checkpoint() {
    let world = World::start().await;
    let refused = world.ledger(["prove", "1"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("ledger checkpoint"), "{refused:?}");
    fill(&world, 600).await;
    world.ledger(["checkpoint"]).ok();
    let vkey: VerifierKey = world
        .ledger(["key", "show", "--vkey"])
        .ok()
        .stdout
        .trim_end()
        .parse()
        .unwrap();
    let out = world.home().join("proof");
    for seq in [1_u64, 2, 255, 256, 257, 511, 512, 513, 599, 600] {
        let (number, file) = (seq.to_string(), out.to_str().unwrap());
        let answer = world.ledger(["prove", &number, "--out", file]).ok();
        assert!(
            answer
                .stderr
                .contains(&format!("proves: entry {seq} is one of the 600"))
        );
        let text = std::fs::read_to_string(&out).unwrap();
        let proof = TlogProof::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.index, seq - 1);
        proof
            .checkpoint
            .verify(std::slice::from_ref(&vkey))
            .unwrap();
        let tree = proof.checkpoint.checkpoint();
        let entry = world.ledger(["show", &number, "--json"]).ok().json();
        let leaf = leaf_hash(entry["bytes"].as_str().unwrap().as_bytes());
        verify_inclusion(&leaf, proof.index, 600, &proof.hashes, &tree.root()).unwrap();
        let other = Hash([1; 32]);
        verify_inclusion(&other, proof.index, 600, &proof.hashes, &tree.root()).unwrap_err();
    }
    world.append(&[line("test.happened", "service:api", &json!({}))]);
    assert_eq!(world.ledger(["prove", "601"]).exit, 1);
    assert_eq!(world.ledger(["prove", "602"]).exit, 1);
    assert_eq!(world.ledger(["prove"]).exit, 2);
}

#[tokio::test]
async fn a_later_checkpoint_is_proved_to_extend_an_older_one() {
    let world = World::start().await;
    let mut older = Vec::new();
    for size in [1, 2, 256, 300, 512, 700] {
        fill(&world, size).await;
        older.push(world.ledger(["checkpoint"]).ok().stdout);
    }
    for note in &older {
        let file = world.home().join("old.txt");
        std::fs::write(&file, note).unwrap();
        let answer = world
            .ledger(["prove", "--from", file.to_str().unwrap()])
            .ok();
        let old = SignedCheckpoint::parse(note.as_bytes()).unwrap();
        let (head, new) = answer.stdout.split_once("\n\n").unwrap();
        let new = SignedCheckpoint::parse(new.as_bytes()).unwrap();
        let mut lines = head.lines();
        let (from, to) = (old.checkpoint(), new.checkpoint());
        assert_eq!(lines.next(), Some(format!("old {}", from.size()).as_str()));
        let hashes: Vec<Hash> = lines.map(decoded).collect();
        verify_consistency(from.size(), &from.root(), to.size(), &to.root(), &hashes).unwrap();
    }
    // One of another history is refused.
    let other = World::start().await;
    let note = other.ledger(["checkpoint"]).ok().stdout;
    let file = world.home().join("other.txt");
    std::fs::write(&file, note).unwrap();
    let refused = world.ledger(["prove", "--from", file.to_str().unwrap()]);
    assert_eq!(refused.exit, 2, "{refused:?}");
}

fn decoded(line: &str) -> Hash {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(line);
    Hash::from_slice(&bytes.unwrap()).unwrap()
}
