//! Code without call frame information: compiled just now, or by compilers that have frame pointers instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::compare::{is_at, user_frames};
use crate::harness::gdb::{Frame, stacks};
use crate::harness::program::{Program, compile_with, make, source};
use crate::support::profile::{Profile, Wait, names, sum};

/// The waits of a thread in a function. Not those in which it was preempted: compiled code without tables may be
/// just about to make its frame.
fn waits_in<'a>(profile: &'a Profile, tid: u32, function: &str) -> Vec<&'a Wait> {
    let waits = profile.of(tid).filter(|wait| wait.state != "preempted");
    waits.filter(|wait| is_in(wait, function)).collect()
}

/// Whether a function with this in its name is in the stack.
fn is_in(wait: &Wait, function: &str) -> bool {
    names(&wait.sleeper_stack).iter().any(|name| name.contains(function))
}

/// Asserts that all these waits are in these functions, and that there are enough.
fn assert_all_in(profile: &Profile, waits: &[&Wait], functions: &[&str]) {
    for wait in waits {
        let complete = functions.iter().all(|function| is_in(wait, function));
        assert!(complete, "{functions:?}: {:?}", names(&wait.sleeper_stack));
    }
    let count = sum(waits.iter().copied(), |wait| wait.count);
    assert!(count > 100, "{count}: {:?}", profile.losses);
}

/// Removes the file in which node tells the names of what it compiled.
struct PerfMap(PathBuf);

impl Drop for PerfMap {
    fn drop(&mut self) {
        // It is in a folder that is emptied anyhow.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// From JavaScript through the runtime, which is in the executable and has no call frame information either, to
/// the start of the thread.
#[test]
fn javascript() {
    let _turn = turn!();
    // It keeps a log where it is started.
    let directory = TempDir::new().unwrap();
    let mut command = Command::new("node");
    command.current_dir(directory.path());
    command.args(["--perf-basic-prof", "--always-sparkplug"]).arg(source("worker.js"));
    let program = Program::start(&mut command);
    let pid = program.pid();
    let _perf_map = PerfMap(format!("/tmp/perf-{pid}.map").into());
    let profile = program.record(&[]);
    let threads = stacks(pid);
    // gdb knows no way through the code either, but for threads that are not in it.
    let starts: Vec<&Frame> = threads
        .iter()
        .filter(|&(&tid, _)| tid != pid)
        .filter_map(|(_, stack)| stack.frames.last())
        .filter(|frame| frame.place.module.as_deref() != Some("anon"))
        .collect();
    let in_javascript: Vec<u32> = threads
        .keys()
        .copied()
        .filter(|&tid| !waits_in(&profile, tid, "sleepOnce").is_empty())
        .collect();
    assert_eq!(in_javascript.len(), 2, "the worker and the main thread: {:?}", profile.losses);
    for tid in in_javascript {
        let waits = waits_in(&profile, tid, "sleepOnce");
        assert_all_in(&profile, &waits, &["sleepOften", "sleepForever"]);
        for wait in waits {
            let outermost = user_frames(wait).last().unwrap();
            let reached = if tid == pid {
                // It may be stripped.
                outermost.module.as_deref() == Some("node")
                    && outermost.name.as_deref().is_none_or(|name| name == "_start")
            } else {
                starts.iter().any(|frame| is_at(outermost, frame))
            };
            assert!(reached, "{:?}", names(&wait.sleeper_stack));
        }
    }
}

/// Go's functions have frame pointers and no `.eh_frame`.
#[test]
fn go() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sleeper");
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(&path).arg(source("sleeper.go"));
    // Whatever the user has set, and without a network.
    command.env("GOPROXY", "off").env("GOFLAGS", "").env("GO111MODULE", "off");
    make(command.env("GOCACHE", cache()));
    let program = Program::start(&mut Command::new(path));
    let profile = program.record(&[]);
    let waits = waits_in(&profile, program.pid(), "main.middle");
    assert_all_in(&profile, &waits, &["main.outer", "main.main", "runtime.main"]);
    for wait in waits {
        let outermost = user_frames(wait).last().unwrap();
        assert_eq!(outermost.name.as_deref(), Some("runtime.goexit.abi0"), "{wait:?}");
    }
}

/// Kept between runs: beside the profiles' folders.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_offwake")).ancestors().nth(2).expect("target").join("go-cache")
}

/// musl has no call frame information; what calls it has. Where musl makes the system call, its callers are lost:
/// the walk by frame pointers ends at once, and is broken unless that register happens to be 0, which is how a
/// stack ends. The others are complete.
#[test]
fn musl() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path =
        compile_with("musl-gcc", directory.path(), "shapes", &source("shapes.c"), &["-static"]);
    let program = Program::start(Command::new(path).args(["plain", "raw", "handler"]));
    let profile = program.record(&[]);
    for (&tid, stack) in &stacks(program.pid()) {
        let waits = profile.of(tid).filter(|wait| user_frames(wait).next().is_some());
        let waits: Vec<&Wait> = waits.filter(|wait| wait.state != "preempted").collect();
        let count = sum(waits.iter().copied(), |wait| wait.count);
        assert!(count > 50, "{}: {count}: {:?}", stack.comm, profile.losses);
        if stack.comm == "raw" {
            assert_all_in(&profile, &waits, &["raw", "run", "start"]);
        }
    }
    assert!(profile.lost("user_stack_broken") > 100, "{:?}", profile.losses);
}
