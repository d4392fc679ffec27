//! A thundering herd: threads that each have an epoll instance wait for connections to one port. How many of them
//! a connection wakes depends on how they share it: `--mode shared`, all of them; `exclusive` (`EPOLLEXCLUSIVE`) and
//! `reuse-port` (a socket each), one. The client connects only when all of them sleep, so the number of wake-ups is
//! that of voluntary switches within `epoll_wait`, of which the kernel keeps count.
//!
//! Truth, beside that of every target:
//! `{"herd":{"mode":…,"port":…,"connections":…,"wakes":…,"accepted":…,"returned":…,"lost":…}}`. Wake-ups are those by
//! the listener; `returned`: `epoll_wait` returned an event of it; `lost`: `accept` had nothing then.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::*};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use offwake_examples::args::Length;
use offwake_examples::clock::pause;
use offwake_examples::feed::{self, listener};
use offwake_examples::shared::{Shareable, shared};
use offwake_examples::stage::Stage;
use offwake_examples::sys::{pipe, write_byte};
use offwake_examples::task::{Role, own_voluntary_switches};
use serde_json::json;

/// How threads share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Shared,
    Exclusive,
    ReusePort,
}

#[derive(Parser, Debug)]
#[command(about = "Threads that wait for connections to one port; prints the truth as JSON lines")]
struct Args {
    #[command(flatten)]
    length: Length,
    /// How the threads share the port
    #[arg(long, value_enum, default_value = "shared")]
    mode: Mode,
    /// How many threads
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Connect over IPv6
    #[arg(long)]
    ipv6: bool,
}

/// What all threads together did.
#[derive(Debug, Default)]
struct Counts {
    wakes: AtomicU64,
    returned: AtomicU64,
    accepted: AtomicU64,
    lost: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Shareable for Counts {}

fn main() -> Result<()> {
    let Args { length, mode, threads, ipv6 } = Args::parse();
    let counts: &'static Counts = shared();
    let host = if ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
    let first = listener(host.parse()?, mode == Mode::ReusePort)?;
    let address = first.local_addr()?;
    let client_role = Stage::role();
    let mut stage = Stage::new()?;
    let mut listeners = vec![first];
    let (mut workers, mut ends) = (Vec::new(), Vec::new());
    for index in 0..threads {
        if mode == Mode::ReusePort && index > 0 {
            listeners.push(listener(address, mode == Mode::ReusePort)?);
        }
        let listener = listeners.last().context("one at least")?.as_raw_fd();
        let (end, to_end) = pipe()?;
        let epoll = epoll(listener, mode, end.as_raw_fd())?;
        let role = Stage::role();
        stage.thread(role, format!("herd_{index}"), move || work(epoll, listener, &end, counts))?;
        workers.push(role);
        ends.push(to_end);
    }
    let mut budget = length.budget(100);
    let connections: &'static AtomicU64 = shared();
    stage.thread(client_role, "client", move || {
        while budget.spend() {
            let before = counts.accepted.load(Acquire);
            asleep(&workers)?;
            let _open = TcpStream::connect(address).context("cannot connect")?;
            connections.fetch_add(1, Relaxed);
            while counts.accepted.load(Acquire) == before {
                pause(100_000);
            }
        }
        asleep(&workers)?;
        for end in &ends {
            ensure!(write_byte(end.as_raw_fd(), 0), "write failed");
        }
        Ok(())
    })?;
    let played = stage.perform()?;
    let of = |count: &AtomicU64| count.load(Acquire);
    let mode = mode.to_possible_value().context("a mode")?;
    println!(
        "{}",
        json!({"herd": {
            "mode": mode.get_name(),
            "port": address.port(),
            "connections": of(connections),
            "wakes": of(&counts.wakes),
            "accepted": of(&counts.accepted),
            "returned": of(&counts.returned),
            "lost": of(&counts.lost),
        }})
    );
    played.finish()
}

/// Accepts until the end.
fn work(epoll: RawFd, listener: RawFd, end: &OwnedFd, counts: &Counts) -> Result<()> {
    loop {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let before = own_voluntary_switches();
        // SAFETY: `event` is valid for writing one event.
        let ready = unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) };
        let slept = own_voluntary_switches() - before;
        ensure!(ready == 1, "epoll_wait: {}", io::Error::last_os_error());
        if event.u64 == end.as_raw_fd() as u64 {
            // The last sleep was ended by this.
            counts.wakes.fetch_add(slept.saturating_sub(1), Release);
            return Ok(());
        }
        counts.wakes.fetch_add(slept, Release);
        counts.returned.fetch_add(1, Release);
        let mut found = false;
        loop {
            let none = std::ptr::null_mut();
            // SAFETY: null for an address that nobody wants.
            let fd = unsafe { libc::accept4(listener, none, none.cast(), libc::SOCK_CLOEXEC) };
            if fd < 0 {
                break;
            }
            // SAFETY: the call returned a new descriptor.
            drop(unsafe { TcpStream::from_raw_fd(fd) });
            found = true;
            counts.accepted.fetch_add(1, Release);
        }
        counts.lost.fetch_add(u64::from(!found), Release);
    }
}

/// An epoll instance that waits for a listener and for the end.
fn epoll(listener: RawFd, mode: Mode, end: RawFd) -> Result<RawFd> {
    let epoll = feed::epoll()?;
    let exclusive = if mode == Mode::Exclusive { libc::EPOLLEXCLUSIVE } else { 0 };
    feed::add(epoll, listener, exclusive)?;
    feed::add(epoll, end, 0)?;
    Ok(epoll)
}

/// Returns once all these threads sleep, and have not run for a while.
fn asleep(workers: &[&'static Role]) -> Result<()> {
    let look = || -> Result<Option<u64>> {
        let mut sum = 0;
        for role in workers {
            let path = format!("/proc/{}/task/{}/status", role.pid(), role.tid());
            let status = fs::read_to_string(&path).context(path)?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            if !field("State:").is_some_and(|state| state.trim().starts_with('S')) {
                return Ok(None);
            }
            let switches = field("voluntary_ctxt_switches:").and_then(|it| it.trim().parse().ok());
            sum += switches.unwrap_or(0_u64);
        }
        Ok(Some(sum))
    };
    loop {
        let before = look()?;
        pause(1_000_000);
        if before.is_some() && look()? == before {
            return Ok(());
        }
    }
}
