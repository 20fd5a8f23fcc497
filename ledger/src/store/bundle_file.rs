//! Bundles as files: written as the entries are read, and read where they lie, so that memory does not grow with the ledger.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::Store;
use super::checkpoint::ProveError;
use super::export::{ExportError, Proved};
use super::read::Filter;
use crate::chain::archive::{Measure, Source};
use crate::chain::bundle::{
    self, Content, Frame, Long, Opened, Selection, entry_line, payload_line,
};
use crate::chain::entry::Hash;
use crate::chain::multiproof;
use crate::domain::id::EventType;

/// A file that is read where it is asked for.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// An open file.
    ///
    /// # Errors
    /// Its length cannot be had.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// SHA-256 of the whole file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sha256(&self) -> io::Result<Hash> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut buffer, at)? {
                0 => return Ok(Hash(digest.finalize().into())),
                read => {
                    digest.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), String> {
        let read = self.file.read_exact_at(buffer, at);
        read.map_err(|error| error.to_string())
    }
}

/// Files that a bundle is written through: where it goes, and two without a name in which what is long waits for its place.
#[derive(Debug)]
pub struct BundleFiles {
    /// Empty, open for reading and writing.
    pub out: File,
    /// Likewise; the caller forgets them.
    pub entries: File,
    /// See `entries`.
    pub payloads: File,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct BundleMade {
    /// Number of the first entry in it.
    pub first: u64,
    /// Number of the last one.
    pub last: u64,
    /// How many entries.
    pub entries: u64,
    /// How many payloads.
    pub payloads: u64,
    /// Of the file.
    pub sha256: Hash,
}

impl Store {
    /// Writes a bundle of the entries that were asked for, as far as the last checkpoint covers them, and checks it as its reader
    /// will.
    ///
    /// # Errors
    /// See [`ExportError`]; what was written is then to be thrown away.
    pub async fn write_bundle(
        &self,
        proved: Proved,
        selection: Selection,
        redacted: bool,
        files: BundleFiles,
    ) -> Result<BundleMade, ExportError> {
        let size = proved.checkpoint.checkpoint().size();
        let filter = Filter {
            from: selection.from,
            to: Some(selection.to.map_or(size, |to| to.min(size))),
            as_of: selection.as_of,
            types: selection.types.clone(),
            subject: selection.subject.clone(),
            run: selection.run,
        };
        let mut entries = Spool::new(files.entries);
        let mut payloads = Spool::new(files.payloads);
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut types: BTreeSet<(EventType, u16)> = BTreeSet::new();
        let mut after = 0;
        loop {
            let page = self.salted_page(&filter, after, !redacted).await?;
            let Some((last, ..)) = page.last() else { break };
            after = last.seq;
            for (entry, bytes, salted) in page {
                entries.push(&entry_line(&bytes))?;
                if let Some(salted) = salted {
                    let line = payload_line(entry.seq, &salted).map_err(ExportError::Unsound)?;
                    payloads.push(&line)?;
                }
                match runs.last_mut() {
                    Some(run) if run.end == entry.seq - 1 => run.end = entry.seq,
                    _ => runs.push(entry.seq - 1..entry.seq),
                }
                types.insert((entry.event_type, entry.schema));
            }
        }
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            return Err(ExportError::Nothing { size });
        };
        let (first, last) = (first.start + 1, last.end);
        let recipe = multiproof::recipe(&runs, size).map_err(ProveError::Tree)?;
        let frame = Frame {
            ledger: self.id(),
            selection,
            redacted,
            checkpoint: proved.checkpoint,
            keys: proved.keys,
            proof: self.stored_proof(&recipe).await?,
            entries: entries.count,
            payloads: payloads.count,
        };
        let layout = bundle::layout(&frame, &types, entries.long(), payloads.long());
        let layout = layout.map_err(ExportError::Unsound)?;
        let written = write(&files.out, layout.files, &layout.end, (entries, payloads));
        written.map_err(failed)?;
        let source = FileSource::new(files.out).map_err(failed)?;
        let policy = frame.own_policy().map_err(ExportError::Unsound)?;
        Opened::open(&source)
            .and_then(|opened| opened.verify(&policy).map(drop))
            .map_err(ExportError::Unsound)?;
        Ok(BundleMade {
            first,
            last,
            entries: frame.entries,
            payloads: frame.payloads,
            sha256: source.sha256().map_err(failed)?,
        })
    }
}

fn failed(source: io::Error) -> ExportError {
    ExportError::File(source)
}

fn write(
    out: &File,
    files: Vec<(Vec<u8>, Content)>,
    end: &[u8],
    (entries, payloads): (Spool, Spool),
) -> io::Result<()> {
    let (mut entries, mut payloads) = (entries.read_back()?, payloads.read_back()?);
    let mut writer = BufWriter::new(out);
    for (header, content) in files {
        writer.write_all(&header)?;
        match content {
            Content::Here(bytes) => writer.write_all(&bytes)?,
            Content::Entries => drop(io::copy(&mut entries, &mut writer)?),
            Content::Payloads => drop(io::copy(&mut payloads, &mut writer)?),
        }
    }
    writer.write_all(end)?;
    writer.flush()?;
    drop(writer);
    out.sync_all()
}

/// Lines that wait for their place in the file, measured as they come.
struct Spool {
    file: BufWriter<File>,
    measure: Measure,
    digest: Sha256,
    count: u64,
}

impl Spool {
    fn new(file: File) -> Self {
        Self {
            file: BufWriter::new(file),
            measure: Measure::default(),
            digest: Sha256::new(),
            count: 0,
        }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), ExportError> {
        self.measure.update(line);
        self.digest.update(line);
        self.count += 1;
        self.file.write_all(line).map_err(failed)
    }

    fn long(&self) -> Long {
        Long {
            measure: self.measure,
            sha256: Hash(self.digest.clone().finalize().into()),
        }
    }

    fn read_back(self) -> io::Result<File> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}
