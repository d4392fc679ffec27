//! Walking a user stack by the call frame information of its code: from the registers of one frame
//! to those of its caller, by the tables that user space has made of it ([`table`]).
//!
//! In code that has none (compiled at run time, or without), the frame pointer has to do; call frame
//! information takes over again where there is some. `profiler/src/unwind/walk.rs` does the same
//! in user space: a change here is a change there.

mod memory;
mod table;
mod used;

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_loop;
use offwake_shared::{
    CfaKind, MAX_FRAMES, Program, SavedKind, Stack, StackEnd, UnwindProgram, UserRegisters,
};

use self::table::{CACHED_RULES, Cached};
use crate::arch;
use crate::maps::UNWIND_PROGRAMS;

use self::memory::Ahead;
pub use self::memory::{read, read_word};
pub use self::used::Used;

/// Where a walk stands.
#[repr(C)]
pub struct Walk {
    pub pc: u64,
    pub sp: u64,
    pub fp: u64,
    /// The other register that is followed, see [`UnwindRule`](offwake_shared::UnwindRule).
    pub other: u64,
    /// The register of the first argument, in the innermost frame.
    pub argument: u64,
    /// Whose stack it is; of generation 0 where nothing is known of it.
    pub program: UnwindProgram,
    /// The mapping that was used last.
    mapping: offwake_shared::UnwindMapping,
    /// 1: `pc` is behind a call, to which the rule belongs. 0: it is where the thread stood.
    pub is_return: u32,
    /// 1: `pc` was found by the frame pointer, which may point anywhere.
    pub is_guess: u32,
    /// What a frame needs of the stack.
    pub words: [u64; arch::WORDS],
    /// What was read of it at once.
    ahead: Ahead,
    /// What the walk depends on.
    pub used: Used,
    /// What was looked up before on this CPU.
    cache: [Cached; CACHED_RULES],
}

/// What a step needs, on the BPF stack of the program that walks.
struct Context {
    walk: *mut Walk,
    stack: *mut Stack,
}

/// Walks the stack of a thread with these registers, by the tables of `walk.program`. Sets the frames of
/// `stack`, their number, and how the walk ended.
#[inline(always)]
pub fn walk(walk: &mut Walk, stack: &mut Stack, from: &UserRegisters) {
    walk.pc = from.ip;
    walk.sp = from.sp;
    walk.fp = from.fp;
    walk.other = from.other;
    walk.argument = from.argument;
    walk.mapping.start = 0;
    walk.mapping.end = 0;
    walk.used.begin(from.sp);
    walk.ahead.begin();
    walk.is_return = from.in_syscall as u32;
    walk.is_guess = 0;
    stack.len = 0;
    stack.end = StackEnd::Truncated as u16;
    let mut context = Context { walk, stack };
    // SAFETY: the callback has the type that the helper wants, and the context outlives the call.
    unsafe {
        let callback = step as unsafe extern "C" fn(u32, *mut c_void) -> i64;
        // One step more than there are frames: it finds that there is no room.
        let steps = MAX_FRAMES as u32 + 1;
        bpf_loop(steps, callback as *mut c_void, (&raw mut context).cast::<c_void>(), 0);
    }
}

/// A process that was forked has the code of its creator: its stacks can be unwound from the start. User
/// space does not know of this entry, and removes it before what it names is used for anything else.
#[inline(always)]
pub fn inherit(creator: Program, new: Program) {
    if let Some(known) = UNWIND_PROGRAMS.get_ptr(creator) {
        // SAFETY: the value is in the map, and plain data.
        let known = unsafe { *known };
        // Without room for it, it is walked by frame pointers until user space has made some.
        let _ = UNWIND_PROGRAMS.insert(new, known, u64::from(BPF_NOEXIST));
    }
}

/// What happens to a walk at a frame.
pub enum Step {
    GoOn,
    End(StackEnd),
}

/// Where a register is that the caller has; `None` where it has kept its value.
#[inline(always)]
pub fn saved_at(walk: &Walk, kind: u8, offset: i32, cfa: u64) -> Option<u64> {
    if kind == SavedKind::Same as u8 {
        None
    } else if kind == SavedKind::Lost as u8 {
        Some(Used::COUNTED)
    } else {
        let from = if kind == SavedKind::AtCfa as u8 { cfa } else { walk.fp };
        Some(from.wrapping_add(i64::from(offset) as u64))
    }
}

/// The end of a walk at memory that may be there the next time.
#[inline(always)]
pub fn unreadable(walk: &mut Walk) -> Step {
    walk.used.uncertain();
    Step::End(StackEnd::Unreadable)
}

/// Takes one frame; what `bpf_loop` calls (5.17+). Returns 1 at the end of the stack.
#[inline(never)]
unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: `walk` passes its context, with pointers to two values that nothing else uses.
    let (walk, stack) = unsafe {
        let context = &*context.cast::<Context>();
        (&mut *context.walk, &mut *context.stack)
    };
    match take_frame(walk, stack) {
        Step::GoOn => 0,
        Step::End(end) => {
            stack.end = end as u16;
            1
        }
    }
}

#[inline(always)]
fn take_frame(walk: &mut Walk, stack: &mut Stack) -> Step {
    let len = usize::from(stack.len);
    if len >= MAX_FRAMES {
        return Step::End(StackEnd::Truncated);
    }
    let rule = table::rule(walk, walk.pc.wrapping_sub(u64::from(walk.is_return)));
    if rule.is_none() && walk.is_guess != 0 {
        return Step::End(StackEnd::Astray);
    }
    // SAFETY: the rule is a value of an array, of plain data.
    let kind = rule.map_or(CfaKind::None as u8, |rule| unsafe { (*rule).cfa_kind });
    // Users of a stack take all but its first frame for return addresses, and look before them. So
    // what is none is stored as if it were one: where a signal interrupted the program, and where the
    // handler of a signal returns to, which nobody called from.
    let is_exact = walk.is_return == 0 || kind == CfaKind::Signal as u8;
    // Compared once more: up to 6.1 the verifier forgets the first time where the compiler has put the
    // number aside.
    let Some(frame) = stack.frames.get_mut(black_box(len)) else {
        return Step::End(StackEnd::Truncated);
    };
    *frame = walk.pc.wrapping_add(u64::from(is_exact && len != 0));
    stack.len = len as u16 + 1;
    let Some(rule) = rule else { return Step::End(StackEnd::Unmapped) };
    // SAFETY: as above.
    let rule = unsafe { &*rule };
    if kind == CfaKind::None as u8 {
        arch::by_frame_pointer(walk, len == 0)
    } else if kind == CfaKind::Outermost as u8 {
        Step::End(StackEnd::Complete)
    } else if kind == CfaKind::Signal as u8 {
        arch::before_signal(walk)
    } else {
        arch::of_caller(walk, rule, len == 0)
    }
}
