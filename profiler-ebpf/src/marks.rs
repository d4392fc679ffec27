//! Marks: which threads may have a state in the map [`THREADS`](crate::maps::THREADS), by a part of their tid.
//!
//! Most threads of a machine are not recorded. That one has no state is known by its mark, which costs a tenth of
//! looking for it. A mark stays until the end: threads that share it only cost the look.

use crate::maps::MARKS;

/// How many marks there are. A power of two.
pub const COUNT: usize = 16384;

const MASK: u32 = COUNT as u32 - 1;

/// Marks a thread, which is about to get a state.
#[inline(always)]
pub fn set(tid: u32) {
    if let Some(mark) = MARKS.get_ptr_mut(tid & MASK) {
        // SAFETY: whoever writes it at the same time writes the same.
        unsafe { *mark = 1 };
    }
}

/// Whether a thread may have a state.
#[inline(always)]
pub fn has(tid: u32) -> bool {
    // SAFETY: see [`set`].
    MARKS.get_ptr(tid & MASK).is_some_and(|mark| unsafe { *mark != 0 })
}
