//! Two threads that wake each other through an eventfd and epoll, as fast as they can or are told to: a load for who
//! watches epoll. Every wait is two events, a wake-up and a return. Plays at once, and prints `{"rounds":…}`: how often
//! each waited.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::sys::check;
use offwake_examples::{args, feed};

/// Events of one round: each thread is woken, and returns.
const EVENTS: u32 = 4;

/// After so many rounds the pace is looked at.
const STRIDE: u32 = 100;

#[derive(Parser)]
#[command(about = "Two threads that wake each other through epoll")]
struct Args {
    /// For how many seconds (fractions allowed)
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = args::seconds)]
    seconds: Duration,

    /// Events a second, wake-ups and returns together, instead of as many as there can be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

fn main() -> Result<()> {
    let Args { seconds, rate } = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    let [one, other] = [Side::new()?, Side::new()?];
    let sides = [(one, other.eventfd, rate), (other, one.eventfd, None)];
    let threads = sides.map(|(side, partner, rate)| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || side.play(partner, rate, &stop))
    });
    notify(one.eventfd)?;
    thread::sleep(seconds);
    stop.store(true, Relaxed);
    let mut rounds = 0;
    for thread in threads {
        rounds = thread.join().expect("it does not panic")?;
    }
    println!("{}", serde_json::json!({ "rounds": rounds }));
    Ok(())
}

/// What one thread waits for.
#[derive(Clone, Copy)]
struct Side {
    epoll: RawFd,
    eventfd: RawFd,
}

impl Side {
    fn new() -> Result<Self> {
        let epoll = feed::epoll()?;
        // SAFETY: takes no pointers.
        let eventfd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }, "eventfd")?;
        let eventfd = eventfd as RawFd;
        feed::add(epoll, eventfd, 0)?;
        Ok(Self { epoll, eventfd })
    }

    /// `rate`: how many events a second there are to be at most, of both threads.
    fn play(self, partner: RawFd, rate: Option<u32>, stop: &AtomicBool) -> Result<u64> {
        let mut rounds = 0;
        let start = Instant::now();
        let stride = rate.map(|rate| Duration::from_secs(u64::from(EVENTS * STRIDE)) / rate);
        while !stop.load(Relaxed) {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: `event` is valid for writing one event.
            check(unsafe { libc::epoll_wait(self.epoll, &mut event, 1, -1) }, "epoll_wait")?;
            let mut value = 0_u64;
            // SAFETY: `value` is valid for writing.
            let read = unsafe { libc::read(self.eventfd, (&raw mut value).cast(), 8) };
            ensure!(read == 8, "read failed");
            notify(partner)?;
            rounds += 1;
            if let Some(stride) = stride
                && rounds % u64::from(STRIDE) == 0
            {
                let due = stride * (rounds / u64::from(STRIDE)) as u32;
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
        Ok(rounds)
    }
}

fn notify(eventfd: RawFd) -> Result<()> {
    let one = 1_u64;
    // SAFETY: `one` is valid for reading.
    let written = unsafe { libc::write(eventfd, (&raw const one).cast(), 8) };
    ensure!(written == 8, "write failed");
    Ok(())
}
