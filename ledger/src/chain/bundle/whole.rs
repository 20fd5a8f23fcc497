//! Bundles in memory.

use std::collections::BTreeMap;

use super::{
    BundleError, Content, Frame, Long, Opened, Selection, Sound, entry_line, lay_out, payload_line,
};
use crate::chain::archive::{Files, Measure};
use crate::chain::checkpoint::SignedCheckpoint;
use crate::chain::entry::Hash;
use crate::chain::note::VerifierKey;
use crate::chain::policy::Policy;
use crate::domain::id::LedgerId;

/// A bundle in memory: what small ones are made and changed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The ledger.
    pub ledger: LedgerId,
    /// What was asked for.
    pub selection: Selection,
    /// Whether payloads were left out on purpose.
    pub redacted: bool,
    /// What the entries are proved against.
    pub checkpoint: SignedCheckpoint,
    /// Keys of who signed the checkpoint, as the ledger names them.
    pub keys: Vec<VerifierKey>,
    /// Exact bytes of the entries, in order.
    pub entries: Vec<Vec<u8>>,
    /// Salt ‖ payload of the entries whose payload may be seen, by their number.
    pub payloads: BTreeMap<u64, Vec<u8>>,
    /// See [`crate::chain::multiproof`].
    pub proof: Vec<Hash>,
    /// README and programs: those of the program that wrote it.
    pub(super) guides: Files,
    /// JSON Schemas by file name.
    pub(super) schemas: Files,
}

impl Bundle {
    fn frame(&self) -> Frame {
        Frame {
            ledger: self.ledger,
            selection: self.selection.clone(),
            redacted: self.redacted,
            checkpoint: self.checkpoint.clone(),
            keys: self.keys.clone(),
            proof: self.proof.clone(),
            entries: self.entries.len() as u64,
            payloads: self.payloads.len() as u64,
        }
    }

    /// The bundle as a ZIP file.
    pub fn pack(&self) -> Result<Vec<u8>, BundleError> {
        let entries: Vec<u8> = self
            .entries
            .iter()
            .flat_map(|bytes| entry_line(bytes))
            .collect();
        let mut payloads = Vec::new();
        for (seq, salted) in &self.payloads {
            payloads.extend(payload_line(*seq, salted)?);
        }
        let long = |bytes: &[u8]| Long {
            measure: Measure::of(bytes),
            sha256: Hash::of(bytes),
        };
        let mut beside = self.guides.clone();
        beside.extend(self.schemas.clone());
        let layout = lay_out(&self.frame(), beside, long(&entries), long(&payloads))?;
        let mut out = Vec::new();
        for (header, content) in layout.files {
            out.extend(header);
            match content {
                Content::Here(bytes) => out.extend(bytes),
                Content::Entries => out.extend_from_slice(&entries),
                Content::Payloads => out.extend_from_slice(&payloads),
            }
        }
        out.extend(layout.end);
        Ok(out)
    }

    /// Reads a bundle. Nothing is verified yet, but that every byte is one that [`Bundle::pack`] would write.
    pub fn unpack(bytes: &[u8]) -> Result<Self, BundleError> {
        let opened = Opened::open(bytes)?;
        let mut lines = opened.entries();
        let mut entries = Vec::new();
        while let Some(line) = lines.next_line()? {
            entries.push(line);
        }
        let mut lines = opened.payloads();
        let mut payloads = BTreeMap::new();
        while let Some((seq, salted)) = lines.next_payload()? {
            payloads.insert(seq, salted);
        }
        let frame = opened.frame;
        Ok(Self {
            ledger: frame.ledger,
            selection: frame.selection,
            redacted: frame.redacted,
            checkpoint: frame.checkpoint,
            keys: frame.keys,
            entries,
            payloads,
            proof: frame.proof,
            guides: opened.guides,
            schemas: opened.schemas,
        })
    }

    /// As [`Frame::own_policy`].
    pub fn own_policy(&self) -> Result<Policy, BundleError> {
        self.frame().own_policy()
    }

    /// As [`Opened::verify`].
    pub fn verify<'p>(&self, policy: &'p Policy) -> Result<Sound<'p>, BundleError> {
        Opened::open(self.pack()?.as_slice())?.verify(policy)
    }
}
