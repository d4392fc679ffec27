//! The targets agree with the kernel: what they say of their waits is what its counters say of their threads.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a target printed.
struct Play {
    ready: Value,
    waits: Vec<Value>,
    threads: Vec<Value>,
}

/// Runs a target to its end.
fn play(program: &str, args: &[&str]) -> Play {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the target starts");
    let mut input = child.stdin.take().expect("a pipe");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut play = Play { ready: Value::Null, waits: Vec::new(), threads: Vec::new() };
    for line in lines {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
        let (kind, value) =
            line.as_object().and_then(|line| line.iter().next()).expect("an object of one");
        match kind.as_str() {
            "ready" => {
                play.ready = value.clone();
                writeln!(input).expect("it waits for a line");
            }
            "wait" => play.waits.push(value.clone()),
            "lengths" => {
                let lengths = value.as_array().expect("a list");
                let [wait] = &play.waits[..] else { panic!("of which truth?") };
                assert_eq!(lengths.len() as u64, number(wait, "count"));
                let sum = |of: usize| -> u64 {
                    lengths.iter().map(|length| length[of].as_u64().expect("ns")).sum()
                };
                assert_eq!(sum(0), number(wait, "blocked_ns"));
                assert!(sum(1) >= number(wait, "off_ns").max(sum(0)), "{value}");
            }
            "thread" => play.threads.push(value.clone()),
            "done" => writeln!(input).expect("it waits for another line"),
            other => panic!("unexpected line: {other}"),
        }
    }
    assert!(child.wait().expect("it ends").success());
    assert_eq!(play.ready["threads"].as_array().map(Vec::len), Some(play.threads.len()));
    play
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Every sleeper slept exactly as often as the target says, and at least as long off-CPU as blocked.
fn assert_exact(play: &Play) {
    assert!(!play.waits.is_empty());
    for wait in &play.waits {
        let sleeper = &wait["sleeper"];
        assert!(
            sleeper["function"].as_str().is_some_and(|name| name.contains("::oracle_")),
            "{wait}"
        );
        let told: u64 = play
            .waits
            .iter()
            .filter(|other| other["sleeper"] == *sleeper)
            .map(|wait| number(wait, "count"))
            .sum();
        let thread =
            play.threads.iter().find(|thread| thread["tid"] == sleeper["tid"]).expect("its thread");
        assert_eq!(told, number(thread, "voluntary_switches"), "{wait}");
        // The blocked time has the way into the system call too, where the thread is still on its CPU.
        let slack = 20_000 * number(wait, "count");
        assert!(number(wait, "blocked_ns") <= number(wait, "off_ns") + slack, "{wait}");
        assert!(number(wait, "off_ns") <= number(thread, "wall_ns"), "{wait}");
    }
}

#[test]
fn sleepers_sleep_as_often_as_told() {
    for (program, waits) in [
        (env!("CARGO_BIN_EXE_sleeps"), 2),
        (env!("CARGO_BIN_EXE_lengths"), 1),
        (env!("CARGO_BIN_EXE_mutex"), 1),
        (env!("CARGO_BIN_EXE_condvar"), 1),
        (env!("CARGO_BIN_EXE_pipes"), 2),
        (env!("CARGO_BIN_EXE_hostile_names"), 9),
        (env!("CARGO_BIN_EXE_many_stacks"), 1),
    ] {
        let play = play(program, &["--count", "20"]);
        assert_exact(&play);
        assert_eq!(play.waits.len(), waits, "{program}");
        assert!(play.waits.iter().all(|wait| wait["count"] == 20), "{program}");
    }
}

#[test]
fn workers_wait_once_for_each_request() {
    let play = play(env!("CARGO_BIN_EXE_epoll_server"), &["--count", "30"]);
    let workers = || {
        play.threads
            .iter()
            .filter(|thread| thread["comm"].as_str().unwrap().starts_with("wrk:worker_"))
    };
    assert_eq!(workers().count(), 2);
    for worker in workers() {
        let wait = play.waits.iter().find(|wait| wait["sleeper"]["tid"] == worker["tid"]).unwrap();
        assert_eq!(number(wait, "count"), number(worker, "voluntary_switches"));
        assert_eq!(wait["waker"]["comm"], "downstream");
    }
}

#[test]
fn each_brief_waker_is_another_process() {
    let play = play(env!("CARGO_BIN_EXE_short_waker"), &["--count", "4"]);
    let mut pids: Vec<_> = play.waits.iter().map(|wait| number(&wait["waker"], "pid")).collect();
    pids.dedup();
    assert_eq!(pids.len(), 4);
    let sleeper = play.threads.iter().find(|thread| thread["comm"] == "long_sleeper").unwrap();
    assert_eq!(number(sleeper, "voluntary_switches"), 4);
}

#[test]
fn spinners_never_sleep() {
    let play = play(env!("CARGO_BIN_EXE_spinners"), &["--seconds", "0.5"]);
    for (wait, thread) in play.waits.iter().zip(&play.threads) {
        assert_eq!(number(thread, "voluntary_switches"), 0);
        assert!(number(wait, "count") > 10, "{wait}");
        // Half of the time, and less of the CPU when others want it too.
        assert!(number(wait, "off_ns") > number(thread, "wall_ns") * 2 / 5, "{wait}");
    }
}

#[test]
fn the_race_is_run_on_both_sides_of_the_switch() {
    let play = play(env!("CARGO_BIN_EXE_race"), &["--count", "5000"]);
    let slept = number(&play.waits[0], "count");
    assert!((1..5_000).contains(&slept), "{slept} of 5000 wake-ups found a sleeper");
}

#[test]
fn the_storm_switches_often() {
    let play = play(env!("CARGO_BIN_EXE_switch_storm"), &["--seconds", "0.5"]);
    let switches: u64 = play.waits.iter().map(|wait| number(wait, "count")).sum();
    assert!(switches > 10_000, "{switches}");
}

#[test]
fn the_disk_is_waited_for() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let play = play(env!("CARGO_BIN_EXE_disk"), &["--count", "50", "--dir", dir]);
    let wait = &play.waits[0];
    assert_eq!(wait["state"], "uninterruptible");
    assert!(number(wait, "count") > 0, "{wait}");
}
