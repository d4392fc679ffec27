use crate::{Histogram, TaskId, ThreadState, Variance, assert_packed};

/// Who ended a wait, as far as the kernel side can tell.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WakerKind {
    /// No wake-up was seen. For a thread that was switched out while runnable there is none.
    None = 0,
    /// The thread that ran, on its own behalf: a system call, or a kernel thread.
    Task = 1,
    /// An interrupt, or a softirq on its tail. Whoever was interrupted has no part in it.
    Interrupt = 2,
    /// Nobody yet: the wait went on when the recording ended. Set by user space only.
    NotWoken = 3,
    /// Not a wait: all finished intervals of the sleeper together, recorded or not, while others are
    /// sampled. Nothing else in the key is set.
    Account = 4,
}

impl WakerKind {
    /// The kind with this number, as found in a [`WaitKey`].
    pub const fn from_u32(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::None,
            1 => Self::Task,
            2 => Self::Interrupt,
            3 => Self::NotWoken,
            4 => Self::Account,
            _ => return None,
        })
    }
}

/// What waits are aggregated by. Stack ids are keys of the map `STACKS`; 0 means no stack.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitKey {
    /// The thread that waited.
    pub sleeper: TaskId,
    /// The thread that ended the wait; all zero unless `waker_kind` is [`WakerKind::Task`].
    pub waker: TaskId,
    /// Where the sleeper waited, in the kernel.
    pub sleeper_kernel: u64,
    /// Where the sleeper waited, in its program.
    pub sleeper_user: u64,
    /// Where the waker was, in the kernel.
    pub waker_kernel: u64,
    /// Where the waker was, in its program.
    pub waker_user: u64,
    /// What the sleeper waited for: a key of the map `SOURCES`; 0: not known.
    pub source: u64,
    /// A [`crate::WaitState`].
    pub state: u32,
    /// A [`WakerKind`].
    pub waker_kind: u32,
}
assert_packed!(WaitKey, 2 * 32 + 5 * 8 + 8);
const _: () = assert!(align_of::<WaitKey>() == 8, "it is read by words");

impl WaitKey {
    /// How many words of 64 bits it has.
    const WORDS: usize = size_of::<Self>() / 8;

    /// A hash of all that is in it, under which its sums are in a map: the kernel would take longer for one of so many bytes.
    #[inline(always)]
    pub const fn hash(&self) -> u64 {
        let (words, mut hash, mut factor, mut i) = (self.words(), 0u64, 0u64, 0);
        while i < Self::WORDS {
            // An odd one for each word; the sum does not have to wait for the product before it, as a chain would.
            factor = factor.wrapping_add(0x9e37_79b9_7f4a_7c16);
            // A product has nothing of a bit below it.
            let product = (words[i] ^ words[i] >> 32).wrapping_mul(factor ^ factor >> 29 | 1);
            hash = hash.wrapping_add(product ^ product >> 32);
            i += 1;
        }
        hash
    }

    /// Whether both are equal. Looks at all of them, so that the verifier has one path to walk.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let (ours, theirs, mut differing, mut i) = (self.words(), other.words(), 0, 0);
        while i < Self::WORDS {
            differing |= ours[i] ^ theirs[i];
            i += 1;
        }
        differing == 0
    }

    #[inline(always)]
    const fn words(&self) -> &[u64; Self::WORDS] {
        // SAFETY: it holds nothing but numbers, has no padding, and as many words, aligned like them.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }

    /// The waker is that which the thread's interval has told of.
    #[inline(always)]
    pub const fn set_waker(&mut self, thread: &ThreadState) {
        self.waker = thread.waker;
        self.waker_kernel = thread.waker_kernel;
        self.waker_user = thread.waker_user;
        self.source = thread.source;
        self.waker_kind = thread.waker_kind;
    }
}

/// The sums of the intervals with one [`WaitKey`].
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct WaitStats {
    /// How many intervals.
    pub count: u64,
    /// From switch-out to wake-up, in ns.
    pub blocked_ns: u64,
    /// From wake-up (or from an involuntary switch-out) to switch-in, in ns.
    pub runqueue_ns: u64,
    /// The longest interval from switch-out to switch-in, in ns.
    pub max_ns: u64,
    /// How long the intervals were, from switch-out to switch-in.
    pub histogram: Histogram,
    /// Of sums that are estimates.
    pub variance: Variance,
}
assert_packed!(WaitStats, 32 + size_of::<Histogram>() + size_of::<Variance>());

impl WaitStats {
    /// Adds an interval of `off_ns`, of which the thread was `runqueue_ns` on the run queue.
    #[inline(always)]
    pub fn add_interval(&mut self, off_ns: u64, runqueue_ns: u64) {
        let Self { count, blocked_ns, runqueue_ns: runqueue, max_ns, histogram, variance: _ } =
            self;
        *count += 1;
        *blocked_ns += off_ns - runqueue_ns;
        *runqueue += runqueue_ns;
        *max_ns = off_ns.max(*max_ns);
        histogram.add_interval(off_ns);
    }

    /// Adds an interval that stands for `weight`.
    #[inline(always)]
    pub fn add_sample(&mut self, off_ns: u64, runqueue_ns: u64, weight: u64) {
        let Self { count, blocked_ns, runqueue_ns: runqueue, max_ns, histogram, variance } = self;
        *count += weight;
        *blocked_ns += weight * (off_ns - runqueue_ns);
        *runqueue += weight * runqueue_ns;
        *max_ns = off_ns.max(*max_ns);
        histogram.add_intervals(off_ns, weight as u32);
        variance.add_interval(off_ns, weight);
    }

    /// Adds the intervals of `other`.
    pub fn add(&mut self, other: &Self) {
        let Self { count, blocked_ns, runqueue_ns, max_ns, histogram, variance } = other;
        self.variance.add(variance);
        self.count += count;
        self.blocked_ns += blocked_ns;
        self.runqueue_ns += runqueue_ns;
        self.max_ns = self.max_ns.max(*max_ns);
        self.histogram.add(histogram);
    }

    /// Off-CPU time: blocked and on the run queue, in ns.
    pub const fn off_ns(&self) -> u64 {
        self.blocked_ns + self.runqueue_ns
    }
}

/// A value of the maps of waits, whose key is the [`WaitKey::hash`].
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct WaitSum {
    /// What the intervals have in common.
    pub key: WaitKey,
    /// Their sums.
    pub stats: WaitStats,
}
assert_packed!(WaitSum, size_of::<WaitKey>() + size_of::<WaitStats>());

#[cfg(test)]
mod tests {
    use core::array::from_fn;

    use super::*;

    #[test]
    fn keys_that_differ_in_a_bit_or_two_have_other_hashes() {
        const BITS: usize = 64 * WaitKey::WORDS;
        let with = |bits: [usize; 2]| {
            let mut words = from_fn(|i| i as u64 * 0x0101_0101);
            for bit in bits {
                words[bit / 64] |= 1 << (bit % 64);
            }
            // SAFETY: plain data of the same size.
            unsafe { core::mem::transmute::<[u64; WaitKey::WORDS], WaitKey>(words) }
        };
        for one in 0..BITS {
            let key = with([one, one]);
            assert!(key.is(&key));
            for other in 0..one {
                let both = with([one, other]);
                let are_equal = key.is(&both);
                assert_eq!(are_equal, key == both);
                assert_eq!(are_equal, key.hash() == both.hash(), "{one} {other}");
            }
        }
    }
}
