//! Entry points of the `tracepoint` flavour: classic tracepoints, which pass a record that the kernel
//! describes in a `format` file. They need no types of the kernel.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{raw_tracepoint, tracepoint};
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use aya_ebpf::{EbpfContext, Global};
use offwake_shared::{Mark, TASK_WAKING, TaskId, WaitState};

use crate::maps::{HAS_TYPES, NEW_FLAGS, NEW_PID, SWITCH_NEXT_PID, SWITCH_PREV_STATE, WAKING_PID};
use crate::task::{Ids, Task};
use crate::wake::Counts;
use crate::{marks, memory, target, task, untyped, wait, wake};

/// In `prev_state` of `sched:sched_switch`: the thread was preempted (`TASK_REPORT_MAX` in
/// include/linux/sched.h, printed as `+`).
const PREEMPTED: u32 = 0x100;

/// `CLONE_THREAD` (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x10000;

/// `sched:sched_switch` in `__schedule`; the current thread is the one that is switched out.
#[tracepoint]
fn tracepoint_switch(ctx: TracePointContext) -> u32 {
    let prev = Task::current();
    let next = field(&ctx, &SWITCH_NEXT_PID);
    let is_next_known = marks::has(next, Mark::Known);
    // Without types, the end of a program counts whatever it was.
    let concerns_prev = HAS_TYPES.load() == 0 || wait::concerns(prev);
    if !is_next_known && !concerns_prev {
        return 0;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    let reported: u32 = field(&ctx, &SWITCH_PREV_STATE);
    // Read once: a wake-up may begin at any time.
    let own = if HAS_TYPES.load() != 0 { prev.state() } else { TASK_WAKING };
    let state = if reported & PREEMPTED != 0 {
        Some(WaitState::Preempted)
    } else if own & TASK_WAKING == 0 {
        // Which tells more than the record does.
        WaitState::from_task_state(u64::from(own))
    } else {
        match WaitState::from_reported(reported) {
            // It sleeps, and its wake-up is under way: up to 5.17 the record has lost how it sleeps.
            Some(WaitState::Preempted) if HAS_TYPES.load() != 0 => Some(WaitState::Interruptible),
            state => state,
        }
    };
    if HAS_TYPES.load() == 0 && state.is_none() {
        let id = bpf_get_current_pid_tgid();
        if (id >> 32) as u32 == id as u32 {
            untyped::forget(id as u32);
        }
    }
    if concerns_prev {
        wait::begin(&ctx, prev, state, now);
    }
    if is_next_known {
        wait::end(next, now);
    }
    0
}

/// `sched:sched_waking` in `try_to_wake_up`, on the waker's CPU.
#[tracepoint]
fn tracepoint_waking(ctx: TracePointContext) -> u32 {
    let tid = field(&ctx, &WAKING_PID);
    if marks::has(tid, Mark::Known) {
        wake::record(&ctx, tid, None, 0, Counts::Only);
    }
    0
}

/// `sched_wakeup_new(p)` in `wake_up_new_task`, as a raw tracepoint: the record of the other kind does not
/// tell the process. The current thread is the creator.
#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
fn raw_new(ctx: RawTracePointContext) -> i32 {
    let task: u64 = memory::read(ctx.as_ptr() as u64);
    wake::created(&ctx, Task::new(task as *const task_struct));
    0
}

/// `task:task_newtask` in `copy_process`, where the kernel's types are not known; the current thread is the
/// creator.
#[tracepoint]
fn tracepoint_new(ctx: TracePointContext) -> u32 {
    let tid: u32 = field(&ctx, &NEW_PID);
    let flags: u64 = field(&ctx, &NEW_FLAGS);
    let creator = Task::current();
    let creator_ids = task::current_ids(creator);
    let creator_id = creator.id(creator_ids);
    let (ids, exec_id) = if flags & CLONE_THREAD != 0 {
        (Ids { tgid: creator_ids.tgid, tid }, creator_id.exec_id)
    } else {
        (Ids { tgid: tid, tid }, untyped::new_exec_id(tid))
    };
    target::born(ids, creator_ids.tgid);
    let id = TaskId { tgid: ids.tgid, tid, exec_id, ..creator_id };
    wake::begin_new(&ctx, tid, ids, &id);
    0
}

/// A field of the record.
#[inline(always)]
fn field<T: Copy + Default>(ctx: &TracePointContext, offset: &Global<u32>) -> T {
    memory::read_at(ctx.as_ptr() as u64, offset)
}
