//! The ABI between offwake's BPF programs and its user space.
//!
//! Every type here is plain old data: fixed size, no implicit padding, no `bool`, valid for any bit
//! pattern, so that bytes written on one side can be read on the other. The asserts next to each
//! type fail the build of both sides when one of these promises breaks.
//!
//! All times are nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).

#![no_std]

mod epoll;
mod existing;
mod histogram;
mod key;
mod loss;
mod mark;
mod notice;
mod sample;
mod source;
mod stack;
mod state;
mod thread;
mod unwind;

pub use epoll::{
    EPOLL_OUTGOING, EPOLL_PARTS, EPOLL_READY, EPOLL_REUSEPORT, EPOLL_SOCKET, EPOLL_UNCERTAIN,
    EpollBytes, EpollCall, EpollCounters, EpollFd, EpollFile, EpollHead, EpollKind, EpollReady,
    EpollReturn, EpollThread, EpollWaiter, EpollWake,
};
pub use existing::ExistingThread;
pub use histogram::Histogram;
pub use key::{WaitKey, WaitStats, WaitSum, WakerKind};
pub use loss::Loss;
pub use mark::{MARKS_CHUNK, Mark, MarksChunk};
pub use notice::{Notice, NoticeKind, Program};
pub use sample::{Place, Sampling, Variance};
pub use source::{SOURCE_NAME_LEN, Source, SourceDetail, SourceKind};
pub use stack::{MAX_FRAMES, Stack, StackContext, StackRecord};
pub use state::{TASK_WAKING, WaitState};
pub use thread::{TASK_IDLE, TASK_KERNEL_THREAD, TaskId, ThreadState, comm, comm_words};
pub use unwind::{
    CfaKind, MAX_UNWIND_MAPPINGS, MAX_UNWIND_RULES, SavedKind, StackEnd, UNWIND_CHUNK,
    UNWIND_PAGE_BITS, UnwindMapping, UnwindProgram, UnwindRow, UnwindRule, UserRegisters,
};

/// Asserts that a type is as large as its fields together, so that it holds no padding.
macro_rules! assert_packed {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size, "size or padding changed");
        const _: () = assert!(align_of::<$type>() <= 8, "a map aligns values to 8 bytes");
    };
}
pub(crate) use assert_packed;

/// What [`Counters`] index a BPF program adds to, beside the losses.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Intervals that were aggregated.
    pub intervals: u64,
    /// Their off-CPU time, in ns.
    pub off_ns: u64,
    /// Waits that were put into one of the two maps.
    pub new_waits: u64,
    /// Stacks that were as they were when they were unwound.
    pub remembered: u64,
    /// What was lost, by [`Loss`].
    pub losses: [u64; Loss::COUNT],
}
assert_packed!(Counters, 8 * (4 + Loss::COUNT));

/// Values that user space sets before the programs are loaded; the programs see constants.
pub mod filter {
    /// The thread's process is in the map `TARGET_PIDS`.
    pub const PIDS: u32 = 1;
    /// The thread is in the map `TARGET_TIDS`.
    pub const TIDS: u32 = 2;
    /// The thread runs in the cgroup v2 of the map `TARGET_CGROUP`, or below it.
    pub const CGROUP: u32 = 4;
    /// The thread has the name in the global `TARGET_COMM`.
    pub const COMM: u32 = 8;
}
