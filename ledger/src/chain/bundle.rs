//! The evidence bundle: entries, what they commit to, and why they are of the ledger, in one file that is checked offline.
//!
//! [`Bundle::unpack`] takes nothing that [`Bundle::pack`] would not write. `bundle/README.md`, which lies in each bundle, says
//! what the files are, and `bundle/check.py` checks them without any of this.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::archive::{self, ArchiveError, Files};
use super::canonical;
use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::entry::{Entry, EntryError, Hash, commitment_of_salted, leaf_hash};
use super::multiproof;
use super::note::{KeyError, KeyKind, VerifierKey};
use super::policy::{Accepted, Policy, UnmetError};
use super::proof::ProofError;
use crate::domain::event;
use crate::domain::id::{EventType, LedgerId, RunId, Subject, Timestamp};

/// Files that are the same in every bundle of a version of the program.
const GUIDES: [(&str, &str); 3] = [
    ("README.md", include_str!("bundle/README.md")),
    ("check.py", include_str!("bundle/check.py")),
    ("signature.py", include_str!("bundle/signature.py")),
];
const SUMS: &str = "SHA256SUMS";
const MANIFEST: &str = "bundle.json";
const CHECKPOINT: &str = "checkpoint";
const KEYS: &str = "vkeys";
const ENTRIES: &str = "entries.ndjson";
const PAYLOADS: &str = "payloads.ndjson";
const PROOF: &str = "proof";
const SCHEMAS: &str = "schemas/";
/// Version of this layout.
const FORMAT: u8 = 1;

/// Which entries were asked for; joined by and.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// From this number on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Up to and with this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Recorded at or before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Of one of these types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<EventType>,
    /// About this subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Selection {
    /// Whether an entry was asked for.
    fn takes(&self, entry: &Entry) -> bool {
        self.from.is_none_or(|from| entry.seq >= from)
            && self.to.is_none_or(|to| entry.seq <= to)
            && self.as_of.is_none_or(|time| entry.recorded_at <= time)
            && (self.types.is_empty() || self.types.contains(&entry.event_type))
            && self
                .subject
                .as_ref()
                .is_none_or(|subject| entry.subject == *subject)
            && self.run.is_none_or(|run| entry.run == Some(run))
    }

    /// Whether it asks for every entry between two numbers, so that one left out is missed.
    fn is_range(&self) -> bool {
        self.as_of.is_none()
            && self.types.is_empty()
            && self.subject.is_none()
            && self.run.is_none()
    }
}

/// `bundle.json`. The field order is that of the canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    entries: u64,
    format: u8,
    ledger: LedgerId,
    payloads: u64,
    redacted: bool,
    selection: Selection,
}

/// A line of `payloads.ndjson`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PayloadLine {
    salted: String,
    seq: u64,
}

/// A bundle's content.
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
    /// See [`multiproof`].
    pub proof: Vec<Hash>,
    /// README and programs: those of the program that wrote it.
    guides: BTreeMap<String, Vec<u8>>,
    /// JSON Schemas by file name.
    schemas: BTreeMap<String, Vec<u8>>,
}

/// A file that is not a bundle, or one that is not sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The archive around it.
    #[error("open the bundle")]
    Archive(#[from] ArchiveError),
    /// A file is missing, is there beside those that belong, or is not written as it would be.
    #[error("{0} in the bundle is missing, foreign, or not as it was written")]
    File(String),
    /// Its checkpoint cannot be read.
    #[error("read the bundle's checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// One of its keys cannot be read.
    #[error("read the bundle's keys")]
    Key(#[source] KeyError),
    /// Its checkpoint is not signed as it has to be.
    #[error("trust the bundle's checkpoint")]
    Unmet(#[source] UnmetError),
    /// No key of the log is in it, and none was given.
    #[error("no key that the bundle names is the log's: give --vkey or --policy")]
    NoKey,
    /// An entry cannot be read.
    #[error("read the entry in line {line}")]
    Entry {
        /// Line of `entries.ndjson`.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
    /// An entry does not belong where it stands.
    #[error("seq {seq}: {why}")]
    Misplaced {
        /// The entry.
        seq: u64,
        /// Why not.
        why: &'static str,
    },
    /// Entries and proof do not fit the tree.
    #[error("find the entries in the checkpoint's tree")]
    Proof(#[source] ProofError),
    /// A payload is not what its entry commits to.
    #[error("seq {0}: payload does not match its commitment")]
    Commitment(u64),
    /// A payload without its entry.
    #[error("seq {0}: a payload without its entry")]
    PayloadOrphan(u64),
}

/// What a sound bundle shows.
#[derive(Debug)]
pub struct Sound<'p> {
    /// Who signed the checkpoint.
    pub accepted: Accepted<'p>,
    /// Every entry between these two numbers is there; none where entries were picked otherwise.
    pub complete: Option<(u64, u64)>,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
}

impl Bundle {
    /// A bundle of these entries. Its guides and schemas are this program's.
    pub fn new(
        (ledger, checkpoint, keys): (LedgerId, SignedCheckpoint, Vec<VerifierKey>),
        selection: Selection,
        redacted: bool,
        (entries, payloads): (Vec<Vec<u8>>, BTreeMap<u64, Vec<u8>>),
        proof: Vec<Hash>,
    ) -> Self {
        let guides = GUIDES
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        let mut bundle = Self {
            ledger,
            selection,
            redacted,
            checkpoint,
            keys,
            entries,
            payloads,
            proof,
            guides: guides.collect(),
            schemas: BTreeMap::new(),
        };
        let read = |bytes: &Vec<u8>| Entry::from_bytes(bytes).ok();
        let entries = bundle.entries.iter().filter_map(read);
        let wanted: BTreeSet<String> = entries.map(|entry| schema_file(&entry)).collect();
        bundle.schemas = schemas();
        bundle.schemas.retain(|file, _| wanted.contains(file));
        bundle
    }

    /// Numbers of the entries, in order.
    pub fn numbers(&self) -> Vec<u64> {
        let entries = self.entries.iter();
        let read = entries.filter_map(|bytes| Entry::from_bytes(bytes).ok());
        read.map(|entry| entry.seq).collect()
    }

    /// The bundle as a ZIP file. The same content gives the same bytes.
    pub fn pack(&self) -> Result<Vec<u8>, BundleError> {
        let mut files: Files = self.guides.clone();
        files.extend(self.schemas.clone());
        let manifest = Manifest {
            entries: self.entries.len() as u64,
            format: FORMAT,
            ledger: self.ledger,
            payloads: self.payloads.len() as u64,
            redacted: self.redacted,
            selection: self.selection.clone(),
        };
        files.insert(MANIFEST.to_owned(), json_line(MANIFEST, &manifest)?);
        files.insert(CHECKPOINT.to_owned(), self.checkpoint.to_string().into());
        files.insert(
            KEYS.to_owned(),
            lines(self.keys.iter().map(VerifierKey::to_string)),
        );
        files.insert(
            PROOF.to_owned(),
            lines(self.proof.iter().map(Hash::to_string)),
        );
        files.insert(ENTRIES.to_owned(), lines(&self.entries));
        let mut payloads = Vec::new();
        for (seq, salted) in &self.payloads {
            let salted = STANDARD.encode(salted);
            payloads.extend(json_line(PAYLOADS, &PayloadLine { salted, seq: *seq })?);
        }
        files.insert(PAYLOADS.to_owned(), payloads);
        files.insert(SUMS.to_owned(), sums(&files));
        Ok(archive::pack(&files)?)
    }

    /// Reads a bundle. Nothing is verified yet, but that every byte is one that [`Bundle::pack`] would write.
    pub fn unpack(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut files = archive::unpack(bytes)?;
        let mut take = |name: &str| files.remove(name).ok_or_else(|| other_form(name));
        take(SUMS)?;
        let manifest: Manifest = json_lines(MANIFEST, &take(MANIFEST)?)?
            .pop()
            .filter(|manifest: &Manifest| manifest.format == FORMAT)
            .ok_or_else(|| other_form(MANIFEST))?;
        let checkpoint =
            SignedCheckpoint::parse(&take(CHECKPOINT)?).map_err(BundleError::Checkpoint)?;
        let keys = text_lines(KEYS, &take(KEYS)?)?;
        let keys = keys
            .iter()
            .map(|line| line.parse())
            .collect::<Result<_, _>>();
        let keys = keys.map_err(BundleError::Key)?;
        let proof = text_lines(PROOF, &take(PROOF)?)?;
        let proof = proof
            .iter()
            .map(|line| line.parse())
            .collect::<Result<_, _>>();
        let proof = proof.map_err(|_| other_form(PROOF))?;
        let entries = byte_lines(ENTRIES, &take(ENTRIES)?)?;
        let mut payloads = BTreeMap::new();
        for line in json_lines::<PayloadLine>(PAYLOADS, &take(PAYLOADS)?)? {
            let salted = STANDARD
                .decode(&line.salted)
                .map_err(|_| other_form(PAYLOADS))?;
            payloads.insert(line.seq, salted);
        }
        let guides = GUIDES
            .iter()
            .map(|(name, _)| Ok(((*name).to_owned(), take(name)?)));
        let guides = guides.collect::<Result<_, BundleError>>()?;
        let foreign = files.keys().find(|name| !name.starts_with(SCHEMAS));
        if let Some(name) = foreign {
            return Err(other_form(name));
        }
        let bundle = Self {
            ledger: manifest.ledger,
            selection: manifest.selection,
            redacted: manifest.redacted,
            checkpoint,
            keys,
            entries,
            payloads,
            proof,
            guides,
            schemas: files,
        };
        // Counts, digests, order, and whatever else follows from the content.
        if bundle.pack()? == bytes {
            Ok(bundle)
        } else {
            Err(other_form("a file"))
        }
    }

    /// The policy of who trusts the bundle's own keys, as on first use.
    pub fn own_policy(&self) -> Result<Policy, BundleError> {
        let origin = self.checkpoint.checkpoint().origin();
        let of_log = |key: &&VerifierKey| key.kind() == KeyKind::Ed25519 && key.name() == origin;
        let keys: Vec<_> = self.keys.iter().filter(of_log).cloned().collect();
        if keys.is_empty() {
            return Err(BundleError::NoKey);
        }
        Ok(Policy::of_log(keys))
    }

    /// Checks everything that can be: who signed, that the entries are in the tree and linked, that payloads are what the entries
    /// commit to.
    pub fn verify<'p>(&self, policy: &'p Policy) -> Result<Sound<'p>, BundleError> {
        let accepted = policy.check(&self.checkpoint).map_err(BundleError::Unmet)?;
        let tree = self.checkpoint.checkpoint();
        let entries = self.read_entries()?;
        let leaves: Vec<(u64, Hash)> = entries
            .iter()
            .map(|(entry, hash)| (entry.seq - 1, *hash))
            .collect();
        let root =
            multiproof::root(&leaves, tree.size(), &self.proof).map_err(BundleError::Proof)?;
        if root != tree.root() {
            return Err(BundleError::Proof(ProofError::Root));
        }
        Self::check_links(&entries)?;
        let complete = self.check_complete(&entries)?;
        self.check_payloads(&entries)?;
        let mut unchecked = Vec::new();
        if complete.is_none() {
            unchecked.push("whether other entries match what was asked for".to_owned());
        }
        let without = entries.len() - self.payloads.len();
        if without > 0 {
            let why = if self.redacted {
                "redacted"
            } else {
                "not in the bundle"
            };
            unchecked.push(format!("payloads of {without} entries: {why}"));
        }
        let known = schemas();
        let ours = |name: &str| GUIDES.iter().find(|(guide, _)| *guide == name);
        let guides = self.guides.iter().filter(|(name, text)| {
            ours(name).is_none_or(|(_, guide)| guide.as_bytes() != text.as_slice())
        });
        let schemas = self
            .schemas
            .iter()
            .filter(|(name, text)| known.get(*name) != Some(text));
        for (name, _) in guides.chain(schemas) {
            unchecked.push(format!("{name}: not as this program would write it"));
        }
        Ok(Sound {
            accepted,
            complete,
            unchecked,
        })
    }

    fn read_entries(&self) -> Result<Vec<(Entry, Hash)>, BundleError> {
        let mut entries: Vec<(Entry, Hash)> = Vec::with_capacity(self.entries.len());
        for (line, bytes) in (1..).zip(&self.entries) {
            let entry =
                Entry::from_bytes(bytes).map_err(|source| BundleError::Entry { line, source })?;
            let seq = entry.seq;
            let misplaced = |why| BundleError::Misplaced { seq, why };
            if entry.ledger != self.ledger {
                return Err(misplaced("of another ledger than the bundle"));
            }
            if seq == 0 || entries.last().is_some_and(|(last, _)| last.seq >= seq) {
                return Err(misplaced("out of order"));
            }
            if !self.selection.takes(&entry) {
                return Err(misplaced("not one that was asked for"));
            }
            entries.push((entry, leaf_hash(bytes)));
        }
        let origin = self.checkpoint.checkpoint().origin();
        let suffix = format!("/{}", self.ledger);
        if !origin.ends_with(&suffix) {
            return Err(other_form(CHECKPOINT));
        }
        Ok(entries)
    }

    fn check_links(entries: &[(Entry, Hash)]) -> Result<(), BundleError> {
        for pair in entries.windows(2) {
            let [(before, hash), (entry, _)] = pair else {
                continue;
            };
            let next = entry.seq == before.seq + 1;
            if next && entry.prev != *hash {
                let why = "not linked to the entry in front";
                return Err(BundleError::Misplaced {
                    seq: entry.seq,
                    why,
                });
            }
        }
        let first = |entry: &Entry| {
            entry.prev == Hash::ZERO && entry.event_type.as_str() == "ledger.created"
        };
        let wrong = entries
            .iter()
            .find(|(entry, _)| (entry.seq == 1) != first(entry));
        match wrong {
            Some((entry, _)) => Err(BundleError::Misplaced {
                seq: entry.seq,
                why: "`ledger.created` and it alone is entry 1",
            }),
            None => Ok(()),
        }
    }

    fn check_complete(&self, entries: &[(Entry, Hash)]) -> Result<Option<(u64, u64)>, BundleError> {
        if !self.selection.is_range() {
            return Ok(None);
        }
        let size = self.checkpoint.checkpoint().size();
        let from = self.selection.from.unwrap_or(1).max(1);
        let to = self.selection.to.map_or(size, |to| to.min(size));
        let mut found = entries.iter().map(|(entry, _)| entry.seq);
        for seq in from..=to {
            if found.next() != Some(seq) {
                let why = "missing from the range that was asked for";
                return Err(BundleError::Misplaced { seq, why });
            }
        }
        Ok(Some((from, to)))
    }

    fn check_payloads(&self, entries: &[(Entry, Hash)]) -> Result<(), BundleError> {
        let commitments: BTreeMap<u64, Hash> = entries
            .iter()
            .map(|(entry, _)| (entry.seq, entry.commitment))
            .collect();
        for (seq, salted) in &self.payloads {
            let commitment = commitments
                .get(seq)
                .ok_or(BundleError::PayloadOrphan(*seq))?;
            if commitment_of_salted(salted) != Some(*commitment) {
                return Err(BundleError::Commitment(*seq));
            }
        }
        if self.redacted && !self.payloads.is_empty() {
            return Err(other_form(PAYLOADS));
        }
        Ok(())
    }
}

fn other_form(name: &str) -> BundleError {
    BundleError::File(name.to_owned())
}

/// `schemas/<type>.<schema>.json`.
fn schema_file(entry: &Entry) -> String {
    format!("{SCHEMAS}{}.{}.json", entry.event_type, entry.schema)
}

/// The JSON Schema of each type that this program knows, by its name in a bundle.
fn schemas() -> BTreeMap<String, Vec<u8>> {
    let versions: BTreeMap<&str, u16> = event::TYPES
        .iter()
        .map(|(name, schema, _)| (*name, *schema))
        .collect();
    let all = event::schemas().into_iter().filter_map(|(name, schema)| {
        let text = serde_json::to_string_pretty(&schema).ok()?;
        let file = format!("{SCHEMAS}{name}.{}.json", versions.get(name)?);
        Some((file, format!("{text}\n").into_bytes()))
    });
    all.collect()
}

/// What `sha256sum` prints for the files.
fn sums(files: &Files) -> Vec<u8> {
    lines(
        files
            .iter()
            .map(|(name, bytes)| format!("{}  {name}", Hash::of(bytes))),
    )
}

fn lines<T: AsRef<[u8]>>(lines: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        out.extend_from_slice(line.as_ref());
        out.push(b'\n');
    }
    out
}

fn byte_lines(name: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, BundleError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = bytes.strip_suffix(b"\n").ok_or_else(|| other_form(name))?;
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect())
}

fn text_lines(name: &str, bytes: &[u8]) -> Result<Vec<String>, BundleError> {
    let lines = byte_lines(name, bytes)?.into_iter().map(String::from_utf8);
    lines
        .collect::<Result<_, _>>()
        .map_err(|_| other_form(name))
}

/// A line of canonical JSON.
fn json_line(name: &str, value: &impl Serialize) -> Result<Vec<u8>, BundleError> {
    let value = serde_json::to_value(value).map_err(|_| other_form(name))?;
    let mut line = canonical::to_bytes(&value).map_err(|_| other_form(name))?;
    line.push(b'\n');
    Ok(line)
}

fn json_lines<T: for<'de> Deserialize<'de>>(
    name: &str,
    bytes: &[u8],
) -> Result<Vec<T>, BundleError> {
    let lines = byte_lines(name, bytes)?.into_iter();
    let values = lines.map(|line| serde_json::from_slice(&line));
    values
        .collect::<Result<_, _>>()
        .map_err(|_| other_form(name))
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
