//! x86-64.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use offwake_shared::{CfaKind, SavedKind, StackEnd, UnwindRule, UserRegisters};

use crate::maps::{REGS_ARGUMENT_0, constants};
use crate::memory::read_at;
use crate::source::Call;
use crate::unwind::{Step, Walk, read, read_word, saved_at, unreadable};

constants! {
    /// Byte offset in `pt_regs` of the instruction pointer.
    REGS_IP: u32 = 0;
    /// Byte offset in `pt_regs` of the stack pointer.
    REGS_SP: u32 = 0;
    /// Byte offset in `pt_regs` of the frame pointer.
    REGS_FP: u32 = 0;
    /// Byte offset in `pt_regs` of `rbx`.
    REGS_BX: u32 = 0;
    /// Byte offset in `pt_regs` of the number of the system call, -1 in none.
    REGS_SYSCALL: u32 = 0;
    /// Byte offset in `pt_regs` of the code segment.
    REGS_CS: u32 = 0;
}

/// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
pub mod syscall {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const CLOSE: u32 = 3;
    pub const READV: u32 = 19;
    pub const WRITEV: u32 = 20;
    pub const ACCEPT: u32 = 43;
    pub const SENDTO: u32 = 44;
    pub const RECVFROM: u32 = 45;
    pub const SENDMSG: u32 = 46;
    pub const RECVMSG: u32 = 47;
    pub const EPOLL_WAIT: u32 = 232;
    pub const EPOLL_CTL: u32 = 233;
    pub const EPOLL_PWAIT: u32 = 281;
    pub const ACCEPT4: u32 = 288;
    pub const EPOLL_PWAIT2: u32 = 441;
}

/// Bytes of `struct epoll_event`, which is packed here (include/uapi/linux/eventpoll.h), and where its `data` is.
pub const EPOLL_EVENT: (u64, u64) = (12, 4);

/// How many frames the kernel's unwinder finds twice where a tracepoint is.
pub const FOUND_TWICE: u64 = 0;

/// How many words are read below the caller's frame at once: the return address, and what the function
/// pushed behind it. All six registers that it must save fit.
pub const WORDS: usize = 8;

/// Bytes of [`WORDS`].
const SPAN: u64 = 8 * WORDS as u64;

/// The registers in its program of a thread whose `pt_regs` these are. `read`: 8 bytes at an offset.
/// None has 4.
#[inline(always)]
pub fn user_registers(read: impl Fn(u32) -> u64, _: impl Fn(u32) -> i32) -> UserRegisters {
    let register = |offset: &Global<u32>| read(offset.load());
    // The lowest bits are the privilege level. A worker of the kernel that shares the memory
    // of a process was never in a program, nor does it return to one.
    let is_user = register(&REGS_CS) & 3 == 3;
    UserRegisters {
        ip: if is_user { register(&REGS_IP) } else { 0 },
        sp: register(&REGS_SP),
        fp: register(&REGS_FP),
        other: register(&REGS_BX),
        argument: register(&REGS_ARGUMENT_0),
        in_syscall: u64::from(register(&REGS_SYSCALL) as i64 >= 0),
    }
}

/// The address of the instruction that a thread with these registers is at.
#[inline(always)]
pub fn address(registers: u64) -> u64 {
    read_at(registers, &REGS_IP)
}

/// The system call that a thread with these `pt_regs` is in.
#[inline(always)]
pub fn call(registers: u64) -> Call {
    /// Code of 64 bits (`__USER_CS`): other code has other numbers, and x32 a bit more in its.
    const USER_CS: u64 = 0x33;
    let number: u64 = read_at(registers, &REGS_SYSCALL);
    if read_at::<u64>(registers, &REGS_CS) != USER_CS {
        return Call::Other;
    }
    // arch/x86/entry/syscalls/syscall_64.tbl
    match number {
        // epoll_wait, epoll_pwait, epoll_pwait2
        232 | 281 | 441 => Call::Epoll,
        // poll, select, pselect6, ppoll
        7 | 23 | 270 | 271 => Call::Poll,
        // read, write, readv, writev, connect, accept, sendto, recvfrom, sendmsg, recvmsg, accept4,
        // recvmmsg, sendmmsg
        0 | 1 | 19 | 20 | 42..=47 | 288 | 299 | 307 => Call::Descriptor,
        202 => Call::Futex,
        455 => Call::FutexWait,
        _ => Call::Other,
    }
}

/// The innermost frames of a kernel function that has just been called with these `pt_regs`, where the kernel's unwinder
/// misses one: it does not.
#[inline(always)]
pub const fn entry(_: u64) -> Option<[u64; 2]> {
    None
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
        walk.used.uncertain();
        let sp = walk.sp.wrapping_add(offset);
        return go_to(walk, walk.argument, sp, walk.fp, walk.other, 0);
    }
    let uses_fp = kind == CfaKind::Fp as u8
        || kind == CfaKind::FpDeref as u8
        || rule.fp_kind == SavedKind::AtFp as u8
        || rule.other_kind == SavedKind::AtFp as u8;
    if uses_fp {
        walk.used.fp(walk.fp);
    }
    if kind == CfaKind::Other as u8 {
        walk.used.other(walk.other);
    }
    let cfa = if kind == CfaKind::Sp as u8 {
        walk.sp.wrapping_add(offset)
    } else if kind == CfaKind::Fp as u8 {
        walk.fp.wrapping_add(offset)
    } else if kind == CfaKind::Other as u8 {
        walk.other.wrapping_add(offset)
    } else if kind == CfaKind::Plt as u8 {
        let byte = walk.pc.wrapping_sub(u64::from(walk.is_return)) & 15;
        walk.sp.wrapping_add(if byte >= offset { 16 } else { 8 })
    } else if kind == CfaKind::SpDeref as u8 || kind == CfaKind::FpDeref as u8 {
        let from = if kind == CfaKind::SpDeref as u8 { walk.sp } else { walk.fp };
        if !read::<1>(walk, from.wrapping_add(offset)) {
            return unreadable(walk);
        }
        walk.used.word(from.wrapping_add(offset), walk.words[0]);
        walk.words[0].wrapping_add(i64::from(rule.cfa_add) as u64)
    } else {
        return Step::End(StackEnd::Unsupported);
    };
    // The stack grows down, and every caller's frame lies above.
    if cfa <= walk.sp {
        return Step::End(StackEnd::Astray);
    }
    // Below the frame of the innermost function there may be no memory: then one by one.
    let at_once = read::<WORDS>(walk, cfa.wrapping_sub(SPAN));
    if !at_once && !read_last(walk, cfa.wrapping_sub(8)) {
        return unreadable(walk);
    }
    let return_address = walk.words[WORDS - 1];
    walk.used.word(cfa.wrapping_sub(8), return_address);
    let fp_at = saved_at(walk, rule.fp_kind, rule.fp_offset, cfa);
    let other_at = saved_at(walk, rule.other_kind, rule.other_offset, cfa);
    let fp = saved(walk, rule.fp_kind, rule.fp_offset, walk.fp, cfa, at_once);
    let other = saved(walk, rule.other_kind, rule.other_offset, walk.other, cfa, at_once);
    let (Some(fp), Some(other)) = (fp, other) else { return unreadable(walk) };
    walk.used.fp_at(fp_at);
    walk.used.other_at(other_at);
    go_to(walk, return_address, cfa, fp, other, 0)
}

/// The registers of the caller, by the frame pointer. `is_innermost`: the frame is where the thread
/// stands, and may be a function that has set up none.
#[inline(always)]
pub fn by_frame_pointer(walk: &mut Walk, is_innermost: bool) -> Step {
    let fp = walk.fp;
    walk.used.fp(fp);
    if fp == 0 {
        return Step::End(if is_innermost { StackEnd::Astray } else { StackEnd::Complete });
    }
    if fp < walk.sp {
        return Step::End(StackEnd::Astray);
    }
    if !read::<2>(walk, fp) {
        walk.used.uncertain();
        return Step::End(StackEnd::Astray);
    }
    let [next, return_address] = [walk.words[0], walk.words[1]];
    walk.used.word(fp, next);
    walk.used.word(fp.wrapping_add(8), return_address);
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
    walk.used.uncertain();
    if !read::<7>(walk, walk.sp.wrapping_add(RBP)) {
        return Step::End(StackEnd::Unreadable);
    }
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
