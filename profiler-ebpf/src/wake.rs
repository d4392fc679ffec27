//! Who ends an interval.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_task_btf, bpf_ktime_get_ns};
use offwake_shared::{TaskId, ThreadState, WaitState, WakerKind};

use crate::maps::{SCRATCH, STATES, THREADS, UNWIND, WAKE};
use crate::task::Task;
use crate::{stack, target, task, unwind, wait};

/// Whoever runs now wakes the thread `tid`.
///
/// Each sleep ends with exactly one of these events, its last. Earlier ones belong to sleeps that
/// were called off, so the newest replaces what was there, and one that comes before the
/// switch-out is kept: the thread may be switched out while its wake-up is under way
/// (`try_to_wake_up` waits for `on_cpu`).
#[inline(always)]
pub fn record(ctx: &impl EbpfContext, tid: u32) {
    let Some(thread) = THREADS.get_ptr_mut(tid) else { return };
    // SAFETY: wakers of a thread exclude each other by its `pi_lock`; the thread's own CPU writes
    // other fields.
    let thread = unsafe { &mut *thread };
    if thread.off_since != 0 && thread.state == WaitState::Preempted as u32 {
        return;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    set_waker(ctx, thread);
    thread.woken_at = now;
}

/// The current thread has created the thread `new`, which is about to run for the first time.
#[inline(always)]
pub fn created(ctx: &impl EbpfContext, new: Task) {
    // SAFETY: the helper always returns the current task.
    let creator = Task::new(unsafe { bpf_get_current_task_btf() });
    let (ids, creator_ids) = (task::ids(new), task::current_ids(creator));
    target::born(ids, creator_ids.tgid);
    if UNWIND.load() != 0 && new.leads_process() {
        unwind::inherit(creator.program(creator_ids), new.program(ids));
    }
    if !target::is_target(ids) || STATES.load() & WaitState::New.bit() == 0 {
        // Nothing of a thread that had this tid before is left.
        let _ = THREADS.remove(new.tid());
        return;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(WAKE) else { return };
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: see `SCRATCH`; set_waker uses the same value, but not its `thread`.
    let thread = unsafe { &mut (*scratch).thread };
    thread.sleeper = new.id(ids);
    thread.sleeper_kernel = 0;
    thread.sleeper_user = 0;
    thread.state = WaitState::New as u32;
    set_waker(ctx, thread);
    thread.off_since = now;
    thread.woken_at = now;
    wait::insert(new.tid(), thread);
}

#[inline(always)]
fn set_waker(ctx: &impl EbpfContext, thread: &mut ThreadState) {
    let Some(scratch) = SCRATCH.get_ptr_mut(WAKE) else { return };
    // SAFETY: see `SCRATCH`.
    let (stack, walk) = unsafe { (&mut (*scratch).stack, &mut (*scratch).walk) };
    let (waker_kernel, kind) = stack::kernel_or_interrupt(ctx, stack);
    thread.waker_kernel = waker_kernel;
    thread.waker_kind = kind as u32;
    if kind as u32 != WakerKind::Task as u32 {
        thread.waker = TaskId::default();
        thread.waker_user = 0;
        return;
    }
    // SAFETY: the helper always returns the current task.
    let current = Task::new(unsafe { bpf_get_current_task_btf() });
    let waker = current.id(task::current_ids(current));
    thread.waker_user = stack::user(stack, walk, current, &waker);
    thread.waker = waker;
}
