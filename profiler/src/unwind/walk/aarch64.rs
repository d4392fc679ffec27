//! Steps on aarch64: why each is as it is stands at its twin (profiler-ebpf/src/arch/aarch64.rs).

use offwake_shared::{CfaKind, SavedKind, StackEnd, UnwindRule};

use super::{FoundBy, Frame, Registers, Step, plus, saved};
use crate::arch::Architecture;

/// Bytes around an address in `lr` that are taken for the same function.
const NEAR: u64 = 1024;

/// By a rule that finds the caller's frame on the same stack.
pub(super) fn of_caller(
    frame: &Frame,
    rule: &UnwindRule,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    let at = &frame.at;
    let is_guess = frame.found_by == FoundBy::FramePointer;
    let cfa = match rule.cfa_kind {
        FP => plus(at.fp, rule.cfa_offset),
        SP if !is_guess => plus(at.sp, rule.cfa_offset),
        SP if rule.fp_kind == AT_CFA => at.fp.wrapping_sub(i64::from(rule.fp_offset) as u64),
        SP => return by_frame_pointer(frame, read),
        _ => return Err(StackEnd::Unsupported),
    };
    if rule.other_kind == SAME && !frame.is_exact() {
        return Err(StackEnd::Astray);
    }
    // Else a walk may have no end.
    if cfa < at.sp || (cfa == at.sp && !frame.is_exact()) {
        return Err(StackEnd::Astray);
    }
    let fp = saved(rule.fp_kind, rule.fp_offset, at.fp, cfa, at.fp, read)?;
    let return_address = saved(rule.other_kind, rule.other_offset, at.other, cfa, at.fp, read)?;
    go_to(at, return_address, cfa, fp, FoundBy::Return)
}

/// Without call frame information: by the frame record, or by `lr` where none was set up.
pub(super) fn by_frame_pointer(
    frame: &Frame,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    let at = &frame.at;
    if at.fp == 0 {
        return Err(if frame.is_innermost { StackEnd::Astray } else { StackEnd::Complete });
    }
    let mut words = [0; 2];
    if at.fp < at.sp || !read(at.fp, &mut words) {
        return Err(StackEnd::Astray);
    }
    let [fp, return_address] = [words[0], code_address(words[1])];
    let caller = code_address(at.other);
    let is_near = caller.wrapping_sub(at.pc).wrapping_add(NEAR) <= 2 * NEAR;
    if frame.is_exact() && caller != 0 && caller != return_address && !is_near {
        return go_to(at, caller, at.sp, at.fp, FoundBy::FramePointer);
    }
    if return_address == 0 && fp != 0 {
        return Err(StackEnd::Astray);
    }
    go_to(at, return_address, at.fp.wrapping_add(16), fp, FoundBy::FramePointer)
}

/// Out of a signal handler.
pub(super) fn before_signal(
    at: &Registers,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    /// Behind the `siginfo`, of `uc_mcontext.regs[29]`.
    const FP: u64 = 128 + 176 + 8 + 8 * 29;
    let mut words = [0; 4];
    if !read(at.sp.wrapping_add(FP), &mut words) {
        return Err(StackEnd::Unreadable);
    }
    let [fp, other, sp, pc] = words;
    Ok((Registers { pc, sp, fp, other, in_syscall: false, ..*at }, FoundBy::Signal))
}

fn go_to(at: &Registers, return_address: u64, sp: u64, fp: u64, found_by: FoundBy) -> Step {
    match code_address(return_address) {
        0 => Err(StackEnd::Complete),
        pc => Ok((Registers { pc, sp, fp, in_syscall: false, ..*at }, found_by)),
    }
}

/// A return address without its signature.
fn code_address(return_address: u64) -> u64 {
    return_address & Architecture::address_mask()
}

const SP: u8 = CfaKind::Sp as u8;
const FP: u8 = CfaKind::Fp as u8;
const SAME: u8 = SavedKind::Same as u8;
const AT_CFA: u8 = SavedKind::AtCfa as u8;
