//! Rows of the proof that belong to nothing: checkpoints and nodes of no ledger or no entries, and cosignatures.

use sqlx::{PgConnection, Row as _};

use super::{TreeCheck, failed, last_entry, node_words, words_of};
use crate::chain::checkpoint::SignedCheckpoint;
use crate::chain::note::{Note, Signature, VerifierKey};
use crate::chain::verify::How;
use crate::store::query;
use crate::store::read::ReadError;

impl TreeCheck {
    /// Checkpoints under the id of no ledger, which were some ledger's before their row was edited.
    pub(super) async fn stray_checkpoints(
        &mut self,
        snapshot: &mut PgConnection,
    ) -> Result<(), ReadError> {
        let what = "look for checkpoints of no ledger";
        let rows = query(
            "select note from ledger.checkpoints c \
             where not exists (select from ledger.heads h where h.ledger_id = c.ledger_id) limit 1000",
        )
        .fetch_all(snapshot)
        .await
        .map_err(failed(what))?;
        for row in &rows {
            let note: &str = row.try_get("note").map_err(failed(what))?;
            let Ok(signed) = SignedCheckpoint::parse(note.as_bytes()) else {
                continue;
            };
            let checkpoint = signed.checkpoint();
            if checkpoint.origin() == self.keys.origin() {
                self.displaced.insert(checkpoint.size());
                let why = "its row stands under no ledger".to_owned();
                self.fault(checkpoint.size(), How::CheckpointAltered(why), None);
            }
        }
        Ok(())
    }

    /// Nodes that no entries make, and those that are missing under a checkpoint. Gives words about nodes of no ledger.
    pub(super) async fn stray_nodes(
        &mut self,
        snapshot: &mut PgConnection,
    ) -> Result<Option<String>, ReadError> {
        let what = "look for nodes of no entries";
        let rows = query(
            "select t.level, t.index, t.ledger_id = $1 as own from ledger.tree t \
             where t.ledger_id = $1 and (t.index::numeric + 1) * power(256::numeric, t.level) > $2 \
                or not exists (select from ledger.heads h where h.ledger_id = t.ledger_id) \
             order by t.ledger_id <> $1, t.level, t.index limit 1000",
        )
        .bind(self.ledger.uuid())
        .bind(i64::try_from(self.last_seq).unwrap_or(i64::MAX))
        .fetch_all(snapshot)
        .await
        .map_err(failed(what))?;
        let (gone, not_grown): (Vec<_>, Vec<_>) = std::mem::take(&mut self.missing)
            .into_iter()
            .partition(|(level, index)| last_entry(*level, *index) <= self.last_checkpoint);
        // A row that was given another place is missed at its own: one edit.
        let mut moved = gone.len();
        for (level, index) in gone {
            let why = format!("{} is gone", node_words(level, index));
            self.fault(last_entry(level, index), How::NodeAltered(why), None);
        }
        let mut of_no_ledger = 0_u64;
        for row in &rows {
            if moved > 0 {
                moved -= 1;
                continue;
            }
            let level: i16 = row.try_get("level").map_err(failed(what))?;
            let index: i64 = row.try_get("index").map_err(failed(what))?;
            let own: bool = row.try_get("own").map_err(failed(what))?;
            let (level, index) = (u32::from(level.unsigned_abs()), index.unsigned_abs());
            let last = last_entry(level, index);
            let words = node_words(level, index);
            if own {
                let why = format!("{words} is of entries that are not there");
                let rests_on = Some((self.last_seq + 1, last));
                self.fault(last, How::NodeAltered(why), rests_on);
            } else if not_grown.contains(&(level, index)) {
                let why = format!("{words} stands under no ledger");
                self.fault(last, How::NodeAltered(why), None);
            } else {
                of_no_ledger += 1;
            }
        }
        Ok((of_no_ledger > 0).then(|| {
            format!("{of_no_ledger} stored nodes of the tree that stand under no ledger and are missed in none of this one's")
        }))
    }

    pub(super) async fn cosignatures(
        &mut self,
        snapshot: &mut PgConnection,
    ) -> Result<(), ReadError> {
        let what = "read the cosignatures";
        let mut after = (i64::MIN, String::new(), String::new());
        loop {
            let rows = query(
                "select s.size, s.vkey, s.line, \
                        array(select c.note from ledger.checkpoints c \
                              where c.ledger_id = s.ledger_id and c.size = s.size limit 100) as notes \
                 from ledger.cosignatures s \
                 where (s.ledger_id = $1 or not exists (select from ledger.heads h where h.ledger_id = s.ledger_id)) \
                   and (s.size, s.vkey collate \"C\", s.line collate \"C\") > ($2, $3, $4) \
                 order by s.size, s.vkey collate \"C\", s.line collate \"C\" limit 500",
            )
            .bind(self.ledger.uuid())
            .bind(after.0)
            .bind(&after.1)
            .bind(&after.2)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed(what))?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = (
                last.try_get("size").map_err(failed(what))?,
                last.try_get("vkey").map_err(failed(what))?,
                last.try_get("line").map_err(failed(what))?,
            );
            for row in &rows {
                let size: i64 = row.try_get("size").map_err(failed(what))?;
                let vkey: &str = row.try_get("vkey").map_err(failed(what))?;
                let line: &str = row.try_get("line").map_err(failed(what))?;
                let notes: Vec<String> = row.try_get("notes").map_err(failed(what))?;
                if notes.is_empty() && self.displaced.contains(&size.unsigned_abs()) {
                    // The checkpoint is named.
                } else if notes.is_empty() {
                    let why = format!("there is no checkpoint of size {size}, which it is of");
                    self.fault(self.last_checkpoint, How::CosignatureAltered(why), None);
                } else if let Some(why) = cosignature_fault(vkey, line, &notes) {
                    self.unsigned(size.unsigned_abs(), How::CosignatureAltered(why));
                }
            }
        }
    }
}

/// What is wrong with a witness's line on each of the notes of its size.
fn cosignature_fault(vkey: &str, line: &str, notes: &[String]) -> Option<String> {
    let key: VerifierKey = match vkey.parse() {
        Ok(key) => key,
        Err(error) => return Some(words_of(&error)),
    };
    let signature: Signature = match line.parse() {
        Ok(signature) => signature,
        Err(error) => return Some(words_of(&error)),
    };
    let mut fault = None;
    for note in notes {
        let verified = Note::parse(note.as_bytes()).and_then(|note| {
            let alone = Note::new(note.text().to_owned(), vec![signature.clone()])?;
            alone.verify(std::slice::from_ref(&key)).map(drop)
        });
        match verified {
            Ok(()) => return None,
            Err(error) => fault = fault.or_else(|| Some(words_of(&error))),
        }
    }
    fault
}
