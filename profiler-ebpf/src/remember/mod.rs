//! Remembered stacks: a thread mostly waits where it waited before.
//!
//! Unwinding is a function of the registers that it starts with and of the words of the stack that it looks
//! at. Where all of them are as they were when a stack was unwound, the stack is the one that was found then,
//! and its id is known without unwinding it. [`kernel`] and [`user`] say which words these are; each CPU has a
//! table for each of the two, so that nothing in it changes while it is read.
//!
//! What was remembered counts until user space empties the map of stacks ([`epoch`]), so that a stack in use is
//! always in the map, and one hit of [`CHECKED_HITS`] is unwound all the same: where both differ, the remembered
//! stack is forgotten and the disagreement counted.

pub mod kernel;
#[cfg_attr(bpf_target_arch = "aarch64", expect(dead_code, reason = "no walk leaves one"))]
pub mod trail;
pub mod user;

use offwake_shared::Loss;

use crate::count;
use crate::maps::{CONTROL, RECALL};

/// How many stacks each table holds. A power of two.
pub const SLOTS: usize = 256;

/// How many words of its memory a stack may depend on. A power of two.
pub const MAX_WORDS: usize = 128;

/// How many words are looked at, from the innermost on. A power of two.
pub const MAX_SPAN: usize = 1024;

/// One hit of so many is checked. A power of two.
const CHECKED_HITS: u64 = 256;

/// What is read of a stack, and what a lookup has found; for each of the two kinds of programs, as
/// [`crate::maps::Scratch`].
#[repr(C)]
pub struct Recall {
    /// The beginning of the stack, innermost first.
    pub words: [u64; MAX_SPAN],
    /// Where a program's context is, as a number.
    pub context: u64,
    /// Where the kernel stack of the current thread begins, as a number.
    pub base: u64,
    /// The slot of the last lookup.
    pub slot: u32,
    /// Bytes in `words`; 0: nothing that could be remembered.
    pub bytes: u32,
    /// 1: what was found has been remembered since before the map of stacks was emptied.
    pub is_old: u32,
    /// 0.
    pub reserved: u32,
}

/// Changes each time when user space has emptied the map of stacks.
#[inline(always)]
pub fn epoch() -> u32 {
    CONTROL.get(0).map_or(0, |&drains| drains)
}

/// Whether a stack that was found counts without unwinding it. `index`: of the program's [`Recall`].
#[inline(always)]
pub fn is_good(index: u32) -> bool {
    // SAFETY: this CPU's value, which no other program uses now.
    let Some(false) = RECALL.get_ptr(index).map(|recall| unsafe { (*recall).is_old != 0 }) else {
        return false;
    };
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

/// A slot of a table.
#[inline(always)]
pub const fn slot(hash: u64) -> u32 {
    let product = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 40) as u32 & (SLOTS as u32 - 1)
}
