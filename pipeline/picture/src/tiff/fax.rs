//! Decodes fax codes for black and white images: ITU-T T.4 (Group 3) and T.6 (Group 4), as in TIFF
//! 6.0, sections 10 and 11.

use fax::maps::{self, Mode};

/// The coding of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Each row on its own, beginning at a whole byte.
    Rows,
    /// Each row on its own, after an end-of-line code.
    Group3,
    /// As `Group3`, but a row may also be coded relative to the previous one.
    Group3TwoDimensional,
    /// Each row relative to the previous one.
    Group4,
}

/// Decodes `height` rows of `width` pixels to rows of whole bytes, the first pixel in the highest
/// bit, 1 for black. Returns `None` if they are damaged or cut off.
pub(super) fn decode(bytes: &[u8], coding: Coding, width: usize, height: usize) -> Option<Vec<u8>> {
    let mut bits = Bits { bytes, position: 0 };
    let row_bytes = width.div_ceil(8);
    let mut rows = vec![0; row_bytes * height];
    let (mut above, mut row) = (Vec::new(), Vec::new());
    for target in rows.chunks_exact_mut(row_bytes) {
        row.clear();
        let is_by_above = match coding {
            Coding::Rows => {
                bits.position = bits.position.next_multiple_of(8);
                false
            }
            Coding::Group3 => {
                bits.skip_end_of_line()?;
                false
            }
            // A bit after the end-of-line code says how the row is coded.
            Coding::Group3TwoDimensional => bits.skip_end_of_line()? && !bits.bit()?,
            Coding::Group4 => true,
        };
        if is_by_above {
            read_row_by_above(&mut bits, &above, &mut row, width)?;
        } else {
            read_row(&mut bits, &mut row, width)?;
        }
        for black in row.chunks(2) {
            fill(target, black[0], black.get(1).copied().unwrap_or(width));
        }
        std::mem::swap(&mut above, &mut row);
    }
    Some(rows)
}

/// Reads a row that is coded on its own: the positions where its colour changes, beginning with
/// white.
fn read_row(bits: &mut Bits, row: &mut Vec<usize>, width: usize) -> Option<()> {
    let (mut position, mut is_black) = (0, false);
    while position < width {
        position += run(bits, is_black)?;
        row.push(position);
        is_black = !is_black;
    }
    (position == width).then_some(())
}

/// Reads a row that is coded relative to the colour changes of the row above (T.6, 2.2).
fn read_row_by_above(bits: &mut Bits, above: &[usize], row: &mut Vec<usize>, width: usize) -> Option<()> {
    let mut position = 0;
    // Index of the first change above that may still be after the position.
    let mut next = 0;
    let mut is_at_start = true;
    while position < width {
        let is_black = row.len() % 2 == 1;
        // The first change to the other colour after the position. At the start of the row, it may
        // be at the first pixel.
        next = usize::saturating_sub(next, 2);
        while next < above.len()
            && (above[next] < position || above[next] == position && !is_at_start || (next % 2 == 1) != is_black)
        {
            next += 1;
        }
        let above_at = |index: usize| above.get(index).copied().unwrap_or(width);
        match maps::mode::decode(bits)? {
            Mode::Pass => position = above_at(next + 1),
            Mode::Horizontal => {
                for is_black in [is_black, !is_black] {
                    position += run(bits, is_black)?;
                    row.push(position);
                }
            }
            Mode::Vertical(offset) => {
                let change = above_at(next).checked_add_signed(isize::from(offset))?;
                if change < position {
                    return None;
                }
                position = change;
                row.push(position);
            }
            Mode::Extension | Mode::EOF => return None,
        }
        is_at_start = false;
    }
    (position == width).then_some(())
}

/// Reads the length of a run of one colour: multiples of 64, then the remainder (T.4, 4.1.1).
fn run(bits: &mut Bits, is_black: bool) -> Option<usize> {
    let mut length = 0_usize;
    loop {
        let part = if is_black { maps::black::decode(bits)? } else { maps::white::decode(bits)? };
        length = length.checked_add(usize::from(part))?;
        if part < 64 {
            return Some(length);
        }
    }
}

/// Makes the pixels from `start` up to (not including) `end` black.
fn fill(row: &mut [u8], start: usize, end: usize) {
    if start >= end {
        return;
    }
    let (first, last) = (start / 8, (end - 1) / 8);
    let (from_start, to_end) = (0xff_u8 >> (start % 8), 0xff_u8 << (7 - (end - 1) % 8));
    if first == last {
        row[first] |= from_start & to_end;
        return;
    }
    row[first] |= from_start;
    row[first + 1..last].fill(0xff);
    row[last] |= to_end;
}

/// A reader of bits, from the highest of a byte to the lowest.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Number of bits that were read.
    position: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<bool> {
        let bit = fax::BitReader::peek(self, 1)? == 1;
        fax::BitReader::consume(self, 1).ok()?;
        Some(bit)
    }

    /// Skips an end-of-line code (at least eleven zeros and a one) and returns whether there was
    /// one. Returns `None` if only zeros are left.
    fn skip_end_of_line(&mut self) -> Option<bool> {
        if fax::BitReader::peek(self, 11)? != 0 {
            return Some(false);
        }
        while !self.bit()? {}
        Some(true)
    }
}

impl fax::BitReader for Bits<'_> {
    type Error = ();

    /// Returns the next bits. Beyond the end they are 0, because look-ups read more bits than a
    /// code has.
    fn peek(&self, bits: u8) -> Option<u16> {
        let start = self.position / 8;
        let byte = |index: usize| u32::from(self.bytes.get(index).copied().unwrap_or(0));
        let window = byte(start) << 16 | byte(start + 1) << 8 | byte(start + 2);
        let below = 24 - self.position % 8 - usize::from(bits);
        Some(((window >> below) & ((1 << bits) - 1)) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), ()> {
        self.position += usize::from(bits);
        if self.position <= self.bytes.len() * 8 { Ok(()) } else { Err(()) }
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.position.next_multiple_of(8) - self.position) as u8
    }
}
