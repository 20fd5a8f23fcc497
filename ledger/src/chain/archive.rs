//! A ZIP file of one form: files in the order of their names, stored as they are, without times, modes or comments.
//!
//! Any program opens one. Only what is written here is read here: what is read is written again and compared, so that there is
//! no byte in it that means nothing. The form is that of APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::entry::Hash;

/// Bytes read at once.
const CHUNK: usize = 1 << 16;
/// Longest archive in bytes: sizes in it have 32 bits.
pub const ARCHIVE_BYTES_MAX: usize = u32::MAX as usize - 1;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// Version 2.0 of the format, made on a Unix.
const VERSION: u16 = 20;
const MADE_BY: u16 = 3 << 8 | VERSION;
/// The first day there is: 1 January 1980.
const DATE: u16 = 0x0021;
/// An ordinary file that its owner may write.
const MODE: u32 = 0o100_644 << 16;

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Not an archive of the one form, or files that do not fit one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Anything about it is otherwise.
    #[error("the file is not an archive as this program writes it: something in it was changed")]
    Form,
    /// Over [`ARCHIVE_BYTES_MAX`], or 65,536 files.
    #[error("the files are too many or too large for one archive")]
    TooLarge,
    /// The bytes could not be had, and why.
    #[error("read the archive: {0}")]
    Read(String),
    /// Empty, absolute, upwards, or of other characters than a-z, A-Z, 0-9 and . _ - /
    #[error("a file in an archive cannot be called {0:?}")]
    Name(String),
}

fn check_name(name: &str) -> Result<(), ArchiveError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain)
    };
    if name.len() < 256 && name.split('/').all(part) {
        Ok(())
    } else {
        Err(ArchiveError::Name(name.to_owned()))
    }
}

/// Bytes that are read where they lie, so that none need be held.
pub trait Source {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills the buffer with those from a place on.
    ///
    /// # Errors
    /// They could not be read, in words.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), String>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), String> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let from = self.get(at..).and_then(|rest| rest.get(..buffer.len()));
        let from = from.ok_or_else(|| "it ends before".to_owned())?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

/// Length and checksum of bytes that come one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    crc: u32,
    size: u64,
}

impl Default for Measure {
    fn default() -> Self {
        let crc = u32::MAX;
        Self { crc, size: 0 }
    }
}

impl Measure {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut measure = Self::default();
        measure.update(bytes);
        measure
    }

    /// Takes the next bytes. The checksum is CRC-32 of ISO 3309, which ZIP files carry.
    pub fn update(&mut self, bytes: &[u8]) {
        const TABLE: [u32; 256] = {
            let mut table = [0; 256];
            let mut at = 0;
            while at < 256 {
                #[expect(clippy::cast_possible_truncation, reason = "below 256")]
                let mut value = at as u32;
                let mut bit = 0;
                while bit < 8 {
                    value = if value & 1 == 1 {
                        value >> 1 ^ 0xedb8_8320
                    } else {
                        value >> 1
                    };
                    bit += 1;
                }
                table[at] = value;
                at += 1;
            }
            table
        };
        let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)];
        self.crc = bytes.iter().fold(self.crc, step);
        self.size += bytes.len() as u64;
    }

    /// How many bytes there were.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn crc(self) -> u32 {
        !self.crc
    }
}

/// Writes an archive piece by piece: for each file, in the order of the names, a header and then its bytes, and an end.
#[derive(Debug, Default)]
pub struct Packer {
    directory: Vec<u8>,
    last: Option<String>,
    count: u16,
    at: u64,
}

impl Packer {
    /// What goes in front of the next file's bytes.
    ///
    /// # Errors
    /// The name is none, or does not stand behind the one before; too much for one archive.
    pub fn header(&mut self, name: &str, measure: Measure) -> Result<Vec<u8>, ArchiveError> {
        check_name(name)?;
        if self.last.as_deref().is_some_and(|last| last >= name) {
            return Err(ArchiveError::Form);
        }
        let common = common(name, measure);
        let offset = length(self.at);
        self.directory.extend_from_slice(&CENTRAL.to_le_bytes());
        self.directory.extend_from_slice(&MADE_BY.to_le_bytes());
        self.directory.extend_from_slice(&common);
        // No comment, first disk, no inner attributes.
        self.directory.extend_from_slice(&[0; 6]);
        self.directory.extend_from_slice(&MODE.to_le_bytes());
        self.directory.extend_from_slice(&offset.to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        let header = [&LOCAL.to_le_bytes(), common.as_slice(), name.as_bytes()].concat();
        self.at += header.len() as u64 + measure.size;
        self.count = self.count.checked_add(1).ok_or(ArchiveError::TooLarge)?;
        self.last = Some(name.to_owned());
        self.fits()?;
        Ok(header)
    }

    /// What goes behind the last file's bytes.
    ///
    /// # Errors
    /// Too much for one archive.
    pub fn end(self) -> Result<Vec<u8>, ArchiveError> {
        self.fits()?;
        let (start, size) = (length(self.at), length(self.directory.len() as u64));
        let mut out = self.directory;
        out.extend_from_slice(&END.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        Ok(out)
    }

    fn fits(&self) -> Result<(), ArchiveError> {
        let total = self.at + self.directory.len() as u64 + 22;
        if total > ARCHIVE_BYTES_MAX as u64 {
            return Err(ArchiveError::TooLarge);
        }
        Ok(())
    }
}

/// Writes an archive. The same files give the same bytes.
pub fn pack(files: &Files) -> Result<Vec<u8>, ArchiveError> {
    let mut packer = Packer::default();
    let mut out = Vec::new();
    for (name, bytes) in files {
        out.extend(packer.header(name, Measure::of(bytes))?);
        out.extend_from_slice(bytes);
    }
    out.extend(packer.end()?);
    Ok(out)
}

/// What both headers of a file hold, from the version needed to the length of the extra field.
fn common(name: &str, measure: Measure) -> Vec<u8> {
    let size = length(measure.size).to_le_bytes();
    let mut out = Vec::with_capacity(26);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // No flags, stored, midnight.
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&DATE.to_le_bytes());
    out.extend_from_slice(&measure.crc().to_le_bytes());
    out.extend_from_slice(&size);
    out.extend_from_slice(&size);
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}

/// A length within [`ARCHIVE_BYTES_MAX`]; what is over it is refused by [`Packer::fits`].
fn length(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Where its bytes begin.
    pub at: u64,
    /// How many they are.
    pub size: u64,
    /// Of its bytes.
    pub sha256: Hash,
}

/// Reads through an archive that [`pack`] wrote, and no other, and says what is in it.
pub fn scan<S: Source + ?Sized>(source: &S) -> Result<Vec<Found>, ArchiveError> {
    let whole = source.length();
    let read = |at: u64, buffer: &mut [u8]| {
        // What is asked for beyond the end is of another form; all else is the medium's.
        match at.checked_add(buffer.len() as u64) {
            Some(end) if end <= whole => source.read(at, buffer).map_err(ArchiveError::Read),
            _ => Err(ArchiveError::Form),
        }
    };
    let mut packer = Packer::default();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let mut header = [0; 30];
        if whole - at < 4 {
            return Err(ArchiveError::Form);
        }
        read(at, &mut header[..4])?;
        if header[..4] != LOCAL.to_le_bytes() {
            break;
        }
        read(at, &mut header)?;
        let [.., s0, s1, s2, s3, n0, n1, _, _] = header;
        let mut name = vec![0; usize::from(u16::from_le_bytes([n0, n1]))];
        let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        read(at + 30, &mut name)?;
        let start = at + 30 + name.len() as u64;
        let (mut measure, mut digest) = (Measure::default(), Sha256::new());
        let mut buffer = vec![0; CHUNK];
        while measure.size < size {
            let left = usize::try_from(size - measure.size).unwrap_or(usize::MAX);
            let chunk = &mut buffer[..left.min(CHUNK)];
            read(start + measure.size, chunk)?;
            measure.update(chunk);
            digest.update(&*chunk);
        }
        let name = String::from_utf8(name).map_err(|_| ArchiveError::Form)?;
        // Checksums, order, repeated names, the directory: all of it follows from the files.
        let expected = packer.header(&name, measure)?;
        let mut there = vec![0; expected.len()];
        read(at, &mut there)?;
        if there != expected {
            return Err(ArchiveError::Form);
        }
        at = start + size;
        found.push(Found {
            name,
            at: start,
            size,
            sha256: Hash(digest.finalize().into()),
        });
    }
    let expected = packer.end()?;
    if whole - at != expected.len() as u64 {
        return Err(ArchiveError::Form);
    }
    let mut there = vec![0; expected.len()];
    read(at, &mut there)?;
    if there == expected {
        Ok(found)
    } else {
        Err(ArchiveError::Form)
    }
}

/// Reads an archive that [`pack`] wrote, and no other.
pub fn unpack(bytes: &[u8]) -> Result<Files, ArchiveError> {
    let files = scan(bytes)?.into_iter().map(|found| {
        let mut content = vec![0; usize::try_from(found.size).unwrap_or_default()];
        let read = bytes.read(found.at, &mut content);
        read.map(|()| (found.name, content))
            .map_err(ArchiveError::Read)
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Files {
        let files = [
            ("README.md", "read me\n"),
            ("empty", ""),
            ("schemas/a.b.1.json", "{}"),
        ];
        let files = files.into_iter();
        files
            .map(|(name, text)| (name.to_owned(), text.into()))
            .collect()
    }

    #[test]
    fn the_check_value_of_the_checksum() {
        assert_eq!(Measure::of(b"123456789").crc(), 0xcbf4_3926);
        assert_eq!(Measure::of(b"").crc(), 0);
    }

    #[test]
    fn no_other_bytes_are_this_archive() {
        let bytes = pack(&some()).unwrap();
        assert_eq!(unpack(&bytes), Ok(some()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                if let Ok(files) = unpack(&other) {
                    assert_ne!(files, some(), "byte {at}, bit {bit}");
                }
            }
            assert!(unpack(&bytes[..at]).is_err());
            assert!(unpack(&bytes[at + 1..]).is_err());
        }
        assert!(unpack(&[bytes.as_slice(), b"\0"].concat()).is_err());
        let empty = pack(&Files::new()).unwrap();
        assert_eq!(unpack(&empty), Ok(Files::new()));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "", "/a", "../a", "a/../b", "a//b", "a/", "a b", "a\\b", "é", ".a", "a/.b", "-a",
        ] {
            let files = Files::from([(name.to_owned(), Vec::new())]);
            assert_eq!(pack(&files), Err(ArchiveError::Name(name.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_files_come_back(files in prop::collection::btree_map("[a-z][a-z0-9._-]{0,8}(/[a-z]{1,3})?", prop::collection::vec(any::<u8>(), 0..100), 0..6)) {
            prop_assert_eq!(unpack(&pack(&files).unwrap()), Ok(files));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let local = [&LOCAL.to_le_bytes(), bytes.as_slice()].concat();
            prop_assert!(unpack(&local).is_err());
            prop_assert!(unpack(&bytes).is_err());
        }
    }
}
