/// Everything that can be missing from a recording, each counted where it happens.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// An interval was not seen: the map of thread states had no room for its thread, or the map of
    /// processes had none for one to follow.
    ThreadsFull,
    /// An interval was dropped: the map of waits was full.
    WaitsFull,
    /// A stack's frames were dropped: the map of stacks was full. Its interval counts.
    StacksFull,
    /// The kernel stack could not be read. Its interval counts, without the stack.
    KernelStackUnreadable,
    /// A kernel stack had more than [`crate::MAX_FRAMES`] frames: the outermost are missing.
    KernelStackTruncated,
    /// A user stack had more than [`crate::MAX_FRAMES`] frames: the outermost are missing.
    UserStackTruncated,
    /// A sleep ended and no wake-up for it was seen.
    UnknownWaker,
    /// The end of an interval was not seen: its thread was switched out twice in a row. The end is
    /// computed from the CPU time that the thread has used since; where the scheduling class does
    /// not tell (real-time), the interval is dropped. Some hardened kernels hide the threads of
    /// their agents from every tracer, and with them each switch and wake-up on their time.
    SwitchInMissed,
    /// User space was not told of a process: the ring buffer was full. It is found at the next drain.
    NoticesFull,
    /// A probe did not run because it was interrupted by itself (`recursion_misses` of the kernel).
    ProbeMisses,
    /// A process was gone before its mappings could be read: its user frames have no names.
    ProcessGone,
    /// The walk of a user stack led astray before it came to where threads and programs start: frame
    /// pointers do in code compiled without them, where there is no call frame information. Its interval counts; the outer frames of the stack
    /// are missing.
    UserStackBroken,
    /// A user stack ended early, at stack memory that could not be read: it is on a disk, or gone.
    UserStackUnreadable,
    /// A user stack ended early, at call frame information that offwake cannot follow.
    UserStackUnsupported,
    /// A user stack was walked by frame pointers only, because the unwind tables of its program were
    /// not ready yet, or there was no room for them.
    UnwindTablesMissing,
    /// What a thread waited for was not kept: the map of sources was full, because they are told apart too
    /// finely. Its interval counts.
    WakeSourcesFull,
    /// A stack that was found to be one of before was another one. A share of all that are found is checked;
    /// of those, the right one counts.
    RememberedStackWrong,
}

impl Loss {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::ThreadsFull,
        Self::WaitsFull,
        Self::StacksFull,
        Self::KernelStackUnreadable,
        Self::KernelStackTruncated,
        Self::UserStackTruncated,
        Self::UnknownWaker,
        Self::SwitchInMissed,
        Self::NoticesFull,
        Self::ProbeMisses,
        Self::ProcessGone,
        Self::UserStackBroken,
        Self::UserStackUnreadable,
        Self::UserStackUnsupported,
        Self::UnwindTablesMissing,
        Self::WakeSourcesFull,
        Self::RememberedStackWrong,
    ];

    /// Whether an interval is missing as a whole. All other causes take a part of one: its waker, or
    /// some of its frames or their names.
    pub const fn takes_interval(self) -> bool {
        matches!(self, Self::ThreadsFull | Self::WaitsFull | Self::ProbeMisses)
    }

    /// The name in every output: lower case, words joined by `_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ThreadsFull => "threads_full",
            Self::WaitsFull => "waits_full",
            Self::StacksFull => "stacks_full",
            Self::KernelStackUnreadable => "kernel_stack_unreadable",
            Self::KernelStackTruncated => "kernel_stack_truncated",
            Self::UserStackTruncated => "user_stack_truncated",
            Self::UnknownWaker => "unknown_waker",
            Self::SwitchInMissed => "switch_in_missed",
            Self::NoticesFull => "notices_full",
            Self::ProbeMisses => "probe_misses",
            Self::ProcessGone => "process_gone",
            Self::UserStackBroken => "user_stack_broken",
            Self::UserStackUnreadable => "user_stack_unreadable",
            Self::UserStackUnsupported => "user_stack_unsupported",
            Self::UnwindTablesMissing => "unwind_tables_missing",
            Self::WakeSourcesFull => "wake_sources_full",
            Self::RememberedStackWrong => "remembered_stack_wrong",
        }
    }
}
