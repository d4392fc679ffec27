//! Every kind of probe that this kernel has gives the same answer.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::support::check::{Floor, check, is_spinlock, is_timer, never};
use crate::support::profile::{Frame, Profile, Wait, has, heaviest, names};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::target::{Play, Target, Truth, Waker};
use crate::support::{example, offwake};

/// Records the same play with offwake as `command` starts it, and compares it with the truth.
pub(crate) fn check_play(command: Command, probe: &str) -> Recorded {
    let path = example("condvar");
    // By frame pointers, which it has: the first stacks of a new program come before its tables.
    let args = ["--probe", probe, "--unwind", "fp", "--", path.to_str().unwrap(), "--count", "300"];
    let recorded = Recorder::spawn(command, &[], &args).wait();
    let play = Play::read(recorded.stdout.as_bytes());
    check(&recorded.profile, &play.truths, Floor::LOCAL, never);
    let used = &recorded.profile.recording.probe;
    assert!(used.starts_with(&format!("{probe} (")), "{used}");
    recorded
}

/// The kinds that `offwake check` finds.
pub(crate) fn available() -> Vec<&'static str> {
    let output = Command::new(offwake()).arg("check").output().expect("offwake check");
    let table = String::from_utf8(output.stdout).expect("text");
    let has = |probe: &str| {
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|words| words.starts_with(&["ok", "probe", probe]))
    };
    ["btf", "kprobe", "tracepoint"].into_iter().filter(|probe| has(probe)).collect()
}

/// The kinds that a test of each is to try: all of them, or the one that `OFFWAKE_TEST_PROBE` names.
pub(crate) fn under_test() -> Vec<&'static str> {
    let chosen = env::var("OFFWAKE_TEST_PROBE").ok();
    let is_chosen = |probe: &&str| chosen.as_ref().is_none_or(|chosen| chosen == probe);
    available().into_iter().filter(is_chosen).collect()
}

/// The most frequent stacks of the waits of a play's thread: the sleeper's in the kernel, from `schedule` outward, and in
/// its program, and the waker's, from `try_to_wake_up` outward. Further in, each kind of probe has its own frames.
type Answer = [Vec<String>; 2];

/// What a profile says of the waits of each truth.
fn answers(profile: &Profile, truths: &[Truth]) -> Vec<Answer> {
    let of_truth = |truth: &Truth| {
        let waits = profile.waits_in(truth.sleeper.thread.tid, &truth.sleeper.function);
        let waits = waits.filter(|wait| wait.state == truth.state && !is_spinlock(wait));
        let answers = waits.filter_map(|wait| {
            let waker = match &truth.waker {
                Waker::Task(waker) if !has(&wait.waker_stack, &waker.function) => return None,
                Waker::Task(_) => from("try_to_wake_up", &wait.waker_stack),
                // An interrupt takes the way of whatever it interrupts.
                _ => Vec::new(),
            };
            Some(([from("schedule", &wait.sleeper_stack), waker], wait.count))
        });
        heaviest(answers).unwrap_or_else(|| panic!("no wait of {truth:?}"))
    };
    truths.iter().map(of_truth).collect()
}

/// The names of a stack from a function outward, but for those of TCP, which has a fast and a slow way.
fn from(function: &str, stack: &[Frame]) -> Vec<String> {
    let names = names(stack);
    let start = names.iter().position(|name| *name == function);
    let start = start.unwrap_or_else(|| panic!("no {function}: {names:?}"));
    let names = names[start..].iter().filter(|name| !name.starts_with("tcp_"));
    names.map(|&name| name.to_owned()).collect()
}

/// Each kind is recorded with after the other.
#[test]
fn all_give_the_same_answer() {
    let _turn = turn!();
    let probes = available();
    let has_kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    assert_eq!(probes.len(), if has_kprobes { 3 } else { 2 }, "{probes:?}");
    for (target, args, floor, is_interrupt) in [
        ("condvar", ["--count", "200"], Floor::LOCAL, never as fn(&Wait) -> bool),
        ("mutex", ["--count", "200"], Floor::LOCAL, never),
        ("pipes", ["--count", "200"], Floor::LOCAL, never),
        ("epoll_server", ["--count", "200"], Floor::TCP, never),
        ("sleeps", ["--seconds", "0.7"], Floor::TIMER, is_timer),
    ] {
        let told = probes.iter().map(|probe| {
            let mut target = Target::start(target, &args);
            let recorder = Recorder::start(&["-p", &target.players(), "--probe", probe]);
            let play = target.play();
            let profile = recorder.stop().profile;
            profile.assert_nothing_lost();
            check(&profile, &play.truths, floor, is_interrupt);
            (probe, answers(&profile, &play.truths))
        });
        let told: Vec<_> = told.collect();
        for (probe, answer) in &told {
            assert_eq!(answer, &told[0].1, "{target}: {probe} and {}", told[0].0);
        }
    }
}

/// offwake where these are hidden.
fn hiding(mounts: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{mounts}; exec \"$0\" \"$@\"");
    command.args(["--mount", "sh", "-ec", &script]).arg(offwake());
    command
}

/// Of two places one need not be there.
const NO_TRACEFS: &str = "for directory in tracing debug; do
    ! [ -d /sys/kernel/$directory ] || mount -t tmpfs none /sys/kernel/$directory
done";
const NO_TYPES: &str = "mount -t tmpfs none /sys/kernel/btf";

#[test]
fn tracepoints_do_without_type_information() {
    let _turn = turn!();
    let Recorded { stderr, .. } = check_play(hiding(NO_TYPES), "tracepoint");
    assert!(stderr.contains("type information (BTF)"), "{stderr}");
}

#[test]
fn tracepoints_do_without_a_mounted_tracefs() {
    let _turn = turn!();
    check_play(hiding(NO_TRACEFS), "tracepoint");
}

#[test]
fn what_does_not_work_is_told() {
    let _turn = turn!();
    let path = example("condvar");
    let args = ["--probe", "auto", "--", path.to_str().unwrap(), "--count", "20"];
    let recorded = Recorder::spawn(hiding(NO_TYPES), &[], &args).wait();
    let used = &recorded.profile.recording.probe;
    assert!(used.starts_with("tracepoint (auto; btf: it needs "), "{used}");
    assert!(used.contains("; kprobe: it needs "), "{used}");
    assert!(recorded.stderr.contains(used), "{}", recorded.stderr);

    let nor_symbols = format!("{NO_TYPES}; mount --bind /dev/null /proc/kallsyms");
    let output = hiding(&nor_symbols).args(args).output().expect("offwake");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in ["no kind of probe works here: btf: ", "; kprobe: ", "; tracepoint: cannot read"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}
