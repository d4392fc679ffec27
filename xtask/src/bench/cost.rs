//! What a program takes: time, and the peak of its memory.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub(super) struct Cost {
    pub(super) time: Duration,
    /// Of all processors.
    pub(super) cpu: Duration,
    /// The peak of its resident memory.
    pub(super) bytes: u64,
}

/// Runs a program to its end.
pub(super) fn run(command: &mut Command) -> Result<Cost> {
    let start = Instant::now();
    let child = command.spawn().context("cannot start offwake")?;
    finish(&child, start)
}

/// Waits for a program, whose time began at `start`.
pub(super) fn finish(child: &Child, start: Instant) -> Result<Cost> {
    let pid = libc::pid_t::try_from(child.id()).context("its pid")?;
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values, and nobody else waits for this child.
    while unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        let error = std::io::Error::last_os_error();
        ensure!(error.kind() == std::io::ErrorKind::Interrupted, "wait4: {error}");
    }
    let time = start.elapsed();
    let status = ExitStatus::from_raw(status);
    ensure!(status.success(), "offwake failed ({status})");
    let duration = |time: libc::timeval| {
        Duration::from_micros((time.tv_sec * 1_000_000 + time.tv_usec) as u64)
    };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    // In KiB (getrusage(2)).
    Ok(Cost { time, cpu, bytes: usage.ru_maxrss as u64 * 1024 })
}
