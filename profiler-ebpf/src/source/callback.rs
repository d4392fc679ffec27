//! Probes on the functions that wait queues call for who waits with `epoll`, `poll` or `select`: the second
//! way to tell which descriptor it was, where the kernel has kprobes. They are called whether or not
//! anybody is woken: what they saw counts only for a wake-up from within them.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;

use super::maps::CALLBACKS;
use crate::maps::REGS_ARGUMENT_0;
use crate::memory;

/// `ep_poll_callback(wait, mode, sync, key)`
#[kprobe]
fn callback_epoll(ctx: ProbeContext) -> u32 {
    if let Some(callbacks) = CALLBACKS.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's.
        unsafe { (*callbacks).epoll = memory::read_at(ctx.as_ptr() as u64, &REGS_ARGUMENT_0) };
    }
    0
}

/// `pollwake(wait, mode, sync, key)`
#[kprobe]
fn callback_poll(ctx: ProbeContext) -> u32 {
    if let Some(callbacks) = CALLBACKS.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's.
        unsafe { (*callbacks).poll = memory::read_at(ctx.as_ptr() as u64, &REGS_ARGUMENT_0) };
    }
    0
}
