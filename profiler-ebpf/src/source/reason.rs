//! Why a thread is being woken, by the functions in the stack of whoever wakes it.

use core::hint::black_box;

use offwake_shared::MAX_FRAMES;

use crate::maps::{SCRATCH, constants};

/// How many frames are looked at: those of BPF and of the wake-up itself, and some more.
const DEPTH: usize = 24;

/// See [`offwake_wake_reason`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// None of the others: what the thread waits for, as far as anybody knows.
    Other = 0,
    /// Its time is over.
    Timeout = 1,
    /// A signal.
    Signal = 2,
    /// It is to do something for the kernel: what it waits for has no part in it.
    Work = 3,
    /// A descriptor of an epoll instance is ready (`ep_poll_callback`).
    Epoll = 4,
    /// A descriptor of `poll` or `select` is ready (`pollwake`).
    Poll = 5,
    /// Not a reason: the function wakes a thread, whatever for.
    WakeUp = 6,
    /// Not a reason by itself: the function calls those of timers.
    Timer = 7,
}

/// First address of each function, and its bytes; 0 where there is none.
macro_rules! functions {
    ($($reason:ident: $start:ident $len:ident;)*) => {
        constants! {$(
            /// First address of a function.
            $start: u64 = 0;
            /// Its bytes.
            $len: u64 = 0;
        )*}

        #[inline(always)]
        fn of_address(address: u64) -> Reason {
            $(if address.wrapping_sub($start.load()) < $len.load() {
                return Reason::$reason;
            })*
            Reason::Other
        }
    };
}

// profiler/src/record/source.rs names them.
functions! {
    Timeout: TIMEOUT_START_0 TIMEOUT_LEN_0;
    Timeout: TIMEOUT_START_1 TIMEOUT_LEN_1;
    Signal: SIGNAL_START_0 SIGNAL_LEN_0;
    Signal: SIGNAL_START_1 SIGNAL_LEN_1;
    Signal: SIGNAL_START_2 SIGNAL_LEN_2;
    Signal: SIGNAL_START_3 SIGNAL_LEN_3;
    Work: WORK_START_0 WORK_LEN_0;
    Epoll: EPOLL_START_0 EPOLL_LEN_0;
    Poll: POLL_START_0 POLL_LEN_0;
    WakeUp: WAKE_UP_START_0 WAKE_UP_LEN_0;
    WakeUp: WAKE_UP_START_1 WAKE_UP_LEN_1;
    Timer: TIMER_START_0 TIMER_LEN_0;
}

constants! {
    /// First address of the function that runs softirqs.
    SOFTIRQ_START: u64 = 0;
    /// Its bytes.
    SOFTIRQ_LEN: u64 = 0;
}

/// Whether whoever wakes a thread does so in a softirq, by the kernel stack in this scratch memory: the stack of an
/// interrupt that came while one ran has no part in it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_is_softirq(scratch: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(scratch) else { return 0 };
    // SAFETY: the caller does not use the stack meanwhile.
    let stack = unsafe { &(*scratch).stack };
    let len = usize::from(stack.len);
    for i in 0..MAX_FRAMES {
        // What is hidden is not made one with the bound of the loop, which the verifier needs (before 6.8).
        if black_box(i) >= len {
            break;
        }
        if stack.frames[i].wrapping_sub(SOFTIRQ_START.load()) < SOFTIRQ_LEN.load() {
            return 1;
        }
    }
    0
}

/// The [`Reason`] of the innermost function that tells one, in the kernel stack of this scratch memory.
///
/// Whoever wakes a thread right from where timers are called does so because its time is over: `process_timeout` in
/// kernel/time/timer.c, which does nothing else and so, mostly, leaves no frame.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_wake_reason(scratch: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(scratch) else { return 0 };
    // SAFETY: the caller does not use the stack meanwhile.
    let stack = unsafe { &(*scratch).stack };
    let len = usize::from(stack.len);
    let mut before = Reason::Other as u32;
    for i in 0..DEPTH {
        if i >= len {
            break;
        }
        let reason = of_address(stack.frames[i]) as u32;
        if reason == Reason::Timer as u32 && before == Reason::WakeUp as u32 {
            return Reason::Timeout as u32;
        }
        if reason != Reason::Other as u32 && reason < Reason::WakeUp as u32 {
            return reason;
        }
        before = reason;
    }
    Reason::Other as u32
}
