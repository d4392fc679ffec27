//! The few system calls that std does not have.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::AtomicU32;

use anyhow::{Context, Result, ensure};

/// The result of a call that gives -1 for an error.
pub fn check(result: impl Into<i64>, what: &str) -> Result<i64> {
    let result = result.into();
    ensure!(result >= 0, "{what}: {}", io::Error::last_os_error());
    Ok(result)
}

/// A pipe that programs started with `exec` do not inherit: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe().context("pipe")?;
    Ok((read.into(), write.into()))
}

/// CPUs, and where the calling thread may run. Threads and processes inherit it from who makes them:
/// so they are on their CPU before the play, and no migration is part of it.
#[derive(Clone)]
pub struct Cpus(libc::cpu_set_t);

impl Cpus {
    /// Those that the calling thread may use.
    pub fn allowed() -> Result<Self> {
        // SAFETY: plain old data, for which zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is valid for writing and of this size.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        check(result, "sched_getaffinity")?;
        Ok(Self(set))
    }

    /// Only one of these CPUs: the first of them, the second, …
    pub fn only(&self, index: usize) -> Result<Self> {
        let cpu = (0..libc::CPU_SETSIZE as usize)
            // SAFETY: `cpu` is within the set.
            .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &self.0) })
            .nth(index)
            .with_context(|| format!("this target needs {} CPUs", index + 1))?;
        // SAFETY: plain old data, for which zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `cpu` is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        Ok(Self(set))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        // SAFETY: the set is plain data.
        unsafe { libc::CPU_COUNT(&self.0) as usize }
    }

    /// Keeps the calling thread on these CPUs.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the set is valid for reading and of this size.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &self.0) };
        check(result, "sched_setaffinity")?;
        Ok(())
    }
}

/// Lets this process open as many files as it may.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a valid limit.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), "getrlimit")?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), "setrlimit")?;
    }
    Ok(())
}

/// Schedules the calling thread as a batch job, which never preempts another one when it wakes up:
/// two on one CPU then run strictly in turns.
pub fn run_as_batch() -> Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: `none` is valid for reading.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &none) }, "sched_setscheduler")?;
    Ok(())
}

/// Lets timers of the calling thread end when they are due. The default lets them be 50 µs late.
pub fn precise_timers() -> Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) }, "prctl(PR_SET_TIMERSLACK)")?;
    Ok(())
}

/// Ends the calling process with SIGKILL when the thread that forked it ends.
pub fn die_with_parent() -> Result<()> {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check(result, "prctl(PR_SET_PDEATHSIG)")?;
    Ok(())
}

/// Has a program get `signal` when the calling thread ends, however it ends.
pub fn end_with_caller(command: &mut Command, signal: libc::c_int) -> &mut Command {
    let arm = move || {
        // SAFETY: takes no pointers.
        let armed = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } == 0;
        if armed { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe { command.pre_exec(arm) }
}

/// A futex of the calling process or of those it shares memory with: sleeps while `word` is
/// `value`. False: it was another value already.
#[inline(always)]
pub fn futex_wait(word: &AtomicU32, value: u32) -> bool {
    // SAFETY: `word` is valid for reading; no timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            std::ptr::null::<libc::timespec>(),
        ) == 0
    }
}

/// Wakes one thread that sleeps in [`futex_wait`]; false: there was none.
#[inline(always)]
pub fn futex_wake(word: &AtomicU32) -> bool {
    // SAFETY: only the address is used.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) == 1 }
}

/// Reads one byte from a pipe.
#[inline(always)]
pub fn read_byte(fd: RawFd) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: `byte` is valid for writing.
    let length = unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
    (length == 1).then_some(byte)
}

/// Writes one byte to a pipe.
#[inline(always)]
pub fn write_byte(fd: RawFd, byte: u8) -> bool {
    // SAFETY: `byte` is valid for reading.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) == 1 }
}
