use proptest::prelude::*;

use super::*;
use crate::chain::entry::{FORMAT, SALT_BYTES, commitment, stored};
use crate::domain::id::Actor;

#[derive(Clone, Debug)]
struct Row {
    seq: i64,
    id: Uuid,
    key: String,
    event_type: String,
    subject: String,
    run: Option<Uuid>,
    recorded_at: i64,
    hash: Vec<u8>,
    bytes: Vec<u8>,
    payload: Option<Vec<u8>>,
}

impl Row {
    fn of(entry: &Entry, payload: Vec<u8>) -> Self {
        Self {
            seq: i64::try_from(entry.seq).unwrap(),
            id: entry.id.uuid(),
            key: entry.key.to_string(),
            event_type: entry.event_type.to_string(),
            subject: entry.subject.to_string(),
            run: None,
            recorded_at: entry.recorded_at.micros(),
            hash: entry.hash().0.to_vec(),
            bytes: entry.to_bytes(),
            payload: Some(payload),
        }
    }

    fn entry(&self) -> Entry {
        Entry::from_bytes(&self.bytes).unwrap()
    }
}

const LEDGER: LedgerId = LedgerId::new(Uuid::from_u128(1));

fn chain(size: u64) -> (Vec<Row>, Head) {
    let mut prev = Hash::ZERO;
    let mut rows = Vec::new();
    for seq in 1..=size {
        let payload = [&[9; SALT_BYTES][..], format!("{{\"n\":{seq}}}").as_bytes()].concat();
        let id = crate::domain::id::EntryId::new(Uuid::from_u128(1000 + u128::from(seq)));
        let event_type = if seq == 1 {
            "ledger.created"
        } else {
            "item.found"
        };
        let entry = Entry {
            actor: Actor::system(),
            cause: None,
            commitment: commitment(&[9; SALT_BYTES], &payload[SALT_BYTES..]),
            id,
            key: id.to_string().parse().unwrap(),
            ledger: LEDGER,
            occurred_at: Timestamp::from_micros(5).unwrap(),
            prev,
            recorded_at: Timestamp::from_micros(1_000_000 + i64::try_from(seq / 3).unwrap())
                .unwrap(),
            run: None,
            schema: 1,
            seq,
            stored: stored(PLAIN, "", &[], &payload),
            subject: "item:00000000-0000-4000-8000-000000000001".parse().unwrap(),
            event_type: event_type.parse().unwrap(),
            v: FORMAT,
        };
        prev = entry.hash();
        rows.push(Row::of(&entry, payload));
    }
    let recorded_at = rows.last().map(|row| row.recorded_at);
    (
        rows,
        Head {
            size,
            hash: prev,
            recorded_at,
        },
    )
}

fn verify(mut rows: Vec<Row>, head: Head) -> Vec<Broken> {
    rows.sort_by_key(|row| row.seq);
    let mut verifier = Verifier::new(LEDGER, head);
    for row in &rows {
        let payload = row.payload.as_ref().map(|bytes| {
            let row = StoredPayload {
                algorithm: PLAIN,
                key_id: "",
                nonce: &[],
                bytes,
            };
            ReadPayload {
                digest: row.digest(),
                row,
                opened: Opened::NoKey,
            }
        });
        verifier.row(
            &StoredEntry {
                seq: row.seq,
                id: row.id,
                key: &row.key,
                event_type: &row.event_type,
                subject: &row.subject,
                run: row.run,
                recorded_at: row.recorded_at,
                hash: &row.hash,
                bytes: &row.bytes,
            },
            ReadBytes::of(&row.bytes),
            payload.as_ref(),
        );
    }
    let mut findings = verifier.finish();
    findings.settle_missing(|_| false);
    assert_eq!(findings.broken().count() as u64, findings.broken_count());
    findings.broken().collect()
}

/// One edit of the row of an entry.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Seq(i64),
    Id,
    Key,
    Type,
    Subject,
    Run,
    RecordedAt,
    Hash,
    Bytes,
    BytesAndHash,
    PrevAndHash,
    Everything,
    Garbage,
    Payload,
    PayloadGone,
    Remove,
}

fn apply(rows: &mut Vec<Row>, at: usize, edit: Edit) {
    let row = &mut rows[at];
    let rewrite = |row: &mut Row, change: &dyn Fn(&mut Entry)| {
        let mut entry = row.entry();
        change(&mut entry);
        row.bytes = entry.to_bytes();
        entry.hash().0.to_vec()
    };
    let actor = |entry: &mut Entry| entry.actor = "person:mallory".parse().unwrap();
    match edit {
        Edit::Seq(to) => row.seq = to,
        Edit::Id => row.id = Uuid::from_u128(77),
        Edit::Key => row.key.push('x'),
        Edit::Type => row.event_type = "item.deleted".into(),
        Edit::Subject => row.subject = "item:00000000-0000-4000-8000-000000000002".into(),
        Edit::Run => row.run = Some(Uuid::from_u128(3)),
        Edit::RecordedAt => row.recorded_at += 1,
        Edit::Hash => row.hash[3] ^= 1,
        Edit::Bytes => drop(rewrite(row, &actor)),
        Edit::BytesAndHash => row.hash = rewrite(row, &actor),
        Edit::PrevAndHash => row.hash = rewrite(row, &|entry| entry.prev = Hash([5; 32])),
        Edit::Everything => {
            row.hash = rewrite(row, &|entry| {
                entry.subject = "item:00000000-0000-4000-8000-000000000002".parse().unwrap();
            });
            row.subject = row.entry().subject.to_string();
        }
        Edit::Garbage => row.bytes = vec![0xff, 0],
        Edit::Payload => row.payload.as_mut().unwrap()[35] ^= 1,
        Edit::PayloadGone => row.payload = None,
        Edit::Remove => drop(rows.remove(at)),
    }
}

const EDITS: [Edit; 18] = [
    Edit::Seq(0),
    Edit::Seq(-4),
    Edit::Seq(1_000_000_000_000),
    Edit::Id,
    Edit::Key,
    Edit::Type,
    Edit::Subject,
    Edit::Run,
    Edit::RecordedAt,
    Edit::Hash,
    Edit::Bytes,
    Edit::BytesAndHash,
    Edit::PrevAndHash,
    Edit::Everything,
    Edit::Garbage,
    Edit::Payload,
    Edit::PayloadGone,
    Edit::Remove,
];

#[test]
fn one_edit_names_one_entry_and_it_is_the_edited_one() {
    for size in [2, 3, 9] {
        let (rows, head) = chain(size);
        assert_eq!(
            verify(rows.clone(), head),
            [],
            "a healthy ledger is never accused"
        );
        for at in 1..rows.len() {
            for edit in EDITS {
                let mut edited = rows.clone();
                apply(&mut edited, at, edit);
                let named: Vec<u64> = verify(edited, head).iter().map(|b| b.seq).collect();
                assert_eq!(named, [at as u64 + 1], "size {size}, {edit:?}");
            }
        }
    }
}

#[test]
fn the_first_entry_is_named_too() {
    let (rows, head) = chain(5);
    for edit in EDITS {
        let mut edited = rows.clone();
        apply(&mut edited, 0, edit);
        let named: Vec<u64> = verify(edited, head).iter().map(|b| b.seq).collect();
        assert_eq!(named, [1], "{edit:?}");
    }
}

#[test]
fn swapped_entries_are_both_named() {
    let (mut rows, head) = chain(9);
    (rows[3].seq, rows[6].seq) = (rows[6].seq, rows[3].seq);
    let named: Vec<u64> = verify(rows, head).iter().map(|b| b.seq).collect();
    assert_eq!(named, [4, 7]);
}

#[test]
fn an_entry_that_was_not_appended_is_named() {
    let (rows, _) = chain(9);
    let (_, head) = chain(8);
    assert_eq!(
        verify(rows, head),
        [Broken {
            seq: 9,
            how: How::BeyondHead
        }]
    );
}

#[test]
fn edits_of_the_head_are_named_once() {
    let (rows, head) = chain(9);
    let edits = [
        Head { size: 7, ..head },
        Head {
            hash: Hash([1; 32]),
            ..head
        },
        Head {
            recorded_at: Some(3),
            ..head
        },
        Head { size: 10, ..head },
    ];
    for edited in edits {
        let broken = verify(rows.clone(), edited);
        assert_eq!(broken.len(), 1, "{edited:?}: {broken:?}");
    }
}

#[test]
fn a_huge_gap_is_counted_and_not_walked() {
    let (rows, head) = chain(3);
    let mut verifier = Verifier::new(
        LEDGER,
        Head {
            size: 1 << 50,
            ..head
        },
    );
    let row = &rows[0];
    verifier.row(
        &StoredEntry {
            seq: 1,
            id: row.id,
            key: &row.key,
            event_type: &row.event_type,
            subject: &row.subject,
            run: None,
            recorded_at: row.recorded_at,
            hash: &row.hash,
            bytes: &row.bytes,
        },
        ReadBytes::of(&row.bytes),
        None,
    );
    let mut findings = verifier.finish();
    findings.settle_missing(|_| false);
    assert_eq!(findings.broken().count(), LISTED_MAX);
    assert_eq!(
        findings.broken_count(),
        1 << 50,
        "the payload of 1 and all entries behind"
    );
}

proptest! {
    #[test]
    fn two_edits_far_apart_name_two(
        size in 12_u64..30, first in 1_usize..4, apart in 4_usize..7,
        edits in (prop::sample::select(EDITS.to_vec()), prop::sample::select(EDITS.to_vec())),
    ) {
        // The same new number twice would be an edit of its own.
        prop_assume!(!matches!(edits, (Edit::Seq(_), Edit::Seq(_))));
        let (mut rows, head) = chain(size);
        let second = first + apart;
        apply(&mut rows, second, edits.1);
        apply(&mut rows, first, edits.0);
        let named: Vec<u64> = verify(rows, head).iter().map(|b| b.seq).collect();
        prop_assert_eq!(named, vec![first as u64 + 1, second as u64 + 1]);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found(size in 2_u64..9, at in any::<prop::sample::Index>(),
                                       byte in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (mut rows, head) = chain(size);
        let at = at.index(rows.len());
        let byte = byte.index(rows[at].bytes.len());
        rows[at].bytes[byte] ^= 1 << bit;
        let named: Vec<u64> = verify(rows, head).iter().map(|b| b.seq).collect();
        prop_assert_eq!(named, vec![at as u64 + 1]);
    }
}
