//! When a recording begins and ends, and of what.

use std::collections::HashSet;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::support::check::{Floor, check, never};
use crate::support::profile::{Profile, Wait, sum};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::speed::is_slow;
use crate::support::target::{Play, Target};
use crate::support::{example, offwake};

/// Records a command from its start to its end.
fn record_command(args: &[&str], command: &[&str]) -> Recorded {
    Recorder::spawn(Command::new(offwake()), &[], &[args, &["--"], command].concat()).wait()
}

#[test]
fn a_command_is_recorded_from_its_first_instruction_to_its_end() {
    let _turn = turn!();
    let path = example("condvar");
    // By frame pointers, which it has: the first stacks of a program may come before its tables, and this counts
    // each of them.
    let Recorded { profile, stdout, .. } =
        record_command(&["--unwind", "fp"], &[path.to_str().unwrap(), "--count", "100"]);
    // The command reads an end of input at both gates, and plays at once.
    let play = Play::read(stdout.as_bytes());
    check(&profile, &play.truths, Floor::LOCAL, never);
    assert!(profile.recording.seconds > play.seconds, "{:?}", profile.recording);
    assert_eq!(profile.recording.targets.len(), 1);
    assert!(
        profile.recording.targets[0].contains("condvar --count 100 (pid "),
        "{:?}",
        profile.recording
    );
    let comms: HashSet<_> = profile.waits.iter().map(|wait| wait.sleeper.comm.as_str()).collect();
    let cast = HashSet::from(["condvar", "consumer", "producer"]);
    // The two threads have the name of their creator until they give themselves another.
    assert_eq!(comms, cast);
    let pid = play.truths[0].sleeper.thread.pid;
    for wait in &profile.waits {
        assert_eq!(wait.sleeper.pid, pid, "{wait:?}");
        let frames = wait.sleeper_stack.iter().chain(&wait.waker_stack);
        let own = frames.filter(|frame| frame.module.as_deref() == Some("offwake"));
        // The waker of its first wait may be offwake, which lets it run, and of any that for the lock of its
        // mappings, which offwake reads.
        let waker = wait.waker.thread.as_ref();
        let by_offwake = waker.is_some_and(|waker| waker.comm.starts_with("offwake"));
        assert!(by_offwake || own.count() == 0, "{wait:?}");
    }
    let threads = tids(profile.waits.iter().filter(|wait| wait.state == "new"));
    assert_eq!(threads.len(), 2, "both threads were created during the recording: {threads:?}");
}

#[test]
fn a_command_has_its_tables_soon() {
    let _turn = turn!();
    let path = example("condvar");
    // Where tables take longer to build, the command has to live longer.
    let count = if is_slow() { "1500" } else { "300" };
    // More than one: each may be caught in the middle of its `execve`.
    for _start in 0..6 {
        let Recorded { profile, .. } =
            record_command(&[], &[path.to_str().unwrap(), "--count", count]);
        let waits: u64 = profile.waits.iter().map(|wait| wait.count).sum();
        let incomplete: u64 = ["unwind_tables_missing", "user_stack_broken"]
            .iter()
            .map(|cause| profile.lost(cause))
            .sum();
        // Two stacks each.
        assert!(waits > 600 && incomplete * 10 < waits, "{incomplete} of {waits}");
    }
}

/// The threads of waits.
fn tids<'a>(waits: impl Iterator<Item = &'a Wait>) -> HashSet<u32> {
    waits.map(|wait| wait.sleeper.tid).collect()
}

#[test]
fn children_are_followed_only_when_asked_for() {
    let _turn = turn!();
    let script = ["sh", "-c", "sleep 0.1; sleep 0.15 & sleep 0.1; wait"];
    let sleepers = |profile: &Profile| -> HashSet<u32> {
        tids(profile.waits.iter().filter(|wait| wait.sleeper.comm == "sleep"))
    };
    let Recorded { profile, .. } = record_command(&["--follow"], &script);
    assert_eq!(sleepers(&profile).len(), 3, "{:?}", profile.waits);
    for tid in sleepers(&profile) {
        let off =
            sum(profile.of(tid).filter(|wait| wait.sleeper.comm == "sleep"), |wait| wait.off_ns());
        assert!(off >= 99_000_000, "a sleep of {off} ns");
    }
    let Recorded { profile, .. } = record_command(&[], &script);
    assert!(sleepers(&profile).is_empty(), "{:?}", profile.waits);
    let pids: HashSet<_> = profile.waits.iter().map(|wait| wait.sleeper.pid).collect();
    assert_eq!(pids.len(), 1);
}

#[test]
fn pids_are_those_of_the_own_namespace() {
    let _turn = turn!();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(offwake());
    let path = example("pipes");
    let args = ["--follow", "--", path.to_str().unwrap(), "--count", "100"];
    let Recorded { profile, stdout, .. } = Recorder::spawn(command, &[], &args).wait();
    let play = Play::read(stdout.as_bytes());
    // A new namespace counts from 1.
    assert!(play.truths.iter().all(|truth| truth.sleeper.thread.pid < 20), "{:?}", play.truths);
    check(&profile, &play.truths, Floor::LOCAL, never);
    assert!(profile.waits.iter().all(|wait| wait.sleeper.pid != 0), "{:?}", profile.waits);
}

#[test]
fn a_recording_lasts_as_long_as_it_is_told() {
    let _turn = turn!();
    let target = Target::start("condvar", &[]);
    let recorder = Recorder::start(&["-p", &target.players(), "-d", "0.7"]);
    let profile = recorder.wait().profile;
    let seconds = profile.recording.seconds;
    assert!((0.7..1.0).contains(&seconds), "{seconds}");
    // All of its threads slept all the time: the main thread too.
    for tid in target.threads.iter().map(|thread| thread.tid).chain([target.pid()]) {
        let off = sum(profile.of(tid), |wait| wait.off_ns()) as f64 / 1e9;
        assert!((off / seconds - 1.0).abs() < 0.02, "{off} of {seconds} s");
        assert!(profile.of(tid).all(|wait| wait.waker.kind == "not_woken"), "{:?}", profile.waits);
    }
}

#[test]
fn sigterm_gives_complete_results() {
    let _turn = turn!();
    gives_complete_results(libc::SIGTERM);
}

/// A terminal goes away.
#[test]
fn sighup_gives_complete_results() {
    let _turn = turn!();
    gives_complete_results(libc::SIGHUP);
}

fn gives_complete_results(signal: libc::c_int) {
    let mut target = Target::start("condvar", &["--count", "100"]);
    let mut command = Command::new(offwake());
    // SAFETY: the call is one that a child may make.
    unsafe {
        command.pre_exec(move || {
            // Whoever runs this may be under nohup.
            libc::signal(signal, libc::SIG_DFL);
            Ok(())
        });
    }
    let outputs = ["out.svg", "out.txt"];
    let recorder = Recorder::start_command(command, &outputs, &["-p", &target.players()]);
    let play = target.play();
    let recorded = recorder.stop_by(signal);
    check(&recorded.profile, &play.truths, Floor::LOCAL, never);
    assert!(recorded.output("out.svg").trim_end().ends_with("</svg>"));
    assert!(recorded.output("out.txt").contains("oracle_consume"));
    let intervals = sum(&recorded.profile.waits, |wait| wait.count);
    let said = format!("offwake: {intervals} intervals, ");
    let lines = [
        // One of both; and a kernel without the one does not remember stacks, either.
        "offwake: warning: user stacks were walked by frame pointers",
        "offwake: probe: ",
        "offwake: unwind tables: ",
        "offwake: memory: ",
        "offwake: stacks not unwound again: ",
        &said,
    ];
    let mut expected = lines.iter();
    for line in recorded.stderr.lines() {
        assert!(expected.any(|begin| line.starts_with(begin)), "{line} in {}", recorded.stderr);
    }
    assert_eq!(expected.next(), None, "{}", recorded.stderr);
    let has = |begin: &&&str| recorded.stderr.lines().any(|line| line.starts_with(**begin));
    let [by_frame_pointers, probe, tables, memory, _, _] = lines;
    assert!([&probe, &memory].iter().all(has), "{}", recorded.stderr);
    assert!(has(&&by_frame_pointers) != has(&&tables), "{}", recorded.stderr);
}

#[test]
fn the_end_of_the_target_ends_the_recording() {
    let _turn = turn!();
    let mut target = Target::start("condvar", &["--count", "100"]);
    let mut other = Command::new("sleep").arg("0.1").stdin(Stdio::null()).spawn().unwrap();
    let pids = format!("{},{}", target.players(), other.id());
    let recorder = Recorder::start(&["-p", &pids]);
    // The end of one of two does not end it.
    other.wait().unwrap();
    let play = target.play();
    target.end();
    let profile = recorder.wait().profile;
    check(&profile, &play.truths, Floor::LOCAL, never);
}
