//! What is hard to see: races, many stacks, many switches.

use std::collections::HashSet;

use crate::support::check::{Floor, check, hidden, never, possible};
use crate::support::profile::{Profile, has, names, sum};
use crate::support::recorder::Recorder;
use crate::support::speed::amount;
use crate::support::target::{Target, Truth, Waker};

#[test]
fn a_wake_up_that_races_the_switch_out_is_attributed() {
    let _turn = turn!();
    let count = amount(60_000);
    let mut target = Target::start("race", &["--count", &count.to_string()]);
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    let truth = &play.truths[0];
    let waits = assert_counts_and_wakers(&profile, truth);
    // The bar is 0.1 %, beside what the kernel hides from every tracer.
    let bar = truth.count / 1000 + profile.lost("switch_in_missed");
    assert!(waits.unknown <= bar, "{} of {} wakers are unknown", waits.unknown, truth.count);
    // It was a race: some wake-ups came before the switch-out and left run-queue time only.
    assert!(waits.seen > count / 60, "{waits:?}");
}

#[derive(Debug)]
struct Seen {
    seen: u64,
    unknown: u64,
}

/// Asserts that each wait was seen and none has a wrong waker, where only the kernel knows how many.
fn assert_counts_and_wakers(profile: &Profile, truth: &Truth) -> Seen {
    let Waker::Task(waker) = &truth.waker else { panic!("{truth:?}") };
    let (tid, function) = (truth.sleeper.thread.tid, &truth.sleeper.function);
    let waits: Vec<_> =
        profile.waits_in(tid, function).filter(|wait| wait.state != "preempted").collect();
    let seen = sum(waits.iter().copied(), |wait| wait.count);
    assert!(
        possible(profile, &truth.sleeper, truth.count).contains(&seen),
        "{seen}: {truth:?}: {:?}",
        profile.losses
    );
    let mut unknown = 0;
    for wait in waits {
        if wait.waker.kind == "unknown" {
            unknown += wait.count;
            continue;
        }
        assert_eq!(wait.waker.thread.as_ref(), Some(&waker.thread), "{wait:?}");
        assert!(has(&wait.waker_stack, &waker.function), "{:?}", names(&wait.waker_stack));
    }
    assert!(unknown <= profile.lost("unknown_waker"), "{unknown}: {:?}", profile.losses);
    Seen { seen, unknown }
}

#[test]
fn twenty_thousand_stacks_are_all_kept() {
    let _turn = turn!();
    let mut target = Target::start("many_stacks", &[]);
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    check(&profile, &play.truths, Floor::LOCAL, never);
    let truth = &play.truths[0];
    let told = truth.sleeper_stacks.expect("it is known");
    assert!(told >= 20_000);
    let stacks: HashSet<Vec<u64>> = profile
        .waits_in(truth.sleeper.thread.tid, &truth.sleeper.function)
        .filter(|wait| wait.state != "preempted")
        .map(|wait| {
            let user = wait.sleeper_stack.iter().filter(|frame| !frame.kernel);
            user.map(|frame| frame.offset).collect()
        })
        .collect();
    let seen = stacks.len() as u64;
    assert!(
        profile.possible(told).contains(&seen),
        "{seen} of {told}, {} missed",
        profile.missed()
    );
}

#[test]
fn a_storm_of_switches_is_counted_to_the_last() {
    let _turn = turn!();
    let mut target = Target::start("switch_storm", &["--seconds", "10"]);
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    let mut all = Seen { seen: 0, unknown: 0 };
    for truth in &play.truths {
        let Seen { seen, unknown } = assert_counts_and_wakers(&profile, truth);
        all.seen += seen;
        all.unknown += unknown;
    }
    assert!(all.unknown <= hidden(all.seen), "{all:?}");
    let rate = all.seen as f64 / play.seconds;
    eprintln!("{} switches seen in {:.1} s: {rate:.0} a second", all.seen, play.seconds);
    // How many a CPU can do is the machine's; that these are a storm is the test's.
    assert!(rate > amount(20_000) as f64, "{rate} switches a second");
}
