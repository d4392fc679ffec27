//! Taking stacks: the one place where it happens.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_probe_read_user};
use offwake_shared::{
    Loss, MAX_FRAMES, NoticeKind, Program, Stack, StackContext, StackEnd, TASK_KERNEL_THREAD,
    TaskId, UnwindProgram, UserRegisters, WakerKind,
};

use crate::context::Context;
use crate::known::Told;
use crate::maps::{
    FRAMES_LIMIT, HAS_TYPES, INTERRUPT_LEN_0, INTERRUPT_LEN_1, INTERRUPT_LEN_2, INTERRUPT_START_0,
    INTERRUPT_START_1, INTERRUPT_START_2, KERNEL_STACKS, SCRATCH, Scratch, UNWIND, UNWIND_PROGRAMS,
    USER_STACKS,
};
use crate::notice::{announce, notify};
use crate::task::{Task, offwake_start_stack};
use crate::unwind::{self, Walk};
use crate::{arch, count, known, remember, source};

/// Takes the kernel stack of the current thread and returns its id, 0 where there is none. `registers`: those in
/// its program.
#[inline(always)]
pub fn kernel(
    ctx: &impl Context,
    scratch: *mut Scratch,
    current: Task,
    registers: &UserRegisters,
) -> u64 {
    if KERNEL_STACKS.load() == 0 {
        return 0;
    }
    // SAFETY: see `Scratch`.
    let index = unsafe { (*scratch).index };
    let remembered = remember::kernel::recall(ctx, scratch, current, registers);
    if remembered != 0 && remember::is_good(index) {
        return remembered;
    }
    // SAFETY: see `Scratch`.
    if !take_kernel(ctx, unsafe { &mut (*scratch).stack }) {
        return 0;
    }
    store_kernel(scratch, remembered, false, 0)
}

/// What the kernel stack of whoever wakes a thread tells.
pub struct Waker {
    /// Its id; 0: there is none.
    pub stack: u64,
    /// Whether a thread runs on its own behalf or an interrupt. Without a stack nobody can tell.
    pub kind: WakerKind,
    /// A [`Reason`](crate::source::reason::Reason).
    pub reason: u32,
}

/// Finds out about whoever runs now, and wakes a thread. `registers`: those in the program of the current thread.
#[inline(always)]
pub fn waker(
    ctx: &impl Context,
    scratch: *mut Scratch,
    current: Task,
    registers: &UserRegisters,
) -> Waker {
    // SAFETY: see `Scratch`.
    let index = unsafe { (*scratch).index };
    let is_wanted = KERNEL_STACKS.load() != 0;
    let remembered =
        if is_wanted { remember::kernel::recall(ctx, scratch, current, registers) } else { 0 };
    if remembered != 0 && remember::is_good(index) {
        let (is_interrupt, reason) = remember::kernel::found(index);
        return Waker { stack: remembered, kind: kind(is_interrupt), reason };
    }
    let kind = take_waker(ctx, scratch);
    if kind as u32 == WakerKind::None as u32 {
        return Waker { stack: 0, kind, reason: 0 };
    }
    // Kernels before 6.8 verify what is called even where it is dead code.
    let reason = if cfg!(wake_source) { source::reason::offwake_wake_reason(index) } else { 0 };
    if !is_wanted {
        return Waker { stack: 0, kind, reason };
    }
    let is_interrupt = kind as u32 == WakerKind::Interrupt as u32;
    let stack = store_kernel(scratch, remembered, is_interrupt, reason);
    Waker { stack, kind, reason }
}

/// Takes the kernel stack of whoever runs now, and tells who that is. The stack of an interrupt ends with its entry,
/// and says nothing of whoever was interrupted.
#[inline(always)]
pub fn take_waker(ctx: &impl Context, scratch: *mut Scratch) -> WakerKind {
    // SAFETY: see `Scratch`.
    if !take_kernel(ctx, unsafe { &mut (*scratch).stack }) {
        return WakerKind::None;
    }
    // SAFETY: as above.
    kind(offwake_cut_at_interrupt(unsafe { (*scratch).index }) != 0)
}

#[inline(always)]
const fn kind(is_interrupt: bool) -> WakerKind {
    if is_interrupt { WakerKind::Interrupt } else { WakerKind::Task }
}

/// Sends the kernel stack that was taken to user space, and remembers it. Returns its id. `remembered`: what was found in
/// its place; the rest as for [`remember::kernel::learn`].
#[inline(always)]
fn store_kernel(scratch: *mut Scratch, remembered: u64, is_interrupt: bool, reason: u32) -> u64 {
    // SAFETY: see `Scratch`.
    let id = offwake_hash(unsafe { (*scratch).index });
    let is_told = known::tell(scratch, id) != Told::Not;
    if !remember::is_right(remembered, id) {
        remember::kernel::learn(scratch, if is_told { id } else { 0 }, is_interrupt, reason);
    }
    id
}

/// Takes the user stack of the current thread, and returns its id, 0 where there is none. `registers`: those in
/// its program.
#[inline(always)]
pub fn user(
    ctx: &impl Context,
    scratch: *mut Scratch,
    id: &TaskId,
    registers: &UserRegisters,
) -> u64 {
    if USER_STACKS.load() == 0 || id.flags & TASK_KERNEL_THREAD != 0 {
        return 0;
    }
    let program = Program { tgid: id.tgid, exec_id: id.exec_id };
    // SAFETY: see `Scratch`.
    let (index, stack, walk) =
        unsafe { ((*scratch).index, &mut (*scratch).stack, &mut (*scratch).walk) };
    let mut remembered = 0;
    if HAS_TYPES.load() == 0 {
        if !take_user(ctx, stack) {
            return 0;
        }
    } else {
        // A thread that is exiting has given up its memory: it has no user stack any more.
        if offwake_start_stack() == 0 {
            return 0;
        }
        // A worker of the kernel that shares the memory of a process.
        if registers.ip == 0 {
            return 0;
        }
        if cfg!(no_loop) {
            offwake_walk_frame_pointers(index, registers.ip, registers.fp);
        } else {
            remembered = remember::user::recall(index, id.tid, program, registers);
            if remembered != 0 && remember::is_good(index) {
                return remembered;
            }
            let can_learn = find_tables(walk, program);
            unwind(stack, walk, registers, program);
            if !can_learn {
                remembered = 0;
                walk.used.uncertain();
            }
        }
    }
    // SAFETY: see `Scratch`.
    unsafe {
        let stack = &raw mut (*scratch).stack;
        (*stack).tgid = id.tgid;
        (*stack).exec_id = id.exec_id;
        (*stack).context = StackContext::User as u32;
        let stack_id = offwake_hash(index);
        // Where there is no room for a notice, the next stack like this one is as new as this.
        let mut told = known::tell(scratch, stack_id);
        if told == Told::Now && !announce(program) {
            known::forget(stack_id);
            told = Told::Not;
        }
        if HAS_TYPES.load() != 0 && !remember::is_right(remembered, stack_id) {
            remember::user::learn(scratch, if told == Told::Not { 0 } else { stack_id });
        }
        stack_id
    }
}

/// Finds the tables of a program, by which its stacks are walked. Where they are missing, tells user space. Whether a
/// stack may be remembered that is walked by what was found.
#[inline(always)]
fn find_tables(walk: &mut Walk, program: Program) -> bool {
    walk.program = UnwindProgram::default();
    if UNWIND.load() != 0 {
        if let Some(known) = UNWIND_PROGRAMS.get_ptr_mut(program) {
            // SAFETY: the value is in the map. User space replaces it as a whole; what is written here
            // is a hint, which may be lost.
            unsafe {
                walk.program = *known;
                // Not each time: all CPUs share the value.
                if walk.program.used == 0 {
                    (*known).used = 1;
                }
            }
        } else {
            announce(program);
        }
        if walk.program.generation == 0 {
            count::lost(Loss::UnwindTablesMissing);
            return false;
        }
    }
    true
}

/// Walks the stack by the tables of its program. Where they are out of date, tells user space.
#[inline(always)]
fn unwind(stack: &mut Stack, walk: &mut Walk, registers: &UserRegisters, program: Program) {
    // One call: the verifier follows all of it for each.
    unwind::walk(walk, stack, registers);
    if walk.program.generation != 0 && stack.end != StackEnd::Complete as u16 {
        // So that user space hears of it the next time, too.
        walk.used.uncertain();
        tell_unmapped(stack, walk, program);
    }
}

/// Tells user space that a walk ended where it should not: there may be code that is not known.
#[inline(always)]
fn tell_unmapped(stack: &Stack, walk: &Walk, program: Program) {
    let end = stack.end;
    if end == StackEnd::Truncated as u16 {
        return;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    if now < walk.program.quiet_until
        || !notify(program, offwake_start_stack(), NoticeKind::Unmapped)
    {
        return;
    }
    if let Some(known) = UNWIND_PROGRAMS.get_ptr_mut(program) {
        // SAFETY: as in `unwind`.
        unsafe { (*known).quiet_until = u64::MAX };
    }
}

#[inline(always)]
fn take_kernel<C: Context>(ctx: &C, stack: &mut Stack) -> bool {
    let (entry, skipped) = if C::IS_AT_ENTRY {
        (arch::entry(ctx.as_ptr() as u64), 0)
    } else {
        (None, arch::FOUND_TWICE)
    };
    // Of the two of an entry the kernel finds the first only.
    let room = &mut stack.frames[usize::from(entry.is_some())..];
    let (frames, size) = (room.as_mut_ptr().cast::<c_void>(), size_of_val(room) as u32);
    // SAFETY: the buffer has the size that is passed.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames, size, skipped) };
    if bytes < 8 {
        count::lost(Loss::KernelStackUnreadable);
        return false;
    }
    let mut len = (bytes >> 3) as u32;
    if let Some([function, caller]) = entry {
        stack.frames[0] = function;
        stack.frames[1] = caller;
        len += 1;
    }
    if len + skipped as u32 >= FRAMES_LIMIT.load() {
        count::lost(Loss::KernelStackTruncated);
    }
    stack.len = len as u16;
    stack.end = StackEnd::Complete as u16;
    stack.tgid = 0;
    stack.exec_id = 0;
    stack.context = StackContext::Kernel as u32;
    true
}

/// Takes the user stack of the current thread as the kernel walks it, by frame pointers: where nobody
/// knows what is where in `task_struct`, and thus what registers a thread has. The kernel does not tell
/// how the walk ended.
#[inline(always)]
fn take_user(ctx: &impl Context, stack: &mut Stack) -> bool {
    const BPF_F_USER_STACK: u64 = 1 << 8;
    let frames = stack.frames.as_mut_ptr().cast::<c_void>();
    let size = (8 * MAX_FRAMES) as u32;
    // SAFETY: the buffer has the size that is passed.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames, size, BPF_F_USER_STACK) };
    // A kernel thread, or one that is exiting.
    if bytes < 8 {
        return false;
    }
    let len = (bytes >> 3) as u32;
    let is_cut = len >= FRAMES_LIMIT.load();
    stack.len = len as u16;
    stack.end = if is_cut { StackEnd::Truncated } else { StackEnd::Complete } as u16;
    true
}

// The functions that look at one frame after the other are global: the verifier looks at such a function
// once, by itself (5.6+). Inlined, it would follow all that comes after a loop once for each number of
// frames. They take numbers only, and find their stack by the index of its scratch memory.

/// Follows the chain of frame pointers where there is no `bpf_loop`, as `perf_callchain_user` does
/// (arch/x86/events/core.c), at a fraction of the cost of `bpf_get_stack`. Unlike that, it knows how
/// the chain ends: at its outermost frame, which `_start` and `clone` mark with 0, or because it led
/// astray.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_walk_frame_pointers(scratch: u32, ip: u64, mut fp: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(scratch) else { return 0 };
    // SAFETY: the caller does not use the stack meanwhile.
    let stack = unsafe { &mut (*scratch).stack };
    stack.frames[0] = ip;
    stack.len = 1;
    stack.end = StackEnd::Truncated as u16;
    for i in 1..MAX_FRAMES {
        // The caller's frame pointer, and the return address.
        let mut frame = [0u64; 2];
        // SAFETY: the helper checks the address, and writes as many bytes as the value has.
        let error = unsafe {
            bpf_probe_read_user((&raw mut frame).cast::<c_void>(), 16, fp as *const c_void)
        };
        if error != 0 {
            stack.end = end(fp == 0);
            break;
        }
        let [next, return_address] = [frame[0], arch::code_address(frame[1])];
        if return_address == 0 {
            stack.end = end(next == 0);
            break;
        }
        stack.frames[i] = return_address;
        stack.len = i as u16 + 1;
        // A caller's frame lies above: anything else is no chain, and may be a circle.
        if next <= fp {
            stack.end = end(next == 0);
            break;
        }
        fp = next;
    }
    0
}

#[inline(always)]
const fn end(is_outermost: bool) -> u16 {
    if is_outermost { StackEnd::Complete as u16 } else { StackEnd::Astray as u16 }
}

/// Ends a kernel stack with the innermost entry of an interrupt. Returns 1 if there is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_cut_at_interrupt(scratch: u32) -> u32 {
    let in_range = |address: u64, start: u64, len: u64| address.wrapping_sub(start) < len;
    let Some(scratch) = SCRATCH.get_ptr_mut(scratch) else { return 0 };
    // SAFETY: the caller does not use the stack meanwhile.
    let stack = unsafe { &mut (*scratch).stack };
    let len = usize::from(stack.len);
    for i in 0..MAX_FRAMES {
        if i >= len {
            break;
        }
        let address = stack.frames[i];
        if in_range(address, INTERRUPT_START_0.load(), INTERRUPT_LEN_0.load())
            || in_range(address, INTERRUPT_START_1.load(), INTERRUPT_LEN_1.load())
            || in_range(address, INTERRUPT_START_2.load(), INTERRUPT_LEN_2.load())
        {
            stack.len = i as u16 + 1;
            stack.context = StackContext::Interrupt as u32;
            return 1;
        }
    }
    0
}

/// A 64-bit hash of all that a stack holds; never 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_hash(scratch: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(scratch) else { return 1 };
    // SAFETY: the caller does not use the stack meanwhile.
    let stack = unsafe { &(*scratch).stack };
    let end = u64::from(stack.end) << 16 | u64::from(stack.len);
    let hash = mix(u64::from(stack.tgid) << 32 | u64::from(stack.exec_id), 1);
    let mut hash = mix(hash, u64::from(stack.context) << 32 | end);
    let len = usize::from(stack.len);
    for i in 0..MAX_FRAMES {
        if i >= len {
            break;
        }
        hash = mix(hash, stack.frames[i]);
    }
    if hash == 0 { 1 } else { hash }
}

/// Folds a word into a hash: multiplication carries low bits up, the shift brings them back down.
#[inline(always)]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}
