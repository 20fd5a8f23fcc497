//! Checks a ledger row by row, in one pass and constant memory, and names what is wrong, and where: one edit, one entry.
//!
//! Three witnesses speak for the content of entry n: its bytes, its hash column, and `prev` in entry n+1 (for the last
//! entry, the head). Whichever of them stands alone is what was edited.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use super::entry::{Entry, EntryError, Hash, PLAIN, commitment_of_salted, leaf_hash, stored};
use crate::domain::erasure::Ranges;
use crate::domain::event::is_plain;
use crate::domain::id::{LedgerId, RunId, Subject, Timestamp};

/// Broken entries that are listed one by one; those beyond are only counted, so that memory stays flat.
pub const LISTED_MAX: usize = 1_000;

/// One row of the log as it lies in the database.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct StoredEntry<'a> {
    pub seq: i64,
    pub id: Uuid,
    pub key: &'a str,
    pub event_type: &'a str,
    pub subject: &'a str,
    pub run: Option<Uuid>,
    /// Microseconds since 1970.
    pub recorded_at: i64,
    pub hash: &'a [u8],
    pub bytes: &'a [u8],
}

/// One row of the payload table.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct StoredPayload<'a> {
    pub algorithm: &'a str,
    pub key_id: &'a str,
    pub nonce: &'a [u8],
    pub bytes: &'a [u8],
}

impl StoredPayload<'_> {
    /// Digest of the row as it lies here, see [`stored`].
    pub fn digest(&self) -> Hash {
        stored(self.algorithm, self.key_id, self.nonce, self.bytes)
    }
}

/// An entry's bytes, read and hashed: the part of the check that needs no other row, and so may run ahead of it.
#[derive(Debug)]
pub struct ReadBytes {
    /// The entry in them.
    pub parsed: Result<Entry, EntryError>,
    /// Their [`leaf_hash`].
    pub hash: Hash,
}

impl ReadBytes {
    /// Reads and hashes the bytes of a row.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            parsed: Entry::from_bytes(bytes),
            hash: leaf_hash(bytes),
        }
    }
}

/// A payload row with what was found out about it.
#[derive(Debug)]
pub struct ReadPayload<'a> {
    /// The row.
    pub row: StoredPayload<'a>,
    /// Its [`StoredPayload::digest`].
    pub digest: Hash,
    /// What became of opening it; of a plain one, anything.
    pub opened: Opened,
}

/// What became of opening a sealed payload.
#[derive(Debug)]
pub enum Opened {
    /// Salt ‖ payload.
    Salted(Vec<u8>),
    /// The key that wraps the owner's key is not here; the commitment stays unchecked.
    NoKey,
    /// The owner's key is here and does not open the payload, or is itself damaged.
    Refused(String),
}

/// How an entry is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// No row of this number, though the chain goes on behind it or the head counts it.
    Missing,
    /// A second row of this number.
    Repeated,
    /// A row behind the head: it never came through `ledger.append`.
    BeyondHead,
    /// The bytes are not a canonical entry.
    Unreadable(String),
    /// The bytes are those of another place or ledger.
    Misplaced(String),
    /// Bytes or hash were edited: they no longer belong together.
    HashMismatch,
    /// Bytes and hash agree with each other, and the next entry links to something else.
    Rewritten,
    /// A column differs from the hashed bytes.
    ColumnAltered(&'static str),
    /// Recorded before the entry in front of it.
    TimeReversed,
    /// No payload row, and no entry says that it was erased.
    PayloadMissing,
    /// The payload row is not what was stored.
    PayloadAltered,
    /// It was erased, and the entry of that number says that it had been altered before.
    ErasedAltered(u64),
    /// It stands there although the entry of that number says that it was erased.
    NotErased(u64),
    /// The entry says that something was erased, and what it says does not hold.
    ErasureUnfounded(String),
    /// The payload is sealed although its type is kept in plain, so that nobody can check what it says of the proof.
    NotInPlain,
    /// The payload opens and is not what was committed to.
    CommitmentBroken,
    /// The payload cannot be opened although its bytes are as stored.
    KeyAltered(String),
    /// The head row does not describe this last entry.
    HeadAltered(String),
    /// The ledger does not hold what a saved head or receipt says.
    NotAsAnchored(String),
    /// A payload row whose entry does not exist.
    PayloadOrphan,
    /// The row that ties the subject to its natural id is not the one that the log knows.
    IdentityAltered(String),
    /// A stored node of the tree, whose last entry this is, is not what the entries make.
    NodeAltered(String),
    /// A stored checkpoint of this size is not what was signed, or not what the entries make.
    CheckpointAltered(String),
    /// A witness's signature on the checkpoint of this size is not what it gave.
    CosignatureAltered(String),
    /// An entry about the checkpoints' keys or about a restore that no key of the ledger signed.
    Unsigned(String),
}

impl How {
    /// Whether the entry's hash can no longer be told, so that what is computed from it proves nothing either way.
    pub fn unsettles_hash(&self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::Repeated
                | Self::Unreadable(_)
                | Self::Misplaced(_)
                | Self::HashMismatch
                | Self::Rewritten
        )
    }

    fn displaced(row: i64) -> Self {
        Self::Misplaced(format!("its row says number {row}"))
    }

    fn unreadable(error: &EntryError) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        Self::Unreadable(format!("{error}{}", cause.unwrap_or_default()))
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("entry is missing"),
            Self::Repeated => f.write_str("a second entry of this number"),
            Self::BeyondHead => f.write_str("entry stands behind the head: it was not appended"),
            Self::Unreadable(why) => write!(f, "bytes are not an entry: {why}"),
            Self::Misplaced(why) => write!(f, "entry is in the wrong place: {why}"),
            Self::HashMismatch => f.write_str("bytes do not match their hash"),
            Self::Rewritten => f.write_str("entry was rewritten: the next link is to another hash"),
            Self::ColumnAltered(column) => write!(f, "column {column} differs from the entry"),
            Self::TimeReversed => f.write_str("recorded before the entry in front of it"),
            Self::PayloadMissing => f.write_str("payload is gone and no entry says it was erased"),
            Self::PayloadAltered => f.write_str("payload is not what was stored"),
            Self::ErasedAltered(seq) => {
                write!(
                    f,
                    "payload was altered before it was erased, as entry {seq} says"
                )
            }
            Self::NotErased(seq) => {
                write!(
                    f,
                    "payload is there although entry {seq} says that it was erased"
                )
            }
            Self::ErasureUnfounded(why) => write!(f, "erasure is not founded: {why}"),
            Self::NotInPlain => f.write_str("payload is sealed, and its type is kept in plain"),
            Self::CommitmentBroken => f.write_str("payload does not match its commitment"),
            Self::KeyAltered(why) => write!(f, "payload's key is altered: {why}"),
            Self::HeadAltered(why) => write!(f, "head does not match the last entry: {why}"),
            Self::NotAsAnchored(why) => f.write_str(why),
            Self::PayloadOrphan => f.write_str("a payload without its entry"),
            Self::IdentityAltered(why) => write!(f, "identity of the subject is altered: {why}"),
            Self::NodeAltered(why) => write!(f, "tree is altered: {why}"),
            Self::CheckpointAltered(why) => write!(f, "checkpoint is altered: {why}"),
            Self::CosignatureAltered(why) => write!(f, "cosignature is altered: {why}"),
            Self::Unsigned(why) => write!(f, "not signed: {why}"),
        }
    }
}

/// One broken entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub how: How,
}

/// Head of the ledger as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Hash of the last one.
    pub hash: Hash,
    /// When it was recorded, in microseconds since 1970; `None` while there is none.
    pub recorded_at: Option<i64>,
}

/// What a pass found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    broken: BTreeMap<u64, How>,
    unlisted: u64,
    /// Payloads whose commitment could not be checked for want of a key.
    pub sealed_unchecked: u64,
    /// Entries seen.
    pub entries: u64,
    /// Sound entries without a payload row, until it is known which of them were erased.
    missing: Ranges,
}

impl Findings {
    /// Names one broken entry; an entry is named once, by what was found first.
    pub fn name(&mut self, seq: u64, how: How) {
        if self.broken.contains_key(&seq) {
            return;
        }
        if self.broken.len() < LISTED_MAX {
            self.broken.insert(seq, how);
        } else {
            self.unlisted += 1;
        }
    }

    /// Names an entry for this, also where something was found with it before that this explains.
    pub fn name_rather(&mut self, seq: u64, how: How) {
        match self.broken.get_mut(&seq) {
            Some(named) => *named = how,
            None => self.name(seq, how),
        }
    }

    fn name_missing(&mut self, from: u64, to: u64, displaced: &BTreeMap<u64, i64>) {
        for seq in from..=to {
            if self.broken.len() >= LISTED_MAX {
                self.unlisted += to - seq + 1;
                return;
            }
            self.name(
                seq,
                displaced
                    .get(&seq)
                    .map_or(How::Missing, |row| How::displaced(*row)),
            );
        }
    }

    /// Names the payloads that are missing and that no erasure accounts for, and counts those that one does.
    pub fn settle_missing(&mut self, is_erased: impl Fn(u64) -> bool) -> u64 {
        let missing = std::mem::take(&mut self.missing);
        let mut erased = 0;
        for seq in missing.iter() {
            if is_erased(seq) {
                erased += 1;
            } else {
                self.name(seq, How::PayloadMissing);
            }
        }
        erased
    }

    /// The first [`LISTED_MAX`] broken entries that were found, in order of their number.
    pub fn broken(&self) -> impl Iterator<Item = Broken> + '_ {
        self.broken.iter().map(|(seq, how)| Broken {
            seq: *seq,
            how: how.clone(),
        })
    }

    /// All broken entries, listed or not.
    pub fn broken_count(&self) -> u64 {
        self.broken.len() as u64 + self.unlisted
    }

    /// How the entry of this number is broken, if it is listed.
    pub fn how(&self, seq: u64) -> Option<&How> {
        self.broken.get(&seq)
    }
}

/// A row as the next one, or the head, will look back at it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    seq: u64,
    hash: Hash,
    computed: Hash,
    named: bool,
    recorded_at: Option<Timestamp>,
    /// Its own `prev` does not match the row in front, and neither is otherwise at fault.
    link_in_doubt: bool,
}

/// The pass over one ledger. Feed every row in order of `seq`, then [`Verifier::finish`].
#[derive(Debug)]
pub struct Verifier {
    ledger: LedgerId,
    head: Head,
    previous: Option<Seen>,
    at_head: Option<Seen>,
    /// Sound rows behind the head: either they or the head are wrong, which the last of them shows.
    beyond: Vec<u64>,
    /// Rows whose number was changed, by the number in their bytes.
    displaced: BTreeMap<u64, i64>,
    findings: Findings,
    last_seen: u64,
}

impl Verifier {
    /// Starts before entry 1.
    pub fn new(ledger: LedgerId, head: Head) -> Self {
        Self {
            ledger,
            head,
            previous: None,
            at_head: None,
            beyond: Vec::new(),
            displaced: BTreeMap::new(),
            findings: Findings::default(),
            last_seen: 0,
        }
    }

    /// Starts behind an entry that is known to be what it was: its number, hash and time of recording.
    pub fn after(
        ledger: LedgerId,
        head: Head,
        seq: u64,
        hash: Hash,
        recorded_at: Timestamp,
    ) -> Self {
        let seen = Seen {
            seq,
            hash,
            computed: hash,
            named: false,
            recorded_at: Some(recorded_at),
            link_in_doubt: false,
        };
        Self {
            previous: Some(seen),
            at_head: (seq == head.size).then_some(seen),
            last_seen: seq,
            ..Self::new(ledger, head)
        }
    }

    /// Checks one row, whose bytes were read already, with its payload, and returns the entry where it could be read.
    pub fn row(
        &mut self,
        row: &StoredEntry<'_>,
        read: ReadBytes,
        payload: Option<&ReadPayload<'_>>,
    ) -> Option<Entry> {
        let ReadBytes {
            parsed,
            hash: computed,
        } = read;
        self.findings.entries += 1;
        let expected = self.last_seen + 1;
        let seq = match u64::try_from(row.seq) {
            Ok(seq) if seq == expected => seq,
            Ok(seq) if seq > 0 && seq < expected => {
                self.findings.name(seq, How::Repeated);
                return None;
            }
            // A row that left its place leaves a gap there: both are one edit of one entry.
            numbered => match (&parsed, numbered) {
                (Ok(entry), _) if Ok(entry.seq) != numbered => {
                    self.displace(entry.seq, row.seq);
                    return None;
                }
                (_, Ok(seq)) if seq > 0 => {
                    self.settle(true);
                    self.findings
                        .name_missing(expected, seq - 1, &self.displaced);
                    self.previous = None;
                    seq
                }
                _ => {
                    self.findings.name(0, How::displaced(row.seq));
                    return None;
                }
            },
        };
        self.last_seen = seq;

        let hash = Hash::from_slice(row.hash).unwrap_or(Hash::ZERO);
        let link_in_doubt = self.link(parsed.as_ref().ok());
        let fault = match &parsed {
            Err(error) => Some(How::unreadable(error)),
            Ok(entry) => self
                .entry_fault(row, entry, hash == computed)
                // Where the entry itself is sound, its payload may not be.
                .or_else(|| self.payload_fault(entry, payload)),
        };
        let seen = Seen {
            seq,
            hash,
            computed,
            named: fault.is_some(),
            recorded_at: parsed.as_ref().ok().map(|entry| entry.recorded_at),
            link_in_doubt: link_in_doubt && fault.is_none(),
        };
        if let Some(how) = fault {
            self.findings.name(seq, how);
        } else if seq > self.head.size && self.beyond.len() < LISTED_MAX {
            self.beyond.push(seq);
        }
        if seq == self.head.size {
            self.at_head = Some(seen);
        }
        self.previous = Some(seen);
        parsed.ok()
    }

    /// Compares with the head and names what is missing at the end.
    pub fn finish(mut self) -> Findings {
        let head = self.head;
        let last = self.previous;
        let ends_here = |last: &Seen| head.hash == last.hash || head.hash == last.computed;
        if let Some(last) = last.filter(|last| last.seq > head.size) {
            self.settle(true);
            if ends_here(&last) {
                let why = format!("it counts {} entries of {}", head.size, last.seq);
                self.findings.name(last.seq, How::HeadAltered(why));
                return self.findings;
            }
            for seq in std::mem::take(&mut self.beyond) {
                self.findings.name(seq, How::BeyondHead);
            }
        }
        if let Some(last) = last.filter(|last| last.seq < head.size && ends_here(last)) {
            // Nothing is missing: it is the head's count that is wrong.
            self.settle(true);
            let why = format!("it counts {} entries of {}", head.size, last.seq);
            self.findings.name(last.seq, How::HeadAltered(why));
        } else if head.size > self.last_seen {
            self.settle(true);
            self.findings
                .name_missing(self.last_seen + 1, head.size, &self.displaced);
        } else if let Some(seen) = self.at_head {
            self.compare_with_head(seen);
        }
        self.findings
    }

    fn compare_with_head(&mut self, seen: Seen) {
        let linked = self.head.hash == seen.hash || self.head.hash == seen.computed;
        self.settle(linked);
        if seen.named || self.findings.how(seen.seq).is_some() {
            return;
        }
        if !linked {
            let why = "its hash is another".to_owned();
            self.findings.name(seen.seq, How::HeadAltered(why));
        } else if seen.recorded_at.map(Timestamp::micros) != self.head.recorded_at {
            let why = "its time is another".to_owned();
            self.findings.name(seen.seq, How::HeadAltered(why));
        }
    }

    fn displace(&mut self, belongs: u64, found_at: i64) {
        if belongs <= self.last_seen {
            if let Some(how) = self.findings.broken.get_mut(&belongs) {
                if *how == How::Missing {
                    *how = How::displaced(found_at);
                }
            } else {
                self.findings.name(belongs, How::Repeated);
            }
        } else if self.displaced.len() < LISTED_MAX {
            self.displaced.insert(belongs, found_at);
        }
    }

    /// Decides who is to blame for the last link in doubt, once it is known whether what follows vouches for its holder.
    fn settle(&mut self, vouched: bool) {
        let Some(previous) = self
            .previous
            .as_mut()
            .filter(|previous| previous.link_in_doubt)
        else {
            return;
        };
        previous.link_in_doubt = false;
        previous.named |= !vouched;
        let seq = if vouched {
            previous.seq - 1
        } else {
            previous.seq
        };
        self.findings.name(seq, How::Rewritten);
    }

    /// Checks the link to the row in front; true where it fails and neither side is known to be at fault.
    fn link(&mut self, entry: Option<&Entry>) -> bool {
        let (Some(entry), Some(previous)) = (entry, self.previous) else {
            self.settle(true);
            return false;
        };
        let holds = entry.prev == previous.hash || entry.prev == previous.computed;
        let doubted = previous.link_in_doubt;
        self.settle(holds);
        // Two doubtful links around one entry are one edit, of that entry.
        !holds && !previous.named && !doubted
    }

    fn entry_fault(&self, row: &StoredEntry<'_>, entry: &Entry, hashes: bool) -> Option<How> {
        if Ok(entry.seq) != u64::try_from(row.seq) {
            return Some(How::Misplaced(format!(
                "its bytes say number {}",
                entry.seq
            )));
        }
        if entry.ledger != self.ledger {
            return Some(How::Misplaced(format!(
                "its bytes say ledger {}",
                entry.ledger
            )));
        }
        if !hashes {
            return Some(How::HashMismatch);
        }
        let first = entry.prev == Hash::ZERO && entry.event_type.as_str() == "ledger.created";
        if (entry.seq == 1) != first {
            return Some(How::Misplaced(
                "`ledger.created` and it alone is entry 1".to_owned(),
            ));
        }
        if let Some(column) = altered_column(row, entry) {
            return Some(How::ColumnAltered(column));
        }
        let before = self.previous.filter(|previous| !previous.named);
        let reversed = before
            .and_then(|p| p.recorded_at)
            .is_some_and(|time| time > entry.recorded_at);
        reversed.then_some(How::TimeReversed)
    }

    fn payload_fault(&mut self, entry: &Entry, payload: Option<&ReadPayload<'_>>) -> Option<How> {
        let Some(ReadPayload {
            row,
            digest,
            opened,
        }) = payload
        else {
            self.findings.missing.push(entry.seq);
            return None;
        };
        if *digest != entry.stored {
            return Some(How::PayloadAltered);
        }
        if row.algorithm != PLAIN && is_plain(&entry.event_type) {
            return Some(How::NotInPlain);
        }
        let committed = match opened {
            _ if row.algorithm == PLAIN => commitment_of_salted(row.bytes),
            Opened::Salted(salted) => commitment_of_salted(salted),
            Opened::NoKey => {
                self.findings.sealed_unchecked += 1;
                return None;
            }
            Opened::Refused(why) => return Some(How::KeyAltered(why.clone())),
        };
        (committed != Some(entry.commitment)).then_some(How::CommitmentBroken)
    }
}

fn is_text_of(text: &str, subject: &Subject) -> bool {
    let mut uuid = [0; 36];
    let uuid = subject.uuid().as_hyphenated().encode_lower(&mut uuid);
    text.split_once(':') == Some((subject.kind(), uuid))
}

/// The column that no longer repeats what the entry's bytes say.
fn altered_column(row: &StoredEntry<'_>, entry: &Entry) -> Option<&'static str> {
    [
        ("id", row.id == entry.id.uuid()),
        ("key", row.key == entry.key.as_str()),
        ("type", row.event_type == entry.event_type.as_str()),
        ("subject", is_text_of(row.subject, &entry.subject)),
        ("run", row.run == entry.run.map(RunId::uuid)),
        ("recorded_at", row.recorded_at == entry.recorded_at.micros()),
    ]
    .into_iter()
    .find_map(|(column, same)| (!same).then_some(column))
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
