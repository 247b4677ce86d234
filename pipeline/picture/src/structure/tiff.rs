//! TIFF 6.0 and BigTIFF: the first directory with all its values, and the extents of its strips or tiles.

use super::{PictureError, Size, broken, cut_off, sized};

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const STRIP_OFFSETS: u16 = 273;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const EXTRA_SAMPLES: u16 = 338;
const ICC_PROFILE: u16 = 34675; // ICC.1:2010, annex B.4

pub(super) fn check(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let directory = Directory::first(bytes)?;
    let side = |tag, name: &str| {
        let value = directory.numbers(tag).and_then(|mut values| values.next());
        let value = value.ok_or_else(|| broken(format!("the first directory has no {name}")))?;
        u32::try_from(value).map_err(|_| broken(format!("{name} is {value}")))
    };
    let size = sized(side(IMAGE_WIDTH, "ImageWidth")?, side(IMAGE_LENGTH, "ImageLength")?, max_pixels)?;
    let tiles = (directory.numbers(TILE_OFFSETS), directory.numbers(TILE_BYTE_COUNTS));
    let strips = (directory.numbers(STRIP_OFFSETS), directory.numbers(STRIP_BYTE_COUNTS));
    let (part, offsets, counts) = match (tiles, strips) {
        ((Some(offsets), Some(counts)), _) => ("tile", offsets, counts),
        (_, (Some(offsets), Some(counts))) => ("strip", offsets, counts),
        _ => return Err(broken("the first directory does not say where its strips or tiles are")),
    };
    if offsets.len() == 0 || offsets.len() != counts.len() {
        return Err(broken(format!("there are {} {part}s but {} lengths of them", offsets.len(), counts.len())));
    }
    for (index, (offset, count)) in offsets.zip(counts).enumerate() {
        if offset.checked_add(count).is_none_or(|end| end > bytes.len() as u64) {
            return Err(cut_off(&format!("in {part} {index}")));
        }
    }
    Ok(size)
}

/// The colour profile of the first picture, if the file is whole so far.
pub(in super::super) fn profile(bytes: &[u8]) -> Option<&[u8]> {
    let directory = Directory::first(bytes).ok()?;
    directory.entries.iter().find(|(tag, ..)| *tag == ICC_PROFILE).map(|(_, _, values)| *values)
}

/// Whether the pixels of the first picture have been multiplied by their alpha (TIFF 6.0, section 18: `ExtraSamples` of 1).
pub(in super::super) fn has_associated_alpha(bytes: &[u8]) -> bool {
    let first = Directory::first(bytes).ok().and_then(|directory| directory.numbers(EXTRA_SAMPLES)?.next());
    first == Some(1)
}

/// The tags of one picture, with their values.
struct Directory<'a> {
    number: NumberFormat,
    /// Tag, type, and bytes of the values.
    entries: Vec<(u16, u16, &'a [u8])>,
}

impl<'a> Directory<'a> {
    /// Finds the first directory by the file's header, and all its values.
    fn first(bytes: &'a [u8]) -> Result<Self, PictureError> {
        let in_header = || cut_off("in its header");
        let in_directory = || cut_off("in its first directory");
        let is_little_endian = bytes.starts_with(b"II");
        let number = NumberFormat { is_little_endian };
        let is_big_tiff = number.read(bytes.get(2..4).ok_or_else(in_header)?) == 43;
        // Bytes of an offset and of a count of values, and of the count of entries.
        let (word, entry_count) = if is_big_tiff { (8, 8) } else { (4, 2) };
        let at = |position: usize, length: usize| bytes.get(position..position.checked_add(length)?);
        let start = number.read(at(word, word).ok_or_else(in_header)?);
        let start = usize::try_from(start).map_err(|_| in_directory())?;
        let count = number.read(at(start, entry_count).ok_or_else(in_directory)?);
        let entry_bytes = 4 + 2 * word;
        // The offset of the next directory stands behind the entries.
        let all = usize::try_from(count).ok().and_then(|count| count.checked_mul(entry_bytes));
        let all = all.and_then(|all| at(start + entry_count, all.checked_add(word)?)).ok_or_else(in_directory)?;
        let mut entries = Vec::new();
        for entry in all[..all.len() - word].chunks_exact(entry_bytes) {
            let (tag, kind) = (number.read(&entry[..2]) as u16, number.read(&entry[2..4]) as u16);
            let (count, inline) = (number.read(&entry[4..4 + word]), &entry[4 + word..]);
            // Readers ignore types that they do not know.
            let Some(value_bytes) = bytes_of(kind) else { continue };
            let in_values = || cut_off(&format!("in the values of tag {tag}"));
            let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(value_bytes));
            let length = length.ok_or_else(in_values)?;
            let values = if length <= word {
                &inline[..length]
            } else {
                let offset = usize::try_from(number.read(inline)).map_err(|_| in_values())?;
                at(offset, length).ok_or_else(in_values)?
            };
            entries.push((tag, kind, values));
        }
        Ok(Directory { number, entries })
    }

    /// The values of a tag, if it is there and its values are whole numbers.
    fn numbers(&self, wanted: u16) -> Option<impl ExactSizeIterator<Item = u64> + use<'a>> {
        let (_, kind, values) = self.entries.iter().find(|(tag, ..)| *tag == wanted)?;
        // BYTE, SHORT, LONG, IFD, LONG8, IFD8
        if ![1, 3, 4, 13, 16, 18].contains(kind) {
            return None;
        }
        let number = self.number;
        Some(values.chunks_exact(bytes_of(*kind)?).map(move |value| number.read(value)))
    }
}

/// Bytes of one value of a type: TIFF 6.0, section 2; 13 is of the supplement of 1995, 16 to 18 are BigTIFF's.
fn bytes_of(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct NumberFormat {
    is_little_endian: bool,
}

impl NumberFormat {
    /// A number of at most 8 bytes.
    fn read(self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        if self.is_little_endian { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }
}
