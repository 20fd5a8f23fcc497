use proptest::prelude::*;

use super::*;

const FOO: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const FOO_NOTE: &str = "This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
";
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SECRET: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_NOTE: &str = "If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn note(text: &str) -> Note {
    Note::parse(text.as_bytes()).unwrap()
}

/// Published with the checkpoint vectors of the tlog formats.
#[test]
fn published_key() {
    let seed = STANDARD
        .decode("AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")
        .unwrap();
    let seed: [u8; 32] = seed[1..].try_into().unwrap();
    let signer = NoteSigner::new("example.com/log/testdata", &seed).unwrap();
    assert_eq!(
        signer.verifier_key().to_string(),
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
    );
    assert_eq!(
        signer.signing_key(),
        "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg"
    );
    assert_eq!(
        format!("{signer:?}"),
        "NoteSigner(example.com/log/testdata)"
    );
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\0b"] {
        assert_eq!(NoteSigner::new(name, &seed).err(), Some(KeyError::Name));
    }
}

#[test]
fn published_notes_verify_and_signing_gives_the_same_bytes() {
    for (vkey, text) in [(FOO, FOO_NOTE), (PETER, PETER_NOTE)] {
        let keys = [key(vkey)];
        assert_eq!(keys[0].to_string(), vkey);
        let note = note(text);
        assert_eq!(note.to_string(), text);
        let verified = note.verify(&keys).unwrap();
        assert_eq!(
            verified,
            [Verified {
                key: &keys[0],
                time: 0
            }]
        );
    }
    let signer = NoteSigner::from_signing_key(PETER_SECRET).unwrap();
    assert_eq!(signer.signing_key(), PETER_SECRET);
    assert_eq!(signer.verifier_key(), key(PETER));
    let text = note(PETER_NOTE).text().to_owned();
    let signature = signer.sign(&text);
    assert_eq!(
        Note::new(text, vec![signature]).unwrap().to_string(),
        PETER_NOTE
    );
}

#[test]
fn other_texts_are_no_keys() {
    for (text, expected) in [
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            KeyError::Form,
        ),
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEQ==",
            KeyError::Bytes,
        ),
        (
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            KeyError::Kind(0x65),
        ),
        (&*PETER.replace("c74f20a3", "C74F20A3"), KeyError::Form),
        (&*PETER.replace("c74f20a3", "0c74f20a3"), KeyError::Form),
        (&*PETER.replace("c74f20a3", "c74f20a4"), KeyError::Id),
        (
            &*PETER.replace("PeterNeumann", "peterneumann"),
            KeyError::Id,
        ),
        (&*format!("{PETER}\n"), KeyError::Form),
    ] {
        assert_eq!(text.parse::<VerifierKey>(), Err(expected), "{text}");
    }
    for vkey in [PETER, FOO] {
        for from in 0..vkey.len() {
            for to in from..=vkey.len() {
                let part = &vkey[from..to];
                assert!(
                    part == vkey || part.parse::<VerifierKey>().is_err(),
                    "{part}"
                );
            }
        }
        for at in 0..vkey.len() {
            let mut bytes = vkey.as_bytes().to_vec();
            bytes[at] += 1;
            let other = String::from_utf8(bytes).unwrap();
            assert!(other.parse::<VerifierKey>().is_err(), "{other}");
        }
    }
    // The neutral element: every message has a signature by it that most verifiers accept.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let public = VerifyingKey::from_bytes(&neutral).unwrap();
    let weak = VerifierKey::new("weak", KeyKind::Ed25519, public).to_string();
    assert_eq!(weak.parse::<VerifierKey>(), Err(KeyError::Bytes));
    let other_id = PETER_SECRET.replace("c74f20a3", "c74f20a4");
    assert_eq!(
        NoteSigner::from_signing_key(&other_id).err(),
        Some(KeyError::Id)
    );
    assert_eq!(
        NoteSigner::from_signing_key(PETER).err(),
        Some(KeyError::Form)
    );
}

/// What of a note has another form than the one, and the reason it is refused for.
#[test]
fn malformed_notes_are_refused() {
    let line = FOO_NOTE.lines().last().unwrap();
    let text = "This is an example message.\n";
    let many = |count| format!("{text}\n{}", format!("{line}\n").repeat(count));
    for (bad, expected) in [
        (String::new(), NoteError::Shape),
        (text.to_owned(), NoteError::Shape),
        (format!("{text}\n"), NoteError::Shape),
        (format!("{text}\n{line}"), NoteError::Shape),
        (format!("{text}{line}\n"), NoteError::Shape),
        (format!("\n{line}\n"), NoteError::Shape),
        (format!("{text}\n{line}\n\n"), NoteError::Shape),
        (format!("{text}\n\n{line} \n"), NoteError::Line(1)),
        (format!("{text}\n{line}\n{line} \n"), NoteError::Line(2)),
        (format!("{text}\n{line}\r\n"), NoteError::Text),
        (format!("a\tb\n\n{line}\n"), NoteError::Text),
        (
            format!("{text}\n{}\n", line.replace('—', "-")),
            NoteError::Line(1),
        ),
        (
            format!("{text}\n{}\n", line.replace("— ", "—  ")),
            NoteError::Line(1),
        ),
        (
            format!("{text}\n{}\n", line.replace("foo ", "foo  ")),
            NoteError::Line(1),
        ),
        (
            format!("{text}\n{}\n", line.replace("/foo", "+foo")),
            NoteError::Line(1),
        ),
        (
            format!("{text}\n{}\n", line.replace("aQM=", "aQM")),
            NoteError::Line(1),
        ),
        // The same bytes with other bits behind their end.
        (
            format!("{text}\n{}\n", line.replace("aQM=", "aQN=")),
            NoteError::Line(1),
        ),
        (format!("{text}\n— name AAAAAA==\n"), NoteError::Line(1)),
        (
            many(SIGNATURES_MAX + 1),
            NoteError::TooMany(SIGNATURES_MAX + 1),
        ),
    ] {
        assert_eq!(Note::parse(bad.as_bytes()), Err(expected), "{bad:?}");
    }
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::Text));
    let long = vec![b'a'; NOTE_BYTES_MAX + 1];
    assert_eq!(Note::parse(&long), Err(NoteError::TooLong(long.len())));
    assert!(Note::parse(many(SIGNATURES_MAX).as_bytes()).is_ok());
    assert!(line.parse::<Signature>().is_ok());
    assert!(format!("{line}\n").parse::<Signature>().is_err());
}

#[test]
fn the_last_empty_line_divides() {
    let signer = NoteSigner::new("a", &[3; 32]).unwrap();
    let text = "one\n\n\ntwo\n";
    let whole = Note::new(text.to_owned(), vec![signer.sign(text)]).unwrap();
    assert_eq!(note(&whole.to_string()).text(), text);
    assert!(whole.verify(&[signer.verifier_key()]).is_ok());
    for text in ["one", "", "one\n\n"] {
        let made = Note::new(text.to_owned(), vec![signer.sign(text)]);
        let sound = made.is_ok_and(|made| made.text() != text);
        assert!(!sound, "{text:?}");
    }
    assert_eq!(
        Note::new("one\n".to_owned(), Vec::new()),
        Err(NoteError::Shape)
    );
}

#[test]
fn a_key_is_its_name_and_id_and_counts_once() {
    let (one, other) = (
        NoteSigner::new("one", &[1; 32]).unwrap(),
        NoteSigner::new("other", &[2; 32]).unwrap(),
    );
    let keys = [one.verifier_key(), other.verifier_key()];
    let text = "text\n";
    let (by_one, by_other) = (one.sign(text), other.sign(text));
    let signed = |signatures: Vec<Signature>| {
        let note = Note::new(text.to_owned(), signatures).unwrap();
        note.verify(&keys).map(|all| all.len())
    };
    assert_eq!(signed(vec![by_one.clone(), by_other.clone()]), Ok(2));
    assert_eq!(signed(vec![by_one.clone(), by_one.clone()]), Ok(1));
    // Only the name, or only the id, of a known key: somebody else's line.
    let renamed = Signature {
        name: "third".to_owned(),
        ..by_one.clone()
    };
    let renumbered = Signature {
        key_id: 7,
        ..by_one.clone()
    };
    assert_eq!(
        signed(vec![renamed.clone(), renumbered.clone()]),
        Err(NoteError::Unknown(2))
    );
    assert_eq!(signed(vec![renamed, renumbered, by_other.clone()]), Ok(1));
    // One wrong signature of a known key outweighs a right one, also a second time.
    let wrong = Signature {
        bytes: by_other.bytes.clone(),
        ..by_one.clone()
    };
    let refused = NoteError::Wrong {
        name: "one".to_owned(),
        id: by_one.key_id,
    };
    assert_eq!(
        signed(vec![by_other.clone(), wrong.clone()]),
        Err(refused.clone())
    );
    assert_eq!(signed(vec![by_one.clone(), wrong]), Err(refused.clone()));
    for bytes in [&by_one.bytes[1..], &[&by_one.bytes[..], &[0]].concat()] {
        let cut = Signature {
            bytes: bytes.to_vec(),
            ..by_one.clone()
        };
        assert_eq!(signed(vec![cut]), Err(refused.clone()));
    }
    // Two keys that no line could tell apart.
    let mut twin = keys[1].clone();
    (twin.name, twin.id) = (keys[0].name.clone(), keys[0].id);
    let note = Note::new(text.to_owned(), vec![by_one.clone()]).unwrap();
    assert!(matches!(
        note.verify([&keys[0], &twin]),
        Err(NoteError::Ambiguous { .. })
    ));
    assert!(note.verify([&keys[0], &keys[0]]).is_ok());
    let mut grown = note.clone();
    grown.add(by_one).unwrap();
    assert_eq!(grown, note);
    grown.add(by_other).unwrap();
    assert_eq!(grown.verify(&keys).unwrap().len(), 2);
}

#[test]
fn no_other_bytes_are_this_signed_note() {
    let keys = [key(FOO)];
    for at in 0..FOO_NOTE.len() {
        for bit in 0..8 {
            let mut bytes = FOO_NOTE.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let accepted = Note::parse(&bytes).is_ok_and(|note| note.verify(&keys).is_ok());
            assert!(!accepted, "byte {at}, bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_is_written_again(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "(a|\n){0,8}\n\n(— [a+/]{1,3} [A-C=]{0,12}\n){0,3}".prop_map(String::into_bytes),
    ]) {
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn any_text_is_signed_and_read_back(text in "([a-zé€ ]{0,9}\n){1,4}", seed in any::<[u8; 32]>(), name in "[a-z./é-]{1,20}") {
        let signer = NoteSigner::new(&name, &seed).unwrap();
        prop_assert_eq!(key(&signer.verifier_key().to_string()), signer.verifier_key());
        let made = Note::new(text.clone(), vec![signer.sign(&text)]);
        // A text of nothing but empty lines at its end has no place for the dividing one.
        if let Ok(made) = made {
            prop_assert!(note(&made.to_string()).verify(&[signer.verifier_key()]).is_ok());
        } else {
            prop_assert!(text.ends_with("\n\n") || text == "\n");
        }
    }
}

/// Another implementation of the same notes.
mod against_signed_note {
    use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};

    use super::*;

    fn theirs(bytes: &[u8], vkey: &str) -> bool {
        let Ok(verifier) = StandardVerifier::new(vkey) else {
            return false;
        };
        let list = VerifierList::new(vec![Box::new(verifier)]);
        TheirNote::from_bytes(bytes)
            .is_ok_and(|note| note.verify(&list).is_ok_and(|(known, _)| !known.is_empty()))
    }

    #[test]
    fn both_accept_ours_and_refuse_the_damaged() {
        let signer = NoteSigner::new("example.com/log", &[5; 32]).unwrap();
        let (vkey, text) = (signer.verifier_key(), "example.com/log\n0\nAAAA\n");
        let made = Note::new(text.to_owned(), vec![signer.sign(text)]).unwrap();
        let made = made.to_string();
        assert!(theirs(made.as_bytes(), &vkey.to_string()));
        for (vkey, text) in [(FOO, FOO_NOTE), (PETER, PETER_NOTE)] {
            assert!(theirs(text.as_bytes(), vkey));
        }
        for at in 0..made.len() {
            let mut bytes = made.clone().into_bytes();
            bytes[at] ^= 1;
            let ours = Note::parse(&bytes).is_ok_and(|note| note.verify([&vkey]).is_ok());
            assert!(!ours && !theirs(&bytes, &vkey.to_string()), "byte {at}");
        }
    }
}
