//! Records in the order of their keys, outside of memory: what of a migration is looked up by key, or taken in order, and grows with it.
//!
//! An external merge sort (Knuth, The Art of Computer Programming 3, 5.4) over the sealed blocks of a [`Spool`]: what waits is sorted and put
//! aside as a run, the runs are merged once, and of the result only the first key of each block stays in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use super::spool::{Block, Spool, SpoolError};

/// What waits in memory to be sorted, in bytes.
const RUN: usize = 1 << 20;
/// Records that lie together: a look-up reads about one block.
const BLOCK_RECORDS: usize = 64;
const BLOCK_BYTES: usize = 1 << 12;

/// Records on their way into [`Sorted`]. `Debug` shows how many of either and none of them.
pub struct Sorter {
    spool: Spool,
    waiting: Vec<(Bytes, Bytes)>,
    bytes: usize,
    runs: Vec<Vec<Block>>,
}

/// Records in the order of their keys; of one key in the order in which they were given.
pub struct Sorted {
    spool: Spool,
    blocks: Vec<(Bytes, Block)>,
    count: u64,
}

impl std::fmt::Debug for Sorter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (waiting, runs) = (self.waiting.len(), self.runs.len());
        write!(f, "Sorter({waiting} waiting, {runs} runs)")
    }
}

impl std::fmt::Debug for Sorted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sorted({})", self.count)
    }
}

impl Sorter {
    /// An empty one.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn new() -> Result<Self, SpoolError> {
        Ok(Self {
            spool: Spool::new()?,
            waiting: Vec::new(),
            bytes: 0,
            runs: Vec::new(),
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn push(
        &mut self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<(), SpoolError> {
        let (key, value) = (key.into(), value.into());
        self.bytes += size_of::<(Bytes, Bytes)>() + key.len() + value.len();
        self.waiting.push((key, value));
        if self.bytes >= RUN {
            self.put_aside()?;
        }
        Ok(())
    }

    fn put_aside(&mut self) -> Result<(), SpoolError> {
        self.waiting.sort_by(|one, other| one.0.cmp(&other.0));
        let mut run = Vec::new();
        let mut writer = Writer::default();
        for (key, value) in self.waiting.drain(..) {
            if let Some((_, block)) = writer.push(key, value, &mut self.spool)? {
                run.push(block);
            }
        }
        run.extend(writer.done(&mut self.spool)?.map(|(_, block)| block));
        self.runs.push(run);
        self.bytes = 0;
        Ok(())
    }

    /// Merges what was put aside.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn done(mut self) -> Result<Sorted, SpoolError> {
        self.put_aside()?;
        let mut sorted = Sorted {
            spool: Spool::new()?,
            blocks: Vec::new(),
            count: 0,
        };
        let mut writer = Writer::default();
        let mut runs: Vec<_> = self
            .runs
            .iter()
            .map(|blocks| records(&self.spool, blocks.iter().copied()))
            .collect();
        // The earlier run first, where both have the key.
        let mut heads: BinaryHeap<Reverse<(Bytes, usize, Bytes)>> = BinaryHeap::new();
        for (n, run) in runs.iter_mut().enumerate() {
            if let Some(next) = run.next() {
                let (key, value) = next?;
                heads.push(Reverse((key, n, value)));
            }
        }
        while let Some(Reverse((key, n, value))) = heads.pop() {
            let block = writer.push(key, value, &mut sorted.spool)?;
            sorted.blocks.extend(block);
            sorted.count += 1;
            if let Some(next) = runs.get_mut(n).and_then(Iterator::next) {
                let (key, value) = next?;
                heads.push(Reverse((key, n, value)));
            }
        }
        sorted.blocks.extend(writer.done(&mut sorted.spool)?);
        Ok(sorted)
    }
}

impl Sorted {
    /// How many records there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The records of a key.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn get(&self, key: &[u8]) -> Result<Vec<Bytes>, SpoolError> {
        // Those of the key may begin in the block before the first that begins with it.
        let at = self.blocks.partition_point(|(first, _)| first < key);
        let from = self.blocks.get(at.saturating_sub(1)..).unwrap_or_default();
        let mut found = Vec::new();
        for (first, block) in from {
            if first > key {
                break;
            }
            for record in pairs(self.spool.get(*block)?) {
                let (other, value) = record?;
                match other.as_ref().cmp(key) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => found.push(value),
                    std::cmp::Ordering::Greater => return Ok(found),
                }
            }
        }
        Ok(found)
    }

    /// All records, key and value.
    ///
    /// # Errors
    /// See [`SpoolError`], of each that cannot be read back.
    pub fn iter(&self) -> impl Iterator<Item = Result<(Bytes, Bytes), SpoolError>> + '_ {
        records(&self.spool, self.blocks.iter().map(|(_, block)| *block))
    }
}

/// The block that is being filled.
#[derive(Default)]
struct Writer {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Writer {
    /// Adds a record; gives the block that was full, with its first key.
    fn push(
        &mut self,
        key: Bytes,
        value: Bytes,
        spool: &mut Spool,
    ) -> Result<Option<(Bytes, Block)>, SpoolError> {
        self.bytes += key.len() + value.len();
        self.frames.extend([key, value]);
        if self.frames.len() < 2 * BLOCK_RECORDS && self.bytes < BLOCK_BYTES {
            return Ok(None);
        }
        self.done(spool)
    }

    fn done(&mut self, spool: &mut Spool) -> Result<Option<(Bytes, Block)>, SpoolError> {
        self.bytes = 0;
        let Some(first) = self.frames.first() else {
            return Ok(None);
        };
        // A copy, so that no block stays in memory for its key.
        let first = Bytes::copy_from_slice(first);
        let block = spool.put(&self.frames)?;
        self.frames.clear();
        Ok(Some((first, block)))
    }
}

type Record = Result<(Bytes, Bytes), SpoolError>;

/// The records of blocks, one after the other; a block is in memory at a time.
fn records(spool: &Spool, blocks: impl Iterator<Item = Block>) -> impl Iterator<Item = Record> {
    blocks.flat_map(|block| -> Box<dyn Iterator<Item = Record>> {
        match spool.get(block) {
            Ok(frames) => Box::new(pairs(frames)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })
}

fn pairs(frames: Vec<Bytes>) -> impl Iterator<Item = Record> {
    let mut frames = frames.into_iter();
    std::iter::from_fn(move || {
        let key = frames.next()?;
        Some(
            frames
                .next()
                .map(|value| (key, value))
                .ok_or(SpoolError::Changed),
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[(Vec<u8>, Vec<u8>)]) -> Sorted {
        let mut sorter = Sorter::new().unwrap();
        for (key, value) in records {
            sorter.push(key.clone(), value.clone()).unwrap();
        }
        sorter.done().unwrap()
    }

    fn all(sorted: &Sorted) -> Vec<(Vec<u8>, Vec<u8>)> {
        let records = sorted.iter().map(Result::unwrap);
        records
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn many_runs_become_one_order_and_each_key_is_found_with_all_its_records() {
        // Some megabytes, so several runs; a key with more records than a block, and with more bytes.
        let mut records = Vec::new();
        for n in 0..60_000_u32 {
            let key = n.wrapping_mul(2_654_435_761) % 20_000;
            records.push((key.to_be_bytes().to_vec(), n.to_be_bytes().to_vec()));
        }
        for n in 0..500_u32 {
            records.push((b"often".to_vec(), n.to_be_bytes().to_vec()));
            records.push((b"large".to_vec(), vec![7; 3_000]));
        }
        let sorted = sorted(&records);
        let mut expected = records.clone();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(sorted.count(), expected.len() as u64);
        assert_eq!(all(&sorted), expected);
        let mut of_key = std::collections::BTreeMap::<&[u8], Vec<&[u8]>>::new();
        for (key, value) in &expected {
            of_key.entry(key).or_default().push(value);
        }
        for (key, values) in of_key.iter().step_by(97).chain(of_key.iter().rev().take(3)) {
            assert_eq!(sorted.get(key).unwrap(), *values, "{key:?}");
        }
        for absent in [&b""[..], b"\xff\xff\xff\xff\xff", b"oftem", b"ofteo"] {
            assert!(sorted.get(absent).unwrap().is_empty(), "{absent:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_stable_sort(records in prop::collection::vec(
            (prop::collection::vec(0_u8..3, 0..3), prop::collection::vec(any::<u8>(), 0..40)), 0..400,
        )) {
            let sorted = sorted(&records);
            let mut expected = records.clone();
            expected.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(all(&sorted), expected);
            for (key, _) in &records {
                let values = records.iter().filter(|one| one.0 == *key);
                let values: Vec<&[u8]> = values.map(|one| one.1.as_slice()).collect();
                prop_assert_eq!(sorted.get(key).unwrap(), values);
            }
        }
    }
}
