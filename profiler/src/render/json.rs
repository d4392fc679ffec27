//! JSON: one object with everything a profile has. All times are ns unless the name says else.
//! Names are as they were read, escaped as JSON only. Members may be added; none changes its
//! meaning.
//!
//! ```text
//! {
//!   "recording": {
//!     "started": 1750000000.25,       seconds since 1970
//!     "seconds": 30.0,                how long
//!     "kernel": "6.1.0", "probe": "btf",
//!     "wake_source": "port (tracepoints)", how finely and by what means sources were told; null: not at all
//!     "targets": ["envoy (pid 4182)"]
//!   },
//!   "wake_sources": {"named": 90,     of how many waits "wake_source" is known, and how many were ended by
//!     "woken": 100},                  a wake-up; only where sources were looked for
//!   "losses": {"threads_full": 0, …}, every cause with its count, zeros too
//!   "sampling": {                     only with --overhead: the sums of "waits" are estimates
//!     "ceiling_percent": 1.0,         the most that BPF was to take of the machine's CPU time
//!     "spent_percent": 0.97,          what it took
//!     "samples": 20000,               intervals that were recorded; each counts for several
//!     "count_error": 310,             the standard error of the number of intervals in sum
//!     "off_error_ns": 12000000,       of their time off-CPU, in ns
//!     "count_confidence": 608,        1.96 times as much: 95 %; or as far as the exact sums of threads
//!     "off_confidence_ns": 23520000,  are away, where that is more
//!     "threads": [{                   all intervals of each thread: exact
//!       "pid": 1, "tid": 2, "comm": "", "count": 7, "blocked_ns": 5, "runqueue_ns": 3
//!     }]
//!   },
//!   "modules": [{                     programs and libraries that user frames name as theirs
//!     "name": "envoy", "path": "/usr/bin/envoy",
//!     "build_id": "ab01…"             null where the file has none
//!   }],
//!   "waits": [{                       every distinct wait, longest off-CPU time first
//!     "sleeper": {"pid": 4182, "tid": 4449, "comm": "wrk:worker_0"},
//!     "waker": {
//!       "kind": "task",               task, irq, softirq, preempted, not_woken, unknown
//!       "pid": 1, "tid": 2, "comm": "", of a task only
//!       "softirq": "NET_RX"           of a softirq only
//!     },
//!     "wake_source": "[eventfd]",     what the sleeper waited for; null where it is not known. Also the
//!                                     innermost frame of "waker_stack"
//!     "state": "interruptible",       why it was off-CPU; the names that --state takes
//!     "count": 12,                    how many intervals; the times are their sums
//!     "blocked_ns": 200110000,        from switch-out to wake-up
//!     "runqueue_ns": 980100,          from wake-up (or preemption) to switch-in
//!     "max_ns": 50010000,             the longest interval, switch-out to switch-in
//!     "histogram": [[8388608, 11],    how many intervals were how long, switch-out to switch-in: at
//!       [33554432, 1]],               least so many ns and less than twice as many (from 0: less than
//!                                     1024; from 2^40: no limit), and their count; zeros are left out.
//!                                     Sums to "count"; to less where a file did not tell all lengths
//!     "samples": 12,                  with --overhead: how many intervals were recorded,
//!     "count_error": 3,               and the standard errors of "count" and of the time off-CPU
//!     "off_error_ns": 2000,
//!     "sleeper_stack": [{             innermost first: kernel frames, then user frames
//!       "name": "ep_poll",            null where it is not known for certain
//!       "module": null,               file name; null in the kernel proper and in no file
//!       "offset": 18,                 in a program: address as in the ELF file; in the kernel:
//!                                     bytes from the function's start
//!       "kernel": true,
//!       "file": "/src/a.c",           with --lines, where debug information has them; of a
//!       "line": 7,                    caller, the line of the call
//!       "inlined": true               only of a function inlined into the next frame
//!     }],
//!     "waker_stack": []               likewise
//!   }]
//! }
//! ```
//!
//! Each wait is on a line of its own.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use crate::profile::{self, FrameId, Histogram, Losses, Meta, Profile};

pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"{\"recording\":")?;
    serde_json::to_writer(&mut *out, &Recording::new(&profile.meta))?;
    if profile.meta.wake_source.is_some() {
        let (named, woken) = profile.sources();
        write!(out, ",\n\"wake_sources\":{{\"named\":{named},\"woken\":{woken}}}")?;
    }
    out.write_all(b",\n\"losses\":")?;
    serde_json::to_writer(&mut *out, &losses(&profile.losses))?;
    if let Some(sampling) = Sampling::of(profile) {
        out.write_all(b",\n\"sampling\":")?;
        serde_json::to_writer(&mut *out, &sampling)?;
    }
    out.write_all(b",\n\"modules\":")?;
    serde_json::to_writer(&mut *out, &modules(profile))?;
    // One wait at a time: a profile can be far larger than its waits are.
    out.write_all(b",\n\"waits\":[")?;
    for (index, wait) in profile.waits.iter().enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &Wait::new(profile, wait))?;
    }
    out.write_all(b"\n]}\n")
}

#[derive(Serialize)]
pub(super) struct Recording<'a> {
    started: f64,
    seconds: f64,
    kernel: &'a str,
    probe: &'a str,
    wake_source: Option<&'a str>,
    targets: &'a [String],
}

impl<'a> Recording<'a> {
    pub(super) fn new(meta: &'a Meta) -> Self {
        let Meta { started: _, duration, kernel, probe, wake_source, targets, sampling: _ } = meta;
        Self {
            started: started(meta),
            seconds: duration.as_secs_f64(),
            kernel,
            probe,
            wake_source: wake_source.as_deref(),
            targets,
        }
    }
}

/// When a recording began, in seconds since 1970. A clock before that is not set: 0.
pub(super) fn started(meta: &Meta) -> f64 {
    let since = meta.started.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

pub(super) fn losses(losses: &Losses) -> BTreeMap<&'static str, u64> {
    losses.iter().map(|(loss, count)| (loss.name(), count)).collect()
}

fn modules(profile: &Profile) -> Vec<Module<'_>> {
    let modules = profile.modules.iter().map(|module| {
        let profile::Module { name, path, build_id } = module;
        let build_id = build_id
            .as_ref()
            .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Module { name, path, build_id }
    });
    modules.collect()
}

#[derive(Serialize)]
struct Module<'a> {
    name: &'a str,
    path: &'a str,
    build_id: Option<String>,
}

#[derive(Serialize)]
struct Estimate {
    samples: u64,
    count_error: u64,
    off_error_ns: u64,
}

impl Estimate {
    fn new(estimate: &profile::Estimate) -> Self {
        let profile::Estimate { samples, count_error, off_error_ns } = *estimate;
        Self { samples, count_error, off_error_ns }
    }
}

#[derive(Serialize)]
pub(super) struct Sampling<'a> {
    ceiling_percent: f64,
    spent_percent: f64,
    #[serde(flatten)]
    estimate: Estimate,
    count_confidence: u64,
    off_confidence_ns: u64,
    threads: Vec<ThreadTotal<'a>>,
}

impl<'a> Sampling<'a> {
    /// `None` where all intervals were counted.
    pub(super) fn of(profile: &'a Profile) -> Option<Self> {
        let profile::Sampling { ceiling_ppm, spent_ppm, threads } =
            profile.meta.sampling.as_ref()?;
        let percent = |ppm: u32| f64::from(ppm) / 1e4;
        let threads = threads.iter().map(|total| {
            let profile::ThreadTotal { thread, count, blocked_ns, runqueue_ns } = total;
            ThreadTotal {
                thread: Thread::new(thread),
                count: *count,
                blocked_ns: *blocked_ns,
                runqueue_ns: *runqueue_ns,
            }
        });
        let (count_confidence, off_confidence_ns) = profile.confidence();
        Some(Self {
            count_confidence,
            off_confidence_ns,
            ceiling_percent: percent(*ceiling_ppm),
            spent_percent: percent(*spent_ppm),
            estimate: Estimate::new(&profile.estimate()),
            threads: threads.collect(),
        })
    }
}

#[derive(Serialize)]
struct ThreadTotal<'a> {
    #[serde(flatten)]
    thread: Thread<'a>,
    count: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
}

#[derive(Serialize)]
struct Wait<'a> {
    sleeper: Thread<'a>,
    waker: Waker<'a>,
    wake_source: Option<&'a str>,
    state: &'static str,
    count: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    max_ns: u64,
    histogram: Vec<(u64, u64)>,
    #[serde(flatten)]
    estimate: Option<Estimate>,
    sleeper_stack: Vec<Frame<'a>>,
    waker_stack: Vec<Frame<'a>>,
}

impl<'a> Wait<'a> {
    fn new(profile: &'a Profile, wait: &'a profile::Wait) -> Self {
        let profile::Wait {
            sleeper,
            waker,
            state,
            count,
            blocked_ns,
            runqueue_ns,
            max_ns,
            histogram,
            estimate,
            sleeper_stack,
            waker_stack,
        } = wait;
        let estimate = profile.meta.sampling.is_some().then(|| Estimate::new(estimate));
        let stack = |ids: &[FrameId]| {
            ids.iter().map(|id| Frame::new(&profile.frames[*id as usize])).collect()
        };
        Self {
            sleeper: Thread::new(sleeper),
            waker: Waker::new(waker),
            wake_source: wait.source(&profile.frames),
            state: state.name(),
            count: *count,
            blocked_ns: *blocked_ns,
            runqueue_ns: *runqueue_ns,
            max_ns: *max_ns,
            histogram: self::histogram(histogram),
            estimate,
            sleeper_stack: stack(sleeper_stack),
            waker_stack: stack(waker_stack),
        }
    }
}

/// Where each bucket begins, and its count.
pub(super) fn histogram(histogram: &Histogram) -> Vec<(u64, u64)> {
    let buckets = histogram.counts().iter().enumerate();
    buckets
        .filter(|(_, count)| **count > 0)
        .map(|(bucket, count)| (Histogram::lower_ns(bucket), *count))
        .collect()
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: u32,
    tid: u32,
    comm: &'a str,
}

impl<'a> Thread<'a> {
    fn new(thread: &'a profile::Thread) -> Self {
        let profile::Thread { pid, tid, comm } = thread;
        Self { pid: *pid, tid: *tid, comm }
    }
}

#[derive(Serialize)]
struct Waker<'a> {
    kind: &'static str,
    #[serde(flatten)]
    thread: Option<Thread<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    softirq: Option<&'a str>,
}

impl<'a> Waker<'a> {
    fn new(waker: &'a profile::Waker) -> Self {
        let (thread, softirq) = match waker {
            profile::Waker::Task(thread) => (Some(Thread::new(thread)), None),
            profile::Waker::Softirq(name) => (None, Some(name.as_str())),
            profile::Waker::Irq
            | profile::Waker::Preempted
            | profile::Waker::NotWoken
            | profile::Waker::Unknown => (None, None),
        };
        Self { kind: waker.kind(), thread, softirq }
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    name: Option<&'a str>,
    module: Option<&'a str>,
    offset: u64,
    kernel: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inlined: bool,
}

impl<'a> Frame<'a> {
    fn new(frame: &'a profile::Frame) -> Self {
        let profile::Frame { name, module, offset, kernel, file, line, inlined } = frame;
        Self {
            name: name.as_deref(),
            module: module.as_deref(),
            offset: *offset,
            kernel: *kernel,
            file: file.as_deref(),
            line: *line,
            inlined: *inlined,
        }
    }
}
