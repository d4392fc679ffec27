//! Sleeps of five lengths, in turn, in one place: half of them are of the shortest, a quarter of the next,
//! and so on. Each length is in the middle of an octave of nanoseconds, so that a late timer does not make
//! it one of the next. When the sleeper was back is told as well: the machine may have stood still.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::ledger::Ledger;
use offwake_examples::report::{Line, Waker};
use offwake_examples::stage::Stage;
use offwake_examples::{oracle_fn, oracle_name, sys};

/// In ns. Octaves begin at 524 µs, 2.1 ms, 8.4 ms, 34 ms and 134 ms.
const LENGTHS: [u64; 5] = [650_000, 2_800_000, 11_000_000, 45_000_000, 180_000_000];

oracle_fn! {
    fn oracle_measured_sleep / oracle_measured_sleep_inner(ns: u64) -> i32 {
        let length = libc::timespec { tv_sec: 0, tv_nsec: ns as libc::c_long };
        // SAFETY: `length` is valid for reading; the remaining time is not asked for.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &length, std::ptr::null_mut()) }
    }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    sys::precise_timers()?;
    let (sleeper, ledger) = (Stage::role(), Ledger::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut stage = Stage::new()?;
    let mut budget = length.budget(64);
    let lengths = told.clone();
    stage.thread(sleeper, "measured", move || {
        for turn in 1u64.. {
            let more = budget.spend();
            let ns = LENGTHS[LENGTHS.len().min(1 + turn.trailing_zeros() as usize) - 1];
            let mut error = 0;
            let took = ledger.timed(ns, |_| error = oracle_measured_sleep(ns));
            ensure!(error == 0, "clock_nanosleep failed");
            let told = took.map(|took| (ns, took));
            lengths.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
            if !more {
                break;
            }
        }
        Ok(())
    })?;
    let played = stage.perform()?;
    let sums = ledger.sums().expect("one thread keeps both halves");
    let function = oracle_name!(oracle_measured_sleep / oracle_measured_sleep_inner);
    let side = (sleeper, function);
    played.tell_sums(sums, "clock_nanosleep", side, Waker::Irq, "interruptible")?;
    Line::Lengths(&told.lock().unwrap_or_else(PoisonError::into_inner)).print()?;
    played.finish()
}
