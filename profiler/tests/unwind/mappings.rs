//! Programs and libraries that come, go, and are replaced.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::compare::{
    LOOKS, Share, Stacks, asleep, assert_complete, assert_complete_with_tables, compare,
    compare_share, is_start, stacks_asleep, user_frames,
};
use crate::harness::gdb::{looks, stacks};
use crate::harness::program::{Program, compile, pause, pause_after_news, source, start_recorder};
use crate::support::kernel::children;
use crate::support::profile::{Profile, Wait, has, sum};
use crate::support::speed::is_slow;
use crate::support::until;

/// How many waits are in a function, and how many of them not in these callers of it and down to the start.
fn count_calls(profile: &Profile, pid: u32, function: &str, callers: &[&str]) -> (u64, u64) {
    let incomplete = |wait: &&Wait| {
        let is_called = callers.iter().all(|it| has(&wait.sleeper_stack, it));
        !is_called || !wait.sleeper_stack.last().is_some_and(is_start)
    };
    let count = sum(profile.waits_in(pid, function), |wait| wait.count);
    (count, sum(profile.waits_in(pid, function).filter(incomplete), |wait| wait.count))
}

/// How many waits there are in a library that comes during the recording. A slow machine needs as long as some of them
/// take to read its file.
fn waits_in_library() -> u64 {
    if is_slow() { 1000 } else { 100 }
}

/// How many of them are in its function at least: all since there are tables. Before, the walk ends in libc.
fn soon() -> u64 {
    if is_slow() { 400 } else { 90 }
}

/// Loads three libraries during a recording, each after the last one of which the function has returned, and
/// returns that recording and the addresses of the functions. The last one's never returns.
fn record_loader(directory: &TempDir, what: &str) -> (Program, Profile, Vec<u64>) {
    let plugin = |name: &str, flags: &[&str]| {
        let name_flag = format!("-DNAME={name}");
        let flags = [&["-shared", "-fPIC", &name_flag][..], flags].concat();
        compile(directory.path(), &format!("lib{name}.so"), &source("plugin.c"), &flags)
    };
    let count = format!("-DCOUNT={}", waits_in_library());
    let first = plugin("first", &[&count]);
    let second = plugin("second", &[&count, "-DSHIFTED=5000"]);
    let third = plugin("third", &["-DCOUNT=1000000", "-DSHIFTED=100"]);
    let path = compile(directory.path(), "loader", &source("loader.c"), &["-ldl"]);
    let mut command = Command::new(path);
    command.arg(what);
    for (path, name) in [(first, "first"), (second, "second"), (third, "third")] {
        command.arg(path).arg(name);
    }
    let mut program = Program::start(&mut command);
    let recorder = program.start_recording(&[]);
    let mut addresses = Vec::new();
    for is_last in [false, false, true] {
        let address = program.go_on();
        addresses.push(u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap());
        if !is_last {
            program.expect("ready");
        }
    }
    pause_after_news();
    (program, recorder.stop().profile, addresses)
}

#[test]
fn libraries_loaded_during_the_recording() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let (program, profile, _) = record_loader(&directory, "keep");
    let pid = program.pid();
    for name in ["first", "second", "third"] {
        let (count, incomplete) = count_calls(&profile, pid, name, &["nap", "call", "main"]);
        let is_soon = count > soon() && incomplete * 8 <= count;
        assert!(is_soon, "{name}: {incomplete} of {count}");
    }
    let threads = stacks_asleep(&profile, pid);
    assert_complete_with_tables(&profile, &threads);
    // The others sleep at the same place of libc.
    let compared = compare_share(&profile, &threads, Share::Any);
    compared.assert_in("loader", &["nap", "third", "call", "main"]);
}

/// The tables of the first are wrong for the second. (All have the names of the last: a recording knows one file
/// for an address.)
#[test]
fn libraries_loaded_where_another_was_during_the_recording() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let (program, profile, addresses) = record_loader(&directory, "unload");
    let pages: Vec<u64> = addresses.iter().map(|address| address >> 12).collect();
    assert!(pages.iter().all(|page| *page == pages[0]), "this is to test another case: {pages:?}");
    let pid = program.pid();
    let (count, incomplete) = count_calls(&profile, pid, "third", &["call", "main"]);
    assert!(count > soon() && incomplete * 8 <= count, "{incomplete} of {count}");
    assert_complete_with_tables(&profile, &stacks(pid));
}

/// The same addresses have other code after an exec.
#[test]
fn a_program_that_becomes_another() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let shapes = compile(directory.path(), "shapes", &source("shapes.c"), &["-no-pie"]);
    let path = compile(directory.path(), "family", &source("family.c"), &["-no-pie"]);
    let mut program =
        Program::start(Command::new(path).arg("exec").arg(shapes).args(["registers", "realigned"]));
    let recorder = program.start_recording(&[]);
    let pid = program.pid();
    assert_eq!(program.go_on(), "ready");
    pause_after_news();
    let profile = recorder.stop().profile;
    let (before, incomplete) = count_calls(&profile, pid, "become", &["main"]);
    assert!(before >= 45 && incomplete == 0, "{incomplete} of {before}: {:?}", profile.losses);
    // Both programs sleep at one place of libc, and libc may even be at one address.
    let compared = compare_share(&profile, &stacks_asleep(&profile, pid), Share::Half);
    assert_eq!(compared.len(), 3, "{compared:?}");
    compared.assert_in("shapes", &["doze", "outer", "main"]);
}

#[test]
fn forked_children() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile(directory.path(), "family", &source("family.c"), &[]);
    let mut program = Program::start(Command::new(path).arg("fork"));
    let recorder = program.start_recording(&["--follow"]);
    assert_eq!(program.go_on(), "ready");
    let child: u32 = program.line().parse().unwrap();
    pause_after_news();
    let profile = recorder.stop().profile;
    for (pid, comm) in [(child, "child"), (program.pid(), "family")] {
        let threads = stacks_asleep(&profile, pid);
        assert_complete_with_tables(&profile, &threads);
        // Before it had tables, the child was seen in its innermost function only.
        let compared = compare_share(&profile, &threads, Share::Half);
        compared.assert_in(comm, &["doze", "outer", "main"]);
    }
}

/// The shapes of which the tests here take some, and what gdb said of them.
fn start_shapes(directory: &TempDir) -> (Program, Vec<Stacks>) {
    let path = compile(directory.path(), "shapes", &source("shapes.c"), &[]);
    let program = Program::start(Command::new(path).args(["plain", "registers", "realigned"]));
    let looks = looks(program.pid(), LOOKS);
    (program, looks)
}

/// An upgrade replaces the file of a program that runs: the file under its name has other tables.
#[test]
fn a_program_whose_file_was_replaced() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let (program, looks) = start_shapes(&directory);
    let other = compile(directory.path(), "other", &source("family.c"), &["-O1"]);
    fs::rename(other, directory.path().join("shapes")).unwrap();
    let profile = program.record(&[]);
    let compared = compare(&profile, &asleep(&profile, looks));
    assert_eq!(compared.len(), 4, "{compared:?}");
    compared.assert_in("registers", &["doze", "outer", "registers"]);
}

#[test]
fn a_program_whose_file_was_deleted() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let (program, looks) = start_shapes(&directory);
    fs::remove_file(directory.path().join("shapes")).unwrap();
    let profile = program.record(&[]);
    assert_eq!(compare(&profile, &asleep(&profile, looks)).len(), 4);
}

/// Its paths name other files here than there, or none.
#[test]
fn a_program_in_another_root() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile(directory.path(), "shapes", &source("shapes.c"), &["-static"]);
    fs::create_dir(directory.path().join("bin")).unwrap();
    fs::rename(path, directory.path().join("bin/inside")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--fork", "--kill-child"]);
    command.arg(format!("--root={}", directory.path().display()));
    command.args(["/bin/inside", "plain", "registers", "realigned"]);
    let program = Program::start(&mut command);
    let pid = until("the program to start", || children(program.pid()).first().copied());
    let recorder = start_recorder(&["-p", &pid.to_string()]);
    pause();
    let profile = recorder.stop().profile;
    let threads = stacks_asleep(&profile, pid);
    assert_complete(&profile, &threads);
    let compared = compare(&profile, &threads);
    assert_eq!(compared.len(), 4, "{compared:?}");
    let frames = profile.waits.iter().flat_map(user_frames);
    let elsewhere = frames.filter(|frame| frame.module.as_deref() != Some("inside"));
    assert_eq!(elsewhere.count(), 0, "{:?}", profile.losses);
}
