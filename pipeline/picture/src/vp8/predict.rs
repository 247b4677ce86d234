//! Predicts samples from their neighbours and adds residues (RFC 6386, sections 12 and 14).

/// The prediction of a whole macroblock (section 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Dc,
    Vertical,
    Horizontal,
    TrueMotion,
}

/// The prediction of a block of 4 x 4 samples, in the order of the probability tables (section
/// 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum BlockMode {
    #[default]
    Dc,
    TrueMotion,
    Vertical,
    Horizontal,
    LeftDown,
    RightDown,
    VerticalRight,
    VerticalLeft,
    HorizontalDown,
    HorizontalUp,
}

/// Predicts a square of `SIDE` samples whose first one is at `start`.
#[inline(always)]
pub(super) fn square<const SIDE: usize>(
    samples: &mut [u8],
    stride: usize,
    start: usize,
    mode: Mode,
    (has_left, has_top): (bool, bool),
) {
    let above: [u8; SIDE] = samples[start - stride..start - stride + SIDE].try_into().expect("as long");
    let left: [u8; SIDE] = std::array::from_fn(|row| samples[start + row * stride - 1]);
    let corner = i16::from(samples[start - stride - 1]);
    let average = {
        let sum = |samples: &[u8; SIDE]| samples.iter().map(|sample| u32::from(*sample)).sum::<u32>();
        let side = SIDE as u32;
        match (has_left, has_top) {
            (true, true) => (sum(&left) + sum(&above) + side) / (2 * side),
            (true, false) => (sum(&left) + side / 2) / side,
            (false, true) => (sum(&above) + side / 2) / side,
            (false, false) => 128,
        }
    };
    for row in 0..SIDE {
        let from = start + row * stride;
        let target: &mut [u8; SIDE] = (&mut samples[from..from + SIDE]).try_into().expect("as long");
        match mode {
            Mode::Dc => *target = [average as u8; SIDE],
            Mode::Vertical => *target = above,
            Mode::Horizontal => *target = [left[row]; SIDE],
            Mode::TrueMotion => {
                let difference = i16::from(left[row]) - corner;
                *target = above.map(|above| (i16::from(above) + difference).clamp(0, 255) as u8);
            }
        }
    }
}

/// Predicts a block of 4 x 4 samples from the samples around it: the left ones from bottom to top,
/// the corner, the upper ones and the four to their right.
#[inline(always)]
pub(super) fn block(around: &[u8; 13], mode: BlockMode) -> [[u8; 4]; 4] {
    // Rounded means of neighbours: of two and of three.
    let two = |index: usize| ((u16::from(around[index]) + u16::from(around[index + 1]) + 1) >> 1) as u8;
    let weighted =
        |first: u8, middle: u8, last: u8| ((u16::from(first) + 2 * u16::from(middle) + u16::from(last) + 2) >> 2) as u8;
    let three = |index: usize| weighted(around[index], around[index + 1], around[index + 2]);
    let rows = |value: &dyn Fn(usize, usize) -> u8| {
        std::array::from_fn(|row| std::array::from_fn(|column| value(row, column)))
    };
    let corner = i16::from(around[4]);
    match mode {
        BlockMode::Dc => {
            let sum: u16 = around[..4].iter().chain(&around[5..9]).map(|sample| u16::from(*sample)).sum();
            [[((sum + 4) >> 3) as u8; 4]; 4]
        }
        BlockMode::TrueMotion => rows(&|row, column| {
            (i16::from(around[3 - row]) + i16::from(around[5 + column]) - corner).clamp(0, 255) as u8
        }),
        BlockMode::Vertical => rows(&|_, column| three(4 + column)),
        BlockMode::Horizontal => {
            let last = weighted(around[1], around[0], around[0]);
            [[three(2); 4], [three(1); 4], [three(0); 4], [last; 4]]
        }
        BlockMode::LeftDown => {
            let last = weighted(around[11], around[12], around[12]);
            rows(&|row, column| if row + column == 6 { last } else { three(5 + row + column) })
        }
        BlockMode::RightDown => rows(&|row, column| three(3 - row + column)),
        BlockMode::VerticalRight => {
            let (two_4, two_5, two_6, two_7) = (two(4), two(5), two(6), two(7));
            let (three_3, three_4, three_5, three_6) = (three(3), three(4), three(5), three(6));
            [
                [two_4, two_5, two_6, two_7],
                [three_3, three_4, three_5, three_6],
                [three(2), two_4, two_5, two_6],
                [three(1), three_3, three_4, three_5],
            ]
        }
        BlockMode::VerticalLeft => {
            let (two_6, two_7, two_8) = (two(6), two(7), two(8));
            let (three_6, three_7, three_8) = (three(6), three(7), three(8));
            [
                [two(5), two_6, two_7, two_8],
                [three(5), three_6, three_7, three_8],
                [two_6, two_7, two_8, three(9)],
                [three_6, three_7, three_8, three(10)],
            ]
        }
        BlockMode::HorizontalDown => {
            let (two_0, two_1, two_2, two_3) = (two(0), two(1), two(2), two(3));
            let (three_0, three_1, three_2, three_3) = (three(0), three(1), three(2), three(3));
            [
                [two_3, three_3, three(4), three(5)],
                [two_2, three_2, two_3, three_3],
                [two_1, three_1, two_2, three_2],
                [two_0, three_0, two_1, three_1],
            ]
        }
        BlockMode::HorizontalUp => {
            let (two_2, two_1, two_0) = (two(2), two(1), two(0));
            let (three_1, three_0) = (three(1), three(0));
            let lowest = around[0];
            let last = weighted(around[1], lowest, lowest);
            [
                [two_2, three_1, two_1, three_0],
                [two_1, three_0, two_0, last],
                [two_0, last, lowest, lowest],
                [lowest; 4],
            ]
        }
    }
}

/// Adds the inverse transform (section 14.4) of a block's coefficients to the samples at `start`.
#[inline(always)]
pub(super) fn add_residue(samples: &mut [u8], stride: usize, start: usize, coefficients: &[i16; 16]) {
    let columns: [[i32; 4]; 4] = std::array::from_fn(|column| {
        one_dimension(std::array::from_fn(|row| i32::from(coefficients[row * 4 + column])))
    });
    for row in 0..4 {
        let [first, second, third, fourth] = std::array::from_fn(|column| columns[column][row]);
        let values = one_dimension([first + 4, second, third, fourth]);
        let from = start + row * stride;
        let target: &mut [u8; 4] = (&mut samples[from..from + 4]).try_into().expect("as long");
        *target = std::array::from_fn(|column| (i32::from(target[column]) + (values[column] >> 3)).clamp(0, 255) as u8);
    }
}

/// Adds a residue as [`add_residue`] does, for a block with only its first coefficient.
#[inline(always)]
pub(super) fn add_constant(samples: &mut [u8], stride: usize, start: usize, coefficient: i16) {
    let value = (i32::from(coefficient) + 4) >> 3;
    for row in 0..4 {
        let from = start + row * stride;
        let target: &mut [u8; 4] = (&mut samples[from..from + 4]).try_into().expect("as long");
        *target = target.map(|sample| (i32::from(sample) + value).clamp(0, 255) as u8);
    }
}

#[inline(always)]
fn one_dimension(input: [i32; 4]) -> [i32; 4] {
    // sqrt 2 cos(pi / 8) less 1, and sqrt 2 sin(pi / 8), times 2^16.
    const COSINE: i32 = 20_091;
    const SINE: i32 = 35_468;
    // Products overflow only for coefficients that no real image has.
    let times = |value: i32, factor: i32| value.wrapping_mul(factor) >> 16;
    let [a, b, c, d] = input;
    let (sum, difference) = (a + c, a - c);
    let low = times(b, SINE) - (d + times(d, COSINE));
    let high = (b + times(b, COSINE)) + times(d, SINE);
    [sum + high, difference + low, difference - low, sum - high]
}

/// Returns the first coefficients of sixteen blocks, by the inverse Walsh-Hadamard transform
/// (section 14.3).
pub(super) fn first_coefficients(input: &[i16; 16]) -> [i16; 16] {
    let step = |a: i32, b: i32, c: i32, d: i32| [a + d + b + c, a - d + b - c, a + d - b - c, a - d - b + c];
    let columns: [[i32; 4]; 4] = std::array::from_fn(|column| {
        let [a, b, c, d] = std::array::from_fn(|row| i32::from(input[row * 4 + column]));
        step(a, b, c, d)
    });
    let rows: [[i32; 4]; 4] = std::array::from_fn(|row| {
        let [a, b, c, d] = std::array::from_fn(|column| columns[column][row]);
        step(a, b, c, d)
    });
    std::array::from_fn(|index| ((rows[index / 4][index % 4] + 3) >> 3) as i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_coefficients_are_too_large() {
        let mut samples = [128; 16];
        for first in [i16::MIN, -1, i16::MAX] {
            for others in [i16::MIN, 0, i16::MAX] {
                let mut coefficients = [others; 16];
                coefficients[0] = first;
                add_residue(&mut samples, 4, 0, &coefficients);
                first_coefficients(&coefficients);
            }
            add_constant(&mut samples, 4, 0, first);
        }
        assert_eq!(samples, [255; 16], "of the last constant");
    }
}
