//! `offwake epoll` where something is wrong.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::sandbox::{Sandbox, Target, assert_failed, stderr};
use super::{UNPRIVILEGED, gone};

fn fails(arguments: &[&str], expected: &[&str]) {
    let arguments = [&["epoll"], arguments].concat();
    assert_failed(&Sandbox::new().offwake(&arguments).output().unwrap(), expected);
}

#[test]
fn processes_that_are_gone() {
    needs_root!();
    let pid = gone();
    fails(&["-p", &pid], &[&format!("no process or thread has the id {pid}")]);
}

#[test]
fn without_privileges() {
    needs_root!();
    let (sandbox, target) = (Sandbox::new(), Target::sleeping());
    let copy = sandbox.path("offwake");
    std::fs::copy(env!("CARGO_BIN_EXE_offwake"), &copy).unwrap();
    let output =
        Command::new(copy).args(["epoll", "-p", &target.pid()]).uid(UNPRIVILEGED).output().unwrap();
    assert_failed(&output, &["needs root, or the capabilities CAP_BPF, CAP_PERFMON"]);
}

#[test]
fn without_type_information() {
    needs_root!();
    let target = Target::sleeping();
    let sandbox = Sandbox::after("mount -t tmpfs none /sys/kernel/btf");
    let mut command = Command::new("unshare");
    command.arg("--mount");
    let inner = sandbox.offwake(&["epoll", "-p", &target.pid()]);
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    assert_failed(&command.output().unwrap(), &["BTF"]);
}

#[test]
fn callbacks_that_are_not_there() {
    needs_root!();
    let target = Target::sleeping();
    let pid = target.pid();
    let stripped = ["it is stripped", "use a build that is not"];
    fails(&["-p", &pid, "--callback", "sleep:main"], &stripped);
    let own = env!("CARGO_BIN_EXE_offwake");
    let none = format!("{own}:no such function");
    fails(
        &["-p", &pid, "--callback", &none],
        &["none of its functions matches 'no such function'"],
    );
    fails(&["-p", &pid, "--callback", &format!("{own}:*")], &["be more precise"]);
    fails(&["-p", &pid, "--callback", "/no/such/file:f"], &["has no file '/no/such/file'"]);
    fails(&["-p", &pid, "--callback", "/etc/passwd:f"], &["it is no ELF file"]);
    let output =
        Sandbox::new().offwake(&["epoll", "-p", &pid, "--callback", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    needs_root!();
    let target = Target::sleeping();
    for arguments in [&[][..], &["--summary"], &["--json"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let pid = target.pid();
        let arguments = [&["epoll", "-p", &pid, "-d", "0.2"], arguments].concat();
        let output = Sandbox::new().offwake(&arguments).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn signals_and_the_end_of_the_process_print_the_table() {
    needs_root!();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (sandbox, target) = (Sandbox::new(), Target::sleeping());
        let mut command = sandbox.offwake(&["epoll", "-p", &target.pid()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The heading is printed once it watches.
        let mut heading = [0; 11];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut heading).unwrap();
        // SAFETY: takes no pointers.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\nDESCRIPTOR") && text.contains("\nmethod: tracepoints"), "{text}");
    }
    let target = Target::start(&["sleep", "1"]);
    std::thread::sleep(Duration::from_millis(10));
    let output =
        Sandbox::new().offwake(&["epoll", "--summary", "-p", &target.pid()]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("DESCRIPTOR"));
}
