//! aarch64.
//!
//! A call leaves the return address in `lr`. A function that calls others saves `x29`, the frame pointer,
//! and `lr` next to each other anywhere in its frame, and has `x29` point there: the frame record of the
//! procedure call standard (AAPCS64, 6.4.6). One that calls none may leave both where they are.

use offwake_shared::{CfaKind, SavedKind, StackEnd, UnwindRule, UserRegisters};

use crate::maps::{REGS_ARGUMENT_0, constants};
use crate::memory::read_at;
use crate::source::Call;
use crate::unwind::{Step, Walk, read, read_word, saved_at, unreadable};

constants! {
    /// Byte offset in `pt_regs` of `x29`; `lr` follows.
    REGS_FP: u32 = 0;
    /// Byte offset in `pt_regs` of the stack pointer.
    REGS_SP: u32 = 0;
    /// Byte offset in `pt_regs` of the program counter.
    REGS_PC: u32 = 0;
    /// Byte offset in `pt_regs` of the processor state.
    REGS_PSTATE: u32 = 0;
    /// Byte offset in `pt_regs` of the number of the system call, 32 bits, -1 in none.
    REGS_SYSCALL: u32 = 0;
    /// The bits of a pointer that are an address of a program. In those above, code signs its return
    /// addresses (pointer authentication).
    ADDRESS_MASK: u64 = 0;
}

/// Numbers of system calls (include/uapi/asm-generic/unistd.h).
pub mod syscall {
    pub const EPOLL_CTL: u32 = 21;
    pub const EPOLL_PWAIT: u32 = 22;
    /// There is none: `epoll_pwait` does.
    pub const EPOLL_WAIT: u32 = EPOLL_PWAIT;
    pub const CLOSE: u32 = 57;
    pub const READ: u32 = 63;
    pub const WRITE: u32 = 64;
    pub const READV: u32 = 65;
    pub const WRITEV: u32 = 66;
    pub const ACCEPT: u32 = 202;
    pub const SENDTO: u32 = 206;
    pub const RECVFROM: u32 = 207;
    pub const SENDMSG: u32 = 211;
    pub const RECVMSG: u32 = 212;
    pub const ACCEPT4: u32 = 242;
    pub const EPOLL_PWAIT2: u32 = 441;
}

/// Bytes of `struct epoll_event`, which is not packed (include/uapi/linux/eventpoll.h), and where its `data` is.
pub const EPOLL_EVENT: (u64, u64) = (16, 8);

/// How many frames the kernel's unwinder finds twice where a tracepoint is: it begins with a return address and the frame
/// record that has the same one (`perf_arch_fetch_caller_regs` in arch/arm64/include/asm/perf_event.h, 5.10 to 6.18).
pub const FOUND_TWICE: u64 = 1;

/// How many words are read at once: those of a signal's frame.
pub const WORDS: usize = 4;

/// Bytes around an address in `lr` that are taken for the same function.
const NEAR: u64 = 1024;

/// The registers in its program of a thread whose `pt_regs` these are. `register`: 8 bytes at an offset;
/// `half`: 4 bytes. The verifier reads `pt_regs` by its members, and takes no more than one at once.
#[inline(always)]
pub fn user_registers(register: impl Fn(u32) -> u64, half: impl Fn(u32) -> i32) -> UserRegisters {
    let syscall = half(REGS_SYSCALL.load());
    // `PSR_MODE_EL0t` (`user_mode` in arch/arm64/include/asm/ptrace.h). A worker of the kernel that shares
    // the memory of a process was never in a program, nor does it return to one.
    let is_user = register(REGS_PSTATE.load()) & 0xf == 0;
    UserRegisters {
        ip: if is_user { register(REGS_PC.load()) } else { 0 },
        sp: register(REGS_SP.load()),
        fp: register(REGS_FP.load()),
        other: register(REGS_FP.load() + 8),
        argument: register(REGS_ARGUMENT_0.load()),
        in_syscall: u64::from(syscall >= 0),
    }
}

/// The address of the instruction that a thread with these registers is at.
#[inline(always)]
pub fn address(registers: u64) -> u64 {
    read_at(registers, &REGS_PC)
}

/// The system call that a thread with these `pt_regs` is in.
#[inline(always)]
pub fn call(registers: u64) -> Call {
    /// `PSR_MODE32_BIT`: code of 32 bits, which has other numbers.
    const MODE_32: u64 = 0x10;
    let number: u32 = read_at(registers, &REGS_SYSCALL);
    if read_at::<u64>(registers, &REGS_PSTATE) & (MODE_32 | 0xf) != 0 {
        return Call::Other;
    }
    // include/uapi/asm-generic/unistd.h
    match number {
        // epoll_pwait, epoll_pwait2
        22 | 441 => Call::Epoll,
        // pselect6, ppoll
        72 | 73 => Call::Poll,
        // read, write, readv, writev, accept, connect, sendto, recvfrom, sendmsg, recvmsg, accept4,
        // recvmmsg, sendmmsg
        63..=66 | 202 | 203 | 206 | 207 | 211 | 212 | 242 | 243 | 269 => Call::Descriptor,
        98 => Call::Futex,
        455 => Call::FutexWait,
        _ => Call::Other,
    }
}

/// The innermost frames of a kernel function that has just been called with these `pt_regs`: the function, as if its
/// first instruction had called the next frame, and its caller. That one is in `lr`, where the kernel's unwinder, which goes
/// by frame records, does not look (`perf_callchain_kernel` of arch/arm64, 5.10 to 6.18).
#[inline(always)]
pub fn entry(registers: u64) -> Option<[u64; 2]> {
    const INSTRUCTION: u64 = 4;
    let function = read_at::<u64>(registers, &REGS_PC).wrapping_add(INSTRUCTION);
    Some([function, read_at(registers.wrapping_add(8), &REGS_FP)])
}

/// A return address without its signature.
#[inline(always)]
pub fn code_address(return_address: u64) -> u64 {
    return_address & ADDRESS_MASK.load()
}

/// The registers of the caller, by a rule that finds its frame on the same stack. `is_innermost`: the
/// frame is where the thread stands.
#[inline(always)]
pub fn of_caller(walk: &mut Walk, rule: &UnwindRule, is_innermost: bool) -> Step {
    let is_frame_saved = rule.fp_kind == SavedKind::AtCfa as u8;
    let frame = i64::from(rule.fp_offset) as u64;
    if rule.fp_kind == SavedKind::AtFp as u8 || rule.other_kind == SavedKind::AtFp as u8 {
        walk.used.fp(walk.fp);
    }
    let cfa = if rule.cfa_kind == CfaKind::Fp as u8 {
        walk.used.fp(walk.fp);
        walk.fp.wrapping_add(i64::from(rule.cfa_offset) as u64)
    } else if rule.cfa_kind != CfaKind::Sp as u8 {
        return Step::End(StackEnd::Unsupported);
    } else if walk.is_guess == 0 {
        walk.sp.wrapping_add(i64::from(rule.cfa_offset) as u64)
    } else if is_frame_saved {
        // The frame pointer led here, and of the stack pointer nothing is known: but the frame pointer
        // is where this function saved that of its caller.
        walk.used.fp(walk.fp);
        walk.fp.wrapping_sub(frame)
    } else {
        return by_frame_pointer(walk, is_innermost);
    };
    // Nothing ran since: all registers are known.
    let is_exact = is_innermost || walk.is_return == 0;
    // The stack grows down, and the frame of every caller of a caller lies above.
    if cfa < walk.sp || (cfa == walk.sp && !is_exact) {
        return Step::End(StackEnd::Astray);
    }
    if rule.other_kind == SavedKind::Same as u8 {
        // A caller has left another address in `lr`.
        if !is_exact {
            return Step::End(StackEnd::Astray);
        }
        let Some(fp) = saved(walk, rule.fp_kind, rule.fp_offset, walk.fp, cfa) else {
            return unreadable(walk);
        };
        walk.used.other(walk.other);
        walk.used.fp_at(saved_at(walk, rule.fp_kind, rule.fp_offset, cfa));
        return go_to(walk, walk.other, cfa, fp, 0);
    }
    let is_record = is_frame_saved
        && rule.other_kind == SavedKind::AtCfa as u8
        && rule.other_offset.wrapping_sub(rule.fp_offset) == 8;
    if is_record {
        let record = cfa.wrapping_add(frame);
        if !read::<2>(walk, record) {
            return unreadable(walk);
        }
        walk.used.word(record.wrapping_add(8), walk.words[1]);
        walk.used.fp_at(Some(record));
        return go_to(walk, walk.words[1], cfa, walk.words[0], 0);
    }
    let fp = saved(walk, rule.fp_kind, rule.fp_offset, walk.fp, cfa);
    let return_address = saved(walk, rule.other_kind, rule.other_offset, 0, cfa);
    let (Some(fp), Some(return_address)) = (fp, return_address) else {
        return unreadable(walk);
    };
    if rule.other_kind != SavedKind::Lost as u8
        && let Some(at) = saved_at(walk, rule.other_kind, rule.other_offset, cfa)
    {
        walk.used.word(at, return_address);
    }
    walk.used.fp_at(saved_at(walk, rule.fp_kind, rule.fp_offset, cfa));
    go_to(walk, return_address, cfa, fp, 0)
}

/// The registers of the caller, by the frame pointer. `is_innermost`: the frame is where the thread
/// stands, and may be a function that has set up none.
///
/// Then its caller is in `lr`, and the frame record is that of the caller. A function that has set one up
/// and called another has left an address of its own in `lr`: that is no caller.
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
    walk.used.word(fp, walk.words[0]);
    walk.used.word(fp.wrapping_add(8), walk.words[1]);
    let [next, return_address] = [walk.words[0], code_address(walk.words[1])];
    if is_innermost || walk.is_return == 0 {
        walk.used.other(walk.other);
        let caller = code_address(walk.other);
        let is_near = caller.wrapping_sub(walk.pc).wrapping_add(NEAR) <= 2 * NEAR;
        if caller != 0 && caller != return_address && !is_near {
            return go_to(walk, caller, walk.sp, fp, 1);
        }
    }
    // The outermost frame has neither; anything else is no frame.
    if return_address == 0 && next != 0 {
        return Step::End(StackEnd::Astray);
    }
    // The caller's stack pointer is somewhere above.
    go_to(walk, return_address, fp.wrapping_add(16), next, 1)
}

/// The registers that a signal interrupted: the stack pointer is at the frame that the kernel made for its
/// handler (`struct rt_sigframe` in arch/arm64/kernel/signal.c, the same from 5.10 to 6.18). It may lead to
/// another stack.
#[inline(always)]
pub fn before_signal(walk: &mut Walk) -> Step {
    /// Behind the `siginfo` and up to `uc_mcontext` of the `ucontext`, that is `regs[29]`; lr, sp and pc follow.
    const FP: u64 = 128 + 176 + 8 + 8 * 29;
    walk.used.uncertain();
    if !read::<WORDS>(walk, walk.sp.wrapping_add(FP)) {
        return Step::End(StackEnd::Unreadable);
    }
    walk.fp = walk.words[0];
    walk.other = walk.words[1];
    walk.sp = walk.words[2];
    walk.pc = walk.words[3];
    walk.is_return = 0;
    walk.is_guess = 0;
    Step::GoOn
}

#[inline(always)]
fn go_to(walk: &mut Walk, return_address: u64, sp: u64, fp: u64, is_guess: u32) -> Step {
    let return_address = code_address(return_address);
    if return_address == 0 {
        return Step::End(StackEnd::Complete);
    }
    walk.pc = return_address;
    walk.sp = sp;
    walk.fp = fp;
    walk.is_return = 1;
    walk.is_guess = is_guess;
    Step::GoOn
}

/// A register that the caller has, and that has the value `now` in this frame.
#[inline(always)]
fn saved(walk: &Walk, kind: u8, offset: i32, now: u64, cfa: u64) -> Option<u64> {
    if kind == SavedKind::Same as u8 {
        return Some(now);
    }
    if kind == SavedKind::Lost as u8 {
        return Some(0);
    }
    let from = if kind == SavedKind::AtCfa as u8 { cfa } else { walk.fp };
    read_word(from.wrapping_add(i64::from(offset) as u64))
}
