//! Text: every wait with both stacks, longest first, in the order of BCC's offwaketime: the waker
//! and its stack from the outermost frame, `--`, the sleeper's stack from the innermost frame, the
//! sleeper. Read from top to bottom it is the way of the wake-up.
//!
//! ```text
//!     waker:           client 5000
//!     entry_SYSCALL_64_after_hwframe
//!     tcp_v4_rcv
//!     --               --
//!     ep_poll
//!     epoll_wait
//!     target:          wrk:worker_0 4449
//!         201.09 ms  interruptible, 12 waits, 200.11 ms blocked, 980.1 µs run queue, p50 ≤ 16.78 ms, max 50.01 ms
//! ```
//!
//! Lengths are counted by powers of two: half of the waits took at most what `p50 ≤` says, which is up to
//! twice the median. Of 100 waits and more `p99 ≤` is there, too.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::label::label;
use super::stacks::split;
use super::{RenderOptions, escape, human, unlike_threads};
use crate::profile::{FrameId, Profile, Thread, Wait, Waker};

pub(super) fn write(
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_header(profile, options, out)?;
    // What differs only in where in a function it was would read the same.
    let profile = &profile.by_name(options.lines, options.annotate);
    let mut waits: Vec<&Wait> = profile.waits.iter().collect();
    // Stable: equal values stay in canonical order.
    waits.sort_by_key(|wait| Reverse(options.metric.of(wait)));
    for wait in waits {
        writeln!(out)?;
        write_wait(profile, wait, options, out)?;
    }
    Ok(())
}

fn write_header(profile: &Profile, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let Profile { meta, losses, frames: _, waits: _, modules: _ } = profile;
    if let Some(title) = &options.title {
        writeln!(out, "{}", escape::name(title))?;
    }
    for target in &meta.targets {
        writeln!(out, "target: {}", escape::name(target))?;
    }
    writeln!(
        out,
        "recorded: {}, kernel {}, probe {}",
        human::length(meta.duration),
        escape::name(&meta.kernel),
        escape::name(&meta.probe)
    )?;
    writeln!(
        out,
        "waits: {}, {} off-CPU ({} blocked, {} run queue)",
        human::count(profile.sum(|wait| wait.count)),
        human::time(profile.sum(Wait::off_ns)),
        human::time(profile.sum(|wait| wait.blocked_ns)),
        human::time(profile.sum(|wait| wait.runqueue_ns)),
    )?;
    if let Some(sampling) = profile.describe_sampling() {
        writeln!(out, "{sampling}")?;
        if let Some(unlike) = unlike_threads(profile) {
            writeln!(out, "{unlike}")?;
        }
    }
    if let Some(how) = &meta.wake_source {
        let (named, woken) = profile.sources();
        writeln!(out, "wake sources: {}, by {}", human::share(named, woken), escape::name(how))?;
    }
    writeln!(out, "{}", losses.describe(true))
}

fn write_wait(
    profile: &Profile,
    wait: &Wait,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Wait {
        sleeper,
        waker,
        state,
        count,
        blocked_ns,
        runqueue_ns,
        max_ns,
        histogram: _,
        estimate,
        sleeper_stack,
        waker_stack,
    } = wait;
    let frame = |out: &mut dyn Write, id: &FrameId| {
        writeln!(out, "    {}", escape::name(&label(&profile.frames[*id as usize], options)))
    };
    let is_kernel = |id: &FrameId| profile.frames[*id as usize].kernel;

    match waker {
        Waker::Task(thread) => writeln!(out, "    waker:           {}", name_and_tid(thread))?,
        Waker::Irq | Waker::Softirq(_) | Waker::Preempted | Waker::NotWoken | Waker::Unknown => {
            writeln!(out, "    waker:           {}", escape::name(&waker.label()))?;
        }
    }
    let (kernel, user) = split(waker_stack, is_kernel);
    let delimiter = |out: &mut dyn Write, kernel: &[_], user: &[_]| {
        let wanted = options.delimited && !kernel.is_empty() && !user.is_empty();
        if wanted { writeln!(out, "    -") } else { Ok(()) }
    };
    user.iter().rev().try_for_each(|id| frame(out, id))?;
    delimiter(out, kernel, user)?;
    kernel.iter().rev().try_for_each(|id| frame(out, id))?;

    writeln!(out, "    --               --")?;

    let (kernel, user) = split(sleeper_stack, is_kernel);
    kernel.iter().try_for_each(|id| frame(out, id))?;
    delimiter(out, kernel, user)?;
    user.iter().try_for_each(|id| frame(out, id))?;
    writeln!(out, "    target:          {}", name_and_tid(sleeper))?;
    writeln!(
        out,
        "        {}{}  {}, {} {}, {} blocked, {} run queue, {}max {}",
        human::time(wait.off_ns()),
        match estimate.off_confidence_ns() {
            0 => String::new(),
            ns => format!(" ± {}", human::time(ns)),
        },
        state.name(),
        human::count(*count),
        if *count == 1 { "wait" } else { "waits" },
        human::time(*blocked_ns),
        human::time(*runqueue_ns),
        percentiles(wait),
        human::time(*max_ns),
    )
}

/// What is known of the lengths between the mean and the longest, if all of them are known. Below 100
/// waits the 99th percentile is the longest.
fn percentiles(wait: &Wait) -> String {
    let Wait { count, max_ns, histogram, .. } = wait;
    if *count < 2 || histogram.total() != *count {
        return String::new();
    }
    let percents: &[u64] = if *count < 100 { &[50] } else { &[50, 99] };
    percents
        .iter()
        .filter_map(|percent| Some((percent, histogram.percentile_below_ns(*percent, *max_ns)?)))
        .map(|(percent, ns)| format!("p{percent} ≤ {}, ", human::time(ns)))
        .collect()
}

fn name_and_tid(thread: &Thread) -> String {
    let name = if thread.comm.is_empty() { escape::UNNAMED } else { &escape::name(&thread.comm) };
    format!("{name} {}", thread.tid)
}
