//! `offwake epoll --callback` on an event loop of libevent, with functions named as Envoy's are.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};

use crate::support::cpp_example;
use crate::support::target::Target;
use crate::support::watch::{Watch, missed};

/// The descriptors of a process that are sockets, with the number that identifies each.
fn sockets(pid: u32) -> HashMap<u64, u64> {
    let directory = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    };
    directory.filter_map(|entry| socket(entry.expect("a descriptor"))).collect()
}

/// The functions that handle events. The one that registers them is called no more, and the one that libevent calls is
/// within it.
const HANDLERS: &str = "envoy_like:*FileEventImpl*assignEvents*_FUN*";

/// One of both does not even have the file.
#[test]
fn each_process_that_has_the_functions_is_probed() {
    let _turn = turn!();
    let without = Target::start("condvar", &["--count", "10"]);
    let mut target = Target::start_program(&cpp_example("envoy_like"), &["--count", "10"]);
    let pid = target.pid().to_string();
    let watch = Watch::start(without.pid(), &["-p", &pid, "--callback", HANDLERS]);
    target.play();
    let (events, _) = watch.stop();
    let handled: Vec<_> = events.iter().filter(|event| event["event"] == "callback").collect();
    assert!(!handled.is_empty());
    assert!(handled.iter().all(|event| event["function"].is_string()), "{handled:?}");
}

#[test]
fn each_event_is_handled_in_a_callback_with_its_descriptor_and_bits() {
    let _turn = turn!();
    let mut target = Target::start_program(&cpp_example("envoy_like"), &["--count", "200"]);
    let sockets = sockets(target.pid());
    let watch = Watch::start(target.pid(), &["--callback", HANDLERS]);
    let play = target.play();
    let (events, summary) = watch.stop();
    let missed = missed(&summary);
    let mut without_return = 0;
    for comm in ["wrk:worker_0", "wrk:worker_1"] {
        let of_worker: Vec<&Value> = events.iter().filter(|event| event["comm"] == comm).collect();
        let handled: Vec<usize> =
            (0..of_worker.len()).filter(|&at| of_worker[at]["event"] == "callback").collect();
        // A wait of the worker for each request, and one callback that reads it.
        let requests: u64 = play.of(comm).iter().map(|truth| truth.count).sum();
        let count = handled.len() as u64;
        assert!(
            (requests.saturating_sub(missed)..=requests).contains(&count),
            "{comm}: {count} of {requests}"
        );
        for at in handled {
            let callback = of_worker[at];
            let fd = callback["fd"].as_u64().expect("a descriptor");
            assert_eq!(callback["events"], json!(["EV_READ"]), "{callback}");
            assert_eq!(callback["descriptor"]["inode"], sockets[&fd], "{callback}");
            let function = callback["function"].as_str().expect("a name");
            assert!(
                function.starts_with("Envoy::Event::FileEventImpl::assignEvents("),
                "{function}"
            );
            // What epoll_wait returned right before.
            let before = at.checked_sub(1).map(|before| of_worker[before]);
            let Some(returned) = before.filter(|event| event["event"] == "return") else {
                without_return += 1;
                continue;
            };
            assert_eq!(returned["ready"][0]["fd"], fd, "{returned}");
            assert_eq!(returned["ready"][0]["events"], json!(["IN"]), "{returned}");
        }
    }
    assert!(
        without_return <= missed,
        "{without_return} callbacks without a return, {missed} missed"
    );
}
