//! The files of an export, in a ZIP or in a folder, read line by line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ledger::store::spool::SpoolError;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::{ExportError, Origin};
use crate::config::Deployment;

/// A document is at most 1 MiB in Convex; encoded and escaped it stays far below this.
const LINE_BYTES: u64 = 64 << 20;

pub(super) struct Source {
    origin: Origin,
    digest: String,
    files: Files,
}

enum Files {
    Zip(Box<ZipArchive<Box<dyn Archive>>>),
    Folder(PathBuf),
}

/// What a ZIP is read from.
trait Archive: Read + Seek {}

impl<T: Read + Seek> Archive for T {}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, ExportError> {
        let origin = Origin::File(path.to_owned());
        let read = |source| ExportError::Read {
            origin: origin.clone(),
            source,
        };
        if fs::metadata(path).map_err(read)?.is_dir() {
            let digest = folder_digest(path).map_err(read)?;
            return Ok(Self {
                origin,
                digest,
                files: Files::Folder(path.to_owned()),
            });
        }
        let mut file = File::open(path).map_err(read)?;
        let digest = hash(&mut file).map_err(read)?;
        file.rewind().map_err(read)?;
        Self::archive(origin, digest, Box::new(BufReader::new(file)))
    }

    /// The ZIP that a deployment gave out.
    pub(super) fn downloaded(deployment: Deployment, zip: Bytes) -> Result<Self, ExportError> {
        let digest = hex::encode(Sha256::digest(&zip));
        Self::archive(Origin::Live(deployment), digest, Box::new(Cursor::new(zip)))
    }

    fn archive(
        origin: Origin,
        digest: String,
        archive: Box<dyn Archive>,
    ) -> Result<Self, ExportError> {
        // Sizes may stand in data descriptors only, so members are found through the central directory.
        match ZipArchive::new(archive) {
            Ok(archive) => Ok(Self {
                origin,
                digest,
                files: Files::Zip(Box::new(archive)),
            }),
            Err(source) => Err(ExportError::Zip { origin, source }),
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn into_parts(self) -> (Origin, String) {
        (self.origin, self.digest)
    }

    fn member(&mut self, name: &str) -> Result<Option<Box<dyn BufRead + '_>>, ExportError> {
        match &mut self.files {
            Files::Zip(archive) => match archive.by_name(name) {
                Ok(member) => Ok(Some(Box::new(BufReader::new(member)))),
                Err(zip::result::ZipError::FileNotFound) => Ok(None),
                Err(source) => Err(ExportError::Zip {
                    origin: self.origin.clone(),
                    source,
                }),
            },
            Files::Folder(folder) => match File::open(folder.join(name)) {
                Ok(file) => Ok(Some(Box::new(BufReader::new(file)))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ExportError::Read {
                    origin: self.origin.clone(),
                    source,
                }),
            },
        }
    }

    /// The first line of a member, or `None` where there is no such member.
    pub(super) fn first_line(&mut self, name: &str) -> Result<Option<String>, ExportError> {
        let origin = self.origin.clone();
        let Some(member) = self.member(name)? else {
            return Ok(None);
        };
        let mut line = Vec::new();
        member
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|source| ExportError::Read { origin, source })?;
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Goes through the documents of a table, which has to be there.
    pub(super) fn each<T>(
        &mut self,
        table: &'static str,
        read: fn(&Value) -> Result<T, &'static str>,
        mut take: impl FnMut(T) -> Result<(), SpoolError>,
    ) -> Result<(), ExportError> {
        let origin = self.origin.clone();
        let Some(mut member) = self.member(&format!("{table}/documents.jsonl"))? else {
            return Err(ExportError::NoTable { origin, table });
        };
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let length = (&mut member)
                .take(LINE_BYTES)
                .read_until(b'\n', &mut bytes)
                .map_err(|source| ExportError::Read {
                    origin: origin.clone(),
                    source,
                })?;
            if length == 0 {
                break;
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |what| ExportError::Document {
                origin: origin.clone(),
                table,
                line,
                what,
            };
            // The parser's own error could quote the document, so it is dropped.
            let document: Value =
                serde_json::from_slice(&bytes).map_err(|_| wrong("it is not JSON"))?;
            take(read(&document).map_err(wrong)?)?;
        }
        Ok(())
    }
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&chunk[..length]);
    }
}

fn folder_digest(folder: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                let name = path.strip_prefix(folder).unwrap_or(&path);
                files.push((name.to_string_lossy().into_owned(), path));
            }
        }
    }
    files.sort();
    let mut list = Vec::new();
    for (name, path) in files {
        writeln!(list, "{}  {name}", hash(&mut File::open(path)?)?)?;
    }
    Ok(hex::encode(Sha256::digest(&list)))
}
