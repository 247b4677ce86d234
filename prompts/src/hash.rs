//! Choices by hash: what a record gets depends on the seed and on names alone.

/// Returns a number that depends on the seed and the texts alone: the first 8 bytes, little endian,
/// of BLAKE3 keyed with the seed over the texts, each preceded by its length. The first text names
/// the purpose, so that two choices for one record are independent.
pub fn keyed_hash(seed: u64, texts: &[&str]) -> u64 {
    let mut key = [0; blake3::KEY_LEN];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
