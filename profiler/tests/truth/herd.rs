//! `offwake epoll` on threads that share a port: what woke them, and what for.

use serde_json::Value;

use crate::support::kernel::is_realtime;
use crate::support::target::{Herd, Target};
use crate::support::watch::{Watch, missed};

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// Has `herd` play in a mode in which each connection wakes so many threads, and compares what both counted.
fn play(args: &[&str], woken: u64) -> (Herd, Vec<Value>, Value) {
    let mut target = Target::start("herd", args);
    // The thread that connects does not count, and its reads do neither.
    let watch = Watch::start(target.pid(), &[]);
    let herd = target.play().herd.expect("herd tells of itself");
    let (events, summary) = watch.stop();
    target.end();

    let rows: Vec<&Value> = summary["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| {
            row["inode"].is_u64()
                && row["name"].as_str().unwrap().contains(&format!(":{}", herd.port))
        })
        .collect();
    let sum = |name: &str| rows.iter().map(|row| number(row, name)).sum::<u64>();
    let missed = missed(&summary);
    let wakes = woken * herd.connections;
    // With preempt-RT, who waits for a lock that is a spinlock elsewhere is switched out as well.
    assert!(
        herd.wakes == wakes || is_realtime() && herd.wakes > wakes,
        "{} of {wakes}",
        herd.wakes
    );
    for (name, told) in [
        ("wakes", wakes),
        ("accepted", herd.accepted),
        ("empty_wakes", wakes - herd.accepted),
        ("lost_accepts", herd.lost),
        ("ready", herd.returned),
    ] {
        let seen = sum(name);
        assert!(seen.abs_diff(told) <= missed, "{args:?}: {name}: not {told}, {missed}: {rows:#?}");
    }
    assert_eq!(herd.accepted, herd.connections);
    check_order(&events);
    check_latencies(&events);
    for wake in events.iter().filter(|event| event["event"] == "wake") {
        let descriptor = &wake["descriptor"];
        if descriptor["kind"] == "tcp" {
            assert_eq!(descriptor["socket"]["state"], "LISTEN");
            assert_eq!(descriptor["certain"], true);
            // Loopback: the handshake ends in a softirq of the client's own `connect`, or of ksoftirqd's.
            assert_eq!(wake["waker"]["softirq"], "NET_RX", "{wake}");
        }
    }
    (herd, events, summary)
}

fn check_order(events: &[Value]) {
    assert!(events.is_sorted_by_key(|event| number(event, "time_ns")));
}

/// Times are plausible: each return follows the wake-up that it tells of, and nothing takes longer than all of it.
fn check_latencies(events: &[Value]) {
    let mut woken = std::collections::HashMap::new();
    let mut checked = 0;
    for event in events {
        let tid = number(event, "tid");
        match event["event"].as_str().unwrap() {
            "wake" => {
                woken.insert(tid, number(event, "time_ns"));
            }
            "return" | "empty" if event["wake_to_return_ns"].is_u64() => {
                let total = number(event, "wake_to_return_ns");
                if let Some(at) = woken.remove(&tid) {
                    let seen = number(event, "time_ns") - at;
                    assert!(seen.abs_diff(total) <= total / 10 + 20_000, "{seen} {event}");
                    checked += 1;
                }
                if let Some(running) = event["wake_to_running_ns"].as_u64() {
                    assert!(running <= total, "{event}");
                }
            }
            _ => {}
        }
    }
    assert!(checked > 0);
}

#[test]
fn a_shared_listener_wakes_all_and_is_named() {
    let _turn = turn!();
    for (threads, ipv6) in [("2", false), ("3", true)] {
        let mut args = vec!["--mode", "shared", "--count", "60", "--threads", threads];
        args.extend(ipv6.then_some("--ipv6"));
        let threads: u64 = threads.parse().unwrap();
        let (herd, _, summary) = play(&args, threads);
        let herds = summary["herds"].as_array().unwrap();
        assert_eq!(herds.len(), 1, "{summary:#}");
        assert_eq!(herds[0]["cause"], "shared_socket");
        assert_eq!(number(&herds[0], "threads"), threads);
        let per_connection = herds[0]["wakes_per_connection"].as_f64().expect("a number");
        let missed = missed(&summary) as f64;
        // That many wake-ups too few, or that many connections.
        let (wakes, connections) = ((threads * herd.connections) as f64, herd.connections as f64);
        let possible = (wakes - missed) / connections..=wakes / (connections - missed);
        assert!(possible.contains(&per_connection), "{per_connection}, {missed}: {summary:#}");
    }
}

#[test]
fn exclusive_waits_and_reuse_port_have_no_herd() {
    let _turn = turn!();
    for mode in ["exclusive", "reuse-port"] {
        let (_, events, summary) = play(&["--mode", mode, "--count", "60"], 1);
        assert_eq!(summary["herds"].as_array().unwrap().len(), 0, "{mode}: {summary:#}");
        let mut listeners = events.iter().filter(|event| {
            event["event"] == "wake" && event["descriptor"]["socket"]["state"] == "LISTEN"
        });
        let first = listeners.next().expect("a wake-up");
        let waits_for = first["descriptor"]["waits_for"].as_array().unwrap();
        assert_eq!(waits_for.contains(&"EXCLUSIVE".into()), mode == "exclusive", "{first}");
        assert_eq!(first["descriptor"]["socket"]["reuse_port"], mode == "reuse-port", "{first}");
    }
}

#[test]
fn the_log_tells_of_each_connection() {
    let _turn = turn!();
    let (herd, events, _) = play(&["--mode", "reuse-port", "--count", "20"], 1);
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let accepted: Vec<_> =
        of("accept").into_iter().filter(|event| event["result"].as_i64() >= Some(0)).collect();
    assert_eq!(accepted.len() as u64, herd.accepted);
    for accept in accepted {
        let descriptor = &accept["descriptor"];
        assert_eq!(descriptor["fd"], accept["result"]);
        let local = descriptor["socket"]["local"].as_str().unwrap();
        assert_eq!(local, format!("127.0.0.1:{}", herd.port));
        assert_eq!(descriptor["socket"]["outgoing"], false);
        let closed = of("close").into_iter().any(|close| {
            close["descriptor"]["inode"] == descriptor["inode"]
                && number(close, "time_ns") > number(accept, "time_ns")
        });
        assert!(closed, "{accept}");
    }
}
