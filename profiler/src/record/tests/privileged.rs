//! What tests need that record, or change the machine.

use std::fs::{self, File};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the kernel's limit of frames is.
const MAX_STACK: &str = "/proc/sys/kernel/perf_event_max_stack";

/// Makes the test that it stands in wait for its turn; ends the test where it cannot run.
macro_rules! turn {
    () => {{
        needs_root!();
        $crate::record::tests::privileged::turn()
    }};
}

/// One test at a time: the kernel's limit of frames holds for all, and can be changed only while
/// no program is loaded that takes stacks.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // Another test's failure is no reason for this one's.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel starts with (`PERF_MAX_STACK_DEPTH`).
const DEFAULT_MAX_STACK: usize = 127;

/// Another limit of frames, until dropped.
pub(super) struct MaxStack {
    before: usize,
    /// Locked: another run of the tests must not take this limit for what was before.
    _lock: File,
}

impl MaxStack {
    pub(super) fn get() -> usize {
        fs::read_to_string(MAX_STACK).unwrap().trim().parse().unwrap()
    }

    /// Waits until the kernel allows it.
    pub(super) fn set(limit: usize) -> Self {
        let lock = File::create(std::env::temp_dir().join("offwake-max-stack.lock")).unwrap();
        lock.lock().unwrap();
        // A lower limit is what a test left behind that was killed.
        let this = Self { before: Self::get().max(DEFAULT_MAX_STACK), _lock: lock };
        Self::write(limit).unwrap_or_else(|error| panic!("{MAX_STACK}: {error}"));
        this
    }

    /// `EBUSY`: a program that takes stacks is loaded. The kernel frees those that are gone a
    /// moment later.
    fn write(limit: usize) -> std::io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            match fs::write(MAX_STACK, limit.to_string()) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }
}

impl Drop for MaxStack {
    fn drop(&mut self) {
        if let Err(error) = Self::write(self.before) {
            let before = self.before;
            eprintln!("{MAX_STACK} is no longer {before}, and could not be set back: {error}");
        }
    }
}
