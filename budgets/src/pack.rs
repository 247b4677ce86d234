//! Packs records into sequences of one length without splitting any.
//!
//! The method is first-fit decreasing: records are taken from the longest to the shortest, and each
//! goes into the first pack that has room for it. It needs at most 11/9 OPT + 6/9 packs, where OPT
//! is the smallest possible number (Dósa, "The tight bound of first fit decreasing", 2007).

/// The position of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The pack, from 0.
    pub pack: u32,
    /// The position in the pack, from 0.
    pub position: u32,
    /// The index of the record in the input.
    pub record: usize,
}

/// Records in packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// All records that fit, ordered by pack.
    pub placed: Vec<Placed>,
    /// The indexes of records that are longer than a pack, in the order of the input.
    pub too_long: Vec<usize>,
    /// The number of packs.
    pub packs: u32,
    /// The number of tokens in all packs.
    pub tokens: u64,
}

impl Packing {
    /// Returns the filled share of all packs, from 0 to 1; `None` without packs.
    pub fn fill_rate(&self, capacity: u64) -> Option<f64> {
        let room = u64::from(self.packs) as f64 * capacity as f64;
        (self.packs > 0).then(|| self.tokens as f64 / room)
    }
}

/// Packs records of the given lengths in tokens, in O(n log n). Records of equal length keep the
/// order of the input, so that the plan is the same on every machine.
pub fn first_fit_decreasing(lengths: &[u64], capacity: u64) -> Packing {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&record| lengths[record] <= capacity).collect();
    order.sort_by_key(|&record| std::cmp::Reverse(lengths[record]));
    let mut packing = Packing {
        too_long: (0..lengths.len()).filter(|&record| lengths[record] > capacity).collect(),
        ..Packing::default()
    };
    let mut room = Room::new(order.len(), capacity);
    let mut filled: Vec<u32> = Vec::new();
    for record in order {
        let pack = room.first_with(lengths[record]);
        room.take(pack, lengths[record]);
        if pack == filled.len() {
            filled.push(0);
        }
        let (number, position) = (u32::try_from(pack).expect("a table has fewer than 2^32 records"), filled[pack]);
        filled[pack] += 1;
        packing.placed.push(Placed { pack: number, position, record });
        packing.tokens += lengths[record];
    }
    packing.packs = u32::try_from(filled.len()).expect("a table has fewer than 2^32 records");
    packing.placed.sort_unstable();
    packing
}

/// The room in all packs, as a tree whose nodes store the maximum room below them.
struct Room {
    /// The nodes. The second half are the leaves, in the order of packs.
    most: Vec<u64>,
    leaves: usize,
}

impl Room {
    /// Creates as many empty packs as there are records, because each record may need its own.
    fn new(packs: usize, capacity: u64) -> Room {
        let leaves = packs.next_power_of_two();
        Room { most: vec![capacity; 2 * leaves], leaves }
    }

    /// Returns the first pack with room for `length`, which must not exceed the capacity.
    fn first_with(&self, length: u64) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            if self.most[node] < length {
                node += 1;
            }
        }
        node - self.leaves
    }

    fn take(&mut self, pack: usize, length: u64) {
        let mut node = self.leaves + pack;
        self.most[node] -= length;
        while node > 1 {
            node /= 2;
            self.most[node] = self.most[2 * node].max(self.most[2 * node + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First-fit decreasing by its definition: a linear search through all packs.
    fn plain(lengths: &[u64], capacity: u64) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..lengths.len()).filter(|&record| lengths[record] <= capacity).collect();
        order.sort_by_key(|&record| (std::cmp::Reverse(lengths[record]), record));
        let mut packs: Vec<(u64, Vec<usize>)> = Vec::new();
        for record in order {
            match packs.iter_mut().find(|(used, _)| used + lengths[record] <= capacity) {
                Some((used, records)) => {
                    *used += lengths[record];
                    records.push(record);
                }
                None => packs.push((lengths[record], vec![record])),
            }
        }
        packs.into_iter().map(|(_, records)| records).collect()
    }

    proptest! {
        #[test]
        fn it_is_first_fit_decreasing(lengths in prop::collection::vec(0_u64..40, 0..120), capacity in 1_u64..50) {
            let packing = first_fit_decreasing(&lengths, capacity);
            let mut packs = vec![Vec::new(); packing.packs as usize];
            for placed in &packing.placed {
                prop_assert_eq!(packs[placed.pack as usize].len(), placed.position as usize);
                packs[placed.pack as usize].push(placed.record);
            }
            prop_assert_eq!(packs, plain(&lengths, capacity));
        }

        #[test]
        fn every_record_is_in_one_pack_that_holds_it_or_too_long(
            lengths in prop::collection::vec(0_u64..3000, 0..300), capacity in 1_u64..2500,
        ) {
            let packing = first_fit_decreasing(&lengths, capacity);
            let mut seen: Vec<usize> = packing.placed.iter().map(|placed| placed.record).collect();
            seen.extend(&packing.too_long);
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            let mut used = vec![0; packing.packs as usize];
            for placed in &packing.placed {
                used[placed.pack as usize] += lengths[placed.record];
            }
            prop_assert!(used.iter().all(|used| *used <= capacity));
            prop_assert_eq!(used.iter().sum::<u64>(), packing.tokens);
            prop_assert!(packing.too_long.iter().all(|&record| lengths[record] > capacity));
            // No two packs fit into one, because the first record of the later one would be in the
            // earlier one.
            prop_assert!(used.windows(2).all(|pair| pair[0] + pair[1] > capacity || pair[0] + pair[1] == 0));
            if let Some(fill) = packing.fill_rate(capacity) {
                prop_assert!((0.0..=1.0).contains(&fill));
            }
        }
    }

    #[test]
    fn a_set_that_fills_its_packs_is_packed_so() {
        let packing = first_fit_decreasing(&[2, 5, 4, 7, 1, 3, 8], 10);
        assert_eq!((packing.packs, packing.fill_rate(10)), (3, Some(1.0)));
        assert_eq!(first_fit_decreasing(&[], 10).fill_rate(10), None);
    }
}
