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

impl WaitKey {
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
