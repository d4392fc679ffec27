//! The maps of what threads waited for, and what of it is wanted.

use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use offwake_shared::Source;

use crate::maps::constants;

/// Distinct sources, by a hash of all that they hold. User space sets the size, and reads it at the end:
/// what does not fit any more has no source.
#[btf_map]
pub static SOURCES: HashMap<u64, Source, 1> = HashMap::new();

/// How many words of a sleeper's kernel stack are looked at.
pub const STACK_WORDS: usize = 512;

/// Memory that does not fit the stack of a program.
#[repr(C)]
pub struct SourceScratch {
    pub source: Source,
    /// The address of the sleeping thread.
    pub task: u64,
    /// What it waited for: a file, and its descriptor; -1: not known.
    pub file: u64,
    pub fd: i32,
    pub _padding: u32,
    /// See [`super::syscall::offwake_registers`].
    pub number: u64,
    /// The outermost part of a sleeper's kernel stack.
    pub stack: [u64; STACK_WORDS],
}
/// That of the programs on wake-ups; see [`crate::maps::SCRATCH`].
#[btf_map]
pub static SOURCE_SCRATCH: PerCpuArray<SourceScratch, 1> = PerCpuArray::new();

/// What the probes on `ep_poll_callback` and `pollwake` saw last on a CPU: the entries in wait queues that
/// they were called with.
#[repr(C)]
pub struct Callbacks {
    pub epoll: u64,
    pub poll: u64,
}
/// See [`Callbacks`].
#[btf_map]
pub static CALLBACKS: PerCpuArray<Callbacks, 1> = PerCpuArray::new();

constants! {
    /// How finely sources are told apart: an [`offwake_shared::SourceDetail`]. 0: not at all.
    WAKE_SOURCE: u32 = 0;
    /// 1: the map [`CALLBACKS`] is written.
    HAS_CALLBACKS: u32 = 0;
}
