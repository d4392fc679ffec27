//! Every map and every constant that user space sets before loading.

use core::ffi::c_void;

use aya_ebpf::btf_maps::{Array, CgroupArray, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use offwake_shared::{
    Counters, ExistingThread, MarksChunk, Notice, Program, Stack, ThreadState, UNWIND_CHUNK,
    UnwindMapping, UnwindProgram, UnwindRow, UnwindRule, WaitSum,
};

use crate::remember::kernel::KernelMemory;
use crate::remember::user::UserMemory;
use crate::remember::{Recall, SLOTS};
use crate::unwind::Walk;

/// The open interval of each thread, by tid. User space sets the size of this and of the next ones.
#[btf_map]
pub static THREADS: HashMap<u32, ThreadState, 65536> = HashMap::new();

/// The marks of each tid, in chunks. User space sets how many, and writes to them, too.
#[btf_map]
pub static MARKS: Array<MarksChunk, 1, MMAPABLE> = Array::new();
/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h).
const MMAPABLE: usize = 1 << 10;

/// Finished intervals. Two maps, of which `CONTROL[0]` names the one in use: user space switches
/// over and drains the other, so that it reads no sum that is still being added to. The key is a
/// [`WaitKey::hash`](offwake_shared::WaitKey::hash).
#[btf_map]
pub static WAITS_0: HashMap<u64, WaitSum, 32768> = HashMap::new();
/// See [`WAITS_0`].
#[btf_map]
pub static WAITS_1: HashMap<u64, WaitSum, 32768> = HashMap::new();
/// 0 or 1: which of the two maps of waits is in use.
#[btf_map]
pub static CONTROL: Array<u32, 1> = Array::new();

/// How many intervals of a thread in one place are recorded in a window, with `SAMPLE`; see
/// [`offwake_shared::Sampling`].
#[btf_map]
pub static QUOTA: Array<u64, 1> = Array::new();

/// Stacks that user space does not know: each a [`StackRecord`](offwake_shared::StackRecord).
#[btf_map]
pub static STACKS: RingBuf<u64, 8388608> = RingBuf::new();
/// The ids of stacks that were sent. User space keeps what it was sent: an entry may be deleted at any
/// time, and then the stack is sent again when it is seen again.
#[btf_map]
pub static KNOWN_STACKS: HashMap<u64, u64, 131072> = HashMap::new();
/// How often a stack could not be sent.
#[btf_map]
pub static REFUSED: Array<u32, 1> = Array::new();
/// A map, as helpers want it.
#[inline(always)]
pub const fn pointer<T>(map: &'static T) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
/// Wakes the thread that drains: something fills. Nothing but its being there matters.
#[btf_map]
pub static FILLING: RingBuf<u64, 65536> = RingBuf::new();

/// Programs that user space was told of, and where their stack began then.
#[btf_map]
pub static SEEN: HashMap<Program, u64, 16384> = HashMap::new();
/// Tells user space of a program's first stack.
#[btf_map]
pub static NOTICES: RingBuf<Notice, 262144> = RingBuf::new();

/// Processes to record, with `FILTER & PIDS`.
#[btf_map]
pub static TARGET_PIDS: HashMap<u32, u32, 16384> = HashMap::new();
/// Threads to record, with `FILTER & TIDS`.
#[btf_map]
pub static TARGET_TIDS: HashMap<u32, u32, 16384> = HashMap::new();
/// The cgroup to record, with `FILTER & CGROUP`.
#[btf_map]
pub static TARGET_CGROUP: CgroupArray<1> = CgroupArray::new();

/// Which program a process runs, where the kernel's types are not known; see
/// [`offwake_shared::TaskId::exec_id`].
#[btf_map]
pub static EXEC_IDS: HashMap<u32, u32, 16384> = HashMap::new();

/// What was done and what was lost, on each CPU.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// What is known of the programs whose stacks are unwound; see [`offwake_shared::UnwindProgram`].
/// User space sets the size of the arrays behind it.
#[btf_map]
pub static UNWIND_PROGRAMS: HashMap<Program, UnwindProgram, 16384> = HashMap::new();
/// How often user space has replaced or removed tables of a program: what was remembered of its stacks came from others.
#[btf_map]
pub static UNWIND_CHANGES: Array<u32, 1> = Array::new();
/// The executable mappings of programs.
#[btf_map]
pub static UNWIND_MAPPINGS: Array<UnwindMapping, 1> = Array::new();
/// The first row of each page.
#[btf_map]
pub static UNWIND_PAGES: Array<[u32; UNWIND_CHUNK], 1> = Array::new();
/// The rows of pages.
#[btf_map]
pub static UNWIND_ROWS: Array<[UnwindRow; UNWIND_CHUNK], 1> = Array::new();
/// The rules that rows name. The first is that of code without call frame information.
#[btf_map]
pub static UNWIND_RULES: Array<UnwindRule, 1> = Array::new();

/// Memory that does not fit the 512 bytes of a BPF program's own stack.
///
/// Functions pass it on as a pointer, not as a reference: those that find it by its index use the stack
/// in it, while their callers do not.
#[repr(C)]
pub struct Scratch {
    /// [`SWITCH`] or [`WAKE`]: where this is.
    pub index: u32,
    /// Before the stack, so that both are one [`offwake_shared::StackRecord`].
    pub stack_id: u64,
    pub stack: Stack,
    pub thread: ThreadState,
    /// What a new entry of the maps of waits begins with. Its sums stay zero, as the kernel made them.
    pub wait: WaitSum,
    pub walk: Walk,
}
/// One for the switch of threads, one for wake-ups: an interrupt's wake-up may come while a
/// wake-up without interrupts disabled (of the current thread, by itself) is recorded, but then
/// the kernel does not run the same program twice.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();
/// The index in [`SCRATCH`] of the programs on thread switches.
pub const SWITCH: u32 = 0;
/// The index in [`SCRATCH`] of the programs on wake-ups.
pub const WAKE: u32 = 1;

/// The memory of this CPU with this index.
#[inline(always)]
pub fn scratch(index: u32) -> Option<*mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(index)?;
    // SAFETY: nothing else uses this CPU's value now: thread switches do not nest, and see `SCRATCH`.
    unsafe { (*scratch).index = index };
    Some(scratch)
}

/// As many as [`SCRATCH`] has.
#[btf_map]
pub static RECALL: PerCpuArray<Recall, 2> = PerCpuArray::new();
/// Kernel stacks that were unwound on this CPU.
#[btf_map]
pub static REMEMBERED_KERNEL: PerCpuArray<KernelMemory, SLOTS> = PerCpuArray::new();
/// User stacks that were walked on this CPU.
#[btf_map]
pub static REMEMBERED_USER: PerCpuArray<UserMemory, SLOTS> = PerCpuArray::new();

/// What the iterator over tasks is about to write. Only one runs at a time.
#[btf_map]
pub static EXISTING: PerCpuArray<ExistingThread, 1> = PerCpuArray::new();

/// A constant of the recording.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: aya_ebpf::Global<$type> = aya_ebpf::Global::new($default);
    )*};
}
pub(crate) use constants;

constants! {
    /// Which tests a thread must pass, bits of [`offwake_shared::filter`]. 0: all are recorded.
    FILTER: u32 = 0;
    /// The name, padded with 0, as two little-endian words, with `FILTER & COMM`.
    TARGET_COMM_LOW: u64 = 0;
    /// See [`TARGET_COMM_LOW`].
    TARGET_COMM_HIGH: u64 = 0;
    /// Which bits of the words count: those of the name and of the 0 behind it.
    TARGET_COMM_MASK_LOW: u64 = 0;
    /// See [`TARGET_COMM_MASK_LOW`].
    TARGET_COMM_MASK_HIGH: u64 = 0;
    /// The only process to record, with `FILTER & PIDS`; 0: there may be several.
    ONLY_TGID: u32 = 0;
    /// Never recorded: offwake itself.
    OWN_TGID: u32 = 0;
    /// Inode number of offwake's pid namespace; 0 for the initial one.
    OWN_NAMESPACE: u32 = 0;
    /// 1: a process that a recorded process forks is recorded.
    FOLLOW: u32 = 0;
    /// The states to record, bits of [`offwake_shared::WaitState::bit`].
    STATES: u32 = u32::MAX;
    /// A stack of so many frames may have more: the lesser of [`offwake_shared::MAX_FRAMES`] and the
    /// kernel's own limit.
    FRAMES_LIMIT: u32 = 0;
    /// 1: take user stacks.
    USER_STACKS: u32 = 1;
    /// 1: walk user stacks by call frame information, which needs `bpf_loop` (5.17). 0: by frame pointers.
    UNWIND: u32 = 0;
    /// 1: take kernel stacks.
    KERNEL_STACKS: u32 = 1;
    /// 1: stacks that are as they were are not unwound again.
    REMEMBER: u32 = 0;
    /// Byte offset from the beginning of a kernel stack of its outermost end: where the registers of the
    /// program are. 0: kernel stacks are not remembered.
    KERNEL_STACK_TOP: u32 = 0;
    /// Where all code of the kernel is, also that of modules and BPF programs; other words there only cost.
    KERNEL_TEXT_START: u64 = 0;
    /// Bytes of it.
    KERNEL_TEXT_LEN: u64 = 0;
    /// Each CPU has user space look at the map of waits in use whenever the number of waits that it has put
    /// there has none of these bits.
    WAITS_MASK: u64 = u64::MAX;
    /// A ring of stacks with so many bytes is half full.
    STACKS_HALF: u64 = u64::MAX;
    /// 1: not each interval is recorded.
    SAMPLE: u32 = 0;
    /// Intervals that are shorter, in ns, are ignored.
    MIN_OFF_NS: u64 = 0;
    /// Intervals that are longer, in ns, are ignored.
    MAX_OFF_NS: u64 = u64::MAX;

    /// Where interrupts enter the kernel: first address of each range; see [`INTERRUPT_LEN_0`].
    INTERRUPT_START_0: u64 = 0;
    /// Bytes of the range, 0 where there is none.
    INTERRUPT_LEN_0: u64 = 0;
    /// See [`INTERRUPT_START_0`].
    INTERRUPT_START_1: u64 = 0;
    /// See [`INTERRUPT_LEN_0`].
    INTERRUPT_LEN_1: u64 = 0;
    /// See [`INTERRUPT_START_0`].
    INTERRUPT_START_2: u64 = 0;
    /// See [`INTERRUPT_LEN_0`].
    INTERRUPT_LEN_2: u64 = 0;

    /// 1: the offsets in structures of the kernel are known. 0: none of them is, nor is it used.
    HAS_TYPES: u32 = 0;
    /// 1: pointers to tasks are such that the verifier knows what they point to, and the kernel has
    /// `bpf_get_current_task_btf` (5.11).
    READ_DIRECT: u32 = 0;

    /// Byte offset in the record of `sched:sched_switch` of `prev_state`.
    SWITCH_PREV_STATE: u32 = 0;
    /// Byte offset in the record of `sched:sched_switch` of `next_pid`.
    SWITCH_NEXT_PID: u32 = 0;
    /// Byte offset in the record of `sched:sched_waking` of `pid`.
    WAKING_PID: u32 = 0;
    /// Byte offset in the record of `task:task_newtask` of `pid`.
    NEW_PID: u32 = 0;
    /// Byte offset in the record of `task:task_newtask` of `clone_flags`.
    NEW_FLAGS: u32 = 0;

    /// Byte offset in `task_struct` of `pid`.
    TASK_PID: u32 = 0;
    /// Byte offset in `task_struct` of `tgid`.
    TASK_TGID: u32 = 0;
    /// Byte offset in `task_struct` of `flags`.
    TASK_FLAGS: u32 = 0;
    /// Byte offset in `task_struct` of `self_exec_id`.
    TASK_EXEC_ID: u32 = 0;
    /// Byte offset in `task_struct` of `start_boottime`.
    TASK_START_TIME: u32 = 0;
    /// Byte offset in `task_struct` of `__state` (`state` before 5.14).
    TASK_STATE: u32 = 0;
    /// Byte offset in `task_struct` of `comm`.
    TASK_COMM: u32 = 0;
    /// Byte offset in `task_struct` of `se.sum_exec_runtime`.
    TASK_RUNTIME: u32 = 0;
    /// Byte offset in `task_struct` of `se.prev_sum_exec_runtime`.
    TASK_RUNTIME_BEFORE: u32 = 0;
    /// Byte offset in `task_struct` of `on_cpu`.
    TASK_ON_CPU: u32 = 0;
    /// Byte offset in `task_struct` of `on_rq`.
    TASK_ON_RQ: u32 = 0;
    /// Byte offset in `task_struct` of `se.sched_delayed` (6.12+); 0 where there is none.
    TASK_DELAYED: u32 = 0;
    /// Byte offset in `task_struct` of `stack`.
    TASK_STACK: u32 = 0;
    /// Byte offset from the beginning of a kernel stack of the registers that a thread had as it entered
    /// the kernel; 0: `bpf_task_pt_regs` is there (5.15).
    REGS_FROM_STACK: u32 = 0;
    /// Byte offset in `pt_regs` of the first argument of a function.
    REGS_ARGUMENT_0: u32 = 0;
    /// See [`REGS_ARGUMENT_0`].
    REGS_ARGUMENT_1: u32 = 0;
    /// Byte offset in `task_struct` of `mm`.
    TASK_MM: u32 = 0;
    /// Byte offset in `mm_struct` of `start_stack`.
    MM_START_STACK: u32 = 0;
    /// Byte offset in `task_struct` of `group_leader`.
    TASK_GROUP_LEADER: u32 = 0;
    /// Byte offset in `task_struct` of `thread_pid`.
    TASK_THREAD_PID: u32 = 0;
    /// Byte offset in `pid` of `level`.
    PID_LEVEL: u32 = 0;
    /// Byte offset in `pid` of `numbers`.
    PID_NUMBERS: u32 = 0;
    /// Byte offset in `pid_namespace` of `ns.inum`.
    NAMESPACE_INUM: u32 = 0;
    /// 1: `sched_switch` passes the state of the thread that is switched out (5.18+).
    HAS_PREV_STATE: u32 = 0;
}
