//! Who ends an interval.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use offwake_shared::{TASK_WAKING, TaskId, ThreadState, WaitState, WakerKind};

use crate::context::Context;
use crate::maps::{MAX_OFF_NS, STATES, THREADS, UNWIND, WAKE, scratch};
use crate::task::{Ids, Task};
use crate::{sample, source, stack, target, task, unwind, wait};

/// Which of several wake-ups of a sleep counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// There are no others: the event comes once for each sleep that ends.
    Only,
    /// The first: others come while it is under way.
    First,
}

/// Whoever runs now wakes the thread `tid`, which may be known, is this `task` and has this task state (0 where nobody
/// knows).
///
/// Each sleep ends with one of these events. Earlier ones belong to sleeps that
/// were called off, so the newest replaces what was there, and one that comes before the
/// switch-out is kept: the thread may be switched out while its wake-up is under way
/// (`try_to_wake_up` waits for `on_cpu`).
#[inline(always)]
pub fn record(ctx: &impl Context, tid: u32, task: Option<Task>, state: u32, counts: Counts) {
    let Some(thread) = THREADS.get_ptr_mut(tid) else { return };
    // SAFETY: wakers of a thread exclude each other by its `pi_lock`, or nearly so; the thread's own CPU
    // writes other fields, but for those of `Sampling`.
    let thread = unsafe { &mut *thread };
    let off_since = thread.off_since;
    if off_since != 0
        && (thread.state == WaitState::Preempted as u32
            || counts == Counts::First && thread.woken_at >= off_since)
    {
        return;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    let is_first = thread.woken_at == 0;
    thread.woken_from = state;
    if counts == Counts::First {
        // Another one may wake the thread before this one has told who it is.
        tell(thread, WakerKind::None as u32);
    }
    // SAFETY: a member of the value in the map.
    unsafe { (&raw mut thread.woken_at).write_volatile(now) };
    sample::decide_ahead(thread, tid, is_first, now);
    if sample::skips(thread) {
        tell(thread, WakerKind::None as u32);
        return;
    }
    if off_since != 0 && now.wrapping_sub(off_since) > MAX_OFF_NS.load() {
        // Nobody wants an interval as long as this: its waker need not pay for stacks.
        tell(thread, WakerKind::None as u32);
        return;
    }
    let task = task.map_or(thread.task, |task| task.as_ptr() as u64);
    set_waker(ctx, thread, task);
    sample::woke(thread, now);
}

/// The state in which a thread was switched out, from the thread itself. Its wake-up may be under way
/// already: then the waker knows.
#[inline(always)]
pub fn state_before(task: Task) -> u32 {
    let state = task.state();
    if state & TASK_WAKING == 0 {
        return state;
    }
    // SAFETY: the value is in the map; whoever writes it at the same time writes a u32 as well.
    THREADS.get_ptr(task.tid()).map_or(state, |thread| unsafe { (*thread).woken_from })
}

/// The current thread has created the thread `new`, which is about to run for the first time.
#[inline(always)]
pub fn created(ctx: &impl Context, new: Task) {
    let creator = Task::current();
    let (ids, creator_ids) = (task::ids(new), task::current_ids(creator));
    target::born(ids, creator_ids.tgid);
    if UNWIND.load() != 0 && new.leads_process() {
        unwind::inherit(creator.program(creator_ids), new.program(ids));
    }
    let id = new.id(ids);
    begin_new(ctx, new.tid(), ids, &id);
}

/// The first interval of a new thread: until it runs. `tid`: its key.
#[inline(always)]
pub fn begin_new(ctx: &impl Context, tid: u32, ids: Ids, id: &TaskId) {
    if !target::is_target(ids) || STATES.load() & WaitState::New.bit() == 0 {
        // Nothing of a thread that had this tid before is left.
        wait::forget(tid);
        return;
    }
    let Some(scratch) = scratch(WAKE) else { return };
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: see `SCRATCH`; set_waker uses the same value, but not its `thread`.
    let thread = unsafe { &mut (*scratch).thread };
    thread.sleeper = *id;
    thread.sleeper_kernel = 0;
    thread.sleeper_user = 0;
    thread.state = WaitState::New as u32;
    thread.woken_from = 0;
    set_waker(ctx, thread, 0);
    thread.off_since = now;
    thread.woken_at = now;
    sample::begin(thread, tid);
    sample::woke(thread, now);
    wait::insert(tid, thread);
}

/// `task`: the address of the sleeping one, 0 where nobody knows.
#[inline(always)]
fn set_waker(ctx: &impl Context, thread: &mut ThreadState, task: u64) {
    let Some(scratch) = scratch(WAKE) else { return };
    let current = Task::current();
    let registers = current.own_registers();
    let stack::Waker { stack, kind, reason } = stack::waker(ctx, scratch, current, &registers);
    thread.waker_kernel = stack;
    tell(thread, kind as u32 | UNTOLD);
    // Kernels before 6.8 verify what is called even where it is dead code.
    if cfg!(wake_source) {
        thread.source = source::find(reason, task);
    }
    if kind as u32 != WakerKind::Task as u32 {
        thread.waker = TaskId::default();
        thread.waker_user = 0;
    } else {
        let waker = current.id(task::current_ids(current));
        thread.waker_user = stack::user(ctx, scratch, &waker, &registers);
        thread.waker = waker;
    }
    // From memory: there is no room to keep it.
    // SAFETY: a member of one value.
    let untold = unsafe { (&raw const thread.waker_kind).read_volatile() };
    tell(thread, untold & !UNTOLD);
}

/// In [`ThreadState::waker_kind`] as long as a waker has not told all of what is known of it.
const UNTOLD: u32 = 1 << 8;

/// Whether the waker of a thread has told who it is: one that decided just as its sleeper did, or whose place another one
/// took as it took stacks, may not have.
#[inline(always)]
pub fn has_told(thread: &ThreadState) -> bool {
    thread.waker_kind != WakerKind::None as u32 && thread.waker_kind & UNTOLD == 0
}

#[inline(always)]
fn tell(thread: &mut ThreadState, kind: u32) {
    // SAFETY: a member of one value.
    unsafe { (&raw mut thread.waker_kind).write_volatile(kind) };
}
