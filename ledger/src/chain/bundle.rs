//! The evidence bundle: entries, what they commit to, and why they are of the ledger, in one file that is checked offline.
//!
//! [`Opened`] takes nothing that [`layout`] would not lay out, and holds neither entries nor payloads. `bundle/README.md`, which lies in each bundle, says
//! what the files are, and `bundle/check.py` checks them without any of this.

mod lines;
mod pass;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use self::lines::{Lines, Payloads};
use self::pass::Pass;
pub use self::whole::Bundle;
use super::archive::{self, ArchiveError, Files, Found, Measure, Packer, Source};
use super::canonical;
use super::checkpoint::{CheckpointError, SignedCheckpoint};
use super::entry::{Entry, EntryError, Hash};
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
    Proof(#[from] ProofError),
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

/// Everything in a bundle but the entries and their payloads, by file name.
#[derive(Debug, Clone)]
pub struct Frame {
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
    /// See [`multiproof`].
    pub proof: Vec<Hash>,
    /// How many entries.
    pub entries: u64,
    /// How many payloads.
    pub payloads: u64,
}

impl Frame {
    /// The files, without guides and schemas.
    fn files(&self) -> Result<Files, BundleError> {
        let manifest = Manifest {
            entries: self.entries,
            format: FORMAT,
            ledger: self.ledger,
            payloads: self.payloads,
            redacted: self.redacted,
            selection: self.selection.clone(),
        };
        Ok(Files::from([
            (MANIFEST.to_owned(), json_line(MANIFEST, &manifest)?),
            (CHECKPOINT.to_owned(), self.checkpoint.to_string().into()),
            (
                KEYS.to_owned(),
                lines(self.keys.iter().map(VerifierKey::to_string)),
            ),
            (
                PROOF.to_owned(),
                lines(self.proof.iter().map(Hash::to_string)),
            ),
        ]))
    }

    /// Reads what [`Frame::files`] wrote.
    fn read(files: &Files) -> Result<Self, BundleError> {
        let file = |name: &str| files.get(name).ok_or_else(|| other_form(name));
        let manifest: Manifest = json_lines(MANIFEST, file(MANIFEST)?)?
            .pop()
            .filter(|manifest: &Manifest| manifest.format == FORMAT)
            .ok_or_else(|| other_form(MANIFEST))?;
        let checkpoint =
            SignedCheckpoint::parse(file(CHECKPOINT)?).map_err(BundleError::Checkpoint)?;
        let keys = text_lines(KEYS, file(KEYS)?)?;
        let keys = keys
            .iter()
            .map(|line| line.parse())
            .collect::<Result<_, _>>();
        let proof = text_lines(PROOF, file(PROOF)?)?;
        let proof = proof
            .iter()
            .map(|line| line.parse())
            .collect::<Result<_, _>>();
        let frame = Self {
            ledger: manifest.ledger,
            selection: manifest.selection,
            redacted: manifest.redacted,
            checkpoint,
            keys: keys.map_err(BundleError::Key)?,
            proof: proof.map_err(|_| other_form(PROOF))?,
            entries: manifest.entries,
            payloads: manifest.payloads,
        };
        for (name, bytes) in frame.files()? {
            if files.get(&name) != Some(&bytes) {
                return Err(other_form(&name));
            }
        }
        Ok(frame)
    }

    /// The range that was asked for as a whole, as far as the checkpoint goes; none where entries were picked otherwise.
    fn range(&self) -> Option<(u64, u64)> {
        let size = self.checkpoint.checkpoint().size();
        let from = self.selection.from.unwrap_or(1).max(1);
        let to = self.selection.to.map_or(size, |to| to.min(size));
        self.selection.is_range().then_some((from, to))
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
}

/// A file of a bundle that is written elsewhere, since it grows with the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Long {
    /// Length and checksum.
    pub measure: Measure,
    /// Of its bytes.
    pub sha256: Hash,
}

/// What a bundle is written as: each file's header, and its bytes where they are known here.
#[derive(Debug)]
pub struct Layout {
    /// Headers, in the order of the file, with what follows them.
    pub files: Vec<(Vec<u8>, Content)>,
    /// What follows the last file.
    pub end: Vec<u8>,
}

/// The bytes of a file in a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These.
    Here(Vec<u8>),
    /// `entries.ndjson`
    Entries,
    /// `payloads.ndjson`
    Payloads,
}

/// A line of `entries.ndjson`.
pub fn entry_line(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"\n"].concat()
}

/// A line of `payloads.ndjson`.
///
/// # Errors
/// None: a number and base64 are JSON.
pub fn payload_line(seq: u64, salted: &[u8]) -> Result<Vec<u8>, BundleError> {
    let salted = STANDARD.encode(salted);
    json_line(PAYLOADS, &PayloadLine { salted, seq })
}

/// Lays a bundle out whose entries are of these types and schema versions. Its guides and schemas are this program's. The same
/// content gives the same bytes.
///
/// # Errors
/// It is too large for one archive.
pub fn layout(
    frame: &Frame,
    types: &BTreeSet<(EventType, u16)>,
    entries: Long,
    payloads: Long,
) -> Result<Layout, BundleError> {
    let mut known = schemas();
    let wanted = types
        .iter()
        .map(|(name, schema)| schema_file(name, *schema));
    let mut files: Files = wanted
        .filter_map(|file| known.remove_entry(&file))
        .collect();
    files.extend(guides());
    lay_out(frame, files, entries, payloads)
}

fn lay_out(
    frame: &Frame,
    beside: Files,
    entries: Long,
    payloads: Long,
) -> Result<Layout, BundleError> {
    let mut files = frame.files()?;
    files.extend(beside);
    let digests = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), Hash::of(bytes)));
    let long = [(ENTRIES, entries.sha256), (PAYLOADS, payloads.sha256)];
    let sums = sums(&digests.chain(long).collect());
    files.insert(SUMS.to_owned(), sums);
    let mut all: BTreeMap<String, (Measure, Content)> = files
        .into_iter()
        .map(|(name, bytes)| (name, (Measure::of(&bytes), Content::Here(bytes))))
        .collect();
    all.insert(ENTRIES.to_owned(), (entries.measure, Content::Entries));
    all.insert(PAYLOADS.to_owned(), (payloads.measure, Content::Payloads));
    let mut packer = Packer::default();
    let mut files = Vec::with_capacity(all.len());
    for (name, (measure, content)) in all {
        files.push((packer.header(&name, measure)?, content));
    }
    let end = packer.end()?;
    Ok(Layout { files, end })
}

/// A bundle that is read where it lies. Memory does not grow with its entries.
#[derive(Debug)]
pub struct Opened<'s, S: Source + ?Sized> {
    source: &'s S,
    /// All but the entries and payloads.
    pub frame: Frame,
    entries: Found,
    payloads: Found,
    guides: Files,
    schemas: Files,
}

impl<'s, S: Source + ?Sized> Opened<'s, S> {
    /// Reads through a bundle. Nothing is verified yet, but that every byte is one that this program would write.
    pub fn open(source: &'s S) -> Result<Self, BundleError> {
        let found = archive::scan(source)?;
        let mut found: BTreeMap<String, Found> = found
            .into_iter()
            .map(|file| (file.name.clone(), file))
            .collect();
        let digests = found.values().filter(|file| file.name != SUMS);
        let sums = sums(
            &digests
                .map(|file| (file.name.as_str(), file.sha256))
                .collect(),
        );
        let mut take = |name: &str| found.remove(name).ok_or_else(|| other_form(name));
        let content = |file: &Found| -> Result<Vec<u8>, BundleError> {
            let mut bytes = vec![0; usize::try_from(file.size).unwrap_or_default()];
            let read = source.read(file.at, &mut bytes);
            read.map_err(ArchiveError::Read)?;
            Ok(bytes)
        };
        if content(&take(SUMS)?)? != sums {
            return Err(other_form(SUMS));
        }
        let mut short = Files::new();
        for name in [MANIFEST, CHECKPOINT, KEYS, PROOF] {
            short.insert(name.to_owned(), content(&take(name)?)?);
        }
        let (entries, payloads) = (take(ENTRIES)?, take(PAYLOADS)?);
        let mut guides = Files::new();
        for (name, _) in GUIDES {
            guides.insert(name.to_owned(), content(&take(name)?)?);
        }
        let mut schemas = Files::new();
        for (name, file) in &found {
            if !name.starts_with(SCHEMAS) {
                return Err(other_form(name));
            }
            schemas.insert(name.clone(), content(file)?);
        }
        let opened = Self {
            source,
            frame: Frame::read(&short)?,
            entries,
            payloads,
            guides,
            schemas,
        };
        opened.check_lines()?;
        Ok(opened)
    }

    /// That there are as many entries and payloads as the manifest says, each line as it would be written.
    fn check_lines(&self) -> Result<(), BundleError> {
        let mut count = 0;
        let mut entries = self.entries();
        while entries.next_line()?.is_some() {
            count += 1;
        }
        if count != self.frame.entries {
            return Err(other_form(ENTRIES));
        }
        let (mut count, mut last) = (0, None);
        let mut payloads = self.payloads();
        while let Some((seq, _)) = payloads.next_payload()? {
            if last.is_some_and(|last| last >= seq) {
                return Err(other_form(PAYLOADS));
            }
            last = Some(seq);
            count += 1;
        }
        if count != self.frame.payloads {
            return Err(other_form(PAYLOADS));
        }
        Ok(())
    }

    /// Exact bytes of the entries, in order.
    pub fn entries(&self) -> Lines<'s, S> {
        Lines::of(self.source, ENTRIES, &self.entries)
    }

    /// Salt ‖ payload of the entries whose payload may be seen, with their numbers, in order.
    pub fn payloads(&self) -> Payloads<'s, S> {
        Payloads(Lines::of(self.source, PAYLOADS, &self.payloads))
    }

    /// Checks everything that can be: who signed, that the entries are in the tree and linked, that payloads are what the entries
    /// commit to.
    pub fn verify<'p>(&self, policy: &'p Policy) -> Result<Sound<'p>, BundleError> {
        let frame = &self.frame;
        let accepted = policy
            .check(&frame.checkpoint)
            .map_err(BundleError::Unmet)?;
        let tree = frame.checkpoint.checkpoint();
        let mut entries = self.entries();
        let mut pass = Pass::new(frame, self.payloads());
        let root = multiproof::root_of_next(
            || match entries.next_line()? {
                None => Ok(None),
                Some(bytes) => pass.entry(&bytes).map(Some),
            },
            tree.size(),
            &frame.proof,
        )?;
        if !tree.origin().ends_with(&format!("/{}", frame.ledger)) {
            return Err(other_form(CHECKPOINT));
        }
        if root != tree.root() {
            return Err(BundleError::Proof(ProofError::Root));
        }
        let complete = pass.finish()?;
        let mut unchecked = Vec::new();
        if complete.is_none() {
            unchecked.push("whether other entries match what was asked for".to_owned());
        }
        let without = frame.entries.saturating_sub(frame.payloads);
        if without > 0 {
            let why = if frame.redacted {
                "redacted"
            } else {
                "not in the bundle"
            };
            unchecked.push(format!("payloads of {without} entries: {why}"));
        }
        let ours = guides();
        let guides = self
            .guides
            .iter()
            .filter(|(name, text)| ours.get(*name) != Some(text));
        let known = schemas();
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
}

fn other_form(name: &str) -> BundleError {
    BundleError::File(name.to_owned())
}

/// `schemas/<type>.<schema>.json`.
fn schema_file(event_type: &EventType, schema: u16) -> String {
    format!("{SCHEMAS}{event_type}.{schema}.json")
}

/// README and programs as this program writes them.
fn guides() -> Files {
    let guides = GUIDES.iter();
    guides
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect()
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
fn sums(digests: &BTreeMap<&str, Hash>) -> Vec<u8> {
    lines(
        digests
            .iter()
            .map(|(name, digest)| format!("{digest}  {name}")),
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
