//! The examples that each step is trained on.
//!
//! A step is measured in tokens that the loss counts, not in examples: arms with long texts and
//! arms with short ones learn from equally many tokens. Texts of similar length share a batch, so
//! that there is little padding.

use crate::random::{Purpose, shuffled, stream};

/// Number of steps whose examples are sorted by length together.
///
/// With 4, captions of 9 tokens on average are padded to 12 instead of 24, and the batches still
/// differ little from random ones.
const WINDOW: usize = 4;

/// The length of an example in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    /// Tokens that the decoder reads.
    pub(crate) read: usize,
    /// Tokens that the loss counts, at least 1.
    pub(crate) learned: usize,
}

/// Draws the batches of all steps, each of one example or more.
///
/// After every window of steps, the examples so far have `tokens_per_step` learned tokens per step,
/// exceeded by at most one example. Every epoch has each example as often as `copies` says, in a
/// new order. `tokens_per_step` is at least the largest number of learned tokens, and at least one
/// of `copies` is above 0.
pub(crate) fn batches(
    seed: u64,
    lengths: &[Length],
    copies: &[u32],
    steps: usize,
    tokens_per_step: usize,
) -> Vec<Vec<u32>> {
    let of_one_epoch = (0..).zip(copies).flat_map(|(item, copies)| std::iter::repeat_n(item, *copies as usize));
    let of_one_epoch: Vec<u32> = of_one_epoch.collect();
    let mut order = stream(seed, Purpose::Order);
    let mut window_order = stream(seed, Purpose::Windows);
    let mut waiting = Vec::new().into_iter();
    let mut batches: Vec<Vec<u32>> = Vec::with_capacity(steps);
    let mut taken = 0;
    while batches.len() < steps {
        let in_window = WINDOW.min(steps - batches.len());
        let goal = (batches.len() + in_window) * tokens_per_step;
        let mut window = Vec::new();
        while taken < goal {
            let Some(place) = waiting.next() else {
                waiting = shuffled(&mut order, of_one_epoch.len()).into_iter();
                continue;
            };
            let item = of_one_epoch[place as usize];
            taken += lengths[item as usize].learned;
            window.push(item);
        }
        // The sort is stable: examples of the same length stay in their random order.
        window.sort_by_key(|item| lengths[*item as usize].read);
        let window = split(&window, lengths, in_window);
        let places = shuffled(&mut window_order, in_window);
        batches.extend(places.iter().map(|place| window[*place as usize].clone()));
    }
    batches
}

/// Splits items into `parts` runs with about the same number of learned tokens, none of them empty.
fn split(items: &[u32], lengths: &[Length], parts: usize) -> Vec<Vec<u32>> {
    let learned = |item: &u32| lengths[*item as usize].learned;
    let total: usize = items.iter().map(learned).sum();
    let (mut start, mut before) = (0, 0);
    let runs = (1..=parts).map(|part| {
        let last = items.len() - (parts - part);
        let mut end = start;
        while end < last
            && (end == start || part == parts || (before + learned(&items[end]) / 2) * parts < part * total)
        {
            before += learned(&items[end]);
            end += 1;
        }
        let run = items[start..end].to_vec();
        start = end;
        run
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::below;

    fn lengths(seed: u64, count: usize, least: usize, most: usize) -> Vec<Length> {
        let mut draws = stream(seed, Purpose::Derangement);
        let length = |learned| Length { read: learned + 3, learned };
        (0..count).map(|_| length(least + below(&mut draws, most - least + 1))).collect()
    }

    fn learned(batches: &[Vec<u32>], lengths: &[Length]) -> usize {
        batches.iter().flatten().map(|item| lengths[*item as usize].learned).sum()
    }

    #[test]
    fn arms_of_long_and_short_texts_learn_from_equally_many_tokens() {
        for steps in [1, 4, 7, 30] {
            for (least, most) in [(1, 3), (5, 20), (20, 20), (32, 32)] {
                let lengths = lengths(1, 50, least, most);
                let batches = batches(3, &lengths, &[1; 50], steps, 64);
                assert_eq!(batches.len(), steps);
                assert!(batches.iter().all(|batch| !batch.is_empty()));
                let got = learned(&batches, &lengths);
                assert!((64 * steps..64 * steps + most).contains(&got), "{least} to {most}: {got} in {steps}");
            }
        }
    }

    #[test]
    fn the_smallest_steps_have_an_example_each() {
        for seed in 0..50 {
            let lengths = lengths(seed, 20, 1, 8);
            let batches = batches(seed, &lengths, &[1; 20], 13, 8);
            assert!(batches.iter().all(|batch| !batch.is_empty()), "{batches:?}");
        }
    }

    #[test]
    fn batches_of_a_window_have_like_lengths_and_equal_tokens() {
        let lengths = lengths(1, 200, 2, 24);
        let batches = batches(1, &lengths, &[1; 200], 40, 350);
        for window in batches.chunks(WINDOW) {
            for batch in window {
                let tokens = learned(std::slice::from_ref(batch), &lengths);
                assert!((350 - 36..=350 + 36).contains(&tokens), "{tokens}");
            }
            let mut spans: Vec<(usize, usize)> = window
                .iter()
                .map(|batch| {
                    let read: Vec<usize> = batch.iter().map(|item| lengths[*item as usize].read).collect();
                    (*read.iter().min().unwrap(), *read.iter().max().unwrap())
                })
                .collect();
            spans.sort_unstable();
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
        }
    }

    #[test]
    fn every_epoch_has_the_copies_of_each_example_and_no_other() {
        let lengths = vec![Length { read: 10, learned: 10 }; 6];
        let copies = [0, 1, 2, 0, 3, 1];
        // Seven examples an epoch, seven steps of ten: windows end with the first four steps.
        let batches = batches(5, &lengths, &copies, 28, 10);
        let order: Vec<u32> = batches.into_iter().flatten().collect();
        let mut count = [0; 6];
        for item in &order {
            count[*item as usize] += 1;
        }
        assert_eq!(count, [0, 4, 8, 0, 12, 4]);
        assert_ne!(order[..7], order[7..14]);
    }

    #[test]
    fn a_seed_determines_the_batches() {
        let lengths = lengths(1, 30, 2, 9);
        let drawn = |seed| batches(seed, &lengths, &[1; 30], 10, 40);
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        // A longer training begins like a shorter one, up to the last window.
        assert_eq!(batches(1, &lengths, &[1; 30], 20, 40)[..8], drawn(1)[..8]);
    }
}
