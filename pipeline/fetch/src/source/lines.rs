//! Text files line by line, compressed or not, with bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Longest line, and longest CSV row, that is read: no row of URLs and captions comes near, and a file without line ends must not fill the memory.
pub(super) const MAX_ROW_BYTES: usize = 16 << 20;

const BUFFER_BYTES: usize = 128 << 10;

/// Opens a text file; `.gz` and `.zst` are decompressed, also when they consist of several members.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gz") => Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(file))),
        Some("zst") => {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::stream::read::Decoder::with_buffer(file)?))
        }
        _ => Box::new(file),
    })
}

/// The lines of a file.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// What a blank line consists of.
    blanks: &'static [u8],
    number: u64,
    bytes: Vec<u8>,
}

/// One line that is not blank.
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Without its end and surrounding white space other than tabs; or what is wrong with it.
    pub(super) text: Result<&'a str, String>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Lines> {
        Ok(Lines { reader: open(path)?, blanks: b" \t\r\n\x0c", number: 0, bytes: Vec::new() })
    }

    /// Those of a file in which a line of tabs is a row of empty fields.
    pub(super) fn tabbed(path: &Path) -> io::Result<Lines> {
        Ok(Lines { blanks: b" \r\n", ..Lines::open(path)? })
    }

    /// The next line; `None` at the end of the file. Blank lines are passed over: they are no rows.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let too_long = loop {
            self.bytes.clear();
            let limit = MAX_ROW_BYTES as u64 + 1;
            if self.reader.by_ref().take(limit).read_until(b'\n', &mut self.bytes)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3); // the byte order mark that some editors write
            }
            if self.bytes.len() > MAX_ROW_BYTES && self.bytes.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
                break true;
            }
            if !self.bytes.iter().all(|byte| self.blanks.contains(byte)) {
                break false;
            }
        };
        let number = self.number;
        let text = if too_long {
            Err(format!("line {number} is longer than {MAX_ROW_BYTES} bytes"))
        } else {
            std::str::from_utf8(&self.bytes)
                .map(|text| text.trim_matches([' ', '\r', '\n']))
                .map_err(|error| format!("line {number} is not UTF-8 from byte {}", error.valid_up_to() + 1))
        };
        Ok(Some(Line { number, text }))
    }
}
