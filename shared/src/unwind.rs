//! Tables for unwinding user stacks in BPF: the rules of `.eh_frame`, flattened.
//!
//! An address leads to its rule in three steps. A program ([`crate::Program`]) has a slice of
//! [`UnwindMapping`]s, in order of address. A mapping tells which address of its file that is, and
//! the file has for each page of 4 KiB where its rows begin. A row ([`UnwindRow`]) says from which
//! byte of the page on which [`UnwindRule`] holds; the first row of each page begins at its first byte,
//! so that a search never leaves the page.

use crate::assert_packed;

/// Bits of the address within a page of a table.
pub const UNWIND_PAGE_BITS: u32 = 12;

/// How many rows, or numbers of first rows, one value of their BPF array holds.
pub const UNWIND_CHUNK: usize = 1024;

/// The most mappings that a program may have: a power of two, since they are halved to find one.
pub const MAX_UNWIND_MAPPINGS: u32 = 1 << 14;

/// The most rules that all files together may have: a row has 16 bits for one.
pub const MAX_UNWIND_RULES: u32 = 1 << 16;

/// What the programs know of a program of user space: a value of the map `UNWIND_PROGRAMS`, by
/// [`crate::Program`].
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UnwindProgram {
    /// Index of its first mapping.
    pub first: u32,
    /// How many it has.
    pub len: u32,
    /// Never given twice: tells what was remembered of these mappings from what came after them.
    pub generation: u32,
    /// 1 once the programs have used it; user space sets it back to find what is not used.
    pub used: u32,
    /// Until when (`CLOCK_MONOTONIC`, ns) user space does not want to hear of addresses that are in
    /// none of the mappings.
    pub quiet_until: u64,
}
assert_packed!(UnwindProgram, 24);

/// An executable mapping: a value of the array `UNWIND_MAPPINGS`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UnwindMapping {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// An address in the process less this is the address as the file counts.
    pub bias: u64,
    /// The number of the page with which the table begins.
    pub first_page: u32,
    /// How many pages the table has; 0 where there is none, as for code compiled at run time.
    pub pages: u32,
    /// Where the table's pages begin in the array `UNWIND_PAGES`, which holds for each the index of
    /// its first row, and one number more behind the last.
    pub page_base: u32,
    /// What is added to the numbers in `UNWIND_PAGES` to get an index in `UNWIND_ROWS`.
    pub row_base: u32,
}
assert_packed!(UnwindMapping, 40);

/// From which byte of its page on a rule holds.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UnwindRow {
    /// The byte in the page.
    pub start: u16,
    /// Index in the array `UNWIND_RULES`.
    pub rule: u16,
}
assert_packed!(UnwindRow, 4);

/// How to find the canonical frame address (CFA): what the stack pointer was before the call.
#[repr(u8)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub enum CfaKind {
    /// No call frame information: the frame pointer has to do.
    #[default]
    None = 0,
    /// The stack pointer plus `cfa_offset`.
    Sp = 1,
    /// The frame pointer plus `cfa_offset`.
    Fp = 2,
    /// The other register that is followed plus `cfa_offset` (x86-64).
    Other = 3,
    /// The word at the stack pointer plus `cfa_offset`, plus `cfa_add`.
    SpDeref = 4,
    /// The word at the frame pointer plus `cfa_offset`, plus `cfa_add`.
    FpDeref = 5,
    /// An entry of a procedure linkage table (x86-64): the stack pointer plus 8, and 8 more from byte
    /// `cfa_offset` on of its 16.
    Plt = 6,
    /// The frame that the kernel makes for a signal: the registers are in its `ucontext`.
    Signal = 7,
    /// The outermost frame: its return address is undefined.
    Outermost = 8,
    /// Call frame information that these rules cannot express.
    Unsupported = 9,
    /// The return address is in `rdi`, and the caller's stack pointer is this one plus `cfa_offset`: so
    /// the C library's `vfork` waits for its child (x86-64). Only the innermost frame's `rdi` is known.
    ReturnInDi = 10,
}

/// Where a register was saved that belongs to the caller.
#[repr(u8)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub enum SavedKind {
    /// It still has its value.
    #[default]
    Same = 0,
    /// In memory, at the CFA plus the offset.
    AtCfa = 1,
    /// In memory, at this frame's frame pointer plus the offset.
    AtFp = 2,
    /// Nobody knows.
    Lost = 3,
}

/// How to get from the registers of one frame to those of its caller: a value of the array
/// `UNWIND_RULES`.
///
/// Beside the stack pointer and the frame pointer one other register is followed. On x86-64 it is `rbx`,
/// and the return address is always at the CFA less 8. On aarch64 it is `lr`, which is the return address,
/// and which only the innermost frame, or one that a signal interrupted, may not have saved.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub struct UnwindRule {
    /// A [`CfaKind`].
    pub cfa_kind: u8,
    /// The [`SavedKind`] of the frame pointer.
    pub fp_kind: u8,
    /// The [`SavedKind`] of the other register.
    pub other_kind: u8,
    /// 0.
    pub reserved: u8,
    /// See [`CfaKind`].
    pub cfa_offset: i32,
    /// See [`CfaKind`].
    pub cfa_add: i32,
    /// See [`SavedKind`].
    pub fp_offset: i32,
    /// See [`SavedKind`].
    pub other_offset: i32,
    /// 0.
    pub reserved_too: u32,
}
assert_packed!(UnwindRule, 24);

/// The registers of a thread in its program, as far as unwinding needs them.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UserRegisters {
    /// The instruction pointer; 0 for a thread that has no program.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// The other register that is followed, see [`UnwindRule`].
    pub other: u64,
    /// That of the first argument, `rdi` or `x0`: as it was where a system call began.
    pub argument: u64,
    /// 1 in a system call: `ip` is behind its instruction.
    pub in_syscall: u64,
}
assert_packed!(UserRegisters, 48);

/// How the walk of a user stack ended.
#[repr(u16)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StackEnd {
    /// At its outermost frame.
    #[default]
    Complete = 0,
    /// It has more than [`crate::MAX_FRAMES`] frames.
    Truncated = 1,
    /// In code without call frame information, where the frame pointer led astray.
    Astray = 2,
    /// At stack memory that could not be read.
    Unreadable = 3,
    /// At an address in no mapping that was known.
    Unmapped = 4,
    /// At call frame information that the rules cannot express.
    Unsupported = 5,
}

impl StackEnd {
    /// The end with this number, as found in a [`crate::Stack`].
    pub const fn from_u16(value: u16) -> Option<Self> {
        Some(match value {
            0 => Self::Complete,
            1 => Self::Truncated,
            2 => Self::Astray,
            3 => Self::Unreadable,
            4 => Self::Unmapped,
            5 => Self::Unsupported,
            _ => return None,
        })
    }
}
