//! Kernel stacks.
//!
//! The kernel does not tell at which words its unwinder looked. But all of them lie between the frame of the
//! tracepoint and the outermost frame, and each is one of two kinds: a return address (or the address that was
//! interrupted), or a saved frame pointer or stack pointer, which points into the same part of the stack. So all
//! words of these two kinds are compared, also those that are leftovers: the unwinder's are among them, and by
//! induction from the innermost frame, each frame is where it was. Leftovers only cost hits.
//!
//! Where the part ends: what lies above the frame of `do_syscall_64` moves at each system call
//! (`randomize_kstack_offset`). The part ends with the return address of the last function but one, found by
//! going through the frames in order; the outermost address lies right below the registers of the program, and
//! is compared there. A frame whose address is not on the stack (a return address that a tracer has replaced)
//! keeps a stack from being remembered. So does a part of it on another stack, as that of interrupts.

use core::hint::black_box;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use offwake_shared::MAX_FRAMES;

use super::{MAX_SPAN, MAX_WORDS, Recall, epoch, slot};
use crate::maps::{
    FRAMES_LIMIT, KERNEL_STACK_TOP, KERNEL_TEXT_LEN, KERNEL_TEXT_START, RECALL, REMEMBER,
    REMEMBERED_KERNEL, SCRATCH, Scratch,
};
use crate::task::Task;

/// The most words of a kernel stack that are looked at. A power of two.
const MAX_DEPTH: usize = MAX_SPAN / 2;

/// The first frames are those of the programs themselves and of what calls them, whose return addresses may lie
/// below the context.
const FIRST_FRAME: usize = 3;

/// A stack that was unwound. It is the same for all threads.
#[repr(C)]
pub struct KernelMemory {
    id: u64,
    /// The outermost frame.
    outermost: u64,
    epoch: u32,
    /// How many words must be equal; 0: nothing is here.
    len: u32,
    /// Bytes up to the last of them.
    bytes: u32,
    /// How many words below the registers the outermost frame is.
    from_top: u32,
    /// The words; those that point into the stack as their distance from the context.
    values: [u64; MAX_WORDS],
    /// Where they are, in bytes from the context; the lowest bit is set for those that point into the stack.
    offsets: [u16; MAX_WORDS],
}

/// The two places for the stack that the current thread, `task`, has now. `user_ip`: where it is in its
/// program, which mostly tells what it waits for. Two, since one system call may wait in several places.
#[inline(always)]
fn slots(index: u32, tid: u32, user_ip: u64, depth: u64) -> (u32, u32) {
    let path = user_ip ^ u64::from(index) << 60;
    (slot(path ^ u64::from(tid) << 32), slot(path ^ depth << 48 ^ 0x5555))
}

/// Looks for the current kernel stack. Returns its id; 0 where it is not remembered.
#[inline(always)]
pub fn recall(ctx: &impl EbpfContext, scratch: *mut Scratch, task: Task, user_ip: u64) -> u64 {
    // SAFETY: see `Scratch`.
    let index = unsafe { (*scratch).index };
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: as `Scratch`.
    let sp = unsafe {
        (*recall).bytes = 0;
        (*recall).slot = u32::MAX;
        number(&raw mut (*recall).context, ctx.as_ptr() as u64)
    };
    if REMEMBER.load() == 0 || KERNEL_STACK_TOP.load() == 0 {
        return 0;
    }
    // SAFETY: as above.
    let base = unsafe { number(&raw mut (*recall).base, task.stack_base()) };
    let depth = base.wrapping_add(u64::from(KERNEL_STACK_TOP.load())).wrapping_sub(sp);
    // On another stack, or too deep.
    if depth >= 8 * MAX_DEPTH as u64 || sp & 7 != 0 {
        return 0;
    }
    let (first, second) = slots(index, task.tid(), user_ip, depth);
    offwake_recall_kernel(index, sp, depth, first, second)
}

/// A pointer as a number: once it was in memory the verifier takes it for one. It lets no program calculate with
/// its context, or pass that or an untyped pointer (6.17+) to a global function.
///
/// # Safety
/// Nothing else uses the place.
#[inline(always)]
unsafe fn number(place: *mut u64, pointer: u64) -> u64 {
    // SAFETY: see above.
    unsafe {
        place.write_volatile(pointer);
        place.read_volatile()
    }
}

/// Reads the stack from `sp` on, `depth` bytes, and compares it with what is in two slots.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_kernel(
    index: u32,
    sp: u64,
    depth: u64,
    first: u32,
    second: u32,
) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    // A mask that the verifier understands.
    let bytes = black_box(depth as u32) & (8 * MAX_DEPTH as u32 - 8);
    // SAFETY: the helper checks the address, and writes less than there is room for. The value is used by
    // this program only.
    unsafe {
        let words = (&raw mut (*recall).words).cast();
        if bpf_probe_read_kernel(words, bytes, sp as *const _) != 0 {
            return 0;
        }
        (*recall).bytes = bytes;
        (*recall).slot = first;
    }
    let id = offwake_compare_kernel(index, first);
    if id != 0 {
        return id;
    }
    let id = offwake_compare_kernel(index, second);
    // Where a new one goes: to the second place only if the first has one that is still good.
    let Some(memory) = REMEMBERED_KERNEL.get_ptr(first) else { return 0 };
    // SAFETY: as above; the table is this CPU's.
    unsafe {
        if id != 0 || (*memory).len != 0 && (*memory).epoch == epoch() {
            (*recall).slot = second;
        }
    }
    id
}

/// Compares the words that were read with what is in a slot. Returns its id, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_compare_kernel(index: u32, slot: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    let Some(memory) = REMEMBERED_KERNEL.get_ptr(slot) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (Recall { words, context, bytes, is_old, .. }, memory) =
        unsafe { (&mut *recall, &*memory) };
    *is_old = u32::from(memory.epoch != epoch());
    let len = memory.len as usize;
    if len == 0 || memory.bytes > *bytes {
        return 0;
    }
    let top = (*bytes >> 3).wrapping_sub(memory.from_top) as usize & (MAX_DEPTH - 1);
    let mut difference = words[black_box(top) & (MAX_DEPTH - 1)] ^ memory.outermost;
    for i in 0..MAX_WORDS {
        if i >= len {
            break;
        }
        let offset = memory.offsets[i];
        let is_pointer = u64::from(offset & 1).wrapping_neg();
        let word = words[usize::from(offset >> 3) & (MAX_DEPTH - 1)];
        difference |= word.wrapping_sub(*context & is_pointer) ^ memory.values[i];
    }
    if difference == 0 { memory.id } else { 0 }
}

/// Remembers the stack in the scratch memory, which has this id and was looked for before. `id` 0: there is
/// none.
#[inline(always)]
pub fn learn(scratch: *mut Scratch, id: u64) {
    if REMEMBER.load() != 0 && KERNEL_STACK_TOP.load() != 0 {
        // SAFETY: see `Scratch`.
        offwake_learn_kernel(unsafe { (*scratch).index }, id);
    }
}

/// See [`learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_learn_kernel(index: u32, id: u64) -> u32 {
    let Some(recall) = RECALL.get_ptr(index) else { return 0 };
    // SAFETY: this CPU's value, which no other program uses now.
    let Recall { words, context, slot, bytes, .. } = unsafe { &*recall };
    let Some(memory) = REMEMBERED_KERNEL.get_ptr_mut(*slot) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: as above.
    let (stack, memory) = unsafe { (&(*scratch).stack, &mut *memory) };
    memory.len = 0;
    let len = usize::from(stack.len);
    if id == 0 || *bytes == 0 || len < FIRST_FRAME + 2 || len >= FRAMES_LIMIT.load() as usize {
        return 0;
    }
    let span = (*bytes >> 3) as usize;
    let outermost = stack.frames[black_box(len - 1) & 63];
    if len > 64 {
        return 0;
    }
    memory.outermost = outermost;
    // Right below the registers, or below two words more (`TOP_OF_KERNEL_STACK_PADDING`, 6.9+).
    let below = |from_top: usize| words[black_box(span.wrapping_sub(from_top)) & (MAX_DEPTH - 1)];
    memory.from_top = if below(1) == outermost {
        1
    } else if below(3) == outermost {
        3
    } else {
        return 0;
    };
    let part = part_of(&stack.frames, len - 1, words, span);
    if part == 0 {
        return 0;
    }
    let mut found = 0u32;
    for i in 0..MAX_DEPTH {
        if i >= part {
            break;
        }
        let word = black_box(words[i]);
        let distance = word.wrapping_sub(*context);
        let is_text = is_less(word.wrapping_sub(KERNEL_TEXT_START.load()), KERNEL_TEXT_LEN.load());
        let is_pointer = is_less(distance, 8 * part as u64);
        let at = black_box(found) as usize & (MAX_WORDS - 1);
        memory.offsets[at] = (8 * i) as u16 | is_pointer as u16;
        memory.values[at] = word.wrapping_sub(*context & is_pointer.wrapping_neg());
        found = found.wrapping_add((is_text | is_pointer) as u32);
    }
    if found >= MAX_WORDS as u32 {
        return 0;
    }
    memory.id = id;
    memory.epoch = epoch();
    memory.bytes = 8 * part as u32;
    memory.len = found;
    1
}

/// How many words there are up to the return address of the last frame before `end`, going through the frames
/// in order; 0 where one is not found.
#[inline(always)]
fn part_of(frames: &[u64; MAX_FRAMES], end: usize, words: &[u64; MAX_SPAN], span: usize) -> usize {
    let mut frame = FIRST_FRAME as u32;
    for i in 0..MAX_DEPTH {
        if frame as usize >= end {
            return i;
        }
        if i >= span {
            return 0;
        }
        let expected = frames[black_box(frame) as usize & 63];
        frame = frame.wrapping_add(is_zero(words[i] ^ expected) as u32);
    }
    0
}

/// 1 if `number` is less than `bound`, which is less than 2^63; else 0. Without a branch, both ways of which
/// the verifier would follow for each word.
#[inline(always)]
fn is_less(number: u64, bound: u64) -> u64 {
    black_box(number.wrapping_sub(bound) & !number) >> 63
}

/// 1 if the number is 0, else 0; see [`is_less`].
#[inline(always)]
fn is_zero(number: u64) -> u64 {
    black_box(number.wrapping_sub(1) & !number) >> 63
}
