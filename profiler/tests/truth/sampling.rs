//! `--overhead`: sums are estimates, threads are exact.

use crate::support::profile::{Profile, Wait, sum};
use crate::support::recorder::Recorder;
use crate::support::speed::is_slow;
use crate::support::target::{Target, Truth};

/// As many standard errors an estimate is almost never from the truth.
const FAR: u64 = 5;

/// A share of two CPUs, in percent of this machine.
fn ceiling(percent: f64) -> String {
    let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    // No less is allowed.
    format!("{:.4}", (percent * 2.0 / cpus as f64).max(0.01))
}

/// Records a target under a ceiling, only what sleeps as its truths do. Returns also whether offwake said that what it
/// recorded is not like all that there was.
fn recorded(target: &str, args: &[&str], percent: f64) -> (Profile, Vec<Truth>, bool) {
    let mut target = Target::start(target, args);
    let recorder = Recorder::start_with(
        &["out.txt", "out.svg", "out.pb.gz"],
        &["-p", &target.players(), "--state", "interruptible", "--overhead", &ceiling(percent)],
    );
    let play = target.play();
    let recorded = recorder.stop();
    assert!(recorded.stderr.contains("offwake: sampled 1 of "), "{}", recorded.stderr);
    assert!(recorded.output("out.txt").contains("sampled 1 of "));
    assert!(recorded.output("out.svg").contains("sampled 1 of "));
    let is_unlike = recorded.stderr.contains("warning: the recorded waits of ");
    assert_eq!(is_unlike, recorded.output("out.txt").contains("\nthe recorded waits of "));
    let profile = recorded.profile;
    profile.assert_nothing_lost();
    (profile, play.truths, is_unlike)
}

/// The threads are exact, and what was estimated of them is as near as it says. `is_unlike`: or offwake said that time
/// is missing, since a wait that is much longer than the others was not recorded.
fn assert_unbiased(profile: &Profile, truths: &[Truth], is_unlike: bool) {
    let sampling = profile.sampling.as_ref().expect("it was sampled");
    for truth in truths {
        let tid = truth.sleeper.thread.tid;
        let of_thread = || sampling.threads.iter().filter(move |total| total.tid == tid);
        let exact: u64 = of_thread().map(|total| total.count).sum();
        let off_ns: u64 = of_thread().map(|total| total.blocked_ns + total.runqueue_ns).sum();
        // A thread also waits for the play to begin and to end, and the kernel counts its waits for locks, which are not
        // recorded: there are some where CPUs are slow.
        let locks = if is_slow() { 1 + truth.count / 500 } else { 0 };
        let possible = truth.count.saturating_sub(profile.missed() + locks)..=truth.count + 10;
        assert!(possible.contains(&exact), "{exact} waits of {tid}, {truth:?}");
        let waits = || profile.of(tid);
        let (count, estimate) = (
            sum(waits(), |wait| wait.count),
            sum(waits(), |wait| wait.blocked_ns + wait.runqueue_ns),
        );
        let near = |what: &str, told: u64, seen: u64, error: u64, slack: u64| {
            eprintln!("{what} of {tid}: {seen} ± {error} of {told}");
            let far = FAR * error + slack;
            assert!(told.abs_diff(seen) <= far, "{what}: {seen} ± {error} of {told}");
        };
        near("waits", exact, count, error_of_sum(waits(), |wait| wait.count_error), 1);
        if !is_unlike || estimate > off_ns {
            let error = error_of_sum(waits(), |wait| wait.off_error_ns);
            near("time", off_ns, estimate, error, off_ns / if is_slow() { 8 } else { 20 });
        }
        let samples = samples(waits());
        assert!(samples > 0 && samples <= exact, "{samples} of {exact}");
    }
}

/// How many waits were recorded.
fn samples<'a>(waits: impl IntoIterator<Item = &'a Wait>) -> u64 {
    waits.into_iter().filter_map(|wait| wait.samples).sum()
}

/// The standard error of a sum.
fn error_of_sum<'a>(waits: impl Iterator<Item = &'a Wait>, error: fn(&Wait) -> Option<u64>) -> u64 {
    let squares = waits.filter_map(error).map(|error| (error as f64).powi(2));
    squares.sum::<f64>().sqrt() as u64
}

#[test]
fn a_storm_is_sampled_and_its_threads_are_exact() {
    let _turn = turn!();
    let (profile, truths, _) = recorded("switch_storm", &["--seconds", "4"], 1.0);
    assert_unbiased(&profile, &truths, false);
    let sampling = profile.sampling.as_ref().expect("it was sampled");
    let recorded = samples(&profile.waits);
    let all: u64 = sampling.threads.iter().map(|total| total.count).sum();
    assert!(recorded < all / 2, "{recorded} of {all} were recorded");
}

#[test]
fn locks_are_estimated_without_bias() {
    let _turn = turn!();
    let (profile, truths, is_unlike) = recorded("condvar", &["--count", "2000"], 0.05);
    assert!(!is_unlike, "its waits are alike");
    assert_unbiased(&profile, &truths, false);
    let recorded = samples(&profile.waits);
    assert!(recorded < truths[0].count / 2, "{recorded} were recorded");
}

#[test]
fn many_stacks_are_estimated_without_bias() {
    let _turn = turn!();
    let (profile, truths, is_unlike) = recorded("many_stacks", &[], 2.0);
    assert_unbiased(&profile, &truths, is_unlike);
}

/// Waits of a place share its quota with those of a sixteenth of all others: nearly all rare ones are in full.
#[test]
fn what_is_rare_in_a_busy_thread_is_recorded_in_full() {
    let _turn = turn!();
    let (profile, truths, _) = recorded("rare", &[], 0.2);
    let [often, rarely] = &truths[..] else { panic!("{truths:?}") };
    fn waits<'a>(profile: &'a Profile, truth: &'a Truth) -> impl Iterator<Item = &'a Wait> {
        profile.waits_in(truth.sleeper.thread.tid, &truth.sleeper.function)
    }
    let samples = |truth| samples(waits(&profile, truth));
    assert!(samples(often) < often.count / 2, "{} of {}", samples(often), often.count);
    eprintln!("{} of {} rare waits", samples(rarely), rarely.count);
    // Kprobes tell no places apart.
    let told = if profile.recording.probe.starts_with("kprobe") { 0 } else { rarely.count };
    assert!(samples(rarely) >= told / 2, "{} of {}", samples(rarely), rarely.count);
    let count = sum(waits(&profile, often), |wait| wait.count);
    let error = error_of_sum(waits(&profile, often), |wait| wait.count_error);
    let far = FAR * error + profile.missed();
    assert!(often.count.abs_diff(count) <= far, "{count} ± {error} of {}", often.count);
}
