//! Random draws that are the same on every machine: ChaCha8 streams by seed and purpose, and hashes
//! of keys.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The purpose of a stream of draws. Streams of one seed are independent of each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The start of the search for principal components.
    Projection = 0,
    /// Images and captions of the rendered world.
    World = 2,
}

/// Returns the stream of draws of a seed for a purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut draws = ChaCha8Rng::from_seed(key);
    draws.set_stream(purpose as u64);
    draws
}

/// Returns a draw from the open interval between 0 and 1, with 53 random bits.
pub(crate) fn unit(draws: &mut ChaCha8Rng) -> f64 {
    open_interval(draws.next_u64())
}

/// Returns a draw of the normal distribution (Box and Muller).
pub(crate) fn normal(draws: &mut ChaCha8Rng) -> f64 {
    (-2.0 * unit(draws).ln()).sqrt() * (std::f64::consts::TAU * unit(draws)).cos()
}

/// Hashes texts to a number.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    lynxdata_hash::number(&lynxdata_hash::hash(texts))
}

/// Returns a number in the open interval between 0 and 1 from the upper 53 bits.
pub(crate) fn open_interval(bits: u64) -> f64 {
    const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
    ((bits >> 11) as f64 + 0.5) * SCALE
}
