//! What each wait was ended by, against a target that makes one thing ready at a time.

use std::collections::{BTreeMap, HashMap};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use serde::Deserialize;
use serde_json::Value;

use crate::support::check::is_lock;
use crate::support::profile::{Profile, Wait, sum};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::target::Target;
use crate::support::watch::{Watch, missed};

/// How many waits: by hand as many as it takes to see one in ten thousand.
fn amount() -> u64 {
    env::var("OFFWAKE_SOURCES").map_or(2_000, |count| count.parse().expect("a number"))
}

#[derive(Debug, Deserialize)]
struct Truth {
    name: String,
    tids: Vec<u32>,
    kind: String,
    fd: i64,
    /// The epoll instance in another one that has the descriptor.
    through: Option<i64>,
    /// How many waits it ended at least, and how many more at most.
    count: u64,
    more: u64,
}

/// What the target tells: truths, and the descriptors that all wait for before and after the play.
struct Told {
    truths: Vec<Truth>,
    gates: Vec<u64>,
}

impl Told {
    fn play(target: &mut Target) -> Self {
        let mut told = Self { truths: Vec::new(), gates: Vec::new() };
        for mut line in target.play_values() {
            if let Some(source) = line.get_mut("source") {
                told.truths.push(serde_json::from_value(source.take()).expect("a truth"));
            } else if let Some(gates) = line.get_mut("gates") {
                told.gates = serde_json::from_value(gates.take()).expect("descriptors");
            }
        }
        assert!(!told.truths.is_empty() && !told.gates.is_empty());
        told
    }
}

fn start() -> Target {
    Target::start("wake_sources", &["--count", &amount().to_string()])
}

fn record(options: &[&str]) -> (Recorded, Told) {
    let mut target = start();
    let players = target.players();
    let recorder = Recorder::start(&[&["-p", &players], options].concat());
    let told = Told::play(&mut target);
    (recorder.stop(), told)
}

/// The waits of these threads that ended.
fn waits<'a>(profile: &'a Profile, tids: &'a [u32]) -> impl Iterator<Item = &'a Wait> {
    profile.waits.iter().filter(|wait| {
        tids.contains(&wait.sleeper.tid)
            && wait.state == "interruptible"
            && wait.waker.kind != "not_woken"
    })
}

/// What offwake told, beside what is true.
#[derive(Default)]
struct Score {
    all: u64,
    wrong: u64,
    /// Waits without a source, or with one that is marked uncertain.
    unknown: u64,
    /// So many more may be missing: the kernel has not run a program for them.
    missed: u64,
    told: String,
}

impl Score {
    /// Compares the sources of waits (those of one group of threads; "" for none) with the truth. `others`: how many of
    /// those that it told of may be other waits. `is_it`: whether a source is the one of a truth.
    fn add(
        &mut self,
        truths: &[&Truth],
        mut seen: BTreeMap<String, u64>,
        others: u64,
        is_it: impl Fn(&Truth, &str) -> bool,
    ) {
        let name = &truths[0].name;
        let nothing = seen.remove("").unwrap_or(0);
        self.unknown += nothing;
        self.all += truths.iter().map(|truth| truth.count).sum::<u64>();
        let mut missing = 0;
        for truth in truths {
            let found: u64 = seen
                .iter()
                .filter(|(source, _)| is_it(truth, source))
                .map(|(_, count)| count)
                .sum();
            // At its end each thread is woken once more, by the first of what it waits for.
            let extra =
                found.saturating_sub(truth.count + truth.more + 2 * truth.tids.len() as u64);
            self.wrong += extra;
            missing += truth.count.saturating_sub(found);
            if found < truth.count || extra > 0 {
                self.told += &format!("{name}: {truth:?}: {found}, unknown {nothing}\n");
            }
        }
        seen.retain(|source, _| !truths.iter().any(|truth| is_it(truth, source)));
        let missing = missing.saturating_sub(nothing + others);
        let missed = missing.min(self.missed);
        self.missed -= missed;
        // A wait with a wrong source is missed where it belongs, too.
        let wrong: u64 = seen.values().sum();
        self.wrong += wrong.max(missing - missed);
        if wrong > 0 {
            self.told += &format!("{name}: {seen:?}\n");
        }
    }

    fn check(&self) {
        let Self { all, wrong, unknown, told, missed: _ } = self;
        eprintln!("{all} waits, {wrong} with a wrong source, {unknown} without\n{told}");
        assert!(wrong * 10_000 <= *all, "{wrong} of {all} are wrong:\n{told}");
        assert!(unknown * 100 <= *all, "{unknown} of {all} have no source:\n{told}");
    }
}

fn by_name(truths: &[Truth]) -> BTreeMap<&str, Vec<&Truth>> {
    let mut by_name: BTreeMap<&str, Vec<&Truth>> = BTreeMap::new();
    truths.iter().for_each(|truth| by_name.entry(&truth.name).or_default().push(truth));
    by_name
}

#[test]
fn each_wait_names_what_ended_it() {
    let _turn = turn!();
    let (recorded, Told { truths, gates }) = record(&["--wake-source", "fd"]);
    let is_gate = |source: &str| {
        let ends = |fd: &u64| source.ends_with(&format!(" fd {fd}]"));
        source.starts_with("[pipe") && gates.iter().any(ends)
    };
    let mut score = Score { missed: recorded.profile.missed(), ..Score::default() };
    for truths in by_name(&truths).values() {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let in_play = |wait: &&Wait| !wait.wake_source.as_deref().is_some_and(is_gate);
        for wait in waits(&recorded.profile, &truths[0].tids).filter(in_play) {
            *seen.entry(wait.wake_source.clone().unwrap_or_default()).or_default() += wait.count;
        }
        // Who counts its own sleeps counts those for locks, too.
        let of_group = |wait: &&Wait| truths[0].tids.contains(&wait.sleeper.tid) && is_lock(wait);
        let locks = sum(recorded.profile.waits.iter().filter(of_group), |wait| wait.count);
        // Classic tracepoints name threads by number: where one that sleeps since before the recording is in
        // memory, nobody knows, and it has no source. All sleep at the gate then.
        if recorded.profile.recording.probe.starts_with("tracepoint ") {
            let threads = truths[0].tids.len() as u64;
            let nothing = seen.entry(String::new()).or_default();
            assert!(*nothing >= threads, "{nothing} of {threads}");
            *nothing -= threads;
        }
        score.add(truths, seen, locks, |truth, source| {
            source.starts_with(&format!("[{}", truth.kind))
                && (truth.fd < 0 || source.ends_with(&format!(" fd {}]", truth.fd)))
        });
    }
    score.check();
    assert!(recorded.stderr.contains("wake sources of "), "{}", recorded.stderr);
}

/// With the descriptors of instances within others as those instances.
fn of_instances(truths: Vec<Truth>) -> Vec<Truth> {
    let mut all: Vec<Truth> = Vec::new();
    for mut truth in truths {
        if let Some(epoll) = truth.through {
            (truth.kind, truth.fd) = ("epoll".into(), epoll);
            if let Some(same) = all.iter_mut().find(|other| other.through == truth.through) {
                same.count += truth.count;
                continue;
            }
        }
        all.push(truth);
    }
    all
}

/// What a timer interrupt wakes while softirqs run, they do not wake.
#[test]
fn a_timeout_in_the_middle_of_a_softirq_is_the_timers() {
    const TIME: Duration = Duration::from_secs(3);
    let _turn = turn!();
    // They receive what they send: nothing reads it.
    let flood = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        // Whatever happens, it ends.
        let end = Instant::now() + 4 * TIME;
        while Instant::now() < end && !IS_OVER.load(Ordering::Relaxed) {
            let _ = socket.send_to(&[0; 60_000], address);
        }
    };
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let floods = [thread::spawn(flood), thread::spawn(flood)];
    let watch = Watch::start(process::id(), &[]);
    // SAFETY: the call takes no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for one.
        assert_eq!(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 1) }, 0);
    }
    let (events, _) = watch.stop();
    IS_OVER.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().expect("it does not panic"));
    let mut by_softirq: BTreeMap<&str, u64> = BTreeMap::new();
    for wake in events.iter().filter(|event| event["event"] == "wake") {
        *by_softirq.entry(wake["waker"]["softirq"].as_str().unwrap_or("")).or_default() += 1;
    }
    let all: u64 = by_softirq.values().sum();
    assert!(all > 300, "{all} wake-ups");
    // Under preempt-RT, timers are softirqs themselves.
    by_softirq.retain(|name, _| !["", "HRTIMER", "TIMER"].contains(name));
    assert!(by_softirq.is_empty(), "{by_softirq:?} of {all}");
}

/// `offwake epoll` names the descriptor of the instance that a thread waits on; nothing where time is over.
#[test]
fn the_log_names_the_descriptor_of_each_wake_up() {
    let _turn = turn!();
    let mut target = start();
    let watch = Watch::start(target.pid(), &[]);
    let truths = of_instances(Told::play(&mut target).truths);
    let (events, summary) = watch.stop();
    let mut by_tid: HashMap<u64, BTreeMap<String, u64>> = HashMap::new();
    for wake in events.iter().filter(|event| event["event"] == "wake") {
        let descriptor = &wake["descriptor"];
        let source = match descriptor["kind"].as_str() {
            None => "timeout".to_owned(),
            Some(_) if descriptor["certain"] != true => String::new(),
            Some(kind) => format!("{kind} {}", descriptor["fd"]),
        };
        let tid = wake["tid"].as_u64().expect("a number");
        *by_tid.entry(tid).or_default().entry(source).or_default() += 1;
    }
    // Where the timer interrupted a thread that is hidden from tracers, nobody sees the wake-up.
    let unseen = |event: &&Value| {
        event["event"] == "return" && event["result"] == 0 && event["wake_to_return_ns"].is_null()
    };
    for event in events.iter().filter(unseen) {
        let tid = event["tid"].as_u64().expect("a number");
        *by_tid.entry(tid).or_default().entry(String::new()).or_default() += 1;
    }
    let mut score = Score { missed: missed(&summary), ..Score::default() };
    for truths in by_name(&truths).values() {
        let tids = truths[0].tids.iter();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for (source, count) in tids.filter_map(|tid| by_tid.get(&u64::from(*tid))).flatten() {
            *seen.entry(source.clone()).or_default() += count;
        }
        if seen.is_empty() {
            // The other ways to wait.
            continue;
        }
        score.add(truths, seen, 0, |truth, source| {
            source == truth.kind || source == format!("{} {}", truth.kind, truth.fd)
        });
    }
    assert!(score.all * 5 >= amount(), "{} wake-ups", score.all);
    score.check();
}

#[test]
fn without_the_option_there_are_no_sources() {
    let _turn = turn!();
    let (recorded, _) = record(&[]);
    assert!(recorded.profile.waits.iter().all(|wait| wait.wake_source.is_none()));
    assert!(!recorded.stderr.contains("wake source"), "{}", recorded.stderr);
}
