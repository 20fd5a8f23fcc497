//! Which keys sign a ledger's checkpoints, and up to which size each: folded from its entries.
//!
//! The first key stands in entry 1. A key is added and retired by an entry that carries a statement, a signed note by a key
//! that was valid before, so that who can append entries and has no key cannot make one of his own.

use super::checkpoint::{CheckpointError, SignedCheckpoint, encode_hash};
use super::entry::Hash;
use super::note::{KeyError, KeyKind, Note, NoteError, NoteSigner, VerifierKey};
use crate::domain::event::{Event, LedgerRestored};

/// A key and the sizes of checkpoints for which it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWindow {
    /// The key.
    pub key: VerifierKey,
    /// Number of the entry that added it: valid for checkpoints of this size or larger.
    pub from: u64,
    /// Number of the entry that retired it: not valid from this size on.
    pub until: Option<u64>,
}

impl KeyWindow {
    fn covers(&self, size: u64) -> bool {
        self.from <= size && self.until.is_none_or(|until| size < until)
    }
}

/// An entry about keys or a restore that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyEntryError {
    /// Not a verifier key.
    #[error("it names no key: {0}")]
    Key(KeyError),
    /// Under another name than the ledger's origin, or for something else than checkpoints.
    #[error("it names a key that cannot sign checkpoints of this ledger")]
    OtherName,
    /// There already, or once retired.
    #[error("it adds a key that this ledger has or had")]
    Known,
    /// Not one of the ledger's keys, or retired before.
    #[error("it retires a key that is not in use")]
    NotInUse,
    /// The last one.
    #[error("it retires the only key in use")]
    Last,
    /// The statement is about something else.
    #[error("its statement says something else")]
    Statement,
    /// The statement is not signed by a key that was valid.
    #[error("its statement is not signed by a key of this ledger that was in use: {0}")]
    Unsigned(NoteError),
    /// Sizes that cannot be.
    #[error("it tells of a loss that does not fit its place")]
    Range,
}

/// The keys of one ledger's checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointKeys {
    origin: String,
    windows: Vec<KeyWindow>,
    restores: Vec<(u64, LedgerRestored)>,
}

impl CheckpointKeys {
    /// Takes the next entry, in order; entries about other things change nothing.
    ///
    /// # Errors
    /// The entry does not hold: it changes nothing, and somebody without a key wrote it.
    pub fn apply(&mut self, seq: u64, event: &Event) -> Result<(), KeyEntryError> {
        match event {
            Event::LedgerCreated(created) => {
                created.origin.clone_into(&mut self.origin);
                let key = self.read(&created.checkpoint_key)?;
                self.windows = vec![KeyWindow {
                    key,
                    from: seq,
                    until: None,
                }];
            }
            Event::CheckpointKeyAdded(added) => {
                let key = self.read(&added.vkey)?;
                if self.windows.iter().any(|window| window.key == key) {
                    return Err(KeyEntryError::Known);
                }
                self.check(seq, &added.statement, &added_text(&self.origin, &key))?;
                self.windows.push(KeyWindow {
                    key,
                    from: seq,
                    until: None,
                });
            }
            Event::CheckpointKeyRetired(retired) => {
                let key = self.read(&retired.vkey)?;
                self.check(seq, &retired.statement, &retired_text(&self.origin, &key))?;
                let in_use = |window: &&mut KeyWindow| window.covers(seq);
                if self.windows.iter_mut().filter(in_use).count() < 2 {
                    return Err(KeyEntryError::Last);
                }
                let mut in_use = self.windows.iter_mut().filter(in_use);
                let window = in_use.find(|window| window.key == key);
                window.ok_or(KeyEntryError::NotInUse)?.until = Some(seq);
            }
            Event::LedgerRestored(restored) => {
                let fits = restored.kept < seq
                    && restored.lost_from == restored.kept + 1
                    && restored.lost_to > restored.kept;
                if !fits {
                    return Err(KeyEntryError::Range);
                }
                let text = restored_text(&self.origin, restored);
                self.check(seq, &restored.statement, &text)?;
                self.restores.push((seq, restored.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Origin of the ledger's checkpoints; empty before entry 1.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Every key that the ledger ever had, in the order of their entries.
    pub fn windows(&self) -> &[KeyWindow] {
        &self.windows
    }

    /// The keys for a checkpoint of this size.
    pub fn valid_at(&self, size: u64) -> Vec<VerifierKey> {
        let valid = self.windows.iter().filter(|window| window.covers(size));
        valid.map(|window| window.key.clone()).collect()
    }

    /// The restores that the ledger states, with the numbers of their entries.
    pub fn restores(&self) -> &[(u64, LedgerRestored)] {
        &self.restores
    }

    /// The entry that states the loss of just this checkpoint.
    pub fn lost_exactly(&self, size: u64, root: &Hash) -> Option<&(u64, LedgerRestored)> {
        let stated = |(_, restored): &&(u64, LedgerRestored)| {
            restored.lost_to == size && restored.lost_root == *root
        };
        self.restores.iter().rev().find(stated)
    }

    /// The entry by which a checkpoint of this size may be of a lost history. The history that took its place has the same
    /// sizes: that a size is among the lost ones excuses nothing.
    pub fn lost(&self, size: u64) -> Option<&(u64, LedgerRestored)> {
        let stated = |(_, restored): &&(u64, LedgerRestored)| {
            (restored.lost_from..=restored.lost_to).contains(&size)
        };
        self.restores.iter().rev().find(stated)
    }

    /// Checks that a checkpoint is of this ledger and signed by a key that was valid for its size.
    ///
    /// # Errors
    /// See [`SignedCheckpoint::verify`].
    pub fn verify(&self, checkpoint: &SignedCheckpoint) -> Result<(), CheckpointError> {
        let keys = self.valid_at(checkpoint.checkpoint().size());
        checkpoint.verify(&keys).map(drop)
    }

    /// The same, and that nobody else has signed: for notes that were never outside.
    ///
    /// # Errors
    /// See [`SignedCheckpoint::verify`]; a signature by another key counts as [`NoteError::Unknown`].
    pub fn verify_alone(&self, checkpoint: &SignedCheckpoint) -> Result<(), CheckpointError> {
        let keys = self.valid_at(checkpoint.checkpoint().size());
        let verified = checkpoint.verify(&keys)?;
        if verified.len() < checkpoint.note().signatures().len() {
            return Err(NoteError::Unknown(keys.len()).into());
        }
        Ok(())
    }

    fn read(&self, vkey: &str) -> Result<VerifierKey, KeyEntryError> {
        let key: VerifierKey = vkey.parse().map_err(KeyEntryError::Key)?;
        if key.name() != self.origin || key.kind() != KeyKind::Ed25519 {
            return Err(KeyEntryError::OtherName);
        }
        Ok(key)
    }

    fn check(&self, seq: u64, statement: &str, text: &str) -> Result<(), KeyEntryError> {
        let note = Note::parse(statement.as_bytes()).map_err(KeyEntryError::Unsigned)?;
        if note.text() != text {
            return Err(KeyEntryError::Statement);
        }
        note.verify(&self.valid_at(seq.saturating_sub(1)))
            .map_err(KeyEntryError::Unsigned)?;
        Ok(())
    }
}

/// What is signed when a key is added. The first line keeps it from being taken for a checkpoint.
pub fn added_text(origin: &str, key: &VerifierKey) -> String {
    format!("ledger-checkpoint-key-added-v1\n{origin}\n{key}\n")
}

/// What is signed when a key is retired.
pub fn retired_text(origin: &str, key: &VerifierKey) -> String {
    format!("ledger-checkpoint-key-retired-v1\n{origin}\n{key}\n")
}

/// What is signed when a restore is stated. Its reason is free text and so stands there as its SHA-256.
pub fn restored_text(origin: &str, restored: &LedgerRestored) -> String {
    let LedgerRestored {
        kept,
        lost_from,
        lost_to,
        ..
    } = restored;
    let kept_root = encode_hash(&restored.kept_root);
    let lost_root = encode_hash(&restored.lost_root);
    let reason = Hash::of(restored.reason.as_bytes());
    format!(
        "ledger-restored-v1\n{origin}\nkept {kept} {kept_root}\n\
         lost {lost_from} to {lost_to} {lost_root}\nreason {reason}\n"
    )
}

/// A statement: the text as a note signed by each of these keys.
///
/// # Errors
/// No signer, or a text that cannot stand in a note.
pub fn state(text: String, signers: &[&NoteSigner]) -> Result<String, NoteError> {
    let signatures = signers.iter().map(|signer| signer.sign(&text)).collect();
    Ok(Note::new(text, signatures)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::checkpoint::Checkpoint;
    use crate::domain::event::{CheckpointKeyAdded, CheckpointKeyRetired, LedgerCreated};

    const ORIGIN: &str = "example.com/one";

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new(ORIGIN, &[seed; 32]).unwrap()
    }

    fn created() -> CheckpointKeys {
        let mut keys = CheckpointKeys::default();
        let event = Event::LedgerCreated(LedgerCreated {
            name: "one".to_owned(),
            origin: ORIGIN.to_owned(),
            format: 1,
            clock: "system".to_owned(),
            checkpoint_key: signer(1).verifier_key().to_string(),
            parameters: std::collections::BTreeMap::new(),
        });
        keys.apply(1, &event).unwrap();
        keys
    }

    fn added(new: &NoteSigner, by: &NoteSigner) -> Event {
        let vkey = new.verifier_key();
        let statement = state(added_text(ORIGIN, &vkey), &[by]).unwrap();
        let vkey = vkey.to_string();
        Event::CheckpointKeyAdded(CheckpointKeyAdded { vkey, statement })
    }

    fn retired(old: &NoteSigner, by: &NoteSigner) -> Event {
        let vkey = old.verifier_key();
        let statement = state(retired_text(ORIGIN, &vkey), &[by]).unwrap();
        let vkey = vkey.to_string();
        Event::CheckpointKeyRetired(CheckpointKeyRetired { vkey, statement })
    }

    fn signed(size: u64, by: &[&NoteSigner]) -> SignedCheckpoint {
        let checkpoint = Checkpoint::new(ORIGIN, size, Hash([9; 32])).unwrap();
        SignedCheckpoint::sign(checkpoint, by).unwrap()
    }

    #[test]
    fn a_key_is_valid_from_its_entry_until_the_entry_that_retires_it() {
        let (one, two) = (signer(1), signer(2));
        let mut keys = created();
        keys.apply(5, &added(&two, &one)).unwrap();
        keys.apply(9, &retired(&one, &two)).unwrap();
        for size in [1, 4, 5, 8] {
            keys.verify(&signed(size, &[&one])).unwrap();
        }
        for size in [9, 10] {
            assert!(keys.verify(&signed(size, &[&one])).is_err(), "{size}");
        }
        for size in [5, 8, 9, 100] {
            keys.verify(&signed(size, &[&two])).unwrap();
        }
        assert!(keys.verify(&signed(4, &[&two])).is_err());
        keys.verify_alone(&signed(6, &[&one, &two])).unwrap();
        assert!(keys.verify_alone(&signed(9, &[&one, &two])).is_err());
        keys.verify(&signed(9, &[&one, &two])).unwrap();
    }

    #[test]
    fn who_has_no_key_adds_and_retires_none() {
        let (one, two, three) = (signer(1), signer(2), signer(3));
        let mut keys = created();
        for event in [added(&two, &two), added(&two, &three)] {
            let refused = keys.apply(2, &event);
            assert!(
                matches!(refused, Err(KeyEntryError::Unsigned(_))),
                "{refused:?}"
            );
        }
        let Event::CheckpointKeyAdded(mut other) = added(&two, &one) else {
            panic!("an addition");
        };
        other.vkey = three.verifier_key().to_string();
        let refused = keys.apply(2, &Event::CheckpointKeyAdded(other));
        assert_eq!(refused, Err(KeyEntryError::Statement));
        assert_eq!(keys.apply(2, &added(&one, &one)), Err(KeyEntryError::Known));
        assert_eq!(
            keys.apply(2, &retired(&one, &one)),
            Err(KeyEntryError::Last)
        );
        assert_eq!(keys.valid_at(7), [one.verifier_key()]);
        keys.apply(3, &added(&two, &one)).unwrap();
        keys.apply(4, &retired(&one, &two)).unwrap();
        // What is retired neither signs nor comes back.
        assert!(keys.apply(5, &added(&three, &one)).is_err());
        assert_eq!(keys.apply(5, &added(&one, &two)), Err(KeyEntryError::Known));
        let refused = keys.apply(5, &retired(&one, &two));
        assert_eq!(refused, Err(KeyEntryError::Last));
        assert_eq!(keys.valid_at(7), [two.verifier_key()]);
    }

    #[test]
    fn a_restore_is_stated_by_a_key_and_covers_what_it_names() {
        let mut keys = created();
        let mut restored = LedgerRestored {
            kept: 10,
            kept_root: Hash([1; 32]),
            lost_from: 11,
            lost_to: 20,
            lost_root: Hash([2; 32]),
            reason: "the disk\nburnt".to_owned(),
            statement: String::new(),
        };
        let text = restored_text(ORIGIN, &restored);
        restored.statement = state(text.clone(), &[&signer(2)]).unwrap();
        assert!(
            keys.apply(11, &Event::LedgerRestored(restored.clone()))
                .is_err()
        );
        restored.statement = state(text, &[&signer(1)]).unwrap();
        for (seq, edit) in [(10, 10), (11, 9)] {
            let mut other = restored.clone();
            other.kept = edit;
            assert!(keys.apply(seq, &Event::LedgerRestored(other)).is_err());
        }
        let mut other = restored.clone();
        other.reason.push('x');
        assert!(keys.apply(11, &Event::LedgerRestored(other)).is_err());
        keys.apply(11, &Event::LedgerRestored(restored)).unwrap();
        assert_eq!(keys.lost(20).map(|(seq, _)| *seq), Some(11));
        assert!(keys.lost(10).is_none() && keys.lost(21).is_none());
        assert!(keys.lost_exactly(20, &Hash([2; 32])).is_some());
        for (size, root) in [(20, 3), (19, 2), (21, 2)] {
            assert!(keys.lost_exactly(size, &Hash([root; 32])).is_none());
        }
    }
}
