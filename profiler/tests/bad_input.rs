//! What cannot be recorded or written: one line that says what to do, and nothing half-written.
//! And what looks bad, but must not end a recording.

#[macro_use]
#[path = "support/skip.rs"]
mod skip;
#[path = "bad_input/epoll.rs"]
mod epoll;
#[path = "bad_input/namespaces.rs"]
mod namespaces;
#[path = "bad_input/sandbox.rs"]
mod sandbox;
#[path = "bad_input/signals.rs"]
mod signals;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use offwake::snapshot::system;
use sandbox::{Sandbox, Target, assert_failed, assert_whole, stderr};

/// `nobody`
const UNPRIVILEGED: u32 = 65534;

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "not reached: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// A pid that nobody has any more.
fn gone() -> String {
    Target::start(&["true"]).pid()
}

#[test]
fn targets_that_do_not_exist() {
    needs_root!();
    let (sandbox, gone) = (Sandbox::new(), gone());
    let missing = format!("no process or thread has the id {gone}");
    sandbox.assert_fails(&["-p", &gone], &[&missing]);
    sandbox.assert_fails(&["-t", &gone], &[&missing]);
    let target = Target::sleeping();
    sandbox.assert_fails(&["-p", &format!("{},{gone}", target.pid())], &[&missing]);
}

#[test]
fn a_thread_is_no_process() {
    needs_root!();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let (tid_sender, tid) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // SAFETY: no arguments, and it cannot fail.
        tid_sender.send(unsafe { libc::gettid() }.to_string()).unwrap();
        let _ = receiver.recv();
    });
    let tid = tid.recv().unwrap();
    Sandbox::new().assert_fails(
        &["-p", &tid],
        &[&format!("{tid} is a thread, not a process: -p takes its process")],
    );
    Sandbox::new().assert_records(&["-t", &tid, "-d", "0.2"]);
    drop(sender);
    thread.join().unwrap();
}

#[test]
fn a_process_that_has_ended() {
    needs_root!();
    let zombie = Target::start(&["true"]);
    let pid = zombie.pid();
    let stat = format!("/proc/{pid}/stat");
    wait_until("a zombie", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    let sandbox = Sandbox::new();
    sandbox.assert_fails(&["-p", &pid], &[&format!("process {pid} has ended")]);
    sandbox.assert_fails(&["-t", &pid], &[&format!("thread {pid} has ended")]);
}

#[test]
fn offwake_does_not_record_itself() {
    needs_root!();
    // The shell becomes offwake.
    let sandbox = Sandbox::after("set -- \"$@\" -p $$");
    sandbox.assert_fails(&[], &["is offwake itself, which it does not record"]);
}

#[test]
fn without_privileges() {
    needs_root!();
    let (sandbox, target) = (Sandbox::new(), Target::sleeping());
    let copy = sandbox.path("offwake");
    fs::copy(env!("CARGO_BIN_EXE_offwake"), &copy).unwrap();
    let output = Command::new(copy).args(["-p", &target.pid()]).uid(UNPRIVILEGED).output().unwrap();
    assert_failed(
        &output,
        &["needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYSLOG"],
    );
}

/// As another user with the fewest capabilities: nothing of the target can be read, but
/// everything else is there.
#[test]
fn with_the_fewest_privileges() {
    needs_root!();
    let (sandbox, target) = (Sandbox::new(), Target::sleeping());
    let copy = sandbox.path("offwake");
    fs::copy(env!("CARGO_BIN_EXE_offwake"), &copy).unwrap();
    let id = UNPRIVILEGED.to_string();
    let capabilities = "-all,+bpf,+perfmon,+syslog";
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
        .arg(copy)
        .args(["-p", &target.pid(), "-d", "0.3", "-F", "folded"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("process_gone 1"), "{}", stderr(&output));
    let folded = String::from_utf8(output.stdout).unwrap();
    assert!(folded.starts_with("sleep;") && folded.contains("nanosleep"), "{folded}");
}

#[test]
fn without_type_information() {
    needs_root!();
    let sandbox = Sandbox::after(
        "exec unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && exec \"$@\"' sh \"$@\"",
    );
    let target = Target::sleeping();
    // Classic tracepoints and frame pointers do without.
    let pid = target.pid();
    for asked in [["--probe", "btf"], ["--probe", "kprobe"], ["--unwind", "cfi"]] {
        let args = ["-p", &pid, asked[0], asked[1]];
        sandbox.assert_fails(&args, &["type information (BTF)"]);
    }
}

/// What `kernel.kptr_restrict=2` shows.
#[test]
fn with_hidden_kernel_addresses() {
    needs_root!();
    let sandbox = Sandbox::after(
        "exec unshare -m sh -c 'mount --bind kallsyms /proc/kallsyms && exec \"$@\"' sh \"$@\"",
    );
    fs::write(sandbox.path("kallsyms"), "0000000000000000 T _text\n".repeat(3)).unwrap();
    let target = Target::sleeping();
    let expected = ["/proc/kallsyms shows no addresses", "kernel.kptr_restrict"];
    sandbox.assert_fails(&["-p", &target.pid()], &expected);
}

#[test]
fn commands_that_cannot_start() {
    needs_root!();
    let sandbox = Sandbox::new();
    let file = sandbox.path("file");
    fs::write(&file, "").unwrap();
    let [file, folder] = [&file, Path::new("/")].map(|path| path.to_str().unwrap());
    let cannot_start = |name: &str| format!("cannot start {name}: ");
    for (name, why) in [
        ("/no/such/command", "No such file or directory"),
        ("no-such-command-in-path", "No such file or directory"),
        (file, "Permission denied"),
        (folder, "Permission denied"),
    ] {
        sandbox.assert_fails(&["--", name], &[&cannot_start(name), why]);
    }
}

#[test]
fn a_command_that_ends_at_once() {
    needs_root!();
    let sandbox = Sandbox::new();
    let output = sandbox.offwake(&["-o", "out.svg", "--", "true"]).output().unwrap();
    if output.status.success() {
        assert_whole(&sandbox.path("out.svg"));
    } else {
        let seen = ["no interval off-CPU was seen of true (pid ", "), which ended after 0."];
        assert_failed(&output, &seen);
        assert_eq!(sandbox.files(), [""; 0]);
    }
    // Nothing of it is recorded, whatever it does.
    sandbox.assert_fails(
        &["--comm", "nobody has this", "-d", "60", "--", "true"],
        &["threads named nobody has this, which ended after 0.", "record what runs for longer"],
    );
}

#[test]
fn nothing_to_see() {
    needs_root!();
    Sandbox::new().assert_fails(
        &["--comm", "nobody has this", "-d", "0.2"],
        &["no interval off-CPU was seen in 0.2 s of threads named nobody has this: record for"],
    );
}

#[test]
fn cgroups_that_are_none() {
    needs_root!();
    let sandbox = Sandbox::new();
    // Told once, and not by each kind of probe that is tried.
    for (path, expected) in [
        ("/no/such", "cannot open the cgroup /no/such: No such"),
        ("/etc/passwd", "cannot open the cgroup /etc/passwd: Not a directory"),
        ("/tmp", "/tmp is not a cgroup v2 directory: "),
    ] {
        sandbox.assert_fails(&["--cgroup", path], &[&format!("offwake: error: {expected}")]);
    }
    // Where the machine mounts version 1.
    if Path::new("/sys/fs/cgroup/memory/tasks").exists() {
        sandbox.assert_fails(&["--cgroup", "/sys/fs/cgroup/memory"], &["v1 is not supported"]);
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    needs_root!();
    let target = Target::sleeping();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = Sandbox::new()
        .offwake(&["-p", &target.pid(), "-d", "0.2"])
        .stdout(writer)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("error"), "{}", stderr(&output));
}

#[test]
fn a_full_disk_leaves_nothing() {
    needs_root!();
    let target = Target::sleeping();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output =
        Sandbox::new().offwake(&["-p", &target.pid(), "-d", "0.2"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write standard output: No space left on device"));

    // The other output is written all the same. The shell stays to look at the disk.
    let sandbox = Sandbox::after(
        "exec unshare -m sh -c 'mkdir disk && mount -t tmpfs -o size=4k none disk && \
         { \"$@\"; echo \"code $?\"; ls -A disk; }' sh \"$@\"",
    );
    let arguments = ["-o", "disk/out.svg", "-o", "out.txt", "-p", &target.pid(), "-d", "0.2"];
    let output = sandbox.offwake(&arguments).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap(), "code 1\n");
    let error = stderr(&output);
    assert!(error.contains("cannot write 'disk/out.svg': No space left on device"), "{error}");
    assert!(fs::read_to_string(sandbox.path("out.txt")).unwrap().contains("sleep"));
}

/// As containers have it.
#[test]
fn an_output_that_is_a_mount_of_its_own() {
    needs_root!();
    let target = Target::sleeping();
    let sandbox = Sandbox::after(
        "exec unshare -m sh -c 'echo was there >real.svg && touch out.svg && mount --bind real.svg out.svg && \
         exec \"$@\"' sh \"$@\"",
    );
    let output = sandbox.offwake(&["-o", "out.svg", "-p", &target.pid(), "-d", "0.2"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_whole(&sandbox.path("real.svg"));
    assert!(!fs::read_to_string(sandbox.path("real.svg")).unwrap().contains("was there"));
    assert_eq!(sandbox.files().len(), 2, "{:?}", sandbox.files());
}

#[test]
fn a_process_that_ends_during_the_recording() {
    needs_root!();
    for option in ["-p", "-t"] {
        let mut target = Target::sleeping();
        let sandbox = Sandbox::new();
        let mut command = sandbox.offwake(&["-o", "out.svg", option, &target.pid()]);
        let mut offwake = Target(command.stderr(Stdio::null()).spawn().unwrap());
        wait_until("attached", || bpf_ids(&offwake.pid(), "link_id:").len() == 4);
        sleep(Duration::from_millis(300));
        // It stays as a zombie, which is as good as gone.
        target.0.kill().unwrap();
        assert!(offwake.0.wait().unwrap().success(), "{option}");
        assert_whole(&sandbox.path("out.svg"));
    }
}

#[test]
fn a_program_that_was_deleted() {
    needs_root!();
    let sandbox = Sandbox::new();
    let copy = sandbox.path("deleted-sleep");
    fs::copy("/bin/sleep", &copy).unwrap();
    let target = Target::start(&[copy.to_str().unwrap(), "600"]);
    let exe = format!("/proc/{}/exe", target.pid());
    wait_until("execve", || fs::read_link(&exe).is_ok_and(|path| path == copy));
    fs::remove_file(&copy).unwrap();
    let summary = sandbox.assert_records(&["-p", &target.pid(), "-d", "0.2"]);
    assert!(summary.contains("process_gone 0"), "{summary}");
}

#[test]
fn small_limits() {
    needs_root!();
    let target = Target::sleeping();
    for limit in [&*format!("ulimit -n {}", 62 + system::cpus()), "ulimit -l 64"] {
        Sandbox::after(limit).assert_records(&["-p", &target.pid(), "-d", "0.2"]);
    }
    for limit in ["8", "10", "16", "32", "48", "56"] {
        let sandbox = Sandbox::after(&format!("ulimit -n {limit}"));
        let expected = [&format!("error: {limit} open files are too few: run `ulimit -n ")[..]];
        sandbox.assert_fails(&["-p", &target.pid(), "-d", "0.2"], &expected);
        for subcommand in ["check", "epoll"] {
            let output = sandbox.offwake(&[subcommand, "-p", &target.pid()]).output().unwrap();
            assert_failed(&output, &expected);
        }
    }
}

#[test]
fn more_processes_than_open_files() {
    needs_root!();
    let targets: Vec<_> = (0..100).map(|_| Target::sleeping()).collect();
    let pids: Vec<_> = targets.iter().map(Target::pid).collect();
    let arguments = ["-p", &pids.join(","), "-d", "0.2"];
    Sandbox::after("ulimit -S -n 64").assert_records(&arguments);
    let sandbox = Sandbox::after("ulimit -n 64");
    sandbox.assert_fails(&arguments, &["too many processes", "ulimit -n"]);
}

/// The kernel removes what offwake loaded, however offwake ends.
#[test]
fn nothing_stays_loaded_after_sigkill() {
    needs_root!();
    let target = Target::sleeping();
    let sandbox = Sandbox::new();
    let mut command = sandbox.offwake(&["-o", "out.svg", "-p", &target.pid()]);
    let mut offwake = Target(command.stderr(Stdio::piped()).spawn().unwrap());
    // The four probes and the iterator.
    wait_until("programs", || bpf_ids(&offwake.pid(), "prog_id:").len() == 5);
    let loaded = bpf_ids(&offwake.pid(), "prog_id:");
    assert!(loaded.iter().all(|&id| is_loaded(id)));
    offwake.0.kill().unwrap();
    let mut error = String::new();
    offwake.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    offwake.0.wait().unwrap();
    assert_eq!((error.as_str(), sandbox.files()), ("", vec![]));
    wait_until("no program", || loaded.iter().all(|&id| !is_loaded(id)));
}

/// The BPF objects of a kind that a process holds, by the line that tells the id.
fn bpf_ids(pid: &str, key: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.ok()?.path()).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn is_loaded(program: u32) -> bool {
    const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
    /// `union bpf_attr` of the command.
    #[repr(C)]
    struct Attr {
        id: u32,
        reserved: [u32; 2],
    }
    let attr = Attr { id: program, reserved: [0; 2] };
    // SAFETY: the attribute is that of the command; the descriptor is closed at once.
    unsafe {
        let size = size_of::<Attr>();
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const attr, size);
        if fd >= 0 {
            libc::close(fd as libc::c_int);
        }
        fd >= 0
    }
}
