//! Descriptors that system calls return, and `perf` events, which are some.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};

use crate::snapshot::system;

/// As many are open at the peak of a recording, beside one for each CPU: maps, programs, and what attaches them. The
/// files of programs leave room for them (snapshot/files.rs).
const NEEDED: u64 = 55;

/// Makes sure that there is room for as many. Otherwise the first call that finds none would fail, whichever that is,
/// and aya takes what it cannot try out for what the kernel does not have.
///
/// # Errors
/// When there are fewer. `limit`: of all that are open.
pub(super) fn require(limit: u64) -> Result<()> {
    let needed = NEEDED + system::cpus();
    // SAFETY: the call takes no pointers.
    let one = |_| owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }.into());
    let Err(error) = (0..needed).map(one).collect::<io::Result<Vec<_>>>() else { return Ok(()) };
    let advice = match error.raw_os_error() {
        Some(libc::EMFILE) => {
            let enough = limit.saturating_add(needed);
            format!("{limit} open files are too few: run `ulimit -n {enough}` as root first")
        }
        _ => format!("cannot open {needed} files"),
    };
    Err(error).context(advice)
}

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
