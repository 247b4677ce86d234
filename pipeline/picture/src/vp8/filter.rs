//! The loop filter (RFC 6386, section 15), on sixteen positions along an edge at a time.
//!
//! A macroblock is filtered across its vertical edges and then across its horizontal ones. The
//! samples of each line along the edges become the lanes of one array, beginning four lines before
//! the first edge. For chroma, eight lanes are blue and eight are red.

/// Positions along an edge that are filtered together.
const LANES: usize = 16;

/// The samples of one line along an edge, minus 128.
type Line = [i16; LANES];

/// The lines that the filter of one edge reads: four before and four after it.
type Edge = [Line; 8];

/// Lines of a macroblock before its first edge.
const BEFORE: usize = 4;

/// The strength of the filter in a macroblock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strength {
    /// Maximum difference across the edges of macroblocks.
    pub outer_limit: i16,
    /// Maximum difference across the edges inside.
    pub inner_limit: i16,
    /// Maximum difference between neighbours on one side.
    pub interior_limit: i16,
    /// Differences above this count as an edge of the image itself.
    pub variance_threshold: i16,
    /// Whether the macroblock is filtered at all.
    pub is_on: bool,
    /// Whether the edges between the blocks inside are filtered too.
    pub filters_inside: bool,
}

/// A plane that is filtered.
pub(super) struct Samples<'a> {
    pub samples: &'a mut [u8],
    pub stride: usize,
}

impl Samples<'_> {
    /// Loads eight samples of a row.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.samples[at..at + 8].try_into().expect("as long"))
    }

    #[inline(always)]
    fn set_word(&mut self, at: usize, word: u64) {
        self.samples[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
}

/// Adjacent squares of 8 x 8 samples; a row of a square is a word.
type Squares<const COUNT: usize> = [[u64; COUNT]; 8];

/// Transposes every square: swaps neighbours, then pairs, then halves.
#[inline(always)]
fn transpose<const COUNT: usize>(squares: &mut Squares<COUNT>) {
    const STEPS: [(usize, u64); 3] =
        [(1, 0x00ff_00ff_00ff_00ff), (2, 0x0000_ffff_0000_ffff), (4, 0x0000_0000_ffff_ffff)];
    for (distance, mask) in STEPS {
        for row in (0..8).filter(|row| row & distance == 0) {
            for square in 0..COUNT {
                let (upper, lower) = (squares[row][square], squares[row + distance][square]);
                let exchanged = ((upper >> (8 * distance)) ^ lower) & mask;
                squares[row][square] = upper ^ (exchanged << (8 * distance));
                squares[row + distance][square] = lower ^ exchanged;
            }
        }
    }
}

/// Joins two words into sixteen samples.
#[inline(always)]
fn joined(first: u64, second: u64) -> [u8; LANES] {
    (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
}

#[inline(always)]
fn parted(samples: [u8; LANES]) -> (u64, u64) {
    let both = u128::from_le_bytes(samples);
    (both as u64, (both >> 64) as u64)
}

/// Filters vertical edges in two rows of squares; the lower row begins with the square `lower`. It
/// filters `LINES` columns, beginning [`BEFORE`] columns to the left of the second square.
#[inline(always)]
fn across_columns<const COUNT: usize, const LINES: usize>(squares: &mut Squares<COUNT>, lower: usize, edges: Edges) {
    let place = |line: usize| ((line + 8 - BEFORE) % 8, (line + 8 - BEFORE) / 8);
    let mut columns = [[0; LANES]; LINES];
    transpose(squares);
    for (line, column) in columns.iter_mut().enumerate() {
        let (row, square) = place(line);
        *column = joined(squares[row][square], squares[row][lower + square]);
    }
    edges.filter(&mut columns);
    for (line, column) in columns.iter().enumerate() {
        let (row, square) = place(line);
        (squares[row][square], squares[row][lower + square]) = parted(*column);
    }
    transpose(squares);
}

#[inline(always)]
fn luma_columns(luma: &mut Samples, start: usize, edges: Edges) {
    let stride = luma.stride;
    let at = |row: usize, square: usize| start + (square / 3 * 8 + row) * stride + square % 3 * 8 - 8;
    // Two more squares than needed, for full vectors.
    let mut squares: Squares<8> = [[0; 8]; 8];
    for (row, words) in squares.iter_mut().enumerate() {
        for (square, word) in words.iter_mut().take(6).enumerate() {
            *word = luma.word(at(row, square));
        }
    }
    across_columns::<8, { BEFORE + 16 }>(&mut squares, 3, edges);
    for (row, words) in squares.iter().enumerate() {
        for (square, word) in words.iter().take(6).enumerate() {
            luma.set_word(at(row, square), *word);
        }
    }
}

#[inline(always)]
fn chroma_columns([blue, red]: &mut [Samples; 2], start: usize, edges: Edges) {
    let stride = blue.stride;
    let at = |row: usize| start + row * stride;
    let mut squares: Squares<4> = [[0; 4]; 8];
    for (row, words) in squares.iter_mut().enumerate() {
        *words = [blue.word(at(row) - 8), blue.word(at(row)), red.word(at(row) - 8), red.word(at(row))];
    }
    across_columns::<4, { BEFORE + 8 }>(&mut squares, 2, edges);
    for (row, words) in squares.iter().enumerate() {
        blue.set_word(at(row) - 8, words[0]);
        blue.set_word(at(row), words[1]);
        red.set_word(at(row) - 8, words[2]);
        red.set_word(at(row), words[3]);
    }
}

/// Filters the rows of luma at horizontal edges. If there is no macroblock above, the rows begin at
/// the first edge.
#[inline(always)]
fn luma_rows(luma: &mut Samples, start: usize, edges: Edges) {
    let first = if edges.has_first { 0 } else { BEFORE };
    let stride = luma.stride;
    let at = |row: usize| start + row * stride - BEFORE * stride;
    let mut rows = [[0; LANES]; BEFORE + 16];
    for (row, samples) in rows.iter_mut().enumerate().skip(first) {
        samples.copy_from_slice(&luma.samples[at(row)..at(row) + LANES]);
    }
    edges.filter(&mut rows);
    for (row, samples) in rows.iter().enumerate().skip(first + 1) {
        luma.samples[at(row)..at(row) + LANES].copy_from_slice(samples);
    }
}

#[inline(always)]
fn chroma_rows([blue, red]: &mut [Samples; 2], start: usize, edges: Edges) {
    let first = if edges.has_first { 0 } else { BEFORE };
    let stride = blue.stride;
    let at = |row: usize| start + row * stride - BEFORE * stride;
    let mut rows = [[0; LANES]; BEFORE + 8];
    for (row, samples) in rows.iter_mut().enumerate().skip(first) {
        *samples = joined(blue.word(at(row)), red.word(at(row)));
    }
    edges.filter(&mut rows);
    for (row, samples) in rows.iter().enumerate().skip(first + 1) {
        let (blue_word, red_word) = parted(*samples);
        blue.set_word(at(row), blue_word);
        red.set_word(at(row), red_word);
    }
}

/// Filters the edges of one macroblock: the left edge, inner vertical edges, the top edge, inner
/// horizontal edges.
#[inline(always)]
pub(super) fn macroblock(
    luma: &mut Samples,
    chroma: &mut [Samples; 2],
    strength: Strength,
    is_simple: bool,
    (luma_start, chroma_start): (usize, usize),
    (has_left, has_top): (bool, bool),
) {
    let columns = Edges { has_first: has_left, strength, is_simple };
    if has_left || strength.filters_inside {
        luma_columns(luma, luma_start, columns);
        if !is_simple {
            chroma_columns(chroma, chroma_start, columns);
        }
    }
    let rows = Edges { has_first: has_top, ..columns };
    if has_top || strength.filters_inside {
        luma_rows(luma, luma_start, rows);
        if !is_simple {
            chroma_rows(chroma, chroma_start, rows);
        }
    }
}

/// The filter of the edges in one direction.
#[derive(Clone, Copy)]
struct Edges {
    /// Whether there is a macroblock before this one, so that their common edge is filtered.
    has_first: bool,
    strength: Strength,
    is_simple: bool,
}

impl Edges {
    /// Filters the first edge and every fourth line after it.
    ///
    /// All samples are widened and narrowed at once, because the compiler would use no vectors if
    /// they were converted one by one.
    #[inline(always)]
    fn filter<const LINES: usize>(self, samples: &mut [[u8; LANES]; LINES]) {
        let mut lines = [[0; LANES]; LINES];
        for (line, samples) in lines.iter_mut().zip(&*samples) {
            *line = std::array::from_fn(|lane| i16::from(samples[lane]) - 128);
        }
        for offset in (0..LINES - BEFORE).step_by(4) {
            let is_outer = offset == 0;
            if if is_outer { self.has_first } else { self.strength.filters_inside } {
                let edge = (&mut lines[offset..offset + 8]).try_into().expect("as long");
                filter(edge, self.strength, is_outer, self.is_simple);
            }
        }
        for (samples, line) in samples.iter_mut().zip(&lines) {
            *samples = std::array::from_fn(|lane| (line[lane] + 128) as u8);
        }
    }
}

#[inline(always)]
fn filter(edge: &mut Edge, strength: Strength, is_outer: bool, is_simple: bool) {
    match (is_simple, is_outer) {
        (true, true) => simple(edge, strength.outer_limit),
        (true, false) => simple(edge, strength.inner_limit),
        (false, true) => outer(edge, strength),
        (false, false) => inner(edge, strength),
    }
}

/// Clamps to the range of a signed byte.
#[inline(always)]
fn clamp(value: i16) -> i16 {
    value.clamp(-128, 127)
}

/// Returns all ones if the condition holds, otherwise 0.
#[inline(always)]
fn mask(condition: bool) -> i16 {
    -i16::from(condition)
}

#[inline(always)]
fn is_edge_weak(p1: i16, p0: i16, q0: i16, q1: i16, limit: i16) -> bool {
    (p0 - q0).abs() * 2 + ((p1 - q1).abs() >> 1) <= limit
}

/// Applies the simple filter (section 15.2).
#[inline(always)]
fn simple(edge: &mut Edge, limit: i16) {
    for lane in 0..LANES {
        let (p1, p0, q0, q1) = (edge[2][lane], edge[3][lane], edge[4][lane], edge[5][lane]);
        let wanted = mask(is_edge_weak(p1, p0, q0, q1, limit));
        let step = clamp(clamp(p1 - q1) + 3 * (q0 - p0)) & wanted;
        edge[4][lane] = clamp(q0 - (clamp(step + 4) >> 3));
        edge[3][lane] = clamp(p0 + (clamp(step + 3) >> 3));
    }
}

/// Returns the masks of the positions that are filtered, and of those at an edge of the image
/// itself.
#[inline(always)]
fn masks(edge: &Edge, lane: usize, limit: i16, strength: Strength) -> (i16, i16) {
    let [p3, p2, p1, p0, q0, q1, q2, q3] = std::array::from_fn(|index| edge[index][lane]);
    let most = (p3 - p2).abs().max((p2 - p1).abs()).max((q2 - q1).abs()).max((q3 - q2).abs());
    let nearest = (p1 - p0).abs().max((q1 - q0).abs());
    let is_smooth = mask(most.max(nearest) <= strength.interior_limit);
    let wanted = is_smooth & mask(is_edge_weak(p1, p0, q0, q1, limit));
    (wanted, mask(nearest > strength.variance_threshold))
}

/// Filters between macroblocks (section 15.3).
#[inline(always)]
fn outer(edge: &mut Edge, strength: Strength) {
    for lane in 0..LANES {
        let (wanted, is_varied) = masks(edge, lane, strength.outer_limit, strength);
        let [_, p2, p1, p0, q0, q1, q2, _] = std::array::from_fn(|index| edge[index][lane]);
        let step = clamp(clamp(p1 - q1) + 3 * (q0 - p0)) & wanted;
        let (varied, smooth) = (step & is_varied, step & !is_varied);
        let (down, up) = (clamp(varied + 4) >> 3, clamp(varied + 3) >> 3);
        let near = clamp((27 * smooth + 63) >> 7);
        let middle = clamp((18 * smooth + 63) >> 7);
        let far = clamp((9 * smooth + 63) >> 7);
        edge[1][lane] = clamp(p2 + far);
        edge[2][lane] = clamp(p1 + middle);
        edge[3][lane] = clamp(p0 + up + near);
        edge[4][lane] = clamp(q0 - down - near);
        edge[5][lane] = clamp(q1 - middle);
        edge[6][lane] = clamp(q2 - far);
    }
}

/// Filters between the blocks of a macroblock (section 15.3).
#[inline(always)]
fn inner(edge: &mut Edge, strength: Strength) {
    for lane in 0..LANES {
        let (wanted, is_varied) = masks(edge, lane, strength.inner_limit, strength);
        let [_, _, p1, p0, q0, q1, _, _] = std::array::from_fn(|index| edge[index][lane]);
        let step = clamp((clamp(p1 - q1) & is_varied) + 3 * (q0 - p0)) & wanted;
        let (down, up) = (clamp(step + 4) >> 3, clamp(step + 3) >> 3);
        let outward = ((down + 1) >> 1) & !is_varied;
        edge[2][lane] = clamp(p1 + outward);
        edge[3][lane] = clamp(p0 + up);
        edge[4][lane] = clamp(q0 - down);
        edge[5][lane] = clamp(q1 - outward);
    }
}
