use std::fmt::Write as _;

use super::*;
use crate::chain::checkpoint::Checkpoint;
use crate::chain::cosignature::Cosigner;
use crate::chain::entry::Hash;
use crate::chain::note::{NoteError, NoteSigner};

fn log() -> NoteSigner {
    NoteSigner::new("example.com/log", &[1; 32]).unwrap()
}

fn witness(number: u8) -> Cosigner {
    Cosigner::new(&format!("w{number}.example.com"), &[100 + number; 32]).unwrap()
}

/// A checkpoint of the log, cosigned by these witnesses.
fn cosigned(by: &[u8]) -> SignedCheckpoint {
    let checkpoint = Checkpoint::new("example.com/log", 7, Hash([9; 32])).unwrap();
    let text = checkpoint.to_string();
    let mut signed = SignedCheckpoint::sign(checkpoint, &[&log()]).unwrap();
    for number in by {
        signed
            .add(witness(*number).cosign(&text, 1000 + u64::from(*number)))
            .unwrap();
    }
    signed
}

/// The keys of the log and five witnesses, named A to E, and then these lines.
fn text(rest: &str) -> String {
    let mut text = format!("log {}\n", log().verifier_key());
    for (number, name) in (1..).zip(["A", "B", "C", "D", "E"]) {
        writeln!(text, "witness {name} {}", witness(number).verifier_key()).unwrap();
    }
    text + rest
}

fn met(rest: &str, by: &[u8]) -> bool {
    let policy = Policy::parse(text(rest).as_bytes()).unwrap();
    match policy.check(&cosigned(by)) {
        Ok(accepted) => {
            assert_eq!(accepted.witnesses.len(), by.len());
            true
        }
        Err(error) => {
            assert_eq!(error, UnmetError::Quorum(by.len()));
            false
        }
    }
}

#[test]
fn the_quorum_decides() {
    assert!(met("quorum none\n", &[]));
    assert!(met("quorum B\n", &[2]));
    assert!(!met("quorum B\n", &[1, 3]));
    for (threshold, enough) in [("any", 1), ("1", 1), ("2", 2), ("3", 3), ("all", 3)] {
        let rest = format!("group G {threshold} A B C\nquorum G\n");
        for count in 0..=3_u8 {
            let by: Vec<u8> = (1..=count).collect();
            assert_eq!(met(&rest, &by), count >= enough, "{threshold} {count}");
        }
        assert!(!met(&rest, &[4, 5]));
    }
    // The example of the specification: groups of groups.
    let nested = "group X 2 A B C\ngroup Y any D E\ngroup both all X Y\nquorum both\n";
    assert!(met(nested, &[1, 3, 5]));
    assert!(!met(nested, &[1, 2, 3]));
    assert!(!met(nested, &[1, 4, 5]));
}

#[test]
fn one_witness_counts_once_however_often_it_signs() {
    let policy = Policy::parse(text("group G 2 A B\nquorum G\n").as_bytes()).unwrap();
    let mut twice = cosigned(&[1]);
    let again = witness(1).cosign(twice.note().text(), 5000);
    twice.add(again).unwrap();
    assert_eq!(policy.check(&twice), Err(UnmetError::Quorum(1)));
    twice
        .add(witness(2).cosign(twice.note().text(), 5000))
        .unwrap();
    assert_eq!(policy.check(&twice).unwrap().witnesses.len(), 2);
}

#[test]
fn the_log_must_have_signed() {
    let policy = Policy::parse(text("quorum none\n").as_bytes()).unwrap();
    let other = NoteSigner::new("example.com/log", &[2; 32]).unwrap();
    let checkpoint = cosigned(&[]).checkpoint().clone();
    let forged = SignedCheckpoint::sign(checkpoint, &[&other]).unwrap();
    let refused = UnmetError::Log(CheckpointError::Note(NoteError::Unknown(1)));
    assert_eq!(policy.check(&forged), Err(refused));
    let elsewhere = Checkpoint::new("example.com/elsewhere", 7, Hash([9; 32])).unwrap();
    let elsewhere = SignedCheckpoint::sign(elsewhere, &[&log()]).unwrap();
    assert!(matches!(
        policy.check(&elsewhere),
        Err(UnmetError::Log(CheckpointError::OtherLog(_)))
    ));
    // A policy without a log takes it from elsewhere.
    let mut open = Policy::parse(b"quorum none").unwrap();
    assert!(open.check(&cosigned(&[])).is_err());
    open.add_log(log().verifier_key());
    open.add_log(log().verifier_key());
    assert_eq!(open, Policy::of_log([log().verifier_key()]));
    assert!(open.check(&cosigned(&[3])).is_ok());
}

#[test]
fn spaces_comments_addresses_and_foreign_bytes_are_allowed() {
    let key = witness(1).verifier_key();
    let text = format!(
        "# a comment\n\t # and another \u{e9}\n\n  \t\nlog\t{}  https://log.example.com/ \n\
         witness \u{212a} {key} https://w1.example.com/\ngroup\tK  any\t\u{212a}\nquorum K\n#",
        log().verifier_key()
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(
        policy.logs()[0].url.as_deref(),
        Some("https://log.example.com/")
    );
    assert_eq!(
        policy.witnesses()[0].url.as_deref(),
        Some("https://w1.example.com/")
    );
    assert!(policy.check(&cosigned(&[1])).is_ok());
    assert!(Policy::parse(&[text.as_bytes(), b"\xff\xfe\n"].concat()).is_ok());
}

#[test]
fn other_texts_are_no_policies() {
    let (log, one) = (log().verifier_key(), witness(1).verifier_key());
    let renamed = {
        let seed = [101; 32];
        Cosigner::new("other.example.com", &seed)
            .unwrap()
            .verifier_key()
    };
    for (rest, expected) in [
        (format!("log {log}\n"), Fault::KeyRepeated),
        (format!("log {one}\n"), Fault::Kind),
        ("log\n".to_owned(), Fault::Words),
        (format!("log {log} a b\n"), Fault::Words),
        (format!("witness F {renamed}\n"), Fault::KeyRepeated),
        (format!("witness F {log}\n"), Fault::Kind),
        (format!("witness A {one}\n"), Fault::NameTaken),
        (format!("witness none {one}\n"), Fault::NameTaken),
        ("witness F\n".to_owned(), Fault::Words),
        ("group G any\n".to_owned(), Fault::Words),
        ("group G A\n".to_owned(), Fault::Words),
        ("group G any F\n".to_owned(), Fault::NameUnknown),
        ("group G any G\n".to_owned(), Fault::NameUnknown),
        ("group G any none\n".to_owned(), Fault::NameUnknown),
        ("group none any A\n".to_owned(), Fault::NameTaken),
        ("group A any B\n".to_owned(), Fault::NameTaken),
        ("group G any A A\n".to_owned(), Fault::MemberTwice),
        ("group G 0 A\n".to_owned(), Fault::Threshold),
        ("group G 2 A\n".to_owned(), Fault::Threshold),
        ("group G 01 A\n".to_owned(), Fault::Threshold),
        ("group G +1 A\n".to_owned(), Fault::Threshold),
        ("group G -1 A\n".to_owned(), Fault::Threshold),
        ("group G some A\n".to_owned(), Fault::Threshold),
        ("quorum F\n".to_owned(), Fault::NameUnknown),
        ("quorum\n".to_owned(), Fault::Words),
        ("quorum A B\n".to_owned(), Fault::Words),
        ("Quorum A\n".to_owned(), Fault::Words),
        ("quorum A\r\n".to_owned(), Fault::Control),
        ("quorum A\x7f\n".to_owned(), Fault::Control),
        ("quorum\u{b}A\n".to_owned(), Fault::Control),
    ] {
        let line = text("").lines().count() + 1;
        let expected = PolicyError::Line {
            line,
            why: expected,
        };
        assert_eq!(
            Policy::parse(text(&rest).as_bytes()),
            Err(expected),
            "{rest}"
        );
    }
    let twice = "group G any A\ngroup H any A\n";
    assert_eq!(
        Policy::parse(text(twice).as_bytes()),
        Err(PolicyError::Line {
            line: 8,
            why: Fault::MemberTwice
        })
    );
    assert_eq!(Policy::parse(text("").as_bytes()), Err(PolicyError::Quorum));
    assert_eq!(
        Policy::parse(text("quorum A\nquorum A\n").as_bytes()),
        Err(PolicyError::Quorum)
    );
    assert_eq!(Policy::parse(b""), Err(PolicyError::Quorum));
    let bad_key = Policy::parse(b"log nothing\nquorum none\n");
    assert!(matches!(
        bad_key,
        Err(PolicyError::Key {
            line: 1,
            source: KeyError::Form
        })
    ));
    let oversized = vec![b'#'; POLICY_BYTES_MAX + 1];
    assert_eq!(
        Policy::parse(&oversized),
        Err(PolicyError::TooLong(oversized.len()))
    );
}

/// The least that the specification asks an implementation to take, and more.
#[test]
fn a_policy_may_have_many_logs_witnesses_and_groups() {
    let mut text = String::new();
    for number in 0..40_u8 {
        let log = NoteSigner::new(&format!("log{number}"), &[number + 1; 32]).unwrap();
        let witness = Cosigner::new(&format!("w{number}"), &[number + 1; 32]).unwrap();
        let (log, witness) = (log.verifier_key(), witness.verifier_key());
        writeln!(
            text,
            "log {log}
witness w{number} {witness}"
        )
        .unwrap();
        let below = if number == 0 {
            String::new()
        } else {
            format!(" g{}", number - 1)
        };
        writeln!(text, "group g{number} all w{number}{below}").unwrap();
    }
    let policy = Policy::parse((text + "quorum g39\n").as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (40, 40));
}
