//! What has to hold for any bytes whatever: nothing panics, what is read is written again as the same bytes, and nothing is
//! accepted that was not signed.
//!
//! The targets of `cargo fuzz` call these, and so does `ledger/tests/fuzz.rs` on every test run, over the corpus and seeded
//! mutations of it.

use ledger::chain::bundle::Bundle;
use ledger::chain::canonical;
use ledger::chain::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::chain::entry::{Entry, FORMAT, leaf_hash};
use ledger::chain::note::{Note, Signature, VerifierKey};
use ledger::chain::policy::Policy;
use ledger::chain::tiles::{self, Tile};
use ledger::chain::tlog_proof::TlogProof;

/// Published with the vectors of the tlog formats; the policy asks for this witness.
const POLICY: &[u8] = include_bytes!("../corpus/policy/one-witness");
/// Proves that `three` is entry 2 of the log of that policy.
const PROOF: &[u8] = include_bytes!("../corpus/tlog_proof/three-of-fifteen");

/// Panics where something does not hold.
pub type Target = fn(&[u8]);

/// Everything that reads bytes of others, by the name of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("bundle", bundle),
    ("canonical", canonical),
    ("checkpoint", checkpoint),
    ("cosignature", cosignature),
    ("entry", entry),
    ("note", note),
    ("policy", policy),
    ("tile", tile),
    ("tlog_proof", tlog_proof),
];

fn published() -> (Policy, TlogProof) {
    let policy = Policy::parse(POLICY).expect("the published policy is one");
    let proof = TlogProof::parse(PROOF).expect("the published proof is one");
    (policy, proof)
}

/// A signed note.
pub fn note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        let (policy, _) = published();
        let keys = policy.logs().iter().chain(policy.witnesses());
        let _ = note.verify(keys.map(|party| &party.key));
    }
}

/// A checkpoint, signed or not, and a verifier key.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(checkpoint) = text.parse::<Checkpoint>() {
        assert_eq!(checkpoint.to_string(), text);
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    let Ok(signed) = SignedCheckpoint::parse(bytes) else {
        return;
    };
    assert_eq!(signed.to_string(), text);
    let (policy, proof) = published();
    if signed
        .verify(policy.logs().iter().map(|log| &log.key))
        .is_ok()
    {
        assert_eq!(signed.checkpoint(), proof.checkpoint.checkpoint(), "forged");
    }
}

/// A cosignature of the published checkpoint.
pub fn cosignature(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(signature) = line.parse::<Signature>() else {
        return;
    };
    assert_eq!(signature.to_string(), line);
    let (policy, proof) = published();
    let published = proof.checkpoint.note();
    let text = published.text().to_owned();
    let Ok(note) = Note::new(text, vec![signature.clone()]) else {
        return;
    };
    if note
        .verify(policy.witnesses().iter().map(|one| &one.key))
        .is_ok()
    {
        assert!(published.signatures().contains(&signature), "forged");
    }
}

/// A proof file.
pub fn tlog_proof(bytes: &[u8]) {
    let Ok(read) = TlogProof::parse(bytes) else {
        return;
    };
    assert_eq!(read.to_string().as_bytes(), bytes);
    let (policy, proof) = published();
    if read.verify(&leaf_hash(b"three"), &policy).is_ok() {
        assert_eq!(
            (read.index, read.hashes),
            (proof.index, proof.hashes),
            "forged"
        );
    }
}

/// A policy file.
pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::parse(bytes) {
        let (_, proof) = published();
        let _ = policy.check(&proof.checkpoint);
    }
}

/// A tile's path, a tile and a bundle.
pub fn tile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (path, content) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(tile) = path.parse::<Tile>() else {
        return;
    };
    assert_eq!(tile.to_string(), path);
    let _ = tile.hashes(content.as_bytes());
    if let Ok(entries) = tile.entries(content.as_bytes()) {
        assert_eq!(entries.len(), usize::from(tile.width()));
        assert_eq!(
            tiles::bundle(entries).ok().as_deref(),
            Some(content.as_bytes())
        );
    }
}

/// An evidence bundle, and the archive around it.
pub fn bundle(bytes: &[u8]) {
    let Ok(read) = Bundle::unpack(bytes) else {
        return;
    };
    assert_eq!(read.pack().ok().as_deref(), Some(bytes));
    if let Ok(policy) = read.own_policy() {
        let _ = read.verify(&policy);
    }
}

/// A payload.
pub fn canonical(bytes: &[u8]) {
    let Ok(value) = canonical::parse(bytes) else {
        return;
    };
    let text = canonical::to_bytes(&value).expect("what is of the subset can be written");
    assert_eq!(canonical::parse(&text).ok(), Some(value.clone()));
    assert_eq!(canonical::to_bytes(&value).ok(), Some(text));
    assert_eq!(serde_json::from_slice(bytes).ok(), Some(value));
}

/// An entry, read by position and by a general reader.
pub fn entry(bytes: &[u8]) {
    let general = serde_json::from_slice::<Entry>(bytes).ok();
    let general = general.filter(|entry| entry.v == FORMAT && entry.to_bytes() == bytes);
    assert_eq!(Entry::from_bytes(bytes).ok(), general);
}
