//! Kinds of bitmaps and TIFFs that are decoded here and that Pillow does not open. Such files are
//! not kept as they were served: whoever reads the pool, `datasets` most often, could not show them.
//!
//! The rules are those of Pillow 13, `BmpImagePlugin.py` and `TiffImagePlugin.py`.

use super::sniff::Format;
use super::tiff::directory::{
    BITS_PER_SAMPLE, COLOR_MAP, Directory, EXTRA_SAMPLES, FILL_ORDER, PHOTOMETRIC_INTERPRETATION, SAMPLE_FORMAT,
    SAMPLES_PER_PIXEL,
};

/// Whether Pillow opens a file of this kind, if it is whole.
pub(super) fn opens(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Bmp => opens_bitmap(bytes).unwrap_or(false),
        Format::Tiff => Directory::first(bytes).is_ok_and(|directory| opens_tiff(&directory)),
        Format::Jpeg | Format::Png | Format::WebP | Format::Gif => true,
    }
}

/// `None` if the header is cut off.
fn opens_bitmap(bytes: &[u8]) -> Option<bool> {
    let word = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let double_word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let header_bytes = double_word(14)?;
    if header_bytes == 12 {
        return Some(matches!(word(24)?, 1 | 4 | 8 | 16 | 24 | 32));
    }
    let (bits, compression, colours) = (word(28)?, double_word(30)?, double_word(46)?);
    if !matches!(header_bytes, 40 | 52 | 56 | 64 | 108 | 124) || (bits <= 8 && colours > 65_536) {
        return Some(false);
    }
    Some(match (compression, bits) {
        (0, 1 | 4 | 8 | 16 | 24 | 32) | (1, 8) | (2, 4) => true,
        (3, 16 | 24 | 32) => {
            let colours = [double_word(54)?, double_word(58)?, double_word(62)?];
            // Shorter headers have no mask of the alpha.
            let alpha = if header_bytes >= 56 { double_word(66)? } else { 0 };
            match (bits, colours, alpha) {
                (16, [0xf800, 0x7e0, 0x1f] | [0x7c00, 0x3e0, 0x1f], _)
                | (24, [0xff_0000, 0xff00, 0xff], _)
                | (32, [0xff_0000, 0xff00, 0xff], 0 | 0xff00_0000)
                | (32, [0xff00_0000, 0xff_0000, 0xff00], 0 | 0xff)
                | (32, [0xff00_0000, 0xff00, 0xff], 0 | 0xff_0000)
                | (32, [0xff, 0xff00, 0xff_0000], 0xff00_0000)
                | (32, [0, 0, 0], 0) => true,
                _ => false,
            }
        }
        _ => false,
    })
}

fn opens_tiff(directory: &Directory) -> bool {
    let all = |tag: u16| -> Vec<u64> { directory.numbers(tag).map(Iterator::collect).unwrap_or_default() };
    let first = |tag: u16, missing: u64| directory.number(tag).unwrap_or(missing);
    let photometric = first(PHOTOMETRIC_INTERPRETATION, 0);
    let (sample_format, fill_order) = (first(SAMPLE_FORMAT, 1), first(FILL_ORDER, 1));
    let (bits, extra) = (all(BITS_PER_SAMPLE), all(EXTRA_SAMPLES));
    let depth = bits.first().copied().unwrap_or(1);
    // Components beyond the announced samples do not count.
    let samples = usize::try_from(first(SAMPLES_PER_PIXEL, bits.len().max(1) as u64)).unwrap_or(usize::MAX);
    if bits.iter().take(samples).any(|bits| *bits != depth) {
        return false;
    }
    let is_little = directory.is_little_endian();
    let is_straight = fill_order == 1;
    let has_palette = photometric != 3 || directory.number(COLOR_MAP).is_some();
    // The first extra sample may be an alpha, those behind it say nothing.
    let says_nothing = |extra: &[u64]| extra.iter().all(|kind| *kind == 0);
    let by_alpha = extra.first().is_none_or(|kind| *kind <= 2) && extra.get(1..).is_none_or(says_nothing);
    has_palette
        && match (sample_format, photometric, depth, samples) {
            (1, 0 | 1 | 3, 1 | 2 | 4 | 8, 1) => extra.is_empty(),
            (1, 0, 16, 1) => is_straight && is_little,
            (1, 1, 12 | 32, 1) => is_straight && is_little,
            (1, 1, 16, 1) => is_straight || is_little,
            (1, 1, 8, 2) => is_straight && extra.len() == 1 && extra[0] <= 2,
            (1, 3, 8, 2) => is_straight && matches!(extra[..], [0 | 2]),
            (1, 2, 8, 3) => extra.is_empty(),
            (1, 2, 8, 4) => is_straight && (extra.len() <= 1 && by_alpha || extra == [999]),
            (1, 2, 8, 5 | 6) => is_straight && extra.len() == samples - 3 && by_alpha,
            (1, 2, 16, 3 | 4) => is_straight && extra.len() <= samples - 3 && by_alpha,
            (1, 5, 8, 4..=6) => is_straight && extra.len() == samples - 4 && says_nothing(&extra),
            (1, 5, 16, 4) => is_straight && extra.is_empty(),
            (1, 6, 8, 1 | 3) | (1, 8, 8, 3) => is_straight && extra.is_empty(),
            (2, 1, 8 | 16, 1) => is_straight,
            (2, 1, 32, 1) | (3, 0 | 1, 32, 1) => is_straight,
            _ => false,
        }
}
