//! What a recording takes of whoever starts it: some capabilities, and not root.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::probes::{available, check_play, under_test};
use crate::support::check::{Floor, check, never};
use crate::support::kernel;
use crate::support::recorder::{Recorded, Recorder};
use crate::support::target::Target;
use crate::support::{example, offwake};

/// Bits of capabilities (include/uapi/linux/capability.h).
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_RESOURCE: u64 = 1 << 24;
const SYSLOG: u64 = 1 << 34;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
/// What the README asks for, to record the processes of others.
const ENOUGH: u64 = BPF | PERFMON | SYSLOG | SYS_PTRACE | DAC_READ_SEARCH;

/// Who runs it: nobody.
const USER: u32 = 65534;
/// What many distributions allow a user to lock.
const LOCKED_BYTES: u64 = 64 << 10;

/// A copy of offwake whose file has capabilities.
struct Copy {
    path: PathBuf,
    _directory: TempDir,
}

impl Copy {
    fn with(capabilities: u64) -> Self {
        let directory = TempDir::new().expect("a directory");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), readable.clone()).expect("its owner may");
        let path = directory.path().join("offwake");
        fs::copy(offwake(), &path).expect("a copy");
        fs::set_permissions(&path, readable).expect("its owner may");
        if capabilities != 0 {
            give(&path, capabilities);
        }
        Self { path, _directory: directory }
    }

    /// Starts it as somebody who may do and lock little, where tracefs is mounted.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir("/");
        // SAFETY: system calls without memory of its own, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                mount_tracefs()?;
                let limit = libc::rlimit { rlim_cur: LOCKED_BYTES, rlim_max: LOCKED_BYTES };
                succeed(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit))?;
                succeed(libc::setgroups(0, std::ptr::null()))?;
                succeed(libc::setgid(USER))?;
                succeed(libc::setuid(USER))
            });
        }
        command
    }
}

/// Mounts tracefs for this process only: mounting takes root.
fn mount_tracefs() -> io::Result<()> {
    const AT: &CStr = c"/sys/kernel/tracing";
    let (root, kind, no_data) = (c"/".as_ptr(), c"tracefs".as_ptr(), std::ptr::null());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: all strings end with 0.
    unsafe {
        succeed(libc::unshare(libc::CLONE_NEWNS))?;
        succeed(libc::mount(std::ptr::null(), root, std::ptr::null(), flags, no_data))?;
        match succeed(libc::mount(kind, AT.as_ptr(), kind, 0, no_data)) {
            // It is mounted there.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            result => result,
        }
    }
}

fn succeed(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As `setcap` does, which a machine need not have (`struct vfs_cap_data` of the second revision).
fn give(path: &Path, capabilities: u64) {
    const REVISION_2_AND_EFFECTIVE: u32 = 0x0200_0001;
    let (low, high, inheritable) = (capabilities as u32, (capabilities >> 32) as u32, 0);
    let words = [REVISION_2_AND_EFFECTIVE, low, inheritable, high, inheritable];
    let value: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    let file = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let (name, flags) = (c"security.capability", 0);
    // SAFETY: both strings end with 0, and the value has as many bytes as is said.
    let result = unsafe {
        libc::setxattr(file.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    };
    assert_eq!(result, 0, "setxattr {}: {}", path.display(), io::Error::last_os_error());
}

/// Records a play of root's, and compares.
fn record_with(capabilities: u64, probe: &str) {
    let path = example("condvar");
    record_target(capabilities, probe, Target::start_program(&path, &["--count", "100"]));
}

fn record_target(capabilities: u64, probe: &str, mut target: Target) {
    let copy = Copy::with(capabilities);
    let args = ["-p", &target.players(), "--probe", probe];
    let recorder = Recorder::start_command(copy.command(), &[], &args);
    let play = target.play();
    let Recorded { profile, stderr, .. } = recorder.stop();
    profile.assert_nothing_lost();
    check(&profile, &play.truths, Floor::LOCAL, never);
    let used = &profile.recording.probe;
    assert!(used.starts_with(&format!("{probe} (")), "{used}: {stderr}");
}

/// Starts a recording that cannot work. Returns the one line that says why.
fn refusal(mut command: Command, args: &[&str]) -> String {
    let path = example("condvar");
    command.args(args).args(["--", path.to_str().unwrap(), "--count", "1"]);
    let output: Output = command.stdin(Stdio::null()).output().expect("offwake");
    assert!(!output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// Has the kernel allow perf events, which all probes but one are, to `CAP_PERFMON`, until this is dropped.
struct PerfEvents {
    /// Where it did not, the mode of distributions that did not.
    before: Option<String>,
}

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

impl PerfEvents {
    /// Where they are not allowed, one line must say so: of a probe, by this offwake.
    fn allow(probe: &str, mut command: Command) -> Self {
        let mode = fs::read_to_string(PARANOID).expect("perf events");
        if mode.trim().parse::<i32>().expect("a number") <= 2 {
            return Self { before: None };
        }
        let table = command.arg("check").output().expect("offwake check");
        let table = String::from_utf8(table.stdout).expect("text");
        let name = format!("probe {probe} ");
        let line = table.lines().find(|line| line.contains(&name)).expect("a line");
        let says_what_to_do = line.contains("kernel.perf_event_paranoid=2");
        assert!(line.starts_with("ok") || probe != "btf" && says_what_to_do, "{table}");
        fs::write(PARANOID, "2").expect("root");
        Self { before: Some(mode) }
    }
}

impl Drop for PerfEvents {
    fn drop(&mut self) {
        if let Some(mode) = &self.before {
            fs::write(PARANOID, mode).expect("root");
        }
    }
}

/// Whether the memory of maps is locked memory: up to 5.10.
fn locks_maps() -> bool {
    kernel::version() < (5, 11)
}

#[test]
fn capabilities_of_the_file_suffice() {
    let _turn = turn!();
    let probes = under_test();
    assert!(!probes.is_empty(), "none works here");
    for probe in probes {
        let _allowed = PerfEvents::allow(probe, Copy::with(ENOUGH | SYS_RESOURCE).command());
        if locks_maps() {
            let refused = refusal(Copy::with(ENOUGH).command(), &["--probe", probe]);
            assert!(refused.contains("ulimit -l unlimited"), "{refused}");
            let table = Copy::with(ENOUGH).command().arg("check").output().expect("offwake");
            let table = String::from_utf8(table.stdout).expect("text");
            assert!(table.contains("degraded  locked memory"), "{table}");
            record_with(ENOUGH | SYS_RESOURCE, probe);
        } else {
            record_with(ENOUGH, probe);
        }
    }
}

/// Without `CAP_SYS_ADMIN` a file that a process maps is found by its path only, and no path leads from here into
/// another mount namespace.
#[test]
fn a_program_with_another_root_in_another_mount_namespace_has_its_names() {
    let _turn = turn!();
    let directory = TempDir::new().expect("a directory");
    let mut command = Command::new("unshare");
    let script = "mount --rbind / \"$0\" && exec chroot \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(directory.path());
    command.arg(example("condvar")).args(["--count", "100"]);
    let target = Target::spawn(&mut command);
    let capabilities = if locks_maps() { ENOUGH | SYS_RESOURCE } else { ENOUGH };
    record_target(capabilities, "btf", target);
}

#[test]
fn without_capabilities_one_line_names_them() {
    let _turn = turn!();
    for capabilities in [0, SYSLOG | SYS_PTRACE, BPF | SYSLOG, PERFMON | SYSLOG] {
        let refused = refusal(Copy::with(capabilities).command(), &[]);
        for name in ["root", "CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"] {
            assert!(refused.contains(name), "{refused}");
        }
    }
    // The addresses of functions tell interrupts from threads.
    let refused = refusal(Copy::with(BPF | PERFMON | SYS_PTRACE).command(), &[]);
    assert!(refused.contains("CAP_SYSLOG"), "{refused}");
}

/// Turns the kernel's compiler of BPF on when dropped.
struct Interpreting;

/// Where it is `net.core.bpf_jit_enable`.
const COMPILER: &str = "/proc/sys/net/core/bpf_jit_enable";

impl Drop for Interpreting {
    fn drop(&mut self) {
        fs::write(COMPILER, "1").expect("root");
    }
}

/// Then there are no callbacks, and without those no call frame information.
#[test]
#[ignore = "turns the kernel's compiler off for all: `cargo xtask vm` runs this"]
fn a_kernel_that_interprets_programs() {
    let _turn = turn!();
    fs::write(COMPILER, "0").expect("a kernel that can interpret, and root");
    let _interpreting = Interpreting;
    for probe in available() {
        check_play(Command::new(offwake()), probe);
    }
    let output = Command::new(offwake()).arg("check").output().expect("offwake check");
    let table = String::from_utf8(output.stdout).expect("text");
    let line = |name: &str| table.lines().find(|line| line.contains(name)).expect("a line");
    assert!(line("BPF compiler").starts_with("degraded"), "{table}");
    assert!(line("user stacks").starts_with("degraded"), "{table}");
    // What is used by default falls back, and says so.
    let path = example("condvar");
    let args = ["--", path.to_str().unwrap(), "--count", "20"];
    let recorded = Recorder::spawn(Command::new(offwake()), &[], &args).wait();
    let said = "user stacks were walked by frame pointers: call frame information needs";
    assert!(recorded.stderr.contains(said), "{}", recorded.stderr);
    let refused = refusal(Command::new(offwake()), &["--unwind", "cfi"]);
    assert!(refused.contains("--unwind fp"), "{refused}");
}

/// Raises the kernel's lockdown mode, which only a boot lowers again.
fn lock_down(mode: &str) {
    fs::write("/sys/kernel/security/lockdown", mode).expect("a kernel with lockdown, and root");
}

#[test]
#[ignore = "the kernel stays locked down until it is booted again: `cargo xtask vm` runs this"]
fn a_kernel_that_is_locked_down() {
    let _turn = turn!();
    let probes = available();
    assert!(!probes.is_empty());
    lock_down("integrity");
    for probe in &probes {
        check_play(Command::new(offwake()), probe);
    }
    lock_down("confidentiality");
    for probe in probes.iter().copied().chain(["auto"]) {
        let refused = refusal(Command::new(offwake()), &["--probe", probe]);
        assert!(refused.contains("lockdown") && refused.contains("confidentiality"), "{refused}");
    }
    // Where the file that tells the mode is not mounted, the kernel's refusal does.
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /sys/kernel/security && exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(offwake());
    let refused = refusal(command, &["--probe", probes[0]]);
    assert!(refused.contains("locked down"), "{refused}");
}
