//! Principal components by orthogonal iteration.

use crate::matrix::{Matrix, add_scaled, dot};
use crate::random::{Purpose, normal, stream};

/// Number of multiplications by the covariance. Ridge regression and a linear layer use the
/// coordinates and do not depend on the basis of the space, so it is enough to find the space of
/// the largest variances. Four iterations suffice for that (Halko, Martinsson and Tropp, 2011).
const ITERATIONS: usize = 6;

/// Columns with a smaller standard deviation are treated as constant.
const CONSTANT: f32 = 1e-6;

/// Returns the coordinates of the rows of `features` in their first principal components, after
/// each column was standardised to mean 0 and deviation 1.
pub(crate) fn coordinates(features: &Matrix, most: usize) -> Matrix {
    let standard = standardised(features);
    let count = most.min(features.columns()).min(features.rows().saturating_sub(1)).max(1);
    let everyone: Vec<(u32, f32)> = (0..features.rows() as u32).map(|row| (row, 1.0)).collect();
    let covariance = standard.weighted_gram(&everyone);
    let mut draws = stream(0, Purpose::Projection);
    let start = (0..count * features.columns()).map(|_| normal(&mut draws) as f32).collect();
    // One component per row.
    let mut components = Matrix::from_rows(features.columns(), start);
    for _ in 0..ITERATIONS {
        components = components.times(&covariance);
        make_orthonormal(&mut components);
    }
    let mut coordinates = standard.times(&components.transposed());
    let squares: f64 = coordinates.values().iter().map(|value| f64::from(value * value)).sum();
    let scale = (squares / features.rows().max(1) as f64).sqrt().max(f64::from(f32::MIN_POSITIVE)).recip() as f32;
    for row in 0..coordinates.rows() {
        coordinates.row_mut(row).iter_mut().for_each(|value| *value *= scale);
    }
    coordinates
}

fn standardised(features: &Matrix) -> Matrix {
    let (rows, columns) = (features.rows(), features.columns());
    let mut moments = vec![[0.0_f64; 2]; columns];
    for row in 0..rows {
        for ([sum, squares], value) in moments.iter_mut().zip(features.row(row)) {
            *sum += f64::from(*value);
            *squares += f64::from(value * value);
        }
    }
    let scales: Vec<(f32, f32)> = moments
        .iter()
        .map(|[sum, squares]| {
            let mean = sum / rows.max(1) as f64;
            let deviation = (squares / rows.max(1) as f64 - mean * mean).max(0.0).sqrt() as f32;
            (mean as f32, if deviation > CONSTANT { deviation.recip() } else { 0.0 })
        })
        .collect();
    let mut out = features.clone();
    for row in 0..rows {
        for (value, (mean, scale)) in out.row_mut(row).iter_mut().zip(&scales) {
            *value = (*value - mean) * scale;
        }
    }
    out
}

/// Makes the rows orthogonal and of length 1 (Gram and Schmidt, twice, which is enough); rows that
/// depend on earlier ones become 0.
fn make_orthonormal(matrix: &mut Matrix) {
    let columns = matrix.columns();
    for row in 0..matrix.rows() {
        let mut here = matrix.row(row).to_vec();
        let before = dot(&here, &here).sqrt();
        for _ in 0..2 {
            for other in 0..row {
                let share = dot(&here, matrix.row(other));
                add_scaled(&mut here, -share, matrix.row(other));
            }
        }
        let length = dot(&here, &here).sqrt();
        let scale = if length > 1e-5 * before { length.recip() } else { 0.0 };
        debug_assert_eq!(here.len(), columns);
        for (target, value) in matrix.row_mut(row).iter_mut().zip(&here) {
            *target = value * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    /// Points on a plane in five dimensions, with a little noise.
    fn plane() -> Matrix {
        let mut draws = stream(9, Purpose::Projection);
        let rows = (0..200).flat_map(|_| {
            let (a, b) = (unit(&mut draws), unit(&mut draws));
            let noise = unit(&mut draws) * 1e-3;
            [a, b, a + b, a - b, 2.0 * a + noise].map(|value| value as f32)
        });
        Matrix::from_rows(5, rows.collect())
    }

    #[test]
    fn two_components_hold_a_plane() {
        let coordinates = coordinates(&plane(), 2);
        let squares: f32 = coordinates.values().iter().map(|value| value * value).sum();
        assert!((squares / 200.0 - 1.0).abs() < 1e-3);
        let all = super::coordinates(&plane(), 5);
        let third: f32 = (0..200).map(|row| all.row(row)[2].powi(2)).sum();
        assert!(third / 200.0 < 1e-4, "{third}");
    }

    #[test]
    fn constant_columns_and_single_rows_do_no_harm() {
        let constant = Matrix::from_rows(3, [1.0, 2.0, 3.0].repeat(4));
        assert!(coordinates(&constant, 2).values().iter().all(|value| value.is_finite()));
        assert_eq!(coordinates(&Matrix::from_rows(3, vec![1.0, 2.0, 3.0]), 2).rows(), 1);
    }
}
