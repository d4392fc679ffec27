//! Waits, each identity once.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::Wait;

/// Waits that are told apart by everything but their sums. Of millions that differ each is moved few
/// times: they are large.
#[derive(Default)]
pub(crate) struct WaitSet {
    waits: Vec<Wait>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl WaitSet {
    /// Adds a wait, and returns it, or its sums to the one with its identity.
    ///
    /// # Panics
    /// With more than 2^32 waits.
    pub(crate) fn insert(&mut self, wait: Wait) -> Option<&Wait> {
        let Self { waits, numbers, hasher } = self;
        let entry = numbers.entry(
            hasher.hash_one(wait.identity()),
            |&number| waits[number as usize].identity() == wait.identity(),
            |&number| hasher.hash_one(waits[number as usize].identity()),
        );
        match entry {
            Entry::Occupied(known) => {
                waits[*known.get() as usize].add(&wait);
                None
            }
            Entry::Vacant(place) => {
                place.insert(u32::try_from(waits.len()).expect("fewer than 2^32 waits"));
                waits.push(wait);
                waits.last()
            }
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// In any order.
    pub(crate) fn into_waits(self) -> Vec<Wait> {
        self.waits
    }
}

impl From<Vec<Wait>> for WaitSet {
    /// Where they are: there is no room for all of them twice.
    fn from(mut waits: Vec<Wait>) -> Self {
        let mut set = Self { numbers: HashTable::with_capacity(waits.len()), ..Self::default() };
        let Self { numbers, hasher, .. } = &mut set;
        let mut kept = 0;
        for index in 0..waits.len() {
            let (known, rest) = waits.split_at_mut(index);
            let wait = &rest[0];
            let entry = numbers.entry(
                hasher.hash_one(wait.identity()),
                |&number| known[number as usize].identity() == wait.identity(),
                |&number| hasher.hash_one(known[number as usize].identity()),
            );
            match entry {
                Entry::Occupied(same) => known[*same.get() as usize].add(wait),
                Entry::Vacant(place) => {
                    place.insert(u32::try_from(kept).expect("fewer than 2^32 waits"));
                    waits.swap(kept, index);
                    kept += 1;
                }
            }
        }
        waits.truncate(kept);
        Self { waits, ..set }
    }
}

/// Sorts waits, the longest first, and among equals by identity.
pub(super) fn sort(waits: &mut [Wait]) {
    let mut order: Vec<(Reverse<u64>, u32)> =
        waits.iter().zip(0..).map(|(wait, number)| (Reverse(wait.off_ns()), number)).collect();
    let identity = |number: u32| waits[number as usize].identity();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| identity(a.1).cmp(&identity(b.1))));
    arrange(waits, order.into_iter().map(|(_, number)| number).collect());
}

/// Puts into each place the item that `order` has for it, without room for all of them twice.
pub(super) fn arrange<T>(items: &mut [T], mut order: Vec<u32>) {
    for start in 0..order.len() {
        let mut place = start;
        // Along a cycle, until it comes back to its start; places that are done lead to themselves.
        while order[place] as usize != start {
            let from = order[place] as usize;
            items.swap(place, from);
            order[place] = place as u32;
            place = from;
        }
        order[place] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::random::Random;

    #[test]
    fn arranged() {
        for seed in 0..100 {
            let mut random = Random(seed);
            let mut order: Vec<u32> = (0..random.below(20) as u32).collect();
            for index in (1..order.len()).rev() {
                order.swap(index, random.below(index + 1));
            }
            let mut items: Vec<u32> = (0..order.len() as u32).map(|index| index * 10).collect();
            let expected: Vec<u32> = order.iter().map(|index| index * 10).collect();
            arrange(&mut items, order);
            assert_eq!(items, expected);
        }
    }
}
