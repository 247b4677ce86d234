//! Dense matrices of 32-bit numbers: the few products that the probe needs, on one thread, with the
//! vector instructions of the machine.
//!
//! All products use one loop, `target += Σ factorᵢ · rowᵢ` over four rows at a time, so that a
//! value of the target is loaded and stored once per four multiplications.

#![expect(
    clippy::inline_always,
    reason = "pulp compiles a body for the instructions of the processor only where all of it is inlined"
)]

use pulp::{Arch, Simd, WithSimd};

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Returns a matrix of zeros.
    pub fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { columns, values: vec![0.0; rows * columns] }
    }

    /// Returns a matrix from its rows, one after another.
    ///
    /// # Panics
    ///
    /// If the number of values is not a multiple of `columns`.
    pub fn from_rows(columns: usize, values: Vec<f32>) -> Matrix {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "rows have {columns} values each");
        Matrix { columns, values }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// Returns the number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns a row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// Returns a mutable row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.columns..][..self.columns]
    }

    /// Returns all values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the transposed matrix.
    pub(crate) fn transposed(&self) -> Matrix {
        let mut out = Matrix::zeros(self.columns, self.rows());
        for row in 0..self.rows() {
            for (column, value) in self.row(row).iter().enumerate() {
                out.values[column * out.columns + row] = *value;
            }
        }
        out
    }

    /// Returns `self · other`.
    pub(crate) fn times(&self, other: &Matrix) -> Matrix {
        assert_eq!(self.columns, other.rows(), "columns of the first are rows of the second");
        let mut out = Matrix::zeros(self.rows(), other.columns);
        Arch::new().dispatch(Product { left: self, right: other, out: &mut out });
        out
    }

    /// Returns `Σ weightᵢ · xᵢ xᵢᵀ` over some rows x, each with its weight: square and symmetric.
    pub(crate) fn weighted_gram(&self, rows: &[(u32, f32)]) -> Matrix {
        let mut out = Matrix::zeros(self.columns, self.columns);
        Arch::new().dispatch(Gram { matrix: self, rows, out: &mut out });
        for row in 0..self.columns {
            for column in row + 1..self.columns {
                out.values[row * self.columns + column] = out.values[column * self.columns + row];
            }
        }
        out
    }
}

/// Adds: `target += factor · row`.
pub(crate) fn add_scaled(target: &mut [f32], factor: f32, row: &[f32]) {
    for (target, value) in target.iter_mut().zip(row) {
        *target += factor * value;
    }
}

#[inline(always)]
fn add_four(target: &mut [f32], factors: [f32; 4], rows: [&[f32]; 4]) {
    let length = target.len();
    let [a, b, c, d] = rows.map(|row| &row[..length]);
    for i in 0..length {
        target[i] += (factors[0] * a[i] + factors[1] * b[i]) + (factors[2] * c[i] + factors[3] * d[i]);
    }
}

struct Product<'a> {
    left: &'a Matrix,
    right: &'a Matrix,
    out: &'a mut Matrix,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Product { left, right, out } = self;
        for row in 0..left.rows() {
            let factors = left.row(row);
            let target = out.row_mut(row);
            let (fours, rest) = factors.as_chunks::<4>();
            for (group, factors) in fours.iter().enumerate() {
                add_four(target, *factors, [0, 1, 2, 3].map(|i| right.row(4 * group + i)));
            }
            for (i, factor) in rest.iter().enumerate() {
                add_scaled(target, *factor, right.row(4 * fours.len() + i));
            }
        }
    }
}

struct Gram<'a> {
    matrix: &'a Matrix,
    rows: &'a [(u32, f32)],
    out: &'a mut Matrix,
}

impl WithSimd for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Gram { matrix, rows, out } = self;
        let (fours, rest) = rows.as_chunks::<4>();
        for four in fours {
            let x = four.map(|(row, _)| matrix.row(row as usize));
            for column in 0..matrix.columns {
                let factors = [0, 1, 2, 3].map(|i| four[i].1 * x[i][column]);
                add_four(&mut out.row_mut(column)[..=column], factors, x);
            }
        }
        for (row, weight) in rest {
            let x = matrix.row(*row as usize);
            for column in 0..matrix.columns {
                add_scaled(&mut out.row_mut(column)[..=column], weight * x[column], x);
            }
        }
    }
}

/// Returns the sum of products, computed as eight partial sums.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (a, b) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Solves `matrix · X = right` for X by Cholesky's decomposition.
///
/// `matrix` must be symmetric and positive definite; a ridge penalty on its diagonal ensures that.
pub(crate) fn solve(matrix: Matrix, right: Matrix) -> Matrix {
    let (mut lower, mut x) = (matrix, right);
    Arch::new().dispatch(Solve { lower: &mut lower, x: &mut x });
    x
}

struct Solve<'a> {
    lower: &'a mut Matrix,
    x: &'a mut Matrix,
}

impl WithSimd for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Solve { lower, x } = self;
        let n = lower.columns;
        for row in 0..n {
            let (above, here) = lower.values.split_at_mut(row * n);
            for column in 0..row {
                let other = &above[column * n..][..n];
                let sum = dot(&here[..column], &other[..column]);
                here[column] = (here[column] - sum) / other[column];
            }
            let squares = dot(&here[..row], &here[..row]);
            here[row] = (here[row] - squares).max(f32::MIN_POSITIVE).sqrt();
        }
        let width = x.columns;
        for row in 0..n {
            let (above, here) = x.values.split_at_mut(row * width);
            let here = &mut here[..width];
            subtract(here, &lower.values[row * n..][..row], |i| &above[i * width..][..width]);
            let scale = lower.values[row * n + row].recip();
            for value in here {
                *value *= scale;
            }
        }
        let upper = lower.transposed();
        for row in (0..n).rev() {
            let (here, below) = x.values.split_at_mut((row + 1) * width);
            let here = &mut here[row * width..];
            subtract(here, &upper.values[row * n + row + 1..][..n - row - 1], |i| &below[i * width..][..width]);
            let scale = upper.values[row * n + row].recip();
            for value in here {
                *value *= scale;
            }
        }
    }
}

#[inline(always)]
fn subtract<'a>(target: &mut [f32], factors: &[f32], row: impl Fn(usize) -> &'a [f32]) {
    let (fours, rest) = factors.as_chunks::<4>();
    for (group, factors) in fours.iter().enumerate() {
        add_four(target, factors.map(|factor| -factor), [0, 1, 2, 3].map(|i| row(4 * group + i)));
    }
    for (i, factor) in rest.iter().enumerate() {
        add_scaled(target, -factor, row(4 * fours.len() + i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream, unit};

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut draws = stream(seed, Purpose::Projection);
        Matrix::from_rows(columns, (0..rows * columns).map(|_| unit(&mut draws) as f32 - 0.5).collect())
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let (a, b) = (random(5, 7, 1), random(7, 3, 2));
        let product = a.times(&b);
        for row in 0..5 {
            for column in 0..3 {
                let expected: f32 = (0..7).map(|k| a.row(row)[k] * b.row(k)[column]).sum();
                assert!((product.row(row)[column] - expected).abs() < 1e-6);
            }
        }
        assert_eq!(a.transposed().transposed(), a);
    }

    #[test]
    fn a_gram_matrix_counts_weights() {
        let a = random(6, 9, 3);
        let rows: Vec<(u32, f32)> = vec![(0, 1.0), (2, 3.0), (5, 0.5), (1, 0.0), (4, 2.0), (3, 1.0)];
        let gram = a.weighted_gram(&rows);
        for (i, j) in [(0, 0), (8, 3), (3, 8), (4, 7)] {
            let expected: f32 = rows.iter().map(|(row, w)| w * a.row(*row as usize)[i] * a.row(*row as usize)[j]).sum();
            assert!((gram.row(i)[j] - expected).abs() < 1e-5, "{i} {j}");
        }
    }

    #[test]
    fn solutions_solve() {
        let a = random(40, 13, 4);
        let mut gram = a.weighted_gram(&(0..40).map(|row| (row, 1.0)).collect::<Vec<_>>());
        for i in 0..13 {
            gram.row_mut(i)[i] += 0.1;
        }
        let right = random(13, 6, 5);
        let x = solve(gram.clone(), right.clone());
        let back = gram.times(&x);
        assert!(back.values().iter().zip(right.values()).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
