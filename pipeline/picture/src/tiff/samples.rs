//! Converts rows of bytes to numbers: undoes predictors and unpacks samples of any number of bits.

/// The type of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unsigned integer of 1, 2, 4, 8, 12, 16 or 32 bits.
    Unsigned(usize),
    /// A signed integer of 16 bits.
    Signed16,
    /// A float of 32 or 64 bits, from 0 to 1.
    Float(usize),
}

impl Kind {
    pub(super) fn bits(self) -> usize {
        match self {
            Kind::Unsigned(bits) | Kind::Float(bits) => bits,
            Kind::Signed16 => 16,
        }
    }

    /// Returns whether [`Kind::unpack`] returns 16-bit values. Otherwise the values have the bits
    /// of the samples, or 8 bits for floats.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Kind::Unsigned(12 | 16 | 32) | Kind::Signed16)
    }

    /// Unpacks a row to values of at most 8 bits, or of 16 bits if the kind [is
    /// wide](Kind::is_wide). Values below black or above white are clamped. Of 32 bits, only the
    /// upper half is used.
    pub(super) fn unpack(self, row: &[u8], is_little_endian: bool, values: &mut [u16]) {
        let word =
            |bytes: &[u8; 2]| if is_little_endian { u16::from_le_bytes(*bytes) } else { u16::from_be_bytes(*bytes) };
        match self {
            Kind::Unsigned(8) => {
                for (value, byte) in values.iter_mut().zip(row) {
                    *value = u16::from(*byte);
                }
            }
            Kind::Unsigned(12) => {
                for (pair, bytes) in values.chunks_mut(2).zip(row.chunks(3)) {
                    let byte = |index: usize| u16::from(bytes.get(index).copied().unwrap_or(0));
                    let numbers = [byte(0) << 4 | byte(1) >> 4, (byte(1) & 15) << 8 | byte(2)];
                    for (value, number) in pair.iter_mut().zip(numbers) {
                        *value = number << 4 | number >> 8;
                    }
                }
            }
            Kind::Unsigned(16) => {
                for (value, bytes) in values.iter_mut().zip(row.as_chunks().0) {
                    *value = word(bytes);
                }
            }
            Kind::Signed16 => {
                for (value, bytes) in values.iter_mut().zip(row.as_chunks().0) {
                    *value = word(bytes).cast_signed().max(0).cast_unsigned();
                }
            }
            Kind::Unsigned(32) => {
                for (value, bytes) in values.iter_mut().zip(row.as_chunks::<4>().0) {
                    *value = if is_little_endian { word(&[bytes[2], bytes[3]]) } else { word(&[bytes[0], bytes[1]]) };
                }
            }
            Kind::Unsigned(bits) => {
                for (values, byte) in values.chunks_mut(8 / bits).zip(row) {
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = u16::from(byte >> (8 - bits * (index + 1)) & ((1 << bits) - 1));
                    }
                }
            }
            Kind::Float(bits) => {
                for (value, bytes) in values.iter_mut().zip(row.chunks_exact(bits / 8)) {
                    let number = match (bytes, is_little_endian) {
                        ([a, b, c, d], true) => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
                        ([a, b, c, d], false) => f64::from(f32::from_be_bytes([*a, *b, *c, *d])),
                        (bytes, true) => f64::from_le_bytes(*bytes.first_chunk().expect("numbers have 32 or 64 bits")),
                        (bytes, false) => f64::from_be_bytes(*bytes.first_chunk().expect("numbers have 32 or 64 bits")),
                    };
                    // NaN becomes 0.
                    *value = (number.clamp(0.0, 1.0) * 255.0).round() as u16;
                }
            }
        }
    }
}

/// The prediction that was applied to rows before compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Each sample is the difference from that of the previous pixel (TIFF 6.0, section 14); for 8,
    /// 16 or 32 bits.
    Difference,
    /// The bytes of all samples are sorted by significance, the highest first, and stored as
    /// differences (Adobe Photoshop TIFF Technical Note 3).
    FloatingPoint,
}

impl Predictor {
    /// Restores the original row, whose pixels have `samples` samples of `bits` bits.
    pub(super) fn undo(self, row: &mut [u8], samples: usize, bits: usize, is_little_endian: bool) {
        match self {
            Predictor::None => {}
            Predictor::Difference => {
                let bytes = bits / 8;
                let distance = samples * bytes;
                for start in (distance..row.len()).step_by(bytes) {
                    // Adds multi-byte numbers: from the lowest byte on, with carry.
                    let mut carried = 0;
                    for rank in 0..bytes {
                        let place = start + if is_little_endian { rank } else { bytes - 1 - rank };
                        let sum = u16::from(row[place]) + u16::from(row[place - distance]) + carried;
                        (row[place], carried) = (sum as u8, sum >> 8);
                    }
                }
            }
            Predictor::FloatingPoint => {
                for place in samples..row.len() {
                    row[place] = row[place].wrapping_add(row[place - samples]);
                }
                let (sorted, bytes) = (row.to_vec(), bits / 8);
                let count = row.len() / bytes;
                for (index, number) in row.chunks_exact_mut(bytes).enumerate() {
                    for (rank, byte) in number.iter_mut().enumerate() {
                        *byte = sorted[if is_little_endian { bytes - 1 - rank } else { rank } * count + index];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(kind: Kind, row: &[u8], is_little_endian: bool, count: usize) -> Vec<u16> {
        let mut values = vec![0; count];
        kind.unpack(row, is_little_endian, &mut values);
        values
    }

    #[test]
    fn samples_of_any_number_of_bits_are_unpacked() {
        assert_eq!(unpacked(Kind::Unsigned(1), &[0b1010_0000, 0x80], true, 9), [1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(unpacked(Kind::Unsigned(2), &[0b11_10_01_00], true, 3), [3, 2, 1]);
        assert_eq!(unpacked(Kind::Unsigned(4), &[0xf1, 0x20], true, 3), [15, 1, 2]);
        assert_eq!(unpacked(Kind::Unsigned(12), &[0xff, 0xf0, 0x01, 0x80, 0x00], true, 3), [0xffff, 0x0010, 0x8008]);
        assert_eq!(unpacked(Kind::Unsigned(16), &[1, 2], true, 1), [0x0201]);
        assert_eq!(unpacked(Kind::Unsigned(16), &[1, 2], false, 1), [0x0102]);
        assert_eq!(unpacked(Kind::Signed16, &[0xff, 0xff, 1, 0], true, 2), [0, 1]);
        assert_eq!(unpacked(Kind::Unsigned(32), &[1, 2, 3, 4], true, 1), [0x0403]);
        assert_eq!(unpacked(Kind::Unsigned(32), &[1, 2, 3, 4], false, 1), [0x0102]);
        let floats: Vec<u8> = [0.5_f32, -1.0, 2.0, f32::NAN].into_iter().flat_map(f32::to_be_bytes).collect();
        assert_eq!(unpacked(Kind::Float(32), &floats, false, 4), [128, 0, 255, 0]);
        assert_eq!(unpacked(Kind::Float(64), &0.2_f64.to_le_bytes(), true, 1), [51]);
    }

    #[test]
    fn differences_are_summed_by_sample() {
        let mut row = [1, 2, 3, 1, 255, 0];
        Predictor::Difference.undo(&mut row, 3, 8, true);
        assert_eq!(row, [1, 2, 3, 2, 1, 3]);
        for is_little_endian in [true, false] {
            let order = |number: u16| if is_little_endian { number.to_le_bytes() } else { number.to_be_bytes() };
            let mut row: Vec<u8> = [0x01ff_u16, 0x0001, 0xffff].into_iter().flat_map(order).collect();
            Predictor::Difference.undo(&mut row, 1, 16, is_little_endian);
            assert_eq!(row, [0x01ff_u16, 0x0200, 0x01ff].map(order).concat());
        }
    }

    #[test]
    fn floating_point_numbers_are_put_together() {
        let numbers = [1.5_f32, -0.25, 3.0e8];
        for is_little_endian in [true, false] {
            let order = |number: f32| if is_little_endian { number.to_le_bytes() } else { number.to_be_bytes() };
            let mut row: Vec<u8> = (0..4).flat_map(|rank| numbers.map(|number| number.to_be_bytes()[rank])).collect();
            for place in (1..row.len()).rev() {
                row[place] = row[place].wrapping_sub(row[place - 1]);
            }
            Predictor::FloatingPoint.undo(&mut row, 1, 32, is_little_endian);
            assert_eq!(row, numbers.map(order).concat());
        }
    }
}
