//! A file that gets its name when it is whole.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, environment};

/// Payloads are nobody else's; tiles and checkpoints are for everybody.
pub(in crate::commands) const PRIVATE: u32 = 0o600;
pub(super) const PUBLIC: u32 = 0o644;

/// A whole file that has not got its name yet; it is removed where it never does.
pub(in crate::commands) struct Draft {
    from: PathBuf,
    to: PathBuf,
    renamed: bool,
}

impl Draft {
    /// Writes it beside its place.
    pub(in crate::commands) fn write(
        path: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> Result<Self, Failure> {
        let what = format!("write {}", path.display());
        let (draft, mut file) = Self::open(path, mode)?;
        let mut write = || -> std::io::Result<()> {
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(environment(what))?;
        Ok(draft)
    }

    /// The same, for who writes it: an empty file, to be read back as well.
    pub(super) fn open(path: &Path, mode: u32) -> Result<(Self, fs::File), Failure> {
        let what = format!("write {}", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = Self {
            from: path.with_file_name(format!(".{name}.{}.new", std::process::id())),
            to: path.to_owned(),
            renamed: false,
        };
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(mode).open(&draft.from);
        Ok((draft, file.map_err(environment(what))?))
    }

    /// Gives it its name.
    pub(in crate::commands) fn rename(mut self) -> Result<(), Failure> {
        let what = format!("write {}", self.to.display());
        fs::rename(&self.from, &self.to).map_err(environment(what))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            drop(fs::remove_file(&self.from));
        }
    }
}
