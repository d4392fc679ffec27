//! Which threads, states and lengths are recorded.

use std::fs;
use std::path::PathBuf;

use crate::skip::skip;
use crate::support::check::{Floor, check, never};
use crate::support::profile::{Profile, sum};
use crate::support::recorder::Recorder;
use crate::support::speed::is_slow;
use crate::support::target::Target;

/// Asserts that every wait is one of this thread.
fn assert_only(profile: &Profile, tid: u32) {
    assert!(!profile.waits.is_empty());
    for wait in &profile.waits {
        assert_eq!(wait.sleeper.tid, tid, "{wait:?}");
    }
}

#[test]
fn threads_and_names_narrow_a_recording() {
    let _turn = turn!();
    let mut target = Target::start("condvar", &["--count", "100"]);
    let consumer = target.thread("consumer").clone();
    let (pid, tid) = (consumer.pid.to_string(), consumer.tid.to_string());
    let by_tid = Recorder::start(&["-t", &tid]);
    let by_comm = Recorder::start(&["-p", &pid, "--comm", "consumer"]);
    let play = target.play();
    for recorder in [by_tid, by_comm] {
        let profile = recorder.stop().profile;
        profile.assert_nothing_lost();
        assert_only(&profile, consumer.tid);
        check(&profile, &play.truths, Floor::LOCAL, never);
    }
}

/// A new cgroup of the v2 hierarchy; removed with its owner. `None` where there is none to write to.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4))?
        })?;
        let path = PathBuf::from(mount).join(format!("offwake-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whoever is still in it failed before.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_is_all_that_is_recorded() {
    let _turn = turn!();
    let Some(cgroup) = Cgroup::new() else {
        let test = "truth::filters::a_cgroup_is_all_that_is_recorded";
        return skip(test, "no cgroup v2 to write to");
    };
    let mut inside = Target::start("condvar", &["--count", "100"]);
    let mut outside = Target::start("condvar", &["--count", "100"]);
    fs::write(cgroup.0.join("cgroup.procs"), inside.pid().to_string())
        .expect("a cgroup takes processes");
    let recorder = Recorder::start(&["--cgroup", cgroup.0.to_str().unwrap()]);
    outside.play();
    let play = inside.play();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    for wait in &profile.waits {
        assert_eq!(wait.sleeper.pid, inside.pid(), "{wait:?}");
    }
    check(&profile, &play.truths, Floor::LOCAL, never);
    inside.end();
}

#[test]
fn short_and_long_waits_are_left_out() {
    let _turn = turn!();
    let mut target = Target::start("sleeps", &["--seconds", "1"]);
    let players = target.players();
    // Short sleeps last 3 to 12 ms, long ones 30 to 80.
    let long = Recorder::start(&["-p", &players, "-m", "20000"]);
    let short = Recorder::start(&["-p", &players, "-M", "20000"]);
    let play = target.play();
    let (long, short) = (long.stop().profile, short.stop().profile);
    assert!(long.waits.iter().all(|wait| wait.max_ns >= 20_000_000), "{:?}", long.waits);
    assert!(short.waits.iter().all(|wait| wait.max_ns <= 20_000_000), "{:?}", short.waits);
    let told = |comm| play.of(comm)[0];
    let seen = |profile: &Profile, comm| {
        let sleeper = &told(comm).sleeper;
        let waits = profile.waits_in(sleeper.thread.tid, &sleeper.function);
        sum(waits.filter(|wait| wait.state != "preempted"), |wait| wait.count)
    };
    let (long_seen, long_told) = (seen(&long, "sleep_long"), told("sleep_long").count);
    assert!(
        long.possible(long_told).contains(&long_seen),
        "{long_seen} of {long_told} long sleeps"
    );
    assert_eq!(seen(&short, "sleep_long"), 0);
    // A short sleep can become a long one when its CPU is taken.
    let short_told = told("sleep_short").count;
    let (early, late) = (seen(&short, "sleep_short"), seen(&long, "sleep_short"));
    // Each recording has a clock of its own: a wait of just so long may be in both, or in none.
    let both = short.missed() + long.missed() + if is_slow() { 2 } else { 0 };
    assert!((early + late).abs_diff(short_told) <= both, "{early} and {late} of {short_told}");
    let share = if is_slow() { 4 } else { 20 };
    assert!(late <= 1 + short_told / share, "{late} of {short_told} short sleeps took 20 ms");
}

#[test]
fn states_narrow_a_recording() {
    let _turn = turn!();
    let mut target = Target::start("pipes", &["--count", "200"]);
    let mut spinners = Target::start("spinners", &["--seconds", "0.5"]);
    let players = format!("{},{}", target.players(), spinners.players());
    let sleeps = Recorder::start(&["-p", &players, "--state", "interruptible"]);
    let preempted = Recorder::start(&["-p", &players, "--state", "preempted"]);
    let play = target.play();
    spinners.play();
    let (sleeps, preempted) = (sleeps.stop().profile, preempted.stop().profile);
    assert!(sleeps.waits.iter().all(|wait| wait.state == "interruptible"));
    check(&sleeps, &play.truths, Floor::LOCAL, never);
    assert!(preempted.waits.iter().all(|wait| wait.state == "preempted"));
    assert!(sum(&preempted.waits, |wait| wait.count) > 20);
}
