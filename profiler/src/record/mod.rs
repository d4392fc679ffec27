//! Recording: the only code that knows aya.

mod batch;
mod btf;
mod budget;
mod collect;
mod command;
mod config;
mod constants;
mod descriptor;
mod drain;
pub mod epoll;
mod existing;
mod jit;
mod kernel;
mod load;
mod marks;
mod memory;
mod mmaps;
mod notices;
mod offsets;
mod pod;
mod preflight;
mod priority;
mod probe;
mod program;
mod quiesce;
mod registers;
mod scheduler;
mod session;
mod source;
mod targets;
#[cfg(test)]
mod tests;
mod untyped;
mod unwind;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use config::{Capacity, Config, Filter, ProbeChoice, UnwindChoice};

use crate::recording::Recording;

/// Why a lock is never poisoned.
const NO_PANIC: &str = "nobody panics while holding the lock";

/// What a recording is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Building the unwind tables of the targets, before it begins.
    Preparing {
        /// Files that are done.
        done: u64,
        /// Files that there are.
        total: u64,
    },
    /// Recording.
    Recording(Figures),
}

/// Live figures of a running recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Since the probes were attached.
    pub elapsed: Duration,
    /// Finished intervals so far.
    pub intervals: u64,
    /// Distinct stacks so far.
    pub stacks: u64,
    /// Intervals that are missing as a whole, so far.
    pub lost: u64,
}

/// One thing that a recording needs or can use, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is, in a few words.
    pub name: &'static str,
    /// Whether it is there.
    pub state: CapabilityState,
    /// What was found, and where something is missing, what to do.
    pub detail: String,
}

/// Whether a [`Capability`] is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityState {
    /// There, and it will be used.
    Ok,
    /// Missing; a recording works without it, as the detail says.
    Degraded,
    /// Missing, and nothing can be recorded without it.
    Missing,
}

/// Records as configured, until the duration is over, the last target has ended, or `stop` is
/// set. Calls `progress` a few times a second.
///
/// # Errors
/// When the targets do not exist, privileges are missing, or the kernel cannot do it. Each error
/// is one line that says what to do. Once recording has begun there are none.
pub fn record(
    config: &Config,
    stop: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Recording> {
    session::record(config, stop, progress)
}

/// What this kernel and these privileges allow.
///
/// # Errors
/// When too few files may be open to find out.
pub fn check() -> anyhow::Result<Vec<Capability>> {
    preflight::check()
}

/// What a recording of these processes would need: everything is loaded and built as for one, and
/// nothing is attached.
///
/// # Errors
/// As [`record`].
pub fn measure(pids: &[u32]) -> anyhow::Result<Vec<Capability>> {
    let filter = Filter { pids: pids.to_vec(), ..Filter::default() };
    let config = Config { filter, ..Config::default() };
    session::measure(&config).map(|figures| preflight::describe(figures.as_ref()))
}
