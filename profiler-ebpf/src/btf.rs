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
    let is_next_known = wait::may_know(next(&ctx));
    let concerns_prev = wait::concerns(prev(&ctx));
    if is_next_known || concerns_prev {
        switch(&ctx, is_next_known, concerns_prev);
    }
    0
}

/// Not a part of its caller, nor is [`waking`]: most events are of no interest, and return in the first lines of code
/// instead of at the far end of all this.
#[inline(never)]
fn switch(ctx: &BtfTracePointContext, is_next_known: bool, concerns_prev: bool) {
    let now = unsafe { bpf_ktime_get_ns() };
    let preempt: u64 = ctx.arg(0);
    let prev = prev(ctx);
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
        wait::begin(ctx, prev, state, now);
    }
    if is_next_known {
        wait::end(next(ctx).tid(), now);
    }
}

#[inline(always)]
fn prev(ctx: &BtfTracePointContext) -> Task {
    Task::new(ctx.arg::<*const task_struct>(1))
}

#[inline(always)]
fn next(ctx: &BtfTracePointContext) -> Task {
    Task::new(ctx.arg::<*const task_struct>(2))
}

/// `sched_waking(p)` in `try_to_wake_up`, on the waker's CPU.
#[btf_tracepoint(function = "sched_waking")]
#[inline(always)]
fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const task_struct>(0));
    if wait::may_know(task) {
        waking(&ctx, task);
    }
    0
}

/// See [`switch`]. Where wake-up sources are told, there is no stack left for one more function.
#[cfg_attr(not(wake_source), inline(never))]
#[cfg_attr(wake_source, inline(always))]
fn waking(ctx: &BtfTracePointContext, task: Task) {
    wake::record(ctx, task.tid(), Some(task), task.state(), Counts::Only);
}

/// `sched_wakeup_new(p)` in `wake_up_new_task`; the current thread is the creator.
#[btf_tracepoint(function = "sched_wakeup_new")]
fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg::<*const task_struct>(0));
    wake::created(&ctx, task);
    0
}
