//! The programs of `offwake epoll`, by BTF-enabled tracepoints. Recordings load none of them.

mod call;
mod file;
mod maps;
mod send;
mod wait;

use core::ffi::c_void;

use aya_ebpf::bindings::task_struct;
use aya_ebpf::macros::{btf_tracepoint, uprobe};
use aya_ebpf::programs::{BtfTracePointContext, ProbeContext};
use offwake_shared::EpollThread;

use self::maps::*;
use crate::arch::syscall;
use crate::memory::read_at;
use crate::source::file::File;
use crate::target;
use crate::task::{self, Ids, Task};

/// `sched_waking(p)` in `try_to_wake_up`, on the waker's CPU.
#[btf_tracepoint(function = "sched_waking")]
fn epoll_waking(ctx: BtfTracePointContext) -> i32 {
    wait::wake(&ctx, Task::new(ctx.arg::<*const task_struct>(0)));
    0
}

/// `sched_switch(preempt, prev, next)` in `__schedule`.
#[btf_tracepoint(function = "sched_switch")]
fn epoll_switch(ctx: BtfTracePointContext) -> i32 {
    let preempt: u64 = ctx.arg(0);
    let prev = Task::new(ctx.arg::<*const task_struct>(1));
    let next = Task::new(ctx.arg::<*const task_struct>(2));
    if preempt & 0xff == 0 && wait::sleeps(prev) {
        wait::switched_out(prev.tid());
    }
    wait::switched_in(next.tid());
    0
}

/// `sys_enter(regs, id)`, before a system call.
#[btf_tracepoint(function = "sys_enter")]
fn epoll_enter(ctx: BtfTracePointContext) -> i32 {
    let (registers, id): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let id = id as u32;
    let waits = waits(id);
    if !waits && id != syscall::CLOSE {
        return 0;
    }
    let Some((task, ids)) = target_now() else { return 0 };
    let thread = thread(task, ids);
    let fd = read_at::<u64>(registers, &EPOLL_CALL_0) as i32;
    if waits {
        wait::begin(task.tid(), thread, fd, read_at(registers, &EPOLL_CALL_1));
    } else {
        call::closing(task.as_ptr() as u64, thread, fd);
    }
    0
}

/// `sys_exit(regs, ret)`, after a system call.
#[btf_tracepoint(function = "sys_exit")]
fn epoll_exit(ctx: BtfTracePointContext) -> i32 {
    let (registers, result): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let result = result as i64;
    let id: u32 = read_at(registers, &EPOLL_CALL);
    if waits(id) {
        wait::end(Task::current().tid(), result);
        return 0;
    }
    let reads = matches!(id, syscall::READ | syscall::RECVFROM | syscall::RECVMSG | syscall::READV);
    let writes =
        matches!(id, syscall::WRITE | syscall::SENDTO | syscall::SENDMSG | syscall::WRITEV);
    let accepts = matches!(id, syscall::ACCEPT | syscall::ACCEPT4);
    let controls = id == syscall::EPOLL_CTL && result == 0;
    if !(accepts || controls || (reads || writes) && result > 0) {
        return 0;
    }
    let Some((task, ids)) = target_now() else { return 0 };
    let fd = read_at::<u64>(registers, &EPOLL_CALL_0) as i32;
    let at = task.as_ptr() as u64;
    if accepts {
        call::accepted(at, thread(task, ids), fd, result);
    } else if controls {
        let operation = read_at::<u64>(registers, &EPOLL_CALL_1) as u32;
        let other = read_at::<u64>(registers, &EPOLL_CALL_2) as i32;
        let event = read_at(registers, &EPOLL_CALL_3);
        call::controlled(at, thread(task, ids), fd, operation, other, event);
    } else {
        let bytes = result as u64;
        let (read, written) = if reads { (bytes, 0) } else { (0, bytes) };
        call::transferred(ids.tgid, fd, read, written);
    }
    0
}

/// `softirq_entry(vec_nr)` in `handle_softirqs`.
#[btf_tracepoint(function = "softirq_entry")]
fn epoll_softirq_entry(ctx: BtfTracePointContext) -> i32 {
    set_softirq(Softirq { number: ctx.arg::<u64>(0) as u32 + 1, tid: Task::current().tid() })
}

/// `softirq_exit(vec_nr)` in `handle_softirqs`.
#[btf_tracepoint(function = "softirq_exit")]
fn epoll_softirq_exit(_ctx: BtfTracePointContext) -> i32 {
    set_softirq(Softirq { number: 0, tid: 0 })
}

#[inline(always)]
fn set_softirq(softirq: Softirq) -> i32 {
    if let Some(now) = EPOLL_SOFTIRQ.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's, and softirqs do not nest.
        unsafe { *now = softirq };
    }
    0
}

/// The softirq that the current thread, `current`, runs or is interrupted by, plus 1; 0: none.
#[inline(always)]
fn softirq_of(current: Task) -> u32 {
    let Some(now) = EPOLL_SOFTIRQ.get_ptr(0) else { return 0 };
    // SAFETY: as in `set_softirq`.
    let Softirq { number, tid } = unsafe { *now };
    // With PREEMPT_RT a thread that runs one is preempted, and nobody knows of its own any more when it is back.
    if tid == current.tid() { number } else { 0 }
}

/// The function of `--callback`: libevent calls those with a descriptor, event bits and an argument.
#[uprobe]
fn epoll_callback(ctx: ProbeContext) -> u32 {
    let Some((task, ids)) = target_now() else { return 0 };
    call::callback(&ctx, thread(task, ids));
    0
}

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c); see [`crate::existing`].
#[repr(C)]
struct Context {
    meta: *const *mut c_void,
    /// Null behind the last one.
    task: *const task_struct,
    fd: u32,
    _padding: u32,
    file: *const c_void,
}

/// Tells of a descriptor that is open. The iterator goes over those of all processes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn epoll_files(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context, and a task and a file in it until the end.
    let (task, fd, file) = unsafe { ((*ctx).task, (*ctx).fd, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let task = Task::new(task);
    let ids = task::ids(task);
    if target::is_target_process(ids.tgid) {
        call::open(File(file as u64), thread(task, ids), fd as i32);
    }
    0
}

#[inline(always)]
fn waits(id: u32) -> bool {
    id == syscall::EPOLL_WAIT || id == syscall::EPOLL_PWAIT || id == syscall::EPOLL_PWAIT2
}

/// The current thread, if it is one of the targets'.
#[inline(always)]
fn target_now() -> Option<(Task, Ids)> {
    let task = Task::current();
    let ids = task::current_ids(task);
    target::is_target_process(ids.tgid).then_some((task, ids))
}

/// A thread, which has these ids.
#[inline(always)]
fn thread(task: Task, ids: Ids) -> EpollThread {
    EpollThread { tgid: ids.tgid, tid: ids.tid, comm: task.comm() }
}
