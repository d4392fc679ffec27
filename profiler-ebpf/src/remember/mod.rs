//! Remembered stacks: a thread mostly waits where it waited before.
//!
//! Unwinding is a function of the registers that it starts with and of the words of the stack that it looks
//! at. Where all of them are as they were when a stack was unwound, the stack is the one that was found then,
//! and its id is known without unwinding it. [`kernel`] and [`user`] say which words these are; each CPU has tables,
//! so that nothing in them changes while it is read.
//!
//! What was remembered counts until a stack could not be sent to user space, so that user space has each stack
//! that is in use. One hit of [`CHECKED_HITS`] is unwound all the same: where both differ, the remembered
//! stack is forgotten and the disagreement counted.

pub mod kernel;
pub mod user;

use offwake_shared::Loss;

use self::user::Start;
use crate::count;
use crate::maps::RECALL;

/// How many stacks a table holds. A power of two.
pub const SLOTS: usize = 256;

/// How many stacks there is room for in one place. A power of two.
const WAYS: u32 = 4;

/// One of so many stacks that were not found takes the place of another one: where no two are the same, to
/// learn them costs little. A power of two.
const LEARNS: u32 = 4;

/// How many words of its memory a stack may depend on. A power of two.
pub const MAX_WORDS: usize = 128;

/// How many words are looked at, from the innermost on; of a kernel stack that begins on the stack of interrupts so
/// many on each of both. A power of two.
pub const MAX_DEPTH: usize = 512;

/// How many marks there are for addresses. A power of two.
pub const MARKS: usize = 256;

/// One hit of so many is checked: an odd number, since kernel and user stacks take turns.
const CHECKED_HITS: u32 = 251;

/// What is read of a stack, and what a lookup has found; for each of the two kinds of programs, as
/// [`crate::maps::Scratch`].
#[repr(C)]
pub struct Recall {
    /// The beginning of the stack, innermost first. In the second half: of the stack of interrupts.
    pub words: [u64; 2 * MAX_DEPTH],
    /// When each mark was set: see `round`.
    pub rounds: [u32; MARKS],
    /// Where the first of the words is, as a number: a program's context, or where interrupts came.
    pub start_of_task: u64,
    /// The same of the second half.
    pub start_of_interrupts: u64,
    /// Where the kernel stack of the current thread begins, as a number.
    pub base: u64,
    /// Where the last word of this CPU's stack of interrupts is; 0: nobody knows yet.
    pub last_of_interrupts: u64,
    /// The slot of the last lookup.
    pub slot: u32,
    /// The slot of the last lookup, if the stack is that of an interrupt.
    pub interrupt_slot: u32,
    /// The first slot of the place of the last lookup; all bits set if the stack was found.
    pub first: u32,
    /// The same of the place of an interrupt.
    pub interrupt_first: u32,
    /// 1: the stack that was found is that of an interrupt.
    pub is_interrupt: u32,
    /// Of the stack that was found; see [`kernel::found`].
    pub reason: u32,
    /// Bytes of the stack that the first half of `words` is for; 0: nothing that could be remembered.
    pub bytes: u32,
    /// How many of them have been read: those of a stack that is not found, and of another one as many as it takes.
    pub read: u32,
    /// Bytes in the second half of `words`.
    pub bytes_of_interrupts: u32,
    /// What [`crate::known::refusals`] said before the lookup.
    pub refusals: u32,
    /// While a stack is learnt: the word that a loop begins with.
    pub from: u32,
    /// The frame that is looked for.
    pub frame: u32,
    /// The frame that is not looked for any more.
    pub frames: u32,
    /// How many words there are in the first half up to the last frame.
    pub part: u32,
    /// How many of them count.
    pub found: u32,
    /// How many stacks were not found.
    pub misses: u32,
    /// The number of this stack, of all that were learnt: marks with it are of this one.
    pub round: u32,
    /// How many hits come before the next one that is checked.
    pub unchecked: u32,
    /// Where the walk of a user stack begins.
    pub start: Start,
    /// The frame pointer there.
    pub fp: u64,
    /// The other register that is followed.
    pub other: u64,
}

/// Counts a stack that was found. `index`: of the scratch memory. Whether it counts without unwinding it.
#[inline(always)]
pub fn is_good(index: u32) -> bool {
    count::with(|counters| counters.remembered += 1);
    let Some(recall) = RECALL.get_ptr_mut(index) else { return false };
    // SAFETY: this CPU's value, which no other program uses now.
    let unchecked = unsafe { &mut (*recall).unchecked };
    let is_checked = *unchecked == 0;
    *unchecked = if is_checked { CHECKED_HITS - 1 } else { *unchecked - 1 };
    !is_checked
}

/// A stack was unwound: its id is `id`. `remembered`: what was found in its place, 0 for nothing. Whether that
/// may stay, so that there is nothing to learn.
#[inline(always)]
pub fn is_right(remembered: u64, id: u64) -> bool {
    if remembered != 0 && remembered != id {
        count::lost(Loss::RememberedStackWrong);
    }
    remembered == id
}

/// The first slot of a place.
#[inline(always)]
pub const fn first_slot(place: u64) -> u32 {
    let product = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 40) as u32 & (SLOTS as u32 - WAYS)
}

/// The slot of a place that is learnt although others are in all of them: each in its turn, and not at each miss.
/// `misses`: how many came before this one.
#[inline(always)]
pub const fn slot_in_turn(first: u32, misses: u32) -> u32 {
    if misses & (LEARNS - 1) == 0 { first | (misses / LEARNS) & (WAYS - 1) } else { u32::MAX }
}

/// The slots of a place.
#[inline(always)]
pub fn slots(first: u32) -> impl Iterator<Item = u32> {
    (0..WAYS).map(move |way| first | way)
}
