//! Entry points of the `kprobe` flavour: at the beginning of functions of the scheduler. A thread is
//! recorded where it is switched in again, when it is known for how long it was off.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use aya_ebpf::{EbpfContext, Global};
use offwake_shared::WaitState;

use crate::maps::{REGS_ARGUMENT_0, REGS_ARGUMENT_1, TASK_DELAYED};
use crate::task::Task;
use crate::wake::Counts;
use crate::{memory, wait, wake};

/// `finish_task_switch(prev)`: the current thread has been switched in, in the place of `prev`. The run
/// queue is locked.
#[kprobe]
fn kprobe_switch(ctx: ProbeContext) -> u32 {
    let prev = task_argument(&ctx);
    let now = unsafe { bpf_ktime_get_ns() };
    // A thread that goes to sleep leaves the run queue, or (6.12+) stays on it as one that has left.
    // Another one was preempted, even if it had announced a sleep.
    let is_asleep = !prev.is_on_rq() || TASK_DELAYED.load() != 0 && prev.sleeps_on_run_queue();
    let state = if is_asleep {
        WaitState::from_task_state(u64::from(wake::state_before(prev)))
    } else {
        Some(WaitState::Preempted)
    };
    wait::begin_without_stacks(prev, state, now);
    wait::end_with_stacks(&ctx, now);
    0
}

/// `try_to_wake_up(p, state, flags)`: the current thread wakes `p` if that is in one of these states.
#[kprobe]
fn kprobe_waking(ctx: ProbeContext) -> u32 {
    let task = task_argument(&ctx);
    let from = task.state();
    if u64::from(from) & argument(&ctx, &REGS_ARGUMENT_1) != 0 && wait::may_know(task) {
        wake::record(&ctx, task.tid(), Some(task), from, Counts::First);
    }
    0
}

/// `wake_up_new_task(p)`; the current thread is the creator.
#[kprobe]
fn kprobe_new(ctx: ProbeContext) -> u32 {
    wake::created(&ctx, task_argument(&ctx));
    0
}

#[inline(always)]
fn task_argument(ctx: &ProbeContext) -> Task {
    Task::new(argument(ctx, &REGS_ARGUMENT_0) as *const task_struct)
}

#[inline(always)]
fn argument(ctx: &ProbeContext, offset: &Global<u32>) -> u64 {
    memory::read_at(ctx.as_ptr() as u64, offset)
}
