//! What threads do with descriptors: open, close, read and write them, and have epoll wait for them.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::ProbeContext;
use offwake_shared::{EpollBytes, EpollCall, EpollFd, EpollKind, EpollThread};

use super::maps::{EPOLL_ARGUMENT_2, EPOLL_BYTES};
use super::{file, send, wait};
use crate::arch;
use crate::maps::{REGS_ARGUMENT_0, REGS_ARGUMENT_1};
use crate::memory::read_at;
use crate::source::file::File;

/// `accept` or `accept4` returns a connection, or an error.
#[inline(always)]
pub fn accepted(task: u64, thread: EpollThread, listener: i32, result: i64) {
    let fd = if result < 0 { listener } else { result as i32 };
    if result >= 0 {
        // Of what had the number before, if nobody called `close` (`dup2`, `close_range`).
        let _ = EPOLL_BYTES.remove(EpollFd { tgid: thread.tgid, fd });
    }
    let opened = File::of_descriptor(task, fd as u32);
    send::event(|out: *mut EpollCall| {
        let out = fill(out, EpollKind::Accept, thread, listener, result);
        file::describe(opened, fd, 0, &mut out.file);
    });
}

/// A descriptor is about to be closed.
#[inline(always)]
pub fn closing(task: u64, thread: EpollThread, fd: i32) {
    let key = EpollFd { tgid: thread.tgid, fd };
    // SAFETY: the value is in the map.
    let bytes = EPOLL_BYTES.get_ptr(key).map_or(EpollBytes::default(), |bytes| unsafe { *bytes });
    let _ = EPOLL_BYTES.remove(key);
    let opened = File::of_descriptor(task, fd as u32);
    if opened.0 == 0 || opened.is_on_disk() {
        return;
    }
    send::event(|out: *mut EpollCall| {
        let out = fill(out, EpollKind::Close, thread, fd, 0);
        out.data = bytes.read;
        out.written = bytes.written;
        file::describe(opened, fd, 0, &mut out.file);
    });
}

/// `epoll_ctl` has changed what an instance waits for.
#[inline(always)]
pub fn controlled(
    task: u64,
    thread: EpollThread,
    epfd: i32,
    operation: u32,
    fd: i32,
    address: u64,
) {
    let opened = File::of_descriptor(task, fd as u32);
    let event = wait::event(address);
    send::event(|out: *mut EpollCall| {
        let out = fill(out, EpollKind::Control, thread, epfd, 0);
        out.operation = operation;
        out.data = event.data;
        file::describe(opened, fd, event.events, &mut out.file);
    });
}

/// A descriptor that is open.
#[inline(always)]
pub fn open(opened: File, thread: EpollThread, fd: i32) {
    if opened.is_on_disk() {
        return;
    }
    send::event(|out: *mut EpollCall| {
        let out = fill(out, EpollKind::Open, thread, fd, 0);
        file::describe(opened, fd, 0, &mut out.file);
    });
}

/// A function of `--callback` is called. Which one, its address tells: before 5.15 nothing else does.
#[inline(always)]
pub fn callback(ctx: &ProbeContext, thread: EpollThread) {
    let registers = ctx.as_ptr() as u64;
    let (address, fd, operation, data): (u64, u64, u64, u64) = (
        arch::address(registers),
        read_at(registers, &REGS_ARGUMENT_0),
        read_at(registers, &REGS_ARGUMENT_1),
        read_at(registers, &EPOLL_ARGUMENT_2),
    );
    send::event(|out: *mut EpollCall| {
        let out = fill(out, EpollKind::Callback, thread, fd as i32, address as i64);
        out.operation = operation as u32;
        out.data = data;
        file::describe(File(0), fd as i32, 0, &mut out.file);
    });
}

/// So many bytes were read from a descriptor, or written to it.
#[inline(always)]
pub fn transferred(tgid: u32, fd: i32, read: u64, written: u64) {
    let key = EpollFd { tgid, fd };
    if let Some(bytes) = EPOLL_BYTES.get_ptr_mut(key) {
        // SAFETY: the value is in the map. Threads that use one descriptor at the same time are rare, and
        // cost a count.
        unsafe {
            (*bytes).read += read;
            (*bytes).written += written;
        }
    } else if EPOLL_BYTES.insert(key, EpollBytes { read, written }, 0).is_err() {
        send::count(|counters| counters.bytes_full += 1);
    }
}

#[inline(always)]
fn fill<'a>(
    out: *mut EpollCall,
    kind: EpollKind,
    thread: EpollThread,
    fd: i32,
    result: i64,
) -> &'a mut EpollCall {
    // SAFETY: the memory is of this type; what is not written here, the callers write.
    let out = unsafe { &mut *out };
    out.head = send::head(kind, thread);
    out.result = result;
    out.data = 0;
    out.written = 0;
    out.fd = fd;
    out.operation = 0;
    out
}
