//! The loop filter (RFC 6386, section 15), on sixteen places along an edge at a time.

/// Places along an edge that are filtered together.
const LANES: usize = 16;

/// Samples across an edge: four before it and four behind, each with the values of all places.
type Edge = [[i16; LANES]; 8];

/// How strongly a macroblock is filtered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strength {
    /// Largest difference across the edges of macroblocks.
    pub outer_limit: i16,
    /// Largest difference across the edges inside.
    pub inner_limit: i16,
    /// Largest difference between neighbours on one side.
    pub interior_limit: i16,
    /// Differences from which on an edge counts as one of the picture.
    pub variance_threshold: i16,
    /// Whether there is anything to be done.
    pub is_on: bool,
    /// Whether the edges between the blocks inside are filtered too.
    pub filters_inside: bool,
}

/// A plane to be filtered.
pub(super) struct Samples<'a> {
    pub samples: &'a mut [u8],
    pub stride: usize,
}

impl Samples<'_> {
    /// Reads the samples around a horizontal edge that begins at `start`, `count` places for the lanes from `lane` on.
    #[inline(always)]
    fn load_rows<const COUNT: usize>(&self, start: usize, lane: usize, edge: &mut Edge) {
        for (row, values) in edge.iter_mut().enumerate() {
            let from = start + row * self.stride - 4 * self.stride;
            let source: &[u8; COUNT] = self.samples[from..from + COUNT].try_into().expect("as long");
            for (value, sample) in values[lane..lane + COUNT].iter_mut().zip(source) {
                *value = i16::from(*sample) - 128;
            }
        }
    }

    #[inline(always)]
    fn store_rows<const COUNT: usize>(&mut self, start: usize, lane: usize, edge: &Edge) {
        for (row, values) in edge.iter().enumerate().take(7).skip(1) {
            let from = start + row * self.stride - 4 * self.stride;
            let target: &mut [u8; COUNT] = (&mut self.samples[from..from + COUNT]).try_into().expect("as long");
            for (sample, value) in target.iter_mut().zip(&values[lane..lane + COUNT]) {
                *sample = (*value + 128) as u8;
            }
        }
    }

    /// As [`Samples::load_rows`], of a vertical edge.
    #[inline(always)]
    fn load_columns<const COUNT: usize>(&self, start: usize, lane: usize, edge: &mut Edge) {
        for place in 0..COUNT {
            let from = start + place * self.stride - 4;
            let source: &[u8; 8] = self.samples[from..from + 8].try_into().expect("as long");
            for column in 0..8 {
                edge[column][lane + place] = i16::from(source[column]) - 128;
            }
        }
    }

    #[inline(always)]
    fn store_columns<const COUNT: usize>(&mut self, start: usize, lane: usize, edge: &Edge) {
        for place in 0..COUNT {
            let from = start + place * self.stride - 4;
            let target: &mut [u8; 8] = (&mut self.samples[from..from + 8]).try_into().expect("as long");
            for column in 1..7 {
                target[column] = (edge[column][lane + place] + 128) as u8;
            }
        }
    }
}

/// Filters the edges of one macroblock: left, those inside, top, those inside.
#[inline(always)]
pub(super) fn macroblock(
    luma: &mut Samples,
    chroma: &mut [Samples; 2],
    strength: Strength,
    is_simple: bool,
    starts: (usize, usize),
    (has_left, has_top): (bool, bool),
) {
    let (luma_start, chroma_start) = starts;
    let mut edge: Edge = [[0; LANES]; 8];
    let insides: &[usize] = if strength.filters_inside { &[4, 8, 12] } else { &[] };
    for offset in has_left.then_some(0).iter().chain(insides).copied() {
        luma.load_columns::<16>(luma_start + offset, 0, &mut edge);
        filter(&mut edge, strength, offset == 0, is_simple);
        luma.store_columns::<16>(luma_start + offset, 0, &edge);
        if !is_simple && (offset == 0 || offset == 4) {
            let [blue, red] = &mut *chroma;
            blue.load_columns::<8>(chroma_start + offset, 0, &mut edge);
            red.load_columns::<8>(chroma_start + offset, 8, &mut edge);
            filter(&mut edge, strength, offset == 0, false);
            blue.store_columns::<8>(chroma_start + offset, 0, &edge);
            red.store_columns::<8>(chroma_start + offset, 8, &edge);
        }
    }
    for offset in has_top.then_some(0).iter().chain(insides).copied() {
        let start = luma_start + offset * luma.stride;
        luma.load_rows::<16>(start, 0, &mut edge);
        filter(&mut edge, strength, offset == 0, is_simple);
        luma.store_rows::<16>(start, 0, &edge);
        if !is_simple && (offset == 0 || offset == 4) {
            let [blue, red] = &mut *chroma;
            let start = chroma_start + offset * blue.stride;
            blue.load_rows::<8>(start, 0, &mut edge);
            red.load_rows::<8>(start, 8, &mut edge);
            filter(&mut edge, strength, offset == 0, false);
            blue.store_rows::<8>(start, 0, &edge);
            red.store_rows::<8>(start, 8, &edge);
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

/// To the range of a signed byte.
#[inline(always)]
fn clamp(value: i16) -> i16 {
    value.clamp(-128, 127)
}

/// All ones or nothing.
#[inline(always)]
fn mask(condition: bool) -> i16 {
    -i16::from(condition)
}

#[inline(always)]
fn is_edge_weak(p1: i16, p0: i16, q0: i16, q1: i16, limit: i16) -> bool {
    (p0 - q0).abs() * 2 + ((p1 - q1).abs() >> 1) <= limit
}

/// Section 15.2.
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

/// Masks of the places that are filtered, and of those at an edge of the picture.
#[inline(always)]
fn masks(edge: &Edge, lane: usize, limit: i16, strength: Strength) -> (i16, i16) {
    let [p3, p2, p1, p0, q0, q1, q2, q3] = std::array::from_fn(|index| edge[index][lane]);
    let most = (p3 - p2).abs().max((p2 - p1).abs()).max((q2 - q1).abs()).max((q3 - q2).abs());
    let nearest = (p1 - p0).abs().max((q1 - q0).abs());
    let is_smooth = mask(most.max(nearest) <= strength.interior_limit);
    let wanted = is_smooth & mask(is_edge_weak(p1, p0, q0, q1, limit));
    (wanted, mask(nearest > strength.variance_threshold))
}

/// Between macroblocks (section 15.3).
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

/// Between the blocks of a macroblock (section 15.3).
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
