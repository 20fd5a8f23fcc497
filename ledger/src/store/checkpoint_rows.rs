//! The rows of checkpoints and cosignatures. Whoever may write can store rows that nobody signed: they are passed over here, and
//! named by verify.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::checkpoint::{ProveError, failed, number};
use super::{Store, query};
use crate::chain::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::chain::entry::Hash;
use crate::chain::keys::CheckpointKeys;
use crate::chain::note::{Note, SIGNATURES_MAX, Signature, VerifierKey};

/// Rows fetched at once.
const PAGE: i64 = 1_000;

/// A stored checkpoint that the ledger's keys signed.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The note, without cosignatures.
    pub checkpoint: SignedCheckpoint,
    /// Size of the one before, 0 for the first.
    pub before: u64,
}

impl Store {
    /// The stored checkpoint of this size, or the last one.
    ///
    /// # Errors
    /// The database's; an entry about keys that cannot be read.
    pub async fn stored_checkpoint(&self, size: Option<u64>) -> Result<Option<Stored>, ProveError> {
        let keys = self.checkpoint_keys().await?;
        self.genuine_checkpoint(&keys, size).await
    }

    /// The same, by keys that are known.
    pub(super) async fn genuine_checkpoint(
        &self,
        keys: &CheckpointKeys,
        size: Option<u64>,
    ) -> Result<Option<Stored>, ProveError> {
        let what = "read a checkpoint";
        let mut cursor = (i64::MAX, String::new());
        loop {
            let rows = query(
                "select size, before_size, root, note from ledger.checkpoints \
                 where ledger_id = $1 and ($2::bigint is null or size = $2) \
                   and (size, note collate \"C\") < ($3, $4) \
                 order by size desc, note collate \"C\" desc limit $5",
            )
            .bind(self.id().uuid())
            .bind(size.map(number))
            .bind(cursor.0)
            .bind(&cursor.1)
            .bind(PAGE)
            .fetch_all(self.pool())
            .await
            .map_err(failed(what))?;
            let Some(last) = rows.last() else {
                return Ok(None);
            };
            cursor = place(last)?;
            for row in &rows {
                let found = genuine(row, keys)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
    }

    /// Stored checkpoints behind this size, in order: some, or none where there is none.
    ///
    /// # Errors
    /// As [`Store::stored_checkpoint`].
    pub async fn stored_checkpoints(&self, after: u64) -> Result<Vec<Stored>, ProveError> {
        let what = "read the checkpoints";
        let keys = self.checkpoint_keys().await?;
        let mut cursor = (number(after.saturating_add(1)), String::new());
        let mut last = after;
        let mut page = Vec::new();
        while page.is_empty() {
            let rows = query(
                "select size, before_size, root, note from ledger.checkpoints \
                 where ledger_id = $1 and (size, note collate \"C\") > ($2, $3) \
                 order by size, note collate \"C\" limit $4",
            )
            .bind(self.id().uuid())
            .bind(cursor.0)
            .bind(&cursor.1)
            .bind(PAGE)
            .fetch_all(self.pool())
            .await
            .map_err(failed(what))?;
            let Some(end) = rows.last() else { break };
            cursor = place(end)?;
            for row in &rows {
                // Of one size one is enough.
                if let Some(stored) = genuine(row, &keys)?
                    && stored.checkpoint.checkpoint().size() > last
                {
                    last = stored.checkpoint.checkpoint().size();
                    page.push(stored);
                }
            }
        }
        Ok(page)
    }

    /// How many rows of checkpoints there are, made up ones included: what a signer's compare-and-swap goes by.
    pub(super) async fn checkpoint_rows(&self) -> Result<i64, ProveError> {
        let what = "count the checkpoints";
        query("select count(*) as rows from ledger.checkpoints where ledger_id = $1")
            .bind(self.id().uuid())
            .fetch_one(self.pool())
            .await
            .and_then(|row| row.try_get("rows"))
            .map_err(failed(what))
    }

    /// The lines of witnesses on a stored checkpoint, with their keys, as many as a note holds: one by each key, those of `first`
    /// before others. Everybody may have made a key, so that who is looked for should be named.
    ///
    /// # Errors
    /// The database's.
    pub async fn stored_cosignatures(
        &self,
        stored: &SignedCheckpoint,
        first: &[VerifierKey],
    ) -> Result<Vec<(VerifierKey, Signature)>, ProveError> {
        let what = "read the cosignatures";
        let first: Vec<String> = first.iter().map(ToString::to_string).collect();
        let note = stored.note();
        let room = SIGNATURES_MAX.saturating_sub(note.signatures().len());
        let mut lines: Vec<(VerifierKey, Signature)> = Vec::new();
        let mut cursor = (false, String::new(), String::new());
        while lines.len() < room {
            let rows = query(
                "select vkey, line, vkey <> all($3) as other from ledger.cosignatures \
                 where ledger_id = $1 and size = $2 \
                   and (vkey <> all($3), vkey collate \"C\", line collate \"C\") > ($4, $5, $6) \
                 order by vkey <> all($3), vkey collate \"C\", line collate \"C\" limit $7",
            )
            .bind(self.id().uuid())
            .bind(number(stored.checkpoint().size()))
            .bind(&first)
            .bind(cursor.0)
            .bind(&cursor.1)
            .bind(&cursor.2)
            .bind(PAGE)
            .fetch_all(self.pool())
            .await
            .map_err(failed(what))?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let vkey: String = row.try_get("vkey").map_err(failed(what))?;
                let line: String = row.try_get("line").map_err(failed(what))?;
                let other: bool = row.try_get("other").map_err(failed(what))?;
                if let (Ok(key), Ok(signature)) = (vkey.parse::<VerifierKey>(), line.parse())
                    && lines.len() < room
                    && lines.last().is_none_or(|(last, _)| *last != key)
                    && is_by(note, &key, &signature)
                {
                    lines.push((key, signature));
                }
                cursor = (other, vkey, line);
            }
        }
        Ok(lines)
    }

    /// Stores a witness's signature on a stored checkpoint.
    ///
    /// # Errors
    /// The signature does not verify, or the database's answer.
    pub async fn cosign(
        &self,
        stored: &SignedCheckpoint,
        vkey: &VerifierKey,
        signature: &Signature,
    ) -> Result<(), ProveError> {
        let text = stored.note().text().to_owned();
        let note = Note::new(text, vec![signature.clone()]).map_err(CheckpointError::from)?;
        note.verify(std::slice::from_ref(vkey))
            .map_err(CheckpointError::from)?;
        query("select ledger.cosign($1, $2, $3, $4)")
            .bind(self.id().uuid())
            .bind(number(stored.checkpoint().size()))
            .bind(vkey.to_string())
            .bind(signature.to_string())
            .execute(self.pool())
            .await
            .map_err(failed("store the cosignature"))?;
        Ok(())
    }
}

/// Whether a line is this key's signature on a note.
fn is_by(note: &Note, key: &VerifierKey, line: &Signature) -> bool {
    let alone = Note::new(note.text().to_owned(), vec![line.clone()]);
    alone.is_ok_and(|alone| alone.verify([key]).is_ok())
}

fn place(row: &PgRow) -> Result<(i64, String), ProveError> {
    let what = "read a checkpoint";
    Ok((
        row.try_get("size").map_err(failed(what))?,
        row.try_get("note").map_err(failed(what))?,
    ))
}

/// What a row holds, where the ledger's keys signed just that.
fn genuine(row: &PgRow, keys: &CheckpointKeys) -> Result<Option<Stored>, ProveError> {
    let what = "read a checkpoint";
    let size: i64 = row.try_get("size").map_err(failed(what))?;
    let before: i64 = row.try_get("before_size").map_err(failed(what))?;
    let root: &[u8] = row.try_get("root").map_err(failed(what))?;
    let note: &str = row.try_get("note").map_err(failed(what))?;
    let signed = SignedCheckpoint::parse(note.as_bytes()).ok();
    let signed = signed.filter(|signed| {
        let checkpoint = signed.checkpoint();
        number(checkpoint.size()) == size
            && Hash::from_slice(root) == Some(checkpoint.root())
            && keys.verify_alone(signed).is_ok()
    });
    if signed.is_none() {
        tracing::warn!(
            size,
            "a checkpoint that no key of this ledger signed is passed over"
        );
    }
    Ok(signed.map(|checkpoint| Stored {
        checkpoint,
        before: before.unsigned_abs(),
    }))
}
