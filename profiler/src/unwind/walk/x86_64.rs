//! Steps on x86-64.

use offwake_shared::{CfaKind, StackEnd, UnwindRule};

use super::{FoundBy, Frame, Registers, Step, plus, saved, word};

/// By a rule that finds the caller's frame on the same stack.
pub(super) fn of_caller(
    frame: &Frame,
    rule: &UnwindRule,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    let at = &frame.at;
    let cfa = match rule.cfa_kind {
        SP => plus(at.sp, rule.cfa_offset),
        FP => plus(at.fp, rule.cfa_offset),
        OTHER => plus(at.other, rule.cfa_offset),
        SP_DEREF => plus(word(plus(at.sp, rule.cfa_offset), read)?, rule.cfa_add),
        FP_DEREF => plus(word(plus(at.fp, rule.cfa_offset), read)?, rule.cfa_add),
        PLT => {
            let is_pushed = (frame.address & 15) as i64 >= rule.cfa_offset.into();
            at.sp.wrapping_add(if is_pushed { 16 } else { 8 })
        }
        RETURN_IN_DI if frame.is_innermost => {
            let next =
                Registers { pc: at.di, sp: plus(at.sp, rule.cfa_offset), in_syscall: false, ..*at };
            return if at.di == 0 { Err(StackEnd::Complete) } else { Ok((next, FoundBy::Return)) };
        }
        _ => return Err(StackEnd::Unsupported),
    };
    // Else a walk may have no end.
    if cfa <= at.sp {
        return Err(StackEnd::Astray);
    }
    let pc = word(cfa.wrapping_sub(8), read)?;
    if pc == 0 {
        return Err(StackEnd::Complete);
    }
    let fp = saved(rule.fp_kind, rule.fp_offset, at.fp, cfa, at.fp, read)?;
    let other = saved(rule.other_kind, rule.other_offset, at.other, cfa, at.fp, read)?;
    Ok((Registers { pc, sp: cfa, fp, other, in_syscall: false, ..*at }, FoundBy::Return))
}

/// Without call frame information: the frame pointer is to point at that of the caller, and
/// the return address to be behind it.
pub(super) fn by_frame_pointer(
    frame: &Frame,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    let at = &frame.at;
    if at.fp == 0 {
        // Where the thread stands may be a function that has set up no frame.
        return Err(if frame.is_innermost { StackEnd::Astray } else { StackEnd::Complete });
    }
    let mut words = [0; 2];
    if at.fp < at.sp || !read(at.fp, &mut words) {
        return Err(StackEnd::Astray);
    }
    let [fp, pc] = words;
    if pc == 0 {
        // The outermost frame has neither; anything else is no frame.
        return Err(if fp == 0 { StackEnd::Complete } else { StackEnd::Astray });
    }
    // Nothing says that `rbx` is the same, nor that it is not.
    let next = Registers { pc, sp: at.fp.wrapping_add(16), fp, in_syscall: false, ..*at };
    Ok((next, FoundBy::FramePointer))
}

/// Out of a signal handler. The stack pointer is at the `ucontext` of the frame that the
/// kernel made (`struct rt_sigframe`, arch/x86/include/asm/sigframe.h): the handler's return has
/// taken the address before it.
pub(super) fn before_signal(
    at: &Registers,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    /// Behind flags, link, and the alternate stack.
    const MCONTEXT: u64 = 40;
    /// `rbp` is the eleventh register there; from it to `rip` there are seven.
    const RBP: u64 = 10;
    let mut words = [0; 7];
    if !read(at.sp.wrapping_add(MCONTEXT + RBP * 8), &mut words) {
        return Err(StackEnd::Unreadable);
    }
    let [fp, other, _rdx, _rax, _rcx, sp, pc] = words;
    Ok((Registers { pc, sp, fp, other, in_syscall: false, ..*at }, FoundBy::Signal))
}

const SP: u8 = CfaKind::Sp as u8;
const FP: u8 = CfaKind::Fp as u8;
const OTHER: u8 = CfaKind::Other as u8;
const SP_DEREF: u8 = CfaKind::SpDeref as u8;
const FP_DEREF: u8 = CfaKind::FpDeref as u8;
const PLT: u8 = CfaKind::Plt as u8;
const RETURN_IN_DI: u8 = CfaKind::ReturnInDi as u8;
