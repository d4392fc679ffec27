//! The examples: the caller of each blocking call is there, though libc has no frame pointers.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::compare::{
    LOOKS, Share, Stacks, assert_complete, beside, compare_share, is_recorded,
};
use crate::harness::gdb::looks;
use crate::harness::program::{compile, pause, start_recorder};
use crate::support::example;
use crate::support::speed::is_slow;
use crate::support::target::Target;

/// Records a target at play, and compares until each of these threads has been found in that function.
fn compare_play(path: &Path, sleepers: &[(&str, &str)]) {
    /// Enough for the recording and for gdb.
    const COUNT: &str = "1000000";
    let tries = if is_slow() { 20 } else { 4 };
    let mut target = Target::start_program(path, &["--count", COUNT]);
    let recorder = start_recorder(&["-p", &target.players()]);
    target.begin();
    pause();
    let profile = recorder.stop().profile;
    let mut missing = sleepers.to_vec();
    let mut last = Stacks::new();
    let all = (0..tries).flat_map(|_| looks(target.pid(), LOOKS));
    for mut threads in all {
        assert_complete(&profile, &threads);
        let seen = threads.clone();
        // gdb may find a thread in a system call that it has never had to wait for.
        threads.retain(|&tid, stack| is_recorded(&profile, tid, stack));
        // Other sleeps of these threads may happen to be at the same place of libc.
        let compared = compare_share(&profile, &threads, Share::Any);
        missing.retain(|(comm, function)| !compared.has(comm, &[function]));
        if missing.is_empty() {
            return;
        }
        last = seen;
    }
    let beside: String = missing.iter().map(|(comm, _)| beside(&profile, &last, comm)).collect();
    panic!("{}: {missing:?} not found asleep\n{beside}", path.display());
}

/// (`pipes` keeps both CPUs busy while gdb wants one; a reader of a pipe is in `wakers.rs`.)
#[test]
fn examples() {
    const WAIT: &str = "oracle_epoll_wait_inner";
    const REPLY: &str = "oracle_await_reply_inner";
    let _turn = turn!();
    for (name, sleepers) in [
        ("condvar", &[("consumer", "oracle_consume_inner")][..]),
        ("mutex", &[("mutex_waiter", "oracle_lock_inner")]),
        (
            "sleeps",
            &[
                ("sleep_short", "oracle_short_sleep_inner"),
                ("sleep_long", "oracle_long_sleep_inner"),
            ],
        ),
        ("epoll_server", &[("wrk:worker_0", WAIT), ("wrk:worker_1", WAIT), ("downstream", REPLY)]),
    ] {
        compare_play(&example(name), sleepers);
    }
}

/// Its source without frame pointers, and the libevent of the system, which has none.
#[test]
fn an_event_loop_of_libevent() {
    let _turn = turn!();
    let directory = TempDir::new().unwrap();
    let cpp: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cpp/envoy_like.cpp");
    let path = compile(directory.path(), "envoy_like", &cpp, &["-std=c++17", "-levent_core"]);
    compare_play(
        &path,
        &[
            ("wrk:worker_0", "threadRoutine"),
            ("wrk:worker_1", "threadRoutine"),
            ("downstream", "awaitReply"),
        ],
    );
}
