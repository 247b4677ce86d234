//! Choices by hash: they depend only on the seed and on names.

use lynxdata_hash::{number, seeded};

/// Returns a number that depends only on the seed and the texts; see [`lynxdata_hash`]. The first
/// text names the purpose, so that two choices for one record are independent.
pub fn keyed_hash(seed: u64, texts: &[&str]) -> u64 {
    number(&seeded(seed, texts.iter().copied()))
}
