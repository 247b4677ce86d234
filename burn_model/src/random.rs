//! Random draws that are the same on every machine and device: ChaCha8 streams keyed by a seed and
//! a purpose.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The purpose of a stream of draws. Streams of one seed are independent of each other, so that,
/// for example, a model with more weights does not change the order of the batches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Initial weights.
    Weights = 0,
    /// Order in which an arm's examples are trained on.
    Order = 1,
    /// The wrong image that a held-out text is shown with.
    Derangement = 2,
    /// Order in which the batches of a window are trained on.
    Windows = 3,
    /// Tokens of drawn answers.
    Draws = 4,
    /// Parts of images.
    Crops = 5,
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
    const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
    ((draws.next_u64() >> 11) as f64 + 0.5) * SCALE
}

/// Returns a draw from 0 to `bound - 1`; the bias of the multiply-and-shift method is below bound /
/// 2^64.
pub(crate) fn below(draws: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(draws.next_u64()) * bound as u128) >> 64) as usize
}

/// Returns the numbers 0 to `n - 1` in random order (Fisher and Yates).
pub(crate) fn shuffled(draws: &mut ChaCha8Rng, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for last in (1..n).rev() {
        order.swap(last, below(draws, last + 1));
    }
    order
}

/// Returns a random order of 0 to `n - 1` in which nothing stays in its place: one cycle through
/// all of them (Sattolo).
pub(crate) fn deranged(draws: &mut ChaCha8Rng, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for last in (1..n).rev() {
        order.swap(last, below(draws, last));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_differ_by_seed_and_purpose() {
        let first = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(first(1, Purpose::Weights), first(1, Purpose::Weights));
        assert_ne!(first(1, Purpose::Weights), first(2, Purpose::Weights));
        assert_ne!(first(1, Purpose::Weights), first(1, Purpose::Order));
    }

    #[test]
    fn shuffling_keeps_every_number_once() {
        let mut order = shuffled(&mut stream(7, Purpose::Order), 100);
        assert_ne!(order, (0..100).collect::<Vec<u32>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn a_derangement_moves_everything() {
        for n in 2..40 {
            let mut order = deranged(&mut stream(3, Purpose::Derangement), n);
            assert!(order.iter().enumerate().all(|(place, item)| place != *item as usize));
            order.sort_unstable();
            assert_eq!(order, (0..n as u32).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn unit_draws_fill_the_interval_evenly() {
        let mut draws = stream(5, Purpose::Weights);
        let sample: Vec<f64> = (0..20_000).map(|_| unit(&mut draws)).collect();
        let mean = sample.iter().sum::<f64>() / sample.len() as f64;
        assert!(sample.iter().all(|draw| 0.0 < *draw && *draw < 1.0));
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
