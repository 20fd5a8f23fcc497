use uuid::Uuid;

use super::*;
use crate::chain::checkpoint::Checkpoint;
use crate::chain::cosignature::Cosigner;
use crate::chain::entry::{FORMAT as ENTRY_FORMAT, SALT_BYTES, commitment, leaf_hash};
use crate::chain::merkle::Frontier;
use crate::chain::note::NoteSigner;
use crate::domain::id::{Actor, EntryId};

const LEDGER: LedgerId = LedgerId::new(Uuid::from_u128(0x0197_f1c2 << 96 | 7));
const SIZE: u64 = 20;

fn salted(seq: u64) -> Vec<u8> {
    [&[9; SALT_BYTES][..], format!("{{\"n\":{seq}}}").as_bytes()].concat()
}

/// Twenty entries as the database would hold them.
fn chain() -> Vec<Vec<u8>> {
    let mut prev = Hash::ZERO;
    let mut all = Vec::new();
    for seq in 1..=SIZE {
        let id = EntryId::new(Uuid::from_u128(1000 + u128::from(seq)));
        let event_type = match seq {
            1 => "ledger.created",
            _ if seq % 5 == 0 => "run.finished",
            _ => "note.added",
        };
        let entry = Entry {
            actor: Actor::system(),
            cause: None,
            commitment: commitment(&[9; SALT_BYTES], &salted(seq)[SALT_BYTES..]),
            id,
            key: id.to_string().parse().unwrap(),
            ledger: LEDGER,
            occurred_at: Timestamp::from_micros(i64::try_from(seq).unwrap()).unwrap(),
            prev,
            recorded_at: Timestamp::from_micros(i64::try_from(seq).unwrap()).unwrap(),
            run: None,
            schema: 1,
            seq,
            stored: Hash::ZERO,
            subject: Subject::new("note", Uuid::from_u128(u128::from(seq % 3))).unwrap(),
            event_type: event_type.parse().unwrap(),
            v: ENTRY_FORMAT,
        };
        prev = entry.hash();
        all.push(entry.to_bytes());
    }
    all
}

fn signer() -> NoteSigner {
    NoteSigner::new(&format!("example.com/log/{LEDGER}"), &[1; 32]).unwrap()
}

fn checkpoint(all: &[Vec<u8>], signer: &NoteSigner) -> SignedCheckpoint {
    let mut tree = Frontier::default();
    tree.extend(all.iter().map(|bytes| leaf_hash(bytes)));
    let origin = format!("example.com/log/{LEDGER}");
    let checkpoint = Checkpoint::new(&origin, tree.size(), tree.root()).unwrap();
    SignedCheckpoint::sign(checkpoint, &[signer]).unwrap()
}

fn bundle_of(all: &[Vec<u8>], selection: Selection, redacted: bool) -> Bundle {
    let hashes: Vec<Hash> = all.iter().map(|bytes| leaf_hash(bytes)).collect();
    let read = |bytes: &Vec<u8>| (Entry::from_bytes(bytes).unwrap(), bytes.clone());
    let taken: Vec<_> = all
        .iter()
        .map(read)
        .filter(|(entry, _)| selection.takes(entry))
        .collect();
    let leaves: Vec<u64> = taken.iter().map(|(entry, _)| entry.seq - 1).collect();
    let runs: Vec<_> = leaves.iter().map(|leaf| *leaf..leaf + 1).collect();
    let recipe = multiproof::recipe(&runs, SIZE).unwrap();
    let proof = recipe.build(|_, at| hashes.get(usize::try_from(at).unwrap()).copied());
    let payloads = taken
        .iter()
        .filter(|_| !redacted)
        .map(|(entry, _)| (entry.seq, salted(entry.seq)));
    let payloads = payloads.collect();
    let entries = taken.iter().map(|(_, bytes)| bytes.clone()).collect();
    let signer = signer();
    let files = taken
        .iter()
        .map(|(entry, _)| schema_file(&entry.event_type, entry.schema));
    let mut known = schemas();
    Bundle {
        ledger: LEDGER,
        selection,
        redacted,
        checkpoint: checkpoint(all, &signer),
        keys: vec![signer.verifier_key()],
        entries,
        payloads,
        proof: proof.unwrap(),
        guides: guides(),
        schemas: files.filter_map(|file| known.remove_entry(&file)).collect(),
    }
}

/// A source that gives what it is asked for, and keeps count of how much that is at once.
struct Counted<'b>(&'b [u8], std::cell::Cell<usize>);

impl Source for Counted<'_> {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), String> {
        self.1.set(self.1.get().max(buffer.len()));
        self.0.read(at, buffer)
    }
}

/// A medium that fails.
#[derive(Debug)]
struct Broken;

impl Source for Broken {
    fn length(&self) -> u64 {
        1_000
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), String> {
        Err("the disk is gone".to_owned())
    }
}

/// A line may end anywhere in what is read at once, and a medium that fails is not taken for a forgery.
#[test]
fn entries_and_payloads_are_read_in_pieces() {
    let long = |seq: u64, length: usize| payload_line(seq, &vec![7; length]).unwrap();
    for lengths in [
        [0, 1, 70_000],
        [49_000, 49_140, 49_141],
        [200_000, 3, 65_536],
    ] {
        let bytes: Vec<u8> = (1..)
            .zip(lengths)
            .flat_map(|(seq, length)| long(seq, length))
            .collect();
        let source = Counted(&bytes, std::cell::Cell::new(0));
        let file = Found {
            name: PAYLOADS.to_owned(),
            at: 0,
            size: bytes.len() as u64,
            sha256: Hash::of(&bytes),
        };
        let mut payloads = Payloads(Lines::of(&source, PAYLOADS, &file));
        for (seq, length) in (1..).zip(lengths) {
            assert_eq!(
                payloads.next_payload().unwrap(),
                Some((seq, vec![7; length]))
            );
        }
        assert_eq!(payloads.next_payload().unwrap(), None);
        assert!(source.1.get() <= 1 << 16);
        let cut = Found {
            size: file.size - 1,
            ..file
        };
        let mut payloads = Payloads(Lines::of(&source, PAYLOADS, &cut));
        while let Ok(Some(_)) = payloads.next_payload() {}
        assert!(payloads.next_payload().is_err());
    }
    let failed = Opened::open(&Broken).unwrap_err();
    assert!(
        matches!(failed, BundleError::Archive(ArchiveError::Read(_))),
        "{failed:?}"
    );
}

fn range(from: u64, to: u64) -> Selection {
    Selection {
        from: Some(from),
        to: Some(to),
        ..Selection::default()
    }
}

fn selections() -> Vec<Selection> {
    vec![
        Selection::default(),
        range(5, 9),
        range(20, 20),
        Selection {
            types: vec!["run.finished".parse().unwrap()],
            ..Selection::default()
        },
        Selection {
            subject: Some(Subject::new("note", Uuid::from_u128(1)).unwrap()),
            as_of: Some(Timestamp::from_micros(15).unwrap()),
            ..Selection::default()
        },
    ]
}

#[test]
fn a_bundle_of_any_selection_is_read_back_and_sound() {
    let all = chain();
    let policy = Policy::of_log([signer().verifier_key()]);
    for selection in selections() {
        for redacted in [false, true] {
            let bundle = bundle_of(&all, selection.clone(), redacted);
            let bytes = bundle.pack().unwrap();
            assert_eq!(bytes, bundle.pack().unwrap());
            let read = Bundle::unpack(&bytes).unwrap();
            assert_eq!(read, bundle);
            assert_eq!(read.own_policy().unwrap(), policy);
            let sound = read.verify(&policy).unwrap();
            assert_eq!(sound.complete.is_some(), selection.is_range());
            assert_eq!(sound.accepted.logs.len(), 1);
            let said = sound.unchecked.join("; ");
            assert_eq!(said.contains("redacted"), redacted, "{said}");
            assert_eq!(
                said.contains("other entries"),
                !selection.is_range(),
                "{said}"
            );
            assert_eq!(read.payloads.is_empty(), redacted);
        }
    }
    let some = bundle_of(&all, range(5, 9), false)
        .verify(&policy)
        .unwrap()
        .complete;
    assert_eq!(some, Some((5, 9)));
    let to_the_end = bundle_of(&all, range(15, 99), false)
        .verify(&policy)
        .unwrap()
        .complete;
    assert_eq!(to_the_end, Some((15, 20)));
}

#[test]
fn no_changed_byte_leaves_a_bundle_sound() {
    let bundle = bundle_of(&chain(), range(5, 9), false);
    let bytes = bundle.pack().unwrap();
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1 << (at % 8);
        let read = Bundle::unpack(&other);
        assert!(read.is_err(), "byte {at}");
    }
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(Bundle::unpack(&bytes[..cut]).is_err());
    }
}

type Change<'a> = &'a dyn Fn(&mut Bundle);

/// A forger who writes the digests anew.
#[test]
fn changed_content_is_named_although_the_archive_is_whole() {
    let all = chain();
    let policy = Policy::of_log([signer().verifier_key()]);
    let sound = bundle_of(&all, range(5, 9), false);
    let refused = |change: Change<'_>, expected: &str| {
        let mut forged = sound.clone();
        change(&mut forged);
        let bytes = forged.pack().unwrap();
        let error = match Bundle::unpack(&bytes) {
            Err(error) => error,
            Ok(read) => read.verify(&policy).expect_err(expected),
        };
        assert_eq!(error.to_string(), expected);
    };
    let edit = |bytes: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    };
    let proof = "find the entries in the checkpoint's tree";
    let trust = "trust the bundle's checkpoint";
    let cases: [(&str, Change<'_>); 14] = [
        (proof, &|b| {
            b.entries[0] = edit(&b.entries[0], "run.finished", "run.refinished");
        }),
        (proof, &|b| {
            b.entries[1] = edit(&b.entries[1], "system", "worker:a");
        }),
        (proof, &|b| drop(b.entries.remove(2))),
        ("seq 10: not one that was asked for", &|b| {
            b.entries.extend([all[9].clone()]);
        }),
        (proof, &|b| b.proof[0] = Hash::ZERO),
        (proof, &|b| b.proof.push(Hash::ZERO)),
        ("seq 10: missing from the range that was asked for", &|b| {
            b.selection = range(5, 10);
        }),
        ("seq 5: not one that was asked for", &|b| {
            b.selection = range(6, 9);
        }),
        ("seq 5: out of order", &|b| b.entries.swap(0, 1)),
        ("read the entry in line 1", &|b| {
            b.entries[0].insert(0, b' ');
        }),
        ("seq 7: payload does not match its commitment", &|b| {
            b.payloads.get_mut(&7).unwrap()[35] ^= 1;
        }),
        ("seq 11: a payload without its entry", &|b| {
            b.payloads.insert(11, salted(11));
        }),
        (
            "payloads.ndjson in the bundle is missing, foreign, or not as it was written",
            &|b| b.redacted = true,
        ),
        (trust, &|b| {
            let thief = NoteSigner::new(&format!("example.com/log/{LEDGER}"), &[2; 32]).unwrap();
            b.checkpoint = checkpoint(&all, &thief);
            b.keys = vec![thief.verifier_key()];
        }),
    ];
    for (expected, change) in cases {
        refused(change, expected);
    }
    refused(
        &|b| b.ledger = LedgerId::new(Uuid::from_u128(1)),
        "seq 5: of another ledger than the bundle",
    );
}

/// Whoever rewrites everything needs the log's key; without a key from elsewhere that cannot be seen, and is said.
#[test]
fn a_forgery_that_signs_for_itself_is_only_as_good_as_its_key() {
    let all = chain();
    let mut forged = bundle_of(&all, range(5, 9), false);
    let thief = NoteSigner::new(&format!("example.com/log/{LEDGER}"), &[2; 32]).unwrap();
    forged.checkpoint = checkpoint(&all, &thief);
    forged.keys = vec![thief.verifier_key()];
    assert!(forged.verify(&forged.own_policy().unwrap()).is_ok());
    assert!(
        forged
            .verify(&Policy::of_log([signer().verifier_key()]))
            .is_err()
    );
    forged.keys = vec![Cosigner::new("w", &[3; 32]).unwrap().verifier_key()];
    assert!(matches!(forged.own_policy(), Err(BundleError::NoKey)));
}

#[test]
fn guides_and_schemas_of_another_program_are_named() {
    let mut bundle = bundle_of(&chain(), Selection::default(), false);
    assert_eq!(
        bundle.schemas.keys().collect::<Vec<_>>(),
        [
            "schemas/ledger.created.1.json",
            "schemas/run.finished.1.json"
        ]
    );
    let policy = bundle.own_policy().unwrap();
    assert!(bundle.verify(&policy).unwrap().unchecked.is_empty());
    bundle
        .guides
        .insert("README.md".to_owned(), b"Trust me.\n".to_vec());
    bundle
        .schemas
        .insert("schemas/note.added.1.json".to_owned(), b"{}".to_vec());
    let read = Bundle::unpack(&bundle.pack().unwrap()).unwrap();
    let other = "not as this program would write it";
    assert_eq!(
        read.verify(&policy).unwrap().unchecked,
        [
            format!("README.md: {other}"),
            format!("schemas/note.added.1.json: {other}")
        ]
    );
}

#[test]
fn a_witness_of_the_policy_must_have_cosigned() {
    let mut bundle = bundle_of(&chain(), range(5, 9), false);
    let witness = Cosigner::new("w.example.com", &[3; 32]).unwrap();
    let text = format!(
        "log {}\nwitness W {}\nquorum W\n",
        signer().verifier_key(),
        witness.verifier_key()
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert!(matches!(bundle.verify(&policy), Err(BundleError::Unmet(_))));
    let line = witness.cosign(bundle.checkpoint.note().text(), 77);
    bundle.checkpoint.add(line).unwrap();
    let read = Bundle::unpack(&bundle.pack().unwrap()).unwrap();
    assert_eq!(read.verify(&policy).unwrap().accepted.witnesses[0].time, 77);
}

/// The programs in the bundle are short enough to be read before they are run.
#[test]
fn the_programs_in_a_bundle_have_thirty_lines() {
    for (name, text) in GUIDES {
        let lines = text.lines().count();
        assert!(
            lines <= 30 || name == "README.md",
            "{name} has {lines} lines"
        );
    }
}
