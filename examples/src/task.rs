//! Threads as the kernel sees them.

use std::ffi::CString;
use std::fs;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::shared::Shareable;
use crate::sys::check;

/// A thread's place in the play. Shared by all, so that a waker can see how its sleeper is.
#[derive(Debug)]
pub struct Role {
    pid: AtomicU32,
    tid: AtomicU32,
    /// The voluntary switches of the thread before the wait that it announced last.
    switches: AtomicU64,
    /// How many waits it has announced.
    announced: AtomicU64,
    /// 1: at the start gate; 2: at the end gate.
    gate: AtomicU32,
}

// SAFETY: atomics only.
unsafe impl Shareable for Role {}

impl Role {
    /// Makes the calling thread play this role under a name of at most 15 bytes.
    pub fn assume(&self, comm: &[u8]) -> Result<()> {
        ensure!(comm.len() <= 15, "the kernel keeps 15 bytes of a name");
        let name = CString::new(comm).context("a name has no 0 byte")?;
        // SAFETY: `name` ends with 0.
        check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }, "prctl(PR_SET_NAME)")?;
        // SAFETY: takes no pointers.
        self.tid.store(unsafe { libc::gettid() } as u32, Relaxed);
        self.pid.store(std::process::id(), Release);
        Ok(())
    }

    /// The process; 0 until somebody plays the role.
    pub fn pid(&self) -> u32 {
        self.pid.load(Acquire)
    }

    /// The thread; 0 until somebody plays the role.
    pub fn tid(&self) -> u32 {
        self.tid.load(Acquire)
    }

    /// Tells wakers that the calling thread, whose role this is, goes to sleep in its next system call.
    #[inline(always)]
    pub fn announce(&self) {
        self.switches.store(own_voluntary_switches(), Relaxed);
        self.announced.fetch_add(1, Release);
    }

    /// How many waits were announced.
    pub fn announced(&self) -> u64 {
        self.announced.load(Acquire)
    }

    /// The voluntary switches before the wait announced last: one more, and it sleeps.
    pub fn switches_when_announced(&self) -> u64 {
        self.switches.load(Acquire)
    }

    pub(crate) fn set_gate(&self, gate: u32) {
        self.switches.store(own_voluntary_switches(), Relaxed);
        self.gate.store(gate, Release);
    }

    pub(crate) fn gate(&self) -> u32 {
        self.gate.load(Acquire)
    }
}

/// The voluntary switches of the calling thread.
pub fn own_voluntary_switches() -> u64 {
    // SAFETY: plain old data.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: valid for writing. The call cannot fail with these arguments.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_nvcsw as u64
}

/// What the kernel counted for a thread.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    /// When this was read, or the time between two readings.
    pub wall_ns: u64,
    /// On a CPU (`schedstat`).
    pub on_cpu_ns: u64,
    /// Runnable, but not on a CPU (`schedstat`): after wake-ups and when preempted.
    pub run_delay_ns: u64,
    /// Switched out to wait.
    pub voluntary_switches: u64,
    /// Switched out while runnable.
    pub involuntary_switches: u64,
}

impl Usage {
    /// The figures of a thread. They are exact when it does not run.
    pub fn read(role: &Role) -> Result<Self> {
        let dir = format!("/proc/{}/task/{}", role.pid(), role.tid());
        let read = |name| {
            let bytes =
                fs::read(format!("{dir}/{name}")).with_context(|| format!("{dir}/{name}"))?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let wall_ns = crate::clock::now();
        let schedstat = read("schedstat")?;
        let mut numbers = schedstat.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(on_cpu_ns)), Some(Ok(run_delay_ns))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("{dir}/schedstat: unexpected: {schedstat}");
        };
        let status = read("status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok())
                .with_context(|| format!("{dir}/status: no {name}"))
        };
        Ok(Self {
            wall_ns,
            on_cpu_ns,
            run_delay_ns,
            voluntary_switches: field("voluntary_ctxt_switches")?,
            involuntary_switches: field("nonvoluntary_ctxt_switches")?,
        })
    }

    /// The figures since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            wall_ns: self.wall_ns - before.wall_ns,
            on_cpu_ns: self.on_cpu_ns - before.on_cpu_ns,
            run_delay_ns: self.run_delay_ns - before.run_delay_ns,
            voluntary_switches: self.voluntary_switches - before.voluntary_switches,
            involuntary_switches: self.involuntary_switches - before.involuntary_switches,
        }
    }
}
