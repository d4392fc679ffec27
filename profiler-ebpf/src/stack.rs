//! Taking stacks: the one place where it happens.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_loop, bpf_probe_read_user};
use offwake_shared::{
    Loss, MAX_FRAMES, Notice, NoticeKind, Program, Stack, StackContext, StackEnd,
    TASK_KERNEL_THREAD, TaskId, UnwindProgram, UserRegisters, WakerKind,
};

use crate::maps::{
    FRAMES_LIMIT, HAS_LOOP, INTERRUPT_LEN_0, INTERRUPT_LEN_1, INTERRUPT_LEN_2, INTERRUPT_START_0,
    INTERRUPT_START_1, INTERRUPT_START_2, KERNEL_STACKS, NOTICES, SEEN, STACKS, UNWIND,
    UNWIND_PROGRAMS, USER_STACKS,
};
use crate::task::Task;
use crate::unwind::{self, Walk};
use crate::{arch, count};

/// Takes the kernel stack of the current thread and returns its id, 0 where there is none.
#[inline(always)]
pub fn kernel(ctx: &impl EbpfContext, stack: &mut Stack) -> u64 {
    if KERNEL_STACKS.load() == 0 || !take_kernel(ctx, stack) {
        return 0;
    }
    store_kernel(stack)
}

/// Takes the kernel stack of whoever runs now, and returns its id, 0 where there is none, and
/// whether a thread runs on its own behalf or an interrupt. The stack of an interrupt ends with its
/// entry, and says nothing of whoever was interrupted. Without a stack nobody can tell.
#[inline(always)]
pub fn kernel_or_interrupt(ctx: &impl EbpfContext, stack: &mut Stack) -> (u64, WakerKind) {
    if !take_kernel(ctx, stack) {
        return (0, WakerKind::None);
    }
    let kind = if cut_at_interrupt(stack) { WakerKind::Interrupt } else { WakerKind::Task };
    let id = if KERNEL_STACKS.load() == 0 { 0 } else { store_kernel(stack) };
    (id, kind)
}

#[inline(always)]
fn store_kernel(stack: &mut Stack) -> u64 {
    let id = hash(stack);
    store(id, stack);
    id
}

/// Takes the user stack of the current thread, and returns its id, 0 where there is none.
#[inline(always)]
pub fn user(stack: &mut Stack, walk: &mut Walk, current: Task, id: &TaskId) -> u64 {
    if USER_STACKS.load() == 0 || id.flags & TASK_KERNEL_THREAD != 0 {
        return 0;
    }
    // A thread that is exiting has given up its memory: it has no user stack any more.
    if current.start_stack() == 0 {
        return 0;
    }
    let registers = current.user_registers();
    // A worker of the kernel that shares the memory of a process.
    if registers.ip == 0 {
        return 0;
    }
    let program = Program { tgid: id.tgid, exec_id: id.exec_id };
    if HAS_LOOP.load() != 0 {
        unwind(stack, walk, &registers, program, current);
    } else {
        walk_frame_pointers(stack, registers.ip, registers.fp);
    }
    stack.tgid = id.tgid;
    stack.exec_id = id.exec_id;
    stack.context = StackContext::User as u32;
    let stack_id = hash(stack);
    if store(stack_id, stack) {
        announce(program, current);
    }
    stack_id
}

/// Walks the stack by the tables of its program. Where they are missing or out of date, tells user
/// space.
#[inline(always)]
fn unwind(
    stack: &mut Stack,
    walk: &mut Walk,
    registers: &UserRegisters,
    program: Program,
    current: Task,
) {
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
            announce(program, current);
        }
        if walk.program.generation == 0 {
            count::lost(Loss::UnwindTablesMissing);
        }
    }
    // One call: the verifier follows all of it for each.
    unwind::walk(walk, stack, registers);
    if walk.program.generation != 0 && stack.end != StackEnd::Complete as u16 {
        tell_unmapped(stack, walk, program, current);
    }
}

/// Tells user space that a walk ended where it should not: there may be code that is not known.
#[inline(always)]
fn tell_unmapped(stack: &Stack, walk: &Walk, program: Program, current: Task) {
    let end = stack.end;
    if end == StackEnd::Truncated as u16 {
        return;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    if now < walk.program.quiet_until
        || !notify(program, current.start_stack(), NoticeKind::Unmapped)
    {
        return;
    }
    if let Some(known) = UNWIND_PROGRAMS.get_ptr_mut(program) {
        // SAFETY: as in `unwind`.
        unsafe { (*known).quiet_until = u64::MAX };
    }
}

#[inline(always)]
fn take_kernel(ctx: &impl EbpfContext, stack: &mut Stack) -> bool {
    let frames = stack.frames.as_mut_ptr().cast::<c_void>();
    // SAFETY: the buffer has the size that is passed.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames, (8 * MAX_FRAMES) as u32, 0) };
    if bytes < 8 {
        count::lost(Loss::KernelStackUnreadable);
        return false;
    }
    let len = (bytes >> 3) as u32;
    if len >= FRAMES_LIMIT.load() {
        count::lost(Loss::KernelStackTruncated);
    }
    stack.len = len as u16;
    stack.end = StackEnd::Complete as u16;
    stack.tgid = 0;
    stack.exec_id = 0;
    stack.context = StackContext::Kernel as u32;
    true
}

/// Follows the chain of frame pointers where there is no `bpf_loop`, as `perf_callchain_user` does, at a fraction of the cost of `bpf_get_stack`. Unlike that, it knows how
/// the chain ends: at its outermost frame, which `_start` and `clone` mark with 0, or because it led
/// astray.
#[inline(always)]
fn walk_frame_pointers(stack: &mut Stack, ip: u64, mut fp: u64) {
    stack.frames[0] = ip;
    stack.len = 1;
    for i in 1..MAX_FRAMES {
        // The caller's frame pointer, and the return address.
        let mut frame = [0u64; 2];
        // SAFETY: the helper checks the address, and writes as many bytes as the value has.
        let error = unsafe {
            bpf_probe_read_user((&raw mut frame).cast::<c_void>(), 16, fp as *const c_void)
        };
        if error != 0 {
            stack.end = end(fp == 0);
            return;
        }
        let [next, return_address] = [frame[0], arch::code_address(frame[1])];
        if return_address == 0 {
            stack.end = end(next == 0);
            return;
        }
        stack.frames[i] = return_address;
        stack.len = i as u16 + 1;
        // A caller's frame lies above: anything else is no chain, and may be a circle.
        if next <= fp {
            stack.end = end(next == 0);
            return;
        }
        fp = next;
    }
    stack.end = StackEnd::Truncated as u16;
}

#[inline(always)]
const fn end(is_outermost: bool) -> u16 {
    if is_outermost { StackEnd::Complete as u16 } else { StackEnd::Astray as u16 }
}

/// The frames of a stack that are looked at one by one.
struct Frames {
    stack: *mut Stack,
    hash: u64,
}

/// Calls a function with each frame, from the innermost on, until it returns other than 0.
///
/// With `bpf_loop` where that is there: the verifier follows a loop of its own kind once for each number
/// of frames, and all that comes after it as often. Up to 6.1 that is more than it takes.
#[inline(always)]
fn for_each(frames: &mut Frames, function: unsafe extern "C" fn(u32, *mut c_void) -> i64) {
    // SAFETY: the stack is a valid value. Its length is read from memory, where the verifier forgets
    // what it knows: it would otherwise follow the loop for each length that it has seen assigned.
    let len = u32::from(unsafe { (&raw const (*frames.stack).len).read_volatile() });
    let context = (&raw mut *frames).cast::<c_void>();
    if HAS_LOOP.load() != 0 {
        // SAFETY: the function has the type that the helper wants, and the context outlives the call.
        unsafe { bpf_loop(len, function as *mut c_void, context, 0) };
        return;
    }
    for index in 0..MAX_FRAMES as u32 {
        // SAFETY: the function is one of the two below, which take this.
        if index >= len || unsafe { function(index, context) } != 0 {
            break;
        }
    }
}

/// Ends a kernel stack with the innermost entry of an interrupt, if there is one.
#[inline(always)]
fn cut_at_interrupt(stack: &mut Stack) -> bool {
    for_each(&mut Frames { stack, hash: 0 }, cut);
    stack.context == StackContext::Interrupt as u32
}

/// Ends a stack with this frame if it is the entry of an interrupt. Returns whether it is.
#[inline(never)]
unsafe extern "C" fn cut(index: u32, frames: *mut c_void) -> i64 {
    let in_range = |address: u64, start: u64, len: u64| address.wrapping_sub(start) < len;
    // SAFETY: `for_each` passes its `Frames`, with a stack that nothing else uses.
    let stack = unsafe { &mut *(*frames.cast::<Frames>()).stack };
    let Some(&address) = stack.frames.get(index as usize) else { return 1 };
    if !in_range(address, INTERRUPT_START_0.load(), INTERRUPT_LEN_0.load())
        && !in_range(address, INTERRUPT_START_1.load(), INTERRUPT_LEN_1.load())
        && !in_range(address, INTERRUPT_START_2.load(), INTERRUPT_LEN_2.load())
    {
        return 0;
    }
    stack.len = index as u16 + 1;
    stack.context = StackContext::Interrupt as u32;
    1
}

/// A 64-bit hash of all that the stack holds; never 0.
#[inline(always)]
fn hash(stack: &mut Stack) -> u64 {
    let end = u64::from(stack.end) << 16 | u64::from(stack.len);
    let hash = mix(u64::from(stack.tgid) << 32 | u64::from(stack.exec_id), 1);
    let hash = mix(hash, u64::from(stack.context) << 32 | end);
    let mut frames = Frames { stack, hash };
    for_each(&mut frames, mix_in);
    if frames.hash == 0 { 1 } else { frames.hash }
}

/// Folds a frame into the hash.
#[inline(never)]
unsafe extern "C" fn mix_in(index: u32, frames: *mut c_void) -> i64 {
    // SAFETY: `for_each` passes its `Frames`, with a stack that nothing else uses.
    let frames = unsafe { &mut *frames.cast::<Frames>() };
    // SAFETY: as above.
    let stack = unsafe { &*frames.stack };
    let Some(&address) = stack.frames.get(index as usize) else { return 1 };
    frames.hash = mix(frames.hash, address);
    0
}

/// Folds a word into a hash: multiplication carries low bits up, the shift brings them back down.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// Puts a stack into the map unless it is there. Whether it was put in.
#[inline(always)]
fn store(id: u64, stack: &Stack) -> bool {
    if STACKS.get_ptr(id).is_some() {
        return false;
    }
    match STACKS.insert(id, stack, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            count::with(|counters| counters.new_stacks += 1);
            true
        }
        // -EEXIST: another CPU was faster.
        Err(error) => {
            if error != -17 {
                count::lost(Loss::StacksFull);
            }
            false
        }
    }
}

/// Tells user space of a program, once. Within `execve` a program is seen before its stack has its
/// final place (`create_elf_tables` in fs/binfmt_elf.c); then user space is told again.
#[inline(always)]
fn announce(program: Program, current: Task) {
    let start_stack = current.start_stack();
    if let Some(seen) = SEEN.get_ptr(program) {
        // SAFETY: the value is in the map; whoever writes it at the same time writes a u64 as well.
        if unsafe { *seen } == start_stack {
            return;
        }
    }
    if notify(program, start_stack, NoticeKind::New) {
        // When there is no room, user space is told again.
        let _ = SEEN.insert(program, start_stack, 0);
    }
}

/// Whether there was room for the notice.
#[inline(always)]
fn notify(program: Program, start_stack: u64, kind: NoticeKind) -> bool {
    let notice = Notice { program, start_stack, kind: kind as u32, reserved: 0 };
    let sent = NOTICES.output(notice, 0).is_ok();
    if !sent {
        count::lost(Loss::NoticesFull);
    }
    sent
}
