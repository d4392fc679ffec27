//! x86-64.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use offwake_shared::{CfaKind, SavedKind, StackEnd, UnwindRule, UserRegisters};

use crate::maps::constants;
use crate::remember::trail::{Origin, USES_DI};
use crate::unwind::{Step, Walk, read, read_word};

constants! {
    /// Byte offset in `pt_regs` of the instruction pointer.
    REGS_IP: u32 = 0;
    /// Byte offset in `pt_regs` of the stack pointer.
    REGS_SP: u32 = 0;
    /// Byte offset in `pt_regs` of the frame pointer.
    REGS_FP: u32 = 0;
    /// Byte offset in `pt_regs` of `rbx`.
    REGS_BX: u32 = 0;
    /// Byte offset in `pt_regs` of `rdi`.
    REGS_DI: u32 = 0;
    /// Byte offset in `pt_regs` of the number of the system call, -1 in none.
    REGS_SYSCALL: u32 = 0;
    /// Byte offset in `pt_regs` of the code segment.
    REGS_CS: u32 = 0;
}

/// How many words are read below the caller's frame at once: the return address, and what the function
/// pushed behind it. All six registers that it must save fit.
pub const WORDS: usize = 8;

/// Whether walks leave a trail (`crate::remember::trail`).
pub const REMEMBERS: bool = true;

/// Bytes of [`WORDS`].
const SPAN: u64 = 8 * WORDS as u64;

/// The registers in its program of a thread whose `pt_regs` these are. `read`: 8 bytes at an offset.
#[inline(always)]
pub fn user_registers(read: impl Fn(u32) -> u64) -> UserRegisters {
    let register = |offset: &Global<u32>| read(offset.load());
    // The lowest bits are the privilege level. A worker of the kernel that shares the memory
    // of a process was never in a program, nor does it return to one.
    let is_user = register(&REGS_CS) & 3 == 3;
    UserRegisters {
        ip: if is_user { register(&REGS_IP) } else { 0 },
        sp: register(&REGS_SP),
        fp: register(&REGS_FP),
        other: register(&REGS_BX),
        di: register(&REGS_DI),
        in_syscall: u64::from(register(&REGS_SYSCALL) as i64 >= 0),
    }
}

/// All of a return address is the address.
#[inline(always)]
pub const fn code_address(return_address: u64) -> u64 {
    return_address
}

/// The registers of the caller, by a rule that finds its frame on the same stack. `is_innermost`: the
/// frame is where the thread stands.
#[inline(always)]
pub fn of_caller(walk: &mut Walk, rule: &UnwindRule, is_innermost: bool) -> Step {
    let offset = i64::from(rule.cfa_offset) as u64;
    let kind = rule.cfa_kind;
    if kind == CfaKind::ReturnInDi as u8 && is_innermost {
        let sp = walk.sp.wrapping_add(offset);
        walk.trail.uses |= USES_DI;
        return go_to(walk, walk.di, sp, walk.fp, walk.other, 0);
    }
    let by_fp = kind == CfaKind::Fp as u8
        || kind == CfaKind::FpDeref as u8
        || rule.fp_kind == SavedKind::AtFp as u8
        || rule.other_kind == SavedKind::AtFp as u8;
    if by_fp {
        walk.trail.uses_fp(walk.fp);
    }
    let cfa = if kind == CfaKind::Sp as u8 {
        walk.sp.wrapping_add(offset)
    } else if kind == CfaKind::Fp as u8 {
        walk.fp.wrapping_add(offset)
    } else if kind == CfaKind::Other as u8 {
        walk.trail.uses_other(walk.other);
        walk.other.wrapping_add(offset)
    } else if kind == CfaKind::Plt as u8 {
        let byte = walk.pc.wrapping_sub(u64::from(walk.is_return)) & 15;
        walk.sp.wrapping_add(if byte >= offset { 16 } else { 8 })
    } else if kind == CfaKind::SpDeref as u8 || kind == CfaKind::FpDeref as u8 {
        let from = if kind == CfaKind::SpDeref as u8 { walk.sp } else { walk.fp };
        let from = from.wrapping_add(offset);
        if !read(walk, from, 8) {
            walk.trail.is_lost = 1;
            return Step::End(StackEnd::Unreadable);
        }
        walk.trail.uses_word(from, walk.words[0]);
        walk.words[0].wrapping_add(i64::from(rule.cfa_add) as u64)
    } else {
        return Step::End(StackEnd::Unsupported);
    };
    // The stack grows down, and every caller's frame lies above.
    if cfa <= walk.sp {
        return Step::End(StackEnd::Astray);
    }
    // Below the frame of the innermost function there may be no memory: then one by one.
    let at_once = read(walk, cfa.wrapping_sub(SPAN), SPAN as u32);
    if !at_once && !read_last(walk, cfa.wrapping_sub(8)) {
        walk.trail.is_lost = 1;
        return Step::End(StackEnd::Unreadable);
    }
    let return_address = walk.words[WORDS - 1];
    walk.trail.uses_word(cfa.wrapping_sub(8), return_address);
    let fp = saved(walk, rule.fp_kind, rule.fp_offset, walk.fp, cfa, at_once);
    let other = saved(walk, rule.other_kind, rule.other_offset, walk.other, cfa, at_once);
    let (Some(fp), Some(other)) = (fp, other) else {
        walk.trail.is_lost = 1;
        return Step::End(StackEnd::Unreadable);
    };
    walk.trail.fp = origin(walk, rule.fp_kind, rule.fp_offset, walk.trail.fp, cfa);
    walk.trail.other = origin(walk, rule.other_kind, rule.other_offset, walk.trail.other, cfa);
    go_to(walk, return_address, cfa, fp, other, 0)
}

/// The registers of the caller, by the frame pointer. `is_innermost`: the frame is where the thread
/// stands, and may be a function that has set up none.
#[inline(always)]
pub fn by_frame_pointer(walk: &mut Walk, is_innermost: bool) -> Step {
    let fp = walk.fp;
    walk.trail.uses_fp(fp);
    if fp == 0 {
        return Step::End(if is_innermost { StackEnd::Astray } else { StackEnd::Complete });
    }
    if fp < walk.sp {
        return Step::End(StackEnd::Astray);
    }
    if !read(walk, fp, 16) {
        walk.trail.is_lost = 1;
        return Step::End(StackEnd::Astray);
    }
    let [next, return_address] = [walk.words[0], walk.words[1]];
    walk.trail.uses_word(fp.wrapping_add(8), return_address);
    walk.trail.fp = Origin::word(fp);
    if return_address == 0 {
        walk.trail.uses_fp(next);
    }
    // The outermost frame has neither; anything else is no frame.
    if return_address == 0 && next != 0 {
        return Step::End(StackEnd::Astray);
    }
    // The frame pointer is all that is known. A function that keeps it keeps `rbx` as well as not.
    go_to(walk, return_address, fp.wrapping_add(16), next, walk.other, 1)
}

/// The registers that a signal interrupted: the stack pointer is at the `ucontext` of its handler
/// (`struct rt_sigframe` in arch/x86/include/asm/sigframe.h, the same from 5.10 to 6.18). It may lead to
/// another stack.
#[inline(always)]
pub fn before_signal(walk: &mut Walk) -> Step {
    /// Of `uc_mcontext.gregs[REG_RBP]`; rbx, rdx, rax, rcx, rsp and rip follow.
    const RBP: u64 = 40 + 8 * 10;
    let at = walk.sp.wrapping_add(RBP);
    if !read(walk, at, 8 * 7) {
        walk.trail.is_lost = 1;
        return Step::End(StackEnd::Unreadable);
    }
    walk.trail.uses_word(at.wrapping_add(8 * 5), walk.words[5]);
    walk.trail.uses_word(at.wrapping_add(8 * 6), walk.words[6]);
    walk.trail.fp = Origin::word(at);
    walk.trail.other = Origin::word(at.wrapping_add(8));
    walk.fp = walk.words[0];
    walk.other = walk.words[1];
    walk.sp = walk.words[5];
    walk.pc = walk.words[6];
    walk.is_return = 0;
    walk.is_guess = 0;
    Step::GoOn
}

#[inline(always)]
fn go_to(
    walk: &mut Walk,
    return_address: u64,
    sp: u64,
    fp: u64,
    other: u64,
    is_guess: u32,
) -> Step {
    if return_address == 0 {
        return Step::End(StackEnd::Complete);
    }
    walk.pc = return_address;
    walk.sp = sp;
    walk.fp = fp;
    walk.other = other;
    walk.is_return = 1;
    walk.is_guess = is_guess;
    Step::GoOn
}

/// Where the value of a register that the caller has is from, which is from `now` in this frame.
#[inline(always)]
fn origin(walk: &Walk, kind: u8, offset: i32, now: Origin, cfa: u64) -> Origin {
    if kind == SavedKind::Same as u8 {
        return now;
    }
    if kind == SavedKind::Lost as u8 {
        return Origin::CONSTANT;
    }
    let from = if kind == SavedKind::AtCfa as u8 { cfa } else { walk.fp };
    Origin::word(from.wrapping_add(i64::from(offset) as u64))
}

/// A register that the caller has, and that has the value `now` in this frame. `at_once`: the words below
/// the CFA were read.
#[inline(always)]
fn saved(walk: &mut Walk, kind: u8, offset: i32, now: u64, cfa: u64, at_once: bool) -> Option<u64> {
    if kind == SavedKind::Same as u8 {
        return Some(now);
    }
    if kind == SavedKind::Lost as u8 {
        return Some(0);
    }
    let is_at_cfa = kind == SavedKind::AtCfa as u8;
    let in_span = (offset as u32).wrapping_add(SPAN as u32);
    if is_at_cfa && at_once && in_span < SPAN as u32 && in_span & 7 == 0 {
        // The verifier does not see that the conditions bound it; a mask does, if it is there.
        let word = black_box((in_span >> 3) as usize);
        return Some(walk.words[word & (WORDS - 1)]);
    }
    let from = if is_at_cfa { cfa } else { walk.fp };
    read_word(from.wrapping_add(i64::from(offset) as u64))
}

/// Reads a word into the last one.
#[inline(always)]
fn read_last(walk: &mut Walk, address: u64) -> bool {
    // SAFETY: the helper checks the address, and writes the 8 bytes of one word.
    let error = unsafe {
        let word = walk.words.as_mut_ptr().add(WORDS - 1).cast::<c_void>();
        bpf_probe_read_user(word, 8, address as *const c_void)
    };
    error == 0
}
