//! A bounded sample that does not depend on the order or the number of the keys.

use std::collections::BTreeSet;

use lynxdata_records::fingerprint;

/// The keys with the smallest hashes of seed and uid, so that a larger sample contains every
/// smaller one. It never holds more than the sample.
pub(super) struct Sample<'a, K> {
    purpose: &'a str,
    seed: String,
    most: usize,
    /// Several keys may have the same uid, such as conversations about one image.
    smallest: BTreeSet<(String, String, K)>,
}

impl<'a, K: Ord> Sample<'a, K> {
    /// Returns an empty sample of `most` keys; samples for different purposes are independent.
    pub(super) fn new(purpose: &'a str, seed: u64, most: usize) -> Self {
        Sample { purpose, seed: seed.to_string(), most, smallest: BTreeSet::new() }
    }

    /// Adds a key, unless the sample is full of smaller hashes.
    pub(super) fn offer(&mut self, uid: &str, key: K) {
        let hash = fingerprint([self.purpose, &self.seed, uid]);
        if self.smallest.len() >= self.most && self.smallest.last().is_none_or(|(last, ..)| *last < hash) {
            return;
        }
        self.smallest.insert((hash, uid.to_owned(), key));
        if self.smallest.len() > self.most {
            self.smallest.pop_last();
        }
    }

    /// Returns the sampled keys in order.
    pub(super) fn into_keys(self) -> Vec<K> {
        let mut keys: Vec<K> = self.smallest.into_iter().map(|(_, _, key)| key).collect();
        keys.sort();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(most: usize, uids: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        let mut sample = Sample::new("test", 7, most);
        uids.for_each(|uid| sample.offer(&uid.to_string(), uid));
        sample.into_keys().into_iter().collect()
    }

    #[test]
    fn a_larger_sample_contains_every_smaller_one_in_any_order_of_the_keys() {
        let mut smaller = BTreeSet::new();
        for most in [0, 1, 2, 10, 99, 100, 101] {
            let sample = sampled(most, 0..100);
            assert_eq!(sample.len(), most.min(100));
            assert_eq!(sample, sampled(most, (0..100).rev()));
            assert!(sample.is_superset(&smaller), "{most}");
            smaller = sample;
        }
    }

    #[test]
    fn keys_of_one_uid_are_all_sampled() {
        let mut sample = Sample::new("test", 7, 3);
        for key in [3, 1, 2] {
            sample.offer("same", key);
        }
        assert_eq!(sample.into_keys(), [1, 2, 3]);
    }
}
