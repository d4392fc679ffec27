//! Signals while results are written.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::sandbox::{Sandbox, Target};
use super::{bpf_ids, wait_until};

fn signal(process: &Target, signal: libc::c_int) {
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::kill(process.0.id() as libc::pid_t, signal) }, 0);
}

/// Stops offwake while it is writing its result. Whether it was caught at that.
fn stop_while_writing(sandbox: &Sandbox, offwake: &mut Target) -> bool {
    let is_writing = || sandbox.files().iter().any(|name| name.starts_with(".offwake-"));
    let stat = format!("/proc/{}/stat", offwake.pid());
    let has_state = |state: &str| fs::read_to_string(&stat).unwrap().contains(state);
    while offwake.0.try_wait().unwrap().is_none() {
        if !is_writing() {
            continue;
        }
        signal(offwake, libc::SIGSTOP);
        wait_until("stopped", || has_state(") T ") || has_state(") Z "));
        if is_writing() {
            return true;
        }
        signal(offwake, libc::SIGCONT);
    }
    false
}

/// Asserts that a signal ends offwake, which is stopped, and that no file is there then but `expected`.
fn assert_ends(sandbox: &Sandbox, mut offwake: Target, expected: &[&str]) {
    signal(&offwake, libc::SIGTERM);
    signal(&offwake, libc::SIGCONT);
    assert_eq!(offwake.0.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!(sandbox.files(), expected);
}

#[test]
fn one_that_comes_too_early_starts_no_command() {
    needs_root!();
    let sandbox = Sandbox::new();
    let mut command = sandbox.offwake(&["-o", "out.svg", "--", "touch", "trace"]);
    let mut offwake = Target(command.stderr(Stdio::piped()).spawn().unwrap());
    let status = format!("/proc/{}/status", offwake.pid());
    wait_until("handling signals", || {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(caught, 16).unwrap() & 1 << (libc::SIGINT - 1) != 0
    });
    signal(&offwake, libc::SIGINT);
    let mut told = String::new();
    offwake.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(offwake.0.wait().unwrap().code(), Some(1), "{told}");
    assert_eq!(told, "offwake: error: a signal came before the recording had begun\n");
    assert_eq!(sandbox.files(), [""; 0]);
}

#[test]
fn a_second_one_leaves_no_half_written_file() {
    needs_root!();
    let target = Target::sleeping();
    // Writing takes milliseconds: it is not caught each time.
    for _ in 0..50 {
        let sandbox = Sandbox::new();
        let mut command = sandbox.offwake(&["-o", "out.html", "-p", &target.pid()]);
        let mut offwake = Target(command.stderr(Stdio::null()).spawn().unwrap());
        wait_until("attached", || bpf_ids(&offwake.pid(), "link_id:").len() == 4);
        signal(&offwake, libc::SIGINT);
        if stop_while_writing(&sandbox, &mut offwake) {
            // Sooner, it would be taken for the same one.
            sleep(Duration::from_millis(500));
            return assert_ends(&sandbox, offwake, &[]);
        }
    }
    panic!("never caught while it was writing");
}

#[test]
fn the_first_one_ends_a_report_without_a_trace() {
    let folded: String = (0..50_000).map(|i| format!("a;f{i};--;g{i};b {i}\n")).collect();
    for arguments in
        [&["report", "in.folded"][..], &["diff", "--absolute", "in.folded", "in.folded"]]
    {
        let sandbox = Sandbox::new();
        fs::write(sandbox.path("in.folded"), &folded).unwrap();
        let arguments = [arguments, &["-o", "out.html"]].concat();
        let start = || Target(sandbox.offwake(&arguments).stderr(Stdio::null()).spawn().unwrap());
        // It is not caught each time.
        let caught = (0..50).find_map(|_| {
            let mut offwake = start();
            stop_while_writing(&sandbox, &mut offwake).then_some(offwake)
        });
        let offwake = caught.unwrap_or_else(|| panic!("{arguments:?} was too fast"));
        let complete = fs::exists(sandbox.path("out.html")).unwrap();
        let expected = &["in.folded", "out.html"][..if complete { 2 } else { 1 }];
        assert_ends(&sandbox, offwake, expected);
    }
}
