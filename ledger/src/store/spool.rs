//! What grows with the migration and is needed more than once, kept outside of memory: what an inventory reads in its first pass and judges
//! in its second, the items of a plan.
//!
//! The file has no name (it was removed as soon as it was made) and its blocks are sealed under a key that only
//! this process's memory holds: whoever finds the disk finds nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::aead::{self, KEY_BYTES, NONCE_BYTES};

/// A block that cannot be written or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The temporary folder: full, or not writable.
    #[error("keep what was read in a temporary file, in the folder that TMPDIR names")]
    File(#[source] io::Error),
    /// No randomness for the key.
    #[error("draw a key for a temporary file")]
    Randomness(#[source] getrandom::Error),
    /// A block is not what was written.
    #[error("read a temporary file back: it was changed meanwhile")]
    Changed,
}

/// Blocks of frames, written once each and read as often as needed.
pub struct Spool {
    file: File,
    key: Zeroizing<[u8; KEY_BYTES]>,
    end: u64,
    blocks: u64,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks = &self.blocks;
        f.debug_struct("Spool")
            .field("blocks", blocks)
            .finish_non_exhaustive()
    }
}

/// Where a block is.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    at: u64,
    length: usize,
    number: u64,
}

impl Spool {
    /// An empty one, in the system's folder for temporary files.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn new() -> Result<Self, SpoolError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(SpoolError::Randomness)?;
        Ok(Self {
            file: tempfile::tempfile().map_err(SpoolError::File)?,
            key,
            end: 0,
            blocks: 0,
        })
    }

    /// Appends a block of frames.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn put(&mut self, frames: &[Bytes]) -> Result<Block, SpoolError> {
        let mut plain = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 8).sum());
        for frame in frames {
            plain.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            plain.extend_from_slice(frame);
        }
        let sealed = aead::seal(&self.key, &nonce(self.blocks), &[], &plain);
        let sealed = sealed.ok_or(SpoolError::Changed)?;
        self.file
            .write_all_at(&sealed, self.end)
            .map_err(SpoolError::File)?;
        let block = Block {
            at: self.end,
            length: sealed.len(),
            number: self.blocks,
        };
        self.end += sealed.len() as u64;
        self.blocks += 1;
        Ok(block)
    }

    /// The frames of a block.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub fn get(&self, block: Block) -> Result<Vec<Bytes>, SpoolError> {
        let mut sealed = vec![0; block.length];
        self.file
            .read_exact_at(&mut sealed, block.at)
            .map_err(SpoolError::File)?;
        let plain = aead::open(&self.key, &nonce(block.number), &[], &sealed);
        let plain = plain.ok_or(SpoolError::Changed)?;
        let mut rest = Bytes::from(plain);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<8>().ok_or(SpoolError::Changed)?;
            let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > after.len() {
                return Err(SpoolError::Changed);
            }
            let mut frame = rest.split_off(8);
            rest = frame.split_off(length);
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// Each block is written once under a key of its own file, so its number is nonce enough.
fn nonce(number: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_any_order_and_no_frame_is_in_the_file() {
        let mut spool = Spool::new().unwrap();
        let frames = |n: u8| vec![Bytes::from(vec![n; 3_000]), Bytes::new(), Bytes::from("é")];
        let blocks: Vec<Block> = (0..20).map(|n| spool.put(&frames(n)).unwrap()).collect();
        let none = spool.put(&[]).unwrap();
        for (n, block) in (0..20).zip(&blocks).rev() {
            assert_eq!(spool.get(*block).unwrap(), frames(n));
        }
        assert!(spool.get(none).unwrap().is_empty());
        let mut raw = vec![0; usize::try_from(spool.end).unwrap()];
        spool.file.read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(16).any(|window| window == [7; 16]));
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let mut spool = Spool::new().unwrap();
        let block = spool.put(&[Bytes::from("a calendar")]).unwrap();
        spool.file.write_all_at(&[0], 20).unwrap();
        assert!(matches!(spool.get(block), Err(SpoolError::Changed)));
    }
}
