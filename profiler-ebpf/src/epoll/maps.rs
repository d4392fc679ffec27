//! Maps and constants of `offwake epoll` alone. A recording makes the maps as small as can be.

use aya_ebpf::btf_maps::{HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use offwake_shared::{EpollBytes, EpollCounters, EpollFd, EpollHead, EpollWaiter};

use crate::maps::constants;

/// What happens. User space sets the size of this and of the next ones.
#[btf_map]
pub static EPOLL_EVENTS: RingBuf<EpollHead, 4096> = RingBuf::new();
/// The threads in `epoll_wait`, by tid.
#[btf_map]
pub static EPOLL_WAITERS: HashMap<u32, EpollWaiter, 1> = HashMap::new();
/// How much went through each descriptor since it was opened.
#[btf_map]
pub static EPOLL_BYTES: HashMap<EpollFd, EpollBytes, 1> = HashMap::new();
/// What was sent and what was lost, on each CPU.
#[btf_map]
pub static EPOLL_COUNTERS: PerCpuArray<EpollCounters, 1> = PerCpuArray::new();
/// The softirq that runs on this CPU.
#[btf_map]
pub static EPOLL_SOFTIRQ: PerCpuArray<Softirq, 1> = PerCpuArray::new();

/// See [`EPOLL_SOFTIRQ`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Softirq {
    /// Its number plus 1; 0: none.
    pub number: u32,
    /// The thread that was current as it began.
    pub tid: u32,
}

constants! {
    /// Byte offset in `pt_regs` of the number of the system call, 32 bits.
    EPOLL_CALL: u32 = 0;
    /// Byte offset in `pt_regs` of the first argument of a system call, also when it returns.
    EPOLL_CALL_0: u32 = 0;
    /// See [`EPOLL_CALL_0`].
    EPOLL_CALL_1: u32 = 0;
    /// See [`EPOLL_CALL_0`].
    EPOLL_CALL_2: u32 = 0;
    /// See [`EPOLL_CALL_0`].
    EPOLL_CALL_3: u32 = 0;
    /// Byte offset in `pt_regs` of the third argument of a function.
    EPOLL_ARGUMENT_2: u32 = 0;
}
