//! A load for benchmarks: pairs of threads that wake each other in turns, so many times a second, each time
//! from another of so many stacks. In the end it tells how often its threads slept, as the kernel has
//! counted, and when it began and ended: one line of JSON.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use offwake_examples::sys::{self, Cpus};
use offwake_examples::{args, clock};

/// Pairs of threads wake each other at a rate, from many stacks
#[derive(Parser, Clone, Debug)]
struct Args {
    /// How many threads, in all processes together
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: u64,
    /// How many processes
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: u64,
    /// How many distinct user stacks wait, in all threads together
    #[arg(long, value_name = "N", default_value_t = 1)]
    stacks: u64,
    /// How often a second a thread goes to sleep, in all together; 0: as often as can be
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u64,
    /// For how many seconds (fractions allowed)
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = args::seconds)]
    seconds: Duration,
}

/// What one pair does.
#[derive(Clone, Copy)]
struct Pair {
    /// Its first path.
    first: u64,
    /// How many paths it has.
    paths: u64,
    /// How many bits a path has.
    depth: u32,
    /// How often one wakes the other and waits for it.
    every: Duration,
}

fn main() -> Result<()> {
    let args = Args::parse();
    sys::raise_file_limit()?;
    // Else the one that is woken runs at once, and the other one is preempted instead of asleep.
    sys::run_as_batch()?;
    ensure!(args.processes > 0 && args.threads >= 2 * args.processes, "two threads a process");
    let begun = clock::now();
    let mut children = Vec::new();
    for process in 0..args.processes - 1 {
        // SAFETY: there is one thread yet, and the child does nothing but play and exit.
        match sys::check(unsafe { libc::fork() }, "fork")? {
            0 => {
                sys::die_with_parent()?;
                let failed = play(&args, process).is_err();
                std::process::exit(failed.into());
            }
            pid => children.push(pid as libc::pid_t),
        }
    }
    play(&args, args.processes - 1)?;
    for pid in children {
        let mut status = 0;
        // SAFETY: the pointer is to a status.
        sys::check(unsafe { libc::waitpid(pid, &raw mut status, 0) }, "waitpid")?;
        ensure!(status == 0, "a process failed");
    }
    let slept = slept(libc::RUSAGE_SELF)? + slept(libc::RUSAGE_CHILDREN)?;
    let ended = clock::now();
    println!("{{\"sleeps\":{slept},\"begun_ns\":{begun},\"ended_ns\":{ended}}}");
    Ok(())
}

/// The pairs of one process.
fn play(args: &Args, process: u64) -> Result<()> {
    let pairs = args.threads / 2;
    let own = pairs * process / args.processes..pairs * (process + 1) / args.processes;
    let depth = args.stacks.max(2).next_power_of_two().ilog2();
    let every = match args.rate {
        0 => Duration::ZERO,
        rate => Duration::from_nanos(2_000_000_000 * pairs / rate),
    };
    let (cpus, end) = (Cpus::allowed()?, Instant::now() + args.seconds);
    let mut threads = Vec::new();
    for pair in own {
        let (first, next) = (args.stacks * pair / pairs, args.stacks * (pair + 1) / pairs);
        let plan = Pair { first, paths: (next - first).max(1), depth, every };
        // Both of a pair on one CPU: no CPU is woken from its idle sleep.
        cpus.only(pair as usize % cpus.count())?.bind()?;
        let there = Arc::new(Event::new()?);
        let back = Arc::new(Event::new()?);
        let (from, to) = (Arc::clone(&there), Arc::clone(&back));
        threads.push(thread("echo", move || echo(plan, &from, &to))?);
        threads.push(thread("caller", move || {
            call(plan, &back, &there, end);
            there.tell(Event::END);
        })?);
    }
    for thread in threads {
        thread.join().ok().context("a thread panicked")?;
    }
    Ok(())
}

fn thread(name: &str, play: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(64 << 10);
    thread.spawn(play).context("cannot start a thread")
}

fn call(pair: Pair, from: &Event, to: &Event, end: Instant) {
    let start = Instant::now();
    for round in 0u32.. {
        let now = Instant::now();
        if now >= end {
            return;
        }
        to.tell(Event::GO);
        wait_on_path(pair, round, from);
        let ahead = (start + pair.every * round).saturating_duration_since(now);
        if ahead > Duration::from_millis(1) {
            // Behind by then, it goes several times in a row: no clock is precise enough for one.
            std::thread::sleep(ahead);
        }
    }
}

fn echo(pair: Pair, from: &Event, to: &Event) {
    for round in 0u32.. {
        if wait_on_path(pair, round, from) != Event::GO {
            return;
        }
        to.tell(Event::GO);
    }
}

fn wait_on_path(pair: Pair, round: u32, event: &Event) -> u64 {
    descend(pair.first + u64::from(round) % pair.paths, pair.depth, event)
}

#[inline(always)]
fn descend(path: u64, left: u32, event: &Event) -> u64 {
    match (left, path & 1) {
        (0, _) => event.wait(),
        (_, 0) => zero(path >> 1, left - 1, event),
        _ => one(path >> 1, left - 1, event),
    }
}

/// A bit that is 0.
#[inline(never)]
fn zero(path: u64, left: u32, event: &Event) -> u64 {
    black_box("zero");
    black_box(descend(path, left, event))
}

/// A bit that is 1.
#[inline(never)]
fn one(path: u64, left: u32, event: &Event) -> u64 {
    black_box("one");
    black_box(descend(path, left, event))
}

/// What one thread tells another one: a descriptor of its own, of which a process may have fewer than pipes.
struct Event(File);

impl Event {
    /// Go on.
    const GO: u64 = 1;
    /// It is over.
    const END: u64 = 1 << 32;

    fn new() -> Result<Self> {
        // SAFETY: the call takes no pointers, and the descriptor that it gives is nobody else's.
        unsafe {
            let fd = sys::check(libc::eventfd(0, libc::EFD_CLOEXEC), "eventfd")?;
            Ok(Self(File::from_raw_fd(fd as libc::c_int)))
        }
    }

    fn tell(&self, what: u64) {
        (&self.0).write_all(&what.to_ne_bytes()).expect("it has room");
    }

    fn wait(&self) -> u64 {
        let mut told = [0; 8];
        (&self.0).read_exact(&mut told).expect("8 bytes");
        u64::from_ne_bytes(told)
    }
}

/// How often threads slept, of `getrusage`.
fn slept(who: libc::c_int) -> Result<i64> {
    // SAFETY: the type is plain data, for which zeros are valid, and the pointer is to one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        sys::check(libc::getrusage(who, &raw mut usage), "getrusage")?;
        usage
    };
    Ok(usage.ru_nvcsw)
}
