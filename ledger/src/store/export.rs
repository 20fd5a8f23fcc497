//! Copies that leave the ledger: what they are proved by, and what is recorded of each.

use sqlx::Row as _;

use super::append::AppendError;
use super::checkpoint::ProveError;
use super::read::{Filter, ReadError};
use super::{Draft, Store};
use crate::chain::bundle::BundleError;
use crate::chain::checkpoint::SignedCheckpoint;
use crate::chain::entry::Entry;
use crate::chain::note::VerifierKey;
use crate::chain::tiles::TileError;
use crate::domain::event::{Event, ExportMade};
use crate::domain::id::{Actor, Subject};

/// An export was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The database's answer, or a damaged entry.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A checkpoint or the stored tree.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// Nothing was signed yet.
    #[error("no checkpoint was signed yet, and an export is proved by one")]
    NoCheckpoint,
    /// No entry of the checkpoint is what was asked for.
    #[error("none of the {size} entries of the last checkpoint is what was asked for")]
    Nothing {
        /// Entries of the checkpoint.
        size: u64,
    },
    /// What was put together does not check.
    #[error("check the bundle before it is given out")]
    Unsound(#[source] BundleError),
    /// What is stored is not what was signed.
    #[error("{what} is not what the checkpoint of {size} entries proves")]
    Altered {
        /// Which part of the tree.
        what: String,
        /// Size of the checkpoint.
        size: u64,
    },
    /// An entry that does not fit the layout.
    #[error("put the entries into tiles")]
    Tile(#[source] TileError),
    /// A file could not be written or read back.
    #[error("write the bundle")]
    File(#[source] std::io::Error),
    /// The export could not be recorded.
    #[error("record the export")]
    Append(#[source] AppendError),
}

/// What an export is proved by.
#[derive(Debug, Clone)]
pub struct Proved {
    /// The last checkpoint, with its cosignatures.
    pub checkpoint: SignedCheckpoint,
    /// Keys of who signed it: the ledger's that are in use at its size, and its witnesses'.
    pub keys: Vec<VerifierKey>,
}

pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ReadError {
    move |source| ReadError::Database { what, source }
}

impl Store {
    /// The last checkpoint with all that speaks for it.
    pub async fn last_proved(&self) -> Result<Proved, ExportError> {
        let stored = self.stored_checkpoint(None).await?;
        let mut checkpoint = stored.ok_or(ExportError::NoCheckpoint)?.checkpoint;
        let size = checkpoint.checkpoint().size();
        let mut keys = self.checkpoint_keys().await?.valid_at(size);
        let lines = self.stored_cosignatures(&checkpoint, &[]).await?;
        for (key, line) in lines {
            checkpoint.add(line).map_err(ProveError::Checkpoint)?;
            keys.push(key);
        }
        Ok(Proved { checkpoint, keys })
    }

    /// Records an export; the number of the entry.
    pub async fn record_export(&self, made: ExportMade, actor: Actor) -> Result<u64, ExportError> {
        let subject = Subject::of_ledger(self.id());
        let event = Event::ExportMade(made);
        let mut draft =
            Draft::of(&event, subject.clone(), actor, subject).map_err(ExportError::Append)?;
        draft.recorded_at = self.simulated_now().await?;
        let appended = self.append(draft).await.map_err(ExportError::Append)?;
        Ok(appended.entry.seq)
    }

    /// Entries with their exact bytes and, where they are asked for and the keys at hand open them, salt ‖ payload.
    pub(super) async fn salted_page(
        &self,
        filter: &Filter,
        after: u64,
        with_payloads: bool,
    ) -> Result<Vec<(Entry, Vec<u8>, Option<Vec<u8>>)>, ReadError> {
        let mut page = Vec::new();
        for row in self.rows(filter, after).await? {
            let seq: i64 = row.try_get("seq").map_err(failed("read an entry"))?;
            let bytes: Vec<u8> = row.try_get("bytes").map_err(failed("read an entry"))?;
            let entry = Entry::from_bytes(&bytes).map_err(|_| ReadError::Damaged { seq })?;
            let salted = if with_payloads {
                self.salted(&entry, &row).await?
            } else {
                None
            };
            page.push((entry, bytes, salted));
        }
        Ok(page)
    }
}
