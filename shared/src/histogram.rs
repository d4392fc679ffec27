use crate::assert_packed;

/// How many of the intervals of a path were how long, from switch-out to switch-in, in powers of two.
///
/// Bucket 0 has those below 1.02 µs (2^10 ns), bucket `n` those from 2^(9 + n) ns to below twice that,
/// the last those from 18 min (2^40 ns): shorter than a thread switch takes, and longer than most
/// recordings. The counts are of 32 bits, because two maps of waits have one of these for each path.
/// A count that is full stays so: more than four billion waits of one length are too few here, and
/// then, and only then, the counts do not add up to the number of intervals.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u32; Self::BUCKETS]);
assert_packed!(Histogram, 4 * Histogram::BUCKETS);

/// Lengths below 2 to the power of this, in ns, are in bucket 0.
const FIRST_BITS: u32 = 10;

impl Histogram {
    /// How many buckets there are: a power of two, by which [`Self::bucket`] masks.
    pub const BUCKETS: usize = 32;

    /// The bucket of an interval of so many ns.
    ///
    /// Without a branch, so that the verifier has one path to walk: BPF cannot count leading zeros, and
    /// the compiler makes shifts and a multiplication of it.
    #[inline(always)]
    pub const fn bucket(ns: u64) -> usize {
        // The lowest bit is that below bucket 1's: so the number is not 0, which would need a branch.
        let bits = ((ns >> (FIRST_BITS - 1)) | 1).ilog2();
        // At most 54. What has a higher bit than the last bucket's is in the last.
        let beyond = 0u32.wrapping_sub(bits / Self::BUCKETS as u32);
        (bits | beyond) as usize & (Self::BUCKETS - 1)
    }

    /// The shortest interval of a bucket, in ns.
    pub const fn lower_ns(bucket: usize) -> u64 {
        if bucket == 0 { 0 } else { 1 << (FIRST_BITS as usize + bucket - 1) }
    }

    /// The shortest interval that is too long for a bucket, in ns. Nothing is for the last.
    pub const fn upper_ns(bucket: usize) -> Option<u64> {
        if bucket + 1 < Self::BUCKETS { Some(Self::lower_ns(bucket + 1)) } else { None }
    }

    /// Adds an interval of so many ns.
    #[inline(always)]
    pub fn add_interval(&mut self, ns: u64) {
        self.add_intervals(ns, 1);
    }

    /// Adds so many intervals of so many ns.
    #[inline(always)]
    pub fn add_intervals(&mut self, ns: u64, more: u32) {
        let count = &mut self.0[Self::bucket(ns)];
        *count = count.saturating_add(more);
    }

    /// Adds the intervals of `other`.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boundary_is_where_it_says() {
        assert_eq!(Histogram::bucket(0), 0);
        for bucket in 0..Histogram::BUCKETS {
            let lower = Histogram::lower_ns(bucket);
            assert_eq!(Histogram::bucket(lower), bucket);
            match Histogram::upper_ns(bucket) {
                Some(upper) => {
                    assert_eq!(Histogram::bucket(upper - 1), bucket);
                    assert_eq!(Histogram::bucket(upper), bucket + 1);
                    assert_eq!(upper, if bucket == 0 { 1024 } else { 2 * lower });
                }
                None => assert_eq!((bucket, lower), (31, 1 << 40)),
            }
        }
        for bits in 40..64 {
            assert_eq!(Histogram::bucket(1 << bits), 31, "{bits}");
            assert_eq!(Histogram::bucket((1 << bits) - 1), if bits == 40 { 30 } else { 31 });
        }
        assert_eq!(Histogram::bucket(u64::MAX), 31);
    }

    #[test]
    fn counts_that_are_full_stay_full() {
        let mut histogram = Histogram::default();
        histogram.0[1] = u32::MAX - 1;
        for _ in 0..3 {
            histogram.add_interval(1500);
        }
        assert_eq!(histogram.0[1], u32::MAX);
        histogram.add(&histogram.clone());
        assert_eq!(histogram.0.iter().map(|count| u64::from(*count)).sum::<u64>(), u32::MAX.into());
    }
}
