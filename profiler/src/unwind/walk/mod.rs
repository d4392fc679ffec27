//! Walks a stack by tables, step by step as the BPF programs do (profiler-ebpf/src/unwind and arch).

mod aarch64;
mod x86_64;

use offwake_shared::{CfaKind, MAX_FRAMES, SavedKind, StackEnd, UnwindRule};

use crate::arch::Architecture;

/// The registers of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The program counter.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// The other register that is followed, see [`UnwindRule`].
    pub other: u64,
    /// `rdi` (x86-64): known of the innermost frame only.
    pub di: u64,
    /// Whether `pc` is behind a system call instruction, rather than at the instruction to run next.
    pub in_syscall: bool,
}

/// What is mapped executable at an address.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The rule there; that without call frame information where the file has no table.
    pub rule: UnwindRule,
    /// See [`Table::bias`](super::Table::bias).
    pub bias: u64,
}

/// Walks the stack of a thread with these registers, and returns its frames from the innermost on,
/// and how it ended.
///
/// All frames but the first are return addresses: that of a frame that a signal interrupted is moved
/// behind the first byte of the instruction, as is where the handler of the signal returns to. `place_of`
/// says what is mapped executable at an address, and `read` fills a slice with the words from an address on, or returns false.
pub fn walk(
    architecture: Architecture,
    registers: Registers,
    mut place_of: impl FnMut(u64) -> Option<Place>,
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
        let (rule, address) = (place.rule, address.wrapping_sub(place.bias));
        // Nobody called from where the handler of a signal returns to.
        if rule.cfa_kind == SIGNAL
            && is_behind
            && let [_, .., last] = &mut frames[..]
        {
            *last = last.wrapping_add(1);
        }
        let frame = Frame { at, found_by, address, is_innermost: frames.len() == 1 };
        match step(architecture, &frame, &rule, &mut read) {
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

/// A frame whose caller is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) at: Registers,
    pub(super) found_by: FoundBy,
    /// The address of the rule, as the file counts.
    pub(super) address: u64,
    /// Whether it is where the thread stands.
    pub(super) is_innermost: bool,
}

impl Frame {
    /// Whether nothing ran since this was where the thread stood: all registers are known.
    fn is_exact(&self) -> bool {
        self.is_innermost || self.found_by == FoundBy::Signal
    }
}

/// The registers of the caller, or how the walk ends.
type Step = Result<(Registers, FoundBy), StackEnd>;

/// The registers of the caller, or how the walk ends.
pub(super) fn step(
    architecture: Architecture,
    frame: &Frame,
    rule: &UnwindRule,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Step {
    match (rule.cfa_kind, architecture) {
        (OUTERMOST, _) => Err(StackEnd::Complete),
        (NONE, Architecture::X86_64) => x86_64::by_frame_pointer(frame, read),
        (SIGNAL, Architecture::X86_64) => x86_64::before_signal(&frame.at, read),
        (_, Architecture::X86_64) => x86_64::of_caller(frame, rule, read),
        (NONE, Architecture::Aarch64) => aarch64::by_frame_pointer(frame, read),
        (SIGNAL, Architecture::Aarch64) => aarch64::before_signal(&frame.at, read),
        (_, Architecture::Aarch64) => aarch64::of_caller(frame, rule, read),
    }
}

/// The word at an address.
fn word(address: u64, read: &mut impl FnMut(u64, &mut [u64]) -> bool) -> Result<u64, StackEnd> {
    let mut word = [0];
    read(address, &mut word).then_some(word[0]).ok_or(StackEnd::Unreadable)
}

fn plus(value: u64, offset: i32) -> u64 {
    value.wrapping_add_signed(offset.into())
}

/// A register that the caller has, and that has the value `now` in this frame.
fn saved(
    kind: u8,
    offset: i32,
    now: u64,
    cfa: u64,
    fp: u64,
    read: &mut impl FnMut(u64, &mut [u64]) -> bool,
) -> Result<u64, StackEnd> {
    const SAME: u8 = SavedKind::Same as u8;
    const AT_CFA: u8 = SavedKind::AtCfa as u8;
    const AT_FP: u8 = SavedKind::AtFp as u8;
    match kind {
        SAME => Ok(now),
        AT_CFA => word(plus(cfa, offset), read),
        AT_FP => word(plus(fp, offset), read),
        _ => Ok(0),
    }
}

const NONE: u8 = CfaKind::None as u8;
const SIGNAL: u8 = CfaKind::Signal as u8;
const OUTERMOST: u8 = CfaKind::Outermost as u8;
