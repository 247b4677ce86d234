//! Rewriting bytes while they are read.

use std::fmt::Debug;
use std::io::{self, Read};

/// Bytes that are read at once. Larger reads of a file save no more time.
pub(crate) const CHUNK: usize = 1 << 16;

/// A rewriting of bytes that works piece by piece.
pub trait Rewrite: Debug {
    /// Appends the rewritten bytes to `out` and returns how many input bytes were consumed. The
    /// rest, fewer than [`CHUNK`] bytes, waits for more input. With `is_last`, all bytes are
    /// consumed.
    fn rewrite(&mut self, bytes: &[u8], is_last: bool, out: &mut Vec<u8>) -> usize;
}

/// A reader that rewrites the bytes of another reader.
#[derive(Debug)]
pub struct Rewritten<R, C> {
    input: R,
    change: C,
    raw: Vec<u8>,
    /// Number of bytes in `raw` that were read and not yet consumed.
    filled: usize,
    out: Vec<u8>,
    taken: usize,
    is_at_end: bool,
}

impl<R: Read, C: Rewrite + Default> Rewritten<R, C> {
    /// Wraps a reader.
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
