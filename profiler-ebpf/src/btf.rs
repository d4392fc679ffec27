//! Entry points of the `btf` flavour: BTF-enabled tracepoints, whose arguments are those of the
//! kernel's own trace calls.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use offwake_shared::WaitState;

use crate::maps::HAS_PREV_STATE;
use crate::task::Task;
use crate::wake::Counts;
use crate::{wait, wake};

/// `sched_switch(preempt, prev, next, prev_state)` in `__schedule`; the current thread is `prev`.
#[btf_tracepoint(function = "sched_switch")]
#[inline(always)]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let preempt: u64 = ctx.arg(0);
    let prev = Task::new(ctx.arg::<*const task_struct>(1));
    let next = Task::new(ctx.arg::<*const task_struct>(2));
    let is_next_known = wait::may_know(next);
    let concerns_prev = wait::concerns(prev);
    if !is_next_known && !concerns_prev {
        return 0;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    let bits =
        if HAS_PREV_STATE.load() != 0 { ctx.arg::<u32>(3) } else { wake::state_before(prev) };
    // A thread may be preempted after it announced a sleep: then it is still runnable. So it is when
    // a signal kept it from sleeping; up to 6.14 the argument does not know of that, but the task.
    let state = if preempt & 0xff != 0 || prev.state() == 0 {
        Some(WaitState::Preempted)
    } else {
        WaitState::from_task_state(u64::from(bits))
    };
    if concerns_prev {
        wait::begin(&ctx, prev, state, now);
    }
    if is_next_known {
        wait::end(next.tid(), now);
    }
    0
}

/// `sched_waking(p)` in `try_to_wake_up`, on the waker's CPU.
#[btf_tracepoint(function = "sched_waking")]
#[inline(always)]
fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const task_struct>(0));
    wake::record(&ctx, task.tid(), Some(task), task.state(), Counts::Only);
    0
}

/// `sched_wakeup_new(p)` in `wake_up_new_task`; the current thread is the creator.
#[btf_tracepoint(function = "sched_wakeup_new")]
fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const task_struct>(0));
    wake::created(&ctx, task);
    0
}
