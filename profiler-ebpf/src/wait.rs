//! The two ends of an interval: switch-out and switch-in.

use aya_ebpf::bindings::BPF_NOEXIST;
use offwake_shared::{
    Loss, Mark, TaskId, ThreadState, WaitState, WaitStats, WaitSum, WakerKind, filter,
};

use crate::context::Context;
use crate::maps::{
    CONTROL, FILTER, HAS_TYPES, MAX_OFF_NS, MIN_OFF_NS, STATES, SWITCH, Scratch, THREADS, WAITS_0,
    WAITS_1, scratch,
};
use crate::task::{Ids, Task};
use crate::{count, filling, marks, sample, stack, target, task, wake};

/// Whether a thread may be known.
#[inline(always)]
pub fn may_know(task: Task) -> bool {
    let only = target::only_process();
    if only != 0 { task.tgid() == only } else { marks::has(task.tid(), Mark::Known) }
}

/// Whether the switch-out of the current thread, `prev`, may matter: it is known, or recorded.
#[inline(always)]
pub fn concerns(prev: Task) -> bool {
    may_know(prev) || target::only_process() == 0 && target::is_current_target(prev)
}

/// The current thread, `prev`, is switched out, and its stacks are taken. `state`: why; `None` if it is
/// dead.
#[inline(always)]
pub fn begin(ctx: &impl Context, prev: Task, state: Option<WaitState>, now: u64) {
    let tid = prev.tid();
    let Some(state) = state else { return gone(prev, tid, now) };
    if STATES.load() & state.bit() == 0 {
        return;
    }
    let Some(scratch) = scratch(SWITCH) else { return };
    let known = known(tid, prev, now);
    // Both ways give a value in the map, so that the verifier looks at what follows once.
    let thread = match known.filter(|&thread| is_unchanged(thread, prev)) {
        Some(thread) => thread,
        None => {
            let ids = task::current_ids(prev);
            if !target::is_target(ids) {
                return;
            }
            let Some(thread) = meet(known, scratch, prev, &prev.id(ids)) else { return };
            thread
        }
    };
    // SAFETY: only a waker writes to the value at the same time, and to other fields, but for those of `Sampling`.
    let thread = unsafe { &mut *thread };
    if sample::skips_next(thread, Some(prev), state, now) {
        return open(thread, [0, 0], state, now);
    }
    let registers = prev.own_registers();
    let kernel = stack::kernel(ctx, scratch, prev, &registers);
    let user = stack::user(ctx, scratch, &thread.sleeper, &registers);
    open(thread, [kernel, user], state, now);
    sample::took(thread, now);
}

/// Whether the current thread, `prev`, has the name and the program that it had as it was last switched out: then it is
/// a target as it was then, and costs no questions.
#[inline(always)]
fn is_unchanged(thread: *const ThreadState, prev: Task) -> bool {
    if HAS_TYPES.load() == 0 || FILTER.load() & filter::CGROUP != 0 {
        return false;
    }
    // SAFETY: only a waker writes to the value at the same time, and to other fields.
    let thread = unsafe { &*thread };
    thread.task == prev.as_ptr() as u64
        && thread.execs == prev.execs()
        && prev.has_comm(&thread.sleeper.comm)
}

/// The thread `prev` has been switched out, and another one runs already: [`end_with_stacks`] takes its
/// stacks when it is back.
#[inline(always)]
pub fn begin_without_stacks(prev: Task, state: Option<WaitState>, now: u64) {
    let tid = prev.tid();
    let Some(state) = state else { return gone(prev, tid, now) };
    let ids = task::ids(prev);
    if !target::passes(ids, || prev.comm()) || STATES.load() & state.bit() == 0 {
        return;
    }
    let Some(scratch) = scratch(SWITCH) else { return };
    let sleeper = prev.id(ids);
    let known = known(tid, prev, now);
    let Some(thread) = meet(known, scratch, prev, &sleeper) else { return };
    // SAFETY: as in `begin`.
    let thread = unsafe { &mut *thread };
    // It is not the current one: all its places are one.
    sample::skips_next(thread, None, state, now);
    open(thread, [0, 0], state, now);
}

/// The thread `prev` has ended. Whether or not it is a target by now: it may have had another name, or
/// lost its pid.
#[inline(always)]
fn gone(prev: Task, tid: u32, now: u64) {
    if !marks::has(tid, Mark::Known) {
        return;
    }
    if let Some(thread) = known(tid, prev, now) {
        // SAFETY: only a waker writes to the value at the same time, and to other fields.
        sample::settle(unsafe { &mut *thread }, None);
    }
    forget(tid);
}

/// Nothing is known of the thread `tid` any more.
#[inline(always)]
pub fn forget(tid: u32) {
    let _ = THREADS.remove(tid);
    marks::clear(tid, Mark::Known);
}

/// What is known of the thread `prev`, whose number is `tid` and which is being switched out; no interval of it is open any
/// more.
#[inline(always)]
fn known(tid: u32, prev: Task, now: u64) -> Option<*mut ThreadState> {
    let known = THREADS.get_ptr_mut(tid)?;
    // SAFETY: only a waker writes to the value at the same time, and to other fields.
    let thread = unsafe { &mut *known };
    if thread.off_since != 0 {
        // It ran, so the interval has ended unseen, before the time that the thread has run for.
        count::lost(Loss::SwitchInMissed);
        finish(thread, now.wrapping_sub(prev.ran_ns()));
    }
    Some(known)
}

/// The thread `prev` is `sleeper` from now on. `None`: there is no room for it.
#[inline(always)]
fn meet(
    known: Option<*mut ThreadState>,
    scratch: *mut Scratch,
    prev: Task,
    sleeper: &TaskId,
) -> Option<*mut ThreadState> {
    // SAFETY: only a waker writes to the value in the map at the same time, and to other fields. The other
    // one is this CPU's.
    let thread = unsafe { known.map_or(&mut (*scratch).thread, |known| &mut *known) };
    if known.is_some() {
        sample::settle(thread, Some(sleeper));
    }
    thread.sleeper = *sleeper;
    thread.task = prev.as_ptr() as u64;
    thread.execs = prev.execs();
    if known.is_some() {
        return known;
    }
    thread.off_since = 0;
    clear_waker(thread);
    let tid = prev.tid();
    sample::begin(thread, tid);
    insert(tid, thread);
    THREADS.get_ptr_mut(tid)
}

/// Begins an interval. `stacks`: the sleeper's in the kernel and in its program.
#[inline(always)]
fn open(thread: &mut ThreadState, [kernel, user]: [u64; 2], state: WaitState, now: u64) {
    thread.sleeper_kernel = kernel;
    thread.sleeper_user = user;
    // From here on wakers take the interval for open: so its state comes first.
    // SAFETY: members of one value.
    unsafe {
        (&raw mut thread.state).write_volatile(state as u32);
        (&raw mut thread.off_since).write_volatile(now);
    }
}

/// Forgets who woke a thread.
#[inline(always)]
fn clear_waker(thread: &mut ThreadState) {
    thread.waker_kind = WakerKind::None as u32;
    thread.woken_at = 0;
    thread.waker = TaskId::default();
    thread.waker_kernel = 0;
    thread.waker_user = 0;
    thread.source = 0;
}

/// Makes a thread known, in the place of one that had its tid.
#[inline(always)]
pub fn insert(tid: u32, thread: &ThreadState) {
    marks::set(tid, Mark::Known);
    if THREADS.insert(tid, thread, 0).is_err() {
        count::lost(Loss::ThreadsFull);
    }
}

/// The thread `tid` is switched in: its interval is complete.
#[inline(always)]
pub fn end(tid: u32, now: u64) {
    let Some(thread) = THREADS.get_ptr_mut(tid) else { return };
    // SAFETY: the thread was just chosen to run, so its waker is done and it has no new one.
    let thread = unsafe { &mut *thread };
    if thread.off_since != 0 {
        finish(thread, now);
    } else {
        // It ended a wait that is not recorded.
        thread.woken_at = 0;
    }
}

/// The current thread has been switched in: its interval is complete. Only if it is as long as the user
/// wants does it pay for stacks.
#[inline(always)]
pub fn end_with_stacks(ctx: &impl Context, now: u64) {
    let current = Task::current();
    let tid = current.tid();
    if !marks::has(tid, Mark::Known) {
        return;
    }
    let Some(thread) = THREADS.get_ptr_mut(tid) else { return };
    // SAFETY: as in `end`.
    let thread = unsafe { &mut *thread };
    if thread.off_since == 0 {
        // It ended a wait that is not recorded.
        thread.woken_at = 0;
        return;
    }
    // A new thread has no stacks yet, and its creator's cgroup was looked at.
    if thread.state != WaitState::New as u32 {
        // Nobody could tell at its switch-out.
        if !target::is_in_cgroup() {
            thread.off_since = 0;
            thread.woken_at = 0;
            return;
        }
        if is_wanted(now.wrapping_sub(thread.off_since)) && !sample::skips(thread) {
            let Some(scratch) = scratch(SWITCH) else { return };
            let ids = Ids { tgid: thread.sleeper.tgid, tid: thread.sleeper.tid };
            // Its name may be another one by now.
            let sleeper = current.id(ids);
            sample::settle(thread, Some(&sleeper));
            thread.sleeper = sleeper;
            let registers = current.own_registers();
            thread.sleeper_kernel = stack::kernel(ctx, scratch, current, &registers);
            thread.sleeper_user = stack::user(ctx, scratch, &thread.sleeper, &registers);
        }
    }
    finish(thread, now);
}

/// Whether the user wants intervals of this length.
#[inline(always)]
fn is_wanted(off_ns: u64) -> bool {
    // An end that could not be computed lies before the beginning.
    off_ns < 1 << 63 && off_ns >= MIN_OFF_NS.load() && off_ns <= MAX_OFF_NS.load()
}

/// Completes an open interval, which ends at `end`.
#[inline(always)]
fn finish(thread: &mut ThreadState, end: u64) {
    let off_ns = end.wrapping_sub(thread.off_since);
    if is_wanted(off_ns) {
        let Some(scratch) = scratch(SWITCH) else { return };
        // SAFETY: see `Scratch`; what is used here is used nowhere else.
        aggregate(thread, off_ns, unsafe { &mut (*scratch).wait });
    }
    thread.off_since = 0;
    thread.woken_at = 0;
    sample::over(thread);
}

#[inline(always)]
fn aggregate(thread: &mut ThreadState, off_ns: u64, wait: &mut WaitSum) {
    let preempted = thread.state == WaitState::Preempted as u32;
    let has_waker = !preempted && thread.is_woken();
    let blocked_ns = if preempted {
        0
    } else if has_waker {
        // A wake-up that raced the switch-out came before it: then all of it is run queue.
        let woken_after = thread.woken_at.wrapping_sub(thread.off_since);
        if woken_after > off_ns { 0 } else { woken_after }
    } else {
        count::lost(Loss::UnknownWaker);
        off_ns
    };
    let interval = [blocked_ns, off_ns - blocked_ns];
    let [blocked_ns, runqueue_ns] = sample::without_cost(thread, interval, has_waker);
    let off_ns = blocked_ns + runqueue_ns;
    let weight = sample::account(thread, off_ns, runqueue_ns);
    if weight == 0 {
        return;
    }
    let key = &mut wait.key;
    key.sleeper = thread.sleeper;
    key.sleeper_kernel = thread.sleeper_kernel;
    key.sleeper_user = thread.sleeper_user;
    key.state = thread.state;
    let has_told = has_waker && wake::has_told(thread);
    if has_waker && !has_told {
        count::lost(Loss::UnknownWaker);
    }
    if has_told {
        key.set_waker(thread);
    } else {
        key.waker = TaskId::default();
        key.waker_kernel = 0;
        key.waker_user = 0;
        key.source = 0;
        key.waker_kind = WakerKind::None as u32;
    }
    if !put(wait, |sum| sample::add(sum, off_ns, runqueue_ns, weight)) {
        return;
    }
    count::with(|counters| {
        counters.intervals += weight;
        counters.off_ns += weight * off_ns;
    });
}

/// Adds to the sums that have the key of `nothing`, which they begin with. Whether there was room.
#[inline(always)]
pub fn put(nothing: &WaitSum, add: impl FnOnce(&mut WaitStats)) -> bool {
    let second = CONTROL.get(0).is_some_and(|&active| active != 0);
    let hash = nothing.key.hash();
    let find = || if second { WAITS_1.get_ptr_mut(hash) } else { WAITS_0.get_ptr_mut(hash) };
    let mut found = find();
    if found.is_none() {
        // The sums are added to where they are: they do not fit the stack.
        let flags = u64::from(BPF_NOEXIST);
        let inserted = if second {
            WAITS_1.insert(hash, nothing, flags)
        } else {
            WAITS_0.insert(hash, nothing, flags)
        };
        if inserted.is_ok() {
            count::with(|counters| {
                counters.new_waits += 1;
                filling::of_waits(counters.new_waits);
            });
        }
        found = find();
    }
    // SAFETY: the key names the sleeper, which runs on one CPU only, and user space reads this map
    // only after no program uses it any more.
    let sum = found.map(|sum| unsafe { &mut *sum });
    // That another key has the same hash does not happen; if it did, there would be no room for this one.
    let Some(sum) = sum.filter(|sum| sum.key.is(&nothing.key)) else {
        count::lost(Loss::WaitsFull);
        return false;
    };
    add(&mut sum.stats);
    true
}
