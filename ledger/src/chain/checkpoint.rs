//! C2SP checkpoints <https://c2sp.org/tlog-checkpoint>: what a log says its tree is, and the signed note that says so.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::entry::Hash;
use super::note::{KeyKind, Note, NoteError, NoteSigner, Signature, Verified, VerifierKey};
use super::proof::SIZE_MAX;

/// A text that is not a checkpoint, or one that is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a note, or without a right signature.
    #[error("read the checkpoint as a signed note")]
    Note(#[from] NoteError),
    /// Fewer than three lines, an empty line, or no line feed at the end.
    #[error("a checkpoint is three lines: origin, size and root")]
    Lines,
    /// Empty or with a control character.
    #[error("a checkpoint's origin must be one line of text")]
    Origin,
    /// Not a decimal in its one form, or too large.
    #[error("a checkpoint's size must be a decimal number below 2^63 without leading zeros")]
    Size,
    /// Not canonical base64 of 32 bytes.
    #[error("a checkpoint's root must be the base64 of 32 bytes")]
    Root,
    /// A checkpoint of another log.
    #[error("the checkpoint is of {0}, another log")]
    OtherLog(String),
}

/// Origin, size and root: the note's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    /// Further lines of other logs; ours have none, since not all cosigners cover them.
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    ///
    /// # Errors
    /// An origin that is not one line of text, or a size of 2^63 or more.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if origin.is_empty() || origin.contains(|c: char| c < ' ') {
            return Err(CheckpointError::Origin);
        }
        if size > SIZE_MAX {
            return Err(CheckpointError::Size);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            extensions: Vec::new(),
        })
    }

    /// Which log it is of; compared byte for byte and never taken apart.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Lines after the root, which mean something to their log alone.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = encode_hash(&self.root);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.size)?;
        for line in &self.extensions {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = lines.split('\n');
        let mut next = || lines.next().filter(|line| !line.is_empty());
        let (Some(origin), Some(size), Some(root)) = (next(), next(), next()) else {
            return Err(CheckpointError::Lines);
        };
        let number = size.parse().map_err(|_| CheckpointError::Size)?;
        let root = decode_hash(root).ok_or(CheckpointError::Root)?;
        let mut checkpoint = Self::new(origin, number, root)?;
        if checkpoint.size.to_string() != size {
            return Err(CheckpointError::Size);
        }
        checkpoint.extensions = lines.map(str::to_owned).collect();
        let extended = |line: &String| !line.is_empty() && !line.contains(|c: char| c < ' ');
        if !checkpoint.extensions.iter().all(extended) || checkpoint.to_string() != text {
            return Err(CheckpointError::Lines);
        }
        Ok(checkpoint)
    }
}

/// Standard base64 of 32 bytes, in its one form.
pub(super) fn decode_hash(text: &str) -> Option<Hash> {
    let hash = Hash::from_slice(&STANDARD.decode(text).ok()?)?;
    (encode_hash(&hash) == text).then_some(hash)
}

/// The hash as the texts of C2SP write it.
pub(super) fn encode_hash(hash: &Hash) -> String {
    STANDARD.encode(hash.0)
}

/// A checkpoint with its signatures and cosignatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs with each of these keys. The caller has made sure that it extends everything that they signed before.
    ///
    /// # Errors
    /// No signer, too many, or a checkpoint whose text cannot stand in a note.
    pub fn sign(checkpoint: Checkpoint, signers: &[&NoteSigner]) -> Result<Self, CheckpointError> {
        let text = checkpoint.to_string();
        let signatures = signers.iter().map(|signer| signer.sign(&text)).collect();
        let note = Note::new(text, signatures)?;
        Ok(Self { checkpoint, note })
    }

    /// Reads a signed checkpoint. Nothing is verified yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = note.text().parse()?;
        Ok(Self { checkpoint, note })
    }

    /// What is signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note that it stands in.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Adds a cosignature, or the signature of one more key, unless it is there already.
    pub fn add(&mut self, signature: Signature) -> Result<(), CheckpointError> {
        Ok(self.note.add(signature)?)
    }

    /// Which of these keys have signed, at least one of which is the log's: an Ed25519 key whose name is the origin. An Ed25519 key
    /// under another name is no key of this log, whatever it signs; all others are cosigners.
    ///
    /// # Errors
    /// A checkpoint of a log that none of the keys belongs to, a wrong signature, or none by a key of the log.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<Verified<'k>>, CheckpointError> {
        let is_log = |key: &VerifierKey| key.kind() == KeyKind::Ed25519;
        let keys = keys.into_iter();
        let keys: Vec<_> = keys
            .filter(|key| !is_log(key) || key.name() == self.checkpoint.origin)
            .collect();
        let of_log = keys.iter().filter(|key| is_log(key)).count();
        if of_log == 0 {
            return Err(CheckpointError::OtherLog(self.checkpoint.origin.clone()));
        }
        let verified = self.note.verify(keys).map_err(|error| match error {
            NoteError::Unknown(_) => NoteError::Unknown(of_log),
            error => error,
        })?;
        if !verified.iter().any(|one| is_log(one.key)) {
            return Err(NoteError::Unknown(of_log).into());
        }
        Ok(verified)
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
