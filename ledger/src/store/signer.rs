//! What a signer of checkpoints keeps beside its key, outside the database: the last checkpoint that it signed. A database that
//! was put back to an earlier state cannot make it sign a second history.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::chain::checkpoint::Checkpoint;
use crate::domain::id::LedgerId;

/// The record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file operation failed.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It is not the three lines of a checkpoint. Nothing is signed until a person has looked.
    #[error("the signer's record {path} holds no checkpoint: put it back from a backup", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// The record of one ledger's signer.
#[derive(Debug, Clone)]
pub struct SignerRecord {
    path: PathBuf,
}

/// Held while a checkpoint is signed: one signer at a time on a machine.
#[derive(Debug)]
pub struct SignerLock {
    _file: File,
}

impl SignerRecord {
    /// The record in a folder of checkpoint keys.
    pub fn new(folder: &Path, ledger: LedgerId) -> Self {
        Self {
            path: folder.join(format!("{ledger}.last")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last checkpoint that was signed here; none where there was none.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn last(&self) -> Result<Option<Checkpoint>, RecordError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(self.failed("read the signer's record"))?,
        };
        let checkpoint = text.parse().map_err(|_| RecordError::Damaged {
            path: self.path.clone(),
        })?;
        Ok(Some(checkpoint))
    }

    /// Keeps a checkpoint, durably, before it is shown to anybody.
    ///
    /// # Errors
    /// See [`RecordError`]; the record is then as it was.
    pub fn remember(&self, checkpoint: &Checkpoint) -> Result<(), RecordError> {
        let write = || -> io::Result<()> {
            let draft = self.path.with_extension("last.new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(checkpoint.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(self.failed("write the signer's record"))
    }

    /// Waits until no other process signs for this ledger here.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn lock(&self) -> Result<SignerLock, RecordError> {
        let lock = || -> io::Result<File> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path.with_extension("lock"))?;
            file.lock()?;
            Ok(file)
        };
        let file = lock().map_err(self.failed("lock the signer's record"))?;
        Ok(SignerLock { _file: file })
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> RecordError {
        let path = self.path.clone();
        move |source| RecordError::File { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::entry::Hash;

    #[test]
    fn what_was_signed_last_is_remembered_and_damage_is_not_taken_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = LedgerId::new(uuid::Uuid::nil());
        let record = SignerRecord::new(folder.path(), ledger);
        assert_eq!(record.last().unwrap(), None);
        let _lock = record.lock().unwrap();
        for size in [3, 900] {
            let checkpoint = Checkpoint::new("example.com/one", size, Hash([7; 32])).unwrap();
            record.remember(&checkpoint).unwrap();
            assert_eq!(record.last().unwrap(), Some(checkpoint));
        }
        for damaged in ["", "example.com/one\n3\n", "example.com/one\n03\nAAAA\n"] {
            fs::write(record.path(), damaged).unwrap();
            assert!(matches!(record.last(), Err(RecordError::Damaged { .. })));
        }
    }
}
