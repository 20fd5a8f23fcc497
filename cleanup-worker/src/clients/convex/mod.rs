//! v2 as it stood at one moment: read live from a deployment ([`live`]), or a snapshot export of Convex, read from its ZIP or from a folder it was
//! unpacked into. [`V2Watch`] keeps what v2 records as fresh as a deletion needs it.
//!
//! Layout and encodings: Convex, "Backup & Restore" and `npx convex export` (<https://docs.convex.dev/database/import-export/export>): a folder a table with
//! `documents.jsonl`, one document a line. What v2 has recorded protects events, so nothing here is skipped: a document that cannot be read, or
//! an export without the tables that matter, is an error.

mod document;
mod error;
pub mod live;
mod records;
mod source;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use ledger::store::spool::SpoolError;
use tokio::sync::mpsc;

pub use self::document::{V2Case, V2Entry, V2Profile};
pub use self::live::{ConvexError, ConvexErrorKind, ConvexReader};
pub use self::records::{V2Recorder, V2Records, V2Sink, mark, read_mark, v1_case_of};
use self::source::Source;
pub use self::watch::{V2Sources, V2Watch};
use crate::config::Deployment;

/// Where a snapshot was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A ZIP or a folder.
    File(PathBuf),
    /// The deployment itself.
    Live(Deployment),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Live(deployment) => write!(f, "(read from {})", deployment.as_str()),
        }
    }
}

/// An export that was read; what it holds went to a [`V2Sink`].
#[derive(Debug, Clone)]
pub struct V2Export {
    /// Where it was read from.
    pub origin: Origin,
    /// Which deployment it shows.
    pub deployment: Deployment,
    /// Hex SHA-256 of the ZIP; of a folder, of the list `<hex SHA-256>  <path>\n` of its `.jsonl` files, sorted by path; of what was
    /// streamed, of the deployment's name and each document as it came, each with a line feed behind.
    pub digest: String,
    /// The moment the snapshot shows.
    pub taken_at: DateTime<Utc>,
    /// How that moment is known.
    pub taken_at_source: TakenAt,
    /// How values are encoded in the table `cases`.
    pub encoding: Encoding,
    /// How many cases it holds, soft-deleted ones included.
    pub cases: u64,
}

/// How the moment of a snapshot is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenAt {
    /// From the name Convex gives an export: `snapshot_<nanoseconds>.zip`.
    FileName,
    /// From a member `snapshot` that holds the nanoseconds.
    Member,
    /// The caller said so.
    Given,
    /// The deployment said so, in an export that it was asked for.
    Export,
    /// The deployment said so while its documents were streamed; changes since can be listed.
    Stream,
}

/// The two generations of value encoding, as `generated_schema.jsonl` declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Clean JSON: 64-bit integers as text.
    Clean,
    /// `"uniform"`: what JSON lacks is an object such as `{"$integer": ..}`.
    Uniform,
    /// There is no declaration.
    Undeclared,
}

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file could not be read.
    #[error("read v2's export {origin}")]
    Read {
        /// The export.
        origin: Origin,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The ZIP is damaged or cut.
    #[error("open v2's export {origin} as a ZIP")]
    Zip {
        /// The export.
        origin: Origin,
        /// The cause.
        #[source]
        source: zip::result::ZipError,
    },
    /// A table that has to be there is not: is this an export of v2?
    #[error("v2's export {origin} has no table {table}: is it the export of v2's deployment?")]
    NoTable {
        /// The export.
        origin: Origin,
        /// The table.
        table: &'static str,
    },
    /// A document is not what it has to be. Its content is not repeated.
    #[error("v2's export {origin}: {table}/documents.jsonl line {line}: {what}")]
    Document {
        /// The export.
        origin: Origin,
        /// The table.
        table: &'static str,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Nothing says what moment the snapshot shows.
    #[error(
        "v2's export {origin} does not say when it was taken: keep the name that Convex gave it (snapshot_<time>.zip), or give the time"
    )]
    NoTime {
        /// The export.
        origin: Origin,
    },
    /// One export was given twice.
    #[error("v2's exports {one} and {other} are the same")]
    Twice {
        /// The first.
        one: Origin,
        /// The second.
        other: Origin,
    },
    /// What was read could not be kept.
    #[error("keep what v2's export says")]
    Keep(#[from] SpoolError),
    /// A deployment could not be read live.
    #[error("read v2's {} deployment", deployment.as_str())]
    Live {
        /// Which one.
        deployment: Deployment,
        /// The cause.
        #[source]
        source: Box<ConvexError>,
    },
}

/// Reads one export of `deployment`, which no export says itself, into `sink`: every case, soft-deleted ones included, and every profile.
/// `given` is the snapshot's time where nothing in the export says it, and is not looked at elsewhere. Blocks on files.
///
/// # Errors
/// [`ExportError`].
pub fn read_export(
    path: &Path,
    deployment: Deployment,
    given: Option<DateTime<Utc>>,
    sink: &mut dyn V2Sink,
) -> Result<V2Export, ExportError> {
    let mut source = Source::open(path)?;
    let taken = taken_at(&mut source, path, given)?;
    read_source(source, deployment, taken, sink)
}

/// Reads the tables that matter.
fn read_source(
    mut source: Source,
    deployment: Deployment,
    (taken_at, taken_at_source): (DateTime<Utc>, TakenAt),
    sink: &mut dyn V2Sink,
) -> Result<V2Export, ExportError> {
    let encoding = match source.first_line("cases/generated_schema.jsonl")? {
        None => Encoding::Undeclared,
        Some(line) if line.trim() == "\"uniform\"" => Encoding::Uniform,
        Some(_) => Encoding::Clean,
    };
    let mut cases = 0;
    source.each("cases", V2Case::read, |case| {
        cases += 1;
        sink.case(case)
    })?;
    source.each("userProfiles", V2Profile::read, |profile| {
        sink.profile(profile)
    })?;
    let (origin, digest) = source.into_parts();
    Ok(V2Export {
        origin,
        deployment,
        digest,
        taken_at,
        taken_at_source,
        encoding,
        cases,
    })
}

/// A document on its way from the thread that reads files.
enum Document {
    Case(Box<V2Case>),
    Profile(V2Profile),
}

/// Documents that wait there at most.
const WAITING: usize = 64;

struct Sender(mpsc::Sender<Document>);

impl Sender {
    fn send(&self, document: Document) -> Result<(), SpoolError> {
        // Whoever does not take them any more says why himself.
        let sent = self.0.blocking_send(document);
        sent.map_err(|_| SpoolError::File(io::Error::other("nobody keeps it")))
    }
}

impl V2Sink for Sender {
    fn case(&mut self, case: V2Case) -> Result<(), SpoolError> {
        self.send(Document::Case(Box::new(case)))
    }

    fn profile(&mut self, profile: V2Profile) -> Result<(), SpoolError> {
        self.send(Document::Profile(profile))
    }
}

/// Reads files on a thread that may wait for them; `None` where that ended early.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce(&mut dyn V2Sink) -> T + Send + 'static,
    sink: &mut dyn V2Sink,
) -> Result<Option<T>, SpoolError> {
    let (sender, mut documents) = mpsc::channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || read(&mut Sender(sender)));
    while let Some(document) = documents.recv().await {
        match document {
            Document::Case(case) => sink.case(*case)?,
            Document::Profile(profile) => sink.profile(profile)?,
        }
    }
    Ok(reading.await.ok())
}

fn taken_at(
    source: &mut Source,
    path: &Path,
    given: Option<DateTime<Utc>>,
) -> Result<(DateTime<Utc>, TakenAt), ExportError> {
    let resolved = path.canonicalize().ok();
    let names = [Some(path), resolved.as_deref()];
    if let Some(at) = names.into_iter().flatten().find_map(time_in_name) {
        return Ok((at, TakenAt::FileName));
    }
    if let Some(at) = source
        .first_line("snapshot")?
        .as_deref()
        .and_then(nanoseconds)
    {
        return Ok((at, TakenAt::Member));
    }
    let missing = || ExportError::NoTime {
        origin: source.origin().clone(),
    };
    given.map(|at| (at, TakenAt::Given)).ok_or_else(missing)
}

/// Convex names an export `snapshot_<nanoseconds>` or `snapshot_<deployment>_<nanoseconds>`; a browser may add ` (1)`.
fn time_in_name(path: &Path) -> Option<DateTime<Utc>> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix("snapshot")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .find_map(nanoseconds)
}

/// Nanoseconds since 1970 have 19 digits from 2001 to 2286; anything else is another number.
fn nanoseconds(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let number = (text.len() == 19).then(|| text.parse().ok()).flatten()?;
    Some(DateTime::from_timestamp_nanos(number))
}

#[cfg(test)]
mod tests;
