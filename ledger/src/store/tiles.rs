//! The tree as files, read from the database and checked, each, against a signed root before it is given out.

use std::collections::VecDeque;

use sqlx::Row as _;

use super::export::{ExportError, failed, number};
use super::read::ReadError;
use super::{Store, query};
use crate::chain::checkpoint::Checkpoint;
use crate::chain::descent::Descent;
use crate::chain::entry::{Hash, leaf_hash};
use crate::chain::tiles::{self, Kind, Tile};

/// A file of the layout and its bytes.
pub type TileFile = (Tile, Vec<u8>);

/// The files that one tree has and an older one has not. Memory does not grow with the tree.
#[derive(Debug)]
pub struct TileFiles<'s> {
    store: &'s Store,
    size: u64,
    descent: Descent,
    ready: VecDeque<TileFile>,
}

impl Store {
    /// The files that a checkpoint's tree has and the tree over the first `from` entries has not. Nothing is given out that the
    /// checkpoint's root does not prove: whether it is this ledger's, the caller has to know.
    ///
    /// # Errors
    /// [`ExportError::Altered`] where the stored tree does not lead to the root; [`ReadError::Damaged`]; the database's.
    pub async fn tiles(
        &self,
        from: u64,
        checkpoint: &Checkpoint,
    ) -> Result<TileFiles<'_>, ExportError> {
        let size = checkpoint.size();
        let mut edge = Vec::new();
        let mut files = Vec::new();
        for tile in Tile::edge(size) {
            let (hashes, of_row) = self.row_files(tile, size).await?;
            edge.push((tile, hashes));
            files.extend(of_row);
        }
        let started = Descent::start(from, size, &checkpoint.root(), &edge);
        let (descent, new) = started.map_err(|_| ExportError::Altered {
            what: "the last row of the stored tree".to_owned(),
            size,
        })?;
        let is_new = |tile: &Tile| {
            let of = |row: &Tile| *row == *tile || row.entries_of() == Some(*tile);
            new.iter().any(of)
        };
        files.retain(|(tile, _)| is_new(tile));
        Ok(TileFiles {
            store: self,
            size,
            descent,
            ready: files.into(),
        })
    }

    /// The hashes of a row as they are stored, and the files of it: of leaf hashes that of the entries too, whose hashes they are.
    async fn row_files(
        &self,
        tile: Tile,
        size: u64,
    ) -> Result<(Vec<Hash>, Vec<TileFile>), ExportError> {
        let Some(entries) = tile.entries_of() else {
            let hashes = self.row_of_nodes(tile).await?;
            let missing = |_| ExportError::Altered {
                what: tile.to_string(),
                size,
            };
            let bytes = hashes.concat();
            let hashes = tile.hashes(&bytes).map_err(missing)?;
            return Ok((hashes, vec![(tile, bytes)]));
        };
        let what = "read entries";
        let rows = query(
            "select seq, hash, bytes from ledger.entries \
             where ledger_id = $1 and seq > $2 and seq <= $3 order by seq",
        )
        .bind(self.id().uuid())
        .bind(number(tile.first()))
        .bind(number(tile.first() + u64::from(tile.width())))
        .fetch_all(self.pool())
        .await
        .map_err(failed(what))?;
        let mut hashes = Vec::with_capacity(rows.len());
        let mut texts: Vec<&[u8]> = Vec::with_capacity(rows.len());
        let all = number(tile.first()) + 1..=number(tile.first() + u64::from(tile.width()));
        let mut rows = rows.iter();
        for seq in all {
            let row = rows.next().ok_or(ReadError::Damaged { seq })?;
            let found: i64 = row.try_get("seq").map_err(failed(what))?;
            let bytes: &[u8] = row.try_get("bytes").map_err(failed(what))?;
            let hash: &[u8] = row.try_get("hash").map_err(failed(what))?;
            let computed = leaf_hash(bytes);
            if found != seq || Hash::from_slice(hash) != Some(computed) {
                return Err(ReadError::Damaged { seq }.into());
            }
            hashes.push(computed);
            texts.push(bytes);
        }
        let row = hashes.iter().flat_map(|hash| hash.0).collect();
        let bundle = tiles::bundle(texts).map_err(ExportError::Tile)?;
        Ok((hashes, vec![(tile, row), (entries, bundle)]))
    }

    async fn row_of_nodes(&self, tile: Tile) -> Result<Vec<[u8; 32]>, ExportError> {
        let what = "read the tree";
        let level = match tile.kind() {
            Kind::Hashes { level } => i16::from(level),
            Kind::Entries => 0,
        };
        let rows = query(
            "select hash from ledger.tree \
             where ledger_id = $1 and level = $2 and index >= $3 and index < $4 order by index",
        )
        .bind(self.id().uuid())
        .bind(level)
        .bind(number(tile.first()))
        .bind(number(tile.first() + u64::from(tile.width())))
        .fetch_all(self.pool())
        .await
        .map_err(failed(what))?;
        let mut hashes = Vec::with_capacity(rows.len());
        for row in &rows {
            let hash: &[u8] = row.try_get("hash").map_err(failed(what))?;
            // One of another length is none: the row is then too short.
            hashes.extend(<[u8; 32]>::try_from(hash));
        }
        Ok(hashes)
    }
}

impl TileFiles<'_> {
    /// The next file; none after the last.
    ///
    /// # Errors
    /// As [`Store::tiles`]: what is stored at this place is not what the checkpoint proves, and is not given out.
    pub async fn next(&mut self) -> Result<Option<TileFile>, ExportError> {
        if let Some(file) = self.ready.pop_front() {
            return Ok(Some(file));
        }
        let Some(tile) = self.descent.wanted() else {
            return Ok(None);
        };
        let (hashes, files) = self.store.row_files(tile, self.size).await?;
        self.descent
            .take(&hashes)
            .map_err(|_| ExportError::Altered {
                what: tile.to_string(),
                size: self.size,
            })?;
        self.ready = files.into();
        Ok(self.ready.pop_front())
    }
}
