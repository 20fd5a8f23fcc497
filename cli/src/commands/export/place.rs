//! Where tiles go: a folder, or a place in an S3-compatible bucket. A file of the tree is written only where there is none.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use ledger::chain::tiles::Tile;

use super::draft::{Draft, PUBLIC};
use crate::bucket::{self, Bucket};
use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment};

/// Name of the checkpoint beside the tiles.
const CHECKPOINT: &str = "checkpoint";
/// Longest checkpoint file that is read.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 20;

/// A place for tiles, as it is named on the command line.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// `s3://bucket/prefix`
    Bucket(bucket::Place),
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("s3://") {
            text.parse().map(Self::Bucket)
        } else {
            Ok(Self::Folder(PathBuf::from(text)))
        }
    }
}

/// A place that can be written to.
pub(super) enum Open {
    Folder(PathBuf),
    Bucket(bucket::Place, Box<Bucket>),
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(place, _) => place.fmt(f),
        }
    }
}

impl Open {
    pub(super) fn new(place: &Place, variables: &Environment) -> Result<Self, Failure> {
        Ok(match place {
            Place::Folder(folder) => Self::Folder(folder.clone()),
            Place::Bucket(place) => {
                Self::Bucket(place.clone(), Box::new(Bucket::open(variables, place)?))
            }
        })
    }

    /// What a file of it is called in messages.
    fn name(&self, file: &str) -> String {
        format!("{}/{file}", self.to_string().trim_end_matches('/'))
    }

    pub(super) fn checkpoint_name(&self) -> String {
        self.name(CHECKPOINT)
    }

    /// The checkpoint that it is at.
    pub(super) async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Failure> {
        let folder = match self {
            Self::Bucket(_, bucket) => return bucket.get(CHECKPOINT).await,
            Self::Folder(folder) => folder,
        };
        let path = folder.join(CHECKPOINT);
        let what = format!("read {}", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(environment(what)(error)),
            Ok(found) if found.len() > CHECKPOINT_BYTES_MAX => Ok(Some(Vec::new())),
            Ok(_) => fs::read(path).map(Some).map_err(environment(what)),
        }
    }

    /// Writes a file of the tree, unless it is there; false where it is.
    pub(super) async fn put(&self, tile: Tile, bytes: Vec<u8>) -> Result<bool, Failure> {
        let name = tile.to_string();
        let there = match self {
            Self::Bucket(_, bucket) => {
                if bucket.put_new(&name, bytes.clone()).await? {
                    return Ok(true);
                }
                bucket.get(&name).await?.unwrap_or_default()
            }
            Self::Folder(folder) => {
                let path = folder.join(&name);
                let what = format!("write {}", path.display());
                match fs::read(&path) {
                    Ok(there) => there,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        if let Some(parent) = path.parent() {
                            fs::create_dir_all(parent).map_err(environment(what))?;
                        }
                        Draft::write(&path, &bytes, PUBLIC)?.rename()?;
                        return Ok(true);
                    }
                    Err(error) => return Err(environment(what)(error)),
                }
            }
        };
        if there == bytes {
            return Ok(false);
        }
        let what = anyhow::anyhow!(
            "{} holds something else than this ledger does",
            self.name(&name)
        );
        Err(Failure::new(Exit::No, what).hint(
            "a tile never changes: the place is of another history; name another one and compare",
        ))
    }

    /// Prepares the checkpoint, which is written last, so that whoever reads it finds all that it speaks for.
    pub(super) fn prepare(&self, note: &str) -> Result<Prepared<'_>, Failure> {
        Ok(match self {
            Self::Folder(folder) => {
                let path = folder.join(CHECKPOINT);
                Prepared::File(Draft::write(&path, note.as_bytes(), PUBLIC)?)
            }
            Self::Bucket(_, bucket) => Prepared::Object(bucket, note.to_owned().into_bytes()),
        })
    }
}

/// A checkpoint that nobody sees yet.
pub(super) enum Prepared<'o> {
    File(Draft),
    Object(&'o Bucket, Vec<u8>),
}

impl Prepared<'_> {
    pub(super) async fn write(self) -> Result<(), Failure> {
        match self {
            Self::File(draft) => draft.rename(),
            Self::Object(bucket, note) => bucket.put(CHECKPOINT, note).await,
        }
    }
}
