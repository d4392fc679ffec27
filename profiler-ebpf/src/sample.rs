//! Recording some intervals only, so that the cost has a ceiling: see [`Sampling`].
//!
//! Without one, `SAMPLE` is 0 and the verifier drops all that is here.

use core::hint::black_box;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use offwake_shared::{
    Sampling, TASK_WAKING, TaskId, ThreadState, UserRegisters, WaitKey, WaitState, WaitStats,
    WakerKind,
};

use crate::maps::{HAS_TYPES, QUOTA, SAMPLE, SCRATCH, SWITCH, THREADS};
use crate::task::Task;
use crate::wait;

/// Whether intervals are sampled.
#[inline(always)]
pub fn is_on() -> bool {
    SAMPLE.load() != 0
}

/// Whether the interval of a thread that is open is not recorded.
#[inline(always)]
pub fn skips(thread: &ThreadState) -> bool {
    is_on() && thread.sampling.weight == 0
}

/// Decides whether the interval of a thread that begins `now` is recorded, and returns whether it is not. What was decided
/// before counts once more if the thread was woken already. `task`: the thread, if it is the current one.
#[inline(always)]
pub fn skips_next(
    thread: &mut ThreadState,
    task: Option<Task>,
    state: WaitState,
    now: u64,
) -> bool {
    if !is_on() {
        return false;
    }
    // Before it is asked for a waker: that one looks at this after it has said that it is there.
    // SAFETY: a member of the value in the map.
    unsafe { (&raw mut thread.sampling.decided).write_volatile(1) };
    if !is_being_woken(thread, task, now) {
        // That of a waker whose sleep was called off.
        thread.sampling.waker_cost_ns = 0;
        // A thread may be preempted anywhere.
        let task = task.filter(|_| state as u32 != WaitState::Preempted as u32);
        let place = task.map_or(Sampling::ANYWHERE, |task| {
            let UserRegisters { ip, sp, argument, .. } = task.own_registers();
            Sampling::place(ip, sp, argument)
        });
        decide_at(thread, place, now, || true);
    }
    skips(thread)
}

/// Whether a thread that is being switched out has a waker, which has decided.
#[inline(always)]
fn is_being_woken(thread: &ThreadState, task: Option<Task>, now: u64) -> bool {
    match task {
        // The wake-up of a sleep that was called off left it runnable.
        Some(task) if HAS_TYPES.load() != 0 => {
            thread.woken_at != 0 && task.state() & TASK_WAKING != 0
        }
        _ => thread.is_woken_ahead(now),
    }
}

/// The thread `tid` is being woken: its `woken_at` says so. If it is not being switched out yet, and this is the first
/// time since it ran last, decides whether the interval that begins then is recorded.
#[inline(always)]
pub fn decide_ahead(thread: &ThreadState, tid: u32, is_first: bool, now: u64) {
    if is_on() && thread.off_since == 0 && is_first && !has_decided(thread) {
        offwake_decide_ahead(tid.into(), now);
    }
}

/// Whether a thread that is being switched out decides itself.
#[inline(always)]
fn has_decided(thread: *const ThreadState) -> bool {
    // SAFETY: a member of the value in the map.
    unsafe { (&raw const (*thread).sampling.decided).read_volatile() != 0 }
}

/// A global function: what it needs of the stack is not its caller's, which has no more.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_decide_ahead(tid: u64, now: u64) -> u32 {
    if let Some(thread) = THREADS.get_ptr_mut(tid as u32) {
        // SAFETY: the value is in the map. The thread may be switched out at the same time: then its own decision counts,
        // but for that of the last few instructions.
        decide_at(unsafe { &mut *thread }, Sampling::ANYWHERE, now, || !has_decided(thread));
    }
    0
}

/// Decides, if that `counts` still when all is known.
#[inline(always)]
fn decide_at(thread: &mut ThreadState, place: usize, now: u64, counts: impl FnOnce() -> bool) {
    let Some(&quota) = QUOTA.get(0) else { return };
    // The verifier does not see that the number is small; a mask does, if it is there.
    let place = &mut thread.sampling.places[black_box(place) & (Sampling::PLACES - 1)];
    let weight = place.next_weight(now, quota);
    if counts() {
        thread.sampling.decide(weight);
    }
}

/// The thread `tid` becomes known.
#[inline(always)]
pub fn begin(thread: &mut ThreadState, tid: u32) {
    if is_on() {
        thread.sampling = Sampling::new(tid);
    }
}

/// How long a program has run that began at `since`, in ns: what it takes to record an interval.
#[inline(always)]
fn cost_ns(since: u64) -> u32 {
    // SAFETY: the helper takes nothing.
    let cost = unsafe { bpf_ktime_get_ns() }.wrapping_sub(since);
    // Longer than a second is no cost, but a clock of another CPU.
    if cost < 1_000_000_000 { cost as u32 } else { 0 }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

/// The waker's stacks of a thread have been taken, by a program that began at `since`.
#[inline(always)]
pub fn woke(thread: &mut ThreadState, since: u64) {
    if is_on() {
        thread.sampling.waker_cost_ns = cost_ns(since);
        thread.sampling.waker_cpu = cpu();
    }
}

/// The sleeper's stacks have been taken, by a program that began at `since`.
#[inline(always)]
pub fn took(thread: &mut ThreadState, since: u64) {
    if is_on() {
        thread.sampling.sleeper_cost_ns = cost_ns(since);
        thread.sampling.sleeper_cpu = cpu();
    }
}

/// The time of an interval before its wake-up and after it, without what it took to record it. `has_waker`: who woke the
/// thread was seen.
#[inline(always)]
pub fn without_cost(thread: &ThreadState, interval: [u64; 2], has_waker: bool) -> [u64; 2] {
    if !is_on() {
        return interval;
    }
    let sampling = &thread.sampling;
    // An interrupt comes when it comes.
    let is_behind = !has_waker
        || thread.waker_kind == WakerKind::Task as u32
            && sampling.sleeper_cpu == sampling.waker_cpu;
    let ahead_ns = thread.off_since.saturating_sub(thread.woken_at);
    sampling.without_cost(interval, is_behind, ahead_ns)
}

/// Adds a finished interval to what its thread has waited for in all. Returns how often it counts; 0: it
/// is not recorded.
#[inline(always)]
pub fn account(thread: &mut ThreadState, off_ns: u64, runqueue_ns: u64) -> u64 {
    if !is_on() {
        return 1;
    }
    let sampling = &mut thread.sampling;
    sampling.count += 1;
    sampling.off_ns += off_ns;
    sampling.runqueue_ns += runqueue_ns;
    u64::from(sampling.weight)
}

/// Adds an interval to the sums of its kind.
#[inline(always)]
pub fn add(sum: &mut WaitStats, off_ns: u64, runqueue_ns: u64, weight: u64) {
    if is_on() {
        sum.add_sample(off_ns, runqueue_ns, weight);
    } else {
        sum.add_interval(off_ns, runqueue_ns);
    }
}

/// An interval has ended: what was decided, and what it took to record it, is no part of the next one.
#[inline(always)]
pub fn over(thread: &mut ThreadState) {
    if is_on() {
        thread.sampling.decided = 0;
        thread.sampling.sleeper_cost_ns = 0;
        thread.sampling.waker_cost_ns = 0;
    }
}

/// The thread is another one from now on, or ends: what it has waited for in all goes into the sums, under
/// the name that it had.
#[inline(always)]
pub fn settle(thread: &mut ThreadState, next: Option<&TaskId>) {
    if !is_on() || thread.sampling.count == 0 || next == Some(&thread.sleeper) {
        return;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(SWITCH) else { return };
    // SAFETY: see `Scratch`; the key is used nowhere else now.
    let key = unsafe { &mut (*scratch).wait.key };
    *key = WaitKey {
        sleeper: thread.sleeper,
        waker: TaskId::default(),
        sleeper_kernel: 0,
        sleeper_user: 0,
        waker_kernel: 0,
        waker_user: 0,
        state: 0,
        waker_kind: WakerKind::Account as u32,
        source: 0,
    };
    let Sampling { count, off_ns, runqueue_ns, .. } = thread.sampling;
    offwake_settle(count, off_ns, runqueue_ns);
    thread.sampling.count = 0;
    thread.sampling.off_ns = 0;
    thread.sampling.runqueue_ns = 0;
}

/// Adds an account to the sums of the key in the scratch memory. A global function, which the verifier
/// looks at once; see `stack`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_settle(count: u64, off_ns: u64, runqueue_ns: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(SWITCH) else { return 0 };
    // SAFETY: see `Scratch`.
    let nothing = unsafe { &(*scratch).wait };
    wait::put(nothing, |sum| {
        sum.count += count;
        sum.blocked_ns += off_ns - runqueue_ns;
        sum.runqueue_ns += runqueue_ns;
    });
    0
}
