//! The witness protocol <https://c2sp.org/tlog-witness>: what a log asks of a witness, and when a witness may cosign.
//!
//! A witness has one duty: of each log it remembers the largest tree that it cosigned, and cosigns only what extends it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{CheckpointError, SignedCheckpoint, decode_hash};
use super::entry::Hash;
use super::note::{Note, NoteError, VerifierKey};
use super::proof::{HASHES_MAX, ProofError, verify_consistency};

/// A log's request for a cosignature. Its text is the body of `POST <prefix>/add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the tree that the log believes was cosigned last; 0 for none.
    pub old: u64,
    /// That the checkpoint's tree extends the one of `old` leaves.
    pub proof: Vec<Hash>,
    /// What is to be cosigned.
    pub checkpoint: SignedCheckpoint,
}

/// The largest tree of a log that a witness has cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// Why a witness does not cosign. [`Refusal::status`] is what it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a request in its one form.
    #[error("line {0} of the request is not what the protocol has there")]
    Line(usize),
    /// The request's checkpoint cannot be read.
    #[error("read the checkpoint to be cosigned")]
    Checkpoint(#[source] CheckpointError),
    /// A tree smaller than the one it is said to extend.
    #[error("the checkpoint of {size} leaves is smaller than the {old} that it is said to extend")]
    Shrinks {
        /// Leaves that the log believes were cosigned.
        old: u64,
        /// Leaves of the checkpoint.
        size: u64,
    },
    /// A log that this witness does not follow.
    #[error("this witness follows no log {0}")]
    UnknownLog(String),
    /// No right signature by a key of the log.
    #[error("trust the checkpoint as the log's own")]
    Unsigned(#[source] CheckpointError),
    /// The log is wrong about what was cosigned last.
    #[error("the last cosigned checkpoint has {latest} leaves: prove from there")]
    Stale {
        /// Leaves of the last cosigned checkpoint.
        latest: u64,
    },
    /// A fork, or a proof that is none.
    #[error("the checkpoint does not extend the last cosigned one")]
    Fork(#[source] ProofError),
}

impl Refusal {
    /// The HTTP status of the protocol.
    pub fn status(&self) -> u16 {
        match self {
            Self::Line(_) | Self::Checkpoint(_) | Self::Shrinks { .. } => 400,
            Self::Unsigned(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Stale { .. } => 409,
            Self::Fork(_) => 422,
        }
    }
}

impl AddCheckpoint {
    /// Reads a request's body. Nothing is verified yet.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::Line(1))?;
        let (first, mut rest) = text.split_once('\n').ok_or(Refusal::Line(1))?;
        let old = first.strip_prefix("old ").and_then(|old| old.parse().ok());
        let old = old.ok_or(Refusal::Line(1))?;
        let mut proof = Vec::new();
        let mut number = 1;
        loop {
            number += 1;
            let (line, after) = rest.split_once('\n').ok_or(Refusal::Line(number))?;
            rest = after;
            if line.is_empty() {
                break;
            }
            let hash = decode_hash(line).filter(|_| proof.len() < HASHES_MAX);
            proof.push(hash.ok_or(Refusal::Line(number))?);
        }
        let checkpoint = SignedCheckpoint::parse(rest.as_bytes()).map_err(Refusal::Checkpoint)?;
        let request = Self {
            old,
            proof,
            checkpoint,
        };
        // What is left to differ is the number.
        (request.to_string() == text)
            .then_some(request)
            .ok_or(Refusal::Line(1))
    }

    /// Whether a witness that follows the logs of these keys, and last cosigned this tree of the request's log, may cosign; then
    /// with the checkpoint as it is to be kept: signed by the log's known keys and nobody else.
    ///
    /// # Errors
    /// The refusal that the protocol has for it.
    pub fn judge(
        &self,
        keys: &[VerifierKey],
        seen: Option<Seen>,
    ) -> Result<SignedCheckpoint, Refusal> {
        let tree = self.checkpoint.checkpoint();
        let verified = match self.checkpoint.verify(keys) {
            Ok(verified) => verified,
            Err(CheckpointError::OtherLog(origin)) => return Err(Refusal::UnknownLog(origin)),
            Err(error) => return Err(Refusal::Unsigned(error)),
        };
        if self.old > tree.size() {
            let (old, size) = (self.old, tree.size());
            return Err(Refusal::Shrinks { old, size });
        }
        let latest = seen.map_or(0, |seen| seen.size);
        if self.old != latest {
            return Err(Refusal::Stale { latest });
        }
        match seen.filter(|seen| seen.size > 0) {
            Some(seen) => verify_consistency(
                seen.size,
                &seen.root,
                tree.size(),
                &tree.root(),
                &self.proof,
            )
            .map_err(Refusal::Fork)?,
            // Every tree extends the empty one, whose root everybody knows.
            None if !self.proof.is_empty() => {
                return Err(Refusal::Fork(ProofError::Length(self.proof.len())));
            }
            None if tree.size() == 0 && tree.root() != Hash::of(b"") => {
                return Err(Refusal::Fork(ProofError::Root));
            }
            None => {}
        }
        let is_verified = |line: &&super::note::Signature| {
            let by = |one: &super::note::Verified<'_>| {
                one.key.name() == line.name() && one.key.id() == line.key_id()
            };
            verified.iter().any(by)
        };
        let note = self.checkpoint.note();
        let lines = note.signatures().iter().filter(is_verified).cloned();
        Note::new(note.text().to_owned(), lines.collect())
            .and_then(
                |note| match SignedCheckpoint::parse(note.to_string().as_bytes()) {
                    Ok(checkpoint) => Ok(checkpoint),
                    Err(_) => Err(NoteError::Shape),
                },
            )
            .map_err(|error| Refusal::Checkpoint(error.into()))
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", STANDARD.encode(hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::checkpoint::Checkpoint;
    use crate::chain::cosignature::Cosigner;
    use crate::chain::merkle::Frontier;
    use crate::chain::note::NoteSigner;
    use crate::chain::proof::Recipe;

    const ORIGIN: &str = "example.com/log";

    fn log() -> NoteSigner {
        NoteSigner::new(ORIGIN, &[1; 32]).unwrap()
    }

    fn leaf(n: u64, history: u8) -> Hash {
        Hash::of(format!("{n} {history}").as_bytes())
    }

    /// The root of `size` leaves, of which the ones from 5 on depend on the history.
    fn root(size: u64, history: u8) -> Hash {
        let mut tree = Frontier::default();
        tree.extend((0..size).map(|n| leaf(n, if n < 5 { 0 } else { history })));
        tree.root()
    }

    fn seen(size: u64) -> Seen {
        let root = root(size, 0);
        Seen { size, root }
    }

    fn request(old: u64, size: u64, history: u8) -> AddCheckpoint {
        let proof = match old {
            0 => Vec::new(),
            old => Recipe::consistency(old, size)
                .unwrap()
                .build(|_, n| Some(leaf(n, if n < 5 { 0 } else { history })))
                .unwrap(),
        };
        let checkpoint = Checkpoint::new(ORIGIN, size, root(size, history)).unwrap();
        AddCheckpoint {
            old,
            proof,
            checkpoint: SignedCheckpoint::sign(checkpoint, &[&log()]).unwrap(),
        }
    }

    fn keys() -> Vec<VerifierKey> {
        vec![log().verifier_key()]
    }

    #[test]
    fn what_extends_the_last_is_cosigned_and_nothing_else() {
        assert!(request(0, 9, 0).judge(&keys(), None).is_ok());
        assert!(request(0, 0, 0).judge(&keys(), None).is_ok());
        assert!(request(7, 9, 0).judge(&keys(), Some(seen(7))).is_ok());
        assert!(
            request(9, 9, 0).judge(&keys(), Some(seen(9))).is_ok(),
            "again"
        );
        let status = |request: AddCheckpoint, seen| {
            request.judge(&keys(), seen).map_err(|r| r.status()).err()
        };
        assert_eq!(status(request(0, 9, 0), Some(seen(7))), Some(409));
        assert_eq!(status(request(7, 9, 0), None), Some(409));
        assert_eq!(status(request(6, 9, 0), Some(seen(7))), Some(409));
        assert_eq!(status(request(7, 9, 1), Some(seen(7))), Some(422), "a fork");
        assert_eq!(
            status(request(9, 9, 1), Some(seen(9))),
            Some(422),
            "a split view"
        );
        let mut smaller = request(5, 9, 0);
        smaller.old = 12;
        assert_eq!(status(smaller, Some(seen(12))), Some(400));
        let mut proven = request(0, 9, 0);
        proven.proof.push(Hash::ZERO);
        assert_eq!(status(proven, None), Some(422), "a proof from nothing");
        let mut empty = request(0, 0, 0);
        let other = Checkpoint::new(ORIGIN, 0, Hash::ZERO).unwrap();
        empty.checkpoint = SignedCheckpoint::sign(other, &[&log()]).unwrap();
        assert_eq!(status(empty, None), Some(422), "another empty root");
    }

    #[test]
    fn only_logs_that_are_followed_and_have_signed() {
        let other = NoteSigner::new("example.com/other", &[1; 32]).unwrap();
        let unknown = request(0, 9, 0).judge(&[other.verifier_key()], None);
        assert_eq!(unknown.unwrap_err().status(), 404);
        let stolen = NoteSigner::new(ORIGIN, &[2; 32]).unwrap();
        let unsigned = request(0, 9, 0).judge(&[stolen.verifier_key()], None);
        assert_eq!(unsigned.unwrap_err().status(), 403);
    }

    #[test]
    fn what_is_kept_has_the_logs_signatures_alone() {
        let mut asked = request(0, 9, 0);
        let stranger = Cosigner::new("stranger", &[3; 32]).unwrap();
        let line = stranger.cosign(asked.checkpoint.note().text(), 7);
        asked.checkpoint.add(line).unwrap();
        let kept = asked.judge(&keys(), None).unwrap();
        assert_eq!(kept.note().signatures().len(), 1);
        assert_eq!(kept.note().signatures()[0].name(), ORIGIN);
    }

    #[test]
    fn a_request_has_one_form() {
        let text = request(7, 9, 0).to_string();
        let read = AddCheckpoint::parse(text.as_bytes()).unwrap();
        assert_eq!(read, request(7, 9, 0));
        for other in [
            text.replace("old 7", "old 07"),
            text.replace("old 7", "old +7"),
            text.replace("old 7", "old -7"),
            text.replace("old 7\n", ""),
            text.replace("old 7\n", "old 7\r\n"),
            text.replacen("\n\n", "\n", 1),
            text.replacen("=\n", "\n", 1),
            String::new(),
        ] {
            assert!(AddCheckpoint::parse(other.as_bytes()).is_err(), "{other}");
        }
        let line = format!("{}\n", STANDARD.encode([0; 32]));
        let long = text.replace("old 7\n", &format!("old 7\n{}", line.repeat(64)));
        assert!(AddCheckpoint::parse(long.as_bytes()).is_err());
    }
}
