//! What to record, and how.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use offwake_shared::{SourceDetail, WaitState};

/// What to record.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which threads.
    pub filter: Filter,
    /// A command to start and to record from its first instruction until it ends; its process is
    /// then the only one in `filter.pids`' place.
    pub command: Option<Vec<OsString>>,
    /// Record the processes that recorded processes fork, too.
    pub follow: bool,
    /// For how long; `None`: until the last target has ended or the recording is stopped.
    pub duration: Option<Duration>,
    /// Ignore intervals whose off-CPU time is shorter.
    pub min_off: Duration,
    /// Ignore intervals whose off-CPU time is longer.
    pub max_off: Option<Duration>,
    /// Which states to record: the [`bits`](offwake_shared::WaitState::bit) of each.
    pub states: u32,
    /// Take user stacks.
    pub user_stacks: bool,
    /// Take kernel stacks.
    pub kernel_stacks: bool,
    /// How to walk user stacks.
    pub unwind: UnwindChoice,
    /// Do not unwind stacks again that are as they were.
    pub remember: bool,
    /// How to stand at a thread switch.
    pub probe: ProbeChoice,
    /// The most that the programs may take of the machine's CPU time, in millionths: intervals are sampled
    /// as far as that needs. `None`: all are recorded.
    pub overhead_ppm: Option<u32>,
    /// How finely to tell apart what ended the waits.
    pub wake_source: SourceDetail,
    /// How much the kernel side can hold.
    pub capacity: Capacity,
}

impl Default for Config {
    /// Everything of every thread, until the recording is stopped.
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            command: None,
            follow: false,
            duration: None,
            min_off: Duration::ZERO,
            max_off: None,
            states: WaitState::ALL.iter().fold(0, |set, state| set | state.bit()),
            user_stacks: true,
            kernel_stacks: true,
            unwind: UnwindChoice::default(),
            remember: true,
            probe: ProbeChoice::default(),
            overhead_ppm: None,
            wake_source: SourceDetail::Off,
            capacity: Capacity::default(),
        }
    }
}

/// The sizes of the BPF maps. The maps of waits and stacks are emptied while recording goes on:
/// these sizes bound memory, not the length of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Threads that exist at the same time, 440 bytes each.
    pub threads: u32,
    /// Distinct waits until the maps are emptied, which begins when they are a quarter to half full; 690
    /// bytes each.
    pub waits: u32,
    /// Distinct stacks until they are sent anew, 80 bytes each.
    pub stacks: u32,
    /// Bytes of new stacks that nobody has read yet: a power of two, and at least a page.
    pub stack_bytes: u32,
    /// Bytes for notices of new programs: a power of two, and at least a page.
    pub notices: u32,
    /// Executable mappings of all programs that are unwound, 40 bytes each.
    pub unwind_mappings: u32,
    /// Pages of 4 KiB of their code, 4 bytes each.
    pub unwind_pages: u32,
    /// Rows of unwind tables, 4 bytes each. Envoy has 1.2 million, the C library 25,000.
    pub unwind_rows: u32,
    /// Distinct sources of wake-ups, 260 bytes each.
    pub sources: u32,
}

impl Capacity {
    /// Enough for the kernel to take the programs, and not to record.
    pub(crate) const LEAST: Self = Self {
        threads: 1,
        waits: 1,
        stacks: 1,
        stack_bytes: 64 << 10,
        notices: 64 << 10,
        unwind_mappings: 1,
        unwind_pages: 1,
        unwind_rows: 1,
        sources: 1,
    };
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            threads: 65536,
            waits: 65536,
            stacks: 256 << 10,
            stack_bytes: 8 << 20,
            notices: 256 << 10,
            unwind_mappings: 128 << 10,
            unwind_pages: 1 << 20,
            unwind_rows: 8 << 20,
            sources: 4096,
        }
    }
}

/// Which threads to record: those that match every part that is given. With no part, every
/// thread of the machine except offwake's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Threads of any of these processes.
    pub pids: Vec<u32>,
    /// Any of these threads.
    pub tids: Vec<u32>,
    /// Threads in this cgroup v2 directory or below it.
    pub cgroup: Option<PathBuf>,
    /// Threads with this name (at most 15 bytes, as the kernel keeps them).
    pub comm: Option<String>,
}

/// How to stand where threads are switched and woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeChoice {
    /// The best that this kernel has.
    #[default]
    Auto,
    /// BTF-enabled tracepoints: the cheapest.
    Btf,
    /// Probes at the beginning of functions of the scheduler: sleepers whose intervals are too short or too long cost no
    /// stack.
    Kprobe,
    /// Classic tracepoints: they need no BTF.
    Tracepoint,
}

/// How to find the callers in a user stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnwindChoice {
    /// By call frame information where this kernel can (5.17+), else by frame pointers.
    #[default]
    Auto,
    /// By call frame information, and by frame pointers in code that has none.
    Cfi,
    /// By frame pointers.
    Fp,
}
