//! Choices by hash: what a record gets depends on the seed and on names alone.

use lynxdata_hash::{number, seeded};

/// Returns a number that depends on the seed and the texts alone; see [`lynxdata_hash`]. The first
/// text names the purpose, so that two choices for one record are independent.
pub fn keyed_hash(seed: u64, texts: &[&str]) -> u64 {
    number(&seeded(seed, texts.iter().copied()))
}
