//! `--overhead`: sums are estimates, threads are exact.

use crate::support::profile::{Profile, Wait, sum};
use crate::support::recorder::Recorder;
use crate::support::target::{Target, Truth};

/// As many standard errors an estimate is almost never from the truth.
const FAR: u64 = 5;

/// Records a target under a ceiling, only what sleeps as its truths do. Returns also whether offwake said that what it
/// recorded is not like all that there was.
fn recorded(target: &str, args: &[&str], ceiling: &str) -> (Profile, Vec<Truth>, bool) {
    let mut target = Target::start(target, args);
    let recorder = Recorder::start_with(
        &["out.txt", "out.svg", "out.pb.gz"],
        &["-p", &target.players(), "--state", "interruptible", "--overhead", ceiling],
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
        // A thread also waits for the play to begin and to end.
        assert!(
            (truth.count..=truth.count + 10).contains(&exact),
            "{exact} waits of {tid}, {truth:?}"
        );
        let waits = || profile.of(tid);
        let squares = |error: fn(&Wait) -> u64| {
            let squares = waits().map(|wait| (error(wait) as f64).powi(2));
            squares.sum::<f64>().sqrt() as u64
        };
        let (count, estimate) = (
            sum(waits(), |wait| wait.count),
            sum(waits(), |wait| wait.blocked_ns + wait.runqueue_ns),
        );
        let near = |what: &str, told: u64, seen: u64, error: u64| {
            eprintln!("{what} of {tid}: {seen} ± {error} of {told}");
            assert!(told.abs_diff(seen) <= FAR * error + 1, "{what}: {seen} ± {error} of {told}");
        };
        near("waits", exact, count, squares(|wait| wait.count_error.unwrap_or(0)));
        if !is_unlike || estimate > off_ns {
            near("time", off_ns, estimate, squares(|wait| wait.off_error_ns.unwrap_or(0)));
        }
        let samples: u64 = waits().map(|wait| wait.samples.unwrap_or(0)).sum();
        assert!(samples > 0 && samples <= exact, "{samples} of {exact}");
    }
}

#[test]
fn a_storm_is_sampled_and_its_threads_are_exact() {
    let _turn = turn!();
    let (profile, truths, _) = recorded("switch_storm", &["--seconds", "4"], "1");
    assert_unbiased(&profile, &truths, false);
    let sampling = profile.sampling.as_ref().expect("it was sampled");
    let recorded: u64 = profile.waits.iter().filter_map(|wait| wait.samples).sum();
    let all: u64 = sampling.threads.iter().map(|total| total.count).sum();
    assert!(recorded < all / 2, "{recorded} of {all} were recorded");
}

#[test]
fn locks_are_estimated_without_bias() {
    let _turn = turn!();
    let (profile, truths, is_unlike) = recorded("condvar", &["--count", "2000"], "0.01");
    assert!(!is_unlike, "its waits are alike");
    assert_unbiased(&profile, &truths, false);
}

#[test]
fn many_stacks_are_estimated_without_bias() {
    let _turn = turn!();
    let (profile, truths, is_unlike) = recorded("many_stacks", &[], "2");
    assert_unbiased(&profile, &truths, is_unlike);
}
