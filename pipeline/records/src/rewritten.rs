//! Bytes that are changed while they are read.

use std::fmt::Debug;
use std::io::{self, Read};

/// Bytes that are read at once: the size from which larger reads of a file save no more time.
pub(crate) const CHUNK: usize = 1 << 16;

/// A change of bytes that can be made piece by piece.
pub trait Rewrite: Debug {
    /// Writes what becomes of the bytes and returns how many are done with. The rest, less than
    /// [`CHUNK`], needs more bytes to tell; there is none if these are the last.
    fn rewrite(&mut self, bytes: &[u8], is_last: bool, out: &mut Vec<u8>) -> usize;
}

/// A reader of what another one gives, changed.
#[derive(Debug)]
pub struct Rewritten<R, C> {
    input: R,
    change: C,
    raw: Vec<u8>,
    /// The bytes of `raw` that are read and not yet done with.
    filled: usize,
    out: Vec<u8>,
    taken: usize,
    is_at_end: bool,
}

impl<R: Read, C: Rewrite + Default> Rewritten<R, C> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        Self::with(input, C::default())
    }
}

impl<R: Read, C: Rewrite> Rewritten<R, C> {
    pub(crate) fn with(input: R, change: C) -> Self {
        Self {
            input,
            change,
            raw: vec![0; CHUNK],
            filled: 0,
            out: Vec::with_capacity(CHUNK),
            taken: 0,
            is_at_end: false,
        }
    }
}

impl<R: Read, C: Rewrite> Read for Rewritten<R, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.out.len() {
            if self.is_at_end {
                return Ok(0);
            }
            let read = match self.input.read(&mut self.raw[self.filled..]) {
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            self.is_at_end = read == 0;
            self.filled += read;
            self.out.clear();
            self.taken = 0;
            let done = self.change.rewrite(&self.raw[..self.filled], self.is_at_end, &mut self.out);
            self.raw.copy_within(done..self.filled, 0);
            self.filled -= done;
        }
        let length = buffer.len().min(self.out.len() - self.taken);
        buffer[..length].copy_from_slice(&self.out[self.taken..self.taken + length]);
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Gives one byte at a time, the hardest way to cut a document.
    pub(crate) struct Drip<'a>(pub(crate) &'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(1);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }
}
