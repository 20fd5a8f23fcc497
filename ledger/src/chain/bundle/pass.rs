//! The checks of a bundle's entries and payloads, in one way through them.

use super::lines::Payloads;
use super::{BundleError, Frame, PAYLOADS, other_form};
use crate::chain::archive::Source;
use crate::chain::entry::{Entry, Hash, commitment_of_salted, leaf_hash};

/// One way through entries and payloads. What is wrong with an entry itself ends it; what is wrong with its place or its payload
/// counts only where the tree holds it, and is kept until then.
pub(super) struct Pass<'b, 's, S: Source + ?Sized> {
    frame: &'b Frame,
    payloads: Payloads<'s, S>,
    payload: Option<(u64, Vec<u8>)>,
    line: usize,
    /// Number and hash of the entry in front.
    last: Option<(u64, Hash)>,
    /// In the range that was asked for, the numbers of its next entry and its last one.
    range: Option<(u64, u64)>,
    /// The first of each kind, in the order in which they are told.
    unlinked: Option<BundleError>,
    not_first: Option<BundleError>,
    missing: Option<BundleError>,
    of_payloads: Option<BundleError>,
}

impl<'b, 's, S: Source + ?Sized> Pass<'b, 's, S> {
    pub(super) fn new(frame: &'b Frame, payloads: Payloads<'s, S>) -> Self {
        Self {
            frame,
            payloads,
            payload: None,
            line: 0,
            last: None,
            range: frame.range(),
            unlinked: None,
            not_first: None,
            missing: None,
            of_payloads: None,
        }
    }

    /// Takes the next entry; its place in the tree and its hash.
    pub(super) fn entry(&mut self, bytes: &[u8]) -> Result<(u64, Hash), BundleError> {
        self.line += 1;
        let line = self.line;
        let entry =
            Entry::from_bytes(bytes).map_err(|source| BundleError::Entry { line, source })?;
        let seq = entry.seq;
        let misplaced = |why| BundleError::Misplaced { seq, why };
        if entry.ledger != self.frame.ledger {
            return Err(misplaced("of another ledger than the bundle"));
        }
        if seq == 0 || self.last.is_some_and(|(last, _)| last >= seq) {
            return Err(misplaced("out of order"));
        }
        if !self.frame.selection.takes(&entry) {
            return Err(misplaced("not one that was asked for"));
        }
        let hash = leaf_hash(bytes);
        if self
            .last
            .is_some_and(|(last, hash)| last + 1 == seq && entry.prev != hash)
        {
            let unlinked = || misplaced("not linked to the entry in front");
            self.unlinked.get_or_insert_with(unlinked);
        }
        let first = entry.prev == Hash::ZERO && entry.event_type.as_str() == "ledger.created";
        if (seq == 1) != first {
            let not_first = || misplaced("`ledger.created` and it alone is entry 1");
            self.not_first.get_or_insert_with(not_first);
        }
        if let Some((next, to)) = self.range.filter(|(next, to)| next <= to && seq <= *to) {
            if seq != next {
                self.miss(next);
            }
            self.range = Some((seq + 1, to));
        }
        self.payload_of(seq, Some(entry.commitment))?;
        self.last = Some((seq, hash));
        Ok((seq - 1, hash))
    }

    fn miss(&mut self, seq: u64) {
        let why = "missing from the range that was asked for";
        self.missing
            .get_or_insert(BundleError::Misplaced { seq, why });
    }

    /// Takes the payloads up to that of an entry.
    fn payload_of(&mut self, seq: u64, commitment: Option<Hash>) -> Result<(), BundleError> {
        loop {
            if self.payload.is_none() {
                self.payload = self.payloads.next_payload()?;
            }
            let Some((of, salted)) = self.payload.take_if(|(of, _)| *of <= seq) else {
                return Ok(());
            };
            if of != seq || commitment.is_none() {
                self.of_payloads
                    .get_or_insert(BundleError::PayloadOrphan(of));
            } else if commitment_of_salted(&salted) != commitment {
                self.of_payloads.get_or_insert(BundleError::Commitment(of));
            }
        }
    }

    /// Ends the pass; the range in which every entry is there.
    pub(super) fn finish(mut self) -> Result<Option<(u64, u64)>, BundleError> {
        self.payload_of(u64::MAX, None)?;
        if self.frame.redacted && self.frame.payloads > 0 {
            self.of_payloads.get_or_insert(other_form(PAYLOADS));
        }
        if let Some((next, to)) = self.range
            && next <= to
        {
            self.miss(next);
        }
        let faults = [
            self.unlinked,
            self.not_first,
            self.missing,
            self.of_payloads,
        ];
        match faults.into_iter().flatten().next() {
            Some(fault) => Err(fault),
            None => Ok(self.frame.range()),
        }
    }
}
