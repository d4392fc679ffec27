//! Each kind of wait: sleeper, waker, function in the right half, count, blocked time.

use std::collections::BTreeMap;

use crate::support::check::{Floor, check, is_deferred, is_spinlock, is_timer, never};
use crate::support::cpp_example;
use crate::support::kernel::stolen_ns;
use crate::support::profile::{Profile, Wait, has, names, sum};
use crate::support::recorder::Recorder;
use crate::support::speed::{allowance, is_slow};
use crate::support::target::{Play, Target};

/// Records the play of a target.
fn record(mut target: Target) -> (Profile, Play) {
    let recorder = Recorder::start(&["-p", &target.players()]);
    let play = target.play();
    let recorded = recorder.stop();
    recorded.profile.assert_nothing_lost();
    (recorded.profile, play)
}

/// The closed waits of a thread in the functions of the play.
fn waits_of<'a>(profile: &'a Profile, play: &Play, comm: &str) -> Vec<&'a Wait> {
    let truths = play.of(comm);
    let sleeper = &truths[0].sleeper;
    let waits = profile.waits_in(sleeper.thread.tid, &sleeper.function);
    waits.filter(|wait| wait.state != "preempted" && !is_spinlock(wait)).collect()
}

#[test]
fn sleeps_are_ended_by_the_timer_interrupt() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("sleeps", &["--seconds", "1.5"]));
    check(&profile, &play.truths, Floor::TIMER, is_timer);
}

/// Half of the sleeps are of the first length, a quarter of the next, and so on.
#[test]
fn lengths_are_counted_in_their_octaves() {
    const COUNT: usize = 64;
    let _turn = turn!();
    let (profile, play) = record(Target::start("lengths", &["--count", &COUNT.to_string()]));
    check(&profile, &play.truths, Floor::TIMER, is_timer);
    assert!((COUNT - COUNT / 8..=COUNT).contains(&play.lengths.len()), "{:?}", play.lengths);
    let octave = |ns: u64| 1u64 << ns.ilog2();
    // A sleep begins when its timer runs already: on a slow machine that is much.
    let late = if is_slow() { allowance(Floor::LOCAL.0) } else { 0 };

    // Where the machine may have prolonged a sleep into another octave, each of them is right.
    let (mut surely, mut maybe) = (BTreeMap::new(), BTreeMap::new());
    for &(meant, most) in &play.lengths {
        let (meant, most) = (octave(meant.saturating_sub(late).max(1)), octave(most));
        if meant == most {
            *surely.entry(meant).or_insert(0) += 1;
        }
        for bits in meant.ilog2()..=most.ilog2() {
            *maybe.entry(1 << bits).or_insert(0) += 1;
        }
    }
    let mut seen = BTreeMap::new();
    for wait in waits_of(&profile, &play, "measured") {
        for (lower, count) in &wait.histogram {
            *seen.entry(*lower).or_insert(0) += count;
        }
    }
    assert_eq!(seen.values().sum::<u64>(), play.lengths.len() as u64, "{seen:?}");
    for octave in 0..64 {
        let octave = 1 << octave;
        let count = |of: &BTreeMap<u64, u64>| of.get(&octave).copied().unwrap_or(0);
        let right = count(&surely)..=count(&maybe);
        assert!(right.contains(&count(&seen)), "{octave}: {seen:?}, told {:?}", play.lengths);
    }
    if is_slow() {
        return;
    }
    // And nearly all are of the octave that they were meant to be of.
    for (meant, count) in [(19, 32u64), (21, 16), (23, 8), (25, 4), (27, 4)] {
        let found = seen.get(&(1 << meant)).copied().unwrap_or(0);
        assert!(count.abs_diff(found) <= 1 + count / 4, "{meant}: {found} of {count}: {seen:?}");
    }
}

#[test]
fn a_lock_is_handed_over_by_the_unlocking_thread() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("mutex", &[]));
    check(&profile, &play.truths, Floor::LOCAL, never);
}

#[test]
fn a_condition_is_notified_by_the_producer() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("condvar", &[]));
    check(&profile, &play.truths, Floor::LOCAL, never);
}

#[test]
fn processes_wake_each_other_through_pipes() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("pipes", &[]));
    assert_eq!(play.truths.len(), 2, "both directions");
    assert_ne!(play.truths[0].sleeper.thread.pid, play.truths[1].sleeper.thread.pid);
    check(&profile, &play.truths, Floor::LOCAL, never);
}

#[test]
fn workers_are_woken_over_loopback_by_the_client_and_not_by_the_softirq() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("epoll_server", &[]));
    assert_eq!(play.truths.len(), 4, "two workers, and the client by each of them");
    check(&profile, &play.truths, Floor::TCP, never);
    for worker in ["wrk:worker_0", "wrk:worker_1"] {
        assert_woken_through_epoll(&waits_of(&profile, &play, worker));
    }
}

/// Asserts that workers sleep in `ep_poll`, which some compilers inline into `do_epoll_wait`, and are woken
/// by all of the network stack, in its order.
fn assert_woken_through_epoll(waits: &[&Wait]) {
    for wait in waits {
        let sleeps = ["ep_poll", "do_epoll_wait"].iter().any(|name| has(&wait.sleeper_stack, name));
        assert!(sleeps, "{:?}", names(&wait.sleeper_stack));
        if wait.waker.kind == "unknown" {
            continue;
        }
        let names = names(&wait.waker_stack);
        let mut at = 0;
        let writer = if is_deferred(wait) { "net_rx_action" } else { "tcp_sendmsg" };
        for function in ["ep_poll_callback", "sock_def_readable", "tcp_v4_rcv", writer] {
            let found = names[at..].iter().position(|name| *name == function);
            at += found.unwrap_or_else(|| panic!("no {function} in its place: {names:?}"));
        }
    }
}

#[test]
fn cpp_has_names_as_the_source_has_them() {
    let _turn = turn!();
    let target = Target::start_program(&cpp_example("envoy_like_fp"), &[]);
    let (profile, play) = record(target);
    check(&profile, &play.truths, Floor::TCP, never);
    for worker in ["wrk:worker_0", "wrk:worker_1"] {
        let waits = waits_of(&profile, &play, worker);
        assert_woken_through_epoll(&waits);
        for wait in waits {
            let names = names(&wait.sleeper_stack);
            let mut at = 0;
            for function in [
                "event_base_loop",
                "Envoy::Event::LibeventScheduler::run(Envoy::Event::Dispatcher::RunType)",
                "Envoy::Event::DispatcherImpl::run(Envoy::Event::Dispatcher::RunType)",
                "Envoy::Server::WorkerImpl::threadRoutine(Envoy::Server::GuardDog&, std::function<void ()> const&)",
            ] {
                let found = names[at..].iter().position(|name| *name == function);
                at += found.unwrap_or_else(|| panic!("no {function} in its place: {names:?}"));
            }
        }
    }
    for wait in waits_of(&profile, &play, "downstream") {
        if wait.waker.kind == "unknown" || is_deferred(wait) {
            continue;
        }
        for function in [
            "Envoy::Http::ConnectionManagerImpl::onData(Envoy::Network::ConnectionImpl&, Request const&)",
            "Envoy::Network::ConnectionImpl::onFileEvent(unsigned int)",
            "event_base_loop",
        ] {
            assert!(
                has(&wait.waker_stack, function),
                "no {function}: {:?}",
                names(&wait.waker_stack)
            );
        }
    }
}

#[test]
fn preemption_is_its_own_class_without_a_waker() {
    let _turn = turn!();
    let (profile, play) = record(Target::start("spinners", &["--seconds", "1.5"]));
    assert_eq!(play.truths.len(), 2);
    for truth in &play.truths {
        let (tid, function) = (truth.sleeper.thread.tid, &truth.sleeper.function);
        let what = &truth.sleeper.thread.comm;
        let waits: Vec<_> = profile.waits_in(tid, function).collect();
        for wait in &waits {
            assert_eq!((&*wait.state, &*wait.waker.kind), ("preempted", "preempted"), "{wait:?}");
            assert!(wait.waker.thread.is_none() && wait.waker_stack.is_empty(), "{wait:?}");
            assert_eq!(wait.blocked_ns, 0, "{wait:?}");
        }
        let runqueue = sum(waits.iter().copied(), |wait| wait.runqueue_ns);
        let share = runqueue as f64 / (play.seconds * 1e9);
        let shares = if is_slow() { 0.1..0.9 } else { 0.3..0.7 };
        assert!(shares.contains(&share), "{what}: half of the CPU is the other's, not {share}");
        // The kernel's own figures are from gate to gate, and have what happens at the edges too.
        let all = || profile.of(tid);
        let count = sum(all().filter(|wait| wait.state == "preempted"), |wait| wait.count);
        assert!(truth.count.abs_diff(count) <= 2 + truth.count / 50, "{what}: {count}, {truth:?}");
        let runqueue = sum(all(), |wait| wait.runqueue_ns);
        Floor::LOCAL.assert_near(truth.off_ns, runqueue, truth.count, what);
    }
}

#[test]
fn disks_are_waited_for_uninterruptibly() {
    let _turn = turn!();
    let directory = env!("CARGO_TARGET_TMPDIR");
    const WRITES: u64 = 1_500;
    let args = ["--dir", directory, "--count", &WRITES.to_string()];
    let mut target = Target::start("disk", &args);
    let recorder = Recorder::start(&["-p", &target.players()]);
    let before = stolen_ns();
    let play = target.play();
    let stolen = stolen_ns() - before;
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    let truth = &play.truths[0];
    assert_eq!(truth.state, "uninterruptible");
    // Not all writes wait. The target cannot tell waiting from being robbed of its CPU, which the kernel
    // counts in ticks of 10 ms.
    let floor = Floor((Floor::LOCAL.0 * WRITES + stolen + 10_000_000) / truth.count);
    check(&profile, [truth], floor, |wait| match wait.waker.kind.as_str() {
        "irq" => wait.waker.thread.is_none(),
        "softirq" => wait.waker.softirq.as_deref() == Some("BLOCK"),
        // A busy machine leaves the end of softirqs to a thread, and some drivers to a worker. With preempt-RT
        // interrupts have threads.
        "task" => wait.waker.thread.as_ref().is_some_and(|thread| {
            ["ksoftirqd/", "kworker/", "irq/"].iter().any(|kind| thread.comm.starts_with(kind))
        }),
        _ => false,
    });
}
