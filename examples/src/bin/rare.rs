//! Waits that are many and short, and between them some that are few and long: the latter each for another lock that
//! nobody unlocks, until a timer ends it.

use std::sync::atomic::AtomicU32;

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::ledger::Ledger;
use offwake_examples::report::Waker;
use offwake_examples::stage::Stage;
use offwake_examples::{oracle_fn, oracle_name, sys};

/// Lengths in ns.
const SHORT: u64 = 50_000;
const LONG: u64 = 150_000_000;
/// How many short ones come before each long one.
const SHORT_ONES: usize = 400;
const LOCKS: usize = 8;

static LOCKED: [AtomicU32; LOCKS] = [const { AtomicU32::new(0) }; LOCKS];

oracle_fn! {
    fn oracle_often / oracle_often_inner() {
        let length = timespec(SHORT);
        // SAFETY: `length` is valid for reading; the remaining time is not asked for.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &length, std::ptr::null_mut()) };
    }
}

oracle_fn! {
    fn oracle_rarely / oracle_rarely_inner(lock: &AtomicU32) {
        let length = timespec(LONG);
        // SAFETY: `lock` and `length` are valid for reading.
        unsafe { libc::syscall(libc::SYS_futex, lock.as_ptr(), libc::FUTEX_WAIT, 0, &raw const length) };
    }
}

const fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: 0, tv_nsec: ns as libc::c_long }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    sys::precise_timers()?;
    let (sleeper, often, rarely) = (Stage::role(), Ledger::new(), Ledger::new());
    let mut stage = Stage::new()?;
    let mut budget = length.budget(2 * LOCKS as u64);
    stage.thread(sleeper, "sleeper", move || {
        for lock in LOCKED.iter().cycle() {
            let more = budget.spend();
            for _ in 0..SHORT_ONES {
                often.timed(SHORT, |_| oracle_often());
            }
            rarely.timed(LONG, |_| oracle_rarely(lock));
            if !more {
                break;
            }
        }
        Ok(())
    })?;
    let played = stage.perform()?;
    let functions = [
        (often, "clock_nanosleep", oracle_name!(oracle_often / oracle_often_inner)),
        (rarely, "futex", oracle_name!(oracle_rarely / oracle_rarely_inner)),
    ];
    for (ledger, syscall, function) in functions {
        let sums = ledger.sums().expect("one thread keeps both halves");
        ensure!(sums.count > 0, "the machine is too slow to sleep");
        played.tell_sums(sums, syscall, (sleeper, function), Waker::Irq, "interruptible")?;
    }
    played.finish()
}
