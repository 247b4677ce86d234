//! Splits JSON files of any length into the bytes of their records.

use std::io::{self, BufRead};

use crate::fault::Fault;

/// The maximum size of a record in bytes. Longer ones occur only in files that are not lists of
/// conversations.
const LONGEST_RECORD: usize = 256 << 20;

/// Reads the records of a JSON list, or one record per line.
///
/// A list is split at the commas between its elements without parsing them, so that an element that
/// is not JSON does not affect the others.
#[derive(Debug)]
pub(crate) struct Values<R> {
    input: R,
    shape: Option<Shape>,
    is_list: bool,
    /// The number of records so far or, for lines, of lines so far.
    number: u64,
    /// Whether a comma was the last thing that was read of a list.
    is_after_comma: bool,
    /// A fault of the file.
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    List,
    Lines,
    Ended,
}

/// The number of a record, from 0, and its bytes. The number is that of the line, or of the element
/// of a list.
pub(crate) type Numbered = (u64, Vec<u8>);

impl<R: BufRead> Values<R> {
    /// Starts to read a file that has this fault.
    pub(super) fn new(input: R, fault: Option<Fault>) -> Self {
        Self { input, shape: None, is_list: false, number: 0, is_after_comma: false, fault }
    }

    /// Returns the fault of the file.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Returns whether the file is a list. Known only after the first call of [`Self::next`].
    pub(crate) fn is_list(&self) -> bool {
        self.is_list
    }

    /// Returns the next record.
    ///
    /// # Errors
    /// If the file cannot be read, ends inside a list or has a record that is too long.
    pub(crate) fn next(&mut self) -> io::Result<Option<Numbered>> {
        loop {
            match self.shape {
                None => self.begin()?,
                Some(Shape::List) => return self.element(),
                Some(Shape::Ended) => return Ok(None),
                Some(Shape::Lines) => {
                    let mut line = Vec::new();
                    let limit = LONGEST_RECORD as u64 + 1;
                    if io::Read::take(&mut self.input, limit).read_until(b'\n', &mut line)? == 0 {
                        return Ok(None);
                    }
                    if line.len() > LONGEST_RECORD {
                        return Err(too_long(self.number));
                    }
                    let number = self.number;
                    self.number += 1;
                    if !line.trim_ascii().is_empty() {
                        return Ok(Some((number, line)));
                    }
                }
            }
        }
    }

    /// Detects a list by its bracket.
    fn begin(&mut self) -> io::Result<()> {
        let first = self.skip_space()?;
        self.shape = Some(match first {
            Some(b'[') => {
                self.input.consume(1);
                self.number = 0;
                self.is_list = true;
                Shape::List
            }
            Some(_) => Shape::Lines,
            None => Shape::Ended,
        });
        Ok(())
    }

    /// Skips white space and returns the next byte without consuming it. Skipped lines are counted.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let space = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = bytes.get(space).copied();
            if self.shape.is_none() {
                self.number += bytes[..space].split(|byte| *byte == b'\n').count() as u64 - 1;
            }
            self.input.consume(space);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Returns the next element of a list, without the comma after it. Where an element is missing
    /// beside a comma, it has no bytes.
    fn element(&mut self) -> io::Result<Option<Numbered>> {
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the list is not closed; the file is cut off");
        if self.skip_space()?.ok_or_else(cut_off)? == b']' && !self.is_after_comma {
            self.input.consume(1);
            return self.end();
        }
        let (mut element, mut scan) = (Vec::new(), Scan::default());
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Err(cut_off());
            }
            let (length, ends) = scan.length(bytes);
            element.extend_from_slice(&bytes[..length]);
            if element.len() > LONGEST_RECORD {
                return Err(too_long(self.number));
            }
            let closes = ends && bytes[length] == b']';
            // The bracket stays for the next call, where it ends the list.
            self.input.consume(length + usize::from(ends && !closes));
            if ends {
                self.is_after_comma = !closes;
                let number = self.number;
                self.number += 1;
                return Ok(Some((number, element)));
            }
        }
    }

    fn end(&mut self) -> io::Result<Option<Numbered>> {
        self.shape = Some(Shape::Ended);
        match self.skip_space()? {
            None => Ok(None),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "there is more text after the list")),
        }
    }
}

fn too_long(number: u64) -> io::Error {
    let reason = format!("record {number} is longer than {} MiB", LONGEST_RECORD >> 20);
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The state of a scan within an element.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Returns how many bytes belong to the element, and whether a comma or bracket after them ends
    /// it.
    fn length(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (place, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return (place, true),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        (bytes.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, buffer: usize) -> io::Result<Vec<(u64, String)>> {
        let mut values = Values::new(io::BufReader::with_capacity(buffer, text.as_bytes()), None);
        let mut found = Vec::new();
        while let Some((number, bytes)) = values.next()? {
            found.push((number, String::from_utf8(bytes).unwrap().trim().to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn lists_are_cut_between_their_elements() {
        let text = "\n [ {\"a\": \"],\\\"{\"} , [1, [2]],\nbroken{}, 7 ]\n";
        let expected = ["{\"a\": \"],\\\"{\"}", "[1, [2]]", "broken{}", "7"];
        for buffer in [1, 2, 5, 4096] {
            let found = values(text, buffer).unwrap();
            assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected);
            assert_eq!(found.last().unwrap().0, 3);
        }
        for text in ["[1,]", "[,1]", "[1 , ]"] {
            assert_eq!(values(text, 1).unwrap().len(), 2, "{text} has a comma without a value");
        }
        assert_eq!(values("[]", 1).unwrap(), []);
        assert_eq!(values("", 1).unwrap(), []);
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_are_none() {
        let found = values("\n{\"a\": 1}\r\n\n{broken\n{\"a\": 2}", 3).unwrap();
        let expected = [(1, "{\"a\": 1}"), (3, "{broken"), (4, "{\"a\": 2}")];
        assert_eq!(found, expected.map(|(number, text)| (number, text.to_owned())));
    }

    #[test]
    fn a_list_that_is_cut_off_or_followed_by_more_is_told() {
        for text in ["[{\"a\": 1}, ", "[{\"a\": \"x", "[1, 2"] {
            assert!(values(text, 2).unwrap_err().to_string().contains("cut off"), "{text}");
        }
        assert!(values("[1] x", 2).unwrap_err().to_string().contains("after the list"));
    }
}
