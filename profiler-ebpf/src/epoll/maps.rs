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
/// The softirq that runs on this CPU, plus 1; 0: none.
#[btf_map]
pub static EPOLL_SOFTIRQ: PerCpuArray<u32, 1> = PerCpuArray::new();

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
    /// Byte offset in `task_struct` of `files`.
    EPOLL_TASK_FILES: u32 = 0;
    /// Byte offset in `files_struct` of `fdt`.
    EPOLL_FILES_FDT: u32 = 0;
    /// Byte offset in `fdtable` of `fd`.
    EPOLL_FDT_FD: u32 = 0;
    /// Byte offset in `fdtable` of `max_fds`.
    EPOLL_FDT_MAX: u32 = 0;
    /// Byte offset in `file` of `private_data`.
    EPOLL_FILE_PRIVATE: u32 = 0;
    /// Byte offset in `file` of `f_inode`.
    EPOLL_FILE_INODE: u32 = 0;
    /// Byte offset in `inode` of `i_mode`.
    EPOLL_INODE_MODE: u32 = 0;
    /// Byte offset in `inode` of `i_ino`.
    EPOLL_INODE_INO: u32 = 0;
    /// Byte offset in `socket` of `sk`.
    EPOLL_SOCKET_SK: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_family`.
    EPOLL_SK_FAMILY: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_state`.
    EPOLL_SK_STATE: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_num`.
    EPOLL_SK_NUM: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_dport`.
    EPOLL_SK_DPORT: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_rcv_saddr`.
    EPOLL_SK_LOCAL: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_daddr`.
    EPOLL_SK_REMOTE: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_v6_rcv_saddr`; 0: the kernel has no IPv6.
    EPOLL_SK_LOCAL_6: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_v6_daddr`.
    EPOLL_SK_REMOTE_6: u32 = 0;
    /// Byte offset in `sock` of `sk_protocol`.
    EPOLL_SK_PROTOCOL: u32 = 0;
    /// Byte offset in `sock` of the byte with `__sk_common.skc_reuseport`.
    EPOLL_SK_REUSEPORT: u32 = 0;
    /// The bit of `skc_reuseport` in its byte.
    EPOLL_SK_REUSEPORT_BIT: u32 = 0;
    /// Byte offset in `inet_connection_sock` of `icsk_bind_hash`; 0: not known.
    EPOLL_SK_BUCKET: u32 = 0;
    /// Byte offset in `inet_bind_bucket` of `fastreuse`.
    EPOLL_BUCKET_REUSE: u32 = 0;
    /// Byte offset in `eventpoll` of `rdllist`.
    EPOLL_EP_READY: u32 = 0;
    /// Byte offset in `eventpoll` of `ovflist`.
    EPOLL_EP_OVERFLOW: u32 = 0;
    /// Byte offset in `epitem` of `rdllink`.
    EPOLL_ITEM_LINK: u32 = 0;
    /// Byte offset in `epitem` of `ffd.fd`.
    EPOLL_ITEM_FD: u32 = 0;
    /// Byte offset in `epitem` of `ffd.file`.
    EPOLL_ITEM_FILE: u32 = 0;
    /// Byte offset in `epitem` of `event.events`.
    EPOLL_ITEM_EVENTS: u32 = 0;
}
