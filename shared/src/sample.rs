use crate::assert_packed;

/// Which interval of a thread is recorded with its stacks, while the cost of the recording has a ceiling,
/// and what all its intervals are together: that is exact.
///
/// Each [`Place`] of a thread has a quota of intervals for each window of time. Below it each interval is recorded; with
/// `n` intervals in the window before this, or so far in this one, each is recorded with a probability of quota
/// / `n`, and then counts `n` / quota times. So what waits rarely, which may be long, is exact, and the sums
/// of all are unbiased: the probability depends on what was before only.
///
/// To take stacks takes time, and some of it is that of the interval: short ones would be several times as long as those
/// that nobody looked at. So what it took is measured, and is no part of the interval; see [`Self::without_cost`].
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How often the interval that is open or comes next counts; 0: it is not recorded. The thread's own CPU decides as
    /// it switches out, or a waker that comes before.
    pub weight: u32,
    /// How long it took to take the sleeper's stacks, in ns.
    pub sleeper_cost_ns: u32,
    /// How long it took to take the waker's; belongs to the second half of [`crate::ThreadState`].
    pub waker_cost_ns: u32,
    /// 1: the thread is being switched out, and has decided.
    pub decided: u32,
    /// The CPU that took the sleeper's stacks.
    pub sleeper_cpu: u32,
    /// The CPU that took the waker's; of the second half, too.
    pub waker_cpu: u32,
    /// Finished intervals that are in no sum yet, recorded or not.
    pub count: u64,
    /// Their time off-CPU in ns.
    pub off_ns: u64,
    /// Of it, that on the run queue.
    pub runqueue_ns: u64,
    /// What the next random number comes from.
    pub random: u64,
    /// The places where it waits; the first is [`Self::ANYWHERE`].
    pub places: [Place; Sampling::PLACES],
}
assert_packed!(Sampling, 56 + 12 * Sampling::PLACES);

/// Where a thread waits, as far as its registers tell: intervals of several places that share one of a few numbers
/// have one quota.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the window.
    pub window: u32,
    /// Intervals in it.
    pub in_window: u32,
    /// Intervals in the window before it.
    pub in_last: u32,
}
assert_packed!(Place, 12);

impl Sampling {
    /// How many bits of a time in ns are within a window: 1.07 s.
    pub const WINDOW_BITS: u32 = 30;

    /// A quota of one interval: it has as many bits behind the point.
    pub const ONE: u64 = 1 << 16;

    /// The most that an interval counts.
    pub const MAX_WEIGHT: u64 = 1 << 20;

    /// How many places of a thread are told apart; a power of two.
    pub const PLACES: usize = 16;

    /// The place of intervals of which nobody asks where they are: where the thread is preempted, or woken before it is
    /// switched out.
    pub const ANYWHERE: usize = 0;

    /// The number of the place with these registers; never [`Self::ANYWHERE`]. The third one is the first argument of
    /// the system call: the descriptor or the lock that it waits for, in most of them.
    #[inline(always)]
    pub const fn place(ip: u64, sp: u64, argument: u64) -> usize {
        let mixed = ip ^ sp.rotate_left(20) ^ argument.rotate_left(40);
        let hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        1 + ((hash * (Self::PLACES as u64 - 1)) >> 32) as usize
    }

    /// Of a thread that becomes known: until it decides, its intervals are recorded. `seed`: another one for each thread.
    #[inline(always)]
    pub fn new(seed: u32) -> Self {
        Self { weight: 1, random: (seed as u64) << 32, ..Self::default() }
    }

    /// Decides whether the interval that begins now in a place, of which [`Place::next_weight`] is the weight, is
    /// recorded.
    #[inline(always)]
    pub fn decide(&mut self, weight: u64) {
        let random = self.next_random();
        let (round, keep) = (random & 0xffff, random >> 32);
        // A whole number, up or down by chance.
        let weight = (weight + round) >> 16;
        let is_kept = (keep * weight) >> 32 == 0;
        self.weight = if is_kept { weight as u32 } else { 0 };
    }

    /// SplitMix64, a generator of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    /// 2014). The kernel's own (`bpf_get_prandom_u32`) takes ten times as long.
    #[inline(always)]
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// The time of an interval before its wake-up and after it, in ns, as if nobody had recorded it.
    ///
    /// The CPU that the thread leaves does nothing else while it takes its stacks: whatever it runs then, comes later.
    /// What other CPUs do does not; but a waker waits until the thread has left its CPU. `is_behind`: what ended the
    /// interval could not begin before that. `ahead_ns`: how long before the interval its wake-up came.
    #[inline(always)]
    pub const fn without_cost(
        &self,
        [blocked_ns, runqueue_ns]: [u64; 2],
        is_behind: bool,
        ahead_ns: u64,
    ) -> [u64; 2] {
        let sleeper = self.sleeper_cost_ns as u64;
        let waker = (self.waker_cost_ns as u64).saturating_sub(ahead_ns);
        let after = sleeper.saturating_sub(blocked_ns);
        if is_behind {
            let runqueue_ns = runqueue_ns.saturating_sub(waker + after);
            return [blocked_ns.saturating_sub(sleeper), runqueue_ns];
        }
        let longer = if waker > after { waker } else { after };
        [blocked_ns, runqueue_ns.saturating_sub(longer)]
    }
}

impl Place {
    /// Counts an interval that begins `now`. Returns how often it is to count, if it is
    /// recorded, as a number with 16 bits behind the point; at least one.
    #[inline(always)]
    pub fn next_weight(&mut self, now: u64, quota: u64) -> u64 {
        let window = (now >> Sampling::WINDOW_BITS) as u32;
        if window != self.window {
            let follows = window == self.window.wrapping_add(1);
            self.in_last = if follows { self.in_window } else { 0 };
            self.in_window = 0;
            self.window = window;
        }
        self.in_window = self.in_window.wrapping_add(1);
        let many = if self.in_last > self.in_window { self.in_last } else { self.in_window };
        let weight = ((many as u64) << 32) / if quota == 0 { 1 } else { quota };
        weight.clamp(Sampling::ONE, Sampling::MAX_WEIGHT << 16)
    }
}

/// What is known of the error of sums that are estimates: the sums of squares of what each recorded
/// interval adds to the variance.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Variance {
    /// Intervals that were recorded; 0 where each counts once.
    pub samples: u64,
    /// Of the number of intervals.
    pub count: u64,
    /// Of their time off-CPU, in ns squared: the low 64 bits.
    pub off_low: u64,
    /// The high 64 bits.
    pub off_high: u64,
}
assert_packed!(Variance, 32);

impl Variance {
    /// Adds an interval that counts `weight` times: by Horvitz and Thompson it adds `weight * (weight - 1)`
    /// times its square.
    #[inline(always)]
    pub fn add_interval(&mut self, off_ns: u64, weight: u64) {
        self.samples += 1;
        self.count = self.count.wrapping_add(weight * (weight - 1));
        let (low, high) = multiply(off_ns.wrapping_mul(weight), off_ns.wrapping_mul(weight - 1));
        self.off_low = self.off_low.wrapping_add(low);
        let carry = (self.off_low < low) as u64;
        self.off_high = self.off_high.wrapping_add(high).wrapping_add(carry);
    }

    /// Adds the intervals of `other`.
    pub fn add(&mut self, other: &Self) {
        let Self { samples, count, off_low: _, off_high: _ } = other;
        self.samples += samples;
        self.count = self.count.saturating_add(*count);
        let off = self.off().saturating_add(other.off());
        (self.off_low, self.off_high) = (off as u64, (off >> 64) as u64);
    }

    /// Of the time off-CPU, in ns squared.
    pub const fn off(&self) -> u128 {
        (self.off_high as u128) << 64 | self.off_low as u128
    }
}

/// The product of two numbers, its low and its high 64 bits: BPF has no wider multiplication.
#[inline(always)]
const fn multiply(a: u64, b: u64) -> (u64, u64) {
    const LOW: u64 = 0xffff_ffff;
    let (a_low, a_high, b_low, b_high) = (a & LOW, a >> 32, b & LOW, b >> 32);
    let low = a_low * b_low;
    let one = a_high * b_low + (low >> 32);
    let other = a_low * b_high + (one & LOW);
    let high = a_high * b_high + (one >> 32) + (other >> 32);
    (other << 32 | low & LOW, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_128_bits() {
        for a in [0, 1, 7, 0xffff_ffff, 1 << 32, 0x1234_5678_9abc_def0, u64::MAX] {
            for b in [0, 1, 3, 0xffff_ffff, 1 << 40, 0xfedc_ba98_7654_3210, u64::MAX] {
                let (low, high) = multiply(a, b);
                assert_eq!(u128::from(high) << 64 | u128::from(low), u128::from(a) * u128::from(b));
            }
        }
    }

    #[test]
    fn within_the_quota_each_interval_counts_once() {
        let mut place = Place::default();
        for i in 0..100 {
            let weight = place.next_weight(1000 + i, 100 * Sampling::ONE);
            assert_eq!(weight, Sampling::ONE, "{i}");
        }
        assert!(place.next_weight(2000, 100 * Sampling::ONE) > Sampling::ONE);
    }

    #[test]
    fn places_that_differ_in_one_register_are_mostly_told_apart() {
        let one = [0x7f12_3456_789a, 0x7ffe_1234_5670, 5];
        let number = |[ip, sp, argument]: [u64; 3]| {
            let place = Sampling::place(ip, sp, argument);
            assert!((1..Sampling::PLACES).contains(&place), "{place}");
            place
        };
        for register in 0..3 {
            let others = (1..=100).map(|i| {
                let mut other = one;
                other[register] += 16 * i;
                number(other)
            });
            let alike = others.filter(|&other| other == number(one)).count();
            assert!(alike < 20, "{alike} of 100 by register {register}");
        }
    }

    #[test]
    fn the_time_that_stacks_took_is_no_part_of_an_interval() {
        let sampling = Sampling { sleeper_cost_ns: 30, waker_cost_ns: 20, ..Sampling::default() };
        let without =
            |interval, is_behind, ahead| sampling.without_cost(interval, is_behind, ahead);
        // The waker ran on the same CPU, or nobody woke it.
        assert_eq!(without([130, 40], true, 0), [100, 20]);
        assert_eq!(without([0, 170], true, 0), [0, 120]);
        // On another CPU it came when it would have come anyway.
        assert_eq!(without([130, 40], false, 0), [130, 20]);
        // It came while the sleeper's stacks were taken: the longer of both is too much.
        assert_eq!(without([5, 40], false, 0), [5, 15]);
        assert_eq!(without([25, 40], false, 0), [25, 20]);
        // It came before.
        assert_eq!(without([0, 40], false, 15), [0, 10]);
        assert_eq!(
            Sampling { sleeper_cost_ns: 0, ..sampling }.without_cost([0, 40], false, 15),
            [0, 35]
        );
    }

    #[test]
    fn random_numbers_are_those_of_the_reference() {
        // Of Java's `SplittableRandom` and of the reference in C, from the seed 0.
        let mut sampling = Sampling::default();
        let numbers = [(); 3].map(|()| sampling.next_random());
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn sums_are_unbiased_and_their_errors_are_as_told() {
        const N: u64 = 4000;
        const ROUNDS: u64 = 400;
        let exact: u64 = (0..N).map(|i| 1000 + i % 7 * 300).sum();
        let (mut sum, mut squares, mut told) = (0.0, 0.0, 0.0);
        // As of so many threads, whose numbers follow each other.
        for tid in 0..ROUNDS {
            let (mut place, mut sampling) = (Place::default(), Sampling::new(tid as u32));
            let (mut estimate, mut variance) = (0u64, Variance::default());
            for i in 0..N {
                let off_ns = 1000 + i % 7 * 300;
                let weight = place.next_weight(i * 100_000, 37 * Sampling::ONE);
                sampling.decide(weight);
                if sampling.weight > 0 {
                    estimate += off_ns * u64::from(sampling.weight);
                    variance.add_interval(off_ns, sampling.weight.into());
                }
            }
            let error = estimate as f64 - exact as f64;
            sum += error;
            squares += error * error;
            told += variance.off() as f64;
        }
        let (mean, seen) = (sum / ROUNDS as f64, squares / ROUNDS as f64);
        let told = told / ROUNDS as f64;
        assert!(mean.abs() < 4.0 * (seen / ROUNDS as f64).sqrt(), "biased: {mean} of {exact}");
        assert!((0.75..1.33).contains(&(seen / told)), "{seen} against {told}");
    }
}
