//! Reads text files line by line with bounded memory.

use std::io::{self, BufRead, Read};
use std::path::Path;

use super::decoded;

/// Maximum length of a line or CSV row. Rows of URLs and captions are much shorter, and a file
/// without line ends must not fill the memory.
pub(super) const MAX_ROW_BYTES: usize = 16 << 20;

/// The kind of line ends in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Not known until the first line is read.
    Unknown,
    /// Line feeds, with or without a carriage return before them. A lone carriage return is part of
    /// a line.
    LineFeeds,
    /// Carriage returns, as on old Macs. Line feeds end lines as well.
    CarriageReturns,
}

/// The lines of a file.
pub(super) struct Lines {
    reader: decoded::Reader,
    ends: Ends,
    number: u64,
    bytes: Vec<u8>,
}

/// One line that is not blank.
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// The line without its end and surrounding white space other than tabs, or its problem.
    pub(super) text: Result<&'a str, String>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Lines> {
        Ok(Lines::new(decoded::open(path)?))
    }

    pub(super) fn new(reader: decoded::Reader) -> Lines {
        Lines { reader, ends: Ends::Unknown, number: 0, bytes: Vec::new() }
    }

    /// Returns the next line that is not blank; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let length = loop {
            bytes.clear();
            let length = self.read(&mut bytes)?;
            if length == Some(0) {
                return Ok(None);
            }
            if !bytes.iter().all(|byte| b" \t\r\n\x0c".contains(byte)) {
                break length;
            }
        };
        self.bytes = bytes;
        let number = self.number;
        let text = if length.is_none() {
            Err(format!("line {number} is longer than {MAX_ROW_BYTES} bytes"))
        } else {
            std::str::from_utf8(&self.bytes)
                .map(|text| text.trim_matches([' ', '\r', '\n']))
                .map_err(|error| format!("line {number} is not UTF-8 from byte {}", error.valid_up_to() + 1))
        };
        Ok(Some(Line { number, text }))
    }

    /// Appends the next line with its line end to `bytes`. Returns its length in bytes, which is 0
    /// at the end of the file. Returns `None` for a line longer than [`MAX_ROW_BYTES`], of which
    /// only the beginning is appended.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let start = bytes.len();
        if self.ends == Ends::LineFeeds {
            let limit = MAX_ROW_BYTES as u64 + 1;
            self.reader.by_ref().take(limit).read_until(b'\n', bytes)?;
            if bytes.len() - start > MAX_ROW_BYTES && bytes.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
                self.number += 1;
                return Ok(None);
            }
        } else if !self.read_to_either_end(bytes)? {
            self.number += 1;
            return Ok(None);
        }
        self.number += u64::from(bytes.len() > start);
        Ok(Some(bytes.len() - start))
    }

    /// Reads a line that ends with a line feed, a carriage return or both. Returns whether all of
    /// it was appended.
    fn read_to_either_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let mut room = MAX_ROW_BYTES + 1;
        let mut append = |part: &[u8]| {
            bytes.extend_from_slice(&part[..part.len().min(room)]);
            let is_whole = part.len() <= room;
            room = room.saturating_sub(part.len());
            is_whole
        };
        let mut is_whole = true;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(is_whole);
            }
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let length = end.map_or(buffer.len(), |end| end + 1);
            is_whole &= append(&buffer[..length]);
            let is_return = end.is_some_and(|end| buffer[end] == b'\r');
            self.reader.consume(length);
            if end.is_none() {
                continue;
            }
            let has_feed = !is_return || self.reader.fill_buf()?.first() == Some(&b'\n');
            if is_return && has_feed {
                is_whole &= append(b"\n");
                self.reader.consume(1);
            }
            if self.ends == Ends::Unknown {
                self.ends = if has_feed { Ends::LineFeeds } else { Ends::CarriageReturns };
            }
            return Ok(is_whole);
        }
    }
}

/// Returns a line without its line end.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
