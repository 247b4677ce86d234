//! Recognises bitmaps and TIFFs that are decoded here but that Pillow does not open. Such files are
//! not kept as served, because readers of the pool, such as `datasets`, could not open them.
//!
//! The rules are those of Pillow 13, `BmpImagePlugin.py` and `TiffImagePlugin.py`. Also removes
//! invalid EXIF data from WebP files.

use super::png::is_exif;
use super::sniff::Format;
use super::tiff::directory::{
    BITS_PER_SAMPLE, COLOR_MAP, Directory, EXTRA_SAMPLES, FILL_ORDER, PHOTOMETRIC_INTERPRETATION, SAMPLE_FORMAT,
    SAMPLES_PER_PIXEL,
};

/// Returns whether Pillow opens a complete file of this kind.
pub(super) fn opens(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Bmp => opens_bitmap(bytes).unwrap_or(false),
        Format::Tiff => {
            let directory = Directory::first(bytes);
            directory.is_ok_and(|directory| directory.check().is_ok() && opens_tiff(&directory))
        }
        Format::Jpeg | Format::Png | Format::WebP | Format::Gif => true,
    }
}

/// Returns whether Pillow opens a bitmap; `None` if the header is cut off.
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
            // Shorter headers have no alpha mask.
            let alpha = if header_bytes >= 56 { double_word(66)? } else { 0 };
            matches!(
                (bits, colours, alpha),
                (16, [0xf800, 0x7e0, 0x1f] | [0x7c00, 0x3e0, 0x1f], _)
                    | (24, [0xff_0000, 0xff00, 0xff], _)
                    | (32, [0xff_0000, 0xff00, 0xff], 0 | 0xff00_0000)
                    | (32, [0xff00_0000, 0xff_0000, 0xff00], 0 | 0xff)
                    | (32, [0xff00_0000, 0xff00, 0xff], 0 | 0xff_0000)
                    | (32, [0xff, 0xff00, 0xff_0000], 0xff00_0000)
                    | (32, [0, 0, 0], 0)
            )
        }
        _ => false,
    })
}

/// Returns a WebP without its invalid EXIF chunk (RFC 9649, section 2.7), with which Pillow fails
/// to read the orientation. `None` if there is no such chunk, or if the file is not complete.
pub(super) fn webp_without_unreadable_exif(bytes: &[u8]) -> Option<Vec<u8>> {
    const EXIF_FLAG: u8 = 8;
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize + 8;
    let file = bytes.get(..length)?;
    let mut kept = file.get(..12)?.to_vec();
    let mut rest = &file[12..];
    let mut is_unreadable = false;
    while let Some([name @ .., l0, l1, l2, l3]) = rest.first_chunk::<8>() {
        let content_length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        let content = rest.get(8..8 + content_length)?;
        let chunk;
        (chunk, rest) = rest.split_at((8 + content_length + content_length % 2).min(rest.len()));
        if name == b"EXIF" && !is_exif(content) {
            is_unreadable = true;
        } else {
            kept.extend_from_slice(chunk);
        }
    }
    if !is_unreadable {
        return None;
    }
    let length = u32::try_from(kept.len() - 8).ok()?;
    kept[4..8].copy_from_slice(&length.to_le_bytes());
    if kept.get(12..16) == Some(b"VP8X") {
        *kept.get_mut(20)? &= !EXIF_FLAG;
    }
    Some(kept)
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
    // The first extra sample may be alpha; the others must be unspecified.
    let says_nothing = |extra: &[u64]| extra.iter().all(|kind| *kind == 0);
    let by_alpha = extra.first().is_none_or(|kind| *kind <= 2) && extra.get(1..).is_none_or(says_nothing);
    has_palette
        && match (sample_format, photometric, depth, samples) {
            (1, 0 | 1 | 3, 1 | 2 | 4 | 8, 1) | (1, 2, 8, 3) => extra.is_empty(),
            (1, 0, 16, 1) | (1, 1, 12 | 32, 1) => is_straight && is_little,
            (1, 1, 16, 1) => is_straight || is_little,
            (1, 1, 8, 2) => is_straight && extra.len() == 1 && extra[0] <= 2,
            (1, 3, 8, 2) => is_straight && matches!(extra[..], [0 | 2]),
            (1, 2, 8, 4) => is_straight && (extra.len() <= 1 && by_alpha || extra == [999]),
            (1, 2, 8, 5 | 6) => is_straight && extra.len() == samples - 3 && by_alpha,
            (1, 2, 16, 3 | 4) => is_straight && extra.len() <= samples - 3 && by_alpha,
            (1, 5, 8, 4..=6) => is_straight && extra.len() == samples - 4 && says_nothing(&extra),
            (1, 5, 16, 4) | (1, 6, 8, 1 | 3) | (1, 8, 8, 3) => is_straight && extra.is_empty(),
            (2, 1, 8 | 16 | 32, 1) | (3, 0 | 1, 32, 1) => is_straight,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    fn chunk(name: [u8; 4], content: &[u8]) -> Vec<u8> {
        let padding = vec![0; content.len() % 2];
        [&name[..], &(content.len() as u32).to_le_bytes(), content, &padding].concat()
    }

    #[test]
    fn exif_data_that_are_none_are_left_out_of_a_webp() {
        let simple = fixture("rgb_webp.webp");
        let size = crate::decode_file(&simple, 1_000_000).unwrap();
        let [w0, w1, w2, _] = (size.width() - 1).to_le_bytes();
        let [h0, h1, h2, _] = (size.height() - 1).to_le_bytes();
        let with = |flags: u8, exif: Option<&[u8]>| {
            let header = chunk(*b"VP8X", &[flags, 0, 0, 0, w0, w1, w2, h0, h1, h2]);
            let exif = exif.map(|exif| chunk(*b"EXIF", exif)).unwrap_or_default();
            let body = [&b"WEBP"[..], &header, &simple[12..], &exif].concat();
            [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
        };
        for (exif, is_readable) in [(&b"II*\0\x08\0\0\0\0\0"[..], true), (b"garbage", false), (b"II*", false)] {
            let served = with(8, Some(exif));
            let cleaned = webp_without_unreadable_exif(&served);
            assert_eq!(cleaned, (!is_readable).then(|| with(0, None)), "{exif:?}");
            assert!(crate::decode_file(&cleaned.unwrap_or(served), 1_000_000).unwrap() == size);
        }
        assert_eq!(webp_without_unreadable_exif(&simple), None);
        for length in 0..simple.len() {
            assert_eq!(webp_without_unreadable_exif(&simple[..length]), None);
        }
    }

    #[test]
    fn bitmaps_are_of_kinds_that_pillow_opens_or_not() {
        let bitmap = fixture("rgb_bmp.bmp");
        assert!(opens(&bitmap, Format::Bmp));
        let changed = |place: usize, value: &[u8]| {
            let mut bytes = bitmap.clone();
            bytes[place..place + value.len()].copy_from_slice(value);
            bytes
        };
        for (place, value, is_opened) in [
            (28, &[2, 0][..], false), // two bits per pixel
            (28, &[32, 0], true),
            (30, &[6, 0, 0, 0], false),  // bit fields with an alpha
            (30, &[3, 0, 0, 0], false),  // bit fields that are pixels
            (14, &[16, 0, 0, 0], false), // a header of OS/2
        ] {
            assert_eq!(opens(&changed(place, value), Format::Bmp), is_opened, "{value:?} at {place}");
        }
        let mut fields = changed(28, &[32, 0, 3, 0, 0, 0]);
        fields[54..66].copy_from_slice(&[0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0]);
        assert!(opens(&fields, Format::Bmp));
        fields[54] = 1;
        assert!(!opens(&fields, Format::Bmp));
    }
}
