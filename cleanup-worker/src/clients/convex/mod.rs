//! v2 as it stood at one moment: read live from a deployment ([`live`]), or a snapshot export of Convex, read from its ZIP or from a folder it was
//! unpacked into. [`V2Watch`] keeps what v2 records as fresh as a deletion needs it.
//!
//! Layout and encodings: Convex, "Backup & Restore" and `npx convex export` (<https://docs.convex.dev/database/import-export/export>): a folder a table with
//! `documents.jsonl`, one document a line. What v2 has recorded protects events, so nothing here is skipped: a document that cannot be read, or
//! an export without the tables that matter, is an error.

mod document;
mod error;
pub mod live;
mod source;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

pub use self::document::{V2Case, V2Entry, V2Profile, V2User};
pub use self::live::{ConvexError, ConvexErrorKind, ConvexReader};
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

/// What is read of one export.
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
    /// Every case, soft-deleted ones included.
    pub cases: Vec<V2Case>,
    /// Every profile: it ties v1's user to v2's.
    pub profiles: Vec<V2Profile>,
    /// Every user, for the address; empty where the export has no such table.
    pub users: Vec<V2User>,
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

/// Reads one export of `deployment`, which no export says itself. `given` is the snapshot's time where nothing in the export says it, and is not looked at elsewhere. Blocks on files.
///
/// # Errors
/// [`ExportError`].
pub fn read_export(
    path: &Path,
    deployment: Deployment,
    given: Option<DateTime<Utc>>,
) -> Result<V2Export, ExportError> {
    let mut source = Source::open(path)?;
    let (taken_at, taken_at_source) = taken_at(&mut source, path, given)?;
    read_source(source, deployment, taken_at, taken_at_source)
}

/// Reads the tables that matter.
fn read_source(
    mut source: Source,
    deployment: Deployment,
    taken_at: DateTime<Utc>,
    taken_at_source: TakenAt,
) -> Result<V2Export, ExportError> {
    let encoding = match source.first_line("cases/generated_schema.jsonl")? {
        None => Encoding::Undeclared,
        Some(line) if line.trim() == "\"uniform\"" => Encoding::Uniform,
        Some(_) => Encoding::Clean,
    };
    let cases = source.required("cases", V2Case::read)?;
    let profiles = source.required("userProfiles", V2Profile::read)?;
    let users = source.documents("users", V2User::read)?.unwrap_or_default();
    let (origin, digest) = source.into_parts();
    Ok(V2Export {
        origin,
        deployment,
        digest,
        taken_at,
        taken_at_source,
        encoding,
        cases,
        profiles,
        users,
    })
}

/// Reads several exports, of production and of development deployments: v2 wrote into calendars from both.
///
/// # Errors
/// [`ExportError`], also where the same export is given twice, which would pass for two deployments.
pub fn read_exports(
    paths: &[(PathBuf, Deployment)],
    given: Option<DateTime<Utc>>,
) -> Result<Vec<V2Export>, ExportError> {
    let mut exports: Vec<V2Export> = Vec::new();
    for (path, deployment) in paths {
        let export = read_export(path, *deployment, given)?;
        if let Some(earlier) = exports
            .iter()
            .find(|earlier| earlier.digest == export.digest)
        {
            let (one, other) = (earlier.origin.clone(), export.origin);
            return Err(ExportError::Twice { one, other });
        }
        exports.push(export);
    }
    Ok(exports)
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
