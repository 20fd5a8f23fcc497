//! Reads PostgreSQL's binary COPY format, the fastest way out of a table.
//! <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

/// Bytes that are not a COPY stream; the connection is unusable.
#[derive(Debug, thiserror::Error)]
#[error("read the database's COPY stream: {0}")]
pub(super) struct CopyError(&'static str);

impl CopyError {
    /// The stream stopped before its end mark.
    pub(super) fn cut_off() -> Self {
        Self("it was cut off")
    }
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Microseconds between 1970 and PostgreSQL's epoch, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Cuts a stream of any chunks into rows of fields.
#[derive(Debug, Default)]
pub(super) struct CopyReader {
    buffer: Vec<u8>,
    at: usize,
    started: bool,
    ended: bool,
    fields: Vec<Option<(usize, usize)>>,
}

impl CopyReader {
    /// Takes the next chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole row, or none until more is fed.
    pub(super) fn next_row(&mut self) -> Result<Option<Row<'_>>, CopyError> {
        if !self.started {
            let Some(header) = self.buffer.get(self.at..self.at + 19) else {
                return Ok(None);
            };
            if !header.starts_with(SIGNATURE) {
                return Err(CopyError("it does not start as one"));
            }
            let extension = int32(&header[15..]).and_then(|n| usize::try_from(n).ok());
            let extension = extension.ok_or(CopyError("its header is malformed"))?;
            if self.buffer.len() < self.at + 19 + extension {
                return Ok(None);
            }
            self.at += 19 + extension;
            self.started = true;
        }
        if self.ended {
            return Ok(None);
        }
        let mut at = self.at;
        let Some(count) = self.buffer.get(at..at + 2) else {
            return Ok(None);
        };
        let count = i16::from_be_bytes([count[0], count[1]]);
        at += 2;
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        self.fields.clear();
        for _ in 0..count {
            let Some(length) = self.buffer.get(at..).and_then(int32) else {
                return Ok(None);
            };
            at += 4;
            match usize::try_from(length) {
                Err(_) => self.fields.push(None),
                Ok(length) => {
                    if self.buffer.len() < at + length {
                        return Ok(None);
                    }
                    self.fields.push(Some((at, at + length)));
                    at += length;
                }
            }
        }
        self.at = at;
        Ok(Some(Row {
            buffer: &self.buffer,
            fields: &self.fields,
        }))
    }

    /// True once the stream's end was read: without it rows may be missing.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

fn int32(bytes: &[u8]) -> Option<i32> {
    bytes
        .first_chunk::<4>()
        .map(|bytes| i32::from_be_bytes(*bytes))
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    buffer: &'a [u8],
    fields: &'a [Option<(usize, usize)>],
}

impl<'a> Row<'a> {
    /// A field's bytes; none for NULL.
    pub(super) fn bytes(&self, field: usize) -> Option<&'a [u8]> {
        let (from, to) = (*self.fields.get(field)?)?;
        Some(&self.buffer[from..to])
    }

    /// A text field.
    pub(super) fn text(&self, field: usize) -> Result<&'a str, CopyError> {
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
            let mut reader = CopyReader::default();
            let mut seen = Vec::new();
            for chunk in stream.chunks(size) {
                reader.feed(chunk);
                while let Some(row) = reader.next_row().unwrap() {
                    assert_eq!((row.bytes(1), row.text(2).unwrap()), (None, "ab"));
                    seen.push(row.int8(0).unwrap());
                }
            }
            assert_eq!(seen, [0, 1, 2], "chunks of {size}");
            assert!(reader.ended());
        }
        let mut reader = CopyReader::default();
        reader.feed(&[b'x'; 30]);
        assert!(reader.next_row().is_err());
    }
}
