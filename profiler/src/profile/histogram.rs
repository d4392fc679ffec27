//! How long waits were: counts by powers of two, as the kernel side keeps them.

use offwake_shared::Histogram as Buckets;

/// How many intervals were how long, from switch-out to switch-in.
///
/// Buckets are those of [`offwake_shared::Histogram`]. Where a file does not tell the lengths (folded
/// stacks, profiles of an older offwake), it is empty, so a histogram may have fewer intervals than there
/// were; it never has more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Histogram {
    /// By bucket, without the zeros at the end: equal histograms are equal values.
    counts: Box<[u64]>,
}

impl Histogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = Buckets::BUCKETS;

    /// From the count of each bucket, the shortest first. `None` if there are more counts than buckets.
    pub fn new(counts: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut counts: Vec<u64> = counts.into_iter().collect();
        let len = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts.truncate(len);
        (len <= Self::BUCKETS).then(|| Self { counts: counts.into() })
    }

    /// The count of each bucket, up to the last that is not empty.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many intervals it has.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds the intervals of `other`.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            let mut counts = std::mem::take(&mut self.counts).into_vec();
            counts.resize(other.counts.len(), 0);
            self.counts = counts.into();
        }
        for (count, more) in self.counts.iter_mut().zip(&*other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// The shortest interval of a bucket, in ns.
    pub const fn lower_ns(bucket: usize) -> u64 {
        Buckets::lower_ns(bucket)
    }

    /// So many percent of the intervals are not longer than this, in ns: the end of the bucket in which
    /// the percentile is, or the longest interval, `max_ns`, where that is less. `None` if it is empty.
    pub fn percentile_below_ns(&self, percent: u64, max_ns: u64) -> Option<u64> {
        let total = u128::from(self.total());
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut sum = 0;
        let bucket = self.counts.iter().position(|count| {
            sum += u128::from(*count);
            sum >= rank
        })?;
        Some(Buckets::upper_ns(bucket).map_or(max_ns, |end| end.min(max_ns)))
    }
}

impl From<&Buckets> for Histogram {
    fn from(Buckets(counts): &Buckets) -> Self {
        Self::new(counts.iter().map(|count| u64::from(*count))).expect("as many as there are")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram::new(counts.iter().copied()).unwrap()
    }

    #[test]
    fn equal_histograms_are_equal_values() {
        assert_eq!(histogram(&[0, 3, 0, 0]), histogram(&[0, 3]));
        assert_eq!(histogram(&[0, 0]), Histogram::default());
        assert_eq!(histogram(&[0; 40]), Histogram::default());
        assert_eq!(Histogram::new([1; 33]), None);
        let mut buckets = Buckets::default();
        for ns in [100, 1_500, 1_600, 3_000_000] {
            buckets.add_interval(ns);
        }
        let mut expected = [0; 13];
        (expected[0], expected[1], expected[12]) = (1, 2, 1);
        assert_eq!(Histogram::from(&buckets), histogram(&expected));
        assert_eq!(Histogram::from(&Buckets::default()), Histogram::default());
    }

    #[test]
    fn sums_have_all_intervals() {
        let mut sum = histogram(&[1]);
        sum.add(&histogram(&[2, 0, 5]));
        sum.add(&histogram(&[0, 1]));
        assert_eq!(sum.counts(), [3, 1, 5]);
        assert_eq!(sum.total(), 9);
        sum.add(&histogram(&[u64::MAX]));
        assert_eq!((sum.counts()[0], sum.total()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn percentiles_are_bounds() {
        // 50 below 1.02 µs, 49 from 2.05 to 4.10 µs, one from 4.10 µs.
        let some = histogram(&[50, 0, 49, 1]);
        let below = |percent| some.percentile_below_ns(percent, 5_000).unwrap();
        assert_eq!([0, 50, 51, 99, 100].map(below), [1_024, 1_024, 4_096, 4_096, 5_000]);
        let one = histogram(&[0, 1]);
        assert_eq!(one.percentile_below_ns(50, 1_500), Some(1_500));
        let mut last = [0; Histogram::BUCKETS];
        last[Histogram::BUCKETS - 1] = 2;
        assert_eq!(histogram(&last).percentile_below_ns(99, 1 << 50), Some(1 << 50));
        assert_eq!(Histogram::default().percentile_below_ns(50, 7), None);
    }
}
