//! Seeing that another thread sleeps.

use std::fs::File;
use std::hint::spin_loop;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::task::Role;

/// A thread that is about to run is on a CPU by then.
const A_WHILE: Duration = Duration::from_micros(200);

/// An eye on a thread: a waker that waits for [`Watch::asleep`] ends exactly one wait each time.
///
/// It reads `/proc` and never sleeps, so that a waker's own waits can be counted too.
#[derive(Debug)]
pub struct Watch {
    role: &'static Role,
    status: File,
    seen: u64,
}

impl Watch {
    /// Watches the thread that plays `role`.
    pub fn new(role: &'static Role) -> Result<Self> {
        let path = format!("/proc/{}/task/{}/status", role.pid(), role.tid());
        Ok(Self { role, status: File::open(&path).context(path)?, seen: 0 })
    }

    /// Returns once the thread sleeps in the wait that it announced after the one of the last call.
    pub fn asleep(&mut self) -> Result<()> {
        self.asleep_in(self.seen + 1)
    }

    /// Returns once the thread sleeps in the `n`th wait (from 1) that it announced.
    pub fn asleep_in(&mut self, n: u64) -> Result<()> {
        self.seen = n;
        while self.role.announced() < n {
            spin_loop();
        }
        self.off_cpu()
    }

    /// Returns once all these threads sleep, and have not run for a while, however often they did before.
    pub fn at_rest(all: &[Self]) -> Result<()> {
        let mut before = None;
        loop {
            let mut switches = 0;
            let mut are_asleep = true;
            for watch in all {
                let (mut buffer, state) = ([0; 4096], b"\nState:\tS");
                let status = watch.status(&mut buffer)?;
                // Escaped, the name is one line.
                are_asleep &= status.windows(state.len()).any(|bytes| bytes == state);
                switches += voluntary_switches(status)?;
            }
            let now = are_asleep.then_some(switches);
            if now.is_some() && now == before {
                return Ok(());
            }
            before = now;
            let since = Instant::now();
            while since.elapsed() < A_WHILE {
                spin_loop();
            }
        }
    }

    /// Returns once the thread is off-CPU in the wait that it announced last. The number of switches
    /// decides: the kernel adds to it once the switch cannot be called off any more.
    pub(crate) fn off_cpu(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let switches = voluntary_switches(self.status(&mut buffer)?)?;
            if switches > self.role.switches_when_announced() {
                return Ok(());
            }
            spin_loop();
        }
    }

    fn status<'a>(&self, buffer: &'a mut [u8; 4096]) -> Result<&'a [u8]> {
        let length = self.status.read_at(buffer, 0).context("a thread of the play is gone")?;
        Ok(&buffer[..length])
    }
}

fn voluntary_switches(status: &[u8]) -> Result<u64> {
    // The end only: at the start there is the name, which may be any bytes.
    std::str::from_utf8(&status[status.len().saturating_sub(128)..])
        .unwrap_or_default()
        .rsplit_once("\nvoluntary_ctxt_switches:")
        .and_then(|(_, rest)| rest.lines().next()?.trim().parse::<u64>().ok())
        .context("/proc/PID/status: no voluntary_ctxt_switches")
}
