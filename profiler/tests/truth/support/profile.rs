//! The JSON output, read back by its documentation (`profiler/src/render/json.rs`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;

use super::kernel;
use super::speed::is_slow;
use super::target::Thread;

#[derive(Debug, Deserialize)]
pub(crate) struct Profile {
    pub(crate) recording: Recording,
    pub(crate) losses: BTreeMap<String, u64>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) sampling: Option<Sampling>,
}

/// With `--overhead`.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "other tests share this")]
pub(crate) struct Sampling {
    pub(crate) threads: Vec<ThreadTotal>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "other tests share this")]
pub(crate) struct ThreadTotal {
    pub(crate) tid: u32,
    pub(crate) count: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) runqueue_ns: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    pub(crate) seconds: f64,
    pub(crate) probe: String,
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wait {
    pub(crate) sleeper: Thread,
    pub(crate) waker: Waker,
    /// What it waited for, where that was looked for and is known.
    #[allow(dead_code, reason = "for the tests of sources")]
    pub(crate) wake_source: Option<String>,
    pub(crate) state: String,
    pub(crate) count: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) runqueue_ns: u64,
    pub(crate) max_ns: u64,
    /// Where each bucket begins, in ns, and its count.
    pub(crate) histogram: Vec<(u64, u64)>,
    /// With `--overhead`, as the next two.
    #[allow(dead_code, reason = "other tests share this")]
    pub(crate) samples: Option<u64>,
    #[allow(dead_code, reason = "other tests share this")]
    pub(crate) count_error: Option<u64>,
    #[allow(dead_code, reason = "other tests share this")]
    pub(crate) off_error_ns: Option<u64>,
    pub(crate) sleeper_stack: Vec<Frame>,
    pub(crate) waker_stack: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Waker {
    pub(crate) kind: String,
    #[serde(flatten)]
    pub(crate) thread: Option<Thread>,
    pub(crate) softirq: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    pub(crate) name: Option<String>,
    pub(crate) module: Option<String>,
    pub(crate) offset: u64,
    pub(crate) kernel: bool,
    /// A function inlined into the next frame's.
    #[serde(default)]
    #[allow(dead_code, reason = "for the tests of unwinding, which share this")]
    pub(crate) inlined: bool,
}

impl Profile {
    /// Asserts that each interval is in the histogram of its wait, and that the longest is in the last
    /// bucket.
    pub(crate) fn assert_histograms_are_complete(&self) {
        for wait in &self.waits {
            let total: u64 = wait.histogram.iter().map(|(_, count)| count).sum();
            assert_eq!(total, wait.count, "{wait:?}");
            let (lower, _) = *wait.histogram.last().expect("a wait is an interval");
            let upper = if lower == 0 { 1024 } else { 2 * lower };
            assert!((lower..upper).contains(&wait.max_ns), "{wait:?}");
            let least: u64 = wait.histogram.iter().map(|(lower, count)| lower * count).sum();
            assert!((least..=2 * least + 1024 * wait.count).contains(&wait.off_ns()), "{wait:?}");
        }
    }

    /// How often something was lost.
    pub(crate) fn lost(&self, cause: &str) -> u64 {
        self.losses[cause]
    }

    /// How many waits may be missing, as offwake says: what the kernel did not run the probes for. And without types
    /// nobody can compute an end that was not seen.
    pub(crate) fn missed(&self) -> u64 {
        let is_typed = self.recording.probe.starts_with("btf ");
        self.lost("probe_misses") + if is_typed { 0 } else { self.lost("switch_in_missed") }
    }

    /// How many waits may have been seen where there were so many.
    pub(crate) fn possible(&self, told: u64) -> RangeInclusive<u64> {
        told.saturating_sub(self.missed())..=told
    }

    /// The waits of a thread.
    pub(crate) fn of(&self, tid: u32) -> impl Iterator<Item = &Wait> {
        self.waits.iter().filter(move |wait| wait.sleeper.tid == tid)
    }

    /// The waits of a thread in a function.
    pub(crate) fn waits_in(&self, tid: u32, function: &str) -> impl Iterator<Item = &Wait> {
        self.of(tid).filter(move |wait| has(&wait.sleeper_stack, function))
    }

    /// Asserts that nothing is missing but what the kernel hides from every tracer: it has counted
    /// that (`Loss::SwitchInMissed`, `Loss::UnknownWaker`), and [`super::check`] bounds it. And but
    /// for the first user stacks of wakers that nobody asked for, such as this very process, which lets the
    /// target play: they are walked without tables. The kernel does not run a program of kprobes and classic
    /// tracepoints while another one runs on the CPU (`trace_call_bpf`), and counts that.
    pub(crate) fn assert_nothing_lost(&self) {
        const STRANGERS: u64 = 20;
        let intervals = sum(&self.waits, |wait| wait.count);
        let missing = self.lost("unwind_tables_missing");
        // Frame pointers lead astray in code that has none, such as the C library of a distribution.
        let only_fp = kernel::version() < (5, 17);
        // The longer a program takes, the more often another one comes meanwhile.
        let misses = if is_slow() { 20 + intervals / 100 } else { 1 + intervals / 1000 };
        let may_miss = !self.recording.probe.starts_with("btf ");
        for (cause, &count) in &self.losses {
            let is_expected = match cause.as_str() {
                "switch_in_missed" | "unknown_waker" => true,
                "unwind_tables_missing" => count <= STRANGERS,
                "probe_misses" => count <= if may_miss { misses } else { 0 },
                "user_stack_broken" => only_fp || count <= missing + intervals / 1000,
                _ => count == 0,
            };
            assert!(is_expected, "{cause}: {count}: {:?}", self.losses);
        }
    }
}

impl Wait {
    /// Off-CPU time in ns.
    pub(crate) fn off_ns(&self) -> u64 {
        self.blocked_ns + self.runqueue_ns
    }
}

/// The sum of something over waits.
pub(crate) fn sum<'a>(waits: impl IntoIterator<Item = &'a Wait>, of: impl Fn(&Wait) -> u64) -> u64 {
    waits.into_iter().map(of).sum()
}

/// Of some things with weights, the one whose weights are most together.
pub(crate) fn heaviest<T: Ord>(all: impl Iterator<Item = (T, u64)>) -> Option<T> {
    let mut sums = BTreeMap::<T, u64>::new();
    for (one, weight) in all {
        *sums.entry(one).or_default() += weight;
    }
    sums.into_iter().max_by_key(|(_, weight)| *weight).map(|(one, _)| one)
}

/// Whether a function is in a stack.
pub(crate) fn has(stack: &[Frame], function: &str) -> bool {
    stack.iter().any(|frame| frame.name.as_deref() == Some(function))
}

/// The functions of a stack, innermost first; `?` for those without a name.
pub(crate) fn names(stack: &[Frame]) -> Vec<&str> {
    stack.iter().map(|frame| frame.name.as_deref().unwrap_or("?")).collect()
}
