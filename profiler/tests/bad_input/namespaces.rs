//! Namespaces and roots in which offwake finds other things than it looks for.

use std::fs;
use std::process::Output;

use super::sandbox::{Sandbox, Target, assert_failed, stderr};
use super::wait_until;

/// That nothing can be recorded or watched, and that `offwake check` says so, too.
fn assert_missing(sandbox: &Sandbox, line: &str, expected: &[&str]) {
    let target = Target::sleeping();
    let pid = target.pid();
    sandbox.assert_fails(&["-a", "-d", "0.2"], expected);
    sandbox.assert_fails(&["-p", &pid, "-d", "0.2"], expected);
    let run = |arguments: &[&str]| sandbox.offwake(arguments).output().unwrap();
    assert_failed(&run(&["epoll", "-p", &pid, "-d", "0.2"]), expected);
    for arguments in [&["check"][..], &["check", "-p", &pid]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let found = text(&output);
        let told = found.lines().find(|found| found.starts_with(&format!("missing   {line}")));
        let told = told.unwrap_or_else(|| panic!("no '{line}' in: {found}"));
        assert!(expected.iter().all(|part| told.contains(part)), "{told}");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A place where this is not mounted.
fn without(directory: &str) -> Sandbox {
    let unmount = format!("umount -l {directory} && exec \"$@\"");
    Sandbox::after(&format!("set -- unshare --mount sh -c '{unmount}' sh \"$@\""))
}

#[test]
fn processes_of_another_pid_namespace() {
    needs_root!();
    let expected = ["/proc shows another pid namespace", "`mount -t proc proc /proc`"];
    let outer = Sandbox::after("set -- unshare --pid --fork \"$@\"");
    assert_missing(&outer, "processes", &expected);
    // In there, nobody knows of offwake.
    let unshare = "unshare --pid --fork --kill-child --mount-proc sleep 600";
    let namespace = Target::start(&unshare.split(' ').collect::<Vec<_>>());
    let mut inside = String::new();
    wait_until("sleep in the namespace", || {
        let pid = namespace.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        inside = children.unwrap_or_default().trim().to_owned();
        fs::read_to_string(format!("/proc/{inside}/comm")).is_ok_and(|comm| comm == "sleep\n")
    });
    let inner = format!("set -- nsenter --mount=/proc/{inside}/ns/mnt --wd=. \"$@\"");
    let inner = Sandbox::after(&inner);
    assert_missing(&inner, "processes", &expected);
}

#[test]
fn a_pid_namespace_with_its_own_processes() {
    needs_root!();
    // The second process of the namespace is the target.
    let sandbox = Sandbox::after(
        "set -- unshare --pid --fork --mount-proc sh -c \
         'sleep 60 & test $! = 2 && \"$@\" -p 2; code=$?; kill $!; exit $code' sh \"$@\"",
    );
    let output = sandbox.offwake(&["-d", "0.2", "-F", "text"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = text(&output);
    assert!(text.contains("sleep (pid 2)") && text.contains("nanosleep"), "{text}");
}

#[test]
fn a_user_namespace() {
    needs_root!();
    let sandbox = Sandbox::after("set -- unshare --user --map-root-user \"$@\"");
    assert_missing(&sandbox, "privileges", &["user namespace", "run it outside, as root"]);
}

#[test]
fn no_processes() {
    needs_root!();
    let sandbox = without("/proc");
    assert_missing(
        &sandbox,
        "processes",
        &["no /proc is mounted: run `mount -t proc proc /proc` first"],
    );
}

#[test]
fn no_kernel_objects() {
    needs_root!();
    let sandbox = without("/sys");
    let target = Target::sleeping();
    let pid = target.pid();
    let said = "/sys is not mounted (`mount -t sysfs sysfs /sys`)";
    for asked in [&["--probe", "btf"][..], &["--unwind", "cfi"], &["--wake-source"]] {
        let arguments = [asked, &["-p", &pid, "-d", "0.2"]].concat();
        sandbox.assert_fails(&arguments, &[said]);
    }
    assert_failed(&sandbox.offwake(&["epoll", "-p", &pid]).output().unwrap(), &[said]);
    // Classic tracepoints do without, and it is told what that costs, and why.
    let summary = sandbox.assert_records(&["-p", &pid, "-d", "0.2"]);
    let warning = summary.lines().find(|line| line.contains("walked by frame pointers")).unwrap();
    assert!(warning.contains(said), "{warning}");
}
