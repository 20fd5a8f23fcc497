use super::*;
use crate::chain::entry::leaf_hash;

const PUBLISHED: &str = "c2sp.org/tlog-proof@v1
index 2
9xWrP6pdBx5uKsS7mU1b9zWUPcw3mdoNCF55gM+5M2o=
T1X2GdkhUjV3iyufF9b0kVsWFxIU0VI4EpNml2Teci4=
g0ZoeYWtIV8Q8i+4CmgqPnBvH2il107lyCgTQsyB7H4=
5jLpqTgjsBDSEX6SgZiRnbTMdTuRd8bQ5tSsAOxe0Ks=

example.com/log/testdata
15
rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=

— example.com/log/testdata M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=
— Wit1 mz+y1QAAAABpVbkApmYpTeTNbGtPX5WCNTYAM8mU9jtKA1IKlkal9NGh7E7XfhbLW9TcGVlaXugbrU07pTwVdIPlNqpWrGVUwYUhDQ==
";
const POLICY: &str = "\
log example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx
witness Wit1 Wit1+9b3fb2d5+BFhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk
quorum Wit1
";

fn policy() -> Policy {
    Policy::parse(POLICY.as_bytes()).unwrap()
}

#[test]
fn the_derived_proof_file_verifies() {
    assert_eq!(
        Hash::of(PUBLISHED.as_bytes()).to_string(),
        "908746d6de270711c2ae1eb8eccba2f10e8fe98250941fa6d73641d3ce68f55e"
    );
    let proof = TlogProof::parse(PUBLISHED.as_bytes()).unwrap();
    assert_eq!(proof.to_string(), PUBLISHED);
    let policy = policy();
    let accepted = proof.verify(&leaf_hash(b"three"), &policy).unwrap();
    assert_eq!(accepted.logs.len(), 1);
    assert_eq!(accepted.witnesses[0].time, 1_767_225_600);
    assert_eq!(
        proof.verify(&leaf_hash(b"four"), &policy),
        Err(TlogProofError::Proof(ProofError::Root))
    );
    let with_extra = TlogProof {
        extra: Some(b"\0\xff".to_vec()),
        ..proof
    };
    assert_eq!(
        TlogProof::parse(with_extra.to_string().as_bytes()),
        Ok(with_extra)
    );
}

#[test]
fn malformed_proof_files_are_refused() {
    let index = |to: &str| PUBLISHED.replace("index 2\n", to);
    let first = "9xWrP6pdBx5uKsS7mU1b9zWUPcw3mdoNCF55gM+5M2o=\n";
    let hash = |to: &str| PUBLISHED.replace(first, to);
    for (bad, expected) in [
        (String::new(), TlogProofError::Header),
        (PUBLISHED.replace("@v1", "@v2"), TlogProofError::Header),
        (
            PUBLISHED.replace("@v1\n", "@v1\r\n"),
            TlogProofError::Header,
        ),
        (format!(" {PUBLISHED}"), TlogProofError::Header),
        (
            index("extra !!notbase64!!\nindex 2\n"),
            TlogProofError::Line(2),
        ),
        (index("extra AAA\nindex 2\n"), TlogProofError::Line(2)),
        (
            index("extra AAAA\nextra AAAA\nindex 2\n"),
            TlogProofError::Line(3),
        ),
        (index(""), TlogProofError::Line(2)),
        (index("index notanumber\n"), TlogProofError::Line(2)),
        (index("index -5\n"), TlogProofError::Line(2)),
        (index("index +2\n"), TlogProofError::Line(2)),
        (index("index 02\n"), TlogProofError::Line(2)),
        (index("index 2 \n"), TlogProofError::Line(2)),
        (
            index("index 99999999999999999999\n"),
            TlogProofError::Line(2),
        ),
        (index("index 2\nindex 2\n"), TlogProofError::Line(3)),
        (hash("not a hash\n"), TlogProofError::Line(3)),
        (hash("AAAA\n"), TlogProofError::Line(3)),
        (
            hash(&first.replace("M2o=", "M2p=")),
            TlogProofError::Line(3),
        ),
        (hash(&first.repeat(61)), TlogProofError::Line(66)),
        (
            hash(&format!("{}\n", "A".repeat(64 << 10))),
            TlogProofError::Line(3),
        ),
        (
            index(&format!("extra {}\nindex 2\n", "A".repeat(64 << 10))),
            TlogProofError::Line(2),
        ),
        (first.to_owned(), TlogProofError::Header),
        (PUBLISHED[..60].to_owned(), TlogProofError::Line(3)),
    ] {
        assert_eq!(TlogProof::parse(bad.as_bytes()), Err(expected), "{bad:.80}");
    }
    assert_eq!(TlogProof::parse(b"\xff"), Err(TlogProofError::Header));
    let cut = PUBLISHED.trim_end();
    assert!(matches!(
        TlogProof::parse(cut.as_bytes()),
        Err(TlogProofError::Checkpoint(_))
    ));
}

#[test]
fn no_other_bytes_are_this_proof() {
    let (policy, leaf) = (policy(), leaf_hash(b"three"));
    for at in 0..PUBLISHED.len() {
        for bit in 0..8 {
            let mut bytes = PUBLISHED.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let accepted = TlogProof::parse(&bytes).is_ok_and(|p| p.verify(&leaf, &policy).is_ok());
            assert!(!accepted, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_proof_without_its_witness_is_not_accepted() {
    let (alone, _) = PUBLISHED.split_once("— Wit1").unwrap();
    let proof = TlogProof::parse(alone.as_bytes()).unwrap();
    assert_eq!(
        proof.verify(&leaf_hash(b"three"), &policy()),
        Err(TlogProofError::Unmet(UnmetError::Quorum(0)))
    );
}
