//! Kernel stacks.
//!
//! The kernel does not tell at which words its unwinder looked (arch/x86/kernel/unwind_orc.c). But all of them lie
//! between the frame of the tracepoint and the outermost frame, and each is one of two kinds:
//!
//! - a return address, or the address that was interrupted: it is one of the frames;
//! - an address on the same stack: a saved frame pointer, which points below a return address; the place behind a
//!   return address, where the compiler has aligned the stack; or the stack pointer of saved registers, which is
//!   behind a code segment and flags.
//!
//! So all words of these kinds are compared, also those that are leftovers: the unwinder's are among them, and by
//! induction from the innermost frame, each frame is where it was. Leftovers only cost hits; those that point to
//! nothing of the kind, as most do, not even that.
//!
//! Where the part ends: what lies above the frame of `do_syscall_64` moves at each system call
//! (`randomize_kstack_offset`). The part ends with the return address of the last function but one, found by
//! going through the frames in order; the outermost address lies right below the registers of the program, and
//! is compared there. A frame whose address is not on the stack (a return address that a tracer has replaced)
//! keeps a stack from being remembered.
//!
//! Interrupts and the softirqs behind them, also those that a system call runs, have a stack of their own on each
//! CPU (`ASM_CALL_ON_STACK` in arch/x86/include/asm/irq_stack.h, 5.12+). Its last word is where the stack of the task
//! goes on; the word before is the return address into the function that has changed stacks. All of its words
//! are looked at, and what points into the stack of the task is compared as a distance from where it goes on. The stack of
//! an interrupt ends with its entry: what was interrupted is not looked at.
//!
//! A stack that is unwound again where it is known has other leftovers than before, but the same frames, of which
//! each has its size: so its words are where they were, and only those that are as they were count from then on.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};

use offwake_shared::{Stack, UserRegisters};

use super::{MARKS, MAX_DEPTH, MAX_WORDS, Recall, first_slot, slot_in_turn, slots};
use crate::known;
use crate::maps::{
    FRAMES_LIMIT, KERNEL_STACK_TOP, KERNEL_TEXT_LEN, KERNEL_TEXT_START, RECALL, REMEMBER,
    REMEMBERED_KERNEL, SCRATCH, Scratch,
};
use crate::memory;
use crate::task::Task;

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
    /// Bytes up to the last of them on the stack of the task.
    bytes: u32,
    /// Bytes on the stack of interrupts.
    bytes_of_interrupts: u32,
    /// How many words below the registers the outermost frame is; 0: it is that of an interrupt, and among the words.
    from_top: u32,
    /// Of the stack of a waker, a [`Reason`](crate::source::reason::Reason).
    reason: u32,
    /// The words; those that point into a stack as their distance from where it begins.
    values: [u64; MAX_WORDS],
    /// Where they are, in bytes from the beginning of [`Recall::words`], and what they point to.
    offsets: [u16; MAX_WORDS],
}

/// In [`KernelMemory::offsets`]: the word points into the stack of the task.
const TO_TASK: u16 = 1;
/// The word points into the stack of interrupts.
const TO_INTERRUPTS: u16 = 2;

/// Bytes of the stack of interrupts (`IRQ_STACK_SIZE` in arch/x86/include/asm/page_64_types.h): four pages, twice
/// that with KASAN, where the outer ones are not looked at.
const INTERRUPTS_SIZE: u64 = 4 * PAGE;
const PAGE: u64 = 4096;

/// The code segment of the kernel (`__KERNEL_CS` in arch/x86/include/asm/segment.h).
const KERNEL_CS: u64 = 0x10;

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
    let (sp, base) = unsafe {
        (*recall).bytes = 0;
        (*recall).slot = u32::MAX;
        (*recall).interrupt_slot = u32::MAX;
        (*recall).first = u32::MAX;
        (*recall).interrupt_first = u32::MAX;
        (*recall).is_interrupt = 0;
        (*recall).refusals = known::refusals();
        (
            number(&raw mut (*recall).start_of_task, ctx.as_ptr() as u64),
            number(&raw mut (*recall).base, task.stack_base()),
        )
    };
    if sp & 7 != 0 {
        return 0;
    }
    let depth = base.wrapping_add(u64::from(KERNEL_STACK_TOP.load())).wrapping_sub(sp);
    // Where a system call came from mostly tells what it does. A place has room for several, since one may wait or wake
    // in several places. An interrupt may have come anywhere; but below it nothing is aligned at random.
    let is_call = registers.in_syscall != 0 || registers.ip == 0;
    let place = if is_call { registers.ip ^ u64::from(task.tid()) << 32 } else { depth };
    let first = first_slot(place ^ u64::from(index) << 60);
    if depth < 8 * MAX_DEPTH as u64 {
        offwake_recall_kernel(index, depth, first)
    } else {
        offwake_recall_interrupts(index, sp, base, first)
    }
}

/// Whether the stack that was found is that of an interrupt, and its [`Reason`](crate::source::reason::Reason).
#[inline(always)]
pub fn found(index: u32) -> (bool, u32) {
    // SAFETY: see `Scratch`.
    let found = |recall: *const Recall| unsafe { ((*recall).is_interrupt != 0, (*recall).reason) };
    RECALL.get_ptr(index).map_or((false, 0), found)
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

/// Compares the stack of the task, `depth` bytes from [`Recall::start_of_task`] on, with what is in the slots of a place, of
/// which `first` is the first.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_kernel(index: u32, depth: u64, first: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: this CPU's value, which no other program uses now.
    let recall = unsafe { &mut *recall };
    recall.bytes_of_interrupts = 0;
    recall.bytes = depth as u32;
    recall.read = 0;
    let id = offwake_find_kernel(index, first);
    if id == 0 {
        recall.first = first;
        recall.slot = slot_to_learn(recall, first);
        missed(recall);
    }
    id
}

/// A stack was not found: what is learnt of it takes all of its words.
#[inline(always)]
fn missed(recall: &mut Recall) {
    recall.misses = recall.misses.wrapping_add(1);
    if !read_task(recall, recall.bytes) {
        recall.bytes = 0;
    }
}

/// The same where `sp` is on the stack of interrupts. `base`: where the stack of the task begins.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_interrupts(index: u32, sp: u64, base: u64, first: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: as in `offwake_recall_kernel`.
    let recall = unsafe { &mut *recall };
    let last = last_of_interrupts(recall.last_of_interrupts, sp, base);
    let depth = last.wrapping_add(8).wrapping_sub(sp);
    if !(32..8 * MAX_DEPTH as u64).contains(&depth) {
        return 0;
    }
    let bytes = read_words(recall, MAX_DEPTH, sp, depth);
    recall.bytes_of_interrupts = bytes;
    recall.start_of_interrupts = sp;
    let start = recall.words[of_interrupts((bytes >> 3).wrapping_sub(1))];
    let depth = base.wrapping_add(u64::from(KERNEL_STACK_TOP.load())).wrapping_sub(start);
    if bytes == 0 || depth >= 8 * MAX_DEPTH as u64 || start & 7 != 0 {
        return 0;
    }
    recall.start_of_task = start;
    recall.bytes = depth as u32;
    recall.read = 0;
    // What an interrupt does has nothing to do with whom it interrupts.
    let of_interrupt = first_slot(u64::from(bytes) ^ 1 << 63);
    let mut id = offwake_find_kernel(index, first);
    if id == 0 {
        id = offwake_find_kernel(index, of_interrupt);
    }
    if id == 0 {
        recall.first = first;
        recall.interrupt_first = of_interrupt;
        recall.slot = slot_to_learn(recall, first);
        recall.interrupt_slot = slot_to_learn(recall, of_interrupt);
        missed(recall);
    }
    id
}

/// Reads `depth` bytes from `sp` on to the words from index `at` on. Returns how many; 0: it cannot be read.
#[inline(always)]
fn read_words(recall: &mut Recall, at: usize, sp: u64, depth: u64) -> u32 {
    // A mask that the verifier understands.
    let bytes = black_box(depth as u32) & (8 * MAX_DEPTH as u32 - 8);
    // SAFETY: the helper checks the address, and writes less than there is room for.
    let error = unsafe {
        let words = recall.words.as_mut_ptr().add(at).cast::<c_void>();
        bpf_probe_read_kernel(words, bytes, sp as *const c_void)
    };
    if error == 0 { bytes } else { 0 }
}

/// Reads the first `bytes` of the stack of the task, unless that was done. Most of it is above what a memory has words of,
/// and is not looked at. Whether it could be read.
#[inline(always)]
fn read_task(recall: &mut Recall, bytes: u32) -> bool {
    if recall.read < bytes {
        recall.read = read_words(recall, 0, recall.start_of_task, bytes.into());
    }
    recall.read >= bytes
}

/// Where the last word of the stack of interrupts is that `sp` is on; 0 if it is on none. `known`: what was found
/// before on this CPU.
#[inline(always)]
fn last_of_interrupts(known: u64, sp: u64, base: u64) -> u64 {
    if known.wrapping_sub(sp) < INTERRUPTS_SIZE {
        return known;
    }
    // It is the last of a page, points into the stack of the task, and is behind a return address. What only looks
    // like it is found out when the stack is learnt, or else nothing is known after this.
    for page in 0..INTERRUPTS_SIZE / PAGE {
        let last = (sp | (PAGE - 1)).wrapping_add(1 + PAGE * page).wrapping_sub(8);
        let [before, word]: [u64; 2] = memory::read(last.wrapping_sub(8));
        if word.wrapping_sub(base) < u64::from(KERNEL_STACK_TOP.load()) && is_text(before) {
            return last;
        }
    }
    0
}

#[inline(always)]
fn is_text(word: u64) -> bool {
    word.wrapping_sub(KERNEL_TEXT_START.load()) < KERNEL_TEXT_LEN.load()
}

/// The index of a word of the stack of interrupts.
#[inline(always)]
fn of_interrupts(index: u32) -> usize {
    MAX_DEPTH + (black_box(index) as usize & (MAX_DEPTH - 1))
}

/// The slot of a place that is to be learnt; none if the stacks that are there may stay.
#[inline(always)]
fn slot_to_learn(recall: &Recall, first: u32) -> u32 {
    for slot in slots(first) {
        let Some(memory) = REMEMBERED_KERNEL.get_ptr(slot) else { return u32::MAX };
        // SAFETY: the table is this CPU's.
        if unsafe { (*memory).len == 0 || (*memory).refusals != recall.refusals } {
            return slot;
        }
    }
    slot_in_turn(first, recall.misses)
}

/// Compares the words that were read with what is in the slots of a place. Returns the id, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_find_kernel(index: u32, first: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    for slot in slots(first) {
        let id = offwake_compare_kernel(index, slot);
        if id != 0 {
            // SAFETY: this CPU's value, which no other program uses now.
            unsafe {
                (*recall).slot = slot;
                (*recall).interrupt_slot = slot;
            }
            return id;
        }
    }
    0
}

/// Compares the words that were read with what is in a slot. Returns its id, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_compare_kernel(index: u32, slot: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    let Some(memory) = REMEMBERED_KERNEL.get_ptr(slot) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (recall, memory) = unsafe { (&mut *recall, &*memory) };
    let len = memory.len as usize;
    if is_other(recall, memory) || !read_task(recall, memory.bytes) {
        return 0;
    }
    for i in 0..MAX_WORDS {
        // What is hidden is not made one with the bound of the loop, which the verifier needs (before 6.8).
        let i = black_box(i) & (MAX_WORDS - 1);
        if i >= len {
            break;
        }
        if value_at(recall, memory.offsets[i]) != memory.values[i] {
            return 0;
        }
    }
    if !has_outermost(recall, memory) {
        return 0;
    }
    recall.is_interrupt = (memory.from_top == 0) as u32;
    recall.reason = memory.reason;
    memory.id
}

/// Whether a memory is empty, or of a stack of other sizes than the one that is looked for, so that its words need not be
/// looked at.
#[inline(always)]
fn is_other(recall: &Recall, memory: &KernelMemory) -> bool {
    memory.len == 0
        || memory.bytes > recall.bytes
        || memory.bytes_of_interrupts != recall.bytes_of_interrupts
        || memory.refusals != recall.refusals
}

/// Whether the outermost frame is where it was; that of an interrupt is among the words.
#[inline(always)]
fn has_outermost(recall: &Recall, memory: &KernelMemory) -> bool {
    let at = recall.bytes.wrapping_sub(8 * memory.from_top);
    memory.from_top == 0
        || memory::read::<u64>(recall.start_of_task.wrapping_add(at.into())) == memory.outermost
}

/// What a word has that is at one of [`KernelMemory::offsets`], as one of [`KernelMemory::values`].
#[inline(always)]
fn value_at(recall: &Recall, offset: u16) -> u64 {
    let all_if = |bit: u16| u64::from(offset & bit != 0).wrapping_neg();
    let start =
        recall.start_of_task & all_if(TO_TASK) | recall.start_of_interrupts & all_if(TO_INTERRUPTS);
    recall.words[usize::from(offset >> 3) & (2 * MAX_DEPTH - 1)].wrapping_sub(start)
}

/// Remembers the stack in the scratch memory, which has this id and was looked for before, and not found as what it is.
/// `id` 0: there is none. `is_interrupt`: it ends with the entry of one. `reason`: see [`found`].
#[inline(always)]
pub fn learn(scratch: *mut Scratch, id: u64, is_interrupt: bool, reason: u32) {
    if !is_on() {
        return;
    }
    // SAFETY: see `Scratch`.
    let index = unsafe { (*scratch).index };
    if offwake_narrow_kernel(index, id, is_interrupt as u32) == 0 {
        offwake_learn_kernel(index, id, is_interrupt as u32, reason);
    }
}

/// Looks for a stack with this id in the slots of the place that was looked at, and leaves of its words those that
/// are as they are now. Whether there was one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_narrow_kernel(index: u32, id: u64, is_interrupt: u32) -> u32 {
    if cfg!(no_loop) {
        return 0;
    }
    let Some(recall) = RECALL.get_ptr(index) else { return 0 };
    // SAFETY: this CPU's value, which no other program uses now.
    let recall = unsafe { &*recall };
    let has_own = has_place_of_interrupts(recall, is_interrupt);
    let first = if has_own { recall.interrupt_first } else { recall.first };
    if id == 0 || first == u32::MAX {
        return 0;
    }
    for slot in slots(first) {
        if offwake_narrow_slot(index, slot, id) != 0 {
            return 1;
        }
    }
    0
}

/// Of the words in a slot that has this id, leaves those that are as they are now. Whether it has the id.
///
/// The unwinder goes by the same addresses through the same frames, and each of these has one size: it looked at the same
/// words as before, and found the same in them. So all others are leftovers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_narrow_slot(index: u32, slot: u32, id: u64) -> u32 {
    if cfg!(no_loop) {
        return 0;
    }
    let Some(recall_ptr) = RECALL.get_ptr_mut(index) else { return 0 };
    let Some(memory_ptr) = REMEMBERED_KERNEL.get_ptr_mut(slot) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (recall, memory, stack) =
        unsafe { (&mut *recall_ptr, &mut *memory_ptr, &(*scratch).stack) };
    if memory.id != id || is_other(recall, memory) || !has_outermost(recall, memory) {
        return 0;
    }
    recall.found = 0;
    recall.frame = FIRST_FRAME;
    let mut context = Context { recall: recall_ptr, memory: memory_ptr, stack };
    go_through(recall_ptr, (&raw mut context).cast(), keep_unchanged, 0, memory.len);
    // SAFETY: as above.
    let (recall, memory) = unsafe { (&*recall_ptr, &mut *memory_ptr) };
    let frames = u32::from(stack.len).wrapping_sub((memory.from_top != 0) as u32);
    // Each frame must still be there, in order. Else it is learnt anew.
    memory.len = if recall.frame >= frames { recall.found } else { 0 };
    (memory.len != 0) as u32
}

/// Keeps a word of the memory if it is as it is now.
#[inline(never)]
unsafe extern "C" fn keep_unchanged(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context of `offwake_narrow_slot`, with pointers to values that nothing else uses.
    let (recall, memory, stack) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.recall, &mut *context.memory, &*context.stack)
    };
    let from = black_box(index) as usize & (MAX_WORDS - 1);
    let (offset, value) = (memory.offsets[from], memory.values[from]);
    if value_at(recall, offset) != value {
        return 0;
    }
    if value == frame(stack, recall.frame) {
        recall.frame = recall.frame.wrapping_add(1);
    }
    let to = black_box(recall.found) as usize & (MAX_WORDS - 1);
    memory.offsets[to] = offset;
    memory.values[to] = value;
    recall.found = recall.found.wrapping_add(1);
    0
}

/// What a step of a loop needs, on the BPF stack of the program that learns.
struct Context {
    recall: *mut Recall,
    memory: *mut KernelMemory,
    stack: *const Stack,
}

/// Whether a stack is in the place of interrupts: one on their own stack. What interrupts a program is on that of the
/// task (`run_irq_on_irqstack_cond` and its like in arch/x86/include/asm/irq_stack.h).
#[inline(always)]
fn has_place_of_interrupts(recall: &Recall, is_interrupt: u32) -> bool {
    is_interrupt != 0 && recall.bytes_of_interrupts != 0
}

/// See [`learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_learn_kernel(index: u32, id: u64, is_interrupt: u32, reason: u32) -> u32 {
    if cfg!(no_loop) {
        return 0;
    }
    let Some(recall_ptr) = RECALL.get_ptr_mut(index) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let recall = unsafe { &mut *recall_ptr };
    let has_own = has_place_of_interrupts(recall, is_interrupt);
    let slot = if has_own { recall.interrupt_slot } else { recall.slot };
    let Some(memory_ptr) = REMEMBERED_KERNEL.get_ptr_mut(slot) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: as above.
    let (stack, memory) = unsafe { (&(*scratch).stack, &mut *memory_ptr) };
    memory.len = 0;
    let len = u32::from(stack.len);
    // A stack that was found, and is another one, has not been read to its end.
    if id == 0
        || recall.bytes == 0
        || recall.read < recall.bytes
        || len < FIRST_FRAME + 2
        || len > FRAMES as u32
        || len >= FRAMES_LIMIT.load()
    {
        return 0;
    }
    memory.outermost = frame(stack, len - 1);
    if is_interrupt != 0 {
        memory.from_top = 0;
        recall.frames = len;
    } else {
        memory.from_top = words_from_top(recall, memory.outermost);
        if memory.from_top == 0 {
            return 0;
        }
        recall.frames = len - 1;
    }
    mark_frames(recall, stack, len);
    recall.frame = FIRST_FRAME;
    recall.part = 0;
    recall.found = 0;
    let of_interrupts = recall.bytes_of_interrupts >> 3;
    let mut context = Context { recall: recall_ptr, memory: memory_ptr, stack };
    let context = (&raw mut context).cast::<c_void>();
    if of_interrupts != 0 {
        go_through(recall_ptr, context, find_part, MAX_DEPTH as u32, of_interrupts);
        // SAFETY: as above.
        if !unsafe { changes_stacks(&*recall_ptr, stack) } {
            return 0;
        }
    }
    // SAFETY: as above.
    let words = unsafe { (*recall_ptr).bytes >> 3 };
    go_through(recall_ptr, context, find_part, 0, words);
    // SAFETY: as above.
    let part = unsafe { (*recall_ptr).part };
    if part == 0 {
        return 0;
    }
    if of_interrupts != 0 {
        go_through(recall_ptr, context, gather, MAX_DEPTH as u32, of_interrupts);
    }
    go_through(recall_ptr, context, gather, 0, part);
    // SAFETY: as above.
    let (recall, memory) = unsafe { (&mut *recall_ptr, &mut *memory_ptr) };
    if recall.found >= MAX_WORDS as u32 {
        return 0;
    }
    if of_interrupts != 0 {
        let bytes = u64::from(recall.bytes_of_interrupts);
        recall.last_of_interrupts = recall.start_of_interrupts.wrapping_add(bytes).wrapping_sub(8);
    }
    memory.id = id;
    memory.reason = reason;
    memory.refusals = recall.refusals;
    memory.bytes = 8 * part;
    memory.bytes_of_interrupts = recall.bytes_of_interrupts;
    memory.len = recall.found;
    1
}

#[inline(always)]
fn frame(stack: &Stack, index: u32) -> u64 {
    stack.frames[black_box(index) as usize & (FRAMES - 1)]
}

/// How many words below the registers of the program the outermost frame is: right there, or below two words more
/// (`TOP_OF_KERNEL_STACK_PADDING`, 6.9+); 0: somewhere else.
#[inline(always)]
fn words_from_top(recall: &Recall, outermost: u64) -> u32 {
    let span = recall.bytes >> 3;
    let is_below = |from_top: u32| {
        let at = black_box(span.wrapping_sub(from_top)) as usize & (MAX_DEPTH - 1);
        recall.words[at] == outermost
    };
    if is_below(1) {
        1
    } else if is_below(3) {
        3
    } else {
        0
    }
}

/// Whether the last frame that was found on the stack of interrupts is that of the function that has changed stacks:
/// whether the stack was read as far as it goes.
#[inline(always)]
fn changes_stacks(recall: &Recall, stack: &Stack) -> bool {
    let before_last =
        recall.words[of_interrupts((recall.bytes_of_interrupts >> 3).wrapping_sub(2))];
    recall.frame > FIRST_FRAME
        && recall.frame < recall.frames
        && before_last == frame(stack, recall.frame.wrapping_sub(1))
}

/// Calls a step for each of `count` words from this one on.
#[inline(always)]
fn go_through(recall: *mut Recall, context: *mut c_void, step: Step, from: u32, count: u32) {
    // SAFETY: the callback has the type that the helper wants, and the context outlives the call.
    unsafe {
        (*recall).from = from;
        bpf_loop(count, step as *mut c_void, context, 0);
    }
}

/// What `bpf_loop` calls (5.17+).
type Step = unsafe extern "C" fn(u32, *mut c_void) -> i64;

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

/// Goes through the frames in order, and finds how many words there are up to the return address of the last one
/// that is looked for.
#[inline(never)]
unsafe extern "C" fn find_part(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context of `offwake_learn_kernel`, with pointers to values that nothing else uses.
    let (recall, stack) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.recall, &*context.stack)
    };
    let at = black_box(recall.from.wrapping_add(index)) as usize & (2 * MAX_DEPTH - 1);
    if recall.words[at] != frame(stack, recall.frame) {
        return 0;
    }
    recall.frame = recall.frame.wrapping_add(1);
    if recall.frame < recall.frames {
        return 0;
    }
    recall.part = index.wrapping_add(1);
    1
}

#[inline(always)]
fn word_at(recall: &Recall, index: u64) -> u64 {
    recall.words[black_box(index) as usize & (2 * MAX_DEPTH - 1)]
}

/// Whether a word is the address of one of the frames, or has the mark of one.
#[inline(always)]
fn is_frame(recall: &Recall, word: u64) -> bool {
    is_text(word) && recall.rounds[mark(word)] == recall.round
}

/// Takes a word into the memory, if it counts.
#[inline(never)]
unsafe extern "C" fn gather(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: as in `find_part`.
    let (recall, memory) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.recall, &mut *context.memory)
    };
    let at = black_box(recall.from.wrapping_add(index)) as usize & (2 * MAX_DEPTH - 1);
    let word = recall.words[at];
    let to_task = word.wrapping_sub(recall.start_of_task);
    let to_interrupts = word.wrapping_sub(recall.start_of_interrupts);
    let (value, kind) = if to_task < 8 * u64::from(recall.part) {
        (to_task, TO_TASK)
    } else if to_interrupts < u64::from(recall.bytes_of_interrupts) {
        (to_interrupts, TO_INTERRUPTS)
    } else if is_frame(recall, word) {
        (word, 0)
    } else {
        return 0;
    };
    if kind != 0 {
        let half = if kind == TO_INTERRUPTS { MAX_DEPTH as u64 } else { 0 };
        let to = half.wrapping_add(value >> 3);
        let is_followed = is_frame(recall, word_at(recall, to.wrapping_add(1)))
            || is_frame(recall, word_at(recall, to.wrapping_sub(1)))
            || word_at(recall, (at as u64).wrapping_sub(2)) == KERNEL_CS;
        if word & 7 != 0 || !is_followed {
            return 0;
        }
    }
    if recall.found >= MAX_WORDS as u32 {
        return 1;
    }
    let to = black_box(recall.found) as usize & (MAX_WORDS - 1);
    memory.offsets[to] = (8 * at) as u16 | kind;
    memory.values[to] = value;
    recall.found = recall.found.wrapping_add(1);
    0
}
