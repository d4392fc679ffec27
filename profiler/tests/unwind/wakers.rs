//! The stacks of processes that nobody asked for: they woke somebody.

use std::process::Command;

use tempfile::TempDir;

use crate::harness::compare::{
    Share, assert_complete_with_tables, compare_share, is_at, is_start, real_frames,
};
use crate::harness::gdb::stacks;
use crate::harness::program::{Program, compile, pause, pause_after_news, source, start_recorder};
use crate::support::profile::{Frame, Wait, has, names, sum};
use crate::support::target::{Target, Waker};

/// A process that starts during the recording: before its tables are there, its stacks are counted as walked
/// without them; then they are complete.
#[test]
fn a_waker_that_comes_during_the_recording() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile(directory.path(), "wakers", &source("wakers.c"), &[]);
    let mut program = Program::start(&mut Command::new(path));
    let recorder = program.start_recording(&[]);
    assert_eq!(program.go_on(), "ready");
    let waker: u32 = program.line().parse().unwrap();
    pause_after_news();
    let profile = recorder.stop().profile;
    let threads = stacks(program.pid());
    assert_complete_with_tables(&profile, &threads);
    let sleepers = compare_share(&profile, &threads, Share::All);
    sleepers.assert_in("reader", &["read_on_and_on", "read_pipe"]);
    let stack = stacks(waker).remove(&waker).unwrap();
    // It sleeps and wakes in the same function, whose callers are the same.
    let own = |name: Option<&str>| name == Some("wake_on_and_on");
    let callers = stack.frames.iter().skip_while(|frame| !own(frame.name.as_deref())).skip(1);
    let callers: Vec<_> = callers.collect();
    assert!(callers.len() > 3, "{stack:?}");
    let is_complete = |wait: &Wait| {
        let frames: Vec<&Frame> = real_frames(&wait.waker_stack).collect();
        let Some(at) = frames.iter().position(|frame| own(frame.name.as_deref())) else {
            return false;
        };
        frames.len() - at - 1 == callers.len()
            && frames[at + 1..].iter().zip(&callers).all(|(frame, expected)| is_at(frame, expected))
    };
    let by_it = |wait: &&Wait| {
        wait.waker.thread.as_ref().is_some_and(|thread| thread.pid == waker)
            // That exec let it run on is no wake-up of its.
            && has(&wait.sleeper_stack, "read")
    };
    let all = sum(profile.waits.iter().filter(by_it), |wait| wait.count);
    assert!(all > 100, "{all}: {:?}", profile.losses);
    let incomplete: Vec<&Wait> =
        profile.waits.iter().filter(by_it).filter(|wait| !is_complete(wait)).collect();
    let count = sum(incomplete.iter().copied(), |wait| wait.count);
    let missing = profile.lost("unwind_tables_missing");
    let example = incomplete.first().map(|wait| names(&wait.waker_stack));
    assert!(count <= missing, "{count} of {all}: {example:?}: {:?}", profile.losses);
    assert!(count * 10 <= all, "{count} of {all}: {example:?}");
}

/// Whoever creates a thread or a process is in code of the C library that is told of as no other is.
#[test]
fn creators() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let path = compile(directory.path(), "creators", &source("creators.c"), &[]);
    let program = Program::start(&mut Command::new(path));
    let recorder = program.start_recording(&["--follow"]);
    pause();
    let profile = recorder.stop().profile;
    let pid = program.pid();
    let is_creator = |stack: &[Frame]| {
        let names = names(stack);
        let made = ["make_thread", "make_process", "lend_itself"];
        let at = names.iter().position(|name| made.contains(name));
        at.is_some_and(|at| names.get(at + 1) == Some(&"main"))
            && stack.last().is_some_and(is_start)
    };
    let assert_all = |what: &str, stacks: &[(&[Frame], u64)]| {
        let count = |of: &dyn Fn(&[Frame]) -> bool| -> u64 {
            stacks.iter().filter(|(stack, _)| of(stack)).map(|(_, count)| count).sum()
        };
        let (all, good) = (count(&|_| true), count(&is_creator));
        let bad =
            stacks.iter().find(|(stack, _)| !is_creator(stack)).map(|(stack, _)| names(stack));
        assert!(all > 10 && good * 100 >= all * 98, "{what}: {good} of {all}; {bad:?}");
    };
    let woken = |is_thread: bool| -> Vec<_> {
        let new = profile.waits.iter().filter(|wait| wait.state == "new");
        new.filter(|wait| (wait.sleeper.pid == pid) == is_thread)
            .map(|wait| (&wait.waker_stack[..], wait.count))
            .collect()
    };
    assert_all("threads", &woken(true));
    assert_all("processes", &woken(false));
    let asleep = |function: &str| -> Vec<_> {
        let waits = profile.waits.iter().filter(|wait| wait.sleeper.tid == pid);
        waits
            .filter(|wait| has(&wait.sleeper_stack, function))
            .map(|wait| (&wait.sleeper_stack[..], wait.count))
            .collect()
    };
    assert_all("lent", &asleep("vfork"));
    assert_all("waiting", &asleep("wait4"));
}

/// They are gone before their mappings can always be read: what is not complete is counted.
#[test]
fn wakers_that_live_for_milliseconds() {
    let _turn = turn!();
    let mut target = Target::start("short_waker", &[]);
    let recorder = start_recorder(&["-p", &target.players()]);
    let play = target.play();
    let profile = recorder.stop().profile;
    let mut incomplete = 0;
    for truth in &play.truths {
        let Waker::Task(waker) = &truth.waker else { panic!("{truth:?}") };
        // At its end it wakes who waits for that: then it has no user stack any more.
        let by_it = |wait: &&Wait| {
            wait.waker.thread.as_ref() == Some(&waker.thread)
                && wait.sleeper == truth.sleeper.thread
        };
        let short = profile
            .waits
            .iter()
            .filter(by_it)
            .filter(|wait| !wait.waker_stack.last().is_some_and(is_start));
        incomplete += sum(short, |wait| wait.count);
    }
    let causes = ["unwind_tables_missing", "process_gone", "user_stack_broken"];
    let counted: u64 = causes.iter().map(|cause| profile.lost(cause)).sum();
    assert!(incomplete <= counted, "{incomplete}: {:?}", profile.losses);
}
