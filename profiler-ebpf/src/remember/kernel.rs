//! Kernel stacks.
//!
//! The kernel does not tell at which words its unwinder looked. But all of them lie between the frame of the
//! tracepoint and the outermost frame, and each is one of two kinds: a return address (or the address that was
//! interrupted), which is one of the frames, or a saved frame pointer or stack pointer, which points into the same
//! part of the stack. So all words of these two kinds are compared, also those that are leftovers: the unwinder's are
//! among them, and by induction from the innermost frame, each frame is where it was. Leftovers only cost hits; those
//! that are no address of any frame, as most are, not even that.
//!
//! Where the part ends: what lies above the frame of `do_syscall_64` moves at each system call
//! (`randomize_kstack_offset`). The part ends with the return address of the last function but one, found by
//! going through the frames in order; the outermost address lies right below the registers of the program, and
//! is compared there. A frame whose address is not on the stack (a return address that a tracer has replaced)
//! keeps a stack from being remembered. So does a part of it on another stack, as that of interrupts.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};

use offwake_shared::{Stack, UserRegisters};

use super::{MARKS, MAX_DEPTH, MAX_WORDS, Recall, slot};
use crate::known;
use crate::maps::{
    FRAMES_LIMIT, KERNEL_STACK_TOP, KERNEL_TEXT_LEN, KERNEL_TEXT_START, RECALL, REMEMBER,
    REMEMBERED_KERNEL, SCRATCH, Scratch,
};
use crate::task::Task;

/// How many stacks there is room for in one place. A power of two.
const WAYS: u32 = 4;

/// One of so many stacks that were not found takes the place of another one: where no two are the same, to
/// learn them costs little. A power of two.
const LEARNS: u32 = 4;

/// The most frames of a stack that is remembered. A power of two.
const FRAMES: usize = 64;

/// The first frames are those of the programs themselves and of what calls them, whose return addresses may lie
/// below the context.
const FIRST_FRAME: u32 = 3;

/// A stack that was unwound. It is the same for all threads.
#[repr(C)]
pub struct KernelMemory {
    id: u64,
    /// The outermost frame.
    outermost: u64,
    /// See [`Recall::refusals`].
    refusals: u32,
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

/// Whether stacks are remembered. To learn one takes `bpf_loop`.
#[inline(always)]
fn is_on() -> bool {
    REMEMBER.load() != 0 && KERNEL_STACK_TOP.load() != 0 && !cfg!(no_loop)
}

/// Looks for the current kernel stack. Returns its id; 0 where it is not remembered.
#[inline(always)]
pub fn recall(
    ctx: &impl EbpfContext,
    scratch: *mut Scratch,
    task: Task,
    registers: &UserRegisters,
) -> u64 {
    if !is_on() {
        return 0;
    }
    // SAFETY: see `Scratch`.
    let index = unsafe { (*scratch).index };
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: as above.
    let sp = unsafe {
        (*recall).bytes = 0;
        (*recall).slot = u32::MAX;
        (*recall).refusals = known::refusals();
        number(&raw mut (*recall).context, ctx.as_ptr() as u64)
    };
    // SAFETY: as above.
    let base = unsafe { number(&raw mut (*recall).base, task.stack_base()) };
    let depth = base.wrapping_add(u64::from(KERNEL_STACK_TOP.load())).wrapping_sub(sp);
    // On another stack, or too deep.
    if depth >= 8 * MAX_DEPTH as u64 || sp & 7 != 0 {
        return 0;
    }
    // Where it is in its program mostly tells what it waits for, and so does the first argument: a file, or
    // a futex. A place has room for several, since one system call may wait in several places, and what
    // others have left on the stack varies.
    let place = registers.ip ^ registers.di.rotate_left(20) ^ u64::from(task.tid()) << 32;
    let first = slot(place ^ u64::from(index) << 60) & !(WAYS - 1);
    offwake_recall_kernel(index, sp, depth, first)
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

/// Reads the stack from `sp` on, `depth` bytes, and compares it with what is in the slots of a place, of which
/// `first` is the first.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_kernel(index: u32, sp: u64, depth: u64, first: u32) -> u64 {
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
    }
    for slot in first..first.wrapping_add(WAYS) {
        let id = offwake_compare_kernel(index, slot);
        if id != 0 {
            // SAFETY: as above.
            unsafe { (*recall).slot = slot };
            return id;
        }
    }
    // SAFETY: as above.
    let recall = unsafe { &mut *recall };
    let misses = recall.misses;
    recall.misses = misses.wrapping_add(1);
    recall.slot = first | (misses / LEARNS) & (WAYS - 1);
    let Some(memory) = REMEMBERED_KERNEL.get_ptr(recall.slot) else { return 0 };
    // SAFETY: as above; the table is this CPU's.
    let is_free = unsafe { (*memory).len == 0 || (*memory).refusals != recall.refusals };
    if !is_free && misses & (LEARNS - 1) != 0 {
        recall.bytes = 0;
    }
    0
}

/// Compares the words that were read with what is in a slot. Returns its id, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_compare_kernel(index: u32, slot: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr(index) else { return 0 };
    let Some(memory) = REMEMBERED_KERNEL.get_ptr(slot) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (Recall { words, context, bytes, refusals, .. }, memory) = unsafe { (&*recall, &*memory) };
    let len = memory.len as usize;
    if len == 0 || memory.bytes > *bytes || memory.refusals != *refusals {
        return 0;
    }
    let top = (*bytes >> 3).wrapping_sub(memory.from_top) as usize & (MAX_DEPTH - 1);
    if words[black_box(top) & (MAX_DEPTH - 1)] != memory.outermost {
        return 0;
    }
    for i in 0..MAX_WORDS {
        // What is hidden is not made one with the bound of the loop, which the verifier needs (before 6.8).
        let i = black_box(i) & (MAX_WORDS - 1);
        if i >= len {
            break;
        }
        let offset = memory.offsets[i];
        let is_pointer = u64::from(offset & 1).wrapping_neg();
        let word = words[usize::from(offset >> 3) & (MAX_DEPTH - 1)];
        if word.wrapping_sub(*context & is_pointer) != memory.values[i] {
            return 0;
        }
    }
    memory.id
}

/// Remembers the stack in the scratch memory, which has this id and was looked for before. `id` 0: there is
/// none.
#[inline(always)]
pub fn learn(scratch: *mut Scratch, id: u64) {
    if is_on() {
        // SAFETY: see `Scratch`.
        offwake_learn_kernel(unsafe { (*scratch).index }, id);
    }
}

/// What a step of a loop needs, on the BPF stack of the program that learns.
struct Context {
    recall: *mut Recall,
    memory: *mut KernelMemory,
    stack: *const Stack,
}

/// See [`learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_learn_kernel(index: u32, id: u64) -> u32 {
    if cfg!(no_loop) {
        return 0;
    }
    let Some(recall_ptr) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let recall = unsafe { &mut *recall_ptr };
    let Some(memory_ptr) = REMEMBERED_KERNEL.get_ptr_mut(recall.slot) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: as above.
    let (stack, memory) = unsafe { (&(*scratch).stack, &mut *memory_ptr) };
    memory.len = 0;
    let len = u32::from(stack.len);
    if id == 0
        || recall.bytes == 0
        || len < FIRST_FRAME + 2
        || len > FRAMES as u32
        || len >= FRAMES_LIMIT.load()
    {
        return 0;
    }
    let span = recall.bytes >> 3;
    let outermost = stack.frames[black_box(len - 1) as usize & (FRAMES - 1)];
    memory.outermost = outermost;
    // Right below the registers, or below two words more (`TOP_OF_KERNEL_STACK_PADDING`, 6.9+).
    let below = |from_top: u32| {
        recall.words[black_box(span.wrapping_sub(from_top)) as usize & (MAX_DEPTH - 1)]
    };
    memory.from_top = if below(1) == outermost {
        1
    } else if below(3) == outermost {
        3
    } else {
        return 0;
    };
    mark_frames(recall, stack, len);
    recall.frame = FIRST_FRAME;
    recall.frames = len - 1;
    recall.part = 0;
    recall.found = 0;
    let mut context = Context { recall: recall_ptr, memory: memory_ptr, stack };
    // SAFETY: the callbacks have the type that the helper wants, and the context outlives the calls.
    unsafe {
        let find_part = find_part as unsafe extern "C" fn(u32, *mut c_void) -> i64;
        let gather = gather as unsafe extern "C" fn(u32, *mut c_void) -> i64;
        let context = (&raw mut context).cast::<c_void>();
        bpf_loop(span, find_part as *mut c_void, context, 0);
        if (*recall_ptr).part == 0 {
            return 0;
        }
        bpf_loop((*recall_ptr).part, gather as *mut c_void, context, 0);
        let (recall, memory) = (&*recall_ptr, &mut *memory_ptr);
        if recall.found >= MAX_WORDS as u32 {
            return 0;
        }
        memory.id = id;
        memory.refusals = recall.refusals;
        memory.bytes = 8 * recall.part;
        memory.len = recall.found;
    }
    1
}

/// Marks the addresses of a stack, so that [`gather`] takes no others, or few.
#[inline(always)]
fn mark_frames(recall: &mut Recall, stack: &Stack, len: u32) {
    recall.round = recall.round.wrapping_add(1);
    for i in 0..FRAMES {
        let i = black_box(i) & (FRAMES - 1);
        if i >= len as usize {
            break;
        }
        recall.rounds[mark(stack.frames[i])] = recall.round;
    }
}

/// Where the mark of an address is.
#[inline(always)]
fn mark(address: u64) -> usize {
    black_box((address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize) & (MARKS - 1)
}

/// Finds how many words there are up to the return address of the last frame but one, going through the frames
/// in order: what `bpf_loop` calls (5.17+).
#[inline(never)]
unsafe extern "C" fn find_part(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context of `offwake_learn_kernel`, with pointers to values that nothing else uses.
    let (recall, stack) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.recall, &*context.stack)
    };
    let word = recall.words[black_box(index) as usize & (MAX_DEPTH - 1)];
    if word != stack.frames[black_box(recall.frame) as usize & (FRAMES - 1)] {
        return 0;
    }
    recall.frame = recall.frame.wrapping_add(1);
    if recall.frame < recall.frames {
        return 0;
    }
    recall.part = index.wrapping_add(1);
    1
}

/// Takes a word into the memory, if it counts: what `bpf_loop` calls (5.17+).
#[inline(never)]
unsafe extern "C" fn gather(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: as in `find_part`.
    let (recall, memory) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.recall, &mut *context.memory)
    };
    let at = black_box(index) as usize & (MAX_DEPTH - 1);
    let word = recall.words[at];
    let distance = word.wrapping_sub(recall.context);
    let is_pointer = distance < 8 * u64::from(recall.part);
    let is_text = word.wrapping_sub(KERNEL_TEXT_START.load()) < KERNEL_TEXT_LEN.load()
        && recall.rounds[mark(word)] == recall.round;
    if !is_pointer && !is_text {
        return 0;
    }
    if recall.found >= MAX_WORDS as u32 {
        return 1;
    }
    let to = black_box(recall.found) as usize & (MAX_WORDS - 1);
    memory.offsets[to] = (8 * at) as u16 | u16::from(is_pointer);
    memory.values[to] = if is_pointer { distance } else { word };
    recall.found = recall.found.wrapping_add(1);
    0
}
