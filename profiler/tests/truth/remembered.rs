//! Stacks that are not unwound again, against threads that change one frame at a time.

use std::collections::BTreeMap;

use crate::support::profile::{Frame, Profile, has};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::speed::amount;
use crate::support::target::{Play, Target};

#[test]
fn a_stack_that_changed_in_one_frame_is_not_taken_for_the_one_before() {
    let _turn = turn!();
    for unwind in ["fp", "auto"] {
        let (recorded, play) = record(&["--unwind", unwind]);
        let waits = compare(&recorded.profile, &play);
        let remembered = recorded.remembered();
        eprintln!("--unwind {unwind}: {waits} waits, {remembered} stacks not unwound again");
        assert_eq!(recorded.profile.lost("remembered_stack_wrong"), 0);
        // Each wait has two stacks in the kernel, which other machines unwind, and two in its program: more than half
        // of them are found, so both kinds are.
        let kinds = if cfg!(target_arch = "x86_64") { 2 } else { 1 };
        if recorded.remembers() {
            assert!(remembered > kinds * waits, "{remembered} of {waits}");
        }
    }
}

/// Of each wait, two stacks in the kernel: that of the waker is one of an interrupt, or of a softirq that its system
/// call runs, both on the stack of interrupts.
#[test]
fn wakers_on_the_stack_of_interrupts_are_remembered() {
    let _turn = turn!();
    for (name, count) in [("sleeps", 300), ("epoll_server", 2000)] {
        let mut target = Target::start(name, &["--count", &amount(count).to_string()]);
        let recorder = Recorder::start(&["-K", "-p", &target.players()]);
        target.play();
        let recorded = recorder.stop();
        let profile = &recorded.profile;
        profile.assert_nothing_lost();
        assert_eq!(profile.lost("remembered_stack_wrong"), 0);
        let waits: u64 = profile.waits.iter().map(|wait| wait.count).sum();
        let remembered = recorded.remembered();
        eprintln!("{name}: {waits} waits, {remembered} stacks not unwound again");
        if recorded.remembers() && cfg!(target_arch = "x86_64") {
            assert!(remembered * 10 > waits * 13, "{name}: {remembered} of {waits}");
        }
    }
}

#[test]
fn unwinding_every_stack_gives_the_same_answer() {
    let _turn = turn!();
    let (recorded, play) = record(&["--no-remember"]);
    compare(&recorded.profile, &play);
    assert_eq!(recorded.remembered(), 0);
}

fn record(args: &[&str]) -> (Recorded, Play) {
    let mut target = Target::start("mutants", &["--count", &amount(60_000).to_string()]);
    let recorder = Recorder::start(&[&["-p", &target.players()], args].concat());
    let play = target.play();
    let recorded = recorder.stop();
    recorded.profile.assert_nothing_lost();
    (recorded, play)
}

/// Asserts that each thread slept as often on each path as it says, and that whoever woke it was on the path
/// that it says. Returns how many waits that were.
fn compare(profile: &Profile, play: &Play) -> u64 {
    let (mut waits, mut strange, mut unknown) = (0, 0, 0);
    for told in &play.paths {
        let mut seen: BTreeMap<(u64, Option<u64>), u64> = BTreeMap::new();
        let mut by_sleeper: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
        for wait in profile.of(told.tid).filter(|wait| wait.state != "preempted") {
            let reads = has(&wait.sleeper_stack, "mutants::oracle_mutant_read");
            let Some(sleeper) = path(&wait.sleeper_stack).filter(|_| reads) else { continue };
            by_sleeper.entry(sleeper).or_default()[1] += wait.count;
            // Beside the waits for bytes there are a few for the mutex of a pipe: whoever has that may be anywhere.
            if wait.state == "interruptible" {
                *seen.entry((sleeper, path(&wait.waker_stack))).or_default() += wait.count;
            }
        }
        for &[sleeper, _, count] in &told.counts {
            by_sleeper.entry(sleeper).or_default()[0] += count;
        }
        unknown += seen
            .iter()
            .filter(|((_, waker), _)| waker.is_none())
            .map(|(_, count)| count)
            .sum::<u64>();
        for (sleeper, [told, seen]) in by_sleeper {
            assert!(
                profile.possible(told).contains(&seen),
                "path {sleeper:b}: {seen} of {told}: {:?}",
                profile.losses
            );
            waits += seen;
        }
        for &[sleeper, waker, count] in &told.counts {
            let seen = seen.remove(&(sleeper, Some(waker))).unwrap_or_default();
            strange += seen.saturating_sub(count);
        }
        let rest = seen.into_iter().filter(|((_, waker), _)| waker.is_some());
        strange += rest.map(|(_, count)| count).sum::<u64>();
    }
    // In each round one of both sleeps, or both do: whoever is preempted while it writes may find an answer.
    assert!(waits >= amount(60_000) / 10 * 9, "{waits}");
    // What the kernel hides from every tracer, and has counted.
    let missed = profile.lost("switch_in_missed");
    assert!(strange <= missed, "{strange} wrong wakers: {:?}", profile.losses);
    assert!(unknown <= missed + profile.lost("unknown_waker"), "{unknown}: {:?}", profile.losses);
    waits
}

/// The path of a stack: a bit for each function, that of the outermost first, and one for the socket.
fn path(stack: &[Frame]) -> Option<u64> {
    let names = stack.iter().filter_map(|frame| frame.name.as_deref());
    let bits: Vec<u64> = names
        .filter_map(|name| match name {
            "mutants::zero" => Some(0),
            "mutants::one" => Some(1),
            _ => None,
        })
        .collect();
    let is_socket = stack
        .iter()
        .filter(|frame| frame.kernel)
        .any(|frame| frame.name.as_deref().is_some_and(|name| name.starts_with("unix_stream")));
    // A whole one: a walk that ended early tells nothing.
    let is_kernel = stack.iter().any(|frame| frame.kernel);
    (is_kernel && bits.len() == 5)
        .then(|| bits.iter().fold(u64::from(is_socket), |path, bit| path << 1 | bit))
}
