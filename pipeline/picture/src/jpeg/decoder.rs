//! Decodes JPEG to the samples of its components: all samples as in libjpeg, or planes at a
//! fraction of the size if that is enough.
//!
//! It supports what nearly all files are: 8-bit, Huffman-coded, sequential or progressive, complete
//! up to the end-of-image marker. Like libjpeg, it skips bytes between segments and after the data
//! of a scan. Any other deviation from ITU-T T.81 is an error.

use super::super::PictureError;
use super::super::blocks::NATURAL_ORDER;
use super::super::planes::{Plane, Planes, Wanted};
use super::cosine::{self, GROUP, Group, Side, Transform};
use super::exact::{self, ExactTransform, Samples};
use super::huffman::{BitReader, END_OF_BLOCK, HuffmanTable, SHORT_COEFFICIENTS};
use super::{END_OF_IMAGE, START_OF_SCAN, Segments, cut_off};

/// Minimum size of a plane after its transform, as a multiple of the wanted size. Below it, the
/// samples are too few for the filter that scales them. Of 223 photographs scaled to 256 pixels,
/// compared with Pillow's complete decoding and `BICUBIC`, all planes by Catmull-Rom: mean 50.9 dB,
/// worst 44.6 dB at a margin of 1.5; 51.3 and 44.6 dB without smaller transforms; 49.0 and 36.0 dB
/// at 1.0. With the filter that [`Plane`] has for chroma: 51.7 and 46.8 dB at 1.5. (Complete
/// decoding here: 58.3 and 51.1 dB. What quality 95 loses: 40.5 and 34.8 dB.)
const MARGIN: f64 = 1.5;

/// Maximum number of scans of a file. Encoders write about ten. Each costs a pass over the image,
/// however few bytes it has.
const MOST_SCANS: usize = 64;

/// Marks coefficients that no scan has sent yet.
const UNSENT: u8 = u8::MAX;

/// Decodes a file of an image of this width and height to planes that are large enough for
/// `wanted`. The image must be grey or YCbCr with one of the usual chroma subsamplings.
pub(super) fn planes(bytes: &[u8], size: (u32, u32), wanted: Wanted) -> Result<Planes, PictureError> {
    decode(bytes, size, Some(wanted))?.into_planes().ok_or_else(unusual_samples)
}

/// Decodes a file of an image of this width and height to the samples that libjpeg has before it
/// enlarges chroma.
pub(super) fn samples(bytes: &[u8], size: (u32, u32)) -> Result<Vec<Samples>, PictureError> {
    Ok(decode(bytes, size, None)?.into_samples())
}

fn decode(bytes: &[u8], size: (u32, u32), wanted: Option<Wanted>) -> Result<Frame, PictureError> {
    let mut decoder = Decoder {
        segments: Segments::of(bytes),
        size,
        wanted,
        quantisation: [None; 4],
        dc_tables: [const { None }; 4],
        ac_tables: [const { None }; 4],
        restart_interval: 0,
        scans: 0,
        frame: None,
    };
    while decoder.read_segment()? == Next::Segment {}
    let mut frame = decoder.frame.ok_or_else(|| damaged("it has no frame header"))?;
    frame.finish().ok_or_else(|| damaged("a component is missing"))?;
    Ok(frame)
}

fn damaged(what: &str) -> PictureError {
    PictureError::Broken(format!("damaged: {what}"))
}

fn unusual_samples() -> PictureError {
    PictureError::Unsupported("a JPEG whose components have unusual numbers of samples".into())
}

/// Whether another segment or the end of the image follows.
#[derive(PartialEq, Eq)]
enum Next {
    Segment,
    EndOfImage,
}

struct Decoder<'a> {
    segments: Segments<'a>,
    /// Width and height that the frame must have: those that were checked against the limits.
    size: (u32, u32),
    /// The use of the planes; `None` if all samples are wanted.
    wanted: Option<Wanted>,
    /// Quantisation tables, in natural order.
    quantisation: [Option<[u16; 64]>; 4],
    dc_tables: [Option<HuffmanTable>; 4],
    ac_tables: [Option<HuffmanTable>; 4],
    /// Number of units between restart markers; 0 for no markers.
    restart_interval: usize,
    /// Number of scans that were read.
    scans: usize,
    frame: Option<Frame>,
}

/// The image as its frame header describes it.
struct Frame {
    is_progressive: bool,
    width: usize,
    height: usize,
    /// Number of units (of all components) across and down: the grid of interleaved scans.
    units_across: usize,
    units_down: usize,
    components: Vec<Component>,
}

struct Component {
    identifier: u8,
    /// Sampling factors: the blocks of a unit across and down.
    across: usize,
    down: usize,
    quantisation_index: usize,
    /// The quantisation table at the beginning of the first scan of the component.
    quantisation: Option<[u16; 64]>,
    /// Width and height in samples of the full size, not yet rounded.
    extent: (f64, f64),
    /// Number of blocks with image content across and down: the grid of scans of this component
    /// alone.
    blocks_across: usize,
    blocks_down: usize,
    /// Groups of blocks in a row, including those that fill up the last unit.
    groups_across: usize,
    /// Columns and rows of the component.
    size: (usize, usize),
    /// Columns and rows of pixels for each sample.
    enlargement: (usize, usize),
    inverse: Inverse,
    /// Coefficients of all block rows of a progressive frame; in other frames, of the current row
    /// of units.
    coefficients: Vec<i16>,
    /// For each block of a progressive frame, which coefficients are not 0: bit k for index k in
    /// zigzag order.
    sent: Vec<u64>,
    /// For each coefficient in zigzag order, the number of its lowest bits that no scan has sent
    /// yet.
    missing_bits: [u8; 64],
    samples: Vec<u8>,
    prediction: i32,
}

/// The transform from coefficients to samples.
#[derive(Clone, Copy)]
enum Inverse {
    /// libjpeg's.
    Exact,
    /// The transform that is nearest to the formula, to blocks of this side.
    Nearest(Side),
}

impl Inverse {
    /// Returns the side of the resulting blocks, samples.
    fn samples(self) -> usize {
        match self {
            Inverse::Exact => 8,
            Inverse::Nearest(side) => side.samples(),
        }
    }
}

/// The parameters of a scan.
struct Scan {
    /// Indices of each component and of its tables for DC and AC coefficients.
    components: Vec<(usize, usize, usize)>,
    /// First and last coefficient, in zigzag order.
    first: usize,
    last: usize,
    /// Number of low bits that this scan leaves out, and whether an earlier scan sent the bits
    /// above.
    low_bit: u8,
    refines: bool,
}

impl Decoder<'_> {
    /// Reads a segment and the entropy-coded data after it.
    fn read_segment(&mut self) -> Result<Next, PictureError> {
        let (marker, segment) = self.segments.next().ok_or_else(cut_off)?;
        match marker {
            END_OF_IMAGE => return Ok(Next::EndOfImage),
            0xc0..=0xc2 if self.frame.is_none() => {
                self.frame = Some(Frame::new(segment, marker == 0xc2, self.size, self.wanted)?);
            }
            0xc4 => self.read_huffman_tables(segment).ok_or_else(|| damaged("a table of Huffman codes"))?,
            START_OF_SCAN => self.read_scan(segment)?,
            0xdb => self.read_quantisation_tables(segment).ok_or_else(|| damaged("a table of quantisation"))?,
            0xdd => {
                let interval = segment.try_into().map_err(|_| damaged("a restart interval"))?;
                self.restart_interval = usize::from(u16::from_be_bytes(interval));
            }
            // Application data and comments.
            0xe0..=0xef | 0xfe => {}
            other => return Err(damaged(&format!("a segment of kind {other:#04x}"))),
        }
        Ok(Next::Segment)
    }

    fn read_quantisation_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let mut values = [0; 64];
            match kind >> 4 {
                0 => {
                    let (bytes, rest) = rest.split_first_chunk::<64>()?;
                    values = std::array::from_fn(|index| u16::from(bytes[index]));
                    segment = rest;
                }
                1 => {
                    let (bytes, rest) = rest.split_first_chunk::<128>()?;
                    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                        *value = u16::from_be_bytes(*bytes);
                    }
                    segment = rest;
                }
                _ => return None,
            }
            let table = self.quantisation.get_mut(usize::from(kind & 15))?.insert([0; 64]);
            for (place, value) in NATURAL_ORDER.into_iter().zip(values) {
                table[usize::from(place)] = value;
            }
        }
        Some(())
    }

    fn read_huffman_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let tables = match kind >> 4 {
                0 => &mut self.dc_tables,
                1 => &mut self.ac_tables,
                _ => return None,
            };
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (symbols, rest) = rest.split_at_checked(counts.iter().map(|count| usize::from(*count)).sum())?;
            // Sizes of DC differences are at most 15 in T.81, whatever the bits of a sample.
            if kind >> 4 == 0 && symbols.iter().any(|symbol| *symbol > 15) {
                return None;
            }
            *tables.get_mut(usize::from(kind & 15))? = Some(HuffmanTable::new(*counts, symbols)?);
            segment = rest;
        }
        Some(())
    }

    fn read_scan(&mut self, header: &[u8]) -> Result<(), PictureError> {
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(PictureError::Unsupported(format!("a JPEG with more than {MOST_SCANS} scans")));
        }
        let frame = self.frame.as_mut().ok_or_else(|| damaged("a scan without a frame header"))?;
        let scan = Scan::new(header, frame).ok_or_else(|| damaged("the header of a scan"))?;
        for (component, ..) in &scan.components {
            let component = &mut frame.components[*component];
            component.quantisation = component.quantisation.or(self.quantisation[component.quantisation_index]);
            component.quantisation.ok_or_else(|| damaged("a table of quantisation is missing"))?;
        }
        let (data, rest) = EntropyCoded::read(self.segments.rest)?;
        self.segments.rest = rest;
        let reader = ScanReader {
            scan: &scan,
            dc_tables: &self.dc_tables,
            ac_tables: &self.ac_tables,
            is_progressive: frame.is_progressive,
            end_of_band_run: 0,
        };
        reader.read(frame, &data, self.restart_interval).ok_or_else(|| damaged("its compressed samples"))
    }
}

impl Frame {
    fn new(
        segment: &[u8],
        is_progressive: bool,
        size: (u32, u32),
        wanted: Option<Wanted>,
    ) -> Result<Self, PictureError> {
        let broken = || damaged("its frame header");
        let [bits, height_0, height_1, width_0, width_1, count, rest @ ..] = segment else { return Err(broken()) };
        if *bits != 8 {
            return Err(PictureError::Unsupported(format!("a JPEG of {bits} bits per sample")));
        }
        let height = usize::from(u16::from_be_bytes([*height_0, *height_1]));
        let width = usize::from(u16::from_be_bytes([*width_0, *width_1]));
        let (parameters, []) = rest.as_chunks::<3>() else { return Err(broken()) };
        if width == 0 || height == 0 || (width as u32, height as u32) != size || parameters.len() != usize::from(*count)
        {
            return Err(broken());
        }
        let factors = |sampling: u8| (usize::from(sampling >> 4), usize::from(sampling & 15));
        let (most_across, most_down) = match (parameters, wanted) {
            // A single component has no neighbours to share a unit with.
            ([single], _) => most_factors(std::slice::from_ref(single)).map(|_| (1, 1)),
            ([[_, luma @ (0x11 | 0x21 | 0x12 | 0x22), _], [_, 0x11, _], [_, 0x11, _]], Some(_)) => Some(factors(*luma)),
            (_, Some(_)) => None,
            (_, None) => most_factors(parameters),
        }
        .ok_or_else(unusual_samples)?;
        let units_across = width.div_ceil(8 * most_across);
        let units_down = height.div_ceil(8 * most_down);
        let component = |(index, [identifier, sampling, table]): (usize, &[u8; 3])| {
            let (across, down) = if parameters.len() == 1 { (1, 1) } else { factors(*sampling) };
            let (scaled_width, scaled_height) = (width * across, height * down);
            let extent = (scaled_width as f64 / most_across as f64, scaled_height as f64 / most_down as f64);
            let is_enough = |wanted: Wanted, side: Side| {
                let part = if wanted.halves_chroma && index > 0 { 2.0 } else { 1.0 };
                let scale = part * side.samples() as f64 / 8.0 / MARGIN;
                extent.0 * scale >= f64::from(wanted.size.0) && extent.1 * scale >= f64::from(wanted.size.1)
            };
            let inverse = wanted.map_or(Inverse::Exact, |wanted| {
                let side = Side::ALL.into_iter().find(|side| is_enough(wanted, *side));
                Inverse::Nearest(side.unwrap_or(Side::Eight))
            });
            let size = (scaled_width.div_ceil(most_across), scaled_height.div_ceil(most_down));
            let groups_across = (units_across * across).div_ceil(GROUP);
            let rows = units_down * down;
            Some(Component {
                identifier: *identifier,
                across,
                down,
                quantisation_index: Some(usize::from(*table)).filter(|table| *table < 4)?,
                quantisation: None,
                extent,
                blocks_across: size.0.div_ceil(8),
                blocks_down: size.1.div_ceil(8),
                groups_across,
                size,
                enlargement: (most_across / across, most_down / down),
                inverse,
                coefficients: vec![0; groups_across * GROUP * 64 * if is_progressive { rows } else { down }],
                sent: vec![0; if is_progressive { groups_across * GROUP * rows } else { 0 }],
                missing_bits: [UNSENT; 64],
                samples: vec![0; groups_across * GROUP * rows * inverse.samples() * inverse.samples()],
                prediction: 0,
            })
        };
        let components: Vec<_> =
            parameters.iter().enumerate().map(component).collect::<Option<_>>().ok_or_else(broken)?;
        let differ =
            |index: usize| components[..index].iter().all(|other| other.identifier != components[index].identifier);
        if !(0..components.len()).all(differ) {
            return Err(broken());
        }
        Ok(Frame { is_progressive, width, height, units_across, units_down, components })
    }

    /// Computes the samples of progressive frames. Returns `None` if no scan has sent a component.
    fn finish(&mut self) -> Option<()> {
        for component in &mut self.components {
            if component.missing_bits[0] == UNSENT {
                return None;
            }
            if self.is_progressive {
                let rows = component.coefficients.len() / component.row_length();
                let coefficients = std::mem::take(&mut component.coefficients);
                component.transform(&coefficients, 0, rows)?;
            }
        }
        Some(())
    }

    fn into_samples(self) -> Vec<Samples> {
        let samples = |component: Component| Samples {
            stride: component.stride(),
            size: component.size,
            enlargement: component.enlargement,
            values: component.samples,
        };
        self.components.into_iter().map(samples).collect()
    }

    /// Returns the planes; `None` if there is no component.
    fn into_planes(self) -> Option<Planes> {
        let picture = (self.width as f64, self.height as f64);
        let mut planes = self.components.into_iter().map(|component| component.into_plane(picture));
        let first = planes.next()?;
        Some(match (planes.next(), planes.next()) {
            (Some(blue), Some(red)) => Planes::jpeg(first, [blue, red]),
            _ => Planes::grey(first),
        })
    }
}

/// Returns the largest sampling factors of all components. Returns `None` if there are more
/// components, or more blocks in a unit, than libjpeg accepts (`MAX_COMPS_IN_SCAN` and
/// `D_MAX_BLOCKS_IN_MCU`; T.81, B.2.3), or if a component does not have a whole number of pixels
/// for each sample.
fn most_factors(parameters: &[[u8; 3]]) -> Option<(usize, usize)> {
    let factors = || parameters.iter().map(|[_, sampling, _]| (usize::from(sampling >> 4), usize::from(sampling & 15)));
    let (across, down) = (factors().map(|(across, _)| across).max()?, factors().map(|(_, down)| down).max()?);
    let is_sound = |(own_across, own_down): (usize, usize)| {
        own_across > 0 && own_down > 0 && across % own_across == 0 && down % own_down == 0
    };
    let blocks: usize = factors().map(|(across, down)| across * down).sum();
    (parameters.len() <= 4 && across <= 4 && down <= 4 && blocks <= 10 && factors().all(is_sound))
        .then_some((across, down))
}

impl Component {
    /// Coefficients in a row of blocks.
    fn row_length(&self) -> usize {
        self.groups_across * GROUP * 64
    }

    /// Samples in a row.
    fn stride(&self) -> usize {
        self.groups_across * GROUP * self.inverse.samples()
    }

    /// Computes the samples of `count` rows of blocks, beginning at row `first`.
    fn transform(&mut self, coefficients: &[i16], first: usize, count: usize) -> Option<()> {
        let (row_length, stride, quantisation) = (self.row_length(), self.stride(), self.quantisation?);
        let rows = self.samples.chunks_exact_mut(stride * self.inverse.samples()).skip(first).take(count);
        let rows = coefficients.chunks_exact(row_length).zip(rows);
        match self.inverse {
            Inverse::Exact => {
                let multipliers = &exact::multipliers(&quantisation);
                for (groups, samples) in rows {
                    ExactTransform { groups, multipliers, samples, stride }.run();
                }
            }
            Inverse::Nearest(side) => {
                let multipliers = &cosine::multipliers(&quantisation, side);
                for (groups, samples) in rows {
                    Transform { groups, multipliers, side, samples, stride }.run();
                }
            }
        }
        Some(())
    }

    fn into_plane(self, picture: (f64, f64)) -> Plane {
        let is_halved = self.extent.0 < picture.0 && self.extent.1 < picture.1;
        let scale = self.inverse.samples() as f64 / 8.0;
        Plane {
            stride: self.stride(),
            origin: (0, 0),
            extent: (self.extent.0 * scale, self.extent.1 * scale),
            is_halved: is_halved && self.inverse.samples() == 8,
            samples: self.samples,
        }
    }
}

impl Scan {
    /// Reads the header of a scan and records in the frame what it sends. Returns `None` if the
    /// header is invalid or the scan is out of order.
    fn new(header: &[u8], frame: &mut Frame) -> Option<Self> {
        let [count, rest @ ..] = header else { return None };
        let (selectors, rest) = rest.split_at_checked(usize::from(*count) * 2)?;
        let [first, last, approximation] = *rest else { return None };
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for [identifier, tables] in selectors.as_chunks().0 {
            let index = frame.components.iter().position(|component| component.identifier == *identifier)?;
            // Components must be in the order of the frame, so none occurs twice.
            if components.last().is_some_and(|(last, ..)| *last >= index) {
                return None;
            }
            if tables >> 4 > 3 || tables & 15 > 3 {
                return None;
            }
            components.push((index, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let (high_bit, low_bit) = (approximation >> 4, approximation & 15);
        let is_sound = if frame.is_progressive {
            let band = if first == 0 { last == 0 } else { first <= last && last < 64 && components.len() == 1 };
            band && low_bit <= 13 && (high_bit == 0 || high_bit == low_bit + 1)
        } else {
            (first, last, approximation) == (0, 63, 0)
        };
        if components.is_empty() || !is_sound {
            return None;
        }
        let (first, last) = (usize::from(first), usize::from(last));
        for (index, ..) in &components {
            let missing_bits = &mut frame.components[*index].missing_bits;
            let expected = if high_bit == 0 { UNSENT } else { high_bit };
            // AC coefficients must come after the DC coefficient.
            if first > 0 && missing_bits[0] == UNSENT || missing_bits[first..=last].iter().any(|bits| *bits != expected)
            {
                return None;
            }
            missing_bits[first..=last].fill(low_bit);
        }
        Some(Scan { components, first, last, low_bit, refines: high_bit > 0 })
    }
}

/// The entropy-coded data of a scan.
struct EntropyCoded {
    /// All data without stuffed bytes and markers, then zeros.
    bytes: Vec<u8>,
    /// Ends of the restart intervals.
    ends: Vec<usize>,
}

impl EntropyCoded {
    /// Reads up to the next marker that is not a restart marker. Returns the data and the bytes
    /// from that marker on.
    fn read(source: &[u8]) -> Result<(Self, &[u8]), PictureError> {
        let mut data = EntropyCoded { bytes: Vec::with_capacity(source.len() + 8), ends: Vec::new() };
        let mut rest = source;
        loop {
            let run = rest.iter().position(|byte| *byte == 0xff).ok_or_else(cut_off)?;
            data.bytes.extend_from_slice(&rest[..run]);
            match *rest.get(run + 1).ok_or_else(cut_off)? {
                0 => data.bytes.push(0xff),
                marker @ 0xd0..=0xd7 => {
                    if usize::from(marker & 7) != data.ends.len() % 8 {
                        return Err(damaged("a restart marker is out of order"));
                    }
                    data.ends.push(data.bytes.len());
                }
                _ => {
                    data.ends.push(data.bytes.len());
                    data.bytes.extend([0; 8]);
                    return Ok((data, &rest[run..]));
                }
            }
            rest = &rest[run + 2..];
        }
    }
}

/// Reads the blocks of a scan.
struct ScanReader<'a> {
    scan: &'a Scan,
    dc_tables: &'a [Option<HuffmanTable>; 4],
    ac_tables: &'a [Option<HuffmanTable>; 4],
    is_progressive: bool,
    /// Number of following blocks whose band is empty (T.81, G.1.2.2).
    end_of_band_run: u32,
}

impl ScanReader<'_> {
    fn read(mut self, frame: &mut Frame, data: &EntropyCoded, restart_interval: usize) -> Option<()> {
        let (across, down) = match self.scan.components[..] {
            [(index, ..)] => (frame.components[index].blocks_across, frame.components[index].blocks_down),
            _ => (frame.units_across, frame.units_down),
        };
        let is_interleaved = self.scan.components.len() > 1;
        let interval = if restart_interval == 0 { across * down } else { restart_interval };
        if data.ends.len() != (across * down).div_ceil(interval) {
            return None;
        }
        let mut starts = std::iter::once(0).chain(data.ends.iter().copied());
        let mut ends = data.ends.iter().copied();
        let mut reader = BitReader::new(&[], 0);
        let mut left = 0;
        for row in 0..down {
            if !self.is_progressive {
                for (index, ..) in &self.scan.components {
                    frame.components[*index].coefficients.fill(0);
                }
            }
            for column in 0..across {
                if left == 0 {
                    if !reader.is_at_end() || self.end_of_band_run > 0 {
                        return None;
                    }
                    let (start, end) = (starts.next()?, ends.next()?);
                    reader = BitReader::new(&data.bytes[start..], end - start);
                    left = interval;
                    frame.components.iter_mut().for_each(|component| component.prediction = 0);
                }
                left -= 1;
                self.read_unit(frame, &mut reader, is_interleaved, row, column)?;
            }
            if reader.is_exhausted() {
                return None;
            }
            if !self.is_progressive {
                self.transform_row(frame, is_interleaved, row)?;
            }
        }
        // Some encoders write more bytes than belong to the scan; libjpeg skips them.
        (!reader.is_exhausted() && self.end_of_band_run == 0).then_some(())
    }

    fn transform_row(&self, frame: &mut Frame, is_interleaved: bool, row: usize) -> Option<()> {
        for (index, ..) in &self.scan.components {
            let component = &mut frame.components[*index];
            let rows = if is_interleaved { component.down } else { 1 };
            let coefficients = std::mem::take(&mut component.coefficients);
            component.transform(&coefficients, row * rows, rows)?;
            component.coefficients = coefficients;
        }
        Some(())
    }

    #[inline]
    fn read_unit(
        &mut self,
        frame: &mut Frame,
        reader: &mut BitReader,
        is_interleaved: bool,
        row: usize,
        column: usize,
    ) -> Option<()> {
        for (index, dc, ac) in &self.scan.components {
            let component = &mut frame.components[*index];
            let (across, down) = if is_interleaved { (component.across, component.down) } else { (1, 1) };
            // Only progressive frames hold all rows; others hold the current row.
            let first_row = if self.is_progressive { row * down } else { 0 };
            for block_row in first_row..first_row + down {
                for block in column * across..(column + 1) * across {
                    let group_index = block_row * component.groups_across + block / GROUP;
                    let group = component.coefficients.as_chunks_mut::<{ 64 * GROUP }>().0.get_mut(group_index)?;
                    let lane = block % GROUP;
                    let (dc, ac) = (self.dc_tables.get(*dc), self.ac_tables.get(*ac));
                    if !self.is_progressive {
                        read_block(reader, dc?.as_ref()?, ac?.as_ref()?, &mut component.prediction, group, lane)?;
                    } else if self.scan.first == 0 {
                        self.read_dc(reader, dc, &mut component.prediction, &mut group[lane])?;
                    } else {
                        let sent = component.sent.get_mut(group_index * GROUP + lane)?;
                        self.read_or_refine_band(reader, ac?.as_ref()?, group, lane, sent)?;
                    }
                }
            }
        }
        Some(())
    }

    fn read_dc(
        &self,
        reader: &mut BitReader,
        table: Option<&Option<HuffmanTable>>,
        prediction: &mut i32,
        coefficient: &mut i16,
    ) -> Option<()> {
        // A refining scan does not use the table that it names, but the table must exist.
        let table = table?.as_ref()?;
        if self.scan.refines {
            *coefficient |= i16::from(reader.bit()) << self.scan.low_bit;
            return Some(());
        }
        *prediction = prediction.wrapping_add(difference(reader, table)?);
        *coefficient = (*prediction << self.scan.low_bit) as i16;
        Some(())
    }

    /// Reads a band of AC coefficients.
    #[inline(never)]
    fn read_or_refine_band(
        &mut self,
        reader: &mut BitReader,
        table: &HuffmanTable,
        group: &mut Group,
        lane: usize,
        sent: &mut u64,
    ) -> Option<()> {
        reader.in_registers(|reader| {
            if self.scan.refines {
                self.refine_band(reader, table, group, lane, sent)
            } else {
                self.read_band(reader, table, group, lane, sent)
            }
        })
    }

    /// Reads the first scan of a band of AC coefficients (T.81, G.1.2.2).
    #[inline(always)]
    fn read_band(
        &mut self,
        reader: &mut BitReader,
        table: &HuffmanTable,
        group: &mut Group,
        lane: usize,
        sent: &mut u64,
    ) -> Option<()> {
        if self.end_of_band_run > 0 {
            self.end_of_band_run -= 1;
            return Some(());
        }
        let mut place = self.scan.first;
        while place <= self.scan.last {
            reader.refill();
            let value = if let Some((zeros, value)) = reader.short_coefficient(table) {
                if zeros == END_OF_BLOCK {
                    return Some(());
                }
                place += zeros;
                value
            } else {
                let symbol = reader.symbol(table)?;
                let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
                if size == 0 && zeros == 15 {
                    place += 16;
                    continue;
                }
                if size == 0 {
                    self.end_of_band_run = end_of_band_run(reader, zeros) - 1;
                    return Some(());
                }
                place += usize::from(zeros);
                reader.signed(size) as i16
            };
            if place > self.scan.last {
                return None;
            }
            *coefficient_at(group, place, lane) = value << self.scan.low_bit;
            *sent |= 1 << place;
            place += 1;
        }
        // A run of sixteen zeros must not reach beyond the band.
        (place == self.scan.last + 1).then_some(())
    }

    /// Reads a later scan of a band of AC coefficients, which sends one more bit of each (T.81,
    /// G.1.2.3). Bit k of `sent` is set if coefficient k is not 0.
    #[inline(always)]
    fn refine_band(
        &mut self,
        reader: &mut BitReader,
        table: &HuffmanTable,
        group: &mut Group,
        lane: usize,
        sent: &mut u64,
    ) -> Option<()> {
        let bit = 1_i16 << self.scan.low_bit;
        let end = self.scan.last + 1;
        let mut place = self.scan.first;
        // Coefficients of the band that are still to be refined.
        let mut old = *sent & (u64::MAX >> (64 - end)) & (u64::MAX << place);
        if self.end_of_band_run == 0 {
            while place < end {
                reader.refill();
                let symbol = reader.symbol(table)?;
                let (zeros, size) = (symbol >> 4, symbol & 15);
                let new = match size {
                    0 if zeros < 15 => {
                        self.end_of_band_run = end_of_band_run(reader, zeros);
                        break;
                    }
                    0 => 0,
                    1 if reader.bits(1) == 1 => bit,
                    1 => -bit,
                    _ => return None,
                };
                // Skip this number of coefficients that are 0. Those on the way that are not 0 are
                // refined.
                place += usize::from(zeros);
                while old != 0 && old.trailing_zeros() as usize <= place {
                    refine(reader, coefficient_at(group, old.trailing_zeros() as usize, lane), bit);
                    old &= old - 1;
                    place += 1;
                }
                if place >= end {
                    return None;
                }
                if new != 0 {
                    *coefficient_at(group, place, lane) = new;
                    *sent |= 1 << place;
                }
                place += 1;
            }
        }
        if self.end_of_band_run > 0 {
            while old != 0 {
                refine(reader, coefficient_at(group, old.trailing_zeros() as usize, lane), bit);
                old &= old - 1;
            }
            self.end_of_band_run -= 1;
        }
        Some(())
    }
}

#[inline(always)]
fn coefficient_at(group: &mut Group, place: usize, lane: usize) -> &mut i16 {
    &mut group[usize::from(NATURAL_ORDER[place & 63] & 63) * GROUP + lane % GROUP]
}

/// Adds `bit` to the absolute value if the next bit of the data is set.
#[inline(always)]
fn refine(reader: &mut BitReader, coefficient: &mut i16, bit: i16) {
    if reader.bit() {
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { bit } else { -bit });
    }
}

/// Returns the length of a run of ended bands, of this block and the next ones.
#[inline(always)]
fn end_of_band_run(reader: &mut BitReader, size: u8) -> u32 {
    (1 << size) + if size == 0 { 0 } else { reader.bits(u32::from(size)) }
}

/// Reads the difference of a DC coefficient from the previous one (T.81, F.1.2.1).
#[inline(always)]
fn difference(reader: &mut BitReader, table: &HuffmanTable) -> Option<i32> {
    /// Maximum number of bits of a difference for 8-bit samples (T.81, table F.1).
    const MOST_BITS: u8 = 11;
    reader.refill();
    let size = reader.symbol(table)?;
    (size <= MOST_BITS).then(|| reader.signed(u32::from(size)))
}

/// Reads a block of a sequential frame (T.81, F.2.2).
#[inline(never)]
fn read_block(
    reader: &mut BitReader,
    dc_table: &HuffmanTable,
    ac_table: &HuffmanTable,
    prediction: &mut i32,
    group: &mut Group,
    lane: usize,
) -> Option<()> {
    reader.in_registers(|reader| read_coefficients(reader, dc_table, ac_table, prediction, group, lane))
}

#[inline(always)]
fn read_coefficients(
    reader: &mut BitReader,
    dc_table: &HuffmanTable,
    ac_table: &HuffmanTable,
    prediction: &mut i32,
    group: &mut Group,
    lane: usize,
) -> Option<()> {
    *prediction = prediction.wrapping_add(difference(reader, dc_table)?);
    group[lane % GROUP] = *prediction as i16;
    let mut place = 1;
    loop {
        reader.fill();
        for _ in 0..SHORT_COEFFICIENTS {
            let (zeros, value) = match reader.short_coefficient(ac_table) {
                Some(coefficient) => coefficient,
                None => long_coefficient(reader, ac_table)?,
            };
            place += zeros;
            if place > 63 {
                return (zeros == END_OF_BLOCK).then_some(());
            }
            *coefficient_at(group, place, lane) = value;
            place += 1;
            if place > 63 {
                return Some(());
            }
        }
    }
}

/// Reads a coefficient of a sequential frame of any length. Returns the number of zeros before it
/// and its value. A run of sixteen zeros is fifteen zeros before a zero.
#[inline(always)]
fn long_coefficient(reader: &mut BitReader, table: &HuffmanTable) -> Option<(usize, i16)> {
    reader.fill();
    let symbol = reader.symbol(table)?;
    let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
    let value = reader.signed(size) as i16;
    reader.fill();
    match (zeros, size) {
        (0, 0) => Some((END_OF_BLOCK, 0)),
        // Runs of blocks without coefficients exist only in progressive frames.
        (1..15, 0) => None,
        _ => Some((zeros, value)),
    }
}
