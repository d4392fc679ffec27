//! User stacks.
//!
//! The walk is our own, so it knows the words that it used ([`crate::unwind::Used`]): return addresses, and of
//! saved registers those that led it on. Together with the registers that it began with and the tables of the
//! program, they decide where it goes. They are read at once, and compared.
//!
//! A walk that could not read a word, that left the innermost part of the stack, or that went through a signal is
//! not remembered.

use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use offwake_shared::{Program, UserRegisters};

use super::{MAX_DEPTH, MAX_WORDS, Recall, first_slot, slot_in_turn, slots};
use crate::known;
use crate::maps::{RECALL, REMEMBER, REMEMBERED_USER, SCRATCH, Scratch, UNWIND_CHANGES};

/// What a walk begins with, but for registers that it may not look at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Start {
    program: Program,
    ip: u64,
    sp: u64,
    /// See [`UNWIND_CHANGES`].
    changes: u32,
    in_syscall: u32,
}

/// A stack that was walked.
#[repr(C)]
pub struct UserMemory {
    /// 0: nothing is here.
    id: u64,
    start: Start,
    /// The frame pointer at the start, and all bits set if the walk looked at it.
    fp: u64,
    fp_mask: u64,
    /// The same of the other register that is followed.
    other: u64,
    other_mask: u64,
    /// See [`Recall::refusals`].
    refusals: u32,
    /// How many words must be equal: none where a walk ended at the registers that it began with.
    len: u32,
    /// Bytes up to the last of them.
    bytes: u32,
    reserved: u32,
    /// The words.
    values: [u64; MAX_WORDS],
    /// Where they are, in bytes from the stack pointer at the start.
    offsets: [u16; MAX_WORDS],
}

/// Whether stacks are remembered. Where there is no `bpf_loop`, another walk has to do, which does not tell what it
/// used.
#[inline(always)]
fn is_on() -> bool {
    REMEMBER.load() != 0 && !cfg!(no_loop)
}

/// Looks for the stack of the thread `tid` of a program, which has these registers. Returns its id; 0 where it is not
/// remembered.
#[inline(always)]
pub fn recall(index: u32, tid: u32, program: Program, registers: &UserRegisters) -> u64 {
    if !is_on() {
        return 0;
    }
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    let &UserRegisters { ip, sp, fp, other, in_syscall, .. } = registers;
    // Before the tables are looked for: what is learnt from them counts until they change.
    // SAFETY: user space writes a u32, too.
    let changes = UNWIND_CHANGES.get_ptr(0).map_or(0, |changes| unsafe { changes.read_volatile() });
    // SAFETY: see `Scratch`.
    unsafe {
        (*recall).slot = u32::MAX;
        (*recall).refusals = known::refusals();
        (*recall).start = Start { program, ip, sp, changes, in_syscall: in_syscall as u32 };
        (*recall).fp = fp;
        (*recall).other = other;
    }
    if sp & 7 != 0 {
        return 0;
    }
    // The stack pointer of a thread tells how deep it is.
    let place = ip ^ sp.rotate_left(24) ^ u64::from(tid) << 32;
    offwake_recall_user(index, first_slot(place ^ u64::from(index) << 60))
}

/// Compares what is in the slots of a place, of which `first` is the first.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_user(index: u32, first: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    for slot in slots(first) {
        let id = offwake_compare_user(index, slot);
        if id != 0 {
            // SAFETY: this CPU's value, which no other program uses now.
            unsafe { (*recall).slot = slot };
            return id;
        }
    }
    // SAFETY: as above.
    let recall = unsafe { &mut *recall };
    recall.slot = slot_in_turn(first, recall.misses);
    recall.misses = recall.misses.wrapping_add(1);
    for slot in slots(first) {
        let Some(memory) = REMEMBERED_USER.get_ptr(slot) else { return 0 };
        // SAFETY: as above; the table is this CPU's.
        let memory = unsafe { &*memory };
        if memory.id == 0
            || memory.refusals != recall.refusals
            || memory.start.changes != recall.start.changes
        {
            recall.slot = slot;
            return 0;
        }
    }
    0
}

/// Compares the stack with what is in a slot. Returns its id, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_compare_user(index: u32, slot: u32) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    let Some(memory) = REMEMBERED_USER.get_ptr(slot) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (recall, memory) = unsafe { (&mut *recall, &*memory) };
    let (is, was) = (&recall.start, &memory.start);
    let len = memory.len as usize;
    if memory.id == 0
        || is.ip != was.ip
        || is.sp != was.sp
        || is.changes != was.changes
        || is.in_syscall != was.in_syscall
        || is.program.tgid != was.program.tgid
        || is.program.exec_id != was.program.exec_id
        || recall.fp & memory.fp_mask != memory.fp
        || recall.other & memory.other_mask != memory.other
        || recall.refusals != memory.refusals
    {
        return 0;
    }
    // A mask that the verifier understands.
    let bytes = black_box(memory.bytes) & (8 * MAX_DEPTH as u32 - 8);
    // SAFETY: the helper checks the address, and writes less than there is room for.
    unsafe {
        let words = recall.words.as_mut_ptr().cast();
        if bytes != 0 && bpf_probe_read_user(words, bytes, is.sp as *const _) != 0 {
            return 0;
        }
    }
    for i in 0..MAX_WORDS {
        // See `offwake_compare_kernel`.
        let i = black_box(i) & (MAX_WORDS - 1);
        if i >= len {
            break;
        }
        let word = recall.words[usize::from(memory.offsets[i] >> 3) & (MAX_DEPTH - 1)];
        if word != memory.values[i] {
            return 0;
        }
    }
    memory.id
}

/// Remembers the stack that was walked in the scratch memory, which has this id and was looked for before. `id` 0:
/// there is none.
#[inline(always)]
pub fn learn(scratch: *mut Scratch, id: u64) {
    if is_on() {
        // SAFETY: see `Scratch`.
        offwake_learn_user(unsafe { (*scratch).index }, id);
    }
}

/// See [`learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_learn_user(index: u32, id: u64) -> u32 {
    let Some(recall) = RECALL.get_ptr(index) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let Recall { start, fp, other, refusals, slot, .. } = unsafe { &*recall };
    let Some(memory) = REMEMBERED_USER.get_ptr_mut(*slot) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: as above.
    let (used, memory) = unsafe { (&(*scratch).walk.used, &mut *memory) };
    memory.id = 0;
    let len = used.len as usize;
    if id == 0 || used.is_uncertain != 0 || len >= MAX_WORDS {
        return 0;
    }
    for i in 0..MAX_WORDS {
        let i = black_box(i) & (MAX_WORDS - 1);
        if i >= len {
            break;
        }
        memory.offsets[i] = used.offsets[i];
        memory.values[i] = used.values[i];
    }
    memory.id = id;
    memory.start = *start;
    memory.fp_mask = used.fp_mask;
    memory.fp = *fp & used.fp_mask;
    memory.other_mask = used.other_mask;
    memory.other = *other & used.other_mask;
    memory.refusals = *refusals;
    memory.bytes = used.bytes;
    memory.len = len as u32;
    1
}
