//! The files of lines in a bundle, read in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{BundleError, PAYLOADS, PayloadLine, other_form, payload_line};
use crate::chain::archive::{ArchiveError, Found, Source};

/// Bytes that are read at once.
const READ_AT_ONCE: u64 = 1 << 16;
/// Longest line: base64 of the longest payload, and room for the rest.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The lines of a file in an archive, one after the other.
#[derive(Debug)]
pub struct Lines<'s, S: Source + ?Sized> {
    source: &'s S,
    name: &'static str,
    /// What of the file was not read yet.
    at: u64,
    left: u64,
    /// What was read and not given out, from `from` on.
    buffer: Vec<u8>,
    from: usize,
}

impl<'s, S: Source + ?Sized> Lines<'s, S> {
    pub(super) fn of(source: &'s S, name: &'static str, file: &Found) -> Self {
        Self {
            source,
            name,
            at: file.at,
            left: file.size,
            buffer: Vec::new(),
            from: 0,
        }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// The last one has no end; one is longer than any that is written; the bytes cannot be had.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        let mut searched = self.from;
        loop {
            if let Some(end) = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line = self.buffer[self.from..searched + end].to_vec();
                self.from = searched + end + 1;
                return Ok(Some(line));
            }
            if self.left == 0 {
                let whole = self.from == self.buffer.len();
                return if whole {
                    Ok(None)
                } else {
                    Err(other_form(self.name))
                };
            }
            self.buffer.drain(..self.from);
            self.from = 0;
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(other_form(self.name));
            }
            let more = self.left.min(READ_AT_ONCE);
            let more_bytes = usize::try_from(more).unwrap_or_default();
            self.buffer.resize(searched + more_bytes, 0);
            let read = self.source.read(self.at, &mut self.buffer[searched..]);
            read.map_err(ArchiveError::Read)?;
            self.at += more;
            self.left -= more;
        }
    }
}

/// The payloads of a bundle, one after the other.
#[derive(Debug)]
pub struct Payloads<'s, S: Source + ?Sized>(pub(super) Lines<'s, S>);

impl<S: Source + ?Sized> Payloads<'_, S> {
    /// The next one: number of the entry, salt ‖ payload.
    ///
    /// # Errors
    /// As [`Lines::next_line`]; a line that is not as it would be written.
    pub fn next_payload(&mut self) -> Result<Option<(u64, Vec<u8>)>, BundleError> {
        let Some(mut line) = self.0.next_line()? else {
            return Ok(None);
        };
        let read: PayloadLine = serde_json::from_slice(&line).map_err(|_| other_form(PAYLOADS))?;
        let salted = STANDARD.decode(&read.salted);
        let salted = salted.map_err(|_| other_form(PAYLOADS))?;
        line.push(b'\n');
        if payload_line(read.seq, &salted)? != line {
            return Err(other_form(PAYLOADS));
        }
        Ok(Some((read.seq, salted)))
    }
}
