//! The tree as files: C2SP tiles and entry bundles <https://c2sp.org/tlog-tiles>.
//!
//! A tile is a row of up to 256 nodes of one level, a bundle the entries below such a row of leaves. Full ones never change; of
//! partial ones there is one for every size of which a checkpoint was published.

use std::fmt;
use std::str::FromStr;

use super::entry::Hash;

/// Nodes in a full tile and entries in a full bundle.
pub const WIDTH_MAX: u16 = 256;
/// Longest entry that a bundle can hold, in bytes.
pub const BUNDLED_BYTES_MAX: usize = u16::MAX as usize;
/// Highest level that a path may name.
const LEVEL_MAX: u8 = 63;

/// A path or file that is not of the tile layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not a path of a tile or bundle in its one form.
    #[error(
        "a tile's path is tile/<level or entries>/<index>, with .p/<width> where it is partial"
    )]
    Path,
    /// Longer or shorter than its width says.
    #[error("the tile does not hold {0} hashes of 32 bytes")]
    Hashes(u16),
    /// Cut off, or with more or fewer entries than its width says.
    #[error("the bundle does not hold {0} whole entries")]
    Bundle(u16),
    /// Over [`BUNDLED_BYTES_MAX`].
    #[error("an entry of {0} bytes is over the limit of {BUNDLED_BYTES_MAX} of a bundle")]
    EntryTooLong(usize),
}

/// What a file of the layout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes: node i is the root of the leaves `[i * 256^level, (i + 1) * 256^level)`.
    Hashes {
        /// 0 are the leaf hashes.
        level: u8,
    },
    /// The entries themselves.
    Entries,
}

/// One file of the layout. Its text is its path below the log's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: Kind,
    index: u64,
    width: u16,
}

impl Tile {
    /// What it holds.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Index of the first node or entry in it, within its level.
    pub fn first(self) -> u64 {
        self.index * u64::from(WIDTH_MAX)
    }

    /// How many nodes or entries, 1 to 256.
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether it is complete, and so the same in every larger tree.
    pub fn is_full(self) -> bool {
        self.width == WIDTH_MAX
    }

    /// The files that a tree of `to` leaves has and one of `from` leaves has not. All that a tree has are those since size 0.
    pub fn added(from: u64, to: u64) -> impl Iterator<Item = Self> {
        // Above level 7 no tree below 2^64 has a node.
        let levels = (0..8_u8).flat_map(move |level| {
            let kinds = [Kind::Hashes { level }, Kind::Entries];
            let kinds = kinds.into_iter().take(if level == 0 { 2 } else { 1 });
            kinds.map(move |kind| (kind, from >> (8 * level), to >> (8 * level)))
        });
        levels.flat_map(|(kind, from, to)| {
            let full = (from / 256..to / 256).map(move |index| (index, WIDTH_MAX));
            let rest = u16::try_from(to % 256).unwrap_or_default();
            let partial = (rest > 0 && from < to).then_some((to / 256, rest));
            let all = full.chain(partial);
            all.map(move |(index, width)| Self { kind, index, width })
        })
    }

    /// The rows of hashes at the right edge of a tree: of those that are not full one a level, from level 0 up. They lead to its
    /// root.
    pub fn edge(size: u64) -> impl Iterator<Item = Self> {
        let rows = (0..8_u8).map(move |level| (level, size >> (8 * level)));
        rows.filter_map(|(level, nodes)| {
            let width = u16::try_from(nodes % 256).unwrap_or_default();
            (width > 0).then_some(Self {
                kind: Kind::Hashes { level },
                index: nodes / 256,
                width,
            })
        })
    }

    /// The full row below a node of this one; none below a leaf hash or an entry.
    pub fn below(self, node: u64) -> Option<Self> {
        let Kind::Hashes { level } = self.kind else {
            return None;
        };
        Some(Self {
            kind: Kind::Hashes {
                level: level.checked_sub(1)?,
            },
            index: node,
            width: WIDTH_MAX,
        })
    }

    /// The entries that a row of leaf hashes is of; none of a higher row.
    pub fn entries_of(self) -> Option<Self> {
        (self.kind == Kind::Hashes { level: 0 }).then_some(Self {
            kind: Kind::Entries,
            ..self
        })
    }

    /// Whether a tree of this many leaves does not have all that is in it.
    pub fn is_beyond(self, size: u64) -> bool {
        let level = match self.kind {
            Kind::Hashes { level } => level,
            Kind::Entries => 0,
        };
        let nodes = size.checked_shr(8 * u32::from(level)).unwrap_or_default();
        self.first() + u64::from(self.width) > nodes
    }

    /// The hashes of a tile file of this width.
    pub fn hashes(self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        match bytes.as_chunks::<32>() {
            (hashes, []) if hashes.len() == usize::from(self.width) => {
                Ok(hashes.iter().copied().map(Hash).collect())
            }
            _ => Err(TileError::Hashes(self.width)),
        }
    }

    /// The entries of a bundle file of this width.
    pub fn entries(self, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
        let broken = TileError::Bundle(self.width);
        let mut entries = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, after) = after.split_at_checked(length).ok_or(broken)?;
            entries.push(entry);
            rest = after;
        }
        if rest.is_empty() && entries.len() == usize::from(self.width) {
            Ok(entries)
        } else {
            Err(broken)
        }
    }
}

/// The bytes of a bundle: each entry after its length as 2 bytes big-endian.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let too_long = |_| TileError::EntryTooLong(entry.len());
        let length = u16::try_from(entry.len()).map_err(too_long)?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes { level } => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for Tile {
    type Err = TileError;
    fn from_str(path: &str) -> Result<Self, TileError> {
        let tile = read_path(path).ok_or(TileError::Path)?;
        (tile.to_string() == path)
            .then_some(tile)
            .ok_or(TileError::Path)
    }
}

/// The tile of a path that may be written in another form than its own.
fn read_path(path: &str) -> Option<Tile> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => Kind::Entries,
        level => Kind::Hashes {
            level: level.parse().ok().filter(|level| *level <= LEVEL_MAX)?,
        },
    };
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => (groups, width.parse().ok()?),
        None => (rest, WIDTH_MAX),
    };
    let mut index: u64 = 0;
    for group in groups.split('/') {
        let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(digits)?;
    }
    // The last node of the tile has to have an index, too.
    index.checked_add(1)?.checked_mul(u64::from(WIDTH_MAX))?;
    (1..=WIDTH_MAX)
        .contains(&width)
        .then_some(Tile { kind, index, width })
}

#[cfg(test)]
#[path = "tiles_tests.rs"]
mod tests;
