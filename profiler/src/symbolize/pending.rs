use std::collections::BTreeSet;
use std::ops::Range;

/// Addresses that still look for their function.
///
/// Symbols are offered one by one, the best first; each takes the addresses in its range, and they
/// are gone for the others. This needs no index of the symbols, of which there are many more than
/// addresses, and its cost does not depend on how symbols overlap.
pub(super) struct Pending(BTreeSet<u64>);

impl Pending {
    pub(super) fn new(addresses: impl IntoIterator<Item = u64>) -> Self {
        Self(addresses.into_iter().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any address is in the range.
    pub(super) fn touches(&self, range: &Range<u64>) -> bool {
        !range.is_empty() && self.0.range(range.clone()).next().is_some()
    }

    /// Removes and returns the addresses in the range.
    pub(super) fn take(&mut self, range: &Range<u64>) -> Vec<u64> {
        if range.is_empty() {
            return Vec::new();
        }
        let taken: Vec<u64> = self.0.range(range.clone()).copied().collect();
        for address in &taken {
            self.0.remove(address);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_offer_wins_and_ends_are_exclusive() {
        let mut pending = Pending::new([1, 5, 9, u64::MAX]);
        assert!(pending.touches(&(5..6)));
        assert_eq!(pending.take(&(5..9)), [5]);
        assert!(!pending.touches(&(2..9)));
        assert_eq!(pending.take(&(0..10)), [1, 9]);
        assert!(pending.take(&(10..10)).is_empty());
        assert!(!pending.is_empty());
    }
}
