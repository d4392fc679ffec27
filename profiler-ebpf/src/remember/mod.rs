//! Remembered stacks: a thread mostly waits where it waited before.
//!
//! Unwinding is a function of the registers that it starts with and of the words of the stack that it looks
//! at. Where all of them are as they were when a stack was unwound, the stack is the one that was found then,
//! and its id is known without unwinding it. [`kernel`] says which words these are; each CPU has a table, so
//! that nothing in it changes while it is read.
//!
//! What was remembered counts until a stack could not be sent to user space, so that user space has each stack
//! that is in use. One hit of [`CHECKED_HITS`] is unwound all the same: where both differ, the remembered
//! stack is forgotten and the disagreement counted.

pub mod kernel;

use offwake_shared::Loss;

use crate::count;

/// How many stacks the table holds. A power of two.
pub const SLOTS: usize = 256;

/// How many words of its memory a stack may depend on. A power of two.
pub const MAX_WORDS: usize = 128;

/// How many words are looked at, from the innermost on. A power of two.
pub const MAX_DEPTH: usize = 512;

/// One hit of so many is checked. A power of two.
const CHECKED_HITS: u64 = 256;

/// What is read of a stack, and what a lookup has found; for each of the two kinds of programs, as
/// [`crate::maps::Scratch`].
#[repr(C)]
pub struct Recall {
    /// The beginning of the stack, innermost first.
    pub words: [u64; MAX_DEPTH],
    /// Where a program's context is, as a number.
    pub context: u64,
    /// Where the kernel stack of the current thread begins, as a number.
    pub base: u64,
    /// The slot of the last lookup.
    pub slot: u32,
    /// Bytes in `words`; 0: nothing that could be remembered.
    pub bytes: u32,
    /// What [`crate::known::refusals`] said before the lookup.
    pub refusals: u32,
    /// The frame that is looked for, while a stack is learnt.
    pub frame: u32,
    /// The frame that is not looked for any more.
    pub frames: u32,
    /// How many words there are up to the last frame.
    pub part: u32,
    /// How many of them count.
    pub found: u32,
    /// How many stacks were not found.
    pub misses: u32,
}

/// Counts a stack that was found. Whether it counts without unwinding it.
#[inline(always)]
pub fn is_good() -> bool {
    let mut hits = 0;
    count::with(|counters| {
        counters.remembered += 1;
        hits = counters.remembered;
    });
    hits & (CHECKED_HITS - 1) != 0
}

/// A stack was unwound: its id is `id`. `remembered`: what was found in its place, 0 for nothing.
#[inline(always)]
pub fn compare(remembered: u64, id: u64) {
    if remembered != 0 && remembered != id {
        count::lost(Loss::RememberedStackWrong);
    }
}

/// A slot of the table.
#[inline(always)]
pub const fn slot(hash: u64) -> u32 {
    let product = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 40) as u32 & (SLOTS as u32 - 1)
}
