//! What the walk of a user stack depended on: its trail.
//!
//! A register counts only where the walk used it: what a program keeps in `rbx`, or in a frame pointer that it
//! uses for something else, may differ from one wait to the next.

use core::hint::black_box;

use super::{MAX_SPAN, MAX_WORDS};

/// [`Trail::uses`]: the frame pointer with which the walk started.
pub const USES_FP: u32 = 1;
/// [`Trail::uses`]: the other register that is followed.
pub const USES_OTHER: u32 = 2;
/// [`Trail::uses`]: the first argument.
pub const USES_DI: u32 = 4;

/// Where the value of a register is from.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Origin(pub u64);

impl Origin {
    /// The walk started with it.
    pub const START: Self = Self(1);
    /// Nothing depends on it: the value is a constant.
    pub const CONSTANT: Self = Self(2);

    /// A word of the stack.
    #[inline(always)]
    pub const fn word(address: u64) -> Self {
        Self(address)
    }
}

/// The trail of one walk.
#[repr(C)]
pub struct Trail {
    /// The stack pointer with which the walk started, from which `offsets` count.
    pub sp: u64,
    /// The words that were used.
    pub values: [u64; MAX_WORDS],
    /// Where they are, in bytes.
    pub offsets: [u16; MAX_WORDS],
    /// How many of them there are.
    pub len: u32,
    /// Bytes up to the last of them.
    pub bytes: u32,
    /// [`USES_FP`] and the others.
    pub uses: u32,
    /// 1: the walk depended on something else.
    pub is_lost: u32,
    pub fp: Origin,
    pub other: Origin,
}

impl Trail {
    /// A walk begins.
    #[inline(always)]
    pub fn begin(&mut self, sp: u64) {
        self.sp = sp;
        self.len = 0;
        self.bytes = 0;
        self.uses = 0;
        self.is_lost = 0;
        self.fp = Origin::START;
        self.other = Origin::START;
    }

    /// The walk depends on a word of the stack.
    #[inline(always)]
    pub fn uses_word(&mut self, address: u64, value: u64) {
        let offset = address.wrapping_sub(self.sp);
        let at = self.len as usize;
        if offset >= 8 * MAX_SPAN as u64 - 8 || offset & 7 != 0 || at >= MAX_WORDS - 1 {
            self.is_lost = 1;
            return;
        }
        let at = black_box(at) & (MAX_WORDS - 1);
        self.offsets[at] = offset as u16;
        self.values[at] = value;
        self.len += 1;
        let behind = offset as u32 + 8;
        if behind > self.bytes {
            self.bytes = behind;
        }
    }

    /// The walk depends on a register, that is on where its value is from. `which`: [`USES_FP`] or
    /// [`USES_OTHER`].
    #[inline(always)]
    fn uses(&mut self, origin: Origin, which: u32, value: u64) {
        if origin == Origin::START {
            self.uses |= which;
        } else if origin != Origin::CONSTANT {
            self.uses_word(origin.0, value);
        }
    }

    /// The walk depends on the frame pointer, which has this value.
    #[inline(always)]
    pub fn uses_fp(&mut self, value: u64) {
        self.uses(self.fp, USES_FP, value);
    }

    /// The walk depends on the other register that is followed.
    #[inline(always)]
    pub fn uses_other(&mut self, value: u64) {
        self.uses(self.other, USES_OTHER, value);
    }
}
