//! Threads in `epoll_wait`: from the call, through wake-ups, to the return.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use offwake_shared::{
    EPOLL_PARTS, EPOLL_READY, EPOLL_UNCERTAIN, EpollKind, EpollReady, EpollReturn, EpollThread,
    EpollWaiter, EpollWake, WakerKind,
};

use super::maps::*;
use super::{file, send, softirq_of, thread};
use crate::arch::EPOLL_EVENT;
use crate::context::Context;
use crate::maps::{WAKE, scratch};
use crate::source::epoll::Item;
use crate::source::file::File;
use crate::source::ready::{NOTHING, SEVERAL, offwake_newest_item, offwake_ready_item};
use crate::source::reason::{Reason, offwake_is_softirq, offwake_wake_reason};
use crate::stack;
use crate::task::{self, Task};

/// The current thread begins to wait.
#[inline(always)]
pub fn begin(tid: u32, thread: EpollThread, epfd: i32, events: u64) {
    let waiter = EpollWaiter { thread, events, epfd, ..EpollWaiter::default() };
    if EPOLL_WAITERS.insert(tid, waiter, 0).is_err() {
        send::count(|counters| counters.waiters_full += 1);
    }
}

/// Whether a thread in `epoll_wait` sleeps until something is ready (`ep_poll` in fs/eventpoll.c): otherwise it
/// waits for a lock or a page on the way there or back, and nobody wakes it for a descriptor.
#[inline(always)]
pub fn sleeps(task: Task) -> bool {
    /// `TASK_INTERRUPTIBLE`
    const INTERRUPTIBLE: u32 = 1;
    task.state() & INTERRUPTIBLE != 0
}

/// Whoever runs now wakes a thread.
#[inline(always)]
pub fn wake(ctx: &impl Context, woken: Task) {
    let Some(waiter) = EPOLL_WAITERS.get_ptr_mut(woken.tid()) else { return };
    if !sleeps(woken) {
        return;
    }
    // SAFETY: wakers of a thread exclude each other by its `pi_lock`; the thread itself sleeps, or is about
    // to, and does not change these.
    let waiter = unsafe { &mut *waiter };
    if waiter.instance == 0 {
        let file = File::of_descriptor(woken.as_ptr() as u64, waiter.epfd as u32);
        waiter.instance = file.private();
    }
    let now = unsafe { bpf_ktime_get_ns() };
    waiter.running_at = 0;
    waiter.woken_at = now;
    let Some(scratch) = scratch(WAKE) else { return };
    let kind = stack::take_waker(ctx, scratch);
    // SAFETY: see `Scratch`. The kernel stack stays in it.
    let index = unsafe { (*scratch).index };
    let (item, is_certain) = ready(waiter.instance, index);
    let current = Task::current();
    let softirq = if offwake_is_softirq(index) != 0 { softirq_of(current) } else { 0 };
    let waker = thread(current, task::current_ids(current));
    send::event(|out: *mut EpollWake| {
        // SAFETY: the memory is of this type, and is written as a whole.
        let out = unsafe { &mut *out };
        out.head = send::head(EpollKind::Wake, waiter.thread);
        out.head.time = now;
        out.head.thread.comm = woken.comm();
        out.waker = waker;
        // The idle thread does nothing of its own.
        out.waker_kind = if current.tid() == 0 { WakerKind::Interrupt as u32 } else { kind as u32 };
        out.softirq = softirq;
        out.epfd = waiter.epfd;
        out.reserved = 0;
        if item.0 == 0 {
            file::describe(File(0), -1, 0, &mut out.file);
            return;
        }
        file::describe(item.file(), item.fd(), item.events(), &mut out.file);
        if !is_certain {
            out.file.flags |= EPOLL_UNCERTAIN;
        }
    });
}

/// The item of an instance for which a thread is woken, and whether that is certain: else it is the one that was
/// queued last of several. 0: none, as nothing became ready. `scratch`: the memory that has the kernel stack
/// of the waker.
#[inline(always)]
fn ready(instance: u64, scratch: u32) -> (Item, bool) {
    let reason = offwake_wake_reason(scratch);
    // Others are for other threads that wait on the same instance.
    let is_nothing = reason == Reason::Timeout as u32
        || reason == Reason::Signal as u32
        || reason == Reason::Work as u32;
    if instance == 0 || is_nothing {
        return (Item(NOTHING), true);
    }
    match offwake_ready_item(instance, u32::from(reason == Reason::Epoll as u32)) {
        SEVERAL => (Item(offwake_newest_item(instance)), false),
        item => (Item(item), true),
    }
}

/// A thread is switched out, and sleeps unless it was preempted.
#[inline(always)]
pub fn switched_out(tid: u32) {
    let Some(waiter) = EPOLL_WAITERS.get_ptr_mut(tid) else { return };
    // SAFETY: the thread runs here. A waker may write at the same time; then this was woken again.
    let waiter = unsafe { &mut *waiter };
    if waiter.woken_at == 0 || waiter.running_at == 0 {
        return;
    }
    let (woken_at, running_at) = (waiter.woken_at, waiter.running_at);
    waiter.running_at = 0;
    waiter.woken_at = 0;
    returned(EpollKind::Empty, waiter, woken_at, running_at, 0);
}

/// A thread runs again.
#[inline(always)]
pub fn switched_in(tid: u32) {
    let Some(waiter) = EPOLL_WAITERS.get_ptr_mut(tid) else { return };
    // SAFETY: the thread does not run yet, and nobody wakes one that is awake.
    let waiter = unsafe { &mut *waiter };
    if waiter.woken_at != 0 && waiter.running_at == 0 {
        waiter.running_at = unsafe { bpf_ktime_get_ns() };
    }
}

/// The current thread returns from `epoll_wait`.
#[inline(always)]
pub fn end(tid: u32, result: i64) {
    let Some(waiter) = EPOLL_WAITERS.get_ptr_mut(tid) else { return };
    // SAFETY: the thread runs here, and nobody wakes it.
    let waiter = unsafe { &mut *waiter };
    let (woken_at, running_at) = (waiter.woken_at, waiter.running_at);
    returned(EpollKind::Return, waiter, woken_at, running_at, result);
    let _ = EPOLL_WAITERS.remove(tid);
}

/// Tells of a return, in parts if there are many events.
#[inline(always)]
fn returned(kind: EpollKind, waiter: &EpollWaiter, woken_at: u64, running_at: u64, result: i64) {
    let total = if result > 0 { result as u32 } else { 0 };
    for part in 0..EPOLL_PARTS as u32 {
        let first = part * EPOLL_READY as u32;
        if part > 0 && first >= total {
            break;
        }
        send::event(|out: *mut EpollReturn| {
            // SAFETY: the memory is of this type, and is written as a whole.
            let out = unsafe { &mut *out };
            out.head = send::head(kind, waiter.thread);
            out.woken_at = woken_at;
            out.running_at = running_at;
            out.result = result as i32;
            out.epfd = waiter.epfd;
            out.first = first;
            let left = total.saturating_sub(first);
            out.len = if left < EPOLL_READY as u32 { left } else { EPOLL_READY as u32 };
            for index in 0..EPOLL_READY {
                out.ready[index] = if (index as u32) < out.len {
                    event(waiter.events + EPOLL_EVENT.0 * (u64::from(first) + index as u64))
                } else {
                    EpollReady::default()
                };
            }
        });
    }
}

/// A `struct epoll_event` of the current program.
#[inline(always)]
pub fn event(address: u64) -> EpollReady {
    EpollReady { events: user(address), data: user(address + EPOLL_EVENT.1), reserved: 0 }
}

/// A value of the current program; 0 where it cannot be read.
#[inline(always)]
fn user<T: Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address, and writes as many bytes as the value has: zeros
    // where it fails.
    unsafe {
        bpf_probe_read_user(
            (&raw mut value).cast::<c_void>(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
    }
    value
}
