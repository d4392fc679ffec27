//! Walks a stack by tables, step by step as the BPF programs do.

use offwake_shared::{CfaKind, MAX_FRAMES, SavedKind, StackEnd, UnwindRule};

use super::Table;

/// The registers of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The program counter, `rip`.
    pub pc: u64,
    /// The stack pointer, `rsp`.
    pub sp: u64,
    /// The frame pointer, `rbp`.
    pub fp: u64,
    /// `rbx`.
    pub bx: u64,
    /// `rdi`: known of the innermost frame only.
    pub di: u64,
    /// Whether `pc` is behind a system call instruction, rather than at the instruction to run next.
    pub in_syscall: bool,
}

/// What is mapped executable at an address.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table of the file; `None` where it has none.
    pub table: Option<&'a Table>,
    /// See [`Table::bias`].
    pub bias: u64,
}

/// Walks the stack of a thread with these registers, and returns its frames from the innermost on,
/// and how it ended.
///
/// All frames but the first are return addresses: that of a frame that a signal interrupted is moved
/// behind the first byte of the instruction, as is where the handler of the signal returns to. `place_of` says what is mapped executable at an address,
/// and `read` fills a slice with the words from an address on, or returns false.
pub fn walk<'a>(
    registers: Registers,
    mut place_of: impl FnMut(u64) -> Option<Place<'a>>,
    mut read: impl FnMut(u64, &mut [u64]) -> bool,
) -> (Vec<u64>, StackEnd) {
    let mut frames = Vec::new();
    let mut at = registers;
    let mut found_by = if registers.in_syscall { FoundBy::Return } else { FoundBy::Thread };
    loop {
        if frames.len() == MAX_FRAMES {
            return (frames, StackEnd::Truncated);
        }
        frames.push(at.pc.wrapping_add((found_by == FoundBy::Signal).into()));
        // A call at the very end of a function returns behind it.
        let is_behind = matches!(found_by, FoundBy::Return | FoundBy::FramePointer);
        let address = at.pc.wrapping_sub(is_behind.into());
        let Some(place) = place_of(address) else {
            if found_by == FoundBy::FramePointer {
                frames.pop();
                return (frames, StackEnd::Astray);
            }
            return (frames, StackEnd::Unmapped);
        };
        let address = address.wrapping_sub(place.bias);
        let rule = place.table.map_or_else(UnwindRule::default, |table| table.rule_at(address));
        // Nobody called from where the handler of a signal returns to.
        if rule.cfa_kind == SIGNAL
            && is_behind
            && let [_, .., last] = &mut frames[..]
        {
            *last = last.wrapping_add(1);
        }
        match step(&at, address, &rule, frames.len() == 1, &mut read) {
            Ok(next) => (at, found_by) = next,
            Err(end) => return (frames, end),
        }
    }
}

/// How a program counter was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundBy {
    /// It is that of the thread.
    Thread,
    /// It is a return address, or behind a system call.
    Return,
    /// It is a return address, if the frame pointer was one.
    FramePointer,
    /// It is where a signal interrupted the program.
    Signal,
}

/// The registers of the caller, or how the walk ends. `address` is that of the rule.
pub(super) fn step(
    at: &Registers,
    address: u64,
    rule: &UnwindRule,
    is_innermost: bool,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Result<(Registers, FoundBy), StackEnd> {
    let mut word = |address: u64| {
        let mut word = [0];
        read(address, &mut word).then_some(word[0]).ok_or(StackEnd::Unreadable)
    };
    let plus = |value: u64, offset: i32| value.wrapping_add_signed(offset.into());
    let cfa = match rule.cfa_kind {
        NONE => return frame_pointer_step(at, is_innermost, read),
        SP => plus(at.sp, rule.cfa_offset),
        FP => plus(at.fp, rule.cfa_offset),
        BX => plus(at.bx, rule.cfa_offset),
        SP_DEREF => plus(word(plus(at.sp, rule.cfa_offset))?, rule.cfa_add),
        FP_DEREF => plus(word(plus(at.fp, rule.cfa_offset))?, rule.cfa_add),
        PLT => {
            let is_pushed = (address & 15) as i64 >= rule.cfa_offset.into();
            at.sp.wrapping_add(if is_pushed { 16 } else { 8 })
        }
        SIGNAL => return signal_step(at, read),
        RETURN_IN_DI if is_innermost => {
            let next =
                Registers { pc: at.di, sp: plus(at.sp, rule.cfa_offset), in_syscall: false, ..*at };
            return if at.di == 0 { Err(StackEnd::Complete) } else { Ok((next, FoundBy::Return)) };
        }
        OUTERMOST => return Err(StackEnd::Complete),
        _ => return Err(StackEnd::Unsupported),
    };
    // Else a walk may have no end.
    if cfa <= at.sp {
        return Err(StackEnd::Astray);
    }
    let pc = word(cfa.wrapping_sub(8))?;
    if pc == 0 {
        return Err(StackEnd::Complete);
    }
    let mut saved = |kind: u8, offset: i32, register: u64| match kind {
        SAME => Ok(register),
        AT_CFA => word(plus(cfa, offset)),
        AT_FP => word(plus(at.fp, offset)),
        _ => Ok(0),
    };
    let fp = saved(rule.fp_kind, rule.fp_offset, at.fp)?;
    let bx = saved(rule.bx_kind, rule.bx_offset, at.bx)?;
    Ok((Registers { pc, sp: cfa, fp, bx, in_syscall: false, ..*at }, FoundBy::Return))
}

/// A step without call frame information: the frame pointer is to point at that of the caller, and
/// the return address to be behind it.
fn frame_pointer_step(
    at: &Registers,
    is_innermost: bool,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Result<(Registers, FoundBy), StackEnd> {
    if at.fp == 0 {
        // Where the thread stands may be a function that has set up no frame.
        return Err(if is_innermost { StackEnd::Astray } else { StackEnd::Complete });
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

/// A step out of a signal handler. The stack pointer is at the `ucontext` of the frame that the
/// kernel made (`struct rt_sigframe`, arch/x86/include/asm/sigframe.h): the handler's return has
/// taken the address before it.
fn signal_step(
    at: &Registers,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Result<(Registers, FoundBy), StackEnd> {
    /// Behind flags, link, and the alternate stack.
    const MCONTEXT: u64 = 40;
    /// `rbp` is the eleventh register there; from it to `rip` there are seven.
    const RBP: u64 = 10;
    let mut words = [0; 7];
    if !read(at.sp.wrapping_add(MCONTEXT + RBP * 8), &mut words) {
        return Err(StackEnd::Unreadable);
    }
    let [fp, bx, _rdx, _rax, _rcx, sp, pc] = words;
    Ok((Registers { pc, sp, fp, bx, in_syscall: false, ..*at }, FoundBy::Signal))
}

const NONE: u8 = CfaKind::None as u8;
const SP: u8 = CfaKind::Sp as u8;
const FP: u8 = CfaKind::Fp as u8;
const BX: u8 = CfaKind::Bx as u8;
const SP_DEREF: u8 = CfaKind::SpDeref as u8;
const FP_DEREF: u8 = CfaKind::FpDeref as u8;
const PLT: u8 = CfaKind::Plt as u8;
const SIGNAL: u8 = CfaKind::Signal as u8;
const OUTERMOST: u8 = CfaKind::Outermost as u8;
const RETURN_IN_DI: u8 = CfaKind::ReturnInDi as u8;
const SAME: u8 = SavedKind::Same as u8;
const AT_CFA: u8 = SavedKind::AtCfa as u8;
const AT_FP: u8 = SavedKind::AtFp as u8;
