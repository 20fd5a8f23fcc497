//! What a witness remembers, in a folder: of each log the last checkpoint that it cosigned. That file is both what it answers
//! and what it compares with, so that the two cannot differ.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::entry::Hash;
use ledger::chain::witness::Seen;

/// The folder, locked against every other process for as long as this value lives.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    _lock: File,
}

/// Why a remembered checkpoint cannot be used: a witness that forgets could cosign a fork.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    #[error("read or write {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} does not hold a checkpoint: nothing can be cosigned before it is put back", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: ledger::chain::checkpoint::CheckpointError,
    },
    #[error("another process uses the folder {}", .0.display())]
    Locked(PathBuf),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.to_owned();
    move |source| MemoryError::Io { path, source }
}

impl Memory {
    /// Opens the folder, which is made where it is missing.
    pub(super) fn open(folder: &Path) -> Result<Self, MemoryError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&lock, exclusive).map_err(|_| MemoryError::Locked(folder.to_owned()))?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The signing key, made by `generate` where there is none yet.
    pub(super) fn key<E: From<MemoryError>>(
        &self,
        generate: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        let path = self.folder.join("key");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = generate()?;
                self.replace(&path, format!("{key}\n").as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(at(&path)(error).into()),
        }
    }

    /// The last cosigned checkpoint of a log, and its text.
    pub(super) fn last(&self, origin: &str) -> Result<Option<(Seen, String)>, MemoryError> {
        let path = self.path(origin);
        let mut text = String::new();
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        }
        let checkpoint = SignedCheckpoint::parse(text.as_bytes())
            .map_err(|source| MemoryError::Damaged { path, source })?;
        let tree = checkpoint.checkpoint();
        let (size, root) = (tree.size(), tree.root());
        Ok(Some((Seen { size, root }, text)))
    }

    /// Remembers a cosigned checkpoint, durably, before anybody gets to see it.
    pub(super) fn remember(&self, checkpoint: &SignedCheckpoint) -> Result<(), MemoryError> {
        let path = self.path(checkpoint.checkpoint().origin());
        self.replace(&path, checkpoint.to_string().as_bytes())
    }

    /// As the protocol's read side has it: `<hex SHA-256(origin)>/checkpoint`; flat here, so that one fsync of one folder is enough.
    fn path(&self, origin: &str) -> PathBuf {
        self.folder
            .join(format!("{}.checkpoint", Hash::of(origin.as_bytes())))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), MemoryError> {
        let temporary = path.with_extension("new");
        let written = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(at(path))
    }
}
