//! A real Envoy under load, stopped by gdb.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::harness::compare::{Share, Stacks, assert_complete, compare_share, is_recorded};
use crate::harness::gdb::{Stack, stacks};
use crate::harness::program::start_recorder;
use crate::support::example;
use crate::support::target::Target;

/// Aliases of it are `__GI_epoll_wait` and the like.
fn is_in_epoll(stack: &Stack) -> bool {
    let innermost = stack.frames.first().and_then(|frame| frame.name.as_deref());
    innermost.is_some_and(|name| name.contains("epoll_wait") || name.contains("epoll_pwait"))
}

#[test]
fn envoy() {
    let _turn = turn!();
    let mut demo = Command::new(example("envoy-demo"));
    demo.args(["--seconds", "600", "--", "sleep", "600"]);
    let target = Target::spawn(&mut demo);
    let pid = target.threads[0].pid;
    // Longer than elsewhere: some of its threads wake up once in a second.
    let recorder = start_recorder(&["-p", &pid.to_string()]);
    sleep(Duration::from_secs(3));
    let profile = recorder.stop().profile;
    let mut missing = vec!["wrk:worker_0", "wrk:worker_1", "envoy"];
    let mut compared_threads = 0;
    for _ in 0..20 {
        let threads = stacks(pid);
        assert_complete(&profile, &threads);
        // There is one way to the event loop's wait, and many to those for locks and conditions.
        let (in_loop, mut elsewhere): (Stacks, Stacks) =
            threads.into_iter().partition(|(_, stack)| is_in_epoll(stack));
        // gdb may find a thread in one that was not recorded.
        elsewhere.retain(|&tid, stack| is_recorded(&profile, tid, stack));
        let looping = compare_share(&profile, &in_loop, Share::All);
        let others = compare_share(&profile, &elsewhere, Share::Any);
        missing.retain(|comm| !looping.has(comm, &[]));
        compared_threads = compared_threads.max(looping.len() + others.len());
        if missing.is_empty() && compared_threads >= 4 {
            return;
        }
    }
    panic!("{missing:?} not found asleep; {compared_threads} compared");
}
