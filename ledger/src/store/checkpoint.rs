//! Checkpoints: signed after the entries were read again, stored so that no two can disagree, and the proofs that rest on them.

use std::collections::{BTreeSet, HashMap};

use futures_util::TryStreamExt as _;
use sqlx::Row as _;

use super::append::AppendError;
pub use super::checkpoint_rows::Stored;
use super::read::{Filter, ReadError};
use super::signer::{RecordError, SignerRecord};
use super::{Draft, Store, query};
use crate::chain::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::chain::entry::{Entry, Hash, leaf_hash};
use crate::chain::keys::{self, CheckpointKeys, KeyEntryError};
use crate::chain::merkle::Frontier;
use crate::chain::note::{NoteSigner, VerifierKey};
use crate::chain::proof::{Nodes, ProofError, Recipe, verify_consistency, verify_inclusion};
use crate::chain::tiles::WIDTH_MAX;
use crate::domain::event::{Event, LedgerRestored};
use crate::domain::id::{Actor, Subject};

/// Types of the entries that the keys are folded from. They are about the ledger itself.
const KEY_TYPES: [&str; 4] = [
    "ledger.created",
    "checkpoint_key.added",
    "checkpoint_key.retired",
    "ledger.restored",
];
/// Entries fetched at once while all are read again.
const PAGE: i64 = 2_000;

/// A checkpoint was not signed, or a proof not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The database's answer, or a damaged entry.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The signer's record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A stored checkpoint or a note is not what it should be.
    #[error("read a checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// An entry about keys does not hold.
    #[error("entry {seq} about the checkpoints' keys does not hold: run `ledger verify`")]
    Keys {
        /// Which entry.
        seq: u64,
        /// Why not.
        #[source]
        source: KeyEntryError,
    },
    /// None of the keys at hand is in use.
    #[error("no key at hand signs checkpoints of {size} entries of this ledger")]
    NoKey {
        /// The size.
        size: u64,
    },
    /// The database holds less than what was signed: it was put back to an earlier state.
    #[error(
        "a checkpoint of {signed} entries was signed here, and the database holds {found}: it was restored from an older \
         backup, and signing now would be a fork"
    )]
    Behind {
        /// Size of the last signed checkpoint.
        signed: u64,
        /// Entries in the database.
        found: u64,
    },
    /// The entries are not those that were signed.
    #[error(
        "the first {size} entries are not those of the checkpoint that {whose}: signing now would be a fork"
    )]
    Fork {
        /// Size of that checkpoint.
        size: u64,
        /// Who knows it, in words.
        whose: &'static str,
    },
    /// Another signer stored a checkpoint meanwhile.
    #[error("another signer stored a checkpoint meanwhile")]
    Raced,
    /// There is no checkpoint that covers the entry.
    #[error("no checkpoint covers entry {seq} yet")]
    NotCovered {
        /// The entry.
        seq: u64,
    },
    /// The stored tree does not prove what it should.
    #[error("the stored tree proves nothing here: run `ledger verify`")]
    Tree(#[source] ProofError),
    /// The ledger is not behind what was signed.
    #[error("this ledger holds all that was signed here: nothing was lost")]
    NothingLost,
    /// An entry could not be appended.
    #[error("append the entry")]
    Append(#[source] AppendError),
    /// A statement could not be signed.
    #[error("sign the statement")]
    Statement(#[source] crate::chain::note::NoteError),
}

impl From<CheckpointError> for ProveError {
    fn from(source: CheckpointError) -> Self {
        Self::Checkpoint(source)
    }
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ProveError {
    move |source| ProveError::Read(ReadError::Database { what, source })
}

pub(super) fn number(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A checkpoint as [`Store::sign_checkpoint`] gives it.
#[derive(Debug)]
pub struct Signed {
    /// The note.
    pub checkpoint: SignedCheckpoint,
    /// False where nothing was appended since the last one, which this then is.
    pub new: bool,
    /// Size of the stored checkpoint that was taken for the last signed one, where this signer had no record of any.
    pub taken_over: Option<u64>,
    /// Keys in use that did not sign, because their private part was not at hand.
    pub unsigned_by: Vec<VerifierKey>,
}

impl Store {
    /// The keys of this ledger's checkpoints, folded from its entries.
    ///
    /// # Errors
    /// The database's; [`ProveError::Keys`] for an entry that no key signed.
    pub async fn checkpoint_keys(&self) -> Result<CheckpointKeys, ProveError> {
        let found = self.checkpoint_keys_until(u64::MAX).await;
        found.map(|(keys, _)| keys)
    }

    /// The keys as the first entries name them, and the entries that this was folded from or that say what no key signed. They are
    /// found by their columns: who has to be sure reads all entries, and compares.
    pub(super) async fn checkpoint_keys_until(
        &self,
        size: u64,
    ) -> Result<(CheckpointKeys, BTreeSet<u64>), ProveError> {
        let filter = Filter {
            subject: Some(Subject::of_ledger(self.id())),
            types: KEY_TYPES
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            to: Some(size),
            ..Filter::default()
        };
        let mut folded = CheckpointKeys::default();
        let mut found = BTreeSet::new();
        let mut entries = std::pin::pin!(self.read(filter));
        while let Some(recorded) = entries.try_next().await? {
            let (entry, seq) = (&recorded.entry, recorded.entry.seq);
            found.insert(seq);
            let damaged = || ReadError::Damaged { seq: number(seq) };
            let json = recorded.payload.json().ok_or_else(damaged)?;
            let event = Event::decode(entry.event_type.as_str(), entry.schema, json)
                .map_err(|_| damaged())?;
            match folded.apply(seq, &event) {
                Ok(()) => {}
                // Whoever may append can append what no key signed: it changes nothing, and verify names it.
                Err(error) if seq > 1 => {
                    tracing::warn!(seq, %error, "an entry about keys is passed over");
                }
                Err(source) => return Err(ProveError::Keys { seq, source }),
            }
        }
        Ok((folded, found))
    }

    /// Signs a checkpoint over all entries and stores it. Every entry is read again first; what was signed before must be the
    /// beginning of what is signed now. The record is written before anybody can see the note.
    ///
    /// # Errors
    /// See [`ProveError`]; nothing was signed, or nobody has seen it.
    pub async fn sign_checkpoint(
        &self,
        signers: &[NoteSigner],
        record: &SignerRecord,
    ) -> Result<Signed, ProveError> {
        let _lock = record.lock()?;
        let signed = record.last()?;
        // Before all else that is read: a row that comes meanwhile is then seen by the compare-and-swap.
        let rows = self.checkpoint_rows().await?;
        let head = self.head().await?;
        if let Some(signed) = signed.as_ref().filter(|signed| signed.size() > head.size) {
            return Err(ProveError::Behind {
                signed: signed.size(),
                found: head.size,
            });
        }
        let (folded, of_keys) = self.checkpoint_keys_until(u64::MAX).await?;
        let last = self.genuine_checkpoint(&folded, None).await?;
        let last_size = last
            .as_ref()
            .map_or(0, |last| last.checkpoint.checkpoint().size());
        if last_size > head.size {
            let found = self.head().await?.size;
            return Err(if last_size > found {
                ProveError::Behind {
                    signed: last_size,
                    found,
                }
            } else {
                ProveError::Raced
            });
        }
        let same = |last: &Stored| {
            signed
                .as_ref()
                .is_none_or(|one| one == last.checkpoint.checkpoint())
        };
        // Without a record, what was stored last is taken for what was signed last, and has to be of these entries.
        let taken_over = last.as_ref().filter(|_| signed.is_none());
        let taken_over = taken_over.map(|last| last.checkpoint.checkpoint().clone());
        let known = [
            (signed.as_ref(), "this signer signed last"),
            (
                last.as_ref().map(|last| last.checkpoint.checkpoint()),
                "was stored last",
            ),
        ];
        let nothing_new = match last.as_ref().filter(|last| same(last)) {
            Some(last) if self.only_publications(last_size, head.size).await? => Some(Signed {
                checkpoint: last.checkpoint.clone(),
                new: false,
                taken_over: taken_over.as_ref().map(Checkpoint::size),
                unsigned_by: Vec::new(),
            }),
            _ => None,
        };
        if let Some(nothing_new) = nothing_new {
            if let Some(last) = &taken_over {
                self.read_again(head.size, &known, Some(&of_keys)).await?;
                record.remember(last)?;
            }
            return Ok(nothing_new);
        }
        let root = self.read_again(head.size, &known, Some(&of_keys)).await?;
        let valid = folded.valid_at(head.size);
        let (mine, others): (Vec<_>, Vec<_>) = valid
            .into_iter()
            .partition(|key| signers.iter().any(|signer| signer.verifier_key() == *key));
        let signing: Vec<&NoteSigner> = signers
            .iter()
            .filter(|signer| mine.contains(&signer.verifier_key()))
            .collect();
        if signing.is_empty() {
            return Err(ProveError::NoKey { size: head.size });
        }
        let checkpoint = Checkpoint::new(folded.origin(), head.size, root)?;
        let note = SignedCheckpoint::sign(checkpoint.clone(), &signing)?;
        folded.verify_alone(&note)?;
        record.remember(&checkpoint)?;
        let stored: bool = query("select ledger.checkpoint($1, $2, $3, $4, $5, $6) as stored")
            .bind(self.id().uuid())
            .bind(number(head.size))
            .bind(root.0.as_slice())
            .bind(note.to_string())
            .bind(number(last_size))
            .bind(rows)
            .fetch_one(self.pool())
            .await
            .and_then(|row| row.try_get("stored"))
            .map_err(failed("store the checkpoint"))?;
        if !stored {
            return Err(ProveError::Raced);
        }
        Ok(Signed {
            checkpoint: note,
            new: true,
            taken_over: taken_over.as_ref().map(Checkpoint::size),
            unsigned_by: others,
        })
    }

    /// Whether the entries behind `from`, up to `to`, are nothing but publications.
    async fn only_publications(&self, from: u64, to: u64) -> Result<bool, ProveError> {
        let what = "look for entries without a checkpoint";
        let row = query(
            "select not exists (select from ledger.entries \
                                where ledger_id = $1 and seq > $2 and seq <= $3 and type <> 'checkpoint.published') as only",
        )
        .bind(self.id().uuid())
        .bind(number(from))
        .bind(number(to))
        .fetch_one(self.pool())
        .await
        .map_err(failed(what))?;
        row.try_get("only").map_err(failed(what))
    }

    /// Reads the first `size` entries as they lie in the database, checks that they are linked and that those about keys are among
    /// these, and gives the root over them.
    async fn read_again(
        &self,
        size: u64,
        known: &[(Option<&Checkpoint>, &'static str)],
        of_keys: Option<&BTreeSet<u64>>,
    ) -> Result<Hash, ProveError> {
        let what = "read the entries again";
        let mut tree = Frontier::default();
        let mut prev = Hash::ZERO;
        while tree.size() < size {
            let rows = query(
                "select seq, hash, bytes from ledger.entries \
                 where ledger_id = $1 and seq > $2 and seq <= $3 order by seq limit $4",
            )
            .bind(self.id().uuid())
            .bind(number(tree.size()))
            .bind(number(size))
            .bind(PAGE)
            .fetch_all(self.pool())
            .await
            .map_err(failed(what))?;
            if rows.is_empty() {
                let seq = number(tree.size() + 1);
                return Err(ReadError::Damaged { seq }.into());
            }
            for row in &rows {
                let seq: i64 = row.try_get("seq").map_err(failed(what))?;
                let bytes: &[u8] = row.try_get("bytes").map_err(failed(what))?;
                let hash: &[u8] = row.try_get("hash").map_err(failed(what))?;
                let computed = leaf_hash(bytes);
                // An entry about keys whose columns were edited was not found by them.
                let is_found = |entry: &Entry| {
                    of_keys.is_none_or(|found| found.contains(&entry.seq))
                        || !KEY_TYPES.contains(&entry.event_type.as_str())
                        || entry.subject != Subject::of_ledger(self.id())
                };
                let sound = Hash::from_slice(hash) == Some(computed)
                    && seq == number(tree.size() + 1)
                    && Entry::from_bytes(bytes).is_ok_and(|entry| {
                        entry.prev == prev
                            && entry.ledger == self.id()
                            && number(entry.seq) == seq
                            && is_found(&entry)
                    });
                if !sound {
                    return Err(ReadError::Damaged { seq }.into());
                }
                prev = computed;
                tree.push(computed);
                for (checkpoint, whose) in known {
                    if let Some(checkpoint) = checkpoint
                        && checkpoint.size() == tree.size()
                        && checkpoint.root() != tree.root()
                    {
                        let size = tree.size();
                        return Err(ProveError::Fork { size, whose });
                    }
                }
            }
        }
        Ok(tree.root())
    }

    /// The hashes of a recipe, from the stored tree and, where it has not grown so far, from the entries. Nothing is written.
    ///
    /// # Errors
    /// The database's; a node that cannot be had.
    pub async fn stored_proof(&self, recipe: &Recipe) -> Result<Vec<Hash>, ProveError> {
        let mut nodes = HashMap::new();
        for run in recipe.nodes() {
            for (index, hash) in (run.first..).zip(self.nodes(run).await?) {
                nodes.insert((run.level, index), hash);
            }
        }
        recipe
            .build(|level, index| nodes.get(&(level, index)).copied())
            .map_err(ProveError::Tree)
    }

    /// A run of nodes: as stored, and behind the first that is not, each folded from the row below it. Shorter where the entries
    /// end.
    async fn nodes(&self, run: Nodes) -> Result<Vec<Hash>, ProveError> {
        let mut hashes = self.stored_nodes(run).await?;
        while run.level > 0 && (hashes.len() as u64) < run.count {
            let index = run.first + hashes.len() as u64;
            let below = Nodes {
                level: run.level - 1,
                first: index.saturating_mul(u64::from(WIDTH_MAX)),
                count: u64::from(WIDTH_MAX),
            };
            let row = Box::pin(self.nodes(below)).await?;
            if row.len() as u64 != below.count {
                break;
            }
            let mut subtree = Frontier::default();
            subtree.extend(row);
            hashes.push(subtree.root());
        }
        Ok(hashes)
    }

    /// A run of stored nodes; shorter where some are missing.
    async fn stored_nodes(&self, run: Nodes) -> Result<Vec<Hash>, ProveError> {
        let what = "read the tree";
        let statement = if run.level == 0 {
            "select hash, seq - 1 as index from ledger.entries \
             where ledger_id = $1 and $2::smallint = 0 and seq > $3 and seq <= $3 + $4 order by seq"
        } else {
            "select hash, index from ledger.tree \
             where ledger_id = $1 and level = $2 and index >= $3 and index < $3 + $4 order by index"
        };
        let rows = query(statement)
            .bind(self.id().uuid())
            .bind(i16::from(run.level))
            .bind(number(run.first))
            .bind(number(run.count))
            .fetch_all(self.pool())
            .await
            .map_err(failed(what))?;
        let mut hashes = Vec::with_capacity(rows.len());
        for (expected, row) in (run.first..).zip(&rows) {
            let index: i64 = row.try_get("index").map_err(failed(what))?;
            let hash = Hash::from_slice(row.try_get("hash").map_err(failed(what))?);
            match hash {
                Some(hash) if index == number(expected) => hashes.push(hash),
                _ => break,
            }
        }
        Ok(hashes)
    }

    /// The root over the first `size` entries, by the tree.
    ///
    /// # Errors
    /// The database's; fewer entries.
    pub async fn root_at(&self, size: u64) -> Result<Hash, ProveError> {
        Ok(self.stored_frontier(size).await?.root())
    }

    /// The tree over the first `size` entries, to go on from.
    ///
    /// # Errors
    /// The database's; a node that is not there.
    pub(super) async fn stored_frontier(&self, size: u64) -> Result<Frontier, ProveError> {
        let mut roots = Vec::new();
        if size > 0 {
            let recipe = Recipe::root(size).map_err(ProveError::Tree)?;
            for run in recipe.nodes() {
                let hashes = self.nodes(run).await?;
                let missing = ProofError::Missing {
                    level: run.level,
                    index: run.first,
                };
                if hashes.len() as u64 != run.count {
                    return Err(ProveError::Tree(missing));
                }
                let mut subtree = Frontier::default();
                subtree.extend(hashes);
                roots.push(subtree.root());
            }
        }
        Frontier::resume(size, roots).ok_or(ProveError::Tree(ProofError::Root))
    }

    /// Proves that an entry is in a checkpoint: the hashes of RFC 6962 section 2.1.1, checked before they are given out.
    ///
    /// # Errors
    /// See [`ProveError`].
    pub async fn prove_entry(
        &self,
        seq: u64,
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Hash>, ProveError> {
        if seq == 0 || seq > checkpoint.size() {
            return Err(ProveError::NotCovered { seq });
        }
        let recorded = self.get(seq).await?;
        let recorded = recorded.ok_or(ReadError::Damaged { seq: number(seq) })?;
        let index = seq - 1;
        let size = checkpoint.size();
        let recipe = Recipe::inclusion(index, size).map_err(ProveError::Tree)?;
        let proof = self.stored_proof(&recipe).await?;
        verify_inclusion(&recorded.hash, index, size, &proof, &checkpoint.root())
            .map_err(ProveError::Tree)?;
        Ok(proof)
    }

    /// Proves that a checkpoint extends an older one: the hashes of RFC 6962 section 2.1.2, checked before they are given out.
    ///
    /// # Errors
    /// [`ProveError::Fork`] where it does not; see [`ProveError`].
    pub async fn prove_consistency(
        &self,
        old: &Checkpoint,
        new: &Checkpoint,
    ) -> Result<Vec<Hash>, ProveError> {
        let recipe = Recipe::consistency(old.size(), new.size()).map_err(ProveError::Tree)?;
        let proof = self.stored_proof(&recipe).await?;
        let verified = verify_consistency(old.size(), &old.root(), new.size(), &new.root(), &proof);
        match verified {
            Ok(()) => Ok(proof),
            // The new root comes out of the stored tree: it is the old one that is of another history.
            Err(ProofError::OldRoot) => Err(ProveError::Fork {
                size: old.size(),
                whose: "was given",
            }),
            Err(ProofError::Root) if old.size() == new.size() => Err(ProveError::Fork {
                size: old.size(),
                whose: "was given",
            }),
            Err(error) => Err(ProveError::Tree(error)),
        }
    }

    /// States, signed, that entries were lost when the ledger was restored from a backup older than what this signer signed, and
    /// takes the ledger as it is for the beginning of what is signed from now on.
    ///
    /// # Errors
    /// [`ProveError::NothingLost`]; see [`ProveError`].
    pub async fn state_restored(
        &self,
        signers: &[NoteSigner],
        record: &SignerRecord,
        reason: &str,
        actor: Actor,
    ) -> Result<LedgerRestored, ProveError> {
        let _lock = record.lock()?;
        let signed = record.last()?.ok_or(ProveError::NothingLost)?;
        let folded = self.checkpoint_keys().await?;
        let stated = folded.lost_exactly(signed.size(), &signed.root());
        // A run that ended between the entry and the record has the rest to do.
        let restored = if let Some((_, restored)) = stated {
            restored.clone()
        } else {
            let restored = self.restored(&folded, &signed, signers, reason).await?;
            let subject = Subject::of_ledger(self.id());
            let event = Event::LedgerRestored(restored.clone());
            let mut draft =
                Draft::of(&event, subject.clone(), actor, subject).map_err(ProveError::Append)?;
            draft.recorded_at = self.simulated_now().await?;
            self.append(draft).await.map_err(ProveError::Append)?;
            restored
        };
        let head = self.head().await?;
        let root = self.read_again(head.size, &[], None).await?;
        record.remember(&Checkpoint::new(folded.origin(), head.size, root)?)?;
        Ok(restored)
    }

    async fn restored(
        &self,
        folded: &CheckpointKeys,
        signed: &Checkpoint,
        signers: &[NoteSigner],
        reason: &str,
    ) -> Result<LedgerRestored, ProveError> {
        let head = self.head().await?;
        let mut kept = head.size;
        if signed.size() <= head.size {
            let known = [(Some(signed), "this signer signed last")];
            match self.read_again(head.size, &known, None).await {
                Ok(_) => return Err(ProveError::NothingLost),
                // It has grown again since it was put back: common is what the last checkpoint in it speaks for.
                Err(ProveError::Fork { .. }) => {
                    let last = self.genuine_checkpoint(folded, None).await?;
                    kept = last.map_or(1, |last| last.checkpoint.checkpoint().size());
                    kept = kept.min(signed.size().saturating_sub(1));
                }
                Err(error) => return Err(error),
            }
        }
        let kept_root = self.read_again(kept, &[], None).await?;
        let valid = folded.valid_at(head.size);
        let signing: Vec<&NoteSigner> = signers
            .iter()
            .filter(|signer| valid.contains(&signer.verifier_key()))
            .collect();
        if signing.is_empty() {
            return Err(ProveError::NoKey { size: head.size });
        }
        let mut restored = LedgerRestored {
            kept,
            kept_root,
            lost_from: kept + 1,
            lost_to: signed.size(),
            lost_root: signed.root(),
            reason: reason.to_owned(),
            statement: String::new(),
        };
        let text = keys::restored_text(folded.origin(), &restored);
        restored.statement = keys::state(text, &signing).map_err(ProveError::Statement)?;
        Ok(restored)
    }
}
