use super::*;
use crate::chain::cosignature::Cosigner;
use crate::chain::entry::leaf_hash;
use crate::chain::merkle::root_of;

const VKEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
const SECRET: &str =
    "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";
const ENTRIES: [&str; 15] = [
    "one", "two", "three", "four", "five", "six", "seven", "eit", "nain", "ten", "ileven", "twelf",
    "threeten", "fourten", "fivten",
];
/// Published: size, root and the signature line's end.
const PUBLISHED: [(usize, &str, &str); 4] = [
    (
        0,
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "M9e0lhxJACzE1KoUdqKuPa+9p6R7dSW8BlEvrg/noo8FkGg6PbJoRNOcdjqjOq89wVvTA60eubCc4oufo5BvIVEgtQc=",
    ),
    (
        3,
        "Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=",
        "M9e0lvAQRtH832pk2RTbeSeZMkp4FZSdJYFBUjO5SKxuRbywPUF3cx+HUrb50kjd3rUWW/fj53Wj1dwcwh9bGQnqVAg=",
    ),
    (
        7,
        "IrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U=",
        "M9e0luA5JhTRUki/BBQD0QNiH6AEJ2pdtsA5CQjqJErViuuKrN6513RCTL2640wXJv0dCed3neRGI6dMzBq9uANf2Qc=",
    ),
    (
        15,
        "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=",
        "M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=",
    ),
];

fn published() -> impl Iterator<Item = (Checkpoint, String)> {
    PUBLISHED.into_iter().map(|(size, root, line)| {
        let made = root_of(ENTRIES[..size].iter().map(|entry| entry.as_bytes()));
        assert_eq!(encode_hash(&made), root);
        let checkpoint = Checkpoint::new("example.com/log/testdata", size as u64, made).unwrap();
        let text = format!(
            "example.com/log/testdata\n{size}\n{root}\n\n— example.com/log/testdata {line}\n"
        );
        (checkpoint, text)
    })
}

#[test]
fn published_checkpoints_are_read_verified_and_made() {
    let keys = [VKEY.parse().unwrap()];
    let signer = NoteSigner::from_signing_key(SECRET).unwrap();
    for (checkpoint, text) in published() {
        let read = SignedCheckpoint::parse(text.as_bytes()).unwrap();
        assert_eq!(*read.checkpoint(), checkpoint);
        assert_eq!(read.verify(&keys).unwrap().len(), 1);
        let made = SignedCheckpoint::sign(checkpoint, &[&signer]).unwrap();
        assert_eq!(made.to_string(), text);
    }
}

#[test]
fn other_forms_are_no_checkpoints() {
    let root = PUBLISHED[0].1;
    for (bad, expected) in [
        (String::new(), CheckpointError::Lines),
        (format!("a\n3\n{root}"), CheckpointError::Lines),
        ("a\n3\n".to_owned(), CheckpointError::Lines),
        (format!("a\n\n3\n{root}\n"), CheckpointError::Lines),
        (format!("\n3\n{root}\n"), CheckpointError::Lines),
        (format!("a\n03\n{root}\n"), CheckpointError::Size),
        (format!("a\n+3\n{root}\n"), CheckpointError::Size),
        (format!("a\n-3\n{root}\n"), CheckpointError::Size),
        (format!("a\n 3\n{root}\n"), CheckpointError::Size),
        (format!("a\n3 \n{root}\n"), CheckpointError::Size),
        (
            format!("a\n9223372036854775808\n{root}\n"),
            CheckpointError::Size,
        ),
        (format!("a\n3\n{root} \n"), CheckpointError::Root),
        (format!("a\n3\n{}\n", &root[1..]), CheckpointError::Root),
        (
            format!("a\n3\n{}\n", root.replace("FU=", "FV=")),
            CheckpointError::Root,
        ),
        (
            format!("a\n3\n{}\n", root.replace('+', "-")),
            CheckpointError::Root,
        ),
        (format!("a\r\n3\n{root}\n"), CheckpointError::Origin),
        (format!("a\n3\n{root}\nmore\n\n"), CheckpointError::Lines),
        (format!("a\n3\n{root}\nmo\0re\n"), CheckpointError::Lines),
    ] {
        assert_eq!(bad.parse::<Checkpoint>(), Err(expected), "{bad:?}");
    }
    let largest = format!("a\n9223372036854775807\n{root}\n");
    assert_eq!(largest.parse::<Checkpoint>().unwrap().to_string(), largest);
    let extended = format!("a\n3\n{root}\nmore\nand more\n");
    let read: Checkpoint = extended.parse().unwrap();
    assert_eq!(read.extensions(), ["more", "and more"]);
    assert_eq!(read.to_string(), extended);
    assert_eq!(
        Checkpoint::new("a\nb", 1, Hash::ZERO),
        Err(CheckpointError::Origin)
    );
    assert_eq!(
        Checkpoint::new("a", 1 << 63, Hash::ZERO),
        Err(CheckpointError::Size)
    );
}

#[test]
fn a_log_is_known_by_the_name_of_its_key() {
    let log = NoteSigner::new("example.com/log", &[1; 32]).unwrap();
    let next = NoteSigner::new("example.com/log", &[2; 32]).unwrap();
    let other = NoteSigner::new("example.com/other", &[3; 32]).unwrap();
    let witness = Cosigner::new("example.com/witness", &[4; 32]).unwrap();
    let checkpoint = Checkpoint::new("example.com/log", 1, leaf_hash(b"")).unwrap();
    let made =
        |signers: &[&NoteSigner]| SignedCheckpoint::sign(checkpoint.clone(), signers).unwrap();
    let [log_key, next_key, other_key] = [&log, &next, &other].map(NoteSigner::verifier_key);

    // While a key is replaced, both sign, and who knows one of them accepts.
    let both = made(&[&log, &next]);
    assert_eq!(both.verify([&log_key, &next_key]).unwrap().len(), 2);
    assert_eq!(both.verify([&next_key]).unwrap().len(), 1);
    // The signature of another log's key, though right, is none of this log.
    let foreign = made(&[&other]);
    let refused = |error| Err(CheckpointError::from(error));
    assert_eq!(
        foreign.verify([&other_key]),
        Err(CheckpointError::OtherLog("example.com/log".to_owned()))
    );
    assert_eq!(
        foreign.verify([&other_key, &log_key]),
        refused(NoteError::Unknown(1))
    );
    // Nor does a witness stand in for the log.
    let mut cosigned = made(&[&other]);
    let text = checkpoint.to_string();
    cosigned.add(witness.cosign(&text, 1)).unwrap();
    let witness_key = witness.verifier_key();
    assert_eq!(
        cosigned.verify([&log_key, &witness_key]),
        refused(NoteError::Unknown(1))
    );
    let mut cosigned = made(&[&log]);
    cosigned.add(witness.cosign(&text, 1)).unwrap();
    assert_eq!(cosigned.verify([&log_key, &witness_key]).unwrap().len(), 2);
    let unsigned = SignedCheckpoint::sign(checkpoint, &[]);
    assert_eq!(unsigned, Err(NoteError::Shape.into()));
}
