//! Watching threads in `epoll_wait`: see [`crate::epoll`].

mod callback;
mod load;
mod session;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use session::{Ended, Observer};

/// What to watch.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which processes.
    pub pids: Vec<u32>,
    /// For how long; `None`: until the last of them has ended, or it is stopped.
    pub duration: Option<Duration>,
    /// Functions that handle events.
    pub callbacks: Vec<CallbackPattern>,
}

/// Functions of a program or library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackPattern {
    /// The file as the process sees it: a path, or the name of a file that it has mapped.
    pub binary: String,
    /// Their name, as it is in the file or demangled; `*` and `?` stand for any characters, and one.
    pub symbol: String,
}

/// How the events are found, for people.
pub const METHOD: &str = "tracepoints (sched_waking, sched_switch, sys_enter, sys_exit)";

/// Watches as configured, until the duration is over, the last process has ended, `stop` is set, or the observer
/// wants no more.
///
/// # Errors
/// When the processes do not exist, privileges are missing, or the kernel cannot do it. Each error is one line that
/// says what to do.
pub fn watch(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> anyhow::Result<Ended> {
    session::watch(config, stop, observer)
}
