//! Reads PostgreSQL's binary COPY format, the fastest way out of a table.
//! <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use bytes::{Buf as _, Bytes};

/// Bytes that are not a COPY stream; the connection is unusable.
#[derive(Debug, thiserror::Error)]
#[error("read the database's COPY stream: {0}")]
pub(super) struct CopyError(&'static str);

impl From<CopyError> for String {
    fn from(error: CopyError) -> Self {
        error.to_string()
    }
}

impl CopyError {
    /// The stream stopped before its end mark.
    pub(super) fn cut_off() -> Self {
        Self("it was cut off")
    }
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Microseconds between 1970 and PostgreSQL's epoch, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Cuts a stream of any chunks into rows of `N` fields. A chunk that is one row, as PostgreSQL sends them, is not copied.
#[derive(Debug, Default)]
pub(super) struct CopyReader<const N: usize> {
    buffer: Bytes,
    started: bool,
    ended: bool,
}

impl<const N: usize> CopyReader<N> {
    /// Takes the next chunk.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.buffer = if self.buffer.is_empty() {
            chunk
        } else {
            [&self.buffer[..], &chunk].concat().into()
        };
    }

    /// The next whole row, or none until more is fed.
    pub(super) fn next_row(&mut self) -> Result<Option<Row<N>>, CopyError> {
        if !self.started {
            let Some(header) = self.buffer.get(..19) else {
                return Ok(None);
            };
            if !header.starts_with(SIGNATURE) {
                return Err(CopyError("it does not start as one"));
            }
            let extension = int32(&header[15..]).and_then(|n| usize::try_from(n).ok());
            let extension = extension.ok_or(CopyError("its header is malformed"))?;
            if self.buffer.len() < 19 + extension {
                return Ok(None);
            }
            self.buffer.advance(19 + extension);
            self.started = true;
        }
        if self.ended {
            return Ok(None);
        }
        let Some(count) = self.buffer.first_chunk::<2>() else {
            return Ok(None);
        };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        if usize::try_from(count) != Ok(N) {
            return Err(CopyError("a row has another number of fields"));
        }
        let mut at = 2;
        let mut fields = [NULL; N];
        for field in &mut fields {
            let Some(length) = self.buffer.get(at..).and_then(int32) else {
                return Ok(None);
            };
            at += 4;
            if let Ok(length) = usize::try_from(length) {
                if self.buffer.len() < at + length {
                    return Ok(None);
                }
                // Both are of a message, whose length is an i32.
                *field = (offset(at)?, offset(at + length)?);
                at += length;
            }
        }
        Ok(Some(Row {
            bytes: self.buffer.split_to(at),
            fields,
        }))
    }

    /// True once the stream's end was read: without it rows may be missing.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

/// Offsets of a field that is NULL.
const NULL: (u32, u32) = (u32::MAX, 0);

fn offset(at: usize) -> Result<u32, CopyError> {
    u32::try_from(at).map_err(|_| CopyError("a row is longer than 4 GiB"))
}

fn int32(bytes: &[u8]) -> Option<i32> {
    bytes
        .first_chunk::<4>()
        .map(|bytes| i32::from_be_bytes(*bytes))
}

/// One row. It is handed from task to task, and kept small for that.
#[derive(Debug)]
pub(super) struct Row<const N: usize> {
    bytes: Bytes,
    /// Where each field begins and ends.
    fields: [(u32, u32); N],
}

impl<const N: usize> Row<N> {
    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A field's bytes; none for NULL.
    pub(super) fn bytes(&self, field: usize) -> Option<&[u8]> {
        let (from, to) = *self.fields.get(field)?;
        // Of NULL the beginning lies behind every end.
        self.bytes.get(from as usize..to as usize)
    }

    /// A text field.
    pub(super) fn text(&self, field: usize) -> Result<&str, CopyError> {
        self.bytes(field)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or(CopyError("a text is missing or not UTF-8"))
    }

    /// A bigint field.
    pub(super) fn int8(&self, field: usize) -> Result<i64, CopyError> {
        self.bytes(field)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i64::from_be_bytes)
            .ok_or(CopyError("a number is missing"))
    }

    /// A timestamptz field, in microseconds since 1970.
    pub(super) fn micros(&self, field: usize) -> Result<i64, CopyError> {
        Ok(self.int8(field)?.saturating_add(EPOCH_MICROS))
    }

    /// A UUID field; none for NULL.
    pub(super) fn uuid(&self, field: usize) -> Result<Option<uuid::Uuid>, CopyError> {
        self.bytes(field)
            .map(uuid::Uuid::from_slice)
            .transpose()
            .map_err(|_| CopyError("a UUID has not 16 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_whole_from_any_chunks() {
        let mut stream = [SIGNATURE, &[0; 8]].concat();
        for n in 0_i64..3 {
            stream.extend(3_i16.to_be_bytes());
            stream.extend(8_i32.to_be_bytes());
            stream.extend(n.to_be_bytes());
            stream.extend((-1_i32).to_be_bytes());
            stream.extend(2_i32.to_be_bytes());
            stream.extend(b"ab");
        }
        stream.extend((-1_i16).to_be_bytes());
        for size in [1, 2, 7, 1000] {
            let mut reader = CopyReader::<3>::default();
            let mut seen = Vec::new();
            for chunk in stream.chunks(size) {
                reader.feed(Bytes::copy_from_slice(chunk));
                while let Some(row) = reader.next_row().unwrap() {
                    assert_eq!((row.bytes(1), row.text(2).unwrap()), (None, "ab"));
                    seen.push(row.int8(0).unwrap());
                }
            }
            assert_eq!(seen, [0, 1, 2], "chunks of {size}");
            assert!(reader.ended());
        }
        let mut reader = CopyReader::<3>::default();
        reader.feed(Bytes::from_static(&[b'x'; 30]));
        assert!(reader.next_row().is_err());
        let mut other = CopyReader::<4>::default();
        other.feed(stream.into());
        assert!(
            other.next_row().is_err(),
            "rows of three fields are not of four"
        );
    }
}
