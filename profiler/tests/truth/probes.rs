//! Every kind of probe that this kernel has gives the same answer.

use std::env;
use std::process::Command;

use crate::support::check::{Floor, check, never};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::target::Play;
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

#[test]
fn all_give_the_same_answer() {
    let _turn = turn!();
    let probes = available();
    for probe in &probes {
        check_play(Command::new(offwake()), probe);
    }
    assert!(probes.len() >= 2, "{probes:?}");
}

#[test]
fn tracepoints_do_without_type_information() {
    let _turn = turn!();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(offwake());
    let Recorded { stderr, .. } = check_play(command, "tracepoint");
    assert!(stderr.contains("type information (BTF)"), "{stderr}");
}
