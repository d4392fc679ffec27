//! Descriptors that system calls return, and `perf` events, which are some.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};

/// The new descriptor that a system call returned, or why it returned none.
pub(super) fn owned(result: i64) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the system call returned a new descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a `perf` event of any process on this CPU. `kind`: its type; `configure` says the rest.
pub(super) fn perf_event(
    cpu: i32,
    kind: u32,
    config: u64,
    configure: impl FnOnce(&mut perf_event_attr),
) -> io::Result<OwnedFd> {
    // SAFETY: the type is plain data, for which zeros are valid.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.type_ = kind;
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.config = config;
    configure(&mut attr);
    let (any_process, no_group) = (-1, -1);
    // SAFETY: the attribute is as large as it says.
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    })
}
