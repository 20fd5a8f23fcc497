//! A ZIP file of one form: files in the order of their names, stored as they are, without times, modes or comments.
//!
//! Any program opens one. Only what is written here is read here: what is read is written again and compared, so that there is
//! no byte in it that means nothing. The form is that of APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.

use std::collections::BTreeMap;

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

/// Writes an archive. The same files give the same bytes.
pub fn pack(files: &Files) -> Result<Vec<u8>, ArchiveError> {
    let names: usize = files.keys().map(|name| 2 * name.len() + 76).sum();
    let total: usize = files.values().map(Vec::len).sum::<usize>() + names + 22;
    let count = u16::try_from(files.len()).map_err(|_| ArchiveError::TooLarge)?;
    if total > ARCHIVE_BYTES_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let mut out = Vec::with_capacity(total);
    let mut directory = Vec::new();
    for (name, bytes) in files {
        check_name(name)?;
        let offset = length(out.len());
        let common = common(name, bytes);
        out.extend_from_slice(&LOCAL.to_le_bytes());
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
        directory.extend_from_slice(&CENTRAL.to_le_bytes());
        directory.extend_from_slice(&MADE_BY.to_le_bytes());
        directory.extend_from_slice(&common);
        // No comment, first disk, no inner attributes.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&MODE.to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let start = length(out.len());
    out.extend_from_slice(&directory);
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&length(directory.len()).to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    Ok(out)
}

/// What both headers of a file hold, from the version needed to the length of the extra field.
fn common(name: &str, bytes: &[u8]) -> Vec<u8> {
    let size = length(bytes.len()).to_le_bytes();
    let mut out = Vec::with_capacity(26);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // No flags, stored, midnight.
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&DATE.to_le_bytes());
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&size);
    out.extend_from_slice(&size);
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}

/// A length within [`ARCHIVE_BYTES_MAX`], which the caller has checked.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Reads an archive that [`pack`] wrote, and no other.
pub fn unpack(bytes: &[u8]) -> Result<Files, ArchiveError> {
    let mut files = Files::new();
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(&LOCAL.to_le_bytes()) {
        let (header, after) = after.split_first_chunk::<26>().ok_or(ArchiveError::Form)?;
        let [.., s0, s1, s2, s3, n0, n1, _, _] = *header;
        let name = usize::from(u16::from_le_bytes([n0, n1]));
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let size = usize::try_from(size).map_err(|_| ArchiveError::TooLarge)?;
        let (name, after) = after.split_at_checked(name).ok_or(ArchiveError::Form)?;
        let (content, after) = after.split_at_checked(size).ok_or(ArchiveError::Form)?;
        let name = std::str::from_utf8(name).map_err(|_| ArchiveError::Form)?;
        files.insert(name.to_owned(), content.to_vec());
        rest = after;
    }
    // Checksums, order, repeated names, the directory: all of it follows from the files.
    if pack(&files)? == bytes {
        Ok(files)
    } else {
        Err(ArchiveError::Form)
    }
}

/// CRC-32 of ISO 3309, which ZIP files carry.
fn crc32(bytes: &[u8]) -> u32 {
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
    !bytes.iter().fold(u32::MAX, step)
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
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
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
