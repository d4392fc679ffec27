//! User stacks.
//!
//! The walk knows what it depended on ([`super::trail`]): the registers with which it started, words of the
//! stack, and the tables of the program. All of them must be the same. A word that could not be read, or one that
//! is not on the same stretch of the stack, is nothing to remember.

use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use offwake_shared::{Program, StackEnd, UserRegisters};

use super::trail::{USES_DI, USES_FP, USES_OTHER};
use super::{MAX_SPAN, MAX_WORDS, epoch, slot};
use crate::arch;
use crate::maps::{RECALL, REMEMBER, REMEMBERED_USER, SCRATCH, Scratch};

/// A stack that was walked.
#[repr(C)]
pub struct UserMemory {
    id: u64,
    ip: u64,
    sp: u64,
    fp: u64,
    other: u64,
    di: u64,
    is_return: u32,
    /// The tables of the program.
    generation: u32,
    /// The program; `tgid` 0: nothing is here.
    tgid: u32,
    exec_id: u32,
    epoch: u32,
    uses: u32,
    len: u32,
    bytes: u32,
    values: [u64; MAX_WORDS],
    offsets: [u16; MAX_WORDS],
}

/// Looks for the user stack of the current thread, which is about to be walked from these registers by the
/// tables of this generation. Returns its id; 0 where it is not remembered.
#[inline(always)]
pub fn recall(
    scratch: *mut Scratch,
    program: Program,
    registers: &UserRegisters,
    generation: u32,
) -> u64 {
    if !arch::REMEMBERS || cfg!(no_loop) || REMEMBER.load() == 0 {
        return 0;
    }
    let slot = slot(registers.ip ^ registers.sp.rotate_left(20));
    // SAFETY: see `Scratch`. The walk is about to begin.
    let index = unsafe {
        let walk = &mut (*scratch).walk;
        walk.pc = registers.ip;
        walk.sp = registers.sp;
        walk.fp = registers.fp;
        walk.other = registers.other;
        walk.di = registers.di;
        walk.is_return = registers.in_syscall as u32;
        (*scratch).index
    };
    offwake_recall_user(index, slot, program.tgid, program.exec_id, generation)
}

/// See [`recall`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_recall_user(
    index: u32,
    slot: u32,
    tgid: u32,
    exec_id: u32,
    generation: u32,
) -> u64 {
    let Some(recall) = RECALL.get_ptr_mut(index) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    let Some(memory) = REMEMBERED_USER.get_ptr(slot) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (recall, walk, memory) = unsafe { (&mut *recall, &(*scratch).walk, &*memory) };
    recall.slot = slot;
    recall.is_old = u32::from(memory.epoch != epoch());
    let unless_used = |used: u32| u64::from(memory.uses & used != 0).wrapping_neg();
    let difference = u64::from(memory.tgid ^ tgid)
        | u64::from(memory.exec_id ^ exec_id)
        | u64::from(memory.generation ^ generation)
        | u64::from(memory.is_return ^ walk.is_return)
        | memory.ip ^ walk.pc
        | memory.sp ^ walk.sp
        | (memory.fp ^ walk.fp) & unless_used(USES_FP)
        | (memory.other ^ walk.other) & unless_used(USES_OTHER)
        | (memory.di ^ walk.di) & unless_used(USES_DI);
    if difference != 0 {
        return 0;
    }
    // A mask that the verifier understands.
    let bytes = black_box(memory.bytes) & (8 * MAX_SPAN as u32 - 8);
    // SAFETY: the helper checks the address, and writes less than there is room for.
    let error =
        unsafe { bpf_probe_read_user((&raw mut recall.words).cast(), bytes, walk.sp as *const _) };
    if error != 0 {
        return 0;
    }
    let len = memory.len as usize;
    let mut difference = 0;
    for i in 0..MAX_WORDS {
        if i >= len {
            break;
        }
        let word = recall.words[usize::from(memory.offsets[i] >> 3) & (MAX_SPAN - 1)];
        difference |= word ^ memory.values[i];
    }
    if difference == 0 { memory.id } else { 0 }
}

/// Remembers the stack in the scratch memory, which has this id and was looked for before, with the trail of its
/// walk.
#[inline(always)]
pub fn learn(scratch: *mut Scratch, registers: &UserRegisters, id: u64) {
    if !arch::REMEMBERS || cfg!(no_loop) || REMEMBER.load() == 0 {
        return;
    }
    // SAFETY: see `Scratch`.
    let (walk, end) = unsafe { (&(*scratch).walk, (*scratch).stack.end) };
    // User space is told of a walk by tables that ended elsewhere each time.
    if walk.trail.is_lost != 0
        || id == 0
        || walk.program.generation != 0 && end != StackEnd::Complete as u16
    {
        return;
    }
    // SAFETY: as above.
    let index = unsafe { (*scratch).index };
    offwake_learn_user(index, id, registers.fp, registers.other, registers.ip);
}

/// See [`learn`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_learn_user(index: u32, id: u64, fp: u64, other: u64, ip: u64) -> u32 {
    let Some(recall) = RECALL.get_ptr(index) else { return 0 };
    let Some(scratch) = SCRATCH.get_ptr(index) else { return 0 };
    // SAFETY: this CPU's values, which no other program uses now.
    let (slot, walk, stack) = unsafe { ((*recall).slot, &(*scratch).walk, &(*scratch).stack) };
    let Some(memory) = REMEMBERED_USER.get_ptr_mut(slot) else { return 0 };
    // SAFETY: as above.
    let memory = unsafe { &mut *memory };
    let trail = &walk.trail;
    let len = trail.len as usize;
    for i in 0..MAX_WORDS {
        if i >= len {
            break;
        }
        memory.values[i] = trail.values[i];
        memory.offsets[i] = trail.offsets[i];
    }
    memory.id = id;
    memory.ip = ip;
    memory.sp = trail.sp;
    memory.fp = fp;
    memory.other = other;
    memory.di = walk.di;
    memory.is_return = walk.started_in_syscall;
    memory.generation = walk.program.generation;
    memory.tgid = stack.tgid;
    memory.exec_id = stack.exec_id;
    memory.epoch = epoch();
    memory.uses = trail.uses;
    memory.len = trail.len;
    memory.bytes = trail.bytes;
    1
}
