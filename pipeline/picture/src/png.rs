//! Removes chunks of a PNG that no reader needs and that make some readers refuse the file.
//!
//! Our decoder skips an ancillary chunk whose checksum or content is wrong, as the PNG
//! recommendation says. Pillow, and with it `datasets`, refuses the whole file. So such chunks are
//! left out of the stored file. Its pixels do not change.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Maximum number of bytes of an unpacked text or profile: `MAX_TEXT_CHUNK` of Pillow 13
/// (`PngImagePlugin.py`).
const MOST_UNPACKED: u64 = 1 << 20;
/// Maximum number of bytes of all texts: `MAX_TEXT_MEMORY` of Pillow 13.
const MOST_TEXT: u64 = 64 << 20;

/// A chunk with its position in the file.
struct Chunk<'a> {
    start: usize,
    end: usize,
    name: [u8; 4],
    content: &'a [u8],
    has_right_checksum: bool,
}

impl Chunk<'_> {
    /// Returns whether a reader may ignore the chunk (PNG, third edition, 5.4).
    fn is_ancillary(&self) -> bool {
        self.name[0].is_ascii_lowercase()
    }

    /// Returns whether the chunk belongs to an animation.
    fn is_animation(&self) -> bool {
        matches!(&self.name, b"acTL" | b"fcTL" | b"fdAT")
    }
}

/// Returns the file without the chunks for which Pillow refuses it. It is borrowed if there are
/// none, or if the file is not complete.
pub(super) fn readable(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(chunks) = chunks(bytes) else { return Cow::Borrowed(bytes) };
    let mut refused = Refused::new(&chunks);
    let kept: Vec<&Chunk> = chunks.iter().filter(|chunk| !chunk.is_ancillary() || !refused.is(chunk)).collect();
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Cow::Borrowed(bytes) };
    if kept.len() == chunks.len() {
        return Cow::Borrowed(bytes);
    }
    let mut readable = bytes[..first.start].to_vec();
    for chunk in kept {
        readable.extend_from_slice(&bytes[chunk.start..chunk.end]);
    }
    readable.extend_from_slice(&bytes[last.end..]);
    Cow::Owned(readable)
}

/// Returns the chunks up to the last one, IEND; `None` if the file is cut off.
fn chunks(bytes: &[u8]) -> Option<Vec<Chunk<'_>>> {
    let mut chunks = Vec::new();
    let mut start = 8; // behind the signature
    loop {
        let [l3, l2, l1, l0, name @ ..] = *bytes.get(start..)?.first_chunk::<8>()?;
        let content_end = (start + 8).checked_add(u32::from_be_bytes([l3, l2, l1, l0]) as usize)?;
        let content = bytes.get(start + 8..content_end)?;
        let checksum = u32::from_be_bytes(*bytes.get(content_end..)?.first_chunk()?);
        // The decoder checks the other chunks.
        let is_ancillary = name[0].is_ascii_lowercase();
        let has_right_checksum = !is_ancillary || crc32fast::hash(&bytes[start + 4..content_end]) == checksum;
        chunks.push(Chunk { start, end: content_end + 4, name, content, has_right_checksum });
        start = content_end + 4;
        if name == *b"IEND" {
            return Some(chunks);
        }
    }
}

/// Decides which chunks Pillow refuses, by the rules of `PngStream` in its `PngImagePlugin.py`.
struct Refused {
    /// The colour type of the header.
    colours: u8,
    is_animation_sound: bool,
    /// Bytes of all texts so far.
    text: u64,
}

impl Refused {
    fn new(chunks: &[Chunk]) -> Refused {
        let header = chunks.first().map_or(&[][..], |chunk| chunk.content);
        Refused {
            colours: header.get(9).copied().unwrap_or_default(),
            is_animation_sound: is_animation_sound(chunks, header),
            text: 0,
        }
    }

    fn is(&mut self, chunk: &Chunk) -> bool {
        let content = chunk.content;
        if chunk.is_animation() {
            return !self.is_animation_sound;
        }
        if !chunk.has_right_checksum || !chunk.name.iter().all(u8::is_ascii_alphanumeric) {
            return true;
        }
        match &chunk.name {
            b"tRNS" => match self.colours {
                0 => content.len() < 2,
                2 => content.len() < 6,
                _ => false,
            },
            b"gAMA" => content.len() < 4,
            b"cHRM" => content.len() < 32,
            b"sRGB" => content.is_empty(),
            b"pHYs" => content.len() < 9,
            b"iCCP" => match behind_zero(content) {
                Some([0, packed @ ..]) => unpacked_length(packed).is_none(),
                _ => true,
            },
            b"eXIf" => !is_exif(content),
            b"tEXt" | b"zTXt" | b"iTXt" if is_unreadable_exif(chunk.name, content) => true,
            b"tEXt" => self.is_too_much(Some(content.len() as u64)),
            b"zTXt" => match behind_zero(content) {
                Some([0, packed @ ..]) => self.is_too_much(unpacked_length(packed)),
                Some([_, ..]) => true,
                Some([]) | None => false,
            },
            b"iTXt" => match behind_zero(content) {
                // A flag for packed texts, the method, then the language and the translated
                // keyword.
                Some([flag, method, texts @ ..]) => {
                    let text = behind_zero(texts).and_then(behind_zero).unwrap_or_default();
                    let is_packed = *flag != 0 && *method == 0;
                    self.is_too_much(if is_packed { unpacked_length(text) } else { Some(text.len() as u64) })
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns whether a text is too long, or all texts together are. `None` means longer than a
    /// text may be.
    fn is_too_much(&mut self, length: Option<u64>) -> bool {
        let Some(length) = length else { return true };
        let is_too_much = self.text + length > MOST_TEXT;
        if !is_too_much {
            self.text += length;
        }
        is_too_much
    }
}

/// Returns whether EXIF data are empty or have the header of a TIFF. `datasets` reads the
/// orientation of every image, and Pillow fails on other data.
pub(super) fn is_exif(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
    let has_header = matches!(
        bytes,
        [b'M', b'M', 0, 42 | 43, _, _, _, _, ..]
            | [b'I', b'I', 42 | 43, 0, _, _, _, _, ..]
            | [b'M', b'M', 42, 0, _, _, _, _, ..]
            | [b'I', b'I', 0, 42, _, _, _, _, ..]
    );
    has_header || bytes.is_empty()
}

/// Returns whether Pillow takes a text for EXIF data that it cannot read. It does so for two
/// keywords.
fn is_unreadable_exif(name: [u8; 4], content: &[u8]) -> bool {
    let (keyword, text) = match memchr::memchr(0, content) {
        Some(zero) => (&content[..zero], &content[zero + 1..]),
        None => (content, &[][..]),
    };
    match (keyword, &name) {
        (b"exif", b"tEXt") => !is_exif(text),
        (b"Raw profile type exif", b"tEXt") => !is_exif_in_digits(text),
        (b"Raw profile type exif", b"zTXt") => {
            let mut unpacked = Vec::new();
            let packed = text.get(1..).unwrap_or_default();
            let _damaged = ZlibDecoder::new(packed).take(MOST_UNPACKED).read_to_end(&mut unpacked);
            !is_exif_in_digits(&unpacked)
        }
        (b"exif" | b"Raw profile type exif", _) => true,
        _ => false,
    }
}

/// Returns whether a text consists of three lines and then EXIF data in hexadecimal digits, as
/// ImageMagick writes them.
fn is_exif_in_digits(text: &[u8]) -> bool {
    let digits: Vec<u8> = text.split(|byte| *byte == b'\n').skip(3).flatten().copied().collect();
    let digits: Option<Vec<u8>> = digits
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(*byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    digits.is_some_and(|digits| {
        let (pairs, rest) = digits.as_chunks::<2>();
        rest.is_empty() && is_exif(&pairs.iter().map(|[high, low]| high << 4 | low).collect::<Vec<u8>>())
    })
}

/// Returns the bytes after the first zero, which ends a text.
fn behind_zero(content: &[u8]) -> Option<&[u8]> {
    memchr::memchr(0, content).map(|zero| &content[zero + 1..])
}

/// Returns the unpacked length of packed bytes, as far as they can be unpacked; `None` if it is too
/// long.
fn unpacked_length(packed: &[u8]) -> Option<u64> {
    let mut unpacked = Vec::new();
    // Pillow ignores damaged data too.
    let _damaged = ZlibDecoder::new(packed).take(MOST_UNPACKED + 1).read_to_end(&mut unpacked);
    let length = unpacked.len() as u64;
    (length <= MOST_UNPACKED).then_some(length)
}

/// Returns whether the chunks of an animation are in order and its frames lie within the image. If
/// not, all of them are left out, and only the default image remains.
fn is_animation_sound(chunks: &[Chunk], header: &[u8]) -> bool {
    let double_word = |content: &[u8], at: usize| {
        let bytes = content.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|bytes| u64::from(u32::from_be_bytes(*bytes)))
    };
    let size = [0, 4].map(|at| double_word(header, at).unwrap_or_default());
    let mut sequence = 0;
    chunks.iter().filter(|chunk| chunk.is_animation()).all(|chunk| {
        let number = |at| double_word(chunk.content, at);
        if !chunk.has_right_checksum {
            return false;
        }
        if chunk.name == *b"acTL" {
            return chunk.content.len() >= 8;
        }
        let is_next = number(0) == Some(sequence);
        sequence += 1;
        let is_within = |axis: usize| {
            let [length, place] = [4, 12].map(|at| number(at + 4 * axis));
            length.zip(place).is_some_and(|(length, place)| place + length <= size[axis])
        };
        let is_frame = chunk.name == *b"fcTL";
        is_next && (!is_frame || chunk.content.len() >= 26 && is_within(0) && is_within(1))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::tests::fixture;
    use crate::{Check, Encode, Format, PictureSettings, Resize, prepare};

    /// A chunk as it is written.
    fn chunk(name: [u8; 4], content: &[u8]) -> Vec<u8> {
        let named = [&name[..], content].concat();
        let (length, checksum) = (content.len() as u32, crc32fast::hash(&named));
        [&length.to_be_bytes()[..], &named, &checksum.to_be_bytes()].concat()
    }

    fn with_wrong_checksum(mut chunk: Vec<u8>) -> Vec<u8> {
        *chunk.last_mut().unwrap() ^= 1;
        chunk
    }

    fn packed(length: usize) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'a'; length]).unwrap();
        encoder.finish().unwrap()
    }

    /// A PNG with chunks behind its header, or in front of its end.
    fn with_chunks(inserted: &[u8], before_pixels: bool) -> Vec<u8> {
        let png = fixture("alpha.png");
        let place = if before_pixels { 8 + 25 } else { png.len() - 12 };
        [&png[..place], inserted, &png[place..]].concat()
    }

    /// A frame of the size of the image, so many pixels from its left.
    fn frame(sequence: u32, left: u32) -> Vec<u8> {
        let [sequence, left, top] = [sequence, left, 0].map(u32::to_be_bytes);
        let png = fixture("alpha.png");
        chunk(*b"fcTL", &[&sequence[..], &png[16..24], &left, &top, &[0, 1, 0, 10, 0, 0]].concat())
    }

    /// Chunks, and whether Pillow 13 refuses a file with them before its pixels.
    fn kinds() -> Vec<(&'static str, Vec<u8>, bool)> {
        let text = |name: &[u8; 4], parts: &[&[u8]]| chunk(*name, &parts.concat());
        let animation = chunk(*b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]);
        vec![
            ("a text", chunk(*b"tEXt", b"Comment\0a"), false),
            ("a text without a key", chunk(*b"tEXt", b"no key"), false),
            ("a text with a wrong checksum", with_wrong_checksum(chunk(*b"tEXt", b"Comment\0a")), true),
            ("a time with a wrong checksum", with_wrong_checksum(chunk(*b"tIME", &[7, 230, 1, 1, 1, 1, 1])), true),
            ("an unknown chunk", chunk(*b"abCd", b"anything"), false),
            ("an unknown chunk with a wrong checksum", with_wrong_checksum(chunk(*b"abCd", b"anything")), true),
            ("a name that is none", chunk(*b"a-cd", b"anything"), true),
            ("a packed text", text(b"zTXt", &[b"Comment\0\0", &packed(1000)]), false),
            ("a packed text of another method", text(b"zTXt", &[b"Comment\0\x01", &packed(1000)]), true),
            ("a packed text that is damaged", text(b"zTXt", &[b"Comment\0\0", b"damaged"]), false),
            ("a packed text of two megabytes", text(b"zTXt", &[b"Comment\0\0", &packed(2 << 20)]), true),
            ("an international text", chunk(*b"iTXt", b"Comment\0\0\0de\0Kommentar\0a"), false),
            ("one of two megabytes", text(b"iTXt", &[b"Comment\0\x01\0de\0Kommentar\0", &packed(2 << 20)]), true),
            ("a profile", text(b"iCCP", &[b"name\0\0", &packed(500)]), false),
            ("a profile of another method", text(b"iCCP", &[b"name\0\x01", &packed(500)]), true),
            ("a profile of two megabytes", text(b"iCCP", &[b"name\0\0", &packed(2 << 20)]), true),
            ("a short gamma", chunk(*b"gAMA", &[0, 0, 1]), true),
            ("short chromaticities", chunk(*b"cHRM", &[0; 31]), true),
            ("an empty intent", chunk(*b"sRGB", b""), true),
            ("a short density", chunk(*b"pHYs", &[0; 8]), true),
            ("EXIF data", chunk(*b"eXIf", b"II*\0\x08\0\0\0"), false),
            ("EXIF data that are none", chunk(*b"eXIf", b"garbage that is no TIFF"), true),
            ("EXIF data in a text", chunk(*b"tEXt", b"exif\0garbage that is no TIFF"), true),
            ("EXIF data in digits", chunk(*b"tEXt", b"Raw profile type exif\0\nexif\n8\n49492a00\n08000000\n"), false),
            ("EXIF data in no digits", chunk(*b"tEXt", b"Raw profile type exif\0\nexif\n8\nxyz\n"), true),
            ("a frame", [animation.clone(), frame(0, 0)].concat(), false),
            ("a frame out of order", [animation.clone(), frame(1, 0)].concat(), true),
            ("a frame that is not within the picture", [animation, frame(0, 1)].concat(), true),
            ("a short animation control", chunk(*b"acTL", &[0, 0, 0, 1]), true),
        ]
    }

    #[test]
    fn what_pillow_refuses_is_left_out_and_nothing_else() {
        let png = fixture("alpha.png");
        for (kind, chunks, is_refused) in kinds() {
            for before_pixels in [true, false] {
                let served = with_chunks(&chunks, before_pixels);
                assert_eq!(&*readable(&served), if is_refused { &png } else { &served }, "{kind}");
            }
        }
        for length in 0..png.len() {
            assert!(matches!(readable(&png[..length]), Cow::Borrowed(_)), "cut off after {length}");
        }
    }

    #[test]
    fn what_is_kept_has_the_pixels_that_were_served() {
        let settings = PictureSettings {
            resize: Resize::Keep,
            size: 1,
            only_if_larger: true,
            encode: Encode::Jpeg,
            quality: 95,
            max_pixels: 1_000_000,
            check: Check::Pixels,
        };
        let pixels = crate::decode_file(&fixture("alpha.png"), 1_000_000).unwrap();
        for (kind, chunks, is_refused) in kinds() {
            for check in [Check::Pixels, Check::Structure] {
                let served = with_chunks(&chunks, true);
                let kept = prepare(served.clone(), &PictureSettings { check, ..settings }, &[]).unwrap();
                assert!(kept.format == Format::Png && (kept.bytes != served) == is_refused, "{kind}");
                assert!(crate::decode_file(&kept.bytes, 1_000_000).unwrap() == pixels, "{kind}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic_and_once_is_enough(
            kind in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let kinds = kinds();
            let mut file = with_chunks(&kinds[kind.index(kinds.len())].1, true);
            for (place, value) in changes {
                let length = file.len();
                file[place.index(length)] = value;
            }
            let once = readable(&file).into_owned();
            prop_assert!(matches!(readable(&once), Cow::Borrowed(_)));
        }
    }
}
