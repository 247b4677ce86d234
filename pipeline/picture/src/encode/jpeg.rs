//! Encodes baseline JPEG (ITU-T T.81) in JFIF colours (T.871), with chroma halved in both
//! directions (4:2:0).

use image::RgbImage;

use super::super::PictureError;
use super::super::blocks::NATURAL_ORDER;
use super::super::jpeg::{ExactTransform, Samples, exact_multipliers, interleaved};
use super::super::planes::Subsampled;
use super::cosine::{self, GROUP, Group, Transform};

/// Quantisation table of luma at quality 50, in natural order (T.81, table K.1).
const LUMA_QUANTISATION: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Quantisation table of chroma at quality 50, in natural order (T.81, table K.2).
const CHROMA_QUANTISATION: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// A Huffman table: the number of codes of each length from 1 to 16, and their symbols.
struct Codes {
    counts: [u8; 16],
    symbols: &'static [u8],
}

/// Codes of the DC coefficients of luma and chroma (T.81, tables K.3 and K.4).
const DC_CODES: [Codes; 2] = [
    Codes {
        counts: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    Codes {
        counts: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
];

/// Codes of the AC coefficients of luma and chroma (T.81, tables K.5 and K.6).
const AC_CODES: [Codes; 2] = [
    Codes {
        counts: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
        symbols: &[
            0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
            0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
            0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
            0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
            0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
            0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
            0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
            0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
            0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
        ],
    },
    Codes {
        counts: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
        symbols: &[
            0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
            0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
            0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
            0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
            0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
            0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
            0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
            0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
            0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
        ],
    },
];

/// Encodes an image. `quality` is from 1 to 100, with the same meaning as in libjpeg. With
/// `with_pixels`, also returns the pixels that libjpeg would decode from the file, computed from
/// the written coefficients.
///
/// # Errors
/// [`PictureError::Unsupported`] if a side is longer than 65,535 pixels, the limit of the JPEG
/// header.
pub(crate) fn encode(
    picture: &Subsampled,
    quality: u8,
    with_pixels: bool,
) -> Result<(Vec<u8>, Option<RgbImage>), PictureError> {
    let (width, height) = picture.size();
    let (Ok(short_width), Ok(short_height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(PictureError::Unsupported(format!("{width} x {height} pixels do not fit in a JPEG")));
    };
    let quantisation = [LUMA_QUANTISATION, CHROMA_QUANTISATION].map(|table| scaled(table, quality));
    let mut bytes = Vec::with_capacity(width as usize * height as usize / 2 + 1024);
    write_header(&mut bytes, (short_width, short_height), &quantisation);
    let samples = write_scan(&mut bytes, picture, &quantisation, with_pixels);
    bytes.extend([0xff, 0xd9]);
    let pixels = samples.map(|samples| {
        let pixels = interleaved(&samples, (width as usize, height as usize), true);
        RgbImage::from_raw(width, height, pixels).expect("three samples for each pixel")
    });
    Ok((bytes, pixels))
}

/// Returns the quantisation table for a quality, computed as in libjpeg (`jpeg_quality_scaling` and
/// `jpeg_add_quant_table` of jcparam.c, for baseline).
fn scaled(table: [u8; 64], quality: u8) -> [u8; 64] {
    let quality = u32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    table.map(|value| ((u32::from(value) * percent + 50) / 100).clamp(1, 255) as u8)
}

/// Writes all segments before the entropy-coded data.
fn write_header(bytes: &mut Vec<u8>, (width, height): (u16, u16), quantisation: &[[u8; 64]; 2]) {
    fn segment(bytes: &mut Vec<u8>, marker: u8, contents: &[&[u8]]) {
        let length = 2 + contents.iter().map(|part| part.len()).sum::<usize>();
        bytes.extend([0xff, marker]);
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend(contents.iter().copied().flatten());
    }
    bytes.extend([0xff, 0xd8]);
    // Version 1.1, no unit, square pixels, no thumbnail (T.871, 10.1).
    segment(bytes, 0xe0, &[b"JFIF\0", &[1, 1, 0, 0, 1, 0, 1, 0, 0]]);
    for (index, table) in (0..).zip(quantisation) {
        segment(bytes, 0xdb, &[&[index], &NATURAL_ORDER.map(|natural| table[usize::from(natural)])]);
    }
    // 8 bits per sample; three components with their sampling factors and quantisation tables.
    let components = [[1, 0x22, 0], [2, 0x11, 1], [3, 0x11, 1]];
    let (height, width) = (height.to_be_bytes(), width.to_be_bytes());
    segment(bytes, 0xc0, &[&[8], &height, &width, &[3], components.as_flattened()]);
    for (class, codes) in [(0x00, &DC_CODES), (0x10, &AC_CODES)] {
        for (index, codes) in (0..).zip(codes) {
            segment(bytes, 0xc4, &[&[class | index], &codes.counts, codes.symbols]);
        }
    }
    // The components with their tables; the one scan of a sequential image.
    segment(bytes, 0xda, &[&[3, 1, 0x00, 2, 0x11, 3, 0x11], &[0, 63, 0]]);
}

/// A component that is being encoded: its samples and coefficients of one row of units of 16 x 16
/// pixels.
struct Component<'a> {
    /// The samples of the whole image, row by row, and the length of a row.
    plane: (&'a [u8], usize),
    /// Number of blocks in a row and in a column of a unit.
    side: usize,
    multipliers: [f32; 64],
    tables: [CodeTable; 2],
    /// Samples of the row of units. The edge of the image is repeated to fill it.
    strip: Vec<u8>,
    /// Samples in a row of the strip.
    stride: usize,
    /// Groups of the strip, row of blocks by row of blocks.
    groups: Vec<Group>,
    prediction: i32,
    /// The whole component as decoded, if pixels are wanted.
    decoded: Option<Decoded>,
}

/// The samples that a decoder computes for a component.
struct Decoded {
    multipliers: [i16; 64],
    /// Rows as long as those of the strip.
    samples: Vec<u8>,
}

impl Decoded {
    /// Adds the samples of a row of units. Each row of blocks has `across` groups.
    fn add(&mut self, groups: &[Group], across: usize) {
        let stride = across * GROUP * 8;
        let mut coefficients = vec![0; across * GROUP * 64];
        for groups in groups.chunks_exact(across) {
            for (group, coefficients) in groups.iter().zip(coefficients.as_chunks_mut::<{ GROUP * 64 }>().0) {
                let coefficients = coefficients.as_chunks_mut::<GROUP>().0;
                for (values, natural) in group.coefficients.iter().zip(NATURAL_ORDER) {
                    coefficients[usize::from(natural)] = *values;
                }
            }
            let start = self.samples.len();
            self.samples.resize(start + stride * 8, 0);
            let (multipliers, samples) = (&self.multipliers, &mut self.samples[start..]);
            ExactTransform { groups: &coefficients, multipliers, samples, stride }.run();
        }
    }
}

impl<'a> Component<'a> {
    fn new(
        plane: (&'a [u8], usize),
        units: usize,
        side: usize,
        (quantisation, kind): (&[u8; 64], usize),
        with_pixels: bool,
    ) -> Self {
        let groups_across = (units * side).div_ceil(GROUP);
        let stride = groups_across * GROUP * 8;
        Component {
            plane,
            side,
            multipliers: cosine::multipliers(quantisation),
            tables: [CodeTable::new(&DC_CODES[kind]), CodeTable::new(&AC_CODES[kind])],
            strip: vec![0; stride * side * 8],
            stride,
            groups: vec![Group::EMPTY; groups_across * side],
            prediction: 0,
            decoded: with_pixels.then(|| Decoded {
                multipliers: exact_multipliers(&quantisation.map(u16::from)),
                samples: Vec::with_capacity(stride * (plane.0.len() / plane.1).next_multiple_of(side * 8)),
            }),
        }
    }

    /// Computes the coefficients of a row of units and, if wanted, the decoded samples.
    fn transform(&mut self, unit_row: usize) {
        let (samples, width) = self.plane;
        let last_row = samples.len() / width - 1;
        let rows = self.side * 8;
        for (index, target) in self.strip.chunks_exact_mut(self.stride).enumerate() {
            let row = (unit_row * rows + index).min(last_row);
            let source = &samples[row * width..(row + 1) * width];
            let (inside, beyond) = target.split_at_mut(width);
            inside.copy_from_slice(source);
            beyond.fill(source[width - 1]);
        }
        let strips = self.strip.chunks_exact(self.stride * 8);
        for (strip, groups) in strips.zip(self.groups.chunks_exact_mut(self.stride / (8 * GROUP))) {
            Transform { samples: strip, stride: self.stride, multipliers: &self.multipliers, groups }.run();
        }
        if let Some(decoded) = &mut self.decoded {
            decoded.add(&self.groups, self.stride / (8 * GROUP));
        }
    }

    /// Returns the decoded samples; each stands for a square of `enlargement` pixels a side.
    fn into_samples(self, enlargement: usize) -> Option<Samples> {
        let (samples, width) = self.plane;
        let size = (width, samples.len() / width);
        let Decoded { samples, .. } = self.decoded?;
        Some(Samples { values: samples, stride: self.stride, size, enlargement: (enlargement, enlargement) })
    }

    /// Writes the blocks of a unit of the row.
    #[inline]
    fn write_unit(&mut self, unit: usize, writer: &mut BitWriter) {
        let across = self.stride / (8 * GROUP);
        for row in 0..self.side {
            for block in unit * self.side..(unit + 1) * self.side {
                let group = &self.groups[row * across + block / GROUP];
                let [dc, ac] = &self.tables;
                self.prediction = writer.write_block(group, block % GROUP, self.prediction, dc, ac);
            }
        }
    }
}

/// Writes the scan of the image. Returns the decoded samples, if they are wanted.
fn write_scan(
    bytes: &mut Vec<u8>,
    picture: &Subsampled,
    quantisation: &[[u8; 64]; 2],
    with_pixels: bool,
) -> Option<[Samples; 3]> {
    let (width, height) = picture.size();
    let (units_across, units_down) = (width.div_ceil(16) as usize, height.div_ceil(16) as usize);
    let [luma, blue, red] = picture.planes();
    let mut components = [
        Component::new(luma, units_across, 2, (&quantisation[0], 0), with_pixels),
        Component::new(blue, units_across, 1, (&quantisation[1], 1), with_pixels),
        Component::new(red, units_across, 1, (&quantisation[1], 1), with_pixels),
    ];
    let mut writer = BitWriter { bytes, buffer: 0, filled: 0 };
    for row in 0..units_down {
        for component in &mut components {
            component.transform(row);
        }
        for unit in 0..units_across {
            for component in &mut components {
                component.write_unit(unit, &mut writer);
            }
        }
    }
    writer.finish();
    let [luma, blue, red] = components;
    Some([luma.into_samples(1)?, blue.into_samples(2)?, red.into_samples(2)?])
}

/// The code of each symbol, and its length in bits.
struct CodeTable([(u16, u8); 256]);

impl CodeTable {
    /// Returns the codes of T.81, annex C.
    fn new(codes: &Codes) -> Self {
        let mut table = CodeTable([(0, 0); 256]);
        let mut symbols = codes.symbols.iter();
        let mut code = 0;
        for (length, count) in (1..).zip(codes.counts) {
            for symbol in symbols.by_ref().take(usize::from(count)) {
                table.0[usize::from(*symbol)] = (code, length);
                code += 1;
            }
            code <<= 1;
        }
        table
    }
}

/// Writes bits, the highest first, as entropy-coded data: a byte 0xff is followed by a 0 (T.81,
/// F.1.2.3).
struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// The lowest `filled` bits are still to be written; fewer than 32 between two calls.
    buffer: u64,
    filled: u32,
}

impl BitWriter<'_> {
    /// Writes the lowest `length` bits, at most 32; the bits above must be 0.
    #[inline]
    fn write(&mut self, bits: u32, length: u32) {
        self.buffer = self.buffer << length | u64::from(bits);
        self.filled += length;
        if self.filled >= 32 {
            self.filled -= 32;
            self.write_bytes((self.buffer >> self.filled) as u32);
        }
    }

    #[inline]
    fn write_bytes(&mut self, word: u32) {
        // Tests whether a byte of the complement is 0: only such a byte makes the subtraction
        // borrow from a bit that was not set.
        let complement = !word;
        if complement.wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        } else {
            self.write_stuffed(&word.to_be_bytes());
        }
    }

    #[cold]
    fn write_stuffed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes.push(*byte);
            if *byte == 0xff {
                self.bytes.push(0);
            }
        }
    }

    /// Writes a code and the value after it: the lowest bits of the value, or of the value minus
    /// one if it is negative (T.81, F.1.2.1).
    #[inline]
    fn write_value(&mut self, value: i32, (code, length): (u16, u8), size: u32) {
        let bits = (value + (value >> 31)) as u32 & ((1 << size) - 1);
        self.write(u32::from(code) << size | bits, u32::from(length) + size);
    }

    /// Writes a block (T.81, F.1.2) and returns its DC coefficient.
    #[inline]
    fn write_block(&mut self, group: &Group, lane: usize, prediction: i32, dc: &CodeTable, ac: &CodeTable) -> i32 {
        const SIXTEEN_ZEROS: usize = 0xf0;
        const END_OF_BLOCK: usize = 0;
        let first = i32::from(group.coefficients[0][lane]);
        let difference = first - prediction;
        let size = bit_length(difference);
        self.write_value(difference, dc.0[size as usize & 255], size);
        let mut present = group.present[lane] & !1;
        let mut last = 0;
        while present != 0 {
            let place = present.trailing_zeros();
            present &= present - 1;
            let mut zeros = place - last - 1;
            last = place;
            while zeros >= 16 {
                let (code, length) = ac.0[SIXTEEN_ZEROS];
                self.write(u32::from(code), u32::from(length));
                zeros -= 16;
            }
            let value = i32::from(group.coefficients[place as usize][lane]);
            let size = bit_length(value);
            self.write_value(value, ac.0[(zeros << 4 | size) as usize & 255], size);
        }
        if last < 63 {
            let (code, length) = ac.0[END_OF_BLOCK];
            self.write(u32::from(code), u32::from(length));
        }
        first
    }

    /// Fills the last byte with ones.
    fn finish(mut self) {
        let missing = self.filled.wrapping_neg() % 8;
        self.write((1 << missing) - 1, missing);
        let left = ((self.buffer << (32 - self.filled)) as u32).to_be_bytes();
        self.write_stuffed(&left[..self.filled as usize / 8]);
    }
}

/// Bits of the absolute value.
#[inline]
fn bit_length(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::super::super::tests::{difference, expected};
    use super::*;

    #[test]
    fn pictures_of_any_size_and_quality_are_what_they_were() {
        for (width, height) in [(1, 1), (2, 3), (8, 8), (15, 17), (16, 16), (17, 15), (130, 9), (9, 300), (257, 256)] {
            let image = RgbImage::from_fn(width, height, |x, y| {
                let wave = |step: f32, scale: f32| 127.5 + 127.5 * (step / scale).sin();
                Rgb([wave(x as f32, 30.0), wave(y as f32, 40.0), wave((x + y) as f32, 50.0)].map(|value| value as u8))
            });
            for (quality, most) in [(100, 1.2), (95, 2.0), (75, 4.0), (1, 60.0)] {
                let bytes = encode(&Subsampled::from_rgb(&image), quality, false).unwrap().0;
                let again = crate::decode_rgb(&bytes, u64::MAX).unwrap();
                let (_, mean) = difference(&image, &again);
                assert!(mean < most, "{width} x {height} at {quality}: {mean}");
            }
        }
    }

    #[test]
    fn the_largest_coefficients_have_codes() {
        // Every block another of the patterns of a cosine, as strong as samples can be; at quality
        // 100 nothing is divided.
        let image = RgbImage::from_fn(128, 128, |x, y| {
            let wave = |place: u32, frequency: u32| {
                (f64::from(2 * (place % 8) + 1) * f64::from(frequency) * std::f64::consts::PI / 16.0).cos()
            };
            let pattern = wave(x, x / 16) * wave(y, y / 16);
            Rgb([if pattern > 0.0 { 255 } else { 0 }; 3])
        });
        let bytes = encode(&Subsampled::from_rgb(&image), 100, false).unwrap().0;
        let again = crate::decode_rgb(&bytes, u64::MAX).unwrap();
        assert!(difference(&image, &again).0 <= 3);
    }

    #[test]
    fn quantisation_is_that_of_libjpeg() {
        // Sums, first and last values of the tables that Pillow writes.
        for (quality, luma, chroma) in [
            (1, (16320, 255, 255), (16320, 255, 255)),
            (10, (12560, 80, 255), (15110, 85, 255)),
            (49, (3755, 16, 101), (5614, 17, 101)),
            (50, (3688, 16, 99), (5505, 17, 99)),
            (75, (1858, 8, 50), (2780, 9, 50)),
            (95, (369, 2, 10), (558, 2, 10)),
            (100, (64, 1, 1), (64, 1, 1)),
        ] {
            let described = |table: [u8; 64]| {
                let table = scaled(table, quality);
                (table.iter().map(|value| u32::from(*value)).sum::<u32>(), table[0], table[63])
            };
            assert_eq!((described(LUMA_QUANTISATION), described(CHROMA_QUANTISATION)), (luma, chroma), "{quality}");
        }
    }

    #[test]
    fn a_picture_is_as_large_and_as_good_as_libjpegs() {
        // Bytes, and mean difference after decoding, of the same pixels as Pillow encodes them with
        // 4:2:0. None of them was a JPEG before, which libjpeg would repeat.
        for (name, quality, length, mean) in [
            ("blur", 50, 5533, 20.715),
            ("blur", 95, 16460, 14.487),
            ("rgb_bmp", 50, 753, 5.84),
            ("rgb_bmp", 95, 986, 2.456),
            ("palette", 50, 812, 9.636),
            ("palette", 95, 1302, 4.757),
        ] {
            let image = expected(name);
            let bytes = encode(&Subsampled::from_rgb(&image), quality, false).unwrap().0;
            let ratio = bytes.len() as f64 / f64::from(length);
            assert!((0.95..1.05).contains(&ratio), "{name} at {quality}: {} bytes", bytes.len());
            let found = difference(&image, &crate::decode_rgb(&bytes, u64::MAX).unwrap()).1;
            assert!(found < mean * 1.05, "{name} at {quality}: {found}");
        }
    }

    #[test]
    fn sides_longer_than_a_header_can_say_are_refused() {
        let error = encode(&Subsampled::from_rgb(&RgbImage::new(65_536, 1)), 95, false).unwrap_err();
        assert!(matches!(error, PictureError::Unsupported(_)));
        assert!(encode(&Subsampled::from_rgb(&RgbImage::new(65_535, 1)), 95, false).is_ok());
    }
}
