//! Who ended a wait: what BPF saw, made precise by the names in the waker's kernel stack.

use offwake_shared::{TASK_IDLE, TaskId, WaitState, WakerKind};

use crate::profile::{Frame, Thread, Waker};

/// The waker of a wait. `stack`: its kernel frames, innermost first; in an interrupt they end with
/// the interrupt's entry.
pub(super) fn classify(kind: u32, task: &TaskId, state: WaitState, stack: &[&Frame]) -> Waker {
    // Preempted is not woken, whatever tried.
    if state == WaitState::Preempted {
        return Waker::Preempted;
    }
    match WakerKind::from_u32(kind) {
        // The idle thread does nothing on its own behalf: it runs what interrupts left for it.
        Some(WakerKind::Task) if task.flags & TASK_IDLE != 0 => interrupt(stack),
        Some(WakerKind::Task) => Waker::Task(Thread::of(task)),
        Some(WakerKind::Interrupt) => interrupt(stack),
        Some(WakerKind::NotWoken) => Waker::NotWoken,
        Some(WakerKind::None | WakerKind::Account) | None => Waker::Unknown,
    }
}

fn interrupt(stack: &[&Frame]) -> Waker {
    // Softirqs do not nest. Outermost first, because HI and TASKLET share their inner functions.
    let names = || stack.iter().rev().filter_map(|frame| frame.name.as_deref()).map(base);
    if let Some(softirq) = names().find_map(softirq) {
        Waker::Softirq(softirq.into())
    } else if names().any(is_softirq_loop) {
        Waker::Softirq("unknown".into())
    } else {
        Waker::Irq
    }
}

/// Without what the compiler appended, such as `.isra.0`.
fn base(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The softirq that a function handles, named as in `softirq_to_name` (kernel/softirq.c). The
/// handlers of 5.10 to 6.18, and those that they end in by a tail call.
fn softirq(function: &str) -> Option<&'static str> {
    Some(match function {
        "tasklet_hi_action" => "HI",
        "run_timer_softirq" | "run_timer_base" | "__run_timers" => "TIMER",
        "net_tx_action" => "NET_TX",
        "net_rx_action" => "NET_RX",
        "blk_done_softirq" | "blk_complete_reqs" => "BLOCK",
        "irq_poll_softirq" => "IRQ_POLL",
        "tasklet_action" | "tasklet_action_common" => "TASKLET",
        "run_rebalance_domains" | "sched_balance_softirq" => "SCHED",
        "hrtimer_run_softirq" => "HRTIMER",
        "rcu_core_si" | "rcu_core" => "RCU",
        _ => return None,
    })
}

fn is_softirq_loop(function: &str) -> bool {
    matches!(function, "__do_softirq" | "handle_softirqs" | "__softirqentry_text_start")
}
