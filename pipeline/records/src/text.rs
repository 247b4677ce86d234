//! Text files as UTF-8, whether they are UTF-8 or UTF-16.

use std::io::{self, Cursor, Read};

use crate::rewritten::{Rewrite, Rewritten};

/// Reads a text file as UTF-8 without a byte order mark. UTF-16, which Excel and Windows PowerShell
/// write, is recognised by its mark, otherwise by a zero byte beside the first character. In
/// UTF-16, an unpaired surrogate becomes U+FFFD. In other files, bytes that are not UTF-8 stay
/// unchanged.
///
/// # Errors
/// If the first bytes cannot be read.
pub fn utf8<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::with_capacity(3);
    input.by_ref().take(3).read_to_end(&mut start)?;
    let Encoding { mark, is_big_endian } = Encoding::of(&start);
    let input = Cursor::new(start.split_off(mark)).chain(input);
    Ok(match is_big_endian {
        None => Box::new(input),
        Some(is_big_endian) => Box::new(utf16(input, is_big_endian)),
    })
}

/// The encoding of a text file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The length of the byte order mark; 0 if there is none.
    pub mark: usize,
    /// The byte order of UTF-16; `None` for UTF-8 and all others.
    pub is_big_endian: Option<bool>,
}

impl Encoding {
    /// Recognises the encoding of a file that starts with these bytes; three are enough.
    pub fn of(start: &[u8]) -> Encoding {
        let (mark, is_big_endian) = match start {
            [0xEF, 0xBB, 0xBF, ..] => (3, None),
            [0xFF, 0xFE, ..] => (2, Some(false)),
            [0xFE, 0xFF, ..] => (2, Some(true)),
            [first, 0, ..] if *first != 0 => (0, Some(false)),
            [0, second, ..] if *second != 0 => (0, Some(true)),
            _ => (0, None),
        };
        Encoding { mark, is_big_endian }
    }
}

/// Reads UTF-16 without a byte order mark as UTF-8. An unpaired surrogate, and an odd byte at the
/// end, become U+FFFD.
pub fn utf16<R: Read>(input: R, is_big_endian: bool) -> impl Read + use<R> {
    Rewritten::with(input, Utf16 { is_big_endian })
}

/// Rewrites UTF-16 as UTF-8.
#[derive(Debug)]
struct Utf16 {
    is_big_endian: bool,
}

impl Rewrite for Utf16 {
    fn rewrite(&mut self, bytes: &[u8], is_last: bool, out: &mut Vec<u8>) -> usize {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let unit =
            |pair: &[u8; 2]| if self.is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
        // The second half of a surrogate pair may still arrive.
        let waits = !is_last && pairs.last().is_some_and(|pair| (0xD800..0xDC00).contains(&unit(pair)));
        let whole = &pairs[..pairs.len() - usize::from(waits)];
        for character in char::decode_utf16(whole.iter().map(unit)) {
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if is_last {
            if !odd.is_empty() {
                out.extend_from_slice("\u{FFFD}".as_bytes());
            }
            return bytes.len();
        }
        2 * whole.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewritten::tests::Drip;

    fn read(bytes: &[u8]) -> String {
        let mut text = Vec::new();
        utf8(Drip(bytes)).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn marks_are_gone_and_utf_16_is_utf_8() {
        let text = "url,é 中 \u{1F600}\r\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let files: [Vec<u8>; 6] = [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [b"\xFF\xFE".as_slice(), &little].concat(),
            [b"\xFE\xFF".as_slice(), &big].concat(),
            little,
            big,
        ];
        for bytes in files {
            assert_eq!(read(&bytes), text, "{bytes:?}");
        }
        assert_eq!(read(b"\xFF\xFE\x3D\xD8a\0\x3D\xD8!"), "\u{FFFD}a\u{FFFD}\u{FFFD}");
        for short in ["", "a", "ab"] {
            assert_eq!(read(short.as_bytes()), short);
        }
    }
}
