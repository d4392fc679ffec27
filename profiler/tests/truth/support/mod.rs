//! Running a target, recording it, and comparing what the two say.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod kernel;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod recorder;
pub(crate) mod speed;
pub(crate) mod target;
pub(crate) mod watch;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, io};

/// No step of any test takes this long, even on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the test that it stands in wait for its turn; ends the test where it cannot run.
macro_rules! turn {
    () => {{
        needs_root!();
        $crate::support::turn()
    }};
}

/// The right to use the machine: tests that measure time do not run side by side.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A test that failed holds nothing that the next one needs.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The profiler.
pub(crate) fn offwake() -> PathBuf {
    env::var_os("OFFWAKE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_offwake").into()).into()
}

/// A target in Rust.
pub(crate) fn example(name: &str) -> PathBuf {
    let directory = env::var_os("OFFWAKE_EXAMPLES").map(PathBuf::from);
    let beside = || offwake().parent().expect("a file is in a directory").to_owned();
    let path = directory.unwrap_or_else(beside).join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask test`, or `cargo build -p offwake-examples` and set OFFWAKE_EXAMPLES",
        path.display()
    );
    path
}

/// A target in C++.
pub(crate) fn cpp_example(name: &str) -> PathBuf {
    let directory = env::var_os("OFFWAKE_EXAMPLES").map(PathBuf::from);
    let of_make = || {
        let profile = PathBuf::from(env!("CARGO_BIN_EXE_offwake"));
        profile.ancestors().nth(2).expect("target/PROFILE/offwake").to_owned()
    };
    let path = directory.unwrap_or_else(of_make).join("cpp").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask test`, or `make -C examples/cpp`",
        path.display()
    );
    path
}

/// Has a program and all that it starts served before the rest of the machine: how long it waits is then
/// what it says, and not how much else there is to do.
pub(crate) fn preferred(command: &mut Command) -> &mut Command {
    // SAFETY: one system call without pointers, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::setpriority(libc::PRIO_PROCESS, 0, -20) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    }
}

/// Waits until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a process that the caller started.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
    assert_eq!(result, 0, "kill {pid}: {}", io::Error::last_os_error());
}
