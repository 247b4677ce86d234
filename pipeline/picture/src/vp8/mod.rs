//! Decodes lossy WebP (key frames of VP8, RFC 6386) to planes of samples.
//!
//! At any irregularity this decoder returns `None`, and the caller uses the complete decoder.

mod boolean;
mod filter;
mod predict;
mod tables;

use boolean::BooleanReader;
use filter::{Samples, Strength};
use predict::{BlockMode, Mode};

use super::planes::{Plane, Planes};

/// Rows above the image that prediction reads.
const TOP: usize = 1;
/// Columns to the left of the image.
const LEFT: usize = 8;
/// Columns to the right of the image.
const RIGHT: usize = 8;

/// Decodes a file of a lossy image of this width and height, without transparency or animation.
/// Returns `None` for other files and at any irregularity.
pub(super) fn decode(bytes: &[u8], size: (u32, u32)) -> Option<Planes> {
    let mut decoder = Decoder::new(vp8_chunk(bytes)?, size)?;
    pulp::Arch::new().dispatch(DecodeAll(&mut decoder))?;
    pulp::Arch::new().dispatch(FilterAll(&mut decoder));
    Some(decoder.into_planes())
}

/// Returns the content of the only chunk with pixels.
fn vp8_chunk(bytes: &[u8]) -> Option<&[u8]> {
    let [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', rest @ ..] = bytes else { return None };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let mut chunks = rest.get(..length.checked_sub(4)?)?;
    let mut found = None;
    while let [a, b, c, d, e, f, g, h, rest @ ..] = chunks {
        let length = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
        let contents = rest.get(..length)?;
        match [*a, *b, *c, *d] {
            [b'V', b'P', b'8', b' '] if found.is_none() => found = Some(contents),
            [b'V', b'P', b'8', b' ' | b'L'] | [b'A', b'L', b'P', b'H'] | [b'A', b'N', b'I' | b'M', b'M' | b'F'] => {
                return None;
            }
            _ => {}
        }
        chunks = rest.get(length + length % 2..).unwrap_or_default();
    }
    found
}

/// [`Decoder::decode`], compiled once for each set of instructions. A closure is not enough: only
/// inlined code may use the instructions, and a closure need not be inlined.
struct DecodeAll<'a, 'b>(&'a mut Decoder<'b>);

impl pulp::WithSimd for DecodeAll<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Option<()> {
        self.0.decode()
    }
}

/// [`Decoder::filter`], compiled in the same way.
struct FilterAll<'a, 'b>(&'a mut Decoder<'b>);

impl pulp::WithSimd for FilterAll<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        self.0.filter();
    }
}

struct Decoder<'a> {
    header: Header,
    modes: BooleanReader<'a>,
    /// Partitions of coefficients, used in turn by the rows of macroblocks.
    partitions: Vec<BooleanReader<'a>>,
    width: usize,
    height: usize,
    /// Macroblocks.
    across: usize,
    down: usize,
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
    strengths: Vec<Strength>,
    /// State of the macroblocks above and of the one to the left.
    above: Vec<Neighbour>,
    left: Neighbour,
}

/// State of a macroblock that later ones need.
#[derive(Clone, Copy, Default)]
struct Neighbour {
    modes: [BlockMode; 4],
    /// Whether the blocks of luma, blue and red along the edge had coefficients.
    coded: [[bool; 4]; 3],
    /// Whether the block of first coefficients had any.
    firsts_coded: bool,
}

/// The parts of the frame header (section 9) that are needed later.
struct Header {
    segments: Option<[u8; 3]>,
    quantisers: [Quantisers; 4],
    is_simple: bool,
    /// Filter levels of each segment: for macroblocks predicted as a whole, and for those predicted
    /// block by block.
    levels: [[i32; 2]; 4],
    sharpness: i32,
    tokens: tables::TokenProbabilities,
    skip: Option<u8>,
}

/// Quantisers of the first and of the other coefficients.
#[derive(Clone, Copy, Default)]
struct Quantisers {
    luma: [i32; 2],
    firsts: [i32; 2],
    chroma: [i32; 2],
}

/// The luma prediction of a macroblock: as a whole or by its blocks.
enum Luma {
    Whole(Mode),
    Blocks([BlockMode; 16]),
}

/// Coefficients of a macroblock.
struct Residue {
    /// Sixteen blocks of luma, four of blue, four of red.
    coefficients: [[i16; 16]; 24],
    kinds: [Content; 24],
}

/// The content of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    /// Only the first coefficient.
    Constant,
    Coefficients,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], size: (u32, u32)) -> Option<Self> {
        let [tag_0, tag_1, tag_2, 0x9d, 0x01, 0x2a, width_0, width_1, height_0, height_1, rest @ ..] = bytes else {
            return None;
        };
        let tag = u32::from_le_bytes([*tag_0, *tag_1, *tag_2, 0]);
        // Only key frames are supported, and versions above 3 are not defined. The upper two bits
        // of the sizes are only a hint for scaling.
        if tag & 1 != 0 || tag >> 1 & 7 > 3 {
            return None;
        }
        let width = usize::from(u16::from_le_bytes([*width_0, *width_1]) & 0x3fff);
        let height = usize::from(u16::from_le_bytes([*height_0, *height_1]) & 0x3fff);
        // The size in the container is the one that was checked against the limits.
        if width == 0 || height == 0 || (width as u32, height as u32) != size {
            return None;
        }
        let (modes, rest) = rest.split_at_checked((tag >> 5) as usize)?;
        let mut modes = BooleanReader::new(modes)?;
        let (header, partitions) = Header::read(&mut modes, rest)?;
        let (across, down) = (width.div_ceil(16), height.div_ceil(16));
        let plane = |side: usize| {
            let stride = LEFT + across * side + RIGHT;
            let mut samples = vec![127; stride * (TOP + down * side)];
            for row in samples.chunks_exact_mut(stride).skip(TOP) {
                row[LEFT - 1] = 129;
            }
            samples
        };
        Some(Decoder {
            header,
            modes,
            partitions,
            width,
            height,
            across,
            down,
            luma: plane(16),
            chroma: [plane(8), plane(8)],
            strengths: vec![Strength::default(); across * down],
            above: vec![Neighbour::default(); across],
            left: Neighbour::default(),
        })
    }

    fn into_planes(self) -> Planes {
        let plane = |samples, side, extent, is_halved| Plane {
            samples,
            stride: LEFT + self.across * side + RIGHT,
            origin: (LEFT, TOP),
            extent,
            is_halved,
        };
        let (width, height) = (self.width as f64, self.height as f64);
        let half = (width / 2.0, height / 2.0);
        let [blue, red] = self.chroma;
        Planes::webp(
            plane(self.luma, 16, (width, height), false),
            [plane(blue, 8, half, true), plane(red, 8, half, true)],
        )
    }

    #[inline(always)]
    fn decode(&mut self) -> Option<()> {
        for row in 0..self.down {
            self.left = Neighbour::default();
            for column in 0..self.across {
                self.macroblock(row, column);
            }
            let partition = row % self.partitions.len();
            if self.modes.is_exhausted() || self.partitions[partition].is_exhausted() {
                return None;
            }
        }
        Some(())
    }

    fn stride(&self, side: usize) -> usize {
        LEFT + self.across * side + RIGHT
    }

    #[inline(always)]
    fn macroblock(&mut self, row: usize, column: usize) {
        let segment = match self.header.segments {
            Some([root, _, high]) if self.modes.decide(root) => 2 + usize::from(self.modes.decide(high)),
            Some([_, low, _]) => usize::from(self.modes.decide(low)),
            None => 0,
        };
        let is_skipped = self.header.skip.is_some_and(|probability| self.modes.decide(probability));
        let luma = self.read_luma_mode(column);
        let chroma = read_chroma_mode(&mut self.modes);
        let mut residue = Residue { coefficients: [[0; 16]; 24], kinds: [Content::Nothing; 24] };
        let is_whole = matches!(luma, Luma::Whole(_));
        if is_skipped {
            for neighbour in [&mut self.above[column], &mut self.left] {
                neighbour.coded = Default::default();
                neighbour.firsts_coded &= !is_whole;
            }
        } else {
            self.read_residue(row, column, segment, is_whole, &mut residue);
        }
        self.predict_luma(row, column, &luma, &residue);
        self.predict_chroma(row, column, chroma, &residue);
        let is_coded = residue.kinds.iter().any(|kind| *kind != Content::Nothing);
        self.strengths[row * self.across + column] = self.header.strength(segment, is_whole, is_coded);
    }

    /// Reads the luma mode (sections 11.2 and 11.3).
    #[inline(always)]
    fn read_luma_mode(&mut self, column: usize) -> Luma {
        let modes = &mut self.modes;
        if modes.decide(145) {
            let (mode, alike) = if modes.decide(156) {
                if modes.decide(128) {
                    (Mode::TrueMotion, BlockMode::TrueMotion)
                } else {
                    (Mode::Horizontal, BlockMode::Horizontal)
                }
            } else if modes.decide(163) {
                (Mode::Vertical, BlockMode::Vertical)
            } else {
                (Mode::Dc, BlockMode::Dc)
            };
            (self.above[column].modes, self.left.modes) = ([alike; 4], [alike; 4]);
            return Luma::Whole(mode);
        }
        let mut blocks = [BlockMode::Dc; 16];
        for (index, block) in blocks.iter_mut().enumerate() {
            let (above, left) = (&mut self.above[column].modes[index % 4], &mut self.left.modes[index / 4]);
            let mode = read_block_mode(modes, &tables::BLOCK_MODES[*above as usize][*left as usize]);
            (*block, *above, *left) = (mode, mode, mode);
        }
        Luma::Blocks(blocks)
    }

    /// Reads coefficients (section 13).
    #[inline(always)]
    fn read_residue(&mut self, row: usize, column: usize, segment: usize, is_whole: bool, residue: &mut Residue) {
        let count = self.partitions.len();
        let mut reader = self.partitions[row % count];
        let (above, left) = (&mut self.above[column], &mut self.left);
        let quantisers = &self.header.quantisers[segment];
        let tokens = &self.header.tokens;
        let mut firsts = [0; 16];
        if is_whole {
            let context = usize::from(above.firsts_coded) + usize::from(left.firsts_coded);
            let mut coefficients = [0; 16];
            let end = read_block(&mut reader, &tokens[1], context, 0, quantisers.firsts, &mut coefficients);
            (above.firsts_coded, left.firsts_coded) = (end > 0, end > 0);
            firsts = predict::first_coefficients(&coefficients);
        }
        // Kinds of blocks: 0 luma without first coefficients, 1 the first coefficients, 2 chroma, 3
        // complete luma.
        let (luma_kind, first) = if is_whole { (0, 1) } else { (3, 0) };
        let parts = [
            (0, 4, luma_kind, first, quantisers.luma),
            (16, 2, 2, 0, quantisers.chroma),
            (20, 2, 2, 0, quantisers.chroma),
        ];
        for (part, (start, side, kind, first, quantisers)) in parts.into_iter().enumerate() {
            for index in 0..side * side {
                let (above, left) = (&mut above.coded[part][index % side], &mut left.coded[part][index / side]);
                let block = &mut residue.coefficients[start + index];
                let context = usize::from(*above) + usize::from(*left);
                let end = read_block(&mut reader, &tokens[kind], context, first, quantisers, block);
                let is_coded = end > first;
                (*above, *left) = (is_coded, is_coded);
                if first == 1 {
                    block[0] = firsts[index];
                }
                residue.kinds[start + index] = match end {
                    2.. => Content::Coefficients,
                    _ if is_coded || block[0] != 0 => Content::Constant,
                    _ => Content::Nothing,
                };
            }
        }
        self.partitions[row % count] = reader;
    }

    #[inline(always)]
    fn predict_luma(&mut self, row: usize, column: usize, luma: &Luma, residue: &Residue) {
        let stride = self.stride(16);
        let start = (TOP + row * 16) * stride + LEFT + column * 16;
        let samples = &mut self.luma[..];
        let modes = match luma {
            Luma::Whole(mode) => {
                predict::square::<16>(samples, stride, start, *mode, (column > 0, row > 0));
                for index in 0..16 {
                    add(samples, stride, start + index / 4 * 4 * stride + index % 4 * 4, residue, index);
                }
                return;
            }
            Luma::Blocks(modes) => modes,
        };
        // All blocks at the right edge read the row above the macroblock. Beyond the last
        // macroblock, the last sample is repeated.
        let above = start - stride + 16;
        let mut beyond: [u8; 4] = samples[above..above + 4].try_into().expect("four");
        if column + 1 == self.across && row > 0 {
            beyond = [samples[above - 1]; 4];
        }
        for (index, mode) in modes.iter().enumerate() {
            let start = start + index / 4 * 4 * stride + index % 4 * 4;
            let mut around = [0; 13];
            for (distance, sample) in around[..4].iter_mut().enumerate() {
                *sample = samples[start + (3 - distance) * stride - 1];
            }
            let above = start - stride - 1;
            around[4..].copy_from_slice(&samples[above..above + 9]);
            if index % 4 == 3 {
                around[9..].copy_from_slice(&beyond);
            }
            for (row, values) in predict::block(&around, *mode).into_iter().enumerate() {
                samples[start + row * stride..start + row * stride + 4].copy_from_slice(&values);
            }
            add(samples, stride, start, residue, index);
        }
    }

    #[inline(always)]
    fn predict_chroma(&mut self, row: usize, column: usize, mode: Mode, residue: &Residue) {
        let stride = self.stride(8);
        let start = (TOP + row * 8) * stride + LEFT + column * 8;
        for (samples, first) in self.chroma.iter_mut().zip([16, 20]) {
            predict::square::<8>(samples, stride, start, mode, (column > 0, row > 0));
            for index in 0..4 {
                add(samples, stride, start + index / 2 * 4 * stride + index % 2 * 4, residue, first + index);
            }
        }
    }

    #[inline(always)]
    fn filter(&mut self) {
        let (luma_stride, chroma_stride) = (self.stride(16), self.stride(8));
        let mut luma = Samples { samples: &mut self.luma, stride: luma_stride };
        let [blue, red] = &mut self.chroma;
        let mut chroma =
            [Samples { samples: blue, stride: chroma_stride }, Samples { samples: red, stride: chroma_stride }];
        for row in 0..self.down {
            for column in 0..self.across {
                let strength = self.strengths[row * self.across + column];
                if strength.is_on {
                    let starts = (
                        (TOP + row * 16) * luma_stride + LEFT + column * 16,
                        (TOP + row * 8) * chroma_stride + LEFT + column * 8,
                    );
                    let has = (column > 0, row > 0);
                    filter::macroblock(&mut luma, &mut chroma, strength, self.header.is_simple, starts, has);
                }
            }
        }
    }
}

impl Header {
    /// Reads the header. `rest` holds the data of the coefficients, after the header's partition.
    fn read<'a>(reader: &mut BooleanReader, rest: &'a [u8]) -> Option<(Self, Vec<BooleanReader<'a>>)> {
        // Only one colour space is defined. The flag about clamping does not matter, because this
        // decoder always clamps.
        if reader.flag() {
            return None;
        }
        reader.flag();
        let (mut levels, mut quantiser_levels) = ([0; 4], [0; 4]);
        let (mut are_absolute, mut segments, has_segments) = (true, None, reader.flag());
        if has_segments {
            let has_map = reader.flag();
            if reader.flag() {
                are_absolute = reader.flag();
                quantiser_levels = std::array::from_fn(|_| reader.optional_signed(7));
                levels = std::array::from_fn(|_| reader.optional_signed(6));
            }
            if has_map {
                segments = Some(std::array::from_fn(|_| if reader.flag() { reader.literal(8) as u8 } else { 255 }));
            }
        }
        let is_simple = reader.flag();
        let level = reader.literal(6);
        let sharpness = reader.literal(3);
        let (mut frame_delta, mut block_delta) = (0, 0);
        if reader.flag() && reader.flag() {
            let deltas: [i32; 8] = std::array::from_fn(|_| if reader.flag() { signed(reader, 6) } else { 0 });
            (frame_delta, block_delta) = (deltas[0], deltas[4]);
        }
        let partitions = partitions(rest, 1 << reader.literal(2))?;
        let base = reader.literal(7);
        let deltas: [i32; 5] = std::array::from_fn(|_| reader.optional_signed(4));
        let is_absolute = has_segments && are_absolute;
        let quantisers =
            quantiser_levels.map(|segment| Quantisers::new(if is_absolute { segment } else { base + segment }, deltas));
        let levels = levels.map(|segment| {
            let own = if is_absolute { segment } else { level + segment }.clamp(0, 63);
            // A frame with level 0 is not filtered, whatever its segments say.
            let with = |delta: i32| if level == 0 { 0 } else { (own + delta).clamp(0, 63) };
            [with(frame_delta), with(frame_delta + block_delta)]
        });
        // The flag whether the probabilities apply to later frames; not needed.
        reader.flag();
        let mut tokens = tables::TOKENS;
        let updates = tables::TOKEN_UPDATES.as_flattened().as_flattened().as_flattened();
        for (token, update) in tokens.as_flattened_mut().as_flattened_mut().as_flattened_mut().iter_mut().zip(updates) {
            if reader.decide(*update) {
                *token = reader.literal(8) as u8;
            }
        }
        let skip = reader.flag().then(|| reader.literal(8) as u8);
        if reader.is_exhausted() {
            return None;
        }
        Some((Header { segments, quantisers, is_simple, levels, sharpness, tokens, skip }, partitions))
    }

    /// Computes the strength of the filter in a key frame (section 15.2 on).
    #[inline(always)]
    fn strength(&self, segment: usize, is_whole: bool, is_coded: bool) -> Strength {
        let level = self.levels[segment][usize::from(!is_whole)];
        let mut interior = level;
        if self.sharpness > 0 {
            interior >>= if self.sharpness > 4 { 2 } else { 1 };
            interior = interior.min(9 - self.sharpness);
        }
        let interior = interior.max(1);
        Strength {
            outer_limit: ((level + 2) * 2 + interior) as i16,
            inner_limit: (level * 2 + interior) as i16,
            interior_limit: interior as i16,
            variance_threshold: i16::from(level >= 40) + i16::from(level >= 15),
            is_on: level > 0,
            filters_inside: !is_whole || is_coded,
        }
    }
}

impl Quantisers {
    /// Computes the quantisers (sections 9.6 and 14.1) from an index and its deltas for first and
    /// other coefficients.
    fn new(index: i32, [luma_first, firsts_first, firsts_other, chroma_first, chroma_other]: [i32; 5]) -> Self {
        let first = |delta: i32| i32::from(tables::DC_QUANTISERS[(index + delta).clamp(0, 127) as usize]);
        let other = |delta: i32| i32::from(tables::AC_QUANTISERS[(index + delta).clamp(0, 127) as usize]);
        Quantisers {
            luma: [first(luma_first), other(0)],
            firsts: [first(firsts_first) * 2, (other(firsts_other) * 155 / 100).max(8)],
            chroma: [first(chroma_first).min(132), other(chroma_other)],
        }
    }
}

fn signed(reader: &mut BooleanReader, bits: u32) -> i32 {
    let value = reader.literal(bits);
    if reader.flag() { -value } else { value }
}

/// Splits the data into partitions of coefficients. The lengths of all but the last one come first
/// (section 9.5).
fn partitions(bytes: &[u8], count: usize) -> Option<Vec<BooleanReader<'_>>> {
    let (lengths, mut rest) = bytes.split_at_checked(3 * (count - 1))?;
    let mut partitions = Vec::with_capacity(count);
    for [low, middle, high] in lengths.as_chunks().0 {
        let (partition, behind) = rest.split_at_checked(u32::from_le_bytes([*low, *middle, *high, 0]) as usize)?;
        partitions.push(BooleanReader::new(partition)?);
        rest = behind;
    }
    partitions.push(BooleanReader::new(rest)?);
    Some(partitions)
}

#[inline(always)]
fn read_block_mode(reader: &mut BooleanReader, probabilities: &[u8; 9]) -> BlockMode {
    let mut decide = |index: usize| reader.decide(probabilities[index]);
    if !decide(0) {
        return BlockMode::Dc;
    }
    if !decide(1) {
        return BlockMode::TrueMotion;
    }
    if !decide(2) {
        return BlockMode::Vertical;
    }
    if !decide(3) {
        if !decide(4) {
            return BlockMode::Horizontal;
        }
        return if decide(5) { BlockMode::VerticalRight } else { BlockMode::RightDown };
    }
    if !decide(6) {
        return BlockMode::LeftDown;
    }
    if !decide(7) {
        return BlockMode::VerticalLeft;
    }
    if decide(8) { BlockMode::HorizontalUp } else { BlockMode::HorizontalDown }
}

/// Reads the mode of chroma (section 11.4).
#[inline(always)]
fn read_chroma_mode(reader: &mut BooleanReader) -> Mode {
    if !reader.decide(142) {
        return Mode::Dc;
    }
    if !reader.decide(114) {
        return Mode::Vertical;
    }
    if reader.decide(183) { Mode::TrueMotion } else { Mode::Horizontal }
}

/// Reads the coefficients of a block from `first` on and dequantises them (section 13). Returns the
/// index after the last one.
#[inline(always)]
fn read_block(
    reader: &mut BooleanReader,
    probabilities: &[[[u8; 11]; 3]; 8],
    context: usize,
    first: usize,
    quantisers: [i32; 2],
    block: &mut [i16; 16],
) -> usize {
    /// The index in natural order of each coefficient in the order of the data.
    const NATURAL_ORDER: [u8; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];
    /// The band of probabilities of each coefficient; the last entry is never used.
    const BANDS: [u8; 17] = [0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0];
    let mut place = first;
    let mut token = &probabilities[usize::from(BANDS[place])][context];
    while place < 16 {
        if !reader.decide(token[0]) {
            return place;
        }
        while !reader.decide(token[1]) {
            place += 1;
            if place == 16 {
                return 16;
            }
            token = &probabilities[usize::from(BANDS[place] & 7)][0];
        }
        let (value, next) = if reader.decide(token[2]) { (read_large(reader, token), 2) } else { (1, 1) };
        let value = if reader.flag() { -value } else { value };
        block[usize::from(NATURAL_ORDER[place & 15] & 15)] = (value * quantisers[usize::from(place > 0)]) as i16;
        place += 1;
        token = &probabilities[usize::from(BANDS[place] & 7)][next];
    }
    16
}

/// Reads a value above 1, without its sign.
#[inline(always)]
fn read_large(reader: &mut BooleanReader, token: &[u8; 11]) -> i32 {
    /// Probabilities of the bits of the four larger categories.
    const CATEGORIES: [&[u8]; 4] = [
        &[173, 148, 140],
        &[176, 155, 140, 135],
        &[180, 157, 141, 134, 130],
        &[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129],
    ];
    if !reader.decide(token[3]) {
        if !reader.decide(token[4]) {
            return 2;
        }
        return 3 + i32::from(reader.decide(token[5]));
    }
    if !reader.decide(token[6]) {
        if !reader.decide(token[7]) {
            return 5 + i32::from(reader.decide(159));
        }
        return 7 + 2 * i32::from(reader.decide(165)) + i32::from(reader.decide(145));
    }
    let high = usize::from(reader.decide(token[8]));
    let category = 2 * high + usize::from(reader.decide(token[9 + high]));
    let bits =
        CATEGORIES[category].iter().fold(0, |bits, probability| bits << 1 | i32::from(reader.decide(*probability)));
    bits + 3 + (8 << category)
}

#[inline(always)]
fn add(samples: &mut [u8], stride: usize, start: usize, residue: &Residue, index: usize) {
    match residue.kinds[index] {
        Content::Nothing => {}
        Content::Constant => predict::add_constant(samples, stride, start, residue.coefficients[index][0]),
        Content::Coefficients => predict::add_residue(samples, stride, start, &residue.coefficients[index]),
    }
}
