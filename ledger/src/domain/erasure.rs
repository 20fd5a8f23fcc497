//! Payloads about erasure, legal holds and retention. All are kept in plain, for ever: who reads the log without keys has
//! to see what went, by whose word and why. So their texts name cases and paragraphs, never persons.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::custody::State;
use super::hash::Hash;
use super::id::{Actor, EntryId, Subject, Timestamp};

/// Distinct persons who have to approve an erasure. Two, so that at least one of them did not ask for it.
pub const APPROVERS_MIN: usize = 2;

/// `erasure.requested`: somebody asks for everything about an owner to be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureRequested {
    /// Whose data: the owner, with all it owns.
    pub owner: Subject,
    /// Why; names a case, no person.
    pub reason: String,
    /// By which law or contract.
    pub legal_basis: String,
    /// Payloads that would go, as of the request.
    pub payloads: u64,
    /// Subjects that the owner owns, itself included, as of the request.
    pub subjects: u64,
    /// Why it may be done against a hold, a retention or an alteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
    /// Until when copies of the key-encryption key may exist outside its home, by the requester's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies_until: Option<Timestamp>,
}

/// `erasure.approved`: a person approved exactly this request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureApproved {
    /// Entry of the request.
    pub request: EntryId,
    /// Hash of that entry, which is what the person named.
    pub request_hash: Hash,
    /// From then on it counts no more.
    pub expires_at: Timestamp,
    /// `asserted`: the name was given. `signed`: with the person's own key.
    pub assurance: String,
}

/// `subject.erased`: the owner's data key, payloads and identities were destroyed in the transaction that wrote this entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectErased {
    /// Entry of the request.
    pub request: EntryId,
    /// Who asked.
    pub requested_by: Actor,
    /// Who approved.
    pub approved_by: Vec<Actor>,
    /// By which law or contract.
    pub legal_basis: String,
    /// The data key that was destroyed.
    pub key_id: String,
    /// Payloads that were destroyed.
    pub payloads: u64,
    /// Identity rows that were destroyed.
    pub identities: u64,
    /// Their entries, as pairs of first and last number.
    pub ranges: Ranges,
    /// Digest of what was stored, computed from the rows as they were destroyed; see `chain::erasure`.
    pub stored: Hash,
    /// Entries among them whose row was not what had been stored: altered before, and so never to be taken for intact.
    pub altered: Ranges,
    /// The ledger's new index key.
    pub index_key: String,
    /// Key-encryption key that wraps what remains.
    pub kek: String,
    /// The one before, which has to be destroyed wherever it is kept.
    pub kek_before: String,
    /// Counts the key-encryption keys of this ledger; the first is 1.
    pub epoch: u64,
    /// Where each of the owner's items stood, since their entries cannot tell it any more.
    #[schemars(with = "BTreeMap<String, String>")]
    pub items: BTreeMap<Subject, State>,
    /// Copies that left the ledger and have to be called back.
    pub copies: Vec<CopyMade>,
    /// Why it was done against a hold, a retention or an alteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
    /// Until when copies of the old key-encryption key may exist, by the requester's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies_until: Option<Timestamp>,
}

/// An export or report that holds what was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyMade {
    /// Entry that says so.
    pub seq: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// SHA-256 of the file, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Hash>,
}

/// `keys.rewrapped`: every data key of this ledger is wrapped by another key-encryption key from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeysRewrapped {
    /// The key-encryption key from here on.
    pub kek: String,
    /// The one before.
    pub kek_before: String,
    /// How many data keys.
    pub keys: u64,
    /// The ledger whose erasure made it necessary.
    pub because_of: Subject,
}

/// `kek.destroyed`: a key-encryption key is gone from where it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KekDestroyed {
    /// Its id.
    pub kek: String,
    /// The erasure that made it necessary.
    pub erasure: EntryId,
    /// `file`: this program overwrote and removed it. `asserted`: an operator has replaced it.
    pub how: String,
}

/// `legal_hold.placed`: nothing about the entry's subject (the ledger: nothing at all) may be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegalHoldPlaced {
    /// Why; names a case, no person.
    pub reason: String,
}

/// `legal_hold.lifted`: a hold is over. The entry's cause is the entry that placed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegalHoldLifted {
    /// Entry of the hold.
    pub hold: EntryId,
    /// Why.
    pub reason: String,
}

/// `retention.set`: what is about subjects of a kind is kept at least until a time; the last one of a kind counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionSet {
    /// Kind of the subjects, `calendar-event`.
    pub kind: String,
    /// Until when.
    pub until: Timestamp,
    /// Why; the window in which a deletion can be undone, say.
    pub reason: String,
}

/// `subject.exported`: everything held on an owner was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectExported {
    /// Whose data.
    pub owner: Subject,
    /// Where to: a file's name, or `standard output`.
    pub to: String,
    /// Entries in it.
    pub entries: u64,
    /// SHA-256 of the document.
    pub sha256: Hash,
}

/// Entry numbers as ranges, each a pair of its first and last; in order, apart, and none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<(u64, u64)>);

/// Pairs of numbers that are not ranges in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ranges of entries must be in order, apart and not empty")]
pub struct RangesError;

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = RangesError;
    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, RangesError> {
        let sound = pairs.iter().all(|(from, to)| 0 < *from && from <= to)
            && pairs
                .windows(2)
                .all(|pair| matches!(pair, [(_, to), (from, _)] if to.saturating_add(1) < *from));
        if sound {
            Ok(Self(pairs))
        } else {
            Err(RangesError)
        }
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0
    }
}

impl Ranges {
    /// Adds a number beyond all that are in it. One that is not beyond them is left out.
    pub fn push(&mut self, seq: u64) {
        match self.0.last_mut() {
            Some((_, to)) if seq == *to + 1 => *to = seq,
            Some((_, to)) if seq <= *to => {}
            _ => self.0.push((seq, seq)),
        }
    }

    /// Whether the number is in it.
    pub fn contains(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= seq);
        after > 0 && self.0[after - 1].1 >= seq
    }

    /// Whether a number from `first` to `last` is in it.
    pub fn meets(&self, first: u64, last: u64) -> bool {
        let after = self.0.partition_point(|(_, to)| *to < first);
        self.0.get(after).is_some_and(|(from, _)| *from <= last)
    }

    /// How many numbers are in it.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each number.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(from, to)| *from..=*to)
    }

    /// First and last of each range.
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }
}

impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, (from, to)) in self.0.iter().enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from}-{to}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_was_put_in_and_have_one_text() {
        let mut ranges = Ranges::default();
        for seq in [3, 4, 5, 5, 9, 11, 12, 2] {
            ranges.push(seq);
        }
        assert_eq!(ranges.to_string(), "3-5, 9, 11-12");
        assert_eq!(ranges.count(), 6);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [3, 4, 5, 9, 11, 12]);
        for seq in 0..20 {
            assert_eq!(
                ranges.contains(seq),
                ranges.iter().any(|n| n == seq),
                "{seq}"
            );
            for last in seq..20 {
                let meets = ranges.iter().any(|n| (seq..=last).contains(&n));
                assert_eq!(ranges.meets(seq, last), meets, "{seq} {last}");
            }
        }
        let text = serde_json::to_string(&ranges).unwrap();
        assert_eq!(text, "[[3,5],[9,9],[11,12]]");
        assert_eq!(serde_json::from_str::<Ranges>(&text).unwrap(), ranges);
    }

    #[test]
    fn pairs_that_overlap_touch_or_go_back_are_no_ranges() {
        for bad in [
            "[[5,3]]",
            "[[0,3]]",
            "[[1,3],[3,4]]",
            "[[1,3],[4,5]]",
            "[[7,8],[1,2]]",
        ] {
            assert!(serde_json::from_str::<Ranges>(bad).is_err(), "{bad}");
        }
        assert!(
            serde_json::from_str::<Ranges>("[[18446744073709551615,18446744073709551615]]").is_ok()
        );
    }
}
