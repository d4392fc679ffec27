//! Order by time. Several CPUs fill one ring buffer, and each reads the clock before it takes its place there.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Raw;

/// Holds events back until all that are older must have come.
#[derive(Debug, Default)]
pub struct Order {
    heap: BinaryHeap<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    time: u64,
    /// Of events at the same time, the one that came first.
    number: u64,
    raw: Raw,
}

impl Order {
    /// Takes an event.
    pub fn push(&mut self, raw: Raw) {
        self.heap.push(Entry { time: raw.time(), number: self.next, raw });
        self.next += 1;
    }

    /// The oldest event, if it is not younger than `until`, in ns of `CLOCK_MONOTONIC`.
    pub fn pop_until(&mut self, until: u64) -> Option<Raw> {
        if self.heap.peek()?.time > until {
            return None;
        }
        self.heap.pop().map(|entry| entry.raw)
    }
}

impl Ord for Entry {
    /// The greatest is the oldest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.number).cmp(&(self.time, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
