//! Loads: two threads that do nothing but wake each other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::child::{self, Group};

/// What runs while it is measured: one process with two threads, so that tracers that take one pid
/// see both.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `perf bench sched pipe`: where there is nothing else to do, its threads are on two CPUs, of which each sleeps
    /// until the other wakes it, so that caches are cold.
    Pipe,
    /// The same on the first CPU, which never sleeps.
    PipeOnOneCpu,
    /// `examples/src/bin/deep_pipes.rs`: each thread has a user stack of about [`DEEP_FRAMES`] frames.
    Deep(PathBuf),
}

/// How many frames the user stacks of [`Kind::Deep`] have: 7 of threads and of reading, and as many as
/// it is told to call.
pub(crate) const DEEP_FRAMES: u32 = 20;

/// Of perf: two threads and pipes between them, for longer than anybody measures.
const PIPE: [&str; 5] = ["bench", "sched", "pipe", "--threaded", "--loop=1000000000"];

/// A load that runs.
pub(crate) struct Load(Group);

/// Thread switches in a stretch of time.
#[derive(Clone, Copy)]
pub(crate) struct Switches {
    /// How many.
    pub(crate) count: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
}

impl std::ops::Add for Switches {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { count: self.count + other.count, seconds: self.seconds + other.seconds }
    }
}

impl Switches {
    /// Switches per second.
    pub(crate) fn rate(self) -> f64 {
        self.count as f64 / self.seconds
    }
}

impl Load {
    /// Starts it, for longer than anybody measures.
    pub(crate) fn start(kind: &Kind) -> Result<Self> {
        let mut command = match kind {
            Kind::Pipe => {
                let mut perf = Command::new("perf");
                perf.args(PIPE);
                perf
            }
            Kind::PipeOnOneCpu => {
                let mut taskset = Command::new("taskset");
                taskset.args(["--cpu-list", "0", "perf"]).args(PIPE);
                taskset
            }
            Kind::Deep(program) => {
                let mut command = Command::new(program);
                command.args(["--depth", &(DEEP_FRAMES - 7).to_string()]);
                command
            }
        };
        let mut group = Group::start_silent(&mut command)?;
        let pid = group.pid();
        let threads = child::wait_for(Duration::from_secs(10), || {
            group.expect_running()?;
            // The main thread waits for the two.
            Ok((thread_ids(pid)?.len() >= 3).then_some(()))
        })?;
        threads.context("the load did not start its threads within 10 s")?;
        Ok(Self(group))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Lets it run for a while and counts its switches.
    pub(crate) fn switches_during(&mut self, duration: Duration) -> Result<Switches> {
        let (before, start) = (self.switches()?, Instant::now());
        child::pause(duration)?;
        let (after, seconds) = (self.switches()?, start.elapsed().as_secs_f64());
        self.0.expect_running()?;
        let count = after - before;
        ensure!(count > 0, "the load does not switch threads");
        Ok(Switches { count, seconds })
    }

    fn switches(&self) -> Result<u64> {
        let mut sum = 0;
        for tid in thread_ids(self.pid())? {
            let status = fs::read_to_string(format!("/proc/{}/task/{tid}/status", self.pid()))?;
            sum += switches_in_status(&status);
        }
        Ok(sum)
    }
}

fn thread_ids(pid: u32) -> Result<Vec<String>> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .context("the load has ended")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Voluntary and involuntary switches in a `/proc/PID/status`.
fn switches_in_status(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| line.split_once("voluntary_ctxt_switches:"))
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_switches_count() {
        let status = "Name:\tperf\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(switches_in_status(status), 42);
    }
}
