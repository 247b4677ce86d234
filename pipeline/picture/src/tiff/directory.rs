//! Reads the first directory of a file and the values of its tags.

use image::metadata::Orientation;

use super::super::PictureError;
use super::super::resize::turned;
use crate::{broken, cut_off};

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
pub(in super::super) const BITS_PER_SAMPLE: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(in super::super) const PHOTOMETRIC_INTERPRETATION: u16 = 262;
pub(in super::super) const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const ORIENTATION: u16 = 274;
pub(in super::super) const SAMPLES_PER_PIXEL: u16 = 277;
pub(super) const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
pub(super) const PLANAR_CONFIGURATION: u16 = 284;
pub(super) const T4_OPTIONS: u16 = 292;
pub(super) const PREDICTOR: u16 = 317;
pub(in super::super) const COLOR_MAP: u16 = 320;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
pub(in super::super) const EXTRA_SAMPLES: u16 = 338;
pub(in super::super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347; // TIFF Technical Note 2
pub(super) const ICC_PROFILE: u16 = 34675; // ICC.1:2010, annex B.4

/// The tags of one image, with their values.
pub(in super::super) struct Directory<'a> {
    file: &'a [u8],
    number: NumberFormat,
    entries: Vec<Entry<'a>>,
    is_whole: bool,
}

struct Entry<'a> {
    tag: u16,
    kind: u16,
    /// The bytes of its values; `None` if they are outside of the file.
    values: Option<&'a [u8]>,
}

/// The positions of the strips or tiles of an image.
pub(in super::super) struct Chunks<'a> {
    /// Their name in messages.
    pub name: &'static str,
    file: &'a [u8],
    /// Offset and length of each.
    extents: Vec<(u64, u64)>,
}

impl<'a> Directory<'a> {
    /// Reads the first directory of a file, with all values that are within the file.
    pub(in super::super) fn first(file: &'a [u8]) -> Result<Self, PictureError> {
        let in_header = || cut_off("in its header");
        let in_directory = || cut_off("in its first directory");
        let is_little_endian = file.starts_with(b"II");
        let number = NumberFormat { is_little_endian };
        let is_big_tiff = number.read(file.get(2..4).ok_or_else(in_header)?) == 43;
        // Bytes of an offset or a count of values, and bytes of the count of entries.
        let (word, entry_count) = if is_big_tiff { (8, 8) } else { (4, 2) };
        let at = |position: usize, length: usize| file.get(position..position.checked_add(length)?);
        let start = number.read(at(word, word).ok_or_else(in_header)?);
        let start = usize::try_from(start).map_err(|_| in_directory())?;
        let count = number.read(at(start, entry_count).ok_or_else(in_directory)?);
        let entry_bytes = 4 + 2 * word;
        let all = &file[start + entry_count..];
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(entry_bytes));
        // The offset of the next directory follows the entries.
        let is_whole = length.is_some_and(|length| length.saturating_add(word) <= all.len());
        let mut entries = Vec::new();
        for entry in all[..length.unwrap_or(all.len()).min(all.len())].chunks_exact(entry_bytes) {
            let (tag, kind) = (number.read(&entry[..2]) as u16, number.read(&entry[2..4]) as u16);
            let (count, inline) = (number.read(&entry[4..4 + word]), &entry[4 + word..]);
            // Readers ignore types that they do not know.
            let Some(value_bytes) = bytes_of(kind) else { continue };
            let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(value_bytes));
            let values = length.and_then(|length| {
                if length <= word {
                    inline.get(..length)
                } else {
                    at(usize::try_from(number.read(inline)).ok()?, length)
                }
            });
            entries.push(Entry { tag, kind, values });
        }
        Ok(Directory { file, number, entries, is_whole })
    }

    pub(in super::super) fn is_little_endian(&self) -> bool {
        self.number.is_little_endian
    }

    /// Fails unless the directory and all its values are within the file.
    pub(in super::super) fn check(&self) -> Result<(), PictureError> {
        if !self.is_whole {
            return Err(cut_off("in its first directory"));
        }
        match self.entries.iter().find(|entry| entry.values.is_none()) {
            Some(Entry { tag, .. }) => Err(cut_off(&format!("in the values of tag {tag}"))),
            None => Ok(()),
        }
    }

    /// Returns the bytes of the values of a tag.
    pub(super) fn bytes(&self, wanted: u16) -> Option<&'a [u8]> {
        self.entries.iter().find(|entry| entry.tag == wanted)?.values
    }

    /// Returns the values of a tag, if it exists and its values are integers.
    pub(in super::super) fn numbers(&self, wanted: u16) -> Option<impl ExactSizeIterator<Item = u64> + use<'a>> {
        let Entry { kind, values, .. } = self.entries.iter().find(|entry| entry.tag == wanted)?;
        // BYTE, SHORT, LONG, IFD, LONG8, IFD8
        if ![1, 3, 4, 13, 16, 18].contains(kind) {
            return None;
        }
        let number = self.number;
        Some((*values)?.chunks_exact(bytes_of(*kind)?).map(move |value| number.read(value)))
    }

    /// Returns the first value of a tag, if it exists.
    pub(in super::super) fn number(&self, wanted: u16) -> Option<u64> {
        self.numbers(wanted)?.next()
    }

    /// Returns the orientation that must be applied to make the image upright.
    pub(in super::super) fn orientation(&self) -> Orientation {
        let number = self.number(ORIENTATION).and_then(|number| u8::try_from(number).ok());
        number.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }

    /// Returns the width and height of the upright image, pixels.
    pub(in super::super) fn upright_size(&self) -> Result<(u32, u32), PictureError> {
        Ok(turned(self.size()?, self.orientation()))
    }

    /// Returns the width and height, pixels.
    pub(super) fn size(&self) -> Result<(u32, u32), PictureError> {
        let side = |tag, name: &str| {
            let value = self.number(tag).ok_or_else(|| broken(format!("the first directory has no {name}")))?;
            u32::try_from(value).map_err(|_| broken(format!("{name} is {value}")))
        };
        Ok((side(IMAGE_WIDTH, "ImageWidth")?, side(IMAGE_LENGTH, "ImageLength")?))
    }

    /// Returns the strips or tiles, whether or not they are within the file.
    pub(in super::super) fn chunks(&self) -> Result<Chunks<'a>, PictureError> {
        let tiles = (self.numbers(TILE_OFFSETS), self.numbers(TILE_BYTE_COUNTS));
        let strips = (self.numbers(STRIP_OFFSETS), self.numbers(STRIP_BYTE_COUNTS));
        let (name, offsets, counts) = match (tiles, strips) {
            ((Some(offsets), Some(counts)), _) => ("tile", offsets, counts),
            (_, (Some(offsets), Some(counts))) => ("strip", offsets, counts),
            _ => return Err(broken("the first directory does not say where its strips or tiles are")),
        };
        if offsets.len() == 0 || offsets.len() != counts.len() {
            return Err(broken(format!("there are {} {name}s but {} lengths of them", offsets.len(), counts.len())));
        }
        Ok(Chunks { name, file: self.file, extents: offsets.zip(counts).collect() })
    }
}

impl<'a> Chunks<'a> {
    pub(in super::super) fn count(&self) -> usize {
        self.extents.len()
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Returns the total number of bytes.
    pub(super) fn total_bytes(&self) -> u64 {
        self.extents.iter().fold(0, |total, (_, count)| total.saturating_add(*count))
    }

    /// Returns the bytes of the file from the start of a strip or tile. This is for uncompressed
    /// data: their length is known, and Pillow ignores the announced one.
    pub(super) fn bytes_from(&self, index: usize) -> &'a [u8] {
        let start = usize::try_from(self.extents[index].0).ok();
        start.and_then(|start| self.file.get(start..)).unwrap_or_default()
    }

    /// Returns the bytes of a strip or tile.
    pub(in super::super) fn bytes(&self, index: usize) -> Result<&'a [u8], PictureError> {
        let (offset, count) = self.extents[index];
        let start = usize::try_from(offset).ok();
        let end = offset.checked_add(count).and_then(|end| usize::try_from(end).ok());
        let bytes = start.zip(end).and_then(|(start, end)| self.file.get(start..end));
        bytes.ok_or_else(|| cut_off(&format!("in {} {index}", self.name)))
    }
}

/// Returns the size in bytes of a value of a type (TIFF 6.0, section 2; 13 is from the supplement
/// of 1995, 16 to 18 are from BigTIFF).
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
    /// Returns a number of at most 8 bytes.
    fn read(self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        if self.is_little_endian { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }
}
