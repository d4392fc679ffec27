//! Targets that are compiled for a test, and recording them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::support::profile::Profile;
pub(crate) use crate::support::program::Program;
use crate::support::recorder::Recorder;
use crate::support::speed::is_slow;

/// How long a target sleeps at a time is 2 to 5 ms: this many are enough.
const RECORDING: Duration = Duration::from_millis(600);

/// A source of `targets/`.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unwind/targets").join(name)
}

/// Runs a compiler, or whatever else makes a file.
pub(crate) fn make(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {told}", output.status);
}

/// Compiles a source in C or C++, optimized and without frame pointers.
pub(crate) fn compile(directory: &Path, name: &str, from: &Path, flags: &[&str]) -> PathBuf {
    let is_cpp = from.extension() == Some(OsStr::new("cpp"));
    compile_with(if is_cpp { "g++" } else { "gcc" }, directory, name, from, flags)
}

/// As [`compile`], by this compiler.
pub(crate) fn compile_with(
    compiler: &str,
    directory: &Path,
    name: &str,
    from: &Path,
    flags: &[&str],
) -> PathBuf {
    let to = directory.join(name);
    let mut command = Command::new(compiler);
    command.args(["-O2", "-g", "-Wall", "-pthread", "-fomit-frame-pointer"]);
    command.arg(from).arg("-o").arg(&to).args(flags);
    make(&mut command);
    to
}

/// Compiles a source in Rust, optimized and without frame pointers.
pub(crate) fn compile_rust(directory: &Path, name: &str, from: &Path) -> PathBuf {
    let to = directory.join(name);
    let mut command = Command::new("rustc");
    command.args(["--edition=2024", "-O", "-g", "-Cforce-frame-pointers=no"]);
    command.arg(from).arg("-o").arg(&to);
    make(&mut command);
    to
}

/// Starts offwake, which unwinds as it does where nobody says how.
pub(crate) fn start_recorder(args: &[&str]) -> Recorder {
    Recorder::start(&[&["--unwind", "auto"], args].concat())
}

impl Program {
    /// Records it for a while.
    pub(crate) fn record(&self, args: &[&str]) -> Profile {
        let recorder = self.start_recording(args);
        pause();
        recorder.stop().profile
    }

    /// Starts a recording of it.
    pub(crate) fn start_recording(&self, args: &[&str]) -> Recorder {
        start_recorder(&[&["-p", &self.pid().to_string()], args].concat())
    }
}

/// Lets the target sleep some hundred times.
pub(crate) fn pause() {
    sleep(RECORDING);
}

/// As [`pause`], where something comes during the recording: for a while there are no tables of it, which should be a
/// small part of the recording. That while is what a slow machine needs to read mappings and files.
pub(crate) fn pause_after_news() {
    sleep(if is_slow() { 10 * RECORDING } else { RECORDING });
}
