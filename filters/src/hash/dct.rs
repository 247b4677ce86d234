//! The discrete cosine transform of 32 values, rounded exactly as SciPy rounds it.
//!
//! A plain matrix product would not do: symmetric images (flags, icons, patterns) have many
//! coefficients that are zero except for rounding, and pHash compares each with their median. 48 of
//! 2,188 real images had another hash with a matrix product. So the additions and multiplications
//! run in the order of PocketFFT, which SciPy uses: a DCT-II is a real Fourier transform of
//! half-complex values (r0, r1, i1, r2, i2, .., r16) with twiddles around it, and the transform of
//! 32 splits into factors 2, 4 and 4. The result does not depend on the platform, since Rust never
//! fuses a multiplication with an addition and the cosines are constants.

/// Number of values.
pub(super) const LENGTH: usize = 32;

/// cos(pi k / 64) for k from 1 to 31, as PocketFFT's `sincos_2pibyn(128)` rounds it: some differ
/// from the nearest number in the last bit, because it multiplies two shorter tables.
#[expect(clippy::unreadable_literal, reason = "digits as the reference prints them")]
const TWIDDLES: [f64; LENGTH - 1] = [
    0.9987954562051724,
    0.9951847266721969,
    0.989176509964781,
    0.9807852804032304,
    0.970031253194544,
    0.9569403357322088,
    0.9415440651830208,
    0.9238795325112867,
    0.9039892931234433,
    0.881921264348355,
    0.8577286100002721,
    0.8314696123025452,
    0.8032075314806449,
    0.773010453362737,
    0.7409511253549591,
    0.7071067811865475,
    0.6715589548470183,
    0.6343932841636455,
    0.5956993044924332,
    0.5555702330196022,
    0.5141027441932217,
    0.47139673682599753,
    0.42755509343028203,
    0.38268343236508967,
    0.33688985339221994,
    0.2902846772544623,
    0.24298017990326393,
    0.19509032201612825,
    0.14673047445536164,
    0.09801714032956049,
    0.04906767432741799,
];

/// cos and sin of 2 pi k / 32 for k from 0 to 7, as PocketFFT's `sincos_2pibyn(32)` rounds them.
#[expect(clippy::unreadable_literal, reason = "digits as the reference prints them")]
const ROOTS: [(f64, f64); 8] = [
    (1.0, 0.0),
    (0.9807852804032304, 0.19509032201612825),
    (0.9238795325112867, 0.3826834323650898),
    (0.8314696123025452, 0.5555702330196022),
    (0.7071067811865475, std::f64::consts::FRAC_1_SQRT_2),
    (0.5555702330196022, 0.8314696123025452),
    (0.3826834323650898, 0.9238795325112867),
    (0.19509032201612825, 0.9807852804032304),
];

/// Computes `scipy.fftpack.dct(values)`: type II, unnormalised, y\[k\] = 2 Σ x\[n\] cos(π k (2n +
/// 1) / 64).
pub(super) fn dct(mut values: [f64; LENGTH]) -> [f64; LENGTH] {
    values[0] *= 2.0;
    values[LENGTH - 1] *= 2.0;
    for k in (1..LENGTH - 1).step_by(2) {
        let (sum, difference) = butterfly(values[k + 1], values[k]);
        (values[k], values[k + 1]) = (sum, difference);
    }

    let mut values = radix_4::<1>(&radix_4::<4>(&radix_2(&values)));

    for k in 1..LENGTH / 2 {
        let mirror = LENGTH - k;
        let (near, far) = (TWIDDLES[k - 1], TWIDDLES[mirror - 1]);
        let a = near * values[mirror] + far * values[k];
        let b = near * values[k] - far * values[mirror];
        values[k] = 0.5 * (a + b);
        values[mirror] = 0.5 * (a - b);
    }
    values[LENGTH / 2] *= TWIDDLES[LENGTH / 2 - 1];
    values
}

fn butterfly(a: f64, b: f64) -> (f64, f64) {
    (a + b, a - b)
}

/// Returns (real, imaginary) of a complex value multiplied by a root of unity.
fn turn((real, imaginary): (f64, f64), (cos, sin): (f64, f64)) -> (f64, f64) {
    (cos * real - sin * imaginary, cos * imaginary + sin * real)
}

/// Applies the factor 2: two interleaved runs of 16 half-complex values become two separate ones.
fn radix_2(input: &[f64; LENGTH]) -> [f64; LENGTH] {
    const RUN: usize = LENGTH / 2;
    let (even, odd) = input.split_at(RUN);
    let mut output = [0.0; LENGTH];
    (output[0], output[RUN]) = butterfly(even[0], odd[RUN - 1]);
    output[RUN - 1] = 2.0 * even[RUN - 1];
    output[LENGTH - 1] = -2.0 * odd[0];
    for imaginary in (2..RUN).step_by(2) {
        let (real, mirror) = (imaginary - 1, RUN - imaginary);
        let (sum_real, difference_real) = butterfly(even[real], odd[mirror - 1]);
        let (sum_imaginary, difference_imaginary) = butterfly(even[imaginary], odd[mirror]);
        output[real] = sum_real;
        output[imaginary] = difference_imaginary;
        (output[RUN + real], output[RUN + imaginary]) = turn((difference_real, sum_imaginary), ROOTS[imaginary / 2]);
    }
    output
}

/// Applies the factor 4: in each group, four interleaved runs of `RUN` half-complex values become
/// four separate ones.
fn radix_4<const RUN: usize>(input: &[f64; LENGTH]) -> [f64; LENGTH] {
    let groups = LENGTH / (4 * RUN);
    let mut output = [0.0; LENGTH];
    for group in 0..groups {
        let from = |run: usize, i: usize| input[i + RUN * (run + 4 * group)];
        let to = |run: usize, i: usize| i + RUN * (group + groups * run);

        let (sum_outer, difference_outer) = butterfly(from(0, 0), from(3, RUN - 1));
        let (double_real, double_imaginary) = (2.0 * from(1, RUN - 1), 2.0 * from(2, 0));
        (output[to(0, 0)], output[to(2, 0)]) = butterfly(sum_outer, double_real);
        (output[to(3, 0)], output[to(1, 0)]) = butterfly(difference_outer, double_imaginary);

        if RUN.is_multiple_of(2) {
            let (sum_imaginary, difference_imaginary) = butterfly(from(3, 0), from(1, 0));
            let (sum_real, difference_real) = butterfly(from(0, RUN - 1), from(2, RUN - 1));
            output[to(0, RUN - 1)] = sum_real + sum_real;
            output[to(1, RUN - 1)] = std::f64::consts::SQRT_2 * (difference_real - sum_imaginary);
            output[to(2, RUN - 1)] = difference_imaginary + difference_imaginary;
            output[to(3, RUN - 1)] = -std::f64::consts::SQRT_2 * (difference_real + sum_imaginary);
        }

        for imaginary in (2..RUN).step_by(2) {
            let (real, mirror) = (imaginary - 1, RUN - imaginary);
            let (real_03, real_difference_03) = butterfly(from(0, real), from(3, mirror - 1));
            let (imaginary_03, imaginary_difference_03) = butterfly(from(0, imaginary), from(3, mirror));
            let (real_21, real_difference_21) = butterfly(from(2, real), from(1, mirror - 1));
            let (imaginary_21, imaginary_difference_21) = butterfly(from(2, imaginary), from(1, mirror));

            let (first_real, third_real) = butterfly(real_03, real_21);
            let (first_imaginary, third_imaginary) = butterfly(imaginary_difference_03, imaginary_difference_21);
            let (fourth_real, second_real) = butterfly(real_difference_03, imaginary_21);
            let (second_imaginary, fourth_imaginary) = butterfly(imaginary_03, real_difference_21);

            let runs = [
                (first_real, first_imaginary),
                (second_real, second_imaginary),
                (third_real, third_imaginary),
                (fourth_real, fourth_imaginary),
            ];
            for (run, value) in runs.into_iter().enumerate() {
                let root = ROOTS[run * groups * (imaginary / 2)];
                // Multiplying by one changes only the sign of zeros, so run 0 is copied, as in the
                // reference.
                let (turned_real, turned_imaginary) = if run == 0 { value } else { turn(value, root) };
                output[to(run, real)] = turned_real;
                output[to(run, imaginary)] = turned_imaginary;
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    #[test]
    fn follows_the_definition() {
        let values: [f64; LENGTH] = std::array::from_fn(|i| (i * i * 37 % 256) as f64);
        for (k, strength) in dct(values).into_iter().enumerate() {
            let angle = |n: usize| PI * k as f64 * (2 * n + 1) as f64 / 64.0;
            let expected: f64 = 2.0 * values.iter().enumerate().map(|(n, x)| x * angle(n).cos()).sum::<f64>();
            assert!((strength - expected).abs() < 1e-9, "{k}: {strength} {expected}");
        }
    }

    /// Bits of `scipy.fftpack.dct([i * i * 37 % 256 for i in range(32)])`, SciPy 1.17.1.
    #[test]
    fn equals_scipy_to_the_last_bit() {
        let values: [f64; LENGTH] = std::array::from_fn(|i| (i * i * 37 % 256) as f64);
        assert_eq!(dct(values).map(f64::to_bits), SCIPY);
    }

    #[test]
    fn an_even_line_has_exactly_zero_everywhere_else() {
        let strengths = dct([93.0; LENGTH]);
        assert_eq!(strengths[0].to_bits(), (2.0_f64 * 93.0 * 32.0).to_bits());
        assert!(strengths[1..].iter().all(|&strength| strength == 0.0));
    }

    const SCIPY: [u64; LENGTH] = [
        0x40bc_e000_0000_0000,
        0xc08a_8187_c561_2f12,
        0xc089_0ad6_01d3_2de4,
        0x4054_5508_4821_a54e,
        0xc070_1339_22cf_bf56,
        0xc073_66eb_7ccf_1824,
        0x4085_fa2b_31b4_8c2a,
        0xc082_07c3_c332_aaf1,
        0xc089_0c82_8dd8_79b1,
        0xc07e_d766_9eff_5008,
        0xc065_73d6_2740_0dfc,
        0xc060_85a0_50d8_6466,
        0x407a_07b7_cc3c_ebd1,
        0xc089_33a6_b6bb_a87a,
        0x4086_df80_d268_5484,
        0xc04e_c5f9_24ad_da9c,
        0xc08a_debc_19b7_1702,
        0xc075_e03a_59a5_74de,
        0xc05a_5a82_d479_66d4,
        0xc085_2558_a929_af5e,
        0x4077_5eee_fa51_0e97,
        0x407b_970f_ab1b_03f1,
        0x408c_64a3_3414_033f,
        0xc090_63b1_93d5_9176,
        0x407a_dfc4_bf23_42fa,
        0x4081_5739_9c42_82c1,
        0x4081_0646_b78f_8772,
        0xc081_9789_a914_eaee,
        0x407a_5731_40fd_71ce,
        0x4043_bb01_e055_5ad8,
        0xc07a_76d7_259b_6610,
        0x4052_7dc1_8552_fcac,
    ];
}
