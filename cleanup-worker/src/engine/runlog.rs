//! The log file of a run: one line per item with subject, seq, hash, class, etag digest and outcome. No address unless
//! asked for, and no token ever.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ledger::chain::entry::Hash;
use ledger::domain::id::RunId;
use ledger::store::Appended;

/// A run's log file, mode 0600. Lines go straight to the file, so that a killed run leaves what it did.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    addresses: bool,
    file: Mutex<File>,
}

impl RunLog {
    /// Opens `<folder>/<run>.log` for appending; a resumed run goes on in its file. `addresses`: lines about items name their
    /// user's address.
    pub fn open(folder: &Path, run: RunId, addresses: bool) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{run}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            path,
            addresses,
            file: Mutex::new(file),
        })
    }

    /// Whether users' addresses may stand in it.
    pub fn names_addresses(&self) -> bool {
        self.addresses
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the receipt of an entry, with what it was about in words.
    pub fn entry(&self, appended: &Appended, words: &[(&str, &str)]) {
        let entry = &appended.entry;
        let mut line = format!(
            "{} {} seq={} hash={} subject={}",
            entry.recorded_at, entry.event_type, entry.seq, appended.hash, entry.subject
        );
        for (name, value) in words {
            line.extend([" ", name, "=", value]);
        }
        self.line(&line);
    }

    /// Writes a line of its own.
    pub fn line(&self, line: &str) {
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk must not stop a deletion half-way; the ledger has the same and more.
        // In one piece: another worker of the same run may write to the same file.
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::warn!(%error, "the run's log file could not be written");
        }
    }
}

/// Digest of an etag, for a log: it tells two versions apart and says nothing else.
pub fn etag_digest(etag: &str) -> String {
    Hash::of(etag.as_bytes()).to_string()[..16].to_owned()
}
