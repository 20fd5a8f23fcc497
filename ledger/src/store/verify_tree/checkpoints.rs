//! The rows of checkpoints: read ahead of the entries that they speak for, and told apart into those that were signed, those that
//! were altered, and those that somebody made up who may write.

use std::collections::{BTreeSet, VecDeque};

use sqlx::{PgConnection, Row as _};

use super::{SETTLE_EVERY, TreeCheck, failed, words_of};
use crate::chain::checkpoint::SignedCheckpoint;
use crate::chain::entry::Hash;
use crate::chain::verify::{How, LISTED_MAX};
use crate::domain::id::LedgerId;
use crate::store::query;
use crate::store::read::ReadError;

/// Most rows that are read of the sizes between two calls of [`TreeCheck::settle`]. Of one size there is one, unless some are
/// made up.
const WINDOW_ROWS_MAX: i64 = 4 * SETTLE_EVERY.cast_signed();
/// Rows read at once when no more entries come.
const PAGE: i64 = 1_000;

#[derive(Debug)]
pub(super) struct StoredCheckpoint {
    size: u64,
    before: u64,
    root: Option<Hash>,
    note: String,
}

/// The rows of one ledger, in the order of their sizes.
#[derive(Debug)]
pub(super) struct Rows {
    ledger: LedgerId,
    ready: VecDeque<StoredCheckpoint>,
    /// Largest size that a row has, and the place up to which all were read.
    largest: i64,
    read_to: (i64, String),
    crowded: bool,
    /// Sizes that the next sound row may say that it follows: of the last sound one, and of rows since then that are none, since
    /// an altered one was one. None where it may follow anything, because it is not known what was before.
    before: Option<BTreeSet<u64>>,
}

impl Rows {
    pub(super) async fn start(
        snapshot: &mut PgConnection,
        ledger: LedgerId,
        from: u64,
    ) -> Result<Self, ReadError> {
        let row = query(
            "select coalesce(max(size), 0) as largest from ledger.checkpoints where ledger_id = $1",
        )
        .bind(ledger.uuid())
        .fetch_one(snapshot)
        .await
        .map_err(failed("look at the checkpoints"))?;
        let largest = row.try_get("largest");
        let from_row = i64::try_from(from).unwrap_or(i64::MAX);
        Ok(Self {
            ledger,
            ready: VecDeque::new(),
            largest: largest.map_err(failed("look at the checkpoints"))?,
            read_to: (from_row.saturating_add(1), String::new()),
            crowded: false,
            before: (from == 0).then(|| BTreeSet::from([0])),
        })
    }

    /// Whether there were more rows than are looked at.
    pub(super) fn crowded(&self) -> bool {
        self.crowded
    }

    /// The next row up to this size.
    pub(super) fn up_to(&mut self, size: u64) -> Option<StoredCheckpoint> {
        self.ready.pop_front_if(|row| row.size <= size)
    }

    /// Reads the rows that may be passed before this is called again, with the tree at this size.
    pub(super) async fn read_ahead(
        &mut self,
        connection: &mut PgConnection,
        size: u64,
    ) -> Result<(), ReadError> {
        let end = |settles: u64| {
            let end = size.saturating_add(settles * SETTLE_EVERY);
            i64::try_from(end).unwrap_or(i64::MAX)
        };
        if self.read_to.0 > self.largest || self.read_to.0 > end(1) {
            return Ok(());
        }
        let up_to = end(2);
        if self.read(connection, up_to, WINDOW_ROWS_MAX).await? == WINDOW_ROWS_MAX {
            self.crowded = true;
        }
        self.read_to = (up_to.saturating_add(1), String::new());
        Ok(())
    }

    /// Reads some of the rows that are left, when all entries were taken; false where there are none.
    pub(super) async fn read_rest(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<bool, ReadError> {
        Ok(self.read(connection, i64::MAX, PAGE).await? > 0)
    }

    async fn read(
        &mut self,
        connection: &mut PgConnection,
        up_to: i64,
        limit: i64,
    ) -> Result<i64, ReadError> {
        let what = "read the checkpoints";
        let rows = query(
            "select size, before_size, root, note from ledger.checkpoints \
             where ledger_id = $1 and (size, note collate \"C\") > ($2, $3) and size <= $4 \
             order by size, note collate \"C\" limit $5",
        )
        .bind(self.ledger.uuid())
        .bind(self.read_to.0)
        .bind(&self.read_to.1)
        .bind(up_to)
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(failed(what))?;
        for row in &rows {
            let read = || -> Result<_, sqlx::Error> {
                let size: i64 = row.try_get("size")?;
                let note: String = row.try_get("note")?;
                let before: i64 = row.try_get("before_size")?;
                let root = Hash::from_slice(row.try_get("root")?);
                Ok((size, note, before, root))
            };
            let (size, note, before, root) = read().map_err(failed(what))?;
            self.read_to = (size, note.clone());
            self.ready.push_back(StoredCheckpoint {
                size: size.unsigned_abs(),
                before: before.unsigned_abs(),
                root,
                note,
            });
        }
        Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    }

    /// Takes note of a row that is none, or of which it is not known.
    fn pass_over(&mut self, size: u64) {
        if let Some(before) = &mut self.before {
            before.insert(size);
            if before.len() > LISTED_MAX {
                self.before = None;
            }
        }
    }

    /// Takes note of a sound row, and says whether it follows one that may be in front of it.
    fn follow(&mut self, size: u64, before: u64) -> bool {
        let known = self.before.replace(BTreeSet::from([size]));
        known.is_none_or(|known| known.contains(&before))
    }
}

impl TreeCheck {
    /// Checks a stored checkpoint; its root where the entries that were fed are just those that it speaks for.
    pub(super) fn checkpoint(&mut self, row: &StoredCheckpoint) {
        let altered = |why: String| How::CheckpointAltered(why);
        let size = row.size;
        let signed = SignedCheckpoint::parse(row.note.as_bytes()).and_then(|signed| {
            if !self.keys_in_doubt {
                self.keys.verify_alone(&signed)?;
            }
            Ok(signed)
        });
        let signed = match signed {
            Ok(signed) => signed,
            // Altered, or made up: PostgreSQL cannot tell a signature, and takes what a writer calls a checkpoint.
            Err(error) => {
                self.checkpoints.pass_over(size);
                let why = format!(
                    "a row holds what no key of this ledger signed: {}",
                    words_of(&error)
                );
                return self.unsigned(size, altered(why));
            }
        };
        let checkpoint = signed.checkpoint();
        if checkpoint.size() != size {
            self.displaced.insert(checkpoint.size());
            let why = format!("its row says size {size}");
            return self.fault(checkpoint.size(), altered(why), None);
        }
        if row.root != Some(checkpoint.root()) {
            self.checkpoints.pass_over(size);
            let why = "its column root is not the signed one".to_owned();
            return self.fault(size, altered(why), None);
        }
        if size > self.last_seq {
            let why = format!(
                "it speaks for {size} entries, and there are {}",
                self.last_seq
            );
            let rests_on = Some((self.last_seq + 1, size));
            self.fault(size, altered(why), rests_on);
        } else if !self.gap
            && size == self.frontier.size()
            && checkpoint.root() != self.frontier.root()
        {
            let why = format!("entries 1 to {size} are not those that were signed");
            self.fault(size, altered(why), Some((1, size)));
        }
        if self.keys_in_doubt {
            // Nobody knows whether it was signed.
            return self.checkpoints.pass_over(size);
        }
        if !self.checkpoints.follow(size, row.before) {
            self.links.push((size, row.before));
        }
        if size <= self.last_seq {
            self.last_checkpoint = self.last_checkpoint.max(size);
        }
    }

    /// Looks up the checkpoints that entries tell of. Beside one of them may lie some that a writer made up.
    pub(super) async fn compare_told(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(), ReadError> {
        let what = "look for the checkpoints that entries tell of";
        let told = std::mem::take(&mut self.told);
        if told.is_empty() {
            return Ok(());
        }
        let sizes: Vec<i64> = told
            .iter()
            .map(|(_, size, _)| i64::try_from(*size).unwrap_or(i64::MAX))
            .collect();
        let roots: Vec<&[u8]> = told.iter().map(|(.., root)| root.0.as_slice()).collect();
        let rows = query(
            "select (select bool_or(c.root = u.root) from ledger.checkpoints c \
                     where c.ledger_id = $1 and c.size = u.size) as same \
             from unnest($2::bigint[], $3::bytea[]) with ordinality as u (size, root, ord) order by u.ord",
        )
        .bind(self.ledger.uuid())
        .bind(sizes)
        .bind(roots)
        .fetch_all(connection)
        .await
        .map_err(failed(what))?;
        for (row, (seq, size, _)) in rows.iter().zip(told) {
            let why = match row.try_get("same").map_err(failed(what))? {
                Some(true) => continue,
                Some(false) => format!("entry {seq} tells of another root"),
                None => format!("it is gone, and entry {seq} tells of it"),
            };
            self.fault(size, How::CheckpointAltered(why), None);
        }
        Ok(())
    }
}
