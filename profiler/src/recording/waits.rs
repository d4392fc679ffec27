//! The sums of intervals, by what they have in common.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use offwake_shared::{WaitKey, WaitStats};

/// Entries of one piece of memory.
const CHUNK: usize = 1024;

/// Sums of intervals by their keys, each once. Memory grows with them: a hash table of entries as large as these
/// would have room for twice as many when it has just grown, and three times while it grows.
#[derive(Debug, Default)]
pub struct Waits {
    /// Numbers of entries.
    index: HashTable<u32>,
    /// All of these but the last are full.
    chunks: Vec<Vec<(WaitKey, WaitStats)>>,
    hasher: DefaultHashBuilder,
}

impl Waits {
    /// Adds sums to those of the same key.
    pub fn add(&mut self, key: &WaitKey, stats: &WaitStats) {
        let Self { index, chunks, hasher } = self;
        let hash = hasher.hash_one(key);
        let is_same = |&at: &u32| entry(chunks, at).0 == *key;
        match index.entry(hash, is_same, |&at| hasher.hash_one(entry(chunks, at).0)) {
            Entry::Occupied(found) => {
                let at = *found.get() as usize;
                chunks[at / CHUNK][at % CHUNK].1.add(stats);
            }
            Entry::Vacant(place) => {
                let last = chunks.last().map_or(CHUNK, Vec::len);
                if last == CHUNK {
                    chunks.push(Vec::with_capacity(CHUNK));
                }
                let at = (chunks.len() - 1) * CHUNK + last % CHUNK;
                place.insert(u32::try_from(at).expect("fewer than memory has room for"));
                chunks.last_mut().expect("one was added").push((*key, *stats));
            }
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All keys with their sums, in the order in which they were first added.
    pub fn iter(&self) -> impl Iterator<Item = (&WaitKey, &WaitStats)> {
        self.chunks.iter().flatten().map(|(key, stats)| (key, stats))
    }

    /// Removes the keys that are not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&WaitKey) -> bool) {
        let all = std::mem::take(&mut self.chunks).into_iter().flatten();
        *self = all.filter(|(key, _)| is_kept(key)).collect();
    }
}

impl FromIterator<(WaitKey, WaitStats)> for Waits {
    fn from_iter<T: IntoIterator<Item = (WaitKey, WaitStats)>>(all: T) -> Self {
        let mut waits = Self::default();
        for (key, stats) in all {
            waits.add(&key, &stats);
        }
        waits
    }
}

fn entry(chunks: &[Vec<(WaitKey, WaitStats)>], at: u32) -> &(WaitKey, WaitStats) {
    &chunks[at as usize / CHUNK][at as usize % CHUNK]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use offwake_shared::TaskId;

    use super::*;

    fn key(tid: u32) -> WaitKey {
        WaitKey { sleeper: TaskId { tid, ..TaskId::default() }, ..WaitKey::default() }
    }

    #[test]
    fn sums_by_key() {
        let count = |count| WaitStats { count, ..WaitStats::default() };
        let tids = || (0..10_000).map(|i: u32| i.wrapping_mul(2_654_435_761) % 3000);
        let mut waits: Waits = tids().map(|tid| (key(tid), count(u64::from(tid)))).collect();
        let mut expected = BTreeMap::new();
        for tid in tids() {
            *expected.entry(tid).or_default() += u64::from(tid);
        }
        let sums = |waits: &Waits| -> BTreeMap<u32, u64> {
            waits.iter().map(|(key, stats)| (key.sleeper.tid, stats.count)).collect()
        };
        assert!(expected.len() > 2 * CHUNK, "more than two pieces");
        assert_eq!((waits.len(), sums(&waits)), (expected.len(), expected.clone()));
        waits.retain(|key| key.sleeper.tid % 2 == 0);
        expected.retain(|tid, _| tid % 2 == 0);
        assert_eq!((waits.len(), sums(&waits)), (expected.len(), expected));
        waits.retain(|_| false);
        assert!(waits.is_empty());
        waits.add(&key(1), &count(1));
        assert_eq!(waits.len(), 1);
    }
}
