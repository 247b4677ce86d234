//! Finds the end of a JSON value without parsing it.
//!
//! Lists and objects are examined 64 bytes at a time: each kind of byte gives a mask with one bit
//! for every byte, and the brackets outside of texts are what is left of the masks (Langdale and
//! Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 2019, sections 3.1.1 and 3.1.2).
//! Texts are examined 16 bytes at a time.

use wide::u8x16;

use crate::lanes::{equal, position};

/// The number of bytes that have one mask.
const BLOCK: usize = 64;

/// Finds the end of one JSON value in text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Scan {
    state: State,
    /// The nesting of lists and objects at this place.
    depth: usize,
    /// The deepest nesting so far.
    deepest: usize,
    /// Whether this place is inside a text.
    is_text: bool,
    /// Whether the next byte follows a backslash that escapes it.
    is_escaped: bool,
}

/// The kind of the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Its first byte was not read yet.
    #[default]
    Start,
    Text,
    ListOrObject,
    /// A number or word.
    Word,
}

impl Scan {
    /// Reads the next piece and returns how many bytes of it belong to the value, or `None` if the
    /// value continues.
    ///
    /// # Errors
    /// If no value begins at the start.
    pub(super) fn value(&mut self, piece: &[u8]) -> Result<Option<usize>, ()> {
        let mut start = 0;
        if self.state == State::Start {
            let Some(&first) = piece.first() else { return Ok(None) };
            self.state = match first {
                b'"' => {
                    start = 1;
                    State::Text
                }
                b'[' | b'{' => State::ListOrObject,
                b',' | b':' | b']' | b'}' => return Err(()),
                _ => State::Word,
            };
        }
        let rest = &piece[start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = match self.state {
            State::Text => self.text(rest),
            State::ListOrObject => self.list_or_object(rest),
            State::Start | State::Word => rest.iter().position(|byte| ends_word(*byte)),
        };
        Ok(length.map(|length| start + length))
    }

    /// Returns whether the value is complete if nothing follows.
    pub(super) fn may_end(&self) -> bool {
        self.state == State::Word
    }

    /// Returns the deepest nesting of lists and objects so far.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// Returns the length of the rest of a text with its closing quote.
    fn text(&mut self, rest: &[u8]) -> Option<usize> {
        let mut at = usize::from(std::mem::take(&mut self.is_escaped));
        loop {
            at += quote_or_backslash(rest.get(at..)?)?;
            if rest[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
            self.is_escaped = at > rest.len();
        }
    }

    /// Returns the length of the rest of a list or object with its closing bracket.
    fn list_or_object(&mut self, rest: &[u8]) -> Option<usize> {
        let mut blocks = rest.chunks_exact(BLOCK);
        let mut at = 0;
        for block in &mut blocks {
            if let Some(end) = self.block(block.try_into().ok()?, BLOCK) {
                return Some(at + end);
            }
            at += BLOCK;
        }
        let last = blocks.remainder();
        if last.is_empty() {
            return None;
        }
        let mut padded = [0; BLOCK];
        padded[..last.len()].copy_from_slice(last);
        self.block(&padded, last.len()).map(|end| at + end)
    }

    /// Reads the first `length` bytes of a block, after which it has zeros. Returns the position
    /// after the closing bracket of the value.
    fn block(&mut self, block: &[u8; BLOCK], length: usize) -> Option<usize> {
        if self.is_escaped || mask(block, |own| equal(own, b'\\')) != 0 {
            return block[..length].iter().position(|byte| self.byte(*byte)).map(|place| place + 1);
        }
        // A bit is set between an opening quote, which counts, and the closing one.
        let mut texts = mask(block, |own| equal(own, b'"'));
        for shift in [1, 2, 4, 8, 16, 32] {
            texts ^= texts << shift;
        }
        if self.is_text {
            texts = !texts;
        }
        self.is_text = texts >> (BLOCK - 1) == 1;
        // The codes of brackets and braces differ in one bit.
        let opening = mask(block, |own| equal(own | u8x16::splat(0x20), b'{')) & !texts;
        let mut marks = (mask(block, |own| equal(own | u8x16::splat(0x20), b'}')) & !texts) | opening;
        while marks != 0 {
            let place = marks.trailing_zeros();
            marks &= marks - 1;
            if self.bracket(opening >> place & 1 == 1) {
                return Some(place as usize + 1);
            }
        }
        None
    }

    /// Reads one byte and returns whether the value ends with it. Outside of texts, a backslash
    /// means nothing: if one is there by mistake, the texts after it must still be found.
    fn byte(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.is_escaped) {
            return false;
        }
        match (byte, self.is_text) {
            (b'\\', true) => self.is_escaped = true,
            (b'"', _) => self.is_text = !self.is_text,
            (b'[' | b'{', false) => return self.bracket(true),
            (b']' | b'}', false) => return self.bracket(false),
            _ => {}
        }
        false
    }

    /// Counts a bracket and returns whether the value ends with it.
    fn bracket(&mut self, is_opening: bool) -> bool {
        if is_opening {
            self.depth += 1;
            self.deepest = self.deepest.max(self.depth);
        } else {
            self.depth -= 1;
        }
        self.depth == 0
    }
}

/// Returns whether a number or word ends before a byte.
pub(super) fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b']' | b'}')
}

/// Returns the place after the closing quote of a text; `at` is a place within the text.
#[inline]
pub(super) fn text_end(piece: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += quote_or_backslash(piece.get(at..)?)?;
        if piece[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Does the same as [`text_end`] for a text of ASCII without escapes. For any other text it returns
/// nothing.
#[inline]
pub(super) fn plain_text_end(piece: &[u8], at: usize) -> Option<usize> {
    let special = |own: u8x16| equal(own, b'"') | equal(own, b'\\') | own.to_bitmask();
    let end = at + position(piece.get(at..)?, special)?;
    (piece[end] == b'"').then_some(end + 1)
}

/// Returns a number with a bit for every byte of a block, the lowest for the first one.
#[inline]
fn mask(block: &[u8; BLOCK], find: impl Fn(u8x16) -> u32) -> u64 {
    let (sixteens, _) = block.as_chunks::<16>();
    sixteens.iter().rev().fold(0, |mask, bytes| mask << 16 | u64::from(find(u8x16::new(*bytes))))
}

/// Returns the position of the first quote or backslash.
#[inline]
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    position(text, |own| equal(own, b'"') | equal(own, b'\\'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Finds the end byte by byte.
    fn end(text: &[u8]) -> Option<usize> {
        let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
        for (place, byte) in text.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                b'[' | b'{' if !is_text => depth += 1,
                b']' | b'}' if !is_text => depth -= 1,
                _ => {}
            }
            if depth == 0 && !is_text {
                return Some(place + 1);
            }
        }
        None
    }

    /// Finds the end in text that comes in pieces of this size.
    fn in_pieces(text: &[u8], size: usize) -> Option<usize> {
        let mut scan = Scan::default();
        let mut before = 0;
        for piece in text.chunks(size) {
            match scan.value(piece).unwrap() {
                Some(length) => return Some(before + length),
                None => before += piece.len(),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_end_is_found_in_pieces_of_any_size(
            first in prop::sample::select(vec!['"', '[', '{']),
            rest in r#"(["\\\[\]{},:]|[ -~]|"[a-z\\"é\[]{0,90}"){0,150}"#,
            size in 1_usize..200,
        ) {
            let text = format!("{first}{rest}");
            prop_assert_eq!(in_pieces(text.as_bytes(), size), end(text.as_bytes()));
        }
    }

    #[test]
    fn words_end_before_a_mark_or_with_the_file() {
        let mut scan = Scan::default();
        assert_eq!((scan.value(b"-12"), scan.may_end()), (Ok(None), true));
        assert_eq!(scan.value(b"5 , 6"), Ok(Some(1)));
        for text in [",", ":", "]", "}"] {
            assert_eq!(Scan::default().value(text.as_bytes()), Err(()));
        }
        assert_eq!(Scan::default().value(b""), Ok(None));
    }

    #[test]
    fn the_deepest_nesting_is_counted() {
        let text = [vec![b'['; 100], vec![b']'; 99], b"[{}]]".to_vec()].concat();
        let mut scan = Scan::default();
        assert_eq!((scan.value(&text), scan.deepest()), (Ok(Some(text.len())), 100));
    }
}
